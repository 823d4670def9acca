//! The real [`Keys`]: ring's randomness and signatures, rcgen's requests. Holds account keys in
//! memory; never writes or logs one.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SignatureAlgorithm};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use ring::rand::{SecureRandom, SystemRandom};
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::domain::Domain;
use crate::keys::{AccountKey, CertificateRequest, KeyError, KeyType, Keys, PublicKey};
use crate::pki::{pem, read_private_key, rsa_bits};
use crate::secret::Secret;
use crate::time::UnixTime;

/// How long the fallback certificate is valid; the old program's was, too.
const FALLBACK_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Random bytes fetched at once.
const POOL_BYTES: usize = 64;

/// The RSA keys that ring signs with, in bits: at most 4096, and primes of whole 512 bits.
const RSA_BITS: [usize; 3] = [2048, 3072, 4096];

/// Keys by ring and rcgen.
pub struct RingKeys {
    system: SystemRandom,
    pool: Vec<u8>,
    account_keys: Vec<Arc<SigningKey>>,
}

enum SigningKey {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Default for RingKeys {
    fn default() -> RingKeys {
        RingKeys::new()
    }
}

impl RingKeys {
    /// Keys of this process.
    pub fn new() -> RingKeys {
        RingKeys { system: SystemRandom::new(), pool: Vec::new(), account_keys: Vec::new() }
    }

    fn parse(&self, key: &PrivateKeyDer<'_>) -> Result<SigningKey, KeyError> {
        if let Some(bits) = rsa_bits(key).filter(|bits| !RSA_BITS.contains(bits)) {
            return Err(KeyError::RsaSize(bits));
        }
        let rejected = |error: ring::error::KeyRejected| KeyError::Rejected(error.to_string());
        match key {
            PrivateKeyDer::Pkcs1(der) => {
                RsaKeyPair::from_der(der.secret_pkcs1_der()).map(SigningKey::Rsa).map_err(rejected)
            }
            PrivateKeyDer::Sec1(der) => self.parse_ec(&wrap_sec1(der.secret_sec1_der())),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                self.parse_ec(der).or_else(|not_ec| {
                    let rsa = RsaKeyPair::from_pkcs8(der).map(SigningKey::Rsa);
                    rsa.map_err(|_| not_ec)
                })
            }
            _ => Err(KeyError::Unsupported),
        }
    }

    fn parse_ec(&self, pkcs8: &[u8]) -> Result<SigningKey, KeyError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &self.system)
            .map(SigningKey::Ec)
            .map_err(|error| KeyError::Rejected(error.to_string()))
    }
}

fn new_key(algorithm: &'static SignatureAlgorithm) -> Result<Zeroizing<KeyPair>, KeyError> {
    KeyPair::generate_for(algorithm).map(Zeroizing::new).map_err(|_| KeyError::Failed)
}

/// The key as PKCS#8, and the certificate behind it.
fn to_pem(key: &KeyPair, certificate: Option<&[u8]>) -> Secret {
    let mut sections = vec![(pem::PRIVATE_KEY, key.serialized_der())];
    sections.extend(certificate.map(|der| (pem::CERTIFICATE, der)));
    pem::write(&sections)
}

/// Version 0 and the algorithm of a PKCS#8 P-256 key: `id-ecPublicKey`, `prime256v1` (RFC 5480).
const PKCS8_P256: [u8; 24] = [
    0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
    0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
];
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// A SEC1 P-256 key as PKCS#8, which is what ring reads (RFC 5958 section 2, RFC 5915 section 3).
fn wrap_sec1(sec1: &[u8]) -> Zeroizing<Vec<u8>> {
    der(SEQUENCE, &[&PKCS8_P256, &der(OCTET_STRING, &[sec1])])
}

