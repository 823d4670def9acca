//! TLS for stand-ins on real sockets: a server's configuration from an [`Identity`], and a client
//! that looks at what a server shows.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use x509_parser::extensions::GeneralName;

use crate::date;
use crate::pki::Identity;

const PATIENCE: Duration = Duration::from_secs(5);

/// A TLS server that has one identity.
///
/// # Errors
/// The key does not fit the certificate.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, rustls::Error> {
    let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivatePkcs8KeyDer::from(identity.key.clone()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// A TLS client that trusts one root and nobody else.
///
/// # Errors
/// `root` is no certificate in DER.
pub fn client_config(root: &[u8]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.to_vec()))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A TLS connection to `address` on which the server proved to be `name`.
///
/// # Errors
/// Nobody listens there, or the server did not prove it.
pub fn connect(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let server = ServerName::try_from(name.to_string()).map_err(io::Error::other)?;
    let mut session =
        ClientConnection::new(Arc::clone(config), server).map_err(io::Error::other)?;
    let mut stream = stream;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// What a server's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The subject alternative names, in their order.
    pub names: Vec<String>,
    /// The issuer's common name.
    pub issuer: String,
    /// Milliseconds since 1970.
    pub not_before_ms: i64,
    /// Milliseconds since 1970.
    pub not_after_ms: i64,
    /// Upper-case hexadecimal.
    pub serial: String,
    /// How many certificates the server sent.
    pub chain_length: usize,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (date::rfc3339(self.not_before_ms), date::rfc3339(self.not_after_ms));
        write!(f, "{} by {} from {from} to {to}", self.names.join(" "), self.issuer)
    }
}

/// Shakes hands with a server as `name` and reads the certificate that it proved itself with.
///
/// # Errors
/// No connection, no proof that chains to the trusted root, or a certificate that cannot be read.
pub fn shown(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<(Shown, String)> {
    let mut stream = connect(address, name, config)?;
    let chain = stream.conn.peer_certificates().unwrap_or_default().to_vec();
    let leaf = chain.first().ok_or(io::Error::other("the server sent no certificate"))?;
    let shown = read_leaf(leaf, chain.len())?;
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut page = Vec::new();
    stream.read_to_end(&mut page)?;
    Ok((shown, String::from_utf8_lossy(&page).into_owned()))
}

pub(crate) fn read_leaf(der: &[u8], chain_length: usize) -> io::Result<Shown> {
    let (_, leaf) = x509_parser::parse_x509_certificate(der).map_err(io::Error::other)?;
    let names = leaf.subject_alternative_name().map_err(io::Error::other)?;
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        _ => None,
    });
    let issuer = leaf.issuer().iter_common_name().next();
    let issuer = issuer.and_then(|name| name.as_str().ok()).unwrap_or_default();
    Ok(Shown {
        names: names.collect(),
        issuer: issuer.to_string(),
        not_before_ms: leaf.validity().not_before.timestamp() * 1000,
        not_after_ms: leaf.validity().not_after.timestamp() * 1000,
        serial: leaf.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect(),
        chain_length,
    })
}
