//! Requests as a peer may send them: whole, byte by byte, pipelined, malformed, too large.

use super::super::head::REQUEST_HEAD_BYTES_MAX;
use super::super::splits::splits;
use super::*;

/// Answers every request at once with `METHOD TARGET`; what was sent, and whether we closed.
fn serve(pieces: &[&[u8]]) -> (String, bool) {
    let (mut connection, mut sent, mut closed) = (ServerConnection::new(), Vec::new(), false);
    for piece in pieces {
        connection.receive(piece);
        while let Some(event) = connection.poll() {
            assert!(!closed, "nothing follows the close");
            match event {
                ServerEvent::Request(request) => connection.respond(&echo(&request)),
                ServerEvent::Send(bytes) => sent.extend(bytes),
                ServerEvent::Close { .. } => closed = true,
            }
        }
    }
    (String::from_utf8(sent).unwrap(), closed)
}

fn echo(request: &ServerRequest) -> ServerResponse {
    ServerResponse::new(200, "text/plain", format!("{} {}", request.method, request.target))
}

fn answer(body: &str, connection: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         {connection}\r\n{body}"
    )
}

const CLOSE: &str = "Connection: close\r\n";

fn check(requests: &str, expected: &str, closed: bool) {
    for pieces in splits(requests.as_bytes()) {
        assert_eq!(serve(&pieces), (expected.to_string(), closed), "{requests:?}");
    }
}

