//! What the daemon remembers: taken in at the start, gathered from the parts, and written when the
//! journal says so. Part of the daemon.

use crate::daemon::certificates::Urgency;
use crate::daemon::memory::{self, CaMemory, Memory};
use crate::daemon::reloader::UpToDate;
use crate::daemon::storekeeper::Purpose;
use crate::log::Record;
use crate::seam::Change;
use crate::turn::Turn;

use super::Daemon;

impl Daemon {
    /// Takes in what an earlier run has left in `state.json`.
    pub(super) fn recall(&mut self, turn: &mut Turn<'_>, state: Option<&[u8]>) {
        // Where nothing is remembered, nobody knows who has loaded what.
        let nothing = Memory { reload_owed: true, ..Memory::default() };
        let memory = match state.map(Memory::parse) {
            None => nothing,
            Some(Ok(memory)) => memory,
            Some(Err(_)) => {
                turn.log(Record::warn("storage", "state.json is damaged, moved to archive/"));
                self.storage.store(Purpose::ArchiveState, Change::ArchiveState);
                self.journal.touch(turn.now.mono, Urgency::Now);
                nothing
            }
        };
        let Memory { reload_owed, reloaded, cas, certificates } = memory;
        let learned = cas.get(&self.directory).map(|ca| &ca.names_max);
        if let Some(max) = learned.and_then(|learned| learned.get(self.profile())) {
            self.watcher.limit_names(turn, *max);
        }
        self.reload_owed = reload_owed;
        if !reload_owed {
            self.reloader.restore(turn, &reloaded);
        }
        self.cas = cas;
        let budget = self.cas.get(&self.directory).map(|ca| ca.budget.clone());
        self.certificates.restore(turn, certificates, budget.unwrap_or_default());
    }

    pub(super) fn owe_reload(&mut self, turn: &mut Turn<'_>) {
        self.note_debt(turn);
        self.reloader.changed(turn);
    }

    /// Remembers that load balancers owe a reload. To be called before what they are to load is
    /// stored, so that a crash between the two forgets no debt.
    pub(super) fn note_debt(&mut self, turn: &mut Turn<'_>) {
        if !self.reload_owed {
            self.reload_owed = true;
            self.write_memory(turn);
        }
    }

    /// Writes the memory when something of it has changed and it is time.
    pub(super) fn save(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
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
        if self.storage.is_active() && self.journal.is_due(now) {
            self.write_memory(turn);
        }
    }

    /// What is remembered of the CA in use.
    pub(super) fn ca(&mut self) -> &mut CaMemory {
        self.cas.get_or_insert_with(self.directory.clone(), CaMemory::default)
    }

    /// The profile that is ordered; empty for the CA's default.
    fn profile(&self) -> &str {
        self.config.profile.as_deref().unwrap_or_default()
    }

    /// The CA accepts no more names in one certificate: that is remembered, and what is wanted is split by
    /// it.
    pub(super) fn limit_names(&mut self, turn: &mut Turn<'_>, max: usize) {
        let profile = self.profile().to_string();
        let learned = self.ca().names_max.get_or_insert_with(profile, || max);
        *learned = max.min(*learned);
        self.journal.touch(turn.now.mono, Urgency::Now);
        if let Some(wanted) = self.watcher.limit_names(turn, max) {
            self.certificates.want(turn, &wanted.certificates);
            let keep = |name: &_| self.certificates.wants(name);
            self.routes.retain(turn, &mut self.transport, keep);
        }
    }

    pub(super) fn write_memory(&mut self, turn: &mut Turn<'_>) {
        let revision = self.journal.begin(turn.now.mono);
        self.certificates.recording(revision);
        let budget = self.certificates.budget(turn.now.wall);
        let ca = self.ca();
        ca.budget = budget;
        ca.not_before = ca.not_before.filter(|at| *at > turn.now.wall);
        let certificates = self.certificates.memory();
        let reloaded = if self.reload_owed { UpToDate::new() } else { self.reloader.up_to_date() };
        let state = memory::to_bytes(self.reload_owed, &reloaded, &self.cas, certificates);
        self.storage.store(Purpose::State(revision), Change::State(state));
    }
}
