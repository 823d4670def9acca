//! One request on its way: which address is tried, what has come of the response, what it waits for.
//!
//! `Resolving` → `Connecting` (one address after the other) → `Receiving` → over. A kept connection
//! leads straight to `Receiving`; when it turns out dead, back to `Resolving` once. By a proxy to an
//! `https` peer, to connect takes three steps: `Dialing` → `Asking` (CONNECT) → `Securing` (TLS).
//!
//! Never looks a name up and never keeps a connection: it says so ([`Progress`]) and is over.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::error::{Attempt, Awaited, ClientError, Fault};
use super::outbox::Outbox;
use super::pool::Peer;
use super::{ClientEvent, Delivery, Outgoing};
use crate::dns::DnsError;
use crate::http::{Exchange, ExchangeEvent, HttpError, Method, Reader, Response, ResponseHead};
use crate::http::{Request, RequestError, Tunnel, write_connect, write_request};
use crate::machine::{CloseReason, ConnId};
use crate::proxy::Proxies;
use crate::secret::SecretBytes;
use crate::time::Instant;
use crate::url::Scheme;

/// The longest that one address may take to connect, a proxy's tunnel and TLS included, when there are
/// others to try.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit of a request that names none.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The one status that only a proxy gives (RFC 9110 section 15.5.8), where the others of an `http` peer
/// may be either's.
const PROXY_AUTHENTICATION_REQUIRED: u16 = 407;
/// The most addresses that are tried for one request.
pub const ATTEMPTS_MAX: usize = 8;

/// One request, until it is over.
pub(super) struct Job {
    peer: Peer,
    method: Method,
    /// The CONNECT that is to be answered before TLS begins, where the way is a tunnel.
    connect: Option<SecretBytes>,
    bytes: SecretBytes,
    delivery: Delivery,
    silence: Option<Duration>,
    timeout: Duration,
    deadline: Instant,
    state: State,
}

enum State {
    Resolving,
    Connecting {
        conn: ConnId,
        address: SocketAddr,
        /// When the next address gets its turn, if there is one.
        give_up_at: Option<Instant>,
        next: VecDeque<IpAddr>,
        failed: Vec<Attempt>,
        step: Step,
    },
    Receiving {
        conn: ConnId,
        address: SocketAddr,
        reused: bool,
        exchange: Exchange,
        part: Part,
    },
}

/// How far a connection is.
enum Step {
    /// TCP, and TLS where there is no tunnel.
    Dialing,
    /// The proxy is asked for a tunnel.
    Asking(Tunnel),
    /// TLS, through the tunnel.
    Securing,
}

/// How far the response has come.
enum Part {
    Head,
    Whole {
        head: ResponseHead,
        body: Vec<u8>,
        body_bytes_max: usize,
    },
    Stream {
        /// When it has been silent for too long.
        quiet_until: Option<Instant>,
    },
}

/// Where a request stands after something happened.
pub(super) enum Progress {
    /// It goes on.
    Going,
    /// The kept connection was dead: it starts again, on a fresh one.
    Again,
    /// It is over.
    Over(ClientEvent, Leftover),
}

/// What is left of a request that is over.
pub(super) enum Leftover {
    Nothing,
    /// A lookup that has not been answered.
    Lookup,
    /// A connection that nobody may use again.
    Close(ConnId),
    /// A connection that can carry another request.
    Keep(ConnId, SocketAddr),
}

