//! Files in `archive/`, as earlier runs have left them: of one the certificate has expired, of one it has
//! not. The key of the first must go, that of the second must stay, and neither file may be lost.

use marathon_acme::pki::Bundle;
use rcgen::{CertificateParams, date_time_ymd};
use stand_ins::pki::pem;
use stand_ins::seeded::Signer;

use crate::disk::Disk;
use crate::world::World;

/// Simulated time begins in November 2026; a machine whose clock is wrong may show 2040.
const EXPIRED: (&str, i32) = ("expired.example.pem", 2025);
const VALID: (&str, i32) = ("valid.example.pem", 2030);

/// Puts both there, before the first process starts.
pub(crate) fn plant(disk: &Disk) {
    for (name, year) in [EXPIRED, VALID] {
        let key = Signer::from_seed(u64::from(year.unsigned_abs()));
        let mut params = CertificateParams::new(["old.example".to_string()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).expect("a good key");
        let text = format!("{}{}", key.pkcs8_pem(), pem("CERTIFICATE", certificate.der()));
        disk.plant_archived(name, &text);
    }
}

/// The files in `archive/` that hold the key of a certificate that has expired.
pub(crate) fn overdue(world: &World) -> Vec<String> {
    let names = world.disk.names("archive").into_iter();
    let overdue = names.filter(|name| {
        let text = world.disk.text("archive", name).unwrap_or_default();
        // Without its key it is no bundle.
        Bundle::parse(&text).is_ok_and(|bundle| bundle.leaf().not_after < world.wall())
    });
    overdue.collect()
}

/// What must hold after a pass of the daemon.
pub(crate) fn check(world: &World) -> Result<(), String> {
    let overdue = overdue(world);
    if !overdue.is_empty() {
        return Err(format!("keys of expired certificates stay in archive/: {overdue:?}"));
    }
    let text = world.disk.text("archive", VALID.0).unwrap_or_default();
    match text.contains("PRIVATE KEY") && text.contains("CERTIFICATE") {
        true => Ok(()),
        false => Err("a valid certificate in archive/ has lost its key".into()),
    }
}
