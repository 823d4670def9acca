//! What an app can make the program ask a CA for: not every change is an order, and what the CA refuses for
//! its size is ordered in pieces.

use marathon_acme::log::message::{FEWER_NAMES, ORDER_FAILED};
use stand_ins::ca::{Profile, Settings, Step};

use crate::Test;
use crate::process::{Outcome, expect, wait_until};
use crate::stand::{Stand, stop};

pub(crate) const TESTS: &[Test] = &[
    ("a_failing_app_that_is_posted_again_and_again_makes_few_orders", &[], posted_again),
    ("more_names_than_the_ca_accepts_are_ordered_in_pieces", &[], too_many_names),
];

/// How often each app is posted, at intervals of a sync: a second.
const POSTS: usize = 14;
/// So many orders of a name at most come of that. The first one and a retry at once; the others only where
/// it takes longer than a minute.
const ORDERS_MAX: usize = 4;
const REJECTED: &str = "rejected.example.com";
const FAILING: &str = "failing.example.com";

/// How many orders for a name the CA was asked for.
fn orders(stand: &Stand, name: &str) -> usize {
    stand.with_ca(|ca| {
        let asked = ca.seen().iter().filter(|seen| seen.step == Some(Step::NewOrder));
        asked.filter(|seen| seen.names == [name]).count()
    })
}

fn posted_again() -> Outcome {
    let stand = Stand::new(Settings {
        rejected_names: [REJECTED.to_string()].into(),
        failing_names: [FAILING.to_string()].into(),
        ..Settings::default()
    })?;
    for run in ["first", "second"] {
        let mut daemon = stand.start(run, &[])?;
        for _ in 0..POSTS / 2 {
            stand.site.deploy("/rejected", REJECTED);
            stand.site.deploy("/failing", FAILING);
            // A list that is asked for from now on has the new versions.
            let before = stand.site.syncs();
            wait_until("a sync", || (stand.site.syncs() > before).then_some(()))?;
        }
        // What was decided is done.
        stand.let_time_pass(&daemon, run)?;
        // The next run must know how often it was.
        stop(&mut daemon)?;
        for name in [REJECTED, FAILING] {
            let count = orders(&stand, name);
            let fits = (2..=ORDERS_MAX).contains(&count);
            expect(fits, || format!("{run}: {count} orders of {name}\n{}", daemon.output()))?;
        }
    }
    Ok(())
}

/// Names of one label, and which of them are in one certificate each.
fn label(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}.example.com")).collect()
}

fn too_many_names() -> Outcome {
    let description = "Six days".to_string();
    let profile = Profile { description, lifetime_seconds: 6 * 24 * 3600, names_max: 2 };
    let profiles = [("short".to_string(), profile)].into();
    let stand = Stand::new(Settings { names_max: 3, profiles, ..Settings::default() })?;
    let learned = |profile: &str| {
        let limits = stand.state().ok()?["cas"][&stand.ca.directory]["names_max"].clone();
        limits[profile].as_u64()
    };
    let refused = || stand.count("POST", "/new-order", 400);
    let wait_for = |daemon: &_, names: &[String], max: usize| -> Outcome {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.chunks(max).try_for_each(|piece| stand.wait_for_names(daemon, piece).map(|_| ()))
    };

    let names = label("a", 7);
    stand.site.deploy("/a", &names.join(" "));
    let mut first = stand.start("first", &["--san"])?;
    wait_for(&first, &names, 3)?;
    first.wait_for(&format!("{FEWER_NAMES} name=a0.example.com"))?;
    first.wait_until_rejected(stand.site.port, "/a")?;
    let failed = format!("{ORDER_FAILED} name=");
    expect(!first.output().contains(&failed), || first.output())?;
    wait_until("what was learned in state.json", || (learned("") == Some(3)).then_some(()))?;
    stop(&mut first)?;
    expect(refused() == 1, || format!("{} refused\n{}", refused(), first.output()))?;

    // It is not asked again.
    let names = label("b", 5);
    stand.site.deploy("/b", &names.join(" "));
    let mut second = stand.start("second", &["--san"])?;
    wait_for(&second, &names, 3)?;
    stop(&mut second)?;
    expect(refused() == 1, || format!("{} refused\n{}", refused(), second.output()))?;
    expect(stand.issued() == 5, || format!("{} issued\n{}", stand.issued(), second.output()))?;

    // Another profile, another number.
    let names = label("c", 3);
    stand.site.deploy("/c", &names.join(" "));
    let mut third = stand.start("third", &["--san", "--profile=short"])?;
    wait_for(&third, &names, 2)?;
    wait_until("both in state.json", || {
        (learned("") == Some(3) && learned("short") == Some(2)).then_some(())
    })?;
    stop(&mut third)
}
