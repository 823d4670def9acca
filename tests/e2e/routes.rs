//! The route of a challenge, tried by the real program before the order: what differs at one address is
//! said and shown, and no order waits for it. The daemon is in a mount namespace with an `/etc/hosts` of
//! its own; who answers on port 80 does so at loopback addresses that no other test uses.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::Ordering;

use marathon_acme::hint::Hint;
use serde_json::{Value, json};
use stand_ins::ca::Settings;
use stand_ins::driver::{Driver, Options, time_now};
use stand_ins::lb::LoadBalancer;

use crate::check::{Door, Frontend};
use crate::names::daemon_with_files;
use crate::process::{Outcome, Process, expect, free_port, get, wait_until};
use crate::site::{Site, StandInCa, text};
use crate::{Test, Tool};

const TOOLS: &[Tool] = &[Tool::Namespaces, Tool::LowPorts];

pub(crate) const TESTS: &[Test] = &[
    ("a_route_that_leads_elsewhere_at_one_address_is_named_and_ordered", TOOLS, stray_address),
    ("a_route_that_one_load_balancer_lacks_is_named", TOOLS, one_of_two),
    ("a_route_is_advice_until_the_next_try", TOOLS, next_try),
    ("a_route_that_is_skipped_is_not_asked_for_anywhere", TOOLS, skipped),
];

const DOMAIN: &str = "www.example.com";
const ASTRAY: &str = " WARN  route    a challenge would not reach us name=www.example.com ";

/// A site and a CA that takes its time.
struct Ground {
    site: Site,
    ca: StandInCa,
}

impl Ground {
    /// Its load balancer listens at that address.
    fn new(balancer: Ipv4Addr) -> Outcome<Ground> {
        let site = Site::at(balancer)?;
        // An order takes a second or two, so that what is found meanwhile can be looked at.
        let settings = Settings { delay_ms: 200, ..Settings::default() };
        let ca = StandInCa::start(site.folder(), site.port, settings)?;
        Ok(Ground { site, ca })
    }

    /// The daemon, with all routes tried but for those that more words leave out.
    fn daemon(&self, resolv_conf: &str, hosts: &str, more: &[&str]) -> Outcome<Process> {
        let mut arguments = self.site.arguments(&self.ca.directory, &self.ca.root);
        arguments.retain(|word| !word.starts_with("--skip-route-check"));
        arguments.extend(more.iter().map(ToString::to_string));
        daemon_with_files(&self.site, resolv_conf, hosts, &[], &arguments)
    }

    /// The door at which the daemon answers.
    fn door(&self) -> Door {
        Door::Daemon(self.site.port)
    }

    fn certificate(&self) -> Outcome<Value> {
        let answer = get(self.site.port, "/status.json")?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        let mut status: Value = serde_json::from_str(body).map_err(text)?;
        Ok(status["certificates"][0].take())
    }

    /// Waits until nothing is shown any more.
    fn wait_for_nothing_amiss(&self) -> Outcome {
        let gone = || self.certificate().ok()?.get("routes").is_none().then_some(());
        wait_until("nothing is amiss on the way", gone)
    }
}

fn not_found() -> Door {
    Door::Itself("HTTP/1.1 404 Not Found".into())
}

fn lines(daemon: &Process, words: &str) -> Vec<String> {
    daemon.output().lines().filter(|it| it.contains(words)).map(String::from).collect()
}

fn stray_address() -> Outcome {
    let (good, bad) = (Ipv4Addr::new(127, 80, 9, 1), Ipv4Addr::new(127, 80, 9, 2));
    let ground = Ground::new(good)?;
    let _good = Frontend::start(good, ground.door())?;
    let _bad = Frontend::start(bad, not_found())?;
    ground.site.deploy("/shop", DOMAIN);
    let hosts = format!("127.0.0.1 localhost\n{good} {DOMAIN}\n{bad} {DOMAIN}\n");
    let mut daemon = ground.daemon("", &hosts, &[])?;
    daemon.wait_for(ASTRAY)?;
    let certificate = ground.certificate()?;
    let expected = json!([{
        "domain": DOMAIN, "of": "domain", "addresses": [bad.to_string()],
        "problem": "another server answers, status 404", "hint": Hint::AnotherServer.text(),
    }]);
    expect(certificate["routes"] == expected, || certificate.to_string())?;
    let page = get(ground.site.port, "/")?;
    expect(page.contains(&format!("The route of {DOMAIN} by domain {bad}: another")), || page)?;
    // The order took no notice, and the certificate is the end of the advice.
    ground.site.wait_for_certificate(&daemon, DOMAIN)?;
    ground.wait_for_nothing_amiss()?;
    let line = format!(
        "{ASTRAY}address={bad} error=\"another server answers, status 404\" hint={:?}",
        Hint::AnotherServer.text()
    );
    let said = lines(&daemon, " route ");
    expect(said.len() == 1 && said[0].ends_with(&line[1..]), || daemon.output())?;
    // Who asks itself is no stranger.
    let metrics = get(ground.site.port, "/metrics")?;
    let none = "challenge_requests_total{result=\"unknown\"} 0";
    expect(metrics.contains(none), || metrics.clone())
}

