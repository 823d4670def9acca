//! `http` and `https` URLs, as far as a client needs them (RFC 3986, RFC 9110 section 4.2).
//!
//! Credentials stay inside: neither `Display` nor `Debug` ever shows a password.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::secret::Secret;

/// The longest URL read, in bytes.
pub const URL_BYTES_MAX: usize = 2048;
/// The longest token, in bytes; one of DC/OS is some hundred.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Whether TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain HTTP, port 80.
    Http,
    /// HTTP over TLS, port 443.
    Https,
}

/// Who is asked: a name to resolve, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A name, in lower case, for DNS or `/etc/hosts`.
    Name(String),
    /// An address literal.
    Ip(IpAddr),
}

/// How we show who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// User and password of HTTP basic authentication (RFC 7617), percent-decoded.
    Basic {
        /// Up to the first `:`.
        user: String,
        /// All behind the first `:`, colons included; may be empty.
        password: Secret,
    },
    /// The token of DC/OS, in a scheme of its own: `token=…`. No URL has it in its text.
    Token(Secret),
}

/// Scheme, host and port: what a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// The name or address.
    pub host: Host,
    /// The port, the scheme's own when the URL named none.
    pub port: u16,
}

/// An absolute `http` or `https` URL without fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    origin: Origin,
    credentials: Option<Credentials>,
    /// Path and query, starting with `/`; only visible ASCII.
    target: String,
}

/// What stands between `//` and the path (RFC 3986 section 3.2).
pub(crate) struct Authority {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) host: Host,
    /// `None` where it is not written.
    pub(crate) port: Option<u16>,
}

/// Why a text is not a [`Url`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    Scheme,
    /// No host, or one with characters that no host name has.
    Host,
    /// Not a number from 1 to 65535.
    Port,
    /// White space, control characters or non-ASCII.
    Character,
    /// A `%` without two hexadecimal digits in the user or password.
    Escape,
    /// Longer than [`URL_BYTES_MAX`].
    TooLong,
}

impl Url {
    /// Reads an absolute URL. A fragment is dropped; an empty path becomes `/`.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        check_characters(text)?;
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError::Scheme),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let Authority { credentials, host, port } = Authority::parse(authority)?;
        let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
        let url = Url {
            origin: Origin { scheme, host, port: port.unwrap_or(scheme.default_port()) },
            credentials,
            target,
        };
        url.within_limit()
    }

    /// What is written of a URL can be longer than what was read, and must be readable again.
    fn within_limit(self) -> Result<Url, UrlError> {
        if self.to_string().len() > URL_BYTES_MAX { Err(UrlError::TooLong) } else { Ok(self) }
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What it is asked with, if anything.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Whether nobody on the way can listen: TLS is spoken, or the way does not leave this machine.
    pub fn is_private(&self) -> bool {
        self.origin.scheme == Scheme::Https
            || match &self.origin.host {
                Host::Ip(address) => address.is_loopback(),
                Host::Name(name) => name == "localhost",
            }
    }

    /// Path and query as they stand in a request line; starts with `/`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of a `Host` field: the port is left out when it is the scheme's own.
    pub fn authority(&self) -> String {
        self.origin.authority()
    }

    /// This URL with `path` (which starts with `/` and may carry a query) appended to its own
    /// path, so that a base path is kept; a query of the base is dropped.
    pub fn join(&self, path: &str) -> Url {
        let base = self.target.split('?').next().unwrap_or("").trim_end_matches('/');
        Url { target: format!("{base}{path}"), ..self.clone() }
    }

    /// This URL at another origin, which no text need spell.
    #[cfg(test)]
    pub(crate) fn at(&self, origin: Origin) -> Url {
        Url { origin, ..self.clone() }
    }

    /// This URL with the credentials of another, for a redirect that may carry them on.
    pub fn with_credentials_of(&self, other: &Url) -> Url {
        Url { credentials: other.credentials.clone(), ..self.clone() }
    }

    /// What a `Location` field names (RFC 3986 section 5.2, absolute URLs and absolute paths only),
    /// without credentials of its own unless it holds them.
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn resolve(&self, location: &str) -> Result<Url, UrlError> {
        if location.starts_with('/') && !location.starts_with("//") {
            if !location.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(UrlError::Character);
            }
            let target = location.split('#').next().unwrap_or(location);
            return Url { target: target.into(), ..self.clone() }.within_limit();
        }
        Url::parse(location)
    }
}

