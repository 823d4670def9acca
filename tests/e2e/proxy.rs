//! The daemon where the way out is a proxy: who is gone to by it and who is not, what it is told, and
//! what is said when it refuses. The peers have names that only the proxy knows.

mod server;
pub(crate) use server::splice;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marathon_acme::log::message::{NO_STREAM, REGISTRATION_FAILED};
use stand_ins::ca::Settings;

use crate::names::daemon_with_files;
use crate::process::{Outcome, Process, expect, free_port, wait_until};
use crate::real::Pebble;
use crate::site::{Site, text, with_ca};
use crate::stand::stop;
use crate::{Test, Tool};
use server::{Manner, Proxy};

pub(crate) const TESTS: &[Test] = &[
    ("the_ca_and_marathon_are_reached_by_a_proxy", &[Tool::Pebble], everything),
    ("a_proxy_that_wants_a_password_gets_it_alone", &[Tool::Pebble], password),
    ("the_name_behind_a_proxys_tunnel_is_checked", &[Tool::Pebble], other_name),
    ("a_proxy_that_refuses_is_named_and_tried_again", &[Tool::Pebble], refusals),
    ("load_balancers_and_exceptions_never_see_the_proxy", PRIVATE_NAMES, straight),
    ("this_machine_is_never_gone_to_by_a_proxy", &[], this_machine),
    ("proxies_and_bundles_that_cannot_be_used_are_one_line_and_status_2", &[], unusable),
];

/// With names of the test's own.
const PRIVATE_NAMES: &[Tool] = &[Tool::Pebble, Tool::Namespaces];
/// How it stands in the URL, and what it is.
const PASSWORD: (&str, &str) = ("tun%3Anel%2Fpass", "tun:nel/pass");

/// A site whose CA is Pebble and whose peers have names that lead nowhere but through the proxy.
struct Behind {
    proxy: Proxy,
    pebble: Pebble,
    arguments: Vec<String>,
    /// The last to go: the others have files in its folder.
    site: Site,
}

impl Behind {
    fn new() -> Outcome<Behind> {
        let site = Site::new()?;
        let proxy = Proxy::start()?;
        let pebble = Pebble::start(site.folder(), site.port, &[])?;
        let mut arguments = site.arguments(&pebble.directory_at("ca.test"), &pebble.root_file);
        let marathon = site.marathon.address().port();
        arguments.push(format!("--marathon=http://user:marathons@marathon.test:{marathon}"));
        site.marathon.with(|marathon, _| {
            marathon.settings.basic_auth = Some(("user".into(), "marathons".into()));
        });
        Ok(Behind { proxy, pebble, arguments, site })
    }

    /// Starts the daemon with one proxy for both.
    fn start(&self, name: &str, proxy: &str, more: &[&str]) -> Outcome<Process> {
        let variables = [("HTTPS_PROXY", proxy), ("HTTP_PROXY", proxy)];
        self.site.daemon_in(name, &variables, &self.arguments, more)
    }

    /// That all went by the proxy, to whom it should.
    fn check_passed(&self) -> Outcome {
        let connect = format!("CONNECT ca.test:{} HTTP/1.1", self.pebble.port);
        let port = self.site.marathon.address().port();
        let get = |path: &str| format!("GET http://marathon.test:{port}{path}");
        let (apps, events) = (get("/v2/apps"), get("/v2/events"));
        let passed = self.proxy.with(|books| books.passed.clone());
        let one = |line: &String| {
            *line == connect || [&apps, &events].iter().any(|it| line.starts_with(*it))
        };
        expect(passed.iter().all(one), || passed.join("\n"))?;
        for begin in [&connect, &apps, &events] {
            expect(passed.iter().any(|line| line.starts_with(begin)), || passed.join("\n"))?;
        }
        let (inside, answered) = self.proxy.with(|books| (books.inside.len(), books.answered));
        println!("{} through the proxy, {inside} bytes out, {answered} back", passed.len());
        let tunnels = passed.iter().filter(|line| **line == connect).count();
        let requests = self.pebble.requests().len();
        expect(inside > 1000 && answered > 1000, || "nothing in the tunnels".into())?;
        expect(tunnels < requests, || format!("{tunnels} tunnels for {requests} requests"))
    }
}

