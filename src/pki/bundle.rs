//! A `certs/NAME.pem` file as HAProxy wants it: one private key, the leaf, its chain. Reads and makes
//! them; knows nothing of where they lie.

use std::fmt;
use std::time::Duration;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, Error};
use zeroize::Zeroizing;

use crate::domain::Domain;
use crate::secret::Secret;
use crate::time::UnixTime;

use super::chain;
use super::der::{self, Elements};
use super::leaf::{Leaf, is_self_issued, issuer_and_subject, subject_key, subject_key_info};
use super::pem::{self, PemError, Section};
use super::private_key::{self, KeyMatch};
use super::signatures::SIGNATURES;
use super::strength::{self, Weakness};
use super::verification::verify_name;

/// Certificates in one file at most; a real chain has two to four.
const CERTIFICATES_MAX: usize = 16;
/// A leaf may begin so much later than now: clocks differ.
pub(super) const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(60 * 60);

/// A private key with its certificate chain.
pub struct Bundle {
    key: Zeroizing<PrivateKeyDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    leaf: Leaf,
    cut: Option<PemError>,
}

/// Why a file or an answer is no usable certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// A section is no PEM.
    Pem(PemError),
    /// There is no private key.
    NoKey,
    /// There is more than one private key.
    SeveralKeys,
    /// There is no certificate.
    NoCertificate,
    /// There are more certificates than any chain has.
    TooManyCertificates,
    /// The private key is not whole, or of another form than its label says.
    MalformedKey,
    /// The private key can be read with a password only.
    EncryptedKey,
    /// The leaf is no X.509 certificate.
    MalformedLeaf,
    /// The certificate at that place, counted from 1, is no X.509 certificate.
    MalformedChain(usize),
    /// The certificate at that place is too weak for OpenSSL.
    Weak(usize, Weakness),
    /// The private key is of no kind that can be used.
    UnusableKey,
    /// The private key is not that of the leaf.
    KeyMismatch,
    /// The leaf is not for that name.
    MissingName(Domain),
    /// What the leaf is for cannot be verified; the text is the TLS library's.
    Unverifiable(String),
    /// A certificate of the chain did not issue the one before it.
    Unlinked,
    /// The leaf is not valid before then.
    NotYetValid(UnixTime),
    /// The leaf has not been valid since then.
    Expired(UnixTime),
}

impl Bundle {
    /// Reads what a CA or we have made: a private key (PKCS#8, PKCS#1 or SEC1) and certificates, the leaf
    /// first, in any order to each other (RFC 7468). Sections of other kinds are skipped.
    ///
    /// # Errors
    /// The file is not whole. Whether its parts fit together is asked separately.
    pub fn parse(pem: &str) -> Result<Bundle, BundleError> {
        let (mut key, mut chain) = (None, Vec::new());
        for section in pem::read_all(pem).map_err(BundleError::Pem)? {
            if pem::is_certificate(&section.label) {
                chain.push(certificate(&section));
            } else if pem::is_private_key(&section.label)
                && key.replace(private_key(section)?).is_some()
            {
                return Err(BundleError::SeveralKeys);
            }
        }
        if chain.len() > CERTIFICATES_MAX {
            return Err(BundleError::TooManyCertificates);
        }
        Bundle::of(key.ok_or(BundleError::NoKey)?, chain, None)
    }

    /// Reads what others may have written, as HAProxy does: of several keys the first counts, and what
    /// stands at the end of a long chain does not matter. A chain ends where it can be read no further.
    ///
    /// # Errors
    /// HAProxy cannot read it. Whether its parts fit together is asked separately.
    pub fn as_haproxy_reads(pem: &str) -> Result<Bundle, BundleError> {
        let key = first_key(pem)?;
        let (mut chain, mut cut) = (Vec::new(), None);
        for section in pem::sections(pem) {
            let section = match section {
                Ok(section) if !is_next_of(&chain, &section.label) => continue,
                Ok(section) if section.has_header => Err(PemError::Header(section.label)),
                section => section,
            };
            match section {
                Ok(section) => chain.extend(next_of(&chain, &section)?),
                Err(error) if chain.is_empty() => return Err(BundleError::Pem(error)),
                Err(error) => {
                    cut = Some(error);
                    break;
                }
            }
        }
        Bundle::of(key, chain, cut)
    }

    /// Reads a stored file that HAProxy can load and that is for this name. Returns the names that
    /// it is for, too, sorted. Another may have written it: what we would not make ourselves is
    /// served as well.
    ///
    /// # Errors
    /// HAProxy cannot load it, or it is not for that name.
    pub fn of_file(name: &Domain, pem: &Secret) -> Result<(Bundle, Vec<Domain>), BundleError> {
        let bundle = Bundle::as_haproxy_reads(pem.expose())?;
        bundle.can_be_loaded()?;
        bundle.covers(std::slice::from_ref(name))?;
        let mut names = bundle.domains();
        // A wildcard is no domain, but it may be what the file is for the name by.
        if let Err(place) = names.binary_search(name) {
            names.insert(place, name.clone());
        }
        Ok((bundle, names))
    }

