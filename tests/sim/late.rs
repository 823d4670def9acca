//! Load balancers whose storage shows new files late, that reload slowly, are down for a while, or lose a
//! signal, while labels change and change again. Every certificate that was written is served within a
//! bounded time by each load balancer that can be reached, and none is ever rolled back. Only a file that
//! harms the load balancer that loads it first is rolled back, before any other loads it.
//!
//! What is checked is in [`watch`]; this is what happens.

use std::fmt;

use serde_json::{Value, json};
use stand_ins::ca::{self, Ca};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{Marathon, Settings as MarathonSettings};
use stand_ins::random::Random;

use crate::fronts::{self, Delay, Lie};
use crate::network::{HOUR, MILLISECOND, MINUTE, Nanos, PeerId, SECOND};
use crate::peers::Peers;
use crate::scenario::{config, deploy, load_balancers, pass};
use crate::world::World;
use watch::Watch;

mod watch;

/// The apps of the start; others are deployed later.
const APPS: [&str; 2] = ["bank", "shop"];
/// What the first name of each app begins with.
const FIRST: &str = "d0.";
/// Further names of a label at most.
const EXTRA_NAMES_MAX: u64 = 4;
/// Storage delays: none, two fixed ones, and a random one up to the last.
const DELAYS: [Delay; 4] =
    [Delay::Fixed(0), Delay::Fixed(25 * SECOND), Delay::Fixed(DELAY_MAX), Delay::UpTo(DELAY_MAX)];
const DELAY_MAX: Nanos = 70 * SECOND;
/// From one look at everything to the next: while something happens, and while nothing does.
const TICK: Nanos = 250 * MILLISECOND;
const QUIET_TICK: Nanos = 5 * SECOND;
/// A changed label has a new certificate within this time: it may have to wait after earlier changes.
const ISSUED: Nanos = 3 * HOUR;
/// After that time without a write nothing is under way that an earlier write began.
const SETTLED: Nanos = 30 * SECOND;
/// A reload that has begun is over after this time: the slowest takes 10 s.
const RELOADED: Nanos = 12 * SECOND;
/// A load balancer that comes back serves its backlog within this time and that of a reload: 5 s, and the
/// way of a request and its answer.
const BACKLOG_SERVED: Nanos = 6 * SECOND;
/// A file that harms is rolled back within this time.
const ROLLED_BACK: Nanos = 60 * SECOND;
/// What was rolled back is tried again and served within this time once it does no harm.
const RETRIED: Nanos = 26 * HOUR;

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) certificates: u64,
    /// Certificates that were written while an older one of the same file was not served everywhere.
    pub(crate) overtaken: u64,
    /// Reloads that loaded something older than what was written.
    pub(crate) late_reloads: u64,
    pub(crate) swallowed: u64,
    /// Returns of a load balancer with two certificates to load.
    pub(crate) backlogs: u64,
    pub(crate) rolled_back: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Report) {
        self.certificates += other.certificates;
        self.overtaken += other.overtaken;
        self.late_reloads += other.late_reloads;
        self.swallowed += other.swallowed;
        self.backlogs += other.backlogs;
        self.rolled_back += other.rolled_back;
    }

    /// Whether each of them occurred.
    pub(crate) fn is_met(&self) -> bool {
        let Report { certificates, overtaken, late_reloads, swallowed, backlogs, rolled_back } =
            self;
        [certificates, overtaken, late_reloads, swallowed, backlogs, rolled_back]
            .iter()
            .all(|count| **count > 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { certificates, overtaken, late_reloads, swallowed, backlogs, rolled_back } =
            self;
        write!(
            f,
            "{certificates} certificates, {overtaken} before the one of before was served, "
        )?;
        write!(f, "{late_reloads} reloads with late storage, {swallowed} signals swallowed, ")?;
        writeln!(f, "{backlogs} returns with a backlog, {rolled_back} rolled back")
    }
}

/// One run: some hours, one episode after the other.
struct Run {
    world: World,
    chance: Random,
    watch: Watch,
    balancers: usize,
    apps: Vec<App>,
    /// Further names of labels so far.
    serial: u64,
    backlogs: u64,
}

/// An app, and the names of its label.
struct App {
    id: String,
    /// The further names.
    extra: Vec<u64>,
}

impl App {
    fn new(id: &str) -> App {
        App { id: id.to_string(), extra: Vec::new() }
    }

