//! What an app's labels ask for: the domains of the ports that belong to our group. Never decides
//! what becomes of a domain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::Config;
use crate::domain::{Domain, DomainError};
use crate::hint::Hint;

use super::app::{App, shown};

/// Words that are no certifiable name, and likewise notices, that are kept of one app; the others are
/// counted.
const SHOWN_MAX: usize = 20;

/// What one app asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The certificates, by port index.
    pub certificates: Vec<Claim>,
    /// The first words of the labels that are no certifiable name.
    pub rejected: Vec<Rejected>,
    /// How many such words there are.
    pub rejected_count: usize,
    /// Labels with domains beyond the limit, by port index.
    pub skipped: Vec<Skipped>,
    /// What an operator may not have meant; the first of it.
    pub notices: Vec<Notice>,
}

/// Domains of a label that are beyond the limit of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The label's name.
    pub label: String,
    /// How many; each as often as the label has it.
    pub count: usize,
}

/// A certificate that a port of the app asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The port's index.
    pub port_index: usize,
    /// The label's name.
    pub label: String,
    /// Its names, at least one, each once, in the order of the label.
    pub names: Vec<Domain>,
}

/// What becomes of a label that names several domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Only the first one counts.
    First,
    /// `--allow-multiple-certs`: each has a certificate.
    Each,
    /// `--san`: all are in one certificate.
    Together,
}

