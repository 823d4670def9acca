//! Hostile tenants of one Marathon: apps with hundreds of names whose validations fail, an app that is
//! restarted again and again, labels that flap, and claims on the names of others; under Let's Encrypt's
//! limits. Everybody else is well.
//!
//! What must hold, seen at the CA alone:
//!
//! - Fairness: with N apps at work, the first order of an app comes after at most N others that count
//!   against the same limit, and those that were on their way when it was deployed.
//! - Every name of an honest app has its certificate in the end, and keeps it.

use std::collections::BTreeMap;
use std::fmt;

use marathon_acme::config::Config;
use marathon_acme::daemon::issuer::ORDERS_SIDE_BY_SIDE_MAX;
use marathon_acme::domain::Domain;
use marathon_acme::log::Level;
use marathon_acme::url::Url;
use stand_ins::ca::{self, Ca, Step};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{self, Marathon};
use stand_ins::random::Random;

use crate::network::{HOUR, MILLISECOND, MINUTE, Nanos, PeerId, SECOND};
use crate::peers::Peers;
use crate::quiet::want;
use crate::scenario::{config, pass};
use crate::world::World;
use crate::year;

/// Let's Encrypt's own name, so that the daemon keeps to its limits.
const CA_HOST: &str = "acme-v02.api.letsencrypt.org";
const HOSTILE_MAX: u64 = 3;
const HONEST: (u64, u64) = (4, 8);
/// An app is deployed, and the daemon has synced.
const SYNCED: Nanos = 5 * SECOND;
/// Honest apps come within this time.
const DEPLOYED: Nanos = 8 * HOUR;
/// From the last deployment to the end.
const PATIENCE: Nanos = 36 * HOUR;

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Failing names of one app; several apps have thousands.
    failing: (u64, u64),
    /// Names of one registered domain that an app asks for: more than are certified in a week.
    neighbour: usize,
    /// New orders in 3 hours, and certificates of a registered domain in a week.
    limits: (u32, u32),
}

impl Size {
    /// As at Let's Encrypt.
    pub(crate) const FULL: Size = Size { failing: (500, 900), neighbour: 60, limits: (300, 50) };
    /// A tenth of that, where nothing is optimized.
    pub(crate) const SMALL: Size = Size { failing: (50, 90), neighbour: 8, limits: (30, 5) };
}

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Orders that the CA took, and those that failed.
    orders: u64,
    failed: u64,
    /// Honest apps, and those of them that had to wait for a limit.
    honest: u64,
    waited: u64,
    /// The most orders of others before the first one of an app.
    longest: u64,
    /// Orders that were held back.
    held: u64,
    claims: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Report) {
        self.orders += other.orders;
        self.failed += other.failed;
        self.honest += other.honest;
        self.waited += other.waited;
        self.longest = self.longest.max(other.longest);
        self.held += other.held;
        self.claims += other.claims;
    }

    /// Whether limits bound, and honest apps came while they did.
    pub(crate) fn is_met(&self) -> bool {
        [self.failed, self.waited, self.held, self.claims].iter().all(|count| *count > 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { orders, failed, honest, waited, longest, held, claims } = self;
        write!(
            f,
            "{orders} orders, {failed} failed validations, {held} held back, {claims} claims; "
        )?;
        write!(f, "{waited} of {honest} honest apps waited, the longest for {longest} orders")
    }
}

/// An app that only wants its certificates.
struct Honest {
    id: String,
    names: Vec<String>,
    deployed: Nanos,
    /// Its names are below the registered domain that the neighbour uses up.
    shares_domain: bool,
    /// Apps with names at that time, itself included.
    apps: usize,
    claimed: bool,
}

struct Run {
    world: World,
    chance: Random,
    hostile: Vec<(String, Vec<String>)>,
    honest: Vec<Honest>,
    report: Report,
}

/// Runs a seed; what went wrong, when something did.
pub(crate) fn run(seed: u64, size: Size, verbose: bool) -> Result<Report, String> {
    let mut chance = Random::new(seed);
    let mut world = world(seed, size, &mut chance);
    (world.verbose, world.keep_log) = (verbose, false);
    let report = Report::default();
    let mut run = Run { world, chance, hostile: Vec::new(), honest: Vec::new(), report };
    run.begin(size);
    let mut births: Vec<Nanos> = (0..run.chance.between(HONEST.0, HONEST.1))
        .map(|_| run.chance.between(2 * MINUTE, DEPLOYED))
        .collect();
    births.sort_unstable();
    let end = DEPLOYED + PATIENCE;
    let mut births = births.into_iter().peekable();
    while run.world.now() < end {
        let restless = run.world.now() < DEPLOYED + HOUR;
        let pause = if restless { run.chance.between(30, 600) * SECOND } else { HOUR };
        let next = (run.world.now() + pause).min(births.peek().copied().unwrap_or(end)).min(end);
        pass(&mut run.world, next)?;
        if births.next_if(|at| *at <= next).is_some() {
            run.honest_app();
        } else if restless {
            run.mischief();
        }
    }
    run.check()
}

impl Run {
    fn begin(&mut self, size: Size) {
        for number in 0..self.chance.between(1, HOSTILE_MAX) {
            let count = self.chance.between(size.failing.0, size.failing.1);
            let names: Vec<String> = (0..count)
                .map(|index| format!("a{index}.evil{number}x{}.com", index % 60))
                .collect();
            self.world.broken_routes.extend(names.iter().cloned());
            self.hostile.push((format!("aaa-hostile{number}"), names));
        }
        let neighbour = (0..size.neighbour).map(|index| format!("b{index}.company.com")).collect();
        self.hostile.push(("neighbour".into(), neighbour));
        for (id, names) in &self.hostile {
            want(&mut self.world, id, names);
        }
    }

