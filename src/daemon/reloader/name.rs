//! One `--lb` name: resolved before each round of signals, and now and then in between; each of its
//! addresses is a load balancer of its own, signalled until it has acknowledged.
//!
//! `Resting → Resolving → Resting | Pausing → Resolving …`

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::balancer::{Balancer, Progress};
use super::view::{BalancerView, NameView, ReloadCounts};
use crate::backoff::Backoff;
use crate::collect::Collect;
use crate::daemon::transport::{RequestId, Transport, TransportEvent};
use crate::hint::Complaint;
use crate::keys::jittered;
use crate::log::Record;
use crate::seam::Trust;
use crate::time::Instant;
use crate::turn::Turn;
use crate::url::{Host, Url};

/// The name is resolved again after this time also where nothing is owed: a name server may have left
/// an address out, and an address that appears owes what was written before it was known.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);
/// An address that owes a reload is signalled so long although the name does not have it any more: one
/// answer without it does not prove that it is gone.
const GONE_AFTER: Duration = Duration::from_secs(5 * 60);

/// What an event meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The addresses are known, or a signal is on its way.
    Going,
    /// A load balancer acknowledged a signal.
    Acknowledged,
    /// It did not, or the name could not be resolved.
    Failed,
}

/// One `--lb` URL and its load balancers.
#[derive(Debug)]
pub(super) struct Name {
    url: Url,
    /// The generation that every address must acknowledge.
    owed: u64,
    /// The generation for which the addresses were last learned.
    resolved_for: u64,
    step: Step,
    backoff: Backoff,
    balancers: BTreeMap<IpAddr, Balancer>,
    counts: ReloadCounts,
    /// Why its addresses are not known.
    problem: Option<Complaint>,
}

#[derive(Debug)]
enum Step {
    /// Until the addresses are looked at again, once there were any debts.
    Resting {
        look_at: Option<Instant>,
    },
    Resolving(RequestId),
    Pausing {
        until: Instant,
    },
}

impl Name {
    pub(super) fn new(url: &Url) -> Name {
        Name {
            url: url.clone(),
            owed: 0,
            resolved_for: 0,
            step: Step::Resting { look_at: None },
            backoff: Backoff::default(),
            balancers: BTreeMap::new(),
            counts: ReloadCounts::default(),
            problem: None,
        }
    }

