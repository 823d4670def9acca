//! Renewal as the CA suggests it (RFC 9773), and what a clock or a CA that errs must not do.

use crate::acme::renewal_info::{NoSuggestion, Suggestion, Window};
use crate::daemon::model::CertificateRecord;
use crate::log::message;

use super::*;

const HOUR: Duration = minutes(60);

/// Advice offered, and one certificate of 90 days just issued; the question is on its way.
fn advised_case() -> Case {
    let mut case = Case::new();
    case.certificates.advice_offered(true);
    case.want(&[("a.org", "1")]);
    case.obtain(0, "a.org", 90);
    assert_eq!(case.wake(), ["ask a.org"]);
    case
}

impl Case {
    fn cert_id(&self, domain: &str) -> String {
        let entry = &self.certificates.entries[&name(domain)];
        entry.stored.as_ref().and_then(|stored| stored.cert_id.clone()).expect("a certificate")
    }

    /// The CA suggests a window that begins and ends so many days from now.
    fn suggest(&mut self, days: (i64, i64), ask_again: Duration) -> Vec<String> {
        let now = self.bench.now.wall.as_seconds();
        let at = |days: i64| UnixTime::from_seconds(now + days * 24 * 60 * 60);
        let window = Window { start: at(days.0), end: at(days.1) };
        self.answer(Ok(Suggestion {
            window,
            explanation: Some("https://ca/why".into()),
            ask_again,
        }))
    }

    fn answer(&mut self, answer: Result<Suggestion, NoSuggestion>) -> Vec<String> {
        let cert_id = self.cert_id("a.org");
        let cx = &mut self.bench.cx();
        self.certificates.advised(cx, &name("a.org"), &cert_id, answer);
        self.wake()
    }
}

#[test]
fn a_moment_in_the_window_is_kept_until_the_window_changes() {
    let mut case = advised_case();
    assert_eq!(case.suggest((58, 60), HOUR * 6), Vec::<String>::new());
    let chosen = case.certificates.entries[&name("a.org")].renewal();
    let (slept, outputs) = case.sleep();
    assert_eq!((slept, outputs), (HOUR * 6, vec!["ask a.org".to_string()]));
    // The same window, six hours nearer.
    let window =
        case.certificates.entries[&name("a.org")].memory.life.as_ref().unwrap().advice.window;
    let same = Suggestion { window: window.unwrap(), explanation: None, ask_again: HOUR * 24 };
    case.answer(Ok(same));
    assert_eq!(case.certificates.entries[&name("a.org")].renewal(), chosen);
    let next = case.next("a.org").unwrap();
    assert_eq!((next.task, next.why), (Task::Ask, Why::Window));
    let (window, chosen) = (window.unwrap(), chosen.unwrap());
    assert!(window.start <= chosen && chosen < window.end);
    case.bench.pass(chosen.since(case.bench.now.wall));
    let outputs = case.wake();
    assert!(outputs.contains(&"order 1 a.org replacing".to_string()), "{outputs:?}");
}

/// Whether the CA's limits do not count an order of `a.org` now.
fn is_exempt(case: &Case) -> bool {
    let Certificates { entries, policy, .. } = &case.certificates;
    entries[&name("a.org")].is_exempt(policy, case.bench.now.wall)
}

#[test]
fn a_certificate_whose_handshake_we_cannot_follow_is_asked_about_as_well() {
    let mut case = advised_case();
    case.suggest((58, 60), HOUR * 6);
    let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
    entry.stored.as_mut().unwrap().can_be_seen = false;
    let next = case.next("a.org").unwrap();
    assert_eq!((next.task, next.why), (Task::Ask, Why::Window));
}

/// The CA recognizes the renewal that it asked for by `replaces` alone.
#[test]
fn a_renewal_that_replaces_nothing_is_not_exempt() {
    let mut case = advised_case();
    case.suggest((58, 60), HOUR * 6);
    case.bench.pass(DAY * 59);
    assert!(is_exempt(&case));
    case.certificates.advice_offered(false);
    assert!(!is_exempt(&case), "the CA no longer offers it");
    case.certificates.advice_offered(true);
    let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
    entry.memory.life.as_mut().unwrap().directory = Some("https://other.example/dir".into());
    assert!(!is_exempt(&case), "another CA issued it");
}

