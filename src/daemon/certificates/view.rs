//! The scheduler as others may see it: each certificate, the plan, what fails, what is held back, and
//! whether anything is left to do. Changes nothing.

#[cfg(test)]
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::acme::renewal_info::Window;
use crate::daemon::budget::Left;
use crate::daemon::model::{DesiredCertificate, DesiredCertificates, RetryState, Stored};

use crate::domain::Domain;
use crate::hint::Complaint;
use crate::time::UnixTime;

use super::Certificates;
use super::entry::Entry;
use super::schedule::{Next, Planned, Task, Why};

/// How it stands with a certificate. Each is in exactly one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Wanted, and the last order failed, wholly or for a name; a previous certificate may be in service.
    Failing,
    /// Wanted, and none that is valid is stored, but nothing has failed.
    Pending,
    /// Wanted, and all is well.
    Valid,
    /// Stored, or remembered, and no app wants it.
    Unwanted,
}

/// One certificate.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    name: &'a Domain,
    entry: &'a Entry,
    offers: &'a Certificates,
}

/// How many certificates are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`State::Failing`].
    pub failing: usize,
    /// [`State::Pending`].
    pub pending: usize,
    /// [`State::Valid`].
    pub valid: usize,
    /// [`State::Unwanted`].
    pub unwanted: usize,
}

/// How many orders came to their end in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderCounts {
    /// With a certificate that was stored.
    pub issued: u64,
    /// In any other way.
    pub failed: u64,
}

impl Counts {
    /// Counts one more in this state.
    pub fn add(&mut self, state: State) {
        match state {
            State::Failing => self.failing += 1,
            State::Pending => self.pending += 1,
            State::Valid => self.valid += 1,
            State::Unwanted => self.unwanted += 1,
        }
    }
}

impl State {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            State::Failing => "failing",
            State::Pending => "pending",
            State::Valid => "valid",
            State::Unwanted => "unwanted",
        }
    }
}

impl<'a> View<'a> {
    /// By which its file is named.
    pub fn name(&self) -> &'a Domain {
        self.name
    }

    /// The names that are wanted of it; of one that nobody wants, those that it has.
    pub fn domains(&self) -> &'a [Domain] {
        match (&self.entry.desired, &self.entry.stored) {
            (Some(desired), _) => &desired.names,
            (None, Some(stored)) => &stored.names,
            (None, None) => &[],
        }
    }

    /// The app that asks for it, or asked last.
    pub fn app(&self) -> Option<&'a str> {
        let asked = self.entry.memory.source.as_ref();
        self.entry
            .desired
            .as_ref()
            .map(|desired| &desired.source)
            .or(asked)
            .map(|it| it.app.as_str())
    }

    /// How it stands at `now`.
    pub fn state(&self, now: UnixTime) -> State {
        if self.entry.desired.is_none() {
            State::Unwanted
        } else if self.entry.is_failing() {
            State::Failing
        } else if self.is_in_service(now) {
            State::Valid
        } else {
            State::Pending
        }
    }

    /// Whether one that is valid at `now` is stored.
    pub fn is_in_service(&self, now: UnixTime) -> bool {
        self.entry.stored.as_ref().is_some_and(|stored| stored.not_after > now)
    }

    /// What is stored.
    pub fn stored(&self) -> Option<&'a Stored> {
        self.entry.stored.as_ref()
    }

    /// When what is stored is to be renewed; nothing for what nobody wants.
    pub fn renewal(&self) -> Option<UnixTime> {
        self.entry.renewal().filter(|_| self.entry.desired.is_some())
    }

    /// The CA's suggested window for that (RFC 9773).
    pub fn window(&self) -> Option<Window> {
        self.entry.memory.life.as_ref().and_then(|life| life.advice.window)
    }

    /// What failed: as a whole, then names by themselves.
    pub fn troubles(&self) -> impl Iterator<Item = (Option<&'a Domain>, &'a RetryState)> {
        let memory = &self.entry.memory;
        let names = memory.left_out.iter().map(|(name, trouble)| (Some(name), trouble));
        memory.trouble.iter().map(|trouble| (None, trouble)).chain(names)
    }

    /// What keeps the next order back, and until when.
    pub fn held(&self) -> Option<(&'a Complaint, UnixTime)> {
        self.entry.held.as_ref().map(|held| (&held.reason, self.offers.held_until(held)))
    }

    /// The names without a certificate that wait for others, and those others: in service, and failing.
    pub fn waiting(&self, now: UnixTime) -> Option<(Vec<&'a Domain>, Vec<&'a Domain>)> {
        self.entry.waiting(now)
    }

    /// What is next.
    pub fn next(&self) -> Option<Next> {
        self.offers.next_of(self.entry)
    }

    /// What is under way, in a word.
    pub fn step(&self) -> &'static str {
        self.entry.step.name()
    }
}

impl Certificates {
    /// What is stored, by the names of the files, and what each is for.
    pub fn served(&self) -> impl Iterator<Item = (&Domain, &[Domain])> + Clone {
        let all = self.entries.iter();
        all.filter_map(|(name, entry)| Some((name, entry.stored.as_ref()?.names.as_slice())))
    }

