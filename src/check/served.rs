//! Compares what every load balancer serves with the files of the storage directory, where `--lb-verify-port`
//! or `--lb-verify` says that it can be probed: a TLS handshake for each name at each address, a few at a
//! time, and one for a name that no certificate is for. Without these options it reports nothing: it never
//! says of a certificate that it is served unless it has seen that.

use std::net::SocketAddr;

use crate::config::{Config, Place};
use crate::daemon::transport::{Attempt, Fault, RequestId, Transport, TransportEvent};
use crate::domain::Domain;
use crate::seam::CloseReason;
use crate::time::UnixTime;
use crate::turn::Turn;
use crate::url::Url;

use super::counted;
use super::listed;
use super::names::Names;
use super::open::Open;
use super::report::{Finding, Verdict};
use super::stored::{Mismatch, Stored};

const SUBJECT: &str = "served";
/// Handshakes in flight at most, in total and with one address: a slow one does not hold up the others.
const IN_FLIGHT_MAX: usize = 64;
const IN_FLIGHT_PER_ADDRESS: usize = 4;
/// Different problems of one address that are reported.
const PROBLEMS_MAX: usize = 8;
/// No certificate is for it (RFC 6761 section 6.4).
const UNKNOWN_NAME: &str = "unknown.marathon-acme.invalid";
const UNSEEN: &str = "check --lb-verify-port or --lb-verify: HAProxy has to speak TLS there";

/// The handshakes, and what came of them.
#[derive(Debug, Default)]
pub(super) struct Served {
    begun: bool,
    open: Open<(usize, Probe)>,
    /// What is compared, in this order.
    names: Vec<Domain>,
    spots: Vec<Spot>,
    /// Why it ended early.
    ended: Option<String>,
}

/// What one handshake is for.
#[derive(Clone, Copy, Debug)]
enum Probe {
    /// The name of that index.
    Name(usize),
    /// A name that no certificate is for.
    Unknown,
}

/// One address of one load balancer, and what it serves.
#[derive(Debug)]
struct Spot {
    lb: Url,
    at: SocketAddr,
    /// How many names were probed or are being probed.
    next: usize,
    in_flight: usize,
    asked_unknown: bool,
    right: usize,
    problems: Vec<(Mismatch, Vec<usize>)>,
    /// Names with further problems.
    more: usize,
    default: Option<Result<String, Mismatch>>,
    /// Why nothing more is probed there: no connection, before anything was seen.
    unreachable: Option<String>,
}

