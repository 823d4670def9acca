//! What a load balancer publishes of the daemon: a real HAProxy in front, configured as marathon-lb does it
//! for our app. It has three kinds of front ends that lead to the same port: the shared one, by path and
//! host; one for the app's service port, without any rule; and one that chooses by app id.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use stand_ins::ca::Settings;
use stand_ins::driver::time_now;
use stand_ins::pki::Pki;

use crate::process::{Outcome, Process, expect, free_port, get, local, talk, talk_to, wait_until};
use crate::real::readme_label;
use crate::site::{Site, StandInCa, text, with_ca};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("a_target_that_haproxy_reads_otherwise_is_refused", &[Tool::HaProxy], differential),
    ("no_front_end_of_marathon_lb_publishes_a_report", &[Tool::HaProxy], published),
    (
        "a_check_warns_of_a_report_that_a_load_balancer_publishes",
        &[Tool::HaProxy, Tool::LowPorts],
        checked,
    ),
];

const APP_ID: &str = "/infra/marathon-acme";
const PING: &str = "/.well-known/acme-challenge/ping";
const REPORTS: [&str; 4] = ["/", "/?q=a&state=failing", "/status.json", "/metrics"];
/// What is in every report and in no refusal.
const REPORT_WORDS: [&str; 3] = ["marathon-acme</title>", "\"load_balancers\"", "marathon_acme_"];

/// HAProxy with marathon-lb's front ends for our app, and for a shop that is always there.
struct FrontEnds {
    _process: Process,
    configuration: String,
    http: SocketAddr,
    app_id: SocketAddr,
    service: SocketAddr,
}

impl FrontEnds {
    /// Starts it with these ports of an address; `options` are the back end's.
    fn start(
        site: &Site,
        address: Ipv4Addr,
        [http, app_id, service]: [u16; 3],
        options: &str,
    ) -> Outcome<FrontEnds> {
        let acl = readme_label("HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH")?;
        let path = readme_label("HAPROXY_0_PATH")?;
        let backend = format!("infra_marathon-acme_{service}");
        let rule = acl.replace("{backend}", &backend).replace("{path}", &path);
        let configuration = format!(
            "global\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n\
             \x20 timeout server 30s\n\
             frontend marathon_http_in\n  bind {address}:{http}\n  mode http\n{rule}\
             \x20 acl host_shop_example_com hdr(host) -i shop.example.com\n\
             \x20 use_backend shop_10000 if host_shop_example_com\n\
             frontend marathon_http_appid_in\n  bind {address}:{app_id}\n  mode http\n\
             \x20 acl app__infra_marathon_acme hdr(x-marathon-app-id) -i {APP_ID}\n\
             \x20 use_backend {backend} if app__infra_marathon_acme\n\
             frontend {backend}\n  bind {address}:{service}\n  mode http\n  use_backend {backend}\n\
             backend {backend}\n  balance roundrobin\n  mode http\n{options}\
             \x20 server agent1 127.0.0.1:{}\n\
             backend shop_10000\n  http-request return status 200 content-type text/plain string shop\n",
            site.port
        );
        let file = site.folder().join(format!("haproxy-{service}.cfg"));
        fs::write(&file, &configuration).map_err(text)?;
        let mut command = Command::new("haproxy");
        let name = format!("haproxy-{service}");
        let process = Process::start(site.folder(), &name, command.arg("-f").arg(file))?;
        let at = |port: u16| SocketAddr::from((address, port));
        let front_ends = FrontEnds {
            _process: process,
            configuration,
            http: at(http),
            app_id: at(app_id),
            service: at(service),
        };
        wait_until("haproxy listens", || TcpStream::connect(front_ends.service).ok())?;
        Ok(front_ends)
    }

    /// The same with ports that are free.
    fn on_free_ports(site: &Site, options: &str) -> Outcome<FrontEnds> {
        let ports = [free_port()?, free_port()?, free_port()?];
        FrontEnds::start(site, Ipv4Addr::LOCALHOST, ports, options)
    }
}

/// What marathon-lb writes into every back end of an app.
const HTTP_OPTIONS: &str = "  option forwardfor\n  http-request set-header X-Forwarded-Port %[dst_port]\n  \
                            http-request add-header X-Forwarded-Proto https if { ssl_fc }\n";
/// What an operator may have made of it.
const NO_OPTIONS: &str = "";

fn is_report(answer: &str) -> bool {
    REPORT_WORDS.iter().any(|words| answer.contains(words))
}

/// A request for a target, with more fields behind.
fn request(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: any.org\r\n{more}Connection: close\r\n\r\n")
}

