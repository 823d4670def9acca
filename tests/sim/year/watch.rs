//! Watches a year: knows by the acts what should be, sees by the disk and the peers what is, and
//! says what is wrong. Never asks the daemon.
//!
//! How many orders a domain may have ([`Watch::allow`]): three at first, two more for each renewal
//! period that passes, two when its label comes, one when its app changes, two when something
//! breaks while an order is under way, two for a call to renew at once, three for a clock that is
//! a month ahead, and while its route is broken eight and then 2.7 a day (a pause of 12 h can be
//! 9 h long), and more while a certificate is in service that expires within a week: a pause is at most
//! a tenth of the time left, and can be 6 % of it long.
//!
//! A renewal is held back by no limit that the CA exempts it from ([`Watch::held`]): no wanted certificate
//! expires because of our own accounting.

use std::collections::{BTreeMap, BTreeSet};

use marathon_acme::domain::Domain;

use super::plan::{Act, Outage, Plan, is_in_crowd};
use super::report::Report;
use super::{DAY, HOUR};
use crate::archive;
use crate::faults::Fault;
use crate::network::{MILLISECOND, Nanos};
use crate::world::{Event, World};

/// The longest pause after a failure is 12 h and a quarter; then there must be an order that works.
const HEALING: Nanos = 16 * HOUR;
/// So much longer the domains of a crowd wait for the daemon's own budget.
const CROWD_PATIENCE: Nanos = 8 * DAY;
/// The archive is looked through once a day.
const ARCHIVE_PATIENCE: Nanos = 2 * DAY;
/// An order may be under way so long.
const UNDER_WAY: Nanos = 2 * HOUR;
/// The CA takes an order for a renewal for 120 days after the last certificate, less what a clock that is
/// a month ahead makes of that.
const RENEWAL: Nanos = 85 * DAY;
/// What the daemon may do in ignorance of a label that has just changed.
const IGNORANCE: Nanos = HOUR;

/// Everything that is known of a year so far.
pub(super) struct Watch {
    /// From one renewal to the next.
    period: Nanos,
    renewal_info: Option<Nanos>,
    apps: BTreeMap<usize, Vec<Domain>>,
    /// What is wanted, and since when; what is not wanted any more, and since when.
    wanted: BTreeMap<Domain, Nanos>,
    unwanted: BTreeMap<Domain, Nanos>,
    broken: BTreeSet<Domain>,
    mended: BTreeMap<Domain, Nanos>,
    spell: Spell,
    lb_down_until: Nanos,
    published: BTreeMap<String, Nanos>,
    /// Files in `archive/` with keys of expired certificates, and since when they are seen.
    overdue: BTreeMap<String, Nanos>,
    orders: BTreeMap<Domain, Orders>,
    keys: BTreeSet<Vec<u8>>,
    named: BTreeSet<String>,
    /// When each certificate was written last.
    written: BTreeMap<Domain, Nanos>,
    hastened_at: Nanos,
    hastened: BTreeSet<Domain>,
    seen: usize,
    issued: usize,
    checked: usize,
    report: Report,
}

/// A time of outages each of which began before the daemon had recovered from the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    from: Nanos,
    until: Nanos,
}

#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    made: u64,
    allowed_thousandths: u64,
    hours_wanted: u64,
    hours_broken: u64,
    last_at: Nanos,
}

impl Orders {
    /// How many orders are enough, where a renewal period has so many hours.
    fn allowed(&self, period_hours: u64) -> u64 {
        let by_time = self.hours_wanted * 2_000 / period_hours + self.hours_broken * 2_700 / 24;
        (self.allowed_thousandths + by_time) / 1000
    }
}

/// So many thousandths of an order more in an hour in which the certificate in service is about to expire,
/// by the daemon's clock. The limit of failed authorizations allows five at most.
fn before_the_expiry(world: &World, domain: &Domain) -> u64 {
    let now_ms = world.wall().as_millis() + world.machines[0].clock_offset_ms;
    let stored = world.stored.get(domain).map(|stored| stored.not_after.as_millis());
    let left_ms = u64::try_from(stored.unwrap_or(now_ms) - now_ms).unwrap_or(0);
    match left_ms * MILLISECOND / HOUR {
        0 if left_ms == 0 => 0,
        hours @ 0..150 => (100_000 / 6 / hours.max(1)).min(5_000),
        _ => 0,
    }
}

