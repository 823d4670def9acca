//! Profiles (draft-ietf-acme-profiles).

use super::*;

fn client() -> Client {
    Client::registered(|settings| {
        let description = "A few days only".to_string();
        let short = Profile { description, lifetime_seconds: 160 * 3_600, names_max: 2 };
        settings.profiles.insert("shortlived".to_string(), short);
    })
}

#[test]
fn the_directory_lists_them() {
    let meta = &object(&client().get("GET", "/directory"))["meta"];
    assert_eq!(meta["profiles"], json!({"shortlived": "A few days only"}));
    let meta = &object(&Client::new(|_| {}).get("GET", "/directory"))["meta"];
    assert_eq!(meta["profiles"], Value::Null);
}

#[test]
fn a_profile_decides_the_lifetime_and_is_echoed() {
    let mut client = client();
    let names = ["a.example.com", "b.example.com"];
    let order = client.order_with(&names, &json!({"profile": "shortlived"}));
    assert_eq!(object(&client.read(&order))["profile"], "shortlived");
    client.complete(&order, &names);
    client.issue(&["c.example.com"]);
    let lifetimes: Vec<(i64, Option<&str>)> = client
        .ca
        .peer
        .issued()
        .iter()
        .map(|issued| {
            let lifetime_ms = issued.not_after_ms + 1_000 - issued.not_before_ms;
            (lifetime_ms / 3_600_000, issued.profile.as_deref())
        })
        .collect();
    assert_eq!(lifetimes, [(160, Some("shortlived")), (90 * 24, None)]);
}

#[test]
fn a_profile_that_is_unknown_of_another_type_or_too_small() {
    let mut client = client();
    let mut refused = |names: &[&str], profile: Value| {
        problem(&client.ask_order(names, &json!({ "profile": profile })))
    };
    let names = ["a.example.com", "b.example.com", "c.example.com"];
    assert_eq!(refused(&names[..1], json!("classic")), kind(400, "invalidProfile"));
    assert_eq!(refused(&names[..1], json!("")), kind(400, "invalidProfile"));
    for wrong_type in [json!(1), json!(null), json!({"shortlived": true})] {
        assert_eq!(refused(&names[..1], wrong_type), malformed());
    }
    assert_eq!(refused(&names, json!("shortlived")), malformed());
    assert_eq!(client.ask_order(&names, &json!({})).status, 201);
}

#[test]
fn an_order_is_handed_back_for_its_own_profile_only() {
    let mut client = client();
    client.ca.peer.settings.order_reuse = true;
    let short = json!({"profile": "shortlived"});
    let first = client.order_with(&["a.example.com"], &short);
    assert_eq!(client.order_with(&["a.example.com"], &short), first);
    assert_ne!(client.order_with(&["a.example.com"], &json!({})), first);
}

#[test]
fn a_profile_that_goes_while_an_order_is_open() {
    let mut client = client();
    let order = client.order_with(&["a.example.com"], &json!({"profile": "shortlived"}));
    client.authorize(&order);
    client.ca.peer.settings.profiles.clear();
    let refused = client.finalize(&order, &["a.example.com"]);
    assert_eq!(problem(&refused), kind(400, "invalidProfile"));
}
