//! What a list of apps says, for `--check`: which domains are to have certificates, and what is odd about
//! the labels. Asks nobody, and keeps no more domains than the daemon does.

use std::collections::BTreeMap;

use crate::config::{Config, DOMAINS_MAX};
use crate::daemon::watcher::NAMES_MAX;
use crate::domain::Domain;
use crate::marathon::{App, AppError, Notice, Selection, claims, lint};

use super::counted;
use super::report::Finding;

/// Which domains of an app get certificates.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) group: String,
    selection: Selection,
    domains_per_app: usize,
}

/// What a list of apps says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// How many there are.
    apps: usize,
    /// The domains that are to have certificates, each with the first app that wants it.
    pub(super) domains: BTreeMap<Domain, String>,
    /// Domains for which there is no room.
    beyond: usize,
    /// What is odd about labels.
    oddities: Vec<Finding>,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Rules {
        Rules {
            group: config.group.clone(),
            selection: config.into(),
            domains_per_app: config.max_domains_per_app,
        }
    }
}

impl Found {
    /// Adds what one app asks for.
    pub(super) fn add(&mut self, item: Result<App, AppError>, rules: &Rules) {
        self.apps += 1;
        let app = match item {
            Ok(app) => app,
            Err(error) => {
                let seen = format!("{}: passed over: {error}", error.app());
                self.note(seen, "mend the app".into());
                return;
            }
        };
        let Rules { group, selection, domains_per_app } = rules;
        let claims = claims(&app, group, *selection, *domains_per_app);
        for claim in &claims.certificates {
            for name in &claim.names {
                self.add_domain(&app.id, &claim.label, name, *selection);
            }
        }
        let skipped: usize = claims.skipped.iter().map(|it| it.count).sum();
        if let Some(first) = claims.skipped.first() {
            let seen = format!(
                "{} {}: {skipped} domains skipped: the app has more than {domains_per_app}",
                app.id, first.label
            );
            self.note(seen, "part them over several apps, or raise --max-domains-per-app".into());
        }
        for it in claims.rejected {
            let seen = format!("{} {}: {:?} passed over: {}", it.app, it.label, it.text, it.reason);
            self.note(seen, "write a name that a public CA certifies".into());
        }
        for notice in claims.notices {
            let remedy = match notice {
                Notice::SeveralDomains { .. } => "give one of these, or leave one domain",
                Notice::PortOutOfRange { .. } => "take the label away, or give the app the port",
                // It is among the flaws below, with every group that is not ours.
                Notice::NoGroup { .. } => continue,
            };
            self.note(format!("{} {}: {notice}", notice.app(), notice.label()), remedy.into());
        }
        for flaw in lint(&app, group, *selection, NAMES_MAX) {
            self.note(flaw.to_string(), flaw.remedy(group));
        }
    }

    fn add_domain(&mut self, app: &str, label: &str, name: &Domain, selection: Selection) {
        match self.domains.get(name) {
            None if self.domains.len() >= DOMAINS_MAX => self.beyond += 1,
            None => drop(self.domains.insert(name.clone(), app.to_string())),
            Some(other) if other != app && selection == Selection::Together => {
                let seen = format!("{app} {label}: {name} is in a label of app {other} as well");
                self.note(seen, "leave it in one of them: with --san one app has a domain".into());
            }
            Some(_) => {}
        }
    }

    fn note(&mut self, seen: String, remedy: String) {
        self.oddities.push(Finding::warn("label", seen, remedy));
    }

    /// How many apps and domains there are.
    pub(super) fn summary(&self, url: &str, group: &str) -> Finding {
        let apps = counted(self.apps as u64, "app");
        let domains = counted(self.domains.len() as u64, "domain");
        let seen = format!("{url}: {apps}, {domains} wanted in group {group:?}");
        if self.beyond > 0 {
            let seen = format!("{seen}, {} more than all apps may have", self.beyond);
            return Finding::warn("apps", seen, "part the apps over several groups");
        }
        if self.domains.is_empty() {
            let remedy = "label an app of that group with MARATHON_ACME_0_DOMAIN";
            return Finding::warn("apps", seen, remedy);
        }
        Finding::ok("apps", seen)
    }

    /// What is odd about labels.
    pub(super) fn oddities(&self) -> impl Iterator<Item = &Finding> {
        self.oddities.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn apps_become_domains_and_oddities() {
        let mut found = Found::default();
        let rules =
            Rules { group: "external".into(), selection: Selection::First, domains_per_app: 1000 };
        let labels = r#""labels":{"HAPROXY_GROUP":"external","HAPROXY_0_VHOST":"a.org",
                        "MARATHON_ACME_0_DOMAIN":"a.org b.org","MARATHON_ACME_3_DOMAIN":"c.org"}"#;
        let app = format!(r#"{{"id":"/a","portDefinitions":[{{}}],{labels}}}"#);
        let mut add = |text: &str| {
            found.add(App::parse(text.as_bytes()), &rules);
        };
        add(&app);
        add("[]");
        let domains: Vec<&str> = found.domains.keys().map(Domain::as_str).collect();
        assert_eq!((found.apps, domains), (2, vec!["a.org"]));
        assert_eq!(found.oddities.len(), 3, "{:?}", found.oddities);
        let summary = found.summary("http://m", "external");
        assert_eq!(summary.seen, "http://m: 2 apps, 1 domain wanted in group \"external\"");
        assert_eq!(Found::default().summary("http://m", "x").verdict, Verdict::Warn);
    }

    #[test]
    fn domains_beyond_the_limits_and_those_of_two_apps_are_told() {
        let mut found = Found::default();
        let config = Config { san: true, max_domains_per_app: 2, ..crate::testing::config() };
        for (id, list) in [("/a", "a.org b.org c.org"), ("/b", "b.org")] {
            let labels = format!(
                r#""labels":{{"HAPROXY_GROUP":"external","MARATHON_ACME_0_DOMAIN":"{list}",
                "HAPROXY_0_VHOST":"a.org,b.org"}}"#
            );
            let app = format!(r#"{{"id":"{id}","portDefinitions":[{{}}],{labels}}}"#);
            found.add(App::parse(app.as_bytes()), &Rules::from(&config));
        }
        let seen: Vec<&str> = found.oddities().map(|it| it.seen.as_str()).collect();
        let label = "MARATHON_ACME_0_DOMAIN";
        let skipped = format!("/a {label}: 1 domains skipped: the app has more than 2");
        assert!(seen.contains(&&*skipped), "{seen:?}");
        let taken = format!("/b {label}: b.org is in a label of app /a as well");
        assert!(seen.contains(&&*taken), "{seen:?}");
    }
}
