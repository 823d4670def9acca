//! Tries the route of a domain's challenge from here, before its first order and before each that follows
//! a failed one: asks for a path that we answer ourselves at every address of the domain, and under the
//! domain's name at every address of every load balancer, on port 80, as a CA would. What differs is
//! advice, in the log and beside the certificate.
//!
//! Each domain: `LookUp → Ask (its addresses, then the load balancers) → told`; a redirect to another
//! name is `Follow → Ask` once more. Some at a time, the others wait.
//!
//! The owner of an app controls its domains, their addresses and the answers of their web servers, and must
//! not be able to aim our requests at servers that only the daemon can reach:
//! - A redirect is followed only to the same token without a query ([`route::judge`]), and only to a public
//!   address, a load balancer's, or the address that it came from. Each address is checked once the name is
//!   resolved, and the connection goes to the checked address, past every proxy and without a second
//!   lookup. What is refused is not asked at all.
//! - A domain's own address is asked first, with a fixed path. It may be private, because split DNS returns
//!   such addresses; the finding then contains neither status nor redirect. An address that is local to this
//!   machine or its link is not asked.
//!
//! Never keeps an order waiting, never speaks with the CA, and is never sure: from elsewhere the same
//! addresses may look otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::address::{Scope, scope};
use crate::challenge::probe;
use crate::challenge::route::{self, ANSWER_BYTES_MAX, Answered, REDIRECTS_MAX};
use crate::config::{Config, SkipRouteCheck};
use crate::context::Context;
use crate::daemon::owner::{Owner, RouteRequest};
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::http::Response;
use crate::log::{Record, message};
use crate::machine::Trust;
use crate::url::{Host, Url};

use crate::client::{Client, ClientEvent, Delivery, Fault, Outgoing, RequestId};

mod balancers;
mod finding;
#[cfg(test)]
mod tests;
mod way;

pub use finding::{Finding, Place};

use balancers::Balancers;
use finding::Outcome;
use way::Way;

/// Who sends the requests of a step.
const STEP: Owner = Owner::Routes(RouteRequest::Step);
/// Questions under way at once at most, lookups included.
const IN_FLIGHT_MAX: usize = 16;
/// No question takes longer, nor a lookup.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses that are asked for one domain, its own first.
const ADDRESSES_MAX: usize = 16;

/// The routes that are being tried, and what was found.
#[derive(Debug)]
pub struct Routes {
    skip: SkipRouteCheck,
    balancers: Balancers,
    /// By the certificate's name.
    trials: BTreeMap<Domain, Trial>,
    trials_made: u64,
    waiting: VecDeque<Step>,
    open: FlatMap<RequestId, Step>,
}

/// What one order's domains are tried with.
#[derive(Debug)]
struct Trial {
    /// Tells it from the one before.
    number: u64,
    ways: Vec<Way>,
    findings: Vec<Finding>,
}

/// Whose a step is: of one domain in one probe run, which may be over.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Of {
    certificate: Domain,
    trial: u64,
    way: usize,
}

#[derive(Debug)]
struct Step {
    of: Of,
    task: Task,
}

#[derive(Debug)]
enum Task {
    /// The domain's addresses.
    LookUp,
    /// The addresses of the name to which a question was sent on.
    Follow(Question),
    Ask(Question),
}

#[derive(Clone, Debug)]
struct Question {
    url: Url,
    /// Where it is asked now.
    address: IpAddr,
    /// Where to ask when nobody can be reached there.
    others: VecDeque<IpAddr>,
    /// Whose answer it is about, however often it was sent on.
    about: (Place, IpAddr),
    redirects: u32,
}

impl Routes {
    /// Tries nothing yet.
    pub fn new(config: &Config) -> Routes {
        Routes {
            skip: config.skip_route_check.clone(),
            balancers: Balancers::new(config),
            trials: BTreeMap::new(),
            trials_made: 0,
            waiting: VecDeque::new(),
            open: FlatMap::new(),
        }
    }

