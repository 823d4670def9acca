//! The life of a certificate on real peers: renewed in front of HAProxy without a handshake lost,
//! resumed after a crash, taken over from the old program, brought up to date once, revoked, pruned.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use marathon_acme::log::message::{
    ANOTHER_IS_ACTIVE, CERTIFICATES_MISSING, GIVEN_UP, NOT_REVOKED, ORDER_RESUMED, REVOKED,
    UP_TO_DATE,
};
use rcgen::{KeyPair, SanType};
use serde_json::{Value, json};
use stand_ins::ca::Settings;
use stand_ins::driver::time_now;
use stand_ins::pki::Pki;
use stand_ins::tls::shown;

use crate::process::{Outcome, Process, Signal, expect, free_port, get, local, wait_until};
use crate::real::Pebble;
use crate::real_site::RealSite;
use crate::site::{Site, check_file, text, with_ca};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("a_renewal_in_front_of_haproxy_loses_no_handshake", &[Tool::Pebble, Tool::HaProxy], renewed),
    ("a_restart_in_the_middle_of_an_order_at_pebble", &[Tool::Pebble], interrupted),
    ("a_storage_of_the_old_program_is_taken_over", &[], taken_over),
    ("once_ends_when_everything_is_up_to_date", &[], once),
    ("once_ends_when_it_cannot_be_brought_there", &[], once_in_vain),
    ("a_list_shows_what_the_daemon_remembers", &[], list),
    ("a_certificate_is_revoked_and_archived", &[Tool::Pebble], revoke),
    ("what_cannot_be_revoked_stays", &[], revoke_in_vain),
    ("what_no_app_wants_is_pruned_and_comes_back", &[], prune),
];

/// How long Pebble's certificates are valid where they are to be renewed soon.
const SHORT_SECONDS: u64 = 40;

/// Handshakes without a pause, until it is told to stop.
struct Visitor {
    over: Arc<AtomicBool>,
    visits: Arc<AtomicUsize>,
    /// Different certificates that were seen so far.
    seen: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<Vec<String>>>,
}

