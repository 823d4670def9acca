//! File systems that lack something, or fail for a while: by errors that strace puts in the place of calls,
//! and on real ones that a test mounts in a namespace of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use marathon_acme::hint::Hint;
use marathon_acme::log::message::{
    NO_FLUSHES, NO_LOCKS, NO_MODES, ORDER_ISSUED, STANDING_BY, STANDING_BY_LEASE, STORAGE_FAILED,
    STORAGE_RECOVERED, TOOK_OVER,
};
use stand_ins::ca::Settings;

use crate::process::wait_until;
use crate::process::{Outcome, PATIENCE, Process, Signal, expect, free_port, get, wait_for_port};
use crate::site::{PROGRAM, Site, bare, text, with_ca};
use crate::stand::Stand;
use crate::trace::injected;
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("a_file_system_that_lacks_something_is_used", &[Tool::Strace], lacking),
    ("instances_on_a_file_system_without_locks_take_turns", &[Tool::Strace], without_locks),
    ("a_storage_error_names_its_remedy_before_its_end", &[Tool::Strace], failing_for_a_while),
    ("directories_of_a_file_server_are_ignored", &[], directories_of_others),
    ("the_storage_may_be_an_overlay", &[Tool::Overlay], || real(OVERLAY, 0o600)),
    ("the_storage_may_be_fat_in_user_space", &[Tool::Fat], || real(FAT, 0o700)),
    ("the_storage_may_be_exfat_in_user_space", &[Tool::Exfat], || real(EXFAT, 0o777)),
];

const DOMAIN: &str = "a.example.com";

/// Shell scripts that mount a file system over `$1`, with `$2` for what it needs.
pub(crate) const OVERLAY: &str = "mkdir -p $2/lower $2/upper $2/work && mount -t overlay overlay \
    -o lowerdir=$2/lower,upperdir=$2/upper,workdir=$2/work $1";
pub(crate) const FAT: &str =
    "truncate -s 32M $2/image && mkfs.vfat $2/image && fusefat -o rw+ $2/image $1";
pub(crate) const EXFAT: &str = "truncate -s 32M $2/image && mkfs.exfat $2/image && \
    mount -t exfat-fuse -o loop $2/image $1";

