//! One run: a world by the seed, a time of faults, a time of healing, and the invariants.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use marathon_acme::config::{Config, Listen, LogFormat, Mode};
use marathon_acme::domain::Domain;
use marathon_acme::keys::KeyType;
use marathon_acme::log::Level;
use marathon_acme::pki::Bundle;
use marathon_acme::url::Url;
use serde_json::{Value, json};
use stand_ins::ca::{self, Ca, RetryAfter};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{self, AppsAnswer, Marathon};
use stand_ins::random::Random;

use crate::faults::{Fault, Switches, Toll};
use crate::network::{MILLISECOND, Most, Nanos, PeerId};
use crate::peers::Peers;
use crate::world::World;

pub(crate) mod load_balancers;
mod network;

use load_balancers::LoadBalancers;
use network::Ways;

const SECOND: Nanos = 1000 * MILLISECOND;
const MINUTE: Nanos = 60 * SECOND;
const HOUR: Nanos = 60 * MINUTE;
/// After the faults everything must be well within this time: one failed order waits 12 h at most.
const HEALING: Nanos = 16 * HOUR;
/// A renewal that is in hand when all is looked at is done within this time, its reload included.
const IN_HAND: Nanos = 5 * MINUTE;
/// Things that happen in one run at most: more means that something spins.
const STEPS_MAX: u64 = 2_000_000;

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) certificates: u64,
    pub(crate) acme_requests: u64,
    pub(crate) bad_nonces: u64,
    pub(crate) server_errors: u64,
    pub(crate) reloads: u64,
    pub(crate) renewals: u64,
    pub(crate) failed_validations: u64,
    pub(crate) log_lines: u64,
    pub(crate) steps: u64,
    /// What the daemon held open at most.
    pub(crate) most: Most,
    /// Folds every byte that left the daemon; of several runs, all of them.
    pub(crate) digest: u64,
    pub(crate) faults: Toll,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Report) {
        self.certificates += other.certificates;
        self.acme_requests += other.acme_requests;
        self.bad_nonces += other.bad_nonces;
        self.server_errors += other.server_errors;
        self.reloads += other.reloads;
        self.renewals += other.renewals;
        self.failed_validations += other.failed_validations;
        self.log_lines += other.log_lines;
        self.steps += other.steps;
        self.most = self.most.max(other.most);
        self.digest ^= other.digest;
        self.faults.add(&other.faults);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { certificates, acme_requests, renewals, reloads, log_lines, steps, .. } = self;
        let Most { dialed, accepted, asked, unheard } = self.most;
        write!(f, "{certificates} certificates, {renewals} of them renewals, ")?;
        write!(f, "{} failed validations, ", self.failed_validations)?;
        write!(f, "{acme_requests} ACME requests, {reloads} reloads, {log_lines} log lines, ")?;
        write!(f, "{steps} steps; at most {dialed} dialed and {accepted} accepted connections, ")?;
        write!(f, "{asked} questions in a second, {unheard} bytes on their way; ")?;
        write!(f, "faults that fired:\n{}", self.faults)
    }
}

/// What the seed chose.
struct Plan {
    domains: BTreeSet<Domain>,
    /// Apps, and when each is deployed.
    apps: Vec<(Nanos, Value)>,
    faults_end: Nanos,
    short_lived: bool,
    /// The faults that this run has.
    faults: Switches,
}

/// Runs a seed; what went wrong, when something did.
pub(crate) fn run(seed: u64, verbose: bool) -> Result<Report, String> {
    run_with(seed, verbose, &Switches::from_environment())
}

