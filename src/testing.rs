//! What unit tests share: a clock in hand, chance that repeats, and a log to look into.

use std::time::Duration;

use crate::config::{Config, SkipRouteCheck};
use crate::context::Context;
use crate::domain::Domain;
use crate::keys::{AccountKey, CertificateRequest, KeyError, KeyType, Keys, PublicKey};
use crate::log::Record;
use crate::secret::Secret;
use crate::time::{Instant, Now, UnixTime};
use crate::url::Url;

/// Bounds a loop of a test: code under test that never comes to rest fails it instead of hanging it.
#[derive(Default)]
pub(crate) struct Steps(usize);

/// Far more than any test takes.
const STEPS_MAX: usize = 1_000_000;

impl Steps {
    /// Counts one more.
    pub(crate) fn count(&mut self) {
        self.0 += 1;
        assert!(self.0 <= STEPS_MAX, "it never comes to rest");
    }
}

/// A key of a kind that HAProxy knows and we do not, secp256k1 …
pub(crate) const ODD_KEY: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHQCAQEEIGfEzxWVuraM2t1uZZWvp2rFE5kzSYJOitK6hsKznDgQoAcGBSuBBAAK
oUQDQgAE9Yf8GW/7t8Q99HHUQYWssaN8q64O+mO3795MLv9TQA3DyWfsVnUr2Wx7
xhFNDPeLVRz8tffjNmEf99mIJe4Jyg==
-----END EC PRIVATE KEY-----
";
/// … and its certificate, for `a.org`, from 2026-11-20 to 2027-02-18.
pub(crate) const ODD_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBPTCB5aADAgECAgEKMAoGCCqGSM49BAMCMBAxDjAMBgNVBAMMBWEub3JnMB4X
DTI2MTEyMDAwMDAwMFoXDTI3MDIxODAwMDAwMFowEDEOMAwGA1UEAwwFYS5vcmcw
VjAQBgcqhkjOPQIBBgUrgQQACgNCAAT1h/wZb/u3xD30cdRBhayxo3yrrg76Y7fv
3kwu/1NADcPJZ+xWdSvZbHvGEU0M94tVHPy19+M2YR/32Ygl7gnKozMwMTAQBgNV
HREECTAHggVhLm9yZzAdBgNVHQ4EFgQUEdp2Jspk2li35YEUWVVrEnWGPfYwCgYI
KoZIzj0EAwIDRwAwRAIgLdyBO9aDsXrPvfsbMSvvrDWqBFI1Xd+pTjzG4HQ+spQC
IB0kJSfWLtBruhdVk3HhYdbfslkMVv8gi7rGfuLC8OOr
-----END CERTIFICATE-----
";
/// Another key of that kind.
pub(crate) const OTHER_ODD_KEY: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHQCAQEEIDodPUPCtc93npldxu3j3pRsHZMqa3F00M99LQ01Gl2toAcGBSuBBAAK
oUQDQgAEh7dEzWHK5IjYezDt/7OjC/62GE2qTe8u8s8U1ga+etOF6aNSudxN38DC
O+AhLTkhZg4qQYwFcGdwCILv05gmNg==
-----END EC PRIVATE KEY-----
";

/// The choices of an operator who made none, with a storage that is not there.
pub(crate) fn config() -> Config {
    Config {
        acme: Url::parse("https://ca.example/dir").expect("a test's URL is one"),
        skip_route_check: SkipRouteCheck::All,
        ..Config::new("/nowhere".into())
    }
}

/// Time, chance and log of a test. It starts at 2026-11-23T00:00:00Z.
pub(crate) struct Bench {
    /// The time of the next input.
    pub now: Now,
    /// What was logged.
    pub log: Vec<Record>,
    keys: FixedKeys,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let wall = UnixTime::from_seconds(1_795_392_000);
        let now = Now { mono: Instant::START, wall };
        Bench { now, log: Vec::new(), keys: FixedKeys(0) }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, duration: Duration) {
        self.now = Now { mono: self.now.mono + duration, wall: self.now.wall.plus(duration) };
    }

    /// The next turn.
    pub(crate) fn cx(&mut self) -> Context<'_> {
        Context { now: self.now, keys: &mut self.keys, log: &mut self.log }
    }

    /// How many lines with that message were logged.
    pub(crate) fn logged(&self, message: &str) -> usize {
        self.log.iter().filter(|record| record.message == message).count()
    }
}

/// Chance that repeats; keys of fixed text that nothing verifies.
struct FixedKeys(u64);

impl Keys for FixedKeys {
    fn random(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29)
    }

    fn read_account_key(&mut self, pem: &Secret) -> Result<AccountKey, KeyError> {
        if pem.expose().contains("PRIVATE KEY") {
            Ok(AccountKey { id: 0, public: PublicKey::P256 { x: [1; 32], y: [2; 32] } })
        } else {
            Err(KeyError::Unsupported)
        }
    }

    fn new_account_key(&mut self) -> Result<Secret, KeyError> {
        Ok(Secret::new("PRIVATE KEY".into()))
    }

    fn sign(&mut self, _key: &AccountKey, _message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(vec![7; 64])
    }

    fn certificate_request(
        &mut self,
        names: &[Domain],
        _key_type: KeyType,
    ) -> Result<CertificateRequest, KeyError> {
        Ok(CertificateRequest { key: Secret::new("PRIVATE KEY".into()), csr: vec![1; names.len()] })
    }

    fn fallback(&mut self, _now: UnixTime) -> Result<Secret, KeyError> {
        Ok(Secret::new("PRIVATE KEY".into()))
    }
}
