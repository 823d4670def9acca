//! Replay protection (RFC 8555 section 6.5): each nonce is good for one request.

use std::collections::{BTreeSet, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::random::Random;

/// The nonces that were given out and not used.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    live: BTreeSet<String>,
    /// By age; used ones stay in it until they are the oldest.
    given: VecDeque<String>,
}

impl Nonces {
    pub(super) fn fresh(&mut self, random: &mut Random) -> String {
        let nonce = URL_SAFE_NO_PAD.encode(random.bytes::<16>());
        self.live.insert(nonce.clone());
        self.given.push_back(nonce.clone());
        nonce
    }

    /// Uses up a nonce, and says whether it was good.
    pub(super) fn spend(&mut self, nonce: &str) -> bool {
        self.live.remove(nonce)
    }

    /// Forgets all but the youngest.
    pub(super) fn forget_beyond(&mut self, nonces_max: usize) {
        while self.given.len() > nonces_max {
            if let Some(oldest) = self.given.pop_front() {
                self.live.remove(&oldest);
            }
        }
    }
}
