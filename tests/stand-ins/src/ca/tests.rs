//! A small ACME client that can also do everything wrong, for the tests of the CA.

mod accounts;
mod chains;
mod faults;
mod flow;
mod limits;
mod profiles;
mod refused_payloads;
mod renewal_info;
mod requests;
mod scale;
mod troubles;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::*;
use crate::harness::Harness;
use crate::http::client::Response;
use crate::seeded;

const BASE: &str = "https://ca.test";

pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn jwk(signer: &seeded::Signer) -> Value {
    let (x, y) = signer.coordinates();
    json!({"kty": "EC", "crv": "P-256", "x": encoded(x), "y": encoded(y)})
}

pub(super) struct Client {
    pub(super) ca: Harness<Ca>,
    pub(super) key: seeded::Signer,
    pub(super) kid: Option<String>,
}

/// A signed request before it is signed, so that a test can spoil any part of it.
pub(super) struct Draft {
    pub(super) path: String,
    pub(super) header: Map<String, Value>,
    pub(super) payload: String,
    pub(super) fields: String,
    /// Changes the signature's bytes.
    pub(super) spoil_signature: fn(Vec<u8>) -> Vec<u8>,
}

impl Client {
    /// A client without an account.
    pub(super) fn new(change: impl FnOnce(&mut Settings)) -> Client {
        let mut settings = Settings::default();
        change(&mut settings);
        let now = Time { mono_ms: 1_000, unix_ms: 1_795_453_200_000 };
        let ca = Harness::new(Ca::new(1, BASE, now, settings));
        Client { ca, key: seeded::Signer::from_seed(100), kid: None }
    }

    /// A client with an account.
    pub(super) fn registered(change: impl FnOnce(&mut Settings)) -> Client {
        let mut client = Client::new(change);
        let response = client.post("/new-account", &json!({"termsOfServiceAgreed": true}));
        assert_eq!(response.status, 201);
        client.kid = response.header("Location").map(str::to_string);
        client
    }

    pub(super) fn nonce(&mut self) -> String {
        let response = self.get("GET", "/new-nonce");
        assert_eq!(response.status, 204);
        response.header("Replay-Nonce").unwrap().to_string()
    }

    pub(super) fn get(&mut self, method: &str, path: &str) -> Response {
        let head = format!("{method} {path} HTTP/1.1\r\nUser-Agent: test");
        self.ca.ask(&head, "")
    }

    pub(super) fn draft(&mut self, path: &str, payload: &str) -> Draft {
        let mut header = Map::new();
        header.insert("alg".to_string(), json!("ES256"));
        header.insert("nonce".to_string(), json!(self.nonce()));
        header.insert("url".to_string(), json!(format!("{BASE}{path}")));
        match &self.kid {
            Some(kid) => header.insert("kid".to_string(), json!(kid)),
            None => header.insert("jwk".to_string(), jwk(&self.key)),
        };
        Draft {
            path: path.to_string(),
            header,
            payload: encoded(payload),
            fields: "User-Agent: test\r\nContent-Type: application/jose+json".to_string(),
            spoil_signature: |signature| signature,
        }
    }

    pub(super) fn send(&mut self, draft: Draft) -> Response {
        let protected = encoded(Value::Object(draft.header).to_string());
        let input = format!("{protected}.{}", draft.payload);
        let signature = (draft.spoil_signature)(self.key.sign_fixed(input.as_bytes()));
        let jws = json!({
            "protected": protected,
            "payload": draft.payload,
            "signature": encoded(signature),
        });
        self.send_body(&draft.path, &draft.fields, &jws.to_string())
    }

    pub(super) fn send_body(&mut self, path: &str, fields: &str, body: &str) -> Response {
        let head = format!("POST {path} HTTP/1.1\r\n{fields}\r\nContent-Length: {}", body.len());
        let response = self.ca.ask(&head, body);
        assert!(response.header("Replay-Nonce").is_some(), "every POST is answered with a nonce");
        response
    }

    pub(super) fn post(&mut self, path: &str, payload: &Value) -> Response {
        let draft = self.draft(path, &payload.to_string());
        self.send(draft)
    }

    /// POST-as-GET.
    pub(super) fn read(&mut self, path: &str) -> Response {
        let draft = self.draft(path, "");
        self.send(draft)
    }

