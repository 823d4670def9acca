//! What the kernel says of a process: its CPU time, its memory, how often it was switched. Only reads.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Outcome;

/// A process that used less in this time has settled.
const SETTLED_CPU: Duration = Duration::from_millis(1);
const SETTLED_FOR: Duration = Duration::from_millis(500);
const SETTLE_MAX: Duration = Duration::from_secs(90);
/// What the kernel counts in `stat`, on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// The CPU time of a process so far, to the nanosecond where the kernel counts that. All processes that
/// are measured here have one thread that matters.
pub(crate) fn cpu(pid: u32) -> Outcome<Duration> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/schedstat")) {
        let nanos = text.split_whitespace().next().ok_or("an empty schedstat")?;
        return Ok(Duration::from_nanos(nanos.parse()?));
    }
    ticks(&pid.to_string(), 11)
}

/// The CPU time of all children of this process that have ended and were waited for.
pub(crate) fn cpu_of_ended_children() -> Outcome<Duration> {
    ticks("self", 13)
}

/// Two neighbouring counters of `stat`, by their place behind the name in brackets.
fn ticks(pid: &str, place: usize) -> Outcome<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').ok_or("no name in stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let counter =
        |place: usize| -> Outcome<u32> { Ok(fields.get(place).ok_or("a short stat")?.parse()?) };
    Ok(TICK * (counter(place)? + counter(place + 1)?))
}

/// A number of `/proc/PID/status`, such as `VmRSS`.
pub(crate) fn status(pid: &str, name: &str) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let start = format!("{name}:");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    let number = value.and_then(|value| value.split_whitespace().next());
    Ok(number.ok_or(format!("no {name} in status"))?.parse()?)
}

pub(crate) fn resident_kib(pid: u32) -> Outcome<u64> {
    status(&pid.to_string(), "VmRSS")
}

/// Waits until a process has done what it does at its start; says how much CPU time it has used.
pub(crate) fn settled(pid: u32) -> Outcome<Duration> {
    let begin = Instant::now();
    loop {
        let before = cpu(pid)?;
        thread::sleep(SETTLED_FOR);
        let after = cpu(pid)?;
        if after.saturating_sub(before) < SETTLED_CPU || begin.elapsed() > SETTLE_MAX {
            return Ok(after);
        }
    }
}

/// What a process has used so far.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) voluntary: u64,
    pub(crate) involuntary: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Outcome<Usage> {
        let pid_text = pid.to_string();
        Ok(Usage {
            cpu: cpu(pid)?,
            voluntary: status(&pid_text, "voluntary_ctxt_switches")?,
            involuntary: status(&pid_text, "nonvoluntary_ctxt_switches")?,
        })
    }

    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            voluntary: self.voluntary - before.voluntary,
            involuntary: self.involuntary - before.involuntary,
        }
    }
}
