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
fn an_unspoilt_request_is_taken() {
    let mut client = Client::new(|_| {});
    let draft = client.draft("/new-account", TERMS);
    assert_eq!(client.send(draft).status, 201);
}

#[test]
fn without_user_agent() {
    let fields = "Content-Type: application/jose+json".to_string();
    assert_eq!(refused(|draft| draft.fields = fields), malformed());
}

#[test]
fn with_a_nonce_field() {
    let spoil = |draft: &mut Draft| draft.fields.push_str("\r\nReplay-Nonce: AAAA");
    assert_eq!(refused(spoil), malformed());
}

#[test]
fn with_another_content_type() {
    for media in ["application/json", "application/jose+json; charset=utf-8"] {
        let fields = format!("User-Agent: test\r\nContent-Type: {media}");
        assert_eq!(refused(|draft| draft.fields = fields), kind(415, "malformed"));
    }
}

#[test]
fn with_a_body_that_is_too_large() {
    let spoil = |draft: &mut Draft| draft.spoil_body = |body| body + &" ".repeat(50_000);
    assert_eq!(refused(spoil), kind(413, "malformed"));
}

#[test]
fn with_another_method() {
    let mut client = Client::new(|_| {});
    for (method, path) in [("GET", "/new-account"), ("GET", "/order/0"), ("PUT", "/directory")] {
        let head = format!("{method} {path} HTTP/1.1\r\nUser-Agent: test\r\nContent-Length: 0");
        assert_eq!(problem(&client.ca.ask(&head, "")), kind(405, "malformed"));
    }
}

#[test]
fn a_body_that_is_no_jws() {
    assert_eq!(refused(|draft| draft.spoil_body = |_| "hello".to_string()), malformed());
    assert_eq!(refused(|draft| draft.spoil_body = |_| "[]".to_string()), malformed());
    let spoil = |body: String| body.replace("\"signature\"", "\"sign\"");
    assert_eq!(refused(|draft| draft.spoil_body = spoil), malformed());
}

#[test]
fn an_unprotected_header_or_several_signatures() {
    let header = |body: String| body.replacen('{', r#"{"header":{},"#, 1);
    assert_eq!(refused(|draft| draft.spoil_body = header), malformed());
    let signatures = |body: String| body.replacen('{', r#"{"signatures":[],"#, 1);
    assert_eq!(refused(|draft| draft.spoil_body = signatures), malformed());
}

#[test]
fn padded_base64() {
    assert_eq!(refused(|draft| draft.payload = encoded("{}x") + "="), malformed());
    assert_eq!(refused(|draft| draft.payload.push('=')), malformed());
    let header = |body: String| body.replacen(r#"","signature""#, r#"=","signature""#, 1);
    assert_eq!(refused(|draft| draft.spoil_body = header), malformed());
    let signature = |body: String| body.replacen(r#""}"#, r#"=="}"#, 1);
    assert_eq!(refused(|draft| draft.spoil_body = signature), malformed());
}

#[test]
fn standard_base64_in_place_of_base64url() {
    // 0xfb is `-w` in base64url and `+w` in base64.
    assert_eq!(refused(|draft| draft.payload = "+w".to_string()), malformed());
}

#[test]
fn an_algorithm_that_is_not_taken() {
    for algorithm in ["none", "HS256", "ES384", "es256"] {
        let spoil =
            |draft: &mut Draft| drop(draft.header.insert("alg".to_string(), json!(algorithm)));
        assert_eq!(refused(spoil), kind(400, "badSignatureAlgorithm"));
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys_names_the_choices() {
    let mut client = Client::new(|_| {});
    let mut draft = client.draft("/new-account", TERMS);
    draft.header.insert("alg".to_string(), json!("RS256"));
    let response = client.send(draft);
    assert_eq!(problem(&response), kind(400, "badSignatureAlgorithm"));
    assert_eq!(object(&response)["algorithms"], json!(["ES256", "RS256"]));
}

#[test]
fn kid_and_jwk_together_or_neither() {
    let both = |draft: &mut Draft| {
        draft.header.insert("kid".to_string(), json!("https://ca.test/account/0"));
    };
    assert_eq!(refused(both), malformed());
    assert_eq!(refused(|draft| drop(draft.header.remove("jwk"))), malformed());
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
fn an_account_that_is_deactivated() {
    let mut client = Client::registered(|_| {});
    let response = client.post("/account/0", &json!({"status": "deactivated"}));
    assert_eq!(object(&response)["status"], "deactivated");
    assert_eq!(problem(&client.read("/account/0")), kind(401, "unauthorized"));
    client.kid = None;
    assert_eq!(problem(&client.post("/new-account", &json!({}))), kind(401, "unauthorized"));
}

#[test]
fn critical_extensions() {
    let spoil = |draft: &mut Draft| drop(draft.header.insert("crit".to_string(), json!(["b64"])));
    assert_eq!(refused(spoil), malformed());
}

#[test]
fn a_key_with_its_private_half() {
    let spoil = |draft: &mut Draft| draft.header["jwk"]["d"] = json!("AA");
    assert_eq!(refused(spoil), kind(400, "badPublicKey"));
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
fn a_signature_that_is_not_64_bytes() {
    // A signature whose r lost a leading zero, or in DER.
    let cut = |signature: Vec<u8>| signature[1..].to_vec();
    assert_eq!(refused(|draft| draft.spoil_signature = cut), malformed());
    let der = |signature: Vec<u8>| [&[0x30, 0x44][..], &signature].concat();
    assert_eq!(refused(|draft| draft.spoil_signature = der), malformed());
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
