//! What a bad client experiences, one test for each refusal: the form of a request, its key, its
//! signature, its nonce.

use super::*;

const TERMS: &str = r#"{"termsOfServiceAgreed":true}"#;

/// The refusal of a newAccount request that is spoilt by `spoil`.
fn refused(spoil: impl FnOnce(&mut Draft)) -> (u16, String) {
    let mut client = Client::new(|_| {});
    let mut draft = client.draft("/new-account", TERMS);
    spoil(&mut draft);
    let refusal = problem(&client.send(draft));
    assert_eq!(client.ca.peer.account_count(), 0);
    refusal
}

#[test]
fn without_user_agent() {
    let fields = "Content-Type: application/jose+json".to_string();
    assert_eq!(refused(|draft| draft.fields = fields), malformed());
}

#[test]
fn with_another_content_type() {
    for media in ["application/json", "application/jose+json; charset=utf-8"] {
        let fields = format!("User-Agent: test\r\nContent-Type: {media}");
        assert_eq!(refused(|draft| draft.fields = fields), kind(415, "malformed"));
    }
}

#[test]
fn kid_where_jwk_belongs_and_jwk_where_kid_belongs() {
    let mut client = Client::registered(|_| {});
    assert_eq!(problem(&client.post("/new-account", &json!({}))), malformed());
    client.kid = None;
    assert_eq!(problem(&client.post("/new-order", &json!({}))), malformed());
}

#[test]
fn a_kid_that_is_no_account() {
    let mut client = Client::registered(|_| {});
    for kid in ["https://ca.test/account/1", "https://ca.test/account/0/", "/account/0", "0"] {
        client.kid = Some(kid.to_string());
        let response = client.read("/account/0");
        assert_eq!(problem(&response), kind(400, "accountDoesNotExist"), "{kid}");
    }
}

#[test]
fn a_wrong_signature() {
    let flip = |mut signature: Vec<u8>| {
        signature[5] ^= 1;
        signature
    };
    assert_eq!(refused(|draft| draft.spoil_signature = flip), malformed());
}

#[test]
fn another_url_than_the_one_asked() {
    for url in ["https://ca.test/new-order", "https://ca.test/new-account/", "/new-account"] {
        let spoil = |draft: &mut Draft| drop(draft.header.insert("url".to_string(), json!(url)));
        assert_eq!(refused(spoil), kind(403, "unauthorized"));
    }
}

#[test]
fn an_unknown_nonce_and_no_nonce() {
    let spoil = |draft: &mut Draft| drop(draft.header.insert("nonce".to_string(), json!("AAAA")));
    assert_eq!(refused(spoil), kind(400, "badNonce"));
    assert_eq!(refused(|draft| drop(draft.header.remove("nonce"))), malformed());
    let spoil = |draft: &mut Draft| drop(draft.header.insert("nonce".to_string(), json!("A A=")));
    assert_eq!(refused(spoil), malformed());
}

#[test]
fn a_nonce_that_was_used() {
    let mut client = Client::new(|_| {});
    let nonce = client.nonce();
    for expected in [201, 400] {
        let mut draft = client.draft("/new-account", TERMS);
        draft.header.insert("nonce".to_string(), json!(nonce));
        assert_eq!(client.send(draft).status, expected);
    }
    assert_eq!(client.ca.peer.seen().last().unwrap().problem, Some("badNonce"));
}

#[test]
fn a_nonce_that_is_too_old() {
    let mut client = Client::new(|settings| settings.nonces_max = 2);
    let mut draft = client.draft("/new-account", TERMS);
    let old = draft.header["nonce"].clone();
    client.nonce();
    client.nonce();
    draft.header.insert("nonce".to_string(), old);
    assert_eq!(problem(&client.send(draft)), kind(400, "badNonce"));
}

#[test]
fn good_nonces_at_the_set_rate() {
    let mut client = Client::new(|settings| settings.bad_nonce_percent = 100);
    assert_eq!(problem(&client.post("/new-account", &json!({}))), kind(400, "badNonce"));
}
