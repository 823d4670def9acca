//! Why a lookup failed, and what each name server replied. Must never say that no name server answered
//! when one did: the operator would look for a network fault that does not exist.

use std::fmt;
use std::net::IpAddr;

use crate::machine::CloseReason;

/// Response codes (RFC 1035 section 4.1.1) by their names in the IANA registry of DNS RCODEs.
const CODE_NAMES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

/// What one name server replied to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A response with this code.
    Code(u8),
    /// A response without an address of the requested family.
    NoAddress,
    /// A response by TCP that is no answer to the query.
    Malformed,
    /// Nothing within the server's share of the time.
    Silent,
    /// The server could not be reached, such as by ECONNREFUSED.
    Failed(CloseReason),
}

/// What name servers replied, in the order of the replies, each distinct one once.
pub type Replies = Vec<(IpAddr, Reply)>;

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// It can be no DNS name.
    BadName,
    /// The name servers know no such name.
    NoSuchName {
        /// The one that said so.
        server: IpAddr,
    },
    /// The name is there, but has no address.
    NoAddress {
        /// The name server that said so.
        server: IpAddr,
    },
    /// At least one name server answered, but none with a result.
    ServerFailure {
        /// What each replied.
        replies: Replies,
    },
    /// No name server answered: each was silent or could not be reached.
    NoReply {
        /// How each failed.
        replies: Replies,
    },
}

impl Reply {
    /// Whether the server is there and sent a DNS response.
    fn is_answer(&self) -> bool {
        !matches!(self, Reply::Silent | Reply::Failed(_))
    }
}

impl DnsError {
    /// The error of a query or lookup that all name servers failed.
    pub(super) fn of_replies(replies: Replies) -> DnsError {
        if replies.iter().any(|(_, reply)| reply.is_answer()) {
            DnsError::ServerFailure { replies }
        } else {
            DnsError::NoReply { replies }
        }
    }

    /// This error, with all that name servers replied in the course of the lookup.
    pub(super) fn with_replies(self, replies: Replies) -> DnsError {
        match self {
            DnsError::ServerFailure { .. } | DnsError::NoReply { .. } => {
                DnsError::of_replies(replies)
            }
            found => found,
        }
    }

    /// How much an error tells an operator: a server's trouble more than a missing name.
    pub(super) fn weight(&self) -> u8 {
        match self {
            DnsError::BadName => 0,
            DnsError::NoSuchName { .. } => 1,
            DnsError::NoAddress { .. } => 2,
            DnsError::ServerFailure { .. } => 3,
            DnsError::NoReply { .. } => 4,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Code(code) => match CODE_NAMES.get(usize::from(*code)) {
                Some(name) => f.write_str(name),
                None => write!(f, "response code {code}"),
            },
            Reply::NoAddress => f.write_str("no address"),
            Reply::Malformed => f.write_str("malformed response"),
            Reply::Silent => f.write_str("no reply"),
            Reply::Failed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, replies) = match self {
            DnsError::BadName => return f.write_str("it can be no DNS name"),
            DnsError::NoSuchName { server } => return write!(f, "no such name (says {server})"),
            DnsError::NoAddress { server } => {
                return write!(f, "it has no address (says {server})");
            }
            DnsError::ServerFailure { replies } => ("the name servers failed", replies),
            DnsError::NoReply { replies } => ("no name server answered", replies),
        };
        f.write_str(text)?;
        for (index, (server, reply)) in replies.iter().enumerate() {
            let separator = if index == 0 { " (" } else { "; " };
            write!(f, "{separator}{server}: {reply}")?;
        }
        f.write_str(if replies.is_empty() { "" } else { ")" })
    }
}

impl std::error::Error for DnsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_server_answered_is_said_only_when_none_did() {
        let server = |last| IpAddr::from([10, 0, 0, last]);
        let refused = || (server(1), Reply::Failed(CloseReason::Refused));
        let silent = || (server(2), Reply::Silent);
        let none = DnsError::of_replies(vec![refused(), silent()]);
        assert_eq!(
            none.to_string(),
            "no name server answered (10.0.0.1: the connection was refused; 10.0.0.2: no reply)"
        );
        assert_eq!(DnsError::of_replies(vec![]).to_string(), "no name server answered");
        for (reply, text) in [
            (Reply::Code(2), "SERVFAIL"),
            (Reply::Code(3), "NXDOMAIN"),
            (Reply::Code(5), "REFUSED"),
            (Reply::Code(9), "response code 9"),
            (Reply::NoAddress, "no address"),
            (Reply::Malformed, "malformed response"),
        ] {
            let some = DnsError::of_replies(vec![silent(), (server(3), reply)]);
            let expected =
                format!("the name servers failed (10.0.0.2: no reply; 10.0.0.3: {text})");
            assert_eq!(some.to_string(), expected);
        }
    }
}
