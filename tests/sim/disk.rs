//! The simulated disk under the real storage: a file system that several processes may be on, with
//! calls that fail or take long, and power cuts that take back what was not flushed. At every moment
//! it compares what lies there with what the storage has promised ([`ledger`]).
//!
//! What must hold, whatever fails and whoever dies between any two calls: a file outside `tmp/` is
//! whole; `certs/` holds nothing but certificates with their keys; `client.key`, once acknowledged,
//! stays as it is; of a certificate that was acknowledged, this one or a newer one is there (or it is
//! in `archive/`, when it is being moved there); `state.json` is the version acknowledged last or a
//! newer one; and whoever is told that a change was made holds the lock.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use marathon_acme::domain::Domain;
use marathon_acme::machine::Change;
use stand_ins::random::Random;

use crate::faults::{Fault, Switches, Toll};
use crate::network::{MILLISECOND, Nanos, SECOND};

pub(crate) mod files;
mod ledger;
mod tree;

pub(crate) use files::SimFiles;
pub(crate) use ledger::Validity;
use ledger::{Ledger, Subject};
use tree::Tree;

/// How bad the disk is: how many calls of a thousand meet a fault.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conditions {
    /// It is full from now on, for a while.
    pub(crate) full_permille: u64,
    /// The call fails, and nothing else.
    pub(crate) error_permille: u64,
    /// Nothing can be written from now on, for a while.
    pub(crate) read_only_permille: u64,
    /// Only some of the bytes are written.
    pub(crate) half_permille: u64,
    /// The call takes up to three seconds.
    pub(crate) slow_permille: u64,
    /// The file system has no locks.
    pub(crate) lacks_locks: bool,
    /// The file system has no hard links.
    pub(crate) lacks_links: bool,
}

impl Conditions {
    /// As bad as the seed says.
    pub(crate) fn bad(chance: &mut Random, faults: &Switches) -> Conditions {
        let mut drawn = |fault, most| {
            let permille = chance.below(most);
            if faults.are_on(fault) { permille } else { 0 }
        };
        Conditions {
            full_permille: drawn(Fault::DiskFull, 30),
            error_permille: drawn(Fault::DiskError, 40),
            read_only_permille: drawn(Fault::DiskReadOnly, 10),
            half_permille: drawn(Fault::DiskHalfWritten, 100),
            slow_permille: drawn(Fault::DiskSlow, 60),
            lacks_locks: drawn(Fault::DiskNoLocks, 4) == 1,
            lacks_links: drawn(Fault::DiskNoLinks, 4) == 1,
        }
    }

    /// So many changes of a hundred fail, nearly: a change is five calls.
    pub(crate) fn failing(percent: u8) -> Conditions {
        let permille = u64::from(percent) * 10 / 5;
        let (full_permille, error_permille) = (permille / 2, permille / 2);
        Conditions { full_permille, error_permille, ..Conditions::default() }
    }
}

/// The disk; clones are the same one.
#[derive(Clone)]
pub(crate) struct Disk(Rc<RefCell<State>>);

struct State {
    tree: Tree,
    ledger: Ledger,
    conditions: Conditions,
    toll: Toll,
    /// Until then every write finds it full, or not writable.
    full_until: Nanos,
    read_only_until: Nanos,
    /// When the change under way began, and how long its calls took so far.
    now: Nanos,
    elapsed: Nanos,
    /// Locked files, by their numbers, and the process that holds each.
    locks: BTreeMap<u64, u64>,
    /// Where the file system has no locks: the process whose line is in a lock file, by its number.
    lines: BTreeMap<u64, u64>,
    /// How often the machine was started.
    boots: u64,
    /// This process dies before a call, after so many more.
    dying: Option<(u64, u64)>,
    last_write: Nanos,
    chance: Random,
}

impl Disk {
    /// An empty directory.
    pub(crate) fn new(chance: Random) -> Disk {
        Disk(Rc::new(RefCell::new(State {
            tree: Tree::new(),
            ledger: Ledger::default(),
            conditions: Conditions::default(),
            toll: Toll::default(),
            full_until: 0,
            read_only_until: 0,
            now: 0,
            elapsed: 0,
            locks: BTreeMap::new(),
            lines: BTreeMap::new(),
            boots: 1,
            dying: None,
            last_write: 0,
            chance,
        })))
    }

    /// Puts a file into `archive/` that was there before anything began, and that must stay.
    pub(crate) fn plant_archived(&self, name: &str, text: &str) {
        let mut state = self.state_mut();
        let State { tree, ledger, .. } = &mut *state;
        let folder = "archive".to_string();
        if !tree.has_folder(&folder) {
            tree.make_folder(&folder);
            tree.flush_folder("");
        }
        let file = tree.create((folder.clone(), name.to_string()));
        file.borrow_mut().write(text.as_bytes());
        file.borrow_mut().flush();
        tree.flush_folder(&folder);
        ledger.planted(name);
    }

