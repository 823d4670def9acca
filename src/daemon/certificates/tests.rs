//! What is wanted, stored and due: desired certificates and outcomes in, orders and writes out.

use crate::log::message;
use stand_ins::Time;
use stand_ins::pki::{Pki, pem};
use stand_ins::random::Random;
use stand_ins::seeded::Signer;

use super::*;
use crate::acme::call::CallError;
use crate::acme::order::Refusal;
use crate::acme::types::{Problem, ProblemKind};
use crate::daemon::budget::OrderKind;
use crate::daemon::model::{
    AppChanges, DesiredCertificate, Issued, OrderError, Resume, Source, pause_after,
};

use crate::keys::CertificateRequest;
use crate::machine::{StoreError, StoreErrorKind};
use crate::testing::{Bench, config};
use crate::url::Url;

mod advice;
mod cancelling;
mod changed;
mod clock;
mod lifetimes;
mod limits;
mod memory;
mod names;
mod pacing;
mod pauses;
mod reading;
mod states;
mod trial;

use std::time::Duration;

const DAY: Duration = minutes(24 * 60);

/// The certificates, and a CA that issues what a test wants.
struct Case {
    bench: Bench,
    certificates: Certificates,
    pki: Pki,
    random: Random,
    /// Whether the disk takes what is remembered.
    disk_works: bool,
    revisions: u64,
    /// The certificates and names whose routes were to be tried.
    tried: Vec<String>,
}

fn name(text: &str) -> Domain {
    Domain::parse(text).expect("a test's name is one")
}

fn names(list: &str) -> Vec<Domain> {
    list.split(' ').map(name).collect()
}

fn source(version: &str) -> Source {
    Source { app: "/app".into(), version: version.into() }
}

fn problem(kind: ProblemKind, detail: &str) -> Problem {
    Problem { name: kind.name().into(), detail: detail.into(), subproblems: Vec::new() }
}

impl Case {
    fn new() -> Case {
        Case::of(&config())
    }

    fn of(config: &Config) -> Case {
        let mut bench = Bench::new();
        let pki = Pki::new(1, "Test", time(bench.now));
        let mut certificates = Certificates::new(config);
        certificates.clock_compared(&mut bench.cx(), 0);
        let (random, tried) = (Random::new(2), Vec::new());
        Case { bench, certificates, pki, random, disk_works: true, revisions: 0, tried }
    }

    fn remembered(&self) -> BTreeMap<Domain, CertificateState> {
        self.certificates
            .memory(None)
            .map(|(name, memory)| (name.clone(), memory.clone()))
            .collect()
    }

    /// The same storage and memory, and a new process.
    fn restart(&mut self, config: &Config, files: &[(&str, Secret)]) {
        let (memory, now) = (self.remembered(), self.bench.now.wall);
        let budget = self.certificates.budget(now);
        self.certificates = Certificates::new(config);
        self.certificates.clock_compared(&mut self.bench.cx(), 0);
        self.certificates.restore(&mut self.bench.cx(), memory, budget);
        self.certificates.found(files.iter().map(|(domain, _)| name(domain)).collect());
        for (domain, file) in files {
            self.certificates.read(&mut self.bench.cx(), &name(domain), Ok(file.clone()));
        }
        while self.certificates.poll_output().is_some() {}
    }

    /// A certificate file for names, as it would lie in `certs/`.
    fn file(&mut self, names: &[Domain], days: u32) -> (Secret, String) {
        let key = Signer::draw(&mut self.random);
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let names = rcgen::CertificateParams::new(names).unwrap().subject_alt_names;
        let now = time(self.bench.now);
        let leaf = self.pki.issue(&key, &names, now, days * 24 * 60 * 60).unwrap();
        (Secret::new(pem("PRIVATE KEY", &key.pkcs8_der())), leaf.chain_pem)
    }

    /// One that is whole.
    fn stored(&mut self, list: &str, days: u32) -> Secret {
        let (key, chain) = self.file(&names(list), days);
        Secret::new(format!("{}{chain}", key.expose()))
    }

