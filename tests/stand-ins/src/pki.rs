//! A small public-key infrastructure from a seed: a root, an intermediate, and the leaves it
//! issues.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
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
    high_serials: bool,
    critical_extension: Option<&'static [u64]>,
    /// What crossed chains are made of, when somebody asks for one.
    origin: Origin,
    crossed: BTreeMap<u8, Crossed>,
}

struct Origin {
    seed: u64,
    name: String,
    now: Time,
    key: Signer,
}

/// Another root, and the intermediate as that root certifies it.
struct Crossed {
    root_der: Vec<u8>,
    intermediate_der: Vec<u8>,
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
        let params = intermediate(name, now, &mut random);
        let intermediate_der = params
            .signed_by(&key, &root)
            .expect("fixed parameters and a P-256 key make a certificate")
            .der()
            .to_vec();
        let origin = Origin { seed, name: name.to_string(), now, key: key.clone() };
        let issuer = Issuer::new(params, key);
        Pki {
            issuer,
            root_der,
            intermediate_der,
            random,
            high_serials: false,
            critical_extension: None,
            origin,
            crossed: BTreeMap::new(),
        }
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

    /// Whether serial numbers use their first bit too: DER then writes half of them with a leading
    /// zero. Takes no more chance than without.
    pub fn set_high_serials(&mut self, on: bool) {
        self.high_serials = on;
    }

    /// The object identifier of a critical extension that leaves have from now on, if any. Its value is one
    /// certificate policy, whatever it is.
    pub fn set_critical_extension(&mut self, oid: Option<&'static [u64]>) {
        self.critical_extension = oid;
    }

    /// The root of another chain, PEM: `NAME Root 2` for chain 1, and so on.
    pub fn alternate_root_pem(&self, chain: u8) -> String {
        match self.crossed.get(&chain) {
            Some(crossed) => pem("CERTIFICATE", &crossed.root_der),
            None => pem("CERTIFICATE", &self.origin.cross(chain).root_der),
        }
    }

    /// A leaf by another chain, PEM: the same leaf, the intermediate as another root certifies it.
    pub fn alternate_chain_pem(&mut self, leaf_der: &[u8], chain: u8) -> String {
        let origin = &self.origin;
        let crossed = self.crossed.entry(chain).or_insert_with(|| origin.cross(chain));
        pem("CERTIFICATE", leaf_der) + &pem("CERTIFICATE", &crossed.intermediate_der)
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
        let serial = serial(&mut self.random, self.high_serials);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions.extend(self.critical_extension.map(critical));
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

impl Origin {
    /// A chain of chance of its own, so that it does not matter when it is made.
    fn cross(&self, chain: u8) -> Crossed {
        let mut random = Random::new(!self.seed.wrapping_add(u64::from(chain) << 32));
        let root_key = Signer::draw(&mut random);
        let root_name = format!("{} Root {}", self.name, u16::from(chain) + 1);
        let root_params = authority(&root_name, self.now, &mut random);
        let root_der = root_params
            .self_signed(&root_key)
            .expect("fixed parameters and a P-256 key make a certificate")
            .der()
            .to_vec();
        let intermediate_der = intermediate(&self.name, self.now, &mut random)
            .signed_by(&self.key, &Issuer::new(root_params, root_key))
            .expect("fixed parameters and a P-256 key make a certificate")
            .der()
            .to_vec();
        Crossed { root_der, intermediate_der }
    }
}

/// A critical extension whose value is the policy "domain validated" (RFC 5280 section 4.2.1.4).
fn critical(oid: &[u64]) -> CustomExtension {
    let value = [0x30, 10, 0x30, 8, 6, 6, 0x67, 0x81, 0x0c, 1, 2, 1];
    let mut extension = CustomExtension::from_oid_content(oid, value.to_vec());
    extension.set_criticality(true);
    extension
}

/// A PEM block (RFC 7468) with lines of 64 characters.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or("")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn intermediate(name: &str, now: Time, random: &mut Random) -> CertificateParams {
    let mut params = authority(&format!("{name} Intermediate"), now, random);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    params
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
    params.serial_number = Some(SerialNumber::from_slice(&serial(random, false)));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// 16 bytes whose first byte is not 0, and whose first bit is 0 unless it may be 1: DER sets a zero
/// before it then, since the number is positive.
fn serial(random: &mut Random, high: bool) -> [u8; 16] {
    let mut serial = random.bytes::<16>();
    serial[0] = if high { serial[0] | 1 } else { serial[0] & 0x7f | 1 };
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
    fn another_chain_has_another_root_and_the_same_intermediate_key() {
        let mut pki = Pki::new(1, "Test", NOW);
        let leaf = pki.issue(&Signer::from_seed(2), &[dns("a.example.com")], NOW, 60).unwrap();
        let early = pki.alternate_root_pem(2);
        let chain = pki.alternate_chain_pem(&leaf.der, 2);
        assert_eq!(early, pki.alternate_root_pem(2));
        let blocks: Vec<_> = x509_parser::pem::Pem::iter_from_buffer(chain.as_bytes()).collect();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].as_ref().unwrap().contents, leaf.der);
        let middle = blocks[1].as_ref().unwrap().parse_x509().unwrap();
        let (_, usual) = x509_parser::parse_x509_certificate(pki.intermediate_der()).unwrap();
        assert_eq!(middle.public_key(), usual.public_key());
        assert_eq!(middle.subject(), usual.subject());
        let (_, root) = x509_parser::pem::parse_x509_pem(early.as_bytes()).unwrap();
        let root = root.parse_x509().unwrap();
        assert_eq!(middle.verify_signature(Some(root.public_key())), Ok(()));
        let name = root.subject().iter_common_name().next().unwrap().as_str().unwrap();
        assert_eq!(name, "Test Root 3");
        assert_ne!(early, pki.alternate_root_pem(1));
    }

    #[test]
    fn high_serials_take_the_same_chance_and_sometimes_a_leading_zero() {
        let mut pki = Pki::new(1, "Test", NOW);
        pki.set_high_serials(true);
        let mut zeros = 0;
        for _ in 0..20 {
            let leaf = pki.issue(&Signer::from_seed(2), &[dns("a.example.com")], NOW, 60).unwrap();
            let (_, found) = x509_parser::parse_x509_certificate(&leaf.der).unwrap();
            zeros += usize::from(found.raw_serial()[0] == 0);
        }
        assert!((3..18).contains(&zeros), "{zeros}");
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
