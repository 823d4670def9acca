//! Marathon as it is on a bad day: odd apps, labels with rubbish, answers cut short, a stream without
//! end, a cluster whose leader is elsewhere.

use std::fs;
use std::path::Path;

use marathon_acme::log::message::{DOMAIN_UNWANTED, EVENT_TOO_LARGE};
use serde_json::{Value, json};
use stand_ins::ca::Settings as CaSettings;
use stand_ins::driver::Options;
use stand_ins::marathon::{AppsAnswer, Marathon, Role, Settings};

use crate::Test;
use crate::process::{Outcome, Process, Signal, expect, free_port, local, wait_until};
use crate::site::{Site, StandInCa, app, play, text, tls_options};

pub(crate) const TESTS: &[Test] = &[
    ("labels_with_rubbish_are_named_and_never_ordered", &[], rubbish),
    ("odd_apps_are_passed_over_and_the_others_go_on", &[], odd_apps),
    ("a_spoilt_list_of_apps_unwants_nothing", &[], spoilt_lists),
    ("a_line_of_100_mb_is_dropped", &[], long_line),
    ("the_stream_follows_the_leader_with_credentials", &[], leader),
    ("a_token_is_read_again_when_it_was_renewed", &[], token),
    ("the_next_address_is_tried_and_tls_is_spoken", &[], failover),
    ("a_silent_stream_is_opened_again", &[], silence),
];

/// A site with a quick CA and a daemon at work.
fn running(more: &[&str]) -> Outcome<(Site, StandInCa, Process)> {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, CaSettings::default())?;
    let mut daemon = site.daemon("daemon", &site.arguments(&ca.directory, &ca.root), more)?;
    daemon.wait_until_attached(site.port)?;
    Ok((site, ca, daemon))
}

fn names_ordered(ca: &StandInCa) -> Vec<String> {
    ca.ca.with(|ca, _| ca.issued().iter().flat_map(|issued| issued.names.clone()).collect())
}

fn rubbish() -> Outcome {
    let (site, ca, mut daemon) = running(&["--allow-multiple-certs"])?;
    let long = format!("{}.example.com", "a".repeat(300));
    let labels = [
        "../../etc/passwd",
        "*.x.org",
        "ex ample..org",
        &long,
        "\u{1f600}.org",
        "10.0.0.1",
        "single",
        "under_score.example.com",
        "-x.example.com",
        "a.example.com/path",
        ",,",
    ];
    for (number, label) in labels.iter().enumerate() {
        site.deploy(&format!("/bad{number}"), label);
    }
    site.deploy("/good", "GOOD.example.com., good.example.com\tsecond.example.com");
    site.wait_for_certificate(&daemon, "good.example.com")?;
    site.wait_for_certificate(&daemon, "second.example.com")?;
    for number in 0..10 {
        daemon.wait_until_rejected(site.port, &format!("/bad{number}"))?;
    }
    let names = names_ordered(&ca);
    expect(names.iter().all(|name| name.ends_with("d.example.com")), || names.join(" "))?;
    let files = fs::read_dir(site.storage.join("certs")).map_err(text)?.count();
    expect(files == 2 && !Path::new("/etc/passwd.pem").exists(), || format!("{files} files"))
}

