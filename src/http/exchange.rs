//! The client's side of one request on one connection: the response's bytes in, its parts out.
//!
//! `Head` → `Body` → `Done`; an interim response (1xx) goes from `Head` to `Head`.
//!
//! Never takes a byte more than its response has: what follows belongs to nobody, or to the next
//! exchange on the connection.

use super::body::{BodyReader, Framing};
use super::error::{HttpError, INTERIM_RESPONSES_MAX};
use super::head::{self, Version};
use super::message::{Headers, Method, ResponseHead};

/// Reads the response to one request.
#[derive(Debug)]
pub struct Exchange {
    method: Method,
    started: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Head { buffer: Vec<u8>, interim: u32 },
    Body { reader: BodyReader, keeps_alive: bool },
    Done,
}

/// A part of a response, in their order: one head, pieces of the body, one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeEvent {
    /// The final response's head.
    Head(ResponseHead),
    /// The next piece of the body, at least one byte.
    Body(Vec<u8>),
    /// The response is complete.
    End {
        /// Whether the connection can carry another request (RFC 9112 section 9.3).
        reusable: bool,
    },
}

impl Exchange {
    /// Waits for the response to a request of this method.
    pub const fn new(method: Method) -> Exchange {
        let state = State::Head { buffer: Vec::new(), interim: 0 };
        Exchange { method, started: false, state }
    }

    /// Whether any byte of the response was seen: if not, the peer may never have read the request.
    pub const fn started(&self) -> bool {
        self.started
    }

    /// Takes in `bytes` as far as they belong to this response, adds what they mean to `events`, and
    /// says how many they were.
    ///
    /// # Errors
    /// The peer broke the protocol: the exchange is over and the connection of no more use.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        events: &mut Vec<ExchangeEvent>,
    ) -> Result<usize, HttpError> {
        self.started |= !bytes.is_empty();
        let mut rest = bytes;
        while !rest.is_empty() && !matches!(self.state, State::Done) {
            let used = self.step(rest, events).inspect_err(|_| self.state = State::Done)?;
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    /// The connection ended; `orderly` when the peer finished it as its protocol wants (with TLS:
    /// `close_notify` came). A body without a length of its own ends so (RFC 9112 section 8).
    ///
    /// # Errors
    /// The response is not complete.
    pub fn close(
        &mut self,
        orderly: bool,
        events: &mut Vec<ExchangeEvent>,
    ) -> Result<(), HttpError> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => Ok(()),
            State::Head { .. } => Err(HttpError::CutShort),
            State::Body { mut reader, .. } => {
                reader.close(orderly)?;
                events.push(ExchangeEvent::End { reusable: false });
                Ok(())
            }
        }
    }

    fn step(&mut self, bytes: &[u8], events: &mut Vec<ExchangeEvent>) -> Result<usize, HttpError> {
        match &mut self.state {
            State::Done => Ok(0),
            State::Head { buffer, interim } => {
                let before = buffer.len();
                buffer.extend_from_slice(bytes);
                let Some(((version, head), length)) = head::parse_response(buffer)? else {
                    return Ok(bytes.len());
                };
                self.state = match head.status {
                    101 => return Err(HttpError::SwitchingProtocols),
                    100..200 if *interim == INTERIM_RESPONSES_MAX => {
                        return Err(HttpError::TooManyInterim);
                    }
                    100..200 => State::Head { buffer: Vec::new(), interim: *interim + 1 },
                    _ => final_head(self.method, version, head, events)?,
                };
                // The head was not whole before, so at least one of these bytes belongs to it.
                Ok(length.saturating_sub(before))
            }
            State::Body { reader, keeps_alive } => {
                let mut content = Vec::new();
                let used = reader.receive(bytes, &mut content)?;
                if !content.is_empty() {
                    events.push(ExchangeEvent::Body(content));
                }
                if reader.is_done() {
                    events.push(ExchangeEvent::End { reusable: *keeps_alive });
                    self.state = State::Done;
                }
                Ok(used)
            }
        }
    }
}

/// What follows a final response's head.
fn final_head(
    method: Method,
    version: Version,
    head: ResponseHead,
    events: &mut Vec<ExchangeEvent>,
) -> Result<State, HttpError> {
    let framing = Framing::of_response(method, version, head.status, &head.headers)?;
    let keeps_alive = version == Version::Http11 && !head.headers.has_token("connection", "close");
    let (status, coding) = (head.status, content_coding(&head.headers));
    events.push(ExchangeEvent::Head(head));
    let reader = BodyReader::new(framing);
    // What is no success is told by its status.
    if (200..300).contains(&status) && !reader.is_done() {
        coding.map_or(Ok(()), |name| Err(HttpError::ContentCoding(name)))?;
    }
    if reader.is_done() {
        events.push(ExchangeEvent::End { reusable: keeps_alive });
        return Ok(State::Done);
    }
    Ok(State::Body { reader, keeps_alive })
}

/// The coding of a body, where it has one: of the IANA registry by name.
fn content_coding(headers: &Headers) -> Option<&'static str> {
    let coding = headers.first("content-encoding")?.trim().to_ascii_lowercase();
    let known = ["gzip", "x-gzip", "br", "zstd", "deflate", "compress"];
    match coding.as_str() {
        "" | "identity" => None,
        coding => Some(known.into_iter().find(|it| *it == coding).unwrap_or("of another kind")),
    }
}

#[cfg(test)]
mod tests;
