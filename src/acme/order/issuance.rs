//! The second half of an order: it is finalized, and the certificate fetched, with the chain that is
//! preferred where the CA offers it. A certificate that is there is never lost for want of a chain.

use std::collections::VecDeque;

use crate::acme::call::{CallError, retry_after};
use crate::acme::link;
use crate::acme::types::{Malformed, OrderObject, Status, beginning};
use crate::context::Context;
use crate::http::Response;
use crate::keys::CertificateRequest;
use crate::log::{Record, message};
use crate::pki::{same_leaf, topmost_issuer};
use crate::time::UnixTime;
use crate::url::Url;

use super::step::{Created, Step};
use super::{Issued, Order, OrderError, OrderOutput, Resume, look_pause};

/// Other chains that are fetched at most.
const ALTERNATES_MAX: usize = 10;

/// What an order object is the answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    ToFinalize,
    /// After the CA has refused to finalize it, with what it said.
    ForTheOrder(Option<CallError>),
}

impl Order {
    /// The CA has the order: what it is finalized with is made and kept, unless an earlier run has done so.
    /// Whether it could be made; else the order is over.
    pub(super) fn keep(&mut self, cx: &mut Context<'_>, url: &Url) -> bool {
        if self.certificate.is_some() {
            return true;
        }
        match cx.keys.certificate_request(&self.request.names, self.request.key_type) {
            Ok(certificate) => {
                let resume = Resume { url: url.clone(), certificate: Some(certificate.clone()) };
                self.certificate = Some(certificate);
                self.outputs.push_back(OrderOutput::Created(resume));
                true
            }
            Err(error) => {
                self.finish(Err(OrderError::Call(CallError::Key(error))));
                false
            }
        }
    }

    /// [`OrderOutput::Created`] is on the disk, or cannot be.
    pub fn kept(&mut self, cx: &Context<'_>) {
        self.is_kept = true;
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::Keeping(placed) => self.finalize(cx, placed),
            step => self.step = step,
        }
    }

    pub(super) fn finalize(&mut self, cx: &Context<'_>, placed: Created) {
        if self.is_kept {
            self.outputs.push_back(OrderOutput::Finalizing);
            self.go(cx, Step::Finalizing { placed, looks: 0 });
        } else {
            (self.step, self.call_at) = (Step::Keeping(placed), None);
        }
    }

    /// The order came, in the answer to finalize or to a look after that.
    pub(super) fn finalized(
        &mut self,
        cx: &mut Context<'_>,
        placed: Created,
        looks: u32,
        asked: Asked,
        response: &Response,
    ) {
        let again = Step::Polling { placed: placed.clone(), looks: looks + 1, refused: None };
        let order = match OrderObject::parse(&response.body) {
            Ok(order) => order,
            Err(error) => return self.failed(cx, again, CallError::Malformed(error)),
        };
        match (order.status, order.certificate.clone()) {
            (Status::Valid, Some(certificate)) => {
                self.go(cx, Step::Downloading { certificate, replaced: placed.replaced });
            }
            (Status::Invalid, _) => self.diagnose(cx, placed, order),
            // The request to finalize was refused, or lost. One that was just answered is given its time.
            (Status::Ready, _) if asked != Asked::ToFinalize => match asked {
                Asked::ForTheOrder(Some(error)) => self.give_up(cx, again, error),
                _ => self.go(cx, Step::Finalizing { placed, looks: looks + 1 }),
            },
            (Status::Ready | Status::Pending | Status::Processing | Status::Valid, _) => {
                self.wait(cx, looks, again, response);
            }
            (Status::Other, _) => self.finish(Err(OrderError::UnknownStatus)),
        }
    }

    /// Looks again later: when the CA says, else after ever longer pauses.
    pub(super) fn wait(&mut self, cx: &Context<'_>, looks: u32, step: Step, response: &Response) {
        self.step = step;
        let asked = retry_after(cx.now.wall, &response.head.headers);
        self.call_at = Some(cx.now.mono + look_pause(looks, asked));
    }

    pub(super) fn downloaded(
        &mut self,
        cx: &mut Context<'_>,
        certificate: Url,
        replaced: Option<String>,
        response: &Response,
    ) {
        let Some(chain_pem) = chain(response) else {
            let malformed = Malformed {
                object: "certificate",
                member: "PEM chain",
                near: beginning(&response.body),
            };
            let step = Step::Downloading { certificate, replaced };
            return self.failed(cx, step, CallError::Malformed(malformed));
        };
        let topmost = topmost_issuer(&chain_pem);
        let told_time = response.head.headers.first("date").and_then(UnixTime::from_http_date);
        let names = self.request.names.clone();
        let Some(CertificateRequest { key, .. }) = self.certificate.take() else {
            return self.finish(Err(OrderError::NotOurs));
        };
        let issued = Issued { names, key, chain_pem, replaced, told_time };
        match &self.request.preferred_chain {
            Some(preferred) if topmost.as_ref() != Some(preferred) => {
                let mut left = link::alternates(&response.head.headers, &certificate);
                left.truncate(ALTERNATES_MAX);
                let offered = vec![in_words(topmost)];
                self.choose(cx, Step::SelectingChain { issued, left: left.into(), offered });
            }
            _ => self.finish(Ok(issued)),
        }
    }

    /// Asks for the next chain, when one is left.
    fn choose(&mut self, cx: &mut Context<'_>, step: Step) {
        match step {
            Step::SelectingChain { issued, left, offered } if left.is_empty() => {
                self.use_default(cx, issued, &offered, None);
            }
            step => self.go(cx, step),
        }
    }

    /// Another chain came.
    pub(super) fn chosen(
        &mut self,
        cx: &mut Context<'_>,
        issued: Issued,
        mut left: VecDeque<Url>,
        mut offered: Vec<String>,
        response: &Response,
    ) {
        left.pop_front();
        let chain_pem = chain(response).filter(|pem| same_leaf(pem, &issued.chain_pem));
        let topmost = chain_pem.as_deref().and_then(topmost_issuer);
        match chain_pem {
            Some(chain_pem) if topmost == self.request.preferred_chain => {
                self.finish(Ok(Issued { chain_pem, ..issued }));
            }
            _ => {
                offered.push(in_words(topmost));
                self.choose(cx, Step::SelectingChain { issued, left, offered });
            }
        }
    }

    /// The CA's own choice serves, though it is not what the operator prefers.
    pub(super) fn use_default(
        &mut self,
        cx: &mut Context<'_>,
        issued: Issued,
        offered: &[String],
        error: Option<&CallError>,
    ) {
        let line = Record::warn("order", message::CHAIN_NOT_OFFERED);
        let line = line.with("name", self.first_name());
        let line = line.with("preferred", self.request.preferred_chain.as_deref().unwrap_or(""));
        let line = line.with("offered", offered.join("; "));
        cx.log(match error {
            Some(error) => line.with("error", error),
            None => line,
        });
        self.finish(Ok(issued));
    }
}

/// The body of an answer, when it looks like a chain.
fn chain(response: &Response) -> Option<String> {
    let text = String::from_utf8(response.body.clone()).ok()?;
    text.contains("-----BEGIN CERTIFICATE-----").then_some(text)
}

fn in_words(issuer: Option<String>) -> String {
    issuer.unwrap_or_else(|| "(no name)".into())
}
