//! What is to be seen of a load balancer, and in words what was seen instead. Probes nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::ClientError;
use crate::daemon::model::{Catalog, Shadowed};
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::pki::{Fingerprint, Leaf};
use crate::time::UnixTime;

/// Of a load balancer whose history is unknown this many files are probed, those written last: HAProxy
/// loads all of them or none.
const LATEST: usize = 16;
/// This many writes of one file are remembered: each of them may be what a load balancer has loaded.
const WRITES_MAX: usize = 64;

/// Files that are looked through for a reference.
const REFERENCES_MAX: usize = 32;

/// What is still to be seen of one load balancer: a name, and where.
pub(super) type Left = VecDeque<(Domain, SocketAddr)>;

/// What a load balancer was last seen to serve for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whether it is what was written.
    pub right: bool,
    /// The certificate.
    pub leaf: Fingerprint,
    /// When it expires.
    pub not_after: UnixTime,
}

/// The writes of every file that some load balancer has not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Writes(BTreeMap<Domain, Vec<(u64, Option<Fingerprint>)>>);

impl Writes {
    /// A file was written, with this leaf.
    pub(super) fn add(&mut self, name: &Domain, generation: u64, leaf: Option<Fingerprint>) {
        let writes = self.0.entry(name.clone()).or_default();
        if writes.len() == WRITES_MAX {
            writes.remove(0);
        }
        writes.push((generation, leaf));
    }

    /// Every load balancer has acknowledged this generation.
    pub(super) fn forget(&mut self, acknowledged: u64) {
        self.0.retain(|_, writes| writes.last().is_some_and(|(last, _)| *last > acknowledged));
    }

    /// The names written after this generation.
    fn since(&self, acknowledged: u64) -> impl Iterator<Item = &Domain> {
        let written = self.0.iter();
        let late = written
            .filter(move |(_, writes)| writes.last().is_some_and(|(last, _)| *last > acknowledged));
        late.map(|(name, _)| name)
    }

    /// Whether this leaf is that of the last write up to `generation`, or of a later one.
    fn is_of(&self, name: &Domain, generation: u64, leaf: Fingerprint) -> bool {
        let writes = self.0.get(name).map(Vec::as_slice).unwrap_or_default();
        let earlier = writes.iter().filter(|(at, _)| *at <= generation).count();
        let from = earlier.saturating_sub(1);
        writes.iter().skip(from).any(|(_, written)| *written == Some(leaf))
    }
}

/// What a certificate is that a load balancer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// That of the generation or of a later one.
    Right,
    /// An earlier one: it has not loaded the new file, or does not see it.
    Earlier,
    /// One that no file of ours for this name has: HAProxy does not see the new file, or prefers another one.
    Other,
}

/// Judges a leaf that is served for a name after a signal for `generation`, or by now; `worked` was served
/// before.
pub(super) fn judge(
    catalog: &dyn Catalog,
    writes: &Writes,
    (name, generation, worked): (&Domain, Option<u64>, Option<Fingerprint>),
    der: &[u8],
) -> Verdict {
    let leaf = Fingerprint::of(der);
    let expected = catalog.expected(name);
    let of_generation = |generation| writes.is_of(name, generation, leaf);
    if expected.is_none_or(|expected| expected == leaf) || generation.is_some_and(of_generation) {
        Verdict::Right
    } else if worked == Some(leaf) || is_ours(catalog, writes, name, leaf) {
        Verdict::Earlier
    } else {
        Verdict::Other
    }
}

/// Whether a leaf is that of a file that was written for this name, as far as is remembered.
pub(super) fn is_ours(
    catalog: &dyn Catalog,
    writes: &Writes,
    name: &Domain,
    leaf: Fingerprint,
) -> bool {
    catalog.previous(name) == Some(leaf) || writes.is_of(name, 0, leaf)
}

/// What a load balancer that has loaded everything up to `acknowledged` has to be seen to serve now.
/// `suspect` was found wrong.
pub(super) fn left(
    catalog: &dyn Catalog,
    writes: &Writes,
    acknowledged: u64,
    (suspect, places): (Option<&Domain>, &[SocketAddr]),
) -> Left {
    let mut names: BTreeSet<Domain> = writes.since(acknowledged).cloned().collect();
    names.extend(suspect.cloned());
    if acknowledged == 0 {
        names.extend(catalog.latest(LATEST));
    }
    names.retain(|name| catalog.matters(name));
    let everywhere = |name: Domain| places.iter().map(move |place| (name.clone(), *place));
    names.into_iter().flat_map(everywhere).collect()
}

