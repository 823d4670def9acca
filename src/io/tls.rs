//! TLS clients: whose issuers count for which peer. Reads the bundles once, at the start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::config::Config;
use crate::machine::{CloseReason, Tls, Trust};
use crate::pki::read_certificates;
use crate::url::Host;

use super::clock::WallClock;
use super::pins::Verifier;
use super::provider::provider;

/// One configuration for each [`Trust`].
#[derive(Debug)]
pub struct TlsClients {
    acme: Arc<ClientConfig>,
    marathon: Arc<ClientConfig>,
    web_pki: Arc<ClientConfig>,
    unjudged: Arc<ClientConfig>,
}

/// A bundle that the operator named cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleUnusable {
    /// The option or variable that named it.
    pub option: &'static str,
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl TlsClients {
    /// Reads the bundles of the configuration, as far as they are used.
    ///
    /// # Errors
    /// One cannot be read, or holds no certificate.
    pub fn new(config: &Config) -> Result<TlsClients, BundleUnusable> {
        let web_pki = client(built_in_roots(), Vec::new());
        let read = |option, path: &Path, read: fn(&[u8]) -> Result<Arc<ClientConfig>, String>| {
            let pem = std::fs::read(path).map_err(|error| error.to_string());
            pem.and_then(|pem| read(&pem)).map_err(|reason| {
                let path = path.display().to_string();
                BundleUnusable { option, path, reason }
            })
        };
        let own = |option, path: &Option<PathBuf>| {
            path.as_deref().map(|path| read(option, path, read_bundle)).transpose()
        };
        let acme = own("--acme-ca", &config.acme_ca)?;
        let marathon = own("--marathon-ca", &config.marathon_ca)?;
        let common = match &config.ssl_cert_file {
            Some(path) if acme.is_none() || marathon.is_none() => {
                read("SSL_CERT_FILE", path, read_system_bundle)?
            }
            _ => Arc::clone(&web_pki),
        };
        let acme = acme.unwrap_or_else(|| Arc::clone(&common));
        let marathon = marathon.unwrap_or(common);
        Ok(TlsClients { acme, marathon, web_pki, unjudged: verified_by(Verifier::Any) })
    }

    /// A new TLS connection, on which nothing was said yet.
    ///
    /// # Errors
    /// The name can be in no certificate.
    pub(super) fn connection(&self, tls: &Tls) -> Result<ClientConnection, CloseReason> {
        let config = match tls.trust {
            Trust::Acme => &self.acme,
            Trust::Marathon => &self.marathon,
            Trust::WebPki => &self.web_pki,
            Trust::Unjudged => &self.unjudged,
        };
        let name = match &tls.server {
            Host::Ip(address) => Ok(ServerName::from(*address)),
            Host::Name(name) => ServerName::try_from(name.clone()),
        };
        let name =
            name.map_err(|error: InvalidDnsNameError| CloseReason::Tls(error.to_string()))?;
        ClientConnection::new(Arc::clone(config), name)
            .map_err(|error| CloseReason::Tls(error.to_string()))
    }
}

/// A client with this certificate verifier. TLS 1.2 and 1.3: rustls has nothing below.
fn verified_by(verifier: Verifier) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_details(Arc::new(provider()), Arc::new(WallClock))
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Arc::new(config)
}

/// A client that verifies servers by these issuers, and accepts these certificates as servers' own.
fn client(roots: RootCertStore, pins: Vec<CertificateDer<'static>>) -> Arc<ClientConfig> {
    verified_by(Verifier::Trusted { roots, pins })
}

fn built_in_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// A bundle that was made for us: every certificate in it counts, as an issuer and as a server's own.
fn read_bundle(pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let pins = certificates(pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in &pins {
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
    }
    Ok(client(roots, pins))
}

/// A bundle that was made for every program of a machine: some hold certificates so old or odd that
/// webpki cannot read them, and those are nobody we would trust.
fn read_system_bundle(pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(pem)?);
    if added == 0 {
        return Err("it holds no certificate that can be read".into());
    }
    Ok(client(roots, Vec::new()))
}

/// At least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = read_certificates(&String::from_utf8_lossy(pem));
    let certificates = certificates.map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("it holds no certificate in PEM".into());
    }
    Ok(certificates)
}

impl fmt::Display for BundleUnusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BundleUnusable { option, path, reason } = self;
        write!(f, "{option} {path}: {reason}; name a PEM file with the CA's certificates")
    }
}

