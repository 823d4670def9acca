//! One `--lb` name: resolved before each round of signals, and now and then in between; each of its
//! addresses is a load balancer of its own, signalled until it has acknowledged. Whom it may signal when
//! a new certificate is on trial is not its own decision.
//!
//! `Resting → Resolving (→ Locating, where they are looked at elsewhere) → Resting | Pausing → …`

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Means;
use super::balancer::{Balancer, Progress, Spot};
use super::canary::Permit;
use super::view::{BalancerView, NameView, ReloadCounts};
use crate::backoff::Backoff;
use crate::config::Place;
use crate::daemon::transport::{RequestId, TransportEvent};
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::hint::Complaint;
use crate::keys::jittered;
use crate::log::Record;
use crate::seam::Trust;
use crate::time::Instant;
use crate::turn::Turn;
use crate::url::{Host, Url};

/// The name is resolved again after this time also where nothing is owed: a name server may have left
/// an address out, and an address that appears owes what was written before it was known.
const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);
/// An address that owes a reload is signalled so long although the name does not have it any more: one
/// answer without it does not prove that it is gone.
const GONE_AFTER: Duration = Duration::from_secs(5 * 60);

/// One that reloads and still serves something else is not helped by the next signal as a rule: its
/// pauses are so many times longer.
const RELOADED_FACTOR: u32 = 10;

/// What an event meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The addresses are known, or a signal is on its way.
    Going,
    /// The load balancer at this address acknowledged a signal.
    Acknowledged(IpAddr),
    /// It cannot be signalled; or, without an address, the name could not be resolved.
    Failed(Option<IpAddr>),
    /// It said 200, and does not serve the files of these names.
    Unproven(IpAddr, Complaint, Vec<Domain>),
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
    balancers: FlatMap<IpAddr, Balancer>,
    /// Where they are looked at for what they serve, if anywhere.
    place: Option<Place>,
    /// The addresses of [`Place::Host`].
    located: Vec<IpAddr>,
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
    /// The host where they are looked at is resolved; the addresses of the name itself are these.
    Locating(RequestId, Vec<IpAddr>),
    Pausing {
        until: Instant,
    },
}

