//! Which HTTP proxy a request goes by, as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say. Reads no
//! environment and connects to nobody: texts in, a choice for each target out.
//!
//! There is no RFC for these variables. Where programs differ:
//! - a proxy without a port is at port 1080, as with curl; its scheme may be missing, as there;
//! - a name in `NO_PROXY` is meant with all names below it, a dot before it changes nothing (curl; Go
//!   leaves the name itself out then);
//! - `localhost` and literal loopback addresses are never proxied, as in Go. Another name that resolves
//!   to a loopback address is: a target's name is the proxy's to resolve, not ours.
//!
//! No error and no `Debug` here shows a value that may bear a password.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::url::{Authority, Credentials, Host, Origin, Scheme, URL_BYTES_MAX, UrlError};

/// The port of a proxy whose URL names none: curl's choice.
pub const DEFAULT_PORT: u16 = 1080;

/// An HTTP proxy that is spoken to in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its name, which our own resolver resolves, or its address.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// What `Proxy-Authorization` says, to the proxy alone (RFC 9110 section 11.7.2).
    pub credentials: Option<Credentials>,
}

/// The proxies of one run, and who is gone to without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `HTTP_PROXY`: for `http` targets.
    pub http: Option<Proxy>,
    /// `HTTPS_PROXY`: for `https` targets.
    pub https: Option<Proxy>,
    /// `NO_PROXY`.
    pub exceptions: Exceptions,
}

/// What `NO_PROXY` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// This name and all below it; in lower case, without dots at its ends.
    Domain(String),
    /// The addresses that agree in so many bits (CIDR, RFC 4632 section 3.1).
    Block(IpAddr, u32),
}

/// Why a text names no proxy that can be used. The text is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// TLS to the proxy itself.
    Https,
    /// SOCKS of any version.
    Socks,
    /// A path, a query or a fragment; or a password with a bare `/`, `?` or `#`.
    Path,
    /// Not a URL for another reason.
    Url(UrlError),
}

/// An item of `NO_PROXY` that says nothing; of one with an `@`, which may be a proxy's URL in the wrong
/// place, what stands behind it, and of one before that nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionError(pub String);

impl Proxy {
    /// Reads `[http://][user[:password]@]host[:port][/]`. User and password are percent-decoded.
    ///
    /// # Errors
    /// It is another kind of proxy, or no URL.
    pub fn parse(text: &str) -> Result<Proxy, ProxyError> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "http" => rest,
                "https" => return Err(ProxyError::Https),
                scheme if scheme.starts_with("socks") => return Err(ProxyError::Socks),
                _ => return Err(ProxyError::Url(UrlError::Scheme)),
            },
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(ProxyError::Path);
        }
        let Authority { credentials, host, port } =
            Authority::parse(rest).map_err(ProxyError::Url)?;
        let proxy = Proxy { host, port: port.unwrap_or(DEFAULT_PORT), credentials };
        // With the port, which may be the default one, as every other URL.
        if proxy.to_string().len() > URL_BYTES_MAX {
            return Err(ProxyError::Url(UrlError::TooLong));
        }
        Ok(proxy)
    }
}

impl Proxies {
    /// The proxy by which a target is gone to; `None`: straight.
    pub fn choose(&self, target: &Origin) -> Option<&Proxy> {
        let proxy = match target.scheme {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        };
        proxy.filter(|_| !is_local(&target.host) && !self.exceptions.hold(target))
    }
}

impl Exceptions {
    /// Reads a list with commas: names, addresses, CIDR blocks, `*` for every target; each but a block
    /// with an optional `:port`. Empty items are skipped.
    ///
    /// # Errors
    /// An item is none of these.
    pub fn parse(list: &str) -> Result<Exceptions, ExceptionError> {
        let mut rest = list;
        let exceptions = std::iter::from_fn(|| {
            let is_between = |c: char| c == ',' || c.is_ascii_whitespace();
            rest = rest.trim_start_matches(is_between);
            let item;
            (item, rest) = rest.split_at(rest.find(is_between).unwrap_or(rest.len()));
            // A comma in a password parts it: an `@` that comes later may be the one behind it.
            let shown = if rest.contains('@') { "***" } else { item.rsplit('@').next()? };
            let exception = || Exception::parse(item).ok_or_else(|| ExceptionError(shown.into()));
            (!item.is_empty()).then(exception)
        });
        exceptions.collect::<Result<_, _>>().map(Exceptions)
    }

    /// Whether a target is one of them. A name is not looked up for it.
    fn hold(&self, target: &Origin) -> bool {
        self.0
            .iter()
            .any(|it| it.port.is_none_or(|port| port == target.port) && it.hosts.hold(&target.host))
    }
}

impl Exception {
    fn parse(item: &str) -> Option<Exception> {
        if let Some((address, length)) = item.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let digits = length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|length| *length <= bits(address) && digits)?;
            return Some(Exception { hosts: Hosts::Block(address, length), port: None });
        }
        // Without brackets it would be a name with a port.
        if let Ok(address) = item.parse::<Ipv6Addr>() {
            return Some(Exception { hosts: Hosts::one(address.into()), port: None });
        }
        if item == "*" || item.starts_with("*:") {
            let port = Authority::parse(&item.replacen('*', "any", 1)).ok()?.port;
            return Some(Exception { hosts: Hosts::All, port });
        }
        let item = item.strip_prefix("*.").or(item.strip_prefix('.')).unwrap_or(item);
        let Authority { credentials: None, host, port } = Authority::parse(item).ok()? else {
            return None;
        };
        let hosts = match host {
            Host::Ip(address) => Hosts::one(address),
            Host::Name(name) => Hosts::Domain(name.trim_end_matches('.').into()),
        };
        Some(Exception { hosts, port })
    }
}

impl Hosts {
    fn one(address: IpAddr) -> Hosts {
        let address = address.to_canonical();
        Hosts::Block(address, bits(address))
    }

    fn hold(&self, host: &Host) -> bool {
        match (self, host) {
            (Hosts::All, _) => true,
            (Hosts::Domain(domain), Host::Name(name)) => {
                let above = name.trim_end_matches('.').strip_suffix(domain.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            (Hosts::Block(block, length), Host::Ip(address)) => {
                agree(*block, address.to_canonical(), *length)
            }
            _ => false,
        }
    }
}

/// Whether two addresses of one family begin with the same bits.
fn agree(left: IpAddr, right: IpAddr, length: u32) -> bool {
    let differing = match (left, right) {
        (IpAddr::V4(left), IpAddr::V4(right)) => (left.to_bits() ^ right.to_bits()).leading_zeros(),
        (IpAddr::V6(left), IpAddr::V6(right)) => (left.to_bits() ^ right.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= length
}

/// How many bits an address has.
fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether a target is this machine by its very name.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Name(name) => name.trim_end_matches('.') == "localhost",
        Host::Ip(address) => address.to_canonical().is_loopback(),
    }
}

/// As an error names it: without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::Https => f.write_str("a proxy behind TLS cannot be used"),
            ProxyError::Socks => f.write_str("a SOCKS proxy cannot be used"),
            ProxyError::Path => {
                f.write_str("it has a path, or a password whose / ? or # is not percent-encoded")
            }
            ProxyError::Url(UrlError::Scheme) => f.write_str("its scheme is not http"),
            ProxyError::Url(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProxyError {}

impl fmt::Display for ExceptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no name, no address, no block such as 10.0.0.0/8, and not *", self.0)
    }
}

impl std::error::Error for ExceptionError {}

#[cfg(test)]
mod tests;
