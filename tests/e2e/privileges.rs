//! As little as the program can do with: another user than root, a file system of which nothing but
//! the storage can be written, no capability, the system calls of a hardened unit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use stand_ins::ca::Settings;

use crate::process::{
    Outcome, PATIENCE, Process, Signal, expect, free_port, get, wait_for_port, wait_until,
};
use crate::site::{PROGRAM, Site, bare, check_file, text, with_ca};
use crate::trace::{Call, calls, traced};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("the_user_is_switched_for_good", &[Tool::Namespaces], switched_user),
    ("another_user_just_runs", &[Tool::Namespaces], other_user),
    ("root_keeps_what_it_has_and_gains_nothing", &[Tool::Namespaces], root),
    ("a_container_without_capabilities_just_runs", &[Tool::Namespaces], no_capabilities),
    ("nothing_but_the_storage_has_to_be_writable", &[Tool::Namespaces], confined),
    ("a_umask_takes_nothing_from_the_mode_of_certificates", &[], umask),
    ("an_app_definition_leaves_what_is_needed", &[Tool::Namespaces], app_definition),
    ("a_storage_of_another_user_is_waited_for", &[Tool::Namespaces], foreign_storage),
    ("an_account_key_of_another_user_is_waited_for", &[Tool::Namespaces], foreign_key),
    ("a_hardened_unit_leaves_what_is_needed", &[Tool::Strace, Tool::SystemdAnalyze], hardened),
];

/// Not root, and not a user of this machine either.
const NOBODY: u32 = 65_534;
/// `systemd-analyze security` counts from 0, nothing to be had, to 10. Its versions differ a little.
const EXPOSURE_MAX: f64 = 1.5;

/// Makes a mount namespace in which nothing can be written but the storage, then starts the program with
/// what these words for setpriv leave: `PROGRAM ROOT-PEM STORAGE WORDS ARGUMENT...`.
const CONFINE: &str = r#"
set -e
mount -t tmpfs -o mode=0755 none /mnt
mkdir /mnt/storage
cp "$0" /mnt/marathon-acme
cp "$1" /mnt/root.pem
mount --bind "$2" /mnt/storage
privileges=$3
shift 3
mount -t tmpfs none /tmp
cut -d ' ' -f 5,6 /proc/self/mountinfo | while read -r point options; do
    case "$point,$options," in
        /mnt/storage,* | *,ro,*) ;;
        *) mount -o remount,bind,ro "$point" ;;
    esac
done
cd /
exec setpriv $privileges --clear-groups --no-new-privs --inh-caps=-all --ambient-caps=-all \
    /mnt/marathon-acme "$@"
"#;
/// The storage, and the way to it, as a volume would be that this user owns.
fn give_away(site: &Site) -> Outcome {
    fs::set_permissions(site.folder(), fs::Permissions::from_mode(0o777)).map_err(text)?;
    chown(&site.storage, Some(NOBODY), Some(NOBODY)).map_err(text)
}

fn switched_user() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    give_away(&site)?;
    site.deploy("/a", "a.example.com");
    let mut command = Site::command();
    command.args(&arguments).env("MARATHON_ACME_USER", format!("{NOBODY}:{NOBODY}"));
    let daemon = Process::start(site.folder(), "daemon", &mut command)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let four = [NOBODY; 4].map(|id| id.to_string()).join(" ");
    let found = status(&daemon)?;
    let groups = found.get("Groups").map_or("none", String::as_str);
    let lesser = groups.is_empty() || groups == NOBODY.to_string();
    let switched = ["Uid", "Gid"].iter().all(|ids| found.get(*ids) == Some(&four));
    expect(switched && lesser, || format!("{found:?}"))?;
    bound(&found, &["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])?;
    let owner = fs::metadata(site.certificate("a.example.com")).map_err(text)?.uid();
    expect(owner == NOBODY, || format!("the certificate belongs to {owner}"))
}

fn other_user() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    give_away(&site)?;
    site.deploy("/a", "a.example.com");
    let daemon = as_nobody(&site, &arguments)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    // Without the capability to do more.
    bound(&status(&daemon)?, &["CapPrm", "CapEff", "CapAmb"])?;
    let owner = fs::metadata(site.storage.join("client.key")).map_err(text)?.uid();
    expect(owner == NOBODY, || format!("client.key belongs to {owner}"))
}

