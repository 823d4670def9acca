//! What a seed chooses for its year: the domains, the lifetime of certificates, and everything
//! that will be done to the daemon and its peers, each act with its moment.

use marathon_acme::domain::Domain;
use stand_ins::ca::RetryAfter;
use stand_ins::random::Random;

use super::{DAY, HOUR, LBS, MINUTE, Size};
use crate::machine::{Blow, Doom, Trigger};
use crate::network::{MILLISECOND, Nanos};

/// Registered domains that the domains are spread over.
const SITES: usize = 40;
/// Of the domains of a crowded seed, so many in a hundred are under one registered domain: 60 of
/// 200, more than Let's Encrypt certifies in a week.
const CROWD_PERCENT: usize = 30;
/// Where certificates are short-lived, it is nearly all of them.
const SHORT_LIVED_CROWD_PERCENT: usize = 90;

/// Let's Encrypt's limits: new orders in 3 hours, certificates of a registered domain in a week.
pub(crate) const LIMITS: (u32, u32) = (300, 50);

/// A seed's year.
pub(crate) struct Plan {
    /// How long a certificate is valid.
    pub(crate) lifetime: Nanos,
    /// Whether the CA offers renewal information, and its `Retry-After` in seconds.
    pub(crate) renewal_info: Option<u32>,
    /// Whether one registered domain has more domains than the CA certifies in a week.
    pub(crate) crowded: bool,
    /// New orders in 3 hours, and certificates of a registered domain in a week, that the CA takes.
    pub(crate) limits: (u32, u32),
    /// In their order.
    pub(crate) acts: Vec<(Nanos, Act)>,
}

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// An app is deployed with these domains, or removed when there are none.
    Label { app: usize, domains: Vec<Domain> },
    /// The CA cannot reach a domain any more.
    Break(Domain),
    /// Now it can.
    Mend(Domain),
    /// The process will be killed.
    Kill(Doom),
    /// The process is asked to end.
    Stop { downtime: Nanos },
    /// The wall clock of the daemon's machine is set; a gross error stays until then.
    Clock { shift_ms: i64, wrong_until: Option<Nanos> },
    /// Something stops working, and works again then.
    Outage { outage: Outage, until: Nanos },
    /// It works again.
    Relief(Outage),
    /// The CA asks for the renewal of every certificate.
    Hasten,
}

/// What can stop working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    CaCut,
    CaUnavailable(RetryAfter),
    MarathonCut,
    MarathonUnavailable,
    MarathonBabble,
    Lb(usize),
    Disk(u8),
}

/// Acts in the making.
struct Acts<'a> {
    days: u64,
    chance: &'a mut Random,
    acts: Vec<(Nanos, Act)>,
}

impl Plan {
    /// What `seed` chooses.
    pub(crate) fn new(seed: u64, size: Size, chance: &mut Random) -> Plan {
        let crowded = seed % 4 == 3;
        let lifetimes = [90 * DAY, 45 * DAY, 160 * HOUR];
        let lifetime = lifetimes[chance.below(3) as usize];
        let hours = chance.between(6, 24) as u32;
        let renewal_info = chance.chance(50).then_some(hours * 60 * 60);
        // Renewed seven times as often as others, a third of the domains is as much work.
        let short_lived = lifetime < 10 * DAY;
        let count = if short_lived { size.domains / 3 } else { size.domains };
        let crowd = if short_lived { SHORT_LIVED_CROWD_PERCENT } else { CROWD_PERCENT };
        let domains = domains(count, if crowded { crowd } else { 0 });
        let mut acts = Acts { days: size.days, chance, acts: Vec::new() };
        let apps: Vec<Vec<Domain>> = (0..size.apps)
            .map(|app| domains.iter().skip(app).step_by(size.apps).cloned().collect())
            .collect();
        for (app, domains) in apps.iter().enumerate() {
            acts.life_of(app, domains, crowded);
        }
        acts.routes(&domains);
        acts.ends();
        acts.clock();
        acts.troubles();
        if renewal_info.is_some() {
            let at = acts.chance.between(size.days * DAY / 10, size.days * DAY / 10 * 9);
            acts.acts.push((at, Act::Hasten));
        }
        let mut acts = acts.acts;
        acts.sort_by_key(|(at, _)| *at);
        Plan { lifetime, renewal_info, crowded, limits: LIMITS, acts }
    }
}

fn domains(count: usize, crowd_percent: usize) -> Vec<Domain> {
    let crowd = count * crowd_percent / 100;
    let name = |index: usize| match index < crowd {
        true => format!("d{index}.crowd.com"),
        false => format!("d{index}.site{}.com", index % SITES),
    };
    (0..count).map(|index| Domain::parse(&name(index)).expect("a good name")).collect()
}

/// Whether a domain is one of many under one registered domain.
pub(crate) fn is_in_crowd(domain: &Domain) -> bool {
    domain.as_str().ends_with(".crowd.com")
}

