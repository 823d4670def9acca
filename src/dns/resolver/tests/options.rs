//! The options of `/etc/resolv.conf`, as far as they change what is asked, whom and how.

use super::*;

/// The first queries of a lookup under an option: server, whether for A, and whether with EDNS.
fn first_queries(resolver: &mut Resolver, bench: &mut Bench) -> Vec<(QueryId, u8, bool, bool)> {
    let outputs = outputs(resolver);
    let read = |(query, to, bytes): (QueryId, SocketAddr, Vec<u8>)| {
        let place = (1..=9).find(|last| server(*last) == to).unwrap();
        let end = 12 + bytes[12..].iter().position(|byte| *byte == 0).unwrap();
        (query, place, bytes[end + 2] == 1, bytes[11] == 1)
    };
    assert!(resolver.poll_timeout().is_some_and(|at| at > bench.now.mono));
    questions(&outputs).into_iter().map(read).collect()
}

fn asked_with(options: &str) -> (Bench, Resolver, Vec<(u8, bool, bool)>) {
    let conf = format!("nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions {options}\n");
    let (mut bench, mut resolver) = (Bench::new(), configured(&conf));
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let queries = first_queries(&mut resolver, &mut bench);
    (bench, resolver, queries.into_iter().map(|(_, place, v4, edns)| (place, v4, edns)).collect())
}

#[test]
fn options_change_the_first_queries() {
    assert_eq!(asked_with("").2, [(1, false, false), (1, true, false)]);
    assert_eq!(asked_with("edns0").2, [(1, false, true), (1, true, true)]);
    assert_eq!(asked_with("no-aaaa").2, [(1, true, false)]);
    assert_eq!(asked_with("single-request").2, [(1, true, false)]);
    assert_eq!(asked_with("single-request-reopen").2, [(1, false, false), (1, true, false)]);
    assert_eq!(asked_with("use-vc").2, []);
}

#[test]
fn rotate_begins_with_another_server_each_time() {
    let (mut bench, mut resolver, first) = asked_with("rotate");
    look_up(&mut resolver, &mut bench, 2, "www.example.org");
    let second = first_queries(&mut resolver, &mut bench);
    assert_ne!(first[0].0, second[0].1);
    assert_eq!(
        (first[0].0, second[0].1),
        (first[1].0, second[1].1),
        "both families ask one server"
    );
}

#[test]
fn without_aaaa_an_address_or_an_error_is_the_result() {
    for (code, address) in [(0, Some("192.0.2.1")), (3, None), (0, None)] {
        let conf = "nameserver 10.0.0.1\noptions no-aaaa\n";
        let (mut bench, mut resolver) = (Bench::new(), configured(conf));
        look_up(&mut resolver, &mut bench, 1, "www.example.org");
        let (query, to, question) = questions(&outputs(&mut resolver)).remove(0);
        resolver.handle_datagram(&mut bench.cx(), query, to, &reply(&question, code, address));
        let server = server(1).ip();
        let expected = match (code, address) {
            (_, Some(address)) => ips(&[address]),
            (3, _) => Err(DnsError::NoSuchName { server }),
            _ => Err(DnsError::NoAddress { server }),
        };
        assert_eq!(results(outputs(&mut resolver)), [expected]);
    }
}

#[test]
fn a_single_request_asks_for_aaaa_once_a_is_answered() {
    let conf = "nameserver 10.0.0.1\noptions single-request\n";
    let (mut bench, mut resolver) = (Bench::new(), configured(conf));
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let (query, to, question) = questions(&outputs(&mut resolver)).remove(0);
    let bytes = reply(&question, 0, Some("192.0.2.1"));
    resolver.handle_datagram(&mut bench.cx(), query, to, &bytes);
    let (query, to, question) = questions(&outputs(&mut resolver)).remove(0);
    let bytes = reply(&question, 0, Some("2001:db8::1"));
    resolver.handle_datagram(&mut bench.cx(), query, to, &bytes);
    assert_eq!(results(outputs(&mut resolver)), [ips(&["2001:db8::1", "192.0.2.1"])]);
    assert!(resolver.queries.is_empty());
}

