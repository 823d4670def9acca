//! Why an order gave no certificate: whose fault it is, and when another one makes sense.

use std::fmt;
use std::time::Duration;

use crate::acme::call::CallError;
use crate::acme::types::{AuthorizationObject, Problem, ProblemKind};

/// An order is over without a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// A name could not be validated, or the CA refused the order after all.
    Invalid {
        /// The name, when the CA says which.
        identifier: Option<String>,
        /// The CA's reason, when it gives one.
        problem: Option<Problem>,
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
    /// The CA handed back an order that was finalized before, whose key is gone.
    NotOurs,
    /// The order has a status that no RFC knows.
    UnknownStatus,
    /// There is no account to order with, and there will be none until a person acts.
    Unregistered {
        /// Why.
        reason: String,
    },
}

impl OrderError {
    pub(super) fn invalid(authorization: AuthorizationObject) -> OrderError {
        let AuthorizationObject { identifier, error, .. } = authorization;
        OrderError::Invalid { identifier: Some(identifier), problem: error }
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
        let kind = match self {
            OrderError::Call(error) => error.problem_kind(),
            _ => None,
        };
        kind == Some(ProblemKind::AccountDoesNotExist)
    }
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrderError::Invalid { identifier, problem } => {
                let identifier = identifier.as_deref().unwrap_or("the order");
                match problem {
                    Some(problem) => write!(f, "the CA refused {identifier}: {problem}"),
                    None => write!(f, "the CA refused {identifier} without a reason"),
                }
            }
            OrderError::Call(error) => error.fmt(f),
            OrderError::DeadlineExceeded { step } => write!(f, "it took too long ({step})"),
            OrderError::NoHttp01 { identifier } => {
                write!(f, "the CA offers no http-01 challenge for {identifier}")
            }
            OrderError::NoLocation => f.write_str("the CA did not say where the order is"),
            OrderError::NotOurs => {
                f.write_str("the CA handed back an order of an earlier run, whose key is gone")
            }
            OrderError::UnknownStatus => f.write_str("the order has a status that is not known"),
            OrderError::Unregistered { reason } => write!(f, "no account: {reason}"),
        }
    }
}

impl std::error::Error for OrderError {}
