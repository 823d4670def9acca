//! What each app of the last list said. An app whose bytes were in that list says the same again: nothing
//! is read of it and no memory taken for it. Pure; never takes half a list for what the apps say.
//!
//! Memory is bounded whatever Marathon lists: of all domains only so many are kept, and of the apps beyond
//! them how many they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::acme::order::NAMES_MAX;
use crate::config::{Config, DOMAINS_MAX};
use crate::marathon::{App, AppError, Selection};

use super::gather::{Gathered, Grouping, gather};
use super::owners::Holders;
use super::parsed_app::{LabelRules, Said};
use super::{SkippedCounts, Wanted};

/// Domains of all apps that are kept, each as often as a label has it: apps that ask for the same domains,
/// as in a deployment that replaces one by another, are no reason to leave any out.
const KEPT_MAX: usize = 2 * DOMAINS_MAX;

/// What stands for an app's bytes.
type Digest = [u8; SHA256_OUTPUT_LEN];

/// How apps are read.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    labels: LabelRules,
    kept_max: usize,
    grouping: Grouping,
}

/// The apps of the list that is being read, and of the one before.
#[derive(Debug, Default)]
pub(super) struct Known {
    apps: BTreeMap<Digest, Seen>,
    /// The apps of this list, once it has too many domains; those last that are the first to lose their
    /// place: an app that has no domain yet comes behind those that have one.
    ranked: BTreeSet<(Rank, Digest)>,
    /// The first that lost its place; all behind it have none either.
    beyond: Option<Rank>,
    /// Domains of this list that are kept.
    kept: usize,
    /// Counts the lists.
    list: u64,
    /// Apps in this list so far.
    count: usize,
    /// The last list that was whole, and how many apps it had.
    last: Option<(u64, usize)>,
}

/// Whether an app has none of its domains yet, and its id.
type Rank = (bool, String);

#[derive(Debug)]
struct Seen {
    /// The first list that had it, and the last one.
    first: u64,
    last: u64,
    said: Said,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Rules {
        let selection = config.into();
        let grouping = Grouping {
            together: selection == Selection::Together,
            names_max: NAMES_MAX,
            domains_max: DOMAINS_MAX,
        };
        let (group, domains_per_app) = (config.group.clone(), config.max_domains_per_app);
        let labels = LabelRules { group, selection, domains_per_app };
        Rules { labels, kept_max: KEPT_MAX, grouping }
    }
}

impl Rules {
    /// One certificate has no more names from now on; whether that is fewer than before.
    pub(super) fn limit_names(&mut self, names_max: usize) -> bool {
        let is_less = names_max < self.grouping.names_max;
        self.grouping.names_max = self.grouping.names_max.min(names_max);
        is_less
    }
}

impl Known {
    /// A list begins.
    pub(super) fn begin(&mut self) {
        if self.beyond.take().is_some() {
            // Who has a place may be decided otherwise now, so that all have to be read again.
            self.apps.clear();
            self.last = None;
        }
        self.ranked.clear();
        (self.kept, self.count) = (0, 0);
        self.list += 1;
    }

    /// Adds what one app asks for. One that cannot be read is skipped.
    pub(super) fn add(&mut self, app: Result<&[u8], AppError>, rules: &Rules, holders: &Holders) {
        self.count += 1;
        let list = self.list;
        // One without bytes is none that was read.
        let bytes = app.as_ref().copied().unwrap_or_default();
        let key = Digest::try_from(digest(&SHA256, bytes).as_ref()).unwrap_or_default();
        let read = || {
            let said = Said::of(app.and_then(App::parse), &rules.labels);
            Seen { first: list, last: 0, said }
        };
        let seen = self.apps.entry(key).or_insert_with(read);
        if std::mem::replace(&mut seen.last, list) == list {
            return;
        }
        self.kept += seen.said.domains();
        if self.beyond.is_some() {
            self.ranked.insert((rank(&seen.said, holders), key));
            self.shed(rules.kept_max);
        } else if self.kept > rules.kept_max {
            self.rank(holders);
            self.shed(rules.kept_max);
        }
    }

    /// Ranks the apps of this list: before there are too many domains nothing is spent on that.
    fn rank(&mut self, holders: &Holders) {
        let listed = self.apps.iter().filter(|(_, app)| app.last == self.list);
        self.ranked.clear();
        self.ranked.extend(listed.map(|(key, app)| (rank(&app.said, holders), *key)));
    }

