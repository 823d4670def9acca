//! Opening, refusals, standing by, writes that fail; and the lease, seen from both sides.

use super::*;
use crate::log::message;
use crate::survey::LEASE;
use crate::testing::Bench;

fn error(kind: StoreErrorKind) -> StoreError {
    StoreError { kind, path: "lock".into(), detail: "of a test".into() }
}

/// A storage manager that was asked to start, and asked for the storage.
fn started() -> (Bench, StorageManager) {
    let mut keeper = StorageManager::default();
    keeper.start(Instant::START);
    assert!(asks(&mut keeper));
    (Bench::new(), keeper)
}

fn asks(keeper: &mut StorageManager) -> bool {
    matches!(keeper.poll_output(), Some(Output::Load(Load::Storage)))
}

/// Sleeps until it asks for the storage again; how long that took.
fn sleep(bench: &mut Bench, keeper: &mut StorageManager) -> Duration {
    let at = keeper.poll_timeout().expect("it tries again");
    let pause = at.since(bench.now.mono);
    bench.pass(pause);
    keeper.handle_timeout(&mut bench.cx());
    assert!(asks(keeper));
    pause
}

fn open(bench: &mut Bench, keeper: &mut StorageManager) -> Option<bool> {
    keeper.opened(&mut bench.cx(), Ok(Inventory::default())).map(|opened| opened.activated)
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
        assert!(keeper.opened(&mut bench.cx(), refused).is_none());
        assert!(keeper.write_trouble().is_some() && !keeper.is_active());
        pauses.push(sleep(&mut bench, &mut keeper));
        assert!(keeper.write_trouble().is_some(), "it is not forgotten while it is tried again");
    }
    assert!(pauses[0] < Duration::from_secs(2) && pauses[7] > Duration::from_secs(40));
    assert_eq!(open(&mut bench, &mut keeper), Some(true));
    assert_eq!(bench.logged(message::STORAGE_RECOVERED), 1);
}

#[test]
fn standing_by_is_no_trouble_and_is_said_once() {
    let (mut bench, mut keeper) = started();
    for beat in 0..100 {
        sees(&mut bench, &mut keeper, StoreErrorKind::Locked, &format!("one {beat} boot"));
        assert!(keeper.write_trouble().is_none() && !keeper.is_active() && keeper.is_anothers());
        assert_eq!(sleep(&mut bench, &mut keeper), STANDBY_PAUSE);
    }
    assert_eq!(bench.logged(message::STANDING_BY), 1);
    assert_eq!(open(&mut bench, &mut keeper), Some(true));
}

/// What is asked for next: the one change of the lock.
fn lock_change(keeper: &mut StorageManager) -> Option<(WriteId, String)> {
    match keeper.poll_output()? {
        Output::Store { write, change } => Some((write, format!("{change:?}"))),
        other => panic!("{other:?}"),
    }
}

/// A standby that sees this line once.
fn sees(bench: &mut Bench, keeper: &mut StorageManager, kind: StoreErrorKind, line: &str) {
    let trouble = StoreError { kind, path: "lock".into(), detail: line.into() };
    assert!(keeper.opened(&mut bench.cx(), Err(trouble)).is_none());
}

/// An active instance with a lease.
fn leased() -> (Bench, StorageManager) {
    let (mut bench, mut keeper) = started();
    let inventory = Inventory { leased: true, ..Inventory::default() };
    assert!(keeper.opened(&mut bench.cx(), Ok(inventory)).is_some_and(|it| it.activated));
    (bench, keeper)
}

#[test]
fn who_shows_no_beat_for_a_lease_is_taken_over_from() {
    for kind in [StoreErrorKind::Locked, StoreErrorKind::Leased] {
        let (mut bench, mut keeper) = started();
        let begin = bench.now.mono;
        let mut steps = crate::testing::Steps::default();
        let write = loop {
            steps.count();
            sees(&mut bench, &mut keeper, kind, "one 7 boot");
            if let Some((write, change)) = lock_change(&mut keeper) {
                assert!(change.contains("TakeOver") && change.contains("one 7 boot"), "{change}");
                break write;
            }
            assert!(bench.now.mono.since(begin) < LEASE, "it waits too long");
            sleep(&mut bench, &mut keeper);
        };
        assert_eq!(bench.now.mono.since(begin), LEASE);
        assert!(keeper.poll_timeout().is_none(), "nothing before the answer");
        keeper.stored(&mut bench.cx(), write, &Ok(()));
        assert_eq!(bench.logged(message::TOOK_OVER), 1);
        assert!(!keeper.is_active(), "not before whoever took it too has found out");
        assert_eq!(sleep(&mut bench, &mut keeper), TAKEOVER_GRACE);
        assert_eq!(open(&mut bench, &mut keeper), Some(true));
        assert_eq!(bench.logged(message::STORAGE_RECOVERED), 0, "there was no trouble");
    }
}

