//! Whether all is well, as `/health` says it. Never shows a key, a token or a password.

use serde_json::json;

use crate::challenge;
use crate::http::ServerResponse;

/// A snapshot, made from what the parts of the daemon say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What keeps the storage from being written. The one thing a restart elsewhere could fix.
    pub storage: Option<String>,
    /// Everything else that is not as it should be, a sentence each.
    pub troubles: Vec<String>,
}

impl Health {
    /// Everything that is not as it should be.
    pub fn reasons(&self) -> impl Iterator<Item = String> {
        let storage = self.storage.iter().map(|trouble| format!("storage: {trouble}"));
        storage.chain(self.troubles.iter().cloned())
    }

    /// The answer to `/health`: 503 only for what a restart elsewhere could fix, since Marathon
    /// kills what is not healthy. With `status_only`, no word of the reasons, which name peers and files.
    pub fn response(&self, status_only: bool) -> ServerResponse {
        let status = if self.storage.is_some() { 503 } else { 200 };
        let reasons: Vec<String> = self.reasons().collect();
        let body = match (reasons.is_empty(), status_only) {
            (true, _) => json!({"status": "ok"}),
            (false, true) => json!({"status": "degraded"}),
            (false, false) => json!({"status": "degraded", "reasons": reasons}),
        };
        challenge::json(status, body.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(health: &Health) -> (u16, String) {
        let response = health.response(false);
        (response.status, String::from_utf8(response.body).expect("JSON is UTF-8"))
    }

    #[test]
    fn only_the_storage_makes_it_unhealthy() {
        assert_eq!(body(&Health::default()), (200, r#"{"status":"ok"}"#.into()));
        let mut health = Health { storage: None, troubles: vec!["marathon: \"x\"".into()] };
        let expected = r#"{"reasons":["marathon: \"x\""],"status":"degraded"}"#;
        assert_eq!(body(&health), (200, expected.into()));
        health.storage = Some("certs: no space".into());
        assert_eq!(body(&health).0, 503);
        let response = health.response(true);
        assert_eq!((response.status, &*response.body), (503, &br#"{"status":"degraded"}"#[..]));
    }
}
