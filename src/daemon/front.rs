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
//! at most.

use std::collections::VecDeque;
use std::time::Duration;

use crate::challenge::{Answer, Responder, not_found, refusal, served};
use crate::daemon::status::{Inquiry, Topic};
use crate::flat::{FlatMap, FlatSet};
use crate::http::{ServerConnection, ServerEvent, ServerRequest, ServerResponse};
use crate::log::Record;
use crate::seam::{ACCEPTED_MAX, ConnId, Door, Load, Output, Usage};
use crate::time::Instant;
use crate::turn::Turn;

/// A connection that has sent no whole request head within this time is closed.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// A connection that was answered and asks nothing more is closed after this time.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// When the system has run out of descriptors, one connection in so many goes at once, so that there
/// is room for more than the next one.
const SHED_SHARE: usize = 8;
/// The system has enough descriptors again when it has not run out for so long.
const SHORTAGE_OVER: Duration = Duration::from_secs(10);

/// So many costly answers are given in such a time. A peer that has not read all of its answer has it
/// dropped after as long, but for those few bytes for which the loop has room, so that not many more than
/// these are in memory at once.
const RATION: usize = 8;
const RATION_TIME: Duration = Duration::from_secs(5);

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
pub struct Front {
    /// What is answered.
    pub responder: Responder,
    /// The operator has a listener of their own: strangers are told of challenges and health alone.
    has_admin: bool,
    /// Each in memory of its own, so that it stays where it is.
    connections: FlatMap<ConnId, Box<Connection>>,
    /// Every connection by the time at which it is looked whether it has taken too long.
    looks: FlatSet<(Instant, ConnId)>,
    /// How often any connection was of use.
    used: u64,
    shortage: Option<Shortage>,
    counts: ChallengeCounts,
    rations: Rations,
    outputs: Vec<Output>,
}

/// What the daemon tells about itself.
pub trait Reports {
    /// The answer to a question; the counts are the listener's own.
    fn answer(&self, inquiry: &Inquiry, challenges: ChallengeCounts) -> ServerResponse;

    /// Whether the answer takes so much time and memory that it is rationed.
    fn is_costly(&self, inquiry: &Inquiry) -> bool;
}

/// When costly answers were given, the latest last.
#[derive(Debug, Default)]
struct Rations(VecDeque<Instant>);

impl Rations {
    /// Whether there is one more.
    fn take(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.since(*at) < RATION_TIME);
        let room = self.0.len() < RATION;
        if room {
            self.0.push_back(now);
        }
        room
    }
}

#[derive(Debug)]
struct Connection {
    codec: ServerConnection,
    door: Door,
    /// When it is closed.
    deadline: Instant,
    /// When that is looked at: never later, and seldom moved, as each request puts the deadline off.
    look: Instant,
    /// Which use was its last.
    used: u64,
    /// A file is being read for the request at the head of the queue. That is always answered.
    asking: bool,
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

impl Front {
    /// One without connections; whether there is a listener for the operator.
    pub fn new(has_admin: bool) -> Front {
        Front { has_admin, ..Front::default() }
    }

    /// Takes in a new connection.
    pub fn accepted(&mut self, turn: &mut Turn<'_>, conn: ConnId, door: Door) {
        if self.connections.len() >= ACCEPTED_MAX {
            self.evict();
        }
        let deadline = turn.now.mono + HEAD_PATIENCE;
        self.looks.insert((deadline, conn));
        let codec = ServerConnection::new();
        self.used += 1;
        let (look, used) = (deadline, self.used);
        let (asking, finished) = (false, false);
        let connection = Connection { codec, door, deadline, look, used, asking, finished };
        self.connections.insert(conn, Box::new(connection));
    }

    /// The system has no descriptors left for more connections; `detail` are its words.
    pub fn exhausted(&mut self, turn: &mut Turn<'_>, detail: &str) {
        let goers = (self.connections.len() / SHED_SHARE).max(1).min(self.connections.len());
        for _ in 0..goers {
            self.evict();
        }
        let over = turn.now.mono + SHORTAGE_OVER;
        if self.shortage.is_none() {
            let line =
                Record::warn("listen", "few descriptors are left, the oldest idle connections go");
            turn.log(line.with("error", detail).with("connections", self.connections.len()));
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

    /// Takes in a peer's bytes. `lookup` says whether an unknown token may be another instance's.
    pub fn received(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        bytes: &[u8],
        lookup: bool,
        reports: &dyn Reports,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.codec.receive(bytes);
        self.answer_all(turn, conn, lookup, reports);
        // The first bytes of a further request start its time; more of them do not prolong it.
        let hasty = turn.now.mono + HEAD_PATIENCE;
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
        turn: &mut Turn<'_>,
        conn: ConnId,
        key_authorization: Option<String>,
        reports: &dyn Reports,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if !std::mem::take(&mut connection.asking) {
            return;
        }
        let response = match key_authorization {
            Some(text) => served(text.trim_end()),
            None => not_found(),
        };
        self.count(response.status);
        self.respond(turn, conn, &response);
        self.answer_all(turn, conn, true, reports);
    }

    fn answer_all(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        lookup: bool,
        reports: &dyn Reports,
    ) {
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
                    match self.answer(turn, conn, &request, lookup, reports) {
                        Some(response) => self.respond(turn, conn, &response),
                        None => return,
                    }
                }
            }
        }
    }

