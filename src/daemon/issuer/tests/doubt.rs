//! Accounts that are doubted or not remembered, and bindings, which many CAs take only once.

use zeroize::Zeroizing;

use super::*;

const GONE: Trick = Trick::Problem("accountDoesNotExist", 400);
/// What a CA says to a binding that is used up.
const USED_UP: Trick = Trick::Problem("unauthorized", 403);
const REFUSED: Trick = Trick::Problem("unauthorized", 403);

/// With a binding, not started.
fn binding() -> Case {
    let binding = Binding { kid: "k1".into(), mac_key: Zeroizing::new(b"secret".to_vec()) };
    let acme = Url::parse("https://ca/dir").unwrap();
    Case::of(&Config { acme, ..config() }, Some(binding))
}

/// With an account that was bound in this process.
fn bound() -> Case {
    let mut case = binding().trick("account", &[GONE]);
    case.start(None);
    case.run();
    assert_eq!(case.asked, ["GET dir", "HEAD nonce", "POST account", "POST account"]);
    assert!(case.is_bound_by_the_last());
    case.asked.clear();
    case
}

impl Case {
    /// Whether the last request for an account bore the binding.
    fn is_bound_by_the_last(&self) -> bool {
        let sent = &self.payloads["account"];
        let asks = sent["onlyReturnExisting"] == true;
        assert_ne!(asks, sent["externalAccountBinding"].is_object(), "{sent}");
        !asks
    }

    /// How the first order failed.
    fn first_error(&self) -> String {
        let Some((_, Err(error))) = self.finished.first() else { panic!("it fails") };
        error.to_string()
    }
}

/// An order that is refused is none of the account's business, where the CA does not say that it is.
#[test]
fn a_doubted_account_is_asked_for_without_the_binding_and_goes_on() {
    for answer in [
        Trick::Account("valid"),
        Trick::Problem("externalAccountRequired", 400),
        Trick::Problem("userActionRequired", 403),
        Trick::Problem("malformed", 400),
        Trick::Problem("rateLimited", 429),
        USED_UP,
        Trick::Html,
        Trick::Lost,
    ] {
        let mut case = bound().trick("new-order", &[REFUSED]).trick("account", &[answer]);
        case.order(1);
        (2..6).for_each(|id| case.order(id));
        case.run();
        assert_eq!(case.first_error(), "unauthorized: of a test");
        assert_eq!((case.issued(), case.finished.len()), (4, 5), "{answer:?}");
        assert_eq!(case.asked_for("POST account"), 1, "{answer:?}");
        assert!(!case.is_bound_by_the_last(), "{answer:?}");
        let status = case.issuer.status();
        assert_eq!((status.account.is_some(), status.problem), (true, None), "{answer:?}");
    }
    // Without a binding, too.
    for answer in [Trick::Account("valid"), Trick::Problem("malformed", 400), Trick::Lost] {
        let mut case =
            Case::registered().trick("new-order", &[REFUSED]).trick("account", &[answer]);
        case.order(1);
        case.order(2);
        case.run();
        assert_eq!((case.issued(), case.asked_for("POST account")), (1, 1), "{answer:?}");
        assert_eq!(case.asked_for("POST account/7"), 0, "its contact is known");
    }
}

#[test]
fn a_doubted_account_that_has_ended_is_said() {
    for status in ["deactivated", "revoked"] {
        let mut case =
            bound().trick("new-order", &[REFUSED]).trick("account", &[Trick::Account(status)]);
        case.order(1);
        case.run();
        case.order(2);
        case.run();
        assert_eq!((case.issued(), case.finished.len()), (0, 2));
        let problem = case.issuer.status().problem.expect("it is said");
        assert!(problem.contains(status) && problem.contains("move client.key away"), "{problem}");
    }
}

#[test]
fn a_doubted_account_that_does_not_exist_is_registered_anew() {
    let mut case = bound().trick("new-order", &[REFUSED]).trick("account", &[GONE]);
    case.order(1);
    case.order(2);
    case.run();
    assert_eq!((case.issued(), case.asked_for("POST account")), (1, 2));
    assert!(case.is_bound_by_the_last());
}

#[test]
fn an_account_that_is_not_remembered_is_asked_for_before_the_binding_is_used_again() {
    let mut case = binding().trick("account", &[Trick::Account("valid")]);
    case.start(None);
    case.order(1);
    case.run();
    assert_eq!((case.issued(), case.asked_for("POST account")), (1, 1));
    assert!(!case.is_bound_by_the_last());
    // A CA that passes through trouble is asked again, one that does not answer that is told the binding.
    for (trouble, asked) in [
        (&[Trick::Lost, GONE][..], 3),
        (&[Trick::Problem("rateLimited", 429), Trick::Account("valid")], 2),
        (&[Trick::Problem("externalAccountRequired", 403)], 2),
    ] {
        let mut case = binding().trick("account", trouble);
        case.start(None);
        case.run();
        assert!(case.issuer.status().account.is_some());
        assert_eq!(case.asked_for("POST account"), asked, "{trouble:?}");
        assert_eq!(case.is_bound_by_the_last(), !matches!(trouble.last(), Some(Trick::Account(_))));
    }
}

/// The CA may have made the account all the same.
#[test]
fn a_registration_whose_answer_was_lost_is_asked_for() {
    let mut case = binding().trick("account", &[Trick::Lost, Trick::Account("valid")]);
    case.issuer.start(&mut case.bench.cx(), None, None);
    case.issuer.account_key_stored(&mut case.bench.cx(), Ok(()));
    case.run();
    assert_eq!(case.asked_for("POST account"), 2);
    assert!(!case.is_bound_by_the_last() && case.issuer.status().account.is_some());
}

#[test]
fn an_account_that_has_worked_is_registered_anew_until_it_works() {
    let refusals = [GONE, USED_UP].repeat(4);
    let mut case = bound().trick("new-order", &[GONE]).trick("account", &refusals);
    case.order(1);
    case.run();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let problem = case.issuer.status().problem.expect("it is said");
        assert!(problem.contains("--eab-kid"), "{problem}");
        assert!(case.finished.is_empty(), "it waits");
        let pause = case.issuer.poll_timeout().unwrap().since(case.bench.now.mono);
        pauses.push(pause.as_secs() / 60);
        case.bench.pass(pause);
        case.issuer.handle_timeout(&mut case.bench.cx());
        case.run();
    }
    assert!(pauses.is_sorted() && pauses[0] >= 1 && pauses[3] >= 12, "{pauses:?} min");
    assert_eq!((case.issued(), case.issuer.status().problem), (1, None));
}
