//! What the daemon tells the operator: records of level, subject, message and fields, as data.
//! `io/log.rs` writes them out. Nothing secret is ever put into one.

pub mod message;

use std::fmt;

use crate::hint::Hint;

/// How much a record matters. The order is that of `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For finding faults in the program.
    Debug,
    /// What an operator wants to know of; an idle day is a handful of lines.
    Info,
    /// Something is odd and was skipped.
    Warn,
    /// Something failed, and is tried again.
    Error,
    /// The program cannot do its work until a person acts.
    Critical,
}

impl Level {
    /// The name in upper case, as in a log line.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Critical => "CRITICAL",
        }
    }
}

/// One line of the log, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How much it matters.
    pub level: Level,
    /// The part of the program it is about, one word: `order`, `marathon`, `lb`, `storage` …
    pub subject: &'static str,
    /// What happened, in a few words without values.
    pub message: String,
    /// Names and values, in order of importance. A value may hold anything a peer said.
    pub fields: Vec<(&'static str, String)>,
    /// The messages of the problems that it ends.
    pub ends: &'static [&'static str],
}

impl Record {
    /// A record without fields.
    pub fn new(level: Level, subject: &'static str, message: impl Into<String>) -> Record {
        Record { level, subject, message: message.into(), fields: Vec::new(), ends: &[] }
    }

    /// At [`Level::Debug`].
    pub fn debug(subject: &'static str, message: impl Into<String>) -> Record {
        Record::new(Level::Debug, subject, message)
    }

    /// At [`Level::Info`].
    pub fn info(subject: &'static str, message: impl Into<String>) -> Record {
        Record::new(Level::Info, subject, message)
    }

    /// At [`Level::Warn`].
    pub fn warn(subject: &'static str, message: impl Into<String>) -> Record {
        Record::new(Level::Warn, subject, message)
    }

    /// At [`Level::Error`].
    pub fn error(subject: &'static str, message: impl Into<String>) -> Record {
        Record::new(Level::Error, subject, message)
    }

    /// This record, as the end of the problems with these messages, about the same `lb`, `address` and `name`
    /// as far as both have these fields.
    #[must_use]
    pub fn ends(mut self, problems: &'static [&'static str]) -> Record {
        self.ends = problems;
        self
    }

    /// This record with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Record {
        self.fields.push((name, value.to_string()));
        self
    }

    /// This record with what may help, where that is known.
    #[must_use]
    pub fn hinted(self, hint: Option<Hint>) -> Record {
        match hint {
            Some(hint) => self.with("hint", hint),
            None => self,
        }
    }
}
