//! The listener's connections: reads requests, sends answers in order, closes the slow and the idle.
//! What is answered is the responder's business.
//!
//! Each connection: `Reading → Asking (a file is read) → Reading …`. One whose peer says no more is closed
//! once it is `Reading` again, with all answered.
//!
//! Where there are too many, those go that have been of no use longest: a connection is of use when it
//! comes and whenever a whole request does. So a newcomer is the last to go, and bytes that drip help
//! nobody to stay. Of a thousand newcomers a second each has half a second for its request, of ten
//! thousand a twentieth, unless it comes along with the connection, as it does from a load balancer.
//!
//! A connection asks for one file at a time, so that as many are read at once as there are connections
//! at most. A token that another instance may have published is first looked for in a listing, which all
//! connections share (`listing.rs`).
//!
//! Reports are for the operator: on `--listen` they are answered only to requests that no proxy has passed
//! on, since load balancers publish that port. Costly ones are limited (`limiter.rs`).

use std::net::IpAddr;
use std::time::Duration;

use crate::challenge::{Answer, Responder, is_for_a_ca, not_found, refusal, served};
use crate::context::Context;
use crate::flat::{FlatMap, FlatSet};
use crate::http::{ServerConnection, ServerEvent, ServerRequest, ServerResponse};
use crate::log::{Record, message};
use crate::machine::{ACCEPTED_MAX, ConnId, ListenerKind, Load, Output, Usage};
use crate::time::Instant;

mod endpoint;
mod limiter;
mod listing;

pub use endpoint::{Endpoint, ReportRequest};
use limiter::{RateLimiter, WINDOW};
use listing::{Known, Listing};

/// A connection that has sent no whole request head within this time is closed.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// A connection that was answered and asks nothing more is closed after this time.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// When the system has run out of descriptors, one connection in so many goes at once, so that there
/// is room for more than the next one.
const SHED_SHARE: usize = 8;
/// The system has enough descriptors again when it has not run out for so long.
const SHORTAGE_OVER: Duration = Duration::from_secs(10);

/// How many challenge requests were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChallengeCounts {
    /// With a key authorization.
    pub served: u64,
    /// With 404.
    pub unknown: u64,
}

/// The listener's side of the daemon.
#[derive(Debug, Default)]
pub struct Server {
    /// What is answered.
    pub responder: Responder,
    /// There is a listener for the operator: the public one answers challenges and the status alone.
    has_admin: bool,
    /// Each in memory of its own, so that it stays where it is.
    connections: FlatMap<ConnId, Box<Connection>>,
    /// Every connection by the time at which it is looked whether it has taken too long.
    looks: FlatSet<(Instant, ConnId)>,
    /// How often any connection was of use.
    used: u64,
    shortage: Option<Shortage>,
    counts: ChallengeCounts,
    limiter: RateLimiter,
    listing: Listing,
    outputs: Vec<Output>,
}

/// What the daemon tells about itself.
pub trait Reports {
    /// The answer to a question; the counts are the listener's own.
    fn answer(&self, report: &ReportRequest, challenges: ChallengeCounts) -> ServerResponse;

    /// How many such answers are given within a window of the rate limiter to all clients together, from 8;
    /// nothing where the answer takes little time and memory.
    fn answers_max(&self, report: &ReportRequest) -> Option<usize>;

    /// Where the key authorization of such a token may be.
    fn lookup(&self, token: &str) -> Lookup;
}

/// Where the key authorization of a token may be that this instance has not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Nowhere.
    Nowhere,
    /// In a file of the storage, by what this instance knows.
    Stored,
    /// In a file of the storage, if another instance has published it.
    Shared,
}

#[derive(Debug)]
struct Connection {
    codec: ServerConnection,
    door: ListenerKind,
    /// The address of the peer.
    client: IpAddr,
    /// When it is closed.
    deadline: Instant,
    /// When that is looked at: never later, and seldom moved, as each request puts the deadline off.
    look: Instant,
    /// Which use was its last.
    used: u64,
    /// A file is being read for the request at the head of the queue. That is always answered.
    asking: bool,
    /// The token in that request, while it waits for a listing.
    token: Option<String>,
    /// How many listings were requested when its last bytes came.
    listings: u64,
    /// The peer says no more.
    finished: bool,
}

/// The system has run out of descriptors.
#[derive(Debug)]
struct Shortage {
    over: Instant,
    /// Connections that made room.
    closed: usize,
}

impl Server {
    /// One without connections; whether there is a listener for the operator.
    pub fn new(has_admin: bool) -> Server {
        Server { has_admin, ..Server::default() }
    }

    /// Takes in a new connection.
    pub fn accepted(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        client: IpAddr,
        door: ListenerKind,
    ) {
        if self.connections.len() >= ACCEPTED_MAX {
            self.evict();
        }
        let deadline = cx.now.mono + HEAD_PATIENCE;
        self.looks.insert((deadline, conn));
        let codec = ServerConnection::new();
        self.used += 1;
        let connection = Connection {
            codec,
            door,
            client,
            deadline,
            look: deadline,
            used: self.used,
            asking: false,
            token: None,
            listings: 0,
            finished: false,
        };
        self.connections.insert(conn, Box::new(connection));
    }

