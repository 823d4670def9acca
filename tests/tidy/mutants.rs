//! The deliberate bugs of `tests/mutants/` fit the sources: the old lines of each edit occur
//! exactly once in its file. `apply.awk` describes their form. Never applies one.

use std::fs;
use std::path::Path;

use crate::source::Source;

/// The name and the text of each bug.
pub(crate) fn read_bugs() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutants");
    let mut bugs = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_some_and(|extension| extension == "bug") {
            bugs.push((
                path.file_name().expect("a file").display().to_string(),
                fs::read_to_string(&path).expect("a readable bug"),
            ));
        }
    }
    assert!(bugs.len() >= 26, "only {} bugs", bugs.len());
    bugs
}

pub(crate) fn misfits(bugs: &[(String, String)], sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, text) in bugs {
        let edits = edits(text);
        if text.starts_with("--- ") || edits.is_empty() {
            findings.push(format!("{name}: it has no first line, or no edit"));
        }
        for Edit { path, old, new } in edits {
            let source = sources.iter().find(|source| source.path == path);
            let count = source.map_or(0, |source| occurrences(&source.text, &old));
            if count != 1 {
                findings.push(format!("{name}: the old lines occur {count} times in {path}"));
            }
            if new.is_none_or(|new| new == old) {
                findings.push(format!("{name}: an edit changes nothing"));
            }
        }
    }
    findings
}

struct Edit<'a> {
    path: &'a str,
    old: String,
    /// Present from `+++` on.
    new: Option<String>,
}

fn edits(text: &str) -> Vec<Edit<'_>> {
    let mut edits: Vec<Edit<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("--- ") {
            edits.push(Edit { path, old: String::new(), new: None });
        } else if let Some(edit) = edits.last_mut() {
            match &mut edit.new {
                None if line == "+++" => edit.new = Some(String::new()),
                None => edit.old += &format!("{line}\n"),
                Some(new) => *new += &format!("{line}\n"),
            }
        }
    }
    edits
}

/// How often the lines occur as whole lines.
fn occurrences(text: &str, lines: &str) -> usize {
    let starts = |at: &usize| *at == 0 || text[..*at].ends_with('\n');
    text.match_indices(lines).map(|(at, _)| at).filter(starts).count()
}
