//! Companion files: HAProxy loads them together with a certificate file, whose name they have with one more
//! ending. Decides only which of them keep HAProxy from reloading. Opens no file.

use std::collections::BTreeSet;

use crate::certs_scan::{ForeignFile, Found};
use crate::domain::Domain;
use crate::pki::Bundle;

/// An OCSP response. HAProxy requires the certificate's issuer, in the chain or in an `.issuer` file.
const OCSP: &str = ".ocsp";
/// The certificate's issuer.
const ISSUER: &str = ".issuer";
/// A list of signed certificate timestamps (RFC 6962 section 3.3).
const SCT_LIST: &str = ".sctl";

/// HAProxy never loads what ends so as a certificate.
pub(super) const ENDINGS: [&str; 3] = [ISSUER, OCSP, SCT_LIST];

/// The certificate files that HAProxy loads.
pub(super) struct CertificateFiles<'a> {
    /// Those of ours that have companions; their chains contain their issuers.
    ours: Vec<String>,
    foreign_files: &'a [ForeignFile],
}

impl<'a> CertificateFiles<'a> {
    pub(super) fn new<'b>(
        ours: impl Iterator<Item = &'b Domain>,
        foreign_files: &'a [ForeignFile],
    ) -> CertificateFiles<'a> {
        let mut bases: BTreeSet<&str> = BTreeSet::new();
        for ending in ENDINGS {
            let files =
                foreign_files.iter().filter_map(|foreign| foreign.file.strip_suffix(ending));
            bases.extend(files.filter_map(|file| file.strip_suffix(".pem")));
        }
        let ours = if bases.is_empty() {
            Vec::new()
        } else {
            let beside = ours.filter(|name| bases.contains(name.as_str()));
            beside.map(|name| format!("{name}.pem")).collect()
        };
        CertificateFiles { ours, foreign_files }
    }

    /// Why a file of such an ending keeps HAProxy from reloading, if it does.
    pub(super) fn trouble(&self, companion: &ForeignFile) -> Option<String> {
        let (base, ending) = companion.file.rsplit_once('.')?;
        let is_ours = self.ours.iter().any(|file| file == base);
        let bundle = self.bundle(base);
        if !is_ours && bundle.is_none() {
            return None;
        }
        match ending {
            "ocsp" if let Found::Other | Found::Unreadable(_) = companion.found => {
                Some(format!("HAProxy reads it with {base}, and cannot"))
            }
            "ocsp" if !is_ours && !self.has_issuer(base, &bundle?) => Some(format!(
                "HAProxy reads it with {base}, which is without its issuer, and there is no {base}{ISSUER}"
            )),
            "sctl" if !may_be_sct_list(&companion.found) => Some(format!(
                "HAProxy reads it with {base}, and it is no list of signed certificate timestamps"
            )),
            _ => None,
        }
    }

    fn bundle(&self, file: &str) -> Option<Bundle> {
        let foreign = self.foreign_files.iter().find(|foreign| foreign.file == file)?;
        let Found::File(text) = &foreign.found else { return None };
        Bundle::as_haproxy_reads(text.expose()).ok()
    }

    fn has_issuer(&self, base: &str, bundle: &Bundle) -> bool {
        let issuer = [base, ISSUER].concat();
        bundle.has_issuer() || self.foreign_files.iter().any(|foreign| foreign.file == issuer)
    }
}

/// A binary file is accepted without a look: its bytes are not available here.
fn may_be_sct_list(found: &Found) -> bool {
    match found {
        Found::File(text) if text.expose().contains(char::REPLACEMENT_CHARACTER) => true,
        Found::File(text) => is_sct_list(text.expose().as_bytes()),
        Found::Link => true,
        Found::Other | Found::Unreadable(_) => false,
    }
}

/// A vector of vectors, none of them empty.
fn is_sct_list(bytes: &[u8]) -> bool {
    let Some((mut list, [])) = vector(bytes) else { return false };
    while let Some((timestamp, rest)) = vector(list) {
        if timestamp.is_empty() {
            return false;
        }
        if rest.is_empty() {
            return true;
        }
        list = rest;
    }
    false
}

/// What follows two bytes that say how long it is, and what is behind it.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
