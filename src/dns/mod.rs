//! The stub resolver (RFC 1034, RFC 1035): messages, configuration, and the lookup machine. No sockets.

pub mod config;
pub mod message;
pub mod resolver;

pub use resolver::{DnsError, LookupId, QueryId, Resolver, ResolverOutput};
