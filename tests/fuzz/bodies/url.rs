//! URLs of peers: what is read, written out and read again is the same; a password is never shown;
//! and a request to any of them is one request.

use marathon_acme::http::{Method, Request, write_request};
use marathon_acme::url::{URL_BYTES_MAX, Url};

/// The first line is a URL, the second what a redirect of it says.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (first, location) = text.split_once('\n').unwrap_or((&text, "/"));
    let Ok(url) = Url::parse(first) else { return };
    check(&url);
    if let Some(credentials) = url.credentials() {
        let password = format!("Secret({} bytes)", credentials.password.expose().len());
        let shown = format!("{credentials:?}");
        assert!(shown.ends_with(&format!("password: {password} }}")), "{shown}");
        assert_eq!(format!("{url:?}"), url.to_string(), "it is read back without them");
    }
    if let Ok(next) = url.resolve(location) {
        check(&next);
        let here = next.origin() == url.origin();
        assert!(here || next.credentials().is_none() || location.contains('@'), "sent elsewhere");
    }
    let joined = url.join("/v2/apps?embed=x");
    assert!(joined.target().ends_with("/v2/apps?embed=x") && joined.origin() == url.origin());
    write_request(&Request::new(Method::Get, joined)).expect("a URL of ours");
}

fn check(url: &Url) {
    let text = url.to_string();
    assert!(text.len() <= URL_BYTES_MAX, "{} bytes", text.len());
    let again = Url::parse(&text).expect("what is written can be read");
    assert_eq!((again.origin(), again.target()), (url.origin(), url.target()));
    assert_eq!((again.to_string(), again.credentials()), (text, None));
    let request = write_request(&Request::new(Method::Post, url.clone())).expect("a URL of ours");
    let request = String::from_utf8(request.to_vec()).expect("a head is text");
    let lines: Vec<&str> = request.split("\r\n").collect();
    assert!(request.lines().count() == lines.len() - 1 && request.ends_with("\r\n\r\n"));
    assert!(lines[0].split(' ').eq(["POST", url.target(), "HTTP/1.1"]));
    assert_eq!(lines[1], format!("Host: {}", url.authority()));
    assert_eq!(lines.len(), if url.credentials().is_some() { 7 } else { 6 });
}
