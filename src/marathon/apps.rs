//! Splits `{"apps":[…]}` into apps as it streams in, so that memory follows the largest app and not
//! the answer. Never takes an answer for complete that is not.
//!
//! `Start → BeforeKey → Key → AfterKey → BeforeValue → Skipping | (BeforeElement → Element →
//! AfterElement …) → AfterValue → … → End`

use std::fmt;

use memchr::memchr2;

use super::app::AppError;

/// An app whose definition is longer than this, in bytes, is skipped.
pub const APP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A member name longer than this is not `apps`; no more of it is kept.
const KEY_BYTES_MAX: usize = 16;
/// How much of an answer that is no JSON is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 40;

/// The answer as a whole cannot be used; what was read of it does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppsError {
    /// There was nothing.
    Empty,
    /// It ended in the middle.
    CutShort,
    /// It is compressed, although that was not asked for.
    Compressed,
    /// It is not the JSON of an object; this is how it goes on.
    NotJson {
        /// Some bytes from the place on, printable.
        near: String,
    },
    /// It has no member `apps` that is a list.
    NoApps,
}

/// Who gets the apps, one after the other.
pub type Take<'a> = dyn FnMut(Result<&[u8], AppError>) + 'a;

/// The splitter. `feed` it, then `finish` it.
#[derive(Debug)]
pub struct AppsParser {
    state: State,
    /// The element that began in an earlier piece.
    pending: Vec<u8>,
    /// The element is too long; it is only scanned.
    oversized: bool,
    seen_apps: bool,
}

#[derive(Debug)]
enum State {
    Start,
    BeforeKey { may_end: bool },
    Key { text: Vec<u8>, escaped: bool },
    AfterKey { apps: bool },
    BeforeValue { apps: bool },
    Skipping(Scan),
    BeforeElement { may_end: bool },
    Element(Scan),
    AfterElement,
    AfterValue,
    End,
}

impl Default for AppsParser {
    fn default() -> AppsParser {
        AppsParser::new()
    }
}

impl AppsParser {
    /// A parser at the start of an answer.
    pub fn new() -> AppsParser {
        let pending = Vec::new();
        AppsParser { state: State::Start, pending, oversized: false, seen_apps: false }
    }

    /// Takes in a piece of the answer; `take` gets the JSON of each app that ends in it.
    ///
    /// # Errors
    /// The answer cannot be used. An app that cannot be read is no such error.
    pub fn feed(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<(), AppsError> {
        let mut rest = bytes;
        while let [first, behind @ ..] = rest {
            let in_key = matches!(self.state, State::Key { .. });
            let scanned = match &mut self.state {
                State::Skipping(scan) | State::Element(scan) => scan.advance(rest),
                _ => {
                    let space = first.is_ascii_whitespace() && !in_key;
                    if space || self.step(*first, rest)? {
                        rest = behind;
                    }
                    continue;
                }
            };
            let (piece, behind) = rest.split_at(scanned.length);
            rest = behind;
            self.scanned(piece, scanned.complete, take);
        }
        Ok(())
    }

    /// How many bytes of an app that is not whole it holds.
    pub fn bytes_held(&self) -> usize {
        self.pending.len()
    }

    /// The answer has ended.
    ///
    /// # Errors
    /// It is not complete, or it holds no list of apps.
    pub fn finish(self) -> Result<(), AppsError> {
        match self.state {
            State::Start => Err(AppsError::Empty),
            State::End if self.seen_apps => Ok(()),
            State::End => Err(AppsError::NoApps),
            _ => Err(AppsError::CutShort),
        }
    }

    /// One byte outside values; whether it was used up.
    fn step(&mut self, byte: u8, rest: &[u8]) -> Result<bool, AppsError> {
        let (next, used) = match (&mut self.state, byte) {
            (State::Start, b'{') => (State::BeforeKey { may_end: true }, true),
            (State::Start, 0x1f) => return Err(AppsError::Compressed),
            (State::BeforeKey { .. }, b'"') => {
                (State::Key { text: Vec::new(), escaped: false }, true)
            }
            (State::BeforeKey { may_end: true }, b'}') | (State::AfterValue, b'}') => {
                (State::End, true)
            }
            (State::Key { text, escaped: false }, b'"') => {
                (State::AfterKey { apps: text.as_slice() == b"apps" }, true)
            }
            (State::Key { text, escaped }, byte) => {
                *escaped = byte == b'\\' && !*escaped;
                if text.len() < KEY_BYTES_MAX {
                    text.push(byte);
                }
                return Ok(true);
            }
            (State::AfterKey { apps }, b':') => (State::BeforeValue { apps: *apps }, true),
            (State::BeforeValue { apps: true }, b'[') => {
                self.seen_apps = true;
                (State::BeforeElement { may_end: true }, true)
            }
            (State::BeforeValue { apps: true }, _) => return Err(AppsError::NoApps),
            (State::BeforeValue { apps: false }, _) => {
                (State::Skipping(Scan::begin(byte).ok_or_else(|| not_json(rest))?), false)
            }
            (State::BeforeElement { may_end: true }, b']') => (State::AfterValue, true),
            (State::BeforeElement { .. }, _) => {
                (State::Element(Scan::begin(byte).ok_or_else(|| not_json(rest))?), false)
            }
            (State::AfterElement, b',') => (State::BeforeElement { may_end: false }, true),
            (State::AfterElement, b']') => (State::AfterValue, true),
            (State::AfterValue, b',') => (State::BeforeKey { may_end: false }, true),
            _ => return Err(not_json(rest)),
        };
        self.state = next;
        Ok(used)
    }

    /// A piece of a value was scanned.
    fn scanned(&mut self, piece: &[u8], complete: bool, take: &mut Take<'_>) {
        if matches!(self.state, State::Skipping(_)) {
            if complete {
                self.state = State::AfterValue;
            }
            return;
        }
        if self.pending.len() + piece.len() > APP_BYTES_MAX {
            self.oversized = true;
            self.pending = Vec::new();
        }
        if !complete {
            if !self.oversized {
                self.pending.extend_from_slice(piece);
            }
            return;
        }
        if self.oversized {
            take(Err(AppError::TooLong { limit: APP_BYTES_MAX }));
        } else if self.pending.is_empty() {
            take(Ok(piece));
        } else {
            self.pending.extend_from_slice(piece);
            take(Ok(&self.pending));
        }
        self.pending.clear();
        self.oversized = false;
        self.state = State::AfterElement;
    }
}

/// Finds the end of a JSON value without parsing it. Depth is only a counter: one deeply nested app
/// must not fail the list.
#[derive(Debug)]
struct Scan {
    kind: Kind,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An object, a list or a text: it has an end of its own.
    Closed,
    /// A number, `true`, `false`, `null`: what follows ends it.
    Bare,
}

struct Scanned {
    length: usize,
    complete: bool,
}

impl Scan {
    /// A scan from a value's first byte on; `None` where no value begins so.
    fn begin(first: u8) -> Option<Scan> {
        let kind = match first {
            b'{' | b'[' | b'"' => Kind::Closed,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Kind::Bare,
            _ => return None,
        };
        Some(Scan { kind, depth: 0, in_text: false, escaped: false })
    }

