//! The simulated world: the daemon's machine, its peers, the network between them, the disk, and
//! one clock. One step is one thing that happens; time jumps from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use marathon_acme::config::Config;
use marathon_acme::daemon::queues::Queues;
use marathon_acme::domain::Domain;
use marathon_acme::log::Record;
use marathon_acme::pki::Bundle;
use marathon_acme::seam::{Change, ConnId, Input, Output, Trust};
use marathon_acme::time::UnixTime;
use stand_ins::random::Random;
use stand_ins::{Action, Time};

use crate::disk::Disk;
use crate::faults::{Fault, Toll};
use crate::invariants;
use crate::keys::SimKeys;
use crate::machine::{Answer, Machine};
use crate::names::NAME_SERVER;
use crate::network::{DEAF, Delivery, MILLISECOND, Nanos, Network, PeerId};
use crate::peers::Peers;
use crate::scenario;

/// Wall time at the start: 2026-11-23T00:00:00Z.
const EPOCH_MS: i64 = 1_795_392_000_000;

/// Everything there is.
pub(crate) struct World {
    /// The daemon's peers.
    pub(crate) peers: Peers,
    /// What carries the bytes.
    pub(crate) network: Network,
    /// The storage directory.
    pub(crate) disk: Disk,
    /// Where the daemon's processes run.
    pub(crate) machine: Machine,
    /// Peers that cannot be reached at present.
    pub(crate) cut_off: BTreeSet<PeerId>,
    /// Hosts whose way to the daemon's listener is broken: a CA's validation is refused.
    pub(crate) broken_routes: BTreeSet<String>,
    /// What lies whole in `certs/`.
    pub(crate) stored: BTreeMap<Domain, Stored>,
    /// What happened to the machine and to `certs/`, until somebody takes it.
    pub(crate) events: Vec<(Nanos, Event)>,
    /// Every line the daemon logged, when they are kept.
    pub(crate) log: Vec<(Nanos, Record)>,
    /// Whether lines are kept; a year does without.
    pub(crate) keep_log: bool,
    /// Whether lines are shown as they come, for the replay of a seed.
    pub(crate) verbose: bool,
    /// How often the daemon logged which message.
    pub(crate) messages: BTreeMap<String, u64>,
    /// Folds every byte that left the daemon: equal for equal runs only.
    pub(crate) digest: u64,
    pub(crate) keys: SimKeys,
    /// The longest that each of the daemon's queues has been, and the most outputs of one turn.
    pub(crate) longest: (Queues, usize),
    /// How many bytes the daemon had of each of the CA's connections, and when; as long as the log.
    heard: BTreeMap<u64, Vec<(u64, Nanos)>>,
    now: Nanos,
    numbers: u64,
    addresses: u16,
}

/// A certificate in `certs/`, without its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Simulated time of the write.
    pub(crate) at: Nanos,
    /// `notBefore`.
    pub(crate) not_before: UnixTime,
    /// `notAfter`.
    pub(crate) not_after: UnixTime,
}

/// Something that whoever watches the world wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A certificate was written.
    Written(Domain),
    /// A file went from `certs/` to `archive/`, with what was known of it.
    Archived(Domain, Option<Stored>),
    /// The process was killed; the next one starts then.
    Killed(Nanos),
    /// The process ended in order; the next one starts then.
    Ended(Nanos),
    /// A process started.
    Started,
}

impl World {
    /// A world in which the daemon has just started.
    pub(crate) fn new(config: &Config, peers: Peers, mut chance: Random) -> World {
        let mut world = World {
            peers,
            network: Network::new(chance.fork()),
            disk: Disk::new(chance.fork()),
            machine: Machine::new(config),
            cut_off: BTreeSet::new(),
            broken_routes: BTreeSet::new(),
            stored: BTreeMap::new(),
            events: Vec::new(),
            log: Vec::new(),
            keep_log: true,
            verbose: false,
            messages: BTreeMap::new(),
            digest: 0,
            keys: SimKeys::new(chance.fork()),
            longest: (Queues::default(), 0),
            heard: BTreeMap::new(),
            now: 0,
            numbers: 0,
            addresses: 0,
        };
        let name_server = NAME_SERVER.parse().expect("an address");
        world.network.listen(name_server, PeerId::NameServer);
        world.start();
        world
    }

    /// The simulated time.
    pub(crate) fn now(&self) -> Nanos {
        self.now
    }

    /// Which faults fired so far.
    pub(crate) fn toll(&self) -> Toll {
        let mut toll = self.network.toll.clone();
        toll.add(&self.disk.toll);
        toll.add(&self.peers.strangers.toll);
        toll.add(&scenario::load_balancers::toll(&self.peers.lbs));
        toll
    }

