//! `/etc/resolv.conf` and `/etc/hosts` (resolv.conf(5), hosts(5)). Reads any bytes: a line that
//! cannot be understood is passed over, as the C library does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Name servers at most; further ones are passed over.
pub const SERVERS_MAX: usize = 3;
/// Search domains at most.
pub const SEARCH_MAX: usize = 16;
/// The largest `options ndots`.
const NDOTS_MAX: usize = 15;
/// The largest `options timeout`, in seconds.
const TIMEOUT_SECONDS_MAX: u64 = 30;
/// The largest `options attempts`.
const ATTEMPTS_MAX: u32 = 5;

/// What `/etc/resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// Asked in this order, at port 53; never empty.
    pub servers: Vec<IpAddr>,
    /// Appended to names with few dots, in this order; without dots at their ends.
    pub search: Vec<String>,
    /// A name with this many dots is first tried as it is.
    pub ndots: usize,
    /// How long a server may take.
    pub timeout: Duration,
    /// How often each server is asked.
    pub attempts: u32,
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
        };
        for line in String::from_utf8_lossy(bytes).lines() {
            let line = line.split(['#', ';']).next().unwrap_or("");
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(address)),
                // The last of several counts.
                Some("search") => conf.search = words.map(absolute).take(SEARCH_MAX).collect(),
                Some("domain") => conf.search = words.take(1).map(absolute).collect(),
                Some("options") => words.for_each(|option| conf.set(option)),
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS_MAX);
        if conf.servers.is_empty() {
            conf.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        conf.search.retain(|domain| !domain.is_empty());
        conf
    }

    fn set(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u64>() else { return };
        match name {
            "ndots" => self.ndots = usize::try_from(value).unwrap_or(NDOTS_MAX).min(NDOTS_MAX),
            "timeout" => {
                self.timeout = Duration::from_secs(value.clamp(1, TIMEOUT_SECONDS_MAX));
            }
            "attempts" => {
                self.attempts = u32::try_from(value).unwrap_or(ATTEMPTS_MAX).clamp(1, ATTEMPTS_MAX);
            }
            _ => {}
        }
    }
}

fn absolute(domain: &str) -> String {
    domain.trim_matches('.').to_ascii_lowercase()
}

/// An address; the zone of a link-local one (`%eth0`) is dropped.
fn address(text: &str) -> Option<IpAddr> {
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
            let Some(address) = words.next().and_then(address) else { continue };
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

    #[test]
    fn resolv_conf() {
        let conf = ResolvConf::parse(
            b"# comment\nnameserver 10.0.0.2 ; here\nnameserver fe80::1%eth0\r\nnameserver no\n\
              domain old.example\nsearch Marathon.Mesos. mesos\n\
              options ndots:3 timeout:99 attempts:0 rotate\n",
        );
        assert_eq!(conf.servers, [ip("10.0.0.2"), ip("fe80::1")]);
        assert_eq!(conf.search, ["marathon.mesos", "mesos"]);
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (3, 30, 1));
    }

    #[test]
    fn defaults_and_limits() {
        let conf = ResolvConf::parse(b"\xff\xfe\nsearch .\noptions ndots:x timeout attempts:-1");
        assert_eq!(conf.servers, [ip("127.0.0.1")]);
        assert!(conf.search.is_empty());
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (1, 5, 2));
        let many = ResolvConf::parse("nameserver 10.0.0.2\n".repeat(9).as_bytes());
        assert_eq!(many.servers.len(), SERVERS_MAX);
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