impl Job {
    pub(super) fn new(
        now: Instant,
        outgoing: Outgoing,
        proxies: &Proxies,
    ) -> Result<Job, ClientError> {
        let Outgoing { request, trust, timeout, silence, address, delivery } = outgoing;
        let origin = request.url.origin().clone();
        let proxy = proxies.choose(&origin).filter(|_| address.is_none()).cloned();
        let peer = Peer { origin, trust, fixed: address, proxy };
        let (connect, bytes) =
            write(&request, &peer).map_err(|error| failure(&peer, None, Fault::Request(error)))?;
        let timeout = timeout.unwrap_or(REQUEST_TIMEOUT);
        Ok(Job {
            peer,
            method: request.method,
            connect,
            bytes,
            delivery,
            silence,
            timeout,
            deadline: now + timeout,
            state: State::Resolving,
        })
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn into_peer(self) -> Peer {
        self.peer
    }

    /// When it fails unless the response has begun.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether it may go out on a kept connection. A stream takes a fresh one: it lasts.
    pub(super) fn may_reuse(&self) -> bool {
        matches!(self.delivery, Delivery::Whole { .. })
    }

    /// The connection that it is on, or is trying to make.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Resolving => None,
            State::Connecting { conn, .. } | State::Receiving { conn, .. } => Some(conn),
        }
    }

    /// Sends on a kept connection.
    pub(super) fn reuse(&mut self, conn: ConnId, address: SocketAddr, outbox: &mut Outbox) {
        self.send(conn, address, true, outbox);
    }

    /// Starts to connect, to the first of these addresses.
    pub(super) fn dial(
        &mut self,
        now: Instant,
        addresses: Vec<IpAddr>,
        outbox: &mut Outbox,
    ) -> Progress {
        let next = addresses.into_iter().take(ATTEMPTS_MAX).collect();
        self.dial_next(now, next, Vec::new(), outbox)
    }

    /// There are no addresses.
    pub(super) fn unresolved(&self, error: DnsError) -> Progress {
        self.over(Fault::Dns(error), Leftover::Nothing)
    }

    /// The connection stands, or TLS does on it.
    pub(super) fn handle_connected(&mut self, outbox: &mut Outbox) {
        let State::Connecting { conn, address, step, .. } = &mut self.state else { return };
        let (conn, address) = (*conn, *address);
        match (&step, &self.connect) {
            (Step::Dialing, Some(connect)) => {
                outbox.send(conn, connect.clone());
                *step = Step::Asking(Tunnel::new());
            }
            (Step::Dialing, None) | (Step::Securing, _) => self.send(conn, address, false, outbox),
            // It has stood since it was dialed.
            (Step::Asking(_), _) => {}
        }
    }

    /// Bytes of the response, or more than that; or the proxy's answer before it.
    pub(super) fn handle_received(
        &mut self,
        now: Instant,
        bytes: &[u8],
        outbox: &mut Outbox,
        events: &mut Vec<ClientEvent>,
    ) -> Progress {
        let (conn, exchange) = match &mut self.state {
            State::Resolving => return Progress::Going,
            State::Connecting { .. } => return self.take_answer(bytes, outbox),
            State::Receiving { conn, exchange, .. } => (*conn, exchange),
        };
        let mut parts = Vec::new();
        let received = exchange.receive(bytes, &mut parts);
        let spare = received.is_ok_and(|used| used < bytes.len());
        for part in parts {
            let progress = self.take_part(now, part, events);
            match progress {
                Progress::Going => {}
                // Bytes behind the response are nobody's: the peer is not to be trusted further.
                Progress::Over(event, _) if spare => {
                    return Progress::Over(event, Leftover::Close(conn));
                }
                progress => return progress,
            }
        }
        match received {
            Ok(_) => Progress::Going,
            Err(error) => self.over(Fault::Http(error), Leftover::Close(conn)),
        }
    }

    /// The connection ended, or could not be made.
    pub(super) fn handle_closed(
        &mut self,
        now: Instant,
        reason: CloseReason,
        outbox: &mut Outbox,
        events: &mut Vec<ClientEvent>,
    ) -> Progress {
        match &mut self.state {
            State::Resolving => Progress::Going,
            State::Connecting { address, next, failed, .. } => {
                failed.push(Attempt { address: *address, reason: Some(reason) });
                let (next, failed) = (std::mem::take(next), std::mem::take(failed));
                self.dial_next(now, next, failed, outbox)
            }
            State::Receiving { reused: true, exchange, .. }
                if !exchange.started() && may_repeat(self.method, &reason) =>
            {
                self.state = State::Resolving;
                Progress::Again
            }
            State::Receiving { exchange, .. } => {
                let mut parts = Vec::new();
                if exchange.close(reason == CloseReason::Finished, &mut parts).is_err() {
                    return self.over(Fault::Closed(reason), Leftover::Nothing);
                }
                for part in parts {
                    if let Progress::Over(event, _) = self.take_part(now, part, events) {
                        return Progress::Over(event, Leftover::Nothing);
                    }
                }
                Progress::Going
            }
        }
    }

    /// An instant of [`Job::poll_timeout`] has come, or not yet.
    pub(super) fn handle_timeout(&mut self, now: Instant, outbox: &mut Outbox) -> Progress {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return Progress::Going;
        }
        match &mut self.state {
            State::Resolving => self.too_late(Awaited::Addresses, self.timeout, Leftover::Lookup),
            State::Connecting { conn, address, next, failed, .. } => {
                outbox.close(*conn);
                failed.push(Attempt { address: *address, reason: None });
                let (mut next, failed) = (std::mem::take(next), std::mem::take(failed));
                if self.deadline <= now {
                    next.clear();
                }
                self.dial_next(now, next, failed, outbox)
            }
            State::Receiving { conn, part, .. } => {
                let left = Leftover::Close(*conn);
                match part {
                    Part::Head => self.too_late(Awaited::Head, self.timeout, left),
                    Part::Whole { .. } => self.too_late(Awaited::Body, self.timeout, left),
                    Part::Stream { .. } => {
                        self.too_late(Awaited::Piece, self.silence.unwrap_or_default(), left)
                    }
                }
            }
        }
    }

    /// When it has waited too long for whatever it waits for.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Receiving { part: Part::Stream { quiet_until }, .. } => quiet_until,
            State::Connecting { give_up_at: Some(give_up_at), .. } => {
                Some(give_up_at.min(self.deadline))
            }
            _ => Some(self.deadline),
        }
    }

    /// Each address gets its fair share of the time that is left, so that the last is tried too.
    fn dial_next(
        &mut self,
        now: Instant,
        mut next: VecDeque<IpAddr>,
        failed: Vec<Attempt>,
        outbox: &mut Outbox,
    ) -> Progress {
        let Some(address) = next.pop_front() else {
            self.state = State::Resolving;
            return self.over(Fault::Connect(failed), Leftover::Nothing);
        };
        let address = SocketAddr::new(address, self.peer.hop().1);
        let tls = self.peer.tls().filter(|_| self.connect.is_none());
        let conn = outbox.connect(address, tls);
        let sharers = u32::try_from(next.len() + 1).unwrap_or(u32::MAX);
        let share = CONNECT_TIMEOUT.min(self.deadline.since(now) / sharers);
        let give_up_at = (!next.is_empty()).then(|| now + share);
        let step = Step::Dialing;
        self.state = State::Connecting { conn, address, give_up_at, next, failed, step };
        Progress::Going
    }

    /// What a proxy says before the peer itself can be heard. Nothing that came in the clear is taken for
    /// the peer's.
    fn take_answer(&mut self, bytes: &[u8], outbox: &mut Outbox) -> Progress {
        let State::Connecting { conn, address, step, .. } = &mut self.state else {
            return Progress::Going;
        };
        let (conn, address) = (*conn, *address);
        let answer = match step {
            Step::Asking(tunnel) => tunnel.receive(bytes),
            Step::Securing => Err(HttpError::BehindTunnel),
            // Nothing comes on what does not stand.
            Step::Dialing => return Progress::Going,
        };
        let fault = match (answer, self.peer.tls()) {
            (Ok(None), _) => return Progress::Going,
            (Ok(Some(200..300)), Some(tls)) => {
                *step = Step::Securing;
                outbox.secure(conn, tls);
                return Progress::Going;
            }
            (Ok(Some(status)), _) => Fault::Proxy(status),
            (Err(error), _) => Fault::ProxyHttp(error),
        };
        let error = failure(&self.peer, Some(address), fault);
        Progress::Over(ClientEvent::Failed(error), Leftover::Close(conn))
    }

    fn send(&mut self, conn: ConnId, address: SocketAddr, reused: bool, outbox: &mut Outbox) {
        outbox.send(conn, self.bytes.clone());
        let exchange = Exchange::new(self.method);
        self.state = State::Receiving { conn, address, reused, exchange, part: Part::Head };
    }

    /// Hands a part of the response on, or keeps it until the response is whole.
    fn take_part(
        &mut self,
        now: Instant,
        event: ExchangeEvent,
        events: &mut Vec<ClientEvent>,
    ) -> Progress {
        let State::Receiving { conn, address, part, .. } = &mut self.state else {
            return Progress::Going;
        };
        let (conn, address) = (*conn, *address);
        if let ExchangeEvent::Head(head) = &event
            && head.status == PROXY_AUTHENTICATION_REQUIRED
            && self.peer.proxy.is_some()
            && self.connect.is_none()
        {
            return self.over(Fault::Proxy(head.status), Leftover::Close(conn));
        }
        let stream = Part::Stream { quiet_until: self.silence.map(|silence| now + silence) };
        *part = match (event, std::mem::replace(part, Part::Head)) {
            (ExchangeEvent::Head(head), _) => match self.delivery {
                Delivery::Whole { body_bytes_max } => {
                    Part::Whole { head, body: Vec::new(), body_bytes_max }
                }
                Delivery::Streamed => {
                    events.push(ClientEvent::Head(head));
                    stream
                }
            },
            (ExchangeEvent::Body(piece), Part::Whole { head, mut body, body_bytes_max }) => {
                if body.len().saturating_add(piece.len()) > body_bytes_max {
                    let fault = Fault::TooLarge { limit_bytes: body_bytes_max };
                    return self.over(fault, Leftover::Close(conn));
                }
                body.extend(piece);
                Part::Whole { head, body, body_bytes_max }
            }
            (ExchangeEvent::Body(piece), _) => {
                events.push(ClientEvent::Body(piece));
                stream
            }
            (ExchangeEvent::End { reusable }, Part::Whole { head, body, .. }) => {
                let keep = Leftover::Keep(conn, address);
                let left = if reusable { keep } else { Leftover::Close(conn) };
                return Progress::Over(ClientEvent::Response(Response { head, body }), left);
            }
            (ExchangeEvent::End { .. }, _) => {
                return Progress::Over(ClientEvent::End, Leftover::Close(conn));
            }
        };
        Progress::Going
    }

    fn too_late(&self, awaited: Awaited, limit: Duration, left: Leftover) -> Progress {
        self.over(Fault::timeout(awaited, limit), left)
    }

    fn over(&self, fault: Fault, left: Leftover) -> Progress {
        let address = match self.state {
            State::Receiving { address, .. } => Some(address),
            State::Resolving | State::Connecting { .. } => None,
        };
        Progress::Over(ClientEvent::Failed(failure(&self.peer, address, fault)), left)
    }
}

