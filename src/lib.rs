//! marathon-acme keeps a browser-trusted certificate fresh for every domain that an app on Mesosphere
//! Marathon asks for by label, behind marathon-lb (HAProxy).
//!
//! One sentence: **a pure daemon that is told what happened and says what to do, and a small loop
//! that makes it so.** This page is the map of the house.
//!
//! ```text
//!                  Input (what happened)
//!    ┌─────────────────────────────────────────────────┐
//!    │ io/  the loop: mio, TLS, sockets, disk, clocks, │
//!    │      signals, randomness. Decides nothing.      │
//!    └───▲─────────────────────────────────────────┬───┘
//!        │ Output (what to do)             machine.rs │
//!    ┌───┴─────────────────────────────────────────▼───┐
//!    │ daemon/  decides. Owns every machine and every  │
//!    │          deadline. No I/O, no clock, no chance. │
//!    └──┬────────────────────┬───────────────────────┘
//!       │                 client/                        requests of ours, on their way to peers
//!     acme/       marathon/     lb/      challenge/      what is said to whom
//!       └────────────┴─────┬─────┴──────────┘
//!                  http/  dns/  pki/                     how it is said
//!            domain.rs  time.rs  url.rs  keys.rs …       the words
//! ```
//!
//! Imports point down only. [`io`] and [`daemon`] meet in `main.rs`; nothing below knows that `io/`
//! exists. The same daemon runs under two drivers: the mio loop, and the simulator in `tests/sim/`.
//! `tests/tidy/` enforces these rules.
//!
//! # Rooms
//!
//! | room | what lives there |
//! |---|---|
//! | [`cli`] | options, environment, help, `--list`, `--print-*`; words in, a [`config::Config`] out |
//! | [`io`] | the event loop, sockets and TLS, listener, descriptors, storage and its lock, keys, signals, |
//! | | and what the service manager hands over and hears |
//! | [`daemon`] | the parts that decide (below), brought together in `mod.rs` |
//! | [`check`] | `--check`: a second state machine, which asks and judges, and changes nothing |
//! | [`client`] | outbound requests of daemon and check: names, connections, TLS, HTTP, proxies |
//! | [`acme`] | RFC 8555 and 9773: objects, JWS, nonces, account, order, renewal information |
//! | [`marathon`] | apps as they stream in, their port counts and labels, event names |
//! | [`lb`] | the reload signal and its answer, process ids, HAProxy's configuration |
//! | [`challenge`] | which answer a request to the listener gets, and what an answer in its place means |
//! | [`http`] | heads, bodies, the client's exchange, the server's connection, server-sent events |
//! | [`dns`] | messages, `resolv.conf` and `hosts`, the resolver |
//! | [`pki`] | PEM, the fields of a certificate that are read, what may enter `certs/` and what there is |
//! | words | [`domain`], [`time`], [`url`], [`proxy`], [`secret`], [`config`]: checked values |
//! | storage | [`survey`], [`certs_scan`]: what `io/` reads of it for others to judge |
//! | more of them | [`address`], [`machine`], [`context`], [`keys`], [`backoff`], [`printable`] |
//! | collections | [`flat`]: maps and sets of few entries |
//! | for people | [`log`], [`repeats`], [`hint`]: what is said, how often, and what may help |
//!
//! The parts of the daemon: [`daemon::watcher`] follows Marathon and makes desired certificates of its
//! labels, [`daemon::certificates`] is the scheduler, which knows for each certificate what is next,
//! when, and why, [`daemon::budget`] counts what the CA's rate limits leave, [`daemon::fair_queue`]
//! decides which deferred order gets the next token, [`daemon::issuer`] has the account and runs orders
//! side by side, [`daemon::routes`] tries the way of a challenge before an order, [`daemon::guard`]
//! watches over `certs/`, [`daemon::reloader`] gets certificates loaded and sees that they are served,
//! [`daemon::server`] answers the listener, [`daemon::storage`] keeps the storage, [`daemon::archive`]
//! removes private keys of expired certificates from `archive/`, [`daemon::model`] holds what the parts
//! exchange, [`daemon::owner`] which part sent a request, [`daemon::state`] is what survives a restart,
//! [`daemon::status`] what others may see, [`daemon::queues`] how much waits where.
//!
//! # An order
//!
//! The scheduler finds it due and hands it to the issuer; when the issuer has room, the scheduler
//! checks the budget and notes the attempt; when the note is on the disk, the issuer talks to the CA;
//! once the CA has made the order, its URL is noted, so that another run can resume it; the
//! certificate passes the gate, is stored, and the load balancers are told.
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
//! Of the instances on one storage the one that has the lock is active; the others answer challenges from
//! the files. The lock is a lease: its holder beats in it, who shows no beat for ten seconds is taken over
//! from, each change makes sure just before it becomes visible that the lock is still ours, and an
//! instance that was frozen steps down before it does anything else. What remains is what no lock of a
//! file system can rule out: a holder that is frozen between that look and the rename, or between the
//! word to send and the sending, does that one thing when it wakes.
//!
//! Whoever takes over goes on with the orders that are noted, whose challenges stay published meanwhile.
//! A holder that is told to end first brings those to a point where that is possible that the CA is
//! making or issuing for; one that is killed there leaves an order behind of which nobody has the URL or
//! the key, and its domain is ordered once more, a minute later.
//!
//! # The state-machine interface
//!
//! [`machine::Machine`] takes a [`machine::Input`] and is asked for [`machine::Output`]s until it says
//! [`machine::Output::Wait`]. Time comes in with each input ([`time::Now`]), chance and private keys
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
