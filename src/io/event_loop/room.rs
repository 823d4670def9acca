//! Room for connections: accepts them, lets those that the machine has closed linger for a while, and
//! ends these first where descriptors run short. Which open one goes then is the machine's choice.
//!
//! However many come, no more are open than the 512 of [`ACCEPTED_MAX`], which the machine keeps, the 64
//! of [`LINGERING_MAX`], and the one that it is just told of. Each has at most 90 KiB in the process: a
//! head or pipeline of 8 KiB that waits, 29 KiB of a request that was read but for its body, 52 KiB of
//! answers that are unsent; 150 KiB with the spare room that vectors have which grow. All together are
//! 84 MiB, and the daemon under attack stays under 96. Longer answers are rationed by the machine, and
//! leave within [`LINGER`], but for the 8 MiB of [`SLOW_BYTES_MAX`].
//!
//! [`LINGER`]: super::super::conn::linger::LINGER
//! [`ACCEPTED_MAX`]: crate::machine::ACCEPTED_MAX

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use mio::net::TcpStream;

use crate::keys::Keys;
use crate::machine::{ConnId, Input, ListenerKind, Machine};
use crate::time::Instant;

use super::super::conn::Conn;
use super::super::conn::linger::LINGERING_MAX;
use super::{Answer, Disk, EventLoop, open};

/// Connections accepted in one iteration at most.
const ACCEPTS_PER_TURN: usize = 64;
/// How long nothing is accepted after the system ran out of descriptors and no room could be made.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// Slow peers have more time for their answers while no more bytes than these wait for those who linger.
const SLOW_BYTES_MAX: usize = 8 * 1024 * 1024;

impl<D: Disk, K: Keys> EventLoop<D, K> {
    pub(super) fn accept(&mut self, machine: &mut dyn Machine) {
        if self.accept_at.is_some_and(|at| at > self.clock.mono()) {
            return;
        }
        self.accept_at = None;
        // However many clients come, the operator has a turn.
        self.accept_at_door(machine, ListenerKind::Admin);
        self.accept_at_door(machine, ListenerKind::Public);
    }

    fn accept_at_door(&mut self, machine: &mut dyn Machine, door: ListenerKind) {
        for _ in 0..ACCEPTS_PER_TURN {
            let listener = match door {
                ListenerKind::Public => &self.parts.listener,
                ListenerKind::Admin => &self.parts.admin,
            };
            let Some(listener) = listener else { return };
            match listener.accept() {
                Ok((stream, from)) => self.on_accept(machine, stream, from, door),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The peer was gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let made = self.make_room(machine, error.to_string());
                    let pause = if made { Duration::ZERO } else { ACCEPT_PAUSE };
                    self.accept_at = Some(self.clock.mono() + pause);
                    return;
                }
            }
        }
        // More may wait; the others have their turn first.
        self.accept_at = Some(self.clock.mono());
    }

    fn on_accept(
        &mut self,
        machine: &mut dyn Machine,
        stream: TcpStream,
        from: SocketAddr,
        door: ListenerKind,
    ) {
        let descriptors = self.parts.descriptors;
        let are_short = descriptors.are_short(stream.as_raw_fd());
        let id = ConnId::Accepted(self.accepted);
        self.accepted += 1;
        self.conns.insert(id, Box::new(Conn::accepted(id, stream)));
        self.tell(machine, Input::Accepted(id, from, door));
        // What it asks is there already, as a rule: it is heard and answered at once, before others can
        // push it out.
        self.turn_newcomer(machine, id);
        // Accepted connections have the lowest ids, in their order. One that is alone stays: that
        // descriptors are short is not the fault of the clients then, and it may be the CA's.
        if are_short && self.conns.keys().next().is_some_and(|first| *first < id) {
            self.make_room(machine, descriptors.to_string());
        }
    }

    /// Whether there are fewer connections now.
    fn make_room(&mut self, machine: &mut dyn Machine, detail: String) -> bool {
        let before = self.conns.len();
        self.tell(machine, Input::Exhausted(detail));
        self.end_lingering(0);
        self.conns.len() < before
    }

    /// The machine is done with a connection.
    pub(super) fn close(&mut self, id: ConnId, peer_is_done: bool) {
        let now = self.clock.mono();
        // A connection that never stood has nothing to linger for, but its turn ends it.
        if let Some(conn) = open(&mut self.conns, id) {
            let until = conn.close(now, peer_is_done);
            self.lingering.insert((until, id));
            self.due.give_turn(conn);
        }
        self.answers.retain(|it| !matches!(it, Answer::Closed(closed, _) if *closed == id));
        self.end_lingering(LINGERING_MAX);
    }

    /// Ends connections that linger, until so many are left: those first whose answer has left, and of
    /// them those that would go first anyway.
    fn end_lingering(&mut self, left: usize) {
        while self.lingering.len() > left {
            let mut by_time = self.lingering.iter().map(|(_, id)| *id);
            let is_answered =
                |id: &ConnId| self.conns.get(id).is_none_or(|conn| !conn.has_unsent());
            let goer = by_time.find(is_answered).or(self.lingering.first().map(|(_, id)| *id));
            let Some(id) = goer else { return };
            self.end(id);
        }
    }

    /// Ends what has lingered long enough.
    pub(super) fn end_overdue(&mut self) {
        let now = self.clock.mono();
        while let Some((until, id)) = self.lingering.first().copied()
            && until <= now
        {
            match self.linger_on(now, id) {
                Some(later) => {
                    self.lingering.remove(&(until, id));
                    self.lingering.insert((later, id));
                }
                None => self.end(id),
            }
        }
    }

    /// Has a connection linger on whose time has come, if its peer is slow and there is room for that.
    fn linger_on(&mut self, now: Instant, id: ConnId) -> Option<Instant> {
        let lingering = self.lingering.iter().filter_map(|(_, id)| self.conns.get(id));
        let bytes: usize = lingering.map(|conn| conn.unsent_bytes()).sum();
        let conn = self.conns.get_mut(&id).filter(|_| bytes <= SLOW_BYTES_MAX)?;
        conn.linger_on(now)
    }

    /// Ends a connection that lingers; what can still leave at once does.
    fn end(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.cx(&mut Vec::new());
        }
        self.forget(id);
    }
}
