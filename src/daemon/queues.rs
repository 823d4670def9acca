//! How much waits in each of the daemon's queues: what may never grow without bound, whatever the
//! peers do. Only the simulator reads it, after each input, so the linker leaves it out of the
//! released binary. Must never decide anything.

use super::Daemon;

/// How much waits in each queue, after an iteration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Requests on their way to peers.
    pub requests: usize,
    /// News of requests that nobody has taken.
    pub news: usize,
    /// Connections kept for a next request.
    pub kept_connections: usize,
    /// Bytes of the event stream that are no whole event yet.
    pub stream_bytes: usize,
    /// Bytes of the list of apps that are no whole app yet.
    pub apps_bytes: usize,
    /// Nonces in the bank.
    pub nonces: usize,
    /// Signed calls that wait for a nonce.
    pub calls_without_nonce: usize,
    /// The most often that a call which is on its way was refused for its nonce.
    pub bad_nonces: u32,
    /// Orders that the CA is at, or that are about to begin.
    pub orders_open: usize,
    /// Orders that wait for room.
    pub orders_waiting: usize,
    /// Questions about renewals that wait.
    pub questions_waiting: usize,
    /// Changes that the disk has not answered.
    pub writes: usize,
    /// Lines that were not handed to the log.
    pub log_lines: usize,
}

impl Daemon {
    /// How much waits in each queue.
    pub fn queues(&self) -> Queues {
        let mut queues = Queues {
            requests: self.client.requests(),
            news: self.client.events(),
            kept_connections: self.client.kept_connections(),
            writes: self.storage.writes_under_way(),
            log_lines: self.log.len(),
            ..Queues::default()
        };
        self.watcher.measure(&mut queues);
        self.issuer.measure(&mut queues);
        queues
    }
}
