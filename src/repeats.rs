//! Lines of the log that say the same again and again: the first is said at once, then one at growing
//! distances, with a count of those that were not said in between. Pure: what time it is comes with each
//! record. Nothing is ever lost without a count, and nothing waits for longer than [`SILENCE_MAX`].
//!
//! A record may end problems ([`Record::ends`]): what waits of them is summed up before it, and never logged
//! as an error afterwards. Where a problem was logged, its end is logged too.
//!
//! The same are lines of one level, subject and message whose fields are the same too, but for the
//! numbers in `error`, which vary with ports and durations, and but for `next_try`. So the nth failure of
//! an order is another line than the one before it, as is another error or another address.

use std::time::Duration;

use crate::flat::FlatMap;
use crate::log::{Level, Record};
use crate::time::{Instant, Now, UnixTime};

/// A line that is heard again is said again after these distances; the last one repeats.
const DISTANCES: [Duration; 5] =
    [seconds(10), seconds(30), seconds(60), seconds(120), seconds(300)];
/// One that is not heard for so long is news again. Nothing is held back for longer, either: what has
/// nothing to follow it is said after twice its distance.
pub const SILENCE_MAX: Duration = seconds(600);
/// What goes well may be the answer to what an operator does: so many are said before any is held back.
const GOOD_NEWS: u32 = 5;
/// Lines that are known at once, at most: where all of them wait to be said, others are not held back.
const KNOWN_MAX: usize = 128;
/// Larger records are not held back, in bytes.
const RECORD_BYTES_MAX: usize = 2048;
/// Fields that are another each time.
const VARYING: [&str; 1] = ["next_try"];
/// Fields about what is to come: when a line is summed up, it has come.
const AHEAD: [&str; 3] = ["next_try", "next", "hint"];
/// Fields that say what a line is about.
const ABOUT: [&str; 3] = ["lb", "address", "name"];

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What was said, and what was not.
#[derive(Debug)]
pub struct Repeats {
    /// Nothing is held back.
    everything: bool,
    known: FlatMap<String, Line>,
}

#[derive(Debug)]
struct Line {
    message: String,
    /// What it is about, by [`ABOUT`].
    about: Vec<(&'static str, String)>,
    said: Instant,
    heard: Instant,
    /// How often it was said.
    times: u32,
    waiting: Option<Waiting>,
    /// It is a warning or an error.
    is_problem: bool,
    /// It is a problem that was logged, and its end was not.
    is_open: bool,
}

/// What was not said since.
#[derive(Debug)]
struct Waiting {
    last: Record,
    first_at: UnixTime,
    last_at: UnixTime,
    count: u64,
    /// The problem has ended since.
    is_over: bool,
}

impl Repeats {
    /// For a log of `level` and above; with [`Level::Debug`] everything is said.
    pub fn new(level: Level) -> Repeats {
        Repeats { everything: level == Level::Debug, known: FlatMap::new() }
    }

    /// Takes in a record; what is to be logged now, in order.
    pub fn hear(&mut self, now: Now, record: Record) -> Vec<Record> {
        let exempt = matches!(record.level, Level::Debug | Level::Critical);
        if self.everything || exempt || size(&record) > RECORD_BYTES_MAX {
            return vec![record];
        }
        self.forget(now.mono);
        let key = key(&record);
        let ends = self.known.values().any(|line| line.is_open && line.is_ended_by(&record));
        let Some(line) = self.known.get_mut(&key) else {
            let mut said = self.end(&record, true);
            if self.make_room() {
                self.known.insert(key, Line::new(now.mono, &record));
            }
            said.push(record);
            return said;
        };
        line.heard = now.mono;
        let free = if record.level == Level::Info { GOOD_NEWS } else { 1 };
        if !ends && line.times >= free && now.mono.since(line.said) < line.distance() {
            line.wait(now.wall, record.clone());
            return self.end(&record, false);
        }
        let unsaid = line.say(now.mono).map_or(0, |waiting| waiting.count);
        let mut said = self.end(&record, true);
        said.push(counted(record, unsaid));
        said
    }

