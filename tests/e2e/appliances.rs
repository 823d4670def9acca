//! Small machines: without name servers, users or `/proc`, with few descriptors and little memory. Each test
//! takes one thing away and has a certificate issued. A file system of which nothing but the storage can be
//! written is in `privileges.rs`.

use stand_ins::ca::Settings;

use crate::process::{Outcome, PATIENCE, Process, Signal, expect, get, wait_for_port, wait_until};
use crate::site::{PROGRAM, bare, with_ca};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("an_empty_etc_is_enough", &[Tool::Namespaces], empty_etc),
    ("no_resolv_conf_is_needed_for_addresses", &[Tool::Namespaces], no_resolv_conf),
    ("no_proc_is_needed", &[Tool::Namespaces], no_proc),
    ("few_descriptors_are_enough", &[], few_descriptors),
    ("16_mib_of_memory_are_enough", &[], little_memory),
];

/// Runs the program after these commands of a shell, until it has a certificate and its health is good.
fn works(launcher: &[&str], setup: &str) -> Outcome {
    let (site, _ca, arguments) = with_ca(Settings::default())?;
    site.deploy("/a", "a.example.com");
    let script = format!("{setup} && exec \"$0\" \"$@\"");
    let words = [launcher, &["sh", "-c", &script, PROGRAM]].concat();
    let [first, rest @ ..] = &words[..] else { return Err("no command".into()) };
    let mut command = bare(first);
    command.args(rest).args(&arguments);
    let mut daemon = Process::start(site.folder(), "daemon", &mut command)?;
    wait_for_port("the daemon", site.port)?;
    site.wait_for_certificate(&daemon, "a.example.com")?;
    let is_well = || get(site.port, "/health").ok().filter(|it| it.contains("\"ok\""));
    wait_until("the health is ok", is_well)?;
    let metrics = get(site.port, "/metrics")?;
    expect(metrics.contains(" 200 "), || metrics)?;
    daemon.signal(Signal::TERM)?;
    let ended = daemon.wait(PATIENCE)?;
    expect(ended.success(), || format!("{ended}\n{}", daemon.output()))
}

const MOUNTS: &[&str] = &["unshare", "--mount"];

fn empty_etc() -> Outcome {
    works(MOUNTS, "mount -t tmpfs none /etc")
}

fn no_resolv_conf() -> Outcome {
    let script = "mkdir /mnt/etc && cp -a /etc/. /mnt/etc && rm -f /mnt/etc/resolv.conf && \
                  mount --bind /mnt/etc /etc && test ! -e /etc/resolv.conf";
    works(MOUNTS, &format!("mount -t tmpfs none /mnt && {script}"))
}

fn no_proc() -> Outcome {
    works(MOUNTS, "mount -t tmpfs none /proc")
}

fn few_descriptors() -> Outcome {
    works(&[], "ulimit -n 24")
}

/// Of data and heap: the program itself is a multiple of that in the tests, as it is not optimized.
fn little_memory() -> Outcome {
    works(&[], "ulimit -d 16384")
}
