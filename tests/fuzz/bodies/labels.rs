//! Labels of an app: every claim is for a port that there is and for names that can be certified, and
//! the three ways to choose among several names agree with each other.

use std::collections::BTreeMap;

use marathon_acme::config::DOMAINS_PER_APP;
use marathon_acme::domain::Domain;
use marathon_acme::marathon::{App, Claims, Selection, claims};

/// The first byte is the number of ports; each line behind it a label, `name=value`.
pub fn run(bytes: &[u8]) {
    let [ports, bytes @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(bytes);
    let label = |line: &str| Some(line.split_once('=')?).map(|(a, b)| (a.into(), b.into()));
    let labels: BTreeMap<String, String> = text.split('\n').filter_map(label).collect();
    let ports = usize::from(*ports);
    let app = App { id: "/a\nb".into(), revision: String::new(), ports, labels };
    let ask = |selection| claims(&app, "external", selection, DOMAINS_PER_APP);
    let [first, each, together] = [Selection::First, Selection::Each, Selection::Together].map(ask);
    for claims in [&first, &each, &together] {
        check(claims, &app);
    }
    assert!(each.certificates.iter().all(|claim| claim.names.len() == 1));
    assert_eq!(names(&each), names(&together), "other names alone than together");
    let of_first = names(&first);
    for (port, names) in &of_first {
        assert_eq!(names.len(), 1);
        assert_eq!(names[0], self::names(&each)[port][0], "another one is first");
    }
    assert_eq!(each.rejected, together.rejected);
    let shows_all = each.rejected.len() == each.rejected_count;
    assert!(!shows_all || first.rejected.iter().all(|it| each.rejected.contains(it)));
}

fn names(claims: &Claims) -> BTreeMap<usize, Vec<Domain>> {
    let mut names: BTreeMap<usize, Vec<Domain>> = BTreeMap::new();
    for claim in &claims.certificates {
        names.entry(claim.port_index).or_default().extend(claim.names.iter().cloned());
    }
    names
}

fn check(claims: &Claims, app: &App) {
    let is_short = |text: &str| text.chars().count() <= 100 && !text.contains(char::is_control);
    for claim in &claims.certificates {
        assert!(claim.port_index < app.ports && !claim.names.is_empty());
        assert_eq!(claim.label, format!("MARATHON_ACME_{}_DOMAIN", claim.port_index));
    }
    for rejected in &claims.rejected {
        assert!(is_short(&rejected.app) && is_short(&rejected.label) && is_short(&rejected.text));
        assert!(!rejected.reason.to_string().is_empty());
    }
    for notice in &claims.notices {
        assert!(is_short(notice.app()) && is_short(notice.label()));
    }
}
