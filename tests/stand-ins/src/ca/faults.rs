//! What a test lets go wrong at one step of the protocol: the request is refused, answered late, not
//! at all, or wrongly. Only here is an answer spoilt; the rest of the CA does as it should.

use rcgen::{PublicKeyData, SanType};
use serde_json::Value;

use super::objects::Stage;
use super::problem::Problem;
use super::resource::Resource;
use super::settings::RetryAfter;
use super::{Answer, Ca};
use crate::http::{Body, Reply, Request};
use crate::peer::Time;
use crate::pki::{self, Pki};
use crate::seeded::Signer;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A request by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The directory is read.
    Directory,
    /// A nonce is asked for.
    NewNonce,
    /// An account is made, or looked for.
    NewAccount,
    /// An account is read or changed.
    Account,
    /// An order is made.
    NewOrder,
    /// An authorization is read.
    Authorization,
    /// A challenge is answered.
    Challenge,
    /// An order is read.
    Order,
    /// An order is finalized.
    Finalize,
    /// A certificate is fetched.
    Certificate,
    /// Renewal information is read.
    RenewalInfo,
}

impl Step {
    /// All of them, in the order in which a client comes by.
    pub const ALL: [Step; 11] = [
        Step::Directory,
        Step::NewNonce,
        Step::NewAccount,
        Step::Account,
        Step::NewOrder,
        Step::Authorization,
        Step::Challenge,
        Step::Order,
        Step::Finalize,
        Step::Certificate,
        Step::RenewalInfo,
    ];

    /// In the words of RFC 8555.
    pub const fn name(self) -> &'static str {
        match self {
            Step::Directory => "directory",
            Step::NewNonce => "new-nonce",
            Step::NewAccount => "new-account",
            Step::Account => "account",
            Step::NewOrder => "new-order",
            Step::Authorization => "authorization",
            Step::Challenge => "challenge",
            Step::Order => "order",
            Step::Finalize => "finalize",
            Step::Certificate => "certificate",
            Step::RenewalInfo => "renewal-info",
        }
    }

    pub(super) fn of(resource: Option<Resource>) -> Option<Step> {
        Some(match resource? {
            Resource::Directory => Step::Directory,
            Resource::NewNonce => Step::NewNonce,
            Resource::NewAccount => Step::NewAccount,
            Resource::Account(_) => Step::Account,
            Resource::NewOrder => Step::NewOrder,
            Resource::Authz(_) => Step::Authorization,
            Resource::Challenge(..) => Step::Challenge,
            Resource::Order(_) => Step::Order,
            Resource::Finalize(_) => Step::Finalize,
            Resource::Certificate(_) | Resource::Alternate(..) => Step::Certificate,
            Resource::RenewalInfo => Step::RenewalInfo,
            Resource::Terms
            | Resource::RevokeCert
            | Resource::KeyChange
            | Resource::AccountOrders(_) => return None,
        })
    }
}

