//! The steps of an order: what each one holds, what it is called, and the call that it makes. Never
//! decides which comes next.

use std::collections::VecDeque;

use serde_json::json;

use crate::acme::call::{CallError, Post};
use crate::acme::jws::base64url;
use crate::acme::types::{Directory, Problem};
use crate::domain::Domain;
use crate::time::Instant;
use crate::url::Url;

use super::{Issued, OrderRequest, Refusal};

/// What the next answer is about.
///
/// There are ten orders at most, so their size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum Step {
    Creating {
        /// What the order is said to replace.
        replaces: Option<String>,
    },
    /// Looks whether an order of an earlier run is still good.
    Resuming {
        url: Url,
    },
    /// Asks for the first of the authorizations that are left.
    Authorizing {
        placed: Created,
        survey: AuthorizationQueue,
    },
    /// Says that a challenge is answered, then goes on with those that are left.
    Answering {
        placed: Created,
        survey: AuthorizationQueue,
        authorization: Url,
        challenge: Url,
    },
    /// Looks at the order until the CA has looked at the challenges.
    Validating {
        placed: Created,
        looks: u32,
    },
    /// Asks the authorizations why the order is invalid.
    Diagnosing(FailureDiagnosis),
    /// Waits until what it is finalized with is on the disk.
    Keeping(Created),
    Finalizing {
        placed: Created,
        looks: u32,
    },
    /// Looks at the order until the certificate is there.
    Polling {
        placed: Created,
        looks: u32,
        /// What the CA said to the request to finalize it, where it refused that.
        refused: Option<CallError>,
    },
    Downloading {
        certificate: Url,
        replaced: Option<String>,
    },
    /// Asks for the first of the other chains that are left.
    SelectingChain {
        /// With the CA's default chain.
        issued: Issued,
        left: VecDeque<Url>,
        /// The topmost issuers of the chains seen so far.
        offered: Vec<String>,
    },
    Over,
}

/// An order that the CA has.
#[derive(Clone, Debug)]
pub(super) struct Created {
    pub(super) url: Url,
    pub(super) authorizations: Vec<Url>,
    pub(super) finalize: Url,
    /// What the CA takes it to replace.
    pub(super) replaced: Option<String>,
}

/// How far the authorizations of an order are read.
#[derive(Debug, Default)]
pub(super) struct AuthorizationQueue {
    pub(super) left: VecDeque<Url>,
    /// Those whose challenge the CA may look at from now on.
    pub(super) answered: Vec<Url>,
    /// The one whose challenge the CA would not have answered: it is read once more.
    pub(super) doubted: Option<Url>,
    /// Once there is one, no further challenge is answered.
    pub(super) refusals: Vec<Refusal>,
}

/// What is known so far of the reasons why an order is invalid.
#[derive(Debug)]
pub(super) struct FailureDiagnosis {
    /// Authorizations to be asked in this round.
    pub(super) left: VecDeque<Url>,
    /// Those to be asked again in the next one.
    pub(super) open: Vec<Url>,
    pub(super) rounds: u32,
    /// The next round may not begin before: the CA said so.
    pub(super) not_before: Instant,
    pub(super) until: Instant,
    /// Whether there is a next round: a single name's reason is there at once or never.
    pub(super) patient: bool,
    pub(super) refusals: Vec<Refusal>,
    /// What the order itself says.
    pub(super) problem: Option<Problem>,
}

impl Step {
    /// The step as an operator reads it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Step::Creating { .. } => "creating the order",
            Step::Resuming { .. } => "looking at the order of an earlier run",
            Step::Authorizing { .. } => "reading an authorization",
            Step::Answering { .. } => "answering a challenge",
            Step::Validating { .. } => "waiting for the validation",
            Step::Diagnosing(_) => "asking why the order is invalid",
            Step::Keeping(_) => "writing the certificate's key",
            Step::Finalizing { .. } => "finalizing",
            Step::Polling { .. } => "waiting for the certificate",
            Step::Downloading { .. } => "downloading the certificate",
            Step::SelectingChain { .. } => "downloading another chain",
            Step::Over => "over",
        }
    }

    /// Whether the CA is asked to issue.
    pub(super) fn is_finalized(&self) -> bool {
        matches!(self, Step::Finalizing { .. } | Step::Polling { .. } | Step::Downloading { .. })
    }

    /// Whether this step's call may well succeed a little later, after this error.
    pub(super) fn is_passing(&self, error: &CallError) -> bool {
        match self {
            // How long all new orders have to wait is for whoever orders to know.
            Step::Creating { .. } if error.is_rate_limit() && error.retry_after().is_some() => {
                false
            }
            // The certificate is there, or may be, whatever this answer says.
            Step::Polling { .. } | Step::Downloading { .. } => {
                error.status().is_some() || error.is_passing()
            }
            _ => error.is_passing() || self.is_finalized() && error.is_rate_limit(),
        }
    }

    /// The call that this step makes.
    pub(super) fn post(
        &self,
        (request, csr): (&OrderRequest, &[u8]),
        directory: &Directory,
    ) -> Option<Post> {
        match self {
            Step::Creating { replaces } => Some(new_order(request, replaces.as_deref(), directory)),
            Step::Resuming { url } => Some(Post::as_get(url)),
            Step::Authorizing { survey, .. } => survey.left.front().map(Post::as_get),
            Step::Diagnosing(inquiry) => inquiry.left.front().map(Post::as_get),
            Step::Answering { challenge, .. } => Some(Post::json(challenge, "{}")),
            Step::Validating { placed, .. } | Step::Polling { placed, .. } => {
                Some(Post::as_get(&placed.url))
            }
            Step::Finalizing { placed, .. } => {
                Some(Post::json(&placed.finalize, json!({"csr": base64url(csr)})))
            }
            Step::Downloading { certificate, .. } => Some(chain(certificate)),
            Step::SelectingChain { left, .. } => left.front().map(chain),
            Step::Keeping(_) | Step::Over => None,
        }
    }
}

/// RFC 8555 section 7.4, RFC 9773 section 5, draft-ietf-acme-profiles section 4.
fn new_order(request: &OrderRequest, replaces: Option<&str>, directory: &Directory) -> Post {
    let identifier = |name: &Domain| json!({"type": "dns", "value": name.as_str()});
    let identifiers: Vec<_> = request.names.iter().map(identifier).collect();
    let mut payload = json!({"identifiers": identifiers});
    if let Some(replaces) = replaces {
        payload["replaces"] = json!(replaces);
    }
    if let Some(profile) = &request.profile {
        payload["profile"] = json!(profile);
    }
    Post::json(&directory.new_order, payload)
}

fn chain(url: &Url) -> Post {
    let accept = Some("application/pem-certificate-chain");
    Post { accept, ..Post::as_get(url) }
}
