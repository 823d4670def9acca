//! Certificates as DER: what is read of one is plain, and nothing that is not wholly one is taken for
//! it.

use marathon_acme::acme::renewal_info::{cert_id, url};
use marathon_acme::pki::Leaf;
use marathon_acme::pki::leaf::renewal_by_lifetime;
use marathon_acme::pki::verification::readable;
use marathon_acme::url::Url;

/// A certificate.
pub fn run(bytes: &[u8]) {
    assert_eq!(readable(bytes).len(), bytes.len());
    let Some(leaf) = Leaf::parse(bytes) else { return };
    check(&leaf);
    assert_eq!(Leaf::parse(&[bytes, &[0]].concat()), None, "a byte too many");
    assert_eq!(Leaf::parse(&bytes[..bytes.len() - 1]), None, "a byte too few");
}

/// What holds of whatever was read.
pub fn check(leaf: &Leaf) {
    for text in leaf.names.iter().chain(&leaf.issuer_common_name) {
        assert!(!text.contains(char::is_control));
    }
    assert!(!leaf.names.iter().any(|name| name.contains(|c: char| c.is_ascii_uppercase())));
    let renewal = renewal_by_lifetime(leaf.not_before, leaf.not_after);
    assert!(renewal <= leaf.not_after && renewal >= leaf.not_before.min(leaf.not_after));
    if let Some(name) = cert_id(leaf) {
        let base = Url::parse("https://ca.example/renewal").expect("a URL");
        let url = url(&base, &name).expect("a name of ours");
        assert_eq!(url.target(), format!("/renewal/{name}"));
    }
}
