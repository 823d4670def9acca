//! One bad domain never delays another: what hangs at the CA, or fails there again and again, keeps
//! nothing else waiting beyond a bound; and a flood of events leads to few syncs.

use std::collections::BTreeSet;

use marathon_acme::daemon::issuer::{ORDERS_OPEN_MAX, STANDS_ASIDE_AFTER};
use serde_json::json;
use stand_ins::ca;
use stand_ins::random::Random;

use crate::invariants;
use crate::network::{HOUR, Nanos, SECOND};
use crate::quiet::{want, world};
use crate::scenario::{flood, pass};
use crate::world::World;

/// Domains that hang: more than there are orders side by side.
const HANGING: usize = 12;
const GOOD: usize = 8;
/// A good domain has its certificate so long after it was wanted, in a world without faults, where so
/// many hang before it: those that were there first stand aside after a minute, and a few seconds go
/// for its own order.
const BOUND: Nanos = STANDS_ASIDE_AFTER.as_nanos() as Nanos + 10 * SECOND;

fn names(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{kind}{index}.example")).collect()
}

/// Until all of these have certificates; how long that took.
fn until_stored(world: &mut World, names: &[String]) -> Nanos {
    let begin = world.now();
    let lacks = |world: &World| {
        let stored: BTreeSet<&str> = world.stored.keys().map(|name| name.as_str()).collect();
        names.iter().any(|name| !stored.contains(name.as_str()))
    };
    while lacks(world) {
        assert!(world.now() < begin + HOUR, "an hour has passed: {:?}", world.stored.keys());
        let until = world.now() + SECOND;
        pass(world, until).expect("it does not spin");
    }
    world.now() - begin
}

/// `a…` comes before `good…` in every list, so that it is ordered first.
fn takes(kind: &str, settings: impl Fn(BTreeSet<String>) -> ca::Settings) {
    let (bad, good) = (names("a", HANGING), names("good", GOOD));
    let mut world = world(1, settings(bad.iter().cloned().collect()));
    want(&mut world, "bad", &bad);
    want(&mut world, "good", &good);
    let took = until_stored(&mut world, &good);
    println!("{kind}: the others had theirs after {} s", took / SECOND);
    assert!(took <= BOUND, "{kind}: {} s", took / SECOND);
    // Those that failed come back; a newcomer meets them at any time of their schedule.
    for (round, hours) in [1, 4, 9].into_iter().enumerate() {
        let until = hours * HOUR;
        pass(&mut world, until).expect("it does not spin");
        let newcomer = names(&format!("new{round}-"), 1);
        want(&mut world, &format!("new{round}"), &newcomer);
        let took = until_stored(&mut world, &newcomer);
        println!("{kind}: a newcomer after {hours} h had its own after {} s", took / SECOND);
        assert!(took <= BOUND, "{kind}: {} s", took / SECOND);
    }
    let (queues, outputs) = world.longest;
    invariants::queues(&queues, outputs, bad.len() + good.len() + 3).expect("bounded");
}

#[test]
fn orders_that_hang_delay_no_other_for_long() {
    takes("processing for ever", |hanging_names| ca::Settings {
        hanging_names,
        ..ca::Settings::default()
    });
}

#[test]
fn validations_that_fail_delay_no_other_for_long() {
    takes("validation fails", |failing_names| ca::Settings {
        failing_names,
        validation_delay_ms: 2_000,
        ..ca::Settings::default()
    });
}

/// As many as may be open at all hang; then the bound is an order's deadline.
#[test]
fn even_a_crowd_that_hangs_is_over_in_the_end() {
    let (bad, good) = (names("a", 2 * ORDERS_OPEN_MAX), names("good", 1));
    let hanging_names = bad.iter().cloned().collect();
    let settings = ca::Settings { hanging_names, ..ca::Settings::default() };
    let mut world = world(2, settings);
    want(&mut world, "bad", &bad);
    want(&mut world, "good", &good);
    let took = until_stored(&mut world, &good);
    println!("a crowd of {}: the other one had its own after {} s", bad.len(), took / SECOND);
    assert!(took <= 30 * 60 * SECOND, "{} s", took / SECOND);
    assert!(world.longest.0.orders_open <= ORDERS_OPEN_MAX);
}

#[test]
fn ten_thousand_events_in_a_second_are_a_few_syncs() {
    let mut world = world(3, ca::Settings::default());
    want(&mut world, "shop", &names("shop", 3));
    until_stored(&mut world, &names("shop", 3));
    let mut chance = Random::new(3);
    let lists = |world: &World| {
        let seen = world.peers.marathons[0].seen().iter();
        seen.filter(|seen| seen.target.starts_with("/v2/apps")).count()
    };
    for slow in [0, 5_000] {
        // With a slow Marathon the flood comes while a sync runs.
        world.peers.marathons[0].settings.delay_ms = slow;
        let before = lists(&world);
        flood(&mut world, &mut chance, 0).expect("it does not spin");
        let until = world.now() + 20 * SECOND;
        pass(&mut world, until).expect("it does not spin");
        let more = lists(&world) - before;
        println!("answers that take {slow} ms: {more} syncs");
        assert!((1..=4).contains(&more), "{more} syncs");
    }
    let most = invariants::syncs(&world).expect("few syncs");
    let (queues, outputs) = world.longest;
    println!("{most} in a second; {queues:?}, {outputs} outputs in a turn");
    invariants::queues(&queues, outputs, 3).expect("bounded");
}

/// A change that no event tells of is found by the sync that comes every ten minutes.
#[test]
fn a_change_that_nobody_tells_of_is_found_within_ten_minutes() {
    let mut world = world(4, ca::Settings::default());
    want(&mut world, "shop", &names("shop", 1));
    until_stored(&mut world, &names("shop", 1));
    let labels = json!({"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": "quiet.example"});
    let time = world.time();
    let app = json!({"id": "/quiet", "labels": labels, "ports": [0]});
    world.peers.marathons[0].put_app_silently(time, app);
    let took = until_stored(&mut world, &["quiet.example".to_string()]);
    println!("found and certified after {} s", took / SECOND);
    assert!(took <= 610 * SECOND, "{} s", took / SECOND);
}