#[test]
fn a_renewal_within_the_window_is_exempt() {
    let mut case = advised_case();
    case.suggest((58, 60), HOUR * 6);
    assert!(!is_exempt(&case), "too early");
    case.bench.pass(DAY * 59);
    assert!(is_exempt(&case));
    case.bench.pass(DAY * 2);
    assert!(!is_exempt(&case), "too late");
}

#[test]
fn a_window_in_the_past_renews_at_once_and_the_page_is_said() {
    let mut case = advised_case();
    case.suggest((58, 60), HOUR * 6);
    case.sleep();
    assert_eq!(case.suggest((-2, -1), HOUR * 6), ["order 1 a.org replacing"]);
    assert_eq!(case.bench.logged(message::WINDOW_MOVED), 1);
    let line = case.bench.log.iter().find(|line| line.message.contains("moved")).unwrap();
    assert!(line.fields.contains(&("explanation", "https://ca/why".to_string())), "{line:?}");
    assert!(!is_exempt(&case), "a CA counts what comes behind its window");
    // One that fails is tried again by the table, not at once.
    assert_eq!(case.fail(1, None), Vec::<String>::new());
    assert_eq!(case.next("a.org").map(|next| next.why), Some(Why::Failed));
}

#[test]
fn an_order_that_failed_is_no_failure_once_the_window_has_moved_on() {
    let mut case = advised_case();
    case.suggest((58, 60), HOUR * 6);
    case.sleep();
    assert_eq!(case.suggest((-2, -1), HOUR * 6), ["order 1 a.org replacing"]);
    case.fail(1, None);
    assert_eq!(case.states(), [State::Failing]);
    case.bench.pass(HOUR * 6);
    case.suggest((50, 51), HOUR * 6);
    assert_eq!(case.states(), [State::Valid]);
    assert_eq!(case.next("a.org").map(|next| next.why), Some(Why::Window));
}

#[test]
fn a_new_certificate_is_not_renewed_at_once_by_a_clock_that_runs_ahead() {
    let mut case = Case::new();
    case.certificates.advice_offered(true);
    case.want(&[("a.org", "1")]);
    let (key, chain_pem) = case.file(&names("a.org"), 45);
    // The CA's certificate looks a month old from the first moment on, and so does its window.
    case.bench.now.wall = case.bench.now.wall.plus(DAY * 30);
    let issued = Issued { names: names("a.org"), key, chain_pem, replaced: None, told_time: None };
    case.certificates.finished(&mut case.bench.cx(), OrderId(0), Ok(issued));
    assert_eq!(case.outputs(), ["write a.org"]);
    case.written("a.org");
    assert_eq!(case.wake(), ["ask a.org"]);
    assert_eq!(case.suggest((-1, 0), DAY), Vec::<String>::new());
    let next = case.next("a.org").unwrap();
    assert!(next.at >= case.bench.now.wall.plus(DAY), "{next:?}");
    let renewal = case.certificates.entries[&name("a.org")].renewal().unwrap();
    assert!(
        renewal >= case.bench.now.wall.plus(DAY * 7),
        "half of what this clock leaves: {renewal}"
    );
}

#[test]
fn no_window_lets_a_certificate_expire() {
    let mut case = advised_case();
    case.suggest((200, 300), DAY);
    let entry = &case.certificates.entries[&name("a.org")];
    let left = entry.stored.as_ref().unwrap().not_after.since(entry.renewal().unwrap());
    assert!(left >= DAY * 17, "{left:?}");
}

