//! The lookup machine: hosts file, search list, name servers in turn, both address families at once,
//! TCP where a datagram was too small. Never touches a socket: it says what to send to whom.
//!
//! No server uses more than its share of the caller's time: what is left is divided by the servers that
//! follow in the same round, and one share is left for what the caller does with the addresses.
//!
//! A lookup goes through its candidate names; each: `asking A and AAAA → both answered | grace over`.
//! A question goes through the servers: `Datagram → (Stream) → answered | next server`.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::context::Context;
use crate::flat::FlatMap;
use crate::log::Record;
use crate::machine::CloseReason;
use crate::time::Instant;

use super::config::{Flag, Hosts, ResolvConf};
use super::error::{DnsError, Replies, Reply};
use super::message::{self, ADDRESSES_MAX, Answer, Family};
use super::output::{LookupId, QueryId, ResolverOutput};
use super::servers::Servers;

/// How long addresses of one family wait for those of the other, at most.
const GRACE: Duration = Duration::from_millis(500);
/// Response codes (RFC 1035 section 4.1.1).
const FORMAT_ERROR: u8 = 1;
const NO_SUCH_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// The resolver: any number of lookups at once.
#[derive(Debug)]
pub struct Resolver {
    conf: ResolvConf,
    servers: Servers,
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
    /// When the caller stops waiting.
    deadline: Instant,
    /// What the name servers replied so far, for all candidates.
    replies: Replies,
}

type Outcome = Result<Vec<IpAddr>, DnsError>;

/// A name and address family to ask for.
#[derive(Debug)]
struct Question {
    lookup: LookupId,
    family: Family,
    name: String,
    /// The servers to ask next, over all rounds.
    next: VecDeque<SocketAddr>,
    /// Servers of one round, at least 1.
    round: usize,
}