    /// The problems end that this record ends; what waits of them, when the record is logged.
    fn end(&mut self, record: &Record, is_logged: bool) -> Vec<Record> {
        let mut said = Vec::new();
        for line in self.known.values_mut().filter(|line| line.is_ended_by(record)) {
            if let Some(waiting) = &mut line.waiting {
                waiting.is_over = true;
            }
            if is_logged {
                line.is_open = false;
                said.extend(line.waiting.take().map(summary));
            }
        }
        said
    }

    /// What has waited long enough for a line to follow it: the last of each, with the time at which it
    /// was heard.
    pub fn take_due(&mut self, now: Instant) -> Vec<Record> {
        let mut due = Vec::new();
        for line in self.known.values_mut().filter(|line| line.due().is_some_and(|at| at <= now)) {
            due.extend(line.say(now).map(summary));
        }
        due
    }

    /// All that waits, since nothing more will be heard.
    pub fn take_all(&mut self) -> Vec<Record> {
        let all = std::mem::take(&mut self.known).into_iter().map(|(_, line)| line);
        all.filter_map(|line| line.waiting).map(summary).collect()
    }

    /// When [`Repeats::take_due`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.known.values().filter_map(Line::due).min()
    }

    fn forget(&mut self, now: Instant) {
        self.known.retain(|_, line| line.waiting.is_some() || now.since(line.heard) < SILENCE_MAX);
    }

    /// Whether there is room for one more, if need be in place of the one that rests the longest.
    fn make_room(&mut self) -> bool {
        if self.known.len() < KNOWN_MAX {
            return true;
        }
        let resting = self.known.iter().filter(|(_, line)| line.waiting.is_none() && !line.is_open);
        let oldest = resting.min_by_key(|(_, line)| line.heard).map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.known.remove(&key).is_some())
    }
}

impl Line {
    fn new(now: Instant, record: &Record) -> Line {
        let about = record.fields.iter().filter(|(name, _)| ABOUT.contains(name));
        Line {
            message: record.message.clone(),
            about: about.cloned().collect(),
            said: now,
            heard: now,
            times: 1,
            waiting: None,
            is_problem: record.level > Level::Info,
            is_open: record.level > Level::Info,
        }
    }

    /// Whether this record ends it: it says so, and is about the same, as far as both say so.
    fn is_ended_by(&self, record: &Record) -> bool {
        let is_same = |(name, value): &(&'static str, String)| {
            let other = record.fields.iter().find(|(other, _)| other == name);
            other.is_none_or(|(_, other)| other == value)
        };
        record.ends.contains(&self.message.as_str()) && self.about.iter().all(is_same)
    }

    /// It is not logged now.
    fn wait(&mut self, at: UnixTime, record: Record) {
        let before = self.waiting.take();
        let (first_at, count) = before.map_or((at, 0), |before| (before.first_at, before.count));
        let count = count + 1;
        self.waiting = Some(Waiting { last: record, first_at, last_at: at, count, is_over: false });
    }

    fn distance(&self) -> Duration {
        let index = usize::try_from(self.times.saturating_sub(1)).unwrap_or(usize::MAX);
        DISTANCES[index.min(DISTANCES.len() - 1)]
    }

    fn due(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|_| self.said + self.distance() * 2)
    }

    /// It is said; what was not said before.
    fn say(&mut self, now: Instant) -> Option<Waiting> {
        (self.said, self.times) = (now, self.times.saturating_add(1));
        let waiting = self.waiting.take();
        self.is_open |= self.is_problem && waiting.as_ref().is_none_or(|waiting| !waiting.is_over);
        waiting
    }
}

/// The one line for all that waited. What has ended since is no error any more.
fn summary(waiting: Waiting) -> Record {
    let Waiting { mut last, first_at, last_at, count, is_over } = waiting;
    if is_over {
        last.level = Level::Info;
        last.fields.retain(|(name, _)| !AHEAD.contains(name));
    }
    last.with("repeated", count).with("first", first_at).with("last", last_at)
}

