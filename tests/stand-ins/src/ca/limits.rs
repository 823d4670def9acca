//! Rate limits as token buckets: each holds a number of tokens at most, and gains one whenever its
//! period divided by that number has passed. Nothing here knows ACME; the CA says what is taken
//! from which bucket.

use std::collections::BTreeMap;

use super::problem::Problem;
use super::settings::RetryAfter;
use super::{Ca, objects::Order};
use crate::date::rfc3339;
use crate::peer::Time;

/// Where a person reads about limits.
const HELP_URL: &str = "https://ca.example.org/rate-limits";
const HOUR_SECONDS: u64 = 60 * 60;
const WEEK_SECONDS: u64 = 7 * 24 * HOUR_SECONDS;
/// A certificate that was issued no longer ago makes an order for exactly its names a renewal (Boulder,
/// the window of `FQDNSetTimestampsForWindow`).
const EARLIER_MS: i64 = 120 * 24 * 60 * 60 * 1000;

/// A limit: so many at once, and as many again over a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// So many tokens it holds at most.
    pub capacity: u32,
    /// So long an empty one takes to be full.
    pub period_seconds: u64,
}

impl Bucket {
    /// From one token to the next.
    fn interval_ms(self) -> i64 {
        let period_ms = self.period_seconds.saturating_mul(1000);
        i64::try_from(period_ms / u64::from(self.capacity.max(1))).unwrap_or(i64::MAX)
    }

    /// From empty to full.
    fn whole_ms(self) -> i64 {
        self.interval_ms().saturating_mul(i64::from(self.capacity))
    }
}

/// What is limited; a limit that is not set does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// New orders of one account.
    pub orders_per_account: Option<Bucket>,
    /// Certificates for one registered domain, of all accounts.
    pub certificates_per_domain: Option<Bucket>,
    /// Certificates for exactly the same names, of all accounts.
    pub certificates_per_set: Option<Bucket>,
    /// Failed validations of one name, of one account.
    pub failed_validations_per_name: Option<Bucket>,
}

impl Limits {
    /// The limits of Let's Encrypt.
    pub const fn lets_encrypt() -> Limits {
        const fn bucket(capacity: u32, period_seconds: u64) -> Option<Bucket> {
            Some(Bucket { capacity, period_seconds })
        }
        Limits {
            orders_per_account: bucket(300, 3 * HOUR_SECONDS),
            certificates_per_domain: bucket(50, WEEK_SECONDS),
            certificates_per_set: bucket(5, WEEK_SECONDS),
            failed_validations_per_name: bucket(5, HOUR_SECONDS),
        }
    }
}

/// Whose bucket it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Account(usize),
    Domain(String),
    Set(Vec<String>),
    Name(usize, String),
}

impl Holder {
    /// What its limit counts, for a person.
    fn subject(&self) -> String {
        match self {
            Holder::Account(_) => "new orders of this account".to_string(),
            Holder::Domain(domain) => format!("certificates for {domain} and names below it"),
            Holder::Set(names) => format!("certificates for exactly {}", names.join(" ")),
            Holder::Name(_, name) => format!("failed validations of {name} by this account"),
        }
    }
}

/// All buckets of a CA.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    /// When each is full again; one that is not here is full.
    full_at_ms: BTreeMap<Holder, i64>,
    /// When a certificate for exactly these names was issued last, to whichever account.
    issued_ms: BTreeMap<Vec<String>, i64>,
    refused: usize,
}

impl Limiter {
    /// When a bucket has a token; in the past when it has one now.
    fn ready_at_ms(&self, now_ms: i64, bucket: Bucket, holder: &Holder) -> i64 {
        let full_at_ms = self.full_at_ms.get(holder).copied().unwrap_or(now_ms).max(now_ms);
        full_at_ms.saturating_add(bucket.interval_ms()).saturating_sub(bucket.whole_ms())
    }

