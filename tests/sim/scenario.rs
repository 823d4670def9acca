//! One run: a world by the seed, a time of faults, a time of healing, and the invariants.

use std::collections::{BTreeMap, BTreeSet};

use marathon_acme::config::{Config, SkipRouteCheck};
use marathon_acme::domain::Domain;
use marathon_acme::log::Level;
use marathon_acme::machine::Signal;
use marathon_acme::pki::Bundle;
use marathon_acme::url::Url;
use serde_json::{Value, json};
use stand_ins::ca::{Ca, Issued};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{Marathon, Settings as MarathonSettings};
use stand_ins::random::Random;

use crate::archive;
use crate::disk::Conditions;
use crate::faults::{Fault, Switches};
use crate::fronts;
use crate::invariants;
use crate::machine::Machine;
use crate::network::{HOUR, MINUTE, Nanos, PeerId, SECOND};
use crate::peers::Peers;
use crate::world::World;

mod ca;
mod cells;
pub(crate) mod load_balancers;
mod marathon;
mod network;
mod process;
mod report;

use ca::CaTroubles;
pub(crate) use cells::Cell;
use load_balancers::LoadBalancers;
pub(crate) use marathon::BadLists;
use marathon::MarathonTroubles;
pub(crate) use marathon::flood;
use network::Ways;
use process::{Acts, check_orders, set_clocks};
pub(crate) use report::Report;

/// After the faults everything must be well within this time: one failed order waits 12 h at most.
const HEALING: Nanos = 16 * HOUR;
/// A renewal that is in hand when all is looked at is done within this time, its reload included.
const IN_HAND: Nanos = 5 * MINUTE;
/// Things that happen in one run at most: more means that something spins.
const STEPS_MAX: u64 = 2_000_000;

/// What the seed chose.
struct Plan {
    domains: BTreeSet<Domain>,
    /// Apps, and when each is deployed.
    apps: Vec<(Nanos, Value)>,
    faults_end: Nanos,
    short_lived: bool,
    /// Whether it is looked at what load balancers serve.
    verified: bool,
    /// What befalls the machines.
    acts: Acts,
    /// The faults that this run has.
    faults: Switches,
}

/// The troubles of one run, and what they excuse.
struct Troubles {
    ca: CaTroubles,
    marathon: MarathonTroubles,
    /// Orders of each domain that may come before their time.
    allowed: BTreeMap<String, u64>,
}

/// Runs a seed; what went wrong, when something did.
pub(crate) fn run(seed: u64, verbose: bool) -> Result<Report, String> {
    run_with(seed, verbose, &Switches::from_environment())
}

/// Runs a seed that may have these faults and no others.
pub(crate) fn run_with(seed: u64, verbose: bool, faults: &Switches) -> Result<Report, String> {
    let mut chance = Random::new(seed);
    let plan = plan(&mut chance, faults);
    let (mut world, mut troubles) = build(seed, &plan, &mut chance);
    world.verbose = verbose;
    let result = live(&mut world, &plan, &mut troubles, &mut chance);
    if verbose && result.is_err() {
        // The plan of every daemon, for whoever looks for the fault.
        world.signal_all(Signal::Reload);
    }
    result
}

