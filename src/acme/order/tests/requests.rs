//! What an order is asked to be: a successor, of a profile, with a key type, or one of an earlier run.

use super::*;
use crate::log::message;

const NEW: &str = r#"https://ca/order {"identifiers":[{"type":"dns","value":"a.org"}]"#;

fn request() -> OrderRequest {
    OrderRequest::plain(vec![Domain::parse("a.org").unwrap()])
}

fn replacing() -> Case {
    Case::of(OrderRequest { replaces: Some("aki.serial".into()), ..request() })
}

fn resuming(names: &[&str]) -> Case {
    let names = names.iter().map(|name| Domain::parse(name).unwrap()).collect();
    resuming_with(names, kept(1))
}

/// What an earlier run has kept.
fn kept(csr: u8) -> Option<CertificateRequest> {
    Some(CertificateRequest { key: Secret::new("kept".into()), csr: vec![csr] })
}

fn resuming_with(names: Vec<Domain>, certificate: Option<CertificateRequest>) -> Case {
    let resume = Some(Resume { url: Url::parse("https://ca/o/7").unwrap(), certificate });
    let mut case = Case::of(OrderRequest { resume, ..OrderRequest::plain(names) });
    assert_eq!(case.due(), ["https://ca/o/7"]);
    case
}

/// An order object with its names.
fn object(status: &str, names: &[&str]) -> String {
    let names: Vec<String> =
        names.iter().map(|name| format!(r#"{{"type":"dns","value":"{name}"}}"#)).collect();
    PENDING.replace(
        r#""status":"pending""#,
        &format!(r#""status":"{status}","identifiers":[{}]"#, names.join(",")),
    )
}

const NOT_OURS: &str = "failed: the order of an earlier run is over, or its key is gone";

impl Case {
    /// Downloads what is ready to be; what came out at the end.
    fn download(&mut self) -> Issued {
        self.answer(VALID);
        self.order.handle_reply(&mut self.bench.cx(), &self.key, Ok(response(&[], CHAIN)));
        match self.order.poll_output() {
            Some(OrderOutput::Finished(Ok(issued))) => issued,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn wishes_are_told_to_the_ca() {
    let mut case = Case::of(OrderRequest {
        replaces: Some("aki.serial".into()),
        profile: Some("shortlived".into()),
        ..request()
    });
    let expected = format!(r#"{NEW},"profile":"shortlived","replaces":"aki.serial"}}"#);
    assert_eq!(case.due(), [expected]);
    let location = response(&[("Location", "https://ca/o/1")], READY);
    assert_eq!(case.reply(Ok(location)), ["placed https://ca/o/1", r#"https://ca/f {"csr":"AQ"}"#]);
    assert_eq!(case.download().replaced.as_deref(), Some("aki.serial"));
    let kept = case.order.request();
    assert_eq!((kept.profile.as_deref(), case.order.names()), (Some("shortlived"), &*kept.names));
}

#[test]
fn an_order_that_is_refused_for_what_it_replaces_is_made_without() {
    let refusals = [
        (ProblemKind::AlreadyReplaced, 409),
        (ProblemKind::Malformed, 400),
        (ProblemKind::Unauthorized, 403),
        (ProblemKind::RejectedIdentifier, 400),
        (ProblemKind::Other, 404),
    ];
    for (kind, status) in refusals {
        let mut case = replacing();
        assert_eq!(case.due(), [format!(r#"{NEW},"replaces":"aki.serial"}}"#)]);
        assert_eq!(case.reply(Err(problem(kind, status, None))), [format!("{NEW}}}")]);
        assert_eq!(case.bench.logged(message::REPLACES_REFUSED), 1);
        case.created(READY);
        assert_eq!(case.download().replaced, None);
    }
}

#[test]
fn an_order_is_made_without_once_only() {
    let mut case = replacing();
    case.due();
    case.reply(Err(problem(ProblemKind::RejectedIdentifier, 400, None)));
    let wishes = case.reply(Err(problem(ProblemKind::RejectedIdentifier, 400, None)));
    assert_eq!(wishes, ["failed: rejectedIdentifier: words"]);
}

#[test]
fn what_has_nothing_to_do_with_replacing_is_no_reason_to_order_without() {
    for (kind, status) in [
        (ProblemKind::RateLimited, 429),
        (ProblemKind::AccountDoesNotExist, 400),
        (ProblemKind::UserActionRequired, 403),
    ] {
        let mut case = replacing();
        case.due();
        let failed = format!("failed: {}: words", kind.name());
        assert_eq!(case.reply(Err(problem(kind, status, None))), [failed]);
    }
    let mut case = replacing();
    case.due();
    assert_eq!(case.passing(), Wishes::new());
    assert_eq!(case.wait(BACKOFF_MAX), [format!(r#"{NEW},"replaces":"aki.serial"}}"#)]);
    let mut page = replacing();
    page.due();
    let status = CallError::Status {
        status: 403,
        url: "u".into(),
        near: "<html>".into(),
        retry_after: None,
    };
    assert_eq!(page.reply(Err(status)), ["failed: status 403 from u: <html>"]);
}

#[test]
fn an_order_is_known_as_soon_as_the_ca_has_made_it() {
    let mut nowhere = Case::new(&["a.org"]);
    nowhere.due();
    let valid = response(&[("Location", "https://ca/o/1")], VALID);
    assert_eq!(nowhere.reply(Ok(valid)), [NOT_OURS], "it is of no use, so it is not remembered");
}

#[test]
fn an_order_of_an_earlier_run_is_gone_on_with() {
    let mut pending = resuming(&["b.org", "a.org"]);
    assert_eq!(pending.answer(object("pending", &["A.org", "b.org"])), ["https://ca/z/1"]);
    pending.answer(authorization("pending", "t1"));
    pending.answer("{}");
    assert_eq!(pending.wait(SOON), ["https://ca/o/7"]);

    let mut ready = resuming(&["a.org"]);
    let with = object("ready", &["a.org"]).replace("\"status\"", r#""replaces":"x.y","status""#);
    assert_eq!(ready.answer(with), [r#"https://ca/f {"csr":"AQ"}"#]);
    assert_eq!(ready.download().replaced.as_deref(), Some("x.y"));
}

#[test]
fn an_order_of_an_earlier_run_that_is_of_no_use_is_not_ours() {
    for status in ["processing", "valid", "invalid", "frozen"] {
        let mut case = resuming_with(vec![Domain::parse("a.org").unwrap()], None);
        assert_eq!(case.answer(object(status, &["a.org"])), [NOT_OURS], "{status}");
    }
    for names in [&["a.org", "b.org"][..], &["b.org"], &[]] {
        let mut case = resuming(&["a.org"]);
        assert_eq!(case.answer(object("ready", names)), [NOT_OURS], "{names:?}");
    }
    assert_eq!(resuming(&["a.org"]).answer(READY), [NOT_OURS], "no names at all");
    for (kind, status) in [(ProblemKind::Malformed, 404), (ProblemKind::Unauthorized, 403)] {
        let mut case = resuming(&["a.org"]);
        assert_eq!(case.reply(Err(problem(kind, status, None))), [NOT_OURS]);
    }
}

#[test]
fn trouble_that_is_not_the_earlier_orders_leaves_it_alone() {
    let mut case = resuming(&["a.org"]);
    assert_eq!(case.passing(), Wishes::new());
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/o/7"]);
    let limited = problem(ProblemKind::RateLimited, 429, Some(9));
    assert_eq!(case.reply(Err(limited)), ["failed: rateLimited: words"]);
    // Whoever gets this registers again, and makes the order again at once.
    let mut case = resuming(&["a.org"]);
    let reply = Err(problem(ProblemKind::AccountDoesNotExist, 400, None));
    case.order.handle_reply(&mut case.bench.cx(), &case.key, reply);
    match case.order.poll_output() {
        Some(OrderOutput::Finished(Err(error))) => assert!(error.is_account_gone(), "{error}"),
        other => panic!("{other:?}"),
    }

    let mut case = resuming(&["a.org"]);
    for _ in 0..FAILURES_MAX {
        assert_eq!(case.answer("<html>"), Wishes::new());
        case.wait(BACKOFF_MAX);
    }
    assert_eq!(case.answer("<html>"), [NOT_OURS], "a new order is made in its place");
}

#[test]
fn a_challenge_that_the_ca_is_done_with_in_this_very_moment_is_read_again() {
    let refusal = || Err(problem(ProblemKind::Malformed, 400, None));
    let pending = || authorization("pending", "t1");
    let mut case = resuming(&["a.org"]);
    assert_eq!(case.answer(object("pending", &["a.org"])), ["https://ca/z/1"]);
    assert_eq!(case.answer(pending()), ["publish t1", "https://ca/h/t1 {}"]);
    assert_eq!(case.reply(refusal()), ["https://ca/z/1"]);
    assert!(case.answer(authorization("valid", "t1")).is_empty());
    assert_eq!(case.wait(SOON), ["https://ca/o/7"]);
    // Once; and not where no earlier run can have answered it.
    let mut case = resuming(&["a.org"]);
    case.answer(object("pending", &["a.org"]));
    case.answer(pending());
    case.reply(refusal());
    assert_eq!(case.answer(pending()), ["https://ca/h/t1 {}"]);
    assert!(case.reply(refusal()).iter().any(|wish| wish.starts_with("failed: ")));
    let mut case = Case::new(&["a.org"]);
    case.created(PENDING);
    case.answer(pending());
    assert!(case.reply(refusal()).iter().any(|wish| wish.starts_with("failed: ")));
}

#[test]
fn an_order_is_finalized_once_its_key_is_on_the_disk() {
    let mut case = Case::new(&["a.org"]);
    case.keeps = false;
    assert_eq!(case.created(READY), Wishes::new());
    let deadline = case.order.poll_timeout().unwrap();
    assert_eq!(deadline.since(case.bench.now.mono), ORDER_DEADLINE, "it waits for nothing else");
    case.order.kept(&case.bench.cx());
    assert_eq!(case.due(), [r#"https://ca/f {"csr":"AQ"}"#]);
    assert_eq!(case.answer(VALID), ["https://ca/c"]);
    assert_eq!(case.answer(CHAIN), ["issued a.org"]);
    // It may be on the disk before it is needed.
    let mut case = Case::new(&["a.org"]);
    case.answered();
    case.wait(SOON);
    assert_eq!(case.answer(READY), ["withdraw t1", r#"https://ca/f {"csr":"AQ"}"#]);
}

/// An earlier run has finalized it, and has kept its key.
#[test]
fn an_order_that_is_finalized_is_gone_on_with_by_its_key() {
    let names = || vec![Domain::parse("a.org").unwrap()];
    let valid = VALID.replace(
        r#""authorizations""#,
        r#""identifiers":[{"type":"dns","value":"a.org"}],"authorizations""#,
    );
    for (body, wish) in [
        (object("ready", &["a.org"]), r#"https://ca/f {"csr":"CQ"}"#),
        (object("processing", &["a.org"]), "https://ca/o/7"),
        (valid, "https://ca/c"),
    ] {
        let mut case = resuming_with(names(), kept(9));
        let mut wishes = case.answer(body);
        if wishes.is_empty() {
            wishes = case.wait(SOON);
        }
        assert_eq!(wishes, [wish]);
        if wish != "https://ca/c" {
            assert_eq!(case.answer(VALID), ["https://ca/c"]);
        }
        let chain = response(&[], CHAIN);
        case.order.handle_reply(&mut case.bench.cx(), &case.key, Ok(chain));
        let Some(OrderOutput::Finished(Ok(issued))) = case.order.poll_output() else { panic!() };
        assert_eq!(issued.key.expose(), "kept");
    }
    // Of other names, or without the key, it is of no use.
    let mut other = resuming_with(vec![Domain::parse("b.org").unwrap()], kept(9));
    assert!(other.answer(object("processing", &["a.org"]))[0].starts_with("failed"));
    let mut lost = resuming_with(names(), None);
    assert!(lost.answer(object("processing", &["a.org"]))[0].starts_with("failed"));
}