#[test]
fn who_beats_is_never_taken_over_from() {
    let (mut bench, mut keeper) = started();
    for beat in 0..100 {
        // Three looks at each line: the holder is slow, but it lives.
        sees(&mut bench, &mut keeper, StoreErrorKind::Leased, &format!("one {} boot", beat / 3));
        assert_eq!(sleep(&mut bench, &mut keeper), STANDBY_PAUSE);
        assert_eq!(keeper.is_anothers(), beat >= 3, "a line alone says nothing");
    }
}

#[test]
fn a_holder_without_a_line_is_never_taken_over_from() {
    let (mut bench, mut keeper) = started();
    for _ in 0..100 {
        sees(&mut bench, &mut keeper, StoreErrorKind::Locked, "");
        assert_eq!(sleep(&mut bench, &mut keeper), STANDBY_PAUSE);
    }
}

#[test]
fn of_two_that_take_over_the_one_that_was_not_last_stands_by() {
    let (mut bench, mut keeper) = started();
    sees(&mut bench, &mut keeper, StoreErrorKind::Locked, "one 7 boot");
    bench.pass(LEASE);
    keeper.handle_timeout(&mut bench.cx());
    assert!(asks(&mut keeper));
    sees(&mut bench, &mut keeper, StoreErrorKind::Locked, "one 7 boot");
    let (write, _) = lock_change(&mut keeper).expect("a take-over");
    keeper.stored(&mut bench.cx(), write, &Ok(()));
    sleep(&mut bench, &mut keeper);
    sees(&mut bench, &mut keeper, StoreErrorKind::Lost, "another has it");
    assert_eq!(sleep(&mut bench, &mut keeper), Duration::ZERO);
    sees(&mut bench, &mut keeper, StoreErrorKind::Locked, "other 1 boot");
    assert_eq!(sleep(&mut bench, &mut keeper), STANDBY_PAUSE, "the other's lease has just begun");
    // One that finds another line than the one that it saw has lost the race before it ran.
    sees(&mut bench, &mut keeper, StoreErrorKind::Locked, "other 1 boot");
    bench.pass(LEASE);
    keeper.handle_timeout(&mut bench.cx());
    assert!(asks(&mut keeper));
    sees(&mut bench, &mut keeper, StoreErrorKind::Locked, "other 1 boot");
    let (write, _) = lock_change(&mut keeper).expect("a take-over");
    keeper.stored(&mut bench.cx(), write, &Err(error(StoreErrorKind::Locked)));
    assert_eq!(sleep(&mut bench, &mut keeper), STANDBY_PAUSE);
}

#[test]
fn the_holder_beats_and_lapses_when_it_cannot() {
    let (mut bench, mut keeper) = leased();
    for _ in 0..10 {
        let at = keeper.poll_timeout().expect("the next beat");
        assert_eq!(at.since(bench.now.mono), BEAT);
        bench.pass(BEAT);
        assert!(!keeper.has_lapsed(bench.now.mono));
        keeper.handle_timeout(&mut bench.cx());
        let (write, change) = lock_change(&mut keeper).expect("a beat");
        assert_eq!(change, "Heartbeat");
        keeper.stored(&mut bench.cx(), write, &Ok(()));
    }
    bench.pass(HOLD);
    assert!(!keeper.has_lapsed(bench.now.mono));
    bench.pass(Duration::from_nanos(1));
    assert!(keeper.has_lapsed(bench.now.mono), "frozen");
    // An answer that comes late entitles to no more than one that came in time.
    keeper.handle_timeout(&mut bench.cx());
    let (write, _) = lock_change(&mut keeper).expect("a beat");
    bench.pass(HOLD + BEAT);
    keeper.stored(&mut bench.cx(), write, &Ok(()));
    assert!(keeper.has_lapsed(bench.now.mono));
}

