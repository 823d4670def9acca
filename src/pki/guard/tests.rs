//! Every way in which a file that is not ours troubles HAProxy, and those in which none does.

use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;
use crate::secret::Secret;
use crate::testing::{ODD_CERTIFICATE, ODD_KEY, OTHER_ODD_KEY};

const EXPIRED: &str = "it has expired at 2026-11-01T00:00:00Z";

const NO_END: &str = "its section \"CERTIFICATE\" is cut off: it has no END line";

fn now() -> UnixTime {
    UnixTime::from_rfc3339("2026-11-28T00:00:00Z").expect("a time")
}

fn domains(list: &str) -> Vec<Domain> {
    list.split(' ').map(|name| Domain::parse(name).expect("a name")).collect()
}

/// A key and a certificate for it.
fn pair(names: &[&str], subject: &str, ends: (i32, u8, u8)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(ends.0, ends.1, ends.2);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
}

fn good(names: &[&str]) -> String {
    let (key, certificate) = pair(names, "nobody", (2027, 1, 1));
    certificate + &key
}

fn expired(names: &[&str]) -> String {
    let (key, certificate) = pair(names, "nobody", (2026, 11, 1));
    key + &certificate
}

fn file(name: &str, text: impl Into<String>) -> ForeignFile {
    ForeignFile { file: name.into(), found: Found::File(Secret::new(text.into())) }
}

/// What is thought of one of them, where `m.org.pem` is ours, for `m.org` and `www.m.org`.
fn judged(foreign: ForeignFile) -> (Verdict, String) {
    let (owner, names) = (&domains("m.org")[0], domains("m.org www.m.org"));
    let mut found = judge(&[foreign], [(owner, names.as_slice())].into_iter(), now());
    assert_eq!(found.len(), 1);
    let judgement = found.remove(0);
    (judgement.verdict, judgement.reason)
}

fn expect(foreign: ForeignFile, verdict: Verdict, reason: &str) {
    assert_eq!(judged(foreign), (verdict, reason.to_string()));
}

