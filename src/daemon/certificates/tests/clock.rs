//! A clock that is wrong, as that of a machine without a battery: nothing is renewed or archived by it.

use super::*;

const HOUR_MS: i64 = 60 * 60 * 1000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// A machine whose clock is ahead by so many milliseconds and that starts with a certificate that was issued
/// just now, wanted or not.
fn started(ahead_ms: i64, desired: &[(&str, &str)]) -> (Case, Vec<String>) {
    let mut case = Case::new();
    let file = case.stored("a.org", 90);
    let ours = case.bench.now.wall.as_millis() + ahead_ms;
    case.bench.now.wall = UnixTime::from_millis(ours);
    case.restart(&config(), &[("a.org", file)]);
    // The CA has not answered yet.
    case.certificates.policy.clock = super::super::clock::ClockOffset::Unknown;
    let outputs = case.want(desired);
    (case, outputs)
}

impl Case {
    /// A certificate was issued just now, then our clock was set forward by this, and the CA has answered.
    fn issued_and_set(ours_ms: i64, ahead_ms: i64) -> Case {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        case.obtain(0, "a.org", 90);
        let ours = case.bench.now.wall.as_millis() + ours_ms;
        case.bench.now.wall = UnixTime::from_millis(ours);
        assert_eq!(case.compare_clocks(ahead_ms), Vec::<String>::new(), "{ahead_ms}");
        case
    }

    fn compare_clocks(&mut self, ahead_ms: i64) -> Vec<String> {
        self.certificates.clock_compared(&mut self.bench.cx(), ahead_ms);
        self.wake()
    }
}

/// How long after the certificate was issued it is renewed.
fn renewed_after(case: &mut Case) -> Duration {
    let (slept, outputs) = case.sleep();
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    assert!(outputs[0].starts_with("order "), "{outputs:?}");
    slept
}

#[test]
fn a_renewal_is_planned_by_the_clock_of_the_ca() {
    for ahead_ms in [14 * YEAR_MS, 50 * HOUR_MS, HOUR_MS / 2, 0] {
        let mut case = Case::issued_and_set(ahead_ms, ahead_ms);
        let slept = renewed_after(&mut case);
        assert!(slept > DAY * 58 && slept < DAY * 61, "{slept:?} {ahead_ms}");
    }
}

/// Ours is right, or it is behind as well: what is fresh is not renewed.
#[test]
fn a_clock_of_the_ca_that_is_ahead_makes_nothing_due() {
    for (ahead_ms, ours_ms) in [(-80 * 24 * HOUR_MS, 0), (-YEAR_MS, 0), (-YEAR_MS, -HOUR_MS)] {
        let mut case = Case::issued_and_set(ours_ms, ahead_ms);
        assert!(!case.certificates.clock_agrees());
        let slept = renewed_after(&mut case);
        assert!(slept > DAY * 58 && slept < DAY * 61, "{slept:?} {ahead_ms}");
    }
}

/// The order is queued before the CA's first answer, and begins after it.
#[test]
fn an_order_that_is_due_by_our_clock_alone_does_not_begin() {
    let mut case = Case::new();
    let file = case.stored("a.org", 90);
    let issued = case.bench.now.wall;
    case.bench.now.wall = issued.plus(DAY * 80);
    case.restart(&config(), &[("a.org", file)]);
    case.certificates.policy.clock = super::super::clock::ClockOffset::Unknown;
    let desired = DesiredCertificate { names: names("a.org"), source: source("1") }.into();
    case.certificates.want(&mut case.bench.cx(), &BTreeMap::from([(name("a.org"), desired)]));
    let Some(CertificatesOutput::Order(new)) = case.certificates.poll_output() else {
        panic!("it is due by our clock")
    };
    let ahead_ms = i64::try_from((DAY * 80).as_millis()).unwrap();
    case.certificates.clock_compared(&mut case.bench.cx(), ahead_ms);
    case.certificates.begins(&mut case.bench.cx(), new.order);
    case.save();
    let outputs: Vec<_> = std::iter::from_fn(|| case.certificates.poll_output()).collect();
    assert!(matches!(outputs[..], [CertificatesOutput::Cancel(order)] if order == new.order));
    let slept = renewed_after(&mut case);
    assert!(slept > DAY * 58 && slept < DAY * 61, "{slept:?}");
}

/// The clocks agreed until ours was set.
#[test]
fn a_clock_that_was_set_is_compared_before_an_order_begins() {
    for set_ms in [14 * YEAR_MS, -YEAR_MS] {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        case.obtain(0, "a.org", 90);
        case.compare_clocks(0);
        let ours = case.bench.now.wall.as_millis() + set_ms;
        case.bench.now.wall = UnixTime::from_millis(ours);
        case.certificates.handle_timeout(&mut case.bench.cx());
        let output = case.certificates.poll_output();
        assert!(matches!(output, Some(CertificatesOutput::AskTime)), "{output:?}");
    }
}

