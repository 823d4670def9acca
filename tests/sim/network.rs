//! The simulated network: connections whose bytes arrive late, split anywhere, or never, because
//! the connection was refused or dropped. In order per direction, as TCP is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use marathon_acme::seam::{CloseReason, ConnId};
use stand_ins::random::Random;

use crate::faults::{Fault, Switches, Toll};

/// A moment of the simulation, in nanoseconds since its start.
pub(crate) type Nanos = u64;

/// A thousandth of a second.
pub(crate) const MILLISECOND: Nanos = 1_000_000;

/// Who is at the other end of the daemon's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerId {
    /// One of several Marathons.
    Marathon(usize),
    /// The certificate authority.
    Ca,
    /// One of several load balancers.
    Lb(usize),
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
    PeerDialed(PeerId, u64, bool),
    /// Bytes for the daemon.
    ToDaemon(ConnId, Vec<u8>),
    /// Bytes for a peer.
    ToPeer(PeerId, u64, Vec<u8>),
    /// The daemon's end of a connection is closed.
    DaemonClosed(ConnId, CloseReason),
    /// The peer's end of a connection is closed.
    PeerClosed(PeerId, u64),
}

/// How bad the network is.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Latency of a piece, in milliseconds.
    pub(crate) latency_ms: (u64, u64),
    /// How many connections of a hundred are refused.
    pub(crate) refused_percent: u8,
    /// How many pieces of a thousand end their connection instead of arriving.
    pub(crate) dropped_permille: u64,
    /// How many sends of a hundred are split into small pieces.
    pub(crate) split_percent: u8,
    /// How many datagrams of a hundred are lost.
    pub(crate) lost_datagrams_percent: u8,
}

impl Weather {
    /// Quick and faultless, but still split.
    pub(crate) fn fine() -> Weather {
        Weather {
            latency_ms: (1, 5),
            refused_percent: 0,
            dropped_permille: 0,
            split_percent: 20,
            lost_datagrams_percent: 0,
        }
    }

    /// As bad as the seed says.
    pub(crate) fn bad(chance: &mut Random, faults: &Switches) -> Weather {
        let mut weather = Weather {
            latency_ms: (1, chance.between(2, 400)),
            refused_percent: chance.below(30) as u8,
            dropped_permille: chance.below(40),
            split_percent: chance.below(101) as u8,
            lost_datagrams_percent: chance.below(30) as u8,
        };
        // Drawn and then dropped, so that the rest of a seed does not hang on what is on.
        let off = |fault| !faults.are_on(fault);
        if off(Fault::Refused) {
            weather.refused_percent = 0;
        }
        if off(Fault::Reset) {
            weather.dropped_permille = 0;
        }
        if off(Fault::Split) {
            weather.split_percent = 0;
        }
        if off(Fault::DnsLost) {
            weather.lost_datagrams_percent = 0;
        }
        weather
    }
}

#[derive(Debug)]
struct Link {
    peer: (PeerId, u64),
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
    queue: BTreeMap<(Nanos, u64), Delivery>,
    links: BTreeMap<ConnId, Link>,
    by_peer: BTreeMap<(PeerId, u64), ConnId>,
    hosts: BTreeMap<SocketAddr, PeerId>,
    /// Connections that never stood, until the daemon is told.
    refused: BTreeSet<ConnId>,
    sequence: u64,
    chance: Random,
}

impl Network {
    /// A network without hosts.
    pub(crate) fn new(chance: Random) -> Network {
        Network {
            weather: Weather::fine(),
            toll: Toll::default(),
            queue: BTreeMap::new(),
            links: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            hosts: BTreeMap::new(),
            refused: BTreeSet::new(),
            sequence: 0,
            chance,
        }
    }

    /// Says who listens at an address.
    pub(crate) fn listen(&mut self, address: SocketAddr, peer: PeerId) {
        self.hosts.insert(address, peer);
    }

    /// Who listens at an address.
    pub(crate) fn peer_at(&self, address: SocketAddr) -> Option<PeerId> {
        self.hosts.get(&address).copied()
    }

    /// When the next delivery is due.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next delivery that is due.
    pub(crate) fn deliver(&mut self, now: Nanos) -> Option<Delivery> {
        let entry = self.queue.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let delivery = entry.remove();
        self.is_wanted(&delivery).then_some(delivery).or_else(|| self.deliver(now))
    }

