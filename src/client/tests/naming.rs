//! From names to addresses: configuration, sockets and connections of the resolver's queries.

use super::*;

const URL: &str = "http://asked.example/";
const SERVER: &str = "192.0.2.53:53";
const ADDRESS: [u8; 4] = [192, 0, 2, 1];

/// How the name server answers.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Address,
    NoSuchName,
    Truncated,
}

/// The answer to a query (RFC 1035 section 4.1); to a question for AAAA there is no record.
fn answer(query: &[u8], says: Says) -> Vec<u8> {
    let name_length = query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let mut message = query[..12 + name_length + 4].to_vec();
    let asks_for_a = message[12 + name_length + 1] == 1;
    message[2] = 0x81 | if says == Says::Truncated { 0x02 } else { 0 };
    message[3] = 0x80 | if says == Says::NoSuchName { 3 } else { 0 };
    message[6..12].fill(0);
    if says == Says::Address && asks_for_a {
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend(ADDRESS);
    }
    message
}

/// Answers every datagram until there is none, and says what else is to be done.
fn serve(world: &mut World, says: Says) -> Vec<String> {
    let mut lines = Vec::new();
    let mut steps = crate::testing::Steps::default();
    while let Some(output) = world.client.poll_output() {
        steps.count();
        match output {
            Output::Datagram { socket, to, bytes } => {
                assert_eq!(to.to_string(), SERVER);
                let bytes = answer(&bytes, says);
                world.with(|client, cx| client.handle_datagram(cx, socket, to, &bytes));
            }
            Output::CloseSocket { .. } => {}
            other => lines.push(line(other)),
        }
    }
    lines
}

fn asked(outgoing: Outgoing) -> (World, RequestId) {
    let mut world = World::new();
    let id = world.send(outgoing);
    assert_eq!(world.outputs(), ["load"]);
    world.hosts("");
    (world, id)
}

#[test]
fn the_configuration_is_read_before_the_first_lookup_and_again_when_it_is_old() {
    let mut world = World::new();
    world.send(get("http://a.example/"));
    world.resolve("b.example");
    assert_eq!(world.outputs(), ["load"], "one reading serves both");
    world.hosts("192.0.2.1 a.example\n192.0.2.2 b.example");
    assert_eq!(world.outputs(), ["connect 1 192.0.2.1:80"]);
    assert_eq!(world.events().len(), 1);

    world.now = world.now + NAME_SERVICE_AGE_MAX;
    world.send(get("http://b.example/"));
    assert_eq!(world.outputs(), ["connect 2 192.0.2.2:80"]);

    world.pass(1);
    world.send(get("http://b.example/"));
    assert_eq!(world.outputs(), ["load"]);
    world.hosts("192.0.2.3 b.example");
    assert_eq!(world.outputs(), ["connect 3 192.0.2.3:80"], "what is new counts");
}

#[test]
fn a_host_is_resolved_to_all_its_addresses() {
    let mut world = World::new();
    let literal = world.resolve("[2001:db8::1]");
    let address = "2001:db8::1".parse().unwrap();
    assert_eq!(world.events(), [(literal, ClientEvent::Addresses(vec![address]))]);
    assert_eq!(world.outputs(), Vec::<String>::new());

    let name = world.resolve("lb.example");
    world.hosts("192.0.2.1 lb.example\n192.0.2.2 lb.example");
    let addresses = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from).to_vec();
    assert_eq!(world.events(), [(name, ClientEvent::Addresses(addresses))]);
    assert_eq!(world.client.poll_timeout(), None);
}

#[test]
fn the_name_server_is_asked_by_datagram() {
    let (mut world, _) = asked(get(URL));
    assert_eq!(serve(&mut world, Says::Address), ["connect 1 192.0.2.1:80"]);

    let (mut world, _) = asked(get(URL));
    assert_eq!(serve(&mut world, Says::NoSuchName), Vec::<String>::new());
    assert!(world.failure().starts_with("http://asked.example: "));

    let mut world = World::new();
    let id = world.resolve("asked.example");
    world.outputs();
    world.hosts("");
    serve(&mut world, Says::Address);
    assert_eq!(world.events(), [(id, ClientEvent::Addresses(vec![ADDRESS.into()]))]);
    world.resolve("gone.example");
    serve(&mut world, Says::NoSuchName);
    assert!(world.failure().starts_with("gone.example: "));
    assert_eq!(world.client.poll_timeout(), None);
}

