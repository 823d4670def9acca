//! Certificates of others that load balancers serve for a name of ours: no file of ours is the cause, and
//! the one that is gets named.

use super::verification::{MINUTE, Proof, ip};
use super::*;

/// What stands for a certificate is its text, but for that of another, which is for `a.org`.
pub(super) fn der(text: &str) -> Vec<u8> {
    if text != "foreign" {
        return text.as_bytes().to_vec();
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["a.org".to_string()]).unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

#[test]
fn a_foreign_certificate_for_the_name_is_no_evidence_against_a_file() {
    let mut proof = Proof::new(2, true);
    for last in [1, 2] {
        proof.serves.insert(ip(last), "old");
        proof.loads.insert(ip(last), "foreign");
    }
    proof.write("new");
    proof.pass(3 * SECOND);
    assert!(proof.news.contains(&News::Unexplained), "certs/ is looked at: {:?}", proof.news);
    assert!(proof.problem(0).contains("it serves another certificate for a.org"));
    // The look has found the file.
    let name = Domain::parse("a.org").unwrap();
    let file = "certs/0.pem is served in place of ours: its name comes before a.org.pem";
    let shadowed = Shadowed::from([(name, file.to_string())]);
    proof.case.reloader.looked(&mut proof.case.wire.bench.cx(), None, shadowed);
    proof.pass(10 * SECOND);
    for place in [0, 1] {
        let problem = proof.problem(place);
        assert!(problem.ends_with(file), "{problem}");
    }
    proof.pass(10 * MINUTE);
    let rejected = |news: &News| matches!(news, News::Rejected { .. });
    assert!(!proof.news.iter().any(rejected), "{:?}", proof.news);
    // It was taken away, which is a reload.
    for last in [1, 2] {
        proof.loads.insert(ip(last), "new");
    }
    let Case { wire, reloader, .. } = &mut proof.case;
    reloader.looked(&mut wire.bench.cx(), None, Shadowed::new());
    reloader.changed(&mut wire.bench.cx());
    proof.pass(5 * SECOND);
    assert!(proof.case.reloader.is_clean());
    assert_eq!((proof.problem(0), proof.problem(1)), (String::new(), String::new()));
}

#[test]
fn what_only_an_earlier_run_has_seen_is_seen_again_at_the_start() {
    for (serves, signals) in [("new", 0), ("foreign", 1)] {
        let mut proof = Proof::new(2, true);
        let name = Domain::parse("a.org").unwrap();
        proof.case.files.0.insert(name, (0, "new"));
        proof.serves.extend([(ip(1), "new"), (ip(2), serves)]);
        let origins = [1, 2]
            .map(|last| (format!("http://{}:9090", ip(last)), [ip(last)].into_iter().collect()));
        let known: UpToDate = origins.into_iter().collect();
        let Case { wire, reloader, .. } = &mut proof.case;
        reloader.restore(&wire.bench.cx(), &known);
        proof.pass(SECOND);
        assert_eq!(proof.looks.len(), 2 + signals, "{:?}", proof.looks);
        proof.pass(8 * SECOND);
        assert_eq!(proof.signals.len(), signals, "{serves}: {:?}", proof.signals);
        assert!(proof.case.reloader.is_clean() && proof.serves[&ip(2)] == "new");
    }
}

#[test]
fn a_name_that_is_found_shadowed_is_probed_everywhere() {
    let mut proof = Proof::new(2, true);
    proof.write("new");
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean());
    // A reload of another's has loaded the file.
    proof.serves.insert(ip(2), "foreign");
    proof.loads.insert(ip(2), "foreign");
    proof.looks.clear();
    let shadowed = || Shadowed::from([(Domain::parse("a.org").unwrap(), "certs/0: first".into())]);
    for looks in [2, 0] {
        let Case { wire, reloader, .. } = &mut proof.case;
        reloader.looked(&mut wire.bench.cx(), None, shadowed());
        proof.pass(Duration::from_millis(200));
        let seen: BTreeSet<_> = proof.looks.drain(..).map(|(at, _)| at.ip()).collect();
        assert_eq!(seen.len(), looks, "once");
    }
    proof.pass(8 * SECOND);
    assert!(proof.problem(1).ends_with("certs/0: first"), "{}", proof.problem(1));
    assert_eq!(proof.problem(0), "");
}
