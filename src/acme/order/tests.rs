//! The order's machine driven by hand: an answer in, the next call out.

mod busy;
mod chains;
mod refusals;
mod requests;
mod statuses;

use super::*;
use crate::acme::types::{Problem, ProblemKind};
use crate::http::{Headers, ResponseHead};
use crate::keys::{KeyError, PublicKey};
use crate::log::message;
use crate::testing::Bench;

const PENDING: &str =
    r#"{"status":"pending","authorizations":["https://ca/z/1"],"finalize":"https://ca/f"}"#;
const READY: &str =
    r#"{"status":"ready","authorizations":["https://ca/z/1"],"finalize":"https://ca/f"}"#;
const PROCESSING: &str =
    r#"{"status":"processing","authorizations":["https://ca/z/1"],"finalize":"https://ca/f"}"#;
const VALID: &str = r#"{"status":"valid","authorizations":["https://ca/z/1"],"finalize":"https://ca/f",
    "certificate":"https://ca/c"}"#;
const INVALID: &str =
    r#"{"status":"invalid","authorizations":["https://ca/z/1"],"finalize":"https://ca/f"}"#;
const TWO: &str = r#"{"status":"?","authorizations":["https://ca/z/1","https://ca/z/2"],
    "finalize":"https://ca/f"}"#;
const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

/// An order, its CA's directory and its account's key.
struct Case {
    bench: Bench,
    directory: Directory,
    key: AccountKey,
    order: Order,
    /// How often it said that the CA is asked to issue.
    finalizing: usize,
    /// What it is finalized with is on the disk at once.
    keeps: bool,
}

/// What an order wanted in one go, in words.
type Wishes = Vec<String>;

impl Case {
    fn new(names: &[&str]) -> Case {
        let names = names.iter().map(|name| Domain::parse(name).unwrap()).collect();
        Case::of(OrderRequest::plain(names))
    }

    fn of(request: OrderRequest) -> Case {
        let bench = Bench::new();
        let directory = br#"{"newNonce":"https://ca/nonce","newAccount":"https://ca/account",
            "newOrder":"https://ca/order"}"#;
        let directory =
            Directory::parse(directory, &Url::parse("https://ca/dir").unwrap()).unwrap();
        let key = AccountKey { id: 0, public: PublicKey::P256 { x: [1; 32], y: [2; 32] } };
        let order = Order::new(bench.now.mono, request);
        Case { bench, directory, key, order, finalizing: 0, keeps: true }
    }

    /// Lets the order do what is due now.
    fn due(&mut self) -> Wishes {
        self.order.handle_timeout(self.bench.now.mono, &self.directory);
        let mut outputs = self.outputs();
        if self.keeps && outputs.iter().any(|output| matches!(output, OrderOutput::Created(_))) {
            self.order.kept(&self.bench.cx());
            self.order.handle_timeout(self.bench.now.mono, &self.directory);
            outputs.extend(self.outputs());
        }
        // It is said right before the call that finalizes, or when that was made by an earlier run.
        let said = outputs.iter().position(|output| matches!(output, OrderOutput::Finalizing));
        if let Some(said) = said {
            let next = outputs.get(said + 1).map(in_words).unwrap_or_default();
            let is_made = self.order.request().resume.is_some();
            assert!(next.contains("csr") || is_made, "{outputs:?}");
            self.finalizing += 1;
        }
        let others = outputs.iter().filter(|it| !matches!(it, OrderOutput::Finalizing));
        others.map(in_words).collect()
    }

    fn outputs(&mut self) -> Vec<OrderOutput> {
        std::iter::from_fn(|| self.order.poll_output()).collect()
    }

    /// Sleeps until the order wants something, at most so long.
    fn wait(&mut self, limit: Duration) -> Wishes {
        let at = self.order.poll_timeout().expect("it is not over");
        let pause = at.since(self.bench.now.mono);
        assert!(pause <= limit, "it wants to sleep for {pause:?}");
        self.bench.pass(pause);
        self.due()
    }

    fn reply(&mut self, reply: Result<Response, CallError>) -> Wishes {
        self.order.handle_reply(&mut self.bench.cx(), &self.key, reply);
        self.due()
    }

    fn answer(&mut self, body: impl AsRef<str>) -> Wishes {
        self.reply(Ok(response(&[], body.as_ref())))
    }

    /// The order stands at the CA.
    fn created(&mut self, body: &str) -> Wishes {
        self.due();
        let mut wishes = self.reply(Ok(response(&[("Location", "https://ca/o/1")], body)));
        if wishes.first().is_some_and(|wish| wish == "placed https://ca/o/1") {
            wishes.remove(0);
        }
        wishes
    }

    /// The challenge is published and the CA told; it looks next.
    fn answered(&mut self) {
        self.created(PENDING);
        self.answer(authorization("pending", "t1"));
        self.answer("{}");
    }

    fn passing(&mut self) -> Wishes {
        self.reply(Err(CallError::Transport { text: "reset".into(), lasting: false }))
    }
}

