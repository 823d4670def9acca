//! Several instances on one real directory.

use std::fs;
use std::path::Path;

use super::*;
use crate::machine::{Change, Inventory, Load, Loaded};
use crate::secret::Secret;

fn instance(dir: &Path, number: u64) -> Storage {
    Storage::new(dir.into(), 0o600, number)
}

fn open(storage: &mut Storage) -> Result<Inventory, StoreError> {
    match storage.load(Load::Storage) {
        Loaded::Storage(result) => result,
        other => panic!("{other:?}"),
    }
}

fn refused(storage: &mut Storage) -> StoreError {
    open(storage).expect_err("it is not free")
}

fn state(text: &str) -> Change {
    Change::State(text.into())
}

fn line(dir: &Path) -> String {
    fs::read_to_string(dir.join("lock")).unwrap()
}

#[test]
fn the_holder_shows_who_it_is_and_that_it_lives() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = instance(dir.path(), 0xabc);
    assert!(open(&mut first).unwrap().leased);
    let mut lines = vec![line(dir.path())];
    first.change(Change::Heartbeat).unwrap();
    lines.push(line(dir.path()));
    open(&mut first).unwrap();
    lines.push(line(dir.path()));
    for line in &lines {
        assert!(line.starts_with("0000000000000abc ") && line.ends_with('\n'), "{line}");
        assert_eq!(line.len(), lines[0].len());
    }
    assert!(lines[0] != lines[1] && lines[1] != lines[2]);
    let mut second = instance(dir.path(), 2);
    let error = refused(&mut second);
    assert_eq!((error.kind, error.detail.as_str()), (StoreErrorKind::Locked, lines[2].trim_end()));
    first.change(Change::Release).unwrap();
    first.change(Change::Release).unwrap();
    assert_eq!(line(dir.path()), "");
    open(&mut second).unwrap();
    assert_eq!(refused(&mut first).kind, StoreErrorKind::Locked);
}

#[test]
fn a_dead_instance_of_this_boot_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = instance(dir.path(), 1);
    open(&mut first).unwrap();
    drop(first);
    assert!(line(dir.path()).starts_with("0000000000000001 "), "nobody has emptied it");
    open(&mut instance(dir.path(), 2)).unwrap();
}

#[test]
fn what_is_held_by_an_unknown_kernel_is_taken_by_its_line_alone() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = "0000000000000001 0000000000000007 0f5f6a0e-another-boot";
    for line in [foreign, "no such words"] {
        fs::write(dir.path().join("lock"), format!("{line}\n")).unwrap();
        let mut second = instance(dir.path(), 2);
        let error = refused(&mut second);
        assert_eq!((error.kind, error.detail.as_str()), (StoreErrorKind::Leased, line));
        second.change(Change::TakeOver { holder: line.into() }).unwrap();
        open(&mut second).unwrap();
    }
}

#[test]
fn a_torn_line_says_nothing_and_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("lock"), [0; 87]).unwrap();
    let mut storage = instance(dir.path(), 1);
    let error = refused(&mut storage);
    assert_eq!((error.kind, error.detail.as_str()), (StoreErrorKind::Leased, "a torn line"));
    storage.change(Change::TakeOver { holder: error.detail }).unwrap();
    open(&mut storage).unwrap();
    assert!(line(dir.path()).starts_with("0000000000000001 "));
}

#[test]
fn a_frozen_instance_is_taken_over_from_and_changes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (instance(dir.path(), 1), instance(dir.path(), 2));
    open(&mut first).unwrap();
    first.change(state("first")).unwrap();
    let publish = |key_authorization: &str| Change::Publish {
        token: "token".into(),
        key_authorization: key_authorization.into(),
    };
    first.change(publish("first")).unwrap();
    let holder = refused(&mut second).detail;
    second.change(Change::TakeOver { holder: holder.clone() }).unwrap();
    open(&mut second).unwrap();
    second.change(state("second")).unwrap();
    let changes = [
        state("late"),
        publish("late"),
        Change::Withdraw { token: "token".into() },
        Change::ArchiveState,
        Change::AccountKey(Secret::new("late".into())),
        Change::Heartbeat,
    ];
    for change in changes {
        let said = format!("{change:?}");
        assert_eq!(first.change(change).expect_err("fenced").kind, StoreErrorKind::Lost, "{said}");
    }
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
    assert_eq!((read("state.json"), read("challenges/token")), ("second".into(), "first".into()));
    assert!(!dir.path().join("client.key").exists());
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    // It does not give up what it does not have, and stands by from then on.
    assert_eq!(refused(&mut first).kind, StoreErrorKind::Lost);
    first.change(Change::Release).unwrap();
    assert_eq!(refused(&mut first).kind, StoreErrorKind::Locked);
    second.change(Change::Heartbeat).unwrap();
    let late = second.change(Change::TakeOver { holder });
    assert_eq!(late.expect_err("another line").kind, StoreErrorKind::Locked);
}

#[test]
fn of_two_that_take_over_at_once_the_last_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut instances: Vec<Storage> = (1..=3).map(|number| instance(dir.path(), number)).collect();
    open(&mut instances[0]).unwrap();
    let holder = refused(&mut instances[1]).detail;
    instances[1].change(Change::TakeOver { holder: holder.clone() }).unwrap();
    // The third one has read the line before the second one took the lock.
    instances[2].place().unwrap();
    assert_eq!(refused(&mut instances[1]).kind, StoreErrorKind::Lost);
    open(&mut instances[2]).unwrap();
    assert_eq!(refused(&mut instances[1]).kind, StoreErrorKind::Locked);
}

#[test]
fn a_lock_that_is_gone_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = instance(dir.path(), 1);
    open(&mut first).unwrap();
    fs::remove_file(dir.path().join("lock")).unwrap();
    // As for a disk that does not work: nothing is lost by it.
    assert_eq!(first.change(state("x")).expect_err("no lock").kind, StoreErrorKind::Gone);
    open(&mut first).unwrap();
    first.change(state("x")).unwrap();
    assert_eq!(refused(&mut instance(dir.path(), 2)).kind, StoreErrorKind::Locked);
    // A volume that is taken away leaves an empty folder: no new storage is begun there.
    for entry in fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
    }
    refused(&mut first);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
