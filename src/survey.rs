//! What the storage directory looks like to whoever only looks at it: data that `io/` gathers for
//! `--check`, which judges it. Of our own files it holds `default.pem` alone.

use std::path::PathBuf;
use std::time::Duration;

use crate::certs_scan::{ForeignFile, Found};
use crate::domain::Domain;
use crate::machine::StoreError;
use crate::secret::Secret;

/// An instance that shows no sign of life in the file `lock` for so long has lost the storage.
pub const LEASE: Duration = Duration::from_secs(10);

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
    pub foreign: Vec<ForeignFile>,
    /// How many more there are.
    pub more_foreign: usize,
    /// Files of ours with another mode than they are written with.
    pub odd_modes: Vec<WrongMode>,
    /// Who works on it.
    pub lock: LockState,
}

/// A file whose mode is not the one that it is written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongMode {
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
