//! Two instances and more on one storage: one is active, the others stand by, answer, and take over,
//! however the active one ends. Never are there two orders for one domain.
//!
//! What happens when is a matter of chance that follows from `INSTANCES_SEED`; `INSTANCES_ROUNDS` makes
//! more of it.
//!
//! The last run of ten rounds, on two processors: ten instances killed, ten frozen for longer than the
//! lease, ten told to end, one cut off in a network namespace of its own, ten replaced behind Pebble and
//! HAProxy; as many orders as domains each time, and no validation failed.

use std::env;
use std::fs;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use marathon_acme::log::message::{LEASE_LOST, TOOK_OVER};
use stand_ins::ca::Settings;
use stand_ins::random::Random;

use crate::Test;
use crate::process::{Outcome, Process, Signal, expect, free_port, get, wait_until};
use crate::site::Site;
use crate::stand::{Stand, kill, stop};
use crate::state::status;

pub(crate) mod partition;
pub(crate) mod rolling;

pub(crate) const TESTS: &[Test] = &[
    ("a_second_instance_stands_by_and_answers", &[], standby),
    ("killed_instances_are_taken_over_from", &[], killed),
    ("frozen_instances_are_taken_over_from_and_step_down", &[], frozen),
    ("instances_that_are_stopped_at_any_moment_hand_over", &[], handed_over),
];

