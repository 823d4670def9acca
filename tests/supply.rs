//! What the program is made of: the crates in it, their licences, where they come from. A new crate
//! cannot slip in: it has to be written down here. Asks Cargo, never the network.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Where the program runs. Other systems' crates are in `Cargo.lock`, but in no program.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

/// What `Cargo.toml` may name for the program itself.
const DIRECT: &[&str] = &[
    "base64",
    "httparse",
    "lexopt",
    "memchr",
    "mio",
    "rcgen",
    "ring",
    "rustix",
    "rustls",
    "rustls-webpki",
    "serde",
    "serde_json",
    "signal-hook",
    "time",
    "webpki-roots",
    "zeroize",
];

/// What these bring along.
const INDIRECT: &[&str] = &[
    "bitflags",
    "cfg-if",
    "deranged",
    "errno",
    "getrandom",
    "itoa",
    "libc",
    "linux-raw-sys",
    "log",
    "num-conv",
    "once_cell",
    "powerfmt",
    "rustls-pki-types",
    "serde_core",
    "signal-hook-registry",
    "subtle",
    "time-core",
    "untrusted",
    "yasna",
    "zmij",
];

/// What only builds it: ring's C and assembly, serde's derive.
const BUILDING: &[&str] = &[
    "cc",
    "find-msvc-tools",
    "proc-macro2",
    "quote",
    "serde_derive",
    "shlex",
    "syn",
    "unicode-ident",
];

/// The licences as crates write them, those of the tests as well. Each lets the program be MIT.
const LICENCES: &[&str] = &[
    "(MIT OR Apache-2.0) AND Unicode-3.0",
    "Apache-2.0 AND ISC",
    "Apache-2.0 OR ISC OR MIT",
    "Apache-2.0 OR MIT",
    "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT OR Apache-2.0",
    "MIT/Apache-2.0",
    "Unlicense OR MIT",
];

const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";
const OURS: [&str; 2] = ["marathon-acme", "stand-ins"];

/// Lines of `cargo tree` without its drawing, each once.
fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--offline", "--locked", "--prefix=none", "--no-dedupe"]);
    let output = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree {arguments:?}: {said}");
    let lines = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    lines.lines().filter(|line| !line.is_empty()).map(String::from).collect()
}

/// The crates that a program for `target` is made of: `name vVERSION`.
fn crates(target: &str, edges: &str, more: &[&str]) -> BTreeSet<String> {
    let words = ["--package=marathon-acme", "--format={p}", "--target", target, "--edges", edges];
    let lines = tree(&[&words, more].concat());
    let plain = |line: &String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    lines.iter().map(plain).filter(|line| !OURS.contains(&name(line))).collect()
}

fn name(line: &str) -> &str {
    line.split(' ').next().unwrap_or(line)
}

/// What is in one list and not in the other, in words.
fn differences<'a>(found: impl IntoIterator<Item = &'a str>, listed: &[&[&str]]) -> Vec<String> {
    let found: BTreeSet<&str> = found.into_iter().collect();
    let listed: BTreeSet<&str> = listed.iter().copied().flatten().copied().collect();
    let new = found.difference(&listed).map(|name| format!("{name} is new"));
    new.chain(listed.difference(&found).map(|name| format!("{name} is gone"))).collect()
}

/// The names that come with more than one version.
fn twice(crates: &BTreeSet<String>) -> Vec<&str> {
    let mut names: Vec<&str> = crates.iter().map(|line| name(line)).collect();
    let all = names.clone();
    names.dedup();
    names.retain(|name| all.iter().filter(|other| *other == name).count() > 1);
    names
}

/// The packages of a lock file that are neither ours nor from crates.io.
fn elsewhere(lock: &str) -> Vec<String> {
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.unwrap_or_default().trim_matches('"').to_string()
    };
    let packages = lock.split("[[package]]\n").skip(1);
    let all = packages.map(|it| (value(it, "name"), value(it, "source"), value(it, "checksum")));
    all.filter(|(name, source, checksum)| {
        !OURS.contains(&name.as_str()) && (source != SOURCE || checksum.len() != 64)
    })
    .map(|(name, source, _)| format!("{name} from {source:?}"))
    .collect()
}

