//! The daemon's peers by name: Marathons that share their apps, one CA, load balancers, the name
//! server, and strangers.

use stand_ins::Peer;
use stand_ins::ca::Ca;
use stand_ins::lb::LoadBalancer;
use stand_ins::marathon::Marathon;

use crate::names::Names;
use crate::network::{PeerId, Strangers};

/// All peers of a run.
pub(crate) struct Peers {
    /// The Marathons, each of which has all apps.
    pub(crate) marathons: Vec<Marathon>,
    /// The certificate authority.
    pub(crate) ca: Ca,
    /// The load balancers.
    pub(crate) lbs: Vec<LoadBalancer>,
    /// The name server.
    pub(crate) names: Names,
    /// Those who come uninvited.
    pub(crate) strangers: Strangers,
}

impl Peers {
    /// Peers without names yet, and no strangers.
    pub(crate) fn new(marathons: Vec<Marathon>, ca: Ca, lbs: Vec<LoadBalancer>) -> Peers {
        let (names, strangers) = (Names::default(), Strangers::none());
        Peers { marathons, ca, lbs, names, strangers }
    }

    /// Every peer's name.
    pub(crate) fn ids(&self) -> impl Iterator<Item = PeerId> + use<> {
        let marathons = (0..self.marathons.len()).map(PeerId::Marathon);
        let lbs = (0..self.lbs.len()).map(PeerId::Lb);
        marathons.chain([PeerId::Ca, PeerId::NameServer, PeerId::Strangers]).chain(lbs)
    }

    /// A peer by its name.
    pub(crate) fn get(&mut self, id: PeerId) -> &mut dyn Peer {
        match id {
            PeerId::Marathon(index) => &mut self.marathons[index],
            PeerId::Ca => &mut self.ca,
            PeerId::Lb(index) => &mut self.lbs[index],
            PeerId::NameServer => &mut self.names,
            PeerId::Strangers => &mut self.strangers,
        }
    }

    /// The peer that has something to do next, and when, in milliseconds.
    pub(crate) fn next_timeout(&mut self) -> Option<(u64, PeerId)> {
        self.ids().filter_map(|id| self.get(id).next_timeout().map(|at| (at, id))).min()
    }
}
