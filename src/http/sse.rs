//! Server-sent events (WHATWG HTML, section 9.2 "Server-sent events"): a stream's bytes in, its
//! events out, whatever the split.
//!
//! Never holds more than [`DATA_BYTES_MAX`] of a line and as much of an event: what is longer is
//! dropped as it comes, and the event says so.

/// The longest line, and the most data of one event, in bytes.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

/// One event, as it is dispatched at an empty line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field; `message` where there is none.
    pub name: String,
    /// The `data` fields, joined by LF.
    pub data: String,
    /// A line or the data was longer than [`DATA_BYTES_MAX`]: `data` is empty, for it was dropped.
    pub oversized: bool,
}

/// Splits a stream into events. Comments, `id` and `retry` are read and ignored; an event whose
/// empty line has not come when the stream ends was never one.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    /// The line is longer than its limit; `line` holds its beginning.
    line_overflows: bool,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The first line, which may start with a byte order mark, is over.
    past_first_line: bool,
    name: String,
    /// Each `data` line with a LF behind it.
    data: String,
    oversized: bool,
}

impl SseParser {
    /// At the start of a stream.
    pub fn new() -> SseParser {
        SseParser::default()
    }

    /// Takes in the next bytes and adds the events that they complete.
    pub fn receive(&mut self, bytes: &[u8], events: &mut Vec<SseEvent>) {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            self.extend_line(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default());
            let Some(end) = end else { return };
            self.after_cr = rest.get(end) == Some(&b'\r');
            events.extend(self.end_line());
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }

    /// How many bytes of an event that is not whole it holds.
    pub fn bytes_held(&self) -> usize {
        self.line.len() + self.name.len() + self.data.len()
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        let room = DATA_BYTES_MAX - self.line.len();
        self.line.extend(bytes.iter().take(room));
        self.line_overflows |= bytes.len() > room;
    }

    /// The line is whole: an event, when it is the empty one behind some data.
    fn end_line(&mut self) -> Option<SseEvent> {
        let line = std::mem::take(&mut self.line);
        let overflows = std::mem::take(&mut self.line_overflows);
        let mut text = line.as_slice();
        if !std::mem::replace(&mut self.past_first_line, true) {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        let event = match text {
            [] => self.dispatch(),
            [b':', ..] => None,
            _ if overflows => {
                self.drop_data();
                None
            }
            _ => {
                self.field(text);
                None
            }
        };
        // The allocation serves the next line.
        self.line = line;
        self.line.clear();
        event
    }

    fn field(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match name {
            b"event" => self.name = value.into_owned(),
            b"data" if self.data.len() + value.len() >= DATA_BYTES_MAX => self.drop_data(),
            b"data" if !self.oversized => {
                self.data.push_str(&value);
                self.data.push('\n');
            }
            _ => {}
        }
    }

    fn drop_data(&mut self) {
        self.oversized = true;
        self.data = String::new();
    }

    /// An event without any `data` line is none.
    fn dispatch(&mut self) -> Option<SseEvent> {
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        let oversized = std::mem::take(&mut self.oversized);
        if data.pop().is_none() && !oversized {
            return None;
        }
        let name = if name.is_empty() { "message".into() } else { name };
        Some(SseEvent { name, data, oversized })
    }
}

#[cfg(test)]
mod tests {
    use super::super::splits::splits;
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<SseEvent> {
        let (mut parser, mut events) = (SseParser::new(), Vec::new());
        for piece in pieces {
            parser.receive(piece, &mut events);
        }
        events
    }

    fn event(name: &str, data: &str) -> SseEvent {
        SseEvent { name: name.into(), data: data.into(), oversized: false }
    }

    /// The events are the same at every split and with each of the three line ends.
    fn check(stream: &str, expected: &[SseEvent]) {
        for line_end in ["\n", "\r", "\r\n"] {
            for pieces in splits(stream.replace('\n', line_end).as_bytes()) {
                assert_eq!(read(&pieces), expected, "{pieces:?}");
            }
        }
    }

