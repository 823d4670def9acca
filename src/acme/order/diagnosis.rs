//! Why an order is invalid: its authorizations are asked, and those that the CA has not decided yet
//! are asked again. Meanwhile all challenges stay published, since a name whose challenge vanished too
//! early would fail along with the guilty one. Never answers a challenge.

use std::time::Duration;

use crate::acme::call::{CallError, retry_after};
use crate::acme::types::{AuthorizationObject, OrderObject, Status, Subproblem};
use crate::http::Response;
use crate::time::Instant;
use crate::turn::Turn;
use crate::url::Url;

use super::step::{Inquiry, Placed, Step, Survey};
use super::{Order, OrderError, Refusal, look_pause};

/// No further round of questions begins after this time.
const PATIENCE: Duration = Duration::from_secs(30);

impl Inquiry {
    fn new(now: Instant, left: Vec<Url>) -> Inquiry {
        Inquiry {
            patient: left.len() > 1,
            left: left.into(),
            open: Vec::new(),
            rounds: 0,
            not_before: now,
            until: now + PATIENCE,
            refusals: Vec::new(),
            problem: None,
        }
    }

    /// Takes in a `Retry-After`, which holds for all.
    fn heed(&mut self, turn: &Turn<'_>, asked: Option<Duration>) {
        self.not_before = self.not_before.max(turn.now.mono + asked.unwrap_or_default());
    }

    /// What is known comes to this.
    pub(super) fn verdict(self) -> OrderError {
        let Inquiry { mut refusals, problem, .. } = self;
        if let [Refusal { problem: reason @ None, .. }] = refusals.as_mut_slice() {
            reason.clone_from(&problem);
        }
        let told = |name: &String| {
            let names = refusals.iter().filter_map(|refusal| refusal.identifier.as_ref());
            names.into_iter().any(|told| told.eq_ignore_ascii_case(name))
        };
        let tells_more = |sub: &Subproblem| sub.identifier.as_ref().is_some_and(|name| !told(name));
        let more = problem.iter().flat_map(|problem| &problem.subproblems).any(tells_more);
        if refusals.is_empty() || more {
            refusals.push(Refusal { identifier: None, problem });
        }
        OrderError::refused(refusals)
    }
}

impl Order {
    /// The order is invalid: its authorizations know why.
    pub(super) fn diagnose(&mut self, turn: &Turn<'_>, placed: Placed, order: OrderObject) {
        let inquiry = Inquiry::new(turn.now.mono, placed.authorizations);
        self.inquire(turn, Inquiry { problem: order.error, ..inquiry });
    }

    /// A name was refused while the authorizations were read: the CA gets the time to look at the
    /// challenges that were answered before that.
    pub(super) fn await_answered(&mut self, turn: &Turn<'_>, survey: Survey) {
        let Survey { answered, refusals, .. } = survey;
        let inquiry = Inquiry::new(turn.now.mono, answered);
        self.inquire(turn, Inquiry { refusals, patient: true, ..inquiry });
    }

    /// Goes on asking, or comes to the end.
    fn inquire(&mut self, turn: &Turn<'_>, mut inquiry: Inquiry) {
        if !inquiry.left.is_empty() {
            return self.go(turn, Step::Diagnosing(inquiry));
        }
        let latest = inquiry.not_before.max(turn.now.mono);
        if inquiry.open.is_empty() || inquiry.until <= latest {
            return self.finish(Err(inquiry.verdict()));
        }
        inquiry.left = std::mem::take(&mut inquiry.open).into();
        let at = turn.now.mono + look_pause(inquiry.rounds, None);
        self.call_at = Some(at.min(inquiry.until).max(inquiry.not_before));
        inquiry.rounds += 1;
        self.step = Step::Diagnosing(inquiry);
    }

    pub(super) fn diagnosed(&mut self, turn: &Turn<'_>, mut inquiry: Inquiry, response: &Response) {
        let Some(url) = inquiry.left.pop_front() else { return };
        inquiry.heed(turn, retry_after(turn.now.wall, &response.head.headers));
        let found = AuthorizationObject::parse(&response.body);
        match found.map(|found| (found.status, found)) {
            Ok((Status::Valid, _)) => {}
            Ok((Status::Invalid | Status::Other, found)) => {
                inquiry.refusals.push(Refusal::of(found));
            }
            Ok(_) | Err(_) if inquiry.patient => inquiry.open.push(url),
            Ok(_) | Err(_) => {}
        }
        self.inquire(turn, inquiry);
    }

    /// An authorization could not be asked.
    pub(super) fn not_diagnosed(
        &mut self,
        turn: &Turn<'_>,
        mut inquiry: Inquiry,
        error: &CallError,
    ) {
        // A CA that does not answer must not be waited for once for each name.
        if inquiry.until <= turn.now.mono {
            return self.finish(Err(inquiry.verdict()));
        }
        inquiry.heed(turn, error.retry_after());
        let url = inquiry.left.pop_front();
        if inquiry.patient && error.is_passing() {
            inquiry.open.extend(url);
        }
        self.inquire(turn, inquiry);
    }
}
