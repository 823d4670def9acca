//! Keys and signatures that OpenSSL rejects at security level 2, the default of Debian, which marathon-lb's
//! image is built on: HAProxy does not load a file that contains such a certificate. Compares key lengths
//! and algorithm identifiers only; does no cryptography.

use std::fmt;

use super::der::{self, Elements};
use super::leaf::{is_self_issued, signed_parts, subject_key};
use super::oid;

/// The shortest keys of 112 bits of security (NIST SP 800-57 part 1, table 2), in bits.
const RSA_BITS_MIN: usize = 2048;
const EC_BITS_MIN: usize = 224;

/// What is weak of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// Its RSA key has so many bits.
    RsaKey(usize),
    /// Its elliptic curve has so many bits.
    Curve(usize),
    /// Its signature is over a hash that is broken. Of a self-signed one the signature does not matter.
    Signature,
}

/// Looks at one certificate. What cannot be read is left to others.
pub(super) fn check(certificate: &[u8]) -> Result<(), Weakness> {
    if let Some((kind, key)) = subject_key(certificate) {
        let kind = Elements::of(kind).expect(der::OBJECT_IDENTIFIER).unwrap_or_default();
        if oid::RSA.contains(&kind) {
            let bits = modulus_bits(key).unwrap_or(RSA_BITS_MIN);
            at_least(RSA_BITS_MIN, bits).map_err(Weakness::RsaKey)?;
        } else if kind == oid::EC {
            at_least(EC_BITS_MIN, field_bits(key)).map_err(Weakness::Curve)?;
        }
    }
    let Some((_, algorithm, _)) = signed_parts(certificate) else { return Ok(()) };
    let algorithm = Elements::of(algorithm).expect(der::OBJECT_IDENTIFIER).unwrap_or_default();
    if oid::WEAK_SIGNATURES.contains(&algorithm) && !is_self_issued(certificate) {
        return Err(Weakness::Signature);
    }
    Ok(())
}

fn at_least(least: usize, bits: usize) -> Result<(), usize> {
    if bits < least { Err(bits) } else { Ok(()) }
}

/// Of an RSA public key.
fn modulus_bits(key: &[u8]) -> Option<usize> {
    let modulus = Elements::of(Elements::of(key).expect(der::SEQUENCE)?).expect(der::INTEGER)?;
    number_bits(modulus)
}

/// Of a positive INTEGER (X.690 section 8.3), without leading zeros.
pub(super) fn number_bits(number: &[u8]) -> Option<usize> {
    let start = number.iter().position(|byte| *byte != 0)?;
    let first = *number.get(start)?;
    Some((number.len() - start) * 8 - first.leading_zeros() as usize)
}

/// Of the field that a point's numbers are from (SEC 1 section 2.3.3), to the next byte.
fn field_bits(point: &[u8]) -> usize {
    let numbers = point.len().saturating_sub(1);
    // 4, 6 and 7 say that both numbers follow.
    if point.first().is_some_and(|form| *form >= 4) { numbers / 2 * 8 } else { numbers * 8 }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weakness::RsaKey(bits) => {
                write!(f, "RSA key has {bits} bits, and OpenSSL wants {RSA_BITS_MIN}")
            }
            Weakness::Curve(bits) => {
                write!(f, "elliptic curve has {bits} bits, and OpenSSL wants {EC_BITS_MIN}")
            }
            Weakness::Signature => f.write_str("signature is over a hash that OpenSSL refuses"),
        }
    }
}
