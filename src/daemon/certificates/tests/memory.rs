//! What survives a restart, and what the CA's limits allow: no crash makes an order too many.

use super::*;
use crate::daemon::model::When;
use crate::log::message;

fn lets_encrypt() -> Config {
    let url = "https://acme-v02.api.letsencrypt.org/directory";
    Config { acme: Url::parse(url).unwrap(), ..config() }
}

#[test]
fn nothing_is_ordered_before_it_is_remembered() {
    let mut case = Case::new();
    case.disk_works = false;
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
    assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 1);
    case.disk_works = true;
    let (slept, outputs) = case.sleep();
    assert_eq!(outputs, ["order 1 a.org"]);
    assert!(slept < minutes(1), "{slept:?}");
}

#[test]
fn a_crash_loop_makes_no_more_orders_than_one_run() {
    let mut case = Case::new();
    let (mut orders, begin) = (0, case.bench.now.mono);
    for _ in 0..50 {
        orders += case.want(&[("a.org", "1")]).len();
        case.bench.pass(Duration::from_secs(5));
        orders += case.wake().len();
        case.restart(&config(), &[]);
    }
    let elapsed = case.bench.now.mono.since(begin);
    assert!(elapsed < minutes(5));
    // At once, and after a minute; the next one is due after ten.
    assert_eq!(orders, 2, "in {elapsed:?}");
    assert_eq!(case.remembered()[&name("a.org")].trouble.as_ref().unwrap().failures, 2);
}

#[test]
fn what_no_account_could_order_is_ordered_at_once_by_the_next_run() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    for id in 0..3 {
        case.end(id, OrderError::Unregistered { reason: "the CA wants a binding".into() });
        let (slept, outputs) = case.sleep();
        assert_eq!((outputs.len(), slept >= minutes(1) * 3 / 4), (1, true), "by the table");
    }
    case.end(3, OrderError::Unregistered { reason: "the CA wants a binding".into() });
    let memory = case.remembered()[&name("a.org")].clone();
    assert_eq!(memory.error().as_deref(), Some("no account: the CA wants a binding"));
    case.restart(&config(), &[]);
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"]);
}

#[test]
fn an_order_of_what_nobody_wants_any_more_is_not_under_way() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.place(0, "https://ca.example/order/7");
    case.restart(&config(), &[]);
    assert!(case.certificates.has_placed_orders(), "it may be wanted");
    case.want(&[("b.org", "1")]);
    assert!(case.remembered()[&name("a.org")].attempt.is_some(), "it is remembered for a day");
    assert!(!case.certificates.has_placed_orders());
    assert_eq!(
        case.want(&[("a.org", "1"), ("b.org", "1")]),
        ["order 1 a.org by https://ca.example/order/7"]
    );
    assert!(case.certificates.has_placed_orders());
}

#[test]
fn an_order_that_the_ca_has_made_is_gone_on_with() {
    let mut case = Case::new();
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"]);
    case.place(0, "https://ca.example/order/7");
    assert_eq!(case.certificates.take_unsaved(), Some(Urgency::Now));
    for _ in 0..50 {
        case.restart(&config(), &[]);
        assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org by https://ca.example/order/7"]);
    }
    // It cannot be gone on with after all: a new one, by the table.
    assert_eq!(case.end(0, OrderError::NotOurs), Vec::<String>::new());
    let (slept, outputs) = case.sleep();
    assert_eq!(outputs, ["order 1 a.org"]);
    assert!(slept >= minutes(1) * 3 / 4, "{slept:?}");
    // Nor is one of another CA, or of names that are not wanted any more.
    case.place(1, "https://ca.example/order/8");
    case.restart(&lets_encrypt(), &[]);
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
}

#[test]
fn a_file_that_was_written_just_before_the_crash_is_the_orders_end() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.place(0, "https://ca.example/order/7");
    let file = case.stored("a.org", 90);
    case.restart(&config(), &[("a.org", file)]);
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
    assert_eq!(case.certificates.failing(), 0);
    let life = case.remembered()[&name("a.org")].life.clone().unwrap();
    assert_eq!(life.directory.as_deref(), Some("https://ca.example/dir"));
}

