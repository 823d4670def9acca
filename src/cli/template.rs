//! Texts for the operator that are made of the options: a systemd unit, the definition of a Marathon
//! app, the manual page. Pure: says nothing itself, and never puts a password into a text.

use crate::config::Config;
use crate::url::Url;

use super::Words;
use super::error::{UsageError, without_password};
use super::manual::manual;
use super::options::{self, OPTIONS, Spec, Takes};
use super::shared::Shared;
use super::values;

mod app;
#[cfg(test)]
mod tests;
mod unit;

/// The directory where none is given: the one of the image, and what `StateDirectory` makes.
const STORAGE_DIR: &str = "/var/lib/marathon-acme";
/// What stands in a URL for the user and password that were left out.
const PLACEHOLDER: &str = "USER:PASSWORD";
/// A port from here on needs no privilege.
const FIRST_FREE_PORT: u16 = 1024;
/// What a value is called that is a path.
const FILE: &str = "FILE";

/// Which text is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--print-systemd-unit`.
    SystemdUnit,
    /// `--print-app-definition`.
    AppDefinition,
    /// `--print-man`.
    Manual,
}

/// A text that is filled in once it is known where the program is.
#[derive(Debug)]
pub struct Template {
    kind: Kind,
    choices: Choices,
}

/// The text, and what is left for the operator to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// For standard output.
    pub text: String,
    /// For standard error, a line each.
    pub notes: Vec<String>,
}

/// What was chosen, as it stands on a command line. The order is that of the help.
#[derive(Debug)]
struct Choices {
    /// Values are whole; a switch that is off is not here.
    options: Vec<Choice>,
    /// Those whose values bear a password: it is replaced by [`PLACEHOLDER`].
    secrets: Vec<Choice>,
    storage_dir: String,
    config: Config,
}

/// An option that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    spec: &'static Spec,
    value: String,
}

impl Kind {
    /// Which one the words ask for. That it is one at most is checked with the other choices.
    ///
    /// # Errors
    /// A variable is neither true nor false.
    pub(super) fn chosen(words: &Words) -> Result<Option<Kind>, UsageError> {
        let kinds = [
            (options::PRINT_SYSTEMD_UNIT, Kind::SystemdUnit),
            (options::PRINT_APP_DEFINITION, Kind::AppDefinition),
            (options::PRINT_MAN, Kind::Manual),
        ];
        for (long, kind) in kinds {
            if values::switch(long, words.get(long).map(String::as_str))? {
                return Ok(Some(kind));
            }
        }
        Ok(None)
    }
}

impl Template {
    /// # Errors
    /// An option is wrong, as it would be for the program that the text starts.
    pub(super) fn new(kind: Kind, mut words: Words) -> Result<Template, UsageError> {
        words.get_or_insert_with(options::STORAGE_DIR, || STORAGE_DIR.to_string());
        let config = values::config(&words, Shared::default())?;
        let choices = Choices::new(&words, config);
        if kind != Kind::Manual {
            choices.check_paths()?;
        }
        if kind == Kind::AppDefinition {
            app::check(&choices)?;
        }
        Ok(Template { kind, choices })
    }

    /// The text, for a program that is at this path.
    pub fn fill_in(&self, program: &str) -> Filled {
        match self.kind {
            Kind::SystemdUnit => unit::unit(&self.choices, program),
            Kind::AppDefinition => app::app(&self.choices),
            Kind::Manual => Filled { text: manual(), notes: Vec::new() },
        }
    }
}

impl Choices {
    fn new(words: &Words, config: Config) -> Choices {
        let (mut options, mut secrets) = (Vec::new(), Vec::new());
        for spec in OPTIONS.iter().filter(|spec| !spec.long.starts_with("print-")) {
            let Some(value) = words.get(spec.long).cloned() else { continue };
            match (&spec.takes, masked(&value)) {
                (Takes::Nothing, _) if value != "true" => {}
                (_, Some(value)) => secrets.push(Choice { spec, value }),
                (_, None) => options.push(Choice { spec, value }),
            }
        }
        let storage_dir = words.get(options::STORAGE_DIR).cloned().unwrap_or_default();
        Choices { options, secrets, storage_dir, config }
    }

    /// Every path, with what it is called.
    fn paths(&self) -> impl Iterator<Item = (String, &str)> {
        let files = self.options.iter().filter(|choice| choice.spec.takes == Takes::Value(FILE));
        let storage = [("STORAGE-DIR".to_string(), self.storage_dir.as_str())];
        storage.into_iter().chain(files.map(|it| (it.spec.flag(), it.value.as_str())))
    }

    fn check_paths(&self) -> Result<(), UsageError> {
        // A text is read by lines.
        let is_whole = |path: &str| path.starts_with('/') && !path.contains(char::is_control);
        match self.paths().find(|(_, path)| !is_whole(path)) {
            Some((option, path)) => Err(UsageError::Path { option, path: path.to_string() }),
            None => Ok(()),
        }
    }
}

impl Choice {
    /// `--name=value`, or `--name`.
    fn argument(&self) -> String {
        match self.spec.takes {
            Takes::Nothing => self.spec.flag(),
            Takes::Value(_) => format!("{}={}", self.spec.flag(), self.value),
        }
    }

    /// `MARATHON_ACME_NAME`.
    fn variable(&self) -> String {
        options::variable(self.spec.long)
    }
}

/// A value with [`PLACEHOLDER`] in each of its URLs that names a user, if one does.
fn masked(value: &str) -> Option<String> {
    let mut has_secret = false;
    let mut hide = |text: &str| {
        let hidden = match Url::parse(text.trim()) {
            Ok(url) if url.credentials().is_some() => url.to_string(),
            Ok(_) => return text.to_string(),
            Err(_) if without_password(text) == text => return text.to_string(),
            Err(_) => without_password(text).replace("***@", ""),
        };
        has_secret = true;
        hidden.replacen("://", &format!("://{PLACEHOLDER}@"), 1)
    };
    let urls: Vec<String> = value.split(',').map(&mut hide).collect();
    has_secret.then(|| urls.join(","))
}
