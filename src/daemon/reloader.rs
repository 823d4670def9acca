//! Makes every marathon-lb load new certificates, and verifies that it did: which reloads are pending, when
//! each load balancer is signaled next, which one goes first when there are new certificates, and the drift
//! watch. Never forgets a pending reload before the load balancer has acknowledged a later signal.
//!
//! `Clean → Scheduled (at most every two seconds) → every --lb name on its own: Resolving → Signaling`

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::client::{Client, ClientEvent, RequestId};
use crate::config::Config;
use crate::context::Context;
use crate::daemon::model::{Catalog, Shadowed, UpToDate};
use crate::daemon::owner::{LbRequest, Owner};
use crate::domain::Domain;
use crate::hint::Complaint;
use crate::time::{Instant, UnixTime};

mod drift;
mod instance;
mod probing;
mod problems;
mod processes;
mod rollout;
mod sighting;
mod target;
mod verification;
mod view;
mod watching;

use drift::Drift;
use rollout::{Rollout, Which};
pub use sighting::Served;
use sighting::Writes;
use target::{LbTarget, Outcome};
pub use view::{BalancerView, NameView, ReloadCounts};

/// The first write after so quiet a time is signaled at once; writes within it share one more reload.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// So many files are probed at most at the start and when an operator asks, those written last: each is a
/// handshake of every load balancer, one after another.
const PROBED_MAX: usize = 1000;

/// The most sentences that [`Reloader::troubles`] returns.
const TROUBLES_MAX: usize = 8;

/// What the daemon has to know of the load balancers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The canary serves these files, or there is none: what was there before them is not needed any more.
    Served(Vec<Domain>),
    /// There is evidence against these files. [`Reloader::decided`] is waited for.
    Rejected {
        /// The files.
        names: Vec<Domain>,
        /// Which load balancer, and what was seen.
        reason: Complaint,
    },
    /// A rollback has not helped: the files were not the cause.
    Futile,
    /// A signal started no process, or a reload brought another certificate to light: a file in `certs/`
    /// may be the cause.
    Unexplained,
}

/// What the reloader works with.
pub(super) struct ReloadContext<'a> {
    pub(super) client: &'a mut Client<Owner>,
    pub(super) catalog: &'a dyn Catalog,
    writes: &'a Writes,
    shadowed: &'a Shadowed,
}

/// Everything about the load balancers.
#[derive(Debug)]
pub struct Reloader {
    targets: Vec<LbTarget>,
    /// Grows with each write; a signal sent for one acknowledges all before it.
    generation: u64,
    /// The next reload.
    scheduled: Option<Scheduled>,
    /// When the last one was.
    reloaded_at: Option<Instant>,
    /// [`Reloader::up_to_date`] has changed since it was saved.
    unsaved: bool,
    writes: Writes,
    /// Names for which the guard has found the cause why others are served.
    shadowed: Shadowed,
    /// Names of new certificates that no load balancer is known to serve.
    unproven: BTreeSet<Domain>,
    rollout: Rollout,
    drift: Drift,
    news: VecDeque<News>,
}

#[derive(Debug)]
struct Scheduled {
    at: Instant,
    /// New certificates are among what is loaded.
    rollout: bool,
}

impl Reloader {
    /// The load balancers of the configuration; nothing is pending yet.
    pub fn new(config: &Config) -> Reloader {
        let target = |(index, url)| LbTarget::new(index, url, config.lb_verify.place(url));
        Reloader {
            targets: config.lb.iter().enumerate().map(target).collect(),
            generation: 0,
            scheduled: None,
            reloaded_at: None,
            unsaved: false,
            writes: Writes::default(),
            shadowed: Shadowed::new(),
            unproven: BTreeSet::new(),
            rollout: Rollout::default(),
            drift: Drift::default(),
            news: VecDeque::new(),
        }
    }

