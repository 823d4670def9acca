//! What a certificate costs: CPU time and requests to the CA, of the daemon and of `lego` and `uacme`, each
//! with an account of its own at the same Pebble; and how the daemon answers challenges while it orders
//! many. The others are restarted for each certificate, as they are made to be.
//! Never counts the making of an account.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::pebble::Pebble;
use crate::process::{Outcome, Running, bare, find, free_port, local, wait_until};
use crate::site::Site;
use crate::{Bench, servers, setting, stored, table, usage};

/// Between two requests of the one who looks how fast challenges are answered meanwhile.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS_BEFORE: usize = 500;
const PING: &[u8] = b"GET /.well-known/acme-challenge/ping HTTP/1.1\r\nHost: x\r\n\r\n";

/// What certificates took, of each.
#[derive(Clone, Copy)]
struct Cost {
    cpu: Duration,
    requests: usize,
    count: usize,
    wall: Duration,
}

impl Cost {
    fn cpu_ms(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / self.count as f64
    }

    fn requests(&self) -> f64 {
        self.requests as f64 / self.count as f64
    }

    fn wall_ms(&self) -> f64 {
        self.wall.as_secs_f64() * 1e3 / self.count as f64
    }
}

pub(crate) fn measure(bench: &Bench) -> Outcome {
    table::subject("certificates");
    if find("pebble").is_none() || find("pebble-challtestsrv").is_none() {
        table::missing("certificates", "pebble missing");
        return Ok(());
    }
    let http_port = free_port()?;
    let pebble = Pebble::start(bench.folder.path(), http_port)?;
    let ours = ours(bench, &pebble, http_port)?;
    let count = usize::try_from(setting("BENCH_PEER_CERTIFICATES", 10))?;
    let peers: [(&str, Outcome<Cost>); 2] = [
        ("lego", lego(bench.folder.path(), &pebble, http_port, count)),
        ("uacme", uacme(bench.folder.path(), &pebble, http_port, count)),
    ];
    for (name, peer) in &peers {
        let figure = |what: &str, unit: &str, of: fn(&Cost) -> f64| {
            let peer = peer.as_ref().map(of).map_err(|error| error.to_string().into());
            table::row(&format!("a certificate: {what}"), unit, of(&ours), name, &peer);
        };
        figure("CPU", "ms", Cost::cpu_ms);
        figure("requests to the CA", "", Cost::requests);
        figure("wall time", "ms", Cost::wall_ms);
    }
    Ok(())
}

/// Many apps are deployed at once, for a daemon that has its account.
fn ours(bench: &Bench, pebble: &Pebble, http_port: u16) -> Outcome<Cost> {
    let count = usize::try_from(setting("BENCH_CERTIFICATES", 100))?;
    let storage = bench.folder.path().join("storage-orders");
    fs::create_dir_all(&storage)?;
    let site = Site::start()?;
    let words = site.words(&pebble.directory, &pebble.root, http_port, &storage);
    let (daemon, _) = Running::listening(&mut bare(&bench.program, &words), http_port)?;
    usage::settled(daemon.id())?;
    let quiet = latencies(http_port, |done| done >= LOOKS_BEFORE)?;
    let haproxy = servers::haproxy(bench.folder.path(), None);
    let (cpu, requests) = (usage::cpu(daemon.id())?, pebble.requests()?);
    let begin = Instant::now();
    let over = AtomicBool::new(false);
    let (wall, busy, peer) = thread::scope(|scope| -> Outcome<_> {
        let look = |port| {
            let over = &over;
            scope.spawn(move || {
                latencies(port, |_| over.load(Ordering::Relaxed)).map_err(|it| it.to_string())
            })
        };
        let ours = look(http_port);
        let peer = haproxy.as_ref().map(|server| look(server.port));
        site.deploy((0..count).map(stored::name));
        let waited = each_arrives(&storage.join("certs"), count);
        over.store(true, Ordering::Relaxed);
        let seen = |looker: thread::ScopedJoinHandle<'_, _>| -> Outcome<_> {
            Ok(looker.join().map_err(|_| "the one who looks panicked")??)
        };
        let busy = seen(ours)?;
        let peer = peer.map_err(|error| error.to_string().into()).and_then(seen);
        waited?;
        Ok((begin.elapsed(), busy, peer))
    })?;
    let cpu = usage::cpu(daemon.id())?.saturating_sub(cpu);
    table::alone(&format!("{count} certificates: wall time"), "s", wall.as_secs_f64());
    let share = cpu.as_secs_f64() / wall.as_secs_f64() * 100.0;
    table::alone(&format!("{count} certificates: share of a core"), "%", share);
    for (what, part) in [("median", 50), ("99th percentile", 99), ("longest", 100)] {
        let of = |sorted: &Vec<Duration>| {
            let place = (sorted.len() * part / 100).min(sorted.len().saturating_sub(1));
            sorted.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        let row = |name: &str, peer: &Outcome<f64>| {
            table::row(&format!("a ping meanwhile: {what}"), "ms", of(&busy), name, peer);
        };
        row("before", &Ok(of(&quiet)));
        // What else runs on the machine makes every server wait.
        let peer = peer.as_ref().map(of).map_err(|error| error.to_string().into());
        row("haproxy meanwhile", &peer);
    }
    Ok(Cost { cpu, requests: pebble.requests()? - requests, count, wall })
}

