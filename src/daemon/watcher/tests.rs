//! Marathon by hand: events and answers in, requests and desired certificates out.

mod bursts;
mod token;

use super::*;
use crate::client::marathon::ANSWER_DEADLINE;
use crate::daemon::model::Source;
use crate::daemon::wire::{Sent, Wire, counted};

use crate::domain::Domain;
use crate::log::message;
use crate::machine::{CloseReason, ConnId};

const SECOND: Duration = Duration::from_secs(1);
const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=utf-8\r\nConnection: close\r\n\r\n";
const ATTACHED: &str = "event: event_stream_attached\r\ndata: {}\r\n\r\n";
const CHANGE: &str = "event: group_change_success\r\ndata: {}\r\n\r\n";

struct Case {
    wire: Wire,
    watcher: Watcher,
    wanted: Vec<Wanted>,
}

impl Case {
    /// A watcher that was started, and what it asked for first.
    fn started(marathon: &[&str]) -> (Case, Vec<Sent>) {
        Case::of(&crate::testing::config(), marathon)
    }

    /// Likewise, with other choices than those of an operator who made none.
    fn of(config: &Config, marathon: &[&str]) -> (Case, Vec<Sent>) {
        Case::after(config, marathon, false)
    }

    /// Likewise, after an earlier run that may have known apps.
    fn after(config: &Config, marathon: &[&str], knew_apps: bool) -> (Case, Vec<Sent>) {
        let marathon = marathon.iter().map(|url| Url::parse(url).unwrap()).collect();
        let watcher = Watcher::new(&Config { marathon, ..config.clone() });
        let mut case = Case { wire: Wire::new(), watcher, wanted: Vec::new() };
        let Case { wire, watcher, .. } = &mut case;
        let before = DesiredCertificates::new();
        watcher.start(&mut wire.bench.cx(), &mut wire.client, before, knew_apps);
        let sent = case.settle();
        (case, sent)
    }

    /// One that is attached, has synced no app, and rests; and its stream.
    fn attached() -> (Case, ConnId) {
        let (mut case, sent) = Case::started(&["http://10.0.0.1:8080"]);
        let stream = sent[0].conn;
        let sent = case.answer(stream, &format!("{STREAM}{ATTACHED}"));
        case.answer(sent[0].conn, &counted(200, "application/json", "{\"apps\":[]}"));
        assert_eq!(case.wanted.len(), 1);
        (case, stream)
    }

    fn settle(&mut self) -> Vec<Sent> {
        let mut sent = self.wire.sent();
        let mut steps = crate::testing::Steps::default();
        while let Some((owner, request, event)) = self.wire.event() {
            steps.count();
            let Case { wire, watcher, wanted } = self;
            let mut cx = wire.bench.cx();
            let Owner::Watcher(of) = owner else { panic!("it is the watcher's") };
            let news = watcher.handle_event(&mut cx, &mut wire.client, (of, request), event);
            wanted.extend(news.cloned());
            sent.extend(self.wire.sent());
        }
        sent
    }

    fn answer(&mut self, conn: ConnId, text: &str) -> Vec<Sent> {
        self.wire.answer(conn, text);
        self.settle()
    }

    fn close(&mut self, conn: ConnId) -> Vec<Sent> {
        self.wire.close(conn, CloseReason::Finished);
        self.settle()
    }

    fn pass(&mut self, duration: Duration) -> Vec<Sent> {
        self.wire.pass(duration);
        let mut sent = self.settle();
        let Case { wire, watcher, .. } = self;
        watcher.handle_timeout(&mut wire.bench.cx(), &mut wire.client);
        sent.extend(self.settle());
        sent
    }

    /// Sleeps until it asks something; how long that took.
    fn sleep(&mut self) -> (Duration, Vec<Sent>) {
        let begin = self.wire.bench.now.mono;
        let mut steps = crate::testing::Steps::default();
        loop {
            steps.count();
            let at = self.watcher.poll_timeout().expect("it never sleeps for ever");
            let sent = self.pass(at.since(self.wire.bench.now.mono));
            if !sent.is_empty() {
                return (self.wire.bench.now.mono.since(begin), sent);
            }
        }
    }
}

