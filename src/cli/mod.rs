//! The command line and the environment: words in, a checked configuration out. Reads no file, opens
//! no port; what an option names is looked at when the program starts.

use std::ffi::OsString;

use lexopt::Arg;

use crate::config::Config;
use crate::flat::FlatMap;
use crate::log::Record;

mod error;
mod help;
mod limits;
pub mod list;
mod manual;
mod options;
mod shared;
pub mod template;
#[cfg(test)]
mod tests;
mod values;
mod verify;

pub use error::UsageError;
pub use help::help;
pub use options::{OPTIONS, Spec, Takes};
use shared::Shared;
use template::Template;

/// What the operator wants.
#[derive(Debug)]
pub enum Command {
    /// Say this on standard output and end well.
    Print(String),
    /// Run the daemon.
    Run {
        /// The choices.
        config: Box<Config>,
        /// What is to be said of them in the log.
        warnings: Vec<Record>,
    },
    /// Look at everything that a certificate hangs on, and change nothing.
    Check {
        /// The choices.
        config: Box<Config>,
        /// What is to be said of them.
        remarks: Vec<Record>,
    },
    /// Fill a text in and say it on standard output.
    Template(Box<Template>),
    /// Show the certificates in the storage and end well.
    List {
        /// The choices.
        config: Box<Config>,
    },
}

/// A first positional argument that is this is ignored.
const OWN_NAME: &str = "marathon-acme";

/// The words by the long names of their options, as texts; the command line's over the environment's.
type Words = FlatMap<&'static str, String>;

/// Reads arguments (without the program's name) and environment.
///
/// # Errors
/// Something is wrong with the words; says which option and how to fix it.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Command, UsageError> {
    let environment: Vec<_> = environment.into_iter().collect();
    let shared = shared::read(&environment);
    let (mut words, mut warnings) = from_environment(environment)?;
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut given, mut positionals) = (Words::new(), Vec::new());
    while let Some(argument) = parser.next().map_err(|error| UsageError::syntax(&error))? {
        let spec = match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Print(help())),
            Arg::Long("version") => {
                return Ok(Command::Print(format!(
                    "marathon-acme {}\n",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            Arg::Value(value) => {
                positionals.push(text("STORAGE-DIR", value)?);
                continue;
            }
            Arg::Short(letter) => options::by_short(letter)
                .ok_or_else(|| UsageError::unknown(&format!("-{letter}")))?,
            Arg::Long(name) => {
                options::by_long(name).ok_or_else(|| UsageError::unknown(&format!("--{name}")))?
            }
        };
        let value = match spec.takes {
            Takes::Value(_) => {
                let value = parser.value().map_err(|_| UsageError::NoValue(spec))?;
                text(&spec.flag(), value)?
            }
            Takes::Nothing => "true".to_string(),
        };
        given.insert(spec.long, value);
    }
    // The old image's entry point accepted the program's name.
    let own_name = positionals.first().is_some_and(|it| it == OWN_NAME);
    match &positionals[usize::from(own_name)..] {
        [] => {}
        [dir] => drop(given.insert(options::STORAGE_DIR, dir.clone())),
        [first, second, ..] => return Err(UsageError::second_directory(first, second)),
    }
    overrule(&mut words, given);
    if let Some(kind) = template::Kind::chosen(&words)? {
        return Template::new(kind, words).map(|it| Command::Template(Box::new(it)));
    }
    let list = values::list(&words)?;
    // Who only looks into the storage goes to nobody.
    let shared = if list { Shared::default() } else { shared? };
    let config = values::config(&words, shared).map_err(|error| match error {
        UsageError::NoDirectory if own_name => UsageError::OnlyOwnName,
        error => error,
    })?;
    let config = Box::new(config);
    if list {
        return Ok(Command::List { config });
    }
    warnings.extend(shared::remarks(&config));
    Ok(match values::check(&words)? {
        true => Command::Check { config, remarks: warnings },
        false => Command::Run { config, warnings },
    })
}

/// Lets the command line's words win: also over what they exclude, for a switch that the environment
/// sets cannot be taken back otherwise.
fn overrule(words: &mut Words, given: Words) {
    for choice in options::CHOICES {
        if choice.among.iter().any(|long| given.contains_key(long)) {
            words.retain(|long, _| !choice.among.contains(long));
        }
    }
    words.extend(given);
}

/// The options that the environment sets. An empty variable sets nothing: that is how templates write
/// "not set". Unknown ones with our prefix are a warning, except the names of labels.
fn from_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Words, Vec<Record>), UsageError> {
    let (mut words, mut warnings) = (Words::new(), Vec::new());
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(options::PREFIX)) else {
            continue;
        };
        match options::by_variable(name) {
            Some(_) if value.is_empty() => {}
            Some(long) => {
                words.insert(long, text(name, value)?);
            }
            None if options::is_label(name) => {}
            None => {
                let line = Record::warn("main", "unknown environment variable is passed over");
                warnings.push(line.with("variable", name));
            }
        }
    }
    Ok((words, warnings))
}

fn text(option: &str, value: OsString) -> Result<String, UsageError> {
    value.into_string().map_err(|_| UsageError::NotText(option.to_string()))
}
