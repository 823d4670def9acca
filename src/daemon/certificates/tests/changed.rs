//! Files of ours that another has changed, taken away, or put there.

use super::*;
use crate::log::message;

/// Of what was found in `certs/`: the names that are there, and those that are changed.
fn compare(case: &mut Case, there: &str, changed: &str) -> Vec<String> {
    let list = |list: &str| if list.is_empty() { Vec::new() } else { names(list) };
    case.certificates.compare_files(&mut case.bench.cx(), &list(there), &list(changed));
    case.outputs()
}

fn read(case: &mut Case, text: &str, file: Result<Secret, StoreErrorKind>) -> Vec<String> {
    let file = file.map_err(|kind| StoreError { kind, path: text.into(), detail: "no".into() });
    case.certificates.read(&mut case.bench.cx(), &name(text), file);
    case.outputs()
}

fn issued() -> Case {
    let mut case = Case::new();
    assert_eq!(case.want(&[("a.org", "1"), ("b.org", "1")]), ["order 0 a.org", "order 1 b.org"]);
    for (id, name) in [(0, "a.org"), (1, "b.org")] {
        case.issue(id, name, 90);
        assert_eq!(case.written(name), ["changed"]);
    }
    case
}

#[test]
fn what_is_as_it_was_is_not_read() {
    let mut case = issued();
    assert_eq!(compare(&mut case, "a.org b.org", ""), Vec::<String>::new());
    assert!(!case.certificates.is_reading());
}

#[test]
fn a_file_that_another_has_changed_is_read_and_replaced_where_it_is_damaged() {
    let mut case = issued();
    assert_eq!(compare(&mut case, "a.org b.org", "a.org b.org"), ["read a.org"]);
    assert!(case.certificates.is_reading());
    assert_eq!(compare(&mut case, "a.org b.org", "a.org b.org"), Vec::<String>::new(), "under way");
    let restored = case.stored("a.org", 80);
    assert_eq!(read(&mut case, "a.org", Ok(restored)), ["changed", "read b.org"]);
    let half = Ok(Secret::new("-----BEGIN PRIVATE".into()));
    assert_eq!(read(&mut case, "b.org", half), ["archive b.org"]);
    assert!(!case.certificates.is_reading());
    case.certificates.archived(&mut case.bench.cx(), &name("b.org"), Ok(()));
    assert_eq!(case.outputs(), ["changed"]);
    assert_eq!(case.wake(), ["order 2 b.org"]);
    assert_eq!(case.bench.logged(message::CERTIFICATE_CHANGED), 2);
}

#[test]
fn a_file_that_is_for_others_than_its_own_name_is_noted_until_it_is_replaced() {
    let mut case = issued();
    let other = case.stored("x.org", 90);
    compare(&mut case, "a.org b.org", "a.org");
    assert_eq!(read(&mut case, "a.org", Ok(other)), Vec::<String>::new());
    assert_eq!(case.certificates.misnamed(), names("a.org"));
    assert_eq!(compare(&mut case, "b.org", ""), Vec::<String>::new());
    assert_eq!(case.wake(), ["order 2 a.org"]);
    case.obtain(2, "a.org", 90);
    assert_eq!(case.certificates.misnamed(), []);
}

#[test]
fn a_file_that_is_gone_is_ordered_anew() {
    let mut case = issued();
    assert_eq!(compare(&mut case, "b.org", ""), ["read a.org"]);
    assert_eq!(read(&mut case, "a.org", Err(StoreErrorKind::Missing)), Vec::<String>::new());
    assert_eq!(case.wake(), ["order 2 a.org"]);
    assert_eq!(compare(&mut case, "b.org", ""), Vec::<String>::new(), "it is under way");
    assert_eq!(case.bench.logged(message::CERTIFICATE_GONE), 1);
}

#[test]
fn a_file_that_another_has_put_there_is_ours_by_its_name() {
    let mut case = issued();
    assert_eq!(compare(&mut case, "a.org b.org c.org", "c.org"), ["read c.org"]);
    let whole = case.stored("c.org", 90);
    assert_eq!(read(&mut case, "c.org", Ok(whole)), ["changed"]);
    assert_eq!(case.certificates.served().count(), 3);
    let served = case.certificates.served().find(|(name, _)| name.as_str() == "c.org");
    assert_eq!(served.map(|(_, names)| names.to_vec()), Some(names("c.org")));
}
