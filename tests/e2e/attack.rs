//! The listener under attack. Whatever strangers do, an honest client gets the challenge within a
//! second, memory stays under a bound, and no descriptor is lost. Each attack prints what it measured.
//!
//! The last figures, of the release build, on 2 cores that others used as well:
//!
//! ```text
//! attack            answered  slowest  memory at most
//! drip                  1869    95 ms        4604 KiB
//! garbage                 60     7 ms        4300 KiB
//! flood                   79    11 ms        4284 KiB
//! deaf                   475    62 ms        9024 KiB
//! smuggling               86     5 ms        4204 KiB
//! unknown tokens          92    17 ms        3952 KiB
//! few descriptors        237    32 ms        4280 KiB
//! no descriptors        2614    60 ms        4320 KiB
//! ```

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use marathon_acme::log::message::FEW_DESCRIPTORS;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::process::{Outcome, PATIENCE, Process, expect, free_port, local, wait_for_port};
use crate::process::{talk, wait_until};
use crate::site::{Site, text};
use crate::{Test, Tool};

mod ground;

pub(crate) use ground::claim_descriptors;

use ground::{Ground, PING, ask, strangers};

pub(crate) const TESTS: &[Test] = &[
    ("attack_ten_thousand_that_drip", &[Tool::Descriptors], drip),
    ("attack_garbage_and_oversized_heads", &[], garbage),
    ("attack_pipelined_floods", &[], flood),
    ("attack_clients_that_never_read", &[], deaf),
    ("attack_smuggling", &[], smuggling),
    ("attack_unknown_tokens_while_standing_by", &[], strangers_tokens),
    ("attack_all_descriptors_but_a_few", &[], few_descriptors),
    ("attack_every_descriptor", &[], no_descriptors),
];

/// How many connections drip.
const DRIPPING: usize = 10_000;
/// The shares in which they are made.
const DRIPPERS: usize = 4;
/// So many come at once in a share, then it rests. Who comes to a daemon that keeps 512 is pushed out
/// by the 512th after it: a client that does not send its request with its connection needs some time.
const COMING_AT_ONCE: usize = 10;
const COMING_REST: Duration = Duration::from_millis(10);
/// So many of a share come again each second after the daemon has shut them out.
const COMING_AGAIN: usize = 500;
/// How many bytes they send, one a second.
const DRIPS: usize = 8;
/// So many of those who hold their connections come at once.
const HOLDING_AT_ONCE: usize = 2;
/// How many connections the daemon keeps.
const ACCEPTED_MAX: usize = 512;

/// A connection of an attacker, who does not care whether it can be had.
fn connect(port: u16) -> Option<TcpStream> {
    TcpStream::connect_timeout(&local(port), PATIENCE).ok()
}

/// Sends what it can, hears nothing, and is gone.
fn shout(port: u16, bytes: &[u8]) {
    if let Some(mut stream) = connect(port) {
        // Being cut off is what is expected.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// Plays several attackers side by side, each with its number.
fn side_by_side(count: usize, attack: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for number in 0..count {
            let attack = &attack;
            scope.spawn(move || attack(number));
        }
    });
}

fn drip() -> Outcome {
    let ground = Ground::prepare(None)?;
    let port = ground.site.port;
    let report = ground.besiege("drip", port, || {
        let request = format!("GET {PING} HTTP/1.1\r\nHost: x\r\n");
        let share = DRIPPING / DRIPPERS;
        side_by_side(DRIPPERS, |_| {
            let come = |number: usize| {
                if number.is_multiple_of(COMING_AT_ONCE) {
                    thread::sleep(COMING_REST);
                }
                connect(port)
            };
            let mut streams: Vec<Option<TcpStream>> = (0..share).map(come).collect();
            for byte in request.as_bytes().chunks(1).take(DRIPS) {
                let (begin, mut again) = (Instant::now(), 0);
                for stream in &mut streams {
                    let sent = stream.as_mut().is_some_and(|it| it.write_all(byte).is_ok());
                    if !sent && again < COMING_AGAIN {
                        again += 1;
                        *stream = come(again);
                    }
                }
                thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
            }
            // The clients stay: it is the daemon that has had enough.
            let _ = wait_until("the daemon sheds them", || {
                (strangers(&ground.daemon, port) < ACCEPTED_MAX / 2).then_some(())
            });
        });
        Ok(())
    })?;
    ground.settle("drip", (&ground.daemon, port), &report)
}

