//! What must hold of certificates that are written: each load balancer that can be reached serves them, or
//! newer ones, within the delay of its storage, the time of its reload and half a minute; and no older
//! certificate is written over a newer one, but where a harmful file is in rollout.

use std::collections::BTreeMap;

use super::FIRST;
use crate::fronts::{Snapshot, Written};
use crate::network::{MILLISECOND, Nanos, SECOND};
use crate::world::World;

/// Beyond the delay of its storage and the time of a reload.
const SERVED: Nanos = 30 * SECOND;

/// A certificate that a load balancer must serve.
#[derive(Debug)]
struct Due {
    name: String,
    /// Its place among those that the CA has issued.
    number: usize,
    index: usize,
    written: Nanos,
    /// When its load balancer sees it.
    visible: Nanos,
}

/// The certificates that are written, and how far they have come.
#[derive(Debug)]
pub(super) struct Watch {
    /// For each load balancer since when it can be reached, if it can.
    up_since: Vec<Option<Nanos>>,
    /// The place of each certificate among those that the CA has issued.
    numbers: BTreeMap<Vec<u8>, usize>,
    /// What lies in `certs/` for each name.
    newest: BTreeMap<String, usize>,
    last: Option<Snapshot>,
    due: Vec<Due>,
    /// A harmful file is in rollout.
    pub(super) expects_rollback: bool,
    pub(super) rolled_back: u64,
    pub(super) overtaken: u64,
}

impl Watch {
    pub(super) fn new(balancers: usize) -> Watch {
        Watch {
            up_since: vec![Some(0); balancers],
            numbers: BTreeMap::new(),
            newest: BTreeMap::new(),
            last: None,
            due: Vec::new(),
            expects_rollback: false,
            rolled_back: 0,
            overtaken: 0,
        }
    }

    /// It cannot be reached from now on.
    pub(super) fn is_down(&mut self, index: usize) {
        self.up_since[index] = None;
    }

    /// It can be reached again.
    pub(super) fn is_back(&mut self, index: usize, now: Nanos) {
        self.up_since[index] = Some(now);
    }

    /// Whether everything is served by all.
    pub(super) fn is_served(&self) -> bool {
        self.due.is_empty()
    }

    /// Likewise, these left out.
    pub(super) fn is_served_but_by(&self, left_out: &[usize]) -> bool {
        self.due.iter().all(|due| left_out.contains(&due.index))
    }

    /// What lies in `certs/`.
    pub(super) fn directory(&self) -> Option<&Snapshot> {
        self.last.as_ref()
    }

    /// Takes in what was written and looks at what is served.
    pub(super) fn look(&mut self, world: &mut World) -> Result<(), String> {
        for (number, issued) in world.peers.ca.issued().iter().enumerate().skip(self.numbers.len())
        {
            self.numbers.insert(issued.der.clone(), number);
        }
        for written in world.fronts.take_written() {
            self.written(&written)?;
        }
        let mut due = std::mem::take(&mut self.due);
        due.retain(|due| self.number(&world.fronts.shows(due.index, &due.name)) < Some(due.number));
        self.due = due;
        self.due.iter().try_for_each(|due| self.check(world, due))
    }

    fn number(&self, der: &[u8]) -> Option<usize> {
        self.numbers.get(der).copied()
    }

    fn written(&mut self, Written { at, content, visible }: &Written) -> Result<(), String> {
        for (name, der) in content.iter().filter(|(name, _)| name.starts_with(FIRST)) {
            let before = self.newest.get(name).copied();
            let Some(number) = self.number(der).filter(|number| Some(*number) != before) else {
                continue;
            };
            self.newest.insert(name.clone(), number);
            if before > Some(number) {
                if !self.expects_rollback {
                    let seconds = at / SECOND;
                    return Err(format!("the certificate of {name} is rolled back at {seconds} s"));
                }
                self.rolled_back += 1;
                self.due.retain(|due| due.name != *name);
                continue;
            }
            self.overtaken += u64::from(self.due.iter().any(|due| due.name == *name));
            let due = |(index, visible): (&usize, &Nanos)| {
                let (index, visible) = (*index, *visible);
                Due { name: name.clone(), number, index, written: *at, visible }
            };
            self.due.extend(visible.iter().map(due));
        }
        self.last = Some(content.clone());
        Ok(())
    }

    fn check(&self, world: &World, due: &Due) -> Result<(), String> {
        // What harms those that load it need not be served.
        let Some(up_since) = self.up_since[due.index].filter(|_| !self.expects_rollback) else {
            return Ok(());
        };
        let reload = world.peers.lbs[due.index].settings.reload_ms * MILLISECOND;
        if world.now() <= due.visible.max(up_since) + reload + SERVED {
            return Ok(());
        }
        let Due { name, index, .. } = due;
        let (written, visible) = (due.written / SECOND, due.visible / SECOND);
        Err(format!(
            "load balancer {index} does not serve the certificate of {name} written at {written} s, \
             visible at {visible} s, reachable since {} s, with a reload of {} s, at {} s",
            up_since / SECOND,
            reload / SECOND,
            world.now() / SECOND
        ))
    }
}
