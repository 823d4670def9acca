//! Tokens: what mio returns with an event to identify its connection or socket. Must never let an event reach
//! a connection other than the one that it was reported for.
//!
//! A token is one `usize`, which has 32 bits on some machines, and so is too small for a [`ConnId`]. It
//! contains the index of a slot, and the generation of that slot, which changes each time that the slot is
//! released. Thus no two connections that are open have the same token, and a stale event, which was read
//! before its connection was dropped, finds another generation. The system reports nothing for a connection
//! after that, so a generation has to be unique for one batch of events only, and may wrap.

use mio::Token;

use crate::machine::{ConnId, SocketId};

pub(super) const LISTENER: Token = Token(0);
pub(super) const STOP: Token = Token(1);
pub(super) const RELOAD: Token = Token(2);
pub(super) const ADMIN: Token = Token(3);

/// What a token identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Conn(ConnId),
    Socket(SocketId),
}

/// The first slot; lower numbers are the fixed tokens above.
const FIRST: usize = 4;
/// Bits of a token that contain the slot. The generation has the others.
const SLOT_BITS: u32 = usize::BITS / 2;
/// Slots at most: more than 65,000 on a machine of 32 bits, whose memory has no room for so many connections.
const SLOTS_MAX: usize = (1 << SLOT_BITS) - FIRST;

/// Assigns tokens and finds what they identify.
#[derive(Default)]
pub(super) struct Tokens {
    slots: Vec<Slot>,
    /// Indexes of slots that identify nothing.
    free: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    generation: usize,
    named: Option<Named>,
}

impl Tokens {
    /// A token that nothing else has; `None` when [`SLOTS_MAX`] are in use.
    pub(super) fn assign(&mut self, named: Named) -> Option<Token> {
        if self.free.is_empty() && self.slots.len() < SLOTS_MAX {
            self.free.push(self.slots.len());
            self.slots.push(Slot::default());
        }
        let index = self.free.pop()?;
        let slot = self.slots.get_mut(index)?;
        slot.named = Some(named);
        Some(token(index, slot.generation))
    }

    /// What a token identifies; `None` once it was released.
    pub(super) fn find(&self, token: Token) -> Option<Named> {
        self.slots.get(index(token)?).filter(|slot| slot.has(token))?.named
    }

    /// Releases a token: from now on it identifies nothing.
    pub(super) fn release(&mut self, token: Token) {
        let Some(index) = index(token) else { return };
        if let Some(slot) = self.slots.get_mut(index)
            && slot.has(token)
            && slot.named.take().is_some()
        {
            slot.generation = slot.generation.wrapping_add(1) & (usize::MAX >> SLOT_BITS);
            self.free.push(index);
        }
    }
}

impl Slot {
    fn has(&self, Token(token): Token) -> bool {
        self.generation == token >> SLOT_BITS
    }
}

fn index(Token(token): Token) -> Option<usize> {
    (token & ((1 << SLOT_BITS) - 1)).checked_sub(FIRST)
}

fn token(index: usize, generation: usize) -> Token {
    Token(generation << SLOT_BITS | (FIRST + index))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that a machine of 32 bits has no room for are among them.
    fn all() -> impl Iterator<Item = Named> {
        [0, 1, 2, 1 << 30, 1 << 40, u64::MAX].into_iter().flat_map(|number| {
            let [accepted, dialed] = [ConnId::Accepted(number), ConnId::Dialed(number)];
            [Named::Conn(accepted), Named::Conn(dialed), Named::Socket(SocketId(number))]
        })
    }

    #[test]
    fn no_two_have_the_same_token() {
        let mut tokens = Tokens::default();
        let fixed = [LISTENER, STOP, RELOAD, ADMIN];
        let mut assigned = fixed.to_vec();
        // The second round has the slots of the first one, and other generations.
        for _ in 0..2 {
            assert!(fixed.iter().all(|token| tokens.find(*token).is_none()));
            let round: Vec<Token> =
                all().map(|named| tokens.assign(named).expect("there is a slot")).collect();
            for (token, named) in round.iter().zip(all()) {
                assert_eq!(tokens.find(*token), Some(named));
            }
            for token in &round {
                tokens.release(*token);
                assert_eq!(tokens.find(*token), None);
            }
            assigned.extend(round);
        }
        assert_eq!(tokens.slots.len(), all().count());
        assigned.sort_unstable();
        assert!(assigned.is_sorted_by(|one, next| one < next), "not unique: {assigned:?}");
    }

    #[test]
    fn a_stale_event_reaches_no_other_connection() {
        let mut tokens = Tokens::default();
        let [gone, next] = [7, 8].map(|number| Named::Conn(ConnId::Accepted(number)));
        let stale = tokens.assign(gone).expect("there is a slot");
        tokens.release(stale);
        for generation in [1, (usize::MAX >> SLOT_BITS) - 1, usize::MAX >> SLOT_BITS] {
            tokens.slots[0].generation = generation;
            let token = tokens.assign(next).expect("there is a slot");
            assert_ne!(token, stale);
            assert_eq!((tokens.find(stale), tokens.find(token)), (None, Some(next)));
            // Released once more, it takes no slot from the connection that has it now.
            tokens.release(stale);
            assert_eq!(tokens.find(token), Some(next));
            tokens.release(token);
        }
        assert_eq!(tokens.slots[0].generation, 0, "it wraps");
    }

    #[test]
    fn slots_are_limited() {
        let mut tokens = Tokens::default();
        let named = Named::Socket(SocketId(0));
        let fixed = [LISTENER, STOP, RELOAD, ADMIN];
        let last = token(SLOTS_MAX - 1, usize::MAX >> SLOT_BITS);
        assert_eq!((index(last), last), (Some(SLOTS_MAX - 1), Token(usize::MAX)));
        assert!(fixed.iter().all(|token| index(*token).is_none()));
        if usize::BITS == 32 {
            (0..SLOTS_MAX).for_each(|_| assert!(tokens.assign(named).is_some()));
            assert_eq!(tokens.assign(named), None);
        }
    }
}
