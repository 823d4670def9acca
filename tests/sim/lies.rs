//! Load balancers that lie: each lie is found out and named in the log in time, keeps the others from
//! nothing, makes no file roll back, and is healed once its teller is honest again; and whatever happens,
//! what lies in `certs/` can serve at every moment.

use std::fmt;

use marathon_acme::log::Record;
use serde_json::json;
use stand_ins::ca::{self, Ca};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{Marathon, Settings as MarathonSettings};
use stand_ins::random::Random;

use crate::faults::{Fault, Toll};
use crate::fronts::{self, Lie};
use crate::network::{HOUR, MINUTE, Nanos, PeerId, SECOND};
use crate::peers::Peers;
use crate::scenario::{config, deploy, load_balancers, pass};
use crate::world::World;

/// Load balancers of one name, and one of another.
const BALANCERS: usize = 3;
/// Names that a certificate has in the end.
const NAMES_MAX: u64 = 40;
/// A new certificate is everywhere within this time: the order, the writes of it gathered, the patience
/// with one that goes first and lies, the pause, the next one, and the others.
const SERVED: Nanos = 8 * MINUTE;
/// One that has drifted is looked at for the file written last within this time: one of three takes its
/// turn with each look, every second turn is for another file, and the pause is 100 s at most.
const DRIFT_FOUND: Nanos = 11 * MINUTE;
/// After the last failure of one that reloads in vain it is signalled again within this time.
const SIGNALLED_AGAIN: Nanos = 20 * MINUTE;

const ROLLED_BACK: &str = "rolled back to the previous certificate";
const STRAYED: &str = "load balancer serves another certificate than it loaded";
const FAILED: &str = "reload not acknowledged";

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) strayed: u64,
    pub(crate) certificates: u64,
    pub(crate) toll: Toll,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Report) {
        self.strayed += other.strayed;
        self.certificates += other.certificates;
        self.toll.add(&other.toll);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { strayed, certificates, toll } = self;
        writeln!(f, "{certificates} certificates, {strayed} load balancers found astray")?;
        let lies = [Fault::LbOldDirectory, Fault::LbRefuses, Fault::LbCrash, Fault::LbStale];
        lies.iter().try_for_each(|lie| writeln!(f, "  {:<20} {:>8}", lie.name(), toll.of(*lie)))
    }
}

/// One run: some days, a lie after the other.
struct Run {
    world: World,
    chance: Random,
    names: u64,
}

/// Runs a seed; what went wrong, when something did.
pub(crate) fn run(seed: u64, verbose: bool) -> Result<Report, String> {
    let mut chance = Random::new(seed);
    let mut run = Run { world: world(seed, &mut chance), chance, names: 0 };
    run.world.verbose = verbose;
    run.extend();
    run.until(SERVED, |run| run.served_by_all(None))?;
    for _ in 0..run.chance.between(6, 14) {
        run.episode()?;
    }
    let of = |message: &str| run.world.messages.get(message).copied().unwrap_or_default();
    // No file is the cause.
    if of(ROLLED_BACK) > 0 {
        return Err("a good certificate was rolled back".into());
    }
    Ok(Report {
        strayed: of(STRAYED),
        certificates: run.world.peers.ca.issued().len() as u64,
        toll: run.world.fronts.toll.clone(),
    })
}

/// Everybody is well but for the lies; certificates last three days.
fn world(seed: u64, chance: &mut Random) -> World {
    let mut config = config(1, 2);
    (config.san, config.allow_multiple_certs) = (true, false);
    config.lb_verify.port = Some(fronts::PORT);
    let start = World::start_time();
    let settings =
        ca::Settings { lifetime_seconds: 3 * 24 * 60 * 60, names_max: 100, ..Default::default() };
    let peers = Peers::new(
        vec![Marathon::new(MarathonSettings::default())],
        Ca::new(seed, "https://ca.example:14000", start, settings),
        (0..BALANCERS).map(|_| LoadBalancer::new(start, lb::Settings::default())).collect(),
    );
    let mut world = World::new(&config, peers, chance.fork());
    world.host("marathon0.mesos", 8080, &[PeerId::Marathon(0)]);
    world.host("ca.example", 14000, &[PeerId::Ca]);
    let port = load_balancers::PORT;
    world.host("lb0.mesos", port, &[PeerId::Lb(0), PeerId::Lb(1)]);
    world.host("lb1.mesos", port, &[PeerId::Lb(2)]);
    world
}

