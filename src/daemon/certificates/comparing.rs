//! What is wanted, compared with what was wanted before, and what follows from that: of very many
//! certificates some are changed in each turn. Part of the scheduler's machine. Never unwants anything before
//! all is known that is wanted.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::daemon::model::{Urgency, Wish, Wishes};
use crate::domain::Domain;
use crate::log::{Record, message};
use crate::time::UnixTime;
use crate::turn::Turn;

use super::{Certificates, PER_TURN};

/// What the last complete list of apps changes and has not changed yet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Not wanted any more, or void.
    gone: VecDeque<Domain>,
    /// Wanted otherwise than before.
    wanted: VecDeque<(Domain, Arc<Wish>)>,
}

impl Certificates {
    /// Takes in the whole of what is wanted now. Of very much the rest is done in the next turns.
    pub fn want(&mut self, turn: &mut Turn<'_>, wishes: &Wishes) {
        self.want_soon(Arc::new(wishes.clone()));
        self.handle_timeout(turn);
    }

    /// The same, all of it in the next turns.
    pub fn want_soon(&mut self, wishes: Arc<Wishes>) {
        self.asked = Some(wishes);
    }

    /// Whether all is done that a list of apps changes; said once for each list.
    pub fn take_compared(&mut self) -> bool {
        std::mem::take(&mut self.compared)
    }

    /// What is not wanted any more, or has become void, and what is wanted otherwise than before. Both
    /// sides are in order, so that they are walked through side by side.
    fn compare(&self, now: UnixTime, wishes: &Wishes) -> Changes {
        let mut changes = Changes::default();
        let owned = |(name, wish): (&Domain, &Arc<Wish>)| (name.clone(), Arc::clone(wish));
        let mut wishes = wishes.iter().peekable();
        for (name, entry) in &self.entries {
            while let Some(wish) = wishes.next_if(|(wished, _)| *wished < name) {
                changes.wanted.push_back(owned(wish));
            }
            match wishes.next_if(|(wished, _)| *wished == name) {
                Some((_, wish)) if entry.wish.as_ref() == Some(wish) => {}
                Some(wish) => changes.wanted.push_back(owned(wish)),
                None if entry.wish.is_some() || entry.is_void(now) => {
                    changes.gone.push_back(name.clone());
                }
                None => {}
            }
        }
        changes.wanted.extend(wishes.map(owned));
        changes
    }

    /// Carries on with what the last list changes.
    pub(super) fn apply_changes(&mut self, turn: &mut Turn<'_>) {
        if let Some(wishes) = self.asked.take() {
            self.changes = Some(self.compare(turn.now.wall, &wishes));
        }
        let Some(mut changes) = self.changes.take() else { return };
        for _ in 0..PER_TURN {
            // Nothing is unwanted before all is known that is wanted.
            let gone = if self.policy.synced { changes.gone.pop_front() } else { None };
            if let Some(name) = gone {
                self.unwant(turn, &name);
            } else if let Some((name, wish)) = changes.wanted.pop_front() {
                self.want_one(turn, &name, &wish);
            } else if self.policy.synced {
                self.compared = true;
                return self.retire(turn.now.wall);
            } else {
                self.policy.synced = true;
            }
        }
        self.changes = Some(changes);
    }

    fn unwant(&mut self, turn: &mut Turn<'_>, name: &Domain) {
        self.leave_queue(name);
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.wish.take().is_some() {
            turn.log(Record::info("sync", message::DOMAIN_UNWANTED).with("name", name));
        }
        self.unsaved = self.unsaved.max(Some(Urgency::Lazy));
        self.cancel_if_void(turn, name);
        self.reindex(name);
        self.drop_if_void(name);
    }

    fn want_one(&mut self, turn: &mut Turn<'_>, name: &Domain, wish: &Arc<Wish>) {
        let entry = self.entries.entry(name.clone()).or_default();
        if entry.wish.is_none() {
            let line = Record::info("sync", message::DOMAIN_WANTED).with("name", name);
            turn.log(line.with("app", &wish.source.app));
        }
        let keeps_place = entry.wish.as_ref().is_some_and(|before| {
            before.names == wish.names && before.source.app == wish.source.app
        });
        if let Some(until) = entry.take_wish(turn.now.wall, wish) {
            let line = Record::info("order", "label changed again, its order waits");
            turn.log(line.with("name", name).with("until", until));
        }
        if !keeps_place {
            self.leave_queue(name);
        }
        self.unsaved = self.unsaved.max(Some(Urgency::Lazy));
        self.cancel_if_void(turn, name);
        self.reindex(name);
    }
}
