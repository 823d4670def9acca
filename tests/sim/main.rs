//! The whole daemon in a simulated world, one seed a run: an hour of bad faults, after which every
//! labelled domain must have a valid certificate, every load balancer must have loaded it, and
//! nothing may be left behind; a year of everyday trouble; load balancers that lie; storage that shows
//! new files late; tenants that ask for more than their share; many renewals at once; and a daemon that is
//! killed again and again.
//!
//! `SEEDS=1000` says how many seeds are run, `SEED=7` replays one and shows what the daemon logs.
//!
//! Deliberate bugs, the files `tests/mutants/*.bug`, show that it finds bugs: `make sim-mutants`
//! prints for each the number of seeds until it is caught, and by what. The last time, and 3000 seeds
//! without any bug ended well:
//!
//! | bug | seeds | what caught it |
//! |---|---|---|
//! | `account-key-anew` | 77 | `client.key` has changed |
//! | `all-at-once` | - | `late_storage_rolls_nothing_back` |
//! | `archived-key-kept` | 1 | keys of expired certificates stay in `archive/` |
//! | `archived-key-lost` | 1 | a valid certificate in `archive/` has lost its key |
//! | `bad-nonce-for-ever` | 112 | 13 refusals of a nonce, at most 10 expected |
//! | `broken-in-itself` | - | `late_storage_rolls_nothing_back` |
//! | `chain-not-checked` | 9 | a written certificate is not valid at the time |
//! | `challenge-in-memory` | 1 | no certificate for a domain |
//! | `cleaned-by-a-wrong-clock` | 3 | a valid certificate in `archive/` has lost its key |
//! | `cut-list-believed` | 3 | a domain is wanted no longer, which no list said |
//! | `dns-id-unchecked` | 1 | the daemon believes a forged answer of the name server |
//! | `drift-ignored` | - | `lying_load_balancers_are_found_out` |
//! | `empty-list-believed` | 11 | a domain is wanted no longer, which no list said |
//! | `failed-for-ever` | 1 | no certificate for a domain |
//! | `file-not-flushed` | 1 | `client.key` is not whole |
//! | `first-come-tokens` | - | `hostile_tenants_starve_nobody` |
//! | `folder-not-flushed` | 1 | `state.json` is an older one again |
//! | `key-logged` | 1 | a key is logged |
//! | `key-not-checked` | 2 | a written certificate does not match its key |
//! | `late-answer-kept-open` | 11 | an event stream is kept that is silent |
//! | `lock-of-the-living` | 1 | no certificate for a domain |
//! | `never-back` | - | `late_storage_rolls_nothing_back` |
//! | `newest-generation` | 31 | a load balancer has no reload |
//! | `no-fence` | 8 | a process without the lock writes |
//! | `no-sync-by-itself` | - | `fairness::a_change_that_nobody_tells_of_is_found_within_ten_minutes` |
//! | `old-listing-believed` | 1 | no certificate for a domain |
//! | `order-url-forgotten` | 1 | an order that was heard of is not remembered |
//! | `pause-without-growth` | 7 | an order too early |
//! | `reload-debt-forgotten` | 4 | a load balancer has no reload |
//! | `renewals-counted` | - | `no_renewal_is_held_back` |
//! | `retry-after-ignored` | 4 | a request before its `Retry-After` |
//! | `rolled-back-on-lag` | - | `late_storage_rolls_nothing_back` |
//! | `served-unseen` | 8 | a load balancer has no reload |
//! | `silence-ignored` | 11 | an event stream is kept that is silent |
//! | `state-lost` | 18 | a load balancer has no reload |
//! | `swallowed-reload` | 41 | a load balancer has no reload |
//! | `truncated-taken-for-whole` | 232 | a written certificate was not issued by the next one |
//! | `unrecorded-order` | 3 | an order is begun and not in `state.json` |
//! | `withdraw-forgotten` | 1 | challenges are left published |
//! | `wrong-clock-believed` | 2 | a certificate is replaced long before its time |

mod archive;
mod ca_connections;
mod crash_loop;
mod disk;
mod fairness;
mod faults;
mod fronts;
mod invariants;
mod keys;
mod late;
mod lies;
mod machine;
mod memory;
mod names;
mod network;
mod peers;
mod quiet;
mod scenario;
mod tenants;
mod world;
mod year;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use faults::{Fault, Switches};

