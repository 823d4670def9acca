//! The storage as the daemon sees it: opened (again and again until it can be), every change named,
//! what failed noticed. Never decides what is written.
//!
//! `Opening ⇄ Pausing → Active, and well ⇄ Doubtful (a write failed; opened again until it works)`, and
//! from a `Pausing` in which another instance's lease ended `→ TakingOver → Pausing → Opening`. An active
//! one that is not sure of its own lease begins again ([`StorageManager::demote`]). On a file system
//! without locks there is a `Pausing` between writing the lock and using it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::hint::Hint;
use crate::log::{Record, message};
use crate::machine::{
    Change, Inventory, Load, MissingFeatures, Output, StoreError, StoreErrorKind, WriteId,
};
use crate::time::Instant;

mod lease;

pub use lease::{BEAT, HOLD, TAKEOVER_GRACE};
use lease::{Lease, LeaseObserver, is_over};

/// A standby instance looks this often whether the active one lives.
const STANDBY_PAUSE: Duration = Duration::from_secs(2);

/// The files that are read when the storage is opened.
const SINGLE_FILES: [&str; 3] = ["client.key", "default.pem", "state.json"];

/// What a change was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `client.key`.
    AccountKey,
    /// `default.pem`.
    Fallback,
    /// `certs/NAME.pem`.
    Certificate(Domain),
    /// `certs/NAME.pem`, into `archive/`.
    Archive(Domain),
    /// What may not become `certs/NAME.pem`, into `archive/`.
    Reject(Domain),
    /// `state.json`, into `archive/`.
    ArchiveState,
    /// A file in `archive/`, replaced.
    Archived(String),
    /// `state.json`; which writing of it.
    State(u64),
    /// `challenges/TOKEN`, written or removed.
    Challenge,
    /// `lock`; when it was asked for.
    Lock(Instant),
}

/// The storage can be used.
#[derive(Debug)]
pub struct Opened {
    /// For the first time: this instance is the active one from now on.
    pub activated: bool,
    /// What is there. Changes that failed before are not in it.
    pub inventory: Inventory,
}

/// Access to the storage.
#[derive(Debug)]
pub struct StorageManager {
    state: State,
    rival: LeaseObserver,
    backoff: Backoff,
    writes: FlatMap<WriteId, Purpose>,
    writes_made: u64,
    /// Answers to [`Load::Storage`] that are on their way and count no more.
    stale_loads: u32,
    /// What the file system does not offer, as far as it was logged.
    missing: MissingFeatures,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum State {
    /// Asked for at that time, and the answer is on its way.
    Opening { asked: Instant, trouble: Option<StoreError> },
    /// It could not be opened; again at this time.
    Pausing { until: Instant, trouble: StoreError },
    /// The lock is being taken from an instance that has lost its lease.
    TakingOver { trouble: StoreError },
    /// This instance is the active one.
    Active { lease: Option<Lease>, disk: Disk },
}

/// How it stands with the disk of an active instance.
#[derive(Debug)]
enum Disk {
    /// The last write worked.
    Well,
    /// A write failed; tried again at this time.
    Doubtful { until: Instant, trouble: StoreError },
    /// As `Doubtful`; asked for at that time, and the answer is on its way.
    Reopening { asked: Instant, trouble: StoreError },
}

impl Default for StorageManager {
    fn default() -> StorageManager {
        StorageManager {
            state: State::Opening { asked: Instant::START, trouble: None },
            rival: LeaseObserver::default(),
            backoff: Backoff::default(),
            writes: FlatMap::new(),
            writes_made: 0,
            stale_loads: 0,
            missing: MissingFeatures::default(),
            outputs: VecDeque::new(),
        }
    }
}

impl StorageManager {
    /// Asks for the storage for the first time.
    pub fn start(&mut self, now: Instant) {
        self.ask(now, None);
    }

    /// Asks for the storage, to become the active instance.
    fn ask(&mut self, now: Instant, trouble: Option<StoreError>) {
        self.state = State::Opening { asked: now, trouble };
        self.load(Load::Storage);
    }

