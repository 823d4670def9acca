//! A certificate authority that speaks ACME (RFC 8555) over http-01, as strictly as the RFC lets
//! it: whatever a server may refuse is refused here, with the problem document that says why. It
//! really fetches the challenge and really issues, from a root of its own. On request it offers
//! what newer CAs do: renewal information (RFC 9773), profiles, alternate chains, external
//! accounts, rate limits.
//!
//! A signed request goes form → signer → signature → URL → nonce → resource, and ends at the first
//! thing that is wrong.

mod accounts;
mod authorizations;
mod binding;
mod faults;
mod issuance;
mod jwk;
mod jws;
mod limits;
mod nonces;
mod objects;
mod orders;
mod problem;
mod renewal_info;
mod requests;
mod resource;
mod settings;
mod validation;

use std::collections::{BTreeMap, BTreeSet};

use rcgen::PublicKey;

use crate::http::{Reply, Server};
use crate::peer::{Action, DialError, Peer, Time};
use crate::pki::Pki;
use crate::random::Random;

use jwk::Jwk;
use jws::Jws;
use limits::Limiter;
use nonces::Nonces;
use objects::{Account, Authz, Order};
use validation::Validator;

pub use faults::{BadChain, Effect, Fault, Step};
pub use limits::{Bucket, Limits};
pub use problem::{Problem, Subproblem};
pub use settings::{Profile, Refusal, RenewalInfo, RenewalInfoFault, RetryAfter, Settings};

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
    /// The account key that each external account is bound to.
    bindings: BTreeMap<String, Jwk>,
    orders: Vec<Order>,
    /// The youngest order of an account for the same names, whatever became of it.
    youngest_orders: BTreeMap<(usize, Vec<String>), usize>,
    authzs: Vec<Authz>,
    /// The authorizations of an account for a name that were passed and may hold still.
    passed_authzs: BTreeMap<(usize, String), BTreeSet<usize>>,
    issued: Vec<Issued>,
    /// What else belongs to each certificate.
    records: Vec<Record>,
    by_cert_id: BTreeMap<String, usize>,
    limiter: Limiter,
    validator: Validator,
    seen: Vec<AcmeRequest>,
    checked: Vec<Checked>,
    fired: Vec<usize>,
    /// The next validation fails, from one place alone or from all.
    unproved: Option<bool>,
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
    /// What it is called in renewal information (RFC 9773 section 4.1).
    pub cert_id: String,
    /// The certificate whose order said that it replaces this one, by its place in
    /// [`Ca::issued`].
    pub replaced_by: Option<usize>,
    /// The profile that was ordered.
    pub profile: Option<String>,
    /// The account that ordered it: N of its URL `/account/N`.
    pub account: usize,
}

/// What a CA knows of a certificate and does not tell.
#[derive(Debug)]
struct Record {
    order: usize,
    /// What it certifies.
    key: PublicKey,
    /// The youngest order that wants to replace it, whatever became of that order.
    replacing: Option<usize>,
    /// The renewal window that was set, in milliseconds since 1970.
    hastened: Option<(i64, i64)>,
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
    /// What it was for.
    pub step: Option<Step>,
    /// The names that an order was to be made for, whatever came of it; else nothing.
    pub names: Vec<String>,
    /// A fault has put something else in place of the answer's object.
    pub spoilt: bool,
    /// How long the answer tells the client to wait, by its `Retry-After`.
    pub retry_after_ms: Option<u64>,
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
            bindings: BTreeMap::new(),
            orders: Vec::new(),
            youngest_orders: BTreeMap::new(),
            authzs: Vec::new(),
            passed_authzs: BTreeMap::new(),
            issued: Vec::new(),
            records: Vec::new(),
            by_cert_id: BTreeMap::new(),
            limiter: Limiter::default(),
            validator: Validator::default(),
            seen: Vec::new(),
            checked: Vec::new(),
            fired: Vec::new(),
            unproved: None,
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

    /// The root of another chain, PEM: `Stand-in Root 2` for `/cert/N/alternate/1`, and so on.
    pub fn alternate_root_pem(&self, chain: u8) -> String {
        self.pki.alternate_root_pem(chain)
    }

    /// Every certificate, in the order they were issued.
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// Every request, in the order they came; none while [`Settings::keep_seen`] is off.
    pub fn seen(&self) -> &[AcmeRequest] {
        &self.seen
    }

    /// How many bytes had been sent on a connection when each of its answers was.
    pub fn answer_ends(&self, conn: u64) -> &[u64] {
        self.server.reply_ends(conn)
    }

    /// Gets on with what it would have left for later: every validation that waits begins.
    pub fn get_on(&mut self, now: Time) {
        self.validator.hurry(now.mono_ms);
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

    /// The value of a `Retry-After` field, when there is to be one.
    fn retry_after(&self, now: Time) -> Option<String> {
        self.settings.retry_after.value(now)
    }

    /// Takes over what the validator found out.
    fn settle_validations(&mut self, now: Time) {
        while let Some((index, result)) = self.validator.next_outcome() {
            if let Some(authz) = self.authzs.get(index) {
                let (name, token) = (authz.name.clone(), authz.token.clone());
                let error = result.clone().err();
                self.checked.push(Checked { at: now, name, token, error });
                self.settle(now, index, result);
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
        // A validation that needs no connection may be over with the request that began it.
        self.settle_validations(now);
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
        self.settle_validations(now);
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
