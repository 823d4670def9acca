//! PEM, and the few fields of a certificate that the daemon reads. No network.
