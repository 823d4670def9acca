//! What the daemon tells about itself, as Prometheus, a browser, a program and a stranger meet it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use marathon_acme::log::message::OPERATOR_LISTENING;
use rcgen::{KeyPair, SanType};
use serde_json::Value;
use stand_ins::ca::Settings;
use stand_ins::driver::time_now;
use stand_ins::pki::Pki;

use crate::process::{Outcome, Process, expect, free_port, get, local, wait_until};
use crate::site::{Site, StandInCa, app, text, with_ca};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("prometheus_reads_the_metrics_and_the_rules", &[Tool::Promtool], prometheus),
    ("the_page_and_its_json_say_how_it_stands", &[], page),
    ("a_browser_shows_the_page", &[Tool::Chromium], browser),
    ("the_operator_has_a_port_of_their_own", &[], own_port),
    ("ten_thousand_certificates_fit_on_pages", &[], many),
];

/// Somebody's app, or a CA, may say this.
const EVIL: &str = "<script>document.title='stolen'</script>";

/// A daemon with a certificate, one that fails, and a label that makes no sense.
fn busy(admin: Option<u16>) -> Outcome<(Site, StandInCa, Process)> {
    let rejected_names = ["bad.example.com".to_string()].into();
    let settings = Settings { rejected_names, ..Settings::default() };
    let (site, ca, arguments) = with_ca(settings)?;
    let more = admin.map(|port| format!("--admin-listen=127.0.0.1:{port}"));
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let mut daemon = site.daemon("daemon", &arguments, &more)?;
    let port = admin.unwrap_or(site.port);
    site.deploy("/good", "good.example.com");
    site.deploy("/bad", "bad.example.com");
    site.deploy("/odd", &format!("*.example.com {EVIL}"));
    site.wait_for_certificate(&daemon, "good.example.com")?;
    daemon.wait_until_failed(port, "bad.example.com")?;
    daemon.wait_until_reloaded(port, 1)?;
    Ok((site, ca, daemon))
}

/// The body of an answer that must be good.
fn body(answer: &str) -> Outcome<&str> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
    expect(head.starts_with("HTTP/1.1 200 "), || head.to_string())?;
    Ok(body)
}

fn json(port: u16) -> Outcome<Value> {
    serde_json::from_str(body(&get(port, "/status.json")?)?).map_err(text)
}

fn prometheus() -> Outcome {
    let (site, _ca, _daemon) = busy(None)?;
    let answer = get(site.port, "/metrics")?;
    let metrics = body(&answer)?;
    let verdict = promtool(&["check", "metrics"], metrics)?;
    expect(verdict.is_empty(), || format!("{verdict}\n{metrics}"))?;
    let expected = [
        "marathon_acme_certificates{state=\"valid\"} 1",
        "marathon_acme_certificates{state=\"failing\"} 1",
        "marathon_acme_orders_total{result=\"issued\"} 1",
        "marathon_acme_event_stream_connected 1",
        "marathon_acme_apps 3",
        "marathon_acme_active 1",
        "marathon_acme_storage_writable 1",
        "marathon_acme_acme_errors_total{type=\"rejectedIdentifier\"} 1",
    ];
    for sample in expected {
        expect(metrics.lines().any(|line| line == sample), || format!("{sample}\n{metrics}"))?;
    }
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.parse::<f64>().ok()).unwrap_or_default()
    };
    let used = ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"];
    for name in used {
        expect(value(name) > 0.0, || format!("{name} is missing\n{metrics}"))?;
    }
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.map_err(text)?;
    let rules = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let file = site.folder().join("rules.yml");
    fs::write(&file, rules.ok_or("the README has no rules")?).map_err(text)?;
    let verdict = promtool(&["check", "rules", &file.display().to_string()], "")?;
    expect(verdict.contains("SUCCESS: 10 rules found"), || verdict.clone())?;
    let name = metrics_of(&readme).find(|name| !metrics.contains(&format!("# TYPE {name} ")));
    expect(name.is_none(), || format!("a rule is about {name:?}, which is not there"))
}

