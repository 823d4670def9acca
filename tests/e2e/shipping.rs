//! What is shipped: the static program, also for other machines, and the scratch image around it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use stand_ins::ca::Settings;
use tempfile::TempDir;

use crate::process::{Outcome, Process, Signal, expect, free_port, get, wait_for_port};
use crate::site::{bare, check_file, text, with_ca};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    (
        "the_scratch_image_answers_ping_as_any_user",
        &[Tool::Musl, Tool::Buildah, Tool::Namespaces],
        image,
    ),
    ("the_program_of_another_machine_gets_a_certificate", &[Tool::OtherMachine], other_machine),
    ("make_test_installs_what_is_missing_and_goes_on_where_it_cannot", &[], setup),
];

/// The variable with the program of another machine, after its emulator if it needs one, which `make smoke`
/// builds and sets: the tests alone build for this machine only.
pub(crate) const OTHER: &str = "OTHER_MACHINE";

const IMAGE: &str = "marathon-acme-test";
const BUILDAH: [&str; 3] = ["buildah", "--storage-driver", "vfs"];

fn output(words: &[&str]) -> Outcome<String> {
    let [program, arguments @ ..] = words else { return Err("no words".into()) };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = Command::new(program).args(arguments).current_dir(root).output().map_err(text)?;
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    expect(found.status.success(), || format!("{words:?}: {said}"))?;
    Ok(String::from_utf8_lossy(&found.stdout).trim().to_string())
}

fn buildah(words: &[&str]) -> Outcome<String> {
    output(&[&BUILDAH, words].concat())
}

/// A container of the image, removed at the end.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = buildah(&["rm", &self.0]);
    }
}

/// The image, removed at the end.
struct Image;

impl Drop for Image {
    fn drop(&mut self) {
        let _ = buildah(&["rmi", IMAGE]);
    }
}

fn image() -> Outcome {
    let built = output(&["make", "image", &format!("IMAGE={IMAGE}")])?;
    let _image = Image;
    expect(built.contains("static-pie, "), || built)?;
    let folder = tempfile::tempdir().map_err(text)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).map_err(text)?;
    let container = Container(buildah(&["from", IMAGE])?);
    let mounted = buildah(&["mount", &container.0])?;
    let files: Vec<_> = fs::read_dir(&mounted).map_err(text)?.filter_map(Result::ok).collect();
    let names: Vec<String> =
        files.iter().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    // buildah makes the working directory; there is nothing else beside the program.
    let alone = names.iter().all(|name| name == "marathon-acme" || name == "var");
    expect(alone && names.contains(&"marathon-acme".into()), || names.join(" "))?;
    let config = buildah(&["inspect", "--type", "image", "--format", "{{.OCIv1.Config}}", IMAGE])?;
    for part in
        ["/marathon-acme", "/var/lib/marathon-acme", "8000/tcp", "MARATHON_ACME_STORAGE_DIR"]
    {
        expect(config.contains(part), || config.clone())?;
    }
    answers_ping(&container, folder.path(), &["--env", "MARATHON_ACME_USER=1234:1234"], 1234)?;
    answers_ping(&container, folder.path(), &["--user", "4321:4321"], 4321)
}

/// Runs the image's program, asks it, and looks whose files it makes.
fn answers_ping(container: &Container, folder: &Path, how: &[&str], user: u32) -> Outcome {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let storage = folder.join(user.to_string());
    fs::create_dir(&storage).map_err(text)?;
    chown(&storage, Some(user), Some(user)).map_err(text)?;
    let port = free_port()?;
    let volume = format!("{}:/var/lib/marathon-acme", storage.display());
    let mut command = Command::new(BUILDAH[0]);
    command.args(&BUILDAH[1..]).args(["run", "--isolation", "chroot", "--volume", &volume]);
    command.args(how).args([container.0.as_str(), "--", "/marathon-acme"]);
    command.args([&format!("--listen=127.0.0.1:{port}"), "--marathon=http://127.0.0.1:9"]);
    command.args(["--lb=http://127.0.0.1:9", "--acme=https://127.0.0.1:9/dir"]);
    let mut process = Process::start(folder, &format!("container-{user}"), &mut command)?;
    wait_for_port("the image's program", port)?;
    let ping = get(port, "/.well-known/acme-challenge/ping")?;
    expect(ping.contains("{\"message\": \"pong\"}"), || ping)?;
    process.wait_until_active(port)?;
    process.wait_until_syncs_failed(port, 1)?;
    let owner = fs::metadata(storage.join("client.key")).map_err(text)?.uid();
    expect(owner == user, || format!("client.key belongs to {owner}"))?;
    process.signal(Signal::TERM)?;
    process.wait(crate::process::PATIENCE).map(|_| ())
}

