//! Each limit at its edge, and all of them against buckets that are filled second by second.

use super::*;

mod kinds;

const NEW: OrderKind = OrderKind::New;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const BEGIN: UnixTime = UnixTime::from_seconds(1_795_392_000);

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn domains(names: &[&str]) -> Vec<Domain> {
    names.iter().map(|name| domain(name)).collect()
}

/// The number of orders, each for names of its own, that are made before one would be refused.
fn orders_until_bound(budget: &mut Budget, now: UnixTime, name: impl Fn(u32) -> Domain) -> u32 {
    (0..).find(|number| spend(budget, now, &[name(*number)]).is_err()).unwrap()
}

fn spend(budget: &mut Budget, now: UnixTime, names: &[Domain]) -> Result<(), (Limit, UnixTime)> {
    budget.check(now, names, NEW)?;
    budget.order_made(now, names, NEW);
    Ok(())
}

#[test]
fn orders_of_an_account() {
    let mut budget = Budget::default();
    let own = |number: u32| domain(&format!("www.n{number}.org"));
    assert_eq!(orders_until_bound(&mut budget, BEGIN, own), 300);
    let new = [domain("new.org")];
    let room_at = BEGIN.plus(SECOND * 36);
    assert_eq!(budget.check(BEGIN, &new, NEW), Err((Limit::OrdersPerAccount, room_at)));
    assert!(budget.check(room_at.minus(Duration::from_millis(1)), &new, NEW).is_err());
    assert_eq!(spend(&mut budget, room_at, &new), Ok(()));
    assert!(budget.check(room_at, &new, NEW).is_err());
    // What came to nothing was an order all the same.
    budget.order_failed(room_at, &new, &[], NEW);
    assert!(budget.check(room_at, &new, NEW).is_err());
    assert_eq!(orders_until_bound(&mut budget, BEGIN.plus(DAY), |n| own(n + 1000)), 300);
}

#[test]
fn certificates_of_a_registered_domain() {
    let mut budget = Budget::default();
    let below = |number: u32| domain(&format!("n{number}.example.co.uk"));
    assert_eq!(orders_until_bound(&mut budget, BEGIN, below), 50);
    let both = domains(&["new.example.co.uk", "new.other.co.uk"]);
    let (limit, room_at) = budget.check(BEGIN, &both, NEW).unwrap_err();
    assert_eq!(limit, Limit::CertificatesPerDomain("example.co.uk".into()));
    assert_eq!(room_at, BEGIN.plus(DAY * 7 / 50));
    assert_eq!(budget.check(BEGIN, &both[1..], NEW), Ok(()));
    // Two names of one domain are one certificate.
    let pair = domains(&["a.other.co.uk", "b.other.co.uk"]);
    budget.order_made(BEGIN, &pair, NEW);
    let other = |number: u32| domain(&format!("n{number}.other.co.uk"));
    assert_eq!(orders_until_bound(&mut budget, BEGIN, other), 49);
}

#[test]
fn certificates_of_one_set_of_names() {
    let mut budget = Budget::default();
    let (names, turned) = (domains(&["a.org", "b.org"]), domains(&["b.org", "a.org"]));
    for number in 0..5 {
        let order = if number % 2 == 0 { &names } else { &turned };
        assert_eq!(spend(&mut budget, BEGIN, order), Ok(()), "{number}");
    }
    let room_at = BEGIN.plus(DAY * 7 / 5);
    assert_eq!(budget.check(BEGIN, &turned, NEW), Err((Limit::CertificatesPerSet, room_at)));
    assert_eq!(budget.check(BEGIN, &names[..1], NEW), Ok(()), "another set");
    budget.order_failed(BEGIN, &turned, &[], NEW);
    assert_eq!(spend(&mut budget, BEGIN, &names), Ok(()), "given back");
    assert!(budget.check(BEGIN, &names, NEW).is_err());
}

#[test]
fn failed_authorizations_of_a_name() {
    let mut budget = Budget::default();
    let (names, bad) = (domains(&["good.org", "bad.org"]), domains(&["bad.org"]));
    for number in 0..5 {
        assert_eq!(spend(&mut budget, BEGIN, &names), Ok(()), "{number}");
        budget.order_failed(BEGIN, &names, &domains(&["bad.org", "bad.org"]), NEW);
    }
    let limit = Limit::FailedAuthorizations(bad[0].clone());
    let room_at = BEGIN.plus(HOUR / 5);
    assert_eq!(budget.check(BEGIN, &names, NEW), Err((limit, room_at)));
    assert_eq!(budget.check(BEGIN, &names[..1], NEW), Ok(()));
    assert_eq!(budget.check(room_at, &names, NEW), Ok(()));
}