/// Our metrics that a text names.
fn metrics_of(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    words.filter(|word| word.starts_with("marathon_acme_"))
}

/// Runs it on a text; what it says.
fn promtool(arguments: &[&str], input: &str) -> Outcome<String> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().map_err(text)?;
    let mut stdin = promtool.stdin.take().ok_or("no input")?;
    stdin.write_all(input.as_bytes()).map_err(text)?;
    drop(stdin);
    let output = promtool.wait_with_output().map_err(text)?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    expect(output.status.success(), || said.clone())?;
    Ok(said)
}

fn page() -> Outcome {
    let (site, _ca, _daemon) = busy(None)?;
    let in_sync = |status: &Value| status["load_balancers"][0]["in_sync"] == true;
    let status =
        wait_until("the load balancer is in sync", || json(site.port).ok().filter(in_sync))?;
    let certificates = status["certificates"].as_array().ok_or("no certificates")?;
    let states: Vec<(&str, &str)> = certificates
        .iter()
        .map(|it| (it["name"].as_str().unwrap_or(""), it["state"].as_str().unwrap_or("")))
        .collect();
    let expected = [("bad.example.com", "failing"), ("good.example.com", "valid")];
    expect(states == expected, || status.to_string())?;
    expect(status["status"] == "degraded" && status["active"] == true, || status.to_string())?;
    let reasons: Vec<&str> = status["rejected"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["app"].as_str())
        .collect();
    expect(reasons.contains(&"/odd"), || status.to_string())?;

    let answer = get(site.port, "/")?;
    let page = body(&answer)?;
    for words in
        ["good.example.com", "bad.example.com", "/odd", "in sync", "<svg", "rejectedIdentifier"]
    {
        expect(page.contains(words), || format!("{words} is not on the page\n{page}"))?;
    }
    expect(!page.contains("<script"), || page.to_string())?;
    let policy = answer.lines().find(|line| line.starts_with("Content-Security-Policy: "));
    expect(policy.is_some_and(|it| it.contains("default-src 'none'")), || answer.clone())
}

fn own_port() -> Outcome {
    let admin = free_port()?;
    let (site, _ca, daemon) = busy(Some(admin))?;
    let said = daemon.line(OPERATOR_LISTENING);
    expect(said.contains(&local(admin).to_string()), || daemon.output())?;
    for path in ["/", "/metrics", "/status.json"] {
        body(&get(admin, path)?)?;
        let answer = get(site.port, path)?;
        expect(answer.starts_with("HTTP/1.1 404 "), || format!("{path}: {answer}"))?;
    }
    body(&get(admin, "/health")?)?;
    body(&get(site.port, "/health")?)?;
    body(&get(site.port, "/.well-known/acme-challenge/ping")?)?;
    Ok(())
}

/// A storage full of certificates that all apps want.
fn fill(site: &Site, count: usize) -> Outcome {
    let key = KeyPair::generate().map_err(text)?;
    let mut pki = Pki::new(7, "Stand-in", time_now());
    fs::create_dir_all(site.storage.join("certs")).map_err(text)?;
    for number in 0..count {
        let domain = format!("n{number:05}.example.com");
        let name = SanType::DnsName(domain.as_str().try_into().map_err(text)?);
        let leaf = pki.issue(&key, &[name], time_now(), 90 * 24 * 60 * 60).map_err(text)?;
        let file = format!("{}{}", key.serialize_pem(), leaf.chain_pem);
        fs::write(site.certificate(&domain), file).map_err(text)?;
    }
    site.marathon.with(|marathon, now| {
        for number in 0..count {
            marathon.put_app(
                now,
                app(&format!("/app{number:05}"), &format!("n{number:05}.example.com")),
            );
        }
    });
    Ok(())
}