/// Ours was ahead for a moment, in which the order was queued.
#[test]
fn an_order_that_is_not_due_any_more_does_not_begin() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.obtain(0, "a.org", 90);
    let right = case.bench.now.wall;
    case.bench.now.wall = right.plus(DAY * 4_000);
    case.certificates.handle_timeout(&mut case.bench.cx());
    let outputs: Vec<_> = std::iter::from_fn(|| case.certificates.poll_output()).collect();
    let [CertificatesOutput::AskTime, CertificatesOutput::Order(new)] = &outputs[..] else {
        panic!("it is due by our clock: {outputs:?}")
    };
    case.bench.now.wall = right;
    assert_eq!(case.compare_clocks(0), Vec::<String>::new());
    case.certificates.begins(&mut case.bench.cx(), new.order);
    let output = case.certificates.poll_output();
    assert!(matches!(output, Some(CertificatesOutput::Cancel(_))), "{output:?}");
}

#[test]
fn what_has_expired_by_our_clock_alone_stays() {
    let (mut case, outputs) = started(14 * YEAR_MS, &[]);
    assert_eq!(outputs, Vec::<String>::new(), "nobody knows what time it is");
    assert_eq!(case.compare_clocks(14 * YEAR_MS), Vec::<String>::new());
    case.bench.now.wall = UnixTime::from_millis(case.bench.now.wall.as_millis() - 14 * YEAR_MS);
    assert_eq!(case.wake(), Vec::<String>::new(), "it was set: the certificate is valid");
    assert!(case.certificates.clock_agrees());
    let (slept, outputs) = case.sleep();
    assert_eq!(outputs, ["archive a.org"]);
    assert!(slept > DAY * 119 && slept < DAY * 121, "{slept:?}");
}

/// By a clock that is behind, a wanted certificate that has expired would look as if it served.
#[test]
fn nothing_is_archived_before_the_clocks_agree() {
    let mut case = Case::new();
    let files = [("a.org", case.stored("a.org", 90)), ("b.org", case.stored("b.org a.org", 90))];
    case.restart(&config(), &files);
    case.certificates.policy.clock = super::super::clock::ClockOffset::Unknown;
    assert_eq!(case.want(&[("b.org a.org", "1")]), Vec::<String>::new());
    assert_eq!(case.compare_clocks(0), ["archive a.org"]);
}

#[test]
fn a_ca_that_is_behind_our_newest_certificate_is_not_believed() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.obtain(0, "a.org", 90);
    assert_eq!(case.compare_clocks(50 * HOUR_MS), Vec::<String>::new());
    assert!(!case.certificates.clock_agrees());
    let slept = renewed_after(&mut case);
    assert!(slept > DAY * 58 && slept < DAY * 61, "{slept:?}");
}

/// Each of them is small enough to be a correction.
#[test]
fn steps_of_a_clock_that_agrees_add_up() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.obtain(0, "a.org", 90);
    case.compare_clocks(0);
    for (step, agrees) in [(1, true), (2, false)] {
        let ours = case.bench.now.wall.as_millis() + 58 * 60 * 1000;
        case.bench.now.wall = UnixTime::from_millis(ours);
        case.certificates.handle_timeout(&mut case.bench.cx());
        assert_eq!(case.certificates.clock_agrees(), agrees, "{step}");
    }
    let output = case.certificates.poll_output();
    assert!(matches!(output, Some(CertificatesOutput::AskTime)), "{output:?}");
}

/// It was ordered by a clock that was ahead, and what the CA issued was not valid by that clock.
#[test]
fn a_failure_by_a_wrong_clock_is_none_when_the_clock_is_right() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.obtain(0, "a.org", 90);
    let right = case.bench.now.wall;
    case.certificates.policy.clock = super::super::clock::ClockOffset::Unknown;
    case.bench.now.wall = UnixTime::from_millis(right.as_millis() + 10 * YEAR_MS);
    case.wake();
    case.end(1, OrderError::DeadlineExceeded { step: "a test" });
    assert_eq!(case.certificates.failing(), 1);
    case.bench.now.wall = right;
    case.compare_clocks(0);
    assert_eq!(case.certificates.failing(), 0);
}

/// The CA answers before the first list of apps is complete.
#[test]
fn a_failure_of_an_earlier_run_stays_when_the_clock_is_compared() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.fail(0, Some(DAY));
    case.restart(&config(), &[]);
    case.certificates.policy.clock = super::super::clock::ClockOffset::Unknown;
    assert_eq!(case.compare_clocks(0), Vec::<String>::new());
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new(), "the CA said when");
}