/// The crypto of another machine's program is other code: it signs, connects by TLS and answers.
fn other_machine() -> Outcome {
    let words = std::env::var(OTHER).map_err(text)?;
    let mut words = words.split(' ');
    let first = words.next().ok_or("no program")?;
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/app", "www.example.com");
    let mut command = bare(first);
    let command = command.args(words).args(&arguments);
    let mut daemon = Process::start(site.folder(), "other", command)?;
    wait_for_port("the program", site.port)?;
    let ping = get(site.port, "/.well-known/acme-challenge/ping")?;
    expect(ping.contains("{\"message\": \"pong\"}"), || ping)?;
    site.wait_for_certificate(&daemon, "www.example.com")?;
    check_file(&site.certificate("www.example.com"), 0o600)?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(crate::process::PATIENCE).map(|_| ())
}

/// A machine without anything but these commands, each a script that notes its call.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new(commands: &[(&str, &str)]) -> Outcome<Machine> {
        let machine = Machine { folder: tempfile::tempdir().map_err(text)? };
        for (name, script) in commands {
            let path = machine.folder.path().join(name);
            let log = machine.log().display().to_string();
            let script = format!("#!/bin/sh\necho {name} \"$@\" >>{log}\n{script}\n");
            fs::write(&path, script).map_err(text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(text)?;
        }
        // What the script itself is made of.
        for tool in ["grep", "mkdir", "sh"] {
            let found = output(&["sh", "-c", &format!("command -v {tool}")])?;
            std::os::unix::fs::symlink(found, machine.folder.path().join(tool)).map_err(text)?;
        }
        Ok(machine)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the script says, and the calls that change something. It never fails.
    fn set_up(&self) -> Outcome<(String, Vec<String>)> {
        let _ = fs::remove_file(self.log());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup.sh");
        let mut command = Command::new("sh");
        command.arg(script).args(["x86_64-unknown-linux-musl", "pebble", "haproxy"]);
        command.env_clear().env("PATH", self.folder.path()).env("SUDO", "sudo -n");
        command.env("SETUP_TRIED", self.folder.path().join("target/tried"));
        let ended = command.output().map_err(text)?;
        let said = [ended.stdout, ended.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        expect(ended.status.success(), || format!("{}\n{said}", ended.status))?;
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let calls = log.lines().filter(|it| it.contains(" install ") || it.contains(" add "));
        Ok((said, calls.map(str::to_string).collect()))
    }
}

fn setup() -> Outcome {
    let there = ("rustup", "echo x86_64-unknown-linux-musl");
    let none = ("dpkg-query", "exit 1");
    // Nothing is missing, or there is nothing to install with.
    let well = Machine::new(&[("dpkg-query", "echo 'install ok installed'"), there])?;
    expect(well.set_up()? == (String::new(), vec![]), || "it does something".into())?;
    let other = Machine::new(&[])?;
    let (said, calls) = other.set_up()?;
    expect(said.contains("not installed: haproxy; ") && calls.is_empty(), || said)?;
    expect(other.set_up()?.0.is_empty(), || "it is said again".into())?;
    // Root.
    let root = Machine::new(&[none, ("apt-get", ""), ("id", "echo 0"), there])?;
    let (said, calls) = root.set_up()?;
    let installed = ["pebble", "haproxy"].map(|it| format!("apt-get install -y -qq {it}"));
    expect(calls == installed && said == "installing pebble haproxy\n", || {
        format!("{calls:?}{said}")
    })?;
    // Another user, who may not; and no network for the Rust target.
    let failing =
        [none, ("apt-get", ""), ("sudo", "exit 1"), ("id", "echo 1000"), ("rustup", "exit 1")];
    let user = Machine::new(&failing)?;
    let (said, calls) = user.set_up()?;
    let asked = calls.iter().filter(|it| it.starts_with("sudo -n apt-get install")).count();
    expect(asked == 2 && said.contains("not installed: pebble; "), || {
        format!("{calls:?}\n{said}")
    })?;
    let (said, calls) = user.set_up()?;
    expect(said.is_empty() && calls.is_empty(), || format!("again: {calls:?}\n{said}"))?;
    let test = output(&["make", "-n", "test"])?;
    let (first, then) = (test.find("tests/setup.sh"), test.find("cargo test"));
    expect(first.is_some() && first < then, || test)
}
