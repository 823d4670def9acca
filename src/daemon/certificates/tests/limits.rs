//! Orders that wait for a limit that apps share, and renewals, which wait for none.

use super::*;
use crate::config::CaLimits;
use crate::log::message;

fn given(orders: u32, domain: u32) -> Config {
    let ca_limits = CaLimits::Given { orders: Some(orders), domain: Some(domain) };
    Config { ca_limits, ..config() }
}

/// Each app wants some names, a certificate each.
fn want_of_apps(case: &mut Case, apps: &[(&str, Vec<String>)]) -> Vec<String> {
    let mut all = BTreeMap::new();
    for (app, domains) in apps {
        for domain in domains {
            let source = Source { app: (*app).into(), version: "1".into() };
            let desired = DesiredCertificate { names: vec![name(domain)], source };
            all.insert(name(domain), desired.into());
        }
    }
    case.want_all(&all)
}

fn many(count: usize, of: &str) -> Vec<String> {
    (0..count).map(|number| format!("n{number:03}.{of}")).collect()
}

/// What each order that began is for.
fn began(outputs: &[String]) -> Vec<String> {
    let orders = outputs.iter().map(|output| output.splitn(3, ' ').nth(2).unwrap_or(output));
    orders.map(str::to_string).collect()
}

fn obtain_all(case: &mut Case, outputs: &[String]) {
    for output in outputs {
        let mut words = output.splitn(3, ' ').skip(1);
        let (id, list) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        case.obtain(id.parse().expect("an order"), list, 90);
    }
}

/// Ends every order that began with a failed validation; the names, each followed by those that began
/// because of that.
fn fail_all(case: &mut Case, outputs: Vec<String>) -> Vec<String> {
    let mut began = Vec::new();
    let mut left: VecDeque<String> = outputs.into();
    while let Some(output) = left.pop_front() {
        let (_, order) = output.split_once(' ').unwrap_or_default();
        let (id, domain) = order.split_once(' ').unwrap_or_default();
        began.push(domain.to_string());
        left.extend(case.refuse(id.parse().expect("an order"), domain));
    }
    began
}

/// As many tokens as it takes until a domain is ordered.
fn tokens_until(case: &mut Case, domain: &str, most: usize) -> usize {
    for count in 1..=most {
        case.bench.pass(Duration::from_secs(3 * 60 * 60 / 30));
        let outputs = case.wake();
        let began = fail_all(case, outputs);
        assert!(began.len() <= 1, "{began:?} for one token");
        if began.iter().any(|it| it == domain) {
            return count;
        }
    }
    panic!("{domain} is not ordered with {most} tokens");
}

#[test]
fn an_app_whose_names_fail_leaves_others_their_turns() {
    let mut case = Case::of(&given(30, 50));
    let bad: Vec<String> = (0..600).map(|number| format!("www.bad{number:03}.org")).collect();
    let mut apps = vec![("/bad", bad)];
    let outputs = want_of_apps(&mut case, &apps);
    assert_eq!(fail_all(&mut case, outputs).len(), 30, "all tokens are spent");
    apps.push(("/good", vec!["zz.good.org".to_string()]));
    assert_eq!(want_of_apps(&mut case, &apps), Vec::<String>::new());
    let took = tokens_until(&mut case, "zz.good.org", 2);
    assert!(took <= 2, "two apps wait, and it took {took} tokens");
    // Three more, in the middle of its retries.
    for hours in [1, 2, 3] {
        case.bench.pass(minutes(hours * 60));
        let outputs = case.wake();
        fail_all(&mut case, outputs);
        for app in ["/x", "/y"] {
            apps.push((app, vec![format!("zz{hours}{}.example.org", app.replace('/', ""))]));
        }
        let outputs = want_of_apps(&mut case, &apps);
        assert_eq!(fail_all(&mut case, outputs), Vec::<String>::new());
        let took = tokens_until(&mut case, &format!("zz{hours}y.example.org"), 4);
        assert!(took <= 4, "{took} tokens");
    }
}

#[test]
fn retries_of_others_have_their_turn_beside_what_is_new() {
    let mut case = Case::of(&given(30, 50));
    let mut apps = vec![("/other", vec!["aa.other.org".to_string()])];
    let outputs = want_of_apps(&mut case, &apps);
    assert_eq!(fail_all(&mut case, outputs), ["aa.other.org"]);
    let new: Vec<String> = (0..600).map(|number| format!("www.new{number:03}.org")).collect();
    apps.push(("/new", new));
    let outputs = want_of_apps(&mut case, &apps);
    assert_eq!(fail_all(&mut case, outputs).len(), 29);
    let took = tokens_until(&mut case, "aa.other.org", 3);
    assert!(took <= 3, "{took} tokens");
}

