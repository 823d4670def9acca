//! When a pass is made, what it reads and replaces, and what cuts it short.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::testing::Bench;

struct Case {
    bench: Bench,
    archive: Archive,
}

/// Key and certificate, valid until the end of this year; it is 2026.
fn pem(year: i32) -> Secret {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.org".to_string()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 12, 31);
    let leaf = params.self_signed(&key).unwrap();
    Secret::new(format!("{}{}", key.serialize_pem(), leaf.pem()))
}

fn failure(kind: StoreErrorKind) -> StoreError {
    StoreError { kind, path: "archive/x".into(), detail: "of a test".into() }
}

impl Case {
    fn new() -> Case {
        let mut case = Case { bench: Bench::new(), archive: Archive::default() };
        case.archive.start(case.bench.now.mono);
        case
    }

    /// A pass over these files until it ends; what was read, and what was replaced.
    fn pass(
        &mut self,
        files: &[(&str, Result<Secret, StoreErrorKind>)],
        written: Result<(), StoreErrorKind>,
    ) -> (Vec<String>, Vec<(String, Secret)>) {
        let (mut read, mut replaced) = (Vec::new(), Vec::new());
        let mut output = self.archive.handle_timeout(self.bench.now);
        assert!(self.archive.handle_timeout(self.bench.now).is_none(), "one at a time");
        let mut steps = crate::testing::Steps::default();
        while let Some(next) = output {
            steps.count();
            assert!(self.archive.poll_timeout().is_none());
            let cx = &mut self.bench.cx();
            output = match next {
                ArchiveOutput::Load(Load::Archive { after }) => {
                    let follows = |name: &&str| after.as_deref().is_none_or(|after| *name > after);
                    let names = files.iter().map(|(name, _)| *name).filter(follows).take(2);
                    self.archive.listed(cx, Ok(names.map(str::to_string).collect()))
                }
                ArchiveOutput::Load(Load::Archived(file)) => {
                    let (_, found) = files.iter().find(|(name, _)| *name == file).unwrap();
                    read.push(file.clone());
                    self.archive.read(cx, &file, found.clone().map_err(failure))
                }
                ArchiveOutput::Store(file, Change::ReplaceArchived { file: same, pem }) => {
                    assert_eq!(file, same);
                    replaced.push((file.clone(), pem));
                    self.archive.written(cx, &file, written.map_err(failure))
                }
                other => panic!("{other:?}"),
            };
        }
        (read, replaced)
    }

    /// Sleeps until the next pass; how long that was.
    fn sleep(&mut self) -> Duration {
        let at = self.archive.poll_timeout().expect("a next pass");
        let pause = at.since(self.bench.now.mono);
        self.bench.pass(pause);
        pause
    }
}

const REMOVED: &str = "private keys of expired certificates removed from archive/";

#[test]
fn keys_of_expired_certificates_go_and_others_stay() {
    let mut case = Case::new();
    let (old, new) = (pem(2025), pem(2027));
    let files = [
        ("a.org.1.pem", Ok(old.clone())),
        ("a.org.pem", Ok(new)),
        ("b.org.pem", Ok(old)),
        ("state.json", Ok(Secret::new("{}".into()))),
    ];
    let (read, replaced) = case.pass(&files, Ok(()));
    assert_eq!(read, ["a.org.1.pem", "a.org.pem", "b.org.pem"]);
    let names: Vec<&str> = replaced.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a.org.1.pem", "b.org.pem"]);
    for (_, pem) in &replaced {
        assert!(!pem.expose().contains("PRIVATE KEY") && pem.expose().contains("CERTIFICATE"));
    }
    let said: Vec<_> =
        case.bench.log.iter().filter(|it| it.level > crate::log::Level::Debug).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(
        (&*said[0].message, &said[0].fields[..]),
        (REMOVED, &[("files", "2".to_string())][..])
    );

    // Once more a day later, of what was left: nothing to do, and nothing to be said.
    let pause = case.sleep();
    assert!((PASS_PAUSE * 3 / 4..=PASS_PAUSE * 5 / 4).contains(&pause), "{pause:?}");
    let kept: Vec<_> =
        replaced.iter().map(|(name, pem)| (name.as_str(), Ok(pem.clone()))).collect();
    let (read, replaced) = case.pass(&kept, Ok(()));
    assert_eq!((read.len(), replaced.len()), (2, 0));
    assert_eq!(case.bench.logged(REMOVED), 1);
}

