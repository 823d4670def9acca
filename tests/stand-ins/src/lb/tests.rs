//! The stand-in of marathon-lb, byte by byte.

use super::*;
use crate::harness::Harness;

fn load_balancer(change: impl FnOnce(&mut Settings)) -> Harness<LoadBalancer> {
    let mut settings = Settings::default();
    change(&mut settings);
    let now = Time { mono_ms: 1_000, unix_ms: 0 };
    Harness::new(LoadBalancer::new(now, settings))
}

/// Status and body of a request without a body.
fn ask(harness: &mut Harness<LoadBalancer>, line: &str) -> (u16, String) {
    let response = harness.ask(&format!("{line} HTTP/1.1\r\nContent-Length: 0"), "");
    (response.status, String::from_utf8(response.body).unwrap())
}

#[test]
fn a_signal_reloads_a_little_later() {
    let mut harness = load_balancer(|_| {});
    for (method, count) in [("POST", 1), ("GET", 2), ("DELETE", 3)] {
        let answer = ask(&mut harness, &format!("{method} /_mlb_signal/usr1"));
        assert_eq!(answer, (200, "Sent SIGUSR1 signal to marathon-lb".to_string()));
        harness.pass_ms(179);
        assert_eq!(harness.peer.reloads().len(), count - 1);
        harness.pass_ms(1);
        assert_eq!(harness.peer.reloads().len(), count);
    }
    assert_eq!(harness.peer.reloads()[0].mono_ms, 1_180);
}

#[test]
fn the_pids_of_a_reload() {
    let mut harness = load_balancer(|_| {});
    let pids_after = |harness: &mut Harness<LoadBalancer>, ms| {
        harness.pass_ms(ms);
        ask(harness, "GET /_haproxy_getpids").1
    };
    assert_eq!(pids_after(&mut harness, 0), "32");
    ask(&mut harness, "POST /_mlb_signal/usr1");
    assert_eq!(pids_after(&mut harness, 50), "65 32", "a checker");
    assert_eq!(pids_after(&mut harness, 100), "32", "it is gone");
    assert_eq!(pids_after(&mut harness, 100), "98 32", "the new process beside the old one");
    assert_eq!(pids_after(&mut harness, 1_000), "98", "which has finished");
    harness.peer.settings.offers_pids = false;
    assert_eq!(ask(&mut harness, "GET /_haproxy_getpids").0, 503);
    harness.peer.settings.offers_pids = true;
    harness.peer.settings.garbled_pids = true;
    assert_eq!(ask(&mut harness, "GET /_haproxy_getpids"), (200, "pidof: not found".to_string()));
    let counts = harness.peer.counts();
    assert_eq!((counts.no_pids, counts.garbled_pids), (1, 1));
}

#[test]
fn a_master_process_outlives_every_reload() {
    for (place, shown) in [(0, "31 98"), (1, "98 31"), (usize::MAX, "98 31")] {
        let mut harness = load_balancer(|settings| settings.master_at = Some(place));
        ask(&mut harness, "POST /_mlb_signal/usr1");
        harness.pass_ms(1_000);
        assert_eq!(ask(&mut harness, "GET /_haproxy_getpids").1, shown, "at {place}");
    }
}

#[test]
fn a_page_of_something_else() {
    let mut harness = load_balancer(|settings| settings.html = 1);
    let (status, page) = ask(&mut harness, "POST /_mlb_signal/usr1");
    assert!(status == 502 && page.contains("<html>"), "{status} {page}");
    assert_eq!(ask(&mut harness, "POST /_mlb_signal/usr1").0, 200);
    harness.pass_ms(1_000);
    assert_eq!((harness.peer.reloads().len(), harness.peer.counts().html), (1, 1));
}

#[test]
fn a_hup_reloads_only_a_changed_configuration() {
    let mut harness = load_balancer(|_| {});
    let answer = (200, "Sent SIGHUP signal to marathon-lb".to_string());
    assert_eq!(ask(&mut harness, "POST /_mlb_signal/hup"), answer);
    harness.pass_ms(1_000);
    assert_eq!(harness.peer.reloads().len(), 0);
    harness.peer.settings.configuration_changed = true;
    assert_eq!(ask(&mut harness, "POST /_mlb_signal/hup"), answer);
    harness.pass_ms(1_000);
    assert_eq!(harness.peer.reloads().len(), 1);
}

#[test]
fn failed_and_swallowed_signals() {
    let mut harness = load_balancer(|settings| {
        settings.failures = 1;
        settings.swallowed = 1;
    });
    let failed = "Failed to send SIGUSR1 signal to marathon-lb (exit code 1). \
                  Is marathon-lb running in 'poll' mode?";
    assert_eq!(ask(&mut harness, "POST /_mlb_signal/usr1"), (500, failed.to_string()));
    assert_eq!(ask(&mut harness, "POST /_mlb_signal/usr1").0, 200);
    harness.pass_ms(1_000);
    assert_eq!(harness.peer.reloads().len(), 0);
    assert_eq!(ask(&mut harness, "POST /_mlb_signal/usr1").0, 200);
    harness.pass_ms(1_000);
    assert_eq!(harness.peer.reloads().len(), 1);
    assert_eq!(harness.peer.seen().iter().map(|seen| seen.status).max(), Some(500));
}

#[test]
fn the_other_pages() {
    let mut harness = load_balancer(|_| {});
    assert_eq!(ask(&mut harness, "GET /_haproxy_health_check"), (200, String::new()));
    assert!(ask(&mut harness, "GET /_haproxy_getconfig").1.contains("bind *:443 ssl crt"));
    assert!(ask(&mut harness, "GET /metrics").1.contains("start_time_seconds 0\n"));
    assert_eq!(ask(&mut harness, "GET /nothing").0, 503);
}

#[test]
fn down_and_slow() {
    let mut harness = load_balancer(|settings| settings.down = true);
    assert!(harness.peer.refuses());
    let conn = harness.connect();
    assert_eq!(harness.ended, [conn]);

    let mut harness = load_balancer(|settings| settings.delay_ms = 700);
    let conn = harness.connect();
    harness.send(conn, b"POST /_mlb_signal/usr1 HTTP/1.1\r\nHost: l\r\nContent-Length: 0\r\n\r\n");
    harness.pass_ms(699);
    assert_eq!(harness.text(conn), "");
    harness.pass_ms(1);
    assert!(harness.text(conn).starts_with("HTTP/1.1 200 "));
}
