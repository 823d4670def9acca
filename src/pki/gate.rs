//! The gate before `certs/`: whether a new file is one that HAProxy can load and that clients take, tried
//! in memory with the very text that is to be written. Knows no clock: the time is an argument. The
//! keys that a handshake makes up are ring's own; what comes of it does not hang on them.
//!
//! What no one can check without the root stays unchecked: the signature of the topmost certificate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{self, CertificateDer, ServerName};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, ConnectionCommon, DigitallySignedStruct,
};
use rustls::{Error, RootCertStore, ServerConfig, ServerConnection, SideData, SignatureScheme};

use crate::domain::Domain;
use crate::printable::printable;
use crate::secret::Secret;
use crate::time::UnixTime;

use super::bundle::{Bundle, BundleError, CLOCKS_DIFFER_MAX};
use super::leaf::{Leaf, signed_parts, subject_key};
use super::provider::{SIGNATURES, provider};

/// A handshake in memory is over after so many turns; TLS 1.3 takes three.
const TURNS_MAX: usize = 8;

/// Why a new file may not enter `certs/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateError {
    /// The file, its leaf, or the order of its chain.
    Bundle(BundleError),
    /// The certificate at that place of the chain, counted from 1, is no X.509 certificate.
    Malformed(usize),
    /// The certificate at that place of the chain is not valid before then.
    NotYetValid(usize, UnixTime),
    /// The certificate at that place of the chain has not been valid since then.
    Expired(usize, UnixTime),
    /// The signature of the certificate at that place of the chain is not of the key of the next one.
    Signature(usize),
    /// A TLS client does not take it; the text is the TLS library's.
    Handshake(String),
}

impl GateError {
    /// Whether a clock that is wrong, ours or the CA's, may be why.
    pub fn is_about_time(&self) -> bool {
        matches!(
            self,
            GateError::NotYetValid(..)
                | GateError::Expired(..)
                | GateError::Bundle(BundleError::NotYetValid(_) | BundleError::Expired(_))
        )
    }
}

/// Checks the text of a file that is to be written, for an order's names, at this time. What is to
/// begin within the hour passes: clocks differ.
///
/// # Errors
/// HAProxy would not load it, or a client would not take it.
pub fn admit(pem: &Secret, names: &[Domain], now: UnixTime) -> Result<Bundle, GateError> {
    let bundle = Bundle::parse(pem.expose()).map_err(GateError::Bundle)?;
    bundle.key_matches().map_err(GateError::Bundle)?;
    bundle.covers(names).map_err(GateError::Bundle)?;
    bundle.is_linked().map_err(GateError::Bundle)?;
    bundle.is_current(now).map_err(GateError::Bundle)?;
    let at = current_chain(&bundle, now)?;
    let anchor = anchor(&bundle)?;
    // Every name is in the leaf, as was seen above; which of them a client asks for changes no more
    // than that, and each handshake costs a signature.
    if let Some(name) = names.first() {
        let refused = |error: Error| GateError::Handshake(printable(&error.to_string()));
        shake_hands(&bundle, anchor, name, at).map_err(refused)?;
    }
    Ok(bundle)
}

/// Whether all that stands behind the leaf is valid; the time at which all of it is.
fn current_chain(bundle: &Bundle, now: UnixTime) -> Result<UnixTime, GateError> {
    let mut at = now.max(bundle.leaf().not_before);
    for (index, der) in bundle.chain().iter().enumerate().skip(1) {
        let place = index + 1;
        let Leaf { not_before, not_after, .. } =
            Leaf::parse(der).ok_or(GateError::Malformed(place))?;
        if not_before > now.plus(CLOCKS_DIFFER_MAX) {
            return Err(GateError::NotYetValid(place, not_before));
        }
        if not_after < now {
            return Err(GateError::Expired(place, not_after));
        }
        at = at.max(not_before);
    }
    Ok(at)
}

/// Checks each signature by the next certificate's key. Where a chain leads to the trust anchor is a
/// client's choice, and some choices leave a certificate out, as one that is there twice, from two
/// roots: HAProxy sends all of them. Says whose key is to be trusted: that of the topmost, or of the last
/// one before a kind of signature that ring does not know, which need not be wrong.
fn anchor(bundle: &Bundle) -> Result<usize, GateError> {
    let chain = bundle.chain();
    for (index, pair) in chain.windows(2).enumerate() {
        match is_signed_by(&pair[0], &pair[1]) {
            Some(true) => {}
            Some(false) => return Err(GateError::Signature(index + 1)),
            None => return Ok(index),
        }
    }
    Ok(chain.len().saturating_sub(1))
}