/// Whether a process can gain no privileges, and has none of these sets of capabilities.
fn bound(status: &BTreeMap<String, String>, empty: &[&str]) -> Outcome {
    for set in empty {
        let none = status.get(*set).is_some_and(|bits| bits.bytes().all(|bit| bit == b'0'));
        expect(none, || format!("{set}: {:?}", status.get(*set)))?;
    }
    expect(status.get("NoNewPrivs").is_some_and(|bit| bit == "1"), || format!("{status:?}"))
}

/// Root without a switch needs its capabilities for a volume of another user.
fn root() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    give_away(&site)?;
    site.deploy("/a", "a.example.com");
    let daemon = site.daemon("daemon", &arguments, &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let found = status(&daemon)?;
    bound(&found, &["CapBnd"])?;
    let own = fs::read_to_string("/proc/self/status").map_err(text)?;
    let kept = found.get("CapEff").is_some_and(|bits| own.contains(&format!("CapEff:\t{bits}")));
    expect(kept, || format!("{found:?}"))
}

/// As with `--cap-drop=ALL`, with and without what a switch of the user needs.
fn no_capabilities() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/a", "a.example.com");
    for (name, sets, user) in [
        ("all", "-all", None),
        ("switch", "-all,+setuid,+setgid", Some(format!("{NOBODY}:{NOBODY}"))),
    ] {
        if user.is_some() {
            give_away(&site)?;
            fs::remove_dir_all(&site.storage).map_err(text)?;
            fs::create_dir(&site.storage).map_err(text)?;
            chown(&site.storage, Some(NOBODY), Some(NOBODY)).map_err(text)?;
        }
        let mut command = bare("setpriv");
        command.arg(format!("--bounding-set={sets}")).arg(format!("--inh-caps={sets}"));
        command.arg(PROGRAM).args(&arguments);
        command.envs(user.iter().map(|user| ("MARATHON_ACME_USER", user)));
        let mut daemon = Process::start(site.folder(), name, &mut command)?;
        site.wait_for_certificate(&daemon, "a.example.com")?;
        bound(&status(&daemon)?, &["CapPrm", "CapEff", "CapInh", "CapAmb"])?;
        let output = daemon.output();
        expect(!output.contains("privileges"), || output)?;
        daemon.signal(Signal::TERM)?;
        daemon.wait(PATIENCE)?;
    }
    Ok(())
}

/// The program as a user who owns nothing but what he is given.
fn as_nobody(site: &Site, arguments: &[String]) -> Outcome<Process> {
    // The build's folder may be closed to others.
    let program = site.folder().join("marathon-acme");
    fs::copy(PROGRAM, &program).map_err(text)?;
    fs::set_permissions(site.folder(), fs::Permissions::from_mode(0o777)).map_err(text)?;
    let mut command = bare(&program.display().to_string());
    command.args(arguments).uid(NOBODY).gid(NOBODY);
    let daemon = Process::start(site.folder(), "daemon", &mut command)?;
    wait_for_port("the daemon", site.port)?;
    Ok(daemon)
}

/// What `/proc` says of a process, by the names of its lines.
fn status(process: &Process) -> Outcome<BTreeMap<String, String>> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).map_err(text)?;
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    let words = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(lines.map(|(name, value)| (name.to_string(), words(value))).collect())
}

/// Where a process could write, were it root: the mounts that are not read-only, topmost ones.
fn writable_mounts(process: &Process) -> Outcome<Vec<String>> {
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", process.id())).map_err(text)?;
    let mut topmost = BTreeMap::new();
    for mount in mounts.lines() {
        let words: Vec<&str> = mount.split(' ').collect();
        if let [_, _, _, _, point, options, ..] = words.as_slice() {
            topmost.insert(*point, options.split(',').any(|option| option == "rw"));
        }
    }
    let writable = topmost.into_iter().filter(|(_, writable)| *writable);
    Ok(writable.map(|(point, _)| point.to_string()).collect())
}

