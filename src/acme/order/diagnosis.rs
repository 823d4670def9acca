//! Why an order is invalid: its authorizations are asked, and those that the CA has not decided yet
//! are asked again. Meanwhile all challenges stay published, since a name whose challenge vanished too
//! early would fail along with the guilty one. Never answers a challenge.

use std::time::Duration;

use crate::acme::call::{CallError, retry_after};
use crate::acme::types::{AuthorizationObject, OrderObject, Status, Subproblem};
use crate::context::Context;
use crate::http::Response;
use crate::time::Instant;
use crate::url::Url;

use super::step::{AuthorizationQueue, Created, FailureDiagnosis, Step};
use super::{Order, OrderError, Refusal, look_pause};

/// No further round of questions begins after this time.
const PATIENCE: Duration = Duration::from_secs(30);

impl FailureDiagnosis {
    fn new(now: Instant, left: Vec<Url>) -> FailureDiagnosis {
        FailureDiagnosis {
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
    fn heed(&mut self, cx: &Context<'_>, asked: Option<Duration>) {
        self.not_before = self.not_before.max(cx.now.mono + asked.unwrap_or_default());
    }

    /// What is known comes to this.
    pub(super) fn verdict(self) -> OrderError {
        let FailureDiagnosis { mut refusals, problem, .. } = self;
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
    pub(super) fn diagnose(&mut self, cx: &Context<'_>, placed: Created, order: OrderObject) {
        let inquiry = FailureDiagnosis::new(cx.now.mono, placed.authorizations);
        self.inquire(cx, FailureDiagnosis { problem: order.error, ..inquiry });
    }

    /// A name was refused while the authorizations were read: the CA gets the time to look at the
    /// challenges that were answered before that.
    pub(super) fn await_answered(&mut self, cx: &Context<'_>, survey: AuthorizationQueue) {
        let AuthorizationQueue { answered, refusals, .. } = survey;
        let inquiry = FailureDiagnosis::new(cx.now.mono, answered);
        self.inquire(cx, FailureDiagnosis { refusals, patient: true, ..inquiry });
    }

    /// Goes on asking, or comes to the end.
    fn inquire(&mut self, cx: &Context<'_>, mut inquiry: FailureDiagnosis) {
        if !inquiry.left.is_empty() {
            return self.go(cx, Step::Diagnosing(inquiry));
        }
        let latest = inquiry.not_before.max(cx.now.mono);
        if inquiry.open.is_empty() || inquiry.until <= latest {
            return self.finish(Err(inquiry.verdict()));
        }
        inquiry.left = std::mem::take(&mut inquiry.open).into();
        let at = cx.now.mono + look_pause(inquiry.rounds, None);
        self.call_at = Some(at.min(inquiry.until).max(inquiry.not_before));
        inquiry.rounds += 1;
        self.step = Step::Diagnosing(inquiry);
    }

    pub(super) fn diagnosed(
        &mut self,
        cx: &Context<'_>,
        mut inquiry: FailureDiagnosis,
        response: &Response,
    ) {
        let Some(url) = inquiry.left.pop_front() else { return };
        inquiry.heed(cx, retry_after(cx.now.wall, &response.head.headers));
        let found = AuthorizationObject::parse(&response.body);
        match found.map(|found| (found.status, found)) {
            Ok((Status::Valid, _)) => {}
            Ok((Status::Invalid | Status::Other, found)) => {
                inquiry.refusals.push(Refusal::of(found));
            }
            Ok(_) | Err(_) if inquiry.patient => inquiry.open.push(url),
            Ok(_) | Err(_) => {}
        }
        self.inquire(cx, inquiry);
    }

    /// An authorization could not be asked.
    pub(super) fn not_diagnosed(
        &mut self,
        cx: &Context<'_>,
        mut inquiry: FailureDiagnosis,
        error: &CallError,
    ) {
        // A CA that does not answer must not be waited for once for each name.
        if inquiry.until <= cx.now.mono {
            return self.finish(Err(inquiry.verdict()));
        }
        inquiry.heed(cx, error.retry_after());
        let url = inquiry.left.pop_front();
        if inquiry.patient && error.is_passing() {
            inquiry.open.extend(url);
        }
        self.inquire(cx, inquiry);
    }
}
