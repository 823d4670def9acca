//! When it looks, what it says, and what it says no second time.

use std::iter;
use std::time::Duration;

use super::*;
use crate::certs_scan::{ForeignFile, Found};
use crate::machine::StoreErrorKind;
use crate::secret::Secret;
use crate::testing::Bench;

struct Case {
    bench: Bench,
    guard: Guard,
    /// Whether files of ours are being read.
    is_reading: bool,
    /// What the last look said of a reload.
    needs_reload: bool,
}

fn foreign(file: &str, found: Found) -> ForeignFile {
    ForeignFile { file: file.into(), found }
}

fn foreign_files(foreign_files: Vec<ForeignFile>, more: usize) -> Result<Look, StoreError> {
    Ok(Look { foreign_files, more, ..Look::default() })
}

fn readme() -> ForeignFile {
    foreign("README", Found::File(Secret::new("hello".into())))
}

impl Case {
    fn new() -> Case {
        let (bench, guard) = (Bench::new(), Guard::default());
        let mut case = Case { bench, guard, is_reading: false, needs_reload: false };
        case.guard.look_soon(case.bench.now.mono);
        case
    }

    /// It looks, and finds this; what it says.
    fn look(&mut self, found: Result<Look, StoreError>) -> Vec<String> {
        assert!(self.guard.is_due(self.bench.now.mono));
        assert!(!self.guard.is_due(self.bench.now.mono) && self.guard.poll_timeout().is_none());
        let is_seen = found.is_ok();
        self.bench.log.clear();
        self.needs_reload =
            self.guard.looked(&mut self.bench.cx(), found, iter::empty(), self.is_reading);
        let said = self.bench.log.iter().map(|record| {
            let fields = record.fields.iter().map(|(name, value)| format!(" {name}={value}"));
            format!("{} {}{}", record.level.name(), record.message, fields.collect::<String>())
        });
        let said = said.collect();
        let next = self.guard.poll_timeout().expect("it looks again");
        let pause = next.since(self.bench.now.mono);
        let usual = PAUSE * 3 / 4..=PAUSE * 5 / 4 + Duration::from_secs(3);
        let is_blocked = is_seen && self.guard.blocking().is_some();
        let is_soon = (HARMED_PAUSE..=PAUSE).contains(&pause);
        assert!(if is_blocked { is_soon } else { usual.contains(&pause) });
        self.bench.pass(pause);
        said
    }
}

#[test]
fn each_is_said_when_it_comes_changes_and_goes() {
    let mut case = Case::new();
    let said = case.look(foreign_files(vec![readme(), foreign("old", Found::Other)], 0));
    let advice = format!("hint={}", Hint::ForeignFile);
    let expected = [
        format!(
            "WARN a file in certs/ is not ours file=README verdict=blocks reason=it holds neither a \
             private key nor a certificate {advice}"
        ),
        "INFO a file in certs/ is not ours file=old verdict=harmless reason=HAProxy passes over what \
         is no file"
            .into(),
    ];
    assert_eq!(said, expected);
    assert_eq!(Verdict::ALL.map(|it| case.guard.count(it)), [1, 0, 0, 0, 1]);
    let trouble = "certs/README keeps HAProxy from reloading: it holds neither a private key nor a \
                   certificate";
    let troubles: Vec<String> = case.guard.troubles().collect();
    assert_eq!(troubles, [format!("{trouble}; try: {}", Hint::ForeignFile)]);
    for _ in 0..3 {
        let same = case.look(foreign_files(vec![readme(), foreign("old", Found::Other)], 0));
        assert_eq!(same, Vec::<String>::new());
    }
    let said = case.look(foreign_files(vec![foreign("old", Found::Link)], 0));
    let expected = [
        format!(
            "WARN a file in certs/ is not ours file=old verdict=unknown reason=it is a symbolic link, \
             which HAProxy follows and marathon-acme does not {advice}"
        ),
        "INFO a file that was not ours is gone from certs/ file=README".into(),
    ];
    assert_eq!(said, expected);
    let said = case.look(foreign_files(vec![], 0));
    assert_eq!(said, ["INFO a file that was not ours is gone from certs/ file=old"]);
    assert_eq!(case.guard.troubles().count(), 0);
}

#[test]
fn a_harmful_file_that_is_gone_needs_a_reload() {
    let mut case = Case::new();
    let empty = || foreign("empty.pem", Found::File(Secret::new(String::new())));
    for (found, needs_reload) in [
        (vec![readme(), empty()], false),
        (vec![readme(), empty()], false),
        (vec![empty()], true),
        (vec![empty(), foreign("link", Found::Link)], false),
        (vec![foreign("empty.pem", Found::Link)], true),
        (vec![], false),
    ] {
        case.look(foreign_files(found, 0));
        assert_eq!(case.needs_reload, needs_reload);
    }
}