    /// The system has no descriptors left for more connections; `detail` are its words.
    pub fn exhausted(&mut self, cx: &mut Context<'_>, detail: &str) {
        let goers = (self.connections.len() / SHED_SHARE).max(1).min(self.connections.len());
        for _ in 0..goers {
            self.evict();
        }
        let over = cx.now.mono + SHORTAGE_OVER;
        if self.shortage.is_none() {
            let line = Record::warn("listen", message::FEW_DESCRIPTORS);
            cx.log(line.with("error", detail).with("connections", self.connections.len()));
        }
        let closed = self.shortage.take().map_or(0, |shortage| shortage.closed) + goers;
        self.shortage = Some(Shortage { over, closed });
    }

    /// Closes the connection that has been of no use longest. There are some hundreds at most: to look
    /// through them costs less than an order of them that every request changes.
    fn evict(&mut self) {
        let oldest = self.connections.iter().min_by_key(|(_, connection)| connection.used);
        if let Some(conn) = oldest.map(|(conn, _)| *conn) {
            self.close(conn, false);
        }
    }

    /// Whether a connection is one of ours.
    pub fn owns(&self, conn: ConnId) -> bool {
        self.connections.contains_key(&conn)
    }

    /// Takes in a peer's bytes.
    pub fn received(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        bytes: &[u8],
        reports: &dyn Reports,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.listings = self.listing.requested();
        connection.codec.receive(bytes);
        self.answer_all(cx, conn, reports);
        // The first bytes of a further request start its time; more of them do not prolong it.
        let hasty = cx.now.mono + HEAD_PATIENCE;
        if let Some(connection) = self.connections.get_mut(&conn)
            && connection.codec.is_mid_request()
            && connection.deadline > hasty
        {
            connection.deadline = hasty;
            if connection.look > hasty {
                self.look_at(conn, hasty);
            }
        }
    }

    /// Takes in what a file lookup found.
    pub fn looked_up(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        token: &str,
        key_authorization: Option<String>,
        reports: &dyn Reports,
    ) {
        if key_authorization.is_none() {
            self.listing.forget(token);
        }
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if !std::mem::take(&mut connection.asking) {
            return;
        }
        let response = match key_authorization {
            Some(text) => served(text.trim_end()),
            None => not_found(),
        };
        self.count(response.status);
        self.respond(cx, conn, &response);
        self.answer_all(cx, conn, reports);
    }

    /// Takes in the tokens that are published, by whichever instance.
    pub fn listed(&mut self, cx: &mut Context<'_>, tokens: Vec<String>, reports: &dyn Reports) {
        self.listing.loaded(tokens);
        let waiting = self.connections.iter_mut();
        let waiting: Vec<(ConnId, String)> =
            waiting.filter_map(|(conn, it)| Some((*conn, it.token.take()?))).collect();
        for (conn, token) in waiting {
            if let Some(connection) = self.connections.get_mut(&conn) {
                connection.asking = false;
            }
            if let Some(response) = self.look_up(cx, conn, token) {
                self.respond(cx, conn, &response);
                self.answer_all(cx, conn, reports);
            }
        }
    }

    /// The answer for a token that another instance may have published; `None` when something has to be
    /// read for it first.
    fn look_up(&mut self, cx: &Context<'_>, conn: ConnId, token: String) -> Option<ServerResponse> {
        let connection = self.connections.get_mut(&conn)?;
        match self.listing.find(&token, connection.listings) {
            Known::Missing => {
                self.count(404);
                return Some(not_found());
            }
            Known::Listed => self.ask(conn, Output::Load(Load::Challenge(conn, token))),
            Known::Nothing => {
                connection.asking = true;
                connection.token = Some(token);
                self.list(cx.now.mono);
            }
        }
        None
    }

    /// Has the published tokens listed, when that is due.
    fn list(&mut self, now: Instant) {
        if self.listing.poll(now) {
            self.outputs.push(Output::Load(Load::Challenges));
        }
    }

    fn answer_all(&mut self, cx: &mut Context<'_>, conn: ConnId, reports: &dyn Reports) {
        while let Some(connection) = self.connections.get_mut(&conn) {
            match connection.codec.poll() {
                None if connection.finished && !connection.asking => return self.close(conn, true),
                None => return,
                Some(ServerEvent::Send(bytes)) => {
                    self.outputs.push(Output::Send { conn, bytes: bytes.into() });
                }
                Some(ServerEvent::Close { peer_is_done }) => return self.close(conn, peer_is_done),
                Some(ServerEvent::Request(request)) => {
                    self.used += 1;
                    connection.used = self.used;
                    match self.answer(cx, conn, &request, reports) {
                        Some(response) => self.respond(cx, conn, &response),
                        None => return,
                    }
                }
            }
        }
    }

