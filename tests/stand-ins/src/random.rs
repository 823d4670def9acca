//! Chance from a seed, for nonces, serials and faults: the SplitMix64 sequence. Never for secrets.

/// A sequence that is the same whenever its seed is.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed; neighbouring seeds give unrelated sequences.
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number, uniform over all 64 bits.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number under `limit`; 0 when `limit` is 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        let number = self.number();
        if limit == 0 { 0 } else { number % limit }
    }

    /// A number from `low` to `high`, both included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A sequence of its own for another part, so that parts do not disturb each other.
    pub const fn fork(&mut self) -> Random {
        Random(self.number())
    }

    /// True in `percent` of 100 cases. Draws nothing at 0, so that a fault that is switched off
    /// leaves the rest of a run as it was.
    pub const fn chance(&mut self, percent: u8) -> bool {
        percent > 0 && self.below(100) < percent as u64
    }

    /// `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let number = self.number().to_le_bytes();
            let length = chunk.len();
            chunk.copy_from_slice(&number[..length]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_sequence() {
        let mut one = Random::new(7);
        let mut same = Random::new(7);
        let mut other = Random::new(8);
        assert_eq!(one.bytes::<20>(), same.bytes::<20>());
        assert_ne!(one.number(), other.number());
    }

    #[test]
    fn a_fault_that_is_off_draws_nothing() {
        let mut one = Random::new(7);
        let mut same = Random::new(7);
        assert!(!one.chance(0));
        assert_eq!(one.number(), same.number());
        assert!(one.chance(100));
        let hits = (0..10_000).filter(|_| one.chance(20)).count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
    }
}