    /// Begins to try these domains of a certificate; what was found before is forgotten.
    pub fn start(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        certificate: &Domain,
        domains: &[Domain],
    ) {
        self.forget(cx, client, certificate);
        let number = self.trials_made;
        let tried = domains.iter().filter(|domain| !self.skip.covers(domain));
        let mut ways: Vec<Way> = Vec::new();
        for domain in tried {
            // A domain is always part of a URL.
            let Ok(url) = route::url(domain.as_str(), &probe::token(cx.keys)) else { continue };
            let of = Of { certificate: certificate.clone(), trial: number, way: ways.len() };
            ways.push(Way::new(domain, url));
            self.waiting.push_back(Step { of, task: Task::LookUp });
        }
        if ways.is_empty() {
            return;
        }
        self.trials_made += 1;
        let trial = Trial { number, ways, findings: Vec::new() };
        self.trials.insert(certificate.clone(), trial);
        self.balancers.refresh(cx, client);
        self.advance(cx, client);
    }

    /// The certificate is issued, or nobody wants it any more: what has no answer gets none, what was
    /// seen is said, and forgotten.
    pub fn forget(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        certificate: &Domain,
    ) {
        let Some(mut trial) = self.trials.remove(certificate) else { return };
        for way in &mut trial.ways {
            way.conclude().iter().for_each(|finding| say(cx, certificate, finding));
        }
        for (request, _) in self.open.extract_if(|_, step| step.of.certificate == *certificate) {
            client.cancel(request);
        }
        self.advance(cx, client);
    }

    /// The process ends: what was seen so far is said.
    pub fn conclude(&mut self, cx: &mut Context<'_>) {
        for (certificate, trial) in &mut self.trials {
            for way in &mut trial.ways {
                way.conclude().iter().for_each(|finding| say(cx, certificate, finding));
            }
        }
    }

    /// Forgets the certificates that are not to be kept.
    pub fn retain(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        keep: impl Fn(&Domain) -> bool,
    ) {
        let gone = self.trials.keys().filter(|name| !keep(name)).cloned();
        for name in gone.collect::<Vec<_>>() {
            self.forget(cx, client, &name);
        }
    }

    /// What was found at the last try of a certificate's domains.
    pub fn findings(&self, certificate: &Domain) -> &[Finding] {
        self.trials.get(certificate).map_or(&[], |trial| &trial.findings)
    }

    /// Takes in what came of a request of ours.
    pub fn handle_event(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Owner>,
        (of, request): (RouteRequest, RequestId),
        event: ClientEvent,
    ) {
        match of {
            RouteRequest::Balancers => {
                for (of, found) in self.balancers.found(request, event) {
                    self.ask_all(cx, &of, found);
                }
            }
            RouteRequest::Step => match self.open.remove(&request) {
                None => {}
                Some(Step { of, task: Task::LookUp }) => self.looked_up(cx, of, event),
                Some(Step { of, task: Task::Follow(question) }) => {
                    self.followed(cx, of, question, event);
                }
                Some(Step { of, task: Task::Ask(question) }) => {
                    self.answered(cx, of, question, event);
                }
            },
        }
        self.advance(cx, client);
    }

    /// Does as many steps as may be under way.
    fn advance(&mut self, cx: &mut Context<'_>, client: &mut Client<Owner>) {
        while self.open.len() + self.balancers.lookups() < IN_FLIGHT_MAX
            && let Some(Step { of, task }) = self.waiting.pop_front()
        {
            let Some(way) = self.way(&of) else { continue };
            let request = match &task {
                Task::LookUp => resolve(cx, client, way.domain.as_str()),
                Task::Follow(question) => {
                    resolve(cx, client, &question.url.origin().host.to_string())
                }
                Task::Ask(question) => {
                    if let Some(known) = self.known(cx, question) {
                        self.note(cx, &of, question, known);
                        continue;
                    }
                    client.send(cx, STEP, outgoing(question))
                }
            };
            self.open.insert(request, Step { of, task });
        }
    }

    /// What is known already of whom a question is for.
    fn known(&self, cx: &Context<'_>, question: &Question) -> Option<Outcome> {
        let known = self.balancers.unreachable(cx.now.mono, question.address);
        known.filter(|_| self.is_for_a_balancer(question)).cloned().map(Outcome::Said)
    }

    /// Whether a question goes to a load balancer, whose address may be the domain's own as well.
    fn is_for_a_balancer(&self, question: &Question) -> bool {
        let is_one = || self.balancers.addresses().contains(&question.address);
        question.redirects == 0 && (question.about.0 == Place::Balancer || is_one())
    }

    /// Whether an address is one of a private network that is not known to be a load balancer's.
    fn is_internal(&self, address: IpAddr) -> bool {
        scope(address) < Scope::Global && !self.balancers.have(address)
    }

