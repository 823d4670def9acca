//! The check driven by hand, with peers that answer by the path they are asked for.

use std::collections::BTreeMap;

use super::*;
use crate::machine::{CloseReason, ConnId, Load, Trust};
use crate::proxy::Proxy;
use crate::secret::Secret;
use crate::survey::LockState;
use crate::testing::{Bench, config};
use crate::url::Url;

/// Answers by `PATH`, or by `HOST PATH` where that is there, or by `https PATH` to whoever does not mind the
/// certificate: status, further fields, body.
type Answers = BTreeMap<String, (u16, String, String)>;

const PING: &str = "/.well-known/acme-challenge/ping";
const PONG: &str = r#"{"message": "pong"}"#;

struct World {
    checker: Checker,
    bench: Bench,
    answers: Answers,
    /// Where the certificate does not matter.
    unjudged: Vec<ConnId>,
    said: Vec<String>,
    /// What each certificate file holds.
    file: String,
    exit: Option<u8>,
}

/// A certificate for the domain of the apps.
fn pem() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["www.example.com".to_string()]).unwrap();
    key.serialize_pem() + &params.self_signed(&key).unwrap().pem()
}

fn survey() -> Survey {
    Survey {
        dir: "/st".into(),
        missing: None,
        barred: Vec::new(),
        free_bytes: None,
        free_files: None,
        account_key: None,
        certificates: vec![Domain::parse("www.example.com").unwrap()],
        fallback: None,
        foreign: Vec::new(),
        more_foreign: 0,
        odd_modes: Vec::new(),
        lock: LockState::Held { beat_age: Duration::from_secs(1) },
    }
}

fn healthy() -> Answers {
    let url = |name: &str| format!(r#""{name}":"https://192.0.2.1/{name}""#);
    let directory = ["newNonce", "newAccount", "newOrder", "renewalInfo"].map(url).join(",");
    let apps = r#"{"apps":[{"id":"/shop","portDefinitions":[{}],"labels":{"HAPROXY_GROUP":"external",
                   "HAPROXY_0_VHOST":"www.example.com","MARATHON_ACME_0_DOMAIN":"www.example.com"}}]}"#;
    let configuration = "frontend marathon_http_in\n  bind *:80\n  acl c path_beg \
                         /.well-known/acme-challenge/\n  use_backend acme if c\n\
                         frontend marathon_https_in\n  bind *:443 ssl crt /st/certs crt /st/default.pem\n\
                         backend acme\n  server a 10.0.0.1:8000\n";
    let date = "Date: Mon, 23 Nov 2026 00:00:01 GMT\r\n";
    let answers = [
        ("/dir", date, format!("{{{directory}}}")),
        ("/v2/info", "", r#"{"version":"1.11.24","leader":"m:8080"}"#.to_string()),
        ("/v2/apps", "", apps.to_string()),
        ("/v2/events", "Content-Type: text/event-stream\r\n", "\r\n".to_string()),
        ("/_haproxy_health_check", "", String::new()),
        ("/_haproxy_getconfig", "", configuration.to_string()),
        ("/_haproxy_getpids", "", "65 32".to_string()),
        (PING, "", PONG.to_string()),
    ];
    let answer =
        |(path, fields, body): (&str, &str, String)| (path.into(), (200, fields.into(), body));
    let mut answers: Answers = answers.map(answer).into();
    answers.insert("/".into(), (404, String::new(), String::new()));
    answers
}

impl World {
    fn new(answers: Answers, change: impl FnOnce(&mut Config)) -> World {
        let url = |text| Url::parse(text).unwrap();
        let mut config = Config {
            acme: url("https://192.0.2.1/dir"),
            marathon: vec![url("http://me:hidden@192.0.2.2:8080")],
            lb: vec![url("http://192.0.2.3:9090")],
            ..config()
        };
        change(&mut config);
        let checker = Checker::new(&config, survey(), &[], Look::Plain);
        let (unjudged, said) = (Vec::new(), Vec::new());
        World { checker, bench: Bench::new(), answers, unjudged, said, file: pem(), exit: None }
    }

