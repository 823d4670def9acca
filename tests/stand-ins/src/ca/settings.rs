//! How a CA behaves: what it offers, how long it takes, and its troubles.

use std::collections::{BTreeMap, BTreeSet};

use super::faults::Fault;
use super::limits::Limits;
use super::problem::Problem;
use crate::date::http_date;
use crate::peer::Time;

/// The knobs of one CA. The default validates and issues at once and has no troubles; it offers
/// nothing beyond RFC 8555.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The port on which challenges are fetched: 80 for a real CA.
    pub http_port: u16,
    /// The lifetime of a certificate that is ordered without a profile.
    pub lifetime_seconds: u32,
    /// So many names an order without a profile may have.
    pub names_max: usize,
    /// So many of 100 signed requests are refused with `badNonce` although their nonce is good.
    pub bad_nonce_percent: u8,
    /// So many of 100 requests are answered 500; half of them are carried out nevertheless.
    pub server_error_percent: u8,
    /// Whether an answer 500 is an HTML page, as of a proxy in front.
    pub server_error_html: bool,
    /// While it is set, a proxy in front answers every request: 503, an HTML page, no nonce.
    pub unavailable: Option<RetryAfter>,
    /// Every reply waits so long.
    pub delay_ms: u64,
    /// How far its clock is ahead, by the `Date` of its replies.
    pub date_ahead_ms: i64,
    /// From the answer to a challenge to the first connection.
    pub validation_delay_ms: u64,
    /// How many places ask for a challenge at once; all must be answered rightly.
    pub vantage_points: u8,
    /// Whether a challenge is `processing` while it is validated, or stays `pending`.
    pub challenge_processing: bool,
    /// So many replies show a finalized order as `processing`, the one to finalize included.
    pub processing_polls: u32,
    /// Whether a finalized order stays `processing`, however often it is looked at.
    pub never_done: bool,
    /// Names whose orders stay `processing` likewise.
    pub hanging_names: BTreeSet<String>,
    /// What is said about when to look again, at orders and authorizations that are not done.
    pub retry_after: RetryAfter,
    /// Whether the reply to a finalize request has the order's `Location`.
    pub finalize_location: bool,
    /// Whether a chain has no length of its own and ends with its connection, each certificate in a
    /// piece of its own: only TLS can say then whether it is whole.
    pub chain_until_close: bool,
    /// In so many of 100 cases an order takes over a valid authorization of the same account.
    pub authz_reuse_percent: u8,
    /// Whether an order that is not finalized yet is handed back for the same names.
    pub order_reuse: bool,
    /// Names that are never certified.
    pub rejected_names: BTreeSet<String>,
    /// Names whose validation fails with `connection`, without a fetch.
    pub failing_names: BTreeSet<String>,
    /// Names whose CAA record turns out to forbid it when an order is finalized.
    pub caa_names: BTreeSet<String>,
    /// Names for which no account may order, until somebody lifts the pause.
    pub paused_names: BTreeSet<String>,
    /// Whether a refusal says by subproblems which names are to blame.
    pub subproblems: bool,
    /// What may be done how often.
    pub limits: Limits,
    /// What an order may ask for by name; none means that there are no profiles.
    pub profiles: BTreeMap<String, Profile>,
    /// So many more chains are offered for each certificate.
    pub alternates: u8,
    /// Renewal information (RFC 9773), where it is offered.
    pub renewal_info: Option<RenewalInfo>,
    /// Whether every order with `replaces` is refused as malformed.
    pub refuse_replaces: bool,
    /// External accounts: the MAC key of each key identifier.
    pub external_accounts: BTreeMap<String, Vec<u8>>,
    /// Whether a new account must be bound to an external one.
    pub external_account_required: bool,
    /// So many nonces are remembered; older ones are unknown.
    pub nonces_max: usize,
    /// What is refused regardless; the first that fits is used up.
    pub refusals: Vec<Refusal>,
    /// What goes wrong at which step.
    pub faults: Vec<Fault>,
    /// What stands before the paths of the resources that the directory names; they are nowhere
    /// else.
    pub prefix: &'static str,
    /// Whether an account's object shows its contact; Let's Encrypt keeps none.
    pub shows_contact: bool,
    /// Whether requests are remembered; a long run may do without.
    pub keep_seen: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            http_port: 80,
            lifetime_seconds: 90 * 24 * 60 * 60,
            names_max: 100,
            bad_nonce_percent: 0,
            server_error_percent: 0,
            server_error_html: false,
            unavailable: None,
            delay_ms: 0,
            date_ahead_ms: 0,
            validation_delay_ms: 0,
            vantage_points: 1,
            challenge_processing: false,
            processing_polls: 0,
            never_done: false,
            hanging_names: BTreeSet::new(),
            retry_after: RetryAfter::None,
            finalize_location: true,
            chain_until_close: false,
            authz_reuse_percent: 0,
            order_reuse: false,
            rejected_names: BTreeSet::new(),
            failing_names: BTreeSet::new(),
            caa_names: BTreeSet::new(),
            paused_names: BTreeSet::new(),
            subproblems: false,
            limits: Limits::default(),
            profiles: BTreeMap::new(),
            alternates: 0,
            renewal_info: None,
            refuse_replaces: false,
            external_accounts: BTreeMap::new(),
            external_account_required: false,
            nonces_max: 10_000,
            refusals: Vec::new(),
            faults: Vec::new(),
            prefix: "",
            shows_contact: true,
            keep_seen: true,
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

impl RetryAfter {
    /// The value of the field, when there is to be one.
    pub(super) fn value(self, now: Time) -> Option<String> {
        match self {
            RetryAfter::None => None,
            RetryAfter::Seconds(seconds) => Some(seconds.to_string()),
            RetryAfter::Date(seconds) => {
                Some(http_date(now.plus_ms(u64::from(seconds) * 1000).unix_ms))
            }
        }
    }
}

/// What an order may choose by a name (draft-ietf-acme-profiles).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// For a person, in the directory.
    pub description: String,
    /// The lifetime of its certificates.
    pub lifetime_seconds: u32,
    /// So many names an order may have.
    pub names_max: usize,
}

/// How renewal information is answered (RFC 9773).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalInfo {
    /// When to ask again.
    pub retry_after: RetryAfter,
    /// Where a person reads why, when there is something to read.
    pub explanation_url: Option<String>,
    /// What is wrong with the answers.
    pub fault: RenewalInfoFault,
}

impl Default for RenewalInfo {
    fn default() -> RenewalInfo {
        RenewalInfo {
            retry_after: RetryAfter::Seconds(6 * 60 * 60),
            explanation_url: None,
            fault: RenewalInfoFault::None,
        }
    }
}

/// What can be wrong with renewal information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalInfoFault {
    /// Nothing.
    None,
    /// The `Retry-After` that RFC 9773 section 4.3 demands is missing.
    NoRetryAfter,
    /// The window ends when it begins.
    EmptyWindow,
    /// A page in place of an object, with status 200.
    Html,
    /// 503, from a proxy in front.
    Unavailable,
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