    /// Takes a token; an empty bucket stays empty.
    fn take(&mut self, now_ms: i64, bucket: Option<Bucket>, holder: Holder) {
        let Some(bucket) = bucket else { return };
        let full_at_ms = self.full_at_ms.entry(holder).or_insert(now_ms);
        let later = (*full_at_ms).max(now_ms).saturating_add(bucket.interval_ms());
        *full_at_ms = later.min(now_ms.saturating_add(bucket.whole_ms()));
    }
}

impl Ca {
    /// How many orders were refused by [`Limits`].
    pub fn limited(&self) -> usize {
        self.limiter.refused
    }

    /// Whether these names are those of an earlier certificate.
    pub(super) fn is_renewal(&self, now: Time, names: &[String]) -> bool {
        let mut names = names.to_vec();
        names.sort();
        let issued_ms = self.limiter.issued_ms.get(&names);
        issued_ms.is_some_and(|issued_ms| now.unix_ms - issued_ms <= EARLIER_MS)
    }

    /// Whether an account may order these names now. `replaces` says that it is a renewal that
    /// renewal information vouches for: only failed validations hold it up; any other renewal is
    /// held up by certificates for exactly the same names, too. When several limits hold an order
    /// up, the longest wait is told.
    pub(super) fn check_limits(
        &mut self,
        now: Time,
        account: usize,
        names: &[String],
        replaces: bool,
    ) -> Result<(), Problem> {
        let renewal = self.is_renewal(now, names);
        let limits = &self.settings.limits;
        let mut looks = Vec::new();
        let failures = names.iter().map(|name| Holder::Name(account, name.clone()));
        looks.extend(failures.map(|holder| (limits.failed_validations_per_name, holder)));
        if !replaces && !renewal {
            looks.push((limits.orders_per_account, Holder::Account(account)));
            let domains = domains(names).into_iter().map(Holder::Domain);
            looks.extend(domains.map(|holder| (limits.certificates_per_domain, holder)));
        }
        if !replaces {
            looks.push((limits.certificates_per_set, Holder::Set(names.to_vec())));
        }
        let ready = |(bucket, holder): (Option<Bucket>, Holder)| {
            let bucket = bucket?;
            let at_ms = self.limiter.ready_at_ms(now.unix_ms, bucket, &holder);
            (at_ms > now.unix_ms).then_some((at_ms, bucket, holder))
        };
        let waits = looks.into_iter().filter_map(ready);
        let Some((at_ms, bucket, holder)) = waits.max_by_key(|(at_ms, ..)| *at_ms) else {
            return Ok(());
        };
        self.limiter.refused += 1;
        Err(self.limit_problem(now, at_ms, bucket, &holder))
    }

    fn limit_problem(&self, now: Time, at_ms: i64, bucket: Bucket, holder: &Holder) -> Problem {
        // Rounded up, so that there is a token at the time that is told. A date has no
        // milliseconds: what it loses of the present is added.
        let seconds = (at_ms - now.unix_ms).saturating_add(999) / 1000;
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX - 1);
        let again = match self.settings.retry_after {
            RetryAfter::Date(_) => RetryAfter::Date(seconds + 1),
            RetryAfter::Seconds(_) | RetryAfter::None => RetryAfter::Seconds(seconds),
        };
        let detail = format!(
            "too many {} ({} in {} s), retry after {}: see {HELP_URL}",
            holder.subject(),
            bucket.capacity,
            bucket.period_seconds,
            rfc3339(now.unix_ms + i64::from(seconds) * 1000),
        );
        let mut problem = Problem::new(429, "rateLimited", detail);
        problem.retry_after = again.value(now);
        problem.help = Some(HELP_URL.to_string());
        problem
    }

    /// A new order was made.
    pub(super) fn count_order(&mut self, now: Time, order: &Order) {
        if order.replaces.is_none() && !order.renewal {
            let bucket = self.settings.limits.orders_per_account;
            self.limiter.take(now.unix_ms, bucket, Holder::Account(order.account));
        }
    }

    /// The certificate of an order was issued.
    pub(super) fn count_certificate(&mut self, now: Time, order: usize) {
        let order = &self.orders[order];
        let mut names = order.names.clone();
        names.sort();
        self.limiter.issued_ms.insert(names, now.unix_ms);
        if order.replaces.is_some() {
            return;
        }
        let limits = &self.settings.limits;
        for domain in domains(&order.names).into_iter().filter(|_| !order.renewal) {
            let holder = Holder::Domain(domain);
            self.limiter.take(now.unix_ms, limits.certificates_per_domain, holder);
        }
        let set = Holder::Set(order.names.clone());
        self.limiter.take(now.unix_ms, limits.certificates_per_set, set);
    }

    /// A validation failed.
    pub(super) fn count_failure(&mut self, now: Time, authz: usize) {
        let authz = &self.authzs[authz];
        let bucket = self.settings.limits.failed_validations_per_name;
        let holder = Holder::Name(authz.account, authz.name.clone());
        self.limiter.take(now.unix_ms, bucket, holder);
    }
}

