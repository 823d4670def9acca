//! Which names of an order are at fault, so that a certificate can be ordered for the others. Goes by
//! what the CA says only: a name that it does not mean is never blamed.

use crate::acme::call::CallError;
use crate::acme::error_type::Scope;
use crate::acme::types::Problem;
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::hint::Complaint;

use super::error::{OrderError, Refusal};

/// The names at fault, each with the reason.
type Blamed = FlatMap<Domain, Complaint>;

impl OrderError {
    /// Which of the order's names are at fault, each with the reason.
    pub fn blamed(&self, names: &[Domain]) -> FlatMap<Domain, Complaint> {
        match self {
            OrderError::Invalid { refusals } => {
                let mut blamed: Blamed =
                    refusals.iter().flat_map(|refusal| by_refusal(refusal, names)).collect();
                if let ([name], true, Some(refusal)) = (names, blamed.is_empty(), refusals.first())
                {
                    blamed.insert(name.clone(), reason(refusal.problem.as_ref()));
                }
                blamed
            }
            OrderError::NoHttp01 { identifier } => {
                let mine = known(identifier, names).or(only(names));
                mine.map(|name| (name.clone(), self.to_string().into())).into_iter().collect()
            }
            OrderError::Call(CallError::Problem { problem, .. }) => {
                let mut blamed = by_problem(problem, names, self.is_paused());
                if let Some(name) = only(names)
                    && blamed.is_empty()
                    && is_a_names_fault(problem)
                {
                    blamed.insert(name.clone(), reason(Some(problem)));
                }
                blamed
            }
            _ => Blamed::new(),
        }
    }
}

fn by_refusal(refusal: &Refusal, names: &[Domain]) -> Blamed {
    match (&refusal.identifier, &refusal.problem) {
        (Some(identifier), problem) => {
            let name = known(identifier, names);
            name.map(|name| (name.clone(), reason(problem.as_ref()))).into_iter().collect()
        }
        (None, Some(problem)) => by_problem(problem, names, false),
        (None, None) => Blamed::new(),
    }
}

/// By the subproblems, which name names (RFC 8555 section 6.7.1); else by the words.
fn by_problem(problem: &Problem, names: &[Domain], paused: bool) -> Blamed {
    let mut blamed = Blamed::new();
    for sub in &problem.subproblems {
        let identifier = sub.identifier.as_deref().unwrap_or_default();
        if let Some(name) = known(identifier, names) {
            let text = format!("{}: {}", sub.name, sub.detail);
            blamed.get_or_insert_with(name.clone(), || Complaint::new(text, sub.hint()));
        }
    }
    if blamed.is_empty() && problem.subproblems.is_empty() && (paused || is_about_names(problem)) {
        let spoken_of = |word: &str| known(word, names);
        let found = words(&problem.detail).filter_map(spoken_of);
        blamed.extend(found.map(|name| (name.clone(), reason(Some(problem)))));
    }
    blamed
}

/// What may be a name in a text. A dot at the end is the sentence's; a wildcard is another name.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '*');
    text.split(move |c: char| !part(c)).map(|word| word.trim_matches('.'))
}

fn known<'a>(identifier: &str, names: &'a [Domain]) -> Option<&'a Domain> {
    let identifier = identifier.trim_end_matches('.');
    names.iter().find(|name| name.as_str().eq_ignore_ascii_case(identifier))
}

fn only(names: &[Domain]) -> Option<&Domain> {
    match names {
        [name] => Some(name),
        _ => None,
    }
}

fn is_about_names(problem: &Problem) -> bool {
    problem.kind().scope() == Scope::Identifier
}

fn is_a_names_fault(problem: &Problem) -> bool {
    matches!(problem.kind().scope(), Scope::Identifier | Scope::Validation)
}

