//! Labels in, certificates out: the same in whatever order the apps are listed.

use super::*;
use crate::daemon::watcher::parsed_app::Label;

fn domain(name: &str) -> Domain {
    Domain::parse(&format!("{name}.org")).unwrap()
}

fn names(list: &str) -> Vec<Domain> {
    list.split_whitespace().map(domain).collect()
}

/// An app of version `v` and its id; names are separated by white space, without `.org`.
fn app(id: &str, lists: &[&str]) -> Said {
    let label = |(port_index, list): (usize, &&str)| {
        let label = format!("MARATHON_ACME_{port_index}_DOMAIN");
        Label { port_index, label, names: names(list) }
    };
    let labels = lists.iter().enumerate().map(label).collect();
    let mut said = Said::default();
    (said.app, said.version, said.labels) = (id.into(), format!("v{id}"), labels);
    said
}

const TOGETHER: Grouping = Grouping { together: true, names_max: 100, domains_max: 1000 };
const EACH: Grouping = Grouping { together: false, ..TOGETHER };

/// Who has what already, as `app: names`.
fn holders(certificates: &[(&str, &str)]) -> Holders {
    let desired = |(app, list): &(&str, &str)| {
        let names = names(list);
        let source = Source { app: app.to_string(), version: String::new() };
        (names[0].clone(), Arc::new(DesiredCertificate { names, source }))
    };
    Holders::of(Arc::new(certificates.iter().map(desired).collect()))
}

fn show(certificates: &DesiredCertificates) -> Vec<String> {
    let show = |(key, desired): (&Domain, &Arc<DesiredCertificate>)| {
        assert_eq!(*key, desired.names[0]);
        assert_eq!(desired.source.version, format!("v{}", desired.source.app));
        let names: Vec<&str> =
            desired.names.iter().map(|name| name.as_str().trim_end_matches(".org")).collect();
        format!("{}: {}", desired.source.app, names.join(" "))
    };
    certificates.iter().map(show).collect()
}

/// What comes of the apps: always the same, in whatever order they come, and when it is asked again.
fn gathered(apps: &[Said], holders: &Holders, grouping: Grouping) -> Gathered {
    let result = gather(apps.iter().collect(), holders, grouping);
    assert!(result.certificates.values().all(|desired| desired.names.len() <= grouping.names_max));
    let mut turned = apps.to_vec();
    for _ in apps {
        turned.rotate_left(1);
        assert_eq!(gather(turned.iter().collect(), holders, grouping), result);
        assert_eq!(gather(turned.iter().rev().collect(), holders, grouping), result);
    }
    let again = Holders::of(Arc::new(result.certificates.clone()));
    assert_eq!(gather(apps.iter().collect(), &again, grouping), result, "who has it keeps it");
    result
}

/// `app: names` of each desired certificate, then what is odd.
fn lines(apps: &[Said], known: &[(&str, &str)], grouping: Grouping) -> Vec<String> {
    let Gathered { certificates, oddities, .. } = gathered(apps, &holders(known), grouping);
    let mut lines = show(&certificates);
    lines.extend(oddities.into_iter().map(|it| format!("{} {}: {}", it.app, it.label, it.text)));
    lines
}

fn taken_line(app: &str, owner: &str, names: &str) -> String {
    format!("{app} MARATHON_ACME_0_DOMAIN: domains skipped: app {owner} already has them: {names}")
}

#[test]
fn labels_of_one_app_with_one_first_name_are_one_wish() {
    assert_eq!(lines(&[app("/a", &["a c b", "a d"])], &[], TOGETHER), ["/a: a c b d"]);
}

