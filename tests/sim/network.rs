//! The simulated network: connections whose bytes arrive late, split anywhere, or never, because
//! the connection was refused, reset, cut off or swallowed. In order per direction, as TCP is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use marathon_acme::machine::{CloseReason, ConnId, SocketId};
use stand_ins::DialError;
use stand_ins::random::Random;

use crate::faults::{Fault, Toll};

mod books;
mod carriage;
mod connecting;
mod questions;
mod strangers;
mod way;
mod weather;

pub(crate) use books::{Books, Most};
pub(crate) use strangers::{DEAF, Strangers};
pub(crate) use weather::Weather;

use way::{Break, Way};

/// A moment of the simulation, in nanoseconds since its start.
pub(crate) type Nanos = u64;

/// A thousandth of a second.
pub(crate) const MILLISECOND: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1000 * MILLISECOND;
pub(crate) const MINUTE: Nanos = 60 * SECOND;
pub(crate) const HOUR: Nanos = 60 * MINUTE;

/// Who is at the other end of the daemon's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerId {
    /// One of several Marathons.
    Marathon(usize),
    /// The certificate authority.
    Ca,
    /// One of several load balancers.
    Lb(usize),
    /// The name server, where it is asked by TCP.
    NameServer,
    /// Whoever comes to the daemon's listener and has no business there.
    Strangers,
}

/// What the network brings.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// The daemon's connection stands.
    Connected(ConnId),
    /// A peer's connection to the daemon stands on the daemon's side.
    Accepted(ConnId),
    /// A peer has a new connection from the daemon.
    PeerAccepted(PeerId, u64),
    /// A peer's own connection stands, or not.
    PeerDialed(PeerId, u64, Result<(), DialError>),
    /// Bytes for the daemon.
    ToDaemon(ConnId, Vec<u8>),
    /// Bytes for a peer.
    ToPeer(PeerId, u64, Vec<u8>),
    /// The daemon's end of a connection is closed.
    DaemonClosed(ConnId, CloseReason),
    /// The peer's end of a connection is closed.
    PeerClosed(PeerId, u64),
    /// A datagram for the daemon, and whom it comes from.
    Datagram(SocketId, SocketAddr, Vec<u8>),
}

/// What is at an address where nobody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grave {
    /// A machine on which nobody listens.
    Refuses,
    /// Nothing that would answer.
    Swallows,
    /// There is no way there.
    NoRoute,
}

#[derive(Debug)]
struct Link {
    peer: (PeerId, u64),
    /// Where the daemon connected to.
    to: Option<SocketAddr>,
    tls: bool,
    way: Way,
    /// The peer never reads.
    deaf: bool,
    /// Bytes of the daemon's that have not arrived.
    unheard: usize,
    /// When the daemon had something of the peer last.
    heard: Nanos,
    /// Nothing arrives before what was sent before it.
    daemon_hears_at: Nanos,
    peer_hears_at: Nanos,
    /// The end that has closed gets nothing more.
    daemon_open: bool,
    peer_open: bool,
}

/// All connections, and what is on its way.
#[derive(Debug)]
pub(crate) struct Network {
    /// How bad it is now.
    pub(crate) weather: Weather,
    /// Which faults fired so far.
    pub(crate) toll: Toll,
    /// What the daemon holds open.
    pub(crate) books: Books,
    queue: BTreeMap<(Nanos, u64), Delivery>,
    links: BTreeMap<ConnId, Link>,
    by_peer: BTreeMap<(PeerId, u64), ConnId>,
    hosts: BTreeMap<SocketAddr, PeerId>,
    /// Addresses where nobody is, and the fault that is met there.
    graves: BTreeMap<SocketAddr, (Grave, Fault)>,
    /// Connections that never stood, until the daemon is told.
    unmade: BTreeSet<ConnId>,
    sequence: u64,
    chance: Random,
}

impl Network {
    /// A network without hosts.
    pub(crate) fn new(chance: Random) -> Network {
        Network {
            weather: Weather::fine(),
            toll: Toll::default(),
            books: Books::default(),
            queue: BTreeMap::new(),
            links: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            hosts: BTreeMap::new(),
            graves: BTreeMap::new(),
            unmade: BTreeSet::new(),
            sequence: 0,
            chance,
        }
    }

    /// Says who listens at an address.
    pub(crate) fn listen(&mut self, address: SocketAddr, peer: PeerId) {
        self.graves.remove(&address);
        self.hosts.insert(address, peer);
    }

