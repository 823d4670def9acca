//! HAProxy's configuration: what is read of it does not hang on its layout, and names only what is there.

use marathon_acme::lb::configuration::{Configuration, Route};

/// The text of a configuration.
pub fn run(bytes: &[u8]) {
    // A line's end is a matter of `lines`, which takes CR LF for one and CR for none.
    let text = String::from_utf8_lossy(bytes).replace('\r', " ");
    let configuration = Configuration::parse(&text);
    let laid_out: String =
        text.lines().flat_map(|line| ["\t", line, "\n  # nothing\n\n"]).collect();
    assert_eq!(Configuration::parse(&laid_out), configuration, "the layout says something");
    let paths = configuration.certificate_paths();
    for (index, path) in paths.iter().enumerate() {
        assert!(!paths[..index].contains(path), "{path} twice");
    }
    if let Route::Rule(rule) = configuration.challenge_route() {
        assert!(text.contains("use_backend") || text.contains(['"', '\'', '\\']));
        assert!(rule.servers <= text.lines().count());
        assert!(rule.behind.len() <= text.len(), "more rules than words");
    }
}
