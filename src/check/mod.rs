//! `--check`: looks at everything that a certificate hangs on, and says what it saw, a line each, with
//! what to do. Changes nothing anywhere: takes no lock, writes no file, makes no account, orders nothing,
//! signals nobody, listens nowhere; so it may run beside a daemon at work on the same storage.
//!
//! A machine of its own on the state-machine interface of the daemon, whose way to its peers it shares:
//! names, CA, Marathons, files → load balancers, once they resolve → what they serve, once the files are
//! read → routes, once the domains are known, and what is exposed, once their configurations are.
//! Each part asks, and judges its answers; here they are brought together. It ends when every question is
//! answered, and at [`TIME_MAX`] whatever is not.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::client::{Client, Delivery, Outgoing, RequestId};
use crate::client::{ClientError, ClientEvent};
use crate::config::Config;
use crate::context::Context;
use crate::domain::Domain;
use crate::http::Request;
use crate::keys::{KeyError, Keys};
use crate::log::{Level, Record};
use crate::machine::{Input, Loaded, Machine, Output, Signal, Trust};
use crate::survey::Survey;
use crate::time::{Instant, Now, UnixTime};

mod apps;
mod balancers;
mod ca;
mod cause;
mod exposure;
mod fallback;
mod files;
mod marathons;
mod names;
mod open;
pub mod report;
mod routes;
mod served;
mod storage;
#[cfg(test)]
mod tests;

use balancers::{Balancers, Site};
use ca::Ca;
use exposure::Exposure;
use files::Files;
use marathons::Marathons;
use names::Names;
use report::{Finding, Look, Report};
use routes::Routes;
use served::Served;

/// A check ends by then, whatever has not answered.
pub const TIME_MAX: Duration = Duration::from_secs(60);
/// Who is asked by hand is not waited for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How many of a list's items are shown.
const LISTED_MAX: usize = 5;

/// The parts, in the order in which they are spoken of; each is the owner of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Options,
    Storage,
    Names,
    Ca,
    Marathons,
    Files,
    Balancers,
    Served,
    Routes,
    Exposure,
}

const PARTS: [Part; 10] = [
    Part::Options,
    Part::Storage,
    Part::Names,
    Part::Ca,
    Part::Marathons,
    Part::Files,
    Part::Balancers,
    Part::Served,
    Part::Routes,
    Part::Exposure,
];

/// The check. Drive it as [`Machine`] says; any input starts it.
pub struct Checker {
    config: Config,
    survey: Survey,
    remarks: Vec<Finding>,
    client: Client<Part>,
    names: Names,
    ca: Ca,
    marathons: Marathons,
    files: Files,
    balancers: Balancers,
    served: Served,
    exposure: Exposure,
    routes: Routes,
    report: Report,
    /// Why `client.key` cannot be used.
    key_error: Option<KeyError>,
    /// How many of the parts were spoken of.
    told: usize,
    /// When it ends, once it has begun.
    end_at: Option<Instant>,
    /// It was told to end before it was done.
    interrupted: bool,
    over: bool,
    outputs: VecDeque<Output>,
}

impl Checker {
    /// A check of what these choices mean, of which something is to be said, with a storage that was
    /// looked at already.
    pub fn new(config: &Config, survey: Survey, remarks: &[Record], look: Look) -> Checker {
        Checker {
            config: config.clone(),
            survey,
            remarks: remarks.iter().map(remark).collect(),
            client: Client::new(config.proxies.clone()),
            names: Names::default(),
            ca: Ca::default(),
            marathons: Marathons::new(config),
            files: Files::default(),
            balancers: Balancers::new(config),
            served: Served::default(),
            exposure: Exposure::default(),
            routes: Routes::default(),
            report: Report::new(look),
            key_error: None,
            told: 0,
            end_at: None,
            interrupted: false,
            over: false,
            outputs: VecDeque::new(),
        }
    }

    fn start(&mut self, cx: &mut Context<'_>) {
        self.end_at = Some(cx.now.mono + TIME_MAX);
        let key = self.survey.account_key.take();
        self.key_error = key.and_then(|pem| cx.keys.read_account_key(&pem).err());
        self.names.start(cx, &mut self.client, &self.config);
        self.ca.start(cx, &mut self.client, &self.config);
        self.marathons.start(cx, &mut self.client);
        self.files.start(&self.survey);
        self.read_next();
    }

    /// Reads a file of ours: one at a time, so that only one key is in memory.
    fn read_next(&mut self) {
        self.outputs.extend(self.files.next().map(Output::Load));
    }