fn garbage() -> Outcome {
    const ATTACKERS: usize = 8;
    const ROUNDS: usize = 6;
    let ground = Ground::prepare(None)?;
    let port = ground.site.port;
    // The same for every run: a generator of Lehmer's.
    let noise = |seed: usize| {
        let mut state = seed as u64 + 1;
        std::iter::repeat_with(move || {
            state = state * 48_271 % 0x7fff_ffff;
            (state >> 8) as u8
        })
    };
    let report = ground.besiege("garbage", port, || {
        side_by_side(ATTACKERS, |number| {
            for round in 0..ROUNDS {
                let random: Vec<u8> = noise(number * ROUNDS + round).take(64 * 1024).collect();
                shout(port, &random);
                shout(port, format!("GET /{}", "a".repeat(1024 * 1024)).as_bytes());
                let fields = "x: y\r\n".repeat(100_000);
                shout(port, format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}").as_bytes());
                shout(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
                shout(port, &b"\r\n".repeat(100_000));
                let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
                shout(port, format!("{chunked}{}", "1\r\na\r\n".repeat(100_000)).as_bytes());
                shout(port, format!("{chunked}1;{}", "a".repeat(100_000)).as_bytes());
                shout(port, format!("{chunked}0\r\n{}", "x: y\r\n".repeat(100_000)).as_bytes());
            }
        });
        Ok(())
    })?;
    ground.settle("garbage", (&ground.daemon, port), &report)
}

fn flood() -> Outcome {
    const ATTACKERS: usize = 16;
    const BYTES: usize = 512 * 1024;
    let ground = Ground::prepare(None)?;
    let port = ground.site.port;
    let requests: Vec<String> = [PING, "/health", "/nothing", &ground.challenge]
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(1000))
        .into();
    let report = ground.besiege("flood", port, || {
        side_by_side(ATTACKERS, |number| {
            let request = requests[number % requests.len()].as_bytes();
            let mut sent = 0;
            while sent < BYTES {
                let Some(mut stream) = connect(port) else { continue };
                let Ok(mut reader) = stream.try_clone() else { continue };
                let reading = thread::spawn(move || {
                    let mut buffer = [0; 64 * 1024];
                    while reader.read(&mut buffer).is_ok_and(|length| length > 0) {}
                });
                while sent < BYTES && stream.write_all(request).is_ok() {
                    sent += request.len();
                }
                // Everything that was sent is answered, and heard.
                let _ = stream.shutdown(Shutdown::Write);
                let _ = reading.join();
            }
        });
        Ok(())
    })?;
    ground.settle("flood", (&ground.daemon, port), &report)
}

