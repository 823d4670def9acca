//! One way to cut bytes as a network might: into pieces whose sizes follow from the bytes.

/// The bytes in pieces of one byte up to many; equal bytes are cut equally.
pub fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut chance = bytes.iter().fold(bytes.len() as u64, |sum, byte| mix(sum ^ u64::from(*byte)));
    let mut rest = bytes;
    std::iter::from_fn(move || {
        chance = mix(chance);
        // Some pieces are of one byte, some are short, some reach as far as there is anything.
        let most = [1, 7, rest.len().max(1)][(chance >> 33) as usize % 3];
        let length = ((chance >> 40) as usize % most + 1).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The next number of a row in which each follows from the one before (a linear congruential
/// generator with the constants of Knuth's MMIX).
pub fn mix(number: u64) -> u64 {
    let next =
        number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    next ^ (next >> 29)
}
