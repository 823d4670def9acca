//! The matrix of what can go wrong at a CA: what, at each step of the protocol.

use serde_json::json;
use stand_ins::ca::{Effect, Problem, RetryAfter, Step};
use stand_ins::random::Random;

/// Every problem type of RFC 8555 section 6.7, RFC 9773 and the profiles draft, and one that only
/// Boulder knows, each with the status that it usually comes with.
const PROBLEMS: [(&str, u16); 28] = [
    ("accountDoesNotExist", 400),
    ("agreementRequired", 403),
    ("alreadyReplaced", 409),
    ("alreadyRevoked", 400),
    ("badCSR", 400),
    ("badNonce", 400),
    ("badPublicKey", 400),
    ("badRevocationReason", 400),
    ("badSignatureAlgorithm", 400),
    ("caa", 403),
    ("compound", 400),
    ("conflict", 409),
    ("connection", 400),
    ("dns", 400),
    ("externalAccountRequired", 403),
    ("incorrectResponse", 403),
    ("invalidContact", 400),
    ("invalidProfile", 400),
    ("malformed", 400),
    ("orderNotReady", 403),
    ("rateLimited", 429),
    ("rejectedIdentifier", 400),
    ("serverInternal", 500),
    ("tls", 400),
    ("unauthorized", 403),
    ("unsupportedContact", 400),
    ("unsupportedIdentifier", 400),
    ("userActionRequired", 403),
];

/// Something that can go wrong at any step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A problem, by its place in [`PROBLEMS`].
    Problem(usize),
    /// 404.
    Gone,
    /// An error with a page of HTML.
    Html,
    /// An error with nothing.
    Blank,
    /// Success, with a page of HTML in place of the object.
    Page,
    /// Success, with nothing in place of the object.
    Nothing,
    /// Success, with a status that no RFC knows.
    OddStatus,
    /// An answer that takes up to half a minute.
    Slow,
    /// An answer that comes when nobody waits for it any more.
    TooSlow,
    /// The answer is lost, after the CA has acted.
    Lost,
    /// An answer without a nonce.
    NoNonce,
    /// The nonce is refused ten times in a row.
    BadNonces,
}

/// Something that goes wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) step: Step,
    pub(crate) what: What,
}

impl Cell {
    /// All that make sense.
    pub(crate) fn all() -> Vec<Cell> {
        let others = [
            What::Gone,
            What::Html,
            What::Blank,
            What::Page,
            What::Nothing,
            What::OddStatus,
            What::Slow,
            What::TooSlow,
            What::Lost,
            What::NoNonce,
            What::BadNonces,
        ];
        let whats = (0..PROBLEMS.len()).map(What::Problem).chain(others);
        let all = whats.flat_map(|what| Step::ALL.map(|step| Cell { step, what }));
        all.filter(|cell| cell.makes_sense()).collect()
    }

    fn makes_sense(self) -> bool {
        let signed = !matches!(self.step, Step::Directory | Step::NewNonce | Step::RenewalInfo);
        match self.what {
            What::BadNonces => signed,
            What::NoNonce => signed || self.step == Step::NewNonce,
            What::OddStatus => matches!(
                self.step,
                Step::NewOrder | Step::Authorization | Step::Order | Step::Finalize
            ),
            // These have no object that anybody reads.
            What::Page | What::Nothing => self.step != Step::NewNonce,
            _ => true,
        }
    }

    /// By this name it is switched.
    pub(crate) fn name(self) -> String {
        let what = match self.what {
            What::Problem(index) => PROBLEMS[index].0,
            What::Gone => "gone",
            What::Html => "html",
            What::Blank => "blank",
            What::Page => "page",
            What::Nothing => "nothing",
            What::OddStatus => "odd-status",
            What::Slow => "slow",
            What::TooSlow => "too-slow",
            What::Lost => "lost",
            What::NoNonce => "no-nonce",
            What::BadNonces => "bad-nonces",
        };
        format!("ca-{what}-at-{}", self.step.name())
    }

    /// What the CA does, and how often.
    pub(crate) fn effect(self, chance: &mut Random) -> (Effect, u32) {
        let times = chance.between(1, 3) as u32;
        let retry_after = retry_after(chance);
        let page = |html, status| Effect::Page { status, html, retry_after };
        let refuse = |kind, status| {
            Effect::Refuse(Problem::new(status, kind, "by order of the simulator"), retry_after)
        };
        let effect = match self.what {
            What::Problem(index) => refuse(PROBLEMS[index].0, PROBLEMS[index].1),
            What::BadNonces => return (refuse("badNonce", 400), 10),
            What::Gone => refuse("malformed", 404),
            What::Html => page(true, error_status(chance)),
            What::Blank => page(false, error_status(chance)),
            What::Page => Effect::Body("<html><body>Welcome</body></html>"),
            What::Nothing => Effect::Body(""),
            What::OddStatus => Effect::Member("status", Some(json!("pondering"))),
            What::Slow => Effect::Late(chance.between(1_000, 29_000)),
            What::TooSlow => Effect::Late(chance.between(30_000, 120_000)),
            What::Lost => Effect::Lost,
            What::NoNonce => Effect::WithoutNonce,
        };
        (effect, times)
    }
}

fn error_status(chance: &mut Random) -> u16 {
    [400, 403, 404, 405, 418, 429, 500, 502, 503, 504][chance.below(10) as usize]
}

/// Often none, mostly a short one, now and then an hour.
pub(crate) fn retry_after(chance: &mut Random) -> RetryAfter {
    let seconds = match chance.below(20) {
        0 => 3600,
        1..=3 => chance.between(61, 600) as u32,
        _ => chance.between(1, 60) as u32,
    };
    match chance.below(10) {
        0..=4 => RetryAfter::None,
        5..=7 => RetryAfter::Seconds(seconds),
        _ => RetryAfter::Date(seconds),
    }
}
