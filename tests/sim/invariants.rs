//! What must hold in every run, by the records of the peers. Never asks the daemon, but for the
//! lengths of its queues and for what it logs.
//!
//! - [`retry_after`]: the daemon heard an answer 429 or 503 with a `Retry-After`, or a look at an order
//!   or at renewal information was answered with one. Then the same URL (for a new order: the same
//!   names) is not asked for before that time. It binds for an hour at most while the CA is registered
//!   with, for a minute at most between looks at an order, and for a day at most between questions
//!   about a renewal. It binds the instance that heard it: one that was frozen goes on from where it
//!   stood until it sees that another has the lease. An instance that something befell meanwhile
//!   ([`World::disturbed`]) may have forgotten it.
//! - [`orders`]: from one order of a domain that the daemon heard of to the next lies the pause of the
//!   table, less a quarter, unless the certificate was stored meanwhile, something befell an instance,
//!   the CA did not know the account meanwhile, or the order is one of those that were allowed: one for
//!   each change of the app, two for each stale list (there and back).
//! - [`renewals`]: a certificate that was stored is not replaced while more than two thirds of its lifetime
//!   are left by the true time, whatever the clocks of the machines show, unless it was archived meanwhile.
//! - [`remembered`]: once the daemon has heard that the CA has made an order, every `state.json` that it
//!   writes has the URL until it says that the order is over, so that no end of the program makes a
//!   second one. What befell an instance may have come between the two.
//! - [`syncs`]: how often the apps are asked for.
//! - [`unwanted`]: apps are only ever deployed, so a domain that the daemon says is wanted no longer was
//!   missing in a whole, well-formed list: a stale one, or one without any app that stayed so for ten
//!   minutes. Nothing else may look like such a list.
//! - [`queues`]: how much waits inside.

use std::collections::BTreeMap;

use marathon_acme::daemon::queues::Queues;
use marathon_acme::log::Record;
use marathon_acme::machine::ACCEPTED_MAX;
use stand_ins::ca::{AcmeRequest, Issued, Step};

use crate::memory::{self, Remembered};
use crate::network::{HOUR, MILLISECOND, MINUTE, Nanos, SECOND};
use crate::scenario::BadLists;
use crate::world::{Event, World};

/// The pauses after failed orders; the last one repeats.
pub(crate) const RETRY_PAUSES: [Nanos; 6] =
    [MINUTE, 10 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];
/// A Marathon's list is asked for so often in any second, and in any ten, counting each Marathon. The
/// network may bring together what was sent apart.
const SYNCS_IN_A_SECOND: usize = 4;
const SYNCS_IN_TEN: usize = 15;

/// Lists without any app count once there was none with apps for so long.
const EMPTY_PATIENCE: Nanos = 10 * MINUTE;
/// A list that was given is taken in within this time: five minutes, and as long as a process can stand
/// still meanwhile.
const LIST_AGE_MAX: Nanos = 15 * MINUTE;

/// What the CA recorded of a request, and when the daemon had all of the answer, if ever.
struct Exchange<'a> {
    request: &'a AcmeRequest,
    heard: Option<Nanos>,
}

impl Exchange<'_> {
    /// The CA has made an order, and the daemon has heard of it.
    fn made_order(&self) -> bool {
        let made = self.request.step == Some(Step::NewOrder) && self.request.status == 201;
        made && self.heard.is_some() && !self.request.spoilt
    }
}

fn exchanges(world: &World) -> Vec<Exchange<'_>> {
    let ca = &world.peers.ca;
    let mut answered: BTreeMap<u64, usize> = BTreeMap::new();
    let exchange = |request: &'_ AcmeRequest| {
        let place = answered.entry(request.conn).or_default();
        *place += 1;
        let end = ca.answer_ends(request.conn).get(*place - 1);
        end.and_then(|end| world.ca_connections.heard_at(request.conn, *end))
    };
    let heard: Vec<Option<Nanos>> = ca.seen().iter().map(exchange).collect();
    ca.seen().iter().zip(heard).map(|(request, heard)| Exchange { request, heard }).collect()
}

/// Whether something befell a machine between the two, over which it may forget.
fn disturbed(world: &World, from: Nanos, to: Nanos) -> bool {
    world.disturbed.iter().any(|at| (from..=to).contains(at))
}

