//! What failed comes back by the table and not before the CA's time, whatever else happens meanwhile.

use super::*;

#[test]
fn failures_come_back_ever_later() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    for (failures, pause) in (1..=7).map(pause_after).enumerate() {
        case.fail(failures as u64, None);
        assert_eq!(case.certificates.failing(), 1);
        let (slept, outputs) = case.sleep();
        assert_eq!(outputs, [format!("order {} a.org", failures + 1)]);
        let range = pause * 3 / 4..=pause * 5 / 4 + Duration::from_secs(1);
        assert!(range.contains(&slept), "{slept:?} for {pause:?}");
    }
    case.issue(7, "a.org", 90);
    case.written("a.org");
    assert_eq!(case.certificates.failing(), 0);
}

#[test]
fn failures_of_different_kinds_count_on() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    for (failures, pause) in (1..=6).map(pause_after).enumerate() {
        let id = failures as u64;
        if failures % 2 == 0 {
            case.fail(id, None);
        } else {
            case.refuse(id, "a.org");
        }
        let (slept, outputs) = case.sleep();
        assert_eq!(outputs, [format!("order {} a.org", id + 1)]);
        let range = pause * 3 / 4..=pause * 5 / 4 + Duration::from_secs(1);
        assert!(range.contains(&slept), "{slept:?} for {pause:?}");
    }
}

/// A list of apps may lack a domain for a moment: that of a leader that knows less.
#[test]
fn a_domain_that_comes_back_is_not_asked_for_before_its_time() {
    let mut case = Case::new();
    case.want(&[("a.org", "1"), ("b.org", "1")]);
    case.fail(0, Some(minutes(120)));
    case.issue(1, "b.org", 90);
    case.written("b.org");
    case.want(&[("b.org", "1")]);
    assert_eq!(case.want(&[("a.org", "1"), ("b.org", "1")]), Vec::<String>::new());
    let (slept, outputs) = case.sleep();
    assert!((minutes(119)..=minutes(121)).contains(&slept), "{slept:?}");
    assert_eq!(outputs, ["order 2 a.org"]);
    case.fail(2, None);
    let (slept, _) = case.sleep();
    assert!(slept >= pause_after(2) * 3 / 4, "its failures are remembered as well: {slept:?}");
}

#[test]
fn a_domain_that_stays_away_is_forgotten_after_a_day() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.fail(0, Some(minutes(120)));
    case.want(&[]);
    assert_eq!(case.remembered().len(), 1);
    case.bench.pass(DAY);
    case.want(&[]);
    assert_eq!(case.remembered().len(), 1, "the CA's own pause counts");
    case.bench.pass(minutes(121));
    case.want(&[]);
    assert_eq!(case.remembered().len(), 0);
}

fn given(case: &mut Case, id: u64, issued: Issued) -> Vec<String> {
    case.certificates.finished(&mut case.bench.cx(), OrderId(id), Ok(issued));
    case.outputs()
}

#[test]
fn a_certificate_that_cannot_serve_now_is_not_stored() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    let (key, chain_pem) = case.file(&names("a.org"), 1);
    let issued = |told_time| {
        let (key, chain_pem) = (key.clone(), chain_pem.clone());
        Issued { names: names("a.org"), key, chain_pem, replaced: None, told_time }
    };
    let begin = case.bench.now.wall;
    // By both clocks, of which either may be wrong.
    let rejected = |outputs: Vec<String>, word: &str| match &*outputs {
        [one] => assert!(one.starts_with("reject a.org: ") && one.contains(word), "{one}"),
        outputs => panic!("{outputs:?}"),
    };
    let early = begin.minus(minutes(121));
    case.bench.now.wall = early;
    rejected(given(&mut case, 0, issued(Some(early))), "is not valid before");
    case.bench.now.wall = begin;
    assert_eq!(case.sleep().1, ["order 1 a.org"]);
    case.bench.now.wall = begin.plus(DAY);
    rejected(given(&mut case, 1, issued(Some(begin.plus(DAY)))), "has expired at");
    assert_eq!(case.sleep().1, ["order 2 a.org"]);
    case.bench.now.wall = begin.plus(DAY);
    rejected(given(&mut case, 2, issued(None)), "has expired at");
    let (_, outputs) = case.sleep();
    assert_eq!(outputs, ["order 3 a.org"], "they are tried again by the table");
    assert_eq!(given(&mut case, 3, issued(Some(begin))), ["write a.org"], "ours is wrong");
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    let theirs = issued(Some(begin.plus(DAY * 365)));
    assert_eq!(given(&mut case, 0, theirs), ["write a.org"], "theirs is wrong");
}

