//! From the words of a CA's error to the hint, where its type alone does not determine it. The
//! words are those of Boulder (Let's Encrypt) and Pebble. Never reads what they quote of a web
//! server, and never guesses: what is not clear has no hint.

use std::net::IpAddr;

use crate::hint::Hint;

/// What Boulder puts before what another of its places of validation found.
const SECONDARY: &str = "during secondary validation: ";

/// What leads to the hint for an error, by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// There is no hint.
    NoHint,
    /// The type alone.
    Always(Hint),
    /// Words about a connection that the CA could not make.
    Connection,
    /// Words about the response to a challenge.
    Response,
    /// Words about a DNS query.
    DnsQuery,
    /// Words about a rate limit.
    RateLimit,
}

impl Evidence {
    /// What may help, by the CA's words.
    pub(super) fn hint(self, detail: &str) -> Option<Hint> {
        let lower = detail.to_ascii_lowercase();
        let (address, words) = found_at(&lower);
        match self {
            Evidence::NoHint => None,
            Evidence::Always(hint) => Some(hint),
            Evidence::Connection => of_connection(address, words),
            Evidence::Response => of_response(words),
            Evidence::DnsQuery => of_dns(words),
            Evidence::RateLimit => Some(of_limit(words)),
        }
    }
}

/// The address or host that a CA's words begin with, where they do, and the words behind it.
fn found_at(detail: &str) -> (Option<IpAddr>, &str) {
    let words = detail.strip_prefix(SECONDARY).unwrap_or(detail);
    match words.split_once(": ") {
        Some((before, behind)) if !before.contains([' ', '/']) => {
            (before.trim_matches(['[', ']']).parse().ok(), behind)
        }
        _ => (None, words),
    }
}

fn of_connection(address: Option<IpAddr>, words: &str) -> Option<Hint> {
    let is_v6 = address.is_some_and(|address| address.is_ipv6());
    if words.starts_with("fetching https://")
        || words.starts_with("redirect loop detected")
        || words.starts_with("too many redirects")
    {
        return Some(Hint::Redirected);
    }
    let ends = |all: &[&str]| all.iter().any(|end| words.ends_with(end));
    let closed = ends(&["connection refused"]);
    let filtered = ends(&["timeout during connect (likely firewall problem)", ": i/o timeout"]);
    let unreachable = ends(&["network unreachable", "network is unreachable"]);
    match (closed, filtered, unreachable) {
        _ if is_v6 && (closed || filtered || unreachable) => Some(Hint::StrayIpv6),
        (true, ..) => Some(Hint::PortClosed),
        (_, true, _) => Some(Hint::PortFiltered),
        _ => None,
    }
}

fn of_response(words: &str) -> Option<Hint> {
    let is_unauthorized = words.ends_with(": 401") || words.ends_with("returned 401");
    let begins = [
        ("invalid response from https://", Hint::Redirected),
        ("invalid response from http://", Hint::AnotherServer),
        ("non-200 status code from http", Hint::AnotherServer),
        ("the key authorization file from the server did not match", Hint::AnotherClient),
    ];
    match begins.iter().find(|(begin, _)| words.starts_with(begin))?.1 {
        // A quoted page ends with a quotation mark.
        Hint::AnotherServer if is_unauthorized => Some(Hint::RouteAuth),
        hint => Some(hint),
    }
}

fn of_dns(words: &str) -> Option<Hint> {
    let words = words.strip_prefix("dns problem: ").unwrap_or(words);
    let begins = [
        ("nxdomain looking up a for ", Hint::NoAddress),
        ("nxdomain looking up aaaa for ", Hint::NoAddress),
        ("no valid a records found for ", Hint::NoAddress),
        ("no valid ip addresses found for ", Hint::NoAddress),
        ("servfail looking up ", Hint::NameServers),
        ("query timed out looking up ", Hint::NameServers),
    ];
    begins.iter().find(|(begin, _)| words.starts_with(begin)).map(|(_, hint)| *hint)
}

