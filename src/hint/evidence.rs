//! From what happened to the hint. Of a CA it goes by the type of its problem and by the words of Boulder
//! (Let's Encrypt) and Pebble, where they stand: what they quote of a web server is not listened to.
//! Never guesses: what is not clear has no hint.

use std::net::IpAddr;

use crate::seam::{CloseReason, StoreErrorKind, Trust};

use super::Hint;

/// What the TLS library calls certificates of a form that it does not verify.
const UNVERIFIED: [&str; 6] = [
    "Other(OtherError(UnsupportedCertVersion))",
    "Other(OtherError(UnsupportedCriticalExtension))",
    "BadEncoding",
    "InvalidPurpose",
    "certificate does not allow extended key usage",
    "UnsupportedSignatureAlgorithm",
];

/// What it says of one without names, such as one that has its host in its subject alone.
const NAMELESS: &str = "is not valid for any names (according to its subjectAltName extension)";

/// What Boulder puts before what another of its places of validation found.
const SECONDARY: &str = "during secondary validation: ";

impl Hint {
    /// By a CA's problem: the last part of its type, and its words.
    pub fn of_problem(kind: &str, detail: &str) -> Option<Hint> {
        let lower = detail.to_ascii_lowercase();
        let (address, words) = found_at(&lower);
        match kind {
            "connection" => of_connection(address, words),
            "unauthorized" | "incorrectResponse" => of_response(words),
            "dns" => of_dns(words),
            // With http-01 a CA meets TLS only where it is redirected to it.
            "tls" => Some(Hint::Redirected),
            "caa" => Some(Hint::Caa),
            "rejectedIdentifier" => Some(Hint::NameRejected),
            "rateLimited" => Some(of_limit(words)),
            "badNonce" => Some(Hint::Nonces),
            "externalAccountRequired" => Some(Hint::BindingMissing),
            "userActionRequired" => Some(Hint::Terms),
            "invalidContact" | "unsupportedContact" => Some(Hint::Contact),
            "invalidProfile" => Some(Hint::Profile),
            _ => None,
        }
    }

    /// By the TLS library's words about whoever we went to.
    pub fn of_tls(text: &str, trust: Trust) -> Option<Hint> {
        let about = text.strip_prefix("invalid peer certificate: ");
        match (about, trust) {
            (Some("UnknownIssuer"), Trust::Acme) => Some(Hint::AcmeCa),
            (Some("UnknownIssuer"), Trust::Marathon) => Some(Hint::MarathonCa),
            (Some(about), _) if about.ends_with(NAMELESS) => Some(Hint::ServerCertificate),
            (Some(about), _) if about.starts_with("certificate not valid for name") => {
                Some(Hint::WrongHost)
            }
            (Some(about), _)
                if [
                    "certificate not valid yet",
                    "certificate expired",
                    "NotValidYet",
                    "Expired",
                ]
                .iter()
                .any(|begin| about.starts_with(begin)) =>
            {
                Some(Hint::Clock)
            }
            (Some("Other(OtherError(CaUsedAsEndEntity))"), _) => Some(Hint::CaAsServer),
            (Some(about), _) if UNVERIFIED.iter().any(|begin| about.starts_with(begin)) => {
                Some(Hint::ServerCertificate)
            }
            (None, _) => of_handshake(text),
            _ => None,
        }
    }