fn apps(ids: &[&str]) -> String {
    let app = |id: &&str| {
        format!(
            r#"{{"id":"/{id}","version":"1","ports":[1],"networks":[{{"mode":"host"}}],
            "portDefinitions":[{{"port":1}}],
            "labels":{{"HAPROXY_GROUP":"external","MARATHON_ACME_0_DOMAIN":"{id}.org"}}}}"#
        )
    };
    let apps: Vec<String> = ids.iter().map(app).collect();
    counted(200, "application/json", &format!(r#"{{"apps":[{}]}}"#, apps.join(",")))
}

#[test]
fn it_asks_for_the_stream_and_syncs_once_it_is_attached() {
    let (mut case, sent) = Case::started(&["http://user:pw@10.0.0.1:8080/base"]);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].is("GET /base/v2/events?"), "{}", sent[0].text);
    let head = sent[0].text.to_lowercase();
    assert_eq!(head.matches("accept: text/event-stream\r\n").count(), 1);
    assert!(
        head.contains("authorization: basic dxnlcjpwdw==") && !head.contains("accept-encoding")
    );
    assert_eq!(case.answer(sent[0].conn, STREAM), []);
    assert!(case.watcher.status().attached);
    let asked = case.answer(sent[0].conn, ATTACHED);
    assert!(asked[0].is("GET /base/v2/apps "), "{}", asked[0].text);
    case.answer(asked[0].conn, &apps(&["a", "b"]));
    let names: Vec<&str> = case.wanted[0].certificates.keys().map(Domain::as_str).collect();
    assert_eq!((names, case.wanted[0].apps), (vec!["a.org", "b.org"], 2));
}

#[test]
fn it_syncs_without_the_stream_as_well() {
    let (mut case, stream) = Case::started(&["http://10.0.0.1:8080"]);
    case.answer(stream[0].conn, STREAM);
    let (pause, sent) = case.sleep();
    assert_eq!((pause, sent[0].is("GET /v2/apps")), (ATTACH_PATIENCE, true));

    let (mut case, stream) = Case::started(&["http://10.0.0.1:8080"]);
    case.answer(stream[0].conn, &counted(503, "text/html", "no"));
    let mut asked = Vec::new();
    let mut steps = crate::testing::Steps::default();
    while !asked.iter().any(|sent: &Sent| sent.is("GET /v2/apps")) {
        steps.count();
        asked.extend(case.sleep().1);
    }
    assert!(!case.watcher.status().attached);
}

#[test]
fn an_answer_that_is_not_whole_wants_nothing_and_is_asked_for_again() {
    let whole = apps(&["a"]);
    let cut = whole[..whole.len() - 5].to_string();
    let bad = [
        (cut, true),
        (counted(500, "text/html", "<html>"), false),
        (counted(200, "text/html", "<html>"), false),
        (counted(200, "application/json", ""), false),
        (counted(200, "application/json", "{\"apps\":[{}"), false),
        (counted(204, "application/json", ""), false),
    ];
    for (answer, close) in bad {
        let (mut case, stream) = Case::attached();
        case.answer(stream, CHANGE);
        let (_, sent) = case.sleep();
        case.answer(sent[0].conn, &answer);
        if close {
            case.close(sent[0].conn);
        }
        assert_eq!(case.wanted.len(), 1, "{answer}");
        assert!(case.watcher.status().problem.is_some());
        let (pause, sent) = case.sleep();
        assert!(pause < SECOND * 2 && sent[0].is("GET /v2/apps"), "{answer}");
        case.answer(sent[0].conn, &apps(&["a"]));
        assert_eq!((case.wanted.len(), &case.watcher.status().problem), (2, &None));
    }
}

#[test]
fn a_lost_stream_is_opened_again_with_growing_pauses() {
    let (mut case, mut stream) = Case::attached();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        case.close(stream);
        assert!(!case.watcher.status().attached);
        let begin = case.wire.bench.now.mono;
        let mut steps = crate::testing::Steps::default();
        loop {
            steps.count();
            let (_, sent) = case.sleep();
            if let Some(opened) = sent.iter().find(|sent| sent.is("GET /v2/events")) {
                stream = opened.conn;
                break;
            }
            case.answer(sent[0].conn, &apps(&[]));
        }
        pauses.push(case.wire.bench.now.mono.since(begin));
        // A fresh leader: 200, and the end without an event.
        case.answer(stream, STREAM);
    }
    assert!(pauses[0] < SECOND * 2 && pauses[7] > SECOND * 30, "{pauses:?}");
}

