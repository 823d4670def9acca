//! Orders that wait for a limit of the CA that apps share: new orders of the account, and certificates of
//! one registered domain. Part of the scheduler's machine; the limits' accounting is in `budget.rs`.
//!
//! Each limit has one fair queue ([`FairQueue`]). When a token comes free, it is reserved for the one order
//! whose turn it is; nothing else takes it meanwhile, and every other order waits in the queue, those that
//! have just become due too. So with N apps waiting for a limit, the first order of an app waits for at
//! most N of its tokens, however many names the other apps have and however often these fail.
//!
//! An order that needs tokens of several limits waits for them one after the other, in the order of
//! [`Limit`], and keeps those of earlier limits meanwhile. So no two orders wait for each other.
//!
//! Renewals wait for no such limit ([`OrderKind`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::context::Context;
use crate::daemon::budget::{Budget, Limit, OrderKind, is_recent, registered_domain};
use crate::daemon::fair_queue::{FairQueue, QueuedOrder};
use crate::daemon::model::Urgency;
use crate::domain::Domain;
use crate::time::UnixTime;

use super::Certificates;
use super::entry::{Entry, Policy};
use super::held::{Held, Place};
use super::schedule::Task;

/// Who waits for which limit.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// Only those for which someone waits.
    queues: BTreeMap<Limit, FairQueue>,
    /// The certificates for whose orders tokens are reserved.
    reserved: BTreeMap<Limit, BTreeSet<Domain>>,
    /// The certificates by the numbers of their places.
    names: BTreeMap<u64, Domain>,
    places: u64,
}

/// Why an order does not begin now.
pub(super) enum Refusal {
    /// A limit that concerns this certificate alone has no room before that time.
    Alone(Limit, UnixTime),
    /// Others wait for that limit as well; it has a token at that time.
    Shared(Limit, UnixTime),
}

impl Deferred {
    /// How many tokens the limit must have so that this order may take one.
    fn tokens_needed(&self, limit: &Limit, name: &Domain) -> Option<usize> {
        let reserved = self.reserved.get(limit);
        if reserved.is_some_and(|reserved| reserved.contains(name)) {
            return Some(1);
        }
        let is_free = !self.queues.contains_key(limit);
        is_free.then(|| reserved.map_or(0, BTreeSet::len) + 1)
    }

    /// When the order whose turn it is can have a token.
    fn next_at(&self, now: UnixTime, budget: &Budget, limit: &Limit) -> Option<UnixTime> {
        let reserved = self.reserved.get(limit).map_or(0, BTreeSet::len);
        budget.room_at(now, limit, reserved + 1)
    }

    /// When any can.
    fn any_at(&self, now: UnixTime, budget: &Budget) -> Option<UnixTime> {
        self.queues.keys().filter_map(|limit| self.next_at(now, budget, limit)).min()
    }

    /// Puts an order in a queue; the number of its place.
    fn push(&mut self, limit: &Limit, (name, entry): (&Domain, &Entry), first: &Domain) -> u64 {
        self.places += 1;
        let domain = match limit {
            // Within one registered domain there is nothing to tell apart but names.
            Limit::CertificatesPerDomain(_) => first.to_string(),
            _ => registered_domain(first),
        };
        let app = entry.desired.as_ref().map_or("", |desired| desired.source.app.as_str());
        let (id, failed_before) = (self.places, entry.is_failing());
        let order = QueuedOrder { id, app, domain: &domain, failed_before };
        self.queues.entry(limit.clone()).or_default().push(&order);
        self.names.insert(id, name.clone());
        id
    }

    /// Reserves a token for the order whose turn it is.
    fn reserve(&mut self, limit: &Limit) -> Option<Domain> {
        let queue = self.queues.get_mut(limit)?;
        let id = queue.pop();
        if queue.is_empty() {
            self.queues.remove(limit);
        }
        let name = self.names.remove(&id?)?;
        self.reserved.entry(limit.clone()).or_default().insert(name.clone());
        Some(name)
    }