    /// Begins again as at the start: the lock may be another instance's by now. What was asked for
    /// before is answered in vain.
    pub fn demote(&mut self, now: Instant) {
        if let State::Opening { .. } | State::Active { disk: Disk::Reopening { .. }, .. } =
            self.state
        {
            self.stale_loads += 1;
        }
        self.writes.clear();
        self.outputs.clear();
        self.rival = LeaseObserver::default();
        self.release(now);
        self.ask(now, None);
    }

    /// Gives the lock up.
    pub fn release(&mut self, now: Instant) {
        self.store(Purpose::Lock(now), Change::Release);
    }

    /// Whether this instance is the active one for all it knows, but may not be by now: it was not heard
    /// of for too long.
    pub fn has_lapsed(&self, now: Instant) -> bool {
        matches!(&self.state, State::Active { lease: Some(lease), .. } if lease.has_lapsed(now))
    }

    /// Whether an answer says that this instance, which is the active one for all it knew, is not.
    pub fn loses_lease_to<T>(&self, answer: &Result<T, StoreError>) -> bool {
        self.is_active() && answer.as_ref().is_err_and(|error| is_about_the_lock(error.kind))
    }

    /// Takes in the answer to [`Load::Storage`]: what is there, and whether this makes us active.
    pub fn opened(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<Inventory, StoreError>,
    ) -> Option<Opened> {
        if self.stale_loads > 0 {
            self.stale_loads -= 1;
            return None;
        }
        let inventory = match result {
            Ok(inventory) => inventory,
            Err(trouble) => {
                self.refused(cx, trouble);
                return None;
            }
        };
        let now = cx.now.mono;
        let asked = match &mut self.state {
            State::Opening { asked, .. } => *asked,
            State::Active { disk: Disk::Reopening { asked, .. }, .. } => *asked,
            _ => return None,
        };
        if inventory.leased && is_over(asked, now) && !self.is_active() {
            // Meanwhile it may have become another's.
            let line = Record::warn("storage", "the storage was slow to open, opening it again");
            cx.log(line.with("seconds", now.since(asked).as_secs()));
            self.ask(now, self.trouble().cloned());
            return None;
        }
        if let Some(trouble) = self.trouble().filter(|trouble| !is_about_the_lock(trouble.kind)) {
            let line = Record::info("storage", message::STORAGE_RECOVERED)
                .ends(&[message::STORAGE_FAILED]);
            cx.log(line.with("was", trouble));
        }
        self.log_missing(cx, inventory.missing);
        self.backoff.reset();
        let activated = !self.is_active();
        let lease = inventory.leased.then(|| Lease::new(asked));
        self.state = State::Active { lease, disk: Disk::Well };
        Some(Opened { activated, inventory })
    }

    /// Logs once what the file system of the storage does not offer.
    fn log_missing(&mut self, cx: &mut Context<'_>, missing: MissingFeatures) {
        let warnings = [
            (missing.modes && !self.missing.modes, message::NO_MODES),
            (missing.locks && !self.missing.locks, message::NO_LOCKS),
            (missing.flushes && !self.missing.flushes, message::NO_FLUSHES),
        ];
        for (_, line) in warnings.into_iter().filter(|(is_new, _)| *is_new) {
            cx.log(Record::warn("storage", line));
        }
        self.missing = missing;
    }

    fn log_trouble(cx: &mut Context<'_>, trouble: &StoreError, until: Instant) {
        let line = Record::error("storage", message::STORAGE_FAILED).with("error", trouble);
        let line = line.with("next_try", cx.now.wall.plus(until.since(cx.now.mono)));
        cx.log(line.hinted(Hint::of_storage(trouble.kind)));
    }

    fn refused(&mut self, cx: &mut Context<'_>, trouble: StoreError) {
        let now = cx.now.mono;
        let standby = is_about_the_lock(trouble.kind);
        if standby {
            return self.stand_by(cx, trouble);
        }
        let until = now + self.backoff.pause(cx.keys);
        Self::log_trouble(cx, &trouble, until);
        match &mut self.state {
            State::Active { disk, .. } => *disk = Disk::Doubtful { until, trouble },
            _ => self.state = State::Pausing { until, trouble },
        }
    }

