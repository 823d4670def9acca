//! Text that is put together from many short pieces, such as JSON. Only copies; never looks at what it is.

use std::io::{self, Write};

use serde::Serialize;

/// A piece of this many bytes is copied faster one by one than by a call: `memcpy` of the C library that
/// the static program has (musl's, `rep movs`) takes longer to begin than such a copy takes.
const SHORT: usize = 32;

/// Puts a piece at the end of a text.
pub fn put(text: &mut Vec<u8>, piece: &[u8]) {
    if piece.len() > SHORT {
        return text.extend_from_slice(piece);
    }
    for byte in piece {
        text.push(*byte);
    }
}

/// A value as JSON: one of plain members, lists and maps of texts, which cannot fail to become it.
pub fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = Pieces::default();
    let _ = serde_json::to_writer(&mut text, value);
    text.0
}

/// A text that others write into.
#[derive(Default)]
struct Pieces(Vec<u8>);

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        put(&mut self.0, piece);
        Ok(piece.len())
    }

    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        put(&mut self.0, piece);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_what_it_is_elsewhere() {
        let long = "\u{fc}\n".repeat(SHORT);
        let value = serde_json::json!({"a": [1, -2.5, null, true], "b": {"c": "d"}, "e": long});
        assert_eq!(json(&value), value.to_string().into_bytes());
    }

    #[test]
    fn pieces_of_every_length_come_one_behind_the_other() {
        let (mut text, mut whole) = (Pieces::default(), Vec::<u8>::new());
        for length in 0..=2 * SHORT {
            let piece = vec![u8::try_from(length).unwrap(); length];
            text.write_all(&piece).unwrap();
            whole.extend(&piece);
            assert_eq!(text.write(&piece).unwrap(), length);
            whole.extend(&piece);
            assert_eq!(text.0, whole);
        }
    }
}
