//! The one door to chance and to private keys, so that the simulator can seed both.
//! Here is the trait only; `io/keys.rs` opens the door to ring and rcgen.

use std::fmt;

use crate::domain::Domain;
use crate::secret::Secret;
use crate::time::UnixTime;

/// Randomness, the account key and certificate keys. Private keys stay behind it, except as
/// [`Secret`] text on its way to or from the storage.
pub trait Keys {
    /// A uniformly random number.
    fn random(&mut self) -> u64;

    /// Reads `client.key`: EC P-256 in PKCS#8 or SEC1, RSA (2048, 3072 or 4096 bits) in PKCS#1 or PKCS#8.
    ///
    /// # Errors
    /// The text is no such key.
    fn read_account_key(&mut self, pem: &Secret) -> Result<AccountKey, KeyError>;

    /// A new EC P-256 account key, as PKCS#8 PEM.
    ///
    /// # Errors
    /// The system gave no randomness.
    fn new_account_key(&mut self) -> Result<Secret, KeyError>;

    /// Signs `message` as JWS wants it (RFC 7518 section 3.4: 64 bytes r‖s; section 3.3: PKCS#1 v1.5).
    ///
    /// # Errors
    /// The key is not known here, or signing failed.
    fn sign(&mut self, key: &AccountKey, message: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// A new certificate key of that type and a request for exactly `names` as subject alternative
    /// names with an empty subject (RFC 8555 section 7.4).
    ///
    /// # Errors
    /// The system gave no randomness.
    fn certificate_request(
        &mut self,
        names: &[Domain],
        key_type: KeyType,
    ) -> Result<CertificateRequest, KeyError>;

    /// The fallback certificate for HAProxy: self-signed, subject `*`, ten years from `now`, its key
    /// first, as PEM.
    ///
    /// # Errors
    /// The system gave no randomness.
    fn fallback(&mut self, now: UnixTime) -> Result<Secret, KeyError>;
}

/// The type of a certificate's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// EC P-256.
    #[default]
    P256,
    /// EC P-384.
    P384,
}

/// A handle on an account key, with its public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountKey {
    /// Which of the keys behind [`Keys`].
    pub id: u32,
    /// What a CA may know of it.
    pub public: PublicKey,
}

/// The public half of an account key (RFC 7518 section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// EC P-256: the coordinates, leading zeros included.
    P256 {
        /// Big-endian.
        x: [u8; 32],
        /// Big-endian.
        y: [u8; 32],
    },
    /// RSA: big-endian, without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The public exponent.
        e: Vec<u8>,
    },
}

/// A key that never served before, and what a CA certifies it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// PKCS#8 PEM.
    pub key: Secret,
    /// PKCS#10, DER.
    pub csr: Vec<u8>,
}

/// Why a key could not be read, made or used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// No PEM block with a private key, or one of a kind that is not listed.
    Unsupported,
    /// The key is malformed or out of bounds; the library's words.
    Rejected(String),
    /// An RSA key of so many bits, which cannot sign.
    RsaSize(usize),
    /// The operating system gave no randomness, or signing failed.
    Failed,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Unsupported => {
                f.write_str("no RSA or EC P-256 private key in PEM (PKCS#1, SEC1 or PKCS#8)")
            }
            KeyError::Rejected(detail) => write!(f, "the key is not usable: {detail}"),
            KeyError::RsaSize(bits) => write!(
                f,
                "the RSA key has {bits} bits; keys of 2048, 3072 and 4096 bits are supported"
            ),
            KeyError::Failed => f.write_str("the system's cryptography failed"),
        }
    }
}

impl std::error::Error for KeyError {}

/// Spreads `pause` over three quarters to five quarters of itself, so that many peers that failed
/// at one moment do not come back at one moment.
pub fn jittered(keys: &mut dyn Keys, pause: std::time::Duration) -> std::time::Duration {
    let percent = 75 + keys.random() % 51;
    let nanos = pause.as_nanos().saturating_mul(u128::from(percent)) / 100;
    std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
