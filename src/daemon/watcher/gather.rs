//! From labels to certificates: what belongs together becomes one wish. Pure, and the same in whatever
//! order Marathon lists the apps: a certificate that changed its name would be ordered anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::collect::{Collect, sorted};
use crate::daemon::wish::{Source, Wish, Wishes};
use crate::domain::Domain;

use super::Oddity;

/// Names in one certificate at most: a custom of CAs, and Let's Encrypt's rule. What a CA accepts with a
/// profile may be less; that is learned from its answer.
pub const NAMES_MAX: usize = 100;

/// What one label asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label {
    /// The app's id.
    pub(super) app: String,
    /// The port's index.
    pub(super) port_index: usize,
    /// The app's revision.
    pub(super) version: String,
    /// The label's name, for the log.
    pub(super) label: String,
    /// The names of one certificate, at least one, each once.
    pub(super) names: Vec<Domain>,
}

/// Labels that ask for one certificate.
#[derive(Debug)]
struct Group {
    names: Vec<Domain>,
    /// The first of the labels.
    app: String,
    label: String,
    /// The ids and versions of all apps that have a part in it.
    versions: Vec<(String, String)>,
}

/// The certificates that the labels ask for, by their first names, which name their files; and what
/// an operator may not expect of them.
///
/// Labels with the same first name are one wish. A wish whose names are all in another one is dropped:
/// the larger one does for both. What has more than `names_max` names is split.
pub(super) fn gather(labels: Vec<Label>, names_max: usize) -> (Wishes, BTreeSet<Oddity>) {
    let mut groups = merge(sorted(labels));
    absorb(&mut groups);
    split(groups, names_max.max(1))
}

/// Joins the labels, which are in order, by their first names.
fn merge(labels: Vec<Label>) -> BTreeMap<Domain, Group> {
    let mut groups: BTreeMap<Domain, Group> = BTreeMap::new();
    for Label { app, version, label, names, .. } in labels {
        let Some(first) = names.first().cloned() else { continue };
        let group = groups.entry(first).or_insert_with(|| Group {
            names: Vec::new(),
            app: app.clone(),
            label,
            versions: Vec::new(),
        });
        group.versions.push((app, version));
        if group.names.is_empty() {
            group.names = names;
            continue;
        }
        let known: BTreeSet<Domain> = group.names.iter().cloned().into_set();
        group.names.extend(names.into_iter().filter(|name| !known.contains(name)));
    }
    groups
}

/// Drops what another one does for. Its apps have a part in every one that does: when one of them
/// changes, an operator has acted.
fn absorb(groups: &mut BTreeMap<Domain, Group>) {
    // The usual case, which has nothing to compare: every certificate is for one name.
    if groups.values().all(|group| group.names.len() == 1) {
        return;
    }
    let sets: BTreeMap<Domain, BTreeSet<Domain>> = groups
        .iter()
        .map(|(key, group)| (key.clone(), group.names.iter().cloned().into_set()))
        .into_map();
    // What contains a group names its first name as well: only these have to be compared.
    let mut naming: BTreeMap<&Domain, Vec<&Domain>> = BTreeMap::new();
    for (key, set) in &sets {
        for name in set.iter().filter(|name| sets.contains_key(*name)) {
            naming.entry(name).or_default().push(key);
        }
    }
    for (key, set) in &sets {
        let does = |other: &&&Domain| {
            let larger = &sets[**other];
            let wins = larger.len() > set.len() || (larger.len() == set.len() && **other < key);
            wins && set.is_subset(larger)
        };
        let others: Vec<&Domain> = naming[key].iter().filter(does).copied().collect();
        if others.is_empty() {
            continue;
        }
        let Some(dropped) = groups.remove(key) else { continue };
        for other in others {
            // One that is dropped itself is missing here or will be; what contains it contains this.
            if let Some(group) = groups.get_mut(other) {
                group.versions.extend(dropped.versions.clone());
            }
        }
    }
}

