//! A proxy's answer to CONNECT (RFC 9110 section 9.3.6): bytes in, its status out. 2xx of any kind is
//! a tunnel from the end of its head on, whatever its fields say of a body (RFC 9112 section 6.3).
//!
//! Never takes a byte that belongs to the tunnel, and never reads why a proxy refuses: the status has to
//! do, as the body is for a person with a browser.

use super::error::{HttpError, INTERIM_RESPONSES_MAX};
use super::head;

/// Reads the answer to one CONNECT.
#[derive(Debug, Default)]
pub struct Tunnel {
    buffer: Vec<u8>,
    interim: u32,
}

impl Tunnel {
    /// Waits for the answer.
    pub const fn new() -> Tunnel {
        Tunnel { buffer: Vec::new(), interim: 0 }
    }

    /// Takes in bytes; the status of the final answer once its head is there: 200 to 299 is a tunnel.
    /// Nothing may be fed after that.
    ///
    /// # Errors
    /// It is no HTTP, or something stands behind a head that makes a tunnel.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<u16>, HttpError> {
        self.buffer.extend_from_slice(bytes);
        while let Some(((_, head), length)) = head::parse_response(&self.buffer)? {
            match head.status {
                101 => return Err(HttpError::SwitchingProtocols),
                100..200 if self.interim == INTERIM_RESPONSES_MAX => {
                    return Err(HttpError::TooManyInterim);
                }
                100..200 => {
                    self.interim += 1;
                    self.buffer.drain(..length);
                }
                200..300 if length < self.buffer.len() => return Err(HttpError::BehindTunnel),
                status => return Ok(Some(status)),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::RESPONSE_HEAD_BYTES_MAX;
    use super::super::splits::prefixes;
    use super::*;

    fn answer(bytes: &[u8]) -> Result<Option<u16>, HttpError> {
        Tunnel::new().receive(bytes)
    }

    #[test]
    fn an_answer_is_read_whole_byte_by_byte_and_at_any_prefix() {
        let cases = [
            ("HTTP/1.1 200 Connection established\r\n\r\n", 200),
            ("HTTP/1.0 200 OK\r\nProxy-agent: x\r\n\r\n", 200),
            ("HTTP/1.1 204\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 204),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
                407,
            ),
            ("HTTP/1.0 502 Bad Gateway\r\n\r\n", 502),
            ("HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", 302),
        ];
        for (text, status) in cases {
            assert_eq!(answer(text.as_bytes()), Ok(Some(status)), "{text:?}");
            for prefix in prefixes(text.as_bytes()) {
                assert_eq!(answer(prefix), Ok(None), "{text:?}");
            }
            let mut tunnel = Tunnel::new();
            let (last, first) = text.as_bytes().split_last().unwrap();
            for byte in first {
                assert_eq!(tunnel.receive(&[*byte]), Ok(None), "{text:?}");
            }
            assert_eq!(tunnel.receive(&[*last]), Ok(Some(status)), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_may_have_a_body_and_a_tunnel_none() {
        assert_eq!(answer(b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nno!!"), Ok(Some(403)));
        for behind in ["x", "\x16\x03\x03", "HTTP/1.1 200 OK\r\n\r\n"] {
            let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{behind}");
            assert_eq!(answer(bytes.as_bytes()), Err(HttpError::BehindTunnel));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert_eq!(answer(b"SSH-2.0-OpenSSH_9.2\r\n"), Err(HttpError::Version));
        assert_eq!(answer(b"\x15\x03\x01\x00\x02\x02"), Err(HttpError::Version));
        assert_eq!(answer(b"HTTP/1.1 101 Switching\r\n\r\n"), Err(HttpError::SwitchingProtocols));
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(9);
        assert_eq!(answer(interim.as_bytes()), Err(HttpError::TooManyInterim));
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(RESPONSE_HEAD_BYTES_MAX));
        assert_eq!(
            answer(endless.as_bytes()),
            Err(HttpError::HeadTooLong(RESPONSE_HEAD_BYTES_MAX))
        );
    }
}