    /// From now on nobody is at an address, which is met as this fault.
    pub(crate) fn bury(&mut self, now: Nanos, address: SocketAddr, grave: Grave, fault: Fault) {
        self.hosts.remove(&address);
        self.graves.insert(address, (grave, fault));
        let kind = if grave == Grave::Refuses { Break::HalfOpen } else { Break::BlackHole };
        for link in self.links.values_mut().filter(|link| link.to == Some(address)) {
            link.way.break_now(now, (kind, fault));
        }
    }

    /// Who listens at an address.
    pub(crate) fn peer_at(&self, address: SocketAddr) -> Option<PeerId> {
        self.hosts.get(&address).copied()
    }

    /// Who is at the other end of a connection of the daemon, and its number there.
    pub(crate) fn peer_of(&self, conn: ConnId) -> Option<(PeerId, u64)> {
        self.links.get(&conn).map(|link| link.peer)
    }

    /// The connections that the daemon has open, of those that are `its`.
    pub(crate) fn open_to_daemon(&self, its: impl Fn(ConnId) -> bool) -> Vec<ConnId> {
        let open = self.links.iter().filter(|(conn, link)| link.daemon_open && its(**conn));
        open.map(|(conn, _)| *conn).collect()
    }

    /// When the daemon has had something of the peer last on a connection.
    pub(crate) fn last_heard(&self, conn: ConnId) -> Option<Nanos> {
        self.links.get(&conn).map(|link| link.heard)
    }

    /// When the next delivery is due.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next delivery that is due.
    pub(crate) fn deliver(&mut self, now: Nanos) -> Option<Delivery> {
        loop {
            let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
            let delivery = entry.remove();
            if self.is_wanted(now, &delivery) {
                return Some(delivery);
            }
        }
    }

    /// Whether the receiving end is still open; ends are forgotten once they were told.
    fn is_wanted(&mut self, now: Nanos, delivery: &Delivery) -> bool {
        let open = |links: &BTreeMap<ConnId, Link>, conn: &ConnId| {
            links.get(conn).is_some_and(|link| link.daemon_open)
        };
        match delivery {
            Delivery::Connected(conn) => open(&self.links, conn),
            Delivery::ToDaemon(conn, _) => match self.links.get_mut(conn) {
                Some(link) => {
                    link.heard = now;
                    link.daemon_open
                }
                None => false,
            },
            Delivery::Accepted(conn) => {
                let wanted = open(&self.links, conn);
                if wanted {
                    self.books.opened(now, *conn);
                }
                wanted
            }
            Delivery::DaemonClosed(conn, _) => {
                let told = self.unmade.remove(conn) || open(&self.links, conn);
                self.close_end(*conn, true);
                told
            }
            Delivery::ToPeer(peer, number, bytes) => {
                let conn = self.by_peer.get(&(*peer, *number));
                let link = conn.and_then(|conn| self.links.get_mut(conn));
                link.is_some_and(|link| {
                    link.unheard = link.unheard.saturating_sub(bytes.len());
                    link.peer_open
                })
            }
            Delivery::PeerAccepted(peer, number) => {
                let conn = self.by_peer.get(&(*peer, *number));
                conn.and_then(|conn| self.links.get(conn)).is_some_and(|link| link.peer_open)
            }
            Delivery::PeerClosed(peer, number) => match self.by_peer.get(&(*peer, *number)) {
                Some(conn) => {
                    let (conn, open) = (*conn, self.links[conn].peer_open);
                    self.close_end(conn, false);
                    open
                }
                None => false,
            },
            Delivery::PeerDialed(..) => true,
            Delivery::Datagram(socket, ..) => self.books.has_socket(*socket),
        }
    }

    fn close_end(&mut self, conn: ConnId, daemon: bool) {
        if daemon {
            self.books.closed(conn);
        }
        let Some(link) = self.links.get_mut(&conn) else { return };
        if daemon {
            link.daemon_open = false;
        } else {
            link.peer_open = false;
        }
        if !link.daemon_open && !link.peer_open {
            let peer = link.peer;
            self.links.remove(&conn);
            self.by_peer.remove(&peer);
        }
    }

