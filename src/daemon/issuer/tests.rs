//! The issuer against a CA of a few lines, which answers at once, or fails when told to.

use crate::log::message;
use std::collections::BTreeMap;

use super::*;
use crate::client::IDLE_PER_PEER_MAX;
use crate::http::{Headers, ResponseHead};
use crate::machine::StoreError;
use crate::machine::StoreErrorKind;
use crate::testing::{Bench, config};

mod account;
mod doubt;
mod fairness;
mod questions;
mod resources;

/// An issuer, and a CA that keeps just enough state to answer it.
struct Case {
    bench: Bench,
    issuer: Issuer,
    /// Calls that the CA has not answered yet.
    calls: VecDeque<(CallId, Request)>,
    /// Method and path of everything the CA was asked.
    asked: Vec<String>,
    finished: Vec<(OrderId, Result<Issued, OrderError>)>,
    /// Whatever else it said.
    said: Vec<IssuerOutput>,
    published: Vec<String>,
    stored_keys: usize,
    nonces: u64,
    orders: u64,
    /// The directory, where it is not the plain one.
    directory: &'static str,
    /// The object of a new order, where it is not the right one.
    order_object: Option<&'static str>,
    /// The protected headers of signed requests, each with its path.
    protected: Vec<(String, serde_json::Value)>,
    /// The payloads of signed requests, by path.
    payloads: BTreeMap<String, serde_json::Value>,
    /// Answers to be given instead of the right ones, by path.
    tricks: BTreeMap<&'static str, VecDeque<Trick>>,
}

const DIRECTORY: &str = r#"{"newNonce":"https://ca/nonce","newAccount":"https://ca/account",
    "newOrder":"https://ca/new-order","meta":{"termsOfService":"https://ca/terms"}}"#;

