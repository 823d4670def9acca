//! The proof at the load balancer, with two real HAProxies: one of them stopped, given a file that it
//! cannot load, and started again with an old directory.

pub(crate) mod broken;
pub(crate) mod foreign;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use marathon_acme::log::message::{
    LB_DRIFTED, LB_UNSEEN, NOT_RELOADED, ROLLBACK_RETRIED, ROLLBACK_UNDONE, ROLLED_BACK,
};
use rustls::ClientConfig;
use serde_json::json;
use stand_ins::driver::{Driver, Options, time_now};
use stand_ins::lb::{LoadBalancer, Settings};

use crate::process::{Outcome, Process, Signal, expect, free_port, local, wait_until};
use crate::real::HaProxy;
use crate::real_site::RealSite;
use crate::site::{play, text};
use crate::{Test, Tool};
use stand_ins::tls::shown;

pub(crate) const TESTS: &[Test] = &[
    ("two_load_balancers_are_seen_to_serve", &[Tool::Pebble, Tool::HaProxy], healed),
    (
        "a_load_balancer_that_sees_the_storage_late_is_never_a_reason_to_roll_back",
        &[Tool::Pebble, Tool::HaProxy],
        late,
    ),
    (
        "edits_in_quick_succession_are_served_by_both_at_once",
        &[Tool::Pebble, Tool::HaProxy],
        edited_twice,
    ),
    ("a_rollback_that_does_not_help_is_taken_back", &[Tool::Pebble, Tool::HaProxy], futile),
    ("what_the_new_file_breaks_is_rolled_back", &[Tool::Pebble, Tool::HaProxy], rolled_back),
    ("a_check_compares_what_two_haproxies_serve", &[Tool::Pebble, Tool::HaProxy], checked),
    ("without_a_port_to_look_at_nobody_is_looked_at", &[Tool::Pebble, Tool::HaProxy], unlooked),
];

/// Longer than the patience of a proof.
const PROOF: Duration = Duration::from_secs(150);

/// A real HAProxy with a view of its own on the storage, and the port that signals it.
struct Balancer {
    folder: PathBuf,
    control: Arc<Driver<LoadBalancer>>,
    ports: [u16; 2],
    haproxy: Option<HaProxy>,
}

impl Balancer {
    /// It sees `storage`, by way of a link.
    fn start(folder: PathBuf, storage: &Path, daemon: u16) -> Outcome<Balancer> {
        fs::create_dir(&folder).map_err(text)?;
        let control = play(LoadBalancer::new(time_now(), Settings::default()), Options::default())?;
        let ports = [free_port()?, free_port()?];
        let mut balancer = Balancer { folder, control: Arc::new(control), ports, haproxy: None };
        balancer.sees(storage)?;
        balancer.start_again(daemon)?;
        Ok(balancer)
    }

    fn start_again(&mut self, daemon: u16) -> Outcome {
        let storage = self.folder.join("storage");
        let control = Arc::clone(&self.control);
        let haproxy = HaProxy::start_on(&self.folder, &storage, self.ports, &[daemon], control)?;
        self.haproxy = Some(haproxy);
        Ok(())
    }

    /// Ends it; its ports are free then.
    fn stop(&mut self) -> Outcome {
        self.haproxy = None;
        let is_free = |port: &u16| TcpStream::connect(local(*port)).is_err();
        wait_until("HAProxy has ended", || self.ports.iter().all(is_free).then_some(()))
    }

    /// From its next reload on it loads what is there.
    fn sees(&self, storage: &Path) -> Outcome {
        let (link, new) = (self.folder.join("storage"), self.folder.join("storage.new"));
        symlink(storage, &new).map_err(text)?;
        fs::rename(&new, &link).map_err(text)
    }

    fn origin(&self) -> String {
        self.control.address().to_string()
    }

    /// How often it was told to reload.
    fn signals(&self) -> usize {
        self.control.with(|lb, _| {
            lb.seen().iter().filter(|seen| seen.target == "/_mlb_signal/usr1").count()
        })
    }

    fn serves(&self, domain: &str, trust: &Arc<ClientConfig>) -> Outcome {
        let address = local(self.ports[1]);
        let found = || shown(address, domain, trust).ok();
        within(PROOF, &format!("{} serves {domain}", self.origin()), || found().is_some())
    }
}

