//! The steps of an order: what each one holds, what it is called, and the call that it makes. Never
//! decides which comes next.

use std::collections::VecDeque;

use serde_json::json;

use crate::acme::call::Post;
use crate::acme::jws::base64url;
use crate::acme::types::Directory;
use crate::domain::Domain;
use crate::keys::CertificateRequest;
use crate::secret::Secret;
use crate::url::Url;

use super::error::OrderError;

/// What the next answer is about.
///
/// There are ten orders at most, so their size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum Step {
    Creating,
    /// Asks for the first of the authorizations that are left.
    Authorizing {
        placed: Placed,
        left: VecDeque<Url>,
    },
    /// Says that a challenge is answered, then goes on with those that are left.
    Answering {
        placed: Placed,
        authorization: Url,
        left: VecDeque<Url>,
        challenge: Url,
    },
    /// Looks at the order until the CA has looked at the challenges.
    Validating {
        placed: Placed,
        looks: u32,
    },
    /// Asks the authorizations why the order is invalid.
    Diagnosing {
        left: VecDeque<Url>,
        reason: OrderError,
    },
    Finalizing {
        placed: Placed,
        request: CertificateRequest,
        looks: u32,
    },
    /// Looks at the order until the certificate is there.
    Collecting {
        placed: Placed,
        request: CertificateRequest,
        looks: u32,
    },
    Downloading {
        certificate: Url,
        key: Secret,
    },
    Over,
}

/// An order that the CA has.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) url: Url,
    pub(super) authorizations: Vec<Url>,
    pub(super) finalize: Url,
}

impl Step {
    /// The step as an operator reads it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Step::Creating => "creating the order",
            Step::Authorizing { .. } => "reading an authorization",
            Step::Answering { .. } => "answering a challenge",
            Step::Validating { .. } => "waiting for the validation",
            Step::Diagnosing { .. } => "asking why the order is invalid",
            Step::Finalizing { .. } => "finalizing",
            Step::Collecting { .. } => "waiting for the certificate",
            Step::Downloading { .. } => "downloading the certificate",
            Step::Over => "over",
        }
    }

    /// The call that this step makes.
    pub(super) fn post(&self, names: &[Domain], directory: &Directory) -> Option<Post> {
        match self {
            Step::Creating => {
                let identifier = |name: &Domain| json!({"type": "dns", "value": name.as_str()});
                let identifiers: Vec<_> = names.iter().map(identifier).collect();
                Some(Post::json(&directory.new_order, json!({"identifiers": identifiers})))
            }
            Step::Authorizing { left, .. } | Step::Diagnosing { left, .. } => {
                left.front().map(Post::as_get)
            }
            Step::Answering { challenge, .. } => Some(Post::json(challenge, "{}")),
            Step::Validating { placed, .. } | Step::Collecting { placed, .. } => {
                Some(Post::as_get(&placed.url))
            }
            Step::Finalizing { placed, request, .. } => {
                Some(Post::json(&placed.finalize, json!({"csr": base64url(&request.csr)})))
            }
            Step::Downloading { certificate, .. } => {
                let accept = Some("application/pem-certificate-chain");
                Some(Post { accept, ..Post::as_get(certificate) })
            }
            Step::Over => None,
        }
    }
}
