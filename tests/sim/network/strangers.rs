//! Whoever comes to the daemon's listener and has no business there: babblers, those that send a byte
//! now and then, those that ask and never read, and the silent ones. Their number is bounded; none of
//! them may hinder a validation.

use std::collections::{BTreeMap, VecDeque};

use stand_ins::random::Random;
use stand_ins::{Action, DialError, FIRST_DIALED, Peer, Time};

use crate::faults::{Fault, Switches, Toll};

/// The host that a stranger dials who never reads.
pub(crate) const DEAF: &str = "deaf.stranger";
const HOST: &str = "stranger";
const PORT: u16 = 8000;

/// Strangers of one run at most.
const STRANGERS_MAX: u64 = 900;
/// So many come at once at most; more than the daemon lets in.
const CROWD_MAX: u64 = 600;
/// How often one of them does something.
const PAUSE_MS: (u64, u64) = (200, 5_000);
/// So many times; then it only waits for the daemon to close.
const DEEDS_MAX: u32 = 20;
/// Requests that are sent in one piece by those who do not read.
const PIPELINED: usize = 40;

const REQUEST: &[u8] =
    b"GET /.well-known/acme-challenge/nothing-of-the-kind HTTP/1.1\r\nHost: x\r\n\r\n";

/// All of them.
#[derive(Debug)]
pub(crate) struct Strangers {
    /// How often each kind came through to the daemon and did its worst.
    pub(crate) toll: Toll,
    kinds: Vec<Fault>,
    left: u64,
    dialed: u64,
    next_ms: Option<u64>,
    present: BTreeMap<u64, Client>,
    actions: VecDeque<Action>,
    chance: Random,
}

#[derive(Debug)]
struct Client {
    kind: Fault,
    stands: bool,
    deeds: u32,
    next_ms: u64,
}

impl Strangers {
    /// Nobody comes.
    pub(crate) fn none() -> Strangers {
        Strangers {
            toll: Toll::default(),
            kinds: Vec::new(),
            left: 0,
            dialed: 0,
            next_ms: None,
            present: BTreeMap::new(),
            actions: VecDeque::new(),
            chance: Random::new(0),
        }
    }

    /// Those of these faults come, one after the other and now and then a crowd.
    pub(crate) fn come(chance: Random, faults: &Switches) -> Strangers {
        let kinds = [
            Fault::StrangerGarbage,
            Fault::StrangerDrip,
            Fault::StrangerDeaf,
            Fault::StrangerSilent,
        ];
        let kinds: Vec<Fault> = kinds.into_iter().filter(|kind| faults.are_on(*kind)).collect();
        let next_ms = (!kinds.is_empty()).then_some(1_000);
        Strangers { kinds, left: STRANGERS_MAX, next_ms, chance, ..Strangers::none() }
    }

    /// No more come; those who are there stay until the daemon closes.
    pub(crate) fn stay_away(&mut self) {
        self.next_ms = None;
    }

    fn arrive(&mut self, now_ms: u64) {
        let crowd = if self.chance.chance(2) { self.chance.between(1, CROWD_MAX) } else { 1 };
        for _ in 0..crowd.min(self.left) {
            let kind = match crowd {
                1 => self.kinds[self.chance.below(self.kinds.len() as u64) as usize],
                // A crowd that talks would only be slow to simulate.
                _ if self.kinds.contains(&Fault::StrangerSilent) => Fault::StrangerSilent,
                _ => break,
            };
            self.left -= 1;
            self.dialed += 1;
            let conn = FIRST_DIALED + self.dialed;
            let client = Client { kind, stands: false, deeds: 0, next_ms: now_ms };
            self.present.insert(conn, client);
            let host = if kind == Fault::StrangerDeaf { DEAF } else { HOST }.to_string();
            self.actions.push_back(Action::Dial { conn, host, port: PORT });
        }
        let pause_ms = self.chance.between(1_000, 60_000);
        self.next_ms = (self.left > 0).then_some(now_ms + pause_ms);
    }

    fn act(&mut self, now_ms: u64, conn: u64) {
        let Some(client) = self.present.get_mut(&conn) else { return };
        let bytes = match client.kind {
            Fault::StrangerGarbage => self.chance.bytes::<512>()[..].to_vec(),
            Fault::StrangerDrip => vec![REQUEST[client.deeds as usize]],
            _ => REQUEST.repeat(PIPELINED),
        };
        self.toll.count(client.kind);
        client.deeds += 1;
        client.next_ms = now_ms + self.chance.between(PAUSE_MS.0, PAUSE_MS.1);
        self.actions.push_back(Action::Send { conn, bytes });
    }
}

impl Client {
    fn due_ms(&self) -> Option<u64> {
        let acts = self.stands && self.kind != Fault::StrangerSilent && self.deeds < DEEDS_MAX;
        acts.then_some(self.next_ms)
    }
}

impl Peer for Strangers {
    fn accepted(&mut self, _now: Time, _conn: u64) {}

    fn dialed(&mut self, now: Time, conn: u64, result: Result<(), DialError>) {
        let Some(client) = self.present.get_mut(&conn) else { return };
        client.stands = result.is_ok();
        client.next_ms = now.mono_ms;
        match result {
            Ok(()) if client.kind == Fault::StrangerSilent => self.toll.count(client.kind),
            Ok(()) => {}
            Err(_) => drop(self.present.remove(&conn)),
        }
    }

    fn received(&mut self, _now: Time, _conn: u64, _bytes: &[u8]) {}

    fn closed(&mut self, _now: Time, conn: u64) {
        self.present.remove(&conn);
    }

    fn timeout(&mut self, now: Time) {
        if self.next_ms.is_some_and(|at| at <= now.mono_ms) {
            self.arrive(now.mono_ms);
        }
        let due = |(_, it): &(&u64, &Client)| it.due_ms().is_some_and(|at| at <= now.mono_ms);
        let due: Vec<u64> = self.present.iter().filter(due).map(|(conn, _)| *conn).collect();
        for conn in due {
            self.act(now.mono_ms, conn);
        }
    }

    fn next_timeout(&self) -> Option<u64> {
        self.present.values().filter_map(Client::due_ms).chain(self.next_ms).min()
    }

    fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}
