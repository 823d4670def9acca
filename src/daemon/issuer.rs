//! Gets certificates from the CA: one account, several orders side by side, nonces shared by all.
//! Never decides what is ordered, and never touches a connection: it says what to send.
//!
//! Account: `Resting → (StoringKey →) ReadingDirectory → (Asking →) (Registering →) Registered`, in
//! `account.rs`, and from `Registered → Asking`, where it is doubted, in `doubt.rs`; orders wait for
//! `Registered`. Questions about renewals and a revocation are in `questions.rs`.
//! Every call that fails is tried again, with growing pauses.

use std::collections::VecDeque;
use std::time::Duration;

use crate::acme::account::Binding;
use crate::acme::call::{CallError, Post, Signer, judge};
use crate::acme::nonces::Nonces;
use crate::acme::order::Order;
use crate::acme::renewal_info::{NoSuggestion, Suggestion};
use crate::acme::types::{Directory, Malformed, ProblemKind, may_be_asked};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::daemon::model::{AccountState, Issued, NewOrder, OrderError, OrderId, Resume};

use crate::context::Context;
use crate::daemon::owner::CallId;
use crate::daemon::queues::Queues;
use crate::domain::Domain;
use crate::flat::{FlatMap, FlatSet};
use crate::hint::Complaint;
use crate::http::{Method, Request, Response};
use crate::keys::{AccountKey, KeyType};
use crate::secret::Secret;
use crate::time::{Instant, UnixTime};
use crate::url::Url;

mod account;
mod counts;
mod doubt;
mod orders;
mod questions;
mod queue;
#[cfg(test)]
mod tests;

pub use counts::CaCounts;
use questions::{Questions, Revocation};
use queue::OrderQueue;

/// Orders that are taken from the queue in one iteration. Where a limit of the CA puts all of them back, the
/// others are taken in the next iterations, so that what else there is to do does not wait for thousands.
const ORDERS_PER_TURN: usize = 50;
/// Orders side by side at most; further ones wait.
pub const ORDERS_SIDE_BY_SIDE_MAX: usize = 10;
/// An order that takes longer stands aside: it goes on, but keeps no other one from beginning …
pub const STANDS_ASIDE_AFTER: Duration = Duration::from_secs(60);
/// … as long as there are no more than this in all.
pub const ORDERS_OPEN_MAX: usize = 50;
/// A call is signed again with the nonce of a `badNonce` answer so many times.
const BAD_NONCES_MAX: u32 = 5;
/// A directory that is older is read again before the next order.
const DIRECTORY_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A CA that says that it is overloaded keeps all new orders waiting, but no longer than this.
const OVERLOAD_PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A call got no answer; the transport's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// What happened, for the operator.
    pub text: Complaint,
    /// The name does not resolve, or nobody listens there.
    pub lasting: bool,
}

/// What the issuer wants done.
#[derive(Debug)]
pub enum IssuerOutput {
    /// Send a request; the answer goes to [`Issuer::handle_response`].
    Send {
        /// Names it.
        call: CallId,
        /// What to send.
        request: Request,
    },
    /// Write the account key; the outcome goes to [`Issuer::account_key_stored`].
    StoreAccountKey(Secret),
    /// Answer this token from now on.
    Publish {
        /// The challenge's token.
        token: String,
        /// What to answer.
        key_authorization: String,
    },
    /// Answer it no longer.
    Withdraw {
        /// The challenge's token.
        token: String,
    },
    /// There is room for an order now: it waits for [`Issuer::begin`] or [`Issuer::cancel`].
    Begins {
        /// Which.
        order: OrderId,
    },
    /// The CA has made an order, which can be resumed with this: [`Issuer::kept`] is waited for.
    Created {
        /// Which.
        order: OrderId,
        /// Its URL, and what it is finalized with.
        resume: Resume,
    },
    /// The CA is asked to issue: it may do so whatever becomes of the order here.
    Finalizing {
        /// Which.
        order: OrderId,
    },
    /// The CA's answer about a renewal.
    Advised {
        /// The certificate's file.
        name: Domain,
        /// What names it to the CA.
        cert_id: String,
        /// When to renew, or why that is not known.
        answer: Result<Suggestion, NoSuggestion>,
    },
    /// The directory was read.
    Offers {
        /// Whether the CA says when to renew (RFC 9773).
        renewal_info: bool,
    },
    /// By how many milliseconds our clock is ahead of the CA's, after each of its answers: 0 where it shows
    /// no time.
    ClockCompared {
        /// Negative where it is behind.
        ahead_ms: i64,
    },
    /// The account, to be remembered.
    Account(AccountState),
    /// The CA wants no new orders before; to be remembered.
    NotBefore(UnixTime),
    /// The operator's choices cannot be carried out at this CA; why.
    Refused(String),
    /// How a revocation ended.
    Revoked(Result<(), String>),
    /// An order is over.
    Finished {
        /// Which.
        order: OrderId,
        /// The certificate, or why there is none.
        result: Result<Issued, OrderError>,
    },
}

