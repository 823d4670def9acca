//! How a record becomes a line: as text or JSON, for whom it is. A peer's words are escaped, so that they
//! can never look like a line of ours, nor like a word to a terminal. Never writes anything.

use serde_json::json;

use crate::config::LogFormat;
use crate::log::{Level, Record};
use crate::printable::{is_unprintable, printable, printable_json};
use crate::time::UnixTime;

use super::Place;

const PLAIN: &str = "\x1b[0m";
const FAINT: &str = "\x1b[2m";

/// The line of a record, with its end.
pub(super) fn line(place: Place, format: LogFormat, at: UnixTime, record: &Record) -> String {
    let priority = if place == Place::Journal { priority(record.level) } else { "" };
    match format {
        // For programs, which want it whole wherever it goes.
        LogFormat::Json => format!("{priority}{}\n", as_json(at, record)),
        LogFormat::Text => format!("{priority}{}\n", text(place, at, record)),
    }
}

/// What the journal takes off the line again (sd-daemon(3)).
fn priority(level: Level) -> &'static str {
    match level {
        Level::Critical => "<2>",
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug => "<7>",
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::Critical => "\x1b[1;31m",
        Level::Error => "\x1b[31m",
        Level::Warn => "\x1b[33m",
        Level::Info => "\x1b[32m",
        Level::Debug => "\x1b[36m",
    }
}

/// `2026-11-23T17:00:00.123Z INFO  order    issued name=www.example.com`
fn text(place: Place, at: UnixTime, record: &Record) -> String {
    let (level, subject) = (record.level.name(), record.subject);
    let mut line = match place {
        Place::Plain => format!("{} {level:<5} {subject:<8} ", time(at)),
        // It has a time of its own for each line.
        Place::Journal => format!("{level:<5} {subject:<8} "),
        Place::Terminal { colour: false } => return text(Place::Plain, at, record),
        Place::Terminal { colour: true } => {
            let (time, colour) = (time(at), colour(record.level));
            format!("{FAINT}{time}{PLAIN} {colour}{level:<5}{PLAIN} {FAINT}{subject:<8}{PLAIN} ")
        }
    };
    line.push_str(&printable(&record.message));
    for (name, value) in &record.fields {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        let plain =
            |c: char| !c.is_whitespace() && !is_unprintable(c) && !matches!(c, '"' | '=' | '\\');
        if !value.is_empty() && value.chars().all(plain) {
            line.push_str(value);
        } else {
            line.push_str(&printable_json(&json!(value).to_string()));
        }
    }
    line
}

fn as_json(at: UnixTime, record: &Record) -> String {
    let level = record.level.name().to_ascii_lowercase();
    let mut line = json!({
        "time": time(at),
        "level": level,
        "subject": record.subject,
        "message": record.message,
    });
    for (name, value) in &record.fields {
        line[*name] = json!(value);
    }
    printable_json(&line.to_string())
}

/// RFC 3339 with milliseconds.
fn time(at: UnixTime) -> String {
    let seconds = at.to_string();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), at.as_millis().rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixTime = UnixTime::from_millis(1_795_453_200_123);
    const PLACES: [Place; 4] = [
        Place::Plain,
        Place::Journal,
        Place::Terminal { colour: false },
        Place::Terminal { colour: true },
    ];

    #[test]
    fn text_lines() {
        let record = Record::info("order", "issued").with("name", "www.example.com").with("x", "");
        let found = PLACES.map(|place| line(place, LogFormat::Text, AT, &record));
        let body = "issued name=www.example.com x=\"\"\n";
        let plain = format!("2026-11-23T17:00:00.123Z INFO  order    {body}");
        let coloured = format!(
            "\u{1b}[2m2026-11-23T17:00:00.123Z\u{1b}[0m \u{1b}[32mINFO \u{1b}[0m \
             \u{1b}[2morder   \u{1b}[0m {body}"
        );
        assert_eq!(found, [plain.clone(), format!("<6>INFO  order    {body}"), plain, coloured]);
    }

    #[test]
    fn the_journal_hears_how_much_it_matters() {
        let levels = [Level::Critical, Level::Error, Level::Warn, Level::Info, Level::Debug];
        let begins = levels.map(|level| {
            let record = Record::new(level, "main", "x");
            let text = line(Place::Journal, LogFormat::Text, AT, &record);
            let json = line(Place::Journal, LogFormat::Json, AT, &record);
            assert_eq!(text[..3], json[..3]);
            assert!(json[3..].starts_with('{'));
            text[..3].to_string()
        });
        assert_eq!(begins, ["<2>", "<3>", "<4>", "<6>", "<7>"]);
    }

    #[test]
    fn words_of_peers_stay_in_their_place() {
        let forged = "x\n2026-11-23T17:00:00.123Z INFO order issued \"y\" = \u{1b}[31m \u{9b}0m\u{7f} \
            \u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2028}\u{2066}\u{2069}\u{feff}";
        let record = Record::error("order", format!("failed{forged}")).with("error", forged);
        let record = record.with("name", "alone\u{202e}").with("other", "\u{2067}");
        for place in PLACES {
            for format in [LogFormat::Text, LogFormat::Json] {
                let line = line(place, format, AT, &record);
                assert_eq!(line.matches('\n').count(), 1, "{line}");
                let escapes = line.matches('\u{1b}').count();
                let ours = place == Place::Terminal { colour: true } && format == LogFormat::Text;
                assert_eq!(escapes, if ours { 6 } else { 0 }, "{line}");
                let odd = |c: char| is_unprintable(c) && !matches!(c, '\n' | '\u{1b}');
                assert!(!line.contains(odd), "{line}");
            }
        }
    }

    #[test]
    fn json_lines() {
        let record = Record::warn("lb", "slow").with("ms", 7).with("c", "\u{9b}");
        for place in [Place::Plain, Place::Terminal { colour: true }] {
            let line = line(place, LogFormat::Json, AT, &record);
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let expected = json!({"time": "2026-11-23T17:00:00.123Z", "level": "warn",
                "subject": "lb", "message": "slow", "ms": "7", "c": "\u{9b}"});
            assert_eq!(line, expected);
        }
    }
}
