//! What every machine is handed for one input: the time, the door to chance and keys, and the log.

use crate::keys::Keys;
use crate::log::Record;
use crate::time::Now;

/// One input of the daemon. Machines take it as `cx: &mut Context<'_>` and keep nothing of it.
pub struct Context<'a> {
    /// Read once, before the input is handled.
    pub now: Now,
    /// Randomness and private keys.
    pub keys: &'a mut dyn Keys,
    /// What is to be said to the operator, in order.
    pub log: &'a mut Vec<Record>,
}

impl Context<'_> {
    /// Says something to the operator.
    pub fn log(&mut self, record: Record) {
        self.log.push(record);
    }
}
