//! How the daemon stands, in one short line for the service manager. Said when it has changed, never
//! with a word of a peer in it.

use std::time::Duration;

use crate::config::Mode;
use crate::seam::{ConnId, Input, Output};
use crate::time::{Instant, Now};

use super::Daemon;
use super::certificates::Counts;

/// Certificates are counted anew after this time at the earliest: it takes a look at every one.
const COUNT_PAUSE: Duration = Duration::from_secs(1);

/// What was said last, and what it was made from.
#[derive(Debug, Default)]
pub(super) struct Standing {
    said: String,
    counts: Counts,
    /// The revision of the certificates that were counted, and when.
    counted: Option<(u64, Instant)>,
}

impl Daemon {
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

/// Whether an input can change nothing of how the daemon stands: strangers send as much as they like,
/// and counting certificates costs more than they do.
pub(super) fn is_of_a_stranger(input: &Input<'_>) -> bool {
    matches!(
        input,
        Input::Accepted(..)
            | Input::Exhausted(_)
            | Input::Received(ConnId::Accepted(_), _)
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
}
