//! The types that two parts of the daemon exchange, and that outlive a run. Data and arithmetic only: no
//! part is known here, nothing is decided for more than one value, and nothing is written.

mod desired;
mod order;
mod record;
mod renewal;
mod retry;
mod served;

pub use desired::{DesiredCertificate, DesiredCertificates, Source};
pub use order::{Attempt, Issued, NewOrder, OrderError, OrderId, Resume};
pub use record::{AccountState, CLOCKS_APART_MAX, CaState, CertificateState, Urgency};
pub(crate) use renewal::Change;
pub use renewal::{CertificateRecord, RenewalInfo, Stored};
#[cfg(test)]
pub(crate) use retry::pause_after;
pub use retry::{AppChanges, NameChanges, RetryState, When};
pub(crate) use retry::{Jitter, RetryPolicy, minutes};
pub use served::{Catalog, Shadowed, UpToDate};
