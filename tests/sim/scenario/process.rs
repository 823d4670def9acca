//! What befalls the daemon's machines in a run: processes that die, stop, or stand still, the power
//! that goes, a second instance, and clocks that are wrong. Drawn before the run, each with its moment.
//!
//! What holds of a process that was not scheduled and lost its lease meanwhile: it changes nothing of the
//! storage any more, and makes no order that a single instance would not have made. It still sends what
//! the turn in which it stood still had decided: so an order that it was about to make may reach the CA,
//! but its attempt is on the disk by then, and the other instance waits a failure's pause before its own.
//! Between the last look at the lock and the rename behind it nothing can be promised to a file system
//! without fencing; there the simulated process does not stand still.

use std::collections::BTreeMap;

use stand_ins::ca::{AcmeRequest, Step};
use stand_ins::random::Random;

use super::{HOUR, MINUTE, SECOND};
use crate::faults::{Fault, Switches};
use crate::machine::{Blow, Doom, Machine, Trigger};
use crate::network::{MILLISECOND, Nanos};
use crate::world::World;

/// Calls to the disk in one change at most, roughly.
const CALLS: u64 = 12;
/// Times of one kind in a run at most.
const TIMES_MAX: u64 = 3;
const HOUR_MS: i64 = (HOUR / MILLISECOND) as i64;
/// The start of a run is in November 2026: so far it is to 1970, and to 2040.
const TO_1970_MS: i64 = -498_000 * HOUR_MS;
const TO_2040_MS: i64 = 116_000 * HOUR_MS;

/// Something that is done to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Doom(Doom),
    Stop { downtime: Nanos },
    CutPower { downtime: Nanos },
    Clock(Fault, i64),
    Join,
}

/// All that is to be done, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Acts(Vec<(Nanos, Act)>);

impl Acts {
    /// What a seed chooses.
    pub(super) fn draw(chance: &mut Random, faults: &Switches, end: Nanos) -> Acts {
        let mut acts = Vec::new();
        for fault in Fault::all().filter(|fault| fault.is_common()) {
            let times = chance.between(1, TIMES_MAX);
            // A sequence of its own, so that the rest of a seed does not hang on what is on.
            let mut chance = chance.fork();
            for _ in 0..times {
                let at = chance.below(end);
                match act(fault, &mut chance) {
                    Some(act) if faults.are_on(fault) => acts.push((at, act)),
                    _ => {}
                }
            }
        }
        acts.sort_by_key(|(at, _)| *at);
        let clocks: Vec<Nanos> = acts
            .iter()
            .filter(|(_, act)| matches!(act, Act::Clock(..)))
            .map(|(at, _)| *at + chance.between(SECOND, 20 * MINUTE))
            .collect();
        // The clock is put right again, at the end in any case.
        let right = |at: Nanos| (at.min(end), Act::Clock(Fault::ClockHour, 0));
        acts.extend(clocks.into_iter().map(right));
        acts.sort_by_key(|(at, _)| *at);
        Acts(acts)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Nanos> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub(super) fn perform(&mut self, world: &mut World, chance: &mut Random) {
        while self.next().is_some_and(|at| at <= world.now()) {
            let (_, act) = self.0.remove(0);
            if world.verbose {
                println!("{:>12.3} ===== {act:?}", world.now_ms() as f64 / 1000.0);
            }
            let index = chance.below(world.machines.len() as u64) as usize;
            match act {
                Act::Doom(doom) => world.machines[index].condemn(doom),
                Act::Stop { downtime } => world.stop(index, downtime),
                Act::CutPower { downtime } => world.cut_power(downtime),
                Act::Clock(fault, shift_ms) => set_clocks(world, fault, shift_ms),
                Act::Join if world.machines.len() == 1 => {
                    let machine = Machine::new(&world.config, world.now());
                    world.machines.push(machine);
                }
                Act::Join => {}
            }
        }
    }
}

fn act(fault: Fault, chance: &mut Random) -> Option<Act> {
    let after = match chance.below(6) {
        0 => Trigger::Publish,
        1 => Trigger::Certificate,
        2 => Trigger::State,
        _ => Trigger::Anything,
    };
    let (outputs, calls) = (chance.below(30), chance.between(1, CALLS));
    let downtime = if chance.chance(50) { 0 } else { chance.below(5 * MINUTE) };
    let pause = chance.between(SECOND, 3 * MINUTE);
    let (coin, sign) = (chance.chance(50), if chance.chance(50) { 1 } else { -1 });
    let doom = |blow| Some(Act::Doom(Doom { after, outputs, blow, downtime }));
    match fault {
        Fault::Killed => doom(Blow::Kill),
        Fault::KilledInside => doom(Blow::KillInside(calls)),
        Fault::PowerCut if chance.chance(20) => Some(Act::CutPower { downtime }),
        Fault::PowerCut => doom(if coin { Blow::PowerCut } else { Blow::PowerCutInside(calls) }),
        Fault::Paused => doom(Blow::Pause(pause, coin)),
        Fault::Stopped => Some(Act::Stop { downtime }),
        Fault::TakenOver => Some(Act::Join),
        Fault::ClockHour => Some(Act::Clock(fault, sign * HOUR_MS)),
        Fault::ClockMonth => Some(Act::Clock(fault, sign * 30 * 24 * HOUR_MS)),
        Fault::Clock1970 => Some(Act::Clock(fault, TO_1970_MS)),
        Fault::Clock2040 => Some(Act::Clock(fault, TO_2040_MS)),
        _ => None,
    }
}

/// No certificate is issued for names of which an order is under way that also leads to one: two
/// instances at work at once would do that. An order of an account that the CA says it does not know is
/// none to resume; when it is there after all, the CA was wrong.
pub(super) fn check_orders(world: &World) -> Result<(), String> {
    let ca = &world.peers.ca;
    let mut last = BTreeMap::new();
    for issued in ca.issued() {
        let at_ms = issued.at.mono_ms;
        let Some(before_ms) = last.insert(&issued.names, at_ms) else { continue };
        let names = issued.names.join(" ");
        let is_order = |it: &&AcmeRequest| it.step == Some(Step::NewOrder) && it.status == 201;
        let orders = ca.seen().iter().filter(is_order);
        let of_names = orders.filter(|it| it.names == issued.names).map(|it| it.at.mono_ms);
        let mut ordered_ms: Vec<u64> = of_names.filter(|ordered| *ordered <= at_ms).collect();
        ordered_ms.sort_unstable();
        let disowned = |since_ms: u64| {
            let says_so = |it: &AcmeRequest| it.problem == Some("accountDoesNotExist");
            ca.seen().iter().any(|it| says_so(it) && (since_ms..at_ms).contains(&it.at.mono_ms))
        };
        // The order before the last one may be what led to it: a disk that was full has kept its URL.
        let excused = ordered_ms.iter().rev().take(2).any(|ordered_ms| disowned(*ordered_ms));
        if ordered_ms.last().is_some_and(|ordered_ms| *ordered_ms < before_ms) && !excused {
            return Err(format!(
                "{names}: issued at {before_ms} and at {at_ms} ms by orders side by side"
            ));
        }
    }
    Ok(())
}

/// The clocks of all machines show so much beyond the true time.
pub(super) fn set_clocks(world: &mut World, fault: Fault, shift_ms: i64) {
    if shift_ms != 0 {
        world.toll.count(fault);
    }
    world.disturb();
    for machine in &mut world.machines {
        machine.clock_offset_ms = shift_ms;
    }
}
