//! Rate limits and paused names.

use super::*;

const HOUR_MS: u64 = 3_600_000;

fn limited(limits: Limits) -> Client {
    Client::registered(|settings| settings.limits = limits)
}

const fn bucket(capacity: u32, period_seconds: u64) -> Option<Bucket> {
    Some(Bucket { capacity, period_seconds })
}

fn help(response: &Response) -> bool {
    let mut links = response.headers.iter().filter(|(name, _)| name == "Link");
    links.any(|(_, value)| value.ends_with(";rel=\"help\""))
}

fn detail(response: &Response) -> String {
    assert_eq!(problem(response), kind(429, "rateLimited"));
    object(response)["detail"].as_str().unwrap().to_string()
}

#[test]
fn orders_of_an_account() {
    let mut client =
        limited(Limits { orders_per_account: bucket(2, 3 * 3_600), ..Limits::default() });
    client.order(&["a.example.com"]);
    client.order(&["b.example.com"]);
    let refused = client.ask_order(&["c.example.com"], &json!({}));
    assert!(detail(&refused).contains("new orders of this account (2 in 10800 s)"));
    assert!(detail(&refused).contains("retry after 2026-11-23T18:30:00Z"));
    assert_eq!((refused.header("Retry-After"), help(&refused)), (Some("5400"), true));
    assert_eq!(client.ca.peer.limited(), 1);
    client.ca.peer.settings.retry_after = RetryAfter::Date(3);
    let refused = client.ask_order(&["c.example.com"], &json!({}));
    assert_eq!(refused.header("Retry-After"), Some("Mon, 23 Nov 2026 18:30:01 GMT"));
    client.ca.pass_ms(3 * HOUR_MS / 2);
    client.order(&["c.example.com"]);
    assert_eq!(client.ask_order(&["d.example.com"], &json!({})).status, 429);
    // Another account has a bucket of its own.
    client.register_another(101);
    client.order(&["d.example.com"]);
    assert_eq!(client.ca.peer.limited(), 3);
}

#[test]
fn an_order_that_is_handed_back_takes_no_token() {
    let mut client =
        limited(Limits { orders_per_account: bucket(1, 3 * 3_600), ..Limits::default() });
    client.ca.peer.settings.order_reuse = true;
    let first = client.order(&["a.example.com"]);
    assert_eq!(client.order(&["a.example.com"]), first);
    assert_eq!(client.ask_order(&["b.example.com"], &json!({})).status, 429);
}

#[test]
fn certificates_for_a_registered_domain() {
    let mut client =
        limited(Limits { certificates_per_domain: bucket(2, 7 * 86_400), ..Limits::default() });
    client.issue(&["a.example.com"]);
    // Orders take nothing, certificates do; a token comes every three and a half days.
    let open = client.order(&["b.example.com"]);
    client.order(&["b.example.com"]);
    client.complete(&open, &["b.example.com"]);
    let refused = client.ask_order(&["c.example.com", "c.example.org"], &json!({}));
    assert!(detail(&refused).contains("example.com and names below it"));
    assert_eq!(refused.header("Retry-After"), Some("302400"));
    client.issue(&["c.example.org"]);
    client.ca.pass_ms(302_400_000);
    client.issue(&["c.example.com"]);
}

#[test]
fn certificates_for_exactly_the_same_names() {
    let mut client =
        limited(Limits { certificates_per_set: bucket(1, 7 * 86_400), ..Limits::default() });
    client.issue(&["a.example.com", "b.example.com"]);
    let refused = client.ask_order(&["b.example.com", "a.example.com"], &json!({}));
    assert!(detail(&refused).contains("exactly a.example.com b.example.com"));
    client.issue(&["a.example.com"]);
    // It is one bucket for all accounts.
    client.register_another(101);
    assert_eq!(client.ask_order(&["a.example.com"], &json!({})).status, 429);
}