/// Runs a seed that may have these faults and no others.
pub(crate) fn run_with(seed: u64, verbose: bool, faults: &Switches) -> Result<Report, String> {
    let mut chance = Random::new(seed);
    let plan = plan(&mut chance, faults);
    let mut world = build(seed, &plan, &mut chance);
    world.verbose = verbose;
    let mut ways = Ways::new(&mut world, &plan.faults, &mut chance);
    let mut lbs = LoadBalancers::new(&mut world, &plan.faults, &mut chance);
    let mut steps = 0;
    let mut apps = plan.apps.clone();
    while world.now() < plan.faults_end {
        let next = apps.first().map_or(plan.faults_end, |(at, _)| *at).min(plan.faults_end);
        let next = next.min(ways.next()).min(lbs.next());
        steps += pass(&mut world, next)?;
        ways.stir(&mut world);
        lbs.stir(&mut world);
        while apps.first().is_some_and(|(at, _)| *at <= world.now()) {
            deploy(&mut world, &apps.remove(0).1);
        }
        trouble(&mut world, &mut chance);
    }
    heal(&mut world);
    ways.heal(&mut world);
    lbs.heal(&mut world);
    steps += until_well(&mut world, &plan, &mut lbs, HEALING)?;
    let before = world.peers.ca.issued().len() as u64;
    while let Some(back_at) = lbs.next_back() {
        steps += pass(&mut world, back_at)?;
        lbs.relieve(&mut world);
    }
    if plan.short_lived {
        let until = world.now() + 7 * HOUR;
        steps += pass(&mut world, until)?;
    }
    let until = world.now() + network::QUIET;
    steps += pass(&mut world, until)?;
    let well = until_well(&mut world, &plan, &mut lbs, IN_HAND);
    steps += well.map_err(|wrong| format!("in the end: {wrong}"))?;
    network::check_bounds(&world)?;
    network::check_quiet(&world)?;
    Ok(report(&world, before, steps))
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
    Plan { domains, apps, faults_end, short_lived: chance.chance(25), faults }
}

/// What an operator with so many Marathons and names of load balancers chooses.
pub(crate) fn config(marathons: usize, lbs: usize) -> Config {
    let url = |text: String| Url::parse(&text).expect("a good URL");
    Config {
        storage_dir: PathBuf::from("/storage"),
        acme: url("https://ca.example:14000/directory".into()),
        email: Some("ops@example.com".into()),
        marathon: (0..marathons).map(|i| url(format!("http://marathon{i}.mesos:8080"))).collect(),
        lb: (0..lbs).map(|i| url(format!("http://lb{i}.mesos:9090"))).collect(),
        group: "external".into(),
        allow_multiple_certs: true,
        listen: Listen { ip: None, port: 8000 },
        sse_timeout: Some(Duration::from_secs(60)),
        marathon_timeout: Duration::from_secs(10),
        log_level: Level::Debug,
        log_format: LogFormat::Text,
        cert_mode: 0o600,
        acme_ca: None,
        marathon_ca: None,
        san: false,
        profile: None,
        preferred_chain: None,
        key_type: KeyType::P256,
        external_account: None,
        prune_after: Some(Duration::from_secs(30 * 24 * 60 * 60)),
        mode: Mode::Serve,
        user: None,
    }
}

fn build(seed: u64, plan: &Plan, chance: &mut Random) -> World {
    let (marathons, lbs) = (chance.between(1, 3) as usize, chance.between(1, 2) as usize);
    let config = config(marathons, lbs);
    let start = World::start_time();
    let mut settings = ca_settings(chance);
    if plan.short_lived {
        settings.lifetime_seconds = 6 * 60 * 60;
    }
    // The first name of load balancers has two addresses.
    let lb_count = lbs + 1;
    let peers = Peers::new(
        (0..marathons).map(|_| Marathon::new(marathon::Settings::default())).collect(),
        Ca::new(seed, "https://ca.example:14000", start, settings),
        (0..lb_count).map(|_| LoadBalancer::new(start, lb::Settings::default())).collect(),
    );
    let fork = chance.fork();
    let mut world = World::new(&config, peers, fork);
    let fault_percent = chance.below(20) as u8;
    if plan.faults.are_on(Fault::DiskFull) {
        world.disk.fault_percent = fault_percent;
    }
    for index in 0..marathons {
        world.host(&format!("marathon{index}.mesos"), 8080, &[PeerId::Marathon(index); 2]);
    }
    world.host("ca.example", 14000, &[PeerId::Ca; 2]);
    world.host("lb0.mesos", 9090, &[PeerId::Lb(0), PeerId::Lb(1)]);
    for index in 1..lbs {
        world.host(&format!("lb{index}.mesos"), 9090, &[PeerId::Lb(index + 1)]);
    }
    world
}

