//! The canary: where there are two load balancers or more, one of them is signalled first when there are
//! new certificates, and the others when it serves them. Decides whose turn it is, and signals nobody.
//!
//! `Open → Choosing → One → Open`; of one that does not serve them: `One → Judging → Open`, or, when the
//! files of before go back, `→ One` again.

use std::net::IpAddr;
use std::time::Duration;

use crate::flat::FlatSet;
use crate::time::Instant;

/// A name whose addresses are not known within this time keeps no other waiting.
const CHOICE_PATIENCE: Duration = Duration::from_secs(5);

/// Whom of a name's load balancers may be signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// All of them.
    All,
    /// That one alone.
    Only(IpAddr),
    /// None.
    Nobody,
}

impl Permit {
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match self {
            Permit::All => true,
            Permit::Only(one) => one == address,
            Permit::Nobody => false,
        }
    }
}

/// A load balancer: the place of its name among the names, and its address.
pub(super) type Which = (usize, IpAddr);

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Canary {
    stage: Stage,
    /// Those that could not be signalled in this trial: they say nothing of the files.
    silent: FlatSet<Which>,
    /// How often one did not serve what was new: each time the next one is the first, so that none that
    /// is out of order itself keeps the others from anything for long.
    turns: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Everybody may be signalled.
    #[default]
    Open,
    /// The first one is not chosen yet.
    Choosing { since: Instant },
    /// It alone may be signalled.
    One(Which),
    /// It does not serve what is new: whether the files of before go back is not decided yet.
    Judging(Which),
}

impl Canary {
    /// There is something new.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.stage == Stage::Open {
            self.stage = Stage::Choosing { since: now };
            self.silent.clear();
        }
    }

    /// Whether somebody waits for it.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether it is this one.
    pub(super) fn is(&self, which: Which) -> bool {
        self.stage == Stage::One(which)
    }

    /// Whom of the load balancers of the name at this place may be signalled.
    pub(super) fn permit(&self, place: usize) -> Permit {
        match self.stage {
            Stage::Open => Permit::All,
            Stage::One((name, address)) if name == place => Permit::Only(address),
            Stage::Choosing { .. } | Stage::One(_) | Stage::Judging(_) => Permit::Nobody,
        }
    }

    /// Chooses among those that owe a reload, of so many in all; whether everything is known that can be.
    pub(super) fn choose(&mut self, now: Instant, all_known: bool, owing: &[Which], count: usize) {
        match self.stage {
            Stage::Choosing { since } if all_known || now.since(since) >= CHOICE_PATIENCE => {}
            Stage::One(which) if !owing.contains(&which) => {}
            _ => return,
        }
        let able: Vec<Which> =
            owing.iter().filter(|which| !self.silent.contains(which)).copied().collect();
        // Where there is one alone there is nobody to be kept from harm.
        self.stage = match able.get(self.turns % able.len().max(1)) {
            Some(which) if count > 1 => Stage::One(*which),
            _ => Stage::Open,
        };
    }

    /// When the choice is made without those that are not known yet.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Choosing { since } => Some(since + CHOICE_PATIENCE),
            _ => None,
        }
    }

    /// It serves what is new.
    pub(super) fn proven(&mut self, which: Which) {
        if self.is(which) {
            self.stage = Stage::Open;
        }
    }

    /// It cannot be signalled: another one is chosen.
    pub(super) fn is_silent(&mut self, now: Instant, which: Which) {
        if self.is(which) {
            self.silent.insert(which);
            self.stage = Stage::Choosing { since: now };
        }
    }

    /// It was signalled, and does not serve what is new.
    pub(super) fn failed(&mut self, which: Which) {
        if self.is(which) {
            self.turns = self.turns.wrapping_add(1);
            self.stage = Stage::Judging(which);
        }
    }

    /// Whether the files of before go back. Then it is signalled again before the others.
    pub(super) fn judged(&mut self, goes_back: bool) {
        if let Stage::Judging(which) = self.stage {
            self.stage = if goes_back { Stage::One(which) } else { Stage::Open };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Which = (0, IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const B: Which = (0, IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));
    const C: Which = (1, IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3)));

    fn chosen(canary: &mut Canary, owing: &[Which]) -> Vec<Which> {
        canary.choose(Instant::START, true, owing, 3);
        let permitted = |which: &&Which| canary.permit(which.0).allows(which.1);
        [A, B, C].iter().filter(permitted).copied().collect()
    }

    #[test]
    fn one_goes_first_and_the_others_when_it_is_proven() {
        let mut canary = Canary::default();
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A, B, C]);
        canary.begin(Instant::START);
        assert_eq!(canary.permit(0), Permit::Nobody);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
        canary.proven(B);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
        canary.proven(A);
        assert!(canary.is_open());
    }

    #[test]
    fn one_alone_is_no_canary_and_a_silent_one_proves_nothing() {
        let mut canary = Canary::default();
        canary.begin(Instant::START);
        canary.choose(Instant::START, true, &[A], 1);
        assert!(canary.is_open());
        canary.begin(Instant::START);
        for expected in [A, B, C] {
            assert_eq!(chosen(&mut canary, &[A, B, C]), [expected]);
            canary.is_silent(Instant::START, expected);
        }
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A, B, C], "nobody is left to be asked");
    }

    #[test]
    fn after_a_failure_it_goes_first_again_with_the_files_of_before_and_then_another_one() {
        let mut canary = Canary::default();
        canary.begin(Instant::START);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
        canary.failed(A);
        assert_eq!(chosen(&mut canary, &[A, B, C]), []);
        canary.judged(true);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
        canary.proven(A);
        canary.begin(Instant::START);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [B]);
        canary.failed(B);
        canary.judged(false);
        assert!(canary.is_open());
    }

    #[test]
    fn who_is_gone_or_not_known_yet_keeps_nobody_waiting() {
        let mut canary = Canary::default();
        canary.begin(Instant::START);
        canary.choose(Instant::START, false, &[A, B], 2);
        assert_eq!(canary.permit(0), Permit::Nobody);
        let later = canary.poll_timeout().unwrap();
        canary.choose(later, false, &[A, B], 2);
        assert_eq!(canary.permit(0), Permit::Only(A.1));
        assert_eq!(chosen(&mut canary, &[B, C]), [B]);
    }
}
