//! By a proxy: the tunnel to an `https` peer, the absolute form for an `http` one, who hears which
//! credentials, and what is said when it fails.

use super::*;
use crate::proxy::{Exceptions, Proxy};

const CA: &str = "https://ca.example/directory";
const MARATHON: &str = "http://marathon.mesos:8080/v2/apps";
const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
/// `user:secret` in base64.
const ENCODED: &str = "dXNlcjpzZWNyZXQ=";

fn proxies(proxy: &str) -> Proxies {
    let proxy = Some(Proxy::parse(proxy).unwrap());
    Proxies { http: proxy.clone(), https: proxy, exceptions: Exceptions::default() }
}

/// A world behind a proxy at 192.0.2.9, which wants credentials.
fn behind() -> World {
    World::with_proxies(proxies("http://user:secret@192.0.2.9:3128"))
}

/// The same, with a request for the CA on its way and the proxy asked for a tunnel.
fn asking() -> (World, RequestId) {
    let mut world = behind();
    let id = world.send(get(CA));
    assert_eq!(world.outputs(), ["connect 1 192.0.2.9:3128"]);
    world.connected(1);
    assert_eq!(world.outputs(), ["send 1 CONNECT ca.example:443"]);
    (world, id)
}

/// The same, with TLS begun.
fn securing() -> (World, RequestId) {
    let (mut world, id) = asking();
    world.received(1, ESTABLISHED);
    assert_eq!(world.outputs(), ["secure 1 as ca.example by Marathon"]);
    (world, id)
}

/// All that is sent on the connections of a world, as text.
fn sent(world: &mut World) -> Vec<String> {
    let outputs = std::iter::from_fn(|| world.client.poll_output());
    let text = |output| match output {
        Output::Send { bytes, .. } => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        _ => None,
    };
    outputs.filter_map(text).collect()
}

/// What the proxy says to CONNECT, and how the request ends then: in the same words however the answer
/// is cut.
fn refused(answer: &str) -> String {
    let mut failures = Vec::new();
    for size in [1, answer.len()] {
        let (mut world, _) = asking();
        for piece in answer.as_bytes().chunks(size) {
            world.received(1, std::str::from_utf8(piece).unwrap());
        }
        failures.push(world.failure());
        assert_eq!(world.outputs().last().map(String::as_str), Some("close 1"), "{answer:?}");
        assert_eq!(world.client.poll_timeout(), None);
    }
    failures.dedup();
    assert_eq!(failures.len(), 1, "{failures:?}");
    let failure = failures.remove(0);
    assert!(!failure.contains("secret") && !failure.contains(ENCODED), "{failure}");
    failure
        .strip_prefix("https://ca.example: proxy http://192.0.2.9:3128 (192.0.2.9:3128): ")
        .unwrap_or_else(|| panic!("{failure}"))
        .to_string()
}

#[test]
fn an_https_peer_is_reached_through_a_tunnel() {
    let answers = [
        ESTABLISHED,
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 201\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    for answer in answers {
        let (mut world, id) = asking();
        for at in 0..answer.len() {
            assert_eq!(world.outputs(), Vec::<String>::new());
            world.received(1, &answer[at..=at]);
        }
        assert_eq!(world.outputs(), ["secure 1 as ca.example by Marathon"], "{answer:?}");
        world.connected(1);
        assert_eq!(world.outputs(), ["send 1 GET /directory"]);
        world.received(1, OK);
        assert_eq!(world.events(), [(id, ok())]);
        assert_eq!(world.outputs(), Vec::<String>::new(), "it is kept");
    }
}

#[test]
fn an_http_peer_is_asked_for_by_its_whole_url() {
    let mut world = behind();
    let id = world.send(get(MARATHON));
    assert_eq!(world.outputs(), ["connect 1 192.0.2.9:3128"]);
    world.connected(1);
    assert_eq!(world.outputs(), [format!("send 1 GET {MARATHON}")]);
    world.received(1, OK);
    assert_eq!(world.events(), [(id, ok())]);
}

#[test]
fn the_proxys_credentials_are_the_proxys_and_the_peers_the_peers() {
    let mut world = behind();
    world.send(get("https://me:own@ca.example/directory"));
    world.connected(1);
    let [connect] = &sent(&mut world)[..] else { panic!("one CONNECT") };
    assert!(connect.contains(&format!("\r\nProxy-Authorization: Basic {ENCODED}\r\n")));
    assert!(!connect.contains("\r\nAuthorization:"), "{connect}");
    world.received(1, ESTABLISHED);
    world.connected(1);
    let [request] = &sent(&mut world)[..] else { panic!("one request") };
    assert!(request.contains("\r\nAuthorization: Basic bWU6b3du\r\n"), "{request}");
    assert!(!request.contains("Proxy-") && !request.contains(ENCODED), "{request}");

    world.send(get("http://me:own@marathon.mesos:8080/v2/apps"));
    world.connected(2);
    let [request] = &sent(&mut world)[..] else { panic!("one request") };
    assert!(request.contains(&format!("\r\nProxy-Authorization: Basic {ENCODED}\r\n")));
    assert!(request.contains("\r\nAuthorization: Basic bWU6b3du\r\n"), "{request}");
}

#[test]
fn nothing_is_shown_of_the_credentials() {
    let (mut world, _) = asking();
    let shown = format!("{:?}", world.client.proxies);
    assert!(shown.contains("192.0.2.9") && !shown.contains("secret"), "{shown}");
    world.closed(1, CloseReason::Reset);
    let events = format!("{:?}", world.events());
    assert!(events.contains("192.0.2.9") && !events.contains("secret"), "{events}");
}

#[test]
fn a_refusal_is_told_to_be_the_proxys() {
    let cases = [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            "status 407: user and password in the proxy's URL are missing or wrong",
        ),
        (
            "HTTP/1.0 403 Forbidden\r\nContent-Length: 9\r\n\r\n",
            "status 403: it does not allow this",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "status 502: it does not reach the other end"),
        ("HTTP/1.1 405 No\r\n\r\n", "status 405: is this the URL of an HTTP proxy?"),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://login/\r\n\r\n",
            "status 302: it makes no tunnel",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "not HTTP/1.0 or HTTP/1.1"),
        ("HTTP/1.1 101 Switching\r\n\r\n", "101 without having been asked to switch"),
    ];
    for (answer, words) in cases {
        assert_eq!(refused(answer), words);
    }
}

