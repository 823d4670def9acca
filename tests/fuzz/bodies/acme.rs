//! What a CA sends: every object keeps its limits and is plain text on one line, and reads the same
//! however its JSON is laid out.

use marathon_acme::acme::account::{self, Account};
use marathon_acme::acme::types::{
    AuthorizationObject, Directory, Malformed, OrderObject, Problem, RenewalInfoObject,
};
use marathon_acme::http::{Headers, Response, ResponseHead};
use marathon_acme::url::Url;
use serde_json::Value;

/// Characters of a CA's text at most.
const TEXT_CHARS_MAX: usize = 1000;
/// Members of a list at most.
const LIST_MAX: usize = 200;

/// The first byte says what is expected, the others are the body of the answer.
pub fn run(bytes: &[u8]) {
    let [kind, body @ ..] = bytes else { return };
    match kind % 6 {
        0 => object(body, directory, check_directory),
        1 => object(body, OrderObject::parse, check_order),
        2 => object(body, AuthorizationObject::parse, check_authorization),
        3 => object(body, RenewalInfoObject::parse, |info| check_text(&info.explanation)),
        4 => problem(body),
        _ => object(body, account_of, check_account),
    }
}

fn directory(body: &[u8]) -> Result<Directory, Malformed> {
    Directory::parse(body, &Url::parse("https://ca.example/directory").expect("a URL"))
}

fn object<T: PartialEq + std::fmt::Debug>(
    body: &[u8],
    parse: fn(&[u8]) -> Result<T, Malformed>,
    check: fn(&T),
) {
    let parsed = parse(body);
    match &parsed {
        Ok(parsed) => check(parsed),
        Err(error) => assert!(error.to_string().chars().count() < 1000),
    }
    if let Some(other) = laid_out(body) {
        assert_eq!(parse(&other).ok(), parsed.ok(), "another layout, another object");
    }
}

/// The same JSON with white space.
fn laid_out(body: &[u8]) -> Option<Vec<u8>> {
    serde_json::to_vec_pretty(&serde_json::from_slice::<Value>(body).ok()?).ok()
}

fn check_text<'a>(texts: impl IntoIterator<Item = &'a String>) {
    for text in texts {
        assert!(text.chars().count() <= TEXT_CHARS_MAX && !text.contains(char::is_control));
    }
}

fn check_directory(directory: &Directory) {
    assert!(directory.profiles.len() <= LIST_MAX);
    check_text(&directory.terms_of_service);
    check_text(directory.profiles.keys().chain(directory.profiles.values()));
}

fn check_order(order: &OrderObject) {
    assert!(order.authorizations.len() <= LIST_MAX && order.identifiers.len() <= LIST_MAX);
    check_text(order.identifiers.iter().chain(&order.replaces));
    order.error.iter().for_each(check_problem);
}

fn check_authorization(authorization: &AuthorizationObject) {
    check_text([&authorization.identifier]);
    authorization.error.iter().for_each(check_problem);
    if let Some(http01) = &authorization.http01 {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        assert!((1..=128).contains(&http01.token.len()) && http01.token.bytes().all(fits));
    }
}

fn problem(body: &[u8]) {
    let problem = Problem::parse(body);
    problem.iter().for_each(check_problem);
    if let Some(other) = laid_out(body) {
        assert_eq!(Problem::parse(&other), problem);
    }
}

fn check_problem(problem: &Problem) {
    assert!(problem.subproblems.len() <= LIST_MAX);
    check_text([&problem.name, &problem.detail]);
    for subproblem in &problem.subproblems {
        check_text(subproblem.identifier.iter().chain([&subproblem.name, &subproblem.detail]));
    }
    assert!(!problem.to_string().contains('\n'));
}

fn account_of(body: &[u8]) -> Result<Account, Malformed> {
    let mut headers = Headers::new();
    headers.push("Location", "https://ca.example/account/1");
    let head = ResponseHead { status: 201, headers };
    account::read(&Response { head, body: body.to_vec() })
}

fn check_account(account: &Account) {
    let contact = account.contact.as_deref().unwrap_or_default();
    assert!(contact.len() <= LIST_MAX);
    check_text(contact);
}
