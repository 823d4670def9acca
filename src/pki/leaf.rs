//! The fields of a certificate that the daemon goes by (RFC 5280 section 4.1). Signatures are never
//! looked at here; whether a certificate is for a name, `verification.rs` says.

use std::time::Duration;

use crate::domain::Domain;
use crate::printable::printable;
use crate::time::{Calendar, UnixTime};

use super::der::{self, Element, Elements};

/// `id-at-commonName` (RFC 5280 appendix A.1): 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
/// `id-ce-subjectAltName` (RFC 5280 section 4.2.1.6): 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 29, 17];
/// `id-ce-authorityKeyIdentifier` (RFC 5280 section 4.2.1.1): 2.5.29.35.
const AUTHORITY_KEY: [u8; 3] = [0x55, 29, 35];
/// `[0] version` of a `TBSCertificate`.
const VERSION: u8 = 0xa0;
/// `[3] extensions` of a `TBSCertificate`.
const EXTENSIONS: u8 = 0xa3;
/// `[2] dNSName` of a `GeneralName`.
const DNS_NAME: u8 = 0x82;
/// `[0] keyIdentifier` of an `AuthorityKeyIdentifier`.
const KEY_IDENTIFIER: u8 = 0x80;

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// `notBefore`.
    pub not_before: UnixTime,
    /// `notAfter`.
    pub not_after: UnixTime,
    /// The common name of the issuer.
    pub issuer_common_name: Option<String>,
    /// The host names among the subject alternative names, lower-cased, in their order.
    pub names: Vec<String>,
    /// What the INTEGER of the serial number holds, a leading zero included.
    pub serial: Vec<u8>,
    /// The identifier of the issuer's key, when the certificate tells it.
    pub authority_key: Option<Vec<u8>>,
}

/// Certificates that live this long or less are renewed at half their life, others at two thirds.
const SHORT_LIFETIME: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// When a certificate is to be renewed by its dates alone: when a third of its lifetime is left, or
/// half when it is short. It is the advice of Let's Encrypt for clients that get none from the CA.
pub fn renewal_by_lifetime(not_before: UnixTime, not_after: UnixTime) -> UnixTime {
    let whole = not_after.since(not_before);
    not_after.minus(if whole <= SHORT_LIFETIME { whole / 2 } else { whole / 3 })
}

impl Leaf {
    /// Reads a certificate; `None` where the bytes are none.
    pub fn parse(der: &[u8]) -> Option<Leaf> {
        let mut whole = Elements::of(der);
        let mut certificate = Elements::of(whole.expect(der::SEQUENCE)?);
        let leaf = Leaf::read(Elements::of(certificate.expect(der::SEQUENCE)?))?;
        // The algorithm and the value of the signature.
        certificate.next()?;
        certificate.next()?;
        (whole.is_empty() && certificate.is_empty()).then_some(leaf)
    }

    /// Whether HAProxy serves the certificate, which is this DER, where this name is asked for: by its names
    /// or by its subject's, exactly or by a wildcard.
    pub fn is_for(&self, der: &[u8], name: &Domain) -> bool {
        let name = name.as_str();
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let subject = subject_common_name(der).map(|subject| subject.to_ascii_lowercase());
        let mut names = self.names.iter().chain(&subject);
        names.any(|it| it == name || it.strip_prefix("*.").is_some_and(|it| Some(it) == parent))
    }

