//! The way of a request: what is refused outright, who signed, which resource it is for
//! (RFC 8555 section 6), and what every reply carries. What a resource does stands elsewhere.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::jwk::Jwk;
use super::jws::{Jws, Signer};
use super::problem::Problem;
use super::resource::Resource;
use super::{AcmeRequest, Answer, Ca, Effect, Post, Refusal, RetryAfter, Step};
use crate::date::http_date;
use crate::http::{Reply, Request};
use crate::peer::Time;

/// Boulder refuses larger bodies.
const BODY_BYTES_MAX: usize = 50_000;

impl Ca {
    pub(super) fn answer_requests(&mut self, now: Time) {
        while let Some(request) = self.server.next_request() {
            let conn = request.conn;
            let step = Step::of(self.resource(&request.target));
            let fault = self.fault_at(step).filter(|_| self.settings.unavailable.is_none());
            let before = self.fired.len();
            let (answer, mut fields) = match (self.settings.unavailable, fault) {
                (Some(retry_after), _) => (unavailable(now, retry_after), false),
                (None, Some(fault)) => (self.faulty(now, &request, fault), true),
                (None, None) => (self.answer(now, &request), true),
            };
            let fired = fault.filter(|_| self.fired.len() > before);
            let effect = fired.map(|index| self.settings.faults[index].effect.clone());
            fields &= !matches!(effect, Some(Effect::WithoutNonce | Effect::Page { .. }));
            let Answer { reply, problem, note } = answer;
            let reply = reply.with("Date", http_date(now.unix_ms + self.settings.date_ahead_ms));
            let reply = if fields { self.with_common_fields(&request, reply) } else { reply };
            if self.settings.keep_seen {
                let names = if step == Some(Step::NewOrder) { ordered(&request) } else { vec![] };
                self.seen.push(AcmeRequest {
                    at: now,
                    conn,
                    method: request.method,
                    path: request.target,
                    status: reply.status,
                    problem,
                    note,
                    step,
                    names,
                    spoilt: matches!(effect, Some(Effect::Body(_) | Effect::Member(..))),
                    retry_after_ms: reply.retry_after_ms(now),
                });
            }
            let late_ms = match effect {
                Some(Effect::Lost) => continue,
                Some(Effect::Late(late_ms)) => late_ms,
                _ => 0,
            };
            match self.settings.delay_ms + late_ms {
                0 => self.server.reply(conn, &reply),
                delay_ms => self.server.reply_at(now.mono_ms + delay_ms, conn, reply),
            }
        }
    }

    /// What a path names, wherever the directory has put it.
    pub(super) fn resource(&self, target: &str) -> Option<Resource> {
        let prefix = self.settings.prefix;
        let bare = target.strip_prefix(prefix).filter(|_| !prefix.is_empty());
        match bare.and_then(Resource::parse) {
            Some(resource) if resource.is_in_directory() => return Some(resource),
            _ => {}
        }
        let resource = Resource::parse(target)?;
        (prefix.is_empty() || !resource.is_in_directory()).then_some(resource)
    }

    /// RFC 8555 section 6.5: a nonce for every POST, errors too. Section 7.1: a link to the
    /// directory from everywhere else.
    fn with_common_fields(&mut self, request: &Request, reply: Reply) -> Reply {
        let resource = self.resource(&request.target);
        let mut reply = reply.with("Cache-Control", "public, max-age=0, no-cache");
        if request.method == "POST" || resource == Some(Resource::NewNonce) {
            reply = reply.with("Replay-Nonce", self.nonces.fresh(&mut self.random));
            self.nonces.forget_beyond(self.settings.nonces_max);
        }
        match resource {
            Some(Resource::Directory) => reply,
            _ => reply.with("Link", format!("<{}>;rel=\"index\"", self.directory_url())),
        }
    }

    pub(super) fn answer(&mut self, now: Time, request: &Request) -> Answer {
        let fails = self.random.chance(self.settings.server_error_percent);
        if fails && self.random.chance(50) {
            return self.server_error(now);
        }
        if let Some(problem) = self.refusal(request) {
            return problem.into();
        }
        let answer = self.routed(now, request).unwrap_or_else(Answer::from);
        if fails { self.server_error(now) } else { answer }
    }