#[test]
fn the_limit_that_binds_longest_is_named() {
    let mut budget = Budget::default();
    let names = domains(&["a.org"]);
    for _ in 0..5 {
        budget.order_made(BEGIN, &names, NEW);
    }
    for _ in 0..5 {
        budget.order_failed(BEGIN, &[], &names, NEW);
    }
    assert_eq!(budget.check(BEGIN, &names, NEW).unwrap_err().0, Limit::CertificatesPerSet);
}

#[test]
fn what_is_full_again_is_forgotten() {
    let mut budget = Budget::default();
    let names = domains(&["a.org"]);
    budget.order_made(BEGIN, &names, NEW);
    budget.order_failed(BEGIN, &names, &names, NEW);
    budget.forget_past(BEGIN);
    assert!(budget.domains.is_empty() && budget.sets.is_empty(), "given back");
    let later = BEGIN.plus(HOUR / 5);
    budget.forget_past(later.minus(Duration::from_millis(1)));
    assert_ne!(budget, Budget::default());
    budget.forget_past(later);
    assert_eq!(budget, Budget::default());
}

#[test]
fn a_clock_that_was_set_back_does_not_bind_for_longer_than_the_period() {
    let mut budget = Budget::default();
    let names = domains(&["a.org"]);
    let wrong = BEGIN.plus(DAY * 3650);
    for _ in 0..5 {
        budget.order_made(wrong, &names, NEW);
    }
    let room_at = BEGIN.plus(DAY * 7 / 5);
    assert_eq!(budget.check(BEGIN, &names, NEW), Err((Limit::CertificatesPerSet, room_at)));
    budget.forget_past(BEGIN);
    assert_eq!(budget.check(room_at, &names, NEW), Ok(()));
    let whole = BEGIN.plus(DAY * 7);
    budget.forget_past(whole);
    assert_eq!(budget, Budget::default());
    // Further orders than the bucket had are no debt.
    for _ in 0..20 {
        budget.order_made(BEGIN, &names, NEW);
    }
    assert_eq!(budget.check(room_at, &names, NEW), Ok(()));
}

