//! The daemon: told what happened, says what to do. No I/O, no clock, no chance of its own.

pub mod transport;
