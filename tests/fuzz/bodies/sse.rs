//! Server-sent events: any split of a stream gives the same events, none is larger than its limit,
//! and events that are written out and read again are the same.

use marathon_acme::http::{DATA_BYTES_MAX, SseEvent, SseParser};

use super::pieces::pieces;

/// A stream from its first byte on.
pub fn run(bytes: &[u8]) {
    let whole = events(std::iter::once(bytes));
    assert_eq!(events(pieces(bytes)), whole, "another split, other events");
    for event in &whole {
        assert!(event.data.len() <= DATA_BYTES_MAX && !event.name.is_empty());
        assert!(!event.oversized || event.data.is_empty());
    }
    if !whole.is_empty() && !whole.iter().any(|event| event.oversized) {
        let written: String = whole.iter().map(written).collect();
        assert_eq!(events(std::iter::once(written.as_bytes())), whole, "{written:?}");
    }
}

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<SseEvent> {
    let (mut parser, mut events) = (SseParser::new(), Vec::new());
    for piece in pieces {
        parser.receive(piece, &mut events);
    }
    events
}

fn written(event: &SseEvent) -> String {
    let data: Vec<String> = event.data.split('\n').map(|line| format!("data: {line}\n")).collect();
    format!("event: {}\n{}\n", event.name, data.concat())
}
