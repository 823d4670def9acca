//! Apps of different owners on one Marathon: how many domains each may have, who gets a domain that several
//! ask for, and names and files with which one app could harm the others.

use std::fs;

use serde_json::{Value, json};
use stand_ins::ca::Settings;

use crate::Test;
use crate::process::{Outcome, Process, expect, get, wait_until};
use crate::site::{Site, app, text};
use crate::stand::{Stand, stop};
use crate::state::{certificate, rejected, status};

pub(crate) const TESTS: &[Test] = &[
    ("domains_beyond_the_limit_of_an_app_are_skipped", &[], app_limit),
    ("domains_beyond_the_limit_of_all_apps_are_skipped", &[], total_limit),
    ("no_app_gets_into_the_certificate_of_another", &[], takeover),
    ("an_app_takes_a_certificate_over_from_one_that_is_gone", &[], blue_green),
    ("a_name_that_cannot_be_stored_is_never_ordered", &[], long_name),
    ("a_file_that_cannot_be_written_is_its_certificates_error_alone", &[], one_file),
];

fn app_limit() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let list = "a.example.com,b.example.com,c.example.com,d.example.com,e.example.com";
    stand.site.deploy("/many", list);
    let words = ["--allow-multiple-certs", "--max-domains-per-app=3"];
    let mut daemon = stand.start("daemon", &words)?;
    stand.wait_for_issued(&daemon, 3)?;
    daemon.wait_until_rejected(stand.site.port, "/many")?;
    stand.let_time_pass(&daemon, "later")?;
    expect(stand.issued() == 4, || format!("{} certificates", stand.issued()))?;
    let skipped = json!({"app_limit": 2, "total_limit": 0, "other_app": 0});
    let is_skipped = |it: &Value| it["skipped_domains"] == skipped;
    let status = daemon.wait_until_status(stand.site.port, "two are skipped", is_skipped)?;
    let reasons = rejected(&status);
    expect(reasons.len() == 1 && reasons[0].contains("\"/many\""), || reasons.join("\n"))?;
    // It is logged once, in the same words.
    let reason = status["rejected"][0]["reason"].as_str().unwrap_or_default();
    expect(daemon.output().matches(reason).count() == 1, || daemon.output())?;
    let metrics = get(stand.site.port, "/metrics")?;
    let sample = "\nmarathon_acme_skipped_domains{reason=\"app_limit\"} 2\n";
    expect(metrics.contains(sample), || metrics.clone())?;
    let page = get(stand.site.port, "/")?;
    expect(page.contains("2 domains skipped"), || page.clone())
}

/// An app with so many domains.
fn large(id: &str, count: usize) -> Value {
    let names = (0..count).map(|number| format!("n{number}.{}.example.com", &id[1..]));
    app(id, &names.collect::<Vec<_>>().join(","))
}

fn total_limit() -> Outcome {
    let site = Site::new()?;
    // Nobody is there who could issue anything: this is about what is asked for.
    let arguments = site.arguments("https://127.0.0.1:9/dir", &site.folder().join("no-root"));
    let arguments: Vec<String> =
        arguments.into_iter().filter(|it| !it.starts_with("--acme-ca")).collect();
    let apps = (0..21).map(|number| large(&format!("/app{number:02}"), 1000)).collect();
    site.marathon.with(|marathon, now| marathon.put_apps(now, apps));
    let mut daemon = site.daemon("daemon", &arguments, &["--allow-multiple-certs"])?;
    let has = |status: &Value, skipped: u64| {
        let certificates = status["certificates"].as_array().map_or(0, Vec::len);
        certificates == 20_000 && status["skipped_domains"]["total_limit"] == skipped
    };
    daemon.wait_until_status(site.port, "all have theirs", |status| has(status, 1000))?;
    let pong = get(site.port, "/.well-known/acme-challenge/ping")?;
    expect(pong.contains("pong"), || pong.clone())?;
    daemon.wait_until_status(site.port, "/app20 is named", |status| {
        rejected(status).join("\n").contains("/app20 MARATHON_ACME_0_DOMAIN (1000)")
    })?;
    // A newcomer takes nobody's place, wherever its id stands, and in another run neither.
    site.marathon.with(|marathon, now| marathon.put_app(now, large("/aaa", 10)));
    let newcomer_has_none = |status: &Value| {
        let reasons = rejected(status).join("\n");
        has(status, 1010) && reasons.contains("/aaa MARATHON_ACME_0_DOMAIN (10)")
    };
    daemon.wait_until_status(site.port, "the newcomer has none", newcomer_has_none)?;
    let remembers = || {
        let state = fs::read_to_string(site.storage.join("state.json")).ok()?;
        state.contains("n999.app19.example.com").then_some(())
    };
    stop(&mut daemon)?;
    wait_until("state.json has them all", remembers)?;
    let mut again = site.daemon("again", &arguments, &["--allow-multiple-certs"])?;
    again.wait_until_status(site.port, "the newcomer has none", newcomer_has_none).map(drop)
}

