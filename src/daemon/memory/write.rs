//! The form of `state.json`, for writing: what each kind of memory looks like as JSON. Members that
//! say nothing are left out. Times are milliseconds since 1970.

use serde::{Serialize, Serializer};

use crate::daemon::certificates::{self, When};
use crate::daemon::reloader::UpToDate;
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::hint::Hint;
use crate::time::UnixTime;

use super::{AccountMemory, CaMemory, CertificateMemory};

#[derive(Serialize)]
pub(super) struct State<'a, A: Serialize, C: Serialize> {
    pub(super) version: u64,
    pub(super) reload_owed: bool,
    pub(super) reloaded: &'a UpToDate,
    pub(super) cas: A,
    pub(super) certificates: C,
}

/// The members of an object, made one by one while they are written.
pub(super) struct Members<I>(pub(super) I);

impl<K: Serialize, V: Serialize, I: Iterator<Item = (K, V)> + Clone> Serialize for Members<I> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.clone())
    }
}

#[derive(Serialize)]
pub(super) struct Ca<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<Account<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    budget: serde_json::Value,
}

#[derive(Serialize)]
struct Account<'a> {
    url: &'a str,
    thumbprint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    contact: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Certificate<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    life: Option<Life<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<Trouble<'a>>,
    #[serde(skip_serializing_if = "FlatMap::is_empty")]
    left_out: FlatMap<&'a str, Trouble<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<Attempt<'a>>,
}

#[derive(Serialize)]
struct Source<'a> {
    app: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<&'a str>,
}

#[derive(Serialize)]
struct Life<'a> {
    serial: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued: Option<i64>,
    renewal: i64,
    advice: Advice<'a>,
}

#[derive(Serialize)]
struct Advice<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ask_at: Option<i64>,
    #[serde(skip_serializing_if = "is_zero")]
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    moved: bool,
}

#[derive(Serialize)]
struct Trouble<'a> {
    failures: u32,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    retry: Retry,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "is_false")]
    until_restart: bool,
}

/// A time, or `"never"`.
#[derive(Serialize)]
#[serde(untagged)]
enum Retry {
    At(i64),
    Never(&'static str),
}

#[derive(Serialize)]
struct Attempt<'a> {
    at: i64,
    directory: &'a str,
    names: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_false(switch: &bool) -> bool {
    !switch
}

impl<'a> Ca<'a> {
    pub(super) fn of(memory: &'a CaMemory) -> Ca<'a> {
        let account = memory.account.as_ref().map(|account| {
            let AccountMemory { url, thumbprint, contact } = account;
            Account { url, thumbprint, contact: contact.as_deref() }
        });
        let not_before = memory.not_before.map(UnixTime::as_millis);
        Ca { account, not_before, budget: memory.budget.to_json() }
    }
}

impl<'a> Certificate<'a> {
    pub(super) fn of(memory: &'a CertificateMemory) -> Certificate<'a> {
        let CertificateMemory { source, names, life, trouble, left_out, attempt } = memory;
        let left_out = left_out.iter().map(|(name, it)| (name.as_str(), Trouble::of(it)));
        Certificate {
            source: source.as_ref().map(|it| Source {
                app: &it.app,
                version: &it.version,
                names: names.iter().map(Domain::as_str).collect(),
            }),
            life: life.as_ref().map(Life::of),
            trouble: trouble.as_ref().map(Trouble::of),
            left_out: left_out.collect(),
            attempt: attempt.as_ref().map(|attempt| Attempt {
                at: attempt.at.as_millis(),
                directory: &attempt.directory,
                names: attempt.names.iter().map(Domain::as_str).collect(),
                order: attempt.order.as_ref().map(ToString::to_string),
            }),
        }
    }
}

impl<'a> Life<'a> {
    fn of(life: &'a certificates::Life) -> Life<'a> {
        let certificates::Advice { window, ask_at, failures, explanation, moved } = &life.advice;
        Life {
            serial: &life.serial,
            directory: life.directory.as_deref(),
            issued: life.issued.map(UnixTime::as_millis),
            renewal: life.renewal.as_millis(),
            advice: Advice {
                start: window.map(|window| window.start.as_millis()),
                end: window.map(|window| window.end.as_millis()),
                ask_at: ask_at.map(UnixTime::as_millis),
                failures: *failures,
                explanation: explanation.as_deref(),
                moved: *moved,
            },
        }
    }
}

impl<'a> Trouble<'a> {
    fn of(trouble: &'a certificates::Trouble) -> Trouble<'a> {
        Trouble {
            failures: trouble.failures,
            error: &trouble.error,
            hint: trouble.error.hint.map(Hint::id),
            retry: match trouble.retry {
                When::At(at) => Retry::At(at.as_millis()),
                When::Never => Retry::Never("never"),
            },
            not_before: trouble.not_before.map(UnixTime::as_millis),
            until_restart: trouble.until_restart,
        }
    }
}
