//! What is wrong with the command line: each error is one line that names the option and the fix.

use std::fmt;

use super::options::{self, Spec};

/// The command line or a variable is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// There is no such option.
    Unknown {
        /// As it was written.
        flag: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// An option stands without its value.
    NoValue(&'static Spec),
    /// A value is not UTF-8.
    NotText(String),
    /// The words cannot be taken apart; the parser's own words.
    Syntax(String),
    /// There is no storage directory.
    NoDirectory,
    /// There is none besides the program's own name, which is ignored as the first argument.
    OnlyOwnName,
    /// It is a URL, which is shown without a password.
    UrlAsDirectory(String),
    /// There are two.
    SecondDirectory {
        /// The first.
        first: String,
        /// The second.
        second: String,
    },
    /// Two options exclude each other.
    Exclusive {
        /// The long name of one.
        first: &'static str,
        /// The long name of the other.
        second: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// A text for the operator would say a path that is nothing without a working directory, or that
    /// others do not read the same way.
    Path {
        /// `STORAGE-DIR`, or the option as it is written.
        option: String,
        /// The path.
        path: String,
    },
    /// An option says nothing without another one.
    Incomplete {
        /// The long name of the one that is there.
        given: &'static str,
        /// The long name of the one that is not.
        missing: &'static str,
    },
    /// A value cannot be used.
    Value {
        /// The option's long name.
        option: &'static str,
        /// The value, without a password that may be in it.
        value: String,
        /// What is wrong, and how to fix it.
        fix: String,
    },
    /// A variable that other programs read too cannot be used.
    Variable {
        /// Its name, as it was found.
        variable: String,
        /// What is wrong, and how to fix it; without a password.
        problem: String,
    },
}

impl UsageError {
    pub(super) fn syntax(error: &lexopt::Error) -> UsageError {
        UsageError::Syntax(without_password(&error.to_string()))
    }

    pub(super) fn second_directory(first: &str, second: &str) -> UsageError {
        let (first, second) = (without_password(first), without_password(second));
        UsageError::SecondDirectory { first, second }
    }

    pub(super) fn unknown(flag: &str) -> UsageError {
        let nearest = options::nearest(flag).map(|spec| spec.long);
        UsageError::Unknown { flag: flag.to_string(), nearest }
    }
}

/// The value of an option cannot be used; a password in it is left out.
pub(super) fn wrong(option: &'static str, value: &str, fix: impl Into<String>) -> UsageError {
    UsageError::Value { option, value: without_password(value), fix: fix.into() }
}

/// A text as an error may show it: of every URL in it, what stands before the last `@` is left out.
pub(super) fn without_password(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => {
            let host = rest.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://***@{host}")
        }
        _ => text.to_string(),
    }
}

/// The same of what should be a URL but may lack its scheme.
pub(super) fn masked(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else { return text.to_string() };
    let is_scheme = |scheme: &&str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match before.split_once("://").map(|(scheme, _)| scheme).filter(is_scheme) {
        Some(_) => without_password(text),
        None => format!("***@{host}"),
    }
}

/// An item of a list with commas.
pub(super) struct Item<'a> {
    pub(super) text: &'a str,
    /// As an error may show it.
    pub(super) shown: String,
    /// Whether it may have a user or a password in it, or be a piece of one.
    pub(super) may_be_secret: bool,
}

/// The items of a list. A bare comma in a password parts it: whatever stands before an `@`, in its own
/// item or in one before that, may be a piece of a password.
pub(super) fn items(list: &str) -> impl Iterator<Item = Item<'_>> {
    let count = list.split(',').count();
    let last = list.rfind('@').map(|at| list[..at].matches(',').count());
    list.split(',').enumerate().map(move |(index, text)| {
        let text = text.trim();
        let shown = match last {
            Some(last) if index < last => {
                format!("(item {} of {count}, not shown: perhaps part of a password)", index + 1)
            }
            _ => masked(text),
        };
        Item { text, shown, may_be_secret: last.is_some_and(|last| index <= last) }
    })
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsageError::Unknown { flag, nearest: Some(nearest) } => {
                write!(f, "unknown option {flag}; did you mean --{nearest}?")
            }
            UsageError::Unknown { flag, nearest: None } => {
                write!(f, "unknown option {flag}; --help lists them all")
            }
            UsageError::NoValue(spec) => {
                let options::Takes::Value(name) = spec.takes else { return Ok(()) };
                write!(f, "{} wants a value: {} {name}", spec.flag(), spec.flag())
            }
            UsageError::NotText(option) => write!(f, "{option} is not UTF-8; write it in UTF-8"),
            UsageError::Syntax(error) => write!(f, "{error}; see --help"),
            UsageError::NoDirectory => f.write_str(
                "STORAGE-DIR is missing: name the directory that every marathon-lb shares",
            ),
            UsageError::OnlyOwnName => f.write_str(
                "STORAGE-DIR is missing: a first argument marathon-acme is ignored; write \
                 ./marathon-acme for a directory of that name",
            ),
            UsageError::UrlAsDirectory(url) => {
                write!(
                    f,
                    "STORAGE-DIR {url}: it is a URL; write --marathon, --lb or --acme before it"
                )
            }
            UsageError::SecondDirectory { first, second } => {
                write!(f, "there are two STORAGE-DIRs, {first:?} and {second:?}; name one")
            }
            UsageError::Exclusive { first, second, fix } => {
                write!(f, "--{first} and --{second} exclude each other; {fix}")
            }
            UsageError::Path { option, path } => {
                write!(f, "{option} {path:?}: write the whole path, which begins with /")
            }
            UsageError::Incomplete { given, missing } => {
                write!(f, "--{given} wants --{missing} as well; give both or neither")
            }
            UsageError::Variable { variable, problem } => write!(f, "{variable}: {problem}"),
            UsageError::Value { option, value, fix } => write!(f, "--{option} {value}: {fix}"),
        }
    }
}

impl std::error::Error for UsageError {}
