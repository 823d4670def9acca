//! `--print-systemd-unit`: a unit that lets the program do what it needs, and no more. Every word that
//! an operator gave is quoted, so that systemd hands it on as it is (systemd.service(5)).

use std::fmt::Write as _;

use crate::config::{Config, Listen};

use super::{Choice, Choices, FIRST_FREE_PORT, Filled, PLACEHOLDER};

/// `StateDirectory` names directories in there.
const STATE_DIRECTORIES: &str = "/var/lib/";
/// Where the passwords are that the unit does not show.
const ENVIRONMENT_FILE: &str = "/etc/marathon-acme.env";
/// A file that holds a secret is root's own; systemd hands the service a copy of it.
const SECRET_FILES: &[&str] = &["eab-hmac-key"];
/// A secret that another program renews: a copy would not follow it.
const READ_AGAIN: &str = "marathon-token";
/// What `ProtectHome` keeps from the service.
const HOMES: [&str; 3] = ["/home/", "/root/", "/run/user/"];
/// What `PrivateTmp` keeps from it.
const TEMPORARY: [&str; 2] = ["/tmp/", "/var/tmp/"];
const USER: &str = "marathon-acme";

const BEGIN: &str = "\
# Made by marathon-acme --print-systemd-unit.
[Unit]
Description=TLS certificates for the apps on Marathon
Wants=network-online.target
After=network-online.target
";

const LIFE: &str = "
# It says when it listens and how it stands, and that its loop turns.
Type=notify
WatchdogSec=60
TimeoutStopSec=10
Restart=on-failure
RestartSec=5
# The command line is wrong: another start does not mend it.
RestartPreventExitStatus=2
";

const CONFINEMENT: &str = "
# Under attack the process stays under 96 MiB. On its behalf the system holds 256 KiB for each of 576
# connections at most, and what it reads and writes.
MemoryMax=256M
TasksMax=8
LimitCORE=0

# Everything but the storage is read-only or not there.
ProtectSystem=strict
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
# Of /proc it reads /proc/sys/kernel/random/boot_id, so that no ProcSubset=pid.
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
";

const RESTRICTIONS: &str = "\
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
KeyringMode=private

# What it never does.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# It lowers its limit of cores, raises that of open files, and takes a socket over that it is handed.
SystemCallFilter=prlimit64 setrlimit pidfd_getfd
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
";

/// The unit for a program that is at this path.
pub(super) fn unit(choices: &Choices, program: &str) -> Filled {
    let (mut text, mut notes) = (BEGIN.to_string(), Vec::new());
    let storage = Storage::new(&choices.storage_dir);
    if storage.state_directory.is_none() {
        let _ = writeln!(text, "RequiresMountsFor={}", quoted(storage.path));
    }
    text.push_str(&socket_unit(&choices.config));
    text.push_str("\n[Service]\n");
    text.push_str(&secrets(choices, &mut notes));
    text.push_str(&start(choices, program));
    text.push_str("ExecReload=/bin/kill -HUP $MAINPID\n");
    text.push_str(LIFE);
    text.push_str(&user(choices, &storage, &mut notes));
    text.push_str(CONFINEMENT);
    text.push_str(&homes(choices, program, &mut notes));
    text.push_str(&capabilities(&choices.config));
    text.push_str(RESTRICTIONS);
    Filled { text, notes }
}

/// A storage directory, and its name for `StateDirectory` where it can have one.
struct Storage<'a> {
    path: &'a str,
    state_directory: Option<&'a str>,
}

impl Storage<'_> {
    fn new(path: &str) -> Storage<'_> {
        let below = path.strip_prefix(STATE_DIRECTORIES).map(|below| below.trim_end_matches('/'));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let is_name = |below: &&str| {
            let parts = || below.split('/');
            below.chars().all(plain)
                && parts().all(|part| !matches!(part, "" | "." | ".."))
                // There systemd itself puts what belongs to dynamic users.
                && parts().next() != Some("private")
        };
        Storage { path, state_directory: below.filter(is_name) }
    }
}

/// How systemd can hold the port itself.
fn socket_unit(config: &Config) -> String {
    let port = config.listen.port;
    let address = config.listen.ip.map_or(port.to_string(), |ip| match ip.is_ipv6() {
        true => format!("[{ip}]:{port}"),
        false => format!("{ip}:{port}"),
    });
    format!(
        "# With a marathon-acme.socket beside this, no connection is refused while the program is started\n\
         # anew, and it needs no capability for its port:\n\
         #   [Socket]\n\
         #   ListenStream={address}\n\
         #   [Install]\n\
         #   WantedBy=sockets.target\n"
    )
}

/// What the unit, which every user can read, does not show.
fn secrets(choices: &Choices, notes: &mut Vec<String>) -> String {
    let mut text = String::new();
    if !choices.secrets.is_empty() {
        let _ =
            writeln!(text, "# In there, which only root may read, with the real {PLACEHOLDER}:");
        for secret in &choices.secrets {
            let _ = writeln!(text, "#   {}={}", secret.variable(), secret.value);
            notes.push(format!(
                "{} has a password, and every user can read a unit: write {}={} with the real one \
                 into {ENVIRONMENT_FILE}, mode 0600",
                secret.spec.flag(),
                secret.variable(),
                secret.value
            ));
        }
        let _ = writeln!(text, "EnvironmentFile={ENVIRONMENT_FILE}");
    }
    if let Some(file) = choices.options.iter().find(|choice| choice.spec.long == READ_AGAIN) {
        notes.push(format!(
            "{} is read again while the program runs: let the service's user read {}",
            file.spec.flag(),
            file.value
        ));
    }
    for file in choices.options.iter().filter(|choice| is_secret_file(choice)) {
        let _ = writeln!(text, "# The file may be root's own: the service is handed a copy.");
        let path = file.value.replace('%', "%%");
        let _ = writeln!(text, "LoadCredential={}:{path}", file.spec.long);
    }
    text
}