fn everything() -> Outcome {
    let behind = Behind::new()?;
    // Its name is resolved as usual, and perhaps to an address at which it is not as well.
    let url = format!("localhost:{}", behind.proxy.port);
    let mut daemon = behind.start("daemon", &url, &[])?;
    daemon.wait_until_attached(behind.site.port)?;
    behind.site.deploy("/a", "a.example.com");
    behind.site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.wait_until_reloaded(behind.site.port, 1)?;
    let said = format!("peer=https://ca.test:{} proxy=http://{url}", behind.pebble.port);
    expect(daemon.output().contains(&said), || daemon.output())?;
    behind.check_passed()?;
    stop(&mut daemon)
}

fn password() -> Outcome {
    let behind = Behind::new()?;
    let field = format!("Basic {}", STANDARD.encode(format!("me:{}", PASSWORD.1)));
    behind.proxy.with(|books| books.wanted = Some(field.clone()));
    let at = format!("127.0.0.1:{}", behind.proxy.port);
    let mut wrong =
        behind.start("wrong", &format!("http://me:wrong@{at}"), &["--log-level=debug"])?;
    let mut outputs = Vec::new();
    for line in [REGISTRATION_FAILED, NO_STREAM] {
        wrong.wait_for(line)?;
        let said = wrong.line(line);
        let why =
            format!("proxy http://{at} ({at}): status 407: user and password in the proxy's URL");
        expect(said.contains(&why), || said.clone())?;
    }
    stop(&mut wrong)?;
    outputs.push(wrong.output());
    expect(behind.pebble.requests().is_empty(), || behind.pebble.requests().join("\n"))?;
    let passed = behind.proxy.with(|books| books.passed.clone());
    expect(passed.is_empty(), || passed.join("\n"))?;

    let url = format!("http://me:{}@{at}/", PASSWORD.0);
    let mut daemon = behind.start("daemon", &url, &["--log-level=debug"])?;
    behind.site.deploy("/a", "a.example.com");
    behind.site.wait_for_certificate(&daemon, "a.example.com")?;
    behind.check_passed()?;
    stop(&mut daemon)?;
    outputs.push(daemon.output());
    // Nor does it reach whoever is behind the proxy, or the disk.
    outputs.push(behind.pebble.log());
    outputs.push(behind.site.marathon.with(|it, _| format!("{:?}", it.seen())));
    outputs.push(std::fs::read_to_string(behind.site.storage.join("state.json")).map_err(text)?);
    let inside = behind.proxy.with(|books| String::from_utf8_lossy(&books.inside).into_owned());
    outputs.push(inside);
    let encoded = field.trim_start_matches("Basic ");
    for secret in [PASSWORD.0, PASSWORD.1, encoded, "me:wrong", "Proxy-Authorization"] {
        let found = outputs.iter().find(|output| output.contains(secret));
        expect(found.is_none(), || {
            format!("{secret} is in {}", found.cloned().unwrap_or_default())
        })?;
    }
    Ok(())
}

fn other_name() -> Outcome {
    let behind = Behind::new()?;
    let directory = format!("--acme={}", behind.pebble.directory_at("other.test"));
    let url = format!("http://127.0.0.1:{}", behind.proxy.port);
    let mut daemon = behind.start("daemon", &url, &[&directory])?;
    daemon.wait_for(REGISTRATION_FAILED)?;
    let said = daemon.line(REGISTRATION_FAILED);
    let why = format!("by proxy {url}: cannot connect: ");
    let fits =
        said.contains(&why) && said.contains("certificate not valid for name \\\"other.test\\\"");
    expect(fits, || said.clone())?;
    expect(behind.pebble.requests().is_empty(), || behind.pebble.requests().join("\n"))?;
    stop(&mut daemon)
}

