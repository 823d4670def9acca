//! What is written, what is read as OpenSSL reads it, and what no reading loses.

use super::*;

const A: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const B: &str = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";

/// Labels and DER.
type Read = Result<Vec<(String, Vec<u8>)>, PemError>;

fn shown(section: Section) -> (String, Vec<u8>) {
    (section.label, section.der.to_vec())
}

/// As OpenSSL reads it.
fn openssl(text: &str) -> Read {
    sections(text).map(|section| section.map(shown)).collect()
}

fn all(text: &str) -> Read {
    read_all(text).map(|all| all.into_iter().map(shown).collect())
}

fn certificates(ders: &[[u8; 3]]) -> Read {
    Ok(ders.iter().map(|der| (CERTIFICATE.into(), der.to_vec())).collect())
}

fn two() -> Read {
    certificates(&[[0, 0, 0], [4, 16, 65]])
}

#[test]
fn what_is_written_is_read_and_never_grows() {
    for length in 1..200_u8 {
        let (key, certificate): (Vec<u8>, Vec<u8>) = ((0..length).collect(), vec![7; 48]);
        let written = [(PRIVATE_KEY, &key[..]), (CERTIFICATE, &certificate[..])];
        let text = write(&written);
        let planned: usize = written.iter().map(chars).sum();
        assert_eq!(text.expose().len(), planned, "{length}");
        assert!(text.expose().lines().all(|line| line.len() <= LINE_CHARS));
        let expected = Ok(vec![(PRIVATE_KEY.into(), key), (CERTIFICATE.into(), certificate)]);
        assert_eq!(openssl(text.expose()), expected);
        assert_eq!(all(text.expose()), expected);
    }
}

#[test]
fn shapes_that_openssl_takes() {
    let plain = [A, B].concat();
    let long = format!("{}\n", "x".repeat(254)) + &plain;
    for text in [
        plain.clone(),
        plain.replace('\n', "\r\n"),
        plain.replace('\n', " \t\u{e9}\r\n"),
        format!("\u{feff}{plain}"),
        plain.trim_end().into(),
        format!(
            "subject=/CN=a\n\n{A}\n\ntext\n-----BEGIN\n-----END CERTIFICATE-----\n{B}\ngarbage"
        ),
        plain.replace("AAAA", " AA\tA\nA"),
        plain.replace("AAAA\n", "\nAAAA\n"),
        plain.replace("AAAA", "AAAA-anything at all"),
        plain.replace("-----\nAAAA", "-----\0what\nAAAA"),
        long,
    ] {
        assert_eq!(openssl(&text), two(), "{text}");
    }
    // A certificate whose END line is lost swallows the next one: what is read is lost silently.
    let lost = [A, B].concat().replacen("\n-----END CERTIFICATE-----", "", 1);
    assert_eq!(openssl(&lost), certificates(&[[0, 0, 0]]));
    assert_eq!(all(&lost), Err(PemError::Begin));
}

#[test]
fn shapes_that_openssl_refuses() {
    let label = || CERTIFICATE.to_string();
    for (text, error) in [
        (A.replace("\n-----END", "-----END"), PemError::NoEnd(label())),
        (A[..A.len() - 5].into(), PemError::WrongEnd(label())),
        (A.replace("\n-----END", "\n -----END"), PemError::NoEnd(label())),
        (A.replace("END CERTIFICATE", "END CERT"), PemError::WrongEnd(label())),
        (
            [A, B].concat().replace("-----\n-----BEGIN", "----------BEGIN"),
            PemError::WrongEnd(label()),
        ),
        (A.replace("AAAA", "AAA"), PemError::Base64(label())),
        (A.replace("AAAA", "AA*A"), PemError::Base64(label())),
        (A.replace("AAAA", "A=AA"), PemError::Base64(label())),
        (A.replace("AAAA\n", ""), PemError::Empty(label())),
        (A.replace("AAAA\n", "AAAA\n\n"), PemError::Empty(label())),
        (A.replace("AAAA\n", "\n\nAAAA\n"), PemError::WrongEnd(label())),
        (A.replace("AAAA\n", "\nAAAA\nAAAA\n"), PemError::WrongEnd(label())),
    ] {
        assert_eq!(openssl(&text), Err(error), "{text}");
    }
    let header = A.replace("AAAA", "Proc-Type: 4,ENCRYPTED\n\nAAAA");
    let section = sections(&header).next().unwrap().unwrap();
    assert!(section.has_header && section.der[..] == [0, 0, 0]);
    assert_eq!(all(&header), Err(PemError::Header(label())));
}

#[test]
fn markers_may_be_joined_and_no_section_is_lost() {
    let joined = [A, B].concat().replace("-----\n-----BEGIN", "----------BEGIN");
    for text in [
        joined.clone(),
        joined.replace('\n', " "),
        joined.replace('\n', ""),
        joined.replace('\n', "\n\n"),
        joined.replace('\n', "\r\n  "),
        format!("issuer: me{joined}and so on"),
        joined.replace("----------", "-----\u{feff}-----"),
    ] {
        assert_eq!(all(&text), two(), "{text}");
    }
    for (text, error) in [
        (
            joined.replace("-----BEGIN CERTIFICATE-----\nB", "-----BEGIN CERTIFICATE----\nB"),
            PemError::Begin,
        ),
        (joined.replace("-----BEGIN CERTIFICATE-----\nB", "-----BEGIN\nB"), PemError::Begin),
        (joined[..joined.len() - 30].into(), PemError::NoEnd(CERTIFICATE.into())),
        // The dashes of one marker may be those of the next.
        ("-----BEGIN -----\nAAAA\n-----END -----BEGIN X".into(), PemError::Begin),
    ] {
        assert_eq!(all(&text), Err(error), "{text}");
    }
    for end in 0..joined.len() {
        let begun = joined[..end].matches("-----BEGIN").count();
        assert!(
            all(&joined[..end]).is_err() || all(&joined[..end]).is_ok_and(|all| all.len() == begun)
        );
    }
}
