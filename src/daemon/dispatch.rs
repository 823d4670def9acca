//! What the certificates and the issuer want of the other parts, carried to them. Part of the daemon. Never
//! decides.

use std::time::Duration;

use crate::client::{ClientEvent, Delivery, Outgoing};
use crate::context::Context;
use crate::machine::{Change, Load, Trust};

use super::Daemon;
use super::certificates::CertificatesOutput;
use super::issuer::{CallFailure, IssuerOutput};
use super::model::Urgency;
use super::owner::{CallId, Owner};
use super::storage::Purpose;

/// A CA that has not answered a request by then is asked again.
const ACME_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer of a CA that is read, in bytes; a certificate chain is a few KiB.
const ACME_BODY_BYTES_MAX: usize = 1024 * 1024;

impl Daemon {
    pub(super) fn certificates_want(&mut self, cx: &mut Context<'_>, output: CertificatesOutput) {
        match output {
            CertificatesOutput::Read(name) => self.storage.load(Load::Certificate(name)),
            CertificatesOutput::Order(_) if self.end_by.is_some() => {}
            CertificatesOutput::Order(new) => self.issuer.order(cx, *new),
            CertificatesOutput::TryRoutes(name, domains) => {
                self.routes.start(cx, &mut self.client, &name, &domains);
            }
            CertificatesOutput::Begin { order, replaces } => {
                self.issuer.begin(cx, order, replaces);
            }
            CertificatesOutput::Kept(order) => self.issuer.kept(cx, order),
            CertificatesOutput::Cancel(order) => self.issuer.cancel(cx, order),
            CertificatesOutput::Ask { name, cert_id } => self.issuer.ask(name, cert_id),
            CertificatesOutput::Write(name, pem) => {
                self.routes.forget(cx, &mut self.client, &name);
                self.note_debt(cx);
                let purpose = Purpose::Certificate(name.clone());
                self.storage.store(purpose, Change::Certificate(name, pem));
            }
            CertificatesOutput::Archive(name) => {
                self.note_debt(cx);
                self.storage.store(Purpose::Archive(name.clone()), Change::Archive(name));
            }
            CertificatesOutput::Changed(written) => {
                self.note_debt(cx);
                match written {
                    Some((name, is_new)) => {
                        let catalog = &self.certificates;
                        self.reloader.certificate_changed(cx, catalog, &name, is_new);
                    }
                    None => self.reloader.changed(cx),
                }
            }
            CertificatesOutput::AskTime => self.issuer.ask_time(cx),
            CertificatesOutput::NamesMax(max) => self.limit_names(cx, max),
            CertificatesOutput::Reject(name, pem, reason) => {
                let purpose = Purpose::Reject(name.clone());
                self.storage.store(purpose, Change::Reject { name, pem, reason });
            }
        }
    }

    pub(super) fn issuer_wants(&mut self, cx: &mut Context<'_>, output: IssuerOutput) {
        match output {
            IssuerOutput::Send { call, request } => {
                let outgoing = Outgoing {
                    request,
                    trust: Trust::Acme,
                    timeout: Some(ACME_TIMEOUT),
                    silence: None,
                    address: None,
                    delivery: Delivery::Whole { body_bytes_max: ACME_BODY_BYTES_MAX },
                };
                self.client.send(cx, Owner::Issuer(call), outgoing);
            }
            IssuerOutput::StoreAccountKey(pem) => {
                self.storage.store(Purpose::AccountKey, Change::AccountKey(pem));
            }
            IssuerOutput::Publish { token, key_authorization } => {
                self.front.responder.publish(token.clone(), key_authorization.clone());
                let change = Change::Publish { token, key_authorization };
                self.storage.store(Purpose::Challenge, change);
            }
            IssuerOutput::Withdraw { token } => {
                self.front.responder.withdraw(&token);
                if !self.stale_challenges.contains(&token) {
                    self.storage.store(Purpose::Challenge, Change::Withdraw { token });
                }
            }
            IssuerOutput::Begins { order } => self.certificates.begins(cx, order),
            IssuerOutput::Created { order, resume } => {
                self.certificates.placed(cx, order, resume);
            }
            IssuerOutput::Finalizing { order } => self.certificates.finalizing(order),
            IssuerOutput::Advised { name, cert_id, answer } => {
                self.advised(cx, (&name, &cert_id), answer);
            }
            IssuerOutput::Offers { renewal_info } => self.certificates.advice_offered(renewal_info),
            IssuerOutput::ClockCompared { ahead_ms } => {
                self.certificates.clock_compared(cx, ahead_ms);
            }
            IssuerOutput::Account(account) => {
                self.ca().account = Some(account);
                self.journal.touch(cx.now.mono, Urgency::Now);
            }
            IssuerOutput::NotBefore(at) => {
                self.ca().not_before = Some(at);
                self.journal.touch(cx.now.mono, Urgency::Now);
            }
            IssuerOutput::Refused(_) => self.run_mode.refuse(),
            IssuerOutput::Revoked(result) => self.revoked(cx, result),
            IssuerOutput::Finished { order, result } => {
                self.progress.ended(result.is_ok());
                self.certificates.finished(cx, order, result);
            }
        }
    }

    /// The CA has answered a call, or there is no answer.
    pub(super) fn ca_answered(&mut self, cx: &mut Context<'_>, call: CallId, event: ClientEvent) {
        let result = match event {
            ClientEvent::Response(response) => Ok(response),
            ClientEvent::Failed(error) => {
                let lasting = error.is_lasting();
                Err(CallFailure { text: error.complaint(Trust::Acme), lasting })
            }
            // Only streamed requests and lookups have other events.
            _ => return,
        };
        self.issuer.handle_response(cx, call, result);
    }
}
