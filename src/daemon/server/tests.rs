//! The listener's connections by hand: bytes in, outputs out, time passed.

use super::*;
use crate::challenge::json;
use crate::testing::Bench;

fn conn(number: u64) -> ConnId {
    ConnId::Accepted(number)
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

const PING: &str = "/.well-known/acme-challenge/ping";

struct Case {
    bench: Bench,
    front: Server,
    lookup: Lookup,
    /// Whether answers about the daemon cost something.
    costly: bool,
    door: ListenerKind,
    client: IpAddr,
}

/// Says what it was asked.
struct Parrot(bool, Lookup);

impl Reports for Parrot {
    fn answer(&self, report: &ReportRequest, challenges: ChallengeCounts) -> ServerResponse {
        json(200, format!("{report:?} {}", challenges.served))
    }

    fn answers_max(&self, report: &ReportRequest) -> Option<usize> {
        (self.0 && !matches!(report, ReportRequest::Health { .. })).then_some(8)
    }

    fn lookup(&self, _: &str) -> Lookup {
        self.1
    }
}

impl Case {
    fn new() -> Case {
        Case {
            bench: Bench::new(),
            front: Server::default(),
            lookup: Lookup::Nowhere,
            costly: false,
            door: ListenerKind::Public,
            client: [10, 0, 0, 1].into(),
        }
    }

    fn accept(&mut self, number: u64) {
        self.front.accepted(&mut self.bench.cx(), conn(number), self.client, self.door);
    }

    fn receive(&mut self, number: u64, bytes: &[u8]) -> Vec<String> {
        let Case { bench, front, lookup, costly, .. } = self;
        front.received(&mut bench.cx(), conn(number), bytes, &Parrot(*costly, *lookup));
        self.outputs()
    }

    /// A file was looked for.
    fn looked_up(&mut self, number: u64, token: &str, found: Option<&str>) -> Vec<String> {
        let (found, parrot) = (found.map(String::from), Parrot(false, self.lookup));
        self.front.looked_up(&mut self.bench.cx(), conn(number), token, found, &parrot);
        self.outputs()
    }

    /// The published tokens were listed.
    fn listed(&mut self, tokens: &[&str]) -> Vec<String> {
        let tokens = tokens.iter().map(ToString::to_string).collect();
        self.front.listed(&mut self.bench.cx(), tokens, &Parrot(false, self.lookup));
        self.outputs()
    }

    fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.bench.pass(Duration::from_secs(seconds));
        self.front.handle_timeout(&mut self.bench.cx());
        self.outputs()
    }

    /// What it wants: answers by their last line, closed connections, lookups.
    fn outputs(&mut self) -> Vec<String> {
        let in_words = |output| match output {
            Output::Send { bytes, .. } => {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                let body = text.rsplit("\r\n").next().unwrap_or_default();
                format!("{} {body}", text.split(' ').nth(1).unwrap_or_default())
            }
            Output::Close { conn: ConnId::Accepted(number), .. } => format!("close {number}"),
            Output::Load(Load::Challenge(_, token)) => format!("look up {token}"),
            Output::Load(Load::Challenges) => "list".into(),
            other => format!("{other:?}"),
        };
        self.front.outputs().map(in_words).collect()
    }
}

#[test]
fn requests_are_answered_and_counted() {
    let mut case = Case::new();
    case.front.responder.publish("token".into(), "token.print".into());
    case.accept(0);
    assert_eq!(case.receive(0, &request(PING)), ["200 {\"message\": \"pong\"}"]);
    assert_eq!(case.receive(0, &request("/health")), ["200 Health { status_only: false } 0"]);
    let challenge = |token: &str| request(&format!("/.well-known/acme-challenge/{token}"));
    assert_eq!(case.receive(0, &challenge("token")), ["200 token.print"]);
    assert!(case.receive(0, &challenge("other"))[0].starts_with("404"));
    assert!(case.receive(0, &request("/elsewhere"))[0].starts_with("404"));
    assert_eq!(case.front.counts(), ChallengeCounts { served: 1, unknown: 1 });
}

#[test]
fn a_lookup_holds_back_what_was_asked_after_it() {
    let mut case = Case { lookup: Lookup::Stored, ..Case::new() };
    case.accept(0);
    let mut bytes = request("/.well-known/acme-challenge/other");
    bytes.extend(request(PING));
    assert_eq!(case.receive(0, &bytes), ["look up other"]);
    let answers = case.looked_up(0, "other", Some("other.print\n"));
    assert_eq!(answers, ["200 other.print", "200 {\"message\": \"pong\"}"]);
    assert_eq!(case.looked_up(0, "other", None), Vec::<String>::new(), "an answer comes once");
}

