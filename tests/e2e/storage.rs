//! The storage directory: not there, no directory, read-only, full, damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use marathon_acme::hint::Hint;
use marathon_acme::log::Level;
use marathon_acme::log::message::{CANNOT_ORDER, CERTIFICATE_UNWRITTEN};
use stand_ins::ca::Settings;

use crate::process::{Outcome, Signal, expect, get, wait_until};
use crate::site::{check_file, text, with_ca};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("a_read_only_storage_is_lived_with", &[Tool::Namespaces], || unwritable(RetryState::ReadOnly)),
    ("a_full_storage_is_lived_with", &[Tool::Namespaces], || unwritable(RetryState::Full)),
    ("what_the_disk_did_not_take_has_a_last_chance", &[Tool::Namespaces], last_chance),
    ("damaged_and_foreign_files_are_named", &[], damaged),
    ("the_layout_is_the_old_programs", &[], layout),
    ("a_crash_leaves_whole_files", &[], crash),
    ("an_account_key_that_was_lost_is_never_replaced", &[], empty_key),
];

/// A file system of its own under the storage, taken away at the end.
struct Mounted<'a>(&'a Path);

impl Mounted<'_> {
    fn mount(path: &Path, words: &[&str]) -> Outcome {
        run(Command::new("mount").args(words).arg(path))
    }

    /// Lays the same directory over itself, read-only: a file that is open for writing, as the lock
    /// is, would keep the file system itself from becoming that.
    fn freeze(&self) -> Outcome {
        run(Command::new("mount").arg("--bind").args([self.0, self.0]))?;
        Mounted::mount(self.0, &["-o", "remount,bind,ro"])
    }

    fn thaw(&self) -> Outcome {
        run(Command::new("umount").arg(self.0))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Once more where a test ended while it was frozen; the second finds nothing then.
        for _ in 0..2 {
            let mut command = Command::new("umount");
            let _ = command.arg("-l").arg(self.0).stderr(Stdio::null()).status();
        }
    }
}

fn run(command: &mut Command) -> Outcome {
    let output = command.output().map_err(text)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    expect(output.status.success(), || format!("{command:?}: {said}"))
}

/// How a storage can refuse what is written.
#[derive(Clone, Copy)]
enum RetryState {
    ReadOnly,
    Full,
}

impl RetryState {
    const fn words(self) -> &'static str {
        match self {
            RetryState::ReadOnly => "Read-only file system",
            RetryState::Full => "No space left on device",
        }
    }

    const fn hint(self) -> Hint {
        match self {
            RetryState::ReadOnly => Hint::StorageReadOnly,
            RetryState::Full => Hint::StorageFull,
        }
    }

    fn begin(self, mounted: &Mounted<'_>) -> Outcome {
        match self {
            RetryState::ReadOnly => mounted.freeze(),
            RetryState::Full => {
                // As large as it goes; that it does not go further is what is wanted.
                let _ =
                    fs::write(mounted.0.join("unmanaged-certs/filler"), vec![0; 2 * 1024 * 1024]);
                Ok(())
            }
        }
    }

    fn end(self, mounted: &Mounted<'_>) -> Outcome {
        match self {
            RetryState::ReadOnly => mounted.thaw(),
            RetryState::Full => {
                fs::remove_file(mounted.0.join("unmanaged-certs/filler")).map_err(text)
            }
        }
    }
}

fn unwritable(trouble: RetryState) -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    Mounted::mount(&site.storage, &["-t", "tmpfs", "-o", "size=1m", "none"])?;
    let mounted = Mounted(&site.storage);
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_until_registered(site.port)?;
    let answers = |words: &str| {
        wait_until(&format!("/health says {words}"), || {
            get(site.port, "/health").ok().filter(|answer| answer.contains(words))
        })
    };
    answers("\"ok\"")?;
    trouble.begin(&mounted)?;
    site.deploy("/a", "a.example.com");
    daemon.wait_for(trouble.words())?;
    let health = answers(" 503 ")?;
    expect(health.contains("degraded") && health.contains(trouble.words()), || health.clone())?;
    let hint = trouble.hint().text();
    expect(health.contains(&format!("; try: {hint}")), || health)?;
    let said = daemon.line(trouble.words());
    expect(said.contains(&format!("hint=\"{hint}\"")), || said)?;
    trouble.end(&mounted)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    answers("\"ok\"").map(|_| ())
}

fn last_chance() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    // Slow enough for the disk to fail behind an order that has begun: none begins on one that fails.
    ca.ca.with(|ca, _| ca.settings.validation_delay_ms = 3000);
    Mounted::mount(&site.storage, &["-t", "tmpfs", "-o", "size=1m", "none"])?;
    let mounted = Mounted(&site.storage);
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    site.deploy("/a", "a.example.com");
    let challenges = site.storage.join("challenges");
    wait_until("a challenge", || fs::read_dir(&challenges).ok()?.next())?.map_err(text)?;
    RetryState::ReadOnly.begin(&mounted)?;
    daemon.wait_for(&format!("{CERTIFICATE_UNWRITTEN} name=a.example.com"))?;
    RetryState::ReadOnly.end(&mounted)?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(Duration::from_secs(2))?;
    check_file(&site.certificate("a.example.com"), 0o600)
}

