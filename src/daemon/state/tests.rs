//! What is written is read; damage is seen as a whole, and skipped in a part.

use serde_json::json;

use super::*;
use crate::daemon::budget::OrderKind;

fn domain(name: &str) -> Domain {
    Domain::parse(name).expect("a test's name is one")
}

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

fn attempt() -> Attempt {
    let (key, csr) = (Secret::new("-----BEGIN PRIVATE KEY-----\n…".into()), vec![0, 255, 7]);
    let url = Url::parse("https://ca/order/1").unwrap();
    Attempt {
        at: at(1_795_700_000),
        directory: "https://ca/dir".into(),
        names: vec![domain("b.org"), domain("a.org")],
        resume: Some(Resume { url, certificate: Some(CertificateRequest { key, csr }) }),
    }
}

/// A memory in which nothing is left out.
fn full() -> SavedState {
    let trouble = |retry| RetryState {
        failures: 3,
        error: Complaint::new("caa: \"no\"\u{7}", Some(Hint::Caa)),
        retry,
        not_before: Some(at(1_795_000_000)),
        until_restart: true,
        app_changes: AppChanges { orders: 4, not_before: Some(at(1_795_000_100)) },
    };
    let advice = RenewalInfo {
        window: Some(Window { start: at(1_796_000_000), end: at(1_796_100_000) }),
        ask_at: Some(at(1_795_600_000)),
        failures: 2,
        explanation: Some("https://ca/why".into()),
        moved: true,
    };
    let life = CertificateRecord {
        serial: "00ff".into(),
        directory: Some("https://ca/dir".into()),
        issued: Some(at(1_795_500_000)),
        renewal: at(1_796_050_000),
        advice,
    };
    let certificate = CertificateState {
        names: [domain("a.org"), domain("b.org")].into(),
        source: Some(Source { app: "/a".into(), version: "v1".into() }),
        life: Some(life),
        trouble: Some(trouble(When::At(at(1_795_800_000)))),
        left_out: FlatMap::from([(domain("c.org"), trouble(When::Never))]),
        removed: FlatMap::from([(domain("d.org"), trouble(When::At(at(1_795_900_000))))]),
        name_changes: Some(Box::new(NameChanges {
            order_at: at(1_795_800_000),
            changes: AppChanges { orders: 1, not_before: Some(at(1_795_800_060)) },
        })),
        attempt: Some(attempt().into()),
    };
    let account = AccountState {
        url: "https://ca/acct/1".into(),
        thumbprint: "print".into(),
        contact: Some("ops@example.com".into()),
    };
    let mut budget = Budget::default();
    let names = [domain("b.org"), domain("a.org")];
    budget.order_made(at(1_795_700_000), &names, OrderKind::New);
    budget.note_earlier(&names, at(1_795_000_000));
    let ca = CaState {
        account: Some(account),
        not_before: Some(at(1_795_900_000)),
        names_max: FlatMap::from([(String::new(), 50), ("short".into(), 25)]),
        budget,
    };
    SavedState {
        reload_owed: true,
        reloaded: FlatMap::from([(
            "http://lb:9090".into(),
            ["10.0.0.1", "fd00::1"].map(|it| it.parse().unwrap()).into(),
        )]),
        cas: FlatMap::from([("https://ca/dir".into(), ca)]),
        certificates: BTreeMap::from([(domain("b.org"), certificate)]),
    }
}

#[test]
fn what_is_written_is_read() {
    for memory in [SavedState::default(), full()] {
        let text = String::from_utf8(memory.to_bytes()).unwrap();
        assert_eq!(SavedState::parse(text.as_bytes()), Ok(memory), "{text}");
        assert!(text.ends_with("}\n"));
    }
}

