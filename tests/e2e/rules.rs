//! The route of a challenge through the rules that marathon-lb really writes. A CA sends the bare name as
//! `Host`. Pebble 2.4 sends `NAME:PORT`, with port 80, too, which `hdr(host) -i NAME` never matches: so its
//! requests lose the port on their way, and the host rules, redirects and passwords of port 80 meet what
//! they meet from a real CA. Everything runs in a network namespace of the test.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::{Value, json};
use stand_ins::marathon_lb::{Options, written};
use stand_ins::tls::shown;

use crate::process::{Outcome, Process, expect, free_port, get, local, talk, wait_until};
use crate::real::{HaProxy, Pebble, readme_label};
use crate::routes::in_network;
use crate::site::{PROGRAM, Site, app, bare, text};
use crate::{Test, Tool};

const TOOLS: &[Tool] = &[Tool::Pebble, Tool::HaProxy, Tool::Namespaces, Tool::Networks];

pub(crate) const TESTS: &[Test] = &[
    ("an_app_with_a_password_gets_a_certificate_by_our_labels", TOOLS, || {
        in_network("auth", &[], password)
    }),
    ("an_app_that_redirects_needs_the_label_for_https", TOOLS, || {
        in_network("redirect", &[], redirect)
    }),
    ("the_old_labels_still_lead_challenges_to_us", TOOLS, || in_network("old", &[], old_labels)),
    ("our_labels_come_before_the_map_of_marathon_lb", TOOLS, || in_network("map", &[], mapped)),
];

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
pub(crate) const HTTP_LABEL: &str = "HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH";
pub(crate) const HTTPS_LABEL: &str = "HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH";
const LABELS: [&str; 6] = [
    "HAPROXY_0_GROUP",
    "HAPROXY_0_VHOST",
    "HAPROXY_0_PATH",
    "HAPROXY_0_BACKEND_WEIGHT",
    HTTP_LABEL,
    HTTPS_LABEL,
];
/// What the labels lacked once.
const ALLOW: &str = "  http-request allow if path_{backend}\n";
/// Nobody logs in: what matters is that the password is asked for.
const AUTH: &str = "realm:user:$5$salt$hash";
const OUR_ID: &str = "/marathon-acme";
const PING: &str = "/.well-known/acme-challenge/ping";

/// The real peers, in the network namespace of the thread.
struct Ground {
    haproxy: HaProxy,
    /// Serves the number of the configuration that HAProxy runs with; the tasks of all apps, too.
    number_port: u16,
    /// Where Pebble asks: what arrives there goes to port 80 without a port in its `Host`.
    ca_port: u16,
    number: usize,
    map: Option<PathBuf>,
    trust: Arc<ClientConfig>,
    daemon: Process,
    _pebble: Pebble,
    /// The last to go: the others have files in its folder.
    site: Site,
}

impl Ground {
    fn new(has_map: bool) -> Outcome<Ground> {
        let site = Site::new()?;
        let (number_port, ca_port) = (free_port()?, free_port()?);
        let pebble = Pebble::start(site.folder(), ca_port, &[])?;
        let arguments = site.arguments(&pebble.directory(), &pebble.root_file);
        let mut daemon = site.daemon("daemon", &arguments, &[])?;
        daemon.wait_until_registered(site.port)?;
        let map = has_map.then(|| site.folder().join("domain2backend.map"));
        let first =
            configuration(&site, &[ours(&labels()?)], map.as_ref(), [number_port, ca_port], 0)?;
        let ports = [HTTP, HTTPS];
        let (folder, control) = (site.folder(), site.lb.clone());
        let haproxy = HaProxy::start_as(folder, &site.storage, &first, ports, control)?;
        let trust = pebble.issued_root()?;
        let _pebble = pebble;
        Ok(Ground { haproxy, number_port, ca_port, number: 0, map, trust, daemon, _pebble, site })
    }

    /// Lets HAProxy have the rules of these apps, as marathon-lb does after an event, and then tells the
    /// daemon of them.
    fn deploy(&mut self, apps: &[Value]) -> Outcome {
        self.number += 1;
        let map = self.map.as_ref();
        let text =
            configuration(&self.site, apps, map, [self.number_port, self.ca_port], self.number)?;
        self.haproxy.rewrite(&text)?;
        self.haproxy.check()?;
        // What marathon-lb does by itself, the test does by its signal.
        get(self.site.lb.address().port(), "/_mlb_signal/usr1")?;
        let expected = format!("\r\n\r\nnumber {}.", self.number);
        wait_until("HAProxy has the new rules", || {
            get(self.number_port, "/").ok().filter(|it| it.ends_with(&expected))
        })?;
        let apps = apps.to_vec();
        self.site.marathon.with(|marathon, now| marathon.put_apps(now, apps));
        Ok(())
    }

