//! How many costly reports are answered, of each kind and to each client. Must never let one kind of
//! report use up the answers of another, and never keep more than a fixed number of entries.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Instant;

use super::endpoint::Endpoint;

/// The time within which the limits below count. A peer that has not read all of its answer has it
/// dropped after as long, but for those few bytes for which the loop has room, so that few more answers
/// than these are in memory at once.
pub(super) const WINDOW: Duration = Duration::from_secs(5);
/// Of all answers of one kind, one client has one part of so many, and the last part of as many is for
/// clients that had none: a client that asks all the time leaves room for the others.
const PARTS: usize = 4;

/// The costly answers that were given within [`WINDOW`], the latest last: of each kind as many as there may
/// be at most, so that as many clients are tracked.
#[derive(Debug, Default)]
pub(super) struct RateLimiter(VecDeque<(Instant, Endpoint, IpAddr)>);

impl RateLimiter {
    /// Whether this client may have one more answer of this kind, of which there are `max` for all clients
    /// together; it counts then.
    pub(super) fn take(
        &mut self,
        now: Instant,
        endpoint: Endpoint,
        client: IpAddr,
        max: usize,
    ) -> bool {
        self.0.retain(|(at, ..)| now.since(*at) < WINDOW);
        let client = network(client);
        let of_topic = || self.0.iter().filter(|(_, of, _)| *of == endpoint);
        let own = of_topic().filter(|(_, _, known)| *known == client).count();
        let part = max / PARTS;
        let limit = if own == 0 { max } else { max - part };
        let has_room = own < part && of_topic().count() < limit;
        if has_room {
            self.0.push_back((now, endpoint, client));
        }
        has_room
    }
}

/// What one client has: of IPv6 a /64 (RFC 4291 section 2.5.4), whose addresses it can choose.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> IpAddr {
        text.parse().expect("a test's address is one")
    }

    #[test]
    fn one_kind_of_report_leaves_the_others_theirs() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::START);
        let greedy = client("10.0.0.1");
        let given = (0..100).filter(|_| limiter.take(now, Endpoint::Page, greedy, 40)).count();
        assert_eq!(given, 10);
        assert!(limiter.take(now, Endpoint::Metrics, greedy, 40));
        assert!(limiter.take(now, Endpoint::Json, greedy, 40));
    }

    /// Some clients ask all the time, and Prometheus every second.
    #[test]
    fn greedy_clients_leave_room_for_one_that_asks_now_and_then() {
        for (max, clients, per_window) in [(40, 1, 5), (40, 2, 5), (8, 1, 2), (8, 2, 2)] {
            let (mut limiter, mut now) = (RateLimiter::default(), Instant::START);
            let pause = WINDOW / per_window;
            for scrape in 0..50 {
                for greedy in 0..clients {
                    let greedy = client(&format!("10.0.0.{greedy}"));
                    while limiter.take(now, Endpoint::Metrics, greedy, max) {}
                }
                let prometheus = client("10.0.1.1");
                assert!(limiter.take(now, Endpoint::Metrics, prometheus, max), "{max} {scrape}");
                now = now + pause;
            }
        }
    }

    #[test]
    fn the_limit_of_all_clients_holds() {
        let (mut limiter, mut now) = (RateLimiter::default(), Instant::START);
        let other = |number: usize| client(&format!("10.0.1.{number}"));
        for number in 0..8 {
            assert!(limiter.take(now, Endpoint::Metrics, other(number), 8), "{number}");
        }
        assert!(!limiter.take(now, Endpoint::Metrics, other(8), 8));
        now = now + WINDOW;
        assert!(limiter.take(now, Endpoint::Metrics, other(8), 8));
    }

    /// The last part is for clients that had no answer yet.
    #[test]
    fn the_last_part_is_for_clients_that_had_none() {
        let (mut limiter, now) = (RateLimiter::default(), Instant::START);
        for number in 0..3 {
            let greedy = client(&format!("10.0.0.{number}"));
            assert!((0..2).all(|_| limiter.take(now, Endpoint::Metrics, greedy, 8)));
        }
        let [first, second] = ["10.0.0.8", "10.0.0.9"].map(client);
        assert!(limiter.take(now, Endpoint::Metrics, first, 8));
        assert!(!limiter.take(now, Endpoint::Metrics, first, 8), "it had one");
        assert!(limiter.take(now, Endpoint::Metrics, second, 8));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut limiter = RateLimiter::default();
        for number in 0..10_000_u32 {
            for endpoint in [Endpoint::Page, Endpoint::Json, Endpoint::Metrics] {
                limiter.take(Instant::START, endpoint, IpAddr::from(number.to_be_bytes()), 40);
            }
        }
        assert_eq!(limiter.0.len(), 3 * 40);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        assert_eq!(network(client("2001:db8:1:2:3:4:5:6")), client("2001:db8:1:2::"));
        assert_eq!(network(client("::ffff:10.0.0.1")), client("10.0.0.1"));
    }
}
