//! One sync: all app definitions read as they stream in, the wanted domains collected. What it
//! finds counts only when the answer was complete and well-formed.

use std::time::Duration;

use crate::config::Config;
use crate::daemon::certificates::Source;
use crate::daemon::transport::{Delivery, Outgoing, RequestId, Transport, TransportEvent};
use crate::http::{Headers, Method, Request, ResponseHead};
use crate::log::Record;
use crate::marathon::{App, AppError, AppsParser, claims};
use crate::seam::Trust;
use crate::time::Instant;
use crate::turn::Turn;
use crate::url::Url;

use super::{Oddity, Round, Wanted, leader, refusal};

/// A sync that takes longer is given up, however steadily the bytes drip.
const SYNC_DEADLINE: Duration = Duration::from_secs(300);

/// How a sync ended.
#[derive(Debug)]
pub(super) enum SyncNews {
    /// A complete, well-formed answer.
    Complete(Wanted),
    /// Every Marathon failed; the last one's problem.
    Failed(String),
}

/// The sync's machine.
#[derive(Debug)]
pub(super) struct Sync {
    round: Round,
    timeout: Duration,
    group: String,
    allow_multiple: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Resting,
    Asking { request: RequestId, url: Url, redirected: bool, deadline: Instant },
    Reading { request: RequestId, url: Url, parser: AppsParser, wanted: Wanted, deadline: Instant },
}

impl Sync {
    pub(super) fn new(config: &Config) -> Sync {
        Sync {
            round: Round::new(&config.marathon),
            timeout: config.marathon_timeout,
            group: config.group.clone(),
            allow_multiple: config.allow_multiple_certs,
            state: State::Resting,
        }
    }

    pub(super) fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting)
    }

    pub(super) fn awaits(&self, id: RequestId) -> bool {
        match &self.state {
            State::Resting => false,
            State::Asking { request, .. } | State::Reading { request, .. } => *request == id,
        }
    }

    pub(super) fn start(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) {
        let url = self.round.url().join("/v2/apps");
        self.ask(turn, transport, url, false);
    }

    fn ask(&mut self, turn: &mut Turn<'_>, transport: &mut Transport, url: Url, redirected: bool) {
        let mut headers = Headers::new();
        headers.push("Accept", "application/json");
        let request = Request { headers, ..Request::new(Method::Get, url.clone()) };
        let request = transport.send(
            turn,
            Outgoing {
                request,
                trust: Trust::Marathon,
                timeout: Some(self.timeout),
                silence: Some(self.timeout),
                address: None,
                delivery: Delivery::Streamed,
            },
        );
        let deadline = turn.now.mono + SYNC_DEADLINE;
        self.state = State::Asking { request, url, redirected, deadline };
    }

    pub(super) fn handle_event(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        event: TransportEvent,
    ) -> Option<SyncNews> {
        match event {
            TransportEvent::Head(head) => self.answered(turn, transport, &head),
            TransportEvent::Body(bytes) => self.received(turn, transport, &bytes),
            TransportEvent::End => self.ended(turn, transport),
            TransportEvent::Failed(error) => self.failed(turn, transport, &error.to_string()),
            TransportEvent::Response(_) | TransportEvent::Addresses(_) => None,
        }
    }

    fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        head: &ResponseHead,
    ) -> Option<SyncNews> {
        let State::Asking { request, url, redirected, deadline } = &self.state else { return None };
        let (request, url, deadline) = (*request, url.clone(), *deadline);
        let problem = match head.status {
            200 => {
                let (parser, wanted) = (AppsParser::new(), Wanted::default());
                self.state = State::Reading { request, url, parser, wanted, deadline };
                return None;
            }
            301 | 302 | 303 | 307 | 308 if !redirected => {
                match leader(&url, head.headers.first("location")) {
                    Ok(to) => {
                        transport.cancel(request);
                        self.ask(turn, transport, to, true);
                        return None;
                    }
                    Err(problem) => problem,
                }
            }
            status => refusal(status),
        };
        transport.cancel(request);
        self.failed(turn, transport, &problem)
    }

    fn received(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        bytes: &[u8],
    ) -> Option<SyncNews> {
        let State::Reading { request, parser, wanted, .. } = &mut self.state else { return None };
        let request = *request;
        let mut items = Vec::new();
        let fed = parser.feed(bytes, &mut items);
        for item in items {
            collect(wanted, item, &self.group, self.allow_multiple);
        }
        let problem = fed.err()?.to_string();
        transport.cancel(request);
        self.failed(turn, transport, &problem)
    }

    fn ended(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) -> Option<SyncNews> {
        let state = std::mem::replace(&mut self.state, State::Resting);
        let State::Reading { url, parser, wanted, .. } = state else { return None };
        match parser.finish() {
            Ok(()) => {
                self.round.succeeded();
                Some(SyncNews::Complete(wanted))
            }
            Err(error) => self.go_on(turn, transport, &url, &error.to_string()),
        }
    }

    fn failed(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        problem: &str,
    ) -> Option<SyncNews> {
        match std::mem::replace(&mut self.state, State::Resting) {
            State::Resting => None,
            State::Asking { url, .. } | State::Reading { url, .. } => {
                self.go_on(turn, transport, &url, problem)
            }
        }
    }

    /// Goes on to the next Marathon, or gives up when all were asked.
    fn go_on(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        asked: &Url,
        problem: &str,
    ) -> Option<SyncNews> {
        let problem = format!("{}: {problem}", asked.origin());
        self.round.next(turn);
        if self.round.is_complete() {
            return Some(SyncNews::Failed(problem));
        }
        turn.log(
            Record::warn("marathon", "sync goes on to the next address").with("error", problem),
        );
        self.start(turn, transport);
        None
    }

    /// Gives up what took too long; the news, when that was the last Marathon.
    pub(super) fn handle_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
    ) -> Option<SyncNews> {
        if self.poll_timeout().is_none_or(|at| at > turn.now.mono) {
            return None;
        }
        if let State::Asking { request, .. } | State::Reading { request, .. } = &self.state {
            transport.cancel(*request);
        }
        let problem = format!("no whole answer within {} s", SYNC_DEADLINE.as_secs());
        self.failed(turn, transport, &problem)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Resting => None,
            State::Asking { deadline, .. } | State::Reading { deadline, .. } => Some(deadline),
        }
    }
}

/// Adds one app's wishes. An app that cannot be read is passed over.
fn collect(wanted: &mut Wanted, item: Result<App, AppError>, group: &str, allow_multiple: bool) {
    wanted.apps += 1;
    let app = match item {
        Ok(app) => app,
        Err(error) => {
            let (app, label) = (error.app().to_string(), String::new());
            let text = format!("app passed over: {error}");
            wanted.oddities.insert(Oddity { app, label, text });
            return;
        }
    };
    let claims = claims(&app, group, allow_multiple);
    for claim in claims.domains {
        let source = Source { app: app.id.clone(), version: app.version.clone() };
        wanted.domains.entry(claim.domain).or_insert(source);
    }
    wanted.rejected_domains += claims.rejected.len();
    for rejected in claims.rejected {
        let text = format!("domain {:?} passed over: {}", rejected.text, rejected.reason);
        wanted.oddities.insert(Oddity { app: rejected.app, label: rejected.label, text });
    }
    for notice in claims.notices {
        let (app, label) = (notice.app().to_string(), notice.label().to_string());
        wanted.oddities.insert(Oddity { app, label, text: notice.to_string() });
    }
}
