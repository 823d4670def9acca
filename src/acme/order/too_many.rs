//! How many names a CA accepts in one order, by its refusal of more. No RFC has a member for that number,
//! nor has the draft of profiles, and CAs change it: their words have to do. Reads only; never decides what
//! is ordered.

use crate::acme::call::CallError;
use crate::acme::types::{Problem, ProblemKind};

use super::blame::words;
use super::error::OrderError;

/// Names in one certificate at most: a custom of CAs, and Let's Encrypt's rule. What a CA accepts
/// with a profile may be less; that is learned from its answer.
pub const NAMES_MAX: usize = 100;

/// What an order has too many of, as CAs say it.
const OBJECTS: [&str; 4] = ["identifiers", "names", "domains", "sans"];
/// That it is too many.
const EXCESS: [&str; 6] = ["too many", "more than", "at most", "maximum", "exceed", "limit"];
/// What such words are about where they are not about the number of names.
const OTHERS: [&str; 4] = ["character", "byte", "octet", "once"];

impl OrderError {
    /// How many names the CA accepts in an order, when it has refused one with `count` names for having too
    /// many: the number that it says, or half of `count` where it says none. Always less than `count`.
    pub fn names_max(&self, count: usize) -> Option<usize> {
        let OrderError::Call(CallError::Problem { problem, .. }) = self else { return None };
        if count < 2 || !is_about_count(problem) {
            return None;
        }
        let numbers = words(&problem.detail).filter_map(|word| word.parse().ok());
        let said = numbers.filter(|number| (1..count).contains(number)).max();
        Some(said.unwrap_or(count / 2))
    }
}

/// Whether it is about the number of names, and about no single one.
fn is_about_count(problem: &Problem) -> bool {
    // Boulder has `badCSR` where it finds that out by the request for the certificate (csr.VerifyCSR).
    let kind = matches!(
        problem.kind(),
        ProblemKind::Malformed | ProblemKind::RejectedIdentifier | ProblemKind::BadCsr
    );
    let detail = problem.detail.to_ascii_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| detail.contains(text));
    kind && problem.subproblems.is_empty() && says(&EXCESS) && says(&OBJECTS) && !says(&OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::types::Subproblem;

    fn refused(kind: ProblemKind, detail: &str) -> OrderError {
        let (name, detail) = (kind.name().to_string(), detail.to_string());
        let problem = Problem { name, detail, subproblems: Vec::new() };
        OrderError::Call(CallError::Problem { problem, status: 400, retry_after: None })
    }

    fn malformed(detail: &str) -> OrderError {
        refused(ProblemKind::Malformed, detail)
    }

    #[test]
    fn the_number_that_the_ca_says() {
        for (detail, max) in [
            ("Order cannot contain more than 25 identifiers", 25),
            ("Error creating new order :: Order cannot contain more than 25 DNS names", 25),
            ("too many identifiers: 40, at most 10", 10),
            ("order has 40 names, maximum is 10 (RFC 8555 section 7.4)", 10),
            ("Too many domains for a1.example.org and n39.example.org: the limit is 30.", 30),
            ("number of SANs exceeds the maximum of 1", 1),
        ] {
            assert_eq!(malformed(detail).names_max(40), Some(max), "{detail}");
            let rejected = refused(ProblemKind::RejectedIdentifier, detail);
            assert_eq!(rejected.names_max(40), Some(max), "{detail}");
            let bad_csr = refused(ProblemKind::BadCsr, detail);
            assert_eq!(bad_csr.names_max(40), Some(max), "{detail}");
        }
    }

    #[test]
    fn half_where_it_says_none_down_to_one() {
        let error = malformed("too many identifiers");
        let halves: Vec<Option<usize>> =
            [100, 50, 25, 12, 6, 3, 2, 1].map(|count| error.names_max(count)).into();
        let expected = [50, 25, 12, 6, 3, 1, 1].map(Some);
        assert_eq!((&halves[..7], halves[7]), (&expected[..], None));
        // A number that would help nothing.
        assert_eq!(malformed("more than 100 identifiers").names_max(100), Some(50));
        assert_eq!(malformed("at most 0 names").names_max(100), Some(50));
    }

    #[test]
    fn other_refusals_say_nothing_about_it() {
        for detail in [
            "",
            "no such names",
            "too many requests",
            "a name has more than 10 labels",
            "names must not exceed 30 characters",
            "identifiers are there more than once",
        ] {
            assert_eq!(malformed(detail).names_max(40), None, "{detail}");
        }
        let words = "too many certificates (50) already issued for domain a.org";
        let limited = refused(ProblemKind::RateLimited, words);
        assert_eq!(limited.names_max(40), None);
        let unauthorized = refused(ProblemKind::Unauthorized, words);
        assert_eq!(unauthorized.names_max(40), None);
        assert_eq!(OrderError::NotOurs.names_max(40), None);
        // It names the names that are at fault.
        let mut blamed = malformed("at most 10 names");
        if let OrderError::Call(CallError::Problem { problem, .. }) = &mut blamed {
            let (name, detail) = ("malformed".to_string(), "no".to_string());
            problem.subproblems.push(Subproblem { identifier: Some("a.org".into()), name, detail });
        }
        assert_eq!(blamed.names_max(40), None);
    }
}