    /// Tells it something, and what follows from it for as long as anything does.
    fn tell(&mut self, input: Input<'_>) {
        self.take_in(input);
        let mut dialed = Vec::new();
        loop {
            let output = self.checker.poll_output();
            match output {
                Output::Connect { conn, tls, .. } => {
                    let unjudged = tls.is_some_and(|tls| tls.trust == Trust::Unjudged);
                    self.unjudged.extend(unjudged.then_some(conn));
                    dialed.push((conn, Vec::new(), None));
                }
                Output::Send { conn, bytes } => dialed.push((conn, bytes.to_vec(), Some(()))),
                Output::Close { conn, .. } => dialed.retain(|(it, ..)| *it != conn),
                Output::Say(text) => self.said.push(text),
                Output::Exit(status) => {
                    self.exit = Some(status);
                    return;
                }
                Output::Wait(_) if dialed.is_empty() => return,
                Output::Wait(_) => {
                    let (conn, bytes, sent) = dialed.remove(0);
                    match sent {
                        None if self.unjudged.contains(&conn) => {
                            self.take_in(Input::Presented(conn, Vec::new()));
                        }
                        None => self.take_in(Input::Connected(conn)),
                        Some(()) => self.answer(conn, &String::from_utf8(bytes).unwrap()),
                    }
                }
                Output::Load(Load::Certificate(name)) => {
                    let file = Ok(Secret::new(self.file.clone()));
                    self.take_in(Input::Loaded(Loaded::Certificate(name, file)));
                }
                Output::Load(_) => self.name_service(),
                _ => {}
            }
        }
    }

    fn take_in(&mut self, input: Input<'_>) {
        let now = self.bench.now;
        let cx = self.bench.cx();
        self.checker.handle_input(now, input, cx.keys);
    }

    fn name_service(&mut self) {
        let hosts = b"192.0.2.3 lb.example\n192.0.2.4 lb.example\n".to_vec();
        let resolv_conf = b"nameserver 192.0.2.53\n".to_vec();
        self.take_in(Input::Loaded(Loaded::NameService { resolv_conf, hosts }));
    }

    fn answer(&mut self, conn: ConnId, request: &str) {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().to_string();
        let host = request.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default();
        let front = if self.unjudged.contains(&conn) { "https" } else { host };
        let own = self.answers.get(&format!("{front} {path}"));
        let Some((status, fields, body)) = own.or_else(|| self.answers.get(&path)).cloned() else {
            return;
        };
        if status == 0 {
            return self.take_in(Input::Closed(conn, CloseReason::Reset));
        }
        let length = body.len();
        let head = format!("HTTP/1.1 {status} x\r\n{fields}Content-Length: {length}\r\n\r\n");
        self.take_in(Input::Received(conn, format!("{head}{body}").as_bytes()));
    }

    fn report(&self) -> String {
        self.said.concat()
    }
}

fn checked(answers: Answers, change: impl FnOnce(&mut Config)) -> (Option<u8>, String) {
    let mut world = World::new(answers, change);
    world.tell(Input::Timeout);
    (world.exit, world.report())
}

/// The healthy answers, but for one.
fn with(path: &str, status: u16, fields: &str, body: &str) -> Answers {
    let mut answers = healthy();
    answers.insert(path.into(), (status, fields.into(), body.into()));
    answers
}

#[test]
fn where_all_is_well_each_thing_has_its_line() {
    let expected = "\
ok    storage  /st: can be read and written, certificates=1
ok    daemon   one is at work on the storage, seen 1 s ago
ok    ca       https://192.0.2.1/dir: terms of service none
ok    profile  none is asked for; offered: none
ok    renewal  the CA says when to renew (RFC 9773)
ok    account  the CA asks for no external one
ok    clock    agrees with the CA's
ok    marathon http://192.0.2.2:8080: Marathon 1.11.24, leader m:8080
ok    marathon http://192.0.2.2:8080: the event stream opens
ok    apps     http://192.0.2.2:8080: 1 app, 1 domain wanted in group \"external\"
ok    storage  certs/: 1 certificate file validated: key, names, chain and dates
ok    lb       http://192.0.2.3:9090 at 192.0.2.3: healthy
ok    lb       http://192.0.2.3:9090 at 192.0.2.3: loads /st/certs, which is ours
ok    lb       http://192.0.2.3:9090 at 192.0.2.3: sends challenges to acme before it looks at hosts
ok    lb       http://192.0.2.3:9090 at 192.0.2.3: shows HAProxy's process ids, so reloads are seen
ok    route    www.example.com: we answer, by way of 1 load balancer
ok    exposed  no status page is answered by way of a load balancer
17 ok, 0 warnings, 0 failed
";
    assert_eq!(checked(healthy(), |_| {}), (Some(0), expected.to_string()));
}

