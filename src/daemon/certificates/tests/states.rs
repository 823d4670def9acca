//! How it stands with certificates, as others see it.

use super::*;

#[test]
fn each_certificate_is_in_one_state() {
    let mut case = Case::new();
    case.want(&[("a.org", "1"), ("b.org", "1"), ("c.org", "1"), ("d.org", "1")]);
    case.obtain(0, "a.org", 90);
    case.obtain(1, "b.org", 90);
    case.refuse(2, "c.org");
    case.want(&[("a.org", "1"), ("c.org", "1"), ("d.org", "1")]);
    let expected = [State::Valid, State::Unwanted, State::Failing, State::Pending];
    assert_eq!(case.states(), expected);
    assert_eq!(case.certificates.order_counts(), OrderCounts { issued: 2, failed: 1 });
    let views: Vec<View<'_>> = case.certificates.views().collect();
    assert_eq!(views[1].domains(), [name("b.org")]);
    assert!(views[0].renewal().is_some() && views[1].renewal().is_none());
    assert_eq!(views[2].troubles().count(), 1);
    assert_eq!((views[2].app(), views[2].step()), (Some("/app"), "resting"));
    // It fails although the previous certificate is in service, and it is a failure of the wanted alone.
    case.bench.pass(DAY * 80);
    let outputs = case.wake();
    let order = outputs.iter().find_map(|it| it.strip_prefix("order ")?.strip_suffix(" a.org"));
    case.fail(order.unwrap().parse().unwrap(), None);
    assert_eq!(case.states()[0], State::Failing);
    case.want(&[]);
    assert!(case.states().iter().all(|state| *state == State::Unwanted), "{:?}", case.states());
}