#[test]
fn each_of_the_fatal_kinds_blocks() {
    let (key, certificate) = pair(&["z.org"], "nobody", (2027, 1, 1));
    let (other_key, _) = pair(&["z.org"], "nobody", (2027, 1, 1));
    let whole = format!("{key}{certificate}");
    let neither = "it holds neither a private key nor a certificate";
    let files = [
        ("empty.pem", String::new(), "it is empty"),
        ("README", "hello".into(), neither),
        ("x.pem.new", "\n".into(), neither),
        ("z.key", key.clone(), "it holds no certificate"),
        ("z.crt", certificate.clone(), "it holds no private key"),
        (
            "z.pem",
            format!("{other_key}{certificate}"),
            "the private key is not that of the first certificate",
        ),
        ("cut.pem", whole[..whole.len() - 40].into(), NO_END),
        ("half.pem", whole[..whole.len() / 2].into(), NO_END),
        (".hidden.pem", certificate.replace("CERTIFICATE", "CRL"), "it holds no private key"),
        (
            "odd.pem",
            format!("{key}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "its first certificate is malformed",
        ),
    ];
    for (name, text, reason) in files {
        expect(file(name, text), Verdict::Blocks, reason);
    }
    let found = |found| ForeignFile { file: "x".into(), found };
    let link = "it is a symbolic link, which HAProxy follows and marathon-acme does not";
    expect(found(Found::Link), Verdict::Unknown, link);
    let denied = Found::Unreadable("denied\u{1b}[2J".into());
    expect(found(denied), Verdict::Blocks, "it cannot be read: denied\u{fffd}[2J");
}

#[test]
fn of_two_files_with_one_name_the_first_by_its_bytes_is_served() {
    let reason = "its name comes before m.org.pem, and it is for ";
    for name in ["a.pem", "M.org.pem", "m.org", "m.org-old.pem", "m.org.crt", ".m.org.pem.swp"] {
        let expected = format!("{reason}www.m.org");
        expect(file(name, good(&["x.org", "www.m.org"])), Verdict::Shadows, &expected);
    }
    for name in ["m.org.pem.bak", "m.org_old.pem", "z.pem"] {
        let expected = "HAProxy loads it too, for www.m.org, nobody";
        expect(file(name, good(&["www.m.org"])), Verdict::Harmless, expected);
    }
    let both = format!("{reason}m.org, www.m.org, and {EXPIRED}");
    expect(file("a", expired(&["www.m.org", "m.org"])), Verdict::Shadows, &both);
    // What HAProxy knows exactly goes before what it knows by a wildcard.
    let wildcard = "HAProxy loads it too, for *.m.org, nobody";
    expect(file("a", good(&["*.m.org"])), Verdict::Harmless, wildcard);
    let (key, certificate) = pair(&[], "WWW.M.org", (2027, 1, 1));
    expect(file("a", key + &certificate), Verdict::Shadows, &format!("{reason}www.m.org"));
}

#[test]
fn what_has_expired_and_what_does_nothing() {
    expect(file("z.pem", expired(&["z.org"])), Verdict::Expired, EXPIRED);
    let many = ["a.org", "b.org", "c.org", "d.org"];
    let expected = "HAProxy loads it too, for a.org, b.org, c.org and 2 more";
    expect(file("a.pem", good(&many)), Verdict::Harmless, expected);
    let folder = ForeignFile { file: "old".into(), found: Found::Other };
    expect(folder, Verdict::Harmless, "HAProxy passes over what is no file");
    for ending in companions::ENDINGS {
        let reason = "HAProxy loads no certificate from files of that ending";
        expect(file(&format!("a.pem{ending}"), ""), Verdict::Harmless, reason);
    }
    expect(file(".ocsp.pem", ""), Verdict::Blocks, "it is empty");
}

#[test]
fn what_haproxy_takes_and_we_would_not_is_no_trouble() {
    let (key, certificate) = pair(&["z.org"], "nobody", (2027, 1, 1));
    let harmless = "HAProxy loads it too, for z.org, nobody";
    // The first key counts.
    let (other_key, _) = pair(&["z.org"], "nobody", (2027, 1, 1));
    let texts = [
        format!("{key}{other_key}{certificate}"),
        format!("{key}{}", certificate.repeat(40)),
        format!("# words\r\n{}", format!("{certificate}{key}").replace('\n', "\r\n")),
    ];
    for text in texts {
        expect(file("z", text), Verdict::Harmless, harmless);
    }
    let odd = format!("{ODD_KEY}{ODD_CERTIFICATE}");
    expect(file("z", odd), Verdict::Harmless, "HAProxy loads it too, for a.org");
    let another = "the private key is not that of the first certificate";
    expect(file("z", format!("{OTHER_ODD_KEY}{ODD_CERTIFICATE}")), Verdict::Blocks, another);
    let long = format!("{key}{}", certificate.repeat(200));
    let read = usize::try_from(FOREIGN_FILE_BYTES_MAX).unwrap() + 1;
    assert!(long.len() > read);
    expect(file("z", &long[..read]), Verdict::Harmless, harmless);
    expect(
        file("z", "x".repeat(read)),
        Verdict::Blocks,
        "it holds neither a private key nor a certificate",
    );
}

#[test]
fn all_that_is_found_is_judged_in_its_order() {
    let foreign_files =
        [file("a", good(&["b.org"])), file("b", ""), file("z\u{1b}", expired(&["c.org"]))];
    let names = domains("b.org c.org");
    let ours = names.iter().map(|name| (name, std::slice::from_ref(name)));
    let found = judge(&foreign_files, ours, now());
    let verdicts: Vec<Verdict> = found.iter().map(|it| it.verdict).collect();
    assert_eq!(verdicts, [Verdict::Shadows, Verdict::Blocks, Verdict::Expired]);
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "certs/a is served in place of ours: its name comes before b.org.pem, and it is for b.org",
        "certs/b keeps HAProxy from reloading: it is empty",
        "certs/z\u{fffd}: it has expired at 2026-11-01T00:00:00Z",
    ];
    assert_eq!(said, expected);
    let later = now().plus(Duration::from_secs(60 * 24 * 60 * 60));
    let found = judge(&foreign_files[..1], std::iter::empty(), later);
    assert_eq!(found[0].verdict, Verdict::Expired);
    assert_eq!(
        Verdict::ALL.map(Verdict::name),
        ["blocks", "shadows", "unknown", "expired", "harmless"]
    );
}

