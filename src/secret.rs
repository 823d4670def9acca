//! Secrets: text and bytes that are never printed and are wiped from memory when dropped. Private keys,
//! passwords, files that hold one, and whatever is about to be sent travel in them.
//!
//! # What is wiped and what cannot be
//!
//! Wiped as soon as it has served: the text and the DER of every private key, and whatever we make on
//! the way from one to the other (`io/storage.rs`, `pki/pem.rs`, `pki/bundle.rs`, `io/keys.rs`); the MAC
//! key of an external account (`acme/account.rs`); passwords, `Authorization` fields and requests as
//! they are sent (`url.rs`, `http/request.rs`, `io/conn.rs`). Buffers are made as large as they become,
//! since one that grows leaves what it held behind.
//!
//! Not wiped, because the crates offer no way: the numbers inside of a key that ring signs with (the
//! account's for as long as the process lives, a certificate's while its request is made or its file is
//! checked), ring's HMAC key and its block of a new key; what rustls holds to encrypt, and its session
//! keys. Nor are the command line and the environment, which the system has put into memory.
//!
//! So the memory as a whole is kept from others: `io/hardening.rs`.

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

/// Text with a secret in it. `Debug` shows its length only; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }

    /// Takes a file's bytes over. What is not UTF-8 in them is replaced: whoever reads the text sees the
    /// damage.
    pub fn from_bytes(bytes: Vec<u8>) -> Secret {
        let text = String::from_utf8(bytes).unwrap_or_else(|error| {
            let damaged = Zeroizing::new(error.into_bytes());
            String::from_utf8_lossy(&damaged).into_owned()
        });
        Secret::new(text)
    }

    /// The text itself. The name is long so that each use is seen.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// Bytes on their way to a peer, which may bear credentials. `Debug` shows their length only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> SecretBytes {
        SecretBytes(Zeroizing::new(bytes))
    }
}

impl SecretBytes {
    /// Hands the bytes on to whoever keeps them until they have left; they are wiped there.
    pub fn into_zeroizing(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("key".into())), "Secret(3 bytes)");
        assert_eq!(format!("{:?}", SecretBytes::from(vec![75, 69])), "SecretBytes(2 bytes)");
    }

    #[test]
    fn damage_is_seen() {
        assert_eq!(Secret::from_bytes(b"key".to_vec()), Secret::new("key".into()));
        assert_eq!(Secret::from_bytes(b"k\xe9y".to_vec()), Secret::new("k\u{fffd}y".into()));
    }
}
