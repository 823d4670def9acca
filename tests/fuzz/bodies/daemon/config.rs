//! What an operator might choose.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use marathon_acme::config::{
    CaLimits, Config, DOMAINS_PER_APP, Listen, LogFormat, Mode, SkipRouteCheck,
};
use marathon_acme::domain::Domain;
use marathon_acme::keys::KeyType;
use marathon_acme::log::Level;
use marathon_acme::proxy::{Exceptions, Proxies, Proxy};
use marathon_acme::url::Url;

use super::peers::{NAMES, PROXY_PASSWORD};

/// The choices that these bits stand for.
pub fn config(choices: u8) -> Config {
    let url = |text| Url::parse(text).expect("a URL");
    Config {
        storage_dir: "/nowhere".into(),
        acme: url("https://ca/directory"),
        email: (choices & 1 != 0).then(|| "ops@example.org".into()),
        marathon: vec![url("http://marathon.mesos:8080"), url("http://10.0.0.3:8080")],
        lb_verify: marathon_acme::config::Verification::default(),
        lb: vec![url("http://lb:9090")],
        group: "external".into(),
        allow_multiple_certs: choices & 2 != 0,
        listen: Listen { ip: Some(IpAddr::from([0, 0, 0, 0])), port: 8000 },
        admin_listen: None,
        sse_timeout: (choices & 4 != 0).then(|| Duration::from_secs(60)),
        marathon_timeout: Some(Duration::from_secs(10)),
        log_level: if choices & 8 != 0 { Level::Debug } else { Level::Info },
        log_format: LogFormat::Text,
        cert_mode: 0o600,
        acme_ca: None,
        marathon_ca: None,
        marathon_token: None,
        ssl_cert_file: None,
        proxies: if choices & 5 == 5 { proxies() } else { Proxies::default() },
        san: choices & 16 != 0,
        profile: (choices & 32 != 0).then(|| "shortlived".into()),
        preferred_chain: (choices & 64 != 0).then(|| "Other Root".into()),
        key_type: KeyType::P256,
        external_account: None,
        ca_limits: CaLimits::Known,
        prune_after: (choices & 8 != 0).then(|| Duration::from_secs(30 * 24 * 60 * 60)),
        max_domains_per_app: DOMAINS_PER_APP,
        skip_route_check: match choices & 3 {
            0 => SkipRouteCheck::All,
            _ => SkipRouteCheck::Of(BTreeSet::new()),
        },
        mode: match choices >> 6 {
            3 => Mode::Once,
            2 if choices & 1 != 0 => Mode::Revoke(Domain::parse(NAMES[0]).expect("a name")),
            _ => Mode::Serve,
        },
        user: None,
    }
}

/// One proxy with a name and one with an address, and one Marathon that is gone to straight.
fn proxies() -> Proxies {
    let proxy = |at: &str| Proxy::parse(&format!("ops:{PROXY_PASSWORD}@{at}:3128")).ok();
    let exceptions = Exceptions::parse("10.0.0.3").expect("a list");
    Proxies { http: proxy("proxy"), https: proxy("10.0.0.8"), exceptions }
}
