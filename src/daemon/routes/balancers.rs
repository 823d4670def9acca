//! The addresses of the load balancers, looked up now and then for all domains together, and which of them
//! let nobody in on port 80. Asks for no challenge.

use std::net::IpAddr;
use std::time::Duration;

use crate::flat::{FlatMap, FlatSet};
use crate::hint::Complaint;
use crate::time::Instant;
use crate::turn::Turn;
use crate::url::{Host, Url};

use super::super::transport::{RequestId, Transport, TransportEvent};
use super::{ANSWER_TIMEOUT, Of};

/// The names are looked up again for a domain that comes later than this.
const AGE_MAX: Duration = Duration::from_secs(60);
/// An address that was not reached is not asked for so long: many domains may follow.
const REST: Duration = Duration::from_secs(60);
/// What is the matter with an address is said again after this time.
const SILENCE: Duration = Duration::from_secs(10 * 60);

/// All of them.
#[derive(Debug)]
pub(super) struct Balancers {
    hosts: FlatSet<Host>,
    looked_up: Option<Instant>,
    open: Vec<RequestId>,
    found: FlatSet<IpAddr>,
    /// Who waits for the lookups.
    waiting: Vec<Of>,
    unreachable: FlatMap<IpAddr, Unreachable>,
}

#[derive(Debug)]
struct Unreachable {
    seen: Instant,
    said: Instant,
    complaint: Complaint,
}

impl Balancers {
    pub(super) fn new(urls: &[Url]) -> Balancers {
        Balancers {
            hosts: urls.iter().map(|url| url.origin().host.clone()).collect(),
            looked_up: None,
            open: Vec::new(),
            found: FlatSet::new(),
            waiting: Vec::new(),
            unreachable: FlatMap::new(),
        }
    }

    /// Looks the names up, unless that was done lately.
    pub(super) fn refresh(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) {
        let fresh = self.looked_up.is_some_and(|at| turn.now.mono.since(at) < AGE_MAX);
        if fresh || !self.open.is_empty() {
            return;
        }
        self.looked_up = Some(turn.now.mono);
        self.found.clear();
        let lookup = |host| transport.resolve_within(turn, host, ANSWER_TIMEOUT);
        self.open = self.hosts.iter().map(lookup).collect();
    }

    /// Whether the addresses are there.
    pub(super) fn are_known(&self) -> bool {
        self.open.is_empty()
    }

    /// How many lookups are under way.
    pub(super) fn lookups(&self) -> usize {
        self.open.len()
    }

    pub(super) fn awaits(&self, request: RequestId) -> bool {
        self.open.contains(&request)
    }

    /// Somebody needs the addresses.
    pub(super) fn wait(&mut self, of: Of) {
        self.waiting.push(of);
    }

    /// Takes in what a lookup found: who has waited, once all are there. That a load balancer's name does
    /// not resolve is the reloader's matter, which says so.
    pub(super) fn found(&mut self, request: RequestId, event: TransportEvent) -> Vec<Of> {
        self.open.retain(|open| *open != request);
        if let TransportEvent::Addresses(addresses) = event {
            self.found.extend(addresses);
        }
        if self.open.is_empty() { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.found.iter().copied()
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
