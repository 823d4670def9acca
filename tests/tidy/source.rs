//! Reads Rust sources for the rules: blanks comments and literals, finds the end of an item, and
//! separates test code from the rest. Never decides what is allowed.

use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the package, such as `src/http/head.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments and literals blanked; lines keep their numbers.
    pub(crate) code: String,
    /// The code with test items blanked; empty in a test file.
    pub(crate) production: String,
}

impl Source {
    fn new(path: String, text: String) -> Source {
        let code = blank_literals(&text);
        let production = blank_tests(&code).0;
        Source { path, text, code, production }
    }
}

/// `["http", "head"]` for `src/http/head.rs`, `["http"]` for `src/http/mod.rs`, nothing for
/// `src/lib.rs`.
pub(crate) fn module(path: &str) -> Vec<&str> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    inside.split('/').filter(|name| !matches!(*name, "mod" | "lib")).collect()
}

/// `http` for `src/http/head.rs`, nothing for `src/lib.rs`.
pub(crate) fn top_module(path: &str) -> &str {
    module(path).first().copied().unwrap_or_default()
}

/// The sources of one crate. A file that is declared by `#[cfg(test)] mod name;` is a test file,
/// and so are the files of its submodules.
pub(crate) fn sources_of(files: Vec<(String, String)>) -> Vec<Source> {
    let new = |(path, text)| Source::new(path, text);
    let mut sources: Vec<Source> = files.into_iter().map(new).collect();
    let mut test_modules = Vec::new();
    for source in &sources {
        for name in blank_tests(&source.code).1 {
            test_modules.push([module(&source.path), vec![&name, ""]].concat().join("::"));
        }
    }
    for source in &mut sources {
        let module = module(&source.path).join("::") + "::";
        if test_modules.iter().any(|test| module.starts_with(test)) {
            source.production.clear();
        }
    }
    sources
}

/// The Rust files of a folder of the package.
pub(crate) fn read_sources(folder: &str) -> Vec<Source> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    read_folder(&package.join(folder), package, &mut files);
    assert!(files.len() > 5, "{folder} has too few files to be the right one");
    sources_of(files)
}

fn read_folder(folder: &Path, package: &Path, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            read_folder(&path, package, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            let path = path.strip_prefix(package).expect("inside the package");
            files.push((path.display().to_string(), text));
        }
    }
}

/// The text with each comment and each string or character literal replaced by spaces.
pub(crate) fn blank_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal_length(rest);
        if length > 0 {
            push_blank(&mut code, &rest[..length]);
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

fn push_blank(code: &mut String, text: &str) {
    code.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
}

/// The length of the comment or literal that the text begins with, 0 if there is none.
fn literal_length(text: &str) -> usize {
    let until = |start: usize, end: &str| {
        text[start..].find(end).map_or(text.len(), |at| start + at + end.len())
    };
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return until(2, "*/");
    }
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let is_literal = raw[hashes..].starts_with('"');
        return if is_literal { until(hashes + 2, &format!("\"{}", &raw[..hashes])) } else { 0 };
    }
    if text.starts_with('"') {
        return quoted_length(text, '"');
    }
    // A lifetime has no closing quote.
    let mut chars = text.chars();
    let is_char = chars.next() == Some('\'')
        && chars.next().is_some_and(|c| c == '\\' || chars.next() == Some('\''));
    if is_char { quoted_length(text, '\'') } else { 0 }
}

/// The length of a literal that begins and ends with `quote`.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// The length of the item that the code begins with: up to its semicolon or its closing brace.
pub(crate) fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '}' if depth > 1 => depth -= 1,
            '}' => return at + 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The code with the items of `#[cfg(test)]` blanked, and the names of the test modules that are
/// files of their own.
fn blank_tests(code: &str) -> (String, Vec<String>) {
    let mut production = String::with_capacity(code.len());
    let mut modules = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let end = at + item_length(&rest[at..]);
        let item = &rest[at..end];
        if let Some(declaration) = item.strip_suffix(';')
            && let Some((_, name)) = declaration.rsplit_once("mod ")
        {
            modules.push(name.into());
        }
        production.push_str(&rest[..at]);
        push_blank(&mut production, item);
        rest = &rest[end..];
    }
    production.push_str(rest);
    (production, modules)
}
