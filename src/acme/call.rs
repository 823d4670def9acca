//! One request to a CA and what its answer means for whoever asked: signed POSTs, problems,
//! `Retry-After`, and which troubles pass by themselves. Never sends anything.

use std::fmt;
use std::time::Duration;

use crate::hint::{Complaint, Hint};
use crate::http::{Headers, Method, Request, Response};
use crate::keys::{AccountKey, KeyError, Keys};
use crate::time::UnixTime;
use crate::url::Url;

use super::error_type::Retry;
use super::jws::{self, Identity};
use super::types::{Malformed, Problem, ProblemKind, beginning};

/// A `Retry-After` is never taken for longer than this: even a wrong clock must not stop a domain
/// forever.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A POST that is still to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The resource.
    pub url: Url,
    /// JSON; empty for a POST-as-GET (RFC 8555 section 6.3).
    pub payload: String,
    /// The media type wanted, where the CA has a choice.
    pub accept: Option<&'static str>,
    /// The signer's key itself is sent instead of the account's URL: there is no account yet, or the
    /// key is that of a certificate to be revoked (RFC 8555 section 7.6).
    pub with_key: bool,
}

impl Post {
    /// A POST of JSON.
    pub fn json(url: &Url, payload: impl ToString) -> Post {
        Post { url: url.clone(), payload: payload.to_string(), accept: None, with_key: false }
    }

    /// A POST-as-GET.
    pub fn as_get(url: &Url) -> Post {
        Post::json(url, "")
    }
}

/// Who signs: the account's key, and its URL once there is one.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The account's key.
    pub key: &'a AccountKey,
    /// The account's URL.
    pub kid: Option<&'a str>,
}

impl Signer<'_> {
    /// The signed request (RFC 8555 section 6.2).
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&self, keys: &mut dyn Keys, post: &Post, nonce: &str) -> Result<Request, KeyError> {
        let identity = match self.kid {
            Some(kid) if !post.with_key => Identity::Kid(kid),
            _ => Identity::Jwk,
        };
        let url = signed_url(&post.url);
        let body = jws::sign(keys, self.key, identity, nonce, &url, &post.payload)?;
        let mut headers = Headers::new();
        headers.push("Content-Type", "application/jose+json");
        if let Some(accept) = post.accept {
            headers.push("Accept", accept);
        }
        Ok(Request { method: Method::Post, url: post.url.clone(), headers, body })
    }
}

/// A URL as it stands in a signature. The CA compares it with what it was asked for: host, port where
/// it is not 443, target.
pub(super) fn signed_url(url: &Url) -> String {
    format!("{}{}", url.origin(), url.target())
}

/// A call did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The CA says what is wrong.
    Problem {
        /// Its words.
        problem: Problem,
        /// The HTTP status.
        status: u16,
        /// When to come back.
        retry_after: Option<Duration>,
    },
    /// An error status without a problem document, or a web page in place of an object: a proxy's, say.
    Status {
        /// The HTTP status.
        status: u16,
        /// What was asked.
        url: String,
        /// How the answer begins.
        near: String,
        /// When to come back.
        retry_after: Option<Duration>,
    },
    /// A good status, but not the object that belongs there.
    Malformed(Malformed),
    /// There was no answer.
    Transport {
        /// The transport's words.
        text: Complaint,
        /// The name does not resolve, or nobody listens there.
        lasting: bool,
    },
    /// The account key cannot sign.
    Key(KeyError),
}

impl CallError {
    /// Whether the same call may well succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            CallError::Problem { problem, status, .. } => match problem.kind().retry() {
                Retry::Later => true,
                Retry::Never => false,
                // A CA that is overloaded says 503 and `rateLimited`: its own limit, not the account's.
                Retry::ByStatus => *status >= 500,
            },
            CallError::Status { status, .. } => matches!(*status, ..300 | 429 | 500..),
            CallError::Malformed(_) | CallError::Transport { .. } => true,
            CallError::Key(_) => false,
        }
    }

    /// Whether the CA says that it is asked too much (RFC 8555 section 6.6), in so many words.
    pub fn is_rate_limit(&self) -> bool {
        self.problem_kind() == Some(ProblemKind::RateLimited)
    }

    /// The HTTP status of an answer that says that something is wrong.
    pub fn status(&self) -> Option<u16> {
        match self {
            CallError::Problem { status, .. } | CallError::Status { status, .. } => Some(*status),
            CallError::Malformed(_) | CallError::Transport { .. } | CallError::Key(_) => None,
        }
    }

    /// When the CA wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Problem { retry_after, .. } | CallError::Status { retry_after, .. } => {
                *retry_after
            }
            CallError::Malformed(_) | CallError::Transport { .. } | CallError::Key(_) => None,
        }
    }

    /// What may help.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            CallError::Problem { problem, .. } => problem.hint(),
            CallError::Status { status: 429, .. } => Some(Hint::Limited),
            CallError::Transport { text, .. } => text.hint,
            CallError::Status { .. } | CallError::Malformed(_) | CallError::Key(_) => None,
        }
    }

    /// The kind of the CA's problem, when it told one.
    pub fn problem_kind(&self) -> Option<ProblemKind> {
        match self {
            CallError::Problem { problem, .. } => Some(problem.kind()),
            _ => None,
        }
    }
}

