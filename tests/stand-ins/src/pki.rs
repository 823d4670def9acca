//! A small public-key infrastructure from a seed: a root, an intermediate, and the leaves it
//! issues.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};

use crate::date;
use crate::peer::Time;
use crate::random::Random;
use crate::seeded::Signer;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Root and intermediate: from a day before they are made, for so long.
const AUTHORITY_DAYS: i64 = 20 * 365;

/// A root and an intermediate that certify whatever they are asked to.
pub struct Pki {
    issuer: Issuer<'static, Signer>,
    root_der: Vec<u8>,
    intermediate_der: Vec<u8>,
    random: Random,
}

/// A leaf that a [`Pki`] issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The certificate.
    pub der: Vec<u8>,
    /// Leaf and intermediate, PEM; the root is left out, as a CA does.
    pub chain_pem: String,
    /// Upper-case hexadecimal, no separators.
    pub serial: String,
    /// Milliseconds since 1970.
    pub not_before_ms: i64,
    /// Milliseconds since 1970, inclusive.
    pub not_after_ms: i64,
}

/// A key and its chain, for a TLS server.
#[derive(Clone)]
pub struct Identity {
    /// Leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 DER.
    pub key: Vec<u8>,
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Pki {
    /// The infrastructure of a seed: `NAME Root` certifies `NAME Intermediate`.
    pub fn new(seed: u64, name: &str, now: Time) -> Pki {
        let mut random = Random::new(seed);
        let root_key = Signer::draw(&mut random);
        let root_params = authority(&format!("{name} Root"), now, &mut random);
        let root_der = root_params
            .self_signed(&root_key)
            .expect("fixed parameters and a P-256 key make a certificate")
            .der()
            .to_vec();
        let root = Issuer::new(root_params, root_key);
        let key = Signer::draw(&mut random);
        let mut params = authority(&format!("{name} Intermediate"), now, &mut random);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        let intermediate_der = params
            .signed_by(&key, &root)
            .expect("fixed parameters and a P-256 key make a certificate")
            .der()
            .to_vec();
        Pki { issuer: Issuer::new(params, key), root_der, intermediate_der, random }
    }

    /// The root, DER.
    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    /// The root, PEM: what a client is told to trust.
    pub fn root_pem(&self) -> String {
        pem("CERTIFICATE", &self.root_der)
    }

    /// The intermediate, DER.
    pub fn intermediate_der(&self) -> &[u8] {
        &self.intermediate_der
    }

    /// Certifies `key` for `names`, from an hour ago and for `lifetime_seconds` from then on.
    ///
    /// # Errors
    /// A name is not ASCII, or the key is of a kind that rcgen cannot write.
    pub fn issue(
        &mut self,
        key: &impl PublicKeyData,
        names: &[SanType],
        now: Time,
        lifetime_seconds: u32,
    ) -> Result<Leaf, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names.to_vec();
        let not_before_ms = (now.unix_ms - DAY_MS / 24).div_euclid(1000) * 1000;
        // RFC 5280 section 4.1.2.5: both ends belong to the validity.
        let not_after_ms = not_before_ms + (i64::from(lifetime_seconds) - 1) * 1000;
        params.not_before = date::calendar(not_before_ms);
        params.not_after = date::calendar(not_after_ms);
        let serial = serial(&mut self.random);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let der = params.signed_by(key, &self.issuer)?.der().to_vec();
        let chain_pem = pem("CERTIFICATE", &der) + &pem("CERTIFICATE", &self.intermediate_der);
        let serial = serial.iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Leaf { der, chain_pem, serial, not_before_ms, not_after_ms })
    }

    /// A new key and its certificate for a TLS server of these names or addresses, for a year.
    ///
    /// # Errors
    /// A name is not ASCII.
    pub fn identity(&mut self, names: &[&str], now: Time) -> Result<Identity, rcgen::Error> {
        let key = Signer::draw(&mut self.random);
        let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
        let names = CertificateParams::new(names)?.subject_alt_names;
        let leaf = self.issue(&key, &names, now, 365 * 24 * 60 * 60)?;
        let chain = vec![leaf.der, self.intermediate_der.clone()];
        Ok(Identity { chain, key: key.pkcs8_der() })
    }
}

/// A PEM block (RFC 7468) with lines of 64 characters.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or("")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn authority(name: &str, now: Time, random: &mut Random) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Stand-in for tests, trust it nowhere");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date::calendar(now.unix_ms - DAY_MS);
    params.not_after = date::calendar(now.unix_ms + AUTHORITY_DAYS * DAY_MS);
    params.serial_number = Some(SerialNumber::from_slice(&serial(random)));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// 16 bytes whose first bit is 0 (the number is positive) and whose first byte is not 0.
fn serial(random: &mut Random) -> [u8; 16] {
    let mut serial = random.bytes::<16>();
    serial[0] = serial[0] & 0x7f | 1;
    serial
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time { mono_ms: 0, unix_ms: 1_795_453_200_000 };

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn a_leaf_chains_to_the_root() {
        let mut pki = Pki::new(1, "Test", NOW);
        let key = Signer::from_seed(2);
        let leaf = pki.issue(&key, &[dns("www.example.com")], NOW, 3_600 * 24).unwrap();
        assert_eq!(leaf.not_before_ms, NOW.unix_ms - 3_600_000);
        assert_eq!(leaf.not_after_ms, leaf.not_before_ms + 24 * 3_600_000 - 1_000);

        let (_, found) = x509_parser::parse_x509_certificate(&leaf.der).unwrap();
        let (_, middle) = x509_parser::parse_x509_certificate(pki.intermediate_der()).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(pki.root_der()).unwrap();
        assert_eq!(found.verify_signature(Some(middle.public_key())), Ok(()));
        assert_eq!(middle.verify_signature(Some(root.public_key())), Ok(()));
        assert_eq!(found.validity().not_after.timestamp() * 1_000, leaf.not_after_ms);
        assert_eq!(leaf.chain_pem.matches("BEGIN CERTIFICATE").count(), 2);
    }

    #[test]
    fn a_seed_fixes_every_byte() {
        let make = || {
            let mut pki = Pki::new(9, "Test", NOW);
            let leaf = pki.issue(&Signer::from_seed(2), &[dns("a.example.com")], NOW, 60).unwrap();
            (pki.root_pem(), leaf)
        };
        assert_eq!(make(), make());
    }
}