    /// Another instance has the lock: watches whether it lives, and takes the lock when it does not.
    fn stand_by(&mut self, cx: &mut Context<'_>, trouble: StoreError) {
        let now = cx.now.mono;
        if trouble.kind == StoreErrorKind::Lost {
            // Taken once, by two instances, and not by this one last.
            self.state = State::Pausing { until: now, trouble };
            return;
        }
        if trouble.kind == StoreErrorKind::Unsettled {
            self.state = State::Pausing { until: now + TAKEOVER_GRACE, trouble };
            return;
        }
        let known = self.trouble().is_some_and(|known| {
            matches!(known.kind, StoreErrorKind::Locked | StoreErrorKind::Leased)
        });
        if !known {
            let line = match trouble.kind {
                StoreErrorKind::Locked => message::STANDING_BY,
                _ => message::STANDING_BY_LEASE,
            };
            cx.log(Record::info("storage", line).with("holder", holder(&trouble.detail)));
        }
        self.rival.seen(now, &trouble.detail);
        if let Some(line) = self.rival.expired(now) {
            let change = Change::TakeOver { holder: line.to_string() };
            self.state = State::TakingOver { trouble };
            self.store(Purpose::Lock(now), change);
        } else {
            self.state = State::Pausing { until: now + STANDBY_PAUSE, trouble };
        }
    }

    /// A change of the lock was answered: a beat, or the lock taken from another instance.
    fn lock_changed(
        &mut self,
        cx: &mut Context<'_>,
        asked: Instant,
        result: &Result<(), StoreError>,
    ) {
        let now = cx.now.mono;
        match (&mut self.state, result) {
            // A disk that does not take a beat takes nothing of the others either, so that the lease is
            // not lost by that; whoever finds that the lock is another's says so.
            (State::Active { lease: Some(lease), .. }, _) => lease.confirm(asked),
            (State::TakingOver { trouble }, Ok(())) => {
                let line = message::TOOK_OVER;
                cx.log(Record::warn("storage", line).with("holder", holder(&trouble.detail)));
                let until = now + TAKEOVER_GRACE;
                self.state = State::Pausing { until, trouble: trouble.clone() };
            }
            (State::TakingOver { trouble }, Err(error)) => {
                if !is_about_the_lock(error.kind) {
                    let line = Record::error("storage", "cannot take over from a frozen instance");
                    cx.log(line.with("error", error));
                }
                let until = now + STANDBY_PAUSE;
                self.state = State::Pausing { until, trouble: trouble.clone() };
            }
            _ => {}
        }
    }

    /// Makes a change; its outcome comes back with the purpose from [`StorageManager::stored`].
    pub fn store(&mut self, purpose: Purpose, change: Change) {
        let write = WriteId(self.writes_made);
        self.writes_made += 1;
        self.writes.insert(write, purpose);
        self.outputs.push_back(Output::Store { write, change });
    }

    /// Makes a change before all others that wait.
    pub fn store_first(&mut self, purpose: Purpose, change: Change) {
        self.store(purpose, change);
        self.outputs.rotate_right(1);
    }

    /// Reads something.
    pub fn load(&mut self, load: Load) {
        self.outputs.push_back(Output::Load(load));
    }

    /// Takes in the outcome of a change; what it was for.
    pub fn stored(
        &mut self,
        cx: &mut Context<'_>,
        write: WriteId,
        result: &Result<(), StoreError>,
    ) -> Option<Purpose> {
        let purpose = self.writes.remove(&write)?;
        if let Purpose::Lock(asked) = purpose {
            self.lock_changed(cx, asked, result);
        }
        match result {
            Ok(()) => {}
            Err(error) if error.kind.is_storage_failure() => self.write_failed(cx, error),
            Err(error) if is_about_the_lock(error.kind) => {}
            Err(error) => {
                let line = Record::warn("storage", "a change was not made");
                cx.log(line.with("error", error).hinted(Hint::of_storage(error.kind)));
            }
        }
        Some(purpose)
    }