    pub(super) fn view(&self) -> NameView<'_> {
        let balancers = self.balancers.iter().map(|(address, it)| BalancerView {
            address: *address,
            in_sync: it.acknowledged >= self.owed,
            reloaded: it.reloaded,
            problem: it.problem.as_ref(),
        });
        NameView {
            url: &self.url,
            in_sync: self.is_clean(),
            balancers: balancers.collect(),
            problem: self.problem.as_ref(),
            counts: self.counts,
        }
    }

    /// These addresses have loaded all that was written; the name is looked up for others now.
    pub(super) fn restore<'a>(
        &mut self,
        now: Instant,
        generation: u64,
        known: impl Iterator<Item = &'a IpAddr>,
    ) {
        self.owed = generation;
        self.balancers = known.map(|at| (*at, Balancer::up_to_date(generation))).into_map();
        self.step = Step::Pausing { until: now };
    }

    /// The addresses that have loaded all that was written.
    pub(super) fn up_to_date(&self) -> impl Iterator<Item = IpAddr> {
        let owed = self.owed;
        let known = self.balancers.iter();
        known.filter(move |(_, it)| it.acknowledged >= owed).map(|(address, _)| *address)
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn is_clean(&self) -> bool {
        self.resolved_for == self.owed
            && self.balancers.values().all(|balancer| balancer.acknowledged >= self.owed)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.backoff.failures() > 0
    }

    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    pub(super) fn awaits(&self, request: RequestId) -> bool {
        matches!(self.step, Step::Resolving(id) if id == request)
            || self.balancers.values().any(|balancer| balancer.awaits(request))
    }

    /// Every address owes a reload for `generation` from now on.
    pub(super) fn owe(&mut self, turn: &mut Turn<'_>, transport: &mut Transport, generation: u64) {
        self.owed = generation;
        if !matches!(self.step, Step::Resolving(_)) {
            self.resolve(turn, transport);
        }
    }

    fn resolve(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) {
        self.step = Step::Resolving(transport.resolve(turn, &self.url.origin().host));
    }

    pub(super) fn handle_event(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        request: RequestId,
        event: TransportEvent,
    ) -> Outcome {
        if let TransportEvent::Addresses(addresses) = event {
            self.resolved(turn, transport, &addresses);
            return Outcome::Going;
        }
        let clean = self.is_clean();
        let found = self.balancers.iter_mut().find(|(_, balancer)| balancer.awaits(request));
        let (address, progress) = match (found, event) {
            (Some((address, balancer)), event) => {
                let at = (&self.url, *address);
                (Some(*address), balancer.heard(turn, transport, at, self.owed, event))
            }
            (None, TransportEvent::Failed(_)) if clean => {
                // Nothing is owed to anybody that is known: the next look will do.
                self.rest(turn);
                return Outcome::Going;
            }
            (None, TransportEvent::Failed(error)) => {
                self.rest(turn);
                (None, Progress::Failed(error.complaint(Trust::WebPki)))
            }
            (None, _) => return Outcome::Going,
        };
        match progress {
            Progress::Going => Outcome::Going,
            Progress::Acknowledged => {
                self.acknowledged(turn, address);
                Outcome::Acknowledged
            }
            Progress::Failed(problem) => {
                self.failed(turn, address, problem);
                Outcome::Failed
            }
        }
    }

    /// An address that appears owes all; one that is gone owes nothing after a while.
    fn resolved(&mut self, turn: &mut Turn<'_>, transport: &mut Transport, found: &[IpAddr]) {
        let (now, owed) = (turn.now.mono, self.owed);
        self.rest(turn);
        self.resolved_for = owed;
        self.problem = None;
        for address in found {
            self.balancers.entry(*address).or_default().missing_since = None;
        }
        let is_gone = |address: &IpAddr, balancer: &mut Balancer| {
            let missing = !found.contains(address);
            let since = *balancer.missing_since.get_or_insert(now);
            balancer.missing_since = missing.then_some(since);
            missing && (balancer.acknowledged >= owed || now.since(since) >= GONE_AFTER)
        };
        for (_, mut gone) in self.balancers.extract_if(.., is_gone) {
            gone.end(transport);
        }
        for (address, balancer) in &mut self.balancers {
            if balancer.acknowledged < owed && balancer.is_resting() {
                balancer.begin(turn, transport, (&self.url, *address));
            }
        }
        if self.is_clean() {
            self.backoff.reset();
        }
    }

    fn rest(&mut self, turn: &mut Turn<'_>) {
        let may_change = matches!(self.url.origin().host, Host::Name(_));
        let look_at = may_change.then(|| turn.now.mono + jittered(turn.keys, LOOK_EVERY));
        self.step = Step::Resting { look_at };
    }

    fn acknowledged(&mut self, turn: &mut Turn<'_>, address: Option<IpAddr>) {
        self.counts.acknowledged += 1;
        if let Some(balancer) = address.and_then(|address| self.balancers.get_mut(&address)) {
            (balancer.reloaded, balancer.problem) = (Some(turn.now.wall), None);
        }
        let line = Record::info("lb", "reload acknowledged").with("lb", self.url.origin());
        turn.log(about(line, address));
        let owed = self.owed;
        let owes = |balancer: &Balancer| balancer.is_resting() && balancer.acknowledged < owed;
        let resting = matches!(self.step, Step::Resting { .. });
        if resting && self.balancers.values().any(owes) {
            self.step = Step::Pausing { until: turn.now.mono };
        }
        if self.is_clean() {
            self.backoff.reset();
        }
    }

    fn failed(&mut self, turn: &mut Turn<'_>, address: Option<IpAddr>, problem: Complaint) {
        self.counts.failed += 1;
        let line = Record::error("lb", "reload not acknowledged").with("lb", self.url.origin());
        let line = about(line, address);
        // One pause for all that failed: a later failure must not put off an earlier one's retry.
        let until = match self.step {
            Step::Pausing { until } => until,
            Step::Resolving(_) => turn.now.mono,
            Step::Resting { .. } => {
                let until = turn.now.mono + self.backoff.pause(turn.keys);
                self.step = Step::Pausing { until };
                until
            }
        };
        let next_try = turn.now.wall.plus(until.since(turn.now.mono));
        let line = line.with("error", &problem).with("next_try", next_try);
        turn.log(line.hinted(problem.hint));
        match address.and_then(|address| self.balancers.get_mut(&address)) {
            Some(balancer) => balancer.problem = Some(problem),
            None => self.problem = Some(problem),
        }
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) {
        if self.next_lookup().is_some_and(|at| at <= turn.now.mono) {
            self.resolve(turn, transport);
        }
        for (address, balancer) in &mut self.balancers {
            balancer.handle_timeout(turn, transport, (&self.url, *address));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let looks = self.balancers.values().filter_map(Balancer::poll_timeout);
        looks.chain(self.next_lookup()).min()
    }

    fn next_lookup(&self) -> Option<Instant> {
        match self.step {
            Step::Pausing { until } => Some(until),
            Step::Resting { look_at } => look_at,
            Step::Resolving(_) => None,
        }
    }
}

fn about(line: Record, address: Option<IpAddr>) -> Record {
    match address {
        Some(address) => line.with("address", address),
        None => line,
    }
}
