//! What Let's Encrypt lets an account ask for, reckoned here, so that no order is made that is bound
//! to be refused. Pure; kept over restarts. It only counts what this program did, so the CA's own
//! answer still decides. What the CA exempts (a renewal with `replaces` within its suggested window)
//! is neither checked nor counted: whoever orders leaves it out.
//!
//! Every limit is a bucket of tokens, kept as one time (the generic cell rate algorithm): when it will
//! be full again. A token that is taken moves that time on; the clock, coming nearer, fills the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::collect::{Collect, sorted_by};
use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::time::UnixTime;
use crate::url::{Host, Url};

/// The only directory with these limits; staging has its own, which are far higher.
const PRODUCTION_HOST: &str = "acme-v02.api.letsencrypt.org";

const ORDERS: Rate = Rate::new(300, 3);
const CERTIFICATES_OF_DOMAIN: Rate = Rate::new(50, 7 * 24);
const CERTIFICATES_OF_SET: Rate = Rate::new(5, 7 * 24);
const FAILURES: Rate = Rate::new(5, 1);

/// Names right below a country's that are no registered domains, mostly: others register below them.
const CATEGORIES: &[&str] = &[
    "ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "govt", "id", "ltd", "mil", "ne", "net",
    "nom", "or", "org", "plc", "sch",
];

/// What is left of each limit, as the times when their buckets are full again; one that is missing is
/// full. The default is an account that never asked for anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    orders: Option<UnixTime>,
    /// By registered domain.
    domains: BTreeMap<String, UnixTime>,
    /// By all names of the certificate, in order, with blanks between them.
    sets: BTreeMap<String, UnixTime>,
    failures: BTreeMap<Domain, UnixTime>,
}

/// A limit of the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// New orders, whatever they are for.
    OrdersPerAccount,
    /// Certificates for names of one registered domain.
    CertificatesPerDomain(String),
    /// Certificates for exactly the same names.
    CertificatesPerSet,
    /// Failed authorizations of one name.
    FailedAuthorizations(Domain),
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

    /// As what keeps an order back.
    pub fn complaint(&self) -> Complaint {
        Complaint::new(self.to_string(), Some(self.hint()))
    }
}

/// What a limit still allows at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which limit.
    pub limit: Limit,
    /// So many …
    pub tokens: u32,
    /// … of so many.
    pub of: u32,
}

/// So many tokens in a bucket, and so long until an empty one is full.
#[derive(Clone, Copy, Debug)]
struct Rate {
    tokens: u32,
    period: Duration,
}

impl Budget {
    /// Whether a CA has these limits: only Let's Encrypt's production directory.
    pub fn applies_to(directory: &Url) -> bool {
        matches!(&directory.origin().host, Host::Name(name) if name == PRODUCTION_HOST)
    }

    /// Whether the CA should take an order for these names now.
    ///
    /// Call [`Budget::forget_past`] first: when the clock was set back, that mends a bucket for good,
    /// while here it would look empty each time.
    ///
    /// # Errors
    /// The limit that binds longest, and when it has room again.
    pub fn check(&self, now: UnixTime, names: &[Domain]) -> Result<(), (Limit, UnixTime)> {
        let mut bound = Vec::new();
        let mut look = |rate: Rate, full_at: Option<&UnixTime>, limit: Limit| {
            let room_at = full_at.map(|full_at| rate.room_at(now, *full_at));
            bound.extend(room_at.filter(|room_at| *room_at > now).map(|at| (limit, at)));
        };
        look(ORDERS, self.orders.as_ref(), Limit::OrdersPerAccount);
        for domain in registered_domains(names) {
            let full_at = self.domains.get(&domain);
            look(CERTIFICATES_OF_DOMAIN, full_at, Limit::CertificatesPerDomain(domain));
        }
        look(CERTIFICATES_OF_SET, self.sets.get(&set(names)), Limit::CertificatesPerSet);
        bound.extend(self.check_validations(now, names).err());
        bound.into_iter().max_by_key(|(_, room_at)| *room_at).map_or(Ok(()), Err)
    }

    /// The same for an order that the CA exempts from all limits but that of failed authorizations.
    ///
    /// # Errors
    /// The name that binds longest, and when it has room again.
    pub fn check_validations(
        &self,
        now: UnixTime,
        names: &[Domain],
    ) -> Result<(), (Limit, UnixTime)> {
        let room_at = |name: &Domain| {
            let room_at = FAILURES.room_at(now, *self.failures.get(name)?);
            (room_at > now).then(|| (Limit::FailedAuthorizations(name.clone()), room_at))
        };
        let bound = names.iter().filter_map(room_at);
        bound.max_by_key(|(_, room_at)| *room_at).map_or(Ok(()), Err)
    }

