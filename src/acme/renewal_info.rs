//! When a CA wants a certificate renewed (RFC 9773): which question is asked, what the answer means,
//! and when it is asked again. Never sends anything, never decides to renew.

use std::fmt;
use std::time::Duration;

use crate::http::Response;
use crate::pki::Leaf;
use crate::time::UnixTime;
use crate::url::Url;

use super::call::{CallError, retry_after};
use super::jws::base64url;
use super::types::RenewalInfoObject;

/// A CA is not asked again sooner than this, whatever it says …
const ASK_AGAIN_MIN: Duration = Duration::from_secs(60);
/// … and not later (RFC 9773 section 4.3.2).
pub const ASK_AGAIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The first pause after a temporary error, doubled each time …
const PAUSE_MIN: Duration = Duration::from_secs(60);
/// … up to this; after a lasting error it is this at once (RFC 9773 section 4.3.3).
const PAUSE_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// When the CA suggests to renew: from the start on, before the end, which is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub start: UnixTime,
    /// The first moment that is too late.
    pub end: UnixTime,
}

/// What a CA suggests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// When to renew.
    pub window: Window,
    /// The URL of a page that says why.
    pub explanation: Option<String>,
    /// When to ask again, within a minute and a day.
    pub ask_again: Duration,
}

/// There is no suggestion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuggestion {
    /// Why, for the operator.
    pub text: String,
    /// Whether it may well pass soon.
    pub temporary: bool,
    /// When the CA wants to be asked again, at the earliest.
    pub retry_after: Option<Duration>,
}

/// The CA's name for a certificate (RFC 9773 section 4.1); `None` where the certificate does not tell
/// its issuer's key.
pub fn cert_id(leaf: &Leaf) -> Option<String> {
    let key = leaf.authority_key.as_ref().filter(|key| !key.is_empty())?;
    if leaf.serial.is_empty() {
        return None;
    }
    Some(format!("{}.{}", base64url(key), base64url(&leaf.serial)))
}

/// Where to ask about a certificate (RFC 9773 section 4.1): exactly one slash is between the two.
/// `None` where the name is none that [`cert_id`] makes.
pub fn url(renewal_info: &Url, cert_id: &str) -> Option<Url> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_name = !cert_id.is_empty() && cert_id.bytes().all(fits);
    is_name.then(|| renewal_info.join(&format!("/{cert_id}")))
}

impl Window {
    /// A moment of the window, each as likely as any other, by a random number.
    pub fn choose(self, chance: u64) -> UnixTime {
        let span_ms = self.end.since(self.start).as_millis();
        // The high half of the product is uniform below the span, however large that is.
        let offset_ms = (u128::from(chance) * span_ms) >> 64;
        self.start.plus(Duration::from_millis(u64::try_from(offset_ms).unwrap_or(u64::MAX)))
    }
}

/// What an answer means that was judged before.
///
/// # Errors
/// It is no suggestion.
pub fn read(now: UnixTime, reply: Result<Response, CallError>) -> Result<Suggestion, NoSuggestion> {
    let response = reply.map_err(no_answer)?;
    let lasting = |text: String| NoSuggestion { text, temporary: false, retry_after: None };
    let info = RenewalInfoObject::parse(&response.body).map_err(|it| lasting(it.to_string()))?;
    let RenewalInfoObject { start, end, explanation } = info;
    if end <= start {
        return Err(lasting(format!("the CA's window ends at {end}, but starts at {start}")));
    }
    let asked = retry_after(now, &response.head.headers);
    let asked = asked.ok_or_else(|| lasting("the CA gave no proper Retry-After".into()))?;
    let ask_again = asked.clamp(ASK_AGAIN_MIN, ASK_AGAIN_MAX);
    Ok(Suggestion { window: Window { start, end }, explanation, ask_again })
}

/// Tells what passes from what lasts (RFC 9773 section 4.3.3).
fn no_answer(error: CallError) -> NoSuggestion {
    let temporary = match &error {
        CallError::Problem { status, .. } | CallError::Status { status, .. } => {
            *status >= 500 || *status == 429
        }
        CallError::Transport { lasting, .. } => !lasting,
        CallError::Malformed(_) | CallError::Key(_) => false,
    };
    let retry_after = error.retry_after().filter(|_| temporary);
    NoSuggestion { text: error.to_string(), temporary, retry_after }
}

/// How long to wait before asking again, when there was no suggestion `failures` times in a row, this
/// one included. Without jitter.
pub fn pause(error: &NoSuggestion, failures: u32) -> Duration {
    if !error.temporary {
        return PAUSE_MAX;
    }
    let doublings = failures.saturating_sub(1).min(16);
    let pause = (PAUSE_MIN * 2u32.pow(doublings)).min(PAUSE_MAX);
    pause.max(error.retry_after.unwrap_or_default().min(ASK_AGAIN_MAX))
}

