//! Writes records to standard output, one line each, as text or JSON (contract: log). A peer's words
//! are escaped, so that they can never look like a line of ours. Never fails: a log that cannot be
//! written is no reason to stop.

use std::io::{self, Write as _};

use serde_json::json;

use crate::config::LogFormat;
use crate::log::{Level, Record};
use crate::time::UnixTime;

/// The operator's window.
#[derive(Clone, Copy, Debug)]
pub struct Logger {
    level: Level,
    format: LogFormat,
}

impl Logger {
    /// A logger that writes records of `level` and above.
    pub fn new(level: Level, format: LogFormat) -> Logger {
        Logger { level, format }
    }

    /// Writes a record.
    pub fn write(&self, at: UnixTime, record: &Record) {
        if record.level >= self.level {
            let line = match self.format {
                LogFormat::Text => text(at, record),
                LogFormat::Json => as_json(at, record),
            };
            // Nobody can be told that nobody reads.
            let _ = io::stdout().lock().write_all(line.as_bytes());
        }
    }
}

/// `2026-11-23T17:00:00.123Z INFO  order   issued name=www.example.com`
fn text(at: UnixTime, record: &Record) -> String {
    let (level, subject, message) = (record.level.name(), record.subject, &record.message);
    let mut line = format!("{} {level:<5} {subject:<8} {message}", time(at));
    for (name, value) in &record.fields {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        let plain =
            |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
        if !value.is_empty() && value.chars().all(plain) {
            line.push_str(value);
        } else {
            line.push_str(&json!(value).to_string());
        }
    }
    line.push('\n');
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
    format!("{line}\n")
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

    #[test]
    fn text_lines() {
        let record = Record::info("order", "issued").with("name", "www.example.com").with("x", "");
        let expected =
            "2026-11-23T17:00:00.123Z INFO  order    issued name=www.example.com x=\"\"\n";
        assert_eq!(text(AT, &record), expected);
    }

    #[test]
    fn words_of_peers_stay_in_their_place() {
        let forged = "x\n2026-11-23T17:00:00.123Z INFO order issued \"y\" = \u{1b}[31m";
        let record = Record::error("order", "failed").with("error", forged);
        for line in [text(AT, &record), as_json(AT, &record)] {
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(!line.contains('\u{1b}'), "{line}");
        }
    }

    #[test]
    fn json_lines() {
        let record = Record::warn("lb", "slow").with("ms", 7);
        let line: serde_json::Value = serde_json::from_str(&as_json(AT, &record)).unwrap();
        let expected = json!({"time": "2026-11-23T17:00:00.123Z", "level": "warn", "subject": "lb",
            "message": "slow", "ms": "7"});
        assert_eq!(line, expected);
    }
}
