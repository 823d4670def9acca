//! What an app's changes make due: a retry at once, then no more than one a minute, then ever fewer.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A CA that refuses the names of an order at once, so that nothing else limits how often it is asked.
fn rejected() -> OrderError {
    let problem = problem(ProblemKind::RejectedIdentifier, "not those");
    OrderError::Call(CallError::Problem { problem, status: 400, retry_after: None })
}

/// Posts the app again every second for so long, while each order fails; when it was ordered, in seconds.
fn post_again_and_again(case: &mut Case, names: &[&str], seconds: u64) -> Vec<u64> {
    let mut orders = Vec::new();
    for second in 0..seconds {
        let version = format!("version {second} of {}", names[0]);
        let index = usize::try_from(second).unwrap() % names.len();
        let mut outputs = case.want(&[(names[index], &version)]);
        outputs.extend(case.wake());
        for output in outputs {
            let id = output.split(' ').nth(1).unwrap().parse().unwrap();
            case.end(id, rejected());
            orders.push(second);
        }
        case.bench.pass(SECOND);
    }
    orders
}

#[test]
fn an_app_that_is_posted_again_and_again_is_retried_ever_more_rarely() {
    let mut case = Case::new();
    let orders = post_again_and_again(&mut case, &["a.org"], 3 * 3600);
    // The first order, the first retry, then pauses of 1, 2, 4, 8, 16, 32 and 60 minutes.
    assert!(orders[..2] == [0, 1], "{} orders", orders.len());
    assert!(orders.len() <= 10, "{} orders", orders.len());
    let pauses: Vec<u64> = orders[1..].windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= 60), "{pauses:?}");
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(pauses[..2] == [60, 120] && pauses.last().unwrap() >= &1900, "{pauses:?}");
}

/// Neither does it help to take the name out of the label and to put it back.
#[test]
fn a_name_that_comes_and_goes_is_retried_no_more_often() {
    let mut case = Case::of(&Config { san: true, ..config() });
    case.want(&[("a.org", "0")]);
    case.obtain(0, "a.org", 90);
    let mut tried = 0;
    for second in 0..60 {
        let version = format!("{second}");
        let list = if second % 2 == 0 { "a.org b.org" } else { "a.org" };
        for output in case.want(&[(list, &version)]) {
            let id = output.split(' ').nth(1).unwrap().parse().unwrap();
            tried += usize::from(output.contains("b.org"));
            case.refuse(id, "b.org");
        }
        case.bench.pass(SECOND);
    }
    assert!(tried <= 2, "{tried} orders");
    // Nor where all else fails with it.
    let mut case = Case::of(&Config { san: true, ..config() });
    let orders = post_again_and_again(&mut case, &["a.org b.org", "a.org"], 60);
    // Both names are retried once, and the first one comes back by the table.
    assert!(orders.len() <= 4, "{orders:?}");
}

#[test]
fn a_restart_of_the_program_does_not_begin_the_count_again() {
    let mut case = Case::new();
    let mut orders = 0;
    for version in 0..60 {
        let outputs = case.want(&[("a.org", &format!("{version}"))]);
        orders += outputs.len();
        for output in outputs {
            let id = output.split(' ').nth(1).unwrap().parse().unwrap();
            case.end(id, rejected());
        }
        case.bench.pass(SECOND);
        case.restart(&config(), &[]);
    }
    assert_eq!(orders, 2);
}

/// The pause that the table sets is never made longer by that.
#[test]
fn what_is_due_by_the_table_stays_due() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.end(0, rejected());
    assert_eq!(case.want(&[("a.org", "2")]), ["order 1 a.org"]);
    case.obtain(1, "a.org", 90);
    let (_, outputs) = case.sleep();
    assert_eq!(outputs, ["order 2 a.org"]);
    case.end(2, rejected());
    let planned = case.next("a.org").unwrap().at;
    case.want(&[("a.org", "3")]);
    assert!(case.next("a.org").is_none_or(|next| next.at <= planned));
}

/// An operator who acts once a day waits for nothing, however often that was.
#[test]
fn an_operator_who_acts_rarely_is_heard_at_once() {
    let mut case = Case::new();
    case.want(&[("a.org", "0")]);
    case.end(0, rejected());
    for day in 1..20u64 {
        case.bench.pass(DAY);
        for output in case.wake() {
            case.end(output.split(' ').nth(1).unwrap().parse().unwrap(), rejected());
        }
        case.bench.pass(minutes(5));
        let outputs = case.want(&[("a.org", &format!("{day}"))]);
        assert_eq!(outputs.len(), 1, "day {day}");
        let id = outputs[0].split(' ').nth(1).unwrap().parse().unwrap();
        case.end(id, rejected());
        // And for a minute when the first try was not enough.
        assert_eq!(case.want(&[("a.org", &format!("{day} again"))]), Vec::<String>::new());
        let (slept, outputs) = case.sleep();
        assert!(slept <= minutes(1), "{slept:?}");
        let id = outputs[0].split(' ').nth(1).unwrap().parse().unwrap();
        case.end(id, rejected());
    }
}

