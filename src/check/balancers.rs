//! Asks every load balancer, at every address, how it is and how it is configured; judges whether it
//! loads our certificates and sends challenges to us. Signals none of them.

use std::net::IpAddr;
use std::path::Path;

use crate::client::{Client, ClientEvent, RequestId};
use crate::config::Config;
use crate::context::Context;
use crate::http::{Request, Response};
use crate::lb::configuration::{CONFIGURATION_BYTES_MAX, Configuration};
use crate::lb::configuration::{Publication, Route, Rule};
use crate::lb::{self, ANSWER_BYTES_MAX};
use crate::url::Url;

use super::apps::Found;
use super::cause::{self, Challenges};
use super::fallback;
use super::names::Names;
use super::open::Open;
use super::report::Finding;
use super::{Part, at, listed};

const SUBJECT: &str = "lb";

/// Whether a host wants a certificate.
pub(super) type Wanted<'a> = &'a dyn Fn(&str) -> bool;

/// What the configurations of load balancers are judged by.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) wanted: Wanted<'a>,
    pub(super) storage_dir: &'a Path,
    /// What the apps want, where that is known.
    pub(super) found: Option<&'a Found>,
    /// `--group`.
    pub(super) group: &'a str,
}

/// The questions, and their answers.
#[derive(Debug)]
pub(super) struct Balancers {
    /// Those whose addresses are not known yet.
    unresolved: Vec<Url>,
    each: Vec<Balancer>,
    open: Open<(usize, Question)>,
}

/// One address of one `--lb`.
#[derive(Debug)]
struct Balancer {
    url: Url,
    address: IpAddr,
    /// That it works.
    health: Option<Result<(), String>>,
    configuration: Option<Result<Configuration, String>>,
    challenges: Option<Challenges>,
    /// Whether it shows HAProxy's process ids.
    shows_pids: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
enum Question {
    Health,
    Configuration,
    Pids,
}

impl Balancers {
    pub(super) fn new(config: &Config) -> Balancers {
        Balancers { unresolved: config.lb.clone(), each: Vec::new(), open: Open::default() }
    }

    /// Asks those whose addresses have become known.
    pub(super) fn advance(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        names: &Names,
    ) {
        for url in std::mem::take(&mut self.unresolved) {
            match names.addresses(&url.origin().host) {
                None => self.unresolved.push(url),
                Some(addresses) => {
                    for address in addresses {
                        self.ask(cx, client, &url, address);
                    }
                }
            }
        }
    }

    fn ask(&mut self, cx: &mut Context<'_>, client: &mut Client<Part>, url: &Url, address: IpAddr) {
        let index = self.each.len();
        let (health, configuration, challenges, shows_pids) = (None, None, None, None);
        let url = url.clone();
        for question in [Question::Health, Question::Configuration, Question::Pids] {
            let request = question.request(&url);
            let outgoing = at(address, request, question.body_bytes_max());
            self.open.insert(client.send(cx, Part::Balancers, outgoing), (index, question));
        }
        let balancer = Balancer { url, address, health, configuration, challenges, shows_pids };
        self.each.push(balancer);
    }

    pub(super) fn handle_event(&mut self, request: RequestId, event: ClientEvent) {
        let Some((index, question)) = self.open.take(request) else { return };
        let result = match event {
            ClientEvent::Response(response) => Ok(response),
            ClientEvent::Failed(error) => Err(error.fault.to_string()),
            _ => return,
        };
        if let Some(balancer) = self.each.get_mut(index) {
            balancer.note(question, result);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.open.len() == 0 && self.unresolved.is_empty()
    }

    pub(super) fn give_up(&mut self, reason: &str) {
        for (index, question) in self.open.take_all() {
            if let Some(balancer) = self.each.get_mut(index) {
                balancer.note(question, Err(reason.into()));
            }
        }
        self.unresolved.clear();
    }

    /// Every address, each once.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for Balancer { address, .. } in &self.each {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses
    }

    /// Every address of each, with where its configuration publishes the daemon's app.
    pub(super) fn publications(&self) -> impl Iterator<Item = (&Url, IpAddr, Publication)> {
        self.each.iter().map(|it| {
            let configuration = it.configuration.as_ref().and_then(|it| it.as_ref().ok());
            let publication = configuration.map(Configuration::publication);
            (&it.url, it.address, publication.unwrap_or_default())
        })
    }

