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
use marathon_acme::seam::{Change, CloseReason, ConnId, Input, Load, Loaded, Machine as _};
use marathon_acme::seam::{Output, Signal, SocketId, StoreError, WriteId};
use marathon_acme::time::{Instant, Now, UnixTime};

use crate::disk::SimFiles;
use crate::faults::Fault;
use crate::network::{MILLISECOND, Nanos};
use crate::world::{Event, World};

/// Outputs of one turn at most: more means that the daemon chases its own tail.
const OUTPUTS_MAX: usize = 10_000;

/// A process ends within this time when it is told to.
const STOP_TIME_MAX: Nanos = 2000 * MILLISECOND;

/// Where the daemon's listener is.
const LISTENING: &str = "10.0.0.9:8000";

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
    Datagram(SocketId, SocketAddr, Vec<u8>),
}

/// What comes from outside.
pub(crate) enum Heard {
    Accepted(ConnId),
    Connected(ConnId),
    Received(ConnId, Vec<u8>),
    Closed(ConnId, CloseReason),
    Signal(Signal),
}

impl Heard {
    fn is_of(&self, conn: ConnId) -> bool {
        match self {
            Heard::Accepted(it) | Heard::Connected(it) => *it == conn,
            Heard::Received(it, _) | Heard::Closed(it, _) => *it == conn,
            Heard::Signal(_) => false,
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

impl World {
    /// Starts a process on what the last one left.
    fn start(&mut self, index: usize) {
        self.processes += 1;
        let (number, born) = (self.processes, self.now());
        let machine = &mut self.machines[index];
        let Config { storage_dir, cert_mode, .. } = machine.config.clone();
        let process = Process {
            daemon: Daemon::new(&machine.config, None, Vec::new()),
            storage: Storage::on(self.disk.files(number), storage_dir, cert_mode, number),
            number,
            born,
            wait: None,
            blocked_until: None,
            held: None,
            answers: VecDeque::new(),
            inbox: VecDeque::new(),
            stopping: None,
            told_to_stop: None,
        };
        machine.state = State::On(Box::new(process));
        self.events.push((born, Event::Started));
        let listening = LISTENING.parse().expect("an address");
        self.tell(index, Input::Started { listening });
    }

    /// Asks the process to end in order; the next one starts after `downtime`.
    pub(crate) fn stop(&mut self, index: usize, downtime: Nanos) {
        let start_at = self.now() + downtime;
        match &mut self.machines[index].state {
            State::On(process) => {
                process.stopping = Some(downtime);
                self.hear(index, Heard::Signal(Signal::Stop));
            }
            State::Off { start_at: planned } => *planned = start_at.max(*planned),
        }
    }

    /// Every process gets this signal.
    pub(crate) fn signal_all(&mut self, signal: Signal) {
        (0..self.machines.len()).for_each(|index| self.hear(index, Heard::Signal(signal)));
    }

    /// The process is killed where it stands.
    fn kill(&mut self, index: usize, downtime: Nanos) {
        let start_at = self.now() + downtime;
        self.ended(index, Event::Killed(start_at), start_at);
    }

    /// The power is cut: no machine runs any more, and of the disk only what is sure is left.
    pub(crate) fn cut_power(&mut self, downtime: Nanos) {
        self.toll.count(Fault::PowerCut);
        for index in 0..self.machines.len() {
            if self.machines[index].is_on() {
                self.kill(index, downtime + index as u64 * MILLISECOND);
            }
        }
        self.disk.power_cut(self.now());
        self.look_at_all();
    }

    /// The process is gone, and its connections with it.
    fn ended(&mut self, index: usize, event: Event, start_at: Nanos) {
        if let Some(process) = self.machines[index].process() {
            self.disk.forget(process.number);
        }
        self.machines[index].state = State::Off { start_at };
        self.network.daemon_ended(self.now(), |conn| owner(conn) == index);
        self.events.push((self.now(), event));
    }

    /// Lets a machine do what is next of its own: whether there was anything.
    pub(crate) fn answer(&mut self, index: usize) -> bool {
        let Some(process) = self.machines[index].process() else { return false };
        if process.blocked_until.is_some() {
            return false;
        }
        if let Some(answer) = process.answers.pop_front() {
            match answer {
                Answer::Stored(write, result) => self.tell(index, Input::Stored(write, result)),
                Answer::Loaded(loaded) => self.tell(index, Input::Loaded(loaded)),
                Answer::Datagram(socket, from, bytes) => {
                    self.tell(index, Input::Datagram(socket, from, &bytes));
                }
            }
            return true;
        }
        let heard = process.inbox.pop_front();
        heard.map(|heard| self.pass_on(index, heard)).is_some()
    }

    /// The time of [`Machine::next_timeout`] has come.
    pub(crate) fn wake(&mut self, index: usize) {
        match self.machines[index].process() {
            None => self.start(index),
            Some(process) => match process.blocked_until.take() {
                Some(_) => self.go_on(index),
                None => self.tell(index, Input::Timeout),
            },
        }
    }

    /// Something comes from outside; a process that is blocked hears it later.
    pub(crate) fn hear(&mut self, index: usize, heard: Heard) {
        match self.machines[index].process() {
            Some(process) if process.blocked_until.is_some() || !process.inbox.is_empty() => {
                process.inbox.push_back(heard);
            }
            Some(_) => self.pass_on(index, heard),
            None => {}
        }
    }

    fn pass_on(&mut self, index: usize, heard: Heard) {
        match heard {
            Heard::Accepted(conn) => {
                let from = "10.0.0.1:40000".parse().expect("an address");
                self.tell(index, Input::Accepted(conn, from));
            }
            Heard::Connected(conn) => self.tell(index, Input::Connected(conn)),
            Heard::Received(conn, bytes) => self.tell(index, Input::Received(conn, &bytes)),
            Heard::Closed(conn, reason) => self.tell(index, Input::Closed(conn, reason)),
            Heard::Signal(signal) => {
                let at = self.now();
                if let Some(process) = self.machines[index].process() {
                    process.told_to_stop = (signal == Signal::Stop).then_some(at);
                }
                self.tell(index, Input::Signal(signal));
            }
        }
    }

    /// Tells the daemon something and carries out all that it wants.
    fn tell(&mut self, index: usize, input: Input<'_>) {
        let at = self.now();
        let wall = self.wall().as_millis() + self.machines[index].clock_offset_ms;
        let Some(process) = self.machines[index].process() else { return };
        let late = process.told_to_stop.is_some_and(|told| at > told + STOP_TIME_MAX);
        assert!(!late, "the daemon was stopped and goes on");
        let mono = Instant::from_nanos(at - process.born);
        let now = Now { mono, wall: UnixTime::from_millis(wall) };
        process.daemon.handle_input(now, input, &mut self.keys);
        self.go_on(index);
    }

    /// Carries out what the daemon still wants in this turn.
    fn go_on(&mut self, index: usize) {
        for _ in 0..OUTPUTS_MAX {
            let Some(process) = self.machines[index].process() else { return };
            if process.blocked_until.is_some() {
                return;
            }
            let held = process.held.take();
            let output = held.unwrap_or_else(|| process.daemon.poll_output());
            if let Output::Wait(until) = output {
                process.wait = until.map(|until| process.born.saturating_add(until.as_nanos()));
                return;
            }
            let struck = self.machines[index].struck_before(&output);
            if let Some(doom) = struck {
                self.strike(index, doom, output);
            } else {
                self.perform(index, output, None);
            }
        }
        panic!("the daemon never waits");
    }

    fn strike(&mut self, index: usize, doom: Doom, output: Output) {
        let at = self.now();
        if self.verbose {
            let what = format!("machine {index}: {:?} before {output:?}", doom.blow);
            println!(
                "{:>12.3} ===== {}",
                self.now_ms() as f64 / 1000.0,
                what.chars().take(150).collect::<String>()
            );
        }
        match doom.blow {
            Blow::Kill => {
                self.toll.count(Fault::Killed);
                self.kill(index, doom.downtime);
            }
            Blow::PowerCut => self.cut_power(doom.downtime),
            Blow::KillInside(calls) | Blow::PowerCutInside(calls) => {
                if let Some(process) = self.machines[index].process() {
                    self.disk.doom(process.number, calls);
                }
                self.perform(index, output, Some(doom));
            }
            Blow::Pause(time, stands_still) => {
                self.toll.count(Fault::Paused);
                let Some(process) = self.machines[index].process() else { return };
                process.held = Some(output);
                process.block(at + time);
                if stands_still {
                    process.born += time;
                }
            }
        }
    }

    /// Carries out an output, in which the process may die.
    fn perform(&mut self, index: usize, output: Output, doom: Option<Doom>) {
        match output {
            Output::Exit(status) => self.exited(index, status),
            Output::Store { write, change } => self.store(index, write, change, doom),
            Output::Load(load) => self.load(index, load, doom),
            Output::Connect { conn, to, tls } => {
                let conn = outside(index, conn);
                self.carry_out(index, Output::Connect { conn, to, tls });
            }
            Output::Send { conn, bytes } => {
                let conn = outside(index, conn);
                self.carry_out(index, Output::Send { conn, bytes });
            }
            Output::Close { conn } => {
                if let Some(process) = self.machines[index].process() {
                    process.inbox.retain(|heard| !heard.is_of(conn));
                }
                self.carry_out(index, Output::Close { conn: outside(index, conn) });
            }
            output => self.carry_out(index, output),
        }
    }

    fn store(&mut self, index: usize, write: WriteId, change: Change, doom: Option<Doom>) {
        let (now, disk) = (self.now(), self.disk.clone());
        let touched = match &change {
            Change::Certificate(name, _) => Some((name.clone(), true)),
            Change::Archive(name) => Some((name.clone(), false)),
            _ => None,
        };
        let Some(process) = self.machines[index].process() else { return };
        let promise = disk.promise(process.number, &change);
        let served = disk.serve(now, process.number, || {
            let result = process.storage.change(change);
            if result.is_ok() {
                promise.acknowledge();
            }
            result
        });
        if let Some((name, written)) = touched {
            let before = self.look_at(&name);
            if matches!(served, Some((Ok(()), _))) {
                let event =
                    if written { Event::Written(name) } else { Event::Archived(name, before) };
                self.events.push((now, event));
            }
        }
        let served = served.map(|(result, time)| (Answer::Stored(write, result), time));
        self.served(index, served, doom);
    }

    fn load(&mut self, index: usize, load: Load, doom: Option<Doom>) {
        let (now, disk) = (self.now(), self.disk.clone());
        let Some(process) = self.machines[index].process() else { return };
        let load = match load {
            Load::NameService => {
                let loaded = self.names.service();
                return self.machines[index].will_hear(Answer::Loaded(loaded));
            }
            load => load,
        };
        let served = disk.serve(now, process.number, || process.storage.load(load));
        if matches!(served, Some((Loaded::Storage(Ok(_)), _))) {
            let before = self.active.replace(index);
            if before.is_some_and(|before| before != index) {
                self.toll.count(Fault::TakenOver);
            }
        }
        let served = served.map(|(loaded, time)| (Answer::Loaded(loaded), time));
        self.served(index, served, doom);
    }

    /// The disk has answered, or the process has died before it could.
    fn served(&mut self, index: usize, served: Option<(Answer, Nanos)>, doom: Option<Doom>) {
        let now = self.now();
        if let Some(doom) = doom {
            // It has died inside, or dies before it hears the answer.
            return self.finish(index, doom);
        }
        let (answer, time) = served.expect("only a doomed process dies");
        let Some(process) = self.machines[index].process() else { return };
        process.answers.push_back(answer);
        if time > 0 {
            process.block(now + time);
        }
    }

    fn finish(&mut self, index: usize, doom: Doom) {
        if matches!(doom.blow, Blow::PowerCutInside(_)) {
            return self.cut_power(doom.downtime);
        }
        self.toll.count(Fault::KilledInside);
        self.kill(index, doom.downtime);
    }

    fn exited(&mut self, index: usize, status: u8) {
        let Some(process) = self.machines[index].process() else { return };
        let downtime = process.stopping.filter(|_| status == 0);
        let downtime = downtime.unwrap_or_else(|| panic!("the daemon ended with {status}"));
        self.toll.count(Fault::Stopped);
        let start_at = self.now() + downtime;
        self.ended(index, Event::Ended(start_at), start_at);
    }
}
