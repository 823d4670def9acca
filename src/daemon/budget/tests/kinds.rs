//! Renewals, earlier certificates, and limits that the operator sets.

use super::*;

/// Boulder takes an order for exactly the names of an earlier certificate for a renewal.
#[test]
fn renewals_are_bound_by_certificates_of_their_set_and_failures_alone() {
    let mut budget = Budget::default();
    let names = domains(&["a.example.org", "b.example.org"]);
    let below = |number: u32| domain(&format!("n{number}.example.org"));
    assert_eq!(orders_until_bound(&mut budget, BEGIN, below), 50);
    let own = |number: u32| domain(&format!("n{number}.org"));
    assert_eq!(orders_until_bound(&mut budget, BEGIN, own), 250);
    assert!(budget.check(BEGIN, &names, NEW).is_err());
    let before = budget.clone();
    for number in 0..5 {
        assert_eq!(budget.check(BEGIN, &names, OrderKind::Renewal), Ok(()), "{number}");
        budget.order_made(BEGIN, &names, OrderKind::Renewal);
        budget.order_placed(BEGIN.plus(HOUR), BEGIN, OrderKind::Renewal);
        budget.certificate_issued(BEGIN, BEGIN, &names, OrderKind::Renewal);
    }
    assert_eq!((&budget.orders, &budget.domains), (&before.orders, &before.domains));
    let (limit, _) = budget.check(BEGIN, &names, OrderKind::Renewal).unwrap_err();
    assert_eq!(limit, Limit::CertificatesPerSet);
    assert_eq!(budget.check(BEGIN, &names, OrderKind::Replacement), Ok(()));
    // What came to nothing gives back no more than it took.
    budget.order_failed(BEGIN, &names, &names[..1], OrderKind::Renewal);
    budget.order_unmade(BEGIN, &names, OrderKind::Renewal);
    assert_eq!((&budget.orders, &budget.domains), (&before.orders, &before.domains));
    assert_eq!(budget.check(BEGIN, &names, OrderKind::Renewal), Ok(()));
    for _ in 0..4 {
        budget.validations_failed(BEGIN, &names[..1]);
    }
    for kind in [OrderKind::Renewal, OrderKind::Replacement] {
        let (limit, _) = budget.check(BEGIN, &names, kind).unwrap_err();
        assert_eq!(limit, Limit::FailedAuthorizations(names[0].clone()));
    }
}

#[test]
fn an_earlier_certificate_is_noted_for_120_days() {
    let mut budget = Budget::default();
    let names = domains(&["a.org", "b.org"]);
    budget.note_earlier(&names, BEGIN);
    budget.note_earlier(&names, BEGIN.minus(DAY));
    let turned = domains(&["b.org", "a.org"]);
    assert!(budget.is_noted(BEGIN.plus(DAY * 120), &turned));
    assert!(!budget.is_noted(BEGIN, &names[..1]), "another set");
    let late = BEGIN.plus(DAY * 120).plus(SECOND);
    assert!(!budget.is_noted(late, &names));
    budget.forget_past(BEGIN.plus(DAY * 120));
    assert_eq!(budget.earlier.len(), 1);
    budget.forget_past(late);
    assert_eq!(budget, Budget::default());
}

#[test]
fn the_operator_sets_the_limits() {
    let of = |acme: &str, ca_limits| {
        let acme = Url::parse(acme).unwrap();
        Budget::of(&Config { acme, ca_limits, ..crate::testing::config() })
    };
    let production = "https://acme-v02.api.letsencrypt.org/directory";
    let other = "https://127.0.0.1:14000/dir";
    assert!(of(production, CaLimits::Known).is_some() && of(other, CaLimits::Known).is_none());
    assert!(of(production, CaLimits::Off).is_none());
    let given = |orders, domain| of(other, CaLimits::Given { orders, domain }).unwrap();
    let name = |number: u32| domain(&format!("n{number}.example.org"));
    let own = |number: u32| domain(&format!("n{number}.org"));
    assert_eq!(orders_until_bound(&mut given(Some(7), None), BEGIN, own), 7);
    assert_eq!(orders_until_bound(&mut given(Some(7), Some(3)), BEGIN, name), 3);
    assert_eq!(orders_until_bound(&mut given(None, Some(70)), BEGIN, name), 70);
    assert_eq!(orders_until_bound(&mut given(None, Some(70)), BEGIN, own), 300);
    let mut budget = given(Some(7), Some(3));
    orders_until_bound(&mut budget, BEGIN, name);
    let left = budget.left(BEGIN);
    assert_eq!(left[0].limit, "3 certificates per registered domain in 7 d (example.org)");
    assert_eq!((left[0].tokens, left[0].of), (0, 3));
    assert_eq!((left[1].tokens, left[1].of), (4, 7));
    // What was spent is spent over a restart with other limits; no bucket is emptier than empty.
    let text = budget.to_json().to_string();
    let read = Budget::from_json(&serde_json::from_str(&text).unwrap());
    let more = read.with_limits_of(&given(Some(700), Some(300)));
    let (_, room_at) = more.check(BEGIN, &[name(9)], NEW).unwrap_err();
    assert!(room_at <= BEGIN.plus(DAY * 7 / 300), "{room_at}");
}

/// A scheduler that waits for a token must find it there, however a period is divided.
#[test]
fn there_is_room_when_it_was_said_to_be() {
    for tokens in [1, 2, 3, 7, 11, 300, 999_999, 1_000_000] {
        let ca_limits = CaLimits::Given { orders: Some(tokens), domain: Some(tokens) };
        let mut budget = Budget::of(&Config { ca_limits, ..crate::testing::config() }).unwrap();
        let limits = budget.shared(&domains(&["a.org"]), NEW);
        assert_eq!(limits.len(), 2);
        for limit in &limits {
            let many = tokens as usize;
            assert_eq!(budget.room_at(BEGIN, limit, many), Some(BEGIN), "full");
            assert_eq!(budget.room_at(BEGIN, limit, many + 1), None);
        }
        for number in 0..tokens.min(1000) {
            budget.order_made(BEGIN, &[domain(&format!("n{number}.a.org"))], NEW);
        }
        for limit in &limits {
            for count in 1..=tokens.min(20) as usize {
                let at = budget.room_at(BEGIN, limit, count).unwrap();
                assert_eq!(budget.room_at(at, limit, count), Some(at));
                if let Some(before) = budget.room_at(BEGIN, limit, count + 1) {
                    assert!(before >= at, "one more is there no sooner");
                }
            }
        }
    }
}