    fn remove(&mut self, limit: &Limit, place: u64) {
        self.names.remove(&place);
        if let Some(queue) = self.queues.get_mut(limit) {
            queue.remove(place);
            if queue.is_empty() {
                self.queues.remove(limit);
            }
        }
    }

    /// Gives up what is reserved of these limits.
    fn give_up(&mut self, name: &Domain, of: impl Fn(&Limit) -> bool) {
        self.reserved.retain(|limit, names| {
            if of(limit) {
                names.remove(name);
            }
            !names.is_empty()
        });
    }

    /// An order has begun, or will not: nothing is reserved for it any more.
    pub(super) fn forget(&mut self, name: &Domain) {
        self.give_up(name, |_| true);
    }
}

impl Entry {
    /// Which limits an order for these names counts against.
    pub(super) fn kind(
        &self,
        policy: &Policy,
        budget: &Budget,
        now: UnixTime,
        names: &[Domain],
    ) -> OrderKind {
        if self.is_exempt(policy, now) || self.is_urgent(now) {
            return OrderKind::Exempt;
        }
        self.kind_without_advice(policy, budget, now, names)
    }

    /// Likewise, if the CA does not take it for the renewal that it asked for.
    pub(super) fn kind_without_advice(
        &self,
        policy: &Policy,
        budget: &Budget,
        now: UnixTime,
        names: &[Domain],
    ) -> OrderKind {
        if !budget.has_limits() {
            return OrderKind::Exempt;
        }
        let stored = self.stored.as_ref().filter(|_| self.may_be_of_ca(policy));
        let of_stored = stored.is_some_and(|stored| {
            let same = stored.names.len() == names.len();
            same && names.iter().all(|name| stored.is_for(name))
                && is_recent(now, stored.not_before)
        });
        if of_stored || budget.is_noted(now, names) { OrderKind::Renewal } else { OrderKind::New }
    }

    /// Whether the CA in use may have issued what is stored. That of a file that was found is not known;
    /// a renewal must not wait for that.
    fn may_be_of_ca(&self, policy: &Policy) -> bool {
        let life = self.memory.life.as_ref();
        life.is_none_or(|life| life.may_be_of(&policy.directory))
    }
}

impl Certificates {
    /// Which limits an order for these names counts against.
    pub(super) fn kind_of(&self, now: UnixTime, name: &Domain, names: &[Domain]) -> OrderKind {
        let entry = self.entries.get(name);
        entry.map_or(OrderKind::New, |entry| entry.kind(&self.policy, &self.budget, now, names))
    }

    /// Whether an order may begin: every limit has a token for it.
    pub(super) fn admit(
        &self,
        now: UnixTime,
        name: &Domain,
        names: &[Domain],
        kind: OrderKind,
    ) -> Result<(), Refusal> {
        let budget = &self.budget;
        if let Err((limit, room_at)) = budget.check(now, names, kind) {
            return Err(match limit {
                Limit::CertificatesPerSet | Limit::FailedAuthorizations(_) => {
                    Refusal::Alone(limit, room_at)
                }
                Limit::CertificatesPerDomain(_) | Limit::OrdersPerAccount => {
                    Refusal::Shared(limit, room_at)
                }
            });
        }
        for limit in budget.shared(names, kind) {
            let tokens = self.deferred.tokens_needed(&limit, name);
            let room_at = tokens.and_then(|tokens| budget.room_at(now, &limit, tokens));
            if room_at.is_none_or(|room_at| room_at > now) {
                let until = self.deferred.next_at(now, budget, &limit).unwrap_or(now);
                return Err(Refusal::Shared(limit, until));
            }
        }
        Ok(())
    }

