//! The simulated world: the daemon, its peers, the network between them, the disk, and one clock.
//! One step is one thing that happens; time jumps from one to the next.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use marathon_acme::config::Config;
use marathon_acme::daemon::Daemon;
use marathon_acme::log::Record;
use marathon_acme::pki::Bundle;
use marathon_acme::seam::{Change, ConnId, Input, Loaded, Machine, Output, SocketId, StoreError};
use marathon_acme::seam::{Trust, WriteId};
use marathon_acme::time::{Instant, Now, UnixTime};
use stand_ins::random::Random;
use stand_ins::{Action, DialError, Time};

use crate::disk::Disk;
use crate::keys::SimKeys;
use crate::names::Names;
use crate::network::{Delivery, MILLISECOND, Nanos, Network, PeerId};
use crate::peers::Peers;

/// Wall time at the start: 2026-11-23T00:00:00Z.
const EPOCH_MS: i64 = 1_795_392_000_000;
/// Outputs of one turn at most: more means that the daemon chases its own tail.
const OUTPUTS_MAX: usize = 10_000;

/// Where the daemon's listener is.
pub(crate) const LISTENING: &str = "10.0.0.9:8000";

/// Everything there is.
pub(crate) struct World {
    /// The daemon's peers.
    pub(crate) peers: Peers,
    /// What carries the bytes.
    pub(crate) network: Network,
    /// The storage directory.
    pub(crate) disk: Disk,
    /// The name server.
    pub(crate) names: Names,
    /// Every line the daemon logged.
    pub(crate) log: Vec<(Nanos, Record)>,
    /// Whether lines are shown as they come, for the replay of a seed.
    pub(crate) verbose: bool,
    now: Nanos,
    daemon: Daemon,
    keys: SimKeys,
    wait: Option<Instant>,
    /// Inputs that answer an output of the daemon itself, in order.
    answers: VecDeque<Answer>,
    numbers: u64,
    chance: Random,
}

enum Answer {
    Stored(WriteId, Result<(), StoreError>),
    Loaded(Loaded),
    Datagram(SocketId, SocketAddr, Vec<u8>),
}

impl World {
    /// A world in which the daemon has just started.
    pub(crate) fn new(config: &Config, peers: Peers, mut chance: Random) -> World {
        let mut world = World {
            peers,
            network: Network::new(chance.fork()),
            disk: Disk::new(chance.fork()),
            names: Names::default(),
            log: Vec::new(),
            verbose: false,
            now: 0,
            daemon: Daemon::new(config, None, Vec::new()),
            keys: SimKeys::new(chance.fork()),
            wait: None,
            answers: VecDeque::new(),
            numbers: 0,
            chance,
        };
        let listening = LISTENING.parse().expect("an address");
        world.tell(Input::Started { listening });
        world
    }

    /// The simulated time.
    pub(crate) fn now(&self) -> Nanos {
        self.now
    }

