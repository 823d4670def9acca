//! The texts that the program prints for those who run it, as the programs read them that they are for;
//! and the program as systemd starts it.

use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use marathon_acme::log::message::{LISTENING, NOTIFY_FAILED, SOCKET_TAKEN, SOCKET_UNUSED};
use marathon_acme::marathon::{App, Selection, claims};
use stand_ins::ca::Settings;

use crate::privileges::{check_exposure, printed_unit};
use crate::process::{
    Outcome, PATIENCE, Process, Signal, expect, free_port, get, local, wait_until,
};
use crate::site::{PROGRAM, Site, bare, text, with_ca};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("printed_units_are_verified_and_tight", &[Tool::SystemdAnalyze], units),
    ("a_printed_app_is_read_by_our_own_reader", &[], app),
    ("a_printed_manual_page_has_no_faults", &[Tool::Groff], manual),
    ("systemd_is_told_how_it_stands_by_a_path", &[], told_by_path),
    ("systemd_is_told_how_it_stands_by_an_abstract_name", &[], told_by_name),
    ("systemd_that_is_deaf_is_one_line", &[], deaf),
    ("systemd_hands_a_socket_over", &[], handed),
    ("systemd_hands_over_what_is_no_listening_socket", &[], handed_oddly),
    ("systemd_socket_activate_starts_it", &[Tool::SocketActivate], activated),
];

/// `systemd-analyze security` counts from 0, nothing to be had, to 10.
const EXPOSURE_MAX: f64 = 2.0;

fn units() -> Outcome {
    let folder = tempfile::tempdir().map_err(text)?;
    let lines: [&[&str]; 5] = [
        &[],
        &["--listen=:80", "--email=a@b.org", "--group=*", "--preferred-chain=A \"$B\" %c \\d"],
        &["--marathon=http://user:secret@marathon:8080,http://other:8080", "/srv/storage of ours"],
        &["--eab-kid=k", "--eab-hmac-key=/etc/100%/key", "--acme-ca=/home/a/ca.pem"],
        &["--cert-mode=0644", "--san", "/var/lib/acme/certificates"],
    ];
    for arguments in lines {
        let unit = printed_unit(folder.path(), arguments)?;
        let mut command = Command::new("systemd-analyze");
        let verified = command.arg("verify").arg(&unit).output().map_err(text)?;
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        let about_it = said.lines().any(|line| line.contains("marathon-acme"));
        expect(verified.status.success() && !about_it, || format!("{arguments:?}: {said}"))?;
        check_exposure(&unit, EXPOSURE_MAX)?;
        let printed = fs::read_to_string(&unit).map_err(text)?;
        expect(!printed.contains("secret"), || printed.clone())?;
    }
    Ok(())
}

fn app() -> Outcome {
    let mut command = bare(PROGRAM);
    command.args(["--print-app-definition", "--group=internal", "/mnt/shared"]);
    let output = command.env("MARATHON_ACME_EMAIL", "a@b.org").output().map_err(text)?;
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    expect(output.status.success() && notes.lines().count() == 3, || notes.clone())?;
    expect(notes.lines().all(|note| note.starts_with("marathon-acme: ")), || notes.clone())?;
    let app = App::parse(&output.stdout).map_err(text)?;
    expect((app.id.as_str(), app.ports) == ("/marathon-acme", 2), || format!("{app:?}"))?;
    let group = app.labels.get("HAPROXY_0_GROUP").map(String::as_str);
    expect(group == Some("internal"), || format!("{app:?}"))?;
    // It asks for no certificate; with a label that does, it gets one.
    let mut asking = app.clone();
    asking.labels.insert("MARATHON_ACME_0_DOMAIN".into(), "a.example.com".into());
    for (app, count) in [(app, 0), (asking, 1)] {
        let claims = claims(&app, "internal", Selection::First, 1);
        let fits = claims.certificates.len() == count && claims.notices.is_empty();
        expect(fits && claims.rejected.is_empty(), || format!("{claims:?}"))?;
    }
    Ok(())
}

