//! Message bodies (RFC 9112 sections 6 and 7): where a body ends, and its bytes without framing.
//!
//! `Length` → `Done`; `ChunkSize` → `ChunkData` → `ChunkEnd` → `ChunkSize` … → `Trailers` → `Done`;
//! `UntilClose` ends with the connection. What cannot be framed without doubt is an error, since two
//! readers that disagree about an end are how requests are smuggled (RFC 9112 section 11.2).

use super::error::{CHUNK_LINE_BYTES_MAX, HttpError, TRAILER_BYTES_MAX};
use super::head::Version;
use super::message::{Headers, Method};
use super::request::is_field;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes; 0 where there is no body.
    Length(u64),
    /// RFC 9112 section 7.1.
    Chunked,
    /// Everything until the connection ends: responses only.
    UntilClose,
}

impl Framing {
    /// The body of a request (RFC 9112 section 6.3, rules 3 to 7).
    pub(crate) fn of_request(version: Version, headers: &Headers) -> Result<Framing, HttpError> {
        Ok(declared(version, headers)?.unwrap_or(Framing::Length(0)))
    }

    /// The body of a final response to `method` (RFC 9112 section 6.3, rules 1 to 8).
    pub(crate) fn of_response(
        method: Method,
        version: Version,
        status: u16,
        headers: &Headers,
    ) -> Result<Framing, HttpError> {
        if method == Method::Head || matches!(status, 204 | 304) {
            return Ok(Framing::Length(0));
        }
        Ok(declared(version, headers)?.unwrap_or(Framing::UntilClose))
    }
}

/// What the fields say, if anything.
fn declared(version: Version, headers: &Headers) -> Result<Option<Framing>, HttpError> {
    let codings = headers.all("transfer-encoding").flat_map(|value| value.split(','));
    let codings: Vec<&str> = codings.map(|coding| coding.trim_matches([' ', '\t'])).collect();
    let Some((last, before)) = codings.split_last() else {
        return Ok(content_length(headers)?.map(Framing::Length));
    };
    let is_chunked = |coding: &str| coding.eq_ignore_ascii_case("chunked");
    // Where the end is not that of the one chunked coding, nobody knows it (section 6.3, rule 4).
    let has_end = is_chunked(last) && !before.iter().any(|coding| is_chunked(coding));
    if !has_end || version == Version::Http10 || headers.first("content-length").is_some() {
        return Err(HttpError::AmbiguousLength);
    }
    if before.is_empty() { Ok(Some(Framing::Chunked)) } else { Err(HttpError::TransferCoding) }
}

/// One number, perhaps repeated (RFC 9110 section 8.6).
fn content_length(headers: &Headers) -> Result<Option<u64>, HttpError> {
    let mut length = None;
    for text in headers.all("content-length").flat_map(|value| value.split(',')) {
        let text = text.trim_matches([' ', '\t']);
        // `parse` alone would take a sign.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HttpError::ContentLength);
        }
        let number: u64 = text.parse().map_err(|_| HttpError::ContentLength)?;
        if length.replace(number).is_some_and(|before| before != number) {
            return Err(HttpError::ContentLength);
        }
    }
    Ok(length)
}

/// Reads one body.
#[derive(Debug)]
pub(crate) struct BodyReader(State);

#[derive(Debug)]
enum State {
    Length { left: u64 },
    UntilClose,
    ChunkSize { line: Vec<u8> },
    ChunkData { left: u64 },
    ChunkEnd { line: Vec<u8> },
    Trailers { line: Vec<u8>, bytes_left: usize },
    Done,
}

