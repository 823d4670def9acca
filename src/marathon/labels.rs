//! What an app's labels ask for: the domains of the ports that belong to our group. Never decides
//! what becomes of a domain.

use std::collections::BTreeMap;
use std::fmt;

use crate::domain::{Domain, DomainError};

use super::app::{App, shown};

/// What one app asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The domains, by port index, each once.
    pub domains: Vec<Claim>,
    /// Words of the labels that are no certifiable name.
    pub rejected: Vec<Rejected>,
    /// What an operator may not have meant.
    pub notices: Vec<Notice>,
}

/// A domain that a port of the app asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The port's index.
    pub port_index: usize,
    /// The name.
    pub domain: Domain,
}

/// A word of a label that is no certifiable name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The app's id.
    pub app: String,
    /// The label's name.
    pub label: String,
    /// The word, shortened, without control characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: DomainError,
}

/// A label that an operator may not have meant so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Without `--allow-multiple-certs` only the first domain counts.
    SeveralDomains {
        /// The app's id.
        app: String,
        /// The label's name.
        label: String,
        /// How many there are.
        count: usize,
    },
    /// The app has no port of that index.
    PortOutOfRange {
        /// The app's id.
        app: String,
        /// The label's name.
        label: String,
        /// How many ports it has.
        ports: usize,
    },
}

/// Reads the labels of an app: for each port index below the app's number of ports whose group
/// (`HAPROXY_{n}_GROUP`, else `HAPROXY_GROUP`) is `group`, the list in `MARATHON_ACME_{n}_DOMAIN`.
///
/// Without `allow_multiple` only the first name of a list counts, and when that one is rejected
/// nothing takes its place: another certificate than the one asked for first would be a surprise.
pub fn claims(app: &App, group: &str, allow_multiple: bool) -> Claims {
    let mut claims = Claims::default();
    let labels =
        app.labels.iter().filter_map(|(name, list)| Some((name, domain_index(name)?, list)));
    for (label, index, list) in labels.filter(|(_, index, _)| is_ours(&app.labels, index, group)) {
        let Some(port_index) = index.parse().ok().filter(|index| *index < app.ports) else {
            let (app_id, label) = (shown(&app.id), shown(label));
            let ports = app.ports;
            claims.notices.push(Notice::PortOutOfRange { app: app_id, label, ports });
            continue;
        };
        claims.read_list(app, label, port_index, list, allow_multiple);
    }
    claims
}

impl Claims {
    fn read_list(&mut self, app: &App, label: &str, port_index: usize, list: &str, all: bool) {
        let separator = |c: char| c == ',' || c.is_whitespace();
        let words: Vec<&str> = list.split(separator).filter(|word| !word.is_empty()).collect();
        if words.len() > 1 && !all {
            let (app, label, count) = (shown(&app.id), shown(label), words.len());
            self.notices.push(Notice::SeveralDomains { app, label, count });
        }
        for word in words.iter().take(if all { words.len() } else { 1 }) {
            match Domain::parse(word) {
                Ok(domain) if self.domains.iter().any(|claim| claim.domain == domain) => {}
                Ok(domain) => self.domains.push(Claim { port_index, domain }),
                Err(reason) => {
                    let (app, label, text) = (shown(&app.id), shown(label), shown(word));
                    self.rejected.push(Rejected { app, label, text, reason });
                }
            }
        }
    }
}

/// The digits of `MARATHON_ACME_{n}_DOMAIN`, as the old program wrote them: no leading zeros.
fn domain_index(label: &str) -> Option<&str> {
    let index = label.strip_prefix("MARATHON_ACME_")?.strip_suffix("_DOMAIN")?;
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (index == "0" || !index.starts_with('0'))).then_some(index)
}

/// Whether the port belongs to our load balancers, as marathon-lb decides it: its label lists groups
/// separated by commas; the group `*` takes every app.
fn is_ours(labels: &BTreeMap<String, String>, index: &str, group: &str) -> bool {
    let own = labels.get(&format!("HAPROXY_{index}_GROUP"));
    let list = own.or_else(|| labels.get("HAPROXY_GROUP"));
    group == "*" || list.is_some_and(|list| list.split(',').any(|each| each.trim() == group))
}

impl Notice {
    /// The app's id.
    pub fn app(&self) -> &str {
        match self {
            Notice::SeveralDomains { app, .. } | Notice::PortOutOfRange { app, .. } => app,
        }
    }

