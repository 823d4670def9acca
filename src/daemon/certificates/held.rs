//! What defers an order although no failure does: a limit of the CA, the disk, or a certificate that is to be
//! split first. Data only.

use std::time::Duration;

use crate::daemon::budget::Limit;
use crate::hint::Complaint;
use crate::time::UnixTime;

use super::schedule::Why;

/// No hold is shorter: a limit that has room the very next moment must not make the loop spin.
pub(super) const HOLD_MIN: Duration = Duration::from_secs(1);

/// Something other than a failure keeps an order back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) until: UnixTime,
    /// In words.
    pub(super) reason: Complaint,
    pub(super) why: Why,
    /// The order is due when its turn has come there, and not at `until`.
    pub(super) queue: Option<Place>,
}

/// A place in the queue of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) limit: Limit,
    pub(super) number: u64,
    /// The order may be exempt from that limit then.
    pub(super) again_at: Option<UnixTime>,
}

impl Held {
    /// Nothing but time is waited for.
    pub(super) fn new(until: UnixTime, reason: Complaint, why: Why) -> Held {
        Held { until, reason, why, queue: None }
    }

    /// A limit of the CA has no room before `until`.
    pub(super) fn budget(now: UnixTime, reason: Complaint, until: UnixTime) -> Held {
        Held::new(until.max(now.plus(HOLD_MIN)), reason, Why::Budget)
    }
}