fn challenge(token: &str) -> Vec<u8> {
    request(&format!("/.well-known/acme-challenge/{token}"))
}

#[test]
fn unknown_tokens_of_all_connections_share_one_listing() {
    let mut case = Case { lookup: Lookup::Shared, ..Case::new() };
    for number in 0..100 {
        case.accept(number);
        let both = [challenge("none"), challenge("neither")].concat();
        let expected: &[&str] = if number == 0 { &["list"] } else { &[] };
        assert_eq!(case.receive(number, &both), expected, "{number}");
    }
    // It was requested when the first had come, and may have been read before the others came.
    let answers = case.listed(&["other"]);
    assert_eq!(answers, ["404 Not Found\n", "404 Not Found\n"]);
    assert_eq!(case.pass(0), Vec::<String>::new());
    case.bench.pass(listing::LISTING_PAUSE);
    assert_eq!(case.pass(0), ["list"]);
    let answers = case.listed(&["other"]);
    assert_eq!(answers.iter().filter(|it| it.starts_with("404")).count(), 2 * 99);
    assert_eq!(case.front.counts(), ChallengeCounts { served: 0, unknown: 200 });
    assert_eq!(case.receive(0, &challenge("other")), ["look up other"], "that one is listed");
    assert_eq!(case.looked_up(0, "other", Some("other.print")), ["200 other.print"]);
}

#[test]
fn a_token_that_was_published_after_the_last_listing_is_found() {
    let mut case = Case { lookup: Lookup::Shared, ..Case::new() };
    case.accept(0);
    assert_eq!(case.receive(0, &challenge("new")), ["list"]);
    // Another one comes while the listing is under way, and its token is published meanwhile.
    case.accept(1);
    assert_eq!(case.receive(1, &challenge("newer")), Vec::<String>::new());
    assert_eq!(case.listed(&["new"]), ["look up new"]);
    assert_eq!(case.looked_up(0, "new", Some("new.print")), ["200 new.print"]);
    case.bench.pass(listing::LISTING_PAUSE);
    assert_eq!(case.pass(0), ["list"]);
    assert_eq!(case.listed(&["new", "newer"]), ["look up newer"]);
    assert_eq!(case.looked_up(1, "newer", Some("newer.print")), ["200 newer.print"]);
    // A token whose file is gone is not looked for again and again.
    assert_eq!(case.receive(1, &challenge("new")), ["look up new"]);
    assert_eq!(case.looked_up(1, "new", None), ["404 Not Found\n"]);
    assert_eq!(case.receive(1, &challenge("new")), Vec::<String>::new());
    case.bench.pass(listing::LISTING_PAUSE);
    assert_eq!(case.pass(0), ["list"]);
    assert_eq!(case.listed(&[]), ["404 Not Found\n"]);
}

#[test]
fn who_goes_away_while_a_listing_is_read_is_forgotten() {
    let mut case = Case { lookup: Lookup::Shared, ..Case::new() };
    case.accept(0);
    case.accept(1);
    assert_eq!(case.receive(0, &challenge("none")), ["list"]);
    case.front.closed(conn(0));
    case.receive(1, &challenge("none"));
    case.front.finished(conn(1));
    assert_eq!(case.listed(&[]), Vec::<String>::new());
    case.bench.pass(listing::LISTING_PAUSE);
    assert_eq!(case.pass(0), ["list"]);
    assert_eq!(case.listed(&[]), ["404 Not Found\n", "close 1"]);
}

#[test]
fn who_says_no_more_gets_what_was_asked_and_is_closed() {
    let mut case = Case { lookup: Lookup::Stored, ..Case::new() };
    case.accept(0);
    let other = request("/.well-known/acme-challenge/other");
    let both = [other, request("/metrics"), request(PING)].concat();
    assert_eq!(case.receive(0, &both), ["look up other"]);
    case.front.finished(conn(0));
    assert_eq!(case.outputs(), Vec::<String>::new(), "its answer is still to come");
    assert_eq!(case.looked_up(0, "other", Some("print")), ["200 print", "Measure(Accepted(0))"]);
    let parrot = Parrot(false, Lookup::Nowhere);
    case.front.measured(&mut case.bench.cx(), conn(0), Usage::default(), &parrot);
    assert_eq!(case.outputs()[1..], ["200 {\"message\": \"pong\"}", "close 0"]);
    assert!(!case.front.owns(conn(0)));

    case.accept(1);
    case.receive(1, b"GET / HTTP/1.1\r\nHo");
    case.front.finished(conn(1));
    assert_eq!(case.outputs(), ["close 1"], "nothing is owed");
}

