//! A `certs/NAME.pem` file as HAProxy wants it: one private key, the leaf, its chain. Reads and makes
//! them; knows nothing of where they lie.

use std::fmt;
use std::time::Duration;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::domain::Domain;
use crate::secret::Secret;
use crate::time::UnixTime;

use super::kinship::{Kinship, kinship};
use super::leaf::{Leaf, issuer_and_subject, subject_key};
use super::pem;
use super::signatures::SIGNATURES;

/// Certificates in one file at most; a real chain has two to four.
const CERTIFICATES_MAX: usize = 16;
/// A leaf may begin so much later than now: clocks differ.
pub(super) const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(60 * 60);

/// A private key with its certificate chain.
pub struct Bundle {
    key: Zeroizing<PrivateKeyDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    leaf: Leaf,
}

/// Why a file or an answer is no usable certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// The text is no PEM.
    Pem,
    /// There is no private key.
    NoKey,
    /// There is more than one private key.
    SeveralKeys,
    /// There is no certificate.
    NoCertificate,
    /// There are more certificates than any chain has.
    TooManyCertificates,
    /// The leaf is no X.509 certificate.
    MalformedLeaf,
    /// The private key is of no kind that can be used.
    UnusableKey,
    /// The private key is not that of the leaf.
    KeyMismatch,
    /// The leaf is not for that name.
    MissingName(Domain),
    /// A certificate of the chain did not issue the one before it.
    Unlinked,
    /// The leaf is not valid before then.
    NotYetValid(UnixTime),
    /// The leaf has not been valid since then.
    Expired(UnixTime),
}

impl Bundle {
    /// Reads a file: a private key (PKCS#8, PKCS#1 or SEC1) and certificates, the leaf first, in any
    /// order to each other (RFC 7468).
    ///
    /// # Errors
    /// The file is not whole. Whether its parts fit together is asked separately.
    pub fn parse(pem: &str) -> Result<Bundle, BundleError> {
        Bundle::read(pem, true)
    }

    /// The same of what others may have written, as HAProxy takes it: of several keys the first counts,
    /// and what stands at the end of a long chain does not matter.
    ///
    /// # Errors
    /// HAProxy cannot read it. Whether its parts fit together is asked separately.
    pub fn as_haproxy_reads(pem: &str) -> Result<Bundle, BundleError> {
        Bundle::read(pem, false)
    }

    fn read(pem: &str, strict: bool) -> Result<Bundle, BundleError> {
        let (mut key, mut chain) = (None, Vec::new());
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
            let (kind, der) = section.map_err(|_| BundleError::Pem)?;
            if kind == SectionKind::Certificate {
                chain.push(CertificateDer::from(der));
            } else if let Some(found) = private_key(kind, der) {
                if key.is_some() && strict {
                    return Err(BundleError::SeveralKeys);
                }
                key.get_or_insert(found);
            }
            if chain.len() > CERTIFICATES_MAX && strict {
                return Err(BundleError::TooManyCertificates);
            }
            chain.truncate(CERTIFICATES_MAX);
        }
        let key = key.ok_or(BundleError::NoKey)?;
        let first = chain.first().ok_or(BundleError::NoCertificate)?;
        let leaf = Leaf::parse(first).ok_or(BundleError::MalformedLeaf)?;
        Ok(Bundle { key, chain, leaf })
    }

    /// Makes the file of a new certificate: key, leaf, chain, in that order, in one writing.
    ///
    /// # Errors
    /// The chain is none, or its leaf is not for this key.
    pub fn assemble(key: &Secret, chain_pem: &str) -> Result<Secret, BundleError> {
        let bundle = Bundle::parse(&Zeroizing::new([key.expose(), "\n", chain_pem].concat()))?;
        bundle.key_matches()?;
        let label = match *bundle.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => pem::PRIVATE_KEY,
        };
        let mut sections = vec![(label, bundle.key.secret_der())];
        sections.extend(bundle.chain.iter().map(|der| (pem::CERTIFICATE, der.as_ref())));
        Ok(pem::write(&sections))
    }

    /// Leaf and chain.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What the leaf says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The leaf itself, as a CA wants it for a revocation.
    pub fn leaf_der(&self) -> &[u8] {
        // `parse` lets no bundle without a certificate come to be.
        self.chain.first().map(AsRef::as_ref).unwrap_or_default()
    }

    /// Whether the private key is that of the leaf.
    ///
    /// # Errors
    /// It is not, or it is of a kind that cannot be used.
    pub fn key_matches(&self) -> Result<(), BundleError> {
        let key = any_supported_type(&self.key).map_err(|_| BundleError::UnusableKey)?;
        let certified = CertifiedKey::new(self.chain.clone(), key);
        certified.keys_match().map_err(|_| BundleError::KeyMismatch)
    }

    /// Whether HAProxy loads it. It knows more kinds of keys than we do, and certificates that our TLS
    /// library cannot read: of those it is only seen that the key is whole and bears the leaf's public
    /// half, if any.
    ///
    /// # Errors
    /// With it HAProxy neither starts nor reloads.
    pub fn can_be_loaded(&self) -> Result<(), BundleError> {
        let Err(error) = self.key_matches() else { return Ok(()) };
        match kinship(self.key.secret_der(), self.leaf_der()) {
            Kinship::Own => Ok(()),
            Kinship::Unknown if error == BundleError::UnusableKey => Ok(()),
            Kinship::Another => Err(BundleError::KeyMismatch),
            Kinship::Unknown | Kinship::Malformed => Err(error),
        }
    }

    /// Whether a handshake of ours can come to an end with it: the TLS library knows the kind of the
    /// leaf's key.
    pub fn can_be_seen(&self) -> bool {
        let Some((kind, _)) = subject_key(self.leaf_der()) else { return false };
        let known = SIGNATURES.all;
        known.iter().any(|algorithm| algorithm.public_key_alg_id().as_ref() == kind)
    }

    /// Whether each certificate is, by its name, the issuer of the one before it (RFC 5246 section
    /// 7.4.2). No signature is looked at.
    ///
    /// # Errors
    /// One is not.
    pub fn is_linked(&self) -> Result<(), BundleError> {
        let names = |der: &CertificateDer<'_>| issuer_and_subject(der);
        let linked = self.chain.windows(2).all(|pair| match (names(&pair[0]), names(&pair[1])) {
            (Some((issuer, _)), Some((_, subject))) => issuer == subject,
            _ => false,
        });
        if linked { Ok(()) } else { Err(BundleError::Unlinked) }
    }

    /// Whether the leaf is valid now, or will be within the hour.
    ///
    /// # Errors
    /// It is not.
    pub fn is_current(&self, now: UnixTime) -> Result<(), BundleError> {
        let Leaf { not_before, not_after, .. } = self.leaf;
        match () {
            () if not_before > now.plus(CLOCKS_DIFFER_MAX) => {
                Err(BundleError::NotYetValid(not_before))
            }
            () if not_after < now => Err(BundleError::Expired(not_after)),
            () => Ok(()),
        }
    }

    /// Whether the leaf is for all these names.
    ///
    /// # Errors
    /// Names the first one that it is not for.
    pub fn covers(&self, names: &[Domain]) -> Result<(), BundleError> {
        let leaf = self.chain.first().ok_or(BundleError::NoCertificate)?;
        let leaf = ParsedCertificate::try_from(leaf).map_err(|_| BundleError::MalformedLeaf)?;
        for name in names {
            let missing = || BundleError::MissingName(name.clone());
            let server = ServerName::try_from(name.as_str()).map_err(|_| missing())?;
            rustls::client::verify_server_name(&leaf, &server).map_err(|_| missing())?;
        }
        Ok(())
    }
}

