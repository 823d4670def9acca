//! Certificate files as the schedule sees them: whether one is whole and for its name, and the making
//! of a new one. Never touches the disk.

use crate::daemon::model::{Issued, Stored};
use crate::domain::Domain;
use crate::log::message;
use crate::pki::{Bundle, BundleError, GateError, admit};
use crate::printable::printable;
use crate::secret::Secret;
use crate::time::UnixTime;

/// Lines that are kept of a chain that is none; a real one has some hundred.
const KEPT_LINES_MAX: usize = 1000;

/// What a stored file says, as [`Bundle::of_file`] reads it.
///
/// # Errors
/// HAProxy cannot load it, or it is not for that name.
pub(super) fn inspect(name: &Domain, pem: &Secret) -> Result<Stored, BundleError> {
    let (bundle, names) = Bundle::of_file(name, pem)?;
    Ok(Stored { names, ..Stored::of(&bundle) })
}

/// A new file.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) pem: Secret,
    pub(super) stored: Stored,
    /// What the operator should know of its chain.
    pub(super) remarks: Vec<&'static str>,
}

/// What may not enter `certs/`.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: GateError,
    /// The file that it would have been; where it could not be made, what it was to be made from.
    pub(super) pem: Secret,
}

/// Key, leaf and chain as one file, when they pass the gate by the CA's clock, where it tells, or by ours:
/// either may be wrong.
pub(super) fn assemble(now: UnixTime, issued: &Issued) -> Result<Assembled, Refused> {
    let by_theirs = assemble_at(issued.told_time.unwrap_or(now), issued);
    by_theirs.or_else(|refused| assemble_at(now, issued).map_err(|_| refused))
}

fn assemble_at(now: UnixTime, issued: &Issued) -> Result<Assembled, Refused> {
    let pem = match Bundle::assemble(&issued.key, &issued.chain_pem, now) {
        Ok(pem) => pem,
        Err(error) => {
            return Err(Refused { error: GateError::Bundle(error), pem: as_it_came(issued) });
        }
    };
    match admit(&pem, &issued.names, now) {
        Ok(bundle) => {
            let lone = bundle.lacks_chain().then_some(message::CHAIN_MISSING);
            let other = (!bundle.is_as_sent(&issued.chain_pem)).then_some(message::CHAIN_REORDERED);
            let remarks = lone.into_iter().chain(other).collect();
            Ok(Assembled { pem, stored: Stored::of(&bundle), remarks })
        }
        Err(error) => Err(Refused { error, pem }),
    }
}

/// The key, and the lines that the CA sent, as far as they are worth keeping.
fn as_it_came(issued: &Issued) -> Secret {
    let lines: Vec<String> = issued.chain_pem.lines().take(KEPT_LINES_MAX).map(printable).collect();
    Secret::new([issued.key.expose(), "\n", &lines.join("\n"), "\n"].concat())
}

/// What a file says that was assembled before, when it still fits what is wanted and can serve now.
pub(super) fn fits(now: UnixTime, pem: &Secret, names: &[Domain]) -> Option<Stored> {
    let bundle = Bundle::parse(pem.expose()).ok()?;
    bundle.covers(names).ok()?;
    bundle.is_current(now).ok()?;
    Some(Stored::of(&bundle))
}
