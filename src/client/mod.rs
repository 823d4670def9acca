//! Brings whole HTTP requests to their peers, for the daemon and for `--check`: resolves the name,
//! tries its addresses in turn, keeps connections for the next request, and gives up in time. Where a
//! proxy is to be gone by, it is the proxy's name and addresses; the peer's name is the proxy's matter.
//!
//! Each request is a `job::Job` of its own; here is only who gets which input. It owns every dialed
//! connection and every socket. Never reads what a response says, and never follows a redirect or
//! tries again after an answer: that is the asker's; how Marathon is asked, see [`marathon`].
//!
//! Feed it with the `handle_*` family, then drain [`Client::poll_event`] and
//! [`Client::poll_output`]. Every request ends with exactly one of [`ClientEvent::Response`],
//! [`ClientEvent::End`], [`ClientEvent::Addresses`], [`ClientEvent::Presented`] and
//! [`ClientEvent::Failed`], unless it is cancelled. Each event comes with the owner of its
//! request, by which the machine that holds the client dispatches it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::context::Context;
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::http::{Request, Response, ResponseHead};
use crate::log::Record;
use crate::machine::{CloseReason, ConnId, Output, SocketId, Trust};
use crate::proxy::Proxies;
use crate::time::Instant;
use crate::url::Host;

mod error;
mod glance;
mod job;
pub mod marathon;
mod names;
mod outbox;
mod pool;
#[cfg(test)]
mod tests;

pub use error::{Attempt, Awaited, ClientError, Fault};
pub use glance::GLANCE_TIMEOUT;
pub use job::{ATTEMPTS_MAX, CONNECT_TIMEOUT, REQUEST_TIMEOUT};
pub use names::NAME_SERVICE_AGE_MAX;
pub use pool::{IDLE_MAX, IDLE_PER_PEER_MAX, IDLE_TIME};

use glance::{Glances, Sight};
use job::{Job, Leftover, Progress};
use names::Names;
use outbox::Outbox;
use pool::Pool;

/// The limit of [`Client::resolve`].
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Names a request or a lookup for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// A request on its way to [`Client::send`].
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What to send; its URL says whom to.
    pub request: Request,
    /// Whose issuers count, for `https`.
    pub trust: Trust,
    /// The limit for all of it, from the lookup to the last byte; for [`Delivery::Streamed`] to the
    /// response's head. `None`: [`REQUEST_TIMEOUT`].
    pub timeout: Option<Duration>,
    /// The longest pause between two pieces of a streamed body; `None`: it may be silent forever.
    pub silence: Option<Duration>,
    /// The one address to connect to, straight: nothing is looked up, and no proxy is asked. The URL
    /// still says `Host` and TLS name.
    pub address: Option<IpAddr>,
    /// How the response is wanted.
    pub delivery: Delivery,
}

/// How a response is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In one piece, as [`ClientEvent::Response`].
    Whole {
        /// A longer body is [`Fault::TooLarge`].
        body_bytes_max: usize,
    },
    /// As it comes: [`ClientEvent::Head`], then [`ClientEvent::Body`], then
    /// [`ClientEvent::End`].
    Streamed,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The whole response; the last event.
    Response(Response),
    /// The streamed response begins.
    Head(ResponseHead),
    /// More of a streamed body, at least one byte.
    Body(Vec<u8>),
    /// The streamed response is complete; the last event.
    End,
    /// What [`Client::resolve`] found; the last event.
    Addresses(Vec<IpAddr>),
    /// The certificate that [`Client::glance`] was shown, as DER; the last event.
    Presented(Vec<u8>),
    /// There is no response, or not all of it; the last event.
    Failed(ClientError),
}

/// The way to every peer. `O` says who sent a request.
pub struct Client<O> {
    proxies: Proxies,
    /// Who sent each request whose last event was not taken yet.
    owners: FlatMap<RequestId, O>,
    jobs: FlatMap<RequestId, Job>,
    lookups: FlatMap<RequestId, Lookup>,
    glances: Glances,
    pool: Pool,
    names: Names,
    outbox: Outbox,
    events: VecDeque<(RequestId, ClientEvent)>,
    last_id: u64,
}

/// A lookup for its own sake.
struct Lookup {
    host: String,
    deadline: Instant,
    limit: Duration,
}

