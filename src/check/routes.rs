//! Asks on port 80 of every load balancer for our own answer under each wanted domain, as a CA asks for
//! a challenge; follows redirects as CAs do, to `https` too. Some at a time, and no more at an address where
//! nobody listens.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::challenge::route::{self, ANSWER_BYTES_MAX, Answered, REDIRECTS_MAX};
use crate::client::{Client, ClientEvent, Fault, Outgoing, RequestId};
use crate::context::Context;
use crate::domain::Domain;
use crate::http::Response;
use crate::machine::Trust;
use crate::url::Url;

use super::apps::Found;
use super::cause::{Challenges, Facts};
use super::open::Open;
use super::report::Finding;
use super::{Part, at, counted};

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
    /// So many redirects have led there.
    redirects: u32,
}

/// What a domain's challenges meet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// We answer.
    Pong,
    /// Somebody else answers, with this status.
    Other(u16),
    /// A redirect to there, which no CA follows.
    Elsewhere(String),
    /// Redirects to there, and what came of it.
    Behind(String, Box<Outcome>),
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
                self.waiting.push_back(Question { domain: index, address, url, redirects: 0 });
            }
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Asks as many as may be under way.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, client: &mut Client<Part>) {
        while self.open.len() < IN_FLIGHT_MAX
            && let Some(question) = self.waiting.pop_front()
        {
            if self.unreachable.iter().all(|(address, _)| *address != question.address) {
                self.ask(cx, client, question);
            }
        }
    }

    fn ask(&mut self, cx: &mut Context<'_>, client: &mut Client<Part>, question: Question) {
        let request = route::question(question.url.clone());
        // A CA does not look at the certificate either.
        let outgoing =
            Outgoing { trust: Trust::Unjudged, ..at(question.address, request, ANSWER_BYTES_MAX) };
        self.open.insert(client.send(cx, Part::Routes, outgoing), question);
    }

    pub(super) fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        request: RequestId,
        event: ClientEvent,
    ) {
        let Some(question) = self.open.take(request) else { return };
        match event {
            ClientEvent::Response(response) => match step(&question, &response) {
                Step::Over(outcome) => self.note(&question, outcome),
                Step::Follow(url) => {
                    let redirects = question.redirects + 1;
                    self.ask(cx, client, Question { url, redirects, ..question });
                }
            },
            ClientEvent::Failed(error)
                if matches!(error.fault, Fault::Connect(_)) && question.redirects == 0 =>
            {
                let known = self.unreachable.iter().any(|(at, _)| *at == question.address);
                if !known {
                    self.unreachable.push((question.address, error.fault.to_string()));
                }
            }
            ClientEvent::Failed(error) => {
                self.note(&question, Outcome::Silent(error.fault.to_string()));
            }
            _ => {}
        }
        self.advance(cx, client);
    }

    fn note(&mut self, question: &Question, outcome: Outcome) {
        let Some((_, outcomes)) = self.domains.get_mut(question.domain) else { return };
        let outcome = outcome.of(question);
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
    /// there is a daemon that could answer, `found` what the apps want, `challenges` what the
    /// configuration of a load balancer does with challenges.
    pub(super) fn findings<'a>(
        &self,
        at_work: bool,
        found: Option<&'a Found>,
        challenges: impl Fn(IpAddr) -> Option<&'a Challenges>,
    ) -> Vec<Finding> {
        let unreachable = self.unreachable.iter().map(|(address, problem)| {
            let remedy = "let marathon-lb listen on port 80 there: CAs ask for challenges on it";
            Finding::fail(SUBJECT, format!("{address}: {problem}"), remedy)
        });
        let mut findings: Vec<Finding> = unreachable.collect();
        for (domain, outcomes) in &self.domains {
            for (outcome, addresses) in outcomes {
                let challenges = addresses.iter().find_map(|at| challenges(*at));
                let facts = Facts { domain, found, challenges };
                findings.push(outcome.finding(facts, addresses, at_work));
            }
        }
        findings
    }
}

/// What an answer means.
fn step(question: &Question, response: &Response) -> Step {
    match route::judge(&question.url, response, is_pong) {
        Answered::Ours => Step::Over(Outcome::Pong),
        Answered::Other(status) => Step::Over(Outcome::Other(status)),
        // Another name is taken for one of the same load balancer.
        Answered::Onward(url) if question.redirects < REDIRECTS_MAX => Step::Follow(url),
        Answered::Onward(url) => Step::Over(Outcome::Elsewhere(url.to_string())),
        Answered::Elsewhere(location) => Step::Over(Outcome::Elsewhere(location)),
    }
}

fn is_pong(body: &[u8]) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    value.is_some_and(|value| value["message"] == "pong")
}

impl Outcome {
    /// This, as what came of a question; where redirects led there and it is no good, it is their fault. That
    /// nobody is at work behind a load balancer is none of theirs.
    fn of(self, question: &Question) -> Outcome {
        match self {
            Outcome::Pong | Outcome::Other(502..=504) => self,
            _ if question.redirects == 0 => self,
            _ => Outcome::Behind(question.url.to_string(), Box::new(self)),
        }
    }

