//! Signed requests (RFC 8555 section 6.2): the flattened JWS of RFC 7515, read strictly. Nothing
//! here knows accounts or nonces; it says what the request claims and whether the form is right.

use serde_json::{Map, Value};

use super::jwk::{Jwk, base64url};
use super::problem::Problem;

/// A signed request, its signature not yet verified.
#[derive(Clone, Debug)]
pub(super) struct Jws {
    pub(super) algorithm: String,
    pub(super) nonce: String,
    pub(super) url: String,
    pub(super) signer: Signer,
    pub(super) payload: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

/// Whose key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    /// The key itself.
    Jwk(Jwk),
    /// The URL of an account.
    Kid(String),
}

impl Jws {
    /// Reads a request body.
    pub(super) fn parse(body: &[u8]) -> Result<Jws, Problem> {
        let whole: Value = serde_json::from_slice(body)
            .map_err(|_| Problem::malformed("the body is not one JSON object"))?;
        let members =
            whole.as_object().ok_or(Problem::malformed("the body is not a JSON object"))?;
        if members.contains_key("header") || members.contains_key("signatures") {
            let detail = "header and signatures must be absent (RFC 8555 section 6.2)";
            return Err(Problem::malformed(detail));
        }
        let text = |name: &str| match members.get(name).and_then(Value::as_str) {
            Some(text) => Ok(text),
            None => Err(Problem::malformed(format!("{name} is missing or no string"))),
        };
        let decoded = |name: &str, text: &str| match base64url(text) {
            Some(bytes) => Ok(bytes),
            None => Err(Problem::malformed(format!("{name} is not unpadded base64url"))),
        };
        let (protected, payload) = (text("protected")?, text("payload")?);
        let header: Value = serde_json::from_slice(&decoded("protected", protected)?)
            .map_err(|_| Problem::malformed("the protected header is not JSON"))?;
        let header =
            header.as_object().ok_or(Problem::malformed("the protected header is no object"))?;
        Ok(Jws {
            algorithm: algorithm(header)?,
            nonce: nonce(header)?,
            url: string(header, "url")?,
            signer: signer(header)?,
            payload: decoded("payload", payload)?,
            signed: format!("{protected}.{payload}"),
            signature: decoded("signature", text("signature")?)?,
        })
    }

    /// Checks that `key` made the signature, by the algorithm that the header names.
    pub(super) fn verify(&self, key: &Jwk) -> Result<(), Problem> {
        if self.algorithm != key.algorithm() {
            let detail = format!("this key signs with {}", key.algorithm());
            return Err(Problem::new(400, "badSignatureAlgorithm", detail));
        }
        if self.algorithm == "ES256" && self.signature.len() != 64 {
            let detail = "an ES256 signature is 64 bytes (RFC 7518 section 3.4)";
            return Err(Problem::malformed(detail));
        }
        if !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(Problem::malformed("the signature is not the key's over this request"));
        }
        Ok(())
    }

    /// The payload as a JSON object.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Problem> {
        match serde_json::from_slice(&self.payload) {
            Ok(Value::Object(members)) => Ok(members),
            _ => Err(Problem::malformed("the payload is not a JSON object")),
        }
    }
}

fn string(header: &Map<String, Value>, name: &str) -> Result<String, Problem> {
    match header.get(name).and_then(Value::as_str) {
        Some(text) => Ok(text.to_string()),
        None => Err(Problem::malformed(format!("{name} is missing in the protected header"))),
    }
}

fn algorithm(header: &Map<String, Value>) -> Result<String, Problem> {
    if header.contains_key("crit") {
        return Err(Problem::malformed("no critical extensions are known here"));
    }
    let algorithm = string(header, "alg")?;
    match algorithm.as_str() {
        "ES256" | "RS256" => Ok(algorithm),
        _ => Err(Problem::new(400, "badSignatureAlgorithm", format!("{algorithm} is not taken"))),
    }
}

/// RFC 8555 section 6.5.2: a nonce that is not base64url is malformed, not merely unknown.
fn nonce(header: &Map<String, Value>) -> Result<String, Problem> {
    let nonce = string(header, "nonce")?;
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if nonce.is_empty() || !nonce.bytes().all(alphabet) {
        return Err(Problem::malformed("the nonce is not base64url (RFC 8555 section 6.5.2)"));
    }
    Ok(nonce)
}

fn signer(header: &Map<String, Value>) -> Result<Signer, Problem> {
    match (header.get("jwk"), header.get("kid")) {
        (Some(jwk), None) => Ok(Signer::Jwk(Jwk::parse(jwk)?)),
        (None, Some(Value::String(kid))) => Ok(Signer::Kid(kid.clone())),
        (None, Some(_)) => Err(Problem::malformed("kid is no string")),
        (Some(_), Some(_)) => {
            Err(Problem::malformed("jwk and kid exclude each other (RFC 8555 section 6.2)"))
        }
        (None, None) => Err(Problem::malformed("neither jwk nor kid (RFC 8555 section 6.2)")),
    }
}
