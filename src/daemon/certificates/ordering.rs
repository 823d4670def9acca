//! An order from its beginning to its end: its turn has come, the attempt is recorded, the CA is done
//! with it, the file is written; and how a file is archived.
//! Part of the scheduler's machine; the rules of what is next are in `entry.rs`.

use std::time::Duration;

use crate::daemon::budget::OrderKind;
use crate::daemon::model::{
    Attempt, CertificateRecord, Issued, Jitter, NewOrder, OrderError, OrderId, Resume, RetryPolicy,
    RetryState, Stored, Urgency,
};

use crate::context::Context;
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::hint::{Complaint, Hint};
use crate::keys::jittered;
use crate::log::{Record, message};
use crate::machine::StoreError;

use super::entry::Step;
use super::file::{Assembled, Refused};
use super::held::Held;

use super::rollout::WriteReason;
use super::schedule::Why;

use super::{Certificates, CertificatesOutput, WRITE_PAUSE, file};

impl Certificates {
    /// Goes on with an order of an earlier run, or makes a new one, which begins when its turn has come.
    pub(super) fn start_order(&mut self, cx: &mut Context<'_>, name: &Domain) {
        let now = cx.now.wall;
        let Some(entry) = self.entries.get_mut(name) else { return };
        let app =
            entry.desired.as_ref().map(|desired| desired.source.app.clone()).unwrap_or_default();
        let (replaces, failed_before) = (None, entry.is_failing());
        let (names, resume) = if let Some(attempt) = entry.placed(&self.policy) {
            let (names, resume, at) = (attempt.names.clone(), attempt.resume.clone(), attempt.at);
            let kind = self.kind_of(at, name, &names);
            self.deferred.forget(name);
            self.step(name, Step::Ordering { names: names.clone(), kind, finalizing: false });
            (names, resume)
        } else {
            let names = entry.names_to_order(now);
            (entry.held, entry.acted) = (None, false);
            let kind = self.kind_of(now, name, &names);
            if let Err(refusal) = self.admit(now, name, &names, kind) {
                return self.refuse(cx, name, &names, refusal);
            }
            let order = OrderId(self.orders_made);
            self.step(name, Step::Queued { order, names: names.clone() });
            (names, None)
        };
        let order = OrderId(self.orders_made);
        self.orders_made += 1;
        self.orders.insert(order, name.clone());
        let new = NewOrder { order, names, app, replaces, resume, failed_before };
        self.outputs.push_back(CertificatesOutput::Order(Box::new(new)));
    }

