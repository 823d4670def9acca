//! Verifies certificates as rustls does, except for critical extensions that webpki does not process. The
//! policy extensions of RFC 5280 are accepted, as OpenSSL, Chrome and Firefox accept them; no policy is
//! enforced. Never accepts a signature, date, purpose or name that rustls rejects.
//!
//! webpki reads a copy in which such an extension is not critical. A signature is verified over the original.

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, ServerName,
    SignatureVerificationAlgorithm, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{Error, RootCertStore};

use super::der;
use super::leaf::{critical_extensions, signed_parts};
use super::signatures::SIGNATURES;

/// `id-ce` (RFC 5280 appendix A.2): 2.5.29.
const ID_CE: [u8; 2] = [0x55, 29];
/// Below `id-ce`, what webpki processes: `keyUsage`, `subjectAltName`, `basicConstraints`,
/// `nameConstraints`, `cRLDistributionPoints`, `extKeyUsage`.
const PROCESSED: [u8; 6] = [15, 17, 19, 30, 31, 37];
/// Below `id-ce`, what clients process: `certificatePolicies`, `policyMappings`, `policyConstraints`,
/// `inhibitAnyPolicy` (RFC 5280 sections 4.2.1.4, 4.2.1.5, 4.2.1.11, 4.2.1.14).
const POLICIES: [u8; 4] = [32, 33, 36, 54];
/// Extensions of one certificate that a copy is made for: each costs a search through the certificate, which
/// may be a hostile server's.
const COPIED_MAX: usize = 16;
/// The `critical` flag of an extension: BOOLEAN TRUE. Its last byte as 0 is FALSE.
const CRITICAL: [u8; 3] = [der::BOOLEAN, 1, 0xff];

/// The critical extensions that webpki does not process.
fn unprocessed(der: &[u8]) -> Vec<&[u8]> {
    let mut all = critical_extensions(der).unwrap_or_default();
    all.retain(|oid| !is_one_of(oid, &PROCESSED));
    all
}

/// Whether an object identifier is one of these below `id-ce`.
fn is_one_of(oid: &[u8], last: &[u8]) -> bool {
    matches!(oid.strip_prefix(&ID_CE), Some([it]) if last.contains(it))
}

/// The first critical extension that clients do not know, in dotted form: they reject the certificate.
pub(super) fn unknown_extension(der: &[u8]) -> Option<String> {
    let unknown = unprocessed(der).into_iter().find(|oid| !is_one_of(oid, &POLICIES));
    unknown.map(dotted)
}

/// An object identifier in dotted form (X.690 section 8.19).
fn dotted(oid: &[u8]) -> String {
    let (mut text, mut arc) = (String::new(), 0_u64);
    for byte in oid {
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            // The first two arcs are in one number.
            text += &match arc / 40 {
                _ if !text.is_empty() => format!(".{arc}"),
                first @ 0..2 => format!("{first}.{}", arc % 40),
                _ => format!("2.{}", arc - 80),
            };
            arc = 0;
        }
    }
    text
}

/// A copy that webpki can read: no extension is critical that it does not process. For names and keys only:
/// the signature does not match.
pub fn readable(certificate: &[u8]) -> CertificateDer<'static> {
    let mut copy = certificate.to_vec();
    let unprocessed = unprocessed(certificate);
    for oid in unprocessed.iter().filter(|_| unprocessed.len() <= COPIED_MAX) {
        let Ok(length) = u8::try_from(oid.len()) else { continue };
        let head = [&[der::OBJECT_IDENTIFIER, length], *oid, &CRITICAL].concat();
        let mut from = 0;
        while let Some(at) = copy[from..].windows(head.len()).position(|it| it == head) {
            from += at + head.len();
            copy[from - 1] = 0;
        }
    }
    CertificateDer::from(copy)
}

/// The copy, or the certificate itself where it has an extension that clients do not know.
fn acceptable(certificate: &CertificateDer<'_>) -> CertificateDer<'static> {
    match unknown_extension(certificate) {
        Some(_) => certificate.clone().into_owned(),
        None => readable(certificate),
    }
}

/// Whether a certificate is for this name. Nothing else of it is verified.
///
/// # Errors
/// It is not, or cannot be read.
pub fn verify_name(certificate: &[u8], name: &ServerName<'_>) -> Result<(), Error> {
    verify_server_name(&ParsedCertificate::try_from(&readable(certificate))?, name)
}

/// Verifies a server's certificate for this name at this time, with the certificates that it sent along.
///
/// # Errors
/// As rustls.
pub fn verify_server(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    roots: &RootCertStore,
    name: &ServerName<'_>,
    at: UnixTime,
) -> Result<(), Error> {
    let copy = acceptable(leaf);
    let copies: Vec<CertificateDer<'static>> = others.iter().map(acceptable).collect();
    let mut pairs = vec![(&copy, leaf)];
    pairs.extend(copies.iter().zip(others));
    let over = |algorithm: &&'static dyn SignatureVerificationAlgorithm| OverOriginal {
        algorithm: *algorithm,
        pairs: &pairs,
    };
    let algorithms: Vec<OverOriginal<'_>> = SIGNATURES.all.iter().map(over).collect();
    let algorithms: Vec<&dyn SignatureVerificationAlgorithm> =
        algorithms.iter().map(|it| it as &dyn SignatureVerificationAlgorithm).collect();
    let parsed = ParsedCertificate::try_from(&copy)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, &copies, at, &algorithms)?;
    verify_server_name(&parsed, name)
}