fn damaged() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/a", "a.example.com");
    let mut first = site.daemon("first", &arguments, &[])?;
    site.wait_for_certificate(&first, "a.example.com")?;
    first.signal(Signal::TERM)?;
    first.wait(Duration::from_secs(2))?;
    let path = site.certificate("a.example.com");
    let whole = fs::read(&path).map_err(text)?;
    fs::write(&path, &whole[..whole.len() / 2]).map_err(text)?;
    fs::write(site.storage.join("certs/README"), "hello").map_err(text)?;
    fs::write(site.storage.join("state.json"), b"{\xff").map_err(text)?;
    let mut second = site.daemon("second", &arguments, &[])?;
    second.wait_until_issued(site.port, 1)?;
    second.wait_until_status(site.port, "README is found", |status| {
        let file = &status["foreign_files"][0];
        file["file"] == "README" && file["verdict"] == "blocks"
    })?;
    check_file(&path, 0o600)?;
    let issued = ca.ca.with(|ca, _| ca.issued().len());
    expect(issued == 2, || format!("{issued} issued"))?;
    let archived = |name: &str| fs::read(site.storage.join("archive").join(name)).map_err(text);
    expect(archived("a.example.com.pem")? == whole[..whole.len() / 2], || "another file".into())?;
    expect(archived("state.json")? == b"{\xff", || "another state".into())?;
    expect(site.storage.join("certs/README").exists(), || "the foreign file is gone".into())
}

/// The account is the key's: a new key in the place of one that a crash or a full disk has emptied
/// would be another account, and nobody would know what became of the first.
fn empty_key() -> Outcome {
    let (site, ca, arguments) = with_ca(Settings::default())?;
    let key = site.storage.join("client.key");
    fs::write(&key, "").map_err(text)?;
    fs::create_dir(site.storage.join("tmp")).map_err(text)?;
    fs::write(site.storage.join("tmp/left-over"), "-----BEGIN PRIV").map_err(text)?;
    fs::write(site.storage.join("lock"), "").map_err(text)?;
    site.deploy("/a", "a.example.com");
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    daemon.wait_for(CANNOT_ORDER)?;
    daemon.wait_until_failed(site.port, "a.example.com")?;
    let line = daemon.line(CANNOT_ORDER);
    let said = line.contains("client.key") && line.contains("it is never overwritten");
    expect(line.contains(Level::Critical.name()) && said, || line)?;
    let health = get(site.port, "/health")?;
    expect(health.contains("degraded") && health.contains("ca: client.key"), || health)?;
    let asked = ca.requests();
    expect(asked.is_empty(), || asked.join("\n"))?;
    let kept = fs::read(&key).map_err(text)?;
    expect(kept.is_empty(), || "client.key was written".into())?;
    let left = fs::read_dir(site.storage.join("tmp")).map_err(text)?.count();
    expect(left == 0, || format!("{left} files are left in tmp/"))
}

fn layout() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    fs::write(site.storage.join("default.pem"), "the operator's own").map_err(text)?;
    site.deploy("/a", "a.example.com");
    let mut daemon = site.daemon("daemon", &arguments, &[])?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    daemon.wait_until_reloaded(site.port, 1)?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(Duration::from_secs(2))?;
    let mode = |name: &str| {
        fs::metadata(site.storage.join(name)).map(|found| found.permissions().mode() & 0o777)
    };
    expect(mode("client.key").is_ok_and(|mode| mode == 0o600), || "client.key's mode".into())?;
    let key = fs::read_to_string(site.storage.join("client.key")).map_err(text)?;
    expect(key.starts_with("-----BEGIN PRIVATE KEY-----"), || "client.key is not PKCS#8".into())?;
    let fallback = fs::read_to_string(site.storage.join("default.pem")).map_err(text)?;
    expect(fallback == "the operator's own", || "default.pem was overwritten".into())?;
    for folder in ["certs", "unmanaged-certs", "archive", "challenges"] {
        expect(site.storage.join(folder).is_dir(), || format!("no {folder}"))?;
    }
    let left = fs::read_dir(site.storage.join("challenges")).map_err(text)?.count();
    expect(left == 0, || format!("{left} challenges left"))
}

fn crash() -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    for number in 0..20 {
        site.deploy(&format!("/n{number}"), &format!("n{number}.example.com"));
    }
    let certs = site.storage.join("certs");
    let stored = || fs::read_dir(&certs).map_or(0, Iterator::count);
    for round in 0..10 {
        let before = stored();
        let daemon = site.daemon(&format!("run{round}"), &arguments, &[])?;
        let one_more = || (stored() > before || stored() == 20).then_some(());
        wait_until("one more certificate", one_more)?;
        daemon.signal(Signal::KILL)?;
        drop(daemon);
        for entry in fs::read_dir(&certs).map_err(text)? {
            check_file(&entry.map_err(text)?.path(), 0o600)?;
        }
    }
    let daemon = site.daemon("last", &arguments, &[])?;
    // An order that was lost before the CA had answered waits for its next try, for ten minutes when that
    // happened twice; a new version of its app makes it due at once.
    for number in 0..20 {
        if !site.certificate(&format!("n{number}.example.com")).exists() {
            site.deploy(&format!("/n{number}"), &format!("n{number}.example.com"));
        }
    }
    for number in 0..20 {
        site.wait_for_certificate(&daemon, &format!("n{number}.example.com"))?;
    }
    wait_until("no challenge is left", || {
        let left = fs::read_dir(site.storage.join("challenges")).ok()?.count();
        (left == 0).then_some(())
    })
}
