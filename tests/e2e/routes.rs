//! The route of a challenge, tried by the real program before the order: what differs at one address is
//! said and shown, and no order waits for it. The daemon is in a mount namespace with an `/etc/hosts` of
//! its own; who answers on port 80 does so at loopback addresses that no other test uses, or, where public
//! addresses are needed, in a network namespace.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;

use marathon_acme::hint::Hint;
use marathon_acme::log::message::ROUTE_BROKEN;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use stand_ins::ca::Settings;
use stand_ins::driver::{Driver, Options, time_now};
use stand_ins::lb::LoadBalancer;

use crate::frontend::{Frontend, ListenerKind};
use crate::names::daemon_with_files;
use crate::process::{Outcome, Process, expect, free_port, get, wait_until};
use crate::site::{Site, StandInCa, text};
use crate::{Test, Tool};

const TOOLS: &[Tool] = &[Tool::Namespaces, Tool::LowPorts];
const NETWORK_TOOLS: &[Tool] = &[Tool::Namespaces, Tool::Networks];

pub(crate) const TESTS: &[Test] = &[
    (
        "a_route_that_leads_elsewhere_at_one_address_is_named_and_ordered",
        NETWORK_TOOLS,
        stray_address,
    ),
    ("a_redirect_cannot_aim_the_probe_of_a_route", NETWORK_TOOLS, forged),
    ("a_route_that_one_load_balancer_lacks_is_named", TOOLS, one_of_two),
    ("a_route_is_advice_until_the_next_try", TOOLS, next_try),
    ("a_route_that_is_skipped_is_not_asked_for_anywhere", TOOLS, skipped),
];

const DOMAIN: &str = "www.example.com";

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
    fn door(&self) -> ListenerKind {
        ListenerKind::Daemon(self.site.port)
    }

    fn certificate(&self) -> Outcome<Value> {
        self.certificates().map(|mut all| all[0].take())
    }

    fn certificates(&self) -> Outcome<Value> {
        let answer = get(self.site.port, "/status.json")?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        let mut status: Value = serde_json::from_str(body).map_err(text)?;
        Ok(status["certificates"].take())
    }

    /// Waits until nothing is shown any more.
    fn wait_for_nothing_amiss(&self) -> Outcome {
        let gone = || self.certificate().ok()?.get("routes").is_none().then_some(());
        wait_until("nothing is amiss on the way", gone)
    }
}

fn not_found() -> ListenerKind {
    ListenerKind::Itself("HTTP/1.1 404 Not Found".into())
}

fn lines(daemon: &Process, words: &str) -> Vec<String> {
    daemon.output().lines().filter(|it| it.contains(words)).map(String::from).collect()
}

/// A network namespace with these addresses, besides those of loopback; `test` runs in it, with all that
/// it starts.
pub(crate) fn in_network(name: &str, addresses: &[Ipv4Addr], test: fn() -> Outcome) -> Outcome {
    let addresses: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    in_network_with(name, &addresses, test)
}

/// The same, with addresses as ip-address(8) reads them.
pub(crate) fn in_network_with(name: &str, addresses: &[String], test: fn() -> Outcome) -> Outcome {
    struct Namespace(String);
    impl Drop for Namespace {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
        }
    }
    let ip = |words: &[&str]| {
        let status = Command::new("ip").args(words).status().map_err(text)?;
        expect(status.success(), || format!("ip {}: {status}", words.join(" ")))
    };
    let name = format!("{name}-{}", std::process::id());
    ip(&["netns", "add", &name])?;
    let namespace = Namespace(name.clone());
    ip(&["-n", &name, "link", "set", "lo", "up"])?;
    for address in addresses {
        ip(&["-n", &name, "addr", "add", address, "dev", "lo"])?;
    }
    let run = move || {
        let file = File::open(format!("/run/netns/{name}")).map_err(text)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(text)?;
        test()
    };
    let ended = thread::spawn(run).join().map_err(|_| "the test panicked".to_string())?;
    drop(namespace);
    ended
}

/// Private, as a load balancer's address may be.
const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
/// Somebody's on the internet.
const PUBLIC: [Ipv4Addr; 5] = [
    Ipv4Addr::new(9, 80, 0, 1),
    Ipv4Addr::new(9, 80, 0, 2),
    Ipv4Addr::new(9, 80, 0, 3),
    Ipv4Addr::new(9, 80, 0, 4),
    Ipv4Addr::new(9, 80, 0, 5),
];
/// Servers that answer the daemon, and nobody on the internet; but for the last.
const VICTIMS: [(Ipv4Addr, &str); 4] = [
    (Ipv4Addr::LOCALHOST, "loopback.test"),
    (Ipv4Addr::new(169, 254, 80, 1), "link.test"),
    (Ipv4Addr::new(10, 80, 0, 66), "private.test"),
    (Ipv4Addr::new(9, 80, 0, 66), "public.test"),
];

