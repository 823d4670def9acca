//! A year of the daemon's life in an hour-by-hour world: labels come and go, certificates age, the
//! process dies and is started again, the wall clock is wrong now and then, and every peer and the
//! disk have their bad days. What must hold is checked every simulated hour.

mod plan;
mod renewals;
mod report;
mod watch;

use std::time::Duration;

use marathon_acme::config::{CaLimits, Config};
use marathon_acme::domain::Domain;
use marathon_acme::log::Level;
use marathon_acme::url::Url;
use serde_json::{Value, json};
use stand_ins::ca::{self, Ca};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{self, AppsAnswer, Marathon};
use stand_ins::random::Random;

use crate::archive;
use crate::disk::Conditions;
use crate::faults::Fault;
use crate::network::{HOUR, MILLISECOND, MINUTE, Nanos, PeerId, Weather};
use crate::peers::Peers;
use crate::world::World;

use plan::{Act, Outage, Plan};
pub(crate) use renewals::{SCENES, Scene};
pub(crate) use report::Report;
use watch::Watch;

const DAY: Nanos = 24 * HOUR;

/// Let's Encrypt's own name, so that the daemon keeps to its limits.
const CA_HOST: &str = "acme-v02.api.letsencrypt.org";
/// Load balancers, behind one name.
const LBS: usize = 2;
/// After the last act there is peace for so long, and then everything must be well.
const PEACE: Nanos = 2 * DAY;
/// Things that happen in one hour at most: more means that something spins.
const STEPS_PER_HOUR_MAX: u64 = 200_000;

/// How much of a year there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Domains in all.
    pub(crate) domains: usize,
    /// Apps that share them.
    pub(crate) apps: usize,
    /// How long it is.
    pub(crate) days: u64,
}

impl Size {
    /// What the simulator is for.
    pub(crate) const FULL: Size = Size { domains: 200, apps: 30, days: 365 };
    /// What is left of it where nothing is optimized.
    pub(crate) const SMALL: Size = Size { domains: 12, apps: 4, days: 90 };
}

/// Runs a seed; what went wrong, when something did.
pub(crate) fn run(seed: u64, size: Size, verbose: bool) -> Result<Report, String> {
    let mut chance = Random::new(seed);
    let plan = Plan::new(seed, size, &mut chance);
    run_plan(seed, &plan, size.days, chance, verbose)
}

/// Runs a seed of a scene in which many certificates are renewed.
pub(crate) fn run_scene(scene: Scene, seed: u64, full: bool) -> Result<Report, String> {
    let mut chance = Random::new(seed);
    let (plan, days) = renewals::plan(scene, full, &mut chance);
    let result = run_plan(seed, &plan, days, chance, false);
    result.map_err(|wrong| format!("{scene:?}: {wrong}"))
}

fn run_plan(
    seed: u64,
    plan: &Plan,
    days: u64,
    mut chance: Random,
    verbose: bool,
) -> Result<Report, String> {
    let mut world = build(seed, plan, &mut chance);
    world.verbose = verbose;
    world.keep_log = false;
    archive::plant(&world.disk);
    let mut watch = Watch::new(plan);
    let mut acts = plan.acts.iter().peekable();
    let last_act = plan.acts.last().map_or(0, |(at, _)| *at);
    let end = last_act.max(days * DAY) + PEACE;
    let mut steps = 0;
    while world.now() < end {
        let hour_end = world.now() + HOUR;
        let mut left = STEPS_PER_HOUR_MAX;
        while let Some((at, act)) = acts.next_if(|(at, _)| *at <= hour_end) {
            pass(&mut world, *at, &mut left).map_err(|wrong| context(plan, &wrong))?;
            watch.observe(&mut world).map_err(|wrong| context(plan, &wrong))?;
            perform(&mut world, &mut watch, act);
        }
        pass(&mut world, hour_end, &mut left).map_err(|wrong| context(plan, &wrong))?;
        steps += STEPS_PER_HOUR_MAX - left;
        watch.observe(&mut world).map_err(|wrong| context(plan, &wrong))?;
        watch.check(&world).map_err(|wrong| context(plan, &wrong))?;
    }
    Ok(watch.report(&world, steps))
}