fn differential() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    let _daemon = site.daemon("daemon", &arguments, &[])?;
    // The front end must not be saved by what the back end adds.
    for options in [HTTP_OPTIONS, NO_OPTIONS] {
        let front_ends = FrontEnds::on_free_ports(&site, options)?;
        let challenges = "/.well-known/acme-challenge/";
        for start in [
            "http://u?@any.org",
            "http://u?:p@any.org",
            "https://u?@any.org",
            "http://any.org?",
            "http://any.org#",
            "http://any.org?@any.org",
            "http://?@any.org",
            "http://u@any.org",
            "http://any.org:80?",
            "http://other.org",
        ] {
            let target = format!("{start}{challenges}");
            let old = format!("GET {target} HTTP/1.0\r\n\r\n");
            for request in [request(&target, ""), old] {
                let answer = talk_to(front_ends.http, request.as_bytes())?;
                expect(!is_report(&answer) && !answer.contains(" 200 "), || {
                    format!("{request} by way of HAProxy: {answer}")
                })?;
                let answer = talk(site.port, request.as_bytes())?;
                expect(answer.starts_with("HTTP/1.1 400 "), || format!("{request}: {answer}"))?;
            }
        }
        // What both read alike is answered.
        for target in [PING, &format!("http://any.org{PING}"), &format!("http://ANY.org:80{PING}")]
        {
            let answer = talk_to(front_ends.http, request(target, "").as_bytes())?;
            expect(answer.contains("pong"), || format!("{target}: {answer}"))?;
        }
        let answer = talk_to(front_ends.http, request("/", "").as_bytes())?;
        expect(answer.starts_with("HTTP/1.1 503 "), || {
            format!("the path rule is not there: {answer}")
        })?;
    }
    Ok(())
}

fn published() -> Outcome {
    let site = Site::new()?;
    // A CA that is not there: there are reasons to be told.
    let gone = format!("https://127.0.0.1:{}/dir", free_port()?);
    let roots = site.folder().join("roots.pem");
    let pki = Pki::new(3, "Stand-in", time_now());
    fs::write(&roots, pki.root_pem()).map_err(text)?;
    let daemon = site.daemon("daemon", &site.arguments(&gone, &roots), &[])?;
    let reasons = || get(site.port, "/health").ok().filter(|it| it.contains("reasons"));
    wait_until("there is a reason", reasons)?;
    let front_ends = FrontEnds::on_free_ports(&site, HTTP_OPTIONS)?;
    let by_id = format!("X-Marathon-App-Id: {APP_ID}\r\n");
    let ways = [(front_ends.service, ""), (front_ends.app_id, by_id.as_str())];
    for (address, fields) in ways {
        for path in REPORTS {
            let answer = talk_to(address, request(path, fields).as_bytes())?;
            let is_refused = answer.starts_with("HTTP/1.1 404 ") && !is_report(&answer);
            expect(is_refused, || format!("{path} at {address}: {answer}"))?;
        }
        let health = talk_to(address, request("/health", fields).as_bytes())?;
        let (_, body) = health.split_once("\r\n\r\n").ok_or("no head")?;
        expect(body == r#"{"status":"degraded"}"#, || format!("{address}: {health}"))?;
        let pong = talk_to(address, request(PING, fields).as_bytes())?;
        expect(pong.contains("pong"), || format!("{address}: {pong}"))?;
    }
    let pong = talk_to(front_ends.http, request(PING, "").as_bytes())?;
    expect(pong.contains("pong"), || pong)?;
    // Whoever comes straight to the port is answered.
    for path in REPORTS {
        let answer = get(site.port, path)?;
        expect(answer.contains(" 200 ") && is_report(&answer), || format!("{path}: {answer}"))?;
    }
    drop(daemon);

    // With a listener for the operator, proxies are welcome there, and nothing else is told here.
    let admin = free_port()?;
    let more = format!("--admin-listen={}", local(admin));
    let _daemon = site.daemon("operated", &site.arguments(&gone, &roots), &[&more])?;
    let reasons = || get(admin, "/health").ok().filter(|it| it.contains("reasons"));
    wait_until("there is a reason", reasons)?;
    for (address, fields) in ways.into_iter().chain([(local(site.port), "")]) {
        for path in REPORTS {
            let answer = talk_to(address, request(path, fields).as_bytes())?;
            expect(answer.starts_with("HTTP/1.1 404 "), || {
                format!("{path} at {address}: {answer}")
            })?;
        }
        let health = talk_to(address, request("/health", fields).as_bytes())?;
        expect(!health.contains("reasons"), || format!("{address}: {health}"))?;
    }
    let scraped = talk(admin, request("/metrics", "X-Forwarded-For: 10.0.0.1\r\n").as_bytes())?;
    expect(is_report(&scraped), || scraped)
}

fn checked() -> Outcome {
    let address = Ipv4Addr::new(127, 80, 2, 1);
    let site = Site::at(address)?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    let arguments = site.arguments(&ca.directory, &ca.root);
    let _daemon = site.daemon("daemon", &arguments, &[])?;
    let service = free_port()?;
    let check = |options: &str| -> Outcome<String> {
        let front_ends = FrontEnds::start(&site, address, [80, 9091, service], options)?;
        let configuration = front_ends.configuration.clone();
        site.lb.with(|lb, _| lb.settings.configuration = configuration);
        Ok(site.run("check", &arguments, &["--check"])?.1)
    };
    let said = check(HTTP_OPTIONS)?;
    let fine = "ok    exposed  no status page is answered by way of a load balancer\n";
    expect(said.contains(fine), || said.clone())?;
    let said = check(NO_OPTIONS)?;
    for way in [format!("port {service}"), format!("port 9091 with X-Marathon-App-Id: {APP_ID}")] {
        let line = format!("warn  exposed  the status page is answered on {way} at {address}; ");
        expect(said.contains(&line), || format!("{line:?} is not said:\n{said}"))?;
    }
    expect(said.contains("HAPROXY_0_GROUP") && !said.contains(fine), || said.clone())?;
    // The path rule leads to the challenges alone.
    expect(!said.contains("answered on port 80 "), || said.clone())
}