fn forged() -> Outcome {
    let victims = VICTIMS.map(|(address, _)| address).into_iter();
    let addresses: Vec<Ipv4Addr> = victims.skip(1).chain(PUBLIC).chain([BALANCER]).collect();
    in_network("forged", &addresses, || {
        let ground = Ground::new(BALANCER)?;
        // The orders fail, so that what is found stays.
        ground.ca.challenge_port.store(free_port()?, Ordering::SeqCst);
        let balancer = Frontend::start(BALANCER, ground.door())?;
        let mut victims = Vec::new();
        let mut hosts = format!("127.0.0.1 localhost\n{BALANCER} balancer.test\n");
        for (address, name) in VICTIMS {
            victims.push(Frontend::start(
                address,
                ListenerKind::Itself("HTTP/1.1 401 Secret".into()),
            )?);
            hosts += &format!("{address} {name}\n");
        }
        let cases = [
            ("loopback", "http://loopback.test/a/{token}"),
            ("link", "http://link.test/.well-known/acme-challenge/{token}"),
            ("private", "http://private.test/admin/{token}"),
            ("query", "http://public.test/admin?do=/{token}"),
            ("good", "http://balancer.test/.well-known/acme-challenge/{token}"),
        ];
        let mut attackers = Vec::new();
        for (address, (name, to)) in PUBLIC.into_iter().zip(cases) {
            attackers.push(Frontend::start(address, ListenerKind::Redirect(to.into()))?);
            hosts += &format!("{address} {name}.example.com\n");
            ground.site.deploy(&format!("/{name}"), &format!("{name}.example.com"));
        }
        // This one's own address is nobody's on the internet.
        hosts += "169.254.80.1 own.example.com\n";
        ground.site.deploy("/own", "own.example.com");
        let daemon = ground.daemon("", &hosts, &[])?;
        let problem = |name: &str| {
            let certificates = ground.certificates().ok()?;
            let found = certificates.as_array()?.iter().find(|it| it["name"] == name)?.clone();
            found["routes"][0]["problem"].as_str().map(str::to_string)
        };
        for (name, said) in [
            ("loopback", "redirected to loopback.test: its address is neither public nor"),
            ("link", "redirected to link.test: its address is neither public nor"),
            ("private", "redirected to private.test: its address is neither public nor"),
            ("query", "redirected to http://public.test/admin?do=/probe-"),
            ("own", "the address is local to this machine or its link"),
        ] {
            let found = wait_until(&format!("what is found of {name}"), || {
                problem(&format!("{name}.example.com"))
            })
            .map_err(|error| format!("{error}\n{}", daemon.output()))?;
            expect(found.starts_with(said), || format!("{name}: {found}"))?;
        }
        wait_until("the redirect to a load balancer", || {
            balancer.asked().iter().any(|it| it.contains("Host: balancer.test\r")).then_some(())
        })?;
        let asked: Vec<String> = victims.iter().flat_map(Frontend::asked).collect();
        expect(asked.is_empty(), || format!("{asked:?}\n{}", daemon.output()))
    })
}

fn stray_address() -> Outcome {
    in_network("stray", &[BALANCER, PUBLIC[0]], stray_address_there)
}

fn stray_address_there() -> Outcome {
    let (good, bad) = (BALANCER, PUBLIC[0]);
    let ground = Ground::new(good)?;
    let _good = Frontend::start(good, ground.door())?;
    let _bad = Frontend::start(bad, not_found())?;
    ground.site.deploy("/shop", DOMAIN);
    let hosts = format!("127.0.0.1 localhost\n{good} {DOMAIN}\n{bad} {DOMAIN}\n");
    let mut daemon = ground.daemon("", &hosts, &[])?;
    daemon.wait_for(ROUTE_BROKEN)?;
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
        "WARN  route    {ROUTE_BROKEN} name={DOMAIN} address={bad} \
         error=\"another server answers, status 404\" hint={:?}",
        Hint::AnotherServer.text()
    );
    let said = lines(&daemon, " route ");
    expect(said.len() == 1 && said[0].ends_with(&line), || daemon.output())?;
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
    let _bad =
        Frontend::start(bad, ListenerKind::Itself("HTTP/1.1 503 Service Unavailable".into()))?;
    ground.site.deploy("/shop", DOMAIN);
    let hosts = format!("127.0.0.1 localhost\n{good} {DOMAIN}\n");
    let both = format!("--lb=http://{},http://{}", ground.site.lb.address(), other.address());
    let mut daemon = ground.daemon("", &hosts, &[&both])?;
    daemon.wait_for(ROUTE_BROKEN)?;
    ground.site.wait_for_certificate(&daemon, DOMAIN)?;
    let line = format!(
        "WARN  route    {ROUTE_BROKEN} name={DOMAIN} lb={bad} error=\"nobody answers there, status 503\""
    );
    let said = lines(&daemon, " route ");
    expect(said.len() == 1 && said[0].contains(&line), || daemon.output())
}

fn next_try() -> Outcome {
    let address = Ipv4Addr::new(127, 80, 9, 5);
    let ground = Ground::new(address)?;
    let redirect = "HTTP/1.1 301 Moved Permanently\r\nLocation: https://www.example.com/";
    let front = Frontend::start(address, ListenerKind::Itself(redirect.into()))?;
    ground.ca.challenge_port.store(free_port()?, Ordering::SeqCst);
    ground.site.deploy("/shop", DOMAIN);
    let hosts = format!("127.0.0.1 localhost\n{address} {DOMAIN}\n");
    let mut daemon = ground.daemon("", &hosts, &[])?;
    daemon.wait_for(ROUTE_BROKEN)?;
    daemon.wait_until_failed(ground.site.port, DOMAIN)?;
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