    /// Each desired certificate is a list of names and the version of its app.
    fn want(&mut self, desired: &[(&str, &str)]) -> Vec<String> {
        let desired = desired.iter().map(|(list, version)| {
            let names = names(list);
            (names[0].clone(), DesiredCertificate { names, source: source(version) }.into())
        });
        self.want_all(&desired.collect())
    }

    /// The same, until everything that follows from it at once is done.
    fn want_all(&mut self, desired: &DesiredCertificates) -> Vec<String> {
        self.certificates.want(&mut self.bench.cx(), desired);
        let mut outputs = self.outputs();
        let now = self.bench.now;
        let mut steps = crate::testing::Steps::default();
        while self.certificates.poll_timeout(now).is_some_and(|at| at <= now.mono) {
            steps.count();
            outputs.extend(self.wake());
        }
        outputs
    }

    /// Writes the memory where something waits for it, as the daemon does.
    fn save(&mut self) {
        if self.certificates.take_unsaved() == Some(Urgency::Now) {
            self.revisions += 1;
            self.certificates.recording(self.revisions);
            let error = StoreError {
                kind: StoreErrorKind::Full,
                path: "state.json".into(),
                detail: "full".into(),
            };
            let result = if self.disk_works { Ok(()) } else { Err(&error) };
            self.certificates.recorded(&mut self.bench.cx(), self.revisions, result);
        }
    }

    /// What it wants, as to an issuer that always has room.
    fn outputs(&mut self) -> Vec<String> {
        let (mut queued, mut shown) = (BTreeMap::new(), Vec::new());
        let mut steps = crate::testing::Steps::default();
        loop {
            steps.count();
            self.save();
            let Some(output) = self.certificates.poll_output() else { return shown };
            match output {
                CertificatesOutput::Order(new) if new.resume.is_none() => {
                    let order = new.order;
                    queued.insert(order, show(&CertificatesOutput::Order(new)));
                    self.certificates.begins(&mut self.bench.cx(), order);
                }
                CertificatesOutput::Begin { order, replaces } => {
                    let replacing = if replaces.is_some() { " replacing" } else { "" };
                    let order = queued.remove(&order);
                    shown.extend(order.map(|order| format!("{order}{replacing}")));
                }
                CertificatesOutput::Cancel(_)
                | CertificatesOutput::Kept(_)
                | CertificatesOutput::AskTime => {}
                CertificatesOutput::TryRoutes(..) => {
                    assert!(!queued.is_empty(), "it comes before its order begins");
                    self.tried.push(show(&output));
                }
                output => shown.push(show(&output)),
            }
        }
    }

    fn states(&self) -> Vec<State> {
        self.certificates.views().map(|view| view.state(self.bench.now.wall)).collect()
    }

    /// Lets what is due happen.
    fn wake(&mut self) -> Vec<String> {
        self.certificates.handle_timeout(&mut self.bench.cx());
        self.outputs()
    }

    fn end(&mut self, id: u64, error: OrderError) -> Vec<String> {
        self.certificates.finished(&mut self.bench.cx(), OrderId(id), Err(error));
        self.certificates.handle_timeout(&mut self.bench.cx());
        self.outputs()
    }

    fn fail(&mut self, id: u64, retry_after: Option<Duration>) -> Vec<String> {
        let problem = problem(ProblemKind::RateLimited, "later");
        self.end(id, OrderError::Call(CallError::Problem { problem, status: 429, retry_after }))
    }

    /// The CA has made this order.
    fn place(&mut self, id: u64, url: &str) {
        let (key, csr) = (Secret::new("the key".into()), b"the request".to_vec());
        let certificate = Some(CertificateRequest { key, csr });
        let resume = Resume { url: Url::parse(url).unwrap(), certificate };
        self.certificates.placed(&self.bench.cx(), OrderId(id), resume);
    }

    /// The CA could not validate these names.
    fn refuse(&mut self, id: u64, list: &str) -> Vec<String> {
        self.place(id, "https://ca.example/order/1");
        let refusals = list.split(' ').map(|name| Refusal {
            identifier: Some(name.to_string()),
            problem: Some(problem(ProblemKind::Connection, "nobody there")),
        });
        self.end(id, OrderError::Invalid { refusals: refusals.collect() })
    }

