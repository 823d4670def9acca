//! One app definition: its id, how many ports it has, its labels. Tolerates what other versions of
//! Marathon write: explicit nulls, missing and extra members, networking modes it does not know.

use std::collections::BTreeMap;
use std::fmt;

use crate::printable::printable;

use super::revision::revision;
use super::walk::Found;

/// How much of an unreadable id is shown, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// What is needed of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Such as `/product/frontend`.
    pub id: String,
    /// When it was last changed, restarted or scaled, as [`acted`](super::acted) compares it; empty
    /// where it does not say.
    pub revision: String,
    /// How many ports it has; label indices run from 0 to one less.
    pub ports: usize,
    /// The labels that may count and are text; others are left out.
    pub labels: BTreeMap<String, String>,
}

/// One app of the list cannot be read; the others can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppError {
    /// It is not a JSON object.
    NotAnObject,
    /// It is no JSON, at this position in it.
    NotJson {
        /// The parser's words.
        detail: String,
    },
    /// It has no `id`, or one that is not text.
    NoId,
    /// A member has a type that it never has.
    Member {
        /// The app's id.
        app: String,
        /// The member's name.
        member: &'static str,
    },
    /// It is longer than this many bytes.
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl App {
    /// Reads one element of `apps`.
    ///
    /// # Errors
    /// Says what is wrong with the app.
    pub fn parse(json: &[u8]) -> Result<App, AppError> {
        let found = Found::read(json).map_err(|error| match error {
            // The only kind of value that it is particular about is its own.
            error if error.is_data() => AppError::NotAnObject,
            error => AppError::NotJson { detail: error.to_string() },
        })?;
        let ports = found.port_count();
        let revision = revision(&found.version, found.instances, &found.configured);
        let Found { id, labels, has_odd_labels, .. } = found;
        let id = id.ok_or(AppError::NoId)?;
        let odd = |member| AppError::Member { app: shown(&id), member };
        if has_odd_labels {
            return Err(odd("labels"));
        }
        let ports = ports.map_err(odd)?;
        Ok(App { id, revision, ports, labels })
    }
}

/// Text of an app, short and on one line.
pub(super) fn shown(text: &str) -> String {
    printable(text).chars().take(SHOWN_CHARS_MAX).collect()
}

impl AppError {
    /// The id of the app, as far as it could be read.
    pub fn app(&self) -> &str {
        match self {
            AppError::Member { app, .. } => app,
            _ => "?",
        }
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppError::NotAnObject => f.write_str("it is not a JSON object"),
            AppError::NotJson { detail } => write!(f, "it is not JSON: {detail}"),
            AppError::NoId => f.write_str("it has no id"),
            AppError::Member { member, .. } => write!(f, "its {member} is not what it should be"),
            AppError::TooLong { limit } => write!(f, "it is longer than {limit} bytes"),
        }
    }
}