/// The program for a site, started by [`CONFINE`] with these words for setpriv.
fn confine(site: &Site, root: &Path, privileges: &str, mut arguments: Vec<String>) -> Command {
    arguments.pop();
    let mut command = bare("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", CONFINE, PROGRAM]);
    command.arg(root).arg(&site.storage).arg(privileges);
    command.args(arguments).args(["--acme-ca=/mnt/root.pem", "/mnt/storage"]);
    command
}

/// What `--print-app-definition` has Docker take away, and the user that it switches to.
fn app_definition() -> Outcome {
    let (site, ca, mut arguments) = with_ca(Settings::default())?;
    let mut command = bare(PROGRAM);
    let printed = command.arg("--print-app-definition").output().map_err(text)?;
    let app: Value = serde_json::from_slice(&printed.stdout).map_err(text)?;
    let user = app["env"]["MARATHON_ACME_USER"].as_str().ok_or("no user")?;
    let id: u32 = user.split(':').next().unwrap_or_default().parse().map_err(text)?;
    let parameters = app["container"]["docker"]["parameters"].as_array().ok_or("no parameters")?;
    let of_key = |key: &str| -> Vec<String> {
        let found = parameters.iter().filter(|it| it["key"] == *key);
        found.filter_map(|it| it["value"].as_str()).map(str::to_lowercase).collect()
    };
    let taken = [("read-only", "true"), ("cap-drop", "all"), ("security-opt", "no-new-privileges")];
    for (key, value) in taken {
        expect(of_key(key) == [value], || format!("{key}: {app}"))?;
    }
    let added: Vec<String> = of_key("cap-add").iter().map(|name| format!(",+{name}")).collect();
    let privileges = format!("--reuid 0 --regid 0 --bounding-set=-all{}", added.concat());

    fs::set_permissions(site.folder(), fs::Permissions::from_mode(0o777)).map_err(text)?;
    chown(&site.storage, Some(id), Some(id)).map_err(text)?;
    site.deploy("/a", "a.example.com");
    let admin = free_port()?;
    arguments.insert(0, format!("--admin-listen=127.0.0.1:{admin}"));
    let mut command = confine(&site, &ca.root, &privileges, arguments);
    command.env("MARATHON_ACME_USER", user);
    let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.wait_until_reloaded(admin, 1)?;
    let writable = writable_mounts(&daemon)?;
    expect(writable == ["/mnt/storage"], || writable.join(" "))?;
    let status = status(&daemon)?;
    let four = [id; 4].map(|id| id.to_string()).join(" ");
    let switched = ["Uid", "Gid"].iter().all(|ids| status.get(*ids) == Some(&four));
    let none =
        |set: &&str| status.get(*set).is_some_and(|bits| bits.bytes().all(|bit| bit == b'0'));
    let powerless = ["CapInh", "CapPrm", "CapEff", "CapAmb"].iter().all(none);
    let bound = status.get("NoNewPrivs").is_some_and(|bit| bit == "1");
    expect(switched && powerless && bound, || format!("{status:?}"))?;
    // What the health check of the definition asks.
    expect(app["healthChecks"][0]["portIndex"] == 1, || app.to_string())?;
    let is_well = |it: &String| it.contains(" 200 ") && it.contains("\"ok\"");
    wait_until("the health is ok", || get(admin, "/health").ok().filter(is_well))?;
    daemon.signal(Signal::TERM)?;
    let ended = daemon.wait(PATIENCE)?;
    expect(ended.success(), || format!("{ended}\n{}", daemon.output()))
}

