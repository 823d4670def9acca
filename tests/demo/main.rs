//! `demo PATH-TO-marathon-acme [--once] [--real]`: the whole story of the program in a terminal, on
//! nothing but loopback. Stand-ins play Marathon, a certificate authority and a load balancer, or,
//! with `--real`, Marathon alone, and the others are Pebble and HAProxy; the program itself is the
//! real one. Two apps are deployed, one after the other; the proof is a TLS handshake with the load
//! balancer for each, judged by the CA's root alone.
//!
//! The story goes Waiting (for the first app) → Waiting (for the second) → Settling → Proved, or
//! fails at the deadline.
//! Whatever happens, the program is ended and the files are removed.

// Parts of the end-to-end tests, which use more of them.
#[allow(dead_code)]
#[path = "../e2e/process.rs"]
mod process;
mod program;
#[allow(dead_code)]
#[path = "../e2e/real.rs"]
mod real;
mod screen;
mod stage;
mod watch;

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use stand_ins::tls::Shown;

use program::Program;
use screen::{Actor, Screen};
use stage::Stage;
use watch::Watch;

/// The apps' domains, in the order they are deployed.
const DOMAINS: [&str; 2] = ["shop.example.com", "blog.example.com"];
/// How long the proof may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long the last lines may take before the proof is printed.
const TAKEOVER_GRACE: Duration = Duration::from_millis(700);

const USAGE: &str = "usage: demo PATH-TO-marathon-acme [--once] [--real]";

fn main() -> ExitCode {
    let (switches, paths): (Vec<String>, Vec<String>) =
        env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let known = switches.iter().all(|switch| ["--once", "--real"].contains(&switch.as_str()));
    let (true, [binary]) = (known, paths.as_slice()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let given = |name: &str| switches.iter().any(|switch| switch == name);
    match perform(PathBuf::from(binary), given("--once"), given("--real")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n  The demo failed: {error}\n");
            ExitCode::FAILURE
        }
    }
}

/// Where the story stands.
enum Act {
    /// The app of this index is deployed; its certificate is awaited.
    Waiting(usize),
    /// Every app is served; the last exchanges run out.
    Settling(Instant),
    /// The proof was printed.
    Proved,
}

fn perform(binary: PathBuf, once: bool, real: bool) -> Result<(), Box<dyn Error>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let screen = Screen::new();
    let mut stage = Stage::build(real)?;
    let mut watch = Watch::default();
    let mut program = open(&screen, &mut stage, &mut watch, &binary, real)?;

    let started = Instant::now();
    let mut act = Act::Waiting(0);
    let mut reloaded = false;
    let over = |act: &Act| once && matches!(act, Act::Proved);
    while !interrupted.load(Ordering::SeqCst) && !over(&act) {
        reloaded |= watch.look(&screen, &stage, Some(&program));
        if let Some(status) = program.ended()? {
            thread::sleep(TAKEOVER_GRACE);
            watch.look(&screen, &stage, Some(&program));
            watch.finish(&screen);
            return Err(format!("the program ended by itself, {status}").into());
        }
        act = match act {
            Act::Waiting(app) if reloaded && stage.shown(DOMAINS[app]).is_ok() => match app + 1 {
                next if next < DOMAINS.len() => {
                    deploy(&screen, &stage, next);
                    reloaded = false;
                    Act::Waiting(next)
                }
                _ => Act::Settling(Instant::now()),
            },
            Act::Waiting(app) if started.elapsed() > DEADLINE => {
                let error = stage.shown(DOMAINS[app]).err();
                let error = error.map_or("it came too late".to_string(), |error| error.to_string());
                return Err(format!("no certificate for {} in time: {error}", DOMAINS[app]).into());
            }
            Act::Settling(since) if since.elapsed() > TAKEOVER_GRACE => {
                prove(&screen, &stage)?;
                if !once {
                    screen.staying(&stage, DOMAINS[0]);
                }
                Act::Proved
            }
            act => act,
        };
        thread::sleep(TICK);
    }
    let status = program.stop()?;
    thread::sleep(TICK);
    watch.look(&screen, &stage, Some(&program));
    watch.finish(&screen);
    screen.line(Actor::Program, &format!("ended, {status}"));
    screen.blank();
    match act {
        Act::Proved => Ok(()),
        Act::Waiting(_) | Act::Settling(_) => Err("interrupted before the proof".into()),
    }
}

/// Raises the curtain: every peer is there, the first app is deployed, the program runs.
fn open(
    screen: &Screen,
    stage: &mut Stage,
    watch: &mut Watch,
    binary: &Path,
    real: bool,
) -> Result<Program, Box<dyn Error>> {
    screen.opening(stage);
    if !real {
        deploy(screen, stage, 0);
        watch.look(screen, stage, None);
        watch.finish(screen);
    }
    let program = Program::start(binary, stage)?;
    let started = format!("{} started, process {}", binary.display(), program.pid());
    screen.line(Actor::Program, &started);
    if real {
        // HAProxy stands in the challenge's way, so it comes before the first app.
        stage.open_front()?;
        let text = format!("HAProxy serves on https://{}", stage.front_address());
        screen.line(Actor::Lb, &text);
        deploy(screen, stage, 0);
    }
    Ok(program)
}

fn deploy(screen: &Screen, stage: &Stage, app: usize) {
    let domain = DOMAINS[app];
    let id = stage.deploy(app, domain);
    let label = format!("app {id} with the label MARATHON_ACME_0_DOMAIN={domain}");
    screen.line(Actor::You, &format!("deploy {label}"));
}

/// Shakes hands for each domain and shows what the load balancer proved itself with.
fn prove(screen: &Screen, stage: &Stage) -> Result<(), Box<dyn Error>> {
    screen.heading(&format!("TLS handshakes with the load balancer on {}", stage.front_address()));
    for domain in DOMAINS {
        let (shown, page) = stage.shown(domain)?;
        let Shown { names, .. } = &shown;
        if names != &[domain.to_string()] {
            return Err(format!("the certificate for {domain} names {}", names.join(" ")).into());
        }
        screen.certificate(&shown, page.lines().last().unwrap_or_default());
    }
    Ok(())
}
