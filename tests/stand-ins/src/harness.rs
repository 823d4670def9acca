//! Steps a stand-in through time for its tests: one client, no sockets.

use std::collections::BTreeMap;

use crate::http::client::{self, Response};
use crate::peer::{Action, Peer, Time};

/// A stand-in with what it sent, by connection.
pub(crate) struct Harness<P> {
    pub(crate) peer: P,
    pub(crate) now: Time,
    pub(crate) sent: BTreeMap<u64, Vec<u8>>,
    pub(crate) writes: Vec<Vec<u8>>,
    pub(crate) ended: Vec<u64>,
    pub(crate) dialed: Vec<(u64, String, u16)>,
    conns: u64,
}

impl<P: Peer> Harness<P> {
    pub(crate) fn new(peer: P) -> Harness<P> {
        // 2026-11-23T17:00:00Z
        let now = Time { mono_ms: 1_000, unix_ms: 1_795_453_200_000 };
        let (sent, writes, ended, dialed) = Default::default();
        Harness { peer, now, sent, writes, ended, dialed, conns: 0 }
    }

    pub(crate) fn drain(&mut self) {
        while let Some(action) = self.peer.poll() {
            match action {
                Action::Send { conn, bytes } => {
                    self.sent.entry(conn).or_default().extend_from_slice(&bytes);
                    self.writes.push(bytes);
                }
                Action::Close { conn } => self.ended.push(conn),
                Action::Dial { conn, host, port } => self.dialed.push((conn, host, port)),
            }
        }
    }

    pub(crate) fn connect(&mut self) -> u64 {
        self.conns += 1;
        self.peer.accepted(self.now, self.conns);
        self.drain();
        self.conns
    }

    pub(crate) fn send(&mut self, conn: u64, bytes: &[u8]) {
        self.peer.received(self.now, conn, bytes);
        self.drain();
    }

    /// Lets time pass, waking the stand-in whenever it wants to be woken.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while let Some(due) = self.peer.next_timeout().filter(|due| *due <= end.mono_ms) {
            self.now = self.now.plus_ms(due.saturating_sub(self.now.mono_ms));
            self.peer.timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// What was sent on a connection since the last look, as text.
    pub(crate) fn text(&mut self, conn: u64) -> String {
        String::from_utf8(self.sent.remove(&conn).unwrap_or_default()).unwrap()
    }

    /// Sends a request on a new connection and reads the response.
    pub(crate) fn ask(&mut self, head: &str, body: &str) -> Response {
        let conn = self.connect();
        let request = format!("{head}\r\nHost: stand-in\r\n\r\n{body}");
        self.send(conn, request.as_bytes());
        let bytes = self.sent.remove(&conn).unwrap_or_default();
        let ended = self.ended.contains(&conn);
        client::response(&bytes, ended).unwrap().expect("a whole response").0
    }
}
