//! What failed, how often, and when it is tried again: the table of pauses, a CA's `Retry-After`, and
//! names that a CA has paused. Data and arithmetic; never decides what is ordered.

use std::time::Duration;

use crate::acme::call::RETRY_AFTER_MAX;
use crate::hint::Complaint;
use crate::keys::{Keys, jittered};
use crate::log::Record;
use crate::time::UnixTime;

use super::schedule::When;

/// The pauses after the first, second … failed order; the last one repeats.
const RETRY_PAUSES: [Duration; 6] =
    [minutes(1), minutes(10), minutes(60), minutes(180), minutes(360), minutes(720)];
pub(super) const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Failures since the last success, of a whole certificate or of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How many.
    pub failures: u32,
    /// The last one's error.
    pub error: Complaint,
    /// When it is tried again. Never: the CA has paused the name, and a person must act.
    pub retry: When,
    /// The CA's own `Retry-After`: not even an operator's act makes it due before.
    pub not_before: Option<UnixTime>,
    /// There was no account to order with, so the CA was not asked: a person acts and starts the program
    /// anew, and nothing waits then.
    pub until_restart: bool,
}

/// How a failure is to be followed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FollowUp {
    /// After the table's pause, and not before the CA's own, if it named one.
    Retry { retry_after: Option<Duration> },
    /// After the table's pause, and at once when the program is started anew.
    Restart,
    /// When a person has acted.
    Paused,
}

impl FollowUp {
    /// After the table's pause.
    pub(super) const LATER: FollowUp = FollowUp::Retry { retry_after: None };
}

impl Trouble {
    /// Says in a line how often it came and when it is tried again, with what may help.
    pub(super) fn tell(&self, line: Record) -> Record {
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
    pub(super) fn grown(
        before: Option<&Trouble>,
        now: UnixTime,
        error: Complaint,
        follow_up: FollowUp,
        spread: Spread,
    ) -> Trouble {
        let failures = before.map_or(0, |trouble| trouble.failures).saturating_add(1);
        let (retry, not_before) = match follow_up {
            FollowUp::Retry { retry_after } => {
                let not_before = retry_after.map(|pause| now.plus(pause));
                let by_table = now.plus(spread.over(pause_after(failures)));
                (When::At(not_before.map_or(by_table, |at| at.max(by_table))), not_before)
            }
            FollowUp::Restart => (When::At(now.plus(spread.over(pause_after(failures)))), None),
            FollowUp::Paused => (When::Never, None),
        };
        let until_restart = follow_up == FollowUp::Restart;
        Trouble { failures, error, retry, not_before, until_restart }
    }

    /// An operator has acted: what failed may work now, so it is due as far as the CA allows.
    pub(super) fn acted_upon(&mut self, now: UnixTime) {
        let allowed = self.not_before.map_or(now, |at| at.max(now));
        self.retry = self.retry.min(When::At(allowed));
    }

    /// The wall clock may have been set back since: nothing waits longer than it could by the rules. A
    /// date that no `Retry-After` reaches was made by a clock that was wrong, and says nothing.
    pub(super) fn clamp(&mut self, now: UnixTime) {
        self.not_before = self.not_before.filter(|at| *at <= now.plus(RETRY_AFTER_MAX));
        if let When::At(at) = self.retry {
            // The longest pause after so many failures, jitter included.
            let latest = now.plus(pause_after(self.failures) * 5 / 4);
            let latest = self.not_before.map_or(latest, |at| at.max(latest));
            self.retry = When::At(at.min(latest));
        }
    }
}

/// The pause after so many failures, from 1.
pub(super) fn pause_after(failures: u32) -> Duration {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    RETRY_PAUSES[index.min(RETRY_PAUSES.len() - 1)]
}

/// One draw of jitter that serves several pauses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread(Duration);

impl Spread {
    /// Draws.
    pub(super) fn draw(keys: &mut dyn Keys) -> Spread {
        Spread(jittered(keys, Duration::from_secs(100)))
    }

    /// `pause`, spread.
    pub(super) fn over(self, pause: Duration) -> Duration {
        pause.mul_f64(self.0.as_secs_f64() / 100.0)
    }
}