    /// The simulated time, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now / MILLISECOND
    }

    /// The simulated wall time.
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
            self.numbers += 1;
            let octet = u8::try_from(self.numbers).expect("few hosts");
            let address = IpAddr::from([10, 0, 1, octet]);
            self.network.listen(SocketAddr::new(address, port), *peer);
            addresses.push(address);
        }
        self.names.set(name, &addresses);
    }

    /// Nothing happens until then.
    pub(crate) fn skip_to(&mut self, until: Nanos) {
        self.now = self.now.max(until);
    }

    /// Lets one thing happen; `false` when nothing ever will again, or not before `end`.
    pub(crate) fn step(&mut self, end: Nanos) -> bool {
        if let Some(answer) = self.answers.pop_front() {
            self.answer(answer);
            return true;
        }
        let wake = self.wait.map(Instant::as_nanos);
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
        } else {
            self.tell(Input::Timeout);
        }
        true
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Stored(write, result) => self.tell(Input::Stored(write, result)),
            Answer::Loaded(loaded) => self.tell(Input::Loaded(loaded)),
            Answer::Datagram(socket, from, bytes) => {
                self.tell(Input::Datagram(socket, from, &bytes));
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let time = self.time();
        match delivery {
            Delivery::Connected(conn) => self.tell(Input::Connected(conn)),
            Delivery::Accepted(conn) => {
                let from = "10.0.0.1:40000".parse().expect("an address");
                self.tell(Input::Accepted(conn, from));
            }
            Delivery::ToDaemon(conn, bytes) => self.tell(Input::Received(conn, &bytes)),
            Delivery::DaemonClosed(conn, reason) => self.tell(Input::Closed(conn, reason)),
            Delivery::PeerAccepted(id, number) => self.peers.get(id).accepted(time, number),
            Delivery::PeerDialed(id, number, stands) => {
                let result = if stands { Ok(()) } else { Err(DialError::Refused) };
                self.peers.get(id).dialed(time, number, result);
            }
            Delivery::ToPeer(id, number, bytes) => {
                self.peers.get(id).received(time, number, &bytes)
            }
            Delivery::PeerClosed(id, number) => self.peers.get(id).closed(time, number),
        }
        self.drain_peers();
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
                Action::Dial { conn, .. } => {
                    self.numbers += 1;
                    let accepted = ConnId::Accepted(self.numbers);
                    self.network.dial(self.now, id, conn, accepted);
                }
            }
        }
    }

    /// Tells the daemon something and carries out all that it wants.
    pub(crate) fn tell(&mut self, input: Input<'_>) {
        let now = Now { mono: Instant::from_nanos(self.now), wall: self.wall() };
        self.daemon.handle_input(now, input, &mut self.keys);
        for _ in 0..OUTPUTS_MAX {
            match self.daemon.poll_output() {
                Output::Wait(until) => {
                    self.wait = until;
                    return;
                }
                output => self.carry_out(output),
            }
        }
        panic!("the daemon never waits");
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { conn, to, tls } => {
                let acme = tls.is_some_and(|tls| tls.trust == Trust::Acme);
                assert!(acme || to.port() != 14000, "the CA is spoken to without TLS");
                self.numbers += 1;
                let refuses =
                    self.network.peer_at(to).is_some_and(|id| self.peers.get(id).refuses());
                self.network.connect(self.now, conn, to, self.numbers, refuses);
            }
            Output::Send { conn, bytes } => {
                assert!(!bytes.is_empty(), "an empty send");
                assert!(!holds_a_key(&String::from_utf8_lossy(&bytes)), "a key leaves: {conn:?}");
                self.network.send_from_daemon(self.now, conn, &bytes);
            }
            Output::Close { conn } => self.network.close_from_daemon(conn),
            Output::Datagram { socket, to, bytes } => {
                // A lost datagram is the fault here; latency is the TCP connections' business.
                if !self.chance.chance(self.network.weather.refused_percent) {
                    let answer = self.names.answer(&bytes);
                    self.answers.push_back(Answer::Datagram(socket, to, answer));
                }
            }
            Output::CloseSocket { .. } => {}
            Output::Store { write, change } => {
                self.check_change(&change);
                let result = self.disk.change(self.now_ms(), change);
                self.answers.push_back(Answer::Stored(write, result));
            }
            Output::Load(load) => {
                let loaded = self.disk.load(load);
                self.answers.push_back(Answer::Loaded(loaded));
            }
            Output::Log(record) => self.note(record),
            Output::Exit(status) => panic!("the daemon ended with {status}"),
            Output::Wait(_) => unreachable!("the caller takes it"),
        }
    }

    /// Nothing that is not whole ever gets into `certs/`.
    fn check_change(&self, change: &Change) {
        if let Change::Certificate(name, pem) = change {
            let bundle = Bundle::parse(pem.expose()).expect("a whole file");
            bundle.key_matches().expect("key and certificate match");
            bundle.covers(std::slice::from_ref(name)).expect("it is for its name");
        }
    }

    fn note(&mut self, record: Record) {
        let text = format!("{record:?}");
        assert!(!holds_a_key(&text), "a key is logged: {text}");
        for published in self.disk.names("challenges/") {
            let key_authorization = &self.disk.files[&format!("challenges/{published}")];
            assert!(!text.contains(key_authorization.as_str()), "it is logged: {text}");
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
        self.log.push((self.now, record));
    }
}

fn holds_a_key(text: &str) -> bool {
    text.contains("PRIVATE KEY")
}
