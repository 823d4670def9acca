//! The lock of the storage: who has it, by the system and by a line in it; and making sure, before a
//! change, that it is still ours. Never decides when an instance counts as gone: the daemon does.
//!
//! The system frees a lock with its process, which is all that is needed while every instance lives and
//! their kernels know each other's locks. For one that is frozen, and for a file system that keeps its
//! locks to one machine, there is the line: `INSTANCE BEAT BOOT`, another one with every beat. Whoever
//! takes the lock of an instance that does not beat puts a new file in its place, so that the other one
//! finds, before its next change, that the lock is not its own any more.
//!
//! Where the file system has no locks at all (ENOLCK, ENOSYS), the line is all there is. A lock that is
//! free by its line is then replaced by a new file too, and used a while later at the earliest
//! ([`StoreErrorKind::Unsettled`]): of two instances that find it free at the same moment, the first one
//! finds by then that the lock is the other's. Its line has [`NO_BOOT`] for BOOT, so that no instance
//! takes the missing lock of the system for the death of its writer.

use std::io::ErrorKind;

use crate::machine::{StoreError, StoreErrorKind};

use super::error::{failed, is_stale};
use super::files::Files;
use super::{PRIVATE_MODE, Storage};

pub(super) const LOCK: &str = "lock";
/// Of a line, no more is read, in bytes.
const LINE_BYTES_MAX: u64 = 256;
/// In place of BOOT where the system keeps no locks.
const NO_BOOT: &str = "no-system-lock";

impl<F: Files> Storage<F> {
    /// Takes the lock where nobody has it, or makes sure that it is still ours; shows either way that
    /// this instance lives.
    pub(super) fn acquire(&mut self) -> Result<(), StoreError> {
        let there = self.files.is_there(&self.dir.join(LOCK)).unwrap_or(true);
        match &self.lock {
            None => self.take()?,
            // Somebody has removed it; what is not there is nobody else's.
            Some(_) if !there => self.place()?,
            Some(_) => {
                match self.check_lock() {
                    Err(error) if error.kind == StoreErrorKind::Lost => {
                        self.lock = None;
                        return Err(error);
                    }
                    // The line there is ours: it is our lock, to be opened again.
                    Err(error) if error.kind == StoreErrorKind::Stale => {
                        self.lock = None;
                        self.take()?;
                    }
                    result => result?,
                }
            }
        }
        self.beat()
    }

    /// Takes what is free by the system and by the line in it.
    fn take(&mut self) -> Result<(), StoreError> {
        let path = self.dir.join(LOCK);
        let lock = match self.files.lock(&path, PRIVATE_MODE) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(self.taken(StoreErrorKind::Locked));
            }
            Err(error) => return Err(failed(LOCK, "lock", &error)),
        };
        // Another instance may have put its own in the place of the one that was opened.
        if !self.files.is_at(&lock, &path).map_err(|error| failed(LOCK, "inspect", &error))? {
            return Err(self.taken(StoreErrorKind::Locked));
        }
        let (line, lacks_locks) = (self.line(), self.files.missing().locks);
        if line.is_empty() && lacks_locks {
            // The lock may be all that there is.
            self.make_folder("tmp")?;
            self.place()?;
            return Err(self.taken(StoreErrorKind::Unsettled));
        }
        let boot = self.boot();
        let is_of_boot = !boot.is_empty() && line.split(' ').nth(2) == Some(boot);
        // Of an instance on this machine it would not be free, where the system keeps locks.
        let is_dead = is_of_boot && !lacks_locks;
        if line.is_empty() || is_dead || self.is_ours(&line) {
            self.lock = Some(lock);
            return Ok(());
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
    pub(super) fn place(&mut self) -> Result<(), StoreError> {
        let temporary = self.new_temporary();
        let placed = self.files.lock(&temporary, PRIVATE_MODE).and_then(|mut lock| {
            let line = self.next_line();
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
                Err(failed(LOCK, "replace", &error))
            }
        }
    }

    /// Whether the lock is still ours: by the file that has its name, or else by the line in it, since
    /// some file systems give a file another number now and then (FUSE, CIFS).
    pub(super) fn check_lock(&self) -> Result<(), StoreError> {
        let lost = |detail: &str| {
            let (path, detail) = (LOCK.to_string(), detail.to_string());
            StoreError { kind: StoreErrorKind::Lost, path, detail }
        };
        let Some(lock) = &self.lock else { return Err(lost("it is not held")) };
        match self.files.is_at(lock, &self.dir.join(LOCK)) {
            Ok(true) => Ok(()),
            Ok(false) if self.is_ours(&self.line()) => Ok(()),
            Ok(false) => Err(lost("another instance has taken it over")),
            // A file server forgets a file that another machine has replaced.
            Err(error) if is_stale(&error) && self.is_anothers() => {
                Err(lost("another instance has taken it over"))
            }
            // As much is amiss as with a disk that cannot be read, and no more: it may be a volume that
            // was taken away for a moment.
            Err(error) => {
                let failed = failed(LOCK, "inspect", &error);
                let is_gone = failed.kind == StoreErrorKind::Missing;
                Err(if is_gone {
                    StoreError { kind: StoreErrorKind::Gone, ..failed }
                } else {
                    failed
                })
            }
        }
    }

    /// Whether a line is of this instance.
    fn is_ours(&self, line: &str) -> bool {
        line.split(' ').next() == Some(&*self.instance_word())
    }

    /// Whether the lock can be read and is not of this instance.
    fn is_anothers(&self) -> bool {
        let line = self.files.read(&self.dir.join(LOCK), LINE_BYTES_MAX);
        line.is_ok_and(|line| !line.starts_with(self.instance_word().as_bytes()))
    }

    fn instance_word(&self) -> String {
        format!("{:016x}", self.instance)
    }

    /// Shows that this instance lives.
    pub(super) fn beat(&mut self) -> Result<(), StoreError> {
        let line = self.next_line();
        let Some(lock) = &mut self.lock else { return Ok(()) };
        let written = self.files.overwrite(lock, line.as_bytes());
        written.map_err(|error| failed(LOCK, "write", &error))
    }

    /// Gives the lock up, so that another machine need not wait for the lease to end.
    pub(super) fn release(&mut self) -> Result<(), StoreError> {
        let ours = self.check_lock().is_ok();
        match self.lock.take().filter(|_| ours) {
            Some(mut lock) => {
                let emptied = self.files.overwrite(&mut lock, b"");
                emptied.map_err(|error| failed(LOCK, "empty", &error))
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
        let boot = if self.files.missing().locks { NO_BOOT } else { self.boot() };
        format!("{} {:016x} {boot}\n", self.instance_word(), self.beats)
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
