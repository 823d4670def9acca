//! The process ids after a signal, where nothing else of a reload can be seen: a new one shows that HAProxy
//! has reloaded. Part of the machine of `instance.rs`; never probes by TLS.

use crate::client::ClientEvent;
use crate::context::Context;

use super::ReloadContext;
use super::instance::{LOOK_PAUSE, LbAddress, LbInstance, Look, Progress, Step};
use super::processes::Shown;
use super::verification::Verification;

impl LbInstance {
    /// A look at the process ids, where nothing else can be seen.
    pub(super) fn watched(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        mut verification: Box<Verification>,
        event: ClientEvent,
    ) -> Progress {
        let now = cx.now.mono;
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
            let before = verification.before.clone().unwrap_or_default();
            let shown = shown.unwrap_or_default();
            self.processes.reloaded(before, verification.new_pids(), &shown);
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
            let _ = self.signal(cx, reload, at, verification);
            return if is_ignored { Progress::Ignored(after) } else { Progress::Going };
        }
        self.step = Step::Watching { look: Look::Due(now + LOOK_PAUSE), verification };
        Progress::Going
    }
}
