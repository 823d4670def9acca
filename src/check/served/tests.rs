//! Two load balancers and what they show, handshake by handshake.

use std::collections::BTreeMap;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::*;
use crate::certs_scan::{ForeignFile, Found};
use crate::check::report::Verdict;
use crate::config::Verification;
use crate::machine::{ConnId, Load, Output, Tls, Trust};
use crate::secret::Secret;
use crate::survey::{LockState, Survey};
use crate::testing::{Bench, config};
use crate::url::Url;

/// A key and a certificate.
#[derive(Clone)]
struct Made {
    pem: String,
    der: Vec<u8>,
}

fn made(names: &[&str], begins: (i32, u8, u8), ends: (i32, u8, u8)) -> Made {
    let key = KeyPair::generate().unwrap();
    let issuer_key = KeyPair::generate().unwrap();
    let mut issuer = CertificateParams::new(Vec::new()).unwrap();
    issuer.distinguished_name.push(DnType::CommonName, "a test CA");
    let issuer = rcgen::Issuer::new(issuer, issuer_key);
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(begins.0, begins.1, begins.2);
    params.not_after = rcgen::date_time_ymd(ends.0, ends.1, ends.2);
    params.distinguished_name = DistinguishedName::new();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Made { pem: key.serialize_pem() + &certificate.pem(), der: certificate.der().to_vec() }
}

fn current(names: &[&str]) -> Made {
    made(names, (2026, 11, 1), (2027, 2, 1))
}

fn self_signed(name: &str) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    Made { pem: key.serialize_pem() + &certificate.pem(), der: certificate.der().to_vec() }
}

/// What is stored, and what a load balancer shows by the name that it is asked for.
struct World {
    config: Config,
    files: Files,
    required: BTreeMap<Domain, String>,
    shows: BTreeMap<String, Vec<u8>>,
    bench: Bench,
    client: Client<Part>,
    served: Served,
    /// For which names each place was asked.
    asked: Vec<(String, String)>,
    most_open: usize,
}

impl World {
    fn new(stored: &[(&str, &Made)], required: &[&str], fallback: &Made) -> World {
        World::beside(stored, required, fallback, Vec::new())
    }

    fn beside(
        stored: &[(&str, &Made)],
        required: &[&str],
        fallback: &Made,
        foreign: Vec<ForeignFile>,
    ) -> World {
        let domain = |name: &str| Domain::parse(name).unwrap();
        let survey = Survey {
            dir: "/st".into(),
            missing: None,
            barred: Vec::new(),
            free_bytes: None,
            free_files: None,
            account_key: None,
            certificates: stored.iter().map(|(name, _)| domain(name)).collect(),
            fallback: Some(Found::File(Secret::new(fallback.pem.clone()))),
            foreign,
            more_foreign: 0,
            odd_modes: Vec::new(),
            lock: LockState::Free,
        };
        let mut files = Files::default();
        files.start(&survey);
        while let Some(Load::Certificate(name)) = files.next() {
            let (_, made) = stored.iter().find(|(it, _)| *it == name.as_str()).unwrap();
            files.handle_file(&name, Ok(Secret::new(made.pem.clone())));
        }
        let lb = |text: &str| Url::parse(text).unwrap();
        let config = Config {
            lb: vec![lb("http://10.0.0.1:9090")],
            lb_verify: Verification { port: Some(443), elsewhere: Vec::new() },
            storage_dir: "/st".into(),
            ..config()
        };
        World {
            config,
            files,
            required: required.iter().map(|it| (domain(it), "/app".to_string())).collect(),
            shows: BTreeMap::new(),
            bench: Bench::new(),
            client: Client::default(),
            served: Served::default(),
            asked: Vec::new(),
            most_open: 0,
        }
    }

    fn shows(mut self, name: &str, made: &Made) -> World {
        self.shows.insert(name.into(), made.der.clone());
        self
    }

