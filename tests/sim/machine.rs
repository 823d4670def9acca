//! The machine on which the daemon runs: one process after another on the same disk, each with a
//! monotonic clock of its own, under a wall clock that may be wrong. A process is killed between
//! any two outputs, or ends in order; the next one starts after a while.

use std::collections::VecDeque;

use marathon_acme::config::Config;
use marathon_acme::daemon::Daemon;
use marathon_acme::seam::{Change, Input, Loaded, Machine as _, Output, Signal};
use marathon_acme::seam::{StoreError, WriteId};
use marathon_acme::time::{Instant, Now, UnixTime};

use crate::invariants::longer;
use crate::network::{MILLISECOND, Nanos};
use crate::world::{Event, World};

/// Outputs of one turn at most: more means that the daemon chases its own tail.
const OUTPUTS_MAX: usize = 10_000;

/// A process ends within this time when it is told to.
const STOP_TIME_MAX: Nanos = 2000 * MILLISECOND;

/// Where the daemon's listener is.
const LISTENING: &str = "10.0.0.9:8000";

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
    born: Nanos,
    wait: Option<Nanos>,
    /// Inputs that answer an output of the daemon itself, in order.
    answers: VecDeque<Answer>,
    /// When the process was told to end, and how long the machine rests when it has done so.
    stopping: Option<(Nanos, Nanos)>,
}

/// What the operating system answers at once.
pub(crate) enum Answer {
    Stored(WriteId, Result<(), StoreError>),
    Loaded(Loaded),
}

/// How a process will be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doom {
    /// What must come before the count begins.
    pub(crate) after: Trigger,
    /// So many more outputs are carried out.
    pub(crate) outputs: u64,
    /// How long it is until the next process.
    pub(crate) downtime: Nanos,
}

/// What a kill lies in wait for.
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

impl Machine {
    /// A machine without a process yet.
    pub(crate) fn new(config: &Config) -> Machine {
        let state = State::Off { start_at: 0 };
        Machine { clock_offset_ms: 0, config: config.clone(), state, dooms: Vec::new() }
    }

    /// Whether a process runs.
    pub(crate) fn is_on(&self) -> bool {
        matches!(self.state, State::On(_))
    }

    /// When the process wants to be woken, or is to be started.
    pub(crate) fn next_timeout(&self) -> Option<Nanos> {
        match &self.state {
            State::On(process) => process.wait,
            State::Off { start_at } => Some(*start_at),
        }
    }

    /// What the process is told before anything else happens.
    pub(crate) fn next_answer(&mut self) -> Option<Answer> {
        match &mut self.state {
            State::On(process) => process.answers.pop_front(),
            State::Off { .. } => None,
        }
    }

    /// Keeps an answer for the process.
    pub(crate) fn will_hear(&mut self, answer: Answer) {
        if let State::On(process) = &mut self.state {
            process.answers.push_back(answer);
        }
    }

    /// This process or a later one will be killed so.
    pub(crate) fn condemn(&mut self, doom: Doom) {
        self.dooms.push(doom);
    }

    /// Whether the process dies before this output; how long the machine then rests.
    fn dies_before(&mut self, output: &Output) -> Option<Nanos> {
        for doom in &mut self.dooms {
            if doom.after.is_met(output) {
                doom.after = Trigger::Anything;
            }
        }
        let waits = |doom: &Doom| doom.after != Trigger::Anything || doom.outputs > 0;
        if let Some(index) = self.dooms.iter().position(|doom| !waits(doom)) {
            return Some(self.dooms.remove(index).downtime);
        }
        for doom in self.dooms.iter_mut().filter(|doom| doom.after == Trigger::Anything) {
            doom.outputs -= 1;
        }
        None
    }
}

impl World {
    /// Starts a process on what the last one left.
    pub(crate) fn start(&mut self) {
        let daemon = Daemon::new(&self.machine.config, None, Vec::new());
        let (born, wait, answers) = (self.now(), None, VecDeque::new());
        let process = Process { daemon, born, wait, answers, stopping: None };
        self.machine.state = State::On(Box::new(process));
        self.events.push((self.now(), Event::Started));
        let listening = LISTENING.parse().expect("an address");
        self.tell(Input::Started { listening });
    }

    /// Asks the process to end in order; the next one starts after `downtime`.
    pub(crate) fn stop(&mut self, downtime: Nanos) {
        let at = self.now();
        if let State::On(process) = &mut self.machine.state {
            process.stopping = Some((at, downtime));
            self.tell(Input::Signal(Signal::Stop));
        }
    }

    /// The process is gone, and its connections with it.
    fn ended(&mut self, event: Event, start_at: Nanos) {
        self.machine.state = State::Off { start_at };
        self.network.daemon_ended(self.now());
        self.events.push((self.now(), event));
    }

    /// Tells the daemon something and carries out all that it wants.
    pub(crate) fn tell(&mut self, input: Input<'_>) {
        let wall = self.wall().as_millis() + self.machine.clock_offset_ms;
        let at = self.now();
        let State::On(process) = &mut self.machine.state else { return };
        let late = process.stopping.is_some_and(|(told, _)| at > told + STOP_TIME_MAX);
        assert!(!late, "the daemon was stopped and goes on");
        let mono = Instant::from_nanos(at - process.born);
        let now = Now { mono, wall: UnixTime::from_millis(wall) };
        process.daemon.handle_input(now, input, &mut self.keys);
        for outputs in 0..OUTPUTS_MAX {
            let State::On(process) = &mut self.machine.state else { return };
            let output = process.daemon.poll_output();
            if let Output::Wait(until) = output {
                process.wait = until.map(|until| process.born.saturating_add(until.as_nanos()));
                let (queues, most) = self.longest;
                self.longest = (longer(queues, process.daemon.queues()), most.max(outputs));
                return;
            }
            if let Some(downtime) = self.machine.dies_before(&output) {
                return self.ended(Event::Killed(at + downtime), at + downtime);
            }
            match output {
                Output::Exit(status) => return self.exited(status),
                output => self.carry_out(output),
            }
        }
        panic!("the daemon never waits");
    }

    fn exited(&mut self, status: u8) {
        let State::On(process) = &self.machine.state else { return };
        let downtime = process.stopping.filter(|_| status == 0).map(|(_, downtime)| downtime);
        let downtime = downtime.unwrap_or_else(|| panic!("the daemon ended with {status}"));
        let start_at = self.now() + downtime;
        self.ended(Event::Ended(start_at), start_at);
    }
}
