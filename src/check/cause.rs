//! Why a challenge does not come to us, and what helps: by what came of a question, by the labels of the apps
//! and by the configuration of the load balancer. Asks nobody. Names a remedy only where its cause is seen.

use crate::domain::Domain;
use crate::lb::configuration::{Route, Rule};
use crate::marathon::challenge_app::{self, Passage};
use crate::marathon::{Barriers, ChallengeApp};

use super::apps::Found;

/// Where the rules of other apps come before that of ours.
pub(super) const WEIGHT: &str =
    "give marathon-acme's app a higher HAPROXY_0_BACKEND_WEIGHT: 2, or more than the others have";
const OURS: &str = "marathon-acme's app";
/// An HTTP status: a password is asked for.
const UNAUTHORIZED: u16 = 401;

/// What becomes of challenges at a load balancer, by its configuration.
#[derive(Clone, Debug)]
pub(super) struct Challenges {
    /// On port 80.
    pub(super) plain: Route,
    /// On port 443.
    pub(super) secure: Route,
    /// Port 443 chooses by SNI alone (`--group-https-by-vhost`).
    pub(super) is_grouped: bool,
}

/// What is known of a domain whose challenge does not come to us.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) domain: &'a Domain,
    /// What the apps want; unknown where no Marathon answers.
    pub(super) found: Option<&'a Found>,
    /// What the load balancer does with challenges; unknown where it does not show its configuration.
    pub(super) challenges: Option<&'a Challenges>,
}

/// What helps where a load balancer has no rule for challenges, or one for some hosts only.
pub(super) fn labels(found: Option<&Found>) -> String {
    let app = found.and_then(|it| it.challenge_apps.first());
    match app {
        Some(app) if !app.flaws.is_empty() => {
            format!("correct the labels of {}, as said of them above", app.id)
        }
        Some(app) if !app.is_enabled => format!(
            "if marathon-lb runs with --strict-mode, give {} {} true; otherwise look into \
             marathon-lb's log",
            app.id,
            app.label("ENABLED")
        ),
        Some(app) => format!("look into marathon-lb's log why it makes no rule of {}", app.id),
        None => format!("give {OURS} the labels of the README"),
    }
}

/// What helps where a password is asked for before challenges pass; `is_behind`: the rules of the app that
/// asks for it come before ours.
pub(super) fn allow(found: Option<&Found>, is_secure: bool, is_behind: bool) -> String {
    let front = if is_secure { "HTTPS" } else { "HTTP" };
    let what = format!("{front}_FRONTEND_ACL_WITH_PATH");
    let app = found.and_then(|it| it.challenge_apps.first());
    let label = app.map_or_else(|| format!("HAPROXY_0_{what}"), |app| app.label(&what));
    let passage = app.map(|app| if is_secure { app.https } else { app.http });
    match (passage, is_behind) {
        (Some(Passage::Allow), true) => WEIGHT.into(),
        (Some(Passage::Allow), false) => {
            format!("{label} is right, so look into marathon-lb's log why it does not use it")
        }
        _ => challenge_app::allow(&label, app.map_or(OURS, |app| &app.id)),
    }
}