impl Name {
    pub(super) fn new(url: &Url, place: Option<Place>) -> Name {
        Name {
            url: url.clone(),
            owed: 0,
            resolved_for: 0,
            step: Step::Resting { look_at: None },
            backoff: Backoff::default(),
            balancers: FlatMap::new(),
            place,
            located: Vec::new(),
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
            served: &it.served,
            lingering: it.lingering,
        });
        NameView {
            url: &self.url,
            in_sync: self.is_clean(),
            balancers: balancers.collect(),
            problem: self.problem.as_ref(),
            verified: self.is_verified(),
            counts: self.counts,
        }
    }

    /// Whether its load balancers are looked at for what they serve.
    pub(super) fn is_verified(&self) -> bool {
        self.place.is_some()
    }

    /// Where one of its load balancers is looked at.
    fn places(&self, address: IpAddr) -> Vec<SocketAddr> {
        match &self.place {
            None => Vec::new(),
            Some(Place::Same(port)) => vec![SocketAddr::new(address, *port)],
            Some(Place::Host(_, port)) => {
                self.located.iter().map(|at| SocketAddr::new(*at, *port)).collect()
            }
        }
    }

    /// Its load balancers, in order.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.balancers.keys().copied()
    }

    /// Those that owe a reload.
    pub(super) fn owing(&self) -> impl Iterator<Item = IpAddr> {
        let owed = self.owed;
        let owing = self.balancers.iter().filter(move |(_, it)| it.acknowledged < owed);
        owing.map(|(address, _)| *address)
    }

    /// Those that the drift watch may look at: they have loaded everything, and nothing is under way.
    pub(super) fn at_rest(&self) -> impl Iterator<Item = IpAddr> {
        let ready = |it: &Balancer| it.is_resting() && it.acknowledged >= self.owed;
        let ready = self.balancers.iter().filter(move |(_, it)| self.is_verified() && ready(it));
        ready.map(|(address, _)| *address)
    }

    /// The last generation that all its load balancers have acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.balancers.values().map(|it| it.acknowledged).min().unwrap_or(self.owed)
    }

    /// Whether its addresses are being looked up for what it owes.
    pub(super) fn is_resolving(&self) -> bool {
        matches!(self.step, Step::Resolving(_) | Step::Locating(..))
    }

    /// Forgets what its load balancers were seen to serve for names that do not matter any more.
    pub(super) fn forget(&mut self, matters: impl Fn(&Domain) -> bool) {
        for balancer in self.balancers.values_mut() {
            balancer.served.retain(|name, _| matters(name));
        }
    }

    /// Looks whether one of them still serves the file of a name.
    pub(super) fn look(&mut self, now: Instant, address: IpAddr, name: &Domain) {
        let places = self.places(address);
        let spot = Spot { url: &self.url, address, places: &places };
        if let Some(balancer) = self.balancers.get_mut(&address) {
            balancer.look(now, name, spot);
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
        self.balancers = known.map(|at| (*at, Balancer::up_to_date(generation))).collect();
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
        matches!(self.step, Step::Resolving(id) | Step::Locating(id, _) if id == request)
            || self.balancers.values().any(|balancer| balancer.awaits(request))
    }

    /// Every address owes a reload for `generation` from now on.
    pub(super) fn owe(&mut self, turn: &mut Turn<'_>, means: &mut Means<'_>, generation: u64) {
        self.owed = generation;
        if !self.is_resolving() {
            self.resolve(turn, means);
        }
    }

    fn resolve(&mut self, turn: &mut Turn<'_>, means: &mut Means<'_>) {
        self.step = Step::Resolving(means.transport.resolve(turn, &self.url.origin().host));
    }

    pub(super) fn handle_event(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
        request: RequestId,
        event: TransportEvent,
    ) -> Outcome {
        let found = self.balancers.iter().find(|(_, balancer)| balancer.awaits(request));
        if let Some(address) = found.map(|(address, _)| *address) {
            let (places, owed) = (self.places(address), self.owed);
            let spot = Spot { url: &self.url, address, places: &places };
            let Some(balancer) = self.balancers.get_mut(&address) else { return Outcome::Going };
            let progress = balancer.heard(turn, means, spot, owed, event);
            return self.progressed(turn, address, progress);
        }
        match (std::mem::replace(&mut self.step, Step::Resting { look_at: None }), event) {
            (Step::Resolving(_), TransportEvent::Addresses(found)) => match &self.place {
                Some(Place::Host(host, _)) => {
                    self.step = Step::Locating(means.transport.resolve(turn, host), found);
                }
                _ => self.resolved(turn, means, &found),
            },
            (Step::Locating(_, found), TransportEvent::Addresses(located)) => {
                self.located = located;
                self.resolved(turn, means, &found);
            }
            (_, TransportEvent::Failed(error)) => {
                self.rest(turn);
                // Where nothing is owed to anybody that is known, the next look will do.
                if !self.is_clean() {
                    self.failed(turn, None, error.complaint(Trust::WebPki), 1);
                    return Outcome::Failed(None);
                }
            }
            (step, _) => self.step = step,
        }
        Outcome::Going
    }

    /// Takes in how far one of its load balancers has come.
    fn progressed(&mut self, turn: &mut Turn<'_>, address: IpAddr, progress: Progress) -> Outcome {
        match progress {
            Progress::Going => Outcome::Going,
            Progress::Acknowledged => {
                self.acknowledge(turn, address);
                Outcome::Acknowledged(address)
            }
            Progress::Failed(problem) => {
                self.failed(turn, Some(address), problem, 1);
                Outcome::Failed(Some(address))
            }
            Progress::Unproven { problem, names, reloaded } => {
                let factor = if reloaded { RELOADED_FACTOR } else { 1 };
                self.failed(turn, Some(address), problem.clone(), factor);
                Outcome::Unproven(address, problem, names)
            }
            Progress::Strayed(problem, name) => {
                self.strayed(turn, address, problem, name);
                Outcome::Going
            }
            Progress::Unseen(problem) => {
                self.unseen(turn, address, problem);
                Outcome::Going
            }
        }
    }

    /// An address that appears owes all; one that is gone owes nothing after a while.
    fn resolved(&mut self, turn: &mut Turn<'_>, means: &mut Means<'_>, found: &[IpAddr]) {
        let (now, owed) = (turn.now.mono, self.owed);
        self.rest(turn);
        self.resolved_for = owed;
        self.problem = None;
        for address in found {
            self.balancers.get_or_insert_with(*address, Balancer::default).missing_since = None;
        }
        let is_gone = |address: &IpAddr, balancer: &mut Balancer| {
            let missing = !found.contains(address);
            let since = *balancer.missing_since.get_or_insert(now);
            balancer.missing_since = missing.then_some(since);
            missing && (balancer.acknowledged >= owed || now.since(since) >= GONE_AFTER)
        };
        for (_, mut gone) in self.balancers.extract_if(is_gone) {
            gone.end(means.transport);
        }
        if self.is_clean() {
            self.backoff.reset();
        }
    }

    /// Signals those that owe a reload and may be signalled. A pause is for those that have failed.
    pub(super) fn begin_permitted(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
        permit: Permit,
    ) {
        let pausing = matches!(self.step, Step::Pausing { .. });
        if self.is_resolving() || self.resolved_for != self.owed {
            return;
        }
        for (address, balancer) in self.balancers.iter_mut() {
            let owes = balancer.acknowledged < self.owed && balancer.is_resting();
            let waits = pausing && balancer.problem.is_some();
            if owes && !waits && permit.allows(*address) {
                let spot = Spot { url: &self.url, address: *address, places: &[] };
                balancer.begin(turn, means.transport, spot);
            }
        }
    }

    fn rest(&mut self, turn: &mut Turn<'_>) {
        let may_change = matches!(self.url.origin().host, Host::Name(_));
        let look_at = may_change.then(|| turn.now.mono + jittered(turn.keys, LOOK_EVERY));
        self.step = Step::Resting { look_at };
    }

    fn acknowledge(&mut self, turn: &mut Turn<'_>, address: IpAddr) {
        self.counts.acknowledged += 1;
        if let Some(balancer) = self.balancers.get_mut(&address) {
            (balancer.reloaded, balancer.problem) = (Some(turn.now.wall), None);
        }
        let line = Record::info("lb", "reload acknowledged").with("lb", self.url.origin());
        let line = line.with("address", address);
        turn.log(if self.is_verified() { line.with("proof", "handshake") } else { line });
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

    /// A signal failed; the next one comes after a pause that grows, `factor` times as long.
    fn failed(
        &mut self,
        turn: &mut Turn<'_>,
        address: Option<IpAddr>,
        problem: Complaint,
        factor: u32,
    ) {
        self.counts.failed += 1;
        let line = Record::error("lb", "reload not acknowledged").with("lb", self.url.origin());
        let line = about(line, address);
        // One pause for all that failed: a later failure must not put off an earlier one's retry.
        let until = match self.step {
            Step::Pausing { until } => until,
            Step::Resolving(_) | Step::Locating(..) => turn.now.mono,
            Step::Resting { .. } => {
                let until = turn.now.mono + self.backoff.pause(turn.keys) * factor;
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

    /// One that had loaded everything serves something else: it owes a reload from now on.
    fn strayed(&mut self, turn: &mut Turn<'_>, address: IpAddr, problem: Complaint, name: Domain) {
        self.counts.strayed += 1;
        let line = Record::warn("lb", "a load balancer serves something else than it loaded");
        let line = line.with("lb", self.url.origin()).with("address", address);
        turn.log(line.with("seen", &problem).hinted(problem.hint));
        if let Some(balancer) = self.balancers.get_mut(&address) {
            (balancer.acknowledged, balancer.suspect) = (0, Some(name));
            balancer.problem = Some(problem);
        }
        if matches!(self.step, Step::Resting { .. }) {
            self.step = Step::Pausing { until: turn.now.mono };
        }
    }

    /// Where one should be looked at, nothing is: said once, until something is seen there again.
    fn unseen(&mut self, turn: &mut Turn<'_>, address: IpAddr, problem: Complaint) {
        let Some(balancer) = self.balancers.get_mut(&address) else { return };
        if balancer.problem.is_none() {
            let line = Record::warn("lb", "a load balancer cannot be looked at");
            let line = line.with("lb", self.url.origin()).with("address", address);
            turn.log(line.with("error", &problem).hinted(problem.hint));
        }
        balancer.problem = Some(problem);
    }

    pub(super) fn handle_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
    ) -> Vec<Outcome> {
        if self.next_lookup().is_some_and(|at| at <= turn.now.mono) {
            self.resolve(turn, means);
        }
        let now = turn.now.mono;
        let due = |it: &Balancer| it.poll_timeout().is_some_and(|at| at <= now);
        let due = self.balancers.iter().filter(|(_, balancer)| due(balancer));
        let due: Vec<IpAddr> = due.map(|(address, _)| *address).collect();
        let mut outcomes = Vec::new();
        for address in due {
            let places = self.places(address);
            let spot = Spot { url: &self.url, address, places: &places };
            let Some(balancer) = self.balancers.get_mut(&address) else { continue };
            let progress = balancer.handle_timeout(turn, means, spot);
            outcomes.push(self.progressed(turn, address, progress));
        }
        outcomes
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let looks = self.balancers.values().filter_map(Balancer::poll_timeout);
        looks.chain(self.next_lookup()).min()
    }

    fn next_lookup(&self) -> Option<Instant> {
        match self.step {
            Step::Pausing { until } => Some(until),
            Step::Resting { look_at } => look_at,
            Step::Resolving(_) | Step::Locating(..) => None,
        }
    }
}

fn about(line: Record, address: Option<IpAddr>) -> Record {
    match address {
        Some(address) => line.with("address", address),
        None => line,
    }
}
