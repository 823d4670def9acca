//! One certificate: what is wanted, what is stored, what is under way, and what follows from that.
//! The rules of the schedule are here and nowhere else; nothing here acts.

use std::sync::Arc;
use std::time::Duration;

use crate::daemon::budget::OrderKind;
use crate::daemon::model::{
    AppChanges, Attempt, CertificateRecord, CertificateState, DesiredCertificate, Jitter,
    NameChanges, OrderId, RetryPolicy, RetryState, Stored, When,
};

use crate::context::Context;
use crate::domain::Domain;
use crate::hint::Complaint;
use crate::log::{Record, message};
use crate::secret::Secret;
use crate::time::UnixTime;

use super::clock::ClockOffset;
use super::held::{HOLD_MIN, Held};

use super::rollout::{Rollout, WriteReason};
use super::schedule::{Next, Task, Why};

/// A run that ends by itself does not wait for a file that the disk refused so often.
const REFUSALS_MAX: u32 = 3;

/// What the schedule goes by, besides the certificate itself.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// The directory of the CA.
    pub(super) directory: String,
    /// Whether the CA offers renewal information; unknown is no.
    pub(super) offers_advice: bool,
    /// Whether a name that the label has no longer is taken out of the certificate.
    pub(super) exact: bool,
    /// Whether the desired certificates are known: before, nothing is unwanted.
    pub(super) synced: bool,
    /// How long after its expiry an unwanted certificate is archived; nothing: never.
    pub(super) prune_after: Option<Duration>,
    /// Our clock, compared with the CA's.
    pub(super) clock: ClockOffset,
}

/// Everything about one certificate.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) desired: Option<Arc<DesiredCertificate>>,
    pub(super) stored: Option<Stored>,
    /// What must survive a restart: who asked last, the life of the stored one (also while its file
    /// is not read yet), what failed, and the order whose end is not known.
    pub(super) memory: CertificateState,
    pub(super) step: Step,
    /// Whether a question about the renewal is on its way.
    pub(super) asking: bool,
    /// No order before; why not.
    pub(super) held: Option<Box<Held>>,
    /// An operator has acted since the order that is under way, or noted, was made: what it fails for may
    /// be fixed.
    pub(super) acted: bool,
    /// Another certificate has all its wanted names: it would only stand in that one's way.
    pub(super) superseded: bool,
    /// The stored certificate, or one that was rolled back, is not known to be served.
    pub(super) trial: Option<Box<Rollout>>,
    /// Where it stands in the index of what is due.
    pub(super) planned: Option<UnixTime>,
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) enum Step {
    /// Nothing.
    #[default]
    Resting,
    /// The file is there and not read yet; again at that time where the disk refused.
    Reading { again_at: Option<UnixTime> },
    /// The issuer has it, but no room yet.
    Queued { order: OrderId, names: Vec<Domain> },
    /// The attempt must be on the disk before the CA hears of it.
    Recording { order: OrderId, names: Vec<Domain>, kind: OrderKind, write: Option<u64> },
    /// The CA is at it. One that is finalizing may have given a certificate, whatever becomes of it here.
    Ordering { names: Vec<Domain>, kind: OrderKind, finalizing: bool },
    /// Issued, or to go back, but not on the disk yet; again at that time where the disk refused, which it
    /// did `refusals` times.
    Storing {
        pem: Secret,
        stored: Box<Stored>,
        again_at: Option<UnixTime>,
        refusals: u32,
        origin: WriteReason,
    },
    /// On its way to the archive; again at that time where the disk refused.
    Archiving { again_at: Option<UnixTime> },
}

impl Step {
    /// In a word.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Step::Resting => "resting",
            Step::Reading { .. } => "reading",
            Step::Queued { .. } => "queued",
            Step::Recording { .. } | Step::Ordering { .. } => "ordering",
            Step::Storing { .. } => "storing",
            Step::Archiving { .. } => "archiving",
        }
    }
}