#[test]
fn what_a_proxy_resolves_is_left_to_it() {
    let proxied = |config: &mut Config| {
        config.acme = Url::parse("https://ca.example/dir").unwrap();
        config.proxies.https = Proxy::parse("http://me:hidden@lb.example:3128").ok();
    };
    let (_, report) = checked(healthy(), proxied);
    let line = "ok    name     ca.example: left to the proxy http://lb.example:3128\n";
    assert!(report.contains(line) && !report.contains("hidden"), "{report}");
    assert!(report.contains("ok    name     lb.example: 2 addresses\n"), "{report}");
}

#[test]
fn every_address_of_a_name_is_asked() {
    let lb = |config: &mut Config| config.lb = vec![Url::parse("http://lb.example:9090").unwrap()];
    let (status, report) = checked(healthy(), lb);
    assert_eq!(status, Some(0), "{report}");
    assert!(report.contains("ok    name     lb.example: 2 addresses\n"), "{report}");
    assert_eq!(report.matches(": healthy\n").count(), 2, "{report}");
    assert!(report.contains("by way of 2 load balancers\n"), "{report}");
}

#[test]
fn each_thing_that_is_amiss_is_a_line_that_says_what_to_do() {
    let cases = [
        (
            with("/dir", 503, "", ""),
            "fail  ca       https://192.0.2.1/dir: status 503; check --acme",
        ),
        (with("/dir", 200, "", "<html>"), "fail  ca "),
        (
            with("/v2/info", 401, "", ""),
            "status 401: user and password in --marathon, or --marathon-token",
        ),
        (with("/v2/apps", 200, "", "{\"apps\":["), "fail  apps     no Marathon lists its apps; "),
        (
            with("/v2/events", 200, "", "x"),
            "the event stream does not open: it is not text/event-stream",
        ),
        (with("/_haproxy_health_check", 503, "", ""), "at 192.0.2.3: status 503; check --lb"),
        (
            with("/_haproxy_getconfig", 200, "", "x"),
            "fail  lb       http://192.0.2.3:9090 at 192.0.2.3: does not load",
        ),
        (with("/_haproxy_getpids", 503, "", ""), "warn  lb "),
        (with(PING, 404, "", ""), "something else answers, status 404; challenges go to acme, so"),
        (with(PING, 503, "", ""), "status 503, nobody answers; "),
        (
            with(PING, 0, "", ""),
            "fail  route    www.example.com at 192.0.2.3: the connection was reset",
        ),
    ];
    for (answers, words) in cases {
        let (status, report) = checked(answers, |_| {});
        assert!(report.contains(words), "{words}\n{report}");
        let failed = report.contains("\nfail ");
        assert_eq!(status, Some(u8::from(failed)), "{report}");
        assert!(!report.contains("hidden"), "{report}");
    }
}

#[test]
fn a_redirect_to_the_name_of_ours_is_followed_at_the_same_load_balancer() {
    let ours = format!("Location: http://acme.example.com{PING}\r\n");
    let mut answers = with(&format!("www.example.com {PING}"), 302, &ours, "");
    let (status, report) = checked(answers.clone(), |_| {});
    assert!(status == Some(0) && report.contains("www.example.com: we answer"), "{report}");
    answers.insert(format!("acme.example.com {PING}"), (404, String::new(), String::new()));
    let (status, report) = checked(answers, |_| {});
    assert!(status == Some(1) && report.contains("status 404"), "{report}");
}