#[test]
fn a_restart_keeps_the_schedule_and_only_an_operators_act_changes_it() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.fail(0, None);
    case.bench.pass(minutes(2));
    assert_eq!(case.wake(), ["order 1 a.org"]);
    case.fail(1, None);
    let planned = case.next("a.org");
    case.restart(&config(), &[]);
    assert_eq!(case.want(&[("a.org", "1")]), Vec::<String>::new());
    assert_eq!(case.next("a.org"), planned);
    assert_eq!(case.want(&[("a.org", "2")]), ["order 0 a.org"]);
}

#[test]
fn the_moment_chosen_for_a_renewal_survives() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    let (key, chain_pem) = case.file(&names("a.org"), 90);
    let file = Secret::new(format!("{}{chain_pem}", key.expose()));
    let issued = Issued { names: names("a.org"), key, chain_pem, replaced: None, told_time: None };
    case.certificates.finished(&mut case.bench.cx(), OrderId(0), Ok(issued));
    case.outputs();
    case.written("a.org");
    let planned = case.next("a.org");
    case.restart(&config(), &[("a.org", file)]);
    case.want(&[("a.org", "1")]);
    assert_eq!(case.next("a.org"), planned);
    // Another file is another certificate.
    let other = case.stored("a.org", 30);
    case.restart(&config(), &[("a.org", other)]);
    case.want(&[("a.org", "1")]);
    assert_ne!(case.next("a.org"), planned);
    // And what is remembered of one that is gone does not count.
    case.restart(&config(), &[]);
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"]);
}

#[test]
fn a_paused_name_waits_for_a_person() {
    let mut case = Case::new();
    case.want(&[("a.org", "1"), ("b.org", "1")]);
    let detail = "Your account is temporarily prevented from requesting certificates for a.org; \
                  to unpause visit https://ca/unpause";
    let problem = problem(ProblemKind::RateLimited, detail);
    let error = CallError::Problem { problem, status: 429, retry_after: None };
    assert_eq!(case.end(0, OrderError::Call(error)), Vec::<String>::new());
    let line = case.bench.log.iter().find(|line| line.message == "failed").unwrap();
    let said = format!("{line:?}");
    assert!(said.contains("https://ca/unpause") && said.contains("unpause it"), "{said}");
    assert_eq!(case.next("a.org"), None);
    case.bench.pass(DAY * 100);
    assert!(!case.wake().iter().any(|line| line.contains("a.org")));
    case.restart(&config(), &[]);
    assert!(!case.want(&[("a.org", "1")]).iter().any(|line| line.contains("a.org")));
    assert_eq!(case.want(&[("a.org", "2")]), ["order 0 a.org"], "the operator has acted");
}

#[test]
fn the_cas_limits_hold_orders_back_before_the_ca_does() {
    let mut case = Case::of(&lets_encrypt());
    let lists: Vec<String> = (0..60).map(|number| format!("n{number}.a.org")).collect();
    let desired: Vec<(&str, &str)> = lists.iter().map(|list| (list.as_str(), "1")).collect();
    let outputs = case.want(&desired);
    assert_eq!(outputs.len(), 50, "a week's certificates of one registered domain");
    assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 10);
    let held = case.certificates.held();
    assert_eq!(held.len(), 1);
    let (limit, until) = held.first_key_value().unwrap();
    assert!(limit.contains("a.org") && *until > case.bench.now.wall, "{limit} {until}");
    // Another domain is not held up, and a restart gives no new room.
    let mut more = desired.clone();
    more.push(("b.org", "1"));
    let outputs = case.want(&more);
    assert!(outputs.len() == 1 && outputs[0].ends_with(" b.org"), "{outputs:?}");
    case.restart(&lets_encrypt(), &[]);
    assert_eq!(case.want(&more), Vec::<String>::new());
    // There is room for one of them after a fiftieth of a week.
    case.bench.pass(DAY * 7 / 50 + minutes(1));
    assert!(!case.wake().is_empty());
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_wait_longer() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.fail(0, None);
    case.bench.now.wall = UnixTime::from_seconds(case.bench.now.wall.as_seconds() - 30 * 86_400);
    assert_eq!(case.wake(), Vec::<String>::new());
    assert_eq!(case.bench.logged("the clock was set"), 1);
    let next = case.next("a.org").unwrap();
    assert!(next.at <= case.bench.now.wall.plus(minutes(2)), "after one failure: {next:?}");
}

