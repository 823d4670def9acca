//! The way from a host name to its addresses: keeps the resolver's configuration fresh and gives the
//! resolver's queries their sockets and connections. What a DNS message says is the resolver's.
//!
//! A lookup waits (`waiting`) while the configuration is read again, then it is the resolver's.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::RequestId;
use super::outbox::Outbox;
use crate::context::Context;
use crate::dns::{DnsError, LookupId, QueryId, Resolver, ResolverOutput};
use crate::flat::FlatMap;
use crate::machine::{CloseReason, ConnId, Load, Output, SocketId};
use crate::time::Instant;

/// How old `/etc/resolv.conf` and `/etc/hosts` may be when a lookup starts.
pub const NAME_SERVICE_AGE_MAX: Duration = Duration::from_secs(30);

pub(super) type Answer = Result<Vec<IpAddr>, DnsError>;

/// Resolver, its configuration, and what its queries travel on.
pub(super) struct Names {
    resolver: Resolver,
    configured_at: Option<Instant>,
    /// Names to look up once the configuration is there, which is being read while any wait.
    waiting: Vec<(RequestId, String, Instant)>,
    sockets: FlatMap<QueryId, SocketId>,
    streams: FlatMap<QueryId, ConnId>,
    answers: VecDeque<(RequestId, Answer)>,
}

impl Names {
    pub(super) fn new() -> Names {
        Names {
            resolver: Resolver::new(),
            configured_at: None,
            waiting: Vec::new(),
            sockets: FlatMap::new(),
            streams: FlatMap::new(),
            answers: VecDeque::new(),
        }
    }

    /// Starts the lookup of a name for a caller that waits until a deadline; its answer comes by
    /// [`Names::poll_answer`], perhaps at once.
    pub(super) fn lookup(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        (name, deadline): (&str, Instant),
        outbox: &mut Outbox,
    ) {
        let age = self.configured_at.map(|at| cx.now.mono.since(at));
        if age.is_some_and(|age| age <= NAME_SERVICE_AGE_MAX) {
            self.resolver.lookup(cx, LookupId(request.0), name, deadline);
            self.carry_out(outbox);
            return;
        }
        if self.waiting.is_empty() {
            outbox.push(Output::Load(Load::NameService));
        }
        self.waiting.push((request, name.into(), deadline));
    }

    /// Gives a lookup up; no answer follows.
    pub(super) fn cancel(&mut self, request: RequestId, outbox: &mut Outbox) {
        self.waiting.retain(|(waiting, ..)| *waiting != request);
        self.resolver.cancel(LookupId(request.0));
        self.carry_out(outbox);
        self.answers.retain(|(answered, _)| *answered != request);
    }

    /// Gives every lookup up and forgets all that it knew.
    pub(super) fn close_all(&mut self, outbox: &mut Outbox) {
        for (_, socket) in std::mem::take(&mut self.sockets) {
            outbox.push(Output::CloseSocket { socket });
        }
        std::mem::take(&mut self.streams).into_iter().for_each(|(_, conn)| outbox.close(conn));
        *self = Names::new();
    }

    pub(super) fn handle_name_service(
        &mut self,
        cx: &mut Context<'_>,
        resolv_conf: &[u8],
        hosts: &[u8],
        outbox: &mut Outbox,
    ) {
        self.resolver.configure(cx, resolv_conf, hosts);
        self.configured_at = Some(cx.now.mono);
        for (request, name, deadline) in std::mem::take(&mut self.waiting) {
            self.resolver.lookup(cx, LookupId(request.0), &name, deadline);
        }
        self.carry_out(outbox);
    }

    pub(super) fn handle_datagram(
        &mut self,
        cx: &mut Context<'_>,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
        outbox: &mut Outbox,
    ) {
        if let Some(query) = query_of(&self.sockets, socket) {
            self.resolver.handle_datagram(cx, query, from, bytes);
            self.carry_out(outbox);
        }
    }

    pub(super) fn handle_socket_failed(
        &mut self,
        cx: &mut Context<'_>,
        socket: SocketId,
        reason: CloseReason,
        outbox: &mut Outbox,
    ) {
        if let Some(query) = query_of(&self.sockets, socket) {
            self.resolver.handle_datagram_failed(cx, query, reason);
            self.carry_out(outbox);
        }
    }

    pub(super) fn handle_connected(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        outbox: &mut Outbox,
    ) {
        if let Some(query) = query_of(&self.streams, conn) {
            self.resolver.handle_stream_connected(cx, query);
            self.carry_out(outbox);
        }
    }

    pub(super) fn handle_received(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        bytes: &[u8],
        outbox: &mut Outbox,
    ) {
        if let Some(query) = query_of(&self.streams, conn) {
            self.resolver.handle_stream_received(cx, query, bytes);
            self.carry_out(outbox);
        }
    }

    pub(super) fn handle_closed(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        reason: CloseReason,
        outbox: &mut Outbox,
    ) {
        if let Some(query) = query_of(&self.streams, conn) {
            self.streams.remove(&query);
            self.resolver.handle_stream_closed(cx, query, reason);
            self.carry_out(outbox);
        }
    }

    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) {
        self.resolver.handle_timeout(cx);
        self.carry_out(outbox);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.resolver.poll_timeout()
    }

    pub(super) fn poll_answer(&mut self) -> Option<(RequestId, Answer)> {
        self.answers.pop_front()
    }

    fn carry_out(&mut self, outbox: &mut Outbox) {
        while let Some(output) = self.resolver.poll_output() {
            match output {
                ResolverOutput::Datagram { query, to, bytes } => {
                    let socket = *self.sockets.get_or_insert_with(query, || outbox.new_socket());
                    outbox.push(Output::Datagram { socket, to, bytes });
                }
                ResolverOutput::CloseDatagram { query } => {
                    if let Some(socket) = self.sockets.remove(&query) {
                        outbox.push(Output::CloseSocket { socket });
                    }
                }
                ResolverOutput::OpenStream { query, to } => {
                    self.streams.insert(query, outbox.connect(to, None));
                }
                ResolverOutput::SendStream { query, bytes } => {
                    if let Some(conn) = self.streams.get(&query) {
                        outbox.send(*conn, bytes.into());
                    }
                }
                ResolverOutput::CloseStream { query } => {
                    if let Some(conn) = self.streams.remove(&query) {
                        outbox.close(conn);
                    }
                }
                ResolverOutput::Answer { lookup, result } => {
                    self.answers.push_back((RequestId(lookup.0), result));
                }
            }
        }
    }
}

/// There are a handful of queries at any time: looking through them beats a second map to keep true.
fn query_of<T: PartialEq>(carriers: &FlatMap<QueryId, T>, carrier: T) -> Option<QueryId> {
    carriers.iter().find(|(_, each)| **each == carrier).map(|(query, _)| *query)
}
