//! A request of ours as bytes (RFC 9112 section 3, RFC 9110 section 7.8 and following). The one
//! place that writes request heads, and so the one that keeps values from starting fields.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::error::RequestError;
use super::message::{Method, Request};
use crate::secret::SecretBytes;
use crate::url::Credentials;

/// RFC 8555 section 6.1 wants one of every client.
const USER_AGENT: &str = concat!("marathon-acme/", env!("CARGO_PKG_VERSION"));

/// What [`write_request`] writes itself, so that a message has one length and one host.
const RESERVED: [&str; 4] = ["Host", "User-Agent", "Content-Length", "Transfer-Encoding"];

/// No head of ours is longer, in bytes: a URL twice, its credentials encoded, some short fields.
const HEAD_BYTES: usize = 8 * 1024;

/// The whole request, ready to send. `Authorization` of the URL's credentials (RFC 7617) is left
/// out where the request has its own.
///
/// # Errors
/// A value holds what would break out of its line; nothing of it may be sent.
pub fn write_request(request: &Request) -> Result<SecretBytes, RequestError> {
    let url = &request.url;
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !url.target().starts_with('/') || !visible(url.target()) {
        return Err(RequestError::Target);
    }
    let authority = url.authority();
    if authority.is_empty() || !visible(&authority) {
        return Err(RequestError::Host);
    }
    // With room for all of it: a text that grew would leave copies of the credentials.
    let mut head = Zeroizing::new(String::with_capacity(HEAD_BYTES));
    for part in [request.method.as_str(), " ", url.target(), " HTTP/1.1\r\n"] {
        head.push_str(part);
    }
    let mut write = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            head.push_str(part);
        }
    };
    write("Host", &authority);
    write("User-Agent", USER_AGENT);
    match url.credentials() {
        Some(credentials) if request.headers.first("Authorization").is_none() => {
            write("Authorization", &basic(credentials));
        }
        _ => {}
    }
    for (name, value) in request.headers.iter() {
        let reserved = RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
        if reserved || !is_field(name, value) {
            return Err(RequestError::Field(name.into()));
        }
        write(name, value);
    }
    // RFC 9110 section 8.6: said for a method that has a use for a body even when there is none.
    if request.method == Method::Post || !request.body.is_empty() {
        write("Content-Length", &request.body.len().to_string());
    }
    head.push_str("\r\n");
    Ok([head.as_bytes(), &request.body].concat().into())
}

/// Whether a field can be written as one line: a token, and a value without control characters
/// (RFC 9110 sections 5.1, 5.5 and 5.6.2).
pub(crate) fn is_field(name: &str, value: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let plain = |byte: u8| byte == b'\t' || !byte.is_ascii_control();
    !name.is_empty() && name.bytes().all(token) && value.bytes().all(plain)
}

/// RFC 7617 section 2.
fn basic(credentials: &Credentials) -> Zeroizing<String> {
    let pair = Zeroizing::new([&*credentials.user, ":", credentials.password.expose()].concat());
    let encoded = Zeroizing::new(STANDARD.encode(&*pair));
    Zeroizing::new(["Basic ", &*encoded].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::{Host, Origin, Scheme, Url};

    fn request(method: Method, url: &str) -> Request {
        Request::new(method, Url::parse(url).unwrap())
    }

    fn written(request: &Request) -> String {
        String::from_utf8(write_request(request).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_get_has_no_length() {
        let get = request(Method::Get, "http://marathon.mesos:8080/base/v2/apps?a=b")
            .with_header("Accept", "application/json");
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "GET /base/v2/apps?a=b HTTP/1.1\r\nHost: marathon.mesos:8080\r\n\
             User-Agent: marathon-acme/{version}\r\nAccept: application/json\r\n\r\n"
        );
        assert_eq!(written(&get), expected);
        assert!(written(&request(Method::Head, "https://[::1]/")).contains("\r\nHost: [::1]\r\n"));
    }

    #[test]
    fn a_post_has_a_length_even_when_empty() {
        let mut post = request(Method::Post, "http://lb:9090/_mlb_signal/usr1");
        assert!(written(&post).ends_with("\r\nContent-Length: 0\r\n\r\n"));
        post.body = b"{}\r\n".to_vec();
        assert!(written(&post).ends_with("\r\nContent-Length: 4\r\n\r\n{}\r\n"));
    }

    /// RFC 7617 section 2.
    #[test]
    fn credentials_of_the_url_are_sent_unless_the_request_has_its_own() {
        let get = request(Method::Get, "http://Aladdin:open%20sesame@h/");
        let line = "\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
        assert!(written(&get).contains(line));
        let own = written(&get.with_header("authorization", "token=abc"));
        assert!(own.contains("\r\nauthorization: token=abc\r\n") && !own.contains("Basic"));
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let get = || request(Method::Get, "http://h/");
        let field = |name: &str| Err(RequestError::Field(name.into()));
        for value in ["a\r\nX: b", "a\n", "a\rb", "a\0", "a\x7f", "a\x1b[m"] {
            assert_eq!(write_request(&get().with_header("X", value)), field("X"), "{value:?}");
        }
        assert!(write_request(&get().with_header("X", "a\tb \u{fc}")).is_ok());
        for name in ["", "a b", "a:", "a\r\nb", "\u{fc}"] {
            assert_eq!(write_request(&get().with_header(name, "x")), field(name), "{name:?}");
        }
        for name in ["host", "Content-Length", "TRANSFER-ENCODING", "User-Agent"] {
            assert_eq!(write_request(&get().with_header(name, "1")), field(name), "{name:?}");
        }
        for path in ["/a b", "/\r\nX: y", "/\u{fc}"] {
            let bad = Request::new(Method::Get, get().url.join(path));
            assert_eq!(write_request(&bad), Err(RequestError::Target), "{path:?}");
        }
        for name in ["h\r\nX: y", "h i"] {
            let host = Host::Name(name.into());
            let origin = Origin { scheme: Scheme::Http, host, port: 80 };
            let bad = Request::new(Method::Get, get().url.at(origin));
            assert_eq!(write_request(&bad), Err(RequestError::Host), "{name:?}");
        }
    }
}