    /// An order waits for a limit from now on, unless it concerns one name of several: then the others do
    /// without it.
    pub(super) fn refuse(
        &mut self,
        cx: &mut Context<'_>,
        name: &Domain,
        names: &[Domain],
        refusal: Refusal,
    ) {
        let now = cx.now.wall;
        let (budget, Some(entry)) = (&self.budget, self.entries.get_mut(name)) else { return };
        let (limit, until) = match refusal {
            Refusal::Alone(limit, until) => {
                self.deferred.forget(name);
                if let (Limit::FailedAuthorizations(failed), [_, _, ..]) = (&limit, names) {
                    return entry.leave_out(now, failed, until, budget.complaint(&limit));
                }
                let until = entry.before_the_last_chance(now, until);
                let held = Held::budget(now, budget.complaint(&limit), until);
                return entry.hold(cx, name, held);
            }
            Refusal::Shared(limit, until) => (limit, until),
        };
        self.deferred.give_up(name, |of| *of >= limit);
        let first = names.first().unwrap_or(name);
        let number = self.deferred.push(&limit, (name, entry), first);
        let mut held = Held::budget(now, budget.complaint(&limit), until);
        // What is exempt later must not wait for that limit.
        let window = entry.memory.life.as_ref().and_then(|life| life.advice.window);
        let starts = window.map(|window| window.start).into_iter().chain(entry.last_chance_at());
        let again_at = starts.filter(|start| *start > now).min();
        held.queue = Some(Place { limit, number, again_at });
        entry.hold(cx, name, held);
    }

    /// An order waits no longer: what it was for has changed.
    pub(super) fn leave_queue(&mut self, name: &Domain) {
        self.deferred.forget(name);
        let Some(entry) = self.entries.get_mut(name) else { return };
        let waits = |held: &mut Box<Held>| held.queue.is_some();
        if let Some(place) = entry.held.take_if(waits).and_then(|held| held.queue) {
            self.deferred.remove(&place.limit, place.number);
        }
    }

    /// Lets those orders begin whose turn it is.
    pub(super) fn release(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.wall;
        while !self.deferred.queues.is_empty() {
            let budget = &self.budget;
            let has_room = |limit: &&Limit| {
                let at = self.deferred.next_at(now, budget, limit);
                at.is_some_and(|at| at <= now)
            };
            let Some(limit) = self.deferred.queues.keys().find(has_room).cloned() else { return };
            let Some(name) = self.deferred.reserve(&limit) else { return };
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.held = None;
            }
            let next = self.entries.get(&name).and_then(|entry| entry.next(&self.policy));
            if next.is_some_and(|next| next.task == Task::Order && next.at <= now) {
                self.start(cx, &name);
            } else {
                self.deferred.forget(&name);
                self.reindex(&name);
            }
        }
    }

    /// When the next order's turn comes.
    pub(super) fn release_at(&self, now: UnixTime) -> Option<UnixTime> {
        self.deferred.any_at(now, &self.budget)
    }

    /// Until when a limit keeps an order back at least.
    pub(super) fn held_until(&self, held: &Held) -> UnixTime {
        let next_at = held.queue.as_ref().and_then(|place| {
            self.deferred.next_at(self.last_now?.wall, &self.budget, &place.limit)
        });
        next_at.map_or(held.until, |at| at.max(held.until))
    }

    /// The certificate of a file leaves `certs/`, or is replaced by one for other names: the CA takes an
    /// order for its names for a renewal all the same. To be called before that is forgotten here.
    pub(super) fn note_earlier(&mut self, name: &Domain, next: &[Domain]) {
        let Some(entry) = self.entries.get(name).filter(|it| it.may_be_of_ca(&self.policy)) else {
            return;
        };
        let budget = &mut self.budget;
        if !budget.has_limits() {
            return;
        }
        match (&entry.stored, &entry.memory.life) {
            (Some(stored), _) if stored.names != next => {
                budget.note_earlier(&stored.names, stored.not_before);
            }
            // The file is gone or damaged: most are for their own names alone.
            (None, Some(life)) if next.is_empty() => {
                let Some(issued) = life.issued else { return };
                budget.note_earlier(std::slice::from_ref(name), issued);
            }
            _ => return,
        }
        self.unsaved = self.unsaved.max(Some(Urgency::Lazy));
    }
}