#[test]
fn a_clock_that_is_set_during_a_pass_removes_no_key() {
    let mut case = Case::new();
    assert!(case.archive.handle_timeout(case.bench.now).is_some());
    let names = vec!["a.org.pem".to_string()];
    assert!(case.archive.listed(&mut case.bench.cx(), Ok(names)).is_some());
    case.bench.now.wall = case.bench.now.wall.plus(Duration::from_secs(14 * 365 * 24 * 3600));
    let output = case.archive.read(&mut case.bench.cx(), "a.org.pem", Ok(pem(2027)));
    assert!(matches!(output, Some(ArchiveOutput::Load(Load::Archive { .. }))), "{output:?}");
}

#[test]
fn what_cannot_be_read_is_skipped_and_what_has_no_date_is_said_once() {
    let mut case = Case::new();
    let key = Secret::new("-----BEGIN PRIVATE KEY-----\nMIGH".into());
    let files = [
        ("a.pem", Err(StoreErrorKind::NotAFile)),
        ("b.pem", Err(StoreErrorKind::Missing)),
        ("c.pem", Err(StoreErrorKind::NotWritable)),
        ("d.pem", Ok(key.clone())),
        ("e.pem", Ok(key)),
        ("f.pem", Ok(pem(2025))),
    ];
    for passes in 1..4 {
        let (read, replaced) = case.pass(&files, Ok(()));
        assert_eq!((read.len(), replaced.len()), (6, 1), "{passes}");
        case.sleep();
    }
    let warned: Vec<_> =
        case.bench.log.iter().filter(|it| it.level == crate::log::Level::Warn).collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    let fields = [("files", "2".to_string()), ("first", "d.pem".to_string())];
    assert_eq!(warned[0].fields, fields);
}

#[test]
fn a_disk_that_fails_is_tried_again_within_hours() {
    let mut case = Case::new();
    let files = [("a.pem", Ok(pem(2025))), ("b.pem", Ok(pem(2025)))];
    let (read, replaced) = case.pass(&files, Err(StoreErrorKind::Full));
    assert_eq!((read.len(), replaced.len()), (1, 1));
    let pause = case.sleep();
    assert!((RETRY_PAUSE * 3 / 4..=RETRY_PAUSE * 5 / 4).contains(&pause), "{pause:?}");
    let (read, _) = case.pass(&[("a.pem", Err(StoreErrorKind::Io)), files[1].clone()], Ok(()));
    assert_eq!(read, ["a.pem"]);
    case.sleep();
    assert!(case.archive.handle_timeout(case.bench.now).is_some());
    let gone = Err(failure(StoreErrorKind::Missing));
    assert!(case.archive.listed(&mut case.bench.cx(), gone).is_none());
    case.sleep();
    // What stands in the way of one file keeps no other one.
    let (read, replaced) = case.pass(&files, Err(StoreErrorKind::NotAFile));
    assert_eq!((read.len(), replaced.len()), (2, 2));
    case.sleep();
    let (_, replaced) = case.pass(&files, Ok(()));
    assert_eq!(replaced.len(), 2);
    assert_eq!(case.bench.logged("cannot remove private keys from archive/"), 3);
}

#[test]
fn answers_to_nothing_change_nothing() {
    let mut case = Case::new();
    let cx = &mut case.bench.cx();
    assert!(case.archive.listed(cx, Ok(vec!["a.pem".into()])).is_none());
    assert!(case.archive.read(cx, "a.pem", Ok(pem(2025))).is_none());
    assert!(case.archive.written(cx, "a.pem", Ok(())).is_none());
    assert_eq!(case.archive.poll_timeout(), Some(case.bench.now.mono));
    assert_eq!(Archive::default().poll_timeout(), None);
}