/// Cuts what has too many names into pieces. Each is named after the first of its names that names no
/// other; when there is none, all of them are in certificates that bear their names, and the piece is
/// not needed.
fn split(groups: BTreeMap<Domain, Group>, names_max: usize) -> (Wishes, BTreeSet<Oddity>) {
    let large = groups.values().any(|group| group.names.len() > names_max);
    let mut taken: BTreeSet<Domain> =
        if large { groups.keys().cloned().into_set() } else { BTreeSet::new() };
    let (mut certificates, mut oddities) = (Wishes::new(), BTreeSet::new());
    for (key, group) in groups {
        let source = Source { app: group.app, version: version(group.versions) };
        if group.names.len() <= names_max {
            certificates.insert(key, Wish { names: group.names, source }.into());
            continue;
        }
        let mut pieces = group.names.chunks(names_max).map(<[Domain]>::to_vec);
        if let Some(names) = pieces.next() {
            certificates.insert(key, Wish { names, source: source.clone() }.into());
        }
        let mut count = 1;
        for mut names in pieces {
            let Some(free) = names.iter().position(|name| !taken.contains(name)) else { continue };
            names[..=free].rotate_right(1);
            let first = names[0].clone();
            taken.insert(first.clone());
            certificates.insert(first, Wish { names, source: source.clone() }.into());
            count += 1;
        }
        let asked = group.names.len();
        let text = format!(
            "{asked} domains are more than the {names_max} of one certificate: there are {count}"
        );
        oddities.insert(Oddity { app: source.app, label: group.label, text, hint: None });
    }
    (certificates, oddities)
}

