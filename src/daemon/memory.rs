//! What must survive a restart: `state.json`, with the key of a certificate that is being issued.
//! Losing it costs no stored certificate.
//! Pure: text in, text out. A file that is none of ours is damaged as a whole; within one of ours, a
//! member that makes no sense is passed over, so that the rest is kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::acme::order::Resume;
use crate::acme::renewal_info::Window;
use crate::daemon::budget::Budget;
use crate::daemon::certificates::{Advice, AppChanges, Life, NameChanges, Trouble, When};
use crate::daemon::reloader::UpToDate;
use crate::daemon::wish::Source;
use crate::domain::Domain;
use crate::flat::{FlatMap, FlatSet};
use crate::hint::{Complaint, Hint};
use crate::keys::CertificateRequest;
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

mod read;
mod write;

pub use read::MemoryReader;
pub use write::MemoryWriter;

/// What failed is remembered so much longer when nobody wants the certificate any more: a list of apps
/// that lacks it for a moment must not make the CA be asked before its time.
const KEPT_UNWANTED: Duration = Duration::from_secs(24 * 60 * 60);
/// Names that a label has no longer and that are remembered because they failed, at most; of more, those
/// that bind longest.
const REMOVED_MAX: usize = 100;
/// The version of the format that is written.
const VERSION: u64 = 2;
/// Older versions that are read: 1 knew `reload_owed` alone.
const VERSIONS_READ: [u64; 2] = [1, VERSION];

/// The daemon's memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// A certificate was written, and not every load balancer has acknowledged a reload since.
    pub reload_owed: bool,
    /// Who had loaded all that was written, where no reload was owed.
    pub reloaded: UpToDate,
    /// What is known to each CA, by the URL of its directory.
    pub cas: FlatMap<String, CaMemory>,
    /// Certificates by their file names.
    pub certificates: BTreeMap<Domain, CertificateMemory>,
}

/// What is remembered of a CA.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaMemory {
    /// Our account there.
    pub account: Option<AccountMemory>,
    /// The CA wants no new orders before (`Retry-After`).
    pub not_before: Option<UnixTime>,
    /// How many names it accepts in one order, where it refused more: by profile, empty for none.
    pub names_max: FlatMap<String, usize>,
    /// What was spent of its limits.
    pub budget: Budget,
}

/// An account that was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountMemory {
    /// Its URL, which names it to the CA.
    pub url: String,
    /// The thumbprint of its key (RFC 7638): with another `client.key` it is not ours.
    pub thumbprint: String,
    /// The contact that the CA was told last.
    pub contact: Option<String>,
}

/// What is remembered of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateMemory {
    /// Who asked for it last.
    pub source: Option<Source>,
    /// What for, where that was more than the name of its file.
    pub names: Box<[Domain]>,
    /// About the certificate that was stored last.
    pub life: Option<Life>,
    /// Orders that failed as a whole.
    pub trouble: Option<Trouble>,
    /// Names that failed.
    pub left_out: FlatMap<Domain, Trouble>,
    /// Names that failed and that the label has no longer: should it have them again, they are not tried
    /// before their time.
    pub removed: FlatMap<Domain, Trouble>,
    /// How often the names of its label have changed.
    pub name_changes: Option<Box<NameChanges>>,
    /// An order that was begun and whose end is not known.
    pub attempt: Option<Box<Attempt>>,
}

impl CertificateMemory {
    /// What failed, as a whole and by names.
    pub fn troubles_mut(&mut self) -> impl Iterator<Item = &mut Trouble> {
        self.trouble.iter_mut().chain(self.left_out.values_mut())
    }

