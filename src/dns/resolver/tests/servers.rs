//! Dead and failing name servers: who is asked when, for how long, and what is said of each.

use super::*;

const THREE: &str = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nsearch s.org\n";

/// What a name server of these tests does with each query.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Answer,
    Code(u8),
    Refuse,
    Nothing,
}

/// Runs until a lookup is over: by its result, and the servers in the order in which they were asked for A
/// records, with the time of each query in milliseconds.
fn run(
    resolver: &mut Resolver,
    bench: &mut Bench,
    patience: Duration,
    does: [Does; 3],
) -> (Outcome, Vec<(u8, u64)>) {
    let start = bench.now.mono;
    resolver.lookup(&mut bench.cx(), LookupId(1), "www.example.org", start + patience);
    let mut asked = Vec::new();
    for _ in 0..99 {
        let outputs = outputs(resolver);
        let queries = questions(&outputs);
        if let Some(result) = results(outputs).pop() {
            assert!(resolver.queries.is_empty() && resolver.lookups.is_empty());
            return (result, asked);
        }
        let is_waiting = queries.is_empty();
        for (query, to, question) in queries {
            let place = (1..=3).find(|last| server(*last) == to).unwrap();
            let is_v4 = question[question.len() - 3] == 1;
            if is_v4 {
                asked.push((place, bench.now.mono.since(start).as_millis() as u64));
            }
            let cx = &mut bench.cx();
            match does[usize::from(place) - 1] {
                Does::Answer => {
                    let address = Some("192.0.2.1").filter(|_| is_v4);
                    resolver.handle_datagram(cx, query, to, &reply(&question, 0, address));
                }
                Does::Code(code) => {
                    resolver.handle_datagram(cx, query, to, &reply(&question, code, None));
                }
                Does::Refuse => {
                    resolver.handle_datagram_failed(cx, query, CloseReason::Refused);
                }
                Does::Nothing => {}
            }
        }
        if let Some(at) = resolver.poll_timeout().filter(|_| is_waiting) {
            bench.pass(at.since(bench.now.mono));
            resolver.handle_timeout(&mut bench.cx());
        }
    }
    panic!("a lookup without end");
}

const TEN_SECONDS: Duration = Duration::from_secs(10);

#[test]
fn two_dead_servers_leave_time_for_the_third_and_are_then_asked_last() {
    let (mut bench, mut resolver) = (Bench::new(), configured(THREE));
    let does = [Does::Nothing, Does::Nothing, Does::Answer];
    let (result, asked) = run(&mut resolver, &mut bench, TEN_SECONDS, does);
    assert_eq!(result, ips(&["192.0.2.1"]));
    assert_eq!(asked, [(1, 0), (2, 2500), (3, 5000)]);
    // What is known outlasts a new reading of the file.
    resolver.configure(&mut bench.cx(), THREE.as_bytes(), b"");
    let (_, asked) = run(&mut resolver, &mut bench, TEN_SECONDS, does);
    assert_eq!(asked, [(3, 0)]);
    // Later they get another chance.
    bench.pass(Duration::from_secs(60));
    let (_, asked) = run(&mut resolver, &mut bench, TEN_SECONDS, [Does::Answer; 3]);
    assert_eq!(asked, [(1, 0)]);
}

#[test]
fn a_refused_datagram_leads_to_the_next_server_at_once() {
    let (mut bench, mut resolver) = (Bench::new(), configured(THREE));
    let does = [Does::Refuse, Does::Refuse, Does::Answer];
    let (result, asked) = run(&mut resolver, &mut bench, TEN_SECONDS, does);
    assert_eq!((result, asked), (ips(&["192.0.2.1"]), vec![(1, 0), (2, 0), (3, 0)]));
    let (_, asked) = run(&mut resolver, &mut bench, TEN_SECONDS, does);
    assert_eq!(asked, [(3, 0)]);
}

#[test]
fn a_server_that_refuses_by_code_is_asked_last_and_one_that_fails_is_not() {
    let (mut bench, mut resolver) = (Bench::new(), configured(THREE));
    let does = [Does::Code(2), Does::Code(5), Does::Answer];
    let (_, asked) = run(&mut resolver, &mut bench, TEN_SECONDS, does);
    assert_eq!(asked, [(1, 0), (2, 0), (3, 0)]);
    let (_, asked) = run(&mut resolver, &mut bench, TEN_SECONDS, does);
    assert_eq!(asked, [(1, 0), (3, 0)]);
}

#[test]
fn a_lookup_ends_before_its_caller_stops_waiting() {
    for (seconds, conf) in
        [(1, THREE), (10, THREE), (60, THREE), (3, "options timeout:30 attempts:5")]
    {
        let patience = Duration::from_secs(seconds);
        let (mut bench, mut resolver) = (Bench::new(), configured(THREE));
        resolver.configure(&mut bench.cx(), format!("{THREE}{conf}").as_bytes(), b"");
        let (result, asked) = run(&mut resolver, &mut bench, patience, [Does::Nothing; 3]);
        assert!(bench.now.mono < Instant::START + patience);
        assert!(matches!(result, Err(DnsError::NoReply { .. })), "{result:?}");
        assert!(asked.len() >= 6, "{asked:?}");
    }
}

