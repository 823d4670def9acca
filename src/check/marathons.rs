//! Asks every Marathon who it is and whether its event stream opens, and the first that answers for its
//! apps, of which it keeps what they want and what is odd about them. Marathon is changed by none of it.

use std::time::Duration;

use serde_json::Value;

use crate::client::marathon::{MarathonRequest, Reception, RequestOptions};
use crate::client::{Client, ClientEvent, RequestId};
use crate::config::Config;
use crate::context::Context;
use crate::http::ResponseHead;
use crate::marathon::{App, AppsParser, event};
use crate::url::Url;

use super::apps::{Found, Rules};
use super::open::Open;
use super::report::{Finding, Verdict};
use super::{Part, problem};

/// `/v2/info` is some KiB; in bytes.
const INFO_BYTES_MAX: usize = 1024 * 1024;
/// A Marathon that is asked by hand is not waited for longer, whatever `--marathon-timeout` says.
const TIMEOUT_MAX: Duration = Duration::from_secs(20);
const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream";

/// The questions, and their answers.
#[derive(Debug)]
pub(super) struct Marathons {
    peers: Vec<Peer>,
    open: Open<(Question, MarathonRequest)>,
    timeout: Duration,
    wanted: Rules,
    apps: Apps,
}

/// One Marathon.
#[derive(Debug)]
struct Peer {
    url: Url,
    /// What it says of itself.
    info: Option<Result<String, String>>,
    /// Whether its event stream opens.
    stream: Option<Result<(), String>>,
    /// Why its apps cannot be had, when it was asked for them.
    apps: Option<String>,
}

#[derive(Debug)]
enum Question {
    Info { peer: usize, body: Vec<u8> },
    Stream { peer: usize },
    Apps { peer: usize, parser: AppsParser, found: Found },
}

/// How far the list of apps is.
#[derive(Debug)]
enum Apps {
    Asking,
    /// With the index of who answered.
    Listed(usize, Found),
    Failed,
}

impl Marathons {
    pub(super) fn new(config: &Config) -> Marathons {
        let peer = |url: &Url| Peer { url: url.clone(), info: None, stream: None, apps: None };
        Marathons {
            peers: config.marathon.iter().map(peer).collect(),
            open: Open::default(),
            timeout: config.marathon_timeout.map_or(TIMEOUT_MAX, |it| it.min(TIMEOUT_MAX)),
            wanted: config.into(),
            apps: Apps::Asking,
        }
    }

    pub(super) fn start(&mut self, cx: &mut Context<'_>, client: &mut Client<Part>) {
        for peer in 0..self.peers.len() {
            self.ask(cx, client, Question::Info { peer, body: Vec::new() });
            self.ask(cx, client, Question::Stream { peer });
        }
        self.ask_for_apps(cx, client, 0);
    }

    /// Asks this Marathon for its apps, or nobody where there is none left.
    fn ask_for_apps(&mut self, cx: &mut Context<'_>, client: &mut Client<Part>, peer: usize) {
        if peer >= self.peers.len() {
            self.apps = Apps::Failed;
            return;
        }
        let (parser, found) = (AppsParser::new(), Found::default());
        self.ask(cx, client, Question::Apps { peer, parser, found });
    }

    fn ask(&mut self, cx: &mut Context<'_>, client: &mut Client<Part>, question: Question) {
        let target = match &question {
            Question::Info { .. } => "/v2/info".to_string(),
            Question::Stream { .. } => event::stream_target(),
            Question::Apps { .. } => "/v2/apps".to_string(),
        };
        let Some(url) = self.peers.get(question.peer()).map(|peer| peer.url.join(&target)) else {
            return;
        };
        let inquiry = self.manner(&question).ask(cx, client, url);
        self.open.insert(inquiry.request, (question, inquiry));
    }

    fn manner(&self, question: &Question) -> RequestOptions<Part> {
        let accept = if matches!(question, Question::Stream { .. }) { STREAM } else { JSON };
        RequestOptions {
            owner: Part::Marathons,
            accept,
            timeout: self.timeout,
            silence: Some(self.timeout),
        }
    }

