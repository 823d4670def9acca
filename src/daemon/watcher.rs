//! Follows Marathon: keeps the event stream open and syncs the wanted domains when apps may have
//! changed. Never decides what becomes of a domain, and never un-wants one because of a bad answer.
//!
//! Stream: `Pausing → Opening → Attached → Pausing …`, sync: `Resting → Syncing → Resting …`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::client::{Client, ClientEvent, RequestId};
use crate::config::Config;
use crate::daemon::model::DesiredCertificates;
use crate::daemon::owner::{Owner, WatcherRequest};
use crate::daemon::queues::Queues;

use crate::context::Context;
use crate::flat::FlatMap;
use crate::hint::{Complaint, Hint};
use crate::log::{Record, message};
use crate::machine::StoreError;
use crate::marathon::event;
use crate::secret::Secret;
use crate::time::{Instant, UnixTime};
use crate::url::{Credentials, Url};

mod gather;
mod known;
mod owners;
mod parsed_app;
mod stream;
mod sync;
mod token;

use owners::Holders;
use stream::{Stream, StreamNews};
use sync::{Sync, SyncNews};
use token::Token;

/// The first event after so quiet a time leads to a sync at once, those within it to one more.
const BURST: Duration = Duration::from_secs(1);
/// A sync runs this long after the last one, whatever the stream says.
const SYNC_INTERVAL: Duration = Duration::from_secs(600);
/// A list without any app, after one with apps, may be that of a fresh leader that has not loaded them:
/// it counts once there was none for so long. That holds over a restart, too: what takes down a leader
/// often takes down others with it.
const EMPTY_PATIENCE: Duration = SYNC_INTERVAL;
/// Without an attached event, a sync runs this long after the stream was asked for.
const ATTACH_PATIENCE: Duration = Duration::from_secs(3);
/// Very old Marathons announce a change before they have made it: a second look comes this much
/// later, unless an event that is published after the change makes it needless.
const SECOND_LOOK: Duration = Duration::from_secs(5);

/// What a whole, well-formed answer of Marathon says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The certificates, by the first of their names, which names their files.
    pub certificates: Arc<DesiredCertificates>,
    /// Labels and apps that were skipped, ready for the log, each once.
    pub oddities: BTreeSet<Oddity>,
    /// Names that no public CA could certify, or that could not be stored.
    pub rejected_domains: usize,
    /// Names without a certificate for another reason.
    pub skipped: SkippedCounts,
    /// How many apps there are.
    pub apps: usize,
}

/// Domains that are asked for and get no certificate, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkippedCounts {
    /// Beyond `--max-domains-per-app`.
    pub app_limit: usize,
    /// Beyond the limit of all apps together.
    pub total_limit: usize,
    /// With `--san`, another app has them already.
    pub other_app: usize,
}

/// Something in an app that was skipped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Oddity {
    /// The app's id, as far as it could be read; empty where it is about several apps.
    pub app: String,
    /// The label it is about; empty for the app as a whole.
    pub label: String,
    /// What is odd, and what was done about it.
    pub text: String,
    /// What may help.
    pub hint: Option<Hint>,
}

/// How it stands with Marathon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarathonStatus {
    /// The event stream is open.
    pub attached: bool,
    /// When the last good sync ended.
    pub last_sync: Option<UnixTime>,
    /// The trouble that is not over yet.
    pub problem: Option<Complaint>,
}

/// What came from Marathon in this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarathonCounts {
    /// How often the event stream was opened.
    pub attachments: u64,
    /// Events by their names, of those that are subscribed to.
    pub events: FlatMap<&'static str, u64>,
    /// Syncs that were complete.
    pub syncs_complete: u64,
    /// Syncs in which every Marathon failed.
    pub syncs_failed: u64,
    /// Apps in the last complete list.
    pub apps: usize,
    /// Names in that list that no public CA could certify, or that could not be stored.
    pub rejected_domains: usize,
    /// Names in that list without a certificate for another reason.
    pub skipped: SkippedCounts,
}

