//! What the client wants done, in order, and the numbers it gives to connections and sockets.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::machine::{ConnId, Output, SocketId, Tls};
use crate::secret::SecretBytes;

/// Collects outputs. Numbers only go up: a late input cannot hit another connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    outputs: VecDeque<Output>,
    conns: u64,
    sockets: u64,
}

impl Outbox {
    pub(super) fn connect(&mut self, to: SocketAddr, tls: Option<Tls>) -> ConnId {
        self.conns += 1;
        let conn = ConnId::Dialed(self.conns);
        self.outputs.push_back(Output::Connect { conn, to, tls });
        conn
    }

    pub(super) fn secure(&mut self, conn: ConnId, tls: Tls) {
        self.outputs.push_back(Output::Secure { conn, tls });
    }

    pub(super) fn new_socket(&mut self) -> SocketId {
        self.sockets += 1;
        SocketId(self.sockets)
    }

    pub(super) fn send(&mut self, conn: ConnId, bytes: SecretBytes) {
        self.outputs.push_back(Output::Send { conn, bytes });
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        self.outputs.push_back(Output::Close { conn, peer_is_done: false });
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
