//! An order from its beginning to its end: its turn has come, the attempt is recorded, the CA is done
//! with it, the file is written; and how a file is archived.
//! Part of the scheduler's machine; the rules of what is next are in `entry.rs`.

use std::time::Duration;

use crate::daemon::budget::Limit;
use crate::daemon::issuer::{Issued, OrderError, OrderId};
use crate::daemon::memory::Attempt;
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::hint::{Complaint, Hint};
use crate::keys::jittered;
use crate::log::Record;
use crate::seam::StoreError;
use crate::turn::Turn;
use crate::url::Url;

use super::entry::{Held, Step};
use super::file::Refused;
use super::life::{Life, Stored};
use super::schedule::Why;
use super::trial::Origin;
use super::trouble::{FollowUp, Spread, Trouble};
use super::{Certificates, CertificatesOutput, NewOrder, Urgency, WRITE_PAUSE, file};

impl Certificates {
    /// Goes on with an order of an earlier run, or makes a new one.
    pub(super) fn start_order(&mut self, turn: &mut Turn<'_>, name: &Domain) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let order = OrderId(self.orders_made);
        self.orders_made += 1;
        let failed_before = entry.is_failing();
        let new = if let Some(attempt) = entry.placed(&self.policy) {
            let (names, resume) = (attempt.names.clone(), attempt.order.clone());
            entry.step = Step::Ordering { names: names.clone(), exempt: false, finalizing: false };
            NewOrder { order, names, replaces: None, resume, failed_before }
        } else {
            let names = entry.names_to_order(turn.now.wall);
            (entry.held, entry.acted) = (None, false);
            entry.step = Step::Queued { order, names: names.clone() };
            NewOrder { order, names, replaces: None, resume: None, failed_before }
        };
        self.orders.insert(order, name.clone());
        self.outputs.push_back(CertificatesOutput::Order(Box::new(new)));
    }

    /// An order's turn has come: it begins when the CA's limits allow it and the attempt is on the
    /// disk.
    pub fn begins(&mut self, turn: &mut Turn<'_>, order: OrderId) {
        let Some(name) = self.orders.get(&order).cloned() else { return };
        let Some(entry) = self.entries.get_mut(&name) else { return };
        let Step::Queued { names, .. } = &entry.step else { return };
        let (now, names) = (turn.now.wall, names.clone());
        // Where the limits are not known, none but that of failed authorizations counts.
        let exempt = !self.policy.limits_known || entry.is_exempt(&self.policy, now);
        if let Some(budget) = &mut self.budget {
            budget.forget_past(now);
            let room = if exempt || entry.is_urgent(now) {
                budget.check_validations(now, &names)
            } else {
                budget.check(now, &names)
            };
            if let Err((limit, until)) = room {
                // One name of several has failed too often: the others go on without it.
                if let (Limit::FailedAuthorizations(failed), [_, _, ..]) = (&limit, &*names) {
                    entry.leave_out(now, failed, until, limit.complaint());
                    return self.put_back(turn, &name, order, None);
                }
                let until = entry.before_the_last_chance(now, until);
                let held = Held::budget(now, &limit, until);
                return self.put_back(turn, &name, order, Some(held));
            }
            if !exempt {
                budget.order_made(now, &names);
            }
        }
        let directory = self.policy.directory.clone();
        let attempt = Attempt { at: now, directory, names: names.clone(), order: None };
        entry.memory.attempt = Some(Box::new(attempt));
        entry.step = Step::Recording { order, names, exempt, write: None };
        self.recording.push(name);
        self.unsaved = Some(Urgency::Now);
    }

