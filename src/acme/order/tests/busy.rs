//! A CA that is asked too much, at each step: before the order is finalized it is waited for a little,
//! and after that as long as the order lasts, since the certificate's key is nowhere else.

use super::*;

const FINALIZE: &str = r#"https://ca/f {"csr":"AQ"}"#;

/// An overloaded Let's Encrypt: "Service busy; retry later."
fn busy(retry_after: u64) -> CallError {
    problem(ProblemKind::RateLimited, 503, Some(retry_after))
}

fn limited(retry_after: u64) -> CallError {
    problem(ProblemKind::RateLimited, 429, Some(retry_after))
}

/// How long until it wants something.
fn pause(case: &Case) -> Duration {
    case.order.poll_timeout().expect("it is not over").since(case.bench.now.mono)
}

/// The call of each step that comes before finalization, by the order whose turn it is.
fn before_finalization() -> Vec<(Case, &'static str)> {
    let reading = || {
        let mut case = Case::new(&["a.org"]);
        case.created(PENDING);
        case
    };
    let mut answering = reading();
    answering.answer(authorization("pending", "t1"));
    let mut validating = Case::new(&["a.org"]);
    validating.answered();
    validating.wait(SOON);
    vec![
        (reading(), "https://ca/z/1"),
        (answering, "https://ca/z/1"),
        (validating, "https://ca/o/1"),
    ]
}

/// The call of each step from finalization on, and the one that comes after it failed in passing.
fn from_finalization() -> Vec<(Case, &'static str)> {
    let finalizing = || {
        let mut case = Case::new(&["a.org"]);
        case.created(READY);
        case
    };
    let mut collecting = finalizing();
    collecting.answer(PROCESSING);
    collecting.wait(SOON);
    let mut downloading = finalizing();
    downloading.answer(VALID);
    vec![
        (finalizing(), "https://ca/o/1"),
        (collecting, "https://ca/o/1"),
        (downloading, "https://ca/c"),
    ]
}

#[test]
fn a_ca_that_is_overloaded_for_a_moment_ends_no_order() {
    for (mut case, again) in before_finalization() {
        assert_eq!(case.reply(Err(busy(20))), Wishes::new());
        assert_eq!(pause(&case), Duration::from_secs(20), "{again}");
        assert_eq!(case.wait(PATIENCE), [again]);
    }
    for (mut case, _) in before_finalization() {
        let wishes = case.reply(Err(busy(3600)));
        assert_eq!(wishes.last().unwrap(), "failed: rateLimited: words", "the order waits instead");
    }
    for (mut case, _) in before_finalization() {
        let wishes = case.reply(Err(limited(1)));
        assert_eq!(
            wishes.last().unwrap(),
            "failed: rateLimited: words",
            "that is a limit of the account"
        );
    }
}

/// All new orders wait for that; a CA that does not say how long is tried again.
#[test]
fn a_limit_on_new_orders_is_handed_on() {
    for error in [busy(1), limited(1)] {
        let mut case = Case::new(&["a.org"]);
        case.due();
        case.order.handle_reply(&mut case.bench.cx(), &case.key, Err(error));
        match case.order.poll_output() {
            Some(OrderOutput::Finished(Err(error))) => {
                assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut case = Case::new(&["a.org"]);
    let new = case.due();
    assert_eq!(case.reply(Err(problem(ProblemKind::RateLimited, 503, None))), Wishes::new());
    assert_eq!(case.wait(BACKOFF_MAX), new);
}

#[test]
fn a_certificate_that_may_be_issued_is_not_lost_to_a_limit() {
    for error in [busy(200), limited(200)] {
        for (mut case, again) in from_finalization() {
            assert_eq!(case.reply(Err(error.clone())), Wishes::new());
            assert_eq!(pause(&case), Duration::from_secs(200), "{again}");
            assert_eq!(case.wait(ORDER_DEADLINE), [again]);
            let wishes =
                if again == "https://ca/c" { case.answer(CHAIN) } else { case.answer(VALID) };
            let done = if again == "https://ca/c" { "issued a.org" } else { "https://ca/c" };
            assert_eq!(wishes, [done]);
        }
    }
}

/// Whatever passes is tried until then, not a number of times; and what the CA asked for is not lost.
#[test]
fn a_finalized_order_makes_its_last_try_before_its_deadline() {
    for asked in [None, Some(1), Some(50), Some(86_400)] {
        for (mut case, again) in from_finalization() {
            let deadline = case.order.deadline;
            let error = problem(ProblemKind::RateLimited, 503, asked);
            let mut tries = 0;
            let mut steps = crate::testing::Steps::default();
            let wishes = loop {
                steps.count();
                let wishes = case.reply(Err(error.clone()));
                if !wishes.is_empty() {
                    break wishes;
                }
                assert_eq!(case.wait(ORDER_DEADLINE), [again]);
                tries += 1;
            };
            assert_eq!(wishes, ["failed: rateLimited: words"]);
            assert_eq!(deadline.since(case.bench.now.mono), LAST_TRY);
            assert!((1..=20).contains(&tries), "{tries} tries for {asked:?}");
        }
    }
}

#[test]
fn an_order_that_is_still_ready_is_finalized_again() {
    let mut case = Case::new(&["a.org"]);
    assert_eq!(case.created(READY), [FINALIZE]);
    for seconds in [100, 100, 100] {
        case.reply(Err(limited(seconds)));
        assert_eq!(case.wait(Duration::from_secs(seconds)), ["https://ca/o/1"]);
        assert_eq!(case.answer(READY), [FINALIZE]);
    }
    assert_eq!(case.answer(VALID), ["https://ca/c"]);
}
