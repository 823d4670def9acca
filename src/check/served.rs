//! Whether load balancers serve what is stored, where `--lb-verify-port` or `--lb-verify` names a place to
//! probe: a handshake at each place for every certificate, compared with our file. A bounded number of
//! handshakes is open at a time. What was not compared is reported as that, and never as served.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::client::{Client, ClientEvent, Fault, RequestId};
use crate::config::{Config, Place};
use crate::context::Context;
use crate::domain::Domain;
use crate::machine::CloseReason;
use crate::pki::Fingerprint;
use crate::time::UnixTime;

use super::files::{Files, Required};
use super::names::Names;
use super::open::Open;
use super::report::Finding;
use super::{Part, listed};

mod comparison;
mod tally;
#[cfg(test)]
mod tests;

use comparison::Comparison;
use tally::Tally;

const SUBJECT: &str = "served";
/// No certificate is for this name (RFC 6761 section 6.4): what is shown for it is the default.
const UNKNOWN: &str = "marathon-acme-check.invalid";
/// This many handshakes are open at a time.
const IN_FLIGHT_MAX: usize = 48;
/// This many of them at one place.
const PLACE_IN_FLIGHT_MAX: usize = 8;
/// After this many failures in a row a place that has shown a certificate is not probed any more …
const FAILURES_MAX: usize = 8;
/// … and after this many one that has shown none.
const UNSEEN_FAILURES_MAX: usize = 2;

/// The handshakes, and what they showed.
#[derive(Debug, Default)]
pub(super) struct Served {
    begun: bool,
    comparison: Comparison,
    targets: Vec<Target>,
    /// Files with a key that our TLS library does not know.
    unseen: Vec<String>,
    places: Vec<Probed>,
    /// Place, and target; none for the unknown name.
    open: Open<(usize, Option<usize>)>,
    gave_up: Option<String>,
    /// Where the default certificate is loaded from by the README.
    remedy: String,
}

/// What is to be served for a name.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: Domain,
    pub(super) leaf: Fingerprint,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    /// Whether an app requires it.
    pub(super) is_required: bool,
}

/// An address where TLS is spoken.
#[derive(Debug)]
struct Probed {
    /// Of which load balancer it is, for people.
    here: String,
    at: SocketAddr,
    /// The next target, from 1; 0 is the unknown name.
    next: usize,
    in_flight: usize,
    /// Failures since the last certificate.
    failures: usize,
    has_shown: bool,
    is_stopped: bool,
    tally: Tally,
}

impl Served {
    /// Starts to compare, once names are resolved, files read and apps listed.
    pub(super) fn start(
        &mut self,
        (config, names): (&Config, &Names),
        files: &Files,
        required: Required<'_>,
    ) {
        self.begun = true;
        for lb in &config.lb {
            let (host, port) = match config.lb_verify.place(lb) {
                None => continue,
                Some(Place::Same(port)) => (lb.origin().host.clone(), port),
                Some(Place::Host(host, port)) => (host, port),
            };
            for address in names.addresses(&host).unwrap_or_default() {
                let at = SocketAddr::new(address, port);
                self.places.push(Probed::new(format!("{} at {at}", lb.origin()), at));
            }
        }
        if self.places.is_empty() {
            return;
        }
        let dir = config.storage_dir.display();
        self.remedy = format!("start marathon-lb with --ssl-certs {dir}/certs,{dir}/default.pem");
        self.comparison = Comparison::new(files);
        let is_required = |name: &Domain| required.is_none_or(|it| it.contains_key(name));
        let (mut firsts, mut others) = (Vec::new(), Vec::new());
        let mut taken: BTreeSet<&Domain> = BTreeSet::new();
        for (file, stored) in files.in_load_order() {
            if !stored.can_be_seen {
                self.unseen.push(format!("{file}.pem"));
            }
            for name in &stored.names {
                // A name that only the file has, and no app, is not looked at for itself.
                let is_first = files.has(name);
                if !taken.insert(name) || !stored.can_be_seen || !(is_first || is_required(name)) {
                    continue;
                }
                let target = Target {
                    name: name.clone(),
                    leaf: stored.leaf,
                    not_before: stored.not_before,
                    not_after: stored.not_after,
                    is_required: is_required(name),
                };
                if is_first { firsts.push(target) } else { others.push(target) }
            }
        }
        // Every file comes before any further name of one.
        self.targets = firsts;
        self.targets.append(&mut others);
    }