fn context(plan: &Plan, wrong: &str) -> String {
    let lifetime_hours = plan.lifetime / HOUR;
    let info =
        plan.renewal_info.map_or("no renewal info".into(), |s| format!("renewal info {s} s"));
    let crowded = if plan.crowded { ", crowded" } else { "" };
    format!("{wrong} (lifetime {lifetime_hours} h, {info}{crowded})")
}

/// Lets things happen until `until`.
fn pass(world: &mut World, until: Nanos, left: &mut u64) -> Result<(), String> {
    while world.step(until) {
        *left = left.checked_sub(1).ok_or_else(|| {
            format!("more than {STEPS_PER_HOUR_MAX} steps in the hour to {} ms", world.now_ms())
        })?;
    }
    world.skip_to(until);
    Ok(())
}

fn perform(world: &mut World, watch: &mut Watch, act: &Act) {
    if world.verbose {
        println!("{:>12.3} ===== {act:?}", world.now_ms() as f64 / 1000.0);
    }
    watch.begin(world.now(), act);
    match act {
        Act::Label { app, domains } => label(world, *app, domains),
        Act::Break(domain) => {
            world.broken_routes.insert(domain.to_string());
        }
        Act::Mend(domain) => {
            world.broken_routes.remove(&domain.to_string());
        }
        Act::Kill(doom) => world.machines[0].condemn(*doom),
        Act::Stop { downtime } => world.stop(0, *downtime),
        Act::Clock { shift_ms, .. } => world.machines[0].clock_offset_ms += shift_ms,
        Act::Outage { outage, .. } => begin(world, *outage),
        Act::Relief(outage) => relieve(world, *outage),
        Act::Hasten => {
            let time = world.time();
            world.peers.ca.hasten(time, |_| true);
        }
    }
    world.drain_peers();
}

/// Gives an app these domains; without any it is deleted.
fn label(world: &mut World, app: usize, domains: &[Domain]) {
    let (time, id) = (world.time(), format!("/app{app}"));
    for marathon in &mut world.peers.marathons {
        if domains.is_empty() {
            marathon.delete_app(time, &id);
        } else {
            marathon.put_app(time, app_json(&id, domains));
        }
    }
}

fn app_json(id: &str, domains: &[Domain]) -> Value {
    let names: Vec<&str> = domains.iter().map(Domain::as_str).collect();
    let labels = json!({"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": names.join(",")});
    json!({"id": id, "labels": labels, "portDefinitions": [{"port": 0}]})
}

fn begin(world: &mut World, outage: Outage) {
    match outage {
        Outage::CaCut => world.cut(PeerId::Ca),
        Outage::CaUnavailable(retry_after) => {
            world.peers.ca.settings.unavailable = Some(retry_after);
        }
        Outage::MarathonCut => world.cut(PeerId::Marathon(0)),
        Outage::MarathonUnavailable => {
            let marathon = &mut world.peers.marathons[0];
            marathon.settings.unavailable = true;
            marathon.drop_streams();
        }
        Outage::MarathonBabble => {
            let marathon = &mut world.peers.marathons[0];
            marathon.settings.apps = AppsAnswer::Cut(100);
            marathon.drop_streams();
        }
        Outage::Lb(index) => world.cut(PeerId::Lb(index)),
        Outage::Disk(percent) => world.disk.set_conditions(Conditions::failing(percent)),
    }
}

fn relieve(world: &mut World, outage: Outage) {
    match outage {
        Outage::CaCut => drop(world.cut_off.remove(&PeerId::Ca)),
        Outage::CaUnavailable(_) => world.peers.ca.settings.unavailable = None,
        Outage::MarathonCut => drop(world.cut_off.remove(&PeerId::Marathon(0))),
        Outage::MarathonUnavailable => world.peers.marathons[0].settings.unavailable = false,
        Outage::MarathonBabble => world.peers.marathons[0].settings.apps = AppsAnswer::Normal,
        Outage::Lb(index) => drop(world.cut_off.remove(&PeerId::Lb(index))),
        Outage::Disk(_) => world.disk.set_conditions(Conditions::default()),
    }
}

