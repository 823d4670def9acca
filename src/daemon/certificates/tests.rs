//! What is wanted, stored and due: wishes and outcomes in, orders and writes out.

use stand_ins::Time;
use stand_ins::pki::{Pki, pem};
use stand_ins::random::Random;
use stand_ins::seeded::Signer;

use super::*;
use crate::acme::call::CallError;
use crate::acme::types::{Problem, ProblemKind};
use crate::testing::Bench;

const DAY: Duration = minutes(24 * 60);

/// The certificates, and a CA that issues what a test wants.
struct Case {
    bench: Bench,
    certificates: Certificates,
    pki: Pki,
    random: Random,
}

fn name(text: &str) -> Domain {
    Domain::parse(text).expect("a test's name is one")
}

fn source(version: &str) -> Source {
    Source { app: "/app".into(), version: version.into() }
}

impl Case {
    fn new() -> Case {
        let bench = Bench::new();
        let pki = Pki::new(1, "Test", time(bench.now));
        Case { bench, certificates: Certificates::default(), pki, random: Random::new(2) }
    }

    /// A certificate file for names, as it would lie in `certs/`.
    fn file(&mut self, names: &[&str], days: u32) -> (Secret, String) {
        let key = Signer::draw(&mut self.random);
        let names: Vec<_> = names.iter().map(|name| (*name).to_string()).collect();
        let names = rcgen::CertificateParams::new(names).unwrap().subject_alt_names;
        let now = time(self.bench.now);
        let leaf = self.pki.issue(&key, &names, now, days * 24 * 60 * 60).unwrap();
        (Secret::new(pem("PRIVATE KEY", &key.pkcs8_der())), leaf.chain_pem)
    }

    /// One that is whole.
    fn stored(&mut self, names: &[&str], days: u32) -> Secret {
        let (key, chain) = self.file(names, days);
        Secret::new(format!("{}{chain}", key.expose()))
    }

    fn want(&mut self, wishes: &[(&str, &str)]) -> Vec<String> {
        let wanted = wishes.iter().map(|(domain, version)| (name(domain), source(version)));
        self.certificates.want(&mut self.bench.turn(), &wanted.collect());
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.certificates.poll_output())
            .map(|output| match output {
                CertificatesOutput::Read(name) => format!("read {name}"),
                CertificatesOutput::Order(OrderId(id), names) => {
                    let names: Vec<&str> = names.iter().map(Domain::as_str).collect();
                    format!("order {id} {}", names.join(" "))
                }
                CertificatesOutput::Write(name, _) => format!("write {name}"),
                CertificatesOutput::Archive(name) => format!("archive {name}"),
                CertificatesOutput::Changed => "changed".into(),
            })
            .collect()
    }

    fn fail(&mut self, id: u64, retry_after: Option<Duration>) -> Vec<String> {
        let problem = Problem {
            kind: ProblemKind::RateLimited,
            name: "rateLimited".into(),
            detail: "later".into(),
            subproblems: Vec::new(),
        };
        let error = OrderError::Call(CallError::Problem { problem, status: 429, retry_after });
        self.certificates.finished(&mut self.bench.turn(), OrderId(id), Err(error));
        self.outputs()
    }

    fn issue(&mut self, id: u64, domain: &str, days: u32) -> Vec<String> {
        let (key, chain_pem) = self.file(&[domain], days);
        let issued = Issued { names: vec![name(domain)], key, chain_pem, replaced: None };
        self.certificates.finished(&mut self.bench.turn(), OrderId(id), Ok(issued));
        self.outputs()
    }

    fn unreadable(&mut self, domain: &str, kind: StoreErrorKind) {
        let error = StoreError { kind, path: "x".into(), detail: "of a test".into() };
        self.certificates.read(&mut self.bench.turn(), &name(domain), Err(error));
    }

    fn written(&mut self, domain: &str) -> Vec<String> {
        self.certificates.written(&mut self.bench.turn(), &name(domain), Ok(()));
        self.outputs()
    }

    /// How long it sleeps by itself until it orders something.
    fn sleep_until_order(&mut self) -> (Duration, Vec<String>) {
        let begin = self.bench.now.mono;
        for _ in 0..100_000 {
            let at = self.certificates.poll_timeout(self.bench.now).expect("something is due");
            self.bench.pass(at.since(self.bench.now.mono));
            self.certificates.handle_timeout(&mut self.bench.turn());
            let outputs = self.outputs();
            if !outputs.is_empty() {
                return (self.bench.now.mono.since(begin), outputs);
            }
        }
        panic!("nothing became of it")
    }
}

fn time(now: Now) -> Time {
    Time { mono_ms: 0, unix_ms: now.wall.as_millis() }
}

#[test]
fn a_wish_is_ordered_stored_and_told_once() {
    let mut case = Case::new();
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"]);
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
    assert_eq!(case.certificates.counts(case.bench.now.wall).pending, 1);
    assert_eq!(case.issue(0, "a.org", 90), ["write a.org"]);
    assert_eq!(case.written("a.org"), ["changed"]);
    assert_eq!(case.want(&[("a.org", "2")]), Vec::<String>::new(), "a new version orders nothing");
    assert_eq!(case.certificates.counts(case.bench.now.wall).valid, 1);
}