    fn of(
        key: Zeroizing<PrivateKeyDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        cut: Option<PemError>,
    ) -> Result<Bundle, BundleError> {
        let first = chain.first().ok_or(BundleError::NoCertificate)?;
        let leaf = Leaf::parse(first).ok_or(BundleError::MalformedLeaf)?;
        Ok(Bundle { key, chain, leaf, cut })
    }

    /// Makes the file of a new certificate: key, leaf, chain, in that order, in one writing. A chain that
    /// came in another order, or with more than belongs to it at this time, is put in order.
    ///
    /// # Errors
    /// The chain is none, or its leaf is not for this key.
    pub fn assemble(key: &Secret, chain_pem: &str, now: UnixTime) -> Result<Secret, BundleError> {
        let mut bundle = Bundle::parse(&Zeroizing::new([key.expose(), "\n", chain_pem].concat()))?;
        let chain = chain::in_order(&bundle.chain, bundle.public_key()?.as_deref(), now);
        bundle = Bundle::of(bundle.key, chain, None)?;
        bundle.key_matches()?;
        let label = match *bundle.key {
            PrivateKeyDer::Pkcs1(_) => pem::RSA_PRIVATE_KEY,
            PrivateKeyDer::Sec1(_) => pem::EC_PRIVATE_KEY,
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

    /// Whether leaf and chain are those of this text, in its order.
    pub fn is_as_sent(&self, chain_pem: &str) -> bool {
        certificates(chain_pem).is_some_and(|sent| sent == self.chain)
    }

    /// Whether the leaf came alone, and is not its own issuer: most clients want its issuers, too.
    pub fn lacks_chain(&self) -> bool {
        self.chain.len() == 1 && !is_self_issued(self.leaf_der())
    }

    /// Whether the chain holds a certificate that, by its name, issued the leaf.
    pub fn has_issuer(&self) -> bool {
        let Some((issuer, _)) = issuer_and_subject(self.leaf_der()) else { return false };
        let others = self.chain.iter().skip(1).filter_map(|der| issuer_and_subject(der));
        others.into_iter().any(|(_, subject)| subject == issuer)
    }

    /// Where the file can be read no further: HAProxy up to 2.6 leaves out what follows in the chain, and
    /// later ones refuse the file.
    pub fn cut(&self) -> Option<&PemError> {
        self.cut.as_ref()
    }

    /// What the leaf says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The names that the leaf is for, sorted; those that are no [`Domain`] are left out.
    pub fn domains(&self) -> Vec<Domain> {
        let names = self.leaf.names.iter().filter_map(|name| Domain::parse(name).ok());
        let mut names: Vec<Domain> = names.collect();
        names.sort();
        names.dedup();
        names
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
        let public = self.public_key()?;
        // Compared by itself: what else the TLS library cannot read of the leaf is no matter of its key.
        let is_own = public.is_some() && public.as_deref() == subject_key_info(self.leaf_der());
        if is_own { Ok(()) } else { Err(BundleError::KeyMismatch) }
    }

    /// The public key that belongs to the private key, as a `SubjectPublicKeyInfo`.
    fn public_key(&self) -> Result<Option<Vec<u8>>, BundleError> {
        let key = any_supported_type(&self.key).map_err(|_| BundleError::UnusableKey)?;
        Ok(key.public_key().map(|info| info.to_vec()))
    }

    /// Whether HAProxy loads it. It knows more kinds of keys than we do, and certificates that our TLS
    /// library cannot read: of those it is only seen that the key is whole and bears the leaf's public
    /// half, if any.
    ///
    /// # Errors
    /// With it HAProxy neither starts nor reloads.
    pub fn can_be_loaded(&self) -> Result<(), BundleError> {
        for (place, der) in (1..).zip(&self.chain) {
            strength::check(der).map_err(|weakness| BundleError::Weak(place, weakness))?;
        }
        let Err(error) = self.key_matches() else { return Ok(()) };
        match private_key::compare(&self.key, self.leaf_der()) {
            KeyMatch::Match => Ok(()),
            KeyMatch::Unknown if error == BundleError::UnusableKey => Ok(()),
            KeyMatch::Mismatch => Err(BundleError::KeyMismatch),
            KeyMatch::Unknown | KeyMatch::Malformed => Err(error),
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
    /// Names the first one that it is not for; or the leaf cannot be read.
    pub fn covers(&self, names: &[Domain]) -> Result<(), BundleError> {
        for name in names {
            let missing = || BundleError::MissingName(name.clone());
            let server = ServerName::try_from(name.as_str()).map_err(|_| missing())?;
            verify_name(self.leaf_der(), &server).map_err(|error| match error {
                Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
                    missing()
                }
                error => BundleError::Unverifiable(error.to_string()),
            })?;
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

/// The private key of a text that is there for it, as `client.key`; the first of several.
///
/// # Errors
/// It holds none that can be read.
pub fn read_private_key(pem: &str) -> Result<Zeroizing<PrivateKeyDer<'static>>, BundleError> {
    let all = pem::read_all(pem).map_err(BundleError::Pem)?;
    let key = all.into_iter().find(|section| pem::is_private_key(&section.label));
    private_key(key.ok_or(BundleError::NoKey)?)
}

/// All certificates of a text that is there for them, as a file of CAs.
///
/// # Errors
/// A section cannot be read.
pub fn read_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let mut all = pem::read_all(pem).map_err(BundleError::Pem)?;
    all.retain(|section| pem::is_certificate(&section.label));
    Ok(all.iter().map(certificate).collect())
}

/// The certificates of a chain; `None` where the text is no PEM, or too long for a chain.
fn certificates(chain_pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    read_certificates(chain_pem).ok().filter(|all| all.len() <= CERTIFICATES_MAX)
}

/// The certificate of a section, without what OpenSSL trusts it for: that stands behind it.
pub(super) fn certificate(section: &Section) -> CertificateDer<'static> {
    let whole = Elements::of(&section.der).whole();
    CertificateDer::from(whole.unwrap_or(&section.der).to_vec())
}

/// Whether HAProxy takes a section for the next certificate.
fn is_next_of(chain: &[CertificateDer<'_>], label: &str) -> bool {
    pem::is_certificate(label) && (chain.is_empty() || label != pem::TRUSTED_CERTIFICATE)
}

/// The next certificate of a chain as HAProxy reads it; `None` behind the longest chain that is kept.
fn next_of(
    chain: &[CertificateDer<'_>],
    section: &Section,
) -> Result<Option<CertificateDer<'static>>, BundleError> {
    let malformed = match chain.len() {
        0 => BundleError::MalformedLeaf,
        before => BundleError::MalformedChain(before + 1),
    };
    let der = certificate(section);
    // Behind the leaf there may be what it is trusted for, and nothing else.
    let behind = section.der.get(der.len()..).unwrap_or_default();
    let is_alone = behind.is_empty() || Elements::of(behind).expect(der::SEQUENCE).is_some();
    if Leaf::parse(&der).is_none() || chain.is_empty() && !is_alone {
        return Err(malformed);
    }
    Ok((chain.len() < CERTIFICATES_MAX).then_some(der))
}

/// The private key that HAProxy uses: the first one. OpenSSL 3 skips sections of other kinds that it cannot
/// read, and some keys, too; 1.1 skips none.
fn first_key(pem: &str) -> Result<Zeroizing<PrivateKeyDer<'static>>, BundleError> {
    let mut error = BundleError::NoKey;
    for section in pem::sections(pem) {
        match section {
            Ok(section) if pem::is_private_key(&section.label) => {
                let is_dsa = section.label == pem::DSA_PRIVATE_KEY;
                let key = private_key(section)?;
                let is_whole = private_key::is_whole(&key, is_dsa);
                return if is_whole { Ok(key) } else { Err(BundleError::MalformedKey) };
            }
            Ok(_) => {}
            Err(found) if pem::is_private_key(found.label()) => {
                return Err(BundleError::Pem(found));
            }
            Err(found) => error = BundleError::Pem(found),
        }
    }
    Err(error)
}

fn private_key(section: Section) -> Result<Zeroizing<PrivateKeyDer<'static>>, BundleError> {
    if section.has_header || section.label == pem::ENCRYPTED_PRIVATE_KEY {
        return Err(BundleError::EncryptedKey);
    }
    // The key moves: its own memory is wiped by the new owner.
    let mut section = section;
    let der = std::mem::take(&mut *section.der);
    Ok(Zeroizing::new(match section.label.as_str() {
        pem::PRIVATE_KEY => PrivateKeyDer::Pkcs8(der.into()),
        pem::EC_PRIVATE_KEY => PrivateKeyDer::Sec1(der.into()),
        // Of DSA too: no number of it is looked at.
        _ => PrivateKeyDer::Pkcs1(der.into()),
    }))
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BundleError::Pem(error) => error.fmt(f),
            BundleError::NoKey => f.write_str("it holds no private key"),
            BundleError::SeveralKeys => f.write_str("it holds more than one private key"),
            BundleError::NoCertificate => f.write_str("it holds no certificate"),
            BundleError::TooManyCertificates => {
                write!(f, "it holds more than {CERTIFICATES_MAX} certificates")
            }
            BundleError::MalformedKey => f.write_str("its private key is malformed"),
            BundleError::EncryptedKey => f.write_str("its private key is encrypted"),
            BundleError::MalformedLeaf => f.write_str("its first certificate is malformed"),
            BundleError::MalformedChain(place) => {
                write!(f, "certificate {place} of its chain is malformed")
            }
            BundleError::Weak(1, weakness) => write!(f, "the first certificate's {weakness}"),
            BundleError::Weak(place, weakness) => {
                write!(f, "certificate {place} of its chain: its {weakness}")
            }
            BundleError::UnusableKey => f.write_str("its private key is of no kind that works"),
            BundleError::KeyMismatch => {
                f.write_str("the private key is not that of the first certificate")
            }
            BundleError::MissingName(name) => write!(f, "the first certificate is not for {name}"),
            BundleError::Unverifiable(text) => {
                write!(f, "the first certificate cannot be verified: {text}")
            }
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
mod tests;
