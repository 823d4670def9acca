//! The ground on which attacks are fought: a daemon with a challenge to serve, an honest client that
//! asks for it again and again, and what the system says of the daemon.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stand_ins::ca::Settings;

use crate::process::{Outcome, Process, expect, local, wait_until};
use crate::site::{Site, StandInCa, text, with_ca};

/// Within this time the challenge is answered, whatever goes on.
pub(crate) const PROMISE: Duration = Duration::from_secs(1);
/// The most memory that the daemon may have under attack, in KiB: `src/io/event_loop/room.rs` reckons it.
const MEMORY_KIB_MAX: u64 = 96 * 1024;
/// The daemon resumes its work: so many connections of its own come and go meanwhile.
const DIALED_MAX: usize = 6;
/// Less of an attack proves nothing.
const ASKED_MIN: usize = 5;
/// Longer than any attack.
const VALIDATION_DELAY_MS: u64 = 3_600_000;
/// The honest client rests so long between two requests.
const REST: Duration = Duration::from_millis(5);

pub(crate) const PING: &str = "/.well-known/acme-challenge/ping";

/// The daemon under attack.
pub(crate) struct Ground {
    pub(crate) site: Site,
    pub(crate) ca: StandInCa,
    pub(crate) daemon: Process,
    pub(crate) arguments: Vec<String>,
    /// The path of the challenge that waits for its validation.
    pub(crate) challenge: String,
    /// The descriptors that the daemon had open before.
    pub(crate) descriptors: usize,
}

/// What an honest client has to say.
pub(crate) struct Report {
    answered: usize,
    slowest: Duration,
}

impl Ground {
    /// `descriptors` limits what the daemon may open.
    pub(crate) fn prepare(descriptors: Option<u64>) -> Outcome<Ground> {
        let settings = Settings { validation_delay_ms: VALIDATION_DELAY_MS, ..Settings::default() };
        let (site, ca, arguments) = with_ca(settings)?;
        site.deploy("/a", "a.example.com");
        let mut command = limited(descriptors);
        let mut daemon = Process::start(site.folder(), "daemon", command.args(&arguments))?;
        daemon.wait_until_attached(site.port)?;
        let challenges = site.storage.join("challenges");
        let token = wait_until("a challenge", || {
            fs::read_dir(&challenges).ok()?.next()?.ok()?.file_name().into_string().ok()
        })?;
        let challenge = format!("/.well-known/acme-challenge/{token}");
        // The connections of the test's own beginning are not to be counted.
        let mut before = open(&daemon);
        wait_until("the daemon rests", || {
            thread::sleep(Duration::from_millis(200));
            let now = open(&daemon);
            (std::mem::replace(&mut before, now) == now).then_some(())
        })?;
        let descriptors = open(&daemon);
        Ok(Ground { site, ca, daemon, arguments, challenge, descriptors })
    }

    /// Lets an attack run while an honest client asks the daemon, or another one on `port`. On a machine
    /// that is busy elsewhere an attack may be over before the client was heard often enough to say
    /// anything: then it comes again.
    pub(crate) fn besiege(
        &self,
        name: &str,
        port: u16,
        mut attack: impl FnMut() -> Outcome,
    ) -> Outcome<Report> {
        let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (attacked, report) = thread::scope(|scope| {
            let honest =
                scope.spawn(|| ask_until(&over, &answered, port, &[PING, &self.challenge]));
            let mut attacked = attack();
            let few = || answered.load(Ordering::SeqCst) < ASKED_MIN;
            while attacked.is_ok() && few() && !honest.is_finished() {
                attacked = attack();
            }
            over.store(true, Ordering::SeqCst);
            (attacked, honest.join().map_err(|_| "the honest client panicked".to_string()))
        });
        attacked?;
        report?.map_err(|error| format!("{name}: {error}\n{}", self.daemon.output()))
    }

