//! marathon-acme keeps a browser-trusted certificate fresh for every domain that an app on Mesosphere
//! Marathon asks for by label, behind marathon-lb (HAProxy).

#![forbid(unsafe_code)]

pub mod acme;
pub mod challenge;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dns;
pub mod domain;
pub mod http;
pub mod io;
pub mod keys;
pub mod lb;
pub mod log;
pub mod marathon;
pub mod pki;
pub mod seam;
pub mod secret;
pub mod time;
pub mod turn;
pub mod url;