#[test]
fn a_question_that_fails_is_asked_again_later_and_the_lifetime_decides() {
    let mut case = advised_case();
    let before = case.certificates.entries[&name("a.org")].renewal();
    let error =
        |temporary| NoSuggestion { text: "status 500".into(), temporary, retry_after: None };
    for failures in 1..5u32 {
        case.answer(Err(error(true)));
        let (slept, outputs) = case.sleep();
        assert_eq!(outputs, ["ask a.org"]);
        assert!(slept >= minutes(3) / 4 * failures.min(2) / 3, "{slept:?}");
    }
    case.answer(Err(error(false)));
    let (slept, _) = case.sleep();
    assert!(slept >= HOUR * 4 && slept <= HOUR * 8, "{slept:?}");
    assert_eq!(case.certificates.entries[&name("a.org")].renewal(), before);
    assert_eq!(case.bench.logged(message::WINDOW_UNKNOWN), 5);
    let warned = case.bench.log.iter().filter(|line| line.level == crate::log::Level::Warn);
    assert_eq!(warned.count(), 1, "the rest are details");
}

/// RFC 9773 section 4.3.3.
#[test]
fn nobody_is_asked_about_what_has_expired_while_its_renewal_fails() {
    let mut case = advised_case();
    case.suggest((58, 60), HOUR);
    case.bench.pass(DAY * 91);
    assert_eq!(case.wake(), ["order 1 a.org replacing"]);
    assert_eq!(case.fail(1, Some(HOUR * 6)), Vec::<String>::new());
    assert_eq!(case.next("a.org").unwrap().task, Task::Order);
    let (slept, outputs) = case.sleep();
    assert_eq!((outputs, slept >= HOUR * 6), (vec!["order 2 a.org replacing".to_string()], true));
}

/// Whatever the jitter.
#[test]
fn a_question_is_not_asked_again_before_the_cas_time() {
    let mut case = advised_case();
    for _ in 0..20 {
        let retry_after = Some(HOUR * 7);
        case.answer(Err(NoSuggestion { text: "status 503".into(), temporary: true, retry_after }));
        let (slept, outputs) = case.sleep();
        assert_eq!(outputs, ["ask a.org"]);
        assert!(slept >= HOUR * 7, "{slept:?}");
    }
}

#[test]
fn nobody_is_asked_about_what_no_app_wants_or_what_has_expired_or_another_ca_issued() {
    let mut case = advised_case();
    case.suggest((58, 60), HOUR);
    case.want(&[]);
    case.bench.pass(HOUR * 2);
    assert_eq!(case.wake(), Vec::<String>::new());
    assert_eq!(case.want(&[("a.org", "1")]), ["ask a.org"]);
    case.suggest((58, 60), HOUR);
    case.bench.pass(DAY * 91);
    assert_eq!(case.wake(), ["order 1 a.org replacing"]);

    let mut case = advised_case();
    case.suggest((58, 60), HOUR);
    let other =
        Config { acme: crate::url::Url::parse("https://other.example/dir").unwrap(), ..config() };
    let file = case.stored("a.org", 90);
    case.restart(&config(), &[("a.org", file.clone())]);
    let issued = case.bench.now.wall;
    let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
    let life = entry.memory.life.as_mut().unwrap();
    (life.directory, life.issued) = (Some("https://ca.example/dir".into()), Some(issued));
    case.restart(&other, &[("a.org", file)]);
    case.certificates.advice_offered(true);
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
    case.bench.pass(DAY * 61);
    assert_eq!(case.wake(), ["order 0 a.org"], "and it replaces nothing there");
}

#[test]
fn a_renewal_that_was_due_at_the_start_replaces_as_well() {
    let mut case = Case::new();
    let file = case.stored("a.org", 90);
    case.bench.pass(DAY * 61);
    case.restart(&config(), &[("a.org", file)]);
    let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
    entry.memory.life.as_mut().unwrap().directory = Some("https://ca.example/dir".into());
    // It is due before the directory of the CA is read, and waits for that in the issuer's queue.
    let desired = DesiredCertificate { names: names("a.org"), source: source("1") }.into();
    case.certificates.want(&mut case.bench.cx(), &BTreeMap::from([(name("a.org"), desired)]));
    let Some(CertificatesOutput::Order(new)) = case.certificates.poll_output() else {
        panic!("it is due")
    };
    case.certificates.advice_offered(true);
    case.certificates.begins(&mut case.bench.cx(), new.order);
    case.save();
    let outputs: Vec<_> = std::iter::from_fn(|| case.certificates.poll_output()).collect();
    let replaces = outputs.iter().find_map(|output| match output {
        CertificatesOutput::Begin { replaces, .. } => replaces.clone(),
        _ => None,
    });
    assert_eq!(replaces, Some(case.cert_id("a.org")));
}

