//! What the daemon tells about itself, gathered from its parts when a peer asks for it. Part of the
//! daemon; changes nothing.

use std::cell::RefCell;

use crate::daemon::issuer::IssuerStatus;
use crate::daemon::server::{ChallengeCounts, Lookup, ReportRequest, Reports, Server};
use crate::daemon::status::{Health, Overview, Sources, answers_max};
use crate::hint::{Hint, advised};
use crate::http::ServerResponse;
use crate::time::{Instant, Now};

use super::Daemon;

/// The daemon as it answers questions about itself within one iteration.
struct Reporter<'a> {
    daemon: &'a Daemon,
    now: Now,
    /// Refreshed when a peer asks.
    overview: RefCell<Overview>,
}

impl Daemon {
    /// Lets the listener's side work; how the daemon is, is looked at only when a peer asks: clients that
    /// send nothing but bytes cost no more than those.
    pub(super) fn ask_front(&mut self, now: Now, work: impl FnOnce(&mut Server, &dyn Reports)) {
        let mut front = std::mem::take(&mut self.front);
        let overview = RefCell::new(std::mem::take(&mut self.overview));
        let reporter = Reporter { daemon: self, now, overview };
        work(&mut front, &reporter);
        self.overview = reporter.overview.into_inner();
        self.front = front;
    }

    fn health(&self, now: Instant, overview: &Overview) -> Health {
        let mut health = Health::default();
        if let Some(trouble) = self.storage.write_trouble() {
            let advice = advised(trouble, Hint::of_storage(trouble.kind));
            if self.storage.failure().is_some() {
                health.storage = Some(advice);
            } else {
                health.troubles.push(format!("storage: {advice}"));
            }
        }
        if let Some(problem) = &self.watcher.status().problem {
            health.troubles.push(format!("marathon: {}", problem.advised()));
        }
        let IssuerStatus { problem, clock, .. } = self.issuer.status();
        health.troubles.extend(problem.map(|problem| format!("ca: {}", problem.advised())));
        health.troubles.extend(clock.map(|problem| format!("clock: {}", problem.advised())));
        health.troubles.extend(self.reloader.troubles(now));
        health.troubles.extend(self.guard.troubles());
        health.troubles.extend(overview.held());
        let failing = overview.failing();
        match failing {
            0 => {}
            1 => health.troubles.push("orders: 1 certificate fails".into()),
            _ => health.troubles.push(format!("orders: {failing} certificates fail")),
        }
        health
    }
}

impl Reports for Reporter<'_> {
    fn answer(&self, request: &ReportRequest, challenges: ChallengeCounts) -> ServerResponse {
        let daemon = self.daemon;
        let mut overview = self.overview.borrow_mut();
        overview.refresh(self.now, &daemon.certificates);
        let budget = match request {
            ReportRequest::Json => daemon.certificates.limits_left(self.now.wall),
            ReportRequest::Health { .. } | ReportRequest::Metrics(_) | ReportRequest::Page(_) => {
                Vec::new()
            }
        };
        let sources = Sources {
            now: self.now.wall,
            started: daemon.started.unwrap_or(self.now.wall),
            active: daemon.storage.is_active(),
            health: &daemon.health(self.now.mono, &overview),
            directory: &daemon.directory,
            certificates: &daemon.certificates,
            overview: &overview,
            guard: &daemon.guard,
            budget: &budget,
            issuer: &daemon.issuer,
            watcher: &daemon.watcher,
            reloader: &daemon.reloader,
            routes: &daemon.routes,
            challenges,
        };
        sources.answer(request)
    }

    fn answers_max(&self, request: &ReportRequest) -> Option<usize> {
        answers_max(request, self.daemon.certificates.len())
    }

    fn lookup(&self, token: &str) -> Lookup {
        // While this instance stands by, the active one publishes to the shared storage; and what that one
        // has left there is answered until it is withdrawn.
        if !self.daemon.storage.is_active() {
            Lookup::Shared
        } else if self.daemon.stale_challenges.contains(token) {
            Lookup::Stored
        } else {
            Lookup::Nowhere
        }
    }
}
