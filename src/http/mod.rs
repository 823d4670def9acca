//! HTTP/1.1 (RFC 9110, RFC 9112) and server-sent events as bytes in, messages out.
//! Never knows who is talked to, and never touches a socket.

mod message;

pub use message::{Headers, Method, Request, Response, ResponseHead};
