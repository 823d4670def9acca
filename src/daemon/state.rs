//! What must survive a restart: `state.json`, with the key of a certificate that is being issued.
//! Losing it costs no stored certificate.
//! Pure: text in, text out. A file that is none of ours is damaged as a whole; within one of ours, a
//! member that makes no sense is skipped, so that the rest is kept.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::acme::order::Resume;
use crate::acme::renewal_info::Window;
use crate::daemon::budget::Budget;
use crate::daemon::model::{
    AccountState, AppChanges, Attempt, CaState, CertificateRecord, CertificateState, NameChanges,
    RenewalInfo, RetryState, Source, UpToDate, When,
};

use crate::domain::Domain;
use crate::flat::{FlatMap, FlatSet};
use crate::hint::{Complaint, Hint};
use crate::keys::CertificateRequest;
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

mod read;
mod write;

pub use read::StateReader;
pub use write::StateWriter;

/// The version of the format that is written.
const VERSION: u64 = 2;
/// Older versions that are read: 1 knew `reload_owed` alone.
const VERSIONS_READ: [u64; 2] = [1, VERSION];

/// The daemon's memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedState {
    /// A certificate was written, and not every load balancer has acknowledged a reload since.
    pub reload_owed: bool,
    /// Who had loaded all that was written, where no reload was owed.
    pub reloaded: UpToDate,
    /// What is known to each CA, by the URL of its directory.
    pub cas: FlatMap<String, CaState>,
    /// Certificates by their file names.
    pub certificates: BTreeMap<Domain, CertificateState>,
}

/// `state.json` is not what this program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl SavedState {
    /// Reads `state.json`. Unknown members are skipped.
    ///
    /// # Errors
    /// It is no JSON object of a known version.
    pub fn parse(bytes: &[u8]) -> Result<SavedState, Damaged> {
        let mut reading = StateReader::new(bytes.to_vec());
        while !reading.read(usize::MAX)? {}
        reading.finish()
    }

    /// The content of `state.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = StateWriter::new(self.reload_owed, &self.reloaded, &self.cas);
        text.add(self.certificates.iter());
        text.finish()
    }
}

/// What all of `state.json` but the certificates says.
fn read_head(value: &Map<String, Value>) -> Result<SavedState, Damaged> {
    let member = |name: &str| value.get(name).unwrap_or(&Value::Null);
    let version = member("version").as_u64().ok_or(Damaged)?;
    if !VERSIONS_READ.contains(&version) {
        return Err(Damaged);
    }
    let reload_owed = member("reload_owed").as_bool().ok_or(Damaged)?;
    let cas = members(member("cas")).map(|(url, ca)| (url.clone(), read_ca(ca))).collect();
    let reloaded = members(member("reloaded"))
        .map(|(url, addresses)| (url.clone(), read_addresses(addresses)))
        .collect();
    Ok(SavedState { reload_owed, reloaded, cas, certificates: BTreeMap::new() })
}

fn read_addresses(value: &Value) -> FlatSet<IpAddr> {
    let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_string)
}

/// Times are milliseconds since 1970.
fn time(value: &Value) -> Option<UnixTime> {
    value.as_i64().map(UnixTime::from_millis)
}

fn names(value: &Value) -> Vec<Domain> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|name| Domain::parse(name.as_str()?).ok()).collect()
}

fn read_ca(value: &Value) -> CaState {
    let account = &value["account"];
    let account = match (text(&account["url"]), text(&account["thumbprint"])) {
        (Some(url), Some(thumbprint)) => {
            Some(AccountState { url, thumbprint, contact: text(&account["contact"]) })
        }
        _ => None,
    };
    let not_before = time(&value["not_before"]);
    let limit = |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|max| *max > 0);
    let names_max = members(&value["names_max"]);
    let names_max = names_max.filter_map(|(profile, it)| Some((profile.clone(), limit(it)?)));
    let names_max = names_max.collect();
    CaState { account, not_before, names_max, budget: Budget::from_json(&value["budget"]) }
}

fn read_certificate(value: &Value) -> CertificateState {
    let source = read_source(&value["source"]);
    // Names that nobody asked for are not written again.
    let names = source.as_ref().map(|_| names(&value["source"]["names"]));
    CertificateState {
        source,
        names: names.unwrap_or_default().into(),
        life: read_life(&value["life"]),
        trouble: read_trouble(&value["trouble"]),
        left_out: read_troubles(&value["left_out"]),
        removed: read_troubles(&value["removed"]),
        name_changes: read_name_changes(&value["name_changes"]).map(Box::new),
        attempt: read_attempt(&value["attempt"]).map(Box::new),
    }
}

fn read_source(value: &Value) -> Option<Source> {
    Some(Source { app: text(&value["app"])?, version: text(&value["version"])? })
}

fn read_troubles(value: &Value) -> FlatMap<Domain, RetryState> {
    let read = |(name, it): (&String, _)| Some((Domain::parse(name).ok()?, read_trouble(it)?));
    members(value).filter_map(read).collect()
}

fn read_life(value: &Value) -> Option<CertificateRecord> {
    let advice = &value["advice"];
    let window = match (time(&advice["start"]), time(&advice["end"])) {
        (Some(start), Some(end)) if start < end => Some(Window { start, end }),
        _ => None,
    };
    Some(CertificateRecord {
        serial: text(&value["serial"])?,
        directory: text(&value["directory"]),
        issued: time(&value["issued"]),
        renewal: time(&value["renewal"])?,
        advice: RenewalInfo {
            window,
            ask_at: time(&advice["ask_at"]),
            failures: count(&advice["failures"]),
            explanation: text(&advice["explanation"]),
            moved: advice["moved"].as_bool() == Some(true),
        },
    })
}

fn count(value: &Value) -> u32 {
    value.as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

fn read_trouble(value: &Value) -> Option<RetryState> {
    let retry = match value["retry"].as_str() {
        Some("never") => When::Never,
        _ => When::At(time(&value["retry"])?),
    };
    let not_before = time(&value["not_before"]);
    let hint = value["hint"].as_str().and_then(Hint::by_id);
    let error = Complaint::new(text(&value["error"])?, hint);
    let failures = count(&value["failures"]);
    let until_restart = value["until_restart"].as_bool() == Some(true);
    let app_changes = read_app_changes(&value["app_changes"]);
    Some(RetryState { failures, error, retry, not_before, until_restart, app_changes })
}

fn read_app_changes(value: &Value) -> AppChanges {
    AppChanges { orders: count(&value["orders"]), not_before: time(&value["not_before"]) }
}

fn read_name_changes(value: &Value) -> Option<NameChanges> {
    let changes = read_app_changes(value);
    Some(NameChanges { order_at: time(&value["order_at"])?, changes })
}

fn read_attempt(value: &Value) -> Option<Attempt> {
    Some(Attempt {
        at: time(&value["at"])?,
        directory: text(&value["directory"])?,
        names: names(&value["names"]),
        resume: read_resume(value),
    })
}

fn read_resume(value: &Value) -> Option<Resume> {
    let url = value["order"].as_str().and_then(|url| Url::parse(url).ok())?;
    let csr = value["csr"].as_str().and_then(|csr| URL_SAFE_NO_PAD.decode(csr).ok());
    let certificate = text(&value["key"]).map(Secret::new).zip(csr);
    let certificate = certificate.map(|(key, csr)| CertificateRequest { key, csr });
    Some(Resume { url, certificate })
}

#[cfg(test)]
mod tests;
