//! The token that Marathon is asked with, in a file that others write again before it expires: read again
//! before anything is asked. Never shows it, and never takes a damaged file for a token.

use std::path::PathBuf;

use crate::context::Context;
use crate::log::{Record, message};
use crate::machine::StoreError;
use crate::secret::Secret;
use crate::url::Credentials;

/// The file, and how far it is with reading it.
#[derive(Debug)]
pub(super) struct Token {
    path: PathBuf,
    reading: Reading,
    /// What was wrong with it at the last look: said once.
    problem: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// What is known may be old.
    Needed,
    /// It is to be asked for.
    Wanted,
    UnderWay,
    /// Likewise; but what comes may be older than the operator's request to read it.
    Outdated,
    /// Nothing was asked since.
    Done,
}

impl Token {
    pub(super) fn new(path: PathBuf) -> Token {
        Token { path, reading: Reading::Needed, problem: None }
    }

    /// Whether Marathon may be asked now. Where it may not, the file is read first.
    pub(super) fn is_fresh(&mut self) -> bool {
        let is_fresh = self.reading == Reading::Done;
        self.reading = match self.reading {
            Reading::Done => Reading::Needed,
            Reading::Needed => Reading::Wanted,
            waiting => waiting,
        };
        is_fresh
    }

    /// The operator asks for it: what was read before does not count.
    pub(super) fn expire(&mut self) {
        self.reading = match self.reading {
            Reading::Done => Reading::Needed,
            Reading::UnderWay => Reading::Outdated,
            waiting => waiting,
        };
    }

    /// Whether nothing may be asked before the file was read.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.reading, Reading::Wanted | Reading::UnderWay | Reading::Outdated)
    }

    /// The file, when it is to be read.
    pub(super) fn poll_load(&mut self) -> Option<PathBuf> {
        let wanted = self.reading == Reading::Wanted;
        wanted.then(|| {
            self.reading = Reading::UnderWay;
            self.path.clone()
        })
    }

    /// Takes in what was read: what Marathon is to be asked with from now on. Where no token is to be had
    /// the last one stays in use: it may be good still.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        file: Result<Secret, StoreError>,
    ) -> Option<Credentials> {
        self.reading = match self.reading {
            Reading::Outdated => Reading::Wanted,
            _ => Reading::Done,
        };
        let read = match file {
            Ok(text) => Credentials::token(&text).ok_or_else(|| "it holds no token".to_string()),
            Err(error) => Err(error.detail),
        };
        let (token, problem) = match read {
            Ok(token) => (Some(token), None),
            Err(problem) => (None, Some(problem)),
        };
        if let Some(problem) = problem.as_ref().filter(|new| self.problem.as_ref() != Some(new)) {
            let line = Record::warn("marathon", message::NO_NEW_TOKEN);
            cx.log(line.with("file", self.path.display()).with("error", problem));
        }
        self.problem = problem;
        token
    }
}
