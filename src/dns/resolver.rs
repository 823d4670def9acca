//! The lookup machine: hosts file, search list, name servers in turn, both address families at once,
//! TCP where a datagram was too small. Never touches a socket: it says what to send to whom.
//!
//! A lookup goes through its candidate names; each: `asking A and AAAA → both answered | grace over`.
//! A question goes through the servers: `Datagram → (Stream) → answered | next server`.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::flat::FlatMap;
use crate::time::Instant;
use crate::turn::Turn;

use super::config::{Hosts, ResolvConf};
use super::message::{self, ADDRESSES_MAX, Answer, Family};

/// How long addresses of one family wait for those of the other.
const GRACE: Duration = Duration::from_millis(500);
const DNS_PORT: u16 = 53;

/// Names a lookup; the caller's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// Names a question on its way; each has a socket of its own, so that its port is of chance, too
/// (RFC 5452 section 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// What the resolver wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum ResolverOutput {
    /// Send a datagram; the first one of a query opens its socket.
    Datagram {
        /// Whose socket.
        query: QueryId,
        /// The name server.
        to: SocketAddr,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Close the query's socket.
    CloseDatagram {
        /// Whose socket.
        query: QueryId,
    },
    /// Open a TCP connection.
    OpenStream {
        /// Whose connection.
        query: QueryId,
        /// The name server.
        to: SocketAddr,
    },
    /// Send on the query's connection.
    SendStream {
        /// Whose connection.
        query: QueryId,
        /// The message with its length in front (RFC 1035 section 4.2.2).
        bytes: Vec<u8>,
    },
    /// Close the query's connection.
    CloseStream {
        /// Whose connection.
        query: QueryId,
    },
    /// A lookup is over.
    Answer {
        /// Which.
        lookup: LookupId,
        /// At least one address, IPv6 and IPv4 by turns.
        result: Result<Vec<IpAddr>, DnsError>,
    },
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// It can be no DNS name.
    BadName,
    /// The name servers know no such name.
    NoSuchName {
        /// The one that said so.
        server: IpAddr,
    },
    /// The name is there, but has no address.
    NoAddress {
        /// The name server that said so.
        server: IpAddr,
    },
    /// The name servers could not answer.
    ServerFailure {
        /// The last one.
        server: IpAddr,
        /// Its response code (RFC 1035 section 4.1.1).
        code: u8,
    },
    /// No name server answered in time.
    TimedOut {
        /// All that were asked.
        servers: Vec<IpAddr>,
    },
}

/// The resolver: any number of lookups at once.
#[derive(Debug)]
pub struct Resolver {
    conf: ResolvConf,
    hosts: Hosts,
    lookups: FlatMap<LookupId, Lookup>,
    queries: FlatMap<QueryId, Query>,
    queries_made: u64,
    outputs: VecDeque<ResolverOutput>,
}

#[derive(Debug)]
struct Lookup {
    /// Names still to be tried, the current one first.
    candidates: VecDeque<String>,
    v6: Option<Outcome>,
    v4: Option<Outcome>,
    /// When what there is has to do.
    grace_until: Option<Instant>,
    /// A trouble that says more than "no such name" of a later candidate.
    trouble: Option<DnsError>,
}

type Outcome = Result<Vec<IpAddr>, DnsError>;

#[derive(Debug)]
struct Query {
    lookup: LookupId,
    family: Family,
    name: String,
    id: u16,
    /// How many servers were tried before, over all rounds.
    tries: usize,
    server: IpAddr,
    deadline: Instant,
    /// The last server that answered with a failure.
    failure: Option<DnsError>,
    via: Via,
}

#[derive(Debug)]
enum Via {
    Datagram,
    Stream { received: Vec<u8> },
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver::new()
    }
}