    fn issue_replacing(
        &mut self,
        id: u64,
        list: &str,
        days: u32,
        replaced: Option<String>,
    ) -> Vec<String> {
        let names = names(list);
        let (key, chain_pem) = self.file(&names, days);
        let issued = Issued { names, key, chain_pem, replaced, told_time: None };
        self.certificates.finished(&mut self.bench.cx(), OrderId(id), Ok(issued));
        self.outputs()
    }

    fn issue(&mut self, id: u64, list: &str, days: u32) -> Vec<String> {
        self.issue_replacing(id, list, days, None)
    }

    /// Issued and on the disk.
    fn obtain(&mut self, id: u64, list: &str, days: u32) {
        let first = list.split(' ').next().unwrap_or_default().to_string();
        assert_eq!(self.issue(id, list, days), [format!("write {first}")]);
        assert_eq!(self.written(&first), ["changed"]);
    }

    fn unreadable(&mut self, domain: &str, kind: StoreErrorKind) {
        let error = StoreError { kind, path: "x".into(), detail: "of a test".into() };
        self.certificates.read(&mut self.bench.cx(), &name(domain), Err(error));
    }

    fn written(&mut self, domain: &str) -> Vec<String> {
        self.certificates.written(&mut self.bench.cx(), &name(domain), Ok(()));
        self.outputs()
    }

    /// As if the changes of the app so far had been long ago.
    fn forget_changes(&mut self) {
        for entry in self.certificates.entries.values_mut() {
            entry.memory.troubles_mut().for_each(|it| it.app_changes = AppChanges::default());
        }
    }

    /// How long it sleeps by itself until it does something.
    fn sleep(&mut self) -> (Duration, Vec<String>) {
        let begin = self.bench.now.mono;
        for _ in 0..100_000 {
            let at = self.certificates.poll_timeout(self.bench.now).expect("something is due");
            self.bench.pass(at.since(self.bench.now.mono));
            let outputs = self.wake();
            if !outputs.is_empty() {
                return (self.bench.now.mono.since(begin), outputs);
            }
        }
        panic!("nothing became of it")
    }

    fn next(&self, domain: &str) -> Option<Next> {
        self.certificates.plan().find(|planned| planned.name == name(domain))?.next
    }
}