    fn read(mut fields: Elements<'_>) -> Option<Leaf> {
        fields.skip(VERSION)?;
        let serial = fields.expect(der::INTEGER)?.to_vec();
        let _signature = fields.next()?;
        let issuer_common_name = common_name(fields.expect(der::SEQUENCE)?)?;
        let mut validity = Elements::of(fields.expect(der::SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let (names, authority_key) = (Vec::new(), None);
        let mut leaf =
            Leaf { not_before, not_after, issuer_common_name, names, serial, authority_key };
        let _subject = common_name(fields.expect(der::SEQUENCE)?)?;
        // The key, and what may stand before the extensions, are the TLS library's business.
        for rest in fields.all()? {
            if rest.tag == EXTENSIONS {
                let mut extensions = Elements::of(rest.value);
                for each in Elements::of(extensions.expect(der::SEQUENCE)?).all()? {
                    leaf.take(each)?;
                }
            }
        }
        validity.is_empty().then_some(leaf)
    }

    /// Takes in one extension. Where the value of a known one is mangled, it counts as absent: only
    /// its frame makes the certificate whole or not.
    fn take(&mut self, extension: Element<'_>) -> Option<()> {
        let mut parts = Elements::of(sequence(extension)?);
        let kind = parts.expect(der::OBJECT_IDENTIFIER)?;
        parts.skip(der::BOOLEAN)?;
        let value = parts.expect(der::OCTET_STRING)?;
        if kind == SUBJECT_ALT_NAME {
            let names = members(value, DNS_NAME).unwrap_or_default();
            self.names = names.iter().map(|name| shown(name).to_ascii_lowercase()).collect();
        } else if kind == AUTHORITY_KEY {
            let keys = members(value, KEY_IDENTIFIER).unwrap_or_default();
            self.authority_key = keys.first().map(|key| key.to_vec());
        }
        parts.is_empty().then_some(())
    }
}

/// Who issued a certificate, and whom it is for: the two names (RFC 5280 sections 4.1.2.4 and 4.1.2.6),
/// as their DER without its frame. `None` where the bytes are no certificate.
pub(super) fn issuer_and_subject(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut certificate = Elements::of(Elements::of(der).expect(der::SEQUENCE)?);
    let mut fields = Elements::of(certificate.expect(der::SEQUENCE)?);
    fields.skip(VERSION)?;
    let _serial = fields.expect(der::INTEGER)?;
    let _signature = fields.next()?;
    let issuer = fields.expect(der::SEQUENCE)?.to_vec();
    let _validity = fields.next()?;
    Some((issuer, fields.expect(der::SEQUENCE)?.to_vec()))
}

/// Whether a certificate names its own subject as its issuer, as a self-signed one does. No signature is
/// verified.
pub fn is_self_issued(der: &[u8]) -> bool {
    issuer_and_subject(der).is_some_and(|(issuer, subject)| issuer == subject)
}

/// The last common name of whom a certificate is for; `None` where it has none, or is none.
pub fn subject_common_name(der: &[u8]) -> Option<String> {
    common_name(&issuer_and_subject(der)?.1)?
}

/// What is signed of a certificate, by which algorithm, and the signature (RFC 5280 section 4.1.1).
pub(super) fn signed_parts(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut certificate = Elements::of(Elements::of(der).expect(der::SEQUENCE)?);
    let signed = certificate.whole()?;
    Some((signed, certificate.expect(der::SEQUENCE)?, bits(certificate.expect(der::BIT_STRING)?)?))
}

/// The object identifiers of a certificate's critical extensions (RFC 5280 section 4.2). `None` where the
/// bytes are no certificate, or it has no extensions.
pub(super) fn critical_extensions(der: &[u8]) -> Option<Vec<&[u8]>> {
    let mut certificate = Elements::of(Elements::of(der).expect(der::SEQUENCE)?);
    let fields = Elements::of(certificate.expect(der::SEQUENCE)?).all()?;
    let extensions = fields.iter().find(|field| field.tag == EXTENSIONS)?;
    let extensions = Elements::of(Elements::of(extensions.value).expect(der::SEQUENCE)?).all()?;
    let critical = extensions.iter().filter_map(|extension| {
        let mut parts = Elements::of(extension.value);
        let kind = parts.expect(der::OBJECT_IDENTIFIER)?;
        (parts.expect(der::BOOLEAN) == Some(&[0xff])).then_some(kind)
    });
    Some(critical.collect())
}

/// The key that a certificate is for, as it stands there (RFC 5280 section 4.1.2.7).
pub(super) fn subject_key_info(der: &[u8]) -> Option<&[u8]> {
    let mut certificate = Elements::of(Elements::of(der).expect(der::SEQUENCE)?);
    let mut fields = Elements::of(certificate.expect(der::SEQUENCE)?);
    fields.skip(VERSION)?;
    // Serial number, algorithm, issuer, validity, subject.
    for _ in 0..5 {
        fields.next()?;
    }
    fields.whole()
}

/// The kind of that key, and its bytes.
pub(super) fn subject_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let info = Elements::of(subject_key_info(der)?).expect(der::SEQUENCE)?;
    let mut key = Elements::of(info);
    Some((key.expect(der::SEQUENCE)?, bits(key.expect(der::BIT_STRING)?)?))
}

/// What stands in a string of bits that are whole bytes.
pub(super) fn bits(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(&[0])
}

fn sequence(element: Element<'_>) -> Option<&[u8]> {
    (element.tag == der::SEQUENCE).then_some(element.value)
}

/// What the members of a sequence that bear that tag hold.
fn members(der: &[u8], tag: u8) -> Option<Vec<&[u8]>> {
    let mut whole = Elements::of(der);
    let members = Elements::of(whole.expect(der::SEQUENCE)?).all()?;
    let found = members.iter().filter(|member| member.tag == tag).map(|member| member.value);
    whole.is_empty().then(|| found.collect())
}

/// The last common name of a `Name`: a sequence of sets of attributes.
fn common_name(name: &[u8]) -> Option<Option<String>> {
    let mut common_name = None;
    for set in Elements::of(name).all()? {
        if set.tag != der::SET {
            return None;
        }
        for attribute in Elements::of(set.value).all()? {
            let mut parts = Elements::of(sequence(attribute)?);
            let (kind, text) = (parts.expect(der::OBJECT_IDENTIFIER)?, parts.next()?);
            if !parts.is_empty() || !text.is_universal() {
                return None;
            }
            if kind == COMMON_NAME {
                common_name = Some(shown(text.value));
            }
        }
    }
    Some(common_name)
}

fn shown(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ` (RFC 5280 section 4.1.2.5).
fn time(element: Element<'_>) -> Option<UnixTime> {
    match (element.tag, element.value) {
        (der::UTC_TIME, text) => {
            let [year, rest @ ..] = digits(text)?;
            let year = i32::from(year);
            calendar(if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (der::GENERALIZED_TIME, [high, low, text @ ..]) => {
            let [century] = pairs(&[*high, *low])?;
            let [year, rest @ ..] = digits(text)?;
            calendar(100 * i32::from(century) + i32::from(year), rest)
        }
        _ => None,
    }
}

/// The six pairs of digits before the `Z`.
fn digits(text: &[u8]) -> Option<[u8; 6]> {
    let (zone, text) = text.split_last()?;
    (*zone == b'Z').then(|| pairs(text)).flatten()
}

fn pairs<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut pairs = [0; N];
    if text.len() != 2 * N || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for (pair, two) in pairs.iter_mut().zip(text.chunks(2)) {
        *pair = (two[0] - b'0') * 10 + (two[1] - b'0');
    }
    Some(pairs)
}

fn calendar(year: i32, [month, day, hour, minute, second]: [u8; 5]) -> Option<UnixTime> {
    UnixTime::from_calendar(Calendar { year, month, day, hour, minute, second })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyIdMethod, KeyPair, KeyUsagePurpose};
    use rcgen::{SanType, SerialNumber, date_time_ymd};

    use super::*;

    fn params(until_year: i32) -> CertificateParams {
        let names = ["WWW.a.org", "a.org"].map(String::from);
        let mut params = CertificateParams::new(names).unwrap();
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        params.subject_alt_names.insert(1, SanType::IpAddress(address));
        params.not_before = date_time_ymd(2026, 11, 23);
        params.not_after = date_time_ymd(until_year, 2, 1);
        params.distinguished_name.push(DnType::CommonName, "Test\u{7} CA");
        params.distinguished_name.push(DnType::OrganizationName, "Nobody");
        params.use_authority_key_identifier_extension = true;
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![0x69, 0x88, 0x5b]);
        params.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        params
    }

    fn certificate(until_year: i32) -> Vec<u8> {
        params(until_year).self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_extensions_that_matter_among_others() {
        let leaf = Leaf::parse(&certificate(2027)).unwrap();
        assert_eq!(leaf.names, ["www.a.org", "a.org"]);
        assert_eq!(leaf.serial, [0, 0x87, 0x65, 0x43, 0x21]);
        assert_eq!(leaf.authority_key.as_deref(), Some(&[0x69, 0x88, 0x5b][..]));

        let mut bare = params(2027);
        bare.use_authority_key_identifier_extension = false;
        bare.subject_alt_names.clear();
        bare.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let bare = bare.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let leaf = Leaf::parse(bare.der()).unwrap();
        assert_eq!((leaf.names.len(), leaf.authority_key), (0, None));
    }

    #[test]
    fn values_of_extensions_that_are_mangled_count_as_absent() {
        let mut whole = certificate(2027);
        let san = [0x55, 0x1d, 0x11];
        let at = whole.windows(3).position(|window| window == san).unwrap();
        // Behind the OID: the frame of the value, two bytes, then the value's own tag.
        whole[at + 5] = 0x02;
        let leaf = Leaf::parse(&whole).unwrap();
        assert_eq!((leaf.names.len(), leaf.authority_key.is_some()), (0, true));
    }

    #[test]
    fn both_forms_of_time_and_the_issuer() {
        for (year, text) in [(2027, "2027-02-01T00:00:00Z"), (2050, "2050-02-01T00:00:00Z")] {
            let leaf = Leaf::parse(&certificate(year)).unwrap();
            assert_eq!(leaf.not_before.to_string(), "2026-11-23T00:00:00Z");
            assert_eq!(leaf.not_after.to_string(), text);
            assert_eq!(leaf.issuer_common_name.as_deref(), Some("Test\u{fffd} CA"));
        }
    }

    #[test]
    fn what_is_cut_or_mangled_never_panics() {
        let whole = certificate(2027);
        for end in 0..whole.len() {
            assert_eq!(Leaf::parse(&whole[..end]), None);
        }
        for index in 0..whole.len() {
            for value in [0, 0x30, 0x7f, 0x80, 0xff] {
                let mut mangled = whole.clone();
                mangled[index] = value;
                let _ = Leaf::parse(&mangled);
            }
            // A length that no memory could hold, of whatever stands here.
            let huge = [0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
            let mut mangled = whole.clone();
            for (byte, value) in mangled.iter_mut().skip(index).zip(huge) {
                *byte = value;
            }
            let _ = Leaf::parse(&mangled);
        }
    }
}
