//! The listener as load balancers, CAs, monitors and strangers meet it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::process::{Outcome, PATIENCE, Process, expect, get, local, talk, wait_for_port};
use crate::site::{Site, exchange, text};
use crate::trace::injected;
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("ping_health_and_what_is_not_there", &[], paths),
    ("head_methods_and_malformed_requests", &[], methods),
    ("keep_alive_and_pipelining", &[], pipelining),
    ("who_says_no_more_is_answered", &[], half_closed),
    ("a_slow_head_is_closed_after_its_time", &[], slow_head),
    ("the_oldest_idle_connection_makes_room", &[], full_house),
    ("where_ipv6_sockets_are_refused_ipv4_is_listened_on", &[Tool::Strace], no_ipv6),
];

const PING: &str = "/.well-known/acme-challenge/ping";

/// A daemon whose peers are all away: the listener answers before anything else.
fn alone() -> Outcome<(Site, Process)> {
    let site = Site::new()?;
    let daemon = site.daemon("daemon", &words(&site, &format!("127.0.0.1:{}", site.port)), &[])?;
    Ok((site, daemon))
}

fn words(site: &Site, listen: &str) -> [String; 5] {
    let nobody = "http://127.0.0.1:9";
    [
        "--acme=https://127.0.0.1:9/dir".to_string(),
        format!("--marathon={nobody}"),
        format!("--lb={nobody}"),
        format!("--listen={listen}"),
        site.storage.display().to_string(),
    ]
}

fn connect(site: &Site) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(local(site.port)).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    Ok(stream)
}

fn has(answer: &str, parts: &[&str]) -> Outcome {
    let lower = answer.to_ascii_lowercase();
    expect(parts.iter().all(|part| lower.contains(&part.to_ascii_lowercase())), || answer.into())
}

fn paths() -> Outcome {
    let (site, mut daemon) = alone()?;
    let ping = get(site.port, PING)?;
    has(&ping, &["HTTP/1.1 200 OK", "content-type: application/json"])?;
    expect(ping.ends_with("\r\n\r\n{\"message\": \"pong\"}"), || ping)?;
    daemon.wait_until_syncs_failed(site.port, 1)?;
    has(&get(site.port, "/health")?, &[" 200 ", "degraded", "marathon:"])?;
    for path in [
        "/.well-known/acme-challenge/unknown",
        "/.well-known/acme-challenge/..%2fclient.key",
        "/.well-known/acme-challenge/../../client.key",
        "/.well-known/acme-challenge/",
        "/v2/apps",
    ] {
        has(&get(site.port, path)?, &[" 404 "])?;
    }
    Ok(())
}

fn methods() -> Outcome {
    let (site, _daemon) = alone()?;
    let ask =
        |head: &str| talk(site.port, format!("{head}\r\nConnection: close\r\n\r\n").as_bytes());
    let head = ask(&format!("HEAD {PING} HTTP/1.1\r\nHost: x"))?;
    has(&head, &[" 200 ", "content-length: 19"])?;
    expect(head.ends_with("\r\n\r\n"), || head)?;
    has(
        &ask(&format!("POST {PING} HTTP/1.1\r\nHost: x\r\nContent-Length: 0"))?,
        &[" 405 ", "allow: GET, HEAD"],
    )?;
    has(&ask(&format!("GET {PING} HTTP/1.1\r\nHost: x\r\nX: {}", "a".repeat(9000)))?, &[" 431 "])?;
    for malformed in
        ["GET\r\nHost: x", "GET /x HTTP/1.1\r\nHost: x\r\n folded", "\u{1}\u{2} / HTTP/1.1"]
    {
        has(&ask(malformed)?, &[" 400 "])?;
    }
    // An HTTP/1.0 client gets an end of the connection with its answer.
    has(&talk(site.port, format!("GET {PING} HTTP/1.0\r\n\r\n").as_bytes())?, &[" 200 ", "pong"])
}

fn pipelining() -> Outcome {
    let (site, _daemon) = alone()?;
    let mut stream = connect(&site)?;
    let request = format!("GET {PING} HTTP/1.1\r\nHost: x\r\n\r\n");
    for _ in 0..3 {
        has(&exchange(&mut stream, &request)?, &[" 200 ", "pong"])?;
    }
    let last = format!("GET {PING} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let burst = request.repeat(50) + "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" + &last;
    stream.write_all(burst.as_bytes()).map_err(text)?;
    let mut answers = String::new();
    stream.read_to_string(&mut answers).map_err(text)?;
    let count = |words: &str| answers.matches(words).count();
    expect((count("pong"), count(" 404 ")) == (51, 1), || answers.clone())?;
    let (at_404, at_last) = (answers.find(" 404 "), answers.rfind("pong"));
    expect(at_404 < at_last, || "the answers are not in the requests' order".into())
}

/// As `nc -N` asks: the question and the end of it come together.
fn half_closed() -> Outcome {
    let (site, _daemon) = alone()?;
    for path in [PING, "/health", "/metrics", "/status.json"] {
        let mut stream = connect(&site)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(text)?;
        stream.shutdown(Shutdown::Write).map_err(text)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(text)?;
        has(&answer, &[" 200 "]).map_err(|answer| format!("{path}: {answer:?}"))?;
    }
    Ok(())
}

fn slow_head() -> Outcome {
    let (site, _daemon) = alone()?;
    let mut idle = connect(&site)?;
    let mut slow = connect(&site)?;
    slow.write_all(b"GET / HTTP/1.1\r\nHo").map_err(text)?;
    for stream in [&mut slow, &mut idle] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).map_err(text)?;
        let said = String::from_utf8_lossy(&rest).into_owned();
        expect(rest.is_empty() || said.contains(" 408 "), || said)?;
    }
    has(&get(site.port, PING)?, &["pong"])
}

fn full_house() -> Outcome {
    const CONNECTIONS_MAX: usize = 512;
    let (site, _daemon) = alone()?;
    let request = format!("GET {PING} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = connect(&site)?;
        has(&exchange(&mut stream, &request)?, &["pong"])?;
        streams.push(stream);
    }
    let mut newest = connect(&site)?;
    has(&exchange(&mut newest, &request)?, &["pong"])?;
    let mut rest = Vec::new();
    streams[0].read_to_end(&mut rest).map_err(text)?;
    expect(rest.is_empty(), || "the oldest was told something".into())?;
    has(&exchange(&mut streams[1], &request)?, &["pong"])?;
    has(&exchange(&mut newest, &request)?, &["pong"])
}

/// The first socket of a run is that of the listener, for IPv6.
fn no_ipv6() -> Outcome {
    for error in ["EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT", "EINVAL"] {
        let site = Site::new()?;
        let mut command = injected("socket", &format!("error={error}:when=1"));
        command.args(words(&site, &format!(":{}", site.port)));
        let _daemon = Process::start(site.folder(), error, &mut command)?;
        wait_for_port("the daemon", site.port)?;
        has(&get(site.port, PING)?, &["HTTP/1.1 200 OK"])?;
    }
    Ok(())
}
