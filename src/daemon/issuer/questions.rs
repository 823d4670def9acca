//! What is asked of the CA beside orders: when to renew (RFC 9773), and to revoke (RFC 8555 section
//! 7.6). Part of the issuer's machine. Never decides when to ask.

use std::collections::VecDeque;

use crate::acme::account::revocation;
use crate::acme::call::{CallError, Post};
use crate::acme::renewal_info::{self, NoSuggestion};
use crate::acme::types::ProblemKind;
use crate::context::Context;
use crate::domain::Domain;
use crate::http::{Method, Request, Response};
use crate::keys::AccountKey;

use super::{Call, Issuer, IssuerOutput, Owner, Stage};

/// Questions on their way at most: after a start there may be thousands at once.
const QUESTIONS_MAX: usize = 4;
/// `unspecified` (RFC 5280 section 5.3.1): the operator gave none.
const REASON: u8 = 0;

/// Questions about renewals.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: VecDeque<(Domain, String)>,
    under_way: usize,
}

/// A certificate that is to be revoked.
#[derive(Debug)]
pub(super) struct Revocation {
    leaf_der: Vec<u8>,
    /// The certificate's own key, where it can sign: it may revoke, too.
    own_key: Option<AccountKey>,
    state: Revoking,
    /// The CA did not know the account once already.
    remade: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Revoking {
    /// For the account.
    Waiting,
    ByAccount,
    ByOwnKey,
}

impl Questions {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Issuer {
    /// Whether the CA says when to renew; unknown until its directory was read.
    pub fn offers_advice(&self) -> Option<bool> {
        self.directory.as_ref().map(|(directory, _)| directory.renewal_info.is_some())
    }

    /// Asks when a certificate is to be renewed; the answer comes as [`IssuerOutput::Advised`].
    pub fn ask(&mut self, name: Domain, cert_id: String) {
        self.questions.waiting.push_back((name, cert_id));
        self.ask_on();
    }

    /// Sends the questions that there is room for.
    pub(super) fn ask_on(&mut self) {
        let base = self.directory.as_ref().and_then(|(it, _)| it.renewal_info.clone());
        while self.questions.under_way < QUESTIONS_MAX
            && let Some((name, cert_id)) = self.questions.waiting.pop_front()
        {
            match base.as_ref().and_then(|base| renewal_info::url(base, &cert_id)) {
                Some(url) => {
                    self.questions.under_way += 1;
                    let request = Request::new(Method::Get, url);
                    self.send(Call::Question { name, cert_id }, request);
                }
                None => {
                    let text = "the CA offers no renewal information".into();
                    let error = NoSuggestion { text, temporary: false, retry_after: None };
                    let answer = Err(error);
                    self.outputs.push_back(IssuerOutput::Advised { name, cert_id, answer });
                }
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        cx: &mut Context<'_>,
        name: Domain,
        cert_id: String,
        reply: Result<Response, CallError>,
    ) {
        self.questions.under_way -= 1;
        let answer = renewal_info::read(cx.now.wall, reply);
        self.outputs.push_back(IssuerOutput::Advised { name, cert_id, answer });
        self.ask_on();
    }

    /// Revokes a certificate; how it ends comes as [`IssuerOutput::Revoked`].
    pub fn revoke(&mut self, cx: &mut Context<'_>, leaf_der: Vec<u8>, own_key: Option<AccountKey>) {
        let state = Revoking::Waiting;
        self.revocation = Some(Revocation { leaf_der, own_key, state, remade: false });
        self.go_on(cx);
    }

    pub(super) fn begin_revocation(&mut self, cx: &mut Context<'_>) {
        let Some(revocation) = &mut self.revocation else { return };
        if revocation.state != Revoking::Waiting {
            return;
        }
        match &self.stage {
            Stage::Registered => {
                revocation.state = Revoking::ByAccount;
                self.send_revocation(cx, false);
            }
            Stage::Stuck(reason) => {
                let reason = reason.advised();
                self.end_revocation(Err(reason));
            }
            _ => {}
        }
    }

    fn send_revocation(&mut self, cx: &mut Context<'_>, with_key: bool) {
        let (Some(wanted), Some((directory, _))) = (&self.revocation, &self.directory) else {
            return;
        };
        match revocation(directory, &wanted.leaf_der, REASON) {
            Some(post) => {
                self.post(cx, Owner::Revocation, Post { with_key, ..post }, 0);
            }
            None => self.end_revocation(Err("the CA offers no revocation".into())),
        }
    }

    /// Whose key signs a call of that owner.
    pub(super) fn signing_key(&self, owner: Owner) -> Option<&AccountKey> {
        let revocation = self.revocation.as_ref();
        let own = revocation.filter(|revocation| revocation.state == Revoking::ByOwnKey);
        match (owner, own) {
            (Owner::Revocation, Some(revocation)) => revocation.own_key.as_ref(),
            _ => self.key.as_ref(),
        }
    }

    pub(super) fn revoked(&mut self, cx: &mut Context<'_>, reply: Result<Response, CallError>) {
        let Some(revocation) = &mut self.revocation else { return };
        let Err(error) = reply else {
            self.account_works();
            return self.end_revocation(Ok(()));
        };
        let by_account = revocation.state == Revoking::ByAccount;
        match error.problem_kind() {
            Some(ProblemKind::AlreadyRevoked) => self.end_revocation(Ok(())),
            Some(ProblemKind::AccountDoesNotExist) if by_account && !revocation.remade => {
                revocation.remade = true;
                revocation.state = Revoking::Waiting;
                self.account_is_gone(cx);
            }
            // Another account ordered it, or there is none; the certificate's own key has the right as
            // well.
            Some(ProblemKind::Unauthorized | ProblemKind::AccountDoesNotExist)
                if by_account && revocation.own_key.is_some() =>
            {
                revocation.state = Revoking::ByOwnKey;
                self.send_revocation(cx, true);
            }
            _ => self.end_revocation(Err(error.to_string())),
        }
    }

    fn end_revocation(&mut self, result: Result<(), String>) {
        self.revocation = None;
        self.outputs.push_back(IssuerOutput::Revoked(result));
    }
}
