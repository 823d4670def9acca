//! Shows that each rule finds what breaks it: small sources with one violation each, and others
//! that look like one and are allowed. Never reads a file.

use crate::imports::{cycles, imports};
use crate::layers::{cycle_findings, daemon_findings, upward_imports};
use crate::mutants::misfits;
use crate::purity::impure_code;
use crate::size::{files_without_purpose, long_files_and_lines, long_functions};
use crate::source::{Source, blank_literals, sources_of};

fn plant(files: &[(&str, &str)]) -> Vec<Source> {
    sources_of(files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect())
}

/// The findings of the purity rule in one file.
fn impure(path: &str, text: &str) -> Vec<String> {
    impure_code(&plant(&[(path, text)]))
}

#[test]
fn a_clock_is_found_after_test_items() {
    let found = |text| impure("src/daemon/x.rs", text);
    let clock = "src/daemon/x.rs:3: names Instant::now";
    assert_eq!(found("#[cfg(test)]\nmod tests;\nfn f() { Instant::now(); }"), [clock]);
    assert_eq!(
        found("#[cfg(test)]\nuse a::{b, c};\nfn f() { std::time::Instant::now(); }"),
        [clock]
    );
    assert_eq!(
        found("#[cfg(test)]\nfn t(a: [u8; 2]) { if a {} }\nfn f() { Instant::now(); }"),
        [clock]
    );
    assert_eq!(
        found("#[cfg(test)]\nmod tests { fn t() { g(); } }\nfn f() { Instant::now(); }"),
        [clock]
    );
    assert_eq!(found("let quote = '\"';\nlet text = r#\"\"#;\nInstant::now();"), [clock]);
    assert_eq!(found("fn f<'a>() {}\nlet escaped = \"\\\"\";\nInstant::now();"), [clock]);
}

#[test]
fn a_clock_is_allowed_in_tests_comments_and_literals() {
    let found = |text| impure("src/daemon/x.rs", text);
    let none: [&str; 0] = [];
    assert_eq!(found("#[cfg(test)]\nmod tests {\n    fn t() { Instant::now(); }\n}"), none);
    assert_eq!(found("impl X {\n    #[cfg(test)]\n    fn t() {\n Instant::now();\n    }\n}"), none);
    assert_eq!(found("// Instant::now()\nf(); // Instant::now()\n/* Instant::now() */"), none);
    assert_eq!(found("f(\"Instant::now\", r#\"\"Instant::now\"#);"), none);
    assert_eq!(found("MyInstant::now();"), none);
    assert_eq!(impure("src/io/x.rs", "Instant::now();"), none);
}

#[test]
fn test_files_are_those_that_are_declared_so() {
    let declared = "mod real;\n#[cfg(test)]\npub(crate) mod wire;";
    let clock = "Instant::now();";
    let paths = ["src/daemon/wire.rs", "src/daemon/wire/peer.rs", "src/daemon/real.rs"];
    let files = paths.map(|path| (path, clock));
    let sources = plant(&[&[("src/daemon/mod.rs", declared)], &files[..]].concat());
    assert_eq!(impure_code(&sources), ["src/daemon/real.rs:1: names Instant::now"]);
}

#[test]
fn sockets_files_maps_and_the_environment_are_found() {
    let found = |text| impure("src/daemon/x.rs", text).len();
    assert_eq!(found("use std::net::TcpStream;"), 1);
    assert_eq!(found("use std::collections::{BTreeMap, HashMap};"), 1);
    assert_eq!(found("let now = SystemTime::UNIX_EPOCH;"), 1);
    assert!(found("std::fs::read(path)") > 0 && found("env::var(name)") > 0);
    assert!(found("std::thread::sleep(pause)") > 0 && found("std::process::exit(1)") > 0);
    assert_eq!(impure("src/io/x.rs", "thread::spawn(f);\nunsafe { g() }").len(), 2);
    assert_eq!(impure("src/main.rs", "env::args();\nfs::read(path);").len(), 1);
    assert_eq!(impure("src/lib.rs", "#![forbid(unsafe_code)]").len(), 0);
}

