//! Pebble, with the DNS server that has every name at this machine: the one CA of all that are compared.
//! It counts the requests that it was asked, and never delays or refuses one by chance.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use stand_ins::driver::time_now;
use stand_ins::pki::{Pki, pem};

use crate::process::{Outcome, Running, find, free_port, local, wait_for_port};

pub(crate) struct Pebble {
    _process: Running,
    _names: Running,
    log: PathBuf,
    pub(crate) directory: String,
    /// What its TLS is to be trusted by.
    pub(crate) root: PathBuf,
}

impl Pebble {
    /// Challenges are fetched from `http_port`.
    pub(crate) fn start(folder: &Path, http_port: u16) -> Outcome<Pebble> {
        let program = find("pebble").ok_or("pebble missing")?;
        let server = find("pebble-challtestsrv").ok_or("pebble-challtestsrv missing")?;
        let (port, dns, dns_management) = (free_port()?, free_port()?, free_port()?);
        let mut pki = Pki::new(1, "Bench", time_now());
        let identity = pki.identity(&["localhost", "127.0.0.1"], time_now())?;
        let chain: String = identity.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        let write = |name: &str, content: &str| -> Outcome<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, content)?;
            Ok(path)
        };
        let root = write("pebble-root.pem", &pki.root_pem())?;
        let config = json!({"pebble": {
            "listenAddress": local(port).to_string(),
            "managementListenAddress": local(free_port()?).to_string(),
            "certificate": write("pebble.crt", &chain)?,
            "privateKey": write("pebble.key", &pem("PRIVATE KEY", &identity.key))?,
            "httpPort": http_port, "tlsPort": free_port()?,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        let config = write("pebble.json", &config.to_string())?;
        let dns = local(dns).to_string();
        let names = Running::start(
            Command::new(server)
                .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", &dns])
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                .args(["-management", &local(dns_management).to_string()]),
        )?;
        wait_for_port("the DNS server", dns_management)?;
        let mut command = Command::new(program);
        command.arg("-config").arg(config).args(["-dnsserver", &dns]);
        // Neither delays nor refusals of chance: all are to have the same.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        let log = folder.join("pebble.log");
        let process = Running::noted(&mut command, &log)?;
        wait_for_port("Pebble", port)?;
        let directory = format!("https://localhost:{port}/dir");
        Ok(Pebble { _process: process, _names: names, log, directory, root })
    }

    /// How many requests it has logged.
    pub(crate) fn requests(&self) -> Outcome<usize> {
        let text = fs::read_to_string(&self.log)?;
        let is_request =
            |line: &&str| ["POST /", "HEAD /", "GET /"].iter().any(|start| line.contains(start));
        Ok(text.lines().filter(is_request).count())
    }
}
