//! The app that gets the challenges, as its labels have it, and what of other apps' labels stands before
//! them. Read for `--check`. Never decides what is wanted.

use super::app::{App, shown};
use super::labels::{groups, is_ours};

/// Where every challenge is asked for (RFC 8555 section 8.3).
pub(super) const CHALLENGES: &str = "/.well-known/acme-challenge";
/// By this id the app is known when its labels lack the path.
const USUAL_ID: &str = "marathon-acme";
const HTTP_LABEL: &str = "HTTP_FRONTEND_ACL_WITH_PATH";
const HTTPS_LABEL: &str = "HTTPS_FRONTEND_ACL_WITH_PATH";

/// The app that gets the challenges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeApp {
    /// The app's id.
    pub id: String,
    /// The index of the port that its labels are for.
    pub index: usize,
    /// Its rule on port 80.
    pub http: Passage,
    /// Its rule on port 443.
    pub https: Passage,
    /// Why marathon-lb makes no rule of it, or one that leads nowhere.
    pub flaws: Vec<ChallengeFlaw>,
    /// Whether a label says that the port is enabled, as `--strict-mode` requires.
    pub is_enabled: bool,
}

/// What the label for one front end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// There is none: the rule is for the app's own host alone.
    Missing,
    /// A rule for all hosts, after the passwords of other apps.
    Plain,
    /// It redirects to the app's own host, before other redirects and after passwords.
    Redirect,
    /// It lets challenges through before passwords (`http-request allow`).
    Allow,
}

/// Why challenges do not get to that app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChallengeFlaw {
    /// No port has the path.
    NoPath,
    /// marathon-lb makes rules for ports with a host only.
    NoVhost,
    /// The app has fewer ports.
    NoPort(usize),
    /// It is switched off.
    NotEnabled,
    /// It is in other groups than the apps with domains: its own.
    Group(String),
    /// The rule is for its own host alone.
    NoLabel,
}

/// What of an app's labels stands before challenges for its domains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Barriers {
    /// `HAPROXY_n_AUTH`: the index of the port.
    pub auth: Option<usize>,
    /// `HAPROXY_n_REDIRECT_TO_HTTPS`: likewise.
    pub redirect: Option<usize>,
}

impl ChallengeApp {
    /// Reads an app; `None` where it is another one.
    pub fn of(app: &App, group: &str) -> Option<ChallengeApp> {
        let with_path = app.labels.iter().find_map(|(label, value)| {
            let index = label.strip_prefix("HAPROXY_")?.strip_suffix("_PATH")?.parse().ok()?;
            value.starts_with(CHALLENGES).then_some(index)
        });
        let is_named = app.id.contains(USUAL_ID)
            && app.labels.keys().any(|label| label.starts_with("HAPROXY_"));
        if with_path.is_none() && !is_named {
            return None;
        }
        let index: usize = with_path.unwrap_or(0);
        let value = |what: &str| app.labels.get(&format!("HAPROXY_{index}_{what}"));
        let http = Passage::of(value(HTTP_LABEL));
        let mut flaws = Vec::new();
        if index >= app.ports {
            flaws.push(ChallengeFlaw::NoPort(app.ports));
        }
        if with_path.is_none() {
            flaws.push(ChallengeFlaw::NoPath);
        }
        if value("VHOST").is_none_or(|host| host.trim().is_empty()) {
            flaws.push(ChallengeFlaw::NoVhost);
        }
        if value("ENABLED").is_some_and(|value| !is_true(value)) {
            flaws.push(ChallengeFlaw::NotEnabled);
        }
        let digits = index.to_string();
        if !is_ours(&app.labels, &digits, group) {
            let groups = groups(&app.labels, &digits).map_or_else(String::new, |it| shown(it));
            flaws.push(ChallengeFlaw::Group(groups));
        }
        if http == Passage::Missing && with_path.is_some() {
            flaws.push(ChallengeFlaw::NoLabel);
        }
        Some(ChallengeApp {
            id: shown(&app.id),
            index,
            http,
            https: Passage::of(value(HTTPS_LABEL)),
            flaws,
            is_enabled: value("ENABLED").is_some_and(|value| is_true(value)),
        })
    }

    /// The full name of a label of it.
    pub fn label(&self, what: &str) -> String {
        format!("HAPROXY_{}_{what}", self.index)
    }