/// What a `Retry-After` binds: the machine that asked, the path, and the names of a new order.
type Asked<'a> = (Option<usize>, &'a str, &'a [String]);

/// How long an answer binds, in milliseconds.
fn binding_ms(request: &AcmeRequest) -> Option<u64> {
    const HOUR_MS: u64 = HOUR / MILLISECOND;
    let asked = request.retry_after_ms?;
    match (request.step?, request.status) {
        (Step::Directory | Step::NewAccount, 429 | 503) => Some(asked.min(HOUR_MS)),
        (Step::RenewalInfo, 200) => Some(asked.clamp(60_000, 24 * HOUR_MS)),
        (Step::RenewalInfo, 429 | 503) => Some(asked.min(24 * HOUR_MS)),
        (Step::Order, 200) => Some(asked.min(60_000)),
        (Step::NewNonce | Step::Account, _) => None,
        (_, 429 | 503) => Some(asked),
        _ => None,
    }
}

/// No `Retry-After` was ignored.
pub(crate) fn retry_after(world: &World) -> Result<u64, String> {
    let mut bound: BTreeMap<Asked<'_>, (Nanos, Nanos)> = BTreeMap::new();
    let mut kept = 0;
    for Exchange { request, heard } in exchanges(world) {
        let at = request.at.mono_ms * MILLISECOND;
        let key = (
            world.ca_connections.sender(request.conn),
            request.path.as_str(),
            request.names.as_slice(),
        );
        // What was on its way when its process ended was sent before.
        let sent_later =
            |since| world.ca_connections.left_at(request.conn).is_none_or(|left| left > since);
        if let Some((since, until)) = bound.get(&key).copied().filter(|it| sent_later(it.0)) {
            bound.remove(&key);
            if at < until && !disturbed(world, since, at) {
                let (early_ms, path) = ((until - at) / MILLISECOND, &request.path);
                return Err(format!(
                    "{path} {early_ms} ms before its Retry-After, at {} ms",
                    at / MILLISECOND
                ));
            }
            kept += 1;
        }
        if let (Some(ms), Some(heard)) = (binding_ms(request), heard) {
            bound.insert(key, (heard, at + ms * MILLISECOND));
        }
    }
    Ok(kept)
}

/// No domain is ordered more often than the table lets it be; so many orders of each may come before
/// their time.
pub(crate) fn orders(world: &World, allowed: &BTreeMap<String, u64>) -> Result<(), String> {
    let exchanges = exchanges(world);
    let unknown = |it: &&Exchange<'_>| it.request.problem == Some("accountDoesNotExist");
    let unknown: Vec<Nanos> = exchanges.iter().filter(unknown).filter_map(|it| it.heard).collect();
    let made = exchanges.iter().filter(|it| it.made_order());
    let mut orders: BTreeMap<&str, Vec<Nanos>> = BTreeMap::new();
    for Exchange { request, .. } in made {
        let name = request.names.first().map(String::as_str).unwrap_or_default();
        orders.entry(name).or_default().push(request.at.mono_ms * MILLISECOND);
    }
    for (name, times) in orders {
        let stored = |from: Nanos, to: Nanos| {
            let about = |event: &Event| match event {
                Event::Written(domain) | Event::Archived(domain, _) => domain.as_str() == name,
                _ => false,
            };
            world.events.iter().any(|(at, event)| about(event) && (from..=to).contains(at))
        };
        let (mut failures, mut early) = (0, 0);
        for pair in times.windows(2) {
            let (before, at) = (pair[0], pair[1]);
            if stored(before, at) {
                failures = 0;
                continue;
            }
            // It was made again with the account, which is no failure more.
            if unknown.iter().any(|known| (before..=at).contains(known)) {
                continue;
            }
            let pause = RETRY_PAUSES[failures.min(RETRY_PAUSES.len() - 1)] / 4 * 3;
            let too_early = at < before + pause;
            // It is that of an instance that did not know of the one before, nor the other way round. One
            // that has stood still sends what it had decided on before in the moment in which it wakes.
            if too_early && disturbed(world, before.saturating_sub(SECOND), at) {
                continue;
            }
            failures += 1;
            early += u64::from(too_early);
        }
        let allowed = allowed.get(name).copied().unwrap_or_default();
        if early > allowed {
            let times: Vec<u64> = times.iter().map(|at| at / SECOND).collect();
            return Err(format!(
                "{early} orders of {name} too early, {allowed} allowed: {times:?} s"
            ));
        }
    }
    Ok(())
}

