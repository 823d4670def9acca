//! PEM, and the few fields of a certificate that the daemon reads. No network, no clock.

pub mod archived;
pub mod bundle;
mod chain;
mod der;
mod fingerprint;
pub mod gate;
pub mod guard;
pub mod leaf;
mod oid;
pub mod pem;
mod private_key;
pub mod signatures;
mod strength;
pub mod verification;

pub use bundle::{
    Bundle, BundleError, read_certificates, read_private_key, same_leaf, topmost_issuer,
};
pub use fingerprint::Fingerprint;
pub use gate::{GateError, admit};
pub use leaf::Leaf;
pub use private_key::rsa_bits;
