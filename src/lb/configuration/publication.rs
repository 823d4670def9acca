//! Where a configuration publishes the app that has the challenges: each front end that leads to one of its
//! ports, by port, host or app id. Must never take another app's front end for ours.

use super::{Configuration, Criterion, Route, Section, has, is};

/// The header by which marathon-lb's front end on port 9091 chooses an app.
const APP_ID_CRITERIA: [&str; 2] = ["hdr(x-marathon-app-id)", "req.hdr(x-marathon-app-id)"];

/// Where the app with the challenges can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// The ports of front ends that lead there without looking at the request, each with whether it
    /// speaks TLS.
    pub ports: Vec<(u16, bool)>,
    /// The hosts for which the front end on port 80 leads there.
    pub hosts: Vec<String>,
    /// The ids of the app, by which the front end for app ids leads there.
    pub app_ids: Vec<String>,
}

impl Configuration {
    /// Where the app is published that gets the challenges; nowhere when that is not known.
    pub fn publication(&self) -> Publication {
        let mut found = Publication::default();
        let Route::Rule(rule) = self.challenge_route() else { return found };
        let app = app_of(&rule.backend);
        let frontends =
            self.sections.iter().filter(|it| it.kind == "frontend" || it.kind == "listen");
        for section in frontends {
            if section.leads_to(app) {
                section.ports().for_each(|port| insert(&mut found.ports, port));
            }
            for words in section.acls_leading_to(app) {
                match words {
                    [name, values @ ..] if APP_ID_CRITERIA.contains(&name.as_str()) => {
                        plain(values).for_each(|id| insert(&mut found.app_ids, id.to_string()));
                    }
                    words => {
                        if let Criterion::Host(hosts) = Criterion::of(words) {
                            hosts.into_iter().for_each(|host| insert(&mut found.hosts, host));
                        }
                    }
                }
            }
        }
        found
    }
}

impl Section {
    /// Whether every request goes to a port of this app: `use_backend NAME_PORT` or `default_backend`
    /// without a condition.
    fn leads_to(&self, app: &str) -> bool {
        self.lines.iter().any(|words| {
            let chooses = is(words, 0, "use_backend") || is(words, 0, "default_backend");
            chooses && is_of(words, app) && !has(words, "if") && !has(words, "unless")
        })
    }

    /// What it listens on, with whether it speaks TLS there.
    fn ports(&self) -> impl Iterator<Item = (u16, bool)> {
        let binds = self.lines.iter().filter(|words| is(words, 0, "bind"));
        binds.filter_map(|words| {
            let port = words.get(1)?.rsplit(':').next()?.parse().ok()?;
            Some((port, has(words, "ssl")))
        })
    }

    /// The criteria of the named conditions under which a request goes to this app.
    fn acls_leading_to(&self, app: &str) -> Vec<&[String]> {
        let rules =
            || self.lines.iter().filter(|words| is(words, 0, "use_backend") && is_of(words, app));
        let acls = self.lines.iter().filter_map(|words| match words.as_slice() {
            [acl, name, criterion @ ..] if acl == "acl" => Some((name, criterion)),
            _ => None,
        });
        let leading = acls.filter(|(name, _)| rules().any(|words| has(words, name)));
        leading.map(|(_, criterion)| criterion).collect()
    }
}

/// Whether a rule chooses a back end of this app.
fn is_of(words: &[String], app: &str) -> bool {
    words.get(1).is_some_and(|backend| app_of(backend) == app)
}

/// The part of a back end's name that all ports of an app share: marathon-lb calls it `NAME_PORT`.
pub(super) fn app_of(backend: &str) -> &str {
    match backend.rsplit_once('_') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => backend,
    }
}

/// The values of a criterion, without its flags.
fn plain(words: &[String]) -> impl Iterator<Item = &String> {
    words.iter().filter(|word| !word.starts_with('-'))
}

fn insert<T: PartialEq>(into: &mut Vec<T>, item: T) {
    if !into.contains(&item) {
        into.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As marathon-lb writes it, for an app with two ports and for another one.
    const PUBLISHED: &str = "
listen stats
  bind 0.0.0.0:9090
frontend marathon_http_in
  bind *:80
  mode http
  acl path_acme_10101 path_beg /.well-known/acme-challenge/
  http-request allow if path_acme_10101
  use_backend acme_10101 if path_acme_10101
  acl host_acme_example_com hdr(host) -i acme.example.com
  acl path_acme_10102 path_beg /
  use_backend acme_10102 if host_acme_example_com path_acme_10102
  acl host_shop hdr(host) -i shop.example.com
  use_backend shop_10000 if host_shop
frontend marathon_http_appid_in
  bind *:9091
  mode http
  acl app__infra_acme hdr(x-marathon-app-id) -i /infra/acme
  use_backend acme_10101 if app__infra_acme
  acl app__shop hdr(x-marathon-app-id) -i /shop
  use_backend shop_10000 if app__shop
frontend marathon_https_in
  bind *:443 ssl crt /etc/ssl/cert.pem
  use_backend acme_10101 if path_acme_10101
frontend acme_10101
  bind *:10101
  mode http
  use_backend acme_10101
frontend acme_10102
  bind *:10102 ssl crt /etc/ssl/cert.pem
  bind 10.0.0.1:10103
  use_backend acme_10102
frontend shop_10000
  bind *:10000
  use_backend shop_10000
backend acme_10101
  server a 10.0.0.1:31000
backend acme_10102
  server a 10.0.0.1:31001
";

    #[test]
    fn every_front_end_of_the_app_is_found_and_no_other() {
        let found = Configuration::parse(PUBLISHED).publication();
        assert_eq!(found.ports, [(10101, false), (10102, true), (10103, false)]);
        assert_eq!(found.hosts, ["acme.example.com"]);
        assert_eq!(found.app_ids, ["/infra/acme"]);
    }

    #[test]
    fn without_a_rule_for_challenges_nothing_is_known_to_be_ours() {
        let without = PUBLISHED.replace("/.well-known/acme-challenge/", "/other/");
        assert_eq!(Configuration::parse(&without).publication(), Publication::default());
    }
}
