//! The verification of a load balancer by TLS handshakes, and by the process ids in between: what it serves
//! after a signal, and whether that is what was written. Part of [`LbInstance`]; never signals one that
//! serves everything.

use std::time::Duration;

use crate::client::ClientEvent;
use crate::context::Context;
use crate::domain::Domain;
use crate::lb;
use crate::pki::{Fingerprint, Leaf};
use crate::time::{Instant, UnixTime};

use super::ReloadContext;
use super::instance::{
    FIRST_LOOK_PAUSE, LOOK_PAUSE, LbAddress, LbInstance, Look, PIDS_TIMEOUT, Progress, Step, send,
};
use super::processes::{Pids, Shown};
use super::sighting::{self, Served, Sighting, Verdict};
use super::verification::{Next, Verification};

/// What the drift watch finds wrong is not believed before it was wrong for this long: another signal may
/// have made HAProxy reload in this moment.
const DRIFT_PATIENCE: Duration = Duration::from_secs(5);

impl LbInstance {
    /// A TLS handshake ended.
    pub(super) fn probed(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        mut verification: Box<Verification>,
        event: ClientEvent,
    ) -> Progress {
        let Some((name, place)) = verification.left.front().cloned() else {
            return self.seen_all(cx, reload, at, verification);
        };
        let mut pause = Duration::ZERO;
        match event {
            ClientEvent::Presented(der) => {
                let generation = verification.generation;
                let worked = verification.worked.get(&name).copied();
                let asked = (&name, generation, worked);
                let verdict = sighting::judge(reload.catalog, reload.writes, asked, &der);
                if reload.catalog.matters(&name) {
                    self.note(&name, verdict == Verdict::Right, &der);
                } else {
                    self.served.remove(&name);
                }
                if verdict == Verdict::Right {
                    verification.right();
                } else {
                    let is_earlier = verdict == Verdict::Earlier;
                    let seen = Sighting::another(&name, place, &der, is_earlier);
                    verification.wrong(seen);
                }
            }
            ClientEvent::Failed(error) => {
                // One that has no certificate for the name does not see the file.
                let fails = error.is_connected() && !error.lacks_name();
                let seen = (Sighting::nothing(&error), fails);
                verification.failed(seen, |name| reload.catalog.stored(name));
            }
            // Nothing else comes of a handshake.
            _ => pause = LOOK_PAUSE,
        }
        if verification.left.is_empty() {
            return self.seen_all(cx, reload, at, verification);
        }
        if !verification.is_pass_over() {
            let look = Look::Due(cx.now.mono + pause);
            self.step = Step::Verifying { look, verification };
            return Progress::Going;
        }
        match verification.generation {
            None => self.drifted(cx.now.mono, reload, verification),
            Some(_) => self.ask_pids(cx, reload, at, verification),
        }
    }

    /// Records what was seen for a name that matters.
    pub(super) fn note(&mut self, name: &Domain, right: bool, der: &[u8]) {
        // What is not a certificate is not valid at any time.
        let not_after = Leaf::parse(der).map_or(UnixTime::from_seconds(0), |leaf| leaf.not_after);
        let leaf = Fingerprint::of(der);
        self.served.insert(name.clone(), Served { right, leaf, not_after });
    }

    /// Everything is served as it was written.
    pub(super) fn seen_all(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        mut verification: Box<Verification>,
    ) -> Progress {
        verification.seen = None;
        // Which processes the reload has left behind is looked at by the drift watch: they need time to end.
        if verification.generation.is_some() && verification.before.is_none() {
            return self.verified(&verification);
        }
        self.ask_pids(cx, reload, at, verification)
    }

    pub(super) fn ask_pids(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        verification: Box<Verification>,
    ) -> Progress {
        let request = send(cx, reload.client, (lb::pids_request(at.url), PIDS_TIMEOUT), at);
        self.step = Step::PidsAfter { request, verification };
        Progress::Going
    }

