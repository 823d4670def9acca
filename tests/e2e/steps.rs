//! Every write step by step, by its system calls: each is in its order, and each may be the last one
//! before a crash: all 68 steps of a run were, in the last full one. What a power failure takes away
//! besides is the simulator's business.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use marathon_acme::daemon::state::SavedState;
use rcgen::KeyPair;
use stand_ins::ca::Settings;

use crate::crash::{certificate, entries};
use crate::links::pem;
use crate::process::{Outcome, PATIENCE, Process, expect};
use crate::site::{Site, text};
use crate::stand::Stand;
use crate::trace::{Call, calls, injected, traced};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("content_is_flushed_before_a_name_and_a_name_before_it_is_told", &[Tool::Strace], in_order),
    ("each_step_of_each_write_may_be_the_last", &[Tool::Strace], each_the_last),
];

/// What the steps of writes are.
const STEPS: [&str; 6] = ["mkdirat", "fchmod", "fsync", "renameat", "linkat", "unlinkat"];
/// Only every so-manyth step is tried where `KILLS` does not ask for the full run.
const STRIDE: usize = 11;
const DOMAIN: &str = "a.example.com";
/// What an earlier run has left of a certificate and of its memory.
const DAMAGED: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA";

/// In the archive, with a certificate that has expired: the next run removes its key.
const OLD: &str = "old.example.org.pem";

/// A storage that makes the next run do every kind of write: a first account key, a fallback, what is
/// damaged into the archive, a key out of the archive, a challenge, a certificate, the memory.
fn prepare(stand: &Stand) -> Outcome {
    let storage = &stand.site.storage;
    fs::remove_dir_all(storage).map_err(text)?;
    fs::create_dir_all(storage.join("certs")).map_err(text)?;
    fs::write(stand.site.certificate(DOMAIN), DAMAGED).map_err(text)?;
    fs::write(storage.join("state.json"), "{").map_err(text)?;
    fs::create_dir(storage.join("archive")).map_err(text)?;
    let (key, certificate) = pem(2020)?;
    fs::write(storage.join("archive").join(OLD), key + &certificate).map_err(text)?;
    // As a version of its own, so that it is due whatever became of it before.
    stand.site.deploy("/a", DOMAIN);
    Ok(())
}

/// Brings everything up to date, by a command that takes the program's arguments.
fn run(stand: &Stand, mut command: Command) -> Outcome<(Option<i32>, String)> {
    command.args(stand.arguments()).arg("--once");
    let mut process = Process::start(stand.site.folder(), "run", &mut command)?;
    let status =
        process.wait(PATIENCE).map_err(|error| format!("{error}\n{}", process.output()))?;
    Ok((status.code(), process.output()))
}

/// The calls of an undisturbed run.
fn undisturbed(stand: &Stand) -> Outcome<Vec<Call>> {
    prepare(stand)?;
    let file = stand.site.folder().join("calls");
    let (status, output) = run(stand, traced(&file))?;
    expect(status == Some(0), || format!("{status:?}\n{output}"))?;
    calls(&file)
}

/// What is not on the disk yet.
struct Unflushed<'a> {
    storage: &'a Path,
    /// Files in `tmp/`.
    contents: BTreeSet<PathBuf>,
    /// Folders in which a name has come or gone.
    folders: BTreeSet<PathBuf>,
    names: usize,
    sent: usize,
}

