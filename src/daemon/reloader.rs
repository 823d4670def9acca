//! Makes every marathon-lb load new certificates, and proves that it did: who owes a reload, when it is
//! signalled next, who goes first when there is something new, and a slow round of looks at what is
//! served. Never forgets a debt before the load balancer has acknowledged a later signal.
//!
//! `Clean → Gathering (more writes may come) → every --lb name on its own: Resolving → Signalling`

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Config;
use crate::daemon::transport::{RequestId, Transport, TransportEvent};
use crate::domain::Domain;
use crate::flat::{FlatMap, FlatSet};
use crate::hint::Complaint;
use crate::time::Instant;
use crate::turn::Turn;

mod balancer;
mod canary;
mod drift;
mod name;
mod proof;
mod round;
mod view;

use canary::{Canary, Which};
use drift::Drift;
use name::{Name, Outcome};
pub use proof::{Catalog, Served};
pub use view::{BalancerView, NameView, ReloadCounts};

/// Writes that come within this time of each other are one reload.
const GATHER: Duration = Duration::from_secs(2);
/// A reload waits no longer than this for further writes.
const GATHER_MAX: Duration = Duration::from_secs(10);

/// The load balancers that have loaded all that was written: their addresses, by the origin of their
/// `--lb` URL. Whoever is not among them owes a reload.
pub type UpToDate = FlatMap<String, FlatSet<IpAddr>>;

/// What the daemon has to know of the load balancers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The first load balancer serves these files, or there is none to be asked first: what was there
    /// before them is needed no more.
    Served(Vec<Domain>),
    /// The first load balancer does not serve these files. [`Reloader::judged`] is waited for.
    Unserved {
        /// The files.
        names: Vec<Domain>,
        /// Which load balancer, and what was seen.
        reason: Complaint,
    },
}

/// What the reloader works with in a turn.
pub(super) struct Means<'a> {
    pub(super) transport: &'a mut Transport,
    pub(super) catalog: &'a dyn Catalog,
    /// Which write each file was, of those that not everybody has acknowledged.
    pub(super) written: &'a BTreeMap<Domain, u64>,
}

/// Everything about the load balancers.
#[derive(Debug)]
pub struct Reloader {
    names: Vec<Name>,
    /// Grows with each write; a signal sent for one acknowledges all before it.
    generation: u64,
    gathering: Option<Gathering>,
    /// [`Reloader::up_to_date`] is not what it was when it was remembered.
    unsaved: bool,
    /// The last write of each file that not everybody has acknowledged.
    written: BTreeMap<Domain, u64>,
    /// Those of them that no load balancer is known to serve.
    on_trial: BTreeSet<Domain>,
    canary: Canary,
    drift: Drift,
    news: VecDeque<News>,
}

#[derive(Debug)]
struct Gathering {
    since: Instant,
    until: Instant,
    /// New certificates are among it.
    trial: bool,
}

impl Reloader {
    /// The load balancers of the configuration; none owes anything yet.
    pub fn new(config: &Config) -> Reloader {
        let name = |url| Name::new(url, config.lb_verify.place(url));
        Reloader {
            names: config.lb.iter().map(name).collect(),
            generation: 0,
            gathering: None,
            unsaved: false,
            written: BTreeMap::new(),
            on_trial: BTreeSet::new(),
            canary: Canary::default(),
            drift: Drift::default(),
            news: VecDeque::new(),
        }
    }

    /// Takes in who has loaded all that an earlier run has written. Others may be there now, or may have
    /// been out of sight when that run had its last answer, so that every name is looked up at once.
    pub fn restore(&mut self, turn: &Turn<'_>, known: &UpToDate) {
        self.generation += 1;
        for name in &mut self.names {
            let known = known.get(&name.url().origin().to_string());
            name.restore(turn.now.mono, self.generation, known.into_iter().flatten());
        }
    }

    /// Who has loaded all that was written.
    pub fn up_to_date(&self) -> UpToDate {
        let names = self.names.iter();
        names.map(|name| (name.url().origin().to_string(), name.up_to_date().collect())).collect()
    }

