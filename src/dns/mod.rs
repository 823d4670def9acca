//! The stub resolver (RFC 1034, RFC 1035): messages, configuration, and the lookup machine. No sockets.

pub mod config;
pub mod error;
pub mod message;
pub mod output;
pub mod resolver;
mod servers;

pub use error::{DnsError, Replies, Reply};
pub use output::{LookupId, QueryId, ResolverOutput};
pub use resolver::Resolver;