    /// The answer to a request; `None` when a file has to be read for it first.
    fn answer(
        &mut self,
        cx: &Context<'_>,
        conn: ConnId,
        request: &ServerRequest,
        reports: &dyn Reports,
    ) -> Option<ServerResponse> {
        match self.responder.answer(request) {
            Answer::Now(response) => {
                if is_for_a_ca(request.path()) {
                    self.count(response.status);
                }
                Some(response)
            }
            Answer::Elsewhere => self.report(cx, conn, request, reports),
            Answer::Unknown(token) => match reports.lookup(&token) {
                Lookup::Nowhere => {
                    self.count(404);
                    Some(not_found())
                }
                Lookup::Stored => {
                    self.ask(conn, Output::Load(Load::Challenge(conn, token)));
                    None
                }
                Lookup::Shared => self.look_up(cx, conn, token),
            },
        }
    }

    /// The answer to a question about the daemon.
    fn report(
        &mut self,
        cx: &Context<'_>,
        conn: ConnId,
        request: &ServerRequest,
        reports: &dyn Reports,
    ) -> Option<ServerResponse> {
        let connection = self.connections.get(&conn)?;
        let is_restricted =
            connection.door == ListenerKind::Public && (self.has_admin || request.is_forwarded());
        let is_served = |endpoint: &Endpoint| *endpoint == Endpoint::Health || !is_restricted;
        let Some(endpoint) = Endpoint::of(request.path()).filter(is_served) else {
            return Some(not_found());
        };
        if let Some(refusal) = refusal(request) {
            return Some(refusal);
        }
        let report = match endpoint {
            Endpoint::Health => ReportRequest::Health { status_only: is_restricted },
            Endpoint::Metrics => ReportRequest::Metrics(Usage::default()),
            Endpoint::Json => ReportRequest::Json,
            Endpoint::Page => ReportRequest::Page(request.query().to_string()),
        };
        let (now, client) = (cx.now.mono, connection.client);
        let answers_max = reports.answers_max(&report);
        if answers_max.is_some_and(|max| !self.limiter.take(now, endpoint, client, max)) {
            let busy = ServerResponse::of_status(503);
            return Some(busy.with_header("Retry-After", &WINDOW.as_secs().to_string()));
        }
        if endpoint == Endpoint::Metrics {
            self.ask(conn, Output::Measure(conn));
            return None;
        }
        Some(reports.answer(&report, self.counts))
    }

    /// Takes in what the process uses.
    pub fn measured(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        usage: Usage,
        reports: &dyn Reports,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if !std::mem::take(&mut connection.asking) {
            return;
        }
        let response = reports.answer(&ReportRequest::Metrics(usage), self.counts);
        self.respond(cx, conn, &response);
        self.answer_all(cx, conn, reports);
    }

    /// Asks for something that the request at the head of the queue is answered with.
    fn ask(&mut self, conn: ConnId, question: Output) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.asking = true;
        }
        self.outputs.push(question);
    }

    fn respond(&mut self, cx: &mut Context<'_>, conn: ConnId, response: &ServerResponse) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.codec.respond(response);
        connection.deadline = cx.now.mono + IDLE_PATIENCE;
    }

    fn look_at(&mut self, conn: ConnId, at: Instant) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            self.looks.remove(&(connection.look, conn));
            connection.look = at;
            self.looks.insert((at, conn));
        }
    }

    fn count(&mut self, status: u16) {
        match status {
            200 => self.counts.served += 1,
            _ => self.counts.unknown += 1,
        }
    }

    fn close(&mut self, conn: ConnId, peer_is_done: bool) {
        self.closed(conn);
        self.outputs.push(Output::Close { conn, peer_is_done });
    }

    /// Takes in that a peer says no more. It may still hear, and gets what it has asked for.
    pub fn finished(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.finished = true;
        if !connection.asking {
            self.close(conn, true);
        }
    }

    /// Takes in that a connection is gone.
    pub fn closed(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.remove(&conn) {
            self.looks.remove(&(connection.look, conn));
        }
    }

    /// Closes what took too long.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        while let Some(look) = self.looks.first().copied().filter(|(at, _)| *at <= now) {
            self.looks.remove(&look);
            let (_, conn) = look;
            match self.connections.get(&conn).map(|connection| connection.deadline) {
                Some(deadline) if deadline > now => self.look_at(conn, deadline),
                _ => self.close(conn, false),
            }
        }
        self.list(now);
        if let Some(shortage) = self.shortage.take_if(|shortage| shortage.over <= cx.now.mono) {
            let line = Record::info("listen", "there are descriptors enough again");
            cx.log(line.with("closed", shortage.closed));
        }
    }

    /// When the next connection may have taken too long, a shortage of descriptors is over, or a listing is
    /// due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let look = self.looks.first().map(|(at, _)| *at);
        let over = self.shortage.as_ref().map(|shortage| shortage.over);
        look.into_iter().chain(over).chain(self.listing.poll_timeout()).min()
    }

    /// What to do, in order.
    pub fn outputs(&mut self) -> impl Iterator<Item = Output> {
        self.outputs.drain(..)
    }

    /// How many challenge requests were answered.
    pub fn counts(&self) -> ChallengeCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests;
