//! Signed requests (RFC 8555 section 6.2, RFC 7515): flattened JSON serialization, ES256 or RS256,
//! and what follows from a public key: its JWK, its thumbprint, key authorizations, its binding to an
//! account elsewhere. Never shows or keeps a private key.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::hmac;
use serde_json::json;
use zeroize::Zeroizing;

use crate::keys::{AccountKey, KeyError, Keys, PublicKey};

/// How the signer names itself: exactly one of the two (section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// The public key itself, for a new account.
    Jwk,
    /// The account's URL, for everything else.
    Kid(&'a str),
}

/// Unpadded base64url (RFC 7515 section 2).
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The body of a POST: `payload` signed for `url` with a nonce. An empty payload makes it a
/// POST-as-GET (section 6.3).
///
/// # Errors
/// The key cannot sign.
pub fn sign(
    keys: &mut dyn Keys,
    key: &AccountKey,
    identity: Identity<'_>,
    nonce: &str,
    url: &str,
    payload: &str,
) -> Result<Vec<u8>, KeyError> {
    let mut protected = json!({"alg": algorithm(&key.public), "nonce": nonce, "url": url});
    match identity {
        Identity::Jwk => protected["jwk"] = jwk(&key.public),
        Identity::Kid(kid) => protected["kid"] = json!(kid),
    }
    let protected = base64url(protected.to_string().as_bytes());
    let payload = base64url(payload.as_bytes());
    let signature = keys.sign(key, format!("{protected}.{payload}").as_bytes())?;
    let body = json!({
        "protected": protected,
        "payload": payload,
        "signature": base64url(&signature),
    });
    Ok(body.to_string().into_bytes())
}

/// RFC 7518 section 3.1.
fn algorithm(key: &PublicKey) -> &'static str {
    match key {
        PublicKey::P256 { .. } => "ES256",
        PublicKey::Rsa { .. } => "RS256",
    }
}

/// The JWK with its members in the order of their names, as RFC 7638 section 3 wants them; the JSON
/// library sorts them so.
fn jwk(key: &PublicKey) -> serde_json::Value {
    match key {
        PublicKey::P256 { x, y } => {
            json!({"crv": "P-256", "kty": "EC", "x": base64url(x), "y": base64url(y)})
        }
        PublicKey::Rsa { n, e } => json!({"e": base64url(e), "kty": "RSA", "n": base64url(n)}),
    }
}

/// RFC 7638.
pub fn thumbprint(key: &PublicKey) -> String {
    base64url(digest(&SHA256, jwk(key).to_string().as_bytes()).as_ref())
}

/// What is served for a token (RFC 8555 section 8.1).
pub fn key_authorization(token: &str, key: &PublicKey) -> String {
    format!("{token}.{}", thumbprint(key))
}

/// Says to the CA that the key belongs to an account elsewhere (RFC 8555 section 7.3.4): the public
/// key, authenticated by what the CA gave out there. `url` is what the outer request is signed for.
pub fn external_account_binding(
    kid: &str,
    mac_key: &[u8],
    url: &str,
    key: &PublicKey,
) -> serde_json::Value {
    let protected = json!({"alg": "HS256", "kid": kid, "url": url});
    let protected = base64url(protected.to_string().as_bytes());
    let payload = base64url(jwk(key).to_string().as_bytes());
    let signature = base64url(&mac(mac_key, &protected, &payload));
    json!({"protected": protected, "payload": payload, "signature": signature})
}

/// HS256 (RFC 7518 section 3.2).
fn mac(mac_key: &[u8], protected: &str, payload: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, mac_key);
    hmac::sign(&key, format!("{protected}.{payload}").as_bytes()).as_ref().to_vec()
}

