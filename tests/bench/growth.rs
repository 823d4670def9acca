//! What a domain costs as they become more: reading its certificate, and a sync that changes nothing, in
//! the scheduler alone and in the whole program, list of apps included. And what a single event costs among
//! them, in instructions: an app that changes, a time that comes, a certificate that is renewed. The peer is
//! the same program with the fewest: a ratio that grows is work that grows faster than the domains, or, of
//! an event, with them. Never counts the CA: it has nothing to issue.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::daemon_parts::{Scheduler, Turns};
use crate::instructions::counted;
use crate::process::{Outcome, Running, bare, find, free_port, wait_until};
use crate::site::{self, Site};
use crate::{Bench, stored, table, usage};

/// The word by which the benchmark is started again to have its instructions counted.
pub(crate) const CHILD: &str = "instructions-among";
const DOMAINS: [usize; 4] = [10, 100, 1_000, 10_000];
/// Enough for small counts to be seen beside the clock.
const SYNCED_DOMAINS: usize = 200_000;
/// Syncs of the whole program.
const SYNCS: usize = 5;

/// In nanoseconds a domain.
struct Cost {
    reading: f64,
    sync: f64,
    program: f64,
    resident: f64,
}

/// Single events, each with how it is told.
const EVENTS: [(&str, &str); 3] = [
    ("app", "an app changes, beside the same sync"),
    ("time", "a time comes"),
    ("renewed", "a certificate is renewed"),
];

pub(crate) fn measure(bench: &Bench) -> Outcome {
    table::subject("growth");
    let mut fewest: Option<Cost> = None;
    for count in DOMAINS {
        let (reading, sync) = scheduler(bench, count)?;
        let (program, resident) = program(bench, count)?;
        let cost = Cost { reading, sync, program, resident };
        let peer = fewest.as_ref().unwrap_or(&cost);
        let name = format!("at {}", DOMAINS[0]);
        let figure = |what: &str, of: &dyn Fn(&Cost) -> f64| {
            table::row(&format!("{count} domains: {what}"), "ns", of(&cost), &name, &Ok(of(peer)));
        };
        figure("scheduler reads, a domain", &|it| it.reading);
        figure("scheduler syncs, a domain", &|it| it.sync);
        figure("program syncs, CPU a domain", &|it| it.program);
        table::alone(&format!("{count} domains: program resident"), "KiB", cost.resident);
        fewest.get_or_insert(cost);
    }
    events(bench)
}

fn events(bench: &Bench) -> Outcome {
    let Some(valgrind) = find("valgrind") else {
        table::missing("instructions", "valgrind missing");
        return Ok(());
    };
    // Made once: what chance makes of keys and signatures is more than what is counted.
    let storage = stored::storage(bench.folder.path(), 2)?.display().to_string();
    for (event, what) in EVENTS {
        let mut fewest = None;
        for count in DOMAINS {
            let words = [CHILD, event, &count.to_string(), &storage];
            let cost = counted(&valgrind, &words)?;
            let (what, name) = (format!("{count} domains: {what}"), format!("at {}", DOMAINS[0]));
            table::row(&what, "instr", cost, &name, &Ok(*fewest.get_or_insert(cost)));
        }
    }
    Ok(())
}

/// What the child does.
pub(crate) fn be_measured(words: &[String]) -> Outcome {
    let [event, count, storage, work] = words else {
        return Err("EVENT COUNT STORAGE work|prepare".into());
    };
    let (storage, mut turns) = (Path::new(storage), Turns::new());
    let mut scheduler = Scheduler::failing(storage, count.parse()?, &mut turns)?;
    let work = work == "work";
    match event.as_str() {
        "app" => {
            if let Some(desired) = scheduler.desired.values_mut().next().filter(|_| work) {
                Arc::make_mut(desired).source.version.push('+');
            }
            scheduler.sync(&mut turns);
        }
        "time" if !work => {}
        "time" => drop(scheduler.wake(&mut turns)),
        _ => {
            let orders = scheduler.wake(&mut turns);
            scheduler.begin(&mut turns, &orders);
            let [order] = orders[..] else { return Err("not one order is due".into()) };
            scheduler.issued(storage, &mut turns, order)?;
            if work {
                scheduler.written(&mut turns)?;
            }
        }
    }
    // What it takes to give all the memory back is no part of an event.
    std::mem::forget(scheduler);
    Ok(())
}

fn each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e9 / count as f64
}

/// Reading and syncing with the scheduler in this process.
fn scheduler(bench: &Bench, count: usize) -> Outcome<(f64, f64)> {
    let storage = stored::storage(bench.folder.path(), count)?;
    let mut turns = Turns::new();
    let begin = Instant::now();
    let mut scheduler = Scheduler::of(&storage, count, &mut turns)?;
    let reading = begin.elapsed();
    let mut best = Duration::MAX;
    for _ in 0..(SYNCED_DOMAINS / count).max(SYNCS) {
        let begin = Instant::now();
        scheduler.sync(&mut turns);
        best = best.min(begin.elapsed());
    }
    Ok((each(reading, count), each(best, count)))
}

/// SIGHUP makes the whole program sync; its CPU time a domain, and its memory in KiB after that.
fn program(bench: &Bench, count: usize) -> Outcome<(f64, f64)> {
    let folder = bench.folder.path();
    let storage = stored::storage(folder, count)?;
    let (_ca, directory, root) = site::idle_ca(folder)?;
    let site = Site::start()?;
    site.deploy((0..count).map(stored::name));
    let port = free_port()?;
    let words = site.words(&directory, &root, port, &storage);
    let (daemon, _) = Running::listening(&mut bare(&bench.program, &words), port)?;
    wait_until("the first sync", || (site.syncs() > 0).then_some(()))?;
    usage::settled(daemon.id())?;
    let mut best = Duration::MAX;
    for _ in 0..SYNCS {
        let (before, syncs) = (usage::cpu(daemon.id())?, site.syncs());
        daemon.signal(Signal::HUP)?;
        wait_until("a sync", || (site.syncs() > syncs).then_some(()))?;
        best = best.min(usage::settled(daemon.id())?.saturating_sub(before));
    }
    Ok((each(best, count), usage::resident_kib(daemon.id())? as f64))
}
