//! From what happened to the hint; what a CA refuses is in `acme/evidence.rs`. Never guesses: what is
//! not clear has no hint.

use crate::machine::{CloseReason, StoreErrorKind, Trust};

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

impl Hint {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

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
