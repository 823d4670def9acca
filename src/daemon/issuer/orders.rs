//! Orders side by side: queued, announced, begun, over. Part of the issuer's machine. Never begins a new
//! order before it was told to: whoever ordered has to remember it first.
//!
//! No order keeps another one waiting for long: one that takes its time stands aside, and those that wait
//! for room take turns by apps, so that an app's first order waits for those under way and for one order
//! of each app that waits (`fair_queue.rs`).

use crate::acme::call::CallError;
use crate::acme::order::{Order, OrderOutput, OrderRequest};
use crate::daemon::model::{Issued, NewOrder, OrderError, OrderId};

use crate::context::Context;
use crate::domain::Domain;
use crate::log::{Record, message};
use crate::time::Instant;

use super::{
    Issuer, IssuerOutput, ORDERS_OPEN_MAX, ORDERS_PER_TURN, ORDERS_SIDE_BY_SIDE_MAX,
    OVERLOAD_PAUSE_MAX, OrderQueue, Owner, STANDS_ASIDE_AFTER, Stage,
};

impl Issuer {
    /// Orders a certificate. When there is room for it, it is announced by [`IssuerOutput::Begins`],
    /// unless the CA knows the order already; how it ends comes as [`IssuerOutput::Finished`].
    pub fn order(&mut self, cx: &mut Context<'_>, new: NewOrder) {
        self.queue.push(new);
        self.go_on(cx);
    }

    /// An order that was announced begins; `replaces` names the certificate that it is to replace
    /// (RFC 9773 section 5).
    pub fn begin(&mut self, cx: &mut Context<'_>, order: OrderId, replaces: Option<String>) {
        let Some(new) = self.announced.remove(&order) else { return };
        let new = NewOrder { replaces, ..new };
        if matches!(self.stage, Stage::Registered) {
            self.begin_order(cx, new);
        } else {
            self.begun_before.insert(order);
            self.queue.push_first(new);
        }
    }

    /// An order that was not told to begin is forgotten, whether there was room for it already or not.
    pub fn cancel(&mut self, cx: &mut Context<'_>, order: OrderId) {
        self.announced.remove(&order);
        self.queue.remove(order);
        self.go_on(cx);
    }

