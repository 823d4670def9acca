//! What the daemon is measured among: stand-ins of Marathon, of the CA and of marathon-lb, or nobody at
//! all. They run in the threads of the benchmark, so that their CPU time is never the daemon's.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stand_ins::ca::{self, Ca};
use stand_ins::driver::{Driver, Options, Route, time_now};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{self, Marathon};
use stand_ins::peer::Peer;
use stand_ins::pki::Pki;
use stand_ins::tls::server_config;

use crate::process::{Outcome, local};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9";

/// The words for a daemon that reaches nobody.
pub(crate) fn alone(port: u16, storage: &Path) -> Vec<String> {
    [
        "--acme=https://127.0.0.1:9/dir".into(),
        format!("--marathon={NOBODY}"),
        format!("--lb={NOBODY}"),
        format!("--listen=127.0.0.1:{port}"),
        storage.display().to_string(),
    ]
    .into()
}

/// Marathon and a load balancer.
pub(crate) struct Site {
    pub(crate) marathon: Driver<Marathon>,
    pub(crate) lb: Driver<LoadBalancer>,
}

impl Site {
    /// A Marathon whose event stream is silent unless it is told to speak.
    pub(crate) fn start() -> Outcome<Site> {
        let settings = marathon::Settings { heartbeats: false, ..marathon::Settings::default() };
        let lb = LoadBalancer::new(time_now(), lb::Settings::default());
        let options = Options::default;
        Ok(Site { marathon: play(Marathon::new(settings), options())?, lb: play(lb, options())? })
    }

    /// The words for a daemon of this site, with a CA and the root of its TLS.
    pub(crate) fn words(
        &self,
        directory: &str,
        root: &Path,
        port: u16,
        storage: &Path,
    ) -> Vec<String> {
        [
            format!("--acme={directory}"),
            format!("--acme-ca={}", root.display()),
            format!("--marathon=http://{}", self.marathon.address()),
            format!("--lb=http://{}", self.lb.address()),
            "--sse-timeout=0".into(),
            format!("--listen=127.0.0.1:{port}"),
            "--skip-route-check=*".into(),
            storage.display().to_string(),
        ]
        .into()
    }

    /// Deploys apps with one domain each, all at once.
    pub(crate) fn deploy(&self, domains: impl Iterator<Item = String>) {
        let apps: Vec<Value> = domains.map(|domain| app(&domain)).collect();
        self.marathon.with(|marathon, now| marathon.put_apps(now, apps));
    }

    /// How often the apps were asked for.
    pub(crate) fn syncs(&self) -> usize {
        self.marathon.with(|marathon, _| {
            marathon.seen().iter().filter(|seen| seen.target.starts_with("/v2/apps")).count()
        })
    }
}

fn app(domain: &str) -> Value {
    json!({
        "id": format!("/group/{}", domain.replace('.', "-")),
        "networks": [{"mode": "container/bridge"}],
        "container": {"portMappings": [{"containerPort": 80, "servicePort": 10_000}]},
        "labels": {"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": domain},
    })
}

fn play<P: Peer + Send + 'static>(peer: P, options: Options) -> Outcome<Driver<P>> {
    Ok(Driver::start(TcpListener::bind("127.0.0.1:0")?, peer, options)?)
}

/// A CA that is there, for a daemon that has nothing to order; with its directory and its root.
pub(crate) fn idle_ca(folder: &Path) -> Outcome<(Driver<Ca>, String, PathBuf)> {
    ca(folder, ca::Settings::default(), 0)
}

/// A CA that fetches the challenges of all names from one port; with its directory and its root.
pub(crate) fn ca(
    folder: &Path,
    settings: ca::Settings,
    challenge_port: u16,
) -> Outcome<(Driver<Ca>, String, PathBuf)> {
    let mut pki = Pki::new(11, "bench", time_now());
    let identity = pki.identity(&["127.0.0.1", "localhost"], time_now())?;
    let root = folder.join("ca-root.pem");
    fs::write(&root, pki.root_pem())?;
    let route: Route = Box::new(move |_, _| Some(local(challenge_port)));
    let options = Options { tls: Some(server_config(&identity)?), route: Some(route) };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let base = format!("https://{}", listener.local_addr()?);
    let ca = Ca::new(7, &base, time_now(), settings);
    let directory = ca.directory_url();
    Ok((Driver::start(listener, ca, options)?, directory, root))
}