#[test]
fn a_silent_stream_is_dropped() {
    let (mut case, stream) = Case::attached();
    for _ in 0..20 {
        case.pass(SECOND * 50);
        case.answer(stream, "\r");
        case.answer(stream, "\n");
    }
    assert!(case.watcher.status().attached, "heartbeats keep it");
    case.pass(SECOND * 60);
    assert!(!case.watcher.status().attached && !case.wire.is_open(stream));
}

#[test]
fn a_redirect_is_followed_once_with_the_credentials() {
    let to =
        |url: &str| format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n");
    let (mut case, first) = Case::started(&["http://user:pw@10.0.0.1:8080"]);
    let second = case.answer(first[0].conn, &to("http://10.0.0.2:8080/v2/events"));
    assert_eq!(second[0].to.to_string(), "10.0.0.2:8080");
    assert!(second[0].text.to_lowercase().contains("authorization: basic dxnlcjpwdw=="));
    assert_eq!(case.answer(second[0].conn, &to("http://10.0.0.3:8080/v2/events")), []);
    assert_eq!(case.wire.bench.logged(message::NO_STREAM), 1);
    let problem = case.watcher.status().problem.as_deref();
    assert_eq!(problem, Some("status 302: a second redirect, which is not followed"));
}

/// Where a client of that URL is sent on to, and what it says then; or why it is not.
fn sent_on(from: &str, location: &str) -> Result<(String, String), String> {
    let (mut case, first) = Case::started(&[from, "http://10.0.0.9:8080"]);
    let answer = format!("HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    match case.answer(first[0].conn, &answer).pop() {
        Some(sent) if sent.to.to_string() != "10.0.0.9:8080" => {
            Ok((sent.to.to_string(), sent.text))
        }
        _ => Err(case.watcher.status().problem.clone().unwrap_or_default().text),
    }
}

#[test]
fn credentials_follow_marathons_own_redirect_only() {
    let basic = "Authorization: Basic dXNlcjpwdw==\r\n";
    for (from, location, to) in [
        ("http://user:pw@10.0.0.1:8080", "http://10.0.0.2:8080/v2/events?x=y", "10.0.0.2:8080"),
        ("http://user:pw@10.0.0.1:8080", "https://10.0.0.1:8443/v2/events", "10.0.0.1:8443"),
        ("https://user:pw@10.0.0.1/m", "https://10.0.0.2/m/v2/events", "10.0.0.2:443"),
        // Another one of --marathon.
        ("http://user:pw@10.0.0.1:8080", "https://10.0.0.9:8443/x/v2/events", "10.0.0.9:8443"),
        // The command line's, not the redirect's.
        ("http://user:pw@10.0.0.1", "http://other:word@10.0.0.2/v2/events", "10.0.0.2:80"),
        ("http://user:pw@10.0.0.1", "/marathon/v2/events", "10.0.0.1:80"),
    ] {
        let (address, text) = sent_on(from, location).expect(location);
        assert!(address == to && text.contains(basic), "{location}: {address}\n{text}");
    }
    for location in ["http://other:word@10.0.0.2/v2/events", "https://10.0.0.2:8443/x/v2/events"] {
        let (_, text) = sent_on("http://10.0.0.1", location).unwrap();
        assert!(!text.contains("Authorization"), "{text}");
    }
    for (from, location, problem) in [
        ("https://user:pw@10.0.0.1", "http://10.0.0.1/v2/events", "from https to http"),
        ("https://user:pw@10.0.0.1", "http://10.0.0.1:443/v2/events", "from https to http"),
        ("https://user:pw@10.0.0.1", "HTTP://user:pw@10.0.0.2/v2/events", "from https to http"),
        ("http://user:pw@10.0.0.1", "https://login.example.org/?next=/v2/events", "else (https:"),
        (
            "http://user:pw@10.0.0.1:8080",
            "http://10.0.0.2:8081/v2/events",
            "to another server (http:",
        ),
        (
            "http://user:pw@10.0.0.1:8080",
            "https://10.0.0.2:8443/v2/events",
            "to another server (http",
        ),
        ("http://user:pw@10.0.0.1:8080", "http://10.0.0.2:8080/x/v2/events", "to another server ("),
        ("https://user:pw@10.0.0.1/m", "https://10.0.0.2/v2/events", "to another server (https:"),
        (
            "https://user:pw@10.0.0.1/m/",
            "https://10.0.0.2/m//v2/events",
            "to another server (https:",
        ),
        ("http://user:pw@10.0.0.1", "/login", "something else (http://10.0.0.1/login)"),
        ("http://user:pw@10.0.0.1", "http://10.0.0.2/v2/apps", "something else"),
        ("http://user:pw@10.0.0.1", "ftp://10.0.0.2/v2/events", "a bad URL"),
        ("http://user:pw@10.0.0.1", "//10.0.0.2/v2/events", "a bad URL"),
    ] {
        let said = sent_on(from, location).expect_err(location);
        assert!(said.contains(problem) && !said.contains("pw"), "{location}: {said}");
    }
}

