//! The process's memory: that others cannot look into it, and that no text of a key stays in it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use stand_ins::ca::Settings;

use crate::process::{Outcome, Process, expect, wait_until};
use crate::site::{PROGRAM, Site, bare, text, tls_options};
use crate::stand::{Stand, stop};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("memory_is_kept_from_others", &[], kept),
    ("no_text_of_a_key_stays_in_memory", &[Tool::Tracing], wiped),
];

const NAMES: [&str; 2] = ["a.example.com", "b.example.com"];

/// What of a process only root may see, once it keeps its memory to itself.
const PRIVATE: [&str; 3] = ["environ", "mem", "maps"];

fn kept() -> Outcome {
    let site = Site::new()?;
    let program = site.folder().join("program");
    fs::copy(PROGRAM, &program).map_err(text)?;
    let (_, root) = tls_options(site.folder(), "ca")?;
    let mut command = bare(&program.display().to_string());
    command.args(site.arguments("https://127.0.0.1:9/directory", &root));
    let mut user = rustix::process::geteuid().as_raw();
    if user == 0 {
        // What belongs to root proves nothing where all does.
        user = 54_321;
        for path in [site.folder(), &site.storage] {
            chown(path, Some(user), Some(user)).map_err(text)?;
        }
        command.uid(user).gid(user);
    }
    let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
    daemon.wait_until_attached(site.port)?;
    let proc = PathBuf::from(format!("/proc/{}", daemon.id()));
    let status = fs::read_to_string(proc.join("status")).map_err(text)?;
    let expected = format!("\nUid:\t{user}\t{user}\t");
    expect(status.contains(&expected), || status.clone())?;
    for file in PRIVATE {
        let owner = fs::metadata(proc.join(file)).map_err(text)?.uid();
        expect(owner == 0, || format!("{file} belongs to {owner}"))?;
    }
    let limits = fs::read_to_string(proc.join("limits")).map_err(text)?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or("");
    let words: Vec<&str> = core.split_whitespace().collect();
    expect(words.get(4..6) == Some(&["0", "0"]), || core.to_string())
}

/// Two lines of a key as every PEM file has them. What a library makes of them has no line break.
fn mark(path: &Path) -> Outcome<Vec<u8>> {
    let pem = fs::read_to_string(path).map_err(text)?;
    let lines: Vec<&str> = pem.lines().skip(1).take(2).collect();
    Ok(lines.join("\n").into_bytes())
}

/// All that a process has in memory and may change.
fn memory(process: &Process) -> Outcome<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", process.id())).map_err(text)?;
    let memory = File::open(format!("/proc/{}/mem", process.id())).map_err(text)?;
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut words = line.split([' ', '-']);
        let range = (words.next().and_then(number), words.next().and_then(number));
        let ((Some(begin), Some(end)), Some(access)) = (range, words.next()) else { continue };
        let mut bytes = vec![0; usize::try_from(end - begin).map_err(text)?];
        if access.starts_with("rw") && memory.read_exact_at(&mut bytes, begin).is_ok() {
            all.extend(bytes);
        }
    }
    Ok(all)
}

/// Waits until none of these is in memory, though it must hold what the daemon cannot do without.
fn wait_until_wiped(stand: &Stand, daemon: &Process, marks: &[Vec<u8>]) -> Outcome {
    let port = format!("--listen=127.0.0.1:{}", stand.site.port);
    let count = |all: &[u8], mark: &[u8]| all.windows(mark.len()).filter(|it| *it == mark).count();
    let found = wait_until("memory without keys", || {
        let all = memory(daemon).ok()?;
        let copies: usize = marks.iter().map(|mark| count(&all, mark)).sum();
        (copies == 0).then_some((all.len(), count(&all, port.as_bytes())))
    });
    let (bytes, arguments) = found?;
    println!("{} keys are nowhere in {bytes} bytes of memory", marks.len());
    expect(arguments > 0, || "not even the command line is there".into())
}

fn wiped() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    for name in NAMES {
        stand.site.deploy(&format!("/{name}"), name);
    }
    let mut first = stand.start("first", &[])?;
    for name in NAMES {
        stand.site.wait_for_certificate(&first, name)?;
    }
    first.wait_until_reloaded(stand.site.port, 1)?;
    let storage = &stand.site.storage;
    let mut files = vec![storage.join("client.key"), storage.join("default.pem")];
    files.extend(NAMES.map(|name| stand.site.certificate(name)));
    let marks: Vec<Vec<u8>> = files.iter().map(|file| mark(file)).collect::<Outcome<_>>()?;
    wait_until_wiped(&stand, &first, &marks)?;
    stop(&mut first)?;
    // Another run makes no key: it reads them.
    let mut second = stand.start("second", &[])?;
    second.wait_until_attached(stand.site.port)?;
    wait_until_wiped(&stand, &second, &marks)?;
    stop(&mut second)
}
