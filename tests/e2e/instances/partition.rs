//! Two instances in network namespaces of their own, their peers in a third: the storage is common, the
//! network comes and goes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use marathon_acme::log::message::{ATTACHED, LEASE_LOST, STORAGE_OPENED};
use stand_ins::ca::Settings;

use crate::process::{Outcome, Process, expect, get_from, wait_until};
use crate::site::{PROGRAM, Site, StandInCa, bare, text};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] =
    &[("a_partitioned_instance_keeps_the_lease", &[Tool::Networks], partitioned)];

/// Where every instance listens, in its own namespace.
const PORT: u16 = 8000;
/// While it is cut off, the active one beats so often: longer than the lease.
const BEATS: usize = 7;

/// A bridge in the test's own namespace, and hosts on it; all of it is taken away at the end.
struct Network {
    id: String,
    prefix: [u8; 3],
    hosts: u8,
}

fn ip(words: &[&str]) -> Outcome {
    let output = Command::new("ip").args(words).output().map_err(text)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    expect(output.status.success(), || format!("ip {}: {said}", words.join(" ")))
}

impl Network {
    fn new() -> Outcome<Network> {
        let [.., high, low] = std::process::id().to_be_bytes();
        // Of the addresses for tests of network equipment (RFC 2544).
        let network =
            Network { id: format!("ma{high:02x}{low:02x}"), prefix: [198, 18, low], hosts: 0 };
        let bridge = network.bridge();
        ip(&["link", "add", "name", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", network.address(254)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        Ok(network)
    }

    fn bridge(&self) -> String {
        format!("{}b", self.id)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, host)
    }

    fn namespace(&self, host: u8) -> String {
        format!("{}n{host}", self.id)
    }

    /// The end of a host's cable that is in the bridge.
    fn cable(&self, host: u8) -> String {
        format!("{}v{host}", self.id)
    }

    fn add_host(&mut self) -> Outcome<u8> {
        self.hosts += 1;
        let host = self.hosts;
        let (namespace, cable) = (self.namespace(host), self.cable(host));
        ip(&["netns", "add", &namespace])?;
        ip(&[
            "link", "add", "name", &cable, "type", "veth", "peer", "name", "eth0", "netns",
            &namespace,
        ])?;
        ip(&["link", "set", &cable, "master", &self.bridge(), "up"])?;
        let address = format!("{}/24", self.address(host));
        ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        Ok(host)
    }

    /// From now on nothing gets through to a host, and nobody is told so.
    fn cut(&self, host: u8) -> Outcome {
        ip(&["link", "set", &self.cable(host), "nomaster"])
    }

    fn mend(&self, host: u8) -> Outcome {
        ip(&["link", "set", &self.cable(host), "master", &self.bridge()])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let quietly = |words: &[&str]| {
            let _ = Command::new("ip").args(words).stderr(Stdio::null()).status();
        };
        for host in 1..=self.hosts {
            quietly(&["link", "del", &self.cable(host)]);
            quietly(&["netns", "del", &self.namespace(host)]);
        }
        quietly(&["link", "del", &self.bridge()]);
    }
}

/// An instance on a host.
fn start(network: &Network, host: u8, site: &Site, arguments: &[String]) -> Outcome<Process> {
    let mut command = bare("ip");
    command.args(["netns", "exec", &network.namespace(host), PROGRAM]).args(arguments);
    command.arg(format!("--listen={}:{PORT}", network.address(host)));
    Process::start(site.folder(), &format!("i{host}"), &mut command)
}

/// Whether an instance answers a token, as it is asked from the peers' namespace.
fn answers(network: &Network, host: u8, token: &str) -> Outcome {
    let address = SocketAddr::from((network.address(host), PORT));
    let answer = get_from(address, &format!("/.well-known/acme-challenge/{token}"))?;
    expect(answer.contains(" 200 ") && answer.contains(&format!("{token}.")), || answer)
}

fn partitioned() -> Outcome {
    let mut network = Network::new()?;
    let (first, second) = (network.add_host()?, network.add_host()?);
    let site = Site::at(network.address(254))?;
    let settings = Settings { validation_delay_ms: 3000, ..Settings::default() };
    let (one, two) = (network.address(first), network.address(second));
    // The "port" of a challenge says which instance it is fetched from.
    let from =
        move |host: u16| SocketAddr::from((if host == u16::from(first) { one } else { two }, PORT));
    let ca = StandInCa::start_at(
        site.folder(),
        network.address(254),
        u16::from(second),
        Box::new(from),
        settings,
    )?;
    let arguments = site.arguments(&ca.directory, &ca.root);
    let mut active = start(&network, first, &site, &arguments)?;
    active.wait_for(ATTACHED)?;
    let mut standby = start(&network, second, &site, &arguments)?;
    standby.wait_until_standing_by()?;

    // Either answers, to whoever comes from another namespace.
    site.deploy("/a", "a.example.com");
    let token = token(&site, None)?;
    answers(&network, first, &token)?;
    answers(&network, second, &token)?;
    site.wait_for_certificate(&active, "a.example.com")?;

    site.deploy("/b", "b.example.com");
    let token = self::token(&site, Some(&token))?;
    let told = || ca.ca.with(|ca, _| ca.count("POST", "/challenge/", 200) == 2).then_some(());
    wait_until("the CA is told that it may look", told)?;
    network.cut(first)?;
    // For longer than the lease the storage shows that it lives.
    let mut lines = vec![beat(&site)];
    wait_until("it beats while it is cut off", || {
        let line = beat(&site);
        if lines.last() != Some(&line) {
            lines.push(line);
            let _ = answers(&network, second, &token);
        }
        (lines.len() > BEATS).then_some(())
    })?;
    let orders = || ca.ca.with(|ca, _| ca.count("POST", "/new-order", 201));
    expect(orders() == 2, || format!("{} orders while it is cut off", orders()))?;
    expect(!standby.output().contains(&format!("{STORAGE_OPENED} certificates=")), || {
        standby.output()
    })?;
    let validated = ca.ca.with(|ca, _| ca.checked().iter().filter(|it| it.error.is_none()).count());
    network.mend(first)?;
    ca.challenge_port.store(u16::from(first), Ordering::SeqCst);
    site.deploy("/c", "c.example.com");
    for name in ["b.example.com", "c.example.com"] {
        site.wait_for_certificate(&active, name)?;
    }
    let failed = ca.ca.with(|ca, _| ca.checked().iter().filter(|it| it.error.is_some()).count());
    println!(
        "cut off for {BEATS} beats: 3 domains, {} orders, {validated} validations by the standby, \
         {failed} failed",
        orders()
    );
    expect(orders() == 3 && failed == 0, || format!("{} orders, {failed} failed", orders()))?;
    expect(validated == 2, || format!("{validated} validations before it was mended"))?;
    expect(!active.output().contains(LEASE_LOST), || active.output())
}

/// The line in `lock`.
fn beat(site: &Site) -> String {
    fs::read_to_string(site.storage.join("lock")).unwrap_or_default()
}

/// A published token, other than `before`.
fn token(site: &Site, before: Option<&str>) -> Outcome<String> {
    let challenges = site.storage.join("challenges");
    wait_until("a challenge", || {
        let names = fs::read_dir(&challenges).ok()?.flatten();
        let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.find(|name| Some(name.as_str()) != before)
    })
}
