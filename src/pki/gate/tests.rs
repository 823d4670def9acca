//! The gate against chains that rcgen makes, and against what a CA may get wrong in one.

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SignatureAlgorithm};

use super::*;
use crate::pki::pem;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A certificate's time, by rcgen.
const FROM: (i32, u8, u8) = (2026, 11, 1);
const TO: (i32, u8, u8) = (2027, 11, 1);

fn now() -> UnixTime {
    UnixTime::from_rfc3339("2026-11-28T00:00:00Z").expect("a time")
}

fn names(list: &str) -> Vec<Domain> {
    list.split(' ').map(|name| Domain::parse(name).expect("a name")).collect()
}

fn params(name: &str, is_ca: bool) -> CertificateParams {
    let names = if is_ca { vec![] } else { vec!["a.org".into(), "b.org".into()] };
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(FROM.0, FROM.1, FROM.2);
    params.not_after = rcgen::date_time_ymd(TO.0, TO.1, TO.2);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn key(kind: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(kind).unwrap()
}

/// A root, an intermediate and a leaf, and the leaf's key; each is made by what it is told to be.
struct Made {
    key: String,
    leaf: Vec<u8>,
    middle: Vec<u8>,
    root: Vec<u8>,
}

impl Made {
    fn new(change: impl FnOnce(&mut [CertificateParams; 3])) -> Made {
        Made::with(&key(&PKCS_ECDSA_P256_SHA256), change)
    }

    fn with(leaf_key: &KeyPair, change: impl FnOnce(&mut [CertificateParams; 3])) -> Made {
        let mut all = [params("leaf", false), params("Middle", true), params("Root", true)];
        change(&mut all);
        let [leaf, middle, root] = all;
        let (root_key, middle_key) = (key(&PKCS_ECDSA_P384_SHA384), key(&PKCS_ECDSA_P256_SHA256));
        let root_der = root.self_signed(&root_key).unwrap().der().to_vec();
        let root = Issuer::new(root, root_key);
        let middle_der = middle.signed_by(&middle_key, &root).unwrap().der().to_vec();
        let middle = Issuer::new(middle, middle_key);
        let leaf = leaf.signed_by(leaf_key, &middle).unwrap().der().to_vec();
        Made { key: leaf_key.serialize_pem(), leaf, middle: middle_der, root: root_der }
    }

    fn file(&self, chain: &[&[u8]]) -> Secret {
        let sections: Vec<_> = chain.iter().map(|der| (pem::CERTIFICATE, *der)).collect();
        Secret::new(self.key.clone() + pem::write(&sections).expose())
    }

    fn admit(&self, chain: &[&[u8]]) -> Result<(), GateError> {
        admit(&self.file(chain), &names("a.org b.org"), now()).map(drop)
    }

    /// As CAs send it: without the root; with it; the leaf alone.
    fn ways(&self) -> [Result<(), GateError>; 3] {
        [
            self.admit(&[&self.leaf, &self.middle]),
            self.admit(&[&self.leaf, &self.middle, &self.root]),
            self.admit(&[&self.leaf]),
        ]
    }
}

/// The same certificate with its last byte, which is the signature's, turned around.
fn forged(der: &[u8]) -> Vec<u8> {
    let mut forged = der.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    forged
}

fn is_not_accepted(result: &Result<(), GateError>, word: &str) -> bool {
    matches!(result, Err(GateError::NotAccepted(text)) if text.contains(word))
}

#[test]
fn keys_of_every_kind_that_is_ordered_or_was() {
    let rsa = KeyPair::from_pem(include_str!("../../../tests/fixtures/leaf-pkcs8.key")).unwrap();
    let kinds = [key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ECDSA_P384_SHA384), rsa];
    for leaf_key in &kinds {
        let made = Made::with(leaf_key, |_| {});
        assert_eq!(made.ways(), [Ok(()), Ok(()), Ok(())]);
    }
    let mut old = Made::with(&kinds[2], |_| {});
    old.key = include_str!("../../../tests/fixtures/leaf-pkcs1.key").into();
    assert_eq!(old.ways(), [Ok(()), Ok(()), Ok(())], "as the old program wrote it");
}

#[test]
fn a_private_key_with_the_public_half_of_another_is_refused() {
    let (own, other) = (key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ECDSA_P256_SHA256));
    let mut made = Made::with(&own, |_| {});
    // The public half is what such a key ends with (RFC 5915 section 3).
    let (mut der, half) = (other.serialize_der(), own.public_key_raw());
    let at = der.len() - half.len();
    assert_eq!(&der[at..], other.public_key_raw());
    der[at..].copy_from_slice(half);
    made.key = pem::write(&[(pem::PRIVATE_KEY, &der)]).expose().into();
    let refused = Err(GateError::Bundle(BundleError::UnusableKey));
    assert_eq!(made.ways(), [refused.clone(), refused.clone(), refused]);
}

