//! What Let's Encrypt lets an account ask for, reckoned here, so that no order is made that is bound
//! to be refused. Pure; kept over restarts. It only counts what this program did, so the CA's own
//! answer still decides. What the CA exempts is neither checked nor counted ([`OrderKind`]): the
//! accounting must never hold back a renewal that the CA would issue.
//!
//! `--ca-limits` sets other values, for any CA, or turns the accounting off.
//!
//! Every limit is a bucket of tokens, kept as one time (the generic cell rate algorithm): when it will
//! be full again. A token that is taken moves that time on; the clock, coming nearer, fills the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::config::{CaLimits, Config};
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::time::UnixTime;
use crate::url::{Host, Url};

mod rate;

use rate::{Rate, give_back, sweep, take};

/// The only directory with these limits; staging has its own, which are far higher.
const PRODUCTION_HOST: &str = "acme-v02.api.letsencrypt.org";

const ORDERS: Rate = Rate::new(300, 3);
const CERTIFICATES_OF_DOMAIN: Rate = Rate::new(50, 7 * 24);
const CERTIFICATES_OF_SET: Rate = Rate::new(5, 7 * 24);
const FAILURES: Rate = Rate::new(5, 1);

/// A certificate that was issued no longer ago makes an order for exactly its names a renewal (Boulder's
/// window for sets of identifiers).
const EARLIER_MAX: Duration = Duration::from_secs(120 * 24 * 60 * 60);

/// Names right below a country's that are no registered domains, mostly: others register below them.
const CATEGORIES: &[&str] = &[
    "ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "govt", "id", "ltd", "mil", "ne", "net",
    "nom", "or", "org", "plc", "sch",
];

/// What is left of each limit, as the times when their buckets are full again; one that is missing is
/// full. The default is an account that never asked for anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Whether the CA's limits of orders and certificates are known. If not, every order is
    /// [`OrderKind::Exempt`], and only failed authorizations are counted.
    has_limits: bool,
    rates: Rates,
    orders: Option<UnixTime>,
    /// By registered domain.
    domains: BTreeMap<String, UnixTime>,
    /// By all names of the certificate, in order, with blanks between them.
    sets: BTreeMap<String, UnixTime>,
    failures: BTreeMap<Domain, UnixTime>,
    /// When certificates were issued whose files are not in `certs/` any more, by all their names as in
    /// `sets`: an order for the same names is a renewal all the same.
    earlier: BTreeMap<String, UnixTime>,
}

/// A limit of the CA. The order is that in which tokens of several limits are waited for, so that no two
/// orders wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Certificates for names of one registered domain.
    CertificatesPerDomain(String),
    /// Certificates for exactly the same names.
    CertificatesPerSet,
    /// Failed authorizations of one name.
    FailedAuthorizations(Domain),
    /// New orders, whatever they are for.
    OrdersPerAccount,
}

/// Which limits an order counts against. That of failed authorizations holds for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// All of them.
    New,
    /// For exactly the names of an earlier certificate: only certificates for the same names.
    Renewal,
    /// None: it replaces a certificate within the CA's suggested window (RFC 9773) or in the last tenth of
    /// its lifetime, or the limits are not known.
    Exempt,
}

impl Limit {
    /// What may help.
    pub fn hint(&self) -> Hint {
        match self {
            Limit::OrdersPerAccount => Hint::LimitOrders,
            Limit::CertificatesPerDomain(_) => Hint::LimitDomain,
            Limit::CertificatesPerSet => Hint::LimitSame,
            Limit::FailedAuthorizations(_) => Hint::LimitFailures,
        }
    }
}

/// What a limit still allows at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which limit, in words.
    pub limit: String,
    /// So many …
    pub tokens: u32,
    /// … of so many.
    pub of: u32,
}

/// The limits that the CA raises for some accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    orders: Rate,
    domain: Rate,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates { orders: ORDERS, domain: CERTIFICATES_OF_DOMAIN }
    }
}

impl Budget {
    /// The accounting that the operator chose, and that the CA has limits for; nothing yet is spent.
    pub fn of(config: &Config) -> Budget {
        let mut budget = Budget { has_limits: true, ..Budget::default() };
        match config.ca_limits {
            CaLimits::Off => budget.has_limits = false,
            CaLimits::Known => budget.has_limits = Budget::applies_to(&config.acme),
            CaLimits::Given { orders, domain } => {
                let Rates { orders: of_orders, domain: of_domain } = &mut budget.rates;
                of_orders.tokens = orders.unwrap_or(of_orders.tokens);
                of_domain.tokens = domain.unwrap_or(of_domain.tokens);
            }
        }
        budget
    }