/// Whose root a chain leads to: the common name of the issuer of its last certificate. `None` where
/// that one has none, or the text is no chain.
pub fn topmost_issuer(chain_pem: &str) -> Option<String> {
    let last = certificates(chain_pem)?.pop()?;
    Leaf::parse(&last)?.issuer_common_name
}

/// Whether two chains begin with the same certificate.
pub fn same_leaf(chain_pem: &str, other_pem: &str) -> bool {
    let leaf = |pem| certificates(pem).filter(|all| !all.is_empty()).map(|mut all| all.remove(0));
    leaf(chain_pem).is_some_and(|it| leaf(other_pem) == Some(it))
}

/// The certificates of a chain; `None` where the text is no PEM, or too long for a chain.
fn certificates(chain_pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let sections = CertificateDer::pem_slice_iter(chain_pem.as_bytes());
    let all: Vec<_> = sections.take(CERTIFICATES_MAX + 1).collect::<Result<_, _>>().ok()?;
    (all.len() <= CERTIFICATES_MAX).then_some(all)
}

fn private_key(kind: SectionKind, der: Vec<u8>) -> Option<Zeroizing<PrivateKeyDer<'static>>> {
    let key = match kind {
        SectionKind::PrivateKey => Some(PrivateKeyDer::Pkcs8(der.into())),
        SectionKind::RsaPrivateKey => Some(PrivateKeyDer::Pkcs1(der.into())),
        SectionKind::EcPrivateKey => Some(PrivateKeyDer::Sec1(der.into())),
        _ => None,
    };
    key.map(Zeroizing::new)
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BundleError::Pem => f.write_str("it is not PEM"),
            BundleError::NoKey => f.write_str("it holds no private key"),
            BundleError::SeveralKeys => f.write_str("it holds more than one private key"),
            BundleError::NoCertificate => f.write_str("it holds no certificate"),
            BundleError::TooManyCertificates => {
                write!(f, "it holds more than {CERTIFICATES_MAX} certificates")
            }
            BundleError::MalformedLeaf => f.write_str("its first certificate is malformed"),
            BundleError::UnusableKey => f.write_str("its private key is of no kind that works"),
            BundleError::KeyMismatch => {
                f.write_str("the private key is not that of the first certificate")
            }
            BundleError::MissingName(name) => write!(f, "the first certificate is not for {name}"),
            BundleError::Unlinked => {
                f.write_str("its chain holds a certificate that did not issue the one before it")
            }
            BundleError::NotYetValid(at) => {
                write!(f, "the first certificate is not valid before {at}")
            }
            BundleError::Expired(at) => write!(f, "the first certificate has expired at {at}"),
        }
    }
}