    /// A flaw in words: with its label, and what to do about it.
    pub fn told(&self, flaw: &ChallengeFlaw, group: &str) -> (String, String) {
        let (index, id) = (self.index, &self.id);
        let (what, seen, remedy) = match flaw {
            ChallengeFlaw::NoPath => (
                "PATH",
                "is missing, so that no challenge is sent to this app".to_string(),
                format!("give the app HAPROXY_{index}_PATH {CHALLENGES}/"),
            ),
            ChallengeFlaw::NoVhost => (
                "VHOST",
                "is missing, and without a host marathon-lb makes no rule for challenges".into(),
                format!("give the app HAPROXY_{index}_VHOST with any one host name"),
            ),
            ChallengeFlaw::NoPort(ports) => (
                "PATH",
                format!("challenges are for port index {index}, and the app has {ports} ports"),
                "count the app's ports from 0, and label the one that --listen has".into(),
            ),
            ChallengeFlaw::NotEnabled => (
                "ENABLED",
                "switches off the port that challenges are for".into(),
                format!("set HAPROXY_{index}_ENABLED to true"),
            ),
            ChallengeFlaw::Group(groups) => (
                "GROUP",
                format!("challenges are for group {groups:?}, and --group is {group:?}"),
                format!("add {group} to HAPROXY_{index}_GROUP"),
            ),
            ChallengeFlaw::NoLabel => (
                HTTP_LABEL,
                "is missing, so that only challenges for the app's own host are sent to it".into(),
                format!("give the app HAPROXY_{index}_{HTTP_LABEL} as in the README"),
            ),
        };
        (format!("{id} {}: {seen}", self.label(what)), remedy)
    }

    /// What keeps challenges for another app's domains away; `None` where nothing does: what is wrong, and
    /// what to do about it.
    pub fn barred(&self, barriers: &Barriers) -> Option<(String, String)> {
        let [http, https] = [HTTP_LABEL, HTTPS_LABEL].map(|label| self.label(label));
        let id = &self.id;
        match (barriers.redirect, barriers.auth) {
            // Our own redirect comes first and leads around the other.
            (Some(_), _) if self.http == Passage::Redirect => None,
            (Some(index), _) if self.https == Passage::Missing => Some((
                format!(
                    "HAPROXY_{index}_REDIRECT_TO_HTTPS sends challenges to port 443, and {id} has no \
                     {https}"
                ),
                format!("give {id} {https} as in the README"),
            )),
            (Some(_), Some(index)) if self.https != Passage::Allow => {
                Some((asks(index, &https, id), allow(&https, id)))
            }
            (None, Some(index)) if self.http != Passage::Allow => {
                Some((asks(index, &http, id), allow(&http, id)))
            }
            _ => None,
        }
    }
}

fn asks(index: usize, label: &str, id: &str) -> String {
    format!(
        "HAPROXY_{index}_AUTH asks for a password for challenges, too: {label} of {id} does not let \
         them pass before"
    )
}

/// What helps against `HAPROXY_n_AUTH`.
pub fn allow(label: &str, id: &str) -> String {
    format!(
        "put \"http-request allow if path_{{backend}}\\n\" before use_backend in {label} of {id}"
    )
}

impl Passage {
    fn of(label: Option<&String>) -> Passage {
        match label {
            None => Passage::Missing,
            Some(text) if text.contains("http-request allow") => Passage::Allow,
            Some(text) if text.contains("redirect prefix") => Passage::Redirect,
            Some(_) => Passage::Plain,
        }
    }
}

impl Barriers {
    /// Adds those of one port.
    pub fn add(&mut self, app: &App, index: usize) {
        let value = |what: &str| app.labels.get(&format!("HAPROXY_{index}_{what}"));
        if value("AUTH").is_some() {
            self.auth.get_or_insert(index);
        }
        if value("REDIRECT_TO_HTTPS").is_some_and(|value| is_true(value)) {
            self.redirect.get_or_insert(index);
        }
    }
}

