//! A machine on which the daemon runs: one process after another on a disk that it may share, each
//! with a monotonic clock of its own, under a wall clock that may be wrong. A process is killed
//! between any two outputs or inside one, is not scheduled for a while, or ends in order; the next
//! one starts after a while.
//!
//! To the network every connection of every machine has a name of its own: the number says whose.

use std::collections::VecDeque;
use std::net::SocketAddr;

use marathon_acme::config::Config;
use marathon_acme::daemon::Daemon;
use marathon_acme::io::storage::Storage;
use marathon_acme::machine::{Change, CloseReason, ConnId, Load, Loaded};
use marathon_acme::machine::{Output, Signal, SocketId, StoreError, WriteId};

use crate::disk::SimFiles;
use crate::network::Nanos;

mod running;

/// Machines there can be.
pub(crate) const MACHINES_MAX: usize = 2;

/// The machine; [`World::tell`] runs it.
pub(crate) struct Machine {
    /// What the wall clock shows beyond the true time, in milliseconds.
    pub(crate) clock_offset_ms: i64,
    config: Config,
    state: State,
    dooms: Vec<Doom>,
}

enum State {
    On(Box<Process>),
    Off { start_at: Nanos },
}

struct Process {
    daemon: Daemon,
    storage: Storage<SimFiles>,
    /// Never used again.
    number: u64,
    born: Nanos,
    wait: Option<Nanos>,
    /// It is in the middle of a turn, and goes on then: the disk is slow, or it is not scheduled.
    blocked_until: Option<Nanos>,
    /// What it was about to do when it was no longer scheduled.
    held: Option<Output>,
    /// Inputs that answer an output of the daemon itself, in order.
    answers: VecDeque<Answer>,
    /// What came while it was blocked; the system keeps it.
    inbox: VecDeque<Heard>,
    /// How long the machine rests when the process has ended as it was told to.
    stopping: Option<Nanos>,
    /// When it was told so, unless something has stalled it since.
    told_to_stop: Option<Nanos>,
}

/// What the operating system answers at once.
pub(crate) enum Answer {
    Stored(WriteId, Result<(), StoreError>),
    Loaded(Loaded),
    Measured(ConnId),
}

/// What comes from outside.
pub(crate) enum Heard {
    Accepted(ConnId),
    Connected(ConnId),
    Presented(ConnId, Vec<u8>),
    Received(ConnId, Vec<u8>),
    Closed(ConnId, CloseReason),
    Datagram(SocketId, SocketAddr, Vec<u8>),
    Signal(Signal),
}

impl Heard {
    fn is_of(&self, conn: ConnId) -> bool {
        match self {
            Heard::Accepted(it) | Heard::Connected(it) => *it == conn,
            Heard::Received(it, _) | Heard::Presented(it, _) | Heard::Closed(it, _) => *it == conn,
            Heard::Datagram(..) | Heard::Signal(_) => false,
        }
    }
}

/// What will befall a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doom {
    /// What must come before the count begins.
    pub(crate) after: Trigger,
    /// So many more outputs are carried out.
    pub(crate) outputs: u64,
    /// What happens then.
    pub(crate) blow: Blow,
    /// How long it is until the next process.
    pub(crate) downtime: Nanos,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// It dies, and what it has written stays.
    Kill,
    /// It dies before this call to the disk, counted from 1.
    KillInside(u64),
    /// The power is cut, for every machine on the disk.
    PowerCut,
    /// The power is cut before this call to the disk.
    PowerCutInside(u64),
    /// It is not scheduled for this time; whether its monotonic clock stands still meanwhile.
    Pause(Nanos, bool),
}

/// What a blow lies in wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// Nothing: the next output counts.
    Anything,
    /// An order: a challenge is about to be published.
    Publish,
    /// A certificate is about to be written.
    Certificate,
    /// `state.json` is about to be written.
    State,
}

impl Trigger {
    fn is_met(self, output: &Output) -> bool {
        let Output::Store { change, .. } = output else { return self == Trigger::Anything };
        match self {
            Trigger::Anything => true,
            Trigger::Publish => matches!(change, Change::Publish { .. }),
            Trigger::Certificate => matches!(change, Change::Certificate(..)),
            Trigger::State => matches!(change, Change::State(_)),
        }
    }
}