    /// What is left at `now` of each limit from which something was taken, the scarcest first.
    pub fn left(&self, now: UnixTime) -> Vec<Left> {
        let orders = self.orders.iter().map(|at| (Limit::OrdersPerAccount, ORDERS, *at));
        let domains = self.domains.iter().map(|(domain, at)| {
            (Limit::CertificatesPerDomain(domain.clone()), CERTIFICATES_OF_DOMAIN, *at)
        });
        let failures = self
            .failures
            .iter()
            .map(|(name, at)| (Limit::FailedAuthorizations(name.clone()), FAILURES, *at));
        let all = orders.chain(domains).chain(failures);
        let left: Vec<Left> = all
            .map(|(limit, rate, at)| Left { limit, tokens: rate.left(now, at), of: rate.tokens })
            .filter(|left| left.tokens < left.of)
            .collect();
        let part = |left: &Left| u64::from(left.tokens) * 1000 / u64::from(left.of);
        sorted_by(left, |one, other| part(one).cmp(&part(other)))
    }

    /// Counts an order that was just made, and the certificate that it may lead to.
    pub fn order_made(&mut self, now: UnixTime, names: &[Domain]) {
        self.forget_past(now);
        self.orders = Some(ORDERS.take(now, self.orders));
        for domain in registered_domains(names) {
            take(&mut self.domains, domain, CERTIFICATES_OF_DOMAIN, now);
        }
        take(&mut self.sets, set(names), CERTIFICATES_OF_SET, now);
    }

    /// The CA has made the order that was counted at `since`. It counted it no later than now, so its
    /// bucket may be that much behind ours; ours follows.
    pub fn order_placed(&mut self, now: UnixTime, since: UnixTime) {
        let elapsed = now.since(since);
        self.orders = self.orders.map(|at| ORDERS.clamp(now, at.plus(elapsed)));
    }

    /// The CA has issued the certificate whose order was counted at `since`: as above.
    pub fn certificate_issued(&mut self, now: UnixTime, since: UnixTime, names: &[Domain]) {
        let elapsed = now.since(since);
        for domain in registered_domains(names) {
            if let Some(at) = self.domains.get_mut(&domain) {
                *at = CERTIFICATES_OF_DOMAIN.clamp(now, at.plus(elapsed));
            }
        }
        if let Some(at) = self.sets.get_mut(&set(names)) {
            *at = CERTIFICATES_OF_SET.clamp(now, at.plus(elapsed));
        }
    }

    /// The wall clock was set forward or back: what was spent stays spent for as long as before.
    pub fn clock_moved(&mut self, from: UnixTime, to: UnixTime) {
        let moved = |at: UnixTime| at.plus(to.since(from)).minus(from.since(to));
        self.orders = self.orders.map(moved);
        let times = self.domains.values_mut().chain(self.sets.values_mut());
        times.chain(self.failures.values_mut()).for_each(|at| *at = moved(*at));
    }

    /// Gives everything back: the order never reached the CA.
    pub fn order_unmade(&mut self, now: UnixTime, names: &[Domain]) {
        self.orders = self.orders.map(|at| at.minus(ORDERS.token()));
        self.order_failed(now, names, &[]);
    }

    /// Gives back the certificate of an order that came to nothing, and counts the names whose
    /// authorizations failed.
    pub fn order_failed(&mut self, now: UnixTime, names: &[Domain], failed: &[Domain]) {
        for domain in registered_domains(names) {
            give_back(&mut self.domains, &domain, CERTIFICATES_OF_DOMAIN);
        }
        give_back(&mut self.sets, &set(names), CERTIFICATES_OF_SET);
        self.validations_failed(now, failed);
    }

    /// Counts the names whose authorizations failed, and nothing else.
    pub fn validations_failed(&mut self, now: UnixTime, failed: &[Domain]) {
        self.forget_past(now);
        for name in failed.iter().into_set() {
            take(&mut self.failures, name.clone(), FAILURES, now);
        }
    }

    /// Drops what is full again, so that little is kept, and mends what lies further ahead than its
    /// period allows: the clock was set back since.
    pub fn forget_past(&mut self, now: UnixTime) {
        self.orders = self.orders.map(|at| ORDERS.clamp(now, at)).filter(|at| *at > now);
        sweep(&mut self.domains, CERTIFICATES_OF_DOMAIN, now);
        sweep(&mut self.sets, CERTIFICATES_OF_SET, now);
        sweep(&mut self.failures, FAILURES, now);
    }

