//! How many descriptors the process may have open, and how many of them the listener leaves alone.
//! Never closes one: that is their owners' business.

use std::fmt;
use std::os::fd::RawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::log::Record;
use crate::machine::ACCEPTED_MAX;

use super::conn::linger::LINGERING_MAX;

/// Descriptors that the listener does not take: for the disk, for name lookups, and for connections of
/// our own. A daemon that cannot open a file or dial renews nothing, and strangers at the listener must
/// not be able to bring it there.
const KEPT: u64 = 64;
/// What the program can use: every connection that it accepts, those that linger, as many as are kept
/// back, and again as many for what is open all the time.
const WANTED: u64 = (ACCEPTED_MAX + LINGERING_MAX) as u64 + 2 * KEPT;

/// The process's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    limit: u64,
    /// Those below are open for as long as the process lives.
    base: u64,
}

impl Descriptors {
    /// Raises the soft limit to what the program can use, as far as the hard limit lets it.
    pub fn claim() -> Descriptors {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = maximum.unwrap_or(WANTED).min(WANTED);
        let raised = Rlimit { current: Some(wanted), maximum };
        let limit = match current {
            // Where it is refused, the program lives with what it has.
            Some(current) if current < wanted => match setrlimit(Resource::Nofile, raised) {
                Ok(()) => wanted,
                Err(_) => current,
            },
            current => current.unwrap_or(u64::MAX),
        };
        Descriptors { limit, base: 0 }
    }

    /// The process has opened what stays open, `newest` last: of few descriptors, only the others are shared.
    pub(super) fn started(self, newest: RawFd) -> Descriptors {
        Descriptors { base: u64::try_from(newest).map_or(0, |newest| newest + 1), ..self }
    }

    /// As if so many were allowed.
    #[cfg(test)]
    pub(super) fn limited_to(limit: u64) -> Descriptors {
        Descriptors { limit, base: 0 }
    }

    /// Whether only the kept ones are left, once `newest` was given out: the system gives the lowest
    /// free number (accept(2)), so that all below it are in use.
    pub(super) fn are_short(self, newest: RawFd) -> bool {
        let kept = KEPT.min(self.limit.saturating_sub(self.base) / 2);
        u64::try_from(newest).is_ok_and(|newest| newest >= self.limit - kept)
    }

    /// What an operator should know of it.
    pub(super) fn remark(self) -> Option<Record> {
        let line = Record::warn("main", "few descriptors are allowed, idle connections go early");
        (self.limit < WANTED).then(|| line.with("limit", self.limit).with("wanted", WANTED))
    }
}

impl fmt::Display for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} open files are allowed", self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_half_of_few() {
        let many = Descriptors { limit: 1024, base: 12 };
        assert!(!many.are_short(959) && many.are_short(960));
        let few = Descriptors { limit: 20, base: 0 };
        assert!(!few.are_short(9) && few.are_short(10));
        let few = few.started(9);
        assert!(
            !few.are_short(14) && few.are_short(15),
            "half of those that are not in use anyway"
        );
        assert!(Descriptors { limit: 8, base: 10 }.are_short(11));
        assert!(!Descriptors { limit: u64::MAX, base: 0 }.are_short(RawFd::MAX));
    }

    #[test]
    fn only_a_low_limit_is_worth_a_line() {
        assert_eq!(Descriptors { limit: WANTED, base: 0 }.remark(), None);
        assert!(Descriptors { limit: WANTED - 1, base: 0 }.remark().is_some());
    }
}
