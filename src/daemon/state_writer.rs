//! When the memory is written: at once for what something waits for, else together with what comes
//! within a while. Never knows what is in it.

use std::time::Duration;

use crate::daemon::model::Urgency;
use crate::keys::{Keys, jittered};
use crate::time::Instant;

/// What nothing waits for is written after this; losing it costs a question to the CA.
const LAZY_PAUSE: Duration = Duration::from_secs(600);
/// Urgent writes are no closer to each other than this: many orders side by side share them.
const SPACING: Duration = Duration::from_millis(20);
/// A write is followed by a pause of so many times its length, so that it never takes more than a tenth of
/// the time, however large the memory and slow the disk are;
const REST: u32 = 9;
/// and by no longer one, since orders wait for it.
const REST_MAX: Duration = Duration::from_millis(500);
/// The pause after a write that the disk did not take.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// The state of `state.json`, compared with what it should be.
#[derive(Debug, Default)]
pub(super) struct StateJournal {
    /// When it is to be written, if it may be then; nothing when it is as it should be.
    due: Option<Instant>,
    /// Writes that are on their way.
    under_way: usize,
    /// Writes so far.
    revision: u64,
    /// When the last one was begun.
    begun: Option<Instant>,
    /// When the next one may begin.
    rested: Option<Instant>,
}

impl StateJournal {
    /// The memory has changed.
    pub(super) fn touch(&mut self, now: Instant, urgency: Urgency) {
        let at = match urgency {
            Urgency::Lazy => now + LAZY_PAUSE,
            Urgency::Now => now,
        };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether it is to be written now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|at| at <= now)
    }

    /// It is being written as it stands; the number of this writing.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        self.due = None;
        self.begun = Some(now);
        self.rested = Some(now + SPACING);
        self.under_way += 1;
        self.revision += 1;
        self.revision
    }

    /// A write that was on its way is over.
    pub(super) fn ended(&mut self, now: Instant, keys: &mut dyn Keys, worked: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        let length = self.begun.map_or(Duration::ZERO, |begun| now.since(begun));
        let rested = now + length.saturating_mul(REST).min(REST_MAX);
        self.rested = self.rested.max(Some(rested));
        if !worked {
            // What waits for it is put off for as long.
            self.due = Some(now + jittered(keys, FAILED_PAUSE));
        }
    }

    /// Whether the memory is on the disk as it is.
    pub(super) fn is_clean(&self) -> bool {
        self.due.is_none() && self.under_way == 0
    }

    /// When there is something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.due.filter(|_| self.under_way == 0)?;
        Some(self.rested.map_or(due, |rested| due.max(rested)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn what_is_waited_for_goes_at_once_and_the_rest_together() {
        let mut journal = StateJournal::default();
        let start = Instant::START;
        journal.touch(start, Urgency::Lazy);
        journal.touch(start + LAZY_PAUSE / 2, Urgency::Lazy);
        assert!(!journal.is_due(start + (LAZY_PAUSE - SPACING)));
        assert!(journal.is_due(start + LAZY_PAUSE));
        let first = journal.begin(start + LAZY_PAUSE);
        // One write at a time: what changes meanwhile is a write of its own.
        journal.touch(start + LAZY_PAUSE, Urgency::Now);
        assert!(!journal.is_due(start + LAZY_PAUSE) && !journal.is_clean());
        assert!(!journal.is_due(start + LAZY_PAUSE * 2), "however long the first one takes");
        let mut bench = Bench::new();
        journal.ended(start + LAZY_PAUSE * 2, bench.cx().keys, true);
        let later = start + LAZY_PAUSE * 2 + REST_MAX;
        assert!(journal.is_due(later));
        assert!(journal.begin(later) > first);
        journal.ended(later, bench.cx().keys, true);
        assert!(journal.is_clean() && journal.poll_timeout().is_none());
    }

    #[test]
    fn urgent_writes_keep_their_distance() {
        let (mut journal, start) = (StateJournal::default(), Instant::START);
        journal.touch(start, Urgency::Now);
        assert!(journal.is_due(start), "the first one waits for nothing");
        journal.begin(start);
        journal.ended(start, Bench::new().cx().keys, true);
        journal.touch(start, Urgency::Now);
        assert_eq!(journal.poll_timeout(), Some(start + SPACING));
        journal.touch(start + SPACING * 3, Urgency::Now);
        assert_eq!(journal.poll_timeout(), Some(start + SPACING));
    }

    #[test]
    fn a_long_write_is_followed_by_a_longer_rest_but_not_for_ever() {
        let mut bench = Bench::new();
        let [short, long] = [Duration::from_millis(5), Duration::from_secs(60)];
        for (length, rest) in [(short, short * REST), (long, REST_MAX)] {
            for touched_meanwhile in [true, false] {
                let (mut journal, start) = (StateJournal::default(), Instant::START);
                journal.begin(start);
                let end = start + length;
                if touched_meanwhile {
                    journal.touch(start, Urgency::Now);
                }
                journal.ended(end, bench.cx().keys, true);
                journal.touch(end, Urgency::Now);
                assert_eq!(journal.poll_timeout(), Some(end + rest), "{touched_meanwhile}");
            }
        }
    }

    #[test]
    fn what_the_disk_did_not_take_is_written_again() {
        let (mut journal, mut bench) = (StateJournal::default(), Bench::new());
        journal.touch(Instant::START, Urgency::Now);
        journal.begin(Instant::START);
        journal.ended(Instant::START, bench.cx().keys, false);
        let again = journal.poll_timeout().expect("a time for the next try");
        let pause = again.since(Instant::START);
        assert!(pause >= FAILED_PAUSE / 2 && pause <= FAILED_PAUSE * 2, "{pause:?}");
        assert!(journal.is_due(again));
    }
}
