//! Whether load balancers can be looked at for what they serve, where `--lb-verify-port` or `--lb-verify`
//! says so: a handshake at each place, with the first wanted domain as SNI. What should be served is the
//! daemon's to know.

use std::net::SocketAddr;

use crate::config::{Config, Place};
use crate::daemon::transport::{RequestId, Transport, TransportEvent};
use crate::domain::Domain;
use crate::pki::Leaf;
use crate::turn::Turn;
use crate::url::Url;

use super::names::Names;
use super::open::Open;
use super::report::Finding;

const SUBJECT: &str = "served";

/// The handshakes, and what came of them.
#[derive(Debug, Default)]
pub(super) struct Served {
    begun: bool,
    open: Open<(Url, SocketAddr)>,
    name: Option<Domain>,
    seen: Vec<Finding>,
}

impl Served {
    /// Looks everywhere for this name, once all names are resolved.
    pub(super) fn start(
        &mut self,
        turn: &mut Turn<'_>,
        transport: &mut Transport,
        (config, names): (&Config, &Names),
        name: Option<&Domain>,
    ) {
        self.begun = true;
        self.name = name.cloned();
        let Some(name) = name else { return };
        for lb in &config.lb {
            let (host, port) = match config.lb_verify.place(lb) {
                None => continue,
                Some(Place::Same(port)) => (lb.origin().host.clone(), port),
                Some(Place::Host(host, port)) => (host, port),
            };
            for address in names.addresses(&host).unwrap_or_default() {
                let at = SocketAddr::new(address, port);
                self.open.insert(transport.glance(turn, at, name), (lb.clone(), at));
            }
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn awaits(&self, request: RequestId) -> bool {
        self.open.awaits(request)
    }

    pub(super) fn handle_event(&mut self, request: RequestId, event: TransportEvent) {
        let Some((lb, at)) = self.open.take(request) else { return };
        let name = self.name.as_ref().map(Domain::as_str).unwrap_or_default();
        let here = format!("{} at {at}", lb.origin());
        let remedy = "check --lb-verify-port or --lb-verify: HAProxy has to speak TLS there";
        self.seen.push(match event {
            TransportEvent::Presented(der) => match Leaf::parse(&der) {
                Some(Leaf { not_after, names, .. }) => {
                    let whose = names.first().map_or("nobody", String::as_str);
                    let seen =
                        format!("{here}: for {name} shows that of {whose}, until {not_after}");
                    Finding::ok(SUBJECT, seen)
                }
                None => {
                    let seen = format!("{here}: for {name} shows what is no certificate");
                    Finding::fail(SUBJECT, seen, remedy)
                }
            },
            TransportEvent::Failed(error) => {
                Finding::fail(SUBJECT, format!("{here}: {}", error.fault), remedy)
            }
            _ => return,
        });
    }

    pub(super) fn is_done(&self) -> bool {
        self.begun && self.open.len() == 0
    }

    pub(super) fn give_up(&mut self, reason: &str) {
        self.begun = true;
        for (lb, at) in self.open.take_all() {
            let seen = format!("{} at {at}: {reason}", lb.origin());
            self.seen.push(Finding::warn(SUBJECT, seen, "check again"));
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        self.seen.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Verdict;
    use crate::config::Verification;
    use crate::seam::{CloseReason, Output, Tls, Trust};
    use crate::testing::{Bench, config};

    #[test]
    fn each_place_is_looked_at_once_and_told_of() {
        let lb = |text: &str| Url::parse(text).unwrap();
        let lb_verify = Verification { port: Some(443), elsewhere: Vec::new() };
        let urls = vec![lb("http://10.0.0.1:9090"), lb("http://10.0.0.2:9090")];
        let config = Config { lb: urls, lb_verify, ..config() };
        let (mut bench, mut transport) = (Bench::new(), Transport::default());
        let (mut served, name) = (Served::default(), Domain::parse("a.org").unwrap());
        let names = Names::default();
        served.start(&mut bench.turn(), &mut transport, (&config, &names), Some(&name));
        let mut conns = Vec::new();
        while let Some(output) = transport.poll_output() {
            let Output::Connect { conn, to, tls } = output else { panic!("{output:?}") };
            let Some(Tls { server, trust }) = tls else { panic!("it looks at TLS") };
            assert_eq!((server.to_string(), trust), ("a.org".to_string(), Trust::Unjudged));
            conns.push((conn, to.to_string()));
        }
        let places: Vec<&str> = conns.iter().map(|(_, to)| to.as_str()).collect();
        assert_eq!(places, ["10.0.0.1:443", "10.0.0.2:443"]);
        let certificate = rcgen::generate_simple_self_signed(["a.org".to_string()]).unwrap();
        transport.handle_presented(conns[0].0, certificate.cert.der().to_vec());
        transport.handle_closed(&mut bench.turn(), conns[1].0, CloseReason::Refused);
        while let Some((request, event)) = transport.poll_event() {
            assert!(served.awaits(request));
            served.handle_event(request, event);
        }
        assert!(served.is_done());
        let findings = served.findings();
        let verdicts: Vec<Verdict> = findings.iter().map(|it| it.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Fail]);
        assert!(findings[0].seen.contains("for a.org shows that of a.org"), "{findings:?}");
        assert!(findings[1].seen.contains("refused"), "{findings:?}");
    }

    #[test]
    fn with_the_checks_off_or_without_a_domain_nobody_is_looked_at() {
        let (mut bench, mut transport) = (Bench::new(), Transport::default());
        let (names, name) = (Names::default(), Domain::parse("a.org").unwrap());
        let off = config();
        let lb_verify = Verification { port: Some(443), elsewhere: Vec::new() };
        let on = Config { lb_verify, ..config() };
        for (config, name) in [(&off, Some(&name)), (&on, None)] {
            let mut served = Served::default();
            served.start(&mut bench.turn(), &mut transport, (config, &names), name);
            assert!(served.is_done() && served.findings().is_empty());
        }
        assert!(transport.poll_output().is_none());
    }
}
