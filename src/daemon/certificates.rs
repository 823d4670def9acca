//! The scheduler: which certificates are wanted, which are stored, and for each of them what is next,
//! when, and why. The only place that knows. Never talks to the CA and never touches the disk: it says
//! what is to be ordered, asked, written and archived.
//!
//! Each certificate walks: `Reading → Resting → Queued → Recording → Ordering → Storing → Resting → …`,
//! and an unwanted one at last `→ Archiving`. `entry.rs` holds the rules, this file the machine,
//! `ordering.rs` an order from its beginning to its end, `deferred.rs` who waits for a limit of the CA.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::acme::renewal_info::{NoSuggestion, Suggestion};
use crate::config::Config;
use crate::daemon::budget::Budget;
use crate::daemon::model::{
    CertificateState, Change, DesiredCertificates, NewOrder, OrderId, Stored, Urgency, minutes,
};

use crate::context::Context;
use crate::domain::Domain;
use crate::log::Record;
use crate::secret::Secret;
use crate::time::{Instant, Now, UnixTime};

mod clock;
mod comparing;
mod deadline;
mod deferred;
mod entry;
mod file;
mod held;
mod ordering;
mod reading;
mod retiring;
mod rollout;
mod schedule;
mod splitting;
mod trial;
mod view;

pub use schedule::{Next, Planned, Task, Why};
pub use view::{Counts, OrderCounts, State, View};

use clock::ClockOffset;
use comparing::Changes;
use deferred::Deferred;
use entry::{Entry, Policy, Step};

/// The pause after anything that the disk did not take.
const WRITE_PAUSE: std::time::Duration = std::time::Duration::from_secs(10);
/// The longest sleep towards a date: the wall clock may jump meanwhile.
const SLEEP_MAX: std::time::Duration = minutes(60);
/// A wall clock that differs by more than this from what the monotonic one says was set.
const CLOCK_SLACK: std::time::Duration = minutes(1);

/// Certificates that are looked at in one iteration, of those that are wanted otherwise, and of those for
/// which something is due: among thousands, a challenge is answered in between.
const PER_TURN: usize = 100;

/// What is to be done for the certificates.
#[derive(Debug)]
pub enum CertificatesOutput {
    /// Read `certs/NAME.pem`, before anything that is said later is done; the answer goes to
    /// [`Certificates::read`].
    Read(Domain),
    /// Order a certificate. When its turn has come, [`Certificates::begins`] is asked; how it ends
    /// goes to [`Certificates::finished`].
    Order(Box<NewOrder>),
    /// Try the routes of these names before [`CertificatesOutput::Begin`]; nothing waits for it.
    TryRoutes(Domain, Vec<Domain>),
    /// An order may begin.
    Begin {
        /// Which.
        order: OrderId,
        /// The certificate that it replaces (RFC 9773 section 5).
        replaces: Option<String>,
    },
    /// What an order is finalized with is on the disk, or cannot be.
    Kept(OrderId),
    /// An order may not begin; it is forgotten.
    Cancel(OrderId),
    /// Ask the CA when to renew; the answer goes to [`Certificates::advised`].
    Ask {
        /// Which certificate's file.
        name: Domain,
        /// What names it to the CA (RFC 9773 section 4.1).
        cert_id: String,
    },
    /// Write `certs/NAME.pem`; the answer goes to [`Certificates::written`].
    Write(Domain, Secret),
    /// Keep in the archive what may not become `certs/NAME.pem`, and why; the answer goes to
    /// [`Certificates::rejected`].
    Reject(Domain, Secret, String),
    /// Move `certs/NAME.pem` to the archive; the answer goes to [`Certificates::archived`].
    Archive(Domain),
    /// Ask the CA what time it is, before another order begins: our clock was set. The answer goes to
    /// [`Certificates::clock_compared`].
    AskTime,
    /// The CA accepts no more names in one certificate: what is wanted is to be split by that number, and
    /// handed to [`Certificates::want`].
    NamesMax(usize),
    /// What is in `certs/` has changed: load balancers must load it. The certificate that was written, and
    /// whether it is a new one.
    Changed(Option<(Domain, bool)>),
}

