//! One `--lb` name: resolved before each round of signals; each of its addresses is a load balancer
//! of its own, signalled until it has acknowledged.
//!
//! Name: `Resting → Resolving → Resting | Pausing → Resolving …`, address: `Resting ↔ Sent`

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::daemon::transport::{Delivery, Outgoing, RequestId, Transport, TransportEvent};
use crate::lb;
use crate::log::Record;
use crate::seam::Trust;
use crate::time::Instant;
use crate::turn::Turn;
use crate::url::Url;

/// A load balancer that has not answered by then is asked again.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(15);

/// What an event meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The addresses are known.
    Resolved,
    /// A load balancer acknowledged a signal.
    Acknowledged,
    /// It did not, or the name could not be resolved.
    Failed,
}

/// One `--lb` URL and its load balancers.
#[derive(Debug)]
pub(super) struct Name {
    url: Url,
    /// The generation that every address must acknowledge.
    owed: u64,
    step: Step,
    backoff: Backoff,
    balancers: BTreeMap<IpAddr, Balancer>,
}

#[derive(Debug)]
enum Step {
    Resting,
    Resolving(RequestId),
    Pausing { until: Instant },
}

#[derive(Debug, Default)]
struct Balancer {
    /// The last generation that it acknowledged.
    acknowledged: u64,
    /// The signal under way, and the generation that it was sent for.
    sent: Option<(RequestId, u64)>,
}

impl Name {
    pub(super) fn new(url: &Url) -> Name {
        Name {
            url: url.clone(),
            owed: 0,
            step: Step::Resting,
            backoff: Backoff::default(),
            balancers: BTreeMap::new(),
        }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn is_clean(&self) -> bool {
        matches!(self.step, Step::Resting)
            && self.balancers.values().all(|balancer| balancer.acknowledged >= self.owed)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.backoff.failures() > 0
    }

    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    pub(super) fn awaits(&self, request: RequestId) -> bool {
        matches!(self.step, Step::Resolving(id) if id == request)
            || self.balancers.values().any(|balancer| balancer.awaits(request))
    }

    /// Every address owes a reload for `generation` from now on.
    pub(super) fn owe(&mut self, turn: &mut Turn<'_>, transport: &mut Transport, generation: u64) {
        self.owed = generation;
        if !matches!(self.step, Step::Resolving(_)) {
            self.resolve(turn, transport);
        }
    }

    fn resolve(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) {
        self.step = Step::Resolving(transport.resolve(turn, &self.url.origin().host));
    }

    pub(super) fn handle_event(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        request: RequestId,
        event: TransportEvent,
    ) -> Outcome {
        let answer = match event {
            TransportEvent::Addresses(addresses) => {
                self.resolved(turn, transport, &addresses);
                return Outcome::Resolved;
            }
            TransportEvent::Response(response) => {
                lb::acknowledged(&response).map_err(|refusal| refusal.to_string())
            }
            TransportEvent::Failed(error) => Err(error.to_string()),
            TransportEvent::Head(_) | TransportEvent::Body(_) | TransportEvent::End => {
                return Outcome::Resolved;
            }
        };
        match answer {
            Ok(()) => {
                self.acknowledged(turn, request);
                Outcome::Acknowledged
            }
            Err(problem) => {
                self.failed(turn, request, &problem);
                Outcome::Failed
            }
        }
    }

    /// An address that appears owes all; one that is gone owes nothing.
    fn resolved(&mut self, turn: &mut Turn<'_>, transport: &mut Transport, found: &[IpAddr]) {
        self.step = Step::Resting;
        for (_, gone) in self.balancers.extract_if(.., |address, _| !found.contains(address)) {
            if let Some((request, _)) = gone.sent {
                transport.cancel(request);
            }
        }
        for address in found {
            let balancer = self.balancers.entry(*address).or_default();
            if balancer.acknowledged < self.owed && balancer.sent.is_none() {
                let request = transport.send(turn, reload(&self.url, *address));
                balancer.sent = Some((request, self.owed));
            }
        }
    }

    fn acknowledged(&mut self, turn: &mut Turn<'_>, request: RequestId) {
        let Some((address, balancer)) = find(&mut self.balancers, request) else { return };
        if let Some((_, generation)) = balancer.sent.take() {
            balancer.acknowledged = generation;
        }
        let line = Record::info("lb", "reload acknowledged").with("lb", self.url.origin());
        turn.log(line.with("address", address));
        if balancer.acknowledged < self.owed && matches!(self.step, Step::Resting) {
            self.step = Step::Pausing { until: turn.now.mono };
        }
        if self.is_clean() {
            self.backoff.reset();
        }
    }

    fn failed(&mut self, turn: &mut Turn<'_>, request: RequestId, problem: &str) {
        let mut line = Record::error("lb", "reload not acknowledged").with("lb", self.url.origin());
        match find(&mut self.balancers, request) {
            Some((address, balancer)) => {
                balancer.sent = None;
                line = line.with("address", address);
            }
            None => self.step = Step::Resting,
        }
        // One pause for all that failed: a later failure must not put off an earlier one's retry.
        let until = match self.step {
            Step::Pausing { until } => until,
            Step::Resolving(_) => turn.now.mono,
            Step::Resting => {
                let until = turn.now.mono + self.backoff.pause(turn.keys);
                self.step = Step::Pausing { until };
                until
            }
        };
        let next_try = turn.now.wall.plus(until.since(turn.now.mono));
        turn.log(line.with("error", problem).with("next_try", next_try));
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) {
        if self.poll_timeout().is_some_and(|until| until <= turn.now.mono) {
            self.resolve(turn, transport);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Pausing { until } => Some(until),
            Step::Resting | Step::Resolving(_) => None,
        }
    }
}

impl Balancer {
    fn awaits(&self, request: RequestId) -> bool {
        self.sent.is_some_and(|(id, _)| id == request)
    }
}

fn find(
    balancers: &mut BTreeMap<IpAddr, Balancer>,
    request: RequestId,
) -> Option<(&IpAddr, &mut Balancer)> {
    balancers.iter_mut().find(|(_, balancer)| balancer.awaits(request))
}

/// The signal to one address. A repetition does no harm, so a lost answer is no trouble.
fn reload(url: &Url, address: IpAddr) -> Outgoing {
    Outgoing {
        request: lb::reload_request(url),
        trust: Trust::WebPki,
        timeout: Some(SIGNAL_TIMEOUT),
        silence: None,
        address: Some(address),
        delivery: Delivery::Whole { body_bytes_max: lb::ANSWER_BYTES_MAX },
    }
}