impl BodyReader {
    pub(crate) fn new(framing: Framing) -> BodyReader {
        BodyReader(match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::ChunkSize { line: Vec::new() },
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// Whether the body is complete.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// Takes in `bytes` as far as they belong to this body, appends its content to `content`, and
    /// says how many they were.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        content: &mut Vec<u8>,
    ) -> Result<usize, HttpError> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_done() {
            let used = self.step(rest, content)?;
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    /// The connection ended, in order or not: whether the body is complete now.
    pub(crate) fn close(&mut self, orderly: bool) -> Result<(), HttpError> {
        match self.0 {
            State::Done => Ok(()),
            State::UntilClose if orderly => {
                self.0 = State::Done;
                Ok(())
            }
            _ => Err(HttpError::CutShort),
        }
    }

    fn step(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> Result<usize, HttpError> {
        match &mut self.0 {
            State::Done => Ok(0),
            State::UntilClose => {
                content.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            State::Length { left } => {
                let used = take(left, bytes, content);
                if *left == 0 {
                    self.0 = State::Done;
                }
                Ok(used)
            }
            State::ChunkSize { line } => {
                let (used, whole) =
                    take_line(line, bytes, CHUNK_LINE_BYTES_MAX, HttpError::ChunkLineTooLong)?;
                if whole {
                    self.0 = match chunk_size(line)? {
                        0 => State::Trailers { line: Vec::new(), bytes_left: TRAILER_BYTES_MAX },
                        left => State::ChunkData { left },
                    };
                }
                Ok(used)
            }
            State::ChunkData { left } => {
                let used = take(left, bytes, content);
                if *left == 0 {
                    self.0 = State::ChunkEnd { line: Vec::new() };
                }
                Ok(used)
            }
            State::ChunkEnd { line } => {
                let (used, whole) = take_line(line, bytes, b"\r\n".len(), HttpError::Chunk)?;
                if whole {
                    self.0 = State::ChunkSize { line: Vec::new() };
                }
                Ok(used)
            }
            State::Trailers { line, bytes_left } => {
                let (used, whole) =
                    take_line(line, bytes, *bytes_left, HttpError::TrailersTooLong)?;
                if whole && line.is_empty() {
                    self.0 = State::Done;
                } else if whole && !is_field_line(line) {
                    return Err(HttpError::Chunk);
                } else if whole {
                    *bytes_left = bytes_left.saturating_sub(line.len() + b"\r\n".len());
                    line.clear();
                }
                Ok(used)
            }
        }
    }
}

/// Moves at most `left` bytes over.
fn take(left: &mut u64, bytes: &[u8], content: &mut Vec<u8>) -> usize {
    let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
    let piece = bytes.get(..wanted).unwrap_or(bytes);
    content.extend_from_slice(piece);
    *left = left.saturating_sub(piece.len() as u64);
    piece.len()
}

/// Moves bytes over up to the end of the line; says how many, and whether the line is whole, which
/// then stands in `line` without its CR LF. A lone LF ends no line of the chunked coding, nor does a
/// lone CR, as some readers would have it.
fn take_line(
    line: &mut Vec<u8>,
    bytes: &[u8],
    limit: usize,
    too_long: HttpError,
) -> Result<(usize, bool), HttpError> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let used = end.map_or(bytes.len(), |end| end + 1);
    if line.len().saturating_add(used) > limit {
        return Err(too_long);
    }
    line.extend(bytes.iter().take(used));
    if end.is_none() {
        return Ok((used, false));
    }
    let length = line.strip_suffix(b"\r\n").ok_or(HttpError::Chunk)?.len();
    line.truncate(length);
    if line.contains(&b'\r') { Err(HttpError::Chunk) } else { Ok((used, true)) }
}

/// Whether a line could be a trailer (RFC 9112 section 5): not one that starts another request.
fn is_field_line(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    line.split_once(':').is_some_and(|(name, value)| is_field(name, value))
}

/// `1*HEXDIG`, then nothing or extensions, which are ignored (RFC 9112 section 7.1.1).
fn chunk_size(line: &[u8]) -> Result<u64, HttpError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at(digits);
    let blanks = extensions.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let (_, extensions) = extensions.split_at(blanks);
    if digits.is_empty() || !(extensions.is_empty() || extensions.starts_with(b";")) {
        return Err(HttpError::Chunk);
    }
    digits.iter().try_fold(0_u64, |size, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(HttpError::Chunk)?;
        size.checked_mul(16).and_then(|size| size.checked_add(digit.into())).ok_or(HttpError::Chunk)
    })
}

#[cfg(test)]
mod tests;
