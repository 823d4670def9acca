//! Lines of the log that say the same again and again: the first is said at once, then one at growing
//! distances, with a count of those that were not said in between. Pure: what time it is comes with each
//! record. Nothing is ever lost without a count, and nothing waits for longer than [`SILENCE_MAX`].
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
    said: Instant,
    heard: Instant,
    /// How often it was said.
    times: u32,
    waiting: Option<Waiting>,
}

/// What was not said since.
#[derive(Debug)]
struct Waiting {
    last: Record,
    at: UnixTime,
    count: u64,
}

impl Repeats {
    /// For a log of `level` and above; with [`Level::Debug`] everything is said.
    pub fn new(level: Level) -> Repeats {
        Repeats { everything: level == Level::Debug, known: FlatMap::new() }
    }

    /// Takes in a record; what is to be said now, if anything is.
    pub fn hear(&mut self, now: Now, record: Record) -> Option<Record> {
        let exempt = matches!(record.level, Level::Debug | Level::Critical);
        if self.everything || exempt || size(&record) > RECORD_BYTES_MAX {
            return Some(record);
        }
        self.forget(now.mono);
        let key = key(&record);
        let Some(line) = self.known.get_mut(&key) else {
            if self.make_room() {
                let line = Line { said: now.mono, heard: now.mono, times: 1, waiting: None };
                self.known.insert(key, line);
            }
            return Some(record);
        };
        line.heard = now.mono;
        let free = if record.level == Level::Info { GOOD_NEWS } else { 1 };
        if line.times >= free && now.mono.since(line.said) < line.distance() {
            let count = line.waiting.as_ref().map_or(0, |waiting| waiting.count) + 1;
            line.waiting = Some(Waiting { last: record, at: now.wall, count });
            return None;
        }
        let unsaid = line.say(now.mono).map_or(0, |waiting| waiting.count);
        Some(counted(record, unsaid))
    }

    /// What has waited long enough for a line to follow it: the last of each, with the time at which it
    /// was heard.
    pub fn take_due(&mut self, now: Instant) -> Vec<Record> {
        let mut due = Vec::new();
        for line in self.known.values_mut().filter(|line| line.due().is_some_and(|at| at <= now)) {
            due.extend(line.say(now).map(late));
        }
        due
    }

    /// All that waits, since nothing more will be heard.
    pub fn take_all(&mut self) -> Vec<Record> {
        let all = std::mem::take(&mut self.known).into_iter().map(|(_, line)| line);
        all.filter_map(|line| line.waiting).map(late).collect()
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
        let resting = self.known.iter().filter(|(_, line)| line.waiting.is_none());
        let oldest = resting.min_by_key(|(_, line)| line.heard).map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.known.remove(&key).is_some())
    }
}

impl Line {
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
        self.waiting.take()
    }
}

fn late(Waiting { last, at, count }: Waiting) -> Record {
    counted(last.with("heard", at), count - 1)
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
        let say = |second| repeats.hear(at(second), down(second)).map(|it| (second, count(&it)));
        heard.filter_map(say).collect()
    }

    #[test]
    fn the_first_is_said_at_once_and_others_at_growing_distances() {
        let mut repeats = Repeats::new(Level::Info);
        let found = said(&mut repeats, 0..=1200);
        let expected =
            [(0, 0), (10, 9), (40, 29), (100, 59), (220, 119), (520, 299), (820, 299), (1120, 299)];
        assert_eq!(found, expected);
        let rest = repeats.take_all();
        assert_eq!(rest.iter().map(count).collect::<Vec<_>>(), [79]);
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
        assert_eq!((count(&due[0]), field(&due[0], "next_try")), (6, Some("7".into())));
        assert_eq!(field(&due[0], "heard"), Some(at(7).wall.to_string()));
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
            assert_eq!(repeats.hear(at(0), record.clone()).as_ref(), Some(record));
        }
        for record in others {
            assert_eq!(repeats.hear(at(1), record), None);
        }
        let same = base().with("address", "10.0.0.1").with("error", "status 503: no");
        assert_eq!(repeats.hear(at(2), same), None, "numbers in an error are no difference");
    }

    #[test]
    fn good_news_are_not_held_back_so_soon() {
        let mut repeats = Repeats::new(Level::Info);
        let line = || Record::info("lb", "reload acknowledged").with("lb", "http://lb:9090");
        let said = (0..8).filter(|second| repeats.hear(at(*second), line()).is_some()).count();
        assert_eq!(said, GOOD_NEWS as usize);
        assert_eq!(repeats.take_all().iter().map(count).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn debug_says_everything_and_the_worst_is_always_said() {
        let mut repeats = Repeats::new(Level::Debug);
        assert_eq!(said(&mut repeats, 0..5).len(), 5);
        let mut repeats = Repeats::new(Level::Info);
        let worst = || Record::new(Level::Critical, "acme", "cannot order until this is mended");
        assert!((0..5).all(|second| repeats.hear(at(second), worst()).is_some()));
        let long = || Record::error("main", "x").with("error", "y".repeat(RECORD_BYTES_MAX));
        assert!((0..5).all(|second| repeats.hear(at(second), long()).is_some()));
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
                    told += said.map_or(0, |record| 1 + count(&record));
                }
                assert!(repeats.known.len() <= KNOWN_MAX);
            }
        }
        told += repeats.take_all().iter().map(|record| 1 + count(record)).sum::<u64>();
        assert_eq!(heard, told);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_no_trouble() {
        let mut repeats = Repeats::new(Level::Info);
        assert_eq!(said(&mut repeats, [100, 100, 50, 0, 111].into_iter()), [(100, 0), (111, 3)]);
    }
}
