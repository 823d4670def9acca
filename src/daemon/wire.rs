//! For unit tests of the parts that send requests: the client's other end, by hand. Connections
//! stand at once; requests come out as text, answers go in as text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::client::{Client, ClientEvent, RequestId};
use crate::daemon::owner::Owner;
use crate::machine::{CloseReason, ConnId, Load, Output, Tls, Trust};
use crate::testing::Bench;

/// A client, the time, and what waits to be answered.
pub(crate) struct Wire {
    pub(crate) bench: Bench,
    pub(crate) client: Client<Owner>,
    /// What `/etc/hosts` says; the only way in which a name is resolved here.
    pub(crate) hosts: String,
    /// Addresses at which nobody listens.
    pub(crate) refusing: BTreeSet<IpAddr>,
    connections: BTreeMap<ConnId, SocketAddr>,
    /// Handshakes whose certificate was not shown yet: where, and for which name.
    pub(crate) glances: BTreeMap<ConnId, (SocketAddr, String)>,
}

/// A request that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) conn: ConnId,
    pub(crate) to: SocketAddr,
    /// Head and body.
    pub(crate) text: String,
}

impl Sent {
    /// Whether it begins so: `GET /v2/apps`.
    pub(crate) fn is(&self, beginning: &str) -> bool {
        self.text.starts_with(beginning)
    }
}

impl Wire {
    pub(crate) fn new() -> Wire {
        let (bench, client) = (Bench::new(), Client::default());
        let (hosts, refusing) = (String::new(), BTreeSet::new());
        let (connections, glances) = (BTreeMap::new(), BTreeMap::new());
        Wire { bench, client, hosts, refusing, connections, glances }
    }

    /// What was sent since the last look.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Connect { conn, to, tls: Some(Tls { server, trust: Trust::Unjudged }) } => {
                    self.connections.insert(conn, to);
                    self.glances.insert(conn, (to, server.to_string()));
                }
                Output::Connect { conn, to, .. } => {
                    self.connections.insert(conn, to);
                    if self.refusing.contains(&to.ip()) {
                        self.close(conn, CloseReason::Refused);
                    } else {
                        self.client.handle_connected(&mut self.bench.cx(), conn);
                    }
                }
                Output::Send { conn, bytes } => {
                    let text =
                        String::from_utf8(bytes.to_vec()).expect("a request of a test is text");
                    sent.push(Sent { conn, to: self.connections[&conn], text });
                }
                Output::Close { conn, .. } => {
                    self.connections.remove(&conn);
                    self.glances.remove(&conn);
                }
                Output::Load(Load::NameService) => {
                    let Wire { bench, client, hosts, .. } = self;
                    client.handle_name_service(&mut bench.cx(), b"", hosts.as_bytes());
                }
                // Other lookups are the client's own tests' matter.
                _ => {}
            }
        }
        sent
    }

    pub(crate) fn answer(&mut self, conn: ConnId, text: &str) {
        self.client.handle_received(&mut self.bench.cx(), conn, text.as_bytes());
    }

    pub(crate) fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.connections.remove(&conn);
        self.glances.remove(&conn);
        self.client.handle_closed(&mut self.bench.cx(), conn, reason);
    }

    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        self.connections.contains_key(&conn)
    }

    pub(crate) fn event(&mut self) -> Option<(Owner, RequestId, ClientEvent)> {
        self.client.poll_event()
    }

    pub(crate) fn pass(&mut self, duration: Duration) {
        self.bench.pass(duration);
        self.client.handle_timeout(&mut self.bench.cx());
    }
}

/// A whole answer with a counted body.
pub(crate) fn counted(status: u16, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
