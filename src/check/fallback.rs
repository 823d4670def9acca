//! Whether a load balancer loads `default.pem`, by its configuration. Asks nobody.

use std::path::Path;

use super::listed;
use super::report::Finding;

/// The file that HAProxy has to load while `certs/` is empty.
const FALLBACK: &str = "default.pem";

/// A warning where these paths have our certificates and not `default.pem`. Paths are those inside a
/// container, so only their last parts count.
pub(super) fn finding(loaded: &[&str], storage_dir: &Path) -> Option<Finding> {
    // A load balancer that loads none of our files is told to load both.
    let has = |name: &str| loaded.iter().any(|path| is_named(path, name));
    if !has("certs") || has(FALLBACK) {
        return None;
    }
    let dir = storage_dir.display();
    let others: Vec<&str> = loaded.iter().copied().filter(|it| !is_named(it, "certs")).collect();
    let effect = if others.is_empty() {
        "HAProxy does not start while certs/ is empty".to_string()
    } else {
        format!("while certs/ is empty, {} is served", listed(&others))
    };
    let seen = format!("does not load {FALLBACK}: {effect}");
    let remedy = format!("start marathon-lb with --ssl-certs {dir}/certs,{dir}/{FALLBACK}");
    Some(Finding::warn("lb", seen, remedy))
}

fn is_named(path: &str, name: &str) -> bool {
    Path::new(path).file_name().is_some_and(|it| it == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_balancer_without_the_fallback_is_warned_of() {
        let storage = Path::new("/st");
        let seen = |loaded: &[&str]| finding(loaded, storage).map(|it| it.seen);
        assert_eq!(seen(&["/st/certs", "/st/default.pem"]), None);
        assert_eq!(seen(&["/x/certs/", "/y/default.pem"]), None);
        assert_eq!(seen(&["/etc/ssl/cert.pem"]), None);
        assert_eq!(seen(&[]), None);
        let alone = "does not load default.pem: HAProxy does not start while certs/ is empty";
        assert_eq!(seen(&["/st/certs"]).as_deref(), Some(alone));
        let other = "does not load default.pem: while certs/ is empty, /etc/ssl/cert.pem is served";
        assert_eq!(seen(&["/st/certs", "/etc/ssl/cert.pem"]).as_deref(), Some(other));
    }
}
