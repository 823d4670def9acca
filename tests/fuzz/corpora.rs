//! Runs every committed corpus through its target, with neighbours of each input: its beginnings and
//! some bytes flipped. What the fuzzer once found stays found.
//!
//! `make fuzz SECONDS=60` goes on from there. The last long one gave each of the 19 targets 10,000,000
//! executions or a few more; what it found is fixed, and none is left open.

mod bodies;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use bodies::{Body, TARGETS};

/// Of a longer input, so many beginnings and flipped bytes are tried, spread evenly.
const NEIGHBOURS_MAX: usize = 12;
/// All corpora together, in bytes.
const CORPORA_BYTES_MAX: u64 = 1024 * 1024;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

/// What lies in a folder, in order.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

/// The input, and what is like it.
fn neighbours(input: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![input.to_vec()];
    for index in (0..input.len()).step_by(input.len() / NEIGHBOURS_MAX + 1) {
        all.push(input[..index].to_vec());
        let mut flipped = input.to_vec();
        flipped[index] ^= 1 << (index % 8);
        all.push(flipped);
    }
    all
}

/// Runs a target's corpus; how many inputs its files made.
fn run(target: &str, body: Body) -> usize {
    let mut count = 0;
    for path in list(&folder("corpus").join(target)) {
        let input = fs::read(&path).expect("a readable file");
        for neighbour in neighbours(&input) {
            count += 1;
            if catch_unwind(|| body(&neighbour)).is_err() {
                panic!("{target}: {}, as {}", path.display(), neighbour.escape_ascii());
            }
        }
    }
    count
}

#[test]
fn every_corpus_passes() {
    let counts = TARGETS.map(|(target, body)| (target, run(target, body)));
    for (target, count) in counts {
        assert!(count > 20, "{target} has hardly any corpus: {count} inputs");
    }
}

#[test]
fn every_target_is_fuzzed_and_has_a_corpus() {
    let names = |folder: PathBuf| -> BTreeSet<String> {
        let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_string());
        list(&folder).into_iter().filter_map(stem).collect()
    };
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names(folder("targets")), targets);
    assert_eq!(names(folder("corpus")), targets);
    let manifest = fs::read_to_string(folder("Cargo.toml")).expect("a manifest");
    for target in &targets {
        let bin = format!("[[bin]]\nname = \"{target}\"\npath = \"targets/{target}.rs\"\n");
        assert!(manifest.contains(&bin), "{target} is no binary");
        let call = format!("bodies::{target}::run(bytes)");
        let source = fs::read_to_string(folder("targets").join(format!("{target}.rs")));
        assert!(source.expect("a source").contains(&call), "{target} runs something else");
    }
}

#[test]
fn corpora_are_small() {
    let corpora = list(&folder("corpus")).into_iter().flat_map(|corpus| list(&corpus));
    let bytes = corpora.map(|path| fs::metadata(path).expect("a file").len()).sum::<u64>();
    assert!(bytes <= CORPORA_BYTES_MAX, "{bytes} bytes");
}
