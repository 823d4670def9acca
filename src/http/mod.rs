//! HTTP/1.1 (RFC 9110, RFC 9112) and server-sent events as bytes in, messages out.
//! Never knows who is talked to, and never touches a socket.
//!
//! As a client: [`write_request`], then an [`Exchange`] reads the response; before that perhaps
//! [`write_connect`], and a [`Tunnel`] reads the proxy's answer. As a server: one [`ServerConnection`]
//! for each peer. [`SseParser`] reads the body of an event stream.

mod body;
mod error;
mod exchange;
mod head;
mod lenient;
mod message;
mod request;
mod response;
mod server;
#[cfg(test)]
mod splits;
mod sse;
mod target;
mod tunnel;

pub use error::{CHUNK_LINE_BYTES_MAX, FIELDS_MAX, INTERIM_RESPONSES_MAX, TRAILER_BYTES_MAX};
pub use error::{HttpError, RequestError};
pub use exchange::{Exchange, ExchangeEvent};
pub use head::{REQUEST_HEAD_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX};
pub use message::{Headers, Method, Request, Response, ResponseHead};
pub use request::{Reader, write_connect, write_request};
pub use response::ServerResponse;
pub use server::{ANSWERS_BYTES_MAX, PIPELINE_BYTES_MAX, REQUEST_BODY_BYTES_MAX};
pub use server::{ServerConnection, ServerEvent, ServerRequest};
pub use sse::{DATA_BYTES_MAX, SseEvent, SseParser};
pub use tunnel::Tunnel;
