//! What is said to marathon-lb: the reload signal, the questions for HAProxy's process ids, health and
//! configuration, and how the answers are read.
//! Knows no addresses and no time; who is signalled when is the daemon's business.

use std::fmt;

use crate::flat::FlatSet;
use crate::http::{Method, Request, Response};
use crate::url::Url;

pub mod configuration;

/// The path that makes marathon-lb check its configuration and reload HAProxy. The other signal,
/// `hup`, does nothing when only a certificate changed.
pub const RELOAD_PATH: &str = "/_mlb_signal/usr1";

/// The path that shows the ids of HAProxy's processes, separated by spaces.
pub const PIDS_PATH: &str = "/_haproxy_getpids";

/// The path that says by 200 that HAProxy works.
pub const HEALTH_PATH: &str = "/_haproxy_health_check";

/// The path that shows HAProxy's configuration as it was when its process started.
pub const CONFIGURATION_PATH: &str = "/_haproxy_getconfig";

/// The largest answer read, in bytes: marathon-lb says one sentence.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How much of an answer is shown to the operator, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// The request that asks a marathon-lb to reload; repeating it is harmless.
pub fn reload_request(base: &Url) -> Request {
    Request::new(Method::Post, base.join(RELOAD_PATH))
}

/// The request that asks for HAProxy's process ids.
pub fn pids_request(base: &Url) -> Request {
    Request::new(Method::Get, base.join(PIDS_PATH))
}

/// The request that asks whether HAProxy works.
pub fn health_request(base: &Url) -> Request {
    Request::new(Method::Get, base.join(HEALTH_PATH))
}

/// The request that asks for HAProxy's configuration.
pub fn configuration_request(base: &Url) -> Request {
    Request::new(Method::Get, base.join(CONFIGURATION_PATH))
}

/// The process ids that the answer shows; `None` where it shows none, as that of a marathon-lb which
/// does not offer them.
pub fn pids(response: &Response) -> Option<FlatSet<u32>> {
    let text = std::str::from_utf8(&response.body).ok()?;
    let pids: Option<Vec<u32>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    let pids = pids.filter(|pids| response.head.status == 200 && !pids.is_empty());
    Some(pids?.into_iter().collect())
}

/// marathon-lb answered something else than 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// The start of its body, on one line.
    pub body: String,
}

/// Whether the answer acknowledges the signal.
///
/// # Errors
/// Any status but 200; 500 says that marathon-lb does not run in `poll` or `sse` mode.
pub fn acknowledged(response: &Response) -> Result<(), Refusal> {
    if response.head.status == 200 {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&response.body);
    let words: Vec<&str> = body.split_whitespace().collect();
    let body = words.join(" ").chars().take(SHOWN_CHARS_MAX).collect();
    Err(Refusal { status: response.head.status, body })
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}: {}", self.status, self.body)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Headers, ResponseHead};

    fn response(status: u16, body: &str) -> Response {
        Response { head: ResponseHead { status, headers: Headers::new() }, body: body.into() }
    }

    #[test]
    fn the_signal_keeps_a_base_path() {
        let base = Url::parse("http://lb:9090/proxy/").expect("a URL of this test");
        let request = reload_request(&base);
        assert_eq!(request.method, Method::Post);
        assert_eq!(request.url.target(), "/proxy/_mlb_signal/usr1");
    }

    #[test]
    fn process_ids_are_numbers_and_nothing_else() {
        assert_eq!(pids(&response(200, "65 32\n")), Some(FlatSet::from([32, 65])));
        for (status, body) in [(503, "65 32"), (200, ""), (200, "<html>"), (200, "65 -1")] {
            assert_eq!(pids(&response(status, body)), None, "{status} {body}");
        }
    }

    #[test]
    fn only_200_acknowledges() {
        assert_eq!(acknowledged(&response(200, "Sent SIGUSR1 signal to marathon-lb")), Ok(()));
        let refusal =
            acknowledged(&response(500, "Failed to send\r\nSIGUSR1")).expect_err("a refusal");
        assert_eq!(refusal.to_string(), "status 500: Failed to send SIGUSR1");
        assert!(acknowledged(&response(404, "")).is_err());
        let long = acknowledged(&response(500, &"x".repeat(9999))).expect_err("a refusal");
        assert_eq!(long.body.len(), SHOWN_CHARS_MAX);
    }
}