#[test]
fn what_the_process_uses_is_measured_before_metrics_are_given() {
    let mut case = Case::new();
    case.accept(0);
    let both = [request("/metrics"), request("/status.json?x")].concat();
    assert_eq!(case.receive(0, &both), ["Measure(Accepted(0))"]);
    let usage = Usage { descriptors: Some(7), ..Usage::default() };
    let parrot = Parrot(false, Lookup::Nowhere);
    case.front.measured(&mut case.bench.cx(), conn(0), usage, &parrot);
    let answers = case.outputs();
    assert!(answers[0].contains("Metrics(Usage") && answers[0].contains("Some(7)"), "{answers:?}");
    assert_eq!(answers[1], "200 Json 0");
    assert_eq!(case.receive(0, &request("/?q=x&page=2")), ["200 Page(\"q=x&page=2\") 0"]);
    assert!(case.receive(0, b"PUT /metrics HTTP/1.1\r\nHost: x\r\n\r\n")[0].starts_with("405"));
}

#[test]
fn the_public_listener_serves_no_report_where_the_operator_has_another() {
    let front = Server::new(true);
    let mut case = Case { front, ..Case::new() };
    case.accept(0);
    for path in ["/", "/metrics", "/status.json"] {
        assert!(case.receive(0, &request(path))[0].starts_with("404"), "{path}");
    }
    assert_eq!(case.receive(0, &request("/health")), ["200 Health { status_only: true } 0"]);
    assert_eq!(case.receive(0, &request(PING)), ["200 {\"message\": \"pong\"}"]);
    case.door = ListenerKind::Admin;
    case.accept(1);
    assert_eq!(case.receive(1, &request("/")), ["200 Page(\"\") 0"]);
    assert_eq!(case.receive(1, &request("/health")), ["200 Health { status_only: false } 0"]);
}

#[test]
fn the_public_listener_serves_no_report_by_way_of_a_proxy() {
    let mut case = Case::new();
    case.front.responder.publish("token".into(), "token.print".into());
    let forwarded = |method: &str, path: &str, field: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n").into_bytes()
    };
    for field in ["X-Forwarded-For: 10.0.0.1", "forwarded: x", "X-Real-Ip: ", "VIA: 1.1 proxy"] {
        case.accept(0);
        for path in ["/", "/?q=x", "/metrics", "/status.json"] {
            for method in ["GET", "HEAD", "POST"] {
                let answer = case.receive(0, &forwarded(method, path, field));
                assert!(answer[0].starts_with("404"), "{method} {path} {field}: {answer:?}");
            }
        }
        let health = case.receive(0, &forwarded("GET", "/health", field));
        assert!(health[0].starts_with("200 Health { status_only: true }"), "{health:?}");
        let target = "/.well-known/acme-challenge/token";
        assert_eq!(case.receive(0, &forwarded("GET", target, field)), ["200 token.print"]);
    }
    assert_eq!(case.receive(0, &request("/")), ["200 Page(\"\") 4"]);
    // For scrapes through a proxy there is the admin listener.
    case.door = ListenerKind::Admin;
    case.accept(1);
    let by_proxy = |path: &str| forwarded("GET", path, "X-Forwarded-For: 10.0.0.1");
    assert_eq!(case.receive(1, &by_proxy("/")), ["200 Page(\"\") 4"]);
    let health = case.receive(1, &by_proxy("/health"));
    assert_eq!(health, ["200 Health { status_only: false } 4"]);
}

#[test]
fn requests_for_the_page_take_no_answer_from_the_metrics() {
    let mut case = Case { costly: true, ..Case::new() };
    case.accept(0);
    let answers: Vec<String> = (0..100).flat_map(|_| case.receive(0, &request("/"))).collect();
    let given = answers.iter().filter(|answer| answer.starts_with("200")).count();
    assert!(given == 2 && answers[99].starts_with("503"), "{given}");
    assert_eq!(case.receive(0, &request("/health")), ["200 Health { status_only: false } 0"]);
    assert_eq!(case.receive(0, &request("/metrics")), ["Measure(Accepted(0))"]);
    case.client = [10, 0, 0, 2].into();
    case.accept(1);
    assert_eq!(case.receive(1, &request("/")), ["200 Page(\"\") 0"], "another client");
    case.pass(WINDOW.as_secs());
    case.accept(2);
    assert_eq!(case.receive(2, &request("/")), ["200 Page(\"\") 0"]);
}