fn check_refused(request: &str, status: u16) {
    for spare in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        for pieces in splits(format!("{request}{spare}").as_bytes()) {
            let (sent, closed) = serve(&pieces);
            let start = format!("HTTP/1.1 {status} ");
            assert!(sent.starts_with(&start) && closed, "{request:?} was answered {sent:?}");
            assert_eq!(sent.matches("HTTP/1.1").count(), 1, "{request:?}");
            assert!(sent.contains(CLOSE));
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let requests = "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\n\
                    Content-Length: 3\r\n\r\nabc\r\nGET /c?d HTTP/1.1\r\nHost: x\r\n\r\n";
    let expected = [answer("GET /a", ""), answer("POST /b", ""), answer("GET /c?d", "")].concat();
    check(requests, &expected, false);
}

#[test]
fn a_request_waits_for_the_answer_to_the_one_before() {
    let mut connection = ServerConnection::new();
    assert!(connection.awaits_peer());
    let two = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n";
    connection.receive(two);
    assert!(matches!(connection.poll(), Some(ServerEvent::Request(first)) if first.target == "/1"));
    assert_eq!(connection.poll(), None);
    assert!(!connection.awaits_peer());
    connection.receive(b"GET /3 HTTP/1.1\r\nHo");
    assert_eq!(connection.poll(), None);
    connection.respond(&ServerResponse::of_status(404));
    assert!(matches!(connection.poll(), Some(ServerEvent::Send(_))));
    assert!(
        matches!(connection.poll(), Some(ServerEvent::Request(second)) if second.target == "/2")
    );
    assert_eq!(connection.poll(), None);
    connection.respond(&ServerResponse::of_status(404));
    assert!(matches!(connection.poll(), Some(ServerEvent::Send(_))));
    assert_eq!(connection.poll(), None);
    assert!(connection.awaits_peer());
}

#[test]
fn an_answer_that_nobody_asked_for_is_not_sent() {
    let mut connection = ServerConnection::new();
    connection.respond(&ServerResponse::of_status(200));
    assert_eq!(connection.poll(), None);
}

#[test]
fn who_wants_the_connection_closed_gets_it_closed() {
    let after = "GET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    let closing = format!("GET /a HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n{after}");
    check(&closing, &answer("GET /a", CLOSE), true);
    check(&format!("GET /a HTTP/1.0\r\n\r\n{after}"), &answer("GET /a", CLOSE), true);
}

#[test]
fn a_peer_is_done_that_has_announced_its_end_and_says_nothing_behind_it() {
    let announced = "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let with_body = "POST /a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc";
    let flood = "x".repeat(PIPELINE_BYTES_MAX + 1);
    let cases = [
        ([announced, ""], true),
        ([with_body, ""], true),
        ([announced, "G"], false),
        ([announced, &flood], false),
        ([with_body, "\r\n"], false),
        (["GET / HTTP/9\r\n\r\n", ""], false),
    ];
    for ([request, behind], expected) in cases {
        let mut connection = ServerConnection::new();
        connection.receive(request.as_bytes());
        connection.receive(behind.as_bytes());
        connection.respond(&ServerResponse::of_status(200));
        let last = std::iter::from_fn(|| connection.poll()).last();
        assert_eq!(last, Some(ServerEvent::Close { peer_is_done: expected }), "{request:?}");
    }
}

#[test]
fn head_is_answered_without_a_body() {
    let (sent, closed) = serve(&[b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"]);
    assert_eq!(
        (sent.as_str(), closed),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\n", false)
    );
}

#[test]
fn bodies_are_read_and_dropped() {
    let chunked = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\nT: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    check(chunked, &[answer("POST /a", ""), answer("GET /b", "")].concat(), false);
}

/// RFC 9110 section 10.1.1.
#[test]
fn who_expects_100_gets_it_when_there_is_a_body_to_come() {
    let with = |version: &str, length: usize| {
        format!(
            "POST /a HTTP/{version}\r\nHost: x\r\nExpect: 100-Continue\r\n\
             Content-Length: {length}\r\n\r\n{}",
            "b".repeat(length)
        )
    };
    let continued = format!("HTTP/1.1 100 Continue\r\n\r\n{}", answer("POST /a", ""));
    check(&with("1.1", 1), &continued, false);
    check(&with("1.1", 0), &answer("POST /a", ""), false);
    check(&with("1.0", 1), &answer("POST /a", CLOSE), true);
}

#[test]
fn a_large_body_is_refused_before_it_comes_or_as_it_comes() {
    let counted =
        |length: usize| format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
    check_refused(
        &format!("{}Expect: 100-continue\r\n\r\n", counted(REQUEST_BODY_BYTES_MAX + 1)),
        413,
    );
    let fits =
        format!("{}\r\n{}", counted(REQUEST_BODY_BYTES_MAX), "x".repeat(REQUEST_BODY_BYTES_MAX));
    assert_eq!(serve(&[fits.as_bytes()]), (answer("POST /", ""), false));

    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let chunks = chunk.repeat(REQUEST_BODY_BYTES_MAX / 0x1000 + 1);
    let chunked =
        format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    let (sent, closed) = serve(&chunked.as_bytes().chunks(100).collect::<Vec<_>>());
    assert!(sent.starts_with("HTTP/1.1 413 ") && closed);
}

#[test]
fn what_cannot_be_read_without_doubt_is_refused() {
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n", 400),
        ("GET where HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
            400,
        ),
    ];
    for (request, status) in cases {
        check_refused(request, status);
    }
}

/// RFC 9112 sections 6.1, 6.3 and 11.2: where two readers could see two different requests, neither of
/// them is answered. Each of these has a request behind it that must not be either.
#[test]
fn what_smuggles_is_refused() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let fields = [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 44",
        "Content-Length: 0, 44",
        "Content-Length: +5",
        "Content-Length: -0",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5.0",
        "Content-Length: \"5\"",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length : 5",
        "Content-Length\t: 5",
        " Content-Length: 5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\r\n : chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\0Transfer-Encoding: chunked",
    ];
    for field in fields {
        check_refused(&with(field), 400);
    }
    check_refused(&with("Content-Length: 18446744073709551615"), 413);
    let chunked = |chunks: &str| with("Transfer-Encoding: chunked") + chunks;
    for chunks in [
        "10000000000000000\r\n",
        "ffffffffffffffffffff\r\n",
        "-1\r\n",
        "+1\r\na\r\n",
        "0x1\r\na\r\n",
        "1\na\r\n",
        "1;a\n\r\na\r\n",
        "1\r\nab\r\n",
        "1\r\na0\r\n\r\n",
        "\r\n",
        "0\r\nGET /inner HTTP/1.1\r\n",
    ] {
        check_refused(&chunked(chunks), 400);
    }
    let endless = chunked("ffffffffffffffff\r\nGET /inner HTTP/1.1\r\nHost: a\r\n\r\n");
    check(&endless, "", false);
    check_refused(&(endless + &"x".repeat(REQUEST_BODY_BYTES_MAX)), 413);
}

/// What other protocols, and other versions of this one, say first.
#[test]
fn what_is_not_this_protocol_is_refused() {
    let cases = [
        ("GET /\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}\x03\x03", 400),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n", 505),
        ("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET a.example:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a:80/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    ];
    for (request, status) in cases {
        check_refused(request, status);
    }
}

/// A body is never read as a request, whatever the method.
#[test]
fn a_body_is_no_request() {
    let inner = "GET /inner HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = inner.len();
    let after = "GET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    for line in ["GET /a", "HEAD /a", "DELETE /a", "CONNECT x:80", "POST /a"] {
        let start = format!("{line} HTTP/1.1\r\nHost: x\r\n");
        let counted = format!("{start}Content-Length: {length}\r\n\r\n{inner}{after}");
        let chunk = format!("{length:x};x=\"y\"\r\n{inner}\r\n0\r\nX: y\r\n\r\n");
        let chunked = format!("{start}Transfer-Encoding: chunked\r\n\r\n{chunk}{after}");
        for requests in [counted, chunked] {
            for pieces in splits(requests.as_bytes()) {
                let (sent, closed) = serve(&pieces);
                assert!(!sent.contains("/inner") && sent.ends_with("GET /b"), "{sent:?}");
                assert_eq!((sent.matches("HTTP/1.1 200").count(), closed), (2, false));
            }
        }
    }
}

#[test]
fn a_head_over_its_limit_is_refused() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(REQUEST_HEAD_BYTES_MAX));
    for size in [1, 1000, long.len()] {
        let (sent, closed) = serve(&long.as_bytes().chunks(size).collect::<Vec<_>>());
        assert!(sent.starts_with("HTTP/1.1 431 ") && closed);
    }
    check_refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(100)), 431);
}

