//! Problem documents (RFC 7807, RFC 8555 section 6.7): what a CA says is wrong. Never decides what
//! is done.

use std::fmt;

use serde_json::Value;

use crate::hint::Hint;
use crate::printable::is_unprintable;

use super::error_type::ProblemKind;

const ERROR_PREFIX: &str = "urn:ietf:params:acme:error:";
/// How much of a peer's text is kept, in characters.
const TEXT_CHARS_MAX: usize = 1000;
/// Authorizations and names of one order, challenges of one authorization, subproblems, profiles,
/// contacts at most.
pub(super) const LIST_MAX: usize = 200;

/// A problem document (RFC 7807, RFC 8555 section 6.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The last part of its type, or the whole of a foreign one.
    pub name: String,
    /// The CA's own words, on one line.
    pub detail: String,
    /// Problems with single names.
    pub subproblems: Vec<Subproblem>,
}

/// A problem with one name of an order (section 6.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subproblem {
    /// The name, when the CA says it.
    pub identifier: Option<String>,
    /// The last part of its type.
    pub name: String,
    /// The CA's own words, on one line.
    pub detail: String,
}

impl Problem {
    /// Reads the body of an error answer; `None` where it is no problem document.
    pub fn parse(body: &[u8]) -> Option<Problem> {
        Problem::of(&serde_json::from_slice(body).ok()?)
    }

    pub(super) fn of(value: &Value) -> Option<Problem> {
        let name = problem_name(value)?;
        let list = value["subproblems"].as_array().map_or(&[][..], Vec::as_slice);
        let subproblems = list.iter().take(LIST_MAX).filter_map(Subproblem::of).collect();
        Some(Problem { name, detail: detail(value), subproblems })
    }
}

impl Problem {
    /// Its type, which decides what is done about it.
    pub fn kind(&self) -> ProblemKind {
        ProblemKind::of(&self.name)
    }

    /// What may help: by its own words, or by what all of its subproblems have in common.
    pub fn hint(&self) -> Option<Hint> {
        let mut subs = self.subproblems.iter().map(Subproblem::hint);
        let Some(first) = subs.next() else { return self.kind().hint(&self.detail) };
        if subs.all(|hint| hint == first) { first } else { None }
    }
}

impl Subproblem {
    /// What may help.
    pub fn hint(&self) -> Option<Hint> {
        ProblemKind::of(&self.name).hint(&self.detail)
    }

    fn of(value: &Value) -> Option<Subproblem> {
        let identifier = value["identifier"]["value"].as_str().map(one_line);
        Some(Subproblem { identifier, name: problem_name(value)?, detail: detail(value) })
    }
}

fn problem_name(value: &Value) -> Option<String> {
    let full = value.as_object()?.get("type")?.as_str()?;
    Some(one_line(full.strip_prefix(ERROR_PREFIX).unwrap_or(full)))
}

fn detail(value: &Value) -> String {
    value["detail"].as_str().map(one_line).unwrap_or_default()
}

/// A peer's text without control characters, not too long.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if is_unprintable(c) { ' ' } else { c };
    text.chars().take(TEXT_CHARS_MAX).map(plain).collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)?;
        for subproblem in &self.subproblems {
            let identifier = subproblem.identifier.as_deref().unwrap_or("?");
            write!(f, "; {identifier}: {}: {}", subproblem.name, subproblem.detail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_with_subproblems() {
        let body =
            br#"{"type":"urn:ietf:params:acme:error:compound","detail":"two\nwrong","status":400,
            "subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"no",
            "identifier":{"type":"dns","value":"a.org"}},{"type":"x"},{}]}"#;
        let problem = Problem::parse(body).unwrap();
        assert_eq!(problem.kind(), ProblemKind::Compound);
        assert_eq!(problem.to_string(), "compound: two wrong; a.org: caa: no; ?: x: ");
        assert_eq!(Problem::parse(b"<html>"), None);
        assert_eq!(Problem::parse(b"{}"), None);
        let nonce = Problem::parse(br#"{"type":"urn:ietf:params:acme:error:badNonce"}"#).unwrap();
        assert_eq!(nonce.kind(), ProblemKind::BadNonce);
        let foreign = Problem::parse(br#"{"type":"about:blank"}"#).unwrap();
        assert_eq!(foreign.kind(), ProblemKind::Other);
    }
}