impl<O: Copy> Default for Client<O> {
    fn default() -> Client<O> {
        Client::new(Proxies::default())
    }
}

impl<O: Copy> Client<O> {
    /// Knows nobody yet, but by which proxies to go.
    pub fn new(proxies: Proxies) -> Client<O> {
        Client {
            proxies,
            owners: FlatMap::new(),
            jobs: FlatMap::new(),
            lookups: FlatMap::new(),
            glances: Glances::default(),
            pool: Pool::default(),
            names: Names::new(),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            last_id: 0,
        }
    }

    /// Sends a request. What becomes of it comes by [`Client::poll_event`] alone.
    pub fn send(&mut self, cx: &mut Context<'_>, owner: O, outgoing: Outgoing) -> RequestId {
        let id = self.new_id(owner);
        match Job::new(cx.now.mono, outgoing, &self.proxies) {
            Ok(job) => {
                let reuse = job.may_reuse();
                self.jobs.insert(id, job);
                self.start(cx, id, reuse);
            }
            Err(error) => self.events.push_back((id, ClientEvent::Failed(error))),
        }
        id
    }

    /// Looks up every address of a host, IPv6 and IPv4; an address literal answers itself.
    pub fn resolve(&mut self, cx: &mut Context<'_>, owner: O, host: &Host) -> RequestId {
        self.resolve_within(cx, owner, host, RESOLVE_TIMEOUT)
    }

    /// The same, with a limit of the asker's own.
    pub fn resolve_within(
        &mut self,
        cx: &mut Context<'_>,
        owner: O,
        host: &Host,
        limit: Duration,
    ) -> RequestId {
        let id = self.new_id(owner);
        match host {
            Host::Ip(address) => {
                self.events.push_back((id, ClientEvent::Addresses(vec![*address])));
            }
            Host::Name(name) => {
                let deadline = cx.now.mono + limit;
                self.lookups.insert(id, Lookup { host: name.clone(), deadline, limit });
                self.names.lookup(cx, id, (name, deadline), &mut self.outbox);
                self.take_answers(cx);
            }
        }
        id
    }

    /// Looks which certificate is shown at an address for a name, by a TLS handshake with that name as
    /// SNI. Straight, by no proxy.
    pub fn glance(
        &mut self,
        cx: &Context<'_>,
        owner: O,
        address: SocketAddr,
        name: &Domain,
    ) -> RequestId {
        let id = self.new_id(owner);
        self.glances.begin(cx.now.mono, id, (address, name), &mut self.outbox);
        id
    }

    /// Gives a request, lookup or glance up: its connection is closed, and no event of it follows.
    pub fn cancel(&mut self, request: RequestId) {
        if let Some(conn) = self.jobs.remove(&request).and_then(|job| job.conn()) {
            self.outbox.close(conn);
        }
        self.lookups.remove(&request);
        self.glances.cancel(request, &mut self.outbox);
        self.names.cancel(request, &mut self.outbox);
        self.events.retain(|(id, _)| *id != request);
        self.owners.remove(&request);
    }

    /// Gives up everything, and closes every connection and socket: no event of it follows.
    pub fn close_all(&mut self) {
        for (_, job) in std::mem::take(&mut self.jobs) {
            job.conn().into_iter().for_each(|conn| self.outbox.close(conn));
        }
        self.lookups.clear();
        self.glances.close_all(&mut self.outbox);
        self.pool.close_all(&mut self.outbox);
        self.names.close_all(&mut self.outbox);
        self.events.clear();
        self.owners.clear();
    }

    /// A connection stands, or TLS does on one that stood.
    pub fn handle_connected(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        match job_on(&mut self.jobs, conn) {
            Some((_, job)) => job.handle_connected(&mut self.outbox),
            None => {
                self.names.handle_connected(cx, conn, &mut self.outbox);
                self.take_answers(cx);
            }
        }
    }

    /// A peer has shown its certificate: to a glance, or, where it does not matter whose it is, to a
    /// request.
    pub fn handle_presented(&mut self, conn: ConnId, der: Vec<u8>) {
        if let Some((_, job)) = job_on(&mut self.jobs, conn) {
            return job.handle_connected(&mut self.outbox);
        }
        let seen = self.glances.presented(conn, der, &mut self.outbox);
        self.end_glance(seen);
    }

