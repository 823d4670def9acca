//! The loop: waits for what happens, tells the machine, does what it says. One iteration handles one
//! input; the clocks are read once per iteration. Nothing here blocks but the disk, for a file at a time.
//!
//! It sleeps until a socket is ready or the machine's deadline has come, and has no deadlines of its
//! own but for connections that linger, for a stop that hangs, for accepting again after the system
//! ran out of descriptors, for a log that nobody reads or that holds back what it has said before, and
//! for the service manager's watchdog.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;

use crate::flat::{FlatMap, FlatSet};
use crate::keys::Keys;
use crate::machine::{Change, CloseReason, ConnId, Input, Load, Loaded, Machine, Output, Signal};
use crate::machine::{SocketId, StoreError, Tls, Trust, Usage, WriteId};
use crate::time::Instant;

use super::clock::Clock;
use super::conn::{Conn, News, reason};
use super::descriptors::Descriptors;
use super::log::Logger;
use super::notify::Notifier;
use super::signals::Signals;
use super::tls::TlsClients;
use super::usage;

mod room;
mod token;
mod turns;

use token::{ADMIN, LISTENER, Named, RELOAD, STOP, Tokens};
use turns::Due;

/// More than there are connections, as a rule: what is ready is seen at once.
const EVENTS_PER_TURN: usize = 1024;
/// What we do of ourselves goes on for so long, and one thing at least, before the sockets are looked at
/// again: orders write to the disk and sign, and who asks for a challenge meanwhile is not to wait for all
/// of them.
const ROUND: Duration = Duration::from_millis(1);
/// A stop that takes longer is carried out without the machine.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// What its reader has not taken, a log line or a message, is offered again after this time.
const OFFER_PAUSE: Duration = Duration::from_millis(250);
/// The largest datagram read, in bytes.
const DATAGRAM_BYTES_MAX: usize = 4096;

/// What the storage can do; the real one is [`super::storage::Storage`].
pub trait Disk {
    /// Carries out a change.
    ///
    /// # Errors
    /// Nothing was changed.
    fn change(&mut self, change: Change) -> Result<(), StoreError>;

    /// Reads.
    fn load(&mut self, load: Load) -> Loaded;
}

/// What the loop is made of.
pub struct Parts<D, K> {
    /// Where challenges are answered; a machine that answers nobody has none.
    pub listener: Option<TcpListener>,
    /// Where the operator is answered, if elsewhere.
    pub admin: Option<TcpListener>,
    /// How many may be open.
    pub descriptors: Descriptors,
    /// Caught from the first line of the program on.
    pub signals: Signals,
    /// Whose issuers count.
    pub tls: TlsClients,
    /// The storage.
    pub disk: D,
    /// Chance and private keys.
    pub keys: K,
    /// Where records go.
    pub logger: Logger,
    /// Who is told how it stands.
    pub notifier: Notifier,
}

/// The loop.
pub struct EventLoop<D, K> {
    parts: Parts<D, K>,
    poll: Poll,
    clock: Clock,
    /// Each in memory of its own, so that it stays where it is.
    conns: FlatMap<ConnId, Box<Conn>>,
    sockets: FlatMap<SocketId, (UdpSocket, Token)>,
    /// Which connection or socket an event is for.
    tokens: Tokens,
    /// Connections that the machine has closed, by the time at which they are dropped.
    lingering: FlatSet<(Instant, ConnId)>,
    /// Connections that have a turn next.
    due: Due,
    /// What a connection has to tell in its turn; empty between turns.
    news: Vec<News>,
    /// Inputs that answer outputs, told before anything new is, unless that takes long.
    answers: VecDeque<Answer>,
    accepted: u64,
    accept_at: Option<Instant>,
    wait_until: Option<Instant>,
    stop_at: Option<Instant>,
    exit: Option<u8>,
}

enum Answer {
    Closed(ConnId, CloseReason),
    SocketFailed(SocketId, CloseReason),
    Stored(WriteId, Result<(), StoreError>),
    Loaded(Loaded),
    Measured(ConnId, Usage),
}