    /// The first name, which is in every certificate of the app.
    fn first(&self) -> String {
        format!("{FIRST}{}.example", self.id)
    }

    fn further(&self, number: u64) -> String {
        format!("x{number}.{}.example", self.id)
    }

    /// What is deployed.
    fn json(&self) -> Value {
        let further = self.extra.iter().map(|number| self.further(*number));
        let names: Vec<String> = [self.first()].into_iter().chain(further).collect();
        let labels =
            json!({"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": names.join(",")});
        json!({"id": format!("/{}", self.id), "labels": labels, "networks": [{"mode": "host"}],
            "portDefinitions": [{"port": 0}]})
    }
}

/// Runs a seed; what went wrong, when something did.
pub(crate) fn run(seed: u64, verbose: bool) -> Result<Report, String> {
    let mut chance = Random::new(seed);
    let balancers = chance.between(2, 4) as usize;
    let world = world(seed, balancers, &mut chance);
    let (apps, watch) = (APPS.map(App::new).into(), Watch::new(balancers));
    let mut run = Run { world, chance, watch, balancers, apps, serial: 0, backlogs: 0 };
    run.world.verbose = verbose;
    run.set_delays();
    (0..run.apps.len()).for_each(|app| run.edit(app));
    run.served()?;
    for _ in 0..run.chance.between(4, 7) {
        let since = run.world.now() / SECOND;
        let (what, result) = match run.chance.below(12) {
            0..=2 => ("labels change in turn", run.flap()),
            3 | 4 => ("one is down", run.outage()),
            5 => ("signals are swallowed", run.swallow()),
            6 => ("a harmful file", run.harmful()),
            7 | 8 => ("an app is deployed", run.extend_new()),
            9 | 10 => ("one is broken in itself", run.broken()),
            _ => ("one label changes", run.change()),
        };
        let result = result.and_then(|()| run.quiet());
        result.map_err(|wrong| format!("at {since} s, {what}: {wrong}"))?;
    }
    let counts = run.world.peers.lbs.iter().map(|lb| lb.counts().swallowed);
    Ok(Report {
        certificates: run.world.peers.ca.issued().len() as u64,
        overtaken: run.watch.overtaken,
        late_reloads: run.world.fronts.late_reloads,
        swallowed: counts.sum(),
        backlogs: run.backlogs,
        rolled_back: run.watch.rolled_back,
    })
}

/// Two names of load balancers, all of which are verified.
fn world(seed: u64, balancers: usize, chance: &mut Random) -> World {
    let mut config = config(1, 2);
    (config.san, config.allow_multiple_certs) = (true, false);
    config.lb_verify.port = Some(fronts::PORT);
    let start = World::start_time();
    let settings = ca::Settings { names_max: 100, ..Default::default() };
    let lbs = (0..balancers).map(|_| LoadBalancer::new(start, lb_settings(chance))).collect();
    let peers = Peers::new(
        vec![Marathon::new(MarathonSettings::default())],
        Ca::new(seed, "https://ca.example:14000", start, settings),
        lbs,
    );
    let mut world = World::new(&config, peers, chance.fork());
    world.host("marathon0.mesos", 8080, &[PeerId::Marathon(0)]);
    world.host("ca.example", 14000, &[PeerId::Ca]);
    let first: Vec<PeerId> = (1..balancers).map(PeerId::Lb).collect();
    world.host("lb0.mesos", load_balancers::PORT, &first);
    world.host("lb1.mesos", load_balancers::PORT, &[PeerId::Lb(0)]);
    world
}

/// How slow it is to reload, and what it shows of its processes.
fn lb_settings(chance: &mut Random) -> lb::Settings {
    let reload_ms = match chance.below(3) {
        0 => chance.between(100, 300),
        1 => chance.between(300, 2_000),
        _ => chance.between(2_000, 10_000),
    };
    // `haproxy -W` shows its master process, which is not always the first or the last.
    let master_at = match chance.below(4) {
        0 => None,
        place => Some([0, 1, usize::MAX][place as usize - 1]),
    };
    let offers_pids = chance.chance(75);
    lb::Settings { reload_ms, master_at, offers_pids, linger_ms: 3_000, ..Default::default() }
}

impl Run {
    fn set_delays(&mut self) {
        for index in 0..self.balancers {
            let delay = DELAYS[self.chance.below(DELAYS.len() as u64) as usize];
            self.world.fronts.delay(index, delay);
        }
    }

