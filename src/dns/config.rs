//! `/etc/resolv.conf` and `/etc/hosts` (resolv.conf(5), hosts(5)). Reads any bytes. A line that cannot be
//! understood is skipped, as the C library does, but [`ResolvConf::ignored`] names it. Must never open
//! a file: what the system knows, such as the number of an interface, is in the text already.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Name servers at most; further ones are ignored, as by glibc (MAXNS).
pub const SERVERS_MAX: usize = 3;
/// Search domains at most.
pub const SEARCH_MAX: usize = 16;
/// Entries of [`ResolvConf::ignored`] at most.
pub const IGNORED_MAX: usize = 8;
/// The longest entry of [`ResolvConf::ignored`], in characters.
const IGNORED_CHARS_MAX: usize = 80;
/// The largest `options ndots`.
const NDOTS_MAX: usize = 15;
/// The largest `options timeout`, in seconds.
const TIMEOUT_SECONDS_MAX: u64 = 30;
/// The largest `options attempts`.
const ATTEMPTS_MAX: u32 = 5;
/// The port of DNS (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// An option without a value that changes what the resolver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `edns0`: queries announce a larger datagram (RFC 6891).
    Edns,
    /// `no-aaaa`: only A records are asked for.
    NoAaaa,
    /// `no-tld-query`: a name without a dot is not asked for as it is while there are search domains.
    NoTldQuery,
    /// `rotate`: each name begins with another name server.
    Rotate,
    /// `single-request`: AAAA is asked for once A is answered.
    SingleRequest,
    /// `use-vc`: queries go by TCP.
    UseTcp,
}

const FLAGS: [(&str, Flag); 8] = [
    ("edns0", Flag::Edns),
    ("no-aaaa", Flag::NoAaaa),
    ("no-tld-query", Flag::NoTldQuery),
    ("no_tld_query", Flag::NoTldQuery),
    ("rotate", Flag::Rotate),
    ("single-request", Flag::SingleRequest),
    ("use-vc", Flag::UseTcp),
    // OpenBSD's name for it.
    ("tcp", Flag::UseTcp),
];

/// Options of glibc that need nothing here. `single-request-reopen` always holds: each query has a socket
/// of its own. `trust-ad` concerns a bit that nobody reads, `no-reload` a reading that never fails a
/// lookup; the others are obsolete or for debugging.
const HARMLESS: [&str; 9] = [
    "debug",
    "inet6",
    "ip6-bytestring",
    "ip6-dotint",
    "no-check-names",
    "no-ip6-dotint",
    "no-reload",
    "single-request-reopen",
    "trust-ad",
];

/// What `/etc/resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// Asked in this order; never empty. An IPv6 address has its zone as scope id.
    pub servers: Vec<SocketAddr>,
    /// Appended to names with few dots, in this order; without dots at their ends.
    pub search: Vec<String>,
    /// A name with this many dots is first tried as it is.
    pub ndots: usize,
    /// How long a server may take.
    pub timeout: Duration,
    /// How often each server is asked.
    pub attempts: u32,
    /// Options that are set, each once.
    pub flags: Vec<Flag>,
    /// The first [`IGNORED_MAX`] settings that have no effect: unknown ones, values that cannot be read,
    /// and entries beyond a limit.
    pub ignored: Vec<String>,
}

