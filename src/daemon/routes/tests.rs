//! Routes by hand: names from a hosts file, and at each address somebody who answers by a rule.

use std::collections::BTreeSet;

use super::*;
use crate::config::{self, Verification};
use crate::daemon::wire::{Sent, Wire, counted};
use crate::hint::Hint;

const SECOND: Duration = Duration::from_secs(1);

/// What is at port 80 of an address.
#[derive(Clone, Copy, Debug)]
enum ListenerKind {
    Ours,
    Status(u16),
    /// A redirect to that, with the token behind it.
    Onward(&'static str),
    /// A redirect to just that.
    To(&'static str),
    Silent,
}

struct Case {
    wire: Wire,
    routes: Routes,
    doors: BTreeMap<IpAddr, ListenerKind>,
    /// Whom was asked where for what, but for the token.
    asked: Vec<String>,
    /// The most questions that had no answer at once.
    at_once: usize,
}

fn name(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Case {
    fn new(hosts: &str, doors: &[(&str, ListenerKind)]) -> Case {
        Case::of(SkipRouteCheck::Of(BTreeSet::new()), hosts, doors)
    }

    fn of(skip_route_check: SkipRouteCheck, hosts: &str, doors: &[(&str, ListenerKind)]) -> Case {
        let lb = vec![Url::parse("http://lb.test:9090").unwrap()];
        Case::made(&Config { skip_route_check, lb, ..crate::testing::config() }, hosts, doors)
    }

    fn made(config: &Config, hosts: &str, doors: &[(&str, ListenerKind)]) -> Case {
        let mut wire = Wire::new();
        wire.hosts = hosts.replace(", ", "\n");
        let doors = doors.iter().map(|(at, door)| (ip(at), *door)).collect();
        let routes = Routes::new(config);
        Case { wire, routes, doors, asked: Vec::new(), at_once: 0 }
    }

    fn start(&mut self, certificate: &str, domains: &str) {
        let domains: Vec<Domain> = domains.split(' ').map(name).collect();
        let Case { wire, routes, .. } = self;
        let mut cx = wire.bench.cx();
        routes.start(&mut cx, &mut wire.client, &name(certificate), &domains);
        self.settle();
    }

    fn forget(&mut self, certificate: &str) {
        let Case { wire, routes, .. } = self;
        routes.forget(&mut wire.bench.cx(), &mut wire.client, &name(certificate));
        self.settle();
    }

    fn pass(&mut self, duration: Duration) {
        self.wire.pass(duration);
        self.settle();
    }

    /// Carries on until only the silent have not answered.
    fn settle(&mut self) {
        let mut steps = crate::testing::Steps::default();
        loop {
            steps.count();
            let mut sent = self.wire.sent();
            // Whose certificate it is does not matter.
            for (conn, _) in std::mem::take(&mut self.wire.glances) {
                self.wire.client.handle_presented(conn, Vec::new());
                sent.extend(self.wire.sent());
            }
            self.at_once = self.at_once.max(self.routes.open.len());
            if sent.is_empty() && !self.hear() {
                return;
            }
            sent.iter().for_each(|sent| self.serve(sent));
        }
    }

    /// Hands the news on; whether there was any.
    fn hear(&mut self) -> bool {
        let Case { wire, routes, .. } = self;
        let mut heard = false;
        let mut steps = crate::testing::Steps::default();
        while let Some((owner, request, event)) = wire.event() {
            steps.count();
            let Owner::Routes(of) = owner else { panic!("it is the routes'") };
            let mut cx = wire.bench.cx();
            routes.handle_event(&mut cx, &mut wire.client, (of, request), event);
            heard = true;
        }
        heard
    }

    fn serve(&mut self, sent: &Sent) {
        let line = sent.text.lines().next().unwrap_or_default();
        let token = line.strip_suffix(" HTTP/1.1").and_then(|it| it.rsplit('/').next());
        let token = token.expect("a path with a token");
        assert!(probe::is_token(token), "{}", sent.text);
        let host = sent.text.lines().find_map(|line| line.strip_prefix("Host: "));
        let host = host.unwrap_or_default();
        self.asked.push(format!("{host} at {}", sent.to));
        let place =
            |to: String| format!("HTTP/1.1 302 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        // At the other port everybody is ours.
        let door = self.doors.get(&sent.to.ip()).filter(|_| sent.to.port() == route::PORT);
        let answer = match door.copied().unwrap_or(ListenerKind::Ours) {
            ListenerKind::Ours => counted(200, "text/plain", &probe::answer(token)),
            ListenerKind::Status(status) => counted(status, "text/html", "<html>"),
            ListenerKind::Onward(to) => place(format!("{to}/.well-known/acme-challenge/{token}")),
            ListenerKind::To(to) => place(to.into()),
            ListenerKind::Silent => return,
        };
        self.wire.answer(sent.conn, &answer);
    }

    /// Everything that was said, a line each.
    fn said(&mut self) -> Vec<String> {
        let heard = self.wire.bench.log.drain(..).filter(|it| it.level > crate::log::Level::Info);
        let field = |record: &Record, name| {
            let found = record.fields.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| format!(" {name}={value}")).unwrap_or_default()
        };
        let line = |record: Record| {
            let fields = ["name", "domain", "address", "lb", "error"].map(|it| field(&record, it));
            assert!(record.subject == "route" && !field(&record, "hint").is_empty());
            format!("{}:{}", record.message, fields.concat())
        };
        heard.map(line).collect()
    }

    fn findings(&self, certificate: &str) -> Vec<(String, Option<Hint>)> {
        let found = self.routes.findings(&name(certificate)).iter();
        found.map(|it| (it.listed(), it.complaint.hint)).collect()
    }
}

const ASTRAY: &str = "a challenge would not reach us";
const HOSTS: &str = "9.0.0.1 a.org, 9.0.0.2 a.org, 2600::1 a.org, 10.1.0.1 lb.test, 10.1.0.2 \
                     lb.test, 9.0.0.1 b.org";

#[test]
fn where_we_answer_everywhere_nothing_is_said_or_kept() {
    let mut case = Case::new(HOSTS, &[]);
    case.start("a.org", "a.org");
    let expected = ["9.0.0.1:80", "9.0.0.2:80", "[2600::1]:80", "10.1.0.1:80", "10.1.0.2:80"];
    assert_eq!(case.asked, expected.map(|at| format!("a.org at {at}")));
    assert_eq!(case.said(), Vec::<String>::new());
    assert!(case.routes.trials.is_empty() && case.routes.open.is_empty());
    assert!(case.wire.client.poll_timeout().is_none_or(|at| at > case.wire.bench.now.mono));
}

#[test]
fn what_differs_names_the_address_until_the_certificate_is_there() {
    let doors = [("2600::1", ListenerKind::Status(404)), ("10.1.0.2", ListenerKind::Status(503))];
    let mut case = Case::new(HOSTS, &doors);
    case.start("a.org", "a.org");
    let expected = [
        format!("{ASTRAY}: name=a.org address=2600::1 error=another server answers, status 404"),
        format!("{ASTRAY}: name=a.org lb=10.1.0.2 error=nobody answers there, status 503"),
    ];
    assert_eq!(case.said(), expected);
    let expected = [("2600::1", Hint::StrayIpv6), ("10.1.0.2", Hint::AnotherServer)];
    assert_eq!(case.findings("a.org"), expected.map(|(at, hint)| (at.to_string(), Some(hint))));
    case.forget("a.org");
    assert_eq!((case.findings("a.org"), case.said()), (vec![], vec![]), "it is said once");
}

#[test]
fn each_domain_of_a_certificate_is_tried_and_the_next_try_forgets_the_last() {
    let mut case = Case::new(HOSTS, &[("9.0.0.1", ListenerKind::Status(200))]);
    case.start("a.org", "a.org b.org");
    let words = "error=another server answers, status 200";
    let expected = [
        format!("{ASTRAY}: name=a.org address=9.0.0.1 {words}"),
        format!("{ASTRAY}: name=a.org domain=b.org address=9.0.0.1 {words}"),
    ];
    assert_eq!((case.said(), case.findings("a.org").len()), (expected.to_vec(), 2));
    case.doors.clear();
    case.start("a.org", "a.org b.org");
    assert_eq!((case.said(), case.findings("a.org")), (vec![], vec![]));
}

#[test]
fn redirects_are_followed_to_port_80_of_a_name_and_not_for_ever() {
    let hosts = format!("{HOSTS}, 9.2.0.1 acme.test, 2600::2 acme.test");
    let doors = [
        ("9.0.0.1", ListenerKind::Onward("http://acme.test")),
        ("9.0.0.2", ListenerKind::Onward("http://nowhere.test")),
        ("2600::1", ListenerKind::Onward("http://a.org")),
        ("10.1.0.1", ListenerKind::To("https://a.org/x")),
        ("10.1.0.2", ListenerKind::To("http://9.2.0.1/x")),
    ];
    let mut case = Case::new(&hosts, &doors);
    case.start("a.org", "a.org");
    assert_eq!(case.asked.iter().filter(|it| *it == "acme.test at [2600::2]:80").count(), 1);
    let to_itself = case.asked.iter().filter(|it| *it == "a.org at [2600::1]:80").count();
    assert_eq!(to_itself, 1 + REDIRECTS_MAX as usize);
    assert!(!case.asked.iter().any(|it| it.contains("9.2.0.1")), "{:?}", case.asked);
    case.pass(ANSWER_TIMEOUT);
    let expected = [
        "address=2600::1 error=redirected to a.org: it is redirected too often",
        "address=9.0.0.2 error=redirected to nowhere.test: its name was not resolved within 10.0s",
        "lb=10.1.0.1 error=redirected to https://a.org/x, not to us",
        "lb=10.1.0.2 error=redirected to http://9.2.0.1/x, not to us",
    ];
    assert_eq!(case.said(), expected.map(|it| format!("{ASTRAY}: name=a.org {it}")));
}

#[test]
fn a_redirect_to_an_address_that_is_neither_public_nor_a_load_balancers_is_not_followed() {
    for target in [
        "127.0.0.1",
        "169.254.169.254",
        "10.7.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:10.7.0.1",
        "64:ff9b::a07:1",
        "2002:a07:1::1",
    ] {
        let hosts = format!("9.0.0.1 a.org, 10.1.0.1 lb.test, {target} inside.test");
        let mut case =
            Case::new(&hosts, &[("9.0.0.1", ListenerKind::Onward("http://inside.test"))]);
        case.start("a.org", "a.org");
        assert_eq!(case.asked, ["a.org at 9.0.0.1:80", "a.org at 10.1.0.1:80"], "{target}");
        let error = "redirected to inside.test: its address is neither public nor a load balancer's, \
                     so it was not asked";
        assert_eq!(case.said(), [format!("{ASTRAY}: name=a.org address=9.0.0.1 error={error}")]);
    }
}

#[test]
fn of_a_names_addresses_only_those_that_may_be_asked_are() {
    let hosts = "9.0.0.1 a.org, 10.1.0.1 lb.test, 10.7.0.1 mixed.test, 9.7.0.1 mixed.test";
    let mut case = Case::new(hosts, &[("9.0.0.1", ListenerKind::Onward("http://mixed.test"))]);
    case.wire.refusing.insert(ip("9.7.0.1"));
    case.start("a.org", "a.org");
    let expected = ["a.org at 9.0.0.1:80", "a.org at 10.1.0.1:80"];
    assert_eq!(case.asked, expected, "nor is the other one, where nobody can be reached");
}

#[test]
fn a_redirect_to_a_load_balancer_or_back_is_followed_at_private_addresses() {
    let hosts = "9.0.0.1 a.org, 10.5.0.1 b.org, 10.5.0.1 acme.test, 10.1.0.1 lb.test, 10.1.0.1 \
                 balanced.test, 10.3.0.1 verified.test";
    let doors = [
        ("9.0.0.1", ListenerKind::Onward("http://balanced.test")),
        ("10.1.0.1", ListenerKind::Onward("http://verified.test")),
        ("10.5.0.1", ListenerKind::Onward("https://acme.test")),
    ];
    let lb = Url::parse("http://lb.test:9090").unwrap();
    let place = config::Place::Host(Host::Name("verified.test".into()), 8443);
    let lb_verify = Verification { port: None, elsewhere: vec![(lb.origin().clone(), place)] };
    let skip_route_check = SkipRouteCheck::Of(BTreeSet::new());
    let config = Config { lb: vec![lb], lb_verify, skip_route_check, ..crate::testing::config() };
    let mut case = Case::made(&config, hosts, &doors);
    case.start("a.org", "a.org");
    case.start("b.org", "b.org");
    for place in ["verified.test at 10.3.0.1:80", "acme.test at 10.5.0.1:443"] {
        assert!(case.asked.contains(&place.to_string()), "{:?}", case.asked);
    }
    assert_eq!(case.said(), Vec::<String>::new());
}

#[test]
fn load_balancers_stay_known_while_they_are_looked_up_again() {
    let hosts = "9.0.0.1 a.org, 10.1.0.1 lb.test, 10.1.0.1 balanced.test";
    let mut case = Case::new(hosts, &[("9.0.0.1", ListenerKind::Onward("http://balanced.test"))]);
    case.start("a.org", "a.org");
    case.wire.hosts = hosts.replace(", ", "\n").replace("10.1.0.1 lb.test", "");
    case.pass(SECOND * 300);
    case.start("a.org", "a.org");
    case.pass(ANSWER_TIMEOUT);
    assert_eq!(case.said(), Vec::<String>::new());
}

#[test]
fn a_domains_own_private_address_is_asked_and_told_without_its_words() {
    let hosts = "10.7.0.1 a.org, 127.0.0.1 b.org, ::1 b.org, 10.1.0.1 lb.test";
    let mut case = Case::new(hosts, &[("10.7.0.1", ListenerKind::Status(401))]);
    case.start("a.org", "a.org");
    case.start("b.org", "b.org");
    let expected = ["a.org at 10.7.0.1:80", "a.org at 10.1.0.1:80", "b.org at 10.1.0.1:80"];
    assert_eq!(case.asked, expected);
    let local = "error=the address is local to this machine or its link, so it was not asked";
    let expected = [
        "name=a.org address=10.7.0.1 error=another server answers".to_string(),
        format!("name=b.org address=127.0.0.1,::1 {local}"),
    ];
    assert_eq!(case.said(), expected.map(|it| format!("{ASTRAY}: {it}")));
}

#[test]
fn a_redirect_to_https_is_followed_at_the_same_address() {
    let doors = [
        ("9.0.0.1", ListenerKind::Onward("https://a.org")),
        ("10.1.0.1", ListenerKind::Onward("https://a.org")),
    ];
    let mut case = Case::new(HOSTS, &doors);
    case.start("a.org", "a.org");
    for place in ["a.org at 9.0.0.1:443", "a.org at 10.1.0.1:443"] {
        assert!(case.asked.contains(&place.to_string()), "{:?}", case.asked);
    }
    assert_eq!(case.said(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_reached_at_a_redirects_first_address_may_be_at_the_next() {
    let hosts = "9.0.0.1 a.org, 9.2.0.1 acme.test, 2600::2 acme.test, 10.1.0.1 lb.test";
    let mut case = Case::new(hosts, &[("9.0.0.1", ListenerKind::Onward("http://acme.test"))]);
    case.wire.refusing.insert(ip("2600::2"));
    case.start("a.org", "a.org");
    assert!(case.asked.contains(&"acme.test at 9.2.0.1:80".to_string()), "{:?}", case.asked);
    assert_eq!(case.said(), Vec::<String>::new());
}

#[test]
fn a_load_balancer_without_port_80_is_said_once_for_all_domains() {
    let mut case = Case::new(HOSTS, &[]);
    case.wire.refusing.insert(ip("10.1.0.2"));
    case.start("a.org", "a.org");
    case.start("b.org", "b.org");
    let expected =
        "a load balancer takes no challenges: lb=10.1.0.2 error=nobody listens on port 80";
    assert_eq!(case.said(), [expected]);
    let found = [("10.1.0.2".to_string(), Some(Hint::PortClosed))];
    assert_eq!((case.findings("a.org"), case.findings("b.org")), (found.to_vec(), found.to_vec()));
    case.pass(SECOND * 300);
    case.start("a.org", "a.org");
    assert_eq!(case.said(), Vec::<String>::new());
    case.pass(SECOND * 300);
    case.start("a.org", "a.org");
    assert_eq!(case.said(), [expected]);
    case.wire.refusing.clear();
    case.pass(SECOND * 61);
    case.start("a.org", "a.org");
    assert_eq!((case.said(), case.findings("a.org")), (vec![], vec![]));
}

#[test]
fn an_address_that_is_a_load_balancers_too_is_said_once_as_well() {
    let hosts = "10.1.0.1 lb.test, 10.1.0.1 a.org, 10.1.0.1 b.org";
    let mut case = Case::new(hosts, &[]);
    case.wire.refusing.insert(ip("10.1.0.1"));
    case.start("a.org", "a.org");
    case.start("b.org", "b.org");
    let expected =
        "a load balancer takes no challenges: lb=10.1.0.1 error=nobody listens on port 80";
    assert_eq!(case.said(), [expected]);
    let found = [("10.1.0.1".to_string(), Some(Hint::PortClosed))];
    assert_eq!((case.findings("a.org"), case.findings("b.org")), (found.to_vec(), found.to_vec()));
}

#[test]
fn the_addresses_of_a_domain_are_said_for_each() {
    let mut case = Case::new(HOSTS, &[]);
    case.wire.refusing.insert(ip("9.0.0.1"));
    case.start("a.org", "a.org");
    case.start("b.org", "b.org");
    let words = "address=9.0.0.1 error=nobody listens on port 80";
    assert_eq!(case.said(), ["a.org", "b.org"].map(|it| format!("{ASTRAY}: name={it} {words}")));
}

#[test]
fn a_name_without_addresses_is_advice_and_the_load_balancers_are_asked_all_the_same() {
    let mut case = Case::new("10.1.0.1 lb.test", &[]);
    case.start("a.org", "a.org");
    case.pass(ANSWER_TIMEOUT);
    assert_eq!(case.asked, ["a.org at 10.1.0.1:80"]);
    let expected = format!("{ASTRAY}: name=a.org error=its name was not resolved within 10.0s");
    assert_eq!(case.said(), [expected]);
    assert_eq!(case.findings("a.org"), [(String::new(), Some(Hint::Resolver))]);
}

#[test]
fn a_thousand_domains_take_turns_and_those_that_are_issued_leave() {
    let mut hosts = "10.1.0.1 lb.test, 10.1.0.2 lb.test".to_string();
    (0..1000).for_each(|at| hosts.push_str(&format!(", 9.0.0.1 d{at}.org, 9.0.0.2 d{at}.org")));
    let mut case = Case::new(&hosts, &[("9.0.0.1", ListenerKind::Silent)]);
    for at in 0..1000 {
        case.start(&format!("d{at}.org"), &format!("d{at}.org"));
    }
    assert_eq!((case.at_once, case.routes.open.len()), (IN_FLIGHT_MAX, IN_FLIGHT_MAX));
    let before = case.asked.len();
    // Every second one is issued before its turn has come, and so are those that wait for the silent.
    for at in (0..1000).filter(|at| at % 2 == 1 || *at < 16) {
        case.forget(&format!("d{at}.org"));
    }
    assert_eq!(case.routes.open.len(), IN_FLIGHT_MAX);
    for _ in 0..40 {
        case.pass(ANSWER_TIMEOUT);
    }
    assert!(case.routes.open.is_empty() && case.routes.waiting.is_empty());
    let asked = &case.asked[before..];
    assert!(!asked.iter().any(|it| it.starts_with("d999.org")), "it is issued");
    assert!(asked.iter().any(|it| it.starts_with("d998.org at 10.1.0.2")));
    assert_eq!((case.at_once, case.findings("d998.org").len()), (IN_FLIGHT_MAX, 1));
}

#[test]
fn no_domain_is_asked_for_at_more_than_so_many_addresses() {
    let own: Vec<String> = (1..=30).map(|at| format!("9.0.0.{at} a.org")).collect();
    let mut case = Case::new(&format!("{}, 10.1.0.1 lb.test", own.join(", ")), &[]);
    case.start("a.org", "a.org");
    assert_eq!(case.asked.len(), ADDRESSES_MAX);
}

#[test]
fn what_was_seen_is_said_when_the_certificate_comes_first() {
    let doors = [("9.0.0.1", ListenerKind::Status(404)), ("9.0.0.2", ListenerKind::Silent)];
    let mut case = Case::new(HOSTS, &doors);
    case.start("a.org", "a.org");
    assert_eq!((case.said(), case.findings("a.org")), (vec![], vec![]), "it may be more");
    case.forget("a.org");
    let words = "address=9.0.0.1 error=another server answers, status 404";
    assert_eq!(case.said(), [format!("{ASTRAY}: name=a.org {words}")]);
    assert!(case.routes.open.is_empty());
    case.pass(ANSWER_TIMEOUT);
    assert_eq!(case.said(), Vec::<String>::new());
}

#[test]
fn what_was_seen_is_said_at_the_end() {
    let doors = [("9.0.0.1", ListenerKind::Status(404)), ("9.0.0.2", ListenerKind::Silent)];
    let mut case = Case::new(HOSTS, &doors);
    case.start("a.org", "a.org");
    case.routes.conclude(&mut case.wire.bench.cx());
    let words = "address=9.0.0.1 error=another server answers, status 404";
    assert_eq!(case.said(), [format!("{ASTRAY}: name=a.org {words}")]);
}

#[test]
fn who_is_left_to_the_ca_is_not_even_looked_up() {
    let mut case = Case::of(SkipRouteCheck::All, HOSTS, &[]);
    case.start("a.org", "a.org b.org");
    assert!(case.wire.client.poll_output().is_none() && case.asked.is_empty());
    assert!(case.routes.trials.is_empty() && case.wire.client.poll_timeout().is_none());
    let one = SkipRouteCheck::Of(BTreeSet::from([name("a.org")]));
    let mut case = Case::of(one, HOSTS, &[]);
    case.start("a.org", "a.org b.org");
    assert!(!case.asked.is_empty() && case.asked.iter().all(|it| it.starts_with("b.org")));
}

#[test]
fn certificates_that_nobody_wants_are_forgotten() {
    let mut case = Case::new(HOSTS, &[("9.0.0.1", ListenerKind::Status(404))]);
    case.start("a.org", "a.org");
    case.start("b.org", "b.org");
    let Case { wire, routes, .. } = &mut case;
    let keep = |it: &Domain| it.as_str() == "b.org";
    routes.retain(&mut wire.bench.cx(), &mut wire.client, keep);
    assert_eq!((case.findings("a.org").len(), case.findings("b.org").len()), (0, 1));
}
