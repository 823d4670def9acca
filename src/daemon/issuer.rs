//! Gets certificates from the CA: one account, several orders side by side, nonces shared by all.
//! Never decides what is ordered, and never touches a connection: it says what to send.
//!
//! Account: `Resting → (StoringKey →) ReadingDirectory → Registering → Registered`; orders wait for
//! `Registered`. Every call that fails is tried again, with growing pauses.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::acme::account;
use crate::acme::call::{CallError, Post, Signer, judge};
use crate::acme::nonces::Nonces;
use crate::acme::order::{Order, OrderOutput, OrderRequest};
use crate::acme::types::{Directory, Problem, ProblemKind};
use crate::backoff::Backoff;
use crate::domain::Domain;
use crate::http::{Method, Request, Response};
use crate::keys::AccountKey;
use crate::log::{Level, Record};
use crate::seam::{StoreError, StoreErrorKind};
use crate::secret::Secret;
use crate::time::Instant;
use crate::turn::Turn;
use crate::url::Url;

pub use crate::acme::order::{Issued, OrderError};

#[cfg(test)]
mod tests;

/// Orders side by side at most; further ones wait.
pub const ORDERS_SIDE_BY_SIDE_MAX: usize = 10;
/// A call is signed anew with the nonce of a `badNonce` answer so many times.
const BAD_NONCES_MAX: u32 = 5;
/// A `Retry-After` while registering is followed up to this.
const REGISTRATION_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Names an order; the caller's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// Names a call on its way to the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A call got no answer; the transport's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// What happened, for the operator.
    pub text: String,
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
    pub problem: Option<String>,
}

/// The CA's side of the daemon.
#[derive(Debug)]
pub struct Issuer {
    directory_url: Url,
    email: Option<String>,
    stage: Stage,
    /// When the stage's call is to be made; nothing while it is under way.
    call_at: Option<Instant>,
    backoff: Backoff,
    problem: Option<String>,
    key: Option<AccountKey>,
    directory: Option<Directory>,
    nonces: Nonces,
    calls: BTreeMap<CallId, Call>,
    calls_made: u64,
    /// Calls that wait for a nonce.
    waiting: VecDeque<(Owner, Post, u32)>,
    orders: BTreeMap<OrderId, Order>,
    queue: VecDeque<(OrderId, Vec<Domain>)>,
    outputs: VecDeque<IssuerOutput>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Not started.
    Resting,
    /// The new key must be on the disk before the CA sees it.
    StoringKey(Secret),
    ReadingDirectory,
    Registering,
    Registered {
        kid: String,
    },
    /// Only a person can help; the reason.
    Stuck(String),
}

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Account,
    Order(OrderId),
}

#[derive(Debug)]
enum Call {
    Directory,
    Nonce,
    Post { owner: Owner, post: Post, bad_nonces: u32 },
}

