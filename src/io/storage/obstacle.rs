//! Why `--once` or `--revoke` cannot work, as far as the storage shows it before anything is bound, opened,
//! made or asked. Keeps no lock and changes nothing. Reports only what is certain: the daemon finds out the
//! rest later.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode as FileMode, OFlags, flock, open};
use rustix::io::Errno;

use crate::config::Mode;
use crate::log::message;

use super::{Storage, certificate, lock};

/// Why this run cannot work on the storage in `dir`, and what to do, in one line.
pub fn obstacle(dir: &Path, mode: &Mode) -> Option<String> {
    let name = match mode {
        Mode::Serve => return None,
        Mode::Once => None,
        Mode::Revoke(name) => Some(name),
    };
    if is_locked(dir) {
        return Some(message::ANOTHER_IS_ACTIVE.into());
    }
    // Whether there is such a certificate is known only where everything is in its place.
    let name =
        name.filter(|_| dir.is_dir() && Storage::new(dir.into(), 0, 0).check_layout().is_ok())?;
    let found = fs::symlink_metadata(dir.join(certificate(name)));
    let missing = found.is_err_and(|error| error.kind() == ErrorKind::NotFound);
    missing.then(|| format!("no certificate named {name}; --list shows all there are"))
}

/// Whether a process of this machine holds the lock of the storage. The shared lock that is tried is
/// given back at once.
fn is_locked(dir: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(dir.join(lock::LOCK), flags, FileMode::empty());
    let locked = file.and_then(|file| flock(&file, FlockOperation::NonBlockingLockShared));
    locked == Err(Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Domain;
    use crate::machine::Change;
    use crate::secret::Secret;

    #[test]
    fn a_daemon_comes_first_then_a_certificate_that_is_not_there_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let name = Domain::parse("a.example.com").unwrap();
        let revoke = Mode::Revoke(name.clone());
        let none =
            Some("no certificate named a.example.com; --list shows all there are".to_string());
        assert_eq!(obstacle(dir.path(), &revoke), none);
        assert_eq!(obstacle(dir.path(), &Mode::Once), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(obstacle(&dir.path().join("no"), &revoke), None, "which is said otherwise");

        let mut storage = Storage::new(dir.path().into(), 0o600, 1);
        storage.open().unwrap();
        let running = Some(message::ANOTHER_IS_ACTIVE.to_string());
        assert_eq!(obstacle(dir.path(), &revoke), running);
        assert_eq!(obstacle(dir.path(), &Mode::Once), running);
        assert_eq!(obstacle(dir.path(), &Mode::Serve), None, "it would stand by");
        storage.change(Change::Certificate(name, Secret::new("a".into()))).unwrap();
        // Killed: its line stays.
        drop(storage);
        assert_eq!(obstacle(dir.path(), &revoke), None);
        assert_eq!(obstacle(dir.path(), &Mode::Once), None);
    }
}