/// Every certificate that is wanted or stored.
#[derive(Debug)]
pub struct Certificates {
    policy: Policy,
    /// What the CA's limits leave.
    budget: Budget,
    /// Each in memory of its own: a map's nodes are half empty.
    entries: BTreeMap<Domain, Box<Entry>>,
    /// Those that are stored and that nobody wants.
    surplus: BTreeSet<Domain>,
    /// Every entry for which something is planned, by its date.
    due: BTreeSet<(UnixTime, Domain)>,
    /// Those whose orders wait for a limit of the CA.
    deferred: Deferred,
    orders: BTreeMap<OrderId, Domain>,
    /// Those that wait for their attempts to be on the disk.
    recording: Vec<Domain>,
    /// Orders that wait for what they are finalized with to be there; in which writing of the memory it is.
    keeping: Vec<(OrderId, Option<u64>)>,
    /// Files to read; the first one is being read.
    unread: VecDeque<Domain>,
    /// What is wanted now, before it is compared.
    asked: Option<Arc<DesiredCertificates>>,
    changes: Option<Changes>,
    /// All that the last list changes has been changed since this was asked.
    compared: bool,
    /// Those whose files, as they were read last, are not for their own names.
    misnamed: BTreeSet<Domain>,
    orders_made: u64,
    order_counts: OrderCounts,
    revision: u64,
    unsaved: Option<Urgency>,
    /// What was in service is kept until its successor is served.
    keeps_before: bool,
    /// The time of the last input.
    last_now: Option<Now>,
    outputs: VecDeque<CertificatesOutput>,
}

impl Certificates {
    /// Knows of no certificate yet.
    pub fn new(config: &Config) -> Certificates {
        let policy = Policy {
            directory: config.acme.to_string(),
            offers_advice: false,
            exact: config.san,
            synced: false,
            prune_after: config.prune_after,
            clock: ClockOffset::default(),
        };
        Certificates {
            policy,
            budget: Budget::of(config),
            entries: BTreeMap::new(),
            surplus: BTreeSet::new(),
            due: BTreeSet::new(),
            deferred: Deferred::default(),
            orders: BTreeMap::new(),
            recording: Vec::new(),
            keeping: Vec::new(),
            unread: VecDeque::new(),
            asked: None,
            changes: None,
            compared: false,
            misnamed: BTreeSet::new(),
            orders_made: 0,
            order_counts: OrderCounts::default(),
            revision: 0,
            unsaved: None,
            keeps_before: false,
            last_now: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes in what an earlier run remembered, before anything else.
    pub fn restore(
        &mut self,
        cx: &mut Context<'_>,
        certificates: BTreeMap<Domain, CertificateState>,
        budget: Budget,
    ) {
        self.budget = budget.with_limits_of(&self.budget);
        self.budget.forget_past(cx.now.wall);
        for (name, memory) in certificates {
            let mut entry = Box::new(Entry { memory, ..Entry::default() });
            entry.memory.trouble.take_if(|trouble| trouble.until_restart);
            entry.clamp(cx.now.wall);
            if entry.memory.attempt.as_ref().is_some_and(|it| !it.can_go_on(&self.policy.directory))
            {
                let error = "the program ended before the CA answered";
                entry.attempt_lost(cx, error);
                self.unsaved = Some(Urgency::Now);
            }
            self.entries.insert(name, entry);
        }
    }

    /// Takes in whether the CA says when to renew (RFC 9773).
    pub fn advice_offered(&mut self, offered: bool) {
        if self.policy.offers_advice != offered {
            self.policy.offers_advice = offered;
            for name in self.entries.keys().cloned().collect::<Vec<_>>() {
                self.reindex(&name);
            }
        }
    }

    /// Takes in the answer to [`CertificatesOutput::Ask`].
    pub fn advised(
        &mut self,
        cx: &mut Context<'_>,
        name: &Domain,
        cert_id: &str,
        answer: Result<Suggestion, NoSuggestion>,
    ) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.asking = false;
        let now = cx.now.wall;
        let same = |stored: &&Stored| stored.cert_id.as_deref() == Some(cert_id);
        if let (Some(stored), Some(life)) =
            (entry.stored.as_ref().filter(same), entry.memory.life.as_mut())
        {
            match answer {
                Ok(suggestion) => {
                    let change = life.advised(now, stored, suggestion, cx.keys);
                    if change == Change::Window {
                        cx.log(life.window_line(name, stored));
                        self.unsaved = Some(Urgency::Now);
                        // It may be exempt from what it waits for.
                        self.leave_queue(name);
                        self.forget_failure(now, name);
                    }
                }
                Err(error) => {
                    life.unadvised(now, &error, cx.keys);
                    cx.log(life.unadvised_line(name, &error));
                }
            }
        }
        self.unsaved = self.unsaved.max(Some(Urgency::Lazy));
        self.reindex(name);
    }

    /// An order that failed and is not due any more is no failure. Of what nobody wants, or not before the
    /// first list of apps, that is not known.
    fn forget_failure(&mut self, now: UnixTime, name: &Domain) {
        let Some(entry) = self.entries.get(name) else { return };
        let rests = !entry.is_busy() && !entry.is_rolled_back();
        if rests
            && entry.is_satisfied(now)
            && self.is_premature(now, entry)
            && let Some(entry) = self.entries.get_mut(name)
        {
            entry.memory.trouble = None;
        }
    }

    /// Whether an order that was queued is not due: by the CA's clock, by ours since it was set again, or
    /// since the CA has moved the window.
    fn is_premature(&self, now: UnixTime, entry: &Entry) -> bool {
        let desired = entry.desired.as_ref();
        desired.is_some_and(|desired| !entry.reason(desired, &self.policy).0.has_come(now))
    }

    /// Starts whatever is due.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        self.check_clock(cx);
        self.apply_changes(cx);
        let now = cx.now.wall;
        for _ in 0..PER_TURN {
            if let Some((at, _)) = self.due.first()
                && *at <= now
                && let Some((_, name)) = self.due.pop_first()
            {
                self.start(cx, &name);
            }
        }
        self.release(cx);
    }