    fn begin(&mut self) {
        let names = Names::default();
        self.served.start((&self.config, &names), &self.files, Some(&self.required));
    }

    /// Begins what can begin; the connections that are made.
    fn advance(&mut self) -> Vec<(ConnId, String)> {
        self.served.advance(&mut self.bench.cx(), &mut self.client);
        self.most_open = self.most_open.max(self.served.open.len());
        let mut conns = Vec::new();
        while let Some(output) = self.client.poll_output() {
            let Output::Connect { conn, to, tls } = output else { continue };
            let Some(Tls { server, trust }) = tls else { panic!("it probes TLS") };
            assert_eq!(trust, Trust::Unjudged);
            self.asked.push((to.to_string(), server.to_string()));
            conns.push((conn, server.to_string()));
        }
        conns
    }

    /// Answers all, but for names of which nothing is known: there the connection is refused.
    fn run(&mut self) -> Vec<(Verdict, String)> {
        self.begin();
        loop {
            let conns = self.advance();
            if conns.is_empty() {
                break;
            }
            for (conn, name) in conns {
                match self.shows.get(&name) {
                    Some(der) => self.client.handle_presented(conn, der.clone()),
                    None => {
                        let cx = &mut self.bench.cx();
                        self.client.handle_closed(cx, conn, CloseReason::Refused);
                    }
                }
            }
            self.take_events();
        }
        assert!(self.served.is_done());
        self.said()
    }

    fn take_events(&mut self) {
        let now = UnixTime::from_rfc3339("2026-11-28T00:00:00Z").unwrap();
        while let Some((part, request, event)) = self.client.poll_event() {
            assert_eq!(part, Part::Served);
            self.served.handle_event(now, request, event);
        }
    }

    fn said(&self) -> Vec<(Verdict, String)> {
        let findings = self.served.findings().into_iter();
        findings.map(|it| (it.verdict, format!("{}; {}", it.seen, it.remedy))).collect()
    }
}

const HERE: &str = "http://10.0.0.1:9090 at 10.0.0.1:443: ";

#[test]
fn what_is_served_is_compared_for_every_certificate() {
    let (a, b, fallback) = (current(&["a.org"]), current(&["b.org"]), self_signed("*"));
    let mut world = World::new(&[("a.org", &a), ("b.org", &b)], &["a.org", "b.org"], &fallback)
        .shows(UNKNOWN, &fallback)
        .shows("a.org", &a)
        .shows("b.org", &b);
    let expected = [
        (Verdict::Ok, format!("{HERE}serves what is stored, compared for 2 names; ")),
        (Verdict::Ok, format!("{HERE}shows default.pem for an unknown name; ")),
    ];
    assert_eq!(world.run(), expected);
}

