//! Reports what the inspection of the certificate files found: whether HAProxy can load each of them, whether
//! each is for its name and current. Reads nothing itself.

use crate::domain::Domain;
use crate::pki::inspection::{Inspection, StoredLeaf};
use crate::survey::Survey;
use crate::time::UnixTime;

use super::report::Finding;
use super::storage::{grouped, has_daemon};
use super::{counted, listed};

const SUBJECT: &str = "certs";
/// A leaf may become valid this much later than now: clocks differ.
const CLOCK_SKEW_MAX: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// The findings at this time. `wanted` is whether an app wants a certificate for a domain, `None` while that
/// is not known.
pub(super) fn findings(
    inspection: &Inspection,
    survey: &Survey,
    wanted: &dyn Fn(&str) -> Option<bool>,
    now: UnixTime,
) -> Vec<Finding> {
    if survey.missing.is_some() {
        return Vec::new();
    }
    let mut findings = damaged(inspection, survey);
    if findings.is_empty() && !inspection.files.is_empty() {
        let count = counted(inspection.files.len() as u64, "certificate file");
        findings.push(Finding::ok(SUBJECT, format!("HAProxy can load {count} of ours")));
    }
    findings.extend(doubtful(inspection, wanted, now));
    findings.extend(fallback(inspection, now));
    findings
}

/// Files that HAProxy refuses, by reason. One whose chain is cut HAProxy 2.6 still loads, without the rest of
/// the chain.
fn damaged(inspection: &Inspection, survey: &Survey) -> Vec<Finding> {
    let remedy = if has_daemon(survey) {
        "the daemon moves it to archive/ within 5 minutes and orders another; move it away yourself \
         if it stays"
    } else {
        "start marathon-acme, which moves it to archive/ and orders another, or move it away"
    };
    let files: Vec<(String, &String)> = inspection
        .files
        .iter()
        .filter_map(|(name, found)| Some((format!("{name}.pem"), found.as_ref().err()?)))
        .collect();
    let items = files.iter().map(|(file, reason)| (reason.to_string(), file.as_str()));
    let groups = grouped(items).into_iter().map(|(reason, files)| {
        let seen =
            format!("certs/: {}: damaged, HAProxy may refuse to reload: {reason}", listed(&files));
        Finding::fail(SUBJECT, seen, remedy)
    });
    groups.collect()
}

/// Files that HAProxy loads, and that are not as they should be.
fn doubtful(
    inspection: &Inspection,
    wanted: &dyn Fn(&str) -> Option<bool>,
    now: UnixTime,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut unlinked = Vec::new();
    let whole = inspection.files.iter().filter_map(|(name, it)| Some((name, it.as_ref().ok()?)));
    for (name, leaf) in whole {
        let file = format!("certs/{name}.pem");
        if !leaf.is_for(name.as_str()) {
            let seen = format!("{file}: it is not for its own name");
            let remedy = "move it to unmanaged-certs/; marathon-acme orders another";
            findings.push(Finding::warn(SUBJECT, seen, remedy));
        }
        if leaf.not_before > now.plus(CLOCK_SKEW_MAX) {
            let seen = format!("{file}: it is not valid before {}", leaf.not_before);
            findings.push(Finding::warn(SUBJECT, seen, "check this machine's clock"));
        }
        if leaf.not_after < now && is_wanted(name, leaf, wanted) {
            let seen = format!("{file}: it has expired at {}", leaf.not_after);
            let remedy = "let marathon-acme run; --list shows what its renewal fails of";
            findings.push(Finding::fail(SUBJECT, seen, remedy));
        }
        if !leaf.is_linked {
            unlinked.push(name.as_str());
        }
    }
    if !unlinked.is_empty() {
        let seen = format!(
            "certs/: the chain for {} is out of order or incomplete: a certificate did not issue the \
             one before it",
            listed(&unlinked)
        );
        let remedy = "move the file away, so that marathon-acme orders another";
        findings.push(Finding::warn(SUBJECT, seen, remedy));
    }
    findings
}

/// Whether an app wants one of its names, as far as that is known.
fn is_wanted(name: &Domain, leaf: &StoredLeaf, wanted: &dyn Fn(&str) -> Option<bool>) -> bool {
    let names = [name.as_str()].into_iter().chain(leaf.names.iter().map(String::as_str));
    names.map(wanted).any(|it| it != Some(false))
}

