//! Files and folders as a bad but legal POSIX disk has them: what processes see, and what a power cut
//! leaves of it. Content is sure once the file was flushed, a name once its folder was; the rest may
//! be there or not, in any mixture. Only a rename is atomic. Decides nothing about errors.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use stand_ins::random::Random;

use super::ledger::Validity;
use crate::faults::{Fault, Toll};

/// So many operations on names wait for a flush at most; then the oldest is written by itself.
const PENDING_MAX: usize = 64;
/// What a disk writes at once.
const BLOCK_SIZES: [usize; 2] = [512, 4096];

/// A file, which may have several names.
pub(super) type File = Rc<RefCell<Inode>>;

/// A file's content.
#[derive(Debug)]
pub(crate) struct Inode {
    /// Ascends with the moment of making.
    pub(super) number: u64,
    /// What a read finds.
    pub(super) content: Rc<Vec<u8>>,
    /// What a power cut leaves for sure.
    durable: Rc<Vec<u8>>,
    /// A flush has failed: the system has dropped what it could not write, and later flushes that
    /// work do not bring it back.
    spoiled: bool,
    /// Everything that was to be written is there.
    pub(super) whole: bool,
    /// What it says as a certificate, once it was read as one.
    pub(super) validity: Option<Validity>,
}

/// A folder ("" is the storage directory itself) and a name in it.
pub(super) type Place = (String, String);

/// A change of names that is not flushed.
#[derive(Debug)]
enum Pending {
    Folder(String),
    Name(Place, File),
    Unname(Place),
    Move(Place, Place, File),
}

impl Pending {
    fn touches(&self, folder: &str) -> bool {
        match self {
            Pending::Folder(_) => folder.is_empty(),
            Pending::Name((inside, _), _) | Pending::Unname((inside, _)) => inside == folder,
            Pending::Move(from, to, _) => from.0 == folder || to.0 == folder,
        }
    }

    /// Whether it is about this one name alone.
    fn is_only_of(&self, place: &Place) -> bool {
        match self {
            Pending::Name(it, _) | Pending::Unname(it) => it == place,
            Pending::Folder(_) | Pending::Move(..) => false,
        }
    }
}

/// Names by folder.
#[derive(Debug, Default)]
struct Names {
    folders: BTreeSet<String>,
    files: BTreeMap<Place, File>,
}

impl Names {
    fn apply(&mut self, pending: &Pending) {
        match pending {
            Pending::Folder(folder) => drop(self.folders.insert(folder.clone())),
            Pending::Name(place, file) => drop(self.files.insert(place.clone(), Rc::clone(file))),
            Pending::Unname(place) => drop(self.files.remove(place)),
            Pending::Move(from, to, file) => {
                self.files.remove(from);
                self.files.insert(to.clone(), Rc::clone(file));
            }
        }
    }
}

/// The storage directory.
#[derive(Debug, Default)]
pub(super) struct Tree {
    seen: Names,
    durable: Names,
    pending: Vec<Pending>,
    made: u64,
}

impl Tree {
    /// An empty directory.
    pub(super) fn new() -> Tree {
        let mut tree = Tree::default();
        tree.seen.folders.insert(String::new());
        tree.durable.folders.insert(String::new());
        tree
    }

    pub(super) fn has_folder(&self, folder: &str) -> bool {
        self.seen.folders.contains(folder)
    }

    pub(super) fn file(&self, place: &Place) -> Option<&File> {
        self.seen.files.get(place)
    }