/// How it stands with the CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerStatus {
    /// The account's URL.
    pub account: Option<String>,
    /// Orders under way.
    pub running: usize,
    /// Orders that wait.
    pub queued: usize,
    /// Why there is no account yet.
    pub problem: Option<Complaint>,
    /// The CA's clock and this machine's show different times.
    pub clock: Option<Complaint>,
}

/// The CA's side of the daemon.
#[derive(Debug)]
pub struct Issuer {
    directory_url: Url,
    email: Option<String>,
    binding: Option<Binding>,
    profile: Option<String>,
    preferred_chain: Option<String>,
    key_type: KeyType,
    stage: Stage,
    /// When the stage's call is to be made; nothing while it is under way.
    call_at: Option<Instant>,
    backoff: Backoff,
    problem: Option<Complaint>,
    counts: CaCounts,
    /// The CA has not seen the key yet: no account has it.
    key_is_unseen: bool,
    /// The CA has answered to the account in this process as it should.
    has_worked: bool,
    /// Whether the operator was told of the account.
    said_registered: bool,
    key: Option<AccountKey>,
    /// The URL of the account that signed requests go by.
    kid: Option<String>,
    /// The account that an earlier registration gave.
    known: Option<AccountState>,
    /// The directory, and when it was read.
    directory: Option<(Directory, Instant)>,
    /// Something that it names is not there any more: it is read again before the next order.
    directory_doubted: bool,
    nonces: Nonces,
    /// Calls under way, and what each asks.
    calls: FlatMap<CallId, (Call, Url)>,
    calls_made: u64,
    /// Calls that wait for a nonce.
    waiting: VecDeque<(Owner, Post, u32)>,
    orders: FlatMap<OrderId, Order>,
    /// Those of them that count among the ones side by side, and until when.
    in_front: FlatMap<OrderId, Instant>,
    /// Orders that have room and wait for the word to begin.
    announced: FlatMap<OrderId, NewOrder>,
    queue: OrderQueue,
    /// Orders that were taken from the queue in this iteration.
    taken: usize,
    /// Orders in the queue that had begun already, and need no second word.
    begun_before: FlatSet<OrderId>,
    /// Orders that were made again already, since the CA did not know the account.
    remade: FlatSet<OrderId>,
    /// The CA is overloaded: no new order before.
    hold: Option<Instant>,
    /// The process ends soon.
    stopping: bool,
    /// The CA's clock shows another time than ours, as of its last answer that shows one.
    clock_problem: Option<Complaint>,
    questions: Questions,
    revocation: Option<Revocation>,
    outputs: VecDeque<IssuerOutput>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Not started.
    Resting,
    /// The new key must be on the disk before the CA sees it.
    StoringKey(Secret),
    ReadingDirectory,
    /// Whether the CA has an account for the key.
    Asking,
    Registering,
    Registered,
    /// Only a person can help; the reason.
    Stuck(Complaint),
}

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Account,
    Contact,
    Order(OrderId),
    Revocation,
}

#[derive(Debug)]
enum Call {
    Directory,
    Nonce,
    Question { name: Domain, cert_id: String },
    Post { owner: Owner, post: Post, bad_nonces: u32 },
}

