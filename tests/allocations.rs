//! Memory that a sync takes: one that finds every app as it was takes none for any of them, and nothing
//! is written. The daemon runs over its state-machine interface with a Marathon of fixed words; what is
//! counted is exact.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use allocation_counter::measure;
use marathon_acme::cli::{self, Command};
use marathon_acme::daemon::Daemon;
use marathon_acme::io::keys::RingKeys;
use marathon_acme::machine::{
    CloseReason, ConnId, Input, Inventory, Load, Loaded, Machine as _, Output,
};
use marathon_acme::time::{Instant, Now, UnixTime};

const MARATHON_PORT: u16 = 8080;
/// So many pieces an answer comes in, however long it is: each piece is a message of its own within the
/// daemon, which is no app's doing.
const PIECES: usize = 20;
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
                      event: event_stream_attached\r\ndata: {}\r\n\r\n";

const CHANGE: &str = "event: group_change_success\r\ndata: {}\r\n\r\n";

/// A daemon among peers of which Marathon alone answers.
struct House {
    daemon: Daemon,
    keys: RingKeys,
    now: Now,
    stream: ConnId,
    /// The connection on which apps are asked for, and not answered yet.
    asked: Option<ConnId>,
    writes: usize,
}

impl House {
    fn start() -> House {
        let words = [
            "--acme=https://127.0.0.1:9/dir",
            "--lb=http://127.0.0.1:9",
            "--sse-timeout=0",
            "/nowhere",
        ];
        let marathon = format!("--marathon=http://127.0.0.1:{MARATHON_PORT}");
        let words = words.map(String::from).into_iter().chain([marathon]);
        let Ok(Command::Run { config, .. }) = cli::parse(words.map(Into::into), []) else {
            panic!("these words start a daemon");
        };
        let now = Now { mono: Instant::START, wall: UnixTime::from_seconds(1_795_392_000) };
        let daemon = Daemon::new(&config, None, Vec::new());
        let mut house = House {
            daemon,
            keys: RingKeys::new(),
            now,
            stream: ConnId::Dialed(0),
            asked: None,
            writes: 0,
        };
        house.tell(Input::Started { listening: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)) });
        house
    }

    /// Tells the daemon something, and then what came of what it wants.
    fn tell(&mut self, input: Input<'_>) {
        self.daemon.handle_input(self.now, input, &mut self.keys);
        loop {
            match self.daemon.poll_output() {
                // What is much is done in several iterations.
                Output::Wait(Some(at)) if at <= self.now.mono => {
                    self.daemon.handle_input(self.now, Input::Timeout, &mut self.keys);
                }
                Output::Wait(_) => return,
                Output::Load(Load::Storage) => {
                    let found = Inventory { has_fallback: true, ..Inventory::default() };
                    return self.tell(Input::Loaded(Loaded::Storage(Ok(found))));
                }
                Output::Store { write, .. } => {
                    self.writes += 1;
                    self.daemon.handle_input(
                        self.now,
                        Input::Stored(write, Ok(())),
                        &mut self.keys,
                    );
                }
                Output::Connect { conn, to, .. } => {
                    let there = to.port() == MARATHON_PORT;
                    let gone = Input::Closed(conn, CloseReason::Refused);
                    let input = if there { Input::Connected(conn) } else { gone };
                    self.daemon.handle_input(self.now, input, &mut self.keys);
                }
                Output::Send { conn, bytes } if bytes.starts_with(b"GET /v2/events") => {
                    self.stream = conn;
                    let answer = Input::Received(conn, STREAM.as_bytes());
                    self.daemon.handle_input(self.now, answer, &mut self.keys);
                }
                Output::Send { conn, .. } => self.asked = Some(conn),
                _ => {}
            }
        }
    }

    /// Answers the question for the apps.
    fn answer(&mut self, answer: &[u8]) {
        let conn = self.asked.take().expect("apps were asked for");
        for piece in answer.chunks(answer.len().div_ceil(PIECES)) {
            self.tell(Input::Received(conn, piece));
        }
    }

    /// An event comes, time passes, and the same list is synced once more.
    fn sync_after(&mut self, pause: Duration, answer: &[u8]) {
        self.tell(Input::Received(self.stream, CHANGE.as_bytes()));
        let Now { mono, wall } = self.now;
        self.now = Now { mono: mono + pause, wall: wall.plus(pause) };
        self.tell(Input::Timeout);
        self.answer(answer);
    }
}

/// The whole answer; `wanted` says whether an app asks for a certificate.
fn answer(count: usize, wanted: fn(usize) -> bool) -> Vec<u8> {
    let app = |number: usize| {
        let label = if wanted(number) { "MARATHON_ACME_0_DOMAIN" } else { "SOME_OTHER_0_DOMAIN" };
        format!(
            r#"{{"id":"/group/app-{number:05}","version":"2026-05-01T09:12:33.{number:05}Z","cmd":"run",
            "networks":[{{"mode":"container/bridge"}}],"tasksRunning":1,
            "container":{{"portMappings":[{{"containerPort":80,"servicePort":10000}}]}},
            "env":{{"A":"a \"quoted\" text","B":"b"}},"labels":{{"HAPROXY_GROUP":"external",
            "HAPROXY_0_VHOST":"app-{number:05}.example.com","{label}":"app-{number:05}.example.com"}}}}"#
        )
    };
    let body = format!(r#"{{"apps":[{}]}}"#, (0..count).map(app).collect::<Vec<_>>().join(","));
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
    format!("{head} {length}\r\n\r\n{body}").into_bytes()
}

/// The allocations of a sync that finds so many apps as they were.
fn unchanged(count: usize, wanted: fn(usize) -> bool) -> u64 {
    let mut house = House::start();
    let answer = answer(count, wanted);
    house.answer(&answer);
    // What is of no hurry is written within this time.
    let long = Duration::from_secs(900);
    house.sync_after(long, &answer);
    house.sync_after(long, &answer);
    let writes = house.writes;
    // What it tries meanwhile of peers that do not answer is no app's doing.
    let mut sync = || measure(|| house.sync_after(Duration::from_secs(1), &answer)).count_total;
    let allocations = (0..10).map(|_| sync()).min().unwrap_or_default();
    house.sync_after(long, &answer);
    assert_eq!(house.writes, writes, "an unchanged sync writes nothing, then or later");
    allocations
}

#[test]
fn an_unchanged_sync_takes_no_memory_for_any_app_and_writes_nothing() {
    type Wanted = fn(usize) -> bool;
    let kinds: [(&str, Wanted); 3] =
        [("all wanted", |_| true), ("none", |_| false), ("every other one", |it| it % 2 == 0)];
    for (kind, wanted) in kinds {
        // As many digits, since the status line has the number of those that are wanted.
        let [few, many] = [2_000, 4_000].map(|count| unchanged(count, wanted));
        println!("{kind}: {few} allocations with 2,000 apps, {many} with 4,000");
        assert_eq!(many, few, "{kind}");
    }
}
