//! Keys from a seed: P-256 with deterministic signatures (RFC 6979), so that a whole run,
//! certificates included, is the same to the byte whenever its seed is. For tests only: whoever
//! knows the seed knows the key.

use p256::SecretKey;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePrivateKey, LineEnding};
use rcgen::{CertificateParams, PublicKeyData, SignatureAlgorithm};

use crate::random::Random;

/// A P-256 key pair that a seed decides.
#[derive(Clone)]
pub struct Signer {
    secret: SecretKey,
    signing: SigningKey,
    /// `04 x y` (SEC 1 section 2.3.3).
    point: Vec<u8>,
}

impl Signer {
    /// The key of a seed.
    pub fn from_seed(seed: u64) -> Signer {
        Signer::draw(&mut Random::new(seed))
    }

    /// The next key of a random sequence.
    pub fn draw(random: &mut Random) -> Signer {
        loop {
            // One number in 2^32 is not a valid scalar; then the next one is.
            let Ok(secret) = SecretKey::from_slice(&random.bytes::<32>()) else { continue };
            let signing = SigningKey::from(&secret);
            let point = signing.verifying_key().to_sec1_point(false).as_bytes().to_vec();
            return Signer { secret, signing, point };
        }
    }

    /// Signs `message` with SHA-256, as JWS wants it: 64 bytes r‖s (RFC 7518 section 3.4).
    pub fn sign_fixed(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.signing.sign(message);
        signature.to_bytes().to_vec()
    }

    /// The public key's coordinates, big-endian.
    pub fn coordinates(&self) -> ([u8; 32], [u8; 32]) {
        let mut x = [0; 32];
        let mut y = [0; 32];
        x.copy_from_slice(&self.point[1..33]);
        y.copy_from_slice(&self.point[33..65]);
        (x, y)
    }

    /// The private key as PKCS#8 DER.
    pub fn pkcs8_der(&self) -> Vec<u8> {
        let der = self.secret.to_pkcs8_der().expect("a valid P-256 key can be encoded");
        der.as_bytes().to_vec()
    }

    /// The private key as PKCS#8 PEM.
    pub fn pkcs8_pem(&self) -> String {
        let pem = self.secret.to_pkcs8_pem(LineEnding::LF);
        pem.expect("a valid P-256 key can be encoded").to_string()
    }

    /// A certificate request (PKCS#10, DER) for exactly `names`, with an empty subject.
    ///
    /// # Errors
    /// A name is not ASCII.
    pub fn certificate_request(&self, names: &[&str]) -> Result<Vec<u8>, rcgen::Error> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(self)?.der().to_vec())
    }
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Signature = self.signing.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{self, EcdsaKeyPair, KeyPair, UnparsedPublicKey};

    #[test]
    fn ring_reads_the_key_and_verifies_both_signature_forms() {
        let signer = Signer::from_seed(1);
        let pair = EcdsaKeyPair::from_pkcs8(
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &signer.pkcs8_der(),
            &SystemRandom::new(),
        )
        .unwrap();
        assert_eq!(pair.public_key().as_ref(), signer.der_bytes());

        let fixed = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, signer.der_bytes());
        assert_eq!(fixed.verify(b"text", &signer.sign_fixed(b"text")), Ok(()));
        assert!(fixed.verify(b"test", &signer.sign_fixed(b"text")).is_err());
        let asn1 = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, signer.der_bytes());
        let der = rcgen::SigningKey::sign(&signer, b"text").unwrap();
        assert_eq!(asn1.verify(b"text", &der), Ok(()));
    }

    #[test]
    fn a_seed_fixes_key_and_signatures() {
        let (one, same) = (Signer::from_seed(3), Signer::from_seed(3));
        assert_eq!(one.pkcs8_pem(), same.pkcs8_pem());
        assert_eq!(one.sign_fixed(b"text"), same.sign_fixed(b"text"));
        let names = ["www.example.com"];
        assert_eq!(one.certificate_request(&names), same.certificate_request(&names));
        assert_ne!(one.coordinates(), Signer::from_seed(4).coordinates());
    }
}
