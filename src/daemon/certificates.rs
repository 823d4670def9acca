//! Which certificates are wanted, which are stored, and when each is due. The only place that knows.
//! Never talks to the CA and never touches the disk: it says what should be ordered and written.
//!
//! Each domain walks: `Reading → Waiting → Ordering → Storing → Waiting → …`

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::daemon::issuer::{Issued, OrderError, OrderId};
use crate::daemon::wish::Source;
use crate::domain::Domain;
use crate::keys::{Keys, jittered};
use crate::log::Record;
use crate::pki::{Bundle, BundleError};
use crate::seam::{StoreError, StoreErrorKind};
use crate::secret::Secret;
use crate::time::{Instant, Now, UnixTime};
use crate::turn::Turn;

/// The pauses after the first, second … failed order of a domain; the last one repeats.
const RETRY_PAUSES: [Duration; 6] =
    [minutes(1), minutes(10), minutes(60), minutes(180), minutes(360), minutes(720)];
/// The pause after a file that the disk did not take.
const WRITE_PAUSE: Duration = Duration::from_secs(10);
/// The pause after a file that the disk did not give; mostly a person has to mend its mode.
const READ_PAUSE: Duration = minutes(1);
/// Certificates that live this long or less are renewed at half their life, others at two thirds.
const SHORT_LIFETIME: Duration = minutes(10 * 24 * 60);
/// The longest sleep towards a date: the wall clock may jump meanwhile.
const SLEEP_MAX: Duration = minutes(60);

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// What is to be done for the certificates.
#[derive(Debug)]
pub enum CertificatesOutput {
    /// Read `certs/NAME.pem`.
    Read(Domain),
    /// Order a certificate for these names.
    Order(OrderId, Vec<Domain>),
    /// Write `certs/NAME.pem`; the answer goes to [`Certificates::written`].
    Write(Domain, Secret),
    /// Move `certs/NAME.pem` to the archive.
    Archive(Domain),
    /// A new certificate is in `certs/`: load balancers must load it.
    Changed,
}

/// Every certificate that is wanted or stored.
#[derive(Debug, Default)]
pub struct Certificates {
    entries: BTreeMap<Domain, Entry>,
    /// Every entry that waits, by its date.
    due: BTreeSet<(UnixTime, Domain)>,
    orders: BTreeMap<OrderId, Domain>,
    /// Files to read; the first one is being read.
    unread: VecDeque<Domain>,
    orders_made: u64,
    outputs: VecDeque<CertificatesOutput>,
}

#[derive(Debug)]
struct Entry {
    wanted: Option<Source>,
    stored: Option<Lifetime>,
    step: Step,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
enum Step {
    /// The file is there and not read yet.
    Reading,
    /// Nothing to do until then; with [`Entry::wanted`] the entry stands in [`Certificates::due`].
    Waiting { until: UnixTime },
    /// The CA is at it.
    Ordering,
    /// Issued, but not on the disk yet.
    Storing(Storing),
}

#[derive(Debug)]
struct Storing {
    pem: Secret,
    lifetime: Lifetime,
    state: Writing,
}

#[derive(Debug, PartialEq, Eq)]
enum Writing {
    UnderWay,
    AgainAt(UnixTime),
}

/// From when to when a stored certificate is valid, and who issued it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// `notBefore`.
    pub not_before: UnixTime,
    /// `notAfter`.
    pub not_after: UnixTime,
    /// The common name of the issuer, empty when it has none.
    pub issuer: String,
}

/// Orders that failed since the last one that did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How many.
    pub failures: usize,
    /// The last one's error.
    pub error: String,
    /// The CA's own `Retry-After`: not even an operator's act makes it due before.
    pub not_before: UnixTime,
}

/// How many certificates are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Wanted, and a certificate that has not expired is stored.
    pub valid: usize,
    /// Wanted, none stored yet, none refused.
    pub pending: usize,
    /// Wanted, and the last order failed.
    pub failing: usize,
    /// Wanted, stored, and expired.
    pub expired: usize,
}

