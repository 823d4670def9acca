//! The whole daemon under a script of whatever can happen, in any order: its outputs are carried out
//! well, badly or late. Holds the rules of the state-machine interface, and the bounds of everything that
//! the daemon keeps; and whatever has happened, the daemon ends when it is told to.

mod config;
mod peers;
mod world;

use std::time::Duration;

use marathon_acme::machine::{CloseReason, Input, Signal, StoreErrorKind};

use world::World;

/// Instructions of one run at most.
const INSTRUCTIONS_MAX: usize = 256;

/// A process ends within this time when it is told to.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes of a script, taken one after the other; behind its end all are zero.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// So many bytes, or what is left.
    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, behind) = self.0.split_at(length.min(self.0.len()));
        self.0 = behind;
        taken
    }

    /// Bytes with their number in front.
    fn text(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.bytes(length)
    }
}

/// The first byte is the operator's choices, the second what an earlier run has left; then
/// instructions of one byte each, some with bytes behind them.
pub fn run(bytes: &[u8]) {
    let mut script = Script(bytes);
    let mut world = World::new(script.byte(), script.byte());
    for _ in 0..INSTRUCTIONS_MAX {
        if script.0.is_empty() || world.is_over() {
            break;
        }
        let instruction = script.byte();
        follow(&mut world, instruction, &mut script);
    }
    world.tell(Input::Signal(Signal::Stop));
    // It may wait for the CA to answer what cannot be asked again; but not for long.
    world.pass(STOP_TIME_MAX);
    assert!(world.is_over(), "told to stop, it goes on");
    for input in [Input::Timeout, Input::Signal(Signal::Reload)] {
        world.tell(input);
    }
}

fn follow(world: &mut World, instruction: u8, script: &mut Script<'_>) {
    let which = usize::from(instruction / 16);
    match instruction % 16 {
        0 => world.wake(),
        1 => world.pass(pause(script.byte())),
        2 => {
            world.step_wall(pause(script.byte()), which % 2 == 1);
            world.tell(Input::Timeout);
        }
        3 => world.accept(),
        4 => world.hear_accepted(which, script),
        5 => world.lose_accepted(which, reason(script.byte())),
        6 => world.connect(which),
        7 => world.answer(which, script),
        8 => world.hear_dialed(which, script),
        9 => world.lose_dialed(which, reason(script.byte())),
        10 => world.name_server(which, script),
        11 => world.stored(None),
        12 => world.stored(Some(kind(which))),
        13 => world.loaded(which, script),
        14 => world.signal_reload(),
        _ => world.all_is_well(which.is_multiple_of(2)),
    }
}

fn pause(byte: u8) -> Duration {
    const UNITS_MS: [u64; 8] =
        [1, 100, 1000, 10_000, 60_000, 60 * 60_000, 24 * 60 * 60_000, 30 * 24 * 60 * 60_000];
    Duration::from_millis(UNITS_MS[usize::from(byte % 8)] * (1 + u64::from(byte / 8)))
}

fn reason(byte: u8) -> CloseReason {
    match byte % 7 {
        0 => CloseReason::Finished,
        1 => CloseReason::Truncated,
        2 => CloseReason::Reset,
        3 => CloseReason::Refused,
        4 => CloseReason::Unreachable,
        5 => CloseReason::Tls("bad certificate".into()),
        _ => CloseReason::Local("too many open files".into()),
    }
}

fn kind(which: usize) -> StoreErrorKind {
    use StoreErrorKind::{
        Exists, File, Full, Io, Locked, Malformed, Missing, NotADirectory, NotAFile, NotWritable,
    };
    let kinds =
        [Io, Full, NotWritable, Exists, Missing, Malformed, NotADirectory, Locked, NotAFile, File];
    kinds[which % kinds.len()]
}
