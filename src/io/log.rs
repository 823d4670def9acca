//! Writes records to standard output, one line each (contract: log), as whoever reads there wants them:
//! the journal with priorities, a person at a terminal with colour and with a line that shows how far it
//! is. Lines that say the same again and again are counted. Never fails and never blocks: a log that
//! nobody reads is no reason to stop.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::LogFormat;
use crate::log::{Level, Record};
use crate::repeats::Repeats;
use crate::time::{Instant, Now, UnixTime};

mod lines;
mod place;

use place::{Place, Variables};

/// Bytes that wait for a reader at most; further lines are counted instead.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// A pipe that is ready takes so many bytes without blocking (pipe(7), `PIPE_BUF`).
const WRITE_BYTES_MAX: usize = 4096;
/// To the first column, and everything from there on away.
const CLEAR: &str = "\r\x1b[K";

/// The operator's window.
#[derive(Debug)]
pub struct Logger {
    level: Level,
    format: LogFormat,
    place: Place,
    /// Its mode is left alone: who started us may share it, and would not expect `O_NONBLOCK`.
    out: File,
    waiting: VecDeque<u8>,
    /// Lines that found no room.
    lost: u64,
    repeats: Repeats,
    /// How far it is, below all lines: as it should be, and as it was written last.
    progress: String,
    shown: String,
}