    /// An order's turn has come: it begins when the CA's limits allow it and the attempt is on the
    /// disk.
    pub fn begins(&mut self, cx: &mut Context<'_>, order: OrderId) {
        let Some(name) = self.orders.get(&order).cloned() else { return };
        let Some(entry) = self.entries.get(&name) else { return };
        let Step::Queued { names, .. } = &entry.step else { return };
        let (now, names) = (cx.now.wall, names.clone());
        if self.is_premature(now, entry) {
            return self.put_back(cx, &name, order, None);
        }
        let kind = self.kind_of(now, &name, &names);
        if let Err(refusal) = self.admit(now, &name, &names, kind) {
            self.refuse(cx, &name, &names, refusal);
            return self.put_back(cx, &name, order, None);
        }
        self.budget.order_made(now, &names, kind);
        self.deferred.forget(&name);
        let directory = self.policy.directory.clone();
        let attempt = Attempt { at: now, directory, names: names.clone(), resume: None };
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.memory.attempt = Some(Box::new(attempt));
            entry.step = Step::Recording { order, names, kind, write: None };
        }
        self.recording.push(name);
        self.unsaved = Some(Urgency::Now);
    }

    /// An order does not begin now.
    fn put_back(
        &mut self,
        cx: &mut Context<'_>,
        name: &Domain,
        order: OrderId,
        held: Option<Held>,
    ) {
        self.orders.remove(&order);
        self.outputs.push_back(CertificatesOutput::Cancel(order));
        if let Some(entry) = self.entries.get_mut(name) {
            entry.memory.attempt = None;
            if let Some(held) = held {
                entry.hold(cx, name, held);
            }
            if !entry.is_deferred() {
                self.deferred.forget(name);
            }
        }
        self.step(name, Step::Resting);
    }

    /// The memory is being written now, as it stands; the number of this writing.
    pub fn recording(&mut self, revision: u64) {
        for name in &self.recording {
            let step = self.entries.get_mut(name).map(|entry| &mut entry.step);
            if let Some(Step::Recording { write, .. }) = step {
                write.get_or_insert(revision);
            }
        }
        for (_, write) in &mut self.keeping {
            write.get_or_insert(revision);
        }
    }

    /// A writing of the memory is on the disk, or is not: only what is, may be ordered, so that no
    /// crash makes an order that nobody remembers.
    pub fn recorded(
        &mut self,
        cx: &mut Context<'_>,
        revision: u64,
        result: Result<(), &StoreError>,
    ) {
        // If it cannot be written, the order continues: its key is then only in memory.
        let kept = self.keeping.extract_if(.., |(_, write)| write.is_some_and(|it| it <= revision));
        self.outputs.extend(kept.map(|(order, _)| CertificatesOutput::Kept(order)));
        for name in std::mem::take(&mut self.recording) {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            let Step::Recording { order, names, kind, write } = &entry.step else { continue };
            if write.is_none_or(|write| write > revision) {
                self.recording.push(name);
                continue;
            }
            let (order, names, kind) = (*order, names.clone(), *kind);
            match result {
                Ok(()) => {
                    let replaces = entry.replaces(&self.policy);
                    let untried = entry.untried(&names);
                    if !untried.is_empty() {
                        self.outputs.push_back(CertificatesOutput::TryRoutes(name, untried));
                    }
                    entry.step = Step::Ordering { names, kind, finalizing: false };
                    self.outputs.push_back(CertificatesOutput::Begin { order, replaces });
                }
                Err(error) => {
                    self.budget.order_unmade(cx.now.wall, &names, kind);
                    let until = cx.now.wall.plus(jittered(cx.keys, WRITE_PAUSE));
                    let hint = Hint::of_storage(error.kind);
                    let reason = Complaint::new(format!("the storage: {error}"), hint);
                    let held = Held::new(until, reason, Why::Disk);
                    self.put_back(cx, &name, order, Some(held));
                }
            }
        }
    }

    /// The CA has made an order: an end of the program need not be its end.
    pub fn placed(&mut self, cx: &Context<'_>, order: OrderId, resume: Resume) {
        let entry = self.orders.get(&order).and_then(|name| self.entries.get_mut(name));
        let Some(entry) = entry else { return };
        let Step::Ordering { kind, .. } = entry.step else { return };
        let Some(attempt) = &mut entry.memory.attempt else { return };
        attempt.resume = Some(resume);
        self.keeping.push((order, None));
        self.budget.order_placed(cx.now.wall, attempt.at, kind);
        self.unsaved = Some(Urgency::Now);
    }

    /// The CA is asked to issue.
    pub fn finalizing(&mut self, order: OrderId) {
        let entry = self.orders.get(&order).and_then(|name| self.entries.get_mut(name));
        if let Some(Step::Ordering { finalizing, .. }) = entry.map(|entry| &mut entry.step) {
            *finalizing = true;
        }
    }

    /// Takes in how an order ended; a good one is checked against its key before it is stored.
    pub fn finished(
        &mut self,
        cx: &mut Context<'_>,
        order: OrderId,
        result: Result<Issued, OrderError>,
    ) {
        let Some(name) = self.orders.remove(&order) else { return };
        let Some(entry) = self.entries.get_mut(&name) else { return };
        let (names, kind) = match &entry.step {
            // It has not begun, and was not counted.
            Step::Queued { names, .. } => (names.clone(), None),
            Step::Recording { names, kind, .. } | Step::Ordering { names, kind, .. } => {
                (names.clone(), Some(*kind))
            }
            _ => return,
        };
        self.deferred.forget(&name);
        self.unsaved = Some(Urgency::Now);
        let issued = match result {
            Ok(issued) => issued,
            Err(error) => return self.failed(cx, &name, (&names, kind), &error),
        };
        let since = entry.memory.attempt.as_ref().map_or(cx.now.wall, |attempt| attempt.at);
        let now = cx.now.wall;
        match kind {
            // The CA did not accept it as a replacement, so it counted it.
            Some(OrderKind::Exempt) if issued.replaced.is_none() => {
                let kind = entry.kind_without_advice(&self.policy, &self.budget, now, &names);
                self.budget.order_made(now, &names, kind);
            }
            Some(kind) => self.budget.certificate_issued(now, since, &names, kind),
            None => {}
        }
        match file::assemble(cx.now.wall, &issued) {
            Err(Refused { error, pem }) => {
                let line = Record::error("order", message::CERTIFICATE_REFUSED);
                cx.log(line.with("name", &name).with("error", &error));
                let reason = error.to_string();
                let error = Complaint::new(&*reason, error.is_about_time().then_some(Hint::Clock));
                let failure = Failure { error, follow_up: RetryPolicy::LATER };
                self.blame(cx, &name, FlatMap::new(), &failure);
                self.outputs.push_back(CertificatesOutput::Reject(name, pem, reason));
            }
            Ok(Assembled { pem, stored, remarks }) => {
                for remark in remarks {
                    cx.log(Record::warn("order", remark).with("name", &name));
                }
                self.place(cx.now.wall, &name, (pem, stored), WriteReason::Issued);
            }
        }
    }

    fn failed(
        &mut self,
        cx: &mut Context<'_>,
        name: &Domain,
        (names, kind): (&[Domain], Option<OrderKind>),
        error: &OrderError,
    ) {
        let now = cx.now.wall;
        let entry = self.entries.get(name);
        let attempt = entry.and_then(|entry| entry.memory.attempt.as_ref());
        let placed = attempt.is_some_and(|attempt| attempt.resume.is_some());
        let since = attempt.map_or(now, |attempt| attempt.at);
        // What the CA may have issued it has counted, though we have nothing of it.
        let finalizing =
            entry.is_some_and(|it| matches!(it.step, Step::Ordering { finalizing: true, .. }));
        let refused = matches!(error, OrderError::Invalid { .. });
        let may_be_issued = matches!(error, OrderError::NotOurs) || (finalizing && !refused);
        let failed = error.failed_authorizations(names);
        match (kind, placed) {
            (None, _) => self.budget.validations_failed(now, &failed),
            (Some(kind), true) if may_be_issued => {
                self.budget.certificate_issued(now, since, names, kind);
            }
            (Some(kind), true) => self.budget.order_failed(now, names, &failed, kind),
            (Some(kind), false) => self.budget.order_unmade(now, names, kind),
        }
        if self.has_too_many_names(cx, name, names, error) {
            return;
        }
        let follow_up = match error {
            OrderError::Unregistered { .. } => RetryPolicy::Restart,
            error if error.is_paused() => RetryPolicy::Paused,
            error => RetryPolicy::Retry { retry_after: error.retry_after() },
        };
        let failure = Failure { error: Complaint::new(error.to_string(), error.hint()), follow_up };
        self.blame(cx, name, error.blamed(names), &failure);
    }

    /// Notes a failure: at the names that are to blame, so that the others continue without them, or at
    /// the certificate as a whole.
    fn blame(
        &mut self,
        cx: &mut Context<'_>,
        name: &Domain,
        blamed: FlatMap<Domain, Complaint>,
        failure: &Failure,
    ) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        self.order_counts.failed += 1;
        entry.memory.attempt = None;
        entry.step = Step::Resting;
        let (now, spread) = (cx.now.wall, Jitter::draw(cx.keys));
        let acted = std::mem::take(&mut entry.acted);
        // What one name of an app has caused counts for the next.
        let known = entry.memory.troubles().map(|trouble| trouble.app_changes);
        let app_changes = known.max_by_key(|changes| changes.not_before).unwrap_or_default();
        let grown = |before: Option<&RetryState>, error: Complaint, left: Option<Duration>| {
            let spread = spread.within(left);
            let trouble = RetryState::grown(before, now, error, failure.follow_up, spread);
            let mut trouble = RetryState { app_changes, ..trouble };
            if acted {
                trouble.acted_upon(now);
            }
            trouble
        };
        let alone = entry.desired.as_ref().is_none_or(|desired| desired.names.len() == 1);
        // With one name there is nothing to tell apart: whoever was blamed before, it counts on.
        let memory = &entry.memory;
        let name_alone = memory.left_out.values().next().filter(|_| alone);
        if blamed.is_empty() {
            let before = worse(&memory.trouble, name_alone);
            let trouble = grown(before, failure.error.clone(), entry.time_left(now));
            cx.log(failed_line(name, &trouble));
            entry.memory.trouble = Some(trouble);
            return self.blamed(name);
        }
        // The CA answers, so what kept the certificate as a whole is over.
        let whole = entry.memory.trouble.take().filter(|_| alone);
        for (domain, reason) in blamed {
            let hint = reason.hint.or(failure.error.hint);
            let text = if alone { failure.error.text.clone() } else { reason.text };
            let reason = Complaint::new(text, hint);
            let before = worse(&whole, entry.memory.left_out.get(&domain));
            let trouble = grown(before, reason, entry.time_left_of(now, &domain));
            cx.log(if alone {
                failed_line(name, &trouble)
            } else {
                left_out_line(name, &domain, &trouble)
            });
            entry.memory.left_out.insert(domain, trouble);
        }
        self.blamed(name);
    }

    fn blamed(&mut self, name: &Domain) {
        self.reindex(name);
        self.drop_if_void(name);
    }

    /// Takes in how a [`CertificatesOutput::Write`] ended. What the disk did not take is kept and
    /// written again: a certificate once issued is never ordered a second time for that.
    pub fn written(&mut self, cx: &mut Context<'_>, name: &Domain, result: Result<(), StoreError>) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Step::Storing { again_at, refusals, origin, .. } = &mut entry.step else { return };
        if let Err(error) = result {
            let at = cx.now.wall.plus(jittered(cx.keys, WRITE_PAUSE));
            *again_at = Some(at);
            *refusals = refusals.saturating_add(1);
            // About this file alone: noted once, so that no restart makes the order again and again.
            let is_new = !matches!(origin, WriteReason::Previous(_));
            if is_new && *refusals == 1 && !error.kind.is_storage_failure() {
                let spread = Jitter::draw(cx.keys);
                let why = Complaint::new(format!("it cannot be stored: {error}"), None);
                let before = entry.memory.trouble.as_ref();
                let trouble =
                    RetryState::grown(before, cx.now.wall, why, RetryPolicy::LATER, spread);
                entry.memory.trouble = Some(trouble);
                self.unsaved = Some(Urgency::Now);
            }
            let line = Record::error("storage", message::CERTIFICATE_UNWRITTEN);
            let line = line.with("name", name).with("error", &error).with("next_try", at);
            cx.log(line.hinted(Hint::of_storage(error.kind)));
            return self.reindex(name);
        }
        let Step::Storing { stored, origin, .. } = std::mem::take(&mut entry.step) else { return };
        let is_new = !matches!(origin, WriteReason::Previous(_));
        let is_issued = matches!(origin, WriteReason::Issued);
        self.note_earlier(name, &stored.names);
        let life = self.life_of(cx.now.wall, (&stored, origin), cx.keys);
        self.misnamed.remove(name);
        let Some(entry) = self.entries.get_mut(name) else { return };
        if is_issued {
            self.order_counts.issued += 1;
            cx.log(issued_line(name, &stored, &life));
        }
        if is_new {
            entry.memory.left_out.retain(|name, _| !stored.is_for(name));
            entry.memory.removed.retain(|name, _| !stored.is_for(name));
            (entry.memory.trouble, entry.memory.attempt, entry.held) = (None, None, None);
        }
        (entry.stored, entry.memory.life) = (Some(*stored), Some(life));
        self.unsaved = Some(Urgency::Now);
        self.step(name, Step::Resting);
        self.retire_for(cx.now.wall, name);
        self.outputs.push_back(CertificatesOutput::Changed(Some((name.clone(), is_new))));
    }

    /// The process ends soon: an order of which the CA does not know yet is not begun, and not counted.
    pub fn cancel_unbegun(&mut self, cx: &mut Context<'_>) {
        for name in self.recording.clone() {
            self.cancel_order(cx, &name);
        }
    }

    /// What is wanted has changed: an order for names that nobody wants any more does not begin. One
    /// that the CA has made goes on.
    pub(super) fn cancel_if_void(&mut self, cx: &mut Context<'_>, name: &Domain) {
        if self.entries.get(name).is_some_and(|entry| entry.is_order_void()) {
            self.cancel_order(cx, name);
        }
    }

    fn cancel_order(&mut self, cx: &mut Context<'_>, name: &Domain) {
        let order = match self.entries.get(name).map(|entry| &entry.step) {
            Some(Step::Queued { order, .. }) => *order,
            Some(Step::Recording { order, names, kind, .. }) => {
                self.budget.order_unmade(cx.now.wall, names, *kind);
                self.recording.retain(|recording| recording != name);
                self.unsaved = Some(Urgency::Now);
                *order
            }
            _ => return,
        };
        self.put_back(cx, name, order, None);
    }

    /// Whether a certificate is being written.
    pub fn is_writing(&self) -> bool {
        let mut steps = self.entries.values().map(|entry| &entry.step);
        steps.any(|step| matches!(step, Step::Storing { again_at: None, .. }))
    }

    /// The process ends: what the disk has not taken is written once more.
    pub fn stop(&mut self, cx: &mut Context<'_>) {
        for (name, entry) in &self.entries {
            if let Step::Storing { pem, again_at: Some(_), .. } = &entry.step {
                let line = Record::warn("storage", "the certificate is written once more");
                cx.log(line.with("name", name));
                self.outputs.push_back(CertificatesOutput::Write(name.clone(), pem.clone()));
            }
        }
    }
}