    fn take_in(&mut self, cx: &mut Context<'_>, input: Input<'_>) {
        match input {
            Input::Connected(conn) => self.client.handle_connected(cx, conn),
            Input::Presented(conn, der) => self.client.handle_presented(conn, der),
            Input::Received(conn, bytes) => self.client.handle_received(cx, conn, bytes),
            Input::Closed(conn, reason) => self.client.handle_closed(cx, conn, reason),
            Input::Datagram(socket, from, bytes) => {
                self.client.handle_datagram(cx, socket, from, bytes);
            }
            Input::SocketFailed(socket, reason) => {
                self.client.handle_socket_failed(cx, socket, reason);
            }
            Input::Loaded(Loaded::NameService { resolv_conf, hosts }) => {
                self.client.handle_name_service(cx, &resolv_conf, &hosts);
            }
            Input::Loaded(Loaded::Certificate(name, file)) => {
                self.files.handle_file(&name, file);
                self.read_next();
            }
            Input::Signal(Signal::Stop) => self.interrupted = true,
            // Whatever else there is, is a daemon's.
            _ => {}
        }
    }

    /// Carries on until nothing moves any more.
    fn settle(&mut self, cx: &mut Context<'_>) {
        self.client.handle_timeout(cx);
        loop {
            self.advance(cx);
            let Some(event) = self.client.poll_event() else { break };
            self.dispatch(cx, event);
        }
        if self.interrupted {
            self.give_up("the check was interrupted");
        } else if self.end_at.is_some_and(|at| at <= cx.now.mono) {
            self.give_up(&format!("no answer within {} s", TIME_MAX.as_secs()));
        }
        self.outputs.extend(std::iter::from_fn(|| self.client.poll_output()));
        self.tell(cx.now.wall);
    }

    /// Begins what has become possible.
    fn advance(&mut self, cx: &mut Context<'_>) {
        self.balancers.advance(cx, &mut self.client, &self.names);
        let ready = self.marathons.is_done() && self.names.is_done();
        if ready && self.files.is_done() && !self.served.has_begun() {
            let required = self.marathons.found().map(|it| &it.domains);
            self.served.start((&self.config, &self.names), &self.files, required);
        }
        self.served.advance(cx, &mut self.client);
        if self.balancers.is_done() && !self.exposure.has_begun() {
            self.exposure.start(self.balancers.publications());
            self.exposure.advance(cx, &mut self.client);
        }
        if ready && !self.routes.has_begun() {
            let domains = self.marathons.found().into_iter().flat_map(|it| it.domains.keys());
            self.routes.start(domains, &self.balancers.addresses());
            self.routes.advance(cx, &mut self.client);
        }
    }

    fn dispatch(
        &mut self,
        cx: &mut Context<'_>,
        (part, request, event): (Part, RequestId, ClientEvent),
    ) {
        let client = &mut self.client;
        match part {
            Part::Names => self.names.handle_event(request, event),
            Part::Ca => self.ca.handle_event(cx, event, &self.config.acme),
            Part::Marathons => self.marathons.handle_event(cx, client, request, event),
            Part::Balancers => self.balancers.handle_event(request, event),
            Part::Served => self.served.handle_event(cx.now.wall, request, event),
            Part::Exposure => self.exposure.handle_event(cx, client, request, event),
            Part::Routes => self.routes.handle_event(cx, client, request, event),
            // They send nothing.
            Part::Options | Part::Storage | Part::Files => {}
        }
    }

    /// Whatever has no answer gets none.
    fn give_up(&mut self, reason: &str) {
        self.client.close_all();
        self.names.give_up(reason);
        self.ca.give_up(reason);
        self.marathons.give_up(reason);
        self.balancers.give_up(reason);
        self.files.give_up(reason);
        self.served.give_up(reason, &self.config);
        self.exposure.give_up();
        self.routes.give_up(reason);
    }

    /// Speaks of every part that is done, in their order, and ends behind the last one.
    fn tell(&mut self, now: UnixTime) {
        while let Some(part) = PARTS.get(self.told).filter(|part| self.is_done(**part)) {
            self.told += 1;
            for finding in self.findings(*part, now) {
                let line = self.report.line(&finding);
                self.outputs.push_back(Output::Say(line));
            }
        }
        if self.told < PARTS.len() {
            let progress = self.report.progress(&self.waits_for());
            self.outputs.extend(progress.map(Output::Say));
            return;
        }
        self.over = true;
        self.client.close_all();
        self.outputs.extend(std::iter::from_fn(|| self.client.poll_output()));
        self.outputs.extend(self.report.summary().map(Output::Say));
        let status = if self.interrupted { 1 } else { self.report.status() };
        self.outputs.push_back(Output::Exit(status));
    }

