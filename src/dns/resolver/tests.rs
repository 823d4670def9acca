//! Tests of the lookup machine, with a clock and name servers in hand.

use super::*;
use crate::testing::Bench;

mod options;
mod servers;

const CONF: &[u8] =
    b"nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch s.org\noptions timeout:2 attempts:2\n";

/// What a caller waits for the addresses, in seconds.
const PATIENCE: u64 = 60;

fn resolver() -> Resolver {
    configured(std::str::from_utf8(CONF).unwrap())
}

fn configured(conf: &str) -> Resolver {
    let mut resolver = Resolver::new();
    resolver.configure(&mut Bench::new().cx(), conf.as_bytes(), b"10.9.9.9 hosted\n");
    resolver
}

fn look_up(resolver: &mut Resolver, bench: &mut Bench, lookup: u64, name: &str) {
    let deadline = bench.now.mono + Duration::from_secs(PATIENCE);
    resolver.lookup(&mut bench.cx(), LookupId(lookup), name, deadline);
}

fn outputs(resolver: &mut Resolver) -> Vec<ResolverOutput> {
    std::iter::from_fn(|| resolver.poll_output()).collect()
}

/// The questions among the outputs: query, server, message.
fn questions(outputs: &[ResolverOutput]) -> Vec<(QueryId, SocketAddr, Vec<u8>)> {
    let question = |output: &ResolverOutput| match output {
        ResolverOutput::Datagram { query, to, bytes } => Some((*query, *to, bytes.clone())),
        _ => None,
    };
    outputs.iter().filter_map(question).collect()
}

fn results(outputs: Vec<ResolverOutput>) -> Vec<Outcome> {
    let result = |output| match output {
        ResolverOutput::Answer { result, .. } => Some(result),
        _ => None,
    };
    outputs.into_iter().filter_map(result).collect()
}

/// An answer with a response code and an address of the family asked for.
fn reply(question: &[u8], code: u8, address: Option<&str>) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    if let Some(address) = address {
        let octets = match address.parse::<IpAddr>().unwrap() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        bytes[7] = 1;
        let kind = if octets.len() == 4 { 1 } else { 28 };
        bytes.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 9, 0, octets.len() as u8]);
        bytes.extend(octets);
    }
    bytes
}

fn ips(addresses: &[&str]) -> Outcome {
    Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
}

fn server(last: u8) -> SocketAddr {
    SocketAddr::new([10, 0, 0, last].into(), 53)
}

#[test]
fn literals_and_hosts_ask_nobody() {
    let (mut bench, mut resolver) = (Bench::new(), resolver());
    for (name, address) in [("192.0.2.1", "192.0.2.1"), ("::1", "::1"), ("Hosted", "10.9.9.9")] {
        look_up(&mut resolver, &mut bench, 1, name);
        assert_eq!(results(outputs(&mut resolver)), [ips(&[address])]);
    }
    look_up(&mut resolver, &mut bench, 1, "a..b");
    assert_eq!(results(outputs(&mut resolver)), [Err(DnsError::BadName)]);
    assert_eq!(resolver.poll_timeout(), None);
}

#[test]
fn both_families_are_asked_at_once_and_come_by_turns() {
    let (mut bench, mut resolver) = (Bench::new(), resolver());
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let asked = questions(&outputs(&mut resolver));
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].2[..2], asked[1].2[..2], "ids are of chance");
    let (six, four) = (&asked[0], &asked[1]);
    resolver.handle_datagram(
        &mut bench.cx(),
        four.0,
        server(1),
        &reply(&four.2, 0, Some("192.0.2.1")),
    );
    assert_eq!(results(outputs(&mut resolver)), []);
    resolver.handle_datagram(
        &mut bench.cx(),
        six.0,
        server(1),
        &reply(&six.2, 0, Some("2001:db8::1")),
    );
    assert_eq!(results(outputs(&mut resolver)), [ips(&["2001:db8::1", "192.0.2.1"])]);
    assert!(resolver.queries.is_empty() && resolver.lookups.is_empty());
}

#[test]
fn one_family_does_after_a_grace() {
    let (mut bench, mut resolver) = (Bench::new(), resolver());
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let four = questions(&outputs(&mut resolver)).remove(1);
    resolver.handle_datagram(
        &mut bench.cx(),
        four.0,
        server(1),
        &reply(&four.2, 0, Some("192.0.2.1")),
    );
    bench.pass(GRACE);
    resolver.handle_timeout(&mut bench.cx());
    assert_eq!(results(outputs(&mut resolver)), [ips(&["192.0.2.1"])]);
    assert!(resolver.queries.is_empty());
}

#[test]
fn forged_answers_are_passed_over() {
    let (mut bench, mut resolver) = (Bench::new(), resolver());
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let asked = questions(&outputs(&mut resolver));
    let good = reply(&asked[1].2, 0, Some("192.0.2.1"));
    resolver.handle_datagram(&mut bench.cx(), asked[1].0, server(9), &good);
    resolver.handle_datagram(&mut bench.cx(), asked[0].0, server(1), &good);
    let mut wrong_id = good.clone();
    wrong_id[0] ^= 1;
    resolver.handle_datagram(&mut bench.cx(), asked[1].0, server(1), &wrong_id);
    assert_eq!(outputs(&mut resolver), []);
    assert_eq!(resolver.queries.len(), 2);
}

