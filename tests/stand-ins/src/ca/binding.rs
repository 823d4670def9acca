//! External account binding (RFC 8555 section 7.3.4): a second signature, by a MAC key that the CA
//! gave to a person, over the key of a new account.

use ring::hmac;
use serde_json::{Map, Value};

use super::Ca;
use super::jwk::{Jwk, base64url};
use super::problem::Problem;

/// A binding whose form is right, its MAC not yet checked.
struct Binding {
    kid: String,
    signed: String,
    mac: Vec<u8>,
}

impl Ca {
    /// Checks the binding in a request for a new account; returns the external account's key
    /// identifier, when there is a binding.
    pub(super) fn check_binding(
        &self,
        payload: &Map<String, Value>,
        key: &Jwk,
    ) -> Result<Option<String>, Problem> {
        let Some(binding) = payload.get("externalAccountBinding") else {
            let detail = "a new account needs an externalAccountBinding here";
            return match self.settings.external_account_required {
                true => Err(Problem::new(403, "externalAccountRequired", detail)),
                false => Ok(None),
            };
        };
        let binding = parse(binding, &format!("{}/new-account", self.base), key)?;
        let unknown = Problem::unauthorized("the kid of the binding names no external account");
        let secret = self.settings.external_accounts.get(&binding.kid).ok_or(unknown)?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        if hmac::verify(&secret, binding.signed.as_bytes(), &binding.mac).is_err() {
            return Err(Problem::unauthorized("the MAC of the binding is wrong"));
        }
        if self.bindings.get(&binding.kid).is_some_and(|bound| bound != key) {
            let detail = "the external account is bound to another account key already";
            return Err(Problem::unauthorized(detail));
        }
        Ok(Some(binding.kid))
    }
}

/// Reads a binding: the flattened JWS of RFC 7515, and nothing more than RFC 8555 puts into it.
fn parse(binding: &Value, url: &str, key: &Jwk) -> Result<Binding, Problem> {
    let bad = |detail: &str| Problem::malformed(format!("externalAccountBinding: {detail}"));
    let members = binding.as_object().ok_or(bad("it is no object"))?;
    if members.keys().any(|name| !["protected", "payload", "signature"].contains(&&**name)) {
        return Err(bad("it has exactly protected, payload and signature"));
    }
    let text = |name: &str| match members.get(name).and_then(Value::as_str) {
        Some(text) => Ok(text),
        None => Err(bad(&format!("{name} is missing or no string"))),
    };
    let decoded = |name: &str| match base64url(text(name)?) {
        Some(bytes) => Ok(bytes),
        None => Err(bad(&format!("{name} is not unpadded base64url"))),
    };
    let header: Value = serde_json::from_slice(&decoded("protected")?)
        .map_err(|_| bad("the protected header is not JSON"))?;
    let header = header.as_object().ok_or(bad("the protected header is no object"))?;
    if header.contains_key("nonce") {
        return Err(bad("it must not have a nonce"));
    }
    if header.contains_key("jwk") || header.contains_key("crit") {
        return Err(bad("jwk and crit have no place in it"));
    }
    if header.get("alg").and_then(Value::as_str) != Some("HS256") {
        return Err(bad("alg is HS256 here"));
    }
    if header.get("url").and_then(Value::as_str) != Some(url) {
        return Err(bad("its url is the one of the request around it"));
    }
    let kid = header.get("kid").and_then(Value::as_str).ok_or(bad("kid is missing"))?;
    let payload: Value =
        serde_json::from_slice(&decoded("payload")?).map_err(|_| bad("the payload is not JSON"))?;
    if payload != key.json() {
        return Err(bad("the payload is the key of the account and nothing else"));
    }
    let mac = decoded("signature")?;
    let signed = format!("{}.{}", text("protected")?, text("payload")?);
    Ok(Binding { kid: kid.to_string(), signed, mac })
}