/// How often something is done to an instance, unless the operator wants another number of it.
fn rounds(default: u64) -> u64 {
    env::var("INSTANCES_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}

fn chance(salt: u64) -> Random {
    let seed = env::var("INSTANCES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
    Random::new(seed.wrapping_mul(31).wrapping_add(salt))
}

/// An instance, and where it listens.
struct Instance {
    process: Process,
    port: u16,
}

impl Instance {
    fn start(stand: &Stand, name: &str) -> Outcome<Instance> {
        let port = free_port()?;
        let process = stand.site.instance(name, port, &stand.arguments())?;
        Ok(Instance { process, port })
    }

    fn said(&self, words: &str) -> usize {
        self.process.output().matches(words).count()
    }

    /// Whether it is the active one, as it shows it.
    fn is_active(&self) -> bool {
        status(self.port).is_some_and(|status| status["active"] == true)
    }
}

/// The one that is active: exactly one, and soon.
fn active(instances: &[Instance]) -> Outcome<usize> {
    let found = wait_until("one is active", || instances.iter().position(Instance::is_active))?;
    let count = instances.iter().filter(|instance| instance.is_active()).count();
    expect(count == 1, || format!("{count} instances are active"))?;
    Ok(found)
}

/// Deploys an app that wants so many domains more, and waits until an order of each is noted with its
/// URL.
fn order(stand: &Stand, wanted: &mut Vec<String>, count: u64) -> Outcome {
    let from = wanted.len();
    for number in from..from + usize::try_from(count).unwrap_or(1) {
        let name = format!("d{number}.example.com");
        stand.site.deploy(&format!("/d{number}"), &name);
        wanted.push(name);
    }
    for name in &wanted[from..] {
        stand.wait_for_memory(name, "/attempt/order")?;
    }
    Ok(())
}

/// Waits for all certificates; then there was one order for each domain, and nothing failed.
fn settle(stand: &Stand, instances: &[Instance], wanted: &[String], what: &str) -> Outcome {
    let outputs = || {
        let output = |instance: &Instance| instance.process.output();
        instances.iter().map(output).collect::<Vec<_>>().join("\n=====\n")
    };
    for name in wanted {
        let path = stand.site.certificate(name);
        wait_until(name, || path.exists().then_some(()))
            .map_err(|error| format!("{error}\n{}", outputs()))?;
    }
    let (orders, issued) = (stand.count("POST", "/new-order", 201), stand.issued());
    let failed = stand.with_ca(|ca| ca.checked().iter().filter(|it| it.error.is_some()).count());
    let validated = stand.with_ca(|ca| ca.checked().len());
    let domains = wanted.len();
    println!(
        "{what}: {domains} domains, {orders} orders, {validated} validations, {failed} failed"
    );
    expect(orders == domains && issued == domains && failed == 0, || {
        format!("{orders} orders, {issued} certificates, {failed} failed\n{}", outputs())
    })
}

/// Waits until nothing is published any more.
fn wait_for_withdrawal(site: &Site) -> Outcome {
    wait_until("no challenge is left", || {
        let left = fs::read_dir(site.storage.join("challenges")).ok()?.count();
        (left == 0).then_some(())
    })
}

fn sleep_ms(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

fn standby() -> Outcome {
    // Slow enough for the challenge to be asked of both.
    let stand = Stand::new(Settings { validation_delay_ms: 3000, ..Settings::default() })?;
    let mut first = Instance::start(&stand, "first")?;
    first.process.wait_until_active(first.port)?;
    let mut second = Instance::start(&stand, "second")?;
    second.process.wait_until_standing_by()?;
    stand.ca.challenge_port.store(second.port, Ordering::SeqCst);
    stand.site.deploy("/a", "a.example.com");
    let challenges = stand.site.storage.join("challenges");
    let token = wait_until("a challenge", || {
        let entry = fs::read_dir(&challenges).ok()?.next()?.ok()?;
        entry.file_name().into_string().ok()
    })?;
    for port in [first.port, second.port] {
        let asks = |path: &str, words: &[&str]| {
            let answer = get(port, path)?;
            expect(words.iter().all(|word| answer.contains(word)), || answer)
        };
        let challenge = format!("/.well-known/acme-challenge/{token}");
        asks(&challenge, &[" 200 ", &format!("{token}.")])?;
        asks("/.well-known/acme-challenge/other", &[" 404 "])?;
        asks("/.well-known/acme-challenge/ping", &[" 200 ", "pong"])?;
        asks("/health", &[" 200 ", "\"ok\""])?;
    }
    let instances = [first, second];
    settle(&stand, &instances, &["a.example.com".into()], "answered by the standby")?;
    expect(active(&instances)? == 0, || "the standby is active".into())
}

fn killed() -> Outcome {
    let (mut chance, rounds) = (chance(1), rounds(3));
    let stand = Stand::new(Settings { validation_delay_ms: 2000, ..Settings::default() })?;
    let mut instances = [Instance::start(&stand, "i0")?, Instance::start(&stand, "i1")?];
    let mut wanted = Vec::new();
    for round in 0..rounds {
        let victim = active(&instances)?;
        stand.ca.challenge_port.store(instances[1 - victim].port, Ordering::SeqCst);
        order(&stand, &mut wanted, chance.between(1, 3))?;
        sleep_ms(chance.below(1500));
        kill(&mut instances[victim].process)?;
        let other = &mut instances[1 - victim];
        other.process.wait_until_active(other.port)?;
        for name in &wanted {
            stand.site.wait_for_certificate(&instances[1 - victim].process, name)?;
        }
        instances[victim] = Instance::start(&stand, &format!("i{}", round + 2))?;
    }
    settle(&stand, &instances, &wanted, &format!("{rounds} kills"))
}

fn frozen() -> Outcome {
    let (mut chance, rounds) = (chance(2), rounds(2));
    let stand = Stand::new(Settings { validation_delay_ms: 5000, ..Settings::default() })?;
    let instances: Vec<Instance> = (0..3)
        .map(|number| Instance::start(&stand, &format!("i{number}")))
        .collect::<Outcome<_>>()?;
    let mut wanted = Vec::new();
    for _ in 0..rounds {
        let victim = active(&instances)?;
        let other = &instances[(victim + 1) % instances.len()];
        stand.ca.challenge_port.store(other.port, Ordering::SeqCst);
        order(&stand, &mut wanted, chance.between(1, 3))?;
        sleep_ms(chance.below(4000));
        instances[victim].process.signal(Signal::STOP)?;
        let successor = || {
            let mut numbered = instances.iter().enumerate();
            numbered.find(|(number, instance)| *number != victim && instance.is_active())
        };
        let (number, _) = wait_until("another one takes over", successor)?;
        let successor = &instances[number];
        let took_over = successor.said(TOOK_OVER);
        expect(took_over > 0, || successor.process.output())?;
        for name in &wanted {
            stand.site.wait_for_certificate(&successor.process, name)?;
        }
        let stepped_down = instances[victim].said(LEASE_LOST);
        instances[victim].process.signal(Signal::CONT)?;
        let stands_by = || {
            let down = instances[victim].said(LEASE_LOST) > stepped_down;
            (down && !instances[victim].is_active()).then_some(())
        };
        wait_until("the frozen one steps down", stands_by)?;
        stand.let_time_pass(&successor.process, &format!("x{}", wanted.len()))?;
        wanted.push(format!("x{}.example.net", wanted.len()));
        expect(active(&instances)? == number, || "another one is active".into())?;
    }
    settle(&stand, &instances, &wanted, &format!("{rounds} stops, longer than the lease"))
}

fn handed_over() -> Outcome {
    let (mut chance, rounds) = (chance(3), rounds(6));
    let settings = Settings {
        delay_ms: 40,
        validation_delay_ms: 300,
        processing_polls: 1,
        ..Settings::default()
    };
    let stand = Stand::new(settings)?;
    let mut old = Instance::start(&stand, "i0")?;
    let mut wanted = Vec::new();
    for round in 0..rounds {
        old.process.wait_until_attached(old.port)?;
        let mut new = Instance::start(&stand, &format!("i{}", round + 1))?;
        new.process.wait_until_standing_by()?;
        stand.ca.challenge_port.store(new.port, Ordering::SeqCst);
        for _ in 0..chance.between(1, 3) {
            let number = wanted.len();
            wanted.push(format!("d{number}.example.com"));
            stand.site.deploy(&format!("/d{number}"), &wanted[number]);
        }
        // A change is looked at a second after its event; an order takes about one more.
        sleep_ms(chance.between(900, 2600));
        stop(&mut old.process)?;
        old = new;
    }
    settle(&stand, &[old], &wanted, &format!("{rounds} hand-overs"))
}