fn failure(peer: &Peer, address: Option<SocketAddr>, fault: Fault) -> ClientError {
    let proxy = peer.proxy.as_ref().map(ToString::to_string);
    ClientError { peer: peer.origin.to_string(), proxy, address, fault }
}

/// The CONNECT, where a tunnel is wanted, and the request. What is for the proxy stands in the one that
/// the proxy reads.
fn write(
    request: &Request,
    peer: &Peer,
) -> Result<(Option<SecretBytes>, SecretBytes), RequestError> {
    let (connect, reader) = match (&peer.proxy, peer.origin.scheme) {
        (None, _) => (None, Reader::Server),
        (Some(proxy), Scheme::Http) => {
            (None, Reader::Proxy { credentials: proxy.credentials.as_ref() })
        }
        (Some(proxy), Scheme::Https) => {
            let connect = write_connect(&peer.origin, proxy.credentials.as_ref())?;
            (Some(connect), Reader::Server)
        }
    };
    Ok((connect, write_request(request, reader)?))
}

/// Whether a request may be sent again when its kept connection ended before any byte of the
/// response: it may have been acted on, or never have been read.
///
/// What is idempotent may always be (RFC 9110 section 9.2.2). A POST may when the peer closed the
/// connection, as peers do that give up an idle one: all our POSTs survive being sent twice. Those
/// to a CA carry a nonce that serves once (RFC 8555 section 6.5), so a second copy is refused and
/// signed again; the reload signal to a load balancer is idempotent.
fn may_repeat(method: Method, reason: &CloseReason) -> bool {
    let by_peer =
        matches!(reason, CloseReason::Finished | CloseReason::Truncated | CloseReason::Reset);
    method.is_idempotent() || by_peer
}