    /// By how connections to all of a peer's addresses ended; `None`: no answer in time.
    pub fn of_connecting<'a>(
        ends: impl Iterator<Item = Option<&'a CloseReason>>,
        trust: Trust,
    ) -> Option<Hint> {
        let mut hints = ends.map(|end| match end {
            Some(CloseReason::Refused) => Some(Hint::PeerRefused),
            Some(CloseReason::Tls(text)) => Hint::of_tls(text, trust),
            None => Some(Hint::PeerSilent),
            _ => None,
        });
        // One address may have another trouble than the next.
        let first = hints.next()?;
        if hints.all(|hint| hint == first) { first } else { None }
    }

    /// By what is wrong with the storage.
    pub fn of_storage(kind: StoreErrorKind) -> Option<Hint> {
        match kind {
            StoreErrorKind::Full => Some(Hint::StorageFull),
            StoreErrorKind::NotWritable => Some(Hint::StorageDenied),
            StoreErrorKind::ReadOnly => Some(Hint::StorageReadOnly),
            StoreErrorKind::Io => Some(Hint::StorageFails),
            StoreErrorKind::Stale => Some(Hint::StorageStale),
            StoreErrorKind::Split => Some(Hint::StorageSplit),
            StoreErrorKind::Limit => Some(Hint::Limits),
            StoreErrorKind::Missing | StoreErrorKind::Gone => Some(Hint::StorageMissing),
            StoreErrorKind::NotADirectory | StoreErrorKind::NotAFile => Some(Hint::StorageOdd),
            StoreErrorKind::Locked
            | StoreErrorKind::Leased
            | StoreErrorKind::Lost
            | StoreErrorKind::Unsettled
            | StoreErrorKind::Exists
            | StoreErrorKind::Malformed
            | StoreErrorKind::File => None,
        }
    }

    /// What to do where the storage directory itself cannot be used.
    pub fn of_storage_directory(kind: StoreErrorKind) -> &'static str {
        match kind {
            StoreErrorKind::Missing | StoreErrorKind::NotADirectory => None,
            _ => Hint::of_storage(kind).map(Hint::text),
        }
        .unwrap_or("make the directory, or mount the volume there")
    }

    /// By the status of Marathon's answer.
    pub fn of_marathon(status: u16) -> Option<Hint> {
        match status {
            401 | 403 => Some(Hint::Password),
            404 | 405 => Some(Hint::MarathonUrl),
            _ => None,
        }
    }

    /// By the status of marathon-lb's answer to the signal.
    pub fn of_balancer(status: u16) -> Option<Hint> {
        match status {
            500 => Some(Hint::LbMode),
            404 | 405 | 501 => Some(Hint::LbUrl),
            _ => None,
        }
    }
}

