//! What a CA keeps (RFC 8555 section 7.1): accounts, orders, authorizations and their challenges,
//! and how they look as JSON.

use serde_json::{Value, json};

use super::jwk::Jwk;
use super::problem::Problem;
use crate::date::rfc3339;
use crate::peer::Time;

/// How long an order may take.
pub(super) const ORDER_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// How long an authorization holds.
pub(super) const AUTHZ_MS: i64 = 30 * 24 * 60 * 60 * 1000;

#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) key: Jwk,
    pub(super) contact: Vec<String>,
    pub(super) deactivated: bool,
    /// The CA lost it: neither its URL nor its key is known any more.
    pub(super) forgotten: bool,
}

impl Account {
    pub(super) fn json(&self, url: &str, shows_contact: bool) -> Value {
        let mut object = json!({
            "status": if self.deactivated { "deactivated" } else { "valid" },
            "orders": format!("{url}/orders"),
        });
        if shows_contact && !self.contact.is_empty() {
            object["contact"] = json!(self.contact);
        }
        object
    }
}

#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) account: usize,
    /// Sorted, each once.
    pub(super) names: Vec<String>,
    pub(super) authzs: Vec<usize>,
    pub(super) expires_ms: i64,
    pub(super) profile: Option<String>,
    pub(super) replaces: Option<Replaced>,
    /// It is for exactly the names of an earlier certificate.
    pub(super) renewal: bool,
    pub(super) stage: Stage,
}

/// The certificate that an order replaces (RFC 9773 section 5).
#[derive(Clone, Debug)]
pub(super) struct Replaced {
    pub(super) cert_id: String,
    pub(super) certificate: usize,
}

/// How far an order is. Before it is finalized, its authorizations decide.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Open,
    /// The certificate is made, but not shown before so many more looks.
    Processing {
        polls: u32,
        certificate: usize,
    },
    Valid {
        certificate: usize,
    },
    /// It could not be issued.
    Failed {
        error: Problem,
    },
}

/// RFC 8555 section 7.1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderStatus {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
}

impl OrderStatus {
    pub(super) const fn name(self) -> &'static str {
        match self {
            OrderStatus::Pending => "pending",
            OrderStatus::Ready => "ready",
            OrderStatus::Processing => "processing",
            OrderStatus::Valid => "valid",
            OrderStatus::Invalid => "invalid",
        }
    }
}

impl Order {
    pub(super) fn status(&self, authzs: &[Authz], now: Time) -> OrderStatus {
        match self.stage {
            Stage::Processing { .. } => OrderStatus::Processing,
            Stage::Valid { .. } => OrderStatus::Valid,
            Stage::Failed { .. } => OrderStatus::Invalid,
            Stage::Open if now.unix_ms >= self.expires_ms => OrderStatus::Invalid,
            Stage::Open => {
                let mut worst = OrderStatus::Ready;
                for authz in self.authzs.iter().filter_map(|index| authzs.get(*index)) {
                    match authz.status(now) {
                        AuthzStatus::Valid => {}
                        AuthzStatus::Pending => worst = OrderStatus::Pending,
                        _ => return OrderStatus::Invalid,
                    }
                }
                worst
            }
        }
    }

    pub(super) fn json(&self, base: &str, index: usize, status: OrderStatus) -> Value {
        let name = |name: &String| json!({ "type": "dns", "value": name });
        let authz = |index: &usize| format!("{base}/authz/{index}");
        let mut object = json!({
            "status": status.name(),
            "expires": rfc3339(self.expires_ms),
            "identifiers": self.names.iter().map(name).collect::<Vec<_>>(),
            "authorizations": self.authzs.iter().map(authz).collect::<Vec<_>>(),
            "finalize": format!("{base}/order/{index}/finalize"),
        });
        if let Some(profile) = &self.profile {
            object["profile"] = json!(profile);
        }
        if let Some(replaced) = &self.replaces {
            object["replaces"] = json!(replaced.cert_id);
        }
        match &self.stage {
            Stage::Valid { certificate } => {
                object["certificate"] = json!(format!("{base}/cert/{certificate}"));
            }
            Stage::Failed { error } => object["error"] = error.json(),
            Stage::Open | Stage::Processing { .. } => {}
        }
        object
    }
}

