//! What Marathon's labels ask for, as the watcher hands it to the certificates. Data only.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::Domain;
use crate::marathon::acted;

/// All certificates that are asked for, by the first of their names. The watcher and the scheduler keep
/// the same desired certificates.
pub type DesiredCertificates = BTreeMap<Domain, Arc<DesiredCertificate>>;

/// One certificate that is asked for; it is stored under the first of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCertificate {
    /// What it is to be for, at least one, each once, in the order of the label.
    pub names: Vec<Domain>,
    /// Who asks for it.
    pub source: Source,
}

/// Where a desired certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The app's id.
    pub app: String,
    /// The app's revision, as [`acted`] compares it.
    pub version: String,
}

impl Source {
    /// Whether an operator has acted since: what failed then may work now.
    pub fn was_acted_upon_since(&self, before: &Source) -> bool {
        self.app != before.app || acted(&before.version, &self.version)
    }
}
