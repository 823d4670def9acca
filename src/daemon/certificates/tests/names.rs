//! Certificates with several names: those that fail are left out, and come back when they work; and
//! files that no app wants any more.

use super::*;
use crate::log::message;

fn san() -> Case {
    Case::of(&Config { san: true, ..config() })
}

#[test]
fn names_that_fail_are_left_out_and_the_rest_is_issued_at_once() {
    let mut case = san();
    assert_eq!(case.want(&[("a.org b.org c.org d.org", "1")]), ["order 0 a.org b.org c.org d.org"]);
    assert_eq!(case.refuse(0, "b.org d.org"), ["order 1 a.org c.org"]);
    case.obtain(1, "a.org c.org", 90);
    assert_eq!(case.certificates.failing(), 1);
    assert_eq!(case.bench.logged(message::NAME_LEFT_OUT), 2);
    // The two come back together, each on its own schedule from then on.
    let (slept, outputs) = case.sleep();
    assert!(slept >= minutes(1) * 3 / 4 && slept <= minutes(1) * 5 / 4, "{slept:?}");
    assert_eq!(outputs, ["order 2 a.org b.org c.org d.org"]);
    assert_eq!(case.refuse(2, "d.org"), ["order 3 a.org b.org c.org"]);
    case.obtain(3, "a.org b.org c.org", 90);
    let (slept, outputs) = case.sleep();
    assert!(slept >= minutes(10) * 3 / 4 && slept <= minutes(10) * 5 / 4, "{slept:?}");
    assert_eq!(outputs, ["order 4 a.org b.org c.org d.org"]);
    case.obtain(4, "a.org b.org c.org d.org", 90);
    assert_eq!(case.certificates.failing(), 0);
    assert!(case.next("a.org").unwrap().at > case.bench.now.wall.plus(DAY * 58));
}

#[test]
fn the_first_name_may_fail_and_the_file_keeps_its_name() {
    let mut case = san();
    case.want(&[("a.org b.org", "1")]);
    assert_eq!(case.refuse(0, "a.org"), ["order 1 b.org"]);
    assert_eq!(case.issue(1, "b.org", 90), ["write a.org"]);
}

#[test]
fn a_name_in_service_is_left_out_of_a_renewal_only_near_the_end() {
    let mut case = san();
    case.want(&[("a.org b.org", "1")]);
    case.obtain(0, "a.org b.org", 90);
    let (_, outputs) = case.sleep();
    assert_eq!(outputs, ["order 1 a.org b.org"]);
    // The certificate in service has 30 days left for b.org, too.
    assert_eq!(case.refuse(1, "b.org"), Vec::<String>::new());
    let not_after = case.certificates.entries[&name("a.org")].stored.as_ref().unwrap().not_after;
    let mut order = 2;
    let mut steps = crate::testing::Steps::default();
    loop {
        steps.count();
        let (_, outputs) = case.sleep();
        let left = not_after.since(case.bench.now.wall);
        if outputs == [format!("order {order} a.org b.org")] {
            assert!(left >= DAY * 22, "{left:?} left");
            case.refuse(order, "b.org");
            order += 1;
            continue;
        }
        assert_eq!(outputs, [format!("order {order} a.org")]);
        assert!(left >= DAY * 22 && left <= DAY * 23, "{left:?} left");
        break;
    }
    assert!(order > 10, "it was tried {order} times");
}

/// Until the end is near it would cost the name in service its certificate.
#[test]
fn a_name_that_is_added_waits_for_one_that_is_in_service_and_fails_and_says_so() {
    let mut case = san();
    let waiting = |case: &Case| {
        let view = case.certificates.views().next().expect("one");
        let (names, others) = view.waiting(case.bench.now.wall)?;
        Some([names, others].map(|it| it.iter().map(|it| it.to_string()).collect::<Vec<_>>()))
    };
    case.want(&[("a.org b.org", "1")]);
    case.obtain(0, "a.org b.org", 90);
    assert_eq!(case.want(&[("a.org b.org c.org", "2")]), ["order 1 a.org b.org c.org"]);
    assert_eq!(waiting(&case), None, "it is under way");
    assert_eq!(case.refuse(1, "b.org"), Vec::<String>::new());
    assert_eq!(waiting(&case), Some([vec!["c.org".to_string()], vec!["b.org".to_string()]]));
    assert_eq!(case.sleep().1, ["order 2 a.org b.org c.org"], "they are tried together");
    assert_eq!(case.refuse(2, "b.org c.org"), Vec::<String>::new());
    assert_eq!(waiting(&case), None, "it fails itself");
    assert_eq!(case.want(&[("a.org c.org", "3")]), ["order 3 a.org c.org"]);
    assert_eq!(waiting(&case), None, "nobody is left to wait for");
}

