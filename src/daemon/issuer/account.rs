//! The account: its key, the directory, registration, and what to do when the CA will not have it.
//! Part of the issuer's machine. Never overwrites a key, and never registers where a person has to act.

use std::time::Duration;

use crate::acme::account::{self, Account};
use crate::acme::call::CallError;
use crate::acme::jws::thumbprint;
use crate::acme::types::{Directory, Problem, ProblemKind};
use crate::daemon::model::CLOCKS_APART_MAX;
use crate::daemon::model::{AccountState, CaState};

use crate::context::Context;
use crate::hint::{Complaint, Hint};
use crate::http::{Headers, Method, Request, Response};
use crate::log::{Level, Record, message};
use crate::machine::{StoreError, StoreErrorKind};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

use super::{Call, DIRECTORY_AGE_MAX, Issuer, IssuerOutput, OVERLOAD_PAUSE_MAX, Owner, Stage};

/// A `Retry-After` while registering is followed up to this.
const REGISTRATION_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// An account that has worked and is refused is registered again after pauses so many times as long as
/// those after other failures: a minute, and an hour in the end.
const REFUSED_LONGER: u32 = 60;
/// A profile that the CA has given up is looked for again after this.
const PROFILE_PAUSE: Duration = Duration::from_secs(3600);

impl Issuer {
    /// The storage was read: begins, with the key that lay there or a new one, and with what is
    /// remembered of this CA.
    pub fn start(
        &mut self,
        cx: &mut Context<'_>,
        account_key: Option<&Secret>,
        memory: Option<&CaState>,
    ) {
        self.known = memory.and_then(|memory| memory.account.clone());
        let not_before = memory.and_then(|memory| memory.not_before);
        // What is further off than any pause was dated by a clock that ran ahead: it says nothing.
        let pause = not_before.map(|at| at.since(cx.now.wall));
        if let Some(pause) = pause.filter(|it| !it.is_zero() && *it <= OVERLOAD_PAUSE_MAX) {
            self.hold = Some(cx.now.mono + pause);
        }
        match account_key {
            Some(pem) => self.use_key(cx, pem),
            None => match cx.keys.new_account_key() {
                Ok(pem) => {
                    self.stage = Stage::StoringKey(pem.clone());
                    self.outputs.push_back(IssuerOutput::StoreAccountKey(pem));
                }
                Err(error) => self.get_stuck(cx, format!("no account key: {error}").into()),
            },
        }
    }

    /// Takes in whether the new key is on the disk.
    pub fn account_key_stored(&mut self, cx: &mut Context<'_>, result: Result<(), StoreError>) {
        let Stage::StoringKey(pem) = &self.stage else { return };
        let pem = pem.clone();
        match result {
            Ok(()) => {
                self.key_is_unseen = true;
                self.use_key(cx, &pem);
            }
            Err(error) if error.kind == StoreErrorKind::Exists => {
                self.get_stuck(cx, "client.key appeared while a new one was made; restart".into());
            }
            Err(error) => {
                let pause = self.backoff.pause(cx.keys);
                self.call_at = Some(cx.now.mono + pause);
                let hint = Hint::of_storage(error.kind);
                self.problem = Some(Complaint::new(format!("client.key: {error}"), hint));
            }
        }
    }

    fn use_key(&mut self, cx: &mut Context<'_>, pem: &Secret) {
        match cx.keys.read_account_key(pem) {
            Ok(key) => {
                self.key = Some(key);
                self.enter(cx, Stage::ReadingDirectory);
            }
            Err(error) => {
                let text = format!("client.key: {error}; it is never overwritten");
                self.get_stuck(cx, Complaint::new(text, Some(Hint::AccountKey)));
            }
        }
    }

    pub(super) fn enter(&mut self, cx: &Context<'_>, stage: Stage) {
        self.stage = stage;
        self.call_at = Some(cx.now.mono);
    }

    /// Nothing is tried any more; waiting orders are told.
    pub(super) fn get_stuck(&mut self, cx: &mut Context<'_>, reason: Complaint) {
        let line = Record::new(Level::Critical, "acme", message::CANNOT_ORDER);
        cx.log(line.with("error", &reason).hinted(reason.hint));
        self.problem = Some(reason.clone());
        self.stage = Stage::Stuck(reason);
        self.call_at = None;
        self.go_on(cx);
    }