/// The registered domains of names, each once.
fn domains(names: &[String]) -> Vec<String> {
    let mut domains: Vec<String> = names.iter().map(|name| domain(name).to_string()).collect();
    domains.sort();
    domains.dedup();
    domains
}

/// The registered domain of a name: two labels, or three where the last two look like `co.uk`.
/// That stands for the Public Suffix List.
fn domain(name: &str) -> &str {
    let mut ends = name.rmatch_indices('.').map(|(index, _)| index);
    let (Some(last), Some(second)) = (ends.next(), ends.next()) else { return name };
    let suffix_like = name.len() - last == 3 && last - second <= 4;
    match (suffix_like, ends.next()) {
        (true, None) => name,
        (true, Some(third)) => &name[third + 1..],
        (false, _) => &name[second + 1..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_domains() {
        for (name, expected) in [
            ("example.com", "example.com"),
            ("a.b.example.com", "example.com"),
            ("example.co.uk", "example.co.uk"),
            ("a.b.example.co.uk", "example.co.uk"),
            ("a.example.uk", "example.uk"),
            ("co.uk", "co.uk"),
            ("a.b.com", "b.com"),
        ] {
            assert_eq!(domain(name), expected, "{name}");
        }
        let names = ["a.example.com", "b.example.com", "c.example.org"].map(String::from);
        assert_eq!(domains(&names), ["example.com", "example.org"]);
    }

    #[test]
    fn a_bucket_empties_at_once_and_fills_a_token_at_a_time() {
        let bucket = Bucket { capacity: 3, period_seconds: 30 };
        let mut limiter = Limiter::default();
        let holder = Holder::Account(0);
        for _ in 0..3 {
            assert!(limiter.ready_at_ms(5_000, bucket, &holder) <= 5_000);
            limiter.take(5_000, Some(bucket), holder.clone());
        }
        assert_eq!(limiter.ready_at_ms(5_000, bucket, &holder), 15_000);
        assert_eq!(limiter.ready_at_ms(14_999, bucket, &holder), 15_000);
        limiter.take(15_000, Some(bucket), holder.clone());
        assert_eq!(limiter.ready_at_ms(15_000, bucket, &holder), 25_000);
        // What is taken from an empty bucket is not owed.
        limiter.take(15_000, Some(bucket), holder.clone());
        assert_eq!(limiter.ready_at_ms(15_000, bucket, &holder), 25_000);
        // And a full one gains no more.
        for ready in [true, true, true, false] {
            assert_eq!(limiter.ready_at_ms(900_000, bucket, &holder) <= 900_000, ready);
            limiter.take(900_000, Some(bucket), holder.clone());
        }
        let none = Bucket { capacity: 0, period_seconds: 30 };
        assert_eq!(limiter.ready_at_ms(0, none, &Holder::Account(1)), 30_000);
    }
}
