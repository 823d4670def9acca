//! Orders (RFC 8555 section 7.4): what may be ordered, and how an order looks on the way.

use serde_json::{Map, Value};

use super::objects::{ORDER_MS, Order, OrderStatus, Replaced, Stage};
use super::problem::{Problem, Subproblem};
use super::requests::{missing, read_only};
use super::{Answer, Ca, Post};
use crate::peer::Time;

impl Ca {
    /// RFC 8555 section 7.4.
    pub(super) fn new_order(
        &mut self,
        now: Time,
        post: &Post,
        account: usize,
    ) -> Result<Answer, Problem> {
        let payload = post.jws.object()?;
        if payload.contains_key("notBefore") || payload.contains_key("notAfter") {
            return Err(Problem::malformed("the dates of a certificate cannot be chosen here"));
        }
        let names = self.names(&payload)?;
        let profile = self.profile(&payload, names.len())?;
        let replaces = self.replaced(now, &payload, account, &names)?;
        self.check_paused(&names)?;
        let note = names.join(" ");
        let reused = self.reusable(now, account, &names, profile.as_deref());
        let index = match reused.filter(|_| replaces.is_none()) {
            Some(index) => index,
            None => {
                self.check_limits(now, account, &names, replaces.is_some())?;
                self.add_order(now, account, names, (profile, replaces))
            }
        };
        let body = self.order_json(now, index);
        let url = format!("{}/order/{index}", self.base);
        Ok(Answer::json(201, &body, note).with("Location", url))
    }

    /// An order that can be handed back in place of a new one.
    fn reusable(
        &self,
        now: Time,
        account: usize,
        names: &[String],
        profile: Option<&str>,
    ) -> Option<usize> {
        if !self.settings.order_reuse {
            return None;
        }
        let index = *self.youngest_orders.get(&(account, names.to_vec()))?;
        let order = &self.orders[index];
        let open =
            matches!(order.status(&self.authzs, now), OrderStatus::Pending | OrderStatus::Ready);
        (open && order.profile.as_deref() == profile).then_some(index)
    }

    fn add_order(
        &mut self,
        now: Time,
        account: usize,
        names: Vec<String>,
        (profile, replaces): (Option<String>, Option<Replaced>),
    ) -> usize {
        let index = self.orders.len();
        self.youngest_orders.insert((account, names.clone()), index);
        if let Some(replaced) = &replaces {
            // RFC 9773 section 5: the mark is made now, and counts while this order is alive.
            self.records[replaced.certificate].replacing = Some(index);
        }
        let authzs = names.iter().map(|name| self.authz_for(now, account, name)).collect();
        let (expires_ms, stage) = (now.unix_ms + ORDER_MS, Stage::Open);
        let renewal = self.is_renewal(now, &names);
        let order = Order { account, names, authzs, expires_ms, profile, replaces, renewal, stage };
        self.count_order(now, &order);
        self.orders.push(order);
        index
    }

    /// The profile of a newOrder request (draft-ietf-acme-profiles), and whether it takes so many names.
    fn profile(
        &self,
        payload: &Map<String, Value>,
        names_count: usize,
    ) -> Result<Option<String>, Problem> {
        let (profile, names_max) = match payload.get("profile") {
            None => (None, self.settings.names_max),
            Some(Value::String(name)) => match self.settings.profiles.get(name) {
                Some(profile) => (Some(name.clone()), profile.names_max),
                None => {
                    let detail = format!("there is no profile {name:?} here");
                    return Err(Problem::new(400, "invalidProfile", detail));
                }
            },
            Some(_) => return Err(Problem::malformed("profile is no string")),
        };
        match names_count <= names_max {
            true => Ok(profile),
            false => {
                let detail = format!("too many identifiers: {names_count}, at most {names_max}");
                Err(Problem::malformed(detail))
            }
        }
    }

    /// A pause ends only when a person ends it: there is nothing to wait for.
    fn check_paused(&self, names: &[String]) -> Result<(), Problem> {
        let paused = |name: &&String| self.settings.paused_names.contains(*name);
        let Some(name) = names.iter().find(paused) else { return Ok(()) };
        let detail = format!(
            "this account is temporarily prevented from requesting certificates for {name}: \
             validation failed too often and is paused, end the pause at {}/unpause",
            self.base
        );
        Err(Problem::new(429, "rateLimited", detail))
    }

    /// The names of a newOrder request, sorted.
    fn names(&self, payload: &Map<String, Value>) -> Result<Vec<String>, Problem> {
        let identifiers = payload.get("identifiers").and_then(Value::as_array);
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

    /// Whether an order for these names is never done.
    pub(super) fn hangs(&self, names: &[String]) -> bool {
        let hanging = &self.settings.hanging_names;
        self.settings.never_done || names.iter().any(|name| hanging.contains(name))
    }

    pub(super) fn order(
        &mut self,
        now: Time,
        post: &Post,
        index: usize,
        account: usize,
    ) -> Result<Answer, Problem> {
        read_only(post)?;
        self.own_order(index, account)?;
        if !self.hangs(&self.orders[index].names) {
            self.orders[index].advance();
        }
        let status = self.orders[index].status(&self.authzs, now);
        let note = format!("{} {}", self.orders[index].names.join(" "), status.name());
        let answer = Answer::json(200, &self.order_json(now, index), note);
        Ok(match self.retry_after(now) {
            Some(value) if status == OrderStatus::Processing => answer.with("Retry-After", value),
            _ => answer,
        })
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
