//! One address after the other.

use super::*;

/// A request whose host has three addresses, at the first of them.
fn three(outgoing: Outgoing) -> World {
    let mut world = World::new();
    world.send(outgoing);
    assert_eq!(world.outputs(), ["load"]);
    world.hosts("192.0.2.1 three.example\n192.0.2.2 three.example\n192.0.2.3 three.example\n");
    world
}

#[test]
fn an_address_that_cannot_be_connected_to_gives_way_to_the_next() {
    let reasons = [
        CloseReason::Refused,
        CloseReason::Unreachable,
        CloseReason::Reset,
        CloseReason::Finished,
        CloseReason::Tls("certificate expired".into()),
        CloseReason::Local("too many open files".into()),
    ];
    for reason in reasons {
        let mut world = three(get("https://three.example/"));
        assert_eq!(world.outputs(), ["connect 1 192.0.2.1:443 as three.example by Marathon"]);
        world.closed(1, reason);
        assert_eq!(world.outputs(), ["connect 2 192.0.2.2:443 as three.example by Marathon"]);
        world.connected(2);
        assert_eq!(world.outputs(), ["send 2 GET /"]);
        world.received(2, OK);
        assert!(matches!(&world.events()[..], [(_, event)] if *event == ok()));
    }
}

#[test]
fn an_address_that_does_not_answer_gives_way_to_the_next() {
    let mut world = three(Outgoing { timeout: None, ..get("http://three.example/") });
    assert_eq!(world.outputs(), ["connect 1 192.0.2.1:80"]);
    assert_eq!(world.sleep(), CONNECT_TIMEOUT.as_millis());
    assert_eq!(world.outputs(), ["close 1", "connect 2 192.0.2.2:80"]);
    assert_eq!(world.sleep(), CONNECT_TIMEOUT.as_millis());
    assert_eq!(world.outputs(), ["close 2", "connect 3 192.0.2.3:80"]);
    assert_eq!(world.sleep(), (REQUEST_TIMEOUT - 2 * CONNECT_TIMEOUT).as_millis());
    assert_eq!(world.outputs(), ["close 3"]);
    assert_eq!(
        world.failure(),
        "http://three.example: cannot connect: 192.0.2.1:80: no answer in time; \
         192.0.2.2:80: no answer in time; 192.0.2.3:80: no answer in time"
    );
    assert_eq!(world.client.poll_timeout(), None);
}

#[test]
fn a_short_limit_is_shared_so_that_the_last_address_is_tried_too() {
    let timeout = Some(Duration::from_secs(3));
    let mut world = three(Outgoing { timeout, ..get("http://three.example/") });
    assert_eq!(world.sleep(), 1000);
    assert_eq!(world.sleep(), 1000);
    assert_eq!(world.sleep(), 1000);
    assert!(world.failure().contains("192.0.2.3:80"));
}

#[test]
fn a_deadline_that_comes_late_tries_no_further_address() {
    let mut world = three(get("http://three.example/"));
    world.outputs();
    world.pass(20_000);
    world.with(|client, cx| client.handle_timeout(cx));
    assert_eq!(world.outputs(), ["close 1"]);
    assert_eq!(
        world.failure(),
        "http://three.example: cannot connect: 192.0.2.1:80: no answer in time"
    );
}

#[test]
fn when_no_address_lets_us_in_each_is_told_with_its_reason() {
    let mut world = three(get("https://me:secret@three.example/private"));
    world.closed(1, CloseReason::Refused);
    world.closed(2, CloseReason::Unreachable);
    world.closed(3, CloseReason::Tls("unknown issuer".into()));
    assert_eq!(
        world.failure(),
        "https://three.example: cannot connect: 192.0.2.1:443: the connection was refused; \
         192.0.2.2:443: the address cannot be reached; 192.0.2.3:443: TLS: unknown issuer"
    );
    assert_eq!(world.outputs().len(), 3);
    assert_eq!(world.client.poll_timeout(), None);
}

#[test]
fn a_fixed_address_is_the_only_one_and_needs_no_lookup() {
    let mut world = World::new();
    world.send(Outgoing { address: Some([192, 0, 2, 9].into()), ..get("http://three.example/") });
    assert_eq!(world.outputs(), ["connect 1 192.0.2.9:80"]);
    world.closed(1, CloseReason::Refused);
    assert!(world.failure().ends_with("192.0.2.9:80: the connection was refused"));
    assert_eq!(world.outputs(), Vec::<String>::new());
}

#[test]
fn addresses_are_tried_up_to_a_limit() {
    let mut world = World::new();
    world.send(get("http://many.example/"));
    let hosts: String =
        (1..=ATTEMPTS_MAX + 1).map(|n| format!("192.0.2.{n} many.example\n")).collect();
    world.hosts(&hosts);
    for conn in 1..=ATTEMPTS_MAX as u64 {
        world.closed(conn, CloseReason::Refused);
    }
    assert_eq!(world.failure().matches("refused").count(), ATTEMPTS_MAX);
    assert_eq!(
        world.outputs().iter().filter(|line| line.starts_with("connect")).count(),
        ATTEMPTS_MAX
    );
}

#[test]
fn a_response_that_fails_is_not_sought_at_the_next_address() {
    let mut world = three(get("http://three.example/"));
    world.connected(1);
    world.outputs();
    world.closed(1, CloseReason::Reset);
    assert!(world.failure().starts_with("http://three.example (192.0.2.1:80): "));
    assert_eq!(world.outputs(), Vec::<String>::new());
}
