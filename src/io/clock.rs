//! The clocks. The only place that reads them, asked once per turn of the loop.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::{Instant, Now, UnixTime};

/// Monotonic time since its making, and wall time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock(std::time::Instant::now())
    }

    /// The time.
    pub fn now(&self) -> Now {
        let nanos = u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Before 1970 is a clock that was never set; any certificate is "not yet valid" then.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Now { mono: Instant::from_nanos(nanos), wall: UnixTime::from_millis(millis) }
    }
}
