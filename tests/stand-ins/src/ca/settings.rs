//! How a CA behaves: what it offers, how long it takes, and its troubles.

use std::collections::BTreeSet;

use super::problem::Problem;

/// The knobs of one CA. The default validates and issues at once and has no troubles.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The port on which challenges are fetched: 80 for a real CA.
    pub http_port: u16,
    /// The lifetime of a certificate.
    pub lifetime_seconds: u32,
    /// So many of 100 signed requests are refused with `badNonce` although their nonce is good.
    pub bad_nonce_percent: u8,
    /// So many of 100 requests are answered 500; half of them are carried out nevertheless.
    pub server_error_percent: u8,
    /// Whether an answer 500 is an HTML page, as of a proxy in front.
    pub server_error_html: bool,
    /// Every reply waits so long.
    pub delay_ms: u64,
    /// From the answer to a challenge to the first connection.
    pub validation_delay_ms: u64,
    /// How many places ask for a challenge at once; all must be answered rightly.
    pub vantage_points: u8,
    /// Whether a challenge is `processing` while it is validated, or stays `pending`.
    pub challenge_processing: bool,
    /// So many replies show a finalized order as `processing`, the one to finalize included.
    pub processing_polls: u32,
    /// What is said about when to look again, at orders and authorizations that are not done.
    pub retry_after: RetryAfter,
    /// Whether the reply to a finalize request has the order's `Location`.
    pub finalize_location: bool,
    /// In so many of 100 cases an order takes over a valid authorization of the same account.
    pub authz_reuse_percent: u8,
    /// Whether an order that is not finalized yet is handed back for the same names.
    pub order_reuse: bool,
    /// Names that are never certified.
    pub rejected_names: BTreeSet<String>,
    /// Whether a refused order says by subproblems which names are to blame.
    pub subproblems: bool,
    /// So many nonces are remembered; older ones are unknown.
    pub nonces_max: usize,
    /// What is refused regardless; the first that fits is used up.
    pub refusals: Vec<Refusal>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            http_port: 80,
            lifetime_seconds: 90 * 24 * 60 * 60,
            bad_nonce_percent: 0,
            server_error_percent: 0,
            server_error_html: false,
            delay_ms: 0,
            validation_delay_ms: 0,
            vantage_points: 1,
            challenge_processing: false,
            processing_polls: 0,
            retry_after: RetryAfter::None,
            finalize_location: true,
            authz_reuse_percent: 0,
            order_reuse: false,
            rejected_names: BTreeSet::new(),
            subproblems: false,
            nonces_max: 10_000,
            refusals: Vec::new(),
        }
    }
}

/// What a `Retry-After` field looks like (RFC 9110 section 10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// There is none.
    None,
    /// So many seconds, as a number.
    Seconds(u32),
    /// So many seconds from now, as a date.
    Date(u32),
}

/// A refusal that a test orders in advance.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What the path starts with: `/new-order`.
    pub path: &'static str,
    /// What is answered.
    pub problem: Problem,
    /// How often; at 0 it is spent.
    pub times: u32,
}
