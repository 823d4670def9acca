//! What Marathon's labels ask for, as the watcher hands it to the certificates. Data only.

use crate::domain::Domain;

/// One certificate that is asked for; it is stored under the first of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What it is to be for, at least one, each once, in the order of the label.
    pub names: Vec<Domain>,
    /// Who asks for it.
    pub source: Source,
}

/// Where a wish comes from. When it changes, an operator has acted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The app's id.
    pub app: String,
    /// The app's version; a restart or a change makes a new one.
    pub version: String,
}