fn deaf() -> Outcome {
    let ground = Ground::prepare(None)?;
    let port = ground.site.port;
    let flood = format!("GET {PING} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(100);
    let report = ground.besiege("deaf", port, || {
        let mut streams: Vec<TcpStream> = (0..ACCEPTED_MAX).filter_map(|_| connect(port)).collect();
        for stream in &streams {
            stream.set_nonblocking(true).map_err(text)?;
            // What this side does not keep for the client, the daemon's side has to keep sooner.
            set_socket_recv_buffer_size(stream, 4096).map_err(text)?;
        }
        // Until none takes a byte more in a whole round: each has all that it will ever get.
        wait_until("the daemon reads no more", || {
            let mut sent = 0;
            for stream in &mut streams {
                while let Ok(length) = stream.write(flood.as_bytes()) {
                    sent += length;
                }
            }
            (sent == 0).then_some(())
        })
    })?;
    ground.settle("deaf", (&ground.daemon, port), &report)
}

/// What the codec's own tests know, over real sockets: the request inside is never answered.
fn smuggling() -> Outcome {
    const ROUNDS: usize = 50;
    let ground = Ground::prepare(None)?;
    let port = ground.site.port;
    let inner = format!("GET {PING} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let length = inner.len();
    let shapes = [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n"),
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n".into(),
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n".into(),
        "Content-Length: +0\r\n\r\n".into(),
        "X: y\nContent-Length: 0\r\n\r\n".into(),
        "X: y\r\n Content-Length: 0\r\n\r\n".into(),
    ];
    let report = ground.besiege("smuggling", port, || {
        for shape in shapes.iter().cycle().take(ROUNDS * shapes.len()) {
            let request = format!("POST /nothing HTTP/1.1\r\nHost: x\r\n{shape}{inner}");
            let answer = talk(port, request.as_bytes())?;
            let one = answer.matches("HTTP/1.1 ").count() == 1;
            let refused = answer.starts_with("HTTP/1.1 400 ") && one;
            expect(refused, || format!("{shape:?} was answered {answer:?}"))?;
        }
        // In order, and so no smuggling: a body that looks like a request is a body.
        let request = format!(
            "GET /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{inner}"
        );
        let answer = talk(port, request.as_bytes())?;
        expect(answer.contains(" 404 ") && !answer.contains("pong"), || answer.clone())
    })?;
    ground.settle("smuggling", (&ground.daemon, port), &report)
}

/// Each of these costs a look into the storage, as long as another instance could have published it.
fn strangers_tokens() -> Outcome {
    const ATTACKERS: usize = 16;
    const ROUNDS: usize = 50;
    const AT_ONCE: usize = 50;
    let ground = Ground::prepare(None)?;
    let port = free_port()?;
    let mut command = Site::command();
    command.args(&ground.arguments).arg(format!("--listen=127.0.0.1:{port}"));
    let mut second = Process::start(ground.site.folder(), "second", &mut command)?;
    second.wait_until_standing_by()?;
    wait_for_port("the second instance", port)?;
    let request = "GET /.well-known/acme-challenge/other HTTP/1.1\r\nHost: x\r\n\r\n";
    let requests = request.repeat(AT_ONCE);
    let report = ground.besiege("unknown tokens", port, || {
        let answered = AtomicUsize::new(0);
        side_by_side(ATTACKERS, |_| {
            let Some(mut stream) = connect(port) else { return };
            let _ = stream.set_read_timeout(Some(PATIENCE));
            for _ in 0..ROUNDS {
                let (mut said, mut buffer) = (String::new(), [0; 4096]);
                let mut sent = stream.write_all(requests.as_bytes()).is_ok();
                while sent && said.matches("HTTP/1.1 404 ").count() < AT_ONCE {
                    let length = stream.read(&mut buffer).unwrap_or(0);
                    said += &String::from_utf8_lossy(&buffer[..length]);
                    sent = length > 0;
                }
                answered.fetch_add(said.matches("HTTP/1.1 404 ").count(), Ordering::SeqCst);
            }
        });
        let answered = answered.into_inner();
        expect(answered == ATTACKERS * ROUNDS * AT_ONCE, || format!("{answered} answers"))
    })?;
    ground.settle("unknown tokens", (&second, port), &report)
}

/// Connections of strangers who hold on to them, each with an answered request, and come again, a few
/// at once, when they are thrown out, until `done` says so.
fn hold(port: u16, count: usize, mut done: impl FnMut() -> bool) {
    let request = format!("GET {PING} HTTP/1.1\r\nHost: x\r\n\r\n");
    let come = || {
        let mut stream = connect(port)?;
        stream.write_all(request.as_bytes()).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    };
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    streams.resize_with(count, || None);
    let mut buffer = [0; 1024];
    while !done() {
        let mut came = 0;
        for stream in &mut streams {
            let there = stream.as_mut().is_some_and(|stream| match stream.read(&mut buffer) {
                Ok(length) => length > 0,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
            if !there && came < HOLDING_AT_ONCE {
                came += 1;
                *stream = come();
            }
        }
        thread::sleep(COMING_REST);
    }
}

fn few_descriptors() -> Outcome {
    let ground = Ground::prepare(Some(64))?;
    let (site, port) = (&ground.site, ground.site.port);
    let report = ground.besiege("few descriptors", port, || {
        // The one that is waited for has its validation at once, in the middle of the attack.
        ground.ca.ca.with(|ca, _| ca.settings.validation_delay_ms = 0);
        let certificate = site.certificate("b.example.com");
        let begin = Instant::now();
        let mut deployed = false;
        hold(port, 200, || {
            let full = ground.daemon.output().contains(FEW_DESCRIPTORS);
            if full && !std::mem::replace(&mut deployed, full) {
                site.deploy("/b", "b.example.com");
            }
            certificate.exists() || begin.elapsed() > PATIENCE
        });
        site.wait_for_certificate(&ground.daemon, "b.example.com")
    })?;
    ground.settle("few descriptors", (&ground.daemon, port), &report)?;
    quiet(&ground.daemon)
}

/// Whether an attack has left few lines in the log.
fn quiet(daemon: &Process) -> Outcome {
    let output = daemon.output();
    let about = output.lines().filter(|line| line.contains("descriptors")).count();
    expect((1..=4).contains(&about), || format!("{about} lines about it:\n{output}"))
}

/// Sets how many descriptors a running process may have.
fn limit(process: &Process, current: u64) -> Outcome {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
    let new = Rlimit { current: Some(current), maximum: None };
    let old = prlimit(Some(pid), Resource::Nofile, Rlimit { maximum: hard(process)?, ..new });
    old.map(|_| ()).map_err(text)
}

/// The hard limit of a process.
fn hard(process: &Process) -> Outcome<Option<u64>> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).map_err(text)?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    Ok(line.and_then(|line| line.split_whitespace().nth(4)?.parse().ok()))
}

fn no_descriptors() -> Outcome {
    let mut ground = Ground::prepare(None)?;
    let port = ground.site.port;
    let report = ground.besiege("no descriptors", port, || {
        let begin = Instant::now();
        let mut limited = Ok(false);
        hold(port, 100, || {
            // Then more are open than may be, and no number below that is free.
            if limited == Ok(false) && strangers(&ground.daemon, port) >= 100 {
                limited = limit(&ground.daemon, 64).map(|()| true);
            }
            let said = ground.daemon.output().contains(FEW_DESCRIPTORS);
            said || limited.is_err() || begin.elapsed() > PATIENCE
        });
        limited.map(|_| ())
    })?;
    // Nothing at all can be opened, for the disk and the CA neither.
    limit(&ground.daemon, 3)?;
    ground.ca.ca.with(|ca, _| ca.settings.validation_delay_ms = 0);
    ground.site.deploy("/b", "b.example.com");
    ground.daemon.wait_for("Too many open files")?;
    wait_until("something else fails for want of descriptors", || {
        let output = ground.daemon.output();
        let failed =
            |line: &str| line.contains("Too many open files") && !line.contains(" listen ");
        output.lines().any(failed).then_some(())
    })?;
    limit(&ground.daemon, 256)?;
    wait_until("it is answered again", || ask(port, PING).ok())?;
    ground.site.wait_for_certificate(&ground.daemon, "b.example.com")?;
    ground.settle("no descriptors", (&ground.daemon, port), &report)?;
    quiet(&ground.daemon)
}
