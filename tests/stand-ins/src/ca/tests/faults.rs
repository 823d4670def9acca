//! What goes wrong at one step, by order of a test.

use super::*;

fn fault(step: Step, effect: Effect) -> Fault {
    Fault { step, effect, times: 1, tag: 7 }
}

fn with(step: Step, effect: Effect) -> Client {
    let mut client = Client::registered(|_| {});
    client.ca.peer.settings.faults.push(fault(step, effect));
    client
}

#[test]
fn a_step_is_refused_once_and_said() {
    let busy = Problem::new(429, "rateLimited", "busy");
    let mut client = with(Step::NewOrder, Effect::Refuse(busy, RetryAfter::Date(60)));
    let response = client.ask_order(&["a.example.com"], &json!({}));
    assert_eq!(problem(&response), kind(429, "rateLimited"));
    let seen = client.ca.peer.seen().last().unwrap().clone();
    assert_eq!((seen.step, seen.retry_after_ms), (Some(Step::NewOrder), Some(60_000)));
    assert_eq!(seen.names, ["a.example.com"]);
    assert_eq!(client.ask_order(&["a.example.com"], &json!({})).status, 201);
    assert_eq!(client.ca.peer.fired(), [7]);
}

#[test]
fn a_proxy_answers_without_a_nonce() {
    let page = |html| Effect::Page { status: 502, html, retry_after: RetryAfter::Seconds(9) };
    for html in [true, false] {
        let mut client = with(Step::Directory, page(html));
        let response = client.get("GET", "/directory");
        assert_eq!((response.status, response.body.is_empty()), (502, !html));
        assert_eq!(response.header("Retry-After"), Some("9"));
        assert_eq!(client.get("GET", "/directory").status, 200);
    }
}

#[test]
fn what_is_lost_or_late_has_happened() {
    for effect in [Effect::Lost, Effect::Late(40_000)] {
        let late = matches!(effect, Effect::Late(_));
        let mut client = with(Step::NewNonce, effect);
        let conn = client.ca.connect();
        client.ca.send(conn, b"HEAD /new-nonce HTTP/1.1\r\nHost: ca\r\nUser-Agent: t\r\n\r\n");
        client.ca.pass_ms(39_999);
        assert_eq!(client.ca.text(conn), "");
        client.ca.pass_ms(1);
        assert_eq!(client.ca.text(conn).starts_with("HTTP/1.1 200 "), late);
        assert_eq!(client.ca.peer.answer_ends(conn).len(), usize::from(late));
        assert_eq!(client.ca.peer.seen().last().map(|seen| seen.status), Some(200));
    }
}

#[test]
fn an_object_is_spoilt() {
    let effect = Effect::Member("newOrder", None);
    let mut client = with(Step::Directory, effect);
    assert_eq!(object(&client.get("GET", "/directory")).get("newOrder"), None);
    assert!(client.ca.peer.seen().last().is_some_and(|seen| seen.spoilt));
    client.ca.peer.settings.faults.push(fault(Step::Directory, Effect::Body("<html>")));
    assert_eq!(client.get("GET", "/directory").body, b"<html>");
    let odd = Effect::Member("status", Some(json!("odd")));
    client.ca.peer.settings.faults.push(fault(Step::Order, odd));
    let order = client.order(&["a.example.com"]);
    assert_eq!(object(&client.read(&order))["status"], "odd");
    assert_eq!(object(&client.read(&order))["status"], "pending");
}

#[test]
fn an_order_becomes_invalid_and_a_validation_fails_somewhere() {
    let mut client = with(Step::Order, Effect::Invalid);
    let order = client.order(&["a.example.com"]);
    assert_eq!(object(&client.read(&order))["status"], "invalid");
    for one_place in [true, false] {
        let mut client = with(Step::Challenge, Effect::Unproved { one_place });
        client.ca.peer.settings.vantage_points = 3;
        client.order(&["a.example.com"]);
        let (challenge, _) = client.http_challenge("/authz/0");
        client.post(&challenge, &json!({}));
        assert_eq!(object(&client.read("/authz/0"))["status"], "invalid");
        assert_eq!(client.ca.peer.fired(), [7]);
    }
}

#[test]
fn every_bad_chain_is_another_one() {
    let all = [
        BadChain::Garbage,
        BadChain::Unlinked,
        BadChain::Forged,
        BadChain::Another,
        BadChain::Names,
        BadChain::Key,
        BadChain::Expired,
        BadChain::Future,
    ];
    let mut client = Client::registered(|_| {});
    client.issue(&["a.example.com"]);
    let good = client.read("/cert/0").body;
    let mut chains = std::collections::BTreeSet::from([good.clone()]);
    for bad in all {
        client.ca.peer.settings.faults.push(fault(Step::Certificate, Effect::Chain(bad)));
        let chain = client.read("/cert/0").body;
        assert!(String::from_utf8_lossy(&chain).starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(chains.insert(chain), "{bad:?}");
    }
    assert_eq!(client.read("/cert/0").body, good);
}

#[test]
fn a_directory_moves() {
    let mut client = Client::registered(|_| {});
    client.ca.peer.settings.prefix = "/v2";
    let directory = object(&client.get("GET", "/directory"));
    assert_eq!(directory["newNonce"], format!("{BASE}/v2/new-nonce"));
    assert_eq!(client.get("HEAD", "/v2/new-nonce").status, 200);
    for (path, status) in [("/new-nonce", 404), ("/v2/directory", 404), ("/terms", 200)] {
        assert_eq!(client.get("GET", path).status, status, "{path}");
    }
}

#[test]
fn orders_of_some_names_hang_and_validations_can_be_hurried() {
    let mut client = Client::registered(|settings| {
        settings.hanging_names.insert("slow.example.com".to_string());
        settings.validation_delay_ms = 3_600_000;
    });
    client.order(&["slow.example.com"]);
    let (challenge, expected) = client.http_challenge("/authz/0");
    client.post(&challenge, &json!({}));
    assert!(client.ca.dialed.is_empty());
    let now = client.ca.now;
    client.ca.peer.get_on(now);
    client.ca.pass_ms(0);
    client.serve(&ok(&expected));
    assert_eq!(object(&client.read("/authz/0"))["status"], "valid");
    assert!(client.ca.peer.hangs(&["slow.example.com".to_string()]));
    assert!(!client.ca.peer.hangs(&["a.example.com".to_string()]));
}
