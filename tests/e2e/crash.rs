//! A daemon that is killed again and again with Pebble and HAProxy running, at moments of chance and
//! in the middle of its writes. Whatever it leaves behind, HAProxy can load it, every file is whole,
//! and the next daemon goes on.
//!
//! `KILLS=500` says how often, `SEED=7` plays the same moments again, as far as a real system does.
//!
//! The last run of five hundred, on two processors: 501 daemons were killed, 462 of them had taken over
//! what was left before, 182 kills left an unfinished file, 137 came right after a file had got its
//! name, 23 within a move to the archive; 643 orders, 160 certificates archived, nothing lost.

mod watch;
mod whole;

use std::collections::BTreeSet;
use std::env;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use marathon_acme::log::message::STORAGE_OPENED;
use rustix::fs::inotify::ReadFlags;
use serde_json::json;
use stand_ins::random::Random;
use stand_ins::tls::shown;

use crate::process::{Outcome, Process, Signal, expect, get, local, wait_until};
use crate::proof::within;
use crate::real_site::RealSite;
use crate::site::{Site, text};
use crate::trace::injected;
use crate::{Test, Tool};

use watch::{Change, Folder, Watch};
use whole::Whole;

pub(crate) use whole::{certificate, entries};

pub(crate) const TESTS: &[Test] = &[(
    "a_daemon_that_is_killed_again_and_again_loses_nothing",
    &[Tool::Pebble, Tool::HaProxy, Tool::Strace],
    killed,
)];

/// How often the daemon is killed where `KILLS` says nothing.
const KILLS: u64 = 15;
/// So many kills meet writes.
const ENOUGH_KILLS: usize = 100;
/// Certificates are valid for so long: each is renewed every few seconds.
const VALID_SECONDS: u64 = 15;
/// What nobody wants goes to the archive four seconds after its end.
const PRUNE_AFTER: &str = "--prune-after=0.00005";
/// Apps, each of which wants one of the domains, or none.
const APPS: u64 = 6;
const DOMAINS: u64 = 16;
/// A daemon whose moment does not come is killed after this.
const LIFE_MAX: Duration = Duration::from_secs(2);
/// An app that was deployed again and again, each time to have a failed order tried again, waits longer each
/// time: up to so long after as many minutes.
const CHANGE_PAUSE: Duration = Duration::from_secs(10 * 60);
/// The pause before each step of a write where the daemon is killed at one.
const PAUSE_MICROS: u32 = 2000;

/// When a daemon is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After so long.
    After(Duration),
    /// At the change of that number, counted from its start.
    Change(u64),
    /// At such a change of that number in a folder.
    In(Folder, ReadFlags, u64),
}

impl Moment {
    fn draw(random: &mut Random) -> Moment {
        // Most come early, so that most come at all.
        let many = |random: &mut Random, most| random.between(1, most).min(random.between(1, most));
        match random.below(10) {
            0 => Moment::After(Duration::from_millis(random.between(10, 1500))),
            1..=4 => Moment::Change(many(random, 60)),
            5 | 6 => Moment::In(Folder::Tmp, ReadFlags::CREATE, many(random, 16)),
            7 => Moment::In(Folder::Challenges, ReadFlags::MOVED_TO, random.between(1, 3)),
            8 => Moment::In(Folder::Archive, ReadFlags::CREATE, 1),
            _ => Moment::In(Folder::Certs, ReadFlags::MOVED_TO, random.between(1, 3)),
        }
    }
}

/// What happened so far.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    /// Daemons that had taken over what the one before had left.
    recovered: usize,
    /// Those whose moment had not come within [`LIFE_MAX`].
    moments_missed: usize,
    /// Kills that left a file in `tmp/`, and those where it had no content yet.
    in_a_write: usize,
    before_its_content: usize,
    /// Kills right after a file had got its name, before that was flushed.
    at_a_name: usize,
    /// Kills between the two halves of a move to the archive.
    half_archived: usize,
    changes_seen: usize,
    haproxy_checks: usize,
}

/// The site, and what has become of it.
struct Yard {
    real: RealSite,
    random: Random,
    /// The domain that each app wants.
    wanted: Vec<Option<u64>>,
    watch: Watch,
    whole: Whole,
    tally: Tally,
}

fn domain(number: u64) -> String {
    format!("n{number}.example.com")
}

/// The daemon, which pauses before each step of a write: else it is done with the whole of it before
/// anyone could act on what is seen.
fn slowed() -> Command {
    injected("fchmod,fsync,rename,linkat,unlink", &format!("delay_enter={PAUSE_MICROS}"))
}

fn number(variable: &str) -> Outcome<Option<u64>> {
    let value = env::var(variable).ok();
    let parsed = value.map(|text| text.parse().map_err(|_| format!("{variable}={text}")));
    parsed.transpose()
}

fn killed() -> Outcome {
    let kills = number("KILLS")?.unwrap_or(KILLS);
    let seconds = SystemTime::UNIX_EPOCH.elapsed().map_err(text)?.as_secs();
    let seed = number("SEED")?.unwrap_or(seconds);
    println!("SEED={seed} KILLS={kills}");
    let short = json!({"certificateValidityPeriod": VALID_SECONDS});
    let environment = [("PEBBLE_AUTHZREUSE", "0"), ("PEBBLE_WFE_NONCEREJECT", "5")];
    let (real, mut daemon) = RealSite::start(&environment, &short, &[PRUNE_AFTER])?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(Duration::from_secs(2))?;
    let (watch, whole) = (Watch::start(&real.site.storage)?, Whole::new(&real.site.storage)?);
    let (random, wanted) = (Random::new(seed), vec![None; APPS as usize]);
    let mut yard = Yard { real, random, wanted, watch, whole, tally: Tally::default() };
    for life in 0..kills {
        let moment = Moment::draw(&mut yard.random);
        yard.live(moment).map_err(|error| format!("life {life} ({moment:?}): {error}"))?;
    }
    yard.end_well()?;
    let (orders, archived) = (yard.real.pebble.orders(), yard.whole.archived());
    let Tally { kills, in_a_write, .. } = yard.tally;
    println!("{:?}, {orders} orders, {archived} certificates archived", yard.tally);
    let often = kills < ENOUGH_KILLS || in_a_write * 10 > kills;
    expect(often, || format!("only {in_a_write} of {kills} kills were in a write"))
}

