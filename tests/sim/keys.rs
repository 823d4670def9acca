//! Keys and chance of the simulated daemon: real P-256, but every key and signature follows from the
//! seed, so that two runs of one seed send the same bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marathon_acme::domain::Domain;
use marathon_acme::keys::{AccountKey, CertificateRequest, KeyError, KeyType, Keys, PublicKey};
use marathon_acme::secret::Secret;
use marathon_acme::time::UnixTime;
use rcgen::{CertificateParams, DnType};
use stand_ins::random::Random;
use stand_ins::seeded::Signer;

/// The simulated [`Keys`].
pub(crate) struct SimKeys {
    chance: Random,
    /// Account keys by their text.
    account_keys: Vec<(String, Signer)>,
}

impl SimKeys {
    /// Keys that follow from `chance`.
    pub(crate) fn new(chance: Random) -> SimKeys {
        SimKeys { chance, account_keys: Vec::new() }
    }
}

impl Keys for SimKeys {
    fn random(&mut self) -> u64 {
        self.chance.number()
    }

    fn read_account_key(&mut self, pem: &Secret) -> Result<AccountKey, KeyError> {
        let known = self.account_keys.iter().position(|(text, _)| text == pem.expose());
        let index = known.ok_or(KeyError::Unsupported)?;
        let (x, y) = self.account_keys[index].1.coordinates();
        let id = u32::try_from(index).map_err(|_| KeyError::Failed)?;
        Ok(AccountKey { id, public: PublicKey::P256 { x, y } })
    }

    fn new_account_key(&mut self) -> Result<Secret, KeyError> {
        let key = Signer::draw(&mut self.chance);
        let pem = key.pkcs8_pem();
        self.account_keys.push((pem.clone(), key));
        Ok(Secret::new(pem))
    }

    fn sign(&mut self, key: &AccountKey, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let (_, key) = self.account_keys.get(key.id as usize).ok_or(KeyError::Failed)?;
        Ok(key.sign_fixed(message))
    }

    fn certificate_request(
        &mut self,
        names: &[Domain],
        _key_type: KeyType,
    ) -> Result<CertificateRequest, KeyError> {
        let key = Signer::draw(&mut self.chance);
        let names: Vec<&str> = names.iter().map(Domain::as_str).collect();
        let csr = key.certificate_request(&names).map_err(|_| KeyError::Failed)?;
        Ok(CertificateRequest { key: Secret::new(key.pkcs8_pem()), csr })
    }

    fn fallback(&mut self, _now: UnixTime) -> Result<Secret, KeyError> {
        let key = Signer::draw(&mut self.chance);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "*");
        let certificate = params.self_signed(&key).map_err(|_| KeyError::Failed)?;
        let (key, der) = (key.pkcs8_pem(), STANDARD.encode(certificate.der()));
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        Ok(Secret::new(format!("{key}{begin}\n{der}\n{end}\n")))
    }
}
