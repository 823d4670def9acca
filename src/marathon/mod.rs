//! Marathon's documents: apps, their labels, and events. Never speaks HTTP.
//!
//! Facts about Marathon stand in its sources (mesosphere/marathon), about labels in marathon-lb's.

pub mod app;
pub mod apps;
pub mod challenge_app;
pub mod event;
pub mod labels;
pub mod lint;
pub mod revision;
mod walk;

pub use app::{App, AppError};
pub use apps::{AppsError, AppsParser};
pub use challenge_app::{Barriers, ChallengeApp};
pub use labels::{Claim, Claims, Notice, Rejected, Selection, Skipped, claims};
pub use lint::{Flaw, FlawKind, lint};
pub use revision::acted;