/// The machine that a connection is of, by its name in the network.
pub(crate) fn owner(conn: ConnId) -> usize {
    let (ConnId::Accepted(number) | ConnId::Dialed(number)) = conn;
    usize::try_from(number % MACHINES_MAX as u64).expect("few machines")
}

/// The name in the network of what the daemon of this machine has dialed or accepted.
fn outside(index: usize, conn: ConnId) -> ConnId {
    match conn {
        ConnId::Dialed(number) => ConnId::Dialed(number * MACHINES_MAX as u64 + index as u64),
        ConnId::Accepted(_) => conn,
    }
}

/// The machine that a socket is of, by its name in the network.
pub(crate) fn socket_owner(SocketId(number): SocketId) -> usize {
    usize::try_from(number % MACHINES_MAX as u64).expect("few machines")
}

/// The name in the network of a socket of this machine.
fn outside_socket(index: usize, SocketId(number): SocketId) -> SocketId {
    SocketId(number * MACHINES_MAX as u64 + index as u64)
}

/// The name that the daemon itself has for a socket.
pub(crate) fn inside_socket(SocketId(number): SocketId) -> SocketId {
    SocketId(number / MACHINES_MAX as u64)
}

/// The name that the daemon itself has for it.
pub(crate) fn inside(conn: ConnId) -> ConnId {
    match conn {
        ConnId::Dialed(number) => ConnId::Dialed(number / MACHINES_MAX as u64),
        ConnId::Accepted(_) => conn,
    }
}

impl Process {
    fn block(&mut self, until: Nanos) {
        self.blocked_until = Some(until);
        self.told_to_stop = None;
    }
}

impl Machine {
    /// A machine without a process yet.
    pub(crate) fn new(config: &Config, start_at: Nanos) -> Machine {
        let state = State::Off { start_at };
        Machine { clock_offset_ms: 0, config: config.clone(), state, dooms: Vec::new() }
    }

    /// Whether a process runs.
    pub(crate) fn is_on(&self) -> bool {
        matches!(self.state, State::On(_))
    }

    /// When the process wants to be woken or goes on, or is to be started.
    pub(crate) fn next_timeout(&self) -> Option<Nanos> {
        match &self.state {
            State::On(process) => process.blocked_until.or(process.wait),
            State::Off { start_at } => Some(*start_at),
        }
    }

    fn process(&mut self) -> Option<&mut Process> {
        match &mut self.state {
            State::On(process) => Some(process),
            State::Off { .. } => None,
        }
    }

    /// Keeps an answer for the process.
    pub(crate) fn will_hear(&mut self, answer: Answer) {
        if let Some(process) = self.process() {
            process.answers.push_back(answer);
        }
    }

    /// This will befall this process or a later one.
    pub(crate) fn condemn(&mut self, doom: Doom) {
        self.dooms.push(doom);
    }

    /// Nothing more will befall it.
    pub(crate) fn spare(&mut self) {
        self.dooms.clear();
    }

    /// What befalls the process before this output, if anything.
    fn struck_before(&mut self, output: &Output) -> Option<Doom> {
        for doom in &mut self.dooms {
            if doom.after.is_met(output) {
                doom.after = Trigger::Anything;
            }
        }
        let stores = match output {
            Output::Store { .. } => true,
            Output::Load(load) => *load != Load::NameService,
            _ => false,
        };
        let waits = |doom: &Doom| match doom.blow {
            Blow::KillInside(_) | Blow::PowerCutInside(_) if !stores => true,
            _ => doom.after != Trigger::Anything || doom.outputs > 0,
        };
        if let Some(index) = self.dooms.iter().position(|doom| !waits(doom)) {
            return Some(self.dooms.remove(index));
        }
        for doom in self.dooms.iter_mut().filter(|doom| doom.after == Trigger::Anything) {
            doom.outputs = doom.outputs.saturating_sub(1);
        }
        None
    }
}