fn in_words(output: &OrderOutput) -> String {
    match output {
        OrderOutput::Call(post) => format!("{} {}", post.url, post.payload).trim().to_string(),
        OrderOutput::Created(resume) => format!("placed {}", resume.url),
        OrderOutput::Finalizing => "finalizing".into(),
        OrderOutput::Publish { token, key_authorization } => {
            assert!(key_authorization.starts_with(&format!("{token}.")));
            format!("publish {token}")
        }
        OrderOutput::Withdraw { token } => format!("withdraw {token}"),
        OrderOutput::Finished(Ok(issued)) => format!("issued {}", issued.names[0]),
        OrderOutput::Finished(Err(error)) => format!("failed: {error}"),
    }
}

fn response(fields: &[(&str, &str)], body: &str) -> Response {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.push(name, value);
    }
    Response { head: ResponseHead { status: 200, headers }, body: body.into() }
}

fn authorization(status: &str, token: &str) -> String {
    format!(
        r#"{{"identifier":{{"type":"dns","value":"a.org"}},"status":"{status}","challenges":[
        {{"type":"tls-alpn-01","url":"https://ca/x","token":"other","status":"pending"}},
        {{"type":"http-01","url":"https://ca/h/{token}","token":"{token}","status":"{status}"}}]}}"#
    )
}

fn problem(kind: ProblemKind, status: u16, retry_after: Option<u64>) -> CallError {
    let problem =
        Problem { name: kind.name().into(), detail: "words".into(), subproblems: Vec::new() };
    CallError::Problem { problem, status, retry_after: retry_after.map(Duration::from_secs) }
}

const SOON: Duration = Duration::from_secs(1);
/// The longest pause after a failure in passing, jitter included.
const BACKOFF_MAX: Duration = Duration::from_secs(75);

