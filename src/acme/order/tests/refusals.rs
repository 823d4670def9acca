//! Orders of which some names are refused: all of these are told, and no innocent one is harmed.

use super::*;

const THREE: &str = r#"{"status":"?","authorizations":["https://ca/z/1","https://ca/z/2",
    "https://ca/z/3"],"finalize":"https://ca/f"}"#;

fn named(name: &str, status: &str) -> String {
    authorization(status, &format!("t-{}", &name[..1])).replace("a.org", name)
}

/// An authorization whose challenge failed.
fn invalid(name: &str, kind: &str) -> String {
    let error = format!(
        r#""error":{{"type":"urn:ietf:params:acme:error:{kind}","detail":"no"}},"type":"http-01""#
    );
    named(name, "invalid").replace(r#""type":"http-01""#, &error)
}

fn names(error: &OrderError, names: &[&str]) -> Vec<String> {
    let names: Vec<Domain> = names.iter().map(|name| Domain::parse(name).unwrap()).collect();
    error.blamed(&names).keys().map(ToString::to_string).collect()
}

impl Case {
    /// All three challenges are answered, and the order is looked at.
    fn three() -> Case {
        let mut case = Case::new(&["a.org", "b.org", "c.org"]);
        case.created(&THREE.replace('?', "pending"));
        for name in ["a.org", "b.org", "c.org"] {
            case.answer(named(name, "pending"));
            case.answer("{}");
        }
        assert_eq!(case.wait(SOON), ["https://ca/o/1"]);
        case
    }

    /// The last answer comes; the error that the order ends with.
    fn last(&mut self, reply: Result<Response, CallError>) -> OrderError {
        self.order.handle_reply(&mut self.bench.cx(), &self.key, reply);
        let mut outputs = std::iter::from_fn(|| self.order.poll_output());
        match outputs.find(|output| matches!(output, OrderOutput::Finished(_))) {
            Some(OrderOutput::Finished(Err(error))) => error,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_failing_name_is_told_and_challenges_stay_until_all_are_decided() {
    let mut case = Case::three();
    assert_eq!(case.answer(THREE.replace('?', "invalid")), ["https://ca/z/1"]);
    assert_eq!(case.answer(invalid("a.org", "dns")), ["https://ca/z/2"]);
    assert_eq!(case.answer(named("b.org", "pending")), ["https://ca/z/3"]);
    assert_eq!(case.answer(named("c.org", "pending")), Wishes::new());
    assert_eq!(case.wait(SOON), ["https://ca/z/2"]);
    assert_eq!(case.answer(named("b.org", "valid")), ["https://ca/z/3"]);
    assert_eq!(case.answer(named("c.org", "pending")), Wishes::new());
    assert_eq!(case.wait(SOON), ["https://ca/z/3"]);
    let wishes = case.answer(invalid("c.org", "connection"));
    assert_eq!(wishes[..3], ["withdraw t-a", "withdraw t-b", "withdraw t-c"]);
    assert_eq!(wishes[3], "failed: the CA refused a.org: dns: no; c.org: connection: no");
}

#[test]
fn what_stays_undecided_is_given_up_after_half_a_minute() {
    let mut case = Case::three();
    let begin = case.bench.now.mono;
    case.answer(THREE.replace('?', "invalid"));
    case.answer(invalid("a.org", "dns"));
    case.answer(named("b.org", "valid"));
    let mut wishes = case.answer(named("c.org", "pending"));
    let mut looks = 0;
    let mut steps = crate::testing::Steps::default();
    while wishes.is_empty() {
        steps.count();
        assert_eq!(case.wait(POLL_MAX), ["https://ca/z/3"]);
        looks += 1;
        if looks == 6 {
            assert_eq!(case.passing(), Wishes::new(), "it is asked again");
            continue;
        }
        wishes = case.answer(named("c.org", "pending"));
    }
    assert_eq!(wishes.last().unwrap(), "failed: the CA refused a.org: dns: no");
    assert_eq!(case.bench.now.mono.since(begin), Duration::from_secs(30));
    assert!((6..12).contains(&looks), "{looks} looks");
}

#[test]
fn a_ca_that_stops_answering_is_not_waited_for_once_for_each_name() {
    let mut case = Case::three();
    case.answer(THREE.replace('?', "invalid"));
    case.answer(invalid("a.org", "dns"));
    case.bench.pass(Duration::from_secs(31));
    let wishes = case.passing();
    assert_eq!(wishes.last().unwrap(), "failed: the CA refused a.org: dns: no");

    let mut case = Case::three();
    case.answer(THREE.replace('?', "invalid"));
    assert_eq!(case.reply(Err(problem(ProblemKind::Malformed, 404, None))), ["https://ca/z/2"]);
    case.answer(invalid("b.org", "tls"));
    let error = case.last(Ok(response(&[], &named("c.org", "valid"))));
    assert_eq!(error.to_string(), "the CA refused b.org: tls: no");
}

#[test]
fn the_deadline_tells_what_is_known() {
    let mut case = Case::three();
    case.answer(THREE.replace('?', "invalid"));
    case.answer(invalid("a.org", "dns"));
    case.bench.pass(ORDER_DEADLINE);
    assert_eq!(case.due().last().unwrap(), "failed: the CA refused a.org: dns: no");
}

#[test]
fn an_order_that_says_which_names_it_refuses_is_heard() {
    let problem = r#""error":{"type":"urn:ietf:params:acme:error:compound","detail":"two",
        "subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"no",
        "identifier":{"type":"dns","value":"b.org"}}]},"status""#;
    let mut case = Case::three();
    case.answer(THREE.replace('?', "invalid").replace("\"status\"", problem));
    for name in ["a.org", "b.org"] {
        case.answer(named(name, "valid"));
    }
    let error = case.last(Ok(response(&[], &named("c.org", "valid"))));
    assert_eq!(names(&error, &["a.org", "b.org", "c.org"]), ["b.org"]);
    assert_eq!(error.failed_authorizations(&[]), []);

    let mut case = Case::three();
    case.answer(THREE.replace('?', "invalid").replace("\"status\"", problem));
    case.answer(invalid("a.org", "dns"));
    case.answer(named("b.org", "valid"));
    let error = case.last(Ok(response(&[], &named("c.org", "valid"))));
    assert_eq!(names(&error, &["a.org", "b.org", "c.org"]), ["a.org", "b.org"]);
    assert_eq!(
        error.failed_authorizations(&[]).iter().map(Domain::as_str).collect::<Vec<_>>(),
        ["a.org"]
    );
}

#[test]
fn once_a_name_is_refused_no_further_challenge_is_answered() {
    let mut case = Case::new(&["a.org", "b.org", "c.org"]);
    case.created(&THREE.replace('?', "pending"));
    assert_eq!(case.answer(invalid("a.org", "caa")), ["https://ca/z/2"]);
    assert_eq!(case.answer(named("b.org", "pending")), ["https://ca/z/3"]);
    let wishes = case.answer(named("c.org", "pending"));
    assert_eq!(wishes, ["failed: the CA refused a.org: caa: no"], "it ends at once");
}

#[test]
fn names_without_http_01_are_collected_along_with_refused_ones() {
    let dns = |name: &str| named(name, "pending").replace("http-01", "dns-01");
    let mut case = Case::new(&["a.org", "b.org", "c.org"]);
    case.created(&THREE.replace('?', "pending"));
    assert_eq!(case.answer(dns("a.org")), ["https://ca/z/2"]);
    assert_eq!(case.answer(dns("b.org")), ["https://ca/z/3"]);
    let error = case.last(Ok(response(&[], &invalid("c.org", "dns"))));
    assert_eq!(
        error.to_string(),
        "the CA refused a.org: noHttp01: the CA offers no http-01 challenge; \
         b.org: noHttp01: the CA offers no http-01 challenge; c.org: dns: no"
    );
    assert_eq!(
        error.failed_authorizations(&[]).iter().map(Domain::as_str).collect::<Vec<_>>(),
        ["c.org"]
    );
    assert_eq!(names(&error, &["a.org", "b.org", "c.org"]), ["a.org", "b.org", "c.org"]);

    let mut case = Case::new(&["a.org", "b.org"]);
    case.created(&TWO.replace('?', "pending"));
    case.answer(named("a.org", "valid"));
    let error = case.last(Ok(response(&[], &dns("b.org"))));
    assert_eq!(error, OrderError::NoHttp01 { identifier: "b.org".into() });
}

#[test]
fn challenges_that_were_answered_before_are_given_their_time() {
    let mut case = Case::new(&["a.org", "b.org", "c.org"]);
    case.created(&THREE.replace('?', "pending"));
    assert_eq!(case.answer(named("a.org", "pending")), ["publish t-a", "https://ca/h/t-a {}"]);
    assert_eq!(case.answer("{}"), ["https://ca/z/2"]);
    assert_eq!(case.answer(invalid("b.org", "dns")), ["https://ca/z/3"]);
    assert_eq!(case.answer(named("c.org", "pending")), ["https://ca/z/1"], "c.org is left alone");
    assert_eq!(case.answer(named("a.org", "pending")), Wishes::new());
    assert_eq!(case.wait(SOON), ["https://ca/z/1"]);
    assert_eq!(
        case.answer(named("a.org", "valid")),
        ["withdraw t-a", "failed: the CA refused b.org: dns: no"]
    );
}

#[test]
fn a_challenge_that_failed_before_the_lost_answer_was_asked_for_is_told_once() {
    let mut case = Case::new(&["a.org", "b.org"]);
    case.created(&TWO.replace('?', "pending"));
    case.answer(named("a.org", "pending"));
    case.passing();
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/z/1"]);
    assert_eq!(case.answer(invalid("a.org", "dns")), ["https://ca/z/2"]);
    let wishes = case.answer(named("b.org", "pending"));
    assert_eq!(wishes, ["withdraw t-a", "failed: the CA refused a.org: dns: no"]);
}

#[test]
fn unauthorized_is_the_accounts_on_a_new_order_only() {
    let refused = || Err(problem(ProblemKind::Unauthorized, 403, None));
    let mut case = Case::new(&["a.org"]);
    case.due();
    let error = case.last(refused());
    assert!(error.is_account_refused());
    assert_eq!(names(&error, &["a.org"]), Vec::<String>::new());

    let mut case = Case::new(&["a.org"]);
    case.created(READY);
    // The order is asked whether it was finalized all the same.
    case.reply(refused());
    case.wait(2 * SOON);
    let error = case.last(Ok(response(&[], READY)));
    assert!(!error.is_account_refused());
    assert_eq!(error.to_string(), "the CA refused the order: unauthorized: words");
    assert_eq!(names(&error, &["a.org"]), ["a.org"]);
}

/// Whoever asks why an order is invalid heeds `Retry-After` as well.
#[test]
fn the_reasons_are_not_asked_for_before_the_cas_time() {
    let two_names = || {
        let mut case = Case::new(&["a.org", "b.org"]);
        case.created(&TWO.replace("?", "pending"));
        for token in ["t1", "t2"] {
            case.answer(authorization("pending", token));
            case.answer("{}");
        }
        case.wait(SOON);
        assert_eq!(case.answer(TWO.replace("?", "invalid")), ["https://ca/z/1"]);
        case
    };
    let undecided =
        |seconds| Ok(response(&[("Retry-After", seconds)], &authorization("pending", "t1")));
    let mut case = two_names();
    assert_eq!(case.reply(undecided("7")), ["https://ca/z/2"]);
    assert_eq!(case.answer(authorization("valid", "t2")), Wishes::new());
    let at = case.order.poll_timeout().unwrap();
    assert_eq!(at.since(case.bench.now.mono), Duration::from_secs(7));

    let mut case = two_names();
    let overloaded = problem(ProblemKind::ServerInternal, 503, Some(9));
    assert_eq!(case.reply(Err(overloaded)), ["https://ca/z/2"]);
    assert_eq!(case.answer(authorization("valid", "t2")), Wishes::new());
    let at = case.order.poll_timeout().unwrap();
    assert_eq!(at.since(case.bench.now.mono), Duration::from_secs(9));

    let mut case = two_names();
    case.reply(undecided("600"));
    let wishes = case.answer(authorization("invalid", "t2"));
    assert!(wishes.last().is_some_and(|it| it.starts_with("failed")), "too late: {wishes:?}");
}
