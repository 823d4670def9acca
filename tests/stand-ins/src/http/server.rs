//! The server's side of HTTP/1.1 for many connections: bytes in, whole requests out, replies in,
//! bytes out.
//!
//! A connection goes Reading → Answering → Reading …, or from Answering to Streaming, or ends. The
//! next request of a pipeline is handed out only when the one before it is answered, so replies
//! cannot overtake each other.

use std::collections::{BTreeMap, VecDeque};

use super::chunked::{self, Chunked};
use super::message::{Body, Reply, Request};
use crate::peer::Action;

const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 1024 * 1024;
const HEADERS_MAX: usize = 64;

/// All connections of one server.
#[derive(Debug, Default)]
pub struct Server {
    conns: BTreeMap<u64, Conn>,
    requests: VecDeque<Request>,
    /// Replies that wait for their time, by that time and then in their order.
    delayed: BTreeMap<(u64, u64), (u64, Reply)>,
    delayed_count: u64,
    actions: VecDeque<Action>,
    /// For each connection that there ever was, how many bytes had been sent after each reply.
    reply_ends: BTreeMap<u64, Vec<u64>>,
}

#[derive(Debug)]
struct Conn {
    buffer: Vec<u8>,
    state: State,
    /// `100 Continue` was sent for the request that is being read.
    continued: bool,
}

#[derive(Debug)]
enum State {
    /// A request may come.
    Reading,
    /// A request was handed out.
    Answering { head_only: bool, last: bool },
    /// The reply's body goes on until the connection ends.
    Streaming,
}

/// What the buffer holds.
enum Parsed {
    Request { request: Request, length: usize, last: bool },
    NeedsMore,
    NeedsContinue,
    Bad(u16, &'static str),
}

impl Server {
    /// A client connected.
    pub fn accepted(&mut self, conn: u64) {
        let new = Conn { buffer: Vec::new(), state: State::Reading, continued: false };
        self.conns.insert(conn, new);
    }

    /// A client sent something.
    pub fn received(&mut self, conn: u64, bytes: &[u8]) {
        if let Some(found) = self.conns.get_mut(&conn) {
            found.buffer.extend_from_slice(bytes);
            self.read(conn);
        }
    }

    /// A client is gone; its late replies go nowhere.
    pub fn closed(&mut self, conn: u64) {
        self.conns.remove(&conn);
        self.requests.retain(|request| request.conn != conn);
    }

    /// The next whole request. Each must be answered by [`Server::reply`] or the like.
    pub fn next_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// Answers the request of a connection.
    pub fn reply(&mut self, conn: u64, reply: &Reply) {
        let Some(found) = self.conns.get_mut(&conn) else { return };
        let State::Answering { head_only, last } = found.state else { return };
        let ends_here = matches!(reply.body, Body::Cut(..) | Body::UntilClose(_));
        let mut pieces = vec![reply_bytes(reply, head_only, last)];
        if let (Body::UntilClose(body), false) = (&reply.body, head_only) {
            pieces.extend_from_slice(body);
        }
        let length: usize = pieces.iter().map(Vec::len).sum();
        let ends = self.reply_ends.entry(conn).or_default();
        ends.push(ends.last().copied().unwrap_or_default() + length as u64);
        pieces.into_iter().for_each(|piece| self.send(conn, piece));
        if last || ends_here {
            self.close(conn);
        } else if let Some(found) = self.conns.get_mut(&conn) {
            found.state = State::Reading;
            self.read(conn);
        }
    }

    /// Answers the request of a connection, but the connection ends after so many bytes of the
    /// answer, its head included.
    pub fn reply_cut(&mut self, conn: u64, reply: &Reply, length: usize) {
        let Some(found) = self.conns.get(&conn) else { return };
        let State::Answering { head_only, last } = found.state else { return };
        let mut bytes = reply_bytes(reply, head_only, last);
        bytes.truncate(length);
        self.send(conn, bytes);
        self.close(conn);
    }

    /// How many bytes had been sent on a connection after each of its replies; what was sent
    /// otherwise does not count.
    pub fn reply_ends(&self, conn: u64) -> &[u64] {
        self.reply_ends.get(&conn).map_or(&[], Vec::as_slice)
    }

    /// Answers the request of a connection, but only at `due_ms` of the monotonic clock.
    pub fn reply_at(&mut self, due_ms: u64, conn: u64, reply: Reply) {
        self.delayed_count += 1;
        self.delayed.insert((due_ms, self.delayed_count), (conn, reply));
    }

    /// Answers with a head alone; the body is whatever [`Server::send`] sends until
    /// [`Server::close`]. The head must say `Connection: close` itself.
    pub fn stream(&mut self, conn: u64, reply: &Reply) {
        if let Some(found) = self.conns.get_mut(&conn) {
            found.state = State::Streaming;
            self.send(conn, format!("{}\r\n", reply.head()).into_bytes());
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, conn: u64, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        if self.conns.contains_key(&conn) && !bytes.is_empty() {
            self.actions.push_back(Action::Send { conn, bytes });
        }
    }

    /// Ends a connection.
    pub fn close(&mut self, conn: u64) {
        if self.conns.remove(&conn).is_some() {
            self.actions.push_back(Action::Close { conn });
        }
    }

    /// Sends the replies whose time has come.
    pub fn timeout(&mut self, now_ms: u64) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now_ms {
                return;
            }
            let (conn, reply) = entry.remove();
            self.reply(conn, &reply);
        }
    }

