//! The main job on real peers: a label at Marathon, a certificate of Pebble's, served by HAProxy.

use std::fs;
use std::path::Path;
use std::time::Duration;

use marathon_acme::log::message::ACCOUNT_FORGOTTEN;
use serde_json::json;
use stand_ins::tls::{Shown, shown};

use crate::process::{Outcome, Signal, expect, wait_until};
use crate::real::{Environment, Pebble};
use crate::real_site::RealSite;
use crate::site::{Site, check_file, text};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("a_label_becomes_a_certificate_that_haproxy_serves", &[Tool::Pebble, Tool::HaProxy], whole),
    ("half_of_all_nonces_are_refused", &[Tool::Pebble], bad_nonces),
    ("valid_authorizations_are_reused", &[Tool::Pebble], || reuse("100", 1)),
    ("authorizations_are_never_reused", &[Tool::Pebble], || reuse("0", 2)),
    ("the_old_programs_rsa_key_goes_on_working", &[Tool::Pebble], rsa_key),
    ("the_ca_forgets_everything", &[Tool::Pebble], forgotten),
];

/// Requests for a certificate on a warm account: what is not a look at the order.
const REQUESTS_BESIDE_LOOKS: usize = 5;

fn whole() -> Outcome {
    let (RealSite { site, pebble, haproxy, arguments, trust }, mut daemon) =
        RealSite::start(&[], &json!({}), &[])?;
    let served = |domain: &str| -> Outcome<Shown> {
        let address = crate::process::local(haproxy.https_port);
        wait_until(&format!("HAProxy serves {domain}"), || shown(address, domain, &trust).ok())
            .map(|(shown, _)| shown)
            .map_err(|error| format!("{error}\n{}", daemon.output()))
    };
    site.deploy("/shop", "shop.example.com");
    let leaf = served("shop.example.com")?;
    expect(leaf.names == ["shop.example.com"], || format!("{:?}", leaf.names))?;
    expect(leaf.issuer.contains("Pebble"), || leaf.issuer.clone())?;
    check_file(&site.certificate("shop.example.com"), 0o600)?;

    // An app that comes later, by a list, on a warm account.
    let before = pebble.requests().len();
    let list = vec![crate::site::app("/blog", "blog.example.com")];
    site.marathon.with(|marathon, now| marathon.put_apps(now, list));
    served("blog.example.com")?;
    let requests = pebble.requests().split_off(before);
    let looks = requests.iter().filter(|line| line.starts_with("POST /my-order/")).count();
    println!("{} requests for a certificate, {looks} of them looks at the order", requests.len());
    expect(looks > 0 && requests.len() - looks <= REQUESTS_BESIDE_LOOKS, || requests.join("\n"))?;
    served("shop.example.com")?;

    // A restart orders nothing, and goes on.
    expect(pebble.orders() == 2, || pebble.requests().join("\n"))?;
    daemon.signal(Signal::TERM)?;
    let status = daemon.wait(Duration::from_secs(2))?;
    expect(status.success(), || status.to_string())?;
    let mut again = site.daemon("daemon-again", &arguments, &[])?;
    again.wait_until_attached(site.port)?;
    site.deploy("/third", "third.example.com");
    site.wait_for_certificate(&again, "third.example.com")?;
    expect(pebble.orders() == 3, || pebble.requests().join("\n"))
}

/// Pebble and the daemon with nothing between them, and an app that wants `a.example.com`.
fn direct(site: &Site, environment: Environment<'_>) -> Outcome<(Pebble, Vec<String>)> {
    let pebble = Pebble::start(site.folder(), site.port, environment)?;
    let arguments = site.arguments(&pebble.directory(), &pebble.root_file);
    site.deploy("/a", "a.example.com");
    Ok((pebble, arguments))
}

fn bad_nonces() -> Outcome {
    let site = Site::new()?;
    let (pebble, arguments) = direct(&site, &[("PEBBLE_WFE_NONCEREJECT", "50")])?;
    for number in 0..5 {
        site.deploy(&format!("/n{number}"), &format!("n{number}.example.com"));
    }
    let daemon = site.daemon("daemon", &arguments, &[])?;
    for domain in ["a", "n0", "n1", "n2", "n3", "n4"] {
        site.wait_for_certificate(&daemon, &format!("{domain}.example.com"))?;
    }
    // The six orders alone; with refusals there are about twice as many.
    let posts = pebble.requests().iter().filter(|line| line.starts_with("POST")).count();
    expect(posts > 6 * 6, || format!("only {posts} requests, nothing was refused"))
}

fn reuse(percent: &str, challenges: usize) -> Outcome {
    let site = Site::new()?;
    let (pebble, arguments) = direct(&site, &[("PEBBLE_AUTHZREUSE", percent)])?;
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(Duration::from_secs(2))?;
    fs::remove_file(site.certificate("a.example.com")).map_err(text)?;
    let again = site.daemon("daemon-again", &arguments, &[])?;
    site.wait_for_certificate(&again, "a.example.com")?;
    let requests = pebble.requests();
    let answered = requests.iter().filter(|line| line.starts_with("POST /chalZ/")).count();
    expect(answered == challenges, || format!("{answered} challenges\n{}", requests.join("\n")))
}

fn rsa_key() -> Outcome {
    let site = Site::new()?;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/client-pkcs1.key");
    let key = site.storage.join("client.key");
    fs::copy(&fixture, &key).map_err(text)?;
    let (_pebble, arguments) = direct(&site, &[])?;
    let daemon = site.daemon("daemon", &arguments, &["--cert-mode", "0640"])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    check_file(&site.certificate("a.example.com"), 0o640)?;
    let same = fs::read(fixture).map_err(text)? == fs::read(key).map_err(text)?;
    expect(same, || "client.key was changed".into())
}

fn forgotten() -> Outcome {
    let site = Site::new()?;
    let (mut pebble, arguments) = direct(&site, &[])?;
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    pebble.restart()?;
    site.deploy("/b", "b.example.com");
    site.wait_for_certificate(&daemon, "b.example.com")?;
    daemon.wait_for(ACCOUNT_FORGOTTEN)
}
