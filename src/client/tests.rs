//! The client driven by hand: inputs and bytes in, outputs and events out.

use super::*;
use crate::domain::Domain;
use crate::http::{Headers, Method};
use crate::keys::{AccountKey, CertificateRequest, KeyError, KeyType, Keys};
use crate::log::Record;
use crate::machine::Load;
use crate::secret::Secret;
use crate::time::{Now, UnixTime};
use crate::url::Url;

mod connecting;
mod keeping;
mod naming;
mod proxied;
mod streaming;
mod waiting;

/// Chance that is none; keys are not asked for here.
struct Counter(u64);

impl Keys for Counter {
    fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0
    }

    fn read_account_key(&mut self, _: &Secret) -> Result<AccountKey, KeyError> {
        Err(KeyError::Failed)
    }

    fn new_account_key(&mut self) -> Result<Secret, KeyError> {
        Err(KeyError::Failed)
    }

    fn sign(&mut self, _: &AccountKey, _: &[u8]) -> Result<Vec<u8>, KeyError> {
        Err(KeyError::Failed)
    }

    fn certificate_request(
        &mut self,
        _: &[Domain],
        _: KeyType,
    ) -> Result<CertificateRequest, KeyError> {
        Err(KeyError::Failed)
    }

    fn fallback(&mut self, _: UnixTime) -> Result<Secret, KeyError> {
        Err(KeyError::Failed)
    }
}

/// A client, and the world around it.
struct World {
    client: Client<()>,
    now: Instant,
    keys: Counter,
    log: Vec<Record>,
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// The answer to `OK`'s request.
fn ok() -> ClientEvent {
    whole(200, &[("Content-Length", "2")], "ok")
}

fn whole(status: u16, fields: &[(&str, &str)], body: &str) -> ClientEvent {
    let head = head(status, fields);
    ClientEvent::Response(Response { head, body: body.into() })
}

fn head(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.push(name, value);
    }
    ResponseHead { status, headers }
}

fn request(method: Method, url: &str) -> Outgoing {
    Outgoing {
        request: Request::new(method, Url::parse(url).unwrap()),
        trust: Trust::Marathon,
        timeout: Some(Duration::from_secs(10)),
        silence: None,
        address: None,
        delivery: Delivery::Whole { body_bytes_max: 100 },
    }
}

fn get(url: &str) -> Outgoing {
    request(Method::Get, url)
}

fn post(url: &str) -> Outgoing {
    request(Method::Post, url)
}

impl World {
    fn new() -> World {
        World::with_proxies(Proxies::default())
    }

    fn with_proxies(proxies: Proxies) -> World {
        let now = Instant::START + Duration::from_secs(1000);
        World { client: Client::new(proxies), now, keys: Counter(1), log: Vec::new() }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Client<()>, &mut Context<'_>) -> T) -> T {
        let now = Now { mono: self.now, wall: UnixTime::from_seconds(0) };
        let mut cx = Context { now, keys: &mut self.keys, log: &mut self.log };
        act(&mut self.client, &mut cx)
    }

    fn send(&mut self, outgoing: Outgoing) -> RequestId {
        self.with(|client, cx| client.send(cx, (), outgoing))
    }

    fn resolve(&mut self, name: &str) -> RequestId {
        let host = Url::parse(&format!("http://{name}/")).unwrap().origin().host.clone();
        self.with(|client, cx| client.resolve(cx, (), &host))
    }

    fn connected(&mut self, conn: u64) {
        self.with(|client, cx| client.handle_connected(cx, ConnId::Dialed(conn)));
    }

    fn received(&mut self, conn: u64, bytes: &str) {
        let conn = ConnId::Dialed(conn);
        self.with(|client, cx| client.handle_received(cx, conn, bytes.as_bytes()));
    }

    fn closed(&mut self, conn: u64, reason: CloseReason) {
        self.with(|client, cx| client.handle_closed(cx, ConnId::Dialed(conn), reason));
    }

    fn hosts(&mut self, hosts: &str) {
        self.with(|client, cx| {
            client.handle_name_service(cx, b"nameserver 192.0.2.53\n", hosts.as_bytes());
        });
    }