    fn server_error(&self, now: Time) -> Answer {
        if self.settings.server_error_html {
            return Answer::new(Reply::html(500, "Internal Server Error"), "fault");
        }
        let mut problem = Problem::new(500, "serverInternal", "fault");
        problem.retry_after = self.retry_after(now);
        problem.into()
    }

    /// What a test ordered for this path.
    fn refusal(&mut self, request: &Request) -> Option<Problem> {
        let mut refusals = self.settings.refusals.iter_mut();
        let fits = |each: &&mut Refusal| each.times > 0 && request.target.starts_with(each.path);
        let refusal = refusals.find(fits)?;
        refusal.times -= 1;
        Some(refusal.problem.clone())
    }

    fn routed(&mut self, now: Time, request: &Request) -> Result<Answer, Problem> {
        if request.header("User-Agent").is_none_or(str::is_empty) {
            return Err(Problem::malformed("User-Agent is missing (RFC 8555 section 6.1)"));
        }
        if request.header("Replay-Nonce").is_some() {
            let detail = "Replay-Nonce belongs in responses only (RFC 8555 section 6.5.1)";
            return Err(Problem::malformed(detail));
        }
        let Some(resource) = self.resource(&request.target) else {
            return Err(Problem::new(404, "malformed", "there is nothing at this URL"));
        };
        match (request.method.as_str(), resource) {
            ("GET" | "HEAD", Resource::Directory) => {
                Ok(Answer::json(200, &self.directory(), "directory"))
            }
            ("GET" | "HEAD", Resource::Terms) => {
                Ok(Answer::new(Reply::new(200, "text/plain", "Trust nothing.\n"), "terms"))
            }
            // RFC 8555 section 7.2.
            ("HEAD", Resource::NewNonce) => Ok(Answer::new(Reply::empty(200), "nonce")),
            ("GET", Resource::NewNonce) => Ok(Answer::new(Reply::empty(204), "nonce")),
            ("GET" | "HEAD", Resource::RenewalInfo) => self.renewal_info(now, &request.target),
            (
                _,
                Resource::Directory | Resource::Terms | Resource::NewNonce | Resource::RenewalInfo,
            ) => Err(Problem::new(405, "malformed", "this resource is fetched with GET")),
            ("POST", resource) => self.post(now, request, resource),
            _ => Err(Problem::new(405, "malformed", "POST only (RFC 8555 section 6.3)")),
        }
    }

    fn directory(&self) -> serde_json::Value {
        let url = |path: &str| format!("{}{}{path}", self.base, self.settings.prefix);
        let mut directory = json!({
            "newNonce": url("/new-nonce"),
            "newAccount": url("/new-account"),
            "newOrder": url("/new-order"),
            "revokeCert": url("/revoke-cert"),
            "keyChange": url("/key-change"),
            "Zq4vB2xTn1c": "https://example.org/clients-ignore-what-they-do-not-know",
            "meta": {
                "termsOfService": format!("{}/terms", self.base),
                "website": "https://example.org/",
                "caaIdentities": ["ca.example.org"],
                "externalAccountRequired": self.settings.external_account_required,
            },
        });
        if self.settings.renewal_info.is_some() {
            directory["renewalInfo"] = json!(url("/renewal-info"));
        }
        let profiles = self.settings.profiles.iter();
        let profiles: BTreeMap<&str, &str> =
            profiles.map(|(name, profile)| (&**name, &*profile.description)).collect();
        if !profiles.is_empty() {
            directory["meta"]["profiles"] = json!(profiles);
        }
        directory
    }

    fn post(
        &mut self,
        now: Time,
        request: &Request,
        resource: Resource,
    ) -> Result<Answer, Problem> {
        if request.header("Content-Type") != Some("application/jose+json") {
            let detail = "Content-Type must be application/jose+json (RFC 8555 section 6.2)";
            return Err(Problem::new(415, "malformed", detail));
        }
        if request.body.len() > BODY_BYTES_MAX {
            return Err(Problem::new(413, "malformed", "the body is too large"));
        }
        let jws = Jws::parse(&request.body)?;
        let (key, account) = self.signer(&jws, resource)?;
        jws.verify(&key)?;
        if jws.url != format!("{}{}", self.base, request.target) {
            let detail = "the signed url is not the one asked (RFC 8555 section 6.4.1)";
            return Err(Problem::unauthorized(detail));
        }
        let known = self.nonces.spend(&jws.nonce);
        if !known || self.random.chance(self.settings.bad_nonce_percent) {
            return Err(Problem::new(400, "badNonce", "the nonce is unknown, old or used"));
        }
        self.handle(now, request, resource, &Post { jws, key, account })
    }

