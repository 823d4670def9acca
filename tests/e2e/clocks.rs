//! A machine whose clock is wrong, as seen from its peers: the CA's `Date` shows another time, or their
//! certificates are not valid yet. Nothing is ordered, archived or loses its key by such a clock, and
//! everything continues without an operator once the clocks agree.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use marathon_acme::log::message::{CLOCKS_DIFFER, REGISTRATION_FAILED};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use stand_ins::ca::Settings;
use stand_ins::driver::{Options, time_now};
use stand_ins::peer::Time;
use stand_ins::pki::{Identity, Pki, pem};

use crate::Test;
use crate::process::{Outcome, expect, get, wait_until};
use crate::site::{Site, StandInCa, text};
use crate::stand::{Stand, stop};

pub(crate) const TESTS: &[Test] = &[
    ("by_a_clock_that_is_ahead_nothing_is_ordered_or_archived", &[], ahead),
    ("a_server_whose_certificate_is_not_valid_yet_is_waited_for_quietly", &[], not_valid_yet),
];

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const LIFETIME_DAYS: u32 = 120;

/// A certificate with its key as a file of ours, issued so many days ago.
fn file_of(pki: &mut Pki, name: &str, days: i64) -> Outcome<String> {
    let now = time_now();
    let then = Time { unix_ms: now.unix_ms - days * DAY_MS, ..now };
    let key = rcgen::KeyPair::generate().map_err(text)?;
    let names = rcgen::CertificateParams::new([name.to_string()]).map_err(text)?.subject_alt_names;
    let leaf = pki.issue(&key, &names, then, LIFETIME_DAYS * 24 * 60 * 60).map_err(text)?;
    Ok(pem("PRIVATE KEY", &key.serialize_der()) + &leaf.chain_pem)
}

/// Ours is 100 days ahead of the CA's: what has expired by ours is valid for 90 days more.
fn ahead() -> Outcome {
    let stand = Stand::new(Settings { date_ahead_ms: -100 * DAY_MS, ..Settings::default() })?;
    let storage = &stand.site.storage;
    let (certs, archive) = (storage.join("certs"), storage.join("archive"));
    let mut pki = Pki::new(3, "Earlier", time_now());
    for folder in [&certs, &archive] {
        fs::create_dir_all(folder).map_err(text)?;
    }
    let mut plant = |path: &Path, name: &str| -> Outcome<String> {
        let file = file_of(&mut pki, name, 130)?;
        fs::write(path, &file).map_err(text)?;
        Ok(file)
    };
    let (labeled, unlabeled) = (certs.join("a.example.com.pem"), certs.join("b.example.com.pem"));
    let archived = archive.join("c.example.com.1.pem");
    let files = [
        (&labeled, plant(&labeled, "a.example.com")?),
        (&unlabeled, plant(&unlabeled, "b.example.com")?),
        (&archived, plant(&archived, "c.example.com")?),
    ];
    stand.site.deploy("/a", "a.example.com");
    let mut daemon = stand.start("daemon", &["--prune-after=1"])?;
    stand.let_time_pass(&daemon, "first")?;
    stand.let_time_pass(&daemon, "second")?;
    for (path, file) in &files {
        let now = fs::read_to_string(path).map_err(text)?;
        expect(now == *file, || format!("{} has changed", path.display()))?;
    }
    let orders = stand.count("POST", "/new-order", 201);
    expect(orders == 2, || format!("{orders} orders\n{}", daemon.output()))?;
    expect(daemon.output().contains(CLOCKS_DIFFER), || daemon.output())?;
    let health = get(stand.site.port, "/health")?;
    expect(health.contains("clock: this machine's clock showed "), || health)?;

    stand.with_ca(|ca| ca.settings.date_ahead_ms = 0);
    stand.let_time_pass(&daemon, "third")?;
    stand.wait_for_issued(&daemon, 4)?;
    let health = get(stand.site.port, "/health")?;
    expect(!health.contains("clock: "), || health)?;
    wait_until("the renewal", || (fs::read_to_string(&labeled).ok()? != files[0].1).then_some(()))?;
    wait_until("the archiving", || (!unlabeled.exists()).then_some(()))?;
    wait_until("the removal of the key", || {
        let now = fs::read_to_string(&archived).ok()?;
        (!now.contains("PRIVATE KEY")).then_some(())
    })?;
    stop(&mut daemon)
}

/// What a TLS server shows: at first a certificate that becomes valid tomorrow.
#[derive(Debug)]
struct Shown {
    tomorrow: Arc<CertifiedKey>,
    today: Arc<CertifiedKey>,
    handshakes: AtomicUsize,
    /// So many handshakes show the one of tomorrow.
    early: usize,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_early = self.handshakes.fetch_add(1, Ordering::SeqCst) < self.early;
        Some(Arc::clone(if is_early { &self.tomorrow } else { &self.today }))
    }
}

fn certified(identity: &Identity) -> Outcome<Arc<CertifiedKey>> {
    let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivatePkcs8KeyDer::from(identity.key.clone()).into();
    let key = default_provider().key_provider.load_private_key(key).map_err(text)?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// As at a start in 1970, after which the clock is set: several attempts, one line of the log.
fn not_valid_yet() -> Outcome {
    let site = Site::new()?;
    let now = time_now();
    let later = Time { unix_ms: now.unix_ms + 2 * DAY_MS, ..now };
    let mut pki = Pki::new(11, "ca", now);
    let mut identity = |at| certified(&pki.identity(&["127.0.0.1"], at).map_err(text)?);
    let shown = Arc::new(Shown {
        tomorrow: identity(later)?,
        today: identity(now)?,
        handshakes: AtomicUsize::new(0),
        early: 3,
    });
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::<Shown>::clone(&shown));
    let root = site.folder().join("root.pem");
    fs::write(&root, pki.root_pem()).map_err(text)?;
    let tls = Options { tls: Some(Arc::new(config)), route: None };
    let ca = StandInCa::start_with(site.port, (tls, root), Settings::default())?;
    site.deploy("/a", "a.example.com");
    let mut daemon = site.daemon("daemon", &site.arguments(&ca.directory, &ca.root), &[])?;
    daemon.wait_for(REGISTRATION_FAILED)?;
    let said = daemon.line(REGISTRATION_FAILED);
    expect(said.contains("not valid yet"), || said.clone())?;
    let hint = format!(" hint={:?}", marathon_acme::hint::Hint::Clock.text());
    expect(said.contains(&hint), || said.clone())?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let lines = daemon.output().matches(&format!("ERROR acme     {REGISTRATION_FAILED}")).count();
    expect(lines == 1, || format!("said {lines} times\n{}", daemon.output()))?;
    let health = || get(site.port, "/health").ok().filter(|it| it.contains("\"ok\""));
    wait_until("the health is ok", health)?;
    stop(&mut daemon)
}
