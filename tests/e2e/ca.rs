//! A CA that is quick, slow, wrong, or no CA at all.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use marathon_acme::log::message::REGISTRATION_FAILED;
use serde_json::json;
use stand_ins::ca::{RetryAfter, Settings};
use stand_ins::driver::time_now;
use stand_ins::http::{Reply, Request};
use stand_ins::pki::{Pki, pem};

use crate::Test;
use crate::fixed::Fixed;
use crate::process::{Outcome, expect, get};
use crate::site::{Site, StandInCa, play, text, tls_options};

pub(crate) const TESTS: &[Test] = &[
    ("a_warm_certificate_takes_six_requests_when_the_ca_is_quick", &[], six_requests),
    ("a_ca_that_takes_its_time_is_waited_for", &[], slow),
    ("side_by_side_and_each_for_itself", &[], many),
    ("a_directory_of_html_is_said_and_asked_for_again", &[], html),
    ("a_chain_that_does_not_match_the_key_is_not_stored", &[], foreign_chain),
    ("a_ca_whose_tls_is_not_trusted_is_told_nothing", &[], untrusted),
];

fn six_requests() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    site.deploy("/a", "a.example.com");
    let daemon = site.daemon("daemon", &site.arguments(&ca.directory, &ca.root), &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let first = ca.requests();
    let beginning = ["GET /directory", "HEAD /new-nonce", "POST /new-account", "POST /new-order"];
    expect(first.starts_with(&beginning.map(String::from)), || first.join("\n"))?;
    site.deploy("/b", "b.example.com");
    site.wait_for_certificate(&daemon, "b.example.com")?;
    let second = ca.requests().split_off(first.len());
    println!("{} requests for a certificate", second.len());
    let expected = [
        "POST /new-order",
        "POST /authz/1",
        "POST /challenge/1/http-01",
        "POST /order/1",
        "POST /order/1/finalize",
        "POST /cert/1",
    ];
    expect(second == expected, || second.join("\n"))
}

fn slow() -> Outcome {
    for retry_after in [RetryAfter::Seconds(1), RetryAfter::Date(1)] {
        let site = Site::new()?;
        let settings = Settings {
            delay_ms: 20,
            validation_delay_ms: 500,
            challenge_processing: true,
            processing_polls: 2,
            finalize_location: false,
            vantage_points: 3,
            retry_after,
            ..Settings::default()
        };
        let ca = StandInCa::start(site.folder(), site.port, settings)?;
        site.deploy("/a", "a.example.com");
        let daemon = site.daemon("daemon", &site.arguments(&ca.directory, &ca.root), &[])?;
        site.wait_for_certificate(&daemon, "a.example.com")?;
        let looks = ca.requests().iter().filter(|line| *line == "POST /order/0").count();
        expect((2..=5).contains(&looks), || format!("{looks} looks at the order"))?;
    }
    Ok(())
}

fn many() -> Outcome {
    let site = Site::new()?;
    let rejected_names = ["n7.example.com".to_string()].into();
    let settings = Settings { delay_ms: 10, rejected_names, ..Settings::default() };
    let ca = StandInCa::start(site.folder(), site.port, settings)?;
    for number in 0..30 {
        site.deploy(&format!("/n{number}"), &format!("n{number}.example.com"));
    }
    let mut daemon = site.daemon("daemon", &site.arguments(&ca.directory, &ca.root), &[])?;
    for number in (0..30).filter(|number| *number != 7) {
        site.wait_for_certificate(&daemon, &format!("n{number}.example.com"))?;
    }
    daemon.wait_until_failed(site.port, "n7.example.com")?;
    daemon.wait_until_reloaded(site.port, 1)?;
    // Ten side by side come in waves, and writes within two seconds of each other are one reload.
    let reloads = site.lb.with(|lb, _| lb.reloads().len());
    expect(reloads <= 3, || format!("{reloads} reloads for 29 certificates"))?;
    let health = get(site.port, "/health")?;
    let said = health.contains(" 200 ") && health.contains("degraded") && health.contains("orders");
    expect(said, || health)
}

