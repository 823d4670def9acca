//! The nonces that a CA has given out (RFC 8555 section 6.5): each used once, the newest first.

use std::collections::VecDeque;
use std::time::Duration;

use crate::http::Headers;
use crate::time::Instant;

/// Nonces kept at most; more than there are orders side by side are of no use.
const NONCES_MAX: usize = 16;
/// A nonce that has lain for so long is not tried any more: CAs forget them by volume.
const AGE_MAX: Duration = Duration::from_secs(600);

/// The bank of one CA's nonces.
#[derive(Debug, Default)]
pub struct Nonces(VecDeque<(Instant, String)>);

impl Nonces {
    /// Takes in the nonce of an answer, error or not.
    pub fn bank(&mut self, now: Instant, headers: &Headers) {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let nonce = headers.first("replay-nonce");
        if let Some(nonce) = nonce.filter(|text| !text.is_empty() && text.bytes().all(fits)) {
            self.0.push_back((now, nonce.to_string()));
        }
        if self.0.len() > NONCES_MAX {
            self.0.pop_front();
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The newest nonce, when one is left that is young enough. It is spent now.
    pub fn spend(&mut self, now: Instant) -> Option<String> {
        let (banked, nonce) = self.0.pop_back()?;
        if now.since(banked) > AGE_MAX {
            self.0.clear();
            return None;
        }
        Some(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(nonce: &str) -> Headers {
        let mut headers = Headers::new();
        headers.push("Replay-Nonce", nonce);
        headers
    }

    #[test]
    fn each_is_spent_once_the_newest_first() {
        let mut nonces = Nonces::default();
        for nonce in ["a", "b", "", "not a nonce", "c\u{e9}"] {
            nonces.bank(Instant::START, &answer(nonce));
        }
        nonces.bank(Instant::START, &Headers::new());
        let mut spend = || nonces.spend(Instant::START);
        assert_eq!((spend(), spend(), spend()), (Some("b".into()), Some("a".into()), None));
    }

    #[test]
    fn old_ones_are_dropped_and_few_are_kept() {
        let mut nonces = Nonces::default();
        nonces.bank(Instant::START, &answer("a"));
        nonces.bank(Instant::START, &answer("b"));
        assert_eq!(nonces.spend(Instant::START + AGE_MAX + Duration::from_secs(1)), None);
        assert!(nonces.is_empty(), "those before it are no younger");
        for number in 0..100 {
            nonces.bank(Instant::START, &answer(&number.to_string()));
        }
        let spent = std::iter::from_fn(|| nonces.spend(Instant::START)).count();
        assert_eq!(spent, NONCES_MAX);
    }
}