impl Watch {
    /// Nothing has happened yet.
    pub(super) fn new(plan: &Plan) -> Watch {
        let period =
            if plan.lifetime <= 10 * DAY { plan.lifetime / 2 } else { plan.lifetime / 3 * 2 };
        Watch {
            period,
            renewal_info: plan
                .renewal_info
                .map(|seconds| Nanos::from(seconds) * 1000 * MILLISECOND),
            apps: BTreeMap::new(),
            wanted: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            broken: BTreeSet::new(),
            mended: BTreeMap::new(),
            spell: Spell::default(),
            lb_down_until: 0,
            published: BTreeMap::new(),
            overdue: BTreeMap::new(),
            orders: BTreeMap::new(),
            keys: BTreeSet::new(),
            named: BTreeSet::new(),
            written: BTreeMap::new(),
            hastened_at: 0,
            hastened: BTreeSet::new(),
            seen: 0,
            issued: 0,
            checked: 0,
            report: Report::default(),
        }
    }

    /// Takes in what is about to be done.
    pub(super) fn begin(&mut self, now: Nanos, act: &Act) {
        match act {
            Act::Label { app, domains } => self.label(now, *app, domains),
            Act::Break(domain) => {
                self.report.broken_routes += 1;
                self.broken.insert(domain.clone());
                self.allow(domain, 8_000);
            }
            Act::Mend(domain) => {
                self.broken.remove(domain);
                self.mended.insert(domain.clone(), now);
            }
            Act::Clock { wrong_until: Some(until), .. } => {
                self.report.clock_months += 1;
                self.outage(now, *until);
                self.allow_all(3_000);
            }
            Act::Clock { wrong_until: None, .. } => self.report.wall_steps += 1,
            Act::Outage { outage, until } => self.on_outage(now, *outage, *until),
            Act::Hasten => {
                self.hastened_at = now;
                self.hastened = self.wanted.keys().cloned().collect();
                self.allow_all(2_000);
            }
            Act::Kill(_) | Act::Stop { .. } | Act::Relief(_) => {}
        }
    }

    fn on_outage(&mut self, now: Nanos, outage: Outage, until: Nanos) {
        match outage {
            Outage::CaCut | Outage::CaUnavailable(_) => self.report.ca_outages += 1,
            Outage::MarathonCut | Outage::MarathonUnavailable | Outage::MarathonBabble => {
                self.report.marathon_outages += 1;
            }
            Outage::Lb(_) => {
                self.report.lb_outages += 1;
                self.lb_down_until = self.lb_down_until.max(until);
                return;
            }
            Outage::Disk(_) => self.report.disk_outages += 1,
        }
        self.outage(now, until);
    }

    fn label(&mut self, now: Nanos, app: usize, domains: &[Domain]) {
        self.report.labels += 1;
        let before = self.apps.insert(app, domains.to_vec()).unwrap_or_default();
        for gone in before.iter().filter(|domain| !domains.contains(domain)) {
            self.wanted.remove(gone);
            self.unwanted.insert(gone.clone(), now);
        }
        for domain in domains {
            self.unwanted.remove(domain);
            let comes = !self.wanted.contains_key(domain);
            self.wanted.entry(domain.clone()).or_insert(now);
            self.allow(domain, if comes { 2_000 } else { 1_000 });
        }
    }

    /// Allows a domain so many thousandths of an order more.
    fn allow(&mut self, domain: &Domain, thousandths: u64) {
        let first = || Orders { allowed_thousandths: 3_000, ..Orders::default() };
        let orders = self.orders.entry(domain.clone()).or_insert_with(first);
        orders.allowed_thousandths += thousandths;
    }

    fn allow_all(&mut self, thousandths: u64) {
        for orders in self.orders.values_mut() {
            orders.allowed_thousandths += thousandths;
        }
    }

    /// Something is out of order until then: what was under way may be lost.
    fn outage(&mut self, from: Nanos, until: Nanos) {
        if from > self.spell.until + HEALING || self.spell.until == 0 {
            self.spell = Spell { from, until };
        }
        self.spell.until = self.spell.until.max(until);
        for orders in self.orders.values_mut() {
            if orders.made > 0 && from <= orders.last_at + UNDER_WAY {
                orders.allowed_thousandths += 2_000;
            }
        }
    }

    /// Whether everything has been in order for so long.
    fn is_calm(&self, now: Nanos, since: Nanos) -> bool {
        now >= self.spell.until + since
    }