impl ResolvConf {
    /// Reads the file. Without a name server there is one on this machine.
    pub fn parse(bytes: &[u8]) -> ResolvConf {
        let mut conf = ResolvConf {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            flags: Vec::new(),
            ignored: Vec::new(),
        };
        for line in String::from_utf8_lossy(bytes).lines() {
            let line = line.split(['#', ';']).next().unwrap_or("");
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.add_server(words.next().unwrap_or_default()),
                // The last of several counts.
                Some("search") => {
                    conf.search = words.map(absolute).take(SEARCH_MAX + 1).collect();
                }
                Some("domain") => conf.search = words.take(1).map(absolute).collect(),
                Some("options") => words.for_each(|option| conf.set(option)),
                Some(keyword) => conf.ignore("", keyword),
                None => {}
            }
        }
        if conf.servers.is_empty() {
            let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            conf.servers.extend(local.map(|address| SocketAddr::new(address, DNS_PORT)));
        }
        conf.search.retain(|domain| !domain.is_empty());
        if let Some(domain) = conf.search.get(SEARCH_MAX).cloned() {
            conf.ignore("search ", &domain);
            conf.search.truncate(SEARCH_MAX);
        }
        conf
    }

    /// Whether an option is set.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    fn ignore(&mut self, keyword: &str, value: &str) {
        if self.ignored.len() < IGNORED_MAX {
            self.ignored
                .push(keyword.chars().chain(value.chars()).take(IGNORED_CHARS_MAX).collect());
        }
    }

    fn add_server(&mut self, text: &str) {
        let server = server(text).filter(|_| self.servers.len() < SERVERS_MAX);
        if server.is_none_or(|(_, has_zone)| !has_zone) {
            self.ignore("nameserver ", text);
        }
        self.servers.extend(server.map(|(address, _)| address));
    }

    fn set(&mut self, option: &str) {
        if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| *name == option) {
            if !self.has(*flag) {
                self.flags.push(*flag);
            }
        } else if !HARMLESS.contains(&option) && self.set_number(option).is_none() {
            self.ignore("options ", option);
        }
    }

    fn set_number(&mut self, option: &str) -> Option<()> {
        let (name, value) = option.split_once(':')?;
        let value = value.parse::<u64>().ok()?;
        match name {
            "ndots" => self.ndots = usize::try_from(value).unwrap_or(NDOTS_MAX).min(NDOTS_MAX),
            "timeout" => {
                self.timeout = Duration::from_secs(value.clamp(1, TIMEOUT_SECONDS_MAX));
            }
            "attempts" => {
                self.attempts = u32::try_from(value).unwrap_or(ATTEMPTS_MAX).clamp(1, ATTEMPTS_MAX);
            }
            _ => return None,
        }
        Some(())
    }
}

fn absolute(domain: &str) -> String {
    domain.trim_matches('.').to_ascii_lowercase()
}

/// A name server, and whether its zone is known if it has one. Without its zone a server is still asked,
/// as by glibc: the system may have one interface only.
fn server(text: &str) -> Option<(SocketAddr, bool)> {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let zone = zone.parse::<u32>().ok();
    let address = match address.parse() {
        Ok(IpAddr::V6(address)) => address.to_canonical(),
        _ => IpAddr::V4(inet_aton(address)?),
    };
    // The system sends what is for any address to itself, and answers from there.
    let server = match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT),
        IpAddr::V4(address) => SocketAddr::new(address.into(), DNS_PORT),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), DNS_PORT),
        IpAddr::V6(address) => {
            SocketAddrV6::new(address, DNS_PORT, 0, zone.unwrap_or_default()).into()
        }
    };
    Some((server, zone.is_some()))
}

/// An IPv4 address as inet_aton(3) reads it: one to four numbers, decimal, octal or hexadecimal, of which
/// the last fills the bytes that are left.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let mut address = 0;
    let mut free_bits = 32;
    let mut parts = text.split('.').peekable();
    while let Some(part) = parts.next() {
        let number = c_number(part)?;
        let bits = if parts.peek().is_some() { 8 } else { free_bits };
        if free_bits == 0 || u64::from(number) >> bits != 0 {
            return None;
        }
        free_bits -= bits;
        address |= number << free_bits;
    }
    Some(Ipv4Addr::from(address))
}

fn c_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // The standard library accepts a sign.
    u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
}

/// An address of `/etc/hosts`; the zone of a link-local one (`%eth0`) is dropped.
fn host_address(text: &str) -> Option<IpAddr> {
    text.split('%').next()?.parse().ok()
}

/// What `/etc/hosts` says: names in lower case, and their addresses in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(BTreeMap<String, Vec<IpAddr>>);

