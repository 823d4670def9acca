//! The storage on file systems that lack something, fail, or answer otherwise than a local disk: the calls
//! of a real one, some of which fail as told.

use std::cell::{Cell, RefCell};
use std::fs::File;

use super::super::files::Sight;
use super::*;
use crate::machine::MissingFeatures;

/// A real file system with faults; all calls of one name fail until told otherwise.
#[derive(Default)]
struct Faulty {
    files: RealFiles,
    fails: RefCell<Vec<(&'static str, Errno)>>,
    /// As on a file system without locks.
    lacks_locks: Cell<bool>,
    /// Each look at a file shows another number for it.
    is_restless: Cell<bool>,
}

impl Faulty {
    fn call(&self, name: &str) -> io::Result<()> {
        match self.fails.borrow().iter().find(|(call, _)| *call == name) {
            Some((_, errno)) => Err((*errno).into()),
            None => Ok(()),
        }
    }
}

impl Files for Faulty {
    type File = File;
    type Lock = File;

    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.call("make_folder")?;
        self.files.make_folder(path, mode)
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.call("create")?;
        self.files.create(path, mode)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.call("write")?;
        self.files.write(file, bytes)
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        self.call("flush")?;
        self.files.flush(file)
    }

    fn flush_folder(&self, path: &Path) -> io::Result<()> {
        self.call("flush_folder")?;
        self.files.flush_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename")?;
        self.files.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link")?;
        self.files.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove")?;
        self.files.remove(path)
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        self.call("read")?;
        self.files.read(path, bytes_max)
    }

    fn look(&self, path: &Path) -> io::Result<Sight> {
        self.files.look(path)
    }

    fn is_there(&self, path: &Path) -> io::Result<bool> {
        self.files.is_there(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.call("names")?;
        self.files.names(folder)
    }

    fn lock(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.call("lock")?;
        if !self.lacks_locks.get() {
            return self.files.lock(path, mode);
        }
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
    }

    fn overwrite(&self, lock: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.call("overwrite")?;
        self.files.overwrite(lock, bytes)
    }

    fn is_at(&self, lock: &File, path: &Path) -> io::Result<bool> {
        self.call("is_at")?;
        Ok(self.files.is_at(lock, path)? && !self.is_restless.get())
    }

    fn boot(&self) -> String {
        self.files.boot()
    }

    fn missing(&self) -> MissingFeatures {
        MissingFeatures { locks: self.lacks_locks.get(), ..self.files.missing() }
    }
}

fn instance(dir: &Path, number: u64) -> Storage<Faulty> {
    let files = Faulty { files: RealFiles::below(dir.into()), ..Faulty::default() };
    Storage::on(files, dir.into(), 0o640, number)
}

fn opened() -> (tempfile::TempDir, Storage<Faulty>) {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = instance(dir.path(), 1);
    storage.open().unwrap();
    (dir, storage)
}

fn fail(storage: &Storage<Faulty>, fails: &[(&'static str, Errno)]) {
    *storage.files.fails.borrow_mut() = fails.to_vec();
}

fn read(dir: &Path, path: &str) -> String {
    fs::read_to_string(dir.join(path)).unwrap()
}

fn certificate_of(text: &str) -> Change {
    Change::Certificate(domain("a.org"), secret(text))
}

#[test]
fn without_links_files_are_renamed_and_never_overwritten() {
    let no_links = ["XDEV", "ACCES", "INVAL", "PERM", "OPNOTSUPP", "NOSYS", "MLINK"].iter().zip([
        Errno::XDEV,
        Errno::ACCESS,
        Errno::INVAL,
        Errno::PERM,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::MLINK,
    ]);
    for (name, errno) in no_links {
        let (dir, mut storage) = opened();
        fail(&storage, &[("link", errno)]);
        storage.change(Change::AccountKey(secret("first"))).expect(name);
        storage.change(Change::AccountKey(secret("first"))).expect(name);
        let error = storage.change(Change::AccountKey(secret("second"))).expect_err(name);
        assert_eq!(error.kind, StoreErrorKind::Exists, "{name}");
        storage.change(Change::Fallback(secret("fallback"))).expect(name);
        for text in ["one", "two"] {
            storage.change(certificate_of(text)).expect(name);
            storage.change(Change::Archive(domain("a.org"))).expect(name);
        }
        let (pem, reason) = (secret("three"), "odd".to_string());
        storage.change(Change::Reject { name: domain("a.org"), pem, reason }).expect(name);
        storage.change(Change::State(b"{}".to_vec())).expect(name);
        storage.change(Change::ArchiveState).expect(name);
        assert_eq!(read(dir.path(), "client.key"), "first");
        assert_eq!(read(dir.path(), "default.pem"), "fallback");
        assert_eq!(read(dir.path(), "archive/a.org.pem"), "one");
        assert_eq!(read(dir.path(), "archive/a.org.1.pem"), "two");
        assert!(read(dir.path(), "archive/a.org.2.pem").ends_with("three"));
        assert_eq!(read(dir.path(), "archive/state.json"), "{}");
        assert!(names(&dir.path().join("certs")).is_empty(), "{name}");
        assert!(names(&dir.path().join("tmp")).is_empty(), "{name}");
    }
    // The system's word on a name that is taken, and on a full disk, is another matter.
    for errno in [Errno::EXIST, Errno::NOSPC, Errno::ROFS] {
        assert!(!means_no_links(&errno.into()), "{errno}");
    }
}

#[test]
fn without_links_a_file_still_never_takes_the_place_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    fs::write(&source, "new").unwrap();
    fs::write(&target, "old").unwrap();
    let refused = Storage::new(dir.path().into(), 0o600, 2)
        .move_to_free(&source, &target)
        .expect_err("it is not free");
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&target).unwrap(), "old");
    fs::remove_file(&target).unwrap();
    Storage::new(dir.path().into(), 0o600, 2).move_to_free(&source, &target).unwrap();
    assert_eq!(names(dir.path()), ["target"]);
}

