//! One `--lb` name: resolved before each round of signals, and now and then in between. Each of its
//! addresses is a load balancer of its own, signaled until it has acknowledged. Which of them may be signaled
//! while new certificates are rolled out is not decided here.
//!
//! `Resting → Resolving (→ Locating, where they are probed elsewhere) → Resting | Pausing → …`

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::ReloadContext;
use super::instance::{LbAddress, LbInstance, Progress};
use super::rollout::Permit;
use super::sighting;
use super::view::{BalancerView, NameView, ReloadCounts};
use crate::backoff::Backoff;
use crate::client::{ClientEvent, RequestId};
use crate::config::Place;
use crate::context::Context;
use crate::daemon::owner::{LbRequest, Owner};
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::hint::Complaint;
use crate::keys::jittered;
use crate::machine::Trust;
use crate::time::{Instant, UnixTime};
use crate::url::{Host, Url};

/// The name is resolved again after this time also where nothing is pending: a name server may have left
/// an address out, and for an address that appears everything written before is pending.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);
/// An address with a pending reload is signaled for this long although the name does not have it any more:
/// one answer without it does not prove that it is gone.
const GONE_AFTER: Duration = Duration::from_secs(5 * 60);
/// A reload that is pending for longer is overdue.
pub(super) const OVERDUE: Duration = Duration::from_secs(20);

/// What an event meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing that matters to others.
    Going,
    /// The load balancer at this address acknowledged a signal.
    Acknowledged(IpAddr),
    /// It cannot be signaled, or it acknowledged a signal and cannot be reached since.
    Failed(IpAddr),
    /// There is evidence that the files of these names are the cause of what is wrong.
    Rejected(IpAddr, Complaint, Vec<Domain>),
    /// A signal started no process, or a reload brought another certificate to light.
    Unexplained(IpAddr),
}

/// One `--lb` URL and its load balancers.
#[derive(Debug)]
pub(super) struct LbTarget {
    /// Its place among the `--lb` URLs.
    index: usize,
    pub(super) url: Url,
    /// The generation that every address must acknowledge.
    pub(super) pending: u64,
    /// The generation for which the addresses were last resolved.
    resolved_for: u64,
    pub(super) step: Step,
    pub(super) backoff: Backoff,
    pub(super) instances: FlatMap<IpAddr, LbInstance>,
    /// Where they are probed for what they serve, if anywhere.
    place: Option<Place>,
    /// The addresses of [`Place::Host`].
    located: Vec<IpAddr>,
    pub(super) counts: ReloadCounts,
    /// Why its addresses are not known.
    pub(super) problem: Option<Complaint>,
    /// A file in `certs/` that HAProxy refuses, as far as is known.
    pub(super) blocking: Option<String>,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Until the name is resolved again, once there was any reload.
    Resting {
        resolve_at: Option<Instant>,
    },
    Resolving(RequestId),
    /// The host where they are probed is resolved; the addresses of the name itself are these.
    Locating(RequestId, Vec<IpAddr>),
    /// The name could not be resolved.
    Pausing {
        until: Instant,
    },
}

impl LbTarget {
    pub(super) fn new(index: usize, url: &Url, place: Option<Place>) -> LbTarget {
        LbTarget {
            index,
            url: url.clone(),
            pending: 0,
            resolved_for: 0,
            step: Step::Resting { resolve_at: None },
            backoff: Backoff::default(),
            instances: FlatMap::new(),
            place,
            located: Vec::new(),
            counts: ReloadCounts::default(),
            problem: None,
            blocking: None,
        }
    }