#[test]
fn silent_and_failing_servers_are_followed_by_the_next_ones() {
    let (mut bench, mut resolver) = (Bench::new(), resolver());
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.extend(
            questions(&outputs(&mut resolver)).iter().map(|(_, to, _)| to.ip().to_string()),
        );
        bench.pass(Duration::from_secs(2));
        resolver.handle_timeout(&mut bench.cx());
    }
    let servers = ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"];
    let expected: Vec<&str> = servers.iter().flat_map(|server| [*server; 2]).collect();
    assert_eq!(asked, expected);
    let silent = |last| (server(last).ip(), Reply::Silent);
    let no_reply = DnsError::NoReply { replies: vec![silent(1), silent(2)] };
    assert_eq!(results(outputs(&mut resolver)), [Err(no_reply)]);

    let mut resolver = configured(std::str::from_utf8(CONF).unwrap());
    look_up(&mut resolver, &mut bench, 2, "www.example.org");
    for (query, to, question) in questions(&outputs(&mut resolver)) {
        resolver.handle_datagram(&mut bench.cx(), query, to, &reply(&question, 2, None));
    }
    let second = questions(&outputs(&mut resolver));
    assert!(second.iter().all(|(_, to, _)| *to == server(2)) && second.len() == 2);
}

/// Answers everything with a code and gives the names asked for, until the lookup is over.
fn names_asked(name: &str, code: u8) -> (Vec<String>, Vec<Outcome>) {
    let (mut bench, mut resolver) = (Bench::new(), resolver());
    look_up(&mut resolver, &mut bench, 1, name);
    let (mut names, mut over) = (Vec::new(), Vec::new());
    loop {
        let outputs = outputs(&mut resolver);
        let asked = questions(&outputs);
        over.extend(results(outputs));
        if asked.is_empty() {
            return (names, over);
        }
        for (query, to, question) in asked {
            let name = resolver.queries.get(&query).unwrap().question.name.clone();
            if !names.contains(&name) {
                names.push(name);
            }
            resolver.handle_datagram(&mut bench.cx(), query, to, &reply(&question, code, None));
        }
    }
}

#[test]
fn search_list_and_dots() {
    let (names, over) = names_asked("host", 3);
    assert_eq!(names, ["host.s.org", "host"]);
    assert_eq!(over, [Err(DnsError::NoSuchName { server: server(1).ip() })]);
    assert_eq!(names_asked("a.host", 3).0, ["a.host", "a.host.s.org"]);
    assert_eq!(names_asked("host.", 3).0, ["host"]);
    let (names, over) = names_asked("host", 0);
    assert_eq!(names, ["host.s.org", "host"]);
    assert_eq!(over, [Err(DnsError::NoAddress { server: server(1).ip() })]);
    let (_, over) = names_asked("a.host", 2);
    let replies = [1, 2].map(|last| (server(last).ip(), Reply::Code(2))).to_vec();
    assert_eq!(over, [Err(DnsError::ServerFailure { replies })]);
}

#[test]
fn truncation_leads_to_tcp_however_it_is_split() {
    let (mut bench, mut resolver) = (Bench::new(), resolver());
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let asked = questions(&outputs(&mut resolver));
    let mut truncated = reply(&asked[1].2, 0, None);
    truncated[2] |= 2;
    resolver.handle_datagram(&mut bench.cx(), asked[1].0, server(1), &truncated);
    let [ResolverOutput::CloseDatagram { .. }, ResolverOutput::OpenStream { query, to }] =
        outputs(&mut resolver)[..]
    else {
        panic!("no stream")
    };
    assert_eq!(to, server(1));
    resolver.handle_stream_connected(&mut bench.cx(), query);
    let [ResolverOutput::SendStream { bytes, .. }] = &outputs(&mut resolver)[..] else {
        panic!("no question")
    };
    let answer = reply(&bytes[2..], 0, Some("192.0.2.7"));
    let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
    for byte in framed {
        resolver.handle_stream_received(&mut bench.cx(), query, &[byte]);
    }
    let none = reply(&asked[0].2, 0, None);
    resolver.handle_datagram(&mut bench.cx(), asked[0].0, server(1), &none);
    assert_eq!(results(outputs(&mut resolver)), [ips(&["192.0.2.7"])]);
}

#[test]
fn a_stream_that_breaks_leads_to_the_next_server_and_cancel_closes_all() {
    let (mut bench, mut resolver) = (Bench::new(), resolver());
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let asked = questions(&outputs(&mut resolver));
    let mut truncated = reply(&asked[1].2, 0, None);
    truncated[2] |= 2;
    resolver.handle_datagram(&mut bench.cx(), asked[1].0, server(1), &truncated);
    let opened = outputs(&mut resolver);
    let ResolverOutput::OpenStream { query, .. } = opened[1] else { panic!("no stream") };
    resolver.handle_stream_closed(&mut bench.cx(), query, CloseReason::Reset);
    assert_eq!(questions(&outputs(&mut resolver))[0].1, server(2));
    resolver.cancel(LookupId(1));
    assert_eq!(outputs(&mut resolver).len(), 2);
    assert_eq!(resolver.poll_timeout(), None);
}