impl Visitor {
    /// Visits `domain` at a port; a visit fails when the handshake does, or the page behind it.
    fn start(port: u16, domain: &'static str, trust: Arc<rustls::ClientConfig>) -> Visitor {
        let over = Arc::new(AtomicBool::new(false));
        let (visits, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (ended, count, different) = (Arc::clone(&over), Arc::clone(&visits), Arc::clone(&seen));
        let visit = move || {
            let (mut serials, mut failures) = (BTreeSet::new(), Vec::new());
            while !ended.load(Ordering::Relaxed) {
                match shown(local(port), domain, &trust) {
                    Ok((leaf, page)) if page.contains("served") => {
                        serials.insert(leaf.serial);
                        different.store(serials.len(), Ordering::Relaxed);
                    }
                    Ok((_, page)) => failures.push(format!("another page: {page}")),
                    Err(error) => failures.push(error.to_string()),
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            failures
        };
        Visitor { over, visits, seen, thread: Some(thread::spawn(visit)) }
    }

    /// What failed.
    fn end(&mut self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(thread::JoinHandle::join);
        ended.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.end();
    }
}

/// The private key in a certificate file.
fn private_key(path: &Path) -> Outcome<String> {
    let pem = fs::read_to_string(path).map_err(text)?;
    pem.split("-----BEGIN CERTIFICATE").next().map(str::to_string).ok_or("an empty file".into())
}

fn renewed() -> Outcome {
    let more = json!({"certificateValidityPeriod": SHORT_SECONDS});
    let (RealSite { site, haproxy, trust, pebble: _pebble, .. }, mut daemon) =
        RealSite::start(&[], &more, &[])?;
    site.deploy("/shop", "shop.example.com");
    let address = local(haproxy.https_port);
    wait_until("the first certificate is served", || {
        shown(address, "shop.example.com", &trust).ok()
    })
    .map_err(|error| format!("{error}\n{}", daemon.output()))?;
    let mut visitor = Visitor::start(haproxy.https_port, "shop.example.com", trust);
    let file = site.certificate("shop.example.com");
    let mut keys = BTreeSet::from([private_key(&file)?]);
    for renewal in 1..=2 {
        daemon.wait_until_issued(site.port, renewal + 1)?;
        keys.insert(private_key(&file)?);
        check_file(&file, 0o600)?;
        let served = || (visitor.seen.load(Ordering::Relaxed) > renewal).then_some(());
        wait_until("HAProxy serves the successor", served)?;
    }
    let visits = visitor.visits.load(Ordering::Relaxed);
    let failures = visitor.end();
    println!("{visits} handshakes over two renewals, {} failures", failures.len());
    expect(keys.len() == 3, || format!("{} keys for three certificates", keys.len()))?;
    expect(failures.is_empty(), || format!("{} of {visits}: {failures:?}", failures.len()))
}

fn interrupted() -> Outcome {
    let site = Site::new()?;
    let slow = [("PEBBLE_VA_NOSLEEP", "0"), ("PEBBLE_VA_SLEEPTIME", "3")];
    let pebble = Pebble::start(site.folder(), site.port, &slow)?;
    let arguments = site.arguments(&pebble.directory(), &pebble.root_file);
    site.deploy("/a", "a.example.com");
    let daemon = site.daemon("first", &arguments, &[])?;
    let state = site.storage.join("state.json");
    let noted = || fs::read_to_string(&state).ok().filter(|state| state.contains("/my-order/"));
    wait_until("the order is remembered", noted)?;
    daemon.signal(Signal::KILL)?;
    drop(daemon);
    let again = site.daemon("second", &arguments, &[])?;
    // Where Pebble looked while nobody answered, the order is lost, and a new one comes by the table.
    let certificate = site.certificate("a.example.com");
    let _ = wait_until("it", || certificate.exists().then_some(()));
    site.wait_for_certificate(&again, "a.example.com")?;
    let orders = pebble.orders();
    println!("{orders} orders for a certificate whose first order was interrupted");
    expect(again.output().contains(&format!("{ORDER_RESUMED} name=a.example.com")), || {
        again.output()
    })?;
    expect(orders <= 2, || format!("{orders} orders\n{}", again.output()))
}

fn stop(mut daemon: Process) -> Outcome {
    daemon.signal(Signal::TERM)?;
    daemon.wait(Duration::from_secs(2)).map(|_| ())
}

fn fixture(name: &str) -> Outcome<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    fs::read_to_string(path).map_err(text)
}

/// The old program's layout: an RSA account key, and files with an RSA key, the leaf, its chain.
fn write_old_storage(site: &Site, domain: &str) -> Outcome<String> {
    let key = KeyPair::from_pem(&fixture("leaf-pkcs8.key")?).map_err(text)?;
    let name = SanType::DnsName(domain.try_into().map_err(text)?);
    let mut pki = Pki::new(5, "Old", time_now());
    let leaf = pki.issue(&key, &[name], time_now(), 90 * 24 * 60 * 60).map_err(text)?;
    let file = format!("{}{}", fixture("leaf-pkcs1.key")?, leaf.chain_pem);
    for folder in ["certs", "unmanaged-certs"] {
        fs::create_dir_all(site.storage.join(folder)).map_err(text)?;
    }
    fs::write(site.certificate(domain), &file).map_err(text)?;
    fs::write(site.storage.join("default.pem"), "the old program's").map_err(text)?;
    Ok(file)
}

fn taken_over() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    fs::write(site.storage.join("client.key"), fixture("client-pkcs1.key")?).map_err(text)?;
    // The account that the old program's key has at the CA; nothing else is left of that run.
    let mut daemon = site.daemon("before", &arguments, &[])?;
    daemon.wait_until_registered(site.port)?;
    stop(daemon)?;
    fs::remove_file(site.storage.join("state.json")).map_err(text)?;
    let old = write_old_storage(&site, "old.example.com")?;

    site.deploy("/old", "old.example.com");
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_until_wanted(site.port, "old.example.com")?;
    daemon.wait_until_registered(site.port)?;
    site.deploy("/new", "new.example.com");
    site.wait_for_certificate(&daemon, "new.example.com")?;
    let (accounts, orders) =
        ca.ca.with(|ca, _| (ca.account_count(), ca.count("POST", "/new-order", 201)));
    println!("{accounts} account, {orders} order, for the new domain");
    expect((accounts, orders) == (1, 1), || format!("{accounts} accounts, {orders} orders"))?;
    let kept = fs::read_to_string(site.certificate("old.example.com")).map_err(text)?;
    expect(kept == old, || "the old certificate was touched".into())?;
    let fallback = fs::read_to_string(site.storage.join("default.pem")).map_err(text)?;
    expect(fallback == "the old program's", || "default.pem was touched".into())
}

fn once() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/a", "a.example.com");
    site.deploy("/b", "b.example.com");
    let (status, output) = site.run("first", &arguments, &["--once"])?;
    expect(status == Some(0), || format!("{status:?}\n{output}"))?;
    expect(output.contains(UP_TO_DATE), || output.clone())?;
    check_file(&site.certificate("a.example.com"), 0o600)?;
    check_file(&site.certificate("b.example.com"), 0o600)?;
    wait_for_reloads(&site, 1)?;
    let requests = || site.lb.with(|lb, _| lb.seen().len());
    let before = requests();
    let (status, output) = site.run("second", &arguments, &["--once"])?;
    expect(status == Some(0), || format!("{status:?}\n{output}"))?;
    let issued = ca.ca.with(|ca, _| ca.issued().len());
    expect(issued == 2, || format!("{issued} certificates"))?;
    expect(requests() == before, || format!("nothing had changed:\n{output}"))
}

