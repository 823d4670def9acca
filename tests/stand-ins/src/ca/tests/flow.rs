//! What a good client experiences.

use super::*;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{self, RsaKeyPair, RsaPublicKeyComponents};

#[test]
fn the_directory_and_a_nonce() {
    let mut client = Client::new(|_| {});
    let directory = object(&client.get("GET", "/directory"));
    assert_eq!(directory["newOrder"], "https://ca.test/new-order");
    assert_eq!(directory["meta"]["termsOfService"], "https://ca.test/terms");
    let conn = client.ca.connect();
    let request = b"HEAD /directory HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\n\r\n";
    client.ca.send(conn, request);
    let head = client.ca.text(conn);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.contains("Replay-Nonce"), "{head}");
    assert_eq!(client.get("HEAD", "/new-nonce").status, 200);
    let (one, two) = (client.nonce(), client.nonce());
    assert_ne!(one, two);
}

#[test]
fn an_account_is_made_once() {
    let mut client = Client::new(|_| {});
    let payload = json!({"termsOfServiceAgreed": true, "contact": ["mailto:a@example.org"]});
    let new = client.post("/new-account", &payload);
    assert_eq!((new.status, new.header("Location")), (201, Some("https://ca.test/account/0")));
    assert_eq!(object(&new)["contact"], json!(["mailto:a@example.org"]));
    let again = client.post("/new-account", &json!({"onlyReturnExisting": true}));
    assert_eq!((again.status, again.header("Location")), (200, Some("https://ca.test/account/0")));
    client.kid = Some("https://ca.test/account/0".to_string());
    assert_eq!(object(&client.read("/account/0"))["status"], "valid");
    client.order(&["a.example.com"]);
    let orders = object(&client.read("/account/0/orders"));
    assert_eq!(orders, json!({"orders": ["https://ca.test/order/0"]}));
}

#[test]
fn from_order_to_chain() {
    let mut client = Client::registered(|_| {});
    let names = ["b.example.com", "a.example.com"];
    let order = client.order(&names);
    let body = object(&client.read(&order));
    assert_eq!(body["status"], "pending");
    assert_eq!(body["authorizations"].as_array().unwrap().len(), 2);
    assert_eq!(body["expires"], "2026-11-30T17:00:00Z");

    let chain = client.issue(&names);
    let issued = client.ca.peer.issued()[0].clone();
    assert_eq!(
        (issued.names.join(" "), issued.fetched),
        (names.map(str::to_string).into_iter().rev().collect::<Vec<_>>().join(" "), true)
    );
    assert_eq!(issued.chain_pem, chain);
    let leaf = chain.split("-----").nth(2).unwrap().replace('\n', "");
    assert_eq!(STANDARD.decode(leaf).unwrap(), issued.der);
    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
    let key = seeded::Signer::from_seed(200);
    assert_eq!(
        *parsed.public_key().subject_public_key.data,
        *rcgen::PublicKeyData::der_bytes(&key)
    );
}

#[test]
fn the_challenge_is_fetched_over_http() {
    let mut client = Client::registered(|settings| settings.validation_delay_ms = 2_000);
    client.order(&["a.example.com"]);
    let (challenge, expected) = client.http_challenge("/authz/0");
    let token = expected.split('.').next().unwrap().to_string();
    let response = client.post(&challenge, &json!({}));
    assert_eq!(object(&response)["status"], "pending");
    assert_eq!(client.ca.dialed, []);
    client.ca.pass_ms(2_000);
    assert_eq!((&*client.ca.dialed[0].1, client.ca.dialed[0].2), ("a.example.com", 80));
    let request = client.serve(&ok(&expected));
    let head =
        format!("GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: a.example.com\r\n");
    assert!(request.starts_with(&head), "{request}");
    let authz = object(&client.read("/authz/0"));
    assert_eq!(
        (&authz["status"], authz["challenges"].as_array().unwrap().len()),
        (&json!("valid"), 1)
    );
    assert_eq!(object(&client.read("/order/0"))["status"], "ready");
    let checked = &client.ca.peer.checked()[0];
    assert_eq!((&checked.token, checked.error.as_ref()), (&token, None));
}

#[test]
fn a_redirect_is_followed() {
    let mut client = Client::registered(|settings| settings.http_port = 8080);
    client.order(&["a.example.com"]);
    let (challenge, expected) = client.http_challenge("/authz/0");
    client.post(&challenge, &json!({}));
    let location =
        "HTTP/1.1 302 Found\r\nLocation: http://b.example.com/x\r\nContent-Length: 0\r\n\r\n";
    let request = client.serve(location);
    assert!(request.contains("Host: a.example.com:8080\r\n"), "{request}");
    assert_eq!((&*client.ca.dialed[0].1, client.ca.dialed[0].2), ("b.example.com", 8080));
    assert!(client.serve(&ok(&expected)).starts_with("GET /x HTTP/1.1\r\n"));
    assert_eq!(object(&client.read("/authz/0"))["status"], "valid");
}

