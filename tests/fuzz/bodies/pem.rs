//! Files of `certs/` and chains of a CA: no section is lost, what is taken for whole stays so when it is
//! written again, and a key that is not the certificate's never gets in.

use marathon_acme::domain::Domain;
use marathon_acme::pki::pem::{self, Section};
use marathon_acme::pki::{Bundle, same_leaf, topmost_issuer};
use marathon_acme::secret::Secret;
use marathon_acme::time::UnixTime;

use super::{keys::KEY_PEM, leaf};

/// A file, or a chain.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    sections(&text);
    if let Ok(bundle) = Bundle::as_haproxy_reads(&text) {
        leaf::check(bundle.leaf());
        let _ = (bundle.can_be_loaded(), bundle.lacks_chain(), bundle.has_issuer());
        assert!(bundle.cut().is_none_or(|error| !error.to_string().contains(char::is_control)));
    }
    let issuer = topmost_issuer(&text);
    assert!(issuer.is_none_or(|issuer| !issuer.contains(char::is_control)));
    let has_leaf = same_leaf(&text, &text);
    if let Ok(bundle) = Bundle::parse(&text) {
        assert!(!bundle.leaf_der().is_empty());
        leaf::check(bundle.leaf());
        let fits = bundle.key_matches().is_ok();
        let names = bundle.leaf().names.iter().filter_map(|name| Domain::parse(name).ok());
        let names: Vec<Domain> = names.take(8).collect();
        let _ = bundle.covers(&names);
        let other = Domain::parse("other.example").expect("a name");
        assert!(names.contains(&other) || fits_any(&bundle) || bundle.covers(&[other]).is_err());
        assert!(!format!("{bundle:?}").contains("PRIVATE"));
        let again = Bundle::assemble(&Secret::new(text.to_string()), "", now());
        // Where the first certificate is not the key's, another one of the chain may be.
        assert!(again.is_ok() || !fits, "{again:?}");
    }
    if has_leaf {
        assemble(&text);
    }
}

fn now() -> UnixTime {
    UnixTime::from_seconds(1_800_000_000)
}

/// Every marker is accounted for, and what was read is read again from what is written.
fn sections(text: &str) {
    let begun = text.matches("-----BEGIN").count();
    assert!(pem::sections(text).count() <= begun, "more sections than markers");
    let Ok(all) = pem::read_all(text) else { return };
    assert_eq!(all.len(), begun, "a section is lost");
    let pairs = |all: &[Section]| -> Vec<(String, Vec<u8>)> {
        all.iter().map(|it| (it.label.clone(), it.der.to_vec())).collect()
    };
    let read = pairs(&all);
    let parts: Vec<(&str, &[u8])> =
        read.iter().map(|(label, der)| (label.as_str(), &der[..])).collect();
    let written = pem::write(&parts);
    let again: Vec<Section> =
        pem::sections(written.expose()).map(|it| it.expect("whole")).collect();
    assert_eq!(pairs(&again), read);
}

/// Whether the certificate is for every name of some zone.
fn fits_any(bundle: &Bundle) -> bool {
    bundle.leaf().names.iter().any(|name| name.starts_with('*'))
}

/// The text as the answer to an order that was made with our key.
fn assemble(chain_pem: &str) {
    let Ok(file) = Bundle::assemble(&Secret::new(KEY_PEM.into()), chain_pem, now()) else { return };
    let bundle = Bundle::parse(file.expose()).expect("what is written is whole");
    bundle.key_matches().expect("it was checked");
    // It need not be the first, since the chain is put in order, and what follows its DER is left out.
    let sent = pem::read_all(chain_pem).expect("it was read");
    assert!(sent.iter().any(|it| it.der.starts_with(bundle.leaf_der())), "another certificate");
    assert_eq!(file.expose().matches("PRIVATE KEY-----").count(), 2, "one key");
    let again = Bundle::assemble(&Secret::new(String::new()), file.expose(), now()).expect("whole");
    assert!(again == file, "it does not stay as it is");
}