#[test]
fn from_names_to_certificate() {
    let mut case = Case::new(&["a.org"]);
    let order = r#"https://ca/order {"identifiers":[{"type":"dns","value":"a.org"}]}"#;
    assert_eq!(case.due(), [order]);
    assert_eq!(case.due(), Wishes::new(), "a call under way is not made twice");
    let location = response(&[("Location", "https://ca/o/1")], PENDING);
    assert_eq!(case.reply(Ok(location)), ["placed https://ca/o/1", "https://ca/z/1"]);
    assert_eq!(case.answer(authorization("pending", "t1")), ["publish t1", "https://ca/h/t1 {}"]);
    assert_eq!(case.answer("{}"), Wishes::new());
    assert_eq!(case.wait(SOON), ["https://ca/o/1"]);
    assert_eq!(case.answer(READY), ["withdraw t1", r#"https://ca/f {"csr":"AQ"}"#]);
    assert_eq!(case.answer(VALID), ["https://ca/c"]);
    assert_eq!(case.answer(CHAIN), ["issued a.org"]);
    assert_eq!((case.order.poll_timeout(), case.finalizing), (None, 1));
    assert_eq!(case.answer(CHAIN), Wishes::new(), "what comes late changes nothing");
}

#[test]
fn authorizations_that_are_valid_already_are_passed_over() {
    let mut ready = Case::new(&["a.org"]);
    assert_eq!(ready.created(READY), [r#"https://ca/f {"csr":"AQ"}"#]);

    let mut case = Case::new(&["a.org", "b.org"]);
    assert_eq!(case.created(&TWO.replace("?", "pending")), ["https://ca/z/1"]);
    assert_eq!(case.answer(authorization("valid", "t1")), ["https://ca/z/2"]);
    assert_eq!(case.answer(authorization("pending", "t2")), ["publish t2", "https://ca/h/t2 {}"]);
}

#[test]
fn a_challenge_that_the_ca_is_at_already_is_published_but_not_answered() {
    let mut case = Case::new(&["a.org"]);
    case.created(PENDING);
    let processing = authorization("pending", "t1")
        .replace(r#""token":"t1","status":"pending""#, r#""token":"t1","status":"processing""#);
    assert_eq!(case.answer(processing), ["publish t1"]);
    assert_eq!(case.wait(SOON), ["https://ca/o/1"]);
}

#[test]
fn looks_come_ever_later_or_when_the_ca_says() {
    let mut case = Case::new(&["a.org"]);
    case.answered();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let at = case.order.poll_timeout().unwrap();
        pauses.push(at.since(case.bench.now.mono).as_millis());
        assert_eq!(case.wait(POLL_MAX), ["https://ca/o/1"]);
        assert_eq!(case.answer(PENDING), Wishes::new());
    }
    assert_eq!(pauses, [250, 250, 500, 1000, 2000, 4000, 8000, 10_000]);

    case.wait(POLL_MAX);
    case.reply(Ok(response(&[("Retry-After", "17")], PROCESSING)));
    let at = case.order.poll_timeout().unwrap();
    assert_eq!(at.since(case.bench.now.mono), Duration::from_secs(17));
    case.wait(Duration::from_secs(17));
    case.reply(Ok(response(&[("Retry-After", "100000")], PROCESSING)));
    let at = case.order.poll_timeout().unwrap();
    assert_eq!(at.since(case.bench.now.mono), POLL_RETRY_AFTER_MAX);
}

/// Neither nothing nor a date that is over makes the pauses shorter than a CA that says nothing gets.
#[test]
fn a_retry_after_of_nothing_keeps_the_pauses_growing() {
    for header in ["0", "Mon, 23 Nov 2020 17:00:00 GMT"] {
        let mut case = Case::new(&["a.org"]);
        case.answered();
        let mut looks = 0;
        let mut steps = crate::testing::Steps::default();
        while case.wait(POLL_MAX) == ["https://ca/o/1"] {
            steps.count();
            looks += 1;
            assert!(looks < 100, "{header}");
            case.reply(Ok(response(&[("Retry-After", header)], PENDING)));
        }
        assert!(looks > 30, "{looks} looks");
    }
    // A first look that was to come later comes later.
    let mut case = Case::new(&["a.org"]);
    case.answered();
    case.wait(SOON);
    case.reply(Ok(response(&[("Retry-After", "3")], PENDING)));
    let at = case.order.poll_timeout().unwrap();
    assert_eq!(at.since(case.bench.now.mono), Duration::from_secs(3));
}

#[test]
fn processing_after_finalize_is_waited_for_with_the_same_key() {
    let mut case = Case::new(&["a.org"]);
    case.created(READY);
    assert_eq!(case.answer(PROCESSING), Wishes::new());
    assert_eq!(case.wait(SOON), ["https://ca/o/1"]);
    let without_certificate = VALID.replace("certificate", "other");
    assert_eq!(case.answer(without_certificate), Wishes::new());
    case.wait(SOON);
    assert_eq!(case.answer(VALID), ["https://ca/c"]);
}

#[test]
fn an_order_that_stays_ready_is_finalized_again_ever_more_rarely() {
    let finalize = [r#"https://ca/f {"csr":"AQ"}"#];
    let mut case = Case::new(&["a.org"]);
    assert_eq!(case.created(READY), finalize);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        assert_eq!(case.answer(READY), Wishes::new(), "it is given its time");
        let at = case.order.poll_timeout().unwrap();
        pauses.push(at.since(case.bench.now.mono).as_millis());
        assert_eq!(case.wait(POLL_MAX), ["https://ca/o/1"]);
        assert_eq!(case.answer(READY), finalize);
    }
    assert_eq!(pauses, [250, 1000, 4000, 10_000, 10_000, 10_000]);
}

#[test]
fn processing_for_ever_ends_at_the_deadline() {
    let mut case = Case::new(&["a.org"]);
    case.answered();
    let mut looks = 0;
    let mut steps = crate::testing::Steps::default();
    let last = loop {
        steps.count();
        let wishes = case.wait(POLL_MAX);
        if wishes != ["https://ca/o/1"] {
            break wishes;
        }
        looks += 1;
        case.answer(PENDING);
    };
    assert_eq!(last, ["withdraw t1", "failed: it took too long (waiting for the validation)"]);
    assert!((30..100).contains(&looks), "{looks} looks");
}

#[test]
fn a_call_without_an_answer_ends_at_the_deadline() {
    let mut case = Case::new(&["a.org"]);
    case.due();
    assert_eq!(case.wait(ORDER_DEADLINE), ["failed: it took too long (creating the order)"]);
}

#[test]
fn an_invalid_order_says_why() {
    let mut case = Case::new(&["b.org", "a.org"]);
    case.created(&TWO.replace("?", "pending"));
    case.answer(authorization("valid", "t0"));
    case.answer(authorization("pending", "t1"));
    case.answer("{}");
    case.wait(SOON);
    assert_eq!(case.answer(TWO.replace("?", "invalid")), ["https://ca/z/1"]);
    assert_eq!(case.answer(authorization("valid", "t0")), ["https://ca/z/2"]);
    let error =
        r#""error":{"type":"urn:ietf:params:acme:error:dns","detail":"NXDOMAIN"},"token":"t1""#;
    let invalid = authorization("invalid", "t1").replace(r#""token":"t1""#, error);
    let failed = "failed: the CA refused a.org: dns: NXDOMAIN";
    assert_eq!(case.answer(invalid), ["withdraw t1", failed]);
}

#[test]
fn an_invalid_order_whose_reason_cannot_be_had_is_over_all_the_same() {
    let mut case = Case::new(&["a.org"]);
    case.answered();
    case.wait(SOON);
    let with_error = INVALID.replace(
        "\"status\"",
        r#""error":{"type":"urn:ietf:params:acme:error:caa","detail":"no"},"status""#,
    );
    assert_eq!(case.answer(with_error), ["https://ca/z/1"]);
    assert_eq!(case.passing(), ["withdraw t1", "failed: the CA refused the order: caa: no"]);
}

#[test]
fn an_authorization_that_cannot_become_valid_ends_the_order() {
    let mut case = Case::new(&["a.org"]);
    case.created(PENDING);
    assert_eq!(
        case.answer(authorization("deactivated", "t1")),
        ["failed: the CA refused a.org without a reason"]
    );
    let mut case = Case::new(&["a.org"]);
    case.created(PENDING);
    assert_eq!(
        case.answer(authorization("pending", "t1").replace("http-01", "dns-01")),
        ["failed: the CA offers no http-01 challenge for a.org"]
    );
}

#[test]
fn orders_that_are_of_no_use() {
    let mut nowhere = Case::new(&["a.org"]);
    nowhere.due();
    assert_eq!(nowhere.answer(PENDING), ["failed: the CA did not say where the order is"]);
    let earlier = "failed: the order of an earlier run is over, or its key is gone";
    assert_eq!(Case::new(&["a.org"]).created(VALID), [earlier]);
    let mut unknown = Case::new(&["a.org"]);
    unknown.answered();
    unknown.wait(SOON);
    assert_eq!(
        unknown.answer(PENDING.replace("pending", "frozen")),
        ["withdraw t1", "failed: the order has a status that is not known"]
    );
}

#[test]
fn a_lost_answer_asks_the_object_instead_of_doing_it_twice() {
    let mut case = Case::new(&["a.org"]);
    case.created(PENDING);
    case.answer(authorization("pending", "t1"));
    assert_eq!(case.passing(), Wishes::new());
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/z/1"], "was the challenge answered?");
    assert_eq!(case.answer(authorization("valid", "t1")), Wishes::new());
    case.wait(SOON);
    case.answer(READY);
    assert_eq!(case.passing(), Wishes::new());
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/o/1"], "was it finalized?");
    assert_eq!(case.answer(VALID), ["https://ca/c"]);
    case.passing();
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/c"]);
}

#[test]
fn an_order_that_is_not_ready_after_all_is_looked_at() {
    let mut case = Case::new(&["a.org"]);
    case.created(READY);
    case.reply(Err(problem(ProblemKind::OrderNotReady, 403, None)));
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/o/1"]);
    assert_eq!(case.answer(READY), [r#"https://ca/f {"csr":"AQ"}"#]);
}

#[test]
fn malformed_answers_are_asked_for_again() {
    let mut case = Case::new(&["a.org"]);
    assert_eq!(case.created("<html>"), Wishes::new());
    case.wait(BACKOFF_MAX);
    case.reply(Ok(response(&[("Location", "https://ca/o/1")], PENDING)));
    assert_eq!(case.answer("[]"), Wishes::new());
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/z/1"]);
    case.answer(authorization("valid", "t1"));
    case.wait(SOON);
    assert_eq!(case.answer("{"), Wishes::new());
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/o/1"]);
    case.answer(READY);
    case.answer(VALID);
    assert_eq!(case.answer("a page"), Wishes::new());
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/c"]);
    assert_eq!(case.answer(CHAIN), ["issued a.org"]);
    assert_eq!(case.bench.logged(message::CALL_FAILED), 4);
}

#[test]
fn failures_in_passing_are_counted() {
    let mut case = Case::new(&["a.org"]);
    case.answered();
    case.wait(SOON);
    for _ in 0..FAILURES_MAX {
        assert_eq!(case.passing(), Wishes::new());
        assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/o/1"]);
    }
    assert_eq!(case.passing(), ["withdraw t1", "failed: reset"]);
}

#[test]
fn what_the_ca_refuses_is_not_tried_again() {
    let refused = [
        problem(ProblemKind::Other, 400, None),
        problem(ProblemKind::RateLimited, 429, Some(1)),
        problem(ProblemKind::AccountDoesNotExist, 400, None),
        CallError::Key(KeyError::Unsupported),
    ];
    for error in refused {
        let mut case = Case::new(&["a.org"]);
        case.answered();
        case.wait(SOON);
        let wishes = case.reply(Err(error.clone()));
        assert_eq!(wishes, ["withdraw t1".to_string(), format!("failed: {error}")]);
    }
}

#[test]
fn a_short_retry_after_is_waited_for_and_a_long_one_is_handed_on() {
    let mut case = Case::new(&["a.org"]);
    case.due();
    let busy = |seconds| Err(problem(ProblemKind::ServerInternal, 503, Some(seconds)));
    case.reply(busy(50));
    let at = case.order.poll_timeout().unwrap();
    assert_eq!(at.since(case.bench.now.mono), Duration::from_secs(50));
    case.wait(PATIENCE);
    case.order.handle_reply(&mut case.bench.cx(), &case.key, busy(86_400));
    let Some(OrderOutput::Finished(Err(error))) = case.order.poll_output() else {
        panic!("it is over")
    };
    assert_eq!(error.retry_after(), Some(Duration::from_secs(86_400)));
}