impl Certificates {
    /// Takes in the names of the files in `certs/`; they are read one by one.
    pub fn found(&mut self, names: Vec<Domain>) {
        for name in names {
            let wanted = self.forget(&name).and_then(|entry| entry.wanted);
            let step = Step::Reading;
            self.entries.insert(name.clone(), Entry { wanted, stored: None, step, trouble: None });
            self.unread.push_back(name);
        }
        self.read_next();
    }

    /// Takes in what `certs/NAME.pem` holds. A damaged file goes to the archive: one that HAProxy
    /// cannot load keeps it from loading any.
    pub fn read(&mut self, turn: &mut Turn<'_>, name: &Domain, file: Result<Secret, StoreError>) {
        self.unread.retain(|unread| unread != name);
        match file.map(|pem| inspect(name, &pem)) {
            Ok(Ok(lifetime)) => {
                let until = renewal(&lifetime, turn.keys);
                self.settle(name, Some(lifetime), until);
            }
            // HAProxy can load it and may serve it: only a successor takes its place.
            Ok(Err(error @ BundleError::MissingName(_))) => {
                let line = Record::warn("storage", "certificate file is not for its own name");
                turn.log(line.with("name", name).with("error", error));
                self.settle(name, None, turn.now.wall);
            }
            Ok(Err(error)) => self.damaged(turn, name, &error),
            Err(error) if error.kind == StoreErrorKind::Malformed => {
                self.damaged(turn, name, &error);
            }
            Err(error) if error.kind == StoreErrorKind::Missing => {
                self.settle(name, None, turn.now.wall);
            }
            Err(error) => {
                let at = turn.now.wall.plus(jittered(turn.keys, READ_PAUSE));
                let line = Record::error("storage", "cannot read certificate");
                turn.log(line.with("name", name).with("error", error).with("next_try", at));
                self.due.insert((at, name.clone()));
            }
        }
        self.read_next();
    }

    fn damaged(&mut self, turn: &mut Turn<'_>, name: &Domain, error: &dyn std::fmt::Display) {
        let line = Record::warn("storage", "certificate file is damaged, moved to archive/");
        turn.log(line.with("name", name).with("error", error));
        self.outputs.push_back(CertificatesOutput::Archive(name.clone()));
        self.settle(name, None, turn.now.wall);
    }

    /// Takes in the whole of what is wanted now.
    pub fn want(&mut self, turn: &mut Turn<'_>, wanted: &BTreeMap<Domain, Source>) {
        for (name, entry) in &mut self.entries {
            if entry.wanted.is_some() && !wanted.contains_key(name) {
                entry.wanted = None;
                turn.log(Record::info("sync", "domain is no longer wanted").with("name", name));
                if let Step::Waiting { until } = entry.step {
                    self.due.remove(&(until, name.clone()));
                }
            }
        }
        self.entries.retain(|_, entry| entry.wanted.is_some() || !entry.is_void());
        for (name, source) in wanted {
            self.want_one(turn, name, source);
        }
        self.handle_timeout(turn);
    }

