//! One load balancer: what it has acknowledged, and how far its signal has come. A 200 does not prove
//! a reload, since marathon-lb may swallow a signal: where it shows HAProxy's process ids, one must be
//! there that was not there before the signal, and stay over two looks.
//!
//! `Resting → Counting (ids before) → Signalling → Watching (ids after) → Resting`

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::collect::Collect;
use crate::daemon::transport::{Delivery, Outgoing, RequestId, Transport, TransportEvent};
use crate::hint::{Complaint, Hint};
use crate::http::{Request, Response};
use crate::lb;
use crate::seam::Trust;
use crate::time::{Instant, UnixTime};
use crate::turn::Turn;
use crate::url::Url;

/// A load balancer that has not answered by then is asked again.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(15);
/// From one look at the process ids to the next: the process that checks the configuration before a
/// reload is gone by then.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// A signal after which no process has come within this time is repeated.
const RELOAD_PATIENCE: Duration = Duration::from_secs(20);

/// One address of a `--lb` name.
#[derive(Debug, Default)]
pub(super) struct Balancer {
    /// The last generation that it acknowledged.
    pub(super) acknowledged: u64,
    /// Since when the name has not had its address any more.
    pub(super) missing_since: Option<Instant>,
    /// When it acknowledged a signal of this process.
    pub(super) reloaded: Option<UnixTime>,
    /// Why it did not acknowledge the last signal.
    pub(super) problem: Option<Complaint>,
    step: Step,
}

type Pids = BTreeSet<u32>;

#[derive(Debug, Default)]
enum Step {
    #[default]
    Resting,
    Counting(RequestId),
    Signalling {
        request: RequestId,
        generation: u64,
        /// The process ids before the signal, where they are shown.
        before: Option<Pids>,
    },
    Watching {
        look: Look,
        generation: u64,
        before: Pids,
        /// Process ids that were new at the last look.
        new: Pids,
        until: Instant,
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
    /// It has not; in the peer's words or ours.
    Failed(Complaint),
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
            | Step::Watching { look: Look::Asked(request), .. } => Some(request),
            Step::Resting | Step::Watching { .. } => None,
        }
    }

    /// Begins a signal.
    pub(super) fn begin(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        at: (&Url, IpAddr),
    ) {
        self.step = Step::Counting(send(turn, transport, lb::pids_request(at.0), at.1));
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
        transport: &mut Transport,
        at: (&Url, IpAddr),
        owed: u64,
        event: TransportEvent,
    ) -> Progress {
        let answer = match event {
            TransportEvent::Response(response) => Ok(response),
            TransportEvent::Failed(error) => Err(error.complaint(Trust::WebPki)),
            // Only streamed requests and lookups have other events.
            _ => return Progress::Going,
        };
        let now = turn.now.mono;
        match std::mem::take(&mut self.step) {
            Step::Resting => Progress::Going,
            Step::Counting(_) => match answer {
                Err(problem) => Progress::Failed(problem),
                Ok(response) => {
                    let request = send(turn, transport, lb::reload_request(at.0), at.1);
                    let before = lb::pids(&response);
                    self.step = Step::Signalling { request, generation: owed, before };
                    Progress::Going
                }
            },
            Step::Signalling { generation, before, .. } => {
                let refused = |response: Response| {
                    lb::acknowledged(&response).map_err(|refusal| {
                        let hint = Hint::of_balancer(refusal.status);
                        Complaint::new(refusal.to_string(), hint)
                    })
                };
                match (answer.and_then(refused), before) {
                    (Err(problem), _) => Progress::Failed(problem),
                    (Ok(()), None) => self.proven(generation),
                    (Ok(()), Some(before)) => {
                        let look = Look::Due(now + LOOK_PAUSE);
                        let (new, until) = (Pids::new(), now + RELOAD_PATIENCE);
                        self.step = Step::Watching { look, generation, before, new, until };
                        Progress::Going
                    }
                }
            }
            Step::Watching { generation, before, new: known, until, .. } => {
                // An answer that cannot be read shows no process; the next look may.
                let shown = answer.ok().and_then(|response| lb::pids(&response));
                let new: Pids = shown.unwrap_or_default().difference(&before).copied().into_set();
                if !new.is_disjoint(&known) {
                    return self.proven(generation);
                }
                if now >= until {
                    let patience = RELOAD_PATIENCE.as_secs();
                    let text = format!("it said 200, but no new process came in {patience} s");
                    return Progress::Failed(Complaint::new(text, Some(Hint::LbNoReload)));
                }
                let look = Look::Due(now + LOOK_PAUSE);
                self.step = Step::Watching { look, generation, before, new, until };
                Progress::Going
            }
        }
    }

    fn proven(&mut self, generation: u64) -> Progress {
        self.acknowledged = generation;
        Progress::Acknowledged
    }

    /// Looks at the process ids when it is time.
    pub(super) fn handle_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        at: (&Url, IpAddr),
    ) {
        if self.poll_timeout().is_some_and(|due| due <= turn.now.mono)
            && let Step::Watching { look, .. } = &mut self.step
        {
            *look = Look::Asked(send(turn, transport, lb::pids_request(at.0), at.1));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Watching { look: Look::Due(at), .. } => Some(at),
            _ => None,
        }
    }
}

/// Asks one address. Every request here may be repeated, so a lost answer is no trouble.
fn send(
    turn: &mut Turn<'_>,
    transport: &mut Transport,
    request: Request,
    address: IpAddr,
) -> RequestId {
    let outgoing = Outgoing {
        request,
        trust: Trust::WebPki,
        timeout: Some(SIGNAL_TIMEOUT),
        silence: None,
        address: Some(address),
        delivery: Delivery::Whole { body_bytes_max: lb::ANSWER_BYTES_MAX },
    };
    transport.send(turn, outgoing)
}
