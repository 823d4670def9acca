//! What failed, how often, and when it is tried again: the table of pauses, a CA's `Retry-After`, and
//! names that a CA has paused. Data and arithmetic; never decides what is ordered.

use std::time::Duration;

use crate::acme::call::RETRY_AFTER_MAX;
use crate::hint::Complaint;
use crate::keys::{Keys, jittered};
use crate::log::Record;
use crate::time::UnixTime;

/// The pauses after the first, second … failed order; the last one repeats.
const RETRY_PAUSES: [Duration; 6] =
    [minutes(1), minutes(10), minutes(60), minutes(180), minutes(360), minutes(720)];
/// After an order that a change of the app made due, the next change makes none due for this time: after
/// the first such order, the second …; the last one repeats. One order a minute is the most that an app
/// that is posted again and again can cause, and ever fewer come of it.
const CHANGE_PAUSES: [Duration; 7] =
    [minutes(1), minutes(2), minutes(4), minutes(8), minutes(16), minutes(32), CHANGE_PAUSE_MAX];
/// The last of them. An app that was quiet for so much longer begins with the first one.
const CHANGE_PAUSE_MAX: Duration = minutes(60);
/// Of the lifetime left a pause takes one part of so many at most, so that a failed renewal is tried again
/// often enough before the certificate expires …
const PAUSE_PART: u32 = 10;
/// … but it is no shorter than this: the CA is not asked without end in the last moment.
const PAUSE_MIN: Duration = Duration::from_secs(10);

pub(crate) const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// A point in time, or none. Earlier is less; never is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Then; in the past it means at once.
    At(UnixTime),
    /// Not unless something else changes.
    Never,
}

impl When {
    /// Long ago: at once.
    pub const NOW: When = When::At(UnixTime::from_millis(i64::MIN));

    /// Whether the time has come.
    pub fn has_come(self, now: UnixTime) -> bool {
        self <= When::At(now)
    }
}

/// Failures since the last success, of a whole certificate or of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryState {
    /// How many.
    pub failures: u32,
    /// The last one's error.
    pub error: Complaint,
    /// When it is tried again. Never: the CA has paused the name, and a person must act.
    pub retry: When,
    /// The CA's own `Retry-After`: not even an operator's act makes it due before.
    pub not_before: Option<UnixTime>,
    /// There was no account to order with, so the CA was not asked: a person acts and starts the program
    /// again, and nothing waits then.
    pub until_restart: bool,
    /// The retries that changes of the app made due.
    pub app_changes: AppChanges,
}

/// How often changes of an app made an order due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppChanges {
    /// So many orders, since there was none for long.
    pub orders: u32,
    /// The next change makes none due before.
    pub not_before: Option<UnixTime>,
}

/// A label whose names have changed, so that the certificate in service is to be replaced before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameChanges {
    /// It is not replaced for that before.
    pub order_at: UnixTime,
    /// How often that was.
    pub changes: AppChanges,
}

/// How a failure is to be followed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryPolicy {
    /// After the table's pause, and not before the CA's own, if it named one.
    Retry { retry_after: Option<Duration> },
    /// After the table's pause, and at once when the program is restarted.
    Restart,
    /// When a person has acted.
    Paused,
}

impl RetryPolicy {
    /// After the table's pause.
    pub(crate) const LATER: RetryPolicy = RetryPolicy::Retry { retry_after: None };
}

impl RetryState {
    /// Says in a line how often it came and when it is tried again, with what may help.
    pub(crate) fn tell(&self, line: Record) -> Record {
        let line = line.with("failures", self.failures);
        let line = match self.retry {
            When::At(at) => line.with("next_try", at),
            When::Never => line.with(
                "next_try",
                "when the CA has been asked to unpause it and the app was restarted",
            ),
        };
        line.hinted(self.error.hint)
    }

    /// One failure more. `spread` is the jitter, the same for all names that failed together, so that
    /// they come back together.
    pub(crate) fn grown(
        before: Option<&RetryState>,
        now: UnixTime,
        error: Complaint,
        follow_up: RetryPolicy,
        spread: Jitter,
    ) -> RetryState {
        let failures = before.map_or(0, |trouble| trouble.failures).saturating_add(1);
        let (retry, not_before) = match follow_up {
            RetryPolicy::Retry { retry_after } => {
                let not_before = retry_after.map(|pause| now.plus(pause));
                let by_table = now.plus(spread.over(pause_after(failures)));
                (When::At(not_before.map_or(by_table, |at| at.max(by_table))), not_before)
            }
            RetryPolicy::Restart => (When::At(now.plus(spread.over(pause_after(failures)))), None),
            RetryPolicy::Paused => (When::Never, None),
        };
        let until_restart = follow_up == RetryPolicy::Restart;
        let app_changes = before.map(|trouble| trouble.app_changes).unwrap_or_default();
        RetryState { failures, error, retry, not_before, until_restart, app_changes }
    }

