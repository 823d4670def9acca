//! The drift watch by hand: load balancers that serve something else than they loaded, and workers that
//! outlive a reload.

use super::verification::{MINUTE, Proof, ip};
use super::*;
use crate::log::message;

fn old_workers(proof: &Proof) -> usize {
    proof.case.reloader.views().next().unwrap().balancers[0].old_workers
}

#[test]
fn workers_that_outlive_the_reload_are_counted_and_the_master_is_not() {
    let mut proof = Proof::new(1, true);
    proof.master = true;
    for text in ["new", "newer", "newest"] {
        proof.loads.insert(ip(1), text);
        proof.write(text);
        proof.pass(5 * MINUTE);
        assert_eq!((proof.case.reloader.is_clean(), old_workers(&proof)), (true, 0), "the master");
    }
    let mut proof = Proof::new(1, true);
    proof.first_ones_stay = true;
    proof.write("new");
    proof.pass(SECOND);
    assert_eq!(
        (proof.case.reloader.is_clean(), old_workers(&proof)),
        (true, 0),
        "they may be ending"
    );
    proof.pass(5 * MINUTE);
    assert_eq!(old_workers(&proof), 1, "one of the two may be the master");
    proof.first_ones_stay = false;
    proof.pass(5 * MINUTE);
    assert_eq!(old_workers(&proof), 0, "they have ended");
}

#[test]
fn one_that_drifts_is_found_and_signaled() {
    let mut proof = Proof::new(2, true);
    proof.write("new");
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean());
    let signals = proof.signals.len();
    // It was started again, with what lay there before.
    proof.serves.insert(ip(2), "stale");
    proof.pass(7 * MINUTE);
    assert!(proof.case.reloader.is_clean());
    assert_eq!(proof.serves[&ip(2)], "new");
    assert_eq!(proof.signals.len(), signals + 1, "{:?}", proof.signals);
    let name = "load balancer serves another certificate than it loaded";
    assert_eq!(proof.case.wire.bench.logged(name), 1);
    // Who asks for it has not to wait.
    proof.serves.insert(ip(1), "stale");
    let Case { wire, reloader, files, .. } = &mut proof.case;
    reloader.probe_all(&wire.bench.cx(), files);
    proof.pass(10 * SECOND);
    assert_eq!((proof.case.reloader.is_clean(), proof.serves[&ip(1)]), (true, "new"));
    // One look each minute at most, while all is well.
    let looks = proof.looks.len();
    proof.pass(60 * MINUTE);
    assert!((36..=60).contains(&(proof.looks.len() - looks)), "{}", proof.looks.len() - looks);
    // One that is away is said once, and not signaled.
    proof.serves.remove(&ip(1));
    let signals = proof.signals.len();
    proof.pass(30 * MINUTE);
    assert_eq!(proof.case.wire.bench.logged(message::LB_UNSEEN), 1);
    assert_eq!(proof.signals.len(), signals);
    proof.serves.insert(ip(1), "new");
    proof.pass(10 * MINUTE);
    assert_eq!(proof.problem(0), "");
    // What nobody wants any more is not shown any longer.
    proof.case.files.0.clear();
    proof.pass(2 * MINUTE);
    assert!(proof.case.reloader.views().all(|view| view.balancers[0].served.is_empty()));
}
