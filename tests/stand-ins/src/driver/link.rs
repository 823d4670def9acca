//! One real connection, plain or TLS, as a driver writes to it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

/// The writing side of a socket and, with TLS, what stands between it and the peer.
pub(super) struct Link {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
}

impl Link {
    pub(super) fn accepted(
        stream: &TcpStream,
        tls: Option<&Arc<ServerConfig>>,
        patience: Duration,
    ) -> io::Result<Link> {
        let stream = stream.try_clone()?;
        // Two writes of a peer stay two segments where the network lets them.
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(patience))?;
        let tls = match tls {
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config));
                Some(Box::new(session.map_err(io::Error::other)?))
            }
            None => None,
        };
        Ok(Link { stream, tls })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(session) => {
                session.writer().write_all(bytes)?;
                flush(session, &mut self.stream)
            }
        }
    }

    /// Turns what came over the wire into what the peer is told; answers handshakes on the way.
    pub(super) fn opened(&mut self, mut wire: &[u8]) -> io::Result<Vec<u8>> {
        let Some(session) = &mut self.tls else { return Ok(wire.to_vec()) };
        let mut plain = Vec::new();
        while !wire.is_empty() {
            session.read_tls(&mut wire)?;
            let state = session.process_new_packets();
            // An alert for the client may wait, also when the session has failed.
            flush(session, &mut self.stream)?;
            let waiting = state.map_err(io::Error::other)?.plaintext_bytes_to_read();
            let start = plain.len();
            plain.resize(start + waiting, 0);
            session.reader().read_exact(&mut plain[start..])?;
        }
        Ok(plain)
    }

    /// Says that nothing more comes.
    pub(super) fn finish(&mut self) {
        if let Some(session) = &mut self.tls {
            session.send_close_notify();
            let _ = flush(session, &mut self.stream);
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        // A client that never closes its side must not keep the reader forever.
        let _ = self.stream.set_read_timeout(Some(Duration::from_secs(2)));
    }

    /// Ends it now; the reader wakes up.
    pub(super) fn cut(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn flush(session: &mut ServerConnection, stream: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(stream)?;
    }
    Ok(())
}
