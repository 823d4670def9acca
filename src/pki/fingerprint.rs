//! What tells one certificate from every other. Never says anything of what is in it.

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// The SHA-256 of a certificate's DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

impl Fingerprint {
    /// That of this certificate.
    pub fn of(der: &[u8]) -> Fingerprint {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        // Both are of one length.
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Fingerprint(bytes)
    }
}
