//! Dates that depend on the expiry of the stored certificate: the longest pause after a failure, the end of
//! a deferral, and the exclusion of failing names; and what becomes of dates when the clock is set back.
//! Arithmetic only; never decides what is next.

use std::time::Duration;

use crate::daemon::model::{Jitter, Stored};
use crate::domain::Domain;
use crate::keys::Keys;
use crate::time::UnixTime;

use super::entry::{Entry, Step};

/// In the last tenth of the lifetime, the limits that are counted here no longer defer an order.
const LAST_CHANCE_PART: u32 = 10;
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
        let spread = Jitter::draw(keys).within(Some(stored.not_after.since(now)));
        if let Some(trouble) = &mut self.memory.trouble {
            trouble.bring_forward(now, spread);
        }
        let in_service = self.memory.left_out.iter_mut().filter(|(name, _)| stored.is_for(name));
        in_service.for_each(|(_, trouble)| trouble.bring_forward(now, spread));
    }
    /// The wall clock may have been set back: nothing waits for a date that it has only seen by error.
    /// What the disk refused is tried at once, and an order was made by now at the latest.
    pub(super) fn clamp(&mut self, now: UnixTime) {
        if let Step::Reading { again_at: Some(at) }
        | Step::Storing { again_at: Some(at), .. }
        | Step::Archiving { again_at: Some(at) } = &mut self.step
        {
            *at = now.min(*at);
        }
        if let Some(attempt) = &mut self.memory.attempt {
            attempt.at = attempt.at.min(now);
        }
        let troubles = self.memory.troubles_mut();
        troubles.for_each(|trouble| trouble.clamp(now));
        self.memory.removed.values_mut().for_each(|trouble| trouble.clamp(now));
        self.memory.name_changes.iter_mut().for_each(|changes| changes.clamp(now));
        if let Some(life) = &mut self.memory.life {
            life.clamp(now);
        }
        self.held = None;
    }
}