fn fallback(inspection: &Inspection, now: UnixTime) -> Option<Finding> {
    let remedy = "move it away and start marathon-acme again, which makes another";
    match &inspection.fallback {
        None => {
            let seen = "default.pem is missing: HAProxy does not start where --ssl-certs names it";
            Some(Finding::warn(SUBJECT, seen, "start marathon-acme, which makes it"))
        }
        Some(Err(reason)) => {
            let seen = format!("default.pem: damaged, HAProxy may refuse to reload: {reason}");
            Some(Finding::fail(SUBJECT, seen, remedy))
        }
        Some(Ok(leaf)) if leaf.not_after < now => {
            let seen = format!("default.pem: it has expired at {}", leaf.not_after);
            Some(Finding::warn(SUBJECT, seen, remedy))
        }
        Some(Ok(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::Verdict;
    use super::*;
    use crate::check::tests::{leaf, survey};

    const NOW: i64 = 1_000_000;

    fn found(files: &[(&str, Result<StoredLeaf, String>)]) -> Vec<(Verdict, String)> {
        let file = |(name, it): &(&str, Result<_, _>)| (Domain::parse(name).unwrap(), it.clone());
        let files = files.iter().map(file).collect();
        let inspection = Inspection { files, fallback: Some(Ok(leaf(&["*"], b"default"))) };
        let wanted = |name: &str| Some(name != "old.org");
        let now = UnixTime::from_seconds(NOW);
        let found = findings(&inspection, &survey(), &wanted, now).into_iter();
        found.map(|it| (it.verdict, it.seen)).collect()
    }

    #[test]
    fn a_file_that_haproxy_refuses_is_a_failure() {
        let bad = || Err("it is cut short".to_string());
        let good = leaf(&["a.org"], b"a");
        let said = found(&[("a.org", Ok(good.clone())), ("b.org", bad()), ("c.org", bad())]);
        let text =
            "certs/: b.org.pem, c.org.pem: damaged, HAProxy may refuse to reload: it is cut short";
        assert_eq!(said, [(Verdict::Fail, text.to_string())]);
        let said = found(&[("a.org", Ok(good))]);
        assert_eq!(said, [(Verdict::Ok, "HAProxy can load 1 certificate file of ours".into())]);
    }

    #[test]
    fn what_haproxy_loads_may_still_be_wrong() {
        let good = leaf(&["a.org"], b"a");
        let now = UnixTime::from_seconds(NOW);
        let old = StoredLeaf { not_after: now.minus(Duration::from_secs(1)), ..good.clone() };
        let future = now.plus(Duration::from_secs(7200));
        let cases = [
            ("b.org", good.clone(), Verdict::Warn, "certs/b.org.pem: it is not for its own name"),
            ("a.org", old.clone(), Verdict::Fail, "certs/a.org.pem: it has expired at 1970"),
            (
                "a.org",
                StoredLeaf { not_before: future, ..good.clone() },
                Verdict::Warn,
                "it is not valid before",
            ),
            (
                "a.org",
                StoredLeaf { is_linked: false, ..good },
                Verdict::Warn,
                "the chain for a.org is out of order",
            ),
        ];
        for (name, leaf, verdict, words) in cases {
            let said = found(&[(name, Ok(leaf))]);
            let is_there = said.iter().any(|(it, text)| *it == verdict && text.contains(words));
            assert!(is_there, "{words}: {said:?}");
        }
        // It waits for --prune-after.
        let unwanted = StoredLeaf { names: vec!["old.org".into()], ..old };
        let said = found(&[("old.org", Ok(unwanted))]);
        assert!(said.iter().all(|(verdict, _)| *verdict == Verdict::Ok), "{said:?}");
    }

    #[test]
    fn default_pem_is_inspected_too() {
        let now = UnixTime::from_seconds(NOW);
        let expired = StoredLeaf { not_after: UnixTime::from_seconds(0), ..leaf(&["*"], b"d") };
        let cases = [
            (None, Verdict::Warn, "default.pem is missing"),
            (Some(Err("it is empty".into())), Verdict::Fail, "default.pem: damaged, HAProxy may"),
            (Some(Ok(expired)), Verdict::Warn, "default.pem: it has expired"),
        ];
        for (fallback, verdict, words) in cases {
            let inspection = Inspection { files: Vec::new(), fallback };
            let [finding] =
                findings(&inspection, &survey(), &|_| None, now).try_into().expect("one");
            assert!(finding.verdict == verdict && finding.seen.contains(words), "{finding:?}");
        }
    }
}