#[test]
fn upward_imports_are_found() {
    let found = |path, text| {
        let targets = ["src/http/mod.rs", "src/daemon/mod.rs", "src/io/mod.rs", "src/url.rs"]
            .map(|path| (path, ""));
        upward_imports(&plant(&[&targets, &[(path, text)][..]].concat()))
    };
    assert_eq!(
        found("src/http/x.rs", "use crate::daemon::X;"),
        ["src/http/x.rs imports src/daemon/mod.rs"]
    );
    assert_eq!(found("src/time.rs", "crate::http::f();"), ["src/time.rs imports src/http/mod.rs"]);
    assert_eq!(found("src/io/x.rs", "use super::super::daemon::X;").len(), 1);
    assert_eq!(found("src/daemon/x.rs", "use crate::{io::X, url::Url};").len(), 1);
    assert_eq!(found("src/acme/tests.rs", "use crate::daemon::X;").len(), 1);
    assert_eq!(found("src/daemon/x.rs", "use crate::http::X;\nuse crate::url::Url;").len(), 0);
    assert_eq!(found("src/lib.rs", "pub mod io;\nuse io::X;").len(), 0);
}

#[test]
fn imports_between_parts_of_the_daemon_are_found() {
    let found = |name: &str, text: &str, known: &[(&str, &str)]| {
        let path = format!("src/daemon/{name}.rs");
        let names = ["mod", "issuer", "reloader", "status", "model"];
        let targets = names.map(|name| (format!("src/daemon/{name}.rs"), String::new()));
        let mut files = Vec::from(targets);
        files.retain(|file| file.0 != path);
        files.push((path, text.into()));
        daemon_findings(&sources_of(files), known)
    };
    let import = "src/daemon/issuer.rs imports src/daemon/reloader.rs";
    assert_eq!(found("issuer", "use super::reloader::X;", &[]), [import]);
    assert_eq!(found("issuer/queue", "use crate::daemon::reloader::X;", &[]).len(), 1);
    assert_eq!(found("issuer", "use super::status::X;", &[]).len(), 1);
    assert_eq!(found("model", "use crate::daemon::issuer::X;", &[]).len(), 1);
    assert_eq!(found("unknown", "struct X;", &[]).len(), 1);
    assert_eq!(found("issuer", "use super::reloader::X;", &[("issuer", "reloader")]).len(), 0);
    assert_eq!(found("issuer", "", &[("issuer", "reloader")]).len(), 1);
    assert_eq!(found("issuer", "use crate::client::X;\nuse super::Daemon;", &[]).len(), 0);
    assert_eq!(found("status", "use super::issuer::X;", &[]).len(), 0);
    assert_eq!(found("mod", "mod issuer;\nuse issuer::X;\nuse status::Y;", &[]).len(), 0);
    let tests = "#[cfg(test)]\nmod tests { use crate::daemon::reloader::X; }";
    assert_eq!(found("issuer", tests, &[]).len(), 0);
}

#[test]
fn cycles_are_found() {
    let a = ("src/http/a.rs", "use super::b::B;");
    let b = ("src/http/b.rs", "impl crate::http::c::C {}");
    let c = (
        "src/http/c.rs",
        "use crate::{\n    time::{\n        T as U,\n    },\n    http::{a::{A, X}},\n};",
    );
    let ba = ("src/http/b.rs", "fn f() -> super::a::A {}");
    let found = |files: &[_], known: &[_]| cycle_findings(&plant(files), known);
    let two = "src/http/a.rs -> src/http/b.rs -> src/http/a.rs";
    let three = "src/http/a.rs -> src/http/b.rs -> src/http/c.rs -> src/http/a.rs";
    assert_eq!(found(&[a, ba, c], &[]), [two]);
    assert_eq!(found(&[a, b, c], &[]), [three]);
    assert_eq!(found(&[a, ba], &[a.0, b.0]).len(), 0);
    assert_eq!(found(&[a, b], &[a.0]), ["src/http/a.rs is in no cycle: unlist it"]);
    let tests = ("src/http/b.rs", "#[cfg(test)]\nmod tests { use super::super::a::A; }");
    assert_eq!(found(&[a, tests], &[]).len(), 0);
}

