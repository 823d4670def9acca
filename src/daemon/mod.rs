//! The daemon: told what happened, says what to do. No I/O, no clock, no chance of its own.
//!
//! Here everything is only brought together: each input goes to the part that it is for, what the
//! parts want goes to each other or to the loop. The parts decide.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::acme::account::Binding;
use crate::challenge;
use crate::config::Config;
use crate::context::Context;
use crate::flat::FlatMap;
use crate::keys::Keys;
use crate::log::{Level, Record, message};
use crate::machine::{ConnId, Input, Load, Loaded, Machine, Output, Signal, StoreError, WriteId};
use crate::time::{Instant, Now, UnixTime};

pub mod archive;
pub mod budget;
pub mod certificates;
mod dispatch;
pub mod fair_queue;
pub mod guard;
pub mod issuer;
mod leadership;
pub mod model;
pub mod owner;
mod persistence;
pub mod queues;
pub mod reloader;
mod report;
pub mod routes;
mod run_mode;
pub mod server;
mod service_status;
mod stale_challenges;
pub mod state;
mod state_writer;
pub mod status;
pub mod storage;
#[cfg(test)]
mod tests;
pub mod watcher;
#[cfg(test)]
mod wire;

use crate::client::{Client, ClientEvent, RequestId};
use archive::{Archive, ArchiveOutput};
use certificates::Certificates;
use guard::Guard;
use issuer::Issuer;
use model::{CaState, Catalog};
use owner::Owner;
use persistence::{Recalling, Writing};
use reloader::{News, Reloader};
use routes::Routes;
use run_mode::RunMode;
use server::Server;
use service_status::{Progress, Standing};
use stale_challenges::StaleChallenges;
use state_writer::StateJournal;
use status::Overview;
use storage::{Purpose, StorageManager};
use watcher::Watcher;

/// The whole program but for its I/O. Drive it as [`Machine`] says.
pub struct Daemon {
    /// What it begins with, each time it becomes a standby again.
    config: Config,
    binding: Option<Binding>,
    client: Client<Owner>,
    storage: StorageManager,
    front: Server,
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
    stale_challenges: StaleChallenges,
    /// The directory of the CA, by which it is remembered.
    directory: String,
    /// What is remembered of every CA so far.
    cas: FlatMap<String, CaState>,
    journal: StateJournal,
    /// The memory of an earlier run, while it is read.
    recalling: Option<Recalling>,
    /// The memory, while it is put together to be written.
    writing: Option<Writing>,
    run_mode: RunMode,
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
            storage: StorageManager::default(),
            front: Server::new(config.admin_listen.is_some()),
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
            stale_challenges: StaleChallenges::default(),
            directory: config.acme.to_string(),
            cas: FlatMap::new(),
            journal: StateJournal::default(),
            recalling: None,
            writing: None,
            run_mode: RunMode::new(&config.mode),
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

    fn take_in(&mut self, cx: &mut Context<'_>, input: Input<'_>) {
        match input {
            Input::Started { listening } => {
                let version = env!("CARGO_PKG_VERSION");
                let line = Record::info("main", message::LISTENING).with("address", listening);
                cx.log(line.with("version", version));
                self.started = Some(cx.now.wall);
                self.storage.start(cx.now.mono);
            }
            Input::Timeout => {}
            Input::Accepted(conn, from, door) => {
                self.front.accepted(cx, conn, from.ip(), door);
            }
            Input::Exhausted(detail) => self.front.exhausted(cx, &detail),
            Input::Connected(conn) => self.client.handle_connected(cx, conn),
            Input::Presented(conn, der) => self.client.handle_presented(conn, der),
            Input::Received(conn @ ConnId::Accepted(_), bytes) => {
                self.ask_front(cx.now, |front, reports| {
                    front.received(cx, conn, bytes, reports);
                });
            }
            Input::Received(conn, bytes) => self.client.handle_received(cx, conn, bytes),
            Input::Finished(conn) => self.front.finished(conn),
            Input::Closed(conn @ ConnId::Accepted(_), _) => self.front.closed(conn),
            Input::Closed(conn, reason) => self.client.handle_closed(cx, conn, reason),
            Input::Datagram(socket, from, bytes) => {
                self.client.handle_datagram(cx, socket, from, bytes);
            }
            Input::SocketFailed(socket, reason) => {
                self.client.handle_socket_failed(cx, socket, reason);
            }
            Input::Stored(write, result) => self.stored(cx, write, result),
            Input::Loaded(loaded) => self.loaded(cx, loaded),
            Input::Measured(conn, usage) => self.ask_front(cx.now, |front, reports| {
                front.measured(cx, conn, usage, reports);
            }),
            Input::Signal(Signal::Reload) if self.is_at_work() => {
                self.say_plan(cx);
                self.watcher.sync_now(cx, &mut self.client);
                self.reloader.probe_all(cx, &self.certificates);
                self.guard.look_soon(cx.now.mono);
            }
            Input::Signal(Signal::Reload) => {}
            Input::Signal(Signal::Stop) => {
                cx.log(Record::info("main", message::STOPPING));
                self.stop(cx);
            }
        }
    }

