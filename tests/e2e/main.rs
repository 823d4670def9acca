//! The real binary against real peers on loopback. A test whose tools this machine does not have is
//! reported as ignored, with what is missing, never as passed.

mod answers;
mod appliances;
mod attack;
mod ca;
mod causes;
mod check;
mod clocks;
mod command_line;
mod crash;
mod exposure;
mod fixed;
mod frontend;
mod gate;
mod guard;
mod hints;
mod instances;
mod leaks;
mod life;
mod limits;
mod links;
mod listener;
mod logs;
mod marathon;
mod memory;
mod names;
mod order_options;
mod pebble;
mod pem;
mod privileges;
mod process;
mod proof;
mod proxy;
mod real;
mod real_site;
mod recorder;
mod refusals;
mod renewal;
mod retries;
mod routes;
mod rules;
mod secrets;
mod shipping;
mod site;
mod stand;
mod state;
mod status;
mod steps;
mod storage;
mod systemd;
mod tenants;
mod trace;
mod trust;
mod volumes;

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

use process::Outcome;

/// What the tests that want many descriptors open at most, with those that run beside them.
const DESCRIPTORS_WANTED: u64 = 12_000;

/// A test: its name, the tools that it needs, and what it does.
pub(crate) type Test = (&'static str, &'static [Tool], fn() -> Outcome);

/// What a test needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Pebble,
    HaProxy,
    Buildah,
    /// The Rust target and the C compiler for a static binary.
    Musl,
    /// Another machine's program and its emulator, which `make smoke` names.
    OtherMachine,
    /// Leave to open more than ten thousand descriptors.
    Descriptors,
    /// Leave to listen on port 80.
    LowPorts,
    /// To be root, and to be allowed to make namespaces and mounts.
    Namespaces,
    /// The same for networks, and iproute2 to make them with.
    Networks,
    /// To be allowed to look into other processes' memory.
    Tracing,
    /// To be allowed to trace, too.
    Strace,
    /// FAT in user space (fusefat, dosfstools), and to be root with namespaces for it.
    Fat,
    /// exFAT in user space (exfat-fuse, exfatprogs), a loop device, and to be root with namespaces.
    Exfat,
    /// overlayfs, and to be root with namespaces for it.
    Overlay,
    SystemdAnalyze,
    SocketActivate,
    Promtool,
    Chromium,
    Groff,
}

impl Tool {
    /// What is missing, in words; nothing when it is there.
    fn missing(self) -> Option<&'static str> {
        let (words, runs) = match self {
            Tool::Pebble => {
                let both =
                    succeeds("sh", &["-c", "command -v pebble && command -v pebble-challtestsrv"]);
                ("no pebble", both)
            }
            Tool::HaProxy => ("no haproxy", succeeds("haproxy", &["-v"])),
            Tool::Buildah => ("no buildah", succeeds("buildah", &["--version"])),
            Tool::Musl => {
                let script =
                    "command -v musl-gcc && rustup target list --installed | grep -q x86_64.*musl";
                ("no musl target or musl-gcc", succeeds("sh", &["-c", script]))
            }
            Tool::OtherMachine => {
                ("no program for another machine", std::env::var_os(shipping::OTHER).is_some())
            }
            Tool::Descriptors => {
                ("not so many descriptors", attack::claim_descriptors(DESCRIPTORS_WANTED))
            }
            Tool::LowPorts => ("no leave to listen on port 80", check::may_listen_on_port_80()),
            Tool::Namespaces => {
                let script = "mount -t tmpfs none /mnt";
                let works =
                    succeeds("unshare", &["--mount", "--pid", "--fork", "sh", "-c", script]);
                ("no root with namespaces", works)
            }
            Tool::Networks => {
                let script = "ip link add name veth-a type veth peer name veth-b && \
                              ip link add name bridge-a type bridge && ip netns list";
                let works = succeeds("unshare", &["--net", "sh", "-c", script]);
                ("no root with network namespaces, or no iproute2", works)
            }
            Tool::Tracing => ("no root that may trace", may_trace()),
            Tool::Strace => ("no strace that may trace", succeeds("strace", &["true"])),
            Tool::Fat => ("no FAT in user space", volumes::mounts(volumes::FAT)),
            Tool::Exfat => {
                ("no exFAT in user space or no loop device", volumes::mounts(volumes::EXFAT))
            }
            Tool::Overlay => ("no overlayfs", volumes::mounts(volumes::OVERLAY)),
            Tool::SystemdAnalyze => {
                ("no systemd-analyze", succeeds("systemd-analyze", &["--version"]))
            }
            Tool::SocketActivate => {
                ("no systemd-socket-activate", succeeds("systemd-socket-activate", &["--version"]))
            }
            Tool::Promtool => ("no promtool", succeeds("promtool", &["--version"])),
            Tool::Chromium => ("no chromium", succeeds("chromium", &["--version"])),
            Tool::Groff => ("no groff", succeeds("groff", &["--version"])),
        };
        (!runs).then_some(words)
    }
}

/// Whether CAP_SYS_PTRACE is ours (capabilities(7), number 19).
fn may_trace() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    set.is_some_and(|set| set >> 19 & 1 == 1)
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn trial((name, tools, run): Test) -> Trial {
    let missing = tools.iter().find_map(|tool| tool.missing());
    let test = Trial::test(name, move || run().map_err(Failed::from));
    match missing {
        Some(missing) => test.with_kind(missing).with_ignored_flag(true),
        None => test,
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of their time tests wait, for the program's pauses and for its peers: more can run than there
    // are processors.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(processors + 2);
    let modules = [
        // First, since they take long: the image's program is built while others wait.
        shipping::TESTS,
        proof::TESTS,
        proof::broken::TESTS,
        proof::foreign::TESTS,
        pebble::TESTS,
        life::TESTS,
        crash::TESTS,
        steps::TESTS,
        ca::TESTS,
        marathon::TESTS,
        names::TESTS,
        storage::TESTS,
        volumes::TESTS,
        links::TESTS,
        privileges::TESTS,
        listener::TESTS,
        status::TESTS,
        logs::TESTS,
        hints::TESTS,
        command_line::TESTS,
        causes::TESTS,
        check::TESTS,
        clocks::TESTS,
        exposure::TESTS,
        routes::TESTS,
        rules::TESTS,
        systemd::TESTS,
        tenants::TESTS,
        renewal::TESTS,
        order_options::TESTS,
        refusals::TESTS,
        retries::TESTS,
        limits::TESTS,
        gate::TESTS,
        guard::TESTS,
        pem::TESTS,
        instances::TESTS,
        instances::partition::TESTS,
        instances::rolling::TESTS,
        secrets::TESTS,
        memory::TESTS,
        trust::TESTS,
        proxy::TESTS,
        answers::TESTS,
        appliances::TESTS,
        attack::TESTS,
    ];
    let trials = modules.into_iter().flatten().copied().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
