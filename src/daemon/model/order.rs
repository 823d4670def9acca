//! One order between the scheduler, which decides on it, and the issuer, which carries it out. Data only.

use crate::domain::Domain;
use crate::keys::CertificateRequest;
use crate::time::UnixTime;

pub use crate::acme::order::{Issued, OrderError, Resume};

/// Names an order; the caller's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// An order to be made, or to be gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// Names it in every answer.
    pub order: OrderId,
    /// What it is for.
    pub names: Vec<Domain>,
    /// The id of the app that asks for it.
    pub app: String,
    /// The certificate that it replaces (RFC 9773 section 5), once it may begin.
    pub replaces: Option<String>,
    /// An order of an earlier run.
    pub resume: Option<Resume>,
    /// The last one failed: others are more likely to succeed.
    pub failed_before: bool,
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