impl From<&Config> for Selection {
    fn from(config: &Config) -> Selection {
        match (config.san, config.allow_multiple_certs) {
            (true, _) => Selection::Together,
            (false, true) => Selection::Each,
            (false, false) => Selection::First,
        }
    }
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
    /// Without `--allow-multiple-certs` or `--san` only the first domain counts.
    SeveralDomains {
        /// The app's id.
        app: String,
        /// The label's name.
        label: String,
        /// How many there are.
        count: usize,
    },
    /// No label says whose load balancers the port is for.
    NoGroup {
        /// The app's id.
        app: String,
        /// The label's name.
        label: String,
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
/// With [`Selection::First`] only the first name of a list counts, and when that one is rejected nothing
/// takes its place: another certificate than the one asked for first would be a surprise. With
/// [`Selection::Together`] a rejected one is left out, and the others continue. Of the domains that
/// count, the first `domains_max` are accepted, by port index and in the order of the lists.
pub fn claims(app: &App, group: &str, selection: Selection, domains_max: usize) -> Claims {
    let mut claims = Claims::default();
    let mut lists = BTreeSet::new();
    let labels =
        app.labels.iter().filter_map(|(name, list)| Some((name, domain_index(name)?, list)));
    for (label, index, list) in labels {
        if !is_ours(&app.labels, index, group) {
            // What is another group's is none of our business; what is nobody's was forgotten.
            if groups(&app.labels, index).is_none() && !list.trim().is_empty() {
                let (app, label) = (shown(&app.id), shown(label));
                claims.note(Notice::NoGroup { app, label });
            }
            continue;
        }
        match index.parse::<usize>().ok().filter(|index| *index < app.ports) {
            Some(port_index) => {
                lists.insert((port_index, label, list));
            }
            None => {
                let (app_id, label, ports) = (shown(&app.id), shown(label), app.ports);
                claims.note(Notice::PortOutOfRange { app: app_id, label, ports });
            }
        }
    }
    // As text, 10 stands before 2.
    let mut room = domains_max;
    for (port_index, label, list) in lists {
        room -= claims.read_list(app, (label, port_index), list, selection, room);
    }
    claims
}

impl Claims {
    /// Reads one label, of which `room` domains are accepted at most; how many were.
    fn read_list(
        &mut self,
        app: &App,
        (label, port_index): (&str, usize),
        list: &str,
        selection: Selection,
        room: usize,
    ) -> usize {
        let separator = |c: char| c == ',' || c.is_whitespace();
        let words = list.split(separator).filter(|word| !word.is_empty());
        let mut words_max = usize::MAX;
        if selection == Selection::First {
            let count = words.clone().count();
            if count > 1 {
                let (app, label) = (shown(&app.id), shown(label));
                self.note(Notice::SeveralDomains { app, label, count });
            }
            words_max = 1;
        }
        let (mut names, mut known, mut beyond) = (Vec::new(), BTreeSet::new(), 0);
        for word in words.take(words_max) {
            if names.len() == room {
                // Only counted: a list may be as long as an app definition.
                beyond += 1;
                continue;
            }
            match Domain::parse(word) {
                Ok(domain) => {
                    if known.insert(domain.clone()) {
                        names.push(domain);
                    }
                }
                Err(reason) => self.reject(app, label, word, reason),
            }
        }
        if beyond > 0 {
            self.skipped.push(Skipped { label: shown(label), count: beyond });
        }
        let accepted = names.len();
        let claim = |names| Claim { port_index, label: shown(label), names };
        match selection {
            Selection::Together if names.is_empty() => {}
            Selection::Together => self.certificates.push(claim(names)),
            Selection::First | Selection::Each => {
                let claims = names.into_iter().map(|name| claim(vec![name]));
                self.certificates.extend(claims);
            }
        }
        accepted
    }

    fn reject(&mut self, app: &App, label: &str, word: &str, reason: DomainError) {
        self.rejected_count += 1;
        if self.rejected.len() < SHOWN_MAX {
            let (app, label, text) = (shown(&app.id), shown(label), shown(word));
            self.rejected.push(Rejected { app, label, text, reason });
        }
    }

    fn note(&mut self, notice: Notice) {
        if self.notices.len() < SHOWN_MAX {
            self.notices.push(notice);
        }
    }
}

/// The digits of `MARATHON_ACME_{n}_DOMAIN`, as the old program wrote them: no leading zeros.
pub(super) fn domain_index(label: &str) -> Option<&str> {
    let index = label.strip_prefix("MARATHON_ACME_")?.strip_suffix("_DOMAIN")?;
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (index == "0" || !index.starts_with('0'))).then_some(index)
}

/// Whether the port belongs to our load balancers, as marathon-lb decides it: its label lists groups
/// separated by commas; the group `*` takes every app.
pub(super) fn is_ours(labels: &BTreeMap<String, String>, index: &str, group: &str) -> bool {
    let list = groups(labels, index);
    group == "*" || list.is_some_and(|list| list.split(',').any(|each| each.trim() == group))
}

/// The label that says whose a port is.
pub(super) fn groups<'a>(labels: &'a BTreeMap<String, String>, index: &str) -> Option<&'a String> {
    let own = labels.get(&format!("HAPROXY_{index}_GROUP"));
    own.or_else(|| labels.get("HAPROXY_GROUP"))
}