    /// A hostile app is restarted, a label flaps, or an app claims what another one has.
    fn mischief(&mut self) {
        let hostile = self.chance.below(self.hostile.len() as u64) as usize;
        let (id, names) = self.hostile[hostile].clone();
        match self.chance.below(3) {
            0 => want(&mut self.world, &id, &names),
            1 => {
                let some = self.chance.between(1, 20);
                let names: Vec<String> = (0..some)
                    .map(|index| format!("f{index}.flap{}.com", self.chance.below(5)))
                    .collect();
                self.world.broken_routes.extend(names.iter().cloned());
                want(&mut self.world, "aaa-flap", &names);
            }
            _ => {
                let stored =
                    |app: &Honest| app.names.iter().all(|name| is_stored(&self.world, name));
                let Some(app) = self.honest.iter().position(stored) else { return };
                self.honest[app].claimed = true;
                let mut names = self.honest[app].names.clone();
                names.push("own.claims.com".into());
                self.report.claims += 1;
                want(&mut self.world, "aaa-claims", &names);
            }
        }
    }

    fn honest_app(&mut self) {
        let number = self.honest.len();
        let shares_domain = self.chance.chance(25);
        let count = self.chance.between(1, 3);
        let names: Vec<String> = (0..count)
            .map(|index| match shares_domain {
                true => format!("z{number}x{index}.company.com"),
                false => format!("www{index}.zz{number}.com"),
            })
            .collect();
        let id = format!("zz-honest{number}");
        want(&mut self.world, &id, &names);
        let deployed = self.world.now();
        // With the two that may have come by mischief.
        let apps = self.hostile.len() + number + 1 + 2;
        let claimed = false;
        self.honest.push(Honest { id, names, deployed, shares_domain, apps, claimed });
    }

    fn check(mut self) -> Result<Report, String> {
        let ca = &self.world.peers.ca;
        let made = ca.seen().iter();
        let made = made.filter(|it| it.step == Some(Step::NewOrder) && it.status == 201);
        let orders: Vec<(Nanos, &str)> = made
            .map(|it| (it.at.mono_ms * MILLISECOND, it.names.first().map_or("", String::as_str)))
            .collect();
        self.report.orders = orders.len() as u64;
        self.report.failed = ca.checked().iter().filter(|it| it.error.is_some()).count() as u64;
        self.report.held = self.world.messages.get("held back").copied().unwrap_or_default();
        if ca.limited() > 0 {
            return Err(format!("{} orders over the CA's limits", ca.limited()));
        }
        for app in &self.honest {
            self.report.honest += 1;
            let first = orders.iter().find(|(_, name)| app.names.iter().any(|own| own == name));
            let Some((first, _)) = first else {
                // Tokens of a shared domain may not have come for all.
                match app.shares_domain {
                    true => continue,
                    false => return Err(format!("{} has no order", app.id)),
                }
            };
            let of_limit = |name: &str| !app.shares_domain || name.ends_with(".company.com");
            let before = orders
                .iter()
                .filter(|(at, name)| *at > app.deployed + SYNCED && at < first && of_limit(name));
            let before = before.count();
            if before > app.apps + ORDERS_SIDE_BY_SIDE_MAX {
                let (id, apps) = (&app.id, app.apps);
                return Err(format!("{before} orders before the first of {id}, with {apps} apps"));
            }
            self.report.waited += u64::from(*first > app.deployed + MINUTE);
            self.report.longest = self.report.longest.max(before as u64);
            let missing = app.names.iter().find(|name| !is_stored(&self.world, name));
            // The last ones of a shared domain may have to wait for a week.
            if let Some(name) = missing.filter(|_| !app.shares_domain) {
                return Err(format!("no certificate for {name} of {}", app.id));
            }
        }
        let mut issued: BTreeMap<String, usize> = BTreeMap::new();
        for certificate in self.world.peers.ca.issued() {
            *issued.entry(certificate.names.join(" ")).or_default() += 1;
        }
        match issued.into_iter().find(|(_, times)| *times > 1) {
            Some((names, times)) => Err(format!("{times} certificates for {names}")),
            None => Ok(self.report),
        }
    }
}

fn is_stored(world: &World, name: &str) -> bool {
    Domain::parse(name).is_ok_and(|name| world.stored.contains_key(&name))
}

fn world(seed: u64, size: Size, chance: &mut Random) -> World {
    let start = World::start_time();
    let directory = format!("https://{CA_HOST}/directory");
    let config = Config {
        acme: Url::parse(&directory).expect("a good URL"),
        log_level: Level::Info,
        ca_limits: year::our_limits(size.limits),
        ..config(1, 1)
    };
    let settings = ca::Settings {
        limits: year::limits(size.limits),
        delay_ms: chance.below(100),
        validation_delay_ms: chance.below(2000),
        ..ca::Settings::default()
    };
    let marathon = marathon::Settings { keep_seen: false, ..marathon::Settings::default() };
    let peers = Peers::new(
        vec![Marathon::new(marathon)],
        Ca::new(seed, &format!("https://{CA_HOST}"), start, settings),
        vec![LoadBalancer::new(start, lb::Settings::default())],
    );
    let mut world = World::new(&config, peers, chance.fork());
    world.host("marathon0.mesos", 8080, &[PeerId::Marathon(0)]);
    world.host(CA_HOST, 443, &[PeerId::Ca]);
    world.host("lb0.mesos", 9090, &[PeerId::Lb(0)]);
    world
}
