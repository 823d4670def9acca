//! What the resolver requires to be done, and how its lookups and queries are named. Data only.

use std::net::{IpAddr, SocketAddr};

use super::error::DnsError;

/// Names a lookup; the caller's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// Names a question on its way; each has a socket of its own, so that its port is of chance, too
/// (RFC 5452 section 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// What the resolver wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum ResolverOutput {
    /// Send a datagram; the first one of a query opens its socket.
    Datagram {
        /// Whose socket.
        query: QueryId,
        /// The name server.
        to: SocketAddr,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Close the query's socket.
    CloseDatagram {
        /// Whose socket.
        query: QueryId,
    },
    /// Open a TCP connection.
    OpenStream {
        /// Whose connection.
        query: QueryId,
        /// The name server.
        to: SocketAddr,
    },
    /// Send on the query's connection.
    SendStream {
        /// Whose connection.
        query: QueryId,
        /// The message with its length in front (RFC 1035 section 4.2.2).
        bytes: Vec<u8>,
    },
    /// Close the query's connection.
    CloseStream {
        /// Whose connection.
        query: QueryId,
    },
    /// A lookup is over.
    Answer {
        /// Which.
        lookup: LookupId,
        /// At least one address, IPv6 and IPv4 by turns.
        result: Result<Vec<IpAddr>, DnsError>,
    },
}
