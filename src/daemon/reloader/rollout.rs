//! The rollout of new certificates: where there are two load balancers or more, one of them, the canary, is
//! signaled first, and the others once it serves them. Decides which may be signaled, and signals none.
//!
//! `Open → Choosing → Canary → Open`; of one that does not serve them, with evidence against the files:
//! `Canary → Deciding → Open`, or, when they are rolled back, `→ Canary` again. A canary without a verdict
//! keeps the others waiting for [`PATIENCE`] at most: it may be slow, or see the storage late.

use std::net::IpAddr;
use std::time::Duration;

use crate::flat::FlatSet;
use crate::time::Instant;

/// A name whose addresses are not known within this time keeps no other waiting.
const CHOICE_PATIENCE: Duration = Duration::from_secs(5);
/// The others are signaled after this time, whatever the canary serves.
const PATIENCE: Duration = Duration::from_secs(15);

/// Which load balancers of a name may be signaled.
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

/// Which load balancer is signaled.
#[derive(Debug, Default)]
pub(super) struct Rollout {
    stage: Stage,
    /// Those that are no canary of this rollout: they could not be signaled, or not be reached since.
    passed: FlatSet<Which>,
    /// The files were rolled back, and the canary has not acknowledged the previous ones yet.
    is_rolled_back: bool,
    /// The canary does not serve the previous files either.
    is_futile: bool,
    /// How often a canary rejected files: each time the next one is the canary, so that one that is out of
    /// order itself does not keep the others waiting for long.
    turns: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// All may be signaled.
    #[default]
    Open,
    /// The canary is not chosen yet.
    Choosing { since: Instant },
    /// It alone may be signaled.
    Canary { which: Which, until: Instant },
    /// It rejects the files: whether they are rolled back is not decided yet.
    Deciding(Which),
}