    pub(super) fn view(&self) -> NameView<'_> {
        let balancers = self.instances.iter().map(|(address, it)| BalancerView {
            address: *address,
            in_sync: it.acknowledged >= self.pending,
            pending_since: it.pending_since,
            reloaded: it.reloaded,
            problem: it.problem.as_ref(),
            served: &it.served,
            old_workers: it.old_workers,
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

    /// Whether its load balancers are probed for what they serve.
    pub(super) fn is_verified(&self) -> bool {
        self.place.is_some()
    }

    /// Where one of its load balancers is probed.
    fn places(&self, address: IpAddr) -> Vec<SocketAddr> {
        match &self.place {
            None => Vec::new(),
            Some(Place::Same(port)) => vec![SocketAddr::new(address, *port)],
            Some(Place::Host(_, port)) => {
                self.located.iter().map(|at| SocketAddr::new(*at, *port)).collect()
            }
        }
    }

    /// How many load balancers it has.
    pub(super) fn count(&self) -> usize {
        self.instances.len()
    }

    /// Those with a pending reload, and whether each is without a problem.
    pub(super) fn pending(&self) -> impl Iterator<Item = (IpAddr, bool)> {
        let late = self.instances.iter().filter(|(_, it)| it.acknowledged < self.pending);
        late.map(|(address, it)| (*address, it.problem.is_none()))
    }

    /// Whether this one has loaded everything.
    pub(super) fn is_up_to_date(&self, address: IpAddr) -> bool {
        self.instances.get(&address).is_some_and(|it| it.acknowledged >= self.pending)
    }

    /// Those that the drift watch may probe: they have loaded everything, and nothing is under way.
    pub(super) fn at_rest(&self) -> impl Iterator<Item = IpAddr> {
        let ready = |it: &LbInstance| it.is_idle() && it.acknowledged >= self.pending;
        let ready = self.instances.iter().filter(move |(_, it)| self.is_verified() && ready(it));
        ready.map(|(address, _)| *address)
    }

    /// Those at rest of which only an earlier run has seen what they serve, where it is known where they are
    /// probed.
    fn unconfirmed(&self) -> impl Iterator<Item = IpAddr> {
        let unseen = |at: &IpAddr| self.instances.get(at).is_some_and(|it| it.is_unconfirmed);
        self.at_rest().filter(move |at| unseen(at) && !self.places(*at).is_empty())
    }

    /// Whether there is one of those.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.unconfirmed().next().is_some()
    }

    /// Probes those.
    pub(super) fn confirm(&mut self, now: Instant, names: &[Domain]) {
        let addresses: Vec<IpAddr> = self.unconfirmed().collect();
        for address in addresses {
            if let Some(instance) = self.instances.get_mut(&address) {
                instance.is_unconfirmed = false;
            }
            self.probe(now, address, names);
        }
    }

    /// The last generation that all its load balancers have acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.instances.values().map(|it| it.acknowledged).min().unwrap_or(self.pending)
    }

    /// Whether its addresses are being resolved for what is pending.
    pub(super) fn is_resolving(&self) -> bool {
        matches!(self.step, Step::Resolving(_) | Step::Locating(..))
    }

    /// Forgets what its load balancers were seen to serve for names that do not matter any more.
    pub(super) fn forget(&mut self, matters: impl Fn(&Domain) -> bool) {
        for instance in self.instances.values_mut() {
            instance.served.retain(|name, _| matters(name));
        }
    }

    /// Probes whether one of them still serves the files of these names.
    pub(super) fn probe(&mut self, now: Instant, address: IpAddr, names: &[Domain]) {
        let places = self.places(address);
        let at = LbAddress {
            target: self.index,
            url: &self.url,
            address,
            places: &places,
            pending: self.pending,
        };
        if let Some(instance) = self.instances.get_mut(&address) {
            instance.probe(now, names, at);
        }
    }

