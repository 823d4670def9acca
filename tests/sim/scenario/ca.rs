//! How a seed's CA behaves, and what goes wrong there: some steps answered badly, and conditions that come
//! and go.
//! Counts what really happened by the CA's own record.

use std::collections::BTreeSet;

use marathon_acme::domain::Domain;
use serde_json::json;
use stand_ins::ca::{self, AcmeRequest, BadChain, Effect, RetryAfter, Step};
use stand_ins::random::Random;

use crate::faults::{Fault, Switches, Toll};
use crate::scenario::cells::Cell;
use crate::world::World;

/// So many cells of the matrix a seed has at most.
const CELLS: u64 = 8;
/// A validation that takes so long is none, in the time that a seed has.
const NEVER_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// What no fault is counted for.
const UNCOUNTED: usize = usize::MAX;

const CHAINS: [(Fault, BadChain); 7] = [
    (Fault::ChainGarbage, BadChain::Garbage),
    (Fault::ChainUnlinked, BadChain::Unlinked),
    (Fault::ChainOfAnother, BadChain::Another),
    (Fault::LeafNames, BadChain::Names),
    (Fault::LeafKey, BadChain::Key),
    (Fault::LeafExpired, BadChain::Expired),
    (Fault::LeafFuture, BadChain::Future),
];

/// One seed of so many has a CA whose chains end with their connections. By the number, not by a draw:
/// nothing else of a seed hangs on it.
const UNTIL_CLOSE_EVERY: u64 = 4;

/// Conditions that come once and stay until everything heals.
const CONDITIONS: [Fault; 7] = [
    Fault::AccountForgotten,
    Fault::AccountDeactivated,
    Fault::OrdersProcess,
    Fault::ChallengesProcess,
    Fault::DirectoryMoves,
    Fault::CaaForbids,
    Fault::NamePaused,
];

/// The manners of a CA, all of which are right, but for nonces and errors that come by chance.
pub(super) fn settings(seed: u64, chance: &mut Random) -> ca::Settings {
    let retry_after = match chance.below(3) {
        0 => RetryAfter::None,
        1 => RetryAfter::Seconds(chance.between(1, 5) as u32),
        _ => RetryAfter::Date(chance.between(1, 5) as u32),
    };
    ca::Settings {
        bad_nonce_percent: chance.below(50) as u8,
        server_error_percent: chance.below(25) as u8,
        server_error_html: chance.chance(50),
        delay_ms: chance.below(300),
        validation_delay_ms: chance.below(3000),
        vantage_points: chance.between(1, 3) as u8,
        challenge_processing: chance.chance(50),
        processing_polls: chance.below(3) as u32,
        retry_after,
        finalize_location: chance.chance(50),
        chain_until_close: seed % UNTIL_CLOSE_EVERY == UNTIL_CLOSE_EVERY - 1,
        authz_reuse_percent: chance.below(101) as u8,
        order_reuse: chance.chance(50),
        ..ca::Settings::default()
    }
}

/// The CA's troubles in one run.
pub(crate) struct CaTroubles {
    /// The fault, and the `Retry-After` that comes with it, by the tag.
    planned: Vec<(Fault, RetryAfter)>,
    /// What is still to come.
    conditions: Vec<Fault>,
    /// What has come.
    here: Vec<Fault>,
    /// What may be ordered.
    names: BTreeSet<String>,
    /// How far the CA's records were looked through.
    seen: usize,
    fired: usize,
    pub(crate) toll: Toll,
}

impl CaTroubles {
    /// Chooses, and sets the CA up for it.
    pub(crate) fn plan(
        switches: &Switches,
        domains: &BTreeSet<Domain>,
        chance: &mut Random,
        settings: &mut ca::Settings,
    ) -> CaTroubles {
        let mut planned = Planned::default();
        let mut cells: Vec<Cell> =
            Cell::all().into_iter().filter(|it| switches.are_on(Fault::Ca(*it))).collect();
        for _ in 0..CELLS.min(cells.len() as u64) {
            let cell = cells.swap_remove(chance.below(cells.len() as u64) as usize);
            prepare(cell, settings);
            let (effect, times) = cell.effect(chance);
            planned.add(Fault::Ca(cell), cell.step, effect, times, settings);
        }
        let effects = CHAINS.map(|(fault, bad)| (fault, Step::Certificate, Effect::Chain(bad)));
        let missing = ["newNonce", "newAccount", "newOrder"][chance.below(3) as usize];
        let foreign = json!([{"type": "dns-01", "token": "AAAA", "status": "pending",
            "url": "https://ca.example:14000/challenge/0/dns-01"}, {"type": "future-01"}]);
        let more = [
            (Fault::DirectoryLacks, Step::Directory, Effect::Member(missing, None)),
            (
                Fault::ChallengesUnknown,
                Step::Authorization,
                Effect::Member("challenges", Some(foreign)),
            ),
            (Fault::Unproved, Step::Challenge, Effect::Unproved { one_place: false }),
            (Fault::UnprovedOnce, Step::Challenge, Effect::Unproved { one_place: true }),
            (Fault::OrderInvalid, Step::Order, Effect::Invalid),
        ];
        for (fault, step, effect) in effects.into_iter().chain(more) {
            let (some, times) = (chance.chance(30), chance.between(1, 2) as u32);
            if some && switches.are_on(fault) {
                planned.add(fault, step, effect, times, settings);
            }
        }
        let mut conditions = Vec::new();
        for fault in CONDITIONS {
            if chance.chance(25) && switches.are_on(fault) {
                conditions.push(fault);
            }
        }
        let (planned, here, toll) = (planned.0, Vec::new(), Toll::default());
        let names = domains.iter().map(ToString::to_string).collect();
        CaTroubles { planned, conditions, here, names, seen: 0, fired: 0, toll }
    }