    fn any(&mut self) -> usize {
        self.chance.below(self.balancers as u64) as usize
    }

    fn any_app(&mut self) -> usize {
        self.chance.below(self.apps.len() as u64) as usize
    }

    /// The label of an app has one new name, and sometimes none of those added before, so that its
    /// certificate has a successor in the same file.
    fn edit(&mut self, app: usize) {
        self.serial += 1;
        let app = &mut self.apps[app];
        if self.chance.chance(40) || app.extra.len() as u64 >= EXTRA_NAMES_MAX {
            app.extra.clear();
        }
        app.extra.push(self.serial);
        let json = app.json();
        deploy(&mut self.world, &json);
    }

    /// Lets this time pass, looking at everything all the while.
    fn pass(&mut self, time: Nanos) -> Result<(), String> {
        let end = self.world.now() + time;
        while self.world.now() < end {
            self.tick(TICK.min(end - self.world.now()))?;
        }
        Ok(())
    }

    fn tick(&mut self, time: Nanos) -> Result<(), String> {
        let until = self.world.now() + time;
        pass(&mut self.world, until)?;
        self.watch.look(&mut self.world)
    }

    /// Lets time pass until this is so.
    fn until(
        &mut self,
        patience: Nanos,
        what: &str,
        so: impl Fn(&Run) -> bool,
    ) -> Result<(), String> {
        let end = self.world.now() + patience;
        while !so(self) {
            if self.world.now() >= end {
                return Err(format!("{what}: not within {} s", patience / SECOND));
            }
            self.tick(TICK)?;
        }
        Ok(())
    }

    /// Whether the certificate of each label is written.
    fn is_written(&self) -> bool {
        let Some(directory) = self.watch.directory() else { return false };
        self.apps.iter().all(|app| {
            let leaf = directory.get(&app.first());
            let last = app.extra.last().map(|number| app.further(*number));
            leaf.is_some() && last.is_none_or(|last| directory.get(&last) == leaf)
        })
    }

    /// Everything is written, and served as [`Watch`] requires it.
    fn served(&mut self) -> Result<(), String> {
        self.until(ISSUED, "a certificate for each label", Run::is_written)?;
        // The watch has a limit of its own, which is shorter.
        self.until(HOUR, "everything served", |run| run.watch.is_served())
    }

    /// Some time until the next episode, after which labels are ordered for at once again.
    fn quiet(&mut self) -> Result<(), String> {
        self.served()?;
        let end = self.world.now() + self.chance.between(2, 90) * MINUTE;
        while self.world.now() < end {
            self.tick(QUIET_TICK)?;
        }
        if self.chance.chance(30) {
            self.set_delays();
        }
        Ok(())
    }

    fn change(&mut self) -> Result<(), String> {
        let app = self.any_app();
        self.edit(app);
        self.served()
    }

    /// Labels change again and again while what was written for them is verified.
    fn flap(&mut self) -> Result<(), String> {
        let app = self.any_app();
        for _ in 0..self.chance.between(2, 8) {
            let app = if self.chance.chance(80) { app } else { self.any_app() };
            self.edit(app);
            let pause = self.chance.between(1_000, 5_000) * MILLISECOND;
            self.pass(pause)?;
        }
        self.served()
    }

    /// A new app is deployed, and its label changes within seconds: the first change of an app waits for no
    /// pause, so that the file is written twice within the time of one verification.
    fn extend_new(&mut self) -> Result<(), String> {
        let app = self.apps.len();
        self.apps.push(App::new(&format!("app{app}")));
        let json = self.apps[app].json();
        deploy(&mut self.world, &json);
        for _ in 0..self.chance.between(1, 3) {
            let pause = self.chance.between(1_000, 5_000) * MILLISECOND;
            self.pass(pause)?;
            self.edit(app);
        }
        self.served()
    }

    /// The signals of one are answered and have no effect.
    fn swallow(&mut self) -> Result<(), String> {
        let index = self.any();
        self.world.peers.lbs[index].settings.swallowed = self.chance.between(1, 2) as u32;
        self.change()
    }