impl Unflushed<'_> {
    fn take(&mut self, call: &Call) -> Outcome {
        let paths = call.paths();
        let on = call.on().map(PathBuf::from);
        let named = |index: usize| paths.get(index).cloned().unwrap_or_default();
        let parent = |path: &Path| path.parent().unwrap_or(path).to_path_buf();
        let tmp = self.storage.join("tmp");
        match call.name.as_str() {
            "openat" if named(0).starts_with(&tmp) && call.says("O_CREAT") => {
                self.contents.insert(named(0));
            }
            "fchmod" | "write" if on.as_ref().is_some_and(|on| on.starts_with(&tmp)) => {
                self.contents.extend(on);
            }
            "fsync" => {
                let on = on.unwrap_or_default();
                self.contents.remove(&on);
                self.folders.remove(&on);
            }
            "renameat" | "linkat" => {
                let (source, target) = (named(0), named(1));
                let flushed = !self.contents.contains(&source);
                expect(flushed, || format!("{} has its name too soon", target.display()))?;
                self.folders.insert(parent(&target));
                self.names += 1;
            }
            "mkdirat" => {
                self.folders.insert(parent(&named(0)));
            }
            "unlinkat" if named(0).starts_with(self.storage.join("certs")) => {
                let archived = !self.folders.contains(&self.storage.join("archive"));
                expect(archived, || "its name in archive/ is not flushed".into())?;
                self.folders.insert(parent(&named(0)));
            }
            "sendto" | "sendmsg" | "writev" => {
                self.sent += 1;
                let folders = &self.folders;
                expect(folders.is_empty(), || format!("told before flushed: {folders:?}"))?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn in_order() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let calls = undisturbed(&stand)?;
    let (contents, folders) = (BTreeSet::new(), BTreeSet::new());
    let storage = &stand.site.storage;
    let mut unflushed = Unflushed { storage, contents, folders, names: 0, sent: 0 };
    for call in calls.iter().filter(|call| call.worked()) {
        unflushed.take(call)?;
    }
    let Unflushed { folders, names, sent, .. } = unflushed;
    println!("{names} names given, {sent} times something sent");
    expect(folders.is_empty(), || format!("not flushed at the end: {folders:?}"))?;
    // The account key, the fallback, two files archived, one replaced there, a challenge, a certificate,
    // the memory.
    expect(names >= 8 && sent > 0, || "there is more to be seen".into())
}

fn each_the_last() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let all = undisturbed(&stand)?;
    let counted = STEPS.map(|step| (step, all.iter().filter(|call| call.name == step).count()));
    let steps = counted.iter().flat_map(|(step, count)| (1..=*count).map(|it| (*step, it)));
    let stride = if std::env::var_os("KILLS").is_some() { 1 } else { STRIDE };
    let (mut killed, mut tried) = (0, 0);
    for (step, number) in steps.step_by(stride) {
        tried += 1;
        killed += usize::from(
            last(&stand, step, number).map_err(|error| format!("{step} {number}: {error}"))?,
        );
    }
    println!("{killed} runs were killed, each at another step of {counted:?}");
    // Two runs may differ by a write of the memory.
    expect(tried - killed <= 3, || format!("{tried} should have been"))
}

/// Lets the program bring everything up to date. Once it may find that the CA had issued for a key that
/// was lost, and puts a new order off until its time or, as here, the app's next start.
fn mend(stand: &Stand) -> Outcome {
    for key_is_gone in [true, false] {
        stand.site.deploy("/a", DOMAIN);
        let (ended, output) = run(stand, Site::command())?;
        if !(key_is_gone && ended == Some(1) && output.contains("or its key is gone")) {
            return expect(ended == Some(0), || format!("the next run: {ended:?}\n{output}"));
        }
    }
    Ok(())
}

/// Kills a run before its so-manyth step of that kind, and lets the next one fix it; whether it came
/// so far.
fn last(stand: &Stand, step: &str, number: usize) -> Outcome<bool> {
    prepare(stand)?;
    let (status, output) = run(stand, injected(step, &format!("signal=KILL:when={number}")))?;
    expect(status.is_none_or(|status| status == 0), || format!("{status:?}\n{output}"))?;
    let storage = &stand.site.storage;
    let (file, key) = (stand.site.certificate(DOMAIN), storage.join("client.key"));
    let found = entries(&storage.join("certs"))?;
    let alone = found.iter().all(|name| *name == format!("{DOMAIN}.pem"));
    expect(alone, || format!("certs/ has {found:?}"))?;
    if fs::read(&file).is_ok_and(|content| content != DAMAGED.as_bytes()) {
        certificate(&file)?;
    }
    let account = fs::read_to_string(&key).ok();
    mend(stand)?;
    certificate(&file)?;
    let kept = fs::read_to_string(&key).map_err(text)?;
    KeyPair::from_pem(&kept).map_err(text)?;
    expect(account.is_none_or(|before| before == kept), || "another account key".into())?;
    KeyPair::from_pem(&fs::read_to_string(storage.join("default.pem")).map_err(text)?)
        .map_err(text)?;
    let state = fs::read(storage.join("state.json")).map_err(text)?;
    SavedState::parse(&state).map_err(|_| "state.json is damaged")?;
    let archived = fs::read_to_string(storage.join(format!("archive/{DOMAIN}.pem")));
    expect(archived.is_ok_and(|it| it == DAMAGED), || "the damaged one is lost".into())?;
    let old = fs::read_to_string(storage.join("archive").join(OLD)).map_err(text)?;
    let whole = old.contains("BEGIN CERTIFICATE") && old.ends_with("END CERTIFICATE-----\n");
    expect(whole && !old.contains("PRIVATE KEY"), || old)?;
    let left = [entries(&storage.join("tmp"))?, entries(&storage.join("challenges"))?].concat();
    expect(left.is_empty(), || format!("left behind: {left:?}"))?;
    Ok(status.is_none())
}
