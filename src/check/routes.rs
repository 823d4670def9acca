//! Asks on port 80 of every load balancer for our own answer under each wanted domain, as a CA asks for
//! a challenge; follows one redirect, as CAs do. Some at a time, and no more at an address where nobody
//! listens.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::challenge::route::{self, ANSWER_BYTES_MAX, Answered};
use crate::daemon::transport::{Fault, RequestId, Transport, TransportEvent};
use crate::domain::Domain;
use crate::http::Response;
use crate::turn::Turn;
use crate::url::{Scheme, Url};

use super::open::Open;
use super::report::Finding;
use super::{at, counted};

const SUBJECT: &str = "route";
/// Questions under way at once at most.
const IN_FLIGHT_MAX: usize = 16;

/// The questions, and their answers.
#[derive(Debug, Default)]
pub(super) struct Routes {
    waiting: VecDeque<Question>,
    open: Open<Question>,
    domains: Vec<(Domain, Outcomes)>,
    /// Addresses at which nobody listens on port 80.
    unreachable: Vec<(IpAddr, String)>,
    begun: bool,
}

/// What came of a domain, and at which addresses.
type Outcomes = Vec<(Outcome, Vec<IpAddr>)>;

#[derive(Clone, Debug)]
struct Question {
    /// The index of its domain.
    domain: usize,
    address: IpAddr,
    url: Url,
    /// A redirect has led there.
    followed: bool,
}

/// What a domain's challenges meet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// We answer.
    Pong,
    /// Somebody else answers, with this status.
    Other(u16),
    /// A redirect to `https`, to there.
    ToHttps(String),
    /// A redirect to something else, or a second one.
    Elsewhere(String),
    /// Nobody answers: why.
    Silent(String),
}

/// What came of one question.
enum Step {
    Over(Outcome),
    Follow(Url),
}

impl Routes {
    /// Asks for each of these domains at each of these addresses.
    pub(super) fn start<'a>(
        &mut self,
        domains: impl Iterator<Item = &'a Domain>,
        addresses: &[IpAddr],
    ) {
        self.begun = true;
        for domain in domains {
            let index = self.domains.len();
            self.domains.push((domain.clone(), Vec::new()));
            // A domain is always part of a URL.
            let Ok(url) = route::url(domain.as_str(), "ping") else { continue };
            for address in addresses {
                let (address, url) = (*address, url.clone());
                self.waiting.push_back(Question { domain: index, address, url, followed: false });
            }
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Asks as many as may be under way.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) {
        while self.open.len() < IN_FLIGHT_MAX
            && let Some(question) = self.waiting.pop_front()
        {
            if self.unreachable.iter().all(|(address, _)| *address != question.address) {
                self.ask(turn, transport, question);
            }
        }
    }

    fn ask(&mut self, turn: &mut Turn<'_>, transport: &mut Transport, question: Question) {
        let outgoing =
            at(question.address, route::question(question.url.clone()), ANSWER_BYTES_MAX);
        self.open.insert(transport.send(turn, outgoing), question);
    }

    pub(super) fn awaits(&self, request: RequestId) -> bool {
        self.open.awaits(request)
    }

    pub(super) fn handle_event(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        request: RequestId,
        event: TransportEvent,
    ) {
        let Some(question) = self.open.take(request) else { return };
        match event {
            TransportEvent::Response(response) => {
                match step(&question.url, question.followed, &response) {
                    Step::Over(outcome) => self.note(&question, outcome),
                    Step::Follow(url) => {
                        self.ask(turn, transport, Question { url, followed: true, ..question });
                    }
                }
            }
            TransportEvent::Failed(error) if matches!(error.fault, Fault::Connect(_)) => {
                let known = self.unreachable.iter().any(|(at, _)| *at == question.address);
                if !known {
                    self.unreachable.push((question.address, error.fault.to_string()));
                }
            }
            TransportEvent::Failed(error) => {
                self.note(&question, Outcome::Silent(error.fault.to_string()));
            }
            _ => {}
        }
        self.advance(turn, transport);
    }

    fn note(&mut self, question: &Question, outcome: Outcome) {
        let Some((_, outcomes)) = self.domains.get_mut(question.domain) else { return };
        match outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, addresses)) => addresses.push(question.address),
            None => outcomes.push((outcome, vec![question.address])),
        }
    }

    /// How many questions have no answer yet.
    pub(super) fn left(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    pub(super) fn is_done(&self) -> bool {
        self.begun && self.left() == 0
    }

    pub(super) fn give_up(&mut self, reason: &str) {
        self.begun = true;
        for question in self.open.take_all() {
            self.note(&question, Outcome::Silent(reason.into()));
        }
        for question in std::mem::take(&mut self.waiting) {
            self.note(&question, Outcome::Silent("there was no time left to ask".into()));
        }
    }

    /// What is to be said: a line for each domain and each thing that came of it. `at_work` says whether
    /// there is a daemon that could answer, `app` which app wants a domain.
    pub(super) fn findings(
        &self,
        at_work: bool,
        app: impl Fn(&Domain) -> Option<String>,
    ) -> Vec<Finding> {
        let unreachable = self.unreachable.iter().map(|(address, problem)| {
            let remedy = "let marathon-lb listen on port 80 there: CAs ask for challenges on it";
            Finding::fail(SUBJECT, format!("{address}: {problem}"), remedy)
        });
        let mut findings: Vec<Finding> = unreachable.collect();
        for (domain, outcomes) in &self.domains {
            for (outcome, addresses) in outcomes {
                let app = app(domain).unwrap_or_default();
                findings.push(outcome.finding(domain, addresses, at_work, &app));
            }
        }
        findings
    }
}

