//! What each app of the last list said. An app whose bytes were in that list says the same again: nothing
//! is read of it and no memory taken for it. Pure; never takes half a list for what the apps say.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::collect::sorted;
use crate::marathon::{App, AppError, Claim, Selection, claims};

use super::gather::{Label, gather};
use super::{Oddity, Wanted};

/// What stands for an app's bytes.
type Digest = [u8; SHA256_OUTPUT_LEN];

/// The apps of the list that is being read, and of the one before.
#[derive(Debug, Default)]
pub(super) struct Known {
    apps: BTreeMap<Digest, Seen>,
    /// Counts the lists.
    list: u64,
    /// Apps in this list so far.
    count: usize,
    /// The last list that was whole, and how many apps it had.
    last: Option<(u64, usize)>,
}

#[derive(Debug)]
struct Seen {
    /// The first list that had it, and the last one.
    first: u64,
    last: u64,
    said: Said,
}

/// What one app asks for, and what of it was passed over.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    labels: Vec<Label>,
    oddities: Vec<Oddity>,
    rejected_domains: usize,
}

impl Known {
    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.list += 1;
        self.count = 0;
    }

    /// Adds what one app asks for. One that cannot be read is passed over.
    pub(super) fn add(&mut self, app: Result<&[u8], AppError>, group: &str, selection: Selection) {
        self.count += 1;
        let list = self.list;
        // One without bytes is none that was read.
        let bytes = app.as_ref().copied().unwrap_or_default();
        let key = Digest::try_from(digest(&SHA256, bytes).as_ref()).unwrap_or_default();
        let read = || {
            let said = Said::of(app.and_then(App::parse), group, selection);
            Seen { first: list, last: list, said }
        };
        self.apps.entry(key).or_insert_with(read).last = list;
    }

    /// The list was whole; what it says, unless that is what the one before said. Members that say
    /// nothing to us, such as the number of tasks, change all the time: what counts is what was read.
    pub(super) fn end(&mut self, names_max: usize) -> Option<Wanted> {
        let list = self.list;
        let gone = self.apps.extract_if(.., |_, app| app.last < list);
        let gone: Vec<Said> = gone.map(|(_, app)| app.said).collect();
        let new = self.apps.values().filter(|app| app.first == list);
        let new: Vec<&Said> = new.map(|app| &app.said).collect();
        let same = sorted(new) == sorted(gone.iter().collect());
        let same = self.last.replace((list, self.count)).is_some() && same;
        if same { None } else { self.last(names_max) }
    }

    /// What the last whole list says, also while the next one is being read.
    pub(super) fn last(&self, names_max: usize) -> Option<Wanted> {
        let (list, count) = self.last?;
        let said = || self.apps.values().filter(|app| app.first <= list).map(|app| &app.said);
        let labels = said().flat_map(|said| &said.labels).cloned().collect();
        let (certificates, odd_groups) = gather(labels, names_max);
        let mut oddities: BTreeSet<Oddity> = odd_groups;
        oddities.extend(said().flat_map(|said| &said.oddities).cloned());
        let rejected_domains = said().map(|said| said.rejected_domains).sum();
        Some(Wanted { certificates, oddities, rejected_domains, apps: count })
    }

    /// The list broke off: what was read of it does not count.
    pub(super) fn forget(&mut self) {
        *self = Known::default();
    }
}

