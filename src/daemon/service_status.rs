//! How the daemon stands, in one short line for the service manager, and how far it is with many orders,
//! in one for a person at a terminal. Said when it has changed, never with a word of a peer in it.

use std::time::Duration;

use crate::config::Mode;
use crate::machine::{ConnId, Input, Output};
use crate::time::{Instant, Now};

use super::Daemon;
use super::certificates::Counts;

/// Certificates are counted again after this time at the earliest: it takes a look at every one.
const COUNT_PAUSE: Duration = Duration::from_secs(1);

/// So many orders at once are worth a line that shows how far they are.
const MANY: usize = 5;

/// What was said last, and what it was made from.
#[derive(Debug, Default)]
pub(super) struct Standing {
    said: String,
    counts: Counts,
    /// The revision of the certificates that were counted, and when.
    counted: Option<(u64, Instant)>,
}

/// How far the orders are, from the first one until none is left.
#[derive(Debug, Default)]
pub(super) struct Progress {
    ended: usize,
    failed: usize,
    said: String,
}

impl Progress {
    /// An order came to its end.
    pub(super) fn ended(&mut self, well: bool) {
        self.ended += 1;
        self.failed += usize::from(!well);
    }

    /// What is to be said with so many orders that have not ended, when that is another thing.
    fn next(&mut self, open: usize) -> Option<String> {
        if open == 0 {
            (self.ended, self.failed) = (0, 0);
        }
        let all = self.ended + open;
        let text = match (all, self.failed) {
            (..MANY, _) => String::new(),
            (_, 0) => format!("ordering {} of {all}", self.ended),
            (_, failed) => format!("ordering {} of {all}, {failed} failed", self.ended),
        };
        if text == self.said {
            return None;
        }
        self.said.clone_from(&text);
        Some(text)
    }
}

impl Daemon {
    /// Says how far the orders are, if it has not said just that.
    pub(super) fn say_progress(&mut self) {
        let open = if self.end_by.is_some() { 0 } else { self.issuer.orders_open() };
        self.outputs.extend(self.progress.next(open).map(Output::Progress));
    }

    /// Says how it stands, if it has not said just that.
    pub(super) fn say_standing(&mut self, now: Now) {
        self.count_certificates(now);
        let standing = self.standing();
        if self.standing.said != standing {
            self.outputs.push_back(Output::Status(standing.clone()));
            self.standing.said = standing;
        }
    }

    fn count_certificates(&mut self, now: Now) {
        let revision = self.certificates.revision();
        let is_fresh = self
            .standing
            .counted
            .is_some_and(|(of, at)| of == revision || now.mono.since(at) < COUNT_PAUSE);
        if !is_fresh {
            self.standing.counts = self.certificates.counts(now.wall);
            self.standing.counted = Some((revision, now.mono));
        }
    }

    fn standing(&self) -> String {
        if self.end_by.is_some() {
            "stopping".into()
        } else if let Some(trouble) = self.storage.write_trouble() {
            format!("the storage is in trouble: {trouble}")
        } else if self.storage.is_anothers() {
            "standing by, another instance is active".into()
        } else if !self.storage.is_active() {
            "opening the storage".into()
        } else if let Mode::Revoke(name) = &self.config.mode {
            format!("revoking the certificate {name}")
        } else {
            let attached = if self.watcher.status().attached { "attached" } else { "not attached" };
            format!("{}; Marathon {attached}", line(&self.standing.counts))
        }
    }
}

/// `7 certificates valid, 1 failing`
fn line(counts: &Counts) -> String {
    let plural = if counts.valid == 1 { "" } else { "s" };
    let mut line = format!("{} certificate{plural} valid", counts.valid);
    let others =
        [(counts.failing, "failing"), (counts.pending, "pending"), (counts.unwanted, "unwanted")];
    for (count, state) in others.into_iter().filter(|(count, _)| *count > 0) {
        line.push_str(&format!(", {count} {state}"));
    }
    line
}

/// Whether an input can change nothing of how the daemon stands: clients send as much as they like,
/// and counting certificates costs more than they do.
pub(super) fn is_of_a_stranger(input: &Input<'_>) -> bool {
    matches!(
        input,
        Input::Accepted(..)
            | Input::Exhausted(_)
            | Input::Received(ConnId::Accepted(_), _)
            | Input::Finished(_)
            | Input::Closed(ConnId::Accepted(_), _)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_is_counted() {
        let counts = Counts { valid: 7, failing: 1, ..Counts::default() };
        assert_eq!(line(&counts), "7 certificates valid, 1 failing");
        let counts = Counts { valid: 1, pending: 2, unwanted: 3, ..Counts::default() };
        assert_eq!(line(&counts), "1 certificate valid, 2 pending, 3 unwanted");
        assert_eq!(line(&Counts::default()), "0 certificates valid");
    }

    #[test]
    fn many_orders_show_how_far_they_are_until_none_is_left() {
        let mut progress = Progress::default();
        let mut said = |ended: Option<bool>, open| {
            ended.into_iter().for_each(|well| progress.ended(well));
            progress.next(open)
        };
        assert_eq!(said(None, 4), None, "few");
        assert_eq!(said(None, 6).as_deref(), Some("ordering 0 of 6"));
        assert_eq!(said(None, 6), None, "said already");
        assert_eq!(said(Some(true), 5).as_deref(), Some("ordering 1 of 6"));
        assert_eq!(said(Some(false), 4).as_deref(), Some("ordering 2 of 6, 1 failed"));
        assert_eq!(said(Some(true), 1).as_deref(), Some(""), "the others do not begin now");
        assert_eq!(said(Some(true), 2).as_deref(), Some("ordering 4 of 6, 1 failed"));
        assert_eq!(said(Some(true), 0).as_deref(), Some(""));
        assert_eq!(said(None, 5).as_deref(), Some("ordering 0 of 5"), "counted anew");
    }
}
