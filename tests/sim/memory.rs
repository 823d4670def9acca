//! What the daemon has on the disk of its orders, by `state.json` alone: whatever dies the next moment,
//! an order that was begun is there, and so is the URL of one that the CA has made.

use std::collections::BTreeMap;

use marathon_acme::log::Record;
use serde_json::Value;

use crate::network::Nanos;

/// A `state.json` that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// When.
    pub(crate) at: Nanos,
    /// By which machine.
    pub(crate) machine: usize,
    /// The attempts in it.
    pub(crate) attempts: Attempts,
}

/// Certificates of which an order was begun whose end is not known, and whether its URL is.
pub(crate) type Attempts = BTreeMap<String, bool>;

/// What a `state.json` has of orders.
pub(crate) fn attempts(text: &str) -> Attempts {
    let state: Value = serde_json::from_str(text).expect("state.json is JSON");
    let certificates = state["certificates"].as_object().into_iter().flatten();
    let attempts = certificates.map(|(name, it)| (name, &it["attempt"]));
    let begun = attempts.filter(|(_, attempt)| attempt.is_object());
    begun.map(|(name, attempt)| (name.clone(), attempt["order"].is_string())).collect()
}

/// Whose order a line of the log says is begun.
pub(crate) fn begun(record: &Record) -> Option<&str> {
    (record.subject == "order" && record.message == "started").then(|| name(record))?
}

/// Whether a line of the log says that the order of a name is over.
pub(crate) fn is_over(record: &Record, of: &str) -> bool {
    const ENDS: [&str; 4] =
        ["failed", "a name is left out for now", "issued", "the CA's certificate is not usable"];
    let ends = record.subject == "order" && ENDS.contains(&record.message.as_str());
    ends && name(record) == Some(of)
}

fn name(record: &Record) -> Option<&str> {
    let field = record.fields.iter().find(|(field, _)| *field == "name");
    field.map(|(_, value)| value.as_str())
}