/// By the TLS library's words about a handshake: an alert (RFC 8446 section 6.2), or what it found itself.
fn of_handshake(text: &str) -> Option<Hint> {
    if text.starts_with("peer is incompatible: ") {
        return Some(Hint::TlsOffer);
    }
    match text.strip_prefix("received fatal alert: ").unwrap_or(text) {
        "HandshakeFailure" | "ProtocolVersion" | "InsufficientSecurity" => Some(Hint::TlsOffer),
        "CertificateRequired" => Some(Hint::ClientCertificate),
        "UnrecognisedName" => Some(Hint::WrongHost),
        "received corrupt message of type InvalidContentType" => Some(Hint::NoTls),
        _ => None,
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
    use std::sync::Arc;

    use super::*;

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
            let found = Hint::of_problem(kind, &detail).map_or("", Hint::id);
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
            assert_eq!(Hint::of_problem("unauthorized", &detail), Some(hint), "{detail}");
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
            assert_eq!(Hint::of_problem("rateLimited", detail), Some(expected), "{detail}");
        }
    }

    #[test]
    fn words_of_the_tls_library() {
        use rustls::{CertificateError, Error, InvalidMessage};
        let of = |error: Error, trust| Hint::of_tls(&error.to_string(), trust);
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(of(unknown(), Trust::Acme), Some(Hint::AcmeCa));
        assert_eq!(of(unknown(), Trust::Marathon), Some(Hint::MarathonCa));
        assert_eq!(of(unknown(), Trust::WebPki), None);
        let time = rustls::pki_types::UnixTime::now();
        let dated = [
            CertificateError::Expired,
            CertificateError::NotValidYet,
            CertificateError::ExpiredContext { time, not_after: time },
            CertificateError::NotValidYetContext { time, not_before: time },
        ];
        for error in dated {
            assert_eq!(of(Error::InvalidCertificate(error), Trust::Acme), Some(Hint::Clock));
        }
        let expected = rustls::pki_types::ServerName::try_from("a.org").unwrap();
        let presented = vec!["UnknownIssuer".to_string()];
        let name = CertificateError::NotValidForNameContext { expected, presented };
        assert_eq!(of(Error::InvalidCertificate(name), Trust::Acme), Some(Hint::WrongHost));
        let plain = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(of(plain, Trust::Marathon), Some(Hint::NoTls));
        let revoked = Error::InvalidCertificate(CertificateError::Revoked);
        assert_eq!(of(revoked, Trust::Acme), None);
    }

    #[test]
    fn what_a_server_is_to_change_for_tls() {
        use rustls::pki_types::alg_id::RSA_PKCS1_SHA256;
        use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};
        let other = |error: webpki::Error| CertificateError::Other(OtherError(Arc::new(error)));
        let refused = [
            (other(webpki::Error::UnsupportedCertVersion), "server-certificate"),
            (other(webpki::Error::UnsupportedCriticalExtension), "server-certificate"),
            (CertificateError::BadEncoding, "server-certificate"),
            (CertificateError::InvalidPurpose, "server-certificate"),
            (
                CertificateError::InvalidPurposeContext {
                    required: rustls::ExtendedKeyPurpose::ServerAuth,
                    presented: vec![],
                },
                "server-certificate",
            ),
            (
                CertificateError::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: RSA_PKCS1_SHA256.to_vec(),
                    supported_algorithms: vec![],
                },
                "server-certificate",
            ),
            (other(webpki::Error::CaUsedAsEndEntity), "ca-as-server"),
            (
                CertificateError::NotValidForNameContext {
                    expected: rustls::pki_types::ServerName::try_from("a.org").unwrap(),
                    presented: vec![],
                },
                "server-certificate",
            ),
            (other(webpki::Error::MaximumPathBuildCallsExceeded), ""),
        ];
        let refused = refused.map(|(error, id)| (Error::InvalidCertificate(error), id));
        let others = [
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "tls-offer"),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), "tls-offer"),
            (Error::AlertReceived(AlertDescription::InsufficientSecurity), "tls-offer"),
            (Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), "tls-offer"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "client-certificate"),
            (Error::AlertReceived(AlertDescription::UnrecognisedName), "wrong-host"),
            (Error::AlertReceived(AlertDescription::InternalError), ""),
        ];
        for (error, id) in refused.into_iter().chain(others) {
            let hint = Hint::of_tls(&error.to_string(), Trust::Marathon);
            assert_eq!(hint.map_or("", Hint::id), id, "{error}");
        }
    }

    #[test]
    fn several_addresses_have_a_hint_when_they_have_one_trouble() {
        let of = |ends: &[Option<&CloseReason>]| {
            Hint::of_connecting(ends.iter().copied(), Trust::Marathon)
        };
        let refused = Some(&CloseReason::Refused);
        assert_eq!(of(&[refused, refused]), Some(Hint::PeerRefused));
        assert_eq!(of(&[None]), Some(Hint::PeerSilent));
        assert_eq!(of(&[refused, None]), None);
        assert_eq!(of(&[Some(&CloseReason::Reset)]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn statuses_and_disks() {
        assert_eq!(Hint::of_marathon(401), Some(Hint::Password));
        assert_eq!(
            (Hint::of_marathon(404), Hint::of_marathon(503)),
            (Some(Hint::MarathonUrl), None)
        );
        assert_eq!(Hint::of_balancer(500), Some(Hint::LbMode));
        assert_eq!((Hint::of_balancer(404), Hint::of_balancer(503)), (Some(Hint::LbUrl), None));
        assert_eq!(Hint::of_storage(StoreErrorKind::Full), Some(Hint::StorageFull));
        assert_eq!(Hint::of_storage(StoreErrorKind::NotWritable), Some(Hint::StorageDenied));
        assert_eq!(Hint::of_storage(StoreErrorKind::Locked), None);
    }
}