    /// Lets go of the domains that are more than `kept_max`. What is left is the same in whatever order
    /// the apps come: behind the first that has no place, none has one.
    fn shed(&mut self, kept_max: usize) {
        while let Some((rank, _)) = self.ranked.last()
            && (self.kept > kept_max || self.beyond.as_ref().is_some_and(|beyond| rank >= beyond))
            && let Some((rank, key)) = self.ranked.pop_last()
        {
            if let Some(seen) = self.apps.get_mut(&key) {
                self.kept -= seen.said.domains();
                seen.said.shed();
            }
            self.beyond = Some(self.beyond.take().map_or(rank.clone(), |it| it.min(rank)));
        }
    }

    /// The list was whole; what it says, unless that is what the one before said. Members that say
    /// nothing to us, such as the number of tasks, change all the time: what counts is what was read.
    pub(super) fn end(&mut self, rules: &Rules, holders: &Holders) -> Option<Wanted> {
        let list = self.list;
        let gone = self.apps.extract_if(.., |_, app| app.last < list);
        let gone: Vec<Said> = gone.map(|(_, app)| app.said).collect();
        let mut gone: Vec<&Said> = gone.iter().collect();
        let new = self.apps.values().filter(|app| app.first == list);
        let mut new: Vec<&Said> = new.map(|app| &app.said).collect();
        gone.sort_unstable();
        new.sort_unstable();
        let same = self.last.replace((list, self.count)).is_some() && new == gone;
        if same { None } else { self.last(rules, holders) }
    }

    /// What the last whole list says, also while the next one is being read.
    pub(super) fn last(&self, rules: &Rules, holders: &Holders) -> Option<Wanted> {
        let (list, count) = self.last?;
        if list != self.list && self.beyond.is_some() {
            // What the next one has no room for is forgotten of the last one, too.
            return None;
        }
        let said = || self.apps.values().filter(|app| app.first <= list).map(|app| &app.said);
        let gathered = gather(said().collect(), holders, rules.grouping);
        let Gathered { certificates, mut oddities, skipped } = gathered;
        oddities.extend(said().flat_map(|said| &said.oddities).cloned());
        let rejected_domains = said().map(|said| said.rejected_domains).sum();
        let app_limit = said().map(|said| said.skipped).sum();
        let skipped = SkippedCounts { app_limit, ..skipped };
        let certificates = Arc::new(certificates);
        Some(Wanted { certificates, oddities, rejected_domains, skipped, apps: count })
    }

    /// The list broke off: what was read of it does not count.
    pub(super) fn forget(&mut self) {
        *self = Known::default();
    }
}

fn rank(app: &Said, holders: &Holders) -> Rank {
    let mut names = app.labels.iter().flat_map(|label| &label.names);
    let has_any = names.any(|name| holders.app_of(name) == Some(&app.app));
    (!has_any, app.app.clone())
}

#[cfg(test)]
mod tests {
    use super::super::Oddity;
    use super::*;

    fn rules() -> Rules {
        Rules::from(&crate::testing::config())
    }

    /// One list; whether it says something new.
    fn is_news(known: &mut Known, apps: &[&str]) -> bool {
        known.begin();
        let (rules, holders) = (rules(), Holders::default());
        apps.iter().for_each(|app| known.add(Ok(app.as_bytes()), &rules, &holders));
        known.end(&rules, &holders).is_some()
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
        let holders = Holders::default();
        let whole = Rules::from(&Config { san: true, ..crate::testing::config() });
        let mut split = whole.clone();
        assert!(split.limit_names(1) && !split.limit_names(1));
        let sized =
            |known: &Known| known.last(&split, &holders).map(|it| (it.certificates.len(), it.apps));
        let mut known = Known::default();
        let read = |known: &mut Known, app: &str| known.add(Ok(app.as_bytes()), &whole, &holders);
        known.begin();
        assert_eq!(sized(&known), None);
        read(&mut known, &app("a", "a.org b.org c.org", 1));
        assert_eq!(sized(&known), None, "it is not whole");
        assert_eq!(known.end(&whole, &holders).map(|it| it.certificates.len()), Some(1));
        assert_eq!(sized(&known), Some((3, 1)));
        known.begin();
        read(&mut known, &app("b", "d.org", 1));
        assert_eq!(sized(&known), Some((3, 1)), "as before, until it is whole");
        read(&mut known, &app("a", "a.org", 1));
        assert_eq!(known.end(&split, &holders).map(|it| it.certificates.len()), Some(2));
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
        known.add(Ok(b.as_bytes()), &rules(), &Holders::default());
        known.forget();
        assert!(is_news(&mut known, &[&b]));
        known.forget();
        assert!(is_news(&mut known, &[]));
    }

