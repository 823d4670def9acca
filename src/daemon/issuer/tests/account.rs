//! The account: remembered, told of a new contact, bound, refused; and a CA that asks for a pause.

use crate::log::message;
use zeroize::Zeroizing;

use super::*;
use crate::acme::jws::thumbprint;
use crate::daemon::model::CaState;

fn key() -> Secret {
    Secret::new("PRIVATE KEY".into())
}

impl Case {
    /// What an earlier run remembers of this CA, told that contact.
    fn memory(&mut self, contact: Option<&str>) -> CaState {
        let key = self.bench.cx().keys.read_account_key(&key()).unwrap();
        let (url, thumbprint) = ("https://ca/account/7".to_string(), thumbprint(&key.public));
        let account = AccountState { url, thumbprint, contact: contact.map(str::to_string) };
        CaState { account: Some(account), ..CaState::default() }
    }

    pub(super) fn start(&mut self, memory: Option<&CaState>) {
        self.issuer.start(&mut self.bench.cx(), Some(&key()), memory);
    }
}

#[test]
fn a_remembered_account_is_used_without_asking() {
    let mut case = Case::new();
    let memory = case.memory(Some("a@b.org"));
    case.start(Some(&memory));
    case.order(1);
    case.run();
    assert_eq!(case.asked[..3], ["GET dir", "HEAD nonce", "POST new-order"]);
    assert_eq!(case.issued(), 1);
    // That of another key is not ours.
    let mut case = Case::new();
    let mut memory = case.memory(Some("a@b.org"));
    memory.account.as_mut().unwrap().thumbprint = "another".into();
    case.start(Some(&memory));
    case.run();
    assert_eq!(case.asked, ["GET dir", "HEAD nonce", "POST account"]);
}

#[test]
fn a_new_contact_is_sent_once() {
    let mut case = Case::new();
    let memory = case.memory(Some("old@b.org"));
    case.start(Some(&memory));
    case.run();
    assert_eq!(case.asked, ["GET dir", "HEAD nonce", "POST account/7"]);
    assert_eq!(case.payloads["account/7"]["contact"][0], "mailto:a@b.org");
    let remembered = case.said.iter().find_map(|said| match said {
        IssuerOutput::Account(account) => account.contact.clone(),
        _ => None,
    });
    assert_eq!(remembered.as_deref(), Some("a@b.org"));
    // One that is refused stops no order.
    let mut case = Case::new().trick("account", &[Trick::Problem("invalidContact", 400)]);
    let memory = case.memory(None);
    case.start(Some(&memory));
    case.order(1);
    case.run();
    assert_eq!(case.issued(), 1);
    assert_eq!(case.bench.logged("the CA did not take the new contact"), 1);
}

#[test]
fn a_binding_goes_with_the_first_registration() {
    let binding = Binding { kid: "k1".into(), mac_key: Zeroizing::new(b"secret".to_vec()) };
    let acme = Url::parse("https://ca/dir").unwrap();
    let mut case = Case::of(&Config { acme, ..config() }, Some(binding));
    case.issuer.start(&mut case.bench.cx(), None, None);
    case.issuer.account_key_stored(&mut case.bench.cx(), Ok(()));
    case.run();
    assert_eq!(case.asked, ["GET dir", "HEAD nonce", "POST account"]);
    let sent = &case.payloads["account"];
    assert!(sent["externalAccountBinding"]["signature"].is_string(), "{sent}");
    assert!(case.issuer.status().account.is_some());
}

#[test]
fn what_only_a_person_can_mend_is_said_and_not_tried_again() {
    for (kind, words) in [
        ("externalAccountRequired", "--eab-kid"),
        ("unauthorized", "move client.key away"),
        ("userActionRequired", "something done first"),
        ("invalidContact", "--email"),
        ("badPublicKey", "client.key"),
    ] {
        let mut case = Case::new().trick("account", &[Trick::Problem(kind, 403); 3]);
        case.start(None);
        case.order(1);
        case.run();
        let problem = case.issuer.status().problem.expect("it is said");
        assert!(problem.contains(words) && problem.contains("of a test"), "{kind}: {problem}");
        assert!(problem.hint.is_some(), "{kind}");
        assert_eq!(case.asked_for("POST account"), 1, "{kind}");
        assert_eq!((case.issued(), case.finished.len()), (0, 1), "the order is told");
    }
}

#[test]
fn a_clock_that_is_far_off_the_cas_is_said_once_until_they_agree() {
    let mut case = Case::registered();
    assert_eq!(case.bench.now.wall.to_string(), "2026-11-23T00:00:00Z");
    let mut shows = |date: &str| {
        let mut headers = Headers::new();
        headers.push("Date", &format!("{date} GMT"));
        case.issuer.compare_clocks(&mut case.bench.cx(), &headers);
        case.bench.logged(message::CLOCKS_DIFFER)
    };
    let dates = [
        "Mon, 23 Nov 2026 00:00:00",
        "Mon, 23 Nov 2026 01:00:00",
        "Sun, 22 Nov 2026 22:59:59",
        "Sun, 22 Nov 2026 12:00:00",
        "Mon, 23 Nov 2026 00:01:00",
        "Tue, 24 Nov 2026 00:00:00",
    ];
    let found = dates.map(&mut shows);
    assert_eq!(found, [0, 0, 1, 1, 1, 2]);
}

