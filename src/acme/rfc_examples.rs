//! The example objects of RFC 8555 and RFC 9773, read as a CA's answers. Tests only.

use std::time::Duration;

use super::order::OrderError;
use super::types::{AuthorizationObject, Directory, OrderObject, ProblemKind, Status};
use super::{CallError, Problem, account, renewal_info};
use crate::domain::Domain;
use crate::http::{Headers, Response, ResponseHead};
use crate::time::UnixTime;
use crate::url::Url;

fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Response {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.push(name, value);
    }
    Response { head: ResponseHead { status, headers }, body: body.into() }
}

/// RFC 8555 section 7.1.1.
#[test]
fn the_directory() {
    let body = br#"{
        "newNonce": "https://example.com/acme/new-nonce",
        "newAccount": "https://example.com/acme/new-account",
        "newOrder": "https://example.com/acme/new-order",
        "newAuthz": "https://example.com/acme/new-authz",
        "revokeCert": "https://example.com/acme/revoke-cert",
        "keyChange": "https://example.com/acme/key-change",
        "meta": {
            "termsOfService": "https://example.com/acme/terms/2017-5-30",
            "website": "https://www.example.com/",
            "caaIdentities": ["example.com"],
            "externalAccountRequired": false
        }
    }"#;
    let directory =
        Directory::parse(body, &Url::parse("https://example.com/dir").unwrap()).unwrap();
    assert_eq!(directory.new_nonce.to_string(), "https://example.com/acme/new-nonce");
    assert_eq!(directory.new_account.to_string(), "https://example.com/acme/new-account");
    assert_eq!(directory.new_order.to_string(), "https://example.com/acme/new-order");
    let revoke = directory.revoke_cert.map(|url| url.to_string());
    assert_eq!(revoke.as_deref(), Some("https://example.com/acme/revoke-cert"));
    let terms = "https://example.com/acme/terms/2017-5-30";
    assert_eq!(directory.terms_of_service.as_deref(), Some(terms));
    assert!(!directory.external_account_required && directory.renewal_info.is_none());
    assert!(directory.profiles.is_empty());
}

/// RFC 8555 section 7.1.3.
#[test]
fn the_order() {
    let body = br#"{
        "status": "valid",
        "expires": "2016-01-20T14:09:07.99Z",
        "identifiers": [
            { "type": "dns", "value": "www.example.org" },
            { "type": "dns", "value": "example.org" }
        ],
        "notBefore": "2016-01-01T00:00:00Z",
        "notAfter": "2016-01-08T00:00:00Z",
        "authorizations": [
            "https://example.com/acme/authz/PAniVnsZcis",
            "https://example.com/acme/authz/r4HqLzrSrpI"
        ],
        "finalize": "https://example.com/acme/order/TOlocE8rfgo/finalize",
        "certificate": "https://example.com/acme/cert/jWCdfHVGY2M"
    }"#;
    let order = OrderObject::parse(body).unwrap();
    assert_eq!((order.status, order.authorizations.len()), (Status::Valid, 2));
    assert_eq!(order.identifiers, ["www.example.org", "example.org"]);
    let finalize = "https://example.com/acme/order/TOlocE8rfgo/finalize";
    assert_eq!(order.finalize.to_string(), finalize);
    let certificate = order.certificate.map(|url| url.to_string());
    assert_eq!(certificate.as_deref(), Some("https://example.com/acme/cert/jWCdfHVGY2M"));
    assert_eq!((order.error, order.replaces), (None, None));
}

/// RFC 8555 section 7.1.4.
#[test]
fn the_authorization() {
    let body = br#"{
        "status": "valid",
        "expires": "2018-09-09T14:09:01.13Z",
        "identifier": { "type": "dns", "value": "www.example.org" },
        "challenges": [{
            "url": "https://example.com/acme/chall/prV_B7yEyA4",
            "type": "http-01",
            "status": "valid",
            "token": "DGyRejmCefe7v4NfDGDKfA",
            "validated": "2014-12-01T12:05:58.16Z"
        }],
        "wildcard": false
    }"#;
    let authorization = AuthorizationObject::parse(body).unwrap();
    assert_eq!(authorization.identifier, "www.example.org");
    assert_eq!((authorization.status, authorization.error), (Status::Valid, None));
    let http01 = authorization.http01.expect("it is there");
    assert_eq!((http01.status, &*http01.token), (Status::Valid, "DGyRejmCefe7v4NfDGDKfA"));
}

/// RFC 8555 section 6.7.1: the subproblems say whom to leave out.
#[test]
fn the_problem_with_subproblems() {
    let body = br#"{
        "type": "urn:ietf:params:acme:error:malformed",
        "detail": "Some of the identifiers requested were rejected",
        "subproblems": [
            {
                "type": "urn:ietf:params:acme:error:malformed",
                "detail": "Invalid underscore in DNS name \"_example.org\"",
                "identifier": { "type": "dns", "value": "_example.org" }
            },
            {
                "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                "detail": "This CA will not issue for \"example.net\"",
                "identifier": { "type": "dns", "value": "example.net" }
            }
        ]
    }"#;
    let problem = Problem::parse(body).unwrap();
    assert_eq!((problem.kind(), problem.subproblems.len()), (ProblemKind::Malformed, 2));
    let error = OrderError::Call(CallError::Problem { problem, status: 403, retry_after: None });
    let names = ["example.net", "example.com"].map(|name| Domain::parse(name).unwrap());
    let blamed: Vec<String> = error.blamed(&names).keys().map(ToString::to_string).collect();
    assert_eq!(blamed, ["example.net"]);
}

/// RFC 8555 section 7.3.
#[test]
fn the_account() {
    let location = ("Location", "https://example.com/acme/acct/evOfKhNU60wg");
    let body = r#"{
        "status": "valid",
        "contact": [
            "mailto:cert-admin@example.org",
            "mailto:admin@example.org"
        ],
        "orders": "https://example.com/acme/acct/evOfKhNU60wg/orders"
    }"#;
    let account = account::read(&answer(201, &[location], body)).unwrap();
    assert!(account.is_new);
    assert_eq!(account.url, location.1);
    let contact = account.contact.expect("it is shown");
    assert_eq!(contact, ["mailto:cert-admin@example.org", "mailto:admin@example.org"]);
}

/// RFC 9773 section 4.2.
#[test]
fn the_renewal_information() {
    let body = r#"{
        "suggestedWindow": {
            "start": "2025-01-02T04:00:00Z",
            "end": "2025-01-03T04:00:00Z"
        },
        "explanationURL": "https://acme.example.com/docs/ari"
    }"#;
    let now = UnixTime::from_rfc3339("2025-01-01T00:00:00Z").unwrap();
    let fields = [("Content-Type", "application/json"), ("Retry-After", "21600")];
    let suggestion = renewal_info::read(now, Ok(answer(200, &fields, body))).unwrap();
    assert_eq!(suggestion.window.start.to_string(), "2025-01-02T04:00:00Z");
    assert_eq!(suggestion.window.end.to_string(), "2025-01-03T04:00:00Z");
    assert_eq!(suggestion.ask_again, Duration::from_secs(21_600));
    assert_eq!(suggestion.explanation.as_deref(), Some("https://acme.example.com/docs/ari"));
}