#[test]
fn what_is_in_another_one_of_the_app_is_dropped() {
    assert_eq!(lines(&[app("/a", &["b", "a b c", "x"])], &[], TOGETHER), ["/a: a b c", "/a: x"]);
    // In two at once, and in one that is dropped itself.
    assert_eq!(lines(&[app("/a", &["b", "a b", "c b a"])], &[], TOGETHER), ["/a: c b a"]);
    let expected = ["/a: a c", "/a: b c"];
    assert_eq!(lines(&[app("/a", &["c", "a c", "b c"])], &[], TOGETHER), expected);
    // The same names in another order.
    assert_eq!(lines(&[app("/a", &["b a", "a b"])], &[], TOGETHER), ["/a: a b"]);
    // What only overlaps stays.
    assert_eq!(lines(&[app("/a", &["a b", "b c"])], &[], TOGETHER), ["/a: a b", "/a: b c"]);
}

#[test]
fn no_app_gets_a_name_into_anothers_certificate() {
    let victim = app("/victim", &["www pay"]);
    let evil = app("/aaa-evil", &["www evil"]);
    let had = [("/victim", "www pay")];
    let expected = [
        "/aaa-evil: evil".to_string(),
        "/victim: www pay".into(),
        taken_line("/aaa-evil", "/victim", "www.org"),
    ];
    assert_eq!(lines(&[victim.clone(), evil.clone()], &had, TOGETHER), expected);
    // A name that is not the first one, by which the certificate is not named.
    let greedy = app("/aaa-evil", &["evil pay", "pay"]);
    let found = gathered(&[victim.clone(), greedy], &holders(&had), TOGETHER);
    assert_eq!(show(&found.certificates), ["/aaa-evil: evil", "/victim: www pay"]);
    assert_eq!((found.oddities.len(), found.skipped.other_app), (2, 2));
    // Who asks for what nobody has is served in the order of the ids.
    let expected = [
        "/victim: pay".to_string(),
        "/aaa-evil: www evil".into(),
        taken_line("/victim", "/aaa-evil", "www.org"),
    ];
    assert_eq!(lines(&[victim, evil.clone()], &[], TOGETHER), expected);
    // Who had it is gone.
    assert_eq!(lines(&[evil], &had, TOGETHER), ["/aaa-evil: www evil"]);
}

#[test]
fn of_two_apps_with_one_label_the_other_takes_over_once_the_first_is_gone() {
    let (blue, green) = (app("/blue", &["a b"]), app("/green", &["a b"]));
    let both = [blue.clone(), green.clone()];
    for (owner, other) in [("/blue", "/green"), ("/green", "/blue")] {
        let expected = [format!("{owner}: a b"), taken_line(other, owner, "a.org, b.org")];
        assert_eq!(lines(&both, &[(owner, "a b")], TOGETHER), expected);
    }
    assert_eq!(lines(&[green], &[("/blue", "a b")], TOGETHER), ["/green: a b"]);
}

#[test]
fn apps_share_the_certificate_of_a_single_name_without_a_warning() {
    let apps = [app("/b", &["a x"]), app("/a", &["a y"])];
    let expected = ["/a: a", "/b: x", "/a: y"];
    assert_eq!(lines(&apps, &[], EACH), expected);
    let expected = ["/b: a", "/b: x", "/a: y"];
    assert_eq!(lines(&apps, &[("/b", "a")], EACH), expected, "and it stays the first one's");
}

#[test]
fn no_act_of_another_app_changes_a_certificate() {
    for grouping in [TOGETHER, EACH] {
        let mut apps = [app("/a", &["a b"]), app("/b", &["a"])];
        let before = gathered(&apps, &Holders::default(), grouping).certificates;
        apps[1].version = "v2".into();
        let holders = Holders::of(Arc::new(before.clone()));
        let after = gather(apps.iter().collect(), &holders, grouping).certificates;
        assert!(before.iter().zip(&after).all(|((_, one), (_, other))| Arc::ptr_eq(one, other)));
        assert_eq!(before, after);
    }
}

