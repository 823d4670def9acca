//! How the program starts and ends: exit statuses, one line for each mistake, signals.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Output;
use std::time::Duration;

use marathon_acme::log::message::{ATTACHED, ORDER_RESUMED};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stand_ins::ca::Settings;

use crate::process::{
    Outcome, Process, Signal, expect, get, local, signal_process, wait_for_port, wait_until,
};
use crate::site::{PROGRAM, Site, StandInCa, bare, text};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("mistakes_are_one_line_and_status_2", &[], mistakes),
    ("a_port_that_is_taken_is_status_1", &[], port_taken),
    ("help_and_version_are_on_standard_output", &[], help),
    ("a_closed_pipe_on_standard_output_is_no_failure", &[], head),
    ("a_daemon_whose_log_is_a_closed_pipe_issues", &[], closed_log),
    ("a_list_reads_and_touches_nothing", &[], list),
    ("variables_and_json_lines", &[], variables),
    ("sigterm_and_sigint_end_it_in_order", &[], stops),
    ("a_log_that_nobody_reads_stops_nothing", &[], unread_log),
    ("process_1_heeds_sigterm_as_well", &[Tool::Namespaces], process_1),
    ("sighup_syncs_now", &[], reload),
    ("every_load_balancer_is_signalled_until_it_acknowledges", &[], load_balancers),
];

/// How long the contract lets it take to end.
const STOP: Duration = Duration::from_secs(2);

fn run(arguments: &[&str]) -> Outcome<Output> {
    Site::command().args(arguments).output().map_err(text)
}

fn refused(arguments: &[&str], status: i32, words: &str) -> Outcome {
    let output = run(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let fits = output.status.code() == Some(status)
        && output.stdout.is_empty()
        && said.lines().count() == 1
        && said.contains(words);
    expect(fits, || format!("{arguments:?}: {:?}\n{said}", output.status))
}

fn mistakes() -> Outcome {
    let site = Site::new()?;
    let dir = site.storage.display().to_string();
    let file = site.folder().join("file");
    fs::write(&file, "no directory, no PEM").map_err(text)?;
    let file = file.display().to_string();
    refused(&["--lisen", ":80", &dir], 2, "--lisen; did you mean --listen?")?;
    refused(&["--listen", "8000", &dir], 2, "write --listen :8000")?;
    let v1 = "https://acme-v01.api.letsencrypt.org/directory";
    refused(&["-a", v1, &dir], 2, "https://acme-v02.api.letsencrypt.org/directory")?;
    refused(&[], 2, "STORAGE-DIR is missing")?;
    refused(&["/no/such/directory"], 2, "STORAGE-DIR /no/such/directory: No such file")?;
    refused(&[&file], 2, "it is not a directory")?;
    refused(&["--acme-ca", "/no/such.pem", &dir], 2, "--acme-ca /no/such.pem: No such file")?;
    refused(&["--marathon-ca", &file, &dir], 2, "it holds no certificate in PEM")?;
    refused(&["--marathon-token", "/no/such", &dir], 2, "--marathon-token /no/such: No such file")?;
    refused(&["--marathon-token", &file, &dir], 2, "it holds no token; write the token alone")
}

fn port_taken() -> Outcome {
    let site = Site::new()?;
    let taken = TcpListener::bind(local(0)).map_err(text)?;
    let (taken, dir) = (taken.local_addr().map_err(text)?, site.storage.display().to_string());
    let listen = format!("--listen={taken}");
    refused(&[&listen, &dir], 1, "choose another with --listen")?;
    let (free, admin) = (format!("--listen={}", local(0)), format!("--admin-listen={taken}"));
    refused(&[&free, &admin, &dir], 1, "choose another with --admin-listen")?;
    refused(&[&listen, &admin, &dir], 2, "give one of them another")
}

fn help() -> Outcome {
    let help = run(&["--help"])?;
    let shown = String::from_utf8_lossy(&help.stdout).into_owned();
    let fits = help.status.success() && shown.lines().all(|line| line.chars().count() <= 80);
    expect(fits && shown.contains("--marathon-ca FILE") && help.stderr.is_empty(), || shown)?;
    let version = String::from_utf8_lossy(&run(&["--version"])?.stdout).into_owned();
    expect(version == format!("marathon-acme {}\n", env!("CARGO_PKG_VERSION")), || version)?;
    let full = fs::File::create("/dev/full").map_err(text)?;
    let unheard = Site::command().arg("--help").stdout(full).output().map_err(text)?;
    let said = String::from_utf8_lossy(&unheard.stderr).into_owned();
    let fits = unheard.status.code() == Some(1) && said.contains("cannot write to stdout");
    expect(fits, || format!("{:?}: {said}", unheard.status))
}

fn head() -> Outcome {
    let site = Site::new()?;
    let dir = site.storage.display().to_string();
    for arguments in [
        vec!["--list", &dir],
        vec!["--list", "--log-format=json", &dir],
        vec!["--help"],
        vec!["--version"],
        vec!["--print-man"],
        vec!["--print-app-definition"],
    ] {
        let (reader, writer) = std::io::pipe().map_err(text)?;
        drop(reader);
        let ended = Site::command().args(&arguments).stdout(writer).output().map_err(text)?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let silent = !said.contains("stdout") && !said.contains("pipe");
        expect(ended.status.success() && silent, || format!("{arguments:?}: {ended:?}"))?;
    }
    Ok(())
}

fn closed_log() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    site.deploy("/a", "a.example.com");
    let (reader, writer) = std::io::pipe().map_err(text)?;
    drop(reader);
    let mut command = Site::command();
    command.args(site.arguments(&ca.directory, &ca.root)).arg("--log-level=debug");
    let mut daemon = Process::start_saying_to(writer, site.folder(), "daemon", &mut command)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.signal(Signal::TERM)?;
    let status = daemon.wait(STOP)?;
    expect(status.success(), || format!("{status}"))
}

