//! When the program is to end by itself: `--once` when everything is up to date or cannot be brought
//! there now, `--revoke` when the certificate is revoked and out of service. Part of the daemon; a
//! daemon that serves has no errand.
//!
//! Revocation: `Reading → Revoking → Archiving → Reloading`

use std::time::Duration;

use crate::acme::renewal_info::{NoSuggestion, Suggestion};
use crate::config::Mode;
use crate::domain::Domain;
use crate::hint::{Hint, advised};
use crate::log::{Record, message};
use crate::pki::Bundle;
use crate::seam::{Change, StoreError, StoreErrorKind};
use crate::secret::Secret;
use crate::time::{Instant, Now};
use crate::turn::Turn;

use super::Daemon;
use super::storekeeper::Purpose;

mod advice;

use advice::AdviceWait;

/// An errand gives a peer up after so many failures in a row.
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
pub(super) struct Errand {
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

impl Errand {
    pub(super) fn new(mode: &Mode) -> Errand {
        let kind = match mode {
            Mode::Serve => Kind::Serve,
            Mode::Once => Kind::Once(AdviceWait::default()),
            Mode::Revoke(name) => Kind::Revoke { name: name.clone(), archived: false },
        };
        Errand { kind, verdict: None }
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

    /// The storage is another instance's: an errand is not begun a second time.
    pub(super) fn deposed(&mut self, turn: &mut Turn<'_>) {
        if !self.serves() {
            turn.log(
                Record::error("main", message::GIVEN_UP).with("reason", message::ANOTHER_IS_ACTIVE),
            );
            self.verdict = Some(FAILED);
        }
    }

    /// The exit status when a signal ends the process before the errand is done.
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
    pub(super) fn errand_over(&mut self, turn: &mut Turn<'_>) -> Option<u8> {
        if self.errand.verdict.is_some() {
            return self.errand.verdict;
        }
        let done = match &self.errand.kind {
            Kind::Serve => return None,
            Kind::Once(_) => self.is_up_to_date(turn),
            Kind::Revoke { archived, .. } => *archived,
        };
        // What is left to remember is written at the end.
        if done && self.reloader.is_clean() {
            return Some(self.summary(turn));
        }
        let reason = self.hopeless(turn.now, done)?;
        turn.log(Record::error("main", message::GIVEN_UP).with("reason", reason));
        Some(FAILED)
    }

    /// Whether everything is done that can be done now, with what the CA says of renewals.
    fn is_up_to_date(&mut self, turn: &Turn<'_>) -> bool {
        let Kind::Once(wait) = &mut self.errand.kind else { return false };
        let (certificates, now) = (&self.certificates, turn.now);
        let offered = self.issuer.offers_advice();
        let start = self.started.unwrap_or(now.wall);
        // Asked in every turn: all are looked through only once nothing is in hand.
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
        turn: &mut Turn<'_>,
        (name, cert_id): (&Domain, &str),
        answer: Result<Suggestion, NoSuggestion>,
    ) {
        if let Kind::Once(wait) = &mut self.errand.kind {
            wait.answered(&answer);
        }
        self.certificates.advised(turn, name, cert_id, answer);
    }

    /// The last line of an errand that came to its end.
    fn summary(&self, turn: &mut Turn<'_>) -> u8 {
        if let Kind::Once(wait) = &self.errand.kind
            && let Some(error) = wait.error()
        {
            let line = message::WINDOWS_UNKNOWN;
            turn.log(Record::warn("renewal", line).with("error", error));
        }
        let lacking: Vec<String> =
            self.certificates.unsatisfied(turn.now.wall).map(ToString::to_string).collect();
        if lacking.is_empty() {
            turn.log(Record::info("main", message::UP_TO_DATE));
            return DONE;
        }
        let line = Record::error("main", message::CERTIFICATES_MISSING);
        turn.log(line.with("names", lacking.join(",")));
        FAILED
    }

    /// Why waiting any longer makes no sense for an errand.
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
        let has_orders = || !self.errand.follows() || !self.certificates.is_idle(now);
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
        turn: &mut Turn<'_>,
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
                let own_key = turn.keys.read_account_key(&pem).ok();
                self.issuer.revoke(turn, leaf_der, own_key);
            }
            Err(error) => self.revocation_failed(turn, name, &error),
        }
    }

    fn revocation_failed(&mut self, turn: &mut Turn<'_>, name: &Domain, error: &str) {
        let line = Record::error("revoke", message::NOT_REVOKED).with("name", name);
        turn.log(line.with("error", error));
        self.errand.verdict = Some(FAILED);
    }

    /// The CA has answered.
    pub(super) fn revoked(&mut self, turn: &mut Turn<'_>, result: Result<(), String>) {
        let Some(name) = self.errand.to_revoke().cloned() else { return };
        match result {
            Ok(()) => {
                turn.log(Record::info("revoke", message::REVOKED).with("name", &name));
                self.note_debt(turn);
                self.storage.store(Purpose::Archive(name.clone()), Change::Archive(name));
            }
            Err(error) => self.revocation_failed(turn, &name, &error),
        }
    }

    /// The revoked file is out of `certs/`, or is not.
    pub(super) fn revoked_archived(&mut self, turn: &mut Turn<'_>, result: Result<(), StoreError>) {
        let Kind::Revoke { name, archived } = &mut self.errand.kind else { return };
        match result {
            Ok(()) => {
                *archived = true;
                turn.log(
                    Record::info("storage", message::CERTIFICATE_ARCHIVED).with("name", &*name),
                );
                self.owe_reload(turn);
            }
            Err(error) => {
                let line = Record::error("revoke", "revoked, but it is still in certs/");
                turn.log(line.with("name", &*name).with("error", error));
                self.errand.verdict = Some(FAILED);
            }
        }
    }
}
