//! Rollouts of new certificates: what was in service before is kept in memory until a load balancer
//! serves the new one. Where it does not, the previous certificate goes back, and the new one is tried
//! again later, by the table of pauses, without another order. Part of the scheduler's machine; what is
//! served is the reloader's to find out.
//!
//! `Running → (served) none`, or `Running → (not served) RolledBack → Running …`. An end of the program
//! forgets a rollout: what lies in `certs/` then stays, and what was rolled back, of which `archive/` has
//! a copy, is ordered again.

use std::cmp::{Ordering, Reverse};

use crate::daemon::model::{
    Catalog, CertificateRecord, Jitter, RetryPolicy, RetryState, Stored, Urgency,
};

use crate::context::Context;
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::keys::Keys;
use crate::log::{Record, message};
use crate::machine::StoreError;
use crate::pki::Fingerprint;
use crate::secret::Secret;
use crate::time::UnixTime;

use super::entry::Step;
use super::rollout::{Previous, Rollout, WriteReason};

use super::{Certificates, CertificatesOutput, file};

impl Certificates {
    /// Whether what was in service is to be kept until its successor is served.
    pub fn keep_before(&mut self, keep: bool) {
        self.keeps_before = keep;
    }

    /// Writes a new certificate, and has the previous certificate read first where it may have to go back.
    pub(super) fn place(
        &mut self,
        now: UnixTime,
        name: &Domain,
        (pem, stored): (Secret, Stored),
        origin: WriteReason,
    ) {
        let entry = self.entries.get_mut(name);
        let lasts = entry.is_some_and(|entry| {
            entry.trial = None;
            let life = entry.memory.life.as_ref();
            entry.stored.as_ref().is_some_and(|before| before.lasts(life, now))
        });
        if self.keeps_before && lasts {
            self.outputs.push_back(CertificatesOutput::Read(name.clone()));
        }
        self.write(name, (pem, stored), origin);
    }

    fn write(&mut self, name: &Domain, (pem, stored): (Secret, Stored), origin: WriteReason) {
        self.outputs.push_back(CertificatesOutput::Write(name.clone(), pem.clone()));
        let stored = Box::new(stored);
        self.step(name, Step::Storing { pem, stored, again_at: None, refusals: 0, origin });
    }