    /// The process ends soon: no order begins any more, and of those under way only those continue that
    /// another run could not resume.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.queue = OrderQueue::default();
        self.announced.clear();
        self.begun_before.clear();
        self.remade.clear();
        for id in self.orders.keys().copied().collect::<Vec<_>>() {
            self.drop_resumable(id);
        }
    }

    /// Forgets an order that another run can resume. What it has published stays published.
    fn drop_resumable(&mut self, id: OrderId) {
        if self.orders.get(&id).is_some_and(|order| !order.cannot_be_resumed()) {
            self.orders.remove(&id);
            self.waiting.retain(|(owner, ..)| *owner != Owner::Order(id));
        }
    }

    /// Begins what has waited for the account, as far as there is room.
    pub(super) fn go_on(&mut self, cx: &mut Context<'_>) {
        if let Stage::Stuck(reason) = &self.stage {
            let error = OrderError::Unregistered { reason: reason.clone() };
            self.begun_before.clear();
            self.remade.clear();
            let announced = std::mem::take(&mut self.announced).into_iter().map(|(order, _)| order);
            let room = ORDERS_PER_TURN.saturating_sub(self.taken);
            let queued = std::iter::from_fn(|| self.queue.pop()).take(room);
            let queued: Vec<OrderId> = queued.map(|new| new.order).collect();
            self.taken += queued.len();
            for order in announced.chain(queued) {
                let result = Err(error.clone());
                self.outputs.push_back(IssuerOutput::Finished { order, result });
            }
        }
        self.begin_revocation(cx);
        if self.hold.is_some_and(|until| until <= cx.now.mono) {
            self.hold = None;
        }
        while matches!(self.stage, Stage::Registered)
            && self.hold.is_none()
            && self.has_room()
            && self.taken < ORDERS_PER_TURN
            && !self.queue.is_empty()
        {
            let quiet = self.orders.is_empty() && self.announced.is_empty();
            if quiet && self.directory_is_old(cx) {
                return self.enter(cx, Stage::ReadingDirectory);
            }
            let Some(new) = self.queue.pop() else { return };
            self.taken += 1;
            if new.resume.is_some() || self.begun_before.remove(&new.order) {
                self.begin_order(cx, new);
            } else {
                self.outputs.push_back(IssuerOutput::Begins { order: new.order });
                self.announced.insert(new.order, new);
            }
        }
    }

    /// Whether one more order may begin.
    fn has_room(&self) -> bool {
        self.in_front.len() + self.announced.len() < ORDERS_SIDE_BY_SIDE_MAX
            && self.orders.len() + self.announced.len() < ORDERS_OPEN_MAX
    }

    /// When the next order stands aside, where that lets another one begin.
    pub(super) fn stands_aside_at(&self) -> Option<Instant> {
        self.in_front.values().min().copied().filter(|_| !self.queue.is_empty())
    }

    /// Lets those stand aside that take so long; whether there was one that others may have waited for.
    pub(super) fn someone_stood_aside(&mut self, cx: &Context<'_>) -> bool {
        let before = self.in_front.len();
        self.in_front.retain(|_, until| *until > cx.now.mono);
        self.in_front.len() < before && !self.queue.is_empty()
    }

    fn begin_order(&mut self, cx: &mut Context<'_>, new: NewOrder) {
        let NewOrder { order, names, replaces, resume, .. } = new;
        let name = names.first().map(Domain::as_str).unwrap_or_default();
        let what = if resume.is_some() { message::ORDER_RESUMED } else { message::ORDER_STARTED };
        cx.log(Record::info("order", what).with("name", name));
        let request = OrderRequest {
            names,
            replaces,
            profile: self.profile.clone(),
            key_type: self.key_type,
            preferred_chain: self.preferred_chain.clone(),
            resume,
        };
        self.orders.insert(order, Order::new(cx.now.mono, request));
        self.in_front.insert(order, cx.now.mono + STANDS_ASIDE_AFTER);
        self.run_order(cx, order);
    }

    /// [`IssuerOutput::Created`] is on the disk, or cannot be.
    pub fn kept(&mut self, cx: &mut Context<'_>, order: OrderId) {
        if let Some(it) = self.orders.get_mut(&order) {
            it.kept(cx);
            self.run_order(cx, order);
        }
    }

    /// Lets an order do what it wants, until it waits.
    pub(super) fn run_order(&mut self, cx: &mut Context<'_>, id: OrderId) {
        let Some((directory, _)) = &self.directory else { return };
        let Some(order) = self.orders.get_mut(&id) else { return };
        if !self.stopping || order.cannot_be_resumed() {
            order.handle_timeout(cx.now.mono, directory);
        }
        let outputs: Vec<OrderOutput> = std::iter::from_fn(|| order.poll_output()).collect();
        for output in outputs {
            match output {
                OrderOutput::Call(post) => self.post(cx, Owner::Order(id), post, 0),
                OrderOutput::Created(resume) => {
                    self.account_works();
                    self.outputs.push_back(IssuerOutput::Created { order: id, resume });
                }
                OrderOutput::Finalizing => {
                    self.outputs.push_back(IssuerOutput::Finalizing { order: id });
                }
                OrderOutput::Publish { token, key_authorization } => {
                    self.outputs.push_back(IssuerOutput::Publish { token, key_authorization });
                }
                OrderOutput::Withdraw { token } => {
                    self.outputs.push_back(IssuerOutput::Withdraw { token });
                }
                OrderOutput::Finished(result) => self.order_over(cx, id, result),
            }
        }
        if self.stopping {
            self.drop_resumable(id);
        }
    }

    fn order_over(
        &mut self,
        cx: &mut Context<'_>,
        id: OrderId,
        result: Result<Issued, OrderError>,
    ) {
        let Some(order) = self.orders.remove(&id) else { return };
        self.in_front.remove(&id);
        self.waiting.retain(|(owner, ..)| *owner != Owner::Order(id));
        let gone = matches!(&result, Err(error) if error.is_account_gone());
        match result {
            // The key is still ours: the CA makes it a new account, and the order is made again. Once: a
            // CA that registers an account and does not know it would be asked without end.
            Err(_) if gone && self.remade.insert(id) => {
                self.account_is_gone(cx);
                let OrderRequest { names, .. } = order.request().clone();
                self.begun_before.insert(id);
                let (app, replaces, resume, failed_before) = (String::new(), None, None, false);
                let again = NewOrder { order: id, app, names, replaces, resume, failed_before };
                self.queue.push_first(again);
            }
            result => {
                self.remade.remove(&id);
                if let Err(error) = &result {
                    self.heed(cx, error);
                }
                self.outputs.push_back(IssuerOutput::Finished { order: id, result });
            }
        }
        self.go_on(cx);
    }

    /// What an order's failure says about the CA as a whole.
    fn heed(&mut self, cx: &mut Context<'_>, error: &OrderError) {
        if error.is_account_refused() {
            self.account_is_doubtful(cx);
        }
        if error.is_nothing_there() {
            self.directory_doubted = true;
        }
        let OrderError::Call(CallError::Problem { status, .. } | CallError::Status { status, .. }) =
            error
        else {
            return;
        };
        if let (503, Some(pause)) = (status, error.retry_after()) {
            let pause = pause.min(OVERLOAD_PAUSE_MAX);
            let until = cx.now.wall.plus(pause);
            self.hold = Some(cx.now.mono + pause);
            let line = Record::warn("acme", message::CA_OVERLOADED);
            cx.log(line.with("until", until).with("error", error));
            self.outputs.push_back(IssuerOutput::NotBefore(until));
        }
    }
}