#[test]
fn the_program_is_made_of_these_crates() {
    for target in TARGETS {
        let names = |crates: &BTreeSet<String>, listed: &[&[&str]]| {
            differences(crates.iter().map(|line| name(line)), listed)
        };
        let direct = crates(target, "normal", &["--depth=1"]);
        let none: Vec<String> = Vec::new();
        assert_eq!(names(&direct, &[DIRECT]), none, "named by Cargo.toml, {target}");
        let all = crates(target, "normal,build", &[]);
        assert_eq!(names(&all, &[DIRECT, INDIRECT, BUILDING]), none, "in the program, {target}");
        assert_eq!(twice(&all), Vec::<&str>::new(), "in two versions, {target}");
    }
}

/// Whether a line of code names this crate at the start of a path: `time::Date`, but neither
/// `std::time::Duration` nor a comment.
fn names_crate(source: &str, name: &str) -> bool {
    let path = format!("{}::", name.replace('-', "_"));
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.match_indices(&path).map(move |(at, _)| &line[..at])).any(|before| {
        !before.ends_with(|char: char| char.is_alphanumeric() || matches!(char, '_' | ':'))
    })
}

/// The text of every Rust file below a folder of the package.
fn sources(folder: &str) -> String {
    let mut text = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("the entry is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &std::fs::read_to_string(&path).expect("the file is UTF-8");
            }
        }
    }
    text
}

/// The crates that one section of a `Cargo.toml` names.
fn section(manifest: &str, title: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != title).skip(1);
    let entries = lines.take_while(|line| !line.starts_with('['));
    entries.filter_map(|line| Some(line.split_once(" = ")?.0.to_string())).collect()
}

#[test]
fn every_direct_dependency_is_used() {
    let unused = |manifest: &str, title: &str, folder: &str| {
        let (names, text) = (section(manifest, title), sources(folder));
        assert!(!names.is_empty(), "{title} of {folder} names no crate");
        names.into_iter().filter(|name| !names_crate(&text, name)).collect::<Vec<_>>()
    };
    let none: Vec<String> = Vec::new();
    let ours = include_str!("../Cargo.toml");
    assert_eq!(unused(ours, "[dependencies]", "src"), none, "not used by the program");
    assert_eq!(unused(ours, "[dev-dependencies]", "tests"), none, "not used by the tests");
    let stand_ins = include_str!("stand-ins/Cargo.toml");
    let unused = unused(stand_ins, "[dependencies]", "tests/stand-ins/src");
    assert_eq!(unused, none, "not used by the stand-ins");
}

#[test]
fn licences_are_known() {
    let words = ["--workspace", "--edges=normal,build,dev", "--format={l}"];
    let new = |line: &String| line.ends_with(" is new");
    let found = tree(&words);
    let differences = differences(found.iter().map(String::as_str), &[LICENCES]);
    assert!(!differences.iter().any(new), "{differences:#?}");
    let silent = tree(&["--workspace", "--edges=normal,build,dev", "--format={p}|{l}"]);
    let silent: Vec<&String> = silent.iter().filter(|line| line.ends_with('|')).collect();
    assert!(silent.is_empty(), "no licence: {silent:#?}");
}

#[test]
fn crates_come_from_crates_io() {
    let lock = include_str!("../Cargo.lock");
    assert_eq!(elsewhere(lock), Vec::<String>::new());
}

#[test]
fn the_checks_can_fail() {
    assert_eq!(differences(["a", "b"], &[&["b"], &["c"]]), ["a is new", "c is gone"]);
    let crates = ["syn v2.0.0", "syn v3.0.0", "time v1.0.0"].map(String::from).into();
    assert_eq!(twice(&crates), ["syn"]);
    let lock = |name: &str, source: &str| {
        let sum = "0".repeat(64);
        format!("[[package]]\nname = \"{name}\"\nsource = \"{source}\"\nchecksum = \"{sum}\"\n\n")
    };
    assert_eq!(elsewhere(&lock("mio", SOURCE)), Vec::<String>::new());
    let git = lock("mio", "git+https://example.org/mio");
    assert_eq!(elsewhere(&git), ["mio from \"git+https://example.org/mio\""]);
    assert_eq!(elsewhere("[[package]]\nname = \"evil\"\n"), ["evil from \"\""]);
    assert!(names_crate("use time::Date;", "time") && names_crate("x(a_b::c())", "a-b"));
    assert!(!names_crate("use std::time::Duration;\n// time::Date\nuse mytime::Date;", "time"));
    assert_eq!(section("[a]\nx = 1\n\n[b]\ny = 2\nz = 3\n", "[b]"), ["y", "z"]);
}