/// What a program says of a page that is not as it should be.
fn faults(program: &str, arguments: &[&str], page: &Path) -> Outcome<String> {
    let output = Command::new(program).args(arguments).arg(page).output().map_err(text)?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn manual() -> Outcome {
    let folder = tempfile::tempdir().map_err(text)?;
    let page = folder.path().join("marathon-acme.8");
    let printed = bare(PROGRAM).arg("--print-man").output().map_err(text)?;
    expect(printed.status.success() && printed.stderr.is_empty(), || format!("{printed:?}"))?;
    fs::write(&page, printed.stdout).map_err(text)?;
    let said = faults("groff", &["-man", "-ww", "-z"], &page)?;
    expect(said.is_empty(), || said)?;
    let shown = faults("groff", &["-man", "-Tascii", "-P-cbou"], &page)?;
    for words in ["--print-systemd-unit", "-m, --marathon URL[,URL...]", "EXIT STATUS"] {
        expect(shown.contains(words), || shown.clone())?;
    }
    match faults("mandoc", &["-Tlint", "-Werror"], &page) {
        Ok(said) => expect(said.is_empty(), || said),
        // The second reader is not on every machine.
        Err(_) => Ok(()),
    }
}

/// The program's loop shows twice in this time that it turns.
const WATCHDOG_USEC: &str = "200000";
/// So often, without anything else to say.
const IDLE_BEATS: usize = 10;
/// How long the contract lets it take to end.
const STOP: Duration = Duration::from_secs(2);

/// As systemd names the process to itself: the shell becomes it.
const AS_OURS: &str = r#"WATCHDOG_PID=$$ exec "$0" "$@""#;
/// The standard input becomes the first descriptor that is handed over.
const HAND_OVER: &str = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@""#;
/// It becomes the second one, and the first is another thing.
const HAND_TWO_OVER: &str = r#"exec 4<&0 3</dev/null </dev/null
LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=other:listen exec "$0" "$@""#;
/// It is handed to another process.
const HAND_ELSEWHERE: &str = r#"exec 3<&0 </dev/null; LISTEN_PID=1 LISTEN_FDS=1 exec "$0" "$@""#;

/// A script that becomes the program.
fn shell(script: &str) -> Command {
    let mut command = bare("sh");
    command.args(["-c", script, PROGRAM]);
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDNAMES"] {
        command.env_remove(variable);
    }
    command
}

/// The next thing that the service manager hears.
fn hear(manager: &UnixDatagram) -> Outcome<String> {
    let mut buffer = [0; 1024];
    let length = manager.recv(&mut buffer).map_err(|error| format!("nothing is heard: {error}"))?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// All that is heard until something is, inclusively.
fn hear_until(manager: &UnixDatagram, wanted: &str) -> Outcome<Vec<String>> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != wanted) {
        let next = hear(manager).map_err(|error| format!("{error}, after {heard:?}"))?;
        heard.push(next);
    }
    Ok(heard)
}

/// A whole life, as the service manager hears it.
fn told(manager: &UnixDatagram, name: &OsStr) -> Outcome {
    manager.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/a", "a.example.com");
    let mut command = shell(AS_OURS);
    command.args(&arguments).env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", WATCHDOG_USEC);
    let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
    let heard = hear_until(manager, "STATUS=1 certificate valid; Marathon attached")?;
    expect(heard[0] == "READY=1", || format!("{heard:?}"))?;
    get(site.port, "/health")?;
    let said: Vec<&String> = heard.iter().filter(|it| it.starts_with("STATUS=")).collect();
    expect(said.windows(2).all(|pair| pair[0] != pair[1]), || format!("{said:?}"))?;
    expect(!heard.contains(&"STOPPING=1".into()), || format!("{heard:?}"))?;
    let beats: Vec<String> = (0..IDLE_BEATS).map(|_| hear(manager)).collect::<Outcome<_>>()?;
    expect(beats.iter().all(|it| it == "WATCHDOG=1"), || format!("{beats:?}"))?;
    site.deploy("/b", "b.example.com");
    hear_until(manager, "STATUS=2 certificates valid; Marathon attached")?;
    hear_until(manager, "WATCHDOG=1")?;
    daemon.signal(Signal::TERM)?;
    let heard = hear_until(manager, "STOPPING=1")?;
    expect(!heard.contains(&"READY=1".into()), || format!("{heard:?}"))?;
    let ended = daemon.wait(STOP)?;
    expect(ended.success(), || format!("{ended}\n{}", daemon.output()))?;
    manager.set_nonblocking(true).map_err(text)?;
    let last: Vec<String> = std::iter::from_fn(|| hear(manager).ok()).collect();
    expect(!last.contains(&"STOPPING=1".into()), || format!("{last:?}"))
}

fn told_by_path() -> Outcome {
    let folder = tempfile::tempdir().map_err(text)?;
    let path = folder.path().join("notify");
    told(&UnixDatagram::bind(&path).map_err(text)?, path.as_os_str())
}

