//! PEM, and the few fields of a certificate that the daemon reads. No network, no clock.

pub mod archived;
pub mod bundle;
mod der;
mod fingerprint;
pub mod gate;
pub mod guard;
mod kinship;
pub mod leaf;
pub mod pem;
pub mod signatures;

pub use bundle::{Bundle, BundleError, same_leaf, topmost_issuer};
pub use fingerprint::Fingerprint;
pub use gate::{GateError, admit};
pub use leaf::Leaf;
