//! For tests: one way to feed a parser the same bytes whole, byte by byte, and cut in two anywhere.

/// Every way the bytes are cut, the whole first.
pub(crate) fn splits(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut all = vec![vec![bytes], bytes.chunks(1).collect()];
    all.extend((1..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]));
    all
}

/// Every beginning that is not the whole, the empty one included.
pub(crate) fn prefixes(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..bytes.len()).map(|length| &bytes[..length])
}