impl Acts<'_> {
    /// Moments for what happens so often in a whole year, and how long each may last: two never
    /// overlap.
    fn moments(&mut self, per_year: u64) -> Vec<(Nanos, Nanos)> {
        let count = (per_year * self.days / 365).max(1);
        let slot = self.days * DAY / count;
        let moment = |index| (index * slot + self.chance.between(slot / 20, slot / 2), slot / 3);
        (0..count).map(moment).collect()
    }

    fn between(&mut self, (low, high): (Nanos, Nanos), most: Nanos) -> Nanos {
        self.chance.between(low, high).min(most)
    }

    fn push(&mut self, at: Nanos, act: Act) {
        self.acts.push((at, act));
    }

    /// An app is deployed; then it goes and comes back, loses a domain for a while, or restarts.
    fn life_of(&mut self, app: usize, all: &[Domain], crowded: bool) {
        let whole = Act::Label { app, domains: all.to_vec() };
        // A crowd comes all at once, so that it meets the limit.
        let late = self.chance.chance(20) && !crowded;
        let born = self.chance.below(if late { self.days * DAY / 3 } else { HOUR });
        self.push(born, whole.clone());
        for (at, most) in self.moments(2).into_iter().filter(|(at, _)| *at > born) {
            let away = match self.chance.below(10) {
                0..6 => self.between((MINUTE, 5 * DAY), most),
                6..9 => self.between((7 * DAY, 60 * DAY), most),
                // The next time it comes back, if there is one.
                _ => Nanos::MAX,
            };
            let mut left = match self.chance.below(3) {
                0 => Vec::new(),
                _ => all.to_vec(),
            };
            if left.len() > 1 && self.chance.chance(70) {
                left.remove(self.chance.below(left.len() as u64) as usize);
            }
            self.push(at, Act::Label { app, domains: left });
            if away < Nanos::MAX {
                self.push(at + away, whole.clone());
            }
        }
    }

    /// Some domains cannot be reached by the CA for weeks.
    fn routes(&mut self, domains: &[Domain]) {
        for (at, most) in self.moments(12) {
            for _ in 0..2 {
                let domain = &domains[self.chance.below(domains.len() as u64) as usize];
                // Two spells of one domain would end together.
                let taken = |(_, act): &(Nanos, Act)| *act == Act::Break(domain.clone());
                if !self.acts.iter().any(taken) {
                    let broken = self.between((3 * DAY, 42 * DAY), 4 * most);
                    self.push(at, Act::Break(domain.clone()));
                    self.push(at + broken, Act::Mend(domain.clone()));
                }
            }
        }
    }

    /// The process is killed or stopped.
    fn ends(&mut self) {
        for (at, most) in self.moments(40) {
            let after = match self.chance.below(6) {
                0 => Trigger::Publish,
                1 => Trigger::Certificate,
                2 => Trigger::State,
                _ => Trigger::Anything,
            };
            let outputs = self.chance.below(30);
            let downtime = match self.chance.below(10) {
                0..5 => 0,
                5..8 => self.between((MINUTE, HOUR), most),
                _ => self.between((HOUR, DAY), most),
            };
            self.push(at, Act::Kill(Doom { after, outputs, blow: Blow::Kill, downtime }));
        }
        for (at, most) in self.moments(10) {
            let downtime = if self.chance.chance(50) { 0 } else { HOUR };
            let downtime = self.between((0, downtime), most);
            self.push(at, Act::Stop { downtime });
        }
    }

    /// The wall clock jumps an hour and back, and once a month and back.
    fn clock(&mut self) {
        const HOUR_MS: i64 = (HOUR / MILLISECOND) as i64;
        const MONTH_MS: i64 = (30 * DAY / MILLISECOND) as i64;
        for (at, most) in self.moments(6) {
            let shift_ms = if self.chance.chance(50) { HOUR_MS } else { -HOUR_MS };
            let back = at + self.between((HOUR, 20 * DAY), most);
            self.push(at, Act::Clock { shift_ms, wrong_until: None });
            self.push(back, Act::Clock { shift_ms: -shift_ms, wrong_until: None });
        }
        for (at, most) in self.moments(1) {
            let back = at + self.between((DAY, 5 * DAY), most);
            self.push(at, Act::Clock { shift_ms: MONTH_MS, wrong_until: Some(back) });
            self.push(back, Act::Clock { shift_ms: -MONTH_MS, wrong_until: None });
        }
    }

    fn troubles(&mut self) {
        for (at, most) in self.moments(5) {
            let outage = match self.chance.below(3) {
                0 => Outage::CaCut,
                1 => Outage::CaUnavailable(RetryAfter::None),
                _ => Outage::CaUnavailable(RetryAfter::Seconds(3600)),
            };
            self.outage(outage, at, (6 * HOUR, 24 * HOUR), most);
        }
        for (at, most) in self.moments(12) {
            let outage = match self.chance.below(3) {
                0 => Outage::MarathonCut,
                1 => Outage::MarathonUnavailable,
                _ => Outage::MarathonBabble,
            };
            self.outage(outage, at, (MINUTE, 40 * MINUTE), most);
        }
        for (at, most) in self.moments(8) {
            let lb = self.chance.below(LBS as u64) as usize;
            self.outage(Outage::Lb(lb), at, (MINUTE, 3 * HOUR), most);
        }
        for (at, most) in self.moments(12) {
            let percent = self.chance.between(20, 100) as u8;
            self.outage(Outage::Disk(percent), at, (MINUTE, HOUR), most);
        }
    }

    fn outage(&mut self, outage: Outage, at: Nanos, length: (Nanos, Nanos), most: Nanos) {
        let until = at + self.between(length, most);
        self.push(at, Act::Outage { outage, until });
        self.push(until, Act::Relief(outage));
    }
}
