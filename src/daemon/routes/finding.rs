//! What was found on the way of a challenge, in words for an operator. From answers and faults to advice;
//! what nothing can be told by is no finding.

use std::net::IpAddr;

use crate::challenge::route::Answered;
use crate::client::{Awaited, Fault};
use crate::dns::DnsError;
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::machine::CloseReason;
use crate::url::Host;

/// So much is shown of where a redirect leads, in characters.
const LOCATION_CHARS_MAX: usize = 200;

/// One thing that is amiss, at the addresses where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whose challenge it is.
    pub domain: Domain,
    /// Whose addresses these are.
    pub place: Place,
    /// None where the name has none.
    pub addresses: Vec<IpAddr>,
    /// What is amiss.
    pub complaint: Complaint,
    /// It was said already, for every domain.
    pub said: bool,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The name servers have it for the domain.
    Domain,
    /// It is a load balancer's, which the domain's may lead to.
    Balancer,
}

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// We answer.
    Ours,
    /// Nothing can be told by it.
    Untold,
    /// What is amiss.
    Amiss(Complaint),
    /// Likewise, and it was said already.
    Said(Complaint),
}

impl Place {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Place::Domain => "domain",
            Place::Balancer => "load balancer",
        }
    }

    /// As a log line names it.
    pub(super) fn field(self) -> &'static str {
        match self {
            Place::Domain => "address",
            Place::Balancer => "lb",
        }
    }
}

impl Finding {
    /// The addresses, in one text.
    pub fn listed(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        addresses.join(",")
    }
}

impl Outcome {
    /// This one, where a redirect has led to that host.
    pub(super) fn behind(self, host: &Host) -> Outcome {
        match self {
            Outcome::Amiss(Complaint { text, hint }) => {
                Outcome::Amiss(Complaint::new(format!("redirected to {host}: {text}"), hint))
            }
            other => other,
        }
    }

    /// This one, for an address in a private network. The owner of a domain can give it any address, so
    /// that the status and the redirects of a private server are not disclosed.
    pub(super) fn discreet(self) -> Outcome {
        match self {
            Outcome::Amiss(Complaint {
                hint: Some(Hint::AnotherServer | Hint::RouteAuth | Hint::Redirected),
                ..
            }) => amiss("another server answers", Hint::AnotherServer),
            other => other,
        }
    }
}

/// A domain's own address that no CA can reach and no probe may ask.
pub(super) fn of_local_address() -> Outcome {
    amiss("the address is local to this machine or its link, so it was not asked", Hint::NoAddress)
}

/// A redirect to a name of which no address may be asked.
pub(super) fn of_internal_target() -> Outcome {
    let text = "its address is neither public nor a load balancer's, so it was not asked";
    amiss(text, Hint::Redirected)
}

fn amiss(text: impl Into<String>, hint: Hint) -> Outcome {
    Outcome::Amiss(Complaint::new(text, Some(hint)))
}

/// From an answer.
pub(super) fn of_answer(answered: &Answered) -> Outcome {
    let shown = |location: &str| location.chars().take(LOCATION_CHARS_MAX).collect::<String>();
    match answered {
        Answered::Ours => Outcome::Ours,
        // HAProxy's own words for a back end without a server.
        Answered::Other(status @ 502..=504) => {
            amiss(format!("nobody answers there, status {status}"), Hint::AnotherServer)
        }
        Answered::Other(401) => amiss("a password is asked for there, status 401", Hint::RouteAuth),
        Answered::Other(status) => {
            amiss(format!("another server answers, status {status}"), Hint::AnotherServer)
        }
        Answered::Onward(_) => amiss("it is redirected too often", Hint::Redirected),
        Answered::Elsewhere(location) => {
            amiss(format!("redirected to {}, not to us", shown(location)), Hint::Redirected)
        }
    }
}

/// From a lookup that failed.
pub(super) fn of_lookup(fault: &Fault) -> Outcome {
    let hint = match fault {
        Fault::Dns(
            DnsError::BadName | DnsError::NoSuchName { .. } | DnsError::NoAddress { .. },
        ) => Hint::NoAddress,
        _ => Hint::Resolver,
    };
    amiss(fault.to_string(), hint)
}