/// As marathon-lb reads a switch.
pub(super) fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "t" | "yes" | "y")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: &str = "  http-request allow if path_{backend}\n  use_backend {backend} if x\n";
    const PLAIN: &str = "  use_backend {backend} if path_{backend}\n";
    const REDIRECT: &str = "  redirect prefix http://{hostname} code 302 if !host path_{backend}\n";

    fn app(id: &str, ports: usize, labels: &[(&str, &str)]) -> App {
        let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        App { id: id.into(), ports, labels: labels.collect(), ..App::default() }
    }

    fn ours(change: &[(&str, &str)], without: &str) -> ChallengeApp {
        let mut labels = vec![
            ("HAPROXY_0_GROUP", "external"),
            ("HAPROXY_0_VHOST", "acme.example.com"),
            ("HAPROXY_0_PATH", "/.well-known/acme-challenge/"),
            ("HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH", ALLOW),
            ("HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH", ALLOW),
        ];
        labels.extend(change);
        labels.retain(|(name, _)| *name != without);
        ChallengeApp::of(&app("/x/marathon-acme", 1, &labels), "external").unwrap()
    }

    #[test]
    fn each_flaw_of_the_challenge_app_has_its_remedy() {
        assert_eq!(ours(&[], "").flaws, []);
        let old = [("HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH", REDIRECT)];
        assert_eq!(ours(&old, "").flaws, [], "the old README's label is a valid rule");
        type Labels<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(Labels<'_>, &str, &str, &str)] = &[
            (&[], "HAPROXY_0_PATH", "no challenge is sent", "give the app HAPROXY_0_PATH /.well"),
            (&[], "HAPROXY_0_VHOST", "without a host", "HAPROXY_0_VHOST with any one host"),
            (&[("HAPROXY_0_ENABLED", "false")], "", "switches off", "HAPROXY_0_ENABLED to true"),
            (
                &[("HAPROXY_0_GROUP", "internal")],
                "",
                "for group \"internal\", and --group is \"external\"",
                "add external to HAPROXY_0_GROUP",
            ),
            (
                &[],
                "HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH",
                "only challenges for the app's own host",
                "as in the README",
            ),
        ];
        for (change, without, seen, remedy) in cases {
            let found = ours(change, without);
            let [flaw] = &found.flaws[..] else { panic!("{seen}: {:?}", found.flaws) };
            let told = found.told(flaw, "external");
            assert!(told.0.contains(seen) && told.1.contains(remedy), "{told:?}");
        }
        let labels = [
            ("HAPROXY_GROUP", "external"),
            ("HAPROXY_2_VHOST", "a.org"),
            ("HAPROXY_2_PATH", "/.well-known/acme-challenge/"),
            ("HAPROXY_2_HTTP_FRONTEND_ACL_WITH_PATH", ALLOW),
        ];
        let far = ChallengeApp::of(&app("/a", 1, &labels), "external").unwrap();
        assert_eq!(far.flaws, [ChallengeFlaw::NoPort(1)]);
        assert!(far.told(&far.flaws[0], "external").0.contains("port index 2, and the app has 1"));
        assert_eq!(ChallengeApp::of(&app("/shop", 1, &labels[..2]), "external"), None);
    }

    #[test]
    fn what_bars_challenges_is_told_by_the_label_that_is_in_use() {
        let auth = Barriers { auth: Some(1), redirect: None };
        let redirect = Barriers { auth: None, redirect: Some(0) };
        let both = Barriers { auth: Some(0), redirect: Some(0) };
        let (http, https) =
            ("HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH", "HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH");
        for barriers in [auth, redirect, both, Barriers::default()] {
            assert_eq!(ours(&[], "").barred(&barriers), None);
        }
        let cases = [
            (ours(&[(http, PLAIN)], ""), auth, "HAPROXY_1_AUTH asks for a password", http),
            (ours(&[(http, REDIRECT)], ""), auth, "HAPROXY_1_AUTH asks for a password", http),
            (ours(&[], https), redirect, "sends challenges to port 443, and /x/m", https),
            (ours(&[(https, PLAIN)], ""), both, "HAPROXY_0_AUTH asks for a password", https),
        ];
        for (app, barriers, seen, label) in cases {
            let (found, remedy) = app.barred(&barriers).unwrap();
            assert!(found.contains(seen) && remedy.contains(label), "{found}; {remedy}");
            assert!(!remedy.contains("WEIGHT"), "{remedy}");
        }
        // Nothing is in the way of these.
        assert_eq!(ours(&[(http, REDIRECT)], https).barred(&redirect), None);
        assert_eq!(ours(&[(http, REDIRECT)], https).barred(&both), None);
        assert_eq!(ours(&[(http, PLAIN)], "").barred(&redirect), None);
    }
}
