//! Judges the survey of the storage directory. Looks at nothing itself.

use crate::hint::Hint;
use crate::keys::KeyError;
use crate::machine::{StoreError, StoreErrorKind};
use crate::survey::{LEASE, LockState, Survey};

use super::listed;
use super::report::Finding;

pub(super) const SUBJECT: &str = "storage";
/// With less room, in bytes, the daemon may soon be unable to write; it needs some MiB itself.
const FREE_BYTES_LOW: u64 = 64 * 1024 * 1024;
/// With less room, in bytes, it cannot write `state.json` and a certificate beside the old ones.
const FREE_BYTES_MIN: u64 = 1024 * 1024;
/// With fewer files that can be made, the daemon may soon be unable to make any.
const FREE_FILES_LOW: u64 = 100;
const MIB: u64 = 1024 * 1024;

/// Whether a daemon is at work on the storage right now.
pub(super) fn has_daemon(survey: &Survey) -> bool {
    matches!(survey.lock, LockState::Held { beat_age } if beat_age < LEASE)
}

/// What is to be said of the storage, and of `client.key` where it cannot be used; of the files in `certs/`
/// see `files.rs`.
pub(super) fn findings(survey: &Survey, key_error: Option<&KeyError>) -> Vec<Finding> {
    let dir = survey.dir.display();
    if let Some(error) = &survey.missing {
        let remedy = Hint::of_storage_directory(error.kind);
        return vec![Finding::fail(SUBJECT, error.to_string(), remedy)];
    }
    let mut findings = Vec::new();
    let is_odd = |error: &&StoreError| {
        matches!(error.kind, StoreErrorKind::NotADirectory | StoreErrorKind::NotAFile)
    };
    for error in survey.barred.iter().filter(is_odd) {
        let seen = format!("{dir}: {}: {}", error.path, error.detail);
        findings.push(Finding::fail(SUBJECT, seen, Hint::StorageOdd.text()));
    }
    let barred = survey.barred.iter().filter(|error| !is_odd(error));
    let remedy = |error: &StoreError| match Hint::of_storage(error.kind) {
        Some(hint) if error.kind != StoreErrorKind::NotWritable => hint.text().to_string(),
        _ => format!("let the daemon's user read and write below {dir}"),
    };
    let barred = barred.map(|error| ((error.detail.clone(), remedy(error)), error.path.as_str()));
    for ((detail, remedy), paths) in grouped(barred) {
        findings.push(Finding::fail(
            SUBJECT,
            format!("{dir}: {}: {detail}", listed(&paths)),
            remedy,
        ));
    }
    if survey.barred.is_empty() {
        let seen = format!(
            "{dir}: can be read and written, certificates={}{}",
            survey.certificates.len(),
            survey.free_bytes.map_or(String::new(), |free| format!(", {} MiB free", free / MIB))
        );
        findings.push(Finding::ok(SUBJECT, seen));
    }
    findings.extend(room(survey));
    findings.extend(key_error.map(|error| {
        Finding::fail(SUBJECT, format!("client.key: {error}"), Hint::AccountKey.text())
    }));
    let odd = survey.odd_modes.iter().map(|odd| {
        let seen = format!("mode {:04o} in place of {:04o}", odd.mode, odd.expected);
        (seen, odd.path.as_str())
    });
    for (seen, paths) in grouped(odd) {
        let remedy = "chmod it, give --cert-mode, or mount the volume with these modes";
        findings.push(Finding::warn(SUBJECT, format!("{seen}: {}", listed(&paths)), remedy));
    }
    findings.push(lock(survey));
    findings
}

/// What has something in common, together.
pub(super) fn grouped<'a, K: PartialEq>(
    items: impl Iterator<Item = (K, &'a str)>,
) -> Vec<(K, Vec<&'a str>)> {
    let mut groups: Vec<(K, Vec<&str>)> = Vec::new();
    for (key, item) in items {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, items)) => items.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    groups
}

fn room(survey: &Survey) -> Option<Finding> {
    let bytes = survey.free_bytes.filter(|free| *free < FREE_BYTES_LOW);
    let files = survey.free_files.filter(|free| *free < FREE_FILES_LOW);
    match (bytes, files) {
        (Some(free), _) if free < FREE_BYTES_MIN => {
            let seen = format!("{free} bytes are free on its file system");
            Some(Finding::fail(SUBJECT, seen, "make room"))
        }
        (_, Some(0)) => {
            let seen = "no more files can be made on its file system";
            Some(Finding::fail(SUBJECT, seen, "make room"))
        }
        (Some(free), _) => {
            let seen = format!("only {} MiB are free on its file system", free / MIB);
            Some(Finding::warn(SUBJECT, seen, "make room"))
        }
        (None, Some(free)) => {
            let seen = format!("only {free} more files can be made on its file system");
            Some(Finding::warn(SUBJECT, seen, "make room"))
        }
        (None, None) => None,
    }
}