fn ca_settings(chance: &mut Random) -> ca::Settings {
    let retry_after = match chance.below(3) {
        0 => RetryAfter::None,
        1 => RetryAfter::Seconds(chance.between(1, 5) as u32),
        _ => RetryAfter::Date(chance.between(1, 5) as u32),
    };
    ca::Settings {
        bad_nonce_percent: chance.below(50) as u8,
        server_error_percent: chance.below(25) as u8,
        server_error_html: chance.chance(50),
        delay_ms: chance.below(300),
        validation_delay_ms: chance.below(3000),
        vantage_points: chance.between(1, 3) as u8,
        challenge_processing: chance.chance(50),
        processing_polls: chance.below(3) as u32,
        retry_after,
        finalize_location: chance.chance(50),
        authz_reuse_percent: chance.below(101) as u8,
        order_reuse: chance.chance(50),
        ..ca::Settings::default()
    }
}

/// Deploys an app at every Marathon.
pub(crate) fn deploy(world: &mut World, app: &Value) {
    let time = world.time();
    for marathon in &mut world.peers.marathons {
        marathon.put_app(time, app.clone());
    }
    world.drain_peers();
}

/// Something goes wrong at a Marathon, or is mended.
fn trouble(world: &mut World, chance: &mut Random) {
    let index = chance.below(world.peers.marathons.len() as u64) as usize;
    let marathon = &mut world.peers.marathons[index];
    marathon.settings.apps = match chance.below(6) {
        0 => AppsAnswer::Cut(chance.below(200) as usize),
        1 => AppsAnswer::Html(500),
        2 => AppsAnswer::Empty,
        _ => AppsAnswer::Normal,
    };
    marathon.settings.unavailable = chance.chance(20);
    if chance.chance(50) {
        marathon.drop_streams();
    }
    world.drain_peers();
}

fn heal(world: &mut World) {
    world.disk.fault_percent = 0;
    for marathon in &mut world.peers.marathons {
        marathon.settings.apps = AppsAnswer::Normal;
        marathon.settings.unavailable = false;
    }
    let settings = &mut world.peers.ca.settings;
    (settings.bad_nonce_percent, settings.server_error_percent) = (0, 0);
}

/// The invariants of a healed world.
fn check(world: &mut World, plan: &Plan) -> Result<(), String> {
    let wall = world.wall();
    for domain in &plan.domains {
        let pem = world.disk.files.get(&format!("certs/{domain}.pem"));
        let pem = pem.ok_or_else(|| format!("no certificate for {domain}"))?;
        let bundle = Bundle::parse(pem).map_err(|error| format!("{domain}: {error}"))?;
        if bundle.leaf().not_after <= wall {
            return Err(format!("the certificate of {domain} has expired"));
        }
        let issued = |issued: &ca::Issued| pem.ends_with(&issued.chain_pem);
        if !world.peers.ca.issued().iter().any(issued) {
            return Err(format!("the certificate of {domain} is not the CA's"));
        }
    }
    let stored = world.disk.names("certs/").len();
    if stored != plan.domains.len() {
        return Err(format!("{stored} certificates for {} domains", plan.domains.len()));
    }
    load_balancers::check(world)?;
    let published = world.disk.names("challenges/");
    if !published.is_empty() {
        return Err(format!("challenges are left published: {published:?}"));
    }
    let keys: BTreeSet<&Vec<u8>> =
        world.peers.ca.issued().iter().map(|issued| &issued.public_key).collect();
    if keys.len() != world.peers.ca.issued().len() {
        return Err("a key served twice".into());
    }
    Ok(())
}

fn report(world: &World, before_renewal: u64, steps: u64) -> Report {
    let (seen, checked) = (world.peers.ca.seen(), world.peers.ca.checked());
    let count = |fits: &dyn Fn(&ca::AcmeRequest) -> bool| seen.iter().filter(|it| fits(it)).count();
    let certificates = world.peers.ca.issued().len() as u64;
    Report {
        certificates,
        acme_requests: seen.len() as u64,
        bad_nonces: count(&|it| it.problem == Some("badNonce")) as u64,
        server_errors: count(&|it| it.status == 500) as u64,
        reloads: world.peers.lbs.iter().map(|lb| lb.reloads().len() as u64).sum(),
        renewals: certificates - before_renewal,
        failed_validations: checked.iter().filter(|checked| checked.error.is_some()).count() as u64,
        log_lines: world.log.len() as u64,
        steps,
        digest: world.digest,
        most: world.network.books.most,
        faults: world.toll(),
    }
}
