//! Peers as processes: started on free ports, waited for by their effect, ended by their id when they go
//! out of scope. Never leaves one behind, and never ends one that it did not start.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stand_ins::wait::PATIENCE;

pub(crate) use stand_ins::wait::{local, wait_for_port, wait_until};

/// What a measurement ends with.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How long a process may take to end in order.
const STOP: Duration = Duration::from_secs(3);
/// Between two looks at whether a process listens: what is measured is off by so much.
const LOOK: Duration = Duration::from_micros(200);

/// A process that ends with the benchmark.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it; its output goes nowhere.
    pub(crate) fn start(command: &mut Command) -> Outcome<Running> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let name = quiet.get_program().to_string_lossy().into_owned();
        let child = quiet.spawn().map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Running(child))
    }

    /// Starts it with all its output in a file.
    pub(crate) fn noted(command: &mut Command, file: &Path) -> Outcome<Running> {
        let out = fs::File::create(file)?;
        let noted = command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        Ok(Running(noted.spawn()?))
    }

    /// Starts it and waits until it listens; says how long that took from its start.
    pub(crate) fn listening(command: &mut Command, port: u16) -> Outcome<(Running, Duration)> {
        let begin = Instant::now();
        let mut running = Running::start(command)?;
        while TcpStream::connect(local(port)).is_err() {
            if let Some(status) = running.0.try_wait()? {
                return Err(format!("{:?} ended: {status}", command.get_program()).into());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("{:?} does not listen", command.get_program()).into());
            }
            thread::sleep(LOOK);
        }
        Ok((running, begin.elapsed()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Outcome {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In order first, so that a master takes its workers with it; then without asking.
        let asked = Instant::now();
        let _ = self.signal(Signal::TERM);
        while matches!(self.0.try_wait(), Ok(None)) && asked.elapsed() < STOP {
            thread::sleep(LOOK);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind(local(0))?.local_addr()?.port())
}

/// Where a program is, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are in the folders of root, which others may not have in their path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The program with `words`, without variables from outside that it heeds.
pub(crate) fn bare(program: &Path, words: &[String]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let known = name.to_string_lossy().to_ascii_uppercase();
        let shared = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE"];
        if known.starts_with("MARATHON_ACME_") || shared.contains(&known.as_str()) {
            command.env_remove(name);
        }
    }
    command.args(words);
    command
}
