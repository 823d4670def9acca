//! Whether a private key that the TLS library cannot use may be a certificate's, as far as its DER tells:
//! of its kind nothing is known but where its public half stands. No arithmetic.

use super::der::{self, Element, Elements};
use super::leaf::{bits, subject_key};

/// `[1] publicKey` of an `ECPrivateKey` (RFC 5915 section 3).
const PUBLIC_KEY: u8 = 0xa1;

/// How a key stands to a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinship {
    /// It bears the certificate's public key.
    Own,
    /// It bears another one.
    Another,
    /// It bears none that is found.
    Unknown,
    /// It is not whole.
    Malformed,
}

/// Compares a private key (PKCS#8, PKCS#1 or SEC1) with a certificate, both as DER.
pub(super) fn kinship(key: &[u8], certificate: &[u8]) -> Kinship {
    let (Some(parts), Some((_, public))) = (parts(key), subject_key(certificate)) else {
        return Kinship::Malformed;
    };
    match parts[..] {
        // PKCS#8 (RFC 5958 section 2) wraps what the two others are.
        [_, algorithm, wrapped, ..] if is(algorithm, der::SEQUENCE) => {
            // Some kinds have no structure of their own.
            self::parts(wrapped.value).map_or(Kinship::Unknown, |parts| of_public(&parts, public))
        }
        _ => of_public(&parts, public),
    }
}

fn of_public(key: &[Element<'_>], public: &[u8]) -> Kinship {
    let is_own = match key {
        // PKCS#1 (RFC 8017 appendix A.1): modulus and exponent, as in the public key.
        [_, modulus, exponent, ..] if is(*modulus, der::INTEGER) => {
            parts(public).map(|public| public == [*modulus, *exponent])
        }
        // SEC1: the point. It may be written in a shorter form than the certificate's.
        [_, secret, .., last] if is(*secret, der::OCTET_STRING) && is(*last, PUBLIC_KEY) => {
            let point = Elements::of(last.value).expect(der::BIT_STRING).and_then(bits);
            let point = point.filter(|point| point.len() == public.len());
            point.map(|point| point == public)
        }
        _ => None,
    };
    match is_own {
        Some(true) => Kinship::Own,
        Some(false) => Kinship::Another,
        None => Kinship::Unknown,
    }
}

fn is(element: Element<'_>, tag: u8) -> bool {
    element.tag == tag
}

/// What stands in a sequence that is all there is.
fn parts(der: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut whole = Elements::of(der);
    let parts = Elements::of(whole.expect(der::SEQUENCE)?).all()?;
    whole.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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

    fn key(pem: &str) -> Vec<u8> {
        PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap().secret_der().to_vec()
    }

    fn certificate(pem: &str) -> Vec<u8> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    }

    #[test]
    fn a_key_is_known_by_its_public_half() {
        let cases = [
            (ODD_KEY, ODD_CERTIFICATE, Kinship::Own),
            (WRAPPED, ODD_CERTIFICATE, Kinship::Own),
            (BARE, ODD_CERTIFICATE, Kinship::Unknown),
            (OTHER_ODD_KEY, ODD_CERTIFICATE, Kinship::Another),
            (RSA, RSA_CERTIFICATE, Kinship::Own),
            (OTHER_RSA, RSA_CERTIFICATE, Kinship::Another),
            (RSA, ODD_CERTIFICATE, Kinship::Unknown),
        ];
        for (place, (key_pem, certificate_pem, expected)) in cases.into_iter().enumerate() {
            let found = kinship(&key(key_pem), &certificate(certificate_pem));
            assert_eq!(found, expected, "{place}");
        }
    }

    #[test]
    fn a_key_that_is_not_whole_is_nobodys() {
        let certificate = certificate(ODD_CERTIFICATE);
        for whole in [ODD_KEY, WRAPPED, RSA].map(key) {
            for end in 0..whole.len() {
                assert_eq!(kinship(&whole[..end], &certificate), Kinship::Malformed, "{end}");
            }
            let longer = [&whole[..], &[0]].concat();
            assert_eq!(kinship(&longer, &certificate), Kinship::Malformed);
            for place in 0..whole.len() {
                let mut mangled = whole.clone();
                mangled[place] ^= 0x55;
                let _ = kinship(&mangled, &certificate);
            }
        }
        assert_eq!(kinship(&key(ODD_KEY), &certificate[..9]), Kinship::Malformed);
    }
}