/// The event stream and the sync of the apps.
#[derive(Debug)]
pub struct Watcher {
    token: Option<Token>,
    stream: Stream,
    sync: Sync,
    /// When the next sync is due; nothing while one runs that was asked for later.
    sync_at: Option<Instant>,
    /// When the last sync began.
    synced_at: Option<Instant>,
    second_look_at: Option<Instant>,
    sync_backoff: Backoff,
    /// What the last complete list said.
    wanted: Wanted,
    /// Which app has which domain.
    holders: Holders,
    /// There were apps: the last list that counted had some, or an earlier run knew some.
    doubts_empty: bool,
    /// Since when no app is listed, while that does not count yet.
    empty_since: Option<Instant>,
    status: MarathonStatus,
    counts: MarathonCounts,
}

impl Watcher {
    /// A watcher of the Marathons of `config` that does nothing yet.
    pub fn new(config: &Config) -> Watcher {
        Watcher {
            token: config.marathon_token.clone().map(Token::new),
            stream: Stream::new(config),
            sync: Sync::new(config),
            sync_at: None,
            synced_at: None,
            second_look_at: None,
            sync_backoff: Backoff::default(),
            wanted: Wanted::default(),
            holders: Holders::default(),
            doubts_empty: false,
            empty_since: None,
            status: MarathonStatus::default(),
            counts: MarathonCounts::default(),
        }
    }

    /// Opens the stream, and syncs soon even when it stays shut. `before` is what an earlier run got
    /// certificates for. When it knew apps, a list without any is doubted from the start.
    pub fn start(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        before: DesiredCertificates,
        knew_apps: bool,
    ) {
        self.holders = Holders::of(Arc::new(before));
        self.doubts_empty = knew_apps;
        self.stream.open_at(cx.now.mono);
        self.sync_at = Some(cx.now.mono + ATTACH_PATIENCE);
        self.handle_timeout(cx, client);
    }

    /// Syncs now: the operator asked.
    pub fn sync_now(&mut self, cx: &mut Context<'_>, client: &mut Client<Owner>) {
        self.sync_at = Some(cx.now.mono);
        if let Some(token) = &mut self.token {
            token.expire();
        }
        self.handle_timeout(cx, client);
    }

