//! What every test stands on: a folder of its own, the daemon on free ports, and stand-ins for the
//! peers that the test is not about.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use stand_ins::ca::{self, Ca};
use stand_ins::driver::{Driver, Options, time_now};
use stand_ins::lb::{self, LoadBalancer};
use stand_ins::marathon::{self, Marathon};
use stand_ins::peer::Peer;
use stand_ins::pki::Pki;
use stand_ins::tls::server_config;
use tempfile::TempDir;

use crate::process::{
    Outcome, PATIENCE, Process, expect, free_port, local, wait_for_port, wait_until,
};

/// The daemon, as it was built for these tests.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_marathon-acme");

/// The folder, and the peers that most tests need.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) storage: PathBuf,
    pub(crate) marathon: Driver<Marathon>,
    /// Port 9090 of a marathon-lb.
    pub(crate) lb: Arc<Driver<LoadBalancer>>,
    /// Where the daemon listens.
    pub(crate) port: u16,
}

/// Any failure, as the text that a test ends with.
pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Plays a peer on a free port.
pub(crate) fn play<P: Peer + Send + 'static>(peer: P, options: Options) -> Outcome<Driver<P>> {
    play_at(Ipv4Addr::LOCALHOST, peer, options)
}

fn play_at<P: Peer + Send + 'static>(
    address: Ipv4Addr,
    peer: P,
    options: Options,
) -> Outcome<Driver<P>> {
    let listener = TcpListener::bind((address, 0)).map_err(text)?;
    Driver::start(listener, peer, options).map_err(text)
}

impl Site {
    pub(crate) fn new() -> Outcome<Site> {
        Site::at(Ipv4Addr::LOCALHOST)
    }

    /// A site whose stand-ins listen elsewhere.
    pub(crate) fn at(address: Ipv4Addr) -> Outcome<Site> {
        let folder = tempfile::tempdir().map_err(text)?;
        let storage = folder.path().join("storage");
        fs::create_dir(&storage).map_err(text)?;
        let marathon = Marathon::new(marathon::Settings::default());
        let marathon = play_at(address, marathon, Options::default())?;
        let lb = LoadBalancer::new(time_now(), lb::Settings::default());
        let lb = Arc::new(play_at(address, lb, Options::default())?);
        Ok(Site { folder, storage, marathon, lb, port: free_port()? })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The words that start the daemon for a CA; later ones override them.
    pub(crate) fn arguments(&self, directory: &str, root: &Path) -> Vec<String> {
        let (marathon, lb) = (self.marathon.address(), self.lb.address());
        [
            format!("--acme={directory}"),
            format!("--acme-ca={}", root.display()),
            format!("--marathon=http://{marathon}"),
            format!("--lb=http://{lb}"),
            format!("--listen=127.0.0.1:{}", self.port),
            // Nobody has the tests' domains, and port 80 is not theirs.
            "--skip-route-check=*".into(),
            self.storage.display().to_string(),
        ]
        .into()
    }

    /// A command that is the program alone, without variables of ours from outside.
    pub(crate) fn command() -> Command {
        bare(PROGRAM)
    }

    /// Starts the daemon and waits until it listens; its output is that of `name`.
    pub(crate) fn daemon(
        &self,
        name: &str,
        arguments: &[String],
        more: &[&str],
    ) -> Outcome<Process> {
        self.daemon_in(name, &[], arguments, more)
    }

    /// The same, with variables.
    pub(crate) fn daemon_in(
        &self,
        name: &str,
        variables: &[(&str, &str)],
        arguments: &[String],
        more: &[&str],
    ) -> Outcome<Process> {
        let mut command = Site::command();
        command.envs(variables.iter().copied()).args(arguments).args(more);
        let daemon = Process::start(self.folder(), name, &mut command)?;
        wait_for_port("the daemon", self.port)?;
        Ok(daemon)
    }

    /// Starts an instance on a port of its own, beside others.
    pub(crate) fn instance(&self, name: &str, port: u16, arguments: &[String]) -> Outcome<Process> {
        let mut command = Site::command();
        command.args(arguments).arg(format!("--listen=127.0.0.1:{port}"));
        let instance = Process::start(self.folder(), name, &mut command)?;
        wait_for_port("the instance", port)?;
        Ok(instance)
    }

    /// Runs the program until it ends by itself; its status and all that it said.
    pub(crate) fn run(
        &self,
        name: &str,
        arguments: &[String],
        more: &[&str],
    ) -> Outcome<(Option<i32>, String)> {
        let mut command = Site::command();
        let mut process = Process::start(self.folder(), name, command.args(arguments).args(more))?;
        let status = process.wait(PATIENCE).map_err(|it| format!("{it}\n{}", process.output()))?;
        Ok((status.code(), process.output()))
    }

    /// Deploys an app that wants a certificate, or several.
    pub(crate) fn deploy(&self, id: &str, domains: &str) {
        self.marathon.with(|marathon, now| marathon.put_app(now, app(id, domains)));
    }

    /// Where a domain's certificate lies.
    pub(crate) fn certificate(&self, domain: &str) -> PathBuf {
        self.storage.join("certs").join(format!("{domain}.pem"))
    }

    /// Waits until a domain's certificate lies there.
    pub(crate) fn wait_for_certificate(&self, daemon: &Process, domain: &str) -> Outcome {
        let path = self.certificate(domain);
        let found = wait_until(&format!("certs/{domain}.pem"), || path.exists().then_some(()));
        found.map_err(|error| format!("{error}\n{}", daemon.output()))
    }

    /// How often Marathon was asked for its apps.
    pub(crate) fn syncs(&self) -> usize {
        self.marathon.with(|marathon, _| {
            marathon.seen().iter().filter(|seen| seen.target.starts_with("/v2/apps")).count()
        })
    }
}

/// A command without variables from outside that it reads.
pub(crate) fn bare(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let known = name.to_string_lossy().to_ascii_uppercase();
        let shared = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE"];
        if known.starts_with("MARATHON_ACME_") || shared.contains(&known.as_str()) {
            command.env_remove(name);
        }
    }
    command
}

