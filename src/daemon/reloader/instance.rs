//! One load balancer: what it has acknowledged, and how far its signal has come. A 200 does not prove
//! a reload, since marathon-lb may lose a signal. Where it can be probed by TLS, it is probed until it
//! serves what was written; elsewhere, where it shows HAProxy's process ids, a process must appear after the
//! signal and persist over two looks; elsewhere 200 counts.
//!
//! `Resting → PidsBefore (→ Previewing) → Signaling → Watching (process ids) → Resting`, or, where it can be
//! probed, `Signaling → Verifying ⇄ PidsAfter → Resting | Signaling`; the drift watch begins a `Verifying` of
//! its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::backoff::Backoff;
use crate::client::{Client, ClientEvent, Delivery, Outgoing, RequestId};
use crate::context::Context;
use crate::daemon::owner::{LbRequest, Owner};
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::http::Request;
use crate::lb;
use crate::machine::Trust;
use crate::pki::Fingerprint;
use crate::time::{Instant, UnixTime};
use crate::url::Url;

use super::ReloadContext;
use super::processes::{Processes, Shown, response};
use super::sighting::{self, Left, Served};
use super::verification::Verification;

/// A load balancer that has not answered by then is asked again; one that shows no process ids by then
/// shows none.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(15);
/// The process ids are waited for no longer: a load balancer that shows none is signaled all the same.
pub(super) const PIDS_TIMEOUT: Duration = Duration::from_secs(3);
/// From one probe or look at the process ids to the next.
pub(super) const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// The first probes after a signal come sooner: most reloads take less than a second.
pub(super) const FIRST_LOOK_PAUSE: Duration = Duration::from_millis(250);
/// One that cannot be reached is asked again after this pause: what it missed is served within five
/// seconds of its return.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(2);
/// Before a rollout this many names at most are probed for the certificate in service.
const PREVIEWS_MAX: usize = 8;

/// One address of a `--lb` name.
#[derive(Debug, Default)]
pub(super) struct LbInstance {
    /// The last generation that it acknowledged; 0 when that is not known.
    pub(super) acknowledged: u64,
    /// Since when a later one is pending.
    pub(super) pending_since: Option<Instant>,
    /// Since when the name has not had its address any more.
    pub(super) missing_since: Option<Instant>,
    /// When it acknowledged a signal of this process.
    pub(super) reloaded: Option<UnixTime>,
    /// Why it did not acknowledge the last signal, or what is wrong with what it serves.
    pub(super) problem: Option<Complaint>,
    /// What it was last seen to serve.
    pub(super) served: BTreeMap<Domain, Served>,
    /// Workers that were replaced by the last reload and still run.
    pub(super) old_workers: usize,
    /// A name for which the drift watch has seen something wrong.
    pub(super) suspect: Option<Domain>,
    /// An earlier run has seen it load everything; this one has not probed it.
    pub(super) is_unconfirmed: bool,
    /// When it is signaled again after a failure.
    retry_at: Option<Instant>,
    pub(super) backoff: Backoff,
    pub(super) processes: Processes,
    pub(super) step: Step,
}

/// Where a load balancer is: signaled at one address, and probed there or elsewhere, or nowhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct LbAddress<'a> {
    /// The index of its `--lb` URL.
    pub(super) target: usize,
    pub(super) url: &'a Url,
    pub(super) address: IpAddr,
    pub(super) places: &'a [SocketAddr],
    /// The generation that it must acknowledge.
    pub(super) pending: u64,
}

impl LbAddress<'_> {
    /// Who sends the requests that are about it.
    fn owner(&self) -> Owner {
        Owner::Reloader(LbRequest { target: self.target, address: Some(self.address) })
    }
}

#[derive(Debug, Default)]
pub(super) enum Step {
    #[default]
    Resting,
    PidsBefore(RequestId),
    Previewing {
        request: RequestId,
        left: Left,
        verification: Box<Verification>,
    },
    Signaling {
        request: RequestId,
        verification: Box<Verification>,
    },
    Watching {
        look: Look,
        verification: Box<Verification>,
    },
    Verifying {
        look: Look,
        verification: Box<Verification>,
    },
    PidsAfter {
        request: RequestId,
        verification: Box<Verification>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    Due(Instant),
    Asked(RequestId),
}

/// How far a signal has come after an event.
pub(super) enum Progress {
    /// It continues.
    Going,
    /// The load balancer has loaded what was written before the signal.
    Acknowledged,
    /// It cannot be signaled, or it acknowledged a signal and cannot be reached since.
    Failed(Complaint),
    /// Something is wrong, which the next signal may fix.
    Problem(Complaint),
    /// Likewise: it serves another certificate after a reload, and the new file is not the cause.
    Another(Complaint),
    /// Its last signal started no process, after that time.
    Ignored(Duration),
    /// Likewise wrong; the evidence is against the files of these names.
    Rejected(Complaint, Vec<Domain>),
    /// The drift watch has seen another certificate for this name.
    Drifted(Complaint, Domain),
    /// The drift watch saw nothing.
    Unseen(Complaint),
    /// The drift watch sees the right certificate again.
    SeenAgain,
}

impl LbInstance {
    /// One that has acknowledged everything up to `generation`.
    pub(super) fn up_to_date(generation: u64) -> LbInstance {
        LbInstance { acknowledged: generation, is_unconfirmed: true, ..LbInstance::default() }
    }

