//! The few calls of a file system that the storage is made of, so that it can run on a simulated one
//! that loses what was not flushed. Each is one system call or nearly so, and decides nothing: the
//! order in which they are made, which crash safety hangs on, is the storage's.
//!
//! No call follows a symbolic link below the storage directory, in the last component of a path or in the
//! directory before it, and none opens what is not a regular file.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, StatxFlags, access, flock,
    linkat, mkdirat, open, openat, renameat, statat, statx, unlinkat,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::machine::MissingFeatures;

/// The nine bits of a file's mode that are about permissions.
pub(super) const PERMISSIONS: u32 = 0o777;
/// What a file system answers that does not have an operation. Some answer EPERM or EACCES to chmod(2)
/// (FAT, CIFS), which is nothing else for a file that was just made; EBADF is an answer to fsync(2) of a
/// directory that is open for reading.
const UNSUPPORTED: [Errno; 3] = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
const NO_MODES: [Errno; 5] =
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::PERM, Errno::ACCESS];
const NO_FOLDER_FLUSH: [Errno; 4] = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::BADF];
const NO_LOCKS: [Errno; 4] = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::NOLCK];

/// A file system. Errors are the system's own; [`io::ErrorKind`] tells them apart.
pub trait Files {
    /// A file that is open for writing.
    type File;
    /// A lock that is held for as long as this lives.
    type Lock;

    /// Makes a folder with this mode.
    ///
    /// # Errors
    /// There is something of that name already, or the system's.
    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Makes an empty file with exactly this mode, whatever the umask says; on a file system without
    /// modes, with the one that all files there have.
    ///
    /// # Errors
    /// There is something of that name already, or the system's.
    fn create(&self, path: &Path, mode: u32) -> io::Result<Self::File>;

    /// Writes all of `bytes` behind what the file has.
    ///
    /// # Errors
    /// Some of it may have been written.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;

    /// Brings a file's content to the disk: a crash does not take it back.
    ///
    /// # Errors
    /// Nothing is known of what a crash would leave.
    fn flush(&self, file: &Self::File) -> io::Result<()>;

    /// Brings the names in a folder to the disk, likewise, where the file system can do that.
    ///
    /// # Errors
    /// As for a file.
    fn flush_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of what has that name.
    ///
    /// # Errors
    /// The file keeps its name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// The name is taken, or the system's.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// A file's bytes, `bytes_max` of them at most; they may be a key. Never blocks on a FIFO or a device.
    ///
    /// # Errors
    /// It is not a regular file ([`not_a_file`]); the system's.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>>;

    /// What has this name: of a link, the link itself. Opens nothing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where nothing has this name; the system's.
    fn look(&self, path: &Path) -> io::Result<Sight>;

    /// Whether names in a folder may be made and removed, as far as permissions say; where a file system
    /// has none, they may.
    fn may_change(&self, _folder: &Path) -> bool {
        true
    }

    /// Whether there is something of that name, a dangling link included.
    ///
    /// # Errors
    /// It cannot be told.
    fn is_there(&self, path: &Path) -> io::Result<bool>;

    /// The names in a folder as they are now, in any order; one that is not UTF-8 is shown as far as it can
    /// be.
    ///
    /// # Errors
    /// The system's.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Locks a file against every other process, making it (empty, with this mode) when it is missing. A
    /// file system without locks only opens it, which [`Files::missing`] says then.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while somebody else holds it; it is not a regular file
    /// ([`not_a_file`]); the system's.
    fn lock(&self, path: &Path, mode: u32) -> io::Result<Self::Lock>;

    /// Gives a locked file this content, in place, without bringing it to the disk.
    ///
    /// # Errors
    /// Some of it may have been written.
    fn overwrite(&self, lock: &mut Self::Lock, bytes: &[u8]) -> io::Result<()>;

    /// Whether it is the locked file that has this name, and not another one.
    ///
    /// # Errors
    /// Nothing has this name, or the system's.
    fn is_at(&self, lock: &Self::Lock, path: &Path) -> io::Result<bool>;

