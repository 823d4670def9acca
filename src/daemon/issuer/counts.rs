//! What was asked of the CA and what it refused, for the metrics. Counts, and decides nothing. The CA's
//! words never become a label: it could make up as many as it likes.

use crate::acme::call::CallError;
use crate::flat::FlatMap;
use crate::http::Response;

/// What was asked of the CA in this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaCounts {
    /// Answers by their HTTP status.
    pub answers: FlatMap<u16, u64>,
    /// Requests that got none.
    pub unanswered: u64,
    /// Refusals by their error types; a type that nobody has registered is `other`.
    pub errors: FlatMap<&'static str, u64>,
}

impl CaCounts {
    /// Counts what came of one request: the status of its answer, if any, and how it was judged.
    pub(super) fn note(&mut self, status: Option<u16>, reply: &Result<Response, CallError>) {
        match status {
            Some(status) => *self.answers.get_or_insert_with(status, u64::default) += 1,
            None => self.unanswered += 1,
        }
        if let Err(CallError::Problem { problem, .. }) = reply {
            *self.errors.get_or_insert_with(problem.kind().name(), u64::default) += 1;
        }
    }
}