    /// Takes in what came of a request of ours; gives what is wanted when a sync is complete.
    pub fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        (of, request): (WatcherRequest, RequestId),
        event: ClientEvent,
    ) -> Option<&Wanted> {
        match of {
            WatcherRequest::Stream => {
                for news in self.stream.handle_event(cx, client, request, event) {
                    self.heed(cx, news);
                }
                self.handle_timeout(cx, client);
                None
            }
            WatcherRequest::Sync => {
                let news = self.sync.handle_event(cx, client, (request, event), &self.holders)?;
                let counts = self.sync_ended(cx, news);
                self.handle_timeout(cx, client);
                counts.then_some(&self.wanted)
            }
        }
    }

    /// Handles the end of a sync; whether what it says counts.
    fn sync_ended(&mut self, cx: &mut Context<'_>, news: SyncNews) -> bool {
        match news {
            SyncNews::Failed(problem) => {
                self.sync_failed(cx, problem);
                false
            }
            SyncNews::Complete(news) => {
                let is_news = news.is_some() || self.empty_since.is_some();
                if let Some(wanted) = news {
                    self.take_in(cx, wanted);
                }
                self.synced(cx);
                let is_believed = self.is_believed(cx);
                if is_believed && is_news {
                    self.holders = Holders::of(Arc::clone(&self.wanted.certificates));
                }
                is_believed
            }
        }
    }

    fn sync_failed(&mut self, cx: &mut Context<'_>, problem: Complaint) {
        self.counts.syncs_failed += 1;
        let pause = self.sync_backoff.pause(cx.keys);
        self.plan(cx.now.mono + pause);
        let line = Record::error("marathon", message::SYNC_FAILED).with("error", &problem);
        cx.log(line.with("next_try", cx.now.wall.plus(pause)).hinted(problem.hint));
        self.status.problem = Some(problem);
    }

    fn heed(&mut self, cx: &mut Context<'_>, news: StreamNews) {
        match news {
            StreamNews::Attached => {
                self.status.attached = true;
                self.counts.attachments += 1;
                self.plan(cx.now.mono + ATTACH_PATIENCE);
            }
            StreamNews::Lost(problem) => {
                self.status.attached = false;
                self.status.problem = Some(problem);
            }
            StreamNews::Event(event) => {
                *self.counts.events.get_or_insert_with(event.name, u64::default) += 1;
                self.heed_event(cx, event.relevance);
            }
        }
    }

    fn heed_event(&mut self, cx: &Context<'_>, relevance: event::Relevance) {
        match relevance {
            event::Relevance::Attached => self.plan(cx.now.mono),
            event::Relevance::MayPrecedeChange => {
                // The change itself usually follows within the burst, with an event of its own.
                self.plan(cx.now.mono + BURST);
                self.second_look_at = Some(cx.now.mono + SECOND_LOOK);
            }
            event::Relevance::FollowsChange => {
                let now = cx.now.mono;
                self.plan(self.synced_at.map_or(now, |last| (last + BURST).max(now)));
                self.second_look_at = None;
            }
        }
    }

    /// A sync is due then, or earlier.
    fn plan(&mut self, at: Instant) {
        self.sync_at = Some(self.sync_at.map_or(at, |planned| planned.min(at)));
    }

    /// A list says something new. Of what is odd about it that is said which was not so before.
    fn take_in(&mut self, cx: &mut Context<'_>, wanted: Wanted) {
        self.counts.apps = wanted.apps;
        self.counts.rejected_domains = wanted.rejected_domains;
        self.counts.skipped = wanted.skipped;
        for oddity in wanted.oddities.difference(&self.wanted.oddities) {
            let about = [("app", &oddity.app), ("label", &oddity.label)];
            let about = about.into_iter().filter(|(_, text)| !text.is_empty());
            let line = Record::warn("sync", &*oddity.text);
            let line = about.fold(line, |line, (key, text)| line.with(key, text));
            cx.log(line.hinted(oddity.hint));
        }
        self.wanted = wanted;
    }

    fn synced(&mut self, cx: &mut Context<'_>) {
        if self.sync_backoff.failures() > 0 {
            let line =
                Record::info("marathon", "sync succeeded again").ends(&[message::SYNC_FAILED]);
            cx.log(line.with("failures", self.sync_backoff.failures()));
        }
        self.sync_backoff.reset();
        self.counts.syncs_complete += 1;
        self.plan(cx.now.mono + SYNC_INTERVAL);
        self.status.last_sync = Some(cx.now.wall);
        self.status.problem = None;
        let line = Record::debug("sync", "complete").with("apps", self.wanted.apps);
        cx.log(line.with("certificates", self.wanted.certificates.len()));
    }

    /// The CA accepts no more names in one certificate: gives what is wanted, split by that, when it was
    /// split otherwise before. Until the first list is read, there is nothing to split.
    pub fn limit_names(&mut self, cx: &mut Context<'_>, names_max: usize) -> Option<&Wanted> {
        let wanted = self.sync.limit_names(names_max, &self.holders)?;
        self.take_in(cx, wanted);
        if self.empty_since.is_some() {
            // A list that is doubted does not count yet.
            return None;
        }
        self.holders = Holders::of(Arc::clone(&self.wanted.certificates));
        Some(&self.wanted)
    }

    /// Whether the last list says what is wanted.
    fn is_believed(&mut self, cx: &mut Context<'_>) -> bool {
        let now = cx.now.mono;
        if self.wanted.apps == 0 && self.doubts_empty {
            if self.empty_since.is_none() {
                let message = "no app is listed any more, waiting whether it stays so";
                cx.log(Record::warn("sync", message));
            }
            let until = *self.empty_since.get_or_insert(now) + EMPTY_PATIENCE;
            if until > now {
                self.plan(until);
                return false;
            }
        }
        (self.doubts_empty, self.empty_since) = (self.wanted.apps > 0, None);
        true
    }

    /// The file of the token, when it is to be read.
    pub fn poll_load(&mut self) -> Option<PathBuf> {
        self.token.as_mut()?.poll_load()
    }

    /// Takes in what that file holds.
    pub fn token_read(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        file: Result<Secret, StoreError>,
    ) {
        let Some(token) = &mut self.token else { return };
        if let Some(credentials) = token.read(cx, file) {
            self.stream.ask_with(&credentials);
            self.sync.ask_with(&credentials);
        }
        self.handle_timeout(cx, client);
    }

    /// Starts what is due. Where a token is used nothing is asked with one that may be old.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>, client: &mut Client<Owner>) {
        if self.token.as_ref().is_some_and(Token::is_awaited) {
            return;
        }
        let is_due = self.poll_timeout().is_some_and(|at| at <= cx.now.mono);
        if is_due && self.token.as_mut().is_some_and(|token| !token.is_fresh()) {
            return;
        }
        self.stream.handle_timeout(cx, client);
        if let Some(SyncNews::Failed(problem)) = self.sync.handle_timeout(cx, client) {
            self.sync_failed(cx, problem);
        }
        if self.second_look_at.is_some_and(|at| at <= cx.now.mono) {
            self.second_look_at = None;
            self.plan(cx.now.mono);
        }
        // What changes while a sync runs is seen by the next one, not by the one under way.
        if self.sync_at.is_some_and(|at| at <= cx.now.mono) && self.sync.is_resting() {
            self.sync_at = None;
            self.synced_at = Some(cx.now.mono);
            self.sync.start(cx, client);
        }
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.token.as_ref().is_some_and(Token::is_awaited) {
            return None;
        }
        let sync_at = if self.sync.is_resting() { self.sync_at } else { None };
        [self.stream.poll_timeout(), self.sync.poll_timeout(), sync_at, self.second_look_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Says how much waits here.
    pub fn measure(&self, queues: &mut Queues) {
        queues.stream_bytes = self.stream.bytes_held();
        queues.apps_bytes = self.sync.bytes_held();
    }

    /// How many syncs have failed since the last good one.
    pub fn failures(&self) -> u32 {
        self.sync_backoff.failures()
    }

    /// How it stands with Marathon.
    pub fn status(&self) -> &MarathonStatus {
        &self.status
    }

    /// What came from Marathon.
    pub fn counts(&self) -> &MarathonCounts {
        &self.counts
    }

    /// What was skipped in the last complete list.
    pub fn oddities(&self) -> impl ExactSizeIterator<Item = &Oddity> {
        self.wanted.oddities.iter()
    }
}

