//! A new certificate until it is known to be served, and what a rollback restores. Data only; `trial.rs`
//! decides.

use crate::daemon::model::{CertificateRecord, RetryState, Stored};
use crate::secret::Secret;
use crate::time::UnixTime;

/// A new certificate that is not known to be served.
#[derive(Debug)]
pub(super) enum Rollout {
    /// It is in `certs/`.
    Running {
        before: Box<Previous>,
        after: Secret,
        /// Trials of it that failed.
        trouble: Option<Box<RetryState>>,
    },
    /// The previous certificate is back in its place.
    RolledBack { after: Secret },
}

impl Rollout {
    /// What takes its place again when it fails.
    pub(super) fn may_go_back_to(&self, now: UnixTime) -> Option<&Stored> {
        match self {
            Rollout::Running { before, .. } => {
                let Previous { stored, life, .. } = &**before;
                Some(stored).filter(|stored| stored.lasts(life.as_deref(), now))
            }
            Rollout::RolledBack { .. } => None,
        }
    }
}

/// What was in service before.
#[derive(Debug)]
pub(super) struct Previous {
    pub(super) pem: Secret,
    pub(super) stored: Stored,
    pub(super) life: Option<Box<CertificateRecord>>,
}

/// Where a file that is being written comes from. Small, as every entry has room for it.
#[derive(Debug)]
pub(super) enum WriteReason {
    /// The CA has issued it just now.
    Issued,
    /// It was rolled back, and is tried again; rollouts of it failed.
    RolledBack(Option<Box<RetryState>>),
    /// It goes back; what was known of it.
    Previous(Option<Box<CertificateRecord>>),
}