impl Logger {
    /// A logger that writes records of `level` and above to standard output.
    ///
    /// # Errors
    /// The system has no descriptors left, or standard output is closed.
    pub fn new(level: Level, format: LogFormat) -> io::Result<Logger> {
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Logger::to(out, level, format, &Variables::of_this_process()))
    }

    fn to(out: OwnedFd, level: Level, format: LogFormat, variables: &Variables) -> Logger {
        let out = File::from(out);
        Logger {
            level,
            format,
            place: Place::of(&out, variables),
            out,
            waiting: VecDeque::new(),
            lost: 0,
            repeats: Repeats::new(level),
            progress: String::new(),
            shown: String::new(),
        }
    }

    /// Writes a record, or keeps it until somebody reads; one that was written again and again is only
    /// counted for a while.
    pub fn write(&mut self, now: Now, record: Record) {
        if record.level < self.level {
            return;
        }
        for record in self.repeats.hear(now, record) {
            self.say(now.wall, &record);
        }
    }

    /// Shows how far it is, where that can be written over; nothing when it is empty.
    pub fn progress(&mut self, text: &str) {
        if matches!(self.place, Place::Terminal { .. }) && self.format == LogFormat::Text {
            self.progress = text.into();
            self.flush();
        }
    }

    /// Says what was held back for long enough, and offers what waits.
    pub fn turned(&mut self, now: Now) {
        for record in self.repeats.take_due(now.mono) {
            self.say(now.wall, &record);
        }
        self.flush();
    }

    /// When [`Logger::turned`] has something to say.
    pub fn wake_at(&self) -> Option<Instant> {
        self.repeats.poll_timeout()
    }

    /// Nothing more will be said.
    pub fn finish(&mut self, now: Now) {
        self.progress.clear();
        for record in self.repeats.take_all() {
            self.say(now.wall, &record);
        }
        self.flush();
    }

    fn say(&mut self, at: UnixTime, record: &Record) {
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
        let line = lines::line(self.place, self.format, at, record);
        if self.waiting.len() + CLEAR.len() + line.len() > WAITING_BYTES_MAX {
            self.lost += 1;
            return;
        }
        if !self.shown.is_empty() {
            self.shown.clear();
            self.waiting.extend(CLEAR.as_bytes());
        }
        self.waiting.extend(line.as_bytes());
    }

    /// Whether something waits for a reader.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what the reader takes without a wait.
    pub fn flush(&mut self) {
        self.flush_waiting();
        // Below the last line, and never behind one that is not there yet.
        if self.waiting.is_empty() && self.shown != self.progress {
            self.shown.clone_from(&self.progress);
            // A line that is longer than the terminal is wide could not be written over.
            let room = place::columns(&self.out).saturating_sub(1);
            self.waiting.extend(CLEAR.as_bytes());
            self.waiting.extend(self.shown.chars().take(room).collect::<String>().as_bytes());
            self.flush_waiting();
        }
    }

    fn flush_waiting(&mut self) {
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const AT: Now = Now { mono: Instant::START, wall: UnixTime::from_millis(1_795_453_200_123) };

    fn piped(writer: io::PipeWriter) -> Logger {
        Logger::to(writer.into(), Level::Info, LogFormat::Text, &Variables::default())
    }

    /// Everything that can be read without a wait.
    fn drain(reader: &mut File) -> String {
        let (mut all, mut piece) = (Vec::new(), [0; WRITE_BYTES_MAX]);
        while is_ready(reader, PollFlags::IN) {
            match reader.read(&mut piece).unwrap() {
                0 => break,
                length => all.extend(&piece[..length]),
            }
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_reader_that_rests_loses_only_what_finds_no_room_and_is_told() {
        let (reader, writer) = io::pipe().unwrap();
        let mut reader = File::from(OwnedFd::from(reader));
        let mut logger = piped(writer);
        let long = "x".repeat(10_000);
        for number in 0..100 {
            let record = Record::info("main", "long").with("number", number).with("text", &long);
            logger.write(AT, record);
        }
        assert!(logger.is_waiting() && logger.waiting.len() <= WAITING_BYTES_MAX);
        let lost = logger.lost;
        let mut read = String::new();
        while logger.is_waiting() {
            read.push_str(&drain(&mut reader));
            logger.flush();
        }
        logger.write(AT, Record::info("main", "after"));
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
        let mut logger = piped(writer);
        logger.write(AT, Record::info("main", "to nobody"));
        assert!(!logger.is_waiting());
    }

    /// A pipe that is taken for a terminal.
    fn shown(format: LogFormat, work: impl FnOnce(&mut Logger)) -> String {
        let (reader, writer) = io::pipe().unwrap();
        let mut logger = piped(writer);
        (logger.place, logger.format) = (Place::Terminal { colour: false }, format);
        work(&mut logger);
        drain(&mut File::from(OwnedFd::from(reader)))
    }

    #[test]
    fn how_far_it_is_stands_below_all_lines_and_goes_when_it_is_over() {
        let found = shown(LogFormat::Text, |logger| {
            logger.progress("ordering 0 of 9");
            logger.progress("ordering 0 of 9");
            logger.write(AT, Record::info("order", "issued"));
            logger.progress("ordering 1 of 9");
            logger.progress("");
            logger.write(AT, Record::info("main", "after"));
        });
        let time = "2026-11-23T17:00:00.123Z INFO  ";
        let expected = format!(
            "{CLEAR}ordering 0 of 9{CLEAR}{time}order    issued\n{CLEAR}ordering 0 of 9\
             {CLEAR}ordering 1 of 9{CLEAR}{time}main     after\n"
        );
        assert_eq!(found, expected);
        let ended = shown(LogFormat::Text, |logger| {
            logger.progress("ordering 0 of 9");
            logger.finish(AT);
        });
        assert_eq!(ended, format!("{CLEAR}ordering 0 of 9{CLEAR}"));
    }

    #[test]
    fn how_far_it_is_fits_the_terminal_and_is_for_people_only() {
        let long = shown(LogFormat::Text, |logger| logger.progress(&"x".repeat(500)));
        assert_eq!(long, format!("{CLEAR}{}", "x".repeat(79)));
        assert_eq!(shown(LogFormat::Json, |logger| logger.progress("x")), "");
        let (reader, writer) = io::pipe().unwrap();
        piped(writer).progress("x");
        assert_eq!(drain(&mut File::from(OwnedFd::from(reader))), "");
    }

    #[test]
    fn what_was_held_back_is_said_in_time_and_at_the_end() {
        let (reader, writer) = io::pipe().unwrap();
        let mut reader = File::from(OwnedFd::from(reader));
        let mut logger = piped(writer);
        let line = || Record::error("lb", "x").with("lb", "y");
        for _ in 0..4 {
            logger.write(AT, line());
        }
        assert_eq!(drain(&mut reader).lines().count(), 1);
        let due = logger.wake_at().unwrap();
        logger.turned(Now { mono: due, ..AT });
        let times = "first=2026-11-23T17:00:00Z last=2026-11-23T17:00:00Z";
        let summary = |count| format!("x lb=y repeated={count} {times}\n");
        assert!(drain(&mut reader).ends_with(&summary(3)));
        logger.write(Now { mono: due, ..AT }, line());
        logger.finish(AT);
        assert!(drain(&mut reader).ends_with(&summary(1)));
    }
}