fn counted(record: Record, unsaid: u64) -> Record {
    if unsaid == 0 { record } else { record.with("repeated", unsaid) }
}

fn size(record: &Record) -> usize {
    let fields = record.fields.iter().map(|(name, value)| name.len() + value.len());
    record.message.len() + fields.sum::<usize>()
}

/// What is the same for lines that are the same. Control characters keep its parts apart: no message of
/// ours has one, and in a value it stays as harmless as any other.
fn key(record: &Record) -> String {
    let mut key = format!("{}\0{}\0{}", record.level.name(), record.subject, record.message);
    for (name, value) in record.fields.iter().filter(|(name, _)| !VARYING.contains(name)) {
        key.push('\0');
        key.push_str(name);
        key.push('=');
        match *name {
            "error" => key.extend(without_numbers(value)),
            _ => key.push_str(value),
        }
    }
    key
}

/// Each number becomes one sign.
fn without_numbers(text: &str) -> impl Iterator<Item = char> {
    let mut in_number = false;
    text.chars().filter_map(move |c| {
        let again = std::mem::replace(&mut in_number, c.is_ascii_digit());
        match (c.is_ascii_digit(), again) {
            (true, true) => None,
            (true, false) => Some('#'),
            (false, _) => Some(c),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Now {
        let mono = Instant::START + seconds(second);
        Now { mono, wall: UnixTime::from_seconds(1_795_453_200 + second as i64) }
    }

    fn down(next_try: u64) -> Record {
        let error = format!("10.0.0.1:{}: the connection was refused", 4000 + next_try);
        let line = Record::error("marathon", "sync failed").with("error", error);
        line.with("next_try", next_try)
    }

    fn field(record: &Record, wanted: &str) -> Option<String> {
        record.fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone())
    }

    fn count(record: &Record) -> u64 {
        field(record, "repeated").map_or(0, |count| count.parse().unwrap())
    }

    /// Hears a line at these seconds; when something was said, and how much was not said before.
    fn said(repeats: &mut Repeats, heard: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
        let say = |second| {
            let said = repeats.hear(at(second), down(second));
            said.into_iter().map(move |it| (second, count(&it)))
        };
        heard.flat_map(say).collect()
    }

    #[test]
    fn the_first_is_said_at_once_and_others_at_growing_distances() {
        let mut repeats = Repeats::new(Level::Info);
        let found = said(&mut repeats, 0..=1200);
        let expected =
            [(0, 0), (10, 9), (40, 29), (100, 59), (220, 119), (520, 299), (820, 299), (1120, 299)];
        assert_eq!(found, expected);
        let rest = repeats.take_all();
        assert_eq!(rest.iter().map(count).collect::<Vec<_>>(), [80]);
        assert_eq!(repeats.poll_timeout(), None);
    }

    #[test]
    fn with_pauses_as_the_daemon_makes_them() {
        let mut repeats = Repeats::new(Level::Info);
        let heard = [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363, 423, 483, 543, 603, 663, 723];
        let expected = [(0, 0), (15, 3), (63, 1), (123, 0), (243, 1), (543, 4)];
        assert_eq!(said(&mut repeats, heard.into_iter()), expected);
    }

    #[test]
    fn what_nothing_follows_is_said_in_time() {
        let mut repeats = Repeats::new(Level::Info);
        said(&mut repeats, 0..=7);
        assert_eq!(repeats.poll_timeout(), Some(at(20).mono));
        assert!(repeats.take_due(at(19).mono).is_empty());
        let due = repeats.take_due(at(20).mono);
        assert_eq!(due.len(), 1);
        assert_eq!((count(&due[0]), field(&due[0], "next_try")), (7, Some("7".into())));
        let times = ["first", "last"].map(|name| field(&due[0], name));
        assert_eq!(times, [1, 7].map(|second| Some(at(second).wall.to_string())));
        assert_eq!((repeats.poll_timeout(), repeats.take_due(at(999).mono).len()), (None, 0));
        // The longest wait there is.
        assert!(DISTANCES.iter().all(|distance| *distance * 2 <= SILENCE_MAX));
    }

    #[test]
    fn after_a_silence_it_is_news() {
        let mut repeats = Repeats::new(Level::Info);
        let heard = [0, 11, 12, 650, 651];
        assert_eq!(said(&mut repeats, heard.into_iter()), [(0, 0), (11, 0), (650, 1)]);
        let mut repeats = Repeats::new(Level::Info);
        assert_eq!(said(&mut repeats, [0, 600, 605].into_iter()), [(0, 0), (600, 0)]);
    }

    #[test]
    fn what_is_another_line() {
        let mut repeats = Repeats::new(Level::Info);
        let base = || Record::error("lb", "reload not acknowledged").with("lb", "http://lb:9090");
        let others = [
            base().with("address", "10.0.0.1").with("error", "status 500: no"),
            base().with("address", "10.0.0.2").with("error", "status 500: no"),
            base().with("address", "10.0.0.1").with("error", "the connection was refused"),
            base().with("failures", 1),
            base().with("failures", 2),
            Record { level: Level::Warn, ..base() },
            Record { subject: "order", ..base() },
            Record { message: "other".into(), ..base() },
        ];
        for record in &others {
            assert_eq!(repeats.hear(at(0), record.clone()), std::slice::from_ref(record));
        }
        for record in others {
            assert_eq!(repeats.hear(at(1), record), []);
        }
        let same = base().with("address", "10.0.0.1").with("error", "status 503: no");
        assert_eq!(repeats.hear(at(2), same), [], "numbers in an error are no difference");
    }

    #[test]
    fn good_news_are_not_held_back_so_soon() {
        let mut repeats = Repeats::new(Level::Info);
        let line = || Record::info("lb", "reload acknowledged").with("lb", "http://lb:9090");
        let said = (0..8).filter(|second| !repeats.hear(at(*second), line()).is_empty()).count();
        assert_eq!(said, GOOD_NEWS as usize);
        assert_eq!(repeats.take_all().iter().map(count).collect::<Vec<_>>(), [3]);
    }

    fn lb(level: Level, message: &'static str, address: &str) -> Record {
        let line = Record::new(level, "lb", message).with("lb", "http://lb:9090");
        let line = line.with("address", address);
        if level == Level::Info { line.ends(&["reload not acknowledged"]) } else { line }
    }

    fn texts(records: &[Record]) -> Vec<String> {
        let text = |it: &Record| format!("{} {} {}", it.level.name(), it.message, count(it));
        records.iter().map(text).collect()
    }

    #[test]
    fn a_problem_that_has_ended_is_summed_up_before_its_end_and_not_logged_afterwards() {
        let mut repeats = Repeats::new(Level::Info);
        let failed = || lb(Level::Error, "reload not acknowledged", "10.0.0.1");
        let other = || lb(Level::Error, "reload not acknowledged", "10.0.0.2");
        let ended = || lb(Level::Info, "reload acknowledged", "10.0.0.1");
        for second in 0..4 {
            repeats.hear(at(second), failed());
            repeats.hear(at(second), other());
        }
        let said = repeats.hear(at(5), ended());
        let summary = |level: Level| format!("{} reload not acknowledged 3", level.name());
        let end = format!("{} reload acknowledged 0", Level::Info.name());
        assert_eq!(texts(&said), [summary(Level::Info), end], "it is no error any more");
        assert_eq!(field(&said[0], "first"), Some(at(1).wall.to_string()));
        // Only the one that has not ended is left.
        let rest = repeats.take_due(at(600).mono);
        assert_eq!(texts(&rest), [summary(Level::Error)]);
        assert_eq!(field(&rest[0], "address"), Some("10.0.0.2".into()));
    }

    #[test]
    fn the_end_of_a_problem_that_was_logged_is_logged() {
        let mut repeats = Repeats::new(Level::Info);
        let ended = || lb(Level::Info, "reload acknowledged", "10.0.0.1");
        let heard = |repeats: &mut Repeats, second| !repeats.hear(at(second), ended()).is_empty();
        for second in 0..GOOD_NEWS.into() {
            assert!(heard(&mut repeats, second));
        }
        assert!(!heard(&mut repeats, 5), "the same again");
        let failed = lb(Level::Error, "reload not acknowledged", "10.0.0.1");
        assert_eq!(repeats.hear(at(6), failed.clone()), std::slice::from_ref(&failed));
        assert!(heard(&mut repeats, 7));
        // Neither is logged of what comes and goes again and again, and no error is left behind.
        assert_eq!(repeats.hear(at(8), failed), []);
        assert!(!heard(&mut repeats, 9));
        let rest = repeats.take_due(at(600).mono);
        assert!(!rest.is_empty() && rest.iter().all(|it| it.level == Level::Info), "{rest:?}");
    }

    #[test]
    fn what_comes_and_goes_all_the_time_is_not_logged_all_the_time() {
        let mut repeats = Repeats::new(Level::Info);
        let mut logged = Vec::new();
        for cycle in 0..1000 {
            let failed = lb(Level::Error, "reload not acknowledged", "10.0.0.1");
            logged.extend(repeats.hear(at(2 * cycle), failed));
            let ended = lb(Level::Info, "reload acknowledged", "10.0.0.1");
            logged.extend(repeats.hear(at(2 * cycle + 1), ended));
        }
        assert!(logged.len() < 60, "{}", logged.len());
        let last =
            logged.iter().rev().find(|it| it.fields.iter().all(|(name, _)| *name != "first"));
        assert_eq!(last.map(|it| it.level), Some(Level::Info), "an end is never missing");
    }

    #[test]
    fn only_its_own_end_ends_a_problem() {
        let mut repeats = Repeats::new(Level::Info);
        for second in 0..3 {
            repeats.hear(at(second), down(second));
        }
        let attached = Record::info("marathon", "attached").with("url", "http://b:8080");
        assert_eq!(repeats.hear(at(3), attached.clone()), std::slice::from_ref(&attached));
        let synced = Record::info("marathon", "sync succeeded again").ends(&["sync failed"]);
        assert_eq!(texts(&repeats.hear(at(4), synced)).len(), 2);
        assert!(repeats.take_due(at(600).mono).is_empty());
    }

    #[test]
    fn debug_says_everything_and_the_worst_is_always_said() {
        let mut repeats = Repeats::new(Level::Debug);
        assert_eq!(said(&mut repeats, 0..5).len(), 5);
        let mut repeats = Repeats::new(Level::Info);
        let worst = || Record::new(Level::Critical, "acme", "cannot order until this is mended");
        assert!((0..5).all(|second| !repeats.hear(at(second), worst()).is_empty()));
        let long = || Record::error("main", "x").with("error", "y".repeat(RECORD_BYTES_MAX));
        assert!((0..5).all(|second| !repeats.hear(at(second), long()).is_empty()));
        assert!(repeats.known.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost_for_it() {
        let mut repeats = Repeats::new(Level::Info);
        let line = |number: usize| Record::warn("main", "x").with("name", number);
        let (mut heard, mut told) = (0, 0);
        for round in 0..3 {
            for number in 0..3 * KNOWN_MAX {
                heard += 2;
                for _ in 0..2 {
                    let said = repeats.hear(at(round), line(number));
                    told += said.iter().map(|record| 1 + count(record)).sum::<u64>();
                }
                assert!(repeats.known.len() <= KNOWN_MAX);
            }
        }
        told += repeats.take_all().iter().map(count).sum::<u64>();
        assert_eq!(heard, told);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_no_trouble() {
        let mut repeats = Repeats::new(Level::Info);
        assert_eq!(said(&mut repeats, [100, 100, 50, 0, 111].into_iter()), [(100, 0), (111, 3)]);
    }
}
