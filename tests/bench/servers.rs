//! The web servers beside which the daemon is measured: HAProxy and nginx, each with one process and one
//! thread, no logs, and an answer of the same body as the daemon's. Never as anybody's system service.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::{Outcome, Running, find, free_port};

/// The body of the daemon's answer to a ping.
const BODY: &str = r#"{"message": "pong"}"#;

/// A server that listens.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) port: u16,
    /// From its start until it listened.
    pub(crate) listening: Duration,
}

/// HAProxy, which answers by itself; with `certs` it loads all that is in there as well.
pub(crate) fn haproxy(folder: &Path, certs: Option<&Path>) -> Outcome<Server> {
    let program = find("haproxy").ok_or("peer missing")?;
    let port = free_port()?;
    let mut config = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n\
         frontend f\n  bind 127.0.0.1:{port}\n  http-request return status 200 content-type \
         application/json string '{BODY}'\n"
    );
    if let Some(certs) = certs {
        let (https, certs) = (free_port()?, certs.display());
        config += &format!("frontend s\n  bind 127.0.0.1:{https} ssl crt {certs}\n");
        config += "  http-request return status 200\n";
    }
    let file = folder.join(format!("haproxy-{port}.cfg"));
    fs::write(&file, config)?;
    let (running, listening) =
        Running::listening(Command::new(program).arg("-f").arg(&file), port)?;
    Ok(Server { running, port, listening })
}

/// The listener of the old program, of the Python in which `make setup-bench` installed it.
pub(crate) fn old_program() -> Outcome<Server> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = package.join("target/bench/old-program/bin/python");
    if !python.is_file() {
        return Err("peer missing".into());
    }
    let port = free_port()?;
    let mut command = Command::new(python);
    command.arg(package.join("tests/bench/old_program.py")).arg(port.to_string());
    let (running, listening) = Running::listening(&mut command, port)?;
    Ok(Server { running, port, listening })
}

/// nginx, which answers by itself.
pub(crate) fn nginx(folder: &Path) -> Outcome<Server> {
    nginx_with(folder, free_port()?, &format!("return 200 '{BODY}'"))
}

/// nginx as one process: its only worker is the process that was started.
pub(crate) fn nginx_with(folder: &Path, port: u16, answer: &str) -> Outcome<Server> {
    let program = find("nginx").ok_or("peer missing")?;
    let own = folder.join(format!("nginx-{port}"));
    fs::create_dir_all(&own)?;
    let at = own.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {at}/{kind};\n"))
        .collect();
    let config = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {at}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n{temporary}\
         \x20 keepalive_requests 100000000;\n  default_type application/json;\n\
         \x20 server {{ listen 127.0.0.1:{port}; location / {{ {answer}; }} }}\n}}\n"
    );
    let file = own.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    // Before the configuration is read, errors would go to a file of the system.
    command.arg("-p").arg(&own).args(["-e", "stderr", "-c"]).arg(&file);
    let (running, listening) = Running::listening(&mut command, port)?;
    Ok(Server { running, port, listening })
}