    pub(super) fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        request: RequestId,
        event: ClientEvent,
    ) {
        let Some((question, inquiry)) = self.open.take(request) else { return };
        match event {
            ClientEvent::Head(head) => {
                self.answered(cx, client, question, inquiry, &head);
            }
            ClientEvent::Body(bytes) => {
                self.received(cx, client, question, inquiry, &bytes);
            }
            ClientEvent::End => self.ended(cx, client, question),
            ClientEvent::Failed(error) => {
                self.failed(cx, client, &question, problem(&error));
            }
            ClientEvent::Response(_) | ClientEvent::Addresses(_) | ClientEvent::Presented(_) => {}
        }
    }

    fn answered(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        question: Question,
        inquiry: MarathonRequest,
        head: &ResponseHead,
    ) {
        let marathons: Vec<Url> = self.peers.iter().map(|peer| peer.url.clone()).collect();
        match self.manner(&question).receive(cx, client, &inquiry, head, &marathons) {
            Reception::Accepted => match question {
                Question::Stream { peer } => {
                    client.cancel(inquiry.request);
                    self.note_stream(peer, is_stream(head));
                }
                question => self.open.insert(inquiry.request, (question, inquiry)),
            },
            Reception::Redirected(inquiry) => {
                self.open.insert(inquiry.request, (question, inquiry));
            }
            Reception::Refused(problem) => self.failed(cx, client, &question, problem.to_string()),
        }
    }

    fn received(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        mut question: Question,
        inquiry: MarathonRequest,
        bytes: &[u8],
    ) {
        let fed = match &mut question {
            Question::Info { body, .. } => {
                body.extend_from_slice(bytes);
                let fits = body.len() <= INFO_BYTES_MAX;
                if fits { Ok(()) } else { Err("the answer is too long".to_string()) }
            }
            Question::Apps { parser, found, .. } => {
                let fed = parser.feed(bytes, &mut |app| {
                    let app = app.and_then(App::parse);
                    found.add(app, &self.wanted);
                });
                fed.map_err(|error| error.to_string())
            }
            Question::Stream { .. } => Ok(()),
        };
        match fed {
            Ok(()) => self.open.insert(inquiry.request, (question, inquiry)),
            Err(problem) => {
                client.cancel(inquiry.request);
                self.failed(cx, client, &question, problem);
            }
        }
    }

    fn ended(&mut self, cx: &mut Context<'_>, client: &mut Client<Part>, question: Question) {
        match question {
            Question::Info { peer, body } => self.note_info(peer, info(&body)),
            Question::Apps { peer, parser, found } => match parser.finish() {
                Ok(()) => self.apps = Apps::Listed(peer, found),
                Err(error) => self.apps_failed(cx, client, peer, &error.to_string()),
            },
            Question::Stream { peer } => self.note_stream(peer, Err("it was closed".into())),
        }
    }

    fn failed(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        question: &Question,
        problem: String,
    ) {
        match question {
            Question::Info { peer, .. } => self.note_info(*peer, Err(problem)),
            Question::Stream { peer } => self.note_stream(*peer, Err(problem)),
            Question::Apps { peer, .. } => self.apps_failed(cx, client, *peer, &problem),
        }
    }

    fn apps_failed(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        peer: usize,
        problem: &str,
    ) {
        self.note_apps(peer, problem);
        self.ask_for_apps(cx, client, peer + 1);
    }

    fn note_info(&mut self, peer: usize, info: Result<String, String>) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.info = Some(info);
        }
    }

    fn note_stream(&mut self, peer: usize, stream: Result<(), String>) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.stream = Some(stream);
        }
    }

    fn note_apps(&mut self, peer: usize, problem: &str) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.apps = Some(problem.into());
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.open.len() == 0
    }

    pub(super) fn give_up(&mut self, reason: &str) {
        for (question, _) in self.open.take_all() {
            match question {
                Question::Info { peer, .. } => self.note_info(peer, Err(reason.into())),
                Question::Stream { peer } => self.note_stream(peer, Err(reason.into())),
                Question::Apps { peer, .. } => {
                    self.note_apps(peer, reason);
                    self.apps = Apps::Failed;
                }
            }
        }
    }

    /// What the apps want; `None` while that is not known, or cannot be.
    pub(super) fn found(&self) -> Option<&Found> {
        match &self.apps {
            Apps::Listed(_, found) => Some(found),
            Apps::Asking | Apps::Failed => None,
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        // One that does not answer is no failure while another one does.
        let verdict = match &self.apps {
            Apps::Listed(..) => Verdict::Warn,
            Apps::Asking | Apps::Failed => Verdict::Fail,
        };
        let mut findings = Vec::new();
        for peer in &self.peers {
            findings.extend(peer.findings(verdict));
        }
        match &self.apps {
            Apps::Listed(peer, found) => {
                let url = self.peers.get(*peer).map(|peer| peer.url.origin().to_string());
                findings.push(found.summary(&url.unwrap_or_default(), &self.wanted.group));
                findings.extend(found.oddities().cloned());
                findings.extend(found.barred());
            }
            Apps::Asking | Apps::Failed => {
                let remedy = "mend what is said of Marathon above; nothing is known of the domains";
                findings.push(Finding::fail("apps", "no Marathon lists its apps", remedy));
            }
        }
        findings
    }
}

