//! Writes records to standard output, one line each, as text or JSON (contract: log). A peer's words
//! are escaped, so that they can never look like a line of ours. Never fails and never blocks: a log
//! that nobody reads is no reason to stop.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::config::LogFormat;
use crate::log::{Level, Record};
use crate::time::UnixTime;

/// Bytes that wait for a reader at most; further lines are counted instead.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// A pipe that is ready takes so many bytes without blocking (pipe(7), `PIPE_BUF`).
const WRITE_BYTES_MAX: usize = 4096;

/// The operator's window.
#[derive(Debug)]
pub struct Logger {
    level: Level,
    format: LogFormat,
    /// Its mode is left alone: who started us may share it, and would not expect `O_NONBLOCK`.
    out: File,
    waiting: VecDeque<u8>,
    /// Lines that found no room.
    lost: u64,
}

impl Logger {
    /// A logger that writes records of `level` and above to standard output.
    ///
    /// # Errors
    /// The system has no descriptors left, or standard output is closed.
    pub fn new(level: Level, format: LogFormat) -> io::Result<Logger> {
        Ok(Logger::to(io::stdout().as_fd().try_clone_to_owned()?, level, format))
    }

    fn to(out: OwnedFd, level: Level, format: LogFormat) -> Logger {
        Logger { level, format, out: File::from(out), waiting: VecDeque::new(), lost: 0 }
    }

    /// Writes a record, or keeps it until somebody reads.
    pub fn write(&mut self, at: UnixTime, record: &Record) {
        if record.level < self.level {
            return;
        }
        self.flush();
        if self.lost > 0 && self.waiting.is_empty() {
            let lost = std::mem::take(&mut self.lost);
            let line = Record::warn("main", "nobody read the log, lines were lost");
            self.line(at, &line.with("lines", lost));
        }
        self.line(at, record);
        self.flush();
    }

    fn line(&mut self, at: UnixTime, record: &Record) {
        let line = match self.format {
            LogFormat::Text => text(at, record),
            LogFormat::Json => as_json(at, record),
        };
        if self.waiting.len() + line.len() > WAITING_BYTES_MAX {
            self.lost += 1;
        } else {
            self.waiting.extend(line.as_bytes());
        }
    }

    /// Whether something waits for a reader.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what the reader takes without a wait.
    pub fn flush(&mut self) {
        while !self.waiting.is_empty() && is_ready(&self.out, PollFlags::OUT) {
            let (front, _) = self.waiting.as_slices();
            let length = front.len().min(WRITE_BYTES_MAX);
            match self.out.write(front.get(..length).unwrap_or(front)) {
                Ok(length @ 1..) => drop(self.waiting.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Nobody will ever read, and nobody can be told.
                Ok(0) | Err(_) => self.waiting.clear(),
            }
        }
    }
}

/// Whether a read or a write does not block. What is broken is ready: the read or write says so.
fn is_ready(file: &File, wanted: PollFlags) -> bool {
    let mut asked = [PollFd::new(file, wanted)];
    matches!(poll(&mut asked, Some(&Timespec::default())), Ok(1..))
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
    use std::io::Read as _;

    use super::*;

    const AT: UnixTime = UnixTime::from_millis(1_795_453_200_123);

    /// Everything that can be read without a wait.
    fn drain(reader: &mut File) -> String {
        let (mut all, mut piece) = (Vec::new(), [0; WRITE_BYTES_MAX]);
        while is_ready(reader, PollFlags::IN) {
            let length = reader.read(&mut piece).unwrap();
            all.extend(&piece[..length]);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_reader_that_rests_loses_only_what_finds_no_room_and_is_told() {
        let (reader, writer) = io::pipe().unwrap();
        let mut reader = File::from(OwnedFd::from(reader));
        let mut logger = Logger::to(writer.into(), Level::Info, LogFormat::Text);
        let long = "x".repeat(10_000);
        for number in 0..100 {
            let record = Record::info("main", "long").with("number", number).with("text", &long);
            logger.write(AT, &record);
        }
        assert!(logger.is_waiting() && logger.waiting.len() <= WAITING_BYTES_MAX);
        let lost = logger.lost;
        let mut read = String::new();
        while logger.is_waiting() {
            read.push_str(&drain(&mut reader));
            logger.flush();
        }
        logger.write(AT, &Record::info("main", "after"));
        read.push_str(&drain(&mut reader));
        let lines: Vec<&str> = read.lines().collect();
        let whole = lines.iter().filter(|line| line.ends_with("xxxx")).count() as u64;
        assert!(whole > 0 && lost > 0 && whole + lost == 100, "{whole} read, {lost} lost");
        let told = format!("WARN  main     nobody read the log, lines were lost lines={lost}");
        assert!(lines[lines.len() - 2].ends_with(&told), "{}", lines[lines.len() - 2]);
        assert!(lines[lines.len() - 1].ends_with("main     after"));
    }

    #[test]
    fn a_reader_that_is_gone_is_no_trouble() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut logger = Logger::to(writer.into(), Level::Info, LogFormat::Text);
        logger.write(AT, &Record::info("main", "to nobody"));
        assert!(!logger.is_waiting());
    }

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
