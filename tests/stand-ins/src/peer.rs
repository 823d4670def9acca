//! What a stand-in is: a server as a pure machine, fed with what happened and asked what to do.
//! Nothing here may know whether the bytes cross a socket or a simulated network.

/// From this number on a connection was dialed by the peer, below it accepted by the driver.
pub const FIRST_DIALED: u64 = 1 << 63;

/// The time of one step: one clock that never jumps, and one that says what day it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Milliseconds since any fixed moment; never goes back.
    pub mono_ms: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: i64,
}

impl Time {
    /// This time, `ms` later on both clocks.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Time {
        let wall = i64::try_from(ms).unwrap_or(i64::MAX);
        Time {
            mono_ms: self.mono_ms.saturating_add(ms),
            unix_ms: self.unix_ms.saturating_add(wall),
        }
    }
}

/// What a peer wants done. Actions are carried out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends bytes, at least one. Two of them stay two writes.
    Send {
        /// An open connection.
        conn: u64,
        /// What to send.
        bytes: Vec<u8>,
    },
    /// Ends a connection in order once everything sent has left.
    Close {
        /// What comes from it afterwards is ignored.
        conn: u64,
    },
    /// Opens a plain TCP connection; answered by [`Peer::dialed`].
    Dial {
        /// The new connection, from [`FIRST_DIALED`] on.
        conn: u64,
        /// A host name or an IP address; the driver resolves it.
        host: String,
        /// A TCP port.
        port: u16,
    },
}

/// Why a connection that a peer asked for could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialError {
    /// The name has no address.
    UnknownHost,
    /// Nobody listens there.
    Refused,
    /// No way there, or no answer in time.
    Unreachable,
}

/// A server that may also dial out, as a CA does to validate.
///
/// After each call [`Peer::poll`] is asked until it has nothing more. Calls about connections that
/// are gone already do nothing.
pub trait Peer {
    /// Whether new connections are refused at present. Asked before [`Peer::accepted`]; a driver
    /// that cannot refuse any more calls `accepted` and the peer closes at once.
    fn refuses(&self) -> bool {
        false
    }

    /// A client connected; the driver numbers it, below [`FIRST_DIALED`] and never twice.
    fn accepted(&mut self, now: Time, conn: u64);

    /// The outcome of an [`Action::Dial`].
    fn dialed(&mut self, now: Time, conn: u64, result: Result<(), DialError>);

    /// Bytes came, split anywhere.
    fn received(&mut self, now: Time, conn: u64, bytes: &[u8]);

    /// The other side ended the connection.
    fn closed(&mut self, now: Time, conn: u64);

    /// The instant of [`Peer::next_timeout`] has come; early or twice does no harm.
    fn timeout(&mut self, now: Time);

    /// When to call [`Peer::timeout`], in [`Time::mono_ms`].
    fn next_timeout(&self) -> Option<u64>;

    /// The next thing to do.
    fn poll(&mut self) -> Option<Action>;
}
