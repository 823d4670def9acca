//! Removes the private keys of expired certificates from the files in `archive/`, where nobody needs them
//! any more: once after this instance became the active one, and then once a day. Files are read one at a
//! time, so that nothing else waits for long. What was done is seen in the files, so that a pass that was
//! cut short is simply made again. Never touches a file without a key, nor one whose certificate is valid.
//!
//! `Off → Due → Listing → Reading → (Writing →) Reading → … → Listing → Due`

use std::collections::VecDeque;
use std::time::Duration;

use crate::context::Context;
use crate::hint::Hint;
use crate::keys::jittered;
use crate::log::{Record, message};
use crate::machine::{Change, Load, StoreError, StoreErrorKind};
use crate::pki::archived::{KeyRemoval, key_removal};
use crate::secret::Secret;
use crate::time::{Instant, Now, UnixTime};

/// From one pass to the next.
const PASS_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause after a pass that the disk has cut short.
const RETRY_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Only these files in `archive/` hold keys.
const ENDING: &str = ".pem";

/// The passes over `archive/`.
#[derive(Debug, Default)]
pub(super) struct Archive {
    state: State,
    /// Files without a certificate that can be read, in the last whole pass.
    unknown: usize,
}

#[derive(Debug, Default)]
enum State {
    /// This instance is not the active one.
    #[default]
    Off,
    /// The next pass begins at that time.
    Due(Instant),
    /// Names are on their way.
    Listing(Pass),
    /// A file is on its way.
    Reading(Pass),
    /// A file is being replaced.
    Writing(Pass),
}

/// A pass so far.
#[derive(Debug, Default)]
struct Pass {
    /// The time, by which certificates have expired: that of the beginning, at which our clock agreed with
    /// the CA's.
    now: UnixTime,
    /// The last name that was listed.
    after: Option<String>,
    /// Files to read; the first one is being read or replaced.
    unread: VecDeque<String>,
    /// How many files have lost a key.
    removed: usize,
    /// How many hold a key and no certificate that can be read, and the first of them.
    unknown: usize,
    first_unknown: Option<String>,
}

/// What to do.
#[derive(Debug)]
pub(super) enum ArchiveOutput {
    /// Read; the answer goes to [`Archive::listed`] or [`Archive::read`].
    Load(Load),
    /// Replace this file in `archive/`; the answer goes to [`Archive::written`].
    Store(String, Change),
}

impl Archive {
    /// This instance has become the active one.
    pub(super) fn start(&mut self, now: Instant) {
        self.state = State::Due(now);
    }

    /// Begins a pass when it is time.
    pub(super) fn handle_timeout(&mut self, now: Now) -> Option<ArchiveOutput> {
        match self.state {
            State::Due(at) if at <= now.mono => {}
            _ => return None,
        }
        Some(self.list(Pass { now: now.wall, ..Pass::default() }))
    }

    /// When the next pass begins.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            _ => None,
        }
    }

    fn list(&mut self, pass: Pass) -> ArchiveOutput {
        let after = pass.after.clone();
        self.state = State::Listing(pass);
        ArchiveOutput::Load(Load::Archive { after })
    }

    /// Takes in the names in `archive/`.
    pub(super) fn listed(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<Vec<String>, StoreError>,
    ) -> Option<ArchiveOutput> {
        let State::Listing(pass) = &mut self.state else { return None };
        let mut pass = std::mem::take(pass);
        match result {
            Ok(names) if names.is_empty() => self.finish(cx, pass),
            Ok(names) => {
                pass.after = names.last().cloned();
                pass.unread = names.into_iter().filter(|name| name.ends_with(ENDING)).collect();
                return Some(self.read_next(pass));
            }
            Err(error) => self.cut_short(cx, &error, "archive"),
        }
        None
    }

    /// Reads the next file, or lists what follows.
    fn read_next(&mut self, pass: Pass) -> ArchiveOutput {
        let Some(file) = pass.unread.front().cloned() else { return self.list(pass) };
        self.state = State::Reading(pass);
        ArchiveOutput::Load(Load::Archived(file))
    }

    /// Takes in what a file holds.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        file: &str,
        result: Result<Secret, StoreError>,
    ) -> Option<ArchiveOutput> {
        // Another answer is one of a pass before this one.
        let State::Reading(pass) = &mut self.state else { return None };
        if pass.unread.front().is_none_or(|unread| unread != file) {
            return None;
        }
        let mut pass = std::mem::take(pass);
        match result.map(|text| key_removal(&text, pass.now)) {
            Ok(KeyRemoval::Due(pem)) => {
                self.state = State::Writing(pass);
                let change = Change::ReplaceArchived { file: file.into(), pem };
                return Some(ArchiveOutput::Store(file.into(), change));
            }
            Ok(KeyRemoval::Unknown) => {
                pass.unknown += 1;
                pass.first_unknown.get_or_insert_with(|| file.into());
            }
            Ok(KeyRemoval::NoKey | KeyRemoval::NotYet(_)) => {}
            // The next files would meet the same.
            Err(error) if matches!(error.kind, StoreErrorKind::Io | StoreErrorKind::Stale) => {
                self.cut_short(cx, &error, file);
                return None;
            }
            // Taken away meanwhile, a link, another user's, or too long to be one of ours.
            Err(error) => {
                let line = Record::debug("storage", "archived file skipped").with("file", file);
                cx.log(line.with("error", error));
            }
        }
        pass.unread.pop_front();
        Some(self.read_next(pass))
    }

    /// Takes in how a file was replaced.
    pub(super) fn written(
        &mut self,
        cx: &mut Context<'_>,
        file: &str,
        result: Result<(), StoreError>,
    ) -> Option<ArchiveOutput> {
        let State::Writing(pass) = &mut self.state else { return None };
        let mut pass = std::mem::take(pass);
        match result {
            Ok(()) => {
                let line =
                    Record::debug("storage", "private key removed from archived certificate");
                cx.log(line.with("file", file));
                pass.removed += 1;
            }
            // Something has taken its place; the storage has said so.
            Err(error) if error.kind == StoreErrorKind::NotAFile => {}
            Err(error) => {
                self.cut_short(cx, &error, file);
                return None;
            }
        }
        pass.unread.pop_front();
        Some(self.read_next(pass))
    }

    fn cut_short(&mut self, cx: &mut Context<'_>, error: &StoreError, file: &str) {
        let pause = jittered(cx.keys, RETRY_PAUSE);
        self.state = State::Due(cx.now.mono + pause);
        let line = Record::error("storage", "cannot remove private keys from archive/");
        let line = line.with("file", file).with("error", error);
        let line = line.with("next_try", cx.now.wall.plus(pause));
        cx.log(line.hinted(Hint::of_storage(error.kind)));
    }

    fn finish(&mut self, cx: &mut Context<'_>, pass: Pass) {
        self.state = State::Due(cx.now.mono + jittered(cx.keys, PASS_PAUSE));
        if pass.removed > 0 {
            let line = message::KEYS_REMOVED;
            cx.log(Record::info("storage", line).with("files", pass.removed));
        }
        let unknown = std::mem::replace(&mut self.unknown, pass.unknown);
        if let Some(first) = pass.first_unknown.filter(|_| unknown != pass.unknown) {
            let line = message::KEYS_WITHOUT_CERTIFICATE;
            let line = Record::warn("storage", line).with("files", pass.unknown);
            cx.log(line.with("first", first));
        }
    }
}

#[cfg(test)]
mod tests;
