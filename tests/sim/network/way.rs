//! The way of one connection: how slow it is, what it loses, and when it breaks. Drawn when the
//! connection is made, so that every connection has its own troubles.

use stand_ins::random::Random;

use super::weather::Weather;
use super::{MILLISECOND, Nanos};
use crate::faults::{Fault, Toll};

/// A lost packet comes again after this time, then after twice as much, and so on (RFC 6298, with the
/// least time-out that Linux has).
const RETRANSMISSION: Nanos = 200 * MILLISECOND;
/// The same for the packet that opens a connection: after 1, 3 and 7 seconds.
const SYN_RETRANSMISSION: Nanos = 1000 * MILLISECOND;
/// So often in a row a packet is lost at most; then the connection breaks some other way.
const LOSSES_MAX: u32 = 4;
/// A way that breaks does so within this time.
const BREAKS_WITHIN: Nanos = 120_000 * MILLISECOND;
/// So many bytes of one sending arrive one by one, the rest of it in one piece.
const SINGLE_BYTES_MAX: usize = 2000;

/// The way of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    latency_ms: (u64, u64),
    loss_permille: u64,
    every_byte: bool,
    break_at: Option<(Nanos, Broken)>,
}

/// A way that has broken: how, and as which fault that is counted.
pub(super) type Broken = (Break, Fault);

/// How a way breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// Nothing passes any more.
    BlackHole,
    /// The peer has crashed; what it is sent is answered with a reset.
    HalfOpen,
}

impl Way {
    /// The way of a connection that is made now.
    pub(super) fn draw(now: Nanos, weather: &Weather, chance: &mut Random, toll: &mut Toll) -> Way {
        let mut way = Way {
            latency_ms: weather.latency_ms,
            loss_permille: 0,
            every_byte: weather.strikes(Fault::EveryByte, chance),
            break_at: None,
        };
        if weather.strikes(Fault::Latency, chance) {
            toll.count(Fault::Latency);
            way.latency_ms = (chance.between(1, 500), chance.between(1000, 6000));
        }
        if weather.strikes(Fault::Loss, chance) {
            way.loss_permille = chance.between(10, 400);
        }
        for (fault, kind) in
            [(Fault::BlackHole, Break::BlackHole), (Fault::HalfOpen, Break::HalfOpen)]
        {
            if weather.strikes(fault, chance) {
                way.break_at = Some((now + chance.below(BREAKS_WITHIN), (kind, fault)));
            }
        }
        way
    }

    /// How long a piece is on its way, what is lost of it sent again.
    pub(super) fn travel(&self, chance: &mut Random, toll: &mut Toll) -> Nanos {
        let (low, high) = self.latency_ms;
        let mut travel = chance.between(low * MILLISECOND, high * MILLISECOND);
        let mut losses = 0;
        while self.loss_permille > 0
            && losses < LOSSES_MAX
            && chance.below(1000) < self.loss_permille
        {
            toll.count(Fault::Loss);
            travel += RETRANSMISSION << losses;
            losses += 1;
        }
        travel
    }

    /// Whether it has broken, and how.
    pub(super) fn broken(&self, now: Nanos) -> Option<Broken> {
        self.break_at.filter(|(at, _)| *at <= now).map(|(_, broken)| broken)
    }

    /// It breaks now, unless it has already.
    pub(super) fn break_now(&mut self, now: Nanos, broken: Broken) {
        if self.broken(now).is_none() {
            self.break_at = Some((now, broken));
        }
    }

    /// What is sent at once, as the pieces in which it arrives.
    pub(super) fn pieces(
        &self,
        bytes: &[u8],
        weather: &Weather,
        chance: &mut Random,
        toll: &mut Toll,
    ) -> Vec<Vec<u8>> {
        if bytes.len() < 2 {
            return vec![bytes.to_vec()];
        }
        if self.every_byte {
            toll.count(Fault::EveryByte);
            let (singles, rest) = bytes.split_at(bytes.len().min(SINGLE_BYTES_MAX));
            let mut pieces: Vec<Vec<u8>> = singles.iter().map(|byte| vec![*byte]).collect();
            pieces.extend((!rest.is_empty()).then(|| rest.to_vec()));
            return pieces;
        }
        if !weather.strikes(Fault::Split, chance) {
            return vec![bytes.to_vec()];
        }
        toll.count(Fault::Split);
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let longest = rest.len().min(64) as u64;
            let all = pieces.len() == 8;
            let length = if all { rest.len() } else { chance.between(1, longest) as usize };
            let (piece, behind) = rest.split_at(length);
            pieces.push(piece.to_vec());
            rest = behind;
        }
        pieces
    }
}

/// How much later a connection stands whose first packets are lost.
pub(super) fn syn_delay(weather: &Weather, chance: &mut Random, toll: &mut Toll) -> Nanos {
    if !weather.strikes(Fault::SynLost, chance) {
        return 0;
    }
    toll.count(Fault::SynLost);
    let lost = chance.between(1, 3);
    ((1 << lost) - 1) * SYN_RETRANSMISSION
}
