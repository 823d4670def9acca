//! What an answer at a challenge's place means, to a CA and to whoever tries the route before it. Judges
//! one answer; who is asked next, and how often, is the asker's.

use crate::http::{Headers, Method, Request, Response};
use crate::url::{Host, Url, UrlError};

use super::CHALLENGE_PREFIX;

/// What may be somebody else's answer is read so far, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A CA follows so many redirects (Let's Encrypt).
pub const REDIRECTS_MAX: u32 = 10;
/// Where a CA goes first.
pub const PORT: u16 = 80;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// We answer.
    Ours,
    /// Somebody else answers, with this status.
    Other(u16),
    /// A redirect to the same token, at the usual port of a name and without a query. A CA does not look
    /// at the certificate where it leads to `https` (Let's Encrypt).
    Onward(Url),
    /// A redirect that no CA follows, or that has lost the token, so that it leads to nobody of ours.
    Elsewhere(String),
}

/// Where a host is asked for a token.
///
/// # Errors
/// Together they are no URL.
pub fn url(host: &str, token: &str) -> Result<Url, UrlError> {
    Url::parse(&format!("http://{host}{CHALLENGE_PREFIX}{token}"))
}

/// The question there. Its connection is for nothing else.
pub fn question(url: Url) -> Request {
    let mut headers = Headers::new();
    headers.push("Connection", "close");
    Request { headers, ..Request::new(Method::Get, url) }
}

/// What an answer means that came from there; `is_ours` knows our own.
///
/// The owner of a name controls its redirects. A redirect is followed only when the last segment of its path
/// is the token, and when it has no query, fragment or user. The token is random, so the next request means
/// nothing to any other server. The caller decides which *addresses* it sends it to.
pub fn judge(asked: &Url, response: &Response, is_ours: impl Fn(&[u8]) -> bool) -> Answered {
    let status = response.head.status;
    if status == 200 && is_ours(&response.body) {
        return Answered::Ours;
    }
    let location = response.head.headers.first("location");
    // Let's Encrypt's CA (Boulder) follows no 303.
    let Some(location) = location.filter(|_| matches!(status, 301 | 302 | 307 | 308)) else {
        return Answered::Other(status);
    };
    match asked.resolve(location) {
        Ok(url) if !location.contains('#') && asks_for_the_token(&url, asked) => {
            Answered::Onward(url)
        }
        _ => Answered::Elsewhere(location.into()),
    }
}

fn asks_for_the_token(url: &Url, asked: &Url) -> bool {
    let origin = url.origin();
    matches!(origin.host, Host::Name(_))
        && origin.port == origin.scheme.default_port()
        && url.credentials().is_none()
        && !url.target().contains('?')
        && last_segment(url) == last_segment(asked)
}

/// Of the path; there is no query.
fn last_segment(url: &Url) -> &str {
    url.target().rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ResponseHead;

    fn judged(status: u16, location: Option<&str>, body: &str) -> Answered {
        let mut headers = Headers::new();
        location.into_iter().for_each(|location| headers.push("Location", location));
        let response = Response { head: ResponseHead { status, headers }, body: body.into() };
        let asked = url("a.example.com", "token").unwrap();
        judge(&asked, &response, |body| body == b"ours")
    }

    #[test]
    fn only_our_own_answer_with_status_200_is_ours() {
        assert_eq!(judged(200, None, "ours"), Answered::Ours);
        assert_eq!(judged(200, None, "ours "), Answered::Other(200));
        for status in [204, 404, 503] {
            assert_eq!(judged(status, None, "ours"), Answered::Other(status));
        }
        // Not every status with a place is a redirect, nor has every redirect a place.
        assert_eq!(judged(201, Some("http://b.example.com/token"), ""), Answered::Other(201));
        assert_eq!(judged(302, None, "ours"), Answered::Other(302));
        let somewhere = Some("http://b.example.com/token");
        assert_eq!(judged(303, somewhere, ""), Answered::Other(303), "which a CA does not follow");
    }

    #[test]
    fn redirects_are_followed_as_a_ca_does_it_and_with_the_token_alone() {
        let path = "/.well-known/acme-challenge/token";
        let onward = |url: &str| Answered::Onward(Url::parse(url).unwrap());
        let here = onward(&format!("http://a.example.com{path}"));
        for status in [301, 302, 307, 308] {
            assert_eq!(judged(status, Some(path), ""), here);
        }
        let with_port = format!("http://B.example.com:80{path}");
        let there = onward(&format!("http://b.example.com{path}"));
        assert_eq!(judged(301, Some(&with_port), ""), there);
        assert_eq!(judged(302, Some("http://b.org/x/token"), ""), onward("http://b.org/x/token"));
        let secure = format!("https://a.example.com{path}");
        assert_eq!(judged(301, Some(&secure), ""), onward(&secure));
        assert_eq!(judged(301, Some("https://b.org:443/token"), ""), onward("https://b.org/token"));
        for location in [
            "http://b.example.com:8080/token",
            "https://b.example.com:8443/token",
            "https://a.example.com/x",
            "https://b.example.com:443/",
            "https://192.0.2.1/token",
            "http://192.0.2.1/token",
            "http://[2001:db8::1]/token",
            "http://b.example.com/",
            "http://b.example.com/x?y=/token&z",
            "http://b.example.com/x?y=/token",
            "/x?y=/token",
            "http://b.example.com?/token",
            "http://b.example.com/x#/token",
            "http://b.example.com/token#x",
            "/x#/token",
            "http://b.example.com/token/",
            "http://b.example.com/token?",
            "http://me:pw@b.example.com/token",
            "http://me@b.example.com/token",
            "/",
            "//b.example.com/token",
            "ftp://b.example.com/token",
            "token",
            "",
        ] {
            assert_eq!(judged(302, Some(location), ""), Answered::Elsewhere(location.into()));
        }
    }
}
