//! One TCP connection, with TLS on it or without: bytes in and out as far as the socket takes them,
//! never blocking. Decides nothing but how much may wait in memory.
//!
//! `Connecting → (Handshaking →) Open → Lingering`, each of which may end; in the clear also
//! `Open → Handshaking`.

use std::io::{self, ErrorKind, Read as _, Write as _};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::net::{SendFlags, send, sockopt};
use rustls::ClientConnection;
use zeroize::Zeroizing;

use crate::machine::{CloseReason, ConnId};
use crate::secret::SecretBytes;

pub(super) mod linger;

use linger::Linger;

/// A connection of ours reads at most this in one iteration, so that others get theirs.
const READ_BYTES_PER_TURN: usize = 256 * 1024;
/// An accepted one reads at most this: what is pipelined is answered before more of it is read.
const ACCEPTED_BYTES_PER_TURN: usize = 512;
/// While more than this waits to be sent, nothing is read: a peer that never reads gets no more answers.
const UNSENT_BYTES_MAX: usize = 16 * 1024;

/// A connection.
pub(super) struct Conn {
    pub(super) id: ConnId,
    stream: TcpStream,
    wire: Wire,
    state: State,
    /// Identifies its events, once the system watches it.
    pub(super) token: Option<Token>,
    /// What the system watches it for, once it does.
    interest: Option<Interest>,
    /// It has a turn next: something happened to it, or its last turn did not allow all it wanted.
    pub(super) due: bool,
    /// Nothing is there to read until the system says so again.
    drained: bool,
    /// The system has said that the peer's end is there, perhaps behind its last bytes.
    ending: bool,
    /// The peer's end was read. Who came to us may still hear.
    ended: bool,
    /// What it has said last was not answered, and so not acknowledged.
    unanswered: bool,
    /// The peer's certificate is told, instead of that the connection stands.
    presents: bool,
}

enum Wire {
    /// What waits may bear credentials.
    Plain {
        unsent: Zeroizing<Vec<u8>>,
    },
    Tls(Box<ClientConnection>),
}

impl Wire {
    fn tls(mut tls: ClientConnection) -> Wire {
        // Requests are small, and a response is asked for before the next one.
        tls.set_buffer_limit(None);
        Wire::Tls(Box::new(tls))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Handshaking,
    Open,
    /// We have closed; what was sent leaves, what comes is dropped.
    Lingering(Linger),
}

/// What a connection has to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Connected,
    /// TLS stands with a peer that nobody judges; this is its certificate.
    Presented(Vec<u8>),
    Received(Vec<u8>),
    /// A peer that came to us says no more.
    Finished,
    Closed(CloseReason),
}

/// Where a turn of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Until the socket is ready again.
    Ready,
    /// Until its next turn: more may be there to read.
    Context,
    /// For good.
    Gone,
}

impl Conn {
    /// A connection that a peer made.
    pub(super) fn accepted(id: ConnId, stream: TcpStream) -> Conn {
        let wire = Wire::Plain { unsent: Zeroizing::default() };
        Conn::new(id, stream, wire, State::Open)
    }

    /// A connection under way to a peer.
    pub(super) fn dialed(id: ConnId, stream: TcpStream, tls: Option<ClientConnection>) -> Conn {
        let wire = match tls {
            None => Wire::Plain { unsent: Zeroizing::default() },
            Some(tls) => Wire::tls(tls),
        };
        Conn::new(id, stream, wire, State::Connecting)
    }

    fn new(id: ConnId, stream: TcpStream, wire: Wire, state: State) -> Conn {
        let (token, interest) = (None, None);
        let (due, drained, ending, ended) = (false, false, false, false);
        let (unanswered, presents) = (false, false);
        Conn {
            id,
            stream,
            wire,
            state,
            token,
            interest,
            due,
            drained,
            ending,
            ended,
            unanswered,
            presents,
        }
    }

    /// The same, which tells the peer's certificate once TLS stands.
    pub(super) fn presenting(self, presents: bool) -> Conn {
        Conn { presents, ..self }
    }

    /// Has the system tell when it can continue: when bytes come, and while something waits to be sent,
    /// when they can leave. What is true already is told too.
    pub(super) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let wanted = if self.state == State::Connecting || self.has_unsent() {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        match self.interest.replace(wanted) {
            Some(watched) if watched == wanted => Ok(()),
            Some(_) => registry.reregister(&mut self.stream, token, wanted),
            None => registry.register(&mut self.stream, token, wanted),
        }
    }