    /// RFC 8555 section 6.2: a key of its own where there is no account yet, an account URL
    /// elsewhere.
    fn signer(&self, jws: &Jws, resource: Resource) -> Result<(Jwk, Option<usize>), Problem> {
        match (&jws.signer, resource) {
            (Signer::Jwk(key), Resource::NewAccount | Resource::RevokeCert) => {
                Ok((key.clone(), None))
            }
            (Signer::Jwk(_), _) => Err(Problem::malformed("this request is signed with a kid")),
            (Signer::Kid(_), Resource::NewAccount) => {
                Err(Problem::malformed("this request is signed with a jwk"))
            }
            (Signer::Kid(kid), _) => {
                let path = kid.strip_prefix(&self.base).unwrap_or_default();
                let index = match Resource::parse(path) {
                    Some(Resource::Account(index)) => index,
                    _ => usize::MAX,
                };
                let unknown = Problem::new(400, "accountDoesNotExist", "the kid names no account");
                let account = self.accounts.get(index).filter(|account| !account.forgotten);
                let account = account.ok_or(unknown)?;
                if account.deactivated {
                    let detail = "the account is deactivated (RFC 8555 section 7.3.6)";
                    return Err(Problem::new(401, "unauthorized", detail));
                }
                Ok((account.key.clone(), Some(index)))
            }
        }
    }

    pub(super) fn handle(
        &mut self,
        now: Time,
        request: &Request,
        resource: Resource,
        post: &Post,
    ) -> Result<Answer, Problem> {
        match (resource, post.account) {
            (Resource::NewAccount, _) => self.new_account(post),
            (Resource::RevokeCert, _) => self.revoke(now, post),
            (Resource::NewOrder, Some(account)) => self.new_order(now, post, account),
            (Resource::Account(index), Some(account)) => self.account(post, index, account),
            (Resource::AccountOrders(index), Some(account)) => {
                self.account_orders(post, index, account)
            }
            (Resource::Order(index), Some(account)) => self.order(now, post, index, account),
            (Resource::Finalize(index), Some(account)) => self.finalize(now, post, index, account),
            (Resource::Authz(index), Some(account)) => self.authz(now, post, index, account),
            (Resource::Challenge(index, kind), Some(account)) => {
                self.challenge(now, post, (index, kind), account)
            }
            (Resource::Certificate(index), Some(account)) => {
                self.certificate(request, post, (index, None), account)
            }
            (Resource::Alternate(index, chain), Some(account)) => {
                self.certificate(request, post, (index, Some(chain)), account)
            }
            (Resource::KeyChange, _) => {
                Err(Problem::new(501, "serverInternal", "keys cannot be changed here yet"))
            }
            _ => Err(Problem::new(405, "malformed", "this resource does not take POST")),
        }
    }
}

/// What a proxy in front says when the CA is not there.
fn unavailable(now: Time, retry_after: RetryAfter) -> Answer {
    let answer = Answer::new(Reply::html(503, "Service Unavailable"), "unavailable");
    match retry_after.value(now) {
        Some(value) => answer.with("Retry-After", value),
        None => answer,
    }
}

/// The names that an order is asked for, as far as the request can be read; whoever signed it.
fn ordered(request: &Request) -> Vec<String> {
    let payload = Jws::parse(&request.body).and_then(|jws| jws.object()).unwrap_or_default();
    let identifiers = payload.get("identifiers").and_then(Value::as_array);
    let name = |identifier: &Value| identifier["value"].as_str().map(str::to_string);
    identifiers.into_iter().flatten().filter_map(name).collect()
}

pub(super) fn missing() -> Problem {
    Problem::new(404, "malformed", "there is nothing at this URL")
}

/// RFC 8555 section 6.3: reading is a POST whose payload is empty.
pub(super) fn read_only(post: &Post) -> Result<(), Problem> {
    match post.jws.payload.is_empty() {
        true => Ok(()),
        false => Err(Problem::malformed("reading wants an empty payload (RFC 8555 section 6.3)")),
    }
}
