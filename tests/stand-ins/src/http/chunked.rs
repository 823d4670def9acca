//! The chunked transfer coding (RFC 9112 section 7.1), for bodies that lie in one buffer.

/// How far a chunked body goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// The body, and how many bytes of the buffer it took with its trailer section.
    Whole(Vec<u8>, usize),
    /// The end is not there yet.
    Partial,
    /// Not the chunked coding.
    Malformed,
}

/// Reads a chunked body from the start of `bytes`.
pub(super) fn decode(bytes: &[u8], bytes_max: usize) -> Chunked {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (head, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Chunked::Partial,
            Err(_) => return Chunked::Malformed,
        };
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= bytes_max) else {
            return Chunked::Malformed;
        };
        let start = at + head;
        if size == 0 {
            return match trailer_length(&bytes[start..]) {
                Some(length) => Chunked::Whole(body, start + length),
                None => Chunked::Partial,
            };
        }
        let Some(data) = bytes.get(start..start + size) else { return Chunked::Partial };
        match bytes.get(start + size..start + size + 2) {
            Some(b"\r\n") => body.extend_from_slice(data),
            Some(_) => return Chunked::Malformed,
            None => return Chunked::Partial,
        }
        if body.len() > bytes_max {
            return Chunked::Malformed;
        }
        at = start + size + 2;
    }
}

/// The length of the trailer fields, which nobody here reads, with the empty line behind them.
fn trailer_length(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_by_byte_and_with_bytes_to_spare() {
        let coded = b"4\r\nWiki\r\n5;name=x\r\npedia\r\n0\r\nTrailer: yes\r\n\r\n";
        for end in 0..coded.len() {
            assert_eq!(decode(&coded[..end], 100), Chunked::Partial, "{end}");
        }
        let mut spare = coded.to_vec();
        spare.extend_from_slice(b"GET /");
        let whole = Chunked::Whole(b"Wikipedia".to_vec(), coded.len());
        assert_eq!(decode(&spare, 100), whole);
        assert_eq!(decode(b"0\r\n\r\n", 100), Chunked::Whole(Vec::new(), 5));
    }

    #[test]
    fn what_is_not_chunked() {
        for bad in [&b"x\r\n"[..], b"4\r\nWikiX\r\n", b"ffffffffffffffff\r\n", b"65\r\n"] {
            assert_eq!(decode(bad, 100), Chunked::Malformed, "{bad:?}");
        }
    }
}
