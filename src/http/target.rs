//! Request targets (RFC 9112 section 3.2): which path a request is for. Must never find another path than
//! the load balancer in front of us does: its rules decide who may ask for a path.
//!
//! HAProxy takes all that follows the first `/` behind the scheme for the path, and `?` does not end its
//! authority. So an authority is accepted only where no reader can disagree about its end.

use crate::url::{Authority, Host, Scheme};

/// The path and query of a target in any of its four forms; `*` for OPTIONS, the authority for CONNECT.
/// `host` is the value of the `Host` field. `None`: the request is malformed.
pub(super) fn origin_form<'a>(
    method: &str,
    target: &'a str,
    host: Option<&str>,
) -> Option<&'a str> {
    // RFC 9112 section 3.2: a fragment is no part of any form.
    if target.contains('#') {
        return None;
    }
    match method {
        "CONNECT" => plain_authority(target).and_then(|(_, port)| port).map(|_| target),
        "OPTIONS" if target == "*" => Some(target),
        _ if target.starts_with('/') => Some(target),
        _ => from_absolute_form(target, host?),
    }
}

/// The path and query of an absolute-form target (RFC 9112 section 3.2.2), whose authority must be the
/// one of the `Host` field.
fn from_absolute_form<'a>(target: &'a str, host: &str) -> Option<&'a str> {
    let (scheme, rest) = target.split_once("://")?;
    let scheme = if scheme.eq_ignore_ascii_case("http") {
        Scheme::Http
    } else if scheme.eq_ignore_ascii_case("https") {
        Scheme::Https
    } else {
        return None;
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let origin = |text| {
        let (host, port) = plain_authority(text)?;
        Some((host, port.unwrap_or(scheme.default_port())))
    };
    let is_same = origin(authority)? == origin(host)?;
    is_same.then_some(if path.is_empty() { "/" } else { path })
}

/// Reads `host[:port]`: no userinfo, and nothing behind the port.
fn plain_authority(text: &str) -> Option<(Host, Option<u16>)> {
    let authority = Some(text).filter(|text| !text.contains('@')).map(Authority::parse)?.ok()?;
    Some((authority.host, authority.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HAProxy's `path` sample (`http_get_path` and `smp_fetch_path`), written down by itself: what
    /// follows the scheme's `://`, from its first `/` to its first `?`.
    fn haproxy_path(target: &str) -> Option<&str> {
        let bytes = target.as_bytes();
        if *bytes.first()? == b'*' {
            return None;
        }
        let mut at = 0;
        if bytes[0].is_ascii_alphabetic() {
            while at < bytes.len()
                && (bytes[at].is_ascii_alphanumeric() || b"+-.".contains(&bytes[at]))
            {
                at += 1;
            }
            // Without a scheme it is an authority alone, in which a path is looked for all the same.
            at = if bytes[at..].starts_with(b"://") { at + 3 } else { 0 };
        }
        let start = at + bytes[at..].iter().position(|byte| *byte == b'/')?;
        let end = bytes[start..].iter().position(|byte| *byte == b'?');
        Some(&target[start..end.map_or(target.len(), |end| start + end)])
    }

    fn path(target: &str) -> &str {
        target.split('?').next().unwrap_or(target)
    }

    #[test]
    fn absolute_form_is_read_where_its_authority_is_the_host() {
        let cases = [
            ("http://a.org", "a.org", Some("/")),
            ("HTTP://A.org/b?c=/d", "a.ORG", Some("/b?c=/d")),
            ("http://a.org:80/b", "a.org", Some("/b")),
            ("http://a.org/b", "a.org:80", Some("/b")),
            ("http://a.org:/b", "a.org", Some("/b")),
            ("https://a.org/b", "a.org:443", Some("/b")),
            ("https://a.org/b", "a.org:80", None),
            ("http://a.org:8080/b", "a.org:8080", Some("/b")),
            ("http://a.org:8080/b", "a.org", None),
            ("http://[::1]:80/b", "[::1]", Some("/b")),
            ("http://a.org//b", "a.org", Some("//b")),
            ("http://b.org/", "a.org", None),
            ("http://u@a.org/", "a.org", None),
            ("http://u?@a.org/.well-known/acme-challenge/", "a.org", None),
            ("http://a.org?/.well-known/acme-challenge/", "a.org", None),
            ("http://a.org#/.well-known/acme-challenge/", "a.org", None),
            ("http://a.org\\/.well-known/acme-challenge/", "a.org", None),
            ("http://a.org?b", "a.org", None),
            ("http:///b", "", None),
            ("http://a.org:99999/b", "a.org:99999", None),
            ("http://a.org:8x/b", "a.org:8x", None),
            ("http://a.org,b.org/", "a.org,b.org", None),
            ("ftp://a.org/b", "a.org", None),
            ("http:/a.org/b", "a.org", None),
            ("a.org/b", "a.org", None),
            ("*", "a.org", None),
            ("", "a.org", None),
        ];
        for (target, host, expected) in cases {
            assert_eq!(origin_form("GET", target, Some(host)), expected, "{target} at {host}");
        }
        assert_eq!(origin_form("GET", "http://a.org/b", None), None, "HTTP/1.0 without a host");
        assert_eq!(origin_form("GET", "/b", None), Some("/b"));
    }

    #[test]
    fn the_other_forms_belong_to_their_methods() {
        let read = |method, target| origin_form(method, target, Some("a.org"));
        assert_eq!(read("OPTIONS", "*"), Some("*"));
        assert_eq!(read("CONNECT", "a.org:443"), Some("a.org:443"));
        for target in ["/", "a.org", "u@a.org:1", "http://a.org/", "a.org:1/x", "*"] {
            assert_eq!(read("CONNECT", target), None, "{target}");
        }
        for target in ["/#", "/b#c", "/.well-known/acme-challenge/#"] {
            assert_eq!(read("GET", target), None, "{target}");
        }
        for target in ["//a.org/b", "/\\", "/%2e%2e/", "/a?b?c", "/?/.well-known/"] {
            assert_eq!(read("GET", target), Some(target));
        }
    }

    /// Every target made of up to five of these parts: where we find a path at all, HAProxy finds the same.
    #[test]
    fn haproxy_finds_the_same_path() {
        const PARTS: [&str; 12] =
            ["http://", "HTTPS://", "a.org", ":80", ":", "u@", "?", "#", "/", "//", "\\", "%2e"];
        let (mut accepted, mut tried) = (0, 0);
        for number in 0..PARTS.len().pow(5) {
            let digits = (0..5).map(|place| number / PARTS.len().pow(place) % PARTS.len());
            let target: String = digits.map(|digit| PARTS[digit]).collect();
            for host in ["a.org", "a.org:80", "a.org:443"] {
                tried += 1;
                let Some(found) = origin_form("GET", &target, Some(host)) else { continue };
                accepted += 1;
                assert_eq!(path(found), haproxy_path(&target).unwrap_or("/"), "{target} at {host}");
            }
        }
        assert!(accepted > tried / 20, "{accepted} of {tried} were accepted");
    }
}
