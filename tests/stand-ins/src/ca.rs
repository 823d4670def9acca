//! A certificate authority that speaks ACME (RFC 8555) over http-01, as strictly as the RFC lets
//! it: whatever a server may refuse is refused here, with the problem document that says why. It
//! really fetches the challenge and really issues, from a root of its own.
//!
//! A signed request goes form → signer → signature → URL → nonce → resource, and ends at the first
//! thing that is wrong.

mod handlers;
mod issuance;
mod jwk;
mod jws;
mod nonces;
mod objects;
mod problem;
mod resource;
mod settings;
mod validation;

use serde_json::json;

use crate::http::{Reply, Request, Server};
use crate::peer::{Action, DialError, Peer, Time};
use crate::pki::Pki;
use crate::random::Random;

use jwk::Jwk;
use jws::{Jws, Signer};
use nonces::Nonces;
use objects::{Account, Authz, Order};
use resource::Resource;
use validation::Validator;

pub use problem::{Problem, Subproblem};
pub use settings::{Refusal, RetryAfter, Settings};

/// Boulder refuses larger bodies.
const BODY_BYTES_MAX: usize = 50_000;

/// One certificate authority.
#[derive(Debug)]
pub struct Ca {
    /// How it behaves; may be changed at any time.
    pub settings: Settings,
    base: String,
    pki: Pki,
    random: Random,
    server: Server,
    nonces: Nonces,
    accounts: Vec<Account>,
    orders: Vec<Order>,
    authzs: Vec<Authz>,
    issued: Vec<Issued>,
    validator: Validator,
    seen: Vec<AcmeRequest>,
    checked: Vec<Checked>,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// When.
    pub at: Time,
    /// Sorted.
    pub names: Vec<String>,
    /// Milliseconds since 1970.
    pub not_before_ms: i64,
    /// Milliseconds since 1970, inclusive.
    pub not_after_ms: i64,
    /// Upper-case hexadecimal.
    pub serial: String,
    /// The certificate.
    pub der: Vec<u8>,
    /// Leaf and intermediate, as they are handed out.
    pub chain_pem: String,
    /// The bits of its public key: equal for two certificates only when a key served twice.
    pub public_key: Vec<u8>,
    /// Whether it was fetched by the client.
    pub fetched: bool,
    /// The reason code, once it is revoked.
    pub revoked: Option<u64>,
}

/// What a CA remembers of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeRequest {
    /// When its last byte came.
    pub at: Time,
    /// The connection it came on.
    pub conn: u64,
    /// As sent.
    pub method: String,
    /// As sent.
    pub path: String,
    /// What was answered.
    pub status: u16,
    /// The type of the problem, when there was one: `badNonce`.
    pub problem: Option<&'static str>,
    /// In a few words what it was about, or what was wrong.
    pub note: String,
}

/// A challenge that was fetched and judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// When the last place had its answer.
    pub at: Time,
    /// The name that was to be proved.
    pub name: String,
    /// The token in the path.
    pub token: String,
    /// What was wrong.
    pub error: Option<Problem>,
}

/// What one request comes to.
struct Answer {
    reply: Reply,
    problem: Option<&'static str>,
    note: String,
}

impl Answer {
    fn new(reply: Reply, note: impl Into<String>) -> Answer {
        Answer { reply, problem: None, note: note.into() }
    }

    fn json(status: u16, body: &serde_json::Value, note: impl Into<String>) -> Answer {
        Answer::new(Reply::new(status, "application/json", body.to_string()), note)
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.reply = self.reply.with(name, value);
        self
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Answer {
        let (reply, note) = (problem.reply(), problem.detail);
        Answer { reply, problem: Some(problem.kind), note }
    }
}

/// A signed request whose form, signature, URL and nonce are right.
struct Post {
    jws: Jws,
    key: Jwk,
    /// Absent for a request that carries its own key.
    account: Option<usize>,
}

impl Ca {
    /// The CA of a seed. `base` is what its URLs start with, without a slash at the end:
    /// `https://ca.test:14000`.
    pub fn new(seed: u64, base: &str, now: Time, settings: Settings) -> Ca {
        Ca {
            settings,
            base: base.to_string(),
            pki: Pki::new(seed, "Stand-in", now),
            random: Random::new(seed.wrapping_add(1)),
            server: Server::default(),
            nonces: Nonces::default(),
            accounts: Vec::new(),
            orders: Vec::new(),
            authzs: Vec::new(),
            issued: Vec::new(),
            validator: Validator::default(),
            seen: Vec::new(),
            checked: Vec::new(),
        }
    }

    /// The URL that a client is configured with.
    pub fn directory_url(&self) -> String {
        format!("{}/directory", self.base)
    }

    /// The root that everything issued chains to, PEM.
    pub fn root_pem(&self) -> String {
        self.pki.root_pem()
    }

    /// The root that everything issued chains to, DER.
    pub fn root_der(&self) -> &[u8] {
        self.pki.root_der()
    }

    /// Every certificate, in the order they were issued.
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// Every request, in the order they came.
    pub fn seen(&self) -> &[AcmeRequest] {
        &self.seen
    }

