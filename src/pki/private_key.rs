//! Private keys as far as their DER tells: of which kind one is, whether it is whole, and whether it can be
//! a certificate's. No arithmetic: a key of a kind that the TLS library does not know may still be one that
//! HAProxy loads.

use rustls::pki_types::PrivateKeyDer;

use super::der::{self, Element, Elements};
use super::leaf::{bits, subject_key};
use super::oid;
use super::strength::number_bits;

/// `[0] parameters` and `[1] publicKey` of an `ECPrivateKey` (RFC 5915 section 3).
const PARAMETERS: u8 = 0xa0;
const PUBLIC_KEY: u8 = 0xa1;
/// Numbers of an RSA key with two primes (RFC 8017 appendix A.1.2), and of OpenSSL's own form of a DSA key.
const RSA_NUMBERS: usize = 9;
const DSA_NUMBERS: usize = 6;

/// How a private key stands to a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyMatch {
    /// It bears the certificate's public key.
    Match,
    /// It is of another kind, or bears another one.
    Mismatch,
    /// It bears none that is found.
    Unknown,
    /// It is not whole.
    Malformed,
}

/// What is read of a private key.
#[derive(Default)]
struct PrivateKey<'a> {
    /// The object identifier of its kind.
    kind: &'a [u8],
    /// The object identifier of its curve.
    curve: Option<&'a [u8]>,
    /// Modulus and exponent.
    rsa: Option<[Element<'a>; 2]>,
    /// The point of an elliptic curve.
    point: Option<&'a [u8]>,
}

/// Whether OpenSSL can read it, as a key of DSA or not. Of a kind that is not known here, it can.
pub(super) fn is_whole(key: &PrivateKeyDer<'_>, is_dsa: bool) -> bool {
    let found = PrivateKey::parse(key);
    let is_bare = matches!(key, PrivateKeyDer::Pkcs1(_));
    found.is_some_and(|key| !is_bare || is_dsa == (key.kind == oid::DSA))
}

/// How many bits the modulus of an RSA key has; `None` where it is no RSA key, or cannot be read.
pub fn rsa_bits(key: &PrivateKeyDer<'_>) -> Option<usize> {
    let [modulus, _] = PrivateKey::parse(key)?.rsa?;
    number_bits(modulus.value)
}

/// Compares a private key with a certificate.
pub(super) fn compare(key: &PrivateKeyDer<'_>, certificate: &[u8]) -> KeyMatch {
    let (Some(key), Some((algorithm, public))) = (PrivateKey::parse(key), subject_key(certificate))
    else {
        return KeyMatch::Malformed;
    };
    let mut algorithm = Elements::of(algorithm);
    let kind = algorithm.expect(der::OBJECT_IDENTIFIER).unwrap_or_default();
    let curve = algorithm.expect(der::OBJECT_IDENTIFIER);
    let is_other_curve = key.curve.is_some_and(|own| curve.is_some_and(|other| own != other));
    if key.kind != kind || is_other_curve {
        return KeyMatch::Mismatch;
    }
    // A point may be written in a shorter form than the certificate's.
    let point = key.point.filter(|point| point.len() == public.len());
    let same = match (key.rsa, point) {
        (Some(rsa), _) => parts(public).map(|public| public == rsa),
        (None, point) => point.map(|point| point == public),
    };
    match same {
        Some(true) => KeyMatch::Match,
        Some(false) => KeyMatch::Mismatch,
        None => KeyMatch::Unknown,
    }
}

