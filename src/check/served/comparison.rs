//! Compares a certificate that a load balancer showed with what is stored, and puts the difference into
//! words. Probes nothing.

use crate::pki::leaf::{is_self_issued, subject_common_name};
use crate::pki::{Fingerprint, Leaf};
use crate::printable::printable;
use crate::time::UnixTime;

use super::super::files::Files;
use super::super::listed;
use super::super::report::Verdict;
use super::Target;

const NOT_LOADED: &str = "it has not loaded our file: check that its --ssl-certs is this storage \
                          directory, that it was reloaded since, and its log";
const FOREIGN_FIRST: &str = "where no certificate is for a name HAProxy shows the first file that it loads: \
                             move that file out of certs/";
const NOT_RELOADED: &str = "it has not reloaded since, or reads an old copy of the storage directory: \
                            look into its log and the daemon's";
const NEWER: &str = "it reads another storage directory, or the file was renewed during this check: \
                     check again";
const FOREIGN: &str = "move that file to unmanaged-certs/";
const RENEW: &str = "start the daemon; if it runs, its log and / name what failed";

/// The leaves that are known, with what they are.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    known: Vec<(Fingerprint, Origin)>,
}

/// Where a leaf that is not the expected one comes from.
#[derive(Clone, Debug)]
enum Origin {
    Ours(String),
    Foreign(String),
    Fallback,
}

/// What was shown in place of what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) verdict: Verdict,
    /// What was shown in place of what; names with the same words are reported together.
    pub(super) shown: String,
    /// What is special about this name.
    pub(super) detail: String,
    pub(super) remedy: &'static str,
}

/// What is shown for a name that no certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefaultLeaf {
    pub(super) is_ours: bool,
    pub(super) shown: String,
    /// What to do about another's, where that is more than to load default.pem.
    pub(super) remedy: Option<&'static str>,
}

impl Comparison {
    pub(super) fn new(files: &Files) -> Comparison {
        let ours = files.in_load_order().into_iter();
        let ours = ours.map(|(name, it)| (it.leaf, Origin::Ours(format!("{name}.pem"))));
        let foreign = files.foreign_leaves();
        let foreign = foreign.map(|(leaf, file)| (leaf, Origin::Foreign(printable(file))));
        let fallback = files.fallback().map(|leaf| (leaf, Origin::Fallback));
        Comparison { known: ours.chain(foreign).chain(fallback).collect() }
    }

    fn origin(&self, leaf: Fingerprint) -> Option<&Origin> {
        self.known.iter().find(|(known, _)| *known == leaf).map(|(_, origin)| origin)
    }

    /// What is shown that is not in order; `None` where it is what is stored, and valid.
    pub(super) fn compare(&self, target: &Target, der: &[u8], now: UnixTime) -> Option<Difference> {
        let verdict = if target.is_required { Verdict::Fail } else { Verdict::Warn };
        let (shown, remedy) = (String::new(), NOT_LOADED);
        let difference = Difference { verdict, shown, detail: String::new(), remedy };
        let leaf = Fingerprint::of(der);
        if leaf == target.leaf {
            let shown = "serves what is stored, which has expired,".into();
            let expired = target.not_after < now && target.is_required;
            return expired.then_some(Difference { shown, remedy: RENEW, ..difference });
        }
        if let Some(origin) = self.origin(leaf) {
            let remedy = if matches!(origin, Origin::Foreign(_)) { FOREIGN } else { NOT_LOADED };
            return Some(Difference { shown: instead(origin), remedy, ..difference });
        }
        let Some(leaf) = Leaf::parse(der) else {
            let shown = instead(&"what is not a certificate");
            return Some(Difference { shown, ..difference });
        };
        let expired = if leaf.not_after < now { "an expired" } else { "a" };
        if is_self_issued(der) || !leaf.is_for(der, &target.name) {
            let (what, names) = (kind(der), names(&leaf, der));
            let shown = instead(&format_args!("{expired} {what} for {names},"));
            return Some(Difference { shown, ..difference });
        }
        let serial: String = leaf.serial.iter().map(|byte| format!("{byte:02x}")).collect();
        let detail = format!(" (serial {serial}, until {})", leaf.not_after);
        Some(if leaf.not_before > target.not_before {
            let (verdict, shown) = (Verdict::Warn, instead(&"a newer certificate"));
            Difference { verdict, shown, detail, remedy: NEWER }
        } else {
            let expired = if leaf.not_after < now { ", expired" } else { "" };
            let shown = instead(&format_args!("an older{expired} certificate"));
            Difference { shown, detail, remedy: NOT_RELOADED, ..difference }
        })
    }

    /// What is shown for a name that no certificate is for.
    pub(super) fn default_shown(&self, der: &[u8]) -> DefaultLeaf {
        match (self.origin(Fingerprint::of(der)), Leaf::parse(der)) {
            (Some(origin), _) => {
                let is_ours = !matches!(origin, Origin::Foreign(_));
                let remedy = (!is_ours).then_some(FOREIGN_FIRST);
                DefaultLeaf { is_ours, shown: origin.to_string(), remedy }
            }
            (None, Some(leaf)) => {
                let shown = format!("a {} for {}", kind(der), names(&leaf, der));
                DefaultLeaf { is_ours: false, shown, remedy: None }
            }
            (None, None) => {
                let shown = "what is not a certificate".into();
                DefaultLeaf { is_ours: false, shown, remedy: None }
            }
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Ours(file) => write!(f, "the certificate of certs/{file}"),
            Origin::Foreign(file) => write!(f, "certs/{file}, which is not ours,"),
            Origin::Fallback => f.write_str("default.pem"),
        }
    }
}

fn instead(shown: &dyn std::fmt::Display) -> String {
    format!("shows {shown} in place of what is stored")
}

fn kind(der: &[u8]) -> &'static str {
    if is_self_issued(der) { "self-signed certificate" } else { "certificate" }
}

/// Whom a certificate is for.
fn names(leaf: &Leaf, der: &[u8]) -> String {
    let subject = subject_common_name(der).filter(|_| leaf.names.is_empty());
    let names: Vec<&str> =
        leaf.names.iter().map(String::as_str).chain(subject.as_deref()).collect();
    if names.is_empty() { "no name".into() } else { printable(&listed(&names)) }
}