#[test]
fn damage_is_seen() {
    let whole = full().to_bytes();
    for end in 0..whole.len() - 2 {
        assert_eq!(SavedState::parse(&whole[..end]), Err(Damaged), "{end} bytes");
    }
    assert_eq!(SavedState::parse(br#"{"version":3,"reload_owed":true}"#), Err(Damaged));
    assert_eq!(SavedState::parse(br#"{"version":2,"reload_owed":1}"#), Err(Damaged));
    assert_eq!(SavedState::parse(b"[]"), Err(Damaged));
}

#[test]
fn the_first_version_is_read() {
    let memory = SavedState { reload_owed: true, ..SavedState::default() };
    assert_eq!(SavedState::parse(br#"{"version":1,"reload_owed":true}"#), Ok(memory));
}

#[test]
fn a_member_that_makes_no_sense_costs_itself_alone() {
    let whole: Value = serde_json::from_slice(&full().to_bytes()).unwrap();
    let read = |change: &dyn Fn(&mut Value)| {
        let mut value = whole.clone();
        change(&mut value);
        SavedState::parse(value.to_string().as_bytes()).unwrap()
    };
    let certificate = |memory: &SavedState| memory.certificates[&domain("b.org")].clone();
    let changed = read(&|value| value["certificates"]["b.org"]["life"]["renewal"] = json!("soon"));
    assert_eq!(certificate(&changed).life, None);
    assert!(certificate(&changed).trouble.is_some());
    let changed = read(&|value| value["certificates"]["../x"] = json!({}));
    assert_eq!(changed, full());
    let changed = read(&|value| value["certificates"]["b.org"]["left_out"]["c.org"] = json!(7));
    assert!(certificate(&changed).left_out.is_empty());
    let changed = read(&|value| value["certificates"]["b.org"]["attempt"]["order"] = json!("x"));
    assert_eq!(certificate(&changed).attempt.and_then(|attempt| attempt.resume), None);
    let changed = read(&|value| value["cas"] = json!([1]));
    assert!(changed.cas.is_empty() && changed.certificates == full().certificates);
    let changed = read(&|value| {
        let advice = &mut value["certificates"]["b.org"]["life"]["advice"];
        advice["end"] = advice["start"].clone();
    });
    let life = certificate(&changed).life.expect("the rest is kept");
    assert_eq!((life.advice.window, life.advice.failures), (None, 2));
}

#[test]
fn it_is_read_in_pieces_of_any_size_and_writing() {
    let text = full().to_bytes();
    let value: Value = serde_json::from_slice(&text).unwrap();
    // The certificates first, as `Value` sorts the members, and white space everywhere.
    for text in [text, serde_json::to_string_pretty(&value).unwrap().into_bytes()] {
        for count in [1, 2, 100] {
            let mut reader = StateReader::new(text.clone());
            let mut turns = 1;
            let mut steps = crate::testing::Steps::default();
            while !reader.read(count).unwrap() {
                steps.count();
                turns += 1;
            }
            assert!((count == 1) == (turns > 4), "{turns}");
            assert_eq!(reader.finish(), Ok(full()));
        }
        for behind in ["}", "x", ",", "{}"] {
            let longer = [&text, behind.as_bytes()].concat();
            assert_eq!(SavedState::parse(&longer), Err(Damaged), "{behind}");
        }
    }
    let without = SavedState { reload_owed: true, ..SavedState::default() };
    for odd in ["null", "[]", "{}", "7"] {
        let text = format!(r#"{{"certificates":{odd},"version":2,"reload_owed":true}}"#);
        assert_eq!(SavedState::parse(text.as_bytes()), Ok(without.clone()), "{odd}");
    }
    for damaged in [r#"{"version":2,}"#, r#"{"certificates":{"a.org":{},}}"#, r#"{,}"#, "{7:1}"] {
        assert_eq!(SavedState::parse(damaged.as_bytes()), Err(Damaged), "{damaged}");
    }
}

#[test]
fn it_is_written_in_pieces() {
    let memory = |name: &str| {
        let source = Some(Source { app: format!("/{name}"), version: "1".into() });
        (domain(name), CertificateState { source, ..CertificateState::default() })
    };
    let certificates: BTreeMap<Domain, CertificateState> =
        ["a.org", "b.org", "c.org"].map(memory).into_iter().collect();
    let whole = SavedState { certificates: certificates.clone(), ..full() };
    let mut text = StateWriter::new(whole.reload_owed, &whole.reloaded, &whole.cas);
    for name in ["a.org", "b.org", "c.org"] {
        let (name, memory) = certificates.get_key_value(&domain(name)).unwrap();
        assert_eq!(text.add([(name, memory)].into_iter()), 1);
        assert_eq!(text.last(), Some(name));
    }
    assert_eq!(text.add(std::iter::empty()), 0);
    assert_eq!(text.finish(), whole.to_bytes());
}
