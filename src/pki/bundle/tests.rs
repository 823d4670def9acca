//! What is a whole file, what is not, and what is read of it.

use rcgen::{CertificateParams, KeyPair};

use super::*;

fn now() -> UnixTime {
    UnixTime::from_seconds(1_800_000_000)
}

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
    let file = Bundle::assemble(&key, &chain, now()).unwrap();
    let untidy = format!("# a comment\r\n{}", chain.replace('\n', "\r\n"));
    assert_eq!(Bundle::assemble(&key, &untidy, now()).unwrap(), file);
    let marks: Vec<&str> =
        file.expose().lines().filter(|line| line.starts_with("-----BEGIN")).collect();
    let certificate = "-----BEGIN CERTIFICATE-----";
    assert_eq!(marks, ["-----BEGIN PRIVATE KEY-----", certificate, certificate]);
    assert!(file.expose().ends_with("-----END CERTIFICATE-----\n"));
    assert!(file.expose().lines().all(|line| line.len() <= 64));
    let bundle = Bundle::parse(file.expose()).unwrap();
    assert_eq!(bundle.key_matches(), Ok(()));
    let first = read_certificates(&chain).unwrap().remove(0);
    assert_eq!(bundle.leaf_der(), first.as_ref());
    assert_eq!(bundle.covers(&[domain("a.org"), domain("b.org")]), Ok(()));
    let missing = BundleError::MissingName(domain("c.org"));
    assert_eq!(bundle.covers(&[domain("a.org"), domain("c.org")]), Err(missing));
    let shown = format!("{bundle:?}");
    assert!(shown.starts_with("Bundle { leaf: Leaf {") && shown.ends_with("}, .. }"), "{shown}");
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
    assert_eq!(Bundle::assemble(&key, &chain, now()), Err(BundleError::KeyMismatch));
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
    let no_base64 = BundleError::Pem(PemError::Base64("CERTIFICATE".into()));
    assert_eq!(error(&format!("{}{begin}!!!!\n{end}", key.expose())), no_base64);
    let short = format!("{}{begin}AAAA\n{end}", key.expose());
    assert_eq!(error(&short), BundleError::MalformedLeaf);
    let many = format!("{}{}", key.expose(), chain.repeat(CERTIFICATES_MAX));
    assert_eq!(error(&many), BundleError::TooManyCertificates);
    let whole = Bundle::assemble(&key, &chain, now()).unwrap();
    for end in 0..whole.expose().len() {
        let _ = Bundle::parse(&whole.expose()[..end]);
    }
}

#[test]
fn a_critical_extension_that_is_unknown_hides_no_name() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.org".to_string(), "*.b.org".to_string()]).unwrap();
    for oid in [&[2, 5, 29, 32][..], &[1, 3, 6, 1, 4, 1, 11129, 2, 4, 3]] {
        let mut extension = rcgen::CustomExtension::from_oid_content(oid, vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
        let leaf = params.self_signed(&key).unwrap().pem();
        let bundle = Bundle::as_haproxy_reads(&(key.serialize_pem() + &leaf)).unwrap();
        assert_eq!((bundle.key_matches(), bundle.can_be_loaded()), (Ok(()), Ok(())));
        assert_eq!(bundle.covers(&[domain("a.org"), domain("x.b.org")]), Ok(()));
        let missing = Err(BundleError::MissingName(domain("c.org")));
        assert_eq!(bundle.covers(&[domain("c.org")]), missing);
    }
}

#[test]
fn a_leaf_that_cannot_be_verified_is_not_said_to_lack_its_name() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.org".to_string()]).unwrap();
    // The names, once more.
    let value = [0x30, 7, 0x82, 5, b'a', b'.', b'o', b'r', b'g'];
    let twice = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], value.to_vec());
    params.custom_extensions.push(twice);
    let leaf = params.self_signed(&key).unwrap().pem();
    let bundle = Bundle::as_haproxy_reads(&(key.serialize_pem() + &leaf)).unwrap();
    let error = bundle.covers(&[domain("a.org")]).unwrap_err().to_string();
    assert!(error.starts_with("the first certificate cannot be verified: "), "{error}");
}
