//! What is wrong with the load balancers of a `--lb` name, as the operator reads it: kept for each address,
//! and logged when it is first seen and when it ends. Part of [`LbTarget`]; signals none.

use std::net::IpAddr;
use std::time::Duration;

use super::instance::LbInstance;
use super::sighting;
use super::target::{LbTarget, OVERDUE, Step};
use crate::context::Context;
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::log::{Record, message};
use crate::time::Instant;

/// What is logged of a problem; a reload that is acknowledged ends all of them.
const UNRESOLVED: &str = "cannot resolve load balancer";
const PROBLEMS: [&str; 4] =
    [UNRESOLVED, message::NOT_RELOADED, message::LB_DRIFTED, message::LB_UNSEEN];

impl LbTarget {
    fn about(&self, line: Record, address: IpAddr) -> Record {
        line.with("lb", self.url.origin()).with("address", address)
    }

    /// What is wrong with it, a sentence for each address.
    pub(super) fn troubles(&self, now: Instant) -> Vec<String> {
        let origin = self.url.origin();
        let unresolved =
            self.problem.iter().map(|problem| format!("lb: {origin}: {}", problem.advised()));
        let wrong = self.instances.iter().filter_map(|(address, it)| {
            let begin = format!("lb: {origin} ({address})");
            if let Some(problem) = &it.problem {
                return Some(format!("{begin}: {}", problem.advised()));
            }
            let pending = now.since(it.pending_since?);
            (pending >= OVERDUE)
                .then(|| format!("{begin}: reload pending for {} s", pending.as_secs()))
        });
        unresolved.chain(wrong).collect()
    }

    pub(super) fn acknowledge(&mut self, cx: &mut Context<'_>, address: IpAddr) {
        self.counts.acknowledged += 1;
        let pending = self.pending;
        if let Some(instance) = self.instances.get_mut(&address) {
            (instance.reloaded, instance.problem) = (Some(cx.now.wall), None);
            // What came after that signal is pending since no earlier time than its answer, or hardly.
            let late = instance.acknowledged < pending;
            instance.pending_since = late.then_some(cx.now.mono);
        }
        let line = Record::info("lb", message::RELOADED).ends(&PROBLEMS);
        let line = self.about(line, address);
        cx.log(if self.is_verified() { line.with("proof", "handshake") } else { line });
    }

    /// The name could not be resolved; it is resolved again after a pause that grows.
    pub(super) fn unresolved(&mut self, cx: &mut Context<'_>, problem: Complaint) {
        self.counts.failed += 1;
        let until = cx.now.mono + self.backoff.pause(cx.keys);
        self.step = Step::Pausing { until };
        if self.problem.as_ref() != Some(&problem) {
            let line = Record::error("lb", UNRESOLVED);
            let line = line.with("lb", self.url.origin()).with("error", &problem);
            let next_try = cx.now.wall.plus(until.since(cx.now.mono));
            cx.log(line.with("next_try", next_try).hinted(problem.hint));
        }
        self.problem = Some(problem);
    }

    /// It cannot be signaled.
    pub(super) fn failed(&mut self, cx: &mut Context<'_>, address: IpAddr, problem: Complaint) {
        self.counts.failed += 1;
        let Some(instance) = self.instances.get_mut(&address) else { return };
        let refuses = matches!(problem.hint, Some(Hint::LbMode | Hint::LbUrl));
        let at = instance.retry(cx, !refuses);
        let is_news = instance.problem.as_ref() != Some(&problem);
        instance.problem = Some(problem.clone());
        if is_news {
            let line = self.about(Record::error("lb", message::NOT_RELOADED), address);
            let next_try = cx.now.wall.plus(at.since(cx.now.mono));
            let line = line.with("error", &problem).with("next_try", next_try);
            cx.log(line.hinted(problem.hint));
        }
    }

    /// Something is wrong after a signal; the next one is on its way. Another kind of problem is logged.
    pub(super) fn set_problem(
        &mut self,
        cx: &mut Context<'_>,
        address: IpAddr,
        problem: Complaint,
    ) {
        self.counts.failed += 1;
        let Some(instance) = self.instances.get_mut(&address) else { return };
        let known = instance.problem.as_ref().map(|known| known.hint);
        instance.problem = Some(problem.clone());
        if known != Some(problem.hint) {
            let line = self.about(Record::error("lb", message::NOT_RELOADED), address);
            cx.log(line.with("error", &problem).with("next", "signal").hinted(problem.hint));
        }
    }

    /// A file in `certs/` that HAProxy refuses was found, or none any more. It is the cause where no process
    /// appeared.
    pub(super) fn set_blocking(&mut self, cx: &mut Context<'_>, blocking: Option<&str>) {
        if self.blocking.as_deref() == blocking {
            return;
        }
        self.blocking = blocking.map(str::to_string);
        if blocking.is_none() {
            // A reload is on its way: what it shows is news.
            return;
        }
        let now = cx.now.mono;
        let hint = |it: &LbInstance| it.problem.as_ref().and_then(|problem| problem.hint);
        let stuck =
            |it: &LbInstance| matches!(hint(it), Some(Hint::LbNoReload | Hint::ForeignFile));
        let stuck = self.instances.iter().filter(|(_, it)| stuck(it));
        let stuck: Vec<_> = stuck
            .map(|(at, it)| (*at, it.pending_since.map_or(Duration::ZERO, |it| now.since(it))))
            .collect();
        for (address, after) in stuck {
            self.counts.failed = self.counts.failed.saturating_sub(1);
            self.set_problem(cx, address, sighting::ignored(after, blocking));
        }
    }

    /// One that had loaded everything serves something else: a reload is pending from now on.
    pub(super) fn drifted(
        &mut self,
        cx: &mut Context<'_>,
        address: IpAddr,
        problem: Complaint,
        name: Domain,
    ) {
        self.counts.drifted += 1;
        let line = Record::warn("lb", message::LB_DRIFTED);
        let line = self.about(line, address).with("seen", &problem).hinted(problem.hint);
        cx.log(line);
        if let Some(instance) = self.instances.get_mut(&address) {
            (instance.acknowledged, instance.suspect) = (0, Some(name));
            instance.pending_since = Some(cx.now.mono);
            instance.problem = Some(problem);
        }
    }

    /// Where one should be probed, nothing is seen: logged once, until something is seen there again.
    pub(super) fn unseen(&mut self, cx: &mut Context<'_>, address: IpAddr, problem: Complaint) {
        let Some(instance) = self.instances.get_mut(&address) else { return };
        let is_news = instance.problem.is_none();
        instance.problem = Some(problem.clone());
        if is_news {
            let line = self.about(Record::warn("lb", message::LB_UNSEEN), address);
            cx.log(line.with("error", &problem).hinted(problem.hint));
        }
    }

    /// The drift watch sees the right certificate.
    pub(super) fn seen_again(&mut self, cx: &mut Context<'_>, address: IpAddr) {
        let pending = self.pending;
        let instance = self.instances.get_mut(&address).filter(|it| it.acknowledged >= pending);
        if instance.is_some_and(|it| it.problem.take().is_some()) {
            let line = Record::info("lb", "load balancer serves the right certificate again");
            let line = line.ends(&PROBLEMS);
            cx.log(self.about(line, address));
        }
    }
}
