//! What load balancers should serve and have loaded, as the scheduler and the reloader exchange it. Data
//! only: nothing is probed here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::domain::Domain;
use crate::flat::{FlatMap, FlatSet};
use crate::pki::Fingerprint;

/// What load balancers should serve; the certificates know.
pub trait Catalog {
    /// What a load balancer that has loaded everything shows for this name; `None`: nothing that matters.
    fn expected(&self, name: &Domain) -> Option<Fingerprint>;

    /// Whether anything is expected for this name; quicker to know than what.
    fn matters(&self, name: &Domain) -> bool;

    /// The leaf of the file of this name, whatever else is served for it.
    fn stored(&self, name: &Domain) -> Option<Fingerprint>;

    /// What was in service for this name and can be restored.
    fn previous(&self, name: &Domain) -> Option<Fingerprint>;

    /// The files that were written last, up to `count`, the latest first.
    fn latest(&self, count: usize) -> Vec<Domain>;

    /// The file after this one in their order; the first one after the last.
    fn following(&self, name: Option<&Domain>) -> Option<Domain>;
}

/// The load balancers that have loaded all that was written: their addresses, by the origin of their
/// `--lb` URL. For those that are not among them a reload is pending.
pub type UpToDate = FlatMap<String, FlatSet<IpAddr>>;

/// By names that a file in `certs/` which is not ours is served for, a sentence about that file.
pub type Shadowed = BTreeMap<Domain, String>;