    /// Whether this instance follows Marathon and keeps certificates.
    fn is_at_work(&self) -> bool {
        self.storage.is_active() && self.recalling.is_none() && self.run_mode.follows()
    }

    /// The whole plan, a line each, for whoever looks for a fault.
    fn say_plan(&self, cx: &mut Context<'_>) {
        if self.config.log_level > Level::Debug {
            return;
        }
        for planned in self.certificates.plan() {
            cx.log(Record::debug("plan", planned.to_string()));
        }
    }

    fn loaded(&mut self, cx: &mut Context<'_>, loaded: Loaded) {
        match loaded {
            Loaded::Storage(result) => self.storage_loaded(cx, result),
            // Of the time before this instance stepped down.
            Loaded::Certificate(..)
            | Loaded::Guard(_)
            | Loaded::Archive(_)
            | Loaded::Archived(..)
                if !self.storage.is_active() => {}
            Loaded::Certificate(name, file) if self.run_mode.follows() => {
                self.certificates.read(cx, &name, file);
            }
            Loaded::Certificate(name, file) => self.revoke(cx, &name, file),
            Loaded::Guard(result) => {
                if let (Ok(look), true) = (&result, self.guard.is_looking()) {
                    self.certificates.compare_files(cx, &look.ours, &look.changed);
                }
                let (served, is_reading) =
                    (self.certificates.served(), self.certificates.is_reading());
                let needs_reload = self.guard.looked(cx, result, served, is_reading);
                let blocking = self.guard.blocking();
                self.reloader.looked(cx, blocking.as_deref(), self.guard.shadowed());
                if needs_reload {
                    self.reloader.changed(cx);
                }
            }
            Loaded::Archive(names) => {
                let output = self.archive.listed(cx, names);
                self.archive_output(output);
            }
            Loaded::Archived(file, result) => {
                let output = self.archive.read(cx, &file, result);
                self.archive_output(output);
            }
            Loaded::Challenge(conn, token, found) => {
                let found = found.filter(|text| challenge::is_key_authorization(&token, text));
                self.ask_front(cx.now, |front, reports| {
                    front.looked_up(cx, conn, &token, found, reports);
                });
            }
            Loaded::Challenges(tokens) => {
                self.ask_front(cx.now, |front, reports| front.listed(cx, tokens, reports));
            }
            Loaded::Token(file) => self.watcher.token_read(cx, &mut self.client, file),
            Loaded::NameService { resolv_conf, hosts } => {
                self.client.handle_name_service(cx, &resolv_conf, &hosts);
            }
        }
    }

    fn stored(&mut self, cx: &mut Context<'_>, write: WriteId, result: Result<(), StoreError>) {
        if self.storage.loses_lease_to(&result) && self.storage.awaits(write) {
            return self.demote(cx, "another instance has taken the lock over");
        }
        match self.storage.stored(cx, write, &result) {
            Some(Purpose::AccountKey) => self.issuer.account_key_stored(cx, result),
            Some(Purpose::Certificate(name)) => self.certificates.written(cx, &name, result),
            Some(Purpose::Archive(name)) if self.run_mode.to_revoke() == Some(&name) => {
                self.revoked_archived(cx, result);
            }
            Some(Purpose::Archive(name)) => self.certificates.archived(cx, &name, result),
            Some(Purpose::Reject(name)) => self.certificates.rejected(cx, &name, result),
            Some(Purpose::State(revision)) => {
                self.journal.ended(cx.now.mono, cx.keys, result.is_ok());
                self.certificates.recorded(cx, revision, result.as_ref().copied());
            }
            Some(Purpose::Archived(file)) => {
                let output = self.archive.written(cx, &file, result);
                self.archive_output(output);
            }
            Some(Purpose::Fallback) if result.is_ok() => self.owe_reload(cx),
            Some(
                Purpose::Fallback | Purpose::ArchiveState | Purpose::Challenge | Purpose::Lock(_),
            )
            | None => {}
        }
    }