impl Issuer {
    /// An issuer for the CA of the configuration, which does nothing yet.
    pub fn new(config: &Config, binding: Option<Binding>) -> Issuer {
        Issuer {
            directory_url: config.acme.clone(),
            email: config.email.clone(),
            binding,
            profile: config.profile.clone(),
            preferred_chain: config.preferred_chain.clone(),
            key_type: config.key_type,
            stage: Stage::Resting,
            call_at: None,
            backoff: Backoff::default(),
            problem: None,
            counts: CaCounts::default(),
            key_is_unseen: false,
            has_worked: false,
            said_registered: false,
            key: None,
            kid: None,
            known: None,
            directory: None,
            directory_doubted: false,
            nonces: Nonces::default(),
            calls: FlatMap::new(),
            calls_made: 0,
            waiting: VecDeque::new(),
            orders: FlatMap::new(),
            in_front: FlatMap::new(),
            announced: FlatMap::new(),
            queue: OrderQueue::default(),
            taken: 0,
            begun_before: FlatSet::new(),
            remade: FlatSet::new(),
            hold: None,
            stopping: false,
            clock_problem: None,
            questions: Questions::default(),
            revocation: None,
            outputs: VecDeque::new(),
        }
    }

    /// Sends a POST, when there is a nonce for it; else asks for one first. One to where no resource of
    /// the CA may be fails as an answer would that is none: nothing is sent.
    fn post(&mut self, cx: &mut Context<'_>, owner: Owner, post: Post, bad_nonces: u32) {
        let Some(key) = self.signing_key(owner) else { return };
        if !may_be_asked(&self.directory_url, &post.url) {
            let (object, near) = ("answer", post.url.to_string());
            let error = Malformed { object, member: "https URL", near };
            return self.replied(cx, owner, Err(CallError::Malformed(error)));
        }
        let key = key.clone();
        let Some(nonce) = self.nonces.spend(cx.now.mono) else {
            self.waiting.push_back((owner, post, bad_nonces));
            return self.ask_for_nonce();
        };
        // An order that is under way while the account is registered again still goes by the old one.
        let kid = self.kid.as_deref().filter(|_| owner != Owner::Account);
        match (Signer { key: &key, kid }).sign(cx.keys, &post, &nonce) {
            Ok(request) => self.send(Call::Post { owner, post, bad_nonces }, request),
            Err(error) => self.replied(cx, owner, Err(CallError::Key(error))),
        }
    }

    fn ask_for_nonce(&mut self) {
        if let Some((directory, _)) = &self.directory {
            let request = Request::new(Method::Head, directory.new_nonce.clone());
            self.send(Call::Nonce, request);
        }
    }

    fn send(&mut self, call: Call, request: Request) {
        let id = CallId(self.calls_made);
        self.calls_made += 1;
        self.calls.insert(id, (call, request.url.clone()));
        self.outputs.push_back(IssuerOutput::Send { call: id, request });
    }

    /// Takes in the CA's answer to a call, or that there was none.
    pub fn handle_response(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        result: Result<Response, CallFailure>,
    ) {
        let Some((call, url)) = self.calls.remove(&call) else { return };
        // Renewal information may be another server's: its nonces, if it has any, are not the CA's.
        let of_the_ca = !matches!(call, Call::Question { .. });
        if let Some(response) = result.as_ref().ok().filter(|_| of_the_ca) {
            self.nonces.bank(cx.now.mono, &response.head.headers);
            // What else is answered may be a proxy's, with its own clock.
            if (200..300).contains(&response.head.status) {
                self.compare_clocks(cx, &response.head.headers);
            }
        }
        let transport = |CallFailure { text, lasting }| CallError::Transport { text, lasting };
        let wall = cx.now.wall;
        let status = result.as_ref().ok().map(|response| response.head.status);
        let reply = result.map_err(transport).and_then(|response| judge(wall, &url, response));
        self.counts.note(status, &reply);
        match call {
            Call::Directory => self.directory_read(cx, reply),
            Call::Nonce => self.nonce_came(cx, reply),
            Call::Question { name, cert_id } => self.answered(cx, name, cert_id, reply),
            Call::Post { owner, post, bad_nonces } => {
                let bad = reply.as_ref().err().and_then(CallError::problem_kind)
                    == Some(ProblemKind::BadNonce);
                if bad && bad_nonces < BAD_NONCES_MAX {
                    self.post(cx, owner, post, bad_nonces + 1);
                } else {
                    self.replied(cx, owner, reply);
                }
            }
        }
    }

