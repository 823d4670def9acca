//! Holds the house's rules over the sources: imports point down, only `io/` touches the world,
//! files and functions stay small, every module says what it is for. Findings name file and line.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file at most.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function at most, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Columns of a line at most; rustfmt leaves long strings alone.
const LINE_CHARS_MAX: usize = 110;

/// What each room may import besides itself and the words. A room that is missing here is a word.
const ROOMS: &[(&str, &[&str])] = &[
    ("http", &[]),
    ("dns", &[]),
    ("pki", &[]),
    ("acme", &["http", "pki"]),
    ("marathon", &["http"]),
    ("lb", &["http"]),
    ("challenge", &["http"]),
    ("daemon", &["acme", "marathon", "lb", "challenge", "http", "dns", "pki"]),
    ("check", &["daemon", "acme", "marathon", "lb", "challenge", "http", "dns", "pki"]),
    ("io", &["pki"]),
    ("cli", &["pki"]),
];

/// What only `io/` may name: clocks, sockets, files, threads; and what nobody may.
const BANNED_OUTSIDE_IO: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "File::",
    "std::env::",
    "std::process::",
    "mio::",
    "rustix::",
    "signal_hook",
    "SystemRandom",
    "println!",
    "HashMap",
    "HashSet",
];
const BANNED_EVERYWHERE: &[&str] = &["thread::spawn", "unsafe ", "todo!(", "dbg!("];

#[derive(Debug)]
struct Source {
    /// Relative to the package, such as `src/http/head.rs`.
    path: String,
    text: String,
}

impl Source {
    /// `http` for `src/http/head.rs`, `url` for `src/url.rs`.
    fn room(&self) -> &str {
        let inside = self.path.trim_start_matches("src/");
        inside.split(['/', '.']).next().unwrap_or(inside)
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines that are not comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn collect(folder: &Path, package: &Path, sources: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, package, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            let path =
                path.strip_prefix(package).expect("inside the package").display().to_string();
            sources.push(Source { path, text });
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(&package.join(folder), package, &mut sources);
    assert!(sources.len() > 5, "{folder} has too few files to be the right one");
    sources
}

fn report(findings: &[String]) {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "  {finding}");
    }
    assert!(findings.is_empty(), "\n{text}");
}

/// The rooms that a line names by `crate::ROOM`.
fn imported(line: &str) -> Vec<&str> {
    let after = line.split("crate::").skip(1);
    let end = |rest: &str| {
        rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len())
    };
    after.map(|rest| &rest[..end(rest)]).filter(|room| !room.is_empty()).collect()
}

fn is_room(name: &str) -> bool {
    ROOMS.iter().any(|(room, _)| *room == name)
}

/// Whether `from` may import `to`. Words import words only; `main` and `lib` bring all together.
fn may_import(from: &str, to: &str) -> bool {
    if from == to || matches!(from, "main" | "lib") || !is_room(to) {
        return true;
    }
    ROOMS.iter().any(|(room, below)| *room == from && below.contains(&to))
}

#[test]
fn imports_point_down() {
    let mut findings = Vec::new();
    for source in sources("src") {
        for (number, line) in source.code() {
            for room in imported(line) {
                if !may_import(source.room(), room) {
                    findings.push(format!("{}:{number}: imports {room}", source.path));
                }
            }
            assert!(!line.contains("use crate::{"), "{}:{number}: one `use` a room", source.path);
        }
    }
    report(&findings);
}

#[test]
fn only_io_touches_the_world() {
    let mut findings = Vec::new();
    for source in sources("src") {
        let outside = !matches!(source.room(), "io" | "main");
        let banned = BANNED_OUTSIDE_IO.iter().filter(|_| outside).chain(BANNED_EVERYWHERE);
        let banned: Vec<&&str> = banned.collect();
        // Tests of the loop need peers, and these run in threads.
        let code = source.text.split("#[cfg(test)]").next().unwrap_or("");
        if source.path.ends_with("tests.rs") || source.path.contains("/tests/") {
            continue;
        }
        for (index, line) in code.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in banned.iter().filter(|word| line.contains(***word)) {
                findings.push(format!("{}:{}: names {word}", source.path, index + 1));
            }
        }
    }
    report(&findings);
}

#[test]
fn files_and_lines_are_small() {
    let mut findings = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.push(format!("{}: {lines} lines", source.path));
        }
        for (number, line) in source.lines() {
            if line.chars().count() > LINE_CHARS_MAX {
                findings.push(format!("{}:{number}: a line of too many columns", source.path));
            }
        }
    }
    report(&findings);
}

