//! Orders that have not begun when nobody wants them any more.

use super::*;

impl Case {
    /// Takes in desired certificates, and says what it wants of an issuer that has no room.
    fn want_in_a_crowd(&mut self, lists: &[&str]) -> Vec<String> {
        let desired = lists.iter().map(|list| {
            let names = names(list);
            (names[0].clone(), DesiredCertificate { names, source: source("1") }.into())
        });
        self.certificates.want(&mut self.bench.cx(), &desired.collect());
        self.raw()
    }

    fn raw(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.certificates.poll_output()).map(|it| show(&it)).collect()
    }

    /// The issuer has room for that order.
    fn begins(&mut self, id: u64) -> Vec<String> {
        self.certificates.begins(&mut self.bench.cx(), OrderId(id));
        self.raw()
    }
}

const NONE: [&str; 0] = [];

#[test]
fn an_order_that_waits_is_cancelled_when_nobody_wants_it_any_more() {
    let mut case = Case::new();
    assert_eq!(case.want_in_a_crowd(&["a.org", "b.org"]), ["order 0 a.org", "order 1 b.org"]);
    assert_eq!(case.want_in_a_crowd(&["b.org"]), ["cancel 0"]);
    assert_eq!(case.begins(0), NONE, "the word came too late");
    case.certificates.take_unsaved();
    case.begins(0);
    assert_eq!(case.certificates.take_unsaved(), None, "there is nothing to be noted");
    assert!(!case.remembered().contains_key(&name("a.org")));
    case.begins(1);
    case.save();
    assert_eq!(case.raw(), ["b.org: b.org", "begin 1"], "the other one goes on");
    assert_eq!(case.want_in_a_crowd(&["a.org", "b.org"]), ["order 2 a.org"]);
}

#[test]
fn an_order_that_is_being_noted_is_cancelled_and_not_counted() {
    let acme = Url::parse("https://acme-v02.api.letsencrypt.org/directory").unwrap();
    let mut case = Case::of(&Config { acme, ..config() });
    let left = |case: &Case| case.certificates.limits_left(case.bench.now.wall);
    let before = left(&case);
    case.want_in_a_crowd(&["a.org"]);
    assert_eq!(case.begins(0), NONE);
    assert_ne!(left(&case), before);
    assert_eq!(case.want_in_a_crowd(&[]), ["cancel 0"]);
    assert_eq!(left(&case), before);
    case.save();
    assert_eq!(case.raw(), NONE);
    assert!(case.remembered().is_empty() && case.certificates.is_idle(case.bench.now.wall));
}

#[test]
fn an_order_for_a_name_too_many_is_made_anew_and_one_for_a_name_too_few_waits_on() {
    let mut case = Case::of(&Config { san: true, ..config() });
    assert_eq!(case.want_in_a_crowd(&["a.org b.org"]), ["order 0 a.org b.org"]);
    assert_eq!(case.want_in_a_crowd(&["a.org b.org c.org"]), NONE);
    assert_eq!(case.want_in_a_crowd(&["a.org c.org"]), ["cancel 0", "order 1 a.org c.org"]);
}

#[test]
fn an_order_that_the_ca_knows_goes_on() {
    let mut case = Case::new();
    assert_eq!(case.want(&[("a.org", "1")]), ["order 0 a.org"]);
    assert_eq!(case.want_in_a_crowd(&[]), NONE);
    assert_eq!(case.issue(0, "a.org", 90), ["write a.org"]);
}
