//! Lookups in whatever order their answers come: every lookup ends with exactly one answer, every
//! socket and connection that was opened is closed, nothing is asked without end, and no lookup waits
//! longer than its caller.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use marathon_acme::context::Context;
use marathon_acme::dns::{LookupId, QueryId, Resolver, ResolverOutput};
use marathon_acme::machine::CloseReason;
use marathon_acme::time::{Instant, Now, UnixTime};

use super::keys::CheapKeys;

const NAMES: [&str; 6] = ["a.org", "marathon.mesos", "lb", "localhost", "10.0.0.1", "bad..name"];
/// Questions of one run at most: lookups times names, families, servers, attempts and streams.
const QUERIES_MAX: usize = 20_000;
/// What the caller of a lookup waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lookups under way at most.
const LOOKUPS_MAX: usize = 8;

/// Instructions, one byte each, some with a byte or a few behind them.
pub fn run(bytes: &[u8]) {
    let mut stage = Stage::new();
    let mut rest = bytes;
    while let [instruction, behind @ ..] = rest {
        rest = behind;
        stage.follow(*instruction, &mut rest);
    }
    stage.wait_for_all();
}

/// The resolver and what is open outside it.
struct Stage {
    resolver: Resolver,
    now: Instant,
    keys: CheapKeys,
    lookups: BTreeSet<LookupId>,
    lookups_made: u64,
    /// When the caller of each lookup stops waiting.
    deadlines: BTreeMap<LookupId, Instant>,
    /// Questions by datagram: whom they went to, and what they said.
    datagrams: Vec<(QueryId, SocketAddr, Vec<u8>)>,
    streams: Vec<(QueryId, SocketAddr, Vec<u8>)>,
    queries: BTreeSet<QueryId>,
}

impl Stage {
    fn new() -> Stage {
        Stage {
            resolver: Resolver::new(),
            now: Instant::START,
            keys: CheapKeys::default(),
            lookups: BTreeSet::new(),
            lookups_made: 0,
            deadlines: BTreeMap::new(),
            datagrams: Vec::new(),
            streams: Vec::new(),
            queries: BTreeSet::new(),
        }
    }