/// What the CA does instead of answering well.
#[derive(Clone, Copy, Debug)]
enum Trick {
    BadNonce,
    Problem(&'static str, u16),
    Html,
    /// 503, with a pause of an hour.
    Overloaded,
    /// The account is there, with this status.
    Account(&'static str),
    Lost,
}

impl Case {
    fn new() -> Case {
        let acme = Url::parse("https://ca/dir").unwrap();
        let config = Config { acme, email: Some("a@b.org".into()), ..config() };
        Case::of(&config, None)
    }

    fn of(config: &Config, binding: Option<Binding>) -> Case {
        Case {
            bench: Bench::new(),
            issuer: Issuer::new(config, binding),
            calls: VecDeque::new(),
            asked: Vec::new(),
            finished: Vec::new(),
            said: Vec::new(),
            published: Vec::new(),
            stored_keys: 0,
            nonces: 0,
            orders: 0,
            directory: DIRECTORY,
            order_object: None,
            protected: Vec::new(),
            payloads: BTreeMap::new(),
            tricks: BTreeMap::new(),
        }
    }

    /// With an account, and a nonce in the bank.
    fn registered() -> Case {
        let mut case = Case::new();
        let pem = Secret::new("PRIVATE KEY".into());
        case.issuer.start(&mut case.bench.cx(), Some(&pem), None);
        case.run();
        assert!(case.issuer.status().account.is_some());
        case.asked.clear();
        case.said.clear();
        case
    }

    fn trick(mut self, path: &'static str, tricks: &[Trick]) -> Case {
        self.tricks.insert(path, tricks.iter().copied().collect());
        self
    }

    fn order(&mut self, id: u64) {
        self.order_again(id, false);
    }

    fn order_again(&mut self, id: u64, failed_before: bool) {
        self.order_of("/app", id, failed_before);
    }

    fn order_of(&mut self, app: &str, id: u64, failed_before: bool) {
        let (app, replaces, resume) = (app.to_string(), None, None);
        let name = Domain::parse(&format!("n{id}.example.org")).unwrap();
        let order = OrderId(id);
        let names = vec![name];
        let new = NewOrder { order, names, app, replaces, resume, failed_before };
        self.issuer.order(&mut self.bench.cx(), new);
    }

    /// Answers everything until nothing is asked any more; time passes for what waits up to a minute.
    fn run(&mut self) {
        let mut steps = crate::testing::Steps::default();
        loop {
            steps.count();
            self.drain();
            if let Some((call, request)) = self.calls.pop_front() {
                let result = self.answer(&request);
                self.issuer.handle_response(&mut self.bench.cx(), call, result);
                continue;
            }
            let Some(at) = self.issuer.poll_timeout() else { break };
            let pause = at.since(self.bench.now.mono);
            if pause > Duration::from_secs(90) {
                break;
            }
            self.bench.pass(pause);
            self.issuer.handle_timeout(&mut self.bench.cx());
        }
    }

    fn drain(&mut self) {
        let mut steps = crate::testing::Steps::default();
        while let Some(output) = self.issuer.poll_output() {
            steps.count();
            match output {
                IssuerOutput::Send { call, request } => self.calls.push_back((call, request)),
                IssuerOutput::StoreAccountKey(_) => self.stored_keys += 1,
                IssuerOutput::Publish { token, .. } => self.published.push(token),
                IssuerOutput::Withdraw { token } => self.published.retain(|it| *it != token),
                IssuerOutput::Finished { order, result } => self.finished.push((order, result)),
                IssuerOutput::Begins { order } => {
                    self.issuer.begin(&mut self.bench.cx(), order, None);
                }
                IssuerOutput::Created { order, resume } => {
                    self.issuer.kept(&mut self.bench.cx(), order);
                    self.said.push(IssuerOutput::Created { order, resume });
                }
                other => self.said.push(other),
            }
        }
    }

    fn answer(&mut self, request: &Request) -> Result<Response, CallFailure> {
        let path = request.url.target().trim_start_matches('/').to_string();
        self.asked.push(format!("{} {path}", request.method.as_str()));
        if let Ok(body) = serde_json::from_slice::<serde_json::Value>(&request.body) {
            let member = |name: &str| {
                let bytes = crate::acme::jws::mac_key(body[name].as_str().unwrap_or_default())?;
                serde_json::from_slice::<serde_json::Value>(&bytes).ok()
            };
            self.protected.push((path.clone(), member("protected").unwrap_or_default()));
            let payload = member("payload");
            self.payloads.insert(path.clone(), payload.unwrap_or_default());
        }
        let (kind, number) = path.split_once('/').unwrap_or((&path, "0"));
        let trick = self.tricks.get_mut(kind).and_then(VecDeque::pop_front);
        let problem = |kind: &str| {
            format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"of a test"}}"#)
        };
        match trick {
            None => Ok(self.right(kind, number)),
            Some(Trick::Lost) => {
                Err(CallFailure { text: "the connection was reset".into(), lasting: false })
            }
            Some(Trick::Html) => Ok(self.response(503, "<html>")),
            Some(Trick::Overloaded) => {
                let mut response = self.response(503, "<html>");
                response.head.headers.push("Retry-After", "3600");
                Ok(response)
            }
            Some(Trick::Account(status)) => {
                let mut response = self.response(200, &format!(r#"{{"status":"{status}"}}"#));
                response.head.headers.push("Location", "https://ca/account/7");
                Ok(response)
            }
            Some(Trick::BadNonce) => Ok(self.response(400, &problem("badNonce"))),
            Some(Trick::Problem(kind, status)) => Ok(self.response(status, &problem(kind))),
        }
    }

    fn right(&mut self, kind: &str, number: &str) -> Response {
        let order = |number: &str, status: &str| {
            format!(
                r#"{{"status":"{status}","authorizations":["https://ca/authz/{number}"],
                "finalize":"https://ca/finalize/{number}","certificate":"https://ca/cert/{number}"}}"#
            )
        };
        let body = match kind {
            "dir" => self.directory.to_string(),
            "new-order" => {
                self.orders += 1;
                let right = order(&self.orders.to_string(), "pending");
                self.order_object.map_or(right, str::to_string)
            }
            "authz" => format!(
                r#"{{"identifier":{{"value":"x"}},"status":"pending","challenges":[{{"type":"http-01",
                "url":"https://ca/challenge/{number}","token":"t{number}","status":"pending"}}]}}"#
            ),
            "order" => order(number, "ready"),
            "finalize" => order(number, "valid"),
            "cert" => "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".into(),
            _ => "{}".into(),
        };
        let status = if kind == "account" && number == "0" { 201 } else { 200 };
        let mut response = self.response(status, &body);
        let location = match kind {
            "new-order" => format!("https://ca/order/{}", self.orders),
            _ => "https://ca/account/7".into(),
        };
        response.head.headers.push("Location", &location);
        if kind == "dir" {
            // As real ones: a GET gives no nonce.
            response.head.headers = Headers::new();
        }
        response
    }

    fn response(&mut self, status: u16, body: &str) -> Response {
        self.nonces += 1;
        let mut headers = Headers::new();
        headers.push("Replay-Nonce", &format!("nonce{}", self.nonces));
        Response { head: ResponseHead { status, headers }, body: body.into() }
    }

    fn issued(&self) -> usize {
        self.finished.iter().filter(|(_, result)| result.is_ok()).count()
    }

    /// How often a path was asked for.
    fn asked_for(&self, kind: &str) -> usize {
        self.asked.iter().filter(|line| line.ends_with(kind)).count()
    }
}