    /// Takes in what has happened since the last time.
    pub(super) fn observe(&mut self, world: &mut World) -> Result<(), String> {
        for (at, event) in std::mem::take(&mut world.events) {
            match event {
                Event::Written(name) => {
                    self.written.insert(name.clone(), at);
                    if at > self.hastened_at && self.hastened.remove(&name) {
                        self.report.hastened_renewals += 1;
                    }
                }
                Event::Archived(name, stored) => {
                    self.report.archived += 1;
                    let known = self.wanted.get(&name).is_some_and(|since| at > since + IGNORANCE);
                    if stored.is_some() && known && self.is_calm(at, IGNORANCE) {
                        return Err(format!("the certificate of {name} is archived"));
                    }
                }
                Event::Killed(until) => {
                    self.report.kills += 1;
                    self.outage(at, until);
                }
                Event::Ended(until) => {
                    self.report.graceful_stops += 1;
                    self.outage(at, until);
                }
                Event::Started => self.report.starts += 1,
                Event::Held(fields) => self.held(at, &fields)?,
            }
        }
        self.observe_ca(world)
    }

    /// An order is held back. Each certificate has one name, so that every one after the first is a
    /// renewal.
    fn held(&self, at: Nanos, fields: &[String]) -> Result<(), String> {
        let [name, limit, ..] = fields else { return Err(format!("odd line: {fields:?}")) };
        let exempts = limit.contains("per account") || limit.contains("per registered domain");
        let written = Domain::parse(name).ok().and_then(|name| self.written.get(&name));
        match written.filter(|written| exempts && at < **written + RENEWAL) {
            Some(_) => {
                Err(format!("the renewal of {name} is held back by our own budget: {limit}"))
            }
            None => Ok(()),
        }
    }

    /// The CA knows what was ordered and issued.
    fn observe_ca(&mut self, world: &World) -> Result<(), String> {
        let ca = &world.peers.ca;
        let seen = std::mem::replace(&mut self.seen, ca.seen().len());
        for request in &ca.seen()[seen..] {
            self.report.server_errors += u64::from(request.status == 500);
            if request.problem == Some("rateLimited") {
                return Err(format!("the CA's limits are hit: {}", request.note));
            }
            if request.path == "/new-order" && request.status == 201 {
                let at = request.at.mono_ms * MILLISECOND;
                for name in request.note.split(' ') {
                    self.ordered(at, name)?;
                }
            }
        }
        let issued = std::mem::replace(&mut self.issued, ca.issued().len());
        for issued in &ca.issued()[issued..] {
            self.report.certificates += 1;
            if !self.named.insert(issued.names.join(" ")) {
                self.report.renewals += 1;
            }
            if !self.keys.insert(issued.public_key.clone()) {
                return Err(format!("a key serves twice: {:?}", issued.names));
            }
        }
        for checked in &ca.checked()[self.checked..] {
            let Some(error) = &checked.error else { continue };
            self.report.failed_validations += 1;
            // A route that works may fail by a fault of the network; then the table's pause is due.
            let domain = Domain::parse(&checked.name).ok();
            let works = domain.filter(|domain| !self.broken.contains(domain));
            if let Some(domain) = works.filter(|_| error.kind == "connection") {
                self.mended.insert(domain, checked.at.mono_ms * MILLISECOND);
            }
        }
        self.checked = ca.checked().len();
        Ok(())
    }

    fn ordered(&mut self, at: Nanos, name: &str) -> Result<(), String> {
        self.report.orders += 1;
        let domain = Domain::parse(name).map_err(|error| format!("{name} is ordered: {error}"))?;
        if let Some(since) = self.unwanted.get(&domain)
            && at > since + UNDER_WAY
            && self.is_calm(at, UNDER_WAY)
        {
            return Err(format!("{name} is ordered and not wanted"));
        }
        let orders = self.orders.entry(domain).or_default();
        orders.made += 1;
        orders.last_at = at;
        let allowed = orders.allowed(self.period / HOUR);
        if orders.made > allowed {
            return Err(format!("order {} of {name}, where {allowed} are enough", orders.made));
        }
        Ok(())
    }

    /// What must hold now; to be called once an hour.
    pub(super) fn check(&mut self, world: &World) -> Result<(), String> {
        for domain in self.wanted.keys() {
            if let Some(orders) = self.orders.get_mut(domain) {
                orders.hours_wanted += 1;
                if self.broken.contains(domain) {
                    orders.hours_broken += 1;
                    orders.allowed_thousandths += before_the_expiry(world, domain);
                }
            }
        }
        for (domain, since) in &self.wanted {
            if !self.broken.contains(domain) {
                let mended = self.mended.get(domain).copied().unwrap_or_default();
                let since = (*since).max(mended);
                self.check_domain(world, domain, since)?;
            }
        }
        self.check_load_balancers(world)?;
        self.check_challenges(world)?;
        self.check_archive(world)
    }