fn told_by_name() -> Outcome {
    let name = format!("marathon-acme-e2e-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).map_err(text)?;
    let manager = UnixDatagram::bind_addr(&address).map_err(text)?;
    told(&manager, OsStr::new(&format!("@{name}")))
}

fn deaf() -> Outcome {
    let site = Site::new()?;
    let mut command = alone(&site, AS_OURS);
    command.env("NOTIFY_SOCKET", site.folder().join("nobody")).env("WATCHDOG_USEC", WATCHDOG_USEC);
    // The second line is said at once, too.
    command.arg("--log-level=debug");
    let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
    daemon.wait_until_syncs_failed(site.port, 2)?;
    let count = daemon.output().matches(NOTIFY_FAILED).count();
    expect(count == 1, || daemon.output())
}

/// The program by a script, with peers that are all away.
fn alone(site: &Site, script: &str) -> Command {
    let mut command = shell(script);
    command.args(["--acme=https://127.0.0.1:9/dir", "--lb=http://127.0.0.1:9"]);
    command.args(["--marathon=http://127.0.0.1:9", &format!("--listen=127.0.0.1:{}", site.port)]);
    command.arg(&site.storage);
    command
}

const PING: &str = "/.well-known/acme-challenge/ping";

fn handed() -> Outcome {
    for (script, words) in [
        (HAND_OVER, format!("{SOCKET_TAKEN} descriptor=3")),
        (HAND_TWO_OVER, format!("{SOCKET_UNUSED} descriptor=4 name=listen")),
    ] {
        let site = Site::new()?;
        let listener = TcpListener::bind(local(0)).map_err(text)?;
        let port = listener.local_addr().map_err(text)?.port();
        // It is there before the program is.
        let early = TcpStream::connect(local(port)).map_err(text)?;
        let mut command = alone(&site, script);
        let mut daemon =
            Process::start_handed(OwnedFd::from(listener), site.folder(), "daemon", &mut command)?;
        daemon.wait_for(&format!("{LISTENING} address=127.0.0.1:{port}"))?;
        expect(daemon.output().contains(&words), || daemon.output())?;
        drop(early);
        let answer = get(port, PING)?;
        expect(answer.contains("pong"), || answer)?;
        let bound = TcpStream::connect(local(site.port)).is_ok();
        expect(!bound, || "it listens by itself as well".into())?;
        daemon.signal(Signal::TERM)?;
        let ended = daemon.wait(STOP)?;
        expect(ended.success(), || format!("{ended}\n{}", daemon.output()))?;
    }
    Ok(())
}

fn handed_oddly() -> Outcome {
    let site = Site::new()?;
    let udp = UdpSocket::bind(local(0)).map_err(text)?;
    let file = fs::File::open("/dev/null").map_err(text)?;
    let listener = TcpListener::bind(local(0)).map_err(text)?;
    let connected = TcpStream::connect(listener.local_addr().map_err(text)?).map_err(text)?;
    let cases: [(OwnedFd, &str); 3] = [
        (udp.into(), "descriptor 3 of LISTEN_FDS is a socket, but not of TCP"),
        (file.into(), "descriptor 3 of LISTEN_FDS is no socket"),
        (connected.into(), "descriptor 3 of LISTEN_FDS is a TCP socket that does not listen"),
    ];
    for (input, words) in cases {
        let mut command = alone(&site, HAND_OVER);
        let mut daemon = Process::start_handed(input, site.folder(), "refused", &mut command)?;
        let status = daemon.wait(PATIENCE)?;
        let said = daemon.output();
        let fits = status.code() == Some(1) && said.lines().count() == 1 && said.contains(words);
        expect(fits, || format!("{status}: {said}"))?;
    }
    // Another process's variables: it listens by itself.
    let mut command = alone(&site, HAND_ELSEWHERE);
    let input = OwnedFd::from(listener);
    let mut daemon = Process::start_handed(input, site.folder(), "daemon", &mut command)?;
    daemon.wait_for(&format!("{LISTENING} address=127.0.0.1:{}", site.port))
}

fn activated() -> Outcome {
    let site = Site::new()?;
    let port = free_port()?;
    let mut command = bare("systemd-socket-activate");
    command.arg(format!("--listen=127.0.0.1:{port}")).arg("--fdname=listen").arg(PROGRAM);
    command.args(alone(&site, "").get_args().skip(3));
    let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
    // It starts the program when somebody comes.
    let answer = wait_until("it answers", || get(port, PING).ok())?;
    expect(answer.contains("pong"), || answer.clone())?;
    expect(daemon.output().contains("descriptor=3 name=listen"), || daemon.output())?;
    // The process has become the program.
    daemon.signal(Signal::TERM)?;
    let ended = daemon.wait(STOP)?;
    expect(ended.success(), || format!("{ended}\n{}", daemon.output()))
}