/// Every socket that was opened, less those that were closed.
fn open_sockets(world: &mut World) -> Vec<SocketId> {
    let mut open = Vec::new();
    let mut steps = crate::testing::Steps::default();
    while let Some(output) = world.client.poll_output() {
        steps.count();
        match output {
            Output::Datagram { socket, .. } if !open.contains(&socket) => open.push(socket),
            Output::CloseSocket { socket } => open.retain(|each| *each != socket),
            _ => {}
        }
    }
    open
}

#[test]
fn an_answered_lookup_leaves_no_socket_open() {
    let (mut world, _) = asked(get(URL));
    let mut open = Vec::new();
    let mut steps = crate::testing::Steps::default();
    while let Some(output) = world.client.poll_output() {
        steps.count();
        match output {
            Output::Datagram { socket, to, bytes } => {
                open.push(socket);
                let bytes = answer(&bytes, Says::Address);
                world.with(|client, cx| client.handle_datagram(cx, socket, to, &bytes));
            }
            Output::CloseSocket { socket } => open.retain(|each| *each != socket),
            _ => {}
        }
    }
    assert_eq!(open, []);
}

#[test]
fn a_lookup_that_is_given_up_leaves_no_socket_open() {
    let (mut world, id) = asked(get(URL));
    world.client.cancel(id);
    assert_eq!(open_sockets(&mut world), []);
    assert_eq!((world.events().len(), world.client.poll_timeout()), (0, None));

    let timeout = Some(Duration::from_secs(1));
    let (mut world, _) = asked(Outgoing { timeout, ..get(URL) });
    let mut steps = crate::testing::Steps::default();
    while world.client.poll_timeout().is_some() {
        steps.count();
        world.sleep();
    }
    assert_eq!(open_sockets(&mut world), []);
    let text = "http://asked.example: no name server answered (192.0.2.53: no reply)";
    assert_eq!(world.failure(), text);
}

#[test]
fn a_refused_datagram_ends_the_lookup_without_waiting() {
    let (mut world, _) = asked(get(URL));
    let mut open = Vec::new();
    while let Some(output) = world.client.poll_output() {
        match output {
            Output::Datagram { socket, .. } => {
                open.push(socket);
                let reason = CloseReason::Refused;
                world.with(|it, cx| it.handle_socket_failed(cx, socket, reason));
            }
            Output::CloseSocket { socket } => open.retain(|each| *each != socket),
            _ => {}
        }
    }
    assert_eq!((open, world.client.poll_timeout()), (vec![], None));
    let text =
        "http://asked.example: no name server answered (192.0.2.53: the connection was refused)";
    assert_eq!(world.failure(), text);
    // What comes for a socket that is closed has no effect.
    let reason = CloseReason::Refused;
    world.with(|it, cx| it.handle_socket_failed(cx, SocketId(9), reason));
    assert_eq!(world.outputs(), Vec::<String>::new());
}

#[test]
fn a_truncated_answer_is_asked_for_again_by_stream() {
    for closes in [false, true] {
        let (mut world, _) = asked(get(URL));
        serve(&mut world, Says::Truncated);
        let mut connected = false;
        // A and AAAA may each have a connection: all are served in turn.
        for conn in 1..=2 {
            world.connected(conn);
            let mut steps = crate::testing::Steps::default();
            while let Some(output) = world.client.poll_output() {
                steps.count();
                match output {
                    Output::Send { conn: ConnId::Dialed(number), bytes } => {
                        let message = answer(&bytes[2..], Says::Address);
                        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
                        let reply = [&length[..], &message].concat();
                        let conn = ConnId::Dialed(number);
                        for byte in reply.chunks(1) {
                            world.with(|it, cx| it.handle_received(cx, conn, byte));
                        }
                        if closes {
                            world.closed(number, CloseReason::Finished);
                        }
                    }
                    Output::Connect { to, .. } => connected |= to.to_string() == "192.0.2.1:80",
                    _ => {}
                }
            }
        }
        assert!(connected, "the stream's answer is used");
    }
}

#[test]
fn a_name_server_that_refuses_the_stream_does_not_hold_the_request_up_for_ever() {
    let (mut world, _) = asked(get(URL));
    for _ in 0..100 {
        let lines = serve(&mut world, Says::Truncated);
        for line in lines {
            let conn = line.split(' ').nth(1).unwrap().parse().unwrap();
            world.closed(conn, CloseReason::Refused);
        }
        if world.client.poll_timeout().is_none() {
            break;
        }
        world.sleep();
    }
    assert!(world.failure().starts_with("http://asked.example: "));
}