impl std::error::Error for BundleError {}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    /// A key, and a chain of two whose leaf is for these names.
    fn issue(names: &[&str]) -> (Secret, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let leaf = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let other = KeyPair::generate().unwrap();
        let issuer = CertificateParams::default().self_signed(&other).unwrap();
        (Secret::new(key.serialize_pem()), format!("{}{}", leaf.pem(), issuer.pem()))
    }

    #[test]
    fn key_leaf_and_chain_in_one_writing() {
        let (key, chain) = issue(&["a.org", "b.org"]);
        let file = Bundle::assemble(&key, &chain).unwrap();
        let untidy = format!("# a comment\r\n{}", chain.replace('\n', "\r\n"));
        assert_eq!(Bundle::assemble(&key, &untidy).unwrap(), file);
        let marks: Vec<&str> =
            file.expose().lines().filter(|line| line.starts_with("-----BEGIN")).collect();
        let certificate = "-----BEGIN CERTIFICATE-----";
        assert_eq!(marks, ["-----BEGIN PRIVATE KEY-----", certificate, certificate]);
        assert!(file.expose().ends_with("-----END CERTIFICATE-----\n"));
        assert!(file.expose().lines().all(|line| line.len() <= 64));
        let bundle = Bundle::parse(file.expose()).unwrap();
        assert_eq!(bundle.key_matches(), Ok(()));
        let first = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        assert_eq!(bundle.leaf_der(), first.as_ref());
        assert_eq!(bundle.covers(&[domain("a.org"), domain("b.org")]), Ok(()));
        let missing = BundleError::MissingName(domain("c.org"));
        assert_eq!(bundle.covers(&[domain("a.org"), domain("c.org")]), Err(missing));
        let shown = format!("{bundle:?}");
        assert!(
            shown.starts_with("Bundle { leaf: Leaf {") && shown.ends_with("}, .. }"),
            "{shown}"
        );
    }

    /// A certificate that says who issued it.
    fn issued_by(issuer: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.org".to_string()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !issuer.is_empty() {
            params.distinguished_name.push(rcgen::DnType::CommonName, issuer);
        }
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn the_topmost_issuer_is_that_of_the_last_certificate() {
        let chain = [issued_by("Low CA"), issued_by("Middle CA"), issued_by("Top Root")].concat();
        assert_eq!(topmost_issuer(&chain).as_deref(), Some("Top Root"));
        let untidy = format!("a comment\r\n{}", chain.replace('\n', "\r\n"));
        assert_eq!(topmost_issuer(&untidy).as_deref(), Some("Top Root"));
        assert_eq!(topmost_issuer(&format!("{chain}{}", issued_by(""))), None);
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cut = &chain[..chain.len() - 40];
        for pem in ["", "rubbish", rubbish, cut, &chain.repeat(CERTIFICATES_MAX)] {
            assert_eq!(topmost_issuer(pem), None, "{pem}");
        }
        for end in 0..chain.len() {
            let _ = topmost_issuer(&chain[..end]);
        }
    }

    #[test]
    fn chains_of_one_leaf_are_known() {
        let (leaf, one, two) = (issued_by("L"), issued_by("A"), issued_by("B"));
        assert!(same_leaf(&format!("{leaf}{one}"), &format!("{leaf}{two}")));
        assert!(!same_leaf(&format!("{leaf}{one}"), &format!("{two}{leaf}")));
        assert!(!same_leaf("", "") && !same_leaf(&leaf, ""));
    }

    #[test]
    fn a_chain_for_another_key_is_refused() {
        let (_, chain) = issue(&["a.org"]);
        let (key, _) = issue(&["a.org"]);
        assert_eq!(Bundle::assemble(&key, &chain), Err(BundleError::KeyMismatch));
    }

    #[test]
    fn damaged_files_say_what_is_wrong() {
        let (key, chain) = issue(&["a.org"]);
        let error = |text: &str| Bundle::parse(text).expect_err("damaged");
        assert_eq!(error(""), BundleError::NoKey);
        assert_eq!(error(&chain), BundleError::NoKey);
        assert_eq!(error(key.expose()), BundleError::NoCertificate);
        let twice = format!("{0}{0}{chain}", key.expose());
        assert_eq!(error(&twice), BundleError::SeveralKeys);
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let end = "-----END CERTIFICATE-----\n";
        assert_eq!(error(&format!("{}{begin}!!!!\n{end}", key.expose())), BundleError::Pem);
        let short = format!("{}{begin}AAAA\n{end}", key.expose());
        assert_eq!(error(&short), BundleError::MalformedLeaf);
        let many = format!("{}{}", key.expose(), chain.repeat(CERTIFICATES_MAX));
        assert_eq!(error(&many), BundleError::TooManyCertificates);
        let whole = Bundle::assemble(&key, &chain).unwrap();
        for end in 0..whole.expose().len() {
            let _ = Bundle::parse(&whole.expose()[..end]);
        }
    }
}
