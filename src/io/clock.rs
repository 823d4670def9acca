//! The clocks. The only place that reads them, asked by the loop alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

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
        // Before 1970 is a clock that was never set; any certificate is "not yet valid" then.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Now { mono: self.mono(), wall: UnixTime::from_millis(millis) }
    }
}

/// The time since the machine was started, sleep included.
fn since_boot() -> Duration {
    // It cannot be negative.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
