//! Why an order gave no certificate: what kind of trouble it is, and when another one makes sense.
//! Which of its names are at fault is told by `blame.rs`.

use std::fmt;
use std::time::Duration;

use crate::acme::call::CallError;
use crate::acme::types::{AuthorizationObject, Problem, ProblemKind};
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};

/// Refusals that are shown at most; a certificate can have a hundred names.
const REFUSALS_SHOWN_MAX: usize = 10;
/// A problem that no CA tells: it offers no challenge that is answered here.
const NO_HTTP01: &str = "noHttp01";

/// An order is over without a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// Names could not be validated, or the CA refused the order after all.
    Invalid {
        /// Why; at least one.
        refusals: Vec<Refusal>,
    },
    /// A call failed for good, or too often.
    Call(CallError),
    /// It took too long; what it was at.
    DeadlineExceeded {
        /// In words.
        step: &'static str,
    },
    /// The CA does not offer http-01 for a name.
    NoHttp01 {
        /// The name.
        identifier: String,
    },
    /// The CA made an order and did not say where it is.
    NoLocation,
    /// An order of an earlier run, handed back or gone on with, is over, or its key is gone.
    NotOurs,
    /// The order has a status that no RFC knows.
    UnknownStatus,
    /// There is no account to order with, and there will be none until a person acts.
    Unregistered {
        /// Why.
        reason: Complaint,
    },
}

/// What a CA refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name whose authorization it is; none when it is the order itself.
    pub identifier: Option<String>,
    /// The CA's reason, when it gives one.
    pub problem: Option<Problem>,
}

impl Refusal {
    /// An authorization that did not become valid.
    pub(super) fn of(authorization: AuthorizationObject) -> Refusal {
        let AuthorizationObject { identifier, error, .. } = authorization;
        Refusal { identifier: Some(identifier), problem: error }
    }

    /// A name that the CA would validate in other ways only.
    pub(super) fn no_http01(identifier: String) -> Refusal {
        let problem = Problem {
            name: NO_HTTP01.into(),
            detail: "the CA offers no http-01 challenge".into(),
            subproblems: Vec::new(),
        };
        Refusal { identifier: Some(identifier), problem: Some(problem) }
    }

    pub(super) fn hint(&self) -> Option<Hint> {
        self.problem.as_ref().and_then(Problem::hint)
    }

    /// The name, when the CA has looked at its challenge and found it wanting.
    pub(super) fn failed_validation(&self) -> Option<&String> {
        let problem = self.problem.as_ref()?;
        self.identifier.as_ref().filter(|_| problem.name != NO_HTTP01)
    }
}

impl OrderError {
    pub(super) fn refused(mut refusals: Vec<Refusal>) -> OrderError {
        let no_http01 = |refusal: &Refusal| {
            refusal.problem.as_ref().is_some_and(|problem| problem.name == NO_HTTP01)
        };
        if let [only] = refusals.as_mut_slice()
            && no_http01(only)
            && let Some(identifier) = only.identifier.take()
        {
            return OrderError::NoHttp01 { identifier };
        }
        OrderError::Invalid { refusals }
    }

    /// A call about an order failed for good. There, `unauthorized` is not about the account, which
    /// was let make the order, but a refusal: an authorization has expired, say.
    pub(super) fn after_creation(error: CallError) -> OrderError {
        match error {
            CallError::Problem { problem, .. } if problem.kind() == ProblemKind::Unauthorized => {
                let refusal = Refusal { identifier: None, problem: Some(problem) };
                OrderError::Invalid { refusals: vec![refusal] }
            }
            error => OrderError::Call(error),
        }
    }

    /// When the CA wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            OrderError::Call(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Whether the account that ordered does not exist any more.
    pub fn is_account_gone(&self) -> bool {
        self.problem_kind() == Some(ProblemKind::AccountDoesNotExist)
    }

    /// Whether the CA does not let the account order: a person has to see to it.
    pub fn is_account_refused(&self) -> bool {
        let kind = self.problem_kind();
        matches!(kind, Some(ProblemKind::Unauthorized | ProblemKind::UserActionRequired))
    }

    /// Whether the CA has nothing at a URL that it was asked at: it may have moved.
    pub fn is_nothing_there(&self) -> bool {
        matches!(self, OrderError::Call(error) if matches!(error.status(), Some(404 | 405 | 410)))
    }

    /// Whether one of the CA's rate limits was hit.
    pub fn is_rate_limited(&self) -> bool {
        let status = matches!(self, OrderError::Call(CallError::Status { status: 429, .. }));
        status || self.problem_kind() == Some(ProblemKind::RateLimited)
    }

    /// Whether the CA has paused the names until a person acts, after too many failures in a row.
    pub fn is_paused(&self) -> bool {
        match self {
            OrderError::Call(CallError::Problem { problem, retry_after: None, .. })
                if problem.kind() == ProblemKind::RateLimited =>
            {
                let detail = problem.detail.to_ascii_lowercase();
                ["paused", "unpause", "self-service"].iter().any(|word| detail.contains(word))
            }
            _ => false,
        }
    }

    /// The names whose validation the CA has really tried and failed in this order; CAs limit how often
    /// that may happen. An order for one name that became invalid without a reason counts as well: the
    /// CA has counted it, though its answer was lost.
    pub fn failed_authorizations(&self, names: &[Domain]) -> Vec<Domain> {
        let OrderError::Invalid { refusals } = self else { return Vec::new() };
        if let ([name], true) = (names, refusals.iter().all(|refusal| refusal.problem.is_none())) {
            return vec![name.clone()];
        }
        let failed = refusals.iter().filter_map(Refusal::failed_validation);
        failed.filter_map(|name| Domain::parse(name).ok()).collect()
    }

    /// What may help: where names were refused, what all of them have in common.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            OrderError::Invalid { refusals } => {
                let mut hints = refusals.iter().map(Refusal::hint);
                let first = hints.next()?;
                if hints.all(|hint| hint == first) { first } else { None }
            }
            OrderError::Call(error) => error.hint(),
            OrderError::Unregistered { reason } => reason.hint,
            _ => None,
        }
    }

    fn problem_kind(&self) -> Option<ProblemKind> {
        match self {
            OrderError::Call(error) => error.problem_kind(),
            _ => None,
        }
    }
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrderError::Invalid { refusals } => {
                f.write_str("the CA refused ")?;
                for (index, refusal) in refusals.iter().take(REFUSALS_SHOWN_MAX).enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{refusal}")?;
                }
                match refusals.len().saturating_sub(REFUSALS_SHOWN_MAX) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
            OrderError::Call(error) => error.fmt(f),
            OrderError::DeadlineExceeded { step } => write!(f, "it took too long ({step})"),
            OrderError::NoHttp01 { identifier } => {
                write!(f, "the CA offers no http-01 challenge for {identifier}")
            }
            OrderError::NoLocation => f.write_str("the CA did not say where the order is"),
            OrderError::NotOurs => {
                f.write_str("the order of an earlier run is over, or its key is gone")
            }
            OrderError::UnknownStatus => f.write_str("the order has a status that is not known"),
            OrderError::Unregistered { reason } => write!(f, "no account: {reason}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identifier = self.identifier.as_deref().unwrap_or("the order");
        match &self.problem {
            Some(problem) => write!(f, "{identifier}: {problem}"),
            None => write!(f, "{identifier} without a reason"),
        }
    }
}

impl std::error::Error for OrderError {}
