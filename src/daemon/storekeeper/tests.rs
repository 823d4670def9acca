//! Opening, refusals, standing by, and writes that fail.

use super::*;
use crate::testing::Bench;

fn error(kind: StoreErrorKind) -> StoreError {
    StoreError { kind, path: "lock".into(), detail: "of a test".into() }
}

/// A storekeeper that was asked to start, and asked for the storage.
fn started() -> (Bench, Storekeeper) {
    let mut keeper = Storekeeper::default();
    keeper.start();
    assert!(asks(&mut keeper));
    (Bench::new(), keeper)
}

fn asks(keeper: &mut Storekeeper) -> bool {
    matches!(keeper.poll_output(), Some(Output::Load(Load::Storage)))
}

/// Sleeps until it asks for the storage again; how long that took.
fn sleep(bench: &mut Bench, keeper: &mut Storekeeper) -> Duration {
    let at = keeper.poll_timeout().expect("it tries again");
    let pause = at.since(bench.now.mono);
    bench.pass(pause);
    keeper.handle_timeout(&mut bench.turn());
    assert!(asks(keeper));
    pause
}

fn open(bench: &mut Bench, keeper: &mut Storekeeper) -> Option<bool> {
    keeper.opened(&mut bench.turn(), Ok(Inventory::default())).map(|opened| opened.activated)
}

#[test]
fn it_is_active_once_it_is_open() {
    let (mut bench, mut keeper) = started();
    assert!(!keeper.is_active());
    assert_eq!(open(&mut bench, &mut keeper), Some(true));
    assert!(keeper.is_active() && keeper.trouble().is_none());
    assert_eq!(keeper.poll_timeout(), None);
}

#[test]
fn a_refusal_is_tried_again_with_growing_pauses() {
    let (mut bench, mut keeper) = started();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let refused = Err(error(StoreErrorKind::NotWritable));
        assert!(keeper.opened(&mut bench.turn(), refused).is_none());
        assert!(keeper.write_trouble().is_some() && !keeper.is_active());
        pauses.push(sleep(&mut bench, &mut keeper));
        assert!(keeper.write_trouble().is_some(), "it is not forgotten while it is tried again");
    }
    assert!(pauses[0] < Duration::from_secs(2) && pauses[7] > Duration::from_secs(40));
    assert_eq!(open(&mut bench, &mut keeper), Some(true));
    assert_eq!(bench.logged("usable again"), 1);
}

#[test]
fn standing_by_is_no_trouble_and_is_said_once() {
    let (mut bench, mut keeper) = started();
    for _ in 0..100 {
        keeper.opened(&mut bench.turn(), Err(error(StoreErrorKind::Locked)));
        assert!(keeper.write_trouble().is_none() && !keeper.is_active());
        assert_eq!(sleep(&mut bench, &mut keeper), STANDBY_PAUSE);
    }
    assert_eq!(bench.logged("another instance is active, standing by"), 1);
    assert_eq!(open(&mut bench, &mut keeper), Some(true));
}

#[test]
fn a_write_that_fails_makes_it_doubtful_until_it_opens_again() {
    let (mut bench, mut keeper) = started();
    open(&mut bench, &mut keeper);
    keeper.store(Purpose::State(1), Change::State(Vec::new()));
    let Some(Output::Store { write, .. }) = keeper.poll_output() else { panic!("a write") };
    let purpose = keeper.stored(&mut bench.turn(), write, &Err(error(StoreErrorKind::Full)));
    assert_eq!(purpose, Some(Purpose::State(1)));
    assert!(keeper.is_active() && keeper.write_trouble().is_some());
    sleep(&mut bench, &mut keeper);
    keeper.opened(&mut bench.turn(), Err(error(StoreErrorKind::Full)));
    assert!(keeper.is_active(), "the lock is still held");
    sleep(&mut bench, &mut keeper);
    assert_eq!(open(&mut bench, &mut keeper), Some(false), "not activated a second time");
    assert!(keeper.write_trouble().is_none());
}

#[test]
fn a_refusal_of_one_file_is_no_trouble_of_the_disk() {
    let (mut bench, mut keeper) = started();
    open(&mut bench, &mut keeper);
    keeper.store(Purpose::AccountKey, Change::AccountKey(crate::secret::Secret::new("x".into())));
    let Some(Output::Store { write, .. }) = keeper.poll_output() else { panic!("a write") };
    let purpose = keeper.stored(&mut bench.turn(), write, &Err(error(StoreErrorKind::Exists)));
    assert_eq!(purpose, Some(Purpose::AccountKey));
    assert!(keeper.write_trouble().is_none());
    let again = keeper.stored(&mut bench.turn(), write, &Ok(()));
    assert_eq!(again, None, "an answer comes once");
}
