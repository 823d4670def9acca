//! The system calls of a run, as strace tells them. Reads them only; what they should be is the
//! tests' business.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Outcome, wait_until};
use crate::site::{PROGRAM, bare};

/// The program, whose calls are written to a file.
pub(crate) fn traced(file: &Path) -> Command {
    let mut command = bare("strace");
    command.args(["-D", "-y", "-s", "4096", "-o"]).arg(file).arg(PROGRAM);
    command
}

/// The program, to which strace does something at the start of these calls (strace(1), `inject`). The
/// tracer is a process beside it, so that the program itself is our child.
pub(crate) fn injected(calls: &str, what: &str) -> Command {
    let mut command = bare("strace");
    command.args(["-D", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:{what}"), PROGRAM]);
    command
}

/// A system call that was made.
pub(crate) struct Call {
    pub(crate) name: String,
    line: String,
}

/// The calls of a run that has ended, in order. The tracer ends a little later than the program.
pub(crate) fn calls(file: &Path) -> Outcome<Vec<Call>> {
    let whole = || fs::read_to_string(file).ok().filter(|trace| trace.contains("\n+++ "));
    let trace = wait_until("the trace is whole", whole)?;
    let call = |line: &str| {
        let (name, _) = line.split_once('(')?;
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_name.then(|| Call { name: name.to_string(), line: line.to_string() })
    };
    Ok(trace.lines().filter_map(call).collect())
}

impl Call {
    pub(crate) fn worked(&self) -> bool {
        !self.line.contains(" = -1 ")
    }

    /// Whether one of its flags is that.
    pub(crate) fn says(&self, flag: &str) -> bool {
        self.line.contains(flag)
    }

    /// What the file descriptor is that it is made on: `fsync(7</the/file>)`.
    pub(crate) fn on(&self) -> Option<&str> {
        let (_, arguments) = self.line.split_once('(')?;
        let (descriptor, rest) = arguments.split_once('<')?;
        let is_number = descriptor.bytes().all(|byte| byte.is_ascii_digit());
        rest.split_once('>').map(|(path, _)| path).filter(|_| is_number)
    }

    /// The paths that it names: `renameat(7</a>, "b", 8</c>, "d")` those of `/a/b` and `/c/d`.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let pieces: Vec<&str> = self.line.split('"').collect();
        let pairs = pieces.chunks_exact(2);
        let paths = pairs.map(|pair| {
            let folder = pair[0].strip_suffix(">, ").and_then(|before| before.rsplit_once('<'));
            folder.map_or_else(
                || PathBuf::from(pair[1]),
                |(_, folder)| Path::new(folder).join(pair[1]),
            )
        });
        paths.collect()
    }
}
