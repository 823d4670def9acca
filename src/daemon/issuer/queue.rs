//! Orders that wait for room, fairly between apps ([`FairQueue`]). Those that were told to begin
//! already, and had to wait again, come before all others. Data only.

use std::collections::{BTreeMap, VecDeque};

use crate::daemon::budget::registered_domain;
use crate::daemon::model::{NewOrder, OrderId};

use crate::daemon::fair_queue::{FairQueue, QueuedOrder};

#[derive(Debug, Default)]
pub(super) struct OrderQueue {
    first: VecDeque<NewOrder>,
    turns: FairQueue,
    waiting: BTreeMap<u64, NewOrder>,
}

impl OrderQueue {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for its app's turn.
    pub(super) fn push(&mut self, new: NewOrder) {
        let domain = new.names.first().map(registered_domain).unwrap_or_default();
        let (id, failed_before) = (new.order.0, new.failed_before);
        let place = QueuedOrder { id, app: &new.app, domain: &domain, failed_before };
        self.turns.push(&place);
        self.waiting.insert(id, new);
    }

    /// Comes before all others.
    pub(super) fn push_first(&mut self, new: NewOrder) {
        self.first.push_front(new);
    }

    /// The order whose turn it is.
    pub(super) fn pop(&mut self) -> Option<NewOrder> {
        let first = self.first.pop_front();
        first.or_else(|| self.turns.pop().and_then(|id| self.waiting.remove(&id)))
    }

    pub(super) fn remove(&mut self, order: OrderId) {
        self.first.retain(|new| new.order != order);
        self.turns.remove(order.0);
        self.waiting.remove(&order.0);
    }
}
