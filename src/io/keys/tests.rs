//! Tests of keys: every kind of account key signs so that its public half verifies it.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384};
use x509_parser::prelude::FromDer as _;

use super::*;
use crate::pki::{Bundle, Leaf};

const PKCS1: &str = include_str!("../../../tests/fixtures/client-pkcs1.key");
const PKCS8: &str = include_str!("../../../tests/fixtures/client-pkcs8.key");
/// Of DER (X.690 section 8.3).
const INTEGER: u8 = 0x02;
const SEC1: &str = include_str!("../../../tests/fixtures/client-sec1.key");

fn verifies(public: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    match public {
        PublicKey::P256 { x, y } => {
            let algorithm: &dyn VerificationAlgorithm = &ECDSA_P256_SHA256_FIXED;
            let point = [&[4][..], x, y].concat();
            UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
        }
        PublicKey::Rsa { n, e } => RsaPublicKeyComponents { n, e }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .is_ok(),
    }
}

#[test]
fn account_keys_of_every_kind_sign() {
    let mut keys = RingKeys::new();
    let new = keys.new_account_key().unwrap();
    assert!(new.expose().starts_with("-----BEGIN PRIVATE KEY-----"));
    let mut publics = Vec::new();
    for pem in [PKCS1, PKCS8, SEC1, new.expose()] {
        let key = keys.read_account_key(&Secret::new(pem.into())).unwrap();
        let signature = keys.sign(&key, b"message").unwrap();
        let length = if matches!(key.public, PublicKey::Rsa { .. }) { 256 } else { 64 };
        assert_eq!(signature.len(), length);
        assert!(verifies(&key.public, b"message", &signature));
        assert!(!verifies(&key.public, b"massage", &signature));
        publics.push(key.public);
    }
    assert_eq!(publics[0], publics[1], "one key in two writings");
    assert_ne!(publics[2], publics[3]);
    let PublicKey::Rsa { n, e } = &publics[0] else { panic!("an RSA key") };
    assert_eq!((n.len(), n[0] == 0, e.as_slice()), (256, false, &[1, 0, 1][..]));
}

