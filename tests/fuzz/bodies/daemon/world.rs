//! The loop's part, played: time, connections, name servers and storage around one daemon. Every
//! output is held against the rules of the state-machine interface.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use marathon_acme::daemon::Daemon;
use marathon_acme::domain::Domain;
use marathon_acme::log::Record;
use marathon_acme::machine::{
    Change, CloseReason, ConnId, Input, ListenerKind, Load, Machine as _, Output, Signal, SocketId,
    Trust, Usage, WriteId,
};
use marathon_acme::time::{Instant, Now, UnixTime};

use super::Script;
use super::config::config;
use super::peers::{NAMES, PROXY_CREDENTIALS, PROXY_PASSWORD, Peers, chain, spoiled};
use crate::bodies::keys::{CheapKeys, KEY_PEM};

mod storage;

/// 2026-11-25T00:00:00Z, when the certificates of the peers have just begun to be valid.
const START: UnixTime = UnixTime::from_seconds(1_795_564_800);
/// Outputs of one iteration at most: more means that the daemon chases its own tail.
const OUTPUTS_MAX: usize = 2_000;
/// Connections to peers at most, kept ones included.
const DIALED_MAX: usize = 80;
/// Turns in which the instant that the daemon waits for does not move on.
const SPINS_MAX: u32 = 8;
/// Where the proxies of those who have some listen.
const PROXY_PORT: u16 = 3128;
/// Answers given at once when all is well.
const ANSWERS_MAX: usize = 8;

/// One daemon and all around it.
pub struct World {
    daemon: Daemon,
    keys: CheapKeys,
    mono: Instant,
    wall: UnixTime,
    wait: Option<Instant>,
    /// One certificate is for all the names of a label.
    together: bool,
    /// The daemon has said that it ends.
    over: bool,
    dialed: BTreeMap<ConnId, Dialed>,
    last_dialed: u64,
    accepted: Vec<ConnId>,
    last_accepted: u64,
    /// The last question on each socket.
    sockets: BTreeMap<SocketId, (SocketAddr, Vec<u8>)>,
    last_socket: u64,
    writes: VecDeque<(WriteId, Change)>,
    writes_made: u64,
    loads: VecDeque<Load>,
    measures: VecDeque<ConnId>,
    inventory: u8,
    files: BTreeMap<Domain, String>,
    state: Option<Vec<u8>>,
    has_key: bool,
    tokens: BTreeMap<String, String>,
    peers: Peers,
}

/// A connection that the daemon asked for.
struct Dialed {
    to: SocketAddr,
    stands: bool,
    /// What was sent and is not answered.
    sent: Vec<u8>,
    /// A proxy has made it one, to the CA.
    is_tunnel: bool,
}

impl Dialed {
    /// To a proxy goes its password and no signed request, to anybody else the other way round.
    fn check_credentials(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let is_proxy = self.to.port() == PROXY_PORT && !self.is_tunnel;
        assert_eq!(text.contains(PROXY_CREDENTIALS), is_proxy, "{text}");
        assert!(
            !is_proxy || text.starts_with("CONNECT ca:443 ") || text.starts_with("GET http://")
        );
    }
}

impl World {
    /// A daemon that has just started.
    pub fn new(choices: u8, inventory: u8) -> World {
        let config = config(choices);
        let mut world = World {
            daemon: Daemon::new(&config, None, Vec::new()),
            keys: CheapKeys::default(),
            mono: Instant::START,
            wall: START,
            wait: None,
            together: config.san,
            over: false,
            dialed: BTreeMap::new(),
            last_dialed: 0,
            accepted: Vec::new(),
            last_accepted: 0,
            sockets: BTreeMap::new(),
            last_socket: 0,
            writes: VecDeque::new(),
            writes_made: 0,
            loads: VecDeque::new(),
            measures: VecDeque::new(),
            inventory,
            files: BTreeMap::new(),
            state: None,
            has_key: inventory & 1 != 0,
            tokens: BTreeMap::new(),
            peers: Peers::default(),
        };
        if inventory & 2 != 0 {
            let name = Domain::parse(NAMES[0]).expect("a name");
            world.files.insert(name, format!("{KEY_PEM}{}", chain(&NAMES[..1])));
        }
        let listening = SocketAddr::from(([0, 0, 0, 0], 8000));
        world.tell(Input::Started { listening });
        world
    }

