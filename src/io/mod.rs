//! The loop: sockets, TLS, disk, clocks, signals, randomness. Decides nothing.