#[test]
fn too_many_names_are_split_and_every_piece_has_a_name_of_its_own() {
    let two = Grouping { names_max: 2, ..TOGETHER };
    let odd = |count: usize| {
        let text = "5 domains are more than the 2 of one certificate: there are";
        format!("/a MARATHON_ACME_0_DOMAIN: {text} {count}")
    };
    let expected = ["/a: a", "/a: c b", "/a: e d"];
    let found = lines(&[app("/a", &["e d c b a"])], &[], two);
    assert_eq!((&found[..3], found[3].clone()), (&expected.map(String::from)[..], odd(3)));
    // The second piece may not be called c.
    let expected = ["/a: a", "/a: b c", "/a: c x", "/a: e d"];
    assert_eq!(lines(&[app("/a", &["e d c b a", "c x"])], &[], two)[..4], expected);
    // Nor b: both have certificates of their names.
    let found = lines(&[app("/a", &["e d c b a", "c x", "b y"])], &[], two);
    let expected = ["/a: a", "/a: b y", "/a: c x", "/a: e d"];
    assert_eq!((&found[..4], found[4].clone()), (&expected.map(String::from)[..], odd(2)));
    assert!(lines(&[app("/a", &["a b"])], &[], two).len() == 1, "as many as fit are one");
}

#[test]
fn beyond_the_total_who_has_a_domain_keeps_it_and_the_rest_is_by_app() {
    for together in [true, false] {
        let three = Grouping { together, domains_max: 3, ..TOGETHER };
        let apps = [app("/b", &["c", "d"]), app("/c", &["e"]), app("/a", &["a", "b"])];
        let found = gathered(&apps, &Holders::default(), three);
        assert_eq!(show(&found.certificates), ["/a: a", "/a: b", "/b: c"]);
        assert_eq!(found.skipped.total_limit, 2);
        let texts: Vec<&str> = found.oddities.iter().map(|it| it.text.as_str()).collect();
        let text = "2 domains skipped: all apps together have more than 3: \
                    /b MARATHON_ACME_1_DOMAIN (1), /c MARATHON_ACME_0_DOMAIN (1)";
        assert_eq!(texts, [text]);
        let had = holders(&[("/c", "e"), ("/b", "d")]);
        let found = gathered(&apps, &had, three);
        assert_eq!(show(&found.certificates), ["/a: a", "/b: d", "/c: e"]);
        // More than there may be, as of another version: some go, and none comes.
        let had = holders(&[("/c", "e"), ("/b", "d"), ("/b", "c"), ("/a", "b")]);
        let found = gathered(&apps, &had, three);
        assert_eq!(show(&found.certificates), ["/a: b", "/b: c", "/b: d"]);
    }
}

#[test]
fn every_name_is_in_a_certificate_of_one_app_whatever_is_asked() {
    let mut chance = 1_u64;
    let mut draw = |below: usize| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(chance >> 33).unwrap() % below
    };
    for _ in 0..500 {
        let mut apps = Vec::new();
        for id in 0..draw(6) {
            let mut lists = Vec::new();
            for _ in 0..=draw(2) {
                let mut names = Vec::new();
                for _ in 0..=draw(7) {
                    let name = format!("n{}", draw(9));
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                lists.push(names.join(" "));
            }
            let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
            apps.push(app(&format!("/{id}"), &lists));
        }
        let grouping = Grouping { names_max: 1 + draw(4), ..TOGETHER };
        let found = gathered(&apps, &Holders::default(), grouping);
        let asked = |id: Option<&str>| -> BTreeSet<Domain> {
            let apps = apps.iter().filter(|app| id.is_none_or(|id| id == app.app));
            apps.flat_map(|app| &app.labels).flat_map(|it| it.names.clone()).collect()
        };
        let desired = found.certificates.values();
        let given: BTreeSet<Domain> = desired.flat_map(|desired| desired.names.clone()).collect();
        assert_eq!(asked(None), given);
        let mut owners: BTreeMap<&Domain, &str> = BTreeMap::new();
        for desired in found.certificates.values() {
            for name in &desired.names {
                assert!(asked(Some(&desired.source.app)).contains(name));
                assert_eq!(*owners.entry(name).or_insert(&desired.source.app), desired.source.app);
            }
        }
    }
}
