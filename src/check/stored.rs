//! Which certificate HAProxy should serve for each name, by the files of the storage directory, and what is
//! wrong when it serves another. Probes nothing.

use std::collections::BTreeMap;

use crate::domain::Domain;
use crate::hint::Hint;
use crate::pki::inspection::{
    Inspection, StoredLeaf, is_for, is_self_issued, serial, served_names, wildcard_of,
};
use crate::pki::{Fingerprint, Leaf};
use crate::survey::{Found, Stranger};
use crate::time::UnixTime;

use super::report::Verdict;

const RELOAD: &str = "HAProxy has not loaded the file: look into marathon-lb's log why it does not \
                      reload, and whether it sees this storage directory";

/// The certificate files, by what HAProxy serves of them.
#[derive(Debug, Default)]
pub(super) struct Stored {
    inspection: Inspection,
    /// Files in `certs/` that are not ours.
    foreign: Vec<(String, Fingerprint)>,
    /// The index of the file that is served for a name: of several with one name HAProxy serves that whose
    /// file name comes first, byte for byte.
    by_name: BTreeMap<String, usize>,
}

/// What is wrong with a certificate that a load balancer serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) verdict: Verdict,
    /// What is served, without the name that was asked for, so that names with one problem are one finding.
    pub(super) served: String,
    pub(super) remedy: &'static str,
}

impl Stored {
    pub(super) fn new(inspection: Inspection, foreign: &[Stranger]) -> Stored {
        let foreign = foreign.iter().filter_map(|stranger| {
            let Found::File(text) = &stranger.found else { return None };
            Some((stranger.file.clone(), StoredLeaf::read(text).ok()?.fingerprint))
        });
        let mut stored = Stored { foreign: foreign.collect(), ..Stored::default() };
        for (index, (file, leaf)) in inspection.files.iter().enumerate() {
            for name in leaf.iter().flat_map(|leaf| &leaf.names) {
                let known = stored.by_name.get(name).and_then(|it| inspection.files.get(*it));
                if known.is_none_or(|(known, _)| file_name(file) < file_name(known)) {
                    stored.by_name.insert(name.clone(), index);
                }
            }
        }
        Stored { inspection, ..stored }
    }

    pub(super) fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// The names to compare: first one for each file, then all others that are `wanted`; all that the files
    /// bear where it is not known what is.
    pub(super) fn names(&self, wanted: Option<&dyn Fn(&Domain) -> bool>) -> Vec<Domain> {
        let is_wanted = |name: &Domain| wanted.is_none_or(|wanted| wanted(name));
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for (name, index) in &self.by_name {
            let Ok(domain) = Domain::parse(name) else { continue };
            let Some((file, Ok(leaf))) = self.inspection.files.get(*index) else { continue };
            if leaf.can_be_seen && is_wanted(&domain) {
                if *file == domain { first.push(domain) } else { rest.push(domain) }
            }
        }
        first.extend(rest);
        first
    }

    /// The file that HAProxy serves for a name: an exact name goes before a wildcard.
    fn expected(&self, name: &str) -> Option<(&Domain, &StoredLeaf)> {
        let exact = self.by_name.get(name);
        let index = exact.or_else(|| self.by_name.get(&wildcard_of(name)?))?;
        let (file, leaf) = self.inspection.files.get(*index)?;
        Some((file, leaf.as_ref().ok()?))
    }

    /// Judges what is served for a name; `None` where it is what is stored.
    pub(super) fn judge(&self, name: &Domain, der: &[u8], now: UnixTime) -> Option<Mismatch> {
        let (file, expected) = self.expected(name.as_str())?;
        let served = Fingerprint::of(der);
        let fail =
            |served: String, remedy| Some(Mismatch { verdict: Verdict::Fail, served, remedy });
        if served == expected.fingerprint {
            let text =
                format!("its stored certificate, which has expired at {}", expected.not_after);
            let remedy = "let marathon-acme run; --list shows what its renewal fails of";
            return if expected.not_after < now { fail(text, remedy) } else { None };
        }
        if self.fallback().is_some_and(|it| it.fingerprint == served) {
            return fail("default.pem, the self-signed fallback".into(), RELOAD);
        }
        if let Some((file, _)) = self.foreign.iter().find(|(_, leaf)| *leaf == served) {
            return fail(format!("certs/{file}, which is not ours"), Hint::ForeignFile.text());
        }
        let Some(leaf) = Leaf::parse(der) else {
            return fail("what is not a certificate".into(), Hint::LbOtherFile.text());
        };
        if let Some((other, own)) = self.whole_files().find(|(_, it)| it.fingerprint == served) {
            // Of files for keys of different kinds HAProxy chooses by what the client supports.
            let is_as_good = own.is_for(name.as_str())
                && own.not_after >= now
                && own.key_algorithm != expected.key_algorithm;
            let text = format!("certs/{other}.pem in place of certs/{file}.pem");
            return if is_as_good { None } else { fail(text, RELOAD) };
        }
        Some(unknown(name, (&leaf, der), expected, now))
    }

