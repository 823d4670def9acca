//! HAProxy's process ids: which of them are workers, and the watch for a new one where nothing else of a
//! reload can be seen. Never probes by TLS.

use crate::daemon::transport::TransportEvent;
use crate::flat::FlatSet;
use crate::hint::Complaint;
use crate::lb;
use crate::turn::Turn;

use super::ReloadContext;
use super::instance::{LOOK_PAUSE, LbAddress, LbInstance, Look, Progress, Step, response};
use super::verification::Verification;

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
    pub(super) fn in_answer(event: TransportEvent) -> Result<Shown, Complaint> {
        match event {
            TransportEvent::Failed(error) if error.is_reached() => Ok(Shown::Unanswered),
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
    pub(super) fn reloaded(&mut self, verification: &Verification, shown: &Pids) {
        self.workers = self.workers.iter().filter(|pid| shown.contains(*pid)).copied().collect();
        for pid in verification.new_pids() {
            self.workers.insert(pid);
        }
        self.replaced = verification.before.clone().unwrap_or_default();
    }

    /// Of those that are shown: the workers that the last reload has replaced. One process of unknown origin
    /// is taken for the master.
    pub(super) fn old_workers(&self, shown: &Pids) -> usize {
        let old = || self.replaced.iter().filter(|pid| shown.contains(*pid));
        let known = old().filter(|pid| self.workers.contains(*pid)).count();
        known + (old().count() - known).saturating_sub(1)
    }
}

impl LbInstance {
    /// A look at the process ids, where nothing else can be seen.
    pub(super) fn watched(
        &mut self,
        turn: &mut Turn<'_>,
        cx: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        mut verification: Box<Verification>,
        event: TransportEvent,
    ) -> Progress {
        let now = turn.now.mono;
        let shown = match Shown::in_answer(event) {
            Ok(shown) => {
                verification.is_lost(true);
                shown
            }
            Err(problem) if verification.is_lost(false) => return Progress::Failed(problem),
            Err(_) => Shown::Unanswered,
        };
        let is_first = verification.before.is_none();
        verification.hides_pids = matches!(shown, Shown::Nothing);
        let shown = shown.pids();
        if shown.is_some() || !is_first {
            verification.count(now, &shown.clone().unwrap_or_default());
        }
        if verification.reloaded {
            self.processes.reloaded(&verification, &shown.unwrap_or_default());
            return self.verified(&verification);
        }
        let is_ignored = verification.is_ignored(now);
        if is_first && (verification.hides_pids || (is_ignored && shown.is_none())) {
            return self.verified(&verification);
        }
        if is_ignored && verification.hides_pids {
            // It shows none any more: a 200 counts from the next signal on.
            verification.before = None;
        }
        if is_ignored || verification.is_overtaken(now, at.pending) {
            let after = now.since(verification.began_at);
            verification.aim(now, at.pending);
            let _ = self.signal(turn, cx, at, verification);
            return if is_ignored { Progress::Ignored(after) } else { Progress::Going };
        }
        self.step = Step::Watching { look: Look::Due(now + LOOK_PAUSE), verification };
        Progress::Going
    }
}