fn html() -> Outcome {
    let site = Site::new()?;
    let (options, root) = tls_options(site.folder(), "portal")?;
    let page = |_: &Request| Reply::new(200, "text/html", "<html><h1>Welcome to the proxy</h1>");
    let portal = play(Fixed::new(page), options)?;
    let directory = format!("https://{}/directory", portal.address());
    site.deploy("/a", "a.example.com");
    let arguments = site.arguments(&directory, &root);
    let mut daemon = site.daemon("daemon", &arguments, &["--log-level=debug"])?;
    daemon.wait_for(REGISTRATION_FAILED)?;
    let line = daemon.line(REGISTRATION_FAILED);
    expect(
        line.contains("<html><h1>Welcome to the proxy</h1>") && line.contains(&directory),
        || line,
    )?;
    let health = get(site.port, "/health")?;
    expect(health.contains("degraded") && health.contains("ca:"), || health)?;
    daemon.wait_for_count(REGISTRATION_FAILED, 2)
}

/// A CA of fixed words: every order is ready at once, and its certificate is another's.
fn wrong_ca(base: Arc<OnceLock<String>>, asked: Arc<AtomicBool>) -> Outcome<Fixed> {
    let mut pki = Pki::new(3, "Wrong", time_now());
    let identity = pki.identity(&["a.example.com"], time_now()).map_err(text)?;
    let chain: String = identity.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    let rule = move |request: &Request| {
        let base = base.get().map(String::as_str).unwrap_or_default();
        let url = |path: &str| format!("{base}{path}");
        let order = |status: &str| {
            json!({"status": status, "authorizations": [url("/authz")], "finalize": url("/finalize"),
                "certificate": url("/cert")})
        };
        let (body, location) = match request.path() {
            "/directory" => {
                let directory = json!({"newNonce": url("/nonce"), "newAccount": url("/account"),
                    "newOrder": url("/order")});
                (directory.to_string(), "")
            }
            "/account" => ("{}".into(), "/account/1"),
            "/order" => (order("ready").to_string(), "/order/1"),
            "/finalize" => (order("valid").to_string(), ""),
            "/cert" => {
                asked.store(true, Ordering::SeqCst);
                (chain.clone(), "")
            }
            _ => (String::new(), ""),
        };
        let reply = Reply::new(200, "application/json", body).with("Replay-Nonce", "nonce");
        if location.is_empty() { reply } else { reply.with("Location", url(location)) }
    };
    Ok(Fixed::new(rule))
}

fn foreign_chain() -> Outcome {
    let site = Site::new()?;
    let (options, root) = tls_options(site.folder(), "wrong")?;
    let (base, asked) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
    let ca = play(wrong_ca(Arc::clone(&base), Arc::clone(&asked))?, options)?;
    let _ = base.set(format!("https://{}", ca.address()));
    let directory = format!("https://{}/directory", ca.address());
    site.deploy("/a", "a.example.com");
    let mut daemon = site.daemon("daemon", &site.arguments(&directory, &root), &[])?;
    daemon.wait_until_failed(site.port, "a.example.com")?;
    expect(asked.load(Ordering::SeqCst), || "the certificate was not asked for".into())?;
    let stored = fs::read_dir(site.storage.join("certs")).map_err(text)?.count();
    expect(stored == 0, || format!("{stored} files in certs/"))
}

fn untrusted() -> Outcome {
    let site = Site::new()?;
    let (options, _) = tls_options(site.folder(), "real")?;
    let (_, other_root) = tls_options(site.folder(), "other")?;
    let asked = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&asked);
    let rule = move |_: &Request| {
        heard.store(true, Ordering::SeqCst);
        Reply::empty(200)
    };
    let ca = play(Fixed::new(rule), options)?;
    let directory = format!("https://{}/directory", ca.address());
    let mut daemon = site.daemon("daemon", &site.arguments(&directory, &other_root), &[])?;
    daemon.wait_until_ca_fails(site.port)?;
    expect(!asked.load(Ordering::SeqCst), || "it was asked all the same".into())
}