impl Authority {
    /// Reads `[user[:password]@]host[:port]`.
    pub(crate) fn parse(text: &str) -> Result<Authority, UrlError> {
        check_characters(text)?;
        let (userinfo, host_port) = match text.rsplit_once('@') {
            Some((userinfo, host_port)) => (Some(userinfo), host_port),
            None => (None, text),
        };
        let (host, port) = parse_host_port(host_port)?;
        Ok(Authority { credentials: userinfo.map(parse_credentials).transpose()?, host, port })
    }
}

impl Credentials {
    /// Has all these asked with them.
    pub fn apply(&self, urls: &mut [Url]) {
        for url in urls {
            url.credentials = Some(self.clone());
        }
    }

    #[cfg(test)]
    pub(crate) fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic { user: user.into(), password: Secret::new(password.into()) }
    }

    /// Reads the text of a token's file; `None` where that holds no token.
    pub fn token(text: &Secret) -> Option<Credentials> {
        let token = text.expose().trim();
        let whole = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
        let fits = whole && token.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Credentials::Token(Secret::new(token.to_string())))
    }
}

impl Scheme {
    /// 80 or 443.
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Origin {
    /// `host` or `host:port`, IPv6 addresses in brackets.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn check_characters(text: &str) -> Result<(), UrlError> {
    if text.len() > URL_BYTES_MAX {
        return Err(UrlError::TooLong);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(UrlError::Character);
    }
    Ok(())
}

fn parse_host_port(text: &str) -> Result<(Host, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(UrlError::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_| UrlError::Host)?;
        (Host::Ip(address.into()), port.strip_prefix(':').or((!port.is_empty()).then_some("-")))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (parse_host(host)?, Some(port)),
            None => (parse_host(text)?, None),
        }
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse().ok().filter(|port| *port != 0);
            Some(port.ok_or(UrlError::Port)?)
        }
        Some(_) => return Err(UrlError::Port),
    };
    Ok((host, port))
}

fn parse_host(text: &str) -> Result<Host, UrlError> {
    if let Ok(address) = text.parse() {
        return Ok(Host::Ip(IpAddr::V4(address)));
    }
    // Underscores are no host name characters, but Mesos-DNS names may hold them.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if text.is_empty() || text.starts_with('.') || !text.bytes().all(fits) {
        return Err(UrlError::Host);
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

fn parse_credentials(userinfo: &str) -> Result<Credentials, UrlError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let password = Secret::new(percent_decode(password)?);
    Ok(Credentials::Basic { user: percent_decode(user)?, password })
}

