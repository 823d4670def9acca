//! Renewal information and the orders that replace a certificate (RFC 9773).

use super::*;

const NAMES: [&str; 2] = ["a.example.com", "b.example.com"];

/// A client with one certificate of 90 days, and what that is called.
fn renewing(change: impl FnOnce(&mut Settings)) -> (Client, String) {
    let mut client = Client::registered(|settings| {
        settings.renewal_info = Some(RenewalInfo::default());
        change(settings);
    });
    client.issue(&NAMES);
    let cert_id = client.ca.peer.issued()[0].cert_id.clone();
    (client, cert_id)
}

fn info(client: &mut Client, cert_id: &str) -> Response {
    client.get("GET", &format!("/renewal-info/{cert_id}"))
}

fn window(client: &mut Client, cert_id: &str) -> (String, String) {
    let body = object(&info(client, cert_id));
    let text = |name: &str| body["suggestedWindow"][name].as_str().unwrap().to_string();
    (text("start"), text("end"))
}

fn fault(client: &mut Client, fault: RenewalInfoFault) {
    client.ca.peer.settings.renewal_info.as_mut().unwrap().fault = fault;
}

#[test]
fn it_is_not_there_unless_it_is_offered() {
    let mut client = Client::registered(|_| {});
    assert_eq!(object(&client.get("GET", "/directory"))["renewalInfo"], Value::Null);
    let response = info(&mut client, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    assert_eq!(problem(&response), kind(404, "malformed"));
}

#[test]
fn a_window_at_two_thirds_of_the_lifetime() {
    let (mut client, cert_id) = renewing(|_| {});
    let directory = object(&client.get("GET", "/directory"));
    assert_eq!(directory["renewalInfo"], "https://ca.test/renewal-info");
    let response = info(&mut client, &cert_id);
    assert_eq!((response.status, response.header("Retry-After")), (200, Some("21600")));
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    assert_eq!(object(&response)["explanationURL"], Value::Null);
    // 60 days after 2026-11-23T16:00:00Z, and 0.9 days to both sides.
    let expected = ("2027-01-21T18:24:00Z".to_string(), "2027-01-23T13:36:00Z".to_string());
    assert_eq!(window(&mut client, &cert_id), expected);
    assert_eq!(problem(&client.post("/renewal-info/x", &json!({}))), kind(405, "malformed"));
}

#[test]
fn a_window_at_half_of_a_short_lifetime() {
    let (mut client, cert_id) = renewing(|settings| settings.lifetime_seconds = 160 * 3_600);
    // 80 hours, and 1.6 hours to both sides.
    let expected = ("2026-11-26T22:24:00Z".to_string(), "2026-11-27T01:36:00Z".to_string());
    assert_eq!(window(&mut client, &cert_id), expected);
}

#[test]
fn the_identifier_is_key_identifier_and_serial_as_der_has_them() {
    let (mut client, _) = renewing(|settings| settings.authz_reuse_percent = 100);
    let mut zeros = 0;
    for number in 0..8 {
        if number > 0 {
            client.issue(&NAMES);
        }
        let issued = client.ca.peer.issued()[number].clone();
        let (authority, serial) = issued.cert_id.split_once('.').unwrap();
        let serial = jwk::base64url(serial).unwrap();
        let hex: String = serial.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(hex.strip_prefix("00").unwrap_or(&hex), issued.serial);
        zeros += usize::from(hex.starts_with("00"));
        // The key identifier stands in the certificate as it is.
        let authority = jwk::base64url(authority).unwrap();
        assert_eq!(authority.len(), 20);
        assert!(issued.der.windows(20).any(|window| window == authority));
        assert_eq!(info(&mut client, &issued.cert_id).status, 200);
    }
    assert!((1..8).contains(&zeros), "{zeros} of 8 serial numbers have a leading zero");
}

#[test]
fn answers_with_something_wrong() {
    let (mut client, cert_id) = renewing(|_| {});
    fault(&mut client, RenewalInfoFault::NoRetryAfter);
    let response = info(&mut client, &cert_id);
    assert_eq!((response.status, response.header("Retry-After")), (200, None));
    fault(&mut client, RenewalInfoFault::EmptyWindow);
    let (start, end) = window(&mut client, &cert_id);
    assert_eq!(start, end);
    fault(&mut client, RenewalInfoFault::Html);
    let response = info(&mut client, &cert_id);
    assert_eq!((response.status, response.header("Content-Type")), (200, Some("text/html")));
    fault(&mut client, RenewalInfoFault::Unavailable);
    assert_eq!(info(&mut client, &cert_id).status, 503);
}

#[test]
fn a_date_to_ask_again_and_an_explanation() {
    let (mut client, cert_id) = renewing(|settings| {
        let offered = settings.renewal_info.as_mut().unwrap();
        offered.retry_after = RetryAfter::Date(3_600);
        offered.explanation_url = Some("https://example.org/why".to_string());
    });
    let response = info(&mut client, &cert_id);
    assert_eq!(response.header("Retry-After"), Some("Mon, 23 Nov 2026 18:00:00 GMT"));
    assert_eq!(object(&response)["explanationURL"], "https://example.org/why");
}

#[test]
fn a_hastened_or_revoked_certificate_has_a_window_in_the_past() {
    let (mut client, cert_id) = renewing(|_| {});
    client.issue(&["c.example.com"]);
    let other = client.ca.peer.issued()[1].cert_id.clone();
    let usual = window(&mut client, &other);
    let now = client.ca.now;
    client.ca.peer.hasten(now, |issued| issued.names.contains(&"b.example.com".to_string()));
    let past = ("2026-11-21T17:00:00Z".to_string(), "2026-11-22T17:00:00Z".to_string());
    client.ca.pass_ms(3_600_000);
    assert_eq!(window(&mut client, &cert_id), past);
    assert_eq!(window(&mut client, &other), usual);
    let payload = json!({"certificate": encoded(&client.ca.peer.issued()[1].der)});
    assert_eq!(client.post("/revoke-cert", &payload).status, 200);
    assert_eq!(window(&mut client, &other).1, "2026-11-22T18:00:00Z");
    assert_eq!(client.ca.peer.window_ms(0).map(|(start, _)| start), Some(1_795_280_400_000));
}

#[test]
fn an_order_that_replaces_a_certificate() {
    let (mut client, cert_id) = renewing(|_| {});
    let response = client.ask_order(&NAMES, &json!({ "replaces": cert_id }));
    assert_eq!((response.status, &object(&response)["replaces"]), (201, &json!(cert_id)));
    let order = path(response.header("Location").unwrap());
    assert_eq!(client.ca.peer.issued()[0].replaced_by, None);
    client.complete(&order, &NAMES);
    assert_eq!(client.ca.peer.issued()[0].replaced_by, Some(1));
    let again = client.ask_order(&NAMES, &json!({ "replaces": cert_id }));
    assert_eq!(problem(&again), kind(409, "alreadyReplaced"));
    // Its successor can be replaced.
    let next = client.ca.peer.issued()[1].cert_id.clone();
    client.order_with(&NAMES, &json!({ "replaces": next }));
}

#[test]
fn replaces_that_is_refused() {
    let (mut client, cert_id) = renewing(|_| {});
    let refused = |client: &mut Client, names: &[&str], replaces: Value| {
        problem(&client.ask_order(names, &json!({ "replaces": replaces })))
    };
    for wrong_type in [json!(1), json!(null), json!([cert_id])] {
        assert_eq!(refused(&mut client, &NAMES, wrong_type), malformed());
    }
    assert_eq!(refused(&mut client, &NAMES, json!(format!("{cert_id}="))), malformed());
    let unknown = json!("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    assert_eq!(refused(&mut client, &NAMES, unknown), malformed());
    assert_eq!(refused(&mut client, &["c.example.com"], json!(cert_id)), malformed());
    client.ca.peer.settings.refuse_replaces = true;
    assert_eq!(refused(&mut client, &NAMES, json!(cert_id)), malformed());
    client.ca.peer.settings.refuse_replaces = false;
    client.register_another(101);
    assert_eq!(refused(&mut client, &NAMES, json!(cert_id)), kind(403, "unauthorized"));
    client.ca.peer.settings.renewal_info = None;
    assert_eq!(refused(&mut client, &NAMES, json!(cert_id)), malformed());
}

#[test]
fn an_open_order_holds_the_mark_until_it_fails_or_expires() {
    let (mut client, cert_id) = renewing(|settings| settings.order_reuse = true);
    let replaces = json!({ "replaces": cert_id });
    let first = client.order_with(&["a.example.com"], &replaces);
    let taken = kind(409, "alreadyReplaced");
    assert_eq!(problem(&client.ask_order(&["a.example.com"], &replaces)), taken);
    assert_eq!(problem(&client.ask_order(&["b.example.com"], &replaces)), taken);
    // Without the member the open order itself is handed back, the member in it.
    let same = client.ask_order(&["a.example.com"], &json!({}));
    assert_eq!(same.header("Location").map(path), Some(first.clone()));
    assert_eq!(object(&same)["replaces"], json!(cert_id));

    let authz = path(object(&same)["authorizations"][0].as_str().unwrap());
    client.post(&authz, &json!({"status": "deactivated"}));
    assert_eq!(object(&client.read(&first))["status"], "invalid");
    let second = client.order_with(&["b.example.com"], &replaces);
    assert_eq!(problem(&client.ask_order(&["a.example.com"], &replaces)), taken);
    client.ca.pass_ms(7 * 24 * 3_600_000);
    assert_eq!(object(&client.read(&second))["status"], "invalid");
    client.order_with(&["a.example.com"], &replaces);
}
