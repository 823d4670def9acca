//! Certificate files as the schedule sees them: whether one is whole and for its name, and the making
//! of a new one. Never touches the disk.

use crate::daemon::issuer::Issued;
use crate::domain::Domain;
use crate::pki::{Bundle, BundleError};
use crate::secret::Secret;
use crate::time::UnixTime;

use super::life::Stored;

/// What a stored file says, when it is whole and for this name.
pub(super) fn inspect(name: &Domain, pem: &Secret) -> Result<Stored, BundleError> {
    let bundle = Bundle::parse(pem.expose())?;
    bundle.key_matches()?;
    bundle.covers(std::slice::from_ref(name))?;
    let mut stored = Stored::of(&bundle);
    // A wildcard is no domain, but it may be what the file is for the name by.
    if let Err(place) = stored.names.binary_search(name) {
        stored.names.insert(place, name.clone());
    }
    Ok(stored)
}

/// Key, leaf and chain as one file, when they fit together, name what was ordered, and can serve now.
/// The CA's own clock says what is now, where it tells: ours may be wrong.
pub(super) fn assemble(now: UnixTime, issued: &Issued) -> Result<(Secret, Stored), BundleError> {
    let pem = Bundle::assemble(&issued.key, &issued.chain_pem)?;
    let bundle = Bundle::parse(pem.expose())?;
    bundle.covers(&issued.names)?;
    bundle.is_linked()?;
    bundle.is_current(issued.told_time.unwrap_or(now))?;
    Ok((pem, Stored::of(&bundle)))
}

/// What a file says that was assembled before, when it still fits what is wanted and can serve now.
pub(super) fn fits(now: UnixTime, pem: &Secret, names: &[Domain]) -> Option<Stored> {
    let bundle = Bundle::parse(pem.expose()).ok()?;
    bundle.covers(names).ok()?;
    bundle.is_current(now).ok()?;
    Some(Stored::of(&bundle))
}