fn percent_decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(UrlError::Escape) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| UrlError::Escape)?);
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Escape)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V4(address)) => address.fmt(f),
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Without user and password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = if self.target == "/" { "" } else { &self.target };
        write!(f, "{}{target}", self.origin)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlError::Scheme => f.write_str("it does not start with http:// or https://"),
            UrlError::Host => f.write_str("its host is missing or malformed"),
            UrlError::Port => f.write_str("its port is not a number from 1 to 65535"),
            UrlError::Character => f.write_str("it contains a character that no URL may have"),
            UrlError::Escape => f.write_str("its user or password has a broken % escape"),
            UrlError::TooLong => write!(f, "it is longer than {URL_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for UrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL of this test")
    }

    #[test]
    fn parts() {
        let it = url("HTTPS://Marathon.Mesos:8443/base/path?x=1#fragment");
        assert_eq!(it.origin().host, Host::Name("marathon.mesos".into()));
        assert_eq!((it.origin().scheme, it.origin().port), (Scheme::Https, 8443));
        assert_eq!(it.target(), "/base/path?x=1");
        assert_eq!(it.authority(), "marathon.mesos:8443");
        assert_eq!(url("http://a.b").target(), "/");
        assert_eq!(url("http://a.b?q").target(), "/?q");
        assert_eq!(url("http://a.b:80").authority(), "a.b");
        assert_eq!(url("http://[::1]:81/").authority(), "[::1]:81");
        assert_eq!(url("http://127.0.0.1:").origin().host, Host::Ip([127, 0, 0, 1].into()));
    }

    #[test]
    fn passwords_may_hold_colons_and_escapes_and_are_never_shown() {
        let it = url("http://me:a:b%40c@marathon:8080/x");
        let credentials = it.credentials().expect("credentials");
        assert_eq!(*credentials, Credentials::basic("me", "a:b@c"));
        let shown = format!("{it} {it:?} {credentials:?}");
        assert!(!shown.contains("b@c") && !shown.contains("b%40c"), "{shown}");
        assert_eq!(it.to_string(), "http://marathon:8080/x");
    }

    /// What a user typed without percent encoding: the host begins after the last `@`.
    #[test]
    fn userinfo_ends_at_the_last_at_sign() {
        let it = url("http://me:p@ss@w@marathon:8080/x");
        assert_eq!(it.credentials(), Some(&Credentials::basic("me", "p@ss@w")));
        assert_eq!(it.to_string(), "http://marathon:8080/x");
    }

    #[test]
    fn a_token_is_one_word_and_never_shown() {
        let token = |text: &str| Credentials::token(&Secret::new(text.into()));
        let read = token(" eyJ0.eyJ1.c2ln\r\n").expect("a token");
        assert_eq!(read, Credentials::Token(Secret::new("eyJ0.eyJ1.c2ln".into())));
        let mut it = url("http://marathon:8080/x");
        read.apply(std::slice::from_mut(&mut it));
        assert_eq!(it.credentials(), Some(&read));
        assert!(!format!("{it} {it:?} {read:?}").contains("eyJ"));
        for none in ["", " \n", "two words", "a\nb", "\u{fffd}", &"a".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(token(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_base_path_is_kept() {
        assert_eq!(
            url("http://h/service/marathon/").join("/v2/apps").target(),
            "/service/marathon/v2/apps"
        );
        assert_eq!(url("http://h").join("/v2/apps?a=b").target(), "/v2/apps?a=b");
    }

    #[test]
    fn locations() {
        let base = url("http://u:p@h:1/a");
        assert_eq!(base.resolve("/b").map(|u| u.to_string()), Ok("http://h:1/b".into()));
        assert_eq!(base.resolve("https://x/y").map(|u| u.to_string()), Ok("https://x/y".into()));
        assert_eq!(base.resolve("https://x/y").map(|u| u.credentials().is_none()), Ok(true));
        assert_eq!(base.resolve("//x/y"), Err(UrlError::Scheme));
    }

    #[test]
    fn what_is_written_is_within_the_limit() {
        let longest = |start: &str| format!("{start}{}", "a".repeat(URL_BYTES_MAX - start.len()));
        let too_long = Err(UrlError::TooLong);
        assert_eq!(url(&longest("http://h/?")).to_string().len(), URL_BYTES_MAX);
        // Written with a `/` before the query.
        assert_eq!(Url::parse(&longest("http://h?")), too_long);
        // Written as `[::ffff:16.16.16.16]`.
        assert_eq!(Url::parse(&longest("http://[::ffff:1010:1010]/")), too_long);
        assert_eq!(url("http://h/").resolve(&longest("/")), too_long);
    }

    #[test]
    fn rubbish_is_refused_with_its_reason() {
        let cases = [
            ("marathon:8080", UrlError::Scheme),
            ("ftp://x", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http://:80", UrlError::Host),
            ("http://a,b", UrlError::Host),
            ("http://a:0", UrlError::Port),
            ("http://a:99999", UrlError::Port),
            ("http://a:+1", UrlError::Port),
            ("http://[::1", UrlError::Host),
            ("http://[::1]x", UrlError::Port),
            ("http://a b", UrlError::Character),
            ("http://a/\r\nHost: b", UrlError::Character),
            ("http://u%4:p@a", UrlError::Escape),
        ];
        for (text, error) in cases {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }
}
