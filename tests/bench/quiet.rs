//! A daemon with nothing to do: how often it wakes and what that costs over a while of silence on the
//! event stream, and what a heartbeat of Marathon costs. The servers beside it idle in the same while. Never
//! waits for less than the window: it is what is measured.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::process::{Outcome, Running, bare, find, free_port, wait_until};
use crate::servers::{self, Server};
use crate::site::{self, Site};
use crate::usage::{self, Usage};
use crate::{Bench, setting, stored, table};

const CERTIFICATES: usize = 10;
const HEARTBEATS: usize = 1_000;
/// Between two heartbeats, so that each wakes its readers.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) fn measure(bench: &Bench) -> Outcome {
    table::subject("quiet");
    let folder = bench.folder.path();
    let storage = stored::storage(folder, CERTIFICATES)?;
    let (_ca, directory, root) = site::idle_ca(folder)?;
    let site = Site::start()?;
    site.deploy((0..CERTIFICATES).map(stored::name));
    let port = free_port()?;
    let words = site.words(&directory, &root, port, &storage);
    let (daemon, _) = Running::listening(&mut bare(&bench.program, &words), port)?;
    streams(&site, 1)?;
    let servers = [("haproxy", servers::haproxy(folder, None)), ("nginx", servers::nginx(folder))];
    usage::settled(daemon.id())?;
    silence(&daemon, &servers)?;
    drop(servers);
    heartbeats(&site, &daemon)?;
    // It has read these certificates, and may have noted something of them.
    drop(daemon);
    Ok(fs::remove_dir_all(storage)?)
}

fn streams(site: &Site, count: usize) -> Outcome {
    let enough = || site.marathon.with(|marathon, _| marathon.stream_count() >= count);
    Ok(wait_until("the event stream is open", || enough().then_some(()))?)
}

fn silence(daemon: &Running, servers: &[(&str, Outcome<Server>)]) -> Outcome {
    let window = Duration::from_secs(setting("BENCH_QUIET_SECONDS", 60));
    let before = Usage::of(daemon.id())?;
    let idle = |server: &Outcome<Server>| -> Outcome<Usage> {
        Usage::of(server.as_ref().map_err(ToString::to_string)?.running.id())
    };
    let begun: Vec<Outcome<Usage>> = servers.iter().map(|(_, server)| idle(server)).collect();
    // The window is what is measured: nothing is waited for.
    thread::sleep(window);
    let ours = Usage::of(daemon.id())?.since(before);
    for ((name, server), begun) in servers.iter().zip(begun) {
        let peer = begun.and_then(|begun| Ok(idle(server)?.since(begun)));
        let figure = |what: &str, unit: &str, of: &dyn Fn(&Usage) -> f64| {
            let peer = peer.as_ref().map(of).map_err(|error| error.to_string().into());
            table::row(
                &format!("{} quiet s: {what}", window.as_secs()),
                unit,
                of(&ours),
                name,
                &peer,
            );
        };
        figure("voluntary switches", "", &|it| it.voluntary as f64);
        figure("involuntary switches", "", &|it| it.involuntary as f64);
        figure("CPU", "ms", &|it| it.cpu.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Both read the same stream; curl throws it away.
fn heartbeats(site: &Site, daemon: &Running) -> Outcome {
    let curl = reader(site);
    if curl.is_ok() {
        streams(site, 2)?;
    }
    let of_curl =
        || -> Outcome<Usage> { Usage::of(curl.as_ref().map_err(ToString::to_string)?.id()) };
    let (before, curl_before) = (Usage::of(daemon.id())?, of_curl());
    for _ in 0..HEARTBEATS {
        site.marathon.with(|marathon, _| marathon.emit(b"\r\n"));
        thread::sleep(PAUSE);
    }
    usage::settled(daemon.id())?;
    let ours = Usage::of(daemon.id())?.since(before);
    let peer = curl_before.and_then(|before| Ok(of_curl()?.since(before)));
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / HEARTBEATS as f64;
    let cpu = peer.as_ref().map(|it| each(it.cpu)).map_err(|error| error.to_string().into());
    table::row("CPU a heartbeat", "us", each(ours.cpu), "curl", &cpu);
    let wakes = |it: &Usage| it.voluntary as f64 / HEARTBEATS as f64;
    let peer = peer.as_ref().map(wakes).map_err(|error| error.to_string().into());
    table::row("voluntary switches a heartbeat", "", wakes(&ours), "curl", &peer);
    Ok(())
}

/// Somebody who reads the event stream and throws it away.
pub(crate) fn reader(site: &Site) -> Outcome<Running> {
    let program = find("curl").ok_or("peer missing")?;
    let url = format!("http://{}/v2/events", site.marathon.address());
    let mut command = Command::new(program);
    Running::start(command.args(["-sN", "--noproxy", "*", "-H", "Accept: text/event-stream", &url]))
}
