//! One sync: all app definitions read as they stream in, the wanted domains collected. What it
//! finds counts only when the answer was complete and well-formed.

use crate::client::marathon::{ANSWER_DEADLINE, MarathonRequest, Reception, RequestOptions};
use crate::client::{Client, ClientEvent, RequestId};
use crate::config::Config;
use crate::context::Context;
use crate::daemon::owner::{Owner, WatcherRequest};
use crate::hint::Complaint;
use crate::http::ResponseHead;
use crate::log::Record;
use crate::machine::Trust;
use crate::marathon::AppsParser;
use crate::time::Instant;
use crate::url::{Credentials, Url};

use super::known::{Known, Rules};
use super::owners::Holders;
use super::{Round, Wanted};

/// How a sync ended.
#[derive(Debug)]
pub(super) enum SyncNews {
    /// A complete, well-formed answer; what it says, unless that is what the one before said.
    Complete(Option<Wanted>),
    /// Every Marathon failed; the last one's problem.
    Failed(Complaint),
}

/// The sync's machine.
#[derive(Debug)]
pub(super) struct Sync {
    round: Round,
    manner: RequestOptions<Owner>,
    rules: Rules,
    known: Known,
    state: State,
}

#[derive(Debug)]
enum State {
    Resting,
    Asking { inquiry: MarathonRequest, deadline: Instant },
    Reading { inquiry: MarathonRequest, parser: AppsParser, deadline: Instant },
}

impl Sync {
    pub(super) fn new(config: &Config) -> Sync {
        Sync {
            round: Round::new(&config.marathon),
            manner: RequestOptions {
                owner: Owner::Watcher(WatcherRequest::Sync),
                accept: "application/json",
                timeout: config.marathon_timeout.unwrap_or(ANSWER_DEADLINE),
                silence: config.marathon_timeout,
            },
            rules: config.into(),
            known: Known::default(),
            state: State::Resting,
        }
    }

    /// One certificate has no more names from now on; what the last whole list says then, if there was one
    /// and it is not what it said before.
    pub(super) fn limit_names(&mut self, names_max: usize, holders: &Holders) -> Option<Wanted> {
        let is_less = self.rules.limit_names(names_max);
        is_less.then(|| self.known.last(&self.rules, holders)).flatten()
    }

    /// From now on; not what is under way.
    pub(super) fn ask_with(&mut self, credentials: &Credentials) {
        self.round.ask_with(credentials);
    }

    pub(super) fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting)
    }

    /// The request that is under way.
    fn request(&self) -> Option<RequestId> {
        match &self.state {
            State::Resting => None,
            State::Asking { inquiry, .. } | State::Reading { inquiry, .. } => Some(inquiry.request),
        }
    }

    pub(super) fn start(&mut self, cx: &mut Context<'_>, client: &mut Client<Owner>) {
        let url = self.round.url().join("/v2/apps");
        let inquiry = self.manner.ask(cx, client, url);
        self.state = State::Asking { inquiry, deadline: cx.now.mono + ANSWER_DEADLINE };
    }

    pub(super) fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        (request, event): (RequestId, ClientEvent),
        holders: &Holders,
    ) -> Option<SyncNews> {
        if self.request() != Some(request) {
            return None;
        }
        match event {
            ClientEvent::Head(head) => self.answered(cx, client, &head),
            ClientEvent::Body(bytes) => self.received(cx, client, &bytes, holders),
            ClientEvent::End => self.ended(cx, client, holders),
            ClientEvent::Failed(error) => self.failed(cx, client, error.complaint(Trust::Marathon)),
            ClientEvent::Response(_) | ClientEvent::Addresses(_) | ClientEvent::Presented(_) => {
                None
            }
        }
    }

    fn answered(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        head: &ResponseHead,
    ) -> Option<SyncNews> {
        let State::Asking { inquiry, deadline } = &self.state else { return None };
        let deadline = *deadline;
        match self.manner.receive(cx, client, inquiry, head, &self.round.urls) {
            Reception::Accepted => {
                let (inquiry, parser) = (inquiry.clone(), AppsParser::new());
                self.known.begin();
                self.state = State::Reading { inquiry, parser, deadline };
                None
            }
            Reception::Redirected(inquiry) => {
                self.state = State::Asking { inquiry, deadline };
                None
            }
            Reception::Refused(problem) => self.failed(cx, client, problem),
        }
    }

    fn received(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        bytes: &[u8],
        holders: &Holders,
    ) -> Option<SyncNews> {
        let State::Reading { inquiry, parser, .. } = &mut self.state else { return None };
        let request = inquiry.request;
        let mut add = |app: Result<&[u8], _>| self.known.add(app, &self.rules, holders);
        let fed = parser.feed(bytes, &mut add);
        let problem = fed.err()?.to_string();
        client.cancel(request);
        self.failed(cx, client, problem.into())
    }

    fn ended(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        holders: &Holders,
    ) -> Option<SyncNews> {
        let state = std::mem::replace(&mut self.state, State::Resting);
        let State::Reading { inquiry, parser, .. } = state else { return None };
        match parser.finish() {
            Ok(()) => {
                self.round.succeeded();
                Some(SyncNews::Complete(self.known.end(&self.rules, holders)))
            }
            Err(error) => self.go_on(cx, client, &inquiry.url, error.to_string().into()),
        }
    }

    fn failed(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        problem: Complaint,
    ) -> Option<SyncNews> {
        match std::mem::replace(&mut self.state, State::Resting) {
            State::Resting => None,
            State::Asking { inquiry, .. } | State::Reading { inquiry, .. } => {
                self.go_on(cx, client, &inquiry.url, problem)
            }
        }
    }

    /// Goes on to the next Marathon, or gives up when all were asked.
    fn go_on(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        asked: &Url,
        problem: Complaint,
    ) -> Option<SyncNews> {
        self.known.forget();
        let Complaint { text, hint } = problem;
        let problem = Complaint::new(format!("{}: {text}", asked.origin()), hint);
        self.round.next(cx);
        if self.round.is_complete() {
            return Some(SyncNews::Failed(problem));
        }
        let line = Record::warn("marathon", "sync goes on to the next address");
        cx.log(line.with("error", &problem).hinted(hint));
        self.start(cx, client);
        None
    }

    /// Gives up what took too long; the news, when that was the last Marathon.
    pub(super) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
    ) -> Option<SyncNews> {
        if self.poll_timeout().is_none_or(|at| at > cx.now.mono) {
            return None;
        }
        if let Some(request) = self.request() {
            client.cancel(request);
        }
        let problem = format!("no whole answer within {} s", ANSWER_DEADLINE.as_secs());
        self.failed(cx, client, problem.into())
    }

    /// Bytes of an app that is not whole.
    pub(super) fn bytes_held(&self) -> usize {
        match &self.state {
            State::Reading { parser, .. } => parser.bytes_held(),
            State::Resting | State::Asking { .. } => 0,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Resting => None,
            State::Asking { deadline, .. } | State::Reading { deadline, .. } => Some(deadline),
        }
    }
}
