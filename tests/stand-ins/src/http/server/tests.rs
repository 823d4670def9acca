//! The stand-ins' server: framing as real peers write it.

use super::*;

/// Everything that the server sent so far, and whether it ended the connection.
fn sent(server: &mut Server) -> (String, bool) {
    let (mut bytes, mut ended) = (Vec::new(), false);
    while let Some(action) = server.poll() {
        match action {
            Action::Send { bytes: more, .. } => bytes.extend(more),
            Action::Close { .. } => ended = true,
            Action::Dial { .. } => panic!("a server does not dial"),
        }
    }
    (String::from_utf8(bytes).unwrap(), ended)
}

fn fed(bytes: &str) -> Server {
    let mut server = Server::default();
    server.accepted(1);
    server.received(1, bytes.as_bytes());
    server
}

const POST: &str = "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";

#[test]
fn a_request_whole_and_byte_by_byte() {
    let whole = fed(POST).next_request().unwrap();
    assert_eq!((&*whole.method, whole.path(), &whole.body[..]), ("POST", "/a", &b"abc"[..]));
    assert_eq!(whole.header("HOST"), Some("x"));

    let mut server = Server::default();
    server.accepted(1);
    for byte in POST.as_bytes() {
        assert_eq!(server.next_request(), None);
        server.received(1, &[*byte]);
    }
    assert_eq!(server.next_request(), Some(whole));
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let mut server = fed(&format!("{POST}GET /b HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!(server.next_request().unwrap().path(), "/a");
    assert_eq!(server.next_request(), None, "the second waits for the first's reply");
    server.reply_at(50, 1, Reply::new(200, "text/plain", "one"));
    server.timeout(49);
    assert_eq!(sent(&mut server).0, "");
    assert_eq!(server.next_timeout(), Some(50));
    server.timeout(50);
    assert_eq!(server.next_request().unwrap().path(), "/b");
    server.reply(1, &Reply::empty(204));
    let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\none\
                    HTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(sent(&mut server), (expected.to_string(), false));
}

#[test]
fn a_chunked_request_and_a_chunked_reply() {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut server = fed(&format!("{head}3\r\nabc\r\n0\r\n\r\n"));
    assert_eq!(server.next_request().unwrap().body, b"abc");
    let body = Body::Chunked(b"hello".to_vec(), 3);
    server.reply(1, &Reply { status: 200, headers: Vec::new(), body });
    let expected =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    assert_eq!(sent(&mut server), (expected.to_string(), false));
}

#[test]
fn a_head_reply_has_the_length_and_no_body() {
    let mut server = fed("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    server.reply(1, &Reply::new(200, "text/plain", "body"));
    assert!(sent(&mut server).0.ends_with("Content-Length: 4\r\n\r\n"));
}

#[test]
fn a_connection_ends_when_either_side_says_so() {
    let mut server = fed("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    server.reply(1, &Reply::empty(200));
    let (text, ended) = sent(&mut server);
    assert!(ended && text.contains("Connection: close\r\n"), "{text}");

    let mut server = fed("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let body = Body::Cut(b"hello".to_vec(), 2);
    server.reply(1, &Reply { status: 200, headers: Vec::new(), body });
    let (text, ended) = sent(&mut server);
    assert!(ended && text.ends_with("Content-Length: 5\r\n\r\nhe"), "{text}");

    let mut server = fed("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let body = Body::UntilClose(vec![b"hel".to_vec(), b"lo".to_vec()]);
    server.reply(1, &Reply { status: 200, headers: Vec::new(), body });
    assert_eq!(server.reply_ends(1), [24]);
    assert_eq!(sent(&mut server), ("HTTP/1.1 200 OK\r\n\r\nhello".to_string(), true));
}

#[test]
fn the_body_is_asked_for_when_the_client_waits() {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut server = fed(head);
    assert_eq!(sent(&mut server).0, "HTTP/1.1 100 Continue\r\n\r\n");
    server.received(1, b"a");
    assert_eq!(sent(&mut server).0, "", "once is enough");
    server.received(1, b"b");
    assert_eq!(server.next_request().unwrap().body, b"ab");
}

#[test]
fn bad_requests_are_answered_and_cut() {
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nLong: {}\r\n\r\n", "x".repeat(20_000));
    let cases = [
        ("\u{1}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", 413),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (&long, 431),
    ];
    for (bytes, status) in cases {
        let mut server = fed(bytes);
        assert_eq!(server.next_request(), None);
        let (text, ended) = sent(&mut server);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {text}");
        assert!(ended);
    }
}

#[test]
fn a_client_that_leaves_gets_nothing() {
    let mut server = fed(POST);
    server.reply_at(5, 1, Reply::empty(200));
    server.closed(1);
    assert_eq!(server.next_request(), None);
    server.timeout(5);
    assert_eq!(sent(&mut server), (String::new(), false));
}
