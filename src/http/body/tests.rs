//! Bodies of every framing, split everywhere.

use super::super::splits::{prefixes, splits};
use super::*;

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.push(name, value);
    }
    headers
}

/// Content, bytes used, and whether the body is complete.
fn read(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), HttpError> {
    let (mut reader, mut content, mut used) = (BodyReader::new(framing), Vec::new(), 0);
    for piece in pieces {
        used += reader.receive(piece, &mut content)?;
    }
    Ok((content, used, reader.is_done()))
}

fn check(framing: Framing, bytes: &[u8], content: &[u8]) {
    for spare in [&b""[..], b"H", b"\r\n0\r\n\r\n"] {
        let whole = [bytes, spare].concat();
        for pieces in splits(&whole) {
            assert_eq!(read(framing, &pieces), Ok((content.to_vec(), bytes.len(), true)));
        }
    }
    for prefix in prefixes(bytes) {
        let mut reader = BodyReader::new(framing);
        assert_eq!(reader.receive(prefix, &mut Vec::new()), Ok(prefix.len()));
        assert_eq!(reader.close(true), Err(HttpError::CutShort));
    }
}

#[test]
fn counted_bodies() {
    check(Framing::Length(5), b"hello", b"hello");
    assert_eq!(read(Framing::Length(0), &[b"x"]), Ok((vec![], 0, true)));
}