    /// What becomes of challenges at an address, as far as its configurations tell.
    pub(super) fn challenges(&self, at: IpAddr) -> Option<&Challenges> {
        self.each.iter().filter(|it| it.address == at).find_map(|it| it.challenges.as_ref())
    }

    /// What is to be said of them.
    pub(super) fn findings(&self, site: Site<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for balancer in &self.each {
            findings.extend(balancer.findings(site));
        }
        findings
    }
}

impl Question {
    fn request(self, url: &Url) -> Request {
        match self {
            Question::Health => lb::health_request(url),
            Question::Configuration => lb::configuration_request(url),
            Question::Pids => lb::pids_request(url),
        }
    }

    const fn body_bytes_max(self) -> usize {
        match self {
            Question::Configuration => CONFIGURATION_BYTES_MAX,
            Question::Health | Question::Pids => ANSWER_BYTES_MAX,
        }
    }
}

impl Balancer {
    fn note(&mut self, question: Question, result: Result<Response, String>) {
        let good = result.and_then(|response| match response.head.status {
            200 => Ok(response),
            status => Err(format!("status {status}")),
        });
        match question {
            Question::Health => self.health = Some(good.map(|_| ())),
            Question::Configuration => {
                let parse = |response: Response| {
                    Configuration::parse(&String::from_utf8_lossy(&response.body))
                };
                self.configuration = Some(good.map(parse));
                let parsed = self.configuration.as_ref().and_then(|it| it.as_ref().ok());
                self.challenges = parsed.map(|it| Challenges {
                    plain: it.challenge_route(),
                    secure: it.secure_route(),
                    is_grouped: it.groups_https(),
                });
            }
            Question::Pids => {
                self.shows_pids = Some(good.is_ok_and(|it| lb::pids(&it).is_some()));
            }
        }
    }

