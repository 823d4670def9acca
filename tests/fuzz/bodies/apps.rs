//! The list of apps: any split gives the same apps, and of what a JSON library takes for a list of
//! apps, every app is found and reads as that library has it.

use marathon_acme::marathon::{App, AppError, AppsError, AppsParser};
use serde_json::Value;

use super::pieces::pieces;

/// The body of an answer.
pub fn run(bytes: &[u8]) {
    let (apps, end) = split(std::iter::once(bytes));
    let (same, other_end) = split(pieces(bytes));
    assert_eq!(kind(&other_end), kind(&end), "{other_end:?} {end:?}");
    assert_eq!(same, apps, "another split, other apps");
    for error in apps.iter().filter_map(|app| app.as_ref().err()) {
        assert!(error.app().chars().count() <= 100 && !error.app().contains('\n'));
    }
    if end.is_ok() {
        let [cut @ .., _] = bytes.trim_ascii_end() else { panic!("nothing is a list") };
        assert!(split(std::iter::once(cut)).1.is_err(), "cut short and taken for complete");
    }
    compare(bytes, &apps, &end);
}

type Split = (Vec<Result<App, AppError>>, Result<(), AppsError>);

fn split<'a>(mut pieces: impl Iterator<Item = &'a [u8]>) -> Split {
    let (mut parser, mut apps) = (AppsParser::new(), Vec::new());
    let fed = pieces
        .try_for_each(|piece| parser.feed(piece, &mut |app| apps.push(app.and_then(App::parse))));
    let end = fed.and_then(|()| parser.finish());
    (apps, end)
}

/// How it ended; what an error shows of the bytes depends on the split.
fn kind(end: &Result<(), AppsError>) -> Result<(), AppsError> {
    match end {
        Err(AppsError::NotJson { .. }) => Err(AppsError::NotJson { near: String::new() }),
        other => other.clone(),
    }
}

fn compare(bytes: &[u8], apps: &[Result<App, AppError>], end: &Result<(), AppsError>) {
    // Which of two members of one name counts, and names with escapes, are no matter of Marathon's.
    let once = bytes.windows(6).filter(|window| window == b"\"apps\"").count() == 1;
    if !once || bytes.contains(&b'\\') {
        return;
    }
    let Ok(Value::Object(value)) = serde_json::from_slice(bytes) else { return };
    let Some(Value::Array(list)) = value.get("apps") else { return };
    assert_eq!(end, &Ok(()), "a list of apps is refused");
    let read = |app: &Value| App::parse(app.to_string().as_bytes());
    let expected: Vec<Result<App, AppError>> = list.iter().map(read).collect();
    assert_eq!(apps, expected);
}