    /// The simulated time, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now / MILLISECOND
    }

    /// The true wall time, which the daemon's machine need not agree with.
    pub(crate) fn wall(&self) -> UnixTime {
        UnixTime::from_millis(EPOCH_MS + i64::try_from(self.now_ms()).expect("a short run"))
    }

    /// The time as the stand-ins want it.
    pub(crate) fn time(&self) -> Time {
        Time { mono_ms: self.now_ms(), unix_ms: self.wall().as_millis() }
    }

    /// The time at which a run begins.
    pub(crate) fn start_time() -> Time {
        Time { mono_ms: 0, unix_ms: EPOCH_MS }
    }

    /// Gives a name one address for each of these peers, which listen there.
    pub(crate) fn host(&mut self, name: &str, port: u16, peers: &[PeerId]) {
        let mut addresses = Vec::new();
        for peer in peers {
            let address = self.new_address(true);
            self.network.listen(SocketAddr::new(address, port), *peer);
            addresses.push(address);
        }
        self.peers.names.set(name, &addresses);
    }

    /// An address that nobody has.
    pub(crate) fn new_address(&mut self, ipv4: bool) -> IpAddr {
        self.addresses += 1;
        let [high, low] = self.addresses.to_be_bytes();
        match ipv4 {
            true => IpAddr::from([10, 1, high, low]),
            false => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, self.addresses).into(),
        }
    }

    /// Nothing happens until then.
    pub(crate) fn skip_to(&mut self, until: Nanos) {
        self.now = self.now.max(until);
    }

    /// From now on nobody gets through to a peer.
    pub(crate) fn cut(&mut self, peer: PeerId) {
        self.cut_off.insert(peer);
        self.network.cut(self.now, peer);
    }

    /// Lets one thing happen; `false` when nothing ever will again, or not before `end`.
    pub(crate) fn step(&mut self, end: Nanos) -> bool {
        if let Some(answer) = self.machine.next_answer() {
            self.answer(answer);
            return true;
        }
        let wake = self.machine.next_timeout();
        let peer = self.peers.next_timeout().map(|(at_ms, id)| (at_ms * MILLISECOND, id));
        let next = [self.network.next(), wake, peer.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(at) = next.filter(|at| *at <= end) else { return false };
        // Time runs forwards only; what is overdue happens now.
        self.now = self.now.max(at);
        if self.network.next() == Some(at) {
            if let Some(delivery) = self.network.deliver(self.now) {
                self.deliver(delivery);
            }
        } else if let Some((_, id)) = peer.filter(|(due, _)| *due == at) {
            let time = self.time();
            self.peers.get(id).timeout(time);
            self.drain_peer(id);
        } else if self.machine.is_on() {
            self.tell(Input::Timeout);
        } else {
            self.start();
        }
        true
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Stored(write, result) => self.tell(Input::Stored(write, result)),
            Answer::Loaded(loaded) => self.tell(Input::Loaded(loaded)),
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let time = self.time();
        let id = match delivery {
            Delivery::Connected(conn) => return self.tell(Input::Connected(conn)),
            Delivery::Accepted(conn) => {
                let from = "10.0.0.1:40000".parse().expect("an address");
                return self.tell(Input::Accepted(conn, from));
            }
            Delivery::Datagram(socket, from, bytes) => {
                return self.tell(Input::Datagram(socket, from, &bytes));
            }
            Delivery::ToDaemon(conn, bytes) => {
                self.hears(conn, bytes.len());
                return self.tell(Input::Received(conn, &bytes));
            }
            Delivery::DaemonClosed(conn, reason) => return self.tell(Input::Closed(conn, reason)),
            Delivery::PeerAccepted(id, number) => {
                self.peers.get(id).accepted(time, number);
                id
            }
            Delivery::PeerDialed(id, number, result) => {
                self.peers.get(id).dialed(time, number, result);
                id
            }
            Delivery::ToPeer(id, number, bytes) => {
                self.peers.get(id).received(time, number, &bytes);
                id
            }
            Delivery::PeerClosed(id, number) => {
                self.peers.get(id).closed(time, number);
                id
            }
        };
        self.drain_peer(id);
    }

    /// The daemon gets so many bytes of the CA.
    fn hears(&mut self, conn: ConnId, bytes: usize) {
        if let Some((PeerId::Ca, number)) = self.network.peer_of(conn)
            && self.keep_log
        {
            let pieces = self.heard.entry(number).or_default();
            let before = pieces.last().map_or(0, |(total, _)| *total);
            pieces.push((before + bytes as u64, self.now));
        }
    }

    /// When the daemon had so many bytes of a connection with the CA, by the CA's number for it.
    pub(crate) fn heard_at(&self, number: u64, bytes: u64) -> Option<Nanos> {
        let pieces = self.heard.get(&number)?;
        pieces.iter().find(|(total, _)| *total >= bytes).map(|(_, at)| *at)
    }

    /// Carries out what the peers want; to be called after a test acted on one.
    pub(crate) fn drain_peers(&mut self) {
        for id in self.peers.ids() {
            self.drain_peer(id);
        }
    }

    fn drain_peer(&mut self, id: PeerId) {
        while let Some(action) = self.peers.get(id).poll() {
            match action {
                Action::Send { conn, bytes } => {
                    self.network.send_from_peer(self.now, id, conn, &bytes);
                }
                Action::Close { conn } => self.network.close_from_peer(id, conn),
                Action::Dial { conn, host, .. } => {
                    let listens = self.machine.is_on() && !self.broken_routes.contains(&host);
                    let accepted = listens.then(|| {
                        self.numbers += 1;
                        ConnId::Accepted(self.numbers)
                    });
                    self.network.dial(self.now, (id, conn), accepted, host == DEAF);
                }
            }
        }
    }

    /// Why a peer takes no connection at present, if it takes none.
    fn refusal(&mut self, id: PeerId) -> Option<Fault> {
        let is_lb = matches!(id, PeerId::Lb(_));
        if self.cut_off.contains(&id) {
            return Some(if is_lb { Fault::LbLongDown } else { Fault::Refused });
        }
        let down = if is_lb { Fault::LbDown } else { Fault::Refused };
        self.peers.get(id).refuses().then_some(down)
    }

    /// Does what the daemon wants; the machine has taken [`Output::Wait`] and [`Output::Exit`].
    pub(crate) fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { conn, to, tls } => {
                let secure = tls.is_some();
                let acme = tls.is_some_and(|tls| tls.trust == Trust::Acme);
                let peer = self.network.peer_at(to);
                assert!(acme || peer != Some(PeerId::Ca), "the CA is spoken to without TLS");
                self.numbers += 1;
                let refuses = peer.and_then(|id| self.refusal(id));
                self.network.connect(self.now, conn, (to, secure), self.numbers, refuses);
            }
            Output::Send { conn, bytes } => {
                assert!(!bytes.is_empty(), "an empty send");
                assert!(!holds_a_key(&String::from_utf8_lossy(&bytes)), "a key leaves: {conn:?}");
                self.fold(&bytes);
                self.network.send_from_daemon(self.now, conn, &bytes);
            }
            Output::Close { conn } => self.network.close_from_daemon(self.now, conn),
            Output::Datagram { socket, to, bytes } => {
                self.network.ask(self.now, socket, to, &bytes, &self.peers.names);
            }
            Output::CloseSocket { socket } => self.network.close_socket(socket),
            Output::Store { write, change } => {
                let event = self.look_at(&change);
                let result = self.disk.change(self.now_ms(), change);
                if result.is_ok()
                    && let Some((event, stored)) = event
                {
                    self.remember(event, stored);
                }
                self.machine.will_hear(Answer::Stored(write, result));
            }
            Output::Load(load) => {
                let loaded = self.disk.load(load);
                self.machine.will_hear(Answer::Loaded(loaded));
            }
            Output::Log(record) => self.note(record),
            Output::Exit(_) | Output::Wait(_) => unreachable!("the machine takes it"),
        }
    }

    /// What a change means for `certs/`. Nothing that is not whole ever gets in there.
    fn look_at(&self, change: &Change) -> Option<(Event, Option<Stored>)> {
        match change {
            Change::Certificate(name, pem) => {
                let bundle = Bundle::parse(pem.expose()).expect("a whole file");
                bundle.key_matches().expect("key and certificate match");
                bundle.covers(std::slice::from_ref(name)).expect("it is for its name");
                let (root, now_ms) = (self.peers.ca.root_der(), self.wall().as_millis());
                invariants::serves(pem.expose(), root, now_ms).expect("it serves");
                let leaf = bundle.leaf();
                let (not_before, not_after) = (leaf.not_before, leaf.not_after);
                let stored = Stored { at: self.now, not_before, not_after };
                Some((Event::Written(name.clone()), Some(stored)))
            }
            Change::Archive(name) => {
                let stored = self.stored.get(name).copied();
                Some((Event::Archived(name.clone(), stored), None))
            }
            _ => None,
        }
    }

    fn remember(&mut self, event: Event, stored: Option<Stored>) {
        match (&event, stored) {
            (Event::Written(name), Some(stored)) => {
                self.stored.insert(name.clone(), stored);
            }
            (Event::Archived(name, _), _) => {
                self.stored.remove(name);
            }
            _ => {}
        }
        self.events.push((self.now, event));
    }

    /// FNV-1a (the Fowler, Noll and Vo hash) over what left, and when.
    fn fold(&mut self, bytes: &[u8]) {
        for byte in self.now.to_le_bytes().iter().chain(bytes) {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn note(&mut self, record: Record) {
        let says = |text: &str| {
            record.message.contains(text) || record.fields.iter().any(|(_, it)| it.contains(text))
        };
        assert!(!says("PRIVATE KEY"), "a key is logged: {record:?}");
        for (_, key_authorization) in self.disk.inside("challenges/") {
            assert!(!says(key_authorization), "it is logged: {record:?}");
        }
        if self.verbose {
            let fields: Vec<String> =
                record.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let (level, subject) = (record.level.name(), record.subject);
            let seconds = self.now_ms() as f64 / 1000.0;
            println!(
                "{seconds:>12.3} {level:5} {subject:8} {} {}",
                record.message,
                fields.join(" ")
            );
        }
        match self.messages.get_mut(&record.message) {
            Some(count) => *count += 1,
            None => drop(self.messages.insert(record.message.clone(), 1)),
        }
        if self.keep_log {
            self.log.push((self.now, record));
        }
    }
}

fn holds_a_key(text: &str) -> bool {
    text.contains("PRIVATE KEY")
}