#[test]
fn one_that_fails_alone_is_one_failure_and_not_two() {
    let mut case = san();
    case.want(&[("a.org", "1")]);
    assert_eq!(case.refuse(0, "a.org"), Vec::<String>::new());
    assert_eq!(case.bench.logged(message::ORDER_FAILED), 1);
    let (slept, outputs) = case.sleep();
    assert_eq!(outputs, ["order 1 a.org"]);
    assert!(slept <= minutes(1) * 5 / 4, "{slept:?}");
}

#[test]
fn routes_are_tried_of_names_that_are_new_or_have_failed() {
    let mut case = san();
    let tried = |case: &mut Case| std::mem::take(&mut case.tried);
    case.want(&[("a.org b.org", "1")]);
    assert_eq!(tried(&mut case), ["a.org: a.org b.org"]);
    case.refuse(0, "b.org");
    assert_eq!(tried(&mut case), ["a.org: a.org"], "the others go on without it");
    case.obtain(1, "a.org", 90);
    let (_, outputs) = case.sleep();
    assert_eq!(
        (outputs, tried(&mut case)),
        (vec!["order 2 a.org b.org".into()], vec!["a.org: b.org".into()])
    );
    case.obtain(2, "a.org b.org", 90);
    let (_, outputs) = case.sleep();
    assert_eq!(outputs, ["order 3 a.org b.org"]);
    assert_eq!(tried(&mut case), Vec::<String>::new(), "a renewal is no news");
    case.fail(3, None);
    case.sleep();
    assert_eq!(tried(&mut case), ["a.org: a.org b.org"], "but one that failed is");
}

#[test]
fn a_changed_label_replaces_the_certificate() {
    let mut case = san();
    case.want(&[("a.org b.org", "1")]);
    case.obtain(0, "a.org b.org", 90);
    assert_eq!(case.want(&[("a.org b.org c.org", "2")]), ["order 1 a.org b.org c.org"]);
    case.obtain(1, "a.org b.org c.org", 90);
    case.bench.pass(minutes(1));
    assert_eq!(case.want(&[("a.org c.org", "3")]), ["order 2 a.org c.org"]);
    case.obtain(2, "a.org c.org", 90);
    assert_eq!(case.want(&[("a.org c.org", "4")]), Vec::<String>::new());
    assert_eq!(
        case.want(&[("c.org a.org", "5")]).first().map(String::as_str),
        Some("order 3 c.org a.org")
    );
}

#[test]
fn without_san_a_certificate_for_more_than_is_wanted_is_good() {
    let mut case = Case::new();
    let file = case.stored("a.org b.org", 90);
    case.restart(&config(), &[("a.org", file)]);
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
    assert_eq!(case.next("a.org").map(|next| next.why), Some(Why::Lifetime));
}

#[test]
fn a_file_that_stands_in_its_successors_way_goes_once_that_is_stored() {
    let mut case = san();
    case.want(&[("a.org b.org", "1")]);
    case.obtain(0, "a.org b.org", 90);
    assert_eq!(case.want(&[("b.org a.org", "2")]), ["order 1 b.org a.org"]);
    assert_eq!(case.issue(1, "b.org a.org", 90), ["write b.org"]);
    assert_eq!(case.written("b.org"), ["changed"]);
    assert_eq!(case.wake(), ["archive a.org"]);
    case.certificates.archived(&mut case.bench.cx(), &name("a.org"), Ok(()));
    assert_eq!(case.outputs(), ["changed"]);
    assert_eq!(case.certificates.plan().count(), 1);
}

#[test]
fn a_file_in_anothers_way_goes_once_all_are_read_though_the_sync_was_sooner() {
    let mut case = san();
    let files = ["a.org", "b.org a.org", "c.org"].map(|list| case.stored(list, 90));
    case.certificates.found(names("a.org b.org c.org"));
    case.want(&[("b.org a.org", "1"), ("c.org", "1")]);
    let mut archived = Vec::new();
    for (domain, file) in ["a.org", "b.org", "c.org"].iter().zip(files) {
        case.certificates.read(&mut case.bench.cx(), &name(domain), Ok(file));
        archived.push(case.wake().contains(&"archive a.org".to_string()));
    }
    assert_eq!(archived, [false, false, true]);
}

#[test]
fn a_file_stays_when_what_would_do_for_it_has_expired() {
    let mut case = san();
    let short = case.stored("b.org a.org", 10);
    let long = case.stored("a.org b.org", 90);
    case.bench.pass(DAY * 11);
    case.restart(&Config { san: true, ..config() }, &[("a.org", long), ("b.org", short)]);
    let outputs = case.want(&[("b.org a.org", "1")]);
    assert_eq!(outputs, ["order 0 b.org a.org"], "the older file is all that works");
    assert_eq!(case.issue(0, "b.org a.org", 90), ["write b.org"]);
    case.written("b.org");
    assert_eq!(case.wake(), ["archive a.org"]);
}

