//! The proof that a load balancer serves what was written: what is to be seen where, and in words what
//! was seen instead. Asks nobody and waits for nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::collect::sorted;
use crate::daemon::transport::TransportError;
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::pki::{Fingerprint, Leaf};
use crate::time::UnixTime;

/// Of a load balancer whose history nobody knows so many files are looked for, those written last: it
/// loads all of them or none.
const LATEST: usize = 16;

/// What load balancers ought to serve; the certificates know.
pub trait Catalog {
    /// What one that has loaded everything shows for this name; `None`: nothing that matters.
    fn expected(&self, name: &Domain) -> Option<Fingerprint>;

    /// Whether anything is expected for this name; quicker to know than what.
    fn matters(&self, name: &Domain) -> bool;

    /// The files that were written last, so many at most, the latest first.
    fn latest(&self, count: usize) -> Vec<Domain>;

    /// The file behind this one in their order; the first one behind the last.
    fn following(&self, name: Option<&Domain>) -> Option<Domain>;
}

/// What a load balancer was last seen to serve for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whether it is what was written.
    pub right: bool,
    /// When that certificate ends.
    pub not_after: UnixTime,
}

/// What is still to be seen of one load balancer: a name, and where.
pub(super) type Left = VecDeque<(Domain, SocketAddr)>;

/// What one that has loaded everything up to `acknowledged` has to be seen to serve now. `written` says
/// which write each file was; `suspect` was found wrong.
pub(super) fn left(
    catalog: &dyn Catalog,
    written: &BTreeMap<Domain, u64>,
    acknowledged: u64,
    (suspect, places): (Option<&Domain>, &[SocketAddr]),
) -> Left {
    let since = written.iter().filter(|(_, generation)| **generation > acknowledged);
    let mut names: Vec<Domain> = since.map(|(name, _)| name.clone()).collect();
    names.extend(suspect.cloned());
    if acknowledged == 0 {
        names.extend(catalog.latest(LATEST));
    }
    names = sorted(names);
    names.dedup();
    names.retain(|name| catalog.matters(name));
    let everywhere = |name: Domain| places.iter().map(move |place| (name.clone(), *place));
    names.into_iter().flat_map(everywhere).collect()
}

/// What was seen in place of the right certificate.
#[derive(Clone, Debug)]
pub(super) enum Sighting {
    /// Another certificate.
    Another { name: Domain, at: SocketAddr, leaf: Option<Box<Leaf>> },
    /// No TLS, or no connection.
    Nothing { error: String },
}

impl Sighting {
    /// Another certificate, by its DER.
    pub(super) fn another(name: &Domain, at: SocketAddr, der: &[u8]) -> Sighting {
        Sighting::Another { name: name.clone(), at, leaf: Leaf::parse(der).map(Box::new) }
    }

    pub(super) fn nothing(error: &TransportError) -> Sighting {
        Sighting::Nothing { error: error.to_string() }
    }

    /// In words, and what may help.
    pub(super) fn complaint(&self) -> Complaint {
        match self {
            Sighting::Another { name, at, leaf: Some(leaf) } => {
                let issuer = leaf.issuer_common_name.as_deref().unwrap_or_default();
                let serial: String = leaf.serial.iter().map(|byte| format!("{byte:02x}")).collect();
                let text = format!(
                    "it serves another certificate for {name} at {at}: serial {serial} of \
                     {issuer:?}, until {}",
                    leaf.not_after
                );
                Complaint::new(text, Some(Hint::LbOtherFile))
            }
            Sighting::Another { name, at, leaf: None } => {
                let text = format!("what it serves for {name} at {at} is no certificate");
                Complaint::new(text, Some(Hint::LbOtherFile))
            }
            Sighting::Nothing { error } => {
                Complaint::new(format!("nothing is seen: {error}"), Some(Hint::LbUnseen))
            }
        }
    }
}

/// In words why a signal that was answered with 200 is not proven within the patience. Whether a new
/// process came is not known where no process ids are shown.
pub(super) fn unproven(seen: &Sighting, reloaded: Option<bool>, patience_s: u64) -> Complaint {
    let Complaint { text, hint } = seen.complaint();
    match reloaded {
        Some(false) => {
            let text = format!("it said 200, but did not reload within {patience_s} s: {text}");
            Complaint::new(text, Some(Hint::LbNoReload))
        }
        Some(true) => Complaint::new(format!("it reloaded, but {text}"), hint),
        None => Complaint::new(format!("it said 200, but {text}"), hint),
    }
}
