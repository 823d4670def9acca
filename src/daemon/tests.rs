//! The daemon as a whole where no simulated world is needed.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Config, Mode};
use crate::daemon::model::{CertificateState, Source};
use crate::daemon::state::SavedState;

use crate::domain::Domain;
use crate::keys::Keys;
use crate::machine::{
    Change, ConnId, Input, Inventory, ListenerKind, Load, Loaded, Machine as _, Output, Signal,
};
use crate::machine::{StoreError, StoreErrorKind};
use crate::secret::Secret;
use crate::testing::{Bench, ODD_CERTIFICATE, ODD_KEY, config};

use super::Daemon;

/// Tells the daemon something; all that it wants, without the wait at the end.
fn tell(daemon: &mut Daemon, bench: &mut Bench, input: Input<'_>) -> Vec<Output> {
    let now = bench.now;
    let keys: &mut dyn Keys = bench.cx().keys;
    daemon.handle_input(now, input, keys);
    let next = || Some(daemon.poll_output()).filter(|output| !matches!(output, Output::Wait(_)));
    std::iter::from_fn(next).collect()
}

#[test]
fn nothing_follows_the_end() {
    let (mut daemon, mut bench) = (Daemon::new(&config(), None, Vec::new()), Bench::new());
    let listening = SocketAddr::from(([127, 0, 0, 1], 8000));
    tell(&mut daemon, &mut bench, Input::Started { listening });
    let opened = Loaded::Storage(Ok(Inventory::default()));
    tell(&mut daemon, &mut bench, Input::Loaded(opened));
    // Much is overdue by now, but its time has not been told.
    bench.pass(Duration::from_secs(3600));
    let outputs = tell(&mut daemon, &mut bench, Input::Signal(Signal::Stop));
    assert!(matches!(outputs.last(), Some(Output::Exit(0))), "{outputs:?}");
    assert!(tell(&mut daemon, &mut bench, Input::Timeout).is_empty());
}

/// What HAProxy serves may have to be revoked, whatever we think of its key.
#[test]
fn what_we_would_not_make_ourselves_is_revoked_all_the_same() {
    let name = Domain::parse("a.org").expect("a test's name is one");
    let config = Config { mode: Mode::Revoke(name.clone()), ..config() };
    let (mut daemon, mut bench) = (Daemon::new(&config, None, Vec::new()), Bench::new());
    let listening = SocketAddr::from(([127, 0, 0, 1], 8000));
    tell(&mut daemon, &mut bench, Input::Started { listening });
    let opened = Loaded::Storage(Ok(Inventory::default()));
    tell(&mut daemon, &mut bench, Input::Loaded(opened));
    let file = Secret::new(format!("{ODD_KEY}{ODD_KEY}{}", ODD_CERTIFICATE.repeat(20)));
    let read = Loaded::Certificate(name, Ok(file));
    let outputs = tell(&mut daemon, &mut bench, Input::Loaded(read));
    let ends = |output: &Output| matches!(output, Output::Exit(_));
    assert!(!outputs.iter().any(ends), "it goes on to ask the CA: {outputs:?}");
}

/// Another instance has the storage.
fn locked() -> Loaded {
    let (path, detail) = ("lock".to_string(), "another one".to_string());
    Loaded::Storage(Err(StoreError { kind: StoreErrorKind::Locked, path, detail }))
}

/// What the service manager is told.
fn told(outputs: &[Output]) -> Vec<&str> {
    let said = outputs.iter().filter_map(|output| match output {
        Output::Status(text) => Some(text.as_str()),
        _ => None,
    });
    said.collect()
}

#[test]
fn how_it_stands_is_said_when_that_changes_and_never_at_a_strangers_word() {
    let (mut daemon, mut bench) = (Daemon::new(&config(), None, Vec::new()), Bench::new());
    let listening = SocketAddr::from(([127, 0, 0, 1], 8000));
    let outputs = tell(&mut daemon, &mut bench, Input::Started { listening });
    assert_eq!(told(&outputs), ["opening the storage"]);
    assert!(told(&tell(&mut daemon, &mut bench, Input::Timeout)).is_empty());
    let outputs = tell(&mut daemon, &mut bench, Input::Loaded(locked()));
    assert_eq!(told(&outputs), ["standing by, another instance is active"]);
    bench.pass(Duration::from_secs(60));
    tell(&mut daemon, &mut bench, Input::Timeout);
    let stranger = ConnId::Accepted(0);
    let opened = Loaded::Storage(Ok(Inventory::default()));
    let outputs = tell(&mut daemon, &mut bench, Input::Loaded(opened));
    assert_eq!(told(&outputs), ["0 certificates valid; Marathon not attached"]);
    for input in [
        Input::Accepted(stranger, listening, ListenerKind::Public),
        Input::Received(stranger, b"GET / HT"),
    ] {
        assert!(told(&tell(&mut daemon, &mut bench, input)).is_empty());
    }
}