impl Issuer {
    /// An issuer for the CA of that directory, which does nothing yet.
    pub fn new(directory_url: Url, email: Option<String>) -> Issuer {
        Issuer {
            directory_url,
            email,
            stage: Stage::Resting,
            call_at: None,
            backoff: Backoff::default(),
            problem: None,
            key: None,
            directory: None,
            nonces: Nonces::default(),
            calls: BTreeMap::new(),
            calls_made: 0,
            waiting: VecDeque::new(),
            orders: BTreeMap::new(),
            queue: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The storage was read: begins to register, with the key that lay there or a new one.
    pub fn start(&mut self, turn: &mut Turn<'_>, account_key: Option<&Secret>) {
        match account_key {
            Some(pem) => self.use_key(turn, pem),
            None => match turn.keys.new_account_key() {
                Ok(pem) => {
                    self.stage = Stage::StoringKey(pem.clone());
                    self.outputs.push_back(IssuerOutput::StoreAccountKey(pem));
                }
                Err(error) => self.get_stuck(turn, format!("no account key: {error}")),
            },
        }
    }

    /// Takes in whether the new key is on the disk.
    pub fn account_key_stored(&mut self, turn: &mut Turn<'_>, result: Result<(), StoreError>) {
        let Stage::StoringKey(pem) = &self.stage else { return };
        let pem = pem.clone();
        match result {
            Ok(()) => self.use_key(turn, &pem),
            Err(error) if error.kind == StoreErrorKind::Exists => {
                self.get_stuck(
                    turn,
                    "client.key appeared while a new one was made; restart".into(),
                );
            }
            Err(error) => {
                let pause = self.backoff.pause(turn.keys);
                self.call_at = Some(turn.now.mono + pause);
                self.problem = Some(format!("client.key: {error}"));
            }
        }
    }

    fn use_key(&mut self, turn: &mut Turn<'_>, pem: &Secret) {
        match turn.keys.read_account_key(pem) {
            Ok(key) => {
                self.key = Some(key);
                self.enter(turn, Stage::ReadingDirectory);
            }
            Err(error) => {
                self.get_stuck(turn, format!("client.key: {error}; it is never overwritten"));
            }
        }
    }

    fn enter(&mut self, turn: &Turn<'_>, stage: Stage) {
        self.stage = stage;
        self.call_at = Some(turn.now.mono);
    }

    /// Nothing is tried any more; waiting orders are told.
    fn get_stuck(&mut self, turn: &mut Turn<'_>, reason: String) {
        let line = Record::new(Level::Critical, "acme", "cannot order until this is mended");
        turn.log(line.with("error", &reason));
        self.problem = Some(reason.clone());
        self.stage = Stage::Stuck(reason);
        self.call_at = None;
        self.begin_orders(turn);
    }

    /// Orders a certificate; how it ends comes as [`IssuerOutput::Finished`].
    pub fn order(&mut self, turn: &mut Turn<'_>, order: OrderId, names: Vec<Domain>) {
        self.queue.push_back((order, names));
        self.begin_orders(turn);
    }

    fn begin_orders(&mut self, turn: &mut Turn<'_>) {
        if let Stage::Stuck(reason) = &self.stage {
            let error = OrderError::Unregistered { reason: reason.clone() };
            for (order, _) in self.queue.drain(..) {
                let result = Err(error.clone());
                self.outputs.push_back(IssuerOutput::Finished { order, result });
            }
        }
        while matches!(self.stage, Stage::Registered { .. })
            && self.orders.len() < ORDERS_SIDE_BY_SIDE_MAX
            && let Some((id, names)) = self.queue.pop_front()
        {
            let name = names.first().map(Domain::as_str).unwrap_or_default();
            turn.log(Record::info("order", "started").with("name", name));
            self.orders.insert(id, Order::new(turn.now.mono, OrderRequest::plain(names)));
            self.run_order(turn, id);
        }
    }

    /// Lets an order do what it wants, until it waits.
    fn run_order(&mut self, turn: &mut Turn<'_>, id: OrderId) {
        let Some(directory) = &self.directory else { return };
        let Some(order) = self.orders.get_mut(&id) else { return };
        order.handle_timeout(turn.now.mono, directory);
        let outputs: Vec<OrderOutput> = std::iter::from_fn(|| order.poll_output()).collect();
        for output in outputs {
            match output {
                OrderOutput::Call(post) => self.post(turn, Owner::Order(id), post, 0),
                OrderOutput::Placed { .. } => {}
                OrderOutput::Publish { token, key_authorization } => {
                    self.outputs.push_back(IssuerOutput::Publish { token, key_authorization });
                }
                OrderOutput::Withdraw { token } => {
                    self.outputs.push_back(IssuerOutput::Withdraw { token });
                }
                OrderOutput::Finished(result) => self.order_over(turn, id, result),
            }
        }
    }

    fn order_over(&mut self, turn: &mut Turn<'_>, id: OrderId, result: Result<Issued, OrderError>) {
        let Some(order) = self.orders.remove(&id) else { return };
        self.waiting.retain(|(owner, ..)| *owner != Owner::Order(id));
        match result {
            // The key is still ours: the CA makes it a new account, and the order is made again.
            Err(error) if error.is_account_gone() => {
                if matches!(self.stage, Stage::Registered { .. }) {
                    turn.log(Record::warn(
                        "acme",
                        "the CA has forgotten the account, registering anew",
                    ));
                    self.enter(turn, Stage::Registering);
                }
                self.queue.push_front((id, order.names().to_vec()));
            }
            result => self.outputs.push_back(IssuerOutput::Finished { order: id, result }),
        }
        self.begin_orders(turn);
    }

    /// Sends a POST, when there is a nonce for it; else asks for one first.
    fn post(&mut self, turn: &mut Turn<'_>, owner: Owner, post: Post, bad_nonces: u32) {
        let Some(key) = &self.key else { return };
        let Some(nonce) = self.nonces.spend(turn.now.mono) else {
            self.waiting.push_back((owner, post, bad_nonces));
            return self.ask_for_nonce();
        };
        let kid = match &self.stage {
            Stage::Registered { kid } => Some(kid.as_str()),
            _ => None,
        };
        match (Signer { key, kid }).sign(turn.keys, &post, &nonce) {
            Ok(request) => self.send(Call::Post { owner, post, bad_nonces }, request),
            Err(error) => self.replied(turn, owner, Err(CallError::Key(error))),
        }
    }

    fn ask_for_nonce(&mut self) {
        if let Some(directory) = &self.directory {
            let request = Request::new(Method::Head, directory.new_nonce.clone());
            self.send(Call::Nonce, request);
        }
    }

    fn send(&mut self, call: Call, request: Request) {
        let id = CallId(self.calls_made);
        self.calls_made += 1;
        self.calls.insert(id, call);
        self.outputs.push_back(IssuerOutput::Send { call: id, request });
    }

    /// Takes in the CA's answer to a call, or that there was none.
    pub fn handle_response(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        result: Result<Response, CallFailure>,
    ) {
        let Some(call) = self.calls.remove(&call) else { return };
        if let Ok(response) = &result {
            self.nonces.bank(turn.now.mono, &response.head.headers);
        }
        let transport = |CallFailure { text, lasting }| CallError::Transport { text, lasting };
        let wall = turn.now.wall;
        let reply = result.map_err(transport).and_then(|response| judge(wall, response));
        match call {
            Call::Directory => self.directory_read(turn, reply),
            Call::Nonce => self.nonce_came(turn, reply),
            Call::Post { owner, post, bad_nonces } => {
                let bad = reply.as_ref().err().and_then(CallError::problem_kind)
                    == Some(ProblemKind::BadNonce);
                if bad && bad_nonces < BAD_NONCES_MAX {
                    self.post(turn, owner, post, bad_nonces + 1);
                } else {
                    self.replied(turn, owner, reply);
                }
            }
        }
    }

    fn nonce_came(&mut self, turn: &mut Turn<'_>, reply: Result<Response, CallError>) {
        let Some((owner, post, bad_nonces)) = self.waiting.pop_front() else { return };
        match reply {
            Ok(_) if self.nonces.is_empty() => {
                let text = "the CA gave no nonce".to_string();
                self.replied(turn, owner, Err(CallError::Transport { text, lasting: false }));
            }
            Ok(_) => self.post(turn, owner, post, bad_nonces),
            Err(error) => self.replied(turn, owner, Err(error)),
        }
    }

    fn replied(&mut self, turn: &mut Turn<'_>, owner: Owner, reply: Result<Response, CallError>) {
        match owner {
            Owner::Account => self.registered(turn, reply),
            Owner::Order(id) => {
                let (Some(key), Some(order)) = (&self.key, self.orders.get_mut(&id)) else {
                    return;
                };
                order.handle_reply(turn, key, reply);
                self.run_order(turn, id);
            }
        }
    }

    fn directory_read(&mut self, turn: &mut Turn<'_>, reply: Result<Response, CallError>) {
        let directory = reply
            .and_then(|response| Directory::parse(&response.body).map_err(CallError::Malformed));
        match directory {
            Ok(directory) => {
                self.directory = Some(directory);
                self.enter(turn, Stage::Registering);
            }
            Err(error) => self.try_again(turn, &error),
        }
    }

    fn registered(&mut self, turn: &mut Turn<'_>, reply: Result<Response, CallError>) {
        let account = reply
            .and_then(|response| account::read(&response).map_err(CallError::Malformed))
            .map(|account| account.url);
        let binding_wanted =
            self.directory.as_ref().is_some_and(|directory| directory.external_account_required);
        match account {
            Ok(kid) => {
                let line = Record::info("acme", "account is registered").with("account", &kid);
                let terms = self.directory.as_ref().and_then(|it| it.terms_of_service.as_ref());
                turn.log(match terms {
                    Some(terms) => line.with("agreed_to_terms_of_service", terms),
                    None => line,
                });
                self.stage = Stage::Registered { kid };
                self.call_at = None;
                self.problem = None;
                self.backoff.reset();
                self.begin_orders(turn);
            }
            Err(CallError::Problem { problem, .. }) if binding_wanted => {
                let Problem { detail, .. } = problem;
                self.get_stuck(turn, format!("the CA wants an external account binding: {detail}"));
            }
            Err(error) => self.try_again(turn, &error),
        }
    }

    /// Registering failed; the directory may have changed, so it is read again.
    fn try_again(&mut self, turn: &mut Turn<'_>, error: &CallError) {
        let asked = error.retry_after().unwrap_or_default().min(REGISTRATION_PAUSE_MAX);
        let pause = self.backoff.pause(turn.keys).max(asked);
        let line = Record::error("acme", "cannot register with the CA");
        let line = line.with("directory", &self.directory_url).with("error", error);
        turn.log(line.with("next_try", turn.now.wall.plus(pause)));
        self.problem = Some(error.to_string());
        self.stage = Stage::ReadingDirectory;
        self.call_at = Some(turn.now.mono + pause);
    }

    /// Makes the calls that are due.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        if self.call_at.is_some_and(|at| at <= turn.now.mono) {
            self.call_at = None;
            self.make_stage_call(turn);
        }
        let due = |order: &Order| order.poll_timeout().is_some_and(|at| at <= turn.now.mono);
        let ids = self.orders.iter().filter(|(_, order)| due(order));
        let ids: Vec<OrderId> = ids.map(|(id, _)| *id).collect();
        for id in ids {
            self.run_order(turn, id);
        }
    }

