//! Account keys as clients send them: JSON Web Keys (RFC 7517, RFC 7518 section 6), read strictly,
//! and the signatures they make.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Value, json};

use super::problem::Problem;

/// The shortest RSA modulus that is taken, in bytes: 2048 bits.
const RSA_BYTES_MIN: usize = 256;
/// The longest, in bytes: 4096 bits.
const RSA_BYTES_MAX: usize = 512;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Jwk {
    /// P-256: `04 x y`, a point on the curve.
    P256(Vec<u8>),
    /// RSA: modulus and exponent, big-endian without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl Jwk {
    /// Reads a key that stands in a protected header.
    pub(super) fn parse(value: &Value) -> Result<Jwk, Problem> {
        let bad = |detail: &str| Problem::new(400, "badPublicKey", detail);
        if value.get("d").is_some() || value.get("k").is_some() {
            return Err(bad("the private half of a key must never be sent"));
        }
        let number = |name: &str| match value.get(name).and_then(Value::as_str) {
            Some(text) => base64url(text).ok_or(bad("a member is not unpadded base64url")),
            None => Err(bad("a member of the key is missing")),
        };
        match value.get("kty").and_then(Value::as_str) {
            Some("EC") => {
                if value.get("crv").and_then(Value::as_str) != Some("P-256") {
                    return Err(bad("the only curve here is P-256"));
                }
                let (x, y) = (number("x")?, number("y")?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(bad("x and y are 32 bytes each (RFC 7518 section 6.2.1.2)"));
                }
                let point = [&[4][..], &x, &y].concat();
                if p256::PublicKey::from_sec1_bytes(&point).is_err() {
                    return Err(bad("the point is not on the curve"));
                }
                Ok(Jwk::P256(point))
            }
            Some("RSA") => {
                let (n, e) = (number("n")?, number("e")?);
                if n.first() == Some(&0) || e.first() == Some(&0) {
                    return Err(bad("a number has leading zeros (RFC 7518 section 2)"));
                }
                if !(RSA_BYTES_MIN..=RSA_BYTES_MAX).contains(&n.len()) {
                    return Err(bad("an RSA key here has 2048 to 4096 bits"));
                }
                Ok(Jwk::Rsa { n, e })
            }
            _ => Err(bad("the only types of key here are EC and RSA")),
        }
    }

    /// The one algorithm that this key signs with.
    pub(super) const fn algorithm(&self) -> &'static str {
        match self {
            Jwk::P256(_) => "ES256",
            Jwk::Rsa { .. } => "RS256",
        }
    }

    /// Whether `signature` over `message` is this key's.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Jwk::P256(point) => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
            Jwk::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
        }
    }

    /// base64url of the key's thumbprint (RFC 7638).
    pub(super) fn thumbprint(&self) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let canonical = match self {
            Jwk::P256(point) => format!(
                r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
                text(&point[1..33]),
                text(&point[33..])
            ),
            Jwk::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(e), text(n)),
        };
        text(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    }

    /// The key with its necessary members only.
    pub(super) fn json(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Jwk::P256(point) => {
                let (x, y) = (text(&point[1..33]), text(&point[33..]));
                json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
            }
            Jwk::Rsa { n, e } => json!({ "kty": "RSA", "n": text(n), "e": text(e) }),
        }
    }

    /// Whether a certificate request is for this very key, given the bits of its public key.
    pub(super) fn is_key_of_request(&self, bits: &[u8]) -> bool {
        match self {
            Jwk::P256(point) => point == bits,
            // RFC 8017 appendix A.1.1: the modulus stands in the DER as it is.
            Jwk::Rsa { n, .. } => bits.windows(n.len()).any(|window| window == n),
        }
    }
}

/// Decodes base64url; padding, other alphabets and stray bits are refused (RFC 7515 section 2).
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_of_rfc_7638_section_3_1() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1\
                 L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4\
                 QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbO\
                 pbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csF\
                 Cur-kEgU8awapJzKnqDKgw";
        let jwk = json!({"kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29", "n": n});
        let key = Jwk::parse(&jwk).unwrap();
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    /// The key of RFC 7515 appendix A.3.1.
    fn example() -> Value {
        json!({
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        })
    }

    #[test]
    fn the_signature_of_rfc_7515_appendix_a_3() {
        let key = Jwk::parse(&example()).unwrap();
        let input = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogI\
                     mh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = base64url(
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8I\
             SlSApmWQxfKTUJqPP3-Kg6NU1Q",
        )
        .unwrap();
        assert!(key.verifies(input.as_bytes(), &signature));
        assert!(!key.verifies(b"other", &signature));
    }
}