    fn post(&mut self, at: Nanos, delivery: Delivery) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), delivery);
    }

    fn latency(&mut self) -> Nanos {
        let (low, high) = self.weather.latency_ms;
        self.chance.between(low * MILLISECOND, high * MILLISECOND)
    }

    /// Whether a fault strikes now; it is counted when it does.
    fn meets(&mut self, fault: Fault) -> bool {
        let strikes = self.weather.strikes(fault, &mut self.chance);
        if strikes {
            self.toll.count(fault);
        }
        strikes
    }

    /// The daemon closes: the peer hears it behind all that was sent.
    pub(crate) fn close_from_daemon(&mut self, now: Nanos, conn: ConnId) {
        self.unmade.remove(&conn);
        self.books.closed(conn);
        let Some(link) = self.links.get(&conn) else { return };
        let ((peer, number), at) = (link.peer, link.peer_hears_at);
        let lost = matches!(link.way.broken(at), Some((Break::BlackHole, _)));
        self.close_end(conn, true);
        let at = if lost { now + carriage::GIVES_UP } else { at };
        self.post(at, Delivery::PeerClosed(peer, number));
    }

    /// A peer closes: the daemon hears it behind all that was sent, if the way holds.
    pub(crate) fn close_from_peer(&mut self, peer: PeerId, number: u64) {
        let Some(conn) = self.by_peer.get(&(peer, number)).copied() else { return };
        let link = &self.links[&conn];
        let (at, broken) = (link.daemon_hears_at, link.way.broken(link.daemon_hears_at));
        if let Some((_, fault)) = broken.filter(|_| link.daemon_open) {
            self.toll.count(fault);
        }
        self.close_end(conn, false);
        if broken.is_none() {
            self.post(at, Delivery::DaemonClosed(conn, CloseReason::Finished));
        }
    }

    /// A daemon's process has ended, in order or not: what was on its way to it is lost, and the
    /// peers hear that its connections are over. The next process may use the same numbers.
    pub(crate) fn daemon_ended(
        &mut self,
        now: Nanos,
        its: impl Fn(ConnId) -> bool,
        its_socket: impl Fn(SocketId) -> bool,
    ) {
        self.unmade.retain(|conn| !its(*conn));
        self.books.ended(&its, &its_socket);
        self.queue.retain(|_, delivery| match delivery {
            Delivery::Datagram(socket, ..) => !its_socket(*socket),
            Delivery::Connected(conn) | Delivery::Accepted(conn) => !its(*conn),
            Delivery::ToDaemon(conn, _) | Delivery::DaemonClosed(conn, _) => !its(*conn),
            Delivery::PeerAccepted(..) | Delivery::PeerDialed(..) => true,
            Delivery::ToPeer(..) | Delivery::PeerClosed(..) => true,
        });
        let (over, rest) =
            std::mem::take(&mut self.links).into_iter().partition(|(conn, _)| its(*conn));
        self.links = rest;
        for (_, mut link) in over {
            let ((peer, number), at) = (link.peer, link.peer_hears_at.max(now + self.latency()));
            link.daemon_open = false;
            if link.peer_open {
                self.sequence += 1;
                let grave = ConnId::Accepted(u64::MAX - self.sequence);
                self.by_peer.insert((peer, number), grave);
                self.links.insert(grave, link);
                self.post(at, Delivery::PeerClosed(peer, number));
            } else {
                self.by_peer.remove(&(peer, number));
            }
        }
    }

    /// The peer ends a connection by a TLS alert.
    pub(crate) fn fail_handshake(&mut self, now: Nanos, conn: ConnId) {
        if let Some(link) = self.links.get(&conn) {
            let (peer, number) = link.peer;
            self.post(now, Delivery::PeerClosed(peer, number));
            let reason = CloseReason::Tls("received fatal alert: HandshakeFailure".into());
            self.post(now, Delivery::DaemonClosed(conn, reason));
        }
    }

    /// Resets every connection with a peer, as when the way to it is cut.
    pub(crate) fn cut(&mut self, now: Nanos, peer: PeerId) {
        let with_peer = self.links.iter().filter(|(_, link)| link.peer.0 == peer);
        let found: Vec<(ConnId, u64)> =
            with_peer.map(|(conn, link)| (*conn, link.peer.1)).collect();
        for (conn, number) in found {
            self.toll.count(Fault::Reset);
            self.post(now, Delivery::PeerClosed(peer, number));
            self.post(now, Delivery::DaemonClosed(conn, CloseReason::Reset));
        }
    }
}