    /// Waits until HAProxy serves a certificate of the CA.
    fn wait_for_served(&self, domain: &str) -> Outcome {
        let look = || shown(local(HTTPS), domain, &self.trust).ok();
        let found = wait_until(&format!("HAProxy serves {domain}"), look);
        found.map(|_| ()).map_err(|error| format!("{error}\n{}", self.daemon.output()))
    }

    /// Waits until an order has failed because of what the CA was answered.
    fn wait_for_failure(&self, domain: &str, answer: &str) -> Outcome {
        let problem = || {
            let body = get(self.site.port, "/status.json").ok()?;
            let status: Value = serde_json::from_str(body.split_once("\r\n\r\n")?.1).ok()?;
            let all = status["certificates"].as_array()?;
            let problems = all.iter().find(|it| it["name"] == domain)?["problems"].to_string();
            problems.contains(answer).then_some(())
        };
        wait_until(&format!("the order of {domain} fails with {answer}"), problem)
            .map_err(|error| format!("{error}\n{}", self.daemon.output()))?;
        let file = self.site.certificate(domain);
        expect(!file.exists(), || format!("{domain} has a certificate"))
    }
}

/// What marathon-lb would write for these apps.
fn configuration(
    site: &Site,
    apps: &[Value],
    map: Option<&PathBuf>,
    [number_port, ca_port]: [u16; 2],
    number: usize,
) -> Outcome<String> {
    let path = |path: PathBuf| path.display().to_string();
    let options = Options {
        group: "external".into(),
        certificates: vec![
            path(site.storage.join("certs")),
            path(site.storage.join("default.pem")),
        ],
        socket: path(site.folder().join("haproxy.sock")),
        map: map.cloned().map(path),
        groups_https: false,
    };
    let daemon = site.port;
    let written = written(apps, &options, |id| -> SocketAddr {
        local(if id == OUR_ID { daemon } else { number_port })
    });
    if let Some(map) = map {
        fs::write(map, &written.map).map_err(text)?;
    }
    Ok(written.configuration
        + &format!(
            "frontend number\n  bind 127.0.0.1:{number_port}\n  mode http\n  \
             http-request return status 200 content-type text/plain string \"number {number}.\"\n\
             frontend ca\n  bind 127.0.0.1:{ca_port}\n  mode http\n  \
             http-request set-header Host %[req.hdr(host),field(1,:)]\n  default_backend port_80\n\
             backend port_80\n  mode http\n  server itself 127.0.0.1:{HTTP}\n"
        ))
}

/// The labels of our app, as the README has them.
pub(crate) fn labels() -> Outcome<Value> {
    let mut labels = json!({});
    for name in LABELS {
        labels[name] = readme_label(name)?.into();
    }
    Ok(labels)
}

/// Our app.
pub(crate) fn ours(labels: &Value) -> Value {
    json!({
        "id": OUR_ID,
        "networks": [{"mode": "container/bridge"}],
        "container": {"portMappings": [{"containerPort": 8000, "servicePort": 10_001}]},
        "labels": labels,
    })
}

/// An app at `NAME.example.com` with more labels, and its domain.
fn shop(name: &str, more: &[(&str, &str)]) -> (Value, String) {
    let domain = format!("{name}.example.com");
    let mut shop = app(&format!("/{name}"), &domain);
    shop["labels"]["HAPROXY_0_VHOST"] = domain.as_str().into();
    for (name, value) in more {
        shop["labels"][*name] = (*value).into();
    }
    (shop, domain)
}

/// The labels as they were, without a line of one of them.
pub(crate) fn without_allow(label: &str) -> Outcome<Value> {
    let mut labels = labels()?;
    let text = labels[label].as_str().unwrap_or_default().to_string();
    expect(text.contains(ALLOW), || format!("{label} lets nobody pass: {text}"))?;
    labels[label] = text.replace(ALLOW, "").into();
    Ok(labels)
}

/// The status line with which port 80 answers for a host.
fn answered(domain: &str, path: &str) -> Outcome<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {domain}\r\nConnection: close\r\n\r\n");
    let answer = talk(HTTP, request.as_bytes())?;
    Ok(answer.lines().next().unwrap_or_default().to_string())
}

fn answers(domain: &str, path: &str, status: u16) -> Outcome {
    let line = answered(domain, path)?;
    expect(line.contains(&format!(" {status} ")), || format!("{domain}{path}: {line}"))
}