    /// What was spent in an earlier run, by the limits of this one.
    #[must_use]
    pub fn with_limits_of(self, other: &Budget) -> Budget {
        Budget { has_limits: other.has_limits, rates: other.rates, ..self }
    }

    /// Whether the CA's limits of orders and certificates are known.
    pub fn has_limits(&self) -> bool {
        self.has_limits
    }

    /// Whether a CA has these limits: only Let's Encrypt's production directory.
    pub fn applies_to(directory: &Url) -> bool {
        matches!(&directory.origin().host, Host::Name(name) if name == PRODUCTION_HOST)
    }

    /// Whether the CA should take an order for these names now.
    ///
    /// When the clock was set back, call [`Budget::forget_past`]: that corrects a bucket for good, while here
    /// it would look empty each time.
    ///
    /// # Errors
    /// The limit that binds longest, and when it has room again.
    pub fn check(
        &self,
        now: UnixTime,
        names: &[Domain],
        kind: OrderKind,
    ) -> Result<(), (Limit, UnixTime)> {
        let shared = self.shared(names, kind).into_iter();
        let shared = shared.filter_map(|limit| Some((self.room_at(now, &limit, 1)?, limit)));
        let mut limits: Vec<(Limit, UnixTime)> = shared.map(|(at, limit)| (limit, at)).collect();
        if kind != OrderKind::Exempt {
            let room_at =
                self.sets.get(&set(names)).map(|at| CERTIFICATES_OF_SET.room_at(now, *at, 1));
            limits.extend(room_at.map(|at| (Limit::CertificatesPerSet, at)));
        }
        for name in names {
            let room_at = self.failures.get(name).map(|at| FAILURES.room_at(now, *at, 1));
            limits.extend(room_at.map(|at| (Limit::FailedAuthorizations(name.clone()), at)));
        }
        let bound = limits.into_iter().filter(|(_, room_at)| *room_at > now);
        bound.max_by_key(|(_, room_at)| *room_at).map_or(Ok(()), Err)
    }

    /// The limits that such an order shares with orders for other names, in their order.
    pub fn shared(&self, names: &[Domain], kind: OrderKind) -> Vec<Limit> {
        if kind != OrderKind::New {
            return Vec::new();
        }
        let domains = registered_domains(names).into_iter().map(Limit::CertificatesPerDomain);
        domains.chain([Limit::OrdersPerAccount]).collect()
    }

    /// When a shared limit has so many tokens, from 1: not in the future when it has them, and never when
    /// it cannot have as many.
    pub fn room_at(&self, now: UnixTime, limit: &Limit, tokens: usize) -> Option<UnixTime> {
        let (rate, full_at) = match limit {
            Limit::CertificatesPerDomain(domain) => (self.rates.domain, self.domains.get(domain)),
            _ => (self.rates.orders, self.orders.as_ref()),
        };
        let tokens = u32::try_from(tokens).ok().filter(|tokens| *tokens <= rate.tokens)?;
        Some(full_at.map_or(now, |full_at| rate.room_at(now, *full_at, tokens)))
    }

    /// A limit as what keeps an order back.
    pub fn complaint(&self, limit: &Limit) -> Complaint {
        Complaint::new(self.describe(limit), Some(limit.hint()))
    }

    /// `300 … in 3 h`, with the words of the limit between.
    fn describe(&self, limit: &Limit) -> String {
        let (rate, what) = match limit {
            Limit::OrdersPerAccount => (self.rates.orders, "orders per account"),
            Limit::CertificatesPerDomain(_) => {
                (self.rates.domain, "certificates per registered domain")
            }
            Limit::CertificatesPerSet => {
                (CERTIFICATES_OF_SET, "certificates per exact set of names")
            }
            Limit::FailedAuthorizations(_) => (FAILURES, "failed authorizations per name"),
        };
        let (tokens, hours) = (rate.tokens, rate.period.as_secs() / 3600);
        let text = match hours % 24 {
            0 => format!("{tokens} {what} in {} d", hours / 24),
            _ => format!("{tokens} {what} in {hours} h"),
        };
        match limit {
            Limit::OrdersPerAccount | Limit::CertificatesPerSet => text,
            Limit::CertificatesPerDomain(domain) => format!("{text} ({domain})"),
            Limit::FailedAuthorizations(name) => format!("{text} ({name})"),
        }
    }