/// Something that a test lets go wrong; the first that fits a request is used up.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Where.
    pub step: Step,
    /// What.
    pub effect: Effect,
    /// How often; at 0 it is spent.
    pub times: u32,
    /// The test's own number for it; [`Ca::fired`] has it each time that it fires.
    pub tag: usize,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The request is not carried out, but refused.
    Refuse(Problem, RetryAfter),
    /// The request is not carried out; a proxy in front answers, without a nonce: an HTML page, or
    /// nothing at all.
    Page {
        /// The status of the answer.
        status: u16,
        /// Whether there is a page.
        html: bool,
        /// When to come back.
        retry_after: RetryAfter,
    },
    /// The request is carried out; the answer comes so many milliseconds later.
    Late(u64),
    /// The request is carried out; no answer comes.
    Lost,
    /// The answer has no nonce.
    WithoutNonce,
    /// The answer is a good one by its status, but has this in place of its body.
    Body(&'static str),
    /// A member of the object in the answer is another one, or missing.
    Member(&'static str, Option<Value>),
    /// The challenge is answered, and the validation fails from one of several places, or from all.
    Unproved {
        /// From one place alone.
        one_place: bool,
    },
    /// The order has become invalid, by the CA's own decision.
    Invalid,
    /// The certificate's chain is of no use.
    Chain(BadChain),
    /// The text of the answer is written again.
    Rewritten(fn(&str) -> String),
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BadChain {
    /// PEM that is none.
    Garbage,
    /// Behind the leaf comes a certificate that did not issue it.
    Unlinked,
    /// Behind the leaf come the intermediate, whose signature is spoilt, and the root: their names
    /// link.
    Forged,
    /// The chain of another certificate, for other names and another key.
    Another,
    /// The leaf is for other names.
    Names,
    /// The leaf is for another key.
    Key,
    /// The leaf has expired.
    Expired,
    /// The leaf is not valid yet.
    Future,
    /// The leaf has a critical extension with this object identifier.
    Critical(&'static [u64]),
}

impl Ca {
    /// The tags of the faults that fired, in that order.
    pub fn fired(&self) -> &[usize] {
        &self.fired
    }

    /// The first fault that waits for such a request.
    pub(super) fn fault_at(&self, step: Option<Step>) -> Option<usize> {
        let fits = |fault: &Fault| fault.times > 0 && Some(fault.step) == step;
        self.settings.faults.iter().position(fits)
    }

    pub(super) fn fire(&mut self, index: usize) -> Effect {
        let fault = &mut self.settings.faults[index];
        fault.times -= 1;
        self.fired.push(fault.tag);
        fault.effect.clone()
    }

    /// The answer to a request for which a fault waits, whether it was carried out or not.
    pub(super) fn faulty(&mut self, now: Time, request: &Request, index: usize) -> Answer {
        let effect = self.settings.faults[index].effect.clone();
        match effect {
            Effect::Refuse(mut problem, retry_after) => {
                problem.retry_after = retry_after.value(now);
                self.fire(index);
                problem.into()
            }
            Effect::Page { status, html, retry_after } => {
                self.fire(index);
                let reply = if html { Reply::html(status, "Fault") } else { Reply::empty(status) };
                let answer = Answer::new(reply, "fault");
                match retry_after.value(now) {
                    Some(value) => answer.with("Retry-After", value),
                    None => answer,
                }
            }
            Effect::Unproved { one_place } => {
                self.unproved = Some(one_place);
                let answer = self.answer(now, request);
                if self.unproved.take().is_none() {
                    self.fire(index);
                }
                answer
            }
            Effect::Invalid => {
                if self.invalidate(request) {
                    self.fire(index);
                }
                self.answer(now, request)
            }
            effect => {
                let answer = self.answer(now, request);
                self.spoilt(now, request, (index, &effect), answer)
            }
        }
    }

    /// The answer as the effect leaves it; only a good one can be spoilt.
    fn spoilt(
        &mut self,
        now: Time,
        request: &Request,
        (index, effect): (usize, &Effect),
        mut answer: Answer,
    ) -> Answer {
        if !(200..300).contains(&answer.reply.status) {
            return answer;
        }
        let body = match effect {
            Effect::Late(_) | Effect::Lost | Effect::WithoutNonce => None,
            Effect::Body(text) => Some((*text).to_string()),
            Effect::Member(name, value) => with_member(&answer.reply, name, value.as_ref()),
            Effect::Chain(bad) => self.bad_chain(now, request, *bad),
            Effect::Rewritten(rewrite) => text(&answer.reply).map(|text| rewrite(&text)),
            Effect::Refuse(..) | Effect::Page { .. } => return answer,
            Effect::Unproved { .. } | Effect::Invalid => return answer,
        };
        match (body, effect) {
            (None, Effect::Member(..) | Effect::Chain(_) | Effect::Rewritten(_)) => return answer,
            (None, _) => {}
            (Some(body), _) => answer.reply.body = Body::Counted(body.into_bytes()),
        }
        self.fire(index);
        answer
    }

    /// Makes an end of an order that is not over; whether it was such a one.
    fn invalidate(&mut self, request: &Request) -> bool {
        let Some(Resource::Order(index)) = self.resource(&request.target) else { return false };
        let Some(order) = self.orders.get_mut(index) else { return false };
        if matches!(order.stage, Stage::Valid { .. } | Stage::Failed { .. }) {
            return false;
        }
        let error = Problem::new(403, "unauthorized", "a second look found a reason to refuse");
        order.stage = Stage::Failed { error };
        true
    }

    /// A chain of no use in place of the certificate that is asked for.
    fn bad_chain(&mut self, now: Time, request: &Request, bad: BadChain) -> Option<String> {
        let Some(Resource::Certificate(index)) = self.resource(&request.target) else {
            return None;
        };
        let issued = self.issued.get(index)?;
        let key = self.records.get(index)?.key.clone();
        let (leaf, names) = (pki::pem("CERTIFICATE", &issued.der), issued.names.clone());
        let other = Signer::from_seed(index as u64);
        let (earlier, later) = (back(now, 100 * DAY_MS), now.plus_ms(3 * DAY_MS));
        Some(match bad {
            BadChain::Garbage => {
                "-----BEGIN CERTIFICATE-----\nthis is no base64\n-----END CERTIFICATE-----\n".into()
            }
            BadChain::Unlinked => {
                let stranger = Pki::new(index as u64, "Stranger", now);
                leaf + &pki::pem("CERTIFICATE", stranger.intermediate_der())
            }
            BadChain::Forged => {
                let mut intermediate = self.pki.intermediate_der().to_vec();
                // The end of the signature.
                *intermediate.last_mut()? ^= 1;
                leaf + &pki::pem("CERTIFICATE", &intermediate) + &self.pki.root_pem()
            }
            BadChain::Another => self.leaf(&other, &["another.example".into()], now)?,
            BadChain::Names => self.leaf(&key, &["another.example".into()], now)?,
            BadChain::Key => self.leaf(&other, &names, now)?,
            BadChain::Expired => self.leaf(&key, &names, earlier)?,
            BadChain::Future => self.leaf(&key, &names, later)?,
            BadChain::Critical(oid) => {
                self.pki.set_critical_extension(Some(oid));
                let chain = self.leaf(&key, &names, now);
                self.pki.set_critical_extension(None);
                chain?
            }
        })
    }

    /// A chain for this key and these names that is in no record, valid from about `now` for two
    /// days.
    fn leaf(&mut self, key: &impl PublicKeyData, names: &[String], now: Time) -> Option<String> {
        let name = |name: &String| name.as_str().try_into().map(SanType::DnsName).ok();
        let names: Option<Vec<SanType>> = names.iter().map(name).collect();
        let lifetime_seconds = u32::try_from(2 * DAY_MS / 1000).ok()?;
        Some(self.pki.issue(key, &names?, now, lifetime_seconds).ok()?.chain_pem)
    }
}

/// The text of a reply.
fn text(reply: &Reply) -> Option<String> {
    let Body::Counted(body) = &reply.body else { return None };
    String::from_utf8(body.clone()).ok()
}

fn back(now: Time, ms: u64) -> Time {
    Time { unix_ms: now.unix_ms - i64::try_from(ms).unwrap_or(0), ..now }
}

/// The JSON of a reply with another member, or without it; nothing where it would be no other.
fn with_member(reply: &Reply, name: &str, value: Option<&Value>) -> Option<String> {
    let Body::Counted(body) = &reply.body else { return None };
    let mut object: Value = serde_json::from_slice(body).ok()?;
    let members = object.as_object_mut()?;
    match value {
        Some(value) => members.insert(name.to_string(), value.clone()),
        None => Some(members.remove(name)?),
    };
    Some(object.to_string())
}
