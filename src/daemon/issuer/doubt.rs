//! Whether the CA has an account for the key: asked where that is not known, or doubted. Part of the
//! issuer's machine. Never makes an account, and never uses a binding, which many CAs take only once.

use std::time::Duration;

use crate::acme::account;
use crate::acme::call::CallError;
use crate::acme::types::ProblemKind;
use crate::context::Context;
use crate::http::Response;
use crate::log::Record;

use super::account::barred;
use super::{Issuer, Stage};

impl Issuer {
    /// The account's URL is not known. A key that the CA may have seen can have one, and a registration
    /// that is repeated along with its binding be refused: so the CA is asked for it before.
    pub(super) fn look_for_account(&mut self, cx: &Context<'_>, pause: Duration) {
        let asks = self.binding.is_some() && !self.key_is_unseen;
        self.stage = if asks { Stage::Asking } else { Stage::Registering };
        self.call_at = Some(cx.now.mono + pause);
    }

    /// The CA refused an order in a way that may mean the account.
    pub(super) fn account_is_doubtful(&mut self, cx: &mut Context<'_>) {
        if matches!(self.stage, Stage::Registered) {
            cx.log(Record::warn("acme", "the CA refused the account, asking what is wrong"));
            self.enter(cx, Stage::Asking);
        }
    }

    /// The CA was asked for the account. One that is known is doubted.
    pub(super) fn looked_for(&mut self, cx: &mut Context<'_>, reply: Result<Response, CallError>) {
        let reply =
            reply.and_then(|response| account::read(&response).map_err(CallError::Malformed));
        let known = self.known.as_ref().map(|known| known.url.clone());
        match reply {
            Ok(account) if account.ended.is_none() && Some(&account.url) == known.as_ref() => {
                self.is_good(cx, Record::info("acme", "the account is valid all the same"));
            }
            Ok(account) => self.is_there(cx, account),
            Err(error) if error.problem_kind() == Some(ProblemKind::AccountDoesNotExist) => {
                self.known = None;
                self.said_registered = false;
                self.enter(cx, Stage::Registering);
            }
            Err(error) if known.is_some() => self.doubt_remains(cx, &error),
            Err(error) if error.is_passing() || error.is_rate_limit() => {
                self.try_again(cx, &error, error.hint());
            }
            // It answers nobody without a binding, or does not know the question.
            Err(error) => {
                let line = Record::info("acme", "the CA does not say whether there is an account");
                cx.log(line.with("error", &error));
                self.enter(cx, Stage::Registering);
            }
        }
    }

    /// A doubted account was not told. A CA refuses one that is deactivated as `unauthorized` (RFC 8555
    /// section 7.3.6); where it binds accounts, that may as well be for want of a binding. Any other
    /// refusal is about the question: the account goes on, and each order fails for itself.
    fn doubt_remains(&mut self, cx: &mut Context<'_>, error: &CallError) {
        let required = self.directory.as_ref().is_some_and(|(it, _)| it.external_account_required);
        match error {
            CallError::Problem { problem, .. }
                if problem.kind() == ProblemKind::Unauthorized
                    && self.binding.is_none()
                    && !required =>
            {
                self.get_stuck(cx, barred(&problem.detail));
            }
            error => {
                let line = Record::warn("acme", "the CA does not say what is wrong, going on");
                self.is_good(cx, line.with("error", error).hinted(error.hint()));
            }
        }
    }

    fn is_good(&mut self, cx: &mut Context<'_>, line: Record) {
        cx.log(line);
        self.stage = Stage::Registered;
        self.call_at = None;
        self.go_on(cx);
    }
}