    /// Judges what is served for a name that no certificate is for: which file is the default.
    pub(super) fn judge_default(&self, der: &[u8]) -> Result<String, Mismatch> {
        let served = Fingerprint::of(der);
        if self.fallback().is_some_and(|it| it.fingerprint == served) {
            return Ok("default.pem".into());
        }
        if let Some((file, _)) = self.whole_files().find(|(_, it)| it.fingerprint == served) {
            return Ok(format!("certs/{file}.pem"));
        }
        if let Some((file, _)) = self.foreign.iter().find(|(_, leaf)| *leaf == served) {
            return Ok(format!("certs/{file}"));
        }
        let leaf = Leaf::parse(der);
        let whose =
            leaf.map_or_else(|| "what is not a certificate".into(), |leaf| described(&leaf, der));
        Err(Mismatch {
            verdict: Verdict::Warn,
            served: format!(
                "{whose}, which is not in this storage: default.pem is not its default"
            ),
            remedy: "let --ssl-certs name certs/ of this storage directory first and default.pem \
                     after it",
        })
    }

    fn fallback(&self) -> Option<&StoredLeaf> {
        self.inspection.fallback.as_ref()?.as_ref().ok()
    }

    fn whole_files(&self) -> impl Iterator<Item = (&Domain, &StoredLeaf)> {
        self.inspection.files.iter().filter_map(|(file, leaf)| Some((file, leaf.as_ref().ok()?)))
    }
}

fn file_name(name: &Domain) -> String {
    format!("{name}.pem")
}

/// A certificate that no file of the storage holds.
fn unknown(
    name: &Domain,
    (leaf, der): (&Leaf, &[u8]),
    expected: &StoredLeaf,
    now: UnixTime,
) -> Mismatch {
    let described = described(leaf, der);
    let expired = if leaf.not_after < now {
        format!(", which has expired at {}", leaf.not_after)
    } else {
        String::new()
    };
    let is_for_name = is_for(&served_names(leaf, der), name.as_str());
    let (verdict, age, remedy) = match () {
        () if is_self_issued(der) || !is_for_name => (Verdict::Fail, "", Hint::LbOtherFile.text()),
        () if leaf.not_before < expected.not_before => (Verdict::Fail, "an earlier one, ", RELOAD),
        // The daemon may have renewed it since the files were read.
        () => (
            Verdict::Warn,
            "one that is not older than the stored one, ",
            "check again, as it may just have been renewed; if it stays so, two instances of \
             marathon-acme or another ACME client serve the name",
        ),
    };
    let stored =
        if is_for_name { format!("; stored is serial {}", expected.serial) } else { String::new() };
    Mismatch { verdict, served: format!("{age}{described}{expired}{stored}"), remedy }
}