#[test]
fn a_third_of_the_lifetime_is_left_or_half_of_a_short_one() {
    for (days, earliest, latest) in [(90, 59, 60), (45, 29, 30), (6, 2, 3), (10, 4, 5)] {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        case.issue(0, "a.org", days);
        case.written("a.org");
        let (pause, outputs) = case.sleep_until_order();
        assert_eq!(outputs, ["order 1 a.org"]);
        // The certificate is dated an hour back.
        assert!(pause >= DAY * earliest - minutes(60), "{days}: {pause:?}");
        assert!(pause <= DAY * latest, "{days}: {pause:?}");
    }
}

#[test]
fn failures_come_back_ever_later() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    for (failures, pause) in RETRY_PAUSES.into_iter().chain([minutes(720)]).enumerate() {
        case.fail(failures as u64, None);
        assert_eq!(case.certificates.failing(), 1);
        let (slept, outputs) = case.sleep_until_order();
        assert_eq!(outputs, [format!("order {} a.org", failures + 1)]);
        let range = pause * 3 / 4..=pause * 5 / 4 + Duration::from_secs(1);
        assert!(range.contains(&slept), "{slept:?} for {pause:?}");
    }
    case.issue(7, "a.org", 90);
    case.written("a.org");
    assert_eq!(case.certificates.failing(), 0);
}

#[test]
fn an_operators_act_makes_it_due_but_never_inside_a_retry_after() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.fail(0, None);
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
    assert_eq!(case.want(&[("a.org", "2")]), ["order 1 a.org"]);
    case.fail(1, Some(minutes(120)));
    assert_eq!(case.want(&[("a.org", "3")]), Vec::<String>::new());
    let (slept, _) = case.sleep_until_order();
    assert!((minutes(119)..=minutes(121)).contains(&slept), "{slept:?}");
}

#[test]
fn one_that_fails_delays_no_other() {
    let mut case = Case::new();
    assert_eq!(case.want(&[("a.org", "1"), ("b.org", "1")]), ["order 0 a.org", "order 1 b.org"]);
    case.fail(0, Some(minutes(10_000)));
    assert_eq!(case.issue(1, "b.org", 90), ["write b.org"]);
}

#[test]
fn what_no_app_wants_is_not_renewed_and_comes_back_without_an_order() {
    let mut case = Case::new();
    case.want(&[("a.org", "1"), ("b.org", "1")]);
    case.issue(0, "a.org", 90);
    case.written("a.org");
    case.fail(1, None);
    assert_eq!(case.want(&[]), Vec::<String>::new());
    assert_eq!(case.bench.logged("domain is no longer wanted"), 2);
    case.bench.pass(DAY * 80);
    case.certificates.handle_timeout(&mut case.bench.turn());
    assert_eq!(case.outputs(), Vec::<String>::new());
    assert_eq!(case.certificates.poll_timeout(case.bench.now), None, "nothing wakes it up");
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.issue(0, "a.org", 90);
    case.written("a.org");
    case.want(&[]);
    assert_eq!(case.want(&[("a.org", "2")]), Vec::<String>::new(), "it is still stored and valid");
}

#[test]
fn an_order_whose_wish_is_gone_is_stored_all_the_same() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.want(&[]);
    assert_eq!(case.issue(0, "a.org", 90), ["write a.org"]);
    assert_eq!(case.written("a.org"), ["changed"]);
}

#[test]
fn files_that_are_there_are_read_one_by_one_before_anything_is_ordered() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org"), name("b.org")]);
    assert_eq!(case.outputs(), ["read a.org"]);
    assert_eq!(case.want(&[("a.org", "1"), ("b.org", "1")]), Vec::<String>::new());
    let good = case.stored(&["a.org"], 90);
    case.certificates.read(&mut case.bench.turn(), &name("a.org"), Ok(good));
    assert_eq!(case.outputs(), ["read b.org"]);
    let expiring = case.stored(&["b.org"], 90);
    case.bench.pass(DAY * 80);
    case.certificates.read(&mut case.bench.turn(), &name("b.org"), Ok(expiring));
    case.certificates.handle_timeout(&mut case.bench.turn());
    assert_eq!(case.outputs(), ["order 0 a.org", "order 1 b.org"], "both are past their renewal");
}

#[test]
fn damaged_files_go_to_the_archive_and_are_ordered_anew() {
    let mut case = Case::new();
    let (key, _) = case.file(&["a.org"], 90);
    let (_, foreign_chain) = case.file(&["a.org"], 90);
    let whole = case.stored(&["a.org"], 90);
    let cut = &whole.expose()[..whole.expose().len() / 2];
    let damaged = [
        Secret::new(format!("{}{foreign_chain}", key.expose())),
        Secret::new(cut.to_string()),
        Secret::new(String::new()),
    ];
    for file in damaged {
        case.certificates = Certificates::default();
        case.certificates.found(vec![name("a.org")]);
        case.want(&[("a.org", "1")]);
        case.certificates.read(&mut case.bench.turn(), &name("a.org"), Ok(file));
        case.certificates.handle_timeout(&mut case.bench.turn());
        assert_eq!(case.outputs(), ["archive a.org", "order 0 a.org"]);
    }
}

