//! The lock of the storage: who has it, by the system and by a line in it; and making sure, before a
//! change, that it is still ours. Never decides when an instance counts as gone: the daemon does.
//!
//! The system frees a lock with its process, which is all that is needed while every instance lives and
//! their kernels know each other's locks. For one that is frozen, and for a file system that keeps its
//! locks to one machine, there is the line: `INSTANCE BEAT BOOT`, another one with every beat. Whoever
//! takes the lock of an instance that does not beat puts a new file in its place, so that the other one
//! finds, before its next change, that the lock is not its own any more.

use std::io::ErrorKind;

use crate::seam::{StoreError, StoreErrorKind};

use super::files::Files;
use super::{PRIVATE_MODE, Storage, failed};

pub(super) const LOCK: &str = "lock";
/// Of a line, no more is read, in bytes.
const LINE_BYTES_MAX: u64 = 256;

impl<F: Files> Storage<F> {
    /// Takes the lock where nobody has it, or makes sure that it is still ours; shows either way that
    /// this instance lives.
    pub(super) fn acquire(&mut self) -> Result<(), StoreError> {
        let there = self.files.is_there(&self.dir.join(LOCK)).unwrap_or(true);
        match &self.lock {
            None => self.lock = Some(self.take()?),
            // Somebody has removed it; what is not there is nobody else's.
            Some(_) if !there => self.place()?,
            Some(_) => {
                if let Err(error) = self.check_lock() {
                    self.lock.take_if(|_| error.kind == StoreErrorKind::Lost);
                    return Err(error);
                }
            }
        }
        self.beat()
    }

    /// Takes what is free by the system and by the line in it.
    fn take(&self) -> Result<F::Lock, StoreError> {
        let path = self.dir.join(LOCK);
        let lock = match self.files.lock(&path, PRIVATE_MODE) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(self.taken(StoreErrorKind::Locked));
            }
            Err(error) => return Err(failed(LOCK, &error)),
        };
        // Another instance may have put its own in the place of the one that was opened.
        if !self.files.is_at(&lock, &path).map_err(|error| failed(LOCK, &error))? {
            return Err(self.taken(StoreErrorKind::Locked));
        }
        // Of an instance on this machine it would not be free.
        let (line, boot) = (self.line(), self.boot());
        if line.is_empty() || (!boot.is_empty() && line.split(' ').nth(2) == Some(boot)) {
            return Ok(lock);
        }
        Err(self.taken(StoreErrorKind::Leased))
    }

    /// Takes the lock from an instance that does not beat.
    pub(super) fn take_over(&mut self, holder: &str) -> Result<(), StoreError> {
        if self.line() != holder {
            return Err(self.taken(StoreErrorKind::Locked));
        }
        // The lock may be all that there is.
        self.make_folder("tmp")?;
        self.place()
    }

    /// Makes a new lock, held by us, in the place of any other.
    fn place(&mut self) -> Result<(), StoreError> {
        let temporary = self.new_temporary();
        let line = self.next_line();
        let placed = self.files.lock(&temporary, PRIVATE_MODE).and_then(|mut lock| {
            self.files.overwrite(&mut lock, line.as_bytes())?;
            self.files.rename(&temporary, &self.dir.join(LOCK))?;
            Ok(lock)
        });
        match placed {
            Ok(lock) => {
                self.lock = Some(lock);
                Ok(())
            }
            Err(error) => {
                let _ = self.files.remove(&temporary);
                Err(failed(LOCK, &error))
            }
        }
    }

    /// Whether the lock is still ours.
    pub(super) fn check_lock(&self) -> Result<(), StoreError> {
        let lost = |detail: &str| {
            let (path, detail) = (LOCK.to_string(), detail.to_string());
            StoreError { kind: StoreErrorKind::Lost, path, detail }
        };
        let Some(lock) = &self.lock else { return Err(lost("it is not held")) };
        match self.files.is_at(lock, &self.dir.join(LOCK)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(lost("another instance has taken it over")),
            // As much is amiss as with a disk that cannot be read, and no more: it may be a volume that
            // was taken away for a moment.
            Err(error) => {
                let kind = match error.kind() {
                    ErrorKind::NotFound => StoreErrorKind::Io,
                    _ => super::kind(&error),
                };
                Err(StoreError { kind, ..failed(LOCK, &error) })
            }
        }
    }

    /// Shows that this instance lives.
    pub(super) fn beat(&mut self) -> Result<(), StoreError> {
        let line = self.next_line();
        let Some(lock) = &mut self.lock else { return Ok(()) };
        let written = self.files.overwrite(lock, line.as_bytes());
        written.map_err(|error| failed(LOCK, &error))
    }

    /// Gives the lock up, so that another machine need not wait for the lease to end.
    pub(super) fn release(&mut self) -> Result<(), StoreError> {
        let ours = self.check_lock().is_ok();
        match self.lock.take().filter(|_| ours) {
            Some(mut lock) => {
                self.files.overwrite(&mut lock, b"").map_err(|error| failed(LOCK, &error))
            }
            None => Ok(()),
        }
    }

    fn boot(&self) -> &str {
        self.boot.get_or_init(|| self.files.boot())
    }

    /// All lines are of one length, so that writing one never needs more of a full disk.
    fn next_line(&mut self) -> String {
        self.beats += 1;
        format!("{:016x} {:016x} {}\n", self.instance, self.beats, self.boot())
    }

    /// The line of whoever has the lock. One that a power cut has torn may be anybody's: it is none, and
    /// not empty either.
    fn line(&self) -> String {
        let bytes = self.files.read(&self.dir.join(LOCK), LINE_BYTES_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        match text.trim_end() {
            line if line.contains(char::is_control) => "a torn line".into(),
            line => line.into(),
        }
    }

    fn taken(&self, kind: StoreErrorKind) -> StoreError {
        StoreError { kind, path: LOCK.into(), detail: self.line() }
    }
}

#[cfg(test)]
mod tests;
