//! The http-01 responder (RFC 8555 section 8.3): which answer a request to the listener gets.
//! No sockets; what is no challenge is somebody else's.

use std::collections::BTreeMap;

use crate::http::{ServerRequest, ServerResponse};
use crate::printable::printable_json;

pub mod probe;
pub mod route;

/// Where key authorizations are served (RFC 8555 section 8.3).
pub const CHALLENGE_PREFIX: &str = "/.well-known/acme-challenge/";
/// The longest token looked up, in bytes; CAs use 43.
pub const TOKEN_BYTES_MAX: usize = 128;

/// The key authorizations being validated.
#[derive(Debug, Default)]
pub struct Responder {
    published: BTreeMap<String, String>,
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send this.
    Now(ServerResponse),
    /// The path is no challenge's.
    Elsewhere,
    /// This token is not ours; another instance may have published it.
    Unknown(String),
}

impl Responder {
    /// Answers for a token until it is withdrawn.
    pub fn publish(&mut self, token: String, key_authorization: String) {
        self.published.insert(token, key_authorization);
    }

    /// Answers for it no longer.
    pub fn withdraw(&mut self, token: &str) {
        self.published.remove(token);
    }

    /// The published tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.published.keys().map(String::as_str)
    }

    /// The answer to a request. The host is not looked at: marathon-lb redirects the challenges of
    /// all hosts to one, so only the token decides.
    pub fn answer(&self, request: &ServerRequest) -> Answer {
        let Some(token) = request.path().strip_prefix(CHALLENGE_PREFIX) else {
            return Answer::Elsewhere;
        };
        if let Some(refusal) = refusal(request) {
            return Answer::Now(refusal);
        }
        match token {
            "ping" => Answer::Now(json(200, r#"{"message": "pong"}"#)),
            token => match self.published.get(token) {
                Some(key_authorization) => Answer::Now(served(key_authorization)),
                None if probe::is_token(token) => Answer::Now(served(&probe::answer(token))),
                None if is_token(token) => Answer::Unknown(token.to_string()),
                None => Answer::Now(not_found()),
            },
        }
    }
}

/// The answer to a method other than those that work everywhere.
pub fn refusal(request: &ServerRequest) -> Option<ServerResponse> {
    let works = matches!(request.method.as_str(), "GET" | "HEAD");
    (!works).then(|| text(405, "Method Not Allowed\n").with_header("Allow", "GET, HEAD"))
}

/// Whether a text is a key authorization of that token (RFC 8555 section 8.1). Nothing else that somebody
/// has put into a shared `challenges/`, a second name of a key among it, is shown to anybody.
pub fn is_key_authorization(token: &str, text: &str) -> bool {
    text.strip_prefix(token).and_then(|rest| rest.strip_prefix('.')).is_some_and(is_token)
}

/// The answer for a published token: the key authorization, nothing more.
pub fn served(key_authorization: &str) -> ServerResponse {
    text(200, key_authorization)
}

/// The answer for a token that nobody published.
pub fn not_found() -> ServerResponse {
    text(404, "Not Found\n")
}

/// A JSON answer, on one line; what peers have said in it moves no terminal that shows it.
pub fn json(status: u16, body: impl Into<Vec<u8>>) -> ServerResponse {
    let mut body = body.into();
    if !body.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        body = printable_json(&String::from_utf8_lossy(&body)).into_bytes();
    }
    ServerResponse::new(status, "application/json", body)
}

fn text(status: u16, body: &str) -> ServerResponse {
    ServerResponse::new(status, "text/plain", body)
}

/// Whether a request for this path is for a key authorization, and not for what we answer by ourselves.
pub fn is_for_a_ca(path: &str) -> bool {
    let token = path.strip_prefix(CHALLENGE_PREFIX);
    token.is_some_and(|token| token != "ping" && !probe::is_token(token))
}