#[test]
fn without_a_timeout_a_slow_answer_is_waited_for() {
    for (timeout, waits) in [(None, true), (Some(10 * SECOND), false)] {
        let none = None;
        let config =
            Config { marathon_timeout: timeout, sse_timeout: none, ..crate::testing::config() };
        let (mut case, stream) = Case::of(&config, &["http://10.0.0.1:8080"]);
        case.pass(100 * SECOND);
        assert_eq!(case.wire.is_open(stream[0].conn), waits);
        if !waits {
            continue;
        }
        let list = case.answer(stream[0].conn, &format!("{STREAM}{ATTACHED}"));
        // What was due meanwhile is under way.
        assert_eq!(list, []);
        case.pass(100 * SECOND);
        assert!(case.watcher.status().attached && case.watcher.status().problem.is_none());
        // Nor is one that never comes waited for without end.
        case.pass(ANSWER_DEADLINE);
        assert!(case.watcher.status().problem.is_some());
    }
}

#[test]
fn the_next_address_is_asked_at_once_and_then_all_rest() {
    let (mut case, first) = Case::started(&["http://10.0.0.1:1", "http://10.0.0.2:2"]);
    case.wire.close(first[0].conn, CloseReason::Refused);
    let mut sent = case.settle();
    let begin = case.wire.bench.now.mono;
    if sent.is_empty() {
        sent = case.pass(Duration::ZERO);
    }
    assert_eq!((sent[0].to.port(), case.wire.bench.now.mono), (2, begin));
    case.answer(sent[0].conn, &counted(502, "text/html", "no leader"));
    let (pause, sent) = case.sleep();
    assert!(pause >= SECOND / 2 && sent[0].to.port() == 1, "{pause:?}");
}

#[test]
fn a_domain_of_two_apps_stays_with_one_in_whatever_order_they_come() {
    let (mut case, stream) = Case::attached();
    let app = |id: &str| {
        format!(
            r#"{{"id":"{id}","version":"1","portDefinitions":[{{}}],
            "labels":{{"HAPROXY_GROUP":"external","MARATHON_ACME_0_DOMAIN":"x.org"}}}}"#
        )
    };
    for pair in [["/a", "/b"], ["/b", "/a"]] {
        case.answer(stream, CHANGE);
        let (_, sent) = case.sleep();
        let list = format!(r#"{{"apps":[{}]}}"#, pair.map(app).join(","));
        case.answer(sent[0].conn, &counted(200, "application/json", &list));
    }
    let x = Domain::parse("x.org").unwrap();
    let sources = case.wanted[1..].iter().map(|it| it.certificates[&x].source.clone());
    let source = Source { app: "/a".into(), version: "1".into() };
    assert_eq!(sources.collect::<Vec<_>>(), [source.clone(), source]);
}

#[test]
fn what_is_odd_is_said_once() {
    let (mut case, stream) = Case::attached();
    let odd = counted(
        200,
        "application/json",
        r#"{"apps":[{"id":"/odd","labels":[]},{"id":"/bad","networks":[{"mode":"host"}],
        "portDefinitions":[{}],"labels":{"HAPROXY_GROUP":"external","MARATHON_ACME_0_DOMAIN":"*.x.org"}}]}"#,
    );
    for _ in 0..3 {
        case.answer(stream, CHANGE);
        let (_, sent) = case.sleep();
        case.answer(sent[0].conn, &odd);
    }
    assert_eq!(case.wanted[3].rejected_domains, 1);
    let warned: Vec<_> = case.wire.bench.log.iter().filter(|line| line.subject == "sync").collect();
    let warned = warned.iter().filter(|line| line.level == crate::log::Level::Warn).count();
    assert_eq!(warned, 2);
}