    fn nonce_came(&mut self, cx: &mut Context<'_>, reply: Result<Response, CallError>) {
        let Some((owner, post, bad_nonces)) = self.waiting.pop_front() else { return };
        match reply {
            Ok(_) if self.nonces.is_empty() => {
                let text = "the CA gave no nonce".into();
                self.replied(cx, owner, Err(CallError::Transport { text, lasting: false }));
            }
            Ok(_) => self.post(cx, owner, post, bad_nonces),
            Err(error) => self.replied(cx, owner, Err(error)),
        }
    }

    fn replied(&mut self, cx: &mut Context<'_>, owner: Owner, reply: Result<Response, CallError>) {
        match owner {
            Owner::Account if self.stage == Stage::Asking => self.looked_for(cx, reply),
            Owner::Account => self.registered(cx, reply),
            Owner::Contact => self.contact_updated(cx, reply),
            Owner::Revocation => self.revoked(cx, reply),
            Owner::Order(id) => {
                let (Some(key), Some(order)) = (&self.key, self.orders.get_mut(&id)) else {
                    return;
                };
                order.handle_reply(cx, key, reply);
                self.run_order(cx, id);
            }
        }
    }

    /// Makes the calls that are due.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.call_at.is_some_and(|at| at <= cx.now.mono) {
            self.call_at = None;
            self.make_stage_call(cx);
        }
        let was_cut = std::mem::take(&mut self.taken) >= ORDERS_PER_TURN;
        let hold_is_over = self.hold.is_some_and(|until| until <= cx.now.mono);
        if hold_is_over || self.someone_stood_aside(cx) || was_cut {
            self.go_on(cx);
        }
        let due = |order: &Order| order.poll_timeout().is_some_and(|at| at <= cx.now.mono);
        let ids = self.orders.iter().filter(|(_, order)| due(order));
        let ids: Vec<OrderId> = ids.map(|(id, _)| *id).collect();
        for id in ids {
            self.run_order(cx, id);
        }
    }

    /// When a call is due, or an order takes too long.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let orders = self.orders.values().filter_map(Order::poll_timeout);
        let cut = (self.taken >= ORDERS_PER_TURN).then_some(Instant::START);
        let others = [self.call_at, self.hold, self.stands_aside_at(), cut];
        orders.chain(others.into_iter().flatten()).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<IssuerOutput> {
        self.outputs.pop_front()
    }

    /// How often in a row the CA could not be registered with.
    pub fn failures(&self) -> u32 {
        match self.stage {
            Stage::Stuck(_) => u32::MAX,
            // The pauses grow on until an order is placed.
            Stage::Registered => 0,
            _ => self.backoff.failures(),
        }
    }

    /// Says how much waits here.
    pub fn measure(&self, queues: &mut Queues) {
        let refused = self.calls.values().map(|(call, _)| match call {
            Call::Post { bad_nonces, .. } => *bad_nonces,
            Call::Directory | Call::Nonce | Call::Question { .. } => 0,
        });
        queues.bad_nonces = refused.max().unwrap_or_default();
        queues.nonces = self.nonces.count();
        queues.calls_without_nonce = self.waiting.len();
        queues.orders_open = self.orders.len() + self.announced.len();
        queues.orders_waiting = self.queue.len();
        queues.questions_waiting = self.questions.waiting();
    }

    /// What was asked of the CA.
    pub fn counts(&self) -> &CaCounts {
        &self.counts
    }

    /// How many orders have not ended.
    pub fn orders_open(&self) -> usize {
        self.orders.len() + self.announced.len() + self.queue.len()
    }

    /// How it stands with the CA.
    pub fn status(&self) -> IssuerStatus {
        let registered = matches!(self.stage, Stage::Registered);
        let account = self.kid.clone().filter(|_| registered);
        let running = self.orders.len() + self.announced.len();
        let queued = self.queue.len();
        let (problem, clock) = (self.problem.clone(), self.clock_problem.clone());
        IssuerStatus { account, running, queued, problem, clock }
    }
}