#[test]
fn a_leaf_that_signed_itself_is_its_own_anchor() {
    let leaf_key = key(&PKCS_ECDSA_P256_SHA256);
    let mut made = Made::with(&leaf_key, |_| {});
    made.leaf = params("leaf", false).self_signed(&leaf_key).unwrap().der().to_vec();
    assert_eq!(made.admit(&[&made.leaf]), Ok(()));
    assert_eq!(
        admit(&made.file(&[&made.leaf]), &names("c.org"), now()).map(drop),
        Err(GateError::Bundle(BundleError::MissingName(names("c.org")[0].clone())))
    );
}

#[test]
fn what_fits_by_its_names_alone_is_found() {
    let (made, other) = (Made::new(|_| {}), Made::new(|_| {}));
    let (leaf, middle, root) = (&made.leaf, &made.middle, &made.root);
    let signature = |place| Err(GateError::Signature(place));
    assert_eq!(made.admit(&[leaf, &forged(middle), root]), signature(2));
    assert_eq!(made.admit(&[&forged(leaf), middle]), signature(1));
    assert_eq!(made.admit(&[leaf, &other.middle]), signature(1), "another key of that name");
    assert_eq!(made.admit(&[leaf, middle, &other.root]), signature(2));
    assert_eq!(made.admit(&[leaf, &forged(middle)]), Ok(()), "whose key signed it is not known");
    let unlinked = GateError::Bundle(BundleError::Unlinked);
    assert_eq!(made.admit(&[leaf, root, middle]), Err(unlinked), "their order");
    let mismatch = GateError::Bundle(BundleError::KeyMismatch);
    assert_eq!(made.admit(&[&other.leaf, &other.middle]), Err(mismatch));
}

/// Two certificates of one name and one key: a client's library goes straight to its anchor, and never
/// looks at the first of them, but HAProxy sends it.
#[test]
fn a_crossed_certificate_that_no_client_needs_is_checked_too() {
    let (leaf_key, middle_key) = (key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ECDSA_P256_SHA256));
    let mut made = Made::with(&leaf_key, |_| {});
    let middle = params("Middle", true);
    let itself = middle.self_signed(&middle_key).unwrap().der().to_vec();
    let other_key = key(&PKCS_ECDSA_P384_SHA384);
    let other_root = Issuer::new(params("Other Root", true), other_key);
    let crossed = middle.signed_by(&middle_key, &other_root).unwrap().der().to_vec();
    let issuer = Issuer::new(middle, middle_key);
    made.leaf = params("leaf", false).signed_by(&leaf_key, &issuer).unwrap().der().to_vec();
    assert_eq!(made.admit(&[&made.leaf, &itself, &crossed]), Ok(()));
    let found = made.admit(&[&made.leaf, &forged(&itself), &crossed]);
    assert_eq!(found, Err(GateError::Signature(2)));
}

#[test]
fn the_dates_of_all_of_the_chain_count() {
    let ended = |params: &mut CertificateParams| {
        params.not_after = rcgen::date_time_ymd(2026, 11, 27);
    };
    let at = now().minus(DAY);
    let made = Made::new(|[_, middle, _]| ended(middle));
    let expired = |place| Err(GateError::Expired(place, at));
    assert_eq!(made.ways(), [expired(2), expired(2), Ok(())]);
    let made = Made::new(|[_, _, root]| ended(root));
    assert_eq!(made.ways(), [Ok(()), expired(3), Ok(())]);
    let made = Made::new(|[leaf, _, _]| ended(leaf));
    let leaf = Err(GateError::Bundle(BundleError::Expired(at)));
    assert_eq!(made.ways(), [leaf.clone(), leaf.clone(), leaf.clone()]);
    assert!(leaf.is_err_and(|error| error.is_about_time()));

    let made = Made::new(|[_, middle, _]| middle.not_before = rcgen::date_time_ymd(2026, 11, 29));
    let early = Err(GateError::NotYetValid(2, now().plus(DAY)));
    assert_eq!(made.ways(), [early.clone(), early, Ok(())]);
    let soon = now().plus(DAY).minus(CLOCKS_DIFFER_MAX);
    let made = Made::new(|[leaf, middle, _]| {
        leaf.not_before = rcgen::date_time_ymd(2026, 11, 29);
        middle.not_before = rcgen::date_time_ymd(2026, 11, 29);
    });
    let file = made.file(&[&made.leaf, &made.middle, &made.root]);
    assert!(admit(&file, &names("a.org"), soon).is_ok(), "all of it begins within the hour");
    assert!(admit(&file, &names("a.org"), soon.minus(Duration::from_secs(1))).is_err());
}

