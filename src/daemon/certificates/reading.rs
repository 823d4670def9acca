//! The files in `certs/`, at the start and when another has changed one: read one by one, adopted, or
//! set aside. Part of the scheduler's machine. Never removes a file that HAProxy can load.

use crate::context::Context;
use crate::daemon::model::{Stored, Urgency, minutes};
use crate::domain::Domain;
use crate::hint::Hint;
use crate::keys::jittered;
use crate::log::{Record, message};
use crate::machine::{StoreError, StoreErrorKind};
use crate::pki::BundleError;
use crate::secret::Secret;

use super::entry::Step;

use super::{Certificates, CertificatesOutput, file};

/// The pause after a file that the disk did not give; mostly a person has to fix its mode.
pub(super) const READ_PAUSE: std::time::Duration = minutes(1);

impl Certificates {
    /// Takes in the names of the files in `certs/`; they are read one by one.
    pub fn found(&mut self, names: Vec<Domain>) {
        for name in names {
            let entry = self.entries.entry(name.clone()).or_default();
            entry.step = Step::Reading { again_at: None };
            self.unread.push_back(name);
        }
        // What was remembered of a certificate goes with its file.
        let gone = self.entries.iter().filter(|(_, entry)| !entry.is_busy());
        let gone: Vec<Domain> = gone.map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.note_earlier(&name, &[]);
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.memory.life = None;
            }
        }
        self.read_next();
    }

    /// Takes in what `certs/NAME.pem` holds. A damaged file goes to the archive: one that HAProxy
    /// cannot load keeps it from loading any.
    pub fn read(&mut self, cx: &mut Context<'_>, name: &Domain, file: Result<Secret, StoreError>) {
        if self.is_before(name, &file) {
            return;
        }
        // The one that was asked for, as a rule.
        if self.unread.front() == Some(name) {
            self.unread.pop_front();
        } else {
            self.unread.retain(|unread| unread != name);
        }
        self.misnamed.remove(name);
        match file.map(|pem| file::inspect(name, &pem)) {
            Ok(Ok(stored)) => self.adopt(cx, name, Some(stored)),
            // HAProxy can load it and may serve it: only a successor takes its place.
            Ok(Err(error @ (BundleError::MissingName(_) | BundleError::Unverifiable(_)))) => {
                let text = match &error {
                    BundleError::Unverifiable(_) => message::CERTIFICATE_UNVERIFIABLE,
                    _ => message::CERTIFICATE_MISNAMED,
                };
                let line = Record::warn("storage", text);
                cx.log(line.with("name", name).with("error", error));
                self.misnamed.insert(name.clone());
                self.adopt(cx, name, None);
            }
            Ok(Err(error)) => self.damaged(cx, name, &error),
            Err(error) if error.kind == StoreErrorKind::Malformed => {
                self.damaged(cx, name, &error);
            }
            Err(error) if error.kind == StoreErrorKind::Missing => self.adopt(cx, name, None),
            // Whatever it leads to is not ours. A certificate that is issued replaces the link itself.
            Err(error) if error.kind == StoreErrorKind::NotAFile => {
                let line = Record::warn("storage", message::CERTIFICATE_NOT_A_FILE);
                let line = line.with("name", name).with("error", &error);
                cx.log(line.hinted(Hint::of_storage(error.kind)));
                self.adopt(cx, name, None);
            }
            Err(error) => {
                let at = cx.now.wall.plus(jittered(cx.keys, READ_PAUSE));
                let line = Record::error("storage", "cannot read certificate");
                let line = line.with("name", name).with("error", &error).with("next_try", at);
                cx.log(line.hinted(Hint::of_storage(error.kind)));
                self.step(name, Step::Reading { again_at: Some(at) });
            }
        }
        // What serves a name is known once all are read.
        if self.unread.is_empty() {
            self.retire(cx.now.wall);
        }
        self.read_next();
    }

    fn damaged(&mut self, cx: &mut Context<'_>, name: &Domain, error: &dyn std::fmt::Display) {
        let line = Record::warn("storage", "certificate file is damaged, moved to archive/");
        cx.log(line.with("name", name).with("error", error));
        self.outputs.push_back(CertificatesOutput::Archive(name.clone()));
        self.adopt(cx, name, None);
    }

    /// What is stored under a name is known now.
    fn adopt(&mut self, cx: &mut Context<'_>, name: &Domain, stored: Option<Stored>) {
        self.note_earlier(name, stored.as_ref().map_or(&[], |stored| &stored.names));
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.adopt(cx, stored) {
            // Nothing says that load balancers have it: a crash may have come between its writing and
            // any note of that.
            self.outputs.push_back(CertificatesOutput::Changed(None));
        }
        self.unsaved = self.unsaved.max(Some(Urgency::Lazy));
        self.step(name, Step::Resting);
    }

    /// Takes in which files of ours there are, and which of them another has written since we did: those
    /// are read, and so are those that should be there and are not.
    pub fn compare_files(&mut self, cx: &mut Context<'_>, there: &[Domain], changed: &[Domain]) {
        let rests = |name: &Domain| self.entries.get(name).is_none_or(|entry| !entry.is_busy());
        let changed = changed.iter().filter(|name| rests(name)).map(|name| (name.clone(), true));
        let stored = self.entries.iter().filter(|(_, entry)| entry.stored.is_some());
        // Both are in order.
        let mut there = there.iter().peekable();
        let missing = stored.filter(move |(name, _)| {
            while there.next_if(|file| file < name).is_some() {}
            there.peek() != Some(name) && rests(name)
        });
        let missing = missing.map(|(name, _)| (name.clone(), false));
        for (name, is_there) in changed.chain(missing).collect::<Vec<_>>() {
            let line =
                if is_there { message::CERTIFICATE_CHANGED } else { message::CERTIFICATE_GONE };
            cx.log(Record::warn("guard", line).with("name", &name));
            self.entries.entry(name.clone()).or_default().step = Step::Reading { again_at: None };
            self.reindex(&name);
            self.unread.push_back(name);
            if self.unread.len() == 1 {
                self.read_next();
            }
        }
    }

    /// Those whose files are not for their own names: nobody knows what they are for.
    pub fn misnamed(&self) -> Vec<Domain> {
        self.misnamed.iter().cloned().collect()
    }

    /// Whether files are being read.
    pub fn is_reading(&self) -> bool {
        !self.unread.is_empty()
    }

    pub(super) fn read_next(&mut self) {
        if let Some(name) = self.unread.front() {
            self.outputs.push_back(CertificatesOutput::Read(name.clone()));
        }
    }
}
