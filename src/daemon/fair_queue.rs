//! A queue of orders that is fair between apps. Pure bookkeeping: it never decides whether an order may
//! be made, and never looks at a clock.
//!
//! Apps take turns, one order a turn. An app has a turn in each round while it has an order that was
//! never tried; all apps whose waiting orders have each failed before share one turn in each round, and
//! take turns at that. Within an app orders that were never tried come before those that failed before,
//! and registered domains take turns. A new order joins at the end of the round.
//!
//! Bound: with N apps waiting, itself included, the first order of an app that was never tried is one of
//! the next N that are taken. Proof: every other app with such an order, and the shared turn, comes at
//! most once before it; the shared turn counts only when there is an app that has no turn of its own.
//! Nothing starves: with R apps whose orders have failed before, each of them has its turn within
//! R * (N - R + 1) orders, whatever the others have waiting.
//!
//! Each operation costs O(log n).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What decides on an order's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedOrder<'a> {
    /// The number that names it, greater than that of every order that was put in before.
    pub id: u64,
    /// The app's id.
    pub app: &'a str,
    /// The registered domain of its first name.
    pub domain: &'a str,
    /// The last order for this certificate failed.
    pub failed_before: bool,
}

/// Orders that wait.
#[derive(Debug, Default)]
pub struct FairQueue {
    apps: BTreeMap<Arc<str>, App>,
    /// Apps with an order that was never tried, by their places in the round.
    untried: BTreeMap<u64, Arc<str>>,
    /// The other apps, by their places in a round of their own.
    retried: BTreeMap<u64, Arc<str>>,
    /// The place of all `retried` together in the round.
    shared_place: u64,
    places: u64,
    /// In the order in which each app's orders are taken.
    waiting: BTreeSet<Slot>,
    by_id: BTreeMap<u64, (Slot, Box<str>)>,
    /// The rounds of the last orders of each registered domain.
    last_rounds: BTreeMap<(Arc<str>, bool, Box<str>), u64>,
}

#[derive(Debug, Default)]
struct App {
    place: u64,
    is_untried: bool,
    /// The rounds over registered domains: of orders that were never tried, and of the others.
    rounds: [u64; 2],
}

/// Where an order stands: the app, whether it failed before, the round over the app's registered domains,
/// the number.
type Slot = (Arc<str>, bool, u64, u64);

