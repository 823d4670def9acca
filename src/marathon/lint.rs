//! What an app's labels say that an operator has hardly meant: read for `--check`, beside what
//! [`super::claims`] passes over. Never decides what is wanted.

use std::fmt;

use crate::config::DOMAINS_PER_APP;

use super::app::{App, shown};
use super::challenge_app::{CHALLENGES, is_true};
use super::labels::{Selection, claims, domain_index, is_ours};

/// Labels that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flaw {
    /// The app's id.
    pub app: String,
    /// The label that it is about; empty for the app as a whole.
    pub label: String,
    /// What is wrong with it.
    pub kind: FlawKind,
}

/// What is wrong with a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlawKind {
    /// A domain has a certificate, but marathon-lb does not send its visitors to this port.
    NotInVhost {
        /// The domain.
        domain: String,
        /// The label that should have it.
        vhost: String,
    },
    /// The port is in other groups than ours, so nobody orders a certificate.
    WrongGroup {
        /// The groups that it is in, as they are written; empty where there is no label.
        groups: String,
    },
    /// With `--san`, more names than one certificate takes.
    TooManyNames {
        /// How many there are.
        count: usize,
        /// How many a certificate takes.
        names_max: usize,
    },
    /// The app that gets the challenges sends who asks for them to `https`, or asks for a password.
    BarsChallenges,
    /// The app that gets the challenges has several virtual hosts: marathon-lb's rules for the path are
    /// other ones then.
    SeveralVhosts,
}

/// The flaws of one app's labels.
pub fn lint(app: &App, group: &str, selection: Selection, names_max: usize) -> Vec<Flaw> {
    let (mut flaws, id) = (Vec::new(), shown(&app.id));
    let mut note = |label: &str, kind| {
        flaws.push(Flaw { app: id.clone(), label: shown(label), kind });
    };
    for (label, index) in app.labels.keys().filter_map(|it| Some((it, domain_index(it)?))) {
        if !is_ours(&app.labels, index, group) {
            let own = app.labels.get(&format!("HAPROXY_{index}_GROUP"));
            let groups = own.or_else(|| app.labels.get("HAPROXY_GROUP"));
            let groups = groups.map_or_else(String::new, |groups| shown(groups));
            note(label, FlawKind::WrongGroup { groups });
        }
    }
    for claim in claims(app, group, selection, DOMAINS_PER_APP).certificates {
        let vhost = format!("HAPROXY_{}_VHOST", claim.port_index);
        let hosts = app.labels.get(&vhost).map(String::as_str).unwrap_or_default();
        for name in &claim.names {
            let is_there =
                hosts.split(',').any(|host| host.trim().eq_ignore_ascii_case(name.as_str()));
            if !is_there {
                let (domain, vhost) = (name.to_string(), vhost.clone());
                note(&claim.label, FlawKind::NotInVhost { domain, vhost });
            }
        }
        let count = claim.names.len();
        if count > names_max {
            note(&claim.label, FlawKind::TooManyNames { count, names_max });
        }
    }
    for index in (0..app.ports).map(|index| index.to_string()) {
        let value = |what: &str| app.labels.get(&format!("HAPROXY_{index}_{what}"));
        if !value("PATH").is_some_and(|path| path.starts_with(CHALLENGES)) {
            continue;
        }
        if value("REDIRECT_TO_HTTPS").is_some_and(|value| is_true(value)) {
            note(&format!("HAPROXY_{index}_REDIRECT_TO_HTTPS"), FlawKind::BarsChallenges);
        }
        if value("AUTH").is_some() {
            note(&format!("HAPROXY_{index}_AUTH"), FlawKind::BarsChallenges);
        }
        if value("VHOST").is_some_and(|hosts| hosts.contains(',')) {
            note(&format!("HAPROXY_{index}_VHOST"), FlawKind::SeveralVhosts);
        }
    }
    flaws
}

