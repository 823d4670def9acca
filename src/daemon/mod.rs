//! The daemon: told what happened, says what to do. No I/O, no clock, no chance of its own.
//!
//! Here everything is only brought together: each input goes to the part that it is for, what the
//! parts want goes to each other or to the loop. The parts decide.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::acme::account::Binding;
use crate::challenge;
use crate::config::Config;
use crate::flat::FlatMap;
use crate::keys::Keys;
use crate::log::{Level, Record, message};
use crate::seam::{ConnId, Input, Load, Loaded, Machine, Output, Signal, StoreError, WriteId};
use crate::time::{Instant, Now, UnixTime};
use crate::turn::Turn;

pub mod archive;
pub mod budget;
pub mod certificates;
mod errand;
pub mod fair_queue;
pub mod front;
pub mod guard;
pub mod issuer;
mod journal;
mod left_overs;
pub mod model;
pub mod owner;
pub mod queues;
pub mod reloader;
mod remembering;
mod reporting;
pub mod routes;
mod standing;
pub mod state;
pub mod status;
pub mod storekeeper;
mod tenure;
#[cfg(test)]
mod tests;
mod wants;
pub mod watcher;
#[cfg(test)]
mod wire;

use crate::client::{Client, ClientEvent, RequestId};
use archive::{Archive, ArchiveOutput};
use certificates::Certificates;
use errand::Errand;
use front::Front;
use guard::Guard;
use issuer::Issuer;
use journal::Journal;
use left_overs::LeftOvers;
use model::{CaMemory, Catalog};
use owner::Owner;
use reloader::{News, Reloader};
use remembering::{Recalling, Writing};
use routes::Routes;
use standing::{Progress, Standing};
use status::Overview;
use storekeeper::{Purpose, Storekeeper};
use watcher::Watcher;

/// The whole program but for its I/O. Drive it as [`Machine`] says.
pub struct Daemon {
    /// What it begins with, each time it becomes a standby again.
    config: Config,
    binding: Option<Binding>,
    client: Client<Owner>,
    storage: Storekeeper,
    front: Front,
    overview: Overview,
    watcher: Watcher,
    /// The apps are read once the files are.
    watcher_waits: bool,
    certificates: Certificates,
    guard: Guard,
    archive: Archive,
    issuer: Issuer,
    reloader: Reloader,
    /// Not every load balancer has acknowledged a reload since the last write.
    reload_owed: bool,
    routes: Routes,
    /// Challenges that an earlier run has left published.
    left_overs: LeftOvers,
    /// The directory of the CA, by which it is remembered.
    directory: String,
    /// What is remembered of every CA so far.
    cas: FlatMap<String, CaMemory>,
    journal: Journal,
    /// The memory of an earlier run, while it is read.
    recalling: Option<Recalling>,
    /// The memory, while it is put together to be written.
    writing: Option<Writing>,
    errand: Errand,
    /// The process is to end, by this time at the latest.
    end_by: Option<Instant>,
    /// Nothing more is done.
    over: bool,
    /// When the process started, by its clock.
    started: Option<UnixTime>,
    /// What was said last of how it stands.
    standing: Standing,
    progress: Progress,
    log: Vec<Record>,
    outputs: VecDeque<Output>,
    /// When anything but the listener's side has something to do.
    wait: Option<Instant>,
}

impl Daemon {
    /// A daemon that waits for [`Input::Started`]. `binding` is the external account that the CA's
    /// account is to be bound to; `remarks` are the first it says.
    pub fn new(config: &Config, binding: Option<Binding>, remarks: Vec<Record>) -> Daemon {
        Daemon {
            config: config.clone(),
            binding: binding.clone(),
            client: Client::new(config.proxies.clone()),
            storage: Storekeeper::default(),
            front: Front::new(config.admin_listen.is_some()),
            overview: Overview::default(),
            watcher: Watcher::new(config),
            watcher_waits: false,
            certificates: Certificates::new(config),
            guard: Guard::default(),
            archive: Archive::default(),
            issuer: Issuer::new(config, binding),
            reloader: Reloader::new(config),
            reload_owed: false,
            routes: Routes::new(config),
            left_overs: LeftOvers::default(),
            directory: config.acme.to_string(),
            cas: FlatMap::new(),
            journal: Journal::default(),
            recalling: None,
            writing: None,
            errand: Errand::new(&config.mode),
            end_by: None,
            over: false,
            started: None,
            standing: Standing::default(),
            progress: Progress::default(),
            log: remarks,
            outputs: VecDeque::new(),
            wait: None,
        }
    }