    /// What names this run of this machine's kernel, which keeps its locks; empty when there is none.
    fn boot(&self) -> String;

    /// What the file system turned out not to offer; of locks, the last time that one was asked for.
    fn missing(&self) -> MissingFeatures {
        MissingFeatures::default()
    }
}

/// What can be seen of a file from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// What kind of file it is.
    pub kind: FileKind,
    /// Another number once it has been written or replaced: made of its size and its time alone, since
    /// the number of a file is not stable on some file systems (FAT, CIFS, FUSE).
    pub stamp: u64,
}

/// Kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file, the only kind that is opened.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, whatever it leads to.
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

impl FileKind {
    /// What it is, for the operator.
    pub fn words(self) -> &'static str {
        match self {
            FileKind::Regular => "it is a regular file",
            FileKind::Directory => "it is a directory",
            FileKind::Link => "it is a symbolic link, which is not followed",
            FileKind::Special => "it is a FIFO, a socket or a device",
        }
    }
}

/// The error of a file that cannot be opened because it is not a regular one.
pub fn not_a_file(kind: FileKind) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, kind.words())
}

/// Whether an error is [`not_a_file`]: the system's own ones have numbers.
pub fn is_not_a_file(error: &io::Error) -> bool {
    error.kind() == ErrorKind::InvalidInput && error.raw_os_error().is_none()
}

/// Whether it is one of these errors of the system.
pub(super) fn is_one_of(error: &io::Error, errors: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|number| errors.iter().any(|it| it.raw_os_error() == number))
}

/// The real file system, below one storage directory.
#[derive(Clone, Debug, Default)]
pub struct RealFiles {
    dir: PathBuf,
    missing: Cell<MissingFeatures>,
}

impl RealFiles {
    /// The storage directory, the only one that a link may lead to.
    pub fn below(dir: PathBuf) -> RealFiles {
        RealFiles { dir, missing: Cell::default() }
    }

    fn note_missing(&self, note: impl FnOnce(&mut MissingFeatures)) {
        let mut missing = self.missing.get();
        note(&mut missing);
        self.missing.set(missing);
    }

    /// Opens a directory. It is opened for each call, since another file system may be mounted there.
    fn open_folder(&self, path: &Path, access: OFlags) -> io::Result<OwnedFd> {
        let follows = if path == self.dir { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = access | follows | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(open(path, flags, Mode::empty())?)
    }

    /// The directory of a path, open, and the name in it.
    fn entry<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => Ok((self.open_folder(folder, OFlags::PATH)?, name)),
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let (folder, name) = self.entry(path)?;
        Ok(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Opens a regular file and nothing else. To open a device may do something already, so that its
    /// kind is asked for first; what takes its place meanwhile is not waited for, and is refused.
    fn open_file(&self, path: &Path, access: OFlags, mode: Mode) -> io::Result<File> {
        let (folder, name) = self.entry(path)?;
        match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => must_be_regular(kind(&found))?,
            Err(Errno::NOENT) if access.contains(OFlags::CREATE) => {}
            Err(errno) => return Err(errno.into()),
        }
        let safely = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(&folder, name, access | safely, mode) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => return Err(not_a_file(FileKind::Link)),
            Err(errno) => return Err(errno.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(not_a_file(FileKind::Special));
        }
        Ok(file)
    }
}

fn kind(found: &Stat) -> FileKind {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Special,
    }
}

fn must_be_regular(kind: FileKind) -> io::Result<()> {
    if kind == FileKind::Regular { Ok(()) } else { Err(not_a_file(kind)) }
}

