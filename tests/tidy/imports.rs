//! Which file imports which: resolves the paths of a file's code to files of the crate. An import
//! of an ancestor module is not counted: a child may use what its parent defines. Never decides
//! what is allowed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::{Source, module};

/// The files that each file imports.
pub(crate) type Imports<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The imports of each file's production code, or of all code with `tests`.
pub(crate) fn imports(sources: &[Source], tests: bool) -> Imports<'_> {
    // The program has a module tree of its own and imports the library as a crate.
    let sources = || sources.iter().filter(|source| source.path != "src/main.rs");
    let modules: BTreeMap<Vec<&str>, &str> =
        sources().map(|source| (module(&source.path), source.path.as_str())).collect();
    let mut imports = Imports::new();
    for source in sources().filter(|source| tests || !source.production.is_empty()) {
        let code = if tests { &source.code } else { &source.production };
        let module = module(&source.path);
        let found: BTreeSet<&str> = paths(&tokens(code))
            .into_iter()
            .filter_map(|path| resolve(&path, &module, &modules))
            .filter(|target| !module.starts_with(target))
            .map(|target| modules[target.as_slice()])
            .collect();
        imports.insert(&source.path, found);
    }
    imports
}

/// The module that a path of the file of `module` leads to.
fn resolve<'a>(
    path: &[&'a str],
    module: &[&'a str],
    modules: &BTreeMap<Vec<&str>, &str>,
) -> Option<Vec<&'a str>> {
    let first = *path.first()?;
    let is_child = || modules.contains_key(&[module, &[first]].concat());
    if !matches!(first, "crate" | "self" | "super") && !is_child() {
        // Another crate, or an item in scope.
        return None;
    }
    let mut full = module.to_vec();
    for name in path {
        match *name {
            "self" => {}
            "crate" => full.clear(),
            "super" => {
                full.pop();
            }
            name => full.push(name),
        }
    }
    while !modules.contains_key(&full) {
        full.pop()?;
    }
    Some(full)
}

/// Names, `::`, and single characters; without white space.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = if rest.starts_with("::") { 2 } else { name.max(first.len_utf8()) };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Every path in the code: those of a `use`, with its braces expanded, and those in expressions and
/// types.
fn paths<'a>(tokens: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut paths = Vec::new();
    let mut rest = tokens.iter().copied().peekable();
    while let Some(token) = rest.next() {
        // `use<'a>` in a type is no import.
        if token == "use" && rest.peek() != Some(&"<") {
            use_tree(&mut rest, &[], &mut paths);
            continue;
        }
        let mut path = vec![token];
        while rest.next_if_eq(&"::").is_some() {
            path.extend(rest.next());
        }
        if path.len() > 1 {
            paths.push(path);
        }
    }
    paths
}

/// Reads one use tree with what ends it, which is returned.
fn use_tree<'a>(
    rest: &mut impl Iterator<Item = &'a str>,
    prefix: &[&'a str],
    paths: &mut Vec<Vec<&'a str>>,
) -> Option<&'a str> {
    let mut path = prefix.to_vec();
    let mut is_group = false;
    loop {
        match rest.next()? {
            "{" => {
                is_group = true;
                while use_tree(rest, &path, paths)? == "," {}
            }
            end @ ("," | "}" | ";") => {
                if !is_group {
                    paths.push(path);
                }
                return Some(end);
            }
            "::" => {}
            "as" => {
                rest.next();
            }
            name => path.push(name),
        }
    }
}

/// The shortest cycle through each file that is in one, written from its first file: each once.
pub(crate) fn cycles<'a>(imports: &Imports<'a>) -> BTreeSet<Vec<&'a str>> {
    let through = |file: &&'a str| shortest_cycle(imports, file);
    imports.keys().filter_map(through).collect()
}

fn shortest_cycle<'a>(imports: &Imports<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut came_from = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for &next in imports.get(file).into_iter().flatten() {
            if next == start {
                let mut cycle = vec![file];
                while let Some(&before) = came_from.get(cycle[cycle.len() - 1]) {
                    cycle.push(before);
                }
                cycle.reverse();
                let first = cycle.iter().enumerate().min_by_key(|(_, file)| **file)?.0;
                cycle.rotate_left(first);
                return Some(cycle);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}
