//! Enforces the architecture over the sources: imports point down and have no cycles, only `io/`
//! uses clocks, sockets and files, files and functions stay small, every file begins with its
//! purpose. Each finding names its file. `planted.rs` shows that each rule finds what breaks it.
//! Never changes a file.

use std::fmt::Write as _;
use std::sync::LazyLock;

mod imports;
mod layers;
mod mutants;
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

#[test]
fn deliberate_bugs_fit_the_sources() {
    report(&mutants::misfits(&mutants::read_bugs(), &PROGRAM));
}