fn live(
    world: &mut World,
    plan: &Plan,
    troubles: &mut Troubles,
    chance: &mut Random,
) -> Result<Report, String> {
    let mut ways = Ways::new(world, &plan.faults, chance);
    let mut lbs = LoadBalancers::new(world, &plan.faults, chance);
    let mut steps = 0;
    let (mut apps, mut acts) = (plan.apps.clone(), plan.acts.clone());
    while world.now() < plan.faults_end {
        let tick = world.now() + chance.between(20, 150) * SECOND;
        let next = [apps.first().map(|(at, _)| *at), acts.next()].into_iter().flatten().min();
        let next = next.unwrap_or(tick).min(tick).min(plan.faults_end);
        steps += pass(world, next.min(ways.next()).min(lbs.next()))?;
        acts.perform(world, chance);
        ways.stir(world);
        lbs.stir(world);
        while apps.first().is_some_and(|(at, _)| *at <= world.now()) {
            let (_, app) = apps.remove(0);
            if troubles.marathon.hides_change(chance) {
                deploy_silently(world, &app);
            } else {
                deploy(world, &app);
            }
        }
        steps += troubles.marathon.go_on(world, chance)?;
        troubles.ca.go_on(world, chance);
    }
    heal(world, plan, troubles);
    ways.heal(world);
    lbs.heal(world);
    steps += recover(world, plan, &mut lbs)?;
    let before = world.peers.ca.issued().len() as u64;
    if plan.short_lived {
        steps += renew(world, plan, &mut lbs)?;
    }
    let until = world.now() + network::QUIET;
    steps += pass(world, until)?;
    let well = until_well(world, plan, &mut lbs, IN_HAND);
    steps += well.map_err(|wrong| format!("in the end: {wrong}"))?;
    network::check_bounds(world)?;
    network::check_quiet(world)?;
    let mut report = Report::of(world, before, steps);
    report.faults.add(&troubles.ca.toll);
    report.faults.add(&troubles.marathon.toll);
    look_back(world, plan, troubles, &mut report)?;
    leave_nothing(world)?;
    Ok(report)
}

/// Waits until everything is well, and until the load balancers that were away for long are back.
fn recover(world: &mut World, plan: &Plan, lbs: &mut LoadBalancers) -> Result<u64, String> {
    let mut steps = until_well(world, plan, lbs, HEALING)?;
    while let Some(back_at) = lbs.next_back() {
        steps += pass(world, back_at)?;
        lbs.relieve(world);
    }
    Ok(steps)
}

/// Waits for renewals, of which one may have come just now.
fn renew(world: &mut World, plan: &Plan, lbs: &mut LoadBalancers) -> Result<u64, String> {
    let until = world.now() + 7 * HOUR;
    let steps = pass(world, until)?;
    let well = until_well(world, plan, lbs, IN_HAND);
    Ok(steps + well.map_err(|wrong| format!("after a renewal: {wrong}"))?)
}

/// What can be told from the records of a run only.
fn look_back(
    world: &World,
    plan: &Plan,
    troubles: &Troubles,
    report: &mut Report,
) -> Result<(), String> {
    invariants::orders(world, &troubles.allowed)?;
    invariants::renewals(world)?;
    let (queues, outputs) = &world.longest;
    invariants::queues(queues, *outputs, plan.domains.len())?;
    report.waits_kept = invariants::retry_after(world)?;
    invariants::remembered(world)?;
    report.syncs_in_a_second = invariants::syncs(world)?;
    report.unwanted = invariants::unwanted(world, &troubles.marathon.bad_lists)?;
    check_orders(world)
}

/// Ends every process in order and starts the first one again: what a fault has left is gone then.
fn leave_nothing(world: &mut World) -> Result<(), String> {
    (0..world.machines.len()).for_each(|index| world.stop(index, HOUR));
    // A process may be in the middle of a pause.
    let until = world.now() + 10 * MINUTE;
    pass(world, until)?;
    if world.machines.iter().any(Machine::is_on) {
        return Err("a process was told to end and goes on".into());
    }
    world.machines.truncate(1);
    let until = world.now() + HOUR;
    pass(world, until)?;
    // A renewal may be in hand.
    let end = world.now() + IN_HAND;
    while let Err(left) = check_nothing_is_left(world) {
        if world.now() >= end {
            return Err(left);
        }
        let until = world.now() + SECOND;
        pass(world, until)?;
    }
    Ok(())
}

fn check_nothing_is_left(world: &World) -> Result<(), String> {
    match (world.disk.names("tmp"), world.disk.names("challenges")) {
        (tmp, published) if tmp.is_empty() && published.is_empty() => archive::check(world),
        (tmp, published) => Err(format!("left behind: tmp {tmp:?}, challenges {published:?}")),
    }
}

