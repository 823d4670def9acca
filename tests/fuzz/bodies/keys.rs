//! Keys that cost nothing: chance that repeats, one real key that never signs, signatures that nobody
//! verifies.

use marathon_acme::domain::Domain;
use marathon_acme::keys::{AccountKey, CertificateRequest, KeyError, KeyType, Keys, PublicKey};
use marathon_acme::secret::Secret;
use marathon_acme::time::UnixTime;

use super::pieces::mix;

/// The key of every account and certificate here.
pub const KEY_PEM: &str = include_str!("../fixtures/key.pem");

/// The cheap [`Keys`].
#[derive(Debug, Default)]
pub struct CheapKeys {
    chance: u64,
}

impl Keys for CheapKeys {
    fn random(&mut self) -> u64 {
        self.chance = mix(self.chance);
        self.chance
    }

    fn read_account_key(&mut self, pem: &Secret) -> Result<AccountKey, KeyError> {
        if !pem.expose().starts_with("-----BEGIN PRIVATE KEY-----") {
            return Err(KeyError::Unsupported);
        }
        Ok(AccountKey { id: 0, public: PublicKey::P256 { x: [1; 32], y: [2; 32] } })
    }

    fn new_account_key(&mut self) -> Result<Secret, KeyError> {
        Ok(Secret::new(KEY_PEM.into()))
    }

    fn sign(&mut self, _key: &AccountKey, _message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(vec![7; 64])
    }

    fn certificate_request(
        &mut self,
        names: &[Domain],
        _key_type: KeyType,
    ) -> Result<CertificateRequest, KeyError> {
        Ok(CertificateRequest { key: Secret::new(KEY_PEM.into()), csr: vec![1; names.len()] })
    }

    fn fallback(&mut self, _now: UnixTime) -> Result<Secret, KeyError> {
        Ok(Secret::new(KEY_PEM.into()))
    }
}