    fn take_in(&mut self, turn: &mut Turn<'_>, input: Input<'_>) {
        match input {
            Input::Started { listening } => {
                let version = env!("CARGO_PKG_VERSION");
                let line = Record::info("main", message::LISTENING).with("address", listening);
                turn.log(line.with("version", version));
                self.started = Some(turn.now.wall);
                self.storage.start(turn.now.mono);
            }
            Input::Timeout => {}
            Input::Accepted(conn, from, door) => {
                self.front.accepted(turn, conn, from.ip(), door);
            }
            Input::Exhausted(detail) => self.front.exhausted(turn, &detail),
            Input::Connected(conn) => self.client.handle_connected(turn, conn),
            Input::Presented(conn, der) => self.client.handle_presented(conn, der),
            Input::Received(conn @ ConnId::Accepted(_), bytes) => {
                self.ask_front(turn.now, |front, reports| {
                    front.received(turn, conn, bytes, reports);
                });
            }
            Input::Received(conn, bytes) => self.client.handle_received(turn, conn, bytes),
            Input::Finished(conn) => self.front.finished(conn),
            Input::Closed(conn @ ConnId::Accepted(_), _) => self.front.closed(conn),
            Input::Closed(conn, reason) => self.client.handle_closed(turn, conn, reason),
            Input::Datagram(socket, from, bytes) => {
                self.client.handle_datagram(turn, socket, from, bytes);
            }
            Input::SocketFailed(socket, reason) => {
                self.client.handle_socket_failed(turn, socket, reason);
            }
            Input::Stored(write, result) => self.stored(turn, write, result),
            Input::Loaded(loaded) => self.loaded(turn, loaded),
            Input::Measured(conn, usage) => self.ask_front(turn.now, |front, reports| {
                front.measured(turn, conn, usage, reports);
            }),
            Input::Signal(Signal::Reload) if self.is_at_work() => {
                self.say_plan(turn);
                self.watcher.sync_now(turn, &mut self.client);
                self.reloader.probe_all(turn, &self.certificates);
                self.guard.look_soon(turn.now.mono);
            }
            Input::Signal(Signal::Reload) => {}
            Input::Signal(Signal::Stop) => {
                turn.log(Record::info("main", message::STOPPING));
                self.stop(turn);
            }
        }
    }

    /// Whether this instance follows Marathon and keeps certificates.
    fn is_at_work(&self) -> bool {
        self.storage.is_active() && self.recalling.is_none() && self.errand.follows()
    }

    /// The whole plan, a line each, for whoever looks for a fault.
    fn say_plan(&self, turn: &mut Turn<'_>) {
        if self.config.log_level > Level::Debug {
            return;
        }
        for planned in self.certificates.plan() {
            turn.log(Record::debug("plan", planned.to_string()));
        }
    }

    fn loaded(&mut self, turn: &mut Turn<'_>, loaded: Loaded) {
        match loaded {
            Loaded::Storage(result) => self.storage_loaded(turn, result),
            // Of the time before this instance stepped down.
            Loaded::Certificate(..)
            | Loaded::Guard(_)
            | Loaded::Archive(_)
            | Loaded::Archived(..)
                if !self.storage.is_active() => {}
            Loaded::Certificate(name, file) if self.errand.follows() => {
                self.certificates.read(turn, &name, file);
            }
            Loaded::Certificate(name, file) => self.revoke(turn, &name, file),
            Loaded::Guard(result) => {
                if let (Ok(look), true) = (&result, self.guard.is_looking()) {
                    self.certificates.compare_files(turn, &look.ours, &look.changed);
                }
                let (served, is_reading) =
                    (self.certificates.served(), self.certificates.is_reading());
                let needs_reload = self.guard.looked(turn, result, served, is_reading);
                let blocking = self.guard.blocking();
                self.reloader.looked(turn, blocking.as_deref(), self.guard.shadowed());
                if needs_reload {
                    self.reloader.changed(turn);
                }
            }
            Loaded::Archive(names) => {
                let output = self.archive.listed(turn, names);
                self.archive_output(output);
            }
            Loaded::Archived(file, result) => {
                let output = self.archive.read(turn, &file, result);
                self.archive_output(output);
            }
            Loaded::Challenge(conn, token, found) => {
                let found = found.filter(|text| challenge::is_key_authorization(&token, text));
                self.ask_front(turn.now, |front, reports| {
                    front.looked_up(turn, conn, &token, found, reports);
                });
            }
            Loaded::Challenges(tokens) => {
                self.ask_front(turn.now, |front, reports| front.listed(turn, tokens, reports));
            }
            Loaded::Token(file) => self.watcher.token_read(turn, &mut self.client, file),
            Loaded::NameService { resolv_conf, hosts } => {
                self.client.handle_name_service(turn, &resolv_conf, &hosts);
            }
        }
    }