/// Lets things happen until all is well, which takes no longer than `patience`.
fn until_well(
    world: &mut World,
    plan: &Plan,
    lbs: &mut LoadBalancers,
    patience: Nanos,
) -> Result<u64, String> {
    let (end, mut steps) = (world.now() + patience, 0);
    while let Err(wrong) = check(world, plan) {
        if world.now() >= end {
            return Err(wrong);
        }
        let until = world.now() + MINUTE;
        steps += pass(world, until)?;
        lbs.relieve(world);
    }
    Ok(steps)
}

/// Lets things happen until `until`.
pub(crate) fn pass(world: &mut World, until: Nanos) -> Result<u64, String> {
    let mut steps = 0;
    while world.step(until) {
        steps += 1;
        if steps > STEPS_MAX {
            return Err(format!("more than {STEPS_MAX} steps until {} ms", world.now_ms()));
        }
    }
    world.skip_to(until);
    Ok(steps)
}

fn plan(chance: &mut Random, faults: &Switches) -> Plan {
    let faults_end = chance.between(2, 40) * MINUTE;
    let mut domains = BTreeSet::new();
    let mut apps = Vec::new();
    for number in 0..chance.between(1, 4) {
        let count = chance.between(1, 3);
        let names: Vec<String> =
            (0..count).map(|index| format!("d{index}.app{number}.example")).collect();
        domains.extend(names.iter().map(|name| Domain::parse(name).expect("a good name")));
        let at = if chance.chance(50) { 0 } else { chance.below(faults_end) };
        let labels = json!({
            "HAPROXY_GROUP": "external",
            "MARATHON_ACME_0_DOMAIN": names.join(","),
        });
        let app = json!({"id": format!("/app{number}"), "labels": labels,
            "networks": [{"mode": "host"}], "portDefinitions": [{"port": 0}]});
        apps.push((at, app));
    }
    let odd = json!({"id": "/odd", "labels": {"HAPROXY_GROUP": "external",
        "MARATHON_ACME_0_DOMAIN": "../../etc/passwd *.x.org ok.odd.example"}, "ports": [1]});
    apps.push((0, odd));
    domains.insert(Domain::parse("ok.odd.example").expect("a good name"));
    apps.sort_by_key(|(at, _)| *at);
    let faults = faults.draw(chance);
    let acts = Acts::draw(&mut chance.fork(), &faults, faults_end);
    let (short_lived, verified) = (chance.chance(25), chance.chance(50));
    Plan { domains, apps, faults_end, short_lived, verified, acts, faults }
}

/// What an operator with so many Marathons and names of load balancers chooses.
pub(crate) fn config(marathons: usize, lbs: usize) -> Config {
    let url = |text: String| Url::parse(&text).expect("a good URL");
    Config {
        acme: url("https://ca.example:14000/directory".into()),
        email: Some("ops@example.com".into()),
        marathon: (0..marathons).map(|i| url(format!("http://marathon{i}.mesos:8080"))).collect(),
        lb: (0..lbs).map(|i| url(format!("http://lb{i}.mesos:9090"))).collect(),
        allow_multiple_certs: true,
        log_level: Level::Debug,
        // The peers of this world have no port 80.
        skip_route_check: SkipRouteCheck::All,
        ..Config::new("/storage".into())
    }
}