/// Let's Encrypt's limits, but for new orders in 3 hours and certificates of a registered domain in a week.
pub(crate) fn limits((orders, domain): (u32, u32)) -> ca::Limits {
    let limits = ca::Limits::lets_encrypt();
    let with = |bucket: Option<ca::Bucket>, capacity| {
        bucket.map(|bucket| ca::Bucket { capacity, ..bucket })
    };
    ca::Limits {
        orders_per_account: with(limits.orders_per_account, orders),
        certificates_per_domain: with(limits.certificates_per_domain, domain),
        ..limits
    }
}

/// What the operator says of that.
pub(crate) fn our_limits((orders, domain): (u32, u32)) -> CaLimits {
    match (orders, domain) {
        plan::LIMITS => CaLimits::Known,
        _ => CaLimits::Given { orders: Some(orders), domain: Some(domain) },
    }
}

fn config(plan: &Plan) -> Config {
    let url = |text: &str| Url::parse(text).expect("a good URL");
    Config {
        acme: url(&format!("https://{CA_HOST}/directory")),
        marathon: vec![url("http://marathon.mesos:8080")],
        lb: vec![url("http://lb.mesos:9090")],
        sse_timeout: Some(Duration::from_secs(2 * 60 * 60)),
        log_level: Level::Info,
        ca_limits: our_limits(plan.limits),
        ..crate::scenario::config(1, 1)
    }
}

fn build(seed: u64, plan: &Plan, chance: &mut Random) -> World {
    let start = World::start_time();
    let marathon = marathon::Settings {
        heartbeat_ms: 30 * MINUTE / MILLISECOND,
        keep_seen: false,
        ..marathon::Settings::default()
    };
    let lb = lb::Settings { keep_seen: false, ..lb::Settings::default() };
    let peers = Peers::new(
        vec![Marathon::new(marathon)],
        Ca::new(seed, &format!("https://{CA_HOST}"), start, ca_settings(plan, chance)),
        (0..LBS).map(|_| LoadBalancer::new(start, lb.clone())).collect(),
    );
    let mut world = World::new(&config(plan), peers, chance.fork());
    // A rare fault is enough: there is a whole year for it.
    let mut weather = Weather::fine();
    weather.latency_ms = (1, 50);
    world.network.weather = weather
        .with(Fault::Refused, 10)
        .with(Fault::Reset, 1)
        .with(Fault::Split, 10)
        .with(Fault::DnsLost, 10);
    world.host("marathon.mesos", 8080, &[PeerId::Marathon(0)]);
    world.host(CA_HOST, 443, &[PeerId::Ca]);
    let lbs: Vec<PeerId> = (0..LBS).map(PeerId::Lb).collect();
    world.host("lb.mesos", 9090, &lbs);
    world
}

fn ca_settings(plan: &Plan, chance: &mut Random) -> ca::Settings {
    let renewal_info = plan.renewal_info.map(|seconds| ca::RenewalInfo {
        retry_after: ca::RetryAfter::Seconds(seconds),
        ..ca::RenewalInfo::default()
    });
    ca::Settings {
        lifetime_seconds: u32::try_from(plan.lifetime / (1000 * MILLISECOND))
            .expect("a few months"),
        limits: limits(plan.limits),
        renewal_info,
        bad_nonce_percent: 1,
        server_error_percent: 1,
        delay_ms: chance.below(100),
        validation_delay_ms: chance.below(3000),
        challenge_processing: chance.chance(50),
        processing_polls: chance.below(3) as u32,
        retry_after: ca::RetryAfter::Seconds(chance.between(1, 5) as u32),
        authz_reuse_percent: chance.below(101) as u8,
        order_reuse: chance.chance(50),
        ..ca::Settings::default()
    }
}
