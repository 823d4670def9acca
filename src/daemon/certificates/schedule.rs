//! The words of the schedule: what is next for a certificate, when, and why. Data only.

use std::fmt;

use crate::daemon::model::When;
use crate::domain::Domain;
use crate::time::UnixTime;

/// What is next for one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// When; in the past it means at once.
    pub at: UnixTime,
    /// What.
    pub task: Task,
    /// Why.
    pub why: Why,
}

/// What can be next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Read the file again, which the disk did not give.
    Read,
    /// Write the file again, which the disk did not take.
    Write,
    /// Order a certificate, or resume an order of an earlier run.
    Order,
    /// Ask the CA when to renew (RFC 9773).
    Ask,
    /// Move the file to the archive.
    Archive,
}

/// The reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The disk failed.
    Disk,
    /// No certificate is stored.
    Missing,
    /// The stored one lacks a name of the label.
    NameAdded,
    /// The stored one has a name that the label has no longer.
    NameRemoved,
    /// An order of an earlier run is not over.
    Unfinished,
    /// The CA's suggested window (RFC 9773).
    Window,
    /// The lifetime alone decides.
    Lifetime,
    /// The last order failed.
    Failed,
    /// Load balancers did not serve the new certificate, and the previous one was restored.
    RolledBack,
    /// A limit of the CA leaves no room before.
    Budget,
    /// The CA does not accept as many names in one certificate.
    TooManyNames,
    /// No app wants it any more, and it expired long ago.
    Unwanted,
}

/// One line of the plan, for whoever wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The certificate.
    pub name: Domain,
    /// What is next; nothing while something is under way, or when a person must act.
    pub next: Option<Next>,
    /// What is under way, in a word.
    pub state: &'static str,
}

impl Why {
    /// What decides on a renewal.
    pub fn of_a_renewal(self) -> &'static str {
        match self {
            Why::Window => "in the CA's window",
            _ => "by its lifetime",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Task::Read => "read the file",
            Task::Write => "write the file",
            Task::Order => "order",
            Task::Ask => "ask for the renewal window",
            Task::Archive => "archive the file",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Disk => "the disk failed",
            Why::Missing => "there is no certificate",
            Why::NameAdded => "a name was added",
            Why::NameRemoved => "a name was removed",
            Why::Unfinished => "an order of an earlier run is not over",
            Why::Window => "renewal, in the CA's window",
            Why::Lifetime => "renewal, by the lifetime",
            Why::Failed => "the last order failed",
            Why::RolledBack => "the new certificate was rolled back",
            Why::Budget => "a limit of the CA",
            Why::TooManyNames => "too many names in one certificate",
            Why::Unwanted => "no app wants it",
        })
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.next {
            Some(Next { at, task, why }) if When::At(at) == When::NOW => {
                write!(f, "{}: {task} now ({why})", self.name)
            }
            Some(Next { at, task, why }) => write!(f, "{}: {task} at {at} ({why})", self.name),
            None => write!(f, "{}: {}", self.name, self.state),
        }
    }
}
