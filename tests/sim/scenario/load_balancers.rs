//! What a seed does to the load balancers: they fail, lie, are slow or away, come and go.

use std::net::SocketAddr;

use stand_ins::lb::{self, LoadBalancer};
use stand_ins::random::Random;

use super::{MINUTE, SECOND};
use crate::faults::{Fault, Switches, Toll};
use crate::fronts::{self, Lie};
use crate::network::{Grave, Nanos, PeerId};
use crate::world::World;

/// The port of their control interface.
pub(crate) const PORT: u16 = 9090;
/// The one name whose load balancers change; it has two at first.
const CHANGING: &str = "lb0.mesos";
/// So many it has at most.
const ADDRESSES_MAX: usize = 4;
/// What can happen to one of them.
const DEEDS: &[Fault] = &[
    Fault::LbDown,
    Fault::LbFailure,
    Fault::LbHtml,
    Fault::LbSwallowed,
    Fault::LbSlow,
    Fault::LbNoPids,
    Fault::LbGarbledPids,
    Fault::LbLongDown,
    Fault::LbAppears,
    Fault::LbGone,
    Fault::LbOldDirectory,
    Fault::LbRefuses,
    Fault::LbCrash,
    Fault::LbStale,
];

/// The load balancers' troubles of one run.
pub(super) struct LoadBalancers {
    deeds: Vec<Fault>,
    /// Those who stay away, and until when.
    away: Vec<(Nanos, usize)>,
    next: Nanos,
    chance: Random,
}