/// A DER value of these parts, in a buffer that does not grow: that would leave copies behind.
fn der(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let digits = length.to_be_bytes();
    let digits: Vec<u8> = digits.into_iter().skip_while(|digit| *digit == 0).collect();
    let mut head = vec![tag];
    if length >= 0x80 {
        head.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
    }
    head.extend(if digits.is_empty() { vec![0] } else { digits });
    let mut all = Vec::with_capacity(head.len() + length);
    all.extend(head);
    parts.iter().for_each(|part| all.extend_from_slice(part));
    Zeroizing::new(all)
}

impl SigningKey {
    fn public(&self) -> Result<PublicKey, KeyError> {
        match self {
            // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
            SigningKey::Ec(key) => match key.public_key().as_ref() {
                [4, point @ ..] if point.len() == 64 => {
                    let (mut x, mut y) = ([0; 32], [0; 32]);
                    x.copy_from_slice(&point[..32]);
                    y.copy_from_slice(&point[32..]);
                    Ok(PublicKey::P256 { x, y })
                }
                _ => Err(KeyError::Unsupported),
            },
            SigningKey::Rsa(key) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                Ok(PublicKey::Rsa { n: public.n, e: public.e })
            }
        }
    }
}

impl Keys for RingKeys {
    fn random(&mut self) -> u64 {
        if self.pool.len() < 8 {
            self.pool.resize(POOL_BYTES, 0);
            // The system has no randomness only before its first seed, long before a daemon runs;
            // numbers from here only spread pauses and DNS ids.
            let _ = self.system.fill(&mut self.pool);
        }
        let rest = self.pool.len() - 8;
        let bytes = self.pool.split_off(rest);
        bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn read_account_key(&mut self, pem: &Secret) -> Result<AccountKey, KeyError> {
        let der = read_private_key(pem.expose()).map_err(|_| KeyError::Unsupported)?;
        let key = self.parse(&der)?;
        let public = key.public()?;
        let id = u32::try_from(self.account_keys.len()).map_err(|_| KeyError::Failed)?;
        self.account_keys.push(Arc::new(key));
        Ok(AccountKey { id, public })
    }

    fn new_account_key(&mut self) -> Result<Secret, KeyError> {
        let key = new_key(&PKCS_ECDSA_P256_SHA256)?;
        Ok(to_pem(&key, None))
    }

    fn sign(&mut self, key: &AccountKey, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let index = usize::try_from(key.id).map_err(|_| KeyError::Failed)?;
        match &**self.account_keys.get(index).ok_or(KeyError::Failed)? {
            SigningKey::Ec(key) => {
                let signature = key.sign(&self.system, message).map_err(|_| KeyError::Failed)?;
                Ok(signature.as_ref().to_vec())
            }
            SigningKey::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &self.system, message, &mut signature)
                    .map_err(|_| KeyError::Failed)?;
                Ok(signature)
            }
        }
    }

    fn certificate_request(
        &mut self,
        names: &[Domain],
        key_type: KeyType,
    ) -> Result<CertificateRequest, KeyError> {
        let algorithm = match key_type {
            KeyType::P256 => &PKCS_ECDSA_P256_SHA256,
            KeyType::P384 => &PKCS_ECDSA_P384_SHA384,
        };
        let key = new_key(algorithm)?;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).map_err(|_| KeyError::Failed)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&*key).map_err(|_| KeyError::Failed)?;
        Ok(CertificateRequest { key: to_pem(&key, None), csr: request.der().to_vec() })
    }

    fn fallback(&mut self, now: UnixTime) -> Result<Secret, KeyError> {
        let key = new_key(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "*");
        let date = |at: UnixTime| {
            time::OffsetDateTime::from_unix_timestamp(at.as_seconds()).map_err(|_| KeyError::Failed)
        };
        params.not_before = date(now)?;
        params.not_after = date(now.plus(FALLBACK_LIFETIME))?;
        let certificate = params.self_signed(&*key).map_err(|_| KeyError::Failed)?;
        Ok(to_pem(&key, Some(certificate.der())))
    }
}

#[cfg(test)]
mod tests;
