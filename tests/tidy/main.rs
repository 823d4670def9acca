//! Enforces the architecture over the sources: imports point down and have no cycles, only `io/`
//! uses clocks, sockets and files, files and functions stay small, every file begins with its
//! purpose. Each finding names its file. `planted.rs` shows that each rule finds what breaks it.
//! Never changes a file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

mod imports;
mod layers;
mod planted;
mod purity;
mod size;
mod source;

use source::{Source, read_sources};

/// Fails with the findings of one rule, if there are any.
fn report(findings: &[String]) {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "  {finding}");
    }
    assert!(findings.is_empty(), "\n{text}");
}

/// The sources of the program, and those of its tests.
static PROGRAM: LazyLock<Vec<Source>> = LazyLock::new(|| read_sources("src"));
static TESTS: LazyLock<Vec<Source>> = LazyLock::new(|| read_sources("tests"));

#[test]
fn imports_point_down() {
    report(&layers::upward_imports(&PROGRAM));
}

#[test]
fn imports_point_down_in_daemon() {
    report(&layers::upward_imports_in_daemon(&PROGRAM));
}

#[test]
fn files_have_no_import_cycles() {
    report(&layers::import_cycles(&PROGRAM));
}

#[test]
fn only_io_uses_clocks_sockets_and_files() {
    report(&purity::impure_code(&PROGRAM));
}

#[test]
fn files_and_lines_are_small() {
    report(&size::long_files_and_lines(&PROGRAM));
    report(&size::long_files_and_lines(&TESTS));
}

#[test]
fn functions_are_small() {
    report(&size::long_functions(&PROGRAM));
    report(&size::long_functions(&TESTS));
}

#[test]
fn every_file_begins_with_its_purpose() {
    report(&size::files_without_purpose(&PROGRAM));
    report(&size::files_without_purpose(&TESTS));
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
