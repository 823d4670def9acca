//! Why a request got no response, in words that an operator can act on: whom we wanted, by which proxy,
//! at which address, what happened. Never a credential: an [`crate::url::Origin`] holds none, and a
//! [`crate::proxy::Proxy`] does not show its own.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::dns::DnsError;
use crate::hint::{Complaint, Hint};
use crate::http::{HttpError, RequestError};
use crate::machine::{CloseReason, Trust};

/// A request that failed, or a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// Scheme, host and port; for a lookup the host alone.
    pub peer: String,
    /// The proxy by which the peer was to be reached, as `http://host:port`.
    pub proxy: Option<String>,
    /// The address that was talked to, the proxy's where there is one, once there was one.
    pub address: Option<SocketAddr>,
    /// What went wrong.
    pub fault: Fault,
}

/// What went wrong, in the order in which it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot be written down: our fault.
    Request(RequestError),
    /// The host's addresses could not be learned.
    Dns(DnsError),
    /// None of the host's addresses let us connect: each that was tried, in order.
    Connect(Vec<Attempt>),
    /// The proxy does not let us through, or not to there: the status of its own answer.
    Proxy(u16),
    /// The proxy's answer to CONNECT is no answer.
    ProxyHttp(HttpError),
    /// It took too long.
    Timeout {
        /// What did not come in time.
        awaited: Awaited,
        /// The limit.
        limit: Duration,
    },
    /// The connection ended before the response did.
    Closed(CloseReason),
    /// The peer does not speak HTTP as it should.
    Http(HttpError),
    /// The body is larger than the caller takes.
    TooLarge {
        /// The caller's limit.
        limit_bytes: usize,
    },
}

/// What a time limit was for. (Connecting too slowly is an [`Attempt`].)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The host's addresses.
    Addresses,
    /// The response's head.
    Head,
    /// The whole of the body.
    Body,
    /// The next piece of a streamed body.
    Piece,
}

/// An address that could not be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub address: SocketAddr,
    /// `None`: there was no answer in time.
    pub reason: Option<CloseReason>,
}

/// The alert unrecognized_name, in the TLS library's words.
const UNRECOGNIZED: &str = ": UnrecognisedName";

impl ClientError {
    /// Whether trying again soon is of little use (RFC 9773 section 4.3.3): the peer's name does not
    /// resolve, or nobody listens at any of its addresses. What took too long may go faster the next
    /// time, and a proxy that is not there says nothing of the peer.
    pub fn is_lasting(&self) -> bool {
        self.proxy.is_none() && self.fault.is_lasting()
    }

    /// Whether the peer was reached, and its answer did not come or is of no use.
    pub fn is_reached(&self) -> bool {
        matches!(
            self.fault,
            Fault::Timeout { awaited: Awaited::Head | Awaited::Body, .. }
                | Fault::Http(_)
                | Fault::TooLarge { .. }
        )
    }

    /// Whether the peer took the connection, and ended it or failed the TLS handshake.
    pub fn is_connected(&self) -> bool {
        use CloseReason::{Finished, Reset, Tls, Truncated};
        let Fault::Connect(attempts) = &self.fault else { return false };
        let taken = |it: &Attempt| matches!(it.reason, Some(Finished | Truncated | Reset | Tls(_)));
        attempts.iter().any(taken)
    }

    /// Whether the peer says in the TLS handshake that it has no certificate for the name (RFC 6066
    /// section 3).
    pub fn lacks_name(&self) -> bool {
        let Fault::Connect(attempts) = &self.fault else { return false };
        attempts.iter().any(|attempt| match &attempt.reason {
            Some(CloseReason::Tls(text)) => text.ends_with(UNRECOGNIZED),
            _ => false,
        })
    }

    /// Its words, with what may help a peer that is trusted so.
    pub fn complaint(&self, trust: Trust) -> Complaint {
        let hint = if self.proxy.is_some() && self.fault.is_the_first_hops() {
            Some(Hint::Proxy)
        } else {
            self.fault.hint(trust)
        };
        Complaint::new(self.to_string(), hint)
    }
}

impl Fault {
    pub(super) const fn timeout(awaited: Awaited, limit: Duration) -> Fault {
        Fault::Timeout { awaited, limit }
    }

    /// Whether it happened on the way to whom we connect to, or is that one's own doing: a proxy's, where
    /// there is one. TLS is never spoken with a proxy.
    fn is_the_first_hops(&self) -> bool {
        let is_tls = |attempt: &Attempt| matches!(attempt.reason, Some(CloseReason::Tls(_)));
        match self {
            Fault::Dns(_) | Fault::Proxy(_) | Fault::ProxyHttp(_) => true,
            Fault::Timeout { awaited, .. } => *awaited == Awaited::Addresses,
            Fault::Connect(attempts) => !attempts.iter().any(is_tls),
            Fault::Request(_) | Fault::Closed(_) | Fault::Http(_) | Fault::TooLarge { .. } => false,
        }
    }

    fn hint(&self, trust: Trust) -> Option<Hint> {
        match self {
            Fault::Dns(DnsError::NoSuchName { .. } | DnsError::NoAddress { .. }) => {
                Some(Hint::NameUnknown)
            }
            Fault::Dns(DnsError::ServerFailure { .. } | DnsError::NoReply { .. })
            | Fault::Timeout { awaited: Awaited::Addresses, .. } => Some(Hint::Resolver),
            Fault::Connect(attempts) => {
                let ends = attempts.iter().map(|attempt| attempt.reason.as_ref());
                Hint::of_connecting(ends, trust)
            }
            Fault::Closed(CloseReason::Tls(text)) => Hint::of_tls(text, trust),
            _ => None,
        }
    }

