//! Responses that are handed over as they come.

use super::*;

fn stream(silence: Option<Duration>) -> Outgoing {
    Outgoing { silence, delivery: Delivery::Streamed, ..get("http://192.0.2.1/v2/events") }
}

fn opened(silence: Option<Duration>) -> (World, RequestId) {
    let mut world = World::new();
    let id = world.send(stream(silence));
    world.connected(1);
    assert_eq!(world.outputs(), ["connect 1 192.0.2.1:80", "send 1 GET /v2/events"]);
    (world, id)
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

fn events_head() -> ClientEvent {
    ClientEvent::Head(head(200, &[("Connection", "close")]))
}

fn body(text: &str) -> ClientEvent {
    ClientEvent::Body(text.into())
}

#[test]
fn pieces_come_as_they_are_and_the_close_ends_the_stream() {
    let (mut world, id) = opened(None);
    world.received(1, &format!("{EVENTS}ab"));
    assert_eq!(world.events(), [(id, events_head()), (id, body("ab"))]);
    world.received(1, "\r");
    world.received(1, "\n");
    assert_eq!(world.events(), [(id, body("\r")), (id, body("\n"))]);
    world.closed(1, CloseReason::Finished);
    assert_eq!(world.events(), [(id, ClientEvent::End)]);
    assert_eq!((world.outputs().len(), world.client.poll_timeout()), (0, None));
}

#[test]
fn a_stream_is_the_same_byte_by_byte() {
    let response =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    let expected = ClientEvent::Head(head(200, &[("Transfer-Encoding", "chunked")]));
    let (mut world, id) = opened(None);
    for at in 0..response.len() {
        world.received(1, &response[at..=at]);
    }
    let all = [expected, body("a"), body("b"), body("c"), ClientEvent::End].map(|it| (id, it));
    assert_eq!(world.events(), all);
    assert_eq!(world.outputs(), ["close 1"], "a stream's connection is not kept");
}

#[test]
fn a_stream_that_is_cut_is_told_apart_from_one_that_ended() {
    for reason in [CloseReason::Truncated, CloseReason::Reset] {
        let (mut world, _) = opened(None);
        world.received(1, EVENTS);
        world.events();
        world.closed(1, reason);
        assert!(world.failure().ends_with("before the response was complete"));
    }
}

#[test]
fn what_came_before_a_broken_chunk_is_handed_over() {
    let (mut world, id) = opened(None);
    world.received(1, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n");
    let events = world.events();
    assert!(matches!(events[0], (it, ClientEvent::Head(_)) if it == id));
    assert!(matches!(events.last(), Some((it, ClientEvent::Failed(_))) if *it == id));
    assert_eq!(world.outputs(), ["close 1"]);
}

#[test]
fn the_limit_covers_the_head_and_silence_the_rest() {
    let (mut world, _) = opened(Some(Duration::from_secs(60)));
    world.pass(9000);
    world.received(1, EVENTS);
    world.pass(59_000);
    world.received(1, "x");
    world.events();
    assert_eq!(world.sleep(), 60_000);
    assert_eq!(world.failure(), "http://192.0.2.1 (192.0.2.1:80): nothing more came within 60.0s");
    assert_eq!(world.outputs(), ["close 1"]);
    assert_eq!(world.client.poll_timeout(), None);
}

#[test]
fn a_stream_without_a_limit_of_silence_may_be_silent() {
    let (mut world, _) = opened(None);
    world.received(1, EVENTS);
    assert_eq!(world.client.poll_timeout(), None);
    world.pass(1_000_000_000);
    world.with(|client, cx| client.handle_timeout(cx));
    assert_eq!(world.outputs(), Vec::<String>::new());
}

#[test]
fn a_stream_whose_head_does_not_come_is_too_late() {
    let (mut world, _) = opened(None);
    world.received(1, "HTTP/1.1 200 OK\r\n");
    assert_eq!(world.sleep(), 10_000);
    assert_eq!(world.failure(), "http://192.0.2.1 (192.0.2.1:80): it did not answer within 10.0s");
    assert_eq!(world.outputs(), ["close 1"]);
}

#[test]
fn a_stream_has_no_limit_of_size() {
    let (mut world, _) = opened(None);
    world.received(1, EVENTS);
    for _ in 0..100 {
        world.received(1, &"x".repeat(1000));
    }
    assert_eq!(world.events().len(), 101);
}

#[test]
fn every_event_comes_with_the_owner_of_its_request() {
    let mut client = Client::default();
    let host = Host::Ip([192, 0, 2, 2].into());
    World::new().with(|_, cx| {
        let streamed = client.send(cx, 'a', stream(None));
        let cancelled = client.resolve(cx, 'b', &host);
        let found = client.resolve(cx, 'c', &host);
        client.cancel(cancelled);
        client.handle_connected(cx, ConnId::Dialed(1));
        client.handle_received(cx, ConnId::Dialed(1), OK.as_bytes());
        let events = std::iter::from_fn(|| client.poll_event());
        let owners: Vec<_> = events.map(|(owner, request, _)| (owner, request)).collect();
        assert_eq!(owners, [('c', found), ('a', streamed), ('a', streamed), ('a', streamed)]);
        assert!(client.owners.is_empty(), "none is kept beyond the last event");
    });
}