/// What an answer to a request for `url` means.
///
/// # Errors
/// Anything but a 2xx, and a web page: nothing that a CA sends begins like one.
pub fn judge(now: UnixTime, url: &Url, response: Response) -> Result<Response, CallError> {
    let status = response.head.status;
    let is_page = response.body.trim_ascii_start().starts_with(b"<");
    if (200..300).contains(&status) && !is_page {
        return Ok(response);
    }
    let url = url.to_string();
    let retry_after = retry_after(now, &response.head.headers);
    let location = response.head.headers.first("location");
    if let Some(to) = location.filter(|_| (300..400).contains(&status)) {
        let to = beginning(to.as_bytes());
        return Err(CallError::Status { status, url, near: not_followed(&to), retry_after });
    }
    Err(match Problem::parse(&response.body) {
        Some(problem) => CallError::Problem { problem, status, retry_after },
        None => CallError::Status { status, url, near: beginning(&response.body), retry_after },
    })
}

/// A signature is for one URL (RFC 8555 section 6.4.1), so that what bears one is of no use elsewhere;
/// and a CA that moves says so in its directory.
fn not_followed(to: &str) -> String {
    format!("a redirect to {to}, which is not followed; is --acme the URL of the CA's directory?")
}

/// How long to wait by `Retry-After`: seconds or a date (RFC 9110 section 10.2.3). A date is seen from
/// the answer's own `Date`, where it has one, since our clock may be wrong.
pub fn retry_after(now: UnixTime, headers: &Headers) -> Option<Duration> {
    let value = headers.first("retry-after")?.trim();
    let pause = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let told = headers.first("date").and_then(UnixTime::from_http_date);
            UnixTime::from_http_date(value)?.since(told.unwrap_or(now))
        }
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Problem { problem, .. } => problem.fmt(f),
            CallError::Status { status, url, near, .. } => {
                write!(f, "status {status} from {url}: {near}")
            }
            CallError::Malformed(malformed) => malformed.fmt(f),
            CallError::Transport { text, .. } => text.fmt(f),
            CallError::Key(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ResponseHead;

    fn response(status: u16, fields: &[(&str, &str)], body: &str) -> Response {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.push(name, value);
        }
        Response { head: ResponseHead { status, headers }, body: body.into() }
    }

    fn asked() -> Url {
        Url::parse("https://ca.example/x").unwrap()
    }

    #[test]
    fn a_web_page_in_place_of_an_object_is_told_with_its_url() {
        let now = UnixTime::from_seconds(0);
        let page = judge(now, &asked(), response(200, &[], "\n <!DOCTYPE html>")).unwrap_err();
        assert_eq!(page.to_string(), "status 200 from https://ca.example/x: <!DOCTYPE html>");
        assert!(page.is_passing(), "a portal, or a page while the CA is maintained");
        for body in ["", "{}", "-----BEGIN CERTIFICATE-----"] {
            assert!(judge(now, &asked(), response(200, &[], body)).is_ok(), "{body}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let now = UnixTime::from_http_date("Mon, 23 Nov 2026 17:00:00 GMT").unwrap();
        let pause = |value: &str| {
            retry_after(now, &response(503, &[("Retry-After", value)], "").head.headers)
        };
        assert_eq!(pause("120"), Some(Duration::from_secs(120)));
        assert_eq!(pause("Mon, 23 Nov 2026 17:05:00 GMT"), Some(Duration::from_secs(300)));
        assert_eq!(pause("Mon, 23 Nov 2026 16:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(pause("99999999999"), Some(RETRY_AFTER_MAX));
        assert_eq!((pause("soon"), pause("-1")), (None, None));
    }

    #[test]
    fn a_date_is_seen_from_the_clock_that_wrote_it() {
        let ours = UnixTime::from_http_date("Mon, 23 Nov 2026 18:00:00 GMT").unwrap();
        let later = ("Retry-After", "Mon, 23 Nov 2026 17:05:00 GMT");
        let told = response(503, &[("Date", "Mon, 23 Nov 2026 17:00:00 GMT"), later], "");
        assert_eq!(retry_after(ours, &told.head.headers), Some(Duration::from_secs(300)));
    }

    #[test]
    fn answers_are_told_apart() {
        let now = UnixTime::from_seconds(0);
        assert!(judge(now, &asked(), response(201, &[], "{}")).is_ok());
        let problem = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"later"}"#;
        let limited =
            judge(now, &asked(), response(429, &[("Retry-After", "9")], problem)).unwrap_err();
        assert_eq!(limited.retry_after(), Some(Duration::from_secs(9)));
        assert_eq!(
            (limited.is_passing(), limited.to_string().as_str()),
            (false, "rateLimited: later")
        );
        assert!(
            judge(now, &asked(), response(503, &[], problem)).unwrap_err().is_passing(),
            "overloaded"
        );
        let html = judge(now, &asked(), response(503, &[], "<html>\n503</html>")).unwrap_err();
        assert_eq!(
            (html.is_passing(), html.to_string()),
            (true, "status 503 from https://ca.example/x: <html> 503</html>".into())
        );
        assert!(!judge(now, &asked(), response(404, &[], "")).unwrap_err().is_passing());
        for lasting in [false, true] {
            let lost = CallError::Transport { text: "reset".into(), lasting };
            assert_eq!((lost.is_passing(), lost.to_string().as_str()), (true, "reset"));
        }
        let malformed = r#"{"type":"urn:ietf:params:acme:error:malformed"}"#;
        assert!(!judge(now, &asked(), response(400, &[], malformed)).unwrap_err().is_passing());
        assert!(judge(now, &asked(), response(502, &[], malformed)).unwrap_err().is_passing());
    }

    #[test]
    fn a_redirect_is_an_error_that_names_it() {
        let problem = r#"{"type":"urn:ietf:params:acme:error:badNonce"}"#;
        for (status, body) in [(301, ""), (302, "<html>"), (307, problem), (308, "{}")] {
            let moved = response(status, &[("Location", "https://other.example/x")], body);
            let error = judge(UnixTime::from_seconds(0), &asked(), moved).unwrap_err();
            let expected = format!(
                "status {status} from https://ca.example/x: a redirect to https://other.example/x, which"
            );
            assert!(error.to_string().starts_with(&expected), "{error}");
            assert!(!error.is_passing() && error.problem_kind().is_none());
        }
        let bare = judge(UnixTime::from_seconds(0), &asked(), response(304, &[], "")).unwrap_err();
        assert_eq!(bare.to_string(), "status 304 from https://ca.example/x: ");
    }

    #[test]
    fn the_signed_request_has_its_media_type() {
        let mut bench = crate::testing::Bench::new();
        let cx = bench.cx();
        let public = crate::keys::PublicKey::P256 { x: [1; 32], y: [2; 32] };
        let key = AccountKey { id: 0, public };
        let url = Url::parse("https://ca.example/x?y=1").unwrap();
        let signer = Signer { key: &key, kid: Some("https://ca/1") };
        let request = signer.sign(cx.keys, &Post::as_get(&url), "n").unwrap();
        assert_eq!(request.headers.first("content-type"), Some("application/jose+json"));
        assert_eq!((request.method, &request.url), (Method::Post, &url));
    }

    /// RFC 8555 section 7.6: a certificate's own key may sign its revocation.
    #[test]
    fn a_post_with_key_is_signed_by_whatever_key_the_signer_has() {
        let mut bench = crate::testing::Bench::new();
        let cx = bench.cx();
        let public = crate::keys::PublicKey::P256 { x: [5; 32], y: [6; 32] };
        let key = AccountKey { id: 1, public };
        let url = Url::parse("https://ca.example:444/revoke?by=key&x=%2F").unwrap();
        for kid in [None, Some("https://ca/1")] {
            let post = Post { with_key: true, ..Post::json(&url, "{}") };
            let request = Signer { key: &key, kid }.sign(cx.keys, &post, "n").unwrap();
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let protected = jws::decode(body["protected"].as_str().unwrap());
            let protected: serde_json::Value = serde_json::from_slice(&protected).unwrap();
            assert_eq!(protected["jwk"]["x"], jws::base64url(&[5; 32]));
            assert!(protected["kid"].is_null());
            assert_eq!(protected["url"], "https://ca.example:444/revoke?by=key&x=%2F");
        }
    }
}