impl std::error::Error for BundleUnusable {}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rcgen::{CertificateParams, CustomExtension, KeyPair};
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ServerConfig, ServerConnection};
    use stand_ins::driver::time_now;
    use stand_ins::pki::{Pki, pem};
    use tempfile::NamedTempFile;

    use super::*;

    fn file(content: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn root() -> String {
        Pki::new(1, "Root", time_now()).root_pem()
    }

    /// The clients where these are `SSL_CERT_FILE`, `--acme-ca` and `--marathon-ca`.
    fn clients(paths: [Option<&Path>; 3]) -> Result<TlsClients, BundleUnusable> {
        let [ssl_cert_file, acme_ca, marathon_ca] = paths.map(|path| path.map(PathBuf::from));
        let config = Config { ssl_cert_file, acme_ca, marathon_ca, ..crate::testing::config() };
        TlsClients::new(&config)
    }

    /// Whether each of the two peers is judged by the built-in roots, and whether both by the same.
    fn judged(paths: [Option<&Path>; 3]) -> (bool, bool, bool) {
        let clients = clients(paths).unwrap();
        let built_in = |client: &Arc<ClientConfig>| Arc::ptr_eq(client, &clients.web_pki);
        let same = Arc::ptr_eq(&clients.acme, &clients.marathon);
        (built_in(&clients.acme), built_in(&clients.marathon), same)
    }

    #[test]
    fn a_bundle_for_all_programs_stands_in_for_the_built_in_roots() {
        let (all, own) = (file(&root()), file(&root()));
        let (all, own) = (Some(all.path()), Some(own.path()));
        assert_eq!(judged([None, None, None]), (true, true, true));
        assert_eq!(judged([all, None, None]), (false, false, true));
        assert_eq!(judged([all, own, None]), (false, false, false));
        assert_eq!(judged([None, own, None]), (false, true, false));
        // Where it is not used, it need not be there.
        let missing = Some(Path::new("/nowhere/roots.pem"));
        assert_eq!(judged([missing, own, own]), (false, false, false));
    }

    #[test]
    fn a_bundle_that_cannot_be_used_is_named_with_its_variable() {
        let garbage = pem("CERTIFICATE", b"no certificate");
        let cases = [
            ("", "it holds no certificate in PEM"),
            ("no PEM at all", "it holds no certificate in PEM"),
            (
                "-----BEGIN CERTIFICATE-----\n!",
                "its section \"CERTIFICATE\" is cut off: it has no END line",
            ),
            (&garbage, "it holds no certificate that can be read"),
        ];
        for (content, words) in cases {
            let bundle = file(content);
            let error = clients([Some(bundle.path()), None, None]).unwrap_err().to_string();
            let begin = format!("SSL_CERT_FILE {}: {words}", bundle.path().display());
            assert!(error.starts_with(&begin) && !error.contains('\n'), "{error}");
        }
        let missing = Some(Path::new("/nowhere/roots.pem"));
        let error = clients([missing, None, None]).unwrap_err().to_string();
        let words = "SSL_CERT_FILE /nowhere/roots.pem: No such file or directory (os error 2); name a \
                     PEM file with the CA's certificates";
        assert_eq!(error, words);
    }

    #[test]
    fn an_odd_certificate_spoils_our_own_bundles_and_no_machines() {
        let mixed = file(&format!("{}{}", pem("CERTIFICATE", b"no certificate"), root()));
        assert_eq!(judged([Some(mixed.path()), None, None]), (false, false, true));
        let error = clients([None, Some(mixed.path()), None]).unwrap_err();
        assert_eq!(error.option, "--acme-ca");
    }

    /// Whether a handshake with a server that shows this certificate comes to its end.
    fn shakes_hands(client: Arc<ClientConfig>, leaf: &rcgen::Certificate, key: &KeyPair) -> bool {
        let provider = Arc::new(default_provider());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let certified = CertifiedKey::new(vec![leaf.der().clone()], key);
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let name = ServerName::try_from("a.org").unwrap();
        let mut client = ClientConnection::new(client, name).unwrap();
        for _ in 0..4 {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            client.write_tls(&mut there).unwrap();
            server.read_tls(&mut there.as_slice()).unwrap();
            let _ = server.process_new_packets();
            server.write_tls(&mut back).unwrap();
            client.read_tls(&mut back.as_slice()).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        !client.is_handshaking() && !server.is_handshaking()
    }

    #[test]
    fn a_critical_extension_hides_no_served_certificate_from_a_probe() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.org".to_string()]).unwrap();
        let mut poison = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
        poison.set_criticality(true);
        params.custom_extensions.push(poison);
        let leaf = params.self_signed(&key).unwrap();
        assert!(shakes_hands(verified_by(Verifier::Any), &leaf, &key));
        let other = KeyPair::generate().unwrap();
        assert!(
            !shakes_hands(verified_by(Verifier::Any), &leaf, &other),
            "a server without the key"
        );
        // Who named the certificate itself has judged it; anybody else's is refused.
        let mut roots = RootCertStore::empty();
        roots.add(leaf.der().clone()).unwrap();
        let pinned = client(roots.clone(), vec![leaf.der().clone()]);
        assert!(shakes_hands(pinned, &leaf, &key));
        assert!(!shakes_hands(client(roots, Vec::new()), &leaf, &key));
    }
}
