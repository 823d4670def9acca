//! Message heads (RFC 9112 sections 2 to 5): bytes in, start line and fields out.
//! Reads nothing behind the empty line, and keeps nothing between two calls.

use std::mem::MaybeUninit;

use super::error::{FIELDS_MAX, HttpError};
use super::lenient::{Normalized, normalize};
use super::message::{Headers, ResponseHead};

/// The longest request head read, in bytes, its empty line included.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;
/// The longest response head read, in bytes. CAs send long `Link` and policy fields.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 32 * 1024;

/// The two versions that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

/// A request's start line and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    /// As it stands in the request line; visible ASCII.
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) headers: Headers,
}

/// What was read, and how many bytes of the input it took.
pub(crate) type Parsed<T> = (T, usize);

/// Reads the request head at the start of `bytes`; `None` while its end has not come.
pub(crate) fn parse_request(bytes: &[u8]) -> Result<Option<Parsed<RequestHead>>, HttpError> {
    let mut fields = [MaybeUninit::uninit(); FIELDS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let bounded = bounded(bytes, REQUEST_HEAD_BYTES_MAX);
    let parsed = head.parse_with_uninit_headers(bounded, &mut fields)?;
    let Some(length) = within(bounded, REQUEST_HEAD_BYTES_MAX, parsed)? else { return Ok(None) };
    if has_lone_line_feed(bytes.get(..length).unwrap_or(bytes)) {
        return Err(HttpError::Malformed(httparse::Error::NewLine));
    }
    let target = head.path.unwrap_or_default();
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(HttpError::Malformed(httparse::Error::Token));
    }
    let request = RequestHead {
        method: head.method.unwrap_or_default().into(),
        target: target.into(),
        version: version(head.version),
        headers: headers(head.headers),
    };
    Ok(Some((request, length)))
}

/// Reads the response head at the start of `bytes`; `None` while its end has not come. What other clients
/// tolerate in it is tolerated.
pub(crate) fn parse_response(
    bytes: &[u8],
) -> Result<Option<Parsed<(Version, ResponseHead)>>, HttpError> {
    let bounded = bounded(bytes, RESPONSE_HEAD_BYTES_MAX);
    use httparse::Error::{HeaderName, HeaderValue, NewLine};
    match parse_strictly(bounded) {
        Err(HttpError::Malformed(HeaderName | HeaderValue | NewLine)) => {}
        other => return other,
    }
    let Some(Normalized { head, length, skipped }) = normalize(bounded)? else {
        return match bounded.len() {
            RESPONSE_HEAD_BYTES_MAX => Err(HttpError::HeadTooLong(RESPONSE_HEAD_BYTES_MAX)),
            _ => Ok(None),
        };
    };
    let Some(((version, mut response), _)) = parse_strictly(&head)? else { return Ok(None) };
    response.headers.skip(skipped);
    Ok(Some(((version, response), length)))
}

fn parse_strictly(bounded: &[u8]) -> Result<Option<Parsed<(Version, ResponseHead)>>, HttpError> {
    let mut fields = [MaybeUninit::uninit(); FIELDS_MAX];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut head,
        bounded,
        &mut fields,
    )?;
    let Some(length) = within(bounded, RESPONSE_HEAD_BYTES_MAX, parsed)? else { return Ok(None) };
    let status = head.code.unwrap_or_default();
    if status < 100 {
        return Err(HttpError::Malformed(httparse::Error::Status));
    }
    let response = ResponseHead { status, headers: headers(head.headers) };
    Ok(Some(((version(head.version), response), length)))
}

/// Whether a line ends without CR. RFC 9112 section 2.2 allows to take it for an end, and not every
/// reader does: of two that disagree, one sees a field where the other sees two.
fn has_lone_line_feed(head: &[u8]) -> bool {
    let before = |at: usize| at.checked_sub(1).and_then(|at| head.get(at));
    memchr::memchr_iter(b'\n', head).any(|at| before(at) != Some(&b'\r'))
}

/// At most `limit` bytes are parsed, so that a head never grows past it however it comes in.
fn bounded(bytes: &[u8], limit: usize) -> &[u8] {
    bytes.get(..limit).unwrap_or(bytes)
}