impl Served {
    /// Starts to compare, once all names are resolved. `wanted` is unknown where no Marathon answers.
    pub(super) fn start(
        &mut self,
        (config, names): (&Config, &Names),
        stored: &Stored,
        wanted: Option<&dyn Fn(&Domain) -> bool>,
    ) {
        self.begun = true;
        self.names = stored.names(wanted);
        for lb in &config.lb {
            let (host, port) = match config.lb_verify.place(lb) {
                None => continue,
                Some(Place::Same(port)) => (lb.origin().host.clone(), port),
                Some(Place::Host(host, port)) => (host, port),
            };
            for address in names.addresses(&host).unwrap_or_default() {
                self.spots.push(Spot::new(lb, SocketAddr::new(address, port)));
            }
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Probes as many as may be in flight, address by address in turn.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>, transport: &mut Transport) {
        let mut progress = true;
        while std::mem::take(&mut progress) {
            for (index, spot) in self.spots.iter_mut().enumerate() {
                if self.open.len() >= IN_FLIGHT_MAX {
                    return;
                }
                let Some(probe) = spot.next_probe(self.names.len()) else { continue };
                let unknown = Domain::parse(UNKNOWN_NAME);
                let name = match probe {
                    Probe::Name(name) => self.names.get(name),
                    Probe::Unknown => unknown.as_ref().ok(),
                };
                let Some(name) = name else { continue };
                spot.in_flight += 1;
                self.open.insert(transport.glance(turn, spot.at, name), (index, probe));
                progress = true;
            }
        }
    }

    pub(super) fn awaits(&self, request: RequestId) -> bool {
        self.open.awaits(request)
    }

    pub(super) fn handle_event(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        stored: &Stored,
        request: RequestId,
        event: TransportEvent,
    ) {
        let Some((index, probe)) = self.open.take(request) else { return };
        if let Some(spot) = self.spots.get_mut(index) {
            spot.in_flight -= 1;
            let name = match probe {
                Probe::Name(name) => self.names.get(name).map(|domain| (name, domain)),
                Probe::Unknown => None,
            };
            spot.note(name, event, stored, turn.now.wall);
        }
        self.advance(turn, transport);
    }

    pub(super) fn is_done(&self) -> bool {
        let is_over = |spot: &Spot| !spot.has_more(self.names.len());
        self.begun
            && self.open.len() == 0
            && (self.ended.is_some() || self.spots.iter().all(is_over))
    }

    pub(super) fn give_up(&mut self, reason: &str) {
        self.begun = true;
        self.ended = Some(reason.into());
        // Those in flight were not compared either.
        for (index, probe) in self.open.take_all() {
            if let (Some(spot), Probe::Name(_)) = (self.spots.get_mut(index), probe) {
                spot.next -= 1;
            }
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let ended = self.ended.as_deref().unwrap_or("it was not reached");
        if self.names.is_empty() && !self.spots.is_empty() {
            let seen = "nothing was compared: no certificate is stored for a wanted domain";
            return vec![Finding::warn(SUBJECT, seen, "start marathon-acme, then check again")];
        }
        self.spots.iter().flat_map(|spot| spot.findings(&self.names, ended)).collect()
    }
}

impl Spot {
    fn new(lb: &Url, at: SocketAddr) -> Spot {
        Spot {
            lb: lb.clone(),
            at,
            next: 0,
            in_flight: 0,
            asked_unknown: false,
            right: 0,
            problems: Vec::new(),
            more: 0,
            default: None,
            unreachable: None,
        }
    }

    /// Whether there is something left to probe, of so many names.
    fn has_more(&self, names: usize) -> bool {
        self.unreachable.is_none() && names > 0 && (self.next < names || !self.asked_unknown)
    }

    fn next_probe(&mut self, names: usize) -> Option<Probe> {
        if self.in_flight >= IN_FLIGHT_PER_ADDRESS || !self.has_more(names) {
            return None;
        }
        // First, since it says most.
        if !std::mem::replace(&mut self.asked_unknown, true) {
            return Some(Probe::Unknown);
        }
        (self.next < names).then(|| {
            self.next += 1;
            Probe::Name(self.next - 1)
        })
    }

    /// What came of a handshake, for this name or for the unknown one.
    fn note(
        &mut self,
        name: Option<(usize, &Domain)>,
        event: TransportEvent,
        stored: &Stored,
        now: UnixTime,
    ) {
        match (event, name) {
            (TransportEvent::Presented(der), None) => {
                self.default = Some(stored.judge_default(&der));
            }
            (TransportEvent::Presented(der), Some((index, name))) => {
                match stored.judge(name, &der, now) {
                    None => self.right += 1,
                    Some(mismatch) => self.note_problem(index, mismatch),
                }
            }
            (TransportEvent::Failed(error), name) => {
                let has_seen = self.right > 0 || self.default.is_some();
                if !has_seen && is_unreachable(&error.fault) {
                    self.unreachable = Some(error.fault.to_string());
                } else if let Some((index, _)) = name {
                    let served = format!("no certificate: {}", error.fault);
                    let problem = Mismatch { verdict: Verdict::Fail, served, remedy: UNSEEN };
                    self.note_problem(index, problem);
                }
                // With `strict-sni` it refuses names that it does not know.
            }
            _ => {}
        }
    }

    fn note_problem(&mut self, name: usize, problem: Mismatch) {
        let is_full = self.problems.len() >= PROBLEMS_MAX;
        match self.problems.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, names)) => names.push(name),
            None if is_full => self.more += 1,
            None => self.problems.push((problem, vec![name])),
        }
    }

    fn findings(&self, names: &[Domain], ended: &str) -> Vec<Finding> {
        let here = format!("{} at {}", self.lb.origin(), self.at);
        let say = |verdict, seen: String, remedy: &str| Finding {
            verdict,
            ..Finding::warn(SUBJECT, format!("{here}: {seen}"), remedy)
        };
        let all = counted_names(names.len());
        if let Some(reason) = &self.unreachable {
            let seen = format!("{reason}; {all} not compared");
            return vec![say(Verdict::Fail, seen, UNSEEN)];
        }
        let mut findings = Vec::new();
        for (problem, indices) in &self.problems {
            let shown = indices.iter().filter_map(|it| Some(names.get(*it)?.as_str()));
            let shown: Vec<&str> = shown.collect();
            let seen = format!("for {} it serves {}", listed(&shown), problem.served);
            findings.push(say(problem.verdict, seen, problem.remedy));
        }
        if self.more > 0 {
            let more = counted(self.more as u64, "more name");
            let seen = format!("for {more} it serves other certificates than those stored");
            findings.push(say(Verdict::Fail, seen, "solve the problems above, then check again"));
        }
        let left = names.len() - self.next;
        if left > 0 {
            let seen = format!("{left} of {all} not compared: {ended}");
            findings.push(say(Verdict::Warn, seen, "check again"));
        }
        if self.right > 0 && self.right == names.len() {
            findings.push(say(Verdict::Ok, format!("serves what is stored for {all}"), ""));
        } else if self.right > 0 {
            let seen = format!("serves what is stored for {} of {all}", self.right);
            findings.push(say(Verdict::Ok, seen, ""));
        }
        match &self.default {
            Some(Ok(file)) => {
                findings.push(say(Verdict::Ok, format!("for unknown names it serves {file}"), ""));
            }
            Some(Err(problem)) => {
                let seen = format!("for unknown names it serves {}", problem.served);
                findings.push(say(problem.verdict, seen, problem.remedy));
            }
            None => {}
        }
        findings
    }
}

