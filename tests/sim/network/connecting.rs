//! How connections come about, or do not: the daemon's own, and those to its listener.

use std::net::SocketAddr;

use marathon_acme::machine::{CloseReason, ConnId};
use stand_ins::DialError;

use super::way::{self, Way};
use super::{Delivery, Grave, Link, MILLISECOND, Nanos, Network, PeerId};
use crate::faults::Fault;
use crate::names::LIE;

/// The system gives up a connection attempt that nobody answers after this time (Linux's six times).
const CONNECT_GIVES_UP: Nanos = 127_000 * MILLISECOND;
/// A connection that waits to be accepted waits so long at most for a descriptor.
const LATE_ACCEPT_MAX: Nanos = 20_000 * MILLISECOND;

impl Network {
    /// The daemon connects.
    pub(crate) fn connect(
        &mut self,
        now: Nanos,
        conn: ConnId,
        (to, tls): (SocketAddr, bool),
        number: u64,
        refuses: Option<Fault>,
    ) {
        assert!(to.ip() != LIE, "the daemon believes a forged answer of the name server");
        self.books.opened(now, conn);
        match self.try_connect(now, to, tls, refuses) {
            Ok((peer, at)) => {
                self.link(at, conn, (peer, number), Some(to), tls);
                self.post(at, Delivery::PeerAccepted(peer, number));
                self.post(at, Delivery::Connected(conn));
            }
            Err((at, reason)) => {
                self.unmade.insert(conn);
                self.post(at, Delivery::DaemonClosed(conn, reason));
            }
        }
    }

    /// Whom the daemon reaches and when, or why it does not and when it is told.
    fn try_connect(
        &mut self,
        now: Nanos,
        to: SocketAddr,
        tls: bool,
        refuses: Option<Fault>,
    ) -> Result<(PeerId, Nanos), (Nanos, CloseReason)> {
        let at = now + self.latency();
        if self.meets(Fault::NoDescriptor) {
            return Err((now, CloseReason::Local("too many open files".into())));
        }
        let never = (now + CONNECT_GIVES_UP, CloseReason::Unreachable);
        let Some(peer) = self.peer_at(to) else {
            let known = self.graves.get(&to).copied();
            let (grave, fault) = known.unwrap_or((Grave::Refuses, Fault::Refused));
            self.toll.count(fault);
            return Err(match grave {
                Grave::Refuses => (at, CloseReason::Refused),
                Grave::NoRoute => (at, CloseReason::Unreachable),
                Grave::Swallows => never,
            });
        };
        if let Some(fault) = refuses {
            self.toll.count(fault);
            return Err((at, CloseReason::Refused));
        }
        if self.meets(Fault::Refused) {
            return Err((at, CloseReason::Refused));
        }
        if self.meets(Fault::Unreachable) {
            return Err((at, CloseReason::Unreachable));
        }
        if self.meets(Fault::NoAnswer) {
            return Err(never);
        }
        if tls && self.meets(Fault::TlsFailed) {
            return Err((at, CloseReason::Tls("the handshake failed".into())));
        }
        Ok((peer, at + way::syn_delay(&self.weather, &mut self.chance, &mut self.toll)))
    }

    /// A peer connects to the daemon's listener, or finds nobody there.
    pub(crate) fn dial(
        &mut self,
        now: Nanos,
        (peer, number): (PeerId, u64),
        conn: Option<ConnId>,
        deaf: bool,
    ) {
        let at = now + self.latency();
        let failed = |error| Delivery::PeerDialed(peer, number, Err(error));
        let Some(conn) = conn else { return self.post(at, failed(DialError::Refused)) };
        if self.meets(Fault::Refused) {
            return self.post(at, failed(DialError::Refused));
        }
        if self.meets(Fault::Unreachable) {
            return self.post(at, failed(DialError::Unreachable));
        }
        if self.meets(Fault::NoAnswer) {
            return self.post(now + CONNECT_GIVES_UP, failed(DialError::Unreachable));
        }
        let at = at + way::syn_delay(&self.weather, &mut self.chance, &mut self.toll);
        self.link(at, conn, (peer, number), None, false);
        // The system completes the connection; the daemon gets it when it can take it.
        let mut accepted_at = at;
        if self.meets(Fault::LateAccept) {
            accepted_at += self.chance.below(LATE_ACCEPT_MAX);
        }
        if let Some(link) = self.links.get_mut(&conn) {
            link.deaf = deaf;
            link.daemon_hears_at = accepted_at;
        }
        self.post(accepted_at, Delivery::Accepted(conn));
        self.post(at, Delivery::PeerDialed(peer, number, Ok(())));
    }

    fn link(
        &mut self,
        at: Nanos,
        conn: ConnId,
        peer: (PeerId, u64),
        to: Option<SocketAddr>,
        tls: bool,
    ) {
        let way = Way::draw(at, &self.weather, &mut self.chance, &mut self.toll);
        let link = Link {
            peer,
            to,
            tls,
            way,
            deaf: false,
            unheard: 0,
            heard: at,
            daemon_hears_at: at,
            peer_hears_at: at,
            daemon_open: true,
            peer_open: true,
        };
        self.links.insert(conn, link);
        self.by_peer.insert(peer, conn);
    }
}
