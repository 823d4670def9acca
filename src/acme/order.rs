//! One order (RFC 8555 section 7.4), from the names to the certificate. One call at a time; a call
//! that fails in passing is made again. Whatever was published is withdrawn on every way out, and not
//! before the CA is through with it.
//!
//! `Creating or Resuming → Authorizing ⇄ Answering → Validating (→ Keeping) → Finalizing → Collecting →
//! Downloading (→ Choosing)`, and from an order with a name that is refused `→ Diagnosing`, which asks
//! for the reasons. An order that an earlier run has finalized begins at Collecting.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::domain::Domain;
use crate::http::Response;
use crate::keys::{AccountKey, CertificateRequest, KeyType};
use crate::log::{Record, message};
use crate::secret::Secret;
use crate::time::{Instant, UnixTime};
use crate::url::Url;

use super::call::{CallError, Post};
use super::types::{Directory, ProblemKind};

mod authorization;
mod blame;
mod diagnosis;
mod error;
mod issuance;
mod step;
#[cfg(test)]
mod tests;
mod too_many;

pub use error::{OrderError, Refusal};
use issuance::Asked;
use step::Step;
pub use too_many::NAMES_MAX;

/// An order that is not over by then is given up.
pub const ORDER_DEADLINE: Duration = Duration::from_secs(600);
/// Failures in passing in one order at most, before it is finalized.
const FAILURES_MAX: u32 = 8;
/// The first look at an order that the CA is working on comes after this time …
const POLL_MIN: Duration = Duration::from_millis(250);
/// … and further ones after ever longer pauses, up to this.
const POLL_MAX: Duration = Duration::from_secs(10);
/// A CA's `Retry-After` for a look is followed up to this; then the deadline decides.
const POLL_RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// A call that the CA wants made again later than this is not waited for: the whole order is. Once it
/// is finalized, this does not hold: the certificate is there, or may be.
const PATIENCE: Duration = Duration::from_secs(60);
/// Some CAs answer 404 at a URL that they have just given, until all their machines know it: that passes
/// within this time after their last good answer …
const REPLICATION: Duration = Duration::from_secs(60);
/// … and where a new order is made within this time: the CA may have moved.
const REPLICATION_NEW_ORDER: Duration = Duration::from_secs(10);
/// So long before its deadline a finalized order makes its last try, whatever the CA asked for.
const LAST_TRY: Duration = Duration::from_secs(30);

/// What is to be ordered, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRequest {
    /// What the certificate is to be for.
    pub names: Vec<Domain>,
    /// The CA's name for the certificate that is to be replaced (RFC 9773 section 5).
    pub replaces: Option<String>,
    /// One of the CA's profiles.
    pub profile: Option<String>,
    /// The type of the certificate's key.
    pub key_type: KeyType,
    /// The common name of the topmost issuer that the chain should have.
    pub preferred_chain: Option<String>,
    /// An order of an earlier run for the same names, to resume it.
    pub resume: Option<Resume>,
}

/// An order of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Where it is.
    pub url: Url,
    /// The key and the request that it is finalized with, where the earlier run has kept them.
    pub certificate: Option<CertificateRequest>,
}

impl OrderRequest {
    /// A first certificate for these names, without further options.
    pub fn plain(names: Vec<Domain>) -> OrderRequest {
        OrderRequest {
            names,
            replaces: None,
            profile: None,
            key_type: KeyType::default(),
            preferred_chain: None,
            resume: None,
        }
    }
}

/// What an order wants done.
#[derive(Debug)]
pub enum OrderOutput {
    /// Make this call; its answer goes to [`Order::handle_reply`].
    Call(Post),
    /// The CA has made the order. It can be resumed with this, which is to be kept on the disk before the
    /// order is finalized: [`Order::kept`] is waited for.
    Created(Resume),
    /// The CA is asked to issue from now on: it may do so whatever becomes of the order here.
    Finalizing,
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
    /// The certificate that the CA takes it to replace, by the CA's name.
    pub replaced: Option<String>,
    /// What time it was by the CA's clock when it sent it, where it told (RFC 9110 section 6.6.1).
    pub told_time: Option<UnixTime>,
}

/// An order's machine.
#[derive(Debug)]
pub struct Order {
    request: OrderRequest,
    deadline: Instant,
    step: Step,
    /// When the step's call is to be made; nothing while it is under way.
    call_at: Option<Instant>,
    failures: Backoff,
    /// When the CA last gave a good answer; at first, when the order began.
    answered_at: Instant,
    published: Vec<String>,
    /// The key of the certificate and the request for it, once there is an order.
    certificate: Option<CertificateRequest>,
    /// These are on the disk.
    is_kept: bool,
    outputs: VecDeque<OrderOutput>,
}