    /// One for which everything is pending.
    pub(super) fn pending_since(now: Instant) -> LbInstance {
        LbInstance { pending_since: Some(now), ..LbInstance::default() }
    }

    /// Whether nothing is under way that is for a signal.
    pub(super) fn is_resting(&self) -> bool {
        match &self.step {
            Step::Resting => true,
            Step::Verifying { verification, .. } => verification.generation.is_none(),
            _ => false,
        }
    }

    /// Whether a signal may begin now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.is_resting() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Whether nothing at all is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.step, Step::Resting)
    }

    /// The request that is under way.
    fn request(&self) -> Option<RequestId> {
        match self.step {
            Step::PidsBefore(request)
            | Step::Previewing { request, .. }
            | Step::Signaling { request, .. }
            | Step::Watching { look: Look::Asked(request), .. }
            | Step::Verifying { look: Look::Asked(request), .. }
            | Step::PidsAfter { request, .. } => Some(request),
            Step::Resting | Step::Watching { .. } | Step::Verifying { .. } => None,
        }
    }

    /// Begins a signal.
    pub(super) fn begin(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        at: LbAddress<'_>,
    ) {
        self.end(client);
        self.retry_at = None;
        let asked = (lb::pids_request(at.url), PIDS_TIMEOUT);
        self.step = Step::PidsBefore(send(cx, client, asked, at));
    }

    /// Probes whether it still serves the files of these names.
    pub(super) fn probe(&mut self, now: Instant, names: &[Domain], at: LbAddress<'_>) {
        let mut verification = Verification::new(now, None, Shown::Unanswered);
        for place in at.places {
            verification.left.extend(names.iter().map(|name| (name.clone(), *place)));
        }
        self.step = Step::Verifying { look: Look::Due(now), verification: Box::new(verification) };
    }

    /// Ends what is under way.
    pub(super) fn end(&mut self, client: &mut Client<Owner>) {
        if let Some(request) = self.request() {
            client.cancel(request);
        }
        self.step = Step::Resting;
    }

    /// How often in a row it could not be signaled.
    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// Plans the next signal after a failure; when it is.
    pub(super) fn retry(&mut self, cx: &mut Context<'_>, unreachable: bool) -> Instant {
        let pause = self.backoff.pause(cx.keys);
        let pause = if unreachable { UNREACHABLE_PAUSE } else { pause };
        let at = cx.now.mono + pause;
        self.retry_at = Some(at);
        at
    }