impl Entry {
    /// What is next. It depends on nothing but the entry and the policy, so that it changes only when
    /// one of them does.
    pub(super) fn next(&self, policy: &Policy) -> Option<Next> {
        match &self.step {
            Step::Resting => {
                let all = [self.next_order(policy), self.next_question(policy), self.prune(policy)];
                all.into_iter().flatten().min_by_key(|next| next.at)
            }
            Step::Reading { again_at } => {
                again_at.map(|at| Next { at, task: Task::Read, why: Why::Disk })
            }
            Step::Storing { again_at, .. } => {
                again_at.map(|at| Next { at, task: Task::Write, why: Why::Disk })
            }
            Step::Archiving { again_at } => {
                again_at.map(|at| Next { at, task: Task::Archive, why: Why::Disk })
            }
            Step::Queued { .. } | Step::Recording { .. } | Step::Ordering { .. } => None,
        }
    }

    /// What is due without its turn: an order that waits for a limit is not.
    pub(super) fn next_due(&self, policy: &Policy) -> Option<Next> {
        let place = self.held.as_ref().and_then(|held| held.queue.as_ref());
        let Some(place) = place.filter(|_| !self.is_busy()) else { return self.next(policy) };
        let again = place.again_at.map(|at| Next { at, task: Task::Order, why: Why::Window });
        let all = [again, self.next_question(policy), self.prune(policy)];
        all.into_iter().flatten().min_by_key(|next| next.at)
    }