/// A load balancer acknowledges a signal before it has reloaded.
fn wait_for_reloads(site: &Site, count: usize) -> Outcome {
    let there = || (site.lb.with(|lb, _| lb.reloads().len()) >= count).then_some(());
    wait_until(&format!("{count} reloads"), there)
}

fn once_in_vain() -> Outcome {
    let settings =
        Settings { failing_names: ["b.example.com".to_string()].into(), ..Settings::default() };
    let (site, _ca, arguments) = with_ca(settings)?;
    site.deploy("/a", "a.example.com");
    site.deploy("/b", "b.example.com");
    let (status, output) = site.run("failing", &arguments, &["--once"])?;
    expect(status == Some(1), || format!("{status:?}\n{output}"))?;
    let said = output.contains(&format!("{CERTIFICATES_MISSING} names=b.example.com"));
    expect(said && site.certificate("a.example.com").exists(), || output)?;
    // The one that failed is not due now; another one is.
    site.deploy("/c", "c.example.com");
    for (option, words) in [
        ("--marathon=http://127.0.0.1:9", "Marathon:"),
        ("--acme=https://127.0.0.1:9/dir", "the CA:"),
    ] {
        let (status, output) = site.run("without", &arguments, &["--once", option])?;
        let words = format!("{GIVEN_UP} reason=\"{words}");
        expect(status == Some(1) && output.contains(&words), || format!("{status:?}\n{output}"))?;
    }
    fs::remove_file(site.certificate("a.example.com")).map_err(text)?;
    let nobody = ["--once", "--lb=http://127.0.0.1:9"];
    let (status, output) = site.run("without-lb", &arguments, &nobody)?;
    let said = output.lines().any(|it| it.contains(GIVEN_UP) && it.contains("http://127.0.0.1:9"));
    expect(status == Some(1) && said, || format!("{status:?}\n{output}"))?;
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_until_active(site.port)?;
    let port = format!("--listen=127.0.0.1:{}", free_port()?);
    let (status, output) = site.run("beside", &arguments, &["--once", &port])?;
    let said = output.contains(ANOTHER_IS_ACTIVE);
    expect(status == Some(1) && said, || format!("{status:?}\n{output}"))
}

