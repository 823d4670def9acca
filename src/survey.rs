//! What the storage directory looks like to whoever only looks at it: data that `io/` gathers for
//! `--check` and for the daemon's guard, which judge it. Of our own files it holds `default.pem` alone.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::Domain;
use crate::seam::StoreError;
use crate::secret::Secret;

/// So many entries of `certs/` that are not ours are looked at.
pub const STRANGERS_MAX: usize = 64;
/// So much of one of them is read, in bytes; one more where there is more.
pub const STRANGER_BYTES_MAX: u64 = 64 * 1024;

/// An entry of `certs/` that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
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

/// The storage directory at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The directory: absolute and without links as far as that can be told, else as it was given.
    pub dir: PathBuf,
    /// Why there is no such directory; the rest says nothing then.
    pub missing: Option<StoreError>,
    /// What the daemon could not read or change there, with the system's own words.
    pub barred: Vec<StoreError>,
    /// Bytes that an ordinary user may still write on its file system.
    pub free_bytes: Option<u64>,
    /// Files that may still be made there; `None` also where the file system has no such limit.
    pub free_files: Option<u64>,
    /// `client.key`, where it can be read.
    pub account_key: Option<Secret>,
    /// The names of the certificates in `certs/`.
    pub certificates: Vec<Domain>,
    /// What lies under `default.pem`; `None` where nothing does.
    pub fallback: Option<Found>,
    /// What lies in `certs/` and is not ours.
    pub foreign: Vec<Stranger>,
    /// How many more there are.
    pub more_foreign: usize,
    /// Files of ours with another mode than they are written with.
    pub odd_modes: Vec<OddMode>,
    /// Who works on it.
    pub lock: LockState,
}

/// A file whose mode is not the one that it is written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddMode {
    /// Relative to the storage directory.
    pub path: String,
    /// The nine permission bits that it has.
    pub mode: u32,
    /// Those that it would be written with today.
    pub expected: u32,
}

/// What the file `lock` says of other instances. Nobody tries to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// Nobody has it.
    Free,
    /// It bears an instance's line, last written so long ago.
    Held {
        /// By the file's time and this machine's clock.
        beat_age: Duration,
    },
    /// It cannot be read.
    Unknown,
}