/// Whose certificate it is, and from whom.
fn described(leaf: &Leaf, der: &[u8]) -> String {
    let names = served_names(leaf, der);
    let whose = names.first().map_or("nobody", String::as_str);
    if is_self_issued(der) {
        return format!("a self-signed certificate for {whose}");
    }
    let issuer = leaf.issuer_common_name.as_deref().unwrap_or_default();
    format!("the certificate for {whose} with serial {} of {issuer:?}", serial(leaf))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, Issuer, KeyPair};

    use super::*;
    use crate::check::tests::leaf;
    use crate::secret::Secret;

    const FOREIGN: &str = "0.pem";

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    /// A certificate for a name from these days on, for ten days: its DER and its file. Day 0 has no issuer.
    fn made(name: &str, day: u8, is_self_signed: bool) -> (Vec<u8>, Secret) {
        let params = |name: &str| {
            let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2026, 11, day);
            params.not_after = rcgen::date_time_ymd(2026, 11, day + 10);
            let mut subject = rcgen::DistinguishedName::new();
            subject.push(rcgen::DnType::CommonName, name);
            params.distinguished_name = subject;
            params
        };
        let key = KeyPair::generate().unwrap();
        let certificate = if is_self_signed {
            params(name).self_signed(&key).unwrap()
        } else {
            let issuer = Issuer::new(params("ca.example"), KeyPair::generate().unwrap());
            params(name).signed_by(&key, &issuer).unwrap()
        };
        let pem = Secret::new(key.serialize_pem() + &certificate.pem());
        (certificate.der().to_vec(), pem)
    }

    fn now() -> UnixTime {
        // 2026-11-16.
        UnixTime::from_seconds(1_794_787_200)
    }

    #[test]
    fn what_is_served_is_compared_and_named() {
        let (good, file) = made("a.org", 10, false);
        let (fallback, fallback_file) = made("x.example", 1, true);
        let (foreign, foreign_file) = made("a.org", 2, false);
        let (other, other_file) = made("b.org", 9, false);
        let read = |file: &Secret| StoredLeaf::read(file).unwrap();
        let both = StoredLeaf { names: vec!["b.org".into(), "a.org".into()], ..read(&other_file) };
        let inspection = Inspection {
            files: vec![(domain("a.org"), Ok(read(&file))), (domain("b.org"), Ok(both))],
            fallback: Some(Ok(read(&fallback_file))),
        };
        let stranger = Stranger { file: FOREIGN.into(), found: Found::File(foreign_file) };
        let stored = Stored::new(inspection, &[stranger]);
        let judge = |der: &[u8]| stored.judge(&domain("a.org"), der, now());
        assert_eq!(judge(&good), None);
        let cases = [
            (fallback, Verdict::Fail, "default.pem, the self-signed fallback"),
            (foreign, Verdict::Fail, "certs/0.pem, which is not ours"),
            (other, Verdict::Fail, "certs/b.org.pem in place of certs/a.org.pem"),
            (b"x".to_vec(), Verdict::Fail, "what is not a certificate"),
            (made("a.org", 8, true).0, Verdict::Fail, "a self-signed certificate for a.org"),
            (made("c.org", 12, false).0, Verdict::Fail, "the certificate for c.org with serial"),
            (made("a.org", 7, false).0, Verdict::Fail, "an earlier one, the certificate for a.org"),
            (made("a.org", 3, false).0, Verdict::Fail, ", which has expired at 2026-11-13"),
            (made("a.org", 12, false).0, Verdict::Warn, "one that is not older than the stored"),
        ];
        for (der, verdict, words) in cases {
            let found = judge(&der).unwrap();
            assert!(found.verdict == verdict && found.served.contains(words), "{words}: {found:?}");
        }
        let late = now().plus(Duration::from_secs(9 * 24 * 60 * 60));
        let expired = stored.judge(&domain("a.org"), &good, late).unwrap();
        assert!(expired.served.starts_with("its stored certificate, which has expired"));
    }

    #[test]
    fn of_files_with_one_name_that_whose_file_name_comes_first_is_expected() {
        let files = ["b.org", "a.org", "a.org-x.org"].map(|name| {
            (domain(name), Ok(leaf(&[name, "all.org", "*.wild.org"], name.as_bytes())))
        });
        let stored = Stored::new(Inspection { files: files.into(), fallback: None }, &[]);
        let expected = |name| stored.expected(name).map(|(file, _)| file.to_string());
        assert_eq!(expected("all.org").as_deref(), Some("a.org-x.org"), "'-' is before '.'");
        assert_eq!(expected("b.org").as_deref(), Some("b.org"));
        assert_eq!(expected("x.wild.org").as_deref(), Some("a.org-x.org"));
        assert_eq!(expected("c.org"), None);
        let names: Vec<String> = stored.names(None).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.org", "a.org-x.org", "b.org", "all.org"]);
        let wanted = |name: &Domain| name.as_str() == "all.org";
        assert_eq!(stored.names(Some(&wanted)), [domain("all.org")]);
    }

    #[test]
    fn a_file_for_another_kind_of_key_is_as_good() {
        let (der, file) = made("b.org", 10, false);
        let second = StoredLeaf { names: vec!["a.org".into()], ..StoredLeaf::read(&file).unwrap() };
        let rsa = StoredLeaf { key_algorithm: vec![1], ..leaf(&["a.org"], b"rsa") };
        let files = vec![(domain("a.org"), Ok(rsa)), (domain("b.org"), Ok(second))];
        let stored = Stored::new(Inspection { files, fallback: None }, &[]);
        assert_eq!(stored.judge(&domain("a.org"), &der, now()), None);
    }

    #[test]
    fn the_default_is_a_file_of_the_storage_or_a_warning() {
        let (fallback, fallback_file) = made("x.example", 1, true);
        let (first, first_file) = made("a.org", 10, false);
        let read = |file: &Secret| Ok(StoredLeaf::read(file).unwrap());
        let inspection = Inspection {
            files: vec![(domain("a.org"), read(&first_file))],
            fallback: Some(read(&fallback_file)),
        };
        let stored = Stored::new(inspection, &[]);
        assert_eq!(stored.judge_default(&fallback), Ok("default.pem".into()));
        assert_eq!(stored.judge_default(&first), Ok("certs/a.org.pem".into()));
        let own = stored.judge_default(&made("lb.example", 1, true).0).unwrap_err();
        assert_eq!(own.verdict, Verdict::Warn);
        assert!(own.served.starts_with("a self-signed certificate for lb.example, which is not"));
    }
}
