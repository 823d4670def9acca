//! From a label at Marathon to HAProxy that serves its certificate, one app after another: with a CA that
//! takes a fixed time for each request, beside the sum of the requests, and with Pebble. Challenges go
//! through HAProxy. Never counts the making of the account.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use stand_ins::ca::Settings;
use stand_ins::tls::{client_config, shown};
use stand_ins::wait::PATIENCE;

use crate::pebble::Pebble;
use crate::process::{Outcome, Running, bare, find, free_port, local, wait_for_port, wait_until};
use crate::site::{self, Site};
use crate::{Bench, setting, table, usage};

/// What the CA takes for each request.
const REQUEST_MS: u64 = 100;
/// Between two looks at what HAProxy serves: what is measured is off by so much.
const LOOK: Duration = Duration::from_millis(5);
/// Before each label: longer than the daemon waits for what belongs together.
const QUIET: Duration = Duration::from_secs(3);

/// HAProxy as marathon-lb starts it, and what it serves from.
struct Server {
    running: Running,
    https: SocketAddr,
    storage: PathBuf,
    /// How many reloads were carried to it.
    reloads: usize,
}

pub(crate) fn measure(bench: &Bench) -> Outcome {
    table::subject("label");
    if find("haproxy").is_none() {
        table::missing("label change -> served", "haproxy missing");
        return Ok(());
    }
    let count = usize::try_from(setting("BENCH_LABELS", 10))?.max(1);
    slow_ca(bench, count)?;
    if find("pebble").is_none() || find("pebble-challtestsrv").is_none() {
        table::missing("label change -> served, Pebble", "pebble missing");
        return Ok(());
    }
    let (folder, http_port) = (folder(bench, "label-pebble")?, free_port()?);
    let pebble = Pebble::start(&folder, http_port)?;
    let times = times(bench, &folder, &pebble.directory, &pebble.root, http_port, count, || Ok(0))?;
    let times = times.into_iter().map(|(time, _)| time).collect();
    table::alone("label change -> served, Pebble: median", "ms", median(times));
    Ok(())
}

fn slow_ca(bench: &Bench, count: usize) -> Outcome {
    let (folder, http_port) = (folder(bench, "label-ca")?, free_port()?);
    let settings = Settings { delay_ms: REQUEST_MS, ..Settings::default() };
    let (ca, directory, root) = site::ca(&folder, settings, http_port)?;
    let requests = || Ok(ca.with(|ca, _| ca.seen().len()));
    let times = times(bench, &folder, &directory, &root, http_port, count, requests)?;
    let sum = |requests: usize| requests as f64 * REQUEST_MS as f64;
    let whole = median(times.iter().map(|(time, _)| *time).collect());
    let sums = median(times.iter().map(|(_, requests)| sum(*requests)).collect());
    let more = times.iter().map(|(time, requests)| time - sum(*requests)).collect::<Vec<f64>>();
    let what = format!("label change -> served, CA of {REQUEST_MS} ms");
    table::row(&format!("{what}: median"), "ms", whole, "its requests", &Ok(sums));
    table::alone("more than the requests: median", "ms", median(more.clone()));
    table::alone(
        "more than the requests: longest",
        "ms",
        more.into_iter().fold(f64::MIN, f64::max),
    );
    Ok(())
}

fn folder(bench: &Bench, name: &str) -> Outcome<PathBuf> {
    let folder = bench.folder.path().join(name);
    fs::create_dir_all(folder.join("storage"))?;
    Ok(folder)
}

/// What is in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// For each label: how many milliseconds until HAProxy serves it, and how many requests the CA had meanwhile.
fn times(
    bench: &Bench,
    folder: &Path,
    directory: &str,
    root: &Path,
    http_port: u16,
    count: usize,
    requests: impl Fn() -> Outcome<usize>,
) -> Outcome<Vec<(f64, usize)>> {
    let (site, storage, port) = (Site::start()?, folder.join("storage"), free_port()?);
    // The stand-in carries the signals to a HAProxy whose own time is measured: it adds none.
    site.lb.with(|lb, _| lb.settings.reload_ms = 0);
    let words = site.words(directory, root, port, &storage);
    let (daemon, _) = Running::listening(&mut bare(&bench.program, &words), port)?;
    let mut front = Server::start(folder, storage, http_port, port)?;
    usage::settled(daemon.id())?;
    let mut times = Vec::new();
    // The first warms what both have to load and to connect, and does not count.
    for number in 0..=count {
        let name = format!("label-{number}.example.com");
        let before = requests()?;
        let begin = Instant::now();
        site.deploy(std::iter::once(name.clone()));
        front.wait_for_served(&site, &name)?;
        let time = begin.elapsed().as_secs_f64() * 1e3;
        if number > 0 {
            times.push((time, requests()? - before));
        }
        // The next label finds a quiet daemon, as most do.
        thread::sleep(QUIET);
        usage::settled(daemon.id())?;
    }
    Ok(times)
}

impl Server {
    fn start(folder: &Path, storage: PathBuf, http_port: u16, port: u16) -> Outcome<Server> {
        let program = find("haproxy").ok_or("haproxy missing")?;
        let (https, file) = (free_port()?, folder.join("haproxy.cfg"));
        let fallback = storage.join("default.pem");
        wait_until("default.pem is made", || fallback.exists().then_some(()))?;
        let config = format!(
            "global\n  stats socket {} level admin expose-fd listeners\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             frontend http\n  bind 127.0.0.1:{http_port}\n  default_backend daemon\n\
             frontend https\n  bind 127.0.0.1:{https} ssl crt {} crt {}\n  \
             http-request return status 200\n\
             backend daemon\n  server daemon 127.0.0.1:{port}\n",
            folder.join("haproxy.sock").display(),
            storage.join("certs").display(),
            fallback.display()
        );
        fs::write(&file, config)?;
        let running = Running::start(Command::new(program).args(["-W", "-f"]).arg(&file))?;
        wait_for_port("haproxy", http_port)?;
        Ok(Server { running, https: local(https), storage, reloads: 0 })
    }

    /// Carries reloads to HAProxy until it serves what is stored for a name.
    fn wait_for_served(&mut self, site: &Site, name: &str) -> Outcome {
        let file = self.storage.join("certs").join(format!("{name}.pem"));
        let begin = Instant::now();
        loop {
            let reloads = site.lb.with(|lb, _| lb.reloads().len());
            if reloads > self.reloads {
                self.reloads = reloads;
                self.running.signal(Signal::USR2)?;
            }
            if self.serves(&file, name) {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("HAProxy does not serve {name}").into());
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether it serves what the issuer in the file has issued for the name.
    fn serves(&self, file: &Path, name: &str) -> bool {
        let Ok(pem) = fs::read(file) else { return false };
        let chain = CertificateDer::pem_slice_iter(&pem);
        let Some(issuer) = chain.filter_map(Result::ok).last() else { return false };
        client_config(&issuer).is_ok_and(|trust| shown(self.https, name, &trust).is_ok())
    }
}
