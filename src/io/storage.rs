//! The storage directory (contract: storage directory). Every change is a temporary file beside the
//! target's folder, flushed, renamed, and the folder flushed: after a crash the old file is there or
//! the new one. Nothing but whole certificates is ever in `certs/`. Never retries: the daemon does.

use std::cell::OnceCell;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::domain::Domain;
use crate::machine::{Change, Inventory, Load, Loaded, StoreError, StoreErrorKind};
use crate::secret::Secret;
use crate::url;

mod archive;
mod error;
pub mod files;
mod guard;
mod lock;
mod name_service;
mod obstacle;
mod snapshot;
mod survey;

use archive::archived;
use error::{failed, is_taken, kind, means_no_links, text};
use files::{FileKind, Files, RealFiles, not_a_file, read_named};
use guard::Known;
use name_service::NameService;
pub use obstacle::obstacle;
pub use snapshot::{Snapshot, read_only};
pub use survey::survey;

/// The folders that are there from the start on.
const FOLDERS: [&str; 5] = ["certs", "unmanaged-certs", "challenges", "archive", "tmp"];
/// Those with what must survive a crash, the storage directory itself among them.
const FLUSHED: [&str; 4] = ["", "certs", "challenges", "archive"];
/// The file that HAProxy serves while there is no certificate. It is never read here, so that the operator
/// may have put a link there; HAProxy would wait for a FIFO and refuse a directory.
const FALLBACK: &str = "default.pem";
/// The other files of ours in the storage directory itself.
const OWN_FILES: [&str; 3] = ["client.key", "state.json", "lock"];
const FOLDER_MODE: u32 = 0o755;
/// Mode of what only this program reads.
const PRIVATE_MODE: u32 = 0o600;
/// Mode of what another instance may have to read as another user; nothing secret.
const SHARED_MODE: u32 = 0o644;

/// The largest file of ours that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The largest `state.json`, in bytes.
const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The largest key authorization, in bytes; CAs use 87.
const CHALLENGE_BYTES_MAX: u64 = 1024;
/// The largest file with a token that is read: the longest token, and room around it.
const TOKEN_FILE_BYTES_MAX: u64 = url::TOKEN_BYTES_MAX as u64 + 1024;
/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 128;

/// The storage directory, on a file system.
#[derive(Debug)]
pub struct Storage<F: Files = RealFiles> {
    files: F,
    dir: PathBuf,
    cert_mode: u32,
    /// This instance, among all that ever had this storage.
    instance: u64,
    /// `lock`, while this instance holds it.
    lock: Option<F::Lock>,
    /// Lines written to `lock`.
    beats: u64,
    /// This boot of the machine, which lasts longer than the program; read once.
    boot: OnceCell<String>,
    known: Known,
    temporaries_made: u64,
    name_service: NameService,
}

/// Whether a file may take another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Replace,
    Refuse,
}

impl Storage {
    /// The storage in `dir`, certificates with mode `cert_mode`. `instance` is a number of chance that
    /// no other instance has. Touches nothing yet.
    pub fn new(dir: PathBuf, cert_mode: u32, instance: u64) -> Storage {
        Storage::on(RealFiles::below(dir.clone()), dir, cert_mode, instance)
    }

    /// Whether there is a directory at all. One that is missing is not made: what would be stored
    /// in the place of a volume that was not mounted is lost. It may be a link: the operator has named it.
    ///
    /// # Errors
    /// There is none, or a file in its place.
    pub fn check(dir: &Path) -> Result<(), StoreError> {
        let path = dir.display().to_string();
        match fs::metadata(dir) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => {
                let detail = "it is not a directory".into();
                Err(StoreError { kind: StoreErrorKind::NotADirectory, path, detail })
            }
            Err(error) => Err(StoreError { kind: kind(&error), path, detail: error.to_string() }),
        }
    }
}

impl<F: Files> Storage<F> {
    /// As [`Storage::new`], on another file system.
    pub fn on(files: F, dir: PathBuf, cert_mode: u32, instance: u64) -> Storage<F> {
        Storage {
            files,
            dir,
            cert_mode,
            instance,
            lock: None,
            beats: 0,
            boot: OnceCell::new(),
            known: Known::default(),
            temporaries_made: 0,
            name_service: NameService::of_system(),
        }
    }

