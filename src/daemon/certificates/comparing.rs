//! What is wanted, compared with what was wanted before, and what follows from that: of very many
//! certificates some are changed in each iteration. Part of the scheduler's machine. Never unwants
//! anything before all is known that is wanted.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::context::Context;
use crate::daemon::model::{DesiredCertificate, DesiredCertificates, Urgency};
use crate::domain::Domain;
use crate::log::{Record, message};
use crate::time::UnixTime;

use super::{Certificates, PER_TURN};

/// What the last complete list of apps changes and has not changed yet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Not wanted any more, or void.
    gone: VecDeque<Domain>,
    /// Wanted otherwise than before.
    wanted: VecDeque<(Domain, Arc<DesiredCertificate>)>,
}

impl Certificates {
    /// Takes in the whole of what is wanted now. Of very much the rest is done in the next iterations.
    pub fn want(&mut self, cx: &mut Context<'_>, desired: &DesiredCertificates) {
        self.want_soon(Arc::new(desired.clone()));
        self.handle_timeout(cx);
    }

    /// The same, all of it in the next iterations.
    pub fn want_soon(&mut self, desired: Arc<DesiredCertificates>) {
        self.asked = Some(desired);
    }

    /// Whether all is done that a list of apps changes; said once for each list.
    pub fn take_compared(&mut self) -> bool {
        std::mem::take(&mut self.compared)
    }

    /// What is not wanted any more, or has become void, and what is wanted otherwise than before. Both
    /// sides are in order, so that they are walked through side by side.
    fn compare(&self, now: UnixTime, desired: &DesiredCertificates) -> Changes {
        let mut changes = Changes::default();
        let owned = |(name, desired): (&Domain, &Arc<DesiredCertificate>)| {
            (name.clone(), Arc::clone(desired))
        };
        let mut desired = desired.iter().peekable();
        for (name, entry) in &self.entries {
            while let Some(desired) = desired.next_if(|(wished, _)| *wished < name) {
                changes.wanted.push_back(owned(desired));
            }
            match desired.next_if(|(wished, _)| *wished == name) {
                Some((_, desired)) if entry.desired.as_ref() == Some(desired) => {}
                Some(desired) => changes.wanted.push_back(owned(desired)),
                None if entry.desired.is_some() || entry.is_void(now) => {
                    changes.gone.push_back(name.clone());
                }
                None => {}
            }
        }
        changes.wanted.extend(desired.map(owned));
        changes
    }

    /// Carries on with what the last list changes.
    pub(super) fn apply_changes(&mut self, cx: &mut Context<'_>) {
        if let Some(desired) = self.asked.take() {
            self.changes = Some(self.compare(cx.now.wall, &desired));
        }
        let Some(mut changes) = self.changes.take() else { return };
        for _ in 0..PER_TURN {
            // Nothing is unwanted before all is known that is wanted.
            let gone = if self.policy.synced { changes.gone.pop_front() } else { None };
            if let Some(name) = gone {
                self.remove_desired(cx, &name);
            } else if let Some((name, desired)) = changes.wanted.pop_front() {
                self.want_one(cx, &name, &desired);
            } else if self.policy.synced {
                self.compared = true;
                return self.retire(cx.now.wall);
            } else {
                self.policy.synced = true;
            }
        }
        self.changes = Some(changes);
    }

    fn remove_desired(&mut self, cx: &mut Context<'_>, name: &Domain) {
        self.leave_queue(name);
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.desired.take().is_some() {
            cx.log(Record::info("sync", message::DOMAIN_UNWANTED).with("name", name));
        }
        self.unsaved = self.unsaved.max(Some(Urgency::Lazy));
        self.cancel_if_void(cx, name);
        self.reindex(name);
        self.drop_if_void(name);
    }

    fn want_one(&mut self, cx: &mut Context<'_>, name: &Domain, desired: &Arc<DesiredCertificate>) {
        let entry = self.entries.entry(name.clone()).or_default();
        if entry.desired.is_none() {
            let line = Record::info("sync", message::DOMAIN_WANTED).with("name", name);
            cx.log(line.with("app", &desired.source.app));
        }
        let keeps_place = entry.desired.as_ref().is_some_and(|before| {
            before.names == desired.names && before.source.app == desired.source.app
        });
        if let Some(until) = entry.set_desired(cx.now.wall, desired) {
            let line = Record::info("order", "label changed again, its order waits");
            cx.log(line.with("name", name).with("until", until));
        }
        if !keeps_place {
            self.leave_queue(name);
        }
        self.unsaved = self.unsaved.max(Some(Urgency::Lazy));
        self.cancel_if_void(cx, name);
        self.reindex(name);
    }
}