    /// The same, to be looked at.
    pub fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.trouble.iter().chain(self.left_out.values())
    }

    /// The label has these names now: what is known of others that failed is put aside, and what was put
    /// aside of these counts again, for a day longer than it binds.
    pub fn keep_removed(&mut self, now: UnixTime, names: &[Domain]) {
        self.removed.retain(|_, trouble| match trouble.retry {
            When::At(at) => at.plus(KEPT_UNWANTED) > now,
            When::Never => true,
        });
        let gone = self.left_out.extract_if(|name, _| !names.contains(name));
        let gone: Vec<(Domain, Trouble)> = gone.collect();
        let back = self.removed.extract_if(|name, _| names.contains(name));
        let back: Vec<(Domain, Trouble)> = back.collect();
        for (name, trouble) in back {
            self.left_out.get_or_insert_with(name, || trouble);
        }
        for (name, trouble) in gone {
            self.removed.insert(name, trouble);
            if self.removed.len() > REMOVED_MAX {
                let binding = |(_, trouble): &(&Domain, &Trouble)| trouble.retry;
                let first = self.removed.iter().min_by_key(binding).map(|(name, _)| name.clone());
                first.and_then(|name| self.removed.remove(&name));
            }
        }
    }

    /// Until when this is worth keeping though nobody wants the certificate: a day longer than
    /// anything in it binds.
    pub fn matters_until(&self) -> When {
        let bound = self
            .troubles()
            .chain(self.removed.values())
            .map(|trouble| trouble.retry.max(trouble.not_before.map_or(When::NOW, When::At)));
        let attempt = self.attempt.iter().map(|attempt| When::At(attempt.at));
        match bound.chain(attempt).max() {
            Some(When::At(at)) => When::At(at.plus(KEPT_UNWANTED)),
            other => other.unwrap_or(When::NOW),
        }
    }

    /// Why the last order failed, wholly or for a name.
    pub fn error(&self) -> Option<String> {
        let left_out = self.left_out.iter();
        let left_out = left_out.map(|(name, trouble)| format!("{name}: {}", trouble.error)).next();
        self.trouble.as_ref().map(|trouble| trouble.error.text.clone()).or(left_out)
    }

    /// When the next order is made because the last one failed; nothing when a person must act.
    pub fn next_try(&self) -> Option<UnixTime> {
        match self.troubles().map(|trouble| trouble.retry).min()? {
            When::At(at) => Some(at),
            When::Never => None,
        }
    }
}

/// An order that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: UnixTime,
    /// The directory of its CA.
    pub directory: String,
    /// What it is for.
    pub names: Vec<Domain>,
    /// Its URL and what it is finalized with, once the CA has made it.
    pub resume: Option<Resume>,
}

impl Attempt {
    /// What its order is finalized with, once that is made.
    pub fn certificate(&self) -> Option<&CertificateRequest> {
        self.resume.as_ref()?.certificate.as_ref()
    }

    /// Whether the order can be gone on with at the CA of `directory`.
    pub fn can_go_on(&self, directory: &str) -> bool {
        self.resume.is_some() && self.directory == directory
    }
}

/// `state.json` is not what this program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl Memory {
    /// Reads `state.json`. Unknown members are passed over.
    ///
    /// # Errors
    /// It is no JSON object of a known version.
    pub fn parse(bytes: &[u8]) -> Result<Memory, Damaged> {
        let mut reading = MemoryReader::new(bytes.to_vec());
        while !reading.read(usize::MAX)? {}
        reading.finish()
    }

    /// The content of `state.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = MemoryWriter::new(self.reload_owed, &self.reloaded, &self.cas);
        text.add(self.certificates.iter());
        text.finish()
    }
}

/// What all of `state.json` but the certificates says.
fn read_head(value: &Map<String, Value>) -> Result<Memory, Damaged> {
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
    Ok(Memory { reload_owed, reloaded, cas, certificates: BTreeMap::new() })
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

fn read_ca(value: &Value) -> CaMemory {
    let account = &value["account"];
    let account = match (text(&account["url"]), text(&account["thumbprint"])) {
        (Some(url), Some(thumbprint)) => {
            Some(AccountMemory { url, thumbprint, contact: text(&account["contact"]) })
        }
        _ => None,
    };
    let not_before = time(&value["not_before"]);
    let limit = |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|max| *max > 0);
    let names_max = members(&value["names_max"]);
    let names_max = names_max.filter_map(|(profile, it)| Some((profile.clone(), limit(it)?)));
    let names_max = names_max.collect();
    CaMemory { account, not_before, names_max, budget: Budget::from_json(&value["budget"]) }
}

fn read_certificate(value: &Value) -> CertificateMemory {
    let source = read_source(&value["source"]);
    // Names that nobody asked for are not written again.
    let names = source.as_ref().map(|_| names(&value["source"]["names"]));
    CertificateMemory {
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

fn read_troubles(value: &Value) -> FlatMap<Domain, Trouble> {
    let read = |(name, it): (&String, _)| Some((Domain::parse(name).ok()?, read_trouble(it)?));
    members(value).filter_map(read).collect()
}

fn read_life(value: &Value) -> Option<Life> {
    let advice = &value["advice"];
    let window = match (time(&advice["start"]), time(&advice["end"])) {
        (Some(start), Some(end)) if start < end => Some(Window { start, end }),
        _ => None,
    };
    Some(Life {
        serial: text(&value["serial"])?,
        directory: text(&value["directory"]),
        issued: time(&value["issued"]),
        renewal: time(&value["renewal"])?,
        advice: Advice {
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

fn read_trouble(value: &Value) -> Option<Trouble> {
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
    Some(Trouble { failures, error, retry, not_before, until_restart, app_changes })
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