#[test]
fn imports_are_resolved() {
    let parent =
        ("src/http/mod.rs", "mod a;\npub use a::A;\nfn f() { self::b::c::g(); other::h(); }");
    let child =
        ("src/http/a.rs", "use super::Http;\nuse crate::b::X;\nfn f() -> impl X + use<'a> {}");
    let others =
        ["src/lib.rs", "src/http/b.rs", "src/http/b/c.rs", "src/b.rs"].map(|path| (path, ""));
    let sources = plant(&[&[parent, child], &others[..]].concat());
    let imports = imports(&sources, false);
    let of = |path| Vec::from_iter(imports[path].iter().copied());
    assert_eq!(of(parent.0), ["src/http/a.rs", "src/http/b/c.rs"]);
    // Its parent is not counted.
    assert_eq!(of(child.0), ["src/b.rs"]);
    assert!(cycles(&imports).is_empty());
}

#[test]
fn long_files_lines_and_functions_are_found() {
    let file = |text: &str| plant(&[("tests/x.rs", text)]);
    assert_eq!(long_files_and_lines(&file(&"\n".repeat(501))), ["tests/x.rs: 501 lines"]);
    assert_eq!(long_files_and_lines(&file(&format!("\n{}", "ä".repeat(111)))).len(), 1);
    assert_eq!(
        long_files_and_lines(&file(&format!("{}{}", "\n".repeat(499), "ä".repeat(110)))).len(),
        0
    );
    let function = |lines: usize| {
        let body = "        g(\"}\");\n".repeat(lines - 2);
        file(&format!(
            "trait X {{\n    fn d(&self);\n    pub(super) fn read<T>() {{\n{body}    }}\n}}"
        ))
    };
    assert_eq!(long_functions(&function(71)), ["tests/x.rs:3: read has 71 lines"]);
    assert_eq!(long_functions(&function(70)).len(), 0);
}

#[test]
fn a_file_without_its_purpose_is_found() {
    let sources = plant(&[("src/a.rs", "use x;"), ("src/b.rs", "//! For b.")]);
    assert_eq!(files_without_purpose(&sources), ["src/a.rs: no //!"]);
}

#[test]
fn literals_are_blanked_and_lines_kept() {
    assert_eq!(blank_literals("a(\"b\nc\") // d\n'e' 'f: b'\\''"), "a(  \n  )     \n    'f: b    ");
}

#[test]
fn a_deliberate_bug_that_does_not_fit_is_found() {
    let sources = plant(&[("src/a.rs", "//! A.\n    f();\ng();\ng();\n")]);
    let found = |bug: &str| misfits(&[("x.bug".into(), bug.into())], &sources);
    let edit = |old| format!("A bug.\n--- src/a.rs\n{old}\n+++\nh();\n");
    assert_eq!(found(&edit("    f();\ng();")).len(), 0);
    assert_eq!(found(&edit("g();")), ["x.bug: the old lines occur 2 times in src/a.rs"]);
    // Only whole lines fit.
    assert_eq!(found(&edit("f();")), ["x.bug: the old lines occur 0 times in src/a.rs"]);
    assert_eq!(found("A bug.\n--- src/b.rs\nf();\n+++\n").len(), 1);
    assert_eq!(found("A bug.\n--- src/a.rs\n    f();\n+++\n    f();\n").len(), 1);
    assert_eq!(found("A bug.\n--- src/a.rs\n    f();\n").len(), 1);
    let two = "A bug.\n--- src/a.rs\n    f();\n+++\n--- src/a.rs\n//! A.\n+++\n//! B.\n";
    assert_eq!(found(two).len(), 0);
    assert_eq!(found("A bug.\n").len(), 1);
}