    /// When the next delayed reply is due.
    pub fn next_timeout(&self) -> Option<u64> {
        self.delayed.keys().next().map(|(due_ms, _)| *due_ms)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes the next request out of the buffer, if it is whole and the one before is answered.
    fn read(&mut self, conn: u64) {
        let Some(found) = self.conns.get_mut(&conn) else { return };
        if !matches!(found.state, State::Reading) {
            return;
        }
        match parse(conn, &found.buffer) {
            Parsed::Request { request, length, last } => {
                found.buffer.drain(..length);
                found.state = State::Answering { head_only: request.method == "HEAD", last };
                found.continued = false;
                self.requests.push_back(request);
            }
            Parsed::NeedsMore => {}
            Parsed::NeedsContinue => {
                if !found.continued {
                    found.continued = true;
                    self.send(conn, &b"HTTP/1.1 100 Continue\r\n\r\n"[..]);
                }
            }
            Parsed::Bad(status, message) => {
                found.state = State::Answering { head_only: false, last: true };
                self.reply(conn, &Reply::new(status, "text/plain", message));
            }
        }
    }
}

fn parse(conn: u64, bytes: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Parsed::NeedsMore,
        Ok(_) => return Parsed::Bad(431, "head too large"),
        Err(_) => return Parsed::Bad(400, "not an HTTP request"),
    };
    let mut request = Request {
        conn,
        method: head.method.unwrap_or_default().to_string(),
        target: head.path.unwrap_or_default().to_string(),
        headers: owned(head.headers),
        body: Vec::new(),
    };
    let old = head.version == Some(0);
    if !old && request.header_all("Host").count() != 1 {
        return Parsed::Bad(400, "exactly one Host is needed (RFC 9112 section 3.2)");
    }
    let close = request.header("Connection").is_some_and(|value| {
        value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close"))
    });
    let rest = &bytes[start..];
    let length = match body_length(&request, rest) {
        Ok(BodyLength::Known(body, length)) => {
            request.body = body;
            length
        }
        Ok(BodyLength::NeedsMore) => {
            let waits = request.header("Expect").is_some_and(|value| value == "100-continue");
            let none_yet = rest.is_empty();
            return if waits && none_yet { Parsed::NeedsContinue } else { Parsed::NeedsMore };
        }
        Err((status, message)) => return Parsed::Bad(status, message),
    };
    Parsed::Request { request, length: start + length, last: old || close }
}

enum BodyLength {
    /// The body, and the bytes that it took.
    Known(Vec<u8>, usize),
    NeedsMore,
}

fn body_length(request: &Request, rest: &[u8]) -> Result<BodyLength, (u16, &'static str)> {
    let counted = request.header("Content-Length");
    if let Some(coding) = request.header("Transfer-Encoding") {
        if counted.is_some() || !coding.eq_ignore_ascii_case("chunked") {
            return Err((400, "one framing, and chunked only (RFC 9112 section 6.1)"));
        }
        return match chunked::decode(rest, BODY_BYTES_MAX) {
            Chunked::Whole(body, length) => Ok(BodyLength::Known(body, length)),
            Chunked::Partial => Ok(BodyLength::NeedsMore),
            Chunked::Malformed => Err((400, "malformed chunks")),
        };
    }
    let Some(counted) = counted else {
        return match request.method.as_str() {
            "POST" | "PUT" | "PATCH" => Err((411, "a length is needed")),
            _ => Ok(BodyLength::Known(Vec::new(), 0)),
        };
    };
    let digits = !counted.is_empty() && counted.bytes().all(|byte| byte.is_ascii_digit());
    let length = counted.parse::<usize>().ok().filter(|_| digits);
    let length = length.ok_or((400, "Content-Length is not a number"))?;
    if length > BODY_BYTES_MAX {
        return Err((413, "body too large"));
    }
    Ok(match rest.get(..length) {
        Some(body) => BodyLength::Known(body.to_vec(), length),
        None => BodyLength::NeedsMore,
    })
}

/// The fields as text; bytes that are no UTF-8 become U+FFFD.
pub(super) fn owned(fields: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_string();
    fields.iter().map(|field| (field.name.to_string(), text(field.value))).collect()
}

fn reply_bytes(reply: &Reply, head_only: bool, last: bool) -> Vec<u8> {
    let mut head = reply.head();
    if last {
        head.push_str("Connection: close\r\n");
    }
    match &reply.body {
        Body::Counted(body) | Body::Cut(body, _) => {
            head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        }
        Body::Chunked(..) => head.push_str("Transfer-Encoding: chunked\r\n\r\n"),
        Body::UntilClose(_) | Body::None => head.push_str("\r\n"),
    }
    let mut bytes = head.into_bytes();
    if head_only {
        return bytes;
    }
    match &reply.body {
        Body::Counted(body) => bytes.extend_from_slice(body),
        Body::Cut(body, length) => bytes.extend(body.iter().take(*length)),
        Body::Chunked(body, chunk_bytes) => {
            for chunk in body.chunks((*chunk_bytes).max(1)) {
                bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        // The pieces come behind.
        Body::UntilClose(_) | Body::None => {}
    }
    bytes
}

#[cfg(test)]
mod tests;
