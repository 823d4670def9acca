//! Connections that wait for their next request. Nothing is ever read on one: a peer that speaks
//! unasked is not to be trusted with a request.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::outbox::Outbox;
use crate::machine::{ConnId, Tls, Trust};
use crate::proxy::Proxy;
use crate::time::Instant;
use crate::url::{Host, Origin, Scheme};

/// How long a connection waits for its next request. Most servers give up after 60 seconds or more.
pub const IDLE_TIME: Duration = Duration::from_secs(30);
/// The most connections that wait for one peer: as many as there are orders side by side, so that none of
/// them has to begin TLS again between its requests.
pub const IDLE_PER_PEER_MAX: usize = 10;
/// The most connections that wait.
pub const IDLE_MAX: usize = 32;

/// Whom a connection leads to: only requests that agree in all of it may share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) origin: Origin,
    pub(super) trust: Trust,
    /// The one address that will do.
    pub(super) fixed: Option<IpAddr>,
    /// Who is connected to in its place, with the credentials that were shown there.
    pub(super) proxy: Option<Proxy>,
}

impl Peer {
    /// Whom to connect to.
    pub(super) fn hop(&self) -> (&Host, u16) {
        match &self.proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&self.origin.host, self.origin.port),
        }
    }

    /// The only address to go to, where nothing has to be looked up.
    pub(super) fn known_address(&self) -> Option<IpAddr> {
        match self.hop().0 {
            Host::Ip(literal) => Some(self.fixed.unwrap_or(*literal)),
            Host::Name(_) => self.fixed,
        }
    }

    /// How the peer itself is spoken to, whoever is between.
    pub(super) fn tls(&self) -> Option<Tls> {
        let tls = || Tls { server: self.origin.host.clone(), trust: self.trust };
        (self.origin.scheme == Scheme::Https).then(tls)
    }
}

/// The waiting connections, the one that has waited longest first.
#[derive(Debug, Default)]
pub(super) struct Pool(Vec<Idle>);

#[derive(Debug)]
struct Idle {
    peer: Peer,
    conn: ConnId,
    address: SocketAddr,
    until: Instant,
}

impl Pool {
    /// Keeps a connection, at the cost of the one that has waited longest where there are too many.
    pub(super) fn put(
        &mut self,
        now: Instant,
        peer: Peer,
        conn: ConnId,
        address: SocketAddr,
        outbox: &mut Outbox,
    ) {
        let same = self.0.iter().filter(|idle| idle.peer == peer).count();
        let surplus = if same >= IDLE_PER_PEER_MAX {
            self.0.iter().position(|idle| idle.peer == peer)
        } else {
            (self.0.len() >= IDLE_MAX).then_some(0)
        };
        if let Some(position) = surplus {
            outbox.close(self.0.remove(position).conn);
        }
        self.0.push(Idle { peer, conn, address, until: now + IDLE_TIME });
    }

    /// The connection to `peer` that was used last: the one most likely still open.
    pub(super) fn take(&mut self, now: Instant, peer: &Peer) -> Option<(ConnId, SocketAddr)> {
        let position = self.0.iter().rposition(|idle| idle.peer == *peer && idle.until > now)?;
        let idle = self.0.remove(position);
        Some((idle.conn, idle.address))
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Forgets a connection; whether it was here.
    pub(super) fn remove(&mut self, conn: ConnId) -> bool {
        let before = self.0.len();
        self.0.retain(|idle| idle.conn != conn);
        self.0.len() < before
    }

    /// Closes what has waited long enough.
    pub(super) fn handle_timeout(&mut self, now: Instant, outbox: &mut Outbox) {
        for idle in self.0.extract_if(.., |idle| idle.until <= now) {
            outbox.close(idle.conn);
        }
    }

    /// Closes every one.
    pub(super) fn close_all(&mut self, outbox: &mut Outbox) {
        self.0.drain(..).for_each(|idle| outbox.close(idle.conn));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.first().map(|idle| idle.until)
    }
}