    /// Lets time pass, without telling the client.
    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    /// Goes to the client's next instant and says how long that took, in milliseconds.
    fn sleep(&mut self) -> u128 {
        let until = self.client.poll_timeout().expect("the client waits for something");
        let slept = until.since(self.now).as_millis();
        self.now = self.now.max(until);
        self.with(|client, cx| client.handle_timeout(cx));
        slept
    }

    /// What is to be done, a line each.
    fn outputs(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut steps = crate::testing::Steps::default();
        while let Some(output) = self.client.poll_output() {
            steps.count();
            lines.push(line(output));
        }
        lines
    }

    fn events(&mut self) -> Vec<(RequestId, ClientEvent)> {
        let event = || self.client.poll_event().map(|((), id, event)| (id, event));
        std::iter::from_fn(event).collect()
    }

    /// The one failure that there is to tell, as the operator reads it.
    fn failure(&mut self) -> String {
        match self.events().as_slice() {
            [(_, ClientEvent::Failed(error))] => error.to_string(),
            other => panic!("not one failure: {other:?}"),
        }
    }

    /// Sends a request to a literal address on a fresh connection and lets it have its answer.
    fn exchange(&mut self, conn: u64, outgoing: Outgoing, response: &str) {
        let id = self.send(outgoing);
        assert!(self.outputs().iter().any(|line| line.starts_with(&format!("connect {conn} "))));
        self.connected(conn);
        self.received(conn, response);
        let events = self.events();
        assert!(matches!(&events[..], [(it, ClientEvent::Response(_))] if *it == id));
    }
}