    /// The file system, for a process of this number.
    pub(crate) fn files(&self, process: u64) -> SimFiles {
        SimFiles::new(self.clone(), process)
    }

    fn state(&self) -> Ref<'_, State> {
        self.0.borrow()
    }

    fn state_mut(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// From now on it is so bad; a spell that has begun ends.
    pub(crate) fn set_conditions(&self, conditions: Conditions) {
        let mut state = self.state_mut();
        state.conditions = conditions;
        (state.full_until, state.read_only_until) = (0, 0);
    }

    /// Carries out a change or a read of a process, by `act`; its result, and how long it took. There
    /// is none when the process died in the middle of it.
    pub(crate) fn serve<R>(
        &self,
        now: Nanos,
        process: u64,
        act: impl FnOnce() -> R,
    ) -> Option<(R, Nanos)> {
        {
            let mut state = self.state_mut();
            (state.now, state.elapsed) = (now, 0);
        }
        let result = act();
        let mut state = self.state_mut();
        if state.dying == Some((process, 0)) {
            state.dying = None;
            return None;
        }
        Some((result, state.elapsed))
    }

    /// A process is about to make this change; what to acknowledge it by.
    pub(crate) fn promise(&self, process: u64, change: &Change) -> Promise {
        let subject = Subject::of(change);
        self.state_mut().ledger.begin(&subject);
        Promise { disk: self.clone(), process, subject }
    }

    /// The process will die between two calls, after so many more.
    pub(crate) fn doom(&self, process: u64, calls: u64) {
        self.state_mut().dying = Some((process, calls));
    }

    /// A process is gone, and what was to befall it.
    pub(crate) fn forget(&self, process: u64) {
        let mut state = self.state_mut();
        state.dying = state.dying.filter(|(dying, _)| *dying != process);
    }

    /// The power is cut: what was not flushed may be gone. Every process on it must be gone already.
    pub(crate) fn power_cut(&self, now: Nanos) {
        let mut state = self.state_mut();
        let State { tree, ledger, chance, toll, locks, boots, .. } = &mut *state;
        assert!(locks.is_empty(), "a lock outlives its process");
        *boots += 1;
        let before = read_by_load_balancers(tree);
        tree.power_cut(chance, toll);
        ledger.look_at_all(tree);
        if read_by_load_balancers(tree) != before {
            state.last_write = now;
        }
    }

    /// Simulated time of the last change of a file that load balancers read, in milliseconds.
    pub(crate) fn last_write_ms(&self) -> u64 {
        self.state().last_write / MILLISECOND
    }

    /// Which faults fired so far.
    pub(crate) fn toll(&self) -> Toll {
        self.state().toll.clone()
    }

    /// The names in a folder.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        self.state().tree.inside(folder).map(|(name, _)| name.to_string()).collect()
    }

    /// A file's text.
    pub(crate) fn text(&self, folder: &str, name: &str) -> Option<String> {
        let state = self.state();
        let file = state.tree.file(&(folder.to_string(), name.to_string()))?.borrow();
        Some(String::from_utf8_lossy(&file.content).into_owned())
    }

    /// Whether a file in this folder has such a text.
    pub(crate) fn any_text(&self, folder: &str, fits: impl Fn(&str) -> bool) -> bool {
        let state = self.state();
        let mut files = state.tree.inside(folder).map(|(_, file)| file.borrow());
        files.any(|file| std::str::from_utf8(&file.content).is_ok_and(&fits))
    }

    /// How long the certificate in `certs/` of this name is valid.
    pub(crate) fn validity(&self, name: &Domain) -> Option<Validity> {
        let place = ("certs".to_string(), format!("{name}.pem"));
        self.state().tree.file(&place)?.borrow().validity
    }
}

/// What load balancers find when they load, by the files' numbers.
fn read_by_load_balancers(tree: &Tree) -> Vec<(String, u64)> {
    let certificates = tree.inside("certs");
    let fallback = tree.inside("").filter(|(name, _)| *name == "default.pem");
    certificates
        .chain(fallback)
        .map(|(name, file)| (name.to_string(), file.borrow().number))
        .collect()
}

/// A change that may be acknowledged.
pub(crate) struct Promise {
    disk: Disk,
    process: u64,
    subject: Subject,
}

impl Promise {
    /// The storage has said that the change was made.
    ///
    /// # Panics
    /// It is not there, or another process owns the storage.
    pub(crate) fn acknowledge(self) {
        let mut state = self.disk.state_mut();
        if self.subject == Subject::Lock {
            return;
        }
        assert!(state.has_lock(self.process), "a process without the lock writes");
        let State { tree, ledger, .. } = &mut *state;
        ledger.acknowledged(&self.subject, tree);
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}