/// What changes when any of the apps does: their revisions, in the order of their ids.
fn version(versions: Vec<(String, String)>) -> String {
    let versions = versions.into_iter().into_set();
    let versions: Vec<String> = versions.into_iter().map(|(_, version)| version).collect();
    versions.join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    /// A label of version `v` and the app's id; names are separated by white space, without `.org`.
    fn label(app: &str, port_index: usize, names: &str) -> Label {
        let names = names.split_whitespace().map(|name| domain(&format!("{name}.org")));
        let (version, label) = (format!("v{app}"), format!("MARATHON_ACME_{port_index}_DOMAIN"));
        Label { app: app.into(), port_index, version, label, names: names.collect() }
    }

    /// `key: names (app version)` of each wish; always the same, in whatever order the labels come.
    fn gathered(labels: &[Label], names_max: usize) -> Vec<String> {
        let (certificates, oddities) = gather(labels.to_vec(), names_max);
        let mut turned = labels.to_vec();
        for _ in labels {
            turned.rotate_left(1);
            assert_eq!(gather(turned.clone(), names_max), (certificates.clone(), oddities.clone()));
            let reversed = turned.iter().rev().cloned().collect();
            assert_eq!(gather(reversed, names_max), (certificates.clone(), oddities.clone()));
        }
        let show = |(key, wish): (&Domain, &Arc<Wish>)| {
            assert_eq!((key, wish.names.len() <= names_max), (&wish.names[0], true));
            let names: Vec<&str> =
                wish.names.iter().map(|name| name.as_str().trim_end_matches(".org")).collect();
            format!("{}: {} ({})", wish.source.app, names.join(" "), wish.source.version)
        };
        let mut lines: Vec<String> = certificates.iter().map(show).collect();
        lines
            .extend(oddities.into_iter().map(|it| format!("{} {}: {}", it.app, it.label, it.text)));
        lines
    }

    #[test]
    fn labels_with_one_first_name_are_one_wish_of_the_first_app() {
        let labels = [label("/b", 0, "a c b"), label("/a", 1, "a d"), label("/a", 0, "a b")];
        assert_eq!(gathered(&labels, 100), ["/a: a b d c (v/a v/b)"]);
        let mut restarted = labels.clone();
        restarted[0].version = "new".into();
        assert_eq!(gathered(&restarted, 100), ["/a: a b d c (v/a new)"]);
    }

    #[test]
    fn what_is_in_another_one_is_dropped_and_its_app_still_has_a_part() {
        let labels = [label("/a", 0, "b"), label("/b", 0, "a b c"), label("/c", 0, "x")];
        assert_eq!(gathered(&labels, 100), ["/b: a b c (v/a v/b)", "/c: x (v/c)"]);
        // In two at once, and in one that is dropped itself.
        let labels = [label("/a", 0, "b"), label("/b", 0, "a b"), label("/c", 0, "c b a")];
        assert_eq!(gathered(&labels, 100), ["/c: c b a (v/a v/b v/c)"]);
        let labels = [label("/a", 0, "c"), label("/b", 0, "a c"), label("/c", 0, "b c")];
        assert_eq!(gathered(&labels, 100), ["/b: a c (v/a v/b)", "/c: b c (v/a v/c)"]);
        // The same names in another order.
        let labels = [label("/a", 0, "b a"), label("/b", 0, "a b")];
        assert_eq!(gathered(&labels, 100), ["/b: a b (v/a v/b)"]);
        // What only overlaps stays.
        let labels = [label("/a", 0, "a b"), label("/b", 0, "b c")];
        assert_eq!(gathered(&labels, 100), ["/a: a b (v/a)", "/b: b c (v/b)"]);
    }

    #[test]
    fn too_many_names_are_split_and_every_piece_has_a_name_of_its_own() {
        let odd = |count: usize| {
            let text = "5 domains are more than the 2 of one certificate: there are";
            format!("/a MARATHON_ACME_0_DOMAIN: {text} {count}")
        };
        let labels = [label("/a", 0, "e d c b a")];
        let expected = ["/a: a (v/a)", "/a: c b (v/a)", "/a: e d (v/a)"];
        let lines = gathered(&labels, 2);
        assert_eq!((&lines[..3], lines[3].clone()), (&expected.map(String::from)[..], odd(3)));
        // The second piece may not be called c.
        let labels = [label("/a", 0, "e d c b a"), label("/b", 0, "c x")];
        let expected = ["/a: a (v/a)", "/a: b c (v/a)", "/b: c x (v/b)", "/a: e d (v/a)"];
        assert_eq!(gathered(&labels, 2)[..4], expected);
        // Nor b: both have certificates of their names.
        let labels = [label("/a", 0, "e d c b a"), label("/b", 0, "c x"), label("/c", 0, "b y")];
        let lines = gathered(&labels, 2);
        let expected = ["/a: a (v/a)", "/c: b y (v/c)", "/b: c x (v/b)", "/a: e d (v/a)"];
        assert_eq!((&lines[..4], lines[4].clone()), (&expected.map(String::from)[..], odd(2)));
        assert!(gathered(&[label("/a", 0, "a b")], 2).len() == 1, "as many as fit are one");
    }

    #[test]
    fn every_name_is_in_a_certificate_whatever_is_asked() {
        let mut chance = 1_u64;
        let mut draw = |below: usize| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(chance >> 33).unwrap() % below
        };
        for _ in 0..500 {
            let mut labels = Vec::new();
            for app in 0..draw(6) {
                let mut names = Vec::new();
                for _ in 0..=draw(7) {
                    let name = format!("n{}", draw(9));
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                labels.push(label(&format!("/{app}"), draw(2), &names.join(" ")));
            }
            let names_max = 1 + draw(4);
            gathered(&labels, names_max);
            let asked: BTreeSet<Domain> = labels.iter().flat_map(|it| it.names.clone()).collect();
            let (certificates, _) = gather(labels, names_max);
            let given: BTreeSet<Domain> =
                certificates.into_values().flat_map(|wish| wish.names.clone()).collect();
            assert_eq!(asked, given);
        }
    }
}