#[test]
fn each_other_certificate_is_a_failure_that_says_what_is_served() {
    let (a, b, fallback) = (current(&["a.org"]), current(&["b.org"]), self_signed("*"));
    let older = made(&["a.org"], (2026, 8, 1), (2026, 12, 1));
    let expired = made(&["a.org"], (2026, 6, 1), (2026, 9, 1));
    let newer = made(&["a.org"], (2026, 11, 20), (2027, 2, 20));
    let other = current(&["x.org", "y.org"]);
    let foreign = current(&["a.org"]);
    let own = self_signed("*.example.com");
    let none = Made { pem: String::new(), der: b"text".to_vec() };
    let cases = [
        (
            &fallback,
            Verdict::Fail,
            "shows default.pem in place of what is stored for a.org; it has",
        ),
        (&b, Verdict::Fail, "shows the certificate of certs/b.org.pem in place of what"),
        (&foreign, Verdict::Fail, "shows certs/0.pem, which is not ours, in place of what"),
        (
            &older,
            Verdict::Fail,
            "shows an older certificate in place of what is stored for a.org (se",
        ),
        (&expired, Verdict::Fail, "shows an older, expired certificate in place of what"),
        (
            &newer,
            Verdict::Warn,
            "shows a newer certificate in place of what is stored for a.org (se",
        ),
        (&other, Verdict::Fail, "shows a certificate for x.org, y.org, in place of what"),
        (&own, Verdict::Fail, "shows a self-signed certificate for *.example.com, in place of"),
        (&none, Verdict::Fail, "shows what is not a certificate in place of what"),
    ];
    for (shown, verdict, words) in cases {
        let foreign = Found::File(Secret::new(foreign.pem.clone()));
        let foreign = ForeignFile { file: "0.pem".into(), found: foreign };
        let stored = [("a.org", &a), ("b.org", &b)];
        let mut world = World::beside(&stored, &["a.org", "b.org"], &fallback, vec![foreign])
            .shows(UNKNOWN, &a)
            .shows("a.org", shown)
            .shows("b.org", &b);
        let said = world.run();
        assert_eq!(said[0].0, verdict, "{words}: {said:?}");
        assert!(said[0].1.starts_with(&format!("{HERE}{words}")), "{words}: {said:?}");
        assert!(said.iter().all(|(_, text)| !text.contains("serves what is stored")), "{said:?}");
        let first = format!("{HERE}shows the certificate of certs/a.org.pem for an unknown name; ");
        assert_eq!(said[1], (Verdict::Ok, first));
    }
}

#[test]
fn a_certificate_that_expired_here_too_is_no_success() {
    let (a, fallback) = (made(&["a.org"], (2026, 6, 1), (2026, 9, 1)), self_signed("*"));
    for (required, verdict) in [(&["a.org"][..], Verdict::Fail), (&[], Verdict::Ok)] {
        let world = World::new(&[("a.org", &a)], required, &fallback);
        let said = world.shows(UNKNOWN, &fallback).shows("a.org", &a).run();
        assert_eq!(said[0].0, verdict, "{said:?}");
    }
}

#[test]
fn of_two_files_with_a_name_the_first_one_is_to_be_served() {
    let (a, b, fallback) = (current(&["a.org", "b.org"]), current(&["b.org"]), self_signed("*"));
    let world = || {
        let world = World::new(&[("a.org", &a), ("b.org", &b)], &["a.org", "b.org"], &fallback);
        world.shows(UNKNOWN, &fallback).shows("a.org", &a)
    };
    assert_eq!(world().shows("b.org", &a).run()[0].0, Verdict::Ok);
    let said = world().shows("b.org", &b).run();
    let words = "shows the certificate of certs/b.org.pem in place of what is stored for b.org";
    assert!(said[0].0 == Verdict::Fail && said[0].1.contains(words), "{said:?}");
}

#[test]
fn further_names_of_a_certificate_are_compared_where_apps_require_them() {
    let (a, fallback) = (current(&["a.org", "b.org", "c.org"]), self_signed("*"));
    let mut world = World::new(&[("a.org", &a)], &["a.org", "c.org"], &fallback)
        .shows(UNKNOWN, &fallback)
        .shows("a.org", &a)
        .shows("c.org", &fallback);
    let said = world.run();
    let asked: Vec<&str> = world.asked.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(asked, [UNKNOWN, "a.org", "c.org"]);
    assert!(
        said[0].1.contains("shows default.pem in place of what is stored for c.org"),
        "{said:?}"
    );
}

#[test]
fn a_name_that_no_app_requires_is_a_warning() {
    let (a, fallback) = (current(&["a.org"]), self_signed("*"));
    let world = World::new(&[("a.org", &a)], &[], &fallback);
    let said = world.shows(UNKNOWN, &fallback).shows("a.org", &fallback).run();
    assert_eq!(said[0].0, Verdict::Warn, "{said:?}");
}

