//! The program: arguments in, exit code out. The daemon and the loop meet here and nowhere else.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use marathon_acme::acme::account::Binding;
use marathon_acme::check::Checker;
use marathon_acme::check::report::Look;
use marathon_acme::cli::list::{Remembered, list};
use marathon_acme::cli::template::{Filled, Template};
use marathon_acme::cli::{self, Command};
use marathon_acme::config::{Config, ExternalAccount, LogFormat};
use marathon_acme::daemon::Daemon;
use marathon_acme::daemon::state::SavedState;
use marathon_acme::domain::Domain;
use marathon_acme::io::clock::Clock;
use marathon_acme::io::hardening::keep_memory_private;
use marathon_acme::io::signals::Signals;
use marathon_acme::io::storage::{self, Snapshot};
use marathon_acme::io::{StartError, check_storage, read_secret, run, run_check};
use marathon_acme::log::Record;
use marathon_acme::printable::printable;
use marathon_acme::url::Credentials;

/// Where the program is, as far as it does not know itself.
const PROGRAM: &str = "/usr/local/bin/marathon-acme";
/// No CA gives out a shorter key.
const KEY_CHARS_MIN: usize = 16;

fn main() -> ExitCode {
    // First of all: until then a SIGTERM to process 1 is lost.
    let signals = Signals::install();
    let private = keep_memory_private();
    match cli::parse(env::args_os().skip(1), env::vars_os()) {
        Ok(Command::Print(text)) => say(&text),
        Ok(Command::Template(template)) => fill_in(&template),
        Ok(Command::Run { mut config, mut warnings }) => {
            warnings.extend(private.err().map(|error| {
                Record::warn("main", "this process's memory may be seen by others")
                    .with("error", error)
            }));
            let status = signals.map_err(StartError::from).and_then(|signals| {
                let obstacle = storage::obstacle(&config.storage_dir, &config.mode);
                obstacle.map_or(Ok(()), |text| Err(StartError { status: 1, text }))?;
                let binding = binding(&config)?;
                take_token(&mut config)?;
                let mut daemon = Daemon::new(&config, binding, warnings);
                run(&config, signals, &mut daemon)
            });
            ended(status)
        }
        Ok(Command::Check { mut config, remarks }) => {
            let status = signals.map_err(StartError::from).and_then(|signals| {
                // One that cannot be read stops the daemon as well.
                binding(&config)?;
                take_token(&mut config)?;
                let look = look(config.log_format);
                run_check(&config, signals, |survey| Checker::new(&config, survey, &remarks, look))
            });
            ended(status)
        }
        Ok(Command::List { config }) => match read_storage(&config.storage_dir) {
            Ok(Snapshot { certificates, state }) => {
                let (now, memory) = (Clock::start().now().wall, remembered(state.as_deref()));
                say(&list(now, &certificates, &memory, config.log_format))
            }
            Err(error) => complain(1, &error),
        },
        Err(error) => complain(2, &error.to_string()),
    }
}

/// The storage as it stands; the reason in one line where it cannot be read.
fn read_storage(dir: &Path) -> Result<Snapshot, String> {
    check_storage(dir)?;
    storage::read_only(dir).map_err(|error| format!("STORAGE-DIR {}: {error}", dir.display()))
}

fn ended(status: Result<u8, StartError>) -> ExitCode {
    match status {
        Ok(status) => ExitCode::from(status),
        Err(StartError { status, text }) => complain(status, &text),
    }
}

/// How the lines of a check look to whoever reads them; `NO_COLOR` takes their colours away
/// (no-color.org).
fn look(format: LogFormat) -> Look {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    match format {
        LogFormat::Json => Look::Json,
        LogFormat::Text
            if io::stdout().is_terminal() && env::var_os("TERM") != Some("dumb".into()) =>
        {
            Look::Terminal { colour: !is_set("NO_COLOR") }
        }
        LogFormat::Text => Look::Plain,
    }
}

/// The external account that the CA's account is to be bound to, when there is one.
fn binding(config: &Config) -> Result<Option<Binding>, StartError> {
    let Some(ExternalAccount { kid, hmac_key_file }) = &config.external_account else {
        return Ok(None);
    };
    let text = read_secret("eab-hmac-key", hmac_key_file);
    let text =
        text.map_err(|error| if is_a_key(kid, hmac_key_file) { key_itself() } else { error })?;
    let no_key = || StartError {
        status: 2,
        text: format!(
            "--eab-hmac-key {}: it holds no key; write the CA's HMAC key into it, in base64url",
            hmac_key_file.display()
        ),
    };
    Binding::parse(kid, text.expose()).map(Some).ok_or_else(no_key)
}

/// The token that Marathon is asked with from the start, when there is a file of it.
fn take_token(config: &mut Config) -> Result<(), StartError> {
    let Some(file) = &config.marathon_token else { return Ok(()) };
    let text = read_secret("marathon-token", file)?;
    let token = Credentials::token(&text).ok_or_else(|| StartError {
        status: 2,
        text: format!(
            "--marathon-token {}: it holds no token; write the token alone into it",
            file.display()
        ),
    })?;
    token.apply(&mut config.marathon);
    Ok(())
}

/// Whether what should be a path may be the key itself, which must not be shown then.
fn is_a_key(kid: &str, path: &Path) -> bool {
    let text = path.to_string_lossy();
    path.is_relative() && text.len() >= KEY_CHARS_MIN && Binding::parse(kid, &text).is_some()
}

fn key_itself() -> StartError {
    let text =
        "--eab-hmac-key names no file, and may be the key itself; write the key into a file and \
                name that"
            .into();
    StartError { status: 2, text }
}

/// What a daemon that uses the storage has noted; nothing where that cannot be read.
fn remembered(state: Option<&[u8]>) -> BTreeMap<Domain, Remembered> {
    let memory = state.and_then(|bytes| SavedState::parse(bytes).ok()).unwrap_or_default();
    let mut remembered = BTreeMap::new();
    for (name, memory) in memory.certificates {
        let renewal = memory.life.as_ref().map(|life| life.renewal);
        let (error, next_try) = (memory.error(), memory.next_try());
        remembered.insert(name, Remembered { renewal, error, next_try });
    }
    remembered
}

/// Prints a text for the operator, and beside it what is left for him to do.
fn fill_in(template: &Template) -> ExitCode {
    let program = env::current_exe().ok().and_then(|path| path.into_os_string().into_string().ok());
    let Filled { text, notes } = template.fill_in(program.as_deref().unwrap_or(PROGRAM));
    for note in notes {
        // The text is what was asked for; it is whole without these.
        let _ = writeln!(io::stderr(), "marathon-acme: {}", printable(&note));
    }
    say(&text)
}

fn say(text: &str) -> ExitCode {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader, such as `head`, needs no more.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => complain(1, &format!("cannot write to stdout: {error}")),
    }
}

fn complain(status: u8, text: &str) -> ExitCode {
    // Where nobody hears it, the status has to do.
    let _ = writeln!(io::stderr(), "marathon-acme: {}", printable(text));
    ExitCode::from(status)
}