    /// Every challenge that was fetched, in the order they were judged.
    pub fn checked(&self) -> &[Checked] {
        &self.checked
    }

    /// How many requests had this method, a path that starts so, and this status.
    pub fn count(&self, method: &str, path: &str, status: u16) -> usize {
        let fits = |seen: &&AcmeRequest| {
            seen.method == method && seen.path.starts_with(path) && seen.status == status
        };
        self.seen.iter().filter(fits).count()
    }

    /// How many accounts there are.
    pub fn account_count(&self) -> usize {
        self.accounts.len()
    }

    fn answer_requests(&mut self, now: Time) {
        while let Some(request) = self.server.next_request() {
            let Answer { reply, problem, note } = self.answer(now, &request);
            let reply = self.with_common_fields(&request, reply);
            self.seen.push(AcmeRequest {
                at: now,
                conn: request.conn,
                method: request.method,
                path: request.target,
                status: reply.status,
                problem,
                note,
            });
            match self.settings.delay_ms {
                0 => self.server.reply(request.conn, &reply),
                delay_ms => self.server.reply_at(now.mono_ms + delay_ms, request.conn, reply),
            }
        }
    }

    /// RFC 8555 section 6.5: a nonce for every POST, errors too. Section 7.1: a link to the
    /// directory from everywhere else.
    fn with_common_fields(&mut self, request: &Request, reply: Reply) -> Reply {
        let resource = Resource::parse(&request.target);
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

    fn answer(&mut self, now: Time, request: &Request) -> Answer {
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
        let Some(resource) = Resource::parse(&request.target) else {
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
            (_, Resource::Directory | Resource::Terms | Resource::NewNonce) => {
                Err(Problem::new(405, "malformed", "this resource is fetched with GET"))
            }
            ("POST", resource) => self.post(now, request, resource),
            _ => Err(Problem::new(405, "malformed", "POST only (RFC 8555 section 6.3)")),
        }
    }

    fn directory(&self) -> serde_json::Value {
        let url = |path: &str| format!("{}{path}", self.base);
        json!({
            "newNonce": url("/new-nonce"),
            "newAccount": url("/new-account"),
            "newOrder": url("/new-order"),
            "revokeCert": url("/revoke-cert"),
            "keyChange": url("/key-change"),
            "Zq4vB2xTn1c": "https://example.org/clients-ignore-what-they-do-not-know",
            "meta": {
                "termsOfService": url("/terms"),
                "website": "https://example.org/",
                "caaIdentities": ["ca.example.org"],
                "externalAccountRequired": false,
            },
        })
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
                let account = self.accounts.get(index).ok_or(unknown)?;
                if account.deactivated {
                    let detail = "the account is deactivated (RFC 8555 section 7.3.6)";
                    return Err(Problem::new(401, "unauthorized", detail));
                }
                Ok((account.key.clone(), Some(index)))
            }
        }
    }

    /// The value of a `Retry-After` field, when there is to be one.
    fn retry_after(&self, now: Time) -> Option<String> {
        match self.settings.retry_after {
            RetryAfter::None => None,
            RetryAfter::Seconds(seconds) => Some(seconds.to_string()),
            RetryAfter::Date(seconds) => {
                Some(crate::date::http_date(now.plus_ms(u64::from(seconds) * 1000).unix_ms))
            }
        }
    }

    /// Takes over what the validator found out.
    fn settle_validations(&mut self, now: Time) {
        while let Some((index, result)) = self.validator.next_outcome() {
            if let Some(authz) = self.authzs.get_mut(index) {
                let (name, token) = (authz.name.clone(), authz.token.clone());
                let error = result.clone().err();
                self.checked.push(Checked { at: now, name, token, error });
                authz.settle(now, result);
            }
        }
    }
}

impl Peer for Ca {
    fn accepted(&mut self, _now: Time, conn: u64) {
        self.server.accepted(conn);
    }

    fn dialed(&mut self, now: Time, conn: u64, result: Result<(), DialError>) {
        self.validator.dialed(conn, result);
        self.settle_validations(now);
    }

    fn received(&mut self, now: Time, conn: u64, bytes: &[u8]) {
        self.validator.received(now, conn, bytes, self.settings.http_port);
        self.settle_validations(now);
        self.server.received(conn, bytes);
        self.answer_requests(now);
    }

    fn closed(&mut self, now: Time, conn: u64) {
        self.validator.closed(now, conn, self.settings.http_port);
        self.settle_validations(now);
        self.server.closed(conn);
    }

    fn timeout(&mut self, now: Time) {
        self.validator.timeout(now, self.settings.http_port);
        self.settle_validations(now);
        self.server.timeout(now.mono_ms);
        self.answer_requests(now);
    }

    fn next_timeout(&self) -> Option<u64> {
        self.server.next_timeout().into_iter().chain(self.validator.next_timeout()).min()
    }

    fn poll(&mut self) -> Option<Action> {
        self.server.poll().or_else(|| self.validator.poll())
    }
}

#[cfg(test)]
mod tests;
