//! The calls that the storage makes, on the simulated disk: each may fail, take long, or be the one
//! before which the process dies. Never decides what is left after a power cut.

use std::cell::{Cell, RefMut};
use std::collections::btree_map::Entry;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::rc::Rc;

use marathon_acme::io::storage::files::{FileKind, Files, Sight};
use marathon_acme::machine::MissingFeatures;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::tree::{File, Place};
use super::{Disk, SECOND, State};
use crate::faults::Fault;
use crate::network::{MILLISECOND, Nanos};

/// The storage directory of every process.
const DIR: &str = "/storage";
/// The longest time that a disk stays full or read-only, and that one call takes.
const SPELL_MAX: Nanos = 120 * SECOND;
const SLOW_MAX: Nanos = 3 * SECOND;

/// The simulated disk as one process sees it.
#[derive(Clone, Debug)]
pub(crate) struct SimFiles {
    disk: Disk,
    process: u64,
    /// What the last lock was answered.
    lacks_locks: Rc<Cell<bool>>,
}

/// What a call needs of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Read,
    /// Needs a writable disk, and no space.
    Change,
    /// Needs space as well.
    Grow,
}

/// A file that a process has locked, until it drops this; where the file system has no locks, one that
/// it has opened, of which the line says whose it is.
#[derive(Debug)]
pub(crate) struct SimLock {
    files: SimFiles,
    file: File,
    is_locked: bool,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        if !self.is_locked {
            return;
        }
        // Dropped in a panic while the disk is in use, it no longer matters.
        if let Ok(mut state) = self.files.disk.0.try_borrow_mut() {
            state.locks.remove(&self.file.borrow().number);
        }
    }
}

impl SimFiles {
    pub(super) fn new(disk: Disk, process: u64) -> SimFiles {
        SimFiles { disk, process, lacks_locks: Rc::default() }
    }

    /// A call begins: whether it may continue.
    fn begin(&self, call: Call) -> io::Result<RefMut<'_, State>> {
        let mut state = self.disk.state_mut();
        if state.is_dead(self.process) {
            return Err(Errno::IO.into());
        }
        state.take_time();
        state.refuse(call)?;
        Ok(state)
    }
}

impl State {
    /// Counts a call; whether the process has died before it.
    fn is_dead(&mut self, process: u64) -> bool {
        match &mut self.dying {
            Some((dying, left)) if *dying == process => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            _ => false,
        }
    }

    /// Whether it is this process that has locked what is the lock now, or whose line is in it.
    pub(super) fn has_lock(&self, process: u64) -> bool {
        let Some(file) = self.tree.file(&(String::new(), "lock".to_string())) else { return false };
        let number = file.borrow().number;
        self.locks.get(&number).or_else(|| self.lines.get(&number)) == Some(&process)
    }

    fn fires(&mut self, permille: u64) -> bool {
        permille > 0 && self.chance.below(1000) < permille
    }

    fn take_time(&mut self) {
        if self.fires(self.conditions.slow_permille) {
            self.toll.count(Fault::DiskSlow);
            self.elapsed += self.chance.between(MILLISECOND, SLOW_MAX);
        }
    }

    fn refuse(&mut self, call: Call) -> io::Result<()> {
        let now = self.now + self.elapsed;
        if self.fires(self.conditions.error_permille) {
            self.toll.count(Fault::DiskError);
            return Err(Errno::IO.into());
        }
        if call != Call::Read {
            if self.fires(self.conditions.read_only_permille) {
                self.read_only_until = now + self.chance.below(SPELL_MAX);
            }
            if now < self.read_only_until {
                self.toll.count(Fault::DiskReadOnly);
                return Err(Errno::ROFS.into());
            }
        }
        if call == Call::Grow {
            if self.fires(self.conditions.full_permille) {
                self.full_until = now + self.chance.below(SPELL_MAX);
            }
            if now < self.full_until {
                self.toll.count(Fault::DiskFull);
                return Err(Errno::NOSPC.into());
            }
        }
        Ok(())
    }

    /// A name was given to a file, or taken: it must be one that may be seen there.
    fn look(&mut self, place: &Place) {
        self.ledger.look(place, self.tree.file(place));
        if place.0 == "certs" || place.1 == "default.pem" {
            self.last_write = self.now + self.elapsed;
        }
    }

    fn found(&self, place: &Place) -> io::Result<File> {
        let file = self.tree.file(place).map(Rc::clone);
        file.ok_or_else(|| Errno::NOENT.into())
    }

    fn must_be_free(&self, place: &Place) -> io::Result<()> {
        if !self.tree.has_folder(&place.0) {
            return Err(Errno::NOENT.into());
        }
        match self.tree.file(place) {
            Some(_) => Err(Errno::EXIST.into()),
            None => Ok(()),
        }
    }
}

/// The folder and the name of a path.
fn place(path: &Path) -> Place {
    let folder = path.parent().map(folder).unwrap_or_default();
    let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
    (folder, name)
}

/// A folder by its path.
fn folder(path: &Path) -> String {
    let inside = path.strip_prefix(DIR).expect("all is in the storage directory");
    inside.to_string_lossy().into_owned()
}