#[test]
fn a_file_that_blocks_is_looked_at_again_soon_at_first() {
    let mut case = Case::new();
    let start = case.bench.now.mono;
    let mut looks = Vec::new();
    for _ in 0..60 {
        looks.push(case.bench.now.mono.since(start));
        case.look(foreign_files(vec![readme()], 0));
    }
    assert!(looks.windows(2).take(4).all(|pair| pair[1] - pair[0] == HARMED_PAUSE), "{looks:?}");
    let last = looks[59] - looks[58];
    assert!(last >= PAUSE * 3 / 4, "{last:?}");
}

#[test]
fn of_very_many_not_all_are_named() {
    let mut case = Case::new();
    let all = || (0..20).map(|number| foreign(&format!("{number:02}"), Found::Link));
    assert_eq!(case.look(foreign_files(all().collect(), 5)).len(), 21);
    assert_eq!(case.look(foreign_files(all().skip(1).collect(), 5)), Vec::<String>::new());
    let troubles: Vec<String> = case.guard.troubles().collect();
    assert_eq!(troubles.len(), REASONS_MAX + 1);
    assert_eq!(troubles[REASONS_MAX], "certs/: 11 more files do such things");
}

#[test]
fn a_folder_that_cannot_be_read_is_said_once() {
    let mut case = Case::new();
    case.look(foreign_files(vec![readme()], 0));
    let error = StoreError {
        kind: StoreErrorKind::NotWritable,
        path: "certs".into(),
        detail: "denied".into(),
    };
    let said = case.look(Err(error.clone()));
    assert!(said[0].starts_with("WARN cannot look through certs/ error=certs: denied hint="));
    assert_eq!(case.look(Err(error)), Vec::<String>::new());
    let troubles: Vec<String> = case.guard.troubles().collect();
    assert_eq!(troubles[0], "certs/ cannot be looked through: certs: denied");
    assert_eq!(troubles.len(), 2, "what was seen last is believed");
    let again = "INFO certs/ can be looked through again";
    assert_eq!(case.look(foreign_files(vec![readme()], 0)), [again]);
    assert_eq!(case.look(foreign_files(vec![readme()], 0)), Vec::<String>::new());
    assert_eq!(case.guard.troubles().count(), 1);
}

#[test]
fn it_looks_when_it_is_asked_to_and_not_while_it_stands_by() {
    let mut guard = Guard::default();
    let mut bench = Bench::new();
    assert!(!guard.is_due(bench.now.mono) && guard.poll_timeout().is_none());
    // Of the time before this instance stepped down.
    guard.looked(&mut bench.cx(), foreign_files(vec![readme()], 0), iter::empty(), false);
    assert_eq!(guard.found(), []);
    guard.look_soon(bench.now.mono);
    assert!(guard.is_due(bench.now.mono));
    assert!(!guard.is_due(bench.now.mono), "one look at a time");
    guard.looked(&mut bench.cx(), foreign_files(vec![], 0), iter::empty(), false);
    assert!(!guard.is_due(bench.now.mono));
    guard.look_soon(bench.now.mono);
    assert!(guard.is_due(bench.now.mono));
}

#[test]
fn a_look_that_is_under_way_when_it_is_asked_to_look_is_made_again() {
    let mut case = Case::new();
    let now = case.bench.now.mono;
    assert!(case.guard.is_due(now));
    case.guard.look_soon(now);
    assert_eq!(case.guard.poll_timeout(), None, "one at a time");
    for again in [true, false] {
        let found = foreign_files(vec![readme()], 0);
        case.guard.looked(&mut case.bench.cx(), found, iter::empty(), case.is_reading);
        assert_eq!(case.guard.is_due(now), again);
    }
}

#[test]
fn it_looks_again_when_files_that_may_be_none_of_ours_were_read() {
    let mut case = Case::new();
    case.is_reading = true;
    let now = case.bench.now.mono;
    assert!(case.guard.is_due(now));
    let found = foreign_files(vec![], 0);
    case.guard.looked(&mut case.bench.cx(), found, iter::empty(), case.is_reading);
    assert_eq!(case.guard.poll_timeout(), Some(now), "what was read may not be ours");
    case.look(foreign_files(vec![], 0));
    assert!(case.guard.poll_timeout() == Some(case.bench.now.mono), "once");
}