fn list() -> Outcome {
    let settings =
        Settings { failing_names: ["b.example.com".to_string()].into(), ..Settings::default() };
    let (site, _ca, arguments) = with_ca(settings)?;
    site.deploy("/a", "a.example.com");
    site.deploy("/b", "b.example.com");
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_until_issued(site.port, 1)?;
    daemon.wait_until_failed(site.port, "b.example.com")?;
    let state = site.storage.join("state.json");
    let read = || serde_json::from_slice::<Value>(&fs::read(&state).ok()?).ok();
    let life = |state: &Value| state["certificates"]["a.example.com"]["life"]["renewal"].as_i64();
    let known = || {
        let state = read()?;
        let failed = !state["certificates"]["b.example.com"]["left_out"].is_null();
        life(&state).filter(|_| failed)
    };
    let renewal = wait_until("it is remembered", known)?;
    let (status, table) = site.run("table", &arguments, &["--list"])?;
    expect(status == Some(0), || format!("{status:?}\n{table}"))?;
    let lines: Vec<&str> = table.lines().collect();
    let whole = lines.len() == 3
        && lines[0].starts_with("NAME")
        && lines[1].starts_with("a.example.com")
        && lines[1].contains("Stand-in Intermediate")
        && lines[2].starts_with("b.example.com")
        && lines[2].contains("connection");
    expect(whole, || table.clone())?;
    let (_, json) = site.run("json", &arguments, &["--list", "--log-format=json"])?;
    let rows: Value = serde_json::from_str(&json).map_err(text)?;
    let expected = stand_ins::date::rfc3339(renewal);
    expect(rows[0]["next_renewal"] == expected.as_str(), || format!("{expected}\n{json}"))?;
    expect(rows[0]["domains"] == json!(["a.example.com"]), || json.clone())?;
    let error = rows[1]["last_error"].as_str().unwrap_or_default();
    expect(error.contains("connection") && rows[1]["not_after"].is_null(), || json.clone())
}

