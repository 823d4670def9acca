//! The gate before `certs/`: whether a new file is one that HAProxy can load and that clients take, by the
//! very text that is to be written. Knows no clock: the time is an argument.
//!
//! What no one can check without the root stays unchecked: the signature of the topmost certificate.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::{self, ServerName};
use rustls::{Error, RootCertStore};

use crate::domain::Domain;
use crate::printable::printable;
use crate::secret::Secret;
use crate::time::UnixTime;

use super::bundle::{Bundle, BundleError, CLOCKS_DIFFER_MAX};
use super::leaf::{Leaf, is_self_issued, signed_parts, subject_key};
use super::signatures::SIGNATURES;
use super::verification::{unknown_extension, verify_name, verify_server};

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
    /// The certificate at that place of the chain has a critical extension, in dotted form, that no client
    /// knows (RFC 5280 section 4.2).
    UnknownExtension(usize, String),
    /// A TLS client does not take it; the text is the TLS library's.
    NotAccepted(String),
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
    extensions_are_known(&bundle)?;
    // Every name is in the leaf, as was seen above; which of them a client asks for changes no more.
    if let Some(name) = names.first() {
        let verified = verify_leaf(&bundle, anchor, name, at);
        verified.map_err(|error| GateError::NotAccepted(printable(&error.to_string())))?;
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

/// Whether clients know every critical extension. A root that is sent along they have, and do not look at.
fn extensions_are_known(bundle: &Bundle) -> Result<(), GateError> {
    for (index, der) in bundle.chain().iter().enumerate() {
        let is_root = index > 0 && is_self_issued(der);
        if let Some(oid) = unknown_extension(der).filter(|_| !is_root) {
            return Err(GateError::UnknownExtension(index + 1, oid));
        }
    }
    Ok(())
}

/// Verifies the leaf for this name as a TLS client does that trusts only that certificate of the chain.
/// Of a leaf that is its own anchor nothing of the chain can say more: it came alone, self-signed or
/// from a root that is not in the chain, or its signature is of a kind that ring does not know.
fn verify_leaf(bundle: &Bundle, anchor: usize, name: &Domain, at: UnixTime) -> Result<(), Error> {
    let none = || Error::General("there is no certificate".into());
    let name = ServerName::try_from(name.as_str().to_string());
    let name = name.map_err(|_| Error::General("the name can be in no certificate".into()))?;
    let (leaf, others) = bundle.chain().split_first().ok_or_else(none)?;
    let Some(issuer) = anchor.checked_sub(1) else { return verify_name(leaf, &name) };
    let mut roots = RootCertStore::empty();
    roots.add(others.get(issuer).ok_or_else(none)?.clone())?;
    let seconds = u64::try_from(at.as_seconds()).unwrap_or_default();
    let at = pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verify_server(leaf, others, &roots, &name, at)
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
            GateError::UnknownExtension(place, oid) => write!(
                f,
                "certificate {place} of its chain cannot be verified: no client knows its critical extension \
                 {oid}; order by another --profile or from another CA"
            ),
            GateError::NotAccepted(text) => write!(f, "a TLS client does not take it: {text}"),
        }
    }
}

impl std::error::Error for GateError {}

#[cfg(test)]
mod tests;
