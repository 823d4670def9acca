//! A small HTTP/1.1 (RFC 9112) that all stand-ins share: the server's side with keep-alive,
//! pipelining and chunked requests, and just enough of the client's side to fetch a challenge.

mod chunked;
pub mod client;
mod message;
mod server;

pub use message::{Body, Reply, Request, Seen};
pub use server::Server;