    /// Says how it went, and checks what `daemon`, which listens on `port`, has used and given back.
    pub(crate) fn settle(
        &self,
        name: &str,
        (daemon, port): (&Process, u16),
        report: &Report,
    ) -> Outcome {
        let alone = || (strangers(daemon, port) == 0).then_some(());
        wait_until("every stranger's descriptor is closed", alone)?;
        let (peak, open) = (peak_kib(daemon)?, open(daemon));
        println!(
            "{name}: {} honest requests answered, the slowest in {} ms; memory {peak} KiB at most; \
             descriptors {} before, {open} after",
            report.answered,
            report.slowest.as_millis(),
            self.descriptors,
        );
        let asked = report.answered >= ASKED_MIN;
        expect(asked, || format!("only {} were asked: no attack worth its name", report.answered))?;
        let few = self.descriptors + DIALED_MAX;
        expect(open <= few, || format!("{open} descriptors, {} before", self.descriptors))?;
        expect(peak <= MEMORY_KIB_MAX, || format!("{peak} KiB"))
    }
}

/// The program, with so many descriptors and no way to get more.
fn limited(descriptors: Option<u64>) -> Command {
    let command = Site::command();
    let Some(descriptors) = descriptors else { return command };
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(command.get_program());
    for (name, _) in command.get_envs() {
        shell.env_remove(name);
    }
    shell
}

/// The descriptors that a process has open.
pub(crate) fn open(process: &Process) -> usize {
    numbers(process).len()
}

/// Their numbers.
pub(crate) fn numbers(process: &Process) -> Vec<u64> {
    let folder = format!("/proc/{}/fd", process.id());
    let entries = fs::read_dir(Path::new(&folder)).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// How many descriptors of a process are connections that it has accepted on a port.
pub(crate) fn strangers(process: &Process, port: u16) -> usize {
    let listing = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    // Address and port in hexadecimal, state (0A is a listener), and the inode of the socket.
    let accepted = listing.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = words.get(1)?.ends_with(&format!(":{port:04X}")) && *words.get(3)? != "0A";
        ours.then(|| format!("socket:[{}]", words.get(9).unwrap_or(&"")))
    });
    let accepted: BTreeSet<String> = accepted.collect();
    let folder = format!("/proc/{}/fd", process.id());
    let links = numbers(process).into_iter().filter_map(|number| {
        fs::read_link(format!("{folder}/{number}")).ok()?.into_os_string().into_string().ok()
    });
    links.filter(|link| accepted.contains(link)).count()
}

/// The most memory that a process ever had.
fn peak_kib(process: &Process) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).map_err(text)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.ok_or_else(|| "no VmHWM".into())
}

/// Asks for one path after the other; every answer has to keep the promise.
fn ask_until(
    over: &AtomicBool,
    answered: &AtomicUsize,
    port: u16,
    paths: &[&str],
) -> Outcome<Report> {
    let mut report = Report { answered: 0, slowest: Duration::ZERO };
    for path in paths.iter().cycle() {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let took = ask(port, path)
            .map_err(|error| format!("after {} answers: {path}: {error}", report.answered))?;
        report.answered += 1;
        answered.store(report.answered, Ordering::SeqCst);
        report.slowest = report.slowest.max(took);
        thread::sleep(REST);
    }
    Ok(report)
}

/// One request on a connection of its own, answered with 200 as promised; how long that took.
pub(crate) fn ask(port: u16, path: &str) -> Outcome<Duration> {
    let begin = Instant::now();
    let left = || match PROMISE.checked_sub(begin.elapsed()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err("not answered in time".to_string()),
    };
    let mut stream = TcpStream::connect_timeout(&local(port), left()?).map_err(text)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left()?)).map_err(text)?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("{error} after {} bytes", answer.len())),
        }
    }
    let took = begin.elapsed();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let token = path.rsplit('/').next().unwrap_or_default();
    let right = if path == PING {
        answer.ends_with("{\"message\": \"pong\"}")
    } else {
        answer.contains(&format!("\r\n\r\n{token}."))
    };
    expect(answer.starts_with("HTTP/1.1 200 ") && right, || format!("answered {answer:?}"))?;
    Ok(took)
}

/// Lets this process open so many descriptors; whether it may.
pub(crate) fn claim_descriptors(wanted: u64) -> bool {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return true;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok()
}
