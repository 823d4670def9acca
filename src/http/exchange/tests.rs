//! Answers as a peer may send them: whole, split, interim ones first, cut short, against the rules.

use super::super::head::RESPONSE_HEAD_BYTES_MAX;
use super::super::splits::{prefixes, splits};
use super::*;

/// What a response came to: status, body, whether the connection is reusable, bytes used.
type Outcome = (u16, Vec<u8>, Option<bool>, usize);

fn outcome(events: &[ExchangeEvent], used: usize) -> Outcome {
    let (mut status, mut body, mut reusable) = (0, Vec::new(), None);
    for event in events {
        assert_eq!(reusable, None, "nothing follows the end");
        match event {
            ExchangeEvent::Head(head) => status = head.status,
            ExchangeEvent::Body(piece) => body.extend_from_slice(piece),
            ExchangeEvent::End { reusable: it } => reusable = Some(*it),
        }
    }
    (status, body, reusable, used)
}

fn read(method: Method, pieces: &[&[u8]]) -> Result<Outcome, HttpError> {
    let (mut exchange, mut events, mut used) = (Exchange::new(method), Vec::new(), 0);
    for piece in pieces {
        used += exchange.receive(piece, &mut events)?;
    }
    Ok(outcome(&events, used))
}

/// The response is the same at every split, whatever follows it, and incomplete at every prefix.
fn check(method: Method, response: &str, status: u16, body: &str, reusable: bool) {
    let bytes = response.as_bytes();
    let expected = Ok((status, body.as_bytes().to_vec(), Some(reusable), bytes.len()));
    for spare in [&b""[..], b"\r", b"HTTP/1.1 500 no\r\n\r\n"] {
        for pieces in splits(&[bytes, spare].concat()) {
            assert_eq!(read(method, &pieces), expected, "{response:?}");
        }
    }
    for prefix in prefixes(bytes) {
        let (mut exchange, mut events) = (Exchange::new(method), Vec::new());
        assert_eq!(exchange.receive(prefix, &mut events), Ok(prefix.len()));
        assert_eq!(exchange.started(), !prefix.is_empty());
        assert_eq!(exchange.close(true, &mut events), Err(HttpError::CutShort), "{response:?}");
    }
}

#[test]
fn counted_chunked_and_empty_bodies_leave_the_connection_reusable() {
    check(Method::Get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true);
    check(Method::Post, "HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n", 500, "", true);
    check(
        Method::Get,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
        200,
        "abcde",
        true,
    );
}

#[test]
fn head_204_and_304_have_no_body_whatever_they_say() {
    check(Method::Head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, "", true);
    check(Method::Head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, "", true);
    check(Method::Head, "HTTP/1.1 200 OK\r\n\r\n", 200, "", true);
    check(Method::Get, "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true);
    check(Method::Get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", true);
}

#[test]
fn who_closes_is_not_used_again() {
    let one = "Content-Length: 1\r\n\r\na";
    let close = format!("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n{one}");
    check(Method::Get, &close, 200, "a", false);
    check(Method::Get, &format!("HTTP/1.0 200 OK\r\n{one}"), 200, "a", false);
    let old = format!("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n{one}");
    check(Method::Get, &old, 200, "a", false);
}

/// RFC 9110 section 15.2, as in a POST that was answered with 100 first.
#[test]
fn interim_responses_are_passed_over() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </s>; rel=preload\r\n\r\n";
    let end = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
    check(Method::Post, &format!("HTTP/1.1 100 Continue\r\n\r\n{interim}{end}"), 201, "{}", true);
    let many = |count: u32| [interim.repeat(count as usize).as_bytes(), end.as_bytes()].concat();
    assert!(read(Method::Post, &[&many(INTERIM_RESPONSES_MAX)]).is_ok());
    let flood = many(INTERIM_RESPONSES_MAX + 1);
    assert_eq!(read(Method::Post, &[&flood]), Err(HttpError::TooManyInterim));
}

#[test]
fn a_body_until_close_ends_in_order_or_not_at_all() {
    for bytes in [&b"HTTP/1.1 200 OK\r\n\r\nab"[..], b"HTTP/1.0 200 OK\r\n\r\nab"] {
        for pieces in splits(bytes) {
            for orderly in [true, false] {
                let (mut exchange, mut events) = (Exchange::new(Method::Get), Vec::new());
                let used: usize =
                    pieces.iter().map(|piece| exchange.receive(piece, &mut events).unwrap()).sum();
                let closed = exchange.close(orderly, &mut events);
                assert_eq!(closed, if orderly { Ok(()) } else { Err(HttpError::CutShort) });
                let expected = (200, b"ab".to_vec(), orderly.then_some(false), bytes.len());
                assert_eq!(outcome(&events, used), expected);
            }
        }
    }
}

#[test]
fn a_close_after_the_end_says_nothing() {
    let (mut exchange, mut events) = (Exchange::new(Method::Get), Vec::new());
    exchange.receive(b"HTTP/1.1 204 x\r\n\r\n", &mut events).unwrap();
    events.clear();
    assert_eq!(exchange.close(false, &mut events), Ok(()));
    assert_eq!(exchange.receive(b"more", &mut events), Ok(0));
    assert_eq!(events, []);
}

#[test]
fn what_breaks_the_protocol_ends_the_exchange() {
    let cases = [
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", HttpError::SwitchingProtocols),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            HttpError::ContentLength,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", HttpError::AmbiguousLength),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            HttpError::AmbiguousLength,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n", HttpError::Chunk),
        ("<html>\r\n", HttpError::Version),
    ];
    for (response, error) in cases {
        for pieces in splits(response.as_bytes()) {
            assert_eq!(read(Method::Get, &pieces), Err(error), "{response:?}");
        }
    }
    let (mut exchange, mut events) = (Exchange::new(Method::Get), Vec::new());
    assert!(exchange.receive(b"HTTP/3 200\r\n\r\n", &mut events).is_err());
    assert_eq!(exchange.receive(b"HTTP/1.1 200 OK\r\n\r\n", &mut events), Ok(0));
    assert_eq!(events, []);
}

#[test]
fn an_endless_head_is_refused() {
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(RESPONSE_HEAD_BYTES_MAX));
    let too_long = Err(HttpError::HeadTooLong(RESPONSE_HEAD_BYTES_MAX));
    assert_eq!(read(Method::Get, &[endless.as_bytes()]), too_long);
    let pieces: Vec<_> = endless.as_bytes().chunks(1000).collect();
    assert_eq!(read(Method::Get, &pieces), too_long);
}

#[test]
fn a_body_that_is_compressed_is_told_as_such() {
    let answer = |status: u16, coding: &str| {
        let text = format!(
            "HTTP/1.1 {status} x\r\nContent-Encoding: {coding}\r\nContent-Length: 1\r\n\r\nx"
        );
        read(Method::Get, &[text.as_bytes()])
    };
    for (coding, name) in [("gzip", "gzip"), (" BR", "br"), ("gzip, br", "of another kind")] {
        let error = answer(200, coding).unwrap_err();
        assert_eq!(error, HttpError::ContentCoding(name));
        assert!(error.to_string().ends_with(&format!("Content-Encoding {name}")), "{error}");
        // An error is told by its status, and what has no body has none that is compressed.
        assert_eq!(answer(502, coding).map(|it| it.0), Ok(502));
        let none =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: 0\r\n\r\n");
        assert!(read(Method::Get, &[none.as_bytes()]).is_ok());
    }
    assert!(answer(200, "identity").is_ok() && answer(200, "").is_ok());
}