/// Waits for so many files, and gives up only when one of them does not come: among a thousand orders
/// Pebble 2.4 locks itself up now and then, when it looks for an authorization to use again while another
/// request changes it. Then it takes connections and answers nobody any more.
fn each_arrives(certs: &Path, count: usize) -> Outcome {
    let found = || fs::read_dir(certs).map_or(0, Iterator::count);
    while found() < count {
        let before = found();
        wait_until("another certificate (or Pebble has locked itself up)", || {
            (found() > before || before >= count).then_some(())
        })?;
    }
    Ok(())
}

/// How long pings take on one connection, sorted, until it is enough of so many.
fn latencies(port: u16, enough: impl Fn(usize) -> bool) -> Outcome<Vec<Duration>> {
    let mut stream = TcpStream::connect(local(port))?;
    stream.set_nodelay(true)?;
    let (mut found, mut buffer) = (Vec::new(), [0; 4096]);
    while !enough(found.len()) {
        let begin = Instant::now();
        stream.write_all(PING)?;
        let mut length = 0;
        while !buffer[..length].ends_with(b"\"pong\"}") {
            match stream.read(&mut buffer[length..])? {
                0 => return Err("the connection ended".into()),
                more => length += more,
            }
        }
        found.push(begin.elapsed());
        thread::sleep(LOOK);
    }
    found.sort_unstable();
    Ok(found)
}

/// Runs a command to its end, which must be a good one.
fn runs(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("failed and said nothing").to_string().into())
}

/// Runs a command once to have its account, and then for each certificate.
fn each(pebble: &Pebble, count: usize, run: impl Fn(Option<usize>) -> Command) -> Outcome<Cost> {
    runs(&mut run(None))?;
    let (cpu, requests) = (usage::cpu_of_ended_children()?, pebble.requests()?);
    let begin = Instant::now();
    for number in 0..count {
        runs(&mut run(Some(number)))?;
    }
    let cpu = usage::cpu_of_ended_children()?.saturating_sub(cpu);
    let wall = begin.elapsed();
    Ok(Cost { cpu, requests: pebble.requests()? - requests, count, wall })
}

fn lego(folder: &Path, pebble: &Pebble, http_port: u16, count: usize) -> Outcome<Cost> {
    let program = find("lego").ok_or("peer missing")?;
    let path = folder.join("lego");
    each(pebble, count, |number| {
        let name = number.map_or("first".into(), |number| number.to_string());
        let mut command = Command::new(&program);
        command.env("LEGO_CA_CERTIFICATES", &pebble.root).arg("--path").arg(&path);
        command.args(["--server", &pebble.directory, "--accept-tos", "--email", "a@example.com"]);
        command.args(["--http", "--http.port", &local(http_port).to_string()]);
        command.args(["--domains", &format!("lego-{name}.example.com"), "run"]);
        command
    })
}

/// It trusts what the system trusts, so the system's file is another one for it alone, where that is
/// allowed. Its challenges are served by nginx.
fn uacme(folder: &Path, pebble: &Pebble, http_port: u16, count: usize) -> Outcome<Cost> {
    let program = find("uacme").ok_or("peer missing")?;
    let web = folder.join("uacme-web");
    let tokens = web.join(".well-known/acme-challenge");
    fs::create_dir_all(&tokens)?;
    // What nginx's worker is may not be who runs this.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let hook = folder.join("uacme-hook");
    let script = format!(
        "#!/bin/sh\n[ \"$2\" = http-01 ] || exit 1\n\
         [ \"$1\" = begin ] && printf %s \"$5\" > {0}/\"$4\"\nexit 0\n",
        tokens.display()
    );
    fs::write(&hook, script)?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
    let _web = servers::nginx_with(folder, http_port, &format!("root {}", web.display()))?;
    each(pebble, count, |number| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/ssl/certs/ca-certificates.crt && exec \"$@\"");
        command.arg(&pebble.root).arg(&program).arg("-a").arg(&pebble.directory).arg("-c");
        command.arg(folder.join("uacme")).args(["-y", "-o", "-t", "EC"]);
        match number {
            None => command.arg("new"),
            Some(number) => {
                command.arg("-h").arg(&hook).args(["issue", &format!("uacme-{number}.example.com")])
            }
        };
        command
    })
}
