//! The listener under load: requests a second, the 99th percentile of their latency, and the CPU time of
//! one, on kept connections and on a new connection each, beside HAProxy, nginx and the old
//! program, by the same `wrk`. Never mixes an answer that failed with the others: those are counted.

use std::iter;
use std::process::Command;
use std::time::Duration;

use crate::process::{Outcome, Running, bare, find, free_port};
use crate::servers::{self, Server};
use crate::{Bench, setting, site, stored, table, usage};

const PING: &str = "/.well-known/acme-challenge/ping";
const CONNECTIONS: &str = "32";
/// Runs of each server, of which its best counts.
const RUNS: usize = 4;
const MANY: usize = 10_000;

/// What `wrk` says of a run.
#[derive(Clone, Debug, Default, PartialEq)]
struct Load {
    requests_a_second: f64,
    p99: Duration,
    requests: f64,
    /// Answers that were none, or not 200.
    failed: u64,
    cpu: Duration,
}

pub(crate) fn measure(bench: &Bench) -> Outcome {
    table::subject("listener");
    if find("wrk").is_none() {
        table::missing("requests", "wrk missing");
        return Ok(());
    }
    let folder = bench.folder.path();
    let ours = storing(bench, 0)?;
    let peers = [
        ("haproxy", servers::haproxy(folder, None)),
        ("nginx", servers::nginx(folder)),
        ("old", servers::old_program()),
    ];
    for (manner, header) in [("kept", None), ("new each", Some("Connection: close"))] {
        let there = peers.iter().filter_map(|(_, peer)| peer.as_ref().ok());
        let mut loads =
            best(&iter::once(&ours).chain(there).collect::<Vec<_>>(), header).into_iter();
        let ours = loads.next().ok_or("no run of ours")??;
        for (name, peer) in &peers {
            let load = peer.as_ref().map_err(|error| error.to_string().into());
            let load = load.and_then(|_| loads.next().ok_or("no run")?);
            say(manner, &ours, name, &load);
        }
    }
    // How many certificates are stored should not matter to who asks for a challenge.
    let many = storing(bench, MANY)?;
    let mut loads = best(&[&many, &ours], None).into_iter();
    let many = loads.next().ok_or("no run of ours")??;
    let few = loads.next().ok_or("no run of ours")?;
    say(&format!("kept, {MANY} stored"), &many, "none stored", &few);
    Ok(())
}

/// The program with so many certificates, once it has read them.
fn storing(bench: &Bench, certificates: usize) -> Outcome<Server> {
    let port = free_port()?;
    let words = site::alone(port, &stored::storage(bench.folder.path(), certificates)?);
    let (running, listening) = Running::listening(&mut bare(&bench.program, &words), port)?;
    usage::settled(running.id())?;
    Ok(Server { running, port, listening })
}

fn say(manner: &str, ours: &Load, name: &str, peer: &Outcome<Load>) {
    let figure = |what: &str, unit: &str, of: &dyn Fn(&Load) -> f64| {
        let peer = peer.as_ref().map(of).map_err(|error| error.to_string().into());
        table::row(&format!("connections {manner}: {what}"), unit, of(ours), name, &peer);
    };
    figure("requests a second", "", &|load| load.requests_a_second);
    figure("99th percentile", "ms", &|load| load.p99.as_secs_f64() * 1e3);
    figure("CPU a request", "us", &|load| load.cpu.as_secs_f64() * 1e6 / load.requests.max(1.0));
    if ours.failed > 0 || peer.as_ref().is_ok_and(|peer| peer.failed > 0) {
        figure("failed", "", &|load| load.failed as f64);
    }
}

/// The run of each with the most requests. They take turns: what else the machine does comes and goes, and
/// is to hinder all of them alike.
fn best(servers: &[&Server], header: Option<&str>) -> Vec<Outcome<Load>> {
    let mut best: Vec<_> = servers.iter().map(|_| Ok(Load::default())).collect();
    for _ in 0..RUNS {
        for (server, best) in servers.iter().zip(&mut best) {
            let Ok(known) = best else { continue };
            match run(server, header) {
                Ok(load) if load.requests_a_second <= known.requests_a_second => {}
                better_or_failed => *best = better_or_failed,
            }
        }
    }
    best
}

fn run(Server { running, port, .. }: &Server, header: Option<&str>) -> Outcome<Load> {
    let seconds = setting("BENCH_LOAD_SECONDS", 3);
    let before = usage::cpu(running.id())?;
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c", CONNECTIONS, "--latency", &format!("-d{seconds}s")]);
    command.args(header.iter().flat_map(|header| ["-H", header]));
    let output = command.arg(format!("http://127.0.0.1:{port}{PING}")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut load = read(&text).ok_or(format!("wrk said: {text}"))?;
    load.cpu = usage::cpu(running.id())?.saturating_sub(before);
    Ok(load)
}

/// Reads what `wrk --latency` prints.
fn read(text: &str) -> Option<Load> {
    let mut load = Load::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["99%", time] => load.p99 = duration(time)?,
            ["Requests/sec:", rate] => load.requests_a_second = rate.parse().ok()?,
            [count, "requests", "in", ..] => load.requests = count.parse().ok()?,
            ["Non-2xx", .., count] => load.failed += count.parse::<u64>().ok()?,
            ["Socket", "errors:", counts @ ..] => {
                let numbers = counts.iter().map(|word| word.trim_end_matches(','));
                load.failed += numbers.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>();
            }
            _ => {}
        }
    }
    (load.requests > 0.0).then_some(load)
}

/// Such as `1.23ms`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let seconds = match text.get(unit..)? {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(text.get(..unit)?.parse::<f64>().ok()? * seconds))
}
