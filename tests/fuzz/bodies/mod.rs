//! What each target does with its bytes. The fuzzer calls it with whatever it thinks of, `make test`
//! with the committed corpora.

#![allow(unreachable_pub, reason = "the fuzzer takes this as a library, the test as a module")]

pub mod account_key;
pub mod acme;
pub mod acme_fields;
pub mod apps;
pub mod configuration;
pub mod daemon;
pub mod dns;
pub mod domain;
pub mod event;
mod keys;
pub mod labels;
pub mod leaf;
pub mod name_service;
pub mod pem;
mod pieces;
pub mod request;
pub mod resolver;
pub mod response;
pub mod sse;
pub mod state;
pub mod url;

/// Takes any bytes; panics when something is not as it should be.
pub type Body = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Body); 19] = [
    ("account_key", account_key::run),
    ("acme", acme::run),
    ("acme_fields", acme_fields::run),
    ("apps", apps::run),
    ("configuration", configuration::run),
    ("daemon", daemon::run),
    ("dns", dns::run),
    ("domain", domain::run),
    ("event", event::run),
    ("labels", labels::run),
    ("leaf", leaf::run),
    ("name_service", name_service::run),
    ("pem", pem::run),
    ("request", request::run),
    ("resolver", resolver::run),
    ("response", response::run),
    ("sse", sse::run),
    ("state", state::run),
    ("url", url::run),
];