/// By whatever CA: five in an hour, then one in twelve minutes.
#[test]
fn failed_authorizations_are_limited_at_every_ca() {
    let mut case = Case::new();
    case.want(&[("a.org", "0")]);
    case.refuse(0, "a.org");
    let (mut id, begin) = (1, case.bench.now.mono);
    let mut failed = vec![begin];
    // Other failures are not counted, so that only the limit holds anything back here.
    for _ in 0..400 {
        let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
        entry.memory.left_out.clear();
        case.certificates.reindex(&name("a.org"));
        for output in case.wake() {
            assert_eq!(output, format!("order {id} a.org"));
            failed.push(case.bench.now.mono);
            id += 1;
            // An order that was held back had a number, too.
            case.refuse(id - 1, "a.org");
        }
        id = case.certificates.orders_made;
        case.bench.pass(Duration::from_secs(30));
    }
    let hour = |from: usize| {
        let from = &failed[from..];
        from.iter().filter(|at| at.since(from[0]) < minutes(60)).count()
    };
    assert_eq!(failed.iter().filter(|at| at.since(begin) < minutes(11)).count(), 5);
    assert!((0..failed.len()).all(|from| hour(from) <= 10));
    assert!(failed.len() >= 5 + 15, "{} in 200 minutes", failed.len());
    assert!(case.certificates.held().keys().all(|limit| limit.contains("failed authorizations")));
    // All other limits are those of one CA.
    let lists: Vec<String> = (0..400).map(|number| format!("n{number}.b.org")).collect();
    let desired: Vec<(&str, &str)> = lists.iter().map(|list| (list.as_str(), "1")).collect();
    assert_eq!(case.want(&desired).len(), 400);
}

/// Where every order succeeds, a label whose names change all the time makes as few.
#[test]
fn a_label_that_flaps_is_ordered_ever_more_rarely() {
    let mut case = Case::of(&Config { san: true, ..config() });
    case.want(&[("a.org", "0")]);
    case.obtain(0, "a.org", 90);
    let mut orders: Vec<u64> = Vec::new();
    for second in 0..3 * 3600 {
        // Its time has come only where the label is not as it was: three seconds so, three otherwise.
        let list = if second / 3 % 2 == 0 { "a.org b.org" } else { "a.org" };
        let mut outputs = case.want(&[(list, &format!("{second}"))]);
        outputs.extend(case.wake());
        for output in outputs.iter().filter(|output| output.starts_with("order")) {
            let id = output.split(' ').nth(1).unwrap().parse().unwrap();
            case.obtain(id, list, 90);
            orders.push(second);
        }
        case.bench.pass(SECOND);
    }
    assert_eq!(orders[0], 0, "the first change counts at once");
    assert!(
        case.bench.logged("label changed again, its order waits") > 0,
        "and what waits is told"
    );
    assert!(orders.len() <= 10, "{} orders", orders.len());
    let pauses: Vec<u64> = orders.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= 60) && pauses.is_sorted(), "{pauses:?}");
    // A restart of the program does not begin the count again.
    let planned = case.remembered()[&name("a.org")].name_changes.clone();
    case.restart(&Config { san: true, ..config() }, &[]);
    assert!(planned.is_some());
    assert_eq!(case.remembered()[&name("a.org")].name_changes, planned);
}

/// A burst of changes makes the pauses grow, and later changes that come less often do not wait for long.
#[test]
fn a_label_that_is_extended_now_and_then_is_ordered_at_once() {
    let mut case = Case::of(&Config { san: true, ..config() });
    case.want(&[("n0.org", "0")]);
    case.obtain(0, "n0.org", 90);
    let mut list = "n0.org".to_string();
    for number in 1..40_u64 {
        case.bench.pass(if number < 6 { SECOND } else { minutes(35) });
        list.push_str(&format!(" n{number}.org"));
        let mut outputs = case.want(&[(&list, &number.to_string())]);
        if outputs.is_empty() && number < 6 {
            case.bench.pass(minutes(16));
            outputs = case.wake();
        }
        assert_eq!(outputs, [format!("order {number} {list}")]);
        case.obtain(number, &list, 90);
    }
}
