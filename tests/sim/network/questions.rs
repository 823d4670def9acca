//! Questions to the name server by datagram: what becomes of each, and of its answer.

use std::net::SocketAddr;

use marathon_acme::machine::SocketId;

use super::{Delivery, MILLISECOND, Nanos, Network};
use crate::faults::Fault;
use crate::names::{Names, Shape};

/// Nobody waits for an answer that is later than this.
const LATE: (Nanos, Nanos) = (1000 * MILLISECOND, 10_000 * MILLISECOND);
/// Where answers come from that nobody asked there for.
const ELSEWHERE: [&str; 2] = ["10.0.0.54:53", "10.0.0.53:5353"];

impl Network {
    /// The daemon asks.
    pub(crate) fn ask(
        &mut self,
        now: Nanos,
        socket: SocketId,
        to: SocketAddr,
        query: &[u8],
        names: &Names,
    ) {
        self.books.asked(now, socket);
        if self.meets(Fault::DnsLost) {
            return;
        }
        self.lie(now, socket, to, query, names);
        let shape = self.shape();
        let answer = names.answer(query, &shape);
        let mut at = now + self.latency();
        if self.meets(Fault::DnsLate) {
            at += self.chance.between(LATE.0, LATE.1);
        }
        self.post(at, Delivery::Datagram(socket, to, answer));
    }

    /// The daemon closes a socket.
    pub(crate) fn close_socket(&mut self, socket: SocketId) {
        self.books.closed_socket(socket);
    }

    /// What is no answer to the question comes before the answer does.
    fn lie(
        &mut self,
        now: Nanos,
        socket: SocketId,
        server: SocketAddr,
        query: &[u8],
        names: &Names,
    ) {
        let lies =
            [Fault::DnsWrongId, Fault::DnsWrongQuestion, Fault::DnsWrongSource, Fault::DnsGarbage];
        for fault in lies {
            if !self.meets(fault) {
                continue;
            }
            let from = match fault {
                Fault::DnsWrongSource => {
                    let place = self.chance.below(ELSEWHERE.len() as u64) as usize;
                    ELSEWHERE[place].parse().expect("an address")
                }
                _ => server,
            };
            let bytes = match fault {
                Fault::DnsGarbage if self.chance.chance(50) => {
                    self.chance.bytes::<64>()[..self.chance.below(65) as usize].to_vec()
                }
                Fault::DnsGarbage => {
                    let mut whole = names.answer(query, &Shape::default());
                    whole.truncate(self.chance.below(whole.len() as u64) as usize);
                    whole
                }
                fault => names.lie(query, fault),
            };
            self.post(now + MILLISECOND / 2, Delivery::Datagram(socket, from, bytes));
        }
    }

    /// What the name server makes of a question.
    fn shape(&mut self) -> Shape {
        let verdicts =
            [Fault::DnsNoSuchName, Fault::DnsFailure, Fault::DnsTruncated, Fault::DnsEmpty];
        let verdict = verdicts.into_iter().find(|fault| self.meets(*fault));
        let alias = self.meets(Fault::DnsAlias);
        let strikes =
            |fault, network: &mut Network| network.weather.strikes(fault, &mut network.chance);
        Shape {
            verdict,
            alias,
            // Counted when the daemon goes there.
            dead: strikes(Fault::DnsDeadAddress, self).then(|| self.chance.number()),
            no_route: strikes(Fault::DnsNoRoute, self),
        }
    }
}
