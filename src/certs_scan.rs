//! What one scan of `certs/` finds: our files by name, and every other entry with its content.
//! `io/` collects it for the daemon and `--check`. It never holds the content of our own files.

use crate::domain::Domain;
use crate::secret::Secret;

/// Entries of `certs/` that are not ours and are read, at most.
pub const FOREIGN_FILES_MAX: usize = 64;
/// Bytes of one of them that are read, at most; one more where there is more.
pub const FOREIGN_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What lies in `certs/`.
#[derive(Debug, Default)]
pub struct Look {
    /// The names of `certs/NAME.pem` that are domains, in order.
    pub ours: Vec<Domain>,
    /// Of them, files that differ from what we last wrote or read. Of many files, each scan reads
    /// only some.
    pub changed: Vec<Domain>,
    /// All else, by name, no more than [`FOREIGN_FILES_MAX`].
    pub foreign_files: Vec<ForeignFile>,
    /// How many more there are.
    pub more: usize,
}

/// An entry of `certs/` that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignFile {
    /// Its name; what is not UTF-8 in it is replaced.
    pub file: String,
    /// What lies there.
    pub found: Found,
}

/// What can lie under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file with this content, or this beginning of it; it may be a key.
    File(Secret),
    /// A folder, a socket, a pipe: HAProxy passes over it.
    Other,
    /// A symbolic link. HAProxy follows it; we do not, so that what it leads to is not known.
    Link,
    /// It cannot be read; the system's own words.
    Unreadable(String),
}
