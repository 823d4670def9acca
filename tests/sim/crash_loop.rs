//! A daemon that is killed again and again: whatever it forgets by that, it makes no more orders than
//! one that lives and fails, and it has its certificate once it is let live.

use stand_ins::ca;
use stand_ins::random::Random;

use crate::invariants::RETRY_PAUSES;
use crate::machine::{Blow, Doom, Trigger};
use crate::network::{HOUR, MILLISECOND, Nanos, SECOND};
use crate::quiet;
use crate::scenario::pass;
use crate::world::{Event, World};

const DOMAIN: &str = "shop.example";

/// A quiet world whose daemon wants one certificate.
fn world(seed: u64, settings: ca::Settings) -> World {
    let mut world = quiet::world(seed, settings);
    quiet::want(&mut world, "shop", &[DOMAIN.to_string()]);
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

/// A route that stays broken, and a daemon that is restarted every hour.
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