    /// Whether [`Reloader::up_to_date`] is to be remembered anew.
    pub fn take_unsaved(&mut self) -> bool {
        std::mem::take(&mut self.unsaved)
    }

    /// The files that load balancers read have changed.
    pub fn changed(&mut self, turn: &mut Turn<'_>) {
        self.generation += 1;
        let now = turn.now.mono;
        let (since, trial) =
            self.gathering.as_ref().map_or((now, false), |it| (it.since, it.trial));
        let until = (now + GATHER).min(since + GATHER_MAX);
        self.gathering = Some(Gathering { since, until, trial });
    }

    /// Likewise, by this certificate: a new one, or, put back, the one of before.
    pub fn certificate_changed(&mut self, turn: &mut Turn<'_>, name: &Domain, is_new: bool) {
        self.changed(turn);
        self.written.insert(name.clone(), self.generation);
        if is_new {
            self.on_trial.insert(name.clone());
        }
        if let Some(gathering) = &mut self.gathering {
            gathering.trial |= is_new;
        }
    }

    /// Whether a new certificate is tried with one load balancer that can be looked at before the others
    /// have it, so that what was there before is worth keeping until then.
    pub fn has_canary(&self) -> bool {
        self.names.iter().any(Name::is_verified) && self.count() > 1
    }

    fn count(&self) -> usize {
        self.names.iter().map(|name| name.addresses().count()).sum()
    }

    /// Whether every load balancer has acknowledged a signal that came after the last write.
    pub fn is_clean(&self) -> bool {
        self.gathering.is_none() && self.names.iter().all(Name::is_clean)
    }

    /// Whether a request is one of ours.
    pub fn awaits(&self, request: RequestId) -> bool {
        self.names.iter().any(|name| name.awaits(request))
    }

    /// Takes in what came of a request of ours.
    pub fn handle_event(
        &mut self,
        turn: &mut Turn<'_>,
        (transport, catalog): (&mut Transport, &dyn Catalog),
        request: RequestId,
        event: TransportEvent,
    ) {
        let Some(place) = self.names.iter().position(|name| name.awaits(request)) else { return };
        let mut means = Means { transport, catalog, written: &self.written };
        let outcome = self.names.get_mut(place);
        let outcome = outcome.map(|it| it.handle_event(turn, &mut means, request, event));
        outcome.into_iter().for_each(|outcome| self.came_out(turn, place, outcome));
        self.handle_timeout(turn, (transport, catalog));
    }

    fn came_out(&mut self, turn: &mut Turn<'_>, place: usize, outcome: Outcome) {
        match outcome {
            Outcome::Going | Outcome::Failed(None) => {}
            Outcome::Acknowledged(address) => {
                self.unsaved = true;
                self.canary.proven((place, address));
            }
            Outcome::Failed(Some(address)) => {
                self.canary.is_silent(turn.now.mono, (place, address));
            }
            Outcome::Unproven(address, problem, names) => {
                let which = (place, address);
                let Some(name) = self.names.get(place).filter(|_| self.canary.is(which)) else {
                    return;
                };
                self.canary.failed(which);
                if name.is_verified() {
                    let text = format!("{} ({address}): {problem}", name.url().origin());
                    let reason = Complaint::new(text, problem.hint);
                    self.news.push_back(News::Unserved { names, reason });
                } else {
                    self.canary.judged(false);
                }
            }
        }
    }

    /// Takes in whether the files of before go back, after [`News::Unserved`].
    pub fn judged(&mut self, goes_back: bool) {
        self.canary.judged(goes_back);
    }

    /// What the daemon has to know, until there is no more.
    pub fn poll_news(&mut self) -> Option<News> {
        if self.canary.is_open() && self.gathering.is_none() && !self.on_trial.is_empty() {
            let names = std::mem::take(&mut self.on_trial);
            self.news.push_back(News::Served(names.into_iter().collect()));
        }
        self.news.pop_front()
    }