    /// Notes when a certificate for these names was issued, as its file leaves `certs/`.
    pub fn note_earlier(&mut self, names: &[Domain], issued: UnixTime) {
        let noted = self.earlier.entry(set(names)).or_insert(issued);
        *noted = issued.max(*noted);
    }

    /// Whether such a certificate was issued so lately that an order for these names is a renewal.
    pub fn is_noted(&self, now: UnixTime, names: &[Domain]) -> bool {
        self.earlier.get(&set(names)).is_some_and(|issued| is_recent(now, *issued))
    }

    /// What is left at `now` of each limit from which something was taken, the scarcest first.
    pub fn left(&self, now: UnixTime) -> Vec<Left> {
        let Rates { orders: of_orders, domain: of_domain } = self.rates;
        let orders = self.orders.iter().map(|at| (Limit::OrdersPerAccount, of_orders, *at));
        let domains = self
            .domains
            .iter()
            .map(|(domain, at)| (Limit::CertificatesPerDomain(domain.clone()), of_domain, *at));
        let failures = self
            .failures
            .iter()
            .map(|(name, at)| (Limit::FailedAuthorizations(name.clone()), FAILURES, *at));
        let all = orders.chain(domains).chain(failures);
        let mut left: Vec<Left> = all
            .map(|(limit, rate, at)| (limit, rate.left(now, at), rate.tokens))
            .filter(|(_, tokens, of)| tokens < of)
            .map(|(limit, tokens, of)| Left { limit: self.describe(&limit), tokens, of })
            .collect();
        left.sort_by_key(|left| u64::from(left.tokens) * 1000 / u64::from(left.of));
        left
    }

    /// Counts an order that was just made, and the certificate that it may lead to.
    pub fn order_made(&mut self, now: UnixTime, names: &[Domain], kind: OrderKind) {
        if kind == OrderKind::New {
            self.orders = Some(self.rates.orders.take(now, self.orders));
            for domain in registered_domains(names) {
                take(&mut self.domains, domain, self.rates.domain, now);
            }
        }
        if kind != OrderKind::Exempt {
            take(&mut self.sets, set(names), CERTIFICATES_OF_SET, now);
        }
    }

    /// The CA has made the order that was counted at `since`. It counted it no later than now, so its
    /// bucket may be that much behind ours; ours follows.
    pub fn order_placed(&mut self, now: UnixTime, since: UnixTime, kind: OrderKind) {
        if kind == OrderKind::New {
            let (elapsed, rate) = (now.since(since), self.rates.orders);
            self.orders = self.orders.map(|at| rate.clamp(now, at.plus(elapsed)));
        }
    }

    /// The CA has issued the certificate whose order was counted at `since`: as above.
    pub fn certificate_issued(
        &mut self,
        now: UnixTime,
        since: UnixTime,
        names: &[Domain],
        kind: OrderKind,
    ) {
        let elapsed = now.since(since);
        if kind == OrderKind::New {
            for domain in registered_domains(names) {
                if let Some(at) = self.domains.get_mut(&domain) {
                    *at = self.rates.domain.clamp(now, at.plus(elapsed));
                }
            }
        }
        if let Some(at) = self.sets.get_mut(&set(names)).filter(|_| kind != OrderKind::Exempt) {
            *at = CERTIFICATES_OF_SET.clamp(now, at.plus(elapsed));
        }
    }

    /// The wall clock was set forward or back: what was spent stays spent for as long as before.
    pub fn clock_moved(&mut self, from: UnixTime, to: UnixTime) {
        let moved = |at: UnixTime| at.plus(to.since(from)).minus(from.since(to));
        self.orders = self.orders.map(moved);
        let times = self.domains.values_mut().chain(self.sets.values_mut());
        let times = times.chain(self.failures.values_mut()).chain(self.earlier.values_mut());
        times.for_each(|at| *at = moved(*at));
    }

    /// Gives everything back: the order never reached the CA.
    pub fn order_unmade(&mut self, now: UnixTime, names: &[Domain], kind: OrderKind) {
        if kind == OrderKind::New {
            self.orders = self.orders.map(|at| at.minus(self.rates.orders.token()));
        }
        self.order_failed(now, names, &[], kind);
    }