    fn want_one(&mut self, turn: &mut Turn<'_>, name: &Domain, source: &Source) {
        let now = turn.now.wall;
        let entry = self.entries.entry(name.clone()).or_insert_with(|| Entry {
            wanted: None,
            stored: None,
            step: Step::Waiting { until: now },
            trouble: None,
        });
        if entry.wanted.as_ref() == Some(source) {
            return;
        }
        if entry.wanted.is_none() {
            let line = Record::info("sync", "domain is wanted").with("name", name);
            turn.log(line.with("app", &source.app));
        }
        entry.wanted = Some(source.clone());
        if let Step::Waiting { until } = &mut entry.step {
            self.due.remove(&(*until, name.clone()));
            // The operator acted: what failed may work now, so it is due as far as the CA allows.
            if let Some(trouble) = &entry.trouble {
                *until = (*until).min(trouble.not_before.max(now));
            }
            self.due.insert((*until, name.clone()));
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
        match result {
            Err(error) => self.failed(turn, &name, &error, error.retry_after()),
            Ok(issued) => match assemble(&issued) {
                Err(error) => {
                    let line = Record::error("order", "the CA's certificate is not usable");
                    turn.log(line.with("name", &name).with("error", &error));
                    self.failed(turn, &name, &error, None);
                }
                Ok((pem, lifetime)) => {
                    self.outputs.push_back(CertificatesOutput::Write(name.clone(), pem.clone()));
                    let state = Writing::UnderWay;
                    self.step(&name, Step::Storing(Storing { pem, lifetime, state }));
                }
            },
        }
    }

    /// Takes in how a [`CertificatesOutput::Write`] ended. What the disk did not take is kept and
    /// written again: a certificate once issued is never ordered a second time for that.
    pub fn written(&mut self, turn: &mut Turn<'_>, name: &Domain, result: Result<(), StoreError>) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Step::Storing(storing) = &mut entry.step else { return };
        if let Err(error) = result {
            let at = turn.now.wall.plus(jittered(turn.keys, WRITE_PAUSE));
            storing.state = Writing::AgainAt(at);
            self.due.insert((at, name.clone()));
            let line = Record::error("storage", "cannot write certificate, it is kept in memory");
            turn.log(line.with("name", name).with("error", error).with("next_try", at));
            return;
        }
        let lifetime = storing.lifetime.clone();
        entry.trouble = None;
        let until = renewal(&lifetime, turn.keys);
        let line = Record::info("order", "issued").with("name", name);
        let line = line.with("not_after", lifetime.not_after).with("issuer", &lifetime.issuer);
        turn.log(line.with("renewal", until));
        self.settle(name, Some(lifetime), until);
        self.outputs.push_back(CertificatesOutput::Changed);
    }

    /// The process ends: what the disk has not taken is written once more.
    pub fn stop(&mut self, turn: &mut Turn<'_>) {
        for (name, entry) in &self.entries {
            if let Step::Storing(Storing { pem, state: Writing::AgainAt(_), .. }) = &entry.step {
                let line = Record::warn("storage", "the certificate is written once more");
                turn.log(line.with("name", name));
                self.outputs.push_back(CertificatesOutput::Write(name.clone(), pem.clone()));
            }
        }
    }

    /// Starts whatever is due.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        while let Some((at, _)) = self.due.first() {
            if *at > turn.now.wall {
                break;
            }
            if let Some((_, name)) = self.due.pop_first() {
                self.start(&name);
            }
        }
    }

    fn start(&mut self, name: &Domain) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        match &mut entry.step {
            Step::Reading => {
                self.unread.push_back(name.clone());
                if self.unread.len() == 1 {
                    self.read_next();
                }
            }
            Step::Waiting { .. } if entry.wanted.is_some() => {
                let order = OrderId(self.orders_made);
                self.orders_made += 1;
                entry.step = Step::Ordering;
                self.orders.insert(order, name.clone());
                self.outputs.push_back(CertificatesOutput::Order(order, vec![name.clone()]));
            }
            Step::Storing(storing) => {
                storing.state = Writing::UnderWay;
                let pem = storing.pem.clone();
                self.outputs.push_back(CertificatesOutput::Write(name.clone(), pem));
            }
            Step::Waiting { .. } | Step::Ordering => {}
        }
    }

    /// When something is due next.
    pub fn poll_timeout(&self, now: Now) -> Option<Instant> {
        let (at, _) = self.due.first()?;
        Some(now.mono + at.since(now.wall).min(SLEEP_MAX))
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<CertificatesOutput> {
        self.outputs.pop_front()
    }

    /// How many wanted domains' last order failed.
    pub fn failing(&self) -> usize {
        let wanted = self.entries.values().filter(|entry| entry.wanted.is_some());
        wanted.filter(|entry| entry.trouble.is_some()).count()
    }

    /// How many certificates are in which state.
    pub fn counts(&self, now: UnixTime) -> Counts {
        let mut counts = Counts::default();
        for entry in self.entries.values().filter(|entry| entry.wanted.is_some()) {
            match (&entry.stored, &entry.trouble) {
                (Some(stored), _) if stored.not_after > now => counts.valid += 1,
                (_, Some(_)) => counts.failing += 1,
                (Some(_), None) => counts.expired += 1,
                (None, None) => counts.pending += 1,
            }
        }
        counts
    }

    fn failed(
        &mut self,
        turn: &mut Turn<'_>,
        name: &Domain,
        error: &dyn std::fmt::Display,
        retry_after: Option<Duration>,
    ) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let now = turn.now.wall;
        let failures = entry.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        let pause = RETRY_PAUSES[failures.min(RETRY_PAUSES.len() - 1)];
        let not_before = now.plus(retry_after.unwrap_or(Duration::ZERO));
        let until = now.plus(jittered(turn.keys, pause)).max(not_before);
        let error = error.to_string();
        let line = Record::error("order", "failed").with("name", name).with("error", &error);
        turn.log(line.with("failures", failures + 1).with("next_try", until));
        entry.trouble = Some(Trouble { failures: failures + 1, error, not_before });
        let stored = entry.stored.take();
        self.settle(name, stored, until);
    }

    /// Lets an entry wait, or drops it when nobody wants it and nothing is stored.
    fn settle(&mut self, name: &Domain, stored: Option<Lifetime>, until: UnixTime) {
        self.step(name, Step::Waiting { until });
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.stored = stored;
        if entry.wanted.is_some() {
            self.due.insert((until, name.clone()));
        } else if entry.is_void() {
            self.entries.remove(name);
        }
    }

    fn step(&mut self, name: &Domain, step: Step) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.step = step;
        }
    }

    /// Takes an entry out, and its date with it.
    fn forget(&mut self, name: &Domain) -> Option<Entry> {
        let entry = self.entries.remove(name)?;
        if let Step::Waiting { until } = entry.step {
            self.due.remove(&(until, name.clone()));
        }
        Some(entry)
    }

    fn read_next(&mut self) {
        if let Some(name) = self.unread.front() {
            self.outputs.push_back(CertificatesOutput::Read(name.clone()));
        }
    }
}

