//! The loop: sockets, TLS, disk, clocks, signals, randomness. Decides nothing.

pub mod keys;
pub mod storage;
