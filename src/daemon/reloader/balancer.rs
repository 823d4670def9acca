//! One load balancer: what it has acknowledged, and how far its signal has come. A 200 does not prove
//! a reload, since marathon-lb may swallow a signal. Where it can be looked at, it is looked at until it
//! serves what was written; else, where it shows HAProxy's process ids, one must be there that was not
//! there before the signal, and stay over two looks; else 200 counts.
//!
//! `Resting → Counting (ids before) → Signalling → Watching (ids after) → Resting`, or, where it can be
//! looked at, `Signalling → Proving ⇄ Recounting (ids in between) → Resting`; the drift watch begins a
//! `Proving` of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::collect::Collect;
use crate::daemon::transport::{Delivery, Outgoing, RequestId, Transport, TransportEvent};
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::http::{Request, Response};
use crate::lb;
use crate::pki::{Fingerprint, Leaf};
use crate::seam::Trust;
use crate::time::{Instant, UnixTime};
use crate::turn::Turn;
use crate::url::Url;

use super::Means;
use super::proof::{self, Served, Sighting};
use super::round::Round;

/// A load balancer that has not answered by then is asked again.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(15);
/// From one look to the next: the process that checks the configuration before a reload is gone by then.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// A signal after which no process has come within this time is repeated.
const RELOAD_PATIENCE: Duration = Duration::from_secs(20);
/// So long it may take until what was written is served: marathon-lb tries a reload ten times, each ten
/// seconds after the one before.
pub(super) const PROOF_PATIENCE: Duration = Duration::from_secs(120);
/// Of a look of the drift watch that finds something wrong nothing is believed before it was so for this
/// long: somebody else may have made HAProxy reload in this very moment.
const DRIFT_PATIENCE: Duration = Duration::from_secs(5);

/// One address of a `--lb` name.
#[derive(Debug, Default)]
pub(super) struct Balancer {
    /// The last generation that it acknowledged; 0 when that is not known.
    pub(super) acknowledged: u64,
    /// Since when the name has not had its address any more.
    pub(super) missing_since: Option<Instant>,
    /// When it acknowledged a signal of this process.
    pub(super) reloaded: Option<UnixTime>,
    /// Why it did not acknowledge the last signal, or what is wrong with what it serves.
    pub(super) problem: Option<Complaint>,
    /// What it was last seen to serve.
    pub(super) served: BTreeMap<Domain, Served>,
    /// Processes of before the last reload that were still there after it.
    pub(super) lingering: usize,
    /// A name for which the drift watch has seen something wrong.
    pub(super) suspect: Option<Domain>,
    step: Step,
}

