//! The lease on the storage, seen from both sides. Whoever has it shows every [`BEAT`] that it lives; who
//! shows nothing for a [`LEASE`] has lost it to whoever waits for it. A holder that was frozen cannot know
//! what the others did meanwhile, so it counts on nothing once [`HOLD`] is over, which is before they act.

use std::time::Duration;

use crate::survey::LEASE;
use crate::time::Instant;

/// The holder shows that it lives this often.
pub const BEAT: Duration = Duration::from_secs(2);
/// A beat entitles its writer to act for so long: less than [`LEASE`] by more than it takes to carry out
/// what was decided at the last moment.
pub const HOLD: Duration = Duration::from_secs(7);
/// Between taking the lock from another instance and acting: longer than [`BEAT`], so that whoever took it
/// too, at the same moment, has found out by its next beat that it was not the last.
pub const TAKEOVER_GRACE: Duration = Duration::from_secs(3);

/// The lease that this instance has.
#[derive(Debug)]
pub(super) struct Lease {
    /// When the youngest of the answered beats was asked for: others saw it then or later.
    confirmed: Instant,
    beat_at: Instant,
}

impl Lease {
    /// One that was confirmed by a beat asked for at that time.
    pub(super) fn new(confirmed: Instant) -> Lease {
        Lease { confirmed, beat_at: confirmed + BEAT }
    }

    /// A beat that was asked for then was answered.
    pub(super) fn confirm(&mut self, asked: Instant) {
        self.confirmed = self.confirmed.max(asked);
    }

    /// Whether it may be another's by now.
    pub(super) fn has_lapsed(&self, now: Instant) -> bool {
        is_over(self.confirmed, now)
    }

    /// Whether a beat is due; the next one is planned then.
    pub(super) fn beat(&mut self, now: Instant) -> bool {
        let due = self.beat_at <= now;
        if due {
            self.beat_at = now + BEAT;
        }
        due
    }

    /// When the next beat is due.
    pub(super) fn beat_at(&self) -> Instant {
        self.beat_at
    }
}

/// Whether what was asked for at that time says nothing any more about now.
pub(super) fn is_over(asked: Instant, now: Instant) -> bool {
    now.since(asked) > HOLD
}

/// What is known of another instance's lease.
#[derive(Debug, Default)]
pub(super) struct LeaseObserver {
    /// The line in `lock`, and since when it has not changed.
    line: Option<(String, Instant)>,
    /// Whether it was seen to change.
    lives: bool,
}

impl LeaseObserver {
    /// The line was looked at.
    pub(super) fn seen(&mut self, now: Instant, line: &str) {
        match &self.line {
            Some((known, _)) if known == line => {}
            before => {
                self.lives = before.is_some();
                self.line = Some((line.to_string(), now));
            }
        }
    }

    /// Whether it was seen to beat.
    pub(super) fn lives(&self) -> bool {
        self.lives
    }

    /// The line of an instance that has lost its lease. One that wrote none never had any: it is of an
    /// older version, or about to begin or to end.
    pub(super) fn expired(&self, now: Instant) -> Option<&str> {
        let (line, since) = self.line.as_ref()?;
        (!line.is_empty() && now.since(*since) >= LEASE).then_some(line)
    }
}