fn many() -> Outcome {
    const COUNT: usize = 10_000;
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    fill(&site, COUNT)?;
    let _daemon = site.daemon("daemon", &arguments, &["--log-level=warn"])?;
    wait_until("all are valid", || {
        get(site.port, "/").ok()?.contains(&format!("{COUNT} valid")).then_some(())
    })?;
    // Whoever asks for the page all the time is refused, and nobody's metrics are.
    let pages: Vec<String> = (0..50).map(|_| get(site.port, "/")).collect::<Outcome<_>>()?;
    let refused = pages.iter().filter(|it| it.starts_with("HTTP/1.1 503 ")).count();
    expect(refused > 0, || "nobody is refused, however often it asks".into())?;
    // Of so many certificates one client has two answers of a kind in a window of five seconds.
    for _ in 0..2 {
        let metrics = get(site.port, "/metrics")?;
        let valid = format!("certificates{{state=\"valid\"}} {COUNT}\n");
        expect(metrics.contains(&valid), || metrics.chars().take(500).collect())?;
    }
    // Whoever asks too often is told to come back.
    let come_back = |path: &str| {
        wait_until(path, || get(site.port, path).ok().filter(|it| it.starts_with("HTTP/1.1 200 ")))
    };
    let answer = come_back("/?page=100")?;
    let last = body(&answer)?;
    for words in ["901 to 1000 of 10000", "9000 more are not listed. Search for a name"] {
        expect(last.contains(words), || last.to_string())?;
    }
    let answer = come_back("/?q=n00042")?;
    let found = body(&answer)?;
    expect(found.matches("<svg").count() == 1, || found.to_string())?;
    if std::env::var_os("SCREENSHOTS").is_some() {
        picture(&site, "many", "1280,1400", &[])?;
    }
    let answers: Vec<String> =
        (0..20).map(|_| get(site.port, "/status.json")).collect::<Outcome<_>>()?;
    let refused = answers.iter().filter(|it| it.starts_with("HTTP/1.1 503 ")).count();
    expect(refused > 0, || "nobody is refused, however much it costs".into())?;
    body(&get(site.port, "/health")?)?;
    Ok(())
}

fn browser() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    let daemon = site.daemon("empty", &arguments, &[])?;
    picture(&site, "empty", "1280,1000", &[])?;
    drop(daemon);
    fill(&site, 12)?;
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_until_wanted(site.port, "n00011.example.com")?;
    site.deploy("/evil", &format!("good.example.com {EVIL}"));
    site.wait_for_certificate(&daemon, "good.example.com")?;
    for (name, size, more) in [
        ("wide", "1280,1400", &[][..]),
        ("phone", "390,1400", &[]),
        ("dark", "1280,1400", &["--blink-settings=preferredColorScheme=0"]),
    ] {
        picture(&site, name, size, more)?;
    }
    let seen = chromium(&site, "1280,1000", &["--dump-dom"])?;
    expect(seen.contains("<title>All is well"), || seen.clone())?;
    expect(!seen.contains("stolen</title>"), || seen.clone())
}

/// A picture of the page; where a person asked for them by `SCREENSHOTS=FOLDER`, it is kept.
fn picture(site: &Site, name: &str, size: &str, more: &[&str]) -> Outcome {
    let shot = site.folder().join(format!("{name}.png"));
    let take = format!("--screenshot={}", shot.display());
    let said = chromium(site, size, &[&[take.as_str()], more].concat())?;
    expect(!said.contains("Content Security Policy"), || said.clone())?;
    expect(fs::metadata(&shot).map_err(text)?.len() > 10_000, || format!("{name}: {said}"))?;
    match std::env::var_os("SCREENSHOTS") {
        Some(folder) => {
            let to = Path::new(&folder).join(format!("{name}.png"));
            fs::copy(shot, to).map(drop).map_err(text)
        }
        None => Ok(()),
    }
}

/// Opens the page; what the browser says.
fn chromium(site: &Site, size: &str, more: &[&str]) -> Outcome<String> {
    let mut command = Command::new("chromium");
    let profile = site.folder().join("profile");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
    command.args(["--disable-dev-shm-usage", "--no-first-run", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.arg(format!("--window-size={size}")).args(more);
    let output = command.arg(format!("http://127.0.0.1:{}/", site.port)).output().map_err(text)?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
}