#[test]
fn every_error_names_the_path_the_operation_and_a_remedy() {
    use crate::hint::Hint;
    let operations = [
        ("create", "tmp: cannot create a file: "),
        ("write", "tmp: cannot write: "),
        ("flush", "tmp: cannot flush a file: "),
        ("rename", "certs/a.org.pem: cannot move into place: "),
        ("flush_folder", "certs: cannot flush: "),
        ("is_at", "lock: cannot inspect: "),
    ];
    let errors = [
        (Errno::NOSPC, Hint::StorageFull),
        (Errno::DQUOT, Hint::StorageFull),
        (Errno::ROFS, Hint::StorageReadOnly),
        (Errno::IO, Hint::StorageFails),
        (Errno::NOTCONN, Hint::StorageFails),
        (Errno::TIMEDOUT, Hint::StorageFails),
        (Errno::UCLEAN, Hint::StorageFails),
        (Errno::INTR, Hint::StorageFails),
        (Errno::STALE, Hint::StorageStale),
        (Errno::MFILE, Hint::Limits),
        (Errno::NFILE, Hint::Limits),
        (Errno::NOMEM, Hint::Limits),
        (Errno::XDEV, Hint::StorageSplit),
    ];
    for (call, words) in operations {
        for (errno, hint) in errors {
            let (dir, mut storage) = opened();
            storage.change(certificate_of("old")).unwrap();
            fail(&storage, &[(call, errno)]);
            let error = storage.change(certificate_of("new")).expect_err(call);
            let text = error.to_string();
            assert!(text.starts_with(words), "{call} {errno}: {text}");
            assert!(text.contains(&io::Error::from(errno).to_string()), "{text}");
            assert_eq!(Hint::of_storage(error.kind), Some(hint), "{call} {errno}: {text}");
            assert!(error.kind.is_storage_failure(), "{call} {errno}: {text}");
            let there = read(dir.path(), "certs/a.org.pem");
            assert!(
                there == "old" || (there == "new" && call == "flush_folder"),
                "{call}: {there}"
            );
            // It is opened again until that works, and nothing is left behind.
            fail(&storage, &[]);
            storage.open().unwrap();
            storage.change(certificate_of("new")).unwrap();
            assert!(names(&dir.path().join("tmp")).is_empty());
        }
    }
    let opening = [
        ("lock", "lock: cannot lock: "),
        ("overwrite", "lock: cannot write: "),
        ("make_folder", "certs: cannot make the directory: "),
        ("names", "tmp: cannot list: "),
        ("flush_folder", ".: cannot flush: "),
        ("write", "tmp: cannot write: "),
        ("remove", "tmp: cannot remove a file: "),
        ("read", "client.key: cannot read: "),
    ];
    for (call, words) in opening {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = instance(dir.path(), 1);
        fail(&storage, &[(call, Errno::IO)]);
        let text = storage.open().expect_err(call).to_string();
        assert!(text.starts_with(words), "{call}: {text}");
    }
}