    fn looked_up(&mut self, cx: &mut Context<'_>, of: Of, event: ClientEvent) {
        let Some(way) = self.way(&of) else { return };
        let found = match event {
            ClientEvent::Addresses(found) => found,
            ClientEvent::Failed(error) => {
                way.note(Place::Domain, None, finding::of_lookup(&error.fault));
                Vec::new()
            }
            _ => Vec::new(),
        };
        if self.balancers.are_known() {
            self.ask_all(cx, &of, found);
        } else {
            self.balancers.wait(of, found);
        }
    }

    /// Asks at the domain's own addresses and at those of the load balancers, which are known by now.
    fn ask_all(&mut self, cx: &mut Context<'_>, of: &Of, found: Vec<IpAddr>) {
        let is_local = |it: &IpAddr| scope(*it) == Scope::Local && !self.balancers.have(*it);
        let (local, own): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(is_local);
        let balancers: Vec<IpAddr> = self.balancers.addresses().iter().copied().collect();
        if let Some(way) = self.way(of) {
            for address in local.into_iter().take(ADDRESSES_MAX) {
                way.note(Place::Domain, Some(address), finding::of_local_address());
            }
        }
        self.ask(of, Place::Domain, &own);
        self.ask(of, Place::Balancer, &balancers);
        self.done(cx, of);
    }

    /// Puts the questions for a domain at these addresses before those for others, so that one domain after
    /// the other comes to its end.
    fn ask(&mut self, of: &Of, place: Place, addresses: &[IpAddr]) {
        let Some(way) = self.way(of) else { return };
        let mut questions = Vec::new();
        for address in addresses {
            if way.asked.len() < ADDRESSES_MAX && !way.asked.contains(address) {
                way.asked.push(*address);
                way.open += 1;
                let (url, about) = (way.url.clone(), (place, *address));
                let (address, others) = (*address, VecDeque::new());
                questions.push(Question { url, address, others, about, redirects: 0 });
            }
        }
        let own = self.waiting.iter().take_while(|step| step.of == *of).count();
        for (index, question) in questions.into_iter().enumerate() {
            self.waiting.insert(own + index, Step { of: of.clone(), task: Task::Ask(question) });
        }
    }

    /// A CA goes to one address of the name that it is sent on to, an IPv6 one where there is one, and
    /// to others when it does not reach that. Addresses that may not be asked are left out.
    fn followed(
        &mut self,
        cx: &mut Context<'_>,
        of: Of,
        mut question: Question,
        event: ClientEvent,
    ) {
        let outcome = match event {
            ClientEvent::Addresses(mut found) => {
                let any = !found.is_empty();
                found.retain(|it| *it == question.address || !self.is_internal(*it));
                let (six, four): (Vec<IpAddr>, _) = found.into_iter().partition(IpAddr::is_ipv6);
                question.others = six.into_iter().chain(four).take(ADDRESSES_MAX).collect();
                match question.others.pop_front() {
                    Some(address) => {
                        let task = Task::Ask(Question { address, ..question });
                        return self.waiting.push_front(Step { of, task });
                    }
                    None if any => finding::of_internal_target(),
                    None => Outcome::Untold,
                }
            }
            ClientEvent::Failed(error) => finding::of_lookup(&error.fault),
            _ => Outcome::Untold,
        };
        self.note(cx, &of, &question, outcome);
    }

    fn answered(
        &mut self,
        cx: &mut Context<'_>,
        of: Of,
        mut question: Question,
        event: ClientEvent,
    ) {
        let outcome = match event {
            ClientEvent::Response(response) => match judge(&question, &response) {
                Answered::Onward(url) if question.redirects < REDIRECTS_MAX => {
                    // Of one host both ports are at one address.
                    let same = url.origin().host == question.url.origin().host;
                    let redirects = question.redirects + 1;
                    let question = Question { url, redirects, ..question };
                    let task = if same { Task::Ask(question) } else { Task::Follow(question) };
                    return self.waiting.push_front(Step { of, task });
                }
                answered => finding::of_answer(&answered),
            },
            ClientEvent::Failed(error) => match (&error.fault, question.others.pop_front()) {
                (Fault::Connect(_), Some(address)) => {
                    let task = Task::Ask(Question { address, ..question });
                    return self.waiting.push_front(Step { of, task });
                }
                (fault, _) => self.failed(cx, &question, fault),
            },
            _ => Outcome::Untold,
        };
        self.note(cx, &of, &question, outcome);
    }

