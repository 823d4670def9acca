//! Each way in which a file of ours can be damaged, and foreign files next to it.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::*;
use crate::check::report::Verdict;
use crate::survey::LockState;

const NOW: &str = "2026-11-28T00:00:00Z";

fn now() -> UnixTime {
    UnixTime::from_rfc3339(NOW).unwrap()
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

/// A key, and a certificate for it that is valid until then.
fn parts(names: &[&str], until: (i32, u8, u8)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("subject of {}", key.serialize_pem().len()));
    (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
}

fn good(name: &str) -> String {
    let (key, certificate) = parts(&[name], (2027, 1, 1));
    key + &certificate
}

fn survey(names: &[&str], foreign: Vec<ForeignFile>, fallback: Option<Found>) -> Survey {
    Survey {
        dir: "/s".into(),
        missing: None,
        barred: Vec::new(),
        free_bytes: None,
        free_files: None,
        account_key: None,
        certificates: names.iter().map(|name| domain(name)).collect(),
        fallback,
        foreign,
        more_foreign: 0,
        odd_modes: Vec::new(),
        lock: LockState::Free,
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

/// What is said of these files, of which apps require `a.org`.
fn said(survey: &Survey, files: &[(&str, &str)]) -> Vec<(Verdict, String)> {
    let mut checked = Files::default();
    checked.start(survey);
    while let Some(Load::Certificate(name)) = checked.next() {
        let file = files.iter().find(|(it, _)| *it == name.as_str());
        let file = file.map(|(_, text)| secret(text)).ok_or(StoreError {
            kind: StoreErrorKind::Missing,
            path: "x".into(),
            detail: "no such file".into(),
        });
        checked.handle_file(&name, file);
    }
    assert!(checked.is_done());
    let required = BTreeMap::from([(domain("a.org"), "/a".to_string())]);
    let findings = checked.findings(now(), Some(&required), false);
    findings.into_iter().map(|it| (it.verdict, format!("{}; {}", it.seen, it.remedy))).collect()
}

#[test]
fn each_damage_of_a_file_of_ours_is_found() {
    let (key, certificate) = parts(&["a.org"], (2027, 1, 1));
    let (other_key, other) = parts(&["b.org"], (2027, 1, 1));
    let (old_key, old) = parts(&["a.org"], (2026, 11, 1));
    let whole = format!("{key}{certificate}");
    let cut_key = &whole[..key.len() / 2];
    let cut_certificate = &whole[..whole.len() - 60];
    let blocks = "certs/: a.org.pem: damaged, HAProxy refuses such files: ";
    let cases = [
        (whole.as_str(), Verdict::Ok, "certs/: 1 certificate file validated"),
        ("", Verdict::Fail, blocks),
        (cut_key, Verdict::Fail, blocks),
        (cut_certificate, Verdict::Fail, blocks),
        (&key, Verdict::Fail, blocks),
        (&certificate, Verdict::Fail, blocks),
        (&format!("{other_key}{certificate}"), Verdict::Fail, blocks),
        // The chain comes first, so that the key is not that of the leaf.
        (&format!("{key}{other}{certificate}"), Verdict::Fail, blocks),
        (&format!("{other_key}{other}"), Verdict::Warn, "a.org.pem: not for its own name: "),
        (
            &format!("{old_key}{old}"),
            Verdict::Fail,
            "certs/: has expired: a.org.pem (2026-11-01T00:00:00Z); start the daemon",
        ),
    ];
    for (text, verdict, words) in cases {
        let said = said(&survey(&["a.org"], Vec::new(), None), &[("a.org", text)]);
        let found = said.iter().any(|(it, text)| *it == verdict && text.contains(words));
        assert!(found, "{words}: {said:?}");
        let failed = said.iter().any(|(it, _)| *it == Verdict::Fail);
        assert_eq!(failed, verdict == Verdict::Fail, "{words}: {said:?}");
    }
}

#[test]
fn a_file_that_no_app_requires_may_expire() {
    let (key, old) = parts(&["z.org"], (2026, 11, 1));
    let said = said(&survey(&["z.org"], Vec::new(), None), &[("z.org", &(key + &old))]);
    assert_eq!(said[0].0, Verdict::Warn, "{said:?}");
    assert!(said[0].1.contains("which no app requires"), "{said:?}");
}

#[test]
fn a_chain_in_the_wrong_order_is_a_warning() {
    let (key, leaf) = parts(&["a.org"], (2027, 1, 1));
    let issuer = {
        let issuer = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "another");
        params.self_signed(&issuer).unwrap().pem()
    };
    let text = format!("{key}{leaf}{issuer}");
    let said = said(&survey(&["a.org"], Vec::new(), None), &[("a.org", &text)]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, Verdict::Warn);
    assert!(said[0].1.contains("its chain is out of order"), "{said:?}");
}

#[test]
fn what_is_not_ours_is_judged_by_the_names_of_our_files() {
    let (key, certificate) = parts(&["m.org", "www.m.org"], (2027, 1, 1));
    let ours = format!("{key}{certificate}");
    let foreign = |file: &str, found| ForeignFile { file: file.into(), found };
    let foreign = vec![
        foreign("a.txt", Found::File(secret(&good("www.m.org")))),
        foreign("b", Found::Link),
        foreign("c", Found::Other),
        foreign("d", Found::File(secret("text"))),
    ];
    let survey = Survey { more_foreign: 3, ..survey(&["m.org"], foreign, None) };
    let said = said(&survey, &[("m.org", &ours)]);
    for (verdict, words) in [
        (Verdict::Ok, "certs/: 1 certificate file validated"),
        (Verdict::Fail, "certs/: d: keeps HAProxy from reloading: "),
        // By a name that is not the file's own.
        (Verdict::Warn, "certs/: a.txt: is served in place of ours: "),
        (Verdict::Warn, "certs/: b: is not ours: it is a symbolic link, which HAProxy follows and"),
        (Verdict::Warn, "certs/: c: is not ours: HAProxy passes over what is no file"),
        (Verdict::Warn, "certs/: 3 more files are"),
    ] {
        let found = said.iter().any(|(it, text)| *it == verdict && text.contains(words));
        assert!(found, "{words}: {said:?}");
    }
}

#[test]
fn a_misnamed_file_of_ours_is_judged_as_one_that_is_not() {
    let files = [("a.org", good("m.org")), ("m.org", good("m.org"))];
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let said = said(&survey(&["a.org", "m.org"], Vec::new(), None), &files);
    let words = "certs/: a.org.pem: is served in place of ours: ";
    assert!(said.iter().any(|(_, text)| text.contains(words)), "{said:?}");
}

#[test]
fn the_fallback_is_validated_too() {
    let found = |text: &str| Some(Found::File(secret(text)));
    let whole = good("fallback.example");
    assert!(said(&survey(&[], Vec::new(), found(&whole)), &[]).is_empty());
    let said = said(&survey(&[], Vec::new(), found(&whole[..whole.len() - 60])), &[]);
    assert!(said.len() == 1 && said[0].0 == Verdict::Fail, "{said:?}");
    assert!(
        said[0].1.starts_with("default.pem: damaged, HAProxy refuses such files: "),
        "{said:?}"
    );
}

#[test]
fn what_was_not_read_is_not_called_valid() {
    let mut files = Files::default();
    files.start(&survey(&["a.org", "b.org"], Vec::new(), None));
    files.handle_file(&domain("a.org"), Ok(secret(&good("a.org"))));
    files.give_up("time is up");
    let findings = files.findings(now(), None, false);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].verdict, Verdict::Warn);
    assert_eq!(findings[0].seen, "certs/: 1 file not validated: time is up");
}
