//! What the page and `/health` say of all certificates together: counts, limits, and which certificates need
//! attention first. Refreshed periodically, in slices, and shared by all requests, so that a request costs a
//! bounded time however many certificates there are. Must never look at more than a slice at once.

use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use crate::daemon::budget::Left;
use crate::daemon::certificates::{Certificates, Counts, State, View};
use crate::domain::Domain;
use crate::time::{Instant, Now, UnixTime};

use super::FEW;

/// Certificates looked at for one request at most.
pub(super) const SLICE: usize = 10_000;
/// Certificates that the page lists at most, over all its pages.
pub(super) const LISTED_MAX: usize = 1000;
/// Limits of the CA that are shown: the scarcest.
const LIMITS_SHOWN_MAX: usize = 8;
/// Reasons why orders are held back that are told one by one.
const HELD_MAX: usize = 20;
/// With more than [`FEW`] certificates, an overview of a state that has changed since is used for so long …
const PAUSE: Duration = Duration::from_secs(1);
/// … and one of a state in which nothing but the time has changed.
const AGE_MAX: Duration = Duration::from_secs(60);

/// The certificates as they were when they were last looked through.
#[derive(Debug, Default)]
pub struct Overview {
    shown: Summary,
    /// The next one, as far as it is.
    pass: Option<Summary>,
    /// When the last one was begun.
    begun: Option<Instant>,
    /// The revision of the certificates then.
    revision: u64,
}

/// What one look through the certificates finds.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    pub(super) counts: Counts,
    /// Those that need attention first, in their order.
    pub(super) first: Vec<Domain>,
    /// The scarcest limits of the CA.
    pub(super) limits: Vec<Left>,
    /// The limits of the CA that hold orders back, each with the time at which there is room.
    pub(super) held: BTreeMap<String, UnixTime>,
    /// How many limits more there are.
    pub(super) more_held: usize,
    /// How many certificates were looked at, and how many there were at the end.
    pub(super) seen: usize,
    pub(super) of: usize,
    selection: Selection,
    /// The last one that was looked at.
    last: Option<Domain>,
}

/// Some certificates, those that need attention before all others.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    kept: BinaryHeap<(Attention, Domain)>,
    /// How many there were.
    pub(super) count: usize,
}

/// Less is more urgent.
pub(super) type Attention = (u8, i64);

impl Selection {
    /// Takes in one more.
    pub(super) fn add(&mut self, now: UnixTime, view: &View<'_>) {
        self.count += 1;
        let entry = (attention(now, view), view.name());
        if self.kept.len() >= LISTED_MAX {
            if self.kept.peek().is_some_and(|(key, name)| (*key, name) <= entry) {
                return;
            }
            self.kept.pop();
        }
        self.kept.push((entry.0, entry.1.clone()));
    }

    /// The names, in their order.
    pub(super) fn into_names(self) -> Vec<Domain> {
        self.kept.into_sorted_vec().into_iter().map(|(_, name)| name).collect()
    }
}

impl Overview {
    /// Looks at the certificates once more where that is due; at no more than a slice of them.
    pub fn refresh(&mut self, now: Now, certificates: &Certificates) {
        if self.pass.is_none() {
            if self.is_fresh(now.mono, certificates) {
                return;
            }
            (self.begun, self.revision) = (Some(now.mono), certificates.revision());
        }
        let mut pass = self.pass.take().unwrap_or_default();
        if pass.take_slice(now.wall, certificates) {
            pass.finish(now.wall, certificates);
            self.shown = pass;
            return;
        }
        // Before the first one is done, what there is of it has to do.
        if self.shown.seen < self.shown.of || self.shown.of == 0 {
            let mut so_far = pass.clone();
            so_far.finish(now.wall, certificates);
            self.shown = so_far;
        }
        self.pass = Some(pass);
    }

    fn is_fresh(&self, now: Instant, certificates: &Certificates) -> bool {
        let age_max = match self.revision == certificates.revision() {
            // Within one iteration nothing changes.
            true if self.begun == Some(now) => return true,
            true => AGE_MAX,
            false => PAUSE,
        };
        certificates.len() > FEW && self.begun.is_some_and(|at| now.since(at) < age_max)
    }

    pub(super) fn summary(&self) -> &Summary {
        &self.shown
    }

    /// How many wanted certificates' last order failed, wholly or for a name.
    pub fn failing(&self) -> usize {
        self.shown.counts.failing
    }

    /// What holds orders back, a sentence each.
    pub fn held(&self) -> impl Iterator<Item = String> {
        let held = self.shown.held.iter();
        let held = held.map(|(limit, until)| format!("orders: held back until {until} by {limit}"));
        let more = Some(self.shown.more_held).filter(|more| *more > 0);
        held.chain(more.map(|more| format!("orders: held back by {more} more limits")))
    }
}

impl Summary {
    /// Looks at the next certificates; whether these were the last.
    fn take_slice(&mut self, now: UnixTime, certificates: &Certificates) -> bool {
        let (before, last) = (self.seen, self.last.take());
        for view in certificates.views_behind(last.as_ref()).take(SLICE) {
            self.seen += 1;
            self.counts.add(view.state(now));
            self.selection.add(now, &view);
            if let Some((reason, until)) = view.held() {
                self.hold(&reason.text, until);
            }
            if self.seen - before == SLICE {
                self.last = Some(view.name().clone());
            }
        }
        self.seen - before < SLICE
    }

    fn hold(&mut self, limit: &str, until: UnixTime) {
        if let Some(earliest) = self.held.get_mut(limit) {
            *earliest = until.min(*earliest);
        } else if self.held.len() < HELD_MAX {
            self.held.insert(limit.to_string(), until);
        } else {
            self.more_held += 1;
        }
    }

    /// Makes what was found ready to be shown.
    fn finish(&mut self, now: UnixTime, certificates: &Certificates) {
        self.first = std::mem::take(&mut self.selection).into_names();
        self.limits = certificates.limits_left(now);
        self.limits.truncate(LIMITS_SHOWN_MAX);
        self.of = certificates.len();
    }
}

/// What serves nothing, what fails, what is behind its time, what comes next.
fn attention(now: UnixTime, view: &View<'_>) -> Attention {
    let renewal = view.renewal();
    let rank = match (view.state(now), view.is_in_service(now)) {
        (State::Unwanted, _) => 5,
        (State::Failing, false) => 0,
        (_, false) => 1,
        (State::Failing, true) => 2,
        // Its renewal should have begun.
        _ if renewal.is_some_and(|at| at <= now) => 3,
        _ => 4,
    };
    let next = renewal.or(view.stored().map(|stored| stored.not_after));
    (rank, next.map_or(i64::MIN, UnixTime::as_millis))
}