fn revoke() -> Outcome {
    let site = Site::new()?;
    let pebble = Pebble::start(site.folder(), site.port, &[])?;
    let arguments = site.arguments(&pebble.directory(), &pebble.root_file);
    site.deploy("/a", "a.example.com");
    let daemon = site.daemon("daemon", &arguments, &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    wait_until("the load balancer is in sync", || {
        get(site.port, "/status.json").ok()?.contains("\"in_sync\":true").then_some(())
    })?;
    let file = site.certificate("a.example.com");
    let pem = fs::read(&file).map_err(text)?;
    let leaf = x509_parser::pem::Pem::iter_from_buffer(&pem)
        .filter_map(Result::ok)
        .find(|section| section.label == "CERTIFICATE")
        .ok_or("no certificate")?;
    let serial = leaf.parse_x509().map_err(text)?.raw_serial_as_string().replace(':', "");
    // On the daemon's own port, and for a name that it does not have: that it runs comes first.
    let without_key = ["--revoke=b.example.com", "--eab-kid=x", "--eab-hmac-key=/no/such"];
    for more in [&["--revoke=a.example.com"][..], &["--revoke=b.example.com"], &without_key] {
        let (status, output) = site.run("busy", &arguments, more)?;
        let only = format!("marathon-acme: {ANOTHER_IS_ACTIVE}\n");
        expect(status == Some(1) && output == only, || format!("{status:?}\n{output}"))?;
    }
    stop(daemon)?;
    let reloads = site.lb.with(|lb, _| lb.reloads().len());
    let (status, output) = site.run("revoke", &arguments, &["--revoke", "a.example.com"])?;
    expect(status == Some(0), || format!("{status:?}\n{output}"))?;
    expect(output.contains(&format!("{REVOKED} name=a.example.com")), || output.clone())?;
    let said = pebble.status_of(&serial)?;
    expect(said.contains("Revoked"), || said)?;
    let archived = fs::read(site.storage.join("archive/a.example.com.pem")).map_err(text)?;
    expect(!file.exists() && archived == pem, || "it is not archived as it was".into())?;
    wait_for_reloads(&site, reloads + 1)?;
    // The app still wants a certificate: a daemon orders a new one, with a new key.
    let daemon = site.daemon("again", &arguments, &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    expect(fs::read(&file).map_err(text)? != pem, || "the revoked one is back".into())
}

fn revoke_in_vain() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    let (status, output) = site.run("nothing", &arguments, &["--revoke", "a.example.com"])?;
    let said =
        output == "marathon-acme: no certificate named a.example.com; --list shows all there are\n";
    expect(status == Some(1) && said, || format!("{status:?}\n{output}"))?;
    let made = fs::read_dir(&site.storage).map_err(text)?.count();
    expect(made == 0 && ca.requests().is_empty(), || format!("{made} files; {:?}", ca.requests()))?;
    // One of another CA: neither the account nor its own key has a say here.
    write_old_storage(&site, "old.example.com")?;
    let (status, output) = site.run("foreign", &arguments, &["--revoke", "old.example.com"])?;
    let said = output.contains(&format!("{NOT_REVOKED} name=old.example.com"));
    expect(status == Some(1) && said, || format!("{status:?}\n{output}"))?;
    expect(site.certificate("old.example.com").exists(), || "it was archived".into())?;
    // One that another account ordered: its own key revokes it.
    site.deploy("/a", "a.example.com");
    let (status, output) = site.run("once", &arguments, &["--once"])?;
    expect(status == Some(0), || output)?;
    for file in ["client.key", "state.json"] {
        fs::remove_file(site.storage.join(file)).map_err(text)?;
    }
    let (status, output) = site.run("own-key", &arguments, &["--revoke", "a.example.com"])?;
    expect(status == Some(0), || format!("{status:?}\n{output}"))?;
    let revoked = ca.ca.with(|ca, _| ca.issued()[0].revoked);
    expect(revoked == Some(0), || format!("{revoked:?}"))
}

fn prune() -> Outcome {
    // The stand-in dates its certificates an hour back: these are valid for 15 seconds.
    let settings = Settings { lifetime_seconds: 3600 + 15, ..Settings::default() };
    let (site, ca, arguments) = with_ca(settings)?;
    site.deploy("/a", "a.example.com");
    site.deploy("/b", "b.example.com");
    let mut daemon = site.daemon("daemon", &arguments, &["--prune-after", "0.00005"])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    site.wait_for_certificate(&daemon, "b.example.com")?;
    site.marathon.with(|marathon, now| {
        // A list without any app would be doubted for ten minutes.
        marathon.put_app(now, serde_json::json!({"id": "/other"}));
        marathon.delete_app(now, "/a");
        marathon.delete_app(now, "/b");
    });
    daemon.wait_until_unwanted(site.port, "b.example.com")?;
    // Coming back before it is pruned needs no order.
    site.deploy("/b", "b.example.com");
    daemon.wait_until_wanted(site.port, "b.example.com")?;
    let (archived, file) =
        (site.storage.join("archive/a.example.com.pem"), site.certificate("a.example.com"));
    let is_archived = || (archived.exists() && !file.exists()).then_some(());
    daemon.wait_until("a.example.com is archived", is_archived)?;
    expect(site.certificate("b.example.com").exists(), || "a wanted one was archived".into())?;
    let orders = ca.ca.with(|ca, _| ca.count("POST", "/new-order", 201));
    expect(orders == 2, || format!("{orders} orders for two certificates"))?;
    daemon.wait_until_reloaded(site.port, 2)
}
