//! Which tokens other instances have published, as the last listing of `challenges/` has it. One listing
//! answers every request that waits for it, so that requests for tokens that do not exist cost a bounded
//! number of reads, however many come.
//!
//! A CA may ask as soon as a token is published. So a token counts as missing only by a listing that was
//! requested after the request for the token had come: the listing is read after that.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Instant;

/// The shortest time between two listings.
pub(super) const LISTING_PAUSE: Duration = Duration::from_millis(100);

/// `Idle → Wanted → Reading → Idle …`; while `Reading`, another one may be wanted.
#[derive(Debug, Default)]
pub(super) struct Listing {
    tokens: BTreeSet<String>,
    /// Listings that were requested so far.
    requested: u64,
    /// The number of the last one that was read.
    read: u64,
    /// A request waits for a listing that is not requested yet.
    is_wanted: bool,
    /// Before this time no other is requested.
    next_at: Option<Instant>,
}

/// What is known of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was published when the last listing was read.
    Listed,
    /// It was not published when the request for it had come.
    Missing,
    /// Only another listing can tell.
    Nothing,
}

impl Listing {
    /// How many listings were requested so far. One with a higher number is read later than now.
    pub(super) fn requested(&self) -> u64 {
        self.requested
    }

    /// What is known of a token that was asked for when so many listings were requested. Where that is
    /// nothing, another listing is wanted.
    pub(super) fn find(&mut self, token: &str, requested: u64) -> Known {
        if self.tokens.contains(token) {
            Known::Listed
        } else if self.read > requested {
            Known::Missing
        } else {
            self.is_wanted |= self.requested <= requested;
            Known::Nothing
        }
    }

    /// Whether a listing is to be read now; it is requested then.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let is_due = self.poll_timeout().is_some_and(|at| at <= now);
        if is_due {
            self.is_wanted = false;
            self.requested += 1;
            self.next_at = Some(now + LISTING_PAUSE);
        }
        is_due
    }

    /// When the next listing is to be read.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_reading = self.read < self.requested;
        (self.is_wanted && !is_reading).then_some(self.next_at.unwrap_or(Instant::START))
    }

    /// Takes in the listing that was requested last.
    pub(super) fn loaded(&mut self, tokens: Vec<String>) {
        self.tokens.clear();
        self.tokens.extend(tokens);
        self.read = self.requested;
    }

    /// The file of a listed token is not there any more.
    pub(super) fn forget(&mut self, token: &str) {
        self.tokens.remove(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_missing_only_by_a_listing_that_was_requested_after_the_request() {
        let (mut listing, mut now) = (Listing::default(), Instant::START);
        assert_eq!((listing.poll(now), listing.poll_timeout()), (false, None), "nobody asks");
        let first = listing.requested();
        assert_eq!(listing.find("a", first), Known::Nothing);
        assert!(listing.poll(now) && !listing.poll(now));
        // It comes while the listing is read, which may have been before.
        let second = listing.requested();
        assert_eq!(listing.find("b", second), Known::Nothing);
        assert_eq!(listing.poll_timeout(), None, "one at a time");
        listing.loaded(vec!["c".into()]);
        assert_eq!(listing.find("a", first), Known::Missing);
        assert_eq!(listing.find("c", first), Known::Listed);
        assert_eq!(listing.find("b", second), Known::Nothing);
        assert_eq!(listing.poll_timeout(), Some(now + LISTING_PAUSE));
        assert!(!listing.poll(now));
        now = now + LISTING_PAUSE;
        assert!(listing.poll(now));
        listing.loaded(vec!["b".into()]);
        assert_eq!(
            (listing.find("b", second), listing.find("c", second)),
            (Known::Listed, Known::Missing)
        );
        listing.forget("b");
        assert_eq!(listing.find("b", second), Known::Missing);
        assert_eq!(listing.poll_timeout(), None);
    }
}