    /// Whether it would happen again, as far as can be told.
    fn is_lasting(&self) -> bool {
        match self {
            Fault::Dns(error) => !matches!(error, DnsError::NoReply { .. }),
            Fault::Connect(attempts) => {
                attempts.iter().all(|attempt| attempt.reason == Some(CloseReason::Refused))
            }
            _ => false,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer)?;
        if let Some(proxy) = &self.proxy {
            let relation = if self.fault.is_the_first_hops() { ": proxy" } else { " by proxy" };
            write!(f, "{relation} {proxy}")?;
        }
        if let Some(address) = self.address {
            write!(f, " ({address})")?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for ClientError {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Request(error) => error.fmt(f),
            Fault::Dns(error) => error.fmt(f),
            Fault::Connect(attempts) if attempts.is_empty() => f.write_str("it has no address"),
            Fault::Connect(attempts) => {
                f.write_str("cannot connect: ")?;
                for (index, attempt) in attempts.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{attempt}")?;
                }
                Ok(())
            }
            Fault::Proxy(status) => write!(f, "status {status}: {}", refusal(*status)),
            Fault::ProxyHttp(error) => error.fmt(f),
            Fault::Timeout { awaited, limit } => write!(f, "{awaited} within {limit:.1?}"),
            Fault::Closed(reason) => write!(f, "{reason} before the response was complete"),
            Fault::Http(error) => error.fmt(f),
            Fault::TooLarge { limit_bytes } => {
                write!(f, "the response is larger than {limit_bytes} bytes")
            }
        }
    }
}

/// What a proxy's refusal means, in words that tell what to do.
fn refusal(status: u16) -> &'static str {
    match status {
        407 => "user and password in the proxy's URL are missing or wrong",
        401 | 403 => "it does not allow this",
        400 | 404 | 405 | 501 => "is this the URL of an HTTP proxy?",
        502..=504 => "it does not reach the other end",
        _ => "it makes no tunnel",
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Awaited::Addresses => "its name was not resolved",
            Awaited::Head => "it did not answer",
            Awaited::Body => "its response did not end",
            Awaited::Piece => "nothing more came",
        })
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{}: {reason}", self.address),
            None => write!(f, "{}: no answer in time", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_resolve_and_ports_that_nobody_listens_at_last() {
        let server = [192, 0, 2, 1].into();
        let attempt = |reason| Attempt { address: ([192, 0, 2, 2], 443).into(), reason };
        let refused = || attempt(Some(CloseReason::Refused));
        let lasting = [
            Fault::Dns(DnsError::NoSuchName { server }),
            Fault::Dns(DnsError::NoAddress { server }),
            Fault::Dns(DnsError::ServerFailure { replies: vec![] }),
            Fault::Connect(vec![]),
            Fault::Connect(vec![refused(), refused()]),
        ];
        assert!(lasting.iter().all(Fault::is_lasting));
        let passing = [
            Fault::Dns(DnsError::NoReply { replies: vec![] }),
            Fault::Connect(vec![refused(), attempt(None)]),
            Fault::Connect(vec![attempt(Some(CloseReason::Reset))]),
            Fault::timeout(Awaited::Head, Duration::from_secs(1)),
            Fault::Closed(CloseReason::Reset),
        ];
        assert!(!passing.iter().any(Fault::is_lasting));
        let error = |proxy: Option<&str>| {
            let (proxy, fault) = (proxy.map(Into::into), lasting[4].clone());
            ClientError { peer: "https://ca.example".into(), proxy, address: None, fault }
        };
        assert!(error(None).is_lasting() && !error(Some("http://proxy:3128")).is_lasting());
    }

    #[test]
    fn what_may_help_goes_by_the_fault_and_by_whose_it_is() {
        let server = [192, 0, 2, 1].into();
        let attempt = |reason| Attempt { address: ([192, 0, 2, 2], 443).into(), reason };
        let tls = || CloseReason::Tls("invalid peer certificate: UnknownIssuer".into());
        let silence = Fault::timeout(Awaited::Head, Duration::from_secs(1));
        let cases = [
            (Fault::Dns(DnsError::NoSuchName { server }), Some(Hint::NameUnknown)),
            (Fault::Dns(DnsError::NoReply { replies: vec![] }), Some(Hint::Resolver)),
            (Fault::Connect(vec![attempt(Some(CloseReason::Refused))]), Some(Hint::PeerRefused)),
            (Fault::Connect(vec![attempt(Some(tls()))]), Some(Hint::MarathonCa)),
            (Fault::Closed(tls()), Some(Hint::MarathonCa)),
            (silence, None),
            (Fault::Proxy(407), None),
        ];
        for (fault, expected) in cases {
            let by = |proxy: Option<&str>| {
                let (proxy, fault) = (proxy.map(Into::into), fault.clone());
                let error = ClientError { peer: "x".into(), proxy, address: None, fault };
                error.complaint(Trust::Marathon).hint
            };
            assert_eq!(by(None), expected, "{fault}");
            let proxys = fault.is_the_first_hops();
            let expected = if proxys { Some(Hint::Proxy) } else { expected };
            assert_eq!(by(Some("http://proxy:3128")), expected, "{fault}");
        }
    }
}