/// Reads what is left of a file, `bytes_max` bytes at most.
pub(in crate::io) fn read_all(file: File, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = file.metadata()?.len().min(bytes_max);
    // With room for all of it at once: a buffer that grew would leave parts of a key behind.
    let capacity = usize::try_from(length).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file that an option names and that is read again later, `bytes_max` bytes at most. Links are
/// followed, since mounted secrets are made of them; a FIFO is refused, since nobody may ever write into it.
pub(in crate::io) fn read_named(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let file = File::from(open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    read_all(file, bytes_max)
}

impl Files for RealFiles {
    type File = File;
    type Lock = File;

    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (folder, name) = self.entry(path)?;
        Ok(mkdirat(folder, name, Mode::from_raw_mode(mode))?)
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let (folder, name) = self.entry(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // At no moment may anybody open it whom its mode does not let.
        let file = File::from(openat(folder, name, flags, Mode::from_raw_mode(mode))?);
        // The umask may have taken bits away that the operator wants.
        let set = file.set_permissions(fs::Permissions::from_mode(mode));
        let lacks_modes = match &set {
            // Some file systems ignore it without an error.
            Ok(()) => file.metadata()?.permissions().mode() & PERMISSIONS & !mode != 0,
            Err(error) if is_one_of(error, &NO_MODES) => true,
            Err(_) => return set.map(|()| file),
        };
        if lacks_modes {
            self.note_missing(|missing| missing.modes = true);
        }
        Ok(file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        match file.sync_all() {
            Err(error) if is_one_of(&error, &UNSUPPORTED) => {
                self.note_missing(|missing| missing.flushes = true);
                Ok(())
            }
            result => result,
        }
    }

    fn flush_folder(&self, path: &Path) -> io::Result<()> {
        match File::from(self.open_folder(path, OFlags::RDONLY)?).sync_all() {
            Err(error) if is_one_of(&error, &NO_FOLDER_FLUSH) => Ok(()),
            result => result,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from, old), (to, new)) = (self.entry(from)?, self.entry(to)?);
        Ok(renameat(from, old, to, new)?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from, old), (to, new)) = (self.entry(from)?, self.entry(to)?);
        Ok(linkat(from, old, to, new, AtFlags::empty())?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.entry(path)?;
        Ok(unlinkat(folder, name, AtFlags::empty())?)
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        read_all(self.open_file(path, OFlags::RDONLY, Mode::empty())?, bytes_max)
    }

    fn look(&self, path: &Path) -> io::Result<Sight> {
        let found = self.stat(path)?;
        let mut hasher = DefaultHasher::new();
        (found.st_size, found.st_mtime, found.st_mtime_nsec).hash(&mut hasher);
        Ok(Sight { kind: kind(&found), stamp: hasher.finish() })
    }

    fn may_change(&self, folder: &Path) -> bool {
        access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    }

    fn is_there(&self, path: &Path) -> io::Result<bool> {
        match self.stat(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let opened = self.open_folder(folder, OFlags::RDONLY)?;
        // Network file systems answer from a cache that may be a minute old, unless they are asked for the
        // folder's state (statx(2)); one that cannot be asked so has no such cache.
        let _ =
            statx(&opened, "", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, StatxFlags::MTIME);
        for entry in Dir::new(opened)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn lock(&self, path: &Path, mode: u32) -> io::Result<File> {
        let access = OFlags::RDWR | OFlags::CREATE;
        let file = self.open_file(path, access, Mode::from_raw_mode(mode))?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let lacks_locks = locked.is_err_and(|errno| NO_LOCKS.contains(&errno));
        self.note_missing(|missing| missing.locks = lacks_locks);
        if !lacks_locks {
            locked?;
        }
        Ok(file)
    }

    fn overwrite(&self, lock: &mut File, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        lock.write_all_at(bytes, 0)?;
        // Some file systems in user space cannot set the length.
        if lock.metadata()?.len() == length { Ok(()) } else { lock.set_len(length) }
    }

    fn is_at(&self, lock: &File, path: &Path) -> io::Result<bool> {
        let (held, there) = (lock.metadata()?, self.stat(path)?);
        Ok((held.dev(), held.ino()) == (there.st_dev, there.st_ino))
    }

    fn boot(&self) -> String {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_string()
    }

    fn missing(&self) -> MissingFeatures {
        self.missing.get()
    }
}
