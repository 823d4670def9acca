//! Challenges that an earlier run, or another instance, has left published: the orders that they are for
//! are gone on with, and the CA may look at them at any moment. Never publishes any.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::acme::order::ORDER_DEADLINE;
use crate::time::Instant;

/// So long they stay in any case. A challenge may have been answered by both runs, and then a CA may look
/// twice: the second look comes when the first has passed and the order is over.
const LOOKING_TIME: Duration = Duration::from_secs(30);
/// No longer than this they stay: the orders that were found are over by then, or given up.
const LEFT_OVERS_TIME: Duration = ORDER_DEADLINE;

/// The tokens.
#[derive(Debug, Default)]
pub(super) struct StaleChallenges {
    tokens: BTreeSet<String>,
    since: Option<Instant>,
}

impl StaleChallenges {
    /// These were found.
    pub(super) fn found(now: Instant, tokens: &[String]) -> StaleChallenges {
        let tokens: BTreeSet<String> = tokens.iter().cloned().collect();
        StaleChallenges { since: (!tokens.is_empty()).then_some(now), tokens }
    }

    /// Whether it is one of them.
    pub(super) fn contains(&self, token: &str) -> bool {
        self.tokens.contains(token)
    }

    /// Whether there are none any more.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// All of them, when they are to stay no longer; they may be `needed` by orders that are not over,
    /// which is asked only when it decides.
    pub(super) fn take_needless(
        &mut self,
        now: Instant,
        needed: impl FnOnce() -> bool,
    ) -> BTreeSet<String> {
        let age = self.since.map_or(LEFT_OVERS_TIME, |since| now.since(since));
        if age < LOOKING_TIME || (age < LEFT_OVERS_TIME && needed()) {
            return BTreeSet::new();
        }
        self.take()
    }

    /// All of them.
    pub(super) fn take(&mut self) -> BTreeSet<String> {
        self.since = None;
        std::mem::take(&mut self.tokens)
    }

    /// When they may be withdrawn, or are to be at the latest.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let since = self.since?;
        [LOOKING_TIME, LEFT_OVERS_TIME].map(|time| since + time).into_iter().find(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::START;

    fn some() -> StaleChallenges {
        StaleChallenges::found(START, &["a".to_string(), "b".to_string()])
    }

    #[test]
    fn they_stay_while_an_order_may_need_them_but_not_for_ever() {
        let mut left = some();
        let may = left.poll_timeout(START).expect("a time");
        assert_eq!(may.since(START), LOOKING_TIME);
        assert!(left.take_needless(may, || true).is_empty() && left.contains("a"));
        let end = left.poll_timeout(may).expect("an end");
        assert_eq!(end.since(START), LEFT_OVERS_TIME);
        assert_eq!(left.take_needless(end, || true).len(), 2);
        assert!(left.is_empty() && left.poll_timeout(end).is_none());
    }

    #[test]
    fn when_no_order_is_left_they_stay_for_a_second_look() {
        let mut left = some();
        assert!(left.take_needless(START, || false).is_empty());
        let may = START + LOOKING_TIME;
        assert_eq!(left.take_needless(may, || false), ["a".to_string(), "b".to_string()].into());
        assert!(left.is_empty());
    }

    #[test]
    fn there_may_be_none() {
        let mut left = StaleChallenges::found(START, &[]);
        assert!(left.is_empty() && left.poll_timeout(START).is_none());
        assert!(left.take_needless(START, || true).is_empty());
    }
}
