//! Connections that carry more than one request.

use super::*;

const URL: &str = "http://192.0.2.1/";

/// A world with one kept connection, number 1.
fn kept() -> World {
    let mut world = World::new();
    world.exchange(1, get(URL), OK);
    world.outputs();
    world
}

/// A world in which so many requests were under way at once, each on a connection of its own, and were
/// answered.
fn side_by_side(count: u64) -> World {
    let mut world = World::new();
    for _ in 1..=count {
        world.send(get(URL));
    }
    for conn in 1..=count {
        world.connected(conn);
        world.outputs();
        world.received(conn, OK);
    }
    world
}

#[test]
fn a_connection_serves_the_next_request() {
    let mut world = kept();
    let id = world.send(post("http://192.0.2.1/next"));
    assert_eq!(world.outputs(), ["send 1 POST /next"]);
    world.received(1, OK);
    assert_eq!(world.events(), [(id, ok())]);
}

#[test]
fn only_a_request_that_agrees_in_all_of_it_shares_a_connection() {
    let others = [
        get("http://192.0.2.1:81/"),
        get("http://192.0.2.2/"),
        get("https://192.0.2.1:80/"),
        Outgoing { trust: Trust::Acme, ..get(URL) },
        Outgoing { address: Some([192, 0, 2, 1].into()), ..get(URL) },
        Outgoing { delivery: Delivery::Streamed, ..get(URL) },
    ];
    for other in others {
        let mut world = kept();
        world.send(other);
        assert!(world.outputs()[0].starts_with("connect 2 "));
    }
}

#[test]
fn who_closes_or_says_too_much_is_not_kept() {
    let responses = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!",
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    ];
    for response in responses {
        let mut world = World::new();
        world.exchange(1, get(URL), response);
        assert_eq!(world.outputs().last().unwrap(), "close 1", "{response:?}");
        assert_eq!(world.client.poll_timeout(), None);
    }
}

#[test]
fn what_comes_unasked_ends_a_kept_connection() {
    let mut world = kept();
    world.received(1, "HTTP/1.1 408 Request Timeout\r\n\r\n");
    assert_eq!(world.outputs(), ["close 1"]);
    assert_eq!(world.events(), []);
    world.send(get(URL));
    assert_eq!(world.outputs(), ["connect 2 192.0.2.1:80"]);
}

#[test]
fn a_kept_connection_that_the_peer_ends_is_forgotten() {
    let mut world = kept();
    world.closed(1, CloseReason::Finished);
    assert_eq!((world.outputs().len(), world.client.poll_timeout()), (0, None));
    world.send(get(URL));
    assert_eq!(world.outputs(), ["connect 2 192.0.2.1:80"]);
}

#[test]
fn a_kept_connection_waits_for_a_while_only() {
    let mut world = kept();
    assert_eq!(world.sleep(), IDLE_TIME.as_millis());
    assert_eq!(world.outputs(), ["close 1"]);
    assert_eq!(world.client.poll_timeout(), None);

    let mut world = kept();
    world.now = world.now + IDLE_TIME;
    world.send(get(URL));
    assert_eq!(world.outputs(), ["connect 2 192.0.2.1:80"], "too old, though not closed yet");
}

#[test]
fn the_connection_used_last_goes_first_and_few_are_kept() {
    let count = IDLE_PER_PEER_MAX as u64 + 1;
    let mut world = side_by_side(count);
    assert_eq!(world.outputs(), ["close 1"]);
    for conn in (2..=count).rev() {
        world.send(get(URL));
        assert_eq!(world.outputs(), [format!("send {conn} GET /")]);
    }
}

#[test]
fn as_many_connections_of_one_peer_are_kept_as_the_limit_says() {
    let mut world = side_by_side(IDLE_PER_PEER_MAX as u64);
    assert_eq!(world.outputs(), [""; 0]);
}