impl Facts<'_> {
    fn app(&self) -> Option<&str> {
        Some(self.found?.domains.get(self.domain)?)
    }

    fn barriers(&self) -> Barriers {
        let barriers = self.app().and_then(|app| Some(self.found?.barriers(app)));
        barriers.unwrap_or_default()
    }

    fn challenge_app(&self) -> Option<&ChallengeApp> {
        self.found?.challenge_apps.first()
    }

    /// Whether one of these lists has the domain, or is for all hosts.
    fn is_among(&self, lists: &[Vec<String>]) -> bool {
        let domain = self.domain.as_str();
        lists.iter().any(|hosts| hosts.is_empty() || hosts.iter().any(|host| host == domain))
    }

    fn is_behind(&self, rule: &Rule) -> bool {
        self.is_among(&rule.behind)
    }

    /// What helps where port 80 answers otherwise than we do, with this status if it is one.
    pub(super) fn plain(&self, status: Option<u16>) -> String {
        let rule = match self.challenges.map(|it| &it.plain) {
            Some(Route::Rule(rule)) => Some(rule),
            Some(Route::NoFrontend | Route::AllToHttps | Route::NoRule) => {
                return labels(self.found);
            }
            None => None,
        };
        let is_locked = rule.is_some_and(|rule| self.is_among(&rule.locked));
        if status == Some(UNAUTHORIZED) && (is_locked || self.barriers().auth.is_some()) {
            let app = self.app().unwrap_or("an app");
            let is_behind = rule.is_some_and(|rule| self.is_behind(rule));
            let remedy = allow(self.found, false, is_behind);
            return format!("HAPROXY_n_AUTH of {app} comes first; {remedy}");
        }
        match rule {
            Some(rule) if rule.some_hosts_only => labels(self.found),
            Some(rule) if self.is_behind(rule) => WEIGHT.into(),
            Some(rule) => self.astray(rule, status),
            None => format!("compare the labels of {OURS} with those of the README"),
        }
    }

    /// The rule is right, and something else answers.
    fn astray(&self, rule: &Rule, status: Option<u16>) -> String {
        match (status, self.challenge_app()) {
            (Some(_), app) => {
                let path = app.map_or_else(|| "HAPROXY_0_PATH".into(), |app| app.label("PATH"));
                let id = app.map_or(OURS, |app| &app.id);
                format!(
                    "challenges go to {}, so let the number in {path} of {id} be the index of the port \
                     that --listen has",
                    rule.backend
                )
            }
            (None, _) => format!(
                "take the redirect of {} away, or leave /.well-known/acme-challenge/ out of it",
                self.app().unwrap_or("the app")
            ),
        }
    }

    /// What helps where the domain is redirected to `https` and something else answers there.
    pub(super) fn redirected(&self, status: Option<u16>) -> String {
        let app = self.app().unwrap_or("the app");
        let first = format!("HAPROXY_n_REDIRECT_TO_HTTPS of {app} comes first");
        let off = format!("take HAPROXY_n_REDIRECT_TO_HTTPS off {app}");
        let ours = self.challenge_app();
        let what = "HTTPS_FRONTEND_ACL_WITH_PATH";
        let label = ours.map_or_else(|| format!("HAPROXY_0_{what}"), |app| app.label(what));
        let give =
            format!("{first}; give {} {label} as in the README", ours.map_or(OURS, |app| &app.id));
        let Some(challenges) = self.challenges else { return format!("{give}, or {off}") };
        if challenges.is_grouped {
            return format!(
                "{first}, and with --group-https-by-vhost marathon-lb has no rule for challenges on \
                 port 443; {off}, or start marathon-lb without --group-https-by-vhost"
            );
        }
        match &challenges.secure {
            Route::Rule(rule) if rule.some_hosts_only => give,
            Route::Rule(rule)
                if status == Some(UNAUTHORIZED)
                    && (self.is_among(&rule.locked) || self.barriers().auth.is_some()) =>
            {
                let remedy = allow(self.found, true, self.is_behind(rule));
                format!("HAPROXY_n_AUTH of {app} comes first; {remedy}")
            }
            Route::Rule(rule) if self.is_behind(rule) => format!("{first}; {WEIGHT}"),
            Route::Rule(_) if status.is_none() => {
                format!("{first}; let marathon-lb answer on port 443 there, or {off}")
            }
            Route::Rule(rule) => format!("{first}; {}", self.astray(rule, status)),
            Route::NoFrontend => {
                format!("{first}; let marathon-lb listen on port 443 there, or {off}")
            }
            Route::NoRule | Route::AllToHttps => give,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::apps::Rules;
    use crate::marathon::App;
    use crate::testing::config;

    fn found(labels: &str, ours: &str) -> Found {
        let mut found = Found::default();
        let shop = format!(
            r#"{{"id":"/shop","portDefinitions":[{{}}],"labels":{{"HAPROXY_GROUP":"external",
            "HAPROXY_0_VHOST":"a.org","MARATHON_ACME_0_DOMAIN":"a.org"{labels}}}}}"#
        );
        let acme = format!(
            r#"{{"id":"/acme","portDefinitions":[{{}}],"labels":{{"HAPROXY_0_GROUP":"external",
            "HAPROXY_0_VHOST":"b.org","HAPROXY_0_PATH":"/.well-known/acme-challenge/"{ours}}}}}"#
        );
        for text in [shop, acme] {
            found.add(App::parse(text.as_bytes()), &Rules::from(&config()));
        }
        found
    }

    fn rule() -> Rule {
        Rule { backend: "acme_10000".into(), servers: 1, ..Rule::default() }
    }

    fn hosts() -> Vec<Vec<String>> {
        vec![vec!["a.org".to_string()]]
    }

    #[test]
    fn each_cause_on_port_80_has_its_own_remedy() {
        let domain = Domain::parse("a.org").unwrap();
        let found = found(r#","HAPROXY_0_AUTH":"r:u:p""#, "");
        let told = |plain: Route, status| {
            let challenges = Challenges { plain, secure: Route::NoRule, is_grouped: false };
            let (found, challenges) = (Some(&found), Some(&challenges));
            Facts { domain: &domain, found, challenges }.plain(status)
        };
        let cases = [
            (Route::Rule(rule()), Some(401), "HAPROXY_n_AUTH of /shop comes first; put \"http-req"),
            (Route::Rule(rule()), Some(404), "HAPROXY_0_PATH of /acme be the index of the port"),
            (Route::Rule(rule()), None, "take the redirect of /shop away"),
            (Route::NoRule, Some(404), "correct the labels of /acme"),
            (
                Route::Rule(Rule { some_hosts_only: true, ..rule() }),
                Some(404),
                "correct the labels",
            ),
            (Route::Rule(Rule { behind: hosts(), ..rule() }), Some(404), "BACKEND_WEIGHT"),
        ];
        for (route, status, words) in cases {
            let is_behind = matches!(&route, Route::Rule(rule) if !rule.behind.is_empty());
            let remedy = told(route, status);
            assert!(remedy.contains(words), "{words}: {remedy}");
            assert_eq!(remedy.contains("WEIGHT"), is_behind, "{remedy}");
        }
        let unknown = Facts { domain: &domain, found: None, challenges: None }.plain(Some(404));
        assert!(!unknown.contains("WEIGHT"), "{unknown}");
    }

    #[test]
    fn a_label_that_lets_challenges_pass_is_no_cause() {
        let domain = Domain::parse("a.org").unwrap();
        let allows = r#","HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH":"  http-request allow if x""#;
        let found = found(r#","HAPROXY_0_AUTH":"r:u:p""#, allows);
        let told = |rule| {
            let plain = Route::Rule(Rule { locked: hosts(), ..rule });
            let challenges = Challenges { plain, secure: Route::NoRule, is_grouped: false };
            let (found, challenges) = (Some(&found), Some(&challenges));
            Facts { domain: &domain, found, challenges }.plain(Some(401))
        };
        let first = "HAPROXY_n_AUTH of /shop comes first; ";
        let behind = told(Rule { behind: hosts(), ..rule() });
        assert_eq!(behind, format!("{first}{WEIGHT}"));
        let stale = told(rule());
        assert!(stale.starts_with(first) && stale.contains("is right, so look into"), "{stale}");
    }

    #[test]
    fn each_cause_behind_a_redirect_to_https_has_its_own_remedy() {
        let domain = Domain::parse("a.org").unwrap();
        let found = found(
            r#","HAPROXY_0_AUTH":"r:u:p","HAPROXY_0_REDIRECT_TO_HTTPS":"true""#,
            r#","HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH":"  http-request allow if x""#,
        );
        let told = |secure: Route, is_grouped, status| {
            let challenges = Challenges { plain: Route::Rule(rule()), secure, is_grouped };
            let (found, challenges) = (Some(&found), Some(&challenges));
            Facts { domain: &domain, found, challenges }.redirected(status)
        };
        let label = "give /acme HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH as in the README";
        let cases = [
            (Route::NoRule, false, Some(404), label),
            (Route::Rule(Rule { some_hosts_only: true, ..rule() }), false, Some(401), label),
            (Route::NoRule, true, Some(404), "without --group-https-by-vhost"),
            (
                Route::Rule(rule()),
                false,
                Some(401),
                "HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH of /acme",
            ),
            (Route::Rule(Rule { behind: hosts(), ..rule() }), false, Some(404), "BACKEND_WEIGHT"),
            (Route::NoFrontend, false, None, "listen on port 443"),
        ];
        for (route, is_grouped, status, words) in cases {
            let is_behind = matches!(&route, Route::Rule(rule) if !rule.behind.is_empty());
            let remedy = told(route, is_grouped, status);
            assert!(remedy.contains(words), "{words}: {remedy}");
            assert_eq!(remedy.contains("WEIGHT"), is_behind, "{remedy}");
        }
    }

    #[test]
    fn an_app_that_is_right_may_have_to_be_enabled() {
        let label = r#","HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH":"  http-request allow if x""#;
        let told = labels(Some(&found("", label)));
        assert!(told.contains("--strict-mode, give /acme HAPROXY_0_ENABLED true"), "{told}");
        let enabled = format!(r#"{label},"HAPROXY_0_ENABLED":"true""#);
        let told = labels(Some(&found("", &enabled)));
        assert!(told.contains("marathon-lb's log"), "{told}");
        assert!(labels(None).contains("the labels of the README"));
    }
}