fn odd_apps() -> Outcome {
    let (site, ca, mut daemon) = running(&[])?;
    let labels =
        |domain: &str| json!({"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": domain});
    let odd: Vec<Value> = vec![
        json!({"id": "/null-labels", "labels": null, "container": null}),
        json!({"id": "/no-ports", "labels": labels("noports.example.com"), "ports": [],
            "networks": [{"mode": "host"}]}),
        json!({"id": "/unknown-mode", "labels": labels("unknown.example.com"),
            "networks": [{"mode": "quantum"}], "container": {"portMappings": [{}]}}),
        json!({"id": "/labels-of-numbers", "labels": [1, 2, 3]}),
        json!({"id": "/old", "labels": labels("old.example.com"), "ports": [80], "ipAddress": null,
            "container": {"docker": {"network": "BRIDGE", "portMappings": null}}}),
    ];
    site.marathon.with(|marathon, now| {
        marathon.settings.explicit_nulls = true;
        marathon.put_apps(now, odd);
        marathon.put_app(now, app("/good", "good.example.com"));
    });
    site.wait_for_certificate(&daemon, "good.example.com")?;
    site.wait_for_certificate(&daemon, "old.example.com")?;
    daemon.wait_until_rejected(site.port, "/labels-of-numbers")?;
    let names = names_ordered(&ca);
    expect(!names.contains(&"noports.example.com".into()), || names.join(" "))
}

fn spoilt_lists() -> Outcome {
    // Every one of the failures is waited for.
    let (site, ca, mut daemon) = running(&["--log-level=debug"])?;
    site.deploy("/a", "a.example.com");
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let answers = [
        AppsAnswer::Cut(40),
        AppsAnswer::Empty,
        AppsAnswer::Html(500),
        AppsAnswer::Html(200),
        AppsAnswer::Gzip,
        AppsAnswer::Text(r#"{"apps":[],"apps2"#.into()),
        AppsAnswer::Text(r#"{"apps":null}"#.into()),
        AppsAnswer::Text("[]".into()),
    ];
    for (count, answer) in (1..).zip(answers) {
        let shown = format!("{answer:?}");
        site.marathon.with(|marathon, _| marathon.settings.apps = answer);
        // Now, not when the pause after the last failure is over.
        daemon.signal(Signal::HUP)?;
        let failed = daemon.wait_until_syncs_failed(site.port, count);
        failed.map_err(|error| format!("{shown}: {error}"))?;
    }
    site.marathon.with(|marathon, _| marathon.settings.apps = AppsAnswer::Normal);
    site.deploy("/b", "b.example.com");
    site.wait_for_certificate(&daemon, "b.example.com")?;
    let output = daemon.output();
    expect(!output.contains(DOMAIN_UNWANTED), || output)?;
    expect(names_ordered(&ca).len() == 2, || names_ordered(&ca).join(" "))?;
    // A list that is whole counts.
    site.marathon.with(|marathon, now| marathon.delete_app(now, "/a"));
    daemon.wait_until_unwanted(site.port, "a.example.com")
}

/// The most memory that a process has ever had, in KiB.
fn peak_kib(process: &Process) -> Outcome<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).map_err(text)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or("no VmHWM in /proc".into())
}

fn long_line() -> Outcome {
    const MIB: usize = 1024 * 1024;
    let (site, _ca, mut daemon) = running(&[])?;
    let before = peak_kib(&daemon)?;
    let piece = vec![b'x'; MIB];
    site.marathon.with(|marathon, _| marathon.emit(b"event: deployment_info\r\ndata: {\"x\":\""));
    for _ in 0..100 {
        site.marathon.with(|marathon, _| marathon.emit(&piece));
    }
    site.marathon.with(|marathon, _| marathon.emit(b"\"}\r\n\r\n"));
    daemon.wait_for(EVENT_TOO_LARGE)?;
    site.deploy("/a", "a.example.com");
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let grown = peak_kib(&daemon)?.saturating_sub(before);
    println!("peak memory grew by {grown} KiB over a line of 100 MiB and an order");
    expect(grown < 4 * 1024, || format!("peak memory grew by {grown} KiB"))
}