/// A failure on its way to whoever is to blame.
struct Failure {
    error: Complaint,
    follow_up: RetryPolicy,
}

/// That which has failed more often.
fn worse<'a>(one: &'a Option<RetryState>, other: Option<&'a RetryState>) -> Option<&'a RetryState> {
    one.as_ref().into_iter().chain(other).max_by_key(|trouble| trouble.failures)
}

fn failed_line(name: &Domain, trouble: &RetryState) -> Record {
    let line = Record::error("order", message::ORDER_FAILED)
        .with("name", name)
        .with("error", &trouble.error);
    trouble.tell(line)
}

fn left_out_line(name: &Domain, domain: &Domain, trouble: &RetryState) -> Record {
    let line = Record::error("order", message::NAME_LEFT_OUT).with("name", name);
    trouble.tell(line.with("domain", domain).with("error", &trouble.error))
}

fn issued_line(name: &Domain, stored: &Stored, life: &CertificateRecord) -> Record {
    let line = Record::info("order", message::ORDER_ISSUED).with("name", name).ends(&[
        message::ORDER_FAILED,
        message::NAME_LEFT_OUT,
        message::CERTIFICATE_UNWRITTEN,
    ]);
    let line = line.with("not_after", stored.not_after).with("issuer", &stored.issuer);
    let line = line.with("renewal", life.renewal(stored));
    match stored.names.as_slice() {
        [_] => line,
        names => {
            let names: Vec<&str> = names.iter().map(Domain::as_str).collect();
            line.with("domains", names.join(","))
        }
    }
}