/// A question that one server was asked.
#[derive(Debug)]
struct Query {
    question: Question,
    id: u16,
    server: SocketAddr,
    edns: bool,
    deadline: Instant,
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

impl Query {
    fn message(&self) -> Vec<u8> {
        let message = message::query(self.id, &self.question.name, self.question.family);
        if self.edns { message::with_edns(message) } else { message }
    }
}

impl Resolver {
    /// A resolver that knows nothing but `localhost` and a server on this machine.
    pub fn new() -> Resolver {
        let conf = ResolvConf::parse(b"");
        let mut servers = Servers::default();
        servers.configure(&conf.servers);
        Resolver {
            conf,
            servers,
            hosts: Hosts::default(),
            lookups: FlatMap::new(),
            queries: FlatMap::new(),
            queries_made: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Reads `/etc/resolv.conf` and `/etc/hosts` for the lookups from now on. Settings that have no effect
    /// are logged once, until the file has others.
    pub fn configure(&mut self, cx: &mut Context<'_>, resolv_conf: &[u8], hosts: &[u8]) {
        let conf = ResolvConf::parse(resolv_conf);
        if conf.ignored != self.conf.ignored && !conf.ignored.is_empty() {
            let record = Record::warn("dns", "settings in /etc/resolv.conf are ignored");
            cx.log(record.with("settings", conf.ignored.join("; ")));
        }
        self.servers.configure(&conf.servers);
        self.conf = conf;
        self.hosts = Hosts::parse(hosts);
    }

    /// Starts a lookup. It ends before the deadline if its timeouts are handled in time.
    pub fn lookup(
        &mut self,
        cx: &mut Context<'_>,
        lookup: LookupId,
        name: &str,
        deadline: Instant,
    ) {
        let literal = name.parse::<IpAddr>().ok().map(|address| vec![address]);
        if let Some(addresses) = literal.or_else(|| self.hosts.addresses(name)) {
            return self.answer(lookup, Ok(addresses));
        }
        let candidates = self.candidates(name);
        if candidates.is_empty() {
            return self.answer(lookup, Err(DnsError::BadName));
        }
        let started = Lookup {
            candidates,
            v6: None,
            v4: None,
            grace_until: None,
            trouble: None,
            deadline,
            replies: Vec::new(),
        };
        self.lookups.insert(lookup, started);
        self.ask_first(cx, lookup);
    }

    /// The names to try: as it is first when it has enough dots, else last.
    fn candidates(&self, name: &str) -> VecDeque<String> {
        let bare = name.trim_end_matches('.').to_ascii_lowercase();
        let mut names = Vec::new();
        if !name.ends_with('.') {
            names.extend(self.conf.search.iter().map(|domain| format!("{bare}.{domain}")));
        }
        let dots = bare.matches('.').count();
        let is_skipped = dots == 0 && !names.is_empty() && self.conf.has(Flag::NoTldQuery);
        if !is_skipped {
            names.insert(if dots >= self.conf.ndots { 0 } else { names.len() }, bare);
        }
        names.retain(|name| message::is_askable(name));
        names.into()
    }

    /// Asks for the current candidate: both families at once, or as the options say.
    fn ask_first(&mut self, cx: &mut Context<'_>, id: LookupId) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        self.servers.rotate();
        if self.conf.has(Flag::NoAaaa) {
            lookup.v6 = Some(Ok(Vec::new()));
        } else if !self.conf.has(Flag::SingleRequest) {
            self.ask(cx, id, Family::V6);
        }
        self.ask(cx, id, Family::V4);
    }

    fn ask(&mut self, cx: &mut Context<'_>, lookup: LookupId, family: Family) {
        let name = self.lookups.get(&lookup).and_then(|lookup| lookup.candidates.front());
        let Some(name) = name.cloned() else { return };
        let order = self.servers.order(cx.now.mono, self.conf.has(Flag::Rotate));
        let attempts = usize::try_from(self.conf.attempts).unwrap_or(1);
        let next = order.repeat(attempts).into();
        let round = order.len().max(1);
        self.ask_server(cx, Question { lookup, family, name, next, round });
    }

    /// Asks the next server, when there is one left.
    fn ask_server(&mut self, cx: &mut Context<'_>, mut question: Question) {
        let Some(lookup) = self.lookups.get(&question.lookup) else { return };
        let Some(server) = question.next.pop_front() else {
            let error = DnsError::of_replies(lookup.replies.clone());
            return self.note(cx, question.lookup, question.family, Err(error));
        };
        let now = cx.now.mono;
        // This server, those that follow in this round, and the caller.
        let sharers = u32::try_from(question.next.len() % question.round + 2).unwrap_or(u32::MAX);
        let share = lookup.deadline.since(now) / sharers;
        let asked = Query {
            question,
            id: (cx.keys.random() >> 48) as u16,
            server,
            edns: self.conf.has(Flag::Edns) && self.servers.takes_edns(server),
            deadline: now + self.conf.timeout.min(share),
            via: Via::Datagram,
        };
        if self.conf.has(Flag::UseTcp) {
            return self.open_stream(asked);
        }
        let query = self.new_query();
        let bytes = asked.message();
        self.outputs.push_back(ResolverOutput::Datagram { query, to: server, bytes });
        self.queries.insert(query, asked);
    }

    fn new_query(&mut self) -> QueryId {
        let query = QueryId(self.queries_made);
        self.queries_made += 1;
        query
    }

    /// Forgets a lookup; no answer follows.
    pub fn cancel(&mut self, lookup: LookupId) {
        self.lookups.remove(&lookup);
        let ids = self.queries.iter().filter(|(_, query)| query.question.lookup == lookup);
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

    /// Takes in a datagram. One that comes from elsewhere or answers something else is skipped.
    pub fn handle_datagram(
        &mut self,
        cx: &mut Context<'_>,
        query: QueryId,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        let Some(asked) = self.queries.get(&query) else { return };
        // The zone is not compared: a server without one may answer with the one that the system chose.
        let ours = from.ip() == asked.server.ip() && from.port() == asked.server.port();
        if !ours || !matches!(asked.via, Via::Datagram) {
            return;
        }
        let Question { name, family, .. } = &asked.question;
        match message::answer(bytes, asked.id, name, *family) {
            Some(Answer::Truncated) => {
                if let Some(asked) = self.close(query) {
                    self.open_stream(asked);
                }
            }
            Some(answer) => self.answered(cx, query, answer),
            None => {}
        }
    }

    /// The query's socket could not be opened, or reported an error such as ECONNREFUSED.
    pub fn handle_datagram_failed(
        &mut self,
        cx: &mut Context<'_>,
        query: QueryId,
        reason: CloseReason,
    ) {
        self.fail(cx, query, Reply::Failed(reason));
    }

    /// Asks by TCP, within the server's share of the time.
    fn open_stream(&mut self, mut asked: Query) {
        let query = self.new_query();
        asked.via = Via::Stream { received: Vec::new() };
        self.outputs.push_back(ResolverOutput::OpenStream { query, to: asked.server });
        self.queries.insert(query, asked);
    }

    /// The query's connection stands.
    pub fn handle_stream_connected(&mut self, _turn: &mut Context<'_>, query: QueryId) {
        let Some(asked) = self.queries.get(&query) else { return };
        let message = asked.message();
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let bytes = [&length.to_be_bytes()[..], &message].concat();
        self.outputs.push_back(ResolverOutput::SendStream { query, bytes });
    }

    /// Takes in bytes of the query's connection, split anywhere; their length is bounded by its two
    /// bytes.
    pub fn handle_stream_received(&mut self, cx: &mut Context<'_>, query: QueryId, bytes: &[u8]) {
        let Some(asked) = self.queries.get_mut(&query) else { return };
        let Via::Stream { received } = &mut asked.via else { return };
        received.extend_from_slice(bytes);
        let [high, low, message @ ..] = received.as_slice() else { return };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(whole) = message.get(..length) else { return };
        let Question { name, family, .. } = &asked.question;
        match message::answer(whole, asked.id, name, *family) {
            Some(Answer::Truncated) | None => self.fail(cx, query, Reply::Malformed),
            Some(answer) => self.answered(cx, query, answer),
        }
    }

    /// The query's connection is gone, or could not be made.
    pub fn handle_stream_closed(
        &mut self,
        cx: &mut Context<'_>,
        query: QueryId,
        reason: CloseReason,
    ) {
        self.fail(cx, query, Reply::Failed(reason));
    }

    fn answered(&mut self, cx: &mut Context<'_>, query: QueryId, answer: Answer) {
        let Some(asked) = self.queries.get(&query) else { return };
        let (server, edns) = (asked.server, asked.edns);
        let (reply, outcome) = match answer {
            Answer::Addresses(addresses) if addresses.is_empty() => {
                (Reply::NoAddress, Err(DnsError::NoAddress { server: server.ip() }))
            }
            Answer::Addresses(addresses) => (Reply::Code(0), Ok(addresses)),
            Answer::NoSuchName => {
                (Reply::Code(NO_SUCH_NAME), Err(DnsError::NoSuchName { server: server.ip() }))
            }
            Answer::Failure(FORMAT_ERROR | NOT_IMPLEMENTED) if edns => {
                return self.ask_without_edns(cx, query);
            }
            Answer::Failure(code) => return self.fail(cx, query, Reply::Code(code)),
            Answer::Truncated => return,
        };
        self.servers.answered(server);
        if let Some(Query { question, .. }) = self.close(query) {
            self.keep_reply(question.lookup, server, reply);
            self.note(cx, question.lookup, question.family, outcome);
        }
    }

    /// Asks the same server once more, as a server that knows no EDNS requires (RFC 6891 section 7).
    fn ask_without_edns(&mut self, cx: &mut Context<'_>, query: QueryId) {
        let Some(Query { mut question, server, .. }) = self.close(query) else { return };
        self.servers.rejects_edns(server);
        question.next.push_front(server);
        self.ask_server(cx, question);
    }

    /// A server has no result. The next one is asked, and this one comes later for the next names if it
    /// was silent or refused.
    fn fail(&mut self, cx: &mut Context<'_>, query: QueryId, reply: Reply) {
        let Some(Query { question, server, .. }) = self.close(query) else { return };
        match reply {
            Reply::Code(code) if code != REFUSED => self.servers.answered(server),
            // Such as no free descriptor: the server has no part in it.
            Reply::Failed(CloseReason::Local(_)) => {}
            _ => self.servers.failed(server, cx.now.mono),
        }
        self.keep_reply(question.lookup, server, reply);
        self.ask_server(cx, question);
    }

    fn keep_reply(&mut self, lookup: LookupId, server: SocketAddr, reply: Reply) {
        let Some(lookup) = self.lookups.get_mut(&lookup) else { return };
        let reply = (server.ip(), reply);
        if !lookup.replies.contains(&reply) {
            lookup.replies.push(reply);
        }
    }

    fn note(&mut self, cx: &mut Context<'_>, id: LookupId, family: Family, outcome: Outcome) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        if outcome.is_ok() {
            let now = cx.now.mono;
            lookup.grace_until = Some(now + GRACE.min(lookup.deadline.since(now) / 2));
        }
        match family {
            Family::V6 => lookup.v6 = Some(outcome),
            Family::V4 => lookup.v4 = Some(outcome),
        }
        if lookup.v6.is_some() && lookup.v4.is_some() {
            return self.conclude(cx, id);
        }
        let is_asked = |query: &Query| query.question.lookup == id;
        if !self.queries.values().any(is_asked) && family == Family::V4 {
            self.ask(cx, id, Family::V6);
        }
    }

    /// Answers with what there is, or goes on to the next candidate.
    fn conclude(&mut self, cx: &mut Context<'_>, id: LookupId) {
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
        // Other names would have to wait as long in vain.
        let is_silent = matches!(error, DnsError::NoReply { .. });
        let known = lookup.trouble.take();
        let worst = [Some(error), known].into_iter().flatten().max_by_key(DnsError::weight);
        if lookup.candidates.is_empty() || is_silent {
            let replies = std::mem::take(&mut lookup.replies);
            self.cancel(id);
            if let Some(error) = worst {
                self.answer(id, Err(error.with_replies(replies)));
            }
            return;
        }
        lookup.trouble = worst;
        lookup.grace_until = None;
        self.ask_first(cx, id);
    }

    fn answer(&mut self, lookup: LookupId, result: Result<Vec<IpAddr>, DnsError>) {
        self.outputs.push_back(ResolverOutput::Answer { lookup, result });
    }

    /// Goes on where a server or the other family took too long.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let late = self.queries.iter().filter(|(_, query)| query.deadline <= now);
        let late: Vec<QueryId> = late.map(|(id, _)| *id).collect();
        for query in late {
            self.fail(cx, query, Reply::Silent);
        }
        let over = |lookup: &Lookup| lookup.grace_until.is_some_and(|until| until <= now);
        let ids = self.lookups.iter().filter(|(_, lookup)| over(lookup));
        let ids: Vec<LookupId> = ids.map(|(id, _)| *id).collect();
        for lookup in ids {
            self.conclude(cx, lookup);
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

#[cfg(test)]
mod tests;