    /// Restores which load balancers have loaded everything that an earlier run has written. There may be
    /// others now, so that every name is resolved at once.
    pub fn restore(&mut self, cx: &Context<'_>, known: &UpToDate) {
        self.generation += 1;
        for target in &mut self.targets {
            let known = known.get(&target.url().origin().to_string());
            target.restore(cx.now.mono, self.generation, known.into_iter().flatten());
        }
    }

    /// Which load balancers have loaded all that was written.
    pub fn up_to_date(&self) -> UpToDate {
        let targets = self.targets.iter();
        targets.map(|it| (it.url().origin().to_string(), it.up_to_date().collect())).collect()
    }

    /// Whether [`Reloader::up_to_date`] is to be saved.
    pub fn take_unsaved(&mut self) -> bool {
        std::mem::take(&mut self.unsaved)
    }

    /// The files that load balancers read have changed.
    pub fn changed(&mut self, cx: &mut Context<'_>) {
        self.generation += 1;
        let now = cx.now.mono;
        let at = self.reloaded_at.map_or(now, |last| (last + RELOAD_EVERY).max(now));
        self.scheduled.get_or_insert(Scheduled { at, rollout: false });
    }

    /// Likewise, by this certificate: a new one, or the previous one, which is restored.
    pub fn certificate_changed(
        &mut self,
        cx: &mut Context<'_>,
        catalog: &dyn Catalog,
        name: &Domain,
        is_new: bool,
    ) {
        self.changed(cx);
        self.writes.add(name, self.generation, catalog.stored(name));
        if is_new {
            self.unproven.insert(name.clone());
        }
        if let Some(scheduled) = &mut self.scheduled {
            scheduled.rollout |= is_new;
        }
    }

    /// Whether new certificates are rolled out by a canary that is verified, so that what was there before is
    /// worth keeping until then.
    pub fn has_canary(&self) -> bool {
        self.targets.iter().any(LbTarget::is_verified) && self.count() > 1
    }

    fn count(&self) -> usize {
        self.targets.iter().map(LbTarget::count).sum()
    }

    /// Whether every load balancer has acknowledged a signal that came after the last write.
    pub fn is_clean(&self) -> bool {
        self.scheduled.is_none() && self.targets.iter().all(LbTarget::is_clean)
    }

