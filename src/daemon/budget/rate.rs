//! One limit as a bucket of tokens, kept as the time when it is full again. Arithmetic only.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::UnixTime;

/// So many tokens in a bucket, and so long until an empty one is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) tokens: u32,
    pub(super) period: Duration,
}

impl Rate {
    pub(super) const fn new(tokens: u32, hours: u64) -> Rate {
        Rate { tokens, period: Duration::from_secs(hours * 60 * 60) }
    }

    /// The time in which one token comes back, in whole milliseconds.
    pub(super) fn token(self) -> Duration {
        let period_ms = u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(period_ms.div_ceil(u64::from(self.tokens.max(1))))
    }

    /// The time in which an empty bucket fills: one period, but for what rounding adds.
    fn whole(self) -> Duration {
        self.token() * self.tokens
    }

    /// An empty bucket is full after one period, and none can be emptier.
    pub(super) fn clamp(self, now: UnixTime, full_at: UnixTime) -> UnixTime {
        full_at.min(now.plus(self.whole()))
    }

    /// When a bucket has so many tokens: in the past when it has them.
    pub(super) fn room_at(self, now: UnixTime, full_at: UnixTime, tokens: u32) -> UnixTime {
        self.clamp(now, full_at).plus(self.token() * tokens).minus(self.whole())
    }

    /// How many tokens a bucket has.
    pub(super) fn left(self, now: UnixTime, full_at: UnixTime) -> u32 {
        let missing = self.clamp(now, full_at).since(now).as_millis();
        let missing = missing.div_ceil(self.token().as_millis().max(1));
        self.tokens.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    pub(super) fn take(self, now: UnixTime, full_at: Option<UnixTime>) -> UnixTime {
        let full_at = full_at.map_or(now, |full_at| full_at.max(now));
        self.clamp(now, full_at.plus(self.token()))
    }
}

pub(super) fn take<K: Ord>(buckets: &mut BTreeMap<K, UnixTime>, key: K, rate: Rate, now: UnixTime) {
    let full_at = buckets.get(&key).copied();
    buckets.insert(key, rate.take(now, full_at));
}

pub(super) fn give_back(buckets: &mut BTreeMap<String, UnixTime>, key: &str, rate: Rate) {
    if let Some(full_at) = buckets.get_mut(key) {
        *full_at = full_at.minus(rate.token());
    }
}

pub(super) fn sweep<K: Ord>(buckets: &mut BTreeMap<K, UnixTime>, rate: Rate, now: UnixTime) {
    buckets.retain(|_, full_at| {
        *full_at = rate.clamp(now, *full_at);
        *full_at > now
    });
}