impl Run {
    /// The label has one name more, so that the certificate has a successor.
    fn extend(&mut self) {
        self.names = (self.names + 1).min(NAMES_MAX);
        let names: Vec<String> =
            (0..self.names).map(|number| format!("d{number}.shop.example")).collect();
        let labels =
            json!({"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": names.join(",")});
        let app = json!({"id": "/shop", "labels": labels, "networks": [{"mode": "host"}],
            "portDefinitions": [{"port": 0}]});
        deploy(&mut self.world, &app);
    }

    /// Lets time pass until all is as it should be.
    fn until(
        &mut self,
        patience: Nanos,
        check: impl Fn(&Run) -> Result<(), String>,
    ) -> Result<(), String> {
        let end = self.world.now() + patience;
        while let Err(wrong) = check(self) {
            if self.world.now() >= end {
                return Err(format!("{wrong}, {} s later", patience / SECOND));
            }
            let until = self.world.now() + 5 * SECOND;
            pass(&mut self.world, until)?;
        }
        Ok(())
    }

    /// Everybody but the liar serves what lies in `certs/`, the last name included.
    fn served_by_all(&self, liar: Option<usize>) -> Result<(), String> {
        let last = format!("d{}.shop.example", self.names - 1);
        if !fronts::directory(&self.world.disk).contains_key(&last) {
            return Err(format!("no certificate for {last}"));
        }
        let honest = (0..BALANCERS).filter(|index| Some(*index) != liar);
        honest.into_iter().try_for_each(|index| load_balancers::serves_all(&self.world, index))
    }

    /// The log says that about this one.
    fn said(&self, message: &str, since: Nanos, index: usize) -> Result<(), String> {
        let address = self.address(index);
        let says = |record: &Record| {
            let fields = &mut record.fields.iter();
            record.message == message && fields.any(|(_, value)| *value == address)
        };
        match self.world.log.iter().any(|(at, record)| *at >= since && says(record)) {
            true => Ok(()),
            false => Err(format!("nobody said {message:?} about {address}")),
        }
    }

    fn address(&self, index: usize) -> String {
        let (name, place) = if index < 2 { ("lb0.mesos", index) } else { ("lb1.mesos", 0) };
        self.world.peers.names.of(name)[place].to_string()
    }

    /// One of them lies for a while.
    fn episode(&mut self) -> Result<(), String> {
        let since = self.world.now();
        let liar = self.chance.below(BALANCERS as u64) as usize;
        let lies = [Lie::OldDirectory(1), Lie::OldDirectory(u32::MAX), Lie::Refuses, Lie::Crashes];
        let kind = self.chance.below(lies.len() as u64 + 2) as usize;
        let what = format!("at {} s load balancer {liar}", since / SECOND);
        match lies.get(kind) {
            Some(lie) => {
                self.world.fronts.lie(liar, *lie);
                self.extend();
                let told = self.until(SERVED, |run| run.served_by_all(Some(liar)));
                told.map_err(|wrong| format!("{what}, {lie:?}: others: {wrong}"))?;
                if *lie != Lie::OldDirectory(1) {
                    let told = self.until(SERVED, |run| run.said(FAILED, since, liar));
                    told.map_err(|wrong| format!("{what}, {lie:?}: {wrong}"))?;
                }
                self.world.fronts.heal(&fronts::directory(&self.world.disk));
            }
            None => {
                let before = self.world.fronts.toll.of(Fault::LbStale);
                self.world.fronts.restart_stale(liar);
                if self.world.fronts.toll.of(Fault::LbStale) > before {
                    // A renewal may have come in between, whose signal heals it too.
                    let told = self.until(DRIFT_FOUND, |run| {
                        run.said(STRAYED, since, liar).or_else(|_| run.served_by_all(None))
                    });
                    told.map_err(|wrong| format!("{what}, stale: {wrong}"))?;
                }
            }
        }
        let healed = self.until(SIGNALLED_AGAIN, |run| run.served_by_all(None));
        healed.map_err(|wrong| format!("{what}: not healed: {wrong}"))?;
        let until = self.world.now() + self.chance.between(1, 90) * MINUTE;
        pass(&mut self.world, until).map(drop)?;
        assert!(self.world.now() < 100 * HOUR, "it never ends");
        Ok(())
    }
}
