//! A request of ours as bytes (RFC 9112 section 3, RFC 9110 section 7.8 and following). The one
//! place that writes request heads, and so the one that keeps values from starting fields.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::error::RequestError;
use super::message::{Method, Request};
use crate::secret::SecretBytes;
use crate::url::{Credentials, Origin};

/// RFC 8555 section 6.1 wants one of every client.
const USER_AGENT: &str = concat!("marathon-acme/", env!("CARGO_PKG_VERSION"));

/// What [`write_request`] writes itself, so that a message has one length and one host, and what is for
/// a proxy goes to no other.
const RESERVED: [&str; 5] =
    ["Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Proxy-Authorization"];

/// No head of ours is longer, in bytes: a URL twice, its credentials or a token and a proxy's credentials
/// encoded, some short fields.
const HEAD_BYTES: usize = 16 * 1024;

/// Who reads a request first, and so how its target is written.
#[derive(Clone, Copy, Debug)]
pub enum Reader<'a> {
    /// The server itself, perhaps through a tunnel: origin-form (RFC 9112 section 3.2.1).
    Server,
    /// A proxy that passes it on: absolute-form (RFC 9112 section 3.2.2).
    Proxy {
        /// For `Proxy-Authorization` (RFC 9110 section 11.7.2).
        credentials: Option<&'a Credentials>,
    },
}