impl fmt::Display for NoSuggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for NoSuggestion {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Headers, ResponseHead};

    const NOW: UnixTime = UnixTime::from_seconds(1_795_392_000);
    const INFO: &str = r#"{"suggestedWindow":{"start":"2027-01-02T04:00:00Z",
        "end":"2027-01-03T04:00:00Z"},"explanationURL":"https://ca/why"}"#;

    fn leaf(authority_key: Option<&[u8]>, serial: &[u8]) -> Leaf {
        Leaf {
            not_before: NOW,
            not_after: NOW,
            issuer_common_name: None,
            names: Vec::new(),
            serial: serial.to_vec(),
            authority_key: authority_key.map(<[u8]>::to_vec),
        }
    }

    fn answer(status: u16, retry_after: &str, body: &str) -> Result<Suggestion, NoSuggestion> {
        let mut headers = Headers::new();
        if !retry_after.is_empty() {
            headers.push("Retry-After", retry_after);
        }
        let response = Response { head: ResponseHead { status, headers }, body: body.into() };
        let url = Url::parse("https://ca/renewal-info/a.b").unwrap();
        read(NOW, super::super::call::judge(NOW, &url, response))
    }

    /// RFC 9773 section 4.1.
    #[test]
    fn the_certificate_of_rfc_9773() {
        let key = [
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0,
            0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4,
        ];
        let serial = [0x00, 0x87, 0x65, 0x43, 0x21];
        let id = cert_id(&leaf(Some(&key), &serial)).unwrap();
        assert_eq!(id, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        let expected = "https://example.com/acme/renewal-info/aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";
        for base in [
            "https://example.com/acme/renewal-info",
            "https://example.com/acme/renewal-info/",
            "https://example.com/acme/renewal-info//",
        ] {
            let base = Url::parse(base).unwrap();
            assert_eq!(url(&base, &id).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_certificate_without_its_issuers_key_has_no_name() {
        assert_eq!(cert_id(&leaf(None, &[1])), None);
        assert_eq!(cert_id(&leaf(Some(&[]), &[1])), None);
        assert_eq!(cert_id(&leaf(Some(&[1]), &[])), None);
        let base = Url::parse("https://ca").unwrap();
        assert_eq!(url(&base, "a.b").map(|url| url.to_string()), Some("https://ca/a.b".into()));
        for bad in ["", "../x", "a?b", "a b", "a/b"] {
            assert_eq!(url(&base, bad), None, "{bad}");
        }
    }

    #[test]
    fn every_moment_of_the_window_can_be_chosen_and_none_outside() {
        let second = |seconds| UnixTime::from_seconds(seconds);
        let window = Window { start: second(100), end: second(200) };
        assert_eq!(window.choose(0), second(100));
        assert_eq!(window.choose(u64::MAX / 2 + 1), second(150));
        assert_eq!(window.choose(u64::MAX), UnixTime::from_millis(199_999));
        let least = Window { start: second(100), end: UnixTime::from_millis(100_001) };
        assert_eq!(least.choose(u64::MAX), second(100));
        let longest =
            Window { start: UnixTime::from_millis(0), end: UnixTime::from_millis(i64::MAX) };
        assert!(longest.choose(u64::MAX) < longest.end);
    }

    #[test]
    fn a_suggestion_with_its_page_and_its_pause() {
        let suggestion = answer(200, "21600", INFO).unwrap();
        assert_eq!(suggestion.window.start.to_string(), "2027-01-02T04:00:00Z");
        assert_eq!(suggestion.window.end.to_string(), "2027-01-03T04:00:00Z");
        assert_eq!(suggestion.explanation.as_deref(), Some("https://ca/why"));
        let pause = |value: &str| answer(200, value, INFO).unwrap().ask_again.as_secs();
        assert_eq!((pause("21600"), pause("0"), pause("9999999")), (21_600, 60, 86_400));
        assert_eq!(pause("Mon, 23 Nov 2026 01:00:00 GMT"), 3600);
        let page = INFO.replace("https://ca/why", "javascript:x");
        assert_eq!(answer(200, "60", &page).unwrap().explanation, None);
    }

    #[test]
    fn what_lasts_is_asked_again_after_six_hours() {
        let backwards = INFO.replace("2027-01-03", "2027-01-01");
        let empty = INFO.replace("2027-01-03", "2027-01-02");
        let refused = CallError::Transport { text: "refused".into(), lasting: true };
        let cases = [
            (answer(200, "", INFO), "the CA gave no proper Retry-After"),
            (answer(200, "soon", INFO), "the CA gave no proper Retry-After"),
            (answer(200, "60", "{}"), "no proper start"),
            (answer(200, "60", "[]"), "no proper JSON"),
            (answer(200, "60", "<html>"), "status 200 from https://ca/renewal-info/a.b: <html>"),
            (answer(200, "60", &backwards), "ends at 2027-01-01T04:00:00Z, but starts at"),
            (answer(200, "60", &empty), "ends at 2027-01-02T04:00:00Z, but starts at"),
            (answer(404, "99", ""), "status 404"),
            (answer(400, "", r#"{"type":"urn:ietf:params:acme:error:malformed"}"#), "malformed"),
            (read(NOW, Err(refused)), "refused"),
        ];
        for (result, text) in cases {
            let error = result.expect_err(text);
            assert!(!error.temporary && error.to_string().contains(text), "{error:?}");
            assert_eq!((error.retry_after, pause(&error, 1).as_secs()), (None, 6 * 3600));
        }
    }

    #[test]
    fn what_passes_is_asked_again_ever_more_rarely() {
        let lost = CallError::Transport { text: "timed out".into(), lasting: false };
        let lost = read(NOW, Err(lost)).expect_err("no answer");
        let minutes: Vec<u64> =
            [0, 1, 2, 3, 9, 10, u32::MAX].map(|n| pause(&lost, n).as_secs() / 60).to_vec();
        assert_eq!(minutes, [1, 1, 2, 4, 256, 360, 360]);
        let limited = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"later"}"#;
        for (status, body) in [(429, limited), (429, ""), (500, ""), (503, limited)] {
            let error = answer(status, "600", body).expect_err("no answer");
            assert!(error.temporary, "{error:?}");
            assert_eq!(error.retry_after, Some(Duration::from_secs(600)));
            assert_eq!((pause(&error, 1).as_secs(), pause(&error, 8).as_secs()), (600, 7680));
        }
        let long = answer(503, "604800", "").expect_err("no answer");
        assert_eq!(pause(&long, 1), ASK_AGAIN_MAX);
    }
}
