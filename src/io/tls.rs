//! TLS clients: whose issuers count for which peer. Reads the bundles once, at the start.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::config::Config;
use crate::seam::{CloseReason, Tls, Trust};
use crate::url::Host;

/// One configuration for each [`Trust`].
#[derive(Debug)]
pub struct TlsClients {
    acme: Arc<ClientConfig>,
    marathon: Arc<ClientConfig>,
    web_pki: Arc<ClientConfig>,
}

/// A bundle that the operator named cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleUnusable {
    /// The option that named it.
    pub option: &'static str,
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl TlsClients {
    /// Reads the bundles of the configuration.
    ///
    /// # Errors
    /// One cannot be read, or holds no certificate.
    pub fn new(config: &Config) -> Result<TlsClients, BundleUnusable> {
        let web_pki = client(built_in_roots());
        let of = |option, path: Option<&Path>| match path {
            None => Ok(Arc::clone(&web_pki)),
            Some(path) => read_bundle(path).map(client).map_err(|reason| {
                let path = path.display().to_string();
                BundleUnusable { option, path, reason }
            }),
        };
        let acme = of("--acme-ca", config.acme_ca.as_deref())?;
        let marathon = of("--marathon-ca", config.marathon_ca.as_deref())?;
        Ok(TlsClients { acme, marathon, web_pki })
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

fn client(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    // TLS 1.2 and 1.3: rustls has nothing below, and no way around the verifier that we use.
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_webpki_verifier(verifier.build().expect("the roots are not empty"))
        .with_no_client_auth();
    Arc::new(config)
}

fn built_in_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

fn read_bundle(path: &Path) -> Result<RootCertStore, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("it is not PEM: {error}"))?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it holds no certificate in PEM".into());
    }
    Ok(roots)
}

impl fmt::Display for BundleUnusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BundleUnusable { option, path, reason } = self;
        write!(f, "{option} {path}: {reason}; name a PEM file with the CA's certificates")
    }
}

impl std::error::Error for BundleUnusable {}