/// A command in namespaces of mounts and processes of its own, whose end ends what serves the mount.
fn mounted(script: &str, target: &Path, needs: &Path, then: &str) -> Command {
    let mut command = bare("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]);
    command.arg(format!("{{ {script}; }} >&2 && {then}")).arg("sh").args([target, needs]);
    command
}

/// Whether this machine can mount that.
pub(crate) fn mounts(script: &str) -> bool {
    let Ok(folder) = tempfile::tempdir() else { return false };
    let (target, needs) = (folder.path().join("target"), folder.path().join("needs"));
    let made = fs::create_dir(&target).and_then(|()| fs::create_dir(&needs));
    // The storage's tmpfs: an overlay cannot lie on every file system, as not on another overlay.
    let script = format!("mount -t tmpfs none $2 && {script}");
    let mut command = mounted(&script, &target, &needs, "touch $1/file");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    made.is_ok() && command.status().is_ok_and(|status| status.success())
}

/// Runs a command once, to its end, with the program's arguments; what it said.
fn once(stand: &Stand, mut command: Command) -> Outcome<String> {
    command.args(stand.arguments()).arg("--once");
    let mut process = Process::start(stand.site.folder(), "run", &mut command)?;
    let status = process.wait(PATIENCE).map_err(|it| format!("{it}\n{}", process.output()))?;
    expect(status.success(), || process.output())?;
    Ok(process.output())
}

fn lacking() -> Outcome {
    let cases: [(&str, &str, &[&str]); 8] = [
        ("fchmod,linkat", "EPERM", &[NO_MODES]),
        ("fchmod,linkat,flock,fsync", "EOPNOTSUPP", &[NO_MODES, NO_LOCKS, NO_FLUSHES]),
        ("fchmod,linkat,flock,fsync", "ENOSYS", &[NO_MODES, NO_LOCKS, NO_FLUSHES]),
        ("fchmod,linkat,flock,fsync", "EINVAL", &[NO_MODES, NO_LOCKS, NO_FLUSHES]),
        ("fchmod,linkat", "EACCES", &[NO_MODES]),
        ("linkat", "EXDEV", &[]),
        ("linkat", "EMLINK", &[]),
        ("flock", "ENOLCK", &[NO_LOCKS]),
    ];
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", DOMAIN);
    for (calls, error, warnings) in cases {
        let case = format!("{calls} {error}");
        fs::remove_dir_all(&stand.site.storage).map_err(text)?;
        fs::create_dir(&stand.site.storage).map_err(text)?;
        let output = once(&stand, injected(calls, &format!("error={error}")))
            .map_err(|output| format!("{case}: {output}"))?;
        for warning in [NO_MODES, NO_LOCKS, NO_FLUSHES] {
            let (count, expected) = (output.matches(warning).count(), warnings.contains(&warning));
            let fits = count == usize::from(expected);
            expect(fits, || format!("{case}: {count} times {warning:?}:\n{output}"))?;
        }
        check_storage(&stand.site).map_err(|error| format!("{case}: {error}"))?;
        expect(!output.contains(STORAGE_FAILED), || format!("{case}: {output}"))?;
    }
    Ok(())
}

/// Everything that a run writes is there, and nothing else.
fn check_storage(site: &Site) -> Outcome {
    crate::site::check_file(&site.certificate(DOMAIN), 0o600)?;
    for file in ["client.key", "default.pem", "state.json"] {
        let length = fs::metadata(site.storage.join(file)).map_err(text)?.len();
        expect(length > 0, || format!("{file} is empty"))?;
    }
    for folder in ["tmp", "challenges"] {
        let left = fs::read_dir(site.storage.join(folder)).map_err(text)?.count();
        expect(left == 0, || format!("{left} files are left in {folder}/"))?;
    }
    Ok(())
}

fn without_locks() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    let start = |name: &str, port: u16| -> Outcome<Process> {
        let mut command = injected("flock", "error=ENOLCK");
        command.args(&arguments).arg(format!("--listen=127.0.0.1:{port}"));
        let process = Process::start(site.folder(), name, &mut command)?;
        wait_for_port(name, port)?;
        Ok(process)
    };
    site.deploy("/a", "a.example.com");
    // The CA comes to the site's port alone.
    let first = start("first", site.port)?;
    site.wait_for_certificate(&first, "a.example.com")?;
    let port = free_port()?;
    let mut second = start("second", port)?;
    second.wait_for(STANDING_BY_LEASE)?;
    // For longer than a lease lasts without heartbeats.
    std::thread::sleep(Duration::from_secs(12));
    expect(!second.output().contains(TOOK_OVER), || second.output())?;
    let pong = get(port, "/.well-known/acme-challenge/ping")?;
    expect(pong.contains("pong"), || pong)?;
    // Its line stays, and no lock of the system tells that it is gone.
    first.signal(Signal::KILL)?;
    second.wait_for(TOOK_OVER)?;
    second.wait_for(NO_LOCKS)?;
    second.wait_until_active(port)?;
    drop(first);
    // One that ends in order is not waited for.
    second.signal(Signal::TERM)?;
    second.wait(Duration::from_secs(5))?;
    site.deploy("/b", "b.example.com");
    let third = start("third", site.port)?;
    site.wait_for_certificate(&third, "b.example.com")?;
    let said = third.output();
    expect(!said.contains(STANDING_BY) && !said.contains(STANDING_BY_LEASE), || said)?;
    let issued = ca.ca.with(|ca, _| ca.issued().len());
    expect(issued == 2, || format!("{issued} issued"))
}

