//! A world without faults, with one of each peer: for what is looked at by itself.

use serde_json::json;
use stand_ins::ca::{Ca, Settings};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{self, Marathon};
use stand_ins::random::Random;

use crate::network::PeerId;
use crate::peers::Peers;
use crate::scenario::{config, deploy};
use crate::world::World;

/// The world; its daemon wants nothing yet.
pub(crate) fn world(seed: u64, settings: Settings) -> World {
    let start = World::start_time();
    let peers = Peers::new(
        vec![Marathon::new(marathon::Settings::default())],
        Ca::new(seed, "https://ca.example:14000", start, settings),
        vec![LoadBalancer::new(start, lb::Settings::default())],
    );
    let mut world = World::new(&config(1, 1), peers, Random::new(seed));
    world.host("marathon0.mesos", 8080, &[PeerId::Marathon(0)]);
    world.host("ca.example", 14000, &[PeerId::Ca]);
    world.host("lb0.mesos", 9090, &[PeerId::Lb(0)]);
    world
}

/// An app wants certificates for these names.
pub(crate) fn want(world: &mut World, id: &str, names: &[String]) {
    let labels = json!({"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": names.join(",")});
    deploy(world, &json!({"id": format!("/{id}"), "labels": labels, "ports": [0]}));
}