/// From a question that failed at an address.
pub(super) fn of_fault(fault: &Fault, address: IpAddr, port: u16) -> Outcome {
    let reason = match fault {
        Fault::Connect(attempts) => attempts.last().and_then(|attempt| attempt.reason.as_ref()),
        Fault::Timeout { awaited: Awaited::Head | Awaited::Body, .. } => None,
        Fault::Closed(_) | Fault::Http(_) | Fault::TooLarge { .. } => {
            return amiss(format!("another server answers: {fault}"), Hint::AnotherServer);
        }
        _ => return Outcome::Untold,
    };
    match reason {
        None => amiss(format!("nothing comes back from port {port}"), Hint::PortFiltered),
        Some(CloseReason::Refused) => {
            amiss(format!("nobody listens on port {port}"), Hint::PortClosed)
        }
        // This machine is in want of something.
        Some(CloseReason::Local(_)) => Outcome::Untold,
        // It may have no IPv6 at all, which says nothing of the other end.
        Some(CloseReason::Unreachable) if address.is_ipv6() => Outcome::Untold,
        Some(reason) => amiss(format!("port {port}: {reason}"), Hint::PortFiltered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Attempt;
    use std::time::Duration;

    fn told(outcome: &Outcome) -> (&str, Option<Hint>) {
        match outcome {
            Outcome::Amiss(complaint) | Outcome::Said(complaint) => {
                (&complaint.text, complaint.hint)
            }
            Outcome::Ours | Outcome::Untold => ("", None),
        }
    }

    #[test]
    fn each_answer_has_its_words_and_its_hint() {
        let to = || "http://x.org:81/".to_string();
        let cases = [
            (Answered::Ours, "", None),
            (Answered::Other(404), "another server answers, status 404", Some(Hint::AnotherServer)),
            (
                Answered::Other(401),
                "a password is asked for there, status 401",
                Some(Hint::RouteAuth),
            ),
            (Answered::Other(503), "nobody answers there, status 503", Some(Hint::AnotherServer)),
            (
                Answered::Elsewhere(to()),
                "redirected to http://x.org:81/, not to us",
                Some(Hint::Redirected),
            ),
        ];
        for (answered, text, hint) in cases {
            assert_eq!(told(&of_answer(&answered)), (text, hint));
        }
        let long = of_answer(&Answered::Elsewhere("x".repeat(5000)));
        assert!(told(&long).0.len() < LOCATION_CHARS_MAX + 50);
        let behind = of_answer(&Answered::Other(404)).behind(&Host::Name("b.org".into()));
        assert_eq!(told(&behind).0, "redirected to b.org: another server answers, status 404");
    }

    #[test]
    fn of_a_private_server_only_that_it_answers_is_told() {
        let private = |answered| of_answer(&answered).discreet();
        let answers = ("another server answers", Some(Hint::AnotherServer));
        assert_eq!(told(&private(Answered::Other(401))), answers);
        assert_eq!(told(&private(Answered::Other(503))), answers);
        assert_eq!(told(&private(Answered::Elsewhere("http://x/secret".into()))), answers);
        assert_eq!(private(Answered::Ours), Outcome::Ours);
    }

    #[test]
    fn a_fault_is_told_by_what_it_says_of_the_other_end() {
        let four = IpAddr::from([192, 0, 2, 1]);
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        let connect = |reason| Fault::Connect(vec![Attempt { address: (four, 80).into(), reason }]);
        let late = Fault::Timeout { awaited: Awaited::Head, limit: Duration::from_secs(10) };
        let cases = [
            (connect(None), four, Some(Hint::PortFiltered)),
            (connect(Some(CloseReason::Refused)), four, Some(Hint::PortClosed)),
            (connect(Some(CloseReason::Refused)), six, Some(Hint::PortClosed)),
            (connect(Some(CloseReason::Unreachable)), four, Some(Hint::PortFiltered)),
            (connect(Some(CloseReason::Unreachable)), six, None),
            (connect(Some(CloseReason::Local("no files".into()))), four, None),
            (late, four, Some(Hint::PortFiltered)),
            (Fault::Closed(CloseReason::Reset), four, Some(Hint::AnotherServer)),
            (Fault::TooLarge { limit_bytes: 1 }, four, Some(Hint::AnotherServer)),
        ];
        for (fault, address, hint) in cases {
            assert_eq!(told(&of_fault(&fault, address, 80)).1, hint, "{fault}");
        }
    }

    #[test]
    fn a_name_that_is_not_there_is_told_from_servers_that_fail() {
        let server = four();
        for (error, hint) in [
            (DnsError::NoSuchName { server }, Hint::NoAddress),
            (DnsError::NoAddress { server }, Hint::NoAddress),
            (DnsError::ServerFailure { replies: vec![] }, Hint::Resolver),
            (DnsError::NoReply { replies: vec![] }, Hint::Resolver),
        ] {
            assert_eq!(told(&of_lookup(&Fault::Dns(error))).1, Some(hint));
        }
    }

    fn four() -> IpAddr {
        [192, 0, 2, 1].into()
    }
}