    /// These addresses have loaded all that was written; the name is resolved for others now.
    pub(super) fn restore<'a>(
        &mut self,
        now: Instant,
        generation: u64,
        known: impl Iterator<Item = &'a IpAddr>,
    ) {
        self.pending = generation;
        self.instances = known.map(|at| (*at, LbInstance::up_to_date(generation))).collect();
        self.step = Step::Pausing { until: now };
    }

    /// The addresses that have loaded all that was written.
    pub(super) fn up_to_date(&self) -> impl Iterator<Item = IpAddr> {
        let known = self.instances.iter();
        known.filter(|(_, it)| it.acknowledged >= self.pending).map(|(address, _)| *address)
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn is_clean(&self) -> bool {
        self.resolved_for == self.pending
            && self.instances.values().all(|it| it.acknowledged >= self.pending)
    }

    /// Whether something is wrong with it, or a reload is overdue.
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        let overdue = |it: &LbInstance| it.pending_since.is_some_and(|at| now.since(at) >= OVERDUE);
        (self.backoff.failures() > 0 && !self.is_clean())
            || self.instances.values().any(|it| it.problem.is_some() || overdue(it))
    }

    /// Whether one of them serves a certificate of ours for this name, as far as is known.
    pub(super) fn serves(&self, name: &Domain, now: UnixTime) -> bool {
        let serves = |it: &LbInstance| match it.served.get(name) {
            Some(served) => served.right && served.not_after > now,
            None => it.acknowledged >= self.pending,
        };
        self.instances.values().any(serves)
    }

    /// How often in a row the one that fails most could not be signaled, or the name not resolved.
    pub(super) fn failures(&self) -> u32 {
        let failures = self.instances.values().map(LbInstance::failures);
        failures.chain([self.backoff.failures()]).max().unwrap_or(0)
    }

    /// Since when the reload is pending that is pending for longest.
    pub(super) fn pending_since(&self) -> Option<Instant> {
        self.instances.values().filter_map(|it| it.pending_since).min()
    }

    /// The lookup that is under way.
    fn lookup(&self) -> Option<RequestId> {
        match self.step {
            Step::Resolving(request) | Step::Locating(request, _) => Some(request),
            Step::Resting { .. } | Step::Pausing { .. } => None,
        }
    }

    /// For every address a reload for `generation` is pending from now on.
    pub(super) fn mark_pending(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        generation: u64,
    ) {
        self.pending = generation;
        for instance in self.instances.values_mut() {
            instance.pending_since.get_or_insert(cx.now.mono);
        }
        if !self.is_resolving() {
            self.resolve(cx, reload);
        }
    }

    /// Who looks up addresses.
    fn lookup_owner(&self) -> Owner {
        Owner::Reloader(LbRequest { target: self.index, address: None })
    }

    fn resolve(&mut self, cx: &mut Context<'_>, reload: &mut ReloadContext<'_>) {
        let owner = self.lookup_owner();
        self.step = Step::Resolving(reload.client.resolve(cx, owner, &self.url.origin().host));
    }

    pub(super) fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        (of, request): (LbRequest, RequestId),
        event: ClientEvent,
    ) -> Outcome {
        if let Some(address) = of.address {
            let (places, pending) = (self.places(address), self.pending);
            let at =
                LbAddress { target: self.index, url: &self.url, address, places: &places, pending };
            let Some(instance) = self.instances.get_mut(&address) else { return Outcome::Going };
            let progress = instance.handle_event(cx, reload, at, (request, event));
            return self.progressed(cx, address, progress);
        }
        if self.lookup() != Some(request) {
            return Outcome::Going;
        }
        let owner = self.lookup_owner();
        match (std::mem::replace(&mut self.step, Step::Resting { resolve_at: None }), event) {
            (Step::Resolving(_), ClientEvent::Addresses(found)) => match &self.place {
                Some(Place::Host(host, _)) => {
                    self.step = Step::Locating(reload.client.resolve(cx, owner, host), found);
                }
                _ => self.resolved(cx, reload, &found),
            },
            (Step::Locating(_, found), ClientEvent::Addresses(located)) => {
                self.located = located;
                self.resolved(cx, reload, &found);
            }
            (_, ClientEvent::Failed(error)) => {
                self.rest(cx);
                // Where nothing is pending for any that is known, the next resolution will do.
                if !self.is_clean() {
                    self.unresolved(cx, error.complaint(Trust::WebPki));
                }
            }
            (step, _) => self.step = step,
        }
        Outcome::Going
    }

    /// Processes how far one of its load balancers has come.
    fn progressed(&mut self, cx: &mut Context<'_>, address: IpAddr, progress: Progress) -> Outcome {
        match progress {
            Progress::Going => Outcome::Going,
            Progress::Acknowledged => {
                self.acknowledge(cx, address);
                Outcome::Acknowledged(address)
            }
            Progress::Failed(problem) => {
                self.failed(cx, address, problem);
                Outcome::Failed(address)
            }
            Progress::Problem(problem) => {
                self.set_problem(cx, address, problem);
                Outcome::Going
            }
            Progress::Another(problem) => {
                self.set_problem(cx, address, problem);
                Outcome::Unexplained(address)
            }
            Progress::Ignored(after) => {
                let problem = sighting::ignored(after, self.blocking.as_deref());
                self.set_problem(cx, address, problem);
                Outcome::Unexplained(address)
            }
            Progress::Rejected(problem, names) => {
                self.set_problem(cx, address, problem.clone());
                Outcome::Rejected(address, problem, names)
            }
            Progress::Drifted(problem, name) => {
                self.drifted(cx, address, problem, name);
                Outcome::Going
            }
            Progress::Unseen(problem) => {
                self.unseen(cx, address, problem);
                Outcome::Going
            }
            Progress::SeenAgain => {
                self.seen_again(cx, address);
                Outcome::Going
            }
        }
    }

    /// For an address that appears everything is pending; one that is gone is forgotten after a while.
    fn resolved(&mut self, cx: &mut Context<'_>, reload: &mut ReloadContext<'_>, found: &[IpAddr]) {
        let (now, pending) = (cx.now.mono, self.pending);
        self.rest(cx);
        self.resolved_for = pending;
        self.problem = None;
        self.backoff.reset();
        for address in found {
            let make = || LbInstance::pending_since(now);
            self.instances.get_or_insert_with(*address, make).missing_since = None;
        }
        let is_gone = |address: &IpAddr, instance: &mut LbInstance| {
            let missing = !found.contains(address);
            let since = *instance.missing_since.get_or_insert(now);
            instance.missing_since = missing.then_some(since);
            missing && (instance.acknowledged >= pending || now.since(since) >= GONE_AFTER)
        };
        for (_, mut gone) in self.instances.extract_if(is_gone) {
            gone.end(reload.client);
        }
    }

    /// Signals those with a pending reload that may be signaled.
    pub(super) fn begin_permitted(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        permit: Permit,
    ) {
        // Addresses that are known are signaled although the name cannot be resolved any more.
        if self.is_resolving() {
            return;
        }
        let (now, pending) = (cx.now.mono, self.pending);
        for (address, instance) in self.instances.iter_mut() {
            let late = instance.acknowledged < pending && instance.is_ready(now);
            if late && permit.allows(*address) {
                let at = LbAddress {
                    target: self.index,
                    url: &self.url,
                    address: *address,
                    places: &[],
                    pending,
                };
                instance.begin(cx, reload.client, at);
            }
        }
    }

    fn rest(&mut self, cx: &mut Context<'_>) {
        let may_change = matches!(self.url.origin().host, Host::Name(_));
        let resolve_at = may_change.then(|| cx.now.mono + jittered(cx.keys, RESOLVE_EVERY));
        self.step = Step::Resting { resolve_at };
    }

    pub(super) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
    ) -> Vec<Outcome> {
        if self.next_resolution().is_some_and(|at| at <= cx.now.mono) {
            self.resolve(cx, reload);
        }
        let now = cx.now.mono;
        let due = |it: &LbInstance| it.poll_timeout().is_some_and(|at| at <= now);
        let due = self.instances.iter().filter(|(_, instance)| due(instance));
        let due: Vec<IpAddr> = due.map(|(address, _)| *address).collect();
        let mut outcomes = Vec::new();
        for address in due {
            let places = self.places(address);
            let at = LbAddress {
                target: self.index,
                url: &self.url,
                address,
                places: &places,
                pending: self.pending,
            };
            let Some(instance) = self.instances.get_mut(&address) else { continue };
            let progress = instance.handle_timeout(cx, reload, at);
            outcomes.push(self.progressed(cx, address, progress));
        }
        outcomes
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let probes = self.instances.values().filter_map(LbInstance::poll_timeout);
        probes.chain(self.next_resolution()).min()
    }

    fn next_resolution(&self) -> Option<Instant> {
        match self.step {
            Step::Pausing { until } => Some(until),
            Step::Resting { resolve_at } => resolve_at,
            Step::Resolving(_) | Step::Locating(..) => None,
        }
    }
}