#[test]
fn what_is_due_is_done_however_much_strangers_say() {
    let (mut daemon, mut bench) = (Daemon::new(&config(), None, Vec::new()), Bench::new());
    let listening = SocketAddr::from(([127, 0, 0, 1], 8000));
    tell(&mut daemon, &mut bench, Input::Started { listening });
    tell(&mut daemon, &mut bench, Input::Loaded(locked()));
    let stranger = ConnId::Accepted(0);
    tell(&mut daemon, &mut bench, Input::Accepted(stranger, listening, ListenerKind::Public));
    let looks = |outputs: &[Output]| {
        outputs.iter().any(|output| matches!(output, Output::Load(Load::Storage)))
    };
    let looked_again = (0..3).any(|_| {
        let Output::Wait(Some(at)) = daemon.poll_output() else { panic!("nothing is due") };
        bench.pass(at.since(bench.now.mono));
        looks(&tell(&mut daemon, &mut bench, Input::Received(stranger, b"G")))
    });
    assert!(looked_again, "the lock is never looked at again");
}

/// The memory of so many certificates, which nobody owes a reload for.
fn remembered(count: usize) -> Vec<u8> {
    let certificate = |number: usize| {
        let source = Some(Source { app: format!("/{number}"), version: "1".into() });
        let name = Domain::parse(&format!("n{number:05}.example.org")).expect("a name");
        (name, CertificateState { source, ..CertificateState::default() })
    };
    let certificates = (0..count).map(certificate).collect();
    SavedState { certificates, ..SavedState::default() }.to_bytes()
}

#[test]
fn the_memory_of_very_many_is_read_and_written_in_turns_and_goes_before_all_else() {
    const COUNT: usize = 1_200;
    let (mut daemon, mut bench) = (Daemon::new(&config(), None, Vec::new()), Bench::new());
    let listening = SocketAddr::from(([127, 0, 0, 1], 8000));
    tell(&mut daemon, &mut bench, Input::Started { listening });
    let state = remembered(COUNT);
    let inventory = Inventory { state: Some(state.clone()), ..Inventory::default() };
    let acts = |outputs: &[Output]| {
        let is_act = |it: &&Output| !matches!(it, Output::Log(_) | Output::Status(_));
        outputs.iter().filter(is_act).count()
    };
    let mut outputs = tell(&mut daemon, &mut bench, Input::Loaded(Loaded::Storage(Ok(inventory))));
    let mut turns = 1;
    let mut steps = crate::testing::Steps::default();
    while acts(&outputs) == 0 {
        steps.count();
        assert!(matches!(daemon.poll_output(), Output::Wait(Some(at)) if at <= bench.now.mono));
        outputs = tell(&mut daemon, &mut bench, Input::Timeout);
        turns += 1;
    }
    assert!((2..10).contains(&turns), "{turns} turns");
    // A reload is owed from now on: that is written before anything else is done.
    let fallback = outputs.iter().find_map(|output| match output {
        Output::Store { write, change: Change::Fallback(_) } => Some(*write),
        _ => None,
    });
    let write = fallback.expect("there was no default.pem");
    let mut outputs = tell(&mut daemon, &mut bench, Input::Stored(write, Ok(())));
    let mut turns = 1;
    let mut steps = crate::testing::Steps::default();
    while acts(&outputs) == 0 {
        steps.count();
        assert!(matches!(daemon.poll_output(), Output::Wait(Some(at)) if at <= bench.now.mono));
        outputs = tell(&mut daemon, &mut bench, Input::Timeout);
        turns += 1;
    }
    assert!((2..10).contains(&turns), "{turns} turns");
    let first = outputs.iter().find_map(|output| match output {
        Output::Log(_) | Output::Status(_) => None,
        Output::Store { change: Change::State(bytes), .. } => Some(bytes.clone()),
        other => panic!("{other:?} goes before the memory"),
    });
    let written = SavedState::parse(&first.expect("the memory")).expect("it is whole");
    assert!(written.reload_owed && written.certificates.len() == COUNT);
}
