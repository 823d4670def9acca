//! The simulated name server: answers A and AAAA questions about the peers (RFC 1035 section 4), by
//! datagram and by TCP. What it may do wrong is said with each question.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use stand_ins::{Action, DialError, Peer, Time};

use crate::faults::Fault;

/// Where it listens.
pub(crate) const NAME_SERVER: &str = "10.0.0.53:53";
/// The address that forged answers give. Whoever connects there has believed one.
pub(crate) const LIE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 66, 66, 66));

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const CNAME: u8 = 5;

use marathon_acme::machine::Loaded;

/// Where it listens.
const RESOLV_CONF: &str = "nameserver 10.0.0.53\noptions timeout:1 attempts:3\n";

/// Which name has which addresses.
#[derive(Debug, Default)]
pub(crate) struct Names {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Addresses that are a name's now and then, and lead to nobody.
    dead: BTreeMap<String, Vec<IpAddr>>,
    /// Connections, and what came of a question on each.
    streams: BTreeMap<u64, Vec<u8>>,
    actions: VecDeque<Action>,
}

/// How a question is answered. The default is the truth, no more and no less.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// NXDOMAIN, SERVFAIL, cut short or empty.
    pub(crate) verdict: Option<Fault>,
    /// The name is an alias of an alias.
    pub(crate) alias: bool,
    /// There is one IPv4 address more, which is dead, at a place by this number.
    pub(crate) dead: Option<u64>,
    /// There is one IPv6 address more, to which there is no way.
    pub(crate) no_route: bool,
}

impl Names {
    /// Says what a name resolves to.
    pub(crate) fn set(&mut self, name: &str, addresses: &[IpAddr]) {
        self.addresses.insert(name.to_string(), addresses.to_vec());
    }

    /// Gives a name an address now and then that leads to nobody.
    pub(crate) fn add_dead(&mut self, name: &str, address: IpAddr) {
        self.dead.entry(name.to_string()).or_default().push(address);
    }

    /// What a name resolves to.
    pub(crate) fn of(&self, name: &str) -> &[IpAddr] {
        self.addresses.get(name).map_or(&[], Vec::as_slice)
    }

    /// How the daemon's machines are told to ask it.
    pub(crate) fn service(&self) -> Loaded {
        let hosts = b"127.0.0.1 localhost\n".to_vec();
        Loaded::NameService { resolv_conf: RESOLV_CONF.into(), hosts }
    }

    /// The answer to a query with one question.
    pub(crate) fn answer(&self, query: &[u8], shape: &Shape) -> Vec<u8> {
        let question = Question::read(query);
        let found = match shape.verdict {
            None => self.found(&question, shape),
            Some(_) => Vec::new(),
        };
        let code = match shape.verdict {
            Some(Fault::DnsNoSuchName) => NO_SUCH_NAME,
            Some(Fault::DnsFailure) => SERVER_FAILURE,
            None if !self.addresses.contains_key(&question.name) => NO_SUCH_NAME,
            _ => NO_ERROR,
        };
        let flags = if shape.verdict == Some(Fault::DnsTruncated) { 0x83 } else { 0x81 };
        let aliases = if shape.alias && !found.is_empty() { 2 } else { 0 };
        let count = u8::try_from(found.len() + aliases).expect("few addresses");
        let mut answer = vec![query[0], query[1], flags, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        answer.extend(question.bytes);
        let mut owner = vec![0xc0, 12];
        for alias in (0..aliases).map(|index| wire_name(&format!("alias{index}.{}", question.name)))
        {
            record(&mut answer, &owner, CNAME, &alias);
            owner = alias;
        }
        for address in found {
            match address {
                IpAddr::V4(address) => record(&mut answer, &owner, 1, &address.octets()),
                IpAddr::V6(address) => record(&mut answer, &owner, 28, &address.octets()),
            }
        }
        answer
    }

    /// A forged answer to a query.
    pub(crate) fn lie(&self, query: &[u8], fault: Fault) -> Vec<u8> {
        let mut query = query.to_vec();
        match fault {
            Fault::DnsWrongId => query[1] ^= 1,
            // Its first letter.
            Fault::DnsWrongQuestion => query[13] ^= 1,
            _ => {}
        }
        let question = Question::read(&query);
        let mut answer = vec![query[0], query[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        answer.extend(question.bytes);
        match LIE {
            IpAddr::V4(address) => record(&mut answer, &[0xc0, 12], 1, &address.octets()),
            IpAddr::V6(address) => record(&mut answer, &[0xc0, 12], 28, &address.octets()),
        }
        answer
    }

    fn found(&self, question: &Question<'_>, shape: &Shape) -> Vec<IpAddr> {
        let fits = |address: &&IpAddr| address.is_ipv4() == question.wants_ipv4;
        let mut found: Vec<IpAddr> = self.of(&question.name).iter().filter(fits).copied().collect();
        let wants_dead = if question.wants_ipv4 { shape.dead.is_some() } else { shape.no_route };
        let dead = self.dead.get(&question.name).into_iter().flatten().filter(fits);
        for address in dead.filter(|_| wants_dead) {
            let place = shape.dead.unwrap_or_default() % (found.len() as u64 + 1);
            found.insert(place as usize, *address);
        }
        found
    }
}

/// By TCP a message has its length in front (RFC 1035 section 4.2.2), and is never cut short.
impl Peer for Names {
    fn accepted(&mut self, _now: Time, conn: u64) {
        self.streams.insert(conn, Vec::new());
    }

    fn dialed(&mut self, _now: Time, _conn: u64, _result: Result<(), DialError>) {}

    fn received(&mut self, _now: Time, conn: u64, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&conn) else { return };
        stream.extend_from_slice(bytes);
        let [high, low, message @ ..] = stream.as_slice() else { return };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if message.len() < length {
            return;
        }
        let query = message[..length].to_vec();
        stream.clear();
        let answer = self.answer(&query, &Shape::default());
        let length = u16::try_from(answer.len()).expect("a short answer");
        let bytes = [&length.to_be_bytes()[..], &answer].concat();
        self.actions.push_back(Action::Send { conn, bytes });
    }

    fn closed(&mut self, _now: Time, conn: u64) {
        self.streams.remove(&conn);
    }

    fn timeout(&mut self, _now: Time) {}

    fn next_timeout(&self) -> Option<u64> {
        None
    }

    fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

/// What a query asks.
struct Question<'a> {
    name: String,
    wants_ipv4: bool,
    /// Name, type and class as they were sent.
    bytes: &'a [u8],
}

impl Question<'_> {
    fn read(query: &[u8]) -> Question<'_> {
        let (mut parts, mut at) = (Vec::new(), 12);
        while query[at] != 0 {
            let end = at + 1 + usize::from(query[at]);
            parts.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
            at = end;
        }
        Question {
            name: parts.join("."),
            wants_ipv4: query[at + 2] == 1,
            bytes: &query[12..at + 5],
        }
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in name.split('.') {
        bytes.push(u8::try_from(part.len()).expect("a short part"));
        bytes.extend(part.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn record(answer: &mut Vec<u8>, owner: &[u8], kind: u8, data: &[u8]) {
    answer.extend(owner);
    answer.extend([0, kind, 0, 1, 0, 0, 0, 60, 0]);
    answer.push(u8::try_from(data.len()).expect("short data"));
    answer.extend(data);
}