    pub(super) fn make_stage_call(&mut self, cx: &mut Context<'_>) {
        match &self.stage {
            Stage::StoringKey(pem) => {
                self.outputs.push_back(IssuerOutput::StoreAccountKey(pem.clone()));
            }
            Stage::ReadingDirectory => {
                let request = Request::new(Method::Get, self.directory_url.clone());
                self.send(Call::Directory, request);
            }
            Stage::Asking => {
                let post = self.directory.as_ref().map(|(it, _)| account::question(it));
                if let Some(post) = post {
                    self.post(cx, Owner::Account, post, 0);
                }
            }
            Stage::Registering => {
                self.key_is_unseen = false;
                let email = self.email.as_deref();
                let key = self.key.as_ref().map(|key| &key.public);
                let binding = self.binding.as_ref().zip(key);
                let directory = self.directory.as_ref();
                let post = directory.map(|(it, _)| account::registration(it, email, binding));
                if let Some(post) = post {
                    self.post(cx, Owner::Account, post, 0);
                }
            }
            Stage::Resting | Stage::Registered | Stage::Stuck(_) => {}
        }
    }

    /// Whether the directory should be read again.
    pub(super) fn directory_is_old(&self, cx: &Context<'_>) -> bool {
        let old = |read_at| cx.now.mono.since(read_at) > DIRECTORY_AGE_MAX;
        self.directory_doubted || self.directory.as_ref().is_none_or(|(_, read_at)| old(*read_at))
    }

    pub(super) fn directory_read(
        &mut self,
        cx: &mut Context<'_>,
        reply: Result<Response, CallError>,
    ) {
        let directory = reply.and_then(|response| {
            Directory::parse(&response.body, &self.directory_url).map_err(CallError::Malformed)
        });
        let directory = match directory {
            Ok(directory) => directory,
            Err(error) => {
                let hint = error.hint().or(is_no_directory(&error).then_some(Hint::CaUrl));
                return self.try_again(cx, &error, hint);
            }
        };
        if let Some(reason) = self.profile_missing(&directory) {
            let reason = Complaint::new(reason, Some(Hint::Profile));
            if self.directory.is_none() {
                self.outputs.push_back(IssuerOutput::Refused(reason.text.clone()));
                return self.get_stuck(cx, reason);
            }
            return self.put_off(cx, reason, PROFILE_PAUSE);
        }
        let renewal_info = directory.renewal_info.is_some();
        self.outputs.push_back(IssuerOutput::Offers { renewal_info });
        self.directory = Some((directory, cx.now.mono));
        self.directory_doubted = false;
        let print = self.key.as_ref().map(|key| thumbprint(&key.public));
        match self.known.clone().filter(|known| Some(&known.thumbprint) == print.as_ref()) {
            Some(account) => self.is_registered(cx, account),
            None => self.look_for_account(cx, Duration::ZERO),
        }
    }

    /// Why the profile that the operator wants cannot be had.
    fn profile_missing(&self, directory: &Directory) -> Option<String> {
        let profile = self.profile.as_ref()?;
        if directory.profiles.contains_key(profile) {
            return None;
        }
        let offered: Vec<String> = directory
            .profiles
            .iter()
            .map(|(name, description)| format!("{name} ({description})"))
            .collect();
        let offered = if offered.is_empty() { "none".to_string() } else { offered.join(", ") };
        Some(format!("--profile {profile}: the CA has no such profile; it offers: {offered}"))
    }

    pub(super) fn registered(&mut self, cx: &mut Context<'_>, reply: Result<Response, CallError>) {
        let reply =
            reply.and_then(|response| account::read(&response).map_err(CallError::Malformed));
        let account = match reply {
            Ok(account) => account,
            Err(error) => {
                return match self.refusal(&error) {
                    // It may be the CA's trouble: the account was good, and the orders wait for it.
                    Some(reason) if self.has_worked => {
                        let pause = self.backoff.pause(cx.keys) * REFUSED_LONGER;
                        self.put_off(cx, reason, pause);
                    }
                    Some(reason) => self.get_stuck(cx, reason),
                    None => self.try_again(cx, &error, error.hint()),
                };
            }
        };
        self.is_there(cx, account);
    }

