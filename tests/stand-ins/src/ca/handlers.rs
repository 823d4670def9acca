//! What the resources do with a request that is signed rightly: accounts, orders, authorizations,
//! challenges (RFC 8555 sections 7.3 to 7.5).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::objects::{
    AUTHZ_MS, Account, Authz, AuthzStatus, ChallengeKind, ORDER_MS, Order, OrderStatus, Outcome,
    Stage,
};
use super::problem::{Problem, Subproblem};
use super::resource::Resource;
use super::{Answer, Ca, Post};
use crate::http::Request;
use crate::peer::Time;

impl Ca {
    pub(super) fn handle(
        &mut self,
        now: Time,
        request: &Request,
        resource: Resource,
        post: &Post,
    ) -> Result<Answer, Problem> {
        match (resource, post.account) {
            (Resource::NewAccount, _) => self.new_account(post),
            (Resource::RevokeCert, _) => self.revoke(post),
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
                self.certificate(request, post, index, account)
            }
            (Resource::KeyChange, _) => {
                Err(Problem::new(501, "serverInternal", "keys cannot be changed here yet"))
            }
            _ => Err(Problem::new(405, "malformed", "this resource does not take POST")),
        }
    }

    /// RFC 8555 section 7.3.
    fn new_account(&mut self, post: &Post) -> Result<Answer, Problem> {
        let wish = post.jws.object()?;
        let existing = self.accounts.iter().position(|account| account.key == post.key);
        if let Some(index) = existing {
            let account = &self.accounts[index];
            if account.deactivated {
                return Err(Problem::new(401, "unauthorized", "the account is deactivated"));
            }
            let url = format!("{}/account/{index}", self.base);
            return Ok(
                Answer::json(200, &account.json(&url), "known account").with("Location", url)
            );
        }
        if wish.get("onlyReturnExisting") == Some(&Value::Bool(true)) {
            let detail = "no account has this key";
            return Err(Problem::new(400, "accountDoesNotExist", detail));
        }
        if wish.get("termsOfServiceAgreed") != Some(&Value::Bool(true)) {
            return Err(Problem::malformed("the terms of service are not agreed to"));
        }
        let contact = contact(&wish)?;
        let account = Account { key: post.key.clone(), contact, deactivated: false };
        let url = format!("{}/account/{}", self.base, self.accounts.len());
        let answer = Answer::json(201, &account.json(&url), "new account");
        self.accounts.push(account);
        Ok(answer.with("Location", url))
    }

    /// RFC 8555 sections 7.3.2 and 7.3.6.
    fn account(&mut self, post: &Post, index: usize, signer: usize) -> Result<Answer, Problem> {
        let url = format!("{}/account/{index}", self.base);
        if index != signer {
            return Err(Problem::unauthorized("this is another account"));
        }
        let account = self.accounts.get_mut(index).ok_or(missing())?;
        if !post.jws.payload.is_empty() {
            let wish = post.jws.object()?;
            if wish.get("status") == Some(&json!("deactivated")) {
                account.deactivated = true;
            }
            if wish.contains_key("contact") {
                account.contact = contact(&wish)?;
            }
        }
        Ok(Answer::json(200, &account.json(&url), "account"))
    }

    fn account_orders(&self, post: &Post, index: usize, signer: usize) -> Result<Answer, Problem> {
        read_only(post)?;
        if index != signer {
            return Err(Problem::unauthorized("this is another account"));
        }
        let orders = self.orders.iter().enumerate().filter(|(_, order)| order.account == signer);
        let urls: Vec<String> =
            orders.map(|(index, _)| format!("{}/order/{index}", self.base)).collect();
        Ok(Answer::json(200, &json!({ "orders": urls }), "orders"))
    }

    /// RFC 8555 section 7.4.
    fn new_order(&mut self, now: Time, post: &Post, account: usize) -> Result<Answer, Problem> {
        let wish = post.jws.object()?;
        if wish.contains_key("notBefore") || wish.contains_key("notAfter") {
            return Err(Problem::malformed("the dates of a certificate cannot be chosen here"));
        }
        if wish.contains_key("replaces") {
            return Err(Problem::malformed("renewal information is not offered here"));
        }
        if wish.contains_key("profile") {
            return Err(Problem::new(400, "invalidProfile", "there are no profiles here"));
        }
        let names = self.names(&wish)?;
        let note = names.join(" ");
        let same = |order: &Order| {
            order.account == account
                && order.names == names
                && matches!(
                    order.status(&self.authzs, now),
                    OrderStatus::Pending | OrderStatus::Ready
                )
        };
        let reused = self.orders.iter().position(same).filter(|_| self.settings.order_reuse);
        let index = match reused {
            Some(index) => index,
            None => {
                let authzs = names.iter().map(|name| self.authz_for(now, account, name)).collect();
                let expires_ms = now.unix_ms + ORDER_MS;
                let stage = Stage::Open;
                self.orders.push(Order { account, names, authzs, expires_ms, stage });
                self.orders.len() - 1
            }
        };
        let body = self.order_json(now, index);
        let url = format!("{}/order/{index}", self.base);
        Ok(Answer::json(201, &body, note).with("Location", url))
    }

    /// The names of a wish, sorted.
    fn names(&self, wish: &Map<String, Value>) -> Result<Vec<String>, Problem> {
        let identifiers = wish.get("identifiers").and_then(Value::as_array);
        let identifiers = identifiers.ok_or(Problem::malformed("identifiers is missing"))?;
        let mut names = Vec::new();
        let mut wrong = Vec::new();
        for identifier in identifiers {
            match identifier.get("type").and_then(Value::as_str) {
                Some("dns") => {}
                _ => return Err(Problem::new(400, "unsupportedIdentifier", "dns names only")),
            }
            let Some(name) = identifier.get("value").and_then(Value::as_str) else {
                return Err(Problem::malformed("an identifier has no value"));
            };
            if let Err(why) = check_name(name) {
                wrong.push((name.to_string(), why));
            } else if self.settings.rejected_names.contains(name) {
                wrong.push((name.to_string(), "policy forbids it"));
            }
            names.push(name.to_string());
        }
        if let Some((name, why)) = wrong.first() {
            let detail = format!("{name}: {why}");
            let problem = Problem::new(400, "rejectedIdentifier", detail);
            let subproblem = |(name, why): (String, &str)| Subproblem {
                kind: "rejectedIdentifier",
                detail: why.to_string(),
                name,
            };
            return Err(match self.settings.subproblems {
                true => problem.with_subproblems(wrong.into_iter().map(subproblem).collect()),
                false => problem,
            });
        }
        let count = names.len();
        names.sort();
        names.dedup();
        match names.len() {
            0 => Err(Problem::malformed("an order has at least one identifier")),
            some if some < count => Err(Problem::malformed("an identifier is there twice")),
            _ => Ok(names),
        }
    }

    /// A valid authorization of the same account, or a new one.
    fn authz_for(&mut self, now: Time, account: usize, name: &str) -> usize {
        let fits = |authz: &Authz| {
            authz.account == account
                && authz.name == name
                && authz.status(now) == AuthzStatus::Valid
        };
        if let Some(index) = self.authzs.iter().position(fits)
            && self.random.chance(self.settings.authz_reuse_percent)
        {
            return index;
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

    pub(super) fn order_json(&self, now: Time, index: usize) -> Value {
        let order = &self.orders[index];
        order.json(&self.base, index, order.status(&self.authzs, now))
    }

    /// The order, if it is the account's.
    pub(super) fn own_order(&self, index: usize, account: usize) -> Result<&Order, Problem> {
        let order = self.orders.get(index).ok_or(missing())?;
        match order.account == account {
            true => Ok(order),
            false => Err(Problem::unauthorized("the order is another account's")),
        }
    }

    fn order(
        &mut self,
        now: Time,
        post: &Post,
        index: usize,
        account: usize,
    ) -> Result<Answer, Problem> {
        read_only(post)?;
        self.own_order(index, account)?;
        self.orders[index].advance();
        let status = self.orders[index].status(&self.authzs, now);
        let note = format!("{} {}", self.orders[index].names.join(" "), status.name());
        let answer = Answer::json(200, &self.order_json(now, index), note);
        Ok(match self.retry_after(now) {
            Some(value) if status == OrderStatus::Processing => answer.with("Retry-After", value),
            _ => answer,
        })
    }

    /// RFC 8555 sections 7.5 and 7.5.2.
    fn authz(
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
    fn challenge(
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
                        self.validator.start(due_ms, index, (name, token, expected), places);
                        self.validator.timeout(now, self.settings.http_port);
                    }
                    ChallengeKind::Dns | ChallengeKind::Future => {
                        let error = Problem::new(400, "dns", "no TXT record was found");
                        authz.outcome = Outcome::Invalid { challenge: kind, error };
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
}

impl Authz {
    /// What the validation came to.
    pub(super) fn settle(&mut self, now: Time, result: Result<(), Problem>) {
        if !matches!(self.outcome, Outcome::Validating) {
            return;
        }
        match result {
            Ok(()) => {
                self.expires_ms = now.unix_ms + AUTHZ_MS;
                self.outcome = Outcome::Valid { at_ms: now.unix_ms };
            }
            Err(error) => {
                self.outcome = Outcome::Invalid { challenge: ChallengeKind::Http, error };
            }
        }
    }
}

impl Order {
    /// One look at an order that is being processed.
    fn advance(&mut self) {
        if let Stage::Processing { polls, certificate } = self.stage {
            self.stage = match polls.checked_sub(1) {
                Some(polls) if polls > 0 => Stage::Processing { polls, certificate },
                _ => Stage::Valid { certificate },
            };
        }
    }
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

/// The contacts of an account: e-mail only, one address each (RFC 8555 section 7.3).
fn contact(wish: &Map<String, Value>) -> Result<Vec<String>, Problem> {
    let Some(contact) = wish.get("contact") else { return Ok(Vec::new()) };
    let contact = contact.as_array().ok_or(Problem::malformed("contact is no array"))?;
    let mut urls = Vec::new();
    for url in contact {
        let url = url.as_str().ok_or(Problem::malformed("a contact is no string"))?;
        let Some(address) = url.strip_prefix("mailto:") else {
            return Err(Problem::new(400, "unsupportedContact", "mailto only"));
        };
        let sound = address.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && host.contains('.') && !address.contains(['?', ',', ' '])
        });
        if !sound {
            return Err(Problem::new(400, "invalidContact", format!("{address} is no address")));
        }
        urls.push(url.to_string());
    }
    Ok(urls)
}

/// Whether a public CA could certify a name over http-01.
fn check_name(name: &str) -> Result<(), &'static str> {
    let labels: Vec<&str> = name.split('.').collect();
    let odd = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'));
    if name.chars().any(odd) {
        return Err("lower-case letters, digits, hyphens and dots only");
    }
    if name.len() > 253 || labels.len() < 2 {
        return Err("at least two labels, at most 253 characters");
    }
    for label in &labels {
        if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
            return Err("a label is empty, too long, or has a hyphen at an end");
        }
    }
    match labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        true => Err("an address is no name"),
        false => Ok(()),
    }
}