#[test]
fn a_default_certificate_that_is_not_ours_is_a_warning() {
    let (a, fallback) = (current(&["a.org"]), self_signed("*"));
    let world = World::new(&[("a.org", &a)], &["a.org"], &fallback);
    let said = world.shows(UNKNOWN, &self_signed("lb")).shows("a.org", &a).run();
    let expected = format!(
        "{HERE}shows a self-signed certificate for lb for an unknown name, and not default.pem; \
         start marathon-lb with --ssl-certs /st/certs,/st/default.pem"
    );
    assert_eq!(said[1], (Verdict::Warn, expected));
}

#[test]
fn a_place_that_cannot_be_reached_is_left_after_two_attempts() {
    let (a, b, fallback) = (current(&["a.org"]), current(&["b.org"]), self_signed("*"));
    let mut world = World::new(&[("a.org", &a), ("b.org", &b)], &["a.org", "b.org"], &fallback);
    let said = world.run();
    assert_eq!(world.asked.len(), UNSEEN_FAILURES_MAX);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].0 == Verdict::Fail && said[0].1.contains("refused"), "{said:?}");
    let left = format!("{HERE}1 of 2 names not compared: handshakes failed; check again");
    assert_eq!(said[1], (Verdict::Warn, left));
}

#[test]
fn many_are_compared_a_few_at_a_time_and_what_is_left_is_counted() {
    let names: Vec<String> = (0..40).map(|number| format!("n{number:02}.org")).collect();
    let all: Vec<Made> = names.iter().map(|name| current(&[name])).collect();
    let stored: Vec<(&str, &Made)> = names.iter().map(String::as_str).zip(&all).collect();
    let required: Vec<&str> = names.iter().map(String::as_str).collect();
    let fallback = self_signed("*");
    let world = || {
        let world = World::new(&stored, &required, &fallback).shows(UNKNOWN, &fallback);
        stored.iter().fold(world, |world, (name, made)| world.shows(name, made))
    };
    let mut whole = world();
    assert!(whole.run()[0].1.contains("compared for 40 names"), "{:?}", whole.said());
    assert_eq!((whole.asked.len(), whole.most_open), (41, PLACE_IN_FLIGHT_MAX));
    let mut cut = world();
    cut.begin();
    let first = cut.advance();
    cut.client.handle_presented(first[0].0, fallback.der.clone());
    cut.take_events();
    for (conn, name) in cut.advance().into_iter().take(3) {
        cut.client.handle_presented(conn, cut.shows[&name].clone());
    }
    cut.take_events();
    let config = cut.config.clone();
    cut.served.give_up("time is up", &config);
    assert!(cut.served.is_done() && cut.advance().is_empty());
    let said = cut.said();
    let left = format!("{HERE}37 of 40 names not compared: time is up; check again");
    assert_eq!(said[0], (Verdict::Warn, left), "{said:?}");
    assert!(said.iter().all(|(_, text)| !text.contains("serves what is stored")), "{said:?}");
}

#[test]
fn a_comparison_that_never_began_is_not_a_success() {
    let (a, fallback) = (current(&["a.org"]), self_signed("*"));
    let mut world = World::new(&[("a.org", &a)], &["a.org"], &fallback);
    let config = world.config.clone();
    world.served.give_up("no answer within 60 s", &config);
    let said = world.said();
    assert!(world.served.is_done() && said[0].0 == Verdict::Warn, "{said:?}");
    assert!(said[0].1.contains("was not compared: no answer within 60 s"), "{said:?}");
}

#[test]
fn without_a_place_to_probe_nothing_is_claimed() {
    let (a, fallback) = (current(&["a.org"]), self_signed("*"));
    let mut world = World::new(&[("a.org", &a)], &["a.org"], &fallback);
    world.config.lb_verify = Verification::default();
    assert!(world.run().is_empty() && world.asked.is_empty());
    let mut served = Served::default();
    served.give_up("time is up", &world.config);
    assert!(served.is_done() && served.findings().is_empty());
}
