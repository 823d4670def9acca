//! The stand-in of Marathon, byte by byte.

use serde_json::json;

use super::*;
use crate::harness::Harness;

const STREAM: &str = "GET /v2/events HTTP/1.1\r\nHost: m\r\nAccept: text/event-stream\r\n\r\n";

fn marathon(change: impl FnOnce(&mut Settings)) -> Harness<Marathon> {
    let mut settings = Settings::default();
    change(&mut settings);
    Harness::new(Marathon::new(settings))
}

/// A connection with an open stream, its head and first event read.
fn attach(harness: &mut Harness<Marathon>, request: &str) -> u64 {
    let conn = harness.connect();
    harness.send(conn, request.as_bytes());
    conn
}

/// The names in the order of `event:` lines.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

#[test]
fn the_stream_opens_to_the_byte() {
    let mut harness = marathon(|_| {});
    let conn = attach(&mut harness, STREAM);
    assert_eq!(
        harness.text(conn),
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=utf-8\r\nConnection: close\r\n\
         \r\nevent: event_stream_attached\r\ndata: {\"remoteAddress\":\"127.0.0.1\",\"eventType\":\
         \"event_stream_attached\",\"timestamp\":\"2026-11-23T17:00:00.000Z\"}\r\n\r\n"
    );
    assert!(harness.ended.is_empty());
    let second = attach(&mut harness, STREAM);
    assert_eq!(names(&harness.text(conn)), ["event_stream_attached"], "all clients hear of it");
    assert_eq!(names(&harness.text(second)), ["event_stream_attached"]);
}

#[test]
fn the_stream_needs_the_exact_accept_line() {
    for accept in ["", "Accept: */*\r\n", "Accept: text/event-stream, */*\r\n"] {
        let mut harness = marathon(|_| {});
        let conn = harness.connect();
        let request = format!("GET /v2/events HTTP/1.1\r\nHost: m\r\n{accept}\r\n");
        harness.send(conn, request.as_bytes());
        let text = harness.text(conn);
        assert!(text.starts_with("HTTP/1.1 405 ") && text.contains("text/html"), "{text}");
        assert_eq!(harness.peer.stream_count(), 0);
    }
}

#[test]
fn a_heartbeat_is_two_writes_every_ten_seconds() {
    let mut harness = marathon(|_| {});
    attach(&mut harness, STREAM);
    harness.pass_ms(9_999);
    harness.writes.clear();
    harness.pass_ms(1);
    assert_eq!(harness.writes, [b"\r", b"\n"]);
    harness.pass_ms(20_000);
    assert_eq!(harness.writes.len(), 6);

    harness.peer.settings.heartbeats = false;
    harness.pass_ms(60_000);
    assert_eq!(harness.writes.len(), 6);
}

#[test]
fn each_operation_publishes_its_events() {
    let mut harness = marathon(|_| {});
    let conn = attach(&mut harness, STREAM);
    let now = harness.now;
    harness.text(conn);
    let app = json!({"id": "/shop/www"});
    harness.peer.put_app(now, app.clone());
    harness.drain();
    let text = harness.text(conn);
    assert_eq!(names(&text), ["api_post_event", "group_change_success"]);
    let uri = r#"{"clientIp":"0:0:0:0:0:0:0:1","uri":"/v2/apps/shop/www","appDefinition":{"id""#;
    assert!(text.contains(uri) && text.contains(r#"{"groupId":"/shop","version":"2026"#), "{text}");

    harness.peer.put_apps(now, vec![app]);
    harness.peer.restart_app(now, "/shop/www");
    assert!(harness.peer.delete_app(now, "/shop/www"));
    assert!(!harness.peer.delete_app(now, "/shop/www"));
    harness.drain();
    assert_eq!(names(&harness.text(conn)), ["group_change_success"; 3]);
    let published = harness.peer.published().iter().map(|event| event.name.as_str());
    let all: Vec<&str> = published.collect();
    assert_eq!((all.len(), all[0], all[5]), (6, "event_stream_attached", "group_change_success"));
}

#[test]
fn a_deployment_ends_later() {
    let mut harness = marathon(|settings| settings.deployment_ms = Some(2_000));
    let conn = attach(&mut harness, STREAM);
    harness.text(conn);
    harness.peer.put_app(harness.now, json!({"id": "/www"}));
    harness.drain();
    assert_eq!(
        names(&harness.text(conn)),
        ["api_post_event", "group_change_success", "deployment_info"]
    );
    harness.peer.delete_app(harness.now, "/www");
    harness.drain();
    harness.text(conn);
    harness.pass_ms(2_000);
    let text = harness.text(conn);
    assert_eq!(names(&text), ["deployment_success", "app_terminated_event", "deployment_success"]);
    assert!(text.contains(r#"{"action":"StartApplication","app":"/www"}"#), "{text}");
}

#[test]
fn a_client_hears_only_what_it_asked_for() {
    let request = STREAM.replace("events ", "events?event_type=group_change_success ");
    let mut harness = marathon(|_| {});
    let conn = attach(&mut harness, &request);
    harness.peer.put_app(harness.now, json!({"id": "/www"}));
    harness.drain();
    assert_eq!(names(&harness.text(conn)), ["group_change_success"]);

    let mut old = marathon(|settings| {
        settings.event_filter = false;
        settings.event_lines = false;
    });
    let conn = attach(&mut old, &request);
    old.peer.put_app(old.now, json!({"id": "/www"}));
    old.drain();
    let text = old.text(conn);
    assert!(names(&text).is_empty() && text.matches("\r\ndata: ").count() == 3, "{text}");
}

#[test]
fn raw_bytes_and_the_end_of_all_streams() {
    let mut harness = marathon(|_| {});
    let conn = attach(&mut harness, STREAM);
    harness.text(conn);
    harness.peer.emit(b"data: x");
    harness.peer.drop_streams();
    harness.drain();
    assert_eq!((harness.text(conn).as_str(), &harness.ended[..]), ("data: x", &[conn][..]));
    harness.pass_ms(30_000);
    assert_eq!(harness.text(conn), "");
}

#[test]
fn apps_are_counted_when_few_and_chunked_when_many() {
    let mut harness = marathon(|_| {});
    harness.peer.put_app(harness.now, json!({"id": "/www", "labels": {"a": "b"}}));
    let few = harness.ask("GET /v2/apps HTTP/1.1", "");
    let body =
        r#"{"apps":[{"id":"/www","labels":{"a":"b"},"version":"2026-11-23T17:00:00.000Z"}]}"#;
    assert_eq!(String::from_utf8(few.body).unwrap(), body);
    assert!(few.headers.iter().any(|(name, _)| name == "Content-Length"));

    let many = (0..1_000).map(|n| json!({"id": format!("/app-{n}")})).collect();
    harness.peer.put_apps(harness.now, many);
    let many = harness.ask("GET /v2/apps HTTP/1.1", "");
    assert_eq!(many.header("Transfer-Encoding"), Some("chunked"));
    let body: Value = serde_json::from_slice(&many.body).unwrap();
    assert_eq!(body["apps"].as_array().unwrap().len(), 1_001);
}

#[test]
fn an_old_marathon_writes_nulls() {
    let mut harness = marathon(|settings| settings.explicit_nulls = true);
    harness.peer.put_app(harness.now, json!({"id": "/www", "ports": [1]}));
    let response = harness.ask("GET /v2/apps HTTP/1.1", "");
    assert_eq!(response.header("Content-Type"), Some("application/json; qs=2"));
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    let app = body["apps"][0].as_object().unwrap();
    assert_eq!((app.get("container"), app.get("ports")), (Some(&Value::Null), Some(&json!([1]))));
}

#[test]
fn spoilt_lists_of_apps() {
    let mut harness = marathon(|_| {});
    harness.peer.put_app(harness.now, json!({"id": "/www"}));
    let mut answer = |apps| {
        harness.peer.settings.apps = apps;
        harness.ask("GET /v2/apps HTTP/1.1", "")
    };
    assert_eq!(answer(AppsAnswer::Html(500)).status, 500);
    assert_eq!(answer(AppsAnswer::Empty).body, b"");
    assert_eq!(answer(AppsAnswer::Text("[]".to_string())).body, b"[]");
    assert_eq!(answer(AppsAnswer::Gzip).body[..2], [0x1f, 0x8b]);

    harness.peer.settings.apps = AppsAnswer::Cut(5);
    let conn = harness.connect();
    harness.send(conn, b"GET /v2/apps HTTP/1.1\r\nHost: m\r\n\r\n");
    assert!(harness.text(conn).ends_with("\r\n\r\n{\"app") && harness.ended.contains(&conn));
}

#[test]
fn a_standby_sends_to_the_leader_and_proxies_the_rest() {
    let leader = "http://10.0.0.2:8080".to_string();
    let mut harness = marathon(|settings| settings.role = Role::Standby { leader });
    let moved =
        harness.ask("GET /v2/events?event_type=x HTTP/1.1\r\nAccept: text/event-stream", "");
    let location = moved.header("Location");
    assert_eq!(
        (moved.status, location),
        (302, Some("http://10.0.0.2:8080/v2/events?event_type=x"))
    );
    let apps = harness.ask("GET /v2/apps HTTP/1.1", "");
    assert_eq!(apps.header("X-Marathon-Via"), Some("1.1 marathon.mesos:8080"));
    let leader = harness.ask("GET /v2/leader HTTP/1.1", "");
    assert_eq!(leader.body, br#"{"leader":"10.0.0.2:8080"}"#);
}

#[test]
fn without_a_leader_requests_wait_and_fail() {
    let mut harness = marathon(|settings| settings.role = Role::NoLeader);
    let conn = harness.connect();
    harness.send(conn, STREAM.as_bytes());
    harness.pass_ms(2_749);
    assert_eq!(harness.text(conn), "");
    harness.pass_ms(1);
    assert!(harness.text(conn).starts_with("HTTP/1.1 502 "));
}

#[test]
fn streams_that_go_wrong() {
    let mut harness = marathon(|settings| settings.events = StreamAnswer::CloseAtOnce);
    let conn = attach(&mut harness, STREAM);
    assert!(harness.text(conn).ends_with("close\r\n\r\n") && harness.ended.contains(&conn));

    harness.peer.settings.events = StreamAnswer::Silent;
    let conn = attach(&mut harness, STREAM);
    assert!(harness.text(conn).ends_with("close\r\n\r\n") && !harness.ended.contains(&conn));

    harness.peer.settings.events = StreamAnswer::Html;
    let conn = attach(&mut harness, STREAM);
    assert!(harness.text(conn).contains("text/html"));

    harness.peer.settings.events = StreamAnswer::Error(500);
    let conn = attach(&mut harness, STREAM);
    assert!(harness.text(conn).starts_with("HTTP/1.1 500 "));
}

#[test]
fn credentials_base_path_and_trouble() {
    let mut harness = marathon(|settings| {
        settings.basic_auth = Some(("user".to_string(), "pa:ss".to_string()));
        settings.base_path = "/service/marathon".to_string();
    });
    let denied = harness.ask("GET /service/marathon/ping HTTP/1.1", "");
    let realm = denied.header("WWW-Authenticate");
    assert_eq!((denied.status, realm), (401, Some("Basic realm=\"Mesosphere\"")));
    let auth = "Authorization: Basic dXNlcjpwYTpzcw==";
    let granted = harness.ask(&format!("GET /service/marathon/ping HTTP/1.1\r\n{auth}"), "");
    assert_eq!((granted.status, &granted.body[..]), (200, &b"pong"[..]));
    assert_eq!(harness.ask(&format!("GET /v2/apps HTTP/1.1\r\n{auth}"), "").status, 404);

    harness.peer.settings.basic_auth = None;
    harness.peer.settings.token = Some("e.y.J".to_string());
    let denied = harness.ask(&format!("GET /service/marathon/ping HTTP/1.1\r\n{auth}"), "");
    assert_eq!((denied.status, denied.header("WWW-Authenticate")), (401, Some("acsjwt")));
    let auth = "Authorization: token=e.y.J";
    let granted = harness.ask(&format!("GET /service/marathon/ping HTTP/1.1\r\n{auth}"), "");
    assert_eq!(granted.status, 200);

    harness.peer.settings.unavailable = true;
    let busy = harness.ask(&format!("GET /service/marathon/ping HTTP/1.1\r\n{auth}"), "");
    assert_eq!(busy.status, 503);
    let statuses: Vec<u16> = harness.peer.seen().iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [401, 200, 404, 401, 200, 503]);
}

#[test]
fn a_marathon_that_is_down_or_slow() {
    let mut harness = marathon(|settings| settings.down = true);
    assert!(harness.peer.refuses());
    let conn = harness.connect();
    assert_eq!(harness.ended, [conn]);

    let mut harness = marathon(|settings| settings.delay_ms = 300);
    let conn = harness.connect();
    harness.send(conn, b"GET /v2/info HTTP/1.1\r\nHost: m\r\n\r\n");
    assert_eq!(harness.text(conn), "");
    harness.pass_ms(300);
    assert!(harness.text(conn).contains(r#""elected":true"#));
}

#[test]
fn a_list_ends_anywhere_and_an_event_in_the_middle() {
    let mut harness = marathon(|_| {});
    let whole = harness.peer.list();
    assert_eq!(whole, r#"{"apps":[]}"#);
    for length in [0, 10, 80] {
        harness.peer.settings.apps = AppsAnswer::CutAnywhere(length);
        let conn = harness.connect();
        harness.send(conn, b"GET /v2/apps HTTP/1.1\r\nHost: m\r\n\r\n");
        assert_eq!(harness.text(conn).len(), length);
        assert!(harness.ended.contains(&conn));
        assert_eq!(harness.peer.list(), whole);
    }
    let conn = attach(&mut harness, STREAM);
    harness.text(conn);
    harness.peer.cut_streams("some_event", "{}", 1_000);
    harness.drain();
    assert_eq!(harness.text(conn), "event: some_event\r\ndata: {}\r\n\r");
    assert_eq!(harness.peer.stream_count(), 0);
}

#[test]
fn strange_apps_stand_in_the_list_as_they_are() {
    let mut harness = marathon(|_| {});
    harness.peer.put_app(Time::default(), json!({"id": "/a"}));
    harness.peer.settings.strange_apps = vec!["null".into(), "[7]".into()];
    assert!(harness.peer.list().ends_with(",null,[7]]}"));
    harness.peer.settings.strange_apps.clear();
    assert!(harness.peer.list().ends_with("}]}"));
}