#[test]
fn all_domains_of_a_label_stand_together_as_far_as_the_ca_lets_them() {
    let names: Vec<String> = (10..40).map(|number| format!("n{number}.org")).collect();
    let answer = format!(
        r#"{{"apps":[{{"id":"/a","version":"1","portDefinitions":[{{}}],
        "labels":{{"HAPROXY_GROUP":"external","MARATHON_ACME_0_DOMAIN":"{}"}}}}]}}"#,
        names.join(",")
    );
    let counts = |wanted: &Wanted| -> Vec<usize> {
        wanted.certificates.values().map(|it| it.names.len()).collect()
    };
    let said = "30 domains are more than the 25 of one certificate: there are 2";
    // No profile is known by its name: the CA says what it accepts, before the list or after.
    for known_before in [false, true] {
        let profile = Some("shortlived".to_string());
        let config = Config { san: true, profile, ..crate::testing::config() };
        let (mut case, sent) = Case::of(&config, &["http://10.0.0.1:8080"]);
        if known_before {
            assert_eq!(case.watcher.limit_names(&mut case.wire.bench.cx(), 25), None);
        }
        let asked = case.answer(sent[0].conn, &format!("{STREAM}{ATTACHED}"));
        case.answer(asked[0].conn, &counted(200, "application/json", &answer));
        let expected = if known_before { vec![25, 5] } else { vec![30] };
        assert_eq!(counts(&case.wanted[0]), expected);
        assert_eq!(case.wire.bench.logged(said), usize::from(known_before));
        let split = case.watcher.limit_names(&mut case.wire.bench.cx(), 25).map(counts);
        assert_eq!(split, (!known_before).then(|| vec![25, 5]));
        assert_eq!(case.wire.bench.logged(said), 1);
        // More is nothing new.
        assert_eq!(case.watcher.limit_names(&mut case.wire.bench.cx(), 30), None);
        assert_eq!(case.watcher.oddities().len(), 1);
    }
}

#[test]
fn a_list_without_apps_counts_only_when_it_stays_so() {
    let (mut case, stream) = Case::attached();
    case.answer(stream, CHANGE);
    let (_, sent) = case.sleep();
    case.answer(sent[0].conn, &apps(&["a"]));
    assert_eq!(case.wanted.len(), 2);
    for _ in 0..3 {
        case.answer(stream, CHANGE);
        let (_, sent) = case.sleep();
        case.answer(sent[0].conn, &apps(&[]));
        assert_eq!(case.wanted.len(), 2, "a leader may not have loaded them yet");
    }
    let said = "no app is listed any more, waiting whether it stays so";
    assert_eq!(case.wire.bench.logged(said), 1);
    // The second and the third look came a second after the one before.
    let (pause, sent) = case.sleep();
    assert_eq!(pause, EMPTY_PATIENCE - 2 * BURST);
    let asked = sent.iter().find(|it| it.is("GET /v2/apps")).unwrap();
    case.answer(asked.conn, &apps(&[]));
    assert_eq!(case.wanted.last().map(|wanted| wanted.apps), Some(0));
    assert_eq!(case.wanted.len(), 3);
}

#[test]
fn the_apps_of_an_earlier_run_are_missed_as_well() {
    let (mut case, sent) = Case::after(&crate::testing::config(), &["http://10.0.0.1:8080"], true);
    let asked = case.answer(sent[0].conn, &format!("{STREAM}{ATTACHED}"));
    case.answer(asked[0].conn, &apps(&[]));
    assert_eq!(case.wanted, [], "the leader may have started with us");
    let (pause, sent) = case.sleep();
    assert_eq!(pause, EMPTY_PATIENCE);
    let asked = sent.iter().find(|it| it.is("GET /v2/apps")).unwrap();
    case.answer(asked.conn, &apps(&[]));
    assert_eq!(case.wanted.len(), 1);
}

#[test]
fn apps_that_were_missing_for_a_moment_are_doubted_anew() {
    let (mut case, stream) = Case::attached();
    let lists: [&[&str]; 4] = [&["a"], &[], &["a"], &[]];
    for list in lists {
        case.answer(stream, CHANGE);
        let (_, sent) = case.sleep();
        case.answer(sent[0].conn, &apps(list));
    }
    assert_eq!(case.wanted.len(), 3);
    let begin = case.wire.bench.now.mono;
    assert_eq!(case.watcher.empty_since, Some(begin), "the patience begins anew");
}

#[test]
fn only_the_first_announcement_of_a_client_is_our_own() {
    let (mut case, stream) = Case::attached();
    assert_eq!(case.answer(stream, &ATTACHED.repeat(100)), []);
    assert_eq!(case.sleep().0, SYNC_INTERVAL);
}