#[test]
fn apps_take_turns_at_a_registered_domain() {
    let mut case = Case::of(&given(300, 5));
    let mut apps = vec![("/many", many(40, "company.org"))];
    let outputs = want_of_apps(&mut case, &apps);
    assert_eq!(outputs.len(), 5);
    obtain_all(&mut case, &outputs);
    apps.push(("/one", vec!["zz.company.org".to_string()]));
    assert_eq!(want_of_apps(&mut case, &apps), Vec::<String>::new());
    case.bench.pass(DAY * 7 / 5);
    let first = case.wake();
    obtain_all(&mut case, &first);
    case.bench.pass(DAY * 7 / 5);
    let both = [began(&first), began(&case.wake())].concat();
    assert_eq!(both.len(), 2);
    assert!(both.iter().any(|it| it == "zz.company.org"), "{both:?}");
}

#[test]
fn what_waits_is_said_and_is_not_work() {
    let mut case = Case::of(&given(1, 50));
    let domains = vec!["a.org".to_string(), "b.org".to_string(), "c.org".to_string()];
    assert_eq!(want_of_apps(&mut case, &[("/app", domains)]), ["order 0 a.org"]);
    case.obtain(0, "a.org", 90);
    assert!(case.certificates.is_idle(case.bench.now.wall));
    let room_at = case.bench.now.wall.plus(minutes(180));
    let limit = "1 orders per account in 3 h".to_string();
    assert_eq!(case.certificates.held(), BTreeMap::from([(limit, room_at)]));
    let until = |case: &Case| case.next("c.org").map(|next| (next.at, next.why));
    assert_eq!(until(&case), Some((room_at, Why::Budget)));
    let (slept, outputs) = case.sleep();
    // It looks at the clock every hour.
    assert!(slept == minutes(180) && began(&outputs) == ["b.org"], "{slept:?} {outputs:?}");
    obtain_all(&mut case, &outputs);
    assert_eq!(until(&case), Some((room_at.plus(minutes(180)), Why::Budget)));
    // Nothing is left behind of what nobody wants any more.
    case.want(&[]);
    assert!(case.certificates.held().is_empty());
}

#[test]
fn a_token_that_an_order_gives_back_is_the_next_ones() {
    let mut case = Case::of(&given(300, 1));
    let domains = vec!["a.x.org".to_string(), "b.x.org".to_string()];
    assert_eq!(want_of_apps(&mut case, &[("/app", domains)]), ["order 0 a.x.org"]);
    let outputs = case.refuse(0, "a.x.org");
    assert_eq!(began(&outputs), ["b.x.org"]);
    obtain_all(&mut case, &outputs);
}

/// Tokens of two limits are waited for one after the other, and no two orders wait for each other.
#[test]
fn orders_of_several_domains_wait_for_each_in_turn() {
    let mut case = Case::of(&Config { san: true, ..given(2, 1) });
    let lists = ["a.x.org a.y.org", "b.x.org b.y.org", "c.y.org c.x.org", "d.x.org", "e.y.org"];
    let all: Vec<(&str, &str)> = lists.iter().map(|list| (*list, "1")).collect();
    let mut outputs = case.want(&all);
    let mut began = Vec::new();
    let mut steps = crate::testing::Steps::default();
    while began.len() < lists.len() {
        steps.count();
        began.extend(self::began(&outputs));
        obtain_all(&mut case, &outputs);
        assert!(case.bench.now.wall < UnixTime::from_seconds(1_795_392_000 + 40 * 86_400));
        case.bench.pass(minutes(60));
        outputs = case.wake();
    }
    began.sort();
    assert_eq!(began, lists);
}

/// 200 certificates of one domain, all revoked at once, and no renewal information.
#[test]
fn renewals_wait_for_no_limit_that_the_ca_exempts_them_from() {
    let mut case = Case::of(&given(300, 50));
    let domains = many(60, "company.org");
    let mut files = Vec::new();
    for domain in &domains {
        files.push((domain.as_str(), case.stored(domain, 90)));
    }
    case.restart(&given(300, 50), &files);
    assert_eq!(want_of_apps(&mut case, &[("/app", domains.clone())]), Vec::<String>::new());
    case.bench.pass(DAY * 62);
    let outputs = case.wake();
    assert_eq!(outputs.len(), 60, "state.json had nothing of them");
    assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 0);
    obtain_all(&mut case, &outputs);
    assert!(case.certificates.limits_left(case.bench.now.wall).is_empty());
    // Five of one set of names in a week are the CA's limit for renewals, too.
    for id in 60..64 {
        case.certificates.entries.get_mut(&name(&domains[0])).unwrap().stored = None;
        case.certificates.reindex(&name(&domains[0]));
        assert_eq!(case.wake(), [format!("order {id} {}", domains[0])]);
        case.obtain(id, &domains[0], 90);
    }
    case.certificates.entries.get_mut(&name(&domains[0])).unwrap().stored = None;
    case.certificates.reindex(&name(&domains[0]));
    assert_eq!(case.wake(), Vec::<String>::new());
    assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 1);
}