#[test]
fn what_only_a_client_finds_is_found() {
    let made = Made::new(|[_, middle, _]| middle.is_ca = IsCa::ExplicitNoCa);
    let [short, long, alone] = made.ways();
    assert!(is_not_accepted(&long, "CaUsedAsEndEntity") || is_not_accepted(&long, "certificate"));
    assert_eq!((short, alone), (Ok(()), Ok(())), "an anchor is trusted by its key alone");
    let made = Made::new(|[leaf, _, _]| {
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let [short, long, _] = made.ways();
    assert!(is_not_accepted(&short, "certificate") && is_not_accepted(&long, "certificate"));
    let made = Made::new(|[leaf, _, _]| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(is_not_accepted(&made.ways()[0], "certificate"));
}

#[test]
fn a_kind_of_signature_that_is_not_known_is_passed_over() {
    let made = Made::new(|_| {});
    // ecdsa-with-SHA256 becomes ecdsa-with-SHA224 (RFC 5758 section 3.2).
    let strange = |der: &[u8]| {
        let mut der = der.to_vec();
        let kind = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        for at in 0..der.len() - kind.len() {
            if der[at..].starts_with(&kind) {
                der[at + kind.len() - 1] = 1;
            }
        }
        der
    };
    let leaf = strange(&made.leaf);
    assert_ne!(leaf, made.leaf);
    assert_eq!(made.admit(&[&leaf, &made.middle, &made.root]), Ok(()));
    let other = names("c.org");
    assert!(admit(&made.file(&[&leaf, &made.middle]), &other, now()).is_err());
}

#[test]
fn what_is_cut_or_mangled_never_panics() {
    let made = Made::new(|_| {});
    let file = made.file(&[&made.leaf, &made.middle, &made.root]);
    for end in (0..file.expose().len()).step_by(7) {
        let cut = Secret::new(file.expose()[..end].into());
        let _ = admit(&cut, &names("a.org"), now());
    }
    for index in 0..made.middle.len() {
        let mut mangled = made.middle.clone();
        mangled[index] ^= 0x80;
        let found = made.admit(&[&made.leaf, &mangled, &made.root]);
        // Of a key or a signature of an unknown kind nothing can be told.
        let kinds = [is_signed_by(&made.leaf, &mangled), is_signed_by(&mangled, &made.root)];
        assert!(found.is_err() || kinds.contains(&None), "byte {index}");
        assert_eq!((signed_parts(&mangled[..index]), subject_key(&mangled[..index])), (None, None));
    }
}

/// An extension that is critical. Its value is one certificate policy (RFC 5280 section 4.2.1.4).
fn critical(oid: &[u64]) -> CustomExtension {
    let value = [0x30, 10, 0x30, 8, 6, 6, 0x67, 0x81, 0x0c, 1, 2, 1];
    let mut extension = CustomExtension::from_oid_content(oid, value.to_vec());
    extension.set_criticality(true);
    extension
}

#[test]
fn critical_policy_extensions_are_accepted_as_browsers_accept_them() {
    // certificatePolicies, policyMappings, policyConstraints, inhibitAnyPolicy.
    for last in [32, 33, 36, 54] {
        let oid = [2, 5, 29, last];
        let all = || critical(&oid);
        let made = Made::new(|all_params| {
            all_params.iter_mut().for_each(|params| params.custom_extensions.push(all()));
        });
        assert_eq!(made.ways(), [Ok(()), Ok(()), Ok(())], "{oid:?}");
        let other = names("c.org");
        let missing = Err(GateError::Bundle(BundleError::MissingName(other[0].clone())));
        let file = made.file(&[&made.leaf, &made.middle]);
        assert_eq!(admit(&file, &other, now()).map(drop), missing);
        let found = made.admit(&[&forged(&made.leaf), &made.middle]);
        assert_eq!(found, Err(GateError::Signature(1)));
        // What else a client checks stays checked.
        let made = Made::new(|[leaf, middle, _]| {
            leaf.custom_extensions.push(all());
            middle.custom_extensions.push(all());
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert!(made.ways()[..2].iter().all(|way| is_not_accepted(way, "certificate")), "{oid:?}");
    }
}

#[test]
fn a_critical_extension_that_no_browser_knows_is_named() {
    // The poison of a precertificate (RFC 6962 section 3.1), and a number of more than one byte.
    for oid in [&[1, 3, 6, 1, 4, 1, 11129, 2, 4, 3][..], &[2, 5, 29, 99], &[2, 999, 70_000]] {
        let text: Vec<String> = oid.iter().map(ToString::to_string).collect();
        let text = text.join(".");
        let is_named = |way: &Result<(), GateError>, place: &str| {
            way.as_ref().is_err_and(|error| {
                let words = error.to_string();
                words.contains(&text) && words.contains(place) && words.contains("--profile")
            })
        };
        let made = Made::new(|[leaf, _, _]| leaf.custom_extensions.push(critical(oid)));
        assert!(made.ways().iter().all(|way| is_named(way, "certificate 1 ")), "{:?}", made.ways());
        let made = Made::new(|[_, middle, _]| middle.custom_extensions.push(critical(oid)));
        let [short, long, alone] = made.ways();
        assert!(is_named(&short, "certificate 2 ") && is_named(&long, "certificate 2 "));
        assert_eq!(alone, Ok(()));
        // Clients have the root already, and do not look at the one that is sent.
        let made = Made::new(|[_, _, root]| root.custom_extensions.push(critical(oid)));
        assert_eq!(made.ways(), [Ok(()), Ok(()), Ok(())]);
    }
}