    fn stored(&mut self, turn: &mut Turn<'_>, write: WriteId, result: Result<(), StoreError>) {
        if self.storage.is_deposed_by(&result) && self.storage.awaits(write) {
            return self.step_down(turn, "another instance has taken the lock over");
        }
        match self.storage.stored(turn, write, &result) {
            Some(Purpose::AccountKey) => self.issuer.account_key_stored(turn, result),
            Some(Purpose::Certificate(name)) => self.certificates.written(turn, &name, result),
            Some(Purpose::Archive(name)) if self.errand.to_revoke() == Some(&name) => {
                self.revoked_archived(turn, result);
            }
            Some(Purpose::Archive(name)) => self.certificates.archived(turn, &name, result),
            Some(Purpose::Reject(name)) => self.certificates.rejected(turn, &name, result),
            Some(Purpose::State(revision)) => {
                self.journal.ended(turn.now.mono, turn.keys, result.is_ok());
                self.certificates.recorded(turn, revision, result.as_ref().copied());
            }
            Some(Purpose::Archived(file)) => {
                let output = self.archive.written(turn, &file, result);
                self.archive_output(output);
            }
            Some(Purpose::Fallback) if result.is_ok() => self.owe_reload(turn),
            Some(
                Purpose::Fallback | Purpose::ArchiveState | Purpose::Challenge | Purpose::Lock(_),
            )
            | None => {}
        }
    }

