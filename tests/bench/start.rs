//! Size and start: bytes of the program, from its start to listening, and what it takes with nothing, ten,
//! a thousand and ten thousand stored certificates. HAProxy loads the same files for serving them, which
//! is more work; nginx loads none. Never counts what the first reading of a file from the disk costs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Bench;
use crate::process::{Outcome, Running, bare, find, free_port};
use crate::servers::{self, Server};
use crate::{site, stored, table, usage};

const STORED: [usize; 4] = [0, 10, 1_000, 10_000];
/// Starts of which the best counts; the last one's memory is measured.
const STARTS: usize = 5;

/// What a start took.
struct Start {
    listening: Duration,
    settled_cpu: Duration,
    resident_kib: u64,
}

pub(crate) fn measure(bench: &Bench) -> Outcome {
    table::subject("size and start");
    let size = |program: &Path| -> Outcome<f64> { Ok(fs::metadata(program)?.len() as f64) };
    for name in ["lego", "haproxy", "nginx"] {
        let peer = find(name).ok_or("peer missing".into()).and_then(|file| size(&file));
        table::row("size of the program's file", "bytes", size(&bench.program)?, name, &peer);
    }
    whole_commands(bench)?;
    for count in STORED {
        let storage = stored::storage(bench.folder.path(), count)?;
        let certs = storage.join("certs");
        let ours = best(|| ours(bench, &storage))?;
        let haproxy =
            best(|| served(|| servers::haproxy(bench.folder.path(), loaded(&certs, count))));
        say(count, &ours, "haproxy", &haproxy);
        if count == 0 {
            let nginx = best(|| served(|| servers::nginx(bench.folder.path())));
            say(count, &ours, "nginx", &nginx);
        }
    }
    Ok(())
}

/// From exec to exit of the least that each program can do.
fn whole_commands(bench: &Bench) -> Outcome {
    let Some(hyperfine) = find("hyperfine") else {
        table::missing("exec to exit", "hyperfine missing");
        return Ok(());
    };
    let timed = |program: &Path, word: &str| -> Outcome<f64> {
        let file = bench.folder.path().join("hyperfine.json");
        let mut command = Command::new(&hyperfine);
        command.args(["--shell=none", "--style=none", "--warmup=5", "--runs=200"]);
        command.arg("--export-json").arg(&file).arg(format!("{} {word}", program.display()));
        let output = command.output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().into());
        }
        let found: Value = serde_json::from_slice(&fs::read(&file)?)?;
        Ok(found["results"][0]["median"].as_f64().ok_or("no median")? * 1e3)
    };
    for (ours, name, word) in [("--version", "lego", "--version"), ("--help", "haproxy", "-v")] {
        let peer = find(name).ok_or("peer missing".into()).and_then(|file| timed(&file, word));
        let what = format!("exec to exit: {ours}, {name} {word}");
        table::row(&what, "ms", timed(&bench.program, ours)?, name, &peer);
    }
    Ok(())
}

/// HAProxy does not take a folder without certificates.
fn loaded(certs: &Path, count: usize) -> Option<&Path> {
    (count > 0).then_some(certs)
}

fn say(count: usize, ours: &Start, name: &str, peer: &Outcome<Start>) {
    let figure = |what: &str, unit: &str, of: &dyn Fn(&Start) -> f64| {
        let peer = peer.as_ref().map(of).map_err(|error| error.to_string().into());
        table::row(&format!("{count} certificates: {what}"), unit, of(ours), name, &peer);
    };
    figure("start to listening", "ms", &|it| it.listening.as_secs_f64() * 1e3);
    figure("CPU until settled", "ms", &|it| it.settled_cpu.as_secs_f64() * 1e3);
    figure("resident, settled", "KiB", &|it| it.resident_kib as f64);
}

/// The shortest time and the least CPU of some starts: what disturbs only ever makes them longer.
fn best(mut start: impl FnMut() -> Outcome<Start>) -> Outcome<Start> {
    let mut best = start()?;
    for _ in 1..STARTS {
        let again = start()?;
        best.listening = best.listening.min(again.listening);
        best.settled_cpu = best.settled_cpu.min(again.settled_cpu);
        best.resident_kib = again.resident_kib;
    }
    Ok(best)
}

fn ours(bench: &Bench, storage: &Path) -> Outcome<Start> {
    let port = free_port()?;
    let mut command = bare(&bench.program, &site::alone(port, storage));
    let (running, listening) = Running::listening(&mut command, port)?;
    taken(&running, listening)
}

fn served(start: impl Fn() -> Outcome<Server>) -> Outcome<Start> {
    let server = start()?;
    taken(&server.running, server.listening)
}

fn taken(running: &Running, listening: Duration) -> Outcome<Start> {
    let settled_cpu = usage::settled(running.id())?;
    Ok(Start { listening, settled_cpu, resident_kib: usage::resident_kib(running.id())? })
}