fn confined() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    give_away(&site)?;
    site.deploy("/a", "a.example.com");
    let privileges = format!("--reuid {NOBODY} --regid {NOBODY} --bounding-set=-all");
    let mut command = confine(&site, &ca.root, &privileges, arguments);
    let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.wait_until_reloaded(site.port, 1)?;
    check_file(&site.certificate("a.example.com"), 0o600)?;
    let writable = writable_mounts(&daemon)?;
    expect(writable == ["/mnt/storage"], || writable.join(" "))?;
    let status = status(&daemon)?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let none = status.get(set).is_some_and(|bits| bits.bytes().all(|bit| bit == b'0'));
        expect(none, || format!("{set}: {:?}", status.get(set)))?;
    }
    let bound = status.get("NoNewPrivs").is_some_and(|bit| bit == "1");
    let nobody = status.get("Uid").is_some_and(|ids| ids.starts_with(&NOBODY.to_string()));
    expect(bound && nobody, || format!("{status:?}"))?;
    // It is degraded until the memory of all that is on the disk.
    let is_well = || get(site.port, "/health").ok().filter(|it| it.contains("\"ok\""));
    wait_until("the health is ok", is_well)?;
    daemon.signal(Signal::TERM)?;
    let ended = daemon.wait(PATIENCE)?;
    expect(ended.success(), || format!("{ended}\n{}", daemon.output()))
}

/// The operator's mode counts, not the mask of whoever starts the program.
fn umask() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/a", "a.example.com");
    let mut command = bare("sh");
    command.args(["-c", "umask 077; exec \"$0\" \"$@\"", PROGRAM]);
    command.args(&arguments).arg("--cert-mode=0644");
    let daemon = Process::start(site.folder(), "daemon", &mut command)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    check_file(&site.certificate("a.example.com"), 0o644)
}

/// Waits until `/health` says that a restart elsewhere could help, and why.
fn unhealthy(site: &Site, words: &str) -> Outcome {
    let health = || get(site.port, "/health").ok().filter(|it| it.contains(" 503 "));
    let health = wait_until("the health is 503", health)?;
    expect(health.contains(words), || health.clone())
}

fn foreign_storage() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/a", "a.example.com");
    let mut daemon = as_nobody(&site, &arguments)?;
    let words = format!("lock: cannot lock: Permission denied (os error 13), as user {NOBODY}");
    daemon.wait_for(&words)?;
    unhealthy(&site, &words)?;
    chown(&site.storage, Some(NOBODY), Some(NOBODY)).map_err(text)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let health = get(site.port, "/health")?;
    expect(health.contains(" 200 "), || health)
}

fn foreign_key() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    give_away(&site)?;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/client-pkcs8.key");
    let key = site.storage.join("client.key");
    fs::copy(&fixture, &key).map_err(text)?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).map_err(text)?;
    site.deploy("/a", "a.example.com");
    let mut daemon = as_nobody(&site, &arguments)?;
    let words =
        format!("client.key: cannot read: Permission denied (os error 13), as user {NOBODY}");
    daemon.wait_for(&words)?;
    unhealthy(&site, &words)?;
    let asked = ca.requests();
    expect(asked.is_empty(), || asked.join("\n"))?;
    chown(&key, Some(NOBODY), Some(NOBODY)).map_err(text)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let same = fs::read(fixture).map_err(text)? == fs::read(key).map_err(text)?;
    expect(same, || "client.key was changed".into())
}

/// Writes what `--print-systemd-unit` prints into a folder; its path.
pub(crate) fn printed_unit(folder: &Path, arguments: &[&str]) -> Outcome<PathBuf> {
    let mut command = bare(PROGRAM);
    let output = command.arg("--print-systemd-unit").args(arguments).output().map_err(text)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    expect(output.status.success(), || format!("{arguments:?}: {said}"))?;
    let path = folder.join("marathon-acme.service");
    fs::write(&path, output.stdout).map_err(text)?;
    Ok(path)
}

/// What `systemd-analyze` says.
fn analyze(arguments: &[&str]) -> Outcome<String> {
    let mut command = Command::new("systemd-analyze");
    let output = command.args(arguments).env("SYSTEMD_PAGER", "").output().map_err(text)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The values of a setting, over all its lines.
fn setting(unit: &str, name: &str) -> Vec<String> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines.map(str::to_string).collect()
}