    /// Notices a wall clock that was set: nothing that was spent comes back by that, and nothing waits
    /// longer than it could by the rules.
    fn check_clock(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let before = self.last_now.replace(now).unwrap_or(now);
        let expected = before.wall.plus(now.mono.since(before.mono));
        let (ahead, behind) = (now.wall.since(expected), expected.since(now.wall));
        if ahead.max(behind) <= CLOCK_SLACK {
            return;
        }
        let line = Record::warn("main", "the clock was set");
        cx.log(line.with("from", expected).with("to", now.wall));
        self.budget.clock_moved(expected, now.wall);
        let step_ms = now.wall.as_millis().saturating_sub(expected.as_millis());
        let stepped = self.policy.clock.stepped(step_ms);
        if stepped == ClockOffset::Unknown && self.policy.clock != ClockOffset::Unknown {
            self.outputs.push_back(CertificatesOutput::AskTime);
        }
        self.policy.clock = stepped;
        self.deferred = Deferred::default();
        for name in self.entries.keys().cloned().collect::<Vec<_>>() {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.clamp(now.wall);
                entry.bound_pauses(now.wall, cx.keys);
            }
            self.reindex(&name);
        }
    }

    fn start(&mut self, cx: &mut Context<'_>, name: &Domain) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.planned = None;
        let Some(next) = entry.next_due(&self.policy) else { return };
        match next.task {
            Task::Read => {
                entry.step = Step::Reading { again_at: None };
                self.unread.push_back(name.clone());
                if self.unread.len() == 1 {
                    self.read_next();
                }
            }
            Task::Write => {
                if let Step::Storing { pem, again_at, .. } = &mut entry.step {
                    *again_at = None;
                    let pem = pem.clone();
                    self.outputs.push_back(CertificatesOutput::Write(name.clone(), pem));
                }
            }
            Task::Order => {
                let placed = entry.placed(&self.policy).is_some();
                if entry.is_deferred() {
                    self.leave_queue(name);
                }
                if placed || !self.try_withheld(cx, name) {
                    self.start_order(cx, name);
                }
            }
            Task::Ask => self.ask(cx, name),
            Task::Archive => {
                entry.step = Step::Archiving { again_at: None };
                self.outputs.push_back(CertificatesOutput::Archive(name.clone()));
            }
        }
        self.reindex(name);
    }

    /// Asks when to renew; one that has expired meanwhile is not asked about any more.
    fn ask(&mut self, cx: &Context<'_>, name: &Domain) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let (Some(stored), Some(life)) = (&entry.stored, &mut entry.memory.life) else { return };
        match &stored.cert_id {
            Some(cert_id) if stored.not_after > cx.now.wall => {
                entry.asking = true;
                let (name, cert_id) = (name.clone(), cert_id.clone());
                self.outputs.push_back(CertificatesOutput::Ask { name, cert_id });
            }
            _ => life.advice.ask_at = Some(stored.not_after),
        }
    }

    /// When something is due next.
    pub fn poll_timeout(&self, now: Now) -> Option<Instant> {
        if self.asked.is_some() || self.changes.is_some() {
            return Some(now.mono);
        }
        let due = self.due.first().map(|(at, _)| *at);
        let at = due.into_iter().chain(self.release_at(now.wall)).min()?;
        Some(now.mono + at.since(now.wall).min(SLEEP_MAX))
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<CertificatesOutput> {
        self.outputs.pop_front()
    }

    /// Whether, and how soon, the memory must be written; asked once.
    pub fn take_unsaved(&mut self) -> Option<Urgency> {
        self.unsaved.take()
    }

    /// Whether there are orders that the CA has made and that are gone on with.
    pub fn has_placed_orders(&self) -> bool {
        self.entries.values().any(|entry| entry.goes_on(&self.policy))
    }

    /// What must survive a restart, by name; behind `last`, if that is given.
    pub fn memory(
        &self,
        last: Option<&Domain>,
    ) -> impl Iterator<Item = (&Domain, &CertificateState)> {
        let begin = last.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.range::<Domain, _>((begin, Bound::Unbounded));
        entries.map(|(name, entry)| (name, &entry.memory))
    }

    /// What was spent of the CA's limits, less what has grown back.
    pub fn budget(&mut self, now: UnixTime) -> Budget {
        self.budget.forget_past(now);
        self.budget.clone()
    }

    fn step(&mut self, name: &Domain, step: Step) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.step = step;
        }
        self.reindex(name);
        self.drop_if_void(name);
    }

    /// Puts a certificate where it is found without a look at all of them: by what is next for it, and
    /// whether it is wanted. To be called after every change.
    fn reindex(&mut self, name: &Domain) {
        self.revision += 1;
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.desired.is_none() && entry.stored.is_some() {
            self.surplus.insert(name.clone());
        } else {
            self.surplus.remove(name);
        }
        if let Some(at) = entry.planned.take() {
            self.due.remove(&(at, name.clone()));
        }
        entry.planned = entry.next_due(&self.policy).map(|next| next.at);
        if let Some(at) = entry.planned {
            self.due.insert((at, name.clone()));
        }
    }

    /// Forgets a certificate that nobody wants and of which nothing is stored. Before the first sync
    /// nobody knows what is wanted.
    fn drop_if_void(&mut self, name: &Domain) {
        let Some(now) = self.last_now.filter(|_| self.policy.synced) else { return };
        if self.entries.get(name).is_some_and(|entry| entry.is_void(now.wall)) {
            if let Some(at) = self.entries.remove(name).and_then(|entry| entry.planned) {
                self.due.remove(&(at, name.clone()));
            }
            self.unsaved = self.unsaved.max(Some(Urgency::Lazy));
        }
    }
}

#[cfg(test)]
mod tests;