    fn make_stage_call(&mut self, turn: &mut Turn<'_>) {
        match &self.stage {
            Stage::StoringKey(pem) => {
                self.outputs.push_back(IssuerOutput::StoreAccountKey(pem.clone()));
            }
            Stage::ReadingDirectory => {
                let request = Request::new(Method::Get, self.directory_url.clone());
                self.send(Call::Directory, request);
            }
            Stage::Registering => {
                let email = self.email.as_deref();
                let post = self.directory.as_ref().map(|it| account::registration(it, email, None));
                if let Some(post) = post {
                    self.post(turn, Owner::Account, post, 0);
                }
            }
            Stage::Resting | Stage::Registered { .. } | Stage::Stuck(_) => {}
        }
    }

    /// When a call is due, or an order takes too long.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let orders = self.orders.values().filter_map(Order::poll_timeout);
        orders.chain(self.call_at).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<IssuerOutput> {
        self.outputs.pop_front()
    }

    /// How it stands with the CA.
    pub fn status(&self) -> IssuerStatus {
        let account = match &self.stage {
            Stage::Registered { kid } => Some(kid.clone()),
            _ => None,
        };
        let (running, queued) = (self.orders.len(), self.queue.len());
        IssuerStatus { account, running, queued, problem: self.problem.clone() }
    }
}