impl Files for SimFiles {
    type File = File;
    type Lock = SimLock;

    fn make_folder(&self, path: &Path, _mode: u32) -> io::Result<()> {
        let mut state = self.begin(Call::Grow)?;
        let folder = folder(path);
        if state.tree.has_folder(&folder) {
            return Err(Errno::EXIST.into());
        }
        state.tree.make_folder(&folder);
        Ok(())
    }

    fn create(&self, path: &Path, _mode: u32) -> io::Result<File> {
        let mut state = self.begin(Call::Grow)?;
        let place = place(path);
        state.must_be_free(&place)?;
        let file = state.tree.create(place.clone());
        state.look(&place);
        Ok(file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.begin(Call::Grow)?;
        let mut file = file.borrow_mut();
        let half_permille = state.conditions.half_permille;
        if state.fires(half_permille) {
            state.toll.count(Fault::DiskHalfWritten);
            let length = state.chance.below(bytes.len() as u64) as usize;
            file.write(&bytes[..length]);
            file.whole = false;
            return Err(Errno::NOSPC.into());
        }
        file.write(bytes);
        Ok(())
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        let begun = self.begin(Call::Change);
        match &begun {
            Ok(_) => file.borrow_mut().flush(),
            Err(_) => file.borrow_mut().spoil(),
        }
        begun.map(drop)
    }

    fn flush_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::Change)?;
        let folder = folder(path);
        if !state.tree.has_folder(&folder) {
            return Err(Errno::NOENT.into());
        }
        state.tree.flush_folder(&folder);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::Change)?;
        let (from, to) = (place(from), place(to));
        let file = state.found(&from)?;
        if !state.tree.has_folder(&to.0) {
            return Err(Errno::NOENT.into());
        }
        state.tree.rename(from.clone(), to.clone(), &file);
        state.look(&from);
        state.look(&to);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::Grow)?;
        if state.conditions.lacks_links {
            state.toll.count(Fault::DiskNoLinks);
            return Err(Errno::PERM.into());
        }
        let (from, to) = (place(from), place(to));
        let file = state.found(&from)?;
        state.must_be_free(&to)?;
        state.tree.link(&file, to.clone());
        state.look(&to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::Change)?;
        let place = place(path);
        state.found(&place)?;
        state.tree.remove(place.clone());
        state.look(&place);
        Ok(())
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let state = self.begin(Call::Read)?;
        let file = state.found(&place(path))?;
        let file = file.borrow();
        let length = file.content.len().min(usize::try_from(bytes_max).unwrap_or(usize::MAX));
        Ok(file.content[..length].to_vec().into())
    }

    fn look(&self, path: &Path) -> io::Result<Sight> {
        let state = self.begin(Call::Read)?;
        if state.tree.has_folder(&folder(path)) {
            return Ok(Sight { kind: FileKind::Directory, stamp: 0 });
        }
        let stamp = state.found(&place(path))?.borrow().number;
        Ok(Sight { kind: FileKind::Regular, stamp })
    }

    fn is_there(&self, path: &Path) -> io::Result<bool> {
        Ok(self.begin(Call::Read)?.tree.file(&place(path)).is_some())
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.begin(Call::Read)?;
        let folder = folder(path);
        if !state.tree.has_folder(&folder) {
            return Err(Errno::NOENT.into());
        }
        Ok(state.tree.inside(&folder).map(|(name, _)| name.to_string()).collect())
    }

    fn lock(&self, path: &Path, _mode: u32) -> io::Result<SimLock> {
        let mut state = self.begin(Call::Grow)?;
        let place = place(path);
        let file = state.found(&place).unwrap_or_else(|_| state.tree.create(place));
        let number = file.borrow().number;
        let is_locked = !state.conditions.lacks_locks;
        self.lacks_locks.set(!is_locked);
        if !is_locked {
            state.toll.count(Fault::DiskNoLocks);
            return Ok(SimLock { files: self.clone(), file, is_locked });
        }
        match state.locks.entry(number) {
            Entry::Vacant(entry) => entry.insert(self.process),
            Entry::Occupied(_) => return Err(ErrorKind::WouldBlock.into()),
        };
        Ok(SimLock { files: self.clone(), file, is_locked })
    }

    fn overwrite(&self, lock: &mut SimLock, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.begin(Call::Change)?;
        let mut file = lock.file.borrow_mut();
        file.overwrite(bytes);
        if !lock.is_locked {
            state.lines.insert(file.number, self.process);
        }
        if bytes.is_empty() {
            state.lines.remove(&file.number);
        }
        Ok(())
    }

    fn is_at(&self, lock: &SimLock, path: &Path) -> io::Result<bool> {
        let state = self.begin(Call::Read)?;
        Ok(Rc::ptr_eq(&state.found(&place(path))?, &lock.file))
    }

    fn boot(&self) -> String {
        format!("boot-{}", self.disk.state().boots)
    }

    fn missing(&self) -> MissingFeatures {
        MissingFeatures { locks: self.lacks_locks.get(), ..MissingFeatures::default() }
    }
}
