//! Looks through `certs/` for what is not ours and for what of ours was changed by others. Reads nothing
//! that is not a file, judges nothing, and never touches what it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::ErrorKind;

use crate::certs_scan::{FOREIGN_FILE_BYTES_MAX, FOREIGN_FILES_MAX, ForeignFile, Found, Look};
use crate::domain::Domain;
use crate::machine::{StoreError, StoreErrorKind};
use crate::secret::Secret;

use super::error::failed;
use super::files::{FileKind, Files};
use super::{Storage, certificate, domain_of};

/// Files of ours that are looked at in one go, some microseconds each; the others' turn is the next time.
const LOOKS_MAX: usize = 2_500;

/// The files of ours as they were written or read last.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By a hash of the name: sixteen bytes for each.
    stamps: BTreeMap<u64, u64>,
    /// How many of them were looked at so far, over and over again.
    looks: usize,
}

impl Known {
    pub(super) fn note(&mut self, name: &Domain, stamp: Option<u64>) {
        match stamp {
            Some(stamp) => drop(self.stamps.insert(hash(name), stamp)),
            None => drop(self.stamps.remove(&hash(name))),
        }
    }
}

fn hash(name: &Domain) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.as_str().hash(&mut hasher);
    hasher.finish()
}

impl<F: Files> Storage<F> {
    /// What tells a file of ours from another one of its name.
    pub(super) fn stamp(&self, name: &Domain) -> Option<u64> {
        self.files.look(&self.dir.join(certificate(name))).ok().map(|sight| sight.stamp)
    }

    /// Looks through `certs/`, where files of these names count as not ours.
    pub(super) fn look_through(&mut self, misnamed: &[Domain]) -> Result<Look, StoreError> {
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for file in self.names("certs")? {
            match domain_of(&file) {
                Some(name) => ours.push(name),
                None => others.push(file),
            }
        }
        ours.sort_unstable();
        let (mut changed, mut odd) = (Vec::new(), Vec::new());
        let first = self.known.looks.checked_rem(ours.len()).unwrap_or(0);
        let looked = ours.len().min(LOOKS_MAX);
        for name in ours.iter().cycle().skip(first).take(looked) {
            match self.files.look(&self.dir.join(certificate(name))) {
                Ok(sight) if sight.kind != FileKind::Regular => odd.push(name.clone()),
                Ok(sight) if self.known.stamps.get(&hash(name)) == Some(&sight.stamp) => {}
                Ok(_) => changed.push(name.clone()),
                Err(error) if error.kind() == ErrorKind::NotFound => odd.push(name.clone()),
                // Whoever reads it will hear of that.
                Err(_) => {}
            }
        }
        self.known.looks = first + looked;
        odd.extend(misnamed.iter().filter(|name| ours.contains(name)).cloned());
        let odd: BTreeSet<Domain> = odd.into_iter().collect();
        ours.retain(|name| !odd.contains(name));
        others.extend(odd.iter().map(|name| format!("{name}.pem")));
        others.sort_unstable();
        let (foreign_files, more) = self.foreign_files(&others);
        Ok(Look { ours, changed, foreign_files, more })
    }

    /// What lies in `certs/` under these names, and how many more there are.
    pub(super) fn foreign_files(&self, files: &[String]) -> (Vec<ForeignFile>, usize) {
        let (looked, rest) = files.split_at(files.len().min(FOREIGN_FILES_MAX));
        let found = looked.iter().filter_map(|file| {
            let is_shown_otherwise = file.contains(char::REPLACEMENT_CHARACTER);
            let found = self.found(&format!("certs/{file}"), is_shown_otherwise)?;
            Some(ForeignFile { file: file.clone(), found })
        });
        (found.collect(), rest.len())
    }