    fn finding(&self, facts: Facts<'_>, at: &[IpAddr], at_work: bool) -> Finding {
        let domain = facts.domain;
        let addresses: Vec<String> = at.iter().map(ToString::to_string).collect();
        let seen = format!("{domain} at {}: {}", addresses.join(", "), self.in_words());
        match self {
            Outcome::Pong => {
                let balancers = counted(at.len() as u64, "load balancer");
                Finding::ok(SUBJECT, format!("{domain}: we answer, by way of {balancers}"))
            }
            // HAProxy's own words for a back end without a server.
            Outcome::Other(502..=504) if !at_work => {
                let seen = format!("{seen}, and no daemon is at work");
                Finding::warn(SUBJECT, seen, "start marathon-acme, then check again")
            }
            Outcome::Other(502..=504) => {
                let remedy =
                    "see to it that marathon-acme is healthy, and where challenges are sent";
                Finding::fail(SUBJECT, format!("{seen}, nobody answers"), remedy)
            }
            Outcome::Other(status) => Finding::fail(SUBJECT, seen, facts.plain(Some(*status))),
            Outcome::Behind(location, what) if location.starts_with("https:") => {
                let status = match **what {
                    Outcome::Other(status) => Some(status),
                    _ => None,
                };
                Finding::fail(SUBJECT, seen, facts.redirected(status))
            }
            Outcome::Behind(..) | Outcome::Elsewhere(_) => {
                Finding::fail(SUBJECT, seen, facts.plain(None))
            }
            Outcome::Silent(_) => {
                Finding::fail(SUBJECT, seen, "see to it that marathon-lb answers on port 80")
            }
        }
    }

    fn in_words(&self) -> String {
        match self {
            Outcome::Pong => "we answer".into(),
            Outcome::Other(status @ 502..=504) => format!("status {status}"),
            Outcome::Other(status) => format!("something else answers, status {status}"),
            Outcome::Elsewhere(location) => format!("sent on to {location}"),
            Outcome::Silent(problem) => problem.clone(),
            Outcome::Behind(location, what) => {
                format!("sent on to {location}, and there {}", what.in_words())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;
    use crate::http::{Headers, ResponseHead};

    fn question(url: &str, redirects: u32) -> Question {
        let (address, url) = ([10, 0, 0, 1].into(), Url::parse(url).unwrap());
        Question { domain: 0, address, url, redirects }
    }

    fn outcome(asked: &Question, status: u16, location: Option<&str>, body: &str) -> String {
        let mut headers = Headers::new();
        location.into_iter().for_each(|location| headers.push("Location", location));
        let response = Response { head: ResponseHead { status, headers }, body: body.into() };
        match step(asked, &response) {
            Step::Over(outcome) => format!("{:?}", outcome.of(asked)),
            Step::Follow(url) => format!("follow {url}"),
        }
    }

    #[test]
    fn answers_and_what_they_mean() {
        let first = question("http://a.example.com/.well-known/acme-challenge/ping", 0);
        let pong = r#"{"message": "pong"}"#;
        assert_eq!(outcome(&first, 200, None, pong), "Pong");
        assert_eq!(outcome(&first, 200, None, "<html>"), "Other(200)");
        assert_eq!(outcome(&first, 503, None, pong), "Other(503)");
        assert_eq!(outcome(&first, 302, None, ""), "Other(302)");
        for elsewhere in ["http://x.org/", "http://x.org:81/.well-known/acme-challenge/ping", "/x"]
        {
            let expected = format!("Elsewhere({elsewhere:?})");
            assert_eq!(outcome(&first, 302, Some(elsewhere), ""), expected);
        }
    }

    #[test]
    fn redirects_are_followed_as_a_ca_does_it() {
        let secure = "https://a.example.com/.well-known/acme-challenge/ping";
        for redirects in [0, 1, REDIRECTS_MAX - 1] {
            let asked = question("http://b.example.com/ping", redirects);
            assert_eq!(outcome(&asked, 301, Some(secure), ""), format!("follow {secure}"));
        }
        let last = question(secure, REDIRECTS_MAX);
        assert_eq!(outcome(&last, 200, None, r#"{"message": "pong"}"#), "Pong");
        assert_eq!(outcome(&last, 503, None, ""), "Other(503)", "which is no redirect's fault");
        let elsewhere = |what: &str| format!("Behind({secure:?}, {what})");
        assert_eq!(outcome(&last, 404, None, ""), elsewhere("Other(404)"));
        let more = format!("Elsewhere({secure:?})");
        assert_eq!(outcome(&last, 301, Some(secure), ""), elsewhere(&more));
    }

    #[test]
    fn where_no_daemon_is_at_work_nobody_can_answer() {
        let domain = Domain::parse("a.example.com").unwrap();
        let facts = Facts { domain: &domain, found: None, challenges: None };
        let verdict = |outcome: Outcome, at_work| {
            outcome.finding(facts, &[[10, 0, 0, 1].into()], at_work).verdict
        };
        assert_eq!(verdict(Outcome::Other(503), false), Verdict::Warn);
        assert_eq!(verdict(Outcome::Other(503), true), Verdict::Fail);
        assert_eq!(verdict(Outcome::Other(404), false), Verdict::Fail);
        assert_eq!(verdict(Outcome::Pong, true), Verdict::Ok);
        for location in ["https://a.org/ping", "http://a.org/ping"] {
            let behind = Outcome::Behind(location.into(), Box::new(Outcome::Other(404)));
            let finding = behind.finding(facts, &[[10, 0, 0, 1].into()], true);
            let seen = format!("sent on to {location}, and there something else answers, ");
            assert!(finding.seen.contains(&seen), "{finding:?}");
        }
    }
}
