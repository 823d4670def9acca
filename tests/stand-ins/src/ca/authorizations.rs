//! Authorizations and challenges (RFC 8555 section 7.5): made or reused, answered, settled.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::objects::{AUTHZ_MS, Authz, AuthzStatus, ChallengeKind, ORDER_MS, Outcome};
use super::problem::Problem;
use super::requests::missing;
use super::{Answer, Ca, Post};
use crate::peer::Time;

impl Ca {
    /// A valid authorization of the same account, or a new one.
    pub(super) fn authz_for(&mut self, now: Time, account: usize, name: &str) -> usize {
        if let Some(passed) = self.passed_authzs.get_mut(&(account, name.to_string())) {
            // One that does not hold any more never holds again.
            passed.retain(|index| self.authzs[*index].status(now) == AuthzStatus::Valid);
            if let Some(oldest) = passed.first()
                && self.random.chance(self.settings.authz_reuse_percent)
            {
                return *oldest;
            }
        }
        self.authzs.push(Authz {
            account,
            name: name.to_string(),
            token: URL_SAFE_NO_PAD.encode(self.random.bytes::<32>()),
            expires_ms: now.unix_ms + ORDER_MS,
            outcome: Outcome::Pending,
            rotation: usize::try_from(self.random.below(6)).unwrap_or(0),
        });
        self.authzs.len() - 1
    }

    /// RFC 8555 sections 7.5 and 7.5.2.
    pub(super) fn authz(
        &mut self,
        now: Time,
        post: &Post,
        index: usize,
        account: usize,
    ) -> Result<Answer, Problem> {
        let authz = self.authzs.get_mut(index).ok_or(missing())?;
        if authz.account != account {
            return Err(Problem::unauthorized("the authorization is another account's"));
        }
        if !post.jws.payload.is_empty() {
            if Value::Object(post.jws.object()?) != json!({ "status": "deactivated" }) {
                let detail = "an authorization can be read (empty payload) or deactivated";
                return Err(Problem::malformed(detail));
            }
            authz.outcome = Outcome::Deactivated;
        }
        let processing = self.settings.challenge_processing;
        let body = authz.json(&self.base, index, now, processing);
        let status = authz.status(now);
        let note = format!("{} {}", authz.name, body["status"].as_str().unwrap_or_default());
        let answer = Answer::json(200, &body, note);
        Ok(match self.retry_after(now) {
            Some(value) if status == AuthzStatus::Pending => answer.with("Retry-After", value),
            _ => answer,
        })
    }

    /// RFC 8555 section 7.5.1.
    pub(super) fn challenge(
        &mut self,
        now: Time,
        post: &Post,
        (index, kind): (usize, ChallengeKind),
        account: usize,
    ) -> Result<Answer, Problem> {
        let authz = self.authzs.get_mut(index).ok_or(missing())?;
        if authz.account != account {
            return Err(Problem::unauthorized("the challenge is another account's"));
        }
        if !post.jws.payload.is_empty() {
            if !post.jws.object()?.is_empty() {
                let detail = "the answer to this challenge is {} (RFC 8555 section 8.3)";
                return Err(Problem::malformed(detail));
            }
            let pending = matches!(authz.outcome, Outcome::Pending);
            if pending && authz.status(now) == AuthzStatus::Pending {
                let expected = format!("{}.{}", authz.token, post.key.thumbprint());
                match kind {
                    ChallengeKind::Http => {
                        authz.outcome = Outcome::Validating;
                        let due_ms = now.mono_ms + self.settings.validation_delay_ms;
                        let places = self.settings.vantage_points.max(1);
                        let (name, token) = (authz.name.clone(), authz.token.clone());
                        match self.settings.failing_names.contains(&name) {
                            true => self.validator.fail(due_ms, index, name),
                            false => {
                                let subject = (name, token, expected);
                                let unproved = self.unproved.take();
                                self.validator.start(due_ms, index, subject, places, unproved);
                            }
                        }
                        self.validator.timeout(now, self.settings.http_port);
                    }
                    ChallengeKind::Dns | ChallengeKind::Future => {
                        let error = Problem::new(400, "dns", "no TXT record was found");
                        authz.outcome = Outcome::Invalid { challenge: kind, error };
                        self.count_failure(now, index);
                    }
                }
            }
        }
        let authz = &self.authzs[index];
        let processing = self.settings.challenge_processing;
        let body = authz.challenge_json(&self.base, index, kind, processing);
        let up = format!("<{}/authz/{index}>;rel=\"up\"", self.base);
        let answer = Answer::json(200, &body, format!("{} {}", authz.name, kind.name()));
        let answer = answer.with("Link", up);
        Ok(match self.retry_after(now) {
            Some(value) if authz.status(now) == AuthzStatus::Pending => {
                answer.with("Retry-After", value)
            }
            _ => answer,
        })
    }

    /// What the validation of an authorization came to.
    pub(super) fn settle(&mut self, now: Time, index: usize, result: Result<(), Problem>) {
        let authz = &mut self.authzs[index];
        if !matches!(authz.outcome, Outcome::Validating) {
            return;
        }
        match result {
            Ok(()) => {
                authz.expires_ms = now.unix_ms + AUTHZ_MS;
                authz.outcome = Outcome::Valid { at_ms: now.unix_ms };
                let owner = (authz.account, authz.name.clone());
                self.passed_authzs.entry(owner).or_default().insert(index);
            }
            Err(error) => {
                authz.outcome = Outcome::Invalid { challenge: ChallengeKind::Http, error };
                self.count_failure(now, index);
            }
        }
    }
}