    /// The CA has this account.
    pub(super) fn is_there(&mut self, cx: &mut Context<'_>, account: Account) {
        if let Some(status) = account.ended {
            return self.get_stuck(cx, barred(&format!("its status is {status}")));
        }
        self.has_worked = true;
        let Some(key) = &self.key else { return };
        // An account that exists already was told nothing: what it knows, its answer may say.
        let told = account.contact.as_deref().and_then(|contact| contact.first());
        let told = told.map(|url| url.strip_prefix("mailto:").unwrap_or(url).to_string());
        let contact = if account.is_new { self.email.clone() } else { told };
        let thumbprint = thumbprint(&key.public);
        let memory = AccountState { url: account.url, thumbprint, contact };
        self.known = Some(memory.clone());
        self.outputs.push_back(IssuerOutput::Account(memory.clone()));
        self.is_registered(cx, memory);
    }

    /// Why only a person can help, when that is so.
    fn refusal(&self, error: &CallError) -> Option<Complaint> {
        let CallError::Problem { problem, status, .. } = error else { return None };
        let (kind, Problem { name, detail, .. }) = (problem.kind(), problem);
        let bound = self.binding.is_some();
        let required = self.directory.as_ref().is_some_and(|(it, _)| it.external_account_required);
        let lasting = (400..500).contains(status)
            && !matches!(kind, ProblemKind::BadNonce | ProblemKind::RateLimited);
        let (text, hint) = match kind {
            ProblemKind::ExternalAccountRequired if !bound => {
                (wants_binding(detail), Hint::BindingMissing)
            }
            _ if required && !bound && lasting => (wants_binding(detail), Hint::BindingMissing),
            _ if bound && lasting => {
                let text = format!(
                    "the CA refused the account or its external binding ({name}): {detail}; check \
                     --eab-kid and --eab-hmac-key, which many CAs take only once"
                );
                (text, Hint::BindingWrong)
            }
            ProblemKind::Unauthorized => {
                return Some(barred(detail));
            }
            ProblemKind::UserActionRequired => {
                (format!("the CA wants something done first: {detail}"), Hint::Terms)
            }
            ProblemKind::InvalidContact | ProblemKind::UnsupportedContact => {
                (format!("the CA refused the contact, check --email: {detail}"), Hint::Contact)
            }
            ProblemKind::BadPublicKey | ProblemKind::BadSignatureAlgorithm => {
                let text = format!(
                    "the CA does not take the key in client.key: {detail}; move it away, so that a \
                     new one is made"
                );
                (text, Hint::AccountKey)
            }
            _ => return None,
        };
        Some(Complaint::new(text, Some(hint)))
    }

    fn is_registered(&mut self, cx: &mut Context<'_>, account: AccountState) {
        let line = Record::info("acme", message::REGISTERED).with("account", &account.url);
        let line = line.ends(&[message::REGISTRATION_FAILED]);
        let directory = self.directory.as_ref().map(|(directory, _)| directory);
        let terms = directory.and_then(|directory| directory.terms_of_service.as_ref());
        // Each reading of the directory comes by here; only a new state is news.
        if self.problem.is_some() || !self.said_registered {
            cx.log(match terms {
                Some(terms) => line.with("agreed_to_terms_of_service", terms),
                None => line,
            });
            self.said_registered = true;
        }
        self.kid = Some(account.url.clone());
        self.stage = Stage::Registered;
        self.call_at = None;
        self.problem = None;
        if account.contact != self.email
            && let Ok(url) = Url::parse(&account.url)
        {
            let post = account::contact_update(&url, self.email.as_deref());
            self.post(cx, Owner::Contact, post, 0);
        }
        self.go_on(cx);
        self.ask_on();
    }

    pub(super) fn contact_updated(
        &mut self,
        cx: &mut Context<'_>,
        reply: Result<Response, CallError>,
    ) {
        let Some(known) = &mut self.known else { return };
        match reply {
            Ok(_) => {
                known.contact.clone_from(&self.email);
                self.outputs.push_back(IssuerOutput::Account(known.clone()));
                let email = self.email.as_deref().unwrap_or("none");
                cx.log(Record::info("acme", "the CA has the new contact").with("email", email));
            }
            // It is sent again when the directory is read next, which is within a day of an order.
            Err(error) => {
                let line = Record::error("acme", "the CA did not take the new contact");
                cx.log(line.with("error", &error).hinted(error.hint()));
            }
        }
    }