    /// How many wanted certificates' last order failed, wholly or for a name.
    #[cfg(test)]
    pub fn failing(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_failing()).count()
    }

    /// Whether an app wants this certificate.
    pub fn wants(&self, name: &Domain) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.desired.is_some())
    }

    /// What apps asked for last, by the names of the files: by this an app has its domains. Where an
    /// earlier version remembers no names, those of the stored certificate count.
    pub fn asked_for(&self) -> DesiredCertificates {
        let asked = |name: &Domain, entry: &Entry| {
            let source = entry.memory.source.clone()?;
            let names = match (&*entry.memory.names, &entry.stored) {
                ([], Some(stored)) if stored.is_for(name) => {
                    let others = stored.names.iter().filter(|other| *other != name);
                    std::iter::once(name).chain(others).cloned().collect()
                }
                ([], _) => vec![name.clone()],
                (names, _) => names.to_vec(),
            };
            Some((name.clone(), Arc::new(DesiredCertificate { names, source })))
        };
        let mut desired = DesiredCertificates::new();
        desired.extend(self.entries.iter().filter_map(|(name, entry)| asked(name, entry)));
        desired
    }

    /// The limits of the CA that hold orders back, each with the time at which there is room.
    #[cfg(test)]
    pub fn held(&self) -> BTreeMap<String, UnixTime> {
        let mut held = BTreeMap::new();
        for it in self.entries.values().filter_map(|it| it.held.as_ref()) {
            let until = self.held_until(it);
            let earliest = held.entry(it.reason.text.clone()).or_insert(until);
            *earliest = (*earliest).min(until);
        }
        held
    }

    /// Whether the desired certificates are known and nothing is under way or due, but for questions about
    /// renewals: what else is left can only come with time.
    pub fn is_idle(&self, now: UnixTime) -> bool {
        let due = |entry: &Entry| {
            let next = entry.next_due(&self.policy);
            next.is_some_and(|next| next.task != Task::Ask && next.at <= now)
        };
        let mut entries = self.entries.values();
        !self.is_at_work()
            && entries.all(|entry| (!entry.is_busy() || entry.is_refused()) && !due(entry))
    }

    /// Whether the desired certificates are not known, or files are being read, or there are orders: it
    /// costs no look at all certificates.
    pub fn is_at_work(&self) -> bool {
        let has_changes = !self.policy.synced || self.asked.is_some() || self.changes.is_some();
        has_changes || !self.orders.is_empty() || !self.unread.is_empty()
    }

    /// Whether the CA is to be asked about a renewal and has not answered since `start`, if it answers
    /// such questions at all. A second answer about one certificate is not waited for: with many, the
    /// first would be due to be asked about again before the last has had its turn.
    pub fn awaits_advice(&self, start: UnixTime, now: UnixTime) -> bool {
        self.entries.values().any(|entry| entry.awaits_advice(&self.policy, start, now))
    }

    /// The wanted certificates that lack a name, or are missing, or have expired.
    pub fn unsatisfied(&self, now: UnixTime) -> impl Iterator<Item = &Domain> {
        let lacking = self.entries.iter().filter(move |(_, entry)| !entry.is_satisfied(now));
        lacking.map(|(name, _)| name)
    }

    /// What is next; an order whose turn has not come yet is not before the next token.
    fn next_of(&self, entry: &Entry) -> Option<Next> {
        let next = entry.next(&self.policy)?;
        let held = entry.held.as_ref().filter(|_| next.why == Why::Budget);
        Some(Next { at: held.map_or(next.at, |held| self.held_until(held)), ..next })
    }

    /// The whole plan, by name.
    pub fn plan(&self) -> impl Iterator<Item = Planned> {
        self.entries.iter().map(|(name, entry)| Planned {
            name: name.clone(),
            next: self.next_of(entry),
            state: entry.step.name(),
        })
    }

    /// Every certificate, by name.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.entries.iter().map(|(name, entry)| View { name, entry, offers: self })
    }

    /// The certificates whose names come behind this one, by name; without one, all.
    pub fn views_behind(&self, name: Option<&Domain>) -> impl Iterator<Item = View<'_>> {
        let start = name.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.entries.range::<Domain, _>((start, Bound::Unbounded));
        behind.map(|(name, entry)| View { name, entry, offers: self })
    }

    /// The certificate of this name.
    pub fn view(&self, name: &Domain) -> Option<View<'_>> {
        let (name, entry) = self.entries.get_key_value(name)?;
        Some(View { name, entry, offers: self })
    }

    /// How many certificates are in which state. It looks at every one.
    pub fn counts(&self, now: UnixTime) -> Counts {
        let mut counts = Counts::default();
        self.views().for_each(|view| counts.add(view.state(now)));
        counts
    }

    /// Grows whenever something changes.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many certificates are wanted, stored or remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is left of the CA's limits, where they are known.
    pub fn limits_left(&self, now: UnixTime) -> Vec<Left> {
        self.budget.left(now)
    }

    /// How many orders came to their end.
    pub fn order_counts(&self) -> OrderCounts {
        self.order_counts
    }
}
