//! What the machines do: processes start, are told things, have their outputs carried out one after
//! another, and end in any way. The world says when.

use std::collections::VecDeque;

use marathon_acme::config::Config;
use marathon_acme::daemon::Daemon;
use marathon_acme::io::storage::Storage;
use marathon_acme::machine::{
    Change, Input, ListenerKind, Load, Loaded, Machine as _, Output, Signal,
};
use marathon_acme::machine::{CloseReason, ConnId, Usage, WriteId};
use marathon_acme::time::{Instant, Now, UnixTime};

use super::{Answer, Blow, Doom, Heard, Process, State};
use super::{outside, outside_socket, owner, socket_owner};
use crate::faults::Fault;
use crate::invariants::longer;
use crate::network::{MILLISECOND, Nanos};
use crate::world::{Event, World};

/// Outputs of one iteration at most: more means that the daemon chases its own tail.
const OUTPUTS_MAX: usize = 10_000;

/// A process ends within this time when it is told to.
const STOP_TIME_MAX: Nanos = 2000 * MILLISECOND;

/// Where the daemon's listener is.
const LISTENING: &str = "10.0.0.9:8000";

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
        self.disturb();
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
        let (its, its_socket) =
            (|conn| owner(conn) == index, |socket| socket_owner(socket) == index);
        self.network.open_to_daemon(its).into_iter().for_each(|conn| self.leaves(conn));
        self.network.daemon_ended(self.now(), its, its_socket);
        self.disturb();
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
                Answer::Measured(conn) => self.tell(index, Input::Measured(conn, Usage::default())),
                Answer::Loaded(mut loaded) => {
                    if let Loaded::Storage(Ok(inventory)) = &mut loaded {
                        inventory.leased = self.leased;
                    }
                    self.tell(index, Input::Loaded(loaded));
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
                Some(_) => {
                    self.disturb();
                    self.go_on(index);
                }
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
                self.tell(index, Input::Accepted(conn, from, ListenerKind::Public));
            }
            Heard::Connected(conn) => self.tell(index, Input::Connected(conn)),
            Heard::Presented(conn, der) => self.tell(index, Input::Presented(conn, der)),
            Heard::Received(conn, bytes) => self.tell(index, Input::Received(conn, &bytes)),
            Heard::Closed(conn @ ConnId::Accepted(_), CloseReason::Finished) => {
                self.tell(index, Input::Finished(conn));
            }
            Heard::Closed(conn, reason) => self.tell(index, Input::Closed(conn, reason)),
            Heard::Datagram(socket, from, bytes) => {
                self.tell(index, Input::Datagram(socket, from, &bytes));
            }
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

    /// Carries out what the daemon still wants in this iteration.
    fn go_on(&mut self, index: usize) {
        for outputs in 0..OUTPUTS_MAX {
            let Some(process) = self.machines[index].process() else { return };
            if process.blocked_until.is_some() {
                return;
            }
            let held = process.held.take();
            let output = held.unwrap_or_else(|| process.daemon.poll_output());
            if let Output::Wait(until) = output {
                process.wait = until.map(|until| process.born.saturating_add(until.as_nanos()));
                let (queues, most) = self.longest;
                self.longest = (longer(queues, process.daemon.queues()), most.max(outputs));
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
                self.disturb();
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
                self.carry_out(Output::Connect { conn, to, tls });
            }
            Output::Send { conn, bytes } => {
                let conn = outside(index, conn);
                self.carry_out(Output::Send { conn, bytes });
            }
            Output::Close { conn, peer_is_done } => {
                if let Some(process) = self.machines[index].process() {
                    process.inbox.retain(|heard| !heard.is_of(conn));
                }
                let conn = outside(index, conn);
                self.carry_out(Output::Close { conn, peer_is_done });
            }
            Output::Datagram { socket, to, bytes } => {
                let socket = outside_socket(index, socket);
                self.carry_out(Output::Datagram { socket, to, bytes });
            }
            Output::CloseSocket { socket } => {
                let socket = outside_socket(index, socket);
                self.carry_out(Output::CloseSocket { socket });
            }
            Output::Measure(conn) => self.machines[index].will_hear(Answer::Measured(conn)),
            Output::Log(record) => {
                self.assert_recorded(index, &record);
                self.carry_out(Output::Log(record));
            }
            output => self.carry_out(output),
        }
    }

    fn store(&mut self, index: usize, write: WriteId, change: Change, doom: Option<Doom>) {
        let (now, disk) = (self.now(), self.disk.clone());
        let touched = match &change {
            Change::Certificate(name, _) => Some((name.clone(), true)),
            Change::Archive(name) => Some((name.clone(), false)),
            _ => None,
        };
        let remembers = matches!(change, Change::State(_));
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
                if written {
                    self.assert_serves(&name);
                }
                let event =
                    if written { Event::Written(name) } else { Event::Archived(name, before) };
                self.events.push((now, event));
            }
            self.record_certificates();
        }
        if remembers && matches!(served, Some((Ok(()), _))) {
            self.remember(index);
        }
        let served = served.map(|(result, time)| (Answer::Stored(write, result), time));
        self.served(index, served, doom);
    }

    fn load(&mut self, index: usize, load: Load, doom: Option<Doom>) {
        let (now, disk) = (self.now(), self.disk.clone());
        let Some(process) = self.machines[index].process() else { return };
        let load = match load {
            Load::NameService => {
                let loaded = self.peers.names.service();
                return self.machines[index].will_hear(Answer::Loaded(loaded));
            }
            load => load,
        };
        let served = disk.serve(now, process.number, || process.storage.load(load));
        if matches!(served, Some((Loaded::Storage(Ok(_)), _))) {
            self.disturb();
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
