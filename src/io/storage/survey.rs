//! The survey of the storage directory: asks the system who may do what, and how much room there is.
//! Takes no lock, writes nothing, makes no directory. Of the files of ours that hold a key it reads
//! `default.pem` and `client.key`.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, access, statvfs};

use super::super::clock::system_time;
use super::error::failed;
use super::files::{FileKind, Files as _, PERMISSIONS};
use super::{FALLBACK, FILE_BYTES_MAX, PRIVATE_MODE, Storage, domain_of, optional};
use crate::survey::{LockState, Survey, WrongMode};

/// Folders in which the daemon makes and removes files; the first is the storage directory itself.
const WRITTEN: [&str; 5] = ["", "certs", "challenges", "archive", "tmp"];
/// Files of ours that hold nothing but what the daemon itself reads.
const PRIVATE: [&str; 2] = ["client.key", "state.json"];
/// Files that the daemon reads or changes, where they are there.
const USED: [&str; 3] = ["client.key", "state.json", "lock"];

/// Looks at the storage in `dir`, whose certificates are written with `cert_mode`.
pub fn survey(dir: &Path, cert_mode: u32) -> Survey {
    let mut survey = Survey {
        dir: dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf()),
        missing: Storage::check(dir).err(),
        barred: Vec::new(),
        free_bytes: None,
        free_files: None,
        account_key: None,
        certificates: Vec::new(),
        fallback: None,
        foreign: Vec::new(),
        more_foreign: 0,
        odd_modes: Vec::new(),
        lock: LockState::Free,
    };
    if survey.missing.is_some() {
        return survey;
    }
    if let Ok(room) = statvfs(dir) {
        survey.free_bytes = Some(room.f_bavail.saturating_mul(room.f_frsize));
        // Some file systems make files as they are wanted, and count none.
        survey.free_files = (room.f_files > 0).then_some(room.f_favail);
    }
    // Nothing is written, so by whom does not matter.
    let storage = Storage::new(dir.into(), cert_mode, 0);
    survey.fallback = storage.found(FALLBACK, false);
    survey.account_key = storage.read_text("client.key", FILE_BYTES_MAX).ok();
    let mut pems = vec![FALLBACK.to_string()];
    match optional(storage.names("certs")) {
        Ok(names) => {
            let mut others = Vec::new();
            let is_file = |file: &str| {
                // What cannot be looked at cannot be read either, which is said below.
                let found = storage.files.look(&dir.join("certs").join(file));
                found.map_or(true, |found| found.kind == FileKind::Regular)
            };
            for file in names.unwrap_or_default() {
                match domain_of(&file).filter(|_| is_file(&file)) {
                    Some(name) => {
                        survey.certificates.push(name);
                        pems.push(format!("certs/{file}"));
                    }
                    None => others.push(file),
                }
            }
            (survey.foreign, survey.more_foreign) = storage.foreign_files(&others);
        }
        Err(error) => survey.barred.push(error),
    }
    for error in storage.layout_errors() {
        survey.barred.retain(|known| known.path != error.path);
        survey.barred.push(error);
    }
    survey.odd_modes = odd_modes(dir, &pems, cert_mode);
    let wanted = WRITTEN.iter().map(|path| (*path, Kind::Folder));
    let wanted = wanted.chain(USED.iter().map(|path| (*path, Kind::Used)));
    let wanted = wanted.chain(pems.iter().map(|path| (path.as_str(), Kind::Read)));
    for error in wanted.filter_map(|(path, kind)| barred(dir, path, kind)) {
        if survey.barred.iter().all(|known| known.path != error.path) {
            survey.barred.push(error);
        }
    }
    survey.lock = lock_state(&dir.join("lock"));
    survey
}

/// What the daemon does with a path.
#[derive(Clone, Copy)]
enum Kind {
    /// Finds, makes and removes what is in it.
    Folder,
    /// Reads and replaces it, or writes into it.
    Used,
    /// Reads it.
    Read,
}

/// Why the daemon could not do that with a path, by the system's own account; what is missing is made.
fn barred(dir: &Path, path: &str, kind: Kind) -> Option<crate::machine::StoreError> {
    let wanted = match kind {
        Kind::Folder => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
        Kind::Used => Access::READ_OK | Access::WRITE_OK,
        Kind::Read => Access::READ_OK,
    };
    let found = access(dir.join(path), wanted).map_err(io::Error::from);
    let error = found.err().filter(|it| it.kind() != io::ErrorKind::NotFound)?;
    Some(failed(path, "access", &error))
}

/// Files of ours that have another mode than they are written with.
fn odd_modes(dir: &Path, pems: &[String], cert_mode: u32) -> Vec<WrongMode> {
    let private = PRIVATE.iter().map(|path| (path.to_string(), PRIVATE_MODE));
    let ours = private.chain(pems.iter().map(|path| (path.clone(), cert_mode)));
    let odd = ours.filter_map(|(path, expected)| {
        let found = std::fs::symlink_metadata(dir.join(&path)).ok();
        let found = found.filter(std::fs::Metadata::is_file)?;
        let mode = found.permissions().mode() & PERMISSIONS;
        (mode != expected).then_some(WrongMode { path, mode, expected })
    });
    odd.collect()
}

/// An instance that lives writes into its lock every few seconds; one that ended in order has emptied
/// it. The system's own lock could be asked only by taking it.
fn lock_state(path: &Path) -> LockState {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => LockState::Free,
        Err(_) => LockState::Unknown,
        Ok(found) if !found.is_file() => LockState::Unknown,
        Ok(found) if found.len() == 0 => LockState::Free,
        Ok(found) => {
            let age = found.modified().ok().map(|at| system_time().duration_since(at));
            // A time that is yet to come is as fresh as can be.
            age.map_or(LockState::Unknown, |age| LockState::Held {
                beat_age: age.unwrap_or(Duration::ZERO),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::certs_scan::{ForeignFile, Found};
    use crate::domain::Domain;
    use crate::machine::{Change, StoreErrorKind};
    use crate::secret::Secret;

    #[test]
    fn a_directory_that_is_missing_is_all_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let survey = survey(&dir.path().join("no"), 0o600);
        assert_eq!(survey.missing.unwrap().kind, StoreErrorKind::Missing);
        assert!(survey.barred.is_empty());
    }

    #[test]
    fn what_lies_there_is_counted_and_who_works_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(survey(dir.path(), 0o600).lock, LockState::Free);
        let mut storage = Storage::new(dir.path().into(), 0o600, 1);
        storage.open().unwrap();
        let name = Domain::parse("a.example.com").unwrap();
        storage.change(Change::Certificate(name, Secret::new("a".into()))).unwrap();
        fs::write(dir.path().join("certs/README"), "not ours").unwrap();
        let found = survey(dir.path(), 0o600);
        let readme = Found::File(Secret::new("not ours".into()));
        assert_eq!(found.foreign, [ForeignFile { file: "README".into(), found: readme }]);
        assert_eq!((found.certificates.len(), found.more_foreign), (1, 0));
        assert!(found.barred.is_empty() && found.odd_modes.is_empty(), "{found:?}");
        assert!(found.free_bytes.is_some());
        let fresh =
            |state| matches!(state, LockState::Held { beat_age } if beat_age.as_secs() < 60);
        assert!(fresh(found.lock));
        let odd = survey(dir.path(), 0o640).odd_modes;
        let path = "certs/a.example.com.pem".to_string();
        assert_eq!(odd, [WrongMode { path, mode: 0o600, expected: 0o640 }]);
        storage.change(Change::Release).unwrap();
        assert_eq!(survey(dir.path(), 0o600).lock, LockState::Free);
    }
}