    /// The storage as a whole could not be written: it is opened again until that works.
    fn write_failed(&mut self, cx: &mut Context<'_>, error: &StoreError) {
        let State::Active { disk, .. } = &mut self.state else { return };
        match disk {
            Disk::Well => {
                let until = cx.now.mono + self.backoff.pause(cx.keys);
                Self::log_trouble(cx, error, until);
                *disk = Disk::Doubtful { until, trouble: error.clone() };
            }
            Disk::Doubtful { trouble, until } if trouble.kind != error.kind => {
                Self::log_trouble(cx, error, *until);
                *trouble = error.clone();
            }
            // What opens it meets the same, or it works again.
            Disk::Doubtful { .. } | Disk::Reopening { .. } => {}
        }
    }

    /// Whether the outcome of a change still matters.
    pub fn awaits(&self, write: WriteId) -> bool {
        self.writes.contains_key(&write)
    }

    /// Whether this instance holds the lock.
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Active { .. })
    }

    /// Changes whose outcome is not known yet.
    pub fn writes_under_way(&self) -> usize {
        self.writes.len()
    }

    /// How often in a row it could not be opened or written.
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// What is wrong with the storage, when something is.
    pub fn trouble(&self) -> Option<&StoreError> {
        match &self.state {
            State::Opening { trouble, .. } => trouble.as_ref(),
            State::Pausing { trouble, .. } | State::TakingOver { trouble } => Some(trouble),
            State::Active { disk, .. } => match disk {
                Disk::Well => None,
                Disk::Doubtful { trouble, .. } | Disk::Reopening { trouble, .. } => Some(trouble),
            },
        }
    }

    /// What is wrong with the storage as a whole. While it cannot be opened, that is every error but
    /// those about a single file.
    pub fn failure(&self) -> Option<&StoreError> {
        let is_whole = |error: &&StoreError| {
            let of_directory = !self.is_active() && !SINGLE_FILES.contains(&&*error.path);
            error.kind.is_storage_failure() || of_directory
        };
        self.write_trouble().filter(is_whole)
    }

    /// What keeps the storage from being written; standing by is no trouble.
    pub fn write_trouble(&self) -> Option<&StoreError> {
        self.trouble().filter(|trouble| !is_about_the_lock(trouble.kind))
    }

    /// Whether another instance is at work on this storage, and not only its line is left there.
    pub fn is_anothers(&self) -> bool {
        self.trouble().is_some_and(|trouble| match trouble.kind {
            StoreErrorKind::Locked => true,
            StoreErrorKind::Leased => self.rival.lives(),
            _ => false,
        })
    }

    /// Beats, and tries again, when it is time.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        if let State::Active { lease: Some(lease), .. } = &mut self.state
            && lease.beat(now)
        {
            self.store(Purpose::Lock(now), Change::Heartbeat);
        }
        match &mut self.state {
            State::Pausing { until, trouble } if *until <= now => {
                let trouble = trouble.clone();
                self.ask(now, Some(trouble));
            }
            State::Active { disk, .. } => {
                if let Disk::Doubtful { until, trouble } = disk
                    && *until <= now
                {
                    *disk = Disk::Reopening { asked: now, trouble: trouble.clone() };
                    self.load(Load::Storage);
                }
            }
            _ => {}
        }
    }

    /// When it has to do something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Pausing { until, .. } => Some(*until),
            State::Opening { .. } | State::TakingOver { .. } => None,
            State::Active { lease, disk } => {
                let beat = lease.as_ref().map(Lease::beat_at);
                let again = match disk {
                    Disk::Doubtful { until, .. } => Some(*until),
                    Disk::Well | Disk::Reopening { .. } => None,
                };
                beat.into_iter().chain(again).min()
            }
        }
    }

    /// What to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// Who wrote a line, for the operator.
fn holder(line: &str) -> &str {
    line.split(' ').next().filter(|word| !word.is_empty()).unwrap_or("unknown")
}

/// Whether an error only means that another instance is, or may be, the active one.
fn is_about_the_lock(kind: StoreErrorKind) -> bool {
    use StoreErrorKind::{Leased, Locked, Lost, Unsettled};
    matches!(kind, Locked | Leased | Lost | Unsettled)
}

#[cfg(test)]
mod tests;