impl Notice {
    /// What may help.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Notice::SeveralDomains { .. } => None,
            Notice::NoGroup { .. } => Some(Hint::NoGroup),
            Notice::PortOutOfRange { .. } => Some(Hint::PortIndex),
        }
    }

    /// The app's id.
    pub fn app(&self) -> &str {
        match self {
            Notice::SeveralDomains { app, .. }
            | Notice::NoGroup { app, .. }
            | Notice::PortOutOfRange { app, .. } => app,
        }
    }

    /// The label's name.
    pub fn label(&self) -> &str {
        match self {
            Notice::SeveralDomains { label, .. }
            | Notice::NoGroup { label, .. }
            | Notice::PortOutOfRange { label, .. } => label,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::SeveralDomains { count, .. } => write!(
                f,
                "label names {count} domains, only the first gets a certificate without \
                 --allow-multiple-certs or --san"
            ),
            Notice::NoGroup { .. } => {
                f.write_str("label passed over: the app has no HAPROXY_GROUP")
            }
            Notice::PortOutOfRange { ports, .. } => {
                write!(f, "label passed over: the app has {ports} ports, counted from 0")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DOMAINS_PER_APP;

    fn app(ports: usize, labels: &[(&str, &str)]) -> App {
        let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        App { id: "/a".into(), revision: String::new(), ports, labels: labels.collect() }
    }

    /// The port index and the names of each claim, joined by white space.
    fn asked(claims: &Claims) -> Vec<(usize, String)> {
        let names = |claim: &Claim| {
            let names: Vec<&str> = claim.names.iter().map(Domain::as_str).collect();
            (claim.port_index, names.join(" "))
        };
        claims.certificates.iter().map(names).collect()
    }

    #[test]
    fn groups_as_marathon_lb_reads_them() {
        let domain = ("MARATHON_ACME_0_DOMAIN", "a.org");
        type Labels<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(Labels<'_>, &str, usize)] = &[
            (&[domain, ("HAPROXY_GROUP", "external")], "external", 1),
            (&[domain, ("HAPROXY_GROUP", "internal, external")], "external", 1),
            (&[domain, ("HAPROXY_GROUP", "externally")], "external", 0),
            (&[domain, ("HAPROXY_GROUP", "External")], "external", 0),
            (&[domain, ("HAPROXY_GROUP", "external")], "EXTERNAL", 0),
            (&[domain, ("HAPROXY_GROUP", "external"), ("HAPROXY_0_GROUP", "other")], "external", 0),
            (&[domain, ("HAPROXY_0_GROUP", "external")], "external", 1),
            (&[domain, ("HAPROXY_1_GROUP", "external")], "external", 0),
            (&[domain], "external", 0),
            (&[domain], "*", 1),
            (&[domain, ("HAPROXY_GROUP", "*")], "external", 0),
        ];
        for (labels, group, count) in cases {
            let found = claims(&app(1, labels), group, Selection::First, DOMAINS_PER_APP);
            assert_eq!(found.certificates.len(), *count, "{labels:?} {group}");
            let forgotten = !labels
                .iter()
                .any(|(name, _)| matches!(*name, "HAPROXY_GROUP" | "HAPROXY_0_GROUP"));
            let forgotten = usize::from(forgotten && *group != "*");
            assert_eq!(found.notices.len(), forgotten, "{labels:?} {group}");
        }
    }

    #[test]
    fn lists_in_any_writing() {
        let group = ("HAPROXY_GROUP", "external");
        let list = ("MARATHON_ACME_0_DOMAIN", " A.org,,b.org.\tc.org\u{a0}a.org ");
        let one = claims(&app(1, &[group, list]), "external", Selection::First, DOMAINS_PER_APP);
        assert_eq!(asked(&one), [(0, "a.org".into())]);
        assert!(matches!(one.notices[..], [Notice::SeveralDomains { count: 4, .. }]));
        let each = claims(&app(1, &[group, list]), "external", Selection::Each, DOMAINS_PER_APP);
        let expected = ["a.org", "b.org", "c.org"].map(|name| (0, name.to_string()));
        assert_eq!((asked(&each), each.notices.len()), (expected.to_vec(), 0));
        let together =
            claims(&app(1, &[group, list]), "external", Selection::Together, DOMAINS_PER_APP);
        assert_eq!(asked(&together), [(0, "a.org b.org c.org".into())]);
        assert_eq!(together.certificates[0].label, list.0);
        for selection in [Selection::First, Selection::Each, Selection::Together] {
            let empty = app(1, &[group, ("MARATHON_ACME_0_DOMAIN", " , ")]);
            assert_eq!(claims(&empty, "external", selection, DOMAINS_PER_APP), Claims::default());
        }
    }

    #[test]
    fn rubbish_is_rejected_and_the_rest_goes_on() {
        let rubbish =
            format!("../../etc/passwd,*.x.org,ex\u{7},a..org,{},🦀.org,ok.org", "x".repeat(300));
        let labels = [("HAPROXY_GROUP", "external"), ("MARATHON_ACME_0_DOMAIN", rubbish.as_str())];
        let found = claims(&app(1, &labels), "external", Selection::Each, DOMAINS_PER_APP);
        assert_eq!(asked(&found), [(0, "ok.org".into())]);
        assert_eq!(
            claims(&app(1, &labels), "external", Selection::Together, DOMAINS_PER_APP),
            found
        );
        assert_eq!(found.rejected.len(), 6);
        assert!(found.rejected.iter().all(|it| it.app == "/a" && it.label == labels[1].0));
        assert!(found.rejected.iter().all(|it| it.text.chars().count() <= 100));
        assert_eq!(found.rejected[2].text, "ex\u{fffd}");
        let first_only = claims(&app(1, &labels), "external", Selection::First, DOMAINS_PER_APP);
        assert_eq!((first_only.certificates.len(), first_only.rejected.len()), (0, 1));
    }

    #[test]
    fn domains_beyond_the_limit_of_an_app_are_counted_by_label() {
        let labels = [
            ("HAPROXY_GROUP", "external"),
            ("MARATHON_ACME_0_DOMAIN", "a.org b.org a.org"),
            ("MARATHON_ACME_1_DOMAIN", "c.org d.org e.org"),
            ("MARATHON_ACME_2_DOMAIN", "f.org"),
        ];
        let found = claims(&app(3, &labels), "external", Selection::Together, 3);
        assert_eq!(asked(&found), [(0, "a.org b.org".into()), (1, "c.org".into())]);
        let skipped = |label: &str, count| Skipped { label: label.into(), count };
        let expected = [skipped(labels[2].0, 2), skipped(labels[3].0, 1)];
        assert_eq!(found.skipped, expected);
        let each = claims(&app(3, &labels), "external", Selection::Each, 3);
        assert_eq!((each.certificates.len(), each.skipped), (3, found.skipped));
        // Only the first domain of each label counts.
        let first = claims(&app(3, &labels), "external", Selection::First, 3);
        assert_eq!((first.certificates.len(), first.skipped), (3, vec![]));
    }

    #[test]
    fn of_much_rubbish_the_first_is_kept_and_the_rest_is_counted() {
        let rubbish = "a_b ".repeat(1000);
        let mut labels =
            vec![("HAPROXY_GROUP", "external"), ("MARATHON_ACME_0_DOMAIN", rubbish.as_str())];
        let far: Vec<String> = (1..1000).map(|n| format!("MARATHON_ACME_{n}_DOMAIN")).collect();
        labels.extend(far.iter().map(|label| (label.as_str(), "a.org")));
        let found = claims(&app(1, &labels), "external", Selection::Each, DOMAINS_PER_APP);
        assert_eq!((found.rejected.len(), found.rejected_count), (SHOWN_MAX, 1000));
        assert_eq!(found.notices.len(), SHOWN_MAX);
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
        let found = claims(&app(2, &labels), "external", Selection::Each, DOMAINS_PER_APP);
        assert_eq!(asked(&found), expected);
        let notices = found.notices;
        let labels: Vec<&str> = notices.iter().map(Notice::label).collect();
        let far = "MARATHON_ACME_99999999999999999999999_DOMAIN";
        assert_eq!(labels, ["MARATHON_ACME_2_DOMAIN", far]);
    }
    #[test]
    fn ports_are_counted_not_spelled() {
        let labels = [
            ("HAPROXY_GROUP", "external"),
            ("MARATHON_ACME_10_DOMAIN", "ten.org,a.org"),
            ("MARATHON_ACME_2_DOMAIN", "two.org a.org"),
        ];
        let found = claims(&app(11, &labels), "external", Selection::Together, DOMAINS_PER_APP);
        assert_eq!(asked(&found), [(2, "two.org a.org".into()), (10, "ten.org a.org".into())]);
    }
}
