//! The stage: peers on free ports of the loopback interface, and a directory for their files and the
//! program's. The CA and the load balancer are stand-ins, or Pebble and HAProxy.

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

use crate::process::local;
use crate::real::{HaProxy, Pebble};

/// Who certifies.
pub(crate) enum Authority {
    StandIn { ca: Box<Driver<Ca>>, own_root: PathBuf },
    Pebble(Box<Pebble>),
}

/// Who serves on port 443.
pub(crate) enum Server {
    StandIn(TlsFront),
    /// HAProxy needs the files that the program makes first.
    Closed,
    HaProxy(HaProxy),
}

/// Everything but the program.
pub(crate) struct Stage {
    pub(crate) marathon: Driver<Marathon>,
    pub(crate) authority: Authority,
    pub(crate) lb: Arc<Driver<LoadBalancer>>,
    pub(crate) front: Server,
    trust: Arc<ClientConfig>,
    /// The port that challenges are fetched from, where HAProxy serves it.
    http_port: u16,
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
    /// Starts all peers but HAProxy; with `real`, the CA is Pebble.
    pub(crate) fn build(real: bool) -> Result<Stage, Box<dyn Error>> {
        let root = std::env::temp_dir().join(format!("marathon-acme-demo-{}", std::process::id()));
        let files = Files(root);
        fs::create_dir_all(files.0.join("storage"))?;
        // Free at this moment; the program listens there a moment later.
        let listen = listener()?.local_addr()?;
        let http_port = listener()?.local_addr()?.port();

        let settings =
            marathon::Settings { deployment_ms: Some(300), ..marathon::Settings::default() };
        let marathon = Driver::start(listener()?, Marathon::new(settings), Options::default())?;
        let (authority, trust) = match real {
            true => pebble(&files.0, http_port)?,
            false => stand_in(&files.0, listen)?,
        };
        let front = match real {
            true => Server::Closed,
            false => Server::StandIn(TlsFront::start(listener()?, &files.0.join("storage"))?),
        };
        let lb = LoadBalancer::new(time_now(), lb::Settings::default());
        let lb = Arc::new(Driver::start(listener()?, lb, Options::default())?);
        Ok(Stage { marathon, authority, lb, front, trust, http_port, listen, files })
    }

    /// Starts HAProxy, now that its files are there.
    pub(crate) fn open_front(&mut self) -> Result<(), Box<dyn Error>> {
        let lb = Arc::clone(&self.lb);
        let (storage, daemon_port) = (self.storage(), self.listen.port());
        let haproxy = HaProxy::start(&self.files.0, &storage, self.http_port, &[daemon_port], lb)?;
        self.front = Server::HaProxy(haproxy);
        Ok(())
    }

    /// The CA's directory.
    pub(crate) fn directory(&self) -> String {
        match &self.authority {
            Authority::StandIn { ca, .. } => ca.with(|ca, _| ca.directory_url()),
            Authority::Pebble(pebble) => pebble.directory(),
        }
    }

    /// What the program is started with.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let own_root = match &self.authority {
            Authority::StandIn { own_root, .. } => own_root.clone(),
            Authority::Pebble(pebble) => pebble.root_file.clone(),
        };
        let path = |path: PathBuf| path.display().to_string();
        [
            ("--acme", self.directory()),
            ("--acme-ca", path(own_root)),
            ("--marathon", format!("http://{}", self.marathon.address())),
            ("--lb", format!("http://{}", self.lb.address())),
            ("--listen", self.listen.to_string()),
            ("--group", "external".to_string()),
            ("--skip-route-check", "*".to_string()),
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
        match &self.front {
            Server::StandIn(front) => front.address(),
            Server::HaProxy(haproxy) => local(haproxy.https_port),
            Server::Closed => local(0),
        }
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
        tls::shown(self.front_address(), domain, &self.trust)
    }

    /// The files in `certs/`, with their sizes.
    pub(crate) fn certificates(&self) -> Vec<(String, u64)> {
        let mut files = list(&self.storage().join("certs"));
        files.sort();
        files
    }
}

/// The stand-in CA; it fetches challenges from the program, as the load balancer would route them.
fn stand_in(
    folder: &Path,
    listen: SocketAddr,
) -> Result<(Authority, Arc<ClientConfig>), Box<dyn Error>> {
    let now = time_now();
    let seed = now.unix_ms.unsigned_abs();
    let mut api = Pki::new(seed.wrapping_add(9), "Demo API", now);
    let own_root = folder.join("api-root.pem");
    fs::write(&own_root, api.root_pem())?;
    let options = Options {
        tls: Some(tls::server_config(&api.identity(&["127.0.0.1"], now)?)?),
        route: Some(Box::new(move |_, port| (port == 80).then_some(listen))),
    };
    let listener = listener()?;
    let base = format!("https://{}", listener.local_addr()?);
    let ca = Ca::new(seed, &base, now, ca::Settings::default());
    let trust = tls::client_config(ca.root_der())?;
    fs::write(folder.join("root.pem"), ca.root_pem())?;
    let ca = Box::new(Driver::start(listener, ca, options)?);
    Ok((Authority::StandIn { ca, own_root }, trust))
}

/// Pebble; it fetches challenges from HAProxy.
fn pebble(folder: &Path, http_port: u16) -> Result<(Authority, Arc<ClientConfig>), Box<dyn Error>> {
    let pebble = Pebble::start(folder, http_port, &[])?;
    let trust = pebble.issued_root()?;
    fs::write(folder.join("root.pem"), pebble.issued_root_pem()?)?;
    Ok((Authority::Pebble(Box::new(pebble)), trust))
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
