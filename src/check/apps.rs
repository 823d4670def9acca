//! What a list of apps says, for `--check`: which domains are to have certificates, and what is odd about
//! the labels. Asks nobody, and keeps no more domains than the daemon does.

use std::collections::BTreeMap;

use crate::acme::order::NAMES_MAX;
use crate::config::{Config, DOMAINS_MAX};
use crate::domain::Domain;
use crate::marathon::{App, AppError, Barriers, ChallengeApp, Notice, Selection, claims, lint};

use super::report::Finding;
use super::{counted, listed};

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
    /// The apps to which challenges are sent, as far as they run on Marathon.
    pub(super) challenge_apps: Vec<ChallengeApp>,
    /// What stands before challenges for the domains of an app, by its id.
    barriers: BTreeMap<String, Barriers>,
    /// The groups of every app, by its id as marathon-lb writes it in the names of back ends.
    groups: BTreeMap<String, Vec<String>>,
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
        self.note_groups(&app);
        self.add_challenge_app(&app, group);
        let claims = claims(&app, group, *selection, *domains_per_app);
        for claim in &claims.certificates {
            self.barriers.entry(app.id.clone()).or_default().add(&app, claim.port_index);
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

    fn note_groups(&mut self, app: &App) {
        let is_group = |label: &str| label.starts_with("HAPROXY_") && label.ends_with("GROUP");
        let lists = app.labels.iter().filter(|(label, _)| is_group(label)).map(|(_, list)| list);
        let groups = lists.flat_map(|list| list.split(',')).map(|it| it.trim().to_string());
        self.groups.insert(backend_name(&app.id), groups.collect());
    }

    fn add_challenge_app(&mut self, app: &App, group: &str) {
        let Some(found) = ChallengeApp::of(app, group) else { return };
        for flaw in &found.flaws {
            let (seen, remedy) = found.told(flaw, group);
            self.note(seen, remedy);
        }
        self.challenge_apps.push(found);
    }

    /// What stands before challenges for the domains of an app.
    pub(super) fn barriers(&self, app: &str) -> Barriers {
        self.barriers.get(app).copied().unwrap_or_default()
    }

    /// Domains to which challenges do not get, by the labels of their app and of ours. One app for challenges
    /// that lets them pass is enough.
    pub(super) fn barred(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let Some(first) = self.challenge_apps.first() else { return findings };
        for (app, barriers) in &self.barriers {
            if self.challenge_apps.iter().any(|it| it.barred(barriers).is_none()) {
                continue;
            }
            findings.extend(
                first
                    .barred(barriers)
                    .map(|(seen, remedy)| Finding::warn("label", format!("{app}: {seen}"), remedy)),
            );
        }
        findings
    }

    /// The groups of the apps that a load balancer publishes, if none of them is in `group`.
    pub(super) fn other_groups<'a>(
        &self,
        published: impl Iterator<Item = &'a str>,
        group: &str,
    ) -> Option<String> {
        let mut groups: Vec<&str> = Vec::new();
        for name in published {
            for each in self.groups.get(name).into_iter().flatten() {
                if !groups.contains(&each.as_str()) {
                    groups.push(each);
                }
            }
        }
        let is_other = group != "*" && !groups.is_empty() && !groups.contains(&group);
        is_other.then(|| listed(&groups))
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

/// As marathon-lb begins the name of an app's back ends: `/a/b` is `a_b`.
fn backend_name(id: &str) -> String {
    id.trim_start_matches('/').replace('/', "_")
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

    fn found(apps: &[&str]) -> Found {
        let mut found = Found::default();
        let rules =
            Rules { group: "external".into(), selection: Selection::First, domains_per_app: 1000 };
        apps.iter().for_each(|text| found.add(App::parse(text.as_bytes()), &rules));
        found
    }

    const ACME: &str = r#"{"id":"/marathon-acme","portDefinitions":[{}],"labels":{
        "HAPROXY_0_GROUP":"external","HAPROXY_0_VHOST":"acme.org",
        "HAPROXY_0_PATH":"/.well-known/acme-challenge/",
        "HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH":"  use_backend {backend} if path_{backend}"}}"#;

    #[test]
    fn what_stands_before_challenges_is_a_warning_with_its_app() {
        let shop = |label: &str| {
            format!(
                r#"{{"id":"/shop","portDefinitions":[{{}}],"labels":{{"HAPROXY_GROUP":"external",
                "HAPROXY_0_VHOST":"a.org","MARATHON_ACME_0_DOMAIN":"a.org"{label}}}}}"#
            )
        };
        assert_eq!(found(&[ACME, &shop("")]).barred(), []);
        let auth = shop(r#","HAPROXY_0_AUTH":"r:u:p""#);
        let [finding] = found(&[ACME, &auth]).barred().try_into().expect("one");
        assert!(finding.seen.starts_with("/shop: HAPROXY_0_AUTH asks for a pass"), "{finding:?}");
        assert!(finding.remedy.contains("http-request allow if path_{backend}"), "{finding:?}");
        let redirect = shop(r#","HAPROXY_0_REDIRECT_TO_HTTPS":"true""#);
        let [finding] = found(&[ACME, &redirect]).barred().try_into().expect("one");
        assert!(finding.remedy.contains("HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH"), "{finding:?}");
        // Nothing is known of an app that runs elsewhere.
        assert_eq!(found(&[&auth]).barred(), []);
    }

    #[test]
    fn the_group_of_a_load_balancer_is_that_of_the_apps_that_it_publishes() {
        let app = |id: &str, group: &str| {
            format!(
                r#"{{"id":"{id}","portDefinitions":[{{}}],"labels":{{"HAPROXY_GROUP":"{group}"}}}}"#
            )
        };
        let found = found(&[&app("/a/b", "internal"), &app("/c", "external, x"), &app("/d", "y")]);
        let other = |names: &[&str], group| found.other_groups(names.iter().copied(), group);
        assert_eq!(other(&["a_b"], "external").as_deref(), Some("internal"));
        assert_eq!(other(&["a_b", "d", "unknown"], "external").as_deref(), Some("internal, y"));
        assert_eq!(other(&["a_b", "c"], "external"), None);
        assert_eq!(other(&["a_b"], "*"), None);
        assert_eq!(other(&["unknown"], "external"), None);
    }
}