    fn advance(&mut self, bytes: &[u8]) -> Scanned {
        if self.kind == Kind::Bare {
            let end = |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
            let found = bytes.iter().position(end);
            let (length, complete) = (found.unwrap_or(bytes.len()), found.is_some());
            return Scanned { length, complete };
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = if self.in_text { self.pass_text(rest) } else { self.pass_mark(rest) };
            if self.depth == 0 && !self.in_text {
                return Scanned { length: bytes.len() - rest.len(), complete: true };
            }
        }
        Scanned { length: bytes.len(), complete: false }
    }

    /// What is behind the next byte outside of texts that changes anything; nothing when none does.
    fn pass_mark<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(at) = bytes.iter().position(|byte| MARKS[usize::from(*byte)]) else {
            return &[];
        };
        match bytes[at] {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            _ => self.depth = self.depth.saturating_sub(1),
        }
        &bytes[at + 1..]
    }

    /// What is behind a text; nothing when it goes on. Texts are most of an answer, so what is passed
    /// over in them decides how long the whole takes.
    fn pass_text<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        if std::mem::take(&mut self.escaped) {
            rest = rest.get(1..).unwrap_or_default();
        }
        while let Some(at) = memchr2(b'"', b'\\', rest) {
            let mark = rest[at];
            rest = &rest[at + 1..];
            if mark == b'"' {
                self.in_text = false;
                return rest;
            }
            self.escaped = rest.is_empty();
            rest = rest.get(1..).unwrap_or_default();
        }
        &[]
    }
}

/// The bytes that change anything outside of texts: one look decides for each.
static MARKS: [bool; 256] = {
    let mut marks = [false; 256];
    let mut at = 0;
    while at < marks.len() {
        marks[at] = matches!(at as u8, b'"' | b'{' | b'[' | b'}' | b']');
        at += 1;
    }
    marks
};

fn not_json(rest: &[u8]) -> AppsError {
    let shown = rest.iter().take(SHOWN_BYTES_MAX).map(|byte| char::from(*byte));
    let printable = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
    AppsError::NotJson { near: shown.map(printable).collect() }
}

impl fmt::Display for AppsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppsError::Empty => f.write_str("the list of apps is empty bytes"),
            AppsError::CutShort => f.write_str("the list of apps was cut short"),
            AppsError::Compressed => {
                f.write_str("the list of apps is compressed, although that was not asked for")
            }
            AppsError::NotJson { near } => write!(f, "the list of apps is not JSON near {near:?}"),
            AppsError::NoApps => f.write_str("the answer holds no list of apps"),
        }
    }
}

impl std::error::Error for AppsError {}

#[cfg(test)]
mod tests;
