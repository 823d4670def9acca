//! The ACME client (RFC 8555, RFC 9773), as requests in and responses out. Never touches a connection,
//! never decides when a certificate is wanted.

pub mod account;
pub mod call;
mod error_type;
mod evidence;
pub mod jws;
pub mod link;
pub mod nonces;
pub mod order;
mod problem;
pub mod renewal_info;
#[cfg(test)]
mod rfc_examples;
pub mod types;

pub use call::{CallError, Post, Signer};
pub use types::{Directory, Problem, ProblemKind};