    /// Whether the receiving end is still open; ends are forgotten once they were told.
    fn is_wanted(&mut self, delivery: &Delivery) -> bool {
        let open = |links: &BTreeMap<ConnId, Link>, conn: &ConnId| {
            links.get(conn).is_some_and(|link| link.daemon_open)
        };
        match delivery {
            Delivery::Connected(conn) | Delivery::Accepted(conn) | Delivery::ToDaemon(conn, _) => {
                open(&self.links, conn)
            }
            Delivery::DaemonClosed(conn, _) => {
                let told = self.refused.remove(conn) || open(&self.links, conn);
                self.close_end(*conn, true);
                told
            }
            Delivery::ToPeer(peer, number, _) | Delivery::PeerAccepted(peer, number) => {
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
        }
    }

    fn close_end(&mut self, conn: ConnId, daemon: bool) {
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

    /// The daemon connects.
    pub(crate) fn connect(
        &mut self,
        now: Nanos,
        conn: ConnId,
        to: SocketAddr,
        number: u64,
        refuses: bool,
    ) {
        let at = now + self.latency();
        let refused = refuses || self.chance.chance(self.weather.refused_percent);
        let Some(peer) = self.hosts.get(&to).copied().filter(|_| !refused) else {
            self.toll.count(Fault::Refused);
            self.refused.insert(conn);
            return self.post(at, Delivery::DaemonClosed(conn, CloseReason::Refused));
        };
        self.link(at, conn, (peer, number));
        self.post(at, Delivery::PeerAccepted(peer, number));
        self.post(at, Delivery::Connected(conn));
    }

    /// A peer connects to the daemon's listener, or finds nobody there.
    pub(crate) fn dial(&mut self, now: Nanos, peer: PeerId, number: u64, conn: Option<ConnId>) {
        let at = now + self.latency();
        let refused = self.chance.chance(self.weather.refused_percent);
        let Some(conn) = conn.filter(|_| !refused) else {
            self.toll.count(Fault::Refused);
            return self.post(at, Delivery::PeerDialed(peer, number, false));
        };
        self.link(at, conn, (peer, number));
        self.post(at, Delivery::Accepted(conn));
        self.post(at, Delivery::PeerDialed(peer, number, true));
    }

    fn link(&mut self, at: Nanos, conn: ConnId, peer: (PeerId, u64)) {
        let (daemon_hears_at, peer_hears_at) = (at, at);
        let link =
            Link { peer, daemon_hears_at, peer_hears_at, daemon_open: true, peer_open: true };
        self.links.insert(conn, link);
        self.by_peer.insert(peer, conn);
    }

    /// The daemon sends.
    pub(crate) fn send_from_daemon(&mut self, now: Nanos, conn: ConnId, bytes: &[u8]) {
        for piece in self.pieces(bytes) {
            let latency = self.latency();
            let Some(link) = self.links.get_mut(&conn) else { return };
            let (peer, number) = link.peer;
            link.peer_hears_at = link.peer_hears_at.max(now + latency);
            let at = link.peer_hears_at;
            if self.drops(at, conn) {
                return;
            }
            self.post(at, Delivery::ToPeer(peer, number, piece));
        }
    }

    /// A peer sends.
    pub(crate) fn send_from_peer(&mut self, now: Nanos, peer: PeerId, number: u64, bytes: &[u8]) {
        let Some(conn) = self.by_peer.get(&(peer, number)).copied() else { return };
        for piece in self.pieces(bytes) {
            let latency = self.latency();
            let Some(link) = self.links.get_mut(&conn) else { return };
            link.daemon_hears_at = link.daemon_hears_at.max(now + latency);
            let at = link.daemon_hears_at;
            if self.drops(at, conn) {
                return;
            }
            self.post(at, Delivery::ToDaemon(conn, piece));
        }
    }

    /// The daemon closes: the peer hears it behind all that was sent.
    pub(crate) fn close_from_daemon(&mut self, conn: ConnId) {
        self.refused.remove(&conn);
        let Some(link) = self.links.get(&conn) else { return };
        let ((peer, number), at) = (link.peer, link.peer_hears_at);
        self.close_end(conn, true);
        self.post(at, Delivery::PeerClosed(peer, number));
    }

    /// A peer closes: the daemon hears it behind all that was sent.
    pub(crate) fn close_from_peer(&mut self, peer: PeerId, number: u64) {
        let Some(conn) = self.by_peer.get(&(peer, number)).copied() else { return };
        let at = self.links[&conn].daemon_hears_at;
        self.close_end(conn, false);
        self.post(at, Delivery::DaemonClosed(conn, CloseReason::Finished));
    }

    /// A daemon's process has ended, in order or not: what was on its way to it is lost, and the
    /// peers hear that its connections are over. The next process may use the same numbers.
    pub(crate) fn daemon_ended(&mut self, now: Nanos, its: impl Fn(ConnId) -> bool) {
        self.refused.retain(|conn| !its(*conn));
        self.queue.retain(|_, delivery| match delivery {
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

    /// Perhaps the connection ends here instead.
    fn drops(&mut self, at: Nanos, conn: ConnId) -> bool {
        if self.chance.below(1000) >= self.weather.dropped_permille {
            return false;
        }
        self.toll.count(Fault::Reset);
        let (peer, number) = self.links[&conn].peer;
        self.post(at, Delivery::PeerClosed(peer, number));
        self.post(at, Delivery::DaemonClosed(conn, CloseReason::Reset));
        true
    }

    fn pieces(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        if bytes.len() < 2 || !self.chance.chance(self.weather.split_percent) {
            return vec![bytes.to_vec()];
        }
        self.toll.count(Fault::Split);
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let longest = rest.len().min(64) as u64;
            let all = pieces.len() == 8;
            let length = if all { rest.len() } else { self.chance.between(1, longest) as usize };
            let (piece, behind) = rest.split_at(length);
            pieces.push(piece.to_vec());
            rest = behind;
        }
        pieces
    }
}
