//! URLs of peers: what is read, written out and read again is the same; a password is never shown;
//! and a request to any of them is one request, by a proxy too. So is a proxy's URL.

use marathon_acme::http::{Method, Reader, Request, write_connect, write_request};
use marathon_acme::proxy::{Exceptions, Proxy};
use marathon_acme::url::{Credentials, URL_BYTES_MAX, Url};

/// The first line is a URL, the second what a redirect of it says.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (first, location) = text.split_once('\n').unwrap_or((&text, "/"));
    let _ = Exceptions::parse(location);
    let proxy = Proxy::parse(first);
    if let Ok(proxy) = &proxy {
        let again = Proxy::parse(&proxy.to_string()).expect("what is written can be read");
        assert_eq!((&again.host, again.port), (&proxy.host, proxy.port));
        assert_eq!(again.credentials, None);
    }
    let Ok(url) = Url::parse(first) else { return };
    check(&url);
    by_proxy(&url, proxy.ok().and_then(|proxy| proxy.credentials).as_ref());
    if let Some(credentials) = url.credentials() {
        let Credentials::Basic { password, .. } = credentials else { panic!("no URL has a token") };
        let password = format!("Secret({} bytes)", password.expose().len());
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
    write_request(&Request::new(Method::Get, joined), Reader::Server).expect("a URL of ours");
}

fn check(url: &Url) {
    let text = url.to_string();
    assert!(text.len() <= URL_BYTES_MAX, "{} bytes", text.len());
    let again = Url::parse(&text).expect("what is written can be read");
    assert_eq!((again.origin(), again.target()), (url.origin(), url.target()));
    assert_eq!((again.to_string(), again.credentials()), (text, None));
    let post = Request::new(Method::Post, url.clone());
    let request = head(&write_request(&post, Reader::Server).expect("a URL of ours"));
    let lines: Vec<&str> = request.split("\r\n").collect();
    assert!(lines[0].split(' ').eq(["POST", url.target(), "HTTP/1.1"]));
    assert_eq!(lines[1], format!("Host: {}", url.authority()));
    assert_eq!(lines.len(), if url.credentials().is_some() { 7 } else { 6 });
}

/// To the proxy goes one head as well, and into the tunnel nothing that is the proxy's.
fn by_proxy(url: &Url, credentials: Option<&Credentials>) {
    let get = Request::new(Method::Get, url.clone());
    let request = head(&write_request(&get, Reader::Proxy { credentials }).expect("a URL of ours"));
    let target = format!("{}{}", url.origin(), url.target());
    assert!(
        request
            .split("\r\n")
            .next()
            .is_some_and(|line| { line.split(' ').eq(["GET", &target, "HTTP/1.1"]) })
    );
    let connect = head(&write_connect(url.origin(), credentials).expect("a URL of ours"));
    let fields = if credentials.is_some() { 1 } else { 0 };
    assert_eq!(connect.split("\r\n").count(), 5 + fields);
    assert_eq!(connect.matches("\r\nProxy-Authorization: Basic ").count(), fields);
    assert_eq!(request.matches("\r\nProxy-Authorization: Basic ").count(), fields);
}

/// A head as text, which has one end.
fn head(bytes: &[u8]) -> String {
    let head = String::from_utf8(bytes.to_vec()).expect("a head is text");
    let lines = head.split("\r\n").count();
    assert!(head.lines().count() == lines - 1 && head.ends_with("\r\n\r\n"));
    head
}