#[test]
fn no_order_begins_before_the_ca_was_asked_for_the_time() {
    let mut case = Case::registered();
    case.asked.clear();
    case.issuer.ask_time(&case.bench.cx());
    case.order(1);
    case.run();
    assert_eq!(case.asked[..2], ["GET dir", "POST new-order"]);
    assert_eq!(case.issued(), 1);
}

#[test]
fn a_date_of_an_error_is_not_believed() {
    for (status, told) in [(200, 1), (503, 0), (404, 0)] {
        let mut case = Case::registered();
        case.said.clear();
        case.order(1);
        case.drain();
        let (call, _) = case.calls.pop_front().expect("a call");
        let mut headers = Headers::new();
        headers.push("Date", "Fri, 12 Feb 2027 00:00:00 GMT");
        let head = ResponseHead { status, headers };
        let response = Response { head, body: b"<html>".to_vec() };
        case.issuer.handle_response(&mut case.bench.cx(), call, Ok(response));
        case.drain();
        let compared = |it: &&IssuerOutput| matches!(it, IssuerOutput::ClockCompared { .. });
        assert_eq!(case.said.iter().filter(compared).count(), told, "{status}");
    }
}

/// A cache adds the age of its answer.
#[test]
fn how_far_our_clock_is_off_is_told() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let mut case = Case::new();
    let mut told = |fields: &[(&str, &str)]| {
        let mut headers = Headers::new();
        fields.iter().for_each(|(name, value)| headers.push(name, value));
        case.issuer.compare_clocks(&mut case.bench.cx(), &headers);
        let mut told = None;
        let mut steps = crate::testing::Steps::default();
        while let Some(output) = case.issuer.poll_output() {
            steps.count();
            if let IssuerOutput::ClockCompared { ahead_ms } = output {
                told = Some(ahead_ms);
            }
        }
        told
    };
    let now = ("Date", "Mon, 23 Nov 2026 00:00:00 GMT");
    let (earlier, later) =
        (("Date", "Sun, 22 Nov 2026 00:00:00 GMT"), ("Date", "Tue, 24 Nov 2026 00:00:10 GMT"));
    assert_eq!((told(&[]), told(&[now])), (None, Some(0)));
    assert_eq!((told(&[earlier]), told(&[later])), (Some(DAY_MS), Some(-DAY_MS - 10_000)));
    assert_eq!(told(&[earlier, ("Age", "86400")]), Some(0));
}

#[test]
fn an_account_that_may_not_order_any_more_is_found_out() {
    let mut case = Case::registered()
        .trick("new-order", &[Trick::Problem("unauthorized", 403)])
        .trick("account", &[Trick::Problem("unauthorized", 403)]);
    case.order(1);
    case.run();
    assert_eq!(case.asked_for("POST account"), 1);
    let problem = case.issuer.status().problem.expect("it is said");
    assert!(problem.contains("deactivated"), "{problem}");
    // Where the account is good after all, the next order is tried.
    let mut case = Case::registered().trick("new-order", &[Trick::Problem("unauthorized", 403)]);
    case.order(1);
    case.order(2);
    case.run();
    assert_eq!((case.issued(), case.finished.len()), (1, 2));
}

#[test]
fn a_profile_that_the_ca_does_not_have_is_refused_with_its_list() {
    let acme = Url::parse("https://ca/dir").unwrap();
    let profile = Some("shortlived".to_string());
    let mut case = Case::of(&Config { acme, profile, ..config() }, None);
    case.directory = r#"{"newNonce":"https://ca/nonce","newAccount":"https://ca/account",
        "newOrder":"https://ca/new-order","meta":{"profiles":{"classic":"as ever","tiny":"x"}}}"#;
    case.start(None);
    case.run();
    let refused = case.said.iter().find_map(|said| match said {
        IssuerOutput::Refused(reason) => Some(reason.clone()),
        _ => None,
    });
    let reason = refused.expect("it is refused");
    assert!(reason.contains("--profile shortlived"), "{reason}");
    assert!(reason.contains("classic (as ever), tiny (x)"), "{reason}");
    assert_eq!(case.asked, ["GET dir"]);
}

