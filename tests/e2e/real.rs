//! The real peers: Pebble with its DNS server, and HAProxy in master-worker mode behind a stand-in of
//! marathon-lb's port 9090, whose reloads become HAProxy's.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use stand_ins::driver::{Driver, time_now};
use stand_ins::lb::LoadBalancer;
use stand_ins::pki::{Pki, pem};
use stand_ins::tls::{client_config, connect};

use crate::process::{
    Outcome, Process, Signal, expect, free_port, local, wait_for_port, wait_until,
};

/// What a Pebble is started with.
pub(crate) type Environment<'a> = &'a [(&'a str, &'a str)];

/// Pebble and its DNS server.
pub(crate) struct Pebble {
    process: Process,
    _names: Process,
    command: Command,
    folder: PathBuf,
    pub(crate) port: u16,
    management: u16,
    own_root: Arc<ClientConfig>,
    /// For `--acme-ca`.
    pub(crate) root_file: PathBuf,
}

impl Pebble {
    /// Starts both; challenges are fetched from `http_port`.
    pub(crate) fn start(
        folder: &Path,
        http_port: u16,
        environment: Environment<'_>,
    ) -> Outcome<Pebble> {
        Pebble::start_with(folder, http_port, environment, &json!({}))
    }

    /// The same, with further members of its configuration.
    pub(crate) fn start_with(
        folder: &Path,
        http_port: u16,
        environment: Environment<'_>,
        more: &serde_json::Value,
    ) -> Outcome<Pebble> {
        let (port, management) = (free_port()?, free_port()?);
        let (dns, dns_management) = (free_port()?, free_port()?);
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut pki = Pki::new(1, "Test", time_now());
        let names = ["localhost", "127.0.0.1", "ca.test"];
        let identity = pki.identity(&names, time_now()).map_err(|error| text(&error))?;
        let chain: String = identity.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            fs::write(&path, content).map(|()| path).map_err(|error| text(&error))
        };
        let certificate = write("pebble.crt", &chain)?;
        let key = write("pebble.key", &pem("PRIVATE KEY", &identity.key))?;
        let root_file = write("pebble-root.pem", &pki.root_pem())?;
        let mut config = json!({"pebble": {
            "listenAddress": local(port).to_string(),
            "managementListenAddress": local(management).to_string(),
            "certificate": certificate, "privateKey": key,
            "httpPort": http_port, "tlsPort": free_port()?,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        for (name, value) in more.as_object().into_iter().flatten() {
            config["pebble"][name] = value.clone();
        }
        let config = write("pebble.json", &config.to_string())?;
        let dns_address = local(dns).to_string();
        let names = Process::start(
            folder,
            "challtestsrv",
            Command::new("pebble-challtestsrv")
                .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", &dns_address])
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                .args(["-management", &local(dns_management).to_string()]),
        )?;
        wait_for_port("challtestsrv", dns_management)?;
        let mut command = Command::new("pebble");
        command.arg("-config").arg(config).args(["-dnsserver", &dns_address]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        command.envs(environment.iter().copied());
        let process = Process::start(folder, "pebble", &mut command)?;
        wait_for_port("pebble", port)?;
        wait_for_port("pebble's management", management)?;
        let own_root = client_config(pki.root_der()).map_err(|error| text(&error))?;
        let folder = folder.to_path_buf();
        Ok(Pebble {
            process,
            _names: names,
            command,
            folder,
            port,
            management,
            own_root,
            root_file,
        })
    }

    pub(crate) fn directory(&self) -> String {
        self.directory_at("localhost")
    }

    /// The same by another name; all that the directory names is at that name, too.
    pub(crate) fn directory_at(&self, host: &str) -> String {
        format!("https://{host}:{}/dir", self.port)
    }

    /// A client that trusts what Pebble issues.
    pub(crate) fn issued_root(&self) -> Outcome<Arc<ClientConfig>> {
        let failed = |error: &dyn std::fmt::Display| format!("Pebble's root: {error}");
        let pem = self.issued_root_pem()?;
        let root = CertificateDer::from_pem_slice(&pem).map_err(|error| failed(&error))?;
        client_config(&root).map_err(|error| failed(&error))
    }

    /// The root of what Pebble issues, with the head of the answer that brought it.
    pub(crate) fn issued_root_pem(&self) -> Outcome<Vec<u8>> {
        self.manage("/roots/0")
    }

    /// What the management interface says of a certificate, by its serial in hexadecimal.
    pub(crate) fn status_of(&self, serial: &str) -> Outcome<String> {
        let answer = self.manage(&format!("/cert-status-by-serial/{serial}"))?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The answer of the management interface, head and body.
    fn manage(&self, path: &str) -> Outcome<Vec<u8>> {
        let failed = |error: &dyn std::fmt::Display| format!("Pebble's management: {error}");
        let address = local(self.management);
        let mut stream =
            connect(address, "localhost", &self.own_root).map_err(|error| failed(&error))?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| failed(&error))?;
        let mut answer = Vec::new();
        // Go closes without close_notify where it pleases; the certificate's own end counts.
        let _ = stream.read_to_end(&mut answer);
        Ok(answer)
    }

    /// All that Pebble has said.
    pub(crate) fn log(&self) -> String {
        self.process.output()
    }

    /// The requests that Pebble has logged, as `POST /order-plz`.
    pub(crate) fn requests(&self) -> Vec<String> {
        let output = self.process.output();
        let request = |line: &str| {
            let start = ["POST /", "HEAD /", "GET /"].iter().find_map(|start| line.find(start))?;
            line[start..].split(" -> ").next().map(str::to_string)
        };
        output.lines().filter_map(request).collect()
    }

    /// How many orders were made.
    pub(crate) fn orders(&self) -> usize {
        self.requests().iter().filter(|line| *line == "POST /order-plz").count()
    }

    /// Ends Pebble, which forgets everything, and starts it again at the same place.
    pub(crate) fn restart(&mut self) -> Outcome {
        self.process = Process::start(&self.folder, "pebble-again", &mut self.command)?;
        wait_for_port("pebble", self.port)?;
        wait_for_port("pebble's management", self.management)
    }
}

/// HAProxy, and the port 9090 that makes it reload.
pub(crate) struct HaProxy {
    pub(crate) https_port: u16,
    config: PathBuf,
    ended: Arc<AtomicBool>,
    reloader: Option<JoinHandle<()>>,
}

impl HaProxy {
    /// Starts HAProxy: certificates from `storage` as marathon-lb loads them, the challenge path to
    /// `daemon_ports` by the README's labels. From then on reloads of `control` are HAProxy's.
    pub(crate) fn start(
        folder: &Path,
        storage: &Path,
        http_port: u16,
        daemon_ports: &[u16],
        control: Arc<Driver<LoadBalancer>>,
    ) -> Outcome<HaProxy> {
        HaProxy::start_on(folder, storage, [http_port, free_port()?], daemon_ports, control)
    }

    /// The same, with the port for TLS.
    pub(crate) fn start_on(
        folder: &Path,
        storage: &Path,
        [http_port, https_port]: [u16; 2],
        daemon_ports: &[u16],
        control: Arc<Driver<LoadBalancer>>,
    ) -> Outcome<HaProxy> {
        let config = configuration(storage, http_port, https_port, daemon_ports)?;
        HaProxy::start_as(folder, storage, &config, [http_port, https_port], control)
    }

    /// The same, with a whole configuration, which has these ports.
    pub(crate) fn start_as(
        folder: &Path,
        storage: &Path,
        config: &str,
        [http_port, https_port]: [u16; 2],
        control: Arc<Driver<LoadBalancer>>,
    ) -> Outcome<HaProxy> {
        // What came before is loaded by its start.
        let done = control.with(|lb, _| lb.reloads().len());
        let file = folder.join("haproxy.cfg");
        fs::write(&file, config).map_err(|error| error.to_string())?;
        let fallback = storage.join("default.pem");
        wait_until("default.pem is made", || fallback.exists().then_some(()))?;
        let mut command = Command::new("haproxy");
        let process = Process::start(folder, "haproxy", command.args(["-W", "-f"]).arg(&file))?;
        wait_for_port("haproxy", http_port)?;
        let ended = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ended);
        let reloader = Some(thread::spawn(move || carry_reloads(&process, &control, done, &over)));
        Ok(HaProxy { https_port, config: file, ended, reloader })
    }

    /// Writes another configuration, which the next reload loads.
    pub(crate) fn rewrite(&self, config: &str) -> Outcome {
        fs::write(&self.config, config).map_err(|error| error.to_string())
    }

    /// Whether an HAProxy that were started now would load all that is in `certs/`.
    pub(crate) fn check(&self) -> Outcome {
        let output = Command::new("haproxy").args(["-c", "-f"]).arg(&self.config).output();
        let output = output.map_err(|error| format!("haproxy -c: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        expect(output.status.success(), || format!("haproxy -c: {said}"))
    }
}

/// Carries every reload of the control port to HAProxy's master, until it is over.
fn carry_reloads(
    process: &Process,
    control: &Driver<LoadBalancer>,
    mut done: usize,
    over: &AtomicBool,
) {
    while !over.load(Ordering::Relaxed) {
        let pids = children(process.id());
        let wanted = control.with(|lb, _| {
            lb.settings.real_pids = Some(pids);
            lb.reloads().len()
        });
        if wanted > done {
            done = wanted;
            // A master that is gone shows itself in the handshakes.
            let _ = process.signal(Signal::USR2);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The processes that a process has started: those of HAProxy that serve, when it is a master.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The value of a label in the README's table.
pub(crate) fn readme_label(name: &str) -> Outcome<String> {
    let readme = include_str!("../../README.md");
    let row = readme.lines().find(|line| line.contains(&format!("`{name}` | `")));
    let value = row.and_then(|row| row.split('`').nth(3));
    value.map(|value| value.replace("\\n", "\n")).ok_or(format!("the README has no label {name}"))
}

/// What marathon-lb would write for our app with the README's labels, and for no other.
fn configuration(
    storage: &Path,
    http_port: u16,
    https_port: u16,
    daemon_ports: &[u16],
) -> Outcome<String> {
    let path = readme_label("HAPROXY_0_PATH")?;
    let rules = |label: &str| -> Outcome<String> {
        Ok(readme_label(label)?.replace("{backend}", "marathon_acme").replace("{path}", &path))
    };
    let http = rules("HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH")?;
    let https = rules("HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH")?;
    let (certs, fallback) = (storage.join("certs"), storage.join("default.pem"));
    let server = |port: &u16| format!("  server daemon{port} 127.0.0.1:{port}\n");
    let servers: String = daemon_ports.iter().map(server).collect();
    // As marathon-lb's own template: a reload hands the listening sockets over.
    let socket = storage.with_file_name("haproxy.sock");
    Ok(format!(
        "global\n  stats socket {} level admin expose-fd listeners\n\
         defaults\n  mode http\n  option redispatch\n  retries 3\n\
         \x20 timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend marathon_http_in\n  bind 127.0.0.1:{http_port}\n{http}\
         frontend marathon_https_in\n  bind 127.0.0.1:{https_port} ssl crt {} crt {}\n\
         \x20 acl path_marathon_acme path_beg {path}\n{https}  default_backend app\n\
         backend marathon_acme\n{servers}\
         backend app\n  http-request return status 200 content-type text/plain string served\n",
        socket.display(),
        certs.display(),
        fallback.display()
    ))
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.reloader.take() {
            let _ = thread.join();
        }
    }
}