#[test]
fn directories_of_others_are_nobodys_file() {
    let (dir, mut storage) = opened();
    for folder in FOLDERS.iter().chain([&""]) {
        for name in ["@eaDir", "lost+found", ".snapshot", "#recycle", "snapshots"] {
            let path = dir.path().join(folder).join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("inside"), "x").unwrap();
        }
    }
    // What systems answer to unlink(2) of a directory.
    for errno in [None, Some(Errno::PERM), Some(Errno::ACCESS), Some(Errno::IO), Some(Errno::BUSY)]
    {
        let fails: Vec<_> = errno.into_iter().map(|errno| ("remove", errno)).collect();
        let unlinking = |storage: &Storage<Faulty>| fail(storage, &fails);
        unlinking(&storage);
        for name in names(&dir.path().join("tmp")) {
            let error = storage.remove(&format!("tmp/{name}")).expect_err("a directory");
            assert_eq!(error.kind, StoreErrorKind::NotAFile, "{errno:?}");
        }
        storage.change(Change::Withdraw { token: "snapshots".into() }).unwrap();
        fail(&storage, &[]);
        let inventory = storage.open().unwrap();
        assert_eq!(inventory.challenges, ["snapshots"], "which may be a token");
        assert!(inventory.certificates.is_empty());
    }
    let Loaded::Challenges(tokens) = storage.load(Load::Challenges) else { panic!() };
    assert_eq!(tokens, ["snapshots"]);
    storage.change(certificate_of("a")).unwrap();
    storage.change(Change::Archive(domain("a.org"))).unwrap();
    assert_eq!(read(dir.path(), "tmp/@eaDir/inside"), "x");
}

#[test]
fn a_folder_that_goes_is_made_again() {
    for folder in ["tmp", "certs"] {
        let (dir, mut storage) = opened();
        fs::remove_dir(dir.path().join(folder)).unwrap();
        let error = storage.change(certificate_of("a")).expect_err("no folder");
        assert_eq!(error.kind, StoreErrorKind::Gone, "{folder}");
        assert!(error.kind.is_storage_failure());
        storage.open().unwrap();
        storage.change(certificate_of("a")).unwrap();
    }
}

#[test]
fn a_folder_that_is_there_need_not_be_made() {
    let (_dir, mut storage) = opened();
    for errno in [Errno::ROFS, Errno::ACCESS, Errno::PERM, Errno::NOSYS] {
        fail(&storage, &[("make_folder", errno)]);
        storage.open().unwrap();
    }
}

#[test]
fn a_stale_lock_is_opened_again_where_it_is_ours() {
    let (dir, mut storage) = opened();
    fail(&storage, &[("is_at", Errno::STALE)]);
    let error = storage.change(certificate_of("a")).expect_err("stale");
    assert_eq!(error.kind, StoreErrorKind::Stale);
    assert!(error.to_string().starts_with("lock: cannot inspect: Stale"), "{error}");
    // As long as it lasts it is stale, and nobody else's.
    assert_eq!(storage.open().expect_err("stale").kind, StoreErrorKind::Stale);
    fail(&storage, &[]);
    storage.open().unwrap();
    storage.change(certificate_of("a")).unwrap();
    // Replaced by another machine, whose file ours has become unknown by.
    let line = "0000000000000002 0000000000000001 another-boot\n";
    fs::write(dir.path().join("new"), line).unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("lock")).unwrap();
    fail(&storage, &[("is_at", Errno::STALE)]);
    for change in [certificate_of("b"), Change::Heartbeat] {
        assert_eq!(storage.change(change).expect_err("lost").kind, StoreErrorKind::Lost);
    }
    assert_eq!(storage.open().expect_err("lost").kind, StoreErrorKind::Lost);
    fail(&storage, &[]);
    assert_eq!(storage.open().expect_err("another's").kind, StoreErrorKind::Leased);
    assert_eq!(read(dir.path(), "certs/a.org.pem"), "a");
}