#[test]
fn a_server_without_edns_is_asked_again_without_it() {
    let (mut bench, mut resolver) =
        (Bench::new(), configured("nameserver 10.0.0.1\noptions edns0 no-aaaa\n"));
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let (query, to, question) = questions(&outputs(&mut resolver)).remove(0);
    assert_eq!(question[11], 1);
    let refusal = [&question[..2], &[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    resolver.handle_datagram(&mut bench.cx(), query, to, &refusal);
    let (query, again, question) = questions(&outputs(&mut resolver)).remove(0);
    assert_eq!((again, question[11]), (to, 0));
    let bytes = reply(&question, 0, Some("192.0.2.1"));
    resolver.handle_datagram(&mut bench.cx(), query, to, &bytes);
    assert_eq!(results(outputs(&mut resolver)), [ips(&["192.0.2.1"])]);
    // It is remembered.
    look_up(&mut resolver, &mut bench, 2, "www.example.org");
    assert_eq!(questions(&outputs(&mut resolver))[0].2[11], 0);
}

#[test]
fn tcp_alone_is_used_where_the_file_says_so() {
    let conf = "nameserver 10.0.0.1\noptions use-vc edns0 no-aaaa\n";
    let (mut bench, mut resolver) = (Bench::new(), configured(conf));
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let [ResolverOutput::OpenStream { query, to }] = outputs(&mut resolver)[..] else {
        panic!("no stream")
    };
    assert_eq!(to, server(1));
    resolver.handle_stream_connected(&mut bench.cx(), query);
    let [ResolverOutput::SendStream { bytes, .. }] = &outputs(&mut resolver)[..] else {
        panic!("no question")
    };
    assert_eq!(usize::from(bytes[1]), bytes.len() - 2);
    // The answer has no record of EDNS: servers may leave it out.
    let question =
        message::query(u16::from_be_bytes([bytes[2], bytes[3]]), "www.example.org", Family::V4);
    let answer = reply(&question, 0, Some("192.0.2.7"));
    let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
    resolver.handle_stream_received(&mut bench.cx(), query, &framed);
    assert_eq!(results(outputs(&mut resolver)), [ips(&["192.0.2.7"])]);
}

#[test]
fn names_without_dots_stay_in_the_search_domains_where_the_file_says_so() {
    let names = |conf: &str, name: &str| Vec::from(configured(conf).candidates(name));
    let conf = "search s.org\noptions no-tld-query ndots:2\n";
    assert_eq!(names(conf, "host"), ["host.s.org"]);
    assert_eq!(names(conf, "a.host"), ["a.host.s.org", "a.host"]);
    assert_eq!(names(conf, "a.b.host"), ["a.b.host", "a.b.host.s.org"]);
    assert_eq!(names(conf, "host."), ["host"]);
    assert_eq!(names("options no-tld-query\n", "host"), ["host"]);
}

#[test]
fn what_has_no_effect_is_logged_once_until_the_file_changes() {
    let (mut bench, mut resolver) = (Bench::new(), Resolver::new());
    let message = "settings in /etc/resolv.conf are ignored";
    let odd = b"nameserver 10.0.0.1\nsortlist 10.0.0.0\noptions rotate what-is-this\n";
    for _ in 0..3 {
        resolver.configure(&mut bench.cx(), odd, b"");
        look_up(&mut resolver, &mut bench, 1, "www.example.org");
    }
    assert_eq!(bench.logged(message), 1);
    let settings = ("settings", "sortlist; options what-is-this".to_string());
    assert_eq!(bench.log[0].fields, [settings]);
    resolver.configure(&mut bench.cx(), b"nameserver 10.0.0.1\noptions trust-ad\n", b"");
    assert_eq!(bench.logged(message), 1);
    resolver.configure(&mut bench.cx(), odd, b"");
    assert_eq!(bench.logged(message), 2);
}

#[test]
fn a_link_local_server_is_asked_by_its_zone() {
    let (mut bench, mut resolver) =
        (Bench::new(), configured("nameserver fe80::1%3\noptions no-aaaa\n"));
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let (query, to, question) = questions(&outputs(&mut resolver)).remove(0);
    assert_eq!(to.to_string(), "[fe80::1%3]:53");
    resolver.handle_datagram(&mut bench.cx(), query, to, &reply(&question, 0, Some("192.0.2.1")));
    assert_eq!(results(outputs(&mut resolver)), [ips(&["192.0.2.1"])]);
}
