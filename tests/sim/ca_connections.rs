//! What passed on each connection with the CA, by the CA's number for it. Never judges it: that is
//! [`crate::invariants`].

use std::collections::BTreeMap;

use crate::network::Nanos;

/// See the module.
#[derive(Default)]
pub(crate) struct CaConnections {
    /// How many bytes the daemon had in all, and when.
    heard: BTreeMap<u64, Vec<(u64, Nanos)>>,
    /// When the daemon closed it, or its process ended.
    left: BTreeMap<u64, Nanos>,
    /// The machine whose daemon sent something.
    senders: BTreeMap<u64, usize>,
}

impl CaConnections {
    /// The daemon gets so many bytes.
    pub(crate) fn hears(&mut self, number: u64, bytes: usize, now: Nanos) {
        let pieces = self.heard.entry(number).or_default();
        let before = pieces.last().map_or(0, |(total, _)| *total);
        pieces.push((before + bytes as u64, now));
    }

    /// The daemon of a machine sends something.
    pub(crate) fn sends(&mut self, number: u64, machine: usize) {
        self.senders.insert(number, machine);
    }

    /// The daemon has nothing more to do with it.
    pub(crate) fn leaves(&mut self, number: u64, now: Nanos) {
        self.left.insert(number, now);
    }

    /// When the daemon had so many bytes.
    pub(crate) fn heard_at(&self, number: u64, bytes: u64) -> Option<Nanos> {
        let pieces = self.heard.get(&number)?;
        pieces.iter().find(|(total, _)| *total >= bytes).map(|(_, at)| *at)
    }

    /// When the daemon left it, if it did: what comes on it later was sent before.
    pub(crate) fn left_at(&self, number: u64) -> Option<Nanos> {
        self.left.get(&number).copied()
    }

    /// The machine whose daemon has sent something.
    pub(crate) fn sender(&self, number: u64) -> Option<usize> {
        self.senders.get(&number).copied()
    }
}
