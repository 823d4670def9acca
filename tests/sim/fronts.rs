//! What the load balancers serve on port 443: each what lay in `certs/` when it last started a process,
//! unless it lies. A lie is of the kind that real ones tell: 200 and no reload, a reload to an old
//! directory, a crash on a file, a restart with what its storage was long ago.

use std::collections::BTreeMap;

use marathon_acme::pki::Bundle;

use crate::disk::Disk;
use crate::faults::{Fault, Toll};

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
    /// Whatever is new makes it end, until it is gone.
    Crashes,
}

/// One load balancer.
#[derive(Debug, Default)]
struct Front {
    /// Reloads that were taken into account.
    reloads: usize,
    serves: Directory,
    /// Long ago.
    old: Directory,
    lie: Option<Lie>,
    crashed: bool,
}

/// All of them, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Fronts {
    each: BTreeMap<usize, Front>,
    pub(crate) toll: Toll,
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
    fn get(&mut self, index: usize) -> &mut Front {
        self.each.entry(index).or_default()
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
            front.crashed = false;
            self.toll.count(Fault::LbStale);
        }
    }

    /// All of them are honest again; those that have ended are started again, with what is there.
    pub(crate) fn heal(&mut self, now: &Directory) {
        for front in self.each.values_mut() {
            front.lie = None;
            if std::mem::take(&mut front.crashed) {
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
        front.crashed = false;
        match &mut front.lie {
            Some(Lie::OldDirectory(times)) if *times > 0 && front.serves != *now => {
                *times -= 1;
                self.toll.count(Fault::LbOldDirectory);
            }
            Some(Lie::Crashes) if front.serves != *now => {
                front.crashed = true;
                self.toll.count(Fault::LbCrash);
            }
            _ => {
                let before = std::mem::replace(&mut front.serves, now.clone());
                if before != *now {
                    front.old = before;
                }
            }
        }
    }

    /// Whether nobody listens there for TLS.
    pub(crate) fn is_down(&self, index: usize) -> bool {
        self.each.get(&index).is_some_and(|front| front.crashed)
    }

    /// What it shows for a name: `default.pem` when it has none for it.
    pub(crate) fn shows(&self, index: usize, name: &str) -> Vec<u8> {
        let served = self.each.get(&index).and_then(|front| front.serves.get(name));
        served.cloned().unwrap_or_else(|| b"default.pem".to_vec())
    }
}
