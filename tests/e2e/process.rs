//! Child processes of a test: their output is kept, they end with it, and nothing is waited for by
//! the clock that can be waited for by its effect.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use marathon_acme::log::message;
use rustix::process::{Pid, kill_process};

pub(crate) use rustix::process::Signal;
pub(crate) use stand_ins::wait::{PATIENCE, local, wait_for_port, wait_until};

const LOOK: Duration = Duration::from_millis(20);

/// What a test ends with.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// A process that is killed when it goes out of scope.
pub(crate) struct Process {
    child: Child,
    name: String,
    output: PathBuf,
}

impl Process {
    /// Starts it, with its output in `folder/name.log`.
    pub(crate) fn start(folder: &Path, name: &str, command: &mut Command) -> Outcome<Process> {
        let output = folder.join(format!("{name}.log"));
        let failed = |error: std::io::Error| format!("{name} does not start: {error}");
        let out = File::create(&output).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        Process::spawn(name, output, command.stdin(Stdio::null()).stdout(out).stderr(err))
    }

    /// The same, with something as its standard input.
    pub(crate) fn start_handed(
        input: impl Into<Stdio>,
        folder: &Path,
        name: &str,
        command: &mut Command,
    ) -> Outcome<Process> {
        let output = folder.join(format!("{name}.log"));
        let failed = |error: std::io::Error| format!("{name} does not start: {error}");
        let out = File::create(&output).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        Process::spawn(name, output, command.stdin(input).stdout(out).stderr(err))
    }

    /// Starts it, with its standard output elsewhere; the rest is in `folder/name.log`.
    pub(crate) fn start_saying_to(
        out: impl Into<Stdio>,
        folder: &Path,
        name: &str,
        command: &mut Command,
    ) -> Outcome<Process> {
        let output = folder.join(format!("{name}.log"));
        let err = File::create(&output).map_err(|error| format!("{name}: {error}"))?;
        Process::spawn(name, output, command.stdin(Stdio::null()).stdout(out).stderr(err))
    }

    fn spawn(name: &str, output: PathBuf, command: &mut Command) -> Outcome<Process> {
        let child = command.spawn();
        let child = child.map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Process { child, name: name.to_string(), output })
    }

    /// All that it said so far.
    pub(crate) fn output(&self) -> String {
        read(&self.output)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Outcome {
        signal_process(self.id(), signal).map_err(|error| format!("{}: {error}", self.name))
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        let begin = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if begin.elapsed() < limit => thread::sleep(LOOK),
                other => return Err(format!("{} does not end: {other:?}", self.name)),
            }
        }
    }

    /// Waits until it has said something.
    pub(crate) fn wait_for(&mut self, words: &str) -> Outcome {
        self.wait_for_count(words, 1)
    }

    /// Waits until it has said something so many times.
    pub(crate) fn wait_for_count(&mut self, words: &str, count: usize) -> Outcome {
        let path = self.output.clone();
        let is_there = || (read(&path).matches(words).count() >= count).then_some(());
        self.wait_until(&format!("{words:?} in the output"), is_there)
    }

    /// Waits until something is there, as long as the process runs; `what` says what was missing.
    pub(crate) fn wait_until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut() -> Option<T>,
    ) -> Outcome<T> {
        let begin = Instant::now();
        loop {
            let ended = self.child.try_wait().ok().flatten();
            if let Some(found) = look() {
                return Ok(found);
            }
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let (name, output) = (&self.name, self.output());
                return Err(format!("{name} ({ended:?}): missing: {what}\n{output}"));
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until another instance is the active one. In `/status.json` an instance looks the same that
    /// has not tried to open the storage yet.
    pub(crate) fn wait_until_standing_by(&mut self) -> Outcome {
        self.wait_for(message::STANDING_BY)
    }

    /// The first line with these words.
    pub(crate) fn line(&self, words: &str) -> String {
        let output = self.output();
        output.lines().find(|line| line.contains(words)).unwrap_or_default().to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a signal to any process.
pub(crate) fn signal_process(pid: u32, signal: Signal) -> Outcome {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("no process id")?;
    kill_process(pid, signal).map_err(|error| format!("cannot be signalled: {error}"))
}

/// A port that nobody has at this moment, and that no connection is given before the daemon takes it:
/// those have the ports from 32768 on.
pub(crate) fn free_port() -> Outcome<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    const PORTS: std::ops::Range<u16> = 12_000..32_000;
    let first = std::process::id().wrapping_mul(997);
    for _ in PORTS {
        let number = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from(number % u32::from(PORTS.end - PORTS.start)).unwrap_or(0);
        let port = PORTS.start + offset;
        if TcpListener::bind(local(port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port".into())
}

/// Sends bytes and reads until the peer closes.
pub(crate) fn talk(port: u16, bytes: &[u8]) -> Outcome<String> {
    talk_to(local(port), bytes)
}

/// The same, at any address.
pub(crate) fn talk_to(address: SocketAddr, bytes: &[u8]) -> Outcome<String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(bytes).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The answer to a GET on a connection of its own.
pub(crate) fn get(port: u16, path: &str) -> Outcome<String> {
    get_from(local(port), path)
}

/// The same, from any address.
pub(crate) fn get_from(address: SocketAddr, path: &str) -> Outcome<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    talk_to(address, request.as_bytes())
}

/// An error with what was expected and what was found.
pub(crate) fn expect(fits: bool, what: impl FnOnce() -> String) -> Outcome {
    if fits { Ok(()) } else { Err(what()) }
}