#[derive(Clone, Debug)]
pub(super) struct Authz {
    pub(super) account: usize,
    pub(super) name: String,
    pub(super) token: String,
    pub(super) expires_ms: i64,
    pub(super) outcome: Outcome,
    /// The order in which the challenges are listed; it means nothing.
    pub(super) rotation: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Pending,
    /// The challenge was answered and is being looked at.
    Validating,
    Valid {
        at_ms: i64,
    },
    Invalid {
        challenge: ChallengeKind,
        error: Problem,
    },
    Deactivated,
}

/// RFC 8555 section 7.1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthzStatus {
    Pending,
    Valid,
    Invalid,
    Deactivated,
    Expired,
}

/// What is offered: only http-01 can be passed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChallengeKind {
    Http,
    Dns,
    /// A kind that no client knows, without a token: clients must bear it.
    Future,
}

impl ChallengeKind {
    pub(super) const ALL: [ChallengeKind; 3] =
        [ChallengeKind::Http, ChallengeKind::Dns, ChallengeKind::Future];

    pub(super) const fn name(self) -> &'static str {
        match self {
            ChallengeKind::Http => "http-01",
            ChallengeKind::Dns => "dns-01",
            ChallengeKind::Future => "future-01",
        }
    }

    pub(super) fn parse(name: &str) -> Option<ChallengeKind> {
        ChallengeKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Authz {
    pub(super) fn status(&self, now: Time) -> AuthzStatus {
        let expired = now.unix_ms >= self.expires_ms;
        match &self.outcome {
            Outcome::Pending | Outcome::Validating if expired => AuthzStatus::Invalid,
            Outcome::Pending | Outcome::Validating => AuthzStatus::Pending,
            Outcome::Valid { .. } if expired => AuthzStatus::Expired,
            Outcome::Valid { .. } => AuthzStatus::Valid,
            Outcome::Invalid { .. } => AuthzStatus::Invalid,
            Outcome::Deactivated => AuthzStatus::Deactivated,
        }
    }

    /// The authorization; `processing` says whether challenges show that they are looked at.
    pub(super) fn json(&self, base: &str, index: usize, now: Time, processing: bool) -> Value {
        let status = match self.status(now) {
            AuthzStatus::Pending => "pending",
            AuthzStatus::Valid => "valid",
            AuthzStatus::Invalid => "invalid",
            AuthzStatus::Deactivated => "deactivated",
            AuthzStatus::Expired => "expired",
        };
        let mut kinds: Vec<ChallengeKind> = match self.outcome {
            // RFC 8555 section 7.1.4: a valid one lists the challenge that was passed, an invalid
            // one the challenge that failed.
            Outcome::Valid { .. } => vec![ChallengeKind::Http],
            Outcome::Invalid { challenge, .. } => vec![challenge],
            _ => ChallengeKind::ALL.to_vec(),
        };
        let places = kinds.len();
        kinds.rotate_left(self.rotation % places);
        let challenges = kinds.into_iter();
        json!({
            "status": status,
            "expires": rfc3339(self.expires_ms),
            "identifier": { "type": "dns", "value": self.name },
            "challenges": challenges
                .map(|kind| self.challenge_json(base, index, kind, processing))
                .collect::<Vec<_>>(),
        })
    }

    pub(super) fn challenge_json(
        &self,
        base: &str,
        index: usize,
        kind: ChallengeKind,
        processing: bool,
    ) -> Value {
        let mut object = json!({
            "type": kind.name(),
            "url": format!("{base}/challenge/{index}/{}", kind.name()),
            "status": "pending",
        });
        if kind != ChallengeKind::Future {
            object["token"] = json!(self.token);
        }
        match &self.outcome {
            Outcome::Validating if processing && kind == ChallengeKind::Http => {
                object["status"] = json!("processing");
            }
            Outcome::Valid { at_ms } if kind == ChallengeKind::Http => {
                object["status"] = json!("valid");
                object["validated"] = json!(rfc3339(*at_ms));
            }
            Outcome::Invalid { challenge, error } if *challenge == kind => {
                object["status"] = json!("invalid");
                object["error"] = error.json();
            }
            _ => {}
        }
        object
    }
}