    /// Sends what is due.
    pub fn handle_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        (transport, catalog): (&mut Transport, &dyn Catalog),
    ) {
        let now = turn.now.mono;
        let due = self.gathering.take_if(|gathering| gathering.until <= now);
        let mut means = Means { transport, catalog, written: &self.written };
        if let Some(Gathering { trial, .. }) = due {
            if trial {
                self.canary.begin(now);
            }
            for name in &mut self.names {
                name.owe(turn, &mut means, self.generation);
            }
        }
        let mut outcomes = Vec::new();
        for (place, name) in self.names.iter_mut().enumerate() {
            let outcome = name.handle_timeout(turn, &mut means);
            outcomes.extend(outcome.into_iter().map(|outcome| (place, outcome)));
        }
        for (place, outcome) in outcomes {
            self.came_out(turn, place, outcome);
        }
        self.watch_drift(turn, catalog);
        self.steer(turn, (transport, catalog));
        let acknowledged = self.names.iter().map(Name::acknowledged).min().unwrap_or_default();
        self.written.retain(|_, generation| *generation > acknowledged);
    }

    /// Signals those whose turn it is.
    fn steer(&mut self, turn: &mut Turn<'_>, (transport, catalog): (&mut Transport, &dyn Catalog)) {
        if !self.canary.is_open() {
            let all_known = !self.names.iter().any(Name::is_resolving);
            let each = self.names.iter().enumerate();
            let owing: Vec<Which> =
                each.flat_map(|(place, name)| name.owing().map(move |at| (place, at))).collect();
            let count = self.count();
            self.canary.choose(turn.now.mono, all_known, &owing, count);
        }
        let mut means = Means { transport, catalog, written: &self.written };
        for (place, name) in self.names.iter_mut().enumerate() {
            name.begin_permitted(turn, &mut means, self.canary.permit(place));
        }
    }

    /// Looks at one load balancer for one name, when it is time.
    fn watch_drift(&mut self, turn: &mut Turn<'_>, catalog: &dyn Catalog) {
        if !self.names.iter().any(Name::is_verified) || !self.drift.is_due(turn) {
            return;
        }
        self.names.iter_mut().for_each(|name| name.forget(|it| catalog.matters(it)));
        let each = self.names.iter().enumerate();
        let ready: Vec<Which> =
            each.flat_map(|(place, name)| name.at_rest().map(move |at| (place, at))).collect();
        if let Some(((place, address), domain)) = self.drift.choose(&ready, catalog)
            && let Some(name) = self.names.get_mut(place)
        {
            name.look(turn.now.mono, address, &domain);
        }
    }

    /// Looks at once what every load balancer that can be looked at serves for the file written last: the
    /// operator has asked.
    pub fn look_at_all(&mut self, turn: &Turn<'_>, catalog: &dyn Catalog) {
        let latest = catalog.latest(1);
        for name in &mut self.names {
            let ready: Vec<IpAddr> = name.at_rest().collect();
            for (address, domain) in
                ready.into_iter().flat_map(|at| latest.iter().map(move |it| (at, it)))
            {
                name.look(turn.now.mono, address, domain);
            }
        }
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let gathered = self.gathering.as_ref().map(|gathering| gathering.until);
        let others = [gathered, self.canary.poll_timeout(), self.drift.poll_timeout()];
        self.names.iter().filter_map(Name::poll_timeout).chain(others.into_iter().flatten()).min()
    }

    /// Every `--lb` URL, in the order of the configuration.
    pub fn views(&self) -> impl Iterator<Item = NameView<'_>> {
        self.names.iter().map(Name::view)
    }

    /// How often in a row the one that fails most has failed.
    pub fn failures(&self) -> u32 {
        self.names.iter().map(Name::failures).max().unwrap_or(0)
    }

    /// The load balancers that did not acknowledge the last signal, as the operator named them.
    pub fn failing(&self) -> Vec<String> {
        let failing = self.names.iter().filter(|name| name.is_failing());
        failing.map(|name| name.url().origin().to_string()).collect()
    }
}

#[cfg(test)]
mod tests;
