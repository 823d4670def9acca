//! The clocks. The only place that reads them, asked by the loop and the TLS library alone. Must never read
//! wall time from the standard library: on a machine of 32 bits with musl its `SystemTime::now` reads a
//! `time_t` of 32 bits, and panics when the clock shows 2038 or later.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types;
use rustls::time_provider::TimeProvider;

use crate::time::{Instant, Now, UnixTime};

/// Monotonic time since its making, and wall time.
///
/// Its monotonic time goes on while the machine sleeps (`CLOCK_BOOTTIME`), unlike the standard
/// library's: an instance on a machine that slept must know that its lease on the storage has ended.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Duration);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock(since_boot())
    }

    /// The monotonic time alone.
    pub fn mono(&self) -> Instant {
        let elapsed = since_boot().saturating_sub(self.0);
        Instant::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time.
    pub fn now(&self) -> Now {
        let millis = i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX);
        Now { mono: self.mono(), wall: UnixTime::from_millis(millis) }
    }
}

/// Wall time for the TLS library, which otherwise reads it from the standard library.
#[derive(Debug)]
pub(super) struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<pki_types::UnixTime> {
        Some(pki_types::UnixTime::since_unix_epoch(since_epoch()))
    }
}

/// Wall time as the standard library represents it, to be compared with the times of files.
pub(super) fn system_time() -> SystemTime {
    UNIX_EPOCH.checked_add(since_epoch()).unwrap_or(UNIX_EPOCH)
}

/// Wall time since 1970. A clock that was never set may show a time before that, which counts as 1970: any
/// certificate is "not yet valid" then.
fn since_epoch() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Realtime)).unwrap_or_default()
}

/// The time since the machine was started, sleep included.
fn since_boot() -> Duration {
    // It cannot be negative.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard library's clock is right where a `time_t` has 64 bits, and until 2038 elsewhere.
    #[test]
    fn wall_time_is_that_of_the_standard_library() {
        let before = SystemTime::now();
        let ours = (Clock::start().now().wall, WallClock.current_time(), system_time());
        let after = SystemTime::now();
        assert!(before <= ours.2 && ours.2 <= after);
        let since_epoch = |at: SystemTime| at.duration_since(UNIX_EPOCH).expect("it is past 1970");
        let (first, last) = (since_epoch(before), since_epoch(after));
        let tls = ours.1.expect("there is a clock").as_secs();
        assert!(first.as_secs() <= tls && tls <= last.as_secs());
        let wall = ours.0.since(UnixTime::from_millis(0)).as_millis();
        assert!(first.as_millis() <= wall && wall <= last.as_millis());
    }
}