#[test]
fn what_is_no_account_key_is_refused() {
    let mut keys = RingKeys::new();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    let cut = PKCS1.replace("\nMII", "\nMI");
    for pem in
        ["", "rubbish", &cut, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
    {
        assert!(keys.read_account_key(&Secret::new(pem.into())).is_err(), "{pem}");
    }
    let error = keys.read_account_key(&Secret::new(p384)).expect_err("not P-256");
    assert!(matches!(error, KeyError::Rejected(_)), "{error}");
    let unknown = AccountKey { id: 99, public: PublicKey::Rsa { n: vec![], e: vec![] } };
    assert_eq!(keys.sign(&unknown, b""), Err(KeyError::Failed));
}

#[test]
fn a_request_names_exactly_the_domains_and_its_key_is_new() {
    let mut keys = RingKeys::new();
    let names = [Domain::parse("a.org").unwrap(), Domain::parse("www.b.org").unwrap()];
    let request = keys.certificate_request(&names, KeyType::P256).unwrap();
    let again = keys.certificate_request(&names, KeyType::P256).unwrap();
    assert_ne!(request.key, again.key);
    let (_, csr) = X509CertificationRequest::from_der(&request.csr).unwrap();
    csr.verify_signature().unwrap();
    assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
    let found: Vec<String> = csr
        .requested_extensions()
        .unwrap()
        .flat_map(|extension| match extension {
            x509_parser::extensions::ParsedExtension::SubjectAlternativeName(names) => {
                names.general_names.iter().map(ToString::to_string).collect::<Vec<_>>()
            }
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(found, ["DNSName(a.org)", "DNSName(www.b.org)"]);
}

#[test]
fn a_request_of_either_type_is_signed_by_a_key_of_that_type() {
    let mut keys = RingKeys::new();
    let names = [Domain::parse("a.org").unwrap()];
    let curves = [(KeyType::P256, OID_EC_P256, 256), (KeyType::P384, OID_NIST_EC_P384, 384)];
    for (key_type, curve, bits) in curves {
        let request = keys.certificate_request(&names, key_type).unwrap();
        let (_, csr) = X509CertificationRequest::from_der(&request.csr).unwrap();
        csr.verify_signature().unwrap();
        let public = &csr.certification_request_info.subject_pki;
        let parameters = public.algorithm.parameters.as_ref().unwrap();
        assert_eq!(parameters.as_oid().unwrap(), curve);
        assert_eq!(public.parsed().unwrap().key_size(), bits);
        let key = KeyPair::from_pem(request.key.expose()).unwrap();
        assert_eq!(key.public_key_raw(), public.subject_public_key.data.as_ref());
    }
}

/// One signature in 256 has a leading zero in r, one in s; some signers drop it.
#[test]
fn signatures_with_leading_zeros_keep_their_length() {
    let mut keys = RingKeys::new();
    let key = keys.read_account_key(&Secret::new(SEC1.into())).unwrap();
    let (mut zero_r, mut zero_s) = (0, 0);
    for number in 0..50_000_u32 {
        let message = number.to_be_bytes();
        let signature = keys.sign(&key, &message).unwrap();
        assert_eq!(signature.len(), 64);
        zero_r += u32::from(signature[0] == 0);
        zero_s += u32::from(signature[32] == 0);
        if signature[0] == 0 || signature[32] == 0 {
            assert!(verifies(&key.public, &message, &signature));
        }
        if zero_r >= 2 && zero_s >= 2 {
            return;
        }
    }
    panic!("no signature with leading zeros");
}

#[test]
fn coordinates_with_leading_zeros_keep_their_length() {
    let mut keys = RingKeys::new();
    let (mut zero_x, mut zero_y) = (false, false);
    for _ in 0..50_000 {
        let key = keys.new_account_key().and_then(|pem| keys.read_account_key(&pem)).unwrap();
        let PublicKey::P256 { x, y } = &key.public else { panic!("an EC key") };
        if x[0] == 0 || y[0] == 0 {
            zero_x |= x[0] == 0;
            zero_y |= y[0] == 0;
            let signature = keys.sign(&key, b"message").unwrap();
            assert!(verifies(&key.public, b"message", &signature));
        }
        if zero_x && zero_y {
            return;
        }
    }
    panic!("no key with leading zeros");
}

#[test]
fn the_fallback_is_whole_and_lasts_ten_years() {
    let now = UnixTime::from_seconds(1_795_392_000);
    let pem = RingKeys::new().fallback(now).unwrap();
    let bundle = Bundle::parse(pem.expose()).unwrap();
    bundle.key_matches().unwrap();
    let Leaf { not_before, not_after, issuer_common_name, .. } = bundle.leaf();
    assert_eq!((*not_before, *not_after), (now, now.plus(FALLBACK_LIFETIME)));
    assert_eq!(issuer_common_name.as_deref(), Some("*"));
}

#[test]
fn chance_differs() {
    let mut keys = RingKeys::new();
    let numbers: std::collections::BTreeSet<u64> = (0..100).map(|_| keys.random()).collect();
    assert_eq!(numbers.len(), 100);
}

/// Only the modulus matters: ring says no before it looks at the rest.
fn rsa_key(bits: usize) -> String {
    let number = |bytes: &[u8]| der(INTEGER, &[&[0], bytes]).to_vec();
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] >>= modulus.len() * 8 - bits;
    let numbers = [&[0][..], &modulus, &[1, 0, 1], &[9; 64], &[9], &[9], &[9], &[9], &[9]];
    let numbers: Vec<Vec<u8>> = numbers.iter().map(|bytes| number(bytes)).collect();
    let numbers: Vec<&[u8]> = numbers.iter().map(Vec::as_slice).collect();
    pem::write(&[(pem::RSA_PRIVATE_KEY, &der(SEQUENCE, &numbers))]).expose().into()
}

#[test]
fn the_size_of_an_rsa_key_that_cannot_sign_is_named() {
    let mut keys = RingKeys::new();
    for bits in [512, 1024, 2047, 2049, 2560, 4608, 8192] {
        let error = keys.read_account_key(&Secret::new(rsa_key(bits))).unwrap_err();
        let text = error.to_string();
        let expected =
            format!("the RSA key has {bits} bits; keys of 2048, 3072 and 4096 bits are supported");
        assert_eq!(text, expected);
    }
    for bits in [2048, 3072, 4096] {
        let error = keys.read_account_key(&Secret::new(rsa_key(bits))).unwrap_err();
        assert!(matches!(error, KeyError::Rejected(_)), "its numbers are none: {error}");
    }
}