    /// The system has something to tell of it; whether that is the end of the peer's bytes.
    pub(super) fn ready(&mut self, ending: bool) {
        self.drained = false;
        self.ending |= ending;
    }

    /// Whether nothing is there to read until the system says so again.
    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Whether the daemon is done with it, and hears no more of it.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Lingering(_))
    }

    /// Starts TLS on an open connection; what comes from now on is TLS.
    pub(super) fn secure(&mut self, tls: ClientConnection) -> Result<(), CloseReason> {
        match &self.wire {
            // What is left would be said inside of TLS or not at all: the peer has answered too soon.
            Wire::Plain { unsent } if unsent.is_empty() && self.state == State::Open => {
                self.wire = Wire::tls(tls);
                self.state = State::Handshaking;
                Ok(())
            }
            _ => Err(CloseReason::Tls("it cannot begin on this connection now".into())),
        }
    }

    /// Takes bytes to send.
    pub(super) fn send(&mut self, bytes: SecretBytes) {
        self.unanswered = false;
        match &mut self.wire {
            Wire::Plain { unsent } if unsent.is_empty() => *unsent = bytes.into_zeroizing(),
            Wire::Plain { unsent } => unsent.extend_from_slice(&bytes),
            Wire::Tls(tls) => {
                // Without a limit of its buffer it takes all.
                let _ = tls.writer().write_all(&bytes);
            }
        }
    }

    /// Acknowledges what a client has said, where no answer does so: that is a part of a request, as a
    /// rule, and the peer may hold the rest of it back until then (RFC 896).
    pub(super) fn acknowledge(&mut self) {
        if matches!(self.id, ConnId::Accepted(_))
            && std::mem::take(&mut self.unanswered)
            && !self.ended
        {
            // Else the system does so by itself, a little later.
            let _ = sockopt::set_tcp_quickack(&self.stream, true);
        }
    }

    /// Does what the socket allows.
    pub(super) fn cx(&mut self, news: &mut Vec<News>) -> Pause {
        match self.try_turn(news) {
            Ok(pause) => pause,
            Err(reason) => {
                if !self.is_closed() {
                    news.push(News::Closed(reason));
                }
                Pause::Gone
            }
        }
    }

    fn try_turn(&mut self, news: &mut Vec<News>) -> Result<Pause, CloseReason> {
        if self.state == State::Connecting && !self.finish_connecting(news)? {
            return Ok(Pause::Ready);
        }
        let has_sent = self.flush()?;
        if self.is_closed() {
            return self.linger(has_sent);
        }
        let pause = self.read(news)?;
        // What was read may have to be answered by TLS itself. Without TLS nothing more can leave, and
        // if it could, nothing would tell that the reading may continue.
        if matches!(self.wire, Wire::Tls(_)) {
            self.flush()?;
        }
        Ok(pause)
    }

    /// Whether the connection stands; readiness is only a hint.
    fn finish_connecting(&mut self, news: &mut Vec<News>) -> Result<bool, CloseReason> {
        if let Some(error) = self.stream.take_error().map_err(|error| reason(&error))? {
            return Err(reason(&error));
        }
        match self.stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(reason(&error)),
        }
        self.state = match &self.wire {
            Wire::Plain { .. } => {
                news.push(News::Connected);
                State::Open
            }
            Wire::Tls(_) => State::Handshaking,
        };
        Ok(true)
    }

    /// Whether something waits to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        match &self.wire {
            Wire::Plain { unsent } => !unsent.is_empty(),
            Wire::Tls(tls) => tls.wants_write(),
        }
    }

    /// Memory that a client's answers take which wait to be sent, in bytes.
    pub(super) fn unsent_bytes(&self) -> usize {
        match &self.wire {
            Wire::Plain { unsent } => unsent.capacity(),
            Wire::Tls(_) => 0,
        }
    }

    /// Sends what the socket takes; whether that was anything.
    fn flush(&mut self) -> Result<bool, CloseReason> {
        let mut has_sent = false;
        // Where the end follows, it leaves in the same packet, and until then none may leave.
        let more = if self.is_closed() { SendFlags::MORE } else { SendFlags::empty() };
        let flags = SendFlags::NOSIGNAL | more;
        while self.has_unsent() {
            let written = match &mut self.wire {
                Wire::Plain { unsent } => send(&self.stream, unsent, flags)
                    .inspect(|length| {
                        unsent.drain(..*length);
                        if unsent.is_empty() {
                            // A connection may stand for weeks: wiped, and given back.
                            *unsent = Zeroizing::default();
                        }
                    })
                    .map_err(io::Error::from),
                Wire::Tls(tls) => tls.write_tls(&mut self.stream),
            };
            match written {
                Ok(_) => has_sent = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(reason(&error)),
            }
        }
        Ok(has_sent)
    }

    /// In the clear, a read that finds less than it asks for has found all: the next bytes, and an end
    /// that comes later, are an event of their own (epoll(7)). That saves every second call.
    fn read(&mut self, news: &mut Vec<News>) -> Result<Pause, CloseReason> {
        let is_plain = matches!(self.wire, Wire::Plain { .. });
        if is_plain && self.drained {
            return Ok(Pause::Ready);
        }
        let (mut small, mut large);
        let (buffer, mut left): (&mut [u8], usize) = match self.id {
            ConnId::Accepted(_) => {
                small = [0; ACCEPTED_BYTES_PER_TURN];
                (&mut small, ACCEPTED_BYTES_PER_TURN)
            }
            ConnId::Dialed(_) => {
                large = [0; 16 * 1024];
                (&mut large, READ_BYTES_PER_TURN)
            }
        };
        while left > 0 {
            if let Wire::Plain { unsent } = &self.wire
                && unsent.len() > UNSENT_BYTES_MAX
            {
                // It goes on when the socket takes bytes again.
                return Ok(Pause::Ready);
            }
            let end = left.min(buffer.len());
            let length = match &mut self.wire {
                Wire::Plain { .. } => self.stream.read(buffer.get_mut(..end).unwrap_or_default()),
                Wire::Tls(tls) => tls.read_tls(&mut self.stream),
            };
            match length {
                Ok(0) => return self.end(news),
                Ok(length) => {
                    left = left.saturating_sub(length);
                    self.take_in(buffer.get(..length).unwrap_or_default(), news)?;
                    if is_plain && length < end && !self.ending {
                        self.drained = true;
                        return Ok(Pause::Ready);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.drained = true;
                    return Ok(Pause::Ready);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(reason(&error)),
            }
        }
        Ok(Pause::Context)
    }

    fn take_in(&mut self, plain: &[u8], news: &mut Vec<News>) -> Result<(), CloseReason> {
        let Wire::Tls(tls) = &mut self.wire else {
            self.unanswered = true;
            news.push(News::Received(plain.to_vec()));
            return Ok(());
        };
        let processed = tls.process_new_packets();
        if processed.is_err() {
            // The alert may still reach the peer.
            let _ = tls.write_tls(&mut self.stream);
        }
        let to_read = processed.map_err(|error| CloseReason::Tls(error.to_string()))?;
        if self.state == State::Handshaking && !tls.is_handshaking() {
            self.state = State::Open;
            news.push(match tls.peer_certificates().and_then(<[_]>::first) {
                Some(certificate) if self.presents => News::Presented(certificate.to_vec()),
                _ => News::Connected,
            });
        }
        if to_read.plaintext_bytes_to_read() > 0 {
            let mut bytes = vec![0; to_read.plaintext_bytes_to_read()];
            // Exactly so much is there.
            let length = tls.reader().read(&mut bytes).unwrap_or(0);
            bytes.truncate(length);
            news.push(News::Received(bytes));
        }
        Ok(())
    }

    /// What the end of the peer's bytes means. Who came to us may wait for an answer yet, and says by a
    /// reset that it is gone.
    fn end(&mut self, news: &mut Vec<News>) -> Result<Pause, CloseReason> {
        Err(match (&mut self.wire, self.state, self.id) {
            (Wire::Tls(_), State::Handshaking, _) => {
                CloseReason::Tls("the peer closed the connection during the handshake".into())
            }
            (Wire::Tls(tls), ..) => match tls.process_new_packets() {
                Ok(state) if state.peer_has_closed() => CloseReason::Finished,
                _ => CloseReason::Truncated,
            },
            (Wire::Plain { .. }, _, ConnId::Dialed(_)) => CloseReason::Finished,
            (Wire::Plain { .. }, _, ConnId::Accepted(_)) => {
                self.drained = true;
                if !std::mem::replace(&mut self.ended, true) {
                    news.push(News::Finished);
                }
                return Ok(Pause::Ready);
            }
        })
    }
}

/// The system's error as the daemon's reason.
pub(super) fn reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        ErrorKind::ConnectionRefused => CloseReason::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            CloseReason::Reset
        }
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable
        | ErrorKind::TimedOut
        | ErrorKind::InvalidInput
        | ErrorKind::Unsupported => CloseReason::Unreachable,
        _ if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
            CloseReason::Unreachable
        }
        _ => CloseReason::Local(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
