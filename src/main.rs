//! The program: arguments in, exit code out. The daemon and the loop meet here and nowhere else.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use marathon_acme::cli::list::list;
use marathon_acme::cli::{self, Command};
use marathon_acme::daemon::Daemon;
use marathon_acme::io::clock::Clock;
use marathon_acme::io::signals::Signals;
use marathon_acme::io::storage::{self, Snapshot};
use marathon_acme::io::{StartError, run};

fn main() -> ExitCode {
    // First of all: until then a SIGTERM to process 1 is lost.
    let signals = Signals::install();
    match cli::parse(env::args_os().skip(1), env::vars_os()) {
        Ok(Command::Print(text)) => say(&text),
        Ok(Command::Run { config, warnings }) => {
            let failed = |error: io::Error| StartError { status: 1, text: error.to_string() };
            let mut daemon = Daemon::new(&config, warnings);
            let status =
                signals.map_err(failed).and_then(|signals| run(&config, signals, &mut daemon));
            match status {
                Ok(status) => ExitCode::from(status),
                Err(StartError { status, text }) => complain(status, &text),
            }
        }
        Ok(Command::List { config }) => match storage::read_only(&config.storage_dir) {
            Ok(Snapshot { certificates, .. }) => {
                let (now, memory) = (Clock::start().now().wall, BTreeMap::new());
                say(&list(now, &certificates, &memory, config.log_format))
            }
            Err(error) => complain(1, &format!("STORAGE-DIR {error}")),
        },
        Err(error) => complain(2, &error.to_string()),
    }
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(1, &format!("cannot write to stdout: {error}")),
    }
}

fn complain(status: u8, text: &str) -> ExitCode {
    // Where nobody hears it, the status has to do.
    let _ = writeln!(io::stderr(), "marathon-acme: {text}");
    ExitCode::from(status)
}
