//! Storages with many certificates, as the daemon itself leaves them: `certs/NAME.pem` with key, leaf and
//! chain. One key serves all, for what is measured is the reading. Never valid anywhere.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use stand_ins::date::calendar;
use stand_ins::driver::time_now;

use crate::process::Outcome;

/// A day in milliseconds.
pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The name of the certificate of a number.
pub(crate) fn name(number: usize) -> String {
    format!("app-{number}.example.com")
}

/// A storage with so many certificates, in a folder of its own in `folder`; made once.
pub(crate) fn storage(folder: &Path, count: usize) -> Outcome<PathBuf> {
    let storage = folder.join(format!("storage-{count}"));
    let certs = storage.join("certs");
    if certs.exists() {
        return Ok(storage);
    }
    fs::create_dir_all(&certs)?;
    let key = KeyPair::generate()?;
    let (issuer, issuer_pem) = issuer()?;
    let now_ms = time_now().unix_ms;
    for number in 0..count {
        let mut params = CertificateParams::new([name(number)])?;
        params.use_authority_key_identifier_extension = true;
        // Neither due for renewal nor new.
        params.not_before = calendar(now_ms - DAY_MS);
        params.not_after = calendar(now_ms + 89 * DAY_MS);
        let leaf = params.signed_by(&key, &issuer)?;
        let pem = key.serialize_pem() + &leaf.pem() + &issuer_pem;
        fs::write(certs.join(format!("{}.pem", name(number))), pem)?;
    }
    Ok(storage)
}

/// An intermediate CA, and its certificate as PEM.
fn issuer() -> Outcome<(Issuer<'static, KeyPair>, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Bench Intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), certificate))
}