/// The whole request, ready to send. `Authorization` of the URL's credentials is left out where the
/// request has its own.
///
/// # Errors
/// A value holds what would break out of its line; nothing of it may be sent.
pub fn write_request(request: &Request, reader: Reader<'_>) -> Result<SecretBytes, RequestError> {
    let url = &request.url;
    if !url.target().starts_with('/') || !is_visible(url.target()) {
        return Err(RequestError::Target);
    }
    let authority = url.authority();
    // With room for all of it: a text that grew would leave copies of the credentials.
    let mut head = Zeroizing::new(String::with_capacity(HEAD_BYTES));
    let origin = match reader {
        Reader::Server => String::new(),
        Reader::Proxy { .. } => url.origin().to_string(),
    };
    start(&mut head, &[request.method.as_str(), " ", &origin, url.target()], &authority)?;
    if let Reader::Proxy { credentials: Some(credentials) } = reader {
        write(&mut head, "Proxy-Authorization", &authorization(credentials));
    }
    let mut write = |name: &str, value: &str| write(&mut head, name, value);
    match url.credentials() {
        Some(credentials) if request.headers.first("Authorization").is_none() => {
            write("Authorization", &authorization(credentials));
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

/// The request for a tunnel to a target (RFC 9110 section 9.3.6), ready to send to a proxy.
///
/// # Errors
/// The target's host would break out of its line; nothing of it may be sent.
pub fn write_connect(
    target: &Origin,
    credentials: Option<&Credentials>,
) -> Result<SecretBytes, RequestError> {
    let authority = format!("{}:{}", target.host, target.port);
    let mut head = Zeroizing::new(String::with_capacity(HEAD_BYTES));
    start(&mut head, &["CONNECT ", &authority], &authority)?;
    if let Some(credentials) = credentials {
        write(&mut head, "Proxy-Authorization", &authorization(credentials));
    }
    head.push_str("\r\n");
    Ok(head.as_bytes().to_vec().into())
}

/// The request line and the fields that every request has.
fn start(head: &mut String, line: &[&str], authority: &str) -> Result<(), RequestError> {
    if authority.is_empty() || !is_visible(authority) {
        return Err(RequestError::Host);
    }
    line.iter().for_each(|part| head.push_str(part));
    head.push_str(" HTTP/1.1\r\n");
    write(head, "Host", authority);
    write(head, "User-Agent", USER_AGENT);
    Ok(())
}

fn write(head: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        head.push_str(part);
    }
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a field can be written as one line: a token, and a value without control characters
/// (RFC 9110 sections 5.1, 5.5 and 5.6.2).
pub(crate) fn is_field(name: &str, value: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let plain = |byte: u8| byte == b'\t' || !byte.is_ascii_control();
    !name.is_empty() && name.bytes().all(token) && value.bytes().all(plain)
}

/// The value of the field: RFC 7617 section 2, or as DC/OS wants its token.
fn authorization(credentials: &Credentials) -> Zeroizing<String> {
    match credentials {
        Credentials::Basic { user, password } => {
            let pair = Zeroizing::new([user, ":", password.expose()].concat());
            let encoded = Zeroizing::new(STANDARD.encode(&*pair));
            Zeroizing::new(["Basic ", &*encoded].concat())
        }
        Credentials::Token(token) => Zeroizing::new(["token=", token.expose()].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::{Host, Origin, Scheme, Url};

    fn request(method: Method, url: &str) -> Request {
        Request::new(method, Url::parse(url).unwrap())
    }

    fn write_request(request: &Request) -> Result<SecretBytes, RequestError> {
        super::write_request(request, Reader::Server)
    }

    fn text(bytes: &SecretBytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn written(request: &Request) -> String {
        text(&write_request(request).unwrap())
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
    fn a_token_is_sent_as_dcos_wants_it() {
        let mut get = request(Method::Get, "https://leader.mesos/service/marathon/v2/apps");
        let token = Credentials::Token(crate::secret::Secret::new("eyJ0.eyJ1.c2ln".into()));
        token.apply(std::slice::from_mut(&mut get.url));
        assert!(written(&get).contains("\r\nAuthorization: token=eyJ0.eyJ1.c2ln\r\n"));
    }

    /// RFC 9112 section 3.2.2.
    #[test]
    fn a_proxy_is_told_the_whole_url_and_its_own_credentials() {
        let get = request(Method::Get, "http://me:own@marathon.mesos:8080/base/v2/apps?a=b");
        let url = Url::parse("http://Aladdin:open%20sesame@proxy/").unwrap();
        let version = env!("CARGO_PKG_VERSION");
        for (credentials, field) in [
            (None, ""),
            (url.credentials(), "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"),
        ] {
            let written = super::write_request(&get, Reader::Proxy { credentials }).unwrap();
            let expected = format!(
                "GET http://marathon.mesos:8080/base/v2/apps?a=b HTTP/1.1\r\n\
                 Host: marathon.mesos:8080\r\nUser-Agent: marathon-acme/{version}\r\n{field}\
                 Authorization: Basic bWU6b3du\r\n\r\n"
            );
            assert_eq!(text(&written), expected);
        }
        let short = super::write_request(
            &request(Method::Get, "http://[2001:db8::1]:80/"),
            Reader::Proxy { credentials: None },
        );
        let line = "GET http://[2001:db8::1]/ HTTP/1.1\r\nHost: [2001:db8::1]\r\n";
        assert!(text(&short.unwrap()).starts_with(line));
    }

    /// RFC 9110 section 9.3.6: the port is always there.
    #[test]
    fn a_tunnel_is_asked_for_by_host_and_port() {
        let target = |url: &str| Url::parse(url).unwrap().origin().clone();
        let version = env!("CARGO_PKG_VERSION");
        let written = write_connect(&target("https://me:own@ca.example/dir"), None).unwrap();
        let expected = format!(
            "CONNECT ca.example:443 HTTP/1.1\r\nHost: ca.example:443\r\n\
             User-Agent: marathon-acme/{version}\r\n\r\n"
        );
        assert_eq!(text(&written), expected);
        let proxy = Url::parse("http://Aladdin:open%20sesame@proxy/").unwrap();
        let written = write_connect(&target("https://[::1]:14000/"), proxy.credentials()).unwrap();
        let written = text(&written);
        assert!(written.starts_with("CONNECT [::1]:14000 HTTP/1.1\r\nHost: [::1]:14000\r\n"));
        let field = "\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
        assert!(written.ends_with(field) && written.matches("Basic").count() == 1);
        let host = Host::Name("h\r\nX: y".into());
        let bad = Origin { scheme: Scheme::Https, host, port: 443 };
        assert_eq!(write_connect(&bad, None), Err(RequestError::Host));
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
        for name in
            ["host", "Content-Length", "TRANSFER-ENCODING", "User-Agent", "proxy-authorization"]
        {
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
