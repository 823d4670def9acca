//! Growing, jittered pauses for peers that do not answer: one rule for all of them.

use std::time::Duration;

use crate::keys::{Keys, jittered};

/// The first pause.
pub const PAUSE_MIN: Duration = Duration::from_secs(1);
/// No pause is longer, jitter aside.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How often in a row something failed. `default()` is "not yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure; the pause before the next try: 1 s doubled each time and jittered, 60 s at most.
    pub fn pause(&mut self, keys: &mut dyn Keys) -> Duration {
        let doublings = self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
        jittered(keys, (PAUSE_MIN * 2u32.pow(doublings)).min(PAUSE_MAX * 4 / 5))
    }

    /// Forgets the failures: it worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since it last worked.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}