/// RFC 9112 section 3.2: all four forms.
#[test]
fn targets_come_out_in_origin_form() {
    let target = |request_line: &str| {
        let mut connection = ServerConnection::new();
        let host = "Host: a.example";
        connection.receive(format!("{request_line} HTTP/1.1\r\n{host}\r\n\r\n").as_bytes());
        match connection.poll() {
            Some(ServerEvent::Request(request)) => request.target,
            other => panic!("{request_line}: {other:?}"),
        }
    };
    assert_eq!(target("GET /a/../b?c=%20"), "/a/../b?c=%20");
    assert_eq!(target("GET http://a.example/b?c"), "/b?c");
    assert_eq!(target("GET HTTPS://A.example:443"), "/");
    assert_eq!(target("OPTIONS *"), "*");
    assert_eq!(target("CONNECT a.example:80"), "a.example:80");
}

/// HAProxy finds another path in these than a reader does who ends the authority at `?` or `#`.
#[test]
fn a_target_that_a_load_balancer_reads_otherwise_is_refused() {
    let challenges = "/.well-known/acme-challenge/";
    for start in ["u?@any.org", "any.org?", "any.org#", "u@any.org", "other.org", "any.org\\", ""] {
        for version in ["1.1\r\nHost: any.org", "1.0\r\nHost: any.org", "1.0"] {
            let request = format!("GET http://{start}{challenges} HTTP/{version}\r\n\r\n");
            check_refused(&request, 400);
        }
    }
    check_refused(&format!("GET http://any.org{challenges} HTTP/1.0\r\n\r\n"), 400);
    check_refused(&format!("GET /#{challenges} HTTP/1.0\r\n\r\n"), 400);
}

#[test]
fn a_request_knows_its_path_and_who_has_passed_it_on() {
    let request = |target: &str, fields: &str| {
        let mut connection = ServerConnection::new();
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        connection.receive(text.as_bytes());
        match connection.poll() {
            Some(ServerEvent::Request(request)) => request,
            other => panic!("{text}: {other:?}"),
        }
    };
    let asked = request("/a?b?c", "");
    assert_eq!((asked.path(), asked.query(), asked.is_forwarded()), ("/a", "b?c", false));
    assert_eq!(request("/a", "").query(), "");
    let fields =
        ["x-forwarded-for: ", "Forwarded: for=10.0.0.1", "X-REAL-IP: 10.0.0.1", "Via: 1.1 x"];
    for field in fields {
        assert!(request("/", &format!("{field}\r\n")).is_forwarded(), "{field}");
    }
    assert!(!request("/", "X-Forwarded-Port: 80\r\n").is_forwarded());
}

#[test]
fn a_peer_that_pipelines_without_end_gets_its_answer_and_no_other() {
    let request = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut connection = ServerConnection::new();
    connection.receive(request);
    assert!(matches!(connection.poll(), Some(ServerEvent::Request(_))));
    for _ in 0..1000 {
        connection.receive(&request.repeat(100));
        assert!(connection.buffer.len() <= PIPELINE_BYTES_MAX);
    }
    connection.respond(&ServerResponse::new(200, "text/plain", "late"));
    assert_eq!(connection.poll(), Some(ServerEvent::Send(answer("late", CLOSE).into_bytes())));
    assert_eq!(connection.poll(), Some(ServerEvent::Close { peer_is_done: false }));
    connection.receive(request);
    assert_eq!(connection.poll(), None);
    assert!(connection.buffer.is_empty());
}

#[test]
fn a_whole_pipeline_in_one_piece_is_served_within_the_limit() {
    let request = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    let count = PIPELINE_BYTES_MAX / request.len();
    let (sent, closed) = serve(&[request.repeat(count).as_bytes()]);
    assert_eq!((sent.matches("GET /a").count(), closed), (count, false));
}

#[test]
fn answers_to_one_piece_are_bounded() {
    let mut connection = ServerConnection::new();
    let (request, body) = (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1000));
    for _ in 0..3 {
        // As many as are within the limit, again and again.
        let (sent, closed) = flood(&mut connection, &request.repeat(30), &body);
        assert!(sent > 30_000 && sent < ANSWERS_BYTES_MAX && !closed, "{sent}");
    }
    let (sent, closed) = flood(&mut connection, &request.repeat(200), &body);
    assert!(closed && sent > ANSWERS_BYTES_MAX - 2000, "{sent}");
    assert!(sent < ANSWERS_BYTES_MAX + 2000, "{sent}");
}

/// Bytes sent in answer to one piece, and whether we closed.
fn flood(connection: &mut ServerConnection, piece: &[u8], body: &str) -> (usize, bool) {
    let (mut sent, mut closed) = (0, false);
    connection.receive(piece);
    while let Some(event) = connection.poll() {
        match event {
            ServerEvent::Request(_) => {
                connection.respond(&ServerResponse::new(200, "text/plain", body));
            }
            ServerEvent::Send(bytes) => sent += bytes.len(),
            ServerEvent::Close { .. } => closed = true,
        }
    }
    (sent, closed)
}