    /// Processes the answer to what it was asked.
    pub(super) fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        (request, event): (RequestId, ClientEvent),
    ) -> Progress {
        if self.request() != Some(request) {
            return Progress::Going;
        }
        match std::mem::take(&mut self.step) {
            Step::Resting => Progress::Going,
            Step::PidsBefore(_) => match Shown::in_answer(event) {
                Err(problem) => Progress::Failed(problem),
                Ok(shown) => self.begin_rollout(cx, reload, at, shown),
            },
            Step::Previewing { left, verification, .. } => {
                self.previewed(cx, reload, at, (left, verification), event)
            }
            Step::Signaling { verification, .. } => match response(event) {
                Err(problem) => Progress::Failed(problem),
                Ok(response) => match lb::acknowledged(&response) {
                    Ok(()) => self.signaled(cx.now.mono, reload, at, verification),
                    Err(refusal) => {
                        let hint = Hint::of_balancer(refusal.status);
                        Progress::Failed(Complaint::new(refusal.to_string(), hint))
                    }
                },
            },
            Step::Watching { verification, .. } => {
                self.watched(cx, reload, at, verification, event)
            }
            Step::Verifying { verification, .. } => {
                self.probed(cx, reload, at, verification, event)
            }
            Step::PidsAfter { verification, .. } => {
                self.counted(cx, reload, at, verification, event)
            }
        }
    }

    /// Before the first signal: where a file may be rolled back, the certificate in service is looked at.
    fn begin_rollout(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        shown: Shown,
    ) -> Progress {
        let verification = Verification::new(cx.now.mono, Some(at.pending), shown);
        let mut left = self.left(reload, at);
        let is_known = |name: &Domain| {
            let previous = reload.catalog.previous(name);
            let seen = self.served.get(name).map(|served| served.leaf);
            previous.is_none() || seen == previous
        };
        left.retain(|(name, _)| !is_known(name));
        left.truncate(PREVIEWS_MAX);
        self.preview(cx, reload, at, (left, Box::new(verification)))
    }

    fn preview(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        (left, verification): (Left, Box<Verification>),
    ) -> Progress {
        if let Some((name, place)) = left.front() {
            let request = reload.client.glance(cx, at.owner(), *place, name);
            self.step = Step::Previewing { request, left, verification };
            return Progress::Going;
        }
        self.signal(cx, reload, at, verification)
    }

    fn previewed(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        (mut left, verification): (Left, Box<Verification>),
        event: ClientEvent,
    ) -> Progress {
        match (event, left.pop_front()) {
            (ClientEvent::Presented(der), Some((name, _))) => {
                let right = reload.catalog.expected(&name) == Some(Fingerprint::of(&der));
                self.note(&name, right, &der);
            }
            // Nothing can be learned in advance.
            _ => left.clear(),
        }
        self.preview(cx, reload, at, (left, verification))
    }

    fn left(&self, reload: &ReloadContext<'_>, at: LbAddress<'_>) -> Left {
        let suspect = (self.suspect.as_ref(), at.places);
        sighting::left(reload.catalog, reload.writes, self.acknowledged, suspect)
    }

    pub(super) fn signal(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
        verification: Box<Verification>,
    ) -> Progress {
        let asked = (lb::reload_request(at.url), SIGNAL_TIMEOUT);
        let request = send(cx, reload.client, asked, at);
        self.step = Step::Signaling { request, verification };
        Progress::Going
    }

    /// It answered 200: the verification begins, or continues after a repeated signal.
    fn signaled(
        &mut self,
        now: Instant,
        reload: &ReloadContext<'_>,
        at: LbAddress<'_>,
        mut verification: Box<Verification>,
    ) -> Progress {
        verification.left = self.left(reload, at);
        for (name, _) in &verification.left {
            let Some(seen) = self.served.get(name).filter(|_| !verification.is_repeated) else {
                continue;
            };
            if seen.right || sighting::is_ours(reload.catalog, reload.writes, name, seen.leaf) {
                verification.worked.insert(name.clone(), seen.leaf);
            }
        }
        verification.signaled(now);
        verification.reference =
            sighting::reference(reload.catalog, &self.served, &verification.left);
        if !verification.left.is_empty() {
            let look = Look::Due(now + FIRST_LOOK_PAUSE);
            self.step = Step::Verifying { look, verification };
        } else if !verification.hides_pids {
            self.step = Step::Watching { look: Look::Due(now + LOOK_PAUSE), verification };
        } else {
            return self.verified(&verification);
        }
        Progress::Going
    }

    /// Probes again when it is time.
    pub(super) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        reload: &mut ReloadContext<'_>,
        at: LbAddress<'_>,
    ) -> Progress {
        let now = cx.now.mono;
        self.retry_at = self.retry_at.filter(|at| *at > now);
        match std::mem::take(&mut self.step) {
            Step::Watching { look: Look::Due(due), verification } if due <= now => {
                // No signal waits for it.
                let asked = (lb::pids_request(at.url), SIGNAL_TIMEOUT);
                let request = send(cx, reload.client, asked, at);
                self.step = Step::Watching { look: Look::Asked(request), verification };
            }
            Step::Verifying { look: Look::Due(due), verification } if due <= now => {
                let Some((name, place)) = verification.left.front() else {
                    return self.seen_all(cx, reload, at, verification);
                };
                let look = Look::Asked(reload.client.glance(cx, at.owner(), *place, name));
                self.step = Step::Verifying { look, verification };
            }
            other => self.step = other,
        }
        Progress::Going
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Watching { look: Look::Due(at), .. }
            | Step::Verifying { look: Look::Due(at), .. } => Some(at),
            Step::Resting => self.retry_at,
            _ => None,
        }
    }
}

/// Asks one address. Every request here may be repeated, so a lost answer does no harm.
pub(super) fn send(
    cx: &mut Context<'_>,
    client: &mut Client<Owner>,
    (request, timeout): (Request, Duration),
    at: LbAddress<'_>,
) -> RequestId {
    let outgoing = Outgoing {
        request,
        trust: Trust::WebPki,
        timeout: Some(timeout),
        silence: None,
        address: Some(at.address),
        delivery: Delivery::Whole { body_bytes_max: lb::ANSWER_BYTES_MAX },
    };
    client.send(cx, at.owner(), outgoing)
}
