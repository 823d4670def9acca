//! The drift watch: whom to look at next, and for which name. One look at a time, and a pause of a minute
//! at least between two: load balancers take their turns, and each second look is for the file written
//! last, which one with an old directory lacks; the others go through all files. Looks at nobody itself.

use std::time::Duration;

use super::rollout::Which;
use crate::context::Context;
use crate::daemon::model::Catalog;
use crate::domain::Domain;
use crate::keys::jittered;
use crate::time::Instant;

/// From one look to the next, jittered by a quarter: never less than a minute.
const PAUSE: Duration = Duration::from_secs(80);

/// Where the round stands.
#[derive(Debug, Default)]
pub(super) struct Drift {
    at: Option<Instant>,
    looks: usize,
    /// The file that was looked for last of the round through all.
    last: Option<Domain>,
}

impl Drift {
    /// Whether it is time; the next one is planned then.
    pub(super) fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let now = cx.now.mono;
        let due = self.at.is_some_and(|at| at <= now);
        if due || self.at.is_none() {
            self.at = Some(now + jittered(cx.keys, PAUSE));
        }
        due
    }

    /// The load balancer and the file whose turn it is, of those that are ready.
    pub(super) fn choose(
        &mut self,
        ready: &[Which],
        catalog: &dyn Catalog,
    ) -> Option<(Which, Domain)> {
        let place = self.looks.checked_rem(ready.len())?;
        let round = self.looks / ready.len();
        let name = if round.is_multiple_of(2) {
            catalog.latest(1).pop()?
        } else {
            self.last = catalog.following(self.last.as_ref());
            self.last.clone()?
        };
        self.looks = self.looks.wrapping_add(1);
        ready.get(place).map(|which| (*which, name))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::pki::Fingerprint;
    use crate::testing::Bench;

    /// Files in their order, and which was written when.
    struct Files(BTreeMap<Domain, u64>);

    impl Catalog for Files {
        fn expected(&self, _: &Domain) -> Option<Fingerprint> {
            None
        }

        fn stored(&self, _: &Domain) -> Option<Fingerprint> {
            None
        }

        fn previous(&self, _: &Domain) -> Option<Fingerprint> {
            None
        }

        fn matters(&self, name: &Domain) -> bool {
            self.0.contains_key(name)
        }

        fn latest(&self, count: usize) -> Vec<Domain> {
            let mut names: Vec<_> = self.0.iter().collect();
            names.sort_by_key(|(_, at)| std::cmp::Reverse(**at));
            names.into_iter().take(count).map(|(name, _)| name.clone()).collect()
        }

        fn following(&self, name: Option<&Domain>) -> Option<Domain> {
            let behind = self.0.keys().find(|it| name.is_none_or(|name| *it > name));
            behind.or(self.0.keys().next()).cloned()
        }
    }

    #[test]
    fn everybody_is_looked_at_for_the_latest_and_for_every_file() {
        let name = |number: u64| Domain::parse(&format!("d{number}.example.com")).unwrap();
        let files = Files((0..9).map(|number| (name(number), number)).collect());
        let ready: Vec<Which> =
            (0..3).map(|place| (place, [10, 0, 0, place as u8].into())).collect();
        let mut drift = Drift::default();
        let looks: Vec<_> = (0..6 * 9).filter_map(|_| drift.choose(&ready, &files)).collect();
        for which in &ready {
            let seen: Vec<&Domain> =
                looks.iter().filter(|(it, _)| it == which).map(|(_, name)| name).collect();
            assert_eq!(*seen[0], name(8), "the latest first");
        }
        let all = (0..9).all(|number| looks.iter().any(|(_, it)| *it == name(number)));
        assert!(all, "{looks:?}");
        assert_eq!(drift.choose(&[], &files), None);
        assert_eq!(drift.choose(&ready, &Files(BTreeMap::new())), None);
    }

    #[test]
    fn a_minute_lies_between_two_looks() {
        let mut bench = Bench::new();
        let mut drift = Drift::default();
        assert!(!drift.is_due(&mut bench.cx()));
        for _ in 0..50 {
            let pause = drift.poll_timeout().unwrap().since(bench.now.mono);
            assert!((60..=100).contains(&pause.as_secs()), "{pause:?}");
            bench.pass(pause);
            assert!(drift.is_due(&mut bench.cx()) && !drift.is_due(&mut bench.cx()));
        }
    }
}