    /// Takes in the previous file, if this is what was asked for.
    pub(super) fn is_before(&mut self, name: &Domain, file: &Result<Secret, StoreError>) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        let Step::Storing { pem: after, origin, .. } = &mut entry.step else { return false };
        let trouble = match origin {
            WriteReason::RolledBack(trouble) => trouble.take(),
            WriteReason::Issued | WriteReason::Previous(_) => None,
        };
        if let (Ok(pem), Some(stored)) = (file, &entry.stored) {
            let (stored, life) = (stored.clone(), entry.memory.life.clone().map(Box::new));
            let before = Box::new(Previous { pem: pem.clone(), stored, life });
            let trial = Rollout::Running { before, after: after.clone(), trouble };
            entry.trial = Some(Box::new(trial));
        }
        true
    }

    /// Load balancers serve these, or nobody waits for that any more: now others may make room for them.
    pub fn seen_served(&mut self, now: UnixTime, names: &[Domain]) {
        for name in names {
            let Some(entry) = self.entries.get_mut(name) else { continue };
            let ended = entry.trial.take_if(|trial| matches!(**trial, Rollout::Running { .. }));
            if ended.is_some() {
                self.retire_for(now, name);
            }
        }
    }

    /// A load balancer does not serve these: where there is a previous certificate that lasts, it goes back.
    /// Whether any does.
    pub fn unserved(&mut self, cx: &mut Context<'_>, names: &[Domain], reason: &Complaint) -> bool {
        let spread = Jitter::draw(cx.keys);
        let mut any = false;
        for name in names {
            any |= self.goes_back(cx, name, reason, spread);
        }
        any
    }

    fn goes_back(
        &mut self,
        cx: &mut Context<'_>,
        name: &Domain,
        reason: &Complaint,
        spread: Jitter,
    ) -> bool {
        let now = cx.now.wall;
        let Some(entry) = self.entries.get_mut(name) else { return false };
        let resting = matches!(entry.step, Step::Resting);
        let trial = entry.trial.take_if(|it| resting && it.may_go_back_to(now).is_some());
        let Some(Rollout::Running { before, after, trouble }) = trial.map(|it| *it) else {
            return false;
        };
        // After an end of the program it is ordered again; what was issued is kept for the operator.
        if trouble.is_none() {
            let (pem, reason) = (after.clone(), reason.to_string());
            self.outputs.push_back(CertificatesOutput::Reject(name.clone(), pem, reason));
        }
        // The previous certificate must not expire while the new one waits.
        let spread = spread.within(Some(before.stored.not_after.since(now)));
        let why = Complaint::new(format!("rolled back: {reason}"), reason.hint);
        let grown = RetryState::grown(trouble.as_deref(), now, why, RetryPolicy::LATER, spread);
        let line = Record::error("lb", message::ROLLED_BACK);
        cx.log(grown.tell(line.with("name", name).with("error", reason)));
        entry.memory.trouble = Some(grown);
        entry.trial = Some(Box::new(Rollout::RolledBack { after }));
        self.unsaved = Some(Urgency::Now);
        let Previous { pem, stored, life } = *before;
        self.write(name, (pem, stored), WriteReason::Previous(life));
        true
    }

    /// A rollback has not helped: what was rolled back is written again, and not rolled back any more.
    pub fn restore_rolled_back(&mut self, cx: &mut Context<'_>) {
        let rolled_back = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_rolled_back() && matches!(entry.step, Step::Resting));
        let names: Vec<Domain> = rolled_back.map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some((file, stored, _)) = self.take_withheld(cx, &name) else { continue };
            let line = message::ROLLBACK_UNDONE;
            cx.log(Record::warn("lb", line).with("name", &name));
            self.write(&name, (file, stored), WriteReason::RolledBack(None));
        }
    }

    /// Tries a certificate again that was rolled back, if there is one that fits what is wanted.
    pub(super) fn try_withheld(&mut self, cx: &mut Context<'_>, name: &Domain) -> bool {
        let Some((after, stored, trouble)) = self.take_withheld(cx, name) else { return false };
        let line = message::ROLLBACK_RETRIED;
        cx.log(Record::info("lb", line).with("name", name));
        self.place(cx.now.wall, name, (after, stored), WriteReason::RolledBack(trouble));
        true
    }

    /// Takes out a certificate that was rolled back, if it fits what is wanted, and its failed rollouts.
    fn take_withheld(
        &mut self,
        cx: &Context<'_>,
        name: &Domain,
    ) -> Option<(Secret, Stored, Option<Box<RetryState>>)> {
        let entry = self.entries.get_mut(name)?;
        let desired = entry.desired.as_ref()?;
        let withheld = entry.trial.take_if(|trial| matches!(**trial, Rollout::RolledBack { .. }));
        let Rollout::RolledBack { after } = *withheld? else { return None };
        let stored = file::fits(cx.now.wall, &after, &desired.names)?;
        Some((after, stored, entry.memory.trouble.take().map(Box::new)))
    }

    /// Takes in how a [`CertificatesOutput::Reject`] ended. It is for a person to look at, and not tried
    /// again: the next order's chain says no less.
    pub fn rejected(&self, cx: &mut Context<'_>, name: &Domain, result: Result<(), StoreError>) {
        cx.log(match result {
            Ok(()) => {
                let line = message::REFUSED_KEPT;
                Record::info("storage", line).with("name", name)
            }
            Err(error) => {
                let line = "cannot keep the refused certificate in archive/";
                let line = Record::warn("storage", line).with("name", name).with("error", &error);
                line.hinted(Hint::of_storage(error.kind))
            }
        });
    }

    /// What is known of the certificate that was written last.
    pub(super) fn life_of(
        &self,
        now: UnixTime,
        (stored, origin): (&Stored, WriteReason),
        keys: &mut dyn Keys,
    ) -> CertificateRecord {
        let issued = Some((now, self.policy.directory.as_str()));
        match origin {
            WriteReason::Issued | WriteReason::RolledBack(_) => {
                CertificateRecord::begin(stored, issued, keys)
            }
            WriteReason::Previous(life) => {
                life.map_or_else(|| CertificateRecord::begin(stored, None, keys), |life| *life)
            }
        }
    }
}

/// The order in which HAProxy loads their files.
fn by_file_name(one: &Domain, other: &Domain) -> Ordering {
    let bytes = |name: &Domain| [name.as_str(), ".pem"].concat();
    bytes(one).cmp(&bytes(other))
}

impl Catalog for Certificates {
    /// Of several files with one name in them HAProxy serves the one whose own name comes first.
    fn expected(&self, name: &Domain) -> Option<Fingerprint> {
        if !self.matters(name) {
            return None;
        }
        let files = self.entries.iter().filter_map(|(file, entry)| {
            let stored = entry.stored.as_ref().filter(|stored| stored.is_for(name))?;
            Some((file, stored.leaf))
        });
        let first = files.min_by(|(one, _), (other, _)| by_file_name(one, other));
        first.map(|(_, leaf)| leaf)
    }

    fn matters(&self, name: &Domain) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.to_be_seen().is_some())
    }

    fn stored(&self, name: &Domain) -> Option<Fingerprint> {
        self.entries.get(name)?.stored.as_ref().map(|stored| stored.leaf)
    }

    fn previous(&self, name: &Domain) -> Option<Fingerprint> {
        match self.entries.get(name)?.trial.as_deref()? {
            Rollout::Running { before, .. } => Some(before.stored.leaf),
            Rollout::RolledBack { .. } => None,
        }
    }

    fn latest(&self, count: usize) -> Vec<Domain> {
        let written = self.entries.iter();
        let mut written: Vec<(Reverse<UnixTime>, &Domain)> = written
            .filter_map(|(name, entry)| Some((Reverse(entry.to_be_seen()?.not_before), name)))
            .collect();
        written.sort_unstable();
        written.into_iter().take(count).map(|(_, name)| name.clone()).collect()
    }

    fn following(&self, name: Option<&Domain>) -> Option<Domain> {
        let files = || self.entries.iter().filter(|(_, entry)| entry.to_be_seen().is_some());
        let behind = files().find(|(file, _)| name.is_none_or(|name| *file > name));
        behind.or_else(|| files().next()).map(|(name, _)| name.clone())
    }
}
