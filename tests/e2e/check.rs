//! `--check` with the real program: beside a daemon at work or alone, with every peer well, and with one
//! thing amiss at a time. Each site has its load balancer at a loopback address of its own, for port 80.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stand_ins::ca::{Profile, Settings};

use crate::frontend::{Frontend, ListenerKind};
use crate::process::{Outcome, Process, expect, free_port, local};
use crate::proxy::splice;
use crate::real::HaProxy;
use crate::site::{Site, StandInCa, text};
use crate::stand::stop;
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("a_check_of_a_site_that_is_well_fails_nothing", &[Tool::LowPorts], well),
    ("a_check_touches_nothing", &[Tool::LowPorts], untouched),
    ("a_check_says_what_is_amiss_with_the_storage", &[], storage),
    ("a_check_says_what_is_amiss_with_marathon_and_its_labels", &[], marathon),
    ("a_check_says_what_is_amiss_with_the_ca_and_the_clock", &[], ca),
    ("a_check_says_what_is_amiss_with_a_load_balancer", &[], balancer),
    ("a_check_says_what_stands_before_a_challenge", &[Tool::LowPorts], routes),
    ("a_check_of_peers_that_never_answer_ends", &[], silence),
    ("a_check_that_nobody_hears_fails", &[], unheard),
    ("a_check_reads_what_a_real_haproxy_runs_with", &[Tool::HaProxy, Tool::LowPorts], real),
];

pub(crate) const DOMAIN: &str = "www.example.com";
pub(crate) const PING: &str = "/.well-known/acme-challenge/ping";
pub(crate) const PONG_LINE: &str =
    "ok    route    www.example.com: we answer, by way of 1 load balancer";

pub(crate) fn may_listen_on_port_80() -> bool {
    TcpListener::bind((Ipv4Addr::new(127, 80, 0, 1), 80)).is_ok()
}

/// A site that is as the README has it.
pub(crate) struct Ground {
    pub(crate) site: Site,
    ca: StandInCa,
    pub(crate) address: Ipv4Addr,
}

impl Ground {
    pub(crate) fn new() -> Outcome<Ground> {
        static GIVEN: AtomicU8 = AtomicU8::new(1);
        let address = Ipv4Addr::new(127, 80, 1, GIVEN.fetch_add(1, Ordering::Relaxed));
        let site = Site::at(address)?;
        let profile = Profile {
            description: "for most".into(),
            lifetime_seconds: 90 * 24 * 60 * 60,
            names_max: 100,
        };
        let settings = Settings {
            profiles: BTreeMap::from([("classic".to_string(), profile)]),
            ..Settings::default()
        };
        let ca = StandInCa::start(site.folder(), site.port, settings)?;
        let ground = Ground { site, ca, address };
        ground.configure(&ground.site.storage, "2");
        ground.deploy("/shop", DOMAIN, json!({"HAPROXY_0_VHOST": DOMAIN}));
        Ok(ground)
    }

    /// What marathon-lb has made of its arguments and of the apps: with that weight of ours.
    fn configure(&self, storage: &Path, weight: &str) {
        let acl = "  acl acme path_beg /.well-known/acme-challenge/\n  use_backend acme if acme\n";
        let vhost = format!("  acl host hdr(host) -i {DOMAIN}\n  use_backend shop if host\n");
        let rules = if weight == "2" { [acl, &vhost] } else { [&vhost, acl] }.concat();
        let dir = storage.display();
        let configuration = format!(
            "frontend marathon_http_in\n  bind *:80\n  mode http\n{rules}\
             frontend marathon_https_in\n  bind *:443 ssl crt {dir}/certs crt {dir}/default.pem\n\
             backend acme\n  server acme 127.0.0.1:{}\nbackend shop\n  server shop 127.0.0.1:9\n",
            self.site.port
        );
        self.site.lb.with(|lb, _| lb.settings.configuration = configuration);
    }

    fn deploy(&self, id: &str, domains: &str, labels: Value) {
        let mut app = crate::site::app(id, domains);
        if let (Some(own), Value::Object(labels)) = (app["labels"].as_object_mut(), labels) {
            own.extend(labels);
        }
        self.site.marathon.with(|marathon, now| marathon.put_app(now, app));
    }