    /// What one list says, and how many domains are kept of it.
    fn read(
        known: &mut Known,
        apps: &[String],
        rules: &Rules,
        holders: &Holders,
    ) -> (Option<Wanted>, usize) {
        known.begin();
        apps.iter().for_each(|app| known.add(Ok(app.as_bytes()), rules, holders));
        let wanted = known.end(rules, holders);
        let kept = known.apps.values().map(|seen| seen.said.domains()).sum();
        (wanted, kept)
    }

    #[test]
    fn of_too_many_domains_the_same_are_kept_in_whatever_order_they_come() {
        let base = rules();
        let grouping = Grouping { domains_max: 4, ..base.grouping };
        let labels = LabelRules { selection: Selection::Each, ..base.labels };
        let rules = Rules { labels, kept_max: 8, grouping };
        let lists: Vec<String> = ["ab", "cde", "fg", "hij", "k"]
            .iter()
            .map(|letters| {
                let names: Vec<String> = letters.chars().map(|it| format!("{it}.org")).collect();
                app(letters, &names.join(","), 1)
            })
            .collect();
        let holders = Holders::default();
        let (wanted, kept) = read(&mut Known::default(), &lists, &rules, &holders);
        let wanted = wanted.expect("the first list is news");
        let names = |wanted: &Wanted| -> Vec<String> {
            wanted.certificates.keys().map(ToString::to_string).collect()
        };
        assert_eq!(names(&wanted), ["a.org", "b.org", "c.org", "d.org"]);
        assert_eq!((kept, wanted.skipped.total_limit), (7, 7));
        let text = "7 domains skipped: all apps together have more than 4: ";
        let texts: Vec<&str> = wanted.oddities.iter().map(|it| it.text.as_str()).collect();
        assert!(matches!(texts[..], [one] if one.starts_with(text)), "{texts:?}");
        let mut turned = lists.clone();
        for _ in &lists {
            turned.rotate_left(1);
            for list in [turned.clone(), turned.iter().rev().cloned().collect()] {
                let mut known = Known::default();
                let (again, kept) = read(&mut known, &list, &rules, &holders);
                assert_eq!((again, kept), (Some(wanted.clone()), 7));
                let (again, kept) = read(&mut known, &lists, &rules, &holders);
                assert_eq!((again, kept), (Some(wanted.clone()), 7), "and in the next list");
            }
        }
        // An app that has domains keeps them, even when another app comes first by id.
        let holders = Holders::of(wanted.certificates.clone());
        let newcomers: Vec<String> =
            lists.iter().cloned().chain([app("0", "x.org,y.org,z.org", 1)]).collect();
        let (again, _) = read(&mut Known::default(), &newcomers, &rules, &holders);
        assert_eq!(names(&again.expect("news")), names(&wanted));
    }

    #[test]
    fn an_app_with_too_many_domains_is_warned_of_once() {
        let base = rules();
        let (selection, domains_per_app) = (Selection::Each, 2);
        let labels = LabelRules { selection, domains_per_app, ..base.labels };
        let rules = Rules { labels, ..base };
        let list = [app("a", "a.org,b.org,c.org,d.org", 1), app("b", "e.org", 1)];
        let (wanted, _) = read(&mut Known::default(), &list, &rules, &Holders::default());
        let wanted = wanted.expect("news");
        assert_eq!((wanted.certificates.len(), wanted.skipped.app_limit), (3, 2));
        let oddities: Vec<&Oddity> = wanted.oddities.iter().collect();
        let [oddity] = oddities[..] else { panic!("{oddities:?}") };
        assert_eq!((&*oddity.app, &*oddity.label), ("/a", "MARATHON_ACME_0_DOMAIN"));
        let text = "2 domains skipped: the app has more than 2 (--max-domains-per-app): \
                    MARATHON_ACME_0_DOMAIN (2)";
        assert_eq!(oddity.text, text);
    }
}
