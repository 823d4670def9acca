//! From the moment on which this instance holds the storage to the one on which it lets go of it: by
//! stepping down, which is a restart within the process, or by the end of the process. Part of the daemon.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::challenge::Responder;
use crate::daemon::model::Urgency;

use crate::context::Context;
use crate::daemon::storage::{Opened, Purpose};
use crate::log::{Record, message};
use crate::machine::{Change, Inventory, Load, Output, StoreError};
use crate::time::Instant;

use super::Daemon;

/// How long a process that is to end may continue for an order's sake: the contract gives it two seconds.
const STOP_TIME: Duration = Duration::from_millis(1500);

impl Daemon {
    /// The storage was opened, or was not.
    pub(super) fn storage_loaded(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<Inventory, StoreError>,
    ) {
        if self.storage.loses_lease_to(&result) {
            return self.demote(cx, "another instance has the storage");
        }
        if let Some(Opened { activated, inventory }) = self.storage.opened(cx, result) {
            if activated {
                self.recall(cx, inventory);
            } else {
                self.journal.touch(cx.now.mono, Urgency::Now);
                self.reconcile(cx, &inventory);
            }
        }
    }

    /// Mends what differs from what should be there: left by another run, or by a change that the
    /// disk did not take.
    pub(super) fn reconcile(&mut self, cx: &mut Context<'_>, inventory: &Inventory) {
        let published: Vec<&str> = self.front.responder.tokens().collect();
        let needless = |token: &&String| {
            !published.contains(&token.as_str()) && !self.stale_challenges.contains(token)
        };
        for token in inventory.challenges.iter().filter(needless) {
            let token = token.clone();
            self.storage.store(Purpose::Challenge, Change::Withdraw { token });
        }
        if !inventory.has_fallback {
            match cx.keys.fallback(cx.now.wall) {
                Ok(pem) => self.storage.store(Purpose::Fallback, Change::Fallback(pem)),
                Err(error) => {
                    cx.log(Record::error("storage", "no default.pem").with("error", error));
                }
            }
        }
    }

    /// This instance holds the storage now: the work begins.
    pub(super) fn activate(&mut self, cx: &mut Context<'_>, inventory: Inventory) {
        let line = Record::info("storage", message::STORAGE_OPENED);
        cx.log(line.with("certificates", inventory.certificates.len()));
        if self.reload_owed {
            self.reloader.changed(cx);
        }
        let memory = self.cas.get(&self.directory);
        self.issuer.start(cx, inventory.account_key.as_ref(), memory);
        if let Some(name) = self.run_mode.to_revoke() {
            return self.storage.load(Load::Certificate(name.clone()));
        }
        self.certificates.found(inventory.certificates);
        self.guard.look_soon(cx.now.mono);
        self.archive.start(cx.now.mono);
        self.watcher_waits = true;
        self.start_watcher(cx);
    }

    /// Starts to follow Marathon once all files are read: by its certificate an app has its domains.
    pub(super) fn start_watcher(&mut self, cx: &mut Context<'_>) {
        if !self.watcher_waits || self.certificates.is_reading() {
            return;
        }
        self.watcher_waits = false;
        // A one-shot run does not wait for a list to change: it is about what is listed now.
        let knew_apps = self.run_mode.serves() && self.certificates.memory(None).next().is_some();
        let before = self.certificates.asked_for();
        self.watcher.start(cx, &mut self.client, before, knew_apps);
    }

    /// Withdraws what was left published once no order that an earlier run placed can be under way; what
    /// an order of this run has published too is that one's to withdraw.
    pub(super) fn remove_stale_challenges(&mut self, cx: &Context<'_>) {
        if self.stale_challenges.is_empty() {
            return;
        }
        let needed = || self.certificates.has_placed_orders();
        for token in self.stale_challenges.take_needless(cx.now.mono, needed) {
            if self.front.responder.tokens().all(|published| published != token) {
                self.storage.store(Purpose::Challenge, Change::Withdraw { token });
            }
        }
    }

    /// Another instance is the active one, or may be: this one forgets all that it knew and stands by,
    /// as if it had just been started. Its listener's connections live on, and what it has published
    /// stays in the files, where either instance finds it: the other one goes on with the orders.
    pub(super) fn demote(&mut self, cx: &mut Context<'_>, reason: &str) {
        let line = Record::warn("storage", message::LEASE_LOST);
        cx.log(line.with("reason", reason));
        let anew = Daemon::new(&self.config, self.binding.clone(), Vec::new());
        let mut before = std::mem::replace(self, anew);
        // They number connections and writes: no number is ever used again.
        before.client.close_all();
        before.storage.demote(cx.now.mono);
        before.front.responder = Responder::default();
        self.client = before.client;
        self.storage = before.storage;
        self.front = before.front;
        self.outputs = before.outputs;
        self.end_by = before.end_by;
        self.started = before.started;
        self.standing = before.standing;
        self.run_mode.lease_lost(cx);
    }

    /// The process is to end. An order that the next run cannot resume has a little while to come to
    /// its end, or to a point from which it can: else the certificate would be ordered twice.
    pub(super) fn stop(&mut self, cx: &mut Context<'_>) {
        self.issuer.stop();
        self.certificates.cancel_unbegun(cx);
        self.end_by = Some(cx.now.mono + STOP_TIME);
    }

    /// The status to end with, when the process was to end and nothing is in hand any more.
    pub(super) fn stopped(&self, now: Instant) -> Option<u8> {
        // Asked in every iteration: all certificates are looked through only once the end is near.
        let by = self.end_by?;
        let in_hand = || self.issuer.status().running > 0 || self.certificates.is_writing();
        // The CA may be asking for these at this moment: an end would cut the connection that it asks by.
        let is_asked = || self.front.responder.tokens().next().is_some();
        (by <= now || !(in_hand() || is_asked())).then(|| self.run_mode.interrupted())
    }

    /// Ends in order. The challenges of orders that are noted stay published, for the instance that goes
    /// on with them; of others nothing stays. What the disk has not taken has its last chance.
    pub(super) fn end(&mut self, cx: &mut Context<'_>, status: u8) {
        self.over = true;
        self.routes.conclude(cx);
        self.certificates.stop(cx);
        let goes_on = self.run_mode.serves() && self.storage.trouble().is_none();
        if self.storage.is_active() && !goes_on {
            let published = self.front.responder.tokens().map(str::to_string);
            for token in published.chain(self.stale_challenges.take()).collect::<BTreeSet<_>>() {
                self.front.responder.withdraw(&token);
                self.storage.store(Purpose::Challenge, Change::Withdraw { token });
            }
        }
        while self.carry(cx) {}
        let is_known = self.recalling.is_none();
        if self.storage.is_active() && is_known && !self.journal.is_clean() {
            self.write_memory(cx);
        }
        while self.writing.is_some() {
            self.write_on();
        }
        self.storage.release(cx.now.mono);
        while self.carry(cx) {}
        self.flush_log(cx);
        self.outputs.push_back(Output::Exit(status));
    }
}

#[cfg(test)]
mod tests;