/// Verifies the signature of a copy over what was signed.
#[derive(Debug)]
struct OverOriginal<'a> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    /// Copies and originals.
    pairs: &'a [(&'a CertificateDer<'static>, &'a CertificateDer<'a>)],
}

impl SignatureVerificationAlgorithm for OverOriginal<'_> {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let signed = |der| signed_parts(der).map(|(signed, ..)| signed);
        let of = self.pairs.iter().find(|(copy, _)| signed(copy) == Some(message));
        let original = of.and_then(|(_, original)| signed(original)).unwrap_or(message);
        self.algorithm.verify_signature(public_key, original, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    };

    use super::*;

    fn params(name: &str, oid: &[u64]) -> CertificateParams {
        let mut params = CertificateParams::new([format!("{name}.org")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let mut extension = CustomExtension::from_oid_content(oid, vec![0x30, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
        if name != "leaf" {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    /// A leaf, an intermediate and a root with an extension each.
    fn chain(oid: &[u64]) -> [CertificateDer<'static>; 3] {
        let [leaf_key, middle_key, root_key] = [(); 3].map(|()| KeyPair::generate().unwrap());
        let root_params = params("root", oid);
        let root = root_params.self_signed(&root_key).unwrap().der().clone();
        let issuer = Issuer::new(root_params, root_key);
        let middle_params = params("middle", oid);
        let middle = middle_params.signed_by(&middle_key, &issuer).unwrap().der().clone();
        let issuer = Issuer::new(middle_params, middle_key);
        let leaf = params("leaf", oid).signed_by(&leaf_key, &issuer).unwrap().der().clone();
        [leaf, middle, root]
    }

    fn verify(leaf: &[u8], middle: &[u8], root: &CertificateDer<'_>) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned()).unwrap();
        let (leaf, middle) = (CertificateDer::from(leaf), CertificateDer::from(middle));
        let at = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let name = ServerName::try_from("leaf.org").unwrap();
        verify_server(&leaf, &[middle], &roots, &name, at)
    }

    #[test]
    fn signatures_are_verified_over_what_was_signed() {
        let forged = |der: &[u8]| {
            let mut der = der.to_vec();
            *der.last_mut().unwrap() ^= 1;
            der
        };
        let [leaf, middle, root] = chain(&[2, 5, 29, 32]);
        assert_eq!(verify(&leaf, &middle, &root), Ok(()));
        assert!(verify(&forged(&leaf), &middle, &root).is_err());
        assert!(verify(&leaf, &forged(&middle), &root).is_err());
        let copies = [readable(&leaf), readable(&middle)];
        assert!(copies[0] != leaf && copies[1] != middle);
        assert!(verify(&copies[0], &middle, &root).is_err(), "not what was signed");
        assert!(verify(&leaf, &copies[1], &root).is_err(), "not what was signed");
        let [_, another, _] = chain(&[2, 5, 29, 32]);
        assert!(verify(&leaf, &another, &root).is_err());
    }

    #[test]
    fn what_clients_do_not_know_is_not_accepted() {
        for oid in [&[2, 5, 29, 99][..], &[2, 5, 29, 32, 1], &[1, 2, 3]] {
            let [leaf, middle, root] = chain(oid);
            let error = verify(&leaf, &middle, &root).unwrap_err().to_string();
            assert!(error.contains("UnsupportedCriticalExtension"), "{error}");
            assert!(unknown_extension(&leaf).is_some());
            // But its names can be read.
            let name = |name: &'static str| ServerName::try_from(name).unwrap();
            assert_eq!(verify_name(&leaf, &name("leaf.org")), Ok(()));
            assert!(verify_name(&leaf, &name("other.org")).is_err());
        }
        let mut crowded = CertificateParams::new(["leaf.org".to_string()]).unwrap();
        for last in 1..=COPIED_MAX as u64 + 1 {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, last], vec![5, 0]);
            extension.set_criticality(true);
            crowded.custom_extensions.push(extension);
        }
        let crowded = crowded.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(readable(crowded.der()), *crowded.der());
        let [known, ..] = chain(&[2, 5, 29, 54]);
        let [leaf, ..] = chain(&[1, 2, 3]);
        assert_eq!(
            (unknown_extension(&known), unknown_extension(&leaf)),
            (None, Some("1.2.3".into()))
        );
        for end in 0..leaf.len() {
            assert_eq!(readable(&leaf[..end]).as_ref(), &leaf[..end]);
        }
    }
}