#[test]
fn a_new_key_is_on_the_disk_before_the_ca_sees_it() {
    let mut case = Case::new();
    case.issuer.start(&mut case.bench.cx(), None, None);
    case.run();
    assert_eq!((case.stored_keys, case.asked.len()), (1, 0));
    let full = StoreError {
        kind: StoreErrorKind::Full,
        path: "client.key".into(),
        detail: "no space".into(),
    };
    case.issuer.account_key_stored(&mut case.bench.cx(), Err(full));
    assert_eq!(case.issuer.status().problem.as_deref(), Some("client.key: client.key: no space"));
    case.run();
    assert_eq!((case.stored_keys, case.asked.len()), (2, 0), "tried again, not gone on");
    case.issuer.account_key_stored(&mut case.bench.cx(), Ok(()));
    case.run();
    assert_eq!(case.asked, ["GET dir", "HEAD nonce", "POST account"]);
    assert_eq!(case.issuer.status().account.as_deref(), Some("https://ca/account/7"));
    assert_eq!(case.issuer.status().problem, None);
}

#[test]
fn a_warm_account_needs_six_requests_when_the_ca_is_quick() {
    let mut case = Case::registered();
    case.order(1);
    case.run();
    assert_eq!(case.issued(), 1);
    assert_eq!(
        case.asked,
        [
            "POST new-order",
            "POST authz/1",
            "POST challenge/1",
            "POST order/1",
            "POST finalize/1",
            "POST cert/1"
        ]
    );
    assert_eq!(case.published, Vec::<String>::new());
}

#[test]
fn ten_side_by_side_and_the_others_wait() {
    let mut case = Case::registered();
    (0..25).for_each(|id| case.order(id));
    let status = case.issuer.status();
    assert_eq!((status.running, status.queued), (ORDERS_SIDE_BY_SIDE_MAX, 15));
    case.run();
    assert_eq!(case.issued(), 25);
    assert_eq!(case.issuer.status().running, 0);
    let ids: std::collections::BTreeSet<OrderId> =
        case.finished.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 25);
}

#[test]
fn a_bad_nonce_is_answered_with_the_one_that_came_along() {
    let mut case = Case::registered().trick("new-order", &[Trick::BadNonce; 5]);
    case.order(1);
    case.run();
    assert_eq!((case.issued(), case.asked_for("new-order")), (1, 6));
    assert_eq!(case.asked_for("nonce"), 0);
}

#[test]
fn bad_nonces_without_end_end() {
    let mut case = Case::registered().trick("new-order", &[Trick::BadNonce; 100]);
    case.order(1);
    case.run();
    let Some((_, Err(error))) = case.finished.first() else { panic!("it fails") };
    assert_eq!(error.to_string(), "badNonce: of a test");
    assert_eq!(case.asked_for("new-order"), 9 * 6, "each of nine tries with five more nonces");
}

#[test]
fn one_order_that_fails_does_not_touch_the_others() {
    let mut case = Case::registered()
        .trick("finalize", &[Trick::Problem("badCSR", 400)])
        .trick("authz", &[Trick::Html, Trick::Lost]);
    (1..4).for_each(|id| case.order(id));
    case.run();
    assert_eq!((case.issued(), case.finished.len()), (2, 3));
    assert_eq!(case.published, Vec::<String>::new(), "withdrawn on every way out");
}