/// The MAC key of a binding as CAs give it out: base64url, with or without padding and white space
/// around it.
///
/// The standard alphabet is read, too, where it cannot mean anything else: `+` and `/` are no
/// characters of base64url. A text with characters of both is refused, and so is an empty one.
pub fn mac_key(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim();
    let bare = text.trim_end_matches('=');
    // Padding fills the last four characters and nothing else (RFC 4648 section 4).
    let padding = text.len() - bare.len();
    if padding > 2 || padding > 0 && !text.len().is_multiple_of(4) {
        return None;
    }
    let engine = if bare.contains(['+', '/']) { STANDARD_NO_PAD } else { URL_SAFE_NO_PAD };
    let mut key = Zeroizing::new(Vec::with_capacity(text.len()));
    engine.decode_vec(bare, &mut key).ok()?;
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
pub(super) fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url of a test")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    /// RFC 7638 section 3.1.
    #[test]
    fn the_thumbprint_of_rfc_7638() {
        let n = [
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSo",
            "c_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65Y",
            "GjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdk",
            "t-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqD",
            "Kgw",
        ];
        let key = PublicKey::Rsa { n: decode(&n.concat()), e: decode("AQAB") };
        assert_eq!(thumbprint(&key), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let expected = "token.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(key_authorization("token", &key), expected);
    }

    /// Coordinates keep their leading zeros: always 43 characters.
    #[test]
    fn coordinates_are_of_fixed_width() {
        let (mut x, mut y) = ([0; 32], [0; 32]);
        (x[31], y[31]) = (1, 2);
        let jwk = jwk(&PublicKey::P256 { x, y });
        let text = jwk.to_string();
        let x = format!("{}E", "A".repeat(42));
        let y = format!("{}I", "A".repeat(42));
        assert_eq!(text, format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#));
    }

    #[test]
    fn the_body_has_exactly_its_three_members() {
        let mut bench = Bench::new();
        let cx = bench.cx();
        let key = AccountKey { id: 0, public: PublicKey::P256 { x: [1; 32], y: [2; 32] } };
        for (identity, member, other) in
            [(Identity::Jwk, "jwk", "kid"), (Identity::Kid("https://ca/1"), "kid", "jwk")]
        {
            let body = sign(cx.keys, &key, identity, "n1", "https://ca/x", "{}").unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let members: Vec<&String> = body.as_object().unwrap().keys().collect();
            assert_eq!(members, ["payload", "protected", "signature"]);
            let protected = decode(body["protected"].as_str().unwrap());
            let protected: serde_json::Value = serde_json::from_slice(&protected).unwrap();
            assert_eq!(protected["alg"], "ES256");
            assert_eq!(
                (&protected["nonce"], &protected["url"]),
                (&json!("n1"), &json!("https://ca/x"))
            );
            assert!(!protected[member].is_null() && protected[other].is_null());
            assert_eq!(decode(body["payload"].as_str().unwrap()), b"{}");
            assert_eq!(decode(body["signature"].as_str().unwrap()).len(), 64);
        }
        let body = sign(cx.keys, &key, Identity::Jwk, "n1", "https://ca/x", "").unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["payload"], "");
    }

    /// RFC 7515 appendix A.1.
    #[test]
    fn the_mac_of_rfc_7515() {
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = mac_key(key).unwrap();
        assert_eq!(key.len(), 64);
        let protected = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
        let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                       cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let expected = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(base64url(&mac(&key, protected, payload)), expected);
    }

    /// RFC 8555 section 7.3.4: the MAC's own key identifier, the outer URL, no nonce, the account's key.
    #[test]
    fn a_binding_names_the_key_and_where_it_goes() {
        let key = PublicKey::P256 { x: [1; 32], y: [2; 32] };
        let binding = external_account_binding("kid-1", b"secret", "https://ca/account", &key);
        let text = |member: &str| binding[member].as_str().unwrap().to_string();
        let read = |member: &str| -> serde_json::Value {
            serde_json::from_slice(&decode(&text(member))).unwrap()
        };
        let header = json!({"alg": "HS256", "kid": "kid-1", "url": "https://ca/account"});
        assert_eq!(read("protected"), header);
        assert_eq!(read("payload"), jwk(&key));
        let signed = format!("{}.{}", text("protected"), text("payload"));
        let mac_key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        hmac::verify(&mac_key, signed.as_bytes(), &decode(&text("signature"))).unwrap();
        assert_eq!(binding.as_object().unwrap().len(), 3);
    }

    #[test]
    fn mac_keys_as_cas_give_them_out() {
        let key = Some(vec![0xfb, 0xef, 0xff, 0x01]);
        for text in ["--__AQ", "--__AQ==", " --__AQ\r\n", "++//AQ", "++//AQ==\n"] {
            assert_eq!(mac_key(text).as_deref(), key.as_ref(), "{text:?}");
        }
        let refused =
            ["", " ", "==", "+-__AQ", "--_/AQ", "--__AQ=", "--__AQ===", "--__A", "a b", "--__AR"];
        for text in refused {
            assert_eq!(mac_key(text), None, "{text:?}");
        }
    }
}