    /// The directory is read again for its `Date`, before another order begins. Those under way continue.
    pub fn ask_time(&mut self, cx: &Context<'_>) {
        if matches!(self.stage, Stage::Registered) {
            self.enter(cx, Stage::ReadingDirectory);
        }
    }

    /// What is planned by a wrong clock comes at a wrong time; said once, until they agree again. An answer
    /// without a `Date` says nothing of our clock. A cache reports the age of an answer (RFC 9111
    /// section 5.1).
    pub(super) fn compare_clocks(&mut self, cx: &mut Context<'_>, headers: &Headers) {
        let ours = cx.now.wall;
        let Some(theirs) = headers.first("date").and_then(UnixTime::from_http_date) else { return };
        let age = headers.first("age").and_then(|age| age.trim().parse().ok()).unwrap_or(0);
        let theirs = theirs.plus(Duration::from_secs(age));
        let apart = ours.since(theirs).max(theirs.since(ours)) > CLOCKS_APART_MAX;
        let ahead_ms = ours.as_millis().saturating_sub(theirs.as_millis());
        if apart && self.clock_problem.is_none() {
            let line = Record::warn("acme", message::CLOCKS_DIFFER);
            cx.log(line.with("ours", ours).with("theirs", theirs).hinted(Some(Hint::Clock)));
        }
        self.clock_problem = apart.then(|| {
            let text = format!("this machine's clock showed {ours} when the CA's showed {theirs}");
            Complaint::new(text, Some(Hint::Clock))
        });
        self.outputs.push_back(IssuerOutput::ClockCompared { ahead_ms });
    }

    /// The CA does not know the account any more. It is registered again at once, but ever later where
    /// the CA forgets again what it has just registered.
    pub(super) fn account_is_gone(&mut self, cx: &mut Context<'_>) {
        if matches!(self.stage, Stage::Registered) {
            cx.log(Record::warn("acme", message::ACCOUNT_FORGOTTEN));
            self.known = None;
            self.said_registered = false;
            let again = self.backoff.failures() > 0;
            let pause = self.backoff.pause(cx.keys);
            self.look_for_account(cx, if again { pause } else { Duration::ZERO });
        }
    }

    /// The CA did what only an account may ask for.
    pub(super) fn account_works(&mut self) {
        self.has_worked = true;
        self.backoff.reset();
    }

    /// Registering failed; the directory may have changed, so it is read again.
    pub(super) fn try_again(
        &mut self,
        cx: &mut Context<'_>,
        error: &CallError,
        hint: Option<Hint>,
    ) {
        let asked = error.retry_after().unwrap_or_default().min(REGISTRATION_PAUSE_MAX);
        let pause = self.backoff.pause(cx.keys).max(asked);
        self.put_off(cx, Complaint::new(error.to_string(), hint), pause);
    }

    fn put_off(&mut self, cx: &mut Context<'_>, problem: Complaint, pause: Duration) {
        let line = Record::error("acme", message::REGISTRATION_FAILED);
        let line = line.with("directory", &self.directory_url).with("error", &problem);
        cx.log(line.with("next_try", cx.now.wall.plus(pause)).hinted(problem.hint));
        self.problem = Some(problem);
        self.stage = Stage::ReadingDirectory;
        self.call_at = Some(cx.now.mono + pause);
    }
}

/// Why the account may not order, where only a new one helps.
pub(super) fn barred(detail: &str) -> Complaint {
    let text = format!(
        "the CA does not let the account of client.key order: {detail}; if it was deactivated, move \
         client.key away, so that a new account is made"
    );
    Complaint::new(text, Some(Hint::Account))
}

fn wants_binding(detail: &str) -> String {
    format!("the CA wants an external account binding (--eab-kid, --eab-hmac-key): {detail}")
}

/// Whether what should be the directory is another thing for good, as far as an answer can tell.
fn is_no_directory(error: &CallError) -> bool {
    matches!(error, CallError::Malformed(_) | CallError::Status { status: 200..=410, .. })
}
