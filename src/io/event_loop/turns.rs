//! Turns of connections: each has its own, in the order in which it fell to them, and none has two
//! before the others have had theirs. Must never tell the machine of a connection that it has closed.
//!
//! Clients come first, as each costs next to nothing: what they ask is answered before our own requests
//! continue, which have as much time afterwards, and [`ROUND`] at least.

use std::collections::VecDeque;

use rustix::io::Errno;

use crate::keys::Keys;
use crate::machine::{ConnId, Input, Machine};

use super::super::conn::{Conn, News, Pause, reason};
use super::{Answer, Disk, EventLoop, Named, ROUND, open};

/// After so many turns of clients, newcomers are looked for: they do not wait for all the others.
const TURNS_PER_ACCEPT: usize = 64;

/// Connections that have a turn next, in the order in which it fell to them; one that is due no longer
/// has had it.
#[derive(Default)]
pub(super) struct Due {
    strangers: VecDeque<ConnId>,
    ours: VecDeque<ConnId>,
}

impl Due {
    fn of(&mut self, id: ConnId) -> &mut VecDeque<ConnId> {
        match id {
            ConnId::Accepted(_) => &mut self.strangers,
            ConnId::Dialed(_) => &mut self.ours,
        }
    }

    /// A connection has a turn next, however many things happen to it until then.
    pub(super) fn give_turn(&mut self, conn: &mut Conn) {
        if !std::mem::replace(&mut conn.due, true) {
            self.of(conn.id).push_back(conn.id);
        }
    }

    /// Whether nobody has a turn next.
    pub(super) fn is_empty(&self) -> bool {
        self.strangers.is_empty() && self.ours.is_empty()
    }
}

impl<D: Disk, K: Keys> EventLoop<D, K> {
    /// A round of turns.
    pub(super) fn give_turns(&mut self, machine: &mut dyn Machine) {
        let begin = self.clock.mono();
        for index in 1..=self.due.strangers.len() {
            let Some(id) = self.due.strangers.pop_front() else { break };
            self.turn_if_due(machine, id);
            if index % TURNS_PER_ACCEPT == 0 {
                self.accept(machine);
            }
        }
        let between = self.clock.mono();
        let room = between.since(begin).max(ROUND);
        for _ in 0..self.due.ours.len() {
            let Some(id) = self.due.ours.pop_front() else { break };
            self.turn_if_due(machine, id);
            if self.clock.mono().since(between) >= room {
                break;
            }
        }
    }

    /// Its turn, unless it has had it or is gone.
    pub(super) fn turn_if_due(&mut self, machine: &mut dyn Machine, id: ConnId) {
        if self.conns.get(&id).is_some_and(|conn| conn.due) {
            self.cx(machine, id);
            self.go_on(machine, id);
        }
    }

    /// The first turn of a connection. One that has said nothing yet is looked at once more before the system
    /// has to watch it: its question follows close behind, as a rule.
    pub(super) fn turn_newcomer(&mut self, machine: &mut dyn Machine, id: ConnId) {
        let has_news = self.cx(machine, id);
        if let Some(conn) = self.conns.get_mut(&id)
            && !has_news
        {
            conn.ready(false);
            self.due.give_turn(conn);
        } else {
            self.go_on(machine, id);
        }
    }

    /// Behind its turn it has a second one where nothing more is to be read: what it was answered leaves at
    /// once, which takes nothing from the others. Then the system watches it, if it waits.
    fn go_on(&mut self, machine: &mut dyn Machine, id: ConnId) {
        if self.conns.get(&id).is_some_and(|conn| conn.due && conn.is_drained()) {
            self.cx(machine, id);
        }
        self.watch(id);
    }

    /// Lets a connection do what its socket allows, and tells the machine what came of it; whether anything
    /// did.
    fn cx(&mut self, machine: &mut dyn Machine, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        let mut news = std::mem::take(&mut self.news);
        conn.due = false;
        let due = self.due.of(id);
        if due.back() == Some(&id) {
            // Nobody is to be woken for it.
            due.pop_back();
        }
        let pause = conn.cx(&mut news);
        let has_news = !news.is_empty();
        for item in news.drain(..) {
            // Once the machine has closed it, it hears no more of it.
            if open(&mut self.conns, id).is_none() {
                break;
            }
            match item {
                News::Connected => self.tell(machine, Input::Connected(id)),
                News::Presented(der) => self.tell(machine, Input::Presented(id, der)),
                News::Received(bytes) => self.tell(machine, Input::Received(id, &bytes)),
                News::Finished => self.tell(machine, Input::Finished(id)),
                News::Closed(reason) => self.tell(machine, Input::Closed(id, reason)),
            }
        }
        match pause {
            Pause::Ready => {
                if let Some(conn) = open(&mut self.conns, id) {
                    conn.acknowledge();
                }
            }
            Pause::Context => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    self.due.give_turn(conn);
                }
            }
            Pause::Gone => self.forget(id),
        }
        self.news = news;
        has_news
    }

    /// Has the system watch a connection that has to wait. One that has a turn next is watched after
    /// that, if it is still there: most that come are answered and gone without.
    pub(super) fn watch(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.due {
            return;
        }
        conn.token = conn.token.or_else(|| self.tokens.assign(Named::Conn(id)));
        let token = conn.token.ok_or(Errno::MFILE.into());
        let watched = token.and_then(|token| conn.watch(self.poll.registry(), token));
        if let Err(error) = watched {
            // Nobody would tell when it can continue.
            if !conn.is_closed() {
                self.answers.push_back(Answer::Closed(id, reason(&error)));
            }
            self.forget(id);
        }
    }

    /// Drops a connection; a turn that it still had passes.
    pub(super) fn forget(&mut self, id: ConnId) {
        // The system watches it no longer once it is dropped, and so closed.
        let Some(conn) = self.conns.remove(&id) else { return };
        if let Some(token) = conn.token {
            self.tokens.release(token);
        }
        if let Some(until) = conn.linger_until() {
            self.lingering.remove(&(until, id));
        }
    }
}