#[test]
fn a_whole_file_for_another_name_stays_until_its_successor_comes() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org")]);
    case.want(&[("a.org", "1")]);
    let other_name = case.stored(&["b.org"], 90);
    case.certificates.read(&mut case.bench.turn(), &name("a.org"), Ok(other_name));
    case.certificates.handle_timeout(&mut case.bench.turn());
    assert_eq!(case.outputs(), ["order 0 a.org"], "and nothing is archived");
}

#[test]
fn a_file_that_cannot_be_read_is_read_again_and_not_replaced() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org")]);
    case.want(&[("a.org", "1")]);
    for _ in 0..3 {
        case.unreadable("a.org", StoreErrorKind::Io);
        let (slept, outputs) = case.sleep_until_order();
        assert_eq!(outputs, ["read a.org"]);
        assert!(slept > READ_PAUSE / 2 && slept < READ_PAUSE * 2, "{slept:?}");
    }
    case.unreadable("a.org", StoreErrorKind::Missing);
    case.certificates.handle_timeout(&mut case.bench.turn());
    assert_eq!(case.outputs(), ["order 0 a.org"]);
}

#[test]
fn a_file_that_cannot_be_read_holds_up_no_other() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org"), name("b.org"), name("c.org")]);
    assert_eq!(case.outputs(), ["read a.org"]);
    case.unreadable("a.org", StoreErrorKind::NotWritable);
    assert_eq!(case.outputs(), ["read b.org"]);
    case.unreadable("b.org", StoreErrorKind::NotWritable);
    assert_eq!(case.outputs(), ["read c.org"]);
    case.bench.pass(READ_PAUSE * 2);
    case.certificates.handle_timeout(&mut case.bench.turn());
    assert_eq!(case.outputs(), Vec::<String>::new(), "they wait until the third has been read");
    let good = case.stored(&["c.org"], 90);
    case.certificates.read(&mut case.bench.turn(), &name("c.org"), Ok(good));
    assert_eq!(case.outputs().len(), 1, "one of the two");
}

#[test]
fn a_file_too_long_for_a_certificate_goes_to_the_archive() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org")]);
    assert_eq!(case.outputs(), ["read a.org"]);
    case.unreadable("a.org", StoreErrorKind::Malformed);
    assert_eq!(case.outputs(), ["archive a.org"]);
}

#[test]
fn a_certificate_that_the_disk_does_not_take_is_kept_and_written_again() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.issue(0, "a.org", 90);
    let full = StoreError { kind: StoreErrorKind::Full, path: "x".into(), detail: "full".into() };
    case.certificates.written(&mut case.bench.turn(), &name("a.org"), Err(full));
    assert_eq!(case.want(&[("a.org", "2")]), Vec::<String>::new(), "no second order");
    case.certificates.stop(&mut case.bench.turn());
    assert_eq!(case.outputs(), ["write a.org"], "a process that ends tries it once more");
    let (_, outputs) = case.sleep_until_order();
    assert_eq!(outputs, ["write a.org"]);
    assert_eq!(case.written("a.org"), ["changed"]);
}

#[test]
fn what_the_ca_gives_is_checked_before_it_is_stored() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    let (key, _) = case.file(&["a.org"], 90);
    let (_, chain_pem) = case.file(&["a.org"], 90);
    let issued = Issued { names: vec![name("a.org")], key, chain_pem, replaced: None };
    case.certificates.finished(&mut case.bench.turn(), OrderId(0), Ok(issued));
    assert_eq!(case.outputs(), Vec::<String>::new());
    assert_eq!(case.certificates.failing(), 1);
    let (_, outputs) = case.sleep_until_order();
    assert_eq!(outputs, ["order 1 a.org"]);
    let (key, chain_pem) = case.file(&["other.org"], 90);
    let issued = Issued { names: vec![name("a.org")], key, chain_pem, replaced: None };
    case.certificates.finished(&mut case.bench.turn(), OrderId(1), Ok(issued));
    assert_eq!(case.outputs(), Vec::<String>::new());
}

#[test]
fn a_wall_clock_that_jumps_is_noticed_within_the_hour() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.issue(0, "a.org", 90);
    case.written("a.org");
    let at = case.certificates.poll_timeout(case.bench.now).unwrap();
    assert!(at.since(case.bench.now.mono) <= SLEEP_MAX);
    case.bench.now.wall = case.bench.now.wall.plus(DAY * 70);
    case.certificates.handle_timeout(&mut case.bench.turn());
    assert_eq!(case.outputs(), ["order 1 a.org"]);
}
