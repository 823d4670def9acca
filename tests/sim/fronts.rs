//! What the load balancers serve on port 443: each what lay in `certs/` when it last started a process,
//! unless it lies. A lie is of the kind that real ones tell: 200 and no reload, a reload to an old
//! directory, a crash on a file, a restart with what its storage was long ago. Where its storage shows new
//! files late ([`view`]), it loads what it sees.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use marathon_acme::pki::Bundle;
use stand_ins::random::Random;

use crate::disk::Disk;
use crate::faults::{Fault, Toll};
use crate::network::Nanos;

mod view;

use view::View;
pub(crate) use view::{Delay, Snapshot};

/// The port on which they speak TLS.
pub(crate) const PORT: u16 = 443;

/// Leafs as DER, by the names that they are served for.
pub(crate) type Directory = BTreeMap<String, Vec<u8>>;

/// What a load balancer does with what lies in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// So many reloads see the directory as it was before.
    OldDirectory(u32),
    /// Whatever is new keeps it from reloading, and it says 200.
    Refuses,
    /// It ends with all its ports when it loads what is new, until it is repaired or `certs/` has another
    /// content.
    Crashes,
    /// It fails the handshake for the names of whatever is new, until it is gone.
    FailsHandshakes,
    /// From its next reload on it serves `default.pem` for every name, until it is repaired.
    Broken,
    /// From its next reload on it fails every handshake, until it is repaired.
    Alerts,
    /// From its next reload on it runs and does not listen for TLS, until it is repaired.
    Deaf,
}

/// One load balancer.
#[derive(Debug, Default)]
struct Server {
    /// Reloads that were taken into account.
    reloads: usize,
    serves: Directory,
    /// Long ago.
    old: Directory,
    lie: Option<Lie>,
    /// The content of `certs/` that made it end.
    crashed: Option<Directory>,
    /// The names for which it serves `default.pem`.
    defaulted: BTreeSet<String>,
    /// The names for which the handshake fails.
    failing: BTreeSet<String>,
    /// It does not listen for TLS.
    is_deaf: bool,
    /// Where its storage shows new files late.
    view: Option<View>,
}

/// A content of `certs/`, recorded while any storage shows new files late.
#[derive(Debug)]
pub(crate) struct Written {
    /// When it was written.
    pub(crate) at: Nanos,
    /// What it is.
    pub(crate) content: Snapshot,
    /// When each load balancer sees it.
    pub(crate) visible: BTreeMap<usize, Nanos>,
}

impl Server {
    /// Whether a file that it has loaded harms it now.
    fn is_harmed(&self) -> bool {
        !self.failing.is_empty()
    }

    fn recover(&mut self) {
        self.crashed = None;
        self.defaulted.clear();
        self.failing.clear();
    }
}

/// All of them, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Fronts {
    each: BTreeMap<usize, Server>,
    pub(crate) toll: Toll,
    /// What was written, until somebody takes it; the last one stays.
    written: Vec<Written>,
    last: Snapshot,
    /// Reloads that loaded something older than what was written last.
    pub(crate) late_reloads: u64,
    /// Those that have loaded a file that harms them, since they were healed.
    pub(crate) harmed: BTreeSet<usize>,
}

/// What lies in `certs/` now. Of two files for one name the first one counts.
pub(crate) fn directory(disk: &Disk) -> Directory {
    let mut found = Directory::new();
    let mut names = disk.names("certs");
    names.sort();
    for pem in names.iter().filter_map(|name| disk.text("certs", name)) {
        let Ok(bundle) = Bundle::parse(&pem) else { continue };
        for name in &bundle.leaf().names {
            found.entry(name.clone()).or_insert_with(|| bundle.leaf_der().to_vec());
        }
    }
    found
}

impl Fronts {
    fn get(&mut self, index: usize) -> &mut Server {
        self.each.entry(index).or_default()
    }

    /// From now on this one sees what is written so much later.
    pub(crate) fn delay(&mut self, index: usize, delay: Delay) {
        let last = Rc::clone(&self.last);
        match &mut self.get(index).view {
            Some(view) => view.set_delay(delay),
            none => *none = Some(View::new(delay, last)),
        }
    }

    /// Whether any storage shows new files late, so that what is written is recorded.
    pub(crate) fn keeps_history(&self) -> bool {
        self.each.values().any(|front| front.view.is_some())
    }

    /// `certs/` has this content now.
    pub(crate) fn written(&mut self, now: Nanos, content: Directory, chance: &mut Random) {
        if *self.last == content {
            return;
        }
        self.last = Rc::new(content);
        let mut visible = BTreeMap::new();
        for (index, front) in &mut self.each {
            if let Some(view) = &mut front.view {
                visible.insert(*index, view.written(now, &self.last, chance));
            }
        }
        let content = Rc::clone(&self.last);
        self.written.push(Written { at: now, content, visible });
    }

    /// What was written since this was called last.
    pub(crate) fn take_written(&mut self) -> Vec<Written> {
        std::mem::take(&mut self.written)
    }