impl LoadBalancers {
    /// Their first troubles are there from the start.
    pub(super) fn new(world: &mut World, faults: &Switches, chance: &mut Random) -> LoadBalancers {
        let deeds = DEEDS.iter().copied().filter(|fault| faults.are_on(*fault)).collect();
        let (away, chance) = (Vec::new(), chance.fork());
        let mut lbs = LoadBalancers { deeds, away, next: 0, chance };
        for _ in 0..3 {
            lbs.next = world.now();
            lbs.stir(world);
        }
        lbs
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Nanos {
        self.next
    }

    /// Something happens to one of them, if it is time.
    pub(super) fn stir(&mut self, world: &mut World) {
        self.relieve(world);
        if world.now() < self.next {
            return;
        }
        self.next = world.now() + self.chance.between(20, 300) * SECOND;
        let Some(place) = (!self.deeds.is_empty()).then(|| self.below(self.deeds.len())) else {
            return;
        };
        let index = self.below(world.peers.lbs.len());
        self.befall(world, index, self.deeds[place]);
        world.drain_peers();
    }

    fn below(&mut self, limit: usize) -> usize {
        self.chance.below(limit as u64) as usize
    }

    fn befall(&mut self, world: &mut World, index: usize, deed: Fault) {
        // Whoever hides its process ids swallows no signal: nobody could tell.
        let honest = index.is_multiple_of(2);
        let (now, times) = (world.now(), self.chance.between(1, 3) as u32);
        let settings = &mut world.peers.lbs[index].settings;
        match deed {
            Fault::LbDown => settings.down = !settings.down,
            Fault::LbFailure => settings.failures = times,
            Fault::LbSlow => settings.delay_ms = self.chance.between(100, 20_000),
            Fault::LbSwallowed if honest => settings.swallowed = times,
            Fault::LbHtml if !honest => settings.html = times,
            Fault::LbNoPids if !honest => settings.offers_pids = false,
            Fault::LbGarbledPids if !honest => settings.garbled_pids = true,
            Fault::LbLongDown => {
                world.cut(PeerId::Lb(index));
                self.away.push((now + self.chance.between(61, 120) * MINUTE, index));
            }
            // Who does not look cannot know.
            Fault::LbOldDirectory if world.is_verified() => {
                world.fronts.lie(index, Lie::OldDirectory(times));
            }
            Fault::LbRefuses if world.is_verified() => world.fronts.lie(index, Lie::Refuses),
            Fault::LbCrash if world.is_verified() => world.fronts.lie(index, Lie::Crashes),
            Fault::LbStale if world.is_verified() => world.fronts.restart_stale(index),
            Fault::LbAppears => self.appear(world),
            Fault::LbGone => self.leave(world),
            _ => {}
        }
    }

    fn appear(&mut self, world: &mut World) {
        let mut addresses = world.peers.names.of(CHANGING).to_vec();
        if addresses.len() >= ADDRESSES_MAX {
            return;
        }
        let (time, index) = (world.time(), world.peers.lbs.len());
        world.peers.lbs.push(LoadBalancer::new(time, lb::Settings::default()));
        let ipv4 = self.chance.chance(70);
        let address = world.new_address(ipv4);
        world.network.listen(SocketAddr::new(address, PORT), PeerId::Lb(index));
        addresses.push(address);
        world.peers.names.set(CHANGING, &addresses);
        world.network.toll.count(Fault::LbAppears);
    }

    /// It is gone from DNS, and its machine may be gone, too.
    fn leave(&mut self, world: &mut World) {
        let mut addresses = world.peers.names.of(CHANGING).to_vec();
        if addresses.len() < 2 {
            return;
        }
        let address = addresses.remove(self.below(addresses.len()));
        world.peers.names.set(CHANGING, &addresses);
        let now = world.now();
        let grave = [Grave::Refuses, Grave::Swallows][self.below(2)];
        if self.chance.chance(80) {
            world.network.bury(now, SocketAddr::new(address, PORT), grave, Fault::LbGone);
        }
        world.network.toll.count(Fault::LbGone);
    }

    /// When the next one comes back that is away.
    pub(super) fn next_back(&self) -> Option<Nanos> {
        self.away.iter().map(|(until, _)| *until).min()
    }

    /// Those come back whose time has come.
    pub(super) fn relieve(&mut self, world: &mut World) {
        let now = world.now();
        for (_, index) in self.away.extract_if(.., |(until, _)| *until <= now) {
            world.cut_off.remove(&PeerId::Lb(index));
        }
    }

    /// All is well, but for those who stay away longer, signals still to be swallowed, and process ids.
    pub(super) fn heal(&mut self, world: &mut World) {
        world.fronts.heal(&fronts::directory(&world.disk));
        for lb in &mut world.peers.lbs {
            lb.settings.down = false;
            lb.settings.failures = 0;
            lb.settings.html = 0;
            lb.settings.delay_ms = 0;
        }
    }
}

/// How often the load balancers did what they were set to do.
pub(crate) fn toll(lbs: &[LoadBalancer]) -> Toll {
    let mut toll = Toll::default();
    for counts in lbs.iter().map(LoadBalancer::counts) {
        toll.add_times(Fault::LbFailure, counts.failures);
        toll.add_times(Fault::LbSwallowed, counts.swallowed);
        toll.add_times(Fault::LbHtml, counts.html);
        toll.add_times(Fault::LbNoPids, counts.no_pids);
        toll.add_times(Fault::LbGarbledPids, counts.garbled_pids);
        toll.add_times(Fault::LbSlow, counts.delayed);
    }
    toll
}

/// Every load balancer that a name has now has loaded what was written last.
pub(super) fn check(world: &World) -> Result<(), String> {
    let written = world.disk.last_write_ms();
    for name in ["lb0.mesos", "lb1.mesos"] {
        for address in world.peers.names.of(name) {
            let peer = world.network.peer_at(SocketAddr::new(*address, PORT));
            let Some(PeerId::Lb(index)) = peer else {
                return Err(format!("{name} leads to nobody at {address}"));
            };
            let lb = &world.peers.lbs[index];
            let has_loaded = lb.started().mono_ms > written
                || lb.reloads().last().is_some_and(|reload| reload.mono_ms >= written);
            if !has_loaded {
                let wrong = format!("load balancer {index} ({address}) has no reload");
                return Err(format!("{wrong} after {written} ms"));
            }
            if world.is_verified() {
                serves_all(world, index)?;
            }
        }
    }
    Ok(())
}

/// It serves what lies in `certs/`.
pub(crate) fn serves_all(world: &World, index: usize) -> Result<(), String> {
    for (name, der) in fronts::directory(&world.disk) {
        if world.fronts.is_down(index) || world.fronts.shows(index, &name) != der {
            return Err(format!("load balancer {index} serves something else for {name}"));
        }
    }
    Ok(())
}