    fn findings(&self, site: Site<'_>) -> Vec<Finding> {
        let here = format!("{} at {}", self.url.origin(), self.address);
        let about =
            |finding: Finding| Finding { seen: format!("{here}: {}", finding.seen), ..finding };
        let health = match &self.health {
            None => return Vec::new(),
            Some(Ok(())) => Finding::ok(SUBJECT, "healthy"),
            Some(Err(problem)) => {
                let remedy = "check --lb, and that marathon-lb runs there with port 9090 open";
                return vec![about(Finding::fail(SUBJECT, problem, remedy))];
            }
        };
        let mut findings = vec![health];
        match &self.configuration {
            Some(Ok(configuration)) => {
                let paths = configuration.certificate_paths();
                findings.push(certificates(&paths, site.storage_dir));
                findings.extend(fallback::finding(&paths, site.storage_dir));
                findings.push(self.route(configuration, site));
            }
            Some(Err(problem)) => {
                let seen = format!("its configuration cannot be had: {problem}");
                let remedy = "compare its --ssl-certs and the order of its rules by hand";
                findings.push(Finding::warn(SUBJECT, seen, remedy));
            }
            None => {}
        }
        findings.push(match self.shows_pids {
            Some(true) => Finding::ok(SUBJECT, "shows HAProxy's process ids, so reloads are seen"),
            _ => {
                let seen = "does not show HAProxy's process ids";
                let remedy = "its word counts for a reload; a newer marathon-lb shows them";
                Finding::warn(SUBJECT, seen, remedy)
            }
        });
        findings.into_iter().map(about).collect()
    }
}

impl Balancer {
    /// Whether challenges come to us; where the apps there are in other groups, that is the reason.
    fn route(&self, configuration: &Configuration, site: Site<'_>) -> Finding {
        let found = site.found;
        let others =
            found.and_then(|it| it.other_groups(configuration.published_apps(), site.group));
        if let Some(others) = others {
            let group = site.group;
            let seen = format!(
                "the apps that it publishes are in group {others:?}, and --group is {group:?}"
            );
            let remedy = format!(
                "start marathon-lb with --group {group}, give the group of this marathon-lb with \
                 --group, or take it out of --lb"
            );
            return Finding::fail(SUBJECT, seen, remedy);
        }
        let route = self.challenges.as_ref().map_or(&Route::NoFrontend, |it| &it.plain);
        challenges(route, site)
    }
}

/// Whether what is loaded is what we write. Its paths are those inside a container, as a rule: the same
/// directory may have another path there, so the last parts decide, and `default.pem` beside it.
fn certificates(loaded: &[&str], storage_dir: &Path) -> Finding {
    let certs = storage_dir.join("certs");
    let tail = |path: &Path| {
        let mut names = path.components().rev().map(|it| it.as_os_str().to_os_string());
        (names.next(), names.next())
    };
    let has_fallback = |path: &Path| {
        let beside = path.with_file_name("default.pem");
        loaded.iter().any(|it| Path::new(it) == beside)
    };
    let by_name = |path: &&Path| path.file_name().is_some_and(|name| name == "certs");
    let candidates: Vec<&Path> = loaded.iter().map(|it| Path::new(*it)).filter(by_name).collect();
    if let Some(same) = candidates.iter().find(|path| **path == certs) {
        return Finding::ok(SUBJECT, format!("loads {}, which is ours", same.display()));
    }
    if let Some(alike) = candidates.iter().find(|it| tail(it) == tail(&certs) || has_fallback(it)) {
        let seen = format!("loads {}, which is named as {} is", alike.display(), certs.display());
        return Finding::ok(SUBJECT, seen);
    }
    let given = format!("--ssl-certs {},{}/default.pem", certs.display(), storage_dir.display());
    if let Some(perhaps) = candidates.first() {
        let seen =
            format!("loads {}, which may or may not be {}", perhaps.display(), certs.display());
        let remedy = format!("see to it that it is that volume; as a rule {given}");
        return Finding::warn(SUBJECT, seen, remedy);
    }
    let seen = format!("does not load {}, but {}", certs.display(), listed(loaded));
    Finding::fail(SUBJECT, seen, format!("start marathon-lb with {given}"))
}

/// Whether challenges on port 80 come to us, by the order of the rules.
fn challenges(route: &Route, site: Site<'_>) -> Finding {
    let wanted = site.wanted;
    let labels = cause::labels(site.found);
    let rule = match route {
        Route::NoFrontend => {
            let seen = "no front end on port 80 is in its configuration";
            return Finding::fail(SUBJECT, seen, "let it listen on port 80, for CAs ask there");
        }
        Route::AllToHttps => {
            // A CA follows it; whether that leads to us, the question on that port says.
            let seen = "sends everything on port 80 to https, challenges too";
            let remedy = "leave /.well-known/acme-challenge/ out of that redirect";
            return Finding::warn(SUBJECT, seen, remedy);
        }
        Route::NoRule => {
            let seen = "has no rule for /.well-known/acme-challenge/ on port 80";
            return Finding::fail(SUBJECT, seen, labels);
        }
        Route::Rule(rule) => rule,
    };
    let Rule { backend, behind, some_hosts_only, to_https, servers, locked } = rule;
    let seen = format!("sends challenges to {backend}");
    if *some_hosts_only {
        return Finding::fail(SUBJECT, format!("{seen} for some hosts only"), labels);
    }
    if *to_https {
        let seen = format!("{seen}, which sends them on to https");
        return Finding::warn(SUBJECT, seen, "take HAPROXY_0_REDIRECT_TO_HTTPS off that app");
    }
    let weight = cause::WEIGHT;
    let is_barred = |host: &&String| wanted(host);
    if let Some(host) = locked.iter().flatten().find(is_barred) {
        let seen = format!("{seen} only behind a password for {host} (HAPROXY_n_AUTH of its app)");
        let is_behind = behind.iter().any(|hosts| hosts.is_empty() || hosts.contains(host));
        return Finding::fail(SUBJECT, seen, cause::allow(site.found, false, is_behind));
    }
    if locked.iter().any(Vec::is_empty) {
        let seen = format!("{seen} only behind a password for every host");
        return Finding::fail(SUBJECT, seen, cause::allow(site.found, false, !behind.is_empty()));
    }
    let mut hidden = behind.iter().flatten().filter(|host| wanted(host));
    if behind.iter().any(Vec::is_empty) {
        return Finding::fail(SUBJECT, format!("{seen} only behind its map of hosts"), weight);
    }
    if let Some(host) = hidden.next() {
        let seen = format!("{seen} only behind the rule for {host}");
        return Finding::fail(SUBJECT, seen, weight);
    }
    if let Some(host) = behind.iter().flatten().next() {
        let seen = format!("{seen} behind the rule for {host}, which wants no certificate");
        return Finding::warn(SUBJECT, seen, weight);
    }
    if *servers == 0 {
        let seen = format!("{seen}, which has no server");
        return Finding::warn(
            SUBJECT,
            seen,
            "start marathon-acme, and see to it that it is healthy",
        );
    }
    Finding::ok(SUBJECT, format!("{seen} before it looks at hosts"))
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn our_certificates_are_known_by_the_last_parts_of_their_path() {
        let storage = Path::new("/var/lib/marathon-acme");
        let cases: &[(&[&str], Verdict, &str)] = &[
            (&["/var/lib/marathon-acme/certs"], Verdict::Ok, "which is ours"),
            (&["/var/lib/marathon-acme/certs/"], Verdict::Ok, "which is ours"),
            (&["/mnt/marathon-acme/certs"], Verdict::Ok, "which is named as"),
            (&["/st/certs", "/st/default.pem"], Verdict::Ok, "loads /st/certs"),
            (&["/st/certs", "/x/default.pem"], Verdict::Warn, "may or may not be"),
            (&["/etc/ssl/certs"], Verdict::Warn, "may or may not be"),
            (&["/etc/ssl/cert.pem"], Verdict::Fail, "but /etc/ssl/cert.pem"),
            (&["/var/lib/marathon-acme"], Verdict::Fail, "does not load"),
            (&["/a", "/b", "/c", "/d", "/e", "/f"], Verdict::Fail, "/e and 1 more"),
            (&[], Verdict::Fail, "but nothing"),
        ];
        for (loaded, verdict, words) in cases {
            let finding = certificates(loaded, storage);
            assert_eq!(finding.verdict, *verdict, "{loaded:?}: {finding:?}");
            assert!(finding.seen.contains(words), "{loaded:?}: {finding:?}");
        }
    }

    fn site(wanted: Wanted<'_>) -> Site<'_> {
        Site { wanted, storage_dir: Path::new("/st"), found: None, group: "external" }
    }

    #[test]
    fn weight_is_the_remedy_only_where_it_is_the_cause() {
        let rule = Rule { backend: "acme".into(), servers: 1, ..Rule::default() };
        let hosts = || vec![vec!["a.org".to_string()]];
        let said = |rule| challenges(&Route::Rule(rule), site(&|host| host == "a.org"));
        let locked = said(Rule { locked: hosts(), ..rule.clone() });
        assert!(locked.verdict == Verdict::Fail && locked.seen.contains("password for a.org"));
        assert!(locked.remedy.contains("http-request allow if path_{backend}"), "{locked:?}");
        assert!(!locked.remedy.contains("WEIGHT"), "{locked:?}");
        let all = said(Rule { locked: vec![vec![]], ..rule.clone() });
        assert!(all.seen.ends_with("for every host"), "{all:?}");
        let other = said(Rule { locked: vec![vec!["b.org".into()]], ..rule.clone() });
        assert_eq!(other.verdict, Verdict::Ok, "it wants no certificate");
        assert!(said(Rule { behind: hosts(), ..rule }).remedy.contains("HAPROXY_0_BACKEND_WEIGHT"));
    }

    #[test]
    fn each_route_of_challenges_has_its_verdict() {
        let rule = Rule { backend: "acme".into(), servers: 1, ..Rule::default() };
        let behind =
            |hosts: &[&str]| vec![hosts.iter().map(ToString::to_string).collect::<Vec<String>>()];
        let cases = [
            (Route::NoFrontend, Verdict::Fail, "no front end"),
            (Route::AllToHttps, Verdict::Warn, "everything on port 80 to https"),
            (Route::NoRule, Verdict::Fail, "has no rule"),
            (Route::Rule(rule.clone()), Verdict::Ok, "before it looks at hosts"),
            (Route::Rule(Rule { to_https: true, ..rule.clone() }), Verdict::Warn, "to https"),
            (Route::Rule(Rule { some_hosts_only: true, ..rule.clone() }), Verdict::Fail, "some"),
            (Route::Rule(Rule { servers: 0, ..rule.clone() }), Verdict::Warn, "no server"),
            (
                Route::Rule(Rule { behind: behind(&["b.org"]), ..rule.clone() }),
                Verdict::Warn,
                "behind the rule for b.org",
            ),
            (
                Route::Rule(Rule { behind: behind(&["b.org", "a.org"]), ..rule.clone() }),
                Verdict::Fail,
                "only behind the rule for a.org",
            ),
            (Route::Rule(Rule { behind: behind(&[]), ..rule }), Verdict::Fail, "map of hosts"),
        ];
        for (route, verdict, words) in cases {
            let finding = challenges(&route, site(&|host| host == "a.org"));
            assert_eq!(finding.verdict, verdict, "{route:?}: {finding:?}");
            assert!(finding.seen.contains(words), "{finding:?}");
        }
    }
}