fn leader() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, CaSettings::default())?;
    let basic_auth = Some(("user".to_string(), "p:ss".to_string()));
    let base_path = "/service/marathon".to_string();
    let settings = Settings {
        basic_auth: basic_auth.clone(),
        base_path: base_path.clone(),
        ..Settings::default()
    };
    let leader = play(Marathon::new(settings.clone()), Options::default())?;
    let role = Role::Standby { leader: format!("http://{}", leader.address()) };
    let standby = play(Marathon::new(Settings { role, ..settings }), Options::default())?;
    let marathon = format!("--marathon=http://user:p%3Ass@{}{base_path}", standby.address());
    let mut daemon =
        site.daemon("daemon", &site.arguments(&ca.directory, &ca.root), &[&marathon])?;
    daemon.wait_until_attached(site.port)?;
    expect(leader.with(|peer, _| peer.stream_count()) == 1, || "not at the leader".into())?;
    // The standby answers on the leader's behalf.
    standby.with(|peer, now| peer.put_app(now, app("/a", "a.example.com")));
    leader.with(|peer, now| peer.put_app(now, app("/a", "a.example.com")));
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let output = daemon.output();
    expect(!output.contains("p:ss") && !output.contains("p%3Ass"), || output)
}

fn token() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, CaSettings::default())?;
    let accept = |token: &str| {
        site.marathon.with(|marathon, _| marathon.settings.token = Some(token.into()));
    };
    let file = site.folder().join("token");
    let write = |token: &str| fs::write(&file, token).map_err(text);
    accept("eyJ.first.sig");
    write("eyJ.first.sig\n")?;
    let option = format!("--marathon-token={}", file.display());
    let mut arguments = site.arguments(&ca.directory, &ca.root);
    arguments.push(option);
    let checked = Site::command().args(&arguments).arg("--check").output().map_err(text)?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    expect(said.contains("ok    marathon") && !said.contains("eyJ"), || said)?;

    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_until_attached(site.port)?;
    site.marathon.with(|marathon, now| marathon.put_app(now, app("/a", "a.example.com")));
    site.wait_for_certificate(&daemon, "a.example.com")?;

    // Renewed before the first one ends, as it should be: nobody is refused.
    write("eyJ.second.sig")?;
    accept("eyJ.second.sig");
    site.marathon.with(|marathon, now| marathon.put_app(now, app("/b", "b.example.com")));
    site.wait_for_certificate(&daemon, "b.example.com")?;
    let output = daemon.output();
    expect(!output.contains("status 401") && !output.contains("eyJ"), || output)?;

    // Renewed too late: Marathon refuses until the file is.
    accept("eyJ.third.sig");
    site.marathon.with(|marathon, now| marathon.put_app(now, app("/c", "c.example.com")));
    daemon.wait_until_syncs_failed(site.port, 1)?;
    write("eyJ.third.sig")?;
    site.wait_for_certificate(&daemon, "c.example.com")
}

fn failover() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, CaSettings::default())?;
    let (tls, root) = tls_options(site.folder(), "marathon")?;
    let second = play(Marathon::new(Settings::default()), tls)?;
    second.with(|peer, now| peer.put_app(now, app("/a", "a.example.com")));
    let marathon = format!(
        "--marathon=http://{},https://localhost:{}",
        local(free_port()?),
        second.address().port()
    );
    let marathon_ca = format!("--marathon-ca={}", root.display());
    let arguments = site.arguments(&ca.directory, &ca.root);
    let daemon = site.daemon("daemon", &arguments, &[&marathon, &marathon_ca])?;
    site.wait_for_certificate(&daemon, "a.example.com")
}

fn silence() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, CaSettings::default())?;
    site.marathon.with(|marathon, _| marathon.settings.heartbeats = false);
    let arguments = site.arguments(&ca.directory, &ca.root);
    let mut daemon = site.daemon("daemon", &arguments, &["--sse-timeout", "1"])?;
    daemon.wait_until_reattached(site.port, 1)?;
    // What was lost with the old stream is found by the sync of the new one.
    let syncs = site.syncs();
    site.marathon.with(|marathon, now| marathon.put_app_silently(now, app("/a", "a.example.com")));
    site.wait_for_certificate(&daemon, "a.example.com")?;
    wait_until("further syncs", || (site.syncs() > syncs).then_some(()))
}