    /// The examples of the specification's section 9.2.6.
    #[test]
    fn examples_of_the_specification() {
        check("data: YHOO\ndata: +2\ndata: 10\n\n", &[event("message", "YHOO\n+2\n10")]);
        check(
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &[
                event("message", "first event"),
                event("message", "second event"),
                event("message", " third event"),
            ],
        );
        check("data\n\ndata\ndata\n\ndata:", &[event("message", ""), event("message", "\n")]);
        check("data:test\n\ndata: test\n\n", &[event("message", "test"), event("message", "test")]);
        check(
            "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
            &[event("add", "73857293"), event("remove", "2153")],
        );
    }

    /// Each as two writes: CR, then LF.
    #[test]
    fn marathons_heartbeat_is_no_event_and_ends_none_early() {
        let stream = b"event: a\r\ndata: {}\r\n\r\n\r\n\r\nevent: b\r\ndata: []\r\n\r\n\r\n";
        for pieces in splits(stream) {
            assert_eq!(read(&pieces), [event("a", "{}"), event("b", "[]")]);
        }
        assert_eq!(read(&[b"event: a\r", b"\n", b"data: 1\r", b"\n\r", b"\n"]), [event("a", "1")]);
    }

    #[test]
    fn a_byte_order_mark_is_dropped_at_the_start_only() {
        check(
            "\u{feff}data: a\n\n\u{feff}data: b\n\ndata: c\n\n",
            &[event("message", "a"), event("message", "c")],
        );
        check("\u{feff}\ndata: a\n\n", &[event("message", "a")]);
    }

    #[test]
    fn odd_lines() {
        check("\n\n:\n\nevent: lost\n\ndata: kept\n\n", &[event("message", "kept")]);
        check("Data: x\n data: x\nretry: 5\nx\ndata: a:b\nevent: e\n\n", &[event("e", "a:b")]);
        check("event: a\nevent: b\ndata: x\n\n", &[event("b", "x")]);
        check("data: x\nevent:\n\n", &[event("message", "x")]);
        check("data: cut off\n", &[]);
        for pieces in splits(b"data: \xff\xc3\xbc\n\n") {
            assert_eq!(read(&pieces), [event("message", "\u{fffd}\u{fc}")]);
        }
    }

    fn oversized(name: &str) -> SseEvent {
        SseEvent { oversized: true, ..event(name, "") }
    }

    #[test]
    fn what_is_too_long_is_dropped_and_its_event_says_so() {
        let long = "x".repeat(DATA_BYTES_MAX);
        let fits = "x".repeat(DATA_BYTES_MAX - "data: ".len());
        let half = "x".repeat(DATA_BYTES_MAX / 2);
        let after = "event: b\ndata: y\n\n";
        let cases = [
            (format!("event: a\ndata: {fits}\n\n"), event("a", &fits)),
            (format!("event: a\ndata: {fits}x\n\n"), oversized("a")),
            (format!("data: {long}\nevent: a\n\n"), oversized("a")),
            (format!("event: a\ndata: {half}\ndata: {half}\n\n"), oversized("a")),
            (format!("event: a\ndata: {half}\ndata: {half}\ndata: z\n\n"), oversized("a")),
            (format!("event: a\ndata: z\nevent: {long}\n\n"), oversized("a")),
            (format!("event: a\n: {long}\ndata: z\nx: {half}\n\n"), event("a", "z")),
        ];
        for (stream, expected) in cases {
            let stream = stream + after;
            for size in [1, 4096, stream.len()] {
                let pieces: Vec<_> = stream.as_bytes().chunks(size).collect();
                let events = read(&pieces);
                assert!(events == [expected.clone(), event("b", "y")], "{}", events.len());
            }
        }
    }

    #[test]
    fn memory_is_bounded_on_an_endless_line() {
        let (mut parser, mut events) = (SseParser::new(), Vec::new());
        parser.receive(b"event: a\ndata: ", &mut events);
        for _ in 0..1600 {
            parser.receive(&[b'x'; 64 * 1024], &mut events);
            assert!(parser.line.capacity() <= 2 * DATA_BYTES_MAX);
        }
        parser.receive(b"\r\n\r\n", &mut events);
        assert_eq!(events, [oversized("a")]);
    }
}
