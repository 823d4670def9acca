//! Parts of the daemon in this process, for figures that a whole program would hide: a scheduler that knows
//! stored certificates, and what every iteration needs. Never talks to anybody.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use marathon_acme::cli::{self, Command};
use marathon_acme::config::Config;
use marathon_acme::daemon::certificates::{Certificates, CertificatesOutput};
use marathon_acme::daemon::model::{
    DesiredCertificate, DesiredCertificates, Issued, OrderError, OrderId, Source,
};

use marathon_acme::context::Context;
use marathon_acme::domain::Domain;
use marathon_acme::io::keys::RingKeys;
use marathon_acme::keys::{AccountKey, CertificateRequest, KeyError, KeyType, Keys};
use marathon_acme::log::Record;
use marathon_acme::secret::Secret;
use marathon_acme::time::{Instant, Now, UnixTime};
use stand_ins::driver::time_now;
use stand_ins::random::Random;

use crate::process::Outcome;
use crate::stored::{self, DAY_MS};

/// What iterations are made of.
pub(crate) struct Turns {
    pub(crate) keys: SteadyKeys,
    log: Vec<Record>,
    now: Now,
}

/// The program's own keys, with the same chance at each run: what is drawn decides how much there is to do.
pub(crate) struct SteadyKeys {
    keys: RingKeys,
    chance: Random,
}

impl Keys for SteadyKeys {
    fn random(&mut self) -> u64 {
        self.chance.number()
    }

    fn read_account_key(&mut self, pem: &Secret) -> Result<AccountKey, KeyError> {
        self.keys.read_account_key(pem)
    }

    fn new_account_key(&mut self) -> Result<Secret, KeyError> {
        self.keys.new_account_key()
    }

    fn sign(&mut self, key: &AccountKey, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.keys.sign(key, message)
    }

    fn certificate_request(
        &mut self,
        names: &[Domain],
        key_type: KeyType,
    ) -> Result<CertificateRequest, KeyError> {
        self.keys.certificate_request(names, key_type)
    }

    fn fallback(&mut self, now: UnixTime) -> Result<Secret, KeyError> {
        self.keys.fallback(now)
    }
}

impl Turns {
    pub(crate) fn new() -> Turns {
        // Of two runs within a day each does the same: the log has times in it, whose digits count.
        let day = UnixTime::from_millis(time_now().unix_ms.div_euclid(DAY_MS) * DAY_MS);
        let now = Now { mono: Instant::START, wall: day };
        let keys = SteadyKeys { keys: RingKeys::new(), chance: Random::new(1) };
        Turns { keys, log: Vec::new(), now }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono + time, wall: self.now.wall.plus(time) };
    }

    pub(crate) fn next(&mut self) -> Context<'_> {
        self.log.clear();
        Context { now: self.now, keys: &mut self.keys, log: &mut self.log }
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

/// A scheduler with so many certificates stored and wanted, and the desired certificates.
pub(crate) struct Scheduler {
    pub(crate) certificates: Certificates,
    pub(crate) desired: DesiredCertificates,
}

impl Scheduler {
    /// Reads the files of a storage.
    pub(crate) fn of(storage: &Path, count: usize, turns: &mut Turns) -> Outcome<Scheduler> {
        let names = names(0..count)?;
        let mut scheduler = Scheduler::reading(storage, &names, turns)?;
        scheduler.desired = names.into_iter().map(desired).collect();
        scheduler.sync(turns);
        Ok(scheduler)
    }

    /// One of so many certificates whose orders have failed, each with a time of its own for the next
    /// one, that of `app-0` long before the others; and one that is stored and that nobody wants.
    pub(crate) fn failing(storage: &Path, count: usize, turns: &mut Turns) -> Outcome<Scheduler> {
        let mut scheduler = Scheduler::reading(storage, &names(1..2)?, turns)?;
        let names = names((0..=count).filter(|number| *number != 1))?;
        scheduler.desired = names.into_iter().map(desired).collect();
        let orders = scheduler.sync(turns);
        scheduler.begin(turns, &orders);
        for order in orders {
            let failed = Err(OrderError::NoLocation);
            scheduler.certificates.finished(&mut turns.next(), order, failed);
            if order == OrderId(0) {
                turns.pass(Duration::from_secs(30));
            }
        }
        scheduler.outputs();
        Ok(scheduler)
    }

