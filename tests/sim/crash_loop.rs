//! A daemon that is killed again and again: whatever it forgets by that, it makes no more orders than
//! one that lives and fails, and it has its certificate once it is let live.

use serde_json::json;
use stand_ins::ca::{self, Ca};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{self, Marathon};
use stand_ins::random::Random;

use crate::machine::{Blow, Doom, Trigger};
use crate::network::{MILLISECOND, Nanos, PeerId};
use crate::peers::Peers;
use crate::scenario::{config, deploy, pass};
use crate::world::{Event, World};

const SECOND: Nanos = 1000 * MILLISECOND;
const MINUTE: Nanos = 60 * SECOND;
const HOUR: Nanos = 60 * MINUTE;
/// The pauses after failed orders; the last one repeats.
const RETRY_PAUSES: [Nanos; 6] = [MINUTE, 10 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];
const DOMAIN: &str = "shop.example";

/// A quiet world whose daemon wants one certificate.
fn world(seed: u64, settings: ca::Settings) -> World {
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
    let labels = json!({"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": DOMAIN});
    deploy(&mut world, &json!({"id": "/shop", "labels": labels, "ports": [0]}));
    world
}

fn orders(world: &World) -> usize {
    world.peers.ca.count("POST", "/new-order", 201)
}

fn killed(world: &World) -> usize {
    world.events.iter().filter(|(_, event)| matches!(event, Event::Killed(_))).count()
}

/// How many orders one run makes in that time whose orders all fail, by the shortest pauses there are.
fn orders_of_one_run(elapsed: Nanos) -> usize {
    let (mut count, mut at) = (1, 0);
    loop {
        at += RETRY_PAUSES[(count - 1).min(RETRY_PAUSES.len() - 1)] / 4 * 3;
        if at > elapsed {
            return count;
        }
        count += 1;
    }
}

/// Killed fifty times in the middle of an order, a little further on each time.
#[test]
fn fifty_kills_in_the_middle_of_an_order() {
    for seed in 0..5 {
        // The CA does not get on with it, so that every kill is in the middle.
        let never = 365 * 24 * HOUR / MILLISECOND;
        let settings = ca::Settings { validation_delay_ms: never, ..ca::Settings::default() };
        let mut world = world(seed, settings);
        let mut chance = Random::new(seed + 100);
        for kills in 1..=50 {
            let (after, outputs) = (Trigger::Publish, chance.between(2, 12));
            world.machines[0].condemn(Doom { after, outputs, blow: Blow::Kill, downtime: SECOND });
            while killed(&world) < kills {
                let until = world.now() + SECOND;
                pass(&mut world, until).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
                assert!(world.now() < 20 * 24 * HOUR, "seed {seed}: only {} kills", killed(&world));
            }
        }
        let (made, allowed) = (orders(&world), orders_of_one_run(world.now()));
        println!("seed {seed}: {made} orders, {allowed} allowed, {} s", world.now() / SECOND);
        assert!(made <= allowed, "seed {seed}: {made} orders, one run would make {allowed}");
        world.peers.ca.settings.validation_delay_ms = 500;
        let until = world.now() + 16 * HOUR;
        pass(&mut world, until).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        let stored = world.disk.names("certs");
        assert_eq!(stored, [format!("{DOMAIN}.pem")], "seed {seed}");
    }
}

/// A route that stays broken, and a daemon that is started anew every hour.
#[test]
fn a_failing_order_keeps_its_schedule_over_restarts() {
    for seed in 0..3 {
        let failing_names = [DOMAIN.to_string()].into();
        let settings = ca::Settings { failing_names, ..ca::Settings::default() };
        let mut world = world(seed, settings);
        let mut chance = Random::new(seed + 200);
        for _ in 0..72 {
            let until = world.now() + HOUR;
            pass(&mut world, until).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
            let (after, outputs) = (Trigger::Anything, chance.below(20));
            world.machines[0].condemn(Doom { after, outputs, blow: Blow::Kill, downtime: SECOND });
        }
        let (made, allowed) = (orders(&world), orders_of_one_run(world.now()));
        println!("seed {seed}: {made} orders, {allowed} allowed, {} s", world.now() / SECOND);
        assert!(made <= allowed, "seed {seed}: {made} orders, one run would make {allowed}");
        assert!(made >= 6, "seed {seed}: only {made} orders in three days");
    }
}
