//! The program: arguments in, exit code out. The daemon and the loop meet here and nowhere else.

#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use marathon_acme::cli::{self, Command};
use marathon_acme::daemon::Daemon;
use marathon_acme::io::signals::Signals;
use marathon_acme::io::{self, StartError};

fn main() -> ExitCode {
    // First of all: until then a SIGTERM to process 1 is lost.
    let signals = Signals::install();
    match cli::parse(env::args_os().skip(1), env::vars_os()) {
        Ok(Command::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Command::Run { config, warnings }) => {
            let failed = |error: std::io::Error| StartError { status: 1, text: error.to_string() };
            let mut daemon = Daemon::new(&config, warnings);
            let status =
                signals.map_err(failed).and_then(|signals| io::run(&config, signals, &mut daemon));
            match status {
                Ok(status) => ExitCode::from(status),
                Err(StartError { status, text }) => complain(status, &text),
            }
        }
        Err(error) => complain(2, &error.to_string()),
    }
}

fn complain(status: u8, text: &str) -> ExitCode {
    eprintln!("marathon-acme: {text}");
    ExitCode::from(status)
}
