//! What every machine is handed for one turn: the time, the door to chance and keys, and the log.

use crate::keys::Keys;
use crate::log::Record;
use crate::time::Now;

/// One turn of the daemon. Machines take it as `turn: &mut Turn<'_>` and keep nothing of it.
pub struct Turn<'a> {
    /// Read once, before the turn.
    pub now: Now,
    /// Randomness and private keys.
    pub keys: &'a mut dyn Keys,
    /// What is to be said to the operator, in order.
    pub log: &'a mut Vec<Record>,
}

impl Turn<'_> {
    /// Says something to the operator.
    pub fn log(&mut self, record: Record) {
        self.log.push(record);
    }
}
