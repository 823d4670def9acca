//! The certificate files of the storage directory as HAProxy loads them, for a program that only inspects
//! them: what each holds, or why HAProxy refuses it. Holds no private key. Never touches the disk.

use crate::domain::Domain;
use crate::secret::Secret;
use crate::time::UnixTime;

use super::bundle::{Bundle, BundleError};
use super::fingerprint::Fingerprint;
use super::leaf::{Leaf, issuer_and_subject, subject_common_name, subject_key};

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// Every `certs/NAME.pem` that is a regular file, by its name: what it holds, or why HAProxy cannot load
    /// it.
    pub files: Vec<(Domain, Result<StoredLeaf, String>)>,
    /// `default.pem`; `None` where there is none.
    pub fallback: Option<Result<StoredLeaf, String>>,
}

/// The leaf of a file that HAProxy can load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLeaf {
    /// The names for which HAProxy serves it, lower-cased; `*.NAME` is a wildcard.
    pub names: Vec<String>,
    /// `notBefore`.
    pub not_before: UnixTime,
    /// `notAfter`.
    pub not_after: UnixTime,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Tells it from every other certificate.
    pub fingerprint: Fingerprint,
    /// The algorithm of its key, as DER: HAProxy chooses between files of different algorithms by what the
    /// client supports.
    pub key_algorithm: Vec<u8>,
    /// Whether each certificate behind it issued the one before it, by their names.
    pub is_linked: bool,
    /// Whether a handshake of ours can show it.
    pub can_be_seen: bool,
}

impl StoredLeaf {
    /// Reads a file as HAProxy does.
    ///
    /// # Errors
    /// With it HAProxy neither starts nor reloads: why.
    pub fn read(pem: &Secret) -> Result<StoredLeaf, String> {
        let text = pem.expose();
        if text.is_empty() {
            return Err("it is empty".into());
        }
        let bundle = Bundle::as_haproxy_reads(text).map_err(|error| match error {
            BundleError::Pem => {
                "it is cut short or mangled: a PEM section does not end".to_string()
            }
            BundleError::NoKey if !text.contains("-----BEGIN ") => {
                "it holds neither a private key nor a certificate".to_string()
            }
            error => error.to_string(),
        })?;
        bundle.can_be_loaded().map_err(|error| error.to_string())?;
        let der = bundle.leaf_der();
        Ok(StoredLeaf {
            names: served_names(bundle.leaf(), der),
            not_before: bundle.leaf().not_before,
            not_after: bundle.leaf().not_after,
            serial: serial(bundle.leaf()),
            fingerprint: Fingerprint::of(der),
            key_algorithm: subject_key(der).map(|(kind, _)| kind.to_vec()).unwrap_or_default(),
            is_linked: bundle.is_linked().is_ok(),
            can_be_seen: bundle.can_be_seen(),
        })
    }

    /// Whether HAProxy serves it for that name, if no other file has it.
    pub fn is_for(&self, name: &str) -> bool {
        is_for(&self.names, name)
    }
}

/// Whether one of the names is that one, or a wildcard for it.
pub fn is_for(names: &[String], name: &str) -> bool {
    let wildcard = wildcard_of(name);
    names.iter().any(|it| it == name || Some(it) == wildcard.as_ref())
}

/// `*.example.com` for `www.example.com`.
pub fn wildcard_of(name: &str) -> Option<String> {
    name.split_once('.').map(|(_, parent)| format!("*.{parent}"))
}

/// The names for which HAProxy serves a certificate: the alternative names, and its subject.
pub fn served_names(leaf: &Leaf, der: &[u8]) -> Vec<String> {
    let subject = subject_common_name(der).map(|name| name.to_ascii_lowercase());
    let mut names = leaf.names.clone();
    names.extend(subject.filter(|name| !leaf.names.contains(name)));
    names
}

/// The serial number in hexadecimal.
pub fn serial(leaf: &Leaf) -> String {
    leaf.serial.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a certificate names itself as its issuer.
pub fn is_self_issued(der: &[u8]) -> bool {
    issuer_and_subject(der).is_some_and(|(issuer, subject)| issuer == subject)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::testing::{ODD_CERTIFICATE, ODD_KEY};

    /// A key and a self-signed certificate for these names, as PEM.
    fn made(names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        (key.serialize_pem(), certificate.pem())
    }

    fn read(text: &str) -> Result<StoredLeaf, String> {
        StoredLeaf::read(&Secret::new(text.into()))
    }

    #[test]
    fn a_whole_file_tells_its_names_and_its_leaf() {
        let (key, certificate) = made(&["a.org", "*.b.org"]);
        for text in [format!("{key}{certificate}"), format!("{certificate}{key}")] {
            let leaf = read(&text).unwrap();
            assert!(leaf.is_for("a.org") && leaf.is_for("x.b.org") && leaf.is_linked);
            assert!(!leaf.is_for("b.org") && !leaf.is_for("x.a.org") && !leaf.is_for("y.x.b.org"));
        }
        let odd = read(&format!("{ODD_KEY}{ODD_CERTIFICATE}")).unwrap();
        assert!(odd.is_for("a.org") && !odd.can_be_seen);
    }

    #[test]
    fn what_haproxy_refuses_is_refused_with_its_reason() {
        let (key, certificate) = made(&["a.org"]);
        let (other, _) = made(&["a.org"]);
        let whole = format!("{key}{certificate}{certificate}");
        let cut = |bytes: usize| whole[..whole.len() - bytes].to_string();
        let cases = [
            (String::new(), "it is empty"),
            ("# README".into(), "neither a private key nor a certificate"),
            (key.clone(), "no certificate"),
            (certificate.clone(), "no private key"),
            (format!("{other}{certificate}"), "the private key is not that of the first"),
            (cut(100), "it is cut short"),
            (cut(20), "it is cut short"),
            (format!("{key}{}", &certificate[..100]), "it is cut short"),
        ];
        for (text, words) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}\n{text}");
        }
    }
}