#[test]
fn nothing_is_archived_before_it_is_known_what_is_wanted() {
    let mut case = Case::new();
    let file = case.stored("a.org", 90);
    // The clock is ahead, or the process was off for long.
    case.bench.pass(DAY * 300);
    case.restart(&config(), &[("a.org", file)]);
    assert_eq!(case.wake(), Vec::<String>::new());
    let outputs = case.want(&[("b.org", "1")]);
    assert_eq!(outputs, ["archive a.org", "order 0 b.org"]);
}

#[test]
fn a_certificate_that_may_be_in_the_archive_is_looked_for_when_it_is_wanted_again() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.obtain(0, "a.org", 90);
    case.want(&[]);
    assert_eq!(case.sleep().1, ["archive a.org"]);
    let error = StoreError { kind: StoreErrorKind::Io, path: "x".into(), detail: "no".into() };
    case.certificates.archived(&mut case.bench.cx(), &name("a.org"), Err(error));
    assert_eq!(case.want(&[("a.org", "1")]), ["read a.org"]);
    case.unreadable("a.org", StoreErrorKind::Missing);
    assert_eq!(case.wake(), ["order 1 a.org"]);
}

#[test]
fn what_no_app_wants_is_archived_long_after_its_expiry() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.obtain(0, "a.org", 90);
    case.want(&[]);
    let (slept, outputs) = case.sleep();
    assert_eq!(outputs, ["archive a.org"]);
    assert!(slept >= DAY * 119 && slept <= DAY * 120, "{slept:?}");
    let full = StoreError { kind: StoreErrorKind::Io, path: "x".into(), detail: "no".into() };
    case.certificates.archived(&mut case.bench.cx(), &name("a.org"), Err(full));
    let (slept, outputs) = case.sleep();
    assert_eq!(outputs, ["archive a.org"], "tried again");
    assert!(slept < minutes(1), "{slept:?}");
    case.certificates.archived(&mut case.bench.cx(), &name("a.org"), Ok(()));
    assert_eq!(case.outputs(), ["changed"]);
    assert_eq!(case.certificates.plan().count(), 0);
    assert_eq!(case.remembered(), BTreeMap::new());
}

#[test]
fn pruning_can_be_switched_off() {
    let mut case = Case::of(&Config { prune_after: None, ..config() });
    case.want(&[("a.org", "1")]);
    case.obtain(0, "a.org", 90);
    case.want(&[]);
    assert_eq!(case.certificates.poll_timeout(case.bench.now), None, "nothing wakes it up");
}

fn too_many(max: usize) -> OrderError {
    let detail = format!("Order cannot contain more than {max} identifiers");
    let problem = problem(ProblemKind::Malformed, &detail);
    OrderError::Call(CallError::Problem { problem, status: 400, retry_after: None })
}

#[test]
fn what_a_ca_accepts_is_learned_and_the_pieces_are_ordered_at_once() {
    let mut case = san();
    case.want(&[("a.org b.org c.org", "1")]);
    assert_eq!(case.end(0, too_many(2)), ["at most 2 names"]);
    assert_eq!(case.certificates.failing(), 0, "no name is at fault");
    assert_eq!(case.next("a.org").map(|next| next.why), Some(Why::TooManyNames));
    let outputs = case.want(&[("a.org b.org", "1"), ("c.org", "1")]);
    assert_eq!(outputs, ["order 1 a.org b.org", "order 2 c.org"]);
    case.obtain(1, "a.org b.org", 90);
    case.obtain(2, "c.org", 90);
}

/// Where nobody splits them, the same order is not made without end.
#[test]
fn an_order_with_too_many_names_is_not_made_again_at_once() {
    let mut case = san();
    case.want(&[("a.org b.org c.org", "1")]);
    case.end(0, too_many(2));
    let (slept, outputs) = case.sleep();
    assert_eq!((slept, outputs), (minutes(1), vec!["order 1 a.org b.org c.org".into()]));
    // Split while it was under way.
    assert_eq!(case.want(&[("a.org b.org", "1"), ("c.org", "1")]), ["order 2 c.org"]);
    assert_eq!(case.end(1, too_many(2)), ["at most 2 names", "order 3 a.org b.org"]);
}

/// A single name is never too many: then it is a failure like any other.
#[test]
fn a_single_name_is_never_too_many() {
    let mut case = san();
    case.want(&[("a.org", "1")]);
    assert_eq!(case.end(0, too_many(0)), Vec::<String>::new());
    assert_eq!(case.certificates.failing(), 1);
}