#[test]
fn a_redirect_to_https_is_followed_and_to_blame_where_we_do_not_answer() {
    let https = format!("Location: https://www.example.com{PING}\r\n");
    let plain = format!("www.example.com {PING}");
    let (_, report) = checked(with(PING, 301, &https, ""), |_| {});
    assert!(report.contains("HAPROXY_n_REDIRECT_TO_HTTPS of /shop comes first; "), "{report}");
    let mut answers = with(&plain, 301, &https, "");
    answers.insert(format!("https {PING}"), (200, String::new(), PONG.to_string()));
    let (status, report) = checked(answers.clone(), |_| {});
    assert!(status == Some(0) && report.contains("www.example.com: we answer"), "{report}");
    answers.insert(format!("https {PING}"), (404, String::new(), String::new()));
    let (status, report) = checked(answers.clone(), |_| {});
    let words = format!(
        "fail  route    www.example.com at 192.0.2.3: sent on to https://www.example.com{PING}, \
         and there something else answers, status 404; HAPROXY_n_REDIRECT_TO_HTTPS of /shop"
    );
    assert!(status == Some(1) && report.contains(&words), "{report}");
    answers.insert(format!("https {PING}"), (0, String::new(), String::new()));
    let (status, report) = checked(answers, |_| {});
    assert!(status == Some(1) && report.contains("and there the connection was reset"), "{report}");
}

#[test]
fn a_status_page_that_a_load_balancer_publishes_is_a_warning() {
    let page = "<title>All is well – marathon-acme</title>";
    let (status, report) = checked(with("/", 200, "", page), |_| {});
    for way in ["on port 80 for 192.0.2.3", "on port 443 for 192.0.2.3"] {
        let line =
            format!("warn  exposed  the status page is answered {way} at 192.0.2.3; everyone");
        assert!(report.contains(&line), "{report}");
    }
    assert!(status == Some(0) && report.contains("2 warnings, 0 failed"), "{report}");
    let mut answers = healthy();
    let (_, _, configuration) = answers.get_mut("/_haproxy_getconfig").unwrap();
    configuration.push_str(
        "frontend acme\n  bind *:10101\n  use_backend acme\nfrontend marathon_http_appid_in\n  \
         bind *:9091\n  acl app__acme hdr(x-marathon-app-id) -i /acme\n  \
         use_backend acme if app__acme\n",
    );
    for (port, way) in [(10101, ""), (9091, " with X-Marathon-App-Id: /acme")] {
        let mut answers = answers.clone();
        answers.insert(format!("192.0.2.3:{port} /"), (200, String::new(), page.into()));
        let (status, report) = checked(answers, |_| {});
        let line =
            format!("the status page is answered on port {port}{way} at 192.0.2.3; everyone");
        assert!(report.contains(&line) && report.contains("1 warning, 0 failed"), "{report}");
        assert_eq!(status, Some(0));
    }
}

#[test]
fn a_marathon_that_is_down_beside_one_that_answers_is_a_warning() {
    let urls = ["http://192.0.2.8:8080", "http://192.0.2.2:8080"];
    let two = |config: &mut Config| config.marathon = urls.map(|it| Url::parse(it).unwrap()).into();
    let mut answers = healthy();
    for path in ["/v2/info", "/v2/apps", "/v2/events"] {
        answers.insert(format!("192.0.2.8:8080 {path}"), (503, String::new(), String::new()));
    }
    let (status, report) = checked(answers, two);
    assert!(report.contains("warn  marathon http://192.0.2.8:8080: status 503"), "{report}");
    assert!(status == Some(0) && report.contains("ok    apps     http://192.0.2.2"), "{report}");
}

#[test]
fn it_ends_by_its_time_and_when_it_is_told_to() {
    let mut world = World::new(Answers::new(), |_| {});
    world.tell(Input::Timeout);
    assert_eq!(world.exit, None);
    for _ in 0..100 {
        world.bench.pass(Duration::from_secs(1));
        world.tell(Input::Timeout);
    }
    assert_eq!(world.exit, Some(1));
    let report = world.report();
    assert!(report.contains("fail  ca       https://192.0.2.1/dir: "), "{report}");
    assert!(report.ends_with("failed\n"), "{report}");
    let mut world = World::new(Answers::new(), |_| {});
    world.tell(Input::Timeout);
    world.tell(Input::Signal(Signal::Stop));
    assert_eq!(world.exit, Some(1));
    assert!(world.report().contains("the check was interrupted"), "{}", world.report());
}

#[test]
fn what_the_options_say_comes_first() {
    let remarks = [Record::warn("main", "unknown variable").with("variable", "X")];
    let checker = Checker::new(&config(), survey(), &remarks, Look::Plain);
    let mut world = World { checker, ..World::new(Answers::new(), |_| {}) };
    world.tell(Input::Timeout);
    assert_eq!(world.said[0], "warn  options  unknown variable variable=X\n");
}
