//! `make bench`: how fast and how large, each figure beside that of a peer measured in the same run.
//! Prints figures, never judges them. `make bench ONLY=listener` runs one subject. A program that is not
//! installed is named and left out; nothing needs a network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use tempfile::TempDir;

mod apps;
mod cluster;
mod daemon_parts;
mod events;
mod growth;
mod instructions;
mod label;
mod listener;
mod orders;
mod pebble;
mod process;
mod quiet;
mod servers;
mod site;
mod start;
mod stored;
mod table;
mod usage;

use process::{Outcome, find};

/// The program as it was built for this run, and where the static one is, if that was built.
const BUILT: &str = env!("CARGO_BIN_EXE_marathon-acme");
const STATIC: &str = "target/x86_64-unknown-linux-musl/release/marathon-acme";

/// What every subject needs.
pub(crate) struct Bench {
    /// The program that is measured.
    pub(crate) program: PathBuf,
    pub(crate) folder: TempDir,
}

type Measure = fn(&Bench) -> Outcome;

/// By the name that `ONLY` takes, in the order in which they run.
const SUBJECTS: &[(&str, Measure)] = &[
    ("start", start::measure),
    ("quiet", quiet::measure),
    ("listener", listener::measure),
    ("apps", apps::measure),
    ("events", events::measure),
    ("certificates", orders::measure),
    ("label", label::measure),
    ("growth", growth::measure),
    ("instructions", instructions::measure),
];

fn main() -> ExitCode {
    // Cargo adds a word of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let result = match words.split_first() {
        Some((child, rest)) if child == apps::CHILD => apps::be_measured(rest),
        Some((child, rest)) if child == instructions::CHILD => {
            prepared().and_then(|bench| instructions::be_measured(&bench, rest))
        }
        Some((child, rest)) if child == growth::CHILD => growth::be_measured(rest),
        _ => run(&words),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(only: &[String]) -> Outcome {
    let known = |word: &&String| SUBJECTS.iter().all(|(name, _)| name != word);
    if let Some(word) = only.iter().find(known) {
        let names: Vec<&str> = SUBJECTS.iter().map(|(name, _)| *name).collect();
        return Err(format!("no subject {word}; there are: {}", names.join(", ")).into());
    }
    let bench = prepared()?;
    heading(&bench.program)?;
    let mut failed = Vec::new();
    for (name, measure) in SUBJECTS {
        if !only.is_empty() && !only.iter().any(|word| word == name) {
            continue;
        }
        // The others can be measured all the same.
        if let Err(error) = measure(&bench) {
            println!("{name}: {error}");
            failed.push(*name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

fn prepared() -> Outcome<Bench> {
    Ok(Bench { program: program()?, folder: tempfile::tempdir()? })
}

/// The static program is what is shipped; one that is older than the sources is not made of them.
fn program() -> Outcome<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of_musl = package.join(STATIC);
    let sources = newest(&package.join("src"))?.max(newest(&package.join("Cargo.lock"))?);
    let fresh = newest(&of_musl).is_ok_and(|built| built >= sources);
    Ok(if fresh { of_musl } else { PathBuf::from(BUILT) })
}

/// When a file, or any in a folder, was changed last.
fn newest(path: &Path) -> std::io::Result<SystemTime> {
    let mut newest = path.metadata()?.modified()?;
    if path.is_dir() {
        for entry in path.read_dir()? {
            newest = newest.max(self::newest(&entry?.path())?);
        }
    }
    Ok(newest)
}

fn heading(program: &Path) -> Outcome {
    println!("program: {}", program.display());
    if program == Path::new(BUILT) {
        println!("  not the static one: that is not built, or older; `make static` builds it");
    }
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, load {}", load.trim());
    for (name, package) in table::PEERS.iter().filter(|(name, _)| find(name).is_none()) {
        println!("peer missing: {name}; Debian package {package}; `make setup-bench` installs it");
    }
    Ok(())
}

/// A number from the environment, for trying out or for more.
pub(crate) fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
