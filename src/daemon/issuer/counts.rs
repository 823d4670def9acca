//! What was asked of the CA and what it refused, for the metrics. Counts, and decides nothing. The CA's
//! words never become a label: it could make up as many as it likes.

use crate::acme::call::CallError;
use crate::flat::FlatMap;
use crate::http::Response;

/// The types of RFC 8555 section 6.7, RFC 9773 section 7.4, and those that Let's Encrypt has besides.
const TYPES: [&str; 29] = [
    "accountDoesNotExist",
    "alreadyReplaced",
    "alreadyRevoked",
    "badCSR",
    "badNonce",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "caa",
    "compound",
    "conflict",
    "connection",
    "dns",
    "externalAccountRequired",
    "incorrectResponse",
    "invalidContact",
    "invalidProfile",
    "malformed",
    "orderNotReady",
    "pausedAuthorization",
    "rateLimited",
    "rejectedIdentifier",
    "serverInternal",
    "tls",
    "unauthorized",
    "unsupportedContact",
    "unsupportedIdentifier",
    "userActionRequired",
    "other",
];

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
            let known = TYPES.into_iter().find(|known| *known == problem.name);
            *self.errors.get_or_insert_with(known.unwrap_or("other"), u64::default) += 1;
        }
    }
}