    /// One cannot be reached while one or two certificates are written.
    fn outage(&mut self) -> Result<(), String> {
        let index = self.any();
        self.watch.is_down(index);
        self.world.cut(PeerId::Lb(index));
        let generations = self.chance.between(1, 2) as usize;
        for app in 0..generations {
            self.edit(app);
            self.until(ISSUED, "a certificate for each label", Run::is_written)?;
            let pause = self.chance.between(1, 120) * SECOND;
            self.pass(pause)?;
        }
        let quiet_since = self.world.now();
        let settled = self.chance.chance(70);
        if settled {
            self.until(HOUR, "the others have it", |run| {
                run.world.now() >= quiet_since + SETTLED && run.watch.is_served_but_by(&[index])
            })?;
            self.pass(DELAY_MAX)?;
        }
        self.world.cut_off.remove(&PeerId::Lb(index));
        self.watch.is_back(index, self.world.now());
        if settled {
            let reload = self.world.peers.lbs[index].settings.reload_ms * MILLISECOND;
            self.backlogs += u64::from(generations > 1);
            let served =
                self.until(BACKLOG_SERVED + reload, "its backlog", |run| run.watch.is_served());
            served.map_err(|wrong| format!("load balancer {index} is back: {wrong}"))?;
        }
        self.served()
    }

    /// One is broken in itself from its next reload on, which is for a new file, or two end with it: the
    /// others serve that.
    fn broken(&mut self) -> Result<(), String> {
        let index = self.any();
        let lies = [Lie::Broken, Lie::Alerts, Lie::Deaf, Lie::Crashes];
        let lie = lies[self.chance.below(lies.len() as u64) as usize];
        let second = (lie == Lie::Crashes).then_some((index + 1) % self.balancers);
        let broken: Vec<usize> = [index].into_iter().chain(second).collect();
        for index in &broken {
            self.world.fronts.lie(*index, lie);
            self.watch.is_down(*index);
        }
        let quiet_since = self.world.now();
        for _ in 0..self.chance.between(1, 2) {
            let app = self.any_app();
            self.edit(app);
            self.until(ISSUED, "a certificate for each label", Run::is_written)?;
        }
        self.until(HOUR, "the others have it", |run| {
            run.world.now() >= quiet_since + SETTLED && run.watch.is_served_but_by(&broken)
        })?;
        broken.iter().for_each(|index| self.world.fronts.repair(*index));
        // The pause between two signals has grown to five minutes at most.
        let served = self.until(10 * MINUTE, "all have it", |run| run.watch.is_served());
        served.map_err(|wrong| format!("load balancers {broken:?}, {lie:?}: {wrong}"))?;
        broken.iter().for_each(|index| self.watch.is_back(*index, self.world.now()));
        Ok(())
    }

    /// A file makes each load balancer that loads it fail handshakes for its names: one does at most.
    fn harmful(&mut self) -> Result<(), String> {
        let settings: Vec<lb::Settings> =
            self.world.peers.lbs.iter().map(|lb| lb.settings.clone()).collect();
        for index in 0..self.balancers {
            self.world.fronts.delay(index, Delay::Fixed(0));
            // Others are let wait so long as a quick one takes for two reloads and no longer.
            let reload_ms = self.chance.between(100, 1_500);
            let settings = &mut self.world.peers.lbs[index].settings;
            (settings.reload_ms, settings.offers_pids) = (reload_ms, true);
        }
        // A reload that has begun would load the file, too.
        self.pass(RELOADED)?;
        (0..self.balancers).for_each(|index| self.world.fronts.lie(index, Lie::FailsHandshakes));
        let (app, before) = (self.any_app(), self.watch.rolled_back);
        self.watch.expects_rollback = true;
        self.edit(app);
        self.until(ISSUED, "a certificate for each label", Run::is_written)?;
        let harmless = |run: &Run| {
            let down = (0..run.balancers).any(|index| run.world.fronts.is_harmed(index));
            run.watch.rolled_back > before && !down
        };
        let result = self.until(ROLLED_BACK, "the harmful file is rolled back", harmless);
        let harmed = &self.world.fronts.harmed;
        result.map_err(|wrong| format!("{wrong}, loaded by {harmed:?}"))?;
        if harmed.len() != 1 {
            return Err(format!("the harmful file was loaded by {harmed:?}"));
        }
        self.watch.expects_rollback = false;
        self.world.fronts.heal(&fronts::directory(&self.world.disk));
        for (lb, settings) in self.world.peers.lbs.iter_mut().zip(settings) {
            lb.settings = settings;
        }
        self.set_delays();
        self.until(RETRIED, "what was rolled back is tried again", Run::is_written)
    }
}