impl Rollout {
    /// There are new certificates.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.stage == Stage::Open {
            self.stage = Stage::Choosing { since: now };
            self.passed.clear();
            self.is_rolled_back = false;
        }
    }

    /// Whether all may be signaled.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether it is this one.
    pub(super) fn is_canary(&self, which: Which) -> bool {
        matches!(self.stage, Stage::Canary { which: canary, .. } if canary == which)
    }

    /// Which load balancers of the name at this place may be signaled.
    pub(super) fn permit(&self, place: usize) -> Permit {
        match self.stage {
            Stage::Open => Permit::All,
            Stage::Canary { which: (name, address), .. } if name == place => Permit::Only(address),
            Stage::Choosing { .. } | Stage::Canary { .. } | Stage::Deciding(_) => Permit::Nobody,
        }
    }

    /// Chooses the canary among those with a pending reload, the best first, of `count` in all; `all_known`:
    /// no name is being resolved.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        all_known: bool,
        pending: &[Which],
        count: usize,
    ) {
        match self.stage {
            Stage::Choosing { since } if all_known || now.since(since) >= CHOICE_PATIENCE => {}
            Stage::Canary { which, until } if until > now && pending.contains(&which) => return,
            Stage::Canary { until, .. } if until <= now => {
                self.stage = Stage::Open;
                self.is_futile |= std::mem::take(&mut self.is_rolled_back);
                return;
            }
            Stage::Canary { .. } => {}
            Stage::Open | Stage::Choosing { .. } | Stage::Deciding(_) => return,
        }
        let able: Vec<Which> =
            pending.iter().filter(|which| !self.passed.contains(which)).copied().collect();
        // Where there is only one, none is to be protected.
        self.stage = match able.get(self.turns % able.len().max(1)) {
            Some(which) if count > 1 => Stage::Canary { which: *which, until: now + PATIENCE },
            _ => Stage::Open,
        };
    }

    /// When the choice is made without those that are not known yet, or a canary without a verdict is passed.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Choosing { since } => Some(since + CHOICE_PATIENCE),
            Stage::Canary { until, .. } => Some(until),
            Stage::Open | Stage::Deciding(_) => None,
        }
    }

    /// It has loaded what was written.
    pub(super) fn acknowledged(&mut self, which: Which) {
        if self.is_canary(which) {
            self.stage = Stage::Open;
            self.is_rolled_back = false;
        }
    }

    /// It cannot be signaled, or not be reached since: another one is chosen.
    pub(super) fn failed(&mut self, now: Instant, which: Which) {
        if self.is_canary(which) {
            self.passed.insert(which);
            self.stage = Stage::Choosing { since: now };
            self.is_futile |= std::mem::take(&mut self.is_rolled_back);
        }
    }

    /// There is evidence against the files. Whether it is to be decided on; not for those that were restored.
    pub(super) fn rejected(&mut self, which: Which) -> bool {
        if !self.is_canary(which) {
            return false;
        }
        self.turns = self.turns.wrapping_add(1);
        if std::mem::take(&mut self.is_rolled_back) {
            (self.stage, self.is_futile) = (Stage::Open, true);
            return false;
        }
        self.stage = Stage::Deciding(which);
        true
    }

    /// Whether the files are rolled back. Then it is signaled again before the others.
    pub(super) fn decided(&mut self, now: Instant, rolled_back: bool) {
        if let Stage::Deciding(which) = self.stage {
            let until = now + PATIENCE;
            self.stage = if rolled_back { Stage::Canary { which, until } } else { Stage::Open };
            self.is_rolled_back = rolled_back;
        }
    }

    /// Whether a rollback has not helped, so that the files were not the cause; once.
    pub(super) fn take_futile(&mut self) -> bool {
        std::mem::take(&mut self.is_futile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Which = (0, IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const B: Which = (0, IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));
    const C: Which = (1, IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3)));

    fn chosen(canary: &mut Rollout, owing: &[Which]) -> Vec<Which> {
        canary.choose(Instant::START, true, owing, 3);
        let permitted = |which: &&Which| canary.permit(which.0).allows(which.1);
        [A, B, C].iter().filter(permitted).copied().collect()
    }

    #[test]
    fn one_goes_first_and_the_others_once_it_has_acknowledged() {
        let mut canary = Rollout::default();
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A, B, C]);
        canary.begin(Instant::START);
        assert_eq!(canary.permit(0), Permit::Nobody);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
        canary.acknowledged(B);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
        canary.acknowledged(A);
        assert!(canary.is_open());
    }

    #[test]
    fn one_alone_is_no_canary_and_one_that_fails_is_passed() {
        let mut canary = Rollout::default();
        canary.begin(Instant::START);
        canary.choose(Instant::START, true, &[A], 1);
        assert!(canary.is_open());
        canary.begin(Instant::START);
        for expected in [A, B, C] {
            assert_eq!(chosen(&mut canary, &[A, B, C]), [expected]);
            canary.failed(Instant::START, expected);
        }
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A, B, C], "nobody is left to be asked");
    }

    #[test]
    fn after_a_rollback_it_goes_first_again_and_the_next_time_another_one() {
        let mut canary = Rollout::default();
        canary.begin(Instant::START);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
        canary.rejected(A);
        assert_eq!(chosen(&mut canary, &[A, B, C]), []);
        canary.decided(Instant::START, true);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
        canary.acknowledged(A);
        canary.begin(Instant::START);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [B]);
        canary.rejected(B);
        canary.decided(Instant::START, false);
        assert!(canary.is_open());
    }

    #[test]
    fn one_that_is_gone_or_not_known_yet_keeps_no_other_waiting() {
        let mut canary = Rollout::default();
        canary.begin(Instant::START);
        canary.choose(Instant::START, false, &[A, B], 2);
        assert_eq!(canary.permit(0), Permit::Nobody);
        let later = canary.poll_timeout().unwrap();
        canary.choose(later, false, &[A, B], 2);
        assert_eq!(canary.permit(0), Permit::Only(A.1));
        assert_eq!(chosen(&mut canary, &[B, C]), [B]);
    }

    #[test]
    fn a_canary_without_a_verdict_keeps_the_others_waiting_for_a_short_time() {
        let mut canary = Rollout::default();
        canary.begin(Instant::START);
        assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
        let until = canary.poll_timeout().unwrap();
        assert_eq!(until.since(Instant::START), PATIENCE);
        canary.choose(until, true, &[A, B, C], 3);
        assert!(canary.is_open());
    }

    #[test]
    fn a_rollback_after_which_nothing_is_better_is_futile() {
        for (helps, rejects) in [(true, false), (false, false), (false, true)] {
            let mut canary = Rollout::default();
            canary.begin(Instant::START);
            assert_eq!(chosen(&mut canary, &[A, B, C]), [A]);
            assert!(canary.rejected(A));
            canary.decided(Instant::START, true);
            if helps {
                canary.acknowledged(A);
            }
            assert!(!rejects || !canary.rejected(A), "nothing is decided on");
            canary.choose(Instant::START + PATIENCE, true, &[A, B, C], 3);
            assert_eq!((canary.take_futile(), canary.is_open()), (!helps, true));
            assert!(!canary.take_futile());
        }
    }
}
