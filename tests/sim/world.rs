//! The simulated world: the daemon's machines, its peers, the network between them, the disk, and
//! one clock. One step is one thing that happens; time jumps from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use marathon_acme::config::Config;
use marathon_acme::daemon::queues::Queues;
use marathon_acme::domain::Domain;
use marathon_acme::log::Record;
use marathon_acme::machine::{ConnId, Output};
use marathon_acme::time::UnixTime;
use stand_ins::random::Random;
use stand_ins::{Action, Time};

use crate::ca_connections::CaConnections;
use crate::disk::{Disk, Validity};
use crate::faults::Toll;
use crate::fronts::Fronts;
use crate::invariants;
use crate::keys::SimKeys;
use crate::machine::{self, Heard, MACHINES_MAX, Machine};
use crate::memory::{self, Remembered};
use crate::names::NAME_SERVER;
use crate::network::{DEAF, Delivery, MILLISECOND, Nanos, Network, PeerId};
use crate::peers::Peers;
use crate::scenario;

mod dialing;

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
    /// What the daemon is told at the start.
    pub(crate) config: Config,
    /// Where the daemon's processes run.
    pub(crate) machines: Vec<Machine>,
    /// The machine that has opened the storage last.
    pub(crate) active: Option<usize>,
    /// Processes so far.
    pub(crate) processes: u64,
    /// Peers that cannot be reached at present.
    pub(crate) cut_off: BTreeSet<PeerId>,
    /// Hosts whose way to the daemon's listener is broken: a CA's validation is refused.
    pub(crate) broken_routes: BTreeSet<String>,
    /// What lies whole in `certs/`.
    pub(crate) stored: BTreeMap<Domain, Validity>,
    /// What happened to the machine and to `certs/`, until somebody takes it.
    pub(crate) events: Vec<(Nanos, Event)>,
    /// What the load balancers serve.
    pub(crate) fronts: Fronts,
    /// Handshakes under way, and the names that they are for.
    glances: BTreeMap<ConnId, String>,
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
    /// The longest that each of the daemon's queues has been, and the most outputs of one iteration.
    pub(crate) longest: (Queues, usize),
    /// What passed on the connections with the CA; as long as the log.
    pub(crate) ca_connections: CaConnections,
    /// Every `state.json` that was written; as long as the log.
    pub(crate) remembered: Vec<Remembered>,
    /// Whether the lock is a lease, kept by beats: a year has no second instance, and no time for them.
    pub(crate) leased: bool,
    /// When something befell a machine that may cost an instance what it has in memory only: it began
    /// or ended, opened the storage, stood still, or had its clock set.
    pub(crate) disturbed: Vec<Nanos>,
    /// What befell the machines.
    pub(crate) toll: Toll,
    now: Nanos,
    numbers: u64,
    addresses: u16,
    chance: Random,
}

/// Something that whoever watches the world wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A certificate was written.
    Written(Domain),
    /// A file went from `certs/` to `archive/`, with what was known of it.
    Archived(Domain, Option<Validity>),
    /// A process was killed; the next one starts then.
    Killed(Nanos),
    /// A process ended in order; the next one starts then.
    Ended(Nanos),
    /// A process started.
    Started,
    /// The daemon says that it holds an order back; the fields of the line.
    Held(Vec<String>),
}

impl World {
    /// A world in which the daemon has just started.
    pub(crate) fn new(config: &Config, peers: Peers, mut chance: Random) -> World {
        let mut world = World {
            peers,
            network: Network::new(chance.fork()),
            disk: Disk::new(chance.fork()),
            config: config.clone(),
            machines: vec![Machine::new(config, 0)],
            active: None,
            processes: 0,
            cut_off: BTreeSet::new(),
            broken_routes: BTreeSet::new(),
            stored: BTreeMap::new(),
            events: Vec::new(),
            fronts: Fronts::default(),
            glances: BTreeMap::new(),
            log: Vec::new(),
            keep_log: true,
            verbose: false,
            messages: BTreeMap::new(),
            digest: 0,
            keys: SimKeys::new(chance.fork()),
            longest: (Queues::default(), 0),
            ca_connections: CaConnections::default(),
            remembered: Vec::new(),
            leased: false,
            disturbed: Vec::new(),
            toll: Toll::default(),
            now: 0,
            numbers: 0,
            addresses: 0,
            chance,
        };
        let name_server = NAME_SERVER.parse().expect("an address");
        world.network.listen(name_server, PeerId::NameServer);
        world.wake(0);
        world
    }