/// Where a load balancer is: signalled at one address, and looked at there or elsewhere, or nowhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a> {
    pub(super) url: &'a Url,
    pub(super) address: IpAddr,
    pub(super) places: &'a [SocketAddr],
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Resting,
    Counting(RequestId),
    Signalling {
        request: RequestId,
        round: Box<Round>,
    },
    Watching {
        look: Look,
        round: Box<Round>,
    },
    Proving {
        look: Look,
        round: Box<Round>,
    },
    Recounting {
        request: RequestId,
        round: Box<Round>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Look {
    Due(Instant),
    Asked(RequestId),
}

/// Where a signal stands after an answer.
pub(super) enum Progress {
    /// It goes on.
    Going,
    /// The load balancer has loaded what was written before the signal.
    Acknowledged,
    /// It cannot be signalled; in the peer's words or ours.
    Failed(Complaint),
    /// It said 200, and does not serve the files of these names.
    Unproven { problem: Complaint, names: Vec<Domain>, reloaded: bool },
    /// The drift watch has seen another certificate for this name.
    Strayed(Complaint, Domain),
    /// The drift watch saw nothing.
    Unseen(Complaint),
}

impl Balancer {
    /// One that has acknowledged everything up to `generation`.
    pub(super) fn up_to_date(generation: u64) -> Balancer {
        Balancer { acknowledged: generation, ..Balancer::default() }
    }

    pub(super) fn is_resting(&self) -> bool {
        matches!(self.step, Step::Resting)
    }

    pub(super) fn awaits(&self, request: RequestId) -> bool {
        self.request() == Some(request)
    }

    fn request(&self) -> Option<RequestId> {
        match self.step {
            Step::Counting(request)
            | Step::Signalling { request, .. }
            | Step::Watching { look: Look::Asked(request), .. }
            | Step::Proving { look: Look::Asked(request), .. }
            | Step::Recounting { request, .. } => Some(request),
            Step::Resting | Step::Watching { .. } | Step::Proving { .. } => None,
        }
    }

    /// Begins a signal.
    pub(super) fn begin(&mut self, turn: &mut Turn<'_>, transport: &mut Transport, spot: Spot<'_>) {
        self.step = Step::Counting(send(turn, transport, lb::pids_request(spot.url), spot));
    }

    /// Looks whether it still serves the file of a name.
    pub(super) fn look(&mut self, now: Instant, name: &Domain, spot: Spot<'_>) {
        let left = spot.places.iter().map(|place| (name.clone(), *place)).collect();
        let until = now + DRIFT_PATIENCE;
        let round = Round { left, ..Round::new(None, None, until, until) };
        self.step = Step::Proving { look: Look::Due(now), round: Box::new(round) };
    }

    /// Gives it up.
    pub(super) fn end(&mut self, transport: &mut Transport) {
        if let Some(request) = self.request() {
            transport.cancel(request);
        }
        self.step = Step::Resting;
    }

    /// Takes in the answer to what it was asked; `owed` is what a signal sent now is for.
    pub(super) fn heard(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
        spot: Spot<'_>,
        owed: u64,
        event: TransportEvent,
    ) -> Progress {
        let now = turn.now.mono;
        match std::mem::take(&mut self.step) {
            Step::Resting => Progress::Going,
            Step::Counting(_) => match response(event) {
                Err(problem) => Progress::Failed(problem),
                Ok(response) => {
                    let (until, recount_at) = (now + PROOF_PATIENCE, now + RELOAD_PATIENCE);
                    let before = lb::pids(&response);
                    let round = Round::new(Some(owed), before, until, recount_at);
                    self.signal(turn, means, spot, Box::new(round))
                }
            },
            Step::Signalling { round, .. } => {
                let refused = |response: Response| {
                    lb::acknowledged(&response).map_err(|refusal| {
                        let hint = Hint::of_balancer(refusal.status);
                        Complaint::new(refusal.to_string(), hint)
                    })
                };
                match response(event).and_then(refused) {
                    Err(problem) => Progress::Failed(problem),
                    Ok(()) => self.signalled(now, means, spot, round),
                }
            }
            Step::Watching { round, .. } => self.watched(now, round, event),
            Step::Proving { round, .. } => self.glanced(turn, means, spot, round, event),
            Step::Recounting { round, .. } => self.recounted(turn, means, spot, round, event),
        }
    }

    fn signal(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
        spot: Spot<'_>,
        round: Box<Round>,
    ) -> Progress {
        let request = send(turn, means.transport, lb::reload_request(spot.url), spot);
        self.step = Step::Signalling { request, round };
        Progress::Going
    }

    /// It said 200: the proof begins, or goes on behind a signal that was repeated.
    fn signalled(
        &mut self,
        now: Instant,
        means: &Means<'_>,
        spot: Spot<'_>,
        mut round: Box<Round>,
    ) -> Progress {
        if round.left.is_empty() {
            let suspect = (self.suspect.as_ref(), spot.places);
            round.left = proof::left(means.catalog, means.written, self.acknowledged, suspect);
        }
        let look = Look::Due(now + LOOK_PAUSE);
        if !round.left.is_empty() {
            round.recount_at = now + RELOAD_PATIENCE;
            self.step = Step::Proving { look, round };
        } else if round.before.is_some() {
            round.until = now + RELOAD_PATIENCE;
            self.step = Step::Watching { look, round };
        } else {
            return self.proven(&round);
        }
        Progress::Going
    }

    /// A look at the process ids, where they are all that can be seen.
    fn watched(&mut self, now: Instant, mut round: Box<Round>, event: TransportEvent) -> Progress {
        round.count(response(event));
        if round.reloaded {
            return self.proven(&round);
        }
        if now >= round.until {
            let patience = RELOAD_PATIENCE.as_secs();
            let text = format!("it said 200, but no new process came in {patience} s");
            let problem = Complaint::new(text, Some(Hint::LbNoReload));
            return Progress::Unproven { problem, names: Vec::new(), reloaded: false };
        }
        self.step = Step::Watching { look: Look::Due(now + LOOK_PAUSE), round };
        Progress::Going
    }

    /// A handshake ended.
    fn glanced(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
        spot: Spot<'_>,
        mut round: Box<Round>,
        event: TransportEvent,
    ) -> Progress {
        let now = turn.now.mono;
        let Some((name, at)) = round.left.front().cloned() else {
            return self.seen_all(turn, means, spot, round);
        };
        let expected = means.catalog.expected(&name);
        match event {
            TransportEvent::Presented(der) => {
                let right = expected.is_none_or(|expected| expected == Fingerprint::of(&der));
                self.note(&name, expected.is_some(), right, &der);
                if right {
                    round.left.pop_front();
                } else {
                    round.seen = Some(Sighting::another(&name, at, &der));
                }
                if right && round.left.is_empty() {
                    return self.seen_all(turn, means, spot, round);
                }
                let pause = if right { Duration::ZERO } else { LOOK_PAUSE };
                self.step = Step::Proving { look: Look::Due(now + pause), round };
            }
            TransportEvent::Failed(error) => {
                round.seen = Some(Sighting::nothing(&error));
                self.step = Step::Proving { look: Look::Due(now + LOOK_PAUSE), round };
            }
            // Nothing else comes of a handshake.
            _ => self.step = Step::Proving { look: Look::Due(now + LOOK_PAUSE), round },
        }
        Progress::Going
    }

    /// Remembers what was seen for a name that matters.
    fn note(&mut self, name: &Domain, matters: bool, right: bool, der: &[u8]) {
        match Leaf::parse(der).filter(|_| matters) {
            Some(Leaf { not_after, .. }) => {
                self.served.insert(name.clone(), Served { right, not_after });
            }
            None => drop(self.served.remove(name)),
        }
    }

    /// Everything is served as it was written; what is left is to count the processes of before.
    fn seen_all(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
        spot: Spot<'_>,
        mut round: Box<Round>,
    ) -> Progress {
        round.seen = None;
        if round.before.is_none() {
            return self.proven(&round);
        }
        self.recount(turn, means, spot, round)
    }

    /// Asks for the process ids, in the middle of a proof or at its end.
    fn recount(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
        spot: Spot<'_>,
        round: Box<Round>,
    ) -> Progress {
        let request = send(turn, means.transport, lb::pids_request(spot.url), spot);
        self.step = Step::Recounting { request, round };
        Progress::Going
    }

    /// A look at the process ids in the middle of a proof, or at its end.
    fn recounted(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
        spot: Spot<'_>,
        mut round: Box<Round>,
        event: TransportEvent,
    ) -> Progress {
        let now = turn.now.mono;
        let shown = round.count(response(event));
        if round.left.is_empty() {
            let before = round.before.iter().flatten();
            self.lingering = before.filter(|pid| shown.contains(pid)).count();
            return self.proven(&round);
        }
        if now >= round.until {
            return self.unproven(*round);
        }
        if round.reloaded || !round.new.is_empty() {
            let pause = if round.reloaded { PROOF_PATIENCE } else { LOOK_PAUSE };
            round.recount_at = now + pause;
            self.step = Step::Proving { look: Look::Due(now + LOOK_PAUSE), round };
            return Progress::Going;
        }
        // Swallowed, as it seems; a second signal does no harm.
        self.signal(turn, means, spot, round)
    }

    fn proven(&mut self, round: &Round) -> Progress {
        let Some(generation) = round.generation else {
            self.problem = None;
            return Progress::Going;
        };
        self.acknowledged = generation;
        self.suspect = None;
        Progress::Acknowledged
    }

    /// The patience is over.
    fn unproven(&mut self, round: Round) -> Progress {
        let Some(seen) = round.seen else { return Progress::Going };
        let first = round.left.front().map(|(name, _)| name.clone());
        match (round.generation, &seen, first) {
            (Some(_), _, _) => {
                let reloaded = round.before.as_ref().map(|_| round.reloaded);
                let problem = proof::unproven(&seen, reloaded, PROOF_PATIENCE.as_secs());
                let names = round.left.into_iter().map(|(name, _)| name).into_set();
                let names = names.into_iter().collect();
                Progress::Unproven { problem, names, reloaded: round.reloaded }
            }
            (None, Sighting::Another { .. }, Some(name)) => {
                Progress::Strayed(seen.complaint(), name)
            }
            (None, _, _) => Progress::Unseen(seen.complaint()),
        }
    }

    /// Looks again when it is time.
    pub(super) fn handle_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        means: &mut Means<'_>,
        spot: Spot<'_>,
    ) -> Progress {
        let now = turn.now.mono;
        if self.poll_timeout().is_none_or(|due| due > now) {
            return Progress::Going;
        }
        match std::mem::take(&mut self.step) {
            Step::Watching { round, .. } => {
                let request = send(turn, means.transport, lb::pids_request(spot.url), spot);
                self.step = Step::Watching { look: Look::Asked(request), round };
            }
            Step::Proving { round, .. } => {
                let is_over = now >= round.until && round.seen.is_some();
                let Some((name, at)) = round.left.front() else { return self.proven(&round) };
                if round.before.is_some() && (is_over || now >= round.recount_at) {
                    return self.recount(turn, means, spot, round);
                }
                if is_over {
                    return self.unproven(*round);
                }
                let look = Look::Asked(means.transport.glance(turn, *at, name));
                self.step = Step::Proving { look, round };
            }
            other => self.step = other,
        }
        Progress::Going
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Watching { look: Look::Due(at), .. }
            | Step::Proving { look: Look::Due(at), .. } => Some(at),
            _ => None,
        }
    }
}

/// The answer to a request.
fn response(event: TransportEvent) -> Result<Response, Complaint> {
    match event {
        TransportEvent::Response(response) => Ok(response),
        TransportEvent::Failed(error) => Err(error.complaint(Trust::WebPki)),
        // Only streamed requests, lookups and glances have other events.
        _ => Err(Complaint::from("it answered something else")),
    }
}

/// Asks one address. Every request here may be repeated, so a lost answer is no trouble.
fn send(
    turn: &mut Turn<'_>,
    transport: &mut Transport,
    request: Request,
    spot: Spot<'_>,
) -> RequestId {
    let outgoing = Outgoing {
        request,
        trust: Trust::WebPki,
        timeout: Some(SIGNAL_TIMEOUT),
        silence: None,
        address: Some(spot.address),
        delivery: Delivery::Whole { body_bytes_max: lb::ANSWER_BYTES_MAX },
    };
    transport.send(turn, outgoing)
}