    /// For `state.json`: times in milliseconds since 1970.
    pub fn to_json(&self) -> Value {
        let failures = self.failures.iter().map(|(name, at)| (name.to_string(), *at)).into_map();
        json!({
            "orders": self.orders.map(UnixTime::as_millis),
            "domains": times(&self.domains),
            "sets": times(&self.sets),
            "failures": times(&failures),
        })
    }

    /// Reads what [`Budget::to_json`] made. What cannot be read is dropped: then the CA says it.
    pub fn from_json(value: &Value) -> Budget {
        let domain = |text: &str| Domain::parse(text).ok();
        Budget {
            orders: value.get("orders").and_then(time),
            domains: read(&value["domains"], |text| domain(text).map(|name| name.to_string())),
            sets: read(&value["sets"], |text| {
                let names: Option<Vec<Domain>> = text.split(' ').map(domain).collect();
                names.map(|names| set(&names))
            }),
            failures: read(&value["failures"], domain),
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

impl Rate {
    const fn new(tokens: u32, hours: u64) -> Rate {
        Rate { tokens, period: Duration::from_secs(hours * 60 * 60) }
    }

    /// The time in which one token comes back.
    fn token(self) -> Duration {
        self.period / self.tokens
    }

    /// An empty bucket is full after one period, and none can be emptier.
    fn clamp(self, now: UnixTime, full_at: UnixTime) -> UnixTime {
        full_at.min(now.plus(self.period))
    }

    /// When a bucket has a token: in the past when it has one.
    fn room_at(self, now: UnixTime, full_at: UnixTime) -> UnixTime {
        self.clamp(now, full_at).plus(self.token()).minus(self.period)
    }

    /// How many tokens a bucket has.
    fn left(self, now: UnixTime, full_at: UnixTime) -> u32 {
        let missing = self.clamp(now, full_at).since(now).as_millis();
        let missing = missing.div_ceil(self.token().as_millis().max(1));
        self.tokens.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    fn take(self, now: UnixTime, full_at: Option<UnixTime>) -> UnixTime {
        let full_at = full_at.map_or(now, |full_at| full_at.max(now));
        self.clamp(now, full_at.plus(self.token()))
    }
}

fn take<K: Ord>(buckets: &mut BTreeMap<K, UnixTime>, key: K, rate: Rate, now: UnixTime) {
    let full_at = buckets.get(&key).copied();
    buckets.insert(key, rate.take(now, full_at));
}

fn give_back(buckets: &mut BTreeMap<String, UnixTime>, key: &str, rate: Rate) {
    if let Some(full_at) = buckets.get_mut(key) {
        *full_at = full_at.minus(rate.token());
    }
}

fn sweep<K: Ord>(buckets: &mut BTreeMap<K, UnixTime>, rate: Rate, now: UnixTime) {
    buckets.retain(|_, full_at| {
        *full_at = rate.clamp(now, *full_at);
        *full_at > now
    });
}

fn registered_domains(names: &[Domain]) -> BTreeSet<String> {
    names.iter().map(registered_domain).into_set()
}

/// The same text for the same names.
fn set(names: &[Domain]) -> String {
    let names: BTreeSet<&str> = names.iter().map(Domain::as_str).into_set();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

fn times(buckets: &BTreeMap<String, UnixTime>) -> BTreeMap<&String, i64> {
    buckets.iter().map(|(key, at)| (key, at.as_millis())).into_map()
}

fn time(value: &Value) -> Option<UnixTime> {
    value.as_i64().map(UnixTime::from_millis)
}

fn read<K: Ord>(value: &Value, key: impl Fn(&str) -> Option<K>) -> BTreeMap<K, UnixTime> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(text, at)| Some((key(text)?, time(at)?))).into_map()
}

/// `300 … in 3 h`, with the words of the limit between.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, what) = match self {
            Limit::OrdersPerAccount => (ORDERS, "orders per account"),
            Limit::CertificatesPerDomain(_) => {
                (CERTIFICATES_OF_DOMAIN, "certificates per registered domain")
            }
            Limit::CertificatesPerSet => {
                (CERTIFICATES_OF_SET, "certificates per exact set of names")
            }
            Limit::FailedAuthorizations(_) => (FAILURES, "failed authorizations per name"),
        };
        let (tokens, hours) = (rate.tokens, rate.period.as_secs() / 3600);
        match hours % 24 {
            0 => write!(f, "{tokens} {what} in {} d", hours / 24)?,
            _ => write!(f, "{tokens} {what} in {hours} h")?,
        }
        match self {
            Limit::OrdersPerAccount | Limit::CertificatesPerSet => Ok(()),
            Limit::CertificatesPerDomain(domain) => write!(f, " ({domain})"),
            Limit::FailedAuthorizations(name) => write!(f, " ({name})"),
        }
    }
}

#[cfg(test)]
mod tests;