/// One more load balancer, at an address of its own.
fn another_balancer(address: Ipv4Addr) -> Outcome<Driver<LoadBalancer>> {
    let listener = TcpListener::bind((address, 0)).map_err(text)?;
    let peer = LoadBalancer::new(time_now(), Default::default());
    Driver::start(listener, peer, Options::default()).map_err(text)
}

fn one_of_two() -> Outcome {
    let (good, bad) = (Ipv4Addr::new(127, 80, 9, 3), Ipv4Addr::new(127, 80, 9, 4));
    let ground = Ground::new(good)?;
    let other = another_balancer(bad)?;
    let _good = Frontend::start(good, ground.door())?;
    let _bad = Frontend::start(bad, Door::Itself("HTTP/1.1 503 Service Unavailable".into()))?;
    ground.site.deploy("/shop", DOMAIN);
    let hosts = format!("127.0.0.1 localhost\n{good} {DOMAIN}\n");
    let both = format!("--lb=http://{},http://{}", ground.site.lb.address(), other.address());
    let mut daemon = ground.daemon("", &hosts, &[&both])?;
    daemon.wait_for(ASTRAY)?;
    ground.site.wait_for_certificate(&daemon, DOMAIN)?;
    let line = format!("{ASTRAY}lb={bad} error=\"nobody answers there, status 503\"");
    let said = lines(&daemon, " route ");
    expect(said.len() == 1 && said[0].contains(&line[1..]), || daemon.output())
}

fn next_try() -> Outcome {
    let address = Ipv4Addr::new(127, 80, 9, 5);
    let ground = Ground::new(address)?;
    let redirect = "HTTP/1.1 301 Moved Permanently\r\nLocation: https://www.example.com/";
    let front = Frontend::start(address, Door::Itself(redirect.into()))?;
    ground.ca.challenge_port.store(free_port()?, Ordering::SeqCst);
    ground.site.deploy("/shop", DOMAIN);
    let hosts = format!("127.0.0.1 localhost\n{address} {DOMAIN}\n");
    let mut daemon = ground.daemon("", &hosts, &[])?;
    daemon.wait_for(ASTRAY)?;
    daemon.wait_for(" order    failed name=www.example.com ")?;
    let certificate = ground.certificate()?;
    let route = &certificate["routes"][0];
    let seen = route["problem"] == "redirected to https://www.example.com/, not to us";
    let both = seen && route["hint"] == Hint::Redirected.text();
    expect(both && certificate["problems"][0].is_object(), || certificate.to_string())?;
    // Mended, and tried again since the operator acts.
    front.open(ground.door());
    ground.ca.challenge_port.store(ground.site.port, Ordering::SeqCst);
    ground.site.deploy("/shop", DOMAIN);
    ground.wait_for_nothing_amiss()?;
    ground.site.wait_for_certificate(&daemon, DOMAIN)?;
    expect(lines(&daemon, " route ").len() == 1, || daemon.output())
}

fn skipped() -> Outcome {
    let (balancer, server) = (Ipv4Addr::new(127, 80, 9, 6), Ipv4Addr::new(127, 53, 7, 20));
    let ground = Ground::new(balancer)?;
    let port_80 = TcpListener::bind((balancer, 80)).map_err(text)?;
    port_80.set_nonblocking(true).map_err(text)?;
    let names = UdpSocket::bind(SocketAddr::from((server, 53))).map_err(text)?;
    names.set_nonblocking(true).map_err(text)?;
    ground.site.deploy("/shop", DOMAIN);
    let resolv_conf = format!("nameserver {server}\n");
    let hosts = "127.0.0.1 localhost\n";
    let word = format!("--skip-route-check=x.example.org,{DOMAIN}");
    let is_silent = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    {
        let daemon = ground.daemon(&resolv_conf, hosts, &[&word])?;
        ground.site.wait_for_certificate(&daemon, DOMAIN)?;
        let unasked = port_80.accept().is_err_and(is_silent);
        let unsought = names.recv_from(&mut [0; 512]).is_err_and(is_silent);
        expect(unasked && unsought, || daemon.output())?;
    }
    // The same listeners hear of domains that are not left out.
    ground.site.deploy("/other", "other.example.com");
    ground.site.deploy("/third", "third.example.com");
    let hosts = format!("{hosts}{balancer} third.example.com\n");
    let daemon = ground.daemon(&resolv_conf, &hosts, &[&word])?;
    let mut query = [0; 512];
    let asked = || {
        let (length, _) = names.recv_from(&mut query).ok()?;
        let query = String::from_utf8_lossy(&query[..length]).into_owned();
        query.contains("other").then_some(())
    };
    wait_until("a lookup", asked)?;
    let question = wait_until("a question", || port_80.accept().ok())?;
    // It gets no answer, and no order waits for one.
    ground.site.wait_for_certificate(&daemon, "third.example.com")?;
    drop(question);
    expect(lines(&daemon, "nothing comes back").is_empty(), || daemon.output())
}