/// Whether no connection was made at all.
fn is_unreachable(fault: &Fault) -> bool {
    let is_lost = |attempt: &Attempt| {
        matches!(attempt.reason, None | Some(CloseReason::Refused | CloseReason::Unreachable))
    };
    matches!(fault, Fault::Connect(tried) if tried.iter().all(is_lost))
}

fn counted_names(count: usize) -> String {
    counted(count as u64, "name")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::check::tests::leaf;
    use crate::config::Verification;
    use crate::pki::inspection::{Inspection, StoredLeaf};
    use crate::seam::{ConnId, Output, Tls, Trust};
    use crate::secret::Secret;
    use crate::testing::{Bench, config};

    /// A certificate for a name: its DER, and its file as it is read.
    fn made(name: &str) -> (Vec<u8>, StoredLeaf) {
        let certificate = rcgen::generate_simple_self_signed([name.to_string()]).unwrap();
        let pem = certificate.signing_key.serialize_pem() + &certificate.cert.pem();
        (certificate.cert.der().to_vec(), StoredLeaf::read(&Secret::new(pem)).unwrap())
    }

    struct World {
        bench: Bench,
        transport: Transport,
        served: Served,
        stored: Stored,
    }

    impl World {
        fn new(files: Vec<(&str, StoredLeaf)>, lbs: &[&str], port: Option<u16>) -> World {
            let lb_verify = Verification { port, elsewhere: Vec::new() };
            let lb = lbs.iter().map(|it| Url::parse(it).unwrap()).collect();
            let config = Config { lb, lb_verify, ..config() };
            let file = |(name, leaf)| (Domain::parse(name).unwrap(), Ok(leaf));
            let files = files.into_iter().map(file).collect();
            let stored = Stored::new(Inspection { files, fallback: None }, &[]);
            let (mut bench, mut transport) = (Bench::new(), Transport::default());
            let mut served = Served::default();
            served.start((&config, &Names::default()), &stored, None);
            served.advance(&mut bench.turn(), &mut transport);
            World { bench, transport, served, stored }
        }

        /// The connections that were begun since the last time: each with its address and its SNI.
        fn begun(&mut self) -> Vec<(ConnId, String, String)> {
            let mut begun = Vec::new();
            while let Some(output) = self.transport.poll_output() {
                let Output::Connect { conn, to, tls } = output else { continue };
                let Some(Tls { server, trust: Trust::Unjudged }) = tls else { panic!("no TLS") };
                begun.push((conn, to.to_string(), server.to_string()));
            }
            begun
        }

        fn settle(&mut self) {
            while let Some((request, event)) = self.transport.poll_event() {
                assert!(self.served.awaits(request));
                let (turn, transport) = (&mut self.bench.turn(), &mut self.transport);
                self.served.handle_event(turn, transport, &self.stored, request, event);
            }
        }

        /// Answers every handshake with what is served for its name; without one it is refused.
        fn answer(&mut self, served: &BTreeMap<String, Vec<u8>>) -> usize {
            let mut most = 0;
            loop {
                let begun = self.begun();
                if begun.is_empty() {
                    return most;
                }
                most = most.max(begun.len());
                for (conn, _, name) in begun {
                    match served.get(&name) {
                        Some(der) => self.transport.handle_presented(conn, der.clone()),
                        None => {
                            let turn = &mut self.bench.turn();
                            self.transport.handle_closed(turn, conn, CloseReason::Refused);
                        }
                    }
                }
                self.settle();
            }
        }

        fn said(&self) -> Vec<(Verdict, String)> {
            self.served.findings().into_iter().map(|it| (it.verdict, it.seen)).collect()
        }
    }

    #[test]
    fn every_certificate_is_compared_at_every_address() {
        let names: Vec<String> = (0..20).map(|it| format!("n{it:02}.org")).collect();
        let made: Vec<_> = names.iter().map(|it| made(it)).collect();
        let files = || names.iter().zip(&made).map(|(name, it)| (name.as_str(), it.1.clone()));
        let lbs = ["http://10.0.0.1:9090", "http://10.0.0.2:9090"];
        let mut world = World::new(files().collect(), &lbs, Some(443));
        let mut served: BTreeMap<String, Vec<u8>> =
            names.iter().cloned().zip(made.iter().map(|it| it.0.clone())).collect();
        served.insert(UNKNOWN_NAME.into(), made[0].0.clone());
        assert_eq!(world.answer(&served), 2 * IN_FLIGHT_PER_ADDRESS);
        assert!(world.served.is_done());
        let lines = ["serves what is stored for 20 names", "for unknown names it serves certs/n00"];
        let said = world.said();
        assert_eq!(said.len(), 4, "{said:?}");
        for (index, (verdict, seen)) in said.iter().enumerate() {
            assert!(*verdict == Verdict::Ok && seen.contains(lines[index % 2]), "{said:?}");
        }
        // One is wrong at both, and no line says that all are right.
        let mut world = World::new(files().collect(), &lbs[..1], Some(443));
        let other = rcgen::generate_simple_self_signed(["lb.example".to_string()]).unwrap();
        served.insert("n07.org".into(), other.cert.der().to_vec());
        world.answer(&served);
        let said = world.said();
        let line = "http://10.0.0.1:9090 at 10.0.0.1:443: for n07.org it serves a self-signed";
        assert!(said[0].0 == Verdict::Fail && said[0].1.starts_with(line), "{said:?}");
        assert!(said[1].1.ends_with("serves what is stored for 19 of 20 names"), "{said:?}");
    }

    #[test]
    fn where_nobody_listens_it_asks_no_further_and_what_time_leaves_is_a_warning() {
        let names: Vec<String> = (0..20).map(|it| format!("n{it:02}.org")).collect();
        let leaf = |name: &String| leaf(&[name.as_str()], name.as_bytes());
        let files = || names.iter().map(|name| (name.as_str(), leaf(name))).collect();
        let lbs = ["http://10.0.0.1:9090"];
        let mut world = World::new(files(), &lbs, Some(443));
        assert_eq!(world.answer(&BTreeMap::new()), IN_FLIGHT_PER_ADDRESS);
        assert!(world.served.is_done());
        let said = world.said();
        assert!(said.len() == 1 && said[0].0 == Verdict::Fail, "{said:?}");
        assert!(said[0].1.ends_with("refused; 20 names not compared"), "{said:?}");
        let mut world = World::new(files(), &lbs, Some(443));
        assert_eq!(world.begun().len(), IN_FLIGHT_PER_ADDRESS);
        world.served.give_up("no answer within 60 s");
        assert!(world.served.is_done());
        let line = "20 of 20 names not compared: no answer within 60 s";
        let said = world.said();
        assert!(said.len() == 1 && said[0].1.ends_with(line), "{said:?}");
        assert_eq!(said[0].0, Verdict::Warn);
    }

    #[test]
    fn nothing_is_said_to_be_served_that_is_not_seen() {
        let lbs = ["http://10.0.0.1:9090"];
        let mut world = World::new(vec![("a.org", leaf(&["a.org"], b"a"))], &lbs, None);
        assert!(world.served.is_done() && world.begun().is_empty() && world.said().is_empty());
        let world = World::new(Vec::new(), &lbs, Some(443));
        let [(verdict, seen)] = world.said().try_into().expect("one line");
        assert!(world.served.is_done() && verdict == Verdict::Warn, "{seen}");
        assert!(seen.starts_with("nothing was compared"), "{seen}");
    }
}