    /// The app was changed or restarted: what failed may work now, so it is due as far as the CA allows,
    /// and as far as earlier changes have not brought a retry forward too often.
    pub(crate) fn acted_upon(&mut self, now: UnixTime) {
        let allowed = self.app_changes.allowed(now);
        let allowed = self.not_before.map_or(allowed, |at| at.max(allowed));
        if When::At(allowed) < self.retry {
            self.retry = When::At(allowed);
            self.app_changes.count(allowed);
        }
    }

    /// The certificate in service has only so much time left, less than the pause was chosen for: the
    /// retry comes no later than the CA's own pause and this one let it.
    pub(crate) fn bring_forward(&mut self, now: UnixTime, spread: Jitter) {
        let at = now.plus(spread.over(pause_after(self.failures)));
        let at = self.not_before.map_or(at, |not_before| at.max(not_before));
        if self.retry != When::Never {
            self.retry = self.retry.min(When::At(at));
        }
    }

    /// The wall clock may have been set back since: nothing waits longer than it could by the rules. A
    /// date that no `Retry-After` reaches was made by a clock that was wrong, and says nothing.
    pub(crate) fn clamp(&mut self, now: UnixTime) {
        self.not_before = self.not_before.filter(|at| *at <= now.plus(RETRY_AFTER_MAX));
        self.app_changes.clamp(now);
        if let When::At(at) = self.retry {
            // The longest pause after so many failures, jitter included.
            let latest = now.plus(pause_after(self.failures) * 5 / 4);
            let latest = self.not_before.map_or(latest, |at| at.max(latest));
            self.retry = When::At(at.min(latest));
        }
    }
}

impl AppChanges {
    /// When a change at `now` may make an order due.
    fn allowed(&self, now: UnixTime) -> UnixTime {
        self.not_before.map_or(now, |at| at.max(now))
    }

    /// The names of a label change again: each pause's length that nothing changed since the last pause
    /// takes one order off the count, so that the pauses grow only while the names keep changing.
    fn decay(&mut self, now: UnixTime) {
        let Some(not_before) = self.not_before else { return };
        let quiet = now.since(not_before).as_millis() / self.pause().as_millis();
        self.orders = self.orders.saturating_sub(u32::try_from(quiet).unwrap_or(u32::MAX));
    }

    /// The pause after so many orders as there were.
    fn pause(&self) -> Duration {
        let index = usize::try_from(self.orders).unwrap_or(usize::MAX).saturating_sub(1);
        CHANGE_PAUSES[index.min(CHANGE_PAUSES.len() - 1)]
    }

    /// One order more, at that time.
    fn count(&mut self, at: UnixTime) {
        let quiet_since = self.not_before.map(|not_before| not_before.plus(CHANGE_PAUSE_MAX));
        if quiet_since.is_some_and(|quiet| quiet <= at) {
            self.orders = 0;
        }
        self.orders = self.orders.saturating_add(1);
        self.not_before = Some(at.plus(self.pause()));
    }

    /// The wall clock may have been set back since.
    fn clamp(&mut self, now: UnixTime) {
        // Counted from an order that may itself be as far ahead.
        let latest = now.plus(CHANGE_PAUSE_MAX * 2);
        self.not_before = self.not_before.map(|at| at.min(latest));
    }
}

impl NameChanges {
    /// The names have changed once more. What waits for an order already waits no longer for that.
    pub(crate) fn changed(before: Option<&NameChanges>, now: UnixTime) -> NameChanges {
        match before {
            Some(before) if before.order_at > now => *before,
            _ => {
                let mut changes = before.map(|before| before.changes).unwrap_or_default();
                changes.decay(now);
                let order_at = changes.allowed(now);
                changes.count(order_at);
                NameChanges { order_at, changes }
            }
        }
    }

    /// The wall clock may have been set back since.
    pub(crate) fn clamp(&mut self, now: UnixTime) {
        self.order_at = self.order_at.min(now.plus(CHANGE_PAUSE_MAX));
        self.changes.clamp(now);
    }
}

/// The pause after so many failures, from 1.
pub(crate) fn pause_after(failures: u32) -> Duration {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    RETRY_PAUSES[index.min(RETRY_PAUSES.len() - 1)]
}

/// One draw of jitter that serves several pauses, and the longest that they may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jitter {
    /// What becomes of 100 s.
    jitter: Duration,
    longest: Option<Duration>,
}

impl Jitter {
    /// Draws.
    pub(crate) fn draw(keys: &mut dyn Keys) -> Jitter {
        Jitter { jitter: jittered(keys, Duration::from_secs(100)), longest: None }
    }

    /// The same for what must be tried again while the certificate in service is valid: with the jitter,
    /// no pause is longer than a tenth of that time. Without one, nothing is at stake.
    pub(crate) fn within(self, left: Option<Duration>) -> Jitter {
        // The jitter adds a quarter at most.
        let longest = left.map(|left| (left / PAUSE_PART * 4 / 5).max(PAUSE_MIN));
        Jitter { longest, ..self }
    }

    /// `pause`, spread.
    pub(crate) fn over(self, pause: Duration) -> Duration {
        let pause = self.longest.map_or(pause, |longest| pause.min(longest));
        pause.mul_f64(self.jitter.as_secs_f64() / 100.0)
    }
}
