//! Load balancers of which a part does not answer: what does not come keeps nothing else back, and is told
//! as what it is.

use super::verification::{MINUTE, Proof, ip};
use super::*;
use crate::log::message;

#[test]
fn process_ids_that_do_not_come_keep_no_signal_back() {
    for verify in [true, false] {
        let mut proof = Proof::new(2, verify);
        proof.hang.extend([ip(1), ip(2)]);
        proof.write("new");
        proof.pass(40 * SECOND);
        let signaled: BTreeSet<IpAddr> =
            proof.signals.iter().map(|(address, _)| *address).collect();
        assert_eq!(signaled, [ip(1), ip(2)].into(), "verified: {verify}");
        assert!(proof.case.reloader.is_clean(), "verified: {verify}");
        assert_eq!((proof.problem(0), proof.problem(1)), (String::new(), String::new()));
    }
}

/// HAProxy has reloaded, as its process ids show; at its TLS port nothing answers.
#[test]
fn a_probe_that_hangs_is_told_as_such_and_no_reason_for_many_signals() {
    let mut proof = Proof::new(1, true);
    proof.silent.insert(ip(1));
    proof.write("new");
    proof.pass(12 * SECOND);
    assert!(proof.problem(0).starts_with("no certificate is seen"), "{}", proof.problem(0));
    assert_eq!(proof.case.wire.bench.logged(message::LB_UNSEEN), 1);
    for _ in 0..20 {
        proof.pass(6 * SECOND);
        assert!(proof.problem(0).contains("no certificate is seen"), "{}", proof.problem(0));
    }
    assert!(proof.signals.len() <= 6, "{:?}", proof.signals);
    proof.silent.clear();
    proof.pass(10 * SECOND);
    assert!(proof.case.reloader.is_clean());
    assert_eq!(proof.problem(0), "");
}

#[test]
fn an_operator_who_asks_has_every_file_probed_everywhere() {
    let mut proof = Proof::new(2, true);
    let [a, b] = ["a.org", "b.org"].map(|name| Domain::parse(name).unwrap());
    proof.case.files.0.insert(a, (0, "new"));
    proof.case.files.0.insert(b, (1, "new"));
    proof.write("new");
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean());
    proof.looks.clear();
    let Case { wire, reloader, files, .. } = &mut proof.case;
    reloader.probe_all(&wire.bench.cx(), files);
    proof.pass(SECOND);
    let seen: BTreeSet<_> = proof.looks.iter().map(|(at, name)| (at.ip(), name.as_str())).collect();
    assert_eq!(seen.len(), 4, "{seen:?}");
    // One of them serves something else, by a file of another's.
    proof.serves.insert(ip(2), "other");
    let Case { wire, reloader, files, .. } = &mut proof.case;
    reloader.probe_all(&wire.bench.cx(), files);
    proof.pass(10 * SECOND);
    let signals = proof.signals.iter().filter(|(address, _)| *address == ip(2)).count();
    assert!(signals > 1 && proof.serves[&ip(2)] == "new", "{:?}", proof.signals);
}

#[test]
fn one_that_acknowledges_each_of_many_writes_is_not_overdue() {
    for verify in [true, false] {
        let mut proof = Proof::new(1, verify);
        for round in 0..60 {
            let text = ["new", "newer", "newest"][round % 3];
            proof.loads.insert(ip(1), text);
            proof.write(text);
            proof.pass(SECOND);
            let now = proof.case.wire.bench.now.mono;
            assert_eq!(proof.case.reloader.failing(now), Vec::<String>::new(), "round {round}");
        }
    }
}

/// What kept HAProxy from reloading is gone: the daemon changes nothing, and another reload is due.
#[test]
fn a_later_generation_does_not_wait_for_the_pause_of_an_ignored_signal() {
    for verify in [true, false] {
        let mut proof = Proof::new(1, verify);
        proof.serves.insert(ip(1), "old");
        proof.loads.insert(ip(1), "deaf");
        proof.write("new");
        proof.pass(MINUTE);
        let ignored = proof.signals.len();
        proof.loads.insert(ip(1), "new");
        let Case { wire, reloader, .. } = &mut proof.case;
        reloader.changed(&mut wire.bench.cx());
        proof.pass(5 * SECOND);
        assert!(proof.signals.len() > ignored && proof.case.reloader.is_clean(), "{verify}");
    }
}
