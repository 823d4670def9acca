//! `client.key`: whatever the file holds, a key that is taken is one that a CA takes, and can sign.

use marathon_acme::io::keys::RingKeys;
use marathon_acme::keys::{AccountKey, KeyError, Keys as _, PublicKey};
use marathon_acme::secret::Secret;

/// The file.
pub fn run(bytes: &[u8]) {
    let pem = Secret::new(String::from_utf8_lossy(bytes).into_owned());
    let mut keys = RingKeys::new();
    let key = match keys.read_account_key(&pem) {
        Ok(key) => key,
        Err(error) => {
            assert_ne!(error, KeyError::Failed);
            return assert!(error.to_string().len() < 200);
        }
    };
    let unknown = AccountKey { id: key.id + 1, ..key.clone() };
    assert_eq!(keys.sign(&unknown, b"x"), Err(KeyError::Failed));
    match &key.public {
        PublicKey::P256 { .. } => assert_eq!(keys.sign(&key, b"x").map(|it| it.len()), Ok(64)),
        PublicKey::Rsa { n, e } => {
            assert!((256..=512).contains(&n.len()) && n[0] != 0 && !e.is_empty() && e[0] != 0);
        }
    }
}
