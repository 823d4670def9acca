//! Problem documents (RFC 7807, RFC 8555 section 6.7): what a CA says when it refuses.

use serde_json::{Value, json};

use crate::http::Reply;

/// The namespace of ACME's error types.
const NAMESPACE: &str = "urn:ietf:params:acme:error:";

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The type without its namespace: `badNonce`.
    pub kind: &'static str,
    /// For a person.
    pub detail: String,
    /// One for each name that is to blame, where the CA says so.
    pub subproblems: Vec<Subproblem>,
    /// The value of a `Retry-After` field.
    pub retry_after: Option<String>,
    /// The URL of a page that helps a person, for a `Link` field.
    pub help: Option<String>,
}

/// What is wrong with one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subproblem {
    /// The type without its namespace.
    pub kind: &'static str,
    /// For a person.
    pub detail: String,
    /// The name.
    pub name: String,
}

impl Problem {
    /// A refusal without subproblems.
    pub fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Problem {
        let (subproblems, retry_after, help) = (Vec::new(), None, None);
        Problem { status, kind, detail: detail.into(), subproblems, retry_after, help }
    }

    /// 400 `malformed`.
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(400, "malformed", detail)
    }

    /// 403 `unauthorized`.
    pub fn unauthorized(detail: impl Into<String>) -> Problem {
        Problem::new(403, "unauthorized", detail)
    }

    /// 400 `badCSR`.
    pub fn bad_csr(detail: impl Into<String>) -> Problem {
        Problem::new(400, "badCSR", detail)
    }

    /// This refusal with the names that are to blame.
    #[must_use]
    pub fn with_subproblems(mut self, subproblems: Vec<Subproblem>) -> Problem {
        self.subproblems = subproblems;
        self
    }

    /// The document.
    pub(super) fn json(&self) -> Value {
        let mut document = json!({
            "type": format!("{NAMESPACE}{}", self.kind),
            "detail": self.detail,
            "status": self.status,
        });
        if self.kind == "badSignatureAlgorithm" {
            document["algorithms"] = json!(["ES256", "RS256"]);
        }
        if !self.subproblems.is_empty() {
            let subproblem = |each: &Subproblem| {
                json!({
                    "type": format!("{NAMESPACE}{}", each.kind),
                    "detail": each.detail,
                    "identifier": { "type": "dns", "value": each.name },
                })
            };
            document["subproblems"] = self.subproblems.iter().map(subproblem).collect();
        }
        document
    }

    /// The reply that says it.
    pub(super) fn reply(&self) -> Reply {
        let reply = Reply::new(self.status, "application/problem+json", self.json().to_string());
        let reply = match &self.retry_after {
            Some(value) => reply.with("Retry-After", value.as_str()),
            None => reply,
        };
        match &self.help {
            Some(url) => reply.with("Link", format!("<{url}>;rel=\"help\"")),
            None => reply,
        }
    }
}
