//! What is shipped: the static program, also for other machines, and the scratch image around it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use stand_ins::ca::Settings;

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
];

/// The variable with an emulator and the program that it shall run, which `make smoke` builds and
/// sets: the tests alone build for this machine only.
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
    process.wait_for("storage  opened")?;
    process.wait_for("sync failed")?;
    let owner = fs::metadata(storage.join("client.key")).map_err(text)?.uid();
    expect(owner == user, || format!("client.key belongs to {owner}"))?;
    process.signal(Signal::TERM)?;
    process.wait(crate::process::PATIENCE).map(|_| ())
}

/// The crypto of another machine's program is other code: it signs, connects by TLS and answers.
fn other_machine() -> Outcome {
    let words = std::env::var(OTHER).map_err(text)?;
    let (emulator, program) = words.split_once(' ').ok_or("no emulator and program")?;
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/app", "www.example.com");
    let mut command = bare(emulator);
    let command = command.arg(program).args(&arguments);
    let mut daemon = Process::start(site.folder(), "other", command)?;
    wait_for_port("the program", site.port)?;
    let ping = get(site.port, "/.well-known/acme-challenge/ping")?;
    expect(ping.contains("{\"message\": \"pong\"}"), || ping)?;
    site.wait_for_certificate(&daemon, "www.example.com")?;
    check_file(&site.certificate("www.example.com"), 0o600)?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(crate::process::PATIENCE).map(|_| ())
}