#[test]
fn what_comes_in_the_clear_is_never_taken_for_the_peers() {
    let behind = [OK, "x", "\u{16}\u{3}\u{3}"];
    for bytes in behind {
        let words = refused(&format!("{ESTABLISHED}{bytes}"));
        assert_eq!(words, "bytes behind the answer to CONNECT");
    }
}

#[test]
fn a_proxy_that_closes_or_is_not_there_gives_way_to_its_next_address() {
    let mut world = World::with_proxies(proxies("proxy:3128"));
    let id = world.send(get(CA));
    assert_eq!(world.outputs(), ["load"]);
    world.hosts(
        "192.0.2.1 proxy\n192.0.2.2 proxy\n192.0.2.3 proxy\n192.0.2.4 proxy\n192.0.2.5 ca.example",
    );
    assert_eq!(world.outputs(), ["connect 1 192.0.2.1:3128"]);
    world.closed(1, CloseReason::Refused);
    assert_eq!(world.outputs(), ["connect 2 192.0.2.2:3128"]);
    world.connected(2);
    world.received(2, "HTTP/1.1 200 OK\r\n");
    world.closed(2, CloseReason::Finished);
    assert_eq!(world.outputs()[1..], ["connect 3 192.0.2.3:3128"]);
    world.connected(3);
    world.received(3, ESTABLISHED);
    assert_eq!(world.sleep(), u128::from(Duration::from_secs(10).as_millis() as u64 / 2));
    assert_eq!(world.outputs()[2..], ["close 3", "connect 4 192.0.2.4:3128"]);
    world.connected(4);
    world.received(4, ESTABLISHED);
    world.connected(4);
    world.received(4, OK);
    assert_eq!(world.events(), [(id, ok())]);
}

#[test]
fn the_time_limit_holds_over_each_step() {
    let (mut world, _) = asking();
    assert_eq!(world.sleep(), 10_000);
    let begin = "https://ca.example: proxy http://192.0.2.9:3128: cannot connect: 192.0.2.9:3128: ";
    assert_eq!(world.failure(), format!("{begin}no answer in time"));
    assert_eq!(world.outputs(), ["close 1"]);

    let (mut world, _) = securing();
    assert_eq!(world.sleep(), 10_000);
    assert_eq!(world.failure(), format!("{begin}no answer in time"));

    let (mut world, _) = securing();
    world.pass(9000);
    world.connected(1);
    world.outputs();
    assert_eq!(world.sleep(), 1000);
    let words = "https://ca.example by proxy http://192.0.2.9:3128 (192.0.2.9:3128): it did not answer \
                 within 10.0s";
    assert_eq!(world.failure(), words);
}

#[test]
fn an_error_says_whose_it_is() {
    let (mut world, _) = asking();
    world.closed(1, CloseReason::Finished);
    let words = "https://ca.example: proxy http://192.0.2.9:3128: cannot connect: 192.0.2.9:3128: the \
                 peer closed the connection";
    assert_eq!(world.failure(), words);

    // The certificate is the far end's.
    let (mut world, _) = securing();
    world.closed(1, CloseReason::Tls("invalid peer certificate".into()));
    let words = "https://ca.example by proxy http://192.0.2.9:3128: cannot connect: 192.0.2.9:3128: TLS: \
                 invalid peer certificate";
    assert_eq!(world.failure(), words);

    let (mut world, _) = securing();
    world.connected(1);
    world.closed(1, CloseReason::Reset);
    let words = "https://ca.example by proxy http://192.0.2.9:3128 (192.0.2.9:3128): the connection was \
                 reset before the response was complete";
    assert_eq!(world.failure(), words);

    let mut world = World::with_proxies(proxies("no-such-proxy"));
    world.send(get(MARATHON));
    world.hosts("");
    let timeout = world.client.poll_timeout();
    assert!(timeout.is_some() && !world.outputs().is_empty());
    let mut steps = crate::testing::Steps::default();
    while world.client.poll_timeout().is_some() {
        steps.count();
        world.sleep();
    }
    let failure = world.failure();
    let begin = "http://marathon.mesos:8080: proxy http://no-such-proxy:1080: ";
    assert!(failure.starts_with(begin), "{failure}");
}