    fn is_done(&self, part: Part) -> bool {
        match part {
            Part::Options | Part::Storage => true,
            Part::Names => self.names.is_done(),
            Part::Ca => self.ca.is_done(),
            Part::Marathons => self.marathons.is_done(),
            Part::Files => self.files.is_done() && self.marathons.is_done(),
            Part::Balancers => self.balancers.is_done() && self.marathons.is_done(),
            Part::Served => self.served.is_done(),
            Part::Exposure => self.exposure.is_done(),
            Part::Routes => self.routes.is_done(),
        }
    }

    fn findings(&self, part: Part, now: UnixTime) -> Vec<Finding> {
        match part {
            Part::Options => self.remarks.clone(),
            Part::Storage => storage::findings(&self.survey, self.key_error.as_ref()),
            Part::Names => self.names.findings(),
            Part::Ca => self.ca.findings(&self.config),
            Part::Marathons => self.marathons.findings(),
            Part::Files => {
                let required = self.marathons.found().map(|it| &it.domains);
                self.files.findings(now, required, storage::has_daemon(&self.survey))
            }
            Part::Balancers => {
                let found = self.marathons.found();
                let wanted = |host: &str| {
                    let domain = Domain::parse(host).ok();
                    domain
                        .is_some_and(|it| found.is_some_and(|apps| apps.domains.contains_key(&it)))
                };
                self.balancers.findings(Site {
                    wanted: &wanted,
                    storage_dir: &self.survey.dir,
                    found,
                    group: &self.config.group,
                })
            }
            Part::Served => self.served.findings(),
            Part::Exposure => self.exposure.findings(),
            Part::Routes => {
                let found = self.marathons.found();
                let at_work = storage::has_daemon(&self.survey);
                self.routes.findings(at_work, found, |at| self.balancers.challenges(at))
            }
        }
    }

    /// For whoever watches.
    fn waits_for(&self) -> String {
        let name = |part: &Part| match part {
            Part::Options => "the options".to_string(),
            Part::Storage => "the storage".to_string(),
            Part::Names => "names".to_string(),
            Part::Ca => "the CA".to_string(),
            Part::Marathons => "Marathon".to_string(),
            Part::Files => "certificate files".to_string(),
            Part::Balancers => "load balancers".to_string(),
            Part::Served => "what is served".to_string(),
            Part::Exposure => "what is exposed".to_string(),
            Part::Routes if !self.routes.has_begun() => "routes".to_string(),
            Part::Routes => counted(self.routes.left() as u64, "route"),
        };
        let left: Vec<String> =
            PARTS.iter().filter(|part| !self.is_done(**part)).map(name).collect();
        format!("waiting for {}", left.join(", "))
    }
}

impl Machine for Checker {
    fn handle_input(&mut self, now: Now, input: Input<'_>, keys: &mut dyn Keys) {
        if self.over {
            return;
        }
        // The answers are the report; how they came about is nobody's concern.
        let mut log: Vec<Record> = Vec::new();
        let mut cx = Context { now, keys, log: &mut log };
        if self.end_at.is_none() {
            self.start(&mut cx);
        }
        self.take_in(&mut cx, input);
        self.settle(&mut cx);
    }

    fn poll_output(&mut self) -> Output {
        let wait = || [self.client.poll_timeout(), self.end_at].into_iter().flatten().min();
        self.outputs.pop_front().unwrap_or_else(|| Output::Wait(wait()))
    }
}

/// What is to be said of the options, on one line.
fn remark(record: &Record) -> Finding {
    let fields = record.fields.iter().map(|(name, value)| format!(" {name}={value}"));
    let seen = format!("{}{}", record.message, fields.collect::<String>());
    match record.level {
        Level::Debug | Level::Info => Finding::ok("options", seen),
        Level::Warn | Level::Error | Level::Critical => Finding::warn("options", seen, ""),
    }
}

/// Why a peer that is named already did not answer, and by which proxy.
fn problem(error: &ClientError) -> String {
    match &error.proxy {
        Some(proxy) => format!("by proxy {proxy}: {}", error.fault),
        None => error.fault.to_string(),
    }
}

/// A question to a load balancer at one of its addresses, whose answer is wanted whole.
fn at(address: IpAddr, request: Request, body_bytes_max: usize) -> Outgoing {
    Outgoing {
        request,
        trust: Trust::WebPki,
        timeout: Some(ANSWER_TIMEOUT),
        silence: None,
        address: Some(address),
        delivery: Delivery::Whole { body_bytes_max },
    }
}

/// The first items of a list, and how many more there are.
fn listed(items: &[&str]) -> String {
    let shown: Vec<&str> = items.iter().take(LISTED_MAX).copied().collect();
    match items.len().saturating_sub(LISTED_MAX) {
        _ if items.is_empty() => "nothing".into(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `1 app`, `2 apps`.
fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