fn line(output: Output) -> String {
    let number = |conn| match conn {
        ConnId::Dialed(number) | ConnId::Accepted(number) => number,
    };
    match output {
        Output::Connect { conn, to, tls: None } => format!("connect {} {to}", number(conn)),
        Output::Connect { conn, to, tls: Some(tls) } => {
            format!("connect {} {to} as {} by {:?}", number(conn), tls.server, tls.trust)
        }
        Output::Secure { conn, tls } => {
            format!("secure {} as {} by {:?}", number(conn), tls.server, tls.trust)
        }
        Output::Send { conn, bytes } => {
            let text = String::from_utf8_lossy(&bytes);
            format!("send {} {}", number(conn), text.split(" HTTP/1.1\r\n").next().unwrap())
        }
        Output::Close { conn, .. } => format!("close {}", number(conn)),
        Output::Load(Load::NameService) => "load".into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_literal_needs_no_resolver_and_a_response_may_come_byte_by_byte() {
    for url in ["http://192.0.2.1:8080/v2/apps", "http://[2001:db8::1]:8080/v2/apps"] {
        let authority = &url[7..url.len() - 8];
        let mut world = World::new();
        let id = world.send(get(url));
        assert_eq!(world.outputs(), [format!("connect 1 {authority}")]);
        world.connected(1);
        assert_eq!(world.outputs(), ["send 1 GET /v2/apps"]);
        let response = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n\
                        Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n4\r\nbody\r\n0\r\n\r\n";
        for at in 0..response.len() {
            assert_eq!(world.events(), []);
            world.received(1, &response[at..=at]);
        }
        assert_eq!(
            world.events(),
            [(id, whole(404, &[("Transfer-Encoding", "chunked")], "nobody"))]
        );
        assert_eq!(world.outputs(), Vec::<String>::new());
    }
}

#[test]
fn a_field_that_is_left_out_is_named() {
    let mut world = World::new();
    let id = world.send(get("http://user:secret@192.0.2.1/path"));
    world.connected(1);
    world.received(1, "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok");
    assert!(matches!(&world.events()[..], [(of, ClientEvent::Response(_))] if *of == id));
    let line = Record::debug("http", "malformed field left out").with("name", "no colon");
    assert_eq!(world.log, [line.with("url", "http://192.0.2.1")]);
}

#[test]
fn tls_is_judged_by_the_urls_host_whatever_the_address() {
    let mut world = World::new();
    world.send(Outgoing {
        address: Some([192, 0, 2, 7].into()),
        trust: Trust::Acme,
        ..get("https://ca.example/directory")
    });
    assert_eq!(world.outputs(), ["connect 1 192.0.2.7:443 as ca.example by Acme"]);
}

#[test]
fn side_by_side_requests_get_their_own_answers() {
    let mut world = World::new();
    let first = world.send(get("http://192.0.2.1/a"));
    let second = world.send(get("http://192.0.2.1/b"));
    world.connected(2);
    world.connected(1);
    let connects = ["connect 1 192.0.2.1:80", "connect 2 192.0.2.1:80"];
    assert_eq!(world.outputs(), [&connects[..], &["send 2 GET /b", "send 1 GET /a"]].concat());
    world.received(2, "HTTP/1.1 204 x\r\n\r\n");
    world.received(1, OK);
    assert_eq!(world.events(), [(second, whole(204, &[], "")), (first, ok())]);
}

#[test]
fn a_request_that_cannot_be_written_fails_by_event() {
    let mut world = World::new();
    let mut outgoing = get("http://192.0.2.1/");
    outgoing.request = outgoing.request.with_header("X", "a\r\nY: b");
    world.send(outgoing);
    assert_eq!(world.outputs(), Vec::<String>::new());
    assert_eq!(world.failure(), "http://192.0.2.1: the field \"X\" cannot be sent");
}

#[test]
fn responses_that_are_of_no_use_fail_and_close() {
    let ambiguous = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let counted = format!("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n{}", "x".repeat(101));
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(101));
    let cases = [
        ("SSH-2.0-OpenSSH_9.2\r\n", "not HTTP/1.0 or HTTP/1.1"),
        (ambiguous, "Transfer-Encoding with Content-Length, HTTP/1.0 or no chunked end"),
        (&counted, "the response is larger than 100 bytes"),
        (&endless, "the response is larger than 100 bytes"),
    ];
    for (response, text) in cases {
        for size in [1, response.len()] {
            let mut world = World::new();
            world.send(get("http://user:secret@192.0.2.1/path"));
            world.connected(1);
            world.outputs();
            for piece in response.as_bytes().chunks(size) {
                world.received(1, std::str::from_utf8(piece).unwrap());
            }
            assert_eq!(world.failure(), format!("http://192.0.2.1 (192.0.2.1:80): {text}"));
            assert_eq!(world.outputs(), ["close 1"]);
            assert_eq!(world.client.poll_timeout(), None);
        }
    }
}

#[test]
fn a_connection_that_ends_early_fails_its_request() {
    let cases = ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"];
    for response in cases {
        let mut world = World::new();
        world.send(get("http://192.0.2.1/"));
        world.connected(1);
        world.outputs();
        if !response.is_empty() {
            world.received(1, response);
        }
        world.closed(1, CloseReason::Reset);
        let text = "the connection was reset before the response was complete";
        assert_eq!(world.failure(), format!("http://192.0.2.1 (192.0.2.1:80): {text}"));
        assert_eq!(world.outputs(), Vec::<String>::new(), "nothing is closed twice or tried again");
    }
}

#[test]
fn a_body_without_length_ends_with_an_orderly_close_only() {
    for reason in [CloseReason::Finished, CloseReason::Truncated, CloseReason::Reset] {
        let mut world = World::new();
        let id = world.send(get("http://192.0.2.1/"));
        world.connected(1);
        world.outputs();
        world.received(1, "HTTP/1.1 200 OK\r\n\r\nall of it");
        assert_eq!(world.events(), []);
        world.closed(1, reason.clone());
        if reason == CloseReason::Finished {
            assert_eq!(world.events(), [(id, whole(200, &[], "all of it"))]);
        } else {
            assert!(world.failure().ends_with("before the response was complete"));
        }
        assert_eq!(world.outputs(), Vec::<String>::new());
    }
}

#[test]
fn inputs_of_connections_that_nobody_has_are_passed_over() {
    let mut world = World::new();
    world.connected(9);
    world.received(9, "x");
    world.closed(9, CloseReason::Reset);
    world.with(|it, cx| it.handle_datagram(cx, SocketId(9), ([192, 0, 2, 1], 53).into(), b"x"));
    world.with(|it, cx| it.handle_timeout(cx));
    assert_eq!((world.outputs().len(), world.events().len()), (0, 0));
    assert_eq!(world.client.poll_timeout(), None);
}