    /// Lets every part do what is due, then carries what they want to each other until nothing
    /// moves any more.
    fn settle(&mut self, cx: &mut Context<'_>) {
        self.storage.handle_timeout(cx);
        self.recall_on(cx);
        self.write_on();
        self.front.handle_timeout(cx);
        self.client.handle_timeout(cx);
        self.watcher.handle_timeout(cx, &mut self.client);
        self.certificates.handle_timeout(cx);
        self.start_watcher(cx);
        self.keep_guard(cx);
        if self.may_clean_archive() {
            let output = self.archive.handle_timeout(cx.now);
            self.archive_output(output);
        }
        self.issuer.handle_timeout(cx);
        let peers = (&mut self.client, &self.certificates as &dyn Catalog);
        self.reloader.handle_timeout(cx, peers);
        self.certificates.keep_before(self.reloader.has_canary());
        while self.carry(cx) {}
        if self.certificates.take_compared() {
            let keep = |name: &_| self.certificates.wants(name);
            self.routes.retain(cx, &mut self.client, keep);
        }
        self.remove_stale_challenges(cx);
        self.save(cx);
        while self.carry(cx) {}
        let status = self.stopped(cx.now.mono).or_else(|| self.run_mode_over(cx));
        if let Some(status) = status.filter(|_| !self.over) {
            self.end(cx, status);
        }
        self.flush_log(cx);
        self.wait = self.poll_timeout(cx.now);
    }

    /// As [`Daemon::settle`], where a client has said something before anything else was due: that
    /// moves the listener's side alone, and so costs no look at all the others.
    fn settle_front(&mut self, cx: &mut Context<'_>) {
        self.front.handle_timeout(cx);
        self.outputs.extend(self.front.outputs());
        self.flush_log(cx);
    }

    /// Looks through `certs/` when it is time. What is not ours is judged by what is, so that all of that
    /// must have been read.
    fn keep_guard(&mut self, cx: &Context<'_>) {
        if !self.certificates.is_reading() && self.guard.is_due(cx.now.mono) {
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
    fn carry(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(event) = self.client.poll_event() {
            self.dispatch(cx, event);
            moved = true;
        }
        while let Some(news) = self.reloader.poll_news() {
            match news {
                News::Served(names) => self.certificates.seen_served(cx.now.wall, &names),
                News::Rejected { names, reason } => {
                    let rolled_back = self.certificates.unserved(cx, &names, &reason);
                    self.reloader.decided(cx, rolled_back);
                }
                News::Futile => self.certificates.restore_rolled_back(cx),
                News::Unexplained => self.guard.look_soon(cx.now.mono),
            }
            moved = true;
        }
        while let Some(output) = self.certificates.poll_output() {
            self.certificates_want(cx, output);
            moved = true;
        }
        while let Some(output) = self.issuer.poll_output() {
            self.issuer_wants(cx, output);
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
        cx: &mut Context<'_>,
        (owner, request, event): (Owner, RequestId, ClientEvent),
    ) {
        let client = &mut self.client;
        match owner {
            Owner::Watcher(of) => {
                let wanted = self.watcher.handle_event(cx, client, (of, request), event);
                if let Some(wanted) = wanted {
                    self.certificates.want_soon(Arc::clone(&wanted.certificates));
                }
            }
            Owner::Routes(of) => self.routes.handle_event(cx, client, (of, request), event),
            Owner::Reloader(of) => {
                let peers = (client, &self.certificates as &dyn Catalog);
                self.reloader.handle_event(cx, peers, (of, request), event);
            }
            Owner::Issuer(call) => self.ca_answered(cx, call, event),
        }
    }

    fn flush_log(&mut self, cx: &mut Context<'_>) {
        let level = self.config.log_level;
        let heard = cx.log.drain(..).filter(|record| record.level >= level);
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
            self.stale_challenges.poll_timeout(now.mono),
            self.run_mode.poll_timeout(),
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
        let mut cx = Context { now, keys, log: &mut log };
        let has_lapsed = self.storage.has_lapsed(now.mono);
        if has_lapsed {
            // Before anything else: whatever it was going to do may be done by another one by now.
            self.demote(&mut cx, "this instance was frozen, or its storage was");
        }
        let is_of_a_stranger = service_status::is_of_a_stranger(&input);
        self.take_in(&mut cx, input);
        let is_due = has_lapsed || self.wait.is_some_and(|at| at <= now.mono);
        // Nothing is done any more that nobody would hear of.
        if !self.over {
            if is_of_a_stranger && !is_due {
                self.settle_front(&mut cx);
            } else {
                self.settle(&mut cx);
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