#[test]
fn every_place_must_be_answered() {
    let mut client = Client::registered(|settings| settings.vantage_points = 3);
    client.order(&["a.example.com"]);
    let (challenge, expected) = client.http_challenge("/authz/0");
    client.post(&challenge, &json!({}));
    assert_eq!(client.ca.dialed.len(), 3);
    client.serve(&ok(&expected));
    client.serve(&ok(&expected));
    assert_eq!(object(&client.read("/authz/0"))["status"], "pending");
    client.serve(&ok("wrong"));
    assert_eq!(object(&client.read("/authz/0"))["status"], "invalid");
}

#[test]
fn processing_and_retry_after() {
    let mut client = Client::registered(|settings| {
        settings.processing_polls = 2;
        settings.retry_after = RetryAfter::Seconds(3);
        settings.finalize_location = false;
        settings.challenge_processing = true;
    });
    let order = client.order(&["a.example.com"]);
    let (challenge, expected) = client.http_challenge("/authz/0");
    let response = client.post(&challenge, &json!({}));
    assert_eq!(object(&response)["status"], "processing");
    assert_eq!(response.header("Retry-After"), Some("3"));
    client.serve(&ok(&expected));
    let finalized = client.finalize(&order, &["a.example.com"]);
    assert_eq!(object(&finalized)["status"], "processing");
    assert_eq!((finalized.header("Location"), finalized.header("Retry-After")), (None, Some("3")));
    client.ca.peer.settings.retry_after = RetryAfter::Date(60);
    let poll = client.read(&order);
    assert_eq!(object(&poll)["status"], "processing");
    assert_eq!(poll.header("Retry-After"), Some("Mon, 23 Nov 2026 17:01:00 GMT"));
    let poll = client.read(&order);
    assert_eq!((&object(&poll)["status"], poll.header("Retry-After")), (&json!("valid"), None));
}

#[test]
fn valid_authorizations_and_open_orders_are_reused() {
    let mut client = Client::registered(|settings| {
        settings.authz_reuse_percent = 100;
        settings.order_reuse = true;
    });
    let order = client.order(&["a.example.com"]);
    assert_eq!(client.order(&["a.example.com"]), order);
    client.authorize(&order);
    client.finalize(&order, &["a.example.com"]);
    let next = client.order(&["a.example.com"]);
    assert_ne!(next, order);
    assert_eq!(object(&client.read(&next))["status"], "ready");
}