    /// A peer sent something.
    pub fn handle_received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) {
        let mut events = Vec::new();
        if let Some((id, job)) = job_on(&mut self.jobs, conn) {
            let progress = job.handle_received(cx.now.mono, bytes, &mut self.outbox, &mut events);
            self.settle(cx, id, events, progress);
        } else if self.pool.remove(conn) {
            self.outbox.close(conn);
        } else {
            self.names.handle_received(cx, conn, bytes, &mut self.outbox);
            self.take_answers(cx);
        }
    }

    /// A connection ended, or could not be made.
    pub fn handle_closed(&mut self, cx: &mut Context<'_>, conn: ConnId, reason: CloseReason) {
        let mut events = Vec::new();
        if let Some((id, job)) = job_on(&mut self.jobs, conn) {
            let progress = job.handle_closed(cx.now.mono, reason, &mut self.outbox, &mut events);
            self.settle(cx, id, events, progress);
        } else if let Some(seen) = self.glances.closed(conn, reason.clone()) {
            self.end_glance(Some(seen));
        } else if !self.pool.remove(conn) {
            self.names.handle_closed(cx, conn, reason, &mut self.outbox);
            self.take_answers(cx);
        }
    }

    /// A name server sent something.
    pub fn handle_datagram(
        &mut self,
        cx: &mut Context<'_>,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        self.names.handle_datagram(cx, socket, from, bytes, &mut self.outbox);
        self.take_answers(cx);
    }

    /// A socket could not be used, or its name server refused a datagram.
    pub fn handle_socket_failed(
        &mut self,
        cx: &mut Context<'_>,
        socket: SocketId,
        reason: CloseReason,
    ) {
        self.names.handle_socket_failed(cx, socket, reason, &mut self.outbox);
        self.take_answers(cx);
    }

    /// What [`crate::machine::Load::NameService`] found.
    pub fn handle_name_service(&mut self, cx: &mut Context<'_>, resolv_conf: &[u8], hosts: &[u8]) {
        self.names.handle_name_service(cx, resolv_conf, hosts, &mut self.outbox);
        self.take_answers(cx);
    }

    /// The instant of [`Client::poll_timeout`] has come, or not yet.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        self.names.handle_timeout(cx, &mut self.outbox);
        self.take_answers(cx);
        self.pool.handle_timeout(now, &mut self.outbox);
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            if let Some(job) = self.jobs.get_mut(&id) {
                let progress = job.handle_timeout(now, &mut self.outbox);
                self.settle(cx, id, Vec::new(), progress);
            }
        }
        while let Some(late) = self.glances.overdue(now, &mut self.outbox) {
            self.end_glance(Some(late));
        }
        let late = self.lookups.iter().filter(|(_, lookup)| lookup.deadline <= now);
        for (id, limit) in late.map(|(id, lookup)| (*id, lookup.limit)).collect::<Vec<_>>() {
            self.names.cancel(id, &mut self.outbox);
            self.end_lookup(id, Err(Fault::timeout(Awaited::Addresses, limit)));
        }
    }

    /// When [`Client::handle_timeout`] has something to do at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let jobs = self.jobs.values().filter_map(Job::poll_timeout);
        let lookups = self.lookups.values().map(|lookup| lookup.deadline);
        let others =
            [self.glances.poll_timeout(), self.names.poll_timeout(), self.pool.poll_timeout()];
        jobs.chain(lookups).chain(others.into_iter().flatten()).min()
    }

    /// What became of a request, with who sent it, until there is no more news.
    pub fn poll_event(&mut self) -> Option<(O, RequestId, ClientEvent)> {
        let (id, event) = self.events.pop_front()?;
        let owner = match event {
            ClientEvent::Head(_) | ClientEvent::Body(_) => self.owners.get(&id).copied(),
            _ => self.owners.remove(&id),
        };
        owner.map(|owner| (owner, id, event))
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.poll()
    }

    /// How many requests, lookups and glances are under way.
    pub fn requests(&self) -> usize {
        self.jobs.len() + self.lookups.len() + self.glances.count()
    }

    /// How many events nobody has taken.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// How many connections are kept for a next request.
    pub fn kept_connections(&self) -> usize {
        self.pool.count()
    }

    fn new_id(&mut self, owner: O) -> RequestId {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.owners.insert(id, owner);
        id
    }

    /// Puts a request on a kept connection, or goes for a new one.
    fn start(&mut self, cx: &mut Context<'_>, id: RequestId, reuse: bool) {
        let now = cx.now.mono;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let kept = if reuse { self.pool.take(now, job.peer()) } else { None };
        if let Some((conn, address)) = kept {
            job.reuse(conn, address, &mut self.outbox);
        } else if let Some(address) = job.peer().known_address() {
            let progress = job.dial(now, vec![address], &mut self.outbox);
            self.settle(cx, id, Vec::new(), progress);
        } else {
            let (name, deadline) = (job.peer().hop().0.to_string(), job.deadline());
            self.names.lookup(cx, id, (&name, deadline), &mut self.outbox);
            self.take_answers(cx);
        }
    }

    fn take_answers(&mut self, cx: &mut Context<'_>) {
        while let Some((id, answer)) = self.names.poll_answer() {
            let Some(job) = self.jobs.get_mut(&id) else {
                self.end_lookup(id, answer.map_err(Fault::Dns));
                continue;
            };
            let progress = match answer {
                Ok(addresses) => job.dial(cx.now.mono, addresses, &mut self.outbox),
                Err(error) => job.unresolved(error),
            };
            self.settle(cx, id, Vec::new(), progress);
        }
    }

    /// What follows from what happened to a request.
    fn settle(
        &mut self,
        cx: &mut Context<'_>,
        id: RequestId,
        events: Vec<ClientEvent>,
        progress: Progress,
    ) {
        let last = match &progress {
            Progress::Over(event, _) => Some(event),
            _ => None,
        };
        events.iter().chain(last).for_each(|event| self.log_skipped_fields(cx, id, event));
        self.events.extend(events.into_iter().map(|event| (id, event)));
        match progress {
            Progress::Going => {}
            Progress::Again => self.start(cx, id, false),
            Progress::Over(event, left) => self.end(cx.now.mono, id, event, left),
        }
    }

    /// Logs the names of malformed fields of a response that were skipped.
    fn log_skipped_fields(&self, cx: &mut Context<'_>, id: RequestId, event: &ClientEvent) {
        let (ClientEvent::Head(head) | ClientEvent::Response(Response { head, .. })) = event else {
            return;
        };
        let Some(job) = self.jobs.get(&id) else { return };
        for name in head.headers.skipped() {
            let line = Record::debug("http", "malformed field left out").with("name", name);
            cx.log(line.with("url", &job.peer().origin));
        }
    }

    /// The one exit of a request: what it held is given back, and the last event is told.
    fn end(&mut self, now: Instant, id: RequestId, event: ClientEvent, left: Leftover) {
        let Some(job) = self.jobs.remove(&id) else { return };
        match left {
            Leftover::Nothing => {}
            Leftover::Lookup => self.names.cancel(id, &mut self.outbox),
            Leftover::Close(conn) => self.outbox.close(conn),
            Leftover::Keep(conn, address) => {
                self.pool.put(now, job.into_peer(), conn, address, &mut self.outbox);
            }
        }
        self.events.push_back((id, event));
    }

    /// The one exit of a glance.
    fn end_glance(&mut self, seen: Option<(RequestId, Sight)>) {
        self.events.extend(seen.map(|(id, seen)| match seen {
            Ok(der) => (id, ClientEvent::Presented(der)),
            Err(error) => (id, ClientEvent::Failed(error)),
        }));
    }

    /// The one exit of a lookup for its own sake.
    fn end_lookup(&mut self, id: RequestId, result: Result<Vec<IpAddr>, Fault>) {
        let Some(lookup) = self.lookups.remove(&id) else { return };
        let event = match result {
            Ok(addresses) => ClientEvent::Addresses(addresses),
            Err(fault) => {
                let peer = lookup.host;
                ClientEvent::Failed(ClientError { peer, proxy: None, address: None, fault })
            }
        };
        self.events.push_back((id, event));
    }
}

/// There are some dozens of requests at most: looking through them beats a second map to keep true.
fn job_on(jobs: &mut FlatMap<RequestId, Job>, conn: ConnId) -> Option<(RequestId, &mut Job)> {
    jobs.iter_mut().find(|(_, job)| job.conn() == Some(conn)).map(|(id, job)| (*id, job))
}
