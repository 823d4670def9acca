//! Stand-ins for the daemon's peers.
