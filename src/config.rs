//! What the operator chose, checked, and the default of every option. `cli/` makes it, everything
//! else only reads it. Never parses a word of the command line.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::Domain;
use crate::keys::KeyType;
use crate::log::Level;
use crate::proxy::Proxies;
use crate::url::{Host, Origin, Url};

/// `--acme` by default: Let's Encrypt.
pub const ACME: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The port of `--listen` by default.
pub const PORT: u16 = 8000;
/// Domains of one app by default; `--max-domains-per-app` sets another limit.
pub const DOMAINS_PER_APP: usize = 1000;
/// Domains of all apps together: for so many, every piece of work stays short enough for challenges to be
/// answered in time.
pub const DOMAINS_MAX: usize = 20_000;

/// The choices of one run (contract: command line).
#[derive(Clone, Debug)]
pub struct Config {
    /// `STORAGE-DIR`.
    pub storage_dir: PathBuf,
    /// `--acme`: the directory of the CA.
    pub acme: Url,
    /// `--email`.
    pub email: Option<String>,
    /// `--marathon`: tried in order, never empty.
    pub marathon: Vec<Url>,
    /// `--lb`: all are signalled, never empty.
    pub lb: Vec<Url>,
    /// `--lb-verify-port` and `--lb-verify`.
    pub lb_verify: Verification,
    /// `--group`.
    pub group: String,
    /// `--allow-multiple-certs`.
    pub allow_multiple_certs: bool,
    /// `--listen`.
    pub listen: Listen,
    /// `--admin-listen`: where everything but challenges is answered, if elsewhere.
    pub admin_listen: Option<Listen>,
    /// `--sse-timeout`; `None` when 0.
    pub sse_timeout: Option<Duration>,
    /// `--marathon-timeout`; `None` when 0.
    pub marathon_timeout: Option<Duration>,
    /// `--log-level`.
    pub log_level: Level,
    /// `--log-format`.
    pub log_format: LogFormat,
    /// `--cert-mode`, the nine permission bits.
    pub cert_mode: u32,
    /// `--acme-ca`: a PEM bundle in place of the built-in roots.
    pub acme_ca: Option<PathBuf>,
    /// `--marathon-ca`: likewise.
    pub marathon_ca: Option<PathBuf>,
    /// `--marathon-token`: the file of the token that Marathon is asked with.
    pub marathon_token: Option<PathBuf>,
    /// `SSL_CERT_FILE`: likewise, for the one of these two that has no bundle of its own.
    pub ssl_cert_file: Option<PathBuf>,
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`: by whom the CA and Marathon are gone to.
    pub proxies: Proxies,
    /// `--san`: one certificate for each label, with all its domains.
    pub san: bool,
    /// `--profile`: the name of an ACME profile.
    pub profile: Option<String>,
    /// `--preferred-chain`: the common name of the topmost issuer that a chain should have.
    pub preferred_chain: Option<String>,
    /// `--key-type`, for new certificates.
    pub key_type: KeyType,
    /// `--eab-kid` with `--eab-hmac-key`.
    pub external_account: Option<ExternalAccount>,
    /// `--prune-after`; `None` when 0.
    pub prune_after: Option<Duration>,
    /// `--max-domains-per-app`, from 1 to [`DOMAINS_MAX`].
    pub max_domains_per_app: usize,
    /// `--skip-route-check`: whose challenge route is not tried before an order.
    pub skip_route_check: SkipRouteCheck,
    /// `--ca-limits`: what the CA's rate limits are reckoned by here.
    pub ca_limits: CaLimits,
    /// `--once` or `--revoke`, else the daemon.
    pub mode: Mode,
    /// `MARATHON_ACME_USER`: `UID[:GID]`, or a name that `/etc/passwd` knows, as it was given.
    pub user: Option<String>,
}

impl Config {
    /// Every option at its default. The only place that has the defaults: the help shows them too,
    /// and a test compares both.
    pub fn new(storage_dir: PathBuf) -> Config {
        let url = |text| Url::parse(text).expect("every default URL is well-formed");
        Config {
            storage_dir,
            acme: url(ACME),
            email: None,
            marathon: vec![url("http://marathon.mesos:8080")],
            lb: vec![url("http://marathon-lb.marathon.mesos:9090")],
            lb_verify: Verification::default(),
            group: "external".into(),
            allow_multiple_certs: false,
            listen: Listen { ip: None, port: PORT },
            admin_listen: None,
            sse_timeout: Some(Duration::from_secs(60)),
            marathon_timeout: Some(Duration::from_secs(10)),
            log_level: Level::Info,
            log_format: LogFormat::Text,
            cert_mode: 0o600,
            acme_ca: None,
            marathon_ca: None,
            marathon_token: None,
            ssl_cert_file: None,
            proxies: Proxies::default(),
            san: false,
            profile: None,
            preferred_chain: None,
            key_type: KeyType::P256,
            external_account: None,
            prune_after: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            max_domains_per_app: DOMAINS_PER_APP,
            skip_route_check: SkipRouteCheck::Of(BTreeSet::new()),
            ca_limits: CaLimits::default(),
            mode: Mode::Serve,
            user: None,
        }
    }
}

/// Where load balancers are looked at for the certificates that they serve; nowhere by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// `--lb-verify-port`: on this port of every address that is signalled.
    pub port: Option<u16>,
    /// `--lb-verify`: elsewhere, for the `--lb` URL of such an origin.
    pub elsewhere: Vec<(Origin, Place)>,
}

/// Where one `--lb` name is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this port of the address that is signalled.
    Same(u16),
    /// On this port of each address of that host.
    Host(Host, u16),
}

impl Verification {
    /// Where the load balancers of a `--lb` URL are looked at, if anywhere.
    pub fn place(&self, lb: &Url) -> Option<Place> {
        let own = self.elsewhere.iter().find(|(origin, _)| origin == lb.origin());
        own.map(|(_, place)| place.clone()).or(self.port.map(Place::Same))
    }
}

/// By which rate limits no order is made that the CA is bound to refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaLimits {
    /// Let's Encrypt's, for its production directory; none for other CAs.
    #[default]
    Known,
    /// None for any CA: its answers alone decide.
    Off,
    /// Let's Encrypt's for any CA, but for these values, each from 1.
    Given {
        /// New orders of the account in 3 h.
        orders: Option<u32>,
        /// Certificates for one registered domain in 7 d.
        domain: Option<u32>,
    },
}

/// What the program is to do with all that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Keep certificates fresh for as long as it lives.
    Serve,
    /// `--once`: bring everything up to date, then end.
    Once,
    /// `--revoke DOMAIN`: revoke and archive that certificate, then end.
    Revoke(Domain),
}

/// An account elsewhere that the CA's account is bound to (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// `--eab-kid`: the CA's name for it.
    pub kid: String,
    /// `--eab-hmac-key`: the file that holds the key in base64url.
    pub hmac_key_file: PathBuf,
}

/// Domains that are left to the CA: from here, their addresses lead elsewhere or nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipRouteCheck {
    /// Every one.
    All,
    /// These.
    Of(BTreeSet<Domain>),
}

impl SkipRouteCheck {
    /// Whether a domain is one of them.
    pub fn covers(&self, domain: &Domain) -> bool {
        match self {
            SkipRouteCheck::All => true,
            SkipRouteCheck::Of(domains) => domains.contains(domain),
        }
    }
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `None`: every interface, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    /// 0 lets the system choose.
    pub port: u16,
}

impl Listen {
    /// Whether only one of both can be had: one port, at one address or at all of them. No IPv4 listener
    /// is in the way of an IPv6 address.
    pub fn overlaps(self, other: Listen) -> bool {
        let takes_in = |one: Listen, other: Listen| match (one.ip, other.ip) {
            (None | Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), _) => true,
            (Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), Some(IpAddr::V4(_))) => true,
            (one, other) => one == other,
        };
        let same_port = self.port == other.port && self.port != 0;
        same_port && (takes_in(self, other) || takes_in(other, self))
    }
}

/// As it is written on the command line.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            None => write!(f, ":{}", self.port),
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `TIME LEVEL subject message key=value`.
    Text,
    /// One JSON object a line.
    Json,
}