/// No certificate is replaced long before its time.
pub(crate) fn renewals(world: &World) -> Result<(), String> {
    let mut last: BTreeMap<&[String], &Issued> = BTreeMap::new();
    for issued in world.peers.ca.issued() {
        let Some(before) = last.insert(&issued.names, issued) else { continue };
        let between = before.at.mono_ms * MILLISECOND..=issued.at.mono_ms * MILLISECOND;
        let name = issued.names.first().map(String::as_str).unwrap_or_default();
        let meanwhile = |fits: &dyn Fn(&Event) -> bool| {
            world.events.iter().any(|(at, event)| between.contains(at) && fits(event))
        };
        let stored =
            meanwhile(&|event| matches!(event, Event::Written(domain) if domain.as_str() == name));
        let archived = meanwhile(
            &|event| matches!(event, Event::Archived(domain, _) if domain.as_str() == name),
        );
        let left_ms = before.not_after_ms - issued.at.unix_ms;
        let early = left_ms * 3 > (before.not_after_ms - before.not_before_ms) * 2;
        if early && stored && !archived {
            let (from, to) = (before.at.mono_ms, issued.at.mono_ms);
            return Err(format!(
                "{name}: issued at {from} ms and again at {to} ms, long before time"
            ));
        }
    }
    Ok(())
}

/// No URL of an order is missing in what was written.
pub(crate) fn remembered(world: &World) -> Result<(), String> {
    let made: Vec<Exchange<'_>> =
        exchanges(world).into_iter().filter(Exchange::made_order).collect();
    for Remembered { at, machine, attempts } in &world.remembered {
        for (name, _) in attempts.iter().filter(|(_, placed)| !**placed) {
            let its = made.iter().filter(|it| it.request.names.first() == Some(name));
            // What came in the same instant may have come behind it.
            let last = its.filter_map(|it| Some((it, it.heard?))).rfind(|(_, heard)| heard < at);
            let Some((last, heard)) = last else { continue };
            let mut since = world.log.iter().filter(|(line, _)| (heard..=*at).contains(line));
            let is_over = since.any(|(_, record)| memory::is_over(record, name));
            let by_it = world.ca_connections.sender(last.request.conn) == Some(*machine);
            if by_it && !is_over && !disturbed(world, heard, *at) {
                let (heard, at) = (heard / MILLISECOND, at / MILLISECOND);
                return Err(format!(
                    "heard of {name}'s order at {heard} ms, not remembered at {at} ms"
                ));
            }
        }
    }
    Ok(())
}

/// Syncs are not more frequent than they may be; the most in a second.
pub(crate) fn syncs(world: &World) -> Result<usize, String> {
    let marathons = &world.peers.marathons;
    let mut times: Vec<u64> = Vec::new();
    for marathon in marathons {
        let apps = marathon.seen().iter().filter(|seen| seen.target.starts_with("/v2/apps"));
        times.extend(apps.map(|seen| seen.at.mono_ms));
    }
    times.sort_unstable();
    let most = |window_ms: u64| {
        let count =
            |first: usize| times[first..].partition_point(|at| *at < times[first] + window_ms);
        (0..times.len()).map(count).max().unwrap_or_default()
    };
    let (second, ten) = (most(1_000), most(10_000));
    if second > SYNCS_IN_A_SECOND * marathons.len() || ten > SYNCS_IN_TEN * marathons.len() {
        return Err(format!("{second} lists of apps in a second, {ten} in ten"));
    }
    Ok(second)
}

/// No domain ceases to be wanted but by a list that lacks it; how often one did.
pub(crate) fn unwanted(world: &World, lists: &BadLists) -> Result<u64, String> {
    let says = |record: &Record| record.message == "domain is no longer wanted";
    let mut times = 0;
    for (at, record) in world.log.iter().filter(|(_, record)| says(record)) {
        let given = |lists: &[Nanos], from: Nanos, to: Nanos| {
            lists.iter().any(|given| (from..=to).contains(given))
        };
        let read_since = at.saturating_sub(LIST_AGE_MAX);
        let stayed_empty = given(&lists.empty, read_since, *at)
            && given(&lists.empty, 0, at.saturating_sub(EMPTY_PATIENCE));
        if !stayed_empty && !given(&lists.stale, read_since, *at) {
            let (seconds, fields) = (at / SECOND, &record.fields);
            return Err(format!("wanted no longer at {seconds} s, which no list said: {fields:?}"));
        }
        times += 1;
    }
    Ok(times)
}