#[test]
fn failed_validations_of_a_name() {
    let mut client = limited(Limits::lets_encrypt());
    client.ca.peer.settings.failing_names.insert("bad.example.com".to_string());
    for _ in 0..4 {
        fail(&mut client, "http-01");
    }
    // A challenge that cannot be passed here counts as well.
    fail(&mut client, "dns-01");
    let refused = client.ask_order(&["a.example.com", "bad.example.com"], &json!({}));
    assert!(detail(&refused).contains("failed validations of bad.example.com"));
    assert_eq!(refused.header("Retry-After"), Some("720"));
    client.issue(&["a.example.com"]);
    client.ca.pass_ms(720_000);
    fail(&mut client, "http-01");
    assert_eq!(client.ask_order(&["bad.example.com"], &json!({})).status, 429);
    client.register_another(101);
    client.order(&["bad.example.com"]);
}

fn fail(client: &mut Client, challenge: &str) {
    let order = client.order(&["bad.example.com"]);
    let authz = path(object(&client.read(&order))["authorizations"][0].as_str().unwrap());
    let challenge = format!("{}/{challenge}", authz.replace("authz", "challenge"));
    assert_eq!(client.post(&challenge, &json!({})).status, 200);
    assert_eq!(object(&client.read(&order))["status"], "invalid");
}

#[test]
fn a_renewal_that_is_vouched_for_is_exempt() {
    let one = bucket(1, 7 * 86_400);
    let mut client = limited(Limits {
        orders_per_account: one,
        certificates_per_domain: one,
        certificates_per_set: one,
        failed_validations_per_name: one,
    });
    client.ca.peer.settings.renewal_info = Some(RenewalInfo::default());
    client.issue(&["a.example.com"]);
    assert_eq!(client.ask_order(&["a.example.com"], &json!({})).status, 429);
    assert_eq!(client.ask_order(&["b.example.com"], &json!({})).status, 429);
    for number in 0..3 {
        let cert_id = client.ca.peer.issued()[number].cert_id.clone();
        let order = client.order_with(&["a.example.com"], &json!({ "replaces": cert_id }));
        client.complete(&order, &["a.example.com"]);
    }
    // Failed validations hold it up all the same.
    let cert_id = client.ca.peer.issued()[3].cert_id.clone();
    let replaces = json!({ "replaces": cert_id });
    client.ca.peer.settings.failing_names.insert("a.example.com".to_string());
    let order = client.order_with(&["a.example.com"], &replaces);
    let authz = path(object(&client.read(&order))["authorizations"][0].as_str().unwrap());
    client.post(&format!("{}/http-01", authz.replace("authz", "challenge")), &json!({}));
    let refused = client.ask_order(&["a.example.com"], &replaces);
    assert!(detail(&refused).contains("failed validations of a.example.com"));
}

#[test]
fn a_name_that_is_paused() {
    let mut client = Client::registered(|settings| {
        settings.paused_names.insert("b.example.com".to_string());
        settings.retry_after = RetryAfter::Seconds(60);
    });
    let refused = client.ask_order(&["a.example.com", "b.example.com"], &json!({}));
    let detail = detail(&refused);
    assert!(detail.contains("b.example.com") && detail.contains("paused"), "{detail}");
    assert!(detail.contains("https://ca.test/unpause"), "{detail}");
    assert_eq!((refused.header("Retry-After"), client.ca.peer.limited()), (None, 0));
    client.order(&["a.example.com"]);
}

#[test]
fn a_renewal_without_that_takes_from_its_set_alone() {
    let one = bucket(1, 365 * 86_400);
    let mut client = limited(Limits {
        orders_per_account: one,
        certificates_per_domain: one,
        certificates_per_set: bucket(3, 365 * 86_400),
        failed_validations_per_name: one,
    });
    client.issue(&["a.example.com", "b.example.com"]);
    assert_eq!(client.ask_order(&["a.example.com"], &json!({})).status, 429, "another set");
    client.issue(&["b.example.com", "a.example.com"]);
    // To whichever account, for 120 days.
    client.register_another(101);
    client.issue(&["a.example.com", "b.example.com"]);
    let refused = client.ask_order(&["a.example.com", "b.example.com"], &json!({}));
    assert!(detail(&refused).contains("exactly a.example.com b.example.com"));
    client.ca.pass_ms(120 * 24 * HOUR_MS + 1);
    let refused = client.ask_order(&["a.example.com", "b.example.com"], &json!({}));
    assert!(detail(&refused).contains("example.com and names below it"));
}
