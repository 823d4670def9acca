//! What production code outside `io/` must not name: clocks, sockets, files, the environment,
//! threads, randomness, and maps without an order. Scans every line that is not test code, and
//! never skips the rest of a file.

use crate::source::{Source, top_module};

/// What only `io/` and the files of `ALLOWED` may name.
const BANNED_OUTSIDE_IO: &[&str] = &[
    // Time is an argument.
    "Instant::now",
    "SystemTime",
    "UnixTime::now",
    "OffsetDateTime::now",
    // Sockets, files, the process and its environment.
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
    "std::os::",
    "std::fs",
    "fs::",
    "File::",
    "OpenOptions",
    "std::env",
    "env::",
    "std::process",
    "process::",
    "std::thread",
    "thread::",
    "mio::",
    "rustix::",
    "signal_hook",
    "println!",
    "eprintln!",
    "stdin(",
    "stdout(",
    "stderr(",
    // Randomness is an argument.
    "SystemRandom",
    "RandomState",
    // The order of outputs must not depend on a hash.
    "HashMap",
    "HashSet",
];

/// The program reads its command line and environment, prints, and ends with a status.
const ALLOWED: &[(&str, &[&str])] =
    &[("src/main.rs", &["std::env", "env::", "std::process", "process::", "stdout(", "stderr("])];

/// What nobody may name. Blocking system calls have no thread of their own, not even in `io/`.
const BANNED_EVERYWHERE: &[&str] = &["thread::spawn", "thread::sleep", "unsafe", "todo!", "dbg!"];

pub(crate) fn impure_code(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let allowed = ALLOWED.iter().find(|(path, _)| *path == source.path);
        let is_banned = |word: &&&str| {
            top_module(&source.path) != "io"
                && allowed.is_none_or(|(_, words)| !words.contains(*word))
        };
        let banned = BANNED_OUTSIDE_IO.iter().filter(is_banned).chain(BANNED_EVERYWHERE);
        let banned: Vec<&&str> = banned.collect();
        for (index, line) in source.production.lines().enumerate() {
            for word in banned.iter().filter(|word| names(line, word)) {
                findings.push(format!("{}:{}: names {word}", source.path, index + 1));
            }
        }
    }
    findings
}

/// Whether the line contains the text, not as a part of a longer name: `offs::` does not name
/// `fs::`.
fn names(line: &str, text: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(text).any(|(at, _)| {
        let after = &line[at + text.len()..];
        !line[..at].ends_with(is_name) && (!text.ends_with(is_name) || !after.starts_with(is_name))
    })
}