    /// Processes what came of a request of ours.
    pub fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        (client, catalog): (&mut Client<Owner>, &dyn Catalog),
        (of, request): (LbRequest, RequestId),
        event: ClientEvent,
    ) {
        let Some(target) = self.targets.get_mut(of.target) else { return };
        let mut reload =
            ReloadContext { client, catalog, writes: &self.writes, shadowed: &self.shadowed };
        let outcome = target.handle_event(cx, &mut reload, (of, request), event);
        self.came_out(cx, of.target, outcome);
        self.handle_timeout(cx, (client, catalog));
    }

    fn came_out(&mut self, cx: &mut Context<'_>, place: usize, outcome: Outcome) {
        let now = cx.now.mono;
        match outcome {
            Outcome::Going => {}
            Outcome::Acknowledged(address) => {
                self.unsaved = true;
                if self.targets.get(place).is_some_and(|it| it.is_up_to_date(address)) {
                    self.rollout.acknowledged((place, address));
                }
            }
            Outcome::Failed(address) => self.rollout.failed(now, (place, address)),
            Outcome::Rejected(address, problem, names) => {
                self.rejected(now, (place, address), problem, names);
            }
            // It says nothing about the files: another one is the canary.
            Outcome::Unexplained(address) => {
                self.rollout.failed(now, (place, address));
                self.news.push_back(News::Unexplained);
            }
        }
    }

    /// A load balancer shows that these files are the cause of what is wrong, which counts of the canary.
    fn rejected(&mut self, now: Instant, which: Which, problem: Complaint, names: Vec<Domain>) {
        let Some(target) = self.targets.get(which.0) else { return };
        if !self.rollout.rejected(which) {
            return;
        }
        if !target.is_verified() {
            return self.rollout.decided(now, false);
        }
        let text = format!("{} ({}): {problem}", target.url().origin(), which.1);
        let reason = Complaint::new(text, problem.hint);
        self.news.push_back(News::Rejected { names, reason });
    }

    /// Whether the files are rolled back, after [`News::Rejected`].
    pub fn decided(&mut self, cx: &Context<'_>, rolled_back: bool) {
        self.rollout.decided(cx.now.mono, rolled_back);
    }

    /// What a look at `certs/` found: a file that HAProxy refuses, and those that it prefers to ours. Names
    /// that are newly among the latter are probed: any reload may have loaded such a file.
    pub fn looked(&mut self, cx: &mut Context<'_>, blocking: Option<&str>, shadowed: Shadowed) {
        self.targets.iter_mut().for_each(|target| target.set_blocking(cx, blocking));
        let new = shadowed.keys().filter(|name| !self.shadowed.contains_key(*name));
        let new: Vec<Domain> = new.take(PROBED_MAX).cloned().collect();
        if !new.is_empty() {
            self.probe_at_rest(cx, &new);
        }
        self.shadowed = shadowed;
    }

    /// What the daemon has to know, until there is no more.
    pub fn poll_news(&mut self) -> Option<News> {
        if self.rollout.take_futile() {
            self.news.push_back(News::Futile);
        }
        if self.rollout.is_open() && self.scheduled.is_none() && !self.unproven.is_empty() {
            let names = std::mem::take(&mut self.unproven);
            self.news.push_back(News::Served(names.into_iter().collect()));
        }
        self.news.pop_front()
    }

    /// Sends what is due.
    pub fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        (client, catalog): (&mut Client<Owner>, &dyn Catalog),
    ) {
        let now = cx.now.mono;
        let due = self.scheduled.take_if(|scheduled| scheduled.at <= now);
        let mut reload =
            ReloadContext { client, catalog, writes: &self.writes, shadowed: &self.shadowed };
        if let Some(Scheduled { rollout, .. }) = due {
            self.reloaded_at = Some(now);
            if rollout {
                self.rollout.begin(now);
            }
            for target in &mut self.targets {
                target.mark_pending(cx, &mut reload, self.generation);
            }
        }
        let mut outcomes = Vec::new();
        for (place, target) in self.targets.iter_mut().enumerate() {
            let outcome = target.handle_timeout(cx, &mut reload);
            outcomes.extend(outcome.into_iter().map(|outcome| (place, outcome)));
        }
        for (place, outcome) in outcomes {
            self.came_out(cx, place, outcome);
        }
        self.confirm(cx, catalog);
        self.watch_drift(cx, catalog);
        self.signal(cx, (client, catalog));
        let acknowledged =
            self.targets.iter().map(LbTarget::acknowledged).min().unwrap_or_default();
        self.writes.forget(acknowledged);
    }

    /// Signals those that may be signaled.
    fn signal(
        &mut self,
        cx: &mut Context<'_>,
        (client, catalog): (&mut Client<Owner>, &dyn Catalog),
    ) {
        if !self.rollout.is_open() {
            let all_known = !self.targets.iter().any(LbTarget::is_resolving);
            let pending = self.by_health();
            let count = self.count();
            self.rollout.choose(cx.now.mono, all_known, &pending, count);
        }
        let mut reload =
            ReloadContext { client, catalog, writes: &self.writes, shadowed: &self.shadowed };
        for (place, target) in self.targets.iter_mut().enumerate() {
            target.begin_permitted(cx, &mut reload, self.rollout.permit(place));
        }
    }

    /// Those with a pending reload; first those that are verified and without a problem.
    fn by_health(&self) -> Vec<Which> {
        let mut ranks = [const { Vec::new() }; 3];
        for (place, target) in self.targets.iter().enumerate() {
            for (address, is_well) in target.pending() {
                let rank = usize::from(!target.is_verified()) + usize::from(!is_well);
                ranks[rank.min(2)].push((place, address));
            }
        }
        ranks.concat()
    }

    /// Probes one load balancer for one name, when it is time.
    fn watch_drift(&mut self, cx: &mut Context<'_>, catalog: &dyn Catalog) {
        if !self.targets.iter().any(LbTarget::is_verified) || !self.drift.is_due(cx) {
            return;
        }
        self.targets.iter_mut().for_each(|target| target.forget(|it| catalog.matters(it)));
        let each = self.targets.iter().enumerate();
        let ready: Vec<Which> =
            each.flat_map(|(place, target)| target.at_rest().map(move |at| (place, at))).collect();
        if let Some(((place, address), domain)) = self.drift.choose(&ready, catalog)
            && let Some(target) = self.targets.get_mut(place)
        {
            target.probe(cx.now.mono, address, &[domain]);
        }
    }

    /// Probes what those serve of which only an earlier run knows that they have loaded everything.
    fn confirm(&mut self, cx: &Context<'_>, catalog: &dyn Catalog) {
        if !self.targets.iter().any(LbTarget::is_unconfirmed) {
            return;
        }
        let names = catalog.latest(PROBED_MAX);
        // Before the first sync nobody knows what matters.
        if !names.is_empty() {
            self.targets.iter_mut().for_each(|target| target.confirm(cx.now.mono, &names));
        }
    }

    /// Probes at once what every load balancer serves for each file: the operator has asked.
    pub fn probe_all(&mut self, cx: &Context<'_>, catalog: &dyn Catalog) {
        self.probe_at_rest(cx, &catalog.latest(PROBED_MAX));
    }

    fn probe_at_rest(&mut self, cx: &Context<'_>, names: &[Domain]) {
        for target in &mut self.targets {
            let ready: Vec<IpAddr> = target.at_rest().collect();
            for address in ready {
                target.probe(cx.now.mono, address, names);
            }
        }
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let scheduled = self.scheduled.as_ref().map(|scheduled| scheduled.at);
        let others = [scheduled, self.rollout.poll_timeout(), self.drift.poll_timeout()];
        self.targets
            .iter()
            .filter_map(LbTarget::poll_timeout)
            .chain(others.into_iter().flatten())
            .min()
    }

    /// Every `--lb` URL, in the order of the configuration.
    pub fn views(&self) -> impl Iterator<Item = NameView<'_>> {
        self.targets.iter().map(LbTarget::view)
    }

    /// How often in a row the one that fails most could not be signaled.
    pub fn failures(&self) -> u32 {
        self.targets.iter().map(LbTarget::failures).max().unwrap_or(0)
    }

    /// How long the reload is pending that is pending for longest.
    pub fn pending_for(&self, now: Instant) -> Duration {
        let since = self.targets.iter().filter_map(LbTarget::pending_since).min();
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// What is wrong with load balancers, a sentence each.
    pub fn troubles(&self, now: Instant) -> Vec<String> {
        let failing = self.targets.iter().filter(|target| target.is_failing(now));
        failing.flat_map(|target| target.troubles(now)).take(TROUBLES_MAX).collect()
    }

    /// Whether some load balancer serves a certificate of ours for this name, as far as is known: it was seen
    /// to, or it has loaded everything. Where none is verified, all is taken for served.
    pub fn serves(&self, name: &Domain, now: UnixTime) -> bool {
        let verified = || self.targets.iter().filter(|target| target.is_verified());
        verified().next().is_none() || verified().any(|target| target.serves(name, now))
    }

    /// The load balancers with something wrong or an overdue reload, as the operator named them.
    pub fn failing(&self, now: Instant) -> Vec<String> {
        let failing = self.targets.iter().filter(|target| target.is_failing(now));
        failing.map(|target| target.url().origin().to_string()).collect()
    }
}

#[cfg(test)]
mod tests;