impl Flaw {
    /// What an operator can do about it.
    pub fn remedy(&self, group: &str) -> String {
        match &self.kind {
            FlawKind::NotInVhost { domain, vhost } => format!("add {domain} to {vhost}"),
            FlawKind::WrongGroup { .. } if group == "*" => "give the app a HAPROXY_GROUP".into(),
            FlawKind::WrongGroup { .. } => {
                format!("add {group} to its HAPROXY_GROUP, or give --group")
            }
            FlawKind::TooManyNames { .. } => "part the list over several ports".into(),
            FlawKind::BarsChallenges => format!("take {} away", self.label),
            FlawKind::SeveralVhosts => format!("leave one host in {}", self.label),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.app, self.label)?;
        match &self.kind {
            FlawKind::NotInVhost { domain, vhost } => write!(
                f,
                "{domain} is not in {vhost}, so that its visitors are not sent to this port"
            ),
            FlawKind::WrongGroup { groups } if groups.is_empty() => {
                f.write_str("the port is in no group, so that nothing is ordered")
            }
            FlawKind::WrongGroup { groups } => {
                write!(f, "the port is in group {groups:?}, so that nothing is ordered")
            }
            FlawKind::TooManyNames { count, names_max } => {
                write!(f, "{count} domains are more than the {names_max} of one certificate")
            }
            FlawKind::BarsChallenges => f.write_str("challenges end here, which it bars"),
            FlawKind::SeveralVhosts => {
                f.write_str("challenges end here, which several hosts break")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaws(ports: usize, labels: &[(&str, &str)], selection: Selection) -> Vec<String> {
        let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let app = App { id: "/a".into(), ports, labels: labels.collect(), ..App::default() };
        lint(&app, "external", selection, 2).iter().map(ToString::to_string).collect()
    }

    const GROUP: (&str, &str) = ("HAPROXY_GROUP", "external");
    const DOMAIN: (&str, &str) = ("MARATHON_ACME_0_DOMAIN", "a.example.com b.example.com");
    const PATH: (&str, &str) = ("HAPROXY_0_PATH", "/.well-known/acme-challenge/");

    #[test]
    fn labels_and_their_flaws() {
        let vhost = |hosts| ("HAPROXY_0_VHOST", hosts);
        type Labels<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(Labels<'_>, Selection, &[&str])] = &[
            (&[GROUP, DOMAIN, vhost("x.org, A.example.com")], Selection::First, &[]),
            (
                &[GROUP, DOMAIN, vhost("a.example.com")],
                Selection::Each,
                &["/a MARATHON_ACME_0_DOMAIN: b.example.com is not in HAPROXY_0_VHOST, \
                   so that its visitors are not sent to this port"],
            ),
            (
                &[DOMAIN],
                Selection::First,
                &["/a MARATHON_ACME_0_DOMAIN: the port is in no group, so that nothing is ordered"],
            ),
            (
                &[DOMAIN, ("HAPROXY_GROUP", "internal,other")],
                Selection::First,
                &["/a MARATHON_ACME_0_DOMAIN: the port is in group \"internal,other\", \
                   so that nothing is ordered"],
            ),
            (
                &[GROUP, PATH, vhost("a.org,b.org"), ("HAPROXY_0_REDIRECT_TO_HTTPS", "True")],
                Selection::First,
                &[
                    "/a HAPROXY_0_REDIRECT_TO_HTTPS: challenges end here, which it bars",
                    "/a HAPROXY_0_VHOST: challenges end here, which several hosts break",
                ],
            ),
            (
                &[
                    GROUP,
                    PATH,
                    ("HAPROXY_0_REDIRECT_TO_HTTPS", "false"),
                    ("HAPROXY_0_AUTH", "r:u:p"),
                ],
                Selection::First,
                &["/a HAPROXY_0_AUTH: challenges end here, which it bars"],
            ),
            (&[GROUP, ("HAPROXY_0_REDIRECT_TO_HTTPS", "true")], Selection::First, &[]),
            // A port that the app does not have is told of elsewhere.
            (&[GROUP, ("MARATHON_ACME_7_DOMAIN", "a.org")], Selection::First, &[]),
        ];
        for (labels, selection, expected) in cases {
            assert_eq!(flaws(1, labels, *selection), *expected, "{labels:?}");
        }
    }

    #[test]
    fn too_many_names_for_one_certificate() {
        let labels = [
            GROUP,
            ("MARATHON_ACME_0_DOMAIN", "a.org b.org c.org"),
            ("HAPROXY_0_VHOST", "a.org,b.org,c.org"),
        ];
        let many = "/a MARATHON_ACME_0_DOMAIN: 3 domains are more than the 2 of one certificate";
        assert_eq!(flaws(1, &labels, Selection::Together), [many]);
        assert!(flaws(1, &labels, Selection::Each).is_empty());
    }

    #[test]
    fn every_flaw_has_a_remedy() {
        let flaw = |kind| Flaw { app: "/a".into(), label: "L".into(), kind };
        let group = flaw(FlawKind::WrongGroup { groups: String::new() });
        assert_eq!(group.remedy("g"), "add g to its HAPROXY_GROUP, or give --group");
        assert_eq!(flaw(FlawKind::BarsChallenges).remedy("g"), "take L away");
    }
}