fn show(output: &CertificatesOutput) -> String {
    match output {
        CertificatesOutput::Read(name) => format!("read {name}"),
        CertificatesOutput::Order(new) => {
            let names: Vec<&str> = new.names.iter().map(Domain::as_str).collect();
            let resume = new.resume.as_ref().map_or(String::new(), |it| format!(" by {}", it.url));
            format!("order {} {}{resume}", new.order.0, names.join(" "))
        }
        CertificatesOutput::TryRoutes(name, domains) => {
            let domains: Vec<&str> = domains.iter().map(Domain::as_str).collect();
            format!("{name}: {}", domains.join(" "))
        }
        CertificatesOutput::Begin { order, .. } => format!("begin {}", order.0),
        CertificatesOutput::Kept(order) => format!("kept {}", order.0),
        CertificatesOutput::Cancel(order) => format!("cancel {}", order.0),
        CertificatesOutput::Ask { name, .. } => format!("ask {name}"),
        CertificatesOutput::Write(name, _) => format!("write {name}"),
        CertificatesOutput::Archive(name) => format!("archive {name}"),
        CertificatesOutput::Reject(name, _, reason) => format!("reject {name}: {reason}"),
        CertificatesOutput::AskTime => "ask the time".into(),
        CertificatesOutput::NamesMax(max) => format!("at most {max} names"),
        CertificatesOutput::Changed(_) => "changed".into(),
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
    assert_eq!(case.states(), [State::Pending]);
    case.obtain(0, "a.org", 90);
    assert_eq!(case.want(&[("a.org", "2")]), Vec::<String>::new(), "a new version orders nothing");
    assert_eq!(case.states(), [State::Valid]);
    assert_eq!(case.certificates.order_counts(), OrderCounts { issued: 1, failed: 0 });
}

#[test]
fn a_third_of_the_lifetime_is_left_or_half_of_a_short_one() {
    for (days, earliest, latest) in [(90, 59, 60), (45, 29, 30), (6, 2, 3), (10, 4, 5)] {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        case.issue(0, "a.org", days);
        case.written("a.org");
        let (pause, outputs) = case.sleep();
        assert_eq!(outputs, ["order 1 a.org"]);
        // The certificate is dated an hour back.
        assert!(pause >= DAY * earliest - minutes(60), "{days}: {pause:?}");
        assert!(pause <= DAY * latest, "{days}: {pause:?}");
    }
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
    let (slept, _) = case.sleep();
    assert!((minutes(119)..=minutes(121)).contains(&slept), "{slept:?}");
}

#[test]
fn scaling_an_app_makes_nothing_due() {
    let mut case = Case::new();
    case.want(&[("a.org", "1/2/C")]);
    case.fail(0, None);
    assert_eq!(case.want(&[("a.org", "2/3/C")]), Vec::<String>::new());
    assert_eq!(case.want(&[("a.org", "3/2/C")]), Vec::<String>::new());
    assert_eq!(case.want(&[("a.org", "4/2/C")]), ["order 1 a.org"], "a restart does");
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
    assert_eq!(case.bench.logged(message::DOMAIN_UNWANTED), 2);
    case.bench.pass(DAY * 80);
    assert_eq!(case.wake(), Vec::<String>::new());
    assert_eq!(case.next("a.org").map(|next| next.task), Some(Task::Archive), "and only that");
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
fn a_certificate_that_the_disk_does_not_take_is_kept_and_written_again() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.issue(0, "a.org", 90);
    let full = StoreError { kind: StoreErrorKind::Full, path: "x".into(), detail: "full".into() };
    case.certificates.written(&mut case.bench.cx(), &name("a.org"), Err(full));
    assert_eq!(case.want(&[("a.org", "2")]), Vec::<String>::new(), "no second order");
    case.certificates.stop(&mut case.bench.cx());
    assert_eq!(case.outputs(), ["write a.org"], "a process that ends tries it once more");
    let (_, outputs) = case.sleep();
    assert_eq!(outputs, ["write a.org"]);
    assert_eq!(case.written("a.org"), ["changed"]);
}

#[test]
fn a_file_that_cannot_be_written_is_a_failure_of_its_certificate() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.issue(0, "a.org", 90);
    let odd = StoreErrorKind::NotAFile;
    let error = || StoreError { kind: odd, path: "certs/a.org.pem".into(), detail: "odd".into() };
    for refusals in 1..=3 {
        case.certificates.written(&mut case.bench.cx(), &name("a.org"), Err(error()));
        let memory = case.remembered();
        let trouble = memory[&name("a.org")].trouble.as_ref().expect("it is remembered");
        assert_eq!((trouble.failures, case.certificates.failing()), (1, 1), "once an order");
        assert_eq!(&*trouble.error, "it cannot be stored: certs/a.org.pem: odd");
        // A run that ends by itself does not wait for it without end.
        assert_eq!(case.certificates.is_idle(case.bench.now.wall), refusals == 3);
        let (_, outputs) = case.sleep();
        assert_eq!(outputs, ["write a.org"]);
    }
    assert_eq!(case.written("a.org"), ["changed"]);
    assert_eq!(case.certificates.failing(), 0);
}

#[test]
fn what_the_ca_gives_is_checked_before_it_is_stored() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    let (key, _) = case.file(&names("a.org"), 90);
    let (_, chain_pem) = case.file(&names("a.org"), 90);
    let issued = Issued { names: names("a.org"), key, chain_pem, replaced: None, told_time: None };
    case.certificates.finished(&mut case.bench.cx(), OrderId(0), Ok(issued));
    let reason = "the private key is not that of the first certificate";
    assert_eq!(case.outputs(), [format!("reject a.org: {reason}")]);
    assert_eq!(case.certificates.failing(), 1);
    let (_, outputs) = case.sleep();
    assert_eq!(outputs, ["order 1 a.org"]);
    let (key, chain_pem) = case.file(&names("other.org"), 90);
    let issued = Issued { names: names("a.org"), key, chain_pem, replaced: None, told_time: None };
    case.certificates.finished(&mut case.bench.cx(), OrderId(1), Ok(issued));
    assert_eq!(case.outputs(), ["reject a.org: the first certificate is not for a.org"]);
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
    assert_eq!(case.wake(), ["order 1 a.org"]);
}