#[test]
fn chunked_bodies() {
    check(Framing::Chunked, b"0\r\n\r\n", b"");
    check(Framing::Chunked, b"5\r\nhello\r\n06\r\n world\r\n0\r\n\r\n", b"hello world");
    check(Framing::Chunked, b"A ;x=\"1;2\";y\r\n0123456789\r\n000;z\r\n\r\n", b"0123456789");
    check(Framing::Chunked, b"1\r\na\r\n0\r\nExpires: never\r\nX: y\r\n\r\n", b"a");
    check(Framing::Chunked, b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n");
}

#[test]
fn broken_chunks_are_errors_at_every_split() {
    let cases: [&[u8]; 21] = [
        b"\r\n",
        b";x\r\n",
        b"g\r\n",
        b"-1\r\na\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 1\r\na\r\n",
        b"1\na\r\n",
        b"1\r\rx\r\n",
        b"1\r;x\r\n",
        b"1;\rx\r\n",
        b"10000000000000000\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"0\r\n\n",
        b"1\x0b\r\n",
        b"1\x0c;x\r\n",
        b"0\r\nGET / HTTP/1.1\r\n",
        b"0\r\n: x\r\n",
        b"0\r\na b: x\r\n",
    ];
    for case in cases {
        for pieces in splits(case) {
            assert_eq!(read(Framing::Chunked, &pieces), Err(HttpError::Chunk), "{pieces:?}");
        }
    }
}

#[test]
fn chunk_lines_and_trailers_are_bounded() {
    let line = |length: usize| format!("1;{}\r\n", "x".repeat(length - 4)).into_bytes();
    assert!(read(Framing::Chunked, &[&line(CHUNK_LINE_BYTES_MAX)]).is_ok());
    let long = line(CHUNK_LINE_BYTES_MAX + 1);
    assert_eq!(read(Framing::Chunked, &[&long]), Err(HttpError::ChunkLineTooLong));
    let bytes: Vec<&[u8]> = long.chunks(1).collect();
    assert_eq!(read(Framing::Chunked, &bytes), Err(HttpError::ChunkLineTooLong));

    let trailers = |lines: usize| format!("0\r\n{}\r\n", "x: abc\r\n".repeat(lines)).into_bytes();
    let fitting = (TRAILER_BYTES_MAX - 2) / 8;
    assert!(read(Framing::Chunked, &[&trailers(fitting)]).is_ok_and(|(.., done)| done));
    let long = trailers(fitting + 1);
    assert_eq!(read(Framing::Chunked, &[&long]), Err(HttpError::TrailersTooLong));
}

#[test]
fn until_close_ends_with_the_connection_only() {
    let mut reader = BodyReader::new(Framing::UntilClose);
    let mut content = Vec::new();
    assert_eq!(reader.receive(b"0\r\n\r\n", &mut content), Ok(5));
    assert!(!reader.is_done());
    assert_eq!(reader.close(false), Err(HttpError::CutShort));
    assert_eq!(reader.close(true), Ok(()));
    assert!(reader.is_done());
    assert_eq!(content, b"0\r\n\r\n");
}

#[test]
fn framing_by_the_fields() {
    let request = |fields: &[_]| Framing::of_request(Version::Http11, &headers(fields));
    assert_eq!(request(&[]), Ok(Framing::Length(0)));
    assert_eq!(request(&[("content-length", "7")]), Ok(Framing::Length(7)));
    assert_eq!(request(&[("Transfer-Encoding", "Chunked")]), Ok(Framing::Chunked));

    let response = |method, status, fields: &[_]| {
        Framing::of_response(method, Version::Http11, status, &headers(fields))
    };
    assert_eq!(response(Method::Get, 200, &[]), Ok(Framing::UntilClose));
    let length = [("Content-Length", "7")];
    assert_eq!(response(Method::Get, 200, &length), Ok(Framing::Length(7)));
    assert_eq!(response(Method::Head, 200, &length), Ok(Framing::Length(0)));
    assert_eq!(response(Method::Get, 204, &length), Ok(Framing::Length(0)));
    assert_eq!(response(Method::Get, 304, &length), Ok(Framing::Length(0)));
    assert_eq!(response(Method::Head, 200, &[]), Ok(Framing::Length(0)));
}

#[test]
fn content_lengths_that_agree_are_one_and_others_are_errors() {
    let of = |values: &[&str]| {
        let fields: Vec<_> = values.iter().map(|value| ("Content-Length", *value)).collect();
        Framing::of_request(Version::Http11, &headers(&fields))
    };
    for agreeing in [&["42", "42"][..], &["42, 42"], &["42 ,\t042"]] {
        assert_eq!(of(agreeing), Ok(Framing::Length(42)));
    }
    assert_eq!(of(&["18446744073709551615"]), Ok(Framing::Length(u64::MAX)));
    let bad = ["", "+1", "-1", "0x1", "1 1", "1;1", "a", "42, 43", "42,", "18446744073709551616"];
    for value in bad {
        assert_eq!(of(&[value]), Err(HttpError::ContentLength), "{value:?}");
    }
    assert_eq!(of(&["1", "2"]), Err(HttpError::ContentLength));
}

#[test]
fn what_two_readers_could_frame_differently_is_an_error() {
    let te = ("Transfer-Encoding", "chunked");
    let both = headers(&[te, ("Content-Length", "3")]);
    let alone = headers(&[te]);
    let get = |version, headers: &Headers| Framing::of_response(Method::Get, version, 200, headers);
    let ambiguous = Err(HttpError::AmbiguousLength);
    assert_eq!(Framing::of_request(Version::Http11, &both), ambiguous);
    assert_eq!(get(Version::Http11, &both), ambiguous);
    assert_eq!(Framing::of_request(Version::Http10, &alone), ambiguous);
    assert_eq!(get(Version::Http10, &alone), ambiguous);

    let endless: [&[_]; 6] = [
        &[("Transfer-Encoding", "gzip")],
        &[("Transfer-Encoding", "chunked, identity")],
        &[("Transfer-Encoding", "chunked;x=y")],
        &[("Transfer-Encoding", "")],
        &[("Transfer-Encoding", "chunked,chunked")],
        &[te, te],
    ];
    for fields in endless {
        assert_eq!(Framing::of_request(Version::Http11, &headers(fields)), ambiguous);
        assert_eq!(get(Version::Http11, &headers(fields)), ambiguous);
    }
    let unknown = Err(HttpError::TransferCoding);
    let gzip = headers(&[("Transfer-Encoding", "gzip, chunked")]);
    assert_eq!(Framing::of_request(Version::Http11, &gzip), unknown);
    assert_eq!(get(Version::Http11, &gzip), unknown);
}