    /// What it sees in `certs/`, where its storage shows new files late.
    pub(crate) fn visible(&mut self, index: usize, now: Nanos) -> Option<Snapshot> {
        self.get(index).view.as_mut().map(|view| view.at(now))
    }

    /// From now on it lies.
    pub(crate) fn lie(&mut self, index: usize, lie: Lie) {
        self.get(index).lie = Some(lie);
    }

    /// It was started again, and has what was there long ago; nobody told it to.
    pub(crate) fn restart_stale(&mut self, index: usize) {
        let front = self.get(index);
        if front.serves != front.old {
            front.serves = front.old.clone();
            front.recover();
            self.toll.count(Fault::LbStale);
        }
    }

    /// All of them are honest again; those that have ended are started again, with what is there.
    pub(crate) fn heal(&mut self, now: &Directory) {
        self.harmed.clear();
        for front in self.each.values_mut() {
            front.lie = None;
            let is_harmed = front.is_harmed() || !front.defaulted.is_empty();
            front.recover();
            front.is_deaf = false;
            if is_harmed {
                front.serves = now.clone();
            }
        }
    }

    /// Whether a signal that comes now brings about nothing.
    pub(crate) fn refuses(&mut self, index: usize, now: impl FnOnce() -> Directory) -> bool {
        let front = self.get(index);
        let refuses = front.lie == Some(Lie::Refuses) && front.serves != now();
        if refuses {
            self.toll.count(Fault::LbRefuses);
        }
        refuses
    }

    /// It has reloaded so often: what it serves now.
    pub(crate) fn reloaded(
        &mut self,
        index: usize,
        reloads: usize,
        now: impl FnOnce() -> Directory,
    ) {
        let front = self.get(index);
        if front.reloads >= reloads {
            return;
        }
        let now = &now();
        front.reloads = reloads;
        front.recover();
        front.is_deaf = front.lie == Some(Lie::Deaf);
        if front.view.is_some() && *now != *self.last {
            self.late_reloads += 1;
        }
        let front = self.get(index);
        match &mut front.lie {
            Some(Lie::OldDirectory(times)) if *times > 0 && front.serves != *now => {
                *times -= 1;
                self.toll.count(Fault::LbOldDirectory);
            }
            Some(Lie::Crashes) if front.serves != *now => {
                front.crashed = Some(now.clone());
                self.toll.count(Fault::LbCrash);
            }
            Some(Lie::FailsHandshakes) if front.serves != *now => {
                let is_new =
                    |(name, leaf): &(&String, &Vec<u8>)| front.serves.get(*name) != Some(leaf);
                front.failing = now.iter().filter(is_new).map(|(name, _)| name.clone()).collect();
                self.harmed.insert(index);
            }
            Some(Lie::Broken) => {
                front.defaulted = front.serves.keys().chain(now.keys()).cloned().collect();
            }
            Some(Lie::Alerts) => {
                front.failing = front.serves.keys().chain(now.keys()).cloned().collect();
            }
            Some(Lie::Deaf) => {}
            _ => {
                let before = std::mem::replace(&mut front.serves, now.clone());
                if before != *now {
                    front.old = before;
                }
            }
        }
    }

    /// One that has ended is started again: it stays where `certs/` has another content `now`.
    pub(crate) fn start_again(&mut self, index: usize, now: impl FnOnce() -> Directory) {
        if let Some(front) = self.each.get_mut(&index)
            && let Some(crashed) = &front.crashed
        {
            let now = now();
            if now != *crashed {
                (front.crashed, front.serves) = (None, now);
            }
        }
    }

    /// It is repaired, and loads what it sees with its next reload.
    pub(crate) fn repair(&mut self, index: usize) {
        let front = self.get(index);
        (front.lie, front.crashed) = (None, None);
    }

    /// Whether nobody listens there for TLS.
    pub(crate) fn is_deaf(&self, index: usize) -> bool {
        self.each.get(&index).is_some_and(|front| front.is_deaf)
    }

    /// Whether nobody listens there.
    pub(crate) fn is_down(&self, index: usize) -> bool {
        self.each.get(&index).is_some_and(|front| front.crashed.is_some())
    }

    /// Whether a file that it has loaded harms it now.
    pub(crate) fn is_harmed(&self, index: usize) -> bool {
        self.each.get(&index).is_some_and(Server::is_harmed)
    }

    /// Whether the handshake for this name fails.
    pub(crate) fn fails(&self, index: usize, name: &str) -> bool {
        self.each.get(&index).is_some_and(|front| front.failing.contains(name))
    }

    /// What it shows for a name: `default.pem` when it has none for it.
    pub(crate) fn shows(&self, index: usize, name: &str) -> Vec<u8> {
        let front = self.each.get(&index).filter(|front| !front.defaulted.contains(name));
        let served = front.and_then(|front| front.serves.get(name));
        served.cloned().unwrap_or_else(|| b"default.pem".to_vec())
    }
}
