//! marathon-acme keeps a browser-trusted certificate fresh for every domain that an app on Mesosphere
//! Marathon asks for by label, behind marathon-lb (HAProxy).
//!
//! **A pure state machine (`daemon/`) receives inputs and returns outputs; a small event loop (`io/`)
//! performs them.** This page is the map of the crate.
//!
//! ```text
//!                  Input (what happened)
//!    ┌─────────────────────────────────────────────────┐
//!    │ io/      event loop: mio, TLS, sockets, disk,   │
//!    │          clocks, signals, randomness            │
//!    └───▲─────────────────────────────────────────┬───┘
//!        │ Output (what to do)          machine.rs │
//!    ┌───┴─────────────────────────────────────────▼───┐
//!    │ daemon/  all decisions and all deadlines        │    check/  the --check state machine
//!    └──────────────────────┬──────────────────────────┘       │
//!                        client/     outbound requests: DNS, connections, TLS, HTTP, proxies
//!         acme/   marathon/   lb/   challenge/               one protocol each
//!                  http/   dns/   pki/                       wire formats
//!      domain  time  url  secret  log  keys  config  …       common types
//! ```
//!
//! Imports point down only, and no files import each other in a cycle. [`io`] and [`daemon`] meet in
//! `main.rs`; nothing below knows that `io/` exists. The same daemon runs under two drivers: the mio loop,
//! and the simulator in `tests/sim/`. `tests/tidy/` enforces these rules.
//!
//! # Modules
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | options, environment, help, `--list`, `--print-*`; returns a [`config::Config`] |
//! | [`io`] | event loop, sockets and TLS, listener, storage and its lock, keys, signals, systemd |
//! | [`daemon`] | the parts that decide (next table); `mod.rs` dispatches between them |
//! | [`check`] | `--check`: a second state machine, which asks and judges, and changes nothing |
//! | [`client`] | outbound requests of daemon and check: names, connections, TLS, HTTP, proxies |
//! | [`acme`] | RFC 8555 and 9773: objects, JWS, nonces, account, order, error types |
//! | [`marathon`] | apps as they stream in, their port counts and labels, event names |
//! | [`lb`] | the reload signal and its answer, process ids, HAProxy's configuration |
//! | [`challenge`] | responses of the listener; what an answer at a challenge's path means |
//! | [`http`] | heads, bodies, the client's exchange, the server's connection, server-sent events |
//! | [`dns`] | messages, `resolv.conf` and `hosts`, the resolver |
//! | [`pki`] | PEM, fields of certificates, what may enter `certs/` and what is there |
//! | values | [`domain`], [`time`], [`url`], [`proxy`], [`secret`], [`config`], [`address`]: checked once |
//! | interface | [`machine`], [`context`], [`keys`]: inputs, outputs, time, randomness |
//! | storage | [`survey`], [`certs_scan`]: what `io/` reads of it for others to judge |
//! | helpers | [`backoff`], [`flat`] (maps of few entries), [`printable`] |
//! | messages | [`log`], [`repeats`] (which lines are repeated), [`hint`] (remedies) |
//!
//! The parts of [`daemon`]. They exchange the types of [`daemon::model`] and never import each other:
//!
//! | part | what it decides |
//! |---|---|
//! | [`daemon::watcher`] | follows Marathon; which certificates the labels ask for |
//! | [`daemon::certificates`] | the scheduler: what is next for each certificate, when, and why |
//! | [`daemon::budget`], [`daemon::fair_queue`] | what the CA's rate limits leave; who gets the next token |
//! | [`daemon::issuer`] | the account, and up to ten orders side by side |
//! | [`daemon::routes`] | whether a challenge's path leads here, tried before an order |
//! | [`daemon::guard`] | foreign files in `certs/` |
//! | [`daemon::reloader`] | makes every load balancer load certificates, verifies what is served |
//! | [`daemon::server`] | responses on the listener |
//! | [`daemon::storage`] | the lease, and the order of writes |
//! | [`daemon::archive`] | removes private keys of expired certificates from `archive/` |
//! | [`daemon::state`] | reads and writes `state.json` |
//! | [`daemon::status`] | `/health`, `/metrics`, `/status.json` and the page |
//! | [`daemon::owner`], [`daemon::queues`] | which part sent a request; queue lengths for the simulator |
//!
//! # The life of an order
//!
//! 1. `watcher` reads a label and hands the desired certificates to `certificates`.
//! 2. `certificates/entry.rs` finds the order due; `issuer/queue.rs` holds it until there is room.
//! 3. `certificates/ordering.rs` checks the rate limits and records the attempt in `state.json`.
//! 4. `issuer` creates the order (`acme/order.rs`); its URL is recorded, so that another run can resume it.
//! 5. `server` answers the challenge; the CA validates.
//! 6. The key and the CSR are recorded, then the order is finalized and the chain downloaded.
//! 7. `certificates/file.rs` assembles the PEM file, and `pki/gate.rs` validates it.
//! 8. `io/storage.rs` writes it to `tmp/`, flushes it and renames it into `certs/`.
//! 9. `reloader` signals one load balancer, verifies what it serves, then signals the others.
//! 10. `certificates` plans the renewal: the CA's window (RFC 9773), else by the lifetime.
//!
//! # Where to add something
//!
//! | what | where |
//! |---|---|
//! | an option | `cli/options.rs`, `cli/values.rs`, `config.rs` (with its default), its consumer, README |
//! | an ACME error type | one row in `acme/error_type.rs`; a new remedy in `hint.rs` |
//! | a metric | `daemon/status/metrics.rs`, and the part that counts it |
//! | a field of `/status.json` | `daemon/status/json.rs`, and the part that knows it |
//! | an input or output | `machine.rs`, `io/event_loop.rs`, `daemon/mod.rs`, `tests/sim/machine/` |
//!
//! # Hostile neighbors
//!
//! The owner of an app is not trusted with the other apps. One app has a limited number of domains, its
//! names are never merged with those of another app, a deferred order waits for a bounded number of tokens
//! whatever others ask for, and what a domain's web server answers aims none of our requests. Work on long
//! lists is done in slices, some of it in each iteration, so that a challenge is answered in between.
//!
//! The listener is public. What only an operator may read is answered to direct requests alone, and a
//! target that another HTTP parser could read differently is refused. Below the storage directory no link
//! is followed and nothing but a regular file is opened.
//!
//! # Verified reloads
//!
//! A reload is pending for a load balancer until it has acknowledged a signal that came after the last
//! write; where it can be probed, only a handshake that shows the leaf of that signal's generation, or of a
//! later one, acknowledges. New certificates are loaded by one load balancer first. What was in service
//! before stays in memory until that one serves them, and is restored on evidence that the new files are the
//! cause of what is wrong: a load balancer that is slow, down or sees the storage late is none. The reloader
//! knows what is pending and what was seen, the scheduler what should be seen and what is restored.
//!
//! # Two instances
//!
//! One instance per storage directory is active; the others are standbys that only serve challenges from
//! the shared files. The lock is a lease. The holder refreshes it; a standby takes over after ten seconds
//! without a refresh. Each change verifies the lock just before it becomes visible, and an instance that was
//! frozen gives up its role before it does anything else. No lock of a file system can prevent this: a
//! holder that is frozen between that check and the rename, or between an output and its execution,
//! completes that one action when it wakes.
//!
//! The instance that takes over resumes the recorded orders, whose challenges stay published meanwhile. A
//! holder that is told to end first brings orders that the CA is creating or issuing to a point where they
//! can be resumed. If it is killed there, an order is left whose URL or key nobody has, and its domain is
//! ordered once more a minute later.
//!
//! # The state-machine interface
//!
//! [`machine::Machine`] takes a [`machine::Input`] and is asked for [`machine::Output`]s until it says
//! [`machine::Output::Wait`]. Time comes in with each input ([`time::Now`]), randomness and private keys
//! through [`keys::Keys`]; a [`context::Context`] carries both to every part. So a run can be replayed from
//! a seed, every deadline is a comparison, and every state can be entered by a test.

#![forbid(unsafe_code)]

pub mod acme;
pub mod address;
pub mod backoff;
pub mod certs_scan;
pub mod challenge;
pub mod check;
pub mod cli;
pub mod client;
pub mod config;
pub mod context;
pub mod daemon;
pub mod dns;
pub mod domain;
pub mod flat;
pub mod hint;
pub mod http;
pub mod io;
pub mod keys;
pub mod lb;
pub mod log;
pub mod machine;
pub mod marathon;
pub mod pki;
pub mod printable;
pub mod proxy;
pub mod repeats;
pub mod secret;
pub mod survey;
#[cfg(test)]
mod testing;
pub mod time;
pub mod url;
