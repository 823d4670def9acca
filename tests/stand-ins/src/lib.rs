//! Stand-ins for the peers of marathon-acme: Marathon, a certificate authority that speaks ACME
//! (RFC 8555), and marathon-lb. Written apart from the program and without its code, so that a
//! misreading on one side does not hide the same misreading on the other.
//!
//! Each stand-in is a [`Peer`]: bytes and time in, bytes out. It opens no socket, reads no clock
//! and draws no chance of its own, so the same stand-in serves in the simulator, where a whole year
//! replays from one seed, and behind a real socket, where [`driver`] moves the bytes.
//! [`wait`] is for peers that are not played.
//!
//! | stand-in | for |
//! |---|---|
//! | [`marathon::Marathon`] | `/v2/events`, `/v2/apps` and their troubles |
//! | [`ca::Ca`] | a strict RFC 8555 server that really validates and really issues |
//! | [`lb::LoadBalancer`] | marathon-lb's signals and HAProxy's pids on port 9090 |
//! | [`marathon_lb::written`] | the HAProxy configuration that marathon-lb makes of apps |
//! | [`front::TlsFront`] | the load balancer's port 443 |

pub mod ca;
pub mod date;
pub mod driver;
pub mod front;
pub mod http;
pub mod lb;
pub mod marathon;
pub mod marathon_lb;
pub mod peer;
pub mod pki;
pub mod random;
pub mod seeded;
pub mod tls;
pub mod wait;

#[cfg(test)]
mod harness;

pub use peer::{Action, DialError, FIRST_DIALED, Peer, Time};