    /// Carries out a change. Just before the step by which it becomes visible it is made sure that the
    /// lock is still ours: what comes later than another instance's takeover changes nothing.
    ///
    /// # Errors
    /// The system's, or [`StoreErrorKind::Lost`]. Nothing has changed then.
    pub fn change(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::AccountKey(pem) => {
                self.put("client.key", PRIVATE_MODE, pem.expose().as_bytes(), Existing::Refuse)
            }
            Change::Fallback(pem) => {
                let bytes = pem.expose().as_bytes();
                match self.put(FALLBACK, self.cert_mode, bytes, Existing::Refuse) {
                    Err(error) if error.kind == StoreErrorKind::Exists => Ok(()),
                    result => result,
                }
            }
            Change::Certificate(name, pem) => {
                let bytes = pem.expose().as_bytes();
                self.put(&certificate(&name), self.cert_mode, bytes, Existing::Replace)?;
                self.known.note(&name, self.stamp(&name));
                Ok(())
            }
            Change::Archive(name) => {
                self.known.note(&name, None);
                self.archive(&certificate(&name), name.as_str(), "pem")
            }
            Change::Reject { name, pem, reason } => self.reject(&name, &pem, &reason),
            Change::ArchiveState => self.archive("state.json", "state", "json"),
            Change::ReplaceArchived { file, pem } => {
                let path = archived(&file)?;
                self.put(&path, PRIVATE_MODE, pem.expose().as_bytes(), Existing::Replace)
            }
            Change::State(bytes) => self.put("state.json", PRIVATE_MODE, &bytes, Existing::Replace),
            Change::Publish { token, key_authorization } => {
                let path = challenge(&token)?;
                self.put(&path, SHARED_MODE, key_authorization.as_bytes(), Existing::Replace)
            }
            Change::Withdraw { token } => {
                let path = challenge(&token)?;
                self.check_lock()?;
                match self.remove(&path) {
                    // A directory of that name is another's, and no challenge.
                    Err(error) if error.kind == StoreErrorKind::NotAFile => Ok(()),
                    result => result,
                }
            }
            Change::Heartbeat => self.check_lock().and_then(|()| self.beat()),
            Change::TakeOver { holder } => self.take_over(&holder),
            Change::Release => self.release(),
        }
    }

    /// Reads.
    pub fn load(&mut self, load: Load) -> Loaded {
        match load {
            Load::Storage => Loaded::Storage(self.open()),
            Load::Certificate(name) => {
                // Before it is read: what is written meanwhile is another file, and read once more.
                let stamp = self.stamp(&name);
                let file = self.read_text(&certificate(&name), FILE_BYTES_MAX);
                self.known.note(&name, stamp.filter(|_| file.is_ok()));
                Loaded::Certificate(name, file)
            }
            Load::Guard(misnamed) => Loaded::Guard(self.look_through(&misnamed)),
            Load::Challenge(conn, token) => {
                let found = challenge(&token)
                    .and_then(|path| self.read_text(&path, CHALLENGE_BYTES_MAX))
                    .map(|text| text.expose().to_string())
                    .ok();
                Loaded::Challenge(conn, token, found)
            }
            Load::Archive { after } => Loaded::Archive(self.archived_after(after.as_deref())),
            Load::Archived(file) => {
                let read = archived(&file).and_then(|path| self.read_text(&path, FILE_BYTES_MAX));
                Loaded::Archived(file, read)
            }
            Load::Challenges => Loaded::Challenges(self.tokens().unwrap_or_default()),
            Load::Token(path) => {
                let shown = path.to_string_lossy();
                let found = read_named(&path, TOKEN_FILE_BYTES_MAX + 1);
                Loaded::Token(text(found, &shown, TOKEN_FILE_BYTES_MAX))
            }
            Load::NameService => self.name_service.load(),
        }
    }

    /// Whether everything that bears one of our names is what it has to be, where it is there: a link
    /// would lead us to somebody else's directory or file.
    ///
    /// # Errors
    /// The first that is not, by [`StoreErrorKind::NotADirectory`] or [`StoreErrorKind::NotAFile`].
    pub fn check_layout(&self) -> Result<(), StoreError> {
        self.layout_errors().into_iter().next().map_or(Ok(()), Err)
    }

    /// All that is not.
    fn layout_errors(&self) -> Vec<StoreError> {
        let folders = FOLDERS.iter().map(|path| (*path, FileKind::Directory));
        let files = OWN_FILES.iter().chain([&FALLBACK]).map(|path| (*path, FileKind::Regular));
        let all = folders.chain(files);
        let wrong = all.filter_map(|(path, expected)| {
            // What cannot be inspected is an error where it is used.
            let found = self.files.look(&self.dir.join(path)).ok()?.kind;
            let kind = match expected {
                FileKind::Directory => StoreErrorKind::NotADirectory,
                _ => StoreErrorKind::NotAFile,
            };
            let is_right = found == expected || (path == FALLBACK && found == FileKind::Link);
            let (path, detail) = (path.into(), found.words().into());
            (!is_right).then_some(StoreError { kind, path, detail })
        });
        wrong.collect()
    }

    /// Takes the lock, makes what is missing, proves that a write works, lists what is there.
    fn open(&mut self) -> Result<Inventory, StoreError> {
        self.check_layout()?;
        self.acquire()?;
        FOLDERS.into_iter().try_for_each(|folder| self.make_folder(folder))?;
        for left_over in self.names("tmp")? {
            match self.remove(&format!("tmp/{left_over}")) {
                Err(error) if error.kind.is_storage_failure() => return Err(error),
                // Such as a directory that a file server has made: nothing of ours needs that name.
                _ => {}
            }
        }
        // What an earlier run did not come to flush is relied on from now on.
        for folder in FLUSHED {
            let flushed = self.files.flush_folder(&self.dir.join(folder));
            flushed.map_err(|error| failed(folder, "flush", &error))?;
        }
        let proof = self.write_temporary(PRIVATE_MODE, &[b' '; 4096])?;
        self.files.remove(&proof).map_err(|error| failed("tmp", "remove a file", &error))?;
        self.inventory()
    }

    fn make_folder(&self, folder: &str) -> Result<(), StoreError> {
        let path = self.dir.join(folder);
        match self.files.make_folder(&path, FOLDER_MODE) {
            // A read-only or a network file system may have another reason for one that is there.
            Err(error) if !is_taken(&error) && !self.is_folder(&path) => {
                Err(failed(folder, "make the directory", &error))
            }
            _ => Ok(()),
        }
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.files.look(path).is_ok_and(|found| found.kind == FileKind::Directory)
    }

    fn inventory(&self) -> Result<Inventory, StoreError> {
        let mut inventory = Inventory {
            account_key: optional(self.read_text("client.key", FILE_BYTES_MAX))?,
            has_fallback: self.files.is_there(&self.dir.join(FALLBACK)).unwrap_or(false),
            state: optional(self.read_state())?,
            challenges: self.tokens()?,
            leased: true,
            missing: self.files.missing(),
            ..Inventory::default()
        };
        let files = self.names("certs")?;
        inventory.certificates.extend(files.iter().filter_map(|file| domain_of(file)));
        Ok(inventory)
    }

    /// The names in a folder, sorted; one that is not UTF-8 is shown as far as it can be.
    fn names(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let trouble = |error: io::Error| failed(folder, "list", &error);
        let mut names = self.files.names(&self.dir.join(folder)).map_err(trouble)?;
        names.sort_unstable();
        Ok(names)
    }

    /// The names in `challenges/` that are tokens. File servers and snapshots have names there that are
    /// none, such as `@eaDir`, `.snapshot` and `lost+found`.
    fn tokens(&self) -> Result<Vec<String>, StoreError> {
        let mut names = self.names("challenges")?;
        names.retain(|name| challenge(name).is_ok());
        Ok(names)
    }

    /// A file as text, which may hold a key.
    fn read_text(&self, path: &str, bytes_max: u64) -> Result<Secret, StoreError> {
        text(self.files.read(&self.dir.join(path), bytes_max + 1), path, bytes_max)
    }

    /// `state.json`.
    fn read_state(&self) -> Result<Vec<u8>, StoreError> {
        self.read("state.json", STATE_BYTES_MAX).map(|mut bytes| std::mem::take(&mut *bytes))
    }

    /// A file's bytes: all of them, or one more than the limit.
    fn read(&self, path: &str, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let found = self.files.read(&self.dir.join(path), bytes_max + 1);
        found.map_err(|error| failed(path, "read", &error))
    }

    /// Makes a file with its content and mode appear at once.
    fn put(
        &mut self,
        path: &str,
        mode: u32,
        bytes: &[u8],
        existing: Existing,
    ) -> Result<(), StoreError> {
        let target = self.dir.join(path);
        let temporary = self.write_temporary(mode, bytes)?;
        let placed = self.check_lock().and_then(|()| {
            let moved = match existing {
                Existing::Replace => self.files.rename(&temporary, &target),
                Existing::Refuse => match self.link(&temporary, &target) {
                    // Made by a try of which only the last flush failed.
                    Err(error) if is_taken(&error) && self.holds(path, bytes) => Ok(()),
                    linked => linked,
                },
            };
            moved.map_err(|error| self.refused(path, "move into place", &error))?;
            self.flush_entry(path)
        });
        if existing == Existing::Refuse || placed.is_err() {
            // What stays behind is removed at the next start.
            let _ = self.files.remove(&temporary);
        }
        placed.map_err(of_folder)
    }

    /// Whether a file has exactly this content.
    fn holds(&self, path: &str, bytes: &[u8]) -> bool {
        self.read(path, bytes.len() as u64).is_ok_and(|found| **found == *bytes)
    }

    /// Writes a file into `tmp/` and flushes it.
    fn write_temporary(&mut self, mode: u32, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        let path = self.new_temporary();
        let failed = |operation| move |error: io::Error| failed("tmp", operation, &error);
        let written =
            self.files.create(&path, mode).map_err(failed("create a file")).and_then(|mut file| {
                self.files.write(&mut file, bytes).map_err(failed("write"))?;
                self.files.flush(&file).map_err(failed("flush a file"))
            });
        if written.is_err() {
            let _ = self.files.remove(&path);
        }
        written.map(|()| path).map_err(of_folder)
    }

    /// A name in `tmp/` that no file has, nor one of an instance that does not know yet that it has
    /// lost the lock.
    fn new_temporary(&mut self) -> PathBuf {
        self.temporaries_made += 1;
        self.dir.join(format!("tmp/{:016x}.{}", self.instance, self.temporaries_made))
    }

    /// Gives a file a second name, which must be free; the first one is the caller's to remove. A
    /// rename would take another file's place, so it is only for file systems that know no links (FAT,
    /// some network and user-space ones): there the lock has to keep others from making files here.
    fn link(&self, source: &Path, target: &Path) -> io::Result<()> {
        match self.files.link(source, target) {
            Err(error) if means_no_links(&error) => self.move_to_free(source, target),
            result => result,
        }
    }

    fn move_to_free(&self, source: &Path, target: &Path) -> io::Result<()> {
        if self.files.is_there(target)? {
            return Err(Errno::EXIST.into());
        }
        self.files.rename(source, target)
    }

    /// Removes a file; gone already is gone.
    fn remove(&self, path: &str) -> Result<(), StoreError> {
        let place = self.dir.join(path);
        let removed = match self.files.remove(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // What unlink(2) answers for a directory differs from one file system to the next.
            Err(_) if self.is_folder(&place) => Err(not_a_file(FileKind::Directory)),
            result => result,
        };
        removed.map_err(|error| self.refused(path, "remove", &error))
    }

    /// What a failed change of a file in one of our directories means: a permission that is missing for
    /// the file alone, such as one that is immutable, is no failure of the storage.
    fn refused(&self, path: &str, operation: &str, error: &io::Error) -> StoreError {
        let of_file = error.kind() == ErrorKind::PermissionDenied && {
            let path = self.dir.join(path);
            self.files.may_change(path.parent().unwrap_or(&path))
        };
        let refused = failed(path, operation, error);
        StoreError { kind: if of_file { StoreErrorKind::File } else { refused.kind }, ..refused }
    }

    /// Flushes the folder that a path is in, so that its entry is there after a crash.
    fn flush_entry(&self, path: &str) -> Result<(), StoreError> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let flushed = self.files.flush_folder(&self.dir.join(folder));
        flushed.map_err(|error| failed(folder, "flush", &error))
    }
}

/// What is missing where a file was to be written is the directory that it belongs in: the storage is
/// opened again then, which makes what is missing.
fn of_folder(error: StoreError) -> StoreError {
    match error.kind {
        StoreErrorKind::Missing => StoreError { kind: StoreErrorKind::Gone, ..error },
        _ => error,
    }
}

/// A file that may be missing.
fn optional<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind == StoreErrorKind::Missing => Ok(None),
        Err(error) => Err(error),
    }
}

/// The domain whose certificate a file in `certs/` is, by its name.
fn domain_of(file: &str) -> Option<Domain> {
    let stem = file.strip_suffix(".pem")?;
    Domain::parse(stem).ok().filter(|name| name.as_str() == stem)
}

fn certificate(name: &Domain) -> String {
    format!("certs/{name}.pem")
}

/// The path of a token, which a peer has chosen: only base64url may become a file name.
fn challenge(token: &str) -> Result<String, StoreError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token.bytes().all(fits) {
        return Ok(format!("challenges/{token}"));
    }
    let (path, detail) = ("challenges".to_string(), "the token is not base64url".to_string());
    Err(StoreError { kind: StoreErrorKind::Malformed, path, detail })
}

#[cfg(test)]
mod tests;