fn is_secret_file(choice: &Choice) -> bool {
    SECRET_FILES.contains(&choice.spec.long)
}

/// `ExecStart`, a line for each option.
fn start(choices: &Choices, program: &str) -> String {
    let mut text = format!("ExecStart={}", quoted(program));
    for choice in &choices.options {
        let argument = match is_secret_file(choice) {
            true => {
                format!("{}=${{CREDENTIALS_DIRECTORY}}/{}", choice.spec.flag(), choice.spec.long)
            }
            false => argument(&choice.argument()),
        };
        let _ = write!(text, " \\\n    {argument}");
    }
    let _ = writeln!(text, " \\\n    {}", argument(&choices.storage_dir));
    text
}

/// Who runs it, and what is his.
fn user(choices: &Choices, storage: &Storage<'_>, notes: &mut Vec<String>) -> String {
    let cert_mode = choices.config.cert_mode;
    let (umask, mode) = match (cert_mode & 0o070, cert_mode & 0o007) {
        (0, 0) => ("0077", "0750"),
        (_, 0) => ("0027", "0750"),
        _ => ("0022", "0755"),
    };
    let wanted = choices.config.user.as_deref();
    let mut text = String::from("\n");
    if wanted.is_none() && storage.state_directory.is_some() {
        text.push_str(
            "# A user that exists while the service runs, and one directory that is its own.\n",
        );
        text.push_str("DynamicUser=yes\n");
    } else {
        let (name, group) = match wanted.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
            None => (USER, None),
        };
        text.push_str("# A user of its own; the storage has to belong to it:\n");
        if wanted.is_none() {
            let _ = writeln!(text, "#   useradd --system --shell /usr/sbin/nologin {name}");
        }
        if storage.state_directory.is_none() {
            let owner = group.map_or(String::new(), |group| format!(" -g {}", quoted(group)));
            let (name, path) = (quoted(name), quoted(storage.path));
            let _ = writeln!(text, "#   install -d -o {name}{owner} -m {mode} {path}");
            notes.push(format!("STORAGE-DIR {} has to belong to user {name}", storage.path));
        }
        let _ = writeln!(text, "User={}", quoted(name));
        if let Some(group) = group {
            let _ = writeln!(text, "Group={}", quoted(group));
        }
    }
    match storage.state_directory {
        Some(name) => {
            let _ = writeln!(text, "StateDirectory={name}\nStateDirectoryMode={mode}");
        }
        None => {
            let _ = writeln!(text, "ReadWritePaths={}", quoted(storage.path));
        }
    }
    let _ = writeln!(text, "UMask={umask}");
    text
}

/// Homes are not there, unless something of ours is in one.
fn homes(choices: &Choices, program: &str, notes: &mut Vec<String>) -> String {
    let program = ("the program".to_string(), program);
    let mut protect = "yes";
    for (what, path) in choices.paths().chain([program]) {
        if HOMES.iter().any(|home| path.starts_with(home)) {
            protect = "read-only";
            notes.push(format!("{what} is in a home, {path}: the service may not be let in there"));
        } else if TEMPORARY.iter().any(|folder| path.starts_with(folder)) {
            notes.push(format!(
                "{what}, {path}, is not there for the service; choose another place"
            ));
        }
    }
    format!("ProtectHome={protect}\n")
}

fn capabilities(config: &Config) -> String {
    let ports = [Some(config.listen), config.admin_listen].into_iter().flatten();
    let is_low = |listen: Listen| (1..FIRST_FREE_PORT).contains(&listen.port);
    let set = if ports.into_iter().any(is_low) { "CAP_NET_BIND_SERVICE" } else { "" };
    // In a namespace of users of its own a capability does not count for the machine's network.
    let private = if set.is_empty() { "PrivateUsers=yes\n" } else { "" };
    let why = match set {
        "" => "# No privilege, and no way to one.\n",
        _ => "# A port below 1024, no other privilege, and no way to one.\n",
    };
    format!("{private}\n{why}CapabilityBoundingSet={set}\nAmbientCapabilities={set}\n")
}

/// A word of a command: `$` begins a variable there, besides what [`quoted`] is about.
fn argument(word: &str) -> String {
    quoted(&word.replace('$', "$$"))
}

/// A word that systemd takes as it is, specifiers (`%`), quotes, blanks and all
/// (systemd.syntax(7), systemd.unit(5)).
fn quoted(word: &str) -> String {
    let plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '-' | '_' | '.' | ',' | '/' | ':' | '=' | '@' | '%' | '$' | '+')
    };
    let mut text = String::new();
    for c in word.chars() {
        match c {
            '%' => text.push_str("%%"),
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_ascii_control() => {
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    match !word.is_empty() && word.chars().all(plain) {
        true => text,
        false => format!("\"{text}\""),
    }
}