/// Whether a CA could have made it: base64url of bounded length (RFC 8555 section 8.3).
fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= TOKEN_BYTES_MAX && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Headers;

    fn ask(responder: &Responder, method: &str, target: &str) -> Answer {
        let (method, target) = (method.into(), target.into());
        responder.answer(&ServerRequest { method, target, headers: Headers::new() })
    }

    fn status(answer: Answer) -> u16 {
        match answer {
            Answer::Now(response) => response.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_key_authorization_of_the_token_is_one() {
        assert!(is_key_authorization("to-k_en", "to-k_en.thumb-print_7"));
        let key = "-----BEGIN PRIVATE KEY-----\nMIGH";
        for text in ["", "t", "t.", "t.x\n", "t.x.y", "tt.x", "u.x", " t.x", "t.\u{e4}", key] {
            assert!(!is_key_authorization("t", text), "{text:?}");
        }
    }

    #[test]
    fn a_published_token_is_answered_until_it_is_withdrawn() {
        let mut responder = Responder::default();
        responder.publish("tok-en_1".into(), "tok-en_1.thumb".into());
        let target = "/.well-known/acme-challenge/tok-en_1";
        for method in ["GET", "HEAD"] {
            let Answer::Now(response) = ask(&responder, method, target) else {
                panic!("no answer")
            };
            assert_eq!((response.status, response.body.as_slice()), (200, &b"tok-en_1.thumb"[..]));
            assert_eq!(response.content_type, "text/plain");
        }
        assert_eq!(
            ask(&responder, "GET", &format!("{target}?x=1")),
            ask(&responder, "GET", target)
        );
        responder.withdraw("tok-en_1");
        assert_eq!(ask(&responder, "GET", target), Answer::Unknown("tok-en_1".into()));
    }

    #[test]
    fn ping_is_what_the_old_program_said() {
        let target = "/.well-known/acme-challenge/ping";
        let Answer::Now(pong) = ask(&Responder::default(), "GET", target) else {
            panic!("no pong")
        };
        assert_eq!(pong.body, br#"{"message": "pong"}"#);
        assert_eq!(pong.content_type, "application/json");
    }

    #[test]
    fn a_probe_is_answered_by_whoever_is_asked_unless_it_was_published() {
        let token = probe::token(crate::testing::Bench::new().cx().keys);
        let target = format!("/.well-known/acme-challenge/{token}");
        let mut responder = Responder::default();
        let body = |responder: &Responder| match ask(responder, "GET", &target) {
            Answer::Now(response) => (response.status, response.content_type, response.body),
            other => panic!("{other:?}"),
        };
        assert_eq!(body(&responder), (200, "text/plain", probe::answer(&token).into_bytes()));
        responder.publish(token.clone(), "x.thumb".into());
        assert_eq!(body(&responder), (200, "text/plain", b"x.thumb".to_vec()));
    }

    #[test]
    fn what_we_answer_by_ourselves_is_not_for_a_ca() {
        let probe = probe::token(crate::testing::Bench::new().cx().keys);
        for (token, expected) in [(probe.as_str(), false), ("ping", false), ("probe-x", true)] {
            assert_eq!(is_for_a_ca(&format!("{CHALLENGE_PREFIX}{token}")), expected, "{token}");
        }
        assert!(!is_for_a_ca("/health"));
    }

    #[test]
    fn nothing_else_is_there() {
        let responder = Responder::default();
        let long = format!("/.well-known/acme-challenge/{}", "a".repeat(TOKEN_BYTES_MAX + 1));
        let odd = [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/../../etc/passwd",
            "/.well-known/acme-challenge/a%2f",
            long.as_str(),
        ];
        for target in odd {
            assert_eq!(status(ask(&responder, "GET", target)), 404, "{target}");
        }
        for target in ["/", "", "/.well-known/acme-challenge", "*", "/health?verbose"] {
            assert_eq!(ask(&responder, "POST", target), Answer::Elsewhere, "{target}");
        }
    }

    #[test]
    fn other_methods_are_told_which_ones_work() {
        let target = "/.well-known/acme-challenge/ping";
        let Answer::Now(refused) = ask(&Responder::default(), "POST", target) else {
            panic!("no answer")
        };
        assert_eq!((refused.status, refused.headers.first("allow")), (405, Some("GET, HEAD")));
    }
}