    /// The names in a folder and their files.
    pub(super) fn inside<'a>(
        &'a self,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a File)> {
        let from = self.seen.files.range((folder.to_string(), String::new())..);
        let inside = from.take_while(move |((inside, _), _)| inside == folder);
        inside.map(|((_, name), file)| (name.as_str(), file))
    }

    /// Every name and its file.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Place, &File)> {
        self.seen.files.iter()
    }

    pub(super) fn make_folder(&mut self, folder: &str) {
        self.change(Pending::Folder(folder.to_string()));
    }

    /// Makes an empty file.
    pub(super) fn create(&mut self, place: Place) -> File {
        self.made += 1;
        let (content, durable) = (Rc::new(Vec::new()), Rc::new(Vec::new()));
        let file = Rc::new(RefCell::new(Inode {
            number: self.made,
            content,
            durable,
            spoiled: false,
            whole: true,
            validity: None,
        }));
        self.change(Pending::Name(place, Rc::clone(&file)));
        file
    }

    pub(super) fn link(&mut self, file: &File, to: Place) {
        self.change(Pending::Name(to, Rc::clone(file)));
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.change(Pending::Unname(place));
    }

    pub(super) fn rename(&mut self, from: Place, to: Place, file: &File) {
        self.change(Pending::Move(from, to, Rc::clone(file)));
    }

    fn change(&mut self, change: Pending) {
        self.seen.apply(&change);
        self.pending.push(change);
        if self.pending.len() > PENDING_MAX {
            let oldest = self.pending.remove(0);
            self.durable.apply(&oldest);
        }
    }

    /// Brings the names of a folder to the disk; a move brings those of the other folder along.
    pub(super) fn flush_folder(&mut self, folder: &str) {
        let mut waiting: Vec<Pending> = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            if !change.touches(folder) {
                waiting.push(change);
                continue;
            }
            self.durable.apply(&change);
            if let Pending::Move(from, _, _) = &change {
                // What happened to the old name before it went cannot happen any more.
                waiting.retain(|earlier| !earlier.is_only_of(from));
            }
        }
        self.pending = waiting;
    }

    /// The power is cut: of what was not flushed, chance keeps some.
    pub(super) fn power_cut(&mut self, chance: &mut Random, toll: &mut Toll) {
        let kept_percent = [0, 50, 50, 100][chance.below(4) as usize];
        for change in std::mem::take(&mut self.pending) {
            if chance.chance(kept_percent) {
                self.durable.apply(&change);
            } else {
                toll.count(Fault::NamesLost);
            }
        }
        let folders = self.durable.folders.clone();
        self.durable.files.retain(|(folder, _), _| folders.contains(folder));
        let files = self.durable.files.clone();
        files.values().for_each(|file| file.borrow_mut().power_cut(chance, toll));
        self.seen = Names { folders, files };
    }
}

impl Inode {
    /// Appends to it.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        Rc::make_mut(&mut self.content).extend_from_slice(bytes);
        self.validity = None;
    }

    /// Gives it another content, in place.
    pub(super) fn overwrite(&mut self, bytes: &[u8]) {
        self.content = Rc::new(bytes.to_vec());
        self.validity = None;
    }

    /// Brings the content to the disk.
    pub(super) fn flush(&mut self) {
        if !self.spoiled {
            self.durable = Rc::clone(&self.content);
        }
    }

    /// Bringing the content to the disk did not work.
    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
    }

    fn power_cut(&mut self, chance: &mut Random, toll: &mut Toll) {
        if Rc::ptr_eq(&self.durable, &self.content) || self.durable == self.content {
            return;
        }
        let left = match chance.below(4) {
            0 => Rc::clone(&self.durable),
            1 => Rc::clone(&self.content),
            2 => {
                let length = chance.below(self.content.len() as u64) as usize;
                Rc::new(self.content[..length].to_vec())
            }
            _ => Rc::new(with_holes(&self.content, chance)),
        };
        if left != self.content {
            self.whole = false;
            self.validity = None;
            toll.count(if left == self.durable { Fault::ContentLost } else { Fault::ContentTorn });
        }
        (self.content, self.durable) = (Rc::clone(&left), left);
        self.spoiled = false;
    }
}

/// The content with some blocks that were never written.
fn with_holes(content: &[u8], chance: &mut Random) -> Vec<u8> {
    let size = BLOCK_SIZES[chance.below(2) as usize];
    let mut content = content.to_vec();
    for block in content.chunks_mut(size) {
        if chance.chance(50) {
            block.fill(0);
        }
    }
    content
}
