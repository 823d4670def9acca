//! What goes into `archive/`, and what is listed and replaced there. Never gives a file a name that another
//! one has, and never removes one.

use std::io::ErrorKind;
use std::path::Path;

use zeroize::Zeroizing;

use crate::domain::Domain;
use crate::machine::{StoreError, StoreErrorKind};
use crate::printable::printable;
use crate::secret::Secret;

use super::error::{failed, is_taken};
use super::files::{FileKind, Files, not_a_file};
use super::{PRIVATE_MODE, Storage};

/// How many names in `archive/` are listed at once.
const ARCHIVED_NAMES_MAX: usize = 10_000;
/// How many archived files may bear one name.
const ARCHIVED_MAX: u32 = 10_000;

impl<F: Files> Storage<F> {
    /// The names in `archive/` that follow this one, in order, [`ARCHIVED_NAMES_MAX`] of them at most.
    pub(super) fn archived_after(&self, after: Option<&str>) -> Result<Vec<String>, StoreError> {
        let mut names = self.names("archive")?;
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        names.truncate(ARCHIVED_NAMES_MAX);
        Ok(names)
    }

    /// Moves a file into `archive/`, under the first free name of that stem.
    pub(super) fn archive(
        &self,
        path: &str,
        stem: &str,
        extension: &str,
    ) -> Result<(), StoreError> {
        self.check_lock()?;
        let source = self.dir.join(path);
        match self.files.look(&source) {
            Ok(found) if found.kind == FileKind::Regular => {}
            Ok(found) => return Err(failed(path, "move", &not_a_file(found.kind))),
            // Moved by a try of which only the last flush failed.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.flush_entry(path);
            }
            Err(error) => return Err(failed(path, "inspect", &error)),
        }
        self.link_to_archive(path, &source, stem, extension)?;
        self.remove(path)?;
        self.flush_entry(path)
    }

    /// Gives a file a name in `archive/` that is not taken, and makes that last.
    fn link_to_archive(
        &self,
        path: &str,
        source: &Path,
        stem: &str,
        extension: &str,
    ) -> Result<(), StoreError> {
        for number in 0..ARCHIVED_MAX {
            let file = match number {
                0 => format!("archive/{stem}.{extension}"),
                _ => format!("archive/{stem}.{number}.{extension}"),
            };
            match self.link(source, &self.dir.join(&file)) {
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(self.refused(path, "move into archive/", &error)),
                Ok(()) => return self.flush_entry(&file),
            }
        }
        let detail = "too many archived files of that name".into();
        Err(StoreError { kind: StoreErrorKind::Exists, path: path.into(), detail })
    }

    /// Puts what may not become a file in `certs/` into `archive/`, behind comments, which text around
    /// PEM may be (RFC 7468 section 2).
    pub(super) fn reject(
        &mut self,
        name: &Domain,
        pem: &Secret,
        reason: &str,
    ) -> Result<(), StoreError> {
        let why = printable(reason);
        let head = format!("# marathon-acme did not put this into certs/{name}.pem:\n# {why}\n");
        let text = Zeroizing::new([&head, pem.expose()].concat());
        let temporary = self.write_temporary(PRIVATE_MODE, text.as_bytes())?;
        let path = format!("archive/{name}.pem");
        let kept = self
            .check_lock()
            .and_then(|()| self.link_to_archive(&path, &temporary, name.as_str(), "pem"));
        // What stays behind is removed at the next start.
        let _ = self.files.remove(&temporary);
        kept
    }
}

/// The path of a file in `archive/`, by a name that was listed there.
pub(super) fn archived(file: &str) -> Result<String, StoreError> {
    if !file.is_empty() && !file.contains(['/', '\0']) && file != "." && file != ".." {
        return Ok(format!("archive/{file}"));
    }
    let (path, detail) = ("archive".to_string(), "not the name of a file".to_string());
    Err(StoreError { kind: StoreErrorKind::Malformed, path, detail })
}
