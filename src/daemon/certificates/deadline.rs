//! Dates that depend on the expiry of the stored certificate: the longest pause after a failure, the end of
//! a deferral, the exclusion of failing names, and the last moment for a rollback. Arithmetic only; never
//! decides what is next.

use std::time::Duration;

use crate::domain::Domain;
use crate::keys::Keys;
use crate::time::UnixTime;

use super::entry::Entry;
use super::life::{Life, Stored};
use super::trouble::Spread;

/// A certificate that the clock shows less time of than this part of its lifetime, as soon as it was
/// issued, is none that any CA issues: the clock is ahead.
const USABLE_PART: u32 = 50;
/// In the last tenth of the lifetime, the limits that are counted here no longer defer an order.
const LAST_CHANCE_PART: u32 = 10;
/// No rollback to a certificate with less than a twentieth of its lifetime left: a new certificate that one
/// load balancer does not serve is worth more than one that is about to expire …
const ROLLBACK_PART: u32 = 20;
/// … and a certificate with this much time left always qualifies.
const ROLLBACK_LEFT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Stored {
    /// The time in which it serves: from its issue by our clock, where that is known, to its expiry. A CA
    /// may date a certificate back so far that most of its lifetime is over when it is issued.
    pub(super) fn usable(&self, issued: Option<UnixTime>) -> Duration {
        let from = issued.map_or(self.not_before, |issued| issued.max(self.not_before));
        match self.not_after.since(from) {
            // By this clock it has expired before it was issued.
            Duration::ZERO => self.lifetime(),
            usable => usable.max(self.lifetime() / USABLE_PART),
        }
    }

    /// Whether a rollback to it makes sense at `now`.
    pub(super) fn lasts(&self, life: Option<&Life>, now: UnixTime) -> bool {
        let part = self.usable(life.and_then(|life| life.issued)) / ROLLBACK_PART;
        self.not_after > now.plus(part.min(ROLLBACK_LEFT_MAX))
    }
}

impl Entry {
    /// The time left of the stored certificate, while it is valid.
    pub(super) fn time_left(&self, now: UnixTime) -> Option<Duration> {
        let left = self.stored.as_ref()?.not_after.since(now);
        (left > Duration::ZERO).then_some(left)
    }

    /// The same where an order that does not contain this name takes it out of service.
    pub(super) fn time_left_of(&self, now: UnixTime, name: &Domain) -> Option<Duration> {
        self.time_left(now).filter(|_| self.stored.as_ref().is_some_and(|it| it.is_for(name)))
    }

    /// Of the stored certificate, that part of its time is left from then on.
    fn part_left_at(&self, stored: &Stored, part: u32) -> UnixTime {
        let issued = self.memory.life.as_ref().and_then(|life| life.issued);
        stored.not_after.minus(stored.usable(issued) / part)
    }

    /// From then on a name that cannot be validated any more is left out of the successor: before, the
    /// certificate in service is worth more to that name than a fresh one to the others.
    pub(super) fn leave_out_at(&self, stored: &Stored) -> UnixTime {
        self.part_left_at(stored, 4)
    }

    /// Whether the stored certificate is valid and so near its expiry that the limits that are counted here
    /// no longer defer its renewal: the CA's answer decides.
    pub(super) fn is_urgent(&self, now: UnixTime) -> bool {
        let valid = self.stored.as_ref().is_some_and(|stored| stored.not_after > now);
        valid && self.last_chance_at().is_some_and(|last| last <= now)
    }

    /// The beginning of that time.
    pub(super) fn last_chance_at(&self) -> Option<UnixTime> {
        self.stored.as_ref().map(|stored| self.part_left_at(stored, LAST_CHANCE_PART))
    }

    /// The end of a deferral: `until`, but no later than that moment.
    pub(super) fn before_the_last_chance(&self, now: UnixTime, until: UnixTime) -> UnixTime {
        let last = self.last_chance_at();
        // After it, only the limit of failed authorizations defers an order.
        last.filter(|last| *last > now).map_or(until, |last| until.min(last))
    }

    /// Shortens pauses that are too long for the time left. They were chosen before the file was read or the
    /// clock was set.
    pub(super) fn bound_pauses(&mut self, now: UnixTime, keys: &mut dyn Keys) {
        let Some(stored) = self.stored.as_ref().filter(|stored| stored.not_after > now) else {
            return;
        };
        let spread = Spread::draw(keys).within(Some(stored.not_after.since(now)));
        if let Some(trouble) = &mut self.memory.trouble {
            trouble.bring_forward(now, spread);
        }
        let in_service = self.memory.left_out.iter_mut().filter(|(name, _)| stored.is_for(name));
        in_service.for_each(|(_, trouble)| trouble.bring_forward(now, spread));
    }
}
