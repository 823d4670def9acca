//! One round with a load balancer: a signal and what it has to bring about, or a look of the drift watch.
//! What is known of it so far; asks nobody.

use crate::flat::FlatSet;
use crate::hint::Complaint;
use crate::http::Response;
use crate::lb;
use crate::time::Instant;

use super::proof::{Left, Sighting};

/// The ids of HAProxy's processes.
pub(super) type Pids = FlatSet<u32>;

/// One signal and what it is to bring about; or, without a signal, one look of the drift watch.
#[derive(Debug)]
pub(super) struct Round {
    /// What it proves; nothing of the drift watch's.
    pub(super) generation: Option<u64>,
    /// The process ids before the signal, where they are shown.
    pub(super) before: Option<Pids>,
    /// Process ids that were new at the last look.
    pub(super) new: Pids,
    /// A process came and stayed.
    pub(super) reloaded: bool,
    pub(super) until: Instant,
    /// When the process ids are looked at again.
    pub(super) recount_at: Instant,
    /// What is not seen yet.
    pub(super) left: Left,
    /// What was seen in its place.
    pub(super) seen: Option<Sighting>,
}

impl Round {
    pub(super) fn new(
        generation: Option<u64>,
        before: Option<Pids>,
        until: Instant,
        recount_at: Instant,
    ) -> Round {
        let (new, reloaded, left, seen) = (Pids::new(), false, Left::new(), None);
        Round { generation, before, new, reloaded, until, recount_at, left, seen }
    }

    /// Takes in a look at the process ids; those that were shown. An answer that cannot be read shows
    /// none; the next look may.
    pub(super) fn count(&mut self, answer: Result<Response, Complaint>) -> Pids {
        let shown = answer.ok().and_then(|response| lb::pids(&response)).unwrap_or_default();
        let before = self.before.get_or_insert_default();
        let new: Pids = shown.iter().filter(|pid| !before.contains(*pid)).copied().collect();
        self.reloaded |= new.iter().any(|pid| self.new.contains(pid));
        self.new = new;
        shown
    }
}
