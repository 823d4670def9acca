//! The layers: which module may import which, in the crate and inside `daemon/`, and that there are
//! no cycles between files. Never reads a file.

use std::collections::BTreeSet;

use crate::imports::{cycles, imports};
use crate::source::{Source, module, top_module};

/// What each top module may import besides itself and the common types. A module that is missing
/// here is a common type, which imports common types only.
const MODULES: &[(&str, &[&str])] = &[
    ("http", &[]),
    ("dns", &[]),
    ("pki", &[]),
    ("acme", &["http", "pki"]),
    ("marathon", &["http"]),
    ("lb", &["http"]),
    ("challenge", &["http"]),
    ("client", &["http", "dns"]),
    ("daemon", &["client", "acme", "marathon", "lb", "challenge", "http", "dns", "pki"]),
    ("check", &["client", "acme", "marathon", "lb", "challenge", "http", "dns", "pki"]),
    ("io", &["pki"]),
    ("cli", &["pki"]),
];

/// The modules of `daemon/`, the lowest first. Each may import from the rows below its own, and
/// nothing from its own row or from those above. `daemon/mod.rs` may import all of them.
const DAEMON: &[&[&str]] = &[
    // Knows no other module of the daemon.
    &["budget", "fair_queue", "queues"],
    // What the parts exchange, and which of them sent a request.
    &["model", "owner"],
    // How what is exchanged is written to `state.json`.
    &["state"],
    // The parts. They know the rows above, and never each other.
    &[
        "archive",
        "certificates",
        "server",
        "guard",
        "issuer",
        "state_writer",
        "stale_challenges",
        "reloader",
        "routes",
        "storage",
        "watcher",
    ],
    // Knows the parts, and shows them.
    &["status"],
    // Pieces of the daemon itself: know everything except each other.
    &["run_mode", "persistence", "report", "service_status", "leadership", "dispatch"],
];

/// Imports that break the order of `DAEMON`, still tolerated. The list may only shrink.
const KNOWN_IMPORTS: &[(&str, &str)] = &[];

/// Files in import cycles, still tolerated: cycles between these files only. The list may only
/// shrink.
const KNOWN_CYCLES: &[&str] = &[];

/// Top modules that import another one of their own row or from above. Tests follow the same rule.
pub(crate) fn upward_imports(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for (from, targets) in imports(sources, true) {
        for to in targets {
            if !may_import(top_module(from), top_module(to)) {
                findings.push(format!("{from} imports {to}"));
            }
        }
    }
    findings
}

/// Whether one top module may import another. The root of the crate declares all of them.
fn may_import(from: &str, to: &str) -> bool {
    let row = |name| MODULES.iter().find(|(module, _)| *module == name);
    from == to
        || from.is_empty()
        || row(to).is_none()
        || row(from).is_some_and(|(_, below)| below.contains(&to))
}

/// Likewise between the modules of `daemon/`. A module without a row and an entry of the list that
/// is not needed any more are findings too.
pub(crate) fn upward_imports_in_daemon(sources: &[Source]) -> Vec<String> {
    daemon_findings(sources, KNOWN_IMPORTS)
}

pub(crate) fn daemon_findings(sources: &[Source], known: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut unused: BTreeSet<(&str, &str)> = known.iter().copied().collect();
    for (from, targets) in imports(sources, false) {
        let Some(module) = daemon_module(from) else { continue };
        let Some(row) = daemon_row(module) else {
            findings.push(format!("{from}: {module} has no row in the layers of daemon/"));
            continue;
        };
        for to in targets {
            let Some(target) = daemon_module(to).filter(|target| *target != module) else {
                continue;
            };
            let is_below = daemon_row(target).is_some_and(|below| below < row);
            if !is_below && !known.contains(&(module, target)) {
                findings.push(format!("{from} imports {to}"));
            }
            unused.remove(&(module, target));
        }
    }
    findings
        .extend(unused.iter().map(|(from, to)| format!("{from} does not import {to}: unlist it")));
    findings
}

/// `issuer` for `src/daemon/issuer/queue.rs`; `None` outside of the modules of `daemon/`.
fn daemon_module(path: &str) -> Option<&str> {
    match module(path)[..] {
        ["daemon", module, ..] => Some(module),
        _ => None,
    }
}

fn daemon_row(module: &str) -> Option<usize> {
    DAEMON.iter().position(|row| row.contains(&module))
}

/// Import cycles between files, and tolerated files that are in none any more.
pub(crate) fn import_cycles(sources: &[Source]) -> Vec<String> {
    cycle_findings(sources, KNOWN_CYCLES)
}

pub(crate) fn cycle_findings(sources: &[Source], known: &[&str]) -> Vec<String> {
    let cycles = cycles(&imports(sources, false));
    let is_new = |cycle: &&Vec<&str>| cycle.iter().any(|file| !known.contains(file));
    let mut findings: Vec<String> = cycles
        .iter()
        .filter(is_new)
        .map(|cycle| [cycle.as_slice(), &cycle[..1]].concat().join(" -> "))
        .collect();
    let is_free = |file: &&&str| !cycles.iter().any(|cycle| cycle.contains(file));
    findings.extend(
        known.iter().filter(is_free).map(|file| format!("{file} is in no cycle: unlist it")),
    );
    findings
}