    /// Gives back the certificate of an order that came to nothing, and counts the names whose
    /// authorizations failed.
    pub fn order_failed(
        &mut self,
        now: UnixTime,
        names: &[Domain],
        failed: &[Domain],
        kind: OrderKind,
    ) {
        if kind == OrderKind::New {
            for domain in registered_domains(names) {
                give_back(&mut self.domains, &domain, self.rates.domain);
            }
        }
        if kind != OrderKind::Exempt {
            give_back(&mut self.sets, &set(names), CERTIFICATES_OF_SET);
        }
        self.validations_failed(now, failed);
    }

    /// Counts the names whose authorizations failed, and nothing else.
    pub fn validations_failed(&mut self, now: UnixTime, failed: &[Domain]) {
        for name in failed.iter().collect::<BTreeSet<_>>() {
            take(&mut self.failures, name.clone(), FAILURES, now);
        }
    }

    /// Drops what is full again, so that little is kept, and mends what lies further ahead than its
    /// period allows: the clock was set back since. It looks at every bucket, so not for every order.
    pub fn forget_past(&mut self, now: UnixTime) {
        let Rates { orders, domain } = self.rates;
        self.orders = self.orders.map(|at| orders.clamp(now, at)).filter(|at| *at > now);
        sweep(&mut self.domains, domain, now);
        sweep(&mut self.sets, CERTIFICATES_OF_SET, now);
        sweep(&mut self.failures, FAILURES, now);
        self.earlier.retain(|_, issued| is_recent(now, *issued));
    }

    /// For `state.json`: times in milliseconds since 1970.
    pub fn to_json(&self) -> Value {
        json!({
            "orders": self.orders.map(UnixTime::as_millis),
            "domains": times(&self.domains),
            "sets": times(&self.sets),
            "failures": times(&self.failures),
            "earlier": times(&self.earlier),
        })
    }

    /// Reads what [`Budget::to_json`] made. What cannot be read is dropped: then the CA says it.
    pub fn from_json(value: &Value) -> Budget {
        let domain = |text: &str| Domain::parse(text).ok();
        let names_of = |text: &str| {
            let names: Option<Vec<Domain>> = text.split(' ').map(domain).collect();
            names.map(|names| set(&names))
        };
        Budget {
            has_limits: false,
            rates: Rates::default(),
            orders: value.get("orders").and_then(time),
            domains: read(&value["domains"], |text| domain(text).map(|name| name.to_string())),
            sets: read(&value["sets"], names_of),
            failures: read(&value["failures"], domain),
            earlier: read(&value["earlier"], names_of),
        }
    }
}

/// The domain that somebody registered, by which Let's Encrypt counts: the last two parts, or three
/// where the second last is a well-known category of a country (`example.co.uk`).
///
/// Without the Public Suffix List this is a guess, mostly on the careful side: names of different
/// owners below such a suffix as `github.io` count together here. The CA's own answer still decides.
pub fn registered_domain(domain: &Domain) -> String {
    let parts: Vec<&str> = domain.as_str().split('.').collect();
    let count = match parts[..] {
        [.., _, second, country] if country.len() == 2 && CATEGORIES.contains(&second) => 3,
        _ => 2,
    };
    parts[parts.len().saturating_sub(count)..].join(".")
}

/// Whether a certificate that was issued then is an earlier one at `now`. One of the future was issued by
/// a clock that was wrong.
pub fn is_recent(now: UnixTime, issued: UnixTime) -> bool {
    now.since(issued) <= EARLIER_MAX
}

fn registered_domains(names: &[Domain]) -> BTreeSet<String> {
    names.iter().map(registered_domain).collect()
}

/// The same text for the same names.
fn set(names: &[Domain]) -> String {
    let names: BTreeSet<&Domain> = names.iter().collect();
    names.into_iter().map(Domain::as_str).collect::<Vec<_>>().join(" ")
}

fn times<K: ToString>(buckets: &BTreeMap<K, UnixTime>) -> Map<String, Value> {
    let mut times = Map::new();
    times.extend(buckets.iter().map(|(key, at)| (key.to_string(), at.as_millis().into())));
    times
}

fn time(value: &Value) -> Option<UnixTime> {
    value.as_i64().map(UnixTime::from_millis)
}

fn read<K: Ord>(value: &Value, key: impl Fn(&str) -> Option<K>) -> BTreeMap<K, UnixTime> {
    let entries = value.as_object().into_iter().flatten();
    let mut times = BTreeMap::new();
    times.extend(entries.filter_map(|(text, at)| Some((key(text)?, time(at)?))));
    times
}

#[cfg(test)]
mod tests;
