//! The files in `certs/` at the start: adopted, set aside, or read again.

use super::super::reading::READ_PAUSE;
use super::*;
use crate::log::message;
use crate::testing::{ODD_CERTIFICATE, ODD_KEY, OTHER_ODD_KEY};

#[test]
fn files_that_are_there_are_read_one_by_one_before_anything_is_ordered() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org"), name("b.org")]);
    assert_eq!(case.outputs(), ["read a.org"]);
    assert_eq!(case.want(&[("a.org", "1"), ("b.org", "1")]), Vec::<String>::new());
    let good = case.stored("a.org", 90);
    case.certificates.read(&mut case.bench.cx(), &name("a.org"), Ok(good));
    assert_eq!(case.outputs(), ["changed", "read b.org"]);
    let expiring = case.stored("b.org", 90);
    case.bench.pass(DAY * 80);
    case.certificates.read(&mut case.bench.cx(), &name("b.org"), Ok(expiring));
    let outputs = case.wake();
    let past_their_renewal = ["order 0 a.org", "order 1 b.org"];
    assert_eq!(
        (outputs[0].as_str(), &outputs[1..]),
        ("changed", &past_their_renewal.map(String::from)[..])
    );
}

#[test]
fn damaged_files_go_to_the_archive_and_are_ordered_anew() {
    let mut case = Case::new();
    let (key, _) = case.file(&names("a.org"), 90);
    let (_, foreign_chain) = case.file(&names("a.org"), 90);
    let whole = case.stored("a.org", 90);
    let cut = &whole.expose()[..whole.expose().len() / 2];
    let damaged = [
        Secret::new(format!("{}{foreign_chain}", key.expose())),
        Secret::new(cut.to_string()),
        Secret::new(format!("{OTHER_ODD_KEY}{ODD_CERTIFICATE}")),
        Secret::new(String::new()),
    ];
    for file in damaged {
        case.certificates = Certificates::new(&config());
        case.certificates.found(vec![name("a.org")]);
        case.want(&[("a.org", "1")]);
        case.certificates.read(&mut case.bench.cx(), &name("a.org"), Ok(file));
        assert_eq!(case.wake(), ["archive a.org", "order 0 a.org"]);
    }
}

/// Such a file is served as well as one of ours: without it nothing would be, until the CA is done.
#[test]
fn what_haproxy_loads_and_we_would_not_make_is_in_service_until_it_is_renewed() {
    let (key, chain) = Case::new().file(&names("a.org"), 90);
    let (other, _) = Case::new().file(&names("b.org"), 90);
    let files = [
        format!("{ODD_KEY}{ODD_CERTIFICATE}"),
        format!("{}{}{chain}", key.expose(), other.expose()),
        format!("{}{}", key.expose(), chain.repeat(20)),
    ];
    for file in files {
        let mut case = Case::new();
        case.certificates.found(vec![name("a.org")]);
        case.want(&[("a.org", "1")]);
        case.certificates.read(&mut case.bench.cx(), &name("a.org"), Ok(Secret::new(file)));
        assert_eq!(case.wake(), ["changed"], "and nothing is archived or ordered");
        assert_eq!(case.states(), [State::Valid]);
        let (slept, outputs) = case.sleep();
        assert_eq!(outputs, ["order 0 a.org"]);
        assert!(slept > DAY * 50 && slept < DAY * 60, "{slept:?}");
        assert_eq!(case.states(), [State::Valid], "it stays while the order lasts");
    }
}

#[test]
fn a_whole_file_for_another_name_stays_until_its_successor_comes() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org")]);
    case.want(&[("a.org", "1")]);
    let other_name = case.stored("b.org", 90);
    case.certificates.read(&mut case.bench.cx(), &name("a.org"), Ok(other_name));
    assert_eq!(case.wake(), ["order 0 a.org"], "and nothing is archived");
}

#[test]
fn a_file_that_cannot_be_read_is_read_again_and_not_replaced() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org")]);
    case.want(&[("a.org", "1")]);
    for _ in 0..3 {
        case.unreadable("a.org", StoreErrorKind::Io);
        let (slept, outputs) = case.sleep();
        assert_eq!(outputs, ["read a.org"]);
        assert!(slept > READ_PAUSE / 2 && slept < READ_PAUSE * 2, "{slept:?}");
    }
    case.unreadable("a.org", StoreErrorKind::Missing);
    assert_eq!(case.wake(), ["order 0 a.org"]);
}

#[test]
fn a_file_that_cannot_be_read_holds_up_no_other() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org"), name("b.org"), name("c.org")]);
    assert_eq!(case.outputs(), ["read a.org"]);
    case.unreadable("a.org", StoreErrorKind::NotWritable);
    assert_eq!(case.outputs(), ["read b.org"]);
    case.unreadable("b.org", StoreErrorKind::NotWritable);
    assert_eq!(case.outputs(), ["read c.org"]);
    case.bench.pass(READ_PAUSE * 2);
    assert_eq!(case.wake(), Vec::<String>::new(), "they wait until the third has been read");
    let good = case.stored("c.org", 90);
    case.certificates.read(&mut case.bench.cx(), &name("c.org"), Ok(good));
    let outputs = case.outputs();
    assert_eq!((outputs.len(), outputs[0].as_str()), (2, "changed"), "and one of the two");
}

#[test]
fn a_file_too_long_for_a_certificate_goes_to_the_archive() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org")]);
    assert_eq!(case.outputs(), ["read a.org"]);
    case.unreadable("a.org", StoreErrorKind::Malformed);
    assert_eq!(case.outputs(), ["archive a.org"]);
}

#[test]
fn a_link_in_the_place_of_a_certificate_is_not_ours_and_is_replaced_by_the_next_one() {
    let mut case = Case::new();
    case.certificates.found(vec![name("a.org"), name("unwanted.org")]);
    case.want(&[("a.org", "1")]);
    case.unreadable("a.org", StoreErrorKind::NotAFile);
    case.unreadable("unwanted.org", StoreErrorKind::NotAFile);
    assert_eq!(case.bench.logged(message::CERTIFICATE_NOT_A_FILE), 2);
    let outputs = case.wake();
    assert!(outputs.contains(&"order 0 a.org".to_string()), "{outputs:?}");
    assert!(outputs.iter().all(|output| !output.starts_with("archive")), "{outputs:?}");
}