    /// The label's name.
    pub fn label(&self) -> &str {
        match self {
            Notice::SeveralDomains { label, .. } | Notice::PortOutOfRange { label, .. } => label,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::SeveralDomains { count, .. } => write!(
                f,
                "label names {count} domains, only the first gets a certificate without \
                 --allow-multiple-certs"
            ),
            Notice::PortOutOfRange { ports, .. } => {
                write!(f, "label passed over: the app has {ports} ports, counted from 0")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(ports: usize, labels: &[(&str, &str)]) -> App {
        let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        App { id: "/a".into(), version: String::new(), ports, labels: labels.collect() }
    }

    fn domains(app: &App, group: &str, all: bool) -> Vec<(usize, String)> {
        let claims = claims(app, group, all).domains;
        claims.into_iter().map(|claim| (claim.port_index, claim.domain.to_string())).collect()
    }

    #[test]
    fn groups_as_marathon_lb_reads_them() {
        let domain = ("MARATHON_ACME_0_DOMAIN", "a.org");
        type Labels<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(Labels<'_>, &str, usize)] = &[
            (&[domain, ("HAPROXY_GROUP", "external")], "external", 1),
            (&[domain, ("HAPROXY_GROUP", "internal, external")], "external", 1),
            (&[domain, ("HAPROXY_GROUP", "externally")], "external", 0),
            (&[domain, ("HAPROXY_GROUP", "external"), ("HAPROXY_0_GROUP", "other")], "external", 0),
            (&[domain, ("HAPROXY_0_GROUP", "external")], "external", 1),
            (&[domain, ("HAPROXY_1_GROUP", "external")], "external", 0),
            (&[domain], "external", 0),
            (&[domain], "*", 1),
            (&[domain, ("HAPROXY_GROUP", "*")], "external", 0),
        ];
        for (labels, group, count) in cases {
            assert_eq!(domains(&app(1, labels), group, false).len(), *count, "{labels:?} {group}");
        }
    }

    #[test]
    fn lists_in_any_writing() {
        let group = ("HAPROXY_GROUP", "external");
        let list = ("MARATHON_ACME_0_DOMAIN", " A.org,,b.org.\tc.org\u{a0}a.org ");
        let one = claims(&app(1, &[group, list]), "external", false);
        assert_eq!(one.domains.len(), 1);
        assert!(matches!(one.notices[..], [Notice::SeveralDomains { count: 4, .. }]));
        let all = claims(&app(1, &[group, list]), "external", true);
        let names: Vec<&str> = all.domains.iter().map(|claim| claim.domain.as_str()).collect();
        assert_eq!((names, all.notices.len()), (vec!["a.org", "b.org", "c.org"], 0));
        let empty = claims(&app(1, &[group, ("MARATHON_ACME_0_DOMAIN", " , ")]), "external", true);
        assert_eq!(empty, Claims::default());
    }

    #[test]
    fn rubbish_is_rejected_and_the_rest_goes_on() {
        let rubbish =
            format!("../../etc/passwd,*.x.org,ex\u{7},a..org,{},🦀.org,ok.org", "x".repeat(300));
        let labels = [("HAPROXY_GROUP", "external"), ("MARATHON_ACME_0_DOMAIN", rubbish.as_str())];
        let found = claims(&app(1, &labels), "external", true);
        assert_eq!(found.domains.len(), 1);
        assert_eq!(found.rejected.len(), 6);
        assert!(found.rejected.iter().all(|it| it.app == "/a" && it.label == labels[1].0));
        assert!(found.rejected.iter().all(|it| it.text.chars().count() <= 100));
        assert_eq!(found.rejected[2].text, "ex\u{fffd}");
        let first_only = claims(&app(1, &labels), "external", false);
        assert_eq!((first_only.domains.len(), first_only.rejected.len()), (0, 1));
    }

    #[test]
    fn only_indices_of_ports_count() {
        let group = ("HAPROXY_GROUP", "external");
        let labels = [
            group,
            ("MARATHON_ACME_0_DOMAIN", "a.org"),
            ("MARATHON_ACME_1_DOMAIN", "b.org"),
            ("MARATHON_ACME_2_DOMAIN", "c.org"),
            ("MARATHON_ACME_01_DOMAIN", "d.org"),
            ("MARATHON_ACME__DOMAIN", "e.org"),
            ("MARATHON_ACME_+1_DOMAIN", "f.org"),
            ("MARATHON_ACME_99999999999999999999999_DOMAIN", "g.org"),
        ];
        let expected = vec![(0, "a.org".to_string()), (1, "b.org".to_string())];
        assert_eq!(domains(&app(2, &labels), "external", true), expected);
        let notices = claims(&app(2, &labels), "external", true).notices;
        let labels: Vec<&str> = notices.iter().map(Notice::label).collect();
        let far = "MARATHON_ACME_99999999999999999999999_DOMAIN";
        assert_eq!(labels, ["MARATHON_ACME_2_DOMAIN", far]);
    }
}