impl Yard {
    /// One daemon, from its start until it is killed at its moment, and what it has left.
    fn live(&mut self, moment: Moment) -> Outcome {
        self.stir();
        let mut command = match moment {
            Moment::After(_) => Site::command(),
            Moment::Change(_) | Moment::In(..) => slowed(),
        };
        command.args(&self.real.arguments);
        let mut daemon = Process::start(self.real.site.folder(), "killed", &mut command)?;
        let at = self.wait_for(moment, &daemon)?;
        let status = daemon.wait(Duration::from_secs(5))?;
        let output = daemon.output();
        expect(status.code().is_none(), || format!("it ended itself: {status}\n{output}"))?;
        self.judge(at, output.contains(&format!("storage  {STORAGE_OPENED}")))
            .map_err(|error| format!("{error}\n{output}"))
    }

    /// Waits until the moment has come, and kills; the change at which that was, if at one.
    fn wait_for(&mut self, moment: Moment, daemon: &Process) -> Outcome<Option<Change>> {
        let limit = match moment {
            Moment::After(pause) => pause,
            Moment::Change(_) | Moment::In(..) => LIFE_MAX,
        };
        let until = Instant::now() + limit;
        let (mut changes, mut there) = (0, 0);
        let stir_at = self.random.between(1, 60);
        while let Some(change) = self.watch.next(until)? {
            changes += 1;
            self.tally.changes_seen += 1;
            let come = match moment {
                Moment::After(_) => false,
                Moment::Change(count) => changes == count,
                Moment::In(folder, kind, count) => {
                    there += u64::from(change.folder == folder && change.kind == kind);
                    there == count
                }
            };
            if come {
                daemon.signal(Signal::KILL)?;
                return Ok(Some(change));
            }
            if changes == stir_at {
                self.stir();
            }
        }
        daemon.signal(Signal::KILL)?;
        self.tally.moments_missed += usize::from(!matches!(moment, Moment::After(_)));
        Ok(None)
    }

    /// Looks at what a killed daemon has left. `at` is the change at which it was killed.
    fn judge(&mut self, mut at: Option<Change>, opened: bool) -> Outcome {
        while self.watch.next(Instant::now())?.is_some() {
            self.tally.changes_seen += 1;
            at = None;
        }
        let found = self.whole.check()?;
        self.real.haproxy.check()?;
        let tally = &mut self.tally;
        tally.kills += 1;
        tally.haproxy_checks += 1;
        tally.recovered += usize::from(opened);
        tally.in_a_write += usize::from(found.unfinished > 0);
        tally.before_its_content += usize::from(found.empty > 0);
        tally.half_archived += usize::from(found.half_archived > 0);
        tally.at_a_name += usize::from(at.is_some_and(|change| change.is_final()));
        Ok(())
    }

    /// Marathon's apps come, change, go and are started again.
    fn stir(&mut self) {
        for _ in 0..2 {
            let app = self.random.below(APPS);
            let slot = usize::try_from(app).unwrap_or(0);
            match (self.wanted[slot], self.random.below(10)) {
                (Some(_), 0..=5) => {}
                (Some(_), 6) => self.wanted[slot] = None,
                _ => {
                    let new = Some(self.random.below(DOMAINS));
                    if !self.wanted.contains(&new) {
                        self.wanted[slot] = new;
                    }
                }
            }
            self.deploy(slot);
        }
    }

    /// Starts an app as it is wanted, again where it runs already: what an end that nobody saw has put
    /// off is due again then.
    fn deploy(&self, slot: usize) {
        let id = format!("/app{slot}");
        match self.wanted[slot] {
            Some(number) => self.real.site.deploy(&id, &domain(number)),
            None => {
                self.real.site.marathon.with(|marathon, now| marathon.delete_app(now, &id));
            }
        }
    }

    /// A daemon that is let alone brings everything to its end.
    fn end_well(&mut self) -> Outcome {
        for slot in 0..self.wanted.len() {
            self.deploy(slot);
        }
        let RealSite { site, haproxy, arguments, trust, .. } = &self.real;
        let daemon = site.daemon("last", arguments, &[])?;
        let said = |error: String| format!("{error}\n{}", daemon.output());
        let wanted: BTreeSet<u64> = self.wanted.iter().flatten().copied().collect();
        expect(!wanted.is_empty(), || "nothing is wanted".into())?;
        for number in wanted {
            let domain = domain(number);
            let served = || shown(local(haproxy.https_port), &domain, trust).is_ok();
            within(CHANGE_PAUSE, &format!("HAProxy serves {domain}"), served).map_err(said)?;
        }
        for folder in [Folder::Challenges, Folder::Tmp] {
            let path = site.storage.join(folder.path());
            let empty = || entries(&path).is_ok_and(|names| names.is_empty()).then_some(());
            wait_until(&format!("nothing is left in {folder:?}"), empty).map_err(said)?;
        }
        let health = || get(site.port, "/health").ok().filter(|it| it.contains("\"ok\""));
        let shown = |error| said(format!("{error}: {:?}", get(site.port, "/health")));
        wait_until("the health is good", health).map_err(shown)?;
        drop(daemon);
        self.judge(None, true)
    }
}
