//! What the program says that may help, when it meets one of the likely mistakes: in the log, on the page
//! and as JSON, beside what the other side said.

use std::net::TcpListener;

use marathon_acme::hint::Hint;
use marathon_acme::log::message::{ORDER_FAILED, REGISTRATION_FAILED};
use serde_json::{Value, json};
use stand_ins::ca::Settings;

use crate::Test;
use crate::process::{Outcome, Process, Signal, expect, free_port, get, wait_until};
use crate::site::{Site, StandInCa, text, tls_options, with_ca};
use crate::stand::Stand;

pub(crate) const TESTS: &[Test] = &[
    ("logs_teach_what_to_do_about_a_closed_port", &[], closed_port),
    ("logs_teach_what_to_do_about_a_marathon_that_wants_a_password", &[], password),
    ("logs_teach_what_to_do_about_an_issuer_that_is_not_known", &[], issuer),
    ("logs_teach_what_to_do_about_labels", &[], labels),
    ("logs_teach_what_to_do_about_a_port_that_is_taken", &[], taken),
];

const NAME: &str = "a.example.com";

/// The line with these words has this hint.
fn expect_hint(daemon: &mut Process, words: &str, hint: Hint) -> Outcome {
    daemon.wait_for(words)?;
    let line = daemon.line(words);
    expect(line.contains(&format!(" hint={:?}", hint.text())), || line)
}

fn status(site: &Site) -> Outcome<Value> {
    let answer = get(site.port, "/status.json")?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    serde_json::from_str(body).map_err(text)
}

fn closed_port() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.ca.challenge_port.store(free_port()?, std::sync::atomic::Ordering::SeqCst);
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &[])?;
    let failed = format!("{ORDER_FAILED} name={NAME}");
    expect_hint(&mut first, &failed, Hint::PortClosed)?;
    let line = first.line(&failed);
    expect(line.contains("connection refused") && line.contains(" next_try=20"), || line)?;
    let told = || {
        let status = status(&stand.site).ok()?;
        let problem = status["certificates"][0]["problems"][0].clone();
        (problem["hint"] == Hint::PortClosed.text()).then_some(problem)
    };
    wait_until("the hint as JSON", told)?;
    let page = get(stand.site.port, "/")?;
    expect(page.contains(&format!("<b>Try:</b> {}", Hint::PortClosed)), || page)?;
    stand.wait_for_memory(NAME, "/left_out/a.example.com/hint")?;
    first.signal(Signal::TERM)?;
    first.wait(std::time::Duration::from_secs(2))?;
    // It is remembered with the failure.
    let second = stand.start("second", &[])?;
    let problem = wait_until("the hint as JSON after a restart", told);
    let problem = problem.map_err(|error| format!("{error}\n{}", second.output()))?;
    let error = problem["error"].as_str().unwrap_or_default();
    expect(error.contains("connection refused"), || problem.to_string())
}

fn password() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    let basic_auth = Some(("user".to_string(), "secret".to_string()));
    site.marathon.with(|marathon, _| marathon.settings.basic_auth = basic_auth);
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    expect_hint(&mut daemon, "sync failed", Hint::Password)?;
    expect_hint(&mut daemon, "no event stream", Hint::Password)?;
    let status = status(&site)?;
    expect(status["marathon"]["hint"] == Hint::Password.text(), || status.to_string())?;
    let health = get(site.port, "/health")?;
    expect(health.contains(&format!("; try: {}", Hint::Password)), || health)
}

fn issuer() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    let (_, other_root) = tls_options(site.folder(), "another")?;
    let arguments = site.arguments(&ca.directory, &other_root);
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    expect_hint(&mut daemon, REGISTRATION_FAILED, Hint::AcmeCa)?;
    let line = daemon.line(REGISTRATION_FAILED);
    expect(line.contains("UnknownIssuer"), || line)?;
    let status = status(&site)?;
    expect(status["ca"]["hint"] == Hint::AcmeCa.text(), || status.to_string())
}

fn labels() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    let app = |id: &str, labels: Value| {
        let app = json!({"id": id, "portDefinitions": [{}], "labels": labels});
        site.marathon.with(|marathon, now| marathon.put_app(now, app));
    };
    app("/forgotten", json!({"MARATHON_ACME_0_DOMAIN": NAME}));
    app("/others", json!({"HAPROXY_GROUP": "internal", "MARATHON_ACME_0_DOMAIN": NAME}));
    app("/far", json!({"HAPROXY_GROUP": "external", "MARATHON_ACME_7_DOMAIN": NAME}));
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    expect_hint(&mut daemon, "app=/forgotten", Hint::NoGroup)?;
    expect_hint(&mut daemon, "app=/far", Hint::PortIndex)?;
    expect(!daemon.output().contains("/others"), || daemon.output())?;
    let rejected = status(&site)?["rejected"].clone();
    let hints: Vec<&str> =
        rejected.as_array().into_iter().flatten().filter_map(|it| it["hint"].as_str()).collect();
    expect(hints == [Hint::PortIndex.text(), Hint::NoGroup.text()], || rejected.to_string())
}

fn taken() -> Outcome {
    let site = Site::new()?;
    let other = TcpListener::bind(("127.0.0.1", 0)).map_err(text)?;
    let listen = format!("--listen={}", other.local_addr().map_err(text)?);
    let storage = site.storage.display().to_string();
    let (status, said) = site.run("program", &[listen, storage], &[])?;
    let fits = status == Some(1) && said.contains(Hint::PortTaken.text());
    expect(fits, || format!("{status:?}: {said}"))
}