    /// A domain that can have a certificate since then.
    fn check_domain(&self, world: &World, domain: &Domain, since: Nanos) -> Result<(), String> {
        let now = world.now();
        let patience = if is_in_crowd(domain) { CROWD_PATIENCE } else { 0 };
        let first_hours_end = since + HEALING + patience;
        let disturbed = self.spell.from <= first_hours_end;
        let first_hours =
            now <= first_hours_end || disturbed && now <= self.spell.until + HEALING + patience;
        let Some(stored) = world.stored.get(domain) else {
            let from = since.max(self.spell.until) + HEALING + patience;
            return match now > from {
                true => Err(format!("no certificate for {domain}")),
                false => Ok(()),
            };
        };
        let left_ms = stored.not_after.as_millis() - world.wall().as_millis();
        let whole_ms = stored.not_after.as_millis() - stored.not_before.as_millis();
        let sixth = u64::try_from(whole_ms / 6).unwrap_or_default() * MILLISECOND;
        let excused = !self.is_calm(now, HEALING) && now - self.spell.from > sixth;
        if left_ms * 6 < whole_ms && !first_hours && !excused {
            let hours = left_ms / 3_600_000;
            return Err(format!("the certificate of {domain} has only {hours} h left"));
        }
        if let Some(retry_after) = self.renewal_info
            && self.hastened.contains(domain)
            && now > since.max(self.hastened_at).max(self.spell.until) + retry_after + HEALING
        {
            return Err(format!("{domain} is not renewed, although the CA asks for it"));
        }
        Ok(())
    }

    fn check_load_balancers(&self, world: &World) -> Result<(), String> {
        let (now, written_ms) = (world.now(), world.disk.last_write_ms());
        let calm = self.is_calm(now, HOUR) && now >= self.lb_down_until + HOUR;
        if !calm || now < written_ms * MILLISECOND + HOUR {
            return Ok(());
        }
        for (index, lb) in world.peers.lbs.iter().enumerate() {
            if lb.reloads().last().is_none_or(|reload| reload.mono_ms < written_ms) {
                return Err(format!("load balancer {index} has no reload after {written_ms} ms"));
            }
        }
        Ok(())
    }

    fn check_challenges(&mut self, world: &World) -> Result<(), String> {
        let now = world.now();
        let found = world.disk.names("challenges").into_iter().map(|token| {
            let since = self.published.get(&token).copied().unwrap_or(now);
            (token, since)
        });
        self.published = found.collect();
        let calm = self.is_calm(now, UNDER_WAY);
        match self.published.iter().find(|(_, since)| calm && now > **since + UNDER_WAY) {
            Some((token, _)) => Err(format!("challenge {token} stays published")),
            None => Ok(()),
        }
    }

    /// Once a day, as every file is read for it.
    fn check_archive(&mut self, world: &World) -> Result<(), String> {
        let now = world.now();
        if !(now / HOUR).is_multiple_of(24) {
            return Ok(());
        }
        let found = archive::overdue(world).into_iter().map(|name| {
            let since = self.overdue.get(&name).copied().unwrap_or(now);
            (name, since)
        });
        self.overdue = found.collect();
        let calm = self.is_calm(now, ARCHIVE_PATIENCE);
        match self.overdue.iter().find(|(_, since)| calm && now > **since + ARCHIVE_PATIENCE) {
            Some((name, _)) => {
                Err(format!("archive/{name} keeps the key of an expired certificate"))
            }
            None => Ok(()),
        }
    }

    /// What the year was like.
    pub(super) fn report(mut self, world: &World, steps: u64) -> Report {
        let toll = world.toll();
        self.report.hastened = self.hastened.len() as u64 + self.report.hastened_renewals;
        self.report.budget_holds = world.messages.get("held back").copied().unwrap_or_default();
        self.report.disk_faults = toll.of(Fault::DiskFull) + toll.of(Fault::DiskError);
        self.report.network_faults = toll.of(Fault::Refused) + toll.of(Fault::Reset);
        self.report.reloads = world.peers.lbs.iter().map(|lb| lb.reloads().len() as u64).sum();
        self.report.log_lines = world.messages.values().sum();
        self.report.steps = steps;
        self.report.digest = world.digest;
        self.report
    }
}
