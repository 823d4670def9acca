//! A stand-in whose every received byte is kept, as it was before TLS: for what must not be among them.

use stand_ins::peer::{Action, DialError, Peer, Time};

/// The stand-in, and what it heard.
pub(crate) struct Recorder<P> {
    pub(crate) peer: P,
    pub(crate) heard: Vec<u8>,
}

impl<P> Recorder<P> {
    pub(crate) fn new(peer: P) -> Recorder<P> {
        Recorder { peer, heard: Vec::new() }
    }
}

impl<P: Peer> Peer for Recorder<P> {
    fn refuses(&self) -> bool {
        self.peer.refuses()
    }

    fn accepted(&mut self, now: Time, conn: u64) {
        self.peer.accepted(now, conn);
    }

    fn dialed(&mut self, now: Time, conn: u64, result: Result<(), DialError>) {
        self.peer.dialed(now, conn, result);
    }

    fn received(&mut self, now: Time, conn: u64, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        self.peer.received(now, conn, bytes);
    }

    fn closed(&mut self, now: Time, conn: u64) {
        self.peer.closed(now, conn);
    }

    fn timeout(&mut self, now: Time) {
        self.peer.timeout(now);
    }

    fn next_timeout(&self) -> Option<u64> {
        self.peer.next_timeout()
    }

    fn poll(&mut self) -> Option<Action> {
        self.peer.poll()
    }
}