/// The system calls of the groups, wholly unfolded.
fn unfold(groups: &BTreeMap<String, Vec<String>>, names: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in names {
        match groups.get(*name) {
            Some(members) => {
                let members: Vec<&str> = members.iter().map(String::as_str).collect();
                found.extend(unfold(groups, &members));
            }
            None => {
                found.insert((*name).to_string());
            }
        }
    }
    found
}

/// What a unit's `SystemCallFilter=` lines let through.
fn permitted_calls(unit: &str) -> Outcome<BTreeSet<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut group = String::new();
    for line in analyze(&["syscall-filter"])?.lines() {
        match line.trim() {
            "" => {}
            comment if comment.starts_with('#') => {}
            name if !line.starts_with(' ') => group = name.to_string(),
            member => groups.entry(group.clone()).or_default().push(member.to_string()),
        }
    }
    let mut permitted = unfold(&groups, &["@default"]);
    for value in setting(unit, "SystemCallFilter") {
        let names: Vec<&str> = value.trim_start_matches('~').split(' ').collect();
        let named = unfold(&groups, &names);
        match value.starts_with('~') {
            true => permitted.retain(|call| !named.contains(call)),
            false => permitted.extend(named),
        }
    }
    Ok(permitted)
}

/// What a whole life is made of: a certificate, a reload of the settings, a question, an end.
fn calls_of_a_life() -> Outcome<Vec<Call>> {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/a", "a.example.com");
    let trace = site.folder().join("trace");
    let mut command = traced(&trace);
    // Whether anybody hears it or not, it is told how it stands.
    command.args(&arguments).env("NOTIFY_SOCKET", site.folder().join("notify"));
    let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.wait_until_reloaded(site.port, 1)?;
    daemon.signal(Signal::HUP)?;
    let syncs = site.syncs();
    wait_until("it syncs anew", || (site.syncs() > syncs).then_some(()))?;
    get(site.port, "/health")?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(PATIENCE)?;
    calls(&trace)
}

/// Checks how much a unit leaves to be had.
pub(crate) fn check_exposure(unit: &Path, exposure_max: f64) -> Outcome {
    let said = analyze(&["security", "--offline=true", &unit.display().to_string()])?;
    let level = said.lines().find_map(|line| line.split_once("exposure level for "));
    let level = level.and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<f64>().ok());
    println!("exposure level {level:?}");
    expect(level.is_some_and(|level| level <= exposure_max), || said)
}

fn hardened() -> Outcome {
    let folder = tempfile::tempdir().map_err(text)?;
    let path = printed_unit(folder.path(), &[])?;
    check_exposure(&path, EXPOSURE_MAX)?;

    let unit = fs::read_to_string(path).map_err(text)?;
    let (permitted, calls) = (permitted_calls(&unit)?, calls_of_a_life()?);
    // What carries strace's own exec of the program is not the program's.
    let made: BTreeSet<&str> = calls.iter().skip(1).map(|call| call.name.as_str()).collect();
    let refused: Vec<&&str> = made.iter().filter(|call| !permitted.contains(**call)).collect();
    println!("{} different system calls of the {} permitted", made.len(), permitted.len());
    expect(refused.is_empty(), || format!("the unit refuses {refused:?}"))?;
    expect(!permitted.contains("ptrace") && made.contains("fsync"), || format!("{made:?}"))?;
    // What it does besides when a socket is handed over.
    for call in ["pidfd_open", "pidfd_getfd"] {
        expect(permitted.contains(call), || format!("the unit refuses {call}"))?;
    }

    let families = setting(&unit, "RestrictAddressFamilies").join(" ");
    let sockets = calls.iter().filter(|call| call.name == "socket");
    for socket in sockets {
        let fits = families.split(' ').any(|family| socket.says(&format!("({family},")));
        expect(fits, || format!("a socket of another family than {families}"))?;
    }
    // MemoryDenyWriteExecute: nothing is both, and nothing becomes executable.
    let executable = calls.iter().filter(|call| call.says("PROT_EXEC"));
    for call in executable {
        let fits = call.name == "mmap" && !call.says("PROT_WRITE");
        expect(fits, || format!("{} makes memory executable", call.name))?;
    }
    Ok(())
}
