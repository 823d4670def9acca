//! The first half of an order: the CA has it, its authorizations are read, their challenges published
//! and answered. Once one name is known to be refused, no further challenge is answered.

use std::collections::BTreeSet;

use crate::acme::call::CallError;
use crate::acme::jws::key_authorization;
use crate::acme::types::{AuthorizationObject, Http01, OrderObject, Status, location};
use crate::context::Context;
use crate::domain::Domain;
use crate::http::Response;
use crate::keys::AccountKey;
use crate::url::Url;

use super::issuance::Asked;
use super::step::{AuthorizationQueue, Created, Step};
use super::{Order, OrderError, OrderOutput, POLL_MIN, Refusal};

impl Order {
    pub(super) fn created(
        &mut self,
        cx: &mut Context<'_>,
        replaces: Option<String>,
        response: &Response,
    ) {
        let url = response.head.headers.first("location").and_then(location);
        let (url, order) = match (url, OrderObject::parse(&response.body)) {
            (Some(url), Ok(order)) => (url, order),
            (None, _) => return self.finish(Err(OrderError::NoLocation)),
            (_, Err(error)) => {
                let step = Step::Creating { replaces };
                return self.failed(cx, step, CallError::Malformed(error));
            }
        };
        match order.status {
            Status::Pending | Status::Ready => {
                if self.keep(cx, &url) {
                    self.go_on(cx, url, order, replaces);
                }
            }
            Status::Invalid => self.diagnose(cx, placed(url, &order, replaces), order),
            // An order of an earlier run that the CA hands back: its key is gone, so it is of no use.
            _ => self.finish(Err(OrderError::NotOurs)),
        }
    }

    /// The order of an earlier run was looked at: once it is finalized, it is of use only with its key.
    pub(super) fn resumed(&mut self, cx: &mut Context<'_>, url: Url, response: &Response) {
        let order = match OrderObject::parse(&response.body) {
            Ok(order) => order,
            Err(error) => {
                return self.failed(cx, Step::Resuming { url }, CallError::Malformed(error));
            }
        };
        let theirs: BTreeSet<String> =
            order.identifiers.iter().map(|name| name.to_ascii_lowercase()).collect();
        let ours = self.request.names.iter().map(Domain::to_string).collect();
        let replaced = order.replaces.clone();
        match order.status {
            Status::Pending | Status::Ready if theirs == ours => {
                if self.keep(cx, &url) {
                    self.go_on(cx, url, order, replaced);
                }
            }
            Status::Processing | Status::Valid if theirs == ours && self.is_kept => {
                let placed = placed(url, &order, replaced);
                self.outputs.push_back(OrderOutput::Finalizing);
                self.finalized(cx, placed, 0, Asked::ForTheOrder(None), response);
            }
            _ => self.finish(Err(OrderError::NotOurs)),
        }
    }

    /// An order that is pending or ready.
    fn go_on(
        &mut self,
        cx: &mut Context<'_>,
        url: Url,
        order: OrderObject,
        replaced: Option<String>,
    ) {
        let placed = placed(url, &order, replaced);
        if order.status == Status::Ready {
            return self.finalize(cx, placed);
        }
        let survey = AuthorizationQueue {
            left: order.authorizations.into(),
            ..AuthorizationQueue::default()
        };
        self.next_authorization(cx, placed, survey);
    }

    pub(super) fn next_authorization(
        &mut self,
        cx: &Context<'_>,
        placed: Created,
        survey: AuthorizationQueue,
    ) {
        if !survey.left.is_empty() {
            self.go(cx, Step::Authorizing { placed, survey });
        } else if survey.refusals.is_empty() {
            self.step = Step::Validating { placed, looks: 0 };
            self.call_at = Some(cx.now.mono + POLL_MIN);
        } else {
            self.await_answered(cx, survey);
        }
    }

    pub(super) fn authorization(
        &mut self,
        cx: &mut Context<'_>,
        key: &AccountKey,
        placed: Created,
        mut survey: AuthorizationQueue,
        response: &Response,
    ) {
        let authorization = match AuthorizationObject::parse(&response.body) {
            Ok(authorization) => authorization,
            Err(error) => {
                let step = Step::Authorizing { placed, survey };
                return self.failed(cx, step, CallError::Malformed(error));
            }
        };
        let Some(url) = survey.left.pop_front() else { return };
        // It is read a second time when the answer to its challenge was lost.
        survey.answered.retain(|answered| *answered != url);
        match (authorization.status, &authorization.http01) {
            (Status::Valid, _) => {}
            (Status::Pending, Some(_)) if !survey.refusals.is_empty() => {}
            (Status::Pending, Some(http01)) => {
                self.publish(http01, key);
                survey.answered.push(url.clone());
                if http01.status == Status::Pending {
                    let (authorization, challenge) = (url, http01.url.clone());
                    let step = Step::Answering { placed, survey, authorization, challenge };
                    return self.go(cx, step);
                }
            }
            (Status::Pending, None) => {
                survey.refusals.push(Refusal::no_http01(authorization.identifier));
            }
            _ => survey.refusals.push(Refusal::of(authorization)),
        }
        self.next_authorization(cx, placed, survey);
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
    pub(super) fn looked(
        &mut self,
        cx: &mut Context<'_>,
        placed: Created,
        looks: u32,
        response: &Response,
    ) {
        let again = Step::Validating { placed: placed.clone(), looks: looks + 1 };
        let order = match OrderObject::parse(&response.body) {
            Ok(order) => order,
            Err(error) => return self.failed(cx, again, CallError::Malformed(error)),
        };
        match order.status {
            Status::Ready => {
                self.withdraw_all();
                self.finalize(cx, placed);
            }
            Status::Valid => self.finish(Err(OrderError::NotOurs)),
            Status::Invalid => self.diagnose(cx, placed, order),
            Status::Pending | Status::Processing => self.wait(cx, looks, again, response),
            Status::Other => self.finish(Err(OrderError::UnknownStatus)),
        }
    }
}

fn placed(url: Url, order: &OrderObject, replaced: Option<String>) -> Created {
    let (authorizations, finalize) = (order.authorizations.clone(), order.finalize.clone());
    Created { url, authorizations, finalize, replaced }
}