/// A year makes hundreds of millions of small allocations, which this one is quicker at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds of a run without `SEEDS`: short ones, and years.
const SEEDS: u64 = 100;
const YEARS: u64 = 1;
/// Seeds of a run in which load balancers lie.
const LYING_SEEDS: u64 = 15;
/// Seeds of a run in which storage shows new files late.
const LATE_SEEDS: u64 = 25;
/// Seeds of a run in which only strangers come.
const STRANGE_SEEDS: u64 = 20;
/// Seeds of a run with hostile tenants, and of each scene of many renewals.
const TENANT_SEEDS: u64 = 3;
const SCENE_SEEDS: u64 = 1;
/// So many runs meet every fault.
const ENOUGH_SEEDS: u64 = 100;
/// So many meet every error of the CA at every step.
const ENOUGH_FOR_CELLS: u64 = 2000;
/// So many years do.
const ENOUGH_YEARS: u64 = 40;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// A seed's report, or what went wrong.
fn try_seed<R>(run: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// Runs seeds on every processor and adds up their reports; fails when one fails.
fn run_all<R: Default + Display + Send>(
    seeds: u64,
    command: &str,
    run: impl Fn(u64) -> Result<R, String> + Sync,
    add: impl Fn(&mut R, &R) + Sync,
) -> R {
    let next = AtomicU64::new(0);
    let (failures, total) = (Mutex::new(Vec::new()), Mutex::new(R::default()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    match try_seed(|| run(seed)) {
                        Ok(report) => add(&mut total.lock().expect("no panic inside"), &report),
                        Err(wrong) => failures.lock().expect("no panic inside").push((seed, wrong)),
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no panic inside");
    let total = total.into_inner().expect("no panic inside");
    println!("{seeds} seeds: {total}");
    failures.sort();
    for (seed, wrong) in failures.iter().take(20) {
        println!("FAILED, replay with SEED={seed} make {command}: {wrong}");
    }
    assert!(failures.is_empty(), "{} of {seeds} seeds failed", failures.len());
    total
}

#[test]
fn every_seed_ends_well() {
    if let Some(seed) = number("SEED") {
        let report = scenario::run(seed, true);
        let report = report.unwrap_or_else(|wrong| panic!("SEED={seed}: {wrong}"));
        println!("SEED={seed}: {report}");
        return;
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let run = |seed| scenario::run(seed, false);
    let total = run_all(seeds, "sim", run, scenario::Report::add);
    let mut missing = total.faults.missing(&Switches::from_environment());
    if seeds < ENOUGH_FOR_CELLS {
        missing.retain(|fault| fault.is_common());
    }
    let missing: Vec<String> = missing.into_iter().map(Fault::name).collect();
    assert!(missing.is_empty() || seeds < ENOUGH_SEEDS, "never met: {missing:?}");
    assert!(total.renewals > 0 || seeds < ENOUGH_SEEDS, "no renewal");
    assert!(total.unwanted > 0 || seeds < ENOUGH_SEEDS, "no list ever lacked a domain");
}

/// Load balancers that say 200 and do something else; `SEEDS` and `SEED` as for the short runs.
#[test]
fn lying_load_balancers_are_found_out() {
    if let Some(seed) = number("SEED") {
        let report = lies::run(seed, true);
        let report = report.unwrap_or_else(|wrong| panic!("SEED={seed}: {wrong}"));
        println!("SEED={seed}: {report}");
        return;
    }
    let seeds = number("SEEDS").unwrap_or(LYING_SEEDS);
    let run = |seed| lies::run(seed, false);
    let total = run_all(seeds, "sim-lies", run, lies::Report::add);
    let met = total.strayed > 0;
    let lies = [Fault::LbOldDirectory, Fault::LbRefuses, Fault::LbCrash, Fault::LbStale];
    assert!(met && lies.iter().all(|lie| total.toll.of(*lie) > 0), "never met: {total}");
}

/// Storage that shows new files late, and labels that change meanwhile; `SEEDS` and `SEED` as for the
/// short runs.
#[test]
fn late_storage_rolls_nothing_back() {
    if let Some(seed) = number("SEED") {
        let report = late::run(seed, true);
        let report = report.unwrap_or_else(|wrong| panic!("SEED={seed}: {wrong}"));
        println!("SEED={seed}: {report}");
        return;
    }
    let seeds = number("SEEDS").unwrap_or(LATE_SEEDS);
    let run = |seed| late::run(seed, false);
    let total = run_all(seeds, "sim-lies", run, late::Report::add);
    assert!(total.is_met() || seeds < LATE_SEEDS, "never met: {total}");
}

/// Alone, without any other fault, they change nothing for whoever has business at the listener.
#[test]
fn strangers_hinder_no_validation() {
    let strangers =
        [Fault::StrangerGarbage, Fault::StrangerDrip, Fault::StrangerDeaf, Fault::StrangerSilent];
    let mut total = scenario::Report::default();
    for seed in 0..STRANGE_SEEDS {
        let report = scenario::run_with(seed, false, &Switches::only(&strangers));
        let report = report.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        assert_eq!(report.failed_validations, 0, "seed {seed}");
        total.add(&report);
    }
    assert!(total.certificates > 0 && strangers.iter().all(|kind| total.faults.of(*kind) > 0));
}

/// Apps that ask for more than their share; `SEEDS` and `SEED` as for the short runs.
#[test]
fn hostile_tenants_starve_nobody() {
    if let Some(seed) = number("SEED") {
        let report = tenants::run(seed, tenants::Size::FULL, true);
        let report = report.unwrap_or_else(|wrong| panic!("SEED={seed}: {wrong}"));
        println!("SEED={seed}: {report}");
        return;
    }
    let seeds = number("SEEDS");
    let size = if seeds.is_some() { tenants::Size::FULL } else { tenants::Size::SMALL };
    let seeds = seeds.unwrap_or(TENANT_SEEDS);
    let run = |seed| tenants::run(seed, size, false);
    let total = run_all(seeds, "sim-tenants", run, tenants::Report::add);
    assert!(total.is_met() || seeds < TENANT_SEEDS, "never met: {total}");
}

/// More renewals than the CA's limits would allow if these counted; `SEEDS` as for the short runs.
#[test]
fn no_renewal_is_held_back() {
    let full = number("SEEDS").is_some();
    for scene in year::SCENES {
        let seeds = number("SEEDS").unwrap_or(SCENE_SEEDS);
        let run = |seed| year::run_scene(scene, seed, full);
        let total = run_all(seeds, "sim-renewals", run, year::Report::add);
        assert!(total.renewals > 0 && total.budget_holds > 0, "{scene:?}: {total}");
    }
}

/// Whether a bug is noticed: seeds until one fails. `make sim-mutants` calls it for each of its bugs.
#[test]
#[ignore = "make sim-mutants calls it"]
fn until_caught() {
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let (next, caught) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let nothing_yet = || caught.lock().expect("no panic inside").is_empty();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while nothing_yet() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if let Err(wrong) = try_seed(|| scenario::run(seed, false)) {
                        caught.lock().expect("no panic inside").insert(seed, wrong);
                    }
                }
            });
        }
    });
    // Every seed below the first one that failed has ended well.
    if let Some((seed, wrong)) = caught.into_inner().expect("no panic inside").pop_first() {
        println!("CAUGHT {} {}", seed + 1, wrong.lines().next().unwrap_or_default());
    }
}

/// Without `SEEDS` and `SEED` it is a smaller year, since nothing may be optimized then.
#[test]
fn a_year_of_every_seed() {
    if let Some(seed) = number("SEED") {
        let report = year::run(seed, year::Size::FULL, true);
        let report = report.unwrap_or_else(|wrong| panic!("SEED={seed}: {wrong}"));
        println!("SEED={seed}: {report:?}");
        return;
    }
    let seeds = number("SEEDS");
    let size = if seeds.is_some() { year::Size::FULL } else { year::Size::SMALL };
    let seeds = seeds.unwrap_or(YEARS);
    let run = |seed| year::run(seed, size, false);
    let total = run_all(seeds, "sim-year", run, year::Report::add);
    assert!(total.all_faults_met() || seeds < ENOUGH_YEARS, "a fault was never met: {total:?}");
}

#[test]
fn a_seed_replays_to_the_byte() {
    let (first, second) = (scenario::run(1, false), scenario::run(1, false));
    assert_eq!(first, second);
    let size = year::Size { domains: 4, apps: 2, days: 5 };
    let (first, second) = (year::run(3, size, false), year::run(3, size, false));
    assert_eq!(first, second, "a short year");
}
