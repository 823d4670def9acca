//! `make bench`: how fast and how large, each beside a peer measured in the same run. Prints figures,
//! judges nothing.

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use marathon_acme::marathon::AppsParser;
use serde::de::IgnoredAny;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_marathon-acme");
const APPS: usize = 10_000;
const REQUESTS: usize = 20_000;
const ROUNDS: usize = 5;
/// A piece of an answer, as it comes off a socket.
const PIECE_BYTES: usize = 16 * 1024;
const PING: &str = "/.well-known/acme-challenge/ping";

fn main() -> Outcome<()> {
    apps()?;
    listener()
}

/// The best of some rounds: what disturbs only ever makes it slower.
fn best(mut run: impl FnMut() -> Outcome<()>) -> Outcome<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        run()?;
        best = best.min(begin.elapsed());
    }
    Ok(best)
}

/// `/v2/apps` of a large cluster, against the plainest walk over the same JSON.
fn apps() -> Outcome<()> {
    let app = |number: usize| {
        format!(
            r#"{{"id":"/group/app-{number}","cmd":null,"args":null,"cpus":0.1,"mem":128,"env":{{"A":"{env}"}},
            "networks":[{{"mode":"container/bridge"}}],"container":{{"type":"DOCKER","docker":{{"image":"x"}},
            "portMappings":[{{"containerPort":80,"hostPort":0,"servicePort":{number}}}]}},
            "labels":{{"HAPROXY_GROUP":"external","HAPROXY_0_VHOST":"a{number}.example.com",
            "MARATHON_ACME_0_DOMAIN":"a{number}.example.com"}},"version":"2026-11-23T17:00:00.000Z"}}"#,
            env = "x".repeat(1500)
        )
    };
    let apps: Vec<String> = (0..APPS).map(app).collect();
    let json = format!(r#"{{"apps":[{}]}}"#, apps.join(",")).into_bytes();
    let ours = best(|| {
        let mut parser = AppsParser::new();
        let mut found = Vec::new();
        for piece in json.chunks(PIECE_BYTES) {
            parser.feed(piece, &mut found)?;
            black_box(&found);
            found.clear();
        }
        Ok(parser.finish()?)
    })?;
    let peer = best(|| {
        black_box(serde_json::from_slice::<IgnoredAny>(&json)?);
        Ok(())
    })?;
    let speed = |time: Duration| json.len() as f64 / 1e6 / time.as_secs_f64();
    println!(
        "{APPS} apps, {} MB: {:.0} MB/s, serde_json into IgnoredAny {:.0} MB/s, ratio {:.2}",
        json.len() / 1_000_000,
        speed(ours),
        speed(peer),
        speed(ours) / speed(peer)
    );
    Ok(())
}

/// A process that ends with the benchmark.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command, port: u16) -> Outcome<(Running, Duration)> {
    let begin = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let running = Running(child);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begin.elapsed() > Duration::from_secs(10) {
            return Err("it does not listen".into());
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok((running, begin.elapsed()))
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// One client on one kept connection; the peer is HAProxy that answers by itself.
fn listener() -> Outcome<()> {
    let folder = std::env::temp_dir().join(format!("marathon-acme-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let port = free_port()?;
    let mut command = Command::new(PROGRAM);
    let nobody = "http://127.0.0.1:9";
    command.args(["--acme=https://127.0.0.1:9/dir", "-m", nobody, "-l", nobody]);
    command.arg(format!("--listen=127.0.0.1:{port}")).arg(&folder);
    let (ours, listening) = start(&mut command, port)?;
    let resident = resident_kib(ours.0.id())?;
    let bytes = fs::metadata(PROGRAM)?.len();
    println!(
        "program {bytes} bytes, from exec to listening {:.1} ms, resident {resident} KiB",
        listening.as_secs_f64() * 1e3
    );
    let rate = requests_a_second(port)?;
    match haproxy(&folder) {
        Ok((_peer, port)) => {
            let peer = requests_a_second(port)?;
            println!("ping: {rate:.0} requests/s, HAProxy {peer:.0}, ratio {:.2}", rate / peer);
        }
        Err(error) => println!("ping: {rate:.0} requests/s; no HAProxy to compare with: {error}"),
    }
    drop(ours);
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn haproxy(folder: &Path) -> Outcome<(Running, u16)> {
    let port = free_port()?;
    let config = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n\
         frontend f\n  bind 127.0.0.1:{port}\n  http-request return status 200 content-type \
         application/json string '{{\"message\": \"pong\"}}'\n"
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config)?;
    let (running, _) = start(Command::new("haproxy").arg("-f").arg(&file), port)?;
    Ok((running, port))
}

fn requests_a_second(port: u16) -> Outcome<f64> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
    stream.set_nodelay(true)?;
    let request = format!("GET {PING} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut buffer = [0; 4096];
    let time = best(|| {
        for _ in 0..REQUESTS {
            stream.write_all(request.as_bytes())?;
            let mut length = 0;
            while !buffer[..length].ends_with(b"\"pong\"}") {
                length += match stream.read(&mut buffer[length..])? {
                    0 => return Err("the connection ended".into()),
                    more => more,
                };
            }
        }
        Ok(())
    })?;
    Ok(REQUESTS as f64 / time.as_secs_f64())
}

fn resident_kib(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS in /proc")?.parse()?)
}