#[test]
fn it_comes_back_from_json_and_drops_what_it_cannot_read() {
    let mut budget = Budget::default();
    budget.order_made(BEGIN, &domains(&["b.example.org", "a.org"]), NEW);
    budget.order_failed(BEGIN, &domains(&["x.org"]), &domains(&["x.org", "y.org"]), NEW);
    budget.note_earlier(&domains(&["b.example.org", "a.org"]), BEGIN.minus(DAY));
    let text = budget.to_json().to_string();
    assert!(text.contains(r#""y.org":1795392720000"#), "{text}");
    assert_eq!(Budget::from_json(&serde_json::from_str(&text).unwrap()), budget);
    assert_eq!(Budget::from_json(&Budget::default().to_json()), Budget::default());
    for odd in [json!(null), json!([1]), json!("x"), json!({"orders": "soon", "sets": 7})] {
        assert_eq!(Budget::from_json(&odd), Budget::default(), "{odd}");
    }
    let partly = json!({
        "orders": 1.5,
        "domains": {"a.org": 5, "b.org": "6", "c.org": 1e300},
        "sets": {"a.org ../b": 5, "b.org a.org": 7, "": 8},
        "failures": {"*.a.org": 5, "a.org": -5, "b.org": null},
        "earlier": {"b.org a.org": 9, "*.a.org": 5, "a.org": "now"},
    });
    let expected = json!({
        "orders": null,
        "domains": {"a.org": 5},
        "sets": {"a.org b.org": 7},
        "failures": {"a.org": -5},
        "earlier": {"a.org b.org": 9},
    });
    assert_eq!(Budget::from_json(&partly).to_json(), expected);
    // The most extreme times are only times.
    let extreme = json!({"orders": i64::MAX, "sets": {"a.org": i64::MIN}});
    let mut budget = Budget::from_json(&extreme);
    assert!(budget.check(BEGIN, &domains(&["a.org"]), NEW).is_err());
    budget.order_made(BEGIN, &domains(&["a.org"]), NEW);
    assert_eq!(budget.sets.values().max(), Some(&BEGIN.plus(DAY * 7 / 5)));
}

#[test]
fn only_production_has_these_limits() {
    let applies = |url: &str| Budget::applies_to(&Url::parse(url).unwrap());
    assert!(applies("https://acme-v02.api.letsencrypt.org/directory"));
    assert!(applies("https://ACME-V02.api.letsencrypt.org:443/directory"));
    assert!(!applies("https://acme-staging-v02.api.letsencrypt.org/directory"));
    assert!(!applies("https://dv.acme-v02.api.pki.goog/directory"));
    assert!(!applies("https://127.0.0.1:14000/dir"));
}

#[test]
fn registered_domains_are_guessed() {
    let cases = [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("www.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("a.co.uk", "a.co.uk"),
        ("x.y.com.au", "y.com.au"),
        ("x.y.or.jp", "y.or.jp"),
        ("x.y.example.de", "example.de"),
        ("x.co.example", "co.example"),
        ("a.github.io", "github.io"),
    ];
    for (name, expected) in cases {
        assert_eq!(registered_domain(&domain(name)), expected, "{name}");
    }
}

#[test]
fn limits_in_words() {
    let cases = [
        (Limit::OrdersPerAccount, "300 orders per account in 3 h"),
        (
            Limit::CertificatesPerDomain("a.org".into()),
            "50 certificates per registered domain in 7 d (a.org)",
        ),
        (Limit::CertificatesPerSet, "5 certificates per exact set of names in 7 d"),
        (
            Limit::FailedAuthorizations(domain("a.org")),
            "5 failed authorizations per name in 1 h (a.org)",
        ),
    ];
    for (limit, words) in cases {
        assert_eq!(Budget::default().describe(&limit), words);
    }
}

/// A bucket as it is defined: tokens come in second by second, each in so many parts.
#[derive(Clone, Copy)]
struct Bucket {
    parts: u64,
    parts_max: u64,
    token: u64,
}

impl Bucket {
    fn new(tokens: u64, period: Duration) -> Bucket {
        let parts_max = period.as_secs();
        Bucket { parts: parts_max, parts_max, token: parts_max / tokens }
    }

    fn fill(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.parts = (self.parts + 1).min(self.parts_max);
        }
    }

    fn seconds_until_room(&self) -> u64 {
        self.token.saturating_sub(self.parts)
    }

    fn take(&mut self) {
        self.parts = self.parts.saturating_sub(self.token);
    }

    fn give_back(&mut self) {
        self.parts = (self.parts + self.token).min(self.parts_max);
    }
}

/// Every limit, by words for what it counts.
struct Model(BTreeMap<String, Bucket>);

impl Model {
    fn bucket(&mut self, key: String) -> &mut Bucket {
        let (tokens, period) = match &key[..key.find(' ').unwrap()] {
            "orders" => (300, HOUR * 3),
            "domain" => (50, DAY * 7),
            "set" => (5, DAY * 7),
            _ => (5, HOUR),
        };
        self.0.entry(key).or_insert_with(|| Bucket::new(tokens, period))
    }

    /// What an order takes a certificate of.
    fn certificates(names: &[Domain]) -> BTreeSet<String> {
        let domains = names.iter().map(|name| format!("domain {}", registered_domain(name)));
        domains.chain([format!("set {}", set(names))]).collect()
    }

    fn seconds_until_room(&mut self, names: &[Domain]) -> u64 {
        let mut keys = Model::certificates(names);
        keys.insert("orders ".into());
        keys.extend(names.iter().map(|name| format!("failures {name}")));
        keys.into_iter().map(|key| self.bucket(key).seconds_until_room()).max().unwrap()
    }
}

#[test]
fn it_says_what_buckets_say_that_are_filled_second_by_second() {
    let all = domains(&["a.x.org", "b.x.org", "y.org", "www.z.co.uk", "c.x.org"]);
    let mut chance = 7_u64;
    let mut draw = |below: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (chance >> 33) % below
    };
    let (mut budget, mut model, mut now) = (Budget::default(), Model(BTreeMap::new()), BEGIN);
    let (mut bound, mut free) = (0, 0);
    for _ in 0..4000 {
        let pause = [0, 0, 1, 35, 36, 719, 720, 12_096][draw(8) as usize];
        now = now.plus(SECOND * pause as u32);
        model.0.values_mut().for_each(|bucket| bucket.fill(pause));
        let picked = draw(31) + 1;
        let names: Vec<Domain> =
            (0..5).filter(|bit| picked & (1 << bit) != 0).map(|bit| all[bit].clone()).collect();
        let seconds = model.seconds_until_room(&names);
        match budget.check(now, &names, NEW) {
            Ok(()) => assert_eq!(seconds, 0),
            Err((_, room_at)) => assert_eq!(room_at, now.plus(SECOND * seconds as u32)),
        }
        let counts = if seconds == 0 { &mut free } else { &mut bound };
        *counts += 1;
        // The CA may have let pass what we would not have asked for.
        if seconds == 0 || draw(8) == 0 {
            budget.order_made(now, &names, NEW);
            model.bucket("orders ".into()).take();
            for key in Model::certificates(&names) {
                model.bucket(key).take();
            }
            if draw(2) == 0 {
                let failed = &names[..draw(names.len() as u64 + 1) as usize];
                budget.order_failed(now, &names, failed, NEW);
                for key in Model::certificates(&names) {
                    model.bucket(key).give_back();
                }
                for name in failed {
                    model.bucket(format!("failures {name}")).take();
                }
            }
        }
        match draw(10) {
            0 => budget.forget_past(now),
            1 => budget = Budget::from_json(&budget.to_json()),
            _ => {}
        }
    }
    assert!(bound > 500 && free > 500, "{bound} bound, {free} free");
}

#[test]
fn an_order_that_never_reached_the_ca_costs_nothing() {
    let mut budget = Budget::default();
    let names = domains(&["a.org"]);
    budget.order_made(BEGIN, &names, NEW);
    budget.order_unmade(BEGIN, &names, NEW);
    budget.forget_past(BEGIN);
    assert_eq!(budget, Budget::default());
}

#[test]
fn what_the_ca_exempts_is_bound_by_failed_authorizations_alone() {
    let mut budget = Budget::default();
    let names = domains(&["a.org", "b.org"]);
    let mut steps = crate::testing::Steps::default();
    while budget.check(BEGIN, &names, NEW).is_ok() {
        steps.count();
        budget.order_made(BEGIN, &names, NEW);
    }
    assert_eq!(budget.check(BEGIN, &names, OrderKind::Exempt), Ok(()));
    for _ in 0..5 {
        budget.validations_failed(BEGIN, &names[..1]);
    }
    let (limit, room_at) = budget.check(BEGIN, &names, OrderKind::Exempt).unwrap_err();
    assert_eq!(limit, Limit::FailedAuthorizations(domain("a.org")));
    assert_eq!(room_at, BEGIN.plus(HOUR / 5));
    assert_eq!(budget.check(BEGIN, &names[1..], OrderKind::Exempt), Ok(()));
}

/// The CA counts when it hears and when it issues, which is later than we do: there is never room here
/// before there is room there.
#[test]
fn the_cas_bucket_is_never_behind_ours() {
    let mut chance = 7_u64;
    let mut draw = |below: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Duration::from_millis((chance >> 33) % below)
    };
    let (mut ours, mut now) = (Budget::default(), BEGIN);
    let mut theirs: Option<UnixTime> = None;
    let names = domains(&["a.org"]);
    let mut made = 0;
    for _ in 0..2_000 {
        now = now.plus(draw(6 * 60 * 60 * 1000));
        ours.forget_past(now);
        if ours.check(now, &names, NEW).is_err() {
            continue;
        }
        // From the order to the certificate: up to an hour, after a crash.
        let begun = now;
        ours.order_made(begun, &names, NEW);
        now = now.plus(draw(60 * 60 * 1000));
        let room_at = theirs.map(|full_at| CERTIFICATES_OF_SET.room_at(now, full_at, 1));
        assert!(room_at.is_none_or(|room_at| room_at <= now), "the CA refuses at {now}");
        theirs = Some(CERTIFICATES_OF_SET.take(now, theirs));
        ours.certificate_issued(now, begun, &names, NEW);
        made += 1;
    }
    assert!(made > 100, "{made} certificates");
}

