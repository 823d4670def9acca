//! The stage: stand-ins on free ports of the loopback interface, and a directory for their files and
//! the program's.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::json;
use stand_ins::ca::{self, Ca};
use stand_ins::driver::{Driver, Options, time_now};
use stand_ins::front::TlsFront;
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{self, Marathon};
use stand_ins::pki::Pki;
use stand_ins::tls::{self, Shown};

/// Everything but the program.
pub(crate) struct Stage {
    pub(crate) marathon: Driver<Marathon>,
    pub(crate) ca: Driver<Ca>,
    pub(crate) lb: Driver<LoadBalancer>,
    pub(crate) front: TlsFront,
    trust: Arc<ClientConfig>,
    listen: SocketAddr,
    // Dropped last: the others may still use its files.
    files: Files,
}

/// A temporary directory, removed at the end.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Stage {
    /// Starts all stand-ins.
    pub(crate) fn build() -> Result<Stage, Box<dyn Error>> {
        let now = time_now();
        let root = std::env::temp_dir().join(format!("marathon-acme-demo-{}", std::process::id()));
        let files = Files(root);
        fs::create_dir_all(files.0.join("storage"))?;
        // Free at this moment; the program listens there a moment later.
        let listen = listener()?.local_addr()?;

        let settings =
            marathon::Settings { deployment_ms: Some(300), ..marathon::Settings::default() };
        let marathon = Driver::start(listener()?, Marathon::new(settings), Options::default())?;

        let seed = now.unix_ms.unsigned_abs();
        let mut api = Pki::new(seed.wrapping_add(9), "Demo API", now);
        fs::write(files.0.join("api-root.pem"), api.root_pem())?;
        let options = Options {
            tls: Some(tls::server_config(&api.identity(&["127.0.0.1"], now)?)?),
            // What the load balancer does on port 80: challenges of every host go to the program.
            route: Some(Box::new(move |_, port| (port == 80).then_some(listen))),
        };
        let ca_listener = listener()?;
        let base = format!("https://{}", ca_listener.local_addr()?);
        let ca = Ca::new(seed, &base, now, ca::Settings::default());
        let trust = tls::client_config(ca.root_der())?;
        fs::write(files.0.join("root.pem"), ca.root_pem())?;
        let ca = Driver::start(ca_listener, ca, options)?;

        let lb = LoadBalancer::new(now, lb::Settings::default());
        let lb = Driver::start(listener()?, lb, Options::default())?;
        let front = TlsFront::start(listener()?, &files.0.join("storage"))?;
        Ok(Stage { marathon, ca, lb, front, trust, listen, files })
    }

    /// What the program is started with.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let directory = self.ca.with(|ca, _| ca.directory_url());
        let path = |path: PathBuf| path.display().to_string();
        [
            ("--acme", directory),
            ("--acme-ca", path(self.files.0.join("api-root.pem"))),
            ("--marathon", format!("http://{}", self.marathon.address())),
            ("--lb", format!("http://{}", self.lb.address())),
            ("--listen", self.listen.to_string()),
            ("--group", "external".to_string()),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_string(), value])
        .chain([path(self.storage())])
        .collect()
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.files.0.join("storage")
    }

    /// The CA's root, for `curl --cacert`.
    pub(crate) fn root(&self) -> PathBuf {
        self.files.0.join("root.pem")
    }

    pub(crate) fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    pub(crate) fn front_address(&self) -> SocketAddr {
        self.front.address()
    }

    /// Deploys an app with one port and one domain, and says its id.
    pub(crate) fn deploy(&self, index: usize, domain: &str) -> String {
        let id = format!("/{}", domain.split('.').next().unwrap_or(domain));
        let app = json!({
            "id": id,
            "cmd": "serve",
            "networks": [{ "mode": "container/bridge" }],
            "container": {
                "type": "DOCKER",
                "docker": { "image": "example/serve" },
                "portMappings": [{ "containerPort": 80, "servicePort": 10_000 + index }],
            },
            "labels": {
                "HAPROXY_GROUP": "external",
                "HAPROXY_0_VHOST": domain,
                "MARATHON_ACME_0_DOMAIN": domain,
            },
        });
        self.marathon.with(|marathon, now| marathon.put_app(now, app));
        id
    }

    /// Shakes hands with the load balancer as `domain`, trusting the CA's root alone; says what it
    /// showed, and its page.
    pub(crate) fn shown(&self, domain: &str) -> io::Result<(Shown, String)> {
        tls::shown(self.front.address(), domain, &self.trust)
    }

    /// The files in `certs/`, with their sizes.
    pub(crate) fn certificates(&self) -> Vec<(String, u64)> {
        let mut files = list(&self.storage().join("certs"));
        files.sort();
        files
    }
}

fn list(directory: &Path) -> Vec<(String, u64)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let sized = entries.filter_map(Result::ok).filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        Some((name, entry.metadata().ok()?.len()))
    });
    sized.collect()
}

fn listener() -> io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0")
}