    /// The simulated time.
    pub(crate) fn now(&self) -> Nanos {
        self.now
    }

    /// Something befalls a machine now.
    pub(crate) fn disturb(&mut self) {
        // A year does without.
        if self.keep_log {
            self.disturbed.push(self.now);
        }
    }

    /// Which faults fired so far.
    pub(crate) fn toll(&self) -> Toll {
        let mut toll = self.network.toll.clone();
        toll.add(&self.disk.toll());
        toll.add(&self.toll);
        toll.add(&self.peers.strangers.toll);
        toll.add(&self.fronts.toll);
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
        if (0..self.machines.len()).any(|index| self.answer(index)) {
            return true;
        }
        let timeout = |(index, machine): (usize, &Machine)| Some((machine.next_timeout()?, index));
        let wake = self.machines.iter().enumerate().filter_map(timeout).min();
        let peer = self.peers.next_timeout().map(|(at_ms, id)| (at_ms * MILLISECOND, id));
        let (wake_at, peer_at) = (wake.map(|(at, _)| at), peer.map(|(at, _)| at));
        let next = [self.network.next(), wake_at, peer_at].into_iter().flatten().min();
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
        } else if let Some((_, index)) = wake {
            self.wake(index);
        }
        true
    }

    fn deliver(&mut self, delivery: Delivery) {
        let time = self.time();
        let id = match delivery {
            Delivery::Connected(conn) => return self.connected(conn),
            Delivery::Accepted(conn) => return self.hear_of(conn, Heard::Accepted),
            Delivery::ToDaemon(conn, bytes) => {
                if let Some(number) = self.ca_number(conn) {
                    self.ca_connections.hears(number, bytes.len(), self.now);
                }
                return self.hear_of(conn, |conn| Heard::Received(conn, bytes));
            }
            Delivery::DaemonClosed(conn, reason) => {
                return self.hear_of(conn, |conn| Heard::Closed(conn, reason));
            }
            Delivery::Datagram(socket, from, bytes) => {
                let heard = Heard::Datagram(machine::inside_socket(socket), from, bytes);
                return self.hear(machine::socket_owner(socket), heard);
            }
            Delivery::PeerAccepted(id, number) => {
                self.peers.get(id).accepted(time, number);
                id
            }
            Delivery::PeerDialed(id, number, result) => {
                self.peers.get(id).dialed(time, number, result);
                id
            }
            Delivery::ToPeer(id, number, bytes) => {
                self.prepare(id);
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

    /// The CA's number for a connection with it, where it is recorded.
    fn ca_number(&self, conn: ConnId) -> Option<u64> {
        match self.network.peer_of(conn) {
            Some((PeerId::Ca, number)) if self.keep_log => Some(number),
            _ => None,
        }
    }

    /// The daemon has nothing more to do with a connection.
    pub(crate) fn leaves(&mut self, conn: ConnId) {
        if let Some(number) = self.ca_number(conn) {
            self.ca_connections.leaves(number, self.now);
        }
    }

    /// `state.json` was written.
    pub(crate) fn remember(&mut self, machine: usize) {
        if self.keep_log
            && let Some(text) = self.disk.text("", "state.json")
        {
            let attempts = memory::attempts(&text);
            self.remembered.push(Remembered { at: self.now, machine, attempts });
        }
    }

    /// An order that the machine says it begins is on the disk. Of one that has stood still, so that
    /// the storage is another's, that was so when it decided.
    pub(crate) fn assert_recorded(&self, machine: usize, record: &Record) {
        let name = memory::begun(record).filter(|_| self.active == Some(machine));
        let Some(name) = name.filter(|_| self.keep_log) else { return };
        let text = self.disk.text("", "state.json").unwrap_or_else(|| "{}".into());
        let recorded = memory::attempts(&text).contains_key(name);
        assert!(recorded, "an order of {name} is begun and not in state.json");
    }

    /// Something comes to the daemon whose connection this is.
    fn hear_of(&mut self, conn: ConnId, heard: impl FnOnce(ConnId) -> Heard) {
        self.hear(machine::owner(conn), heard(machine::inside(conn)));
    }

    /// The machine that a new connection to the daemon goes to: one that runs, as a load balancer
    /// would choose.
    fn reached(&mut self) -> Option<usize> {
        let on = |index: &usize| self.machines[*index].is_on();
        let running: Vec<usize> = (0..self.machines.len()).filter(on).collect();
        match running.len() {
            0 | 1 => running.first().copied(),
            count => Some(running[self.chance.below(count as u64) as usize]),
        }
    }

    /// Carries out what the peers want; to be called after a test acted on one.
    pub(crate) fn drain_peers(&mut self) {
        for id in self.peers.ids() {
            self.drain_peer(id);
        }
    }

    fn drain_peer(&mut self, id: PeerId) {
        if let PeerId::Lb(index) = id
            && self.is_verified()
        {
            self.load_certificates(index);
        }
        while let Some(action) = self.peers.get(id).poll() {
            match action {
                Action::Send { conn, bytes } => {
                    self.network.send_from_peer(self.now, id, conn, &bytes);
                }
                Action::Close { conn } => self.network.close_from_peer(id, conn),
                Action::Dial { conn, host, .. } => {
                    let reached = self.reached().filter(|_| !self.broken_routes.contains(&host));
                    let accepted = reached.map(|index| {
                        self.numbers += 1;
                        ConnId::Accepted(self.numbers * MACHINES_MAX as u64 + index as u64)
                    });
                    self.network.dial(self.now, (id, conn), accepted, host == DEAF);
                }
            }
        }
    }

    /// Does what the daemon of a machine wants of the network and the log.
    pub(crate) fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { conn, to, tls } => self.dial(conn, to, tls),
            Output::Secure { .. } => unreachable!("there is no proxy in this world"),
            Output::Send { conn, bytes } => {
                assert!(!bytes.is_empty(), "an empty send");
                assert!(!holds_a_key(&String::from_utf8_lossy(&bytes)), "a key leaves: {conn:?}");
                self.fold(&bytes);
                if let Some(number) = self.ca_number(conn) {
                    self.ca_connections.sends(number, machine::owner(conn));
                }
                self.network.send_from_daemon(self.now, conn, &bytes);
            }
            Output::Close { conn, .. } => {
                self.glances.remove(&conn);
                self.leaves(conn);
                self.network.close_from_daemon(self.now, conn);
            }
            Output::Datagram { socket, to, bytes } => {
                self.network.ask(self.now, socket, to, &bytes, &self.peers.names);
            }
            Output::CloseSocket { socket } => self.network.close_socket(socket),
            Output::Log(record) => self.note(record),
            Output::Status(text) | Output::Progress(text) => {
                assert!(!text.contains('\n'), "{text:?} is one line");
            }
            Output::Store { .. }
            | Output::Load(_)
            | Output::Measure(_)
            | Output::Say(_)
            | Output::Exit(_)
            | Output::Wait(_) => unreachable!("the machine takes it"),
        }
    }

    /// A certificate was written: it serves.
    pub(crate) fn assert_serves(&self, name: &Domain) {
        let Some(pem) = self.disk.text("certs", &format!("{name}.pem")) else { return };
        let (root, now_ms) = (self.peers.ca.root_der(), self.wall().as_millis());
        invariants::serves(&pem, root, now_ms).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
    }

    /// Takes in what lies in `certs/` under a name now; what was known of it before.
    pub(crate) fn look_at(&mut self, name: &Domain) -> Option<Validity> {
        match self.disk.validity(name) {
            Some(validity) => self.stored.insert(name.clone(), validity),
            None => self.stored.remove(name),
        }
    }

    /// Takes in all that lies in `certs/`.
    pub(crate) fn look_at_all(&mut self) {
        let disk = &self.disk;
        self.stored.retain(|name, _| disk.validity(name).is_some());
        let domain = |name: &String| Domain::parse(name.strip_suffix(".pem")?).ok();
        for name in self.disk.names("certs").iter().filter_map(domain) {
            self.look_at(&name);
        }
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
        let published = self.disk.any_text("challenges", says);
        assert!(!published, "a key authorization is logged: {record:?}");
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
        if record.message == "held back" {
            let fields = record.fields.iter().map(|(_, value)| value.clone()).collect();
            self.events.push((self.now, Event::Held(fields)));
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