    /// What lies at a path below the storage directory, if anything; `is_shown_otherwise` when its name is
    /// not UTF-8.
    pub(super) fn found(&self, path: &str, is_shown_otherwise: bool) -> Option<Found> {
        let sight = self.files.look(&self.dir.join(path));
        let sight = sight.map_err(|error| failed(path, "inspect", &error));
        let read = sight.and_then(|sight| match sight.kind {
            FileKind::Regular => self
                .read(path, FOREIGN_FILE_BYTES_MAX)
                .map(|mut bytes| Found::File(Secret::from_bytes(std::mem::take(&mut bytes)))),
            FileKind::Link => Ok(Found::Link),
            FileKind::Directory | FileKind::Special => Ok(Found::Other),
        });
        match read {
            Ok(found) => Some(found),
            Err(error) if error.kind != StoreErrorKind::Missing => {
                Some(Found::Unreadable(error.detail))
            }
            // It cannot be found by the name that is shown.
            Err(_) if is_shown_otherwise => Some(Found::Unreadable("its name is not UTF-8".into())),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::super::Storage;
    use super::*;
    use crate::machine::{Change, Load, Loaded};

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn look(storage: &mut Storage) -> Look {
        match storage.load(Load::Guard(Vec::new())) {
            Loaded::Guard(Ok(look)) => look,
            other => panic!("{other:?}"),
        }
    }

    fn opened(dir: &Path) -> Storage {
        let mut storage = Storage::new(dir.into(), 0o600, 1);
        storage.open().unwrap();
        storage
    }

    fn write(storage: &mut Storage, name: &str) {
        let pem = Secret::new("as we wrote it".into());
        storage.change(Change::Certificate(domain(name), pem)).unwrap();
    }

    #[test]
    fn what_is_not_ours_is_shown_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (mut storage, certs) = (opened(dir.path()), dir.path().join("certs"));
        write(&mut storage, "a.org");
        fs::write(certs.join("README"), b"caf\xe9").unwrap();
        fs::write(certs.join("empty"), "").unwrap();
        fs::create_dir(certs.join("folder")).unwrap();
        symlink("nowhere", certs.join("link")).unwrap();
        symlink("nowhere", certs.join("b.org.pem")).unwrap();
        symlink("loop", certs.join("loop")).unwrap();
        // Whoever opened it would wait forever.
        mknodat(CWD, certs.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let large = vec![b'x'; 3 * FOREIGN_FILE_BYTES_MAX as usize];
        fs::write(certs.join("large"), &large).unwrap();
        let before = fs::read_dir(&certs).unwrap().count();
        let found = look(&mut storage);
        assert_eq!((found.ours, found.changed, found.more), (vec![domain("a.org")], vec![], 0));
        let cut = "x".repeat(FOREIGN_FILE_BYTES_MAX as usize + 1);
        let text = |text: &str| Found::File(Secret::new(text.into()));
        let [readme, b, empty, folder, large, link, looping, pipe] = &found.foreign_files[..]
        else {
            panic!("{:?}", found.foreign_files)
        };
        let is = |foreign: &ForeignFile, file: &str, found: Found| {
            assert_eq!(*foreign, ForeignFile { file: file.into(), found });
        };
        is(readme, "README", text("caf\u{fffd}"));
        is(b, "b.org.pem", Found::Link);
        is(empty, "empty", text(""));
        is(folder, "folder", Found::Other);
        is(large, "large", text(&cut));
        is(link, "link", Found::Link);
        is(looping, "loop", Found::Link);
        is(pipe, "pipe", Found::Other);
        assert_eq!(fs::read_dir(&certs).unwrap().count(), before);
    }

    #[test]
    fn a_file_that_is_ours_by_its_name_alone_is_shown_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = opened(dir.path());
        for name in ["a.org", "b.org"] {
            write(&mut storage, name);
        }
        let misnamed = ["a.org", "gone.org"].map(domain).to_vec();
        let Loaded::Guard(Ok(found)) = storage.load(Load::Guard(misnamed)) else { panic!() };
        assert_eq!((found.ours, found.changed), (vec![domain("b.org")], vec![]));
        let files: Vec<&str> = found.foreign_files.iter().map(|it| it.file.as_str()).collect();
        assert_eq!(files, ["a.org.pem"]);
    }

    #[test]
    fn there_is_a_limit_to_how_many_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = opened(dir.path());
        for number in 0..FOREIGN_FILES_MAX + 3 {
            fs::write(dir.path().join(format!("certs/{number:03}")), "").unwrap();
        }
        let found = look(&mut storage);
        assert_eq!((found.foreign_files.len(), found.more), (FOREIGN_FILES_MAX, 3));
        assert_eq!(found.foreign_files[0].file, "000");
    }

    #[test]
    fn a_file_of_ours_that_another_wrote_is_noticed_until_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (mut storage, certs) = (opened(dir.path()), dir.path().join("certs"));
        for name in ["a.org", "b.org", "c.org"] {
            write(&mut storage, name);
        }
        assert_eq!(look(&mut storage).changed, []);
        fs::write(certs.join("a.org.pem"), "as another").unwrap();
        fs::write(certs.join("d.org.pem"), "nobody has read it").unwrap();
        fs::remove_file(certs.join("c.org.pem")).unwrap();
        let found = look(&mut storage);
        assert_eq!(found.changed, [domain("a.org"), domain("d.org")]);
        assert_eq!(found.ours, ["a.org", "b.org", "d.org"].map(domain));
        assert_eq!(look(&mut storage).changed.len(), 2, "as long as nobody reads it");
        for name in ["a.org", "d.org"] {
            storage.load(Load::Certificate(domain(name)));
        }
        assert_eq!(look(&mut storage).changed, []);
        // Of the same length and time in its place: the same file, of which some file systems change the
        // number now and then.
        let replace = |later: Duration| {
            let time = fs::metadata(certs.join("a.org.pem")).unwrap().modified().unwrap();
            fs::write(certs.join("new"), "as another").unwrap();
            let new = fs::File::options().write(true).open(certs.join("new")).unwrap();
            new.set_modified(time + later).unwrap();
            fs::rename(certs.join("new"), certs.join("a.org.pem")).unwrap();
        };
        replace(Duration::ZERO);
        assert_eq!(look(&mut storage).changed, []);
        replace(Duration::from_millis(10));
        assert_eq!(look(&mut storage).changed, [domain("a.org")]);
        storage.change(Change::Archive(domain("a.org"))).unwrap();
        let found = look(&mut storage);
        assert_eq!((found.changed.len(), found.ours.len()), (0, 2));
    }

    #[test]
    fn a_folder_that_cannot_be_listed_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = opened(dir.path());
        fs::remove_dir(dir.path().join("certs")).unwrap();
        let loaded = storage.load(Load::Guard(Vec::new()));
        assert!(matches!(&loaded, Loaded::Guard(Err(error)) if error.path == "certs"));
    }
}
