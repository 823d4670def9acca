//! The daemon's own connections: whether each comes about, and what it is shown on one where it only
//! looks.

use std::net::SocketAddr;

use marathon_acme::machine::{ConnId, Tls, Trust};

use super::World;
use crate::disk::Disk;
use crate::faults::Fault;
use crate::fronts::{self, Directory, Snapshot};
use crate::machine::Heard;
use crate::network::PeerId;
use crate::scenario::load_balancers;

impl World {
    /// The daemon connects.
    pub(super) fn dial(&mut self, conn: ConnId, to: SocketAddr, tls: Option<Tls>) {
        let secure = tls.is_some();
        let trust = tls.as_ref().map(|tls| tls.trust);
        let acme = trust == Some(Trust::Acme);
        // They are at one address with both of their ports.
        let looks = trust == Some(Trust::Unjudged);
        let port = if looks { load_balancers::PORT } else { to.port() };
        assert!(!looks || to.port() == fronts::PORT, "{to} is looked at");
        let to = SocketAddr::new(to.ip(), port);
        let peer = self.network.peer_at(to);
        assert!(acme || peer != Some(PeerId::Ca), "the CA is spoken to without TLS");
        self.numbers += 1;
        let refuses = peer.and_then(|id| self.refusal(id));
        let crashed = match peer {
            Some(PeerId::Lb(index)) if self.is_verified() => {
                let visible = self.fronts.visible(index, self.now);
                self.fronts.start_again(index, || read(visible, &self.disk));
                self.fronts.is_down(index) || (looks && self.fronts.is_deaf(index))
            }
            _ => false,
        };
        let refuses = refuses.or(crashed.then_some(Fault::LbCrash));
        if let Some(tls) = tls.filter(|_| looks) {
            self.glances.insert(conn, tls.server.to_string());
        }
        self.network.connect(self.now, conn, (to, secure), self.numbers, refuses);
    }

    /// A connection of the daemon's stands; by a handshake it is shown a certificate.
    pub(super) fn connected(&mut self, conn: ConnId) {
        let name = self.glances.remove(&conn);
        match (name, self.network.peer_of(conn)) {
            (Some(name), Some((PeerId::Lb(index), _))) if self.fronts.fails(index, &name) => {
                self.network.fail_handshake(self.now, conn);
            }
            (Some(name), Some((PeerId::Lb(index), _))) => {
                let der = self.fronts.shows(index, &name);
                self.hear_of(conn, |conn| Heard::Presented(conn, der));
            }
            _ => self.hear_of(conn, Heard::Connected),
        }
    }

    /// Something comes to a load balancer: whether a signal would be in vain is known by then.
    pub(super) fn prepare(&mut self, id: PeerId) {
        if let PeerId::Lb(index) = id
            && self.is_verified()
        {
            let visible = self.fronts.visible(index, self.now);
            let refuses = self.fronts.refuses(index, || read(visible, &self.disk));
            self.peers.lbs[index].settings.deaf = refuses;
        }
    }

    /// A load balancer that has a new process has loaded what it sees in `certs/`.
    pub(super) fn load_certificates(&mut self, index: usize) {
        let reloads = self.peers.lbs[index].reloads().len();
        let visible = self.fronts.visible(index, self.now);
        let was_down = self.fronts.is_down(index);
        self.fronts.reloaded(index, reloads, || read(visible, &self.disk));
        if self.fronts.is_down(index) && !was_down {
            self.network.cut(self.now, PeerId::Lb(index));
        }
    }

    /// Something was stored: where storage shows new files late, what lies in `certs/` now is recorded.
    pub(crate) fn record_certificates(&mut self) {
        if self.fronts.keeps_history() {
            let content = fronts::directory(&self.disk);
            self.fronts.written(self.now, content, &mut self.chance);
        }
    }

    /// Whether the daemon looks at what is served.
    pub(crate) fn is_verified(&self) -> bool {
        self.config.lb_verify.port.is_some()
    }

    /// Why a peer takes no connection at present, if it takes none.
    fn refusal(&mut self, id: PeerId) -> Option<Fault> {
        let is_lb = matches!(id, PeerId::Lb(_));
        if self.cut_off.contains(&id) {
            return Some(if is_lb { Fault::LbLongDown } else { Fault::Refused });
        }
        let down = if is_lb { Fault::LbDown } else { Fault::Refused };
        self.peers.get(id).refuses().then_some(down)
    }
}

/// What a load balancer finds in `certs/`: what it sees, or, where storage shows all at once, what is there.
fn read(visible: Option<Snapshot>, disk: &Disk) -> Directory {
    visible.map_or_else(|| fronts::directory(disk), |visible| (*visible).clone())
}