    fn reading(storage: &Path, names: &[Domain], turns: &mut Turns) -> Outcome<Scheduler> {
        let mut certificates = Certificates::new(&config()?);
        certificates.found(names.to_vec());
        while let Some(output) = certificates.poll_output() {
            let CertificatesOutput::Read(name) = output else { continue };
            let pem = std::fs::read_to_string(storage.join(format!("certs/{name}.pem")))?;
            certificates.read(&mut turns.next(), &name, Ok(Secret::new(pem)));
        }
        Ok(Scheduler { certificates, desired: DesiredCertificates::new() })
    }

    /// These orders are under way.
    pub(crate) fn begin(&mut self, turns: &mut Turns, orders: &[OrderId]) {
        orders.iter().for_each(|order| self.certificates.begins(&mut turns.next(), *order));
        self.certificates.recording(1);
        self.certificates.recorded(&mut turns.next(), 1, Ok(()));
    }

    /// Starts what is due next; the orders.
    pub(crate) fn wake(&mut self, turns: &mut Turns) -> Vec<OrderId> {
        let now = turns.now;
        let due = self.certificates.poll_timeout(now).map(|at| at.since(now.mono));
        turns.pass(due.unwrap_or_default());
        self.certificates.handle_timeout(&mut turns.next());
        self.settle(turns);
        self.outputs()
    }

    /// Of very many certificates not all are looked at in one iteration.
    fn settle(&mut self, turns: &mut Turns) {
        let now = turns.now.mono;
        while self.certificates.poll_timeout(turns.now).is_some_and(|at| at <= now) {
            self.certificates.handle_timeout(&mut turns.next());
        }
    }

    /// The CA has issued the first certificate of the storage for this order.
    pub(crate) fn issued(&mut self, storage: &Path, turns: &mut Turns, order: OrderId) -> Outcome {
        let names = names(0..1)?;
        let file = std::fs::read_to_string(storage.join(format!("certs/{}.pem", names[0])))?;
        let (key, chain) = file.split_at(file.find("-----BEGIN CERT").ok_or("no certificate")?);
        let (key, chain_pem) = (Secret::new(key.to_string()), chain.to_string());
        let issued = Issued { names, key, chain_pem, replaced: None, told_time: None };
        self.certificates.finished(&mut turns.next(), order, Ok(issued));
        Ok(())
    }

    /// It is on the disk.
    pub(crate) fn written(&mut self, turns: &mut Turns) -> Outcome {
        self.certificates.written(&mut turns.next(), &names(0..1)?[0], Ok(()));
        self.outputs();
        Ok(())
    }

    /// These desired certificates, as a rule the same again; the orders that come of it.
    pub(crate) fn sync(&mut self, turns: &mut Turns) -> Vec<OrderId> {
        self.certificates.want(&mut turns.next(), &self.desired);
        self.settle(turns);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<OrderId> {
        let outputs = std::iter::from_fn(|| self.certificates.poll_output());
        let order = |output| match output {
            CertificatesOutput::Order(new) => Some(new.order),
            _ => None,
        };
        outputs.filter_map(order).collect()
    }
}

fn names(numbers: impl Iterator<Item = usize>) -> Outcome<Vec<Domain>> {
    let parse = |number| Domain::parse(&stored::name(number));
    let names: Result<_, _> = numbers.map(parse).collect();
    Ok(names.map_err(|error| format!("no domain: {error}"))?)
}

fn desired(name: Domain) -> (Domain, Arc<DesiredCertificate>) {
    let version = "2026-05-01T09:12:33.000Z".to_string();
    let source = Source { app: format!("/group/{name}"), version };
    (name.clone(), DesiredCertificate { names: vec![name], source }.into())
}