impl Order {
    /// An order for these names; its first call is due at once.
    pub fn new(now: Instant, request: OrderRequest) -> Order {
        let step = match &request.resume {
            Some(Resume { url, .. }) => Step::Resuming { url: url.clone() },
            None => Step::Creating { replaces: request.replaces.clone() },
        };
        let certificate = request.resume.as_ref().and_then(|resume| resume.certificate.clone());
        Order {
            is_kept: certificate.is_some(),
            certificate,
            request,
            deadline: now + ORDER_DEADLINE,
            step,
            call_at: Some(now),
            failures: Backoff::default(),
            answered_at: now,
            published: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// What it is for.
    pub fn names(&self) -> &[Domain] {
        &self.request.names
    }

    /// What was asked for.
    pub fn request(&self) -> &OrderRequest {
        &self.request
    }

    /// Whether it is not to be left to another run: the CA may be making an order whose URL is not known yet,
    /// or the certificate.
    pub fn cannot_be_resumed(&self) -> bool {
        match self.step {
            Step::Creating { .. }
            | Step::Finalizing { .. }
            | Step::Polling { .. }
            | Step::Downloading { .. }
            | Step::SelectingChain { .. } => true,
            Step::Resuming { .. }
            | Step::Authorizing { .. }
            | Step::Answering { .. }
            | Step::Validating { .. }
            | Step::Keeping(_)
            | Step::Diagnosing(_)
            | Step::Over => false,
        }
    }

    /// Makes the call that is due. The deadline is checked first.
    pub fn handle_timeout(&mut self, now: Instant, directory: &Directory) {
        if matches!(self.step, Step::Over) {
            return;
        }
        if self.deadline <= now {
            return self.too_late();
        }
        if self.call_at.is_some_and(|at| at <= now) {
            self.call_at = None;
            let csr = self.certificate.as_ref().map_or(&[][..], |it| &it.csr);
            let post = self.step.post((&self.request, csr), directory);
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
        cx: &mut Context<'_>,
        key: &AccountKey,
        reply: Result<Response, CallError>,
    ) {
        let step = std::mem::replace(&mut self.step, Step::Over);
        if matches!(step, Step::Over) {
            return;
        }
        let response = match reply {
            Ok(response) => response,
            Err(error) => return self.failed(cx, step, error),
        };
        self.answered_at = cx.now.mono;
        match step {
            Step::Over => {}
            Step::Creating { replaces } => self.created(cx, replaces, &response),
            Step::Resuming { url } => self.resumed(cx, url, &response),
            Step::Authorizing { placed, survey } => {
                self.authorization(cx, key, placed, survey, &response);
            }
            Step::Answering { placed, survey, .. } => {
                self.next_authorization(cx, placed, survey);
            }
            Step::Validating { placed, looks } => self.looked(cx, placed, looks, &response),
            Step::Diagnosing(inquiry) => self.diagnosed(cx, inquiry, &response),
            Step::Keeping(placed) => self.step = Step::Keeping(placed),
            Step::Finalizing { placed, looks } => {
                self.finalized(cx, placed, looks, Asked::ToFinalize, &response);
            }
            Step::Polling { placed, looks, refused } => {
                self.finalized(cx, placed, looks, Asked::ForTheOrder(refused), &response);
            }
            Step::Downloading { certificate, replaced } => {
                self.downloaded(cx, certificate, replaced, &response);
            }
            Step::SelectingChain { issued, left, offered } => {
                self.chosen(cx, issued, left, offered, &response);
            }
        }
    }

    /// Goes on to a step whose call is due at once.
    fn go(&mut self, cx: &Context<'_>, step: Step) {
        self.step = step;
        self.call_at = Some(cx.now.mono);
    }

    /// A call failed: it is made again when that can help, else the order is over.
    fn failed(&mut self, cx: &mut Context<'_>, step: Step, error: CallError) {
        let asked = error.retry_after();
        let not_there_yet = self.is_not_there_yet(cx.now.mono, &step, &error);
        let passing = not_there_yet || step.is_passing(&error);
        // What became of a call whose answer was lost, the object that it was about knows; so does an
        // order that is not ready after all.
        let not_ready = error.problem_kind() == Some(ProblemKind::OrderNotReady);
        let step = match step {
            Step::Diagnosing(inquiry) => return self.not_diagnosed(cx, inquiry, &error),
            Step::Creating { replaces: Some(_) } if may_be_for_replaces(&error) => {
                let line = Record::info("order", message::REPLACES_REFUSED);
                cx.log(line.with("name", self.first_name()).with("error", &error));
                return self.go(cx, Step::Creating { replaces: None });
            }
            Step::Finalizing { placed, looks } if not_ready || passing => {
                Step::Polling { placed, looks, refused: None }
            }
            // Whether that was the last word the order says: what was finalized is issued all the same.
            Step::Finalizing { placed, looks } if error.status().is_some() => {
                Step::Polling { placed, looks, refused: Some(error.clone()) }
            }
            Step::Answering { placed, mut survey, authorization, .. } if passing => {
                survey.left.push_front(authorization);
                Step::Authorizing { placed, survey }
            }
            // An earlier run has answered it too, and the CA was done with it in this very moment.
            Step::Answering { placed, mut survey, authorization, .. }
                if self.request.resume.is_some()
                    && is_about_the_order(&error)
                    && survey.doubted.as_ref() != Some(&authorization) =>
            {
                survey.doubted = Some(authorization.clone());
                survey.left.push_front(authorization);
                return self.go(cx, Step::Authorizing { placed, survey });
            }
            other if passing => other,
            other => return self.give_up(cx, other, error),
        };
        let Some(at) = self.next_try(cx, &step, asked) else {
            return self.give_up(cx, step, error);
        };
        let line = Record::warn("order", message::CALL_FAILED);
        let line = line.with("name", self.first_name());
        cx.log(line.with("step", step.name()).with("error", &error));
        self.step = step;
        self.call_at = Some(at);
    }

    /// Whether the CA does not know yet what it has just made. An order of an earlier run it should know, and
    /// other chains and reasons are not worth it.
    fn is_not_there_yet(&self, now: Instant, step: &Step, error: &CallError) -> bool {
        let patience = match step {
            Step::Resuming { .. } | Step::SelectingChain { .. } | Step::Diagnosing(_) => {
                return false;
            }
            Step::Creating { .. } => REPLICATION_NEW_ORDER,
            _ => REPLICATION,
        };
        error.status() == Some(404) && now < self.answered_at + patience
    }

    /// When a call that failed in passing is made again, if at all.
    fn next_try(
        &mut self,
        cx: &mut Context<'_>,
        step: &Step,
        asked: Option<Duration>,
    ) -> Option<Instant> {
        let now = cx.now.mono;
        let pause = self.failures.pause(cx.keys).max(asked.unwrap_or_default());
        if step.is_finalized() {
            let left = self.deadline.since(now).saturating_sub(LAST_TRY);
            return (!left.is_zero()).then(|| now + pause.min(left));
        }
        let long = asked.is_some_and(|asked| asked > PATIENCE);
        (self.failures.failures() <= FAILURES_MAX && !long).then(|| now + pause)
    }

    /// A call failed for good.
    fn give_up(&mut self, cx: &mut Context<'_>, step: Step, error: CallError) {
        match step {
            Step::SelectingChain { issued, offered, .. } => {
                self.use_default(cx, issued, &offered, Some(&error));
            }
            Step::Resuming { .. } if is_about_the_order(&error) => {
                self.finish(Err(OrderError::NotOurs));
            }
            Step::Creating { .. } => self.finish(Err(OrderError::Call(error))),
            _ => self.finish(Err(OrderError::after_creation(error))),
        }
    }

    /// The deadline has come. What is there by then counts.
    fn too_late(&mut self) {
        let result = match std::mem::replace(&mut self.step, Step::Over) {
            Step::SelectingChain { issued, .. } => Ok(issued),
            Step::Diagnosing(inquiry) => Err(inquiry.verdict()),
            step => Err(OrderError::DeadlineExceeded { step: step.name() }),
        };
        self.finish(result);
    }

    fn first_name(&self) -> &str {
        self.request.names.first().map(Domain::as_str).unwrap_or_default()
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

/// The pause before the next look, after `looks` looks. What the CA asks for can only make it longer:
/// a `Retry-After` of nothing, or of a date that is over, must not have it asked without end.
fn look_pause(looks: u32, asked: Option<Duration>) -> Duration {
    let growing = (POLL_MIN * 2u32.pow(looks.min(8))).min(POLL_MAX);
    growing.max(asked.unwrap_or_default().min(POLL_RETRY_AFTER_MAX))
}

/// Any failed check of `replaces` makes a CA refuse the whole order (RFC 9773 section 5), so whatever
/// it refuses for a reason that the next try would not meet all the same may be about that.
fn may_be_for_replaces(error: &CallError) -> bool {
    let other = matches!(
        error.problem_kind(),
        None | Some(
            ProblemKind::RateLimited
                | ProblemKind::AccountDoesNotExist
                | ProblemKind::UserActionRequired
        )
    );
    !other && !error.is_passing()
}

/// Whether the CA knows no such order, or what belongs to it, or one that is none. Neither a rate limit
/// nor an account that it has forgotten says anything about it.
fn is_about_the_order(error: &CallError) -> bool {
    let other = matches!(
        error.problem_kind(),
        Some(ProblemKind::RateLimited | ProblemKind::AccountDoesNotExist)
    );
    match error {
        CallError::Malformed(_) | CallError::Status { status: ..300, .. } => true,
        CallError::Problem { .. } | CallError::Status { .. } => !other && !error.is_passing(),
        CallError::Transport { .. } | CallError::Key(_) => false,
    }
}