fn password() -> Outcome {
    let mut ground = Ground::new(false)?;
    let printed = printed_labels()?;
    expect(printed == labels()?, || format!("the printed app has other labels: {printed}"))?;
    let redirected = [("HAPROXY_0_AUTH", AUTH), ("HAPROXY_0_REDIRECT_TO_HTTPS", "true")];
    // The second goes by port 443, so that each of the two labels is needed once.
    for (name, label, more) in
        [("http", HTTP_LABEL, &redirected[..1]), ("https", HTTPS_LABEL, &redirected[..])]
    {
        let (shop, domain) = shop(name, more);
        ground.deploy(&[ours(&without_allow(label)?), shop.clone()])?;
        ground.wait_for_failure(&domain, "401")?;
        // The line alone is put back.
        ground.deploy(&[ours(&labels()?), shop])?;
        ground.wait_for_served(&domain)?;
        if name == "http" {
            answers(&domain, "/", 401)?;
            answers(&domain, PING, 200)?;
        }
        let (_, page) = shown(local(HTTPS), &domain, &ground.trust).map_err(text)?;
        expect(page.starts_with("HTTP/1.1 401 "), || format!("no password for {domain}: {page}"))?;
    }
    Ok(())
}

/// The labels of the app that the program prints, but for the host name, which is an example.
fn printed_labels() -> Outcome<Value> {
    let arguments = ["--print-app-definition", "--email=you@example.com"];
    let output = bare(PROGRAM).args(arguments).output().map_err(text)?;
    let app: Value = serde_json::from_slice(&output.stdout).map_err(text)?;
    Ok(app["labels"].clone())
}

fn redirect() -> Outcome {
    let mut ground = Ground::new(false)?;
    let more = [("HAPROXY_0_REDIRECT_TO_HTTPS", "true")];
    let (shop, domain) = shop("secure", &more);
    let mut lacking = labels()?;
    lacking.as_object_mut().ok_or("no labels")?.remove(HTTPS_LABEL);
    ground.deploy(&[ours(&lacking), shop.clone()])?;
    // The app answers in our place.
    ground.wait_for_failure(&domain, "number ")?;
    answers(&domain, "/", 301)?;
    ground.deploy(&[ours(&labels()?), shop])?;
    ground.wait_for_served(&domain)?;
    // HAProxy evaluates `redirect` after `http-request allow` and before `use_backend`.
    answers(&domain, PING, 301)
}

/// The labels of the old program's README: a name, the label for port 80 and that for port 443.
pub(crate) fn old_variants() -> [(&'static str, String, Option<&'static str>); 2] {
    let head = "  acl host_{cleanedUpHostname} hdr(host) -i {hostname}\n  \
                acl path_{backend} path_beg {path}\n";
    let end = "  use_backend {backend} if host_{cleanedUpHostname} path_{backend}\n";
    let elsewhere = "  redirect prefix http://{hostname} code 302 \
                     if !host_{cleanedUpHostname} path_{backend}\n";
    let secure = "  redirect prefix https://{hostname} code 302 if path_{backend}\n";
    let by_tls = "  use_backend {backend} if path_{backend}\n";
    [
        ("by-http", [head, elsewhere, end].concat(), None),
        ("by-https", [head, secure].concat(), Some(by_tls)),
    ]
}

fn old_labels() -> Outcome {
    let mut ground = Ground::new(false)?;
    for (name, http, https) in old_variants() {
        let mut labels = labels()?;
        // The redirect keeps the path, and our own name leads to us.
        labels[HTTP_LABEL] = http.into();
        match https {
            Some(https) => labels[HTTPS_LABEL] = https.into(),
            None => drop(labels.as_object_mut().and_then(|it| it.remove(HTTPS_LABEL))),
        }
        let (shop, domain) = shop(name, &[]);
        ground.deploy(&[ours(&labels), shop])?;
        answers(&domain, PING, 302)?;
        ground.wait_for_served(&domain)?;
    }
    Ok(())
}

fn mapped() -> Outcome {
    let mut ground = Ground::new(true)?;
    let (plain, plain_domain) = shop("plain", &[]);
    let (auth, auth_domain) = shop("locked", &[("HAPROXY_0_AUTH", AUTH)]);
    let (redirects, redirected_domain) = shop("secure", &[("HAPROXY_0_REDIRECT_TO_HTTPS", "true")]);
    ground.deploy(&[ours(&labels()?), plain, auth, redirects])?;
    for domain in [&plain_domain, &auth_domain, &redirected_domain] {
        ground.wait_for_served(domain)?;
    }
    answers(&plain_domain, "/", 200)?;
    answers(&plain_domain, PING, 200)?;
    answers(&auth_domain, "/", 401)?;
    answers(&auth_domain, PING, 200)?;
    answers(&redirected_domain, "/", 301)
}