fn takeover() -> Outcome {
    const VICTIMS: [&str; 2] = ["www.victim.example.com", "pay.victim.example.com"];
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/victim", &VICTIMS.join(","));
    let mut daemon = stand.start("daemon", &["--san"])?;
    let before = stand.wait_for_names(&daemon, &VICTIMS)?;
    let list = "www.victim.example.com,pay.victim.example.com,www.evil.example.com";
    stand.site.deploy("/aaa-evil", list);
    stand.wait_for_names(&daemon, &["www.evil.example.com"])?;
    let names_victim = |status: &Value| {
        let reasons = rejected(status).join("\n");
        ["/aaa-evil", "/victim", VICTIMS[0], VICTIMS[1]].iter().all(|it| reasons.contains(it))
    };
    daemon.wait_until_status(stand.site.port, "the owner is named", names_victim)?;
    let warns = |line: &str| line.contains("WARN") && line.contains("app=/aaa-evil");
    expect(daemon.output().lines().any(warns), || daemon.output())?;
    let unchanged = |daemon: &Process, issued: usize| -> Outcome {
        expect(stand.issued() == issued, || {
            format!("{} certificates\n{}", stand.issued(), daemon.output())
        })?;
        let same = stand.file(VICTIMS[0])?.chain == before.chain;
        expect(same, || format!("the victim's certificate is another\n{}", daemon.output()))
    };
    unchanged(&daemon, 2)?;
    // Labels that come and go.
    stand.site.deploy("/aaa-evil", "pay.victim.example.com");
    stand.site.deploy("/aaa-evil", list);
    stand.let_time_pass(&daemon, "later")?;
    unchanged(&daemon, 3)?;
    // Another run knows whose they are.
    stop(&mut daemon)?;
    let mut again = stand.start("again", &["--san"])?;
    again.wait_until_status(stand.site.port, "the owner is named", names_victim)?;
    stand.let_time_pass(&again, "last")?;
    unchanged(&again, 4)?;
    let two = |it: &Value| it["skipped_domains"]["other_app"] == 2;
    let status = again.wait_until_status(stand.site.port, "two are skipped", two)?;
    let app = &certificate(&status, VICTIMS[0])["app"];
    expect(*app == "/victim", || status.to_string())
}

fn blue_green() -> Outcome {
    const NAMES: [&str; 2] = ["a.example.com", "b.example.com"];
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/green", &NAMES.join(","));
    let mut daemon = stand.start("daemon", &["--san"])?;
    stand.wait_for_names(&daemon, &NAMES)?;
    stand.site.deploy("/blue", &NAMES.join(","));
    let other = |count| move |it: &Value| it["skipped_domains"]["other_app"] == count;
    let status = daemon.wait_until_status(stand.site.port, "two are skipped", other(2))?;
    expect(certificate(&status, NAMES[0])["app"] == "/green", || status.to_string())?;
    stand.site.marathon.with(|marathon, now| marathon.delete_app(now, "/green"));
    let status = daemon.wait_until_status(stand.site.port, "none is skipped", other(0))?;
    expect(certificate(&status, NAMES[0])["app"] == "/blue", || status.to_string())?;
    stand.let_time_pass(&daemon, "later")?;
    expect(stand.issued() == 2, || daemon.output())
}

fn long_name() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let tail = format!(".{0}.{0}.{0}.example.com", "b".repeat(60));
    let of_length = |length: usize| format!("{}{tail}", "a".repeat(length - tail.len()));
    let (long, longest) = (of_length(252), of_length(246));
    stand.site.deploy("/long", &long);
    stand.site.deploy("/longest", &longest);
    let daemon = stand.start("daemon", &[])?;
    stand.site.wait_for_certificate(&daemon, &longest)?;
    stand.let_time_pass(&daemon, "later")?;
    let orders = stand.count("POST", "/new-order", 201);
    expect(orders == 2, || format!("{orders} orders\n{}", daemon.output()))?;
    let health = get(stand.site.port, "/health")?;
    expect(health.contains(" 200 ") && health.contains("\"ok\""), || health.clone())?;
    let status = status(stand.site.port).ok_or("no /status.json")?;
    let reasons = rejected(&status).join("\n");
    let named = reasons.contains("\"/long\"") && reasons.contains("longer than 246 bytes");
    expect(named, || reasons.clone())?;
    let metrics = get(stand.site.port, "/metrics")?;
    expect(metrics.contains("\nmarathon_acme_rejected_domains 1\n"), || metrics.clone())
}

fn one_file() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let mut daemon = stand.start("daemon", &[])?;
    daemon.wait_until_registered(stand.site.port)?;
    let in_the_way = stand.site.certificate("b.example.com");
    fs::create_dir(&in_the_way).map_err(text)?;
    stand.site.deploy("/b", "b.example.com");
    let fails = |status: &Value| {
        let problems = certificate(status, "b.example.com")["problems"].to_string();
        problems.contains("it cannot be stored")
    };
    daemon.wait_until_status(stand.site.port, "it cannot be stored", fails)?;
    let health = get(stand.site.port, "/health")?;
    let is_right = health.contains(" 200 ") && health.contains("1 certificate fails");
    expect(is_right, || health.clone())?;
    stand.site.deploy("/a", "a.example.com");
    stand.site.wait_for_certificate(&daemon, "a.example.com")?;
    expect(stand.issued() == 2, || daemon.output())?;
    // The certificate is still there, and is written once it can be.
    fs::remove_dir(&in_the_way).map_err(text)?;
    let works = |status: &Value| certificate(status, "b.example.com")["state"] == "valid";
    daemon.wait_until_status(stand.site.port, "it is stored", works)?;
    expect(stand.issued() == 2 && in_the_way.is_file(), || daemon.output())
}