fn list() -> Outcome {
    let site = Site::new()?;
    let dir = site.storage.display().to_string();
    let none = run(&["--list", &dir])?;
    let fits = none.status.success() && none.stdout == b"no certificates\n";
    expect(fits && fs::read_dir(&dir).map_err(text)?.next().is_none(), || format!("{none:?}"))?;
    refused(&["--list", "/no/such/directory"], 1, "STORAGE-DIR /no/such/directory: No such file")?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    site.deploy("/a", "a.example.com");
    let daemon = site.daemon("daemon", &site.arguments(&ca.directory, &ca.root), &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    // The daemon is at work and holds the lock.
    let json = run(&["--list", "--log-format=json", &dir])?;
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).map_err(text)?;
    let row = &found[0];
    let whole = row["name"] == "a.example.com" && row["not_after"].is_string();
    expect(json.status.success() && whole && row["last_error"].is_null(), || found.to_string())?;
    let table = String::from_utf8_lossy(&run(&["--list", &dir])?.stdout).into_owned();
    let fits = table.lines().count() == 2 && table.starts_with("NAME ");
    expect(fits && !table.contains("PRIVATE"), || table)
}

fn variables() -> Outcome {
    let site = Site::new()?;
    let mut command = bare(PROGRAM);
    command.env("MARATHON_ACME_STORAGE_DIR", &site.storage);
    command.env("MARATHON_ACME_LISTEN", format!("127.0.0.1:{}", site.port));
    command.env("MARATHON_ACME_LOG_FORMAT", "json").env("MARATHON_ACME_LOG_LEVLE", "debug");
    command.env("MARATHON_ACME_MARATHON", format!("http://{}", site.marathon.address()));
    command.args(["--acme=https://127.0.0.1:9/dir", "--lb=http://127.0.0.1:9"]);
    let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
    daemon.wait_until_attached(site.port)?;
    let output = daemon.output();
    for line in output.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).map_err(text)?;
        let whole =
            ["time", "level", "subject", "message"].iter().all(|it| parsed[*it].is_string());
        expect(whole, || line.into())?;
    }
    expect(output.contains("MARATHON_ACME_LOG_LEVLE"), || output)
}

fn stops() -> Outcome {
    for signal in [Signal::TERM, Signal::INT] {
        let site = Site::new()?;
        let settings = Settings { validation_delay_ms: 60_000, ..Settings::default() };
        let ca = StandInCa::start(site.folder(), site.port, settings)?;
        site.deploy("/a", "a.example.com");
        let arguments = site.arguments(&ca.directory, &ca.root);
        let mut daemon = site.daemon("daemon", &arguments, &[])?;
        let challenges = site.storage.join("challenges");
        let left = || fs::read_dir(&challenges).map(Iterator::count).unwrap_or(0);
        wait_until("a challenge", || (left() == 1).then_some(()))?;
        daemon.signal(signal)?;
        let status = daemon.wait(STOP)?;
        expect(status.code() == Some(0), || format!("{signal:?}: {status}"))?;
        // The order is noted, so whoever comes next resumes it; a one-shot run leaves nothing.
        expect(left() == 1, || "the challenge of a noted order is withdrawn".into())?;
        let mut run_mode = site.daemon("errand", &arguments, &["--once"])?;
        run_mode.wait_for(&format!("{ORDER_RESUMED} name=a.example.com"))?;
        run_mode.signal(signal)?;
        let status = run_mode.wait(STOP)?;
        expect(status.code() == Some(1), || format!("{signal:?}: {status}"))?;
        expect(left() == 0, || "a challenge is left published".into())?;
    }
    Ok(())
}

