//! The event stream: opened, read, dropped when silent, opened again. Knows nothing of apps.

use crate::client::marathon::{ANSWER_DEADLINE, MarathonRequest, Reception, RequestOptions};
use crate::client::{Client, ClientEvent, RequestId};
use crate::config::Config;
use crate::context::Context;
use crate::daemon::owner::{Owner, WatcherRequest};
use crate::hint::Complaint;
use crate::http::{ResponseHead, SseEvent, SseParser};
use crate::log::{Record, message};
use crate::machine::Trust;
use crate::marathon::event::{self, Event, Relevance};
use crate::time::Instant;
use crate::url::{Credentials, Url};

use super::Round;

/// What the stream has to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamNews {
    /// Marathon accepted the request.
    Attached,
    /// An event came that means that apps may have changed.
    Event(Event),
    /// The stream is gone or could not be opened; the reason.
    Lost(Complaint),
}

/// The stream's machine.
#[derive(Debug)]
pub(super) struct Stream {
    round: Round,
    manner: RequestOptions<Owner>,
    state: State,
}

#[derive(Debug)]
enum State {
    Pausing {
        until: Option<Instant>,
    },
    Opening(MarathonRequest),
    /// `greeted`: our own subscription was announced; further announcements are of other clients.
    Attached {
        request: RequestId,
        url: Url,
        parser: SseParser,
        heard: bool,
        greeted: bool,
    },
}

impl Stream {
    pub(super) fn new(config: &Config) -> Stream {
        Stream {
            round: Round::new(&config.marathon),
            manner: RequestOptions {
                owner: Owner::Watcher(WatcherRequest::Stream),
                // Anything else than exactly this value is answered with 405.
                accept: "text/event-stream",
                timeout: config.marathon_timeout.unwrap_or(ANSWER_DEADLINE),
                silence: config.sse_timeout,
            },
            state: State::Pausing { until: None },
        }
    }

    /// From now on; not what is under way.
    pub(super) fn ask_with(&mut self, credentials: &Credentials) {
        self.round.ask_with(credentials);
    }

    /// The request that is under way.
    fn request(&self) -> Option<RequestId> {
        match &self.state {
            State::Pausing { .. } => None,
            State::Opening(MarathonRequest { request, .. }) | State::Attached { request, .. } => {
                Some(*request)
            }
        }
    }

    /// It is to be opened then.
    pub(super) fn open_at(&mut self, at: Instant) {
        self.state = State::Pausing { until: Some(at) };
    }

    fn open(&mut self, cx: &mut Context<'_>, client: &mut Client<Owner>) {
        let url = self.round.url().join(&event::stream_target());
        self.state = State::Opening(self.manner.ask(cx, client, url));
    }

    pub(super) fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        request: RequestId,
        event: ClientEvent,
    ) -> Vec<StreamNews> {
        if self.request() != Some(request) {
            return Vec::new();
        }
        match event {
            ClientEvent::Head(head) => self.answered(cx, client, &head),
            ClientEvent::Body(bytes) => self.received(cx, &bytes),
            ClientEvent::End => self.lost(cx, "Marathon closed it".into()),
            ClientEvent::Failed(error) => self.lost(cx, error.complaint(Trust::Marathon)),
            ClientEvent::Response(_) | ClientEvent::Addresses(_) | ClientEvent::Presented(_) => {
                Vec::new()
            }
        }
    }

    fn answered(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        head: &ResponseHead,
    ) -> Vec<StreamNews> {
        let State::Opening(inquiry) = &self.state else { return Vec::new() };
        match self.manner.receive(cx, client, inquiry, head, &self.round.urls) {
            Reception::Accepted => {
                let MarathonRequest { request, url, .. } = inquiry.clone();
                self.accepted(cx, client, request, url, head)
            }
            Reception::Redirected(inquiry) => {
                self.state = State::Opening(inquiry);
                Vec::new()
            }
            Reception::Refused(problem) => self.lost(cx, problem),
        }
    }

    fn accepted(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        request: RequestId,
        url: Url,
        head: &ResponseHead,
    ) -> Vec<StreamNews> {
        let content_type = head.headers.first("content-type").unwrap_or("");
        if !content_type.to_ascii_lowercase().starts_with(self.manner.accept) {
            client.cancel(request);
            let problem = format!("it is not {} but {content_type:?}", self.manner.accept);
            return self.lost(cx, problem.into());
        }
        let line = Record::info("marathon", message::ATTACHED);
        let line = line.ends(&[message::NO_STREAM]);
        cx.log(line.with("url", url.origin()));
        let parser = SseParser::new();
        self.state = State::Attached { request, url, parser, heard: false, greeted: false };
        vec![StreamNews::Attached]
    }

    fn received(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Vec<StreamNews> {
        let State::Attached { parser, heard, greeted, .. } = &mut self.state else {
            return Vec::new();
        };
        let mut items = Vec::new();
        parser.receive(bytes, &mut items);
        let mut news = Vec::new();
        for SseEvent { name, data, oversized } in items {
            if oversized {
                let line = Record::warn("marathon", message::EVENT_TOO_LARGE);
                cx.log(line.with("event", &name));
            }
            if !*heard {
                *heard = true;
                self.round.succeeded();
            }
            if let Some(event) = event::relevant(&name, &data) {
                if event.relevance == Relevance::Attached && std::mem::replace(greeted, true) {
                    continue;
                }
                cx.log(Record::debug("marathon", "event").with("event", event.name));
                news.push(StreamNews::Event(event));
            }
        }
        news
    }

    /// Plans to open it again. A stream that never said anything counts as a failure of that
    /// Marathon: a fresh leader may answer 200 and close at once.
    fn lost(&mut self, cx: &mut Context<'_>, problem: Complaint) -> Vec<StreamNews> {
        let (origin, pause) = match &self.state {
            State::Pausing { .. } => return Vec::new(),
            State::Attached { url, heard: true, .. } => {
                (url.origin().to_string(), self.round.backoff.pause(cx.keys))
            }
            State::Attached { url, .. } | State::Opening(MarathonRequest { url, .. }) => {
                (url.origin().to_string(), self.round.next(cx))
            }
        };
        self.state = State::Pausing { until: Some(cx.now.mono + pause) };
        let line = Record::error("marathon", message::NO_STREAM).with("url", origin);
        let line = line.with("error", &problem).with("next_try", cx.now.wall.plus(pause));
        cx.log(line.hinted(problem.hint));
        vec![StreamNews::Lost(problem)]
    }

    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>, client: &mut Client<Owner>) {
        if self.poll_timeout().is_some_and(|at| at <= cx.now.mono) {
            self.open(cx, client);
        }
    }

    /// Bytes of an event that is not whole.
    pub(super) fn bytes_held(&self) -> usize {
        match &self.state {
            State::Attached { parser, .. } => parser.bytes_held(),
            State::Pausing { .. } | State::Opening(_) => 0,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Pausing { until } => until,
            State::Opening(_) | State::Attached { .. } => None,
        }
    }
}