    /// Lets every part do what is due, then carries what they want to each other until nothing
    /// moves any more.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        self.storage.handle_timeout(turn);
        self.recall_on(turn);
        self.write_on();
        self.front.handle_timeout(turn);
        self.client.handle_timeout(turn);
        self.watcher.handle_timeout(turn, &mut self.client);
        self.certificates.handle_timeout(turn);
        self.start_watcher(turn);
        self.keep_guard(turn);
        if self.may_clean_archive() {
            let output = self.archive.handle_timeout(turn.now);
            self.archive_output(output);
        }
        self.issuer.handle_timeout(turn);
        let peers = (&mut self.client, &self.certificates as &dyn Catalog);
        self.reloader.handle_timeout(turn, peers);
        self.certificates.keep_before(self.reloader.has_canary());
        while self.carry(turn) {}
        if self.certificates.take_compared() {
            let keep = |name: &_| self.certificates.wants(name);
            self.routes.retain(turn, &mut self.client, keep);
        }
        self.tidy_left_overs(turn);
        self.save(turn);
        while self.carry(turn) {}
        let status = self.stopped(turn.now.mono).or_else(|| self.errand_over(turn));
        if let Some(status) = status.filter(|_| !self.over) {
            self.end(turn, status);
        }
        self.flush_log(turn);
        self.wait = self.poll_timeout(turn.now);
    }

    /// As [`Daemon::settle`], where a stranger has said something before anything else was due: that
    /// moves the listener's side alone, and so costs no look at all the others.
    fn settle_front(&mut self, turn: &mut Turn<'_>) {
        self.front.handle_timeout(turn);
        self.outputs.extend(self.front.outputs());
        self.flush_log(turn);
    }

    /// Looks through `certs/` when it is time. What is not ours is judged by what is, so that all of that
    /// must have been read.
    fn keep_guard(&mut self, turn: &Turn<'_>) {
        if !self.certificates.is_reading() && self.guard.is_due(turn.now.mono) {
            self.storage.load(Load::Guard(self.certificates.misnamed()));
        }
    }

    /// Not by a clock that may be wrong: a key that is removed does not come back.
    fn may_clean_archive(&self) -> bool {
        !self.certificates.is_reading() && self.certificates.clock_agrees()
    }

    fn archive_output(&mut self, output: Option<ArchiveOutput>) {
        match output {
            Some(ArchiveOutput::Load(load)) => self.storage.load(load),
            Some(ArchiveOutput::Store(file, change)) => {
                self.storage.store(Purpose::Archived(file), change);
            }
            None => {}
        }
    }

    /// Carries what there is one step on; whether there was anything.
    fn carry(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut moved = false;
        while let Some(event) = self.client.poll_event() {
            self.dispatch(turn, event);
            moved = true;
        }
        while let Some(news) = self.reloader.poll_news() {
            match news {
                News::Served(names) => self.certificates.seen_served(turn.now.wall, &names),
                News::Rejected { names, reason } => {
                    let rolled_back = self.certificates.unserved(turn, &names, &reason);
                    self.reloader.decided(turn, rolled_back);
                }
                News::Futile => self.certificates.restore_rolled_back(turn),
                News::Unexplained => self.guard.look_soon(turn.now.mono),
            }
            moved = true;
        }
        while let Some(output) = self.certificates.poll_output() {
            self.certificates_want(turn, output);
            moved = true;
        }
        while let Some(output) = self.issuer.poll_output() {
            self.issuer_wants(turn, output);
            moved = true;
        }
        self.watcher.poll_load().into_iter().for_each(|path| self.storage.load(Load::Token(path)));
        // The storage goes before the network: what a peer is told about is on the disk by then. Nothing
        // goes before the memory that is being written.
        if self.writing.is_none() {
            while let Some(output) = self.storage.poll_output() {
                self.outputs.push_back(output);
                moved = true;
            }
            while let Some(output) = self.client.poll_output() {
                self.outputs.push_back(output);
                moved = true;
            }
        }
        for output in self.front.outputs() {
            self.outputs.push_back(output);
            moved = true;
        }
        moved
    }

    fn dispatch(
        &mut self,
        turn: &mut Turn<'_>,
        (owner, request, event): (Owner, RequestId, ClientEvent),
    ) {
        let client = &mut self.client;
        match owner {
            Owner::Watcher(of) => {
                let wanted = self.watcher.handle_event(turn, client, (of, request), event);
                if let Some(wanted) = wanted {
                    self.certificates.want_soon(Arc::clone(&wanted.certificates));
                }
            }
            Owner::Routes(of) => self.routes.handle_event(turn, client, (of, request), event),
            Owner::Reloader(of) => {
                let peers = (client, &self.certificates as &dyn Catalog);
                self.reloader.handle_event(turn, peers, (of, request), event);
            }
            Owner::Issuer(call) => self.ca_answered(turn, call, event),
        }
    }

    fn flush_log(&mut self, turn: &mut Turn<'_>) {
        let level = self.config.log_level;
        let heard = turn.log.drain(..).filter(|record| record.level >= level);
        self.outputs.extend(heard.map(Output::Log));
    }

    fn poll_timeout(&self, now: Now) -> Option<Instant> {
        [
            self.storage.poll_timeout(),
            self.client.poll_timeout(),
            self.watcher.poll_timeout(),
            self.certificates.poll_timeout(now),
            self.guard.poll_timeout().filter(|_| !self.certificates.is_reading()),
            self.archive.poll_timeout().filter(|_| self.may_clean_archive()),
            self.issuer.poll_timeout(),
            self.reloader.poll_timeout(),
            self.journal.poll_timeout().filter(|_| self.storage.is_active()),
            self.left_overs.poll_timeout(now.mono),
            self.errand.poll_timeout(),
            self.end_by,
            (self.recalling.is_some() || self.writing.is_some()).then_some(now.mono),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Machine for Daemon {
    fn handle_input(&mut self, now: Now, input: Input<'_>, keys: &mut dyn Keys) {
        if self.over {
            return;
        }
        let mut log = std::mem::take(&mut self.log);
        let mut turn = Turn { now, keys, log: &mut log };
        let has_lapsed = self.storage.has_lapsed(now.mono);
        if has_lapsed {
            // Before anything else: whatever it was going to do may be done by another one by now.
            self.step_down(&mut turn, "this instance was frozen, or its storage was");
        }
        let is_of_a_stranger = standing::is_of_a_stranger(&input);
        self.take_in(&mut turn, input);
        let is_due = has_lapsed || self.wait.is_some_and(|at| at <= now.mono);
        // Nothing is done any more that nobody would hear of.
        if !self.over {
            if is_of_a_stranger && !is_due {
                self.settle_front(&mut turn);
            } else {
                self.settle(&mut turn);
            }
        }
        if !self.over && !is_of_a_stranger {
            self.say_standing(now);
            self.say_progress();
        }
        self.log = log;
    }

    fn poll_output(&mut self) -> Output {
        let wait = || self.wait.into_iter().chain(self.front.poll_timeout()).min();
        self.outputs.pop_front().unwrap_or_else(|| Output::Wait(wait()))
    }
}