fn unread_log() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    let (reader, mut writer) = std::io::pipe().map_err(text)?;
    let ready = |end: &dyn AsFd, flags| {
        let mut asked = [PollFd::from_borrowed_fd(end.as_fd(), flags)];
        poll(&mut asked, Some(&Timespec::default())).is_ok_and(|count| count > 0)
    };
    // Full before it starts: a program that waited for its reader would never listen.
    while ready(&writer, PollFlags::OUT) {
        writer.write_all(&[b'\n'; 4096]).map_err(text)?;
    }
    let mut command = Site::command();
    command.args(site.arguments(&ca.directory, &ca.root));
    let mut daemon = Process::start_saying_to(writer, site.folder(), "daemon", &mut command)?;
    wait_until("it answers", || get(site.port, "/.well-known/acme-challenge/ping").ok())?;
    let (mut reader, mut read) = (File::from(OwnedFd::from(reader)), Vec::new());
    wait_until("its first line", || {
        while ready(&reader, PollFlags::IN) {
            let mut piece = [0; 4096];
            let length = reader.read(&mut piece).ok()?;
            read.extend_from_slice(&piece[..length]);
        }
        String::from_utf8_lossy(&read).contains(ATTACHED).then_some(())
    })?;
    daemon.signal(Signal::TERM)?;
    let status = daemon.wait(STOP)?;
    expect(status.success(), || format!("{status}"))
}

fn process_1() -> Outcome {
    let site = Site::new()?;
    let port = site.port;
    let mut command = bare("unshare");
    command.args(["--pid", "--fork", "--kill-child", PROGRAM]);
    command.args(["--acme=https://127.0.0.1:9/dir", "--lb=http://127.0.0.1:9"]);
    command.args(["--marathon=http://127.0.0.1:9", &format!("--listen=127.0.0.1:{port}")]);
    command.arg(&site.storage);
    let mut outer = Process::start(site.folder(), "unshare", &mut command)?;
    wait_for_port("the daemon", port)?;
    // The daemon as this side of the namespace knows it: the only child.
    let children = format!("/proc/{0}/task/{0}/children", outer.id());
    let child = fs::read_to_string(children).map_err(text)?.trim().to_string();
    let status = fs::read_to_string(format!("/proc/{child}/status")).map_err(text)?;
    let is_first = status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
    expect(is_first, || status.clone())?;
    signal_process(child.parse().map_err(text)?, Signal::TERM)?;
    let status = outer.wait(STOP)?;
    expect(status.code() == Some(0), || status.to_string())
}

fn reload() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    let arguments = site.arguments(&ca.directory, &ca.root);
    let mut daemon = site.daemon("daemon", &arguments, &["--log-level=debug"])?;
    daemon.wait_until_attached(site.port)?;
    wait_until("the first sync", || (site.syncs() > 0).then_some(()))?;
    let unseen = crate::site::app("/a", "a.example.com");
    site.marathon.with(|marathon, now| marathon.put_app_silently(now, unseen));
    daemon.signal(Signal::HUP)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.wait_until_issued(site.port, 1)?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for("a.example.com: order at ")?;
    let line = daemon.line("a.example.com: order at ");
    expect(line.contains("(renewal, by the lifetime)"), || line.clone())
}

fn load_balancers() -> Outcome {
    let site = Site::new()?;
    let ca = StandInCa::start(site.folder(), site.port, Settings::default())?;
    let troubled = stand_ins::lb::LoadBalancer::new(
        stand_ins::driver::time_now(),
        stand_ins::lb::Settings { failures: 2, ..Default::default() },
    );
    let troubled = crate::site::play(troubled, Default::default())?;
    let both = format!("--lb=http://{},http://{}", site.lb.address(), troubled.address());
    site.deploy("/a", "a.example.com");
    let arguments = site.arguments(&ca.directory, &ca.root);
    let _daemon = site.daemon("daemon", &arguments, &[&both, "--log-level=debug"])?;
    wait_until("the troubled one reloads", || {
        troubled.with(|lb, _| (!lb.reloads().is_empty()).then_some(()))
    })?;
    let seen: Vec<String> = troubled.with(|lb, _| {
        lb.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    });
    let begins = ["GET /_haproxy_getpids", "POST /_mlb_signal/usr1"];
    expect(seen.starts_with(&begins.map(String::from)), || format!("{seen:?}"))?;
    let healthy = site.lb.with(|lb, _| lb.reloads().len());
    expect(healthy >= 1, || "the healthy one was not signalled".into())?;
    wait_until("all is well", || get(site.port, "/health").ok()?.contains("\"ok\"").then_some(()))
}
