//! Challenges that an earlier run, or another instance, has left published: the orders that they are for
//! are gone on with, and the CA may look at them at any moment. Never publishes any.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::acme::order::ORDER_DEADLINE;
use crate::time::Instant;

/// Nothing is left published for longer: by then the orders that were found are over or given up.
const LEFT_OVERS_TIME: Duration = ORDER_DEADLINE;

/// The tokens, until their orders take them over or are over.
#[derive(Debug, Default)]
pub(super) struct LeftOvers {
    tokens: BTreeSet<String>,
    until: Option<Instant>,
}

impl LeftOvers {
    /// These were found.
    pub(super) fn found(now: Instant, tokens: &[String]) -> LeftOvers {
        let tokens: BTreeSet<String> = tokens.iter().cloned().collect();
        let until = (!tokens.is_empty()).then(|| now + LEFT_OVERS_TIME);
        LeftOvers { tokens, until }
    }

    /// An order of this run publishes it or withdraws it: it is that one's from now on.
    pub(super) fn taken(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    /// Whether it is one of them.
    pub(super) fn contains(&self, token: &str) -> bool {
        self.tokens.contains(token)
    }

    /// Whether there are none any more.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Those that are to be withdrawn now: all of them, once nothing can need them any more.
    pub(super) fn take_needless(&mut self, now: Instant, needed: bool) -> BTreeSet<String> {
        if needed && self.until.is_some_and(|until| until > now) {
            return BTreeSet::new();
        }
        self.until = None;
        std::mem::take(&mut self.tokens)
    }

    /// When they are withdrawn at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.until.filter(|_| !self.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> LeftOvers {
        LeftOvers::found(Instant::START, &["a".to_string(), "b".to_string()])
    }

    #[test]
    fn they_stay_while_an_order_may_need_them_but_not_for_ever() {
        let mut left = some();
        assert!(left.take_needless(Instant::START, true).is_empty() && left.contains("a"));
        let end = left.poll_timeout().expect("an end");
        assert_eq!(end.since(Instant::START), LEFT_OVERS_TIME);
        assert_eq!(left.take_needless(end, true).len(), 2);
        assert!(left.is_empty() && left.poll_timeout().is_none());
    }

    #[test]
    fn they_go_at_once_when_no_order_is_left() {
        let mut left = some();
        left.taken("a");
        assert_eq!(left.take_needless(Instant::START, false), ["b".to_string()].into());
        assert!(left.is_empty());
    }

    #[test]
    fn there_may_be_none() {
        let mut left = LeftOvers::found(Instant::START, &[]);
        assert!(left.is_empty() && left.poll_timeout().is_none());
        assert!(left.take_needless(Instant::START, true).is_empty());
    }
}