#[test]
fn a_lost_nonce_request_costs_one_try() {
    let mut case = Case::registered().trick("nonce", &[Trick::Lost]);
    case.bench.pass(Duration::from_secs(3600));
    case.order(1);
    case.run();
    assert_eq!((case.issued(), case.asked_for("nonce")), (1, 2), "the banked one was too old");
}

#[test]
fn an_account_that_the_ca_forgot_is_made_again_with_the_same_key() {
    let mut case =
        Case::registered().trick("new-order", &[Trick::Problem("accountDoesNotExist", 400)]);
    case.order(1);
    case.order(2);
    case.run();
    assert_eq!((case.issued(), case.asked_for("POST account")), (2, 1));
    assert_eq!(case.stored_keys, 0);
}

#[test]
fn registering_is_tried_until_it_works_and_the_orders_wait() {
    let mut case = Case::new()
        .trick("dir", &[Trick::Lost, Trick::Lost])
        .trick("nonce", &[Trick::Lost])
        .trick("account", &[Trick::Problem("serverInternal", 500)]);
    let pem = Secret::new("PRIVATE KEY".into());
    case.issuer.start(&mut case.bench.cx(), Some(&pem), None);
    case.order(1);
    case.run();
    assert_eq!(case.issued(), 1);
    assert_eq!(case.bench.logged(message::REGISTRATION_FAILED), 4);
    assert_eq!(case.issuer.status().problem, None);
}

#[test]
fn a_directory_of_html_is_said_and_asked_for_again() {
    let mut case = Case::new().trick("dir", &[Trick::Html]);
    let pem = Secret::new("PRIVATE KEY".into());
    case.issuer.start(&mut case.bench.cx(), Some(&pem), None);
    case.issuer.handle_timeout(&mut case.bench.cx());
    case.drain();
    let (call, _) = case.calls.pop_front().expect("the directory is asked for");
    let page = case.response(200, "<html><body>Welcome");
    case.issuer.handle_response(&mut case.bench.cx(), call, Ok(page));
    let problem = case.issuer.status().problem.expect("it is said");
    assert!(problem.contains("<html><body>Welcome"), "{problem}");
    case.run();
    assert!(case.issuer.status().account.is_some());
}

#[test]
fn a_key_that_cannot_be_read_fails_the_orders_and_is_kept() {
    let mut case = Case::new();
    let rubbish = Secret::new("rubbish".into());
    case.order(1);
    case.issuer.start(&mut case.bench.cx(), Some(&rubbish), None);
    case.order(2);
    case.run();
    let errors: Vec<String> = case
        .finished
        .iter()
        .filter_map(|(_, result)| result.as_ref().err().map(ToString::to_string))
        .collect();
    assert_eq!(errors.len(), 2);
    assert!(errors[0].contains("client.key") && errors[0].contains("never overwritten"));
    assert_eq!((case.stored_keys, case.asked.len()), (0, 0));
    assert_eq!(case.bench.logged(message::CANNOT_ORDER), 1);
}

#[test]
fn a_ca_that_wants_a_binding_says_so() {
    let mut case = Case::new().trick("account", &[Trick::Problem("externalAccountRequired", 403)]);
    let pem = Secret::new("PRIVATE KEY".into());
    case.issuer.start(&mut case.bench.cx(), Some(&pem), None);
    let directory = r#"{"newNonce":"https://ca/nonce","newAccount":"https://ca/account",
        "newOrder":"https://ca/new-order","meta":{"externalAccountRequired":true}}"#;
    case.issuer.handle_timeout(&mut case.bench.cx());
    case.drain();
    let (call, _) = case.calls.pop_front().expect("the directory is asked for");
    let response = case.response(200, directory);
    case.issuer.handle_response(&mut case.bench.cx(), call, Ok(response));
    case.order(1);
    case.run();
    let Some((_, Err(error))) = case.finished.first() else { panic!("it fails") };
    assert!(error.to_string().contains("external account binding"), "{error}");
}

#[test]
fn each_of_the_orders_side_by_side_keeps_its_connection() {
    const { assert!(ORDERS_SIDE_BY_SIDE_MAX <= IDLE_PER_PEER_MAX) };
}
