//! What the daemon holds open, and how much it asks: counted at every moment, to be held against the
//! bounds that a run derives.

use std::collections::BTreeMap;

use marathon_acme::machine::{ConnId, SocketId};

use super::{Nanos, SECOND};

/// The most at any moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Most {
    /// Connections that the daemon had dialed.
    pub(crate) dialed: usize,
    /// Connections that it had accepted.
    pub(crate) accepted: usize,
    /// Questions that it asked the name server in one second.
    pub(crate) asked: u64,
    /// Bytes that it had sent on one connection and that had not arrived.
    pub(crate) unheard: usize,
}

impl Most {
    /// The greater of each.
    pub(crate) fn max(self, other: Most) -> Most {
        Most {
            dialed: self.dialed.max(other.dialed),
            accepted: self.accepted.max(other.accepted),
            asked: self.asked.max(other.asked),
            unheard: self.unheard.max(other.unheard),
        }
    }
}

/// Open connections and sockets of the daemon, and the most there ever were.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Since when each is open: from the output of the daemon or its acceptance to its end on that side.
    conns: BTreeMap<ConnId, Nanos>,
    dialed: usize,
    sockets: BTreeMap<SocketId, Nanos>,
    asked_in: (Nanos, u64),
    /// The most there ever were.
    pub(crate) most: Most,
}

impl Books {
    pub(super) fn opened(&mut self, now: Nanos, conn: ConnId) {
        if self.conns.insert(conn, now).is_none() && matches!(conn, ConnId::Dialed(_)) {
            self.dialed += 1;
        }
        self.most.dialed = self.most.dialed.max(self.dialed);
        self.most.accepted = self.most.accepted.max(self.conns.len() - self.dialed);
    }

    pub(super) fn unheard(&mut self, bytes: usize) {
        self.most.unheard = self.most.unheard.max(bytes);
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        if self.conns.remove(&conn).is_some() && matches!(conn, ConnId::Dialed(_)) {
            self.dialed -= 1;
        }
    }

    pub(super) fn asked(&mut self, now: Nanos, socket: SocketId) {
        self.sockets.entry(socket).or_insert(now);
        let second = now / SECOND;
        let before = if self.asked_in.0 == second { self.asked_in.1 } else { 0 };
        self.asked_in = (second, before + 1);
        self.most.asked = self.most.asked.max(before + 1);
    }

    pub(super) fn closed_socket(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    pub(super) fn has_socket(&self, socket: SocketId) -> bool {
        self.sockets.contains_key(&socket)
    }

    /// A process has ended, and all that it had.
    pub(super) fn ended(
        &mut self,
        its: impl Fn(ConnId) -> bool,
        its_socket: impl Fn(SocketId) -> bool,
    ) {
        self.conns.retain(|conn, _| !its(*conn));
        self.sockets.retain(|socket, _| !its_socket(*socket));
        self.dialed = self.conns.keys().filter(|conn| matches!(conn, ConnId::Dialed(_))).count();
    }

    /// Connections that are open since then or longer.
    pub(crate) fn conns_since(&self, then: Nanos) -> impl Iterator<Item = ConnId> {
        self.conns.iter().filter(move |(_, since)| **since <= then).map(|(conn, _)| *conn)
    }

    /// How many sockets are open since then or longer.
    pub(crate) fn sockets_since(&self, then: Nanos) -> usize {
        self.sockets.values().filter(|since| **since <= then).count()
    }
}