impl Resolver {
    /// A resolver that knows nothing but `localhost` and a server on this machine.
    pub fn new() -> Resolver {
        Resolver {
            conf: ResolvConf::parse(b""),
            hosts: Hosts::default(),
            lookups: FlatMap::new(),
            queries: FlatMap::new(),
            queries_made: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Takes in `/etc/resolv.conf` and `/etc/hosts` for the lookups from now on.
    pub fn configure(&mut self, resolv_conf: &[u8], hosts: &[u8]) {
        self.conf = ResolvConf::parse(resolv_conf);
        self.hosts = Hosts::parse(hosts);
    }

    /// Starts a lookup.
    pub fn lookup(&mut self, turn: &mut Turn<'_>, lookup: LookupId, name: &str) {
        let literal = name.parse::<IpAddr>().ok().map(|address| vec![address]);
        if let Some(addresses) = literal.or_else(|| self.hosts.addresses(name)) {
            return self.answer(lookup, Ok(addresses));
        }
        let candidates = self.candidates(name);
        if candidates.is_empty() {
            return self.answer(lookup, Err(DnsError::BadName));
        }
        let (v6, v4, grace_until, trouble) = (None, None, None, None);
        self.lookups.insert(lookup, Lookup { candidates, v6, v4, grace_until, trouble });
        self.ask_both(turn, lookup);
    }

    /// The names to try: as it is first when it has enough dots, else last.
    fn candidates(&self, name: &str) -> VecDeque<String> {
        let bare = name.trim_end_matches('.').to_ascii_lowercase();
        let mut names = Vec::new();
        if !name.ends_with('.') {
            names.extend(self.conf.search.iter().map(|domain| format!("{bare}.{domain}")));
        }
        let dots = bare.matches('.').count();
        names.insert(if dots >= self.conf.ndots { 0 } else { names.len() }, bare);
        names.retain(|name| message::is_askable(name));
        names.into()
    }

    fn ask_both(&mut self, turn: &mut Turn<'_>, lookup: LookupId) {
        let name = self.lookups.get(&lookup).and_then(|lookup| lookup.candidates.front());
        let Some(name) = name.cloned() else { return };
        for family in [Family::V6, Family::V4] {
            let name = name.clone();
            self.ask(turn, lookup, family, name, 0, None);
        }
    }

    /// Asks the next server, when there is one left.
    fn ask(
        &mut self,
        turn: &mut Turn<'_>,
        lookup: LookupId,
        family: Family,
        name: String,
        tries: usize,
        failure: Option<DnsError>,
    ) {
        let servers = &self.conf.servers;
        let rounds = usize::try_from(self.conf.attempts).unwrap_or(1);
        if tries >= servers.len() * rounds {
            let error = failure.unwrap_or(DnsError::TimedOut { servers: servers.clone() });
            return self.note(turn, lookup, family, Err(error));
        }
        let server = servers[tries % servers.len()];
        let query = QueryId(self.queries_made);
        self.queries_made += 1;
        let id = (turn.keys.random() >> 48) as u16;
        let bytes = message::query(id, &name, family);
        let to = SocketAddr::new(server, DNS_PORT);
        self.outputs.push_back(ResolverOutput::Datagram { query, to, bytes });
        let (deadline, via) = (turn.now.mono + self.conf.timeout, Via::Datagram);
        let asked = Query { lookup, family, name, id, tries, server, deadline, failure, via };
        self.queries.insert(query, asked);
    }

    /// Forgets a lookup; no answer follows.
    pub fn cancel(&mut self, lookup: LookupId) {
        self.lookups.remove(&lookup);
        let ids = self.queries.iter().filter(|(_, query)| query.lookup == lookup);
        let ids: Vec<QueryId> = ids.map(|(id, _)| *id).collect();
        for id in ids {
            self.close(id);
        }
    }

    fn close(&mut self, query: QueryId) -> Option<Query> {
        let closed = self.queries.remove(&query)?;
        self.outputs.push_back(match closed.via {
            Via::Datagram => ResolverOutput::CloseDatagram { query },
            Via::Stream { .. } => ResolverOutput::CloseStream { query },
        });
        Some(closed)
    }

    /// Takes in a datagram. One that comes from elsewhere or answers something else is passed over.
    pub fn handle_datagram(
        &mut self,
        turn: &mut Turn<'_>,
        query: QueryId,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        let Some(asked) = self.queries.get(&query) else { return };
        let ours = from.ip() == asked.server && from.port() == DNS_PORT;
        if !ours || !matches!(asked.via, Via::Datagram) {
            return;
        }
        match message::answer(bytes, asked.id, &asked.name, asked.family) {
            Some(Answer::Truncated) => self.ask_by_stream(turn, query),
            Some(answer) => self.answered(turn, query, answer),
            None => {}
        }
    }

    fn ask_by_stream(&mut self, turn: &mut Turn<'_>, query: QueryId) {
        let Some(mut asked) = self.close(query) else { return };
        let id = QueryId(self.queries_made);
        self.queries_made += 1;
        asked.via = Via::Stream { received: Vec::new() };
        asked.deadline = turn.now.mono + self.conf.timeout;
        let to = SocketAddr::new(asked.server, DNS_PORT);
        self.outputs.push_back(ResolverOutput::OpenStream { query: id, to });
        self.queries.insert(id, asked);
    }

    /// The query's connection stands.
    pub fn handle_stream_connected(&mut self, _turn: &mut Turn<'_>, query: QueryId) {
        let Some(asked) = self.queries.get(&query) else { return };
        let message = message::query(asked.id, &asked.name, asked.family);
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let bytes = [&length.to_be_bytes()[..], &message].concat();
        self.outputs.push_back(ResolverOutput::SendStream { query, bytes });
    }

    /// Takes in bytes of the query's connection, split anywhere; their length is bounded by its two
    /// bytes.
    pub fn handle_stream_received(&mut self, turn: &mut Turn<'_>, query: QueryId, bytes: &[u8]) {
        let Some(asked) = self.queries.get_mut(&query) else { return };
        let Via::Stream { received } = &mut asked.via else { return };
        received.extend_from_slice(bytes);
        let [high, low, message @ ..] = received.as_slice() else { return };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(whole) = message.get(..length) else { return };
        match message::answer(whole, asked.id, &asked.name, asked.family) {
            Some(Answer::Truncated) | None => self.next_server(turn, query, None),
            Some(answer) => self.answered(turn, query, answer),
        }
    }

    /// The query's connection is gone, or could not be made.
    pub fn handle_stream_closed(&mut self, turn: &mut Turn<'_>, query: QueryId) {
        self.next_server(turn, query, None);
    }

    fn answered(&mut self, turn: &mut Turn<'_>, query: QueryId, answer: Answer) {
        let Some(server) = self.queries.get(&query).map(|asked| asked.server) else { return };
        let outcome = match answer {
            Answer::Addresses(addresses) if addresses.is_empty() => {
                Err(DnsError::NoAddress { server })
            }
            Answer::Addresses(addresses) => Ok(addresses),
            Answer::NoSuchName => Err(DnsError::NoSuchName { server }),
            Answer::Failure(code) => {
                let failure = DnsError::ServerFailure { server, code };
                return self.next_server(turn, query, Some(failure));
            }
            Answer::Truncated => return,
        };
        if let Some(asked) = self.close(query) {
            self.note(turn, asked.lookup, asked.family, outcome);
        }
    }

    fn next_server(&mut self, turn: &mut Turn<'_>, query: QueryId, failure: Option<DnsError>) {
        let Some(asked) = self.close(query) else { return };
        let Query { lookup, family, name, tries, .. } = asked;
        self.ask(turn, lookup, family, name, tries + 1, failure.or(asked.failure));
    }

    fn note(&mut self, turn: &mut Turn<'_>, id: LookupId, family: Family, outcome: Outcome) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        if outcome.is_ok() {
            lookup.grace_until = Some(turn.now.mono + GRACE);
        }
        match family {
            Family::V6 => lookup.v6 = Some(outcome),
            Family::V4 => lookup.v4 = Some(outcome),
        }
        if lookup.v6.is_some() && lookup.v4.is_some() {
            self.conclude(turn, id);
        }
    }

    /// Answers with what there is, or goes on to the next candidate.
    fn conclude(&mut self, turn: &mut Turn<'_>, id: LookupId) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        let outcomes = [lookup.v6.take(), lookup.v4.take()];
        let found = outcomes.each_ref().map(|outcome| match outcome {
            Some(Ok(addresses)) => addresses.as_slice(),
            _ => &[],
        });
        let addresses = by_turns(found[0], found[1]);
        if !addresses.is_empty() {
            self.cancel(id);
            return self.answer(id, Ok(addresses));
        }
        let errors = outcomes.into_iter().flatten().filter_map(Result::err);
        let Some(error) = errors.max_by_key(DnsError::weight) else { return };
        lookup.candidates.pop_front();
        let timed_out = matches!(error, DnsError::TimedOut { .. });
        let known = lookup.trouble.take();
        let worst = [Some(error), known].into_iter().flatten().max_by_key(DnsError::weight);
        if lookup.candidates.is_empty() || timed_out {
            self.cancel(id);
            if let Some(error) = worst {
                self.answer(id, Err(error));
            }
            return;
        }
        lookup.trouble = worst;
        lookup.grace_until = None;
        self.ask_both(turn, id);
    }

    fn answer(&mut self, lookup: LookupId, result: Result<Vec<IpAddr>, DnsError>) {
        self.outputs.push_back(ResolverOutput::Answer { lookup, result });
    }

    /// Goes on where a server or the other family took too long.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let late = self.queries.iter().filter(|(_, query)| query.deadline <= now);
        let late: Vec<QueryId> = late.map(|(id, _)| *id).collect();
        for query in late {
            self.next_server(turn, query, None);
        }
        let over = |lookup: &Lookup| lookup.grace_until.is_some_and(|until| until <= now);
        let ids = self.lookups.iter().filter(|(_, lookup)| over(lookup));
        let ids: Vec<LookupId> = ids.map(|(id, _)| *id).collect();
        for lookup in ids {
            self.conclude(turn, lookup);
        }
    }

