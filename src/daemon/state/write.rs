//! The form of `state.json`, for writing: what each kind of memory looks like as JSON. Members that
//! say nothing are left out. Times are milliseconds since 1970.

use serde::Serialize;

use crate::acme::jws::base64url;
use crate::daemon::model::{self, AccountState, CaState, CertificateState, UpToDate, When};

use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::hint::Hint;
use crate::time::UnixTime;

use super::VERSION;

/// `state.json` while it is written: of very many certificates some are added in each iteration, so that
/// challenges are answered in between. A certificate of which nothing is remembered is left out.
#[derive(Debug)]
pub struct StateWriter {
    bytes: Vec<u8>,
    /// The last certificate that was looked at.
    last: Option<Domain>,
    is_first: bool,
}

#[derive(Serialize)]
struct Head<'a> {
    version: u64,
    reload_owed: bool,
    reloaded: &'a UpToDate,
    cas: FlatMap<&'a str, Ca<'a>>,
}

#[derive(Serialize)]
struct Ca<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<Account<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "FlatMap::is_empty")]
    names_max: &'a FlatMap<String, usize>,
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
struct Certificate<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    life: Option<CertificateRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<RetryState<'a>>,
    #[serde(skip_serializing_if = "FlatMap::is_empty")]
    left_out: FlatMap<&'a str, RetryState<'a>>,
    #[serde(skip_serializing_if = "FlatMap::is_empty")]
    removed: FlatMap<&'a str, RetryState<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_changes: Option<AppChanges>,
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
struct CertificateRecord<'a> {
    serial: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued: Option<i64>,
    renewal: i64,
    advice: RenewalInfo<'a>,
}

#[derive(Serialize)]
struct RenewalInfo<'a> {
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
struct RetryState<'a> {
    failures: u32,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    retry: Retry,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "is_false")]
    until_restart: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_changes: Option<AppChanges>,
}

#[derive(Serialize)]
struct AppChanges {
    orders: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_at: Option<i64>,
}

impl AppChanges {
    fn of(changes: &model::AppChanges, order_at: Option<UnixTime>) -> AppChanges {
        AppChanges {
            orders: changes.orders,
            not_before: changes.not_before.map(UnixTime::as_millis),
            order_at: order_at.map(UnixTime::as_millis),
        }
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    csr: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_false(switch: &bool) -> bool {
    !switch
}

impl StateWriter {
    /// Without any certificate yet.
    pub fn new(
        reload_owed: bool,
        reloaded: &UpToDate,
        cas: &FlatMap<String, CaState>,
    ) -> StateWriter {
        let cas = cas.iter().map(|(url, ca)| (url.as_str(), Ca::of(ca))).collect();
        let mut bytes = Vec::new();
        append(&mut bytes, &Head { version: VERSION, reload_owed, reloaded, cas });
        // Its last byte closes it, behind the certificates.
        bytes.pop();
        bytes.extend_from_slice(b",\"certificates\":{");
        StateWriter { bytes, last: None, is_first: true }
    }

    /// The certificate behind which it goes on.
    pub fn last(&self) -> Option<&Domain> {
        self.last.as_ref()
    }

    /// Adds certificates; how many.
    pub fn add<'a>(
        &mut self,
        certificates: impl Iterator<Item = (&'a Domain, &'a CertificateState)>,
    ) -> usize {
        let (mut count, mut last) = (0, None);
        for (name, memory) in certificates {
            (count, last) = (count + 1, Some(name));
            if *memory == CertificateState::default() {
                continue;
            }
            let before: &[u8] = if std::mem::take(&mut self.is_first) { b"\"" } else { b",\"" };
            // A domain has no character that JSON escapes.
            for piece in [before, name.as_str().as_bytes(), b"\":"] {
                self.bytes.extend_from_slice(piece);
            }
            append(&mut self.bytes, &Certificate::of(memory));
        }
        self.last = last.cloned().or(self.last.take());
        count
    }

    /// The whole text.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"}}\n");
        self.bytes
    }
}

/// Appends a value as JSON.
fn append(bytes: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(bytes, value).expect("every map key is a string");
}

impl<'a> Ca<'a> {
    fn of(memory: &'a CaState) -> Ca<'a> {
        let account = memory.account.as_ref().map(|account| {
            let AccountState { url, thumbprint, contact } = account;
            Account { url, thumbprint, contact: contact.as_deref() }
        });
        let not_before = memory.not_before.map(UnixTime::as_millis);
        Ca { account, not_before, names_max: &memory.names_max, budget: memory.budget.to_json() }
    }
}

impl<'a> Certificate<'a> {
    fn of(memory: &'a CertificateState) -> Certificate<'a> {
        let CertificateState {
            source,
            names,
            life,
            trouble,
            left_out,
            removed,
            name_changes,
            attempt,
        } = memory;
        let name_changes = name_changes.as_deref();
        Certificate {
            source: source.as_ref().map(|it| Source {
                app: &it.app,
                version: &it.version,
                names: names.iter().map(Domain::as_str).collect(),
            }),
            life: life.as_ref().map(CertificateRecord::of),
            trouble: trouble.as_ref().map(RetryState::of),
            left_out: troubles(left_out),
            removed: troubles(removed),
            name_changes: name_changes.map(|it| AppChanges::of(&it.changes, Some(it.order_at))),
            attempt: attempt.as_ref().map(|attempt| Attempt {
                at: attempt.at.as_millis(),
                directory: &attempt.directory,
                names: attempt.names.iter().map(Domain::as_str).collect(),
                order: attempt.resume.as_ref().map(|it| it.url.to_string()),
                key: attempt.certificate().map(|it| it.key.expose()),
                csr: attempt.certificate().map(|it| base64url(&it.csr)),
            }),
        }
    }
}

fn troubles(them: &FlatMap<Domain, model::RetryState>) -> FlatMap<&str, RetryState<'_>> {
    them.iter().map(|(name, it)| (name.as_str(), RetryState::of(it))).collect()
}

impl<'a> CertificateRecord<'a> {
    fn of(life: &'a model::CertificateRecord) -> CertificateRecord<'a> {
        let model::RenewalInfo { window, ask_at, failures, explanation, moved } = &life.advice;
        CertificateRecord {
            serial: &life.serial,
            directory: life.directory.as_deref(),
            issued: life.issued.map(UnixTime::as_millis),
            renewal: life.renewal.as_millis(),
            advice: RenewalInfo {
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

impl<'a> RetryState<'a> {
    fn of(trouble: &'a model::RetryState) -> RetryState<'a> {
        let changes = trouble.app_changes;
        RetryState {
            failures: trouble.failures,
            error: &trouble.error,
            hint: trouble.error.hint.map(Hint::id),
            retry: match trouble.retry {
                When::At(at) => Retry::At(at.as_millis()),
                When::Never => Retry::Never("never"),
            },
            not_before: trouble.not_before.map(UnixTime::as_millis),
            until_restart: trouble.until_restart,
            app_changes: (changes != model::AppChanges::default())
                .then(|| AppChanges::of(&changes, None)),
        }
    }
}