fn of_limit(words: &str) -> Hint {
    let said = [
        ("unpause", Hint::Paused),
        ("temporarily prevented", Hint::Paused),
        ("too many failed authorizations", Hint::LimitFailures),
        ("issued for this exact set of", Hint::LimitSame),
        ("already issued for", Hint::LimitDomain),
        ("too many new orders", Hint::LimitOrders),
        ("too many new registrations", Hint::LimitAccounts),
        ("too many registrations", Hint::LimitAccounts),
    ];
    said.iter().find(|(said, _)| words.contains(said)).map_or(Hint::Limited, |(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::types::ProblemKind;

    /// What Boulder and Pebble say.
    #[test]
    fn words_of_cas() {
        let at = "http://a.org/.well-known/acme-challenge/x";
        let tls = "https://a.org/.well-known/acme-challenge/x";
        let cases = [
            ("connection", format!("192.0.2.1: Fetching {at}: Connection refused"), "port-closed"),
            ("connection", format!("Get {at:?}: dial tcp 192.0.2.1:80: connect: connection refused"),
             "port-closed"),
            ("connection", "a.org: connection refused".into(), "port-closed"),
            ("connection",
             format!("192.0.2.1: Fetching {at}: Timeout during connect (likely firewall problem)"),
             "port-filtered"),
            ("connection",
             format!("During secondary validation: 192.0.2.1: Fetching {at}: Timeout during connect \
                      (likely firewall problem)"), "port-filtered"),
            ("connection", format!("2001:db8::1: Fetching {at}: Connection refused"), "stray-ipv6"),
            ("connection", format!("2001:db8::1: Fetching {at}: Network unreachable"), "stray-ipv6"),
            ("connection", format!("192.0.2.1: Fetching {tls}: Connection refused"), "redirected"),
            ("connection", format!("192.0.2.1: Fetching {tls}: Error getting validation data"),
             "redirected"),
            ("connection", format!("192.0.2.1: Fetching {at}: Error getting validation data"), ""),
            ("connection",
             format!("192.0.2.1: Fetching {at}: Timeout after connect (your server may be slow or \
                      overloaded)"), ""),
            ("connection", "a.org: the route is broken".into(), ""),
            ("tls", format!("192.0.2.1: Fetching {tls}: remote error: tls: handshake failure"),
             "redirected"),
            ("unauthorized", format!("192.0.2.1: Invalid response from {at}: 404"), "another-server"),
            ("unauthorized", format!("192.0.2.1: Invalid response from {tls}: 404"), "redirected"),
            ("unauthorized",
             format!("Invalid response from {at} [192.0.2.1]: \"<html>Connection refused\""),
             "another-server"),
            ("unauthorized", format!("Non-200 status code from HTTP: {at} returned 404"),
             "another-server"),
            ("unauthorized",
             "192.0.2.1: The key authorization file from the server did not match this challenge. \
              Expected \"x.y\" (got \"z\")".into(), "another-client"),
            ("unauthorized",
             "The key authorization file from the server did not match this challenge \"x\" != \"y\""
             .into(), "another-client"),
            ("unauthorized", "a second look found a reason to refuse".into(), ""),
            ("unauthorized", "Account is deactivated".into(), ""),
            ("dns",
             "DNS problem: NXDOMAIN looking up A for a.org - check that a DNS record exists for this \
              domain".into(), "no-address"),
            ("dns", "no valid A records found for a.org; no valid AAAA records found for a.org".into(),
             "no-address"),
            ("dns",
             "DNS problem: SERVFAIL looking up CAA for a.org - the domain's nameservers may be \
              malfunctioning".into(), "name-servers"),
            ("dns",
             "During secondary validation: DNS problem: query timed out looking up A for a.org".into(),
             "name-servers"),
            ("dns", "DNS problem: networking error looking up A for a.org".into(), ""),
            ("caa", "CAA record for a.org prevents issuance".into(), "caa"),
            ("rejectedIdentifier", "The ACME server refuses to issue a certificate".into(),
             "name-rejected"),
            ("externalAccountRequired", "x".into(), "binding-missing"),
            ("userActionRequired", "Terms of service have changed".into(), "terms"),
            ("invalidContact", "x".into(), "contact"),
            ("invalidProfile", "x".into(), "profile"),
            ("badNonce", "x".into(), "nonces"),
            ("malformed", format!("Fetching {at}: Connection refused"), ""),
            ("serverInternal", "x".into(), ""),
        ];
        for (kind, detail, expected) in cases {
            let found = ProblemKind::of(kind).hint(&detail).map_or("", Hint::id);
            assert_eq!(found, expected, "{kind}: {detail}");
        }
    }

    #[test]
    fn a_password_is_told_by_the_status_and_not_by_what_a_server_says() {
        let at = "http://a.org/.well-known/acme-challenge/x";
        let cases = [
            (format!("192.0.2.1: Invalid response from {at}: 401"), Hint::RouteAuth),
            (format!("Non-200 status code from HTTP: {at} returned 401"), Hint::RouteAuth),
            ("192.0.2.1: Invalid response from https://a.org/x: 401".into(), Hint::Redirected),
            (
                format!("Invalid response from {at} [192.0.2.1]: \"error: 401\""),
                Hint::AnotherServer,
            ),
        ];
        for (detail, hint) in cases {
            assert_eq!(ProblemKind::Unauthorized.hint(&detail), Some(hint), "{detail}");
        }
    }

    #[test]
    fn words_about_limits() {
        let cases = [
            (
                "too many failed authorizations (5) for \"a.org\" in the last 1h0m0s, retry after x",
                Hint::LimitFailures,
            ),
            (
                "too many certificates (5) already issued for this exact set of identifiers in the last \
              168h0m0s",
                Hint::LimitSame,
            ),
            (
                "too many certificates (50) already issued for \"a.org\" in the last 168h0m0s",
                Hint::LimitDomain,
            ),
            ("too many new orders (300) from this account in the last 3h0m0s", Hint::LimitOrders),
            (
                "too many new registrations (10) from this IP address in the last 3h0m0s",
                Hint::LimitAccounts,
            ),
            (
                "Your account is temporarily prevented from requesting certificates for a.org and \
              possibly others. Please visit: https://sfe/unpause?jwt=x",
                Hint::Paused,
            ),
            (
                "Error creating new order :: too many certificates already issued for: a.org",
                Hint::LimitDomain,
            ),
            ("slow down", Hint::Limited),
        ];
        for (detail, expected) in cases {
            assert_eq!(ProblemKind::RateLimited.hint(detail), Some(expected), "{detail}");
        }
    }
}
