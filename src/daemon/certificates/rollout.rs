//! A new certificate until it is known to be served, and what a rollback restores. Data only; `trial.rs`
//! decides.

use crate::daemon::model::{Life, Stored, Trouble};
use crate::secret::Secret;
use crate::time::UnixTime;

/// A new certificate that is not known to be served.
#[derive(Debug)]
pub(super) enum Trial {
    /// It is in `certs/`.
    Running {
        before: Box<Before>,
        after: Secret,
        /// Trials of it that failed.
        trouble: Option<Box<Trouble>>,
    },
    /// The one of before is back in its place.
    Withheld { after: Secret },
}

impl Trial {
    /// What takes its place again when it fails.
    pub(super) fn may_go_back_to(&self, now: UnixTime) -> Option<&Stored> {
        match self {
            Trial::Running { before, .. } => {
                let Before { stored, life, .. } = &**before;
                Some(stored).filter(|stored| stored.lasts(life.as_deref(), now))
            }
            Trial::Withheld { .. } => None,
        }
    }
}

/// What was in service before.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) pem: Secret,
    pub(super) stored: Stored,
    pub(super) life: Option<Box<Life>>,
}

/// Where a file that is being written comes from. Small, as every entry has room for it.
#[derive(Debug)]
pub(super) enum Origin {
    /// The CA has issued it just now.
    Issued,
    /// It was withheld, and is tried again; trials of it failed.
    Withheld(Option<Box<Trouble>>),
    /// It goes back; what was known of it.
    Before(Option<Box<Life>>),
}