#[test]
fn a_head_that_drips_is_given_ten_seconds_and_no_more() {
    let mut case = Case::new();
    case.accept(0);
    for byte in request(PING).chunks(1).take(9) {
        assert_eq!(case.receive(0, byte), Vec::<String>::new());
        assert_eq!(case.pass(1), Vec::<String>::new());
    }
    assert_eq!(case.pass(1), ["close 0"]);
    assert!(!case.front.owns(conn(0)));
    assert_eq!(case.front.poll_timeout(), None);
}

#[test]
fn an_answered_connection_may_rest_but_its_next_head_may_not_drip() {
    let mut case = Case::new();
    case.accept(0);
    case.accept(1);
    case.receive(0, &request(PING));
    case.receive(1, &request(PING));
    assert_eq!(case.pass(15), Vec::<String>::new());
    assert_eq!(case.receive(1, b"GET"), Vec::<String>::new());
    assert_eq!(case.pass(9), Vec::<String>::new());
    assert_eq!(case.pass(1), ["close 1"]);
    assert_eq!(case.pass(35), ["close 0"]);
}

#[test]
fn a_connection_in_use_is_looked_at_when_its_time_may_be_up_and_not_at_each_request() {
    let mut case = Case::new();
    case.accept(0);
    let first = case.front.poll_timeout().unwrap();
    for _ in 0..9 {
        case.receive(0, &request(PING));
        assert_eq!(case.pass(1), Vec::<String>::new());
        assert_eq!(case.front.poll_timeout(), Some(first));
    }
    assert_eq!(case.pass(1), Vec::<String>::new(), "looked at, and of use a second ago");
    let last = case.front.poll_timeout().unwrap();
    assert_eq!(last.since(first), IDLE_PATIENCE - Duration::from_secs(2));
    assert_eq!(case.pass(57), Vec::<String>::new());
    assert_eq!(case.pass(1), ["close 0"]);
}

#[test]
fn the_longest_idle_one_makes_room() {
    let mut case = Case::new();
    for number in 0..ACCEPTED_MAX as u64 {
        case.accept(number);
        case.pass(0);
    }
    case.receive(0, &request(PING));
    assert_eq!(case.outputs(), Vec::<String>::new());
    case.accept(9999);
    assert_eq!(case.outputs(), ["close 1"], "the first was active since");
}

#[test]
fn a_newcomer_outlives_those_who_were_answered_or_drip() {
    let mut case = Case::new();
    for number in 0..ACCEPTED_MAX as u64 {
        case.accept(number);
        case.receive(number, &request(PING));
    }
    // The first one has drawn its bytes out; the newcomers' time is up long before the others'.
    case.pass(1);
    case.receive(0, b"GET / HTTP/1.1");
    for newcomer in 1000..1000 + ACCEPTED_MAX as u64 {
        case.accept(newcomer);
        assert_eq!(case.outputs(), [format!("close {}", newcomer - 1000)]);
    }
    assert!(case.receive(1000, &request(PING))[0].starts_with("200"));
}

#[test]
fn who_waits_for_a_file_is_of_use() {
    let mut case = Case { lookup: Lookup::Stored, ..Case::new() };
    for number in 0..ACCEPTED_MAX as u64 {
        case.accept(number);
    }
    case.pass(1);
    case.receive(0, &request("/.well-known/acme-challenge/other"));
    case.accept(9999);
    assert_eq!(case.outputs(), ["close 1"]);
}

#[test]
fn where_descriptors_are_short_the_oldest_eighth_goes_and_two_lines_say_so() {
    let mut case = Case::new();
    let exhausted = |case: &mut Case| {
        case.front.exhausted(&mut case.bench.cx(), "Too many open files");
        case.outputs().len()
    };
    assert_eq!(exhausted(&mut case), 0, "nobody is there");
    for number in 0..80 {
        case.accept(number);
    }
    assert_eq!(exhausted(&mut case), 10);
    assert!(!case.front.owns(conn(9)) && case.front.owns(conn(10)));
    for number in 0..5 {
        case.receive(79 - number, &request(PING));
        case.pass(9);
        case.accept(100 + number);
        exhausted(&mut case);
    }
    assert_eq!(case.bench.log.len(), 1, "it is still the same shortage");
    case.pass(10);
    case.pass(100);
    assert_eq!(case.bench.logged("there are descriptors enough again"), 1);
    assert_eq!((case.bench.log.len(), case.front.poll_timeout()), (2, None));
}

#[test]
fn what_is_malformed_is_answered_and_closed() {
    let mut case = Case::new();
    case.accept(0);
    let outputs = case.receive(0, b"nonsense\r\n\r\n");
    assert!(outputs[0].starts_with("400") && outputs[1] == "close 0", "{outputs:?}");
    assert_eq!(case.receive(0, &request(PING)), Vec::<String>::new());
}