fn build(seed: u64, plan: &Plan, chance: &mut Random) -> (World, Troubles) {
    let (marathons, lbs) = (chance.between(1, 3) as usize, chance.between(1, 2) as usize);
    let mut config = config(marathons, lbs);
    if plan.verified {
        config.lb_verify.port = Some(fronts::PORT);
    }
    let start = World::start_time();
    let mut settings = ca::settings(seed, chance);
    if plan.short_lived {
        settings.lifetime_seconds = 6 * 60 * 60;
    }
    let troubles = Troubles {
        ca: CaTroubles::plan(&plan.faults, &plan.domains, chance, &mut settings),
        marathon: MarathonTroubles::plan(&plan.faults, marathons),
        allowed: BTreeMap::new(),
    };
    // The first name of load balancers has two addresses.
    let lb_count = lbs + 1;
    let peers = Peers::new(
        (0..marathons).map(|_| Marathon::new(MarathonSettings::default())).collect(),
        Ca::new(seed, "https://ca.example:14000", start, settings),
        (0..lb_count).map(|_| LoadBalancer::new(start, lb::Settings::default())).collect(),
    );
    let fork = chance.fork();
    let mut world = World::new(&config, peers, fork);
    archive::plant(&world.disk);
    world.leased = true;
    world.disk.set_conditions(Conditions::bad(chance, &plan.faults));
    for index in 0..marathons {
        world.host(&format!("marathon{index}.mesos"), 8080, &[PeerId::Marathon(index); 2]);
    }
    world.host("ca.example", 14000, &[PeerId::Ca; 2]);
    world.host("lb0.mesos", 9090, &[PeerId::Lb(0), PeerId::Lb(1)]);
    for index in 1..lbs {
        world.host(&format!("lb{index}.mesos"), 9090, &[PeerId::Lb(index + 1)]);
    }
    (world, troubles)
}

/// Deploys an app at every Marathon.
pub(crate) fn deploy(world: &mut World, app: &Value) {
    let time = world.time();
    for marathon in &mut world.peers.marathons {
        marathon.put_app(time, app.clone());
    }
    world.drain_peers();
}

/// Likewise, and no event tells of it.
fn deploy_silently(world: &mut World, app: &Value) {
    let time = world.time();
    for marathon in &mut world.peers.marathons {
        marathon.put_app_silently(time, app.clone());
    }
}

/// Everything works again, and a person has done what only a person can do.
fn heal(world: &mut World, plan: &Plan, troubles: &mut Troubles) {
    world.disk.set_conditions(Conditions::default());
    world.machines.iter_mut().for_each(Machine::spare);
    set_clocks(world, Fault::ClockHour, 0);
    troubles.marathon.heal(world);
    let settings = &mut world.peers.ca.settings;
    (settings.bad_nonce_percent, settings.server_error_percent) = (0, 0);
    let stuck = troubles.ca.heal(world);
    let acts =
        u64::from(troubles.ca.has_paused()) + 2 * troubles.marathon.bad_lists.stale.len() as u64;
    troubles.allowed = plan.domains.iter().map(|name| (name.to_string(), acts)).collect();
    if troubles.ca.has_paused() {
        for (_, app) in &plan.apps {
            deploy(world, app);
        }
    }
    if stuck {
        (0..world.machines.len()).for_each(|index| world.stop(index, SECOND));
    }
}

/// The invariants of a healed world.
fn check(world: &mut World, plan: &Plan) -> Result<(), String> {
    let wall = world.wall();
    for domain in &plan.domains {
        let pem = world.disk.text("certs", &format!("{domain}.pem"));
        let pem = pem.ok_or_else(|| format!("no certificate for {domain}"))?;
        let bundle = Bundle::parse(&pem).map_err(|error| format!("{domain}: {error}"))?;
        if bundle.leaf().not_after <= wall {
            return Err(format!("the certificate of {domain} has expired"));
        }
        let issued = |issued: &Issued| pem.ends_with(&issued.chain_pem);
        if !world.peers.ca.issued().iter().any(issued) {
            return Err(format!("the certificate of {domain} is not the CA's"));
        }
    }
    let stored = world.disk.names("certs").len();
    if stored != plan.domains.len() {
        return Err(format!("{stored} certificates for {} domains", plan.domains.len()));
    }
    load_balancers::check(world)?;
    let published = world.disk.names("challenges");
    if !published.is_empty() {
        return Err(format!("challenges are left published: {published:?}"));
    }
    let keys: BTreeSet<&Vec<u8>> =
        world.peers.ca.issued().iter().map(|issued| &issued.public_key).collect();
    if keys.len() != world.peers.ca.issued().len() {
        return Err("a key served twice".into());
    }
    check_orders(world)
}
