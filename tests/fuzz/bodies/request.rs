//! What a client sends to the listener: any split gives the same requests and the same answers, what
//! is handed out is as safe as it says, our own reader understands every answer, and HAProxy finds the
//! same path in a request as we do.

use marathon_acme::http::{
    Exchange, ExchangeEvent, Method, REQUEST_BODY_BYTES_MAX, ServerConnection, ServerEvent,
    ServerRequest, ServerResponse,
};

use super::pieces::pieces;

/// The bytes of one connection.
pub fn run(bytes: &[u8]) {
    let whole = serve(std::iter::once(bytes));
    assert_eq!(serve(pieces(bytes)), whole, "another split, other answers");
    for request in &whole.requests {
        check(request);
    }
    read_back(&whole);
    check_first_path(bytes, &whole);
}

/// What HAProxy's rules see of the first target (`path`, as its manual and `http_get_path` have it): what
/// follows the scheme's `://` and then the first `/`, up to `?`. Userinfo belongs to the authority.
fn haproxy_path(target: &str) -> Option<&str> {
    let scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let behind = match target.split_once("://") {
        _ if target.starts_with('*') => return None,
        Some((before, behind)) if scheme(before) => behind,
        _ => target,
    };
    let path = &behind[behind.find('/')?..];
    path.split('?').next()
}

/// A request whose path HAProxy takes for a challenge's must be one for us, too: it is let through from
/// anywhere by that rule, and must not be answered with a report.
fn check_first_path(bytes: &[u8], served: &Served) {
    let Some(request) = served.requests.first() else { return };
    let line = bytes.split(|byte| *byte == b'\n').find(|line| !matches!(line, [] | [b'\r']));
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let target = line.split(' ').nth(1).unwrap_or_default();
    if matches!(request.method.as_str(), "OPTIONS" | "CONNECT") && !request.target.starts_with('/')
    {
        return assert_eq!(request.target, target);
    }
    assert_eq!(request.path(), haproxy_path(target).unwrap_or("/"), "{target:?}");
}

/// What became of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Served {
    requests: Vec<ServerRequest>,
    sent: Vec<u8>,
    closed: bool,
}

fn serve<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Served {
    let (mut connection, mut served) = (ServerConnection::new(), Served::default());
    for piece in pieces {
        connection.receive(piece);
        while let Some(event) = connection.poll() {
            assert!(!served.closed, "something comes after the end");
            match event {
                ServerEvent::Request(request) => {
                    assert!(!connection.awaits_peer());
                    served.requests.push(request);
                    connection.respond(&ServerResponse::new(200, "text/plain", "answer"));
                }
                ServerEvent::Send(bytes) => {
                    assert!(!bytes.is_empty(), "an empty send");
                    served.sent.extend(bytes);
                }
                ServerEvent::Close { .. } => served.closed = true,
            }
        }
        assert_eq!(connection.awaits_peer(), !served.closed, "neither at work nor at an end");
    }
    served
}

fn check(request: &ServerRequest) {
    assert!(!request.method.is_empty());
    assert!(request.method.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(request.target.bytes().all(|byte| byte.is_ascii_graphic()));
    let other_form = matches!(request.method.as_str(), "OPTIONS" | "CONNECT");
    assert!(request.target.starts_with('/') || other_form, "{:?}", request.target);
    let lengths = request.headers.all("content-length");
    assert!(lengths.filter_map(|it| it.parse().ok()).all(|it: usize| it <= REQUEST_BODY_BYTES_MAX));
    assert!(request.headers.all("host").count() <= 1);
}

/// Every request has its answer, in order; then there may be a refusal, which ends the connection.
fn read_back(served: &Served) {
    let mut rest = served.sent.as_slice();
    let heads = served.requests.iter().map(|request| request.method == "HEAD");
    for (index, head) in heads.chain([false]).enumerate() {
        if rest.is_empty() {
            assert_eq!(index, served.requests.len(), "a request has no answer");
            return;
        }
        let mut exchange = Exchange::new(if head { Method::Head } else { Method::Get });
        let mut events = Vec::new();
        let used = exchange.receive(rest, &mut events).expect("an answer of ours");
        rest = &rest[used..];
        match events.last() {
            Some(ExchangeEvent::End { reusable }) => {
                assert_eq!(*reusable, !(served.closed && rest.is_empty()), "who ends it?");
            }
            // An interim answer, to a request whose body has not come.
            _ => assert!(index == served.requests.len() && rest.is_empty() && !served.closed),
        }
    }
    assert!(rest.is_empty(), "an answer that nobody asked for");
}
