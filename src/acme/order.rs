//! One order (RFC 8555 section 7.4), from the names to the certificate. One call at a time; a call
//! that fails in passing is made again. Whatever was published is withdrawn on every way out.
//!
//! `Creating → Authorizing ⇄ Answering → Validating → Finalizing → Collecting → Downloading`, and from
//! an order that turns invalid `→ Diagnosing`, which asks why.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::domain::Domain;
use crate::http::Response;
use crate::keys::{AccountKey, CertificateRequest, KeyType};
use crate::log::Record;
use crate::secret::Secret;
use crate::time::Instant;
use crate::turn::Turn;
use crate::url::Url;

use super::call::{CallError, Post, retry_after};
use super::jws::key_authorization;
use super::types::{AuthorizationObject, Directory, Http01, OrderObject, ProblemKind, Status};

mod error;
mod step;
#[cfg(test)]
mod tests;

pub use error::OrderError;
use step::{Placed, Step};

/// An order that is not over by then is given up.
pub const ORDER_DEADLINE: Duration = Duration::from_secs(600);
/// Failures in passing in one order at most.
const FAILURES_MAX: u32 = 8;
/// The first look at an order that the CA is working on comes after this time …
const POLL_MIN: Duration = Duration::from_millis(250);
/// … and further ones after ever longer pauses, up to this.
const POLL_MAX: Duration = Duration::from_secs(10);
/// A CA's `Retry-After` for a look is followed up to this; then the deadline decides.
const POLL_RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// A call that the CA wants made again later than this is not waited for: the whole order is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an order wants done.
#[derive(Debug)]
pub enum OrderOutput {
    /// Make this call; its answer goes to [`Order::handle_reply`].
    Call(Post),
    /// Answer this token from now on.
    Publish {
        /// The challenge's token.
        token: String,
        /// What to answer.
        key_authorization: String,
    },
    /// Answer it no longer.
    Withdraw {
        /// The challenge's token.
        token: String,
    },
    /// It is over; always the last.
    Finished(Result<Issued, OrderError>),
}

/// A certificate, straight from the CA.
#[derive(Debug)]
pub struct Issued {
    /// What it was ordered for.
    pub names: Vec<Domain>,
    /// Its private key.
    pub key: Secret,
    /// Leaf and chain, as the CA sent them.
    pub chain_pem: String,
}

/// What an order object is the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    ToFinalize,
    ForTheOrder,
}

/// An order's machine.
#[derive(Debug)]
pub struct Order {
    names: Vec<Domain>,
    deadline: Instant,
    step: Step,
    /// When the step's call is to be made; nothing while it is under way.
    call_at: Option<Instant>,
    failures: Backoff,
    published: Vec<String>,
    outputs: VecDeque<OrderOutput>,
}