    /// The answer to a request; `None` when a file has to be read for it first.
    fn answer(
        &mut self,
        turn: &Turn<'_>,
        conn: ConnId,
        request: &ServerRequest,
        lookup: bool,
        reports: &dyn Reports,
    ) -> Option<ServerResponse> {
        match self.responder.answer(request) {
            Answer::Now(response) => {
                self.note_challenge(&request.target, response.status);
                Some(response)
            }
            Answer::Elsewhere => self.report(turn, conn, request, reports),
            Answer::Unknown(token) if lookup => {
                self.ask(conn, Output::Load(Load::Challenge(conn, token)));
                None
            }
            Answer::Unknown(_) => {
                self.count(404);
                Some(not_found())
            }
        }
    }

    /// The answer to a question about the daemon.
    fn report(
        &mut self,
        turn: &Turn<'_>,
        conn: ConnId,
        request: &ServerRequest,
        reports: &dyn Reports,
    ) -> Option<ServerResponse> {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let door = self.connections.get(&conn).map_or(Door::Public, |connection| connection.door);
        let is_told = |topic: &Topic| match door {
            Door::Public => !self.has_admin || *topic == Topic::Health,
            Door::Admin => true,
        };
        let Some(topic) = Topic::of(path).filter(is_told) else { return Some(not_found()) };
        if let Some(refusal) = refusal(request) {
            return Some(refusal);
        }
        let inquiry = match topic {
            Topic::Health => Inquiry::Health,
            Topic::Metrics => Inquiry::Metrics(Usage::default()),
            Topic::Json => Inquiry::Json,
            Topic::Page => Inquiry::Page(query.to_string()),
        };
        if reports.is_costly(&inquiry) && !self.rations.take(turn.now.mono) {
            let busy = ServerResponse::of_status(503);
            return Some(busy.with_header("Retry-After", &RATION_TIME.as_secs().to_string()));
        }
        if topic == Topic::Metrics {
            self.ask(conn, Output::Measure(conn));
            return None;
        }
        Some(reports.answer(&inquiry, self.counts))
    }

    /// Takes in what the process uses.
    pub fn measured(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        usage: Usage,
        reports: &dyn Reports,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if !std::mem::take(&mut connection.asking) {
            return;
        }
        let response = reports.answer(&Inquiry::Metrics(usage), self.counts);
        self.respond(turn, conn, &response);
        self.answer_all(turn, conn, true, reports);
    }

    /// Asks for something that the request at the head of the queue is answered with.
    fn ask(&mut self, conn: ConnId, question: Output) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.asking = true;
        }
        self.outputs.push(question);
    }

    fn respond(&mut self, turn: &mut Turn<'_>, conn: ConnId, response: &ServerResponse) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.codec.respond(response);
        connection.deadline = turn.now.mono + IDLE_PATIENCE;
    }

    fn look_at(&mut self, conn: ConnId, at: Instant) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            self.looks.remove(&(connection.look, conn));
            connection.look = at;
            self.looks.insert((at, conn));
        }
    }

    fn note_challenge(&mut self, target: &str, status: u16) {
        if crate::challenge::is_for_a_ca(target) {
            self.count(status);
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
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        while let Some(look) = self.looks.first().copied().filter(|(at, _)| *at <= now) {
            self.looks.remove(&look);
            let (_, conn) = look;
            match self.connections.get(&conn).map(|connection| connection.deadline) {
                Some(deadline) if deadline > now => self.look_at(conn, deadline),
                _ => self.close(conn, false),
            }
        }
        if let Some(shortage) = self.shortage.take_if(|shortage| shortage.over <= turn.now.mono) {
            let line = Record::info("listen", "there are descriptors enough again");
            turn.log(line.with("closed", shortage.closed));
        }
    }

    /// When the next connection may have taken too long, or a shortage of descriptors is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let look = self.looks.first().map(|(at, _)| *at);
        let over = self.shortage.as_ref().map(|shortage| shortage.over);
        look.into_iter().chain(over).min()
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