    /// Makes an account with another key, and resumes it.
    pub(super) fn register_another(&mut self, seed: u64) {
        self.key = seeded::Signer::from_seed(seed);
        self.kid = None;
        let response = self.post("/new-account", &json!({"termsOfServiceAgreed": true}));
        assert_eq!(response.status, 201);
        self.kid = response.header("Location").map(str::to_string);
    }

    /// The response to an order of names with these further members.
    pub(super) fn ask_order(&mut self, names: &[&str], members: &Value) -> Response {
        let identifier = |name: &&str| json!({"type": "dns", "value": name});
        let mut payload = members.clone();
        payload["identifiers"] = names.iter().map(identifier).collect();
        self.post("/new-order", &payload)
    }

    /// Orders names with these further members; returns the order's path.
    pub(super) fn order_with(&mut self, names: &[&str], members: &Value) -> String {
        let response = self.ask_order(names, members);
        assert_eq!(response.status, 201, "{}", object(&response));
        path(response.header("Location").unwrap())
    }

    /// Orders names; returns the order's path.
    pub(super) fn order(&mut self, names: &[&str]) -> String {
        self.order_with(names, &json!({}))
    }

    /// From an order to the chain.
    pub(super) fn complete(&mut self, order: &str, names: &[&str]) -> String {
        self.authorize(order);
        let finalized = self.finalize(order, names);
        let certificate = path(object(&finalized)["certificate"].as_str().unwrap());
        let chain = self.read(&certificate);
        assert_eq!(chain.header("Content-Type"), Some("application/pem-certificate-chain"));
        String::from_utf8(chain.body).unwrap()
    }

    /// From nothing to the chain.
    pub(super) fn issue(&mut self, names: &[&str]) -> String {
        let order = self.order(names);
        self.complete(&order, names)
    }

    /// The http-01 challenge of an authorization: its path, and the key authorization.
    pub(super) fn http_challenge(&mut self, authz: &str) -> (String, String) {
        let authz = object(&self.read(authz));
        let challenges = authz["challenges"].as_array().unwrap();
        let challenge = challenges.iter().find(|each| each["type"] == "http-01").unwrap();
        let token = challenge["token"].as_str().unwrap();
        let thumbprint = Jwk::parse(&jwk(&self.key)).unwrap().thumbprint();
        (path(challenge["url"].as_str().unwrap()), format!("{token}.{thumbprint}"))
    }

    /// Answers the next fetch of the CA with a whole HTTP response; returns its request.
    pub(super) fn serve(&mut self, response: &str) -> String {
        let (conn, ..) = self.ca.dialed.remove(0);
        self.ca.peer.dialed(self.ca.now, conn, Ok(()));
        self.ca.drain();
        let request = self.ca.text(conn);
        self.ca.send(conn, response.as_bytes());
        self.ca.peer.closed(self.ca.now, conn);
        self.ca.drain();
        request
    }

    /// Brings an order to `ready`.
    pub(super) fn authorize(&mut self, order: &str) {
        let order = object(&self.read(order));
        for authz in order["authorizations"].as_array().unwrap() {
            let authz = path(authz.as_str().unwrap());
            if object(&self.read(&authz))["status"] == "valid" {
                continue;
            }
            let (challenge, expected) = self.http_challenge(&authz);
            assert_eq!(self.post(&challenge, &json!({})).status, 200);
            self.serve(&ok(&expected));
            assert_eq!(object(&self.read(&authz))["status"], "valid");
        }
    }

    /// Finalizes an order with a certificate request by a key of its own.
    pub(super) fn finalize(&mut self, order: &str, names: &[&str]) -> Response {
        let csr = seeded::Signer::from_seed(200).certificate_request(names).unwrap();
        self.post(&format!("{order}/finalize"), &json!({ "csr": encoded(csr) }))
    }
}

/// What a challenge is answered with.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub(super) fn object(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

pub(super) fn path(url: &str) -> String {
    url.strip_prefix(BASE).unwrap().to_string()
}

/// Status and type of a problem.
pub(super) fn problem(response: &Response) -> (u16, String) {
    assert_eq!(response.header("Content-Type"), Some("application/problem+json"));
    let document = object(response);
    assert_eq!(document["status"], response.status);
    let kind = document["type"].as_str().unwrap();
    (response.status, kind.strip_prefix("urn:ietf:params:acme:error:").unwrap().to_string())
}

/// A problem as [`problem`] shows it.
pub(super) fn kind(status: u16, kind: &str) -> (u16, String) {
    (status, kind.to_string())
}

pub(super) fn malformed() -> (u16, String) {
    kind(400, "malformed")
}
