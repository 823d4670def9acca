//! What the daemon tells about itself, gathered from its parts when a peer asks for it. Part of the
//! daemon; changes nothing.

use std::cell::OnceCell;

use crate::daemon::front::{ChallengeCounts, Front, Reports};
use crate::daemon::status::{Health, Inquiry, Sources, is_costly};
use crate::hint::{Hint, advised};
use crate::http::ServerResponse;
use crate::time::UnixTime;

use super::Daemon;

/// The daemon as it answers questions about itself within one turn.
struct Reporter<'a> {
    daemon: &'a Daemon,
    now: UnixTime,
    /// A peer may ask many times in a turn; it is looked once.
    health: OnceCell<Health>,
}

impl Daemon {
    /// Lets the listener's side work; how the daemon is, is looked at once at most, and only when a
    /// peer asks: strangers who send nothing but bytes cost no more than those.
    pub(super) fn ask_front(&mut self, now: UnixTime, work: impl FnOnce(&mut Front, &dyn Reports)) {
        let mut front = std::mem::take(&mut self.front);
        let reporter = Reporter { daemon: self, now, health: OnceCell::new() };
        work(&mut front, &reporter);
        self.front = front;
    }

    fn health(&self) -> Health {
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
        if let Some(problem) = self.issuer.status().problem {
            health.troubles.push(format!("ca: {}", problem.advised()));
        }
        for lb in self.reloader.failing() {
            health.troubles.push(format!("lb: {lb} has not acknowledged a reload"));
        }
        health.troubles.extend(self.guard.troubles());
        for (limit, until) in self.certificates.held() {
            health.troubles.push(format!("orders: held back until {until} by {limit}"));
        }
        let failing = self.certificates.failing();
        match failing {
            0 => {}
            1 => health.troubles.push("orders: 1 certificate fails".into()),
            _ => health.troubles.push(format!("orders: {failing} certificates fail")),
        }
        health
    }
}

impl Reports for Reporter<'_> {
    fn answer(&self, inquiry: &Inquiry, challenges: ChallengeCounts) -> ServerResponse {
        let daemon = self.daemon;
        let budget = match inquiry {
            Inquiry::Health | Inquiry::Metrics(_) => Vec::new(),
            Inquiry::Json | Inquiry::Page(_) => daemon.certificates.limits_left(self.now),
        };
        let sources = Sources {
            now: self.now,
            started: daemon.started.unwrap_or(self.now),
            active: daemon.storage.is_active(),
            health: self.health.get_or_init(|| daemon.health()),
            directory: &daemon.directory,
            certificates: &daemon.certificates,
            guard: &daemon.guard,
            budget: &budget,
            issuer: &daemon.issuer,
            watcher: &daemon.watcher,
            reloader: &daemon.reloader,
            routes: &daemon.routes,
            challenges,
        };
        sources.answer(inquiry)
    }

    fn is_costly(&self, inquiry: &Inquiry) -> bool {
        is_costly(inquiry, self.daemon.certificates.len())
    }
}