/// An app with one port, in the external group.
pub(crate) fn app(id: &str, domains: &str) -> Value {
    json!({
        "id": id,
        "networks": [{"mode": "container/bridge"}],
        "container": {"portMappings": [{"containerPort": 80, "servicePort": 10_000}]},
        "labels": {"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": domains},
    })
}

/// The strict CA stand-in on a TLS port.
pub(crate) struct StandInCa {
    pub(crate) ca: Driver<Ca>,
    pub(crate) directory: String,
    /// The port that challenges of every host are fetched from.
    pub(crate) challenge_port: Arc<AtomicU16>,
    /// For `--acme-ca`.
    pub(crate) root: PathBuf,
}

impl StandInCa {
    /// Challenges are fetched from `port` at first.
    pub(crate) fn start(folder: &Path, port: u16, settings: ca::Settings) -> Outcome<StandInCa> {
        StandInCa::start_at(folder, Ipv4Addr::LOCALHOST, port, Box::new(local), settings)
    }

    /// As [`StandInCa::start`], listening elsewhere; `from` says which address a challenge port is at.
    pub(crate) fn start_at(
        folder: &Path,
        address: Ipv4Addr,
        port: u16,
        from: Box<dyn Fn(u16) -> SocketAddr + Send + Sync>,
        settings: ca::Settings,
    ) -> Outcome<StandInCa> {
        let (options, root) = tls_options_for(folder, "ca", &address.to_string())?;
        let listener = TcpListener::bind((address, 0)).map_err(text)?;
        StandInCa::serve(listener, (options, root), port, from, settings)
    }

    /// As [`StandInCa::start`], with this TLS.
    pub(crate) fn start_with(
        port: u16,
        tls: (Options, PathBuf),
        settings: ca::Settings,
    ) -> Outcome<StandInCa> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
        StandInCa::serve(listener, tls, port, Box::new(local), settings)
    }

    fn serve(
        listener: TcpListener,
        (options, root): (Options, PathBuf),
        port: u16,
        from: Box<dyn Fn(u16) -> SocketAddr + Send + Sync>,
        settings: ca::Settings,
    ) -> Outcome<StandInCa> {
        let challenge_port = Arc::new(AtomicU16::new(port));
        let port = Arc::clone(&challenge_port);
        let route: stand_ins::driver::Route =
            Box::new(move |_, wanted| (wanted == 80).then(|| from(port.load(Ordering::SeqCst))));
        let options = Options { route: Some(route), ..options };
        let base = format!("https://{}", listener.local_addr().map_err(text)?);
        let ca = Ca::new(7, &base, time_now(), settings);
        let directory = ca.directory_url();
        let ca = Driver::start(listener, ca, options).map_err(text)?;
        Ok(StandInCa { ca, directory, challenge_port, root })
    }

    /// Method and path of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.ca.with(|ca, _| {
            ca.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
        })
    }
}

/// A site, a CA that fetches challenges from its daemon, and the words that start the daemon for it.
pub(crate) fn with_ca(settings: ca::Settings) -> Outcome<(Site, StandInCa, Vec<String>)> {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, settings)?;
    let arguments = site.arguments(&ca.directory, &ca.root);
    Ok((site, ca, arguments))
}

/// TLS for a stand-in on 127.0.0.1, and the file of its root.
pub(crate) fn tls_options(folder: &Path, name: &str) -> Outcome<(Options, PathBuf)> {
    tls_options_for(folder, name, "127.0.0.1")
}

fn tls_options_for(folder: &Path, name: &str, address: &str) -> Outcome<(Options, PathBuf)> {
    let mut pki = Pki::new(11, name, time_now());
    let identity = pki.identity(&[address, "localhost"], time_now()).map_err(text)?;
    let root = folder.join(format!("{name}-root.pem"));
    fs::write(&root, pki.root_pem()).map_err(text)?;
    let tls = Some(server_config(&identity).map_err(text)?);
    Ok((Options { tls, route: None }, root))
}

/// Checks a stored certificate as `certs/NAME.pem` must be: mode, and key, leaf, chain in that order.
pub(crate) fn check_file(path: &Path, mode: u32) -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;
    let found = fs::metadata(path).map_err(text)?.permissions().mode() & 0o777;
    expect(found == mode, || format!("{} has mode {found:o}", path.display()))?;
    let pem = fs::read_to_string(path).map_err(text)?;
    let labels: Vec<&str> = pem.lines().filter(|line| line.starts_with("-----BEGIN")).collect();
    let [key, chain @ ..] = labels.as_slice() else { return Err("an empty file".into()) };
    let whole = key.contains("PRIVATE KEY")
        && chain.len() >= 2
        && chain.iter().all(|label| *label == "-----BEGIN CERTIFICATE-----");
    expect(whole, || format!("{} holds {labels:?}", path.display()))
}

/// Sends a request on a connection that stays open, and reads the answer's head and counted body.
pub(crate) fn exchange(stream: &mut std::net::TcpStream, request: &str) -> Outcome<String> {
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).map_err(text)?;
        answer.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&answer).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let has_body = !request.starts_with("HEAD");
    let mut body = vec![0; if has_body { length.unwrap_or(0) } else { 0 }];
    stream.read_exact(&mut body).map_err(text)?;
    Ok(head + &String::from_utf8_lossy(&body))
}