#[test]
fn a_407_to_an_absolute_form_is_the_proxys() {
    let answer = |world: &mut World, status: u16| {
        world.connected(1);
        world.received(1, &format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    };
    let mut world = behind();
    world.send(get(MARATHON));
    answer(&mut world, 407);
    let words = "http://marathon.mesos:8080: proxy http://192.0.2.9:3128 (192.0.2.9:3128): status 407: \
                 user and password in the proxy's URL are missing or wrong";
    assert_eq!(world.failure(), words);
    assert_eq!(world.outputs().last().map(String::as_str), Some("close 1"));
    // Of these nobody can tell, and a direct peer's are its own.
    for (mut world, status) in [(behind(), 502), (World::new(), 407)] {
        let id = world.send(get("http://192.0.2.1/"));
        answer(&mut world, status);
        assert_eq!(world.events(), [(id, whole(status, &[("Content-Length", "0")], ""))]);
    }
}

#[test]
fn a_kept_connection_is_for_its_way_alone() {
    let (mut world, _) = securing();
    world.connected(1);
    world.received(1, OK);
    world.outputs();
    world.events();
    // The tunnel serves the same peer again, without asking the proxy.
    world.send(get(CA));
    assert_eq!(world.outputs(), ["send 1 GET /directory"]);
    world.received(1, OK);
    // Neither another peer nor a request that goes straight.
    for (conn, other) in [
        (2, get("https://other.example/")),
        (3, get("http://ca.example:443/")),
        (4, Outgoing { address: Some([192, 0, 2, 9].into()), ..get(CA) }),
        (5, Outgoing { trust: Trust::Acme, ..get(CA) }),
    ] {
        world.send(other);
        assert!(world.outputs()[0].starts_with(&format!("connect {conn} ")));
    }
    // Nor, were it so, one that goes by another proxy, or straight.
    for other in [proxies("192.0.2.9:3129"), proxies("me:other@192.0.2.9:3128"), Proxies::default()]
    {
        let mut world = behind();
        world.exchange(1, get("http://192.0.2.1/"), OK);
        world.outputs();
        world.client.proxies = other;
        world.send(get("http://192.0.2.1/"));
        assert!(world.outputs()[0].starts_with("connect 2 "));
    }
}

#[test]
fn a_tunnel_that_died_idle_is_made_anew() {
    let (mut world, _) = securing();
    world.connected(1);
    world.received(1, OK);
    world.events();
    world.outputs();
    let id = world.send(get(CA));
    world.closed(1, CloseReason::Truncated);
    assert_eq!(world.outputs(), ["send 1 GET /directory", "connect 2 192.0.2.9:3128"]);
    world.connected(2);
    world.received(2, ESTABLISHED);
    world.connected(2);
    world.received(2, OK);
    assert_eq!(world.events(), [(id, ok())]);
}

#[test]
fn who_has_one_address_or_is_excepted_is_gone_to_straight() {
    let exceptions = Exceptions::parse("ca.example,10.0.0.0/8").unwrap();
    let mut world = World::with_proxies(Proxies { exceptions, ..proxies("192.0.2.9") });
    let address = Some([192, 0, 2, 7].into());
    world.send(Outgoing { address, ..get("http://marathon-lb.mesos:9090/") });
    world.send(Outgoing { address, ..get("https://marathon-lb.mesos:9090/") });
    world.send(get("https://10.1.2.3/"));
    world.send(get("http://127.0.0.1:8080/"));
    world.send(get("https://ca.example/"));
    let outputs = [
        "connect 1 192.0.2.7:9090",
        "connect 2 192.0.2.7:9090 as marathon-lb.mesos by Marathon",
        "connect 3 10.1.2.3:443 as 10.1.2.3 by Marathon",
        "connect 4 127.0.0.1:8080",
        "load",
    ];
    assert_eq!(world.outputs(), outputs);
}

#[test]
fn a_cancelled_request_lets_go_of_its_tunnel() {
    for (mut world, id) in [asking(), securing()] {
        world.with(|client, _| client.cancel(id));
        assert_eq!(world.outputs(), ["close 1"]);
        world.received(1, ESTABLISHED);
        assert_eq!((world.outputs().len(), world.events().len()), (0, 0));
        assert_eq!(world.client.poll_timeout(), None);
    }
}