    fn arguments(&self) -> Vec<String> {
        self.site.arguments(&self.ca.directory, &self.ca.root)
    }

    /// Runs a check with further words; its status and all that it said.
    pub(crate) fn check(&self, more: &[&str]) -> Outcome<(Option<i32>, String)> {
        self.site.run("check", &self.arguments(), &[&["--check"], more].concat())
    }

    /// A check that ends so and says all of that.
    pub(crate) fn says(&self, more: &[&str], status: i32, lines: &[&str]) -> Outcome {
        let (ended, said) = self.check(more)?;
        for line in lines {
            expect(said.contains(line), || format!("{line:?} is not said:\n{said}"))?;
        }
        expect(ended == Some(status), || format!("{ended:?}\n{said}"))
    }

    /// The daemon, once the certificate is there.
    pub(crate) fn daemon(&self) -> Outcome<Process> {
        let daemon = self.site.daemon("daemon", &self.arguments(), &[])?;
        self.site.wait_for_certificate(&daemon, DOMAIN)?;
        Ok(daemon)
    }
}

/// Inode, mode, when content and inode were changed, and the content.
type Entry = (u64, u32, i64, i64, Vec<u8>);

/// Every path below a directory, with all that a look must not change.
fn paths(dir: &Path) -> Outcome<BTreeMap<String, Entry>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(text)? {
        let path = entry.map_err(text)?.path();
        let metadata = fs::symlink_metadata(&path).map_err(text)?;
        let mut bytes = Vec::new();
        if metadata.is_dir() {
            found.extend(paths(&path)?);
        } else {
            bytes = fs::read(&path).map_err(text)?;
        }
        let times = (metadata.mtime_nsec(), metadata.ctime_nsec());
        let state = (metadata.ino(), metadata.mode(), times.0, times.1, bytes);
        found.insert(path.display().to_string(), state);
    }
    Ok(found)
}

fn well() -> Outcome {
    let ground = Ground::new()?;
    let _front = Frontend::start(ground.address, ListenerKind::Daemon(ground.site.port))?;
    let mut daemon = ground.daemon()?;
    let (dir, address) = (ground.site.storage.display(), ground.address);
    let lines = [
        &format!("ok    storage  {dir}: can be read and written, certificates=1"),
        "ok    daemon   one is at work on the storage",
        &format!("ok    ca       {}: terms of service", ground.ca.directory),
        "ok    profile  none is asked for; offered: classic",
        "ok    renewal  the CA does not say when to renew",
        "ok    account  the CA asks for no external one",
        "ok    clock    agrees with the CA's",
        &format!(
            "ok    marathon http://{}: Marathon 1.11.24, leader",
            ground.site.marathon.address()
        ),
        ": the event stream opens\n",
        ": 1 app, 1 domain wanted in group \"external\"\n",
        &format!(" at {address}: healthy\n"),
        &format!(" at {address}: loads {dir}/certs, which is ours\n"),
        &format!(" at {address}: sends challenges to acme before it looks at hosts\n"),
        &format!(" at {address}: shows HAProxy's process ids"),
        "ok    storage  certs/: 1 certificate file validated: key, names, chain and dates\n",
        PONG_LINE,
        "ok    exposed  no status page is answered by way of a load balancer\n",
        "17 ok, 0 warnings, 0 failed\n",
    ];
    ground.says(&[], 0, &lines)?;
    ground.says(&["--profile=classic"], 0, &["ok    profile  classic is offered"])?;
    let (status, said) = ground.check(&["--log-format=json"])?;
    for line in said.lines() {
        let found: Value = serde_json::from_str(line).map_err(text)?;
        let whole =
            ["verdict", "subject", "seen", "remedy"].iter().all(|it| found[*it].is_string());
        expect(whole && found["verdict"] == "ok", || line.into())?;
    }
    expect(status == Some(0) && said.lines().count() == 17, || said)?;
    // The daemon was not disturbed, and without it nothing can be proven.
    stop(&mut daemon)?;
    let lines =
        ["ok    daemon   none is at work on the storage", "status 503, and no daemon is at work"];
    ground.says(&[], 0, &lines)
}