    /// Whether the daemon has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Tells the daemon something, and carries out what it wants.
    pub fn tell(&mut self, input: Input<'_>) {
        let now = Now { mono: self.mono, wall: self.wall };
        self.daemon.handle_input(now, input, &mut self.keys);
        for _ in 0..OUTPUTS_MAX {
            match self.daemon.poll_output() {
                Output::Wait(until) => {
                    self.wait = until;
                    return self.check_bounds();
                }
                _ if self.over => panic!("it does something after its end"),
                output => self.carry_out(output),
            }
        }
        panic!("the daemon never waits");
    }

    fn check_bounds(&self) {
        assert!(self.dialed.len() <= DIALED_MAX, "{} connections", self.dialed.len());
        assert!(self.sockets.len() <= DIALED_MAX, "{} sockets", self.sockets.len());
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { conn, to, tls } => {
                let ConnId::Dialed(number) = conn else { panic!("{conn:?} is not the daemon's") };
                assert!(number > self.last_dialed, "a connection's name serves again");
                self.last_dialed = number;
                let acme = tls.is_some_and(|tls| tls.trust == Trust::Acme);
                assert_eq!(acme, to.port() == 443, "the CA is spoken to without TLS");
                let dialed = Dialed { to, stands: false, sent: Vec::new(), is_tunnel: false };
                self.dialed.insert(conn, dialed);
            }
            Output::Secure { conn, tls } => {
                let dialed = self.dialed.get_mut(&conn).expect("it is secured while it is open");
                assert!(dialed.stands && !dialed.is_tunnel && dialed.to.port() == PROXY_PORT);
                assert_eq!((tls.server.to_string().as_str(), tls.trust), ("ca", Trust::Acme));
                // Whatever it took for the answer.
                dialed.sent.clear();
                (dialed.stands, dialed.is_tunnel) = (false, true);
            }
            Output::Send { conn, bytes } => {
                assert!(!bytes.is_empty(), "an empty send");
                assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE KEY"), "a key leaves");
                match self.dialed.get_mut(&conn) {
                    Some(dialed) => {
                        assert!(dialed.stands, "sent before {conn:?} stands");
                        dialed.check_credentials(&bytes);
                        dialed.sent.extend_from_slice(&bytes);
                    }
                    None => assert!(self.accepted.contains(&conn), "sent on {conn:?}: not open"),
                }
            }
            Output::Close { conn, .. } => {
                let accepted = self.accepted.iter().position(|open| *open == conn);
                let was_open = accepted.map(|index| self.accepted.remove(index)).is_some()
                    || self.dialed.remove(&conn).is_some();
                assert!(was_open, "{conn:?} is closed and was not open");
            }
            Output::Datagram { socket, to, bytes } => {
                if !self.sockets.contains_key(&socket) {
                    assert!(socket.0 > self.last_socket, "a socket's name serves again");
                    self.last_socket = socket.0;
                }
                self.sockets.insert(socket, (to, bytes));
            }
            Output::CloseSocket { socket } => {
                assert!(self.sockets.remove(&socket).is_some(), "{socket:?} was not open");
            }
            Output::Store { write, change } => {
                assert!(write.0 == self.writes_made, "writes are not numbered one by one");
                self.writes_made += 1;
                storage::check(&change, self.together);
                self.writes.push_back((write, change));
            }
            Output::Load(load) => self.loads.push_back(load),
            Output::Measure(conn) => self.measures.push_back(conn),
            Output::Log(record) => self.check_record(&record),
            Output::Status(text) | Output::Progress(text) => {
                assert!(!text.contains("PRIVATE KEY"), "a key is told")
            }
            Output::Exit(_) => self.over = true,
            Output::Say(_) => unreachable!("a daemon has a log"),
            Output::Wait(_) => unreachable!("it ends the turn"),
        }
    }

    fn check_record(&self, record: &Record) {
        let values = record.fields.iter().map(|(_, value)| value);
        for text in values.chain([&record.message]) {
            assert!(!text.contains("PRIVATE KEY"), "a key is logged");
            let password = text.contains(PROXY_PASSWORD) || text.contains(PROXY_CREDENTIALS);
            assert!(!password, "a password is logged");
            assert!(!self.tokens.values().any(|it| text.contains(it)), "{text:?} is logged");
        }
    }

    /// The instant comes that the daemon waits for.
    pub fn wake(&mut self) {
        for _ in 0..SPINS_MAX {
            let Some(until) = self.wait.filter(|_| !self.over) else { return };
            self.pass(until.since(self.mono));
            if self.wait.is_none_or(|wait| wait > self.mono) {
                return;
            }
        }
        panic!("the daemon waits for what is over");
    }

    /// Time passes on both clocks.
    pub fn pass(&mut self, duration: Duration) {
        self.mono = self.mono + duration;
        self.wall = self.wall.plus(duration);
        self.tell(Input::Timeout);
    }

    /// The wall clock is set.
    pub fn step_wall(&mut self, duration: Duration, back: bool) {
        self.wall = if back { self.wall.minus(duration) } else { self.wall.plus(duration) };
    }

    /// A client comes to the listener.
    pub fn accept(&mut self) {
        self.last_accepted += 1;
        let conn = ConnId::Accepted(self.last_accepted);
        self.accepted.push(conn);
        self.tell(Input::Accepted(
            conn,
            SocketAddr::from(([10, 0, 0, 9], 40_000)),
            ListenerKind::Public,
        ));
    }

    /// A client says something: a request for a challenge, or anything.
    pub fn hear_accepted(&mut self, which: usize, script: &mut Script<'_>) {
        let Some(conn) = pick(&self.accepted, which) else { return };
        let token = self.tokens.keys().next().map_or("unknown", String::as_str);
        let head = "HTTP/1.1\r\nHost: a.example.org\r\n\r\n";
        let bytes = match script.byte() % 4 {
            0 => format!("GET /.well-known/acme-challenge/{token} {head}").into_bytes(),
            1 => format!("GET /health {head}GET /metrics {head}GET /x {head}GET / {head}")
                .into_bytes(),
            2 => b"POST /.well-known/acme-challenge/".to_vec(),
            _ => script.text().to_vec(),
        };
        if !bytes.is_empty() {
            self.tell(Input::Received(conn, &bytes));
        }
    }

    /// A client goes.
    pub fn lose_accepted(&mut self, which: usize, reason: CloseReason) {
        let Some(conn) = pick(&self.accepted, which) else { return };
        if reason == CloseReason::Finished {
            return self.tell(Input::Finished(conn));
        }
        self.accepted.retain(|open| *open != conn);
        self.tell(Input::Closed(conn, reason));
    }

    fn pick_dialed(&self, which: usize) -> Option<ConnId> {
        self.dialed.keys().nth(which % self.dialed.len().max(1)).copied()
    }

    /// A connection comes to stand.
    pub fn connect(&mut self, which: usize) {
        let Some(conn) = self.pick_dialed(which) else { return };
        self.establish(conn);
    }

    fn establish(&mut self, conn: ConnId) {
        if let Some(dialed) = self.dialed.get_mut(&conn).filter(|dialed| !dialed.stands) {
            dialed.stands = true;
            self.tell(Input::Connected(conn));
        }
    }

    /// A peer answers, well or not, in one piece or in several.
    pub fn answer(&mut self, which: usize, script: &mut Script<'_>) {
        let Some(conn) = self.pick_dialed(which) else { return };
        let manner = script.byte();
        self.peers.apps = manner / 32;
        let Some(good) = self.good_answer(conn) else { return };
        let bytes = spoiled(manner % 32, good);
        let at = bytes.len() * usize::from(manner & 1) / 3;
        for piece in [&bytes[..at], &bytes[at..]] {
            if !piece.is_empty() && self.dialed.contains_key(&conn) {
                self.tell(Input::Received(conn, piece));
            }
        }
    }

    /// The answer to what stands unanswered on a connection, which is made to stand first.
    fn good_answer(&mut self, conn: ConnId) -> Option<Vec<u8>> {
        self.establish(conn);
        let dialed = self.dialed.get_mut(&conn)?;
        if dialed.sent.is_empty() {
            return None;
        }
        let request = std::mem::take(&mut dialed.sent);
        if dialed.to.port() == 53 {
            return Some(of_name_server(&request[2..], true));
        }
        Some(self.peers.answer(&request))
    }

    /// A peer says something unasked: an event, or anything.
    pub fn hear_dialed(&mut self, which: usize, script: &mut Script<'_>) {
        let Some(conn) = self.pick_dialed(which) else { return };
        self.establish(conn);
        let bytes: &[u8] = match script.byte() % 4 {
            0 => b"event: deployment_success\ndata: {}\n\n",
            1 => b"event: event_stream_attached\ndata: {}\n\n",
            2 => b"data: {\"eventType\":\"api_post_event\"}\r\n\r\n",
            _ => script.text(),
        };
        if !bytes.is_empty() && self.dialed.contains_key(&conn) {
            self.tell(Input::Received(conn, bytes));
        }
    }

    /// A connection ends, or is never made.
    pub fn lose_dialed(&mut self, which: usize, reason: CloseReason) {
        let Some(conn) = self.pick_dialed(which) else { return };
        self.dialed.remove(&conn);
        self.tell(Input::Closed(conn, reason));
    }

    /// A name server answers, well or not.
    pub fn name_server(&mut self, which: usize, script: &mut Script<'_>) {
        let chosen = self.sockets.keys().nth(which % self.sockets.len().max(1)).copied();
        let Some(socket) = chosen else { return };
        let (from, question) = self.sockets[&socket].clone();
        let how = script.byte();
        if how == u8::MAX {
            return self.tell(Input::SocketFailed(socket, CloseReason::Refused));
        }
        let bytes = match how % 4 {
            0 => of_name_server(&question, false),
            1 => [&question[..2], &[0x81, 0x83], &question[4..]].concat(),
            2 => [&question[..2], &[0x83, 0x80], &question[4..]].concat(),
            _ => script.text().to_vec(),
        };
        self.tell(Input::Datagram(socket, from, &bytes));
    }

    /// SIGHUP.
    pub fn signal_reload(&mut self) {
        self.tell(Input::Signal(Signal::Reload));
    }

    /// Some things are answered well; then the time comes that the daemon waits for, or not.
    pub fn all_is_well(&mut self, wakes: bool) {
        for _ in 0..ANSWERS_MAX {
            if self.over || !self.answer_one() {
                break;
            }
        }
        if wakes {
            self.wake();
        }
    }

    /// Answers one thing that waits for an answer; whether there was any.
    fn answer_one(&mut self) -> bool {
        if !self.writes.is_empty() {
            self.stored(None);
            return true;
        }
        if let Some(conn) = self.measures.pop_front() {
            self.tell(Input::Measured(conn, Usage::default()));
            return true;
        }
        if let Some(load) = self.loads.pop_front() {
            self.tell(Input::Loaded(self.found(load)));
            return true;
        }
        let waits = |dialed: &Dialed| !dialed.stands || !dialed.sent.is_empty();
        let waiting = self.dialed.iter().find(|(_, dialed)| waits(dialed));
        let Some(conn) = waiting.map(|(conn, _)| *conn) else { return false };
        if let Some(bytes) = self.good_answer(conn) {
            self.tell(Input::Received(conn, &bytes));
        }
        true
    }
}

fn pick<T: Copy>(list: &[T], which: usize) -> Option<T> {
    list.get(which % list.len().max(1)).copied()
}

/// Says that the name asked for is at one address; in a stream with the length in front.
fn of_name_server(question: &[u8], stream: bool) -> Vec<u8> {
    let mut message = question.to_vec();
    if let [_, _, high, low, _, _, _, answers, ..] = message.as_mut_slice() {
        (*high, *low, *answers) = (0x81, 0x80, 1);
    }
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 5]);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    if stream { [&length[..], &message].concat() } else { message }
}