/// Whether a certificate's signature is of another one's key; `None` where that cannot be told.
fn is_signed_by(der: &[u8], issuer: &[u8]) -> Option<bool> {
    let (signed, kind, signature) = signed_parts(der)?;
    let (key_kind, key) = subject_key(issuer)?;
    let all = SIGNATURES.all;
    let fits = |it: &&&dyn pki_types::SignatureVerificationAlgorithm| {
        it.signature_alg_id().as_ref() == kind && it.public_key_alg_id().as_ref() == key_kind
    };
    let algorithm = all.iter().find(fits)?;
    Some(algorithm.verify_signature(key, signed, signature).is_ok())
}

/// Lets a server with the file and a client that trusts that certificate of it come to terms.
fn shake_hands(bundle: &Bundle, anchor: usize, name: &Domain, at: UnixTime) -> Result<(), Error> {
    let provider = Arc::new(provider());
    let clock = Arc::new(Stopped(at));
    let key = any_supported_type(bundle.key())?;
    let certified = CertifiedKey::new(bundle.chain().to_vec(), key);
    // One version is enough: nothing of the file is used otherwise in another one.
    let mut server = ServerConfig::builder_with_details(Arc::clone(&provider), clock.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let client = Client::new(bundle, anchor, &provider)?;
    let mut client = ClientConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(client))
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    let name = ServerName::try_from(name.as_str().to_string());
    let name = name.map_err(|_| Error::General("the name can be in no certificate".into()))?;
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    for _ in 0..TURNS_MAX {
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    Err(Error::HandshakeNotComplete)
}

/// Brings what one side has to say to the other.
fn carry<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::General(error.to_string());
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).map_err(failed)?;
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).map_err(failed)?;
        to.process_new_packets()?;
    }
    Ok(())
}

/// A clock that shows one time.
#[derive(Debug)]
struct Stopped(UnixTime);

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<pki_types::UnixTime> {
        let seconds = u64::try_from(self.0.as_seconds()).ok()?;
        Some(pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A client that trusts one certificate of the chain and no other.
#[derive(Debug)]
struct Client {
    trust: Anchor,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Anchor {
    /// One that stands behind the leaf: the client's library looks for the way to it.
    Issuer(RootCertStore),
    /// The leaf, since nothing of the chain can say more of it: it came alone, self-signed or from a
    /// root that is not in the chain, or its signature is of a kind that ring does not know. Its key,
    /// its name and its dates are all that can be checked then.
    Leaf(CertificateDer<'static>),
}

impl Client {
    fn new(bundle: &Bundle, anchor: usize, provider: &CryptoProvider) -> Result<Client, Error> {
        let none = || Error::General("there is no certificate".into());
        let anchor_der = bundle.chain().get(anchor).ok_or_else(none)?.clone();
        let trust = if anchor == 0 {
            Anchor::Leaf(anchor_der)
        } else {
            let mut roots = RootCertStore::empty();
            roots.add(anchor_der)?;
            Anchor::Issuer(roots)
        };
        Ok(Client { trust, algorithms: provider.signature_verification_algorithms })
    }
}

impl ServerCertVerifier for Client {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: pki_types::UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let all = self.algorithms.all;
        match &self.trust {
            Anchor::Issuer(roots) => {
                verify_server_cert_signed_by_trust_anchor(&parsed, roots, others, now, all)?;
            }
            Anchor::Leaf(known) if known == leaf => {}
            Anchor::Leaf(_) => return Err(CertificateError::UnknownIssuer.into()),
        }
        verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("no handshake in memory is by TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GateError::Bundle(error) => error.fmt(f),
            GateError::Malformed(place) => {
                write!(f, "certificate {place} of its chain is malformed")
            }
            GateError::NotYetValid(place, at) => {
                write!(f, "certificate {place} of its chain is not valid before {at}")
            }
            GateError::Expired(place, at) => {
                write!(f, "certificate {place} of its chain has expired at {at}")
            }
            GateError::Signature(place) => write!(
                f,
                "the signature of certificate {place} of its chain is not that of the next one's key"
            ),
            GateError::Handshake(text) => write!(f, "a TLS client does not take it: {text}"),
        }
    }
}

impl std::error::Error for GateError {}

#[cfg(test)]
mod tests;
