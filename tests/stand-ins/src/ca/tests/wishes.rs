//! What a bad client experiences, one test for each refusal: what a rightly signed request asks
//! for.

use super::*;

/// The refusal of a payload by a resource, from a registered client.
fn payload_refused(path: &str, payload: &Value) -> (u16, String) {
    let mut client = Client::registered(|_| {});
    client.order(&["a.example.com"]);
    problem(&client.post(path, payload))
}

#[test]
fn an_account_without_agreement_or_with_odd_contacts() {
    let refused = |payload: Value| problem(&Client::new(|_| {}).post("/new-account", &payload));
    assert_eq!(refused(json!({})), malformed());
    assert_eq!(refused(json!([])), malformed());
    assert_eq!(refused(json!({"onlyReturnExisting": true})), kind(400, "accountDoesNotExist"));
    let contact = |url: &str| json!({"termsOfServiceAgreed": true, "contact": [url]});
    assert_eq!(refused(contact("tel:+123")), kind(400, "unsupportedContact"));
    assert_eq!(refused(contact("mailto:")), kind(400, "invalidContact"));
    assert_eq!(refused(contact("")), kind(400, "unsupportedContact"));
    let not_a_list = json!({"termsOfServiceAgreed": true, "contact": "mailto:a@example.org"});
    assert_eq!(refused(not_a_list), malformed());
    assert_eq!(refused(contact("mailto:a@b.org?x=y")), kind(400, "invalidContact"));
}

#[test]
fn an_order_without_or_with_odd_identifiers() {
    let order =
        |identifiers: Value| payload_refused("/new-order", &json!({ "identifiers": identifiers }));
    let dns = |name: &str| json!([{"type": "dns", "value": name}]);
    assert_eq!(payload_refused("/new-order", &json!({})), malformed());
    assert_eq!(order(json!([])), malformed());
    assert_eq!(order(json!([{"type": "dns"}])), malformed());
    assert_eq!(
        order(json!([{"type": "ip", "value": "1.2.3.4"}])),
        kind(400, "unsupportedIdentifier")
    );
    let twice = json!({"type": "dns", "value": "a.example.com"});
    assert_eq!(order(json!([twice, twice])), malformed());
    let long = format!("{}.example.com", "a".repeat(64));
    for name in
        ["A.example.com", "*.example.com", "a..b", "a_b.com", "localhost", "1.2.3.4", "-a.b", &long]
    {
        assert_eq!(order(dns(name)), kind(400, "rejectedIdentifier"), "{name}");
    }
}

#[test]
fn an_order_with_what_is_not_offered() {
    let order = |name: &str| {
        let mut wish = json!({"identifiers": [{"type": "dns", "value": "a.example.com"}]});
        wish[name] = json!("x");
        payload_refused("/new-order", &wish)
    };
    assert_eq!(order("notBefore"), malformed());
    assert_eq!(order("notAfter"), malformed());
    assert_eq!(order("replaces"), malformed());
    assert_eq!(order("profile"), kind(400, "invalidProfile"));
    let mut wish = json!({"identifiers": [{"type": "dns", "value": "a.example.com"}]});
    wish["profile"] = json!(["x"]);
    assert_eq!(payload_refused("/new-order", &wish), malformed());
}

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

#[test]
fn a_payload_where_something_is_only_read() {
    assert_eq!(payload_refused("/order/0", &json!({})), malformed());
    assert_eq!(payload_refused("/authz/0", &json!({})), malformed());
    assert_eq!(payload_refused("/account/0/orders", &json!({})), malformed());
}

#[test]
fn an_answer_to_a_challenge_that_is_not_an_empty_object() {
    let old_draft = json!({"keyAuthorization": "x"});
    assert_eq!(payload_refused("/challenge/0/http-01", &old_draft), malformed());
    assert_eq!(payload_refused("/challenge/0/http-01", &json!([])), malformed());
}

#[test]
fn another_accounts_things() {
    let mut client = Client::registered(|_| {});
    let order = client.order(&["a.example.com"]);
    client.register_another(101);
    for path in [&*order, "/authz/0", "/challenge/0/http-01", "/account/0", "/account/0/orders"] {
        assert_eq!(problem(&client.read(path)), kind(403, "unauthorized"), "{path}");
    }
    assert_eq!(problem(&client.finalize(&order, &["a.example.com"])), kind(403, "unauthorized"));
}

#[test]
fn a_resource_that_is_not_there() {
    let mut client = Client::registered(|_| {});
    for path in ["/order/0", "/authz/0", "/challenge/0/http-01", "/cert/0", "/nowhere"] {
        assert_eq!(problem(&client.read(path)), kind(404, "malformed"), "{path}");
    }
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
fn a_key_authorization_with_a_newline_behind_it() {
    let mut client = Client::registered(|_| {});
    client.order(&["a.example.com"]);
    let (challenge, expected) = client.http_challenge("/authz/0");
    client.post(&challenge, &json!({}));
    client.serve(&ok(&format!("{expected}\n")));
    assert_eq!(object(&client.read("/authz/0"))["status"], "invalid");
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
fn a_challenge_of_a_kind_that_cannot_be_passed() {
    let mut client = Client::registered(|_| {});
    client.order(&["a.example.com"]);
    client.post("/challenge/0/dns-01", &json!({}));
    assert_eq!(object(&client.read("/authz/0"))["challenges"][0]["type"], "dns-01");
    assert_eq!(object(&client.read("/order/0"))["status"], "invalid");
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
    assert_eq!(csr_refused(&encoded(request(&["a.example.com", "1.2.3.4"]))), bad);
    assert_eq!(csr_refused(&encoded(request(&[]))), bad);
    assert_eq!(csr_refused(&encoded(b"hello")), bad);
    assert_eq!(csr_refused("a+b="), malformed());
    assert_eq!(csr_refused(&(encoded(request(&["a.example.com"])) + "=")), malformed());

    let mut flipped = request(&["a.example.com"]);
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(csr_refused(&encoded(flipped)), bad);
    let spare = [request(&["a.example.com"]), vec![0]].concat();
    assert_eq!(csr_refused(&encoded(spare)), bad);
    let of_account =
        seeded::Signer::from_seed(100).certificate_request(&["a.example.com"]).unwrap();
    assert_eq!(csr_refused(&encoded(of_account)), bad);
}

#[test]
fn a_chain_in_a_form_that_is_not_offered() {
    let mut client = Client::registered(|_| {});
    let order = client.order(&["a.example.com"]);
    client.authorize(&order);
    client.finalize(&order, &["a.example.com"]);
    for (accept, status) in
        [("application/pkix-cert", 406), ("application/pem-certificate-chain;q=1", 200)]
    {
        let mut draft = client.draft("/cert/0", "");
        draft.fields.push_str(&format!("\r\nAccept: {accept}"));
        assert_eq!(client.send(draft).status, status);
    }
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
    let wish = json!({"identifiers": [{"type": "dns", "value": "a.example.com"}]});
    let response = client.post("/new-order", &wish);
    assert_eq!(problem(&response), kind(429, "rateLimited"));
    assert_eq!(response.header("Retry-After"), Some("3600"));
    assert_eq!(client.post("/new-order", &wish).status, 201);
    assert_eq!(client.ca.peer.count("POST", "/new-order", 429), 1);
}