impl Order {
    /// An order for these names; its first call is due at once.
    pub fn new(now: Instant, names: Vec<Domain>) -> Order {
        Order {
            names,
            deadline: now + ORDER_DEADLINE,
            step: Step::Creating,
            call_at: Some(now),
            failures: Backoff::default(),
            published: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// What it is for.
    pub fn names(&self) -> &[Domain] {
        &self.names
    }

    /// Makes the call that is due. The deadline is checked first.
    pub fn handle_timeout(&mut self, now: Instant, directory: &Directory) {
        if matches!(self.step, Step::Over) {
            return;
        }
        if self.deadline <= now {
            return self.finish(Err(OrderError::DeadlineExceeded { step: self.step.name() }));
        }
        if self.call_at.is_some_and(|at| at <= now) {
            self.call_at = None;
            let post = self.step.post(&self.names, directory);
            self.outputs.extend(post.map(OrderOutput::Call));
        }
    }

    /// When it has to do something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Over => None,
            _ => Some(self.call_at.map_or(self.deadline, |at| at.min(self.deadline))),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<OrderOutput> {
        self.outputs.pop_front()
    }

    /// Takes in what came of the last call.
    pub fn handle_reply(
        &mut self,
        turn: &mut Turn<'_>,
        key: &AccountKey,
        reply: Result<Response, CallError>,
    ) {
        let step = std::mem::replace(&mut self.step, Step::Over);
        if matches!(step, Step::Over) {
            return;
        }
        let response = match reply {
            Ok(response) => response,
            Err(error) => return self.failed(turn, step, error),
        };
        match step {
            Step::Over => {}
            Step::Creating => self.created(turn, &response),
            Step::Authorizing { placed, left } => {
                self.authorization(turn, key, placed, left, &response);
            }
            Step::Answering { placed, left, .. } => self.next_authorization(turn, placed, left),
            Step::Validating { placed, looks } => self.looked(turn, placed, looks, &response),
            Step::Diagnosing { left, reason } => self.diagnosed(turn, left, reason, &response),
            Step::Finalizing { placed, request, looks } => {
                self.finalized(turn, placed, request, looks, Asked::ToFinalize, &response);
            }
            Step::Collecting { placed, request, looks } => {
                self.finalized(turn, placed, request, looks, Asked::ForTheOrder, &response);
            }
            Step::Downloading { certificate, key } => {
                self.downloaded(turn, certificate, key, &response);
            }
        }
    }

    /// Goes on to a step whose call is due at once.
    fn go(&mut self, turn: &Turn<'_>, step: Step) {
        self.step = step;
        self.call_at = Some(turn.now.mono);
    }

    fn created(&mut self, turn: &mut Turn<'_>, response: &Response) {
        let location = response.head.headers.first("location");
        let url = location.and_then(|text| Url::parse(text).ok());
        let (url, order) = match (url, OrderObject::parse(&response.body)) {
            (Some(url), Ok(order)) => (url, order),
            (None, _) => return self.finish(Err(OrderError::NoLocation)),
            (_, Err(error)) => {
                return self.failed(turn, Step::Creating, CallError::Malformed(error));
            }
        };
        let placed = Placed {
            url,
            authorizations: order.authorizations.clone(),
            finalize: order.finalize.clone(),
        };
        match order.status {
            Status::Pending => {
                let left = order.authorizations.into();
                self.next_authorization(turn, placed, left);
            }
            Status::Ready => self.finalize(turn, placed),
            Status::Invalid => self.diagnose(turn, &placed, order),
            // An order of an earlier run that the CA hands back: its key is gone, so it is of no use.
            _ => self.finish(Err(OrderError::NotOurs)),
        }
    }

    fn next_authorization(&mut self, turn: &mut Turn<'_>, placed: Placed, left: VecDeque<Url>) {
        if left.is_empty() {
            self.step = Step::Validating { placed, looks: 0 };
            self.call_at = Some(turn.now.mono + POLL_MIN);
        } else {
            self.go(turn, Step::Authorizing { placed, left });
        }
    }

    fn authorization(
        &mut self,
        turn: &mut Turn<'_>,
        key: &AccountKey,
        placed: Placed,
        mut left: VecDeque<Url>,
        response: &Response,
    ) {
        let authorization = match AuthorizationObject::parse(&response.body) {
            Ok(authorization) => authorization,
            Err(error) => {
                let step = Step::Authorizing { placed, left };
                return self.failed(turn, step, CallError::Malformed(error));
            }
        };
        let Some(url) = left.pop_front() else { return };
        match (authorization.status, &authorization.http01) {
            (Status::Valid, _) => self.next_authorization(turn, placed, left),
            (Status::Pending, Some(http01)) => {
                self.publish(http01, key);
                if http01.status == Status::Pending {
                    let challenge = http01.url.clone();
                    let authorization = url;
                    self.go(turn, Step::Answering { placed, authorization, left, challenge });
                } else {
                    self.next_authorization(turn, placed, left);
                }
            }
            (Status::Pending, None) => {
                let identifier = authorization.identifier;
                self.finish(Err(OrderError::NoHttp01 { identifier }));
            }
            _ => self.finish(Err(OrderError::invalid(authorization))),
        }
    }

    fn publish(&mut self, http01: &Http01, key: &AccountKey) {
        let token = http01.token.clone();
        if self.published.contains(&token) {
            return;
        }
        let key_authorization = key_authorization(&token, &key.public);
        self.published.push(token.clone());
        self.outputs.push_back(OrderOutput::Publish { token, key_authorization });
    }

    /// The order was looked at while the CA validates.
    fn looked(&mut self, turn: &mut Turn<'_>, placed: Placed, looks: u32, response: &Response) {
        let again = Step::Validating { placed: placed.clone(), looks: looks + 1 };
        let order = match OrderObject::parse(&response.body) {
            Ok(order) => order,
            Err(error) => return self.failed(turn, again, CallError::Malformed(error)),
        };
        match order.status {
            Status::Ready => {
                self.withdraw_all();
                self.finalize(turn, placed);
            }
            Status::Valid => self.finish(Err(OrderError::NotOurs)),
            Status::Invalid => self.diagnose(turn, &placed, order),
            Status::Pending | Status::Processing => self.wait(turn, looks, again, response),
            Status::Other => self.finish(Err(OrderError::UnknownStatus)),
        }
    }

    fn finalize(&mut self, turn: &mut Turn<'_>, placed: Placed) {
        match turn.keys.certificate_request(&self.names, KeyType::P256) {
            Ok(request) => self.go(turn, Step::Finalizing { placed, request, looks: 0 }),
            Err(error) => self.finish(Err(OrderError::Call(CallError::Key(error)))),
        }
    }

    /// The order came, in the answer to finalize or to a look after that.
    fn finalized(
        &mut self,
        turn: &mut Turn<'_>,
        placed: Placed,
        request: CertificateRequest,
        looks: u32,
        asked: Asked,
        response: &Response,
    ) {
        let again =
            Step::Collecting { placed: placed.clone(), request: request.clone(), looks: looks + 1 };
        let order = match OrderObject::parse(&response.body) {
            Ok(order) => order,
            Err(error) => return self.failed(turn, again, CallError::Malformed(error)),
        };
        match (order.status, order.certificate.clone()) {
            (Status::Valid, Some(certificate)) => {
                self.go(turn, Step::Downloading { certificate, key: request.key });
            }
            (Status::Invalid, _) => self.diagnose(turn, &placed, order),
            // The request to finalize was lost. One that was just answered is given its time.
            (Status::Ready, _) if asked == Asked::ForTheOrder => {
                self.go(turn, Step::Finalizing { placed, request, looks: looks + 1 });
            }
            (Status::Ready | Status::Pending | Status::Processing | Status::Valid, _) => {
                self.wait(turn, looks, again, response);
            }
            (Status::Other, _) => self.finish(Err(OrderError::UnknownStatus)),
        }
    }

    /// Looks again later: when the CA says, else after ever longer pauses.
    fn wait(&mut self, turn: &Turn<'_>, looks: u32, step: Step, response: &Response) {
        self.step = step;
        let asked = retry_after(turn.now.wall, &response.head.headers);
        self.call_at = Some(turn.now.mono + look_pause(looks, asked));
    }

    fn downloaded(
        &mut self,
        turn: &mut Turn<'_>,
        certificate: Url,
        key: Secret,
        response: &Response,
    ) {
        match String::from_utf8(response.body.clone()) {
            Ok(chain_pem) if chain_pem.contains("-----BEGIN CERTIFICATE-----") => {
                let names = self.names.clone();
                self.finish(Ok(Issued { names, key, chain_pem }));
            }
            _ => {
                let malformed = super::types::Malformed {
                    object: "certificate",
                    member: "PEM chain",
                    near: super::types::beginning(&response.body),
                };
                let step = Step::Downloading { certificate, key };
                self.failed(turn, step, CallError::Malformed(malformed));
            }
        }
    }

    /// The order is invalid: its authorizations know why, when it does not say so itself.
    fn diagnose(&mut self, turn: &mut Turn<'_>, placed: &Placed, order: OrderObject) {
        self.withdraw_all();
        let reason = OrderError::Invalid { identifier: None, problem: order.error };
        let left = placed.authorizations.clone().into();
        self.go(turn, Step::Diagnosing { left, reason });
    }

    fn diagnosed(
        &mut self,
        turn: &mut Turn<'_>,
        mut left: VecDeque<Url>,
        reason: OrderError,
        response: &Response,
    ) {
        left.pop_front();
        match AuthorizationObject::parse(&response.body) {
            Ok(found) if found.status == Status::Invalid && found.error.is_some() => {
                self.finish(Err(OrderError::invalid(found)));
            }
            _ if left.is_empty() => self.finish(Err(reason)),
            _ => self.go(turn, Step::Diagnosing { left, reason }),
        }
    }

    /// A call failed: it is made again when that can help, else the order is over.
    fn failed(&mut self, turn: &mut Turn<'_>, step: Step, error: CallError) {
        if let Step::Diagnosing { reason, .. } = step {
            return self.finish(Err(reason));
        }
        let asked = error.retry_after();
        // What became of a call whose answer was lost, the object that it was about knows; so does an
        // order that is not ready after all.
        let not_ready = error.problem_kind() == Some(ProblemKind::OrderNotReady);
        let step = match step {
            Step::Finalizing { placed, request, looks } if not_ready || error.is_passing() => {
                Step::Collecting { placed, request, looks }
            }
            Step::Answering { placed, authorization, mut left, .. } if error.is_passing() => {
                left.push_front(authorization);
                Step::Authorizing { placed, left }
            }
            other if error.is_passing() => other,
            _ => return self.finish(Err(OrderError::Call(error))),
        };
        let pause = self.failures.pause(turn.keys);
        let long = asked.is_some_and(|pause| pause > PATIENCE);
        if self.failures.failures() > FAILURES_MAX || long {
            return self.finish(Err(OrderError::Call(error)));
        }
        let first = self.names.first().map(Domain::as_str).unwrap_or_default();
        let line = Record::warn("order", "a call failed, trying again").with("name", first);
        turn.log(line.with("step", step.name()).with("error", &error));
        self.step = step;
        self.call_at = Some(turn.now.mono + pause.max(asked.unwrap_or_default()));
    }

    fn withdraw_all(&mut self) {
        let withdrawn = self.published.drain(..).map(|token| OrderOutput::Withdraw { token });
        self.outputs.extend(withdrawn);
    }

    /// The only way out.
    fn finish(&mut self, result: Result<Issued, OrderError>) {
        self.withdraw_all();
        self.step = Step::Over;
        self.call_at = None;
        self.outputs.push_back(OrderOutput::Finished(result));
    }
}

/// The pause before the next look, after `looks` looks.
fn look_pause(looks: u32, asked: Option<Duration>) -> Duration {
    match asked {
        Some(asked) => asked.clamp(POLL_MIN, POLL_RETRY_AFTER_MAX),
        None => (POLL_MIN * 2u32.pow(looks.min(8))).min(POLL_MAX),
    }
}
