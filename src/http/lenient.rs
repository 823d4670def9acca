//! Response heads with field lines that RFC 9112 section 5 does not allow, as other clients accept them: a
//! folded line is one with spaces in place of its line breaks (section 5.2), and a line that is no field is
//! left out. Never lets one pass that may be about the length of the body: two readers could disagree
//! about where the message ends.

use memchr::memmem::find;

use super::error::HttpError;
use super::request::is_field;
use crate::printable::printable;

/// So much is told of the name of a field that was left out, in characters.
const NAME_CHARS_MAX: usize = 64;
/// What says where a message ends (RFC 9112 section 6).
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

/// A head in the form that the RFC wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Normalized {
    /// It, its empty line included.
    pub(super) head: Vec<u8>,
    /// How many bytes of the input it was.
    pub(super) length: usize,
    /// The names of the fields that were left out, fit for a log.
    pub(super) skipped: Vec<String>,
}

/// Normalizes the head at the start of `bytes`; `None` while its end has not come.
///
/// # Errors
/// A line that is no field may be about the length of the body.
pub(super) fn normalize(bytes: &[u8]) -> Result<Option<Normalized>, HttpError> {
    let ends = [&b"\n\r\n"[..], b"\n\n"];
    let ends = ends.iter().filter_map(|end| Some(find(bytes, end)? + end.len()));
    let Some(length) = ends.min() else { return Ok(None) };
    let mut lines = bytes[..length].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let (mut head, mut skipped) = (lines.next().unwrap_or_default().to_vec(), Vec::new());
    // Nothing is there yet that a line could continue with.
    let mut is_kept = false;
    for line in lines.take_while(|line| !line.is_empty()) {
        let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
        if is_folded && is_kept {
            head.push(b' ');
            head.extend(line.trim_ascii());
            continue;
        }
        is_kept = !is_folded && is_field_line(line);
        if is_kept {
            head.extend(b"\r\n");
            head.extend(line);
        } else if is_about_length(line) {
            return Err(HttpError::Malformed(httparse::Error::HeaderName));
        } else if !is_folded {
            skipped.push(name(line));
        }
    }
    head.extend(b"\r\n\r\n");
    Ok(Some(Normalized { head, length, skipped }))
}

fn is_field_line(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    line.split_once(':').is_some_and(|(name, value)| is_field(name, value))
}

fn is_about_length(line: &[u8]) -> bool {
    let letters = line.iter().filter(|byte| byte.is_ascii_alphabetic() || **byte == b'-');
    let letters: String = letters.map(|byte| byte.to_ascii_lowercase() as char).collect();
    FRAMING.iter().any(|name| letters.contains(name))
}

/// What stands before the colon, if any does.
fn name(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let name = line.split(':').next().unwrap_or_default().trim();
    printable(&name.chars().take(NAME_CHARS_MAX).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(fields: &str) -> Option<(String, Vec<String>)> {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nbody");
        let Normalized { head, length, skipped } = normalize(text.as_bytes()).ok()??;
        assert_eq!(&text[length..], "body");
        let head = String::from_utf8(head).unwrap();
        let fields = head.strip_prefix("HTTP/1.1 200 OK\r\n")?.strip_suffix("\r\n\r\n")?;
        Some((fields.to_string(), skipped))
    }

    #[test]
    fn folded_lines_are_one_with_spaces() {
        let cases = [
            ("A: b\r\n c", "A: b c"),
            ("A:\r\n\t  b \r\n c\r\nD: e", "A: b c\r\nD: e"),
            ("A: b\n c\nD: e", "A: b c\r\nD: e"),
            ("Transfer-Encoding:\r\n chunked", "Transfer-Encoding: chunked"),
        ];
        for (fields, expected) in cases {
            assert_eq!(normalized(fields), Some((expected.into(), vec![])), "{fields:?}");
        }
    }

    #[test]
    fn what_is_no_field_is_left_out_with_what_is_folded_behind_it() {
        let cases = [
            ("A: b\r\nno colon\r\nC: d", "A: b\r\nC: d", "no colon"),
            ("A : b\r\n c\r\nC: d", "C: d", "A"),
            (": b\r\nC: d", "C: d", ""),
            ("A(x): b\r\nC: d", "C: d", "A(x)"),
            ("A: b\u{0}c\r\nC: d", "C: d", "A"),
            ("A: b\rc\r\nC: d", "C: d", "A"),
        ];
        for (fields, kept, skipped) in cases {
            let expected = (kept.to_string(), vec![skipped.to_string()]);
            assert_eq!(normalized(fields), Some(expected), "{fields:?}");
        }
        // What precedes every field goes on with nothing (RFC 9112 section 2.2).
        assert_eq!(normalized(" A: b\r\nC: d"), Some(("C: d".into(), vec![])));
        let long = normalized(&format!("{}: b\r\nC: d", "(".repeat(500)));
        assert!(long.is_some_and(|(_, skipped)| skipped[0].len() == NAME_CHARS_MAX));
    }

    #[test]
    fn no_line_that_may_be_about_the_length_is_left_out() {
        for line in [
            "Content-Length : 5",
            "Content-Length",
            "Content-Length\u{0}: 5",
            "X\rContent-Length: 5",
            "transfer-encoding : chunked",
            "Transfer-Encoding: chunked\u{0}",
            "Transfer -Encoding: chunked",
            "X Y: z\r\n Content-Length: 5",
        ] {
            assert_eq!(normalized(&format!("A: b\r\n{line}\r\nC: d")), None, "{line:?}");
        }
        assert_eq!(normalized(" Content-Length: 5\r\nC: d"), None);
    }

    #[test]
    fn a_head_without_its_end_is_waited_for() {
        let whole = b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(normalize(&whole[..length]), Ok(None));
        }
        assert!(
            normalize(whole).is_ok_and(|found| found.is_some_and(|it| it.length == whole.len()))
        );
    }
}
