//! The load balancers as others may see them. Changes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Served;
use crate::domain::Domain;
use crate::hint::Complaint;
use crate::time::{Instant, UnixTime};
use crate::url::Url;

/// How many signals were acknowledged and how many were not, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadCounts {
    /// Answered with 200, and where it could be seen, a reload came.
    pub acknowledged: u64,
    /// Anything else; also a name that could not be resolved.
    pub failed: u64,
    /// How often one that had loaded everything was seen to serve something else.
    pub drifted: u64,
}

/// One `--lb` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameView<'a> {
    /// As the operator gave it. It may hold a password: only its origin is to be shown.
    pub url: &'a Url,
    /// Every address has loaded what was written last.
    pub in_sync: bool,
    /// Its addresses, as far as they are known.
    pub balancers: Vec<BalancerView<'a>>,
    /// Why they are not known.
    pub problem: Option<&'a Complaint>,
    /// Its load balancers are probed for what they serve.
    pub verified: bool,
    /// Its signals.
    pub counts: ReloadCounts,
}

/// One address of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerView<'a> {
    /// The address.
    pub address: IpAddr,
    /// It has loaded what was written last.
    pub in_sync: bool,
    /// Since when a reload is pending.
    pub pending_since: Option<Instant>,
    /// When it last acknowledged a signal of this process.
    pub reloaded: Option<UnixTime>,
    /// Why it did not acknowledge the last one.
    pub problem: Option<&'a Complaint>,
    /// What it was last seen to serve, where it is probed.
    pub served: &'a BTreeMap<Domain, Served>,
    /// Workers that the last reload has replaced and that still run.
    pub old_workers: usize,
}

impl<'a> BalancerView<'a> {
    /// The names for which it was last seen to serve something else than was written.
    pub fn wrong(&self) -> impl Iterator<Item = &'a Domain> + use<'a> {
        self.served.iter().filter(|(_, served)| !served.right).map(|(name, _)| name)
    }

    /// When the first of the certificates ends that it was seen to serve.
    pub fn not_after(&self) -> Option<UnixTime> {
        self.served.values().map(|served| served.not_after).min()
    }
}