/// The length of a whole head; one that fills its limit without an end is too long.
fn within(
    bounded: &[u8],
    limit: usize,
    parsed: httparse::Status<usize>,
) -> Result<Option<usize>, HttpError> {
    match parsed {
        httparse::Status::Complete(length) => Ok(Some(length)),
        httparse::Status::Partial if bounded.len() >= limit => Err(HttpError::HeadTooLong(limit)),
        httparse::Status::Partial => Ok(None),
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(1) { Version::Http11 } else { Version::Http10 }
}

/// Values that are not UTF-8 keep their ASCII part (RFC 9110 section 5.5: obs-text is opaque).
fn headers(fields: &[httparse::Header<'_>]) -> Headers {
    let bytes = fields.iter().map(|field| field.name.len() + field.value.len()).sum();
    let mut headers = Headers::with_capacity(fields.len(), bytes);
    for field in fields {
        headers.push(field.name, &String::from_utf8_lossy(field.value));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::super::splits::prefixes;
    use super::*;

    fn request(bytes: &[u8]) -> Result<Option<Parsed<RequestHead>>, HttpError> {
        parse_request(bytes)
    }

    /// RFC 9112 section 3, with a body's first byte behind it.
    #[test]
    fn a_request_is_read_at_any_prefix_and_with_bytes_to_spare() {
        let bytes = b"GET /where?q=now HTTP/1.1\r\nHost: www.example.com\r\nX:\t a b \r\n\r\n";
        for prefix in prefixes(bytes) {
            assert_eq!(request(prefix), Ok(None));
        }
        for spare in ["", "G", "\r\n\r\n"] {
            let whole = [bytes, spare.as_bytes()].concat();
            let (head, length) = request(&whole).unwrap().unwrap();
            assert_eq!(length, bytes.len());
            assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/where?q=now"));
            assert_eq!(head.version, Version::Http11);
            assert_eq!(head.headers.first("host"), Some("www.example.com"));
            assert_eq!(head.headers.first("x"), Some("a b"));
        }
    }

    #[test]
    fn a_response_is_read_at_any_prefix_and_with_bytes_to_spare() {
        let bytes = b"HTTP/1.0 404 \r\nServer: x\xff\r\nEmpty:\r\n\r\n";
        for prefix in prefixes(bytes) {
            assert_eq!(parse_response(prefix), Ok(None));
        }
        let whole = [&bytes[..], b"body"].concat();
        let ((version, head), length) = parse_response(&whole).unwrap().unwrap();
        assert_eq!((version, head.status, length), (Version::Http10, 404, bytes.len()));
        assert_eq!(head.headers.first("server"), Some("x\u{fffd}"));
        assert_eq!(head.headers.first("empty"), Some(""));
    }

    #[test]
    fn malformed_requests_are_refused() {
        let cases = [
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET / http/1.1\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1 \r\n\r\n",
            "GET /\r\n\r\n",
            "G\u{0}T / HTTP/1.1\r\n\r\n",
            "GET /\u{fc} HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\nX: a\n\n",
            "GET / HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\r\n\n",
            "\nGET / HTTP/1.1\r\n\r\n",
        ];
        for case in cases {
            assert!(request(case.as_bytes()).is_err(), "{case:?}");
        }
    }

    #[test]
    fn malformed_responses_are_refused() {
        let cases = [
            "HTTP/2 200\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 099 x\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n Transfer-Encoding: chunked\r\n\r\n",
        ];
        for case in cases {
            assert!(parse_response(case.as_bytes()).is_err(), "{case:?}");
        }
        assert_eq!(parse_response(b"\x15\x03\x01\x00\x02\x02"), Err(HttpError::Version));
    }

    #[test]
    fn what_other_clients_tolerate_in_a_response_is_tolerated() {
        let bytes = b"HTTP/1.1 200 OK\r\nX: a\r\n\tfolded\r\nY Z: b\r\nLink: <c>\r\n\r\n";
        for prefix in prefixes(bytes) {
            assert_eq!(parse_response(prefix), Ok(None));
        }
        let whole = [&bytes[..], b"body"].concat();
        let ((_, head), length) = parse_response(&whole).unwrap().unwrap();
        assert_eq!((head.status, length), (200, bytes.len()));
        let fields: Vec<_> = head.headers.iter().collect();
        assert_eq!(fields, [("X", "a folded"), ("Link", "<c>")]);
        assert_eq!(head.headers.skipped(), ["Y Z"]);
        let mut endless = b"HTTP/1.1 200 OK\r\nY Z: ".to_vec();
        endless.resize(RESPONSE_HEAD_BYTES_MAX, b'a');
        let too_long = Err(HttpError::HeadTooLong(RESPONSE_HEAD_BYTES_MAX));
        assert_eq!(parse_response(&endless), too_long);
        let many = "a: b\r\n".repeat(FIELDS_MAX + 1);
        for more in ["", "no colon\r\n"] {
            let many = format!("HTTP/1.1 200 OK\r\n{more}{many}\r\n");
            assert_eq!(parse_response(many.as_bytes()), Err(HttpError::TooManyFields));
        }
    }

    #[test]
    fn a_head_ends_within_its_limit() {
        let fill = |limit: usize| {
            let empty = "GET / HTTP/1.1\r\nX: \r\n\r\n";
            empty.replace("X: ", &format!("X: {}", "a".repeat(limit - empty.len())))
        };
        let longest = fill(REQUEST_HEAD_BYTES_MAX);
        assert_eq!(request(longest.as_bytes()).unwrap().unwrap().1, REQUEST_HEAD_BYTES_MAX);
        let too_long = Err(HttpError::HeadTooLong(REQUEST_HEAD_BYTES_MAX));
        assert_eq!(request(fill(REQUEST_HEAD_BYTES_MAX + 1).as_bytes()), too_long);
        let endless = vec![b'a'; REQUEST_HEAD_BYTES_MAX - 1];
        assert_eq!(request(&endless), Ok(None));
        assert_eq!(request(&[endless, b"a".to_vec()].concat()), too_long);
    }

    #[test]
    fn fields_are_counted() {
        let with = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(request(with(FIELDS_MAX).as_bytes()).unwrap().is_some());
        assert_eq!(request(with(FIELDS_MAX + 1).as_bytes()), Err(HttpError::TooManyFields));
    }
}