    /// Perhaps a condition comes now.
    pub(crate) fn go_on(&mut self, world: &mut World, chance: &mut Random) {
        self.count(world);
        if self.conditions.is_empty() || !chance.chance(30) {
            return;
        }
        let fault = self.conditions.remove(chance.below(self.conditions.len() as u64) as usize);
        let ca = &mut world.peers.ca;
        match fault {
            Fault::AccountForgotten => ca.forget_accounts(),
            Fault::AccountDeactivated => (0..100).for_each(|index| ca.deactivate_account(index)),
            Fault::OrdersProcess => ca.settings.never_done = true,
            Fault::ChallengesProcess => ca.settings.validation_delay_ms = NEVER_MS,
            Fault::DirectoryMoves => ca.settings.prefix = "/v2",
            Fault::CaaForbids => ca.settings.caa_names.clone_from(&self.names),
            Fault::NamePaused => ca.settings.paused_names.clone_from(&self.names),
            other => unreachable!("{other:?} is no condition"),
        }
        self.here.push(fault);
    }

    /// Everything is fixed, and whatever a person had to do is done; whether that was something.
    pub(crate) fn heal(&mut self, world: &mut World) -> bool {
        self.count(world);
        let time = world.time();
        let ca = &mut world.peers.ca;
        ca.settings.faults.clear();
        ca.reactivate_accounts();
        ca.settings.never_done = false;
        ca.settings.validation_delay_ms = ca.settings.validation_delay_ms.min(3000);
        ca.settings.caa_names.clear();
        ca.settings.paused_names.clear();
        ca.get_on(time);
        let told = |message| world.messages.contains_key(message);
        told("cannot order until this is mended")
    }

    /// Whether a person must act for a name before the CA takes an order for it.
    pub(crate) fn has_paused(&self) -> bool {
        self.here.contains(&Fault::NamePaused)
    }

    /// Counts what happened since the last time.
    pub(crate) fn count(&mut self, world: &World) {
        let ca = &world.peers.ca;
        for tag in &ca.fired()[self.fired..] {
            let Some((fault, retry_after)) = self.planned.get(*tag) else { continue };
            self.toll.count(*fault);
            match retry_after {
                RetryAfter::None => {}
                RetryAfter::Seconds(_) => self.toll.count(Fault::RetryAfterSeconds),
                RetryAfter::Date(_) => self.toll.count(Fault::RetryAfterDate),
            }
        }
        self.fired = ca.fired().len();
        for request in &ca.seen()[self.seen..] {
            let faults = self.here.iter().copied().filter(|fault| shows(*fault, request));
            for fault in faults.collect::<Vec<_>>() {
                self.toll.count(fault);
            }
        }
        self.seen = ca.seen().len();
    }
}

/// Faults with their tags.
#[derive(Default)]
struct Planned(Vec<(Fault, RetryAfter)>);

impl Planned {
    fn add(
        &mut self,
        fault: Fault,
        step: Step,
        effect: Effect,
        times: u32,
        settings: &mut ca::Settings,
    ) {
        let retry_after = match &effect {
            Effect::Refuse(_, retry_after) | Effect::Page { retry_after, .. } => *retry_after,
            _ => RetryAfter::None,
        };
        let tag = self.0.len();
        self.0.push((fault, retry_after));
        settings.faults.push(ca::Fault { step, effect, times, tag });
    }
}

/// Sees to it that a run comes by that step.
fn prepare(cell: Cell, settings: &mut ca::Settings) {
    match cell.step {
        // The account is looked for, and has lost its contact, so that it is changed.
        Step::Account => {
            settings.shows_contact = false;
            let problem = ca::Problem::unauthorized("look whether the account is all right");
            let effect = Effect::Refuse(problem, RetryAfter::None);
            let (step, times, tag) = (Step::NewOrder, 1, UNCOUNTED);
            settings.faults.push(ca::Fault { step, effect, times, tag });
        }
        Step::RenewalInfo if settings.renewal_info.is_none() => {
            settings.renewal_info = Some(ca::RenewalInfo::default());
        }
        _ => {}
    }
}

/// Whether a request met a condition.
fn shows(fault: Fault, request: &AcmeRequest) -> bool {
    let about = |kind, words| request.problem == Some(kind) && request.note.contains(words);
    let done = request.status == 200 && request.note.ends_with(" processing");
    match fault {
        Fault::AccountForgotten => about("accountDoesNotExist", "the kid names no account"),
        Fault::AccountDeactivated => about("unauthorized", "the account is deactivated"),
        Fault::OrdersProcess => request.step == Some(Step::Order) && done,
        Fault::ChallengesProcess => request.step == Some(Step::Challenge) && request.status == 200,
        Fault::DirectoryMoves => request.status == 404 && request.path.starts_with("/new-"),
        Fault::CaaForbids => about("caa", "the CAA record"),
        Fault::NamePaused => about("rateLimited", "/unpause"),
        _ => false,
    }
}