impl Hosts {
    /// Reads the file.
    pub fn parse(bytes: &[u8]) -> Hosts {
        let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for line in String::from_utf8_lossy(bytes).lines() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(address) = words.next().and_then(host_address) else { continue };
            for name in words {
                let addresses = hosts.entry(absolute(name)).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Hosts(hosts)
    }

    /// The addresses of a name; `localhost` always has some (RFC 6761 section 6.3).
    pub fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = absolute(name);
        if let Some(addresses) = self.0.get(&name) {
            return Some(addresses.clone());
        }
        let local = name == "localhost" || name.ends_with(".localhost");
        local.then(|| vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn servers(conf: &ResolvConf) -> Vec<String> {
        conf.servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn resolv_conf() {
        let conf = ResolvConf::parse(
            b"# comment\nnameserver 10.0.0.2 ; here\nnameserver fe80::1%2\r\nnameserver no\n\
              domain old.example\nsearch Marathon.Mesos. mesos\n\
              options ndots:3 timeout:99 attempts:0 rotate\n",
        );
        assert_eq!(servers(&conf), ["10.0.0.2:53", "[fe80::1%2]:53"]);
        assert_eq!(conf.search, ["marathon.mesos", "mesos"]);
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (3, 30, 1));
        assert_eq!((conf.flags, conf.ignored), (vec![Flag::Rotate], vec!["nameserver no".into()]));
    }

    #[test]
    fn defaults_and_limits() {
        let conf = ResolvConf::parse(b"search .\noptions ndots:x timeout attempts:-1");
        assert_eq!(servers(&conf), ["127.0.0.1:53", "[::1]:53"]);
        assert!(conf.search.is_empty());
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (1, 5, 2));
        assert_eq!(conf.ignored, ["options ndots:x", "options timeout", "options attempts:-1"]);
        assert_eq!(ResolvConf::parse(b"").ignored, [""; 0]);
        let many = ResolvConf::parse("nameserver 10.0.0.2\n".repeat(99).as_bytes());
        assert_eq!((many.servers.len(), many.ignored.len()), (SERVERS_MAX, IGNORED_MAX));
        let many = ResolvConf::parse(format!("search {}", "a ".repeat(17)).as_bytes());
        assert_eq!((many.search.len(), many.ignored), (SEARCH_MAX, vec!["search a".to_string()]));
    }

    #[test]
    fn options() {
        let conf = ResolvConf::parse(
            b"options use-vc edns0 single-request\toptions-are-words\n\
              options no-aaaa no-tld-query rotate ndots:2\noptions\n\
              options trust-ad single-request-reopen inet6 no-reload debug\nsortlist 10.0.0.0\n",
        );
        let flags = [
            Flag::UseTcp,
            Flag::Edns,
            Flag::SingleRequest,
            Flag::NoAaaa,
            Flag::NoTldQuery,
            Flag::Rotate,
        ];
        assert_eq!((conf.flags, conf.ndots), (flags.to_vec(), 2));
        assert_eq!(conf.ignored, ["options options-are-words", "sortlist"]);
    }

    #[test]
    fn name_servers_are_read_as_glibc_reads_them() {
        let read = |text: &str| {
            let conf = ResolvConf::parse(format!("nameserver {text}\n").as_bytes());
            (conf.servers[0].to_string(), conf.ignored.len())
        };
        for (text, server) in [
            ("127.1", "127.0.0.1:53"),
            ("010.1.0x10.3", "8.1.16.3:53"),
            ("0x7f000035", "127.0.0.53:53"),
            ("10.65537", "10.1.0.1:53"),
            ("0.0.0.0", "127.0.0.1:53"),
            ("::", "[::1]:53"),
            ("::ffff:10.0.0.1", "10.0.0.1:53"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("fe80::1%7", "[fe80::1%7]:53"),
            ("fe80::1", "[fe80::1]:53"),
        ] {
            assert_eq!(read(text), (server.into(), 0), "{text}");
        }
        // The interface is not there.
        assert_eq!(read("fe80::1%eth9"), ("[fe80::1]:53".into(), 1));
        for text in
            ["", "1.2.3.4.5", "256.0.0.1", "1.2.3.256", "+1", "0x", "08", "1..2", "a.b", "0x+1"]
        {
            assert_eq!(read(text), ("127.0.0.1:53".into(), 1), "{text}");
        }
    }

    #[test]
    fn hosts() {
        let hosts = Hosts::parse(
            b"127.0.0.1 localhost\n10.0.0.1\tMarathon.mesos marathon # here\n10.0.0.2 marathon\n\
              10.0.0.1 marathon\nnonsense x\n::1\n#10.0.0.9 y\n",
        );
        assert_eq!(hosts.addresses("MARATHON"), Some(vec![ip("10.0.0.1"), ip("10.0.0.2")]));
        assert_eq!(hosts.addresses("marathon.mesos."), Some(vec![ip("10.0.0.1")]));
        assert_eq!(hosts.addresses("localhost"), Some(vec![ip("127.0.0.1")]));
        assert_eq!(hosts.addresses("a.localhost"), Some(vec![ip("::1"), ip("127.0.0.1")]));
        assert_eq!(hosts.addresses("y"), None);
    }
}
