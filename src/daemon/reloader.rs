//! Makes every marathon-lb load new certificates: who owes a reload, and when it is signalled next.
//! Never forgets a debt before the load balancer has acknowledged a later signal.
//!
//! `Clean → Gathering (more writes may come) → every --lb name on its own: Resolving → Signalling`

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::collect::Collect;
use crate::daemon::transport::{RequestId, Transport, TransportEvent};
use crate::time::Instant;
use crate::turn::Turn;
use crate::url::Url;

mod balancer;
mod name;
mod view;

use name::{Name, Outcome};
pub use view::{BalancerView, NameView, ReloadCounts};

/// Writes that come within this time of each other are one reload.
const GATHER: Duration = Duration::from_secs(2);
/// A reload waits no longer than this for further writes.
const GATHER_MAX: Duration = Duration::from_secs(10);

/// The load balancers that have loaded all that was written: their addresses, by the origin of their
/// `--lb` URL. Whoever is not among them owes a reload.
pub type UpToDate = BTreeMap<String, BTreeSet<IpAddr>>;

/// Everything about the load balancers.
#[derive(Debug)]
pub struct Reloader {
    names: Vec<Name>,
    /// Grows with each write; a signal sent for one acknowledges all before it.
    generation: u64,
    gathering: Option<Gathering>,
    /// [`Reloader::up_to_date`] is not what it was when it was remembered.
    unsaved: bool,
}

#[derive(Debug)]
struct Gathering {
    since: Instant,
    until: Instant,
}

impl Reloader {
    /// The load balancers of the configuration; none owes anything yet.
    pub fn new(urls: &[Url]) -> Reloader {
        Reloader {
            names: urls.iter().map(Name::new).collect(),
            generation: 0,
            gathering: None,
            unsaved: false,
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
        names.map(|name| (name.url().origin().to_string(), name.up_to_date().into_set())).into_map()
    }

    /// Whether [`Reloader::up_to_date`] is to be remembered anew.
    pub fn take_unsaved(&mut self) -> bool {
        std::mem::take(&mut self.unsaved)
    }

    /// The files that load balancers read have changed.
    pub fn changed(&mut self, turn: &mut Turn<'_>) {
        self.generation += 1;
        let now = turn.now.mono;
        let since = self.gathering.as_ref().map_or(now, |gathering| gathering.since);
        self.gathering = Some(Gathering { since, until: (now + GATHER).min(since + GATHER_MAX) });
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
        transport: &mut Transport,
        request: RequestId,
        event: TransportEvent,
    ) {
        let Some(name) = self.names.iter_mut().find(|name| name.awaits(request)) else { return };
        match name.handle_event(turn, transport, request, event) {
            Outcome::Going | Outcome::Failed => {}
            Outcome::Acknowledged => self.unsaved = true,
        }
        self.handle_timeout(turn, transport);
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) {
        if self.gathering.as_ref().is_some_and(|gathering| gathering.until <= turn.now.mono) {
            self.gathering = None;
            for name in &mut self.names {
                name.owe(turn, transport, self.generation);
            }
        }
        for name in &mut self.names {
            name.handle_timeout(turn, transport);
        }
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let gathered = self.gathering.as_ref().map(|gathering| gathering.until);
        self.names.iter().filter_map(Name::poll_timeout).chain(gathered).min()
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