/// A name of another file than those that are `left`: one that the load balancer was last seen to serve
/// correctly, or else any.
pub(super) fn reference(
    catalog: &dyn Catalog,
    served: &BTreeMap<Domain, Served>,
    left: &Left,
) -> Option<Domain> {
    let is_other = |name: &Domain| left.iter().all(|(of, _)| of != name);
    let is_right = |name: &Domain, it: &Served| it.right && catalog.stored(name) == Some(it.leaf);
    let mut right = served.iter().filter(|(name, it)| is_right(name, it) && is_other(name));
    if let Some((name, _)) = right.next() {
        return Some(name.clone());
    }
    let first = catalog.following(None)?;
    let next = |name: &Domain| catalog.following(Some(name)).filter(|next| *next != first);
    let mut files = iter::successors(Some(first.clone()), next).take(REFERENCES_MAX);
    files.find(|name| catalog.matters(name) && is_other(name))
}

/// What was seen in place of the right certificate.
#[derive(Clone, Debug)]
pub(super) enum Sighting {
    /// Another certificate; whether it is an earlier one of ours.
    Another { name: Domain, at: SocketAddr, leaf: Option<Box<Leaf>>, is_earlier: bool },
    /// No TLS, or no connection.
    Nothing { error: String },
}

impl Sighting {
    /// Another certificate, by its DER; `is_earlier`: one of ours.
    pub(super) fn another(name: &Domain, at: SocketAddr, der: &[u8], is_earlier: bool) -> Sighting {
        let leaf = Leaf::parse(der).map(Box::new);
        Sighting::Another { name: name.clone(), at, leaf, is_earlier }
    }

    pub(super) fn nothing(error: &ClientError) -> Sighting {
        Sighting::Nothing { error: error.to_string() }
    }

    /// In words, and what may help; a file that is known to be the cause is named.
    pub(super) fn explained(&self, shadowed: &Shadowed) -> Complaint {
        if let Sighting::Another { name, at, .. } = self
            && let Some(file) = shadowed.get(name)
        {
            let text = format!("it serves another certificate for {name} at {at}: {file}");
            return Complaint::new(text, Some(Hint::ForeignFile));
        }
        self.complaint()
    }

    /// In words, and what may help.
    pub(super) fn complaint(&self) -> Complaint {
        match self {
            Sighting::Another { name, at, leaf: Some(leaf), is_earlier: true } => {
                let text = format!(
                    "it is lagging: it serves the earlier certificate for {name} at {at}, until {}",
                    leaf.not_after
                );
                Complaint::new(text, Some(Hint::LbLagging))
            }
            Sighting::Another { name, at, leaf: Some(leaf), .. } => {
                let issuer = leaf.issuer_common_name.as_deref().unwrap_or_default();
                let serial: String = leaf.serial.iter().map(|byte| format!("{byte:02x}")).collect();
                let text = format!(
                    "it serves another certificate for {name} at {at}: serial {serial} of \
                     {issuer:?}, until {}",
                    leaf.not_after
                );
                Complaint::new(text, Some(Hint::LbOtherFile))
            }
            Sighting::Another { name, at, leaf: None, .. } => {
                let text = format!("what it serves for {name} at {at} is not a certificate");
                Complaint::new(text, Some(Hint::LbOtherFile))
            }
            Sighting::Nothing { error } => {
                let text = format!("no certificate is seen: {error}");
                Complaint::new(text, Some(Hint::LbUnseen))
            }
        }
    }
}

/// In words what is wrong after a reload, or, where no process ids are shown, after a signal.
pub(super) fn wrong(seen: &Sighting, reloaded: bool, shadowed: &Shadowed) -> Complaint {
    let Complaint { text, hint } = seen.explained(shadowed);
    let begin = if reloaded { "it reloaded, but" } else { "it acknowledged the signal, but" };
    Complaint::new(format!("{begin} {text}"), hint)
}

/// In words that no process appeared; `blocking` names a file that HAProxy refuses.
pub(super) fn ignored(after: Duration, blocking: Option<&str>) -> Complaint {
    let text = format!("no new HAProxy process {} s after the signal", after.as_secs());
    match blocking {
        Some(file) => Complaint::new(format!("{text}: {file}"), Some(Hint::ForeignFile)),
        None => Complaint::new(text, Some(Hint::LbNoReload)),
    }
}