#[test]
fn a_chain_that_leads_nowhere_is_not_stored() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    let (key, chain_pem) = case.file(&names("a.org"), 90);
    let stranger = Pki::new(9, "Stranger", time(case.bench.now));
    let end = chain_pem.find("-----END CERTIFICATE-----\n").unwrap() + 26;
    let leaf = &chain_pem[..end];
    let unlinked = format!("{leaf}{}", pem("CERTIFICATE", stranger.intermediate_der()));
    let told_time = None;
    let issued = Issued {
        names: names("a.org"),
        key: key.clone(),
        chain_pem: unlinked,
        replaced: None,
        told_time,
    };
    let reason = "its chain holds a certificate that did not issue the one before it";
    assert_eq!(given(&mut case, 0, issued), [format!("reject a.org: {reason}")]);
    assert_eq!(case.sleep().1, ["order 1 a.org"]);
    let chain_pem = leaf.to_string();
    let issued = Issued { names: names("a.org"), key, chain_pem, replaced: None, told_time };
    assert_eq!(given(&mut case, 1, issued), ["write a.org"], "a root may have issued it");
}

/// Whatever comes is kept for whoever looks for the fault, the key before all, and nothing of it moves a
/// terminal's cursor.
#[test]
fn what_is_no_chain_is_kept_as_it_came_but_for_control_characters() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    let (key, _) = case.file(&names("a.org"), 90);
    let chain_pem = "<html>\x1b[2J\r\nno chain".to_string();
    let names = names("a.org");
    let issued = Issued { names, key: key.clone(), chain_pem, replaced: None, told_time: None };
    case.certificates.finished(&mut case.bench.cx(), OrderId(0), Ok(issued));
    let Some(CertificatesOutput::Reject(_, pem, reason)) = case.certificates.poll_output() else {
        panic!("it is not rejected")
    };
    assert_eq!(reason, "it holds no certificate");
    let expected = format!("{}\n<html>\u{fffd}[2J\nno chain\n", key.expose());
    assert_eq!(pem.expose(), expected);
    case.certificates.rejected(&mut case.bench.cx(), &name("a.org"), Ok(()));
    let line = "the refused certificate is kept in archive/";
    assert!(case.bench.log.iter().any(|record| record.message == line));
}

/// Likewise of an order that the next run goes on with.
#[test]
fn an_order_of_before_the_operators_act_is_made_anew_when_it_fails() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.refuse(0, "a.org");
    case.sleep();
    let url = "https://ca.example/order/1";
    case.place(1, url);
    case.restart(&config(), &[]);
    assert_eq!(case.want(&[("a.org", "2")]), [format!("order 0 a.org by {url}")]);
    assert_eq!(case.end(0, OrderError::NotOurs), ["order 1 a.org"]);
    assert_eq!(case.refuse(1, "a.org"), Vec::<String>::new());
}

/// The CA may have refused it for what the operator has just fixed.
#[test]
fn an_order_that_fails_after_the_operator_has_acted_is_made_anew_at_once() {
    let mut case = Case::new();
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"]);
    assert_eq!(case.want(&[("a.org", "2")]), Vec::<String>::new());
    assert_eq!(case.refuse(0, "a.org"), ["order 1 a.org"]);
    assert_eq!(case.refuse(1, "a.org"), Vec::<String>::new(), "one act is good for one order");
    let (slept, _) = case.sleep();
    assert!(slept >= pause_after(2) * 3 / 4, "{slept:?}");
    // What the CA asked for itself stays.
    assert_eq!(case.want(&[("a.org", "3")]), Vec::<String>::new());
    assert_eq!(case.fail(2, Some(minutes(120))), Vec::<String>::new());
    let (slept, _) = case.sleep();
    assert!(slept >= minutes(119), "{slept:?}");
    // Nor does an act count that came before an order that then worked.
    case.want(&[("a.org", "4")]);
    case.obtain(3, "a.org", 90);
    assert_eq!(case.sleep().1, ["order 4 a.org"]);
    assert_eq!(case.refuse(4, "a.org"), Vec::<String>::new());
}

/// A clamp of the pauses must not shorten one that the CA has set.
#[test]
fn a_retry_after_outlasts_a_restart_and_a_clock_that_is_set() {
    for restarts in [true, false] {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        case.fail(0, Some(minutes(360)));
        if restarts {
            case.restart(&config(), &[]);
        } else {
            case.bench.now.wall = case.bench.now.wall.plus(minutes(5));
            assert_eq!(case.wake(), Vec::<String>::new());
            assert_eq!(case.bench.logged("the clock was set"), 1);
        }
        assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
        let (slept, outputs) = case.sleep();
        assert_eq!(outputs.len(), 1);
        assert!((minutes(355)..=minutes(361)).contains(&slept), "{slept:?} restart: {restarts}");
    }
}

/// Pauses are shortened near the expiry, but not one that the CA has set.
#[test]
fn a_retry_after_outlasts_a_restart_near_the_expiry() {
    let mut case = Case::new();
    let file = case.stored("a.org", 90);
    case.restart(&config(), &[("a.org", file.clone())]);
    case.bench.pass(DAY * 89);
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"]);
    case.fail(0, Some(minutes(360)));
    case.restart(&config(), &[("a.org", file)]);
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
    let (slept, outputs) = case.sleep();
    assert_eq!(outputs.len(), 1);
    assert!(slept >= minutes(359), "{slept:?}");
}