fn untouched() -> Outcome {
    let ground = Ground::new()?;
    let _front = Frontend::start(ground.address, ListenerKind::Daemon(ground.site.port))?;
    let empty = paths(&ground.site.storage)?;
    ground.says(&[], 0, &["certificates=0", "none is at work"])?;
    expect(empty.is_empty() && paths(&ground.site.storage)?.is_empty(), || {
        "something is made".into()
    })?;
    let mut daemon = ground.daemon()?;
    let reloaded = || ground.site.lb.with(|lb, _| lb.reloads().len());
    crate::process::wait_until("a reload", || (reloaded() == 1).then_some(()))?;
    let file = fs::read(ground.site.certificate(DOMAIN)).map_err(text)?;
    let asked = ground.ca.requests().len();
    ground.says(&[], 0, &[PONG_LINE])?;
    let new: Vec<String> = ground.ca.requests().split_off(asked);
    expect(new == ["GET /directory"], || format!("the CA was asked {new:?}"))?;
    expect(reloaded() == 1, || "a load balancer was signalled".into())?;
    let same = fs::read(ground.site.certificate(DOMAIN)).map_err(text)? == file;
    expect(same, || "the certificate was touched".into())?;
    stop(&mut daemon)?;
    let before = paths(&ground.site.storage)?;
    ground.says(&[], 0, &["certificates=1"])?;
    let after = paths(&ground.site.storage)?;
    expect(before == after && before.len() > 5, || "the storage was touched".into())?;
    let only_read = ground
        .site
        .marathon
        .with(|marathon, _| marathon.seen().iter().all(|it| it.method == "GET"));
    expect(only_read, || "Marathon was asked for more than to be read".into())
}

fn storage() -> Outcome {
    let ground = Ground::new()?;
    let dir = ground.site.storage.display().to_string();
    let arguments = ground.arguments();
    let (_, others) = arguments.split_last().ok_or("no arguments")?;
    let elsewhere = |path: &str| [others, &[path.to_string()]].concat();
    let missing = "fail  storage  /no/such/directory: No such file or directory (os error 2); make";
    for (path, words) in [("/no/such/directory", missing), ("/dev/null", "it is not a directory")] {
        let (status, said) = ground.site.run("missing", &elsewhere(path), &["--check"])?;
        expect(status == Some(1) && said.contains(words), || format!("{status:?}\n{said}"))?;
    }
    let certs = ground.site.storage.join("certs");
    fs::create_dir(&certs).map_err(text)?;
    for (name, mode) in [("README", 0o600), ("a.example.com.pem", 0o644)] {
        fs::write(certs.join(name), "text").map_err(text)?;
        fs::set_permissions(certs.join(name), fs::Permissions::from_mode(mode)).map_err(text)?;
    }
    // For root, no mode forbids anything; the daemon's own user is another one.
    fs::set_permissions(&certs, fs::Permissions::from_mode(0o555)).map_err(text)?;
    let lines = [
        "fail  storage  certs/: README: keeps HAProxy from reloading: it holds neither a private key \
         nor a certificate; move it",
        "warn  storage  mode 0644 in place of 0600: certs/a.example.com.pem; chmod it",
    ];
    let (_, said) = ground.check(&[])?;
    expect(lines.iter().all(|line| said.contains(line)), || said)?;
    if rustix::process::geteuid().is_root() {
        let mut command = Site::command();
        command.env("MARATHON_ACME_USER", "65534").args(&arguments).arg("--check");
        let output = command.output().map_err(text)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = format!("fail  storage  {dir}: ");
        let barred = said.contains(&line) && said.contains("Permission denied");
        expect(output.status.code() == Some(1) && barred, || said)?;
    }
    Ok(())
}