#[test]
fn an_rsa_account_of_the_old_program() {
    let der = STANDARD.decode(RSA_KEY.replace(['\n', ' '], "")).unwrap();
    let pair = RsaKeyPair::from_der(&der).unwrap();
    let mut client = Client::new(|_| {});
    let public = pair.public();
    let numbers = RsaPublicKeyComponents::<Vec<u8>>::from(public);
    let n = encoded(&numbers.n);
    let mut draft = client.draft("/new-account", r#"{"termsOfServiceAgreed":true}"#);
    draft.header.insert("alg".to_string(), json!("RS256"));
    draft.header.insert("jwk".to_string(), json!({"kty": "RSA", "n": n, "e": "AQAB"}));
    let protected = encoded(Value::Object(draft.header).to_string());
    let input = format!("{protected}.{}", draft.payload);
    let mut signature = vec![0; public.modulus_len()];
    let padding = &signature::RSA_PKCS1_SHA256;
    pair.sign(padding, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
    let jws = json!({
        "protected": protected,
        "payload": draft.payload,
        "signature": encoded(signature),
    });
    let response = client.send_body("/new-account", &draft.fields, &jws.to_string());
    assert_eq!(response.status, 201);
}

#[test]
fn revocation_by_account_and_its_refusals() {
    let mut client = Client::registered(|_| {});
    client.issue(&["a.example.com"]);
    let der = encoded(&client.ca.peer.issued()[0].der);
    let payload = |reason: u64| json!({"certificate": der, "reason": reason});
    let bad = client.post("/revoke-cert", &payload(2));
    assert_eq!(problem(&bad), (400, "badRevocationReason".to_string()));
    let done = client.post("/revoke-cert", &payload(4));
    assert_eq!((done.status, &done.body[..]), (200, &b""[..]));
    assert_eq!(client.ca.peer.issued()[0].revoked, Some(4));
    let again = client.post("/revoke-cert", &payload(4));
    assert_eq!(problem(&again), (400, "alreadyRevoked".to_string()));
}

#[test]
fn a_seed_fixes_every_byte_of_a_run() {
    let run = || {
        let mut client = Client::registered(|settings| settings.bad_nonce_percent = 0);
        let chain = client.issue(&["a.example.com"]);
        (chain, client.ca.writes.concat(), client.ca.peer.seen().to_vec())
    };
    let (one, other) = (run(), run());
    assert!(one == other, "two runs of one seed differ");
}

/// A 2048-bit key in PKCS#1, made for this test.
const RSA_KEY: &str = "\
    MIIEpAIBAAKCAQEArs9FwWENhapZ8ulOEJafMR+vD9QDYZdsBUR1aP4lGyAXNKW+M/Yd2eJu/JkeSpRe4a6rO64im5
    YaEVxUvvV7qzLBMUVhdsQH3tPVz7smncMxlR4owq0tU+HptodC/H1EJ0+lRi8Uwn/iGrg97oaCB8sYnGo0lx3b0+w8
    2If6+z9Wnclsy/Ad5YjOt1NPWud6TEO4P6lQzEUpLVCZr62JurGWEJjjfmitVxn5zlM4owZT+9CT7wv8O2aZkfQiET
    PwfcOLXepqvxVDaSYbi3o0WlYQnUnovzQXg4cWoesztiV5KfKy1axobZqeEQUPUABA41Rm84DPVPAA0SllnRcllwID
    AQABAoIBAAG72ItEdSfgOqgoHDgZ5lZMZCYaCjaLk+yxcyCpdKDCPris9Cf7xuwETOmAc0Z2FkLSwqwC3CEC6htF+S
    kzshhOlo/wijjtVM6m9zXqO0XRS8qY0/qqUQrF8NV4nfd3HpftOExr5x7OueVd8m9NMjj1kLbsbr0Y9LczXp8fKiQX
    xodYkPGkn5j++tgSUlnTJbJuSNBJtOi1gCfr4dyBNNE9/l3wQ2vo1jJdXicnb5caSMLZKtqVrQaEZZI6VzVFMECfPS
    Sb+r6w3pJj0NM7y2tAjGoo804/jXAwLN+vZu/BQZDEzMaBZrytyGXaW9jX8Lt9yzohO6h5dfF9wcbXXvECgYEA2m4w
    pOMR3wbLylS3eMNsp/vTISDVG6bwTLraFaiychgs4R89g/h1RHa+Zhinv5Clk/UOZJNb8R4BypQeZ/PdEwnM3AcS6Q
    jHEV7SHNr6K8nFOIO7m5lui/Gr0PRNaeFzk2lo35U8tg46177LLayRB1mOgnXammEUTpxCfyiCeq0CgYEAzOBld3uM
    n+f2lOgOrMlNUt/On49DlqftVTERxtQl5Qu/8Avj5VzjnS25G8Zfj7Pnf8b7zcguOkziBE8AfApHTJecMV5G0148Xn
    Fc9/mC7V70OX6hapuWaDnJhlLsUBIPHOF6QDoQrzCyDu6tylJiyejgZCCFNRFZj/YBLq/+TdMCgYEAwWxmIvz4rFhm
    Sesu9P+IzlBPK7zZOb1geXHVAOz759DEnS1+2chAf7nu7JXUpew+04BjmGhtOFzsFSmIq2DlWaCKCiUxd65QKW+f+/
    FlKzVnMZ5lmWoK3F3LWiOcEbCVGepz9dk/g6+iJ75KSU3Qt4N0kM4wIBjrVJlGwTdsI5kCgYEAp9KYy0sVYldtEYUV
    oEw1XtGeO+3q+5oLO2G6ohheAkWhsEzNHbD9cl9l5m6VEO3ZkD27PlHgLDmWWtksGG+DACag93+2nKXw5ZwO/8IPkc
    naXM5yAxX4GuBbSADdOqnQX2QD9GCcEiXddYXmLnlWGvb7+Ij7FQFlUBu/1DKuKakCgYA+Grzau1M1GVv1ZuVZjCC8
    acaxyr5hfUTFB30J/Eyfm51dBU+xRonnd0FmdfdF9qAlzBW+QkJV2Wskjxzu9xOZkcLUfL9R4NWggylxDSUzhRDUz9
    DErk5SutWIfDjzecmCELmCU8f418xYVL0tpKctjWrJU5e1ohpwTTT8Pnp6kg==";