impl Said {
    fn of(app: Result<App, AppError>, group: &str, selection: Selection) -> Said {
        let app = match app {
            Ok(app) => app,
            Err(error) => {
                let (app, label) = (error.app().to_string(), String::new());
                let text = format!("app passed over: {error}");
                let oddities = vec![Oddity { app, label, text, hint: None }];
                return Said { oddities, ..Said::default() };
            }
        };
        let claims = claims(&app, group, selection);
        let mut said = Said { rejected_domains: claims.rejected.len(), ..Said::default() };
        for rejected in claims.rejected {
            let text = format!("domain {:?} passed over: {}", rejected.text, rejected.reason);
            let (app, label) = (rejected.app, rejected.label);
            said.oddities.push(Oddity { app, label, text, hint: None });
        }
        for notice in claims.notices {
            let (app, label) = (notice.app().to_string(), notice.label().to_string());
            let (text, hint) = (notice.to_string(), notice.hint());
            said.oddities.push(Oddity { app, label, text, hint });
        }
        // Kept as long as the app lives: without room for more.
        said.labels.reserve_exact(claims.certificates.len());
        for Claim { port_index, label, mut names } in claims.certificates {
            let (app, version) = (app.id.clone(), app.revision.clone());
            names.shrink_to_fit();
            said.labels.push(Label { app, port_index, version, label, names });
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One list; whether it says something new.
    fn is_news(known: &mut Known, apps: &[&str]) -> bool {
        known.begin();
        apps.iter().for_each(|app| known.add(Ok(app.as_bytes()), "external", Selection::First));
        known.end(100).is_some()
    }

    fn app(id: &str, domain: &str, tasks: usize) -> String {
        format!(
            r#"{{"id":"/{id}","version":"1","portDefinitions":[{{}}],"tasksRunning":{tasks},
            "labels":{{"HAPROXY_GROUP":"external","MARATHON_ACME_0_DOMAIN":"{domain}"}}}}"#
        )
    }

    #[test]
    fn only_what_is_asked_for_otherwise_is_news() {
        let (a, b) = (app("a", "a.org", 1), app("b", "b.org", 1));
        let mut known = Known::default();
        assert!(is_news(&mut known, &[]), "the first list, though it is empty");
        assert!(!is_news(&mut known, &[]));
        assert!(is_news(&mut known, &[&a, &b]));
        assert!(!is_news(&mut known, &[&b, &a]), "in another order");
        assert!(!is_news(&mut known, &[&a, &app("b", "b.org", 2)]), "with another task");
        assert!(!is_news(&mut known, &[&a, &b]));
        assert!(is_news(&mut known, &[&a, &app("b", "c.org", 1)]));
        assert!(is_news(&mut known, &[&a]));
        assert!(is_news(&mut known, &[]));
        assert!(known.apps.is_empty(), "what is gone is not kept");
    }

    /// A CA says that it accepts fewer names while the next list is being read.
    #[test]
    fn the_last_whole_list_can_be_split_anew_at_any_time() {
        let sized = |known: &Known| known.last(1).map(|it| (it.certificates.len(), it.apps));
        let mut known = Known::default();
        let read = |known: &mut Known, app: &str| {
            known.add(Ok(app.as_bytes()), "external", Selection::Together);
        };
        known.begin();
        assert_eq!(sized(&known), None);
        read(&mut known, &app("a", "a.org b.org c.org", 1));
        assert_eq!(sized(&known), None, "it is not whole");
        assert_eq!(known.end(100).map(|it| it.certificates.len()), Some(1));
        assert_eq!(sized(&known), Some((3, 1)));
        known.begin();
        read(&mut known, &app("b", "d.org", 1));
        assert_eq!(sized(&known), Some((3, 1)), "as before, until it is whole");
        read(&mut known, &app("a", "a.org", 1));
        assert_eq!(known.end(1).map(|it| it.certificates.len()), Some(2));
        assert_eq!(sized(&known), Some((2, 2)));
        known.forget();
        assert_eq!(sized(&known), None);
    }

    #[test]
    fn a_list_that_breaks_off_hides_no_news() {
        let (a, b) = (app("a", "a.org", 1), app("b", "b.org", 1));
        let mut known = Known::default();
        assert!(is_news(&mut known, &[&a]));
        known.begin();
        known.add(Ok(b.as_bytes()), "external", Selection::First);
        known.forget();
        assert!(is_news(&mut known, &[&b]));
        known.forget();
        assert!(is_news(&mut known, &[]));
    }
}
