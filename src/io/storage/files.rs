//! The few calls of a file system that the storage is made of, so that it can run on a simulated one
//! that loses what was not flushed. Each is one system call or nearly so, and decides nothing: the
//! order in which they are made, which crash safety hangs on, is the storage's.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Access, FlockOperation, access, flock};
use zeroize::Zeroizing;

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

    /// Makes an empty file with exactly this mode, whatever the umask says.
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

    /// Brings the names in a folder to the disk, likewise.
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

    /// A file's bytes, `bytes_max` of them at most; they may be a key.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>>;

    /// What a name leads to, through every link, without opening it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where it leads to nothing; the system's.
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

    /// The names in a folder, in any order; one that is not UTF-8 is shown as far as it can be.
    ///
    /// # Errors
    /// The system's.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Locks a file against every other process, making it (empty, with this mode) when it is missing.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while somebody else holds it; the system's.
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
}

/// What can be seen of a file from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether it is a file, and not a folder or something that waits when it is opened.
    pub is_file: bool,
    /// Another number once it is another file, or has been written: made of its size, its time and where
    /// it lies.
    pub stamp: u64,
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    type File = File;
    type Lock = File;

    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().mode(mode).create(path)
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        // At no moment may anybody open it whom its mode does not let.
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        // The umask may have taken bits away that the operator wants.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn flush_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len().min(bytes_max);
        // With room for all of it at once: a buffer that grew would leave parts of a key behind.
        let capacity = usize::try_from(length).unwrap_or(0) + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn look(&self, path: &Path) -> io::Result<Sight> {
        let found = fs::metadata(path)?;
        let mut hasher = DefaultHasher::new();
        (found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec())
            .hash(&mut hasher);
        Ok(Sight { is_file: found.is_file(), stamp: hasher.finish() })
    }

    fn may_change(&self, folder: &Path) -> bool {
        access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    }

    fn is_there(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        fs::read_dir(folder)?.map(name).collect()
    }

    fn lock(&self, path: &Path, mode: u32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(mode);
        let file = options.open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    fn overwrite(&self, lock: &mut File, bytes: &[u8]) -> io::Result<()> {
        lock.write_all_at(bytes, 0)?;
        lock.set_len(bytes.len() as u64)
    }

    fn is_at(&self, lock: &File, path: &Path) -> io::Result<bool> {
        let (held, there) = (lock.metadata()?, fs::metadata(path)?);
        Ok((held.dev(), held.ino()) == (there.dev(), there.ino()))
    }

    fn boot(&self) -> String {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_string()
    }
}
