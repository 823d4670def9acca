//! When the program is to end by itself: `--once` when everything is up to date or cannot be brought
//! there now, `--revoke` when the certificate is revoked and out of service. Part of the daemon; a
//! daemon that serves has no one-shot run.
//!
//! Revocation: `Reading → Revoking → Archiving → Reloading`

use std::time::Duration;

use crate::acme::renewal_info::{NoSuggestion, Suggestion};
use crate::config::Mode;
use crate::context::Context;
use crate::domain::Domain;
use crate::hint::{Hint, advised};
use crate::log::{Record, message};
use crate::machine::{Change, StoreError, StoreErrorKind};
use crate::pki::Bundle;
use crate::secret::Secret;
use crate::time::{Instant, Now};

use super::Daemon;
use super::storage::Purpose;

mod advice;

use advice::AdviceWait;

/// A one-shot run gives a peer up after so many failures in a row.
const FAILURES_MAX: u32 = 3;
/// A reload that is pending for longer is not waited for: shared storage is up to date by then.
const RELOAD_PATIENCE: Duration = Duration::from_secs(120);
/// Done.
const DONE: u8 = 0;
/// Could not be done.
const FAILED: u8 = 1;
/// The command line asks for what cannot be had.
const USAGE: u8 = 2;

/// What the process lives for.
#[derive(Debug)]
pub(super) struct RunMode {
    kind: Kind,
    /// How it has ended, once that is known.
    verdict: Option<u8>,
}

#[derive(Debug)]
enum Kind {
    Serve,
    Once(AdviceWait),
    Revoke { name: Domain, archived: bool },
}

impl RunMode {
    pub(super) fn new(mode: &Mode) -> RunMode {
        let kind = match mode {
            Mode::Serve => Kind::Serve,
            Mode::Once => Kind::Once(AdviceWait::default()),
            Mode::Revoke(name) => Kind::Revoke { name: name.clone(), archived: false },
        };
        RunMode { kind, verdict: None }
    }

    /// Whether Marathon is followed and certificates are kept.
    pub(super) fn follows(&self) -> bool {
        !matches!(self.kind, Kind::Revoke { .. })
    }

    /// The certificate to revoke.
    pub(super) fn to_revoke(&self) -> Option<&Domain> {
        match &self.kind {
            Kind::Revoke { name, .. } => Some(name),
            Kind::Serve | Kind::Once(_) => None,
        }
    }

    /// Whether it lives for as long as it is let.
    pub(super) fn serves(&self) -> bool {
        matches!(self.kind, Kind::Serve)
    }

    /// The storage is another instance's: a one-shot run is not begun a second time.
    pub(super) fn lease_lost(&mut self, cx: &mut Context<'_>) {
        if !self.serves() {
            cx.log(
                Record::error("main", message::GIVEN_UP).with("reason", message::ANOTHER_IS_ACTIVE),
            );
            self.verdict = Some(FAILED);
        }
    }

    /// The exit status when a signal ends the process before the one-shot run is done.
    pub(super) fn interrupted(&self) -> u8 {
        if self.serves() { DONE } else { FAILED }
    }

    /// The operator's choices cannot be carried out; why was said.
    pub(super) fn refuse(&mut self) {
        self.verdict = Some(USAGE);
    }

    /// When it ends though an answer is missing.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Once(wait) => wait.poll_timeout(),
            Kind::Serve | Kind::Revoke { .. } => None,
        }
    }
}

impl Daemon {
    /// The status to end with, when it is time to end.
    pub(super) fn run_mode_over(&mut self, cx: &mut Context<'_>) -> Option<u8> {
        if self.run_mode.verdict.is_some() {
            return self.run_mode.verdict;
        }
        let done = match &self.run_mode.kind {
            Kind::Serve => return None,
            Kind::Once(_) => self.is_up_to_date(cx),
            Kind::Revoke { archived, .. } => *archived,
        };
        // What is left to remember is written at the end.
        if done && self.reloader.is_clean() {
            return Some(self.summary(cx));
        }
        let reason = self.hopeless(cx.now, done)?;
        cx.log(Record::error("main", message::GIVEN_UP).with("reason", reason));
        Some(FAILED)
    }

    /// Whether everything is done that can be done now, with what the CA says of renewals.
    fn is_up_to_date(&mut self, cx: &Context<'_>) -> bool {
        let Kind::Once(wait) = &mut self.run_mode.kind else { return false };
        let (certificates, now) = (&self.certificates, cx.now);
        let offered = self.issuer.offers_advice();
        let start = self.started.unwrap_or(now.wall);
        // Asked in every iteration: all are looked through only once nothing is in hand.
        let awaits = !certificates.is_at_work()
            && offered != Some(false)
            && certificates.awaits_advice(start, now.wall);
        if !awaits {
            wait.rest();
            return certificates.is_idle(now.wall);
        }
        let directory = offered.is_none().then(|| {
            let problem = self.issuer.status().problem.unwrap_or_default();
            (self.issuer.failures(), problem.advised())
        });
        !wait.goes_on(now.mono, directory) && certificates.is_idle(now.wall)
    }