fn refusals() -> Outcome {
    let behind = Behind::new()?;
    let at = format!("127.0.0.1:{}", behind.proxy.port);
    let cases = [
        (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!",
            "status 502: it does not reach",
        ),
        ("", "cannot connect: "),
        ("HTTP/1.1 200 Conn", "cannot connect: "),
        ("220 mail.example ESMTP\r\n", "not HTTP/1.0 or HTTP/1.1"),
        ("HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "bytes behind the answer to CONNECT"),
    ];
    let mut daemon = None;
    for (index, (answer, words)) in cases.into_iter().enumerate() {
        behind.proxy.with(|books| books.manner = Manner::Says(answer));
        let mut one = behind.start(&format!("daemon-{index}"), &at, &[])?;
        one.wait_for(REGISTRATION_FAILED)?;
        let said = one.line(REGISTRATION_FAILED);
        let fits = said.contains(&format!(": proxy http://{at}")) && said.contains(words);
        expect(fits, || said.clone())?;
        let last = daemon.insert(one);
        if index + 1 < cases.len() {
            stop(last)?;
        }
    }
    // The last one is still there when the proxy comes to its senses, as one that speaks HTTP/1.0.
    behind.proxy.with(|books| books.manner = Manner::SaysBefore("HTTP/1.0 200 OK\r\n\r\n"));
    let daemon = daemon.ok_or("no daemon")?;
    behind.site.deploy("/a", "a.example.com");
    behind.site.wait_for_certificate(&daemon, "a.example.com")
}

fn straight() -> Outcome {
    let mut behind = Behind::new()?;
    let lb = behind.site.lb.address().port();
    behind.arguments.push(format!("--lb=http://lb.test:{lb}"));
    let url = format!("http://proxy.test:{}", behind.proxy.port);
    let variables = [
        ("https_proxy", url.as_str()),
        ("http_proxy", &url),
        ("no_proxy", "10.0.0.0/8,.MARATHON.test"),
    ];
    let hosts = "127.0.0.1 localhost\n127.0.0.1 lb.test marathon.test proxy.test\n";
    let mut daemon = daemon_with_files(&behind.site, "", hosts, &variables, &behind.arguments)?;
    behind.site.deploy("/a", "a.example.com");
    behind.site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.wait_until_reloaded(behind.site.port, 1)?;
    let passed = behind.proxy.with(|books| books.passed.clone());
    let others = passed.iter().filter(|line| !line.starts_with("CONNECT ca.test:")).count();
    expect(!passed.is_empty() && others == 0, || passed.join("\n"))?;
    stop(&mut daemon)
}

fn this_machine() -> Outcome {
    let (site, _ca, mut arguments) = with_ca(Settings::default())?;
    let marathon = site.marathon.address().port();
    arguments.push(format!("--marathon=http://localhost:{marathon}"));
    let proxy = Proxy::start()?;
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let variables = [("HTTPS_PROXY", url.as_str()), ("HTTP_PROXY", &url)];
    let mut daemon = site.daemon_in("daemon", &variables, &arguments, &[])?;
    site.deploy("/a", "a.example.com");
    site.wait_for_certificate(&daemon, "a.example.com")?;
    wait_until("a reload", || site.lb.with(|lb, _| (!lb.reloads().is_empty()).then_some(())))?;
    let seen = proxy.with(|books| [books.passed.clone(), books.refused.clone()].concat());
    expect(seen.is_empty(), || seen.join("\n"))?;
    stop(&mut daemon)
}

fn unusable() -> Outcome {
    let site = Site::new()?;
    let empty = site.folder().join("empty.pem");
    std::fs::write(&empty, "").map_err(text)?;
    let empty = empty.display().to_string();
    let cases: [(&str, &str, &str); 8] = [
        ("HTTPS_PROXY", "https://me:hidden@proxy:3128", "HTTPS_PROXY: a proxy behind TLS"),
        ("https_proxy", "socks5://me:hidden@proxy:1080", "https_proxy: a SOCKS proxy"),
        ("HTTP_PROXY", "http://me:hidden@proxy:x", "HTTP_PROXY: its port is not a number"),
        ("http_proxy", "http://me:hid/den@proxy:1", "http_proxy: it has a path, or a password"),
        ("NO_PROXY", "10.0.0.0/8,10.0.0.0/99", "NO_PROXY: \"10.0.0.0/99\" is no name"),
        ("SSL_CERT_FILE", "/no/such.pem", "SSL_CERT_FILE /no/such.pem: No such file"),
        ("SSL_CERT_FILE", &empty, "it holds no certificate in PEM"),
        ("SSL_CERT_FILE", "/", "SSL_CERT_FILE /: Is a directory"),
    ];
    for (variable, value, words) in cases {
        let listen = format!("--listen=127.0.0.1:{}", free_port()?);
        let mut command = Site::command();
        command.env(variable, value).arg(listen).arg(&site.storage);
        let output = command.output().map_err(text)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let fits = output.status.code() == Some(2)
            && output.stdout.is_empty()
            && said.lines().count() == 1
            && said.contains(words)
            && !said.contains("hid");
        expect(fits, || format!("{variable}={value}: {:?}\n{said}", output.status))?;
    }
    Ok(())
}