    /// A look at the process ids: the end of a verification, or of a pass that found something wrong.
    pub(super) fn counted(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        mut verification: Box<Verification>,
        event: ClientEvent,
    ) -> Progress {
        let now = cx.now.mono;
        let answer = Shown::in_answer(event).map(Shown::pids);
        let shown = answer.as_ref().ok().and_then(Option::as_ref);
        if verification.left.is_empty() {
            return self.finish(now, &mut verification, shown);
        }
        let shown = match answer {
            Ok(shown) => shown,
            Err(problem) if verification.is_lost(false) => return Progress::Failed(problem),
            Err(_) => return self.look_again(now, verification),
        };
        verification.is_lost(true);
        match &shown {
            Some(shown) => verification.count(now, shown),
            // Whether a process has appeared cannot be told.
            None => verification.before = None,
        }
        let next = verification.next(now, at.pending);
        if next == Next::Probe {
            let unseen = verification.unseen(now);
            let _ = self.look_again(now, verification);
            return unseen.map_or(Progress::Going, Progress::Unseen);
        }
        let reloaded = verification.reloaded;
        let rejected = std::mem::take(&mut verification.rejected);
        let seen = verification.seen.as_ref();
        let problem = seen.map(|seen| sighting::wrong(seen, reloaded, reload.shadowed));
        let after = now.since(verification.began_at);
        verification.aim(now, at.pending);
        verification.before = shown.or(verification.before.take());
        let _ = self.signal(cx, reload, at, verification);
        match (next, problem) {
            (Next::SignalIgnored, _) => Progress::Ignored(after),
            (Next::SignalWrong, Some(problem)) if !rejected.is_empty() => {
                Progress::Rejected(problem, rejected)
            }
            (Next::SignalLate, Some(problem)) => Progress::Another(problem),
            (Next::SignalWrong, Some(problem)) => Progress::Problem(problem),
            _ => Progress::Going,
        }
    }

    /// Everything was seen; `shown` are the process ids of this moment.
    fn finish(
        &mut self,
        now: Instant,
        verification: &mut Verification,
        shown: Option<&Pids>,
    ) -> Progress {
        match (verification.generation, shown) {
            (None, Some(shown)) => self.old_workers = self.processes.old_workers(shown),
            (Some(_), Some(shown)) => {
                verification.count(now, shown);
                let before = verification.before.clone().unwrap_or_default();
                self.processes.reloaded(before, verification.new_pids(), shown);
                self.old_workers = 0;
            }
            (_, None) => {}
        }
        self.verified(verification)
    }

    pub(super) fn verified(&mut self, verification: &Verification) -> Progress {
        let Some(generation) = verification.generation else {
            return Progress::SeenAgain;
        };
        self.acknowledged = generation;
        self.suspect = None;
        self.backoff.reset();
        Progress::Acknowledged
    }

    fn look_again(&mut self, now: Instant, mut verification: Box<Verification>) -> Progress {
        verification.end_pass();
        let pause = if verification.is_fresh(now) { FIRST_LOOK_PAUSE } else { LOOK_PAUSE };
        self.step = Step::Verifying { look: Look::Due(now + pause), verification };
        Progress::Going
    }

    /// The drift watch sees something wrong. It looks again until it is sure, and where nothing is seen until
    /// something is.
    fn drifted(
        &mut self,
        now: Instant,
        reload: &ReloadContext<'_>,
        verification: Box<Verification>,
    ) -> Progress {
        let is_sure = now >= verification.began_at + DRIFT_PATIENCE;
        let seen = verification.seen.clone().filter(|_| is_sure);
        match (seen, verification.left.front().cloned()) {
            (Some(seen @ Sighting::Another { .. }), Some((name, _))) => {
                Progress::Drifted(seen.explained(reload.shadowed), name)
            }
            (Some(seen), _) => {
                let _ = self.look_again(now, verification);
                Progress::Unseen(seen.complaint())
            }
            (None, _) => self.look_again(now, verification),
        }
    }
}
