//! The addresses of the load balancers, looked up now and then for all domains together, and which of them
//! let nobody in on port 80. Asks for no challenge.
//!
//! These addresses are the operator's own (`--lb`, `--lb-verify`), so that a probe may go there even where
//! they are private.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{self, Config};
use crate::context::Context;
use crate::daemon::owner::{Owner, RouteRequest};
use crate::dns::DnsError;
use crate::flat::{FlatMap, FlatSet};
use crate::hint::Complaint;
use crate::time::Instant;
use crate::url::Host;

use super::{ANSWER_TIMEOUT, Of};
use crate::client::{Client, ClientEvent, Fault, RequestId};

/// The names are looked up again for a domain that comes later than this.
const AGE_MAX: Duration = Duration::from_secs(60);
/// An address that was not reached is not asked for so long: many domains may follow.
const REST: Duration = Duration::from_secs(60);
/// What is the matter with an address is said again after this time.
const SILENCE: Duration = Duration::from_secs(10 * 60);

/// All of them.
#[derive(Debug)]
pub(super) struct Balancers {
    /// The hosts of `--lb`, where challenges are asked for.
    signaled: FlatSet<Host>,
    /// The hosts of `--lb-verify`, too.
    hosts: FlatSet<Host>,
    looked_up: Option<Instant>,
    open: FlatMap<RequestId, Host>,
    /// What the last lookup of each host that was answered found.
    found: FlatMap<Host, Vec<IpAddr>>,
    /// Who waits for the lookups, with the addresses of the domain.
    waiting: Vec<(Of, Vec<IpAddr>)>,
    unreachable: FlatMap<IpAddr, Unreachable>,
}

#[derive(Debug)]
struct Unreachable {
    seen: Instant,
    said: Instant,
    complaint: Complaint,
}

impl Balancers {
    pub(super) fn new(config: &Config) -> Balancers {
        let signaled: FlatSet<Host> =
            config.lb.iter().map(|url| url.origin().host.clone()).collect();
        let verified = config.lb_verify.elsewhere.iter().filter_map(|(_, place)| match place {
            config::Place::Host(host, _) => Some(host.clone()),
            config::Place::Same(_) => None,
        });
        Balancers {
            hosts: signaled.iter().cloned().chain(verified).collect(),
            signaled,
            looked_up: None,
            open: FlatMap::new(),
            found: FlatMap::new(),
            waiting: Vec::new(),
            unreachable: FlatMap::new(),
        }
    }

    /// Looks the names up, unless that was done lately. Meanwhile the previous addresses count.
    pub(super) fn refresh(&mut self, cx: &mut Context<'_>, client: &mut Client<Owner>) {
        let fresh = self.looked_up.is_some_and(|at| cx.now.mono.since(at) < AGE_MAX);
        if fresh || !self.open.is_empty() {
            return;
        }
        self.looked_up = Some(cx.now.mono);
        for host in self.hosts.iter() {
            let owner = Owner::Routes(RouteRequest::Balancers);
            let request = client.resolve_within(cx, owner, host, ANSWER_TIMEOUT);
            self.open.insert(request, host.clone());
        }
    }

    /// Whether the addresses are there.
    pub(super) fn are_known(&self) -> bool {
        self.open.is_empty()
    }

    /// How many lookups are under way.
    pub(super) fn lookups(&self) -> usize {
        self.open.len()
    }

    /// Somebody needs the addresses.
    pub(super) fn wait(&mut self, of: Of, found: Vec<IpAddr>) {
        self.waiting.push((of, found));
    }

    /// Handles the result of a lookup. Returns who has waited, once all are there. That a load balancer's
    /// name does not resolve is the reloader's matter, which says so; where only no name server answered,
    /// the previous addresses count.
    pub(super) fn found(
        &mut self,
        request: RequestId,
        event: ClientEvent,
    ) -> Vec<(Of, Vec<IpAddr>)> {
        let Some(host) = self.open.remove(&request) else { return Vec::new() };
        match event {
            ClientEvent::Addresses(addresses) => drop(self.found.insert(host, addresses)),
            ClientEvent::Failed(error) if has_no_address(&error.fault) => {
                drop(self.found.remove(&host));
            }
            _ => {}
        }
        if self.open.is_empty() { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// Where challenges are asked for.
    pub(super) fn addresses(&self) -> FlatSet<IpAddr> {
        let signaled = self.found.iter().filter(|(host, _)| self.signaled.contains(host));
        signaled.flat_map(|(_, addresses)| addresses.iter().copied()).collect()
    }

    /// Whether an address is that of a load balancer.
    pub(super) fn have(&self, address: IpAddr) -> bool {
        self.found.values().any(|addresses| addresses.contains(&address))
    }

    /// Why an address need not be asked.
    pub(super) fn unreachable(&self, now: Instant, address: IpAddr) -> Option<&Complaint> {
        let known = self.unreachable.get(&address)?;
        (now.since(known.seen) < REST).then_some(&known.complaint)
    }

    /// An address was not reached; whether that is to be said.
    pub(super) fn note_unreachable(
        &mut self,
        now: Instant,
        address: IpAddr,
        complaint: &Complaint,
    ) -> bool {
        self.unreachable.retain(|_, it| now.since(it.said) < SILENCE);
        let complaint = complaint.clone();
        let fresh = Unreachable { seen: now, said: now, complaint };
        match self.unreachable.get_mut(&address) {
            Some(known) => {
                *known = Unreachable { said: known.said, ..fresh };
                false
            }
            None => {
                self.unreachable.insert(address, fresh);
                true
            }
        }
    }
}

fn has_no_address(fault: &Fault) -> bool {
    matches!(fault, Fault::Dns(DnsError::NoSuchName { .. } | DnsError::NoAddress { .. }))
}
