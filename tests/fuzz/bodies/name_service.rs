//! `/etc/resolv.conf` and `/etc/hosts`: whatever they hold, what is read keeps its limits, and
//! settings that are written out and read again are the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use marathon_acme::dns::config::{Flag, Hosts, IGNORED_MAX, ResolvConf, SEARCH_MAX, SERVERS_MAX};

/// The text of either file, read as both.
pub fn run(bytes: &[u8]) {
    let conf = ResolvConf::parse(bytes);
    assert!((1..=SERVERS_MAX).contains(&conf.servers.len()));
    assert!(conf.search.len() <= SEARCH_MAX);
    let is_bare =
        |domain: &String| !domain.is_empty() && !domain.starts_with('.') && !domain.ends_with('.');
    assert!(conf.search.iter().all(is_bare));
    assert!(conf.ndots <= 15 && (1..=30).contains(&conf.timeout.as_secs()));
    assert!((1..=5).contains(&conf.attempts));
    assert!(conf.servers.iter().all(|server| server.port() == 53 && !server.ip().is_unspecified()));
    assert!(
        conf.ignored.len() <= IGNORED_MAX && conf.ignored.iter().all(|it| it.chars().count() <= 80)
    );
    let again = ResolvConf::parse(written(&conf).as_bytes());
    assert_eq!(again.ignored, [""; 0], "what is understood is not ignored");
    assert_eq!(ResolvConf { ignored: Vec::new(), ..conf }, again);

    let hosts = Hosts::parse(bytes);
    for word in String::from_utf8_lossy(bytes).split_whitespace().take(64) {
        let addresses = hosts.addresses(word);
        assert_eq!(hosts.addresses(&word.to_ascii_uppercase()), addresses);
        assert_eq!(hosts.addresses(&format!("{word}.")), addresses);
        if let Some(addresses) = addresses {
            let once: BTreeSet<_> = addresses.iter().collect();
            assert!(!addresses.is_empty() && once.len() == addresses.len());
        }
    }
    assert!(hosts.addresses("localhost").is_some_and(|it| !it.is_empty()));
}

fn written(conf: &ResolvConf) -> String {
    let server = |server: &SocketAddr| match server {
        SocketAddr::V6(server) => format!("nameserver {}%{}\n", server.ip(), server.scope_id()),
        SocketAddr::V4(server) => format!("nameserver {}\n", server.ip()),
    };
    let servers: Vec<String> = conf.servers.iter().map(server).collect();
    let search = if conf.search.is_empty() { "".into() } else { conf.search.join(" ") };
    let ResolvConf { ndots, timeout, attempts, .. } = conf;
    let flags: Vec<&str> = conf.flags.iter().map(|flag| name(*flag)).collect();
    format!(
        "{}search {search}\noptions ndots:{ndots} timeout:{} attempts:{attempts} {}\n",
        servers.concat(),
        timeout.as_secs(),
        flags.join(" ")
    )
}

fn name(flag: Flag) -> &'static str {
    match flag {
        Flag::Edns => "edns0",
        Flag::NoAaaa => "no-aaaa",
        Flag::NoTldQuery => "no-tld-query",
        Flag::Rotate => "rotate",
        Flag::SingleRequest => "single-request",
        Flag::UseTcp => "use-vc",
    }
}