#[test]
fn a_disk_that_takes_no_beat_is_no_lost_lease() {
    let (mut bench, mut keeper) = leased();
    for _ in 0..10 {
        bench.pass(BEAT);
        keeper.handle_timeout(&mut bench.cx());
        let mut steps = crate::testing::Steps::default();
        while let Some(output) = keeper.poll_output() {
            steps.count();
            if let Output::Store { write, .. } = output {
                let full = Err(error(StoreErrorKind::Full));
                assert!(!keeper.loses_lease_to(&full));
                keeper.stored(&mut bench.cx(), write, &full);
            }
        }
        assert!(!keeper.has_lapsed(bench.now.mono) && keeper.write_trouble().is_some());
    }
}

#[test]
fn who_steps_down_begins_again_and_is_answered_nothing_of_before() {
    let (mut bench, mut keeper) = leased();
    keeper.store(Purpose::State(1), Change::State(Vec::new()));
    let (write, _) = lock_change(&mut keeper).expect("a write");
    let lost: Result<(), _> = Err(error(StoreErrorKind::Lost));
    assert!(keeper.loses_lease_to(&lost) && keeper.awaits(write));
    keeper.demote(bench.now.mono);
    assert!(!keeper.is_active() && !keeper.awaits(write) && !keeper.loses_lease_to(&lost));
    assert_eq!(keeper.stored(&mut bench.cx(), write, &Ok(())), None);
    assert_eq!(lock_change(&mut keeper).map(|(_, change)| change), Some("Release".into()));
    assert!(asks(&mut keeper));
    sees(&mut bench, &mut keeper, StoreErrorKind::Locked, "other 1 boot");
    assert!(!keeper.is_active() && keeper.is_anothers());
}

#[test]
fn what_was_on_its_way_when_it_stepped_down_opens_nothing() {
    let (mut bench, mut keeper) = leased();
    keeper.store(Purpose::State(1), Change::State(Vec::new()));
    let (write, _) = lock_change(&mut keeper).expect("a write");
    keeper.stored(&mut bench.cx(), write, &Err(error(StoreErrorKind::Full)));
    sleep(&mut bench, &mut keeper);
    keeper.demote(bench.now.mono);
    assert_eq!(open(&mut bench, &mut keeper), None, "the answer to what was asked before");
    assert_eq!(open(&mut bench, &mut keeper), Some(true));
}

#[test]
fn an_answer_that_took_too_long_is_asked_for_again() {
    let (mut bench, mut keeper) = started();
    bench.pass(HOLD + BEAT);
    let inventory = || Ok(Inventory { leased: true, ..Inventory::default() });
    assert!(keeper.opened(&mut bench.cx(), inventory()).is_none());
    assert!(asks(&mut keeper) && !keeper.is_active());
    assert!(keeper.opened(&mut bench.cx(), inventory()).is_some_and(|it| it.activated));
}

#[test]
fn a_write_that_fails_makes_it_doubtful_until_it_opens_again() {
    let (mut bench, mut keeper) = started();
    open(&mut bench, &mut keeper);
    keeper.store(Purpose::State(1), Change::State(Vec::new()));
    let Some(Output::Store { write, .. }) = keeper.poll_output() else { panic!("a write") };
    let purpose = keeper.stored(&mut bench.cx(), write, &Err(error(StoreErrorKind::Full)));
    assert_eq!(purpose, Some(Purpose::State(1)));
    assert!(keeper.is_active() && keeper.write_trouble().is_some());
    sleep(&mut bench, &mut keeper);
    keeper.opened(&mut bench.cx(), Err(error(StoreErrorKind::Full)));
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
    let purpose = keeper.stored(&mut bench.cx(), write, &Err(error(StoreErrorKind::Exists)));
    assert_eq!(purpose, Some(Purpose::AccountKey));
    for kind in [StoreErrorKind::File, StoreErrorKind::NotAFile, StoreErrorKind::Missing] {
        keeper.store(Purpose::ArchiveState, Change::ArchiveState);
        let Some(Output::Store { write, .. }) = keeper.poll_output() else { panic!("a write") };
        keeper.stored(&mut bench.cx(), write, &Err(error(kind)));
    }
    assert!(keeper.write_trouble().is_none() && keeper.failure().is_none());
    let again = keeper.stored(&mut bench.cx(), write, &Ok(()));
    assert_eq!(again, None, "an answer comes once");
}

