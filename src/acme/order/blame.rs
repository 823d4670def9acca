//! Which names of an order are at fault, so that a certificate can be ordered for the others. Goes by
//! what the CA says only: a name that it does not mean is never blamed.

use std::collections::BTreeMap;

use crate::acme::call::CallError;
use crate::acme::types::{Problem, ProblemKind};
use crate::domain::Domain;

use super::error::{OrderError, Refusal};

/// Problems of a new order that are about names; their words tell which.
const ABOUT_NAMES: [&str; 4] = ["rejectedIdentifier", "unsupportedIdentifier", "caa", "dns"];
/// Problems that are a name's fault where the order has one name only.
const ABOUT_VALIDATION: [&str; 3] = ["connection", "incorrectResponse", "tls"];

/// The names at fault, each with the reason.
type Blamed = BTreeMap<Domain, String>;

impl OrderError {
    /// Which of the order's names are at fault, each with the reason as text.
    pub fn blamed(&self, names: &[Domain]) -> BTreeMap<Domain, String> {
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
                mine.map(|name| (name.clone(), self.to_string())).into_iter().collect()
            }
            OrderError::Call(CallError::Problem { problem, .. }) => {
                let mut blamed = by_problem(problem, names, self.is_paused());
                if let Some(name) = only(names)
                    && blamed.is_empty()
                    && is_a_names_fault(problem)
                {
                    blamed.insert(name.clone(), problem.to_string());
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
            blamed.entry(name.clone()).or_insert_with(|| format!("{}: {}", sub.name, sub.detail));
        }
    }
    if blamed.is_empty() && problem.subproblems.is_empty() && (paused || is_about_names(problem)) {
        let spoken_of = |word: &str| known(word, names);
        let found = words(&problem.detail).filter_map(spoken_of);
        blamed.extend(found.map(|name| (name.clone(), problem.to_string())));
    }
    blamed
}

/// What may be a name in a text. A dot at the end is the sentence's; a wildcard is another name.
fn words(text: &str) -> impl Iterator<Item = &str> {
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
    problem.kind == ProblemKind::RejectedIdentifier || ABOUT_NAMES.contains(&&*problem.name)
}

fn is_a_names_fault(problem: &Problem) -> bool {
    is_about_names(problem) || ABOUT_VALIDATION.contains(&&*problem.name)
}

fn reason(problem: Option<&Problem>) -> String {
    problem.map_or_else(|| "the CA gives no reason".to_string(), Problem::to_string)
}
