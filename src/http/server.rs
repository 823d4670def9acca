//! The server's side of one connection: requests come out in their order, answers go in likewise.
//!
//! `Head` → `Body` → `Answering` → `Head` …; any of them → `Closed`. While `Answering`, the request is
//! in its owner's hands, who may take time; what the peer sends meanwhile waits, within a limit.
//!
//! Feed with [`ServerConnection::receive`] or [`ServerConnection::respond`], then drain
//! [`ServerConnection::poll`]. Never knows what a path means, and sets no time limit: its owner does,
//! by [`ServerConnection::awaits_peer`].

use std::collections::VecDeque;

use super::body::{BodyReader, Framing};
use super::error::HttpError;
use super::head::{self, RequestHead, Version};
use super::message::Headers;
use super::response::{Content, ServerResponse, write_response};
use super::target::origin_form;

/// The longest request body that is read (and dropped), in bytes.
pub const REQUEST_BODY_BYTES_MAX: usize = 16 * 1024;
/// The most bytes that wait while a request is answered. A peer that pipelines more gets this
/// answer, and no other.
pub const PIPELINE_BYTES_MAX: usize = 8 * 1024;
/// The most bytes of answers to what was received in one piece. Who pipelines so much that they are
/// more gets the answer that passes it, and no other.
pub const ANSWERS_BYTES_MAX: usize = 32 * 1024;

/// What proxies add to a request. marathon-lb always adds the first (`option forwardfor`).
const FORWARDED_FIELDS: [&str; 4] = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"];

/// RFC 9110 section 10.1.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A request whose body, if it had one, was read and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRequest {
    /// Any token; methods are case-sensitive.
    pub method: String,
    /// Path and query, starting with `/`, visible ASCII, not decoded; also `*` for OPTIONS and the
    /// authority for CONNECT (RFC 9112 section 3.2).
    pub target: String,
    /// The fields, in their order.
    pub headers: Headers,
}

impl ServerRequest {
    /// What is asked for: the target up to its first `?`, which is the path that HAProxy's rules see.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The rest of the target, without its `?`.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whether a proxy says that it has passed the request on: with `Forwarded` (RFC 7239), `Via`
    /// (RFC 9110 section 7.6.3), or the fields that were used before there was a standard.
    pub fn is_forwarded(&self) -> bool {
        FORWARDED_FIELDS.iter().any(|field| self.headers.first(field).is_some())
    }
}

/// What the owner of a connection has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// Answer this with [`ServerConnection::respond`]. No other comes before that.
    Request(ServerRequest),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Close the connection once everything is sent. Always the last.
    Close {
        /// The peer has announced that its last request is its last word, and has kept it so far.
        peer_is_done: bool,
    },
}

/// One connection of a client to us.
#[derive(Debug)]
pub struct ServerConnection {
    state: State,
    /// What came and was not read yet.
    buffer: Vec<u8>,
    /// Bytes of answers since something was received last.
    answered: usize,
    events: VecDeque<ServerEvent>,
}

#[derive(Debug)]
enum State {
    Head,
    Body { request: ServerRequest, answer: Answer, reader: BodyReader, bytes_left: usize },
    Answering(Answer),
    Closed,
}

/// How the request at hand has to be answered.
#[derive(Clone, Copy, Debug)]
struct Answer {
    content: Content,
    /// The peer has announced that it asks nothing more.
    is_last: bool,
    /// What came behind it was more than may wait, and is dropped.
    is_cut: bool,
}

impl Default for ServerConnection {
    fn default() -> ServerConnection {
        ServerConnection::new()
    }
}

impl ServerConnection {
    /// A connection on which nothing has come yet.
    pub const fn new() -> ServerConnection {
        ServerConnection {
            state: State::Head,
            buffer: Vec::new(),
            answered: 0,
            events: VecDeque::new(),
        }
    }

