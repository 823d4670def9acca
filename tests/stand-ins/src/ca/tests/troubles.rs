//! A CA that is away, slow forever, or finds something wrong at the end.

use super::*;

#[test]
fn a_ca_that_is_away_says_so_to_everybody() {
    let mut client = Client::registered(|_| {});
    let draft = client.draft("/new-order", "{}");
    client.ca.peer.settings.unavailable = Some(RetryAfter::Seconds(120));
    for path in ["/directory", "/new-nonce", "/nowhere"] {
        let response = client.get("GET", path);
        assert_eq!((response.status, response.header("Retry-After")), (503, Some("120")));
        assert_eq!(response.header("Content-Type"), Some("text/html;charset=iso-8859-1"));
        assert_eq!((response.header("Replay-Nonce"), response.header("Link")), (None, None));
    }
    client.ca.peer.settings.unavailable = Some(RetryAfter::Date(60));
    let head = "POST /new-order HTTP/1.1\r\nUser-Agent: test\r\nContent-Length: 2";
    let response = client.ca.ask(head, "{}");
    let at = Some("Mon, 23 Nov 2026 17:01:00 GMT");
    assert_eq!((response.status, response.header("Retry-After")), (503, at));
    client.ca.peer.settings.unavailable = Some(RetryAfter::None);
    assert_eq!(client.get("GET", "/directory").header("Retry-After"), None);
    client.ca.peer.settings.unavailable = None;
    // Nothing was forgotten meanwhile: the nonce is good still.
    assert_eq!(problem(&client.send(draft)), malformed());
}

#[test]
fn a_name_whose_validation_fails_without_a_fetch() {
    let mut client = Client::registered(|settings| {
        settings.failing_names.insert("bad.example.com".to_string());
        settings.validation_delay_ms = 500;
        settings.vantage_points = 3;
    });
    let order = client.order(&["bad.example.com", "good.example.com"]);
    let (bad, _) = client.http_challenge("/authz/0");
    let (good, expected) = client.http_challenge("/authz/1");
    client.post(&bad, &json!({}));
    client.post(&good, &json!({}));
    assert_eq!(object(&client.read("/authz/0"))["status"], "pending");
    client.ca.pass_ms(500);
    assert!(client.ca.dialed.iter().all(|(_, host, _)| host == "good.example.com"));
    for _ in 0..3 {
        client.serve(&ok(&expected));
    }
    let authz = object(&client.read("/authz/0"));
    assert_eq!(authz["status"], "invalid");
    let kind = authz["challenges"][0]["error"]["type"].as_str().unwrap();
    assert_eq!(kind, "urn:ietf:params:acme:error:connection");
    assert_eq!(object(&client.read("/authz/1"))["status"], "valid");
    assert_eq!(object(&client.read(&order))["status"], "invalid");
    let checked = client.ca.peer.checked();
    assert_eq!((checked.len(), checked[0].name.as_str()), (2, "bad.example.com"));
    assert!(checked[0].error.is_some() && checked[1].error.is_none());
}

#[test]
fn a_name_that_forbids_it_at_the_end() {
    let names = ["a.example.com", "bad.example.com"];
    for subproblems in [false, true] {
        let mut client = Client::registered(|settings| {
            settings.caa_names.insert("bad.example.com".to_string());
            settings.subproblems = subproblems;
        });
        let order = client.order(&names);
        client.authorize(&order);
        let refused = client.finalize(&order, &names);
        assert_eq!(problem(&refused), kind(403, "caa"));
        let listed = &object(&refused)["subproblems"];
        match subproblems {
            false => assert_eq!(*listed, Value::Null),
            true => {
                assert_eq!(listed.as_array().unwrap().len(), 1);
                assert_eq!(listed[0]["type"], "urn:ietf:params:acme:error:caa");
                assert_eq!(listed[0]["identifier"]["value"], "bad.example.com");
            }
        }
        let order_now = object(&client.read(&order));
        assert_eq!(order_now["status"], "invalid");
        assert_eq!(order_now["error"]["type"], "urn:ietf:params:acme:error:caa");
        let again = client.finalize(&order, &names);
        assert_eq!(problem(&again), kind(403, "orderNotReady"));
        assert_eq!(client.ca.peer.issued(), []);
        client.issue(&["a.example.com"]);
    }
}

#[test]
fn an_order_that_is_never_done() {
    let mut client = Client::registered(|settings| {
        settings.never_done = true;
        settings.retry_after = RetryAfter::Seconds(3);
    });
    let order = client.order(&["a.example.com"]);
    client.authorize(&order);
    let finalized = client.finalize(&order, &["a.example.com"]);
    assert_eq!(object(&finalized)["status"], "processing");
    assert_eq!(finalized.header("Retry-After"), Some("3"));
    for _ in 0..20 {
        client.ca.pass_ms(24 * 3_600_000);
        assert_eq!(object(&client.read(&order))["status"], "processing");
    }
    assert_eq!(problem(&client.read("/cert/0")), kind(403, "unauthorized"));
    client.ca.peer.settings.never_done = false;
    assert_eq!(object(&client.read(&order))["status"], "valid");
}

#[test]
fn a_refusal_in_advance_with_a_date() {
    let mut client = Client::registered(|settings| {
        let mut problem = Problem::new(503, "serverInternal", "busy");
        problem.retry_after = Some("Mon, 23 Nov 2026 17:01:00 GMT".to_string());
        problem.help = Some("https://example.org/help".to_string());
        settings.refusals.push(Refusal { path: "/new-order", problem, times: 1 });
    });
    let response = client.ask_order(&["a.example.com"], &json!({}));
    assert_eq!(problem(&response), kind(503, "serverInternal"));
    assert_eq!(response.header("Retry-After"), Some("Mon, 23 Nov 2026 17:01:00 GMT"));
    assert_eq!(response.header("Link"), Some("<https://example.org/help>;rel=\"help\""));
    assert_eq!(client.ask_order(&["a.example.com"], &json!({})).status, 201);
}

#[test]
fn a_run_without_a_log() {
    let mut client = Client::registered(|settings| settings.keep_seen = false);
    client.issue(&["a.example.com"]);
    assert_eq!(client.ca.peer.seen(), []);
    assert_eq!(client.ca.peer.count("GET", "/new-nonce", 204), 0);
}
