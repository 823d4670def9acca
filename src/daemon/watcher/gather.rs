//! From labels to certificates: what belongs together becomes one desired certificate. Pure, and the same
//! in whatever order Marathon lists the apps: a certificate that changed its name would be ordered again.
//! A certificate has names of one app only, so that no app can change what another one gets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::daemon::model::{DesiredCertificate, DesiredCertificates, Source};

use crate::domain::Domain;

use super::owners::{Holders, Owners, taken};
use super::parsed_app::Said;
use super::{Oddity, SkippedCounts};

/// How labels become certificates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grouping {
    /// `--san`: all names of a label are in one certificate, else each has its own.
    pub(super) together: bool,
    /// Names in one certificate.
    pub(super) names_max: usize,
    /// Names in all certificates.
    pub(super) domains_max: usize,
}

/// What came of the labels.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gathered {
    pub(super) certificates: DesiredCertificates,
    /// What an operator may not expect of them.
    pub(super) oddities: BTreeSet<Oddity>,
    /// Domains without a certificate.
    pub(super) skipped: SkippedCounts,
}

/// Labels that ask for one certificate.
#[derive(Debug)]
struct Group {
    names: Vec<Domain>,
    source: Source,
    /// The first of the labels.
    label: String,
}

/// The certificates that the apps ask for, by their first names, which name their files.
///
/// A domain that several apps ask for is that of the app that has it, else of the first one by id. Where
/// each domain has a certificate of its own, the apps share that one. In one app, labels with the same
/// first name are one desired certificate. A desired certificate whose names are all in another one is
/// dropped: the larger one does for both. What has more names than a certificate takes is split.
pub(super) fn gather(mut apps: Vec<&Said>, holders: &Holders, grouping: Grouping) -> Gathered {
    apps.sort_unstable();
    let mut gathered = Gathered::default();
    let mut owners = Owners::of(&apps, holders);
    let oddity = owners.limit(&apps, grouping.domains_max, &mut gathered.skipped);
    gathered.oddities.extend(oddity);
    if !grouping.together {
        let mut versions = BTreeMap::new();
        versions.extend(apps.iter().map(|app| (app.app.as_str(), app.version.as_str())));
        for (name, app, held) in owners.placed() {
            let version = versions.get(app).copied().unwrap_or_default();
            let is_same = |held: &&Arc<DesiredCertificate>| {
                let DesiredCertificate { names, source } = &***held;
                matches!(&names[..], [only] if only == name)
                    && source.app == app
                    && source.version == version
            };
            if let Some(held) = held.filter(is_same) {
                gathered.certificates.insert(name.clone(), Arc::clone(held));
                continue;
            }
            let source = Source { app: app.into(), version: version.into() };
            let desired = DesiredCertificate { names: vec![name.clone()], source };
            gathered.certificates.insert(name.clone(), desired.into());
        }
        return gathered;
    }
    let mut groups = merge(&apps, &owners, &mut gathered);
    absorb(&mut groups);
    split(groups, grouping.names_max.max(1), &mut gathered);
    holders.share(&mut gathered.certificates);
    gathered
}

/// Joins the labels of each app by their first names, without the domains of other apps.
fn merge(apps: &[&Said], owners: &Owners<'_>, gathered: &mut Gathered) -> BTreeMap<Domain, Group> {
    let mut groups: BTreeMap<Domain, Group> = BTreeMap::new();
    for app in apps {
        for label in &app.labels {
            let mut names = Vec::new();
            let mut others: BTreeMap<&str, Vec<&Domain>> = BTreeMap::new();
            for name in &label.names {
                match owners.app_of(name) {
                    Some(owner) if owner == app.app => names.push(name.clone()),
                    Some(owner) => others.entry(owner).or_default().push(name),
                    None => {}
                }
            }
            for (owner, names) in others {
                gathered.skipped.other_app += names.len();
                gathered.oddities.insert(taken(app, &label.label, owner, &names));
            }
            let Some(first) = names.first().cloned() else { continue };
            let group = groups.entry(first).or_insert_with(|| Group {
                names: Vec::new(),
                source: Source { app: app.app.clone(), version: app.version.clone() },
                label: label.label.clone(),
            });
            let known: BTreeSet<Domain> = group.names.iter().cloned().collect();
            group.names.extend(names.into_iter().filter(|name| !known.contains(name)));
        }
    }
    groups
}

/// Drops what another one does for.
fn absorb(groups: &mut BTreeMap<Domain, Group>) {
    // The usual case, which has nothing to compare: every certificate is for one name.
    if groups.values().all(|group| group.names.len() == 1) {
        return;
    }
    let mut sets: BTreeMap<Domain, BTreeSet<Domain>> = BTreeMap::new();
    for (key, group) in &*groups {
        sets.insert(key.clone(), group.names.iter().cloned().collect());
    }
    // What contains a group names its first name as well: only these have to be compared.
    let mut naming: BTreeMap<&Domain, Vec<&Domain>> = BTreeMap::new();
    for (key, set) in &sets {
        for name in set.iter().filter(|name| sets.contains_key(*name)) {
            naming.entry(name).or_default().push(key);
        }
    }
    for (key, set) in &sets {
        let does = |other: &&Domain| {
            let larger = &sets[*other];
            let wins = larger.len() > set.len() || (larger.len() == set.len() && *other < key);
            wins && set.is_subset(larger)
        };
        if naming[key].iter().any(does) {
            groups.remove(key);
        }
    }
}

/// Cuts what has too many names into pieces. Each is named after the first of its names that names no
/// other; when there is none, all of them are in certificates that bear their names, and the piece is
/// not needed.
fn split(groups: BTreeMap<Domain, Group>, names_max: usize, gathered: &mut Gathered) {
    let large = groups.values().any(|group| group.names.len() > names_max);
    let mut taken: BTreeSet<Domain> =
        if large { groups.keys().cloned().collect() } else { BTreeSet::new() };
    let certificates = &mut gathered.certificates;
    for (key, Group { names, source, label }) in groups {
        if names.len() <= names_max {
            certificates.insert(key, DesiredCertificate { names, source }.into());
            continue;
        }
        let mut pieces = names.chunks(names_max).map(<[Domain]>::to_vec);
        if let Some(names) = pieces.next() {
            certificates.insert(key, DesiredCertificate { names, source: source.clone() }.into());
        }
        let mut count = 1;
        for mut names in pieces {
            let Some(free) = names.iter().position(|name| !taken.contains(name)) else { continue };
            names[..=free].rotate_right(1);
            let first = names[0].clone();
            taken.insert(first.clone());
            certificates.insert(first, DesiredCertificate { names, source: source.clone() }.into());
            count += 1;
        }
        let asked = names.len();
        let text = format!(
            "{asked} domains are more than the {names_max} of one certificate: there are {count}"
        );
        gathered.oddities.insert(Oddity { app: source.app, label, text, hint: None });
    }
}

#[cfg(test)]
mod tests;