#[test]
fn what_keeps_it_shut_is_a_failure_of_the_storage_unless_it_is_about_one_file() {
    let cases = [
        (StoreErrorKind::Io, "client.key", true),
        (StoreErrorKind::NotADirectory, "certs", true),
        (StoreErrorKind::NotAFile, "client.key", false),
        (StoreErrorKind::File, "state.json", false),
    ];
    for (kind, path, is_failure) in cases {
        let (mut bench, mut keeper) = started();
        let trouble = StoreError { path: path.into(), ..error(kind) };
        keeper.opened(&mut bench.cx(), Err(trouble));
        assert!(keeper.write_trouble().is_some());
        assert_eq!(keeper.failure().is_some(), is_failure, "{kind:?} {path}");
    }
}

/// Asks for a write, which fails of this.
fn write_fails(bench: &mut Bench, keeper: &mut StorageManager, kind: StoreErrorKind) {
    keeper.store(Purpose::State(1), Change::State(Vec::new()));
    let Some(Output::Store { write, .. }) = keeper.poll_output() else { panic!("a write") };
    keeper.stored(&mut bench.cx(), write, &Err(error(kind)));
}

#[test]
fn each_trouble_is_logged_before_the_storage_is_usable_again() {
    for kind in [StoreErrorKind::Full, StoreErrorKind::Stale, StoreErrorKind::Gone] {
        let (mut bench, mut keeper) = started();
        open(&mut bench, &mut keeper);
        write_fails(&mut bench, &mut keeper, kind);
        assert_eq!(bench.logged(message::STORAGE_FAILED), 1, "{kind:?}");
        write_fails(&mut bench, &mut keeper, kind);
        assert_eq!(bench.logged(message::STORAGE_FAILED), 1, "{kind:?}: the same again");
        write_fails(&mut bench, &mut keeper, StoreErrorKind::Io);
        assert_eq!(bench.logged(message::STORAGE_FAILED), 2, "{kind:?}: another reason");
        sleep(&mut bench, &mut keeper);
        assert_eq!(bench.logged(message::STORAGE_RECOVERED), 0);
        assert_eq!(open(&mut bench, &mut keeper), Some(false));
        assert_eq!(bench.logged(message::STORAGE_RECOVERED), 1);
    }
}

#[test]
fn what_a_file_system_lacks_is_a_warning_once() {
    let (mut bench, mut keeper) = started();
    let opened = |bench: &mut Bench, keeper: &mut StorageManager, missing| {
        let inventory = Inventory { missing, ..Inventory::default() };
        keeper.opened(&mut bench.cx(), Ok(inventory)).expect("it is open");
    };
    let logged = |bench: &Bench| {
        [message::NO_MODES, message::NO_LOCKS, message::NO_FLUSHES].map(|line| bench.logged(line))
    };
    let modes = MissingFeatures { modes: true, ..MissingFeatures::default() };
    let all = MissingFeatures { modes: true, locks: true, flushes: true };
    for (missing, expected) in [
        (MissingFeatures::default(), [0, 0, 0]),
        (modes, [1, 0, 0]),
        (modes, [1, 0, 0]),
        (all, [1, 1, 1]),
        (all, [1, 1, 1]),
    ] {
        opened(&mut bench, &mut keeper, missing);
        assert_eq!(logged(&bench), expected);
        write_fails(&mut bench, &mut keeper, StoreErrorKind::Full);
        sleep(&mut bench, &mut keeper);
    }
}

#[test]
fn a_lock_without_the_systems_help_is_used_a_while_after_it_was_written() {
    let (mut bench, mut keeper) = started();
    sees(&mut bench, &mut keeper, StoreErrorKind::Unsettled, "ours 1 no-system-lock");
    assert!(!keeper.is_active() && !keeper.is_anothers() && keeper.write_trouble().is_none());
    assert!(keeper.failure().is_none());
    assert_eq!(sleep(&mut bench, &mut keeper), TAKEOVER_GRACE);
    assert_eq!(open(&mut bench, &mut keeper), Some(true));
    // Another instance wrote it, too.
    let (mut bench, mut keeper) = started();
    sees(&mut bench, &mut keeper, StoreErrorKind::Unsettled, "ours 1 no-system-lock");
    sleep(&mut bench, &mut keeper);
    sees(&mut bench, &mut keeper, StoreErrorKind::Lost, "");
    assert_eq!(sleep(&mut bench, &mut keeper), Duration::ZERO);
    sees(&mut bench, &mut keeper, StoreErrorKind::Leased, "other 1 no-system-lock");
    let line = message::STANDING_BY_LEASE;
    assert_eq!(bench.logged(line), 1);
}