/// No queue was ever longer than it may be, with so many domains.
pub(crate) fn queues(longest: &Queues, outputs: usize, domains: usize) -> Result<(), String> {
    const MIB: usize = 1024 * 1024;
    let orders = 50.min(domains);
    let bounds = [
        ("requests", longest.requests, orders + 20),
        ("news", longest.news, 0),
        ("kept connections", longest.kept_connections, 32),
        ("bytes of the stream", longest.stream_bytes, 3 * MIB),
        ("bytes of the apps", longest.apps_bytes, 4 * MIB),
        ("nonces", longest.nonces, 16),
        ("calls without a nonce", longest.calls_without_nonce, orders + 3),
        ("refusals of a nonce", longest.bad_nonces as usize, 10),
        ("open orders", longest.orders_open, orders),
        ("waiting orders", longest.orders_waiting, domains),
        ("waiting questions", longest.questions_waiting, domains),
        ("writes", longest.writes, 4 * domains + 20),
        ("lines of the log", longest.log_lines, 0),
        // A piece of the event stream may hold a hundred events, each of which is a line; and behind a
        // process that stood still the time of every stranger may be over at once.
        ("outputs of a turn", outputs, ACCEPTED_MAX + 300 + 20 * domains),
    ];
    match bounds.iter().find(|(_, length, bound)| length > bound) {
        Some((queue, length, bound)) => Err(format!("{length} {queue}, at most {bound} expected")),
        None => Ok(()),
    }
}

/// Each queue as long as in the longer of the two.
pub(crate) fn longer(one: Queues, other: Queues) -> Queues {
    Queues {
        requests: one.requests.max(other.requests),
        news: one.news.max(other.news),
        kept_connections: one.kept_connections.max(other.kept_connections),
        stream_bytes: one.stream_bytes.max(other.stream_bytes),
        apps_bytes: one.apps_bytes.max(other.apps_bytes),
        nonces: one.nonces.max(other.nonces),
        calls_without_nonce: one.calls_without_nonce.max(other.calls_without_nonce),
        bad_nonces: one.bad_nonces.max(other.bad_nonces),
        orders_open: one.orders_open.max(other.orders_open),
        orders_waiting: one.orders_waiting.max(other.orders_waiting),
        questions_waiting: one.questions_waiting.max(other.questions_waiting),
        writes: one.writes.max(other.writes),
        log_lines: one.log_lines.max(other.log_lines),
    }
}

/// A file that is written to `certs/` serves: its chain leads to the root, each certificate issued by
/// the next, and the leaf is valid now.
pub(crate) fn serves(pem: &str, root_der: &[u8], now_ms: i64) -> Result<(), String> {
    let blocks: Vec<x509_parser::pem::Pem> =
        x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).filter_map(Result::ok).collect();
    let chain = blocks.iter().filter(|block| block.label == "CERTIFICATE");
    let mut ders: Vec<&[u8]> = chain.map(|block| block.contents.as_slice()).collect();
    ders.push(root_der);
    let parsed: Result<Vec<_>, _> =
        ders.iter().map(|der| x509_parser::parse_x509_certificate(der)).collect();
    let parsed = parsed.map_err(|error| error.to_string())?;
    for pair in parsed.windows(2) {
        let (subject, issuer) = (&pair[0].1, &pair[1].1);
        subject
            .verify_signature(Some(issuer.public_key()))
            .map_err(|_| format!("{} was not issued by {}", subject.subject(), issuer.subject()))?;
    }
    let leaf = parsed.first().ok_or("no certificate")?.1.validity();
    let (from, to) = (leaf.not_before.timestamp() * 1000, leaf.not_after.timestamp() * 1000);
    match (from..=to).contains(&now_ms) {
        true => Ok(()),
        false => Err(format!("the leaf is valid from {from} to {to}, it is {now_ms}")),
    }
}