    /// When something takes too long.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let queries = self.queries.values().map(|query| query.deadline);
        queries.chain(self.lookups.values().filter_map(|lookup| lookup.grace_until)).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ResolverOutput> {
        self.outputs.pop_front()
    }
}

/// IPv6 and IPv4 addresses by turns, each once (RFC 8305 section 4).
fn by_turns(v6: &[IpAddr], v4: &[IpAddr]) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for index in 0..v6.len().max(v4.len()) {
        for address in [v6.get(index), v4.get(index)].into_iter().flatten() {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
    }
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

impl DnsError {
    /// How much an error tells an operator: a server's trouble more than a missing name.
    fn weight(&self) -> u8 {
        match self {
            DnsError::BadName => 0,
            DnsError::NoSuchName { .. } => 1,
            DnsError::NoAddress { .. } => 2,
            DnsError::ServerFailure { .. } => 3,
            DnsError::TimedOut { .. } => 4,
        }
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsError::BadName => f.write_str("it can be no DNS name"),
            DnsError::NoSuchName { server } => write!(f, "no such name (says {server})"),
            DnsError::NoAddress { server } => write!(f, "it has no address (says {server})"),
            DnsError::ServerFailure { server, code } => {
                write!(f, "name server {server} failed with code {code}")
            }
            DnsError::TimedOut { servers } => {
                let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                write!(f, "no name server answered (asked {})", servers.join(", "))
            }
        }
    }
}

impl std::error::Error for DnsError {}

#[cfg(test)]
mod tests;
