//! How far this machine's clock is off, compared with the CA's `Date` and with the newest certificate file.
//! A machine without a battery starts in 1970, or years ahead. Where ours is ahead, renewals are planned by
//! the CA's clock, and nothing is archived before the two agree. Arithmetic only; never reads a clock.

use std::time::Duration;

use crate::context::Context;
use crate::daemon::model::CLOCKS_APART_MAX;
use crate::time::UnixTime;

use super::Certificates;

/// A difference that has changed by no more than this, in milliseconds, is the same one.
const SLACK_MS: u64 = 60_000;

/// What is known of our clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClockOffset {
    /// The CA has not answered in this run, or its own clock is wrong.
    #[default]
    Unknown,
    /// It is ahead of the CA's by this number of milliseconds; behind it if negative.
    AheadMs(i64),
}

impl ClockOffset {
    /// Whether it is known to be right.
    pub(super) fn agrees(self) -> bool {
        match self {
            ClockOffset::Unknown => false,
            ClockOffset::AheadMs(ms) => {
                Duration::from_millis(ms.unsigned_abs()) <= CLOCKS_APART_MAX
            }
        }
    }

    /// Whether the difference is the same, but for the time that an answer takes.
    fn is_about(self, other: ClockOffset) -> bool {
        match (self, other) {
            (ClockOffset::AheadMs(one), ClockOffset::AheadMs(other)) => {
                one.abs_diff(other) <= SLACK_MS
            }
            (one, other) => one == other,
        }
    }

    /// When, by our clock, a renewal that is planned for `at` is due: where ours is ahead, when the CA's
    /// shows that. Never sooner: a CA whose own clock is ahead would make every certificate due at once,
    /// and a clock that is far behind believes no server's certificate anyway.
    pub(super) fn on_ours(self, at: UnixTime) -> UnixTime {
        match self {
            ClockOffset::AheadMs(ms) if ms > 0 && !self.agrees() => {
                UnixTime::from_millis(at.as_millis().saturating_add(ms))
            }
            _ => at,
        }
    }

    /// After our clock was set forward by this number of milliseconds, or back. Where the clocks agreed, it
    /// may have been corrected, as after a virtual machine was paused: the CA is to be asked again.
    pub(super) fn stepped(self, by_ms: i64) -> ClockOffset {
        let ClockOffset::AheadMs(ms) = self else { return ClockOffset::Unknown };
        let stepped = ClockOffset::AheadMs(ms.saturating_add(by_ms));
        if self.agrees() && !stepped.agrees() { ClockOffset::Unknown } else { stepped }
    }
}

impl Certificates {
    /// Takes in by how many milliseconds our clock is ahead of the CA's. A CA whose clock shows a time before
    /// our newest certificate was issued is not believed.
    pub fn clock_compared(&mut self, cx: &mut Context<'_>, ahead_ms: i64) {
        // The comparison is by the clock as it is now: a step of it is no change to that.
        self.check_clock(cx);
        let mut clock = ClockOffset::AheadMs(ahead_ms);
        if self.policy.clock.is_about(clock) {
            return;
        }
        if !clock.agrees() {
            let theirs = UnixTime::from_millis(cx.now.wall.as_millis().saturating_sub(ahead_ms));
            let mut stored = self.entries.values().filter_map(|entry| entry.stored.as_ref());
            if stored.any(|stored| stored.not_before > theirs.plus(CLOCKS_APART_MAX)) {
                clock = ClockOffset::Unknown;
            }
        }
        if self.policy.clock != clock {
            self.policy.clock = clock;
            for name in self.entries.keys().cloned().collect::<Vec<_>>() {
                self.forget_failure(cx.now.wall, &name);
                self.reindex(&name);
            }
        }
    }

    /// Whether our clock agrees with the CA's, so that what has expired by it may be archived or lose its
    /// key.
    pub fn clock_agrees(&self) -> bool {
        self.policy.clock.agrees()
    }
}