/// The clock was fourteen years ahead for a while.
fn set_right(case: &mut Case) {
    let wall = &mut case.bench.now.wall;
    *wall = UnixTime::from_seconds(wall.as_seconds() - 14 * 365 * 86_400);
}

#[test]
fn what_the_disk_refused_does_not_wait_for_a_date_that_the_clock_saw_by_error() {
    let refused = || StoreError {
        kind: StoreErrorKind::Io,
        path: "certs/a.org.pem".into(),
        detail: "input/output error".into(),
    };
    // Written.
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.issue(0, "a.org", 90);
    let a = name("a.org");
    case.certificates.written(&mut case.bench.cx(), &a, Err(refused()));
    set_right(&mut case);
    assert_eq!(case.wake(), ["write a.org"]);
    // Read.
    let mut case = Case::new();
    case.certificates.found(vec![a.clone()]);
    case.outputs();
    case.certificates.read(&mut case.bench.cx(), &a, Err(refused()));
    case.wake();
    set_right(&mut case);
    assert_eq!(case.wake(), ["read a.org"]);
}

#[test]
fn an_order_made_by_a_clock_that_was_ahead_puts_off_the_next_by_a_pause_only() {
    let mut case = Case::new();
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"]);
    set_right(&mut case);
    case.restart(&config(), &[]);
    case.want(&[("a.org", "1")]);
    let next = case.next("a.org").unwrap();
    assert!(next.at <= case.bench.now.wall.plus(minutes(2)), "{next:?}");
}

#[test]
fn a_retry_after_of_a_clock_that_was_ahead_counts_no_more() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.fail(0, Some(Duration::from_secs(5)));
    set_right(&mut case);
    case.wake();
    let next = case.next("a.org").unwrap();
    assert!(next.at <= case.bench.now.wall.plus(minutes(2)), "{next:?}");
}

#[test]
fn load_balancers_are_told_of_a_certificate_of_which_nothing_is_remembered() {
    let mut case = Case::new();
    let file = case.stored("a.org", 90);
    case.certificates.found(vec![name("a.org")]);
    assert_eq!(case.outputs(), ["read a.org"]);
    case.certificates.read(&mut case.bench.cx(), &name("a.org"), Ok(file.clone()));
    assert_eq!(case.outputs(), ["changed"]);
    // Remembered now.
    let memory = case.remembered();
    case.certificates = Certificates::new(&config());
    case.certificates.restore(&mut case.bench.cx(), memory, Budget::default());
    case.certificates.found(vec![name("a.org")]);
    case.outputs();
    case.certificates.read(&mut case.bench.cx(), &name("a.org"), Ok(file));
    assert_eq!(case.outputs(), Vec::<String>::new());
}