fn marathon() -> Outcome {
    let ground = Ground::new()?;
    let lines = [
        "fail  marathon http://127.0.0.1:9: cannot connect: 127.0.0.1:9: the connection was refused",
        "; check --marathon, and that it runs",
        "fail  apps     no Marathon lists its apps; ",
        "ok    clock    agrees with the CA's",
        ": healthy\n",
    ];
    ground.says(&["--marathon=http://me:hidden@127.0.0.1:9"], 1, &lines)?;
    let (_, said) = ground.check(&["--marathon=http://me:hidden@127.0.0.1:9"])?;
    expect(!said.contains("hidden"), || said)?;
    let both = format!("--marathon=http://127.0.0.1:9,http://{}", ground.site.marathon.address());
    ground.says(
        &[&both],
        1,
        &["warn  marathon http://127.0.0.1:9: ", ": 1 app, 1 domain wanted"],
    )?;
    ground.deploy("/a", "a.example.com b.example.com", json!({"HAPROXY_0_VHOST": "x.example.com"}));
    ground.deploy("/b", "b.example.com", json!({"HAPROXY_GROUP": "internal"}));
    let path = "/.well-known/acme-challenge/";
    let acme = json!({"HAPROXY_0_PATH": path, "HAPROXY_0_REDIRECT_TO_HTTPS": "true",
                      "MARATHON_ACME_7_DOMAIN": "c.example.com"});
    ground.deploy("/acme", "", acme);
    let lines = [
        "warn  label    /a MARATHON_ACME_0_DOMAIN: a.example.com is not in HAPROXY_0_VHOST, ",
        "warn  label    /a MARATHON_ACME_0_DOMAIN: label names 2 domains, only the first",
        "warn  label    /b MARATHON_ACME_0_DOMAIN: the port is in group \"internal\", ",
        "warn  label    /acme MARATHON_ACME_7_DOMAIN: label passed over: the app has 1 ports",
        "warn  label    /acme HAPROXY_0_REDIRECT_TO_HTTPS: challenges end here, which it bars; take",
    ];
    ground.says(&[], 1, &lines)
}

fn ca() -> Outcome {
    let ground = Ground::new()?;
    let down = "--acme=https://127.0.0.1:9/dir";
    ground.says(&[down], 1, &["fail  ca       https://127.0.0.1:9/dir: ", "; check --acme"])?;
    let line = "fail  profile  clasic is not offered; offered: classic; choose";
    ground.says(&["--profile=clasic"], 1, &[line])?;
    for (ahead, status, line) in [
        (30_000, None, " seconds behind the CA's; let this machine keep its clock by NTP"),
        (3_600_000, Some(1), "fail  clock    3"),
        (-3_600_000, Some(1), " seconds ahead of the CA's"),
    ] {
        ground.ca.ca.with(|ca, _| ca.settings.date_ahead_ms = ahead);
        let (ended, said) = ground.check(&[])?;
        let fits = said.contains(line) && status.is_none_or(|status| ended == Some(status));
        expect(fits, || format!("{line}\n{said}"))?;
    }
    ground.ca.ca.with(|ca, _| ca.settings.external_account_required = true);
    ground.says(
        &[],
        1,
        &["fail  account  the CA wants accounts bound", "--eab-kid and --eab-hmac-key"],
    )
}

fn balancer() -> Outcome {
    let ground = Ground::new()?;
    let down = ["fail  lb       http://127.0.0.1:9 at 127.0.0.1: cannot connect: ", "; check --lb"];
    ground.says(&["--lb=http://127.0.0.1:9"], 1, &down)?;
    ground.configure(Path::new("/elsewhere"), "1");
    let lines = [
        ": loads /elsewhere/certs, which is named as ",
        "fail  lb ",
        ": sends challenges to acme only behind the rule for www.example.com; give",
    ];
    ground.says(&[], 1, &lines)?;
    let other = "frontend marathon_https_in\n  bind *:443 ssl crt /etc/ssl/cert.pem\n";
    ground.site.lb.with(|lb, _| {
        lb.settings.configuration = other.into();
        lb.settings.offers_pids = false;
    });
    let lines = [
        "/certs, but /etc/ssl/cert.pem; start marathon-lb with --ssl-certs ",
        "no front end on port 80 is in its configuration",
        "does not show HAProxy's process ids",
    ];
    ground.says(&[], 1, &lines)
}