impl<'a> PrivateKey<'a> {
    fn parse(key: &'a PrivateKeyDer<'_>) -> Option<PrivateKey<'a>> {
        let parts = parts(key.secret_der())?;
        match key {
            PrivateKeyDer::Pkcs8(_) => PrivateKey::pkcs8(&parts),
            PrivateKeyDer::Sec1(_) => PrivateKey::sec1(&parts),
            _ => PrivateKey::numbers(&parts),
        }
    }

    /// RFC 5958 section 2 wraps what the two others are.
    fn pkcs8(parts: &[Element<'a>]) -> Option<PrivateKey<'a>> {
        let [version, algorithm, wrapped, ..] = *parts else { return None };
        if [version.tag, algorithm.tag, wrapped.tag]
            != [der::INTEGER, der::SEQUENCE, der::OCTET_STRING]
        {
            return None;
        }
        let mut algorithm = Elements::of(algorithm.value);
        let kind = algorithm.expect(der::OBJECT_IDENTIFIER)?;
        if oid::RSA.contains(&kind) {
            let key = PrivateKey::numbers(&self::parts(wrapped.value)?)?;
            key.rsa.is_some().then_some(PrivateKey { kind, ..key })
        } else if kind == oid::EC {
            let key = PrivateKey::sec1(&self::parts(wrapped.value)?)?;
            let curve = algorithm.expect(der::OBJECT_IDENTIFIER).or(key.curve);
            Some(PrivateKey { curve, ..key })
        } else {
            Some(PrivateKey { kind, ..PrivateKey::default() })
        }
    }

    /// RFC 5915 section 3.
    fn sec1(parts: &[Element<'a>]) -> Option<PrivateKey<'a>> {
        let [version, secret, ref optional @ ..] = *parts else { return None };
        if [version.tag, secret.tag] != [der::INTEGER, der::OCTET_STRING] {
            return None;
        }
        let found = |tag| optional.iter().find(|it| it.tag == tag).map(|it| Elements::of(it.value));
        let curve = found(PARAMETERS).and_then(|mut it| it.expect(der::OBJECT_IDENTIFIER));
        let point = found(PUBLIC_KEY).and_then(|mut it| it.expect(der::BIT_STRING)).and_then(bits);
        Some(PrivateKey { kind: oid::EC, curve, rsa: None, point })
    }

    /// RSA (RFC 8017 appendix A.1.2): modulus and exponent are as in the public key. Or DSA.
    fn numbers(parts: &[Element<'a>]) -> Option<PrivateKey<'a>> {
        let are_numbers = parts.iter().all(|part| part.tag == der::INTEGER);
        match *parts {
            [_, modulus, exponent, ..] if are_numbers && parts.len() == RSA_NUMBERS => {
                let rsa = Some([modulus, exponent]);
                Some(PrivateKey { kind: oid::RSA_ENCRYPTION, rsa, ..PrivateKey::default() })
            }
            _ if are_numbers && parts.len() == DSA_NUMBERS => {
                Some(PrivateKey { kind: oid::DSA, ..PrivateKey::default() })
            }
            _ => None,
        }
    }
}

/// What stands in a sequence. What stands behind it OpenSSL does not look at.
fn parts(der: &[u8]) -> Option<Vec<Element<'_>>> {
    Elements::of(Elements::of(der).expect(der::SEQUENCE)?).all()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::bundle::{read_certificates, read_private_key};
    use super::*;
    use crate::testing::{ODD_CERTIFICATE, ODD_KEY, OTHER_ODD_KEY};

    /// The odd key as PKCS#8, and without its public half.
    const WRAPPED: &str = "\
-----BEGIN PRIVATE KEY-----
MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgZ8TPFZW6toza3W5lla+n
asUTmTNJgk6K0rqGwrOcOBChRANCAAT1h/wZb/u3xD30cdRBhayxo3yrrg76Y7fv
3kwu/1NADcPJZ+xWdSvZbHvGEU0M94tVHPy19+M2YR/32Ygl7gnK
-----END PRIVATE KEY-----
";
    const BARE: &str = "\
-----BEGIN EC PRIVATE KEY-----
MC4CAQEEIGfEzxWVuraM2t1uZZWvp2rFE5kzSYJOitK6hsKznDgQoAcGBSuBBAAK
-----END EC PRIVATE KEY-----
";
    /// RSA keys that are too short to be used, and a certificate of the first one.
    const RSA: &str = "\
-----BEGIN RSA PRIVATE KEY-----
MIIBPAIBAAJBANL5vDdYdwMKJ530Dt2IayNNJkKSzrmCqq/ula6K5Ywwt0un1Ur4
opeRK2vuYcI1vbEvHMWS3p1E2Xvs5sXoFi8CAwEAAQJBAJOxXpDELnSDTF6oNyvg
z1fkL2+VhICbt8/3zvNkqvOq9XjINtvk4X87vqm0N5Rwr0yYZu1iau2hf5U7q+Yu
HFECIQDuVha/qrYQtQeQCFAbxpVq7viemM6fY2gqxg9APHzNNwIhAOKciSKX1IyE
M9VbLTH5rtf3RhSGvY9+FzKXvRGcN7rJAiEAvtK+tAcCbq4CuBdvzE1bJJrhBFpk
VMlKhbS+UTgc1FECIAxK13mD6OiyZylkp7/1PlHCvQ9x+6hj+5gn+P6SjcdZAiEA
1FXhfwuRirYHGidInU/kvLC6ShkooGo+c+PpZmflb5c=
-----END RSA PRIVATE KEY-----
";
    const OTHER_RSA: &str = "\
-----BEGIN RSA PRIVATE KEY-----
MIIBOgIBAAJBAK9l2AXqIociG4mXPcqZL2LXmwH0lu0yPgIWecKi3aU4RlcdkGKV
zmrYHpvKKKbkBSnKhAFrQEh6HPDN/2mqKpsCAwEAAQJAE60hJsi1RuOUo0LMM8Yr
grMdOILvy3wvaJyM3EDZDIer7LlUs3IzY0cSlxNmLywjPBD/aoWdTkhoxEoUakcc
wQIhAOT+9owx0TSfEKRpiQVUD2YX3vU/GVop1bk3YsaFcM79AiEAxBTV55xU7/XB
s6UXujcsAaynd4QGagXt9qRtbRwXr3cCIHwzENN+3YHV1/fkSW27ZtKvlbycKYru
b72SHZ+glkudAiBOjw54YgEBttOpdt5/w/UEorjhwGqVddS2OYCB83xl1wIhAKHF
qMs/UH/hI4eYhPtK1VMTUj7yf8rPJNy9Rac9H5Op
-----END RSA PRIVATE KEY-----
";
    const RSA_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBQzCB7qADAgECAgELMA0GCSqGSIb3DQEBCwUAMBAxDjAMBgNVBAMMBWEub3Jn
MB4XDTI2MTEyMDAwMDAwMFoXDTI3MDIxODAwMDAwMFowEDEOMAwGA1UEAwwFYS5v
cmcwXDANBgkqhkiG9w0BAQEFAANLADBIAkEA0vm8N1h3AwonnfQO3YhrI00mQpLO
uYKqr+6VrorljDC3S6fVSviil5Era+5hwjW9sS8cxZLenUTZe+zmxegWLwIDAQAB
ozMwMTAQBgNVHREECTAHggVhLm9yZzAdBgNVHQ4EFgQUvecKXd1yCxIqk/CvzzeY
MuIp3gUwDQYJKoZIhvcNAQELBQADQQC/41Sr8e2/SI8L+iPTuNHt8p6Pn3I3z8dH
BYZ70eLyRVpB5pknYgy0RJmVlOzrpUiLxWdQvxJ0ajQCsIsARFIk
-----END CERTIFICATE-----
";

    fn key(pem: &str) -> Zeroizing<PrivateKeyDer<'static>> {
        read_private_key(pem).unwrap()
    }

    fn certificate(pem: &str) -> Vec<u8> {
        read_certificates(pem).unwrap().remove(0).to_vec()
    }

    /// The same with other bytes.
    fn with(key: &PrivateKeyDer<'_>, der: &[u8]) -> PrivateKeyDer<'static> {
        match key {
            PrivateKeyDer::Pkcs8(_) => PrivateKeyDer::Pkcs8(der.to_vec().into()),
            PrivateKeyDer::Sec1(_) => PrivateKeyDer::Sec1(der.to_vec().into()),
            _ => PrivateKeyDer::Pkcs1(der.to_vec().into()),
        }
    }

    #[test]
    fn a_key_is_known_by_its_public_half() {
        let cases = [
            (ODD_KEY, ODD_CERTIFICATE, KeyMatch::Match),
            (WRAPPED, ODD_CERTIFICATE, KeyMatch::Match),
            (BARE, ODD_CERTIFICATE, KeyMatch::Unknown),
            (OTHER_ODD_KEY, ODD_CERTIFICATE, KeyMatch::Mismatch),
            (RSA, RSA_CERTIFICATE, KeyMatch::Match),
            (OTHER_RSA, RSA_CERTIFICATE, KeyMatch::Mismatch),
            (RSA, ODD_CERTIFICATE, KeyMatch::Mismatch),
            (ODD_KEY, RSA_CERTIFICATE, KeyMatch::Mismatch),
        ];
        for (place, (key_pem, certificate_pem, expected)) in cases.into_iter().enumerate() {
            let found = compare(&key(key_pem), &certificate(certificate_pem));
            assert_eq!(found, expected, "{place}");
        }
    }

    #[test]
    fn a_key_that_is_not_whole_is_nobodys() {
        let certificate = certificate(ODD_CERTIFICATE);
        for whole in [ODD_KEY, WRAPPED, RSA].map(key) {
            let der = whole.secret_der();
            assert!(is_whole(&whole, false) && !is_whole(&key(RSA), true));
            for end in 0..der.len() {
                let cut = with(&whole, &der[..end]);
                assert_eq!(compare(&cut, &certificate), KeyMatch::Malformed, "{end}");
                assert!(!is_whole(&cut, false));
            }
            let longer = with(&whole, &[der, &[0]].concat());
            assert_eq!(compare(&longer, &certificate), compare(&whole, &certificate));
            for place in 0..der.len() {
                let mut mangled = der.to_vec();
                mangled[place] ^= 0x55;
                let _ = compare(&with(&whole, &mangled), &certificate);
            }
        }
        assert_eq!(compare(&key(ODD_KEY), &certificate[..9]), KeyMatch::Malformed);
        // Each under the label of another.
        let (sec1, pkcs8, pkcs1) = (key(ODD_KEY), key(WRAPPED), key(RSA));
        for (label_of, of) in [(&sec1, &pkcs8), (&pkcs8, &pkcs1), (&pkcs1, &sec1), (&sec1, &pkcs1)]
        {
            assert!(!is_whole(&with(label_of, of.secret_der()), false));
        }
    }
}
