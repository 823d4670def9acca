//! Files that no app wants any more and that would only stand in another one's way: of two files with one
//! name in them HAProxy serves the alphabetically first, however old it is. Part of the scheduler's
//! machine; a file that has expired and that no app wants is archived likewise.

use std::collections::BTreeSet;

use crate::context::Context;
use crate::daemon::model::Urgency;
use crate::domain::Domain;
use crate::hint::Hint;
use crate::keys::jittered;
use crate::log::{Record, message};
use crate::machine::StoreError;
use crate::time::UnixTime;

use super::entry::{Entry, Step};
use super::{Certificates, CertificatesOutput, WRITE_PAUSE};

impl Certificates {
    /// Finds the unwanted certificates that may go: all their wanted names are in certificates that are
    /// wanted and stored, and that stay so.
    pub(super) fn retire(&mut self, now: UnixTime) {
        if !self.policy.synced || self.surplus.is_empty() {
            return;
        }
        let desired = self.entries.values().flat_map(|entry| &entry.desired);
        let wanted: BTreeSet<&Domain> = desired.flat_map(|desired| &desired.names).collect();
        let kept = self.entries.values().filter(|entry| entry.desired.is_some());
        let served: BTreeSet<&Domain> = kept.flat_map(|entry| entry.lasting_names(now)).collect();
        let is_superseded = |entry: &Entry| {
            let names = entry.stored.iter().flat_map(|stored| &stored.names);
            let mut wanted = names.filter(|name| wanted.contains(name)).peekable();
            wanted.peek().is_some() && wanted.all(|name| served.contains(name))
        };
        let surplus = self.surplus.iter().filter_map(|name| self.entries.get_key_value(name));
        let found = surplus.map(|(name, entry)| (name.clone(), is_superseded(entry)));
        for (name, superseded) in found.collect::<Vec<_>>() {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.superseded = superseded;
            }
            self.reindex(&name);
        }
    }

    /// The same after something has happened to one certificate alone.
    pub(super) fn retire_for(&mut self, now: UnixTime, name: &Domain) {
        let names = |name: &Domain| self.entries.get(name)?.stored.as_ref().map(|it| &it.names);
        let Some(new) = names(name) else { return };
        if self.surplus.iter().filter_map(names).flatten().any(|name| new.contains(name)) {
            self.retire(now);
        }
    }

    /// Takes in how a [`CertificatesOutput::Archive`] ended.
    pub fn archived(
        &mut self,
        cx: &mut Context<'_>,
        name: &Domain,
        result: Result<(), StoreError>,
    ) {
        if result.is_ok() {
            self.outputs.push_back(CertificatesOutput::Changed(None));
        }
        let Some(entry) = self.entries.get_mut(name) else { return };
        // A damaged file has left its entry already.
        let Step::Archiving { again_at } = &mut entry.step else { return };
        match result {
            Ok(()) => {
                let why = if entry.superseded { "superseded" } else { "expired and unwanted" };
                let line =
                    Record::info("storage", message::CERTIFICATE_ARCHIVED).with("name", name);
                cx.log(line.with("reason", why));
                self.note_earlier(name, &[]);
                let Some(entry) = self.entries.get_mut(name) else { return };
                (entry.stored, entry.memory.life, entry.superseded) = (None, None, false);
                self.unsaved = Some(Urgency::Now);
                self.step(name, Step::Resting);
            }
            Err(error) => {
                let at = cx.now.wall.plus(jittered(cx.keys, WRITE_PAUSE));
                *again_at = Some(at);
                let line = Record::error("storage", "cannot archive certificate");
                let line = line.with("name", name).with("error", &error).with("next_try", at);
                cx.log(line.hinted(Hint::of_storage(error.kind)));
                self.reindex(name);
            }
        }
    }
}

impl Entry {
    /// The names that the stored certificate is for, and that are in its file whatever comes next: it may
    /// have to make room for the previous certificate, or is being replaced.
    fn lasting_names(&self, now: UnixTime) -> impl Iterator<Item = &Domain> {
        let stored = self.stored.iter().filter(move |stored| stored.not_after > now);
        let before = self.trial.as_ref().and_then(|trial| trial.may_go_back_to(now));
        let next = match &self.step {
            Step::Storing { stored, .. } => Some(&**stored),
            _ => None,
        };
        let lasts =
            move |name: &&Domain| before.into_iter().chain(next).all(|other| other.is_for(name));
        stored.flat_map(|stored| &stored.names).filter(lasts)
    }
}
