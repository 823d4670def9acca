//! HAProxy's process ids: which of them are workers, and the watch for a new one where nothing else of a
//! reload can be seen. Never probes by TLS.

use crate::client::ClientEvent;
use crate::flat::FlatSet;
use crate::hint::Complaint;
use crate::http::Response;
use crate::lb;
use crate::machine::Trust;

/// The answer to a request.
pub(super) fn response(event: ClientEvent) -> Result<Response, Complaint> {
    match event {
        ClientEvent::Response(response) => Ok(response),
        ClientEvent::Failed(error) => Err(error.complaint(Trust::WebPki)),
        // Only streamed requests, lookups and probes have other events.
        _ => Err(Complaint::from("it answered something else")),
    }
}

/// The ids of HAProxy's processes.
pub(super) type Pids = FlatSet<u32>;

/// What a request for the process ids has brought.
#[derive(Debug)]
pub(super) enum Shown {
    Pids(Pids),
    /// An answer without them: it does not show any.
    Nothing,
    /// It was reached, and no answer came.
    Unanswered,
}

impl Shown {
    pub(super) fn in_answer(event: ClientEvent) -> Result<Shown, Complaint> {
        match event {
            ClientEvent::Failed(error) if error.is_reached() => Ok(Shown::Unanswered),
            event => {
                let pids = response(event).map(|response| lb::pids(&response))?;
                Ok(pids.map_or(Shown::Nothing, Shown::Pids))
            }
        }
    }

    pub(super) fn pids(self) -> Option<Pids> {
        match self {
            Shown::Pids(pids) => Some(pids),
            Shown::Nothing | Shown::Unanswered => None,
        }
    }
}

/// Which of HAProxy's processes are workers: the master of master-worker mode outlives every reload.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Those that appeared after a signal of this process.
    workers: Pids,
    /// Those that ran before the last reload.
    replaced: Pids,
}

impl Processes {
    /// A reload has started the `new` ones; those of `before` ran when it was signaled.
    pub(super) fn reloaded(&mut self, before: Pids, new: impl Iterator<Item = u32>, shown: &Pids) {
        self.workers = self.workers.iter().filter(|pid| shown.contains(*pid)).copied().collect();
        for pid in new {
            self.workers.insert(pid);
        }
        self.replaced = before;
    }

    /// Of those that are shown: the workers that the last reload has replaced. One process of unknown origin
    /// is taken for the master.
    pub(super) fn old_workers(&self, shown: &Pids) -> usize {
        let old = || self.replaced.iter().filter(|pid| shown.contains(*pid));
        let known = old().filter(|pid| self.workers.contains(*pid)).count();
        known + (old().count() - known).saturating_sub(1)
    }
}