/// The name of the function that a line begins, and the line's indentation.
fn function(line: &str) -> Option<(usize, &str)> {
    let indentation = line.len() - line.trim_start().len();
    let mut words = line.split_whitespace();
    let qualifier = |word: &&str| word.starts_with("pub") || matches!(*word, "const" | "async");
    let first = words.by_ref().find(|word| !qualifier(word) && !word.ends_with(')'))?;
    if first != "fn" {
        return None;
    }
    let name = words.next()?;
    Some((indentation, name.split(['(', '<']).next().unwrap_or(name)))
}

/// Whether a function, which begins with the first line, has no body: a semicolon ends its signature.
fn is_declaration(lines: &[&str], indentation: usize) -> bool {
    let close = format!("{})", " ".repeat(indentation));
    let is_last = |line: &&&str| !lines[0].ends_with('(') || line.starts_with(&close);
    lines.iter().find(is_last).is_some_and(|line| line.ends_with(';'))
}

#[test]
fn functions_are_small() {
    let mut findings = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let Some((indentation, name)) = function(line) else { continue };
            let end = format!("{}}}", " ".repeat(indentation));
            let one_line = line.ends_with('}') || is_declaration(&lines[start..], indentation);
            let length = lines[start..].iter().position(|line| *line == end).unwrap_or(0) + 1;
            if !one_line && length > FUNCTION_LINES_MAX {
                let place = format!("{}:{}", source.path, start + 1);
                findings.push(format!("{place}: {name} has {length} lines"));
            }
        }
    }
    report(&findings);
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = |source: &Source| !source.text.starts_with("//!");
    let all = sources("src").into_iter().chain(sources("tests"));
    let findings: Vec<String> = all.filter(silent).map(|source| source.path).collect();
    report(&findings);
}

/// What each hunk of a patch takes away or leaves, with the path of its file.
fn hunks(patch: &str) -> Vec<(String, String)> {
    let mut hunks: Vec<(String, String)> = Vec::new();
    let mut path = "";
    for line in patch.lines() {
        if let Some(name) = line.strip_prefix("--- a/") {
            path = name;
        } else if line.starts_with("@@ ") {
            hunks.push((path.into(), String::new()));
        } else if let Some((_, text)) = hunks.last_mut()
            && let Some(kept) = line.strip_prefix([' ', '-']).or(line.is_empty().then_some(""))
            && !line.starts_with("--- ")
        {
            *text += &format!("{kept}\n");
        }
    }
    hunks
}

#[test]
fn deliberate_bugs_still_fit_the_sources() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = Vec::new();
    let mut found = 0;
    for entry in fs::read_dir(package.join("tests/mutants")).expect("a readable folder") {
        let file = entry.expect("a readable folder").path();
        if file.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        for (path, text) in hunks(&fs::read_to_string(&file).expect("a readable patch")) {
            found += 1;
            let source = fs::read_to_string(package.join(&path)).unwrap_or_default();
            if !source.contains(&text) {
                findings.push(format!("{}: it does not fit {path}", file.display()));
            }
        }
    }
    report(&findings);
    assert!(found >= 26, "{found} hunks");
}

#[test]
fn the_checks_can_fail() {
    let patch = "A bug.\n--- a/src/x.rs\n+++ b/src/x.rs\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n";
    assert_eq!(hunks(patch), [("src/x.rs".to_string(), "a\nb\n".to_string())]);
    assert!(!may_import("http", "daemon") && !may_import("url", "http"));
    assert!(!may_import("daemon", "io") && !may_import("io", "daemon"));
    assert!(may_import("daemon", "http") && may_import("http", "url"));
    assert_eq!(imported("use crate::http::Url; crate::io::x()"), ["http", "io"]);
    assert_eq!(function("    pub(super) fn read<T>(x: T) {"), Some((4, "read")));
    assert_eq!(function("fn main() {}"), Some((0, "main")));
    assert_eq!(function("// a fn"), None);
    assert!(is_declaration(&["  fn a(&self);"], 2) && !is_declaration(&["fn a() {"], 0));
    assert!(is_declaration(&["  fn a(", "    b: u8,", "  ) -> u8;"], 2));
    assert!(!is_declaration(&["fn a(", "    b: u8,", ") -> u8 {", "    c();", "}"], 0));
}