fn reason(problem: Option<&Problem>) -> Complaint {
    let told = |problem: &Problem| Complaint::new(problem.to_string(), problem.hint());
    problem.map_or_else(|| "the CA gives no reason".into(), told)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::acme::types::Subproblem;

    fn problem(name: &str, detail: &str, subproblems: &[Option<&str>]) -> Problem {
        let sub = |identifier: &Option<&str>| Subproblem {
            identifier: identifier.map(String::from),
            name: "caa".into(),
            detail: "forbidden".into(),
        };
        let subproblems = subproblems.iter().map(sub).collect();
        Problem { name: name.into(), detail: detail.into(), subproblems }
    }

    fn call(problem: Problem, retry_after: Option<u64>) -> OrderError {
        let retry_after = retry_after.map(Duration::from_secs);
        OrderError::Call(CallError::Problem { problem, status: 403, retry_after })
    }

    fn blamed(error: &OrderError, names: &[&str]) -> Vec<String> {
        let names: Vec<Domain> = names.iter().map(|name| Domain::parse(name).unwrap()).collect();
        let blamed = error.blamed(&names);
        blamed.iter().map(|(name, reason)| format!("{name}: {reason}")).collect()
    }

    fn nobody(error: &OrderError, names: &[&str]) -> bool {
        blamed(error, names).is_empty()
    }

    #[test]
    fn subproblems_name_names() {
        let both = problem("compound", "a.org and b.org", &[Some("B.org."), Some("x.org"), None]);
        let names = ["a.org", "b.org"];
        assert_eq!(blamed(&call(both.clone(), None), &names), ["b.org: caa: forbidden"]);
        let order = Refusal { identifier: None, problem: Some(both) };
        let invalid = OrderError::Invalid { refusals: vec![order] };
        assert_eq!(blamed(&invalid, &names), ["b.org: caa: forbidden"]);
        let foreign = problem("rejectedIdentifier", "a.org", &[Some("x.org")]);
        assert!(nobody(&call(foreign, None), &names), "the words do not count then");
    }

    #[test]
    fn refusals_name_names() {
        let refusal = |name: &str, problem| Refusal { identifier: Some(name.into()), problem };
        let refusals = vec![
            refusal("A.org", Some(problem("dns", "NXDOMAIN", &[]))),
            refusal("b.org", None),
            refusal("x.org", None),
        ];
        let invalid = OrderError::Invalid { refusals };
        let expected = ["a.org: dns: NXDOMAIN", "b.org: the CA gives no reason"];
        assert_eq!(blamed(&invalid, &["a.org", "b.org", "c.org"]), expected);
        let names = ["a.org", "b.org"].map(|name| Domain::parse(name).unwrap());
        assert_eq!(invalid.failed_authorizations(&names), [names[0].clone()]);
        let offer = OrderError::NoHttp01 { identifier: "a.org".into() };
        let expected = "a.org: the CA offers no http-01 challenge for a.org";
        assert_eq!(blamed(&offer, &["a.org", "b.org"]), [expected]);
    }

    #[test]
    fn words_name_names_when_the_problem_is_about_names() {
        let names = ["a.org", "www.a.org", "b.org"];
        let found = |detail: &str| {
            let error = call(problem("rejectedIdentifier", detail, &[]), None);
            let names = names.map(|name| Domain::parse(name).unwrap());
            error.blamed(&names).keys().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("Cannot issue for \"A.ORG\": forbidden by policy"), ["a.org"]);
        assert_eq!(found("forbidden: www.a.org."), ["www.a.org"]);
        assert_eq!(found("(a.org,b.org)"), ["a.org", "b.org"]);
        assert_eq!(found("a.org"), ["a.org"]);
        for other in
            ["", "*.a.org", "a.org.uk", "xa.org", "x-a.org", "a.org-x", "_a.org", "\u{e9}a.org"]
        {
            assert_eq!(found(other), Vec::<String>::new(), "{other}");
        }
        for kind in ["unsupportedIdentifier", "caa", "dns"] {
            let error = call(problem(kind, "not b.org", &[]), None);
            assert_eq!(blamed(&error, &names), [format!("b.org: {kind}: not b.org")]);
        }
        for kind in ["malformed", "badCSR", "unauthorized", "serverInternal", "rateLimited"] {
            assert!(nobody(&call(problem(kind, "not b.org", &[]), None), &names), "{kind}");
        }
    }

    #[test]
    fn paused_names_are_blamed_and_limited_ones_are_not() {
        let detail = "Your account is temporarily prevented from requesting certificates for \
                      a.org and possibly others. Please visit: https://sfe.example/sfe/v1/unpause?jwt=x";
        let paused = call(problem("rateLimited", detail, &[]), None);
        assert!(paused.is_paused() && paused.is_rate_limited());
        assert_eq!(blamed(&paused, &["a.org", "b.org"]).len(), 1);
        let later = call(problem("rateLimited", detail, &[]), Some(60));
        assert!(!later.is_paused() && later.is_rate_limited());
        assert!(nobody(&later, &["a.org", "b.org"]) && nobody(&later, &["a.org"]));
        let limit = call(problem("rateLimited", "too many certificates for a.org", &[]), None);
        assert!(!limit.is_paused() && nobody(&limit, &["a.org"]));
        let words = ["is PAUSED", "use the Self-Service portal", "unpause it"];
        assert!(words.iter().all(|it| call(problem("rateLimited", it, &[]), None).is_paused()));
        assert!(!call(problem("unauthorized", "paused", &[]), None).is_paused());
        let status = CallError::Status {
            status: 429,
            url: "u".into(),
            near: String::new(),
            retry_after: None,
        };
        assert!(OrderError::Call(status).is_rate_limited());
    }

    #[test]
    fn the_only_name_is_blamed_for_whatever_can_be_its_fault() {
        let kinds = [
            "rejectedIdentifier",
            "unsupportedIdentifier",
            "caa",
            "dns",
            "connection",
            "incorrectResponse",
            "tls",
        ];
        for kind in kinds {
            let error = call(problem(kind, "no", &[]), None);
            assert_eq!(blamed(&error, &["a.org"]), [format!("a.org: {kind}: no")]);
            assert!(nobody(&error, &["a.org", "b.org"]));
            let name = Domain::parse("a.org").unwrap();
            assert_eq!(error.failed_authorizations(&[name]), []);
        }
        for kind in ["unauthorized", "malformed", "badCSR", "rateLimited", "userActionRequired"] {
            assert!(nobody(&call(problem(kind, "no", &[]), None), &["a.org"]), "{kind}");
        }
        let order = |problem| {
            let refusals = vec![Refusal { identifier: None, problem }];
            OrderError::Invalid { refusals }
        };
        let unauthorized = order(Some(problem("unauthorized", "no", &[])));
        assert_eq!(blamed(&unauthorized, &["a.org"]), ["a.org: unauthorized: no"]);
        assert_eq!(blamed(&order(None), &["a.org"]), ["a.org: the CA gives no reason"]);
        assert!(nobody(&order(None), &["a.org", "b.org"]));
        let names = ["a.org", "b.org"].map(|name| Domain::parse(name).unwrap());
        assert_eq!(order(None).failed_authorizations(&names[..1]), names[..1], "it was counted");
        assert_eq!(order(None).failed_authorizations(&names), [], "of several nobody knows which");
        let told = order(Some(problem("caa", "no", &[])));
        assert_eq!(told.failed_authorizations(&names[..1]), [], "no authorization has failed");
        let offer = OrderError::NoHttp01 { identifier: "x".into() };
        assert_eq!(blamed(&offer, &["a.org"]).len(), 1);
    }

    #[test]
    fn trouble_that_is_nobodys_fault() {
        let lost = CallError::Transport { text: "reset".into(), lasting: false };
        let others = [
            OrderError::Call(lost),
            OrderError::DeadlineExceeded { step: "over" },
            OrderError::NoLocation,
            OrderError::NotOurs,
            OrderError::UnknownStatus,
            OrderError::Unregistered { reason: "a.org".into() },
        ];
        for error in others {
            assert!(nobody(&error, &["a.org"]) && nobody(&error, &["a.org", "b.org"]), "{error}");
            assert!(!error.is_paused() && !error.is_rate_limited() && !error.is_account_refused());
        }
        assert!(call(problem("userActionRequired", "", &[]), None).is_account_refused());
        assert!(call(problem("unauthorized", "", &[]), None).is_account_refused());
        assert!(!call(problem("caa", "", &[]), None).is_account_refused());
    }
}
