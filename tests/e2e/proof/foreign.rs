//! A file in `certs/` that is not ours and that HAProxy prefers to one of ours: named within seconds, no
//! reason to roll anything back, and not forgotten by a restart.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use marathon_acme::log::message::ROLLED_BACK;
use rcgen::{CertificateParams, KeyPair};

use super::{Balancer, Pair, freeze, within};
use crate::process::{Outcome, Signal, expect, get};
use crate::site::text;
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_foreign_file_is_named_within_seconds_and_nothing_is_rolled_back",
        &[Tool::Pebble, Tool::HaProxy],
        named,
    ),
    (
        "what_a_load_balancer_serves_is_seen_again_after_a_restart",
        &[Tool::Pebble, Tool::HaProxy],
        seen_again,
    ),
];

const NAME: &str = "a.example.com";
const SECONDS: Duration = Duration::from_secs(15);

/// A key and a certificate of another for that name.
fn foreign(name: &str) -> Outcome<String> {
    let key = KeyPair::generate().map_err(text)?;
    let params = CertificateParams::new(vec![name.into()]).map_err(text)?;
    Ok(key.serialize_pem() + &params.self_signed(&key).map_err(text)?.pem())
}

fn health(pair: &Pair) -> String {
    get(pair.real.site.port, "/health").unwrap_or_default()
}

/// Whether the reason why the load balancers serve another certificate is that file.
fn names(pair: &Pair, name: &str, file: &str) -> Outcome {
    let words = format!("certs/{file} is served in place of ours");
    let what = format!("both load balancers' problem is {file}");
    let status = || get(pair.real.site.port, "/status.json").unwrap_or_default();
    let told = || {
        let status = status();
        status.matches(&format!("serves another certificate for {name}")).count() >= 2
            && status.matches(&words).count() >= 3
    };
    within(SECONDS, &what, told)
        .map_err(|it| format!("{it}\n{}\n{}", status(), pair.daemon.output()))
}

fn named() -> Outcome {
    let pair = Pair::start(true)?;
    let site = &pair.real.site;
    let certs = site.storage.join("certs");
    for name in [NAME, "b.example.com"] {
        site.deploy(&format!("/{name}"), name);
        pair.both_serve(name)?;
    }
    pair.rests()?;
    let orders = pair.real.pebble.orders();
    // The backup of one of ours is an earlier one, as storage that is late shows it.
    let copy = fs::read(site.certificate("b.example.com")).map_err(text)?;
    let foreign = foreign(NAME)?.into_bytes();
    for (name, file, content) in [(NAME, "00.pem", foreign), ("b.example.com", "0.bak", copy)] {
        fs::write(certs.join(file), content).map_err(text)?;
        site.deploy(&format!("/{name}"), &format!("{name},also-{name}"));
        names(&pair, name, file)?;
        fs::remove_file(certs.join(file)).map_err(text)?;
        pair.both_serve(&format!("also-{name}"))?;
        pair.rests()?;
        within(SECONDS, "the state is ok again", || !health(&pair).contains("degraded"))?;
    }
    let output = pair.daemon.output();
    expect(!output.contains(ROLLED_BACK), || output.clone())?;
    expect(pair.real.pebble.orders() == orders + 2, || "it was ordered again".into())
}

/// Reloads it as an operator would, by its own port.
fn reload(balancer: &Balancer) -> Outcome {
    let mut stream = TcpStream::connect(balancer.control.address()).map_err(text)?;
    let request = "GET /_mlb_signal/usr1 HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    expect(answer.contains(" 200 "), || answer.clone())
}

fn seen_again() -> Outcome {
    let mut pair = Pair::start(true)?;
    pair.real.site.deploy("/a", NAME);
    pair.both_serve(NAME)?;
    pair.rests()?;
    pair.daemon.signal(Signal::TERM)?;
    pair.daemon.wait(Duration::from_secs(5))?;
    // While nobody looks, one of them is given another's file, which then is taken away.
    let frozen = freeze(&pair, &pair.real.site.certificate(NAME))?;
    fs::write(frozen.join("certs/00.pem"), foreign(NAME)?).map_err(text)?;
    reload(&pair.first)?;
    let trust = &pair.real.trust;
    let address = crate::process::local(pair.first.ports[1]);
    within(SECONDS, "another certificate is served", || {
        stand_ins::tls::shown(address, NAME, trust).is_err()
    })?;
    pair.first.sees(&pair.real.site.storage)?;
    let signals = pair.first.signals();
    pair.start_daemon(true)?;
    pair.both_serve(NAME)?;
    within(SECONDS, "it is signaled", || pair.first.signals() > signals)?;
    let output = pair.daemon.output();
    let found = "load balancer serves another certificate than it loaded";
    expect(output.contains(found), || output.clone())
}