#[test]
fn a_lock_whose_number_changes_is_still_ours_by_its_line() {
    let (dir, mut storage) = opened();
    storage.files.is_restless.set(true);
    storage.change(certificate_of("a")).unwrap();
    storage.change(Change::Heartbeat).unwrap();
    storage.files.is_restless.set(false);
    storage.open().unwrap();
    let mut second = instance(dir.path(), 2);
    let holder = second.open().expect_err("locked").detail;
    second.change(Change::TakeOver { holder }).unwrap();
    for restless in [true, false] {
        storage.files.is_restless.set(restless);
        let error = storage.change(certificate_of("late")).expect_err("lost");
        assert_eq!(error.kind, StoreErrorKind::Lost);
    }
    assert_eq!(read(dir.path(), "certs/a.org.pem"), "a");
}

/// An instance on a file system without locks.
fn unlocked(dir: &Path, number: u64) -> Storage<Faulty> {
    let storage = instance(dir, number);
    storage.files.lacks_locks.set(true);
    storage
}

fn kind_of(storage: &mut Storage<Faulty>) -> Option<StoreErrorKind> {
    storage.open().err().map(|error| error.kind)
}

#[test]
fn without_locks_the_lease_alone_tells_instances_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (unlocked(dir.path(), 1), unlocked(dir.path(), 2));
    assert_eq!(kind_of(&mut first), Some(StoreErrorKind::Unsettled));
    // From then on it is taken for all others, whatever the system says of locks to them.
    assert_eq!(kind_of(&mut second), Some(StoreErrorKind::Leased));
    let mut third = instance(dir.path(), 3);
    assert_eq!(kind_of(&mut third), Some(StoreErrorKind::Leased), "its boot says nothing");
    let inventory = first.open().unwrap();
    assert!(inventory.missing.locks && inventory.leased);
    first.change(certificate_of("first")).unwrap();
    // It ends in order: the next one need not wait for the lease to end.
    first.change(Change::Release).unwrap();
    assert_eq!(kind_of(&mut second), Some(StoreErrorKind::Unsettled));
    assert_eq!(kind_of(&mut first), Some(StoreErrorKind::Leased));
    second.open().unwrap();
    // It is frozen or dead: taken over by its line.
    let error = first.open().expect_err("leased");
    first.change(Change::TakeOver { holder: error.detail }).unwrap();
    first.open().unwrap();
    let error = second.change(certificate_of("late")).expect_err("fenced");
    assert_eq!(error.kind, StoreErrorKind::Lost);
    assert_eq!(read(dir.path(), "certs/a.org.pem"), "first");
}

#[test]
fn of_two_that_find_it_free_at_once_without_locks_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (unlocked(dir.path(), 1), unlocked(dir.path(), 2));
    assert_eq!(kind_of(&mut first), Some(StoreErrorKind::Unsettled));
    // The second one has read the empty line before.
    second.place().unwrap();
    assert_eq!(kind_of(&mut first), Some(StoreErrorKind::Lost));
    second.open().unwrap();
    assert_eq!(kind_of(&mut first), Some(StoreErrorKind::Leased));
    // One with locks that has taken the empty file is replaced by one without.
    let dir = tempfile::tempdir().unwrap();
    let mut locked = instance(dir.path(), 3);
    locked.open().unwrap();
    let mut unlocked = unlocked(dir.path(), 4);
    unlocked.place().unwrap();
    assert_eq!(locked.change(certificate_of("x")).expect_err("lost").kind, StoreErrorKind::Lost);
}