impl Case {
    /// Whether a one-shot run that began at `start` waits for the CA's word.
    fn waits(&self, start: UnixTime) -> bool {
        self.certificates.awaits_advice(start, self.bench.now.wall)
    }

    fn is_idle(&self) -> bool {
        self.certificates.is_idle(self.bench.now.wall)
    }
}

#[test]
fn an_errand_waits_for_one_answer_about_each_certificate_that_is_to_be_asked_about() {
    let mut case = Case::new();
    let file = case.stored("a.org", 90);
    case.restart(&config(), &[("a.org", file.clone())]);
    let start = case.bench.now.wall;
    assert!(!case.waits(start) && case.certificates.is_at_work(), "nobody knows what is wanted");
    case.want(&[("a.org", "1")]);
    assert!(case.waits(start), "the directory may say that there are windows");
    case.certificates.advice_offered(true);
    assert_eq!(case.wake(), ["ask a.org"]);
    assert!(case.waits(start) && case.is_idle(), "nothing else is left");
    case.suggest((58, 60), minutes(1));
    assert!(!case.waits(start) && case.is_idle());
    // Others may take so long that this one is asked about again.
    let (_, outputs) = case.sleep();
    assert_eq!(outputs, ["ask a.org"]);
    assert!(!case.waits(start));
    let error = NoSuggestion { text: "status 503".into(), temporary: true, retry_after: None };
    case.answer(Err(error));
    assert!(!case.waits(start));

    // The next run asks when it is time, and not before.
    case.restart(&config(), &[("a.org", file.clone())]);
    case.want(&[("a.org", "1")]);
    assert!(!case.waits(case.bench.now.wall), "the last question has failed just now");
    case.bench.pass(HOUR);
    assert!(case.waits(case.bench.now.wall));
    case.want(&[]);
    assert!(!case.waits(case.bench.now.wall), "no app wants it");
    case.want(&[("a.org", "1")]);
    case.bench.pass(DAY * 91);
    assert!(!case.waits(case.bench.now.wall), "it has expired");
}

#[test]
fn a_window_that_has_moved_between_two_errands_is_work_for_the_second_one() {
    let mut case = advised_case();
    case.suggest((58, 60), HOUR * 6);
    let life = case.certificates.entries[&name("a.org")].memory.life.clone();
    let file = case.stored("a.org", 90);
    case.restart(&config(), &[("a.org", file)]);
    // The same certificate, as far as anybody can tell.
    let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
    let serial = entry.stored.as_ref().map(|stored| stored.serial.clone()).unwrap();
    entry.memory.life = life.map(|life| CertificateRecord { serial, ..life });
    case.bench.pass(DAY);
    let start = case.bench.now.wall;
    case.certificates.advice_offered(true);
    assert_eq!(case.want(&[("a.org", "1")]), ["ask a.org"]);
    assert!(case.waits(start));
    assert_eq!(case.suggest((-2, -1), HOUR * 6), ["order 0 a.org replacing"]);
    assert!(!case.is_idle(), "it is renewed before the end");
    case.obtain(0, "a.org", 90);
    assert!(case.waits(start), "the new one is asked about as well");
}

#[test]
fn a_first_window_in_the_past_of_a_new_certificate_leaves_an_errand_nothing_to_do() {
    let mut case = advised_case();
    let start = case.bench.now.wall;
    assert_eq!(case.suggest((-2, -1), HOUR * 6), Vec::<String>::new());
    assert!(!case.waits(start) && case.is_idle());
    let renewal = case.certificates.entries[&name("a.org")].renewal().unwrap();
    assert!(renewal >= start.plus(DAY * 22), "{renewal}");
}
