//! What carries bytes from one end of a connection to the other, or loses them.

use marathon_acme::machine::{CloseReason, ConnId};

use super::way::{Break, Broken};
use super::{Delivery, MILLISECOND, Nanos, Network, PeerId};
use crate::faults::Fault;

/// A system gives up to send again what nobody acknowledges after this time (Linux's fifteen times).
pub(super) const GIVES_UP: Nanos = 924_600 * MILLISECOND;
/// While more than this waits to be sent, the daemon's loop reads nothing more from a connection.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

impl Network {
    /// The daemon sends.
    pub(crate) fn send_from_daemon(&mut self, now: Nanos, conn: ConnId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.unheard += bytes.len();
        self.books.unheard(link.unheard);
        if link.deaf {
            return;
        }
        self.carry(now, conn, bytes, true);
    }

    /// A peer sends.
    pub(crate) fn send_from_peer(&mut self, now: Nanos, peer: PeerId, number: u64, bytes: &[u8]) {
        let Some(conn) = self.by_peer.get(&(peer, number)).copied() else { return };
        if self.links.get(&conn).is_some_and(|link| link.unheard <= UNSENT_BYTES_MAX) {
            self.carry(now, conn, bytes, false);
        }
    }

    fn carry(&mut self, now: Nanos, conn: ConnId, bytes: &[u8], from_daemon: bool) {
        let Some(way) = self.links.get(&conn).map(|link| link.way) else { return };
        for piece in way.pieces(bytes, &self.weather, &mut self.chance, &mut self.toll) {
            let arrival = now + way.travel(&mut self.chance, &mut self.toll);
            let Some(link) = self.links.get_mut(&conn) else { return };
            let (peer, number) = link.peer;
            let hears_at =
                if from_daemon { &mut link.peer_hears_at } else { &mut link.daemon_hears_at };
            let at = arrival.max(*hears_at);
            if let Some(broken) = way.broken(at) {
                return self.lose(at, conn, broken, from_daemon);
            }
            *hears_at = at;
            let tls = link.tls;
            if self.breaks_off(at, conn, tls) {
                return;
            }
            self.post(
                at,
                match from_daemon {
                    true => Delivery::ToPeer(peer, number, piece),
                    false => Delivery::ToDaemon(conn, piece),
                },
            );
        }
    }

    /// A piece is lost on a broken way.
    fn lose(&mut self, at: Nanos, conn: ConnId, (kind, fault): Broken, from_daemon: bool) {
        self.toll.count(fault);
        let (peer, number) = self.links[&conn].peer;
        let (unreachable, reset) = (CloseReason::Unreachable, CloseReason::Reset);
        match (kind, from_daemon) {
            (Break::BlackHole, true) => {
                self.post(at + GIVES_UP, Delivery::DaemonClosed(conn, unreachable));
            }
            (Break::BlackHole, false) => {
                self.post(at + GIVES_UP, Delivery::PeerClosed(peer, number));
            }
            (Break::HalfOpen, true) => {
                self.post(at, Delivery::PeerClosed(peer, number));
                self.post(at, Delivery::DaemonClosed(conn, reset));
            }
            // It is the peer that is gone.
            (Break::HalfOpen, false) => self.post(at, Delivery::PeerClosed(peer, number)),
        }
    }

    /// Perhaps the connection ends here instead.
    fn breaks_off(&mut self, at: Nanos, conn: ConnId, tls: bool) -> bool {
        let reason = if self.meets(Fault::Reset) {
            CloseReason::Reset
        } else if !tls && self.meets(Fault::Cut) {
            CloseReason::Finished
        } else if tls && self.meets(Fault::Truncated) {
            CloseReason::Truncated
        } else if tls && self.meets(Fault::TlsFailed) {
            CloseReason::Tls("a record cannot be decrypted".into())
        } else {
            return false;
        };
        let (peer, number) = self.links[&conn].peer;
        self.post(at, Delivery::PeerClosed(peer, number));
        self.post(at, Delivery::DaemonClosed(conn, reason));
        true
    }
}