/// Which of several Marathons is asked: the next one after a failure, round and round.
#[derive(Debug)]
struct Round {
    urls: Vec<Url>,
    at: usize,
    /// Failures since the last success.
    failed: usize,
    backoff: Backoff,
}

impl Round {
    fn new(urls: &[Url]) -> Round {
        Round { urls: urls.to_vec(), at: 0, failed: 0, backoff: Backoff::default() }
    }

    /// The one to ask. A configuration without any cannot be made; the index is kept below their
    /// number.
    fn url(&self) -> &Url {
        &self.urls[self.at]
    }

    fn succeeded(&mut self) {
        self.failed = 0;
        self.backoff.reset();
    }

    /// All are asked with these from now on.
    fn ask_with(&mut self, credentials: &Credentials) {
        credentials.apply(&mut self.urls);
    }

    /// Moves on; the pause before the next one is asked: none while there is one that was not
    /// asked in this round.
    fn next(&mut self, cx: &mut Context<'_>) -> Duration {
        self.failed += 1;
        self.at = (self.at + 1) % self.urls.len();
        if self.failed.is_multiple_of(self.urls.len()) {
            self.backoff.pause(cx.keys)
        } else {
            Duration::ZERO
        }
    }

    /// Whether every one was asked since the last success or pause.
    fn is_complete(&self) -> bool {
        self.failed.is_multiple_of(self.urls.len())
    }
}

#[cfg(test)]
mod tests;