    /// An order does not begin now.
    fn put_back(&mut self, turn: &mut Turn<'_>, name: &Domain, order: OrderId, held: Option<Held>) {
        self.orders.remove(&order);
        self.outputs.push_back(CertificatesOutput::Cancel(order));
        if let Some(entry) = self.entries.get_mut(name) {
            entry.memory.attempt = None;
            if let Some(held) = held {
                entry.hold(turn, name, held);
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
    }

    /// A writing of the memory is on the disk, or is not: only what is, may be ordered, so that no
    /// crash makes an order that nobody remembers.
    pub fn recorded(
        &mut self,
        turn: &mut Turn<'_>,
        revision: u64,
        result: Result<(), &StoreError>,
    ) {
        for name in std::mem::take(&mut self.recording) {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            let Step::Recording { order, names, exempt, write } = &entry.step else { continue };
            if write.is_none_or(|write| write > revision) {
                self.recording.push(name);
                continue;
            }
            let (order, names, exempt) = (*order, names.clone(), *exempt);
            match result {
                Ok(()) => {
                    let replaces = entry.replaces(&self.policy);
                    let untried = entry.untried(&names);
                    if !untried.is_empty() {
                        self.outputs.push_back(CertificatesOutput::TryRoutes(name, untried));
                    }
                    entry.step = Step::Ordering { names, exempt, finalizing: false };
                    self.outputs.push_back(CertificatesOutput::Begin { order, replaces });
                }
                Err(error) => {
                    if let Some(budget) = self.budget.as_mut().filter(|_| !exempt) {
                        budget.order_unmade(turn.now.wall, &names);
                    }
                    let until = turn.now.wall.plus(jittered(turn.keys, WRITE_PAUSE));
                    let hint = Hint::of_storage(error.kind);
                    let reason = Complaint::new(format!("the storage: {error}"), hint);
                    let held = Held { until, reason, why: Why::Disk };
                    self.put_back(turn, &name, order, Some(held));
                }
            }
        }
    }

    /// The CA has made an order: an end of the program need not be its end.
    pub fn placed(&mut self, turn: &Turn<'_>, order: OrderId, url: Url) {
        let entry = self.orders.get(&order).and_then(|name| self.entries.get_mut(name));
        let Some(entry) = entry else { return };
        let exempt = matches!(entry.step, Step::Ordering { exempt: true, .. });
        let Some(attempt) = &mut entry.memory.attempt else { return };
        attempt.order = Some(url);
        if let Some(budget) = self.budget.as_mut().filter(|_| !exempt) {
            budget.order_placed(turn.now.wall, attempt.at);
        }
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
        turn: &mut Turn<'_>,
        order: OrderId,
        result: Result<Issued, OrderError>,
    ) {
        let Some(name) = self.orders.remove(&order) else { return };
        let Some(entry) = self.entries.get_mut(&name) else { return };
        let (names, counted) = match &entry.step {
            Step::Queued { names, .. } => (names.clone(), false),
            Step::Recording { names, exempt, .. } | Step::Ordering { names, exempt, .. } => {
                (names.clone(), !exempt)
            }
            _ => return,
        };
        self.unsaved = Some(Urgency::Now);
        let issued = match result {
            Ok(issued) => issued,
            Err(error) => return self.failed(turn, &name, &names, counted, &error),
        };
        let since = entry.memory.attempt.as_ref().map_or(turn.now.wall, |attempt| attempt.at);
        match &mut self.budget {
            Some(budget) if counted => budget.certificate_issued(turn.now.wall, since, &names),
            // The CA did not take it for the renewal that it asked for, so it counted it.
            Some(budget) if self.policy.limits_known && issued.replaced.is_none() => {
                budget.order_made(turn.now.wall, &names);
            }
            _ => {}
        }
        match file::assemble(turn.now.wall, &issued) {
            Err(Refused { error, pem }) => {
                let line = Record::error("order", "the CA's certificate is not usable");
                turn.log(line.with("name", &name).with("error", &error));
                let reason = error.to_string();
                let error = Complaint::new(&*reason, error.is_about_time().then_some(Hint::Clock));
                let failure = Failure { error, follow_up: FollowUp::LATER };
                self.blame(turn, &name, FlatMap::new(), &failure);
                self.outputs.push_back(CertificatesOutput::Reject(name, pem, reason));
            }
            Ok((pem, stored)) => {
                self.place(turn.now.wall, &name, (pem, stored), Origin::Issued);
            }
        }
    }

    fn failed(
        &mut self,
        turn: &mut Turn<'_>,
        name: &Domain,
        names: &[Domain],
        counted: bool,
        error: &OrderError,
    ) {
        let now = turn.now.wall;
        let entry = self.entries.get(name);
        let attempt = entry.and_then(|entry| entry.memory.attempt.as_ref());
        let placed = attempt.is_some_and(|attempt| attempt.order.is_some());
        let since = attempt.map_or(now, |attempt| attempt.at);
        // What the CA may have issued it has counted, though we have nothing of it.
        let finalizing =
            entry.is_some_and(|it| matches!(it.step, Step::Ordering { finalizing: true, .. }));
        let refused = matches!(error, OrderError::Invalid { .. });
        let may_be_issued = matches!(error, OrderError::NotOurs) || (finalizing && !refused);
        if let Some(budget) = &mut self.budget {
            let failed = error.failed_authorizations(names);
            match (counted, placed) {
                (false, _) => budget.validations_failed(now, &failed),
                (true, true) if may_be_issued => budget.certificate_issued(now, since, names),
                (true, true) => budget.order_failed(now, names, &failed),
                (true, false) => budget.order_unmade(now, names),
            }
        }
        if self.has_too_many_names(turn, name, names, error) {
            return;
        }
        let follow_up = match error {
            OrderError::Unregistered { .. } => FollowUp::Restart,
            error if error.is_paused() => FollowUp::Paused,
            error => FollowUp::Retry { retry_after: error.retry_after() },
        };
        let failure = Failure { error: Complaint::new(error.to_string(), error.hint()), follow_up };
        self.blame(turn, name, error.blamed(names), &failure);
    }

    /// Notes a failure: at the names that are to blame, so that the others go on without them, or at
    /// the certificate as a whole.
    fn blame(
        &mut self,
        turn: &mut Turn<'_>,
        name: &Domain,
        blamed: FlatMap<Domain, Complaint>,
        failure: &Failure,
    ) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        self.order_counts.failed += 1;
        entry.memory.attempt = None;
        entry.step = Step::Resting;
        let (now, spread) = (turn.now.wall, Spread::draw(turn.keys));
        let acted = std::mem::take(&mut entry.acted);
        // What one name of an app has caused counts for the next.
        let known = entry.memory.troubles().map(|trouble| trouble.app_changes);
        let app_changes = known.max_by_key(|changes| changes.not_before).unwrap_or_default();
        let grown = |before: Option<&Trouble>, error: Complaint, left: Option<Duration>| {
            let spread = spread.within(left);
            let trouble = Trouble::grown(before, now, error, failure.follow_up, spread);
            let mut trouble = Trouble { app_changes, ..trouble };
            if acted {
                trouble.acted_upon(now);
            }
            trouble
        };
        let alone = entry.wish.as_ref().is_none_or(|wish| wish.names.len() == 1);
        // With one name there is nothing to tell apart: whoever was blamed before, it counts on.
        let memory = &entry.memory;
        let name_alone = memory.left_out.values().next().filter(|_| alone);
        if blamed.is_empty() {
            let before = worse(&memory.trouble, name_alone);
            let trouble = grown(before, failure.error.clone(), entry.time_left(now));
            turn.log(failed_line(name, &trouble));
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
            turn.log(if alone {
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
    pub fn written(&mut self, turn: &mut Turn<'_>, name: &Domain, result: Result<(), StoreError>) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Step::Storing { again_at, .. } = &mut entry.step else { return };
        if let Err(error) = result {
            let at = turn.now.wall.plus(jittered(turn.keys, WRITE_PAUSE));
            *again_at = Some(at);
            let line = Record::error("storage", "cannot write certificate, it is kept in memory");
            let line = line.with("name", name).with("error", &error).with("next_try", at);
            turn.log(line.hinted(Hint::of_storage(error.kind)));
            return self.reindex(name);
        }
        let Step::Storing { stored, origin, .. } = std::mem::take(&mut entry.step) else { return };
        let is_new = !matches!(origin, Origin::Before(_));
        let is_issued = matches!(origin, Origin::Issued);
        let life = self.life_of(turn.now.wall, (&stored, origin), turn.keys);
        self.misnamed.remove(name);
        let Some(entry) = self.entries.get_mut(name) else { return };
        if is_issued {
            self.order_counts.issued += 1;
            turn.log(issued_line(name, &stored, &life));
        }
        if is_new {
            entry.memory.left_out.retain(|name, _| !stored.is_for(name));
            entry.memory.removed.retain(|name, _| !stored.is_for(name));
            (entry.memory.trouble, entry.memory.attempt, entry.held) = (None, None, None);
        }
        (entry.stored, entry.memory.life) = (Some(*stored), Some(life));
        self.unsaved = Some(Urgency::Now);
        self.step(name, Step::Resting);
        self.retire_for(turn.now.wall, name);
        self.outputs.push_back(CertificatesOutput::Changed(Some((name.clone(), is_new))));
    }

    /// Takes in how a [`CertificatesOutput::Archive`] ended.
    pub fn archived(&mut self, turn: &mut Turn<'_>, name: &Domain, result: Result<(), StoreError>) {
        if result.is_ok() {
            self.outputs.push_back(CertificatesOutput::Changed(None));
        }
        let Some(entry) = self.entries.get_mut(name) else { return };
        // A damaged file has left its entry already.
        let Step::Archiving { again_at } = &mut entry.step else { return };
        match result {
            Ok(()) => {
                let why = if entry.superseded { "superseded" } else { "expired and unwanted" };
                let line = Record::info("storage", "certificate archived").with("name", name);
                turn.log(line.with("reason", why));
                (entry.stored, entry.memory.life, entry.superseded) = (None, None, false);
                self.unsaved = Some(Urgency::Now);
                self.step(name, Step::Resting);
            }
            Err(error) => {
                let at = turn.now.wall.plus(jittered(turn.keys, WRITE_PAUSE));
                *again_at = Some(at);
                let line = Record::error("storage", "cannot archive certificate");
                let line = line.with("name", name).with("error", &error).with("next_try", at);
                turn.log(line.hinted(Hint::of_storage(error.kind)));
                self.reindex(name);
            }
        }
    }

    /// Takes in how a [`CertificatesOutput::Reject`] ended. It is for a person to look at, and not tried
    /// again: the next order's chain says no less.
    pub fn rejected(&self, turn: &mut Turn<'_>, name: &Domain, result: Result<(), StoreError>) {
        turn.log(match result {
            Ok(()) => {
                let line = "the certificate that is not usable is kept in archive/";
                Record::info("storage", line).with("name", name)
            }
            Err(error) => {
                let line = "cannot keep the certificate that is not usable in archive/";
                let line = Record::warn("storage", line).with("name", name).with("error", &error);
                line.hinted(Hint::of_storage(error.kind))
            }
        });
    }

    /// The process ends soon: an order of which the CA does not know yet is not begun, and not counted.
    pub fn cancel_unbegun(&mut self, turn: &mut Turn<'_>) {
        for name in self.recording.clone() {
            self.cancel_order(turn, &name);
        }
    }

    /// What is wanted has changed: an order for names that nobody wants any more does not begin. One
    /// that the CA has made goes on.
    pub(super) fn cancel_if_void(&mut self, turn: &mut Turn<'_>, name: &Domain) {
        if self.entries.get(name).is_some_and(|entry| entry.is_order_void()) {
            self.cancel_order(turn, name);
        }
    }

    fn cancel_order(&mut self, turn: &mut Turn<'_>, name: &Domain) {
        let order = match self.entries.get(name).map(|entry| &entry.step) {
            Some(Step::Queued { order, .. }) => *order,
            Some(Step::Recording { order, names, exempt, .. }) => {
                if let Some(budget) = self.budget.as_mut().filter(|_| !exempt) {
                    budget.order_unmade(turn.now.wall, names);
                }
                self.recording.retain(|recording| recording != name);
                self.unsaved = Some(Urgency::Now);
                *order
            }
            _ => return,
        };
        self.put_back(turn, name, order, None);
    }

    /// Whether a certificate is being written.
    pub fn is_writing(&self) -> bool {
        let mut steps = self.entries.values().map(|entry| &entry.step);
        steps.any(|step| matches!(step, Step::Storing { again_at: None, .. }))
    }

    /// The process ends: what the disk has not taken is written once more.
    pub fn stop(&mut self, turn: &mut Turn<'_>) {
        for (name, entry) in &self.entries {
            if let Step::Storing { pem, again_at: Some(_), .. } = &entry.step {
                let line = Record::warn("storage", "the certificate is written once more");
                turn.log(line.with("name", name));
                self.outputs.push_back(CertificatesOutput::Write(name.clone(), pem.clone()));
            }
        }
    }
}

/// A failure on its way to whoever is to blame.
struct Failure {
    error: Complaint,
    follow_up: FollowUp,
}

/// That which has failed more often.
fn worse<'a>(one: &'a Option<Trouble>, other: Option<&'a Trouble>) -> Option<&'a Trouble> {
    one.as_ref().into_iter().chain(other).max_by_key(|trouble| trouble.failures)
}

fn failed_line(name: &Domain, trouble: &Trouble) -> Record {
    let line = Record::error("order", "failed").with("name", name).with("error", &trouble.error);
    trouble.tell(line)
}

fn left_out_line(name: &Domain, domain: &Domain, trouble: &Trouble) -> Record {
    let line = Record::error("order", "a name is left out for now").with("name", name);
    trouble.tell(line.with("domain", domain).with("error", &trouble.error))
}

fn issued_line(name: &Domain, stored: &Stored, life: &Life) -> Record {
    let line = Record::info("order", "issued").with("name", name);
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
