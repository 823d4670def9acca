//! What a failed call means for the storage: the kind that the program acts on, and the words that an
//! operator reads: the path, the operation, and the system's reason. Never decides what is tried again.

use std::io::{self, ErrorKind};

use rustix::io::Errno;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::machine::{StoreError, StoreErrorKind};
use crate::secret::Secret;

use super::files::{is_not_a_file, is_one_of};

/// What link(2) fails with where the file system has no hard links, or none between these directories. A
/// missing permission is among them; the rename that follows fails of it too.
const NO_LINKS: [Errno; 7] = [
    Errno::PERM,
    Errno::OPNOTSUPP,
    Errno::NOSYS,
    Errno::MLINK,
    Errno::XDEV,
    Errno::ACCESS,
    Errno::INVAL,
];
/// Failures of the disk, of the network in front of it, or of the process that serves the file system
/// (FUSE), beside [`Errno::IO`]. An interrupted call (FUSE, NFS) may or may not have taken effect.
const DEVICE_FAILURES: [Errno; 18] = [
    Errno::IO,
    Errno::INTR,
    Errno::TIMEDOUT,
    Errno::NOTCONN,
    Errno::CONNREFUSED,
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::SHUTDOWN,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::NXIO,
    Errno::NODEV,
    Errno::REMOTEIO,
    Errno::NOMEDIUM,
    Errno::UCLEAN,
    Errno::BADMSG,
];
/// The process or the machine has reached a limit.
const LIMITS: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];

/// Whether the name is taken.
pub(super) fn is_taken(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AlreadyExists
}

/// Whether the system's error may mean that the file system has no links (link(2)).
pub(super) fn means_no_links(error: &io::Error) -> bool {
    is_one_of(error, &NO_LINKS)
}

/// Whether a file server no longer knows an open file: it was removed or replaced elsewhere, or the server
/// was restarted (NFS).
pub(super) fn is_stale(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::STALE])
}

/// The error of an operation, as a verb, on a path; the storage directory itself is the empty path.
pub(super) fn failed(path: &str, operation: &str, error: &io::Error) -> StoreError {
    let mut detail = format!("cannot {operation}: {error}");
    if error.kind() == ErrorKind::PermissionDenied {
        // The operator's first question is which user lacks the permission.
        detail += &format!(", as user {}", geteuid().as_raw());
    }
    let path = if path.is_empty() { "." } else { path };
    StoreError { kind: kind(error), path: path.into(), detail }
}

/// What was read of a file, as text, which may hold a key; an error calls the file `path`.
pub(super) fn text(
    found: io::Result<Zeroizing<Vec<u8>>>,
    path: &str,
    bytes_max: u64,
) -> Result<Secret, StoreError> {
    let mut bytes = found.map_err(|error| failed(path, "read", &error))?;
    if bytes.len() as u64 > bytes_max {
        let detail = format!("longer than {bytes_max} bytes");
        return Err(StoreError { kind: StoreErrorKind::Malformed, path: path.into(), detail });
    }
    Ok(Secret::from_bytes(std::mem::take(&mut bytes)))
}

pub(super) fn kind(error: &io::Error) -> StoreErrorKind {
    match error.kind() {
        _ if is_not_a_file(error) => StoreErrorKind::NotAFile,
        _ if is_one_of(error, &DEVICE_FAILURES) => StoreErrorKind::Io,
        _ if is_one_of(error, &LIMITS) => StoreErrorKind::Limit,
        // Where a file was to be opened or replaced.
        ErrorKind::IsADirectory => StoreErrorKind::NotAFile,
        ErrorKind::NotFound => StoreErrorKind::Missing,
        ErrorKind::AlreadyExists => StoreErrorKind::Exists,
        ErrorKind::NotADirectory => StoreErrorKind::NotADirectory,
        ErrorKind::PermissionDenied => StoreErrorKind::NotWritable,
        ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        ErrorKind::StaleNetworkFileHandle => StoreErrorKind::Stale,
        ErrorKind::CrossesDevices => StoreErrorKind::Split,
        ErrorKind::InvalidData => StoreErrorKind::Malformed,
        _ => StoreErrorKind::File,
    }
}