#[test]
fn few_are_kept_over_all_peers() {
    let mut world = World::new();
    let count = IDLE_MAX as u64 + 1;
    for conn in 1..=count {
        world.exchange(conn, get(&format!("http://192.0.2.{conn}/")), OK);
    }
    assert_eq!(world.outputs(), [format!("send {count} GET /"), "close 1".into()]);
}

#[test]
fn a_dead_kept_connection_is_replaced_once() {
    let by_peer = [CloseReason::Finished, CloseReason::Truncated, CloseReason::Reset];
    for reason in by_peer {
        for outgoing in [get(URL), post(URL)] {
            let mut world = kept();
            let id = world.send(outgoing);
            world.outputs();
            world.closed(1, reason.clone());
            assert_eq!(world.outputs(), ["connect 2 192.0.2.1:80"]);
            world.connected(2);
            assert!(world.outputs()[0].starts_with("send 2 "));
            assert_eq!(world.events(), []);
            world.received(2, OK);
            assert_eq!(world.events(), [(id, ok())]);
        }
    }
}

#[test]
fn a_fresh_connection_that_dies_is_not_replaced() {
    let mut world = kept();
    world.send(get(URL));
    world.closed(1, CloseReason::Reset);
    world.connected(2);
    world.outputs();
    world.closed(2, CloseReason::Reset);
    assert!(world.failure().contains("the connection was reset"));
    assert_eq!(world.outputs(), Vec::<String>::new());
}

#[test]
fn the_replacement_is_fresh_though_others_are_kept() {
    let mut world = World::new();
    world.send(get(URL));
    world.send(get(URL));
    for conn in [1, 2] {
        world.connected(conn);
        world.received(conn, OK);
    }
    world.send(get(URL));
    world.outputs();
    world.closed(2, CloseReason::Reset);
    assert_eq!(world.outputs(), ["connect 3 192.0.2.1:80"]);
}

#[test]
fn a_post_is_repeated_only_when_the_peer_gave_the_connection_up() {
    for reason in [CloseReason::Tls("bad record".into()), CloseReason::Local("no memory".into())] {
        let mut world = kept();
        world.send(post(URL));
        world.send(get("http://192.0.2.9/"));
        world.outputs();
        world.closed(1, reason.clone());
        assert!(world.failure().starts_with("http://192.0.2.1 (192.0.2.1:80): "));
        assert_eq!(world.outputs(), Vec::<String>::new());

        let mut world = kept();
        world.send(get(URL));
        world.outputs();
        world.closed(1, reason);
        assert_eq!(world.outputs(), ["connect 2 192.0.2.1:80"]);
    }
}

#[test]
fn nothing_is_repeated_once_a_byte_of_the_response_came() {
    for outgoing in [get(URL), post(URL)] {
        let mut world = kept();
        world.send(outgoing);
        world.received(1, "H");
        world.outputs();
        world.closed(1, CloseReason::Reset);
        assert!(world.failure().contains("the connection was reset"));
        assert_eq!(world.outputs(), Vec::<String>::new());
    }
}

#[test]
fn a_repeated_request_keeps_its_deadline() {
    let mut world = kept();
    world.send(get(URL));
    world.pass(4000);
    world.closed(1, CloseReason::Reset);
    world.connected(2);
    assert_eq!(world.sleep(), 6000);
    assert_eq!(world.failure(), "http://192.0.2.1 (192.0.2.1:80): it did not answer within 10.0s");
}

#[test]
fn the_replacement_looks_the_name_up_again() {
    let mut world = World::new();
    world.send(get("http://lb.example/"));
    world.hosts("192.0.2.1 lb.example");
    world.connected(1);
    world.received(1, OK);
    world.events();
    world.send(get("http://lb.example/"));
    world.outputs();
    world.hosts("192.0.2.2 lb.example");
    world.closed(1, CloseReason::Finished);
    assert_eq!(world.outputs(), ["connect 2 192.0.2.2:80"]);
}
