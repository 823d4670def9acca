//! Every status at every step: what is asked again, by which call, and what ends the order.

use super::*;

/// The statuses of refusals, with the kind of the problem, where there is one.
const REFUSALS: [(u16, Option<ProblemKind>); 12] = [
    (400, Some(ProblemKind::Malformed)),
    (401, None),
    (403, None),
    (403, Some(ProblemKind::Unauthorized)),
    (404, None),
    (404, Some(ProblemKind::Malformed)),
    (405, None),
    (409, None),
    (410, None),
    (429, None),
    (500, None),
    (503, Some(ProblemKind::RateLimited)),
];

fn refusal((status, kind): (u16, Option<ProblemKind>)) -> CallError {
    match kind {
        Some(kind) => problem(kind, status, None),
        None => CallError::Status { status, url: "u".into(), near: "no".into(), retry_after: None },
    }
}

/// An order at each step: its name, and the call that is made again after it failed in passing.
fn steps() -> [(&'static str, Case, &'static str); 8] {
    let case = |request: OrderRequest| {
        let mut case = Case::of(request);
        case.due();
        case
    };
    let names = || vec![Domain::parse("a.org").unwrap()];
    let url = Url::parse("https://ca/o/1").unwrap();
    let resume = Some(Resume { url, certificate: None });
    let resuming = OrderRequest { resume, ..OrderRequest::plain(names()) };
    let placed = |body: &str| {
        let mut case = Case::new(&["a.org"]);
        case.created(body);
        case
    };
    let mut answering = placed(PENDING);
    answering.answer(authorization("pending", "t1"));
    let mut validating = Case::new(&["a.org"]);
    validating.answered();
    validating.wait(SOON);
    let mut collecting = placed(READY);
    collecting.answer(PROCESSING);
    collecting.wait(SOON);
    let mut downloading = placed(READY);
    downloading.answer(VALID);
    [
        ("creating", case(OrderRequest::plain(names())), "https://ca/order "),
        ("resuming", case(resuming), "https://ca/o/1"),
        ("authorizing", placed(PENDING), "https://ca/z/1"),
        ("answering", answering, "https://ca/z/1"),
        ("validating", validating, "https://ca/o/1"),
        ("finalizing", placed(READY), "https://ca/o/1"),
        ("collecting", collecting, "https://ca/o/1"),
        ("downloading", downloading, "https://ca/c"),
    ]
}

/// Whether the call is made again, by the table of RFC 8555 section 6.7 and by what CAs do.
fn is_asked_again(step: &str, (status, _): (u16, Option<ProblemKind>)) -> bool {
    match (step, status) {
        // From then on the CA may have issued: the order knows.
        ("finalizing" | "collecting" | "downloading", _) | (_, 429 | 500 | 503) => true,
        // An order of an earlier run the CA has known for a while.
        ("resuming", _) => false,
        (_, 404) => true,
        _ => false,
    }
}

#[test]
fn each_status_at_each_step() {
    for answer in REFUSALS {
        for (step, mut case, call) in steps() {
            let wishes = case.reply(Err(refusal(answer)));
            if is_asked_again(step, answer) {
                assert_eq!(wishes, Wishes::new(), "{answer:?} {step}");
                let wishes = case.wait(2 * SOON);
                assert!(
                    wishes.len() == 1 && wishes[0].starts_with(call),
                    "{answer:?} {step}: {wishes:?}"
                );
            } else {
                let last = wishes.last().expect("it says that it is over");
                assert!(last.starts_with("failed: "), "{answer:?} {step}: {wishes:?}");
            }
        }
    }
}

/// A 404 is retried for a limited time; from finalize on until the deadline of the order.
#[test]
fn what_is_not_there_for_a_minute_is_not_there() {
    for (step, mut case, _) in steps() {
        let begin = case.bench.now.mono;
        let mut calls = 0;
        let mut steps = crate::testing::Steps::default();
        let seconds = loop {
            steps.count();
            let wishes = case.reply(Err(refusal((404, None))));
            let seconds = case.bench.now.mono.since(begin).as_secs();
            if wishes.last().is_some_and(|it| it.starts_with("failed: ")) {
                break seconds;
            }
            calls += 1;
            assert!(calls < 40, "{step}");
            let mut steps = crate::testing::Steps::default();
            while case.wait(61 * SOON).is_empty() {
                steps.count();
                assert!(case.order.poll_timeout().is_some(), "{step}");
            }
            if case.order.poll_timeout().is_none() {
                break case.bench.now.mono.since(begin).as_secs();
            }
        };
        let expected = match step {
            "resuming" => 0..=0,
            "creating" => 5..=30,
            "finalizing" | "collecting" | "downloading" => 560..=600,
            _ => 30..=130,
        };
        assert!(expected.contains(&seconds), "{step}: {seconds} s, {calls} more calls");
    }
}

/// The time counts from the last good answer of the CA, however slow that was.
#[test]
fn a_404_soon_after_a_good_answer_is_retried() {
    let mut case = Case::new(&["a.org"]);
    case.bench.pass(59 * SOON);
    case.created(PENDING);
    case.bench.pass(10 * SOON);
    assert_eq!(case.reply(Err(refusal((404, None)))), Wishes::new());
    assert_eq!(case.wait(2 * SOON), ["https://ca/z/1"]);
}

#[test]
fn a_certificate_that_is_not_there_yet_is_not_ordered_twice() {
    for answer in [(404, None), (403, Some(ProblemKind::Unauthorized))] {
        let mut case = Case::new(&["a.org"]);
        case.created(READY);
        case.answer(VALID);
        for _ in 0..5 {
            case.reply(Err(refusal(answer)));
            assert_eq!(case.wait(20 * SOON), ["https://ca/c"]);
        }
        assert_eq!(case.answer(CHAIN), ["issued a.org"]);
    }
}

#[test]
fn what_the_order_says_after_a_refusal_to_finalize_it_counts() {
    for answer in
        [(400, Some(ProblemKind::Malformed)), (403, Some(ProblemKind::Unauthorized)), (403, None)]
    {
        let refused = || {
            let mut case = Case::new(&["a.org"]);
            case.created(READY);
            case.reply(Err(refusal(answer)));
            assert_eq!(case.wait(2 * SOON), ["https://ca/o/1"]);
            case
        };
        // It is not finalized: the refusal was meant.
        let last = refused().answer(READY).pop().unwrap_or_default();
        assert!(last.starts_with("failed: "), "{last}");
        let mut case = refused();
        assert_eq!(case.answer(VALID), ["https://ca/c"]);
        assert_eq!(case.answer(CHAIN), ["issued a.org"]);
    }
}
