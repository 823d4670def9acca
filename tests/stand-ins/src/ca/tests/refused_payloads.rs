//! What a bad client experiences, one test for each refusal: what a rightly signed request asks
//! for.

use super::*;

#[test]
fn more_names_than_fit_into_a_certificate() {
    let order = |count: usize| {
        let identifiers: Vec<Value> = (0..count)
            .map(|number| json!({"type": "dns", "value": format!("n{number}.example.com")}))
            .collect();
        Client::registered(|_| {}).post("/new-order", &json!({ "identifiers": identifiers }))
    };
    assert_eq!(order(100).status, 201);
    assert_eq!(problem(&order(101)), malformed());
}

#[test]
fn subproblems_name_the_names() {
    let mut client = Client::registered(|settings| {
        settings.subproblems = true;
        settings.rejected_names.insert("bad.example.com".to_string());
    });
    let identifiers = ["a.example.com", "bad.example.com", "UPPER.example.com"]
        .map(|name| json!({"type": "dns", "value": name}));
    let response = client.post("/new-order", &json!({ "identifiers": identifiers }));
    assert_eq!(problem(&response), kind(400, "rejectedIdentifier"));
    let names: Vec<Value> = object(&response)["subproblems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["identifier"]["value"].clone())
        .collect();
    assert_eq!(names, ["bad.example.com", "UPPER.example.com"]);
}

/// The error of the challenge after the CA fetched `response`.
fn validation_error(response: &str) -> String {
    let mut client = Client::registered(|_| {});
    client.order(&["a.example.com"]);
    let (challenge, _) = client.http_challenge("/authz/0");
    client.post(&challenge, &json!({}));
    client.serve(response);
    assert_eq!(object(&client.read("/order/0"))["status"], "invalid");
    let authz = object(&client.read("/authz/0"));
    assert_eq!(authz["challenges"].as_array().unwrap().len(), 1);
    let kind = authz["challenges"][0]["error"]["type"].as_str().unwrap();
    kind.rsplit(':').next().unwrap().to_string()
}

#[test]
fn a_challenge_that_is_answered_wrongly() {
    assert_eq!(validation_error(&ok("wrong")), "incorrectResponse");
    assert_eq!(validation_error(&ok(&"x".repeat(128))), "incorrectResponse");
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(validation_error(missing), "unauthorized");
    assert_eq!(validation_error("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), "connection");
    let away = "HTTP/1.1 302 Found\r\nLocation: https://x.org/\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(validation_error(away), "connection");
}

#[test]
fn a_challenge_that_nobody_answers() {
    for (error, expected) in [
        (Some(DialError::UnknownHost), "dns"),
        (Some(DialError::Refused), "connection"),
        (Some(DialError::Unreachable), "connection"),
        (None, "connection"),
    ] {
        let mut client = Client::registered(|_| {});
        client.order(&["a.example.com"]);
        let (challenge, _) = client.http_challenge("/authz/0");
        client.post(&challenge, &json!({}));
        let (conn, ..) = client.ca.dialed[0];
        client.ca.peer.dialed(client.ca.now, conn, error.map_or(Ok(()), Err));
        client.ca.drain();
        client.ca.pass_ms(10_000);
        let error = &object(&client.read("/authz/0"))["challenges"][0]["error"]["type"];
        assert_eq!(error, &format!("urn:ietf:params:acme:error:{expected}"));
    }
}

#[test]
fn an_order_that_waits_too_long() {
    let mut client = Client::registered(|_| {});
    client.order(&["a.example.com"]);
    client.ca.pass_ms(7 * 24 * 3_600_000);
    assert_eq!(object(&client.read("/order/0"))["status"], "invalid");
    assert_eq!(object(&client.read("/authz/0"))["status"], "invalid");
}

#[test]
fn finalizing_too_early_or_twice() {
    let mut client = Client::registered(|_| {});
    let order = client.order(&["a.example.com"]);
    let early = client.finalize(&order, &["a.example.com"]);
    assert_eq!(problem(&early), kind(403, "orderNotReady"));
    client.authorize(&order);
    assert_eq!(client.finalize(&order, &["a.example.com"]).status, 200);
    let twice = client.finalize(&order, &["a.example.com"]);
    assert_eq!(problem(&twice), kind(403, "orderNotReady"));
}

/// The refusal of a certificate request for a ready order of `a.example.com`.
fn csr_refused(csr: &str) -> (u16, String) {
    let mut client = Client::registered(|_| {});
    let order = client.order(&["a.example.com"]);
    client.authorize(&order);
    let response = client.post(&format!("{order}/finalize"), &json!({ "csr": csr }));
    assert_eq!(object(&client.read(&order))["status"], "ready", "the order stays ready");
    problem(&response)
}

#[test]
fn a_certificate_request_that_does_not_fit() {
    let key = seeded::Signer::from_seed(200);
    let request = |names: &[&str]| key.certificate_request(names).unwrap();
    let bad = kind(400, "badCSR");
    assert_eq!(csr_refused(&encoded(request(&["b.example.com"]))), bad);
    assert_eq!(csr_refused(&encoded(request(&["a.example.com", "b.example.com"]))), bad);
    let mut flipped = request(&["a.example.com"]);
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(csr_refused(&encoded(flipped)), bad);
    let of_account =
        seeded::Signer::from_seed(100).certificate_request(&["a.example.com"]).unwrap();
    assert_eq!(csr_refused(&encoded(of_account)), bad);
}

#[test]
fn server_errors_at_the_set_rate() {
    let mut client = Client::new(|settings| {
        settings.server_error_percent = 100;
        settings.retry_after = RetryAfter::Seconds(60);
    });
    let response = client.get("GET", "/directory");
    assert_eq!(problem(&response), kind(500, "serverInternal"));
    assert_eq!(response.header("Retry-After"), Some("60"));
    client.ca.peer.settings.server_error_html = true;
    let response = client.get("GET", "/directory");
    assert_eq!(response.header("Content-Type"), Some("text/html;charset=iso-8859-1"));
}

#[test]
fn a_refusal_on_order() {
    let mut client = Client::registered(|settings| {
        let mut problem = Problem::new(429, "rateLimited", "too many");
        problem.retry_after = Some("3600".to_string());
        settings.refusals.push(Refusal { path: "/new-order", problem, times: 1 });
    });
    let payload = json!({"identifiers": [{"type": "dns", "value": "a.example.com"}]});
    let response = client.post("/new-order", &payload);
    assert_eq!(problem(&response), kind(429, "rateLimited"));
    assert_eq!(response.header("Retry-After"), Some("3600"));
    assert_eq!(client.post("/new-order", &payload).status, 201);
    assert_eq!(client.ca.peer.count("POST", "/new-order", 429), 1);
}
