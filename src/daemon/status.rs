//! What the daemon tells about itself: `/health`, `/metrics`, `/status.json` and the page. Reads the
//! parts of the daemon and changes nothing. Never shows a key, a token or a password.

use crate::daemon::budget::Left;
use crate::daemon::certificates::{Certificates, Counts};
use crate::daemon::guard::Guard;
use crate::daemon::issuer::Issuer;
use crate::daemon::reloader::Reloader;
use crate::daemon::routes::Routes;
use crate::daemon::server::{ChallengeCounts, ReportRequest};
use crate::daemon::watcher::Watcher;
use crate::http::ServerResponse;
use crate::time::UnixTime;

mod bar;
mod health;
mod html;
mod json;
mod metrics;
mod overview;
mod page;
mod query;
mod words;

pub use health::Health;
pub use overview::Overview;

/// More certificates than this make answers that cost something: they are limited.
const FEW: usize = 300;
/// Certificates that the answers of one kind within a window are about, together.
const CERTIFICATES_PER_WINDOW: usize = 30_000;
/// Answers of one kind within a window, however many certificates there are …
const ANSWERS_MIN: usize = 8;
/// … and however few.
const ANSWERS_MAX: usize = 40;

/// What all reports are made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The wall time.
    pub now: UnixTime,
    /// When the process started, by its clock.
    pub started: UnixTime,
    /// Whether this instance is the active one.
    pub active: bool,
    /// Whether all is well.
    pub health: &'a Health,
    /// The CA's directory.
    pub directory: &'a str,
    /// The certificates.
    pub certificates: &'a Certificates,
    /// The same, together.
    pub overview: &'a Overview,
    /// What is not ours among their files.
    pub guard: &'a Guard,
    /// What is left of the CA's limits.
    pub budget: &'a [Left],
    /// The CA.
    pub issuer: &'a Issuer,
    /// Marathon.
    pub watcher: &'a Watcher,
    /// The load balancers.
    pub reloader: &'a Reloader,
    /// What was found on the challenges' ways.
    pub routes: &'a Routes,
    /// The listener.
    pub challenges: ChallengeCounts,
}

impl Sources<'_> {
    /// The answer to a question.
    pub fn answer(&self, request: &ReportRequest) -> ServerResponse {
        match request {
            ReportRequest::Health { status_only } => self.health.response(*status_only),
            ReportRequest::Metrics(usage) => metrics::response(self, usage),
            ReportRequest::Json => json::response(self),
            ReportRequest::Page(query) => page::response(self, query),
        }
    }

    fn counts(&self) -> Counts {
        self.certificates.counts(self.now)
    }
}

/// How many answers of one kind about so many certificates are given within a window of the listener's rate
/// limiter; none are limited where they cost little. Many certificates make each answer long, so that there
/// are fewer of them.
pub fn answers_max(request: &ReportRequest, certificates: usize) -> Option<usize> {
    let is_costly = certificates > FEW && !matches!(request, ReportRequest::Health { .. });
    is_costly.then(|| (CERTIFICATES_PER_WINDOW / certificates).clamp(ANSWERS_MIN, ANSWERS_MAX))
}

#[cfg(test)]
mod tests;
