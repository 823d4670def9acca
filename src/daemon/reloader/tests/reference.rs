//! Load balancers that are broken in themselves in the moment of a new file: the file is not the cause.

use super::verification::{MINUTE, Proof, ip};
use super::*;

/// Two load balancers that serve b.org, and the previous file of a.org.
pub(super) fn serving_both() -> Proof {
    let mut proof = Proof::new(2, true);
    for last in [1, 2] {
        proof.serves.insert(ip(last), "old");
        proof.loads.insert(ip(last), "old");
        proof.for_others.insert(ip(last), "b");
    }
    proof.write_for("b.org", "b");
    proof.pass(5 * SECOND);
    assert!(proof.case.reloader.is_clean(), "{:?}", proof.signals);
    proof.news.clear();
    proof.signals.clear();
    proof
}

/// The same after a new file, for which the canary alone is signaled; both load it.
fn signaled_for_new() -> Proof {
    let mut proof = serving_both();
    proof.loads.extend([(ip(1), "new"), (ip(2), "new")]);
    proof.write("new");
    proof.pass(Duration::ZERO);
    proof
}

/// From the next reload on the first one serves `loads` for a.org and `other` for b.org.
fn breaking(loads: &'static str, other: &'static str) -> Proof {
    let mut proof = serving_both();
    proof.loads.extend([(ip(1), loads), (ip(2), "new")]);
    proof.write("new");
    proof.pass(SECOND / 10);
    proof.for_others.insert(ip(1), other);
    proof
}

fn is_rejected(proof: &Proof) -> bool {
    proof.news.iter().any(|news| matches!(news, News::Rejected { .. }))
}

#[test]
fn what_is_broken_for_another_name_as_well_is_no_evidence_against_a_file() {
    for (loads, other, rejects) in [
        ("alert", "b", true),
        // It does not see the file, or prefers another one.
        ("other", "b", false),
        ("other", "other", false),
        ("other", "alert", false),
        ("alert", "alert", false),
        ("other", "closed", false),
        // With strict-sni: it does not see the file.
        ("unrecognized", "b", false),
        // HAProxy runs and does not listen: no certificate file is the cause.
        ("closed", "b", false),
        ("closed", "closed", false),
    ] {
        let mut proof = breaking(loads, other);
        proof.pass(14 * SECOND);
        assert_eq!(is_rejected(&proof), rejects, "{loads} {other}: {:?}", proof.news);
        if rejects {
            continue;
        }
        // It keeps the other one waiting for a short time only, and is told.
        proof.pass(2 * SECOND);
        assert_eq!(proof.serves[&ip(2)], "new", "{loads} {other}");
        assert_ne!(proof.problem(0), "", "{loads} {other}");
        proof.pass(10 * MINUTE);
        assert!(!is_rejected(&proof), "{loads} {other}: {:?}", proof.news);
        // It is repaired.
        proof.loads.insert(ip(1), "new");
        proof.for_others.insert(ip(1), "b");
        proof.pass(6 * MINUTE);
        assert!(proof.case.reloader.is_clean(), "{loads} {other}");
        assert_eq!(proof.problem(0), "", "{loads} {other}");
    }
}

/// It was not seen to serve the other name yet, and does after the reload.
#[test]
fn a_name_that_was_not_seen_before_may_be_the_reference() {
    let mut proof = serving_both();
    let b = Domain::parse("b.org").unwrap();
    for instance in proof.case.reloader.targets[0].instances.values_mut() {
        instance.served.remove(&b);
    }
    proof.loads.extend([(ip(1), "alert"), (ip(2), "new")]);
    proof.write("new");
    proof.pass(14 * SECOND);
    assert!(is_rejected(&proof), "{:?}", proof.news);
}

#[test]
fn without_another_name_there_is_no_evidence_against_a_file() {
    let mut proof = Proof::new(2, true);
    proof.serves.extend([(ip(1), "old"), (ip(2), "old")]);
    proof.loads.insert(ip(1), "alert");
    proof.write("new");
    proof.pass(MINUTE);
    assert!(!is_rejected(&proof), "{:?}", proof.news);
    assert_eq!(proof.serves[&ip(2)], "new");
}

#[test]
fn a_reference_that_is_wrong_delays_no_acknowledgment() {
    let mut proof = breaking("old", "other");
    proof.pass(4 * SECOND);
    proof.loads.insert(ip(1), "new");
    proof.pass(9 * SECOND);
    assert!(proof.case.reloader.is_clean(), "{:?}", proof.signals);
    assert_eq!(proof.serves[&ip(1)], "new");
}

#[test]
fn where_nothing_is_seen_that_is_the_problem() {
    let mut proof = Proof::new(1, true);
    proof.loads.insert(ip(1), "deaf");
    proof.pids.clear();
    proof.write("new");
    proof.pass(10 * SECOND);
    let problem = proof.problem(0);
    assert!(
        problem.starts_with("it acknowledged the signal, but no certificate is seen"),
        "{problem}"
    );
    assert!(!proof.case.reloader.is_clean());
    proof.loads.insert(ip(1), "new");
    proof.pass(10 * SECOND);
    assert!(proof.case.reloader.is_clean());
}

#[test]
fn one_that_ends_is_lost_after_three_requests_and_another_one_is_the_canary() {
    let mut proof = signaled_for_new();
    assert_eq!(proof.signals.len(), 1);
    proof.down.insert(ip(1));
    proof.looks.clear();
    proof.pass(10 * SECOND);
    // Each time it is probed, and asked for its process ids when that fails.
    let probes = proof.looks.iter().filter(|(at, _)| at.ip() == ip(1)).count();
    assert_eq!((probes, proof.signals[1].0), (3, ip(2)), "{:?}", proof.looks);
}

/// As a restart of both, one after the other.
#[test]
fn those_that_end_after_a_signal_are_no_evidence_against_a_file() {
    let mut proof = signaled_for_new();
    for last in [1, 2] {
        assert_eq!(proof.signals.last().map(|(address, _)| *address), Some(ip(last)));
        proof.down.insert(ip(last));
        proof.pass(10 * SECOND);
    }
    proof.pass(2 * MINUTE);
    assert!(!is_rejected(&proof), "{:?}", proof.news);
    proof.down.clear();
    proof.pass(5 * SECOND);
    assert!(proof.case.reloader.is_clean());
    assert_eq!(["new"; 2], [1, 2].map(|last| proof.serves[&ip(last)]));
}