#[test]
fn an_overloaded_ca_gets_no_new_orders_for_a_while() {
    let mut case = Case::registered().trick("new-order", &[Trick::Overloaded]);
    (1..4).for_each(|id| case.order(id));
    case.drain();
    let (call, request) = case.calls.pop_front().expect("the first order");
    let result = case.answer(&request);
    case.issuer.handle_response(&mut case.bench.cx(), call, result);
    case.drain();
    assert_eq!(case.finished.len(), 1, "its own schedule takes care of it");
    assert!(case.said.iter().any(|said| matches!(said, IssuerOutput::NotBefore(_))));
    (4..9).for_each(|id| case.order(id));
    assert_eq!(case.issuer.status().queued, 5);
    case.run();
    assert_eq!(case.issuer.status().queued, 5, "the hour is not over");
    case.bench.pass(Duration::from_secs(3600));
    case.issuer.handle_timeout(&mut case.bench.cx());
    case.run();
    assert_eq!(case.issued(), 7);
}

#[test]
fn a_pause_that_the_ca_asked_for_survives_a_restart() {
    let mut case = Case::new();
    let mut memory = case.memory(Some("a@b.org"));
    memory.not_before = Some(case.bench.now.wall.plus(Duration::from_secs(3600)));
    case.start(Some(&memory));
    case.order(1);
    case.run();
    assert_eq!((case.issued(), case.issuer.status().queued), (0, 1));
    case.bench.pass(Duration::from_secs(3600));
    case.issuer.handle_timeout(&mut case.bench.cx());
    case.run();
    assert_eq!(case.issued(), 1);
}

#[test]
fn a_pause_that_a_clock_ahead_has_dated_is_none() {
    let mut case = Case::new();
    let mut memory = case.memory(Some("a@b.org"));
    memory.not_before = Some(case.bench.now.wall.plus(Duration::from_secs(30 * 24 * 3600)));
    case.start(Some(&memory));
    case.order(1);
    case.run();
    assert_eq!(case.issued(), 1);
}

#[test]
fn an_old_directory_is_read_anew_before_an_order() {
    let mut case = Case::registered();
    case.bench.pass(DIRECTORY_AGE_MAX + Duration::from_secs(1));
    case.order(1);
    case.run();
    assert_eq!((case.issued(), case.asked_for("GET dir")), (1, 1));
    assert_eq!(case.bench.logged(message::REGISTERED), 1, "no news");
}

#[test]
fn orders_under_way_bear_a_new_registration() {
    let mut case = Case::registered()
        .trick("new-order", &[Trick::Problem("accountDoesNotExist", 400)])
        .trick("account", &[Trick::Lost, Trick::Lost]);
    (1..15).for_each(|id| case.order(id));
    case.run();
    assert_eq!((case.issued(), case.finished.len()), (14, 14));
    // Nobody but the account itself is signed for by the bare key.
    let bare = case.protected.iter().filter(|(_, header)| !header["jwk"].is_null());
    let bare: Vec<&str> = bare.map(|(path, _)| path.as_str()).collect();
    assert!(bare.iter().all(|path| *path == "account"), "{bare:?}");
}

#[test]
fn an_order_that_may_begin_waits_while_the_account_is_gone() {
    let mut case = Case::registered();
    let names = vec![Domain::parse("a.org").unwrap()];
    let (order, app, failed_before) = (OrderId(1), "/app".to_string(), false);
    let new = NewOrder { order, names, app, replaces: None, resume: None, failed_before };
    case.issuer.order(&mut case.bench.cx(), new);
    case.issuer.account_is_gone(&mut case.bench.cx());
    case.issuer.begin(&mut case.bench.cx(), OrderId(1), Some("aki.serial".into()));
    assert_eq!(case.issuer.status().queued, 1);
    case.run();
    assert_eq!((case.issued(), case.asked_for("POST account")), (1, 1));
    assert_eq!(case.payloads["new-order"]["replaces"], "aki.serial");
}

#[test]
fn an_order_is_made_again_once_only_where_the_ca_forgets_what_it_registers() {
    let forgetting = [Trick::Problem("accountDoesNotExist", 400); 500];
    let mut case = Case::registered().trick("new-order", &forgetting);
    case.order(1);
    case.run();
    assert_eq!((case.asked_for("POST new-order"), case.asked_for("POST account")), (2, 1));
    let Some((_, Err(error))) = case.finished.first() else { panic!("it fails") };
    assert_eq!(error.to_string(), "accountDoesNotExist: of a test");
    assert_eq!(case.issuer.failures(), 0, "registering works");
    // Whatever else is ordered, the pauses before registering grow.
    let began = case.bench.now.mono;
    (2..7).for_each(|id| {
        case.order(id);
        case.run();
    });
    assert_eq!((case.finished.len(), case.asked_for("POST account")), (6, 6));
    let passed = case.bench.now.mono.since(began);
    assert!(passed > Duration::from_secs(45), "2, 4, 8, 16 and 32 s, jittered: {passed:?}");
    // Until an order is placed.
    case = case.trick("new-order", &[]);
    case.order(7);
    case.run();
    let began = case.bench.now.mono;
    case = case.trick("new-order", &forgetting[..1]);
    case.order(8);
    case.run();
    assert_eq!(case.issued(), 2);
    assert!(case.bench.now.mono.since(began) < Duration::from_secs(1), "at once");
}