impl Question {
    fn peer(&self) -> usize {
        match self {
            Question::Info { peer, .. }
            | Question::Stream { peer }
            | Question::Apps { peer, .. } => *peer,
        }
    }
}

impl Peer {
    fn findings(&self, verdict: Verdict) -> Vec<Finding> {
        let url = self.url.origin();
        let bad = |seen: String, remedy: &str| Finding {
            verdict,
            ..Finding::fail("marathon", format!("{url}: {seen}"), remedy)
        };
        let mut findings = Vec::new();
        match &self.info {
            Some(Ok(text)) => findings.push(Finding::ok("marathon", format!("{url}: {text}"))),
            Some(Err(problem)) => {
                findings.push(bad(problem.clone(), "check --marathon, and that it runs"));
                return findings;
            }
            None => {}
        }
        match &self.stream {
            Some(Ok(())) => {
                findings.push(Finding::ok("marathon", format!("{url}: the event stream opens")));
            }
            Some(Err(problem)) => {
                let remedy =
                    "see to it that /v2/events can be had; until then changes are seen late";
                findings.push(bad(format!("the event stream does not open: {problem}"), remedy));
            }
            None => {}
        }
        if let Some(problem) = &self.apps {
            let remedy = "see to it that /v2/apps can be had";
            findings.push(bad(format!("no list of apps: {problem}"), remedy));
        }
        findings
    }
}

/// What `/v2/info` says: `Marathon 1.11.24, leader 10.0.0.1:8080`.
fn info(body: &[u8]) -> Result<String, String> {
    let value: Value = serde_json::from_slice(body).map_err(|_| "/v2/info is no JSON")?;
    let version = value["version"].as_str().ok_or("/v2/info names no version")?;
    let leader = value["leader"].as_str().filter(|leader| !leader.is_empty());
    Ok(format!("Marathon {version}, leader {}", leader.unwrap_or("not known")))
}

fn is_stream(head: &ResponseHead) -> Result<(), String> {
    let content_type = head.headers.first("content-type").unwrap_or("");
    if content_type.to_ascii_lowercase().starts_with(STREAM) {
        return Ok(());
    }
    Err(format!("it is not {STREAM} but {content_type:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_marathon_says_of_itself() {
        let said = |text: &str| info(text.as_bytes());
        let whole = r#"{"version":"1.11.24","leader":"10.0.0.1:8080","x":{}}"#;
        assert_eq!(said(whole), Ok("Marathon 1.11.24, leader 10.0.0.1:8080".into()));
        let alone = r#"{"version":"0.8.0","leader":null}"#;
        assert_eq!(said(alone), Ok("Marathon 0.8.0, leader not known".into()));
        assert_eq!(said("<html>"), Err("/v2/info is no JSON".into()));
        assert_eq!(said("{}"), Err("/v2/info names no version".into()));
    }
}
