//! What an operator might choose.

use std::net::IpAddr;

use marathon_acme::config::{Config, Listen, Mode, SkipRouteCheck};
use marathon_acme::domain::Domain;
use marathon_acme::log::Level;
use marathon_acme::proxy::{Exceptions, Proxies, Proxy};
use marathon_acme::url::Url;

use super::peers::{NAMES, PROXY_PASSWORD};

/// The choices that these bits stand for.
pub fn config(choices: u8) -> Config {
    let url = |text| Url::parse(text).expect("a URL");
    let default = Config::new("/nowhere".into());
    Config {
        acme: url("https://ca/directory"),
        email: (choices & 1 != 0).then(|| "ops@example.org".into()),
        marathon: vec![url("http://marathon.mesos:8080"), url("http://10.0.0.3:8080")],
        lb: vec![url("http://lb:9090")],
        allow_multiple_certs: choices & 2 != 0,
        listen: Listen { ip: Some(IpAddr::from([0, 0, 0, 0])), ..default.listen },
        sse_timeout: default.sse_timeout.filter(|_| choices & 4 != 0),
        log_level: if choices & 8 != 0 { Level::Debug } else { Level::Info },
        proxies: if choices & 5 == 5 { proxies() } else { Proxies::default() },
        san: choices & 16 != 0,
        profile: (choices & 32 != 0).then(|| "shortlived".into()),
        preferred_chain: (choices & 64 != 0).then(|| "Other Root".into()),
        prune_after: default.prune_after.filter(|_| choices & 8 != 0),
        skip_route_check: match choices & 3 {
            0 => SkipRouteCheck::All,
            _ => default.skip_route_check,
        },
        mode: match choices >> 6 {
            3 => Mode::Once,
            2 if choices & 1 != 0 => Mode::Revoke(Domain::parse(NAMES[0]).expect("a name")),
            _ => Mode::Serve,
        },
        ..default
    }
}

/// One proxy with a name and one with an address, and one Marathon that is gone to straight.
fn proxies() -> Proxies {
    let proxy = |at: &str| Proxy::parse(&format!("ops:{PROXY_PASSWORD}@{at}:3128")).ok();
    let exceptions = Exceptions::parse("10.0.0.3").expect("a list");
    Proxies { http: proxy("proxy"), https: proxy("10.0.0.8"), exceptions }
}
