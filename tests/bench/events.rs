//! From an event of Marathon to what comes of it. What a burst of events costs, beside a program that
//! throws the same stream away. And how long a label takes until HAProxy serves its certificate, with a CA
//! whose every answer takes a while, beside what that must take: the CA's answers one after the other, and
//! the pauses in which the daemon gathers what belongs together. Never counts the making of an account.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::ClientConfig;
use stand_ins::ca::{Ca, Settings};
use stand_ins::driver::Driver;
use stand_ins::tls::{client_config, connect};

use crate::process::{Outcome, Running, bare, find, free_port, local, wait_for_port, wait_until};
use crate::quiet::reader;
use crate::site::{self, Site};
use crate::usage::{self, Usage};
use crate::{Bench, table};

const EVENTS: usize = 10_000;
const DATA: &str = r#"{"groupId":"/product","version":"2026-05-01T09:12:33.000Z",
"eventType":"group_change_success","timestamp":"2026-05-01T09:12:33.000Z"}"#;
/// How long each answer of the CA takes.
const LATENCY: Duration = Duration::from_millis(100);
/// In the daemon: events within a second are one sync, and writes within two are one reload.
const COALESCING: Duration = Duration::from_secs(1 + 2);
const LABELS: usize = 5;
/// Between two looks at what HAProxy serves.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) fn measure(bench: &Bench) -> Outcome {
    table::subject("events");
    burst(bench)?;
    let served = service(bench)?;
    let (requests, measured) = median(served);
    let expected = LATENCY * requests + COALESCING;
    let what = format!("label to HAProxy, {requests} CA requests of {} ms", LATENCY.as_millis());
    let seconds = |time: Duration| time.as_secs_f64();
    table::row(&what, "s", seconds(measured), "least", &Ok(seconds(expected)));
    let (ours, least) = (measured.saturating_sub(COALESCING), LATENCY * requests);
    table::row("the same without coalescing", "s", seconds(ours), "least", &Ok(seconds(least)));
    Ok(())
}

fn burst(bench: &Bench) -> Outcome {
    let folder = bench.folder.path();
    let storage = folder.join("storage-burst");
    fs::create_dir_all(&storage)?;
    let (_ca, directory, root) = site::idle_ca(folder)?;
    let site = Site::start()?;
    let port = free_port()?;
    let words = site.words(&directory, &root, port, &storage);
    let (daemon, _) = Running::listening(&mut bare(&bench.program, &words), port)?;
    wait_until("the first sync", || (site.syncs() > 0).then_some(()))?;
    let curl = reader(&site);
    let streams = 1 + usize::from(curl.is_ok());
    let attached = || site.marathon.with(|marathon, _| marathon.stream_count()) == streams;
    wait_until("the event streams are open", || attached().then_some(()))?;
    usage::settled(daemon.id())?;
    let of_curl =
        || -> Outcome<Usage> { Usage::of(curl.as_ref().map_err(ToString::to_string)?.id()) };
    let (before, before_curl, syncs) = (Usage::of(daemon.id())?, of_curl(), site.syncs());
    let data = DATA.replace('\n', "");
    let publish = || site.marathon.with(|it, _| it.publish("group_change_success", &data));
    (0..EVENTS).for_each(|_| publish());
    wait_until("a sync", || (site.syncs() > syncs).then_some(()))?;
    usage::settled(daemon.id())?;
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / EVENTS as f64;
    let ours = each(Usage::of(daemon.id())?.since(before).cpu);
    let curl = before_curl.and_then(|before| Ok(each(of_curl()?.since(before).cpu)));
    table::row(&format!("CPU an event, {EVENTS} at once"), "us", ours, "curl", &curl);
    let syncs = (site.syncs() - syncs) as f64;
    table::row(&format!("syncs of {EVENTS} events"), "", syncs, "least", &Ok(1.0));
    Ok(())
}

/// For each label the requests that the CA got, and how long it took.
fn service(bench: &Bench) -> Outcome<Vec<(u32, Duration)>> {
    let folder = bench.folder.path();
    let storage = folder.join("storage-service");
    fs::create_dir_all(&storage)?;
    let port = free_port()?;
    let delay_ms = u64::try_from(LATENCY.as_millis())?;
    let settings = Settings { delay_ms, ..Settings::default() };
    let (ca, directory, root) = site::ca(folder, settings, port)?;
    let site = Site::start()?;
    let words = site.words(&directory, &root, port, &storage);
    let (daemon, _) = Running::listening(&mut bare(&bench.program, &words), port)?;
    usage::settled(daemon.id())?;
    let haproxy = haproxy(folder, &storage);
    if let Err(error) = &haproxy {
        table::missing("HAProxy, so until the reload is signalled", &error.to_string());
    }
    let haproxy = haproxy.ok();
    // How long a reload takes is HAProxy's own matter.
    site.lb.with(|lb, _| lb.settings.reload_ms = 0);
    let trust = ca.with(|ca, _| client_config(ca.root_der()))?;
    let server = haproxy.as_ref().map(|(running, https)| (running, *https, &trust));
    (0..LABELS).map(|number| label(&site, &ca, server, number)).collect()
}

type HaProxy<'a> = (&'a Running, SocketAddr, &'a Arc<ClientConfig>);

/// Deploys an app with a label, and waits for its certificate.
fn label(
    site: &Site,
    ca: &Driver<Ca>,
    haproxy: Option<HaProxy<'_>>,
    number: usize,
) -> Outcome<(u32, Duration)> {
    let name = format!("label-{number}.example.com");
    let reloads = || site.lb.with(|lb, _| lb.reloads().len());
    let requests = || ca.with(|ca, _| ca.seen().len());
    let (seen, mut reloaded, begin) = (requests(), reloads(), Instant::now());
    site.deploy([name.clone()].into_iter());
    loop {
        let signalled = reloads() > reloaded;
        let served = match haproxy {
            None => signalled,
            Some((running, https, trust)) => {
                if signalled {
                    reloaded = reloads();
                    running.signal(Signal::USR2)?;
                }
                connect(https, &name, trust).is_ok()
            }
        };
        if served {
            break;
        }
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(format!("{name} is not served").into());
        }
        thread::sleep(LOOK);
    }
    let took = begin.elapsed();
    let requests = u32::try_from(requests() - seen)?;
    // The daemon still watches what comes of the reload.
    thread::sleep(Duration::from_secs(2));
    Ok((requests, took))
}

/// HAProxy with the certificates of a storage, as marathon-lb starts it; and where it serves them.
fn haproxy(folder: &Path, storage: &Path) -> Outcome<(Running, SocketAddr)> {
    let program = find("haproxy").ok_or("peer missing")?;
    let fallback = storage.join("default.pem");
    wait_until("default.pem is made", || fallback.exists().then_some(()))?;
    let (https, at) = (free_port()?, storage.display());
    let config = format!(
        "global\n  stats socket {at}.sock level admin expose-fd listeners\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n\
         frontend s\n  bind 127.0.0.1:{https} ssl crt {at}/certs crt {at}/default.pem\n\
         \x20 http-request return status 200\n"
    );
    let file = folder.join("haproxy-service.cfg");
    fs::write(&file, config)?;
    let running = Running::start(Command::new(program).args(["-W", "-f"]).arg(&file))?;
    wait_for_port("haproxy", https)?;
    Ok((running, local(https)))
}

/// The one in the middle by its time.
fn median(mut all: Vec<(u32, Duration)>) -> (u32, Duration) {
    all.sort_by_key(|(_, took)| *took);
    all[all.len() / 2]
}