#[test]
fn an_error_names_what_each_server_replied() {
    let text = |does| {
        let (mut bench, mut resolver) = (Bench::new(), configured(THREE));
        run(&mut resolver, &mut bench, TEN_SECONDS, does).0.unwrap_err().to_string()
    };
    assert_eq!(
        text([Does::Nothing, Does::Refuse, Does::Refuse]),
        "no name server answered (10.0.0.1: no reply; 10.0.0.2: the connection was refused; \
         10.0.0.3: the connection was refused)"
    );
    assert_eq!(
        text([Does::Refuse, Does::Code(2), Does::Code(5)]),
        "the name servers failed (10.0.0.1: the connection was refused; 10.0.0.2: SERVFAIL; \
         10.0.0.3: REFUSED)"
    );
    assert_eq!(text([Does::Nothing, Does::Code(3), Does::Nothing]), "no such name (says 10.0.0.2)");
}

#[test]
fn a_family_that_nobody_answers_does_not_make_servers_silent_that_answered_the_other() {
    // As behind a firewall that drops queries for AAAA.
    let (mut bench, mut resolver) =
        (Bench::new(), configured("nameserver 10.0.0.1\nsearch s.org\n"));
    look_up(&mut resolver, &mut bench, 1, "host");
    let (mut names, mut result) = (Vec::new(), Vec::new());
    while result.is_empty() {
        let outputs = outputs(&mut resolver);
        for (query, to, question) in questions(&outputs) {
            if question[question.len() - 3] == 1 {
                names.push(resolver.queries.get(&query).unwrap().question.name.clone());
                let bytes = reply(&question, 3, None);
                resolver.handle_datagram(&mut bench.cx(), query, to, &bytes);
            }
        }
        result = results(outputs);
        if let Some(at) = resolver.poll_timeout() {
            bench.pass(at.since(bench.now.mono));
            resolver.handle_timeout(&mut bench.cx());
        }
    }
    assert_eq!(names, ["host.s.org", "host"], "the search goes on");
    let text = result.remove(0).unwrap_err().to_string();
    assert_eq!(text, "the name servers failed (10.0.0.1: NXDOMAIN; 10.0.0.1: no reply)");
}

#[test]
fn a_server_that_refuses_tcp_is_followed_by_the_next_one() {
    let (mut bench, mut resolver) = (Bench::new(), configured(&format!("{THREE}options use-vc\n")));
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    let opened = outputs(&mut resolver);
    let ResolverOutput::OpenStream { query, to } = opened[1] else { panic!("{opened:?}") };
    assert_eq!(to, server(1));
    resolver.handle_stream_closed(&mut bench.cx(), query, CloseReason::Refused);
    let opened = outputs(&mut resolver);
    assert!(matches!(opened[1], ResolverOutput::OpenStream { to, .. } if to == server(2)));
}

#[test]
fn an_address_that_comes_late_is_not_held_back_for_the_other_family() {
    let (mut bench, mut resolver) = (Bench::new(), configured(THREE));
    let deadline = bench.now.mono + Duration::from_secs(1);
    let name = "www.example.org";
    resolver.lookup(&mut bench.cx(), LookupId(1), name, deadline);
    bench.pass(Duration::from_millis(200));
    let (query, to, question) = questions(&outputs(&mut resolver)).remove(1);
    let bytes = reply(&question, 0, Some("192.0.2.1"));
    resolver.handle_datagram(&mut bench.cx(), query, to, &bytes);
    while let Some(at) = resolver.poll_timeout() {
        bench.pass(at.since(bench.now.mono));
        resolver.handle_timeout(&mut bench.cx());
    }
    assert_eq!(results(outputs(&mut resolver)), [ips(&["192.0.2.1"])]);
    assert!(bench.now.mono <= Instant::START + Duration::from_millis(600));
}

#[test]
fn what_this_system_lacks_is_not_held_against_a_server() {
    let (mut bench, mut resolver) = (Bench::new(), configured(THREE));
    look_up(&mut resolver, &mut bench, 1, "www.example.org");
    for (query, ..) in questions(&outputs(&mut resolver)) {
        let reason = CloseReason::Local("too many open files".into());
        resolver.handle_datagram_failed(&mut bench.cx(), query, reason);
    }
    assert!(questions(&outputs(&mut resolver)).iter().all(|(_, to, _)| *to == server(2)));
    resolver.cancel(LookupId(1));
    outputs(&mut resolver);
    look_up(&mut resolver, &mut bench, 2, "www.example.org");
    assert!(questions(&outputs(&mut resolver)).iter().all(|(_, to, _)| *to == server(1)));
}