#[test]
fn a_chain_that_is_cut_is_served_as_far_as_it_goes() {
    let (_, other) = pair(&["y.org"], "nobody", (2027, 1, 1));
    let whole = good(&["z.org"]) + &other;
    let joined = whole.replace("-----\n-----BEGIN PRIV", "-----\n\n-----BEGIN PRIV");
    expect(file("z.pem", joined), Verdict::Harmless, "HAProxy loads it too, for z.org, nobody");
    let cut = &whole[..whole.len() - 40];
    let reason = format!(
        "HAProxy loads it too, for z.org, nobody; {NO_END}, so that its chain is cut there, and HAProxy \
         after 2.6 refuses it"
    );
    expect(file("z.pem", cut), Verdict::Harmless, &reason);
    let odd =
        whole.replace(&other, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    expect(file("z.pem", odd), Verdict::Blocks, "certificate 2 of its chain is malformed");
}

/// What is thought of the last of these, beside `m.org.pem`, which is ours.
fn last_of(files: Vec<ForeignFile>) -> (Verdict, String) {
    let (owner, names) = (&domains("m.org")[0], domains("m.org"));
    let mut found = judge(&files, [(owner, names.as_slice())].into_iter(), now());
    let judgement = found.pop().unwrap();
    (judgement.verdict, judgement.reason)
}

#[test]
fn files_beside_a_certificate_block_when_haproxy_cannot_use_them() {
    let harmless =
        || (Verdict::Harmless, "HAProxy loads no certificate from files of that ending".into());
    let blocks = |reason: &str| (Verdict::Blocks, reason.to_string());
    let list = |name: &str, text: &str| vec![file("z.pem", good(&["z.org"])), file(name, text)];
    for base in ["m.org.pem", "z.pem"] {
        let sctl = format!("{base}.sctl");
        let no_list = format!(
            "HAProxy reads it with {base}, and it is no list of signed certificate timestamps"
        );
        for text in ["", "junk", "\0\0", "\0\u{2}\0\0", "\0\u{4}\0\u{3}x", "\0\u{4}\0\u{1}x\0"] {
            assert_eq!(last_of(list(&sctl, text)), blocks(&no_list), "{text:?}");
        }
        for text in ["\0\u{3}\0\u{1}x", "\0\u{7}\0\u{1}x\0\u{2}xy", "\0\u{fffd}"] {
            assert_eq!(last_of(list(&sctl, text)), harmless(), "{text:?}");
        }
    }
    assert_eq!(last_of(list("m.org.pem.ocsp", "junk")), harmless());
    let folder = ForeignFile { file: "m.org.pem.ocsp".into(), found: Found::Other };
    assert_eq!(last_of(vec![folder]), blocks("HAProxy reads it with m.org.pem, and cannot"));
    let lonely =
        "HAProxy reads it with z.pem, which is without its issuer, and there is no z.pem.issuer";
    assert_eq!(last_of(list("z.pem.ocsp", "junk")), blocks(lonely));
    let issuer = file("z.pem.issuer", "");
    let mut files = list("z.pem.ocsp", "junk");
    files.insert(0, issuer);
    assert_eq!(last_of(files), harmless());
    assert_eq!(last_of(list("y.pem.sctl", "junk")), harmless());
}