    /// Begins further handshakes.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, client: &mut Client<Part>) {
        let Ok(unknown) = Domain::parse(UNKNOWN) else { return };
        for (index, place) in self.places.iter_mut().enumerate() {
            while self.open.len() < IN_FLIGHT_MAX
                && let Some(number) = place.begin(self.targets.len())
            {
                let target = number.checked_sub(1);
                let name = target.and_then(|it| self.targets.get(it)).map(|it| &it.name);
                let request = client.glance(cx, Part::Served, place.at, name.unwrap_or(&unknown));
                self.open.insert(request, (index, target));
            }
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn handle_event(&mut self, now: UnixTime, request: RequestId, event: ClientEvent) {
        let Some((index, target)) = self.open.take(request) else { return };
        let Some(place) = self.places.get_mut(index) else { return };
        let target = target.and_then(|it| self.targets.get(it));
        place.in_flight -= 1;
        match (event, target) {
            (ClientEvent::Presented(der), Some(target)) => {
                place.shown();
                place.tally.add(target, self.comparison.compare(target, &der, now));
            }
            (ClientEvent::Presented(der), None) => {
                place.shown();
                let shown = self.comparison.default_shown(&der);
                place.tally.default = Some(shown);
            }
            // With `strict-sni` HAProxy refuses names that it does not know.
            (ClientEvent::Failed(error), None) if is_refused(&error.fault) => {}
            (ClientEvent::Failed(error), target) => {
                place.failed();
                place.tally.add_failure(target, error.fault.to_string());
            }
            _ => {}
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.begun && self.open.len() == 0
    }

    pub(super) fn give_up(&mut self, reason: &str, config: &Config) {
        let is_configured = config.lb.iter().any(|lb| config.lb_verify.place(lb).is_some());
        if !self.begun && is_configured {
            self.gave_up = Some(format!("what load balancers serve was not compared: {reason}"));
        }
        self.begun = true;
        for (index, _) in self.open.take_all() {
            if let Some(place) = self.places.get_mut(index) {
                place.in_flight = 0;
                place.tally.ended = Some(reason.to_string());
            }
        }
        for place in &mut self.places {
            if place.next <= self.targets.len() && !place.is_stopped {
                place.tally.ended = Some(reason.to_string());
            }
            place.is_stopped = true;
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(seen) = &self.gave_up {
            findings.push(Finding::warn(SUBJECT, seen, "check again"));
        }
        for place in &self.places {
            let told = place.tally.findings(&place.here, self.targets.len(), &self.remedy);
            findings.extend(told);
        }
        if !self.unseen.is_empty() && !self.places.is_empty() {
            let files: Vec<&str> = self.unseen.iter().map(String::as_str).collect();
            let seen = format!("not compared: {}: a kind of key without TLS here", listed(&files));
            findings.push(Finding::warn(SUBJECT, seen, "compare what is served for it by hand"));
        }
        findings
    }
}

impl Probed {
    fn new(here: String, at: SocketAddr) -> Probed {
        let (tally, has_shown, is_stopped) = (Tally::default(), false, false);
        Probed { here, at, next: 0, in_flight: 0, failures: 0, has_shown, is_stopped, tally }
    }

    /// Whether a further handshake begins now; what it is for.
    fn begin(&mut self, targets: usize) -> Option<usize> {
        let limit = if self.has_shown { PLACE_IN_FLIGHT_MAX } else { 1 };
        if self.is_stopped || self.in_flight >= limit || self.next > targets {
            return None;
        }
        self.in_flight += 1;
        self.next += 1;
        Some(self.next - 1)
    }

    fn shown(&mut self) {
        (self.failures, self.has_shown) = (0, true);
    }

    fn failed(&mut self) {
        self.failures += 1;
        let limit = if self.has_shown { FAILURES_MAX } else { UNSEEN_FAILURES_MAX };
        self.is_stopped |= self.failures >= limit;
    }
}

/// Whether TLS was spoken, and refused.
fn is_refused(fault: &Fault) -> bool {
    let is_tls = |reason: &Option<CloseReason>| matches!(reason, Some(CloseReason::Tls(_)));
    matches!(fault, Fault::Connect(tried) if tried.iter().any(|it| is_tls(&it.reason)))
}