impl std::error::Error for AppError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(json: &str) -> usize {
        App::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}")).ports
    }

    #[test]
    fn ports_of_all_networking_shapes_of_new_marathons() {
        let cases = [
            (
                r#"{"id":"/a","networks":[{"mode":"host"}],"portDefinitions":[{"port":1},{"port":2}]}"#,
                2,
            ),
            (
                r#"{"id":"/a","networks":[{"mode":"container/bridge"}],
                 "container":{"portMappings":[{"containerPort":80},{"containerPort":81}]}}"#,
                2,
            ),
            (
                r#"{"id":"/a","networks":[{"mode":"container","name":"dcos"}],
                 "container":{"portMappings":[{"containerPort":80}]}}"#,
                1,
            ),
            (r#"{"id":"/a","networks":[{"name":"dcos"}],"container":{"portMappings":[]}}"#, 0),
            (
                r#"{"id":"/a","networks":[{"mode":"container/other"}],
                 "container":{"portMappings":[{}]},"portDefinitions":[{},{}]}"#,
                1,
            ),
            (r#"{"id":"/a","networks":[],"portDefinitions":[{}]}"#, 1),
            (r#"{"id":"/a"}"#, 0),
        ];
        for (json, expected) in cases {
            assert_eq!(ports(json), expected, "{json}");
        }
    }

    #[test]
    fn ports_of_all_networking_shapes_of_old_marathons() {
        let cases = [
            (r#"{"id":"/a","container":null,"ipAddress":null,"ports":[1,2,3]}"#, 3),
            (
                r#"{"id":"/a","container":{"docker":{"network":"HOST","portMappings":null}},
                 "portDefinitions":[{"port":0}],"ports":[1,2]}"#,
                1,
            ),
            (
                r#"{"id":"/a","container":{"docker":{"network":"BRIDGE","portMappings":[{},{}]}},
                 "portDefinitions":null,"ports":null}"#,
                2,
            ),
            (
                r#"{"id":"/a","container":{"docker":{"network":"BRIDGE","portMappings":[{},{}]}},
                 "ports":[10000]}"#,
                1,
            ),
            (
                r#"{"id":"/a","container":{"docker":{"network":"USER","portMappings":[{}]}},
                 "portDefinitions":[{},{}]}"#,
                1,
            ),
            (
                r#"{"id":"/a","container":null,"ipAddress":{"discovery":{"ports":[{"number":80}]}}}"#,
                1,
            ),
            (
                r#"{"id":"/a","container":{"portMappings":[{},{}]},"ipAddress":{"discovery":{"ports":[]}}}"#,
                2,
            ),
            (r#"{"id":"/a","container":{"portMappings":[{}]},"ipAddress":{"groups":[]}}"#, 1),
        ];
        for (json, expected) in cases {
            assert_eq!(ports(json), expected, "{json}");
        }
    }

    #[test]
    fn labels_that_may_count_and_are_text_are_kept() {
        let json = r#"{"id":"/a","version":"2026-01-01T00:00:00.000Z",
                       "labels":{"HAPROXY_A":"1","HAPROXY_B":2,"HAPROXY_C":null,"HAPROXY_D":{"x":1},
                       "E":"5"},"extra":[{}]}"#;
        let app = App::parse(json.as_bytes()).unwrap();
        assert_eq!(app.labels, BTreeMap::from([("HAPROXY_A".to_string(), "1".to_string())]));
        assert_eq!(app.revision, "2026-01-01T00:00:00.000Z");
        for json in [r#"{"id":"/a","labels":null}"#, r#"{"id":"/a"}"#] {
            assert!(App::parse(json.as_bytes()).unwrap().labels.is_empty());
        }
    }

    #[test]
    fn the_revision_says_how_many_instances_there_are_and_when_it_was_changed() {
        let json = r#"{"id":"/a","version":"V","instances":3,"versionInfo":
                       {"lastScalingAt":"V","lastConfigChangeAt":"C"}}"#;
        assert_eq!(App::parse(json.as_bytes()).unwrap().revision, "V/3/C");
        for json in [
            r#"{"id":"/a","version":"V","instances":-1,"versionInfo":{"lastConfigChangeAt":"C"}}"#,
            r#"{"id":"/a","version":"V","instances":3,"versionInfo":{"lastConfigChangeAt":7}}"#,
            r#"{"id":"/a","version":"V","instances":3,"versionInfo":null}"#,
            r#"{"id":"/a","version":"V","instances":3,"lastConfigChangeAt":"C"}"#,
        ] {
            assert_eq!(App::parse(json.as_bytes()).unwrap().revision, "V", "{json}");
        }
    }

    #[test]
    fn of_two_members_of_one_name_the_later_counts() {
        let json = r#"{"id":7,"id":"/a","labels":{"HAPROXY_A":"1"},"labels":{"HAPROXY_B":"2","HAPROXY_B":3},
                       "container":{"docker":{"network":"BRIDGE"},"portMappings":[1,2]},"container":null,
                       "networks":[{"mode":"host"}],"networks":[],"ports":7,"ports":[1,2,3]}"#;
        let app = App::parse(json.as_bytes()).unwrap();
        assert_eq!((app.id.as_str(), app.ports, app.labels.len()), ("/a", 3, 0));
        let json = r#"{"id":"/a","networks":[{"mode":"host","mode":"other"}],"ports":[1],
                       "ipAddress":{"discovery":{"ports":[1,2]},"discovery":{}}}"#;
        assert_eq!(ports(json), 0);
    }

    #[test]
    fn members_that_do_not_count_may_hold_anything() {
        let json = b"{\"env\":{\"A\":\"\xff\",\"B\":[{}]},\"id\":\"/a\",\"cmd\":\"\xfe\"}";
        assert_eq!(App::parse(json).unwrap().id, "/a");
        let json = r#"{"id":"/a","env":{"A":nonsense}}"#;
        assert!(matches!(App::parse(json.as_bytes()), Err(AppError::NotJson { .. })));
    }

    #[test]
    fn odd_apps_are_errors_that_name_them() {
        let error = |json: &str| App::parse(json.as_bytes()).expect_err(json);
        assert_eq!(error("[]"), AppError::NotAnObject);
        assert_eq!(error("{}"), AppError::NoId);
        assert_eq!(error(r#"{"id":7}"#), AppError::NoId);
        assert!(matches!(error(r#"{"id":"/a""#), AppError::NotJson { .. }));
        let labels = error("{\"id\":\"/a\\n\",\"labels\":[1]}");
        assert_eq!(labels, AppError::Member { app: "/a\u{fffd}".into(), member: "labels" });
        assert_eq!(error(r#"{"id":"/a","ports":7}"#).app(), "/a");
    }
}