impl FairQueue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Puts an order in.
    pub fn push(&mut self, order: &QueuedOrder<'_>) {
        let known = self.apps.get_key_value(order.app).map(|(app, _)| Arc::clone(app));
        let app = known.unwrap_or_else(|| Arc::from(order.app));
        let rounds = self.apps.get(&app).map_or([0, 0], |app| app.rounds);
        let failed = order.failed_before;
        let last = self.last_rounds.entry((Arc::clone(&app), failed, order.domain.into()));
        let round = *last
            .and_modify(|round| *round = rounds[usize::from(failed)].max(*round + 1))
            .or_insert(rounds[usize::from(failed)]);
        let slot = (Arc::clone(&app), failed, round, order.id);
        self.waiting.insert(slot.clone());
        self.by_id.insert(order.id, (slot, order.domain.into()));
        self.settle(&app, false);
    }

    /// Takes the order whose turn it is.
    pub fn pop(&mut self) -> Option<u64> {
        let place = self.untried.keys().next().copied();
        let is_shared =
            !self.retried.is_empty() && place.is_none_or(|place| self.shared_place < place);
        let ring = if is_shared { &self.retried } else { &self.untried };
        let app = ring.values().next().cloned()?;
        let (_, failed, round, id) = self.first_of(&app)?.clone();
        if let Some(app) = self.apps.get_mut(&app) {
            app.rounds[usize::from(failed)] = round;
        }
        self.take_out(id);
        self.settle(&app, true);
        if is_shared {
            self.shared_place = self.next_place();
        }
        Some(id)
    }

    /// Takes an order out of turn; whether it was there.
    pub fn remove(&mut self, id: u64) -> bool {
        let Some(app) = self.take_out(id) else { return false };
        self.settle(&app, false);
        true
    }

    fn first_of(&self, app: &Arc<str>) -> Option<&Slot> {
        let from = (Arc::clone(app), false, 0, 0);
        self.waiting.range(from..).next().filter(|(of, ..)| of == app)
    }

    fn next_place(&mut self) -> u64 {
        self.places += 1;
        self.places
    }

    /// Its app.
    fn take_out(&mut self, id: u64) -> Option<Arc<str>> {
        let (slot, domain) = self.by_id.remove(&id)?;
        self.waiting.remove(&slot);
        let (app, failed, round, _) = slot;
        let key = (Arc::clone(&app), failed, domain);
        if self.last_rounds.get(&key) == Some(&round) {
            self.last_rounds.remove(&key);
        }
        Some(app)
    }

    /// Puts an app where it belongs after its orders have changed: at the end of the round when it has
    /// had its turn, or belongs to another one than before.
    fn settle(&mut self, app: &Arc<str>, had_turn: bool) {
        let first = self.first_of(app).map(|(_, failed, ..)| !failed);
        let before = self.apps.get(app).map(|app| (app.is_untried, app.place));
        if let (Some((was_untried, _)), Some(is_untried)) = (before, first)
            && was_untried == is_untried
            && !had_turn
        {
            return;
        }
        if let Some((was_untried, place)) = before {
            let ring = if was_untried { &mut self.untried } else { &mut self.retried };
            ring.remove(&place);
        }
        let Some(is_untried) = first else {
            self.apps.remove(app);
            return;
        };
        let place = self.next_place();
        if !is_untried && self.retried.is_empty() {
            self.shared_place = place;
        }
        let ring = if is_untried { &mut self.untried } else { &mut self.retried };
        ring.insert(place, Arc::clone(app));
        let entry = self.apps.entry(Arc::clone(app)).or_default();
        (entry.place, entry.is_untried) = (place, is_untried);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut FairQueue, id: u64, app: &str, domain: &str, failed_before: bool) {
        queue.push(&QueuedOrder { id, app, domain, failed_before });
    }

    fn drain(queue: &mut FairQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn apps_take_turns() {
        let mut queue = FairQueue::default();
        (0..4).for_each(|id| push(&mut queue, id, "/many", "many.org", false));
        push(&mut queue, 10, "/one", "one.org", false);
        push(&mut queue, 11, "/two", "two.org", false);
        push(&mut queue, 12, "/two", "two.org", false);
        assert_eq!(queue.len(), 7);
        assert_eq!(drain(&mut queue), [0, 10, 11, 1, 12, 2, 3]);
        assert!(queue.is_empty() && queue.apps.is_empty() && queue.last_rounds.is_empty());
    }

    #[test]
    fn registered_domains_of_an_app_take_turns() {
        let mut queue = FairQueue::default();
        (0..3).for_each(|id| push(&mut queue, id, "/a", "x.org", false));
        (3..5).for_each(|id| push(&mut queue, id, "/a", "y.org", false));
        assert_eq!(queue.pop(), Some(0));
        push(&mut queue, 5, "/a", "z.org", false);
        assert_eq!(drain(&mut queue), [3, 5, 1, 4, 2]);
    }

    #[test]
    fn what_failed_before_shares_one_turn_a_round() {
        let mut queue = FairQueue::default();
        for id in 0..3 {
            push(&mut queue, id, "/bad", "bad.org", true);
            push(&mut queue, 10 + id, "/worse", "worse.org", true);
        }
        (20..24).for_each(|id| push(&mut queue, id, "/new", "new.org", false));
        (30..32).for_each(|id| push(&mut queue, id, "/other", "other.org", false));
        assert_eq!(drain(&mut queue), [0, 20, 30, 10, 21, 31, 1, 22, 11, 23, 2, 12]);
    }

    #[test]
    fn an_app_tries_what_is_new_first() {
        let mut queue = FairQueue::default();
        push(&mut queue, 0, "/a", "x.org", true);
        push(&mut queue, 1, "/b", "y.org", false);
        push(&mut queue, 2, "/a", "x.org", false);
        assert_eq!(drain(&mut queue), [1, 2, 0]);
    }

    #[test]
    fn what_is_removed_leaves_nothing() {
        let mut queue = FairQueue::default();
        (0..6).for_each(|id| push(&mut queue, id, ["/a", "/b"][id as usize % 2], "x.org", id > 3));
        assert!(queue.remove(0) && !queue.remove(0));
        assert!(queue.remove(2), "only an order that failed is left of the app");
        assert_eq!(drain(&mut queue), [1, 4, 3, 5]);
        assert!(queue.apps.is_empty() && queue.by_id.is_empty() && queue.last_rounds.is_empty());
        assert!(queue.untried.is_empty() && queue.retried.is_empty() && queue.waiting.is_empty());
        assert_eq!(queue.pop(), None);
    }

    /// The bounds of the module's documentation, whatever comes, goes and is taken meanwhile.
    #[test]
    fn no_app_waits_longer_than_there_are_apps() {
        let mut chance = 7_u64;
        let mut draw = |below: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (chance >> 33) % below
        };
        let mut queue = FairQueue::default();
        // By app: how many were taken since its first order was put in, and the bound at that time.
        let mut first: BTreeMap<String, (usize, usize, u64)> = BTreeMap::new();
        let mut orders: BTreeMap<u64, (String, bool)> = BTreeMap::new();
        let mut met = 0;
        for id in 0..20_000 {
            let app = format!("/{}", draw(12));
            let is_new = !orders.values().any(|(of, _)| *of == app);
            let failed = draw(3) > 0;
            push(&mut queue, id, &app, &format!("{}.org", draw(4)), failed);
            orders.insert(id, (app.clone(), failed));
            if is_new && !failed {
                let apps: BTreeSet<&String> = orders.values().map(|(app, _)| app).collect();
                first.insert(app, (0, apps.len(), id));
            }
            if draw(10) == 0 {
                let any = orders.keys().nth(draw(orders.len() as u64) as usize).copied();
                let any = any.expect("there is one");
                assert!(queue.remove(any));
                first.retain(|_, (.., id)| *id != any);
                orders.remove(&any);
            }
            let times = if draw(50) == 0 { orders.len() as u64 } else { draw(3) };
            for _ in 0..times {
                let Some(taken) = queue.pop() else { break };
                let (app, failed) = orders.remove(&taken).expect("it was put in");
                first.values_mut().for_each(|(taken, ..)| *taken += 1);
                if let Some((taken, bound, _)) = first.remove(&app) {
                    assert!(taken <= bound, "{app} waits for {taken}, with {bound} apps");
                    met += usize::from(taken == bound);
                }
                let left = orders.values().any(|(of, failed)| *of == app && !failed);
                assert!(!failed || !left, "an order that failed came first");
            }
            assert_eq!(queue.len(), orders.len());
        }
        assert!(met > 10, "the bound was met {met} times");
    }
}