/// Some calls fail once the daemon has begun: it says why and what to do, and then that it works again.
fn failing_for_a_while() -> Outcome {
    let cases = [
        ("renameat", "EIO", "cannot move into place: ", Hint::StorageFails),
        ("renameat", "EDQUOT", "cannot move into place: ", Hint::StorageFull),
        ("fsync", "ENOSPC", "cannot flush", Hint::StorageFull),
        ("fsync", "ESTALE", "cannot flush", Hint::StorageStale),
        ("renameat", "EROFS", "cannot move into place: Read-only", Hint::StorageReadOnly),
        ("renameat", "ENOTCONN", "cannot move into place: ", Hint::StorageFails),
        ("renameat", "EMFILE", "cannot move into place: ", Hint::Limits),
    ];
    for (calls, error, words, hint) in cases {
        let case = format!("{calls} {error}");
        let (site, _ca, arguments) = with_ca(Settings::default())?;
        site.deploy("/a", DOMAIN);
        // The first calls belong to the opening of the storage.
        let when = if calls == "fsync" { "when=12..14" } else { "when=2..4" };
        let mut command = injected(calls, &format!("error={error}:{when}"));
        command.args(&arguments);
        let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
        daemon.wait_for(STORAGE_RECOVERED).map_err(|it| format!("{case}: {it}"))?;
        let line = daemon.line(STORAGE_FAILED);
        let fits = line.contains(words) && line.contains(&format!("hint=\"{}\"", hint.text()));
        expect(fits, || format!("{case}: {line:?}\n{}", daemon.output()))?;
        let output = daemon.output();
        expect(output.find(STORAGE_FAILED) < output.find(STORAGE_RECOVERED), || output.clone())?;
        site.wait_for_certificate(&daemon, DOMAIN)?;
        wait_until("it is healthy", || {
            get(site.port, "/health").ok().filter(|answer| answer.contains("\"ok\""))
        })?;
    }
    Ok(())
}

fn directories_of_others() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    let all = ["", "certs", "challenges", "archive", "tmp", "unmanaged-certs"];
    for folder in all {
        for name in ["@eaDir", "lost+found", ".snapshot", "#recycle"] {
            let path = site.storage.join(folder).join(name);
            fs::create_dir_all(&path).map_err(text)?;
            fs::write(path.join("file"), "x").map_err(text)?;
        }
    }
    site.deploy("/a", DOMAIN);
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    site.wait_for_certificate(&daemon, DOMAIN)?;
    daemon.wait_until_reloaded(site.port, 1)?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(Duration::from_secs(5))?;
    let output = daemon.output();
    let problem = output.lines().find(|line| {
        let is_about = ["@eaDir", "lost+found", "snapshot", "#recycle"];
        (line.contains("WARN") || line.contains("ERROR"))
            && is_about.iter().any(|it| line.contains(it))
    });
    expect(problem.is_none(), || format!("{problem:?}"))?;
    let kept = site.storage.join("tmp/@eaDir/file").exists();
    expect(kept, || "a file of a directory in tmp/ is gone".into())
}

/// Two runs on a file system: the second one finds everything as the first one left it.
fn real(script: &str, mode: u32) -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let needs = stand.site.folder().join("needs");
    fs::create_dir(&needs).map_err(text)?;
    stand.site.deploy("/a", DOMAIN);
    let twice = "p=$3 && shift 3 && $p \"$@\" && echo --again-- && $p \"$@\" && cd $OLD && \
                 ls -lR . && stat -c 'mode %a %n' certs/*.pem";
    let script = format!("mount -t tmpfs none $2 && {script}");
    let mut command = mounted(&script, &stand.site.storage, &needs, twice);
    command.arg(PROGRAM).env("OLD", &stand.site.storage);
    let output = once(&stand, command)?;
    let (first, second) = output.split_once("--again--").ok_or("no second run")?;
    let issued = |output: &str| output.matches(&format!("{ORDER_ISSUED} name=")).count();
    expect((issued(first), issued(second)) == (1, 0), || output.clone())?;
    let found = format!("mode {mode:o} certs/{DOMAIN}.pem");
    expect(second.contains(&found), || output.clone())?;
    let warned = output.matches(NO_MODES).count();
    expect(warned == if mode == 0o600 { 0 } else { 2 }, || output.clone())?;
    expect(!output.contains(STORAGE_FAILED), || output.clone())
}
