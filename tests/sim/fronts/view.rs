//! What a load balancer sees of `certs/` on shared storage: each content of the directory becomes visible
//! some time after it was written, as with the attribute caches of NFS. Contents become visible in the
//! order in which they were written. Reads no disk.

use std::collections::VecDeque;
use std::rc::Rc;

use stand_ins::random::Random;

use super::Directory;
use crate::network::Nanos;

/// Contents that one load balancer does not see yet, at most: more than that are written in no run.
const PENDING_MAX: usize = 64;

/// How long it takes until a load balancer sees what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// Always this long.
    Fixed(Nanos),
    /// A random time, drawn for each content, up to this one.
    UpTo(Nanos),
}

/// A content of the directory: names and leafs.
pub(crate) type Snapshot = Rc<Directory>;

/// The history of the directory as one load balancer sees it.
#[derive(Debug)]
pub(super) struct View {
    delay: Delay,
    visible: Snapshot,
    /// What becomes visible later, and when; in that order.
    pending: VecDeque<(Nanos, Snapshot)>,
}

impl View {
    /// Sees this from the start.
    pub(super) fn new(delay: Delay, visible: Snapshot) -> View {
        View { delay, visible, pending: VecDeque::new() }
    }

    /// The delay is this one for what is written from now on.
    pub(super) fn set_delay(&mut self, delay: Delay) {
        self.delay = delay;
    }

    /// The directory has this content now; returns when it becomes visible.
    pub(super) fn written(&mut self, now: Nanos, content: &Snapshot, chance: &mut Random) -> Nanos {
        let delay = match self.delay {
            Delay::Fixed(delay) => delay,
            Delay::UpTo(most) => chance.below(most + 1),
        };
        self.advance(now);
        assert!(self.pending.len() < PENDING_MAX, "too many contents for one history");
        let earliest = self.pending.back().map_or(0, |(at, _)| *at);
        let at = earliest.max(now + delay);
        self.pending.push_back((at, Rc::clone(content)));
        at
    }

    /// What it sees now.
    pub(super) fn at(&mut self, now: Nanos) -> Snapshot {
        self.advance(now);
        Rc::clone(&self.visible)
    }

    fn advance(&mut self, now: Nanos) {
        let due = self.pending.partition_point(|(at, _)| *at <= now);
        if let Some((_, content)) = self.pending.drain(..due).next_back() {
            self.visible = content;
        }
    }
}