    /// Lets the resolver act, and takes in what it wants.
    fn act(&mut self, act: impl FnOnce(&mut Resolver, &mut Context<'_>)) {
        let now = Now { mono: self.now, wall: UnixTime::from_millis(0) };
        let mut log = Vec::new();
        act(&mut self.resolver, &mut Context { now, keys: &mut self.keys, log: &mut log });
        while let Some(output) = self.resolver.poll_output() {
            self.take(output);
        }
        assert!(self.datagrams.len() + self.streams.len() <= 2 * self.lookups.len());
    }

    fn take(&mut self, output: ResolverOutput) {
        match output {
            ResolverOutput::Datagram { query, to, bytes } => {
                assert!(self.queries.insert(query), "a question is asked again");
                assert!(self.queries.len() < QUERIES_MAX, "questions without end");
                self.datagrams.push((query, to, bytes));
            }
            ResolverOutput::CloseDatagram { query } => {
                let open = self.datagrams.iter().position(|(open, ..)| *open == query);
                self.datagrams.remove(open.expect("it is open"));
            }
            ResolverOutput::OpenStream { query, to } => {
                assert!(self.queries.insert(query), "a question is asked again");
                self.streams.push((query, to, Vec::new()));
            }
            ResolverOutput::SendStream { query, bytes } => {
                let stream = self.streams.iter_mut().find(|(open, ..)| *open == query);
                stream.expect("it is open").2 = bytes[2..].to_vec();
            }
            ResolverOutput::CloseStream { query } => {
                let open = self.streams.iter().position(|(open, ..)| *open == query);
                self.streams.remove(open.expect("it is open"));
            }
            ResolverOutput::Answer { lookup, result } => {
                assert!(self.lookups.remove(&lookup), "a second answer");
                assert!(result.is_err() || result.is_ok_and(|addresses| !addresses.is_empty()));
            }
        }
    }

    fn follow(&mut self, instruction: u8, rest: &mut &[u8]) {
        let which = usize::from(instruction >> 3);
        match instruction & 7 {
            0 if self.lookups.len() < LOOKUPS_MAX => {
                let lookup = LookupId(self.lookups_made);
                self.lookups_made += 1;
                self.lookups.insert(lookup);
                let name = NAMES[which % NAMES.len()];
                let deadline = self.now + PATIENCE;
                self.act(|resolver, cx| resolver.lookup(cx, lookup, name, deadline));
                self.deadlines.insert(lookup, deadline);
            }
            1 => {
                let conf = take(rest, which * 4);
                self.act(|resolver, cx| resolver.configure(cx, conf, conf));
            }
            2 => self.datagram(which, rest),
            3 => self.stream(which, rest),
            4 => {
                self.now = self.now + Duration::from_millis(100 << (which % 8));
                self.act(Resolver::handle_timeout);
            }
            5 => {
                let chosen = self.lookups.iter().nth(which).copied();
                if let Some(lookup) = chosen {
                    self.lookups.remove(&lookup);
                    self.act(|resolver, _| resolver.cancel(lookup));
                }
            }
            6 => {
                let Some((query, ..)) = pick(&self.streams, which) else { return };
                self.act(|resolver, cx| resolver.handle_stream_connected(cx, query));
            }
            _ => {
                let Some((query, ..)) = pick(&self.streams, which) else { return };
                self.streams.retain(|(open, ..)| *open != query);
                // It is gone: what closes it again is harmless, but comes from the resolver alone.
                self.streams.push((query, SocketAddr::from(([0, 0, 0, 0], 0)), Vec::new()));
                let reason = CloseReason::Refused;
                self.act(|resolver, cx| resolver.handle_stream_closed(cx, query, reason));
            }
        }
    }

    fn datagram(&mut self, which: usize, rest: &mut &[u8]) {
        let Some((query, to, question)) = pick(&self.datagrams, which) else { return };
        if which & 24 == 24 {
            let reason = CloseReason::Refused;
            return self.act(|resolver, cx| resolver.handle_datagram_failed(cx, query, reason));
        }
        let from = if which & 16 == 0 { to } else { SocketAddr::from(([10, 9, 9, 9], 53)) };
        let bytes = answer(&question, rest);
        self.act(|resolver, cx| resolver.handle_datagram(cx, query, from, &bytes));
    }

    fn stream(&mut self, which: usize, rest: &mut &[u8]) {
        let Some((query, _, question)) = pick(&self.streams, which) else { return };
        let bytes = answer(&question, rest);
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        for piece in [&length[..1], &length[1..], first, second] {
            self.act(|resolver, cx| resolver.handle_stream_received(cx, query, piece));
        }
    }

    fn wait_for_all(&mut self) {
        for _ in 0..QUERIES_MAX {
            let Some(at) = self.resolver.poll_timeout() else {
                assert!(self.lookups.is_empty(), "a lookup without end");
                assert!(self.datagrams.is_empty() && self.streams.is_empty(), "left open");
                return;
            };
            // Where time has jumped past it, all that is left is to end.
            let late = |lookup: &&LookupId| (self.now..at).contains(&self.deadlines[lookup]);
            assert_eq!(self.lookups.iter().find(late), None, "longer than its caller waits");
            self.now = self.now.max(at);
            self.act(Resolver::handle_timeout);
        }
        panic!("the resolver never rests");
    }
}

fn pick<T: Clone>(list: &[T], which: usize) -> Option<T> {
    list.get(which % list.len().max(1)).cloned()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, behind) = rest.split_at(length.min(rest.len()));
    *rest = behind;
    taken
}

/// An answer to the question: flags and counts as the next bytes say, then some records.
fn answer(question: &[u8], rest: &mut &[u8]) -> Vec<u8> {
    let [flags, records] = *take(rest, 2) else { return question.to_vec() };
    let mut message = question.to_vec();
    if let [_, _, high, low, _, _, _, answers, ..] = message.as_mut_slice() {
        (*high, *low, *answers) = (0x80 | flags >> 6 << 1, flags & 0xf, records >> 6);
        let records = take(rest, usize::from(records & 63));
        message.extend(records);
    }
    message
}