/// What an answer means.
fn step(asked: &Url, followed: bool, response: &Response) -> Step {
    match route::judge(asked, response, is_pong) {
        Answered::Ours => Step::Over(Outcome::Pong),
        Answered::Other(status) => Step::Over(Outcome::Other(status)),
        // Another name is taken for one of the same load balancer.
        Answered::Onward(url) if url.origin().scheme == Scheme::Https => {
            Step::Over(Outcome::ToHttps(url.to_string()))
        }
        Answered::Onward(url) if !followed && url.target() == asked.target() => Step::Follow(url),
        Answered::Onward(url) => Step::Over(Outcome::Elsewhere(url.to_string())),
        Answered::Elsewhere(location) => Step::Over(Outcome::Elsewhere(location)),
    }
}

fn is_pong(body: &[u8]) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    value.is_some_and(|value| value["message"] == "pong")
}

impl Outcome {
    fn finding(&self, domain: &Domain, at: &[IpAddr], at_work: bool, app: &str) -> Finding {
        let balancers = counted(at.len() as u64, "load balancer");
        let addresses: Vec<String> = at.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(", ");
        let weight = "give marathon-acme's app a higher HAPROXY_0_BACKEND_WEIGHT";
        match self {
            Outcome::Pong => {
                Finding::ok(SUBJECT, format!("{domain}: we answer, by way of {balancers}"))
            }
            // HAProxy's own words for a back end without a server.
            Outcome::Other(status @ 502..=504) if !at_work => {
                let seen =
                    format!("{domain} at {addresses}: status {status}, and no daemon is at work");
                Finding::warn(SUBJECT, seen, "start marathon-acme, then check again")
            }
            Outcome::Other(status @ 502..=504) => {
                let seen = format!("{domain} at {addresses}: status {status}, nobody answers");
                let remedy =
                    "see to it that marathon-acme is healthy, and where challenges are sent";
                Finding::fail(SUBJECT, seen, remedy)
            }
            Outcome::Other(status) => {
                let seen =
                    format!("{domain} at {addresses}: something else answers, status {status}");
                Finding::fail(SUBJECT, seen, weight)
            }
            Outcome::ToHttps(location) => {
                let seen = format!("{domain} at {addresses}: sent on to {location}");
                let remedy = format!("HAPROXY_n_REDIRECT_TO_HTTPS of {app} comes first; {weight}");
                Finding::fail(SUBJECT, seen, remedy)
            }
            Outcome::Elsewhere(location) => {
                let seen = format!("{domain} at {addresses}: sent on to {location}");
                Finding::fail(SUBJECT, seen, weight)
            }
            Outcome::Silent(problem) => {
                let seen = format!("{domain} at {addresses}: {problem}");
                Finding::fail(SUBJECT, seen, "see to it that marathon-lb answers on port 80")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;
    use crate::http::{Headers, ResponseHead};

    fn outcome(via: Option<&str>, status: u16, location: Option<&str>, body: &str) -> String {
        let mut headers = Headers::new();
        location.into_iter().for_each(|location| headers.push("Location", location));
        let response = Response { head: ResponseHead { status, headers }, body: body.into() };
        let ping = route::url("a.example.com", "ping").unwrap();
        let asked = via.map_or(ping, |url| Url::parse(url).unwrap());
        match step(&asked, via.is_some(), &response) {
            Step::Over(outcome) => format!("{outcome:?}"),
            Step::Follow(url) => format!("follow {url}"),
        }
    }

    #[test]
    fn answers_and_what_they_mean() {
        let ours = "http://acme.example.com/.well-known/acme-challenge/ping";
        let secure = "https://a.example.com/.well-known/acme-challenge/ping";
        let pong = r#"{"message": "pong"}"#;
        assert_eq!(outcome(None, 200, None, pong), "Pong");
        assert_eq!(outcome(None, 200, None, "<html>"), "Other(200)");
        assert_eq!(outcome(None, 503, None, pong), "Other(503)");
        assert_eq!(outcome(None, 302, None, ""), "Other(302)");
        assert_eq!(outcome(None, 301, Some(secure), ""), format!("ToHttps({secure:?})"));
        assert_eq!(outcome(None, 302, Some(ours), ""), format!("follow {ours}"));
        assert_eq!(outcome(Some(ours), 302, Some(ours), ""), format!("Elsewhere({ours:?})"));
        for elsewhere in ["http://x.org/", "http://x.org:81/.well-known/acme-challenge/ping", "/x"]
        {
            assert_eq!(
                outcome(None, 302, Some(elsewhere), ""),
                format!("Elsewhere({elsewhere:?})")
            );
        }
    }

    #[test]
    fn where_no_daemon_is_at_work_nobody_can_answer() {
        let domain = Domain::parse("a.example.com").unwrap();
        let verdict = |outcome: Outcome, at_work| {
            outcome.finding(&domain, &[[10, 0, 0, 1].into()], at_work, "/a").verdict
        };
        assert_eq!(verdict(Outcome::Other(503), false), Verdict::Warn);
        assert_eq!(verdict(Outcome::Other(503), true), Verdict::Fail);
        assert_eq!(verdict(Outcome::Other(404), false), Verdict::Fail);
        assert_eq!(verdict(Outcome::Pong, true), Verdict::Ok);
        let https = Outcome::ToHttps("https://a.example.com/".into());
        let finding = https.finding(&domain, &[[10, 0, 0, 1].into()], true, "/shop");
        assert!(finding.remedy.contains("HAPROXY_n_REDIRECT_TO_HTTPS of /shop"), "{finding:?}");
    }
}