fn routes() -> Outcome {
    let ground = Ground::new()?;
    ground.says(
        &[],
        1,
        &["fail  route    127.80.1.", ": cannot connect: ", "listen on port 80 there"],
    )?;
    let front = Frontend::start(ground.address, ListenerKind::Daemon(ground.site.port))?;
    let _daemon = ground.daemon()?;
    let redirect =
        |to: &str| ListenerKind::Itself(format!("HTTP/1.1 301 x\r\nLocation: {to}{PING}"));
    front.open(redirect(&format!("https://{DOMAIN}")));
    let lines = [
        ": sent on to https://www.example.com/.well-known/acme-challenge/ping, and there cannot connect",
        "HAPROXY_n_REDIRECT_TO_HTTPS of /shop comes first; give",
    ];
    ground.says(&[], 1, &lines)?;
    front.open(redirect("http://elsewhere.example.com:81"));
    ground.says(&[], 1, &["sent on to http://elsewhere.example.com:81/.well-known"])?;
    front.open(ListenerKind::Itself("HTTP/1.1 404 Not Found".into()));
    ground.says(&[], 1, &["something else answers, status 404; challenges go to acme, so let"])?;
    front.open(ListenerKind::Itself("HTTP/1.1 503 Service Unavailable".into()));
    ground.says(
        &[],
        1,
        &["status 503, nobody answers; see to it that marathon-acme is healthy"],
    )?;
    front.open(ListenerKind::Daemon(ground.site.port));
    ground.says(&[], 0, &[PONG_LINE])
}

fn silence() -> Outcome {
    let ground = Ground::new()?;
    ground.ca.ca.with(|ca, _| ca.settings.delay_ms = 120_000);
    ground.site.lb.with(|lb, _| lb.settings.delay_ms = 120_000);
    ground.site.marathon.with(|marathon, _| marathon.settings.delay_ms = 120_000);
    let begin = Instant::now();
    ground.says(&["--marathon-timeout=2"], 1, &["fail  ca ", "fail  marathon ", "fail  lb "])?;
    let took = begin.elapsed();
    expect(took < Duration::from_secs(30), || format!("it took {took:?}"))
}

fn unheard() -> Outcome {
    let ground = Ground::new()?;
    let full = fs::File::create("/dev/full").map_err(text)?;
    let mut command = Site::command();
    command.args(ground.arguments()).arg("--check");
    let status = command.stdout(full).status().map_err(text)?;
    expect(status.code() == Some(1), || format!("{status}"))
}

fn real() -> Outcome {
    let ground = Ground::new()?;
    let _daemon = ground.daemon()?;
    let (site, port) = (&ground.site, free_port()?);
    let haproxy =
        HaProxy::start(site.folder(), &site.storage, port, &[site.port], site.lb.clone())?;
    let configuration = fs::read_to_string(site.folder().join("haproxy.cfg")).map_err(text)?;
    site.lb.with(|lb, _| lb.settings.configuration = configuration);
    let front = Frontend::start(ground.address, ListenerKind::Daemon(port))?;
    let lines = [
        "/certs, which is ours\n",
        ": sends challenges to marathon_acme before it looks at hosts\n",
        PONG_LINE,
    ];
    ground.says(&[], 0, &lines)?;
    // As a CA it follows a redirect to https, whose certificate is nobody's.
    front.open(ListenerKind::Itself(format!("HTTP/1.1 301 x\r\nLocation: https://{DOMAIN}{PING}")));
    let secure = TcpListener::bind((ground.address, 443)).map_err(text)?;
    // The other question on that port is whether the status page is published there.
    let relay = thread::spawn(move || (0..2).try_for_each(|_| relay(&secure, haproxy.https_port)));
    ground.says(&[], 0, &[PONG_LINE])?;
    relay.join().map_err(|_| "the relay panicked")?
}

/// Connects the next one who comes with a port of this machine, until both have ended.
fn relay(listener: &TcpListener, port: u16) -> Outcome {
    let (peer, _) = listener.accept().map_err(text)?;
    let server = TcpStream::connect(local(port)).map_err(text)?;
    splice(peer, server, None).map_err(text)
}
