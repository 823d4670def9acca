//! Sorts the chain of a new certificate. Some CAs send the leaf twice, the issuers in any order, or unrelated
//! and expired certificates after a valid chain. Never verifies a signature, and never reduces a chain to
//! its leaf: a chain that cannot be sorted is returned as it was sent, and the gate reports what is wrong.

use rustls::pki_types::CertificateDer;

use super::leaf::{Leaf, issuer_and_subject, subject_key_info};
use crate::time::UnixTime;

/// The leaf, which is for this key, and behind each certificate one that bears the name of its issuer, as
/// far as there is one that is valid now. The first issuer may be one that is not, where there is no other.
pub(super) fn in_order(
    sent: &[CertificateDer<'static>],
    key: Option<&[u8]>,
    now: UnixTime,
) -> Vec<CertificateDer<'static>> {
    let mut rest: Vec<&CertificateDer<'static>> = Vec::new();
    for der in sent {
        if !rest.contains(&der) {
            rest.push(der);
        }
    }
    let unique = rest.len();
    let is_for_key = |der: &&CertificateDer<'_>| key.is_some() && subject_key_info(der) == key;
    let leaf = rest.iter().position(is_for_key).unwrap_or(0);
    let mut ordered = Vec::new();
    let mut next = (leaf < rest.len()).then(|| rest.remove(leaf));
    while let Some(der) = next {
        ordered.push(der.clone());
        next = issuer_of(der, &rest, ordered.len() == 1, now).map(|place| rest.remove(place));
    }
    if ordered.len() < unique.min(2) { sent.to_vec() } else { ordered }
}

/// Where the issuer of a certificate is, by its name.
fn issuer_of(
    der: &CertificateDer<'_>,
    rest: &[&CertificateDer<'static>],
    is_leaf: bool,
    now: UnixTime,
) -> Option<usize> {
    let (issuer, subject) = issuer_and_subject(der)?;
    if issuer == subject {
        return None;
    }
    let is_named =
        |it: &CertificateDer<'_>| issuer_and_subject(it).is_some_and(|(_, it)| it == issuer);
    let is_valid = |it: &CertificateDer<'_>| {
        Leaf::parse(it).is_some_and(|it| it.not_before <= now && now <= it.not_after)
    };
    let valid = rest.iter().position(|it| is_named(it) && is_valid(it));
    valid.or_else(|| rest.iter().position(|it| is_leaf && is_named(it)))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    const NOW: i32 = 2026;

    fn now() -> UnixTime {
        UnixTime::from_rfc3339("2026-06-01T00:00:00Z").unwrap()
    }

    fn params(name: &str, until: i32) -> CertificateParams {
        let mut params = CertificateParams::new([format!("{name}.example")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        params
    }

    fn der(der: &rcgen::Certificate) -> CertificateDer<'static> {
        der.der().clone()
    }

    #[test]
    fn what_cas_send_is_put_in_order() {
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(params("root", NOW), key()).unwrap();
        let middle = CertifiedIssuer::signed_by(params("middle", NOW), key(), &root).unwrap();
        let old = CertifiedIssuer::signed_by(params("middle", NOW - 1), key(), &root).unwrap();
        let stranger = CertifiedIssuer::self_signed(params("stranger", NOW), key()).unwrap();
        let stranger = der(stranger.as_ref());
        let own = key();
        let leaf = der(&params("leaf", NOW).signed_by(&own, &middle).unwrap());
        let expired = params("root", NOW - 1);
        let expired = der(&expired.self_signed(&key()).unwrap());
        let (root, middle, old) = (der(root.as_ref()), der(middle.as_ref()), der(old.as_ref()));
        let spki = subject_key_info(&leaf).unwrap().to_vec();
        let ordered = |sent: &[&CertificateDer<'static>]| {
            let sent: Vec<_> = sent.iter().map(|it| (*it).clone()).collect();
            in_order(&sent, Some(&spki), now())
        };
        let whole = [&leaf, &middle, &root].map(Clone::clone);
        for sent in [
            vec![&leaf, &middle, &root],
            vec![&leaf, &leaf, &middle, &root],
            vec![&leaf, &root, &middle],
            vec![&root, &middle, &leaf],
            vec![&leaf, &old, &middle, &root],
            vec![&leaf, &middle, &stranger, &root, &expired],
        ] {
            assert_eq!(ordered(&sent), whole);
        }
        assert_eq!(ordered(&[&leaf, &middle, &expired]), whole[..2], "not behind a sound chain");
        assert_eq!(ordered(&[&leaf, &leaf]), whole[..1]);
        // Nothing is made of what is none.
        assert_eq!(ordered(&[&leaf, &stranger]), [leaf.clone(), stranger.clone()]);
        assert_eq!(
            ordered(&[&leaf, &old]),
            [leaf.clone(), old.clone()],
            "it is said to have expired"
        );
        assert_eq!(ordered(&[&stranger, &root]), [stranger.clone(), root.clone()]);
        assert_eq!(in_order(&[], None, now()), []);
        // In order, it stays so.
        assert_eq!(ordered(&[&whole[0], &whole[1], &whole[2]]), whole);
    }
}
