//! The storage directory as it stands, for whoever only looks: takes no lock, writes nothing, makes no
//! directory, so that it disturbs no instance that is at work on it.

use std::path::Path;

use crate::domain::Domain;
use crate::machine::StoreError;
use crate::secret::Secret;

use super::{FILE_BYTES_MAX, Storage, certificate, domain_of, optional};

/// What was found.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Every `certs/NAME.pem` whose name is a domain, by name, as far as it can be read.
    pub certificates: Vec<(Domain, Result<Secret, StoreError>)>,
    /// `state.json`; `None` where there is none, and where it may not be read: it only adds to what the
    /// certificates say.
    pub state: Option<Vec<u8>>,
}

/// Reads the storage in `dir`. A `certs/` that is missing is empty.
///
/// # Errors
/// There is no such directory, or its `certs/` cannot be read.
pub fn read_only(dir: &Path) -> Result<Snapshot, StoreError> {
    Storage::check(dir)?;
    // Nothing is written, so neither the mode of what is written nor by whom matters.
    let storage = Storage::new(dir.into(), 0, 0);
    let mut certificates = Vec::new();
    let files = optional(storage.names("certs"))?.unwrap_or_default();
    let mut names: Vec<Domain> = files.iter().filter_map(|file| domain_of(file)).collect();
    names.sort_unstable();
    for name in names {
        match optional(storage.read_text(&certificate(&name), FILE_BYTES_MAX)) {
            // Archived since the names were read.
            Ok(None) => {}
            Ok(Some(text)) => certificates.push((name, Ok(text))),
            Err(error) => certificates.push((name, Err(error))),
        }
    }
    let state = storage.read_state().ok();
    Ok(Snapshot { certificates, state })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::machine::{Change, StoreErrorKind};

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    /// Every path below a directory, with what tells whether it was touched.
    fn paths(dir: &Path) -> Vec<(String, std::time::SystemTime)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let changed = entry.metadata().unwrap().modified().unwrap();
            found.push((entry.path().display().to_string(), changed));
            if entry.path().is_dir() {
                found.extend(paths(&entry.path()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_directory_without_anything_is_empty_and_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = read_only(dir.path()).unwrap();
        assert!(snapshot.certificates.is_empty() && snapshot.state.is_none());
        assert!(paths(dir.path()).is_empty());
    }

    #[test]
    fn it_reads_beside_an_instance_at_work_and_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = Storage::new(dir.path().into(), 0o600, 1);
        storage.open().unwrap();
        storage.change(Change::Certificate(domain("b.org"), Secret::new("b".into()))).unwrap();
        storage.change(Change::Certificate(domain("a.b.org"), Secret::new("a".into()))).unwrap();
        storage.change(Change::State(b"{}".to_vec())).unwrap();
        fs::write(dir.path().join("certs/README"), "not ours").unwrap();
        fs::create_dir(dir.path().join("certs/c.org.pem")).unwrap();
        fs::write(dir.path().join("certs/d.org.pem"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
        let before = paths(dir.path());
        let snapshot = read_only(dir.path()).unwrap();
        assert_eq!(paths(dir.path()), before);
        let names: Vec<&str> =
            snapshot.certificates.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.b.org", "b.org", "c.org", "d.org"]);
        let text = |index: usize| snapshot.certificates[index].1.as_ref().map(Secret::expose);
        assert_eq!((text(0), text(1)), (Ok("a"), Ok("b")));
        assert_eq!(text(2).unwrap_err().kind, StoreErrorKind::NotAFile);
        assert_eq!(text(3).unwrap_err().kind, StoreErrorKind::Malformed);
        assert_eq!(snapshot.state.as_deref(), Some(b"{}".as_slice()));
    }

    #[test]
    fn what_is_no_storage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = read_only(&dir.path().join("no")).unwrap_err();
        assert_eq!(missing.kind, StoreErrorKind::Missing);
        fs::write(dir.path().join("certs"), "a file").unwrap();
        assert_eq!(read_only(dir.path()).unwrap_err().kind, StoreErrorKind::NotADirectory);
    }
}
