//! The name servers and what is known of each: the order of `resolv.conf`, with a penalty for servers
//! that are silent or refuse. Data only: it never sends anything and reads no clock.

use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Instant;

/// How long a server that failed once comes after the others; each further failure doubles it.
const PENALTY: Duration = Duration::from_secs(30);
/// Doublings of [`PENALTY`] at most: 16 minutes.
const DOUBLINGS_MAX: u32 = 5;

/// The configured name servers.
#[derive(Debug, Default)]
pub(super) struct Servers {
    list: Vec<Server>,
    /// Names asked for so far.
    rotations: usize,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// Penalties in a row.
    failures: u32,
    /// Until then it comes after the others.
    penalty_until: Option<Instant>,
    /// It answered a query with EDNS by an error (RFC 6891 section 7).
    rejects_edns: bool,
}

impl Servers {
    /// Takes a new list over. What is known of servers that stay is kept.
    pub(super) fn configure(&mut self, addresses: &[SocketAddr]) {
        let mut known = std::mem::take(&mut self.list);
        self.list = addresses
            .iter()
            .map(|address| match known.iter().position(|server| server.address == *address) {
                Some(place) => known.swap_remove(place),
                None => Server {
                    address: *address,
                    failures: 0,
                    penalty_until: None,
                    rejects_edns: false,
                },
            })
            .collect();
    }

    /// Another name is asked for.
    pub(super) fn rotate(&mut self) {
        self.rotations = self.rotations.wrapping_add(1);
    }

    /// The order in which the servers are asked for one name: as configured, but those with a penalty
    /// last. With `rotate` each name begins one server later.
    pub(super) fn order(&self, now: Instant, rotate: bool) -> Vec<SocketAddr> {
        let first = self.rotations % self.list.len().max(1);
        let (before, after) = self.list.split_at(if rotate { first } else { 0 });
        let mut order = Vec::new();
        for has_penalty in [false, true] {
            for server in after.iter().chain(before) {
                if server.penalty_until.is_some_and(|until| until > now) == has_penalty {
                    order.push(server.address);
                }
            }
        }
        order
    }

    /// A server answered.
    pub(super) fn answered(&mut self, address: SocketAddr) {
        for server in self.list.iter_mut().filter(|server| server.address == address) {
            server.failures = 0;
            server.penalty_until = None;
        }
    }

    /// A server was silent or refused. While it has a penalty this changes nothing: the queries of one
    /// moment count once.
    pub(super) fn failed(&mut self, address: SocketAddr, now: Instant) {
        for server in self.list.iter_mut().filter(|server| server.address == address) {
            if server.penalty_until.is_none_or(|until| until <= now) {
                server.penalty_until = Some(now + PENALTY * (1 << server.failures));
                server.failures = (server.failures + 1).min(DOUBLINGS_MAX);
            }
        }
    }

    /// Whether a server may be sent EDNS.
    pub(super) fn takes_edns(&self, address: SocketAddr) -> bool {
        !self.list.iter().any(|server| server.address == address && server.rejects_edns)
    }

    /// A server rejected EDNS. It is not sent any more while the server stays configured.
    pub(super) fn rejects_edns(&mut self, address: SocketAddr) {
        for server in self.list.iter_mut().filter(|server| server.address == address) {
            server.rejects_edns = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 53))
    }

    fn servers(many: u8) -> Servers {
        let mut servers = Servers::default();
        servers.configure(&(1..=many).map(address).collect::<Vec<_>>());
        servers
    }

    fn order(servers: &Servers, now: Instant) -> Vec<u8> {
        let last = |address: SocketAddr| address.to_string()[7..8].parse().unwrap();
        servers.order(now, false).into_iter().map(last).collect()
    }

    #[test]
    fn failed_servers_come_last_until_they_answer_or_their_penalty_ends() {
        let (mut servers, mut now) = (servers(3), Instant::START + PENALTY);
        assert_eq!(order(&servers, now), [1, 2, 3]);
        servers.failed(address(1), now);
        assert_eq!(order(&servers, now), [2, 3, 1]);
        servers.failed(address(2), now + Duration::from_secs(1));
        assert_eq!(order(&servers, now), [3, 1, 2]);
        servers.answered(address(2));
        assert_eq!(order(&servers, now), [2, 3, 1]);
        now = now + PENALTY;
        assert_eq!(order(&servers, now), [1, 2, 3]);
        // The second penalty is longer; it does not grow without end.
        servers.failed(address(1), now);
        assert_eq!(order(&servers, now + PENALTY), [2, 3, 1]);
        assert_eq!(order(&servers, now + 2 * PENALTY), [1, 2, 3]);
        for _ in 0..99 {
            servers.failed(address(1), now);
            now = now + PENALTY * (1 << DOUBLINGS_MAX);
        }
        assert_eq!(order(&servers, now), [1, 2, 3]);
    }

    #[test]
    fn failures_of_one_moment_count_once() {
        let mut servers = servers(2);
        for _ in 0..9 {
            servers.failed(address(1), Instant::START);
        }
        assert_eq!(order(&servers, Instant::START + PENALTY), [1, 2]);
    }

    #[test]
    fn a_new_list_keeps_what_is_known() {
        let (mut servers, now) = (servers(3), Instant::START);
        servers.failed(address(1), now);
        servers.rejects_edns(address(2));
        servers.configure(&[address(1), address(2), address(4)]);
        assert_eq!(order(&servers, now), [2, 4, 1]);
        assert!(!servers.takes_edns(address(2)) && servers.takes_edns(address(4)));
        servers.configure(&[address(3)]);
        servers.configure(&[address(1), address(2)]);
        assert_eq!(order(&servers, now), [1, 2]);
        assert!(servers.takes_edns(address(2)));
    }

    #[test]
    fn rotation_begins_one_server_later_each_time() {
        let (mut servers, now) = (servers(3), Instant::START);
        servers.failed(address(2), now);
        let mut first = || {
            servers.rotate();
            servers.order(now, true)[0]
        };
        assert_eq!([first(), first(), first(), first()], [3, 3, 1, 3].map(address));
        assert_eq!(servers.order(now, false)[0], address(1));
    }
}