/// Waits longer than is usual.
pub(crate) fn within(limit: Duration, what: &str, fits: impl Fn() -> bool) -> Outcome {
    let begin = Instant::now();
    while !fits() {
        expect(begin.elapsed() < limit, || format!("{what}: not within {limit:?}"))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A site, two load balancers beside it, and a daemon that knows them.
struct Pair {
    first: Balancer,
    second: Balancer,
    daemon: Process,
    real: RealSite,
}

impl Pair {
    fn start(verify: bool) -> Outcome<Pair> {
        let (real, mut daemon) = RealSite::start(&[], &json!({}), &["--san"])?;
        let (site, storage) = (&real.site, &real.site.storage);
        let first = Balancer::start(site.folder().join("first"), storage, site.port)?;
        let second = Balancer::start(site.folder().join("second"), storage, site.port)?;
        daemon.signal(Signal::TERM)?;
        daemon.wait(Duration::from_secs(5))?;
        let mut pair = Pair { first, second, daemon, real };
        pair.start_daemon(verify)?;
        Ok(pair)
    }

    /// One that knows both, in place of one that has ended.
    fn start_daemon(&mut self, verify: bool) -> Outcome {
        let both = self.both();
        let urls = both.map(|it| format!("http://{}", it.origin())).join(",");
        let places = both.map(|it| format!("{}={}", it.origin(), local(it.ports[1]))).join(",");
        let mut more = vec![format!("--lb={urls}")];
        more.extend(verify.then(|| format!("--lb-verify={places}")));
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        self.daemon = self.real.site.daemon("looking", &self.real.arguments, &more)?;
        Ok(())
    }

    fn both(&self) -> [&Balancer; 2] {
        [&self.first, &self.second]
    }

    fn both_serve(&self, domain: &str) -> Outcome {
        for balancer in self.both() {
            let served = balancer.serves(domain, &self.real.trust);
            served.map_err(|error| format!("{error}\n{}", self.daemon.output()))?;
        }
        Ok(())
    }

    /// The daemon looks at both at once.
    fn look(&self) -> Outcome {
        self.daemon.signal(Signal::HUP)
    }

    fn rests(&self) -> Outcome {
        let address = local(self.real.site.port);
        within(PROOF, "every load balancer is in sync", || {
            let metrics = crate::process::get_from(address, "/metrics").unwrap_or_default();
            metrics.matches("marathon_acme_lb_in_sync{").count() == 2
                && !metrics
                    .lines()
                    .any(|it| it.starts_with("marathon_acme_lb_in_sync") && it.ends_with(" 0"))
        })
        .map_err(|error| format!("{error}\n{}", self.daemon.output()))
    }
}

fn healed() -> Outcome {
    let mut pair = Pair::start(true)?;
    pair.real.site.deploy("/a", "a.example.com");
    pair.both_serve("a.example.com")?;
    pair.daemon.wait_for_count("proof=handshake", 2)?;
    pair.rests()?;
    let metrics = crate::process::get(pair.real.site.port, "/metrics")?;
    let ends = "marathon_acme_lb_certificate_not_after_timestamp_seconds{";
    let seen =
        metrics.lines().filter(|it| it.starts_with(ends) && it.contains("\"a.example.com\""));
    expect(seen.count() == 2, || metrics.clone())?;
    // One of them is stopped.
    pair.second.stop()?;
    pair.look()?;
    pair.daemon.wait_for(LB_UNSEEN)?;
    // It comes back with a directory of long ago, and later sees the real one again.
    let (site, folder) = (&pair.real.site, pair.second.folder.clone());
    let old = folder.join("old");
    fs::create_dir_all(old.join("certs")).map_err(text)?;
    fs::copy(site.storage.join("default.pem"), old.join("default.pem")).map_err(text)?;
    pair.second.sees(&old)?;
    pair.second.start_again(site.port)?;
    pair.second.sees(&site.storage)?;
    let status = crate::process::get(site.port, "/status.json")?;
    let page = crate::process::get(site.port, "/")?;
    let told = status.contains("no certificate is seen") && page.contains("no certificate is seen");
    expect(told, || status.clone())?;
    pair.look()?;
    pair.daemon.wait_for(LB_DRIFTED)?;
    pair.both_serve("a.example.com")?;
    pair.rests()?;
    // A file that is not ours keeps both from loading what is new; nobody loses what it serves.
    let before = pair.first.signals();
    let broken = site.storage.join("certs/broken.pem");
    fs::write(&broken, "").map_err(text)?;
    site.deploy("/b", "b.example.com");
    site.wait_for_certificate(&pair.daemon, "b.example.com")?;
    within(PROOF, "the signal is repeated", || pair.first.signals() >= before + 2)
        .map_err(|error| format!("{error}\n{}", pair.daemon.output()))?;
    let trust = &pair.real.trust;
    expect(shown(local(pair.first.ports[1]), "b.example.com", trust).is_err(), || {
        "HAProxy loads an empty file".into()
    })?;
    // It is stored and not served, and the file that blocks is named.
    let in_service = |name: &str| -> Outcome<bool> {
        let status = crate::process::get(site.port, "/status.json")?;
        let body = status.split_once("\r\n\r\n").map_or(status.as_str(), |(_, body)| body);
        let status: serde_json::Value = serde_json::from_str(body).map_err(text)?;
        let all = status["certificates"].as_array().ok_or("no certificates")?;
        let found = all.iter().find(|it| it["name"] == name).ok_or("no such certificate")?;
        Ok(found["in_service"] == true)
    };
    let states = (in_service("a.example.com")?, in_service("b.example.com")?);
    expect(states == (true, false), || format!("{states:?}"))?;
    within(Duration::from_secs(15), "the blocking file is the cause", || {
        let health = crate::process::get(site.port, "/health").unwrap_or_default();
        health.contains("no new HAProxy process") && health.contains("broken.pem")
    })
    .map_err(|error| format!("{error}\n{}", pair.daemon.output()))?;
    pair.both_serve("a.example.com")?;
    fs::remove_file(&broken).map_err(text)?;
    pair.both_serve("b.example.com")?;
    pair.rests()?;
    expect(in_service("b.example.com")?, || "it is served".into())
}

/// The first one has `certs/` of its own, with this file in it.
fn freeze(pair: &Pair, with: &Path) -> Outcome<PathBuf> {
    let frozen = pair.first.folder.join("frozen");
    fs::create_dir_all(frozen.join("certs")).map_err(text)?;
    let default = pair.real.site.storage.join("default.pem");
    fs::copy(default, frozen.join("default.pem")).map_err(text)?;
    fs::copy(with, frozen.join("certs/a.example.com.pem")).map_err(text)?;
    pair.first.sees(&frozen)?;
    Ok(frozen)
}

/// What a check says, with the places where TLS is spoken or without.
fn check(pair: &Pair, verify: bool) -> Outcome<String> {
    let urls = pair.both().map(|it| format!("http://{}", it.origin())).join(",");
    let places = pair.both().map(|it| format!("{}={}", it.origin(), local(it.ports[1])));
    let (lb, places) = (format!("--lb={urls}"), format!("--lb-verify={}", places.join(",")));
    let more = ["--check", lb.as_str(), places.as_str()];
    let more = &more[..if verify { 3 } else { 2 }];
    let (_, said) = pair.real.site.run("check", &pair.real.arguments, more)?;
    Ok(said)
}

fn checked() -> Outcome {
    let mut pair = Pair::start(true)?;
    let here = pair.both().map(|it| {
        let origin = it.origin();
        format!("  served   http://{origin} at {}: ", local(it.ports[1]))
    });
    let says = |said: &str, lines: &[String]| {
        let missing = lines.iter().find(|line| !said.contains(*line));
        missing.map_or(Ok(()), |line| Err(format!("{line:?} is not in\n{said}")))
    };
    // Before there is any certificate, default.pem is served.
    let default = |verdict: &str, here: &str| format!("{verdict}{here}shows default.pem");
    says(&check(&pair, true)?, &[default("ok  ", &here[0]), default("ok  ", &here[1])])?;
    pair.real.site.deploy("/a", "a.example.com");
    pair.real.site.deploy("/b", "b.example.com");
    pair.both_serve("a.example.com")?;
    pair.both_serve("b.example.com")?;
    pair.rests()?;
    let right = |here: &str| format!("ok  {here}serves what is stored, compared for 2 names");
    let said = check(&pair, true)?;
    says(&said, &[right(&here[0]), right(&here[1])])?;
    says(&said, &["certs/: 2 certificate files validated".into()])?;
    let said = check(&pair, false)?;
    expect(!said.contains("served"), || said.clone())?;
    // One has a copy from before the second certificate, and nobody signals it.
    crate::stand::stop(&mut pair.daemon)?;
    freeze(&pair, &pair.real.site.certificate("a.example.com"))?;
    pair.first.stop()?;
    pair.first.start_again(pair.real.site.port)?;
    let wrong = "shows the certificate of certs/a.example.com.pem in place of what is stored for \
                 b.example.com; it has not loaded our file";
    let said = check(&pair, true)?;
    says(&said, &[format!("fail{}{wrong}", here[0]), right(&here[1])])?;
    // A file of ours is cut: HAProxy refuses it, and so does the check.
    let file = pair.real.site.certificate("b.example.com");
    let whole = fs::read_to_string(&file).map_err(text)?;
    let end = whole.find("-----END CERTIFICATE").ok_or("no certificate")?;
    fs::write(&file, &whole[..end]).map_err(text)?;
    let refuses = |it: &HaProxy| it.check().is_err();
    let refused = pair.second.haproxy.as_ref().is_some_and(refuses);
    expect(refused, || "HAProxy loads a cut file".into())?;
    let cut = "fail  storage  certs/: b.example.com.pem: damaged, HAProxy refuses such files: ";
    says(&check(&pair, true)?, &[cut.into()])
}

fn late() -> Outcome {
    let pair = Pair::start(true)?;
    let site = &pair.real.site;
    site.deploy("/a", "a.example.com");
    pair.both_serve("a.example.com")?;
    pair.rests()?;
    let file = site.certificate("a.example.com");
    // The first one sees the storage as it is now for a while.
    freeze(&pair, &file)?;
    let expired = fs::read(&file).map_err(text)?;
    for names in ["a.example.com,c.example.com", "a.example.com,c.example.com,d.example.com"] {
        site.deploy("/a", names);
        let name = names.rsplit(',').next().unwrap_or_default();
        pair.second.serves(name, &pair.real.trust)?;
    }
    let status = crate::process::get(site.port, "/status.json")?;
    let lagging = "it is lagging: it serves the earlier certificate for a.example.com";
    expect(status.contains(lagging), || status.clone())?;
    let health = crate::process::get(site.port, "/health")?;
    expect(health.contains("degraded"), || health.clone())?;
    // It sees the storage again: both generations are served, and nothing was rolled back.
    expect(fs::read(&file).is_ok_and(|it| it != expired), || "it was rolled back".into())?;
    let orders = pair.real.pebble.orders();
    pair.first.sees(&site.storage)?;
    let begin = Instant::now();
    pair.first.serves("d.example.com", &pair.real.trust)?;
    let took = begin.elapsed();
    expect(took < Duration::from_secs(15), || format!("it took {took:?}"))?;
    pair.rests()?;
    within(Duration::from_secs(5), "the state is ok again", || {
        crate::process::get(site.port, "/health").is_ok_and(|it| !it.contains("degraded"))
    })?;
    let output = pair.daemon.output();
    expect(!output.contains(ROLLED_BACK), || output.clone())?;
    expect(pair.real.pebble.orders() == orders, || "it was ordered again".into())
}

fn edited_twice() -> Outcome {
    let pair = Pair::start(true)?;
    let site = &pair.real.site;
    site.deploy("/a", "a.example.com");
    pair.both_serve("a.example.com")?;
    pair.rests()?;
    let file = site.certificate("a.example.com");
    let before = fs::read(&file).map_err(text)?;
    site.deploy("/a", "a.example.com,c.example.com");
    wait_until("the successor is written", || {
        fs::read(&file).ok().filter(|it| *it != before).map(drop)
    })?;
    // The next write comes while this one is verified.
    site.deploy("/d", "d.example.com");
    let begin = Instant::now();
    for domain in ["a.example.com", "c.example.com", "d.example.com"] {
        pair.both_serve(domain)?;
    }
    let took = begin.elapsed();
    expect(took < Duration::from_secs(15), || format!("it took {took:?}"))?;
    pair.rests()?;
    let output = pair.daemon.output();
    expect(!output.contains(ROLLED_BACK), || output.clone())?;
    expect(!output.contains(NOT_RELOADED), || output.clone())
}

/// A file that HAProxy loads and for which no handshake with us succeeds: its key is of a curve that our TLS
/// does not offer.
fn unusable(folder: &Path) -> Outcome<PathBuf> {
    let (key, file) = (folder.join("unusable.key"), folder.join("unusable.pem"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"]);
    openssl.args(["-nodes", "-days", "9", "-subj", "/CN=a.example.com"]);
    openssl.args(["-addext", "subjectAltName=DNS:a.example.com"]);
    let made = openssl.arg("-keyout").arg(&key).arg("-out").arg(&file).output().map_err(text)?;
    expect(made.status.success(), || String::from_utf8_lossy(&made.stderr).into_owned())?;
    let both = [fs::read(&key).map_err(text)?, fs::read(&file).map_err(text)?].concat();
    fs::write(&file, both).map_err(text)?;
    Ok(file)
}

/// Two load balancers that serve a.example.com and b.example.com, of which the first one fails every
/// handshake for the former from its next reload on; its label has one more name, and the previous file
/// is restored.
fn after_rollback() -> Outcome<Pair> {
    let pair = Pair::start(true)?;
    let site = &pair.real.site;
    for (app, name) in [("/b", "b.example.com"), ("/a", "a.example.com")] {
        site.deploy(app, name);
        pair.both_serve(name)?;
    }
    pair.rests()?;
    let file = site.certificate("a.example.com");
    let before = fs::read(&file).map_err(text)?;
    let frozen = freeze(&pair, &unusable(&pair.first.folder)?)?;
    let other = site.certificate("b.example.com");
    fs::copy(other, frozen.join("certs/b.example.com.pem")).map_err(text)?;
    let signals = pair.second.signals();
    site.deploy("/a", "a.example.com,c.example.com");
    wait_until("the successor is written", || {
        fs::read(&file).ok().filter(|it| *it != before).map(drop)
    })?;
    within(PROOF, "the previous certificate is restored", || {
        fs::read(&file).is_ok_and(|it| it == before)
    })
    .map_err(|error| format!("{error}\n{}", pair.daemon.output()))?;
    expect(pair.second.signals() == signals, || "the second one was signaled".into())?;
    Ok(pair)
}

fn rolled_back() -> Outcome {
    let mut pair = after_rollback()?;
    let site = &pair.real.site;
    // Nothing else is wrong with it.
    pair.first.sees(&site.storage)?;
    pair.daemon.wait_for(ROLLED_BACK)?;
    let line = pair.daemon.line(ROLLED_BACK);
    let all = ["name=a.example.com", "it reloaded, but no certificate is seen", "next_try="];
    expect(all.iter().all(|part| line.contains(part)), || line.clone())?;
    let status = crate::process::get(site.port, "/status.json")?;
    let told =
        status.contains("rolled back: ") && status.contains("the new certificate was rolled back");
    expect(told, || status.clone())?;
    pair.both_serve("a.example.com")?;
    // It is tried again, without another order.
    let orders = pair.real.pebble.orders();
    pair.both_serve("c.example.com")?;
    pair.daemon.wait_for(ROLLBACK_RETRIED)?;
    expect(pair.real.pebble.orders() == orders, || "it was ordered again".into())
}

fn futile() -> Outcome {
    let mut pair = after_rollback()?;
    let orders = pair.real.pebble.orders();
    pair.second.serves("c.example.com", &pair.real.trust)?;
    pair.daemon.wait_for(ROLLBACK_UNDONE)?;
    pair.first.sees(&pair.real.site.storage)?;
    pair.both_serve("c.example.com")?;
    pair.rests()?;
    expect(pair.real.pebble.orders() == orders, || "it was ordered again".into())?;
    let output = pair.daemon.output();
    expect(output.matches(ROLLED_BACK).count() == 1, || output.clone())
}

fn unlooked() -> Outcome {
    let mut pair = Pair::start(false)?;
    pair.real.site.deploy("/a", "a.example.com");
    pair.both_serve("a.example.com")?;
    pair.daemon.wait_until_reloaded(pair.real.site.port, 2)?;
    let output = pair.daemon.output();
    expect(!output.contains("proof=handshake"), || output.clone())?;
    let metrics = crate::process::get(pair.real.site.port, "/metrics")?;
    expect(!metrics.contains("lb_certificate_not_after"), || metrics.clone())
}
