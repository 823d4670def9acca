//! A response of ours as bytes (RFC 9112 section 4). The codec writes the length and says when the
//! connection ends; nothing else here decides anything.

use super::message::Headers;
use super::request::is_field;

/// An answer of ours. `Content-Length` and `Connection` are written by the codec; a field that could
/// break out of its line is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerResponse {
    /// One of those below; any other is sent as 500.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Further fields.
    pub headers: Headers,
    /// The whole body; for HEAD only its length is sent.
    pub body: Vec<u8>,
}

impl ServerResponse {
    /// A body of that media type.
    pub fn new(
        status: u16,
        content_type: &'static str,
        body: impl Into<Vec<u8>>,
    ) -> ServerResponse {
        ServerResponse { status, content_type, headers: Headers::new(), body: body.into() }
    }

    /// Says the status's reason phrase as plain text.
    pub fn of_status(status: u16) -> ServerResponse {
        ServerResponse::new(status, "text/plain", format!("{}\n", reason(status)))
    }

    /// This response with one more field.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> ServerResponse {
        self.headers.push(name, value);
        self
    }
}

/// Whether the body of a response is sent with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// As it is.
    Whole,
    /// To HEAD: every field of the answer to GET, and no body (RFC 9110 section 9.3.2).
    LengthOnly,
}

/// Heads are seldom longer than this, in bytes.
const HEAD_BYTES_USUAL: usize = 256;
/// Fields that the codec writes, and nobody else.
const OURS: [&str; 4] = ["Content-Type", "Content-Length", "Connection", "Transfer-Encoding"];
/// The end of the head of a connection's last response.
const CLOSE: &str = "\r\nConnection: close\r\n\r\n";

/// The whole response, ready to send.
pub(crate) fn write_response(response: &ServerResponse, content: Content, close: bool) -> Vec<u8> {
    let body = if content == Content::Whole { response.body.as_slice() } else { &[] };
    let mut bytes = Vec::with_capacity(HEAD_BYTES_USUAL + body.len());
    let mut write = |parts: &[&str]| {
        parts.iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
    };
    write(&[status_line(response.status), "\r\nContent-Type: ", response.content_type]);
    for (name, value) in response.headers.iter() {
        if is_field(name, value) && !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            write(&["\r\n", name, ": ", value]);
        }
    }
    let length = response.body.len().to_string();
    write(&["\r\nContent-Length: ", &length, if close { CLOSE } else { "\r\n\r\n" }]);
    bytes.extend_from_slice(body);
    bytes
}

/// RFC 9110 section 15, for the statuses that this program answers with; another one is never a success.
const fn status_line(status: u16) -> &'static str {
    match status {
        200 => "HTTP/1.1 200 OK",
        400 => "HTTP/1.1 400 Bad Request",
        404 => "HTTP/1.1 404 Not Found",
        405 => "HTTP/1.1 405 Method Not Allowed",
        413 => "HTTP/1.1 413 Content Too Large",
        431 => "HTTP/1.1 431 Request Header Fields Too Large",
        501 => "HTTP/1.1 501 Not Implemented",
        503 => "HTTP/1.1 503 Service Unavailable",
        505 => "HTTP/1.1 505 HTTP Version Not Supported",
        _ => "HTTP/1.1 500 Internal Server Error",
    }
}

/// What stands behind the status in its line.
fn reason(status: u16) -> &'static str {
    status_line(status).get("HTTP/1.1 200 ".len()..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &ServerResponse, content: Content, close: bool) -> String {
        String::from_utf8(write_response(response, content, close)).unwrap()
    }

    #[test]
    fn the_answer_to_head_is_that_to_get_without_its_body() {
        let pong = ServerResponse::new(200, "application/json", "{\"message\": \"pong\"}");
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n";
        let get = format!("{head}{{\"message\": \"pong\"}}");
        assert_eq!(written(&pong, Content::Whole, false), get);
        assert_eq!(written(&pong, Content::LengthOnly, false), head);
    }

    #[test]
    fn a_field_that_breaks_out_or_is_the_codecs_own_is_left_out() {
        let response = ServerResponse::of_status(405)
            .with_header("Allow", "GET, HEAD")
            .with_header("X", "a\r\nY: b")
            .with_header("content-length", "9")
            .with_header("connection", "keep-alive");
        let expected = "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain\r\n\
                        Allow: GET, HEAD\r\nContent-Length: 19\r\nConnection: close\r\n\r\n\
                        Method Not Allowed\n";
        assert_eq!(written(&response, Content::Whole, true), expected);
    }
}
