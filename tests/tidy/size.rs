//! Files, functions and lines are small, and every file begins with its purpose. Tests follow these
//! rules too. Never looks at what code does.

use crate::source::{Source, item_length};

/// Lines of a file at most.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function at most, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Columns of a line at most; rustfmt leaves long strings alone.
const LINE_CHARS_MAX: usize = 110;

pub(crate) fn long_files_and_lines(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.push(format!("{}: {lines} lines", source.path));
        }
        for (index, line) in source.text.lines().enumerate() {
            if line.chars().count() > LINE_CHARS_MAX {
                findings.push(format!("{}:{}: a line of too many columns", source.path, index + 1));
            }
        }
    }
    findings
}

pub(crate) fn long_functions(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        for (at, name) in functions(&source.code) {
            let item = &source.code[at..];
            let length = item[..item_length(item)].lines().count();
            if length > FUNCTION_LINES_MAX {
                let number = source.code[..at].lines().count();
                findings.push(format!("{}:{number}: {name} has {length} lines", source.path));
            }
        }
    }
    findings
}

/// Where each function begins, and its name.
fn functions(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let is_keyword = move |(at, _): &(usize, &str)| !code[..*at].ends_with(is_name);
    code.match_indices("fn ").filter(is_keyword).map(move |(at, keyword)| {
        let rest = &code[at + keyword.len()..];
        (at, rest.split(|c| !is_name(c)).next().unwrap_or_default())
    })
}

pub(crate) fn files_without_purpose(sources: &[Source]) -> Vec<String> {
    let lacks_purpose = |source: &&Source| !source.text.starts_with("//!");
    sources.iter().filter(lacks_purpose).map(|source| format!("{}: no //!", source.path)).collect()
}
