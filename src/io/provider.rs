//! The cryptography of TLS: that of ring, without ChaCha20. Every TLS 1.3 peer has AES-GCM (RFC 8446 section
//! 9.1), every TLS 1.2 peer that we meet has it too, and the four implementations of ChaCha20-Poly1305 are
//! 50 KB of the program. Opens no connection and keeps nothing.

use std::sync::Arc;

use ring::rand::SecureRandom as _;
use rustls::Error;
use rustls::crypto::ring::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384,
};
use rustls::crypto::ring::kx_group::{SECP256R1, SECP384R1, X25519};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;

use crate::pki::signatures::SIGNATURES;

/// What rustls calls a provider.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_256_GCM_SHA384,
            TLS13_AES_128_GCM_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![X25519, SECP256R1, SECP384R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Ring,
        key_provider: &Ring,
    }
}

/// The system's randomness, and keys of every kind that ring knows.
#[derive(Debug)]
struct Ring;

impl SecureRandom for Ring {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        ring::rand::SystemRandom::new().fill(bytes).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for Ring {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        any_supported_type(&key)
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::default_provider;

    use super::*;

    #[test]
    fn only_chacha20_is_left_out_of_what_ring_offers() {
        let (ours, all) = (provider(), default_provider());
        let left_out = all.cipher_suites.iter().filter(|it| !ours.cipher_suites.contains(it));
        let left_out: Vec<String> = left_out.map(|it| format!("{:?}", it.suite())).collect();
        assert_eq!(left_out.len(), 3);
        assert!(left_out.iter().all(|name| name.contains("CHACHA20_POLY1305")), "{left_out:?}");
        let groups = |it: &CryptoProvider| -> Vec<_> {
            it.kx_groups.iter().map(|group| group.name()).collect()
        };
        assert_eq!(groups(&ours), groups(&all));
        let signatures = all.signature_verification_algorithms;
        assert_eq!(SIGNATURES.all.len(), signatures.all.len());
        assert_eq!(SIGNATURES.supported_schemes(), signatures.supported_schemes());
    }
}
