//! The client's side, as far as a stand-in or a test needs it: reads a whole response from a
//! buffer.

use super::chunked::{self, Chunked};

/// More than any response that a stand-in asks for.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const HEADERS_MAX: usize = 64;

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// As sent.
    pub status: u16,
    /// As sent.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the first field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

/// What came instead of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads the response at the start of `bytes` and says how many bytes it took; `None` while it is
/// not whole. `ended` says that nothing more comes, which ends a body without a length.
///
/// # Errors
/// The bytes are no HTTP/1.x response.
pub fn response(bytes: &[u8], ended: bool) -> Result<Option<(Response, usize)>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if ended => return Err(Malformed),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed),
    };
    let headers = super::server::owned(head.headers);
    let status = head.code.unwrap_or_default();
    let mut response = Response { status, headers, body: Vec::new() };
    let rest = &bytes[start..];
    let length = if status == 204 || status == 304 {
        0
    } else if response.header("Transfer-Encoding").is_some() {
        match chunked::decode(rest, BODY_BYTES_MAX) {
            Chunked::Whole(body, length) => {
                response.body = body;
                return Ok(Some((response, start + length)));
            }
            Chunked::Partial if !ended => return Ok(None),
            Chunked::Partial | Chunked::Malformed => return Err(Malformed),
        }
    } else if let Some(length) = response.header("Content-Length") {
        length.parse().map_err(|_| Malformed)?
    } else if ended {
        rest.len()
    } else {
        return Ok(None);
    };
    match rest.get(..length) {
        Some(body) => {
            response.body = body.to_vec();
            Ok(Some((response, start + length)))
        }
        None if ended => Err(Malformed),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_response_by_byte_and_with_bytes_to_spare() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npongHTTP";
        for end in 0..bytes.len() - 4 {
            assert_eq!(response(&bytes[..end], false), Ok(None), "{end}");
            assert_eq!(response(&bytes[..end], true), Err(Malformed), "{end}");
        }
        let (found, length) = response(bytes, false).unwrap().unwrap();
        assert_eq!((found.status, &found.body[..], length), (200, &b"pong"[..], bytes.len() - 4));
    }

    #[test]
    fn a_response_without_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.1 200 OK\r\n\r\npong";
        assert_eq!(response(bytes, false), Ok(None));
        assert_eq!(response(bytes, true).unwrap().unwrap().0.body, b"pong");
        assert_eq!(response(b"SSH-2.0-x\r\n", false), Err(Malformed));
    }
}
