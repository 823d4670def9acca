//! PEM, and the few fields of a certificate that the daemon reads. No network, no clock.

pub mod bundle;
pub mod leaf;

pub use bundle::{Bundle, BundleError};
pub use leaf::Leaf;
