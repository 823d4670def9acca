//! The one table of ACME error types: those of RFC 8555 section 6.7, RFC 9773 section 7.4 and
//! draft-ietf-acme-profiles, and those that Let's Encrypt adds. What depends on the type alone is a
//! column. Never decides what an order or an account does about an error.

use crate::hint::Hint;

use super::evidence::Evidence;
use super::evidence::Evidence::{Always, Connection, DnsQuery, NoHint, RateLimit, Response};

/// What an error of a type is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Some names of the order; its words name them.
    Identifier,
    /// The validation of a name that the words need not contain. It is known where the order has
    /// one name only.
    Validation,
    /// The request as a whole, the account or the CA.
    Request,
}

/// Whether the same request may succeed a little later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// It may.
    Later,
    /// It does not.
    Never,
    /// It may where the HTTP status is 5xx.
    ByStatus,
}

/// What depends on the type alone.
struct Row {
    name: &'static str,
    evidence: Evidence,
    scope: Scope,
    retry: Retry,
}

macro_rules! error_types {
    ($($(#[$doc:meta])* $kind:ident = $name:literal: $evidence:expr, $scope:ident, $retry:ident;)*) => {
        /// The type of an ACME error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemKind {
            $($(#[$doc])* $kind,)*
        }

        impl ProblemKind {
            /// All there are.
            pub const ALL: &[ProblemKind] = &[$(ProblemKind::$kind,)*];

            const fn row(self) -> Row {
                let (name, evidence, scope, retry) = match self {
                    $(ProblemKind::$kind => ($name, $evidence, Scope::$scope, Retry::$retry),)*
                };
                Row { name, evidence, scope, retry }
            }
        }
    };
}

error_types! {
    /// The account is unknown; it has to be registered again.
    AccountDoesNotExist = "accountDoesNotExist": NoHint, Request, Never;
    /// The certificate to be replaced has a successor already (RFC 9773 section 7.4).
    AlreadyReplaced = "alreadyReplaced": NoHint, Request, ByStatus;
    /// The certificate is revoked already.
    AlreadyRevoked = "alreadyRevoked": NoHint, Request, ByStatus;
    /// The certificate request is not acceptable.
    BadCsr = "badCSR": NoHint, Request, ByStatus;
    /// The request has to be signed again, with the nonce that came along.
    BadNonce = "badNonce": Always(Hint::Nonces), Request, Later;
    /// The CA does not accept the public key.
    BadPublicKey = "badPublicKey": NoHint, Request, ByStatus;
    /// The CA does not accept the reason of a revocation.
    BadRevocationReason = "badRevocationReason": NoHint, Request, ByStatus;
    /// The CA does not accept the algorithm of the signature.
    BadSignatureAlgorithm = "badSignatureAlgorithm": NoHint, Request, ByStatus;
    /// A CAA record forbids the CA to issue.
    Caa = "caa": Always(Hint::Caa), Identifier, ByStatus;
    /// The subproblems have the errors.
    Compound = "compound": NoHint, Request, ByStatus;
    /// The request conflicts with another one (Let's Encrypt).
    Conflict = "conflict": NoHint, Request, ByStatus;
    /// The CA could not connect to validate.
    Connection = "connection": Connection, Validation, ByStatus;
    /// A DNS query of the CA failed.
    Dns = "dns": DnsQuery, Identifier, ByStatus;
    /// An account needs a binding that the CA gives out elsewhere.
    ExternalAccountRequired = "externalAccountRequired":
        Always(Hint::BindingMissing), Request, ByStatus;
    /// The response to the challenge was not the expected one.
    IncorrectResponse = "incorrectResponse": Response, Validation, ByStatus;
    /// The CA does not accept the contact's address.
    InvalidContact = "invalidContact": Always(Hint::Contact), Request, ByStatus;
    /// The CA has no such profile (draft-ietf-acme-profiles).
    InvalidProfile = "invalidProfile": Always(Hint::Profile), Request, ByStatus;
    /// The CA does not understand the request.
    Malformed = "malformed": NoHint, Request, ByStatus;
    /// The order cannot be finalized yet, or any more.
    OrderNotReady = "orderNotReady": NoHint, Request, ByStatus;
    /// The CA has paused the authorizations of a name (Let's Encrypt).
    PausedAuthorization = "pausedAuthorization": NoHint, Request, ByStatus;
    /// A rate limit is exceeded.
    RateLimited = "rateLimited": RateLimit, Request, ByStatus;
    /// The CA does not issue for a name.
    RejectedIdentifier = "rejectedIdentifier": Always(Hint::NameRejected), Identifier, ByStatus;
    /// The CA has an error of its own.
    ServerInternal = "serverInternal": NoHint, Request, Later;
    /// TLS failed in a validation. With http-01 a CA uses TLS only after a redirect.
    Tls = "tls": Always(Hint::Redirected), Validation, ByStatus;
    /// On a new order: the account may not do that; in an authorization: the validation failed.
    Unauthorized = "unauthorized": Response, Request, ByStatus;
    /// The CA does not accept contacts of that scheme.
    UnsupportedContact = "unsupportedContact": Always(Hint::Contact), Request, ByStatus;
    /// The CA does not issue for identifiers of that type.
    UnsupportedIdentifier = "unsupportedIdentifier": NoHint, Identifier, ByStatus;
    /// A person has to do something at the CA first.
    UserActionRequired = "userActionRequired": Always(Hint::Terms), Request, ByStatus;
    /// Any other type. Nobody has registered it, so its name is no label.
    Other = "other": NoHint, Request, ByStatus;
}

impl ProblemKind {
    /// The type of that name.
    pub fn of(name: &str) -> ProblemKind {
        let known = ProblemKind::ALL.iter().find(|kind| kind.name() == name);
        known.copied().unwrap_or(ProblemKind::Other)
    }

    /// The last part of the type's URN, which is also its label in the metrics.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// What may help: by the type, or by the CA's words where the type does not tell.
    pub fn hint(self, detail: &str) -> Option<Hint> {
        self.row().evidence.hint(detail)
    }

    /// What it is about.
    pub(super) const fn scope(self) -> Scope {
        self.row().scope
    }

    /// Whether the same request may succeed a little later.
    pub(super) const fn retry(self) -> Retry {
        self.row().retry
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_type_has_one_name() {
        for kind in ProblemKind::ALL {
            assert_eq!(ProblemKind::of(kind.name()), *kind);
        }
        let names: BTreeSet<&str> = ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for unknown in ["", "noHttp01", "BadNonce", "urn:ietf:params:acme:error:caa"] {
            assert_eq!(ProblemKind::of(unknown), ProblemKind::Other, "{unknown}");
        }
    }

    /// The types that differ in a column from most others.
    #[test]
    fn scopes_and_retries() {
        let names = |is: &dyn Fn(ProblemKind) -> bool| -> Vec<&str> {
            let kinds = ProblemKind::ALL.iter().filter(|kind| is(**kind));
            kinds.map(|kind| kind.name()).collect()
        };
        let of = |scope| names(&|kind| kind.scope() == scope);
        let identifier = ["caa", "dns", "rejectedIdentifier", "unsupportedIdentifier"];
        assert_eq!(of(Scope::Identifier), identifier);
        assert_eq!(of(Scope::Validation), ["connection", "incorrectResponse", "tls"]);
        let of = |retry| names(&|kind| kind.retry() == retry);
        assert_eq!(of(Retry::Later), ["badNonce", "serverInternal"]);
        assert_eq!(of(Retry::Never), ["accountDoesNotExist"]);
    }
}
