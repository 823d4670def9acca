//! Scenes in which many certificates are renewed at once, more than Let's Encrypt's limits would allow if
//! renewals counted: after a mass revocation, after an outage of the CA that lasts longer than they are
//! valid, and week after week where they are valid for 6 days.

use marathon_acme::domain::Domain;
use stand_ins::random::Random;

use super::plan::{Act, LIMITS, Outage, Plan};
use super::{DAY, HOUR};
use crate::machine::{Blow, Doom, Trigger};
use crate::network::Nanos;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// The CA asks for the renewal of every certificate.
    Revocation,
    /// The CA cannot be reached for longer than a certificate is valid.
    Outage,
    /// Nothing but that certificates are valid for 160 hours.
    ShortLived,
}

/// Every scene.
pub(crate) const SCENES: [Scene; 3] = [Scene::Revocation, Scene::Outage, Scene::ShortLived];

/// Names of one registered domain, and others; more of both than are certified in a week, or ordered in
/// three hours.
const FULL: (usize, usize) = (90, 260);
/// What is left of that where nothing is optimized.
const SMALL: (usize, usize) = (14, 6);
const SMALL_LIMITS: (u32, u32) = (15, 10);

/// The plan, and how many days it takes.
pub(super) fn plan(scene: Scene, full: bool, chance: &mut Random) -> (Plan, u64) {
    let ((crowd, others), limits) = if full { (FULL, LIMITS) } else { (SMALL, SMALL_LIMITS) };
    let crowd = (0..crowd).map(|index| format!("d{index}.crowd.com"));
    let others = (0..others).map(|index| format!("d{index}.site{}.com", index % 40));
    let domains: Vec<Domain> =
        crowd.chain(others).map(|name| Domain::parse(&name).expect("a good name")).collect();
    let mut acts: Vec<(Nanos, Act)> = Vec::new();
    let apps = 7;
    for app in 0..apps {
        let domains = domains.iter().skip(app).step_by(apps).cloned().collect();
        acts.push((chance.below(HOUR), Act::Label { app, domains }));
    }
    // What is not remembered over a restart does not count.
    for day in 1..4 {
        let doom = Doom { after: Trigger::Anything, outputs: 0, blow: Blow::Kill, downtime: 0 };
        acts.push((day * DAY + chance.below(DAY), Act::Kill(doom)));
    }
    // By then every name has its first certificate.
    let settled = 8 * DAY + chance.below(DAY);
    let hours = chance.between(6, 12) as u32;
    let mut renewal_info = chance.chance(50).then_some(hours * 60 * 60);
    let (lifetime, days) = match scene {
        Scene::Revocation => {
            acts.push((settled, Act::Hasten));
            renewal_info = Some(hours * 60 * 60);
            (90 * DAY, 11)
        }
        Scene::Outage => {
            let until = settled + 7 * DAY + chance.below(DAY);
            let outage = Outage::CaCut;
            acts.push((settled, Act::Outage { outage, until }));
            acts.push((until, Act::Relief(outage)));
            (160 * HOUR, 18)
        }
        Scene::ShortLived => (160 * HOUR, 21),
    };
    acts.sort_by_key(|(at, _)| *at);
    (Plan { lifetime, renewal_info, crowded: true, limits, acts }, days)
}
