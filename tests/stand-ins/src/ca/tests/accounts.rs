//! Accounts in the course of time, and their binding to external ones (RFC 8555 sections 7.3 and
//! 7.3.4).

use super::*;
use ring::hmac;

const KID: &str = "external-1";
const SECRET: &[u8] = b"a secret that only two know, and more than 32 bytes";

#[test]
fn a_known_key_gets_its_account_and_changes_nothing() {
    let mut client = Client::new(|_| {});
    let payload = |address: &str| json!({"termsOfServiceAgreed": true, "contact": [address]});
    assert_eq!(client.post("/new-account", &payload("mailto:a@example.org")).status, 201);
    let known = client.post("/new-account", &payload("mailto:b@example.org"));
    assert_eq!(known.status, 200);
    assert_eq!(object(&known)["contact"], json!(["mailto:a@example.org"]));
    let contacts = client.ca.peer.account_contacts(0);
    assert_eq!(contacts, Some(&["mailto:a@example.org".to_string()][..]));
    assert_eq!(client.ca.peer.account_contacts(1), None);
}

#[test]
fn contacts_are_changed_at_the_accounts_url() {
    let mut client = Client::registered(|_| {});
    let change = |client: &mut Client, contact: Value| {
        client.post("/account/0", &json!({ "contact": contact }))
    };
    let changed = change(&mut client, json!(["mailto:b@example.org"]));
    assert_eq!(object(&changed)["contact"], json!(["mailto:b@example.org"]));
    let empty = change(&mut client, json!([""]));
    assert_eq!(problem(&empty), kind(400, "unsupportedContact"));
    let contacts = client.ca.peer.account_contacts(0);
    assert_eq!(contacts, Some(&["mailto:b@example.org".to_string()][..]));
    assert_eq!(change(&mut client, json!([])).status, 200);
    assert_eq!(client.ca.peer.account_contacts(0), Some(&[][..]));
}

#[test]
fn an_account_that_the_ca_deactivates() {
    let mut client = Client::registered(|_| {});
    client.ca.peer.deactivate_account(0);
    assert_eq!(problem(&client.read("/account/0")), kind(401, "unauthorized"));
    client.kid = None;
    let payload = json!({"termsOfServiceAgreed": true});
    assert_eq!(problem(&client.post("/new-account", &payload)), kind(401, "unauthorized"));
}

#[test]
fn accounts_that_the_ca_lost() {
    let mut client = Client::registered(|_| {});
    client.issue(&["a.example.com"]);
    client.ca.peer.forget_accounts();
    assert_eq!((client.ca.peer.account_count(), client.ca.peer.account_contacts(0)), (0, None));
    let lost = kind(400, "accountDoesNotExist");
    assert_eq!(problem(&client.read("/account/0")), lost);
    client.kid = None;
    let existing = json!({"onlyReturnExisting": true});
    assert_eq!(problem(&client.post("/new-account", &existing)), lost);
    let new = client.post("/new-account", &json!({"termsOfServiceAgreed": true}));
    assert_eq!((new.status, new.header("Location")), (201, Some("https://ca.test/account/1")));
    client.kid = new.header("Location").map(str::to_string);
    assert_eq!(problem(&client.read("/cert/0")), kind(403, "unauthorized"));
    client.issue(&["a.example.com"]);
    let accounts: Vec<usize> = client.ca.peer.issued().iter().map(|each| each.account).collect();
    assert_eq!(accounts, [0, 1]);
}

/// A client that must bind its account.
fn unbound() -> Client {
    Client::new(|settings| {
        settings.external_account_required = true;
        settings.external_accounts.insert(KID.to_string(), SECRET.to_vec());
    })
}

/// A binding before its MAC is made.
struct Draft {
    header: Value,
    payload: Value,
    secret: &'static [u8],
}

fn binding(client: &Client, spoil: impl FnOnce(&mut Draft)) -> Value {
    let header = json!({"alg": "HS256", "kid": KID, "url": "https://ca.test/new-account"});
    let mut draft = Draft { header, payload: jwk(&client.key), secret: SECRET };
    spoil(&mut draft);
    let protected = encoded(draft.header.to_string());
    let payload = encoded(draft.payload.to_string());
    let key = hmac::Key::new(hmac::HMAC_SHA256, draft.secret);
    let mac = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
    json!({"protected": protected, "payload": payload, "signature": encoded(mac)})
}

fn register(client: &mut Client, binding: Value) -> Response {
    let payload = json!({"termsOfServiceAgreed": true, "externalAccountBinding": binding});
    client.post("/new-account", &payload)
}

/// The refusal of a binding that is spoilt by `spoil`.
fn refused(spoil: impl FnOnce(&mut Draft)) -> (u16, String) {
    let mut client = unbound();
    let binding = binding(&client, spoil);
    let refusal = problem(&register(&mut client, binding));
    assert_eq!(client.ca.peer.account_count(), 0);
    refusal
}

#[test]
fn an_account_is_bound_once() {
    let mut client = unbound();
    let meta = &object(&client.get("GET", "/directory"))["meta"];
    assert_eq!(meta["externalAccountRequired"], true);
    let plain = json!({"termsOfServiceAgreed": true});
    let refusal = problem(&client.post("/new-account", &plain));
    assert_eq!(refusal, kind(403, "externalAccountRequired"));
    let good = binding(&client, |_| {});
    assert_eq!(register(&mut client, good).status, 201);
    // An existing account needs none.
    assert_eq!(client.post("/new-account", &plain).status, 200);
    // Another key is not bound to the same external account; the same key is.
    client.key = seeded::Signer::from_seed(101);
    let second = binding(&client, |_| {});
    assert_eq!(problem(&register(&mut client, second)), kind(403, "unauthorized"));
    client.ca.peer.forget_accounts();
    client.key = seeded::Signer::from_seed(100);
    let again = binding(&client, |_| {});
    assert_eq!(register(&mut client, again).status, 201);
}

#[test]
fn a_binding_is_checked_where_none_is_required_too() {
    let mut client = unbound();
    client.ca.peer.settings.external_account_required = false;
    let wrong = binding(&client, |draft| draft.secret = b"another");
    assert_eq!(problem(&register(&mut client, wrong)), kind(403, "unauthorized"));
    assert_eq!(client.post("/new-account", &json!({"termsOfServiceAgreed": true})).status, 201);
}

#[test]
fn a_binding_by_the_wrong_hand() {
    let unauthorized = kind(403, "unauthorized");
    assert_eq!(refused(|draft| draft.secret = b"another"), unauthorized);
    assert_eq!(refused(|draft| draft.header["kid"] = json!("external-2")), unauthorized);
}
