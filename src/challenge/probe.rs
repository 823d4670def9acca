//! Tokens of our own making, by which a challenge's route is tried before a CA does. Every instance knows
//! one by its form and answers it alike, whoever made it: a load balancer may ask another one, and
//! nothing has to be shared for that.
//!
//! Why that is safe: a stranger can make such tokens too, and all that it gets is a fixed text with the
//! token behind it, in which nothing but letters, digits, `-` and `_` of a fixed length can stand. That
//! is never a key authorization (RFC 8555 section 8.1), which begins with its token and has a `.` and a
//! thumbprint behind it, so that no account's challenge can be answered by way of this. A token that was
//! published goes before one of this form. Never answers anything else than this one text.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use crate::keys::Keys;

const PREFIX: &str = "probe-";
/// The length of 128 random bits in base64url, in bytes.
const RANDOM_CHARS: usize = 22;
/// The length of the check part, in bytes: it tells a probe from what only looks like one.
const CHECK_CHARS: usize = 8;

/// A token that nobody has seen before.
pub fn token(keys: &mut dyn Keys) -> String {
    let random = [keys.random().to_be_bytes(), keys.random().to_be_bytes()].concat();
    let random = BASE64_URL_SAFE_NO_PAD.encode(random);
    let check = check(&random);
    format!("{PREFIX}{random}{check}")
}

/// Whether a token is one of these.
pub fn is_token(text: &str) -> bool {
    let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_at_checked(RANDOM_CHARS));
    let clean = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    parts.is_some_and(|(random, rest)| clean(random) && rest == check(random))
}

/// What is answered to one.
pub fn answer(token: &str) -> String {
    format!("probe of marathon-acme {token}")
}

fn check(random: &str) -> String {
    let hash = digest(&SHA256, random.as_bytes());
    let mut text = BASE64_URL_SAFE_NO_PAD.encode(hash);
    text.truncate(CHECK_CHARS);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn a_token_is_random_and_known_by_its_form() {
        let mut bench = Bench::new();
        let (one, other) = (token(bench.cx().keys), token(bench.cx().keys));
        assert!(one != other && is_token(&one) && is_token(&other), "{one} {other}");
        assert_eq!(one.len(), PREFIX.len() + RANDOM_CHARS + CHECK_CHARS);
    }

    #[test]
    fn what_is_not_wholly_of_that_form_is_none() {
        let good = token(Bench::new().cx().keys);
        assert!(is_token(&good));
        for length in 0..good.len() {
            assert!(!is_token(&good[..length]), "{length}");
        }
        let longer = format!("{good}A");
        let (head, tail) = good.split_at(PREFIX.len());
        let capital = format!("Probe-{tail}");
        // As long as it should be, with a check that is right, of what is no base64url.
        let odd = ["a.aaaaaaaaaaaaaaaaaaaa", "a/../aaaaaaaaaaaaaaaaa", "éaaaaaaaaaaaaaaaaaaaa"];
        let odd = odd.map(|random| format!("{head}{random}{}", check(random)));
        for text in [longer.as_str(), tail, &capital, "", "ping"]
            .into_iter()
            .chain(odd.iter().map(|it| &**it))
        {
            assert!(!is_token(text), "{text}");
        }
    }

    #[test]
    fn no_answer_is_a_key_authorization() {
        let token = token(Bench::new().cx().keys);
        let answer = answer(&token);
        assert_eq!(answer, format!("probe of marathon-acme {token}"));
        assert!(!answer.starts_with(&token) && !answer.contains('.'));
    }
}