    /// Whether the order waits for a limit that apps share.
    pub(super) fn is_deferred(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.queue.is_some())
    }

    /// The stored certificate, when somebody wants it.
    fn in_demand(&self) -> Option<&Stored> {
        self.stored.as_ref().filter(|_| self.desired.is_some())
    }

    /// The same, when it can be seen whether it is served.
    pub(super) fn to_be_seen(&self) -> Option<&Stored> {
        self.in_demand().filter(|stored| stored.can_be_seen)
    }

    /// Whether something of the order is under way.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.step, Step::Resting)
    }

    /// Whether only the disk keeps it from resting, and has refused its file often enough.
    pub(super) fn is_refused(&self) -> bool {
        match self.step {
            Step::Storing { again_at: Some(_), refusals, .. } => refusals >= REFUSALS_MAX,
            Step::Archiving { again_at } => again_at.is_some(),
            _ => false,
        }
    }

    /// The order that the CA has made and that can be gone on with, if there is one.
    pub(super) fn placed(&self, policy: &Policy) -> Option<&Attempt> {
        self.memory.attempt.as_deref().filter(|attempt| attempt.can_go_on(&policy.directory))
    }

    /// Whether there is such an order and somebody is, or will be, at it: of one whose certificate nobody
    /// wants any more nothing comes. Before the first sync nobody knows what is wanted.
    pub(super) fn goes_on(&self, policy: &Policy) -> bool {
        let cared_for = !policy.synced || self.desired.is_some() || self.is_busy();
        cared_for && self.placed(policy).is_some()
    }

    /// Whether an order has not begun, and is for a name that nobody wants any more.
    pub(super) fn is_order_void(&self) -> bool {
        let (Step::Queued { names, .. } | Step::Recording { names, .. }) = &self.step else {
            return false;
        };
        let wanted = self.desired.as_ref().map_or(&[][..], |desired| &desired.names);
        names.iter().any(|name| !wanted.contains(name))
    }

    /// When the next order is to be made: there must be a reason, a name that may be tried, and no
    /// name in service that the order would do without before it must.
    fn next_order(&self, policy: &Policy) -> Option<Next> {
        let desired = self.desired.as_ref()?;
        if self.placed(policy).is_some() {
            return order_at(When::NOW, Why::Unfinished);
        }
        let (due, why) = self.reason(desired, policy);
        // One that is rolled back needs no order.
        let reason = if self.is_rolled_back() { When::NOW } else { due };
        let some_ready = desired.names.iter().map(|name| self.ready(name)).min()?;
        let at = reason.max(some_ready).max(self.covered_ready(desired));
        let failed = self.memory.trouble.as_ref().map_or(When::NOW, |trouble| trouble.retry);
        let held = self.held.as_ref().map_or(When::NOW, |held| When::At(held.until));
        let why = match (at.max(failed), &self.held) {
            (at, Some(held)) if When::At(held.until) > at => held.why,
            (at, _) if at > reason && self.is_rolled_back() => Why::RolledBack,
            (at, _) if at > reason => Why::Failed,
            _ => why,
        };
        order_at(at.max(failed).max(held), why)
    }

    /// The earliest reason for an order, whether it can be made then or not.
    pub(super) fn reason(&self, desired: &DesiredCertificate, policy: &Policy) -> (When, Why) {
        let Some(stored) = &self.stored else { return (When::NOW, Why::Missing) };
        let added = desired.names.iter().filter(|name| !stored.is_for(name));
        let added = added.map(|name| self.ready(name)).min().unwrap_or(When::Never);
        let surplus = policy.exact && stored.names.iter().any(|name| !desired.names.contains(name));
        let removed = if surplus { When::NOW } else { When::Never };
        let changes = self.memory.name_changes.as_ref();
        let earliest = changes.map_or(When::NOW, |changes| When::At(changes.order_at));
        let (added, removed) = (added.max(earliest), removed.max(earliest));
        let by_advice = self.memory.life.as_ref().is_some_and(|life| life.advice.window.is_some());
        let renewal = self.renewal().map_or(When::NOW, |at| When::At(policy.clock.on_ours(at)));
        let renewal_why = if by_advice { Why::Window } else { Why::Lifetime };
        [(added, Why::NameAdded), (removed, Why::NameRemoved), (renewal, renewal_why)]
            .into_iter()
            .min_by_key(|(at, _)| *at)
            .unwrap_or((renewal, renewal_why))
    }

    /// When the stored certificate is renewed.
    pub(super) fn renewal(&self) -> Option<UnixTime> {
        let (stored, life) = (self.stored.as_ref()?, self.memory.life.as_ref()?);
        Some(life.renewal(stored))
    }

    /// When a name may be ordered.
    fn ready(&self, name: &Domain) -> When {
        self.memory.left_out.get(name).map_or(When::NOW, |trouble| trouble.retry)
    }

    /// When an order takes no name out of service: all of those in service can be tried again, or the
    /// certificate is so near its end that the others continue without them.
    fn covered_ready(&self, desired: &DesiredCertificate) -> When {
        let Some(stored) = &self.stored else { return When::NOW };
        let covered = desired.names.iter().filter(|name| stored.is_for(name));
        let all = covered.map(|name| self.ready(name)).max().unwrap_or(When::NOW);
        all.min(When::At(self.leave_out_at(stored)))
    }

    /// The names that are in no certificate and could be ordered at `now`, and those that they wait for:
    /// in service, and failing, so that an order without them would take them out of service.
    pub(super) fn waiting(&self, now: UnixTime) -> Option<(Vec<&Domain>, Vec<&Domain>)> {
        let (stored, desired) = (self.stored.as_ref()?, self.desired.as_ref()?);
        let (ready, failing): (Vec<&Domain>, Vec<&Domain>) =
            desired.names.iter().partition(|name| self.ready(name).has_come(now));
        let waiting: Vec<&Domain> = ready.into_iter().filter(|it| !stored.is_for(it)).collect();
        let kept: Vec<&Domain> = failing.into_iter().filter(|it| stored.is_for(it)).collect();
        let waits = self.leave_out_at(stored) > now && !waiting.is_empty() && !kept.is_empty();
        waits.then_some((waiting, kept))
    }

    /// The names of an order that is made at `now`, in the order of the label.
    pub(super) fn names_to_order(&self, now: UnixTime) -> Vec<Domain> {
        let names = self.desired.iter().flat_map(|desired| &desired.names);
        names.filter(|name| self.ready(name).has_come(now)).cloned().collect()
    }

    /// The names of an order of which nobody knows that their challenges are answered: those that are in
    /// no certificate, or that failed the last time.
    pub(super) fn untried(&self, names: &[Domain]) -> Vec<Domain> {
        let is_new = |name: &&Domain| {
            let stored = self.stored.as_ref().is_some_and(|stored| stored.is_for(name));
            !stored || self.memory.trouble.is_some() || self.memory.left_out.contains_key(name)
        };
        names.iter().filter(is_new).cloned().collect()
    }

    /// What an order replaces (RFC 9773 section 5): only a certificate that this CA knows.
    pub(super) fn replaces(&self, policy: &Policy) -> Option<String> {
        let life = self.memory.life.as_ref().filter(|life| life.is_of(&policy.directory))?;
        let stored = self.stored.as_ref().filter(|stored| stored.serial == life.serial)?;
        stored.cert_id.clone().filter(|_| policy.offers_advice)
    }

    fn next_question(&self, policy: &Policy) -> Option<Next> {
        let may_ask = policy.offers_advice && !self.asking;
        let at = self.question_at(policy).filter(|_| may_ask)?;
        Some(Next { at, task: Task::Ask, why: Why::Window })
    }

    /// When a CA that answers such questions is to be asked about the renewal; not about one that no app
    /// wants.
    fn question_at(&self, policy: &Policy) -> Option<UnixTime> {
        let stored = self.in_demand()?;
        stored.cert_id.as_ref()?;
        let life = self.memory.life.as_ref().filter(|life| life.may_be_of(&policy.directory))?;
        let at = life.advice.ask_at.unwrap_or(stored.not_before);
        // RFC 9773 section 4.3.3: not after its expiry.
        (at < stored.not_after).then_some(at)
    }

    /// Whether such a question is due at `now` and has had no answer since `start`: every answer, and
    /// every failure, puts the next question off.
    pub(super) fn awaits_advice(&self, policy: &Policy, start: UnixTime, now: UnixTime) -> bool {
        let is_due = self.question_at(policy).is_some_and(|at| at <= now);
        let may_ask = !self.is_busy() && self.stored.as_ref().is_some_and(|it| it.not_after > now);
        let life = self.memory.life.as_ref();
        let was_answered = life.and_then(|life| life.advice.ask_at).is_some_and(|at| at > start);
        is_due && may_ask && !was_answered
    }

    fn prune(&self, policy: &Policy) -> Option<Next> {
        let may_prune = policy.synced && policy.clock.agrees();
        let stored = self.stored.as_ref().filter(|_| may_prune && self.desired.is_none())?;
        let at = if self.superseded {
            stored.not_before
        } else {
            stored.not_after.plus(policy.prune_after?)
        };
        Some(Next { at, task: Task::Archive, why: Why::Unwanted })
    }

    /// Whether nothing is lost when this entry goes.
    pub(super) fn is_void(&self, now: UnixTime) -> bool {
        let idle = self.desired.is_none() && self.stored.is_none() && !self.is_busy();
        idle && self.memory.matters_until().has_come(now)
    }

    /// Whether a new certificate waits for being tried again.
    pub(super) fn is_rolled_back(&self) -> bool {
        matches!(self.trial.as_deref(), Some(Rollout::RolledBack { .. }))
    }

    /// Whether the last order failed, wholly or for a name.
    pub(super) fn is_failing(&self) -> bool {
        self.desired.is_some()
            && (self.memory.trouble.is_some() || !self.memory.left_out.is_empty())
    }

    /// Whether every name of the desired certificate is in a certificate that is valid at `now`.
    pub(super) fn is_satisfied(&self, now: UnixTime) -> bool {
        let Some(desired) = &self.desired else { return true };
        let stored = self.stored.as_ref().filter(|stored| stored.not_after > now);
        stored.is_some_and(|stored| desired.names.iter().all(|name| stored.is_for(name)))
    }

    /// Whether the CA's limits do not count an order made at `now`: a renewal that it asked for.
    pub(super) fn is_exempt(&self, policy: &Policy, now: UnixTime) -> bool {
        let advised = self.memory.life.as_ref().is_some_and(|life| life.is_advised(now));
        advised && self.replaces(policy).is_some()
    }

    /// Takes in what the label says now. Names that it has no longer are not tried any more; what
    /// failed may work once an operator has acted. Until when other names wait for their order, where the
    /// label has changed again too soon.
    pub(super) fn set_desired(
        &mut self,
        now: UnixTime,
        desired: &Arc<DesiredCertificate>,
    ) -> Option<UnixTime> {
        self.memory.keep_removed(now, &desired.names);
        let mut waits_until = None;
        if self.is_to_be_replaced(desired) {
            let changes = NameChanges::changed(self.memory.name_changes.as_deref(), now);
            waits_until = (changes.order_at > now).then_some(changes.order_at);
            self.memory.name_changes = Some(Box::new(changes));
        }
        let before = self.memory.source.as_ref();
        if before.is_some_and(|before| desired.source.was_acted_upon_since(before)) {
            let troubles = self.memory.troubles_mut();
            troubles.for_each(|trouble| trouble.acted_upon(now));
            self.acted = self.memory.attempt.is_some();
        }
        let fits =
            |attempt: &Attempt| attempt.names.iter().all(|name| desired.names.contains(name));
        if !self.is_busy() && self.memory.attempt.as_ref().is_some_and(|attempt| !fits(attempt)) {
            self.memory.attempt = None;
        }
        if matches!(self.step, Step::Archiving { again_at: Some(_) }) {
            // It may be gone, although the disk has not said so.
            self.step = Step::Reading { again_at: Some(now) };
        }
        // By now it may be split.
        self.held.take_if(|held| held.why == Why::TooManyNames);
        self.memory.source = Some(desired.source.clone());
        self.memory.names = match &*desired.names {
            [_] => Box::default(),
            names => names.into(),
        };
        self.desired = Some(Arc::clone(desired));
        self.superseded = false;
        waits_until
    }

    /// Whether a label has other names than it had, so that the certificate in service no longer fits.
    fn is_to_be_replaced(&self, desired: &DesiredCertificate) -> bool {
        let (Some(before), Some(stored)) = (&self.desired, &self.stored) else { return false };
        let fits = desired.names.len() == stored.names.len()
            && desired.names.iter().all(|name| stored.is_for(name));
        before.names != desired.names && !fits
    }

    /// Takes in what the file holds; whether it is a certificate of which nothing was remembered. What
    /// is remembered of another one does not count for this one; and one that is new is what came of
    /// the order that was under way.
    pub(super) fn adopt(&mut self, cx: &mut Context<'_>, stored: Option<Stored>) -> bool {
        let known = |stored: &Stored| {
            self.memory.life.as_ref().is_some_and(|life| life.serial == stored.serial)
        };
        let is_new = stored.as_ref().is_some_and(|found| !known(found));
        if let Some(found) = stored.as_ref().filter(|_| is_new) {
            let ordered = |attempt: &Attempt| attempt.names.iter().all(|name| found.is_for(name));
            let issued = self.memory.attempt.take_if(|attempt| ordered(attempt));
            if issued.is_some() {
                self.memory.trouble = None;
            }
            let issued = issued.map(|attempt| (attempt.at, attempt.directory));
            let issued = issued.as_ref().map(|(at, directory)| (*at, directory.as_str()));
            self.memory.life = Some(CertificateRecord::begin(found, issued, cx.keys));
        } else if stored.is_none() {
            self.memory.life = None;
        }
        self.stored = stored;
        self.bound_pauses(cx.now.wall, cx.keys);
        is_new
    }

    /// The end of the order that was under way will never be known.
    pub(super) fn attempt_lost(&mut self, cx: &mut Context<'_>, error: &str) {
        let Some(attempt) = self.memory.attempt.take() else { return };
        let (before, spread) = (self.memory.trouble.as_ref(), Jitter::draw(cx.keys));
        // From when it was made: a program that ends again and again must not make it wait forever.
        self.memory.trouble = Some(RetryState::grown(
            before,
            attempt.at,
            error.to_string().into(),
            RetryPolicy::LATER,
            spread,
        ));
    }

    /// A name of the label is not ordered before that time; one that failed knows why already.
    pub(super) fn leave_out(
        &mut self,
        now: UnixTime,
        name: &Domain,
        until: UnixTime,
        why: Complaint,
    ) {
        let until = until.max(now.plus(HOLD_MIN));
        let trouble = self.memory.left_out.get_or_insert_with(name.clone(), || RetryState {
            failures: 0,
            error: why,
            retry: When::At(until),
            not_before: None,
            until_restart: false,
            app_changes: AppChanges::default(),
        });
        trouble.not_before = trouble.not_before.max(Some(until));
        trouble.retry = trouble.retry.max(When::At(until));
    }

    /// Keeps the next order back; said once.
    pub(super) fn hold(&mut self, cx: &mut Context<'_>, name: &Domain, held: Held) {
        let known = self.held.as_ref().is_some_and(|before| before.reason == held.reason);
        if !known {
            let line = Record::warn("order", message::ORDER_HELD_BACK).with("name", name);
            let line = line.with("limit", &held.reason).with("until", held.until);
            cx.log(line.hinted(held.reason.hint));
        }
        self.held = Some(Box::new(held));
    }
}

fn order_at(at: When, why: Why) -> Option<Next> {
    match at {
        When::At(at) => Some(Next { at, task: Task::Order, why }),
        When::Never => None,
    }
}