    /// The CA has said when to renew a certificate, or has not.
    pub(super) fn advised(
        &mut self,
        cx: &mut Context<'_>,
        (name, cert_id): (&Domain, &str),
        answer: Result<Suggestion, NoSuggestion>,
    ) {
        if let Kind::Once(wait) = &mut self.run_mode.kind {
            wait.answered(&answer);
        }
        self.certificates.advised(cx, name, cert_id, answer);
    }

    /// The last line of a one-shot run that came to its end.
    fn summary(&self, cx: &mut Context<'_>) -> u8 {
        if let Kind::Once(wait) = &self.run_mode.kind
            && let Some(error) = wait.error()
        {
            let line = message::WINDOWS_UNKNOWN;
            cx.log(Record::warn("renewal", line).with("error", error));
        }
        let lacking: Vec<String> =
            self.certificates.unsatisfied(cx.now.wall).map(ToString::to_string).collect();
        if lacking.is_empty() {
            cx.log(Record::info("main", message::UP_TO_DATE));
            return DONE;
        }
        let line = Record::error("main", message::CERTIFICATES_MISSING);
        cx.log(line.with("names", lacking.join(",")));
        FAILED
    }

    /// Why waiting any longer makes no sense for a one-shot run.
    fn hopeless(&self, Now { mono, wall: now }: Now, done: bool) -> Option<String> {
        if self.storage.is_anothers() {
            return Some(message::ANOTHER_IS_ACTIVE.into());
        }
        let trouble = self.storage.write_trouble();
        if let Some(trouble) = trouble.filter(|_| self.storage.failures() >= FAILURES_MAX) {
            return Some(format!(
                "the storage: {}",
                advised(trouble, Hint::of_storage(trouble.kind))
            ));
        }
        if self.watcher.failures() >= FAILURES_MAX {
            let problem = self.watcher.status().problem.clone().unwrap_or_default();
            return Some(format!("Marathon: {}", problem.advised()));
        }
        // Its word on renewals is waited for otherwise, and alone is no reason.
        let has_orders = || !self.run_mode.follows() || !self.certificates.is_idle(now);
        if !done && self.issuer.failures() >= FAILURES_MAX && has_orders() {
            let problem = self.issuer.status().problem.unwrap_or_default();
            return Some(format!("the CA: {}", problem.advised()));
        }
        let late = self.reloader.pending_for(mono) >= RELOAD_PATIENCE;
        if done && (late || self.reloader.failures() >= FAILURES_MAX) {
            let failing = self.reloader.failing(mono).join(", ");
            return Some(format!("no reload acknowledged by {failing}"));
        }
        None
    }

    /// The certificate to revoke was read.
    pub(super) fn revoke(
        &mut self,
        cx: &mut Context<'_>,
        name: &Domain,
        file: Result<Secret, StoreError>,
    ) {
        let failed = |error: StoreError| match error.kind {
            StoreErrorKind::Missing => format!("no certificate named {name}"),
            _ => error.to_string(),
        };
        let read = file.map_err(failed).and_then(|pem| {
            let bundle = Bundle::as_haproxy_reads(pem.expose());
            let bundle = bundle.map_err(|error| error.to_string())?;
            Ok((pem, bundle.leaf_der().to_vec()))
        });
        match read {
            Ok((pem, leaf_der)) => {
                // Where it is of no kind that signs requests, the account's key has to do.
                let own_key = cx.keys.read_account_key(&pem).ok();
                self.issuer.revoke(cx, leaf_der, own_key);
            }
            Err(error) => self.revocation_failed(cx, name, &error),
        }
    }

    fn revocation_failed(&mut self, cx: &mut Context<'_>, name: &Domain, error: &str) {
        let line = Record::error("revoke", message::NOT_REVOKED).with("name", name);
        cx.log(line.with("error", error));
        self.run_mode.verdict = Some(FAILED);
    }

    /// The CA has answered.
    pub(super) fn revoked(&mut self, cx: &mut Context<'_>, result: Result<(), String>) {
        let Some(name) = self.run_mode.to_revoke().cloned() else { return };
        match result {
            Ok(()) => {
                cx.log(Record::info("revoke", message::REVOKED).with("name", &name));
                self.note_debt(cx);
                self.storage.store(Purpose::Archive(name.clone()), Change::Archive(name));
            }
            Err(error) => self.revocation_failed(cx, &name, &error),
        }
    }

    /// The revoked file is out of `certs/`, or is not.
    pub(super) fn revoked_archived(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<(), StoreError>,
    ) {
        let Kind::Revoke { name, archived } = &mut self.run_mode.kind else { return };
        match result {
            Ok(()) => {
                *archived = true;
                cx.log(Record::info("storage", message::CERTIFICATE_ARCHIVED).with("name", &*name));
                self.owe_reload(cx);
            }
            Err(error) => {
                let line = Record::error("revoke", "revoked, but it is still in certs/");
                cx.log(line.with("name", &*name).with("error", error));
                self.run_mode.verdict = Some(FAILED);
            }
        }
    }
}
