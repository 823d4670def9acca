//! Removes private keys from the text of an archived certificate file, once its certificate has expired.
//! Judges the text by its PEM labels (RFC 7468), so that damaged files lose their keys, too. Knows nothing
//! of where the file is.

use crate::secret::Secret;
use crate::time::UnixTime;

use super::bundle::certificate;
use super::leaf::Leaf;
use super::pem;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";
/// How the label of every kind of private key ends: PKCS#8, PKCS#1, SEC1, encrypted ones.
const KEY_LABEL_END: &str = "PRIVATE KEY";
/// Sections that are tried for a certificate that can be read.
const SECTIONS_MAX: usize = 64;

/// What is to be done with the private key of an archived file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRemoval {
    /// It holds none.
    NoKey,
    /// Its certificate is valid until then.
    NotYet(UnixTime),
    /// Its certificate has expired: the text without any private key.
    Due(Secret),
    /// It holds no certificate that can be read, so that nobody knows until when its key is used.
    Unknown,
}

/// Judges an archived file. Its first certificate that can be read counts: key, leaf and chain are in
/// that order.
pub fn key_removal(text: &Secret, now: UnixTime) -> KeyRemoval {
    let kept = outside_keys(text.expose());
    if let [_] = *kept {
        return KeyRemoval::NoKey;
    }
    // A piece of a key need not be PEM, so that it is not among what is read.
    let rest = kept.concat();
    let sections = pem::sections(&rest).take(SECTIONS_MAX).filter_map(Result::ok);
    let mut certificates = sections.filter(|section| pem::is_certificate(&section.label));
    let Some(leaf) = certificates.find_map(|section| Leaf::parse(&certificate(&section))) else {
        return KeyRemoval::Unknown;
    };
    if leaf.not_after >= now {
        return KeyRemoval::NotYet(leaf.not_after);
    }
    let until = leaf.not_after;
    let note = format!("# private key removed: the certificate expired at {until}\n");
    KeyRemoval::Due(Secret::new(kept.join(&note)))
}

/// The pieces of a text between its private keys, in order; one more than there are keys. A key that was
/// cut off ends where the next section begins, or with the text.
fn outside_keys(text: &str) -> Vec<&str> {
    let (mut kept, mut kept_from, mut at) = (Vec::new(), 0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find(BEGIN)) {
        let begin = at + found;
        let label_from = begin + BEGIN.len();
        let rest = text.get(label_from..).unwrap_or_default();
        let label = rest.split_once(DASHES).map_or(rest, |(label, _)| label);
        // What follows may be another section already.
        let label = label.lines().next().unwrap_or_default();
        at = label_from;
        if label.trim_end().ends_with(KEY_LABEL_END) {
            kept.push(text.get(kept_from..begin).unwrap_or_default());
            at = key_end(text, label_from, label);
            kept_from = at;
        }
    }
    kept.push(text.get(kept_from..).unwrap_or_default());
    kept
}

/// Where a private key ends, with its line.
fn key_end(text: &str, label_from: usize, label: &str) -> usize {
    let rest = text.get(label_from..).unwrap_or_default();
    let end = format!("-----END {label}{DASHES}");
    let next = rest.find(BEGIN).unwrap_or(rest.len());
    let length = match rest.find(&end) {
        // The dashes of the next section may be taken for its last ones.
        Some(found) if found + end.len() <= next => {
            let length = found + end.len();
            let after = rest.get(length..).unwrap_or_default();
            let blank = after.find(|c: char| !matches!(c, '\r' | '\n' | ' ' | '\t'));
            length + blank.unwrap_or(after.len())
        }
        _ => next,
    };
    label_from + length
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A key, and a certificate that is valid until the end of a year.
    fn issued(year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.org".to_string()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
    }

    fn now() -> UnixTime {
        UnixTime::from_rfc3339("2026-11-23T00:00:00Z").unwrap()
    }

    fn removal(text: &str) -> KeyRemoval {
        key_removal(&Secret::new(text.into()), now())
    }

    const NOTE: &str = "# private key removed: the certificate expired at 2025-12-31T00:00:00Z\n";

    #[test]
    fn the_key_goes_with_the_certificate_and_all_else_stays() {
        let ((key, old), (_, issuer)) = (issued(2025), issued(2030));
        let head = "# marathon-acme did not put this into certs/a.org.pem:\n# why\n";
        let text = format!("{head}{key}{old}{issuer}");
        let expected = format!("{head}{NOTE}{old}{issuer}");
        assert_eq!(removal(&text), KeyRemoval::Due(Secret::new(expected.clone())));
        assert_eq!(removal(&expected), KeyRemoval::NoKey);
        // In any order, of any kind, with any line ends, more than one.
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let sec1 = key.replace("PRIVATE KEY", "EC PRIVATE KEY");
        let text = format!("{old}{parameters}{sec1}\r\n\r\n{}", key.replace('\n', "\r\n"));
        let expected = format!("{old}{parameters}{NOTE}{NOTE}");
        assert_eq!(removal(&text), KeyRemoval::Due(Secret::new(expected)));
    }

    #[test]
    fn a_key_stays_as_long_as_its_certificate_is_valid() {
        let (key, leaf) = issued(2030);
        let until = UnixTime::from_rfc3339("2030-12-31T00:00:00Z").unwrap();
        assert_eq!(removal(&format!("{key}{leaf}")), KeyRemoval::NotYet(until));
        let text = Secret::new(format!("{key}{leaf}"));
        assert_eq!(key_removal(&text, until), KeyRemoval::NotYet(until));
        let later = until.plus(std::time::Duration::from_secs(1));
        assert!(matches!(key_removal(&text, later), KeyRemoval::Due(_)));
    }

    #[test]
    fn what_is_damaged_loses_its_key_too_when_its_date_can_be_read() {
        let (key, old) = issued(2025);
        let cut = &key[..key.len() / 2];
        let expected = KeyRemoval::Due(Secret::new(format!("{NOTE}{old}")));
        assert_eq!(removal(&format!("{cut}{old}")), expected);
        let spoilt = key.replace('\n', "!\n");
        let removed = removal(&format!("{spoilt}{old}"));
        let KeyRemoval::Due(text) = removed else { panic!("{removed:?}") };
        assert!(!text.expose().contains("PRIVATE") && text.expose().contains(&old));
        for text in [key.clone(), cut.into(), format!("{key}{}", &old[..old.len() / 2])] {
            assert_eq!(removal(&text), KeyRemoval::Unknown);
        }
        for text in ["", "hello", "-----BEGIN ", "-----BEGIN CERTIFICATE-----\n", &old] {
            assert_eq!(removal(text), KeyRemoval::NoKey, "{text}");
        }
    }

    #[test]
    fn no_part_of_a_key_is_left_wherever_the_file_was_cut() {
        let (key, old) = issued(2025);
        let secret: Vec<&str> = key.lines().filter(|line| !line.contains("-----")).collect();
        for end in 0..=key.len() {
            let text = format!("{}{old}", &key[..end]);
            match removal(&text) {
                KeyRemoval::Due(text) => {
                    assert!(secret.iter().all(|line| !text.expose().contains(line)), "{end}");
                }
                // Its label was not whole, so that nothing of the key was there.
                KeyRemoval::NoKey => assert!(end <= "-----BEGIN PRIVATE KE".len(), "{end}"),
                other => panic!("{end}: {other:?}"),
            }
        }
    }
}
