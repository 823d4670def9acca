//! What the daemon remembers: taken in at the start, gathered from the parts, and written when the
//! journal says so. Part of the daemon.

use std::sync::Arc;

use crate::daemon::model::{CaState, UpToDate, Urgency};
use crate::daemon::state::{SavedState, StateReader, StateWriter};

use crate::context::Context;
use crate::daemon::storage::Purpose;
use crate::log::Record;
use crate::machine::{Change, Inventory};

use super::Daemon;
use super::stale_challenges::StaleChallenges;

/// Certificates whose memory is read, or written, in one iteration.
const PER_TURN: usize = 500;

/// What an earlier run has left, while its memory is read: only then the work begins.
#[derive(Debug)]
pub(super) struct Recalling {
    state: Option<StateReader>,
    inventory: Inventory,
}

/// The memory while it is put together; which writing of it.
#[derive(Debug)]
pub(super) struct Writing {
    revision: u64,
    text: StateWriter,
}

impl Daemon {
    /// This instance holds the storage now: what is there is taken in, then the work begins.
    pub(super) fn recall(&mut self, cx: &mut Context<'_>, mut inventory: Inventory) {
        self.stale_challenges = StaleChallenges::found(cx.now.mono, &inventory.challenges);
        let state = inventory.state.take().map(StateReader::new);
        self.recalling = Some(Recalling { state, inventory });
        self.recall_on(cx);
    }

    /// Carries on with that.
    pub(super) fn recall_on(&mut self, cx: &mut Context<'_>) {
        let Some(Recalling { state, inventory }) = self.recalling.take() else { return };
        // Where nothing is remembered, nobody knows who has loaded what.
        let nothing = || SavedState { reload_owed: true, ..SavedState::default() };
        let memory = match state {
            None => Ok(nothing()),
            Some(mut state) => match state.read(PER_TURN) {
                Ok(false) => {
                    self.recalling = Some(Recalling { state: Some(state), inventory });
                    return;
                }
                Ok(true) => state.finish(),
                Err(damaged) => Err(damaged),
            },
        };
        let memory = memory.unwrap_or_else(|_| {
            cx.log(Record::warn("storage", "state.json is damaged, moved to archive/"));
            self.storage.store(Purpose::ArchiveState, Change::ArchiveState);
            self.journal.touch(cx.now.mono, Urgency::Now);
            nothing()
        });
        let SavedState { reload_owed, reloaded, cas, certificates } = memory;
        let learned = cas.get(&self.directory).map(|ca| &ca.names_max);
        if let Some(max) = learned.and_then(|learned| learned.get(self.profile())) {
            self.watcher.limit_names(cx, *max);
        }
        self.reload_owed = reload_owed;
        if !reload_owed {
            self.reloader.restore(cx, &reloaded);
        }
        self.cas = cas;
        let budget = self.cas.get(&self.directory).map(|ca| ca.budget.clone());
        self.certificates.restore(cx, certificates, budget.unwrap_or_default());
        self.reconcile(cx, &inventory);
        self.activate(cx, inventory);
    }

    pub(super) fn owe_reload(&mut self, cx: &mut Context<'_>) {
        self.note_debt(cx);
        self.reloader.changed(cx);
    }

    /// Remembers that load balancers owe a reload. To be called before what they are to load is
    /// stored, so that a crash between the two forgets no debt.
    pub(super) fn note_debt(&mut self, cx: &mut Context<'_>) {
        if !self.reload_owed {
            self.reload_owed = true;
            self.write_memory(cx);
        }
    }

    /// Writes the memory when something of it has changed and it is time.
    pub(super) fn save(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        if self.storage.is_active() && self.reloader.is_clean() {
            let news = self.reloader.take_unsaved();
            if std::mem::take(&mut self.reload_owed) {
                self.journal.touch(now, Urgency::Now);
            } else if news {
                self.journal.touch(now, Urgency::Lazy);
            }
        }
        if let Some(urgency) = self.certificates.take_unsaved() {
            self.journal.touch(now, urgency);
        }
        if self.storage.is_active() && self.recalling.is_none() && self.journal.is_due(now) {
            self.write_memory(cx);
        }
    }

    /// What is remembered of the CA in use.
    pub(super) fn ca(&mut self) -> &mut CaState {
        self.cas.get_or_insert_with(self.directory.clone(), CaState::default)
    }

    /// The profile that is ordered; empty for the CA's default.
    fn profile(&self) -> &str {
        self.config.profile.as_deref().unwrap_or_default()
    }

    /// The CA accepts no more names in one certificate: that is remembered, and what is wanted is split by
    /// it.
    pub(super) fn limit_names(&mut self, cx: &mut Context<'_>, max: usize) {
        let profile = self.profile().to_string();
        let learned = self.ca().names_max.get_or_insert_with(profile, || max);
        *learned = max.min(*learned);
        self.journal.touch(cx.now.mono, Urgency::Now);
        if let Some(wanted) = self.watcher.limit_names(cx, max) {
            self.certificates.want_soon(Arc::clone(&wanted.certificates));
        }
    }

    /// Writes the memory as it stands. Of very many certificates the rest is put together in the next
    /// turns, and whatever is stored or sent meanwhile waits for it.
    pub(super) fn write_memory(&mut self, cx: &mut Context<'_>) {
        // One that is not whole yet begins again: what it is about has changed.
        let before = self.writing.take().map(|writing| writing.revision);
        let revision = before.unwrap_or_else(|| self.journal.begin(cx.now.mono));
        self.certificates.recording(revision);
        let budget = self.certificates.budget(cx.now.wall);
        let ca = self.ca();
        ca.budget = budget;
        ca.not_before = ca.not_before.filter(|at| *at > cx.now.wall);
        let reloaded = if self.reload_owed { UpToDate::new() } else { self.reloader.up_to_date() };
        let text = StateWriter::new(self.reload_owed, &reloaded, &self.cas);
        let mut writing = Writing { revision, text };
        if before.is_some() || !self.is_whole(&mut writing) {
            self.writing = Some(writing);
        } else {
            self.storage.store(Purpose::State(revision), Change::State(writing.text.finish()));
        }
    }

    /// Carries on with putting the memory together.
    pub(super) fn write_on(&mut self) {
        let Some(mut writing) = self.writing.take() else { return };
        if self.is_whole(&mut writing) {
            // What was stored since it was begun waits.
            let Writing { revision, text } = writing;
            self.storage.store_first(Purpose::State(revision), Change::State(text.finish()));
        } else {
            self.writing = Some(writing);
        }
    }

    /// Adds some certificates to the memory that is written; whether those were the last.
    fn is_whole(&self, writing: &mut Writing) -> bool {
        let last = writing.text.last().cloned();
        writing.text.add(self.certificates.memory(last.as_ref()).take(PER_TURN)) < PER_TURN
    }
}