impl Entry {
    /// Whether nothing is lost when this entry goes.
    fn is_void(&self) -> bool {
        self.stored.is_none() && matches!(self.step, Step::Waiting { .. })
    }
}

/// Key, leaf and chain as one file, when they fit together and name what was ordered.
fn assemble(issued: &Issued) -> Result<(Secret, Lifetime), BundleError> {
    let pem = Bundle::assemble(&issued.key, &issued.chain_pem)?;
    let bundle = Bundle::parse(pem.expose())?;
    bundle.covers(&issued.names)?;
    let lifetime = lifetime(&bundle);
    Ok((pem, lifetime))
}

/// The lifetime of a stored certificate, when the file is whole and for this name.
fn inspect(name: &Domain, pem: &Secret) -> Result<Lifetime, BundleError> {
    let bundle = Bundle::parse(pem.expose())?;
    bundle.key_matches()?;
    bundle.covers(std::slice::from_ref(name))?;
    Ok(lifetime(&bundle))
}

fn lifetime(bundle: &Bundle) -> Lifetime {
    let leaf = bundle.leaf();
    Lifetime {
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        issuer: leaf.issuer_common_name.clone().unwrap_or_default(),
    }
}

/// When to renew without advice of the CA: a third of the lifetime left, or half when it is short;
/// at a moment of chance within one hundredth of the lifetime before that.
fn renewal(lifetime: &Lifetime, keys: &mut dyn Keys) -> UnixTime {
    let whole = lifetime.not_after.since(lifetime.not_before);
    let left = if whole <= SHORT_LIFETIME { whole / 2 } else { whole / 3 };
    let spread_ms = u64::try_from(whole.as_millis() / 100).unwrap_or(u64::MAX).max(1);
    lifetime.not_after.minus(left).minus(Duration::from_millis(keys.random() % spread_ms))
}

#[cfg(test)]
mod tests;