#[test]
fn a_name_that_failed_too_often_for_the_ca_holds_up_no_other() {
    let config = Config { san: true, ..lets_encrypt() };
    let mut case = Case::of(&config);
    assert_eq!(case.want(&[("a.org b.org", "1")]), ["order 0 a.org b.org"]);
    assert_eq!(case.refuse(0, "b.org"), ["order 1 a.org"]);
    case.obtain(1, "a.org", 90);
    // An operator who tries again and again.
    for (order, version) in [(2, "2"), (3, "3"), (4, "4"), (5, "5")] {
        case.forget_changes();
        let outputs = case.want(&[("a.org b.org", version)]);
        assert_eq!(outputs, [format!("order {order} a.org b.org")]);
        case.refuse(order, "b.org");
    }
    // A sixth failure within the hour would be one too many; another name is not held up by that.
    case.forget_changes();
    let outputs = case.want(&[("a.org b.org c.org", "6")]);
    assert_eq!(outputs.len(), 1);
    assert!(outputs[0].ends_with(" a.org c.org"), "{outputs:?}");
    let left_out = &case.remembered()[&name("a.org")].left_out;
    assert!(left_out.get(&name("b.org")).unwrap().not_before > Some(case.bench.now.wall));
    assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 0);
}

#[test]
fn what_the_ca_may_have_issued_stays_counted() {
    let url = "https://ca.example/order/7";
    let lost = || OrderError::DeadlineExceeded { step: "downloading the certificate" };
    // Five certificates of one set in a week, and the fifth is still to be had.
    for (finalizing, error) in [(true, lost()), (false, OrderError::NotOurs)] {
        let mut case = Case::of(&lets_encrypt());
        case.want(&[("a.org", "1")]);
        for id in 0..5 {
            case.place(id, url);
            if finalizing {
                case.certificates.finalizing(OrderId(id));
            }
            case.end(id, error.clone());
            case.forget_changes();
            case.want(&[("a.org", &format!("again {id}"))]);
        }
        assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 1, "{error}");
    }
    // What ended before that, or was refused, gave no certificate.
    let mut case = Case::of(&lets_encrypt());
    case.want(&[("a.org", "1")]);
    for id in 0..20 {
        case.place(id, url);
        case.end(id, lost());
        case.forget_changes();
        case.want(&[("a.org", &format!("again {id}"))]);
    }
    assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 0);
    let mut case = Case::of(&lets_encrypt());
    case.want(&[("a.org", "1")]);
    for id in 0..20 {
        case.place(id, url);
        case.certificates.finalizing(OrderId(id));
        case.end(id, OrderError::Invalid { refusals: Vec::new() });
        // Fewer than the failed authorizations that are allowed in an hour.
        case.bench.pass(minutes(20));
        case.forget_changes();
        case.want(&[("a.org", &format!("again {id}"))]);
    }
    assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 0, "refused though it was finalized");
}

/// Its retry time depends on when it began, not on when the next run found it.
#[test]
fn a_lost_attempt_is_counted_from_its_time() {
    let mut case = Case::new();
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"]);
    let begun = case.bench.now.wall;
    case.bench.pass(minutes(5));
    case.restart(&config(), &[]);
    let trouble = case.remembered()[&name("a.org")].trouble.clone().expect("it was lost");
    assert_eq!(trouble.failures, 1);
    assert!(trouble.retry <= When::At(begun.plus(minutes(2))), "{trouble:?}");
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"], "its pause is over");
}

#[test]
fn an_order_is_finalized_once_what_it_needs_is_remembered() {
    for works in [true, false] {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        case.disk_works = works;
        case.place(0, "https://ca.example/order/7");
        assert!(case.certificates.poll_output().is_none(), "it is not written yet");
        let attempt = case.remembered()[&name("a.org")].attempt.clone().unwrap();
        assert!(attempt.certificate().is_some_and(|it| it.key.expose() == "the key"));
        case.save();
        let said = case.certificates.poll_output();
        assert!(matches!(said, Some(CertificatesOutput::Kept(OrderId(0)))), "{said:?}");
        assert!(case.certificates.poll_output().is_none());
    }
}

#[test]
fn a_writing_that_had_begun_before_does_not_keep_an_order() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    let revision = case.revisions + 1;
    case.certificates.recording(revision);
    case.place(0, "https://ca.example/order/7");
    case.certificates.recorded(&mut case.bench.cx(), revision, Ok(()));
    assert!(case.certificates.poll_output().is_none(), "its key is not in that one");
}
