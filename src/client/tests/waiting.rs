//! Time limits and cancellation, in each state.

use super::*;

const URL: &str = "http://slow.example/";

/// A request in each state it can be in, with what is done when it is given up, and what a time
/// limit says.
fn states() -> Vec<(World, RequestId, Vec<&'static str>, &'static str)> {
    let reach = |steps: &dyn Fn(&mut World)| {
        let mut world = World::new();
        let id = world.send(get(URL));
        steps(&mut world);
        world.outputs();
        assert_eq!(world.events(), []);
        (world, id)
    };
    let at = |(world, id): (World, RequestId), outputs, text| (world, id, outputs, text);
    let host = "192.0.2.1 slow.example";
    let connecting = |world: &mut World| world.hosts(host);
    let awaiting = |world: &mut World| {
        world.hosts(host);
        world.connected(1);
    };
    let reading = |world: &mut World| {
        world.hosts(host);
        world.connected(1);
        world.received(1, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    };
    let refused = "http://slow.example: cannot connect: 192.0.2.1:80: no answer in time";
    vec![
        at(reach(&|_| {}), vec![], "http://slow.example: its name was not resolved within 10.0s"),
        at(reach(&connecting), vec!["close 1"], refused),
        at(
            reach(&awaiting),
            vec!["close 1"],
            "http://slow.example (192.0.2.1:80): it did not answer within 10.0s",
        ),
        at(
            reach(&reading),
            vec!["close 1"],
            "http://slow.example (192.0.2.1:80): its response did not end within 10.0s",
        ),
    ]
}

#[test]
fn a_limit_strikes_in_each_state_and_not_before() {
    for (mut world, id, outputs, text) in states() {
        world.pass(9999);
        world.with(|client, cx| client.handle_timeout(cx));
        assert_eq!((world.outputs().len(), world.events().len()), (0, 0));
        assert_eq!(world.sleep(), 1);
        assert_eq!(world.outputs(), outputs);
        assert_eq!(world.failure(), text);
        assert_eq!(world.client.poll_timeout(), None);
        world.client.cancel(id);
        assert_eq!((world.outputs().len(), world.events().len()), (0, 0));
    }
}

#[test]
fn a_cancelled_request_is_gone_in_each_state() {
    for (mut world, id, outputs, _) in states() {
        world.client.cancel(id);
        assert_eq!(world.outputs(), outputs);
        assert_eq!(world.events(), []);
        assert_eq!(world.client.poll_timeout(), None);
        world.hosts("");
        assert_eq!((world.outputs().len(), world.events().len()), (0, 0), "nothing comes of it");
    }
}

#[test]
fn a_cancelled_stream_is_closed_and_its_waiting_events_are_dropped() {
    let mut world = World::new();
    let other = world.send(get("http://192.0.2.2/"));
    let id = world.send(Outgoing { delivery: Delivery::Streamed, ..get("http://192.0.2.1/") });
    world.connected(2);
    world.connected(1);
    world.received(2, "HTTP/1.1 200 OK\r\n\r\nevents");
    world.received(1, OK);
    world.outputs();
    world.client.cancel(id);
    assert_eq!(world.outputs(), ["close 2"]);
    assert_eq!(world.events(), [(other, ok())]);
}

#[test]
fn a_lookup_has_a_limit_and_can_be_cancelled() {
    let mut world = World::new();
    world.resolve("slow.example");
    assert_eq!(world.sleep(), RESOLVE_TIMEOUT.as_millis());
    assert_eq!(world.failure(), "slow.example: its name was not resolved within 30.0s");
    assert_eq!(world.client.poll_timeout(), None);

    let id = world.resolve("slow.example");
    world.client.cancel(id);
    world.hosts("192.0.2.1 slow.example");
    assert_eq!((world.events().len(), world.client.poll_timeout()), (0, None));
}

#[test]
fn who_names_no_limit_gets_one() {
    let mut world = World::new();
    world.send(Outgoing { timeout: None, ..get("http://192.0.2.1/") });
    assert_eq!(world.sleep(), REQUEST_TIMEOUT.as_millis());
    assert!(world.failure().contains("no answer in time"));
}