fn lock(survey: &Survey) -> Finding {
    let subject = "daemon";
    match survey.lock {
        LockState::Held { beat_age } if beat_age < LEASE => {
            let age = beat_age.as_secs();
            Finding::ok(subject, format!("one is at work on the storage, seen {age} s ago"))
        }
        LockState::Held { beat_age } => {
            let age = beat_age.as_secs();
            let seen = format!("none is at work; the last one went without a word {age} s ago");
            Finding::ok(subject, seen)
        }
        LockState::Free => Finding::ok(subject, "none is at work on the storage"),
        LockState::Unknown => {
            let seen = "whether one is at work on the storage cannot be told";
            Finding::warn(subject, seen, "look who may read the file lock there")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::Verdict;
    use super::*;
    use crate::domain::Domain;
    use crate::survey::WrongMode;

    fn survey() -> Survey {
        Survey {
            dir: "/s".into(),
            missing: None,
            barred: Vec::new(),
            free_bytes: Some(1 << 33),
            free_files: None,
            account_key: None,
            certificates: vec![Domain::parse("a.org").unwrap()],
            fallback: None,
            foreign: Vec::new(),
            more_foreign: 0,
            odd_modes: Vec::new(),
            lock: LockState::Free,
        }
    }

    fn said(survey: &Survey) -> Vec<(Verdict, String)> {
        let text = |it: Finding| (it.verdict, format!("{}: {}", it.seen, it.remedy));
        findings(survey, None).into_iter().map(text).collect()
    }

    #[test]
    fn each_thing_that_can_be_amiss_is_a_line() {
        let error = |path: &str| StoreError {
            kind: StoreErrorKind::NotWritable,
            path: path.into(),
            detail: "Permission denied".into(),
        };
        let (kept, mode) = (survey(), WrongMode { path: "a".into(), mode: 0o644, expected: 0o600 });
        let cases = [
            (Survey { missing: Some(error("/s")), ..kept.clone() }, Verdict::Fail, "belong to the"),
            (
                Survey {
                    missing: Some(StoreError { kind: StoreErrorKind::Missing, ..error("/s") }),
                    ..kept.clone()
                },
                Verdict::Fail,
                "make the dir",
            ),
            (
                Survey {
                    barred: vec![StoreError { kind: StoreErrorKind::ReadOnly, ..error("certs") }],
                    ..kept.clone()
                },
                Verdict::Fail,
                "mount the volume of the storage directory writable",
            ),
            (
                Survey { barred: vec![error("certs")], ..kept.clone() },
                Verdict::Fail,
                "/s: certs: P",
            ),
            (Survey { free_bytes: Some(9), ..kept.clone() }, Verdict::Fail, "9 bytes are free"),
            (Survey { free_bytes: Some(3 << 20), ..kept.clone() }, Verdict::Warn, "only 3 MiB"),
            (Survey { free_files: Some(0), ..kept.clone() }, Verdict::Fail, "no more files"),
            (Survey { free_files: Some(9), ..kept.clone() }, Verdict::Warn, "only 9 more files"),
            (
                Survey { odd_modes: vec![mode], ..kept.clone() },
                Verdict::Warn,
                "mode 0644 in place of 0600: a",
            ),
            (Survey { lock: LockState::Unknown, ..kept.clone() }, Verdict::Warn, "cannot be told"),
        ];
        for (survey, verdict, words) in cases {
            let said = said(&survey);
            let found = said.iter().any(|(it, text)| *it == verdict && text.contains(words));
            assert!(found, "{words}: {said:?}");
        }
        assert!(said(&kept).iter().all(|(verdict, _)| *verdict == Verdict::Ok));
    }

    #[test]
    fn a_daemon_is_known_by_its_beats() {
        let held = |seconds| {
            let lock = LockState::Held { beat_age: Duration::from_secs(seconds) };
            has_daemon(&Survey { lock, ..survey() })
        };
        assert!(held(0) && held(9) && !held(10) && !has_daemon(&survey()));
    }

    #[test]
    fn an_account_key_that_cannot_be_used_has_its_remedy() {
        let found = findings(&survey(), Some(&KeyError::RsaSize(1024)));
        let fails: Vec<&Finding> = found.iter().filter(|it| it.verdict == Verdict::Fail).collect();
        let [finding] = fails[..] else { panic!("{found:?}") };
        assert!(finding.seen.starts_with("client.key: the RSA key has 1024 bits"), "{finding:?}");
        assert_eq!(finding.remedy, Hint::AccountKey.text());
    }
}
