//! How many costly reports are answered, of each kind and to each client. Must never let one kind of
//! report use up the answers of another, and never keep more than a fixed number of entries.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::daemon::status::Topic;
use crate::time::Instant;

/// The time within which the limits below count. A peer that has not read all of its answer has it
/// dropped after as long, but for those few bytes for which the loop has room, so that few more answers
/// than these are in memory at once.
pub(super) const WINDOW: Duration = Duration::from_secs(5);
/// Answers of one kind within [`WINDOW`], to all clients together.
pub(super) const ANSWERS_MAX: usize = 8;
/// The last ones of these are for clients that had no answer of this kind within [`WINDOW`]: a client that
/// asks all the time leaves room for the others.
const RESERVED: usize = 3;

/// The costly answers that were given within [`WINDOW`], the latest last. There are [`ANSWERS_MAX`] of each
/// kind at most, so that as many clients are tracked.
#[derive(Debug, Default)]
pub(super) struct RateLimiter(VecDeque<(Instant, Topic, IpAddr)>);

impl RateLimiter {
    /// Whether this client may have one more answer of this kind; it counts then.
    pub(super) fn take(&mut self, now: Instant, topic: Topic, client: IpAddr) -> bool {
        self.0.retain(|(at, ..)| now.since(*at) < WINDOW);
        let client = network(client);
        let of_topic = || self.0.iter().filter(|(_, of, _)| *of == topic);
        let is_new = of_topic().all(|(_, _, known)| *known != client);
        let limit = if is_new { ANSWERS_MAX } else { ANSWERS_MAX - RESERVED };
        let has_room = of_topic().count() < limit;
        if has_room {
            self.0.push_back((now, topic, client));
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
        let given = (0..100).filter(|_| limiter.take(now, Topic::Page, greedy)).count();
        assert_eq!(given, ANSWERS_MAX - RESERVED);
        assert!(
            limiter.take(now, Topic::Metrics, greedy) && limiter.take(now, Topic::Json, greedy)
        );
    }

    #[test]
    fn one_client_leaves_room_for_others() {
        let (mut limiter, mut now) = (RateLimiter::default(), Instant::START);
        while limiter.take(now, Topic::Metrics, client("10.0.0.1")) {}
        for number in 0..RESERVED {
            let other = client(&format!("10.0.1.{number}"));
            assert!(limiter.take(now, Topic::Metrics, other), "{number}");
            assert!(!limiter.take(now, Topic::Metrics, other), "{number} again");
        }
        assert!(!limiter.take(now, Topic::Metrics, client("10.0.2.1")), "the limit of them all");
        now = now + WINDOW;
        assert!(limiter.take(now, Topic::Metrics, client("10.0.2.1")));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut limiter = RateLimiter::default();
        for number in 0..10_000_u32 {
            for topic in [Topic::Page, Topic::Json, Topic::Metrics] {
                limiter.take(Instant::START, topic, IpAddr::from(number.to_be_bytes()));
            }
        }
        assert_eq!(limiter.0.len(), 3 * ANSWERS_MAX);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        assert_eq!(network(client("2001:db8:1:2:3:4:5:6")), client("2001:db8:1:2::"));
        assert_eq!(network(client("::ffff:10.0.0.1")), client("10.0.0.1"));
    }
}
