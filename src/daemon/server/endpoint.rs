//! The reports that the listener offers: their paths, and what a request for one asks. Data only.

use crate::machine::Usage;

/// What can be asked at a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// Whether all is well, for a health check.
    Health,
    /// Everything that can be counted, for Prometheus.
    Metrics,
    /// Everything, for programs.
    Json,
    /// Everything, for people.
    Page,
}

/// A question, with what it takes to answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportRequest {
    /// [`Endpoint::Health`].
    Health {
        /// Without the reasons, which are the operator's.
        status_only: bool,
    },
    /// [`Endpoint::Metrics`], and what the process uses.
    Metrics(Usage),
    /// [`Endpoint::Json`].
    Json,
    /// [`Endpoint::Page`], with the query of its target.
    Page(String),
}

impl Endpoint {
    /// What a path asks for (contract: HTTP on `--listen`).
    pub fn of(path: &str) -> Option<Endpoint> {
        match path {
            "/health" => Some(Endpoint::Health),
            "/metrics" => Some(Endpoint::Metrics),
            "/status.json" => Some(Endpoint::Json),
            "/" => Some(Endpoint::Page),
            _ => None,
        }
    }
}