    /// Takes in what the peer sent.
    pub fn receive(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.answered = 0;
        self.buffer.extend_from_slice(bytes);
        self.advance();
        if self.buffer.len() > PIPELINE_BYTES_MAX
            && let State::Answering(answer) = &mut self.state
        {
            answer.is_cut = true;
            self.buffer = Vec::new();
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// Answers the request that [`ServerEvent::Request`] handed out; without one, nothing happens.
    pub fn respond(&mut self, response: &ServerResponse) {
        let State::Answering(Answer { content, is_last, is_cut }) = self.state else { return };
        // Its length is not known before it is written: it is reckoned by its body.
        let is_much = self.answered + response.body.len() > ANSWERS_BYTES_MAX;
        let close = is_last || is_cut || is_much;
        let bytes = write_response(response, content, close);
        self.answered += bytes.len();
        self.events.push_back(ServerEvent::Send(bytes));
        if close {
            self.close(is_last && !is_cut && self.buffer.is_empty());
        } else {
            self.state = State::Head;
            self.advance();
        }
    }

    /// Whether it is the peer's turn: no whole request is here. An owner gives a peer so much time
    /// for that and no more, and closes such connections first when there are too many.
    pub const fn awaits_peer(&self) -> bool {
        matches!(self.state, State::Head | State::Body { .. })
    }

    /// Whether a request has begun to come and is not whole.
    pub const fn is_mid_request(&self) -> bool {
        self.awaits_peer() && !(matches!(self.state, State::Head) && self.buffer.is_empty())
    }

    /// Reads on until a request is complete, or bytes are missing.
    fn advance(&mut self) {
        loop {
            let step = match &mut self.state {
                State::Head => self.read_head(),
                State::Body { .. } => self.read_body(),
                State::Answering(_) | State::Closed => return,
            };
            match step {
                Ok(Step::Again) => {}
                Ok(Step::NeedMore) => return,
                Err(refusal) => self.refuse(refusal),
            }
        }
    }

    fn read_head(&mut self) -> Result<Step, Refusal> {
        let Some((head, length)) = head::parse_request(&self.buffer)? else {
            return Ok(Step::NeedMore);
        };
        self.buffer.drain(..length);
        let framing = Framing::of_request(head.version, &head.headers)?;
        check_host(&head)?;
        if matches!(framing, Framing::Length(length) if length > REQUEST_BODY_BYTES_MAX as u64) {
            return Err(Refusal(413));
        }
        let reader = BodyReader::new(framing);
        // HTTP/1.0 knows no 100 (RFC 9110 section 10.1.1).
        let http11 = head.version == Version::Http11;
        if http11 && !reader.is_done() && head.headers.has_token("expect", "100-continue") {
            self.events.push_back(ServerEvent::Send(CONTINUE.to_vec()));
        }
        let content = if head.method == "HEAD" { Content::LengthOnly } else { Content::Whole };
        let is_last = !http11 || head.headers.has_token("connection", "close");
        let RequestHead { method, target, headers, .. } = head;
        let path = origin_form(&method, &target, headers.first("host")).ok_or(Refusal(400))?;
        // Most targets are in that form already.
        let shorter = (path.len() < target.len()).then(|| path.to_string());
        let target = shorter.unwrap_or(target);
        self.state = State::Body {
            request: ServerRequest { method, target, headers },
            answer: Answer { content, is_last, is_cut: false },
            reader,
            bytes_left: REQUEST_BODY_BYTES_MAX,
        };
        Ok(Step::Again)
    }

    fn read_body(&mut self) -> Result<Step, Refusal> {
        let State::Body { answer, reader, bytes_left, .. } = &mut self.state else {
            return Ok(Step::Again);
        };
        let mut content = Vec::new();
        let used = reader.receive(&self.buffer, &mut content)?;
        self.buffer.drain(..used);
        *bytes_left = bytes_left.checked_sub(content.len()).ok_or(Refusal(413))?;
        if !reader.is_done() {
            return Ok(Step::NeedMore);
        }
        let next = State::Answering(*answer);
        if let State::Body { request, .. } = std::mem::replace(&mut self.state, next) {
            self.events.push_back(ServerEvent::Request(request));
        }
        Ok(Step::Again)
    }

    /// Says what is wrong, and ends: where the next request starts, nobody knows any more.
    fn refuse(&mut self, Refusal(status): Refusal) {
        let bytes = write_response(&ServerResponse::of_status(status), Content::Whole, true);
        self.events.push_back(ServerEvent::Send(bytes));
        self.close(false);
    }

    fn close(&mut self, peer_is_done: bool) {
        self.events.push_back(ServerEvent::Close { peer_is_done });
        self.state = State::Closed;
        self.buffer = Vec::new();
    }
}

enum Step {
    Again,
    NeedMore,
}

/// The status with which a request is turned away and the connection ends.
struct Refusal(u16);

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Refusal {
        Refusal(match error {
            HttpError::HeadTooLong(_) | HttpError::TooManyFields => 431,
            HttpError::TransferCoding => 501,
            HttpError::Version => 505,
            _ => 400,
        })
    }
}

/// RFC 9112 section 3.2: exactly one `Host`, which HTTP/1.0 may leave out, and a valid one.
fn check_host(head: &RequestHead) -> Result<(), Refusal> {
    // RFC 3986 section 3.2.2, with the port; it may be empty.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte);
    let mut hosts = head.headers.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.bytes().all(fits) => Ok(()),
        (None, _) if head.version == Version::Http10 => Ok(()),
        _ => Err(Refusal(400)),
    }
}

#[cfg(test)]
mod tests;
