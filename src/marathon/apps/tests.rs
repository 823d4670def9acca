//! Tests of the splitter: whole, byte by byte, split everywhere, and with rubbish.

use super::*;
use crate::marathon::App;

const ODD: &str = r#" { "a" : {"apps":[{"id":"/no"}]}, "b":"}]\"\\", "c":-1.5e3 ,"d":null,
    "apps" : [ {"id":"/a","labels":{"x":"]}\"{\\"}} ,7, {"id":"/b","ports":[1,2]},{"no":"id"}],
    "e":[[]],"f":true } "#;

type Items = Vec<Result<App, AppError>>;

fn parse(pieces: &[&[u8]]) -> Result<Items, AppsError> {
    let (mut parser, mut items) = (AppsParser::new(), Vec::new());
    for piece in pieces {
        parser.feed(piece, &mut |app| items.push(app.and_then(App::parse)))?;
    }
    parser.finish()?;
    Ok(items)
}

fn ids(items: &Items) -> Vec<String> {
    let id = |item: &Result<App, AppError>| match item {
        Ok(app) => app.id.clone(),
        Err(error) => format!("{error:?}"),
    };
    items.iter().map(id).collect()
}

#[test]
fn apps_are_found_among_other_members_however_the_bytes_are_split() {
    let expected = ["/a", "NotAnObject", "/b", "NoId"];
    assert_eq!(ids(&parse(&[ODD.as_bytes()]).unwrap()), expected);
    let bytes: Vec<&[u8]> = ODD.as_bytes().chunks(1).collect();
    assert_eq!(ids(&parse(&bytes).unwrap()), expected);
    for split in 0..=ODD.len() {
        let (left, right) = ODD.as_bytes().split_at(split);
        assert_eq!(ids(&parse(&[left, right]).unwrap()), expected, "split at {split}");
    }
}

#[test]
fn no_apps_are_no_trouble() {
    assert_eq!(parse(&[b"{\"apps\":[]}"]), Ok(Vec::new()));
    assert_eq!(parse(&[b"{\"apps\": [ ] }\n"]), Ok(Vec::new()));
}

#[test]
fn what_is_cut_short_anywhere_is_never_complete() {
    let whole = ODD.trim();
    for end in 0..whole.len() {
        let error = parse(&[&whole.as_bytes()[..end]]).expect_err("a part is not the whole");
        assert_eq!(error, if end == 0 { AppsError::Empty } else { AppsError::CutShort }, "{end}");
    }
}

#[test]
fn other_answers_are_refused_with_what_they_are() {
    let refused = |text: &[u8]| parse(&[text]).expect_err("refused");
    assert_eq!(refused(b""), AppsError::Empty);
    assert_eq!(refused(b" \r\n"), AppsError::Empty);
    assert_eq!(refused(&[0x1f, 0x8b, 8, 0]), AppsError::Compressed);
    assert_eq!(refused(b"{}"), AppsError::NoApps);
    assert_eq!(refused(b"{\"message\":\"no\"}"), AppsError::NoApps);
    assert_eq!(refused(b"{\"apps\":null}"), AppsError::NoApps);
    let html = AppsError::NotJson { near: "<html> <body>".into() };
    assert_eq!(refused(b"<html>\n<body>"), html);
    for text in ["[]", "{\"apps\":[]}}", "{\"apps\":[]}x", "{\"apps\":[,]}", "{,}", "{\"a\" 1}"] {
        assert!(matches!(refused(text.as_bytes()), AppsError::NotJson { .. }), "{text}");
    }
    for text in ["{\"apps\":[{}{}]}", "{\"apps\":[{},]}", "{\"a\":1,}", "{\"apps\":[x]}"] {
        assert!(matches!(refused(text.as_bytes()), AppsError::NotJson { .. }), "{text}");
    }
}

#[test]
fn deep_nesting_concerns_one_app_at_most() {
    let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let ignored = format!("{{\"id\":\"/a\",\"x\":{deep}}}");
    let labels = format!("{{\"id\":\"/b\",\"labels\":{{\"l\":{deep}}}}}");
    let ports = format!("{{\"id\":\"/c\",\"portDefinitions\":{deep}}}");
    let text =
        format!("{{\"x\":{deep},\"apps\":[{ignored},{labels},{ports},{deep},{{\"id\":\"/d\"}}]}}");
    let apps = parse(&[text.as_bytes()]).expect("the list itself is complete");
    assert_eq!(apps.len(), 5);
    assert_eq!(apps[0].as_ref().map(|app| app.id.as_str()), Ok("/a"));
    assert!(apps[3].is_err());
    assert_eq!(apps[4].as_ref().map(|app| app.id.as_str()), Ok("/d"));
}

#[test]
fn an_app_that_is_too_long_is_passed_over_and_memory_stays_small() {
    let (mut parser, mut items) = (AppsParser::new(), Vec::new());
    parser
        .feed(b"{\"apps\":[{\"id\":\"/long\",\"x\":\"", &mut |app| {
            items.push(app.and_then(App::parse))
        })
        .unwrap();
    let piece = [b'x'; 64 * 1024];
    for _ in 0..APP_BYTES_MAX / piece.len() + 2 {
        parser.feed(&piece, &mut |app| items.push(app.and_then(App::parse))).unwrap();
        assert!(parser.pending.capacity() <= 2 * APP_BYTES_MAX);
    }
    parser
        .feed(b"\"},{\"id\":\"/next\"}]}", &mut |app| items.push(app.and_then(App::parse)))
        .unwrap();
    parser.finish().unwrap();
    assert_eq!(items[0], Err(AppError::TooLong { limit: APP_BYTES_MAX }));
    assert_eq!(ids(&items)[1], "/next");
}

#[test]
fn rubbish_never_panics() {
    let alphabet = b"{}[]\",:\\apps01-tn \xff";
    let mut number: u64 = 1;
    for _ in 0..20_000 {
        let mut text = Vec::new();
        for _ in 0..24 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push(alphabet[(number >> 33) as usize % alphabet.len()]);
        }
        let whole = parse(&[&text]);
        let pieces: Vec<&[u8]> = text.chunks(1).collect();
        match (whole, parse(&pieces)) {
            (Ok(whole), Ok(split)) => assert_eq!(ids(&whole).len(), ids(&split).len()),
            (whole, split) => assert_eq!(whole.is_ok(), split.is_ok(), "{text:?}"),
        }
    }
}