    /// Nobody answers. What is the matter with a load balancer's port 80 is said once for all domains.
    fn failed(&mut self, cx: &mut Context<'_>, question: &Question, fault: &Fault) -> Outcome {
        let outcome = finding::of_fault(fault, question.address, question.url.origin().port);
        let address = question.address;
        match (outcome, fault) {
            (Outcome::Amiss(complaint), Fault::Connect(_)) if self.is_for_a_balancer(question) => {
                if self.balancers.note_unreachable(cx.now.mono, address, &complaint) {
                    let line = Record::warn("route", "a load balancer takes no challenges");
                    let line = line.with("lb", address).with("error", &complaint);
                    cx.log(line.hinted(complaint.hint));
                }
                Outcome::Said(complaint)
            }
            (outcome, _) => outcome,
        }
    }

    /// The end of a question.
    fn note(&mut self, cx: &mut Context<'_>, of: &Of, question: &Question, outcome: Outcome) {
        let (place, address) = question.about;
        let outcome = if self.is_internal(question.address) { outcome.discreet() } else { outcome };
        let outcome = match question.redirects {
            0 => outcome,
            _ => outcome.behind(&question.url.origin().host),
        };
        if let Some(way) = self.way(of) {
            way.note(place, Some(address), outcome);
        }
        self.done(cx, of);
    }

    /// Something of a domain has come to its end; with the last of it, all is said.
    fn done(&mut self, cx: &mut Context<'_>, of: &Of) {
        let Some(trial) = self.trials.get_mut(&of.certificate) else { return };
        let Some(way) = trial.ways.get_mut(of.way).filter(|_| trial.number == of.trial) else {
            return;
        };
        way.open = way.open.saturating_sub(1);
        if way.open > 0 {
            return;
        }
        let findings = way.conclude();
        if findings.is_empty() {
            let line = Record::debug("route", "nothing is amiss").with("name", &way.domain);
            cx.log(line.with("addresses", way.asked.len()));
        }
        findings.iter().for_each(|finding| say(cx, &of.certificate, finding));
        trial.findings.extend(findings);
        if trial.findings.is_empty() && trial.ways.iter().all(|way| way.open == 0) {
            self.trials.remove(&of.certificate);
        }
    }

    /// What a status would show.
    #[cfg(test)]
    pub(crate) fn found(&mut self, certificate: &Domain, finding: Finding) {
        let trial = Trial { number: 0, ways: Vec::new(), findings: vec![finding] };
        self.trials.insert(certificate.clone(), trial);
    }

    fn way(&mut self, of: &Of) -> Option<&mut Way> {
        let trial = self.trials.get_mut(&of.certificate);
        trial.filter(|trial| trial.number == of.trial)?.ways.get_mut(of.way)
    }
}

fn judge(question: &Question, response: &Response) -> Answered {
    let token = question.url.target().rsplit('/').next().unwrap_or_default();
    route::judge(&question.url, response, |body| {
        body.trim_ascii_end() == probe::answer(token).as_bytes()
    })
}

/// A CA knows no search list.
fn resolve(cx: &mut Context<'_>, client: &mut Client<Owner>, name: &str) -> RequestId {
    client.resolve_within(cx, STEP, &Host::Name(format!("{name}.")), ANSWER_TIMEOUT)
}

fn outgoing(question: &Question) -> Outgoing {
    Outgoing {
        request: route::question(question.url.clone()),
        // As a CA does it.
        trust: Trust::Unjudged,
        timeout: Some(ANSWER_TIMEOUT),
        silence: None,
        address: Some(question.address),
        delivery: Delivery::Whole { body_bytes_max: ANSWER_BYTES_MAX },
    }
}

fn say(cx: &mut Context<'_>, certificate: &Domain, finding: &Finding) {
    if finding.said {
        return;
    }
    let line = Record::warn("route", message::ROUTE_BROKEN).with("name", certificate);
    let line = match &finding.domain {
        domain if domain == certificate => line,
        domain => line.with("domain", domain),
    };
    let line = match &finding.addresses[..] {
        [] => line,
        _ => line.with(finding.place.field(), finding.listed()),
    };
    cx.log(line.with("error", &finding.complaint).hinted(finding.complaint.hint));
}