fn kind(case: &Case, file: &str, list: &str) -> OrderKind {
    case.certificates.kind_of(case.bench.now.wall, &name(file), &names(list))
}

/// With one certificate stored for these names.
fn holding(list: &str) -> Case {
    let config = Config { san: true, ..given(300, 50) };
    let mut case = Case::of(&config);
    assert_eq!(case.want(&[(list, "1")]).len(), 1);
    case.obtain(0, list, 90);
    case
}

#[test]
fn an_earlier_certificate_has_exactly_the_same_names() {
    let mut case = holding("a.org b.org");
    assert_eq!(kind(&case, "a.org", "b.org a.org"), OrderKind::Renewal);
    assert_eq!(kind(&case, "a.org", "a.org"), OrderKind::New);
    assert_eq!(kind(&case, "a.org", "a.org b.org c.org"), OrderKind::New);
    case.bench.pass(DAY * 119);
    assert_eq!(kind(&case, "a.org", "a.org b.org"), OrderKind::Renewal, "expired, but known");
    case.bench.pass(DAY * 2);
    assert_eq!(kind(&case, "a.org", "a.org b.org"), OrderKind::New);
}

#[test]
fn an_earlier_certificate_is_known_when_its_file_is_gone() {
    // Replaced by one for other names.
    let mut case = holding("a.org b.org");
    assert_eq!(case.want(&[("a.org", "1")]), ["order 1 a.org"]);
    case.obtain(1, "a.org", 90);
    assert_eq!(kind(&case, "a.org", "a.org b.org"), OrderKind::Renewal);
    // Archived, and the program restarts.
    let mut case = holding("a.org");
    case.want(&[]);
    case.bench.pass(DAY * 121 - minutes(60 * 24 * 2));
    case.certificates.archived(&mut case.bench.cx(), &name("a.org"), Ok(()));
    let mut case = holding("a.org b.org");
    let stored = case.certificates.entries[&name("a.org")].stored.clone();
    assert!(stored.is_some());
    let missing = |case: &mut Case| case.unreadable("a.org", StoreErrorKind::Missing);
    case.certificates.compare_files(&mut case.bench.cx(), &[], &[]);
    missing(&mut case);
    assert_eq!(kind(&case, "a.org", "a.org b.org"), OrderKind::Renewal);
    case.restart(&Config { san: true, ..given(300, 50) }, &[]);
    assert_eq!(kind(&case, "a.org", "a.org b.org"), OrderKind::Renewal);
    // Removed while the program did not run.
    let mut case = holding("a.org");
    case.restart(&Config { san: true, ..given(300, 50) }, &[]);
    case.want(&[("a.org", "1")]);
    assert_eq!(kind(&case, "a.org", "a.org"), OrderKind::Renewal);
}

#[test]
fn a_certificate_of_another_ca_is_no_earlier_one() {
    let mut case = holding("a.org");
    let file = case.stored("a.org", 90);
    let acme = Url::parse("https://other.example/dir").unwrap();
    let other = Config { acme, san: true, ..given(300, 50) };
    let (memory, stored) =
        (case.remembered(), case.certificates.entries[&name("a.org")].stored.clone());
    case.restart(&other, &[("a.org", file)]);
    // The file of the test is another one, of which nothing is known.
    assert_eq!(kind(&case, "a.org", "a.org"), OrderKind::Renewal);
    let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
    (entry.memory, entry.stored) = (memory[&name("a.org")].clone(), stored);
    assert_eq!(kind(&case, "a.org", "a.org"), OrderKind::New);
}

#[test]
fn twenty_thousand_names_wait_without_much_work() {
    let mut case = Case::of(&given(1, 50));
    let names = |of: usize| -> Vec<String> {
        (0..1_000).map(|number| format!("n{number}.app{of}x{number}.org")).collect()
    };
    let ids: Vec<String> = (0..20).map(|app| format!("/app{app}")).collect();
    let apps: Vec<(&str, Vec<String>)> =
        ids.iter().enumerate().map(|(of, id)| (id.as_str(), names(of))).collect();
    let outputs = want_of_apps(&mut case, &apps);
    assert_eq!(outputs.len(), 1);
    for _ in 0..100 {
        case.bench.pass(minutes(180));
        assert_eq!(case.wake().len(), 1);
    }
    want_of_apps(&mut case, &[]);
    assert!(case.certificates.held().is_empty());
}
