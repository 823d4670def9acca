//! The scheduler as others may see it: the plan, what fails, what is held back, and whether anything is
//! left to do. Changes nothing.

use std::collections::BTreeMap;

use crate::domain::Domain;
use crate::time::UnixTime;

use super::Certificates;
use super::entry::{Entry, Held};
use super::schedule::{Planned, Task};

/// How many certificates are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Wanted, and a certificate that has not expired is stored.
    pub valid: usize,
    /// Wanted, none stored yet, none refused.
    pub pending: usize,
    /// Wanted, and the last order failed.
    pub failing: usize,
    /// Wanted, stored, and expired.
    pub expired: usize,
}

impl Certificates {
    /// How many wanted certificates' last order failed, wholly or for a name.
    pub fn failing(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_failing()).count()
    }

    /// The limits of the CA that hold orders back, each with the time at which there is room.
    pub fn held(&self) -> BTreeMap<String, UnixTime> {
        let mut held = BTreeMap::new();
        for Held { until, reason, .. } in self.entries.values().filter_map(|it| it.held.as_ref()) {
            let earliest = held.entry(reason.clone()).or_insert(*until);
            *earliest = (*earliest).min(*until);
        }
        held
    }

    /// Whether Marathon's wishes are known and nothing is under way or due: what is left can only
    /// come with time.
    pub fn is_idle(&self, now: UnixTime) -> bool {
        let due = |entry: &Entry| {
            let next = entry.next(&self.policy);
            next.is_some_and(|next| next.task != Task::Ask && next.at <= now)
        };
        self.policy.synced && self.entries.values().all(|entry| !entry.is_busy() && !due(entry))
    }

    /// The wanted certificates that lack a name, or are missing, or have expired.
    pub fn unsatisfied(&self, now: UnixTime) -> impl Iterator<Item = &Domain> {
        let lacking = self.entries.iter().filter(move |(_, entry)| !entry.is_satisfied(now));
        lacking.map(|(name, _)| name)
    }

    /// The whole plan, by name.
    pub fn plan(&self) -> impl Iterator<Item = Planned> {
        self.entries.iter().map(|(name, entry)| Planned {
            name: name.clone(),
            next: entry.next(&self.policy),
            state: entry.step.name(),
        })
    }

    /// How many certificates are in which state.
    pub fn counts(&self, now: UnixTime) -> Counts {
        let mut counts = Counts::default();
        for entry in self.entries.values().filter(|entry| entry.wish.is_some()) {
            match &entry.stored {
                Some(stored) if stored.not_after > now => counts.valid += 1,
                _ if entry.is_failing() => counts.failing += 1,
                Some(_) => counts.expired += 1,
                None => counts.pending += 1,
            }
        }
        counts
    }
}
