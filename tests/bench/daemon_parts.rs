//! Parts of the daemon in this process, for figures that a whole program would hide: a scheduler that knows
//! stored certificates, and what every turn needs. Never talks to anybody.

use std::path::Path;
use std::sync::Arc;

use marathon_acme::cli::{self, Command};
use marathon_acme::config::Config;
use marathon_acme::daemon::certificates::{Certificates, CertificatesOutput};
use marathon_acme::daemon::wish::{Source, Wish, Wishes};
use marathon_acme::domain::Domain;
use marathon_acme::io::keys::RingKeys;
use marathon_acme::log::Record;
use marathon_acme::secret::Secret;
use marathon_acme::time::{Instant, Now, UnixTime};
use marathon_acme::turn::Turn;
use stand_ins::driver::time_now;

use crate::process::Outcome;
use crate::stored;

/// What turns are made of.
pub(crate) struct Turns {
    pub(crate) keys: RingKeys,
    log: Vec<Record>,
    now: Now,
}

impl Turns {
    pub(crate) fn new() -> Turns {
        let now = Now { mono: Instant::START, wall: UnixTime::from_millis(time_now().unix_ms) };
        Turns { keys: RingKeys::new(), log: Vec::new(), now }
    }

    pub(crate) fn next(&mut self) -> Turn<'_> {
        self.log.clear();
        Turn { now: self.now, keys: &mut self.keys, log: &mut self.log }
    }
}

/// A configuration like that of a daemon.
pub(crate) fn config() -> Outcome<Config> {
    let words = ["--acme=https://ca.test/directory", "/nowhere"];
    match cli::parse(words.map(Into::into), []) {
        Ok(Command::Run { config, .. }) => Ok(*config),
        other => Err(format!("no configuration: {other:?}").into()),
    }
}

/// A scheduler with so many certificates stored and wanted, and the wishes.
pub(crate) struct Scheduler {
    pub(crate) certificates: Certificates,
    pub(crate) wishes: Wishes,
}

impl Scheduler {
    /// Reads the files of a storage.
    pub(crate) fn of(storage: &Path, count: usize, turns: &mut Turns) -> Outcome<Scheduler> {
        let parse = |number: usize| Domain::parse(&stored::name(number));
        let names: Vec<Domain> = (0..count)
            .map(|number| parse(number).map_err(|error| format!("no domain: {error}")))
            .collect::<Result<_, _>>()?;
        let mut certificates = Certificates::new(&config()?);
        certificates.found(names.clone());
        while let Some(output) = certificates.poll_output() {
            let CertificatesOutput::Read(name) = output else { continue };
            let pem = std::fs::read_to_string(storage.join(format!("certs/{name}.pem")))?;
            certificates.read(&mut turns.next(), &name, Ok(Secret::new(pem)));
        }
        let wish = |name: Domain| {
            let version = "2026-05-01T09:12:33.000Z".to_string();
            let source = Source { app: format!("/group/{name}"), version };
            (name.clone(), Arc::new(Wish { names: vec![name], source }))
        };
        let wishes: Wishes = names.into_iter().map(wish).collect();
        let mut scheduler = Scheduler { certificates, wishes };
        scheduler.sync(turns);
        Ok(scheduler)
    }

    /// The same wishes again.
    pub(crate) fn sync(&mut self, turns: &mut Turns) {
        self.certificates.want(&mut turns.next(), &self.wishes);
        while self.certificates.poll_output().is_some() {}
    }
}