impl<D: Disk, K: Keys> EventLoop<D, K> {
    /// A loop that watches listener and signals.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new(mut parts: Parts<D, K>) -> io::Result<EventLoop<D, K>> {
        let poll = Poll::new()?;
        parts.descriptors = parts.descriptors.started(poll.as_raw_fd());
        let listeners = [(&mut parts.listener, LISTENER), (&mut parts.admin, ADMIN)];
        for (listener, token) in listeners {
            if let Some(listener) = listener {
                poll.registry().register(listener, token, Interest::READABLE)?;
            }
        }
        for (source, signal) in parts.signals.sources() {
            let token = if signal == Signal::Stop { STOP } else { RELOAD };
            poll.registry().register(source, token, Interest::READABLE)?;
        }
        Ok(EventLoop {
            parts,
            poll,
            clock: Clock::start(),
            conns: FlatMap::new(),
            sockets: FlatMap::new(),
            tokens: Tokens::default(),
            lingering: FlatSet::new(),
            due: Due::default(),
            news: Vec::new(),
            answers: VecDeque::new(),
            accepted: 0,
            accept_at: None,
            wait_until: None,
            stop_at: None,
            exit: None,
        })
    }

    /// Runs until the machine wants to end, or a stop hangs; the exit status.
    ///
    /// # Errors
    /// The system's poll failed, which leaves nothing to be done.
    pub fn run(mut self, machine: &mut dyn Machine) -> io::Result<u8> {
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let listener = self.parts.listener.as_ref();
        let listening = listener.map_or(Ok(nowhere), TcpListener::local_addr)?;
        if let Some(line) = self.parts.descriptors.remark() {
            self.parts.logger.write(self.clock.now(), line);
        }
        self.parts.notifier.ready(self.clock.mono());
        self.tell(machine, Input::Started { listening });
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            self.tell_answers(machine);
            if let Some(status) = self.exit {
                self.parts.notifier.stopping();
                self.flush_all();
                self.parts.logger.finish(self.clock.now());
                return Ok(status);
            }
            match self.poll.poll(&mut events, self.sleep()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                self.heed(machine, event);
            }
            self.give_turns(machine);
            self.heed_deadlines(machine);
        }
    }

    /// How long to sleep; `None` until something happens.
    fn sleep(&self) -> Option<Duration> {
        if !self.due.is_empty() || !self.answers.is_empty() {
            return Some(Duration::ZERO);
        }
        let lingering = self.lingering.first().map(|(until, _)| *until);
        let tells = [self.parts.notifier.wake_at(), self.parts.logger.wake_at()];
        let deadlines = [self.wait_until, self.accept_at, self.stop_at, lingering];
        let until = deadlines.into_iter().chain(tells).flatten().min();
        let sleep = until.map(|until| until.since(self.clock.mono()));
        let waits = self.parts.logger.is_waiting() || self.parts.notifier.is_waiting();
        let offer = waits.then_some(OFFER_PAUSE);
        sleep.into_iter().chain(offer).min()
    }

    fn heed_deadlines(&mut self, machine: &mut dyn Machine) {
        let now = self.clock.now();
        self.parts.logger.turned(now);
        self.end_overdue();
        let now = now.mono;
        self.notify(now);
        if self.accept_at.is_some() {
            self.accept(machine);
        }
        if self.stop_at.is_some_and(|at| at <= now) {
            self.exit = Some(0);
        }
        if self.wait_until.is_some_and(|until| until <= now) {
            self.tell(machine, Input::Timeout);
        }
    }

    /// Shows the service manager that the loop turns.
    fn notify(&mut self, now: Instant) {
        self.parts.notifier.turned(now);
        if let Some(line) = self.parts.notifier.take_trouble() {
            self.parts.logger.write(self.clock.now(), line);
        }
    }

    fn heed(&mut self, machine: &mut dyn Machine, event: &Event) {
        match event.token() {
            LISTENER | ADMIN => self.accept(machine),
            token @ (STOP | RELOAD) => self.heed_signal(machine, token),
            token => match self.tokens.find(token) {
                // Each connection has one turn, however many things have happened to it.
                Some(Named::Conn(id)) => {
                    if let Some(conn) = self.conns.get_mut(&id) {
                        conn.ready(event.is_read_closed() || event.is_error());
                        self.due.give_turn(conn);
                    }
                }
                Some(Named::Socket(id)) => self.receive_datagrams(machine, id),
                None => {}
            },
        }
    }

    fn heed_signal(&mut self, machine: &mut dyn Machine, token: Token) {
        let signal = if token == STOP { Signal::Stop } else { Signal::Reload };
        if !self.parts.signals.take(signal) {
            return;
        }
        if signal == Signal::Stop {
            self.parts.notifier.stopping();
            if self.stop_at.is_some() {
                // Asked twice: the machine has had its chance.
                self.exit = Some(0);
            }
            self.stop_at = Some(self.clock.mono() + STOP_PATIENCE);
        }
        self.tell(machine, Input::Signal(signal));
    }

    /// One turn: tells the machine something and does all that it wants.
    fn tell(&mut self, machine: &mut dyn Machine, input: Input<'_>) {
        if self.exit.is_some() {
            return;
        }
        machine.handle_input(self.clock.now(), input, &mut self.parts.keys);
        loop {
            match machine.poll_output() {
                Output::Wait(until) => {
                    self.wait_until = until;
                    return;
                }
                Output::Exit(status) => {
                    // Nobody may have heard it.
                    self.exit.get_or_insert(status);
                    return;
                }
                output => self.carry_out(output),
            }
        }
    }

    fn tell_answers(&mut self, machine: &mut dyn Machine) {
        let begin = self.clock.mono();
        while let Some(answer) = self.answers.pop_front() {
            match answer {
                Answer::Closed(conn, reason) => self.tell(machine, Input::Closed(conn, reason)),
                Answer::SocketFailed(socket, reason) => {
                    self.tell(machine, Input::SocketFailed(socket, reason));
                }
                Answer::Stored(write, result) => self.tell(machine, Input::Stored(write, result)),
                Answer::Loaded(loaded) => self.tell(machine, Input::Loaded(loaded)),
                Answer::Measured(conn, usage) => self.tell(machine, Input::Measured(conn, usage)),
            }
            if self.clock.mono().since(begin) >= ROUND {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { conn, to, tls } => {
                if let Err(reason) = self.connect(conn, to, tls) {
                    self.answers.push_back(Answer::Closed(conn, reason));
                }
            }
            Output::Secure { conn, tls } => {
                if let Err(reason) = self.secure(conn, &tls) {
                    self.close(conn, false);
                    self.answers.push_back(Answer::Closed(conn, reason));
                }
            }
            Output::Send { conn, bytes } => {
                if let Some(conn) = open(&mut self.conns, conn) {
                    conn.send(bytes);
                    self.due.give_turn(conn);
                }
            }
            Output::Close { conn, peer_is_done } => self.close(conn, peer_is_done),
            Output::Datagram { socket, to, bytes } => {
                if let Err(error) = self.send_datagram(socket, to, &bytes) {
                    self.answers.push_back(Answer::SocketFailed(socket, reason(&error)));
                }
            }
            Output::CloseSocket { socket } => self.close_socket(socket),
            Output::Store { write, change } => {
                let result = self.parts.disk.change(change);
                self.answers.push_back(Answer::Stored(write, result));
            }
            Output::Load(load) => {
                let loaded = self.parts.disk.load(load);
                self.answers.push_back(Answer::Loaded(loaded));
            }
            Output::Measure(conn) => {
                self.answers.push_back(Answer::Measured(conn, usage::measure()));
            }
            Output::Status(text) => self.parts.notifier.status(&text),
            Output::Progress(text) => self.parts.logger.progress(&text),
            Output::Say(text) => self.say(&text),
            Output::Log(record) => self.parts.logger.write(self.clock.now(), record),
            Output::Wait(_) | Output::Exit(_) => {}
        }
    }

    fn say(&mut self, text: &str) {
        let mut out = io::stdout();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            self.exit = Some(1);
        }
    }

    fn connect(&mut self, id: ConnId, to: SocketAddr, tls: Option<Tls>) -> Result<(), CloseReason> {
        let presents = tls.as_ref().is_some_and(|tls| tls.trust == Trust::Unjudged);
        let tls = tls.map(|tls| self.parts.tls.connection(&tls)).transpose()?;
        let stream = TcpStream::connect(to).map_err(|error| reason(&error))?;
        // It only makes small requests slower; a system that refuses it still works.
        let _ = stream.set_nodelay(true);
        self.conns.insert(id, Box::new(Conn::dialed(id, stream, tls).presenting(presents)));
        self.watch(id);
        Ok(())
    }

    fn secure(&mut self, id: ConnId, tls: &Tls) -> Result<(), CloseReason> {
        let tls = self.parts.tls.connection(tls)?;
        // One that has just ended says so by itself.
        let Some(conn) = open(&mut self.conns, id) else { return Ok(()) };
        conn.secure(tls)?;
        self.due.give_turn(conn);
        Ok(())
    }

    fn send_datagram(&mut self, id: SocketId, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        if !self.sockets.contains_key(&id) {
            self.open_socket(id, to)?;
        }
        if let Some((socket, _)) = self.sockets.get(&id) {
            socket.send(bytes)?;
        }
        Ok(())
    }

    /// Opens a socket on a port that the system chooses by chance, which hears one peer alone: whatever
    /// others send there, the system drops, and the listener does not wait while it is read.
    fn open_socket(&mut self, id: SocketId, to: SocketAddr) -> io::Result<()> {
        let any = match to {
            SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        let mut socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        let token = self.tokens.assign(Named::Socket(id)).ok_or(Errno::MFILE)?;
        if let Err(error) = self.poll.registry().register(&mut socket, token, Interest::READABLE) {
            self.tokens.release(token);
            return Err(error);
        }
        self.sockets.insert(id, (socket, token));
        Ok(())
    }

    fn close_socket(&mut self, id: SocketId) {
        if let Some((mut closed, token)) = self.sockets.remove(&id) {
            self.tokens.release(token);
            let _ = self.poll.registry().deregister(&mut closed);
        }
        self.answers.retain(|it| !matches!(it, Answer::SocketFailed(failed, _) if *failed == id));
    }

    fn receive_datagrams(&mut self, machine: &mut dyn Machine, id: SocketId) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        while let Some((socket, _)) = self.sockets.get(&id) {
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    self.tell(machine, Input::Datagram(id, from, bytes));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A port that nobody listens at is reported here (ICMP, RFC 1122 section 4.1.3.3).
                Err(error) => {
                    return self.tell(machine, Input::SocketFailed(id, reason(&error)));
                }
            }
        }
    }

    /// The process ends: what can still leave at once does.
    fn flush_all(&mut self) {
        for conn in self.conns.values_mut() {
            conn.cx(&mut Vec::new());
        }
    }
}

/// A connection that the machine has not closed.
fn open(conns: &mut FlatMap<ConnId, Box<Conn>>, id: ConnId) -> Option<&mut Conn> {
    conns.get_mut(&id).map(Box::as_mut).filter(|conn| !conn.is_closed())
}

#[cfg(test)]
mod tests;