#[test]
fn a_clock_that_is_set_changes_nothing() {
    let names = domains(&["a.org"]);
    for jump in [DAY * 30, HOUR] {
        let mut budget = Budget::default();
        let mut steps = crate::testing::Steps::default();
        while budget.check(BEGIN, &names, NEW).is_ok() {
            steps.count();
            budget.order_made(BEGIN, &names, NEW);
        }
        let (_, room_at) = budget.check(BEGIN, &names, NEW).unwrap_err();
        let mut ahead = budget.clone();
        ahead.clock_moved(BEGIN, BEGIN.plus(jump));
        assert_eq!(ahead.check(BEGIN.plus(jump), &names, NEW).unwrap_err().1, room_at.plus(jump));
        let mut behind = budget;
        behind.clock_moved(BEGIN, BEGIN.minus(jump));
        assert_eq!(
            behind.check(BEGIN.minus(jump), &names, NEW).unwrap_err().1,
            room_at.minus(jump)
        );
    }
}

/// What was issued lately stays so: otherwise a renewal would wait for the limits of new orders.
#[test]
fn an_earlier_certificate_outlasts_a_clock_that_is_set() {
    let names = domains(&["a.org"]);
    let jump = DAY * 1000;
    let mut budget = Budget::default();
    budget.note_earlier(&names, BEGIN);
    budget.clock_moved(BEGIN, BEGIN.plus(jump));
    assert!(budget.is_noted(BEGIN.plus(jump), &names));
}
